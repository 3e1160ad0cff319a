//! VMCS fields, typed by width (SDM 3D "Field Encoding in VMCS"). The numbers are those of the
//! `x86` crate.
#![allow(missing_docs, reason = "the names are the manual's own")]

use core::marker::PhantomData;

/// A width of field: what VMREAD's 64 bits mean.
pub trait Width: Copy {
    /// Takes the low bits.
    fn from_bits(bits: u64) -> Self;
    /// Zero-extends.
    fn bits(self) -> u64;
}

macro_rules! width {
    ($($t:ty)*) => { $(
        impl Width for $t {
            #[inline]
            fn from_bits(bits: u64) -> $t {
                bits as $t
            }
            #[inline]
            fn bits(self) -> u64 {
                u64::from(self)
            }
        }
    )* };
}
width!(u16 u32 u64);

/// A field that holds a `T`; natural-width fields hold `u64` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<T> {
    number: u32,
    _width: PhantomData<T>,
}

impl<T> Field<T> {
    const fn new(number: u32) -> Field<T> {
        Field { number, _width: PhantomData }
    }

    /// Encoding.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u32 {
        self.number
    }
}

/// Width in bits by the encoding's bits 13 and 14; natural-width fields count as 64.
const fn width(number: u32) -> u32 {
    match number >> 13 & 3 {
        0 => 16,
        2 => 32,
        _ => 64,
    }
}

macro_rules! fields {
    ($($name:ident: $width:ty = $($path:ident)::+;)*) => { $(
        pub const $name: Field<$width> = Field::new(x86::vmx::vmcs::$($path)::+);
        const _: () = assert!(width($name.number) == <$width>::BITS);
    )* };
}

fields! {
    VPID: u16 = control::VPID;
    POSTED_VECTOR: u16 = control::POSTED_INTERRUPT_NOTIFICATION_VECTOR;
    INTERRUPT_STATUS: u16 = guest::INTERRUPT_STATUS;
    IO_BITMAP_A: u64 = control::IO_BITMAP_A_ADDR_FULL;
    IO_BITMAP_B: u64 = control::IO_BITMAP_B_ADDR_FULL;
    MSR_BITMAP: u64 = control::MSR_BITMAPS_ADDR_FULL;
    TSC_OFFSET: u64 = control::TSC_OFFSET_FULL;
    VIRTUAL_APIC: u64 = control::VIRT_APIC_ADDR_FULL;
    APIC_ACCESS: u64 = control::APIC_ACCESS_ADDR_FULL;
    POSTED_DESCRIPTOR: u64 = control::POSTED_INTERRUPT_DESC_ADDR_FULL;
    EOI_EXIT_0: u64 = control::EOI_EXIT0_FULL;
    EOI_EXIT_1: u64 = control::EOI_EXIT1_FULL;
    EOI_EXIT_2: u64 = control::EOI_EXIT2_FULL;
    EOI_EXIT_3: u64 = control::EOI_EXIT3_FULL;
    EPT_POINTER: u64 = control::EPTP_FULL;
    PIN_CONTROLS: u32 = control::PINBASED_EXEC_CONTROLS;
    PRIMARY_CONTROLS: u32 = control::PRIMARY_PROCBASED_EXEC_CONTROLS;
    SECONDARY_CONTROLS: u32 = control::SECONDARY_PROCBASED_EXEC_CONTROLS;
    EXCEPTION_BITMAP: u32 = control::EXCEPTION_BITMAP;
    PAGE_FAULT_MASK: u32 = control::PAGE_FAULT_ERR_CODE_MASK;
    PAGE_FAULT_MATCH: u32 = control::PAGE_FAULT_ERR_CODE_MATCH;
    CR3_TARGET_COUNT: u32 = control::CR3_TARGET_COUNT;
    EXIT_CONTROLS: u32 = control::VMEXIT_CONTROLS;
    EXIT_MSR_STORE_COUNT: u32 = control::VMEXIT_MSR_STORE_COUNT;
    EXIT_MSR_LOAD_COUNT: u32 = control::VMEXIT_MSR_LOAD_COUNT;
    ENTRY_CONTROLS: u32 = control::VMENTRY_CONTROLS;
    ENTRY_MSR_LOAD_COUNT: u32 = control::VMENTRY_MSR_LOAD_COUNT;
    ENTRY_INTERRUPTION: u32 = control::VMENTRY_INTERRUPTION_INFO_FIELD;
    ENTRY_ERROR_CODE: u32 = control::VMENTRY_EXCEPTION_ERR_CODE;
    ENTRY_INSTRUCTION_LENGTH: u32 = control::VMENTRY_INSTRUCTION_LEN;
    TPR_THRESHOLD: u32 = control::TPR_THRESHOLD;
    PLE_GAP: u32 = control::PLE_GAP;
    PLE_WINDOW: u32 = control::PLE_WINDOW;
    CR0_MASK: u64 = control::CR0_GUEST_HOST_MASK;
    CR4_MASK: u64 = control::CR4_GUEST_HOST_MASK;
    CR0_SHADOW: u64 = control::CR0_READ_SHADOW;
    CR4_SHADOW: u64 = control::CR4_READ_SHADOW;

    LINK_POINTER: u64 = guest::LINK_PTR_FULL;
    DEBUGCTL: u64 = guest::IA32_DEBUGCTL_FULL;
    PAT: u64 = guest::IA32_PAT_FULL;
    EFER: u64 = guest::IA32_EFER_FULL;
    PDPTE_0: u64 = guest::PDPTE0_FULL;
    PDPTE_1: u64 = guest::PDPTE1_FULL;
    PDPTE_2: u64 = guest::PDPTE2_FULL;
    PDPTE_3: u64 = guest::PDPTE3_FULL;
    ES_SELECTOR: u16 = guest::ES_SELECTOR;
    ES_LIMIT: u32 = guest::ES_LIMIT;
    ES_ACCESS: u32 = guest::ES_ACCESS_RIGHTS;
    ES_BASE: u64 = guest::ES_BASE;
    CS_ACCESS: u32 = guest::CS_ACCESS_RIGHTS;
    GDTR_LIMIT: u32 = guest::GDTR_LIMIT;
    IDTR_LIMIT: u32 = guest::IDTR_LIMIT;
    GDTR_BASE: u64 = guest::GDTR_BASE;
    IDTR_BASE: u64 = guest::IDTR_BASE;
    INTERRUPTIBILITY: u32 = guest::INTERRUPTIBILITY_STATE;
    ACTIVITY: u32 = guest::ACTIVITY_STATE;
    PREEMPTION_TIMER: u32 = guest::VMX_PREEMPTION_TIMER_VALUE;
    SYSENTER_CS: u32 = guest::IA32_SYSENTER_CS;
    SYSENTER_ESP: u64 = guest::IA32_SYSENTER_ESP;
    SYSENTER_EIP: u64 = guest::IA32_SYSENTER_EIP;
    CR0: u64 = guest::CR0;
    CR3: u64 = guest::CR3;
    CR4: u64 = guest::CR4;
    DR7: u64 = guest::DR7;
    RSP: u64 = guest::RSP;
    RIP: u64 = guest::RIP;
    RFLAGS: u64 = guest::RFLAGS;
    PENDING_DEBUG: u64 = guest::PENDING_DBG_EXCEPTIONS;

    HOST_ES: u16 = host::ES_SELECTOR;
    HOST_CS: u16 = host::CS_SELECTOR;
    HOST_SS: u16 = host::SS_SELECTOR;
    HOST_DS: u16 = host::DS_SELECTOR;
    HOST_FS: u16 = host::FS_SELECTOR;
    HOST_GS: u16 = host::GS_SELECTOR;
    HOST_TR: u16 = host::TR_SELECTOR;
    HOST_PAT: u64 = host::IA32_PAT_FULL;
    HOST_EFER: u64 = host::IA32_EFER_FULL;
    HOST_SYSENTER_CS: u32 = host::IA32_SYSENTER_CS;
    HOST_CR0: u64 = host::CR0;
    HOST_CR3: u64 = host::CR3;
    HOST_CR4: u64 = host::CR4;
    HOST_FS_BASE: u64 = host::FS_BASE;
    HOST_GS_BASE: u64 = host::GS_BASE;
    HOST_TR_BASE: u64 = host::TR_BASE;
    HOST_GDTR_BASE: u64 = host::GDTR_BASE;
    HOST_IDTR_BASE: u64 = host::IDTR_BASE;
    HOST_SYSENTER_ESP: u64 = host::IA32_SYSENTER_ESP;
    HOST_SYSENTER_EIP: u64 = host::IA32_SYSENTER_EIP;
    HOST_RSP: u64 = host::RSP;
    HOST_RIP: u64 = host::RIP;

    GUEST_PHYSICAL_ADDRESS: u64 = ro::GUEST_PHYSICAL_ADDR_FULL;
    INSTRUCTION_ERROR: u32 = ro::VM_INSTRUCTION_ERROR;
    EXIT_REASON: u32 = ro::EXIT_REASON;
    EXIT_INTERRUPTION: u32 = ro::VMEXIT_INTERRUPTION_INFO;
    EXIT_ERROR_CODE: u32 = ro::VMEXIT_INTERRUPTION_ERR_CODE;
    IDT_VECTORING: u32 = ro::IDT_VECTORING_INFO;
    IDT_VECTORING_ERROR_CODE: u32 = ro::IDT_VECTORING_ERR_CODE;
    INSTRUCTION_LENGTH: u32 = ro::VMEXIT_INSTRUCTION_LEN;
    INSTRUCTION_INFO: u32 = ro::VMEXIT_INSTRUCTION_INFO;
    EXIT_QUALIFICATION: u64 = ro::EXIT_QUALIFICATION;
    GUEST_LINEAR_ADDRESS: u64 = ro::GUEST_LINEAR_ADDR;
}

/// Selector, base, limit and access rights of a segment register: ES, CS, SS, DS, FS, GS, LDTR and
/// TR are numbered 0 to 7 in `arch::SegReg` as in the encodings, two apart.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFields {
    pub selector: Field<u16>,
    pub base: Field<u64>,
    pub limit: Field<u32>,
    pub access: Field<u32>,
}

impl SegmentFields {
    /// The fields of register `number`, 0 to 7.
    #[must_use]
    #[inline]
    pub const fn of(number: u8) -> SegmentFields {
        let step = 2 * (number & 7) as u32;
        SegmentFields {
            selector: Field::new(ES_SELECTOR.number + step),
            base: Field::new(ES_BASE.number + step),
            limit: Field::new(ES_LIMIT.number + step),
            access: Field::new(ES_ACCESS.number + step),
        }
    }
}

const _: () = {
    let cs = SegmentFields::of(arch::SegReg::Cs as u8);
    assert!(cs.access.number == CS_ACCESS.number);
    let tr = SegmentFields::of(arch::SegReg::Tr as u8);
    assert!(tr.selector.number == x86::vmx::vmcs::guest::TR_SELECTOR);
    assert!(tr.base.number == x86::vmx::vmcs::guest::TR_BASE);
    assert!(tr.limit.number == x86::vmx::vmcs::guest::TR_LIMIT);
    assert!(tr.access.number == x86::vmx::vmcs::guest::TR_ACCESS_RIGHTS);
};
