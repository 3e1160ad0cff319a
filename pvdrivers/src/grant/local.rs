//! Granted pages for the back ends in the hypervisor: [`Grants`] over the tables and the guests'
//! memory.

use super::acquire::Use;
use super::{Frames, GrantTables};
use crate::abi::grant_table::GrantStatus;
use crate::{DomId, Errno, GrantAccess, GrantRef, Grants, Pinned};
use arch::GuestPhys;
use arch::addr::PAGE_SIZE;

/// The tables and the memory, for as long as a back end works.
#[derive(Debug)]
pub struct LocalGrants<'a, F> {
    /// The tables.
    pub tables: &'a mut GrantTables,
    /// The memory.
    pub frames: &'a F,
}

/// Parts of pages can be pinned: [`Pinned::bytes`] says which. Grants that pass another domain's on
/// cannot, since [`Pinned::frame`] would not be in the owner's space.
impl<F: Frames> Grants for LocalGrants<'_, F> {
    fn pin(
        &mut self,
        owner: DomId,
        reference: GrantRef,
        user: DomId,
        access: GrantAccess,
    ) -> Result<Pinned, Errno> {
        let write = access == GrantAccess::Write;
        let wanted =
            Use { owner, reference: reference.0, user, write, mapping: false, onward: false };
        let held = self.tables.acquire(&wanted, self.frames).map_err(errno)?;
        let Some(frame) = held.frame.checked_mul(PAGE_SIZE).map(GuestPhys) else {
            self.tables.release(owner, reference.0, write);
            return Err(Errno::EFAULT);
        };
        Ok(Pinned { page: held.page, owner, frame, reference, access, bytes: held.bytes })
    }

    fn unpin(&mut self, pinned: Pinned) {
        let write = pinned.access == GrantAccess::Write;
        self.tables.release(pinned.owner, pinned.reference.0, write);
    }
}

fn errno(status: GrantStatus) -> Errno {
    match status {
        GrantStatus::BAD_DOMAIN => Errno::ESRCH,
        GrantStatus::BAD_GNTREF => Errno::ENOENT,
        GrantStatus::BAD_PAGE => Errno::EFAULT,
        GrantStatus::NO_SPACE => Errno::ENOMEM,
        GrantStatus::EAGAIN => Errno::EAGAIN,
        _ => Errno::EACCES,
    }
}
