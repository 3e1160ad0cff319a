//! Does every mode of the CPU work, and every way from one to the next? Real, "unreal", 16-bit and
//! 32-bit protected, paged with 32-bit tables and with PAE, virtual-8086, compatibility and long.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use support::{bios, cpu, guest, mem, println, v86};

guest!("modes", main);

// Each step stores what it computed; `modes_all` starts and ends in real mode.
global_asm!(
    ".section .boot.guest, \"awx\"",
    ".code16",
    "modes_all: mov di, offset modes_marks",
    // Real mode: 16-bit arithmetic and segments.
    "mov ax, 0xb800",
    "mov es, ax",
    "mov eax, cr0",
    "mov [di], eax",
    // Unreal: a 4 GiB limit carried into real mode.
    "cli",
    "mov eax, cr0",
    "or al, 1",
    "mov cr0, eax",
    "jmp 2f",
    "2: mov bx, 0x10",
    "mov fs, bx",
    "and al, 0xfe",
    "mov cr0, eax",
    "jmp 3f",
    "3: mov esi, 0x1a0000",
    "mov dword ptr fs:[esi], 0x600dcafe",
    "mov eax, fs:[esi]",
    "mov [di + 4], eax",
    // 16-bit protected mode, with code and data selectors of its own.
    "mov eax, cr0",
    "or al, 1",
    "mov cr0, eax",
    ".byte 0xea",
    ".word modes_16, 0x20",
    "modes_16: mov ax, 0x28",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "mov ax, cs",
    "mov [di + 8], ax",
    "smsw ax",
    "mov [di + 10], ax",
    // 32-bit protected mode without paging.
    ".byte 0x66, 0xea",
    ".long modes_32",
    ".word 0x18",
    ".code32",
    "modes_32: mov ax, 0x10",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "movzx esp, sp",
    "movzx edi, di",
    "mov eax, 0x12345678",
    "push eax",
    "pop dword ptr [edi + 12]",
    // 32-bit tables with 4 MiB pages: the second one shows what the third has.
    "mov eax, [modes_directory]",
    "mov cr3, eax",
    "mov eax, 0x10",
    "mov cr4, eax",
    "mov dword ptr [0x800000], 0x32b17",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "jmp 2f",
    "2: mov eax, [0x400000]",
    "mov [edi + 16], eax",
    "mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    // PAE with 2 MiB pages: the page at 4 MiB shows the one at 6 MiB.
    "mov eax, [modes_pae]",
    "mov cr3, eax",
    "mov eax, 0x20",
    "mov cr4, eax",
    "mov dword ptr [0x600000], 0x9ae",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "jmp 2f",
    "2: mov eax, [0x400000]",
    "mov [edi + 20], eax",
    "mov eax, cr0",
    "and eax, 0x7fffffff",
    "mov cr0, eax",
    "xor eax, eax",
    "mov cr4, eax",
    // Back, through 16-bit protected mode.
    ".byte 0xea",
    ".long modes_back",
    ".word 0x20",
    ".code16",
    "modes_back: mov ax, 0x28",
    "mov ds, ax",
    "mov es, ax",
    "mov fs, ax",
    "mov ss, ax",
    "mov eax, cr0",
    "and al, 0xfe",
    "mov cr0, eax",
    ".byte 0xea",
    ".word modes_real, 0",
    "modes_real: xor ax, ax",
    "mov ds, ax",
    "mov es, ax",
    "mov fs, ax",
    "mov ss, ax",
    "mov eax, cr0",
    "mov [di + 24], eax",
    ".byte 0xc3",
    // In virtual-8086 mode: PUSHF does not show VM, SMSW shows protection.
    "modes_v86: mov di, offset modes_marks",
    "smsw ax",
    "mov [di + 28], ax",
    "mov ax, cs",
    "mov [di + 30], ax",
    "mov ax, 0x1234",
    "mov es, ax",
    "mov byte ptr es:[5], 0x86",
    ".byte 0xc3",
    ".balign 4",
    "modes_directory: .long 0",
    "modes_pae: .long 0",
    "modes_marks: .space 64",
    // Compatibility mode inside long mode.
    ".code32",
    "modes_compatible: mov eax, 0xffffffff",
    "inc eax", // 40h: no REX prefix here
    "mov [modes_marks + 32], eax",
    "mov ax, cs",
    "mov [modes_marks + 36], eax",
    "retf",
    ".text",
    ".code64",
);

unsafe extern "C" {
    fn modes_all();
    fn modes_v86();
    fn modes_compatible();
    static modes_directory: u32;
    static modes_pae: u32;
    static modes_marks: u32;
}

fn mark(index: usize) -> u32 {
    mem::read((&raw const modes_marks) as usize + index * 4)
}

fn main() {
    // 1:1 in 4 MiB pages, but 4 MiB is 8 MiB.
    let directory = mem::pages(1);
    for page in 0..1024usize {
        let frame = if page == 1 { 2 } else { page };
        mem::write(directory + page * 4, (frame << 22) as u32 | 0x83);
    }
    // 1:1 in 2 MiB pages, but 4 MiB is 6 MiB.
    let (pointers, table) = (mem::pages(1), mem::pages(1));
    mem::write(pointers, table as u64 | 1);
    for page in 0..512usize {
        let frame = if page == 2 { 3 } else { page };
        mem::write(table + page * 8, (frame << 21) as u64 | 0x83);
    }
    mem::write((&raw const modes_directory) as usize, directory as u32);
    mem::write((&raw const modes_pae) as usize, pointers as u32);
    for round in 0..3 {
        for index in 0..16 {
            mem::write((&raw const modes_marks) as usize + index * 4, 0u32);
        }
        bios::call16(modes_all as *const () as usize);
        assert_eq!(mark(0) & 0x8000_0001, 0, "real mode: CR0 {:#x}", mark(0));
        assert_eq!(mark(1), 0x600d_cafe, "unreal mode");
        assert_eq!(mark(2), 0x0020 | (mark(2) >> 16 | 1) << 16, "16-bit protected mode");
        assert_eq!(mark(3), 0x1234_5678, "32-bit protected mode");
        assert_eq!(mark(4), 0x3_2b17, "32-bit page tables");
        assert_eq!(mark(5), 0x9ae, "PAE");
        assert_eq!(mark(6) & 0x8000_0001, 0, "real mode again: CR0 {:#x}", mark(6));
        mem::write(0x1_2345usize, 0u8);
        let kept: u8 = mem::read(0x1_2345);
        assert_eq!(v86::call16(modes_v86 as *const () as usize), Ok(()), "virtual-8086 mode");
        let found: u8 = mem::read(0x1_2345);
        assert_eq!((mark(7) & 1, mark(7) >> 16, kept, found), (1, 0, 0, 0x86), "virtual-8086 mode");
        compatible();
        println!(
            "round {round}: real, unreal, 16, 32, 32 paged, PAE, real, V86, compatibility, long"
        );
    }
    assert_eq!(cpu::rdmsr(0xc000_0080) & 0x500, 0x500, "long mode");
}

fn compatible() {
    // SAFETY: the routine comes back by a far return; it clobbers RAX.
    unsafe {
        asm!(
            "lea rax, [rip + 22f]",
            "sub rsp, 8",
            "mov dword ptr [rsp], eax",
            "mov dword ptr [rsp + 4], 8",
            "push 0x18",
            "push {routine}",
            "retfq",
            "22:",
            routine = in(reg) modes_compatible as *const () as usize,
            out("rax") _,
        )
    };
    assert_eq!((mark(8), mark(9) & 0xffff), (0, 0x18), "compatibility mode");
}
