//! The back end of keyboard and pointer: events into a guest's page. Xen public "io/kbdif.h".
//!
//! A front end asks for absolute positions or gets motions. Its page is granted, or named by number
//! by old ones. Events that find no room are lost, as on a keyboard that nobody reads.

pub mod keys;

use crate::blkback::{Node, number};
use crate::errno::Errno;
use crate::fbback::{Frames, frame_address};
use crate::ring::PinnedPages;
use crate::ring::events::{EVENT, EventBack, Plan};
use crate::seam::{DomId, GrantRef, Grants, Port};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::{GuestPhys, SharedPage};

/// Event types (`XENKBD_TYPE_*`).
pub mod event {
    /// A pointer moved by so much.
    pub const MOTION: u8 = 1;
    /// A key or button.
    pub const KEY: u8 = 3;
    /// A pointer is at.
    pub const POS: u8 = 4;
    /// A finger.
    pub const MTOUCH: u8 = 5;
}

/// What a finger does (`XENKBD_MT_EV_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Touches at a position.
    Down(i32, i32),
    /// Leaves.
    Up,
    /// Moves to a position.
    Motion(i32, i32),
    /// The events so far belong together.
    Sync,
}

/// Where a front end's page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Granted (`page-gref`).
    Grant(GrantRef),
    /// A frame of the guest (`page-ref`).
    Frame(GuestPhys),
}

/// What a front end wrote to XenStore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// Its page.
    pub place: Place,
    /// Its port.
    pub port: Port,
    /// It wants positions (`request-abs-pointer`).
    pub absolute: bool,
    /// Positions from 0 to 7FFFh instead of pixels (`request-raw-pointer`).
    pub raw: bool,
    /// It wants fingers (`request-multi-touch`).
    pub touch: bool,
}

impl FrontEnd {
    /// Reads the front end's directory: `read` gives the value of a path below it.
    ///
    /// # Errors
    /// `ENOENT` where a needed node is missing, `EINVAL` where a value is out of range or no
    /// number.
    pub fn read(read: &mut impl FnMut(&str) -> Option<String>) -> Result<FrontEnd, Errno> {
        let place = if let Some(text) = read("page-gref") {
            Place::Grant(GrantRef(number(&text).ok_or(Errno::EINVAL)?))
        } else {
            let frame = read("page-ref").ok_or(Errno::ENOENT)?;
            let frame = number(&frame).and_then(frame_address);
            Place::Frame(frame.ok_or(Errno::EINVAL)?)
        };
        let port = read("event-channel").ok_or(Errno::ENOENT)?;
        let port = number(&port).filter(|port| *port > 0).map(Port).ok_or(Errno::EINVAL)?;
        let mut asked = |path| read(path).and_then(|text| number::<u32>(&text)) == Some(1);
        let absolute = asked("request-abs-pointer");
        let raw = absolute && asked("request-raw-pointer");
        let touch = asked("request-multi-touch");
        Ok(FrontEnd { place, port, absolute, raw, touch })
    }
}

/// What a back end writes before state 2: the screen's size in pixels, and whether fingers may
/// come.
#[must_use]
pub fn nodes(width: u32, height: u32, touch: bool) -> Vec<Node> {
    let mut nodes = Vec::from([
        ("feature-abs-pointer", String::from("1")),
        ("feature-raw-pointer", String::from("1")),
        ("width", width.to_string()),
        ("height", height.to_string()),
    ]);
    if touch {
        nodes.push(("feature-multi-touch", String::from("1")));
        nodes.push(("multi-touch-num-contacts", String::from("10")));
        nodes.push(("multi-touch-width", width.to_string()));
        nodes.push(("multi-touch-height", height.to_string()));
    }
    nodes
}

/// Largest position of a raw pointer, and of [`KbdBack::point`].
pub const RAW_MAX: u32 = 0x7fff;

/// A keyboard and pointer with a front end.
#[derive(Debug)]
pub struct KbdBack {
    owner: DomId,
    events: EventBack,
    pinned: PinnedPages,
    held: Option<GuestPhys>,
    absolute: bool,
    raw: bool,
    touch: bool,
    /// The screen in pixels, for positions.
    size: (u32, u32),
    /// Where the pointer was, for front ends that want motions.
    last: Option<(u32, u32)>,
    lost: u64,
}

impl KbdBack {
    /// Connects to a front end.
    ///
    /// # Errors
    /// Why its page cannot be used.
    pub fn connect(
        grants: &mut impl Grants,
        frames: &mut impl Frames,
        owner: DomId,
        user: DomId,
        front: &FrontEnd,
    ) -> Result<KbdBack, Errno> {
        let mut pinned = PinnedPages::default();
        let mut held = None;
        let page: SharedPage = match front.place {
            Place::Grant(reference) => {
                pinned = PinnedPages::pin(grants, owner, user, &[reference])?;
                pinned.first().ok_or(Errno::EINVAL)?
            }
            Place::Frame(frame) => {
                held = Some(frame);
                frames.hold(owner, frame)?
            }
        };
        Ok(KbdBack {
            owner,
            events: EventBack::new(page, Plan::KEYBOARD),
            pinned,
            held,
            absolute: front.absolute,
            raw: front.raw,
            touch: front.touch,
            size: (800, 600),
            last: None,
            lost: 0,
        })
    }

    /// Gives the page back.
    pub fn disconnect(mut self, grants: &mut impl Grants, frames: &mut impl Frames) {
        self.pinned.release(grants);
        if let Some(frame) = self.held.take() {
            frames.let_go(self.owner, frame);
        }
    }

    /// The screen that positions are on, in pixels.
    pub fn set_size(&mut self, width: u32, height: u32) {
        self.size = (width.max(1), height.max(1));
    }

    /// Events that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Forgets what the front end sent: no event of its is defined.
    pub fn serve(&mut self) {
        for _ in 0..64 {
            if !matches!(self.events.take(), Ok(Some(_))) {
                return;
            }
        }
    }

    /// A key or button (`KEY_*`, `BTN_*`) was pressed or released. Whether the port must be
    /// notified.
    pub fn key(&mut self, code: u32, pressed: bool) -> bool {
        self.send(event::KEY, [pressed.into(), 0], [code, 0, 0])
    }

    /// The pointer moved by so many pixels; `wheel` is positive towards the user, as on a
    /// PS/2 mouse. As
    /// [`key`](Self::key).
    pub fn motion(&mut self, x: i32, y: i32, wheel: i32) -> bool {
        self.send(event::MOTION, [0, 0], [x as u32, y as u32, wheel as u32])
    }

    /// The pointer is at `x` and `y`, from 0 to [`RAW_MAX`] over the whole screen. A front end that
    /// did not ask for positions is told the motion since the last one. As [`key`](Self::key).
    pub fn point(&mut self, x: u32, y: u32, wheel: i32) -> bool {
        let (x, y) = (x.min(RAW_MAX), y.min(RAW_MAX));
        let scale =
            |at: u32, side: u32| (u64::from(at) * u64::from(side - 1) / u64::from(RAW_MAX)) as u32;
        let pixels = (scale(x, self.size.0), scale(y, self.size.1));
        let last = self.last.replace(pixels).unwrap_or(pixels);
        if !self.absolute {
            let by = |now: u32, then: u32| now.wrapping_sub(then) as i32;
            return self.motion(by(pixels.0, last.0), by(pixels.1, last.1), wheel);
        }
        let (x, y) = if self.raw { (x, y) } else { pixels };
        self.send(event::POS, [0, 0], [x, y, wheel as u32])
    }

    /// A finger (0 to 9), in pixels. `false` also where the front end wants none. As
    /// [`key`](Self::key).
    pub fn touch(&mut self, contact: u8, what: Touch) -> bool {
        let (kind, x, y) = match what {
            Touch::Down(x, y) => (0, x, y),
            Touch::Up => (1, 0, 0),
            Touch::Motion(x, y) => (2, x, y),
            Touch::Sync => (3, 0, 0),
        };
        self.touch && self.send(event::MTOUCH, [kind, contact], [0, x as u32, y as u32])
    }

    /// An event: its type, the two bytes behind it, and the words from offset 4.
    fn send(&mut self, kind: u8, bytes: [u8; 2], words: [u32; 3]) -> bool {
        let mut event = [0; EVENT];
        event[0] = kind;
        event[1..3].copy_from_slice(&bytes);
        for (n, word) in words.iter().enumerate() {
            event[4 + n * 4..8 + n * 4].copy_from_slice(&word.to_le_bytes());
        }
        let sent = self.events.put(&event).is_ok();
        self.lost += u64::from(!sent);
        sent
    }
}

#[cfg(test)]
mod tests;
