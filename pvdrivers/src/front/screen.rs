//! The front ends of a frame buffer and of its keyboard and pointer. Xen public "io/fbif.h",
//! "io/kbdif.h".
//!
//! A kernel gives pages and their frame numbers; it draws in its own memory and tells what it drew.

use crate::blkback::abi::Layout;
use crate::fbback::abi::{Area, DIRECTORIES, FbEvent, Shape, directory, write_page};
use crate::kbdback::event;
use crate::ring::RingError;
use crate::ring::events::{EVENT, EventFront, Plan};
use arch::SharedPage;

/// A frame buffer, from the guest's side.
#[derive(Clone, Copy, Debug)]
pub struct FbFront {
    events: EventFront,
}

impl FbFront {
    /// Describes a buffer in a page of zeros. `buffer` are its frames' numbers, in order;
    /// `directories` pages and their numbers, each for 512 of them (1,024 with 4-byte numbers).
    /// `None` where those do not suffice.
    #[must_use]
    pub fn new(
        page: SharedPage,
        layout: Layout,
        shape: &Shape,
        directories: &[(SharedPage, u64)],
        buffer: &[u64],
    ) -> Option<FbFront> {
        let word = if layout == Layout::X86_64 { 8 } else { 4 };
        let lists = buffer.chunks(4096 / word);
        if lists.len() > directories.len().min(DIRECTORIES) {
            return None;
        }
        for (index, (list, (page_of_list, frame))) in lists.zip(directories).enumerate() {
            for (n, number) in list.iter().enumerate() {
                page_of_list.write(n * word, word as u8, *number).ok()?;
            }
            page.write(directory(index, word), word as u8, *frame).ok()?;
        }
        write_page(&page, shape, u32::try_from(buffer.len() * 4096).ok()?);
        Some(FbFront { events: EventFront::new(page, Plan::FRAME_BUFFER) })
    }

    /// Tells that pixels changed; then notify the port.
    ///
    /// # Errors
    /// [`RingError::Full`] where the back end is behind: tell more at once later.
    pub fn update(&mut self, area: &Area) -> Result<(), RingError> {
        let Area { x, y, width, height } = *area;
        let fields = [x, y, width, height].map(|field| i32::try_from(field).unwrap_or(i32::MAX));
        self.events.put(&FbEvent::Update(fields).encode())
    }

    /// Tells of another shape of the picture in the same buffer; then notify the port.
    ///
    /// # Errors
    /// [`RingError::Full`] where the back end is behind.
    pub fn resize(&mut self, shape: &Shape) -> Result<(), RingError> {
        self.events.put(&FbEvent::Resize(*shape).encode())
    }
}

/// What came from keyboard or pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A key or button (`KEY_*`, `BTN_*`).
    Key {
        /// Which.
        code: u32,
        /// Down, not up.
        pressed: bool,
    },
    /// The pointer moved by x, y, and the wheel.
    Motion([i32; 3]),
    /// The pointer is at x, y; the wheel moved.
    Position([i32; 3]),
    /// A finger: what it does, which it is, and where.
    Touch {
        /// `XENKBD_MT_EV_*`.
        kind: u8,
        /// Its number.
        contact: u8,
        /// Column and row.
        at: [i32; 2],
    },
    /// An event that this front end does not know.
    Other(u8),
}

/// A keyboard and pointer, from the guest's side.
#[derive(Clone, Copy, Debug)]
pub struct KbdFront {
    events: EventFront,
}

impl KbdFront {
    /// In a page of zeros.
    #[must_use]
    pub fn new(page: SharedPage) -> KbdFront {
        KbdFront { events: EventFront::new(page, Plan::KEYBOARD) }
    }

    /// The next event. `None`: there is none now.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where the back end's index made no sense.
    pub fn event(&mut self) -> Result<Option<InputEvent>, RingError> {
        Ok(self.events.take()?.map(|bytes| decode(&bytes)))
    }
}

fn decode(bytes: &[u8; EVENT]) -> InputEvent {
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |word| i32::from_le_bytes(*word))
    };
    match bytes[0] {
        event::KEY => InputEvent::Key { code: word(4) as u32, pressed: bytes[1] != 0 },
        event::MOTION => InputEvent::Motion([word(4), word(8), word(12)]),
        event::POS => InputEvent::Position([word(4), word(8), word(12)]),
        event::MTOUCH => {
            InputEvent::Touch { kind: bytes[1], contact: bytes[2], at: [word(8), word(12)] }
        }
        kind => InputEvent::Other(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use crate::fbback::{self, FbBack, Frames};
    use crate::kbdback::{self, KbdBack, Place, Touch};
    use crate::seam::{DomId, GrantAccess, GrantRef, Grants, Pinned, Port};
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use arch::GuestPhys;
    use core::sync::atomic::AtomicU64;

    /// RAM by frame; nothing is granted.
    struct Ram(Vec<SharedPage>);

    impl Ram {
        fn new(pages: usize) -> Ram {
            let page = || SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
            Ram((0..pages).map(|_| page()).collect())
        }
    }

    impl Frames for Ram {
        fn hold(&mut self, _owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno> {
            self.0.get((frame.0 >> 12) as usize).copied().ok_or(Errno::EFAULT)
        }
        fn let_go(&mut self, _owner: DomId, _frame: GuestPhys) {}
    }

    struct Nothing;

    impl Grants for Nothing {
        fn pin(
            &mut self,
            _owner: DomId,
            _reference: GrantRef,
            _user: DomId,
            _access: GrantAccess,
        ) -> Result<Pinned, Errno> {
            Err(Errno::ENOENT)
        }
        fn unpin(&mut self, _pinned: Pinned) {}
    }

    #[test]
    fn what_a_guest_draws_is_seen_on_the_screen() {
        for layout in [Layout::X86_64, Layout::X86_32] {
            // More pages than one directory of 8-byte numbers holds.
            let mut ram = Ram::new(3 + 600);
            let buffer: Vec<u64> = (3..603).rev().collect();
            let lists = [(ram.0[1], 1), (ram.0[2], 2)];
            let shape = Shape { width: 1024, height: 600, stride: 4096, depth: 32, offset: 0 };
            let mut front = FbFront::new(ram.0[0], layout, &shape, &lists, &buffer).unwrap();
            let page = GuestPhys(0);
            let wants = fbback::FrontEnd { page, port: Port(1), layout, updates: true };
            let mut back = FbBack::connect(&mut ram, DomId(1), &wants).unwrap();
            let _ = back.take_dirty();
            // Row n is page n, which is frame 602 - n.
            ram.0[602 - 599].write(4 * 1000, 4, 0x12_3456).unwrap();
            let area = Area { x: 1000, y: 599, width: 1, height: 1 };
            front.update(&area).unwrap();
            assert!(!back.serve(10));
            assert_eq!(back.take_dirty(), area);
            let mut row = [0; 1024];
            assert_eq!(back.row(599, &mut row), 1024);
            assert_eq!(row[1000], 0x12_3456);
            let small = Shape { width: 800, ..shape };
            front.resize(&small).unwrap();
            assert!(!back.serve(10));
            assert_eq!(back.shape(), small);
            assert!((0..51).all(|_| front.update(&area).is_ok()));
            assert_eq!(front.update(&area), Err(RingError::Full));
            assert!(FbFront::new(ram.0[0], Layout::X86_64, &shape, &lists[..1], &buffer).is_none());
        }
    }

    #[test]
    fn what_a_person_does_is_told_to_the_guest() {
        let mut ram = Ram::new(1);
        let wants = kbdback::FrontEnd {
            place: Place::Frame(GuestPhys(0)),
            port: Port(1),
            absolute: true,
            raw: true,
            touch: true,
        };
        let mut front = KbdFront::new(ram.0[0]);
        let back = KbdBack::connect(&mut Nothing, &mut ram, DomId(1), DomId::BACKEND, &wants);
        let mut back = back.unwrap();
        assert!(back.key(30, true) && back.motion(-1, 2, 0) && back.point(5, 6, -1));
        assert!(back.touch(3, Touch::Down(7, 8)));
        for expected in [
            InputEvent::Key { code: 30, pressed: true },
            InputEvent::Motion([-1, 2, 0]),
            InputEvent::Position([5, 6, -1]),
            InputEvent::Touch { kind: 0, contact: 3, at: [7, 8] },
        ] {
            assert_eq!(front.event(), Ok(Some(expected)));
        }
        assert_eq!(front.event(), Ok(None));
        assert_eq!(decode(&[77; EVENT]), InputEvent::Other(77));
    }
}
