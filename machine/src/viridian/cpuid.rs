//! CPUID leaves 4000_0000h to 4000_0006h. TLFS "Hypervisor CPUID Leaves".

use super::Groups;
use crate::cpuid::Regs;

/// The last leaf.
const LAST: u32 = 0x4000_0006;

// Leaf 3, EAX: "HV_PARTITION_PRIVILEGE_MASK".
const ACCESS_TIME_REF_COUNT: u32 = 1 << 1;
const ACCESS_APIC_MSRS: u32 = 1 << 4;
const ACCESS_HYPERCALL_MSRS: u32 = 1 << 5;
const ACCESS_VP_INDEX: u32 = 1 << 6;
const ACCESS_REFERENCE_TSC: u32 = 1 << 9;
const ACCESS_FREQUENCY_MSRS: u32 = 1 << 11;
// Leaf 3, EDX.
const FREQUENCY_MSRS: u32 = 1 << 8;
const CRASH_MSRS: u32 = 1 << 10;
// Leaf 4, EAX: "Implementation Recommendations".
const APIC_BY_MSRS: u32 = 1 << 3;
const RELAXED_TIMING: u32 = 1 << 5;
/// Leaf 4, EBX: how often to try for a lock before the hypervisor is told.
const SPINS: u32 = 2047;

/// What CPUID gives for a leaf from 4000_0000h on.
#[must_use]
pub fn leaf(leaf: u32, groups: Groups, vcpus: u32) -> Regs {
    let text = |text: &[u8; 4]| u32::from_le_bytes(*text);
    let given = |group, bits| if groups.contains(group) { bits } else { 0 };
    match leaf & 0xff {
        0 => [LAST, text(b"Micr"), text(b"osof"), text(b"t Hv")],
        1 => [text(b"Hv#1"), 0, 0, 0],
        // Version 6.0 (NT), build 1772h: what Xen says, and guests know.
        2 => [0x1772, 6 << 16, 0, 0],
        3 => {
            let privileges = given(Groups::BASE, ACCESS_HYPERCALL_MSRS | ACCESS_VP_INDEX)
                | given(Groups::TIME_REF_COUNT, ACCESS_TIME_REF_COUNT)
                | given(Groups::REFERENCE_TSC, ACCESS_REFERENCE_TSC)
                | given(Groups::APIC_ASSIST, ACCESS_APIC_MSRS)
                | given(Groups::FREQ, ACCESS_FREQUENCY_MSRS);
            let features =
                given(Groups::FREQ, FREQUENCY_MSRS) | given(Groups::CRASH_CTL, CRASH_MSRS);
            [privileges, 0, 0, features]
        }
        4 => [RELAXED_TIMING | given(Groups::APIC_ASSIST, APIC_BY_MSRS), SPINS, 0, 0],
        5 => [vcpus, 0, 0, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_finds_the_interface_and_each_group_its_bits() {
        let [last, b, c, d] = leaf(0x4000_0000, Groups::BASE, 2);
        let name: [u8; 12] = core::array::from_fn(|n| [b, c, d][n / 4].to_le_bytes()[n % 4]);
        assert_eq!((last, &name), (0x4000_0006, b"Microsoft Hv"));
        assert_eq!(leaf(0x4000_0001, Groups::BASE, 2)[0], 0x3123_7648);
        assert_eq!(leaf(0x4000_0003, Groups::BASE, 2), [0x60, 0, 0, 0]);
        assert_eq!(leaf(0x4000_0003, Groups::DEFAULTS, 2), [0x872, 0, 0, 0x500]);
        assert_eq!(leaf(0x4000_0003, Groups::all(), 2), [0xa72, 0, 0, 0x500]);
        assert_eq!(leaf(0x4000_0004, Groups::BASE, 2), [0x20, 2047, 0, 0]);
        assert_eq!(leaf(0x4000_0004, Groups::DEFAULTS, 2)[0], 0x28);
        assert_eq!(leaf(0x4000_0005, Groups::BASE, 2)[0], 2);
        assert_eq!(leaf(0x4000_0006, Groups::all(), 2), [0; 4]);
        assert_eq!(leaf(0x4000_00ff, Groups::all(), 2), [0; 4]);
    }
}
