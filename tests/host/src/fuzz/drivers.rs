//! Back ends under front ends that keep to no rule: any bytes in the shared pages, any indices,
//! grants that end, disks that answer late or not at all. At the end nothing may still be pinned.

use super::{Input, Target};
use crate::peers::{FakeDisk, FakeGrants, Pace, page};
use arch::{GuestPhys, SharedPage};
use pvdrivers::blkback::abi::{Body, Layout, Request, Segment, op};
use pvdrivers::blkback::{BlkBack, BlkConfig, DiskError, FrontEnd, FrontQueue, Media, Token};
use pvdrivers::conback::{ConBack, abi as console};
use pvdrivers::fbback::{self, FbBack, Frames, abi as picture};
use pvdrivers::kbdback::{self, KbdBack, Place, Touch};
use pvdrivers::{DomId, Errno, GrantRef, Port};
use std::collections::HashMap;

/// Steps of one run.
const STEPS: u32 = 4096;
/// Sectors of the disk.
const SECTORS: u64 = 64;
const GUEST: DomId = DomId(5);

/// All back ends.
pub const DRIVERS: &[Target] = &[
    ("blkback", blkback),
    ("blkback_nodes", blkback_nodes),
    ("conback", conback),
    ("fbback", fbback),
    ("kbdback", kbdback),
    ("netback", super::netback::netback),
];

struct Guest {
    grants: FakeGrants,
    rings: Vec<SharedPage>,
    references: Vec<GrantRef>,
    pages: Vec<SharedPage>,
    granted: Vec<GrantRef>,
    layout: Layout,
    next: u32,
}

impl Guest {
    fn new(input: &mut Input<'_>) -> Guest {
        let mut grants = FakeGrants::new();
        let rings: Vec<_> = (0..input.pick(&[1, 1, 2, 4])).map(|_| page()).collect();
        let references = rings.iter().map(|page| grants.grant(GUEST, *page, false)).collect();
        let pages: Vec<_> = (0..6).map(|_| page()).collect();
        let granted = pages.iter().enumerate().map(|(n, page)| match n {
            0 => grants.grant(GUEST, *page, true),
            1 => grants.grant_part(GUEST, *page, false, (512, 2048)),
            _ => grants.grant(GUEST, *page, false),
        });
        let granted = granted.collect();
        let layout = input.pick(&[Layout::X86_64, Layout::X86_32]);
        Guest { grants, rings, references, pages, granted, layout, next: 0 }
    }

    fn front(&self, input: &mut Input<'_>) -> FrontEnd {
        let one = |reference: &GrantRef| FrontQueue { references: vec![*reference], port: Port(1) };
        let queues = if input.u8() & 1 == 0 {
            vec![FrontQueue { references: self.references.clone(), port: Port(1) }]
        } else {
            self.references.iter().map(one).collect()
        };
        FrontEnd { layout: self.layout, persistent: input.u8() & 1 == 0, queues }
    }

    fn reference(&self, input: &mut Input<'_>) -> GrantRef {
        match input.u8() {
            0..240 => input.pick(&self.granted),
            n => GrantRef(u32::from(n) - 240),
        }
    }

    fn request(&self, input: &mut Input<'_>) -> Request {
        let segment = |input: &mut Input<'_>| {
            let (first, last) = input.pick(&[(0, 7), (0, 7), (1, 3), (2, 2), (5, 4), (0, 8)]);
            Segment { reference: self.reference(input), first, last }
        };
        let operation = input.pick(&[
            op::READ,
            op::WRITE,
            op::WRITE_BARRIER,
            op::FLUSH_DISKCACHE,
            op::DISCARD,
            op::INDIRECT,
            9,
        ]);
        let body = match operation {
            op::DISCARD => Body::Discard { flag: input.u8(), sectors: input.u8().into() },
            op::INDIRECT => {
                let pages = core::array::from_fn(|_| self.reference(input));
                Body::Indirect { operation: input.u8() & 3, count: input.u16() & 0x1ff, pages }
            }
            _ => {
                let segments = core::array::from_fn(|_| segment(input));
                Body::Plain { count: input.u8() & 15, segments }
            }
        };
        Request { operation, id: input.u8().into(), sector: u64::from(input.u8()) & 0x7f, body }
    }

    /// Puts a request where a well-behaved front end would, in a ring of one page.
    fn put(&mut self, input: &mut Input<'_>) {
        let bytes = self.request(input).encode(self.layout, 0);
        let ring = input.pick(&self.rings);
        let slot = 64 + (self.next & 31) as usize * self.layout.slot();
        self.next = self.next.wrapping_add(1);
        ring.write_slice(slot, &bytes[..self.layout.slot()]).unwrap();
        let produced = ring.read_u32(0).unwrap_or(0).wrapping_add(1);
        ring.write(0, 4, produced.into()).unwrap();
    }

    fn scribble(&self, input: &mut Input<'_>) {
        let page =
            if input.u8() & 3 == 0 { input.pick(&self.rings) } else { input.pick(&self.pages) };
        let bytes = input.take(16);
        let at = usize::from(input.u16()) % (4096 - bytes.len());
        page.write_slice(at, bytes).unwrap();
    }
}

/// Fuzzes the block back end.
pub fn blkback(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = Guest::new(&mut input);
    let room = usize::from(input.u8() & 15);
    let pace = if room == 0 { Pace::AtOnce } else { Pace::Later(room) };
    let mut disk = FakeDisk::new(SECTORS, pace);
    let config = BlkConfig {
        persistent: (input.u8() & 7).into(),
        discard_granularity: Some(512),
        ..BlkConfig::disk(51712)
    };
    let mut back = BlkBack::new(config, GUEST, DomId::BACKEND);
    back.set_media(Some(Media::disk(SECTORS)));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 24 {
            0..8 => guest.put(&mut input),
            8..12 => {
                if back.serve(input.u8().into(), &mut guest.grants, &mut disk).is_err() {
                    back.disconnect(&mut guest.grants);
                }
            }
            12..16 => {
                if let Some((token, result)) = disk.finish(input.u8().into()) {
                    let _ = back.complete(token, result, &mut guest.grants);
                }
            }
            16 => {
                let _ = back.complete(Token(input.u32()), Ok(()), &mut guest.grants);
            }
            17 => back.disconnect(&mut guest.grants),
            18 | 19 => {
                let front = guest.front(&mut input);
                let _ = back.connect(&mut guest.grants, &front);
            }
            20 => guest.scribble(&mut input),
            21 => {
                let reference = guest.reference(&mut input);
                let _ = guest.grants.end(GUEST, reference);
            }
            22 => {
                let sector_size = input.pick(&[512, 4096, 2048]);
                let read_only = input.u8() & 3 == 0;
                let sectors = SECTORS - u64::from(input.u8() & 15);
                let media =
                    Media { sectors, sector_size, physical_sector_size: sector_size, read_only };
                back.set_media((input.u8() & 7 != 0).then_some(media));
            }
            _ => disk.fail = input.pick(&[None, None, Some(DiskError::Failed)]),
        }
        assert!(back.in_flight() <= 1024);
        assert_eq!(back.pins(), guest.grants.pinned());
    }
    back.disconnect(&mut guest.grants);
    while let Some((token, result)) = disk.finish(0) {
        let served = back.complete(token, result, &mut guest.grants);
        assert_eq!(served.notify, 0, "the front end is gone");
    }
    assert_eq!((back.in_flight(), back.pins(), guest.grants.pinned()), (0, 0, 0));
}

/// Fuzzes what a block front end writes to XenStore.
pub fn blkback_nodes(data: &[u8]) {
    const KEYS: &[&str] = &[
        "protocol",
        "feature-persistent",
        "ring-page-order",
        "num-ring-pages",
        "multi-queue-num-queues",
        "ring-ref",
        "ring-ref0",
        "ring-ref1",
        "event-channel",
        "queue-0/ring-ref",
        "queue-0/event-channel",
        "queue-1/ring-ref",
        "queue-1/event-channel",
    ];
    let mut input = Input::new(data);
    let mut nodes = HashMap::new();
    for _ in 0..32 {
        let key = input.pick(KEYS);
        let value = match input.u8() {
            0..200 => (input.u8() & 7).to_string(),
            200..220 => input.pick(&["x86_64-abi", "x86_32-abi", ""]).to_string(),
            _ => String::from_utf8_lossy(input.take(12)).into_owned(),
        };
        nodes.insert(key, value);
    }
    let mut read = |path: &str| nodes.get(path).cloned();
    if let Ok(front) = FrontEnd::read(&mut read, Layout::X86_64, 4) {
        assert!((1..=4).contains(&front.queues.len()));
        let pages = front.queues[0].references.len();
        assert!(pages.is_power_of_two() && pages <= 16);
        assert!(front.queues.iter().all(|queue| queue.references.len() == pages));
    }
}

/// Fuzzes the console back end.
pub fn conback(data: &[u8]) {
    let mut input = Input::new(data);
    let page = page();
    let mut back = ConBack::primary(page);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 | 1 => {
                let budget = usize::from(input.u16()) % 3000;
                let mut bytes = 0;
                let moved = back.output(budget, &mut |run| bytes += run.len());
                assert!(moved.bytes == bytes && bytes <= budget.min(2048));
            }
            2 | 3 => {
                let bytes = input.take(40);
                assert!(back.input(bytes).bytes <= bytes.len());
            }
            4 | 5 => {
                let at = input.pick(&[
                    console::IN_CONS,
                    console::IN_PROD,
                    console::OUT_CONS,
                    console::OUT_PROD,
                ]);
                page.write(at, 4, input.u32().into()).unwrap();
            }
            _ => {
                let at = input.pick(&[console::IN_CONS, console::OUT_PROD]);
                let index = page.read_u32(at).unwrap().wrapping_add(input.u8().into());
                page.write(at, 4, index.into()).unwrap();
            }
        }
    }
}

/// A guest's frames, from 0, and how often each is held.
struct Ram(Vec<(SharedPage, u32)>);

impl Frames for Ram {
    fn hold(&mut self, _owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno> {
        let frame = self.0.get_mut((frame.0 >> 12) as usize).ok_or(Errno::EFAULT)?;
        frame.1 += 1;
        Ok(frame.0)
    }

    fn let_go(&mut self, _owner: DomId, frame: GuestPhys) {
        let held = &mut self.0[(frame.0 >> 12) as usize].1;
        *held = held.checked_sub(1).expect("given back more often than taken");
    }
}

/// Fuzzes the frame buffer's back end.
pub fn fbback(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ram = Ram((0..12).map(|_| (page(), 0)).collect());
    let layout = input.pick(&[Layout::X86_64, Layout::X86_32]);
    let shape = |input: &mut Input<'_>| picture::Shape {
        width: input.u8().into(),
        height: input.u8().into(),
        stride: u32::from(input.u16()) & 0x3ff,
        depth: input.pick(&[8, 16, 24, 32, 32, 15]),
        offset: input.pick(&[0, 0, 64, 4096, u32::MAX]),
    };
    let first = shape(&mut input);
    picture::write_page(&ram.0[1].0, &first, input.pick(&[4096, 32768, 65536, u32::MAX]));
    for n in 0..600 {
        ram.0[1].0.write(picture::directory(0, 8) + n * 8, 8, 2).unwrap_or(());
        let frame = if n < 16 { u64::from(input.u8()) % 13 } else { 3 };
        ram.0[2].0.write(n * 8, 8, frame).unwrap_or(());
    }
    let updates = input.u8() & 1 == 0;
    let front = fbback::FrontEnd { page: GuestPhys(0x1000), port: Port(1), layout, updates };
    if let Ok(mut back) = FbBack::connect(&mut ram, GUEST, &front) {
        let mut row = vec![0; 300];
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match input.u8() % 4 {
                0 => {
                    let event = if input.u8() & 1 == 0 {
                        picture::FbEvent::Resize(shape(&mut input))
                    } else {
                        picture::FbEvent::Update([0; 4].map(|_| input.u32() as i32))
                    };
                    let index = ram.0[1].0.read_u32(12).unwrap();
                    let at = 2048 + (index % 51) as usize * 40;
                    ram.0[1].0.write_slice(at, &event.encode()).unwrap();
                    ram.0[1].0.write(12, 4, index.wrapping_add(1).into()).unwrap();
                }
                1 => {
                    let bytes = input.take(8);
                    let at = usize::from(input.u16()) % (4096 - bytes.len());
                    ram.0[1].0.write_slice(at, bytes).unwrap();
                }
                2 => drop(back.serve(input.u8().into())),
                _ => {
                    let (dirty, now) = (back.take_dirty(), back.shape());
                    assert!(dirty.x + dirty.width <= now.width);
                    assert!(dirty.y + dirty.height <= now.height);
                    let shown = back.row(input.u8().into(), &mut row);
                    assert!(shown == 0 || shown == (now.width as usize).min(row.len()));
                }
            }
        }
        back.disconnect(&mut ram);
    }
    assert!(ram.0.iter().all(|frame| frame.1 == 0));
}

/// Fuzzes the back end of keyboard and pointer.
pub fn kbdback(data: &[u8]) {
    let mut input = Input::new(data);
    let mut ram = Ram(vec![(page(), 0)]);
    let mut grants = FakeGrants::new();
    let flags = input.u8();
    let front = kbdback::FrontEnd {
        place: Place::Frame(GuestPhys(0)),
        port: Port(1),
        absolute: flags & 1 == 0,
        raw: flags & 2 == 0,
        touch: flags & 4 == 0,
    };
    let back = KbdBack::connect(&mut grants, &mut ram, GUEST, DomId::BACKEND, &front);
    let mut back = back.expect("the page is there");
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 => drop(back.key(input.u32(), input.u8() & 1 == 0)),
            1 => drop(back.motion(input.u32() as i32, input.u32() as i32, input.u8().into())),
            2 => drop(back.point(input.u32(), input.u32(), input.u8().into())),
            3 => drop(back.touch(input.u8(), Touch::Down(input.u32() as i32, -1))),
            4 => back.set_size(input.u32(), input.u32()),
            5 => back.serve(),
            _ => {
                let at = input.pick(&[0, 4, 8, 12]);
                ram.0[0].0.write(at, 4, input.u32().into()).unwrap();
            }
        }
    }
    back.disconnect(&mut grants, &mut ram);
    assert_eq!(ram.0[0].1, 0);
}
