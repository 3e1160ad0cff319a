//! Pins of the pages of requests, and the ones that are kept because the front end uses the same
//! grants again ("persistent grants"). Bounded; the one that was unused longest goes first.

use crate::errno::Errno;
use crate::seam::{DomId, GrantAccess, GrantRef, Grants, Pinned};
use alloc::collections::BTreeMap;
use arch::{GuestPhys, SharedPage};

/// A page that a request uses. Give it back with [`Keeper::release`].
#[must_use]
#[derive(Debug)]
pub(super) enum Held {
    /// Pinned for this request.
    Own(Pinned),
    /// One of the kept pins, by its number.
    Kept(u64),
}

/// What a request needs of a held page.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub page: SharedPage,
    pub owner: DomId,
    pub frame: GuestPhys,
    bytes: (u16, u16),
}

impl View {
    fn of(pinned: &Pinned) -> View {
        View { page: pinned.page, owner: pinned.owner, frame: pinned.frame, bytes: pinned.bytes }
    }

    /// Whether the bytes are granted.
    pub fn grants(&self, first: u16, end: u16) -> bool {
        self.bytes.0 <= first && end <= self.bytes.1
    }
}

#[derive(Debug)]
struct Kept {
    pinned: Pinned,
    /// Requests that use it now.
    users: u32,
    /// When it was last given back.
    stamp: u64,
    /// It stands in `idle`.
    listed: bool,
    /// The front end has gone: give it back after the last user.
    doomed: bool,
}

/// All pins of one device's requests.
#[derive(Debug)]
pub(super) struct Keeper {
    owner: DomId,
    user: DomId,
    /// Most pins to keep; 0 where the front end does not use grants again.
    limit: usize,
    kept: BTreeMap<u64, Kept>,
    by_reference: BTreeMap<GrantRef, u64>,
    /// Kept pins by when they were given back, but for those that have been used since they were listed: who looks for
    /// the oldest lists these anew, so that a use changes nothing here.
    idle: BTreeMap<u64, u64>,
    /// Counts kept pins and uses.
    next: u64,
    /// Pins that belong to requests.
    own: usize,
    /// Uses that found a kept pin.
    pub hits: u64,
}

impl Keeper {
    pub fn new(owner: DomId, user: DomId) -> Keeper {
        Keeper {
            owner,
            user,
            limit: 0,
            kept: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            idle: BTreeMap::new(),
            next: 0,
            own: 0,
            hits: 0,
        }
    }

    /// From now on keeps so many pins.
    pub fn keep(&mut self, limit: u32) {
        self.limit = limit as usize;
    }

    /// Pages pinned now.
    pub fn count(&self) -> usize {
        self.kept.len() + self.own
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A page for a request.
    pub fn hold(
        &mut self,
        grants: &mut impl Grants,
        reference: GrantRef,
        access: GrantAccess,
    ) -> Result<(Held, View), Errno> {
        if let Some(number) = self.by_reference.get(&reference)
            && let Some(kept) = self.kept.get_mut(number)
        {
            kept.users += 1;
            self.hits += 1;
            return Ok((Held::Kept(*number), View::of(&kept.pinned)));
        }
        if self.make_room(grants)
            && let Ok(pinned) = grants.pin(self.owner, reference, self.user, GrantAccess::Write)
        {
            let view = View::of(&pinned);
            let number = self.number();
            self.kept
                .insert(number, Kept { pinned, users: 1, stamp: 0, listed: false, doomed: false });
            self.by_reference.insert(reference, number);
            return Ok((Held::Kept(number), view));
        }
        let pinned = grants.pin(self.owner, reference, self.user, access)?;
        self.own += 1;
        let view = View::of(&pinned);
        Ok((Held::Own(pinned), view))
    }

    /// Whether one more pin may be kept, perhaps instead of another.
    fn make_room(&mut self, grants: &mut impl Grants) -> bool {
        if self.by_reference.len() < self.limit {
            return true;
        }
        self.limit > 0 && self.drop_oldest(grants)
    }

    /// Gives back the kept pin that was unused longest. `false` where all are in use.
    fn drop_oldest(&mut self, grants: &mut impl Grants) -> bool {
        while let Some((stamp, number)) = self.idle.pop_first() {
            let Some(kept) = self.kept.get_mut(&number) else { continue };
            if kept.users > 0 {
                // Listed again when it is given back.
                kept.listed = false;
            } else if kept.stamp != stamp {
                self.idle.insert(kept.stamp, number);
            } else if let Some(kept) = self.kept.remove(&number) {
                self.by_reference.remove(&kept.pinned.reference);
                grants.unpin(kept.pinned);
                return true;
            }
        }
        false
    }

    /// Gives a request's page back, or keeps it for the next one.
    pub fn release(&mut self, grants: &mut impl Grants, held: Held) {
        let number = match held {
            Held::Own(pinned) => {
                self.own -= 1;
                grants.unpin(pinned);
                return;
            }
            Held::Kept(number) => number,
        };
        let stamp = self.number();
        let Some(kept) = self.kept.get_mut(&number) else { return };
        kept.users -= 1;
        if kept.users > 0 {
            return;
        }
        if kept.doomed {
            if let Some(kept) = self.kept.remove(&number) {
                grants.unpin(kept.pinned);
            }
            return;
        }
        kept.stamp = stamp;
        if !kept.listed {
            kept.listed = true;
            self.idle.insert(stamp, number);
        }
    }

    /// The front end has gone: gives back all that no request uses, and the others when they end.
    pub fn close(&mut self, grants: &mut impl Grants) {
        self.limit = 0;
        while self.drop_oldest(grants) {}
        self.by_reference.clear();
        for kept in self.kept.values_mut() {
            kept.doomed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Gives any page, and notes which came back.
    struct Pages {
        page: SharedPage,
        back: Vec<u32>,
    }

    impl Grants for Pages {
        fn pin(
            &mut self,
            owner: DomId,
            reference: GrantRef,
            _user: DomId,
            access: GrantAccess,
        ) -> Result<Pinned, Errno> {
            let (page, frame, bytes) = (self.page, GuestPhys(0), (0, 4096));
            Ok(Pinned { page, owner, frame, reference, access, bytes })
        }

        fn unpin(&mut self, pinned: Pinned) {
            self.back.push(pinned.reference.0);
        }
    }

    fn use_of(keeper: &mut Keeper, pages: &mut Pages, reference: u32) -> Held {
        keeper.hold(pages, GrantRef(reference), GrantAccess::Write).unwrap().0
    }

    #[test]
    fn the_pin_that_was_unused_longest_goes_first_and_one_in_use_stays() {
        let cells = Box::leak(Box::new([const { AtomicU64::new(0) }; 512]));
        let mut pages = Pages { page: SharedPage::new(cells), back: Vec::new() };
        let mut keeper = Keeper::new(DomId(1), DomId(0));
        keeper.keep(3);
        for reference in [10, 11, 12] {
            let held = use_of(&mut keeper, &mut pages, reference);
            keeper.release(&mut pages, held);
        }
        // 10 is used again, 11 stays in use: 12 is the oldest, and then 10.
        let again = use_of(&mut keeper, &mut pages, 10);
        let used = use_of(&mut keeper, &mut pages, 11);
        keeper.release(&mut pages, again);
        let first = use_of(&mut keeper, &mut pages, 13);
        assert_eq!(pages.back, [12]);
        let second = use_of(&mut keeper, &mut pages, 14);
        assert_eq!(pages.back, [12, 10]);
        // All are in use: the next is pinned for its request alone.
        let alone = use_of(&mut keeper, &mut pages, 15);
        assert!(matches!(alone, Held::Own(_)));
        keeper.release(&mut pages, alone);
        assert_eq!(pages.back, [12, 10, 15]);
        // What is given back can go again, also what was in use when the oldest was looked for.
        keeper.release(&mut pages, used);
        keeper.release(&mut pages, second);
        let third = use_of(&mut keeper, &mut pages, 16);
        assert_eq!(pages.back, [12, 10, 15, 11]);
        keeper.release(&mut pages, third);
        keeper.close(&mut pages);
        assert_eq!(pages.back, [12, 10, 15, 11, 14, 16], "but for the one in use");
        keeper.release(&mut pages, first);
        assert_eq!((pages.back.last(), keeper.count()), (Some(&13), 0));
        assert_eq!(keeper.hits, 2);
    }
}
