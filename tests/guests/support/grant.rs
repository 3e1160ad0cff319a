//! Grants of version 1: the table, and mapping another guest's page.

use crate::mem;
use crate::xen::{self, call};
use core::sync::atomic::{AtomicU16, Ordering::SeqCst};

/// An entry's flags: access, for reading only; and what Xen sets while it is in use.
pub const PERMIT_ACCESS: u16 = 1;
/// For reading only.
pub const READONLY: u16 = 1 << 2;
/// Somebody reads it.
pub const READING: u16 = 1 << 3;
/// Somebody can write to it.
pub const WRITING: u16 = 1 << 4;

/// `GNTTABOP_map_grant_ref`, `GNTTABOP_unmap_grant_ref`.
const MAP: u64 = 0;
const UNMAP: u64 = 1;
/// `GNTMAP_host_map`.
const HOST_MAP: u32 = 2;
/// `GNTMAP_readonly`.
pub const MAP_READONLY: u32 = 4;

/// A grant operation with one argument.
pub fn operate<T>(operation: u64, arg: &mut T) {
    let args = [operation, core::ptr::from_mut(arg) as u64, 1, 0, 0];
    assert_eq!(xen::hypercall(call::GRANT_TABLE_OP, args), 0, "grant_table_op {operation}");
}

/// Entries: flags, domain, frame.
pub struct Table(usize);

impl Table {
    /// Shows the table's first frame at a page of ours.
    pub fn open() -> Table {
        let table = Table(mem::pages(1));
        xen::show_page(1, 0, table.0);
        table
    }

    /// The flags of an entry.
    pub fn flags(&self, reference: u32) -> &'static AtomicU16 {
        // SAFETY: the table stays mapped, and the entry is aligned.
        unsafe { AtomicU16::from_ptr((self.0 + reference as usize * 8) as *mut u16) }
    }

    /// Grants a page: the flags come last, they make it valid.
    pub fn grant(&self, reference: u32, domid: u16, page: usize, flags: u16) {
        let entry = self.0 + reference as usize * 8;
        mem::write(entry + 4, (page >> 12) as u32);
        mem::write(entry + 2, domid);
        self.flags(reference).store(PERMIT_ACCESS | flags, SeqCst);
    }

    /// Takes a grant back, if nobody uses it.
    pub fn revoke(&self, reference: u32) -> bool {
        let flags = self.flags(reference);
        let now = flags.load(SeqCst);
        now & (READING | WRITING) == 0 && flags.compare_exchange(now, 0, SeqCst, SeqCst).is_ok()
    }
}

/// `struct gnttab_map_grant_ref`.
#[repr(C)]
struct MapGrant {
    address: u64,
    flags: u32,
    reference: u32,
    domid: u16,
    status: i16,
    handle: u32,
    device: u64,
}

/// Shows a page that `domid` granted at `address`; the handle, or the error.
pub fn map(address: usize, reference: u32, domid: u16, flags: u32) -> Result<u32, i16> {
    let (address, flags) = (address as u64, HOST_MAP | flags);
    let mut arg = MapGrant { address, flags, reference, domid, status: 1, handle: 0, device: 0 };
    operate(MAP, &mut arg);
    if arg.status == 0 { Ok(arg.handle) } else { Err(arg.status) }
}

/// Ends that; the status.
pub fn unmap(address: usize, handle: u32) -> i16 {
    #[repr(C)]
    struct UnmapGrant(u64, u64, u32, i16);
    let mut arg = UnmapGrant(address as u64, 0, handle, 1);
    operate(UNMAP, &mut arg);
    mem::invalidate(address);
    arg.3
}
