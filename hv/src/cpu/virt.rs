//! Can this machine run guests? Checks presence and firmware locks of SVM and VMX and the two
//! features we cannot do without, and says in words what is missing. Finer capabilities belong to
//! the `svm` and `vmx` crates.

use core::fmt;

use raw_cpuid::cpuid;

use super::msr;

/// Which extension the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD-V.
    Svm,
    /// Intel VT-x.
    Vmx,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Neither CPUID bit is set.
    Extension,
    /// VM_CR.SVMDIS is set and locked. APM2 15.30.1 "VM_CR MSR".
    SvmDisabled,
    /// No nested paging.
    NestedPaging,
    /// FEATURE_CONTROL is locked without VMX. SDM 3C "Enabling and Entering VMX Operation".
    VmxLockedOff,
    /// No extended page tables.
    Ept,
    /// No unrestricted guest: real mode cannot run.
    UnrestrictedGuest,
    /// EPT without write-back memory or four levels.
    EptFormat,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Extension => {
                "the CPU offers neither AMD-V (SVM) nor Intel VT-x (VMX). On a real machine, look \
                 in the firmware setup for \"SVM\" or \"Virtualization Technology\"; in QEMU, use \
                 -cpu EPYC (or -cpu host with nested KVM); in Bochs, a model with VMX"
            }
            Missing::SvmDisabled => {
                "AMD-V (SVM) is there, but the firmware has locked it off (VM_CR.SVMDIS). Enable \
                 \"SVM\" in the firmware setup"
            }
            Missing::NestedPaging => "AMD-V (SVM) is there, but without nested paging (NPT)",
            Missing::VmxLockedOff => {
                "Intel VT-x (VMX) is there, but the firmware has locked it off \
                 (IA32_FEATURE_CONTROL). Enable \"Virtualization Technology\" in the firmware setup"
            }
            Missing::Ept => "Intel VT-x (VMX) is there, but without extended page tables (EPT)",
            Missing::UnrestrictedGuest => {
                "Intel VT-x (VMX) is there, but without \"unrestricted guest\", which real-mode \
                 guests need (Westmere or newer has it)"
            }
            Missing::EptFormat => {
                "Intel VT-x (VMX) is there, but its EPT has no four-level write-back tables"
            }
        })
    }
}

/// The answers that the decision needs, so that it can be tested.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    svm: bool,
    vm_cr: u64,
    svm_edx: u32,
    vmx: bool,
    feature_control: u64,
    primary: u64,
    secondary: u64,
    ept: u64,
}

const VM_CR: u32 = 0xc001_0114;

/// Asks this CPU.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<Vendor, Missing> {
    decide(&gather())
}

fn gather() -> Facts {
    let extended = cpuid!(0x8000_0000).eax;
    let svm = extended >= 0x8000_000a && cpuid!(0x8000_0001).ecx & 1 << 2 != 0;
    let vmx = cpuid!(1).ecx & 1 << 5 != 0;
    let read = |register| msr::read_or_none(register).unwrap_or(0);
    let mut facts = Facts { svm, vmx, ..Facts::default() };
    if svm {
        facts.vm_cr = read(VM_CR);
        facts.svm_edx = cpuid!(0x8000_000a).edx;
    }
    if vmx {
        facts.feature_control = read(x86::msr::IA32_FEATURE_CONTROL);
        facts.primary = read(x86::msr::IA32_VMX_PROCBASED_CTLS);
        facts.secondary = read(x86::msr::IA32_VMX_PROCBASED_CTLS2);
        facts.ept = read(x86::msr::IA32_VMX_EPT_VPID_CAP);
    }
    facts
}

fn decide(facts: &Facts) -> Result<Vendor, Missing> {
    // The high half of a capability MSR tells which controls may be 1.
    let may = |capability: u64, bit: u32| capability >> (32 + bit) & 1 != 0;
    if facts.svm {
        // Unlocked is fine: whoever enables SVM clears it, CPU by CPU.
        let (locked, disabled) = (facts.vm_cr & 1 << 3 != 0, facts.vm_cr & 1 << 4 != 0);
        if locked && disabled {
            return Err(Missing::SvmDisabled);
        }
        return if facts.svm_edx & 1 != 0 { Ok(Vendor::Svm) } else { Err(Missing::NestedPaging) };
    }
    if !facts.vmx {
        return Err(Missing::Extension);
    }
    // Unlocked is fine: whoever enters VMX sets and locks it, CPU by CPU.
    let (locked, outside_smx) = (facts.feature_control & 1 != 0, facts.feature_control & 4 != 0);
    match () {
        () if locked && !outside_smx => Err(Missing::VmxLockedOff),
        () if !may(facts.primary, 31) || !may(facts.secondary, 1) => Err(Missing::Ept),
        () if !may(facts.secondary, 7) => Err(Missing::UnrestrictedGuest),
        // SDM 3D "VPID and EPT Capabilities": bit 6 is page-walk length 4, bit 14 write-back.
        () if facts.ept & 1 << 6 == 0 || facts.ept & 1 << 14 == 0 => Err(Missing::EptFormat),
        () => Ok(Vendor::Vmx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: Facts = Facts {
        svm: false,
        vm_cr: 0,
        svm_edx: 0,
        vmx: true,
        feature_control: 5,
        primary: 1 << 63,
        secondary: (1 << 33) | (1 << 39),
        ept: (1 << 6) | (1 << 14),
    };

    #[test]
    fn each_missing_piece_is_named() {
        let amd = Facts { svm: true, svm_edx: 1, ..Facts::default() };
        assert_eq!(decide(&amd), Ok(Vendor::Svm));
        assert_eq!(decide(&Facts { vm_cr: 0x18, ..amd }), Err(Missing::SvmDisabled));
        assert_eq!(decide(&Facts { vm_cr: 0x10, ..amd }), Ok(Vendor::Svm));
        assert_eq!(decide(&Facts { svm_edx: 2, ..amd }), Err(Missing::NestedPaging));
        assert_eq!(decide(&Facts::default()), Err(Missing::Extension));
        assert_eq!(decide(&INTEL), Ok(Vendor::Vmx));
        assert_eq!(decide(&Facts { feature_control: 0, ..INTEL }), Ok(Vendor::Vmx));
        assert_eq!(decide(&Facts { feature_control: 1, ..INTEL }), Err(Missing::VmxLockedOff));
        assert_eq!(decide(&Facts { secondary: 1 << 39, ..INTEL }), Err(Missing::Ept));
        assert_eq!(decide(&Facts { primary: 0, ..INTEL }), Err(Missing::Ept));
        assert_eq!(decide(&Facts { secondary: 1 << 33, ..INTEL }), Err(Missing::UnrestrictedGuest));
        assert_eq!(decide(&Facts { ept: 1 << 6, ..INTEL }), Err(Missing::EptFormat));
    }
}
