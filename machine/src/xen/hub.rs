//! What guests share: event channels, grants, and each other's memory as far as it is granted.

use super::shared::Shared;
use crate::holes::Holes;
use alloc::sync::Arc;
use arch::addr::PAGE_SIZE;
use arch::{GuestPhys, GuestRam, SharedPage};
use core::sync::atomic::AtomicU64;
use pvdrivers::event::EventChannels;
use pvdrivers::grant::{Frames, GrantTables};
use pvdrivers::sorted::SortedMap;
use pvdrivers::{DomId, Errno, fbback};

/// The shared state. Locks are taken one at a time, each for one operation, and never across a call to a
/// [`Host`](crate::Host); `memories` may be taken under `grants`.
pub struct Hub {
    /// Event channels of all domains.
    pub events: Shared<EventChannels>,
    /// Grant tables of all domains.
    pub grants: Shared<GrantTables>,
    /// RAM of all domains.
    pub memories: Memories,
}

impl Hub {
    /// Without guests. `who` tells the number of the CPU that calls it, for [`Shared::holder`].
    #[must_use]
    pub fn new(who: fn() -> usize) -> Hub {
        Hub {
            events: Shared::new(EventChannels::default(), who),
            grants: Shared::new(GrantTables::default(), who),
            memories: Memories::new(who),
        }
    }

    /// One where guests' copies between pages are made by the host's `copy`, of as many words as both have.
    #[must_use]
    pub fn copying_by(mut self, copy: fn(&[AtomicU64], &[AtomicU64])) -> Hub {
        self.memories.copy = copy;
        self
    }
}

/// The RAM of all domains, for who works on granted pages and on pages that are named by number.
pub struct Memories {
    /// All RAM, and which pages of it are not there.
    pub rams: Shared<SortedMap<DomId, (GuestRam, Arc<Holes>)>>,
    /// How often a page is held by number.
    pub held: Shared<SortedMap<(DomId, u64), u32>>,
    copy: fn(&[AtomicU64], &[AtomicU64]),
}

impl Memories {
    /// Without guests; `who` as for the [`Hub`].
    #[must_use]
    pub const fn new(who: fn() -> usize) -> Memories {
        Memories {
            rams: Shared::new(SortedMap::new(), who),
            held: Shared::new(SortedMap::new(), who),
            copy: arch::ram::copy_words,
        }
    }

    /// Notes where a domain's RAM is, and which pages of it are not there.
    pub(crate) fn insert(&self, dom: DomId, ram: GuestRam, holes: Arc<Holes>) {
        self.rams.lock().insert(dom, (ram, holes));
    }

    /// Does `take` for a page unless a back end holds it; nobody begins to hold it meanwhile.
    pub(crate) fn unless_held(&self, dom: DomId, frame: u64, take: impl FnOnce() -> bool) -> bool {
        let held = self.held.lock();
        !held.contains_key(&(dom, frame)) && take()
    }

    /// Whether a back end works on a page that is not granted: it must stay the domain's.
    #[must_use]
    pub fn holds_frame(&self, dom: DomId, frame: u64) -> bool {
        self.held.lock().contains_key(&(dom, frame))
    }
}

impl fbback::Frames for &Memories {
    fn hold(&mut self, owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno> {
        let number = frame.0 / PAGE_SIZE;
        // Under the lock: the page may be about to be given back.
        let mut held = self.held.lock();
        let page = self.page(owner, number).ok_or(Errno::EFAULT)?;
        *held.get_or_insert_with((owner, number), || 0) += 1;
        Ok(page)
    }

    fn let_go(&mut self, owner: DomId, frame: GuestPhys) {
        let mut held = self.held.lock();
        let key = (owner, frame.0 / PAGE_SIZE);
        if let Some(times) = held.get_mut(&key) {
            *times -= 1;
            if *times == 0 {
                held.remove(&key);
            }
        }
    }
}

impl Frames for Memories {
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage> {
        let at = GuestPhys(frame.checked_mul(4096)?);
        let memories = self.rams.lock();
        let (ram, holes) = memories.get_near(dom.place(), &dom)?;
        ram.page(at).filter(|_| !holes.is_absent(at))
    }

    fn copy(&self, to: &[AtomicU64], from: &[AtomicU64]) {
        (self.copy)(to, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use fbback::Frames as _;

    #[test]
    fn a_page_that_is_held_by_number_is_known_until_it_was_given_back_as_often() {
        let memories = Memories::new(|| 0);
        let dom = DomId(1);
        let words: Vec<AtomicU64> = (0..16 * PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let ram = GuestRam::new(words.leak(), &[]);
        memories.insert(dom, ram, Arc::new(Holes::new(&ram)));
        let page = GuestPhys(3 * PAGE_SIZE);
        let mut frames = &memories;
        assert!(frames.hold(dom, page).is_ok() && frames.hold(dom, page).is_ok());
        assert_eq!(frames.hold(dom, GuestPhys(16 * PAGE_SIZE)).err(), Some(Errno::EFAULT));
        assert_eq!(frames.hold(DomId(2), page).err(), Some(Errno::EFAULT));
        frames.let_go(dom, page);
        assert!(memories.holds_frame(dom, 3) && !memories.holds_frame(dom, 4));
        frames.let_go(dom, page);
        assert!(!memories.holds_frame(dom, 3));
        // What was never held changes nothing.
        frames.let_go(dom, page);
    }
}
