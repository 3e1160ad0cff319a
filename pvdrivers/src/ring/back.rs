//! The back end's half: takes requests, puts responses.

use super::{
    Pages, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, RingError, RingMemory, Slots, crosses,
};
use core::sync::atomic::{Ordering, fence};

/// A back end's half of a ring.
///
/// A turn is: [`take`](BackRing::take) and [`put`](BackRing::put) as often as there is work,
/// [`push`](BackRing::push), and before resting [`final_check`](BackRing::final_check), which may
/// find more work.
#[derive(Clone, Debug)]
pub struct BackRing<M = Pages> {
    slots: Slots<M>,
    /// The next request to take.
    req_cons: u32,
    /// The front end's producer index when it was last read; checked then.
    req_seen: u32,
    /// Where the next response goes.
    rsp_prod: u32,
    /// What of that the front end has been shown.
    rsp_shown: u32,
    closed: bool,
}

impl<M: RingMemory> BackRing<M> {
    /// A new ring of slots of `slot` bytes, the larger of request and response. Touches no memory:
    /// the front end has initialized the ring.
    ///
    /// # Errors
    /// [`RingError::Shape`] where no slot fits.
    pub fn new(memory: M, slot: usize) -> Result<BackRing<M>, RingError> {
        BackRing::attach(memory, slot, 0)
    }

    /// A ring that is in use already, with all requests before `index` answered.
    ///
    /// # Errors
    /// [`RingError::Shape`] where no slot fits.
    pub fn attach(memory: M, slot: usize, index: u32) -> Result<BackRing<M>, RingError> {
        Ok(BackRing {
            slots: Slots::new(memory, slot)?,
            req_cons: index,
            req_seen: index,
            rsp_prod: index,
            rsp_shown: index,
            closed: false,
        })
    }

    /// Slots of the ring, a power of two.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.slots.entries
    }

    /// Requests that were taken and have no response yet.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// Whether the front end's index ran away.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Requests that wait to be taken, at most [`entries`](BackRing::entries).
    ///
    /// # Errors
    /// [`RingError::Runaway`], which closes the ring.
    pub fn waiting(&mut self) -> Result<u32, RingError> {
        if self.closed {
            return Err(RingError::Runaway);
        }
        let seen = self.slots.memory.read_index(REQ_PROD);
        // Slots before the index are read after it.
        fence(Ordering::Acquire);
        let ahead = seen.wrapping_sub(self.rsp_prod);
        let taken = self.outstanding();
        let known = self.req_seen.wrapping_sub(self.rsp_prod);
        if ahead > self.slots.entries || ahead < known {
            self.closed = true;
            return Err(RingError::Runaway);
        }
        self.req_seen = seen;
        Ok(ahead - taken)
    }

    /// Whether there is no request now.
    ///
    /// # Errors
    /// As [`take`](BackRing::take).
    #[inline]
    pub fn is_empty(&mut self) -> Result<bool, RingError> {
        if self.closed {
            return Err(RingError::Runaway);
        }
        Ok(self.req_seen == self.req_cons && self.waiting()? == 0)
    }

    /// Copies the next request into `request` (its first bytes, if it is shorter than a slot).
    /// `false`: there is none now.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where the front end's index is more than a ring ahead of the
    /// responses, or went back. The ring is closed then.
    pub fn take(&mut self, request: &mut [u8]) -> Result<bool, RingError> {
        if self.is_empty()? {
            return Ok(false);
        }
        self.slots.read(self.req_cons, request);
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(true)
    }

    /// Writes the next response; the front end sees it after [`push`](BackRing::push).
    ///
    /// # Errors
    /// [`RingError::Full`] where no taken request waits for one, or the response is longer than a
    /// slot; [`RingError::Runaway`] on a closed ring.
    pub fn put(&mut self, response: &[u8]) -> Result<(), RingError> {
        if self.closed {
            return Err(RingError::Runaway);
        }
        if self.outstanding() == 0 || response.len() > self.slots.slot {
            return Err(RingError::Full);
        }
        self.slots.write(self.rsp_prod, response);
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        Ok(())
    }

    /// Shows the front end all responses. Whether it must be notified: it asked to be, at one of
    /// these.
    #[must_use]
    pub fn push(&mut self) -> bool {
        if self.closed || self.rsp_prod == self.rsp_shown {
            return false;
        }
        // Responses before the index.
        fence(Ordering::Release);
        self.slots.memory.write_index(RSP_PROD, self.rsp_prod);
        // The index before the look at what is asked, as the front end asks before its last look.
        fence(Ordering::SeqCst);
        let event = self.slots.memory.read_index(RSP_EVENT);
        crosses(core::mem::replace(&mut self.rsp_shown, self.rsp_prod), self.rsp_prod, event)
    }

    /// Asks to be notified of the next request, and looks once more. `true`: there is work already,
    /// do not rest.
    ///
    /// # Errors
    /// [`RingError::Runaway`], which closes the ring.
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        self.final_check_for(1)
    }

    /// As [`final_check`](BackRing::final_check), where less than `requests` (1 or more) are no
    /// work.
    ///
    /// # Errors
    /// [`RingError::Runaway`], which closes the ring.
    pub fn final_check_for(&mut self, requests: u32) -> Result<bool, RingError> {
        let requests = requests.clamp(1, self.slots.entries);
        if self.waiting()? >= requests {
            return Ok(true);
        }
        self.slots.memory.write_index(REQ_EVENT, self.req_cons.wrapping_add(requests));
        fence(Ordering::SeqCst);
        Ok(self.waiting()? >= requests)
    }
}
