//! `grant_table_op`: numbers, arguments, and the entries of the tables. Xen public "grant_table.h".
//!
//! All but `dump_table` take an array of arguments and its length. `crate::grant` does the work.

use super::layout::{Ulong, layouts, numbers};
use arch::GuestVirt;

numbers! {
    /// `GNTTABOP_*`.
    GrantOp: u32 {
        /// [`MapGrantRef`].
        MAP_GRANT_REF = 0,
        /// [`UnmapGrantRef`].
        UNMAP_GRANT_REF = 1,
        /// [`SetupTable`]; one at a time.
        SETUP_TABLE = 2,
        /// Debug builds of Xen.
        DUMP_TABLE = 3,
        /// [`Transfer`].
        TRANSFER = 4,
        /// [`Copy`].
        COPY = 5,
        /// [`QuerySize`]; one at a time.
        QUERY_SIZE = 6,
        /// [`UnmapAndReplace`].
        UNMAP_AND_REPLACE = 7,
        /// [`SetVersion`]; one at a time.
        SET_VERSION = 8,
        /// [`GetStatusFrames`]; one at a time.
        GET_STATUS_FRAMES = 9,
        /// [`GetVersion`].
        GET_VERSION = 10,
        /// [`SwapGrantRef`].
        SWAP_GRANT_REF = 11,
        /// [`CacheFlush`].
        CACHE_FLUSH = 12,
    }
}

numbers! {
    /// `GNTST_*`: how a single operation went; in its `status` field.
    GrantStatus: i16 {
        /// Done.
        OKAY = 0,
        /// No other status fits.
        GENERAL_ERROR = -1,
        /// There is no such domain.
        BAD_DOMAIN = -2,
        /// There is no such grant, or not for this.
        BAD_GNTREF = -3,
        /// There is no such handle, or not for this.
        BAD_HANDLE = -4,
        /// Nothing can be mapped there.
        BAD_VIRT_ADDR = -5,
        /// That is not where devices see it.
        BAD_DEV_ADDR = -6,
        /// The I/O MMU is full.
        NO_DEVICE_SPACE = -7,
        /// The caller may not.
        PERMISSION_DENIED = -8,
        /// The granted frame is no RAM.
        BAD_PAGE = -9,
        /// The copy leaves its pages.
        BAD_COPY_ARG = -10,
        /// The address is too large.
        ADDRESS_TOO_BIG = -11,
        /// Not now: try again.
        EAGAIN = -12,
        /// No handle or entry is free.
        NO_SPACE = -13,
    }
}

layouts! {
    /// Maps a granted page.
    MapGrantRef: 32 / 32 {
        /// In: the caller's physical address at which the page is to appear.
        host_addr: u64 = 0 / 0,
        /// In: `GNTMAP_*`.
        flags: u32 = 8 / 8,
        /// In: the grant.
        reference: u32 = 12 / 12,
        /// In: whose.
        dom: u16 = 16 / 16,
        /// Out: [`GrantStatus`].
        status: i16 = 18 / 18,
        /// Out: the mapping's number.
        handle: u32 = 20 / 20,
        /// Out: where devices see it.
        dev_bus_addr: u64 = 24 / 24,
    }
    /// Ends a mapping.
    UnmapGrantRef: 24 / 24 {
        /// In: where it is mapped; 0 leaves that mapping.
        host_addr: u64 = 0 / 0,
        /// In: where devices see it; 0 leaves that mapping.
        dev_bus_addr: u64 = 8 / 8,
        /// In: the mapping's number.
        handle: u32 = 16 / 16,
        /// Out: [`GrantStatus`].
        status: i16 = 20 / 20,
    }
    /// Makes the table at least so large.
    SetupTable: 24 / 16 {
        /// In: whose.
        dom: u16 = 0 / 0,
        /// In: frames.
        nr_frames: u32 = 4 / 4,
        /// Out: [`GrantStatus`].
        status: i16 = 8 / 8,
        /// In: where the frames' numbers go, each a `long`.
        frame_list: GuestVirt = 16 / 12,
    }
    /// Gives a page away; PV guests only.
    Transfer: 24 / 16 {
        /// In: the page.
        mfn: Ulong = 0 / 0,
        /// In: to whom.
        domid: u16 = 8 / 4,
        /// In: by which grant of theirs.
        reference: u32 = 12 / 8,
        /// Out: [`GrantStatus`].
        status: i16 = 16 / 12,
    }
    /// One side of a copy.
    CopyPtr: 16 / 8 {
        /// A grant reference in its low half, or a frame of the domain's own.
        frame: Ulong = 0 / 0,
        /// Whose.
        domid: u16 = 8 / 4,
        /// First byte.
        offset: u16 = 10 / 6,
    }
    /// Copies between pages.
    Copy: 40 / 24 {
        /// In.
        source: CopyPtr = 0 / 0,
        /// In.
        dest: CopyPtr = 16 / 8,
        /// In: bytes.
        len: u16 = 32 / 16,
        /// In: [`COPY_SOURCE_GREF`], [`COPY_DEST_GREF`].
        flags: u16 = 34 / 18,
        /// Out: [`GrantStatus`].
        status: i16 = 36 / 20,
    }
    /// How large the table is.
    QuerySize: 16 / 16 {
        /// In: whose.
        dom: u16 = 0 / 0,
        /// Out: frames it has.
        nr_frames: u32 = 4 / 4,
        /// Out: frames it can have.
        max_nr_frames: u32 = 8 / 8,
        /// Out: [`GrantStatus`].
        status: i16 = 12 / 12,
    }
    /// Ends a mapping and puts another page in its place; PV guests only.
    UnmapAndReplace: 24 / 24 {
        /// In: where it is mapped.
        host_addr: u64 = 0 / 0,
        /// In: from where the other page comes.
        new_addr: u64 = 8 / 8,
        /// In: the mapping's number.
        handle: u32 = 16 / 16,
        /// Out: [`GrantStatus`].
        status: i16 = 20 / 20,
    }
    /// Asks for a version of the table.
    SetVersion: 4 / 4 {
        /// In and out: 1 or 2.
        version: u32 = 0 / 0,
    }
    /// The frames of version 2's status words.
    GetStatusFrames: 16 / 12 {
        /// In: how many.
        nr_frames: u32 = 0 / 0,
        /// In: whose.
        dom: u16 = 4 / 4,
        /// Out: [`GrantStatus`].
        status: i16 = 6 / 6,
        /// In: where the frames' numbers go, eight bytes each.
        frame_list: GuestVirt = 8 / 8,
    }
    /// Which version a domain uses.
    GetVersion: 8 / 8 {
        /// In: whose.
        dom: u16 = 0 / 0,
        /// Unused.
        pad: u16 = 2 / 2,
        /// Out.
        version: u32 = 4 / 4,
    }
    /// Exchanges two entries.
    SwapGrantRef: 12 / 12 {
        /// In.
        ref_a: u32 = 0 / 0,
        /// In.
        ref_b: u32 = 4 / 4,
        /// Out: [`GrantStatus`].
        status: i16 = 8 / 8,
    }
    /// Cleans or invalidates caches for a granted page.
    CacheFlush: 16 / 16 {
        /// In: a grant reference in its low half, or a bus address.
        target: u64 = 0 / 0,
        /// In: first byte.
        offset: u16 = 8 / 8,
        /// In: bytes.
        length: u16 = 10 / 10,
        /// In: bit 0 cleans, bit 1 invalidates, bit 31: a grant reference.
        op: u32 = 12 / 12,
    }
}

/// In [`MapGrantRef::flags`]: for devices.
pub const MAP_DEVICE: u32 = 1 << 0;
/// In [`MapGrantRef::flags`]: for the CPUs.
pub const MAP_HOST: u32 = 1 << 1;
/// In [`MapGrantRef::flags`]: for reading only.
pub const MAP_READONLY: u32 = 1 << 2;
/// In [`MapGrantRef::flags`]: for applications too; PV guests only.
pub const MAP_APPLICATION: u32 = 1 << 3;
/// In [`MapGrantRef::flags`]: the address is a page-table entry's; PV guests only.
pub const MAP_CONTAINS_PTE: u32 = 1 << 4;

/// In [`Copy::flags`]: the source is a grant.
pub const COPY_SOURCE_GREF: u16 = 1 << 0;
/// In [`Copy::flags`]: the destination is a grant.
pub const COPY_DEST_GREF: u16 = 1 << 1;

/// In [`CacheFlush::op`]: write back.
pub const CACHE_CLEAN: u32 = 1 << 0;
/// In [`CacheFlush::op`]: forget.
pub const CACHE_INVAL: u32 = 1 << 1;
/// In [`CacheFlush::op`]: the target is a grant.
pub const CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Entry's flags: what kind it is.
pub const GTF_TYPE_MASK: u16 = 3;
/// Kind: nothing is granted.
pub const GTF_INVALID: u16 = 0;
/// Kind: access to a page.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Kind: a page would be taken; PV guests only.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Kind: what another domain granted is granted further, for copies only. Version 2.
pub const GTF_TRANSITIVE: u16 = 3;
/// Entry's flags: reading only.
pub const GTF_READONLY: u16 = 1 << 2;
/// Entry's flags, set by the hypervisor: in use for reading.
pub const GTF_READING: u16 = 1 << 3;
/// Entry's flags, set by the hypervisor: in use for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// Entry's flags: part of a page, for copies only. Version 2.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Entries that stay as they are when the version changes.
pub const RESERVED_ENTRIES: u32 = 8;
/// The reserved entry of the console ring.
pub const RESERVED_CONSOLE: u32 = 0;
/// The reserved entry of the XenStore ring.
pub const RESERVED_XENSTORE: u32 = 1;

/// Bytes of an entry of version 1: flags, domain (2 bytes each), frame (4).
pub const ENTRY_V1_SIZE: usize = 8;
/// Bytes of an entry of version 2: flags, domain, then by kind; the frame (8 bytes) at 8.
pub const ENTRY_V2_SIZE: usize = 16;
/// Bytes of a status word of version 2.
pub const STATUS_SIZE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Layout, Width};

    #[test]
    fn a_32_bit_caller_s_copy_is_sixteen_bytes_shorter() {
        let copy = Copy {
            source: CopyPtr { frame: Ulong(0x11), domid: 3, offset: 5 },
            dest: CopyPtr { frame: Ulong(0x22), domid: 4, offset: 6 },
            len: 7,
            flags: COPY_DEST_GREF,
            status: -3,
        };
        for (width, dest, status) in [(Width::Bits64, 16, 36), (Width::Bits32, 8, 20)] {
            let mut bytes = [0; 40];
            copy.store(&mut bytes, width).unwrap();
            assert_eq!((bytes[dest], bytes[status], bytes[status + 1]), (0x22, 0xfd, 0xff));
            assert_eq!(Copy::parse(&bytes, width), Ok(copy));
        }
    }

    #[test]
    fn statuses_have_their_header_s_names() {
        assert_eq!(GrantStatus(-12).name(), Some("EAGAIN"));
        assert_eq!(GrantStatus(1).name(), None);
    }
}
