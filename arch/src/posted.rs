//! What others leave for a virtual CPU, in the form in which a CPU takes interrupts from it by itself: Intel's
//! posted-interrupt descriptor (SDM 3C "Posted-Interrupt Processing").
//!
//! Requests are set first, then the mark that there are some; whoever takes them clears the mark first. So
//! a request that comes in between leaves the mark set, and its sender knows that it must notify.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// There are requests: "outstanding notification". The CPU clears it when it takes them.
pub const OUTSTANDING: u32 = 1;

/// A descriptor. Atomics only: the vCPU's CPU takes requests while others leave some.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Posted {
    /// Vector `v` is bit `v % 64` of word `v / 64`.
    requests: [AtomicU64; 4],
    /// [`OUTSTANDING`], and beyond it marks of software's own, which the CPU leaves alone.
    marks: AtomicU32,
    _software: [u32; 7],
}

const _: () = assert!(size_of::<Posted>() == 64 && core::mem::offset_of!(Posted, marks) == 32);

impl Posted {
    /// Whether nothing is marked.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.marks.load(Ordering::Acquire) == 0
    }

    /// Leaves a request. True: none was outstanding, so the vCPU is to be notified; else whoever left that
    /// one does it, or has done it.
    #[inline]
    pub fn post(&self, vector: u8) -> bool {
        self.requests[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::Relaxed);
        between();
        // The bit is seen by whoever sees the mark; and the sender's look at where the vCPU is comes after it.
        self.marks.fetch_or(OUTSTANDING, Ordering::SeqCst) & OUTSTANDING == 0
    }

    /// Leaves marks of software's own; what was marked before.
    #[inline]
    pub fn mark(&self, marks: u32) -> u32 {
        self.marks.fetch_or(marks, Ordering::Release)
    }

    /// Takes the marks, and the requests if they are among them.
    #[must_use]
    #[inline]
    pub fn take(&self) -> (u32, [u64; 4]) {
        let marks = self.marks.swap(0, Ordering::Acquire);
        between();
        if marks & OUTSTANDING == 0 {
            return (marks, [0; 4]);
        }
        let take = |n: usize| {
            let word = &self.requests[n];
            if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Relaxed) }
        };
        (marks, core::array::from_fn(take))
    }
}

/// Where tests let somebody else go on, between the two steps of an operation.
#[cfg(not(test))]
#[inline]
const fn between() {}

#[cfg(test)]
fn between() {
    let other = tests::BETWEEN.take();
    if let Some(go) = other {
        go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    std::thread_local! {
        /// Runs once, between the steps of the next operation.
        pub(super) static BETWEEN: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    }

    fn between_steps(go: impl FnOnce() + 'static) {
        BETWEEN.set(Some(Box::new(go)));
    }

    /// What a CPU in a guest does at the notification vector (SDM 3C "Posted-Interrupt Processing").
    fn process(posted: &Posted) -> [u64; 4] {
        posted.marks.fetch_and(!OUTSTANDING, Ordering::SeqCst);
        between();
        core::array::from_fn(|n| posted.requests[n].swap(0, Ordering::SeqCst))
    }

    fn only(vector: u8) -> [u64; 4] {
        let mut words = [0; 4];
        words[usize::from(vector >> 6)] = 1 << (vector & 63);
        words
    }

    #[test]
    fn requests_lie_where_the_cpu_looks_for_them() {
        let posted = Posted::default();
        for vector in [0x10, 0x3f, 0x40, 0xff] {
            posted.post(vector);
        }
        let at: *const u8 = (&raw const posted).cast();
        assert_eq!(at as usize % 64, 0);
        let bytes: [u8; 64] = std::array::from_fn(|n| {
            let word = if n < 32 {
                posted.requests[n / 8].load(Ordering::Relaxed) >> (n % 8 * 8)
            } else if n == 32 {
                posted.marks.load(Ordering::Relaxed).into()
            } else {
                0
            };
            word as u8
        });
        let expected = [(2, 1), (7, 0x80), (8, 1), (31, 0x80), (32, 1)];
        for (n, byte) in bytes.into_iter().enumerate() {
            let wanted = expected.iter().find(|(at, _)| *at == n).map_or(0, |(_, byte)| *byte);
            assert_eq!(byte, wanted, "byte {n}");
        }
    }

    #[test]
    fn requests_gather_while_one_is_outstanding_and_only_the_first_notifies() {
        let posted = Posted::default();
        assert!(posted.is_empty());
        assert!(posted.post(0x41));
        assert!(!posted.post(0x42) && !posted.post(0x41) && !posted.post(0xfe));
        assert_eq!(posted.take(), (OUTSTANDING, [0, 6, 0, 1 << 62]));
        assert!(posted.is_empty());
        assert_eq!(posted.take(), (0, [0; 4]), "they come out once");
        assert!(posted.post(0x42), "the next is a first one again");
    }

    #[test]
    fn the_cpu_takes_requests_and_leaves_marks_of_softwares_own() {
        let posted = Posted::default();
        posted.mark(2);
        assert!(posted.post(0x80), "a mark of another kind is no notification");
        assert_eq!(process(&posted), only(0x80));
        assert!(!posted.is_empty());
        assert_eq!(posted.take(), (2, [0; 4]));
        posted.mark(4);
        posted.mark(8);
        assert_eq!(posted.take(), (12, [0; 4]));
    }

    /// Whoever takes, in one go.
    type Take = fn(&Posted) -> [u64; 4];
    const TAKERS: [Take; 2] = [|posted| posted.take().1, process];

    #[test]
    fn a_taker_between_the_steps_of_a_post_leaves_it_to_be_found() {
        for take in TAKERS {
            for earlier in [false, true] {
                let posted = Rc::new(Posted::default());
                if earlier {
                    posted.post(0x33);
                }
                let seen = Rc::new(Cell::new([0; 4]));
                let (theirs, found) = (posted.clone(), seen.clone());
                between_steps(move || found.set(take(&theirs)));
                let notify = posted.post(0x44);
                let taken = seen.get()[1] & 1 << 4 != 0;
                assert!(notify, "the taker cleared the mark: {earlier}");
                assert!(!posted.is_empty());
                assert_eq!(posted.take().1[1] & 1 << 4 != 0, !taken, "once");
            }
        }
    }

    #[test]
    fn a_post_between_the_steps_of_a_taker_is_taken_or_notifies() {
        for take in TAKERS {
            let posted = Rc::new(Posted::default());
            posted.post(0x33);
            let notify = Rc::new(Cell::new(false));
            let (theirs, told) = (posted.clone(), notify.clone());
            between_steps(move || told.set(theirs.post(0x44)));
            let first = take(&posted);
            assert_eq!(first[0], 1 << 0x33);
            let left = posted.requests[1].load(Ordering::Relaxed) != 0;
            assert!(!left || notify.get(), "nobody would look for it");
            assert!(notify.get() && !posted.is_empty(), "the mark was cleared before");
            let second = posted.take().1;
            assert_eq!((first[1] | second[1], second[0]), (1 << 4, 0));
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const ROUNDS: usize = 20;
        let posted = Arc::new(Posted::default());
        let bell = Arc::new(AtomicU32::new(0));
        let sender = {
            let (posted, bell) = (posted.clone(), bell.clone());
            move |vector: u8, taken: Arc<[AtomicU32; 256]>| {
                for round in 0..ROUNDS {
                    if posted.post(vector) {
                        bell.fetch_add(1, Ordering::SeqCst);
                    }
                    while taken[usize::from(vector)].load(Ordering::SeqCst) as usize <= round {
                        std::thread::yield_now();
                    }
                }
            }
        };
        let taken: Arc<[AtomicU32; 256]> = Arc::new([const { AtomicU32::new(0) }; 256]);
        std::thread::scope(|scope| {
            for vector in [0x30, 0x31, 0xf0] {
                let (sender, taken) = (sender.clone(), taken.clone());
                scope.spawn(move || sender(vector, taken));
            }
            let mut heard = 0;
            // The CPU looks at nothing but the bell.
            while [0x30, 0x31, 0xf0]
                .iter()
                .any(|v| (taken[*v].load(Ordering::SeqCst) as usize) < ROUNDS)
            {
                let now = bell.load(Ordering::SeqCst);
                if now == heard {
                    std::thread::yield_now();
                    continue;
                }
                heard = now;
                let words = process(&posted);
                for (vector, count) in taken.iter().enumerate() {
                    if words[vector >> 6] >> (vector & 63) & 1 != 0 {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
    }
}
