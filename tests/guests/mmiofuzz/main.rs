//! Does the machine survive every form of memory access, in every width and alignment, on every
//! device that is in memory? What must not be written by chance (interrupt commands, unmasked
//! lines) is not.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::random::Random;
use support::{acpi, apic, attempt, cpu, guest, idt, mem, println};

guest!("mmiofuzz", main);

static NMIS: AtomicU32 = AtomicU32::new(0);

/// Does one read of a random form. R9 has the place.
fn read(form: u64, place: usize) -> Result<(), cpu::Fault> {
    macro_rules! forms {
        ($($number:literal: $code:literal),+ $(,)?) => {
            match form {
                $($number => attempt!($code; in("r9") place, out("rax") _, out("rcx") _, out("rdx") _,
                    inout("rsi") place => _, inout("rdi") mem::FREE => _),)+
                _ => Ok(()),
            }
        };
    }
    forms! {
        0: "mov al, [r9]", 1: "mov ax, [r9]", 2: "mov eax, [r9]", 3: "mov rax, [r9]",
        4: "movzx eax, byte ptr [r9]", 5: "movzx eax, word ptr [r9]",
        6: "movsx rax, byte ptr [r9]", 7: "movsxd rax, dword ptr [r9]",
        8: "cmp byte ptr [r9], 5", 9: "cmp [r9], eax", 10: "test dword ptr [r9], 0x1000",
        11: "add rax, [r9]", 12: "xor ax, [r9]", 13: "bt dword ptr [r9], 3",
        14: "cld; lodsb", 15: "lodsd", 16: "movsw", 17: "mov ecx, 3; rep movsd",
        18: "push qword ptr [r9]; pop rax", 19: "sub al, [r9]", 20: "and eax, [r9]",
        21: "cmpsb", 22: "imul eax, [r9], 3", 23: "mov ecx, 4; repne scasb",
        24: "bsf eax, [r9]", 25: "mov ah, [rsi]", 26: "movsx eax, word ptr [r9]",
    }
}

/// Does one write of a random form. R9 has the place, R10 the value.
fn write(form: u64, place: usize, value: u64) -> Result<(), cpu::Fault> {
    macro_rules! forms {
        ($($number:literal: $code:literal),+ $(,)?) => {
            match form {
                $($number => attempt!($code; in("r9") place, in("r10") value, inout("rax") value => _,
                    out("rcx") _, out("rdx") _, inout("rdi") place => _,
                    inout("rsi") mem::FREE => _),)+
                _ => Ok(()),
            }
        };
    }
    forms! {
        0: "mov [r9], r10b", 1: "mov [r9], r10w", 2: "mov [r9], r10d", 3: "mov [r9], r10",
        4: "mov byte ptr [r9], 0x5a", 5: "mov dword ptr [r9], 0x12345678",
        6: "mov qword ptr [r9], -2", 7: "add [r9], r10d", 8: "or byte ptr [r9], 0x11",
        9: "and [r9], r10w", 10: "xor [r9], r10", 11: "sub dword ptr [r9], 3",
        12: "inc dword ptr [r9]", 13: "dec byte ptr [r9]", 14: "not word ptr [r9]",
        15: "neg qword ptr [r9]", 16: "xchg [r9], eax", 17: "lock xadd [r9], eax",
        18: "lock cmpxchg [r9], r10d", 19: "bts dword ptr [r9], 5", 20: "and eax, 31; btr [r9], eax",
        21: "cld; stosb", 22: "stosd", 23: "mov ecx, 3; rep stosw", 24: "movsq",
        25: "push r10; pop qword ptr [r9]", 26: "setc byte ptr [r9]", 27: "shl dword ptr [r9], 1",
        28: "mov [rdi], ah", 29: "adc [r9], r10b", 30: "lock btc dword ptr [r9], 7",
        31: "rol word ptr [r9], 3", 32: "mov ecx, 2; rep movsb",
    }
}

fn main() {
    cpu::cli();
    apic::enable();
    idt::handle(2, |_| {
        NMIS.fetch_add(1, Relaxed);
    });
    let hpet = acpi::hpet().unwrap_or(0);
    // Place, size, whether it may be written at random.
    let windows = [
        ("local APIC", apic::BASE, 0x1000, false),
        ("I/O APIC", apic::IO_BASE, 0x1000, false),
        ("HPET", hpet, 0x400, true),
        ("VGA", 0xa_0000, 0x2_0000, true),
        ("BIOS", 0xf_0000, 0x1_0000, true),
        ("option ROMs", 0xc_0000, 0x8000, true),
        ("hole", 0xd000_0000, 0x1000, true),
    ];
    let mut random = Random::new(0x3310);
    for (name, start, size, open) in windows {
        if start == 0 {
            continue;
        }
        let (mut faults, mut done) = (0u32, 0u32);
        for _ in 0..3000 {
            let word = random.next();
            let place = start + random.below(size - 64) as usize;
            let value = random.next();
            let result = if word & 1 == 0 {
                read(word >> 8 & 31, place)
            } else if open {
                write((word >> 8) % 33, place, value)
            } else if start == apic::BASE && !spared(place) {
                write((word >> 8) % 7, place & !15, value & 0xffff_0000_00ff | 0x1_0000)
            } else {
                Ok(())
            };
            faults += u32::from(result.is_err());
            done += 1;
        }
        println!("{name}: {done} accesses, {faults} faults");
    }
    // The I/O APIC by its own protocol, every line masked.
    for index in 0..256u32 {
        mem::write(apic::IO_BASE, index);
        let old: u32 = mem::read(apic::IO_BASE + 0x10);
        mem::write(apic::IO_BASE + 0x10, random.next() as u32 | 0x1_0000);
        mem::write(
            apic::IO_BASE + 0x10,
            old | if index >= 0x10 && index & 1 == 0 { 0x1_0000 } else { 0 },
        );
    }
    println!("NMIs: {}", NMIS.load(Relaxed));
    let version = apic::read(apic::reg::VERSION);
    assert!(version & 0xff >= 0x10, "the local APIC's version is {version:#x}");
}

/// Registers of the local APIC that may send or raise what ends the machine.
fn spared(place: usize) -> bool {
    matches!(place - apic::BASE & 0xff0, 0x2f0..=0x370)
}
