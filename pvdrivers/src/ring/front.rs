//! The front end's half: puts requests, takes responses. For guest kernels, and as a peer in tests.

use super::{
    Pages, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, RingError, RingMemory, SLOTS, Slots, crosses,
};
use core::sync::atomic::{Ordering, fence};

/// A front end's half of a ring.
///
/// [`put`](FrontRing::put) requests, [`push`](FrontRing::push) them; when notified
/// [`take`](FrontRing::take) responses until there are none, then
/// [`final_check`](FrontRing::final_check).
#[derive(Clone, Debug)]
pub struct FrontRing<M = Pages> {
    slots: Slots<M>,
    /// Where the next request goes.
    req_prod: u32,
    /// What of that the back end has been shown.
    req_shown: u32,
    /// The next response to take.
    rsp_cons: u32,
    closed: bool,
}

impl<M: RingMemory> FrontRing<M> {
    /// A new ring of slots of `slot` bytes; initializes the memory (`SHARED_RING_INIT`).
    ///
    /// # Errors
    /// [`RingError::Shape`] where no slot fits.
    pub fn new(memory: M, slot: usize) -> Result<FrontRing<M>, RingError> {
        FrontRing::start(memory, slot, 0)
    }

    /// As [`new`](FrontRing::new), with indices that begin at `index`; the back end must be told.
    ///
    /// # Errors
    /// [`RingError::Shape`] where no slot fits.
    pub fn start(memory: M, slot: usize, index: u32) -> Result<FrontRing<M>, RingError> {
        let slots = Slots::new(memory, slot)?;
        slots.memory.write(0, &[0; SLOTS]);
        slots.memory.write_index(REQ_PROD, index);
        slots.memory.write_index(RSP_PROD, index);
        slots.memory.write_index(REQ_EVENT, index.wrapping_add(1));
        slots.memory.write_index(RSP_EVENT, index.wrapping_add(1));
        Ok(FrontRing { slots, req_prod: index, req_shown: index, rsp_cons: index, closed: false })
    }

    /// Slots of the ring, a power of two.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.slots.entries
    }

    /// Slots for more requests.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.slots.entries - self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Writes the next request; the back end sees it after [`push`](FrontRing::push).
    ///
    /// # Errors
    /// [`RingError::Full`] where no slot is free or the request is longer than one.
    pub fn put(&mut self, request: &[u8]) -> Result<(), RingError> {
        if self.free() == 0 || request.len() > self.slots.slot {
            return Err(RingError::Full);
        }
        self.slots.write(self.req_prod, request);
        self.req_prod = self.req_prod.wrapping_add(1);
        Ok(())
    }

    /// Shows the back end all requests. Whether it must be notified.
    #[must_use]
    pub fn push(&mut self) -> bool {
        if self.req_prod == self.req_shown {
            return false;
        }
        // Requests before the index.
        fence(Ordering::Release);
        self.slots.memory.write_index(REQ_PROD, self.req_prod);
        // The index before the look at what is asked.
        fence(Ordering::SeqCst);
        let event = self.slots.memory.read_index(REQ_EVENT);
        crosses(core::mem::replace(&mut self.req_shown, self.req_prod), self.req_prod, event)
    }

    /// Responses that wait to be taken.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where the back end answered what was not asked. The ring is closed
    /// then.
    pub fn waiting(&mut self) -> Result<u32, RingError> {
        if self.closed {
            return Err(RingError::Runaway);
        }
        let waiting = self.slots.memory.read_index(RSP_PROD).wrapping_sub(self.rsp_cons);
        fence(Ordering::Acquire);
        if waiting > self.req_shown.wrapping_sub(self.rsp_cons) {
            self.closed = true;
            return Err(RingError::Runaway);
        }
        Ok(waiting)
    }

    /// Copies the next response into `response`. `false`: there is none now.
    ///
    /// # Errors
    /// [`RingError::Runaway`], which closes the ring.
    pub fn take(&mut self, response: &mut [u8]) -> Result<bool, RingError> {
        if self.waiting()? == 0 {
            return Ok(false);
        }
        self.slots.read(self.rsp_cons, response);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(true)
    }

    /// Asks to be notified of the next response, and looks once more. `true`: one is there already.
    ///
    /// # Errors
    /// [`RingError::Runaway`], which closes the ring.
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        if self.waiting()? > 0 {
            return Ok(true);
        }
        self.slots.memory.write_index(RSP_EVENT, self.rsp_cons.wrapping_add(1));
        fence(Ordering::SeqCst);
        Ok(self.waiting()? > 0)
    }
}
