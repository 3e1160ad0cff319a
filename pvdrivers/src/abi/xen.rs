//! Hypercall numbers, virtual interrupts, `multicall` and `vm_assist`. Xen public "xen.h".

use super::layout::{Ulong, layouts, numbers};

numbers! {
    /// A hypercall's number (`__HYPERVISOR_*`), in RAX.
    Hypercall: u64 {
        /// PV guests only.
        SET_TRAP_TABLE = 0,
        /// PV guests only.
        MMU_UPDATE = 1,
        /// PV guests only.
        SET_GDT = 2,
        /// PV guests only.
        STACK_SWITCH = 3,
        /// PV guests only.
        SET_CALLBACKS = 4,
        /// PV guests only.
        FPU_TASKSWITCH = 5,
        /// The old `sched_op`, with its argument in a register.
        SCHED_OP_COMPAT = 6,
        /// Dom0 only.
        PLATFORM_OP = 7,
        /// PV guests only.
        SET_DEBUGREG = 8,
        /// PV guests only.
        GET_DEBUGREG = 9,
        /// PV guests only.
        UPDATE_DESCRIPTOR = 10,
        /// `super::memory`.
        MEMORY_OP = 12,
        /// Several calls in one: [`MulticallEntry`].
        MULTICALL = 13,
        /// PV guests only.
        UPDATE_VA_MAPPING = 14,
        /// The vCPU's one-shot timer, the deadline in nanoseconds of system time; 0 stops it.
        SET_TIMER_OP = 15,
        /// The old `event_channel_op`, with the number in memory.
        EVENT_CHANNEL_OP_COMPAT = 16,
        /// `super::version`.
        XEN_VERSION = 17,
        /// [`ConsoleIo`].
        CONSOLE_IO = 18,
        /// The old `physdev_op`.
        PHYSDEV_OP_COMPAT = 19,
        /// `super::grant_table`.
        GRANT_TABLE_OP = 20,
        /// [`VmAssist`].
        VM_ASSIST = 21,
        /// PV guests only.
        UPDATE_VA_MAPPING_OTHERDOMAIN = 22,
        /// PV guests only.
        IRET = 23,
        /// `super::vcpu`.
        VCPU_OP = 24,
        /// PV guests only.
        SET_SEGMENT_BASE = 25,
        /// PV guests only.
        MMUEXT_OP = 26,
        /// Security modules.
        XSM_OP = 27,
        /// PV guests only.
        NMI_OP = 28,
        /// `super::sched`.
        SCHED_OP = 29,
        /// PV guests only.
        CALLBACK_OP = 30,
        /// Profiling, removed from Xen.
        XENOPROF_OP = 31,
        /// `super::event_channel`.
        EVENT_CHANNEL_OP = 32,
        /// `super::physdev`.
        PHYSDEV_OP = 33,
        /// `super::hvm_op`.
        HVM_OP = 34,
        /// Dom0 only.
        SYSCTL = 35,
        /// Dom0 only.
        DOMCTL = 36,
        /// Dom0 only.
        KEXEC_OP = 37,
        /// Removed from Xen.
        TMEM_OP = 38,
        /// Messages between domains.
        ARGO_OP = 39,
        /// Performance counters.
        XENPMU_OP = 40,
        /// Device models.
        DM_OP = 41,
        /// Dom0 only.
        HYPFS_OP = 42,
    }
}

/// Hypercalls with a smaller number have an entry of 32 bytes each in the hypercall page.
pub const HYPERCALL_PAGE_ENTRIES: u64 = 128;
/// Bytes of one entry of the hypercall page.
pub const HYPERCALL_ENTRY_SIZE: usize = 32;

/// `DOMID_IO`: machine memory that no domain owns.
pub const DOMID_IO: u16 = 0x7ff1;
/// `DOMID_XEN`: the hypervisor's own memory.
pub const DOMID_XEN: u16 = 0x7ff2;
/// `DOMID_INVALID`.
pub const DOMID_INVALID: u16 = 0x7ff4;

/// vCPUs that have their `vcpu_info` in the shared info page (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: u16 = 32;

numbers! {
    /// A virtual interrupt (`VIRQ_*`).
    Virq: u32 {
        /// Timer; per vCPU.
        TIMER = 0,
        /// "Write out your state"; per vCPU.
        DEBUG = 1,
        /// A key on the emergency console.
        CONSOLE = 2,
        /// Something happened to a domain.
        DOM_EXC = 3,
        /// Trace buffer.
        TBUF = 4,
        /// A domain stopped for a debugger.
        DEBUGGER = 6,
        /// Profiling; per vCPU.
        XENOPROF = 7,
        /// The console ring has something.
        CON_RING = 8,
        /// A physical CPU came or went.
        PCPU_STATE = 9,
        /// A memory event.
        MEM_EVENT = 10,
        /// An Argo message.
        ARGO = 11,
        /// Memory runs low.
        ENOMEM = 12,
        /// Performance counter; per vCPU.
        XENPMU = 13,
    }
}

/// `NR_VIRQS`.
pub const NR_VIRQS: usize = 24;

impl Virq {
    /// Whether each vCPU has its own. The others belong to the domain and are bound on vCPU 0.
    #[must_use]
    pub const fn is_per_vcpu(self) -> bool {
        matches!(self, Virq::TIMER | Virq::DEBUG | Virq::XENOPROF | Virq::XENPMU)
    }
}

layouts! {
    /// One call of a `multicall`.
    MulticallEntry: 64 / 32 {
        /// [`Hypercall`].
        op: Ulong = 0 / 0,
        /// Out: what the call returned.
        result: Ulong = 8 / 4,
        /// Its arguments; five count.
        args: [Ulong; 6] = 16 / 8,
    }
}

numbers! {
    /// What `console_io` does; its arguments are the number of bytes and a buffer.
    ConsoleIo: u32 {
        /// Writes to the hypervisor's console.
        WRITE = 0,
        /// Reads from it; returns how many bytes.
        READ = 1,
    }
}

numbers! {
    /// What `vm_assist` does (`VMASST_CMD_*`).
    VmAssist: u32 {
        /// Switches one on.
        ENABLE = 0,
        /// Switches one off.
        DISABLE = 1,
    }
}

/// `VMASST_TYPE_runstate_update_flag`, the only assistance that an HVM guest can ask for.
pub const VMASST_RUNSTATE_UPDATE_FLAG: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Layout, Width};

    #[test]
    fn numbers_have_their_header_s_names() {
        assert_eq!(Hypercall(32).name(), Some("EVENT_CHANNEL_OP"));
        assert_eq!(Hypercall(11).name(), None);
        assert_eq!(Hypercall(u64::MAX).name(), None);
        assert!(Virq::TIMER.is_per_vcpu() && !Virq::CONSOLE.is_per_vcpu());
    }

    #[test]
    fn a_multicall_s_arguments_stand_one_word_apart() {
        let bytes: [u8; 64] = core::array::from_fn(|n| n as u8);
        let wide = MulticallEntry::parse(&bytes, Width::Bits64).unwrap();
        assert_eq!(wide.args[1], Ulong(0x1f1e_1d1c_1b1a_1918));
        let narrow = MulticallEntry::parse(&bytes, Width::Bits32).unwrap();
        assert_eq!((narrow.result, narrow.args[0]), (Ulong(0x0706_0504), Ulong(0x0b0a_0908)));
    }
}
