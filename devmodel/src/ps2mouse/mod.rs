//! The PS/2 mouse with IntelliMouse's wheel (ID 3) and Explorer's five buttons (ID 4).
//!
//! Movement adds up here until the next report is due; what exceeds a report's nine bits waits for
//! the one after. Commands as in the IBM PS/2 Hardware Interface Technical Reference, "Mouse", and
//! Microsoft's "IntelliMouse PS/2 protocol" knocks.

use arch::Nanos;

use crate::ps2kbd::Queue;
use crate::state::{LoadError, require};

#[cfg(test)]
mod tests;

const ACK: u8 = 0xFA;
const RESEND: u8 = 0xFE;
/// Movement beyond this is lost, as with a mouse whose host does not listen.
const LIMIT: i32 = 4096;

/// The buttons that are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are where the buttons are")]
pub struct Buttons {
    pub left: bool,
    pub right: bool,
    pub middle: bool,
    /// Button 4, usually "back".
    pub side: bool,
    /// Button 5, usually "forward".
    pub extra: bool,
}

/// What the next byte from the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// A command.
    Command,
    /// The resolution (after E8h).
    Resolution,
    /// The sample rate (after F3h).
    SampleRate,
}

/// The mouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ps2Mouse {
    // Guest-visible
    /// 0, 3 with a wheel, 4 with wheel and five buttons.
    id: u8,
    remote: bool,
    wrap: bool,
    reporting: bool,
    scaling_2_1: bool,
    resolution: u8,
    sample_rate: u8,
    /// The last three sample rates, newest last: the knock.
    knock: [u8; 3],
    expects: Expects,
    /// Answers to commands go out before reports.
    answers: Queue<16>,
    report: Queue<4>,
    last_sent: u8,
    /// Movement not yet reported: right, down, towards the user.
    dx: i32,
    dy: i32,
    dz: i32,
    buttons: Buttons,
    /// Something has changed since the last report.
    changed: bool,
    next_sample: Nanos,
}

impl Default for Ps2Mouse {
    fn default() -> Self {
        Self::new()
    }
}

impl Ps2Mouse {
    /// The mouse after its self test: it reports nothing until told to.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            id: 0,
            remote: false,
            wrap: false,
            reporting: false,
            scaling_2_1: false,
            resolution: 2,
            sample_rate: 100,
            knock: [0; 3],
            expects: Expects::Command,
            answers: Queue::new(),
            report: Queue::new(),
            last_sent: 0,
            dx: 0,
            dy: 0,
            dz: 0,
            buttons: Buttons {
                left: false,
                right: false,
                middle: false,
                side: false,
                extra: false,
            },
            changed: false,
            next_sample: Nanos::ZERO,
        }
    }

    /// The mouse moved `dx` to the right and `dy` down; the wheel turned `dz` steps towards the user.
    pub fn motion(&mut self, dx: i32, dy: i32, dz: i32) {
        let add = |sum: &mut i32, by: i32| *sum = sum.saturating_add(by).clamp(-LIMIT, LIMIT);
        add(&mut self.dx, dx);
        add(&mut self.dy, dy);
        add(&mut self.dz, dz);
        self.changed |= dx != 0 || dy != 0 || dz != 0;
    }

    /// The buttons are now as `buttons` says.
    pub fn set_buttons(&mut self, buttons: Buttons) {
        self.changed |= self.buttons != buttons;
        self.buttons = buttons;
    }

    /// The guest has turned reports on: it has a driver.
    #[must_use]
    pub fn reporting(&self) -> bool {
        self.reporting
    }

    /// A byte from the host.
    pub fn write(&mut self, byte: u8) {
        // A host that speaks cuts off a report; its contents are told again.
        if !self.report.is_empty() {
            self.report.clear();
            self.changed = true;
        }
        if self.wrap && !matches!(byte, 0xEC | 0xFF) {
            return self.answers.push(byte);
        }
        match core::mem::replace(&mut self.expects, Expects::Command) {
            Expects::Command => self.command(byte),
            Expects::Resolution if byte < 4 => {
                self.resolution = byte;
                self.answers.push(ACK);
            }
            Expects::SampleRate if (1..=200).contains(&byte) => {
                self.set_sample_rate(byte);
                self.answers.push(ACK);
            }
            _ => self.answers.push(RESEND),
        }
    }

    /// The next byte for the controller, and whether it answers a command.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<(u8, bool)> {
        match self.answers.front() {
            Some(byte) => Some((byte, true)),
            None => self.report.front().map(|byte| (byte, false)),
        }
    }

    /// The controller takes the byte that [`Ps2Mouse::peek`] showed.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.answers.pop().or_else(|| self.report.pop())?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// When the next report will be made. None while the last one is unread.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let waits = self.changed
            && self.reporting
            && !self.remote
            && !self.wrap
            && self.report.is_empty()
            && self.answers.is_empty();
        waits.then_some(self.next_sample)
    }

    /// Lets time pass up to `now`: makes a report if one is due.
    #[inline]
    pub fn advance(&mut self, now: Nanos) {
        if self.due().is_some_and(|due| due <= now) {
            self.make_report(true);
            self.next_sample = now + 1_000_000_000 / u64::from(self.sample_rate.max(1));
        }
    }

    fn command(&mut self, command: u8) {
        match command {
            0xE6 => self.scaling_2_1 = false,
            0xE7 => self.scaling_2_1 = true,
            0xE8 => self.expects = Expects::Resolution,
            0xE9 => {
                for byte in [ACK, self.status(), self.resolution, self.sample_rate] {
                    self.answers.push(byte);
                }
                return;
            }
            0xEA => {
                self.remote = false;
                self.forget_motion();
            }
            0xEB => {
                self.answers.push(ACK);
                // Scaling is for stream mode only.
                self.make_report(false);
                while let Some(byte) = self.report.pop() {
                    self.answers.push(byte);
                }
                return;
            }
            0xEC => self.wrap = false,
            0xEE => self.wrap = true,
            0xF0 => {
                self.remote = true;
                self.forget_motion();
            }
            0xF2 => {
                self.answers.push(ACK);
                return self.answers.push(self.id);
            }
            0xF3 => self.expects = Expects::SampleRate,
            0xF4 => {
                self.reporting = true;
                self.forget_motion();
            }
            0xF5 => self.reporting = false,
            0xF6 => self.defaults(),
            0xFE => return self.answers.push(self.last_sent),
            0xFF => {
                self.defaults();
                self.answers.clear();
                self.id = 0;
                self.knock = [0; 3];
                self.wrap = false;
                for byte in [ACK, 0xAA, self.id] {
                    self.answers.push(byte);
                }
                return;
            }
            _ => return self.answers.push(RESEND),
        }
        self.answers.push(ACK);
    }

    fn defaults(&mut self) {
        self.remote = false;
        self.reporting = false;
        self.scaling_2_1 = false;
        self.resolution = 2;
        self.sample_rate = 100;
        self.forget_motion();
    }

    fn forget_motion(&mut self) {
        (self.dx, self.dy, self.dz) = (0, 0, 0);
        self.changed = false;
    }

    fn set_sample_rate(&mut self, rate: u8) {
        self.sample_rate = rate;
        self.knock = [self.knock[1], self.knock[2], rate];
        match self.knock {
            [200, 100, 80] => self.id = 3,
            [200, 200, 80] => self.id = 4,
            _ => {}
        }
    }

    /// The first byte of the status request's answer.
    fn status(&self) -> u8 {
        u8::from(self.buttons.right)
            | u8::from(self.buttons.middle) << 1
            | u8::from(self.buttons.left) << 2
            | u8::from(self.scaling_2_1) << 4
            | u8::from(self.reporting) << 5
            | u8::from(self.remote) << 6
    }

    /// Makes a report of what has added up; what does not fit stays.
    fn make_report(&mut self, scale: bool) {
        let scale = scale && self.scaling_2_1;
        let take = |sum: &mut i32, scale: bool| {
            let most = if scale { 127 } else { 255 };
            let step = (*sum).clamp(-most, most);
            *sum -= step;
            if scale { double(step) } else { step }
        };
        let x = take(&mut self.dx, scale);
        // The mouse counts upwards.
        let y = -take(&mut self.dy, scale);
        let z = self.dz.clamp(-8, 7);
        self.dz -= z;
        self.report.clear();
        self.report.push(
            u8::from(self.buttons.left)
                | u8::from(self.buttons.right) << 1
                | u8::from(self.buttons.middle) << 2
                | 0x08
                | u8::from(x < 0) << 4
                | u8::from(y < 0) << 5,
        );
        self.report.push(x as u8);
        self.report.push(y as u8);
        match self.id {
            3 => self.report.push(z as u8),
            4 => self.report.push(
                (z as u8 & 0x0F)
                    | u8::from(self.buttons.side) << 4
                    | u8::from(self.buttons.extra) << 5,
            ),
            _ => self.dz = 0,
        }
        self.changed = self.dx != 0 || self.dy != 0 || self.dz != 0;
    }

    /// The state, to be written down.
    #[must_use]
    pub fn save(&self) -> Ps2MouseState {
        let Self {
            id,
            remote,
            wrap,
            reporting,
            scaling_2_1,
            resolution,
            sample_rate,
            knock,
            expects,
            answers,
            report,
            last_sent,
            dx,
            dy,
            dz,
            buttons,
            changed,
            next_sample,
        } = self;
        Ps2MouseState {
            version: Ps2MouseState::VERSION,
            id: *id,
            remote: *remote,
            wrap: *wrap,
            reporting: *reporting,
            scaling_2_1: *scaling_2_1,
            resolution: *resolution,
            sample_rate: *sample_rate,
            knock: *knock,
            expects: *expects,
            answers: answers.contents(),
            report: report.contents(),
            last_sent: *last_sent,
            dx: *dx,
            dy: *dy,
            dz: *dz,
            buttons: *buttons,
            changed: *changed,
            next_sample: *next_sample,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or values that no mouse holds; nothing changes then.
    pub fn load(&mut self, state: &Ps2MouseState) -> Result<(), LoadError> {
        let Ps2MouseState {
            version,
            id,
            remote,
            wrap,
            reporting,
            scaling_2_1,
            resolution,
            sample_rate,
            knock,
            expects,
            answers,
            report,
            last_sent,
            dx,
            dy,
            dz,
            buttons,
            changed,
            next_sample,
        } = *state;
        if version != Ps2MouseState::VERSION {
            return Err(LoadError::Version);
        }
        require(matches!(id, 0 | 3 | 4), "id")?;
        require(resolution < 4, "resolution")?;
        require((1..=200).contains(&sample_rate), "sample_rate")?;
        let bounded = |sum: i32| (-LIMIT..=LIMIT).contains(&sum);
        require(bounded(dx) && bounded(dy) && bounded(dz), "motion")?;
        let answers = Queue::from_contents(answers).ok_or(LoadError::Impossible("answers"))?;
        let report = Queue::from_contents(report).ok_or(LoadError::Impossible("report"))?;
        *self = Self {
            id,
            remote,
            wrap,
            reporting,
            scaling_2_1,
            resolution,
            sample_rate,
            knock,
            expects,
            answers,
            report,
            last_sent,
            dx,
            dy,
            dz,
            buttons,
            changed,
            next_sample,
        };
        Ok(())
    }
}

/// 2:1 scaling (IBM PS/2 Hardware Interface Technical Reference, "Set Scaling 2:1").
fn double(step: i32) -> i32 {
    let size = match step.abs() {
        small @ (0 | 1) => small,
        2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        large => 2 * large,
    };
    size * step.signum()
}

/// A saved [`Ps2Mouse`]; queues are oldest first, with their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the mouse's own of the same name")]
pub struct Ps2MouseState {
    pub version: u16,
    pub id: u8,
    pub remote: bool,
    pub wrap: bool,
    pub reporting: bool,
    pub scaling_2_1: bool,
    pub resolution: u8,
    pub sample_rate: u8,
    pub knock: [u8; 3],
    pub expects: Expects,
    pub answers: ([u8; 16], u8),
    pub report: ([u8; 4], u8),
    pub last_sent: u8,
    pub dx: i32,
    pub dy: i32,
    pub dz: i32,
    pub buttons: Buttons,
    pub changed: bool,
    pub next_sample: Nanos,
}

impl Ps2MouseState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
