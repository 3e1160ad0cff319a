//! What the CPU offers for VMX (SDM 3D "VMX Capability Reporting Facility").

use crate::controls::{Allowed, AllowedControls, Controls, ExitControls, Pin, Primary, Secondary};
use arch::slat::PageSize;
use core::fmt;
use x86::msr;

/// IA32_FEATURE_CONTROL: no more changes.
pub(crate) const LOCKED: u64 = 1;
/// IA32_FEATURE_CONTROL: VMXON works outside SMX.
pub(crate) const VMX_OUTSIDE_SMX: u64 = 1 << 2;

/// IA32_VMX_EPT_VPID_CAP.
mod ept_vpid {
    pub const EXECUTE_ONLY: u64 = 1;
    pub const WALK_4: u64 = 1 << 6;
    pub const WRITE_BACK: u64 = 1 << 14;
    pub const LARGE: u64 = 1 << 16;
    pub const HUGE: u64 = 1 << 17;
    pub const INVEPT: u64 = 1 << 20;
    pub const ACCESSED_DIRTY: u64 = 1 << 21;
    pub const INVEPT_SINGLE: u64 = 1 << 25;
    pub const INVEPT_ALL: u64 = 1 << 26;
    pub const INVVPID: u64 = 1 << 32;
    pub const INVVPID_SINGLE: u64 = 1 << 41;
}

/// IA32_VMX_BASIC: INS and OUTS report address size and segment.
const STRING_IO_INFO: u64 = 1 << 54;
/// IA32_VMX_BASIC: the TRUE capability MSRs exist.
const TRUE_CONTROLS: u64 = 1 << 55;

/// A CPU's VMX, checked to be usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// VMCS revision identifier.
    pub revision: u32,
    /// INS and OUTS report address size and segment.
    pub string_io_info: bool,
    /// What may be controlled.
    pub allowed: AllowedControls,
    /// Bits of CR0 that must be 1 in VMX operation, and that may be.
    pub cr0: (u64, u64),
    /// The same of CR4.
    pub cr4: (u64, u64),
    /// Second-level tables.
    pub ept: EptCaps,
    /// VPIDs with INVVPID of a single context.
    pub vpid: bool,
    /// The preemption timer counts once in 2 to the power of this many TSC ticks.
    pub preemption_rate: u32,
}

/// What second-level tables may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EptCaps {
    /// Largest page.
    pub largest: PageSize,
    /// Accessed and dirty bits.
    pub accessed_dirty: bool,
    /// Pages may be executable but not readable.
    pub execute_only: bool,
    /// INVEPT of a single context; else of all.
    pub invept_single: bool,
}

/// Why this machine cannot run guests by VMX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// CPUID reports no VMX.
    NoVmx,
    /// Firmware has switched VMX off and locked it (IA32_FEATURE_CONTROL).
    DisabledByFirmware,
    /// A VMCS is not kept in write-back memory.
    VmcsMemory,
    /// No extended page tables.
    NoEpt,
    /// EPT without four-level write-back tables, 2 MiB pages or INVEPT.
    EptFormat,
    /// Real mode cannot run.
    NoUnrestrictedGuest,
    /// A control that guests need.
    NoControl {
        /// Which control field.
        register: &'static str,
        /// Bits of it that may not be 1.
        bits: u32,
    },
    /// VMXON failed.
    VmxonFailed,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Unsupported::NoVmx => "no VMX",
            Unsupported::DisabledByFirmware => "VMX is locked off in IA32_FEATURE_CONTROL",
            Unsupported::VmcsMemory => "VMX without write-back memory for the VMCS",
            Unsupported::NoEpt => "VMX without extended page tables (EPT)",
            Unsupported::EptFormat => {
                "EPT without four-level write-back tables, 2 MiB pages or INVEPT"
            }
            Unsupported::NoUnrestrictedGuest => "VMX without unrestricted guest",
            Unsupported::NoControl { register, bits } => {
                return write!(f, "VMX without the {register} controls {bits:#x}");
            }
            Unsupported::VmxonFailed => "VMXON failed",
        };
        f.write_str(words)
    }
}

/// What to write to IA32_FEATURE_CONTROL before VMXON, if anything.
pub(crate) const fn unlock(feature_control: u64) -> Result<Option<u64>, Unsupported> {
    if feature_control & VMX_OUTSIDE_SMX != 0 && feature_control & LOCKED != 0 {
        Ok(None)
    } else if feature_control & LOCKED == 0 {
        Ok(Some(feature_control | VMX_OUTSIDE_SMX | LOCKED))
    } else {
        Err(Unsupported::DisabledByFirmware)
    }
}

impl Caps {
    /// Reads capabilities by `rdmsr` on a CPU whose CPUID reports VMX. Only MSRs that exist are
    /// read.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn read(rdmsr: impl Fn(u32) -> u64) -> Result<Caps, Unsupported> {
        unlock(rdmsr(msr::IA32_FEATURE_CONTROL))?;
        let basic = rdmsr(msr::IA32_VMX_BASIC);
        // SDM 3D "Basic VMX Information": 6 is write-back; a VMCS is never more than a page.
        if basic >> 50 & 15 != 6 {
            return Err(Unsupported::VmcsMemory);
        }
        let exact = basic & TRUE_CONTROLS != 0;
        let allowed =
            |plain, exact_one| Allowed::from_msr(rdmsr(if exact { exact_one } else { plain }));
        let mut allowed = AllowedControls {
            pin: allowed(msr::IA32_VMX_PINBASED_CTLS, msr::IA32_VMX_TRUE_PINBASED_CTLS),
            primary: allowed(msr::IA32_VMX_PROCBASED_CTLS, msr::IA32_VMX_TRUE_PROCBASED_CTLS),
            secondary: Allowed::default(),
            exit: allowed(msr::IA32_VMX_EXIT_CTLS, msr::IA32_VMX_TRUE_EXIT_CTLS),
            entry: allowed(msr::IA32_VMX_ENTRY_CTLS, msr::IA32_VMX_TRUE_ENTRY_CTLS),
        };
        if allowed.primary.has(Primary::SECONDARY.bits()) {
            allowed.secondary = Allowed::from_msr(rdmsr(msr::IA32_VMX_PROCBASED_CTLS2));
        }
        Controls::by_need(&allowed)?;
        let cap = rdmsr(msr::IA32_VMX_EPT_VPID_CAP);
        let ept = EptCaps::from_msr(cap)?;
        // VPIDs are of use only if they can be flushed; without their control, entries flush.
        let vpid = allowed.secondary.has(Secondary::VPID.bits())
            && cap & ept_vpid::INVVPID != 0
            && cap & ept_vpid::INVVPID_SINGLE != 0;
        if !vpid {
            allowed.secondary.may &= !Secondary::VPID.bits();
        }
        Ok(Caps {
            revision: basic as u32 & 0x7fff_ffff,
            string_io_info: basic & STRING_IO_INFO != 0,
            allowed,
            cr0: (rdmsr(msr::IA32_VMX_CR0_FIXED0), rdmsr(msr::IA32_VMX_CR0_FIXED1)),
            cr4: (rdmsr(msr::IA32_VMX_CR4_FIXED0), rdmsr(msr::IA32_VMX_CR4_FIXED1)),
            ept,
            vpid,
            // SDM 3D "Miscellaneous Data": bits 4:0.
            preemption_rate: rdmsr(msr::IA32_VMX_MISC) as u32 & 31,
        })
    }

    /// Whether a secondary control may be 1.
    #[must_use]
    #[inline]
    pub const fn has(&self, control: Secondary) -> bool {
        self.allowed.secondary.has(control.bits())
    }

    /// Whether a guest's running time can be bounded.
    #[must_use]
    #[inline]
    pub const fn preemption_timer(&self) -> bool {
        self.allowed.preemption_timer()
    }

    /// Whether the CPU can keep a guest's local APIC: its registers in memory and as MSRs, and the
    /// delivery of its interrupts.
    #[must_use]
    pub const fn apic(&self) -> bool {
        let all = Secondary::APIC_ACCESSES.bits()
            | Secondary::X2APIC.bits()
            | Secondary::APIC_REGISTERS.bits()
            | Secondary::VIRTUAL_INTERRUPT_DELIVERY.bits();
        self.tpr_shadow() && self.allowed.secondary.has(all)
    }

    /// Whether the CPU can take interrupts for a guest that it runs from where others left them. Host
    /// interrupts must then be acknowledged by the exit that they cause.
    #[must_use]
    pub const fn posting(&self) -> bool {
        self.apic()
            && self.allowed.pin.has(Pin::POSTED_INTERRUPTS.bits())
            && self.allowed.exit.has(ExitControls::ACKNOWLEDGE.bits())
    }

    /// Whether CR8 lives in a virtual-APIC page.
    #[must_use]
    #[inline]
    pub const fn tpr_shadow(&self) -> bool {
        self.allowed.primary.has(Primary::TPR_SHADOW.bits())
    }
}

impl EptCaps {
    fn from_msr(cap: u64) -> Result<EptCaps, Unsupported> {
        use ept_vpid::*;
        let invept_single = cap & INVEPT_SINGLE != 0;
        // 2 MiB pages are as old as EPT.
        if cap & (WALK_4 | WRITE_BACK | LARGE | INVEPT) != WALK_4 | WRITE_BACK | LARGE | INVEPT
            || !invept_single && cap & INVEPT_ALL == 0
        {
            return Err(Unsupported::EptFormat);
        }
        Ok(EptCaps {
            largest: if cap & HUGE != 0 { PageSize::Huge } else { PageSize::Large },
            accessed_dirty: cap & ACCESSED_DIRTY != 0,
            execute_only: cap & EXECUTE_ONLY != 0,
            invept_single,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
