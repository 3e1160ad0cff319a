//! The IDT: 256 gates to one entry, which calls the handler a guest has set or says what happened.

use crate::{cpu, mem};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

/// What the entry has pushed.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs, reason = "the registers' names say it all")]
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
    /// The address behind the stub's call: it tells the vector.
    stub: u64,
    /// The error code, 0 where the vector has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Frame {
    /// The vector.
    pub fn vector(&self) -> u8 {
        ((self.stub - 1 - stubs()) / 8) as u8
    }
}

/// What a guest does about a vector.
pub type Handler = fn(&mut Frame);

// Each stub takes 8 bytes. Vectors 8, 10 to 14, 17, 21, 29 and 30 have an error code.
global_asm!(
    ".balign 16",
    "interrupt_stubs:",
    ".macro stub count",
    ".rept \\count",
    "push 0",
    "call interrupt_entry",
    ".balign 8",
    ".endr",
    ".endm",
    ".macro stub_with_error count",
    ".rept \\count",
    "call interrupt_entry",
    ".balign 8",
    ".endr",
    ".endm",
    "stub 8",
    "stub_with_error 1",
    "stub 1",
    "stub_with_error 5",
    "stub 2",
    "stub_with_error 1",
    "stub 3",
    "stub_with_error 1",
    "stub 7",
    "stub_with_error 2",
    "stub 225",
    "interrupt_entry: push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call interrupt_dispatch",
    "mov rsp, rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
);

unsafe extern "C" {
    static interrupt_stubs: u8;
}

fn stubs() -> u64 {
    (&raw const interrupt_stubs) as u64
}

static HANDLERS: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

/// Sets what happens on a vector.
pub fn handle(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Release);
}

/// Lets a vector be what it was.
pub fn unhandle(vector: u8) {
    HANDLERS[usize::from(vector)].store(0, Ordering::Release);
}

#[unsafe(no_mangle)]
extern "C" fn interrupt_dispatch(frame: &mut Frame) {
    let vector = frame.vector();
    let word = HANDLERS[usize::from(vector)].load(Ordering::Acquire);
    if word != 0 {
        // SAFETY: `handle` stored a `Handler`.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(word) };
        return handler(frame);
    }
    if vector < 32
        && let Some(place) = cpu::caught(vector, frame.error)
    {
        frame.rip = place;
        if vector == 8 {
            // An abort leaves open whether the interrupt that led to it comes again, and its stack may be the bad one
            // still: QEMU's SVM delivers a virtual interrupt anew.
            frame.rflags &= !0x200;
        }
        return;
    }
    // Spurious interrupts of the 8259A pair are nobody's fault.
    if vector == crate::pic::BASE + 7 || vector == crate::pic::BASE + 15 {
        return;
    }
    panic!(
        "vector {vector:#x} error {:#x} at {:#x}:{:#x} flags {:#x} stack {:#x} cr2 {:#x}",
        frame.error,
        frame.cs,
        frame.rip,
        frame.rflags,
        frame.rsp,
        cpu::cr2()
    );
}

/// Page of the IDT, and of the task state behind it.
const IDT: usize = 0x10_8000;
const TSS: usize = 0x10_9000;

/// The stack of interrupts that come with their own (IST 1): NMI, double fault, machine check.
pub const IST1_TOP: u64 = 0x1e_0000;

/// Writes the tables and loads them.
pub fn init() {
    for vector in 0..=255u8 {
        let ist = u8::from(matches!(vector, 8 | 18));
        gate(vector, stubs() + u64::from(vector) * 8, 0x8e, ist);
    }
    for offset in (0..0x68).step_by(8) {
        mem::write(TSS + offset, 0u64);
    }
    mem::write(TSS + 4, 0x1d_0000u64);
    mem::write(TSS + 0x24, IST1_TOP);
    mem::write(TSS + 0x66, 0x68u16);
    set_gdt(6, 0x0000_8900_0000_0067 | (TSS as u64 & 0xff_ffff) << 16 | (TSS as u64 >> 24) << 56);
    set_gdt(7, 0);
    // SAFETY: entry 6 is the available task state just written.
    unsafe { asm!("ltr {0:x}", in(reg) 0x30u16) };
    load();
}

/// Loads the IDT on this CPU.
pub fn load() {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let pointer = Pointer(0xfff, IDT as u64);
    // SAFETY: the table was written and stays.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer) };
}

/// Writes one gate: `attributes` is the byte with P, DPL and type.
pub fn gate(vector: u8, target: u64, attributes: u8, ist: u8) {
    let place = IDT + usize::from(vector) * 16;
    let low = target & 0xffff
        | 8 << 16
        | u64::from(ist) << 32
        | u64::from(attributes) << 40
        | (target >> 16 & 0xffff) << 48;
    mem::write(place, low);
    mem::write(place + 8, target >> 32);
}

/// Gives a vector back to the common entry.
pub fn ungate(vector: u8) {
    gate(vector, stubs() + u64::from(vector) * 8, 0x8e, u8::from(matches!(vector, 8 | 18)));
}

/// Writes an entry of the GDT.
pub fn set_gdt(index: usize, value: u64) {
    unsafe extern "C" {
        static gdt: u8;
    }
    mem::write((&raw const gdt) as usize + index * 8, value);
}
