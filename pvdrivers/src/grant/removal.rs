//! The end of a domain: its own mappings go, and its pages are taken from whoever still uses them. A pin goes
//! only after the page is in no second-level table and no TLB any more, on both sides.

use super::GrantTables;
use crate::DomId;
use arch::GuestPhys;

/// Mappings looked at in one call of [`GrantTables::remove_domain`].
const MAPS_PER_STEP: u32 = 512;

/// How far the removal of a domain came.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Call again; let others go first.
    Again,
    /// A page is still mapped, another's in the domain itself or one of the domain's in another guest: put
    /// nothing or an empty page in its place, flush the TLBs, call [`GrantTables::revoked`], and then this
    /// again.
    Revoke {
        /// In whose memory map; the dying domain for another's page in it.
        user: DomId,
        /// The mapping's number.
        handle: u32,
        /// Where.
        at: GuestPhys,
    },
    /// Back ends of the hypervisor still hold so many of its grants. Tell them to stop, and call
    /// again when they have. Until then none of the domain's memory may go to anyone else.
    Pinned {
        /// How many.
        grants: u32,
    },
    /// It is gone; the pages of its table are the caller's again.
    Done,
}

impl GrantTables {
    /// Takes a guest out, a step in each call. Its vCPUs must not run any more. From the first call
    /// on nobody begins to use its grants. A domain that is not there is done.
    pub fn remove_domain(&mut self, dom: DomId) -> Removal {
        let Some(table) = self.tables.get_mut(&dom) else { return Removal::Done };
        table.dying = true;
        if let Some(step) = self.find_own_map(dom) {
            return step;
        }
        if let Some(step) = self.find_foreign_map(dom) {
            return step;
        }
        let grants = self.tables.get(&dom).map_or(0, |table| table.in_use());
        if grants > 0 {
            return Removal::Pinned { grants };
        }
        self.tables.remove(&dom);
        Removal::Done
    }

    /// A mapping of a page of dying `owner`'s, or one in its own memory, has been taken away, from the TLBs
    /// too. Another user may still unmap the handle. Nothing happens where the user did so meanwhile, and
    /// has the number for something else.
    pub fn revoked(&mut self, owner: DomId, user: DomId, handle: u32) {
        if !self.tables.get(&owner).is_some_and(|table| table.dying) {
            return;
        }
        let Ok(table) = self.table(user) else { return };
        if user == owner {
            if let Some(map) = table.maps.remove(handle)
                && !map.revoked
            {
                self.release(map.owner, map.reference, map.write);
            }
            return;
        }
        let Some(map) = table.maps.get_mut(handle) else { return };
        if map.owner != owner || core::mem::replace(&mut map.revoked, true) {
            return;
        }
        let (reference, write) = (map.reference, map.write);
        self.release(owner, reference, write);
    }

    /// The next mapping of the domain's own that still is there.
    fn find_own_map(&mut self, dom: DomId) -> Option<Removal> {
        for _ in 0..MAPS_PER_STEP {
            let maps = &mut self.tables.get_mut(&dom)?.maps;
            let (handle, map) = maps.last()?;
            if !map.revoked {
                return Some(Removal::Revoke { user: dom, handle, at: map.at });
            }
            maps.remove(handle);
        }
        Some(Removal::Again)
    }

    /// The next mapping of the domain's pages in others. Nobody maps them anew, so that one pass
    /// does.
    fn find_foreign_map(&mut self, dom: DomId) -> Option<Removal> {
        let (mut user, mut handle) = self.tables.get(&dom)?.sweep;
        let mut found = None;
        let mut left = MAPS_PER_STEP;
        while found.is_none() && left > 0 {
            // The sweep's user may be gone; then the next one.
            let Some((&next, table)) = self.tables.range(user..).next() else { break };
            if next != user {
                (user, handle) = (next, 0);
            }
            while handle < table.maps.end() && left > 0 {
                left -= 1;
                if let Some(map) = table.maps.get(handle)
                    && map.owner == dom
                    && !map.revoked
                {
                    found = Some(Removal::Revoke { user, handle, at: map.at });
                    break;
                }
                handle += 1;
            }
            if found.is_none() && handle >= table.maps.end() {
                (user, handle) = (DomId(user.0.saturating_add(1)), 0);
                left = left.saturating_sub(1);
            }
        }
        self.tables.get_mut(&dom)?.sweep = (user, handle);
        let more = || self.tables.range(user..).next().is_some();
        found.or_else(|| (left == 0 && more()).then_some(Removal::Again))
    }
}
