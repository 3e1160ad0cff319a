//! The same 16-bit routines in virtual-8086 mode: a 32-bit monitor without paging hands every
//! interrupt, software's and hardware's, to the vector that real mode would take. I/O is open (IOPL
//! 3 and an empty bitmap), as a DOS memory manager has it.

use crate::bios::Regs;
use crate::{cpu, idt, mem, pic};
use core::arch::global_asm;

/// Tables of the monitor: IDT, then the task state with its I/O bitmap.
const IDT32: usize = 0x10_a000;
const TSS32: usize = 0x10_b000;

global_asm!(
    ".section .boot.low, \"awx\"",
    ".code64",
    // extern "C" fn v86_run(routine: u32) -> u32: 0, or 100h + the vector nobody could take.
    ".globl v86_run",
    "v86_run: push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "cli",
    "mov [v86_stack], rsp",
    "mov [v86_routine], edi",
    "sidt [v86_idt]",
    "mov rax, cr0",
    "mov [v86_cr0], eax",
    "mov rax, cr3",
    "mov [v86_cr3], eax",
    "mov rax, cr4",
    "mov [v86_cr4], eax",
    "push 0x18",
    "push offset v86_down",
    "retfq",
    ".code32",
    "v86_down: mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "mov [v86_efer], eax",
    "and eax, 0xfffffeff",
    "wrmsr",
    "xor eax, eax",
    "mov cr4, eax",
    "mov esp, 0x1c0000",
    "lidt [v86_idt32]",
    // The task state may be marked busy from the last time.
    "and byte ptr [gdt + 0x45], 0xfd",
    "mov ax, 0x40",
    "ltr ax",
    // The routine's near return leads to v86_done.
    "mov word ptr [0x7bfe], offset v86_done",
    "xor eax, eax",
    "push eax",
    "push eax",
    "push eax",
    "push eax",
    "push eax",
    "push 0x7bfe",
    "push 0x23002",
    "push eax",
    "push dword ptr [v86_routine]",
    "iretd",
    ".balign 8",
    "v86_stubs:",
    ".rept 256",
    "call v86_entry",
    ".balign 8",
    ".endr",
    "v86_entry: pushad",
    "mov ebp, [esp + 32]",
    "sub ebp, offset v86_stubs",
    "shr ebp, 3",
    "mov ax, 0x10",
    "mov ds, ax",
    "mov es, ax",
    // With or without error code, the frame is at the stack's top.
    "mov ebx, 0x1c0000 - 36",
    "test dword ptr [ebx + 8], 0x20000",
    "jz 4f",
    "cmp ebp, 13",
    "jne 3f",
    "movzx ecx, word ptr [ebx + 4]",
    "shl ecx, 4",
    "movzx eax, word ptr [ebx]",
    "add ecx, eax",
    "cmp byte ptr [ecx], 0xf4",
    "jne 4f",
    "cmp ecx, offset v86_done",
    "je 5f",
    // A service that waits by HLT goes on at once.
    "inc word ptr [ebx]",
    "or dword ptr [ebx + 8], 0x200",
    "popad",
    "mov esp, 0x1c0000 - 36",
    "iretd",
    "3: movzx esi, word ptr [ebx + 16]",
    "shl esi, 4",
    "mov ecx, [ebx + 12]",
    "sub cx, 6",
    "mov [ebx + 12], ecx",
    "movzx ecx, cx",
    "add esi, ecx",
    "mov eax, [ebx]",
    "mov [esi], ax",
    "mov eax, [ebx + 4]",
    "mov [esi + 2], ax",
    "mov eax, [ebx + 8]",
    "mov [esi + 4], ax",
    "and dword ptr [ebx + 8], 0xfffffcff",
    "movzx eax, word ptr [ebp * 4]",
    "mov [ebx], eax",
    "movzx eax, word ptr [ebp * 4 + 2]",
    "mov [ebx + 4], eax",
    "popad",
    "mov esp, 0x1c0000 - 36",
    "iretd",
    "4: add ebp, 0x100",
    "jmp 6f",
    "5: xor ebp, ebp",
    "6: mov eax, [v86_cr4]",
    "mov cr4, eax",
    "mov eax, [v86_cr3]",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "mov eax, [v86_efer]",
    "wrmsr",
    "mov eax, [v86_cr0]",
    "mov cr0, eax",
    ".byte 0xea",
    ".long 7f",
    ".word 8",
    ".code64",
    "7: mov rsp, [v86_stack]",
    "mov ax, 0x10",
    "mov ss, ax",
    "lidt [v86_idt]",
    "and byte ptr [gdt + 0x35], 0xfd",
    "mov ax, 0x30",
    "ltr ax",
    "mov eax, ebp",
    "popfq",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "v86_done: hlt",
    ".balign 8",
    "v86_stack: .quad 0",
    "v86_routine: .long 0",
    "v86_cr0: .long 0",
    "v86_cr3: .long 0",
    "v86_cr4: .long 0",
    "v86_efer: .long 0",
    "v86_idt: .space 10",
    "v86_idt32: .word 0x7ff",
    ".long 0x10a000",
    ".text",
    ".code64",
);

unsafe extern "C" {
    fn v86_run(routine: u32) -> u32;
    static v86_stubs: u8;
    static mut thunk_regs: Regs;
    static mut thunk_int: u32;
}

/// Runs a 16-bit routine of section `.boot.guest` in virtual-8086 mode. `Err` has the vector of an
/// exception that has no place in it.
pub fn call16(routine: usize) -> Result<(), u8> {
    let stubs = (&raw const v86_stubs) as usize;
    for vector in 0..256 {
        let target = (stubs + vector * 8) as u64;
        mem::write(
            IDT32 + vector * 8,
            target & 0xffff | 0x18 << 16 | 0xee << 40 | (target >> 16) << 48,
        );
    }
    for offset in (0..0x2090).step_by(8) {
        mem::write(TSS32 + offset, 0u64);
    }
    mem::write(TSS32 + 4, 0x1c_0000u32);
    mem::write(TSS32 + 8, 0x10u32);
    mem::write(TSS32 + 0x66, 0x88u16);
    mem::write(TSS32 + 0x2088, 0xffu8);
    idt::set_gdt(8, 0x0000_8900_0000_2088 | (TSS32 as u64) << 16);
    let open = cpu::interrupts_open();
    cpu::cli();
    pic::give_back();
    // SAFETY: the tables are as the code wants them; it keeps what the ABI wants kept.
    let result = unsafe { v86_run(routine as u32) };
    pic::take_over_again();
    if open {
        cpu::sti();
    }
    if result == 0 { Ok(()) } else { Err(result as u8) }
}

/// Calls INT `vector` in virtual-8086 mode.
pub fn int(vector: u8, regs: &mut Regs) -> Result<(), u8> {
    unsafe extern "C" {
        fn routine_int();
    }
    // SAFETY: only the first CPU comes here, and the routine that reads them is not running.
    unsafe { (&raw mut thunk_regs).write(*regs) };
    // SAFETY: as above.
    unsafe { (&raw mut thunk_int).write(vector.into()) };
    let result = call16(routine_int as *const () as usize);
    // SAFETY: the routine is over.
    *regs = unsafe { (&raw const thunk_regs).read() };
    result
}
