//! Reading from disks: by INT 13h in real mode, by IDE with bus-master DMA, by ATAPI.

use crate::sample::{Bench, skip};
use core::arch::{asm, global_asm};
use support::port::{in8, in16, out8};
use support::{bios, mem, pci};

// Times one INT 13h AH=42h in real mode: 4 instructions of ours, then the BIOS's.
global_asm!(
    ".section .boot.guest, \"awx\"",
    ".code16",
    "bench_int13: sti",
    "rdtsc",
    "mov [bench_ticks], eax",
    "mov si, offset bench_packet",
    "mov ah, 0x42",
    "mov dl, [bench_drive]",
    "int 0x13",
    "setc cl",
    "rdtsc",
    "sub eax, [bench_ticks]",
    "mov [bench_ticks], eax",
    "mov [bench_failed], cl",
    ".byte 0xc3",
    // CHS, for floppies: one sector.
    "bench_int13_chs: sti",
    "rdtsc",
    "mov [bench_ticks], eax",
    "mov ax, 0x8000",
    "mov es, ax",
    "xor bx, bx",
    "mov cx, 1",
    "mov dh, bl",
    "mov dl, [bench_drive]",
    "mov ax, 0x201",
    "int 0x13",
    "setc cl",
    "rdtsc",
    "sub eax, [bench_ticks]",
    "mov [bench_ticks], eax",
    "mov [bench_failed], cl",
    ".byte 0xc3",
    ".balign 4",
    "bench_ticks: .long 0",
    "bench_packet: .word 16",
    "bench_count: .word 1",
    ".word 0, 0x8000",
    ".quad 0",
    "bench_drive: .byte 0",
    "bench_failed: .byte 0",
    ".text",
    ".code64",
);

unsafe extern "C" {
    fn bench_int13();
    fn bench_int13_chs();
    static bench_ticks: u32;
    static bench_count: u16;
    static bench_drive: u8;
    static bench_failed: u8;
}

/// All of them.
pub fn all(bench: &mut Bench) {
    int13(bench);
    ide(bench);
    atapi(bench);
}

fn int13(bench: &mut Bench) {
    // The BIOS data area counts the hard disks.
    let disk = mem::read::<u8>(0x475) != 0;
    mem::write((&raw const bench_drive) as usize, if disk { 0x80 } else { bios::drive() });
    let mut read = |name: &str, sectors: u16, routine: usize, guest: u32, times: usize| {
        mem::write((&raw const bench_count) as usize, sectors);
        bios::call16(routine);
        if mem::read::<u8>((&raw const bench_failed) as usize) != 0 {
            return skip(name, "INT 13h said no");
        }
        bench.times(name, guest, times, |_| {
            bios::call16(routine);
            mem::read((&raw const bench_ticks) as usize)
        });
    };
    if disk {
        read("int13_read_1", 1, bench_int13 as *const () as usize, 6, 64);
        read("int13_read_64k", 128, bench_int13 as *const () as usize, 6, 16);
    } else {
        read("int13_floppy_read_1", 1, bench_int13_chs as *const () as usize, 10, 8);
        skip("int13_read_1", "no hard disk");
        skip("int13_read_64k", "no hard disk");
    }
}

/// Waits for BSY to fall, within reason.
fn ready(base: u16) -> u8 {
    for _ in 0..10_000_000 {
        let status = in8(base + 7);
        if status & 0x80 == 0 {
            return status;
        }
    }
    0xff
}

/// Gives the drive a command; true when it wants to hand over data.
fn identify(base: u16, command: u8) -> bool {
    out8(base + 0x206, 2);
    out8(base + 6, 0xe0);
    if in8(base + 7) == 0xff {
        return false;
    }
    ready(base);
    out8(base + 7, command);
    let status = ready(base);
    if status == 0xff || status & 9 != 8 {
        return false;
    }
    for _ in 0..256 {
        in16(base);
    }
    true
}

fn ide(bench: &mut Bench) {
    let names = ["ide_dma_read_4k", "ide_dma_read_64k"];
    let Some(controller) = pci::find(0x0101) else {
        names.iter().for_each(|name| skip(name, "no PCI IDE"));
        return;
    };
    let registers = controller.read(0x20);
    if registers & 1 == 0 || registers & 0xfff0 == 0 || !identify(0x1f0, 0xec) {
        names.iter().for_each(|name| skip(name, "no disk at the first channel, or no bus master"));
        return;
    }
    controller.write(4, controller.read(4) | 5);
    let registers = u64::from(registers & 0xfff0);
    let table = mem::pages(1);
    let buffer = mem::untouched(16, 0x1_0000);
    for (name, sectors) in names.into_iter().zip([8u32, 128]) {
        mem::write(table, buffer as u32);
        mem::write(table + 4, 0x8000_0000u32 | (sectors * 512) & 0xffff);
        for offset in (0..0x1_0000).step_by(4096) {
            mem::write(buffer + offset, 0u8);
        }
        bench.sample(name, 32, |_| dma_read(registers, table, sectors));
    }
}

/// One read by DMA: ticks and guest instructions.
fn dma_read(registers: u64, table: usize, sectors: u32) -> (u32, u32) {
    let (ticks, rounds): (u32, u32);
    // SAFETY: the table and its buffer are ours.
    unsafe {
        asm!(
            "xor r13d, r13d",
            "rdtsc",
            "mov r8d, eax",
            "lea edx, [r9 + 2]", "mov al, 6", "out dx, al",
            "lea edx, [r9 + 4]", "mov eax, r10d", "out dx, eax",
            "mov edx, r9d", "mov al, 8", "out dx, al",
            "mov edx, 0x1f6", "mov al, 0xe0", "out dx, al",
            "mov edx, 0x1f2", "mov eax, r11d", "out dx, al",
            "mov edx, 0x1f3", "mov al, 0", "out dx, al",
            "mov edx, 0x1f4", "mov al, 0", "out dx, al",
            "mov edx, 0x1f5", "mov al, 0", "out dx, al",
            "mov edx, 0x1f7", "mov al, 0xc8", "out dx, al",
            "mov edx, r9d", "mov al, 9", "out dx, al",
            "lea edx, [r9 + 2]",
            "22: inc r13d",
            "in al, dx",
            "test al, 1",
            "jnz 22b",
            "mov edx, r9d", "xor eax, eax", "out dx, al",
            "mov edx, 0x1f7", "in al, dx",
            "rdtsc",
            "sub eax, r8d",
            in("r9") registers, in("r10") table, in("r11") sectors,
            out("eax") ticks, out("edx") _, out("r8") _, out("r13") rounds,
        )
    };
    assert!(in8(0x1f7) & 0x89 == 0, "the disk reports an error: status {:#x}", in8(0x1f7));
    (ticks, 36 + 4 * rounds)
}

fn atapi(bench: &mut Bench) {
    let names = ["atapi_read_4k", "atapi_read_64k"];
    let drive = [0x170u16, 0x1f0].into_iter().find(|base| identify(*base, 0xa1));
    let Some(base) = drive else {
        names.iter().for_each(|name| skip(name, "no CD drive as master"));
        return;
    };
    for (name, sectors) in names.into_iter().zip([2u8, 32]) {
        // The first commands after a reset or a change of medium say so.
        let ok = (0..3).any(|_| packet_read(base, sectors).is_some());
        if !ok {
            skip(name, "no CD");
            continue;
        }
        bench.sample(name, 16, |_| packet_read(base, sectors).unwrap_or((u32::MAX, 0)));
    }
}

/// One READ (10) by PIO: ticks, and guest instructions with a REP as one of them.
fn packet_read(base: u16, sectors: u8) -> Option<(u32, u32)> {
    let packet = [0x28u8, 0, 0, 0, 0, 16, 0, 0, sectors, 0, 0, 0];
    let buffer = bios::BUFFER;
    let (ticks, polls, blocks, status): (u32, u32, u32, u64);
    // SAFETY: the device hands over no more than it was asked for, which the buffer takes.
    unsafe {
        asm!(
            "xor r13d, r13d",
            "xor r12d, r12d",
            "rdtsc",
            "mov r8d, eax",
            "lea edx, [r9 + 6]", "mov al, 0xa0", "out dx, al",
            "lea edx, [r9 + 1]", "mov al, 0", "out dx, al",
            "lea edx, [r9 + 4]", "mov al, 0", "out dx, al",
            "lea edx, [r9 + 5]", "mov al, 0x80", "out dx, al",
            "lea edx, [r9 + 7]", "mov al, 0xa0", "out dx, al",
            "22: inc r13d",
            "in al, dx",
            "test al, 0x80",
            "jnz 22b",
            "mov edx, r9d",
            "mov ecx, 6",
            "rep outsw",
            // Blocks of data until the device has no more.
            "23: lea edx, [r9 + 7]",
            "24: inc r13d",
            "in al, dx",
            "test al, 0x80",
            "jnz 24b",
            "test al, 8",
            "jz 25f",
            "lea edx, [r9 + 5]",
            "in al, dx",
            "mov ch, al",
            "lea edx, [r9 + 4]",
            "in al, dx",
            "mov cl, al",
            "movzx ecx, cx",
            "shr ecx, 1",
            "mov edx, r9d",
            "rep insw",
            "inc r12d",
            "jmp 23b",
            "25: movzx r10d, al",
            "rdtsc",
            "sub eax, r8d",
            in("r9") u64::from(base), inout("rsi") packet.as_ptr() => _, inout("rdi") buffer => _,
            out("eax") ticks, out("ecx") _, out("edx") _, out("r8") _,
            out("r10") status, out("r12") blocks, out("r13") polls,
        )
    };
    (status & 1 == 0 && blocks > 0).then_some((ticks, 15 + 3 + 4 * polls + 16 * blocks + 4))
}
