//! Mapping granted pages into a guest, and taking the mappings away again, in two steps each: here
//! and in the guest's second-level table, which the caller changes.
//!
//! Mapping: [`GrantTables::map`], the table, or [`GrantTables::abandon`] where that fails.
//! Unmapping: [`GrantTables::unmap`], the table, a flush of the TLBs, and only then
//! [`GrantTables::unmapped`].

use super::acquire::Use;
use super::table::Map;
use super::{Frames, GrantTables};
use crate::DomId;
use crate::abi::grant_table::{
    GrantStatus, MAP_APPLICATION, MAP_CONTAINS_PTE, MAP_DEVICE, MAP_HOST, MAP_READONLY,
    MapGrantRef, UnmapAndReplace, UnmapGrantRef,
};
use arch::{GuestPhys, SharedPage};

/// A mapping that the caller now makes. Write-back cached.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Its number.
    pub handle: u32,
    /// The page.
    pub page: SharedPage,
    /// Whose page it is.
    pub owner: DomId,
    /// Its frame in the owner's map.
    pub frame: u64,
    /// Where in the user's guest-physical space, on a page boundary.
    pub at: GuestPhys,
    /// Whether it may be written.
    pub write: bool,
}

/// A mapping that the caller takes away. The grant stays in use until [`GrantTables::unmapped`]
/// gets this back, after the TLBs were flushed.
#[must_use]
#[derive(Debug)]
pub struct Unmapping {
    /// Where in the user's guest-physical space. `None`: nothing is mapped, since its owner is
    /// dead.
    pub at: Option<GuestPhys>,
    /// Where the page lay in the owner's: a page that may have been written.
    pub owner: DomId,
    reference: u32,
    write: bool,
}

impl GrantTables {
    /// Begins a mapping (`GNTTABOP_map_grant_ref`). Put [`Mapped::handle`] into the argument where
    /// all goes well; `dev_bus_addr` has no meaning for an HVM guest.
    ///
    /// # Errors
    /// `BAD_GNTREF`: no kind of mapping asked for, or no such grant. `BAD_DOMAIN`. `NO_SPACE`: no
    /// handle free. `BAD_PAGE`: the granted frame is no RAM. `GENERAL_ERROR`: a kind that HVM
    /// guests do not have, not granted to the caller or not for writing, part of a page, in use by
    /// another domain, its owner is going away.
    #[inline(always)]
    pub fn map(
        &mut self,
        caller: DomId,
        argument: &MapGrantRef,
        frames: &impl Frames,
    ) -> Result<Mapped, GrantStatus> {
        let flags = argument.flags;
        if flags & (MAP_DEVICE | MAP_HOST) == 0 {
            return Err(GrantStatus::BAD_GNTREF);
        }
        if flags & (MAP_DEVICE | MAP_APPLICATION | MAP_CONTAINS_PTE) != 0 {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let owner = DomId(argument.dom);
        self.table(owner)?;
        let write = flags & MAP_READONLY == 0;
        let at = GuestPhys(argument.host_addr).page();
        let map = Map { owner, reference: argument.reference, at, write, revoked: false };
        let user = self.table(caller)?;
        if user.dying {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let handle = user.maps.insert(map).ok_or(GrantStatus::NO_SPACE)?;
        let wanted = Use {
            owner,
            reference: argument.reference,
            user: caller,
            write,
            mapping: true,
            onward: false,
        };
        match self.acquire(&wanted, frames) {
            Ok(held) => Ok(Mapped { handle, page: held.page, owner, frame: held.frame, at, write }),
            Err(status) => {
                self.table(caller)?.maps.remove(handle);
                Err(status)
            }
        }
    }

    /// Takes a mapping back that could not be made. Nothing may ever have been mapped.
    pub fn abandon(&mut self, caller: DomId, mapped: Mapped) {
        let Ok(table) = self.table(caller) else { return };
        let Some(map) = table.maps.remove(mapped.handle) else { return };
        if !map.revoked {
            self.release(map.owner, map.reference, map.write);
        }
    }

    /// Begins the end of a mapping (`GNTTABOP_unmap_grant_ref`). `None`: the argument names no
    /// address, so there is nothing to do. The handle is free at once.
    ///
    /// # Errors
    /// `BAD_HANDLE`; `GENERAL_ERROR` where the page is mapped elsewhere.
    pub fn unmap(
        &mut self,
        caller: DomId,
        argument: &UnmapGrantRef,
    ) -> Result<Option<Unmapping>, GrantStatus> {
        let maps = &mut self.table(caller)?.maps;
        let map = maps.get(argument.handle).ok_or(GrantStatus::BAD_HANDLE)?;
        if argument.host_addr == 0 {
            return Ok(None);
        }
        if GuestPhys(argument.host_addr).page() != map.at {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let map = maps.remove(argument.handle).ok_or(GrantStatus::BAD_HANDLE)?;
        Ok(Some(Unmapping {
            at: (!map.revoked).then_some(map.at),
            owner: map.owner,
            reference: map.reference,
            write: map.write,
        }))
    }

    /// Ends the use of a page that is mapped nowhere any more, not even in a TLB.
    pub fn unmapped(&mut self, unmapping: Unmapping) {
        if unmapping.at.is_some() {
            self.release(unmapping.owner, unmapping.reference, unmapping.write);
        }
    }

    /// `GNTTABOP_unmap_and_replace`: HVM guests cannot put another page in the place, as in Xen.
    /// Without another page it is [`unmap`](GrantTables::unmap).
    ///
    /// # Errors
    /// As `unmap`; `GENERAL_ERROR` with another page.
    pub fn unmap_and_replace(
        &mut self,
        caller: DomId,
        argument: &UnmapAndReplace,
    ) -> Result<Option<Unmapping>, GrantStatus> {
        let UnmapAndReplace { host_addr, new_addr, handle, .. } = *argument;
        if new_addr != 0 {
            let known = self.table(caller)?.maps.get(handle).is_some();
            return Err(if known { GrantStatus::GENERAL_ERROR } else { GrantStatus::BAD_HANDLE });
        }
        self.unmap(caller, &UnmapGrantRef { host_addr, handle, ..UnmapGrantRef::default() })
    }
}
