//! What if a guest overwrites its interrupt vectors and then calls the BIOS? It hurts only itself.

#![no_std]
#![no_main]

use core::arch::global_asm;
use support::{bios, expect, guest, mem};

guest!("ivt", main);

global_asm!(
    ".section .boot.guest, \"awx\"",
    ".code16",
    "ivt_own: mov bx, 0x60 * 4",
    "mov word ptr [bx], offset ivt_handler",
    "mov word ptr [bx + 2], 0",
    "int 0x60",
    ".byte 0xc3",
    "ivt_handler: mov word ptr [ivt_mark], 0x1234",
    ".byte 0xcf",
    // Vectors that point everywhere, then the services and a timer tick.
    "ivt_wild: xor di, di",
    "mov cx, 1024",
    "mov al, 0x5a",
    "cld",
    "2: stosb",
    "add al, 0x3d",
    "loop 2b",
    "mov ax, 0x0e41",
    "int 0x10",
    "int 0x13",
    "sti",
    "int 0x16",
    "3: hlt",
    "jmp 3b",
    ".balign 2",
    "ivt_mark: .word 0",
    ".text",
    ".code64",
);

unsafe extern "C" {
    fn ivt_own();
    fn ivt_wild();
    static ivt_mark: u16;
}

fn main() {
    bios::call16(ivt_own as *const () as usize);
    let mark: u16 = mem::read((&raw const ivt_mark) as usize);
    assert_eq!(mark, 0x1234, "a vector of our own is not taken");
    expect("anything");
    bios::call16(ivt_wild as *const () as usize);
}
