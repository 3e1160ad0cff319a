//! Calling BIOS services, in real mode by the thunk.

use crate::{cpu, pic};

/// What a service is called with and what it gave back.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Regs {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
    /// ESI.
    pub esi: u32,
    /// EDI.
    pub edi: u32,
    /// EBP.
    pub ebp: u32,
    /// FLAGS.
    pub flags: u32,
    /// DS.
    pub ds: u16,
    /// ES.
    pub es: u16,
}

impl Regs {
    /// For a call with this in AX, interrupts open.
    pub fn ax(ax: u16) -> Regs {
        Regs { eax: ax.into(), flags: 0x202, ..Regs::default() }
    }

    /// AH.
    pub fn ah(&self) -> u8 {
        (self.eax >> 8) as u8
    }

    /// AL.
    pub fn al(&self) -> u8 {
        self.eax as u8
    }

    /// The carry flag: most services' "no".
    pub fn carry(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The zero flag.
    pub fn zero(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

unsafe extern "C" {
    fn thunk16(routine: u32);
    static mut thunk_regs: Regs;
    static mut thunk_int: u32;
    static boot_drive: u8;
}

/// The 64 KiB of low memory that services may write to: the image ends below it.
pub const BUFFER: usize = 0x8_0000;

/// Calls INT `vector` in real mode.
pub fn int(vector: u8, regs: &mut Regs) {
    unsafe extern "C" {
        fn routine_int();
    }
    // SAFETY: only the first CPU comes here, and the routine that reads them is not running.
    unsafe { (&raw mut thunk_regs).write(*regs) };
    // SAFETY: as above.
    unsafe { (&raw mut thunk_int).write(vector.into()) };
    call16(routine_int as *const () as usize);
    // SAFETY: the routine is over.
    *regs = unsafe { (&raw const thunk_regs).read() };
}

/// Runs a 16-bit routine of section `.boot.guest` in real mode; the interrupt controllers are as
/// the BIOS had them meanwhile.
pub fn call16(routine: usize) {
    let open = cpu::interrupts_open();
    cpu::cli();
    pic::give_back();
    // SAFETY: the routine ends with a near return; the thunk keeps what the ABI wants kept.
    unsafe { thunk16(routine as u32) };
    pic::take_over_again();
    if open {
        cpu::sti();
    }
}

/// The drive that this guest came from.
pub fn drive() -> u8 {
    // SAFETY: the boot sector wrote it; nobody does now.
    unsafe { (&raw const boot_drive).read() }
}
