//! Which station is behind which port, as learned from sources: sets of four places, the oldest of
//! which makes room. So a station that sends from many addresses costs others a flood, not memory.

use super::{Mac, PortId};
use arch::Nanos;

/// Nanoseconds after which an address that was not heard of is forgotten: IEEE 802.1D "Ageing time".
pub const AGEING_NS: u64 = 300_000_000_000;
/// Sets.
const SETS: usize = 128;
/// Places of a set.
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Mac,
    port: PortId,
    heard: Nanos,
}

/// Which entries count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Heard of within [`AGEING_NS`].
    Fresh,
    /// All that take a place.
    Any,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Table([[Option<Entry>; WAYS]; SETS]);

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Table {
        Table([[None; WAYS]; SETS])
    }

    /// FNV-1a, folded.
    pub(super) fn set(mac: &Mac) -> usize {
        let hash = mac
            .iter()
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        (hash ^ hash >> 16) as usize % SETS
    }

    /// Where a station is.
    #[must_use]
    pub fn find(&self, mac: &Mac, now: Nanos) -> Option<PortId> {
        let entry = self.0[Self::set(mac)].iter().flatten().find(|entry| entry.mac == *mac)?;
        (now.since(entry.heard) < AGEING_NS).then_some(entry.port)
    }

    /// A station was heard of at a port.
    pub fn learn(&mut self, mac: &Mac, port: PortId, now: Nanos) {
        let set = &mut self.0[Self::set(mac)];
        let known = set.iter().position(|place| place.is_some_and(|entry| entry.mac == *mac));
        // The empty and the oldest first.
        let oldest = || {
            let age = |n: &usize| set[*n].map(|entry| entry.heard);
            (0..WAYS).min_by_key(age).unwrap_or(0)
        };
        let place = known.unwrap_or_else(oldest);
        set[place] = Some(Entry { mac: *mac, port, heard: now });
    }

    /// Forgets whoever is behind a port.
    pub fn forget_port(&mut self, port: PortId) {
        self.forget(|entry| entry.port == port);
    }

    /// Forgets a station.
    pub fn forget_address(&mut self, mac: &Mac) {
        self.forget(|entry| entry.mac == *mac);
    }

    fn forget(&mut self, which: impl Fn(&Entry) -> bool) {
        for place in self.0.iter_mut().flatten() {
            if place.as_ref().is_some_and(&which) {
                *place = None;
            }
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self, age: Age, now: Nanos) -> usize {
        let counts = |entry: &&Entry| age == Age::Any || now.since(entry.heard) < AGEING_NS;
        self.0.iter().flatten().flatten().filter(counts).count()
    }
}
