//! The CPUID leaves by which a guest finds Xen. Xen public "arch-x86/cpuid.h".

/// The first leaf, where no other interface comes before it.
pub const FIRST_LEAF: u32 = 0x4000_0000;
/// The first leaf behind Viridian's.
pub const SECOND_LEAF: u32 = 0x4000_0100;
/// Leaf 0: EBX, ECX, EDX, which say `XenVMMXenVMM`.
pub const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// Leaf 0, EAX: the last leaf, counted from the first.
pub const LAST_LEAF: u32 = 5;
/// Leaf 2, EBX: the MSR into which the guest writes where it wants the hypercall page.
pub const HYPERCALL_MSR: u32 = 0x4000_0000;
/// The same where Viridian's interface has that number.
pub const HYPERCALL_MSR_VIRIDIAN: u32 = 0x4000_0200;

/// Leaf 3, sub-leaf 0, EAX: RDTSC is emulated.
pub const TSC_EMULATED: u32 = 1 << 0;
/// Leaf 3, sub-leaf 0, EAX: the host's TSC is reliable.
pub const HOST_TSC_RELIABLE: u32 = 1 << 1;
/// Leaf 3, sub-leaf 0, EAX: there is RDTSCP.
pub const RDTSCP_AVAILABLE: u32 = 1 << 2;

/// Leaf 4, sub-leaf 0, EAX: APIC registers cause no exits.
pub const HVM_APIC_ACCESS_VIRT: u32 = 1 << 0;
/// Leaf 4, sub-leaf 0, EAX: x2APIC accesses cause no exits.
pub const HVM_X2APIC_VIRT: u32 = 1 << 1;
/// Leaf 4, sub-leaf 0, EAX: devices can reach granted memory.
pub const HVM_IOMMU_MAPPINGS: u32 = 1 << 2;
/// Leaf 4, sub-leaf 0, EAX: EBX is the vCPU's number.
pub const HVM_VCPU_ID_PRESENT: u32 = 1 << 3;
/// Leaf 4, sub-leaf 0, EAX: ECX is the domain's number.
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
/// Leaf 4, sub-leaf 0, EAX: interrupt messages reach APIC numbers of 15 bits.
pub const HVM_EXT_DEST_ID: u32 = 1 << 5;
/// Leaf 4, sub-leaf 0, EAX: a vCPU's own upcall vector works with PIRQs.
pub const HVM_UPCALL_VECTOR: u32 = 1 << 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_xen_s_name_twice() {
        let mut text = [0; 12];
        for (n, register) in SIGNATURE.iter().enumerate() {
            text[n * 4..n * 4 + 4].copy_from_slice(&register.to_le_bytes());
        }
        assert_eq!(&text, b"XenVMMXenVMM");
    }
}
