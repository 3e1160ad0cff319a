//! Why a guest stopped. `svm` and `vmx` translate their exit codes into this and stop;
//! `machine::exit` holds the only match over it.

use crate::access::Access;
use crate::addr::{GuestPhys, GuestVirt};
use crate::gprs::Gpr;
use crate::segment::SegReg;

/// Width of a port or memory access in bytes: 1, 2, 4 (or 8 for memory).
pub type Width = u8;

/// An INS or OUTS (APM2 "IOIO Intercept", SDM 3C "Exit Qualification for I/O Instructions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringIo {
    /// Port number.
    pub port: u16,
    /// 1, 2 or 4 bytes an element.
    pub width: Width,
    /// OUTS (memory to port); else INS.
    pub write: bool,
    /// With a REP prefix.
    pub rep: bool,
    /// Address size and segment, where the CPU reports them; else the instruction is decoded.
    pub detail: Option<StringIoDetail>,
}

/// What decode assists or VMX instruction information add to [`StringIo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringIoDetail {
    /// 2, 4 or 8 bytes.
    pub address_size: u8,
    /// Segment of the memory operand.
    pub segment: SegReg,
}

/// A control-register access that is intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrAccess {
    /// MOV from `cr` to a general register.
    Read {
        /// Control register number.
        cr: u8,
        /// Destination.
        gpr: Gpr,
    },
    /// MOV to `cr`.
    Write {
        /// Control register number.
        cr: u8,
        /// Source.
        gpr: Gpr,
    },
    /// CLTS.
    Clts,
    /// LMSW with this value.
    Lmsw(u16),
    /// Any of the above where the CPU does not say which (SVM without decode assists): decode it.
    /// The number is the control register's, the flag says that it is written.
    Undecoded {
        /// Control register number.
        cr: u8,
        /// Written, not read.
        write: bool,
    },
}

/// A second-level (nested page table, EPT) fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault {
    /// The guest-physical address that was touched.
    pub gpa: GuestPhys,
    /// Its linear address, where the CPU reports it.
    pub gva: Option<GuestVirt>,
    /// What was tried. [`Access::WALK`]: while walking the guest's page tables.
    pub access: Access,
    /// Whether the mapping is present but forbids this access.
    pub present: bool,
}

/// What started a task switch (SDM 3C "Exit Qualification for Task Switch").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum TaskSwitchSource {
    Call,
    Iret,
    Jmp,
    /// Task gate in the IDT.
    Gate,
}

/// Why the guest stopped running. Values that the CPU delivers with the exit are here; registers are
/// read from the [`Vcpu`](crate::vcpu::Vcpu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// PAUSE, or the pause filter ran out.
    Pause,
    /// IN from `port`.
    In {
        /// Port.
        port: u16,
        /// 1, 2 or 4.
        width: Width,
    },
    /// OUT to `port`; the value is in RAX.
    Out {
        /// Port.
        port: u16,
        /// 1, 2 or 4.
        width: Width,
    },
    /// INS or OUTS.
    StringIo(StringIo),
    /// RDMSR of ECX.
    Rdmsr,
    /// WRMSR of ECX.
    Wrmsr,
    /// Control-register access.
    Cr(CrAccess),
    /// MOV to or from a debug register: decode it.
    Dr,
    /// Second-level fault.
    NestedFault(NestedFault),
    /// Access to the APIC page at this offset (VMX "APIC-Access VM Exits").
    ApicAccess {
        /// Byte offset in the page.
        offset: u16,
        /// Write, else read or fetch.
        write: bool,
    },
    /// The CPU wrote the virtual-APIC page; complete the write (VMX "APIC-Write VM Exits").
    ApicWrite {
        /// Byte offset in the page.
        offset: u16,
    },
    /// Virtualized EOI of this vector (VMX "EOI Virtualization").
    Eoi(u8),
    /// TPR fell below the threshold.
    TprBelowThreshold,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// An intercepted exception.
    Exception {
        /// Vector.
        vector: u8,
        /// Error code, if it has one.
        error_code: Option<u32>,
        /// Faulting address, for page faults; debug-status bits for #DB on VMX.
        qualification: u64,
    },
    /// The guest can take interrupts now.
    InterruptWindow,
    /// The guest can take an NMI now.
    NmiWindow,
    /// A host interrupt is pending or was taken: open interrupts and go on.
    HostInterrupt,
    /// A host NMI.
    HostNmi,
    /// The guest's triple fault (VMX) or shutdown (SVM).
    TripleFault,
    /// A task switch.
    TaskSwitch {
        /// New TSS selector.
        selector: u16,
        /// What started it.
        source: TaskSwitchSource,
        /// Error code to push on the new stack.
        error_code: Option<u32>,
    },
    /// XSETBV of ECX, EDX:EAX.
    Xsetbv,
    /// INVD.
    Invd,
    /// WBINVD.
    Wbinvd,
    /// MONITOR.
    Monitor,
    /// MWAIT.
    Mwait,
    /// RDTSC.
    Rdtsc,
    /// RDTSCP.
    Rdtscp,
    /// RDPMC.
    Rdpmc,
    /// INVLPG.
    Invlpg,
    /// An instruction that the guest must not have (VMX or SVM instructions, GETSEC, …): #UD.
    Undefined,
    /// The VMX preemption timer ran out.
    PreemptionTimer,
    /// Single step by monitor trap flag.
    MonitorTrap,
    /// INIT signal on the host (VMX).
    Init,
    /// A reason this hypervisor does not know.
    Other {
        /// Vendor's basic exit reason or EXITCODE.
        code: u64,
        /// EXITINFO1 or exit qualification.
        info: u64,
    },
    /// The CPU refused the guest's state (VMEXIT_INVALID, VM-entry failure).
    BadState {
        /// Vendor's code.
        code: u64,
    },
}

/// Number of exit kinds that are counted: [`Exit::kind`] is below it.
pub const EXIT_KINDS: usize = KIND_NAMES.len();

/// Names of the exit kinds, by [`Exit::kind`].
pub const KIND_NAMES: [&str; 43] = [
    "cpuid",
    "hlt",
    "pause",
    "in",
    "out",
    "string-io",
    "rdmsr",
    "wrmsr",
    "cr",
    "dr",
    "nested-fault",
    "apic-access",
    "apic-write",
    "eoi",
    "tpr-threshold",
    "hypercall",
    "exception",
    "interrupt-window",
    "nmi-window",
    "host-interrupt",
    "host-nmi",
    "triple-fault",
    "task-switch",
    "xsetbv",
    "invd",
    "wbinvd",
    "monitor",
    "mwait",
    "rdtsc",
    "rdtscp",
    "rdpmc",
    "invlpg",
    "undefined",
    "preemption-timer",
    "monitor-trap",
    "init",
    "other",
    "bad-state",
    // Second-level faults told apart by what they were for; counted by `machine`.
    "mmio",
    "lazy-ram",
    "hole",
    "lapic-mmio",
    "bios-call",
];

impl Exit {
    /// Index into [`KIND_NAMES`], for the exit counters.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> usize {
        match self {
            Exit::Cpuid => 0,
            Exit::Hlt => 1,
            Exit::Pause => 2,
            Exit::In { .. } => 3,
            Exit::Out { .. } => 4,
            Exit::StringIo(_) => 5,
            Exit::Rdmsr => 6,
            Exit::Wrmsr => 7,
            Exit::Cr(_) => 8,
            Exit::Dr => 9,
            Exit::NestedFault(_) => 10,
            Exit::ApicAccess { .. } => 11,
            Exit::ApicWrite { .. } => 12,
            Exit::Eoi(_) => 13,
            Exit::TprBelowThreshold => 14,
            Exit::Hypercall => 15,
            Exit::Exception { .. } => 16,
            Exit::InterruptWindow => 17,
            Exit::NmiWindow => 18,
            Exit::HostInterrupt => 19,
            Exit::HostNmi => 20,
            Exit::TripleFault => 21,
            Exit::TaskSwitch { .. } => 22,
            Exit::Xsetbv => 23,
            Exit::Invd => 24,
            Exit::Wbinvd => 25,
            Exit::Monitor => 26,
            Exit::Mwait => 27,
            Exit::Rdtsc => 28,
            Exit::Rdtscp => 29,
            Exit::Rdpmc => 30,
            Exit::Invlpg => 31,
            Exit::Undefined => 32,
            Exit::PreemptionTimer => 33,
            Exit::MonitorTrap => 34,
            Exit::Init => 35,
            Exit::Other { .. } => 36,
            Exit::BadState { .. } => 37,
        }
    }
}
