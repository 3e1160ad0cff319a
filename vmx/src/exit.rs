//! Exit reason and qualification into [`Exit`] (SDM 3D "VMX Basic Exit Reasons", 3C "Basic VM-Exit
//! Information").
//!
//! Windows, host events and control-register writes that concern the host's bits alone are taken
//! out before, in `cpu`.

use crate::event;
use crate::field as f;
use crate::vmcs::Vmcs;
use arch::exit::{CrAccess, NestedFault, StringIo, StringIoDetail, TaskSwitchSource};
use arch::{Access, Exit, Gpr, GuestPhys, GuestVirt, SegReg};

/// Basic exit reasons.
#[allow(missing_docs, reason = "the names are the manual's own")]
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INIT: u32 = 3;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const NMI_WINDOW: u32 = 8;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const INVLPG: u32 = 14;
    pub const RDPMC: u32 = 15;
    pub const RDTSC: u32 = 16;
    pub const RSM: u32 = 17;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CR_ACCESS: u32 = 28;
    pub const MOV_DR: u32 = 29;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const MWAIT: u32 = 36;
    pub const MONITOR_TRAP: u32 = 37;
    pub const MONITOR: u32 = 39;
    pub const PAUSE: u32 = 40;
    pub const TPR_BELOW_THRESHOLD: u32 = 43;
    pub const APIC_ACCESS: u32 = 44;
    pub const VIRTUALIZED_EOI: u32 = 45;
    pub const GDTR_IDTR: u32 = 46;
    pub const LDTR_TR: u32 = 47;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const RDTSCP: u32 = 51;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const APIC_WRITE: u32 = 56;
    pub const RDRAND: u32 = 57;
    pub const INVPCID: u32 = 58;
    pub const VMFUNC: u32 = 59;
    pub const ENCLS: u32 = 60;
    pub const RDSEED: u32 = 61;
    pub const XSAVES: u32 = 63;
    pub const XRSTORS: u32 = 64;
    pub const PCONFIG: u32 = 65;
    pub const UMWAIT: u32 = 67;
    pub const TPAUSE: u32 = 68;
    pub const LOADIWKEY: u32 = 69;
    pub const ENCLV: u32 = 70;
    pub const SEAMCALL: u32 = 76;
    pub const TDCALL: u32 = 77;
    pub const RDMSRLIST: u32 = 78;
    pub const WRMSRLIST: u32 = 79;
    pub const RDMSR_IMMEDIATE: u32 = 84;
    pub const WRMSR_IMMEDIATE: u32 = 85;
}

/// Bit 31 of the exit reason: the entry failed.
pub const ENTRY_FAILED: u32 = 1 << 31;

/// Exit qualification of an EPT violation: an IRET had already unblocked NMIs when it faulted.
const NMI_UNBLOCKED: u64 = 1 << 12;
/// Interruptibility state: NMIs are blocked.
pub(crate) const NMI_BLOCKING: u32 = 1 << 3;

/// Why the guest stopped, for the reasons that come often; `rare` answers for the others. `string_info`: INS and
/// OUTS report address size and segment.
#[inline(always)]
pub(crate) fn decode_or(
    vmcs: &Vmcs,
    reason: u32,
    string_info: bool,
    rare: impl FnOnce() -> Exit,
) -> Exit {
    match reason {
        reason::CPUID => Exit::Cpuid,
        reason::IO => io(vmcs, string_info),
        reason::EPT_VIOLATION => nested_fault(vmcs),
        reason::RDMSR => Exit::Rdmsr,
        reason::WRMSR => Exit::Wrmsr,
        reason::EXTERNAL_INTERRUPT => Exit::HostInterrupt,
        reason::HLT => Exit::Hlt,
        reason::VMCALL => Exit::Hypercall,
        _ => rare(),
    }
}

/// As [`decode_or`], for all reasons.
#[cfg(test)]
pub(crate) fn decode(vmcs: &Vmcs, reason: u32, string_info: bool) -> Exit {
    decode_or(vmcs, reason, string_info, || decode_rare(vmcs, reason))
}

#[cold]
pub(crate) fn decode_rare(vmcs: &Vmcs, reason: u32) -> Exit {
    let qualification = || vmcs.get_current(f::EXIT_QUALIFICATION);
    match reason {
        reason::EXCEPTION_OR_NMI => exception(vmcs),
        reason::TRIPLE_FAULT => Exit::TripleFault,
        reason::INIT => Exit::Init,
        reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::TASK_SWITCH => {
            let info = vmcs.get_current(f::IDT_VECTORING);
            task_switch(qualification(), info, vmcs.get_current(f::IDT_VECTORING_ERROR_CODE))
        }
        reason::INVD => Exit::Invd,
        reason::INVLPG => Exit::Invlpg,
        reason::RDPMC => Exit::Rdpmc,
        reason::RDTSC => Exit::Rdtsc,
        reason::CR_ACCESS => Exit::Cr(control_register(qualification())),
        reason::MOV_DR => Exit::Dr,
        reason::MWAIT => Exit::Mwait,
        reason::MONITOR_TRAP => Exit::MonitorTrap,
        reason::MONITOR => Exit::Monitor,
        reason::PAUSE => Exit::Pause,
        reason::TPR_BELOW_THRESHOLD => Exit::TprBelowThreshold,
        reason::APIC_ACCESS => {
            let qualification = qualification();
            // SDM 3C "Exit Qualification for APIC-Access VM Exits": types 1 and 3 write.
            let write = matches!(qualification >> 12 & 15, 1 | 3);
            Exit::ApicAccess { offset: qualification as u16 & 0xfff, write }
        }
        reason::VIRTUALIZED_EOI => Exit::Eoi(qualification() as u8),
        reason::APIC_WRITE => Exit::ApicWrite { offset: qualification() as u16 & 0xfff },
        reason::RDTSCP => Exit::Rdtscp,
        reason::PREEMPTION_TIMER => Exit::PreemptionTimer,
        reason::WBINVD => Exit::Wbinvd,
        reason::XSETBV => Exit::Xsetbv,
        // Of instructions that CPUID does not offer. SEAMCALL and TDCALL exit from any privilege level
        // where the CPU knows them, so that a guest's programs could end their guest.
        reason::GETSEC
        | reason::RSM
        | reason::VMCLEAR..=reason::VMXON
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC
        | reason::ENCLS
        | reason::XSAVES
        | reason::XRSTORS
        | reason::PCONFIG
        | reason::UMWAIT..=reason::ENCLV
        | reason::SEAMCALL..=reason::WRMSRLIST
        | reason::RDMSR_IMMEDIATE
        | reason::WRMSR_IMMEDIATE => Exit::Undefined,
        _ => Exit::Other { code: reason.into(), info: qualification() },
    }
}

/// SDM 3C "Exit Qualification for I/O Instructions".
#[inline]
fn io(vmcs: &Vmcs, string_info: bool) -> Exit {
    let qualification = vmcs.get_current(f::EXIT_QUALIFICATION);
    let port = (qualification >> 16) as u16;
    let width = (qualification & 7) as u8 + 1;
    let write = qualification & 1 << 3 == 0;
    if qualification & 1 << 4 != 0 {
        let info = if string_info { Some(vmcs.get_current(f::INSTRUCTION_INFO)) } else { None };
        let rep = qualification & 1 << 5 != 0;
        let detail = info.and_then(|info| string_detail(info, write));
        return Exit::StringIo(StringIo { port, width, write, rep, detail });
    }
    if write { Exit::Out { port, width } } else { Exit::In { port, width } }
}

/// SDM 3C "Format of the VM-Exit Instruction-Information Field as Used for INS and OUTS".
fn string_detail(info: u32, write: bool) -> Option<StringIoDetail> {
    let address_size = match info >> 7 & 7 {
        0 => 2,
        1 => 4,
        2 => 8,
        _ => return None,
    };
    // The segment is there for OUTS; INS always stores to ES.
    let segment = match info >> 15 & 7 {
        _ if !write => SegReg::Es,
        0 => SegReg::Es,
        1 => SegReg::Cs,
        2 => SegReg::Ss,
        3 => SegReg::Ds,
        4 => SegReg::Fs,
        5 => SegReg::Gs,
        _ => return None,
    };
    Some(StringIoDetail { address_size, segment })
}

#[inline]
fn nested_fault(vmcs: &Vmcs) -> Exit {
    let qualification = vmcs.get_current(f::EXIT_QUALIFICATION);
    if qualification & NMI_UNBLOCKED != 0 {
        block_nmis_again(vmcs);
    }
    let gva = if qualification & GVA_VALID != 0 {
        Some(GuestVirt(vmcs.get_current(f::GUEST_LINEAR_ADDRESS)))
    } else {
        None
    };
    ept_violation(qualification, GuestPhys(vmcs.get_current(f::GUEST_PHYSICAL_ADDRESS)), gva)
}

/// The linear address is known.
const GVA_VALID: u64 = 1 << 7;
/// The fault is of the linear address's own translation; else of the walk to it.
const FINAL: u64 = 1 << 8;

/// SDM 3C "Exit Qualification for EPT Violations". With accessed and dirty bits, walks count as
/// writes.
#[inline]
fn ept_violation(qualification: u64, gpa: GuestPhys, gva: Option<GuestVirt>) -> Exit {
    let mut access = if qualification & 2 != 0 {
        Access::WRITE
    } else if qualification & 4 != 0 {
        Access::EXEC
    } else {
        Access::READ
    };
    if qualification & (GVA_VALID | FINAL) == GVA_VALID {
        access |= Access::WALK;
    }
    let present = qualification & 7 << 3 != 0;
    Exit::NestedFault(NestedFault { gpa, gva, access, present })
}

/// SDM 3C "NMI Unblocking due to IRET": the fault comes before the IRET is done, so that NMIs are
/// still blocked. While an event is being delivered the bit means nothing.
#[cold]
pub(crate) fn block_nmis_again(vmcs: &Vmcs) {
    if vmcs.get_current(f::IDT_VECTORING) & event::VALID == 0 {
        let state = vmcs.get_current(f::INTERRUPTIBILITY);
        vmcs.set_current(f::INTERRUPTIBILITY, state | NMI_BLOCKING);
    }
}

fn exception(vmcs: &Vmcs) -> Exit {
    let info = vmcs.get_current(f::EXIT_INTERRUPTION);
    if event::is_nmi(info) {
        return Exit::HostNmi;
    }
    Exit::Exception {
        vector: info as u8,
        error_code: event::error_code(info, vmcs.get_current(f::EXIT_ERROR_CODE)),
        qualification: vmcs.get_current(f::EXIT_QUALIFICATION),
    }
}

/// SDM 3C "Exit Qualification for Control-Register Accesses".
pub(crate) fn control_register(qualification: u64) -> CrAccess {
    let cr = (qualification & 15) as u8;
    let gpr = Gpr::from_bits((qualification >> 8) as u8);
    match qualification >> 4 & 3 {
        0 => CrAccess::Write { cr, gpr },
        1 => CrAccess::Read { cr, gpr },
        2 => CrAccess::Clts,
        _ => CrAccess::Lmsw((qualification >> 16) as u16),
    }
}

/// SDM 3C "Exit Qualification for Task Switch". The error code is that of the event that went to
/// the task gate.
fn task_switch(qualification: u64, idt_vectoring: u32, code: u32) -> Exit {
    let source = match qualification >> 30 & 3 {
        0 => TaskSwitchSource::Call,
        1 => TaskSwitchSource::Iret,
        2 => TaskSwitchSource::Jmp,
        _ => TaskSwitchSource::Gate,
    };
    let delivered = source == TaskSwitchSource::Gate && idt_vectoring & event::VALID != 0;
    let error_code = if delivered { event::error_code(idt_vectoring, code) } else { None };
    Exit::TaskSwitch { selector: qualification as u16, source, error_code }
}

/// Whether the exit's instruction length means anything: an instruction was intercepted, or asked
/// for the event (SDM 3C "Information for VM Exits Due to Instruction Execution"). `event`: exit
/// interruption information of an exception, IDT-vectoring information of a task switch.
pub(crate) fn has_length(reason: u32, event: impl Fn() -> u32, gate: impl Fn() -> bool) -> bool {
    match reason {
        reason::CPUID..=reason::WRMSR
        | reason::MWAIT
        | reason::MONITOR
        | reason::PAUSE
        | reason::GDTR_IDTR
        | reason::LDTR_TR
        | reason::INVEPT
        | reason::RDTSCP
        | reason::INVVPID..=reason::XSETBV
        | reason::RDRAND..=reason::RDSEED
        | reason::XSAVES
        | reason::XRSTORS
        | reason::UMWAIT
        | reason::TPAUSE => true,
        reason::EXCEPTION_OR_NMI => event::is_software(event()),
        // By a gate for an event that no instruction asked for, RIP is where it was.
        reason::TASK_SWITCH => !gate() || event::is_software(event()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
