//! `physdev_op`: interrupts of physical devices, as far as an HVM guest asks. Xen public
//! "physdev.h".

use super::layout::{Ulong, layouts, numbers};

numbers! {
    /// `PHYSDEVOP_*`.
    PhysdevOp: u32 {
        /// [`IrqStatusQuery`].
        IRQ_STATUS_QUERY = 5,
        /// PV guests only.
        SET_IOPL = 6,
        /// PV guests only.
        SET_IOBITMAP = 7,
        /// Dom0 only.
        APIC_READ = 8,
        /// Dom0 only.
        APIC_WRITE = 9,
        /// Dom0 only.
        ALLOC_IRQ_VECTOR = 10,
        /// [`Eoi`].
        EOI = 12,
        /// [`MapPirq`].
        MAP_PIRQ = 13,
        /// [`UnmapPirq`].
        UNMAP_PIRQ = 14,
        /// [`PirqEoiGmfn`].
        PIRQ_EOI_GMFN_V1 = 17,
        /// Dom0 only.
        SETUP_GSI = 21,
        /// [`GetFreePirq`].
        GET_FREE_PIRQ = 23,
        /// [`PirqEoiGmfn`].
        PIRQ_EOI_GMFN_V2 = 28,
    }
}

/// In [`IrqStatusQuery::flags`]: the interrupt wants [`PhysdevOp::EOI`].
pub const IRQ_NEEDS_EOI: u32 = 1;
/// In [`IrqStatusQuery::flags`]: other domains share it.
pub const IRQ_SHARED: u32 = 2;

layouts! {
    /// What an interrupt needs.
    IrqStatusQuery: 8 / 8 {
        /// In: PIRQ.
        irq: u32 = 0 / 0,
        /// Out: [`IRQ_NEEDS_EOI`], [`IRQ_SHARED`].
        flags: u32 = 4 / 4,
    }
    /// An interrupt was served.
    Eoi: 4 / 4 {
        /// PIRQ.
        irq: u32 = 0 / 0,
    }
    /// Gives an interrupt a PIRQ.
    MapPirq: 40 / 36 {
        /// In: whose.
        domid: u16 = 0 / 0,
        /// In: 0 MSI, 1 GSI.
        kind: i32 = 4 / 4,
        /// In: GSI or vector.
        index: i32 = 8 / 8,
        /// In and out: negative for any.
        pirq: i32 = 12 / 12,
        /// In: PCI bus, for MSI.
        bus: i32 = 16 / 16,
        /// In: device and function, for MSI.
        devfn: i32 = 20 / 20,
        /// In: entry of the MSI-X table.
        entry_nr: i32 = 24 / 24,
        /// In: where the MSI-X table is.
        table_base: u64 = 32 / 28,
    }
    /// Takes it away.
    UnmapPirq: 8 / 8 {
        /// Whose.
        domid: u16 = 0 / 0,
        /// Which.
        pirq: i32 = 4 / 4,
    }
    /// A page of bits: which PIRQs want an EOI.
    PirqEoiGmfn: 8 / 4 {
        /// Its guest frame.
        gmfn: Ulong = 0 / 0,
    }
    /// A PIRQ that is free.
    GetFreePirq: 8 / 8 {
        /// In: 0 MSI, 1 GSI.
        kind: i32 = 0 / 0,
        /// Out.
        pirq: u32 = 4 / 4,
    }
}
