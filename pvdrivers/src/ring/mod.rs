//! The ring of requests and responses that a front end and a back end share. Xen public
//! "io/ring.h".
//!
//! One array of slots carries both ways: a response takes the slot of an earlier request. Each half
//! has private copies of its own indices, and believes the other's only so far as the ring is long.
//! A slot is copied once and never looked at again. Next: `back.rs`, `front.rs`, `pages.rs`.

mod back;
pub mod events;
mod front;
mod pages;
#[cfg(test)]
mod tests;

pub use back::BackRing;
pub use front::FrontRing;
pub use pages::{Pages, PinnedPages};

use arch::SharedPage;

/// Pages of the largest ring (`max-ring-page-order` 4).
pub const MAX_PAGES: usize = 16;

/// Byte offsets in the first page, and of the first slot (`struct sring`).
const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 4;
const RSP_PROD: usize = 8;
const RSP_EVENT: usize = 12;
const SLOTS: usize = 64;

/// Why a ring is not used, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// No page, more than [`MAX_PAGES`], or no slot fits.
    Shape,
    /// The other half's producer index is more than a ring ahead, or went back. The ring stays
    /// closed.
    Runaway,
    /// More responses than requests, more requests than free slots, or more bytes than a slot: a
    /// mistake of this half. Nothing was written.
    Full,
}

/// Where a ring lies: pages, or a test's store that watches each access.
///
/// Offsets are bytes from the ring's start and always inside [`bytes`](RingMemory::bytes).
pub trait RingMemory {
    /// All bytes.
    fn bytes(&self) -> usize;
    /// Reads an index. Relaxed.
    fn read_index(&self, at: usize) -> u32;
    /// Writes an index. Relaxed.
    fn write_index(&self, at: usize, value: u32);
    /// Copies out of a slot.
    fn read(&self, at: usize, buffer: &mut [u8]);
    /// Copies into a slot.
    fn write(&self, at: usize, bytes: &[u8]);
}

/// Slots of `slot` bytes in a ring of `bytes` bytes: as many as fit, rounded down to a power of two
/// (`__RING_SIZE`). 0 where none fits.
#[must_use]
pub const fn entries(bytes: usize, slot: usize) -> u32 {
    if slot == 0 || bytes < SLOTS + slot {
        return 0;
    }
    let fit = (bytes - SLOTS) / slot;
    if fit > u32::MAX as usize / 2 { 0 } else { 1 << fit.ilog2() }
}

/// Whether all requests in a ring are answered, of which this is the first page: for who is neither of its ends.
#[must_use]
pub fn is_idle(first: &SharedPage) -> bool {
    first.read_u32(REQ_PROD) == first.read_u32(RSP_PROD)
}

/// A ring's memory cut into slots.
#[derive(Clone, Debug)]
struct Slots<M> {
    memory: M,
    slot: usize,
    entries: u32,
}

impl<M: RingMemory> Slots<M> {
    fn new(memory: M, slot: usize) -> Result<Slots<M>, RingError> {
        let entries = entries(memory.bytes(), slot);
        if entries == 0 { Err(RingError::Shape) } else { Ok(Slots { memory, slot, entries }) }
    }

    fn at(&self, index: u32) -> usize {
        SLOTS + (index & (self.entries - 1)) as usize * self.slot
    }

    fn read(&self, index: u32, buffer: &mut [u8]) {
        let len = buffer.len().min(self.slot);
        self.memory.read(self.at(index), &mut buffer[..len]);
    }

    fn write(&self, index: u32, bytes: &[u8]) {
        self.memory.write(self.at(index), &bytes[..bytes.len().min(self.slot)]);
    }
}

/// Whether a half that published `old..new` must notify the other, which asked for it at `event`.
const fn crosses(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}
