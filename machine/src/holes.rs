//! Which pages of a guest's RAM it has given back to the host.

use alloc::boxed::Box;
use arch::addr::PAGE_SIZE;
use arch::ram::HIGH_RAM;
use arch::{GuestPhys, GuestRam};
use core::sync::atomic::{AtomicU64, Ordering};

/// A bit for each page of RAM: set where there is none behind it now.
#[derive(Debug)]
pub struct Holes {
    // Fixed
    low_pages: u64,
    pages: u64,
    // Guest-visible
    bits: Box<[AtomicU64]>,
    absent: AtomicU64,
}

impl Holes {
    /// None in this RAM.
    #[must_use]
    pub fn new(ram: &GuestRam) -> Holes {
        let low_pages = ram.low_size() / PAGE_SIZE;
        let pages = low_pages + ram.high_size() / PAGE_SIZE;
        let bits = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Holes { low_pages, pages, bits, absent: AtomicU64::new(0) }
    }

    /// Pages of RAM, given back or not.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that were given back.
    #[must_use]
    pub fn absent(&self) -> u64 {
        self.absent.load(Ordering::Relaxed)
    }

    /// Whether the page at `at` was given back. Outside RAM nothing was.
    #[must_use]
    pub fn is_absent(&self, at: GuestPhys) -> bool {
        self.place(at).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Notes that a page is given back. False: it is no RAM, or was given back before.
    pub fn take(&self, at: GuestPhys) -> bool {
        let Some((word, bit)) = self.place(at) else { return false };
        let fresh = word.fetch_or(bit, Ordering::AcqRel) & bit == 0;
        self.absent.fetch_add(u64::from(fresh), Ordering::Relaxed);
        fresh
    }

    /// Notes that a page is there again.
    pub fn put(&self, at: GuestPhys) {
        let Some((word, bit)) = self.place(at) else { return };
        let was = word.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        self.absent.fetch_sub(u64::from(was), Ordering::Relaxed);
    }

    /// All pages are there again. Nobody takes or puts one meanwhile.
    pub fn clear(&self) {
        self.bits.iter().for_each(|word| word.store(0, Ordering::Release));
        self.absent.store(0, Ordering::Relaxed);
    }

    /// Pages that were given back, in order.
    pub fn iter(&self) -> impl Iterator<Item = GuestPhys> + '_ {
        let words = (0u64..).zip(&self.bits).filter(|(_, word)| word.load(Ordering::Acquire) != 0);
        let pages = words.flat_map(|(n, word)| {
            let bits = word.load(Ordering::Acquire);
            (0..64).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| n * 64 + bit)
        });
        pages.map(|page| match page.checked_sub(self.low_pages) {
            None => GuestPhys(page * PAGE_SIZE),
            Some(high) => GuestPhys(HIGH_RAM + high * PAGE_SIZE),
        })
    }

    fn place(&self, at: GuestPhys) -> Option<(&AtomicU64, u64)> {
        let low = at.0 / PAGE_SIZE;
        let page = match at.0.checked_sub(HIGH_RAM) {
            Some(high) => self.low_pages.checked_add(high / PAGE_SIZE)?,
            None if low < self.low_pages => low,
            None => return None,
        };
        let word = self.bits.get((page / 64) as usize).filter(|_| page < self.pages)?;
        Some((word, 1 << (page % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pages_on_both_sides_of_the_hole_are_counted_and_listed() {
        let cells = |bytes: usize| {
            Vec::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<AtomicU64>>())
        };
        let holes = Holes::new(&GuestRam::new(cells(0x46000), cells(0x3000)));
        let places = [0x1000, 0x45000, HIGH_RAM, HIGH_RAM + 0x2000].map(GuestPhys);
        for at in places {
            assert!(!holes.is_absent(at) && holes.take(at) && holes.is_absent(at));
            assert!(!holes.take(at), "twice");
        }
        for at in [0x46000, HIGH_RAM - 0x1000, HIGH_RAM + 0x3000, u64::MAX].map(GuestPhys) {
            assert!(!holes.take(at) && !holes.is_absent(at));
        }
        assert_eq!(holes.iter().collect::<Vec<_>>(), places);
        assert_eq!((holes.pages(), holes.absent()), (0x49, 4));
        holes.put(places[2]);
        holes.put(places[2]);
        assert_eq!(holes.absent(), 3);
        holes.clear();
        assert!(holes.absent() == 0 && places.iter().all(|at| !holes.is_absent(*at)));
    }
}
