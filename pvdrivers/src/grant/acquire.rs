//! Beginning and ending the use of a grant: marks in the shared entry, counts, and grants passed
//! on.

use super::shared::{Granted, Version};
use super::table::{Active, Table};
use super::{Frames, GrantTables};
use crate::DomId;
use crate::abi::grant_table::GrantStatus;
use arch::SharedPage;

/// Users of one grant for one purpose.
const MOST_USERS: u32 = u16::MAX as u32;

/// Who wants to use which grant, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub owner: DomId,
    pub reference: u32,
    pub user: DomId,
    pub write: bool,
    /// The page is mapped, not only copied.
    pub mapping: bool,
    /// A grant that passes another on will do.
    pub onward: bool,
}

/// What the use of a grant gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub page: SharedPage,
    pub frame: u64,
    pub bytes: (u16, u16),
}

impl GrantTables {
    /// Begins the use of a grant. [`release`](GrantTables::release) ends it.
    #[inline(always)]
    pub(super) fn acquire(
        &mut self,
        wanted: &Use,
        frames: &impl Frames,
    ) -> Result<Held, GrantStatus> {
        let table = self.table(wanted.owner)?;
        if !is_first(table, wanted) {
            return self.acquire_more(wanted, frames);
        }
        let held = begin(table, wanted, frames)?;
        let Use { reference, user, write, .. } = *wanted;
        let (readers, writers) = if write { (0, 1) } else { (1, 0) };
        let Held { page, frame, bytes } = held;
        let part = bytes != WHOLE;
        let onward = None;
        let active = Active { reference, user, readers, writers, page, frame, bytes, part, onward };
        if table.activate(active).is_none() {
            table.settle(reference);
            return Err(GrantStatus::NO_SPACE);
        }
        Ok(held)
    }

    /// As [`acquire`](GrantTables::acquire), of a grant that is in use already, is passed on, or cannot be had.
    #[inline(never)]
    pub(super) fn acquire_more(
        &mut self,
        wanted: &Use,
        frames: &impl Frames,
    ) -> Result<Held, GrantStatus> {
        let Use { owner, reference, user, write, mapping, onward } = *wanted;
        let table = self.table(owner)?;
        if table.dying {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if reference >= table.shared.entries() {
            return Err(GrantStatus::BAD_GNTREF);
        }
        let old = table.active(reference).copied();
        if let Some(old) = old {
            let full = old.readers.max(old.writers) >= MOST_USERS;
            if old.user != user || full || (mapping && old.part) {
                return Err(GrantStatus::GENERAL_ERROR);
            }
        }
        // What is not in use comes here only where it is passed on.
        let passed_on = old.is_none_or(|old| old.onward.is_some());
        if passed_on && !onward {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if old.is_none_or(|old| write && old.writers == 0) {
            mark(table, wanted, old.is_some())?;
        }
        let found = match old {
            Some(old) if old.onward.is_none() && (!write || old.writers > 0) => Ok(old),
            _ => self.find(wanted, old, passed_on, frames),
        };
        let table = self.table(owner)?;
        let found = found.inspect_err(|_| table.settle(reference))?;
        if old.is_none() && table.activate(found).is_none() {
            table.settle(reference);
            if let Some((dom, target)) = found.onward {
                self.release(dom, target, write);
            }
            return Err(GrantStatus::NO_SPACE);
        }
        let active = table.active_mut(reference).ok_or(GrantStatus::GENERAL_ERROR)?;
        *(if write { &mut active.writers } else { &mut active.readers }) += 1;
        Ok(Held { page: active.page, frame: active.frame, bytes: active.bytes })
    }

    /// Begins a use that ends by [`settle`](super::table::Table::settle) before anybody else sees
    /// the table: marked, but not counted. `None`: it takes [`acquire_more`](GrantTables::acquire_more).
    #[inline]
    pub(super) fn touch(
        &mut self,
        wanted: &Use,
        frames: &impl Frames,
    ) -> Result<Option<Held>, GrantStatus> {
        let table = self.table(wanted.owner)?;
        if !is_first(table, wanted) {
            return Ok(None);
        }
        begin(table, wanted, frames).map(Some)
    }

    /// What a marked entry grants.
    fn find(
        &mut self,
        wanted: &Use,
        old: Option<Active>,
        passed_on: bool,
        frames: &impl Frames,
    ) -> Result<Active, GrantStatus> {
        let granted = self.table(wanted.owner)?.shared.granted(wanted.reference);
        match granted {
            Some(Granted::Onward(dom, target)) if passed_on => {
                self.pass_on(wanted, old, dom, target, frames)
            }
            // Used for reading so far. It must be the same page that is granted for writing.
            Some(Granted::Page(frame, first, end)) if !passed_on => old
                .filter(|old| old.frame == frame && old.bytes == (first, end))
                .ok_or(GrantStatus::GENERAL_ERROR),
            // The entry became of another kind since it was looked at.
            _ => Err(GrantStatus::GENERAL_ERROR),
        }
    }

    /// The page of a grant that the owner passes on. Only one step: what it points to must be a
    /// page.
    fn pass_on(
        &mut self,
        wanted: &Use,
        old: Option<Active>,
        dom: DomId,
        target: u32,
        frames: &impl Frames,
    ) -> Result<Active, GrantStatus> {
        if dom == wanted.owner {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let next = Use {
            owner: dom,
            reference: target,
            user: wanted.owner,
            write: wanted.write,
            mapping: false,
            onward: false,
        };
        let held = match self.acquire(&next, frames) {
            Err(GrantStatus::BAD_DOMAIN) => return Err(GrantStatus::GENERAL_ERROR),
            other => other?,
        };
        if let Some(old) = old {
            let same = old.onward == Some((dom, target))
                && old.page.is(&held.page)
                && old.bytes == held.bytes;
            if !same {
                self.release(dom, target, wanted.write);
                return Err(GrantStatus::GENERAL_ERROR);
            }
            return Ok(old);
        }
        Ok(Active {
            reference: wanted.reference,
            user: wanted.user,
            readers: 0,
            writers: 0,
            page: held.page,
            frame: held.frame,
            bytes: held.bytes,
            part: true,
            onward: Some((dom, target)),
        })
    }

    /// Ends a use that [`acquire`](GrantTables::acquire) began.
    #[inline]
    pub(super) fn release(&mut self, owner: DomId, reference: u32, write: bool) {
        let Ok(table) = self.table(owner) else { return };
        if let Some((owner, reference)) = table.release(reference, write) {
            self.release_onward(owner, reference, write);
        }
    }

    /// As [`release`](GrantTables::release), of what was passed on: it is a page.
    #[inline(never)]
    fn release_onward(&mut self, owner: DomId, reference: u32, write: bool) {
        if let Ok(table) = self.table(owner) {
            table.release(reference, write);
        }
    }
}

/// First and last byte of what most grants are for.
const WHOLE: (u16, u16) = (0, 4096);

/// Whether a grant can be had, is not in use, and is not passed on: what most uses find.
#[inline(always)]
fn is_first(table: &Table, wanted: &Use) -> bool {
    let Use { reference, mapping, .. } = *wanted;
    !table.dying
        && reference < table.shared.entries()
        && table.active(reference).is_none()
        && (mapping || !table.shared.is_onward(reference))
}

/// Marks a grant as used, and says what it grants. Not marked where that fails.
#[inline(always)]
fn mark(table: &mut Table, wanted: &Use, held: bool) -> Result<Granted, GrantStatus> {
    let Use { reference, user, write, mapping, .. } = *wanted;
    let marked = table.shared.mark(reference, user, write, mapping, held);
    if marked.is_err() && table.shared.version == Version::V2 {
        table.settle(reference);
    }
    marked
}

/// Begins the first use of a grant that is not passed on: marks it, and then finds its page. Not marked where
/// that fails. What most uses of grants come by.
#[inline(always)]
fn begin(table: &mut Table, wanted: &Use, frames: &impl Frames) -> Result<Held, GrantStatus> {
    let found = match mark(table, wanted, false)? {
        // It became a part of a page since it was marked.
        Granted::Page(_, first, end) if wanted.mapping && (first, end) != WHOLE => {
            Err(GrantStatus::GENERAL_ERROR)
        }
        Granted::Page(frame, first, end) => match frames.page(wanted.owner, frame) {
            Some(page) => Ok(Held { page, frame, bytes: (first, end) }),
            None => Err(GrantStatus::BAD_PAGE),
        },
        Granted::Onward(..) => Err(GrantStatus::GENERAL_ERROR),
    };
    found.inspect_err(|_| table.settle(wanted.reference))
}
