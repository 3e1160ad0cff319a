//! What makes a guest exit, by need and capability (SDM 3C "VM-Execution Control Fields").
//!
//! Not intercepted: CR3, INVLPG, RDTSC, debug registers, CR8 where there is a TPR shadow, PAUSE but
//! for loops that take too long. A capability MSR tells in its low half which controls must be 1,
//! in its high half which may be.
#![allow(missing_docs, reason = "the names of the bits are the manual's own")]

use crate::caps::Unsupported;
use bitflags::bitflags;

bitflags! {
    /// Pin-based VM-execution controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pin: u32 {
        const EXTERNAL_INTERRUPT = 1;
        const NMI = 1 << 3;
        const VIRTUAL_NMIS = 1 << 5;
        const PREEMPTION_TIMER = 1 << 6;
        const POSTED_INTERRUPTS = 1 << 7;
    }

    /// Primary processor-based VM-execution controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Primary: u32 {
        const INTERRUPT_WINDOW = 1 << 2;
        const TSC_OFFSETTING = 1 << 3;
        const HLT = 1 << 7;
        const INVLPG = 1 << 9;
        const MWAIT = 1 << 10;
        const RDPMC = 1 << 11;
        const RDTSC = 1 << 12;
        const CR3_LOAD = 1 << 15;
        const CR3_STORE = 1 << 16;
        const CR8_LOAD = 1 << 19;
        const CR8_STORE = 1 << 20;
        const TPR_SHADOW = 1 << 21;
        const NMI_WINDOW = 1 << 22;
        const MOV_DR = 1 << 23;
        const UNCONDITIONAL_IO = 1 << 24;
        const IO_BITMAPS = 1 << 25;
        const MONITOR_TRAP = 1 << 27;
        const MSR_BITMAPS = 1 << 28;
        const MONITOR = 1 << 29;
        const PAUSE = 1 << 30;
        const SECONDARY = 1 << 31;
    }

    /// Secondary processor-based VM-execution controls.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Secondary: u32 {
        const APIC_ACCESSES = 1;
        const EPT = 1 << 1;
        const DESCRIPTOR_TABLE = 1 << 2;
        const RDTSCP = 1 << 3;
        const X2APIC = 1 << 4;
        const VPID = 1 << 5;
        const WBINVD = 1 << 6;
        const UNRESTRICTED_GUEST = 1 << 7;
        const APIC_REGISTERS = 1 << 8;
        const VIRTUAL_INTERRUPT_DELIVERY = 1 << 9;
        const PAUSE_LOOP = 1 << 10;
        const RDRAND = 1 << 11;
        const INVPCID = 1 << 12;
        const VM_FUNCTIONS = 1 << 13;
        const XSAVES = 1 << 20;
        const TSC_SCALING = 1 << 25;
    }

    /// VM-exit controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExitControls: u32 {
        const SAVE_DEBUG = 1 << 2;
        const HOST_LONG_MODE = 1 << 9;
        const ACKNOWLEDGE = 1 << 15;
        const SAVE_PAT = 1 << 18;
        const LOAD_PAT = 1 << 19;
        const SAVE_EFER = 1 << 20;
        const LOAD_EFER = 1 << 21;
        const SAVE_PREEMPTION_TIMER = 1 << 22;
    }

    /// VM-entry controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryControls: u32 {
        const LOAD_DEBUG = 1 << 2;
        const LONG_MODE = 1 << 9;
        const LOAD_PAT = 1 << 14;
        const LOAD_EFER = 1 << 15;
    }
}

/// Vectors that exit: machine checks are the host's; a guest whose own handler faults for ever must
/// leave (#DB and #AC do not count as nested faults, so that the CPU would deliver them without
/// end).
pub const EXCEPTIONS: u32 =
    1 << arch::event::vector::DB | 1 << arch::event::vector::AC | 1 << arch::event::vector::MC;

/// Cycles between two PAUSEs of the same loop, and of a loop that has taken too long
/// (SDM 3C "Pause-Loop Exiting").
pub const PLE: (u32, u32) = (128, 4096);

/// What a capability MSR allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that must be 1.
    pub must: u32,
    /// Bits that may be 1.
    pub may: u32,
}

impl Allowed {
    /// Splits a capability MSR (SDM 3D "VM-Execution Controls").
    #[must_use]
    pub const fn from_msr(value: u64) -> Allowed {
        Allowed { must: value as u32, may: (value >> 32) as u32 }
    }

    /// Whether all of `bits` may be 1.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        bits & !self.may == 0
    }

    /// `need`, what there is of `want`, and what must be; or what is missing of `need`.
    ///
    /// # Errors
    /// Missing bits.
    pub const fn fix(self, need: u32, want: u32) -> Result<u32, u32> {
        if self.has(need) { Ok(need | want & self.may | self.must) } else { Err(need & !self.may) }
    }
}

/// The capability MSRs of the five control fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedControls {
    pub pin: Allowed,
    pub primary: Allowed,
    pub secondary: Allowed,
    pub exit: Allowed,
    pub entry: Allowed,
}

impl AllowedControls {
    /// Whether a guest's running time can be bounded: a timer that goes on where it stopped.
    #[must_use]
    pub const fn preemption_timer(&self) -> bool {
        self.pin.has(Pin::PREEMPTION_TIMER.bits())
            && self.exit.has(ExitControls::SAVE_PREEMPTION_TIMER.bits())
    }
}

/// The controls that a vCPU starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    pub pin: u32,
    pub primary: u32,
    pub secondary: u32,
    pub exit: u32,
    pub entry: u32,
}

impl Controls {
    /// What guests need, and what helps them where it is there.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn by_need(allowed: &AllowedControls) -> Result<Controls, Unsupported> {
        if !allowed.primary.has(Primary::SECONDARY.bits())
            || !allowed.secondary.has(Secondary::EPT.bits())
        {
            return Err(Unsupported::NoEpt);
        }
        if !allowed.secondary.has(Secondary::UNRESTRICTED_GUEST.bits()) {
            return Err(Unsupported::NoUnrestrictedGuest);
        }
        let missing = |register| move |bits| Unsupported::NoControl { register, bits };
        // Whoever has unrestricted guest has virtual NMIs and the EFER and PAT controls.
        let pin = Pin::EXTERNAL_INTERRUPT | Pin::NMI | Pin::VIRTUAL_NMIS;
        let timed = allowed.preemption_timer();
        let timer = if timed { Pin::PREEMPTION_TIMER.bits() } else { 0 };
        let pin = allowed.pin.fix(pin.bits(), timer).map_err(missing("pin-based"))?;
        let tpr = if allowed.primary.has(Primary::TPR_SHADOW.bits()) {
            Primary::TPR_SHADOW
        } else {
            Primary::CR8_LOAD | Primary::CR8_STORE
        };
        let primary = Primary::TSC_OFFSETTING
            | Primary::HLT
            | Primary::MWAIT
            | Primary::RDPMC
            | Primary::IO_BITMAPS
            | Primary::MSR_BITMAPS
            | Primary::MONITOR
            | Primary::SECONDARY
            | tpr;
        let primary = allowed.primary.fix(primary.bits(), 0).map_err(missing("primary"))?;
        let need = Secondary::EPT | Secondary::UNRESTRICTED_GUEST;
        let want = Secondary::RDTSCP
            | Secondary::VPID
            | Secondary::WBINVD
            | Secondary::PAUSE_LOOP
            | Secondary::INVPCID;
        let secondary = allowed.secondary.fix(need.bits(), want.bits());
        let secondary = secondary.map_err(missing("secondary"))?;
        let exit = ExitControls::SAVE_DEBUG
            | ExitControls::HOST_LONG_MODE
            | ExitControls::SAVE_PAT
            | ExitControls::LOAD_PAT
            | ExitControls::SAVE_EFER
            | ExitControls::LOAD_EFER;
        let timer = if timed { ExitControls::SAVE_PREEMPTION_TIMER.bits() } else { 0 };
        let exit = allowed.exit.fix(exit.bits(), timer).map_err(missing("exit"))?;
        let entry = EntryControls::LOAD_DEBUG | EntryControls::LOAD_PAT | EntryControls::LOAD_EFER;
        let entry = allowed.entry.fix(entry.bits(), 0).map_err(missing("entry"))?;
        Ok(Controls { pin, primary, secondary, exit, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_one_is_and_what_may_not_is_left_out() {
        let allowed = Allowed::from_msr(0x0000_00ff_0000_0016);
        assert_eq!(allowed.fix(0x20, 0x140), Ok(0x76));
        assert_eq!(allowed.fix(0x120, 0), Err(0x100));
    }
}
