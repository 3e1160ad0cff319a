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
    /// Key in `idle` while there are none.
    stamp: u64,
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
    /// Kept pins without users, by when they were last used.
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
            self.idle.remove(&kept.stamp);
            kept.users += 1;
            self.hits += 1;
            return Ok((Held::Kept(*number), View::of(&kept.pinned)));
        }
        if self.make_room(grants)
            && let Ok(pinned) = grants.pin(self.owner, reference, self.user, GrantAccess::Write)
        {
            let view = View::of(&pinned);
            let number = self.number();
            self.kept.insert(number, Kept { pinned, users: 1, stamp: 0, doomed: false });
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
        let Some((_, number)) = self.idle.pop_first() else { return false };
        let Some(kept) = self.kept.remove(&number) else { return false };
        self.by_reference.remove(&kept.pinned.reference);
        grants.unpin(kept.pinned);
        true
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
        self.idle.insert(stamp, number);
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
