//! What a guest owes that gets its memory as it touches it: frames that are set aside, pages that have none, and where a
//! frame goes that it gives back. Who changes the window accordingly: `domain/demand.rs`.

use alloc::vec::Vec;
use arch::HostPhys;

/// Pages that one sweep looks at closely.
pub const SWEEP: usize = 128;

/// A page on its way: its guest-physical address, and the frame that was behind it.
pub type Page = (u64, HostPhys);

/// One guest's account.
#[derive(Debug)]
pub struct Debt {
    /// Frames for pages that are owed. There is room for the whole budget, so that nothing allocates.
    pub pool: Vec<HostPhys>,
    /// Pages that are owed.
    pub owed: u64,
    /// Frames of the host's that the guest has beyond its budget.
    pub over: u64,
    /// Pages that a sweep has taken out to look at them. Who wants one takes it back.
    pub transit: heapless::Vec<Page, SWEEP>,
}

impl Debt {
    /// Nothing is owed. `pool` has room for the budget.
    #[must_use]
    pub const fn new(pool: Vec<HostPhys>) -> Debt {
        Debt { pool, owed: 0, over: 0, transit: heapless::Vec::new() }
    }

    /// A frame that the guest has no more: it pays what is owed. What is then to go to the host.
    #[must_use]
    pub fn receive(&mut self, frame: HostPhys) -> Option<HostPhys> {
        let room = self.pool.len() < self.pool.capacity();
        if self.over > 0 {
            self.over -= 1;
        } else if room && (self.pool.len() as u64) < self.owed {
            self.pool.push(frame);
            return None;
        }
        Some(frame)
    }

    /// A frame that is in the pool beyond what is owed.
    #[must_use]
    pub fn surplus(&mut self) -> Option<HostPhys> {
        if self.pool.len() as u64 > self.owed { self.pool.pop() } else { None }
    }

    /// The page's frame, if a sweep has it; it has it no more.
    #[must_use]
    pub fn recall(&mut self, page: u64) -> Option<HostPhys> {
        let at = self.transit.iter().position(|(on_its_way, _)| *on_its_way == page)?;
        Some(self.transit.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(pool: u64, owed: u64, over: u64) -> Debt {
        let mut frames = Vec::with_capacity(4);
        frames.extend((0..pool).map(|n| HostPhys(n << 12)));
        Debt { pool: frames, owed, over, transit: heapless::Vec::new() }
    }

    #[test]
    fn what_a_guest_gives_back_pays_what_it_has_beyond_its_budget_and_then_what_is_owed() {
        let frame = HostPhys(0x9000);
        let mut debtor = debt(1, 3, 1);
        assert_eq!((debtor.receive(frame), debtor.over), (Some(frame), 0), "the host's own");
        assert_eq!((debtor.receive(frame), debtor.pool.len()), (None, 2));
        assert_eq!((debtor.receive(frame), debtor.pool.len()), (None, 3));
        assert_eq!(debtor.receive(frame), Some(frame), "all that is owed is covered");
        assert_eq!(
            debt(4, 9, 0).receive(frame),
            Some(frame),
            "there is no room: nothing allocates"
        );
    }

    #[test]
    fn a_debt_that_is_forgiven_leaves_a_frame_to_the_host() {
        let mut debtor = debt(2, 3, 0);
        assert_eq!(debtor.surplus(), None);
        debtor.owed = 1;
        assert!(debtor.surplus().is_some());
        assert_eq!((debtor.surplus(), debtor.pool.len()), (None, 1));
    }

    #[test]
    fn a_page_that_a_sweep_looks_at_is_taken_back_once() {
        let mut debtor = debt(0, 0, 0);
        let pages = [(0x1000, HostPhys(0x5000)), (0x2000, HostPhys(0x6000))];
        pages.iter().for_each(|page| debtor.transit.push(*page).unwrap());
        assert_eq!(debtor.recall(0x1000), Some(HostPhys(0x5000)));
        assert_eq!((debtor.recall(0x1000), debtor.transit.len()), (None, 1));
    }
}
