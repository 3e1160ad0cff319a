//! The VGA's registers as bytes, with the bits that exist, and what can be read off them alone.
//!
//! Sources: IBM "PS/2 Hardware Interface Technical Reference: Video Subsystems", and the FreeVGA
//! register reference. Next: `mod.rs` (ports), `mem.rs` (the window), `timing.rs`, `render.rs`.

/// Bits that exist in the sequencer's registers 0 to 4.
pub(super) const SEQ_MASK: [u8; 5] = [0x03, 0x3D, 0x0F, 0x3F, 0x0E];
/// Bits that exist in the graphics controller's registers 0 to 8.
pub(super) const GC_MASK: [u8; 9] = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF];
/// Bits that exist in the attribute controller's registers 0 to 14h.
pub(super) const ATTR_MASK: [u8; 21] = [
    0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
    0xEF, 0xFF, 0x3F, 0x0F, 0x0F,
];

/// Everything but DAC, VBE and latches. Indexes are the register numbers of the manual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Regs {
    pub misc: u8,
    pub feature: u8,
    pub subsystem_enable: u8,
    pub seq_index: u8,
    pub seq: [u8; 5],
    pub crtc_index: u8,
    pub crtc: [u8; 25],
    pub gc_index: u8,
    pub gc: [u8; 9],
    /// Bits 0 to 4 the register, bit 5 "palette address source": the screen is on.
    pub attr_index: u8,
    /// The next write to 3C0h is data.
    pub attr_data_next: bool,
    pub attr: [u8; 21],
}

impl Regs {
    pub const fn new() -> Self {
        Self {
            misc: 0,
            feature: 0,
            subsystem_enable: 1,
            seq_index: 0,
            seq: [0; 5],
            crtc_index: 0,
            crtc: [0; 25],
            gc_index: 0,
            gc: [0; 9],
            attr_index: 0,
            attr_data_next: false,
            attr: [0; 21],
        }
    }

    /// Misc output bit 0: the CRTC answers at 3Dxh, not at 3Bxh.
    pub const fn color_ports(&self) -> bool {
        self.misc & 1 != 0
    }

    /// Graphics, not text (GC 6 bit 0).
    pub const fn graphics(&self) -> bool {
        self.gc[6] & 1 != 0
    }

    /// The 256-colour shift register (GC 5 bit 6).
    pub const fn shift_256(&self) -> bool {
        self.gc[5] & 0x40 != 0
    }

    /// The CGA's interleaved shift register (GC 5 bit 5).
    pub const fn shift_interleave(&self) -> bool {
        self.gc[5] & 0x20 != 0
    }

    /// Dots in a character clock.
    pub const fn char_dots(&self) -> u32 {
        if self.seq[1] & 1 != 0 { 8 } else { 9 }
    }

    /// Nothing is shown: palette address source off, screen off, or sequencer held in reset.
    pub const fn blanked(&self) -> bool {
        self.attr_index & 0x20 == 0 || self.seq[1] & 0x20 != 0 || self.seq[0] != 3
    }

    /// A ten-bit vertical value whose bits 8 and 9 sit in the overflow register.
    const fn overflow(&self, low: u8, bit8: u32, bit9: u32) -> u32 {
        low as u32 | (self.crtc[7] as u32 >> bit8 & 1) << 8 | (self.crtc[7] as u32 >> bit9 & 1) << 9
    }

    /// Scan lines in a frame.
    pub const fn vertical_total(&self) -> u32 {
        self.overflow(self.crtc[6], 0, 5) + 2
    }

    /// Scan lines shown.
    pub const fn vertical_display(&self) -> u32 {
        self.overflow(self.crtc[0x12], 1, 6) + 1
    }

    /// The first scan line of the vertical retrace.
    pub const fn retrace_start(&self) -> u32 {
        self.overflow(self.crtc[0x10], 2, 7)
    }

    /// The scan line after which the address counter restarts at 0.
    pub const fn line_compare(&self) -> u32 {
        self.crtc[0x18] as u32
            | (self.crtc[7] as u32 >> 4 & 1) << 8
            | (self.crtc[9] as u32 >> 6 & 1) << 9
    }

    /// Character clocks shown in a line.
    pub const fn horizontal_display(&self) -> u32 {
        self.crtc[1] as u32 + 1
    }

    /// Scan lines of a character row, 1 to 32.
    pub const fn char_height(&self) -> u32 {
        (self.crtc[9] & 0x1F) as u32 + 1
    }

    /// Each line is shown twice (CRTC 9 bit 7).
    pub const fn double_scan(&self) -> u32 {
        if self.crtc[9] & 0x80 != 0 { 2 } else { 1 }
    }

    /// Counter steps from one character row to the next.
    pub const fn row_pitch(&self) -> u32 {
        self.crtc[0x13] as u32 * 2
    }

    /// The counter at the top left.
    pub const fn start_address(&self) -> u32 {
        (self.crtc[0xC] as u32) << 8 | self.crtc[0xD] as u32
    }

    /// The counter at which the cursor shows.
    pub const fn cursor_address(&self) -> u32 {
        (self.crtc[0xE] as u32) << 8 | self.crtc[0xF] as u32
    }

    /// Row-scan bits replace address bits 13 or 14, as in the CGA's and Hercules' banks.
    pub const fn row_scan_banks(&self) -> bool {
        self.crtc[0x17] & 3 != 3
    }

    /// The plane address that the CRTC fetches for counter `counter` in line `row_scan` of its row.
    ///
    /// Doubleword mode shows the counter itself, because chain-4 memory is packed (see `vram.rs`).
    pub const fn display_address(&self, counter: u32, row_scan: u32) -> u32 {
        let mode = self.crtc[0x17];
        let mut address = counter & 0xFFFF;
        if mode & 0x40 == 0 && self.crtc[0x14] & 0x40 == 0 {
            let wrapped = if mode & 0x20 != 0 { address >> 15 } else { address >> 13 };
            address = (address << 1 | wrapped & 1) & 0xFFFF;
        }
        if mode & 1 == 0 {
            address = address & !0x2000 | (row_scan & 1) << 13;
        }
        if mode & 2 == 0 {
            address = address & !0x4000 | (row_scan >> 1 & 1) << 14;
        }
        address
    }
}
