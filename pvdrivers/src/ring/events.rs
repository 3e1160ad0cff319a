//! A page with two rings of 40-byte events, one each way. Xen public "io/fbif.h", "io/kbdif.h".
//!
//! Each half writes one producer index and one consumer index, and keeps them for itself. Nobody
//! answers; an event that finds no room is lost.

use super::RingError;
use arch::SharedPage;
use core::sync::atomic::{Ordering, fence};

/// Bytes of an event.
pub const EVENT: usize = 40;

const IN_CONS: usize = 0;
const IN_PROD: usize = 4;
const OUT_CONS: usize = 8;
const OUT_PROD: usize = 12;

/// Where a device's rings lie: offset and bytes. "In" leads to the front end, "out" to the back
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To the front end.
    pub into: (usize, usize),
    /// To the back end.
    pub out: (usize, usize),
}

impl Plan {
    /// A frame buffer's (`XENFB_*_RING_*`).
    pub const FRAME_BUFFER: Plan = Plan { into: (1024, 1024), out: (2048, 2048) };
    /// A keyboard's (`XENKBD_*_RING_*`).
    pub const KEYBOARD: Plan = Plan { into: (1024, 2048), out: (3072, 1024) };
}

/// One ring as one half sees it.
#[derive(Clone, Copy, Debug)]
struct Lane {
    page: SharedPage,
    at: usize,
    events: u32,
    cons: usize,
    prod: usize,
    /// This half's own index.
    mine: u32,
}

impl Lane {
    fn new(page: SharedPage, place: (usize, usize), cons: usize, prod: usize) -> Lane {
        Lane { page, at: place.0, events: (place.1 / EVENT) as u32, cons, prod, mine: 0 }
    }

    fn index(&self, at: usize) -> u32 {
        self.page.read_u32(at).unwrap_or(0)
    }

    fn slot(&self) -> usize {
        self.at + (self.mine % self.events) as usize * EVENT
    }

    /// Begins where the other half is: nothing is waiting.
    fn join(&mut self, at: usize) {
        self.mine = self.index(at);
    }

    fn take(&mut self) -> Result<Option<[u8; EVENT]>, RingError> {
        let prod = self.index(self.prod);
        fence(Ordering::Acquire);
        let waiting = prod.wrapping_sub(self.mine);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.events {
            self.mine = prod;
            self.show(self.cons);
            return Err(RingError::Runaway);
        }
        let mut event = [0; EVENT];
        let inside = self.page.read(self.slot(), &mut event);
        debug_assert!(inside.is_ok());
        self.mine = self.mine.wrapping_add(1);
        self.show(self.cons);
        Ok(Some(event))
    }

    fn put(&mut self, event: &[u8; EVENT]) -> Result<(), RingError> {
        let waiting = self.mine.wrapping_sub(self.index(self.cons));
        fence(Ordering::SeqCst);
        if waiting >= self.events {
            return Err(RingError::Full);
        }
        let inside = self.page.write_slice(self.slot(), event);
        debug_assert!(inside.is_ok());
        self.mine = self.mine.wrapping_add(1);
        self.show(self.prod);
        Ok(())
    }

    /// Shows this half's index, after what it did with the slot.
    fn show(&self, at: usize) {
        fence(Ordering::SeqCst);
        let inside = self.page.write(at, 4, self.mine.into());
        debug_assert!(inside.is_ok());
    }
}

/// The back end's half: takes what the front end puts, and the other way round.
#[derive(Clone, Copy, Debug)]
pub struct EventBack {
    into: Lane,
    out: Lane,
}

impl EventBack {
    /// The rings of `page`, from where they are now.
    #[must_use]
    pub fn new(page: SharedPage, plan: Plan) -> EventBack {
        let mut into = Lane::new(page, plan.into, IN_CONS, IN_PROD);
        let mut out = Lane::new(page, plan.out, OUT_CONS, OUT_PROD);
        into.join(IN_PROD);
        out.join(OUT_CONS);
        EventBack { into, out }
    }

    /// The next event from the front end.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where its index made no sense: all events up to it are dropped.
    pub fn take(&mut self) -> Result<Option<[u8; EVENT]>, RingError> {
        self.out.take()
    }

    /// An event for the front end, which must be notified then.
    ///
    /// # Errors
    /// [`RingError::Full`] where there is no room; the event is lost.
    pub fn put(&mut self, event: &[u8; EVENT]) -> Result<(), RingError> {
        self.into.put(event)
    }
}

/// The front end's half.
#[derive(Clone, Copy, Debug)]
pub struct EventFront {
    into: Lane,
    out: Lane,
}

impl EventFront {
    /// The rings of a page of zeros.
    #[must_use]
    pub fn new(page: SharedPage, plan: Plan) -> EventFront {
        EventFront {
            into: Lane::new(page, plan.into, IN_CONS, IN_PROD),
            out: Lane::new(page, plan.out, OUT_CONS, OUT_PROD),
        }
    }

    /// The next event from the back end.
    ///
    /// # Errors
    /// As [`EventBack::take`].
    pub fn take(&mut self) -> Result<Option<[u8; EVENT]>, RingError> {
        self.into.take()
    }

    /// An event for the back end, which must be notified then.
    ///
    /// # Errors
    /// As [`EventBack::put`].
    pub fn put(&mut self, event: &[u8; EVENT]) -> Result<(), RingError> {
        self.out.put(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use core::sync::atomic::AtomicU64;

    fn ends(plan: Plan) -> (SharedPage, EventFront, EventBack) {
        let page = SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
        (page, EventFront::new(page, plan), EventBack::new(page, plan))
    }

    #[test]
    fn events_go_both_ways_in_order_and_a_full_ring_takes_no_more() {
        for (plan, into, out) in [(Plan::FRAME_BUFFER, 25, 51), (Plan::KEYBOARD, 51, 25)] {
            let (_, mut front, mut back) = ends(plan);
            for round in 0..10u8 {
                for n in 0..out {
                    assert_eq!(front.put(&[n ^ round; EVENT]), Ok(()));
                }
                assert_eq!(front.put(&[0; EVENT]), Err(RingError::Full));
                for n in 0..into {
                    assert_eq!(back.put(&[n ^ !round; EVENT]), Ok(()));
                }
                assert_eq!(back.put(&[0; EVENT]), Err(RingError::Full));
                for n in 0..out {
                    assert_eq!(back.take(), Ok(Some([n ^ round; EVENT])));
                }
                for n in 0..into {
                    assert_eq!(front.take(), Ok(Some([n ^ !round; EVENT])));
                }
                assert_eq!((back.take(), front.take()), (Ok(None), Ok(None)));
            }
        }
    }

    #[test]
    fn an_index_that_runs_away_loses_events_and_the_next_one_arrives() {
        let (page, mut front, mut back) = ends(Plan::FRAME_BUFFER);
        page.write(OUT_PROD, 4, 52).unwrap();
        assert_eq!(back.take(), Err(RingError::Runaway));
        assert_eq!(back.take(), Ok(None));
        assert_eq!(page.read_u32(OUT_CONS), Some(52));
        front.out.mine = 52;
        front.put(&[3; EVENT]).unwrap();
        assert_eq!(back.take(), Ok(Some([3; EVENT])));
        page.write(IN_CONS, 4, 0x8000_0000).unwrap();
        assert_eq!(back.put(&[0; EVENT]), Err(RingError::Full), "no front end there");
    }
}
