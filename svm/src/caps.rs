//! What the CPU offers for SVM (APM3 "CPUID Fn8000_000A", APM2 "Enabling SVM").

use arch::slat::PageSize;
use bitflags::bitflags;

bitflags! {
    /// CPUID Fn8000_000A EDX, as far as it is used here.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Nested paging.
        const NP = 1;
        /// Last-branch virtualization.
        const LBR_VIRT = 1 << 1;
        /// SVM lock with a key.
        const SVML = 1 << 2;
        /// The VMCB gives the next instruction's address.
        const NRIPS = 1 << 3;
        /// VMCB clean bits.
        const VMCB_CLEAN = 1 << 5;
        /// TLB flush of one ASID.
        const FLUSH_BY_ASID = 1 << 6;
        /// Decode assists.
        const DECODE_ASSISTS = 1 << 7;
        /// Pause filter.
        const PAUSE_FILTER = 1 << 10;
        /// Pause filter threshold.
        const PAUSE_FILTER_THRESHOLD = 1 << 12;
        /// Virtual GIF. Reported only: guests have no SVM here, so nothing would use it.
        const VGIF = 1 << 16;
        /// Virtual NMI. Reported only: NMI windows work by IRET everywhere.
        const VNMI = 1 << 25;
    }
}

/// A CPU's SVM, checked to be usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Number of ASIDs, 0 included, 2 or more.
    pub asids: u32,
    /// Features.
    pub features: Features,
    /// Nested page tables may forbid execution.
    pub nx: bool,
    /// Largest page of a nested page table.
    pub largest_page: PageSize,
    /// TSC_AUX exists.
    pub rdtscp: bool,
}

/// Why this machine cannot run guests by SVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// CPUID reports no SVM.
    NoSvm,
    /// SVM without nested paging.
    NoNestedPaging,
    /// Fewer than two ASIDs.
    NoAsids,
    /// Firmware has switched SVM off and locked it (VM_CR.SVMDIS).
    DisabledByFirmware,
}

/// VM_CR.LOCK: SVMDIS cannot be changed (APM2 "VM_CR MSR").
pub(crate) const VM_CR_LOCK: u64 = 1 << 3;
/// VM_CR.SVMDIS: EFER.SVME cannot be set.
pub(crate) const VM_CR_SVMDIS: u64 = 1 << 4;

/// What to write to VM_CR before EFER.SVME, if anything.
pub(crate) fn unlock(vm_cr: u64) -> Result<Option<u64>, Unsupported> {
    if vm_cr & VM_CR_SVMDIS == 0 {
        Ok(None)
    } else if vm_cr & VM_CR_LOCK == 0 {
        Ok(Some(vm_cr & !VM_CR_SVMDIS))
    } else {
        Err(Unsupported::DisabledByFirmware)
    }
}

impl Caps {
    /// Reads capabilities by `cpuid`, which gives EAX, EBX, ECX, EDX of a leaf.
    ///
    /// # Errors
    /// What is missing.
    pub fn from_cpuid(cpuid: impl Fn(u32) -> [u32; 4]) -> Result<Caps, Unsupported> {
        let last = cpuid(0x8000_0000)[0];
        if !(0x8000_000a..=0x8000_ffff).contains(&last) {
            return Err(Unsupported::NoSvm);
        }
        let [_, _, ecx, edx] = cpuid(0x8000_0001);
        if ecx & 1 << 2 == 0 {
            return Err(Unsupported::NoSvm);
        }
        let [_, asids, _, svm] = cpuid(0x8000_000a);
        let features = Features::from_bits_truncate(svm);
        if !features.contains(Features::NP) {
            return Err(Unsupported::NoNestedPaging);
        }
        if asids < 2 {
            return Err(Unsupported::NoAsids);
        }
        Ok(Caps {
            asids,
            features,
            nx: edx & 1 << 20 != 0,
            largest_page: if edx & 1 << 26 != 0 { PageSize::Huge } else { PageSize::Large },
            rdtscp: edx & 1 << 27 != 0,
        })
    }

    /// Whether all of `features` are there.
    #[must_use]
    #[inline]
    pub const fn has(&self, features: Features) -> bool {
        self.features.contains(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(ecx: u32, asids: u32, svm: u32) -> impl Fn(u32) -> [u32; 4] {
        move |leaf| match leaf {
            0x8000_0000 => [0x8000_001f, 0, 0, 0],
            0x8000_0001 => [0, 0, ecx, 1 << 20 | 1 << 26],
            0x8000_000a => [1, asids, 0, svm],
            _ => [0; 4],
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Caps::from_cpuid(|_| [0; 4]), Err(Unsupported::NoSvm));
        assert_eq!(Caps::from_cpuid(machine(0, 16, 1)), Err(Unsupported::NoSvm));
        assert_eq!(Caps::from_cpuid(machine(4, 16, 8)), Err(Unsupported::NoNestedPaging));
        assert_eq!(Caps::from_cpuid(machine(4, 1, 1)), Err(Unsupported::NoAsids));
    }

    #[test]
    fn features_and_page_sizes_follow_cpuid() {
        let caps = Caps::from_cpuid(machine(4, 16, 0x9)).unwrap();
        assert_eq!((caps.asids, caps.largest_page, caps.nx), (16, PageSize::Huge, true));
        assert!(caps.has(Features::NRIPS) && !caps.has(Features::DECODE_ASSISTS));
        assert!(!caps.rdtscp);
    }

    #[test]
    fn svm_disabled_by_firmware_is_undone_unless_it_is_locked() {
        assert_eq!(unlock(0), Ok(None));
        assert_eq!(unlock(VM_CR_LOCK), Ok(None));
        assert_eq!(unlock(VM_CR_SVMDIS | 1), Ok(Some(1)));
        assert_eq!(unlock(VM_CR_SVMDIS | VM_CR_LOCK), Err(Unsupported::DisabledByFirmware));
    }
}
