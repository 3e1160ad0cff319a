//! Do the BIOS's services answer as programs expect, from real mode and from virtual-8086 mode?

#![no_std]
#![no_main]

use support::bios::{self, BUFFER, Regs};
use support::{guest, mem, println, v86};

guest!("bioscalls", main);

/// How a service is called.
type Call = fn(u8, &mut Regs);

fn by_v86(vector: u8, regs: &mut Regs) {
    if let Err(exception) = v86::int(vector, regs) {
        panic!("INT {vector:#x} AX={:#x} in V86: exception {exception:#x}", regs.eax);
    }
}

fn main() {
    for (how, call) in [("real", bios::int as Call), ("V86", by_v86)] {
        video(call);
        println!("{how}: video");
        equipment(call);
        println!("{how}: equipment and memory");
        disk(call);
        println!("{how}: disk");
        system(call, how == "real");
        println!("{how}: system");
        keyboard(call);
        println!("{how}: keyboard");
        clock(call);
        println!("{how}: clock");
    }
}

fn video(call: Call) {
    for mode in [0x12u16, 0x13, 3] {
        call(0x10, &mut Regs::ax(mode));
        let mut regs = Regs::ax(0x0f00);
        call(0x10, &mut regs);
        assert_eq!(regs.al() & 0x7f, mode as u8, "INT 10h AH=0Fh after mode {mode:#x}");
    }
    let mut regs = Regs { ebx: 0, edx: 0x0a14, ..Regs::ax(0x0200) };
    call(0x10, &mut regs);
    let mut regs = Regs { ebx: 0, ..Regs::ax(0x0300) };
    call(0x10, &mut regs);
    assert_eq!(regs.edx & 0xffff, 0x0a14, "INT 10h AH=03h: the cursor");
    call(0x10, &mut Regs { ebx: 0x1e, ecx: 3, ..Regs::ax(0x0958) });
    let mut regs = Regs { ebx: 0, ..Regs::ax(0x0800) };
    call(0x10, &mut regs);
    assert_eq!(regs.eax & 0xffff, 0x1e58, "INT 10h AH=08h: character and attribute");
    assert_eq!(mem::read::<u16>(0xb_8000 + (10 * 80 + 22) * 2), 0x1e58, "the third of AH=09h");
    call(0x10, &mut Regs { ebx: 7, ..Regs::ax(0x0e41) });
    let mut regs = Regs { ebx: 0, ..Regs::ax(0x0300) };
    call(0x10, &mut regs);
    assert_eq!(regs.edx & 0xffff, 0x0a15, "INT 10h AH=0Eh moves the cursor");
    call(0x10, &mut Regs { ebx: 0x700, ecx: 0, edx: 0x184f, ..Regs::ax(0x0600) });
    assert_eq!(mem::read::<u16>(0xb_8000), 0x0720, "INT 10h AH=06h clears");
    // VBE's own description.
    mem::write(BUFFER, u32::from_le_bytes(*b"VBE2"));
    let mut regs = Regs { es: (BUFFER >> 4) as u16, ..Regs::ax(0x4f00) };
    call(0x10, &mut regs);
    assert_eq!(regs.eax & 0xffff, 0x4f, "INT 10h AX=4F00h");
    assert_eq!(mem::bytes(BUFFER, 4), b"VESA", "the signature of VBE");
}

fn equipment(call: Call) {
    let mut regs = Regs::ax(0);
    call(0x11, &mut regs);
    assert_eq!(regs.eax as u16, mem::read::<u16>(0x410), "INT 11h and the data area");
    let mut regs = Regs::ax(0);
    call(0x12, &mut regs);
    assert_eq!(regs.eax as u16, mem::read::<u16>(0x413), "INT 12h and the data area");
    assert!((512..=640).contains(&(regs.eax as u16)), "INT 12h: {} KiB", regs.eax as u16);
}

fn disk(call: Call) {
    let drive = u32::from(bios::drive());
    let mut regs = Regs { edx: drive, ..Regs::ax(0) };
    call(0x13, &mut regs);
    assert!(!regs.carry(), "INT 13h AH=00h: {:#x}", regs.ah());
    let mut regs = Regs { edx: drive, ..Regs::ax(0x0800) };
    call(0x13, &mut regs);
    assert!(!regs.carry(), "INT 13h AH=08h: {:#x}", regs.ah());
    let (sectors, heads) = (regs.ecx & 0x3f, (regs.edx >> 8 & 0xff) + 1);
    assert!(sectors > 0 && heads > 1, "INT 13h AH=08h: {heads} heads, {sectors} sectors");
    let read = |ecx: u32, head: u32, al: u16| {
        let mut regs =
            Regs { ecx, edx: head << 8 | drive, es: (BUFFER >> 4) as u16, ..Regs::ax(0x0200 | al) };
        mem::write(BUFFER + 510, 0u16);
        call(0x13, &mut regs);
        regs
    };
    let regs = read(1, 0, 1);
    assert!(!regs.carry(), "INT 13h AH=02h: {:#x}", regs.ah());
    assert_eq!(regs.al(), 1, "INT 13h AH=02h: sectors read");
    assert_eq!(mem::read::<u16>(BUFFER + 510), 0xaa55, "the boot sector");
    // The second sector is this kernel's own beginning.
    let regs = read(2, 0, 2);
    assert!(!regs.carry(), "INT 13h AH=02h of two sectors: {:#x}", regs.ah());
    assert_eq!(mem::bytes(BUFFER, 64), mem::bytes(0x7e00, 64), "the second sector");
    let regs = read(0x3f, 200, 1);
    assert!(regs.carry() && regs.ah() != 0, "a sector that does not exist can be read");
    // 80h and up, and only floppies below: drive 7Fh is nobody's.
    let mut regs = Regs { edx: 0x7f, ..Regs::ax(0x0800) };
    call(0x13, &mut regs);
    let mut regs = Regs { edx: 0xee, es: (BUFFER >> 4) as u16, ecx: 1, ..Regs::ax(0x0201) };
    call(0x13, &mut regs);
    assert!(regs.carry(), "drive EEh can be read");
}

fn system(call: Call, real: bool) {
    // E820: at least two entries, the first usable, all in order of the continuation value.
    let (mut next, mut usable, mut count) = (0, 0u64, 0);
    loop {
        let mut regs = Regs {
            ebx: next,
            ecx: 24,
            edx: 0x534d_4150,
            es: (BUFFER >> 4) as u16,
            ..Regs::ax(0xe820)
        };
        call(0x15, &mut regs);
        if regs.carry() {
            break;
        }
        assert_eq!(regs.eax, 0x534d_4150, "INT 15h AX=E820h: the signature");
        if mem::read::<u32>(BUFFER + 16) == 1 {
            usable += mem::read::<u64>(BUFFER + 8);
        }
        count += 1;
        next = regs.ebx;
        if next == 0 || count == 64 {
            break;
        }
    }
    assert!((2..64).contains(&count), "E820 has {count} entries");
    assert!(usable > 8 << 20, "E820 has {usable} usable bytes");
    let mut regs = Regs::ax(0xe801);
    call(0x15, &mut regs);
    assert!(!regs.carry(), "INT 15h AX=E801h");
    let mut extended = Regs::ax(0x8800);
    call(0x15, &mut extended);
    assert!(!extended.carry() && extended.eax as u16 >= 1024, "INT 15h AH=88h");
    let mut regs = Regs::ax(0x2402);
    call(0x15, &mut regs);
    assert!(!regs.carry() && regs.al() == 1, "INT 15h AX=2402h: A20 is {}", regs.al());
    let mut regs = Regs::ax(0xc000);
    call(0x15, &mut regs);
    assert!(!regs.carry() && regs.ah() == 0, "INT 15h AH=C0h");
    let mut regs = Regs { ecx: 0, edx: 2000, ..Regs::ax(0x8600) };
    call(0x15, &mut regs);
    assert!(!regs.carry(), "INT 15h AH=86h");
    let mut regs = Regs::ax(0x77aa);
    call(0x15, &mut regs);
    assert!(regs.carry() && regs.ah() == 0x86, "an unknown INT 15h: {:#x}", regs.eax);
    if real {
        // Moves between extended memory and low memory, by a GDT of the caller's.
        let source = mem::pages(1);
        mem::write(source, 0x1122_3344_5566_7788u64);
        for offset in (0..48).step_by(8) {
            mem::write(BUFFER + offset, 0u64);
        }
        let descriptor = |base: usize| 0x0000_9300_0000_ffffu64 | (base as u64) << 16;
        mem::write(BUFFER + 16, descriptor(source));
        mem::write(BUFFER + 24, descriptor(BUFFER + 0x100));
        let mut regs = Regs { ecx: 4, es: (BUFFER >> 4) as u16, ..Regs::ax(0x8700) };
        call(0x15, &mut regs);
        assert!(!regs.carry(), "INT 15h AH=87h: {:#x}", regs.ah());
        assert_eq!(mem::read::<u64>(BUFFER + 0x100), 0x1122_3344_5566_7788, "INT 15h AH=87h");
    }
    let mut regs = Regs::ax(0xb101);
    call(0x1a, &mut regs);
    assert!(!regs.carry() && regs.ah() == 0, "INT 1Ah AX=B101h");
    assert_eq!(regs.edx, u32::from_le_bytes(*b"PCI "), "the PCI BIOS's signature");
    let mut regs = Regs { ebx: 0, edi: 0, ..Regs::ax(0xb109) };
    call(0x1a, &mut regs);
    assert_eq!((regs.ah(), regs.ecx & 0xffff), (0, 0x8086), "the host bridge by the PCI BIOS");
}

fn keyboard(call: Call) {
    for ah in [0x01u16, 0x11] {
        let mut regs = Regs::ax(ah << 8);
        call(0x16, &mut regs);
        assert!(regs.zero(), "INT 16h AH={ah:#x}: a key that nobody has pressed");
    }
    // AH=05h puts one there.
    let mut regs = Regs { ecx: 0x1e61, ..Regs::ax(0x0500) };
    call(0x16, &mut regs);
    assert_eq!(regs.al(), 0, "INT 16h AH=05h");
    let mut regs = Regs::ax(0x0100);
    call(0x16, &mut regs);
    assert!(!regs.zero() && regs.eax as u16 == 0x1e61, "INT 16h AH=01h: {:#x}", regs.eax);
    let mut regs = Regs::ax(0);
    call(0x16, &mut regs);
    assert_eq!(regs.eax as u16, 0x1e61, "INT 16h AH=00h");
    let mut regs = Regs::ax(0x0200);
    call(0x16, &mut regs);
    assert_eq!(regs.al() & 0x0f, 0, "INT 16h AH=02h");
}

fn clock(call: Call) {
    let ticks = || {
        let mut regs = Regs::ax(0);
        call(0x1a, &mut regs);
        (regs.ecx << 16 | regs.edx & 0xffff, regs.al())
    };
    let (first, _) = ticks();
    let mut rounds = 0;
    while ticks().0 == first {
        // Two ticks' time for the interrupt, which comes only while interrupts are open.
        let mut regs = Regs { ecx: 0, edx: 10_000, ..Regs::ax(0x8600) };
        call(0x15, &mut regs);
        rounds += 1;
        assert!(rounds < 100, "the timer's tick does not come");
    }
    // A tick may come between the two.
    let (asked, area) = (ticks().0, mem::read::<u32>(0x46c));
    assert!(area.wrapping_sub(asked) <= 1, "INT 1Ah AH=00h {asked} and the data area {area}");
    let bcd = |value: u32| value & 0xf < 10 && value >> 4 & 0xf < 10;
    let mut regs = Regs::ax(0x0200);
    call(0x1a, &mut regs);
    let (hours, minutes) = (regs.ecx >> 8 & 0xff, regs.ecx & 0xff);
    assert!(!regs.carry() && bcd(hours) && bcd(minutes) && hours < 0x24, "INT 1Ah AH=02h");
    let mut regs = Regs::ax(0x0400);
    call(0x1a, &mut regs);
    assert!(!regs.carry() && regs.ecx as u16 >= 0x2020, "INT 1Ah AH=04h: {:#x}", regs.ecx);
}
