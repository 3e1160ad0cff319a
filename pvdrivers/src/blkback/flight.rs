//! Requests that have been taken and not been answered, found again by their tokens.

use super::abi::Status;
use super::disk::{DiskOp, DiskRequest, Piece, Token};
use super::keeper::Held;
use alloc::vec::Vec;

/// Requests of one device in flight; more stay in the rings.
pub(super) const MAX_FLIGHTS: usize = 1024;
const SLOT_BITS: u32 = MAX_FLIGHTS.trailing_zeros();

/// What the disk is to do for one request, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    list: [DiskOp; 3],
    at: u8,
    len: u8,
}

impl Steps {
    pub fn one(op: DiskOp) -> Steps {
        Steps { list: [op; 3], at: 0, len: 1 }
    }

    /// Data between two flushes: after it, it and all before is durable, in this order.
    pub fn flushed_write() -> Steps {
        Steps { list: [DiskOp::Flush, DiskOp::Write, DiskOp::Flush], at: 0, len: 3 }
    }

    /// What comes next; `None` when all is done.
    pub fn next(&self) -> Option<DiskOp> {
        self.list.get(usize::from(self.at)).copied().filter(|_| self.at < self.len)
    }

    pub fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Whose answer it gets: the queue of this connection.
    pub queue: usize,
    /// Which connection.
    pub epoch: u32,
    /// For the answer.
    pub id: u64,
    /// For the answer.
    pub operation: u8,
    pub steps: Steps,
    /// The disk has it.
    pub submitted: bool,
    pub sector: u64,
    pub sectors: u64,
    pub held: Vec<Held>,
    pub pieces: Vec<Piece>,
}

impl Flight {
    /// What the disk is asked for.
    pub fn request(&self, token: Token, op: DiskOp) -> DiskRequest<'_> {
        let (sectors, pieces) = match op {
            DiskOp::Read | DiskOp::Write => (self.sectors, &self.pieces[..]),
            DiskOp::Discard => (self.sectors, &[][..]),
            DiskOp::Flush => (0, &[][..]),
        };
        let sector = if op == DiskOp::Flush { 0 } else { self.sector };
        DiskRequest { token, op, sector, sectors, pieces }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    flight: Option<Flight>,
}

/// All flights of a device.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
    active: usize,
    pieces: usize,
}

impl Flights {
    pub fn active(&self) -> usize {
        self.active
    }

    /// Pieces of all flights.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    pub fn is_full(&self) -> bool {
        self.active >= MAX_FLIGHTS
    }

    /// Names a new flight. The caller has looked at [`is_full`](Flights::is_full).
    pub fn insert(&mut self, flight: Flight) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.active += 1;
        self.pieces += flight.pieces.len();
        let slot = &mut self.slots[index as usize];
        slot.flight = Some(flight);
        Token(slot.generation << SLOT_BITS | index)
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.0 as usize & (MAX_FLIGHTS - 1))?;
        (slot.generation << SLOT_BITS >> SLOT_BITS == token.0 >> SLOT_BITS).then_some(slot)
    }

    /// The flight of that name, if it is still under way.
    pub fn get(&mut self, token: Token) -> Option<&mut Flight> {
        self.slot(token)?.flight.as_mut()
    }

    /// Ends a flight; its name is never valid again (until 2^22 others had the slot).
    pub fn remove(&mut self, token: Token) -> Option<Flight> {
        let slot = self.slot(token)?;
        let flight = slot.flight.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.active -= 1;
        self.pieces -= flight.pieces.len();
        self.free.push(token.0 & (MAX_FLIGHTS as u32 - 1));
        Some(flight)
    }

    /// The names of all that `which` picks.
    pub fn tokens(&self, which: impl Fn(&Flight) -> bool) -> Vec<Token> {
        let named = |(index, slot): (usize, &Slot)| {
            let picked = slot.flight.as_ref().is_some_and(&which);
            picked.then_some(Token(slot.generation << SLOT_BITS | index as u32))
        };
        self.slots.iter().enumerate().filter_map(named).collect()
    }
}

/// What was done, and what was not. All since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that read and succeeded.
    pub reads: u64,
    /// Requests that wrote and succeeded.
    pub writes: u64,
    /// Flushes and barriers that succeeded.
    pub flushes: u64,
    /// Discards that succeeded.
    pub discards: u64,
    /// Units of 512 bytes read.
    pub sectors_read: u64,
    /// Units of 512 bytes written.
    pub sectors_written: u64,
    /// Answers that said error.
    pub errors: u64,
    /// Answers that said unsupported.
    pub unsupported: u64,
    /// Uses of a page that was pinned already.
    pub persistent_hits: u64,
}

impl Counters {
    pub(super) fn refuse(&mut self, status: Status) {
        match status {
            Status::Okay => {}
            Status::Error => self.errors += 1,
            Status::Unsupported => self.unsupported += 1,
        }
    }

    pub(super) fn count(&mut self, flight: &Flight, status: Status) {
        self.refuse(status);
        if status != Status::Okay {
            return;
        }
        let steps = &flight.steps.list[..usize::from(flight.steps.len)];
        match steps {
            [DiskOp::Read] => {
                self.reads += 1;
                self.sectors_read += flight.sectors;
            }
            [DiskOp::Discard] => self.discards += 1,
            [DiskOp::Flush] => self.flushes += 1,
            _ => {
                self.writes += 1;
                self.sectors_written += flight.sectors;
                self.flushes += u64::from(steps.len() > 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(id: u64) -> Flight {
        Flight {
            queue: 0,
            epoch: 0,
            id,
            operation: 0,
            steps: Steps::one(DiskOp::Read),
            submitted: false,
            sector: 0,
            sectors: 0,
            held: Vec::new(),
            pieces: Vec::new(),
        }
    }

    #[test]
    fn a_name_is_stale_once_its_flight_has_ended_even_when_the_slot_is_used_again() {
        let mut flights = Flights::default();
        let first = flights.insert(flight(1));
        let second = flights.insert(flight(2));
        assert_eq!(flights.remove(first).map(|flight| flight.id), Some(1));
        assert!(flights.remove(first).is_none() && flights.get(first).is_none());
        let third = flights.insert(flight(3));
        assert_eq!(third.0 & 1023, first.0 & 1023, "the slot is used again");
        assert!(third != first && flights.get(first).is_none());
        assert_eq!(flights.get(third).map(|flight| flight.id), Some(3));
        assert_eq!(flights.tokens(|flight| flight.id > 1), [third, second]);
        assert_eq!(flights.active(), 2);
        assert!(flights.get(Token(u32::MAX)).is_none());
    }

    #[test]
    fn names_stay_apart_over_all_generations_of_a_slot() {
        let mut flights = Flights::default();
        flights.slots.push(Slot { generation: u32::MAX, flight: None });
        flights.free.push(0);
        let last = flights.insert(flight(1));
        assert!(flights.remove(last).is_some());
        let next = flights.insert(flight(2));
        assert!(flights.get(last).is_none());
        assert_eq!((next.0, flights.get(next).map(|flight| flight.id)), (0, Some(2)));
    }
}
