//! Exits that are the back end's own, in whole or in part: host events, windows, control-register
//! writes, entries that the CPU refuses.

use super::{VmxVcpu, Wanted};
use crate::controls::Primary;
use crate::event;
use crate::exit::{self, ENTRY_FAILED, reason};
use crate::field as f;
use crate::hw;
use arch::control::{cr0, cr4, efer};
use arch::event::vector;
use arch::exit::CrAccess;
use arch::{Blocking, Event, EventKind, Exit, SysReg, Vcpu};

/// What to do about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Decode it.
    Decode,
    /// It was ours alone: enter again.
    Enter,
    /// It means this.
    Give(Exit),
}

/// DR6: what #DB sets, as the exit qualification has it (SDM 3C "Exit Qualification for Debug
/// Exceptions").
const DR6_CAUSES: u64 = 0x600f;
/// DR6.BLD and RTM: 0 where they are the cause, 1 in the exit qualification.
const DR6_INVERTED: u64 = 1 << 11 | 1 << 16;
/// DR7.GD: cleared by the delivery of #DB.
const DR7_GD: u64 = 1 << 13;

impl VmxVcpu {
    #[cold]
    pub(super) fn own(&mut self, exit_reason: u32) -> After {
        match exit_reason {
            _ if exit_reason & ENTRY_FAILED != 0 => After::Give(self.refused_late(exit_reason)),
            reason::EXCEPTION_OR_NMI => self.exception(),
            reason::EXTERNAL_INTERRUPT => {
                self.serve_interrupt();
                After::Decode
            }
            reason::INTERRUPT_WINDOW => {
                self.want(Wanted { interrupt: false, ..self.wanted });
                After::Decode
            }
            reason::NMI_WINDOW => {
                self.want(Wanted { nmi: false, ..self.wanted });
                After::Decode
            }
            reason::TPR_BELOW_THRESHOLD => {
                self.want(Wanted { held_back: 0, ..self.wanted });
                After::Decode
            }
            reason::CR_ACCESS => self.control_register(),
            _ => After::Decode,
        }
    }

    /// A host interrupt that the exit has acknowledged is no longer pending: it is served before anything
    /// else can happen. Without posting it is, and the host takes it as soon as it opens interrupts.
    fn serve_interrupt(&self) {
        let Some(posting) = self.tables.posting() else { return };
        let info = self.vmcs.get_current(f::EXIT_INTERRUPTION);
        if info & event::VALID != 0 {
            hw::close_interrupts();
            (posting.interrupt)(info as u8);
        }
    }

    fn exception(&mut self) -> After {
        let info = self.vmcs.get_current(f::EXIT_INTERRUPTION);
        if event::is_nmi(info) {
            hw::call_nmi_handler();
            return After::Give(Exit::HostNmi);
        }
        if info & event::NMI_UNBLOCKED != 0 {
            exit::block_nmis_again(&self.vmcs);
        }
        match info as u8 {
            vector::MC => {
                // If the host's handler comes back, the guest goes on.
                hw::call_machine_check_handler();
                After::Give(Exit::HostNmi)
            }
            vector::DB if event::is_int1(info) => {
                self.repeat_int1();
                After::Enter
            }
            vector::DB => {
                // Intercepted, it has not changed DR6 and DR7 yet.
                let cause = self.vmcs.get_current(f::EXIT_QUALIFICATION);
                let dr6 = self.reg(SysReg::Dr6) & !0xf | cause & DR6_CAUSES | DR6_INVERTED;
                self.set_reg(SysReg::Dr6, dr6 & !(cause & DR6_INVERTED));
                let dr7 = self.reg(SysReg::Dr7);
                self.set_reg(SysReg::Dr7, dr7 & !DR7_GD);
                After::Decode
            }
            _ => After::Decode,
        }
    }

    /// INT1 ends in #DB as INT 1 does, behind the instruction and with no cause in DR6; as it was intercepted, it has not
    /// been executed.
    fn repeat_int1(&mut self) {
        let insn_len = self.vmcs.get_current(f::INSTRUCTION_LENGTH) as u8;
        let kind = EventKind::PrivilegedSoftwareException;
        self.inject(Some(Event { kind, vector: vector::DB, error_code: None, insn_len }));
        // The delivery ends a shadow of MOV SS and the single step that was pending in it.
        let blocking = self.blocking();
        self.set_blocking(Blocking { shadow: false, ..blocking });
        self.vmcs.set_current(f::PENDING_DEBUG, 0);
    }

    /// A write that changes no more of the host's bits than what is only a shadow (NE, CD, NW, MCE)
    /// executes again with the shadow as it wants it: the CPU then does the rest, page-directory
    /// pointers included.
    fn control_register(&mut self) -> After {
        let qualification = self.vmcs.get_current(f::EXIT_QUALIFICATION);
        match exit::control_register(qualification) {
            CrAccess::Write { cr: 0, gpr } => {
                let value = self.gprs.get(gpr);
                let old = self.reg(SysReg::Cr0);
                if !legal_cr0(old, value, self.reg(SysReg::Efer), self.reg(SysReg::Cr4)) {
                    return After::Decode;
                }
                self.set_cr0_shadow(value);
                After::Enter
            }
            CrAccess::Write { cr: 4, gpr } => {
                let value = self.gprs.get(gpr);
                let (_, may) = self.caps.cr4;
                let (mask, shadow) = (self.cr4_mask(), self.cr4_shadow);
                if value & !may != 0 || (value ^ shadow) & mask & !cr4::MCE != 0 {
                    return After::Decode;
                }
                self.set_cr4_shadow(value);
                After::Enter
            }
            _ => After::Decode,
        }
    }

    /// The entry instruction failed.
    #[cold]
    pub(super) fn refused(&mut self) -> Exit {
        let error = self.vmcs.get_current(f::INSTRUCTION_ERROR);
        log::error!("VM entry failed: VM-instruction error {error}");
        self.log_state();
        Exit::BadState { code: error.into() }
    }

    /// The entry failed while it loaded the guest's state.
    fn refused_late(&mut self, exit_reason: u32) -> Exit {
        let qualification = self.vmcs.get_current(f::EXIT_QUALIFICATION);
        log::error!("VM entry failed: exit reason {exit_reason:#x}, {qualification:#x}");
        self.log_state();
        Exit::BadState { code: exit_reason.into() }
    }

    /// What the checks on entry look at (SDM 3C "Checks on VMX Controls", "Checks on the Guest
    /// State Area").
    fn log_state(&self) {
        let get = |field| self.vmcs.get_current(field);
        let get_32 = |field| self.vmcs.get_current(field);
        let controls = [
            f::PIN_CONTROLS,
            f::PRIMARY_CONTROLS,
            f::SECONDARY_CONTROLS,
            f::EXIT_CONTROLS,
            f::ENTRY_CONTROLS,
        ];
        log::error!("controls {:#x?}", controls.map(get_32));
        log::error!(
            "cr0 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} dr7 {:#x} rflags {:#x} rip {:#x} rsp {:#x}",
            get(f::CR0),
            get(f::CR3),
            get(f::CR4),
            get(f::EFER),
            get(f::DR7),
            get(f::RFLAGS),
            get(f::RIP),
            get(f::RSP)
        );
        log::error!(
            "interruptibility {:#x} activity {} pending debug {:#x} event {:#x} {:#x} length {}",
            get_32(f::INTERRUPTIBILITY),
            get_32(f::ACTIVITY),
            get(f::PENDING_DEBUG),
            get_32(f::ENTRY_INTERRUPTION),
            get_32(f::ENTRY_ERROR_CODE),
            get_32(f::ENTRY_INSTRUCTION_LENGTH)
        );
        for reg in super::regs::SEGMENTS {
            let s = self.segment(reg);
            log::error!(
                "{reg:?} {:#x} base {:#x} limit {:#x} access {:#x}",
                s.selector,
                s.base,
                s.limit,
                s.access
            );
        }
    }

    /// Arms the windows that are asked for.
    #[cold]
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        self.settle();
    }

    /// Brings controls in line with what is wanted.
    pub(super) fn settle(&mut self) {
        let Wanted { mut interrupt, nmi, held_back } = self.wanted;
        if self.caps.tpr_shadow() {
            let cr8 = self.reg(SysReg::Cr8) as u8;
            // Entry refuses a threshold above the priority: then nothing holds the interrupt back.
            let threshold = if held_back <= cr8 { held_back } else { 0 };
            interrupt |= held_back > cr8;
            self.vmcs.set(f::TPR_THRESHOLD, threshold.into());
        }
        let mut primary = Primary::from_bits_retain(self.primary);
        primary.set(Primary::INTERRUPT_WINDOW, interrupt);
        primary.set(Primary::NMI_WINDOW, nmi);
        if primary.bits() != self.primary {
            self.primary = primary.bits();
            self.vmcs.set(f::PRIMARY_CONTROLS, self.primary);
        }
    }
}

/// Whether MOV of `value` to CR0 cannot fault, as far as this matters (SDM 2B "MOV—Move to/from
/// Control Registers"). What can fault is left to the machine.
fn legal_cr0(old: u64, value: u64, efer: u64, cr4: u64) -> bool {
    let on = |bit| value & bit != 0;
    if value >> 32 != 0 || on(cr0::PG) && !on(cr0::PE) || on(cr0::NW) && !on(cr0::CD) {
        return false;
    }
    match (old & cr0::PG != 0, on(cr0::PG)) {
        (false, true) => efer & efer::LME == 0 || cr4 & cr4::PAE != 0,
        (true, false) => efer & efer::LMA == 0 && cr4 & cr4::PCIDE == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_cr0_that_fault_are_left_to_the_machine() {
        let pae = cr4::PAE;
        assert!(legal_cr0(0x11, 0x8000_0031, 0, 0));
        assert!(legal_cr0(0x11, 0x8000_0031, efer::LME, pae));
        assert!(!legal_cr0(0x11, 0x8000_0031, efer::LME, 0));
        assert!(!legal_cr0(0x11, 0x8000_0030, 0, 0));
        assert!(!legal_cr0(0x11, cr0::NW | 1, 0, 0));
        assert!(!legal_cr0(0x11, 1 << 32, 0, 0));
        assert!(!legal_cr0(0x8000_0031, 0x31, efer::LME | efer::LMA, pae));
        assert!(legal_cr0(0x8000_0031, cr0::CD | 0x8000_0031, efer::LME | efer::LMA, pae));
    }
}
