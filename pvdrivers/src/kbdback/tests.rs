//! What a guest reads in its page.

use super::*;
use crate::ring::events::EventFront;
use crate::seam::{GrantAccess, Pinned};
use alloc::boxed::Box;
use core::sync::atomic::AtomicU64;

const GUEST: DomId = DomId(3);

/// One page that is granted as 5 and lies at frame 7.
struct One {
    page: SharedPage,
    used: i32,
}

impl Grants for One {
    fn pin(
        &mut self,
        owner: DomId,
        reference: GrantRef,
        _user: DomId,
        access: GrantAccess,
    ) -> Result<Pinned, Errno> {
        if reference != GrantRef(5) {
            return Err(Errno::ENOENT);
        }
        self.used += 1;
        let frame = GuestPhys(7 << 12);
        Ok(Pinned { page: self.page, owner, frame, reference, access, bytes: (0, 4096) })
    }
    fn unpin(&mut self, _pinned: Pinned) {
        self.used -= 1;
    }
}

impl Frames for One {
    fn hold(&mut self, _owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno> {
        if frame.0 >> 12 != 7 {
            return Err(Errno::EFAULT);
        }
        self.used += 1;
        Ok(self.page)
    }
    fn let_go(&mut self, _owner: DomId, _frame: GuestPhys) {
        self.used -= 1;
    }
}

fn one() -> (One, One, EventFront) {
    let page = SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
    let front = EventFront::new(page, Plan::KEYBOARD);
    (One { page, used: 0 }, One { page, used: 0 }, front)
}

fn read(nodes: &[(&str, &str)]) -> Result<FrontEnd, Errno> {
    let nodes = Vec::from(nodes);
    let find = |path: &str| nodes.iter().find(|node| node.0 == path);
    FrontEnd::read(&mut |path| find(path).map(|node| String::from(node.1)))
}

const GRANTED: &[(&str, &str)] = &[
    ("page-gref", "5"),
    ("page-ref", "7"),
    ("event-channel", "4"),
    ("request-abs-pointer", "1"),
    ("request-multi-touch", "1"),
];

fn words(event: [u8; EVENT]) -> (u8, u8, u8, [i32; 3]) {
    let word = |n: usize| i32::from_le_bytes(*event[4 + n * 4..].first_chunk().unwrap());
    assert!(event[16..].iter().all(|byte| *byte == 0));
    (event[0], event[1], event[2], [word(0), word(1), word(2)])
}

#[test]
fn keys_positions_and_fingers_arrive_as_the_header_has_them() {
    let (mut grants, mut frames, mut front) = one();
    let wants = read(GRANTED).unwrap();
    assert_eq!(wants.place, Place::Grant(GrantRef(5)), "the grant comes first");
    let mut back =
        KbdBack::connect(&mut grants, &mut frames, GUEST, DomId::BACKEND, &wants).unwrap();
    back.set_size(1024, 768);
    let mut next = || words(front.take().unwrap().expect("an event"));
    assert!(back.key(30, true) && back.key(30, false));
    assert_eq!(next(), (event::KEY, 1, 0, [30, 0, 0]));
    assert_eq!(next(), (event::KEY, 0, 0, [30, 0, 0]));
    assert!(back.point(RAW_MAX, 0, -1) && back.point(u32::MAX, 0x4000, 0));
    assert_eq!(next(), (event::POS, 0, 0, [1023, 0, -1]));
    assert_eq!(next(), (event::POS, 0, 0, [1023, 383, 0]));
    assert!(back.touch(2, Touch::Down(10, 20)) && back.touch(2, Touch::Up));
    assert_eq!(next(), (event::MTOUCH, 0, 2, [0, 10, 20]));
    assert_eq!(next(), (event::MTOUCH, 1, 2, [0, 0, 0]));
    assert!(back.touch(0, Touch::Motion(1, 2)) && back.touch(0, Touch::Sync));
    assert_eq!(next(), (event::MTOUCH, 2, 0, [0, 1, 2]));
    assert_eq!(next(), (event::MTOUCH, 3, 0, [0, 0, 0]));
    back.disconnect(&mut grants, &mut frames);
    assert_eq!((grants.used, frames.used), (0, 0));
}

#[test]
fn a_front_end_that_asked_for_nothing_gets_motions_and_no_fingers() {
    let (mut grants, mut frames, mut front) = one();
    let wants = read(&[("page-ref", "7"), ("event-channel", "4")]).unwrap();
    let mut back =
        KbdBack::connect(&mut grants, &mut frames, GUEST, DomId::BACKEND, &wants).unwrap();
    assert_eq!((grants.used, frames.used), (0, 1));
    back.set_size(1001, 1001);
    assert!(back.point(RAW_MAX / 2, RAW_MAX, 0) && back.point(0, RAW_MAX, 3));
    assert!(!back.touch(0, Touch::Sync));
    let mut next = || words(front.take().unwrap().expect("an event"));
    assert_eq!(next(), (event::MOTION, 0, 0, [0, 0, 0]), "where it starts is no motion");
    assert_eq!(next(), (event::MOTION, 0, 0, [-499, 0, 3]));
    back.disconnect(&mut grants, &mut frames);
    assert_eq!(frames.used, 0);
}

#[test]
fn a_page_that_nobody_reads_takes_51_events_and_the_rest_is_counted() {
    let (mut grants, mut frames, mut front) = one();
    let wants = read(GRANTED).unwrap();
    let mut back =
        KbdBack::connect(&mut grants, &mut frames, GUEST, DomId::BACKEND, &wants).unwrap();
    let sent = (0..60).filter(|n| back.key(*n, true)).count();
    assert_eq!((sent, back.lost()), (51, 9));
    assert_eq!(words(front.take().unwrap().unwrap()).3[0], 0, "the oldest is still there");
    assert!(back.key(99, true));
    for _ in 0..25 {
        front.put(&[1; EVENT]).unwrap();
    }
    back.serve();
    assert_eq!(front.put(&[1; EVENT]), Ok(()), "what a front end sends is forgotten");
}

#[test]
fn what_cannot_be_connected_to_is_refused() {
    assert_eq!(read(&[("event-channel", "4")]), Err(Errno::ENOENT));
    assert_eq!(read(&[("page-gref", "5")]), Err(Errno::ENOENT));
    assert_eq!(read(&[("page-gref", "-5"), ("event-channel", "4")]), Err(Errno::EINVAL));
    assert_eq!(read(&[("page-ref", "5"), ("event-channel", "0")]), Err(Errno::EINVAL));
    let (mut grants, mut frames, _) = one();
    for nodes in
        [[("page-gref", "6"), ("event-channel", "4")], [("page-ref", "8"), ("event-channel", "4")]]
    {
        let wants = read(&nodes).unwrap();
        let end = KbdBack::connect(&mut grants, &mut frames, GUEST, DomId::BACKEND, &wants);
        assert!(end.is_err());
    }
    assert_eq!((grants.used, frames.used), (0, 0));
}

#[test]
fn positions_are_offered_and_fingers_only_where_there_are_some() {
    let keys = |touch| nodes(1024, 768, touch).into_iter().map(|node| node.0).collect::<Vec<_>>();
    assert_eq!(keys(false), ["feature-abs-pointer", "feature-raw-pointer", "width", "height"]);
    assert!(keys(true).contains(&"feature-multi-touch"));
}
