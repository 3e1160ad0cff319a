//! A grant table without a hypervisor: who granted what, and what is in use.

use super::page;
use arch::{GuestPhys, SharedPage};
use pvdrivers::{DomId, Errno, GrantAccess, GrantRef, Grants, Pinned};
use std::collections::HashMap;

#[derive(Debug)]
struct Entry {
    page: SharedPage,
    frame: GuestPhys,
    read_only: bool,
    bytes: (u16, u16),
    pins: u32,
}

/// Grants of any domains. Panics where a back end gives back what it does not have.
#[derive(Debug, Default)]
pub struct FakeGrants {
    entries: HashMap<(DomId, GrantRef), Entry>,
    next: u32,
    pinned: usize,
    /// Pins so far.
    pub taken: u64,
    /// So many more pins are given, then none.
    pub allow: Option<u32>,
}

impl FakeGrants {
    /// A table without grants.
    #[must_use]
    pub fn new() -> FakeGrants {
        FakeGrants { next: 8, ..FakeGrants::default() }
    }

    /// Grants a page of `owner`.
    pub fn grant(&mut self, owner: DomId, page: SharedPage, read_only: bool) -> GrantRef {
        self.grant_part(owner, page, read_only, (0, 4096))
    }

    /// Grants the bytes from the first to before the second.
    pub fn grant_part(
        &mut self,
        owner: DomId,
        page: SharedPage,
        read_only: bool,
        bytes: (u16, u16),
    ) -> GrantRef {
        let reference = GrantRef(self.next);
        self.next += 1;
        let frame = GuestPhys(u64::from(reference.0) << 12);
        self.entries.insert((owner, reference), Entry { page, frame, read_only, bytes, pins: 0 });
        reference
    }

    /// A new page, and its grant for writing.
    pub fn page(&mut self, owner: DomId) -> (SharedPage, GrantRef) {
        let page = page();
        (page, self.grant(owner, page, false))
    }

    /// Ends a grant. `false` where the page is in use.
    pub fn end(&mut self, owner: DomId, reference: GrantRef) -> bool {
        let key = (owner, reference);
        if self.entries.get(&key).is_none_or(|entry| entry.pins > 0) {
            return false;
        }
        self.entries.remove(&key).is_some()
    }

    /// Pages in use.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.pinned
    }
}

impl Grants for FakeGrants {
    fn pin(
        &mut self,
        owner: DomId,
        reference: GrantRef,
        _user: DomId,
        access: GrantAccess,
    ) -> Result<Pinned, Errno> {
        if let Some(allow) = &mut self.allow {
            *allow = allow.checked_sub(1).ok_or(Errno::ENOMEM)?;
        }
        let entry = self.entries.get_mut(&(owner, reference)).ok_or(Errno::ENOENT)?;
        if entry.read_only && access == GrantAccess::Write {
            return Err(Errno::EACCES);
        }
        entry.pins += 1;
        self.pinned += 1;
        self.taken += 1;
        let Entry { page, frame, bytes, .. } = *entry;
        Ok(Pinned { page, owner, frame, reference, access, bytes })
    }

    fn unpin(&mut self, pinned: Pinned) {
        let entry = self.entries.get_mut(&(pinned.owner, pinned.reference));
        let entry = entry.expect("a grant in use cannot end");
        entry.pins = entry.pins.checked_sub(1).expect("given back more often than taken");
        self.pinned -= 1;
    }
}
