//! `hvm_op`: parameters, upcall vectors, time. Xen public "hvm/hvm_op.h".

use super::layout::{layouts, numbers};

numbers! {
    /// `HVMOP_*`.
    HvmOp: u32 {
        /// [`HvmParamArg`].
        SET_PARAM = 0,
        /// [`HvmParamArg`].
        GET_PARAM = 1,
        /// Device models, old.
        SET_PCI_INTX_LEVEL = 2,
        /// Device models, old.
        SET_ISA_IRQ_LEVEL = 3,
        /// Device models, old.
        SET_PCI_LINK_ROUTE = 4,
        /// No argument.
        FLUSH_TLBS = 5,
        /// [`PagetableDying`].
        PAGETABLE_DYING = 9,
        /// [`GetTime`].
        GET_TIME = 10,
        /// [`XenTrace`].
        XENTRACE = 11,
        /// [`GetMemType`].
        GET_MEM_TYPE = 15,
        /// [`UpcallVector`].
        SET_EVTCHN_UPCALL_VECTOR = 23,
        /// No argument.
        GUEST_REQUEST_VM_EVENT = 24,
        /// Alternate memory maps; none here.
        ALTP2M = 25,
    }
}

layouts! {
    /// One of a domain's parameters: `super::hvm_params`.
    HvmParamArg: 16 / 16 {
        /// In: whose.
        domid: u16 = 0 / 0,
        /// Unused.
        pad: u16 = 2 / 2,
        /// In: `HvmParam`.
        index: u32 = 4 / 4,
        /// In or out.
        value: u64 = 8 / 8,
    }
    /// A hint that a page table is about to go.
    PagetableDying: 16 / 16 {
        /// Whose.
        domid: u16 = 0 / 0,
        /// Unused.
        pad: [u16; 3] = 2 / 2,
        /// Its top level's physical address.
        gpa: u64 = 8 / 8,
    }
    /// The time.
    GetTime: 8 / 8 {
        /// Out: nanoseconds of system time.
        now: u64 = 0 / 0,
    }
    /// A record for the trace buffer.
    XenTrace: 32 / 32 {
        /// Which event.
        event: u16 = 0 / 0,
        /// How many bytes of `extra` count.
        extra_bytes: u16 = 2 / 2,
        /// More about it.
        extra: [u8; 28] = 4 / 4,
    }
    /// What a frame is.
    GetMemType: 16 / 16 {
        /// In: whose.
        domid: u16 = 0 / 0,
        /// Out: 0 RAM, 1 RAM that is only read, 2 a device's.
        mem_type: u16 = 2 / 2,
        /// Unused.
        pad: [u16; 2] = 4 / 4,
        /// In: which.
        pfn: u64 = 8 / 8,
    }
    /// The interrupt vector that tells one vCPU of events, instead of the domain's callback.
    UpcallVector: 8 / 8 {
        /// Which vCPU.
        vcpu: u32 = 0 / 0,
        /// The vector; 16 and more.
        vector: u8 = 4 / 4,
    }
}
