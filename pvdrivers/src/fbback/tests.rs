//! A front end's pages, and what a screen sees of them.

use super::*;
use crate::fbback::abi::{event, write_page};
use crate::ring::events::EventFront;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::sync::atomic::AtomicU64;

const GUEST: DomId = DomId(3);

/// A guest's RAM, and how often each frame is held.
#[derive(Default)]
struct Ram {
    pages: BTreeMap<u64, SharedPage>,
    held: BTreeMap<u64, u32>,
}

impl Ram {
    fn page(&mut self, frame: u64) -> SharedPage {
        let new = || SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
        *self.pages.entry(frame).or_insert_with(new)
    }

    fn held(&self) -> u32 {
        self.held.values().sum()
    }
}

impl Frames for Ram {
    fn hold(&mut self, owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno> {
        assert_eq!(owner, GUEST);
        let page = self.pages.get(&(frame.0 >> 12)).ok_or(Errno::EFAULT)?;
        *self.held.entry(frame.0 >> 12).or_default() += 1;
        Ok(*page)
    }
    fn let_go(&mut self, _owner: DomId, frame: GuestPhys) {
        let held = self.held.get_mut(&(frame.0 >> 12)).expect("held");
        *held = held.checked_sub(1).expect("held");
    }
}

const SHAPE: Shape = Shape { width: 64, height: 48, stride: 512, depth: 32, offset: 0 };
const BYTES: u32 = 64 << 10;

/// A guest with its device's page at frame 1, a directory at 2 and its buffer backwards from 100.
fn guest(layout: Layout, shape: &Shape, bytes: u32) -> (Ram, FrontEnd) {
    let mut ram = Ram::default();
    let word = if layout == Layout::X86_64 { 8 } else { 4 };
    let page = ram.page(1);
    write_page(&page, shape, bytes);
    page.write(directory(0, word), word as u8, 2).unwrap();
    let list = ram.page(2);
    for n in 0..bytes.div_ceil(4096) as u64 {
        list.write(n as usize * word, word as u8, 100 - n).unwrap();
        ram.page(100 - n);
    }
    (ram, FrontEnd { page: GuestPhys(1 << 12), port: Port(1), layout, updates: true })
}

#[test]
fn rows_come_out_of_pages_in_any_order_in_both_layouts() {
    for layout in [Layout::X86_64, Layout::X86_32] {
        let (mut ram, front) = guest(layout, &SHAPE, BYTES);
        let back = FbBack::connect(&mut ram, GUEST, &front).unwrap();
        // Row 9 begins 512 bytes into the second page.
        ram.page(99).write(512 + 63 * 4, 4, 0xff11_2233).unwrap();
        let mut row = [0; 100];
        assert_eq!(back.row(9, &mut row), 64);
        assert_eq!((row[62], row[63], row[64]), (0, 0x11_2233, 0));
        assert_eq!(back.row(48, &mut row), 0);
        assert_eq!(back.row(u32::MAX, &mut row), 0);
        assert_eq!(ram.held(), 1 + 16, "the directory is not held");
        back.disconnect(&mut ram);
        assert_eq!(ram.held(), 0);
    }
}

#[test]
fn every_depth_becomes_red_green_and_blue() {
    for (depth, bytes, expected) in [
        (8, &[0xe3][..], 0xff_00ff),
        (16, &[0xe0, 0x07][..], 0x00_ff00),
        (24, &[0x11, 0x22, 0x33][..], 0x33_2211),
        (32, &[0x11, 0x22, 0x33, 0xff][..], 0x33_2211),
    ] {
        let shape = Shape { depth, ..SHAPE };
        let (mut ram, front) = guest(Layout::X86_64, &shape, BYTES);
        ram.page(100).write_slice(bytes.len() * 63, bytes).unwrap();
        let back = FbBack::connect(&mut ram, GUEST, &front).unwrap();
        let mut row = [0; 64];
        assert_eq!(back.row(0, &mut row), 64);
        assert_eq!((row[62], row[63]), (0, expected), "depth {depth}");
    }
}

#[test]
fn updates_are_clipped_and_gathered_and_a_resize_is_checked() {
    let (mut ram, front) = guest(Layout::X86_64, &SHAPE, BYTES);
    let mut events = EventFront::new(ram.page(1), Plan::FRAME_BUFFER);
    let mut back = FbBack::connect(&mut ram, GUEST, &front).unwrap();
    let whole = Area { x: 0, y: 0, width: 64, height: 48 };
    assert!(back.take_reshaped() && !back.take_reshaped());
    assert_eq!(back.take_dirty(), whole, "all is new at first");
    assert_eq!(back.take_dirty(), Area::default());
    let mut tell = |back: &mut FbBack, event: FbEvent| {
        events.put(&event.encode()).unwrap();
        assert!(!back.serve(10));
    };
    tell(&mut back, FbEvent::Update([10, 10, 5, 5]));
    tell(&mut back, FbEvent::Update([-3, 12, 5, 5]));
    assert_eq!(back.take_dirty(), Area { x: 0, y: 10, width: 15, height: 7 });
    for nothing in [[64, 0, 5, 5], [0, 0, -5, 5], [i32::MIN, 0, i32::MAX, 9], [0, 48, 1, 1]] {
        tell(&mut back, FbEvent::Update(nothing));
        assert_eq!(back.take_dirty(), Area::default(), "{nothing:?}");
    }
    tell(&mut back, FbEvent::Update([i32::MAX, i32::MAX, i32::MAX, i32::MAX]));
    tell(&mut back, FbEvent::Update([60, 40, i32::MAX, i32::MAX]));
    assert_eq!(back.take_dirty(), Area { x: 60, y: 40, width: 4, height: 8 });
    let large = Shape { width: 128, height: 32, offset: 4096, ..SHAPE };
    tell(&mut back, FbEvent::Resize(large));
    assert!(back.shape() == large && back.take_reshaped());
    for bad in [
        Shape { height: 1000, ..SHAPE },
        Shape { width: 129, ..SHAPE },
        Shape { offset: BYTES, ..SHAPE },
        Shape { depth: 15, ..SHAPE },
        Shape { stride: u32::MAX, height: u32::MAX, ..SHAPE },
        Shape { width: 0, ..SHAPE },
    ] {
        tell(&mut back, FbEvent::Resize(bad));
        assert!(back.shape() == large && !back.take_reshaped(), "{bad:?}");
    }
    tell(&mut back, FbEvent::Other(event::REFRESH_PERIOD));
    assert_eq!(back.refused(), 7);
}

#[test]
fn a_buffer_that_cannot_be_is_refused_and_no_frame_stays_held() {
    let good = |shape: Shape, bytes: u32| {
        let (mut ram, front) = guest(Layout::X86_64, &shape, bytes.min(BYTES));
        write_page(&ram.page(1), &shape, bytes);
        let end = FbBack::connect(&mut ram, GUEST, &front).map(|_| ()).err();
        if end.is_some() {
            assert_eq!(ram.held(), 0);
        }
        end
    };
    assert_eq!(good(SHAPE, BYTES), None);
    for (shape, bytes) in [
        (SHAPE, 4096),
        (SHAPE, MAX_BYTES + 1),
        (SHAPE, 0),
        (Shape { depth: 0, ..SHAPE }, BYTES),
        (Shape { stride: 255, ..SHAPE }, BYTES),
        (Shape { width: 8193, ..SHAPE }, BYTES),
    ] {
        assert_eq!(good(shape, bytes), Some(Errno::EINVAL), "{shape:?} {bytes}");
    }
    // A page of the buffer, the directory, or the device's page that is not RAM.
    for missing in [90, 2, 1] {
        let (mut ram, front) = guest(Layout::X86_64, &SHAPE, BYTES);
        ram.pages.remove(&missing);
        assert_eq!(FbBack::connect(&mut ram, GUEST, &front).map(|_| ()), Err(Errno::EFAULT));
        assert_eq!(ram.held(), 0, "frame {missing}");
    }
    let (mut ram, front) = guest(Layout::X86_64, &SHAPE, BYTES);
    ram.page(2).write(8, 8, u64::MAX).unwrap();
    assert_eq!(FbBack::connect(&mut ram, GUEST, &front).map(|_| ()), Err(Errno::EINVAL));
    assert_eq!(ram.held(), 0, "a number beyond all addresses");
}

#[test]
fn a_front_end_that_tells_no_updates_and_one_whose_index_runs_away_are_shown_whole() {
    let (mut ram, mut front) = guest(Layout::X86_64, &SHAPE, BYTES);
    front.updates = false;
    let mut back = FbBack::connect(&mut ram, GUEST, &front).unwrap();
    assert_eq!((back.take_dirty().width, back.take_dirty().width), (64, 64));
    let (mut ram, front) = guest(Layout::X86_64, &SHAPE, BYTES);
    let mut back = FbBack::connect(&mut ram, GUEST, &front).unwrap();
    let _ = back.take_dirty();
    ram.page(1).write(12, 4, 1000).unwrap();
    assert!(!back.serve(10));
    assert_eq!((back.take_dirty().width, back.refused()), (64, 1));
}

#[test]
fn what_linux_writes_is_understood() {
    let read = |nodes: &[(&str, &str)]| {
        let nodes = Vec::from(nodes);
        let find = |path: &str| nodes.iter().find(|node| node.0 == path);
        FrontEnd::read(&mut |path| find(path).map(|node| String::from(node.1)), Layout::X86_64)
    };
    let nodes = [
        ("event-channel", "7"),
        ("feature-update", "1"),
        ("page-ref", "20249"),
        ("protocol", "x86_64-abi"),
    ];
    let page = GuestPhys(20249 << 12);
    let expected = FrontEnd { page, port: Port(7), layout: Layout::X86_64, updates: true };
    assert_eq!(read(&nodes), Ok(expected));
    assert_eq!(read(&nodes[..2]), Err(Errno::ENOENT));
    assert_eq!(read(&[("page-ref", "18446744073709551615")]), Err(Errno::EINVAL));
    assert_eq!(read(&[("page-ref", "1"), ("event-channel", "0")]), Err(Errno::EINVAL));
}
