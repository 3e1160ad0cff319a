//! What the functions of the board are: identity, reset values and writable bits. Datasheets
//! "82441FX PCI and Memory Controller (PMC)", "82371FB (PIIX) and 82371SB (PIIX3)", "82371AB
//! (PIIX4)".

use super::config::{COMMAND, Function, INTERRUPT_PIN, STATUS};

/// PIRQ route: not routed.
pub(super) const PIRQ_OFF: u8 = 0x80;
/// Offset of PIRQRC[A].
pub(super) const PIRQ_ROUTE: usize = 0x60;
/// Offset of the SMRAM control register.
pub(super) const SMRAM: usize = 0x72;
/// SMRAM: space is open to the CPU.
pub(super) const SMRAM_OPEN: u8 = 0x40;
/// SMRAM: locked.
const SMRAM_LOCK: u8 = 0x10;

/// A function whose registers are elsewhere, such as a NIC: everything its type-0 header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generic {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class, subclass and programming interface, as in 0C0300h.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor and ID.
    pub subsystem: (u16, u16),
    /// 0 for none, 1 for INTA to 4 for INTD.
    pub interrupt_pin: u8,
    /// The regions.
    pub bars: [Bar; 6],
}

/// A region of a [`Generic`] function. Sizes are powers of two; others are rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bar {
    /// None.
    #[default]
    None,
    /// So many ports.
    Io(u16),
    /// So many bytes.
    Memory(u32),
    /// So many bytes that may be prefetched.
    Prefetchable(u32),
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 8086:1237, the 82441FX: PAM and SMRAM.
    I440fx,
    /// 8086:7000, the PIIX3's ISA bridge: PIRQ routing.
    Piix3Isa,
    /// 8086:7010, the PIIX3's IDE interface.
    Piix3Ide,
    /// 8086:7113, the PIIX4's power management.
    Piix4Pm,
    /// 1234:1111, the display adapter.
    Vga {
        /// Bytes of frame buffer: a power of two.
        frame_buffer: u32,
        /// Bytes of expansion ROM: a power of two, or 0 for none.
        rom: u32,
    },
    /// 5853:0001, the Xen platform device.
    XenPlatform,
    /// Anything else.
    Generic(Generic),
}

impl Kind {
    /// Writes the reset values and the writable bits.
    pub(super) fn fill(self, f: &mut Function) {
        match self {
            Self::I440fx => i440fx(f),
            Self::Piix3Isa => piix3_isa(f),
            Self::Piix3Ide => piix3_ide(f),
            Self::Piix4Pm => piix4_pm(f),
            Self::Vga { frame_buffer, rom } => {
                f.identity(0x1234, 0x1111, 0x03_0000, 2);
                f.put16(0x2C, 0x1AF4);
                f.put16(0x2E, 0x1100);
                f.allow(COMMAND, &[0x07, 0x01]);
                f.memory_bar(0, power_of_two(frame_buffer, 1 << 20), true);
                f.memory_bar(2, 0x1000, false);
                if rom != 0 {
                    f.rom_bar(power_of_two(rom, 0x800));
                }
            }
            Self::XenPlatform => {
                f.identity(0x5853, 0x0001, 0xFF_8000, 1);
                f.put16(0x2C, 0x5853);
                f.put16(0x2E, 0x0001);
                f.allow(COMMAND, &[0x07, 0x05]);
                f.io_bar(0, 0x100);
                f.memory_bar(1, 16 << 20, true);
                f.bytes[INTERRUPT_PIN] = 1;
            }
            Self::Generic(generic) => generic.fill(f),
        }
    }

    /// Whether the guest has locked this byte.
    pub(super) fn is_locked(self, f: &Function, at: usize) -> bool {
        self == Self::I440fx && at == SMRAM && f.bytes[SMRAM] & SMRAM_LOCK != 0
    }

    /// Bits that can change without being writable now.
    pub(super) fn locked_bits(self, at: usize) -> u8 {
        if self == Self::I440fx && at == SMRAM { 0x78 } else { 0 }
    }

    /// What follows from a write.
    pub(super) fn after_write(self, f: &mut Function, at: usize) {
        // PMC "SMRAM": setting D_LCK clears D_OPEN, and both stay so until reset.
        if self == Self::I440fx && at == SMRAM && f.bytes[SMRAM] & SMRAM_LOCK != 0 {
            f.bytes[SMRAM] &= !SMRAM_OPEN;
        }
    }
}

impl Generic {
    fn fill(&self, f: &mut Function) {
        f.identity(self.vendor, self.device, self.class, self.revision);
        f.put16(0x2C, self.subsystem.0);
        f.put16(0x2E, self.subsystem.1);
        f.allow(COMMAND, &[0x07, 0x05]);
        f.bytes[INTERRUPT_PIN] = self.interrupt_pin.min(4);
        for (n, bar) in self.bars.into_iter().enumerate() {
            match bar {
                Bar::None => {}
                Bar::Io(size) => f.io_bar(n, power_of_two(size.into(), 4)),
                Bar::Memory(size) => f.memory_bar(n, power_of_two(size, 0x10), false),
                Bar::Prefetchable(size) => f.memory_bar(n, power_of_two(size, 0x10), true),
            }
        }
    }
}

fn power_of_two(size: u32, least: u32) -> u32 {
    size.max(least).checked_next_power_of_two().unwrap_or(1 << 31)
}

fn i440fx(f: &mut Function) {
    f.identity(0x8086, 0x1237, 0x06_0000, 2);
    f.bytes[COMMAND] = 0x06;
    f.put16(STATUS, 0x0280);
    f.allow(COMMAND, &[0x00, 0x01]);
    f.allow(0x0D, &[0xF8]);
    // PMCCFG, DETURBO, DBC, AXC, DRAM row types and control; nothing here acts on them.
    f.allow(0x50, &[0x7C, 0xC1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    // PAM0 has no low nibble; bits 2 and 6 (cache) are there to be written and do nothing.
    f.allow(0x59, &[0x70, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77]);
    f.allow(0x60, &[0xFF; 8]);
    f.allow(0x68, &[0xC0]);
    f.bytes[SMRAM] = 0x02;
    f.allow(SMRAM, &[0x78]);
    f.allow(0x90, &[0xF7, 0x7F]);
    f.allow(0x93, &[0x06]);
}

fn piix3_isa(f: &mut Function) {
    f.identity(0x8086, 0x7000, 0x06_0100, 0);
    f.bytes[COMMAND] = 0x07;
    f.put16(STATUS, 0x0200);
    f.bytes[0x0E] = 0x80; // more functions follow
    f.allow(COMMAND, &[0x08, 0x01]);
    f.bytes[0x4C] = 0x4D;
    f.bytes[0x4E] = 0x03;
    f.allow(0x4C, &[0xFF, 0x00, 0xFF, 0x07]);
    f.bytes[PIRQ_ROUTE..PIRQ_ROUTE + 4].fill(PIRQ_OFF);
    f.allow(PIRQ_ROUTE, &[0x8F; 4]);
    f.bytes[0x69] = 0x02;
    f.allow(0x69, &[0xFE, 0xFF, 0x87]);
    f.bytes[0x70] = 0x80;
    f.allow(0x70, &[0xEF]);
    f.put16(0x76, 0x0C0C);
    f.allow(0x76, &[0x8F, 0x8F]);
    f.bytes[0x78] = 0x02;
    f.allow(0x78, &[0xFF, 0xFF]);
    f.allow(0x80, &[0x7F]);
    f.allow(0x82, &[0x0F]);
    f.bytes[0xA0] = 0x08;
    f.allow(0xA0, &[0x1F, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x0F]);
}

fn piix3_ide(f: &mut Function) {
    f.identity(0x8086, 0x7010, 0x01_0180, 0);
    f.put16(STATUS, 0x0280);
    f.allow(COMMAND, &[0x05, 0x00]);
    f.allow(0x0D, &[0xF0]);
    f.io_bar(4, 16);
    // IDETIM for both channels, SIDETIM.
    f.allow(0x40, &[0xFF, 0xF3, 0xFF, 0xF3, 0xFF]);
}

fn piix4_pm(f: &mut Function) {
    f.identity(0x8086, 0x7113, 0x06_8000, 3);
    f.put16(STATUS, 0x0280);
    f.allow(COMMAND, &[0x01, 0x01]);
    f.bytes[INTERRUPT_PIN] = 1;
    f.bytes[0x40] = 1;
    f.allow(0x40, &[0xC0, 0xFF]);
    f.allow(0x44, &[0xFF; 0x14]);
    // DEVACTB bit 25, APMC_EN: firmware finds system management set up, and leaves it alone,
    // because this machine has none (SeaBIOS would wait for an SMI for ever).
    f.bytes[0x5B] = 0x02;
    f.allow(0x58, &[0xFF, 0xFF, 0xFF, 0x00]);
    f.allow(0x5C, &[0xFF; 0x24]);
    f.allow(0x80, &[0x01]);
    f.bytes[0x90] = 1;
    f.allow(0x90, &[0xF0, 0xFF]);
    f.allow(0xD2, &[0x0F, 0xFF, 0xFF, 0xFF]);
}
