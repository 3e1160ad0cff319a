//! `memory_op`: a domain's memory map and its size. Xen public "memory.h".

use super::layout::{Ulong, layouts, numbers};
use arch::GuestVirt;

numbers! {
    /// `XENMEM_*`. The bits from [`MEMOP_EXTENT_SHIFT`] on tell a continued call where to go on.
    MemoryOp: u32 {
        /// [`Reservation`].
        INCREASE_RESERVATION = 0,
        /// [`Reservation`].
        DECREASE_RESERVATION = 1,
        /// No argument.
        MAXIMUM_RAM_PAGE = 2,
        /// [`MemoryDomain`].
        CURRENT_RESERVATION = 3,
        /// [`MemoryDomain`].
        MAXIMUM_RESERVATION = 4,
        /// PV guests only.
        MACHPHYS_MFN_LIST = 5,
        /// [`Reservation`].
        POPULATE_PHYSMAP = 6,
        /// [`AddToPhysmap`].
        ADD_TO_PHYSMAP = 7,
        /// [`MemoryMap`].
        MEMORY_MAP = 9,
        /// [`MemoryMap`]; dom0 only.
        MACHINE_MEMORY_MAP = 10,
        /// [`Exchange`].
        EXCHANGE = 11,
        /// PV guests only.
        MACHPHYS_MAPPING = 12,
        /// [`ForeignMemoryMap`]; for the privileged.
        SET_MEMORY_MAP = 13,
        /// [`MemoryDomain`].
        MAXIMUM_GPFN = 14,
        /// [`RemoveFromPhysmap`].
        REMOVE_FROM_PHYSMAP = 15,
        /// [`PodTarget`]; for the privileged.
        SET_POD_TARGET = 16,
        /// [`PodTarget`]; for the privileged.
        GET_POD_TARGET = 17,
        /// [`AddToPhysmapBatch`].
        ADD_TO_PHYSMAP_BATCH = 23,
        /// For the privileged.
        CLAIM_PAGES = 24,
        /// NUMA; none here.
        GET_VNUMAINFO = 26,
        /// [`AcquireResource`]; for the privileged.
        ACQUIRE_RESOURCE = 28,
    }
}

/// A continued call keeps its progress in the command from this bit on.
pub const MEMOP_EXTENT_SHIFT: u32 = 6;

numbers! {
    /// `XENMAPSPACE_*`: what `add_to_physmap` maps.
    MapSpace: u32 {
        /// The shared info page.
        SHARED_INFO = 0,
        /// A page of the grant table, or of its status frames: [`MAPIDX_GRANT_STATUS`].
        GRANT_TABLE = 1,
        /// A page of the domain's own, by its present frame number.
        GMFN = 2,
        /// Several such pages.
        GMFN_RANGE = 3,
        /// A page of another domain; in a batch only.
        GMFN_FOREIGN = 4,
        /// ARM only.
        DEV_MMIO = 5,
    }
}

/// In the index of [`MapSpace::GRANT_TABLE`]: a status frame.
pub const MAPIDX_GRANT_STATUS: u64 = 0x8000_0000;
/// In [`Reservation::mem_flags`]: filled on demand.
pub const MEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;

layouts! {
    /// Memory given or taken, in extents.
    Reservation: 32 / 20 {
        /// An array of frame numbers, each a `long`.
        extent_start: GuestVirt = 0 / 0,
        /// How many extents.
        nr_extents: Ulong = 8 / 4,
        /// Each has two to this power pages.
        extent_order: u32 = 16 / 8,
        /// `XENMEMF_*`.
        mem_flags: u32 = 20 / 12,
        /// Whose memory.
        domid: u16 = 24 / 16,
    }
    /// Memory given for other memory.
    Exchange: 72 / 44 {
        /// What is given.
        input: Reservation = 0 / 0,
        /// What is wanted.
        output: Reservation = 32 / 20,
        /// Out: how many input extents are done. In: zero.
        nr_exchanged: Ulong = 64 / 40,
    }
    /// The domain of a query.
    MemoryDomain: 2 / 2 {
        /// `DOMID_SELF` for all but the privileged.
        domid: u16 = 0 / 0,
    }
    /// Maps something at a frame of the caller's.
    AddToPhysmap: 24 / 16 {
        /// Whose map.
        domid: u16 = 0 / 0,
        /// Pages of a range.
        size: u16 = 2 / 2,
        /// [`MapSpace`].
        space: u32 = 4 / 4,
        /// What in that space. A range goes on here.
        idx: Ulong = 8 / 8,
        /// Where. A range goes on here.
        gpfn: Ulong = 16 / 12,
    }
    /// Maps several things.
    AddToPhysmapBatch: 32 / 20 {
        /// Whose map.
        domid: u16 = 0 / 0,
        /// [`MapSpace`].
        space: u16 = 2 / 2,
        /// How many; what is not yet done of a continued call.
        size: u16 = 4 / 4,
        /// Whose page, for foreign ones; zero for others.
        foreign_domid: u16 = 6 / 6,
        /// An array of indices, each a `long`.
        idxs: GuestVirt = 8 / 8,
        /// An array of frame numbers, each a `long`.
        gpfns: GuestVirt = 16 / 12,
        /// Out: an array of error numbers, four bytes each.
        errs: GuestVirt = 24 / 16,
    }
    /// Unmaps a frame.
    RemoveFromPhysmap: 16 / 8 {
        /// Whose map.
        domid: u16 = 0 / 0,
        /// Which.
        gpfn: Ulong = 8 / 4,
    }
    /// The memory map, as `INT 15h, AX=E820h` tells it.
    MemoryMap: 16 / 8 {
        /// In: how many entries fit. Out: how many there are.
        nr_entries: u32 = 0 / 0,
        /// Entries of 20 bytes: [`MemoryMapEntry`].
        buffer: GuestVirt = 8 / 4,
    }
    /// Another domain's memory map.
    ForeignMemoryMap: 24 / 12 {
        /// Whose.
        domid: u16 = 0 / 0,
        /// The map.
        map: MemoryMap = 8 / 4,
    }
    /// What populate-on-demand is to reach and has reached.
    PodTarget: 40 / 36 {
        /// In.
        target_pages: u64 = 0 / 0,
        /// Out.
        tot_pages: u64 = 8 / 8,
        /// Out.
        pod_cache_pages: u64 = 16 / 16,
        /// Out.
        pod_entries: u64 = 24 / 24,
        /// In.
        domid: u16 = 32 / 32,
    }
    /// Frames of a resource of another domain.
    AcquireResource: 32 / 28 {
        /// Whose.
        domid: u16 = 0 / 0,
        /// Which kind.
        kind: u16 = 2 / 2,
        /// Which of that kind.
        id: u32 = 4 / 4,
        /// In and out: how many frames.
        nr_frames: u32 = 8 / 8,
        /// Zero.
        pad: u32 = 12 / 12,
        /// The first frame.
        frame: u64 = 16 / 16,
        /// An array of frame numbers.
        frame_list: GuestVirt = 24 / 24,
    }
}

/// One entry of a [`MemoryMap`]; packed, so that it is the same for all callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryMapEntry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// 1 RAM, 2 reserved, 3 ACPI, 4 NVS, 5 unusable.
    pub kind: u32,
}

impl MemoryMapEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 20;

    /// The entry as it lies in memory.
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..].copy_from_slice(&self.kind.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Layout, Width};

    #[test]
    fn structs_inside_structs_keep_each_width_s_offsets() {
        let mut bytes = [0; 72];
        bytes[20..24].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        bytes[40] = 7;
        let exchange = Exchange::parse(&bytes, Width::Bits32).unwrap();
        assert_eq!(exchange.output.extent_start, GuestVirt(0x1234_5678));
        assert_eq!(exchange.nr_exchanged, Ulong(7));
        let exchange = Exchange::parse(&bytes, Width::Bits64).unwrap();
        assert_eq!(exchange.input.mem_flags, 0x1234_5678);
    }

    #[test]
    fn an_entry_of_the_memory_map_is_packed() {
        let bytes = MemoryMapEntry { addr: 1, size: 2, kind: 3 }.bytes();
        assert_eq!((bytes[0], bytes[8], bytes[16], bytes.len()), (1, 2, 3, 20));
    }
}
