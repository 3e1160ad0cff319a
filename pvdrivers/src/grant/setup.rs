//! The table itself: its size, its version, its frames in the guest's memory map; and entries by
//! number.

use super::GrantTables;
use super::shared::{Version, clear};
use super::table::Table;
use crate::abi::grant_table::{
    ENTRY_V2_SIZE, GTF_INVALID, GTF_PERMIT_ACCESS, GTF_READING, GTF_TRANSITIVE, GTF_TYPE_MASK,
    GTF_WRITING, GrantStatus, QuerySize, RESERVED_ENTRIES, STATUS_SIZE, SetupTable, Transfer,
};
use crate::abi::memory::MAPIDX_GRANT_STATUS;
use crate::{DomId, Errno};
use arch::SharedPage;

/// The hypervisor's flags.
const IN_USE: u16 = GTF_READING | GTF_WRITING;

/// A reserved entry that is kept when the version changes.
#[derive(Clone, Copy, Default)]
struct Reserved {
    flags: u16,
    dom: u16,
    frame: u32,
}

impl GrantTables {
    /// Makes a table at least so large (`GNTTABOP_setup_table`). The caller then writes where each
    /// frame is in the guest's memory map. Whose table it was.
    ///
    /// # Errors
    /// `BAD_DOMAIN`, `PERMISSION_DENIED`; `GENERAL_ERROR` for more than its limit, or no memory.
    pub fn setup_table(
        &mut self,
        caller: DomId,
        argument: &SetupTable,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<DomId, GrantStatus> {
        let dom = self.target(caller, DomId(argument.dom))?;
        self.table(dom)?.grow(argument.nr_frames, allocate)?;
        Ok(dom)
    }

    /// Fills in how large a table is (`GNTTABOP_query_size`).
    ///
    /// # Errors
    /// `BAD_DOMAIN`, `PERMISSION_DENIED`.
    pub fn query_size(&self, caller: DomId, argument: &mut QuerySize) -> Result<(), GrantStatus> {
        let dom = self.target(caller, DomId(argument.dom))?;
        let usage = self.usage(dom).ok_or(GrantStatus::BAD_DOMAIN)?;
        (argument.nr_frames, argument.max_nr_frames) = (usage.frames, usage.max_frames);
        Ok(())
    }

    /// The page for `XENMAPSPACE_grant_table`: a frame, or with bit 31 of the index a status frame.
    /// The table grows to have it.
    ///
    /// # Errors
    /// `EINVAL`: beyond the limit, no memory, or a status frame with version 1; `ESRCH`.
    pub fn physmap_page(
        &mut self,
        dom: DomId,
        index: u64,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<SharedPage, Errno> {
        let table = self.tables.get_mut(&dom).ok_or(Errno::ESRCH)?;
        let status = index & MAPIDX_GRANT_STATUS != 0;
        let index = u32::try_from(index & !MAPIDX_GRANT_STATUS).map_err(|_| Errno::EINVAL)?;
        if status && table.shared.version != Version::V2 {
            return Err(Errno::EINVAL);
        }
        let wanted = if status { index.saturating_mul(8) } else { index }.saturating_add(1);
        table.grow(wanted, allocate).map_err(|_| Errno::EINVAL)?;
        let pages = if status { &table.shared.status } else { &table.shared.frames };
        pages.get(index as usize).copied().ok_or(Errno::EINVAL)
    }

    /// Which version a domain uses (`GNTTABOP_get_version`).
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`.
    pub fn get_version(&self, caller: DomId, dom: DomId) -> Result<Version, Errno> {
        let dom = self.target(caller, dom).map_err(errno)?;
        self.tables.get(&dom).map(|table| table.shared.version).ok_or(Errno::ESRCH)
    }

    /// Changes the version of the caller's table (`GNTTABOP_set_version`). All entries are gone
    /// then, but for the first eight, which may be in use meanwhile.
    ///
    /// # Errors
    /// `EINVAL`: neither 1 nor 2. `ENOSYS`: it may not have 2. `EBUSY`: other entries are in use.
    /// `EAGAIN`: one of the first eight is in use in a way that version 1 does not have. `ERANGE`:
    /// it cannot be written in version 1. `ENOMEM`.
    pub fn set_version(
        &mut self,
        caller: DomId,
        version: u32,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<(), Errno> {
        let version = match version {
            1 => Version::V1,
            2 => Version::V2,
            _ => return Err(Errno::EINVAL),
        };
        let table = self.tables.get_mut(&caller).ok_or(Errno::ESRCH)?;
        if version == Version::V2 && !table.version2 {
            return Err(Errno::ENOSYS);
        }
        if table.shared.version == version {
            return Ok(());
        }
        if table.actives().any(|active| active.reference >= RESERVED_ENTRIES) {
            return Err(Errno::EBUSY);
        }
        if table.actives().any(|active| active.part) {
            return Err(Errno::EAGAIN);
        }
        if version == Version::V2 {
            let frames = table.shared.frames.len();
            table.grow_status(frames, allocate).map_err(|_| Errno::ENOMEM)?;
        }
        let mut kept = [Reserved::default(); RESERVED_ENTRIES as usize];
        for (reference, kept) in (0..).zip(&mut kept) {
            *kept = reserved(table, reference).ok_or(Errno::ERANGE)?;
        }
        for page in table.shared.frames.iter().chain(&table.shared.status) {
            clear(page);
        }
        table.shared.version = version;
        for (reference, kept) in (0..).zip(kept) {
            restore(table, reference, kept);
        }
        Ok(())
    }

    /// Whether a domain's status frames may be told (`GNTTABOP_get_status_frames`), and whose they
    /// are; each is had by [`status_frame`](GrantTables::status_frame).
    ///
    /// # Errors
    /// `BAD_DOMAIN`, `PERMISSION_DENIED`; `GENERAL_ERROR` for version 1, or more than there are.
    pub fn get_status_frames(
        &self,
        caller: DomId,
        dom: DomId,
        frames: u32,
    ) -> Result<DomId, GrantStatus> {
        let dom = self.target(caller, dom)?;
        let shared = &self.tables.get(&dom).ok_or(GrantStatus::BAD_DOMAIN)?.shared;
        if shared.version != Version::V2 || frames as usize > shared.status.len() {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        Ok(dom)
    }

    /// Exchanges two entries of the caller's (`GNTTABOP_swap_grant_ref`).
    ///
    /// # Errors
    /// `BAD_GNTREF`; `EAGAIN` where one is in use.
    pub fn swap(&mut self, caller: DomId, a: u32, b: u32) -> Result<(), GrantStatus> {
        let table = self.table(caller)?;
        if a.max(b) >= table.shared.entries() {
            return Err(GrantStatus::BAD_GNTREF);
        }
        if a == b {
            return Ok(());
        }
        if table.active(a).is_some() || table.active(b).is_some() {
            return Err(GrantStatus::EAGAIN);
        }
        let size = table.shared.entry_size();
        let places = [table.shared.place(a), table.shared.place(b)];
        if let [Some(a), Some(b)] = places {
            swap_bytes(a, b, size);
        }
        let words = [table.shared.status_place(a), table.shared.status_place(b)];
        if let (Version::V2, [Some(a), Some(b)]) = (table.shared.version, words) {
            swap_bytes(a, b, STATUS_SIZE);
        }
        Ok(())
    }

    /// Writes an entry of version 1 for a domain that does not run yet, as Xen's tools do for the
    /// console's and XenStore's rings. Whether there was such an entry.
    pub fn seed(&mut self, dom: DomId, reference: u32, user: DomId, frame: u32) -> bool {
        let Some(table) = self.tables.get(&dom) else { return false };
        let place = table.shared.place(reference);
        let (Some((page, at)), Version::V1) = (place, table.shared.version) else { return false };
        let header = u64::from(GTF_PERMIT_ACCESS) | u64::from(user.0) << 16;
        page.write(at, 8, header | u64::from(frame) << 32).is_ok()
    }

    /// `GNTTABOP_transfer` moves pages between PV guests; an HVM guest keeps its page.
    #[must_use]
    pub const fn transfer(_caller: DomId, _argument: &Transfer) -> GrantStatus {
        GrantStatus::GENERAL_ERROR
    }

    /// `GNTTABOP_cache_flush` is for machines whose caches software keeps coherent; x86 is none.
    pub const CACHE_FLUSH: Errno = Errno::ENOSYS;
}

/// A reserved entry. `None` where version 1 cannot say it.
fn reserved(table: &Table, reference: u32) -> Option<Reserved> {
    let Some((page, at)) = table.shared.place(reference) else { return Some(Reserved::default()) };
    let flags = page.read_u16(at)?;
    let dom = page.read_u16(at + 2)?;
    if table.shared.version == Version::V1 {
        return Some(Reserved { flags, dom, frame: page.read_u32(at + 4)? });
    }
    match flags & GTF_TYPE_MASK {
        GTF_PERMIT_ACCESS => {
            let frame = u32::try_from(page.read_u64(at + 8)?).ok()?;
            let (page, at) = table.shared.status_place(reference)?;
            Some(Reserved { flags: flags | page.read_u16(at)? & IN_USE, dom, frame })
        }
        GTF_TRANSITIVE => None,
        _ => Some(Reserved { flags: GTF_INVALID, dom: 0, frame: 0 }),
    }
}

/// Writes a reserved entry in the table's present version.
fn restore(table: &Table, reference: u32, kept: Reserved) {
    let Some((page, at)) = table.shared.place(reference) else { return };
    let header = |flags: u16| u64::from(flags) | u64::from(kept.dom) << 16;
    if table.shared.version == Version::V1 {
        let _ = page.write(at, 8, header(kept.flags) | u64::from(kept.frame) << 32);
        return;
    }
    let _ = page.write(at + 8, 8, kept.frame.into());
    let _ = page.write(at, 4, header(kept.flags & !IN_USE));
    if let Some((page, at)) = table.shared.status_place(reference) {
        let _ = page.write(at, 2, (kept.flags & IN_USE).into());
    }
}

fn swap_bytes(a: (SharedPage, usize), b: (SharedPage, usize), len: usize) {
    let (mut first, mut second) = ([0; ENTRY_V2_SIZE], [0; ENTRY_V2_SIZE]);
    let (first, second) = (&mut first[..len], &mut second[..len]);
    if a.0.read(a.1, first).is_ok() && b.0.read(b.1, second).is_ok() {
        let _ = a.0.write_slice(a.1, second);
        let _ = b.0.write_slice(b.1, first);
    }
}

/// What a call returns that has no status field.
fn errno(status: GrantStatus) -> Errno {
    match status {
        GrantStatus::PERMISSION_DENIED => Errno::EPERM,
        _ => Errno::ESRCH,
    }
}
