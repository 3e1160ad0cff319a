//! Every stub of the ROM, at the entry points that IBM's AT technical reference fixed and old programs
//! jump to. Stubs keep all registers that a service does not return, and as little stack as they can.

use super::asm::Cond::{Always, Carry, NoCarry, NotZero, Sign, Zero};
use super::asm::R16::{Ax, Bx, Cx, Di, Dx, Si, Sp};
use super::asm::Seg::{Ds, Es, Ss};
use super::asm::{Asm, Seg};
use super::{Service, TRAP_PORT};

/// The bytes of a trap up to the service number: `out 0B6h, al` and the head of `nop [bx+si+n]`.
pub(crate) const TRAP: [u8; 5] = [0xe6, TRAP_PORT as u8, 0x0f, 0x1f, 0x40];

/// POST.
pub const POST: u16 = 0xe05b;
/// NMI.
pub const INT02: u16 = 0xe2c3;
/// Disks.
pub const INT13: u16 = 0xe3fe;
/// Boot.
pub const INT19: u16 = 0xe6f2;
/// System configuration table.
pub const CONFIG_TABLE: u16 = 0xe6f5;
/// Serial ports.
pub const INT14: u16 = 0xe739;
/// Keyboard.
pub const INT16: u16 = 0xe82e;
/// Keyboard interrupt.
pub const INT09: u16 = 0xe987;
/// Floppy interrupt.
pub const INT0E: u16 = 0xef57;
/// Diskette parameter table.
pub const DISKETTE_TABLE: u16 = 0xefc7;
/// Printers.
pub const INT17: u16 = 0xefd2;
/// Video, the old entry.
pub const INT10: u16 = 0xf065;
/// Video parameters of the CGA.
pub const VIDEO_TABLE: u16 = 0xf0a4;
/// Memory size.
pub const INT12: u16 = 0xf841;
/// Equipment.
pub const INT11: u16 = 0xf84d;
/// System services.
pub const INT15: u16 = 0xf859;
/// The first 128 characters of the 8x8 font, filled in by POST.
pub const FONT_8X8: u16 = 0xfa6e;
/// Clock and PCI.
pub const INT1A: u16 = 0xfe6e;
/// Timer interrupt.
pub const INT08: u16 = 0xfea5;
/// A lone IRET.
pub const DUMMY: u16 = 0xff53;
/// Print screen.
pub const INT05: u16 = 0xff54;
/// Interrupt of the master 8259 that nobody expects.
pub const IRQ_MASTER: u16 = 0xf100;
/// Interrupt of the slave 8259 that nobody expects.
pub const IRQ_SLAVE: u16 = 0xf118;
/// IRQ 9 is what IRQ 2 was.
pub const INT71: u16 = 0xf140;
/// Coprocessor error.
pub const INT75: u16 = 0xf150;
/// Primary disk channel.
pub const INT76: u16 = 0xf160;
/// Secondary disk channel.
pub const INT77: u16 = 0xf180;
/// Real-time clock.
pub const INT70: u16 = 0xf1a0;
/// Mouse.
pub const INT74: u16 = 0xf1c0;
/// No boot device.
pub const INT18: u16 = 0xf200;
/// Option ROM calls and boot, behind POST.
const POST_BODY: usize = 0xf220;
const BOOT_BODY: usize = 0xf2a0;
/// BIOS32 service directory, 32-bit code.
pub const BIOS32: u16 = 0xf2e0;
/// PCI BIOS, 32-bit code.
pub const PCI_BIOS32: u16 = 0xf2f0;
const INT13_BODY: usize = 0xf300;
const INT05_BODY: usize = 0xf320;

/// The image for F0000h-FFFFFh and for the last 64 KiB below 4 GiB. POST adds tables and fonts to its
/// shadow in RAM.
pub static ROM: [u8; 0x1_0000] = build();

/// The code at the start of the video ROM (C0000h).
pub static VIDEO_CODE: [u8; 0x200] = build_video();

/// Where INT 10h is in the video ROM.
pub const VIDEO_INT10: u16 = 0x100;

type Rom = Asm<0x1_0000>;

const fn trap<const N: usize>(a: &mut Asm<N>, service: Service) {
    a.bytes(&TRAP);
    a.bytes(&[service as u8]);
}

/// A service that never waits.
const fn plain<const N: usize>(a: &mut Asm<N>, service: Service) {
    trap(a, service);
    a.iret();
}

/// Traps again as long as the service answers with carry: after an interrupt, or at once when ZF is set
/// too. Interrupts are closed between the trap and HLT, so that none is slept through.
const fn waiting(a: &mut Rom, service: Service) {
    let (again, wait, spin) = (a.label_here(), a.label(), a.label());
    trap(a, service);
    a.j(Carry, wait);
    a.iret();
    wait_tail(a, again, wait, spin);
}

const fn wait_tail(
    a: &mut Rom,
    again: super::asm::Label,
    wait: super::asm::Label,
    spin: super::asm::Label,
) {
    a.place(wait);
    a.j(Zero, spin);
    a.bytes(&[0xfb, 0xf4, 0xfa]); // sti; hlt; cli
    a.j(Always, again);
    a.place(spin);
    a.bytes(&[0xfb, 0x90, 0xfa]); // sti; nop; cli
    a.j(Always, again);
}

/// Non-specific end of interrupt; destroys AL. Done in the stub and not in Rust, because V86 monitors
/// virtualize the 8259s.
const fn eoi(a: &mut Rom, slave: bool) {
    a.bytes(&[0xb0, 0x20]); // mov al, 20h
    if slave {
        a.bytes(&[0xe6, 0xa0]); // out 0A0h, al
    }
    a.bytes(&[0xe6, 0x20]); // out 20h, al
}

const fn build() -> [u8; 0x1_0000] {
    let mut a = Rom::new(0);
    post(&mut a);
    boot(&mut a);
    services(&mut a);
    timer(&mut a);
    keyboard(&mut a);
    rtc_and_mouse(&mut a);
    interrupts(&mut a);
    tables(&mut a);
    a.finish()
}

const fn post(a: &mut Rom) {
    a.org(POST as usize);
    a.bytes(&[0xfa, 0xfc]); // cli; cld
    trap(a, Service::Reset);
    let body = a.label();
    a.jmp(body);

    a.org(POST_BODY);
    a.place(body);
    // AL: 0 start from scratch, 1 jump through 40:67, 2 IRET and 3 RETF on the stack at 40:67.
    let (cold, by_stack, far) = (a.label(), a.label(), a.label());
    a.bytes(&[0x31, 0xdb]); // xor bx, bx
    a.mov_sr(Ds, Bx);
    a.bytes(&[0xfe, 0xc8]); // dec al
    a.j(Sign, cold);
    a.j(NotZero, by_stack);
    a.bytes(&[0xff, 0x2e, 0x67, 0x04]); // jmp far [467h]
    a.place(by_stack);
    a.bytes(&[0x0f, 0xb2, 0x26, 0x67, 0x04]); // lss sp, [467h]
    a.bytes(&[0xfe, 0xc8]); // dec al
    a.bytes(&[0xfe, 0xc8]); // dec al
    a.j(Zero, far);
    a.iret();
    a.place(far);
    a.retf();

    a.place(cold);
    a.mov_sr(Es, Bx);
    a.mov_sr(Ss, Bx);
    a.mov_ri(Sp, 0x7c00);
    // Caches on: clear CR0.CD and CR0.NW.
    a.bytes(&[0x0f, 0x20, 0xc0]); // mov eax, cr0
    a.bytes(&[0x66, 0x25, 0xff, 0xff, 0xff, 0x9f]); // and eax, 9FFFFFFFh
    a.bytes(&[0x0f, 0x22, 0xc0]); // mov cr0, eax
    a.bytes(&[0x66, 0xb8, 0x08, 0x00, 0x00, 0x80]); // mov eax, 80000008h
    a.bytes(&[0x0f, 0xa2]); // cpuid: AL is the width of physical addresses
    trap(a, Service::Post);
    // Memory types, if the processor has MTRRs (CPUID 1, EDX bit 12).
    let roms = a.label();
    a.bytes(&[0x66, 0x31, 0xc0, 0x40]); // xor eax, eax; inc ax
    a.bytes(&[0x0f, 0xa2]); // cpuid
    a.bytes(&[0xf7, 0xc2, 0x00, 0x10]); // test dx, 1000h
    a.j(Zero, roms);
    let types = a.label_here();
    trap(a, Service::MemoryType);
    a.j(NoCarry, roms);
    a.bytes(&[0x0f, 0x30]); // wrmsr
    a.j(Always, types);
    a.place(roms);
    // Option ROMs: SI is the segment of the next one; it returns to `next`.
    let (next, boot, menu) = (a.label_here(), a.label(), a.label());
    trap(a, Service::OptionRom);
    a.j(NoCarry, menu);
    a.push_seg(Seg::Cs);
    a.push_label(next);
    a.push(Si);
    a.bytes(&[0x6a, 0x03]); // push 3
    a.retf();
    let (wait, spin) = (a.label(), a.label());
    a.place(menu);
    trap(a, Service::Menu);
    a.j(Carry, wait);
    a.place(boot);
    a.int(0x19);
    a.j(Always, boot);
    wait_tail(a, menu, wait, spin);
}

const fn boot(a: &mut Rom) {
    a.org(INT19 as usize);
    let body = a.label();
    a.jmp(body);

    // Answers: carry, again; zero, nothing boots; else BX:CX is where to, DL the drive.
    a.org(BOOT_BODY);
    a.place(body);
    let (again, wait, spin, nothing) = (a.label_here(), a.label(), a.label(), a.label());
    trap(a, Service::Boot);
    a.j(Carry, wait);
    a.j(Zero, nothing);
    a.bytes(&[0x31, 0xc0]); // xor ax, ax
    a.mov_sr(Ds, Ax);
    a.mov_sr(Es, Ax);
    a.mov_sr(Ss, Ax);
    a.mov_ri(Sp, 0x7c00);
    a.push(Bx);
    a.push(Cx);
    a.mov_ri(Ax, 0xaa55);
    a.bytes(&[0xfb]); // sti
    a.retf();
    a.place(nothing);
    a.bytes(&[0x31, 0xc0]); // xor ax, ax
    a.mov_sr(Ss, Ax);
    a.mov_ri(Sp, 0x7c00);
    a.int(0x18);
    a.j(Always, again);
    wait_tail(a, again, wait, spin);

    a.org(INT18 as usize);
    let (again, wait, spin) = (a.label_here(), a.label(), a.label());
    trap(a, Service::Int18);
    a.j(Carry, wait);
    a.int(0x19);
    wait_tail(a, again, wait, spin);
}

const fn services(a: &mut Rom) {
    a.org(INT13 as usize);
    let body = a.label();
    a.jmp(body);
    a.org(INT13_BODY);
    a.place(body);
    waiting(a, Service::Int13);

    a.org(INT05 as usize);
    let body = a.label();
    a.jmp(body);
    a.org(INT05_BODY);
    a.place(body);
    plain(a, Service::Int05);

    a.org(INT14 as usize);
    waiting(a, Service::Int14);
    a.org(INT16 as usize);
    waiting(a, Service::Int16);
    a.org(INT17 as usize);
    plain(a, Service::Int17);
    a.org(INT10 as usize);
    plain(a, Service::Int10);
    a.org(INT15 as usize);
    waiting(a, Service::Int15);
    a.org(INT1A as usize);
    plain(a, Service::Int1A);

    a.org(INT12 as usize);
    data_word(a, 0x13);
    a.org(INT11 as usize);
    data_word(a, 0x10);

    a.org(BIOS32 as usize);
    trap(a, Service::Bios32);
    a.retf();
    a.org(PCI_BIOS32 as usize);
    trap(a, Service::PciBios32);
    a.retf();
}

/// Returns a word of the BIOS data area in AX.
const fn data_word(a: &mut Rom, offset: u8) {
    a.push_seg(Ds);
    a.bytes(&[0x6a, 0x40]); // push 40h
    a.pop_seg(Ds);
    a.bytes(&[0xa1, offset, 0]); // mov ax, [offset]
    a.pop_seg(Ds);
    a.iret();
}

const fn timer(a: &mut Rom) {
    a.org(INT08 as usize);
    // DS, DX and AX are saved because IBM's handler does, and INT 1Ch handlers count on it.
    a.push_seg(Ds);
    a.push(Dx);
    a.push(Ax);
    trap(a, Service::Tick);
    a.int(0x1c);
    a.bytes(&[0xfa]); // cli
    eoi(a, false);
    a.pop(Ax);
    a.pop(Dx);
    a.pop_seg(Ds);
    a.iret();
}

const fn keyboard(a: &mut Rom) {
    let (done, posted, brk, print, pause, out) =
        (a.label(), a.label(), a.label(), a.label(), a.label(), a.label());
    a.org(INT09 as usize);
    a.push(Ax);
    a.bytes(&[0xe4, 0x64, 0xa8, 0x01]); // in al, 64h; test al, 1
    a.j(Zero, done);
    a.bytes(&[0xe4, 0x60]); // in al, 60h
    a.bytes(&[0xb4, 0x4f, 0xf9]); // mov ah, 4Fh; stc
    a.int(0x15);
    a.j(NoCarry, done);
    trap(a, Service::Key);
    // AH: 0 nothing more, 1 a key was stored, 2 Ctrl-Break, 3 print screen, 4 pause, 5 and 6 SysReq.
    a.bytes(&[0xfa]); // cli
    eoi(a, false);
    a.bytes(&[0xfe, 0xcc]); // dec ah
    a.j(Sign, out);
    a.j(Zero, posted);
    a.bytes(&[0xfe, 0xcc]);
    a.j(Zero, brk);
    a.bytes(&[0xfe, 0xcc]);
    a.j(Zero, print);
    a.bytes(&[0xfe, 0xcc]);
    a.j(Zero, pause);
    a.bytes(&[0x88, 0xe0, 0xfe, 0xc8]); // mov al, ah; dec al
    a.bytes(&[0xb4, 0x85]); // mov ah, 85h
    a.int(0x15);
    a.place(out);
    a.pop(Ax);
    a.iret();
    a.place(done);
    eoi(a, false);
    a.j(Always, out);
    a.place(posted);
    a.mov_ri(Ax, 0x9102);
    a.int(0x15);
    a.j(Always, out);
    a.place(brk);
    a.int(0x1b);
    a.j(Always, out);
    a.place(print);
    a.int(0x05);
    a.j(Always, out);
    a.place(pause);
    a.bytes(&[0xfb, 0xf4]); // sti; hlt
    trap(a, Service::Paused);
    a.j(Carry, pause);
    a.j(Always, out);
}

const fn rtc_and_mouse(a: &mut Rom) {
    let end = a.label();
    a.org(INT70 as usize);
    a.push(Ax);
    trap(a, Service::Rtc);
    a.j(NoCarry, end);
    a.int(0x4a);
    a.bytes(&[0xfa]); // cli
    a.place(end);
    eoi(a, true);
    a.pop(Ax);
    a.iret();

    // With carry: call SI:DI with status, X, Y and Z (AX, BX, CX, DX) on the stack.
    let (end, back) = (a.label(), a.label());
    a.org(INT74 as usize);
    a.bytes(&[0x60]); // pusha
    a.push_seg(Ds);
    a.push_seg(Es);
    a.bytes(&[0xe4, 0x60]); // in al, 60h
    trap(a, Service::Mouse);
    a.j(NoCarry, end);
    a.push(Ax);
    a.push(Bx);
    a.push(Cx);
    a.push(Dx);
    a.push_seg(Seg::Cs);
    a.push_label(back);
    a.push(Si);
    a.push(Di);
    a.retf();
    a.place(back);
    a.bytes(&[0x83, 0xc4, 0x08, 0xfa]); // add sp, 8; cli
    a.place(end);
    eoi(a, true);
    a.pop_seg(Es);
    a.pop_seg(Ds);
    a.bytes(&[0x61]); // popa
    a.iret();
}

const fn interrupts(a: &mut Rom) {
    a.org(INT02 as usize);
    a.iret();
    a.org(DUMMY as usize);
    a.iret();

    // An unexpected interrupt is ended only if the 8259 has it in service (8259A, "Spurious
    // Interrupts": none is in service then).
    let end = a.label();
    a.org(IRQ_MASTER as usize);
    a.push(Ax);
    a.bytes(&[0xb0, 0x0b, 0xe6, 0x20, 0xe4, 0x20]); // OCW3: read ISR
    a.bytes(&[0x84, 0xc0]); // test al, al
    a.j(Zero, end);
    eoi(a, false);
    a.place(end);
    a.pop(Ax);
    a.iret();

    let master = a.label();
    a.org(IRQ_SLAVE as usize);
    a.push(Ax);
    a.bytes(&[0xb0, 0x0b, 0xe6, 0xa0, 0xe4, 0xa0]);
    a.bytes(&[0x84, 0xc0]);
    a.bytes(&[0xb0, 0x20]); // mov al, 20h
    a.j(Zero, master);
    a.bytes(&[0xe6, 0xa0]);
    a.place(master);
    a.bytes(&[0xe6, 0x20]);
    a.pop(Ax);
    a.iret();

    a.org(INT71 as usize);
    a.push(Ax);
    a.bytes(&[0xb0, 0x20, 0xe6, 0xa0]);
    a.pop(Ax);
    a.int(0x0a);
    a.iret();

    a.org(INT75 as usize);
    a.push(Ax);
    a.bytes(&[0x30, 0xc0, 0xe6, 0xf0]); // xor al, al; out 0F0h, al
    eoi(a, true);
    a.pop(Ax);
    a.int(0x02);
    a.iret();

    disk_interrupt(a, INT76, 0x1f7);
    disk_interrupt(a, INT77, 0x177);

    a.org(INT0E as usize);
    a.push(Ax);
    a.push_seg(Ds);
    a.bytes(&[0x6a, 0x40]);
    a.pop_seg(Ds);
    a.bytes(&[0x80, 0x0e, 0x3e, 0x00, 0x80]); // or byte [3Eh], 80h
    eoi(a, false);
    a.mov_ri(Ax, 0x9101);
    a.int(0x15);
    a.pop_seg(Ds);
    a.pop(Ax);
    a.iret();
}

/// Reading the status register takes the drive's request back.
const fn disk_interrupt(a: &mut Rom, entry: u16, status: u16) {
    a.org(entry as usize);
    a.push(Ax);
    a.push(Dx);
    a.push_seg(Ds);
    a.mov_ri(Dx, status);
    a.bytes(&[0xec]); // in al, dx
    a.bytes(&[0x6a, 0x40]); // push 40h
    a.pop_seg(Ds);
    a.bytes(&[0xc6, 0x06, 0x8e, 0x00, 0xff]); // mov byte [8Eh], 0FFh
    eoi(a, true);
    a.mov_ri(Ax, 0x9100);
    a.int(0x15);
    a.pop_seg(Ds);
    a.pop(Dx);
    a.pop(Ax);
    a.iret();
}

const fn tables(a: &mut Rom) {
    // INT 15h C0h: model FC, submodel 1; two 8259s, clock, INT 15h 4Fh, extended data area; INT 16h 09h.
    a.org(CONFIG_TABLE as usize);
    a.bytes(&[8, 0, 0xfc, 1, 0, 0x74, 0x40, 0, 0, 0]);

    // Diskette parameters of a 1.44 MB drive (AT technical reference, "Diskette").
    a.org(DISKETTE_TABLE as usize);
    a.bytes(&[0xaf, 0x02, 0x25, 0x02, 18, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 0x08]);

    // 6845 registers for 40 and 80 columns, graphics and monochrome (CGA technical reference).
    a.org(VIDEO_TABLE as usize);
    a.bytes(&[0x38, 0x28, 0x2d, 0x0a, 0x1f, 6, 0x19, 0x1c, 2, 7, 6, 7, 0, 0, 0, 0]);
    a.bytes(&[0x71, 0x50, 0x5a, 0x0a, 0x1f, 6, 0x19, 0x1c, 2, 7, 6, 7, 0, 0, 0, 0]);
    a.bytes(&[0x38, 0x28, 0x2d, 0x0a, 0x7f, 6, 0x64, 0x70, 2, 1, 6, 7, 0, 0, 0, 0]);
    a.bytes(&[0x61, 0x50, 0x52, 0x0f, 0x19, 6, 0x19, 0x19, 2, 0xd, 0xb, 0xc, 0, 0, 0, 0]);
    a.bytes(&[0, 8, 0, 0x10, 0, 0x40, 0, 0x40]);
    a.bytes(&[40, 40, 80, 80, 40, 40, 80, 80]);
    a.bytes(&[0x2c, 0x28, 0x2d, 0x29, 0x2a, 0x2e, 0x1e, 0x29]);

    a.org(0xfff0);
    a.bytes(&[0xea]); // jmp far
    a.word(POST);
    a.word(0xf000);
    a.bytes(b"06/23/99");
    a.org(0xfffe);
    a.bytes(&[0xfc, 0]);
}

const fn build_video() -> [u8; 0x200] {
    let mut a = Asm::<0x200>::new(0);
    a.bytes(&[0x55, 0xaa, (super::VIDEO_SIZE / 512) as u8]);
    // Initialization: POST did it.
    a.retf();
    a.org(0x1e);
    a.bytes(b"IBM VGA compatible BIOS\0");
    a.org(VIDEO_INT10 as usize);
    plain(&mut a, Service::Int10);
    a.finish()
}
