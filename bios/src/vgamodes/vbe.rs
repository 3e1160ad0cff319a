//! The graphics modes of VBE.

/// A graphics mode of VBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VbeMode {
    /// The number that INT 10h AX=4F02h takes.
    pub number: u16,
    /// Pixels.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// 4 (planar), 8 (palette), 15, 16, 24 or 32 (direct colour).
    pub bpp: u8,
}

impl VbeMode {
    /// Bytes from one line to the next, in 4 bpp of each plane.
    #[must_use]
    pub const fn pitch(&self) -> u32 {
        match self.bpp {
            4 => self.width as u32 / 8,
            15 => self.width as u32 * 2,
            bpp => self.width as u32 * (bpp as u32 / 8),
        }
    }

    /// Bytes of video memory that the picture needs.
    #[must_use]
    pub const fn vram_bytes(&self) -> u32 {
        let planes = if self.bpp == 4 { 4 } else { 1 };
        self.pitch() * self.height as u32 * planes
    }

    /// Whether 4F00h tells of it. Programs of the time copy the list to a table without a look at its size; the smallest
    /// one that is known, of SciTech's SuperVGA library, takes 50 with the list's end. The other modes can be asked
    /// for and set by their numbers all the same.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        // VESA's up to 1280×1024, 320×200, and true colour of all sizes but the smallest.
        self.number <= 0x11B
            || self.number == 0x146
            || self.bpp == 32 && !matches!(self.number, 0x1A4 | 0x1A5)
    }

    /// Bits and position of red, green, blue and the rest: the mode block's direct colour fields.
    #[must_use]
    pub const fn masks(&self) -> [(u8, u8); 4] {
        match self.bpp {
            15 => [(5, 10), (5, 5), (5, 0), (1, 15)],
            16 => [(5, 11), (6, 5), (5, 0), (0, 0)],
            24 => [(8, 16), (8, 8), (8, 0), (0, 0)],
            32 => [(8, 16), (8, 8), (8, 0), (8, 24)],
            _ => [(0, 0); 4],
        }
    }
}

const fn vbe(number: u16, width: u16, height: u16, bpp: u8) -> VbeMode {
    VbeMode { number, width, height, bpp }
}

/// The modes, VESA's numbers first (VBE 3.0, "VBE Mode Numbers"), then those that Bochs' and QEMU's
/// VGA BIOS use for the same card, then what neither has. All fit into 16 MiB.
pub static VBE_MODES: [VbeMode; 81] = [
    vbe(0x100, 640, 400, 8),
    vbe(0x101, 640, 480, 8),
    vbe(0x102, 800, 600, 4),
    vbe(0x103, 800, 600, 8),
    vbe(0x104, 1024, 768, 4),
    vbe(0x105, 1024, 768, 8),
    vbe(0x106, 1280, 1024, 4),
    vbe(0x107, 1280, 1024, 8),
    vbe(0x10D, 320, 200, 15),
    vbe(0x10E, 320, 200, 16),
    vbe(0x10F, 320, 200, 24),
    vbe(0x110, 640, 480, 15),
    vbe(0x111, 640, 480, 16),
    vbe(0x112, 640, 480, 24),
    vbe(0x113, 800, 600, 15),
    vbe(0x114, 800, 600, 16),
    vbe(0x115, 800, 600, 24),
    vbe(0x116, 1024, 768, 15),
    vbe(0x117, 1024, 768, 16),
    vbe(0x118, 1024, 768, 24),
    vbe(0x119, 1280, 1024, 15),
    vbe(0x11A, 1280, 1024, 16),
    vbe(0x11B, 1280, 1024, 24),
    vbe(0x11C, 1600, 1200, 8),
    vbe(0x11D, 1600, 1200, 15),
    vbe(0x11E, 1600, 1200, 16),
    vbe(0x11F, 1600, 1200, 24),
    vbe(0x140, 320, 200, 32),
    vbe(0x141, 640, 400, 32),
    vbe(0x142, 640, 480, 32),
    vbe(0x143, 800, 600, 32),
    vbe(0x144, 1024, 768, 32),
    vbe(0x145, 1280, 1024, 32),
    vbe(0x146, 320, 200, 8),
    vbe(0x147, 1600, 1200, 32),
    vbe(0x148, 1152, 864, 8),
    vbe(0x149, 1152, 864, 15),
    vbe(0x14A, 1152, 864, 16),
    vbe(0x14B, 1152, 864, 24),
    vbe(0x14C, 1152, 864, 32),
    vbe(0x175, 1280, 768, 16),
    vbe(0x176, 1280, 768, 24),
    vbe(0x177, 1280, 768, 32),
    vbe(0x178, 1280, 800, 16),
    vbe(0x179, 1280, 800, 24),
    vbe(0x17A, 1280, 800, 32),
    vbe(0x17B, 1280, 960, 16),
    vbe(0x17C, 1280, 960, 24),
    vbe(0x17D, 1280, 960, 32),
    vbe(0x17E, 1440, 900, 16),
    vbe(0x17F, 1440, 900, 24),
    vbe(0x180, 1440, 900, 32),
    vbe(0x181, 1400, 1050, 16),
    vbe(0x182, 1400, 1050, 24),
    vbe(0x183, 1400, 1050, 32),
    vbe(0x184, 1680, 1050, 16),
    vbe(0x185, 1680, 1050, 24),
    vbe(0x186, 1680, 1050, 32),
    vbe(0x187, 1920, 1200, 16),
    vbe(0x188, 1920, 1200, 24),
    vbe(0x189, 1920, 1200, 32),
    vbe(0x18D, 1280, 720, 16),
    vbe(0x18E, 1280, 720, 24),
    vbe(0x18F, 1280, 720, 32),
    vbe(0x190, 1920, 1080, 16),
    vbe(0x191, 1920, 1080, 24),
    vbe(0x192, 1920, 1080, 32),
    vbe(0x193, 1600, 900, 16),
    vbe(0x194, 1600, 900, 24),
    vbe(0x195, 1600, 900, 32),
    vbe(0x1A0, 320, 240, 8),
    vbe(0x1A1, 400, 300, 8),
    vbe(0x1A2, 320, 240, 16),
    vbe(0x1A3, 400, 300, 16),
    vbe(0x1A4, 320, 240, 32),
    vbe(0x1A5, 400, 300, 32),
    vbe(0x1A6, 1280, 720, 8),
    vbe(0x1A7, 1366, 768, 32),
    vbe(0x1A8, 1920, 1080, 8),
    vbe(0x1A9, 1920, 1200, 8),
    vbe(0x1AA, 1360, 768, 32),
];

#[cfg(test)]
mod tests {
    use super::super::vga_mode;
    use super::*;

    #[test]
    fn vbe_numbers_are_unique_ascending_and_fit_into_16_mib() {
        assert!(VBE_MODES.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert!(VBE_MODES.iter().all(|mode| mode.vram_bytes() <= 0x100_0000));
        assert!(VBE_MODES.iter().all(|mode| mode.bpp != 4 || mode.width % 8 == 0));
        assert!(VBE_MODES.iter().all(|mode| vga_mode(mode.number).is_none()));
    }
}
