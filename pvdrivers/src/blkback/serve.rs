//! The work of a block back end: from rings to the disk, and from the disk to answers.

use super::abi::{REQUEST, Request, Response, Status};
use super::disk::{Disk, DiskAnswer, DiskError, Token};
use super::flight::Flight;
use super::plan::{Plan, Planner};
use super::{BlkBack, Served};
use crate::ring::RingError;
use crate::seam::Grants;

/// Pieces in flight beyond which no further request is taken: bounds memory whatever the rings
/// hold.
const MAX_PIECES: usize = 16 * 1024;

impl BlkBack {
    /// Takes up to `budget` requests from the rings and hands them to the disk.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where an index of a ring ran away; the device must be disconnected.
    pub fn serve(
        &mut self,
        budget: u32,
        grants: &mut impl Grants,
        disk: &mut impl Disk,
    ) -> Result<Served, RingError> {
        let mut served = Served::default();
        self.stalled = false;
        served.busy = !self.submit_ready(grants, disk);
        let queues = self.connection.as_ref().map_or(0, |front| front.queues.len());
        let mut budget = budget;
        // Queues in turn, one request each, until all are empty one after the other.
        let mut empty = 0;
        let mut request = Request::NONE;
        while empty < queues && budget > 0 && !served.busy && self.has_room() {
            let Some(queue) = self.take(&mut request)? else {
                empty += 1;
                continue;
            };
            empty = 0;
            budget -= 1;
            served.busy = !self.start(queue, &request, grants, disk);
        }
        served.notify = self.push();
        if empty < queues {
            self.stalled = !self.has_room();
            served.more = budget == 0 && self.has_room() && !served.busy;
            return Ok(served);
        }
        for queue in self.connection.iter_mut().flat_map(|front| &mut front.queues) {
            served.more |= queue.ring.final_check()?;
        }
        Ok(served)
    }

    /// The disk has finished a request. Tokens of requests that it does not have are ignored.
    pub fn complete(
        &mut self,
        token: Token,
        result: Result<(), DiskError>,
        grants: &mut impl Grants,
    ) -> Served {
        let Some(flight) = self.flights.get(token).filter(|flight| flight.submitted) else {
            return Served::default();
        };
        flight.submitted = false;
        let current = flight.epoch == self.epoch;
        if result.is_ok() {
            flight.steps.advance();
        }
        let finished = flight.steps.next().is_none();
        if result.is_err() || finished || !current {
            self.finish(token, result, grants);
        } else {
            // Before a barrier, which waits for it.
            self.ready.push_front(token);
        }
        let notify = self.push();
        Served { notify, more: self.stalled || self.can_submit(), busy: false }
    }

    /// Whether a flight waits that the disk may be asked for now.
    fn can_submit(&self) -> bool {
        let alone = self.flights.active() == 1;
        self.ready.front().is_some_and(|token| alone || self.barrier != Some(*token))
    }

    /// Whether one more request may be taken from a ring.
    fn has_room(&self) -> bool {
        self.barrier.is_none()
            && self.ready.is_empty()
            && !self.flights.is_full()
            && self.flights.pieces() < MAX_PIECES
    }

    /// The next request of the next queue, and which queue that is; `None` where it has none.
    fn take(&mut self, request: &mut Request) -> Result<Option<usize>, RingError> {
        let Some(front) = &mut self.connection else { return Ok(None) };
        let index = front.first % front.queues.len();
        front.first = index + 1;
        let ring = &mut front.queues[index].ring;
        if ring.is_empty()? {
            return Ok(None);
        }
        let mut slot = [0; REQUEST];
        ring.take(&mut slot)?;
        *request = Request::decode(front.layout, &slot);
        Ok(Some(index))
    }

    /// Begins a request. `false` where the disk is busy.
    fn start(
        &mut self,
        queue: usize,
        request: &Request,
        grants: &mut impl Grants,
        disk: &mut impl Disk,
    ) -> bool {
        let mut planner = Planner {
            media: self.media.as_ref(),
            discard: self.config.discard_granularity.is_some(),
            keeper: &mut self.keeper,
            grants,
            scratch: &mut self.scratch,
            spare: &mut self.spare,
        };
        let plan = match planner.plan(request) {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                self.answer(queue, request.id, request.answers_to(), Status::Okay);
                return true;
            }
            Err(status) => {
                self.counters.refuse(status);
                self.answer(queue, request.id, request.answers_to(), status);
                return true;
            }
        };
        let Plan { steps, alone, sectors, held, pieces } = plan;
        let token = self.flights.insert(Flight {
            queue,
            epoch: self.epoch,
            id: request.id,
            operation: request.answers_to(),
            steps,
            submitted: false,
            sector: request.sector,
            sectors,
            held,
            pieces,
        });
        if alone {
            self.barrier = Some(token);
        }
        self.ready.push_back(token);
        self.submit_ready(grants, disk)
    }

    /// Asks the disk for all that is ready. `false` where it is busy.
    fn submit_ready(&mut self, grants: &mut impl Grants, disk: &mut impl Disk) -> bool {
        while self.can_submit()
            && let Some(token) = self.ready.pop_front()
        {
            if !self.submit(token, grants, disk) {
                self.ready.push_front(token);
                return false;
            }
        }
        true
    }

    /// Goes through a flight's steps as far as the disk does them at once. `false` where it is
    /// busy.
    fn submit(&mut self, token: Token, grants: &mut impl Grants, disk: &mut impl Disk) -> bool {
        loop {
            let Some(flight) = self.flights.get(token) else { return true };
            let Some(op) = flight.steps.next() else {
                self.finish(token, Ok(()), grants);
                return true;
            };
            match disk.submit(&flight.request(token, op)) {
                DiskAnswer::Done(Ok(())) => flight.steps.advance(),
                DiskAnswer::Done(Err(error)) => {
                    self.finish(token, Err(error), grants);
                    return true;
                }
                DiskAnswer::Pending => {
                    flight.submitted = true;
                    return true;
                }
                DiskAnswer::Busy => return false,
            }
        }
    }

    /// Ends a flight: gives its pages back and answers.
    fn finish(&mut self, token: Token, result: Result<(), DiskError>, grants: &mut impl Grants) {
        let Some(flight) = self.flights.remove(token) else { return };
        if self.barrier == Some(token) {
            self.barrier = None;
        }
        let status = match result {
            Ok(()) => Status::Okay,
            Err(DiskError::Unsupported) => Status::Unsupported,
            Err(DiskError::Failed) => Status::Error,
        };
        self.counters.count(&flight, status);
        if flight.epoch == self.epoch {
            self.answer(flight.queue, flight.id, flight.operation, status);
        }
        self.let_go(grants, flight);
    }

    pub(super) fn let_go(&mut self, grants: &mut impl Grants, flight: Flight) {
        let Flight { mut held, pieces, .. } = flight;
        for held in held.drain(..) {
            self.keeper.release(grants, held);
        }
        self.spare.give(held, pieces);
    }

    /// Writes an answer; [`push`](BlkBack::push) shows it.
    fn answer(&mut self, queue: usize, id: u64, operation: u8, status: Status) {
        let Some(front) = &mut self.connection else { return };
        let Some(queue) = front.queues.get_mut(queue) else { return };
        let bytes = Response { id, operation, status: status as i16 }.encode();
        // Fails only on a ring that has been closed: nobody listens there any more.
        let _ = queue.ring.put(&bytes[..front.layout.response()]);
    }

    /// Shows all answers. The queues to notify.
    fn push(&mut self) -> u32 {
        let mut notify = 0;
        for (index, queue) in
            self.connection.iter_mut().flat_map(|front| &mut front.queues).enumerate()
        {
            notify |= u32::from(queue.ring.push()) << index;
        }
        notify
    }
}
