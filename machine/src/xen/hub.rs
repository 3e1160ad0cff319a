//! What guests share: event channels, grants, and each other's memory as far as it is granted.

use arch::{GuestPhys, GuestRam, SharedPage};
use pvdrivers::DomId;
use pvdrivers::event::EventChannels;
use pvdrivers::grant::{Frames, GrantTables};
use pvdrivers::sorted::SortedMap;
use spin::Mutex;

/// The shared state. Locks are taken one at a time, each for one operation, and never across a call to a
/// [`Host`](crate::Host); `memories` may be taken under `grants`.
#[derive(Default)]
pub struct Hub {
    /// Event channels of all domains.
    pub events: Mutex<EventChannels>,
    /// Grant tables of all domains.
    pub grants: Mutex<GrantTables>,
    /// RAM of all domains.
    pub memories: Memories,
}

impl Hub {
    /// Without guests.
    #[must_use]
    pub fn new() -> Hub {
        Hub::default()
    }
}

/// The RAM of all domains, for who works on granted pages.
#[derive(Default)]
pub struct Memories(Mutex<SortedMap<DomId, GuestRam>>);

impl Memories {
    /// Notes where a domain's RAM is.
    pub(crate) fn insert(&self, dom: DomId, ram: GuestRam) {
        self.0.lock().insert(dom, ram);
    }
}

impl Frames for Memories {
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage> {
        let at = GuestPhys(frame.checked_mul(4096)?);
        self.0.lock().get(&dom)?.page(at)
    }
}
