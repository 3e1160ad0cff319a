//! The states of a device's two ends (Xen public "io/xenbus.h"), and what a back end does when its front
//! end shows one. A front end that begins again without having closed has crashed, or its kernel was
//! started anew: the back end lets go of the old rings and offers itself again.

/// `enum xenbus_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum XenbusState {
    /// No state, or no known one.
    Unknown = 0,
    /// Not ready.
    Initialising = 1,
    /// The back end waits for the front end's details.
    InitWait = 2,
    /// The front end has given its details.
    Initialised = 3,
    /// In use.
    Connected = 4,
    /// About to stop.
    Closing = 5,
    /// Stopped.
    Closed = 6,
    /// Changing devices while in use (PCI).
    Reconfiguring = 7,
    /// Changed.
    Reconfigured = 8,
}

impl XenbusState {
    /// All, in order of their numbers.
    pub const ALL: [XenbusState; 9] = [
        XenbusState::Unknown,
        XenbusState::Initialising,
        XenbusState::InitWait,
        XenbusState::Initialised,
        XenbusState::Connected,
        XenbusState::Closing,
        XenbusState::Closed,
        XenbusState::Reconfiguring,
        XenbusState::Reconfigured,
    ];

    /// From the text of a `state` node; a missing node, and what is no state, is
    /// [`Unknown`](XenbusState::Unknown).
    #[must_use]
    pub fn from_text(text: Option<&str>) -> XenbusState {
        let number = text.and_then(|text| text.trim_end_matches('\0').parse::<usize>().ok());
        number
            .and_then(|number| XenbusState::ALL.get(number))
            .copied()
            .unwrap_or(XenbusState::Unknown)
    }

    /// The number in a `state` node.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// What a back end does next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// Let go of rings, if any, and offer itself: to [`InitWait`](XenbusState::InitWait).
    Offer,
    /// Take the front end's rings: to [`Connected`](XenbusState::Connected).
    Connect,
    /// Let go of rings: to [`Closing`](XenbusState::Closing).
    Closing,
    /// Let go of rings: to [`Closed`](XenbusState::Closed); gone for good if not online.
    Closed,
}

/// What a back end in state `back` does when its front end shows `front`. `online`: the device stays when the
/// front end closes it.
pub fn step(back: XenbusState, front: XenbusState, online: bool) -> Step {
    use XenbusState as State;
    match (front, back) {
        (State::Unknown | State::Closed, State::Closed) if online => Step::Stay,
        (State::Unknown | State::Closed, _) => Step::Closed,
        (State::Initialising, State::InitWait | State::Initialised) => Step::Stay,
        (State::Initialising, _) if online => Step::Offer,
        (State::Initialising, _) => Step::Closed,
        (State::Initialised | State::Connected, State::InitWait | State::Initialised) => {
            Step::Connect
        }
        (State::Closing, State::Closing | State::Closed) => Step::Stay,
        (State::Closing, _) => Step::Closing,
        (
            State::InitWait
            | State::Initialised
            | State::Connected
            | State::Reconfiguring
            | State::Reconfigured,
            _,
        ) => Step::Stay,
    }
}
