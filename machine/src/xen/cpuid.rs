//! Xen's CPUID leaves. Xen public "arch-x86/cpuid.h".

use crate::cpuid::Regs;
use pvdrivers::abi::cpuid as xen;
use pvdrivers::abi::version::VERSION;

pub use xen::{FIRST_LEAF, HYPERCALL_MSR, HYPERCALL_MSR_VIRIDIAN, SECOND_LEAF};

/// What the leaves say of the guest's clock and of the asking vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The first leaf: [`FIRST_LEAF`], or behind Viridian's [`SECOND_LEAF`].
    pub first: u32,
    /// Which vCPU asks.
    pub vcpu: u32,
    /// Which domain it is.
    pub domid: u32,
    /// Its TSC runs at so many kHz.
    pub tsc_khz: u32,
    /// Nanoseconds from ticks: see [`Pvclock`](super::time::Pvclock).
    pub mul: u32,
    /// The shift that goes with it.
    pub shift: i8,
    /// Its CPU keeps the local APIC.
    pub apic_kept: bool,
}

/// What CPUID gives for a leaf from 4000_0000h on.
///
/// That a vCPU may have an upcall vector of its own (`XEN_HVM_CPUID_UPCALL_VECTOR`) is shown only where the CPU keeps the
/// local APIC: such a vector needs an end of interrupt, which is an exit elsewhere, and the common callback vector
/// needs none. The call that sets one is there for all.
#[must_use]
pub fn leaf(leaf: u32, subleaf: u32, asked: &Asked) -> Regs {
    let Asked { first, vcpu, domid, tsc_khz, mul, shift, apic_kept } = *asked;
    let [b, c, d] = xen::SIGNATURE;
    let msr = if first == FIRST_LEAF { HYPERCALL_MSR } else { HYPERCALL_MSR_VIRIDIAN };
    match (leaf.wrapping_sub(first), subleaf) {
        (0, _) => [first + xen::LAST_LEAF, b, c, d],
        (1, _) => [VERSION, 0, 0, 0],
        // One hypercall page.
        (2, _) => [1, msr, 0, 0],
        // TSC mode 0, incarnation 0.
        (3, 0) => [xen::HOST_TSC_RELIABLE, 0, tsc_khz, 0],
        // The offset is 0: the guest's TSC began with the guest.
        (3, 1) => [0, 0, mul, i32::from(shift) as u32],
        (3, 2) => [tsc_khz, 0, 0, 0],
        (4, 0) => {
            let own_vectors = if apic_kept { xen::HVM_UPCALL_VECTOR } else { 0 };
            [xen::HVM_VCPU_ID_PRESENT | xen::HVM_DOMID_PRESENT | own_vectors, vcpu, domid, 0]
        }
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        first: FIRST_LEAF,
        vcpu: 3,
        domid: 7,
        tsc_khz: 2_000_000,
        mul: 1 << 31,
        shift: 0,
        apic_kept: false,
    };

    #[test]
    fn linux_finds_xen_4_17_with_one_page_and_the_vcpu() {
        let at = |n: u32| leaf(0x4000_0000 + n, 0, &ASKED);
        let [last, b, c, d] = at(0);
        let name: [u8; 12] = core::array::from_fn(|n| [b, c, d][n / 4].to_le_bytes()[n % 4]);
        assert_eq!(&name, b"XenVMMXenVMM");
        assert!(last >= 0x4000_0002);
        assert_eq!(at(1)[0], 0x0004_0011);
        assert_eq!(at(2)[..2], [1, HYPERCALL_MSR]);
        assert_eq!(at(4)[1..3], [3, 7]);
        let kept = leaf(0x4000_0004, 0, &Asked { apic_kept: true, ..ASKED });
        assert_eq!((at(4)[0], kept[0]), (1 << 3 | 1 << 4, 1 << 3 | 1 << 4 | 1 << 6));
        assert_eq!((at(6), leaf(0x4000_0003, 9, &ASKED)), ([0; 4], [0; 4]));
        // Behind Viridian's leaves the same, with an MSR that is not Viridian's.
        let behind = |n: u32| leaf(0x4000_0100 + n, 0, &Asked { first: SECOND_LEAF, ..ASKED });
        assert_eq!(behind(0), [last + 0x100, b, c, d]);
        assert_eq!((behind(2), behind(4)), ([1, 0x4000_0200, 0, 0], at(4)));
    }
}
