//! The IDT, one for all CPUs, and the way from a gate to Rust: 256 stubs of 8 bytes call one
//! common entry, whose return address tells the vector. Read next: `trap.rs`.

// UNSAFETY: assembly stubs; loads the IDT.

use super::gdt::{CODE, Ist, Pointer};
use crate::cpu::lock::IrqLock;

/// SDM 3A "64-Bit Mode IDT".
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Gate>() == 16);

const EMPTY: Gate = Gate {
    offset_low: 0,
    selector: CODE,
    ist: 0,
    kind: 0,
    offset_middle: 0,
    offset_high: 0,
    reserved: 0,
};

#[repr(C, align(4096))]
struct Idt([Gate; 256]);

static IDT: IrqLock<Idt> = IrqLock::new(Idt([EMPTY; 256]));

/// The registers of interrupted code, as the common stub pushed them.
#[repr(C)]
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "register names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// The return address that the stub's call pushed; [`Frame::vector`] decodes it.
    pub stub: u64,
    /// The error code, or 0 where the vector has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// The vector that was taken.
    #[must_use]
    pub fn vector(&self) -> u8 {
        ((self.stub - stubs()) / 8) as u8
    }
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .macro stub_plain
    .balign 8
    pushq $0
    call trap_common
    .endm
    .macro stub_error
    .balign 8
    call trap_common
    .endm

    .text
    .balign 8
    .global trap_stubs
trap_stubs:
    // 8, 10-14, 17, 21, 29, 30 push an error code: APM2 8.2 "Vectors", SDM 3A "Exception Reference".
    .rept 8
    stub_plain
    .endr
    stub_error
    stub_plain
    .rept 5
    stub_error
    .endr
    .rept 2
    stub_plain
    .endr
    stub_error
    .rept 3
    stub_plain
    .endr
    stub_error
    .rept 7
    stub_plain
    .endr
    .rept 2
    stub_error
    .endr
    .rept 225
    stub_plain
    .endr

    .balign 16
trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call rust_trap
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq
    "#,
    options(att_syntax)
);

#[cfg(target_os = "none")]
fn stubs() -> u64 {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    (&raw const trap_stubs).expose_provenance() as u64
}

#[cfg(not(target_os = "none"))]
fn stubs() -> u64 {
    0
}

/// Linear address of the table.
#[must_use]
pub fn base() -> u64 {
    IDT.data_ptr().expose_provenance() as u64
}

/// Fills the table. Called once, before the first [`load`].
pub fn init() {
    let mut idt = IDT.lock();
    for (vector, gate) in idt.0.iter_mut().enumerate() {
        let offset = stubs() + vector as u64 * 8;
        *gate = Gate {
            offset_low: offset as u16,
            offset_middle: (offset >> 16) as u16,
            offset_high: (offset >> 32) as u32,
            // Present, ring 0, interrupt gate.
            kind: 0x8e,
            ist: match vector {
                2 => Ist::Nmi as u8,
                8 => Ist::DoubleFault as u8,
                18 => Ist::MachineCheck as u8,
                _ => 0,
            },
            ..EMPTY
        };
    }
}

/// Loads it on this CPU.
pub fn load() {
    let pointer = Pointer { limit: size_of::<Idt>() as u16 - 1, base: base() };
    // SAFETY: `init` filled the table, which lives for ever.
    unsafe {
        core::arch::asm!("lidt [{}]", in(reg) &raw const pointer,
            options(readonly, nostack, preserves_flags));
    }
}
