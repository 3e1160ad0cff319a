//! Both halves over one store that sees every single access, and over real threads.

use super::*;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use arch::SharedPage;
use core::cell::{Cell, RefCell};
use core::sync::atomic::AtomicU64;

fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])))
}

fn pages(count: usize) -> Pages {
    Pages::new((0..count).map(|_| page()).collect()).unwrap()
}

type Hook = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

/// Pages that run a hook before one access, chosen by number.
#[derive(Clone)]
struct Watched {
    pages: Pages,
    accesses: Rc<Cell<u32>>,
    stop_at: Rc<Cell<u32>>,
    hook: Hook,
}

impl Watched {
    fn new(pages: Pages, stop_at: u32) -> Watched {
        Watched {
            pages,
            accesses: Rc::default(),
            stop_at: Rc::new(Cell::new(stop_at)),
            hook: Rc::default(),
        }
    }

    fn step(&self) {
        let now = self.accesses.get();
        self.accesses.set(now + 1);
        if now == self.stop_at.get()
            && let Some(hook) = self.hook.take()
        {
            hook();
        }
    }
}

impl RingMemory for Watched {
    fn bytes(&self) -> usize {
        self.pages.bytes()
    }
    fn read_index(&self, at: usize) -> u32 {
        self.step();
        self.pages.read_index(at)
    }
    fn write_index(&self, at: usize, value: u32) {
        self.step();
        self.pages.write_index(at, value);
    }
    fn read(&self, at: usize, buffer: &mut [u8]) {
        self.step();
        self.pages.read(at, buffer);
    }
    fn write(&self, at: usize, bytes: &[u8]) {
        self.step();
        self.pages.write(at, bytes);
    }
}

/// A turn of a back end: answers everything, pushes, and rests only when there is no more.
fn back_turn<M: RingMemory>(back: &mut BackRing<M>, served: &mut Vec<u32>) -> bool {
    let mut notify = false;
    loop {
        let mut request = [0; 4];
        while back.take(&mut request).unwrap() {
            served.push(u32::from_le_bytes(request));
            back.put(&request).unwrap();
        }
        notify |= back.push();
        if !back.final_check().unwrap() {
            return notify;
        }
    }
}

fn front_turn<M: RingMemory>(front: &mut FrontRing<M>, answers: &mut Vec<u32>) {
    loop {
        let mut response = [0; 4];
        while front.take(&mut response).unwrap() {
            answers.push(u32::from_le_bytes(response));
        }
        if !front.final_check().unwrap() {
            return;
        }
    }
}

/// Starts near the end of the index space, so that every test wraps.
const START: u32 = u32::MAX - 2;

#[test]
fn as_many_slots_as_fit_rounded_down_to_a_power_of_two() {
    assert_eq!(entries(4096, 112), 32);
    assert_eq!(entries(4096, 108), 32);
    assert_eq!(entries(2 * 4096, 112), 64);
    assert_eq!(entries(16 * 4096, 112), 512);
    assert_eq!((entries(4096, 12), entries(4096, 8)), (256, 256));
    assert_eq!((entries(4096, 4032), entries(4096, 4033), entries(4096, 0)), (1, 0, 0));
    assert_eq!(BackRing::new(pages(1), 5000).unwrap_err(), RingError::Shape);
    assert_eq!(Pages::new(Vec::new()).unwrap_err(), RingError::Shape);
    assert_eq!(Pages::new((0..17).map(|_| page()).collect()).unwrap_err(), RingError::Shape);
}

#[test]
fn a_new_ring_asks_for_a_notice_of_the_first_request_and_response() {
    let memory = pages(1);
    memory.write(0, &[0xff; 64]);
    let mut front = FrontRing::new(memory.clone(), 16).unwrap();
    let all: Vec<u32> = (0..16).map(|n| memory.read_index(n * 4)).collect();
    assert_eq!(all[..4], [0, 1, 0, 1]);
    assert!(all[4..].iter().all(|word| *word == 0));
    let mut back = BackRing::new(memory, 16).unwrap();
    front.put(&[1]).unwrap();
    assert!(front.push(), "the back end asked for request 1");
    front.put(&[2]).unwrap();
    assert!(!front.push(), "it has not asked again");
    let mut served = Vec::new();
    assert!(back_turn(&mut back, &mut served), "the front end asked for response 1");
    assert_eq!(served.len(), 2);
    front.put(&[3]).unwrap();
    assert!(front.push(), "the back end rests and has asked again");
    assert!(!back_turn(&mut back, &mut served), "the front end has not taken any");
    assert!(!back.push() && !front.push(), "nothing new, nothing to tell");
}

#[test]
fn slots_straddle_pages_and_keep_their_bytes() {
    let memory = pages(2);
    let mut front = FrontRing::start(memory.clone(), 112, START).unwrap();
    let mut back = BackRing::attach(memory, 112, START).unwrap();
    assert_eq!(front.entries(), 64);
    for round in 0..4u8 {
        for n in 0..64u8 {
            front.put(&[n ^ round; 112]).unwrap();
        }
        assert_eq!(front.put(&[0; 112]), Err(RingError::Full));
        let _ = front.push();
        for n in 0..64u8 {
            let mut request = [0; 112];
            assert_eq!(back.take(&mut request), Ok(true));
            assert_eq!(request, [n ^ round; 112]);
        }
        for n in 0..64u8 {
            back.put(&[!n; 16]).unwrap();
        }
        assert_eq!(back.put(&[0; 16]), Err(RingError::Full));
        let _ = back.push();
        for n in 0..64u8 {
            let mut response = [0; 16];
            assert_eq!(front.take(&mut response), Ok(true));
            assert_eq!(response, [!n; 16]);
        }
    }
}

#[test]
fn a_request_that_arrives_at_any_moment_is_served_or_announced() {
    for ready in 0..3u32 {
        for stop_at in 0.. {
            let memory = pages(1);
            let mut front = FrontRing::start(memory.clone(), 4, START).unwrap();
            for n in 0..ready {
                front.put(&n.to_le_bytes()).unwrap();
            }
            let _ = front.push();
            let watched = Watched::new(memory, stop_at);
            let mut back = BackRing::attach(watched.clone(), 4, START).unwrap();
            let told = Rc::new(Cell::new(None));
            let tell = told.clone();
            *watched.hook.borrow_mut() = Some(Box::new(move || {
                front.put(&99u32.to_le_bytes()).unwrap();
                tell.set(Some(front.push()));
            }));
            let mut served = Vec::new();
            let _ = back_turn(&mut back, &mut served);
            let Some(notice) = told.get() else {
                assert!(stop_at > 3, "the walk reached every access");
                break;
            };
            assert!(notice || served.contains(&99), "lost at access {stop_at}, {ready} ready");
        }
    }
}

#[test]
fn a_response_that_arrives_at_any_moment_is_taken_or_announced() {
    for ready in 0..3u32 {
        for stop_at in 0.. {
            let memory = pages(1);
            let watched = Watched::new(memory.clone(), stop_at);
            let mut front = FrontRing::start(watched.clone(), 4, START).unwrap();
            for n in 0..=ready {
                front.put(&n.to_le_bytes()).unwrap();
            }
            let _ = front.push();
            watched.accesses.set(0);
            let mut back = BackRing::attach(memory, 4, START).unwrap();
            let mut request = [0; 4];
            while back.take(&mut request).unwrap() {}
            for _ in 0..ready {
                back.put(&[0; 4]).unwrap();
            }
            let _ = back.push();
            let told = Rc::new(Cell::new(None));
            let tell = told.clone();
            *watched.hook.borrow_mut() = Some(Box::new(move || {
                back.put(&99u32.to_le_bytes()).unwrap();
                tell.set(Some(back.push()));
            }));
            let mut answers = Vec::new();
            front_turn(&mut front, &mut answers);
            let Some(notice) = told.get() else {
                assert!(stop_at > 3, "the walk reached every access");
                break;
            };
            assert!(notice || answers.contains(&99), "lost at access {stop_at}, {ready} ready");
        }
    }
}

#[test]
fn no_index_is_visible_before_what_it_announces() {
    // A look after every access of a front end's push and a back end's answer: whatever lies below
    // the producer index is whole.
    for stop_at in 0..16 {
        let memory = pages(1);
        let watched = Watched::new(memory.clone(), stop_at);
        let mut front = FrontRing::start(watched.clone(), 8, START).unwrap();
        watched.accesses.set(0);
        let look = memory.clone();
        *watched.hook.borrow_mut() = Some(Box::new(move || {
            let mut back = BackRing::attach(look, 8, START).unwrap();
            let mut request = [0; 8];
            while back.take(&mut request).unwrap() {
                assert_eq!(request, [7; 8]);
            }
        }));
        for _ in 0..3 {
            front.put(&[7; 8]).unwrap();
        }
        let _ = front.push();
    }
}

#[test]
fn a_front_end_index_that_runs_away_or_goes_back_closes_the_ring_for_good() {
    for (first, second) in
        [(0, 33), (0, u32::MAX), (0, 0x8000_0000), (3, 2), (3, 1), (3, 36), (32, 0)]
    {
        let memory = pages(1);
        let mut front = FrontRing::new(memory.clone(), 112).unwrap();
        let mut back = BackRing::new(memory.clone(), 112).unwrap();
        memory.write_index(REQ_PROD, first);
        let mut request = [0; 112];
        for _ in 0..first.min(1) {
            assert_eq!(back.take(&mut request), Ok(true));
        }
        memory.write_index(REQ_PROD, second);
        let mut taken = 0;
        let end = loop {
            match back.take(&mut request) {
                Ok(true) => taken += 1,
                other => break other,
            }
        };
        assert_eq!(end, Err(RingError::Runaway), "{first} then {second}");
        assert!(taken <= 32 && back.is_closed());
        memory.write_index(REQ_PROD, 1);
        assert_eq!(back.take(&mut request), Err(RingError::Runaway));
        assert_eq!(back.put(&[0; 16]), Err(RingError::Runaway));
        assert_eq!(back.final_check(), Err(RingError::Runaway));
        assert!(!back.push());
        assert_eq!(front.take(&mut request), Ok(false));
    }
}

#[test]
fn more_requests_than_slots_are_refused_also_while_answers_are_owed() {
    let memory = pages(1);
    let mut back = BackRing::new(memory.clone(), 112).unwrap();
    memory.write_index(REQ_PROD, 32);
    let mut request = [0; 112];
    for _ in 0..32 {
        assert_eq!(back.take(&mut request), Ok(true));
    }
    for answered in 0..4 {
        assert_eq!(back.outstanding(), 32 - answered);
        back.put(&[0; 16]).unwrap();
    }
    memory.write_index(REQ_PROD, 36);
    assert_eq!(back.waiting(), Ok(4), "4 slots came free");
    memory.write_index(REQ_PROD, 37);
    assert_eq!(back.waiting(), Err(RingError::Runaway));
}

#[test]
fn answers_to_what_was_not_asked_close_the_front_half() {
    let memory = pages(1);
    let mut front = FrontRing::new(memory.clone(), 16).unwrap();
    front.put(&[0; 16]).unwrap();
    memory.write_index(RSP_PROD, 1);
    assert_eq!(front.take(&mut [0; 16]), Err(RingError::Runaway), "not pushed yet");
    assert_eq!(front.final_check(), Err(RingError::Runaway));
}

#[test]
fn a_back_end_that_wants_several_requests_rests_until_they_are_there() {
    let memory = pages(1);
    let mut front = FrontRing::new(memory.clone(), 8).unwrap();
    let mut back = BackRing::new(memory, 8).unwrap();
    front.put(&[0; 8]).unwrap();
    assert!(front.push());
    assert_eq!(back.final_check_for(3), Ok(false));
    front.put(&[0; 8]).unwrap();
    assert!(!front.push(), "2 are not 3");
    front.put(&[0; 8]).unwrap();
    assert!(front.push());
    assert_eq!(back.final_check_for(3), Ok(true));
    assert_eq!(back.waiting(), Ok(3));
}

#[test]
fn two_threads_lose_no_request_no_answer_and_no_notice() {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;
    const REQUESTS: u32 = 20_000;
    let memory = pages(1);
    let mut front = FrontRing::start(memory.clone(), 112, START).unwrap();
    let mut back = BackRing::attach(memory, 112, START).unwrap();
    let (to_back, at_back): (Sender<()>, Receiver<()>) = channel();
    let (to_front, at_front): (Sender<()>, Receiver<()>) = channel();
    let back_end = std::thread::spawn(move || {
        let mut served = Vec::new();
        while (served.len() as u32) < REQUESTS {
            at_back.recv_timeout(Duration::from_secs(20)).expect("a notice is lost");
            if back_turn(&mut back, &mut served) {
                let _ = to_front.send(());
            }
        }
        assert!(served.iter().copied().eq(0..REQUESTS));
    });
    let (mut sent, mut answers) = (0, Vec::new());
    while (answers.len() as u32) < REQUESTS {
        while sent < REQUESTS && front.free() > 0 {
            front.put(&sent.to_le_bytes()).unwrap();
            sent += 1;
        }
        if front.push() {
            to_back.send(()).unwrap();
        }
        let before = answers.len();
        front_turn(&mut front, &mut answers);
        if answers.len() == before {
            at_front.recv_timeout(Duration::from_secs(20)).expect("a notice is lost");
        }
    }
    assert!(answers.iter().copied().eq(0..REQUESTS));
    back_end.join().unwrap();
}
