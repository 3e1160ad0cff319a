//! What INT 10h and VBE know of the modes: register values, palettes, and the list of VBE modes.
//!
//! Plain facts, as in IBM's "PS/2 and PC BIOS Interface Technical Reference" (video parameter
//! tables) and "Video Subsystems". The text modes are those of 400 lines with 16-line characters.
//! Next: `fonts`, and INT 10h, which writes all of this to the card.

mod palette;
mod vbe;

pub use palette::{Palette, cga_dac, dac_entry, dac_len, ega_dac, mono_dac, vga_dac};
pub use vbe::{VBE_MODES, VbeMode};

/// What the bytes of a mode's memory mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Character and attribute, in turn.
    Text,
    /// Two bits a pixel; odd lines 2000h after even ones.
    Cga4,
    /// One bit a pixel; odd lines 2000h after even ones.
    Cga2,
    /// One bit a pixel in each of up to four planes.
    Planar,
    /// A byte a pixel.
    Linear8,
}

/// A mode of INT 10h AH=00h, or a text mode of VBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VgaMode {
    /// The mode's number; above FFh the VBE number.
    pub number: u16,
    /// What memory means.
    pub layout: Layout,
    /// Character columns.
    pub columns: u16,
    /// Character rows.
    pub rows: u16,
    /// Lines of a character: which font to load, and BDA 40:85h.
    pub char_height: u8,
    /// Pixels, for the graphics modes 640 or 320; for text columns times 8 or 9.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// Colours at once, as a power of two.
    pub color_bits: u8,
    /// Segment of the mode's memory.
    pub segment: u16,
    /// Bytes of a page in the window (BDA 40:4Ch).
    pub page_size: u16,
    /// Pages (INT 10h AH=05h).
    pub pages: u8,
    /// Colours for the DAC.
    pub palette: Palette,
    /// Miscellaneous output, 3C2h.
    pub misc: u8,
    /// Sequencer 1 to 4; register 0 is 03h once they are set.
    pub seq: [u8; 4],
    /// CRTC 0 to 18h. Clear bit 7 of register 11h first: it protects 0 to 7.
    pub crtc: [u8; 25],
    /// Attribute controller 0 to 14h. Read 3DAh (3BAh) first; write 20h to 3C0h at the end.
    pub attr: [u8; 21],
    /// Graphics controller 0 to 8.
    pub gc: [u8; 9],
}

const ATTR_TEXT: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
    0x0C, 0x00, 0x0F, 0x08, 0x00,
];
const ATTR_TEXT_8_DOTS: [u8; 21] = with(ATTR_TEXT, 0x13, 0x00);
const ATTR_TEXT_MONO: [u8; 21] = [
    0x00, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x10, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18, 0x18,
    0x0E, 0x00, 0x0F, 0x08, 0x00,
];
const ATTR_CGA4: [u8; 21] = [
    0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
    0x01, 0x00, 0x03, 0x00, 0x00,
];
const ATTR_CGA2: [u8; 21] = [
    0x00, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
    0x01, 0x00, 0x01, 0x00, 0x00,
];
const ATTR_EGA_200: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
    0x01, 0x00, 0x0F, 0x00, 0x00,
];
const ATTR_EGA_MONO: [u8; 21] = [
    0x00, 0x08, 0x00, 0x00, 0x18, 0x18, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x18, 0x00, 0x00,
    0x0B, 0x00, 0x05, 0x00, 0x00,
];
const ATTR_16: [u8; 21] = with(with(ATTR_TEXT, 0x10, 0x01), 0x13, 0x00);
const ATTR_2: [u8; 21] = [
    0x00, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
    0x01, 0x00, 0x0F, 0x00, 0x00,
];
const ATTR_256: [u8; 21] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F,
    0x41, 0x00, 0x0F, 0x00, 0x00,
];

const GC_TEXT: [u8; 9] = [0, 0, 0, 0, 0, 0x10, 0x0E, 0x00, 0xFF];
const GC_TEXT_MONO: [u8; 9] = [0, 0, 0, 0, 0, 0x10, 0x0A, 0x00, 0xFF];
const GC_CGA4: [u8; 9] = [0, 0, 0, 0, 0, 0x30, 0x0F, 0x00, 0xFF];
const GC_CGA2: [u8; 9] = [0, 0, 0, 0, 0, 0x00, 0x0D, 0x00, 0xFF];
const GC_PLANAR: [u8; 9] = [0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF];
const GC_EGA_MONO: [u8; 9] = with(GC_PLANAR, 7, 0x05);
const GC_2: [u8; 9] = with(GC_PLANAR, 7, 0x01);
const GC_256: [u8; 9] = with(GC_PLANAR, 5, 0x40);

const CRTC_TEXT_40: [u8; 25] = [
    0x2D, 0x27, 0x28, 0x90, 0x2B, 0xA0, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x14, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
];
const CRTC_TEXT_80: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
];
const CRTC_200_40: [u8; 25] = [
    0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xE3, 0xFF,
];
const CRTC_200_80: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xE3, 0xFF,
];
const CRTC_350: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x83, 0x85, 0x5D, 0x28, 0x0F, 0x63, 0xBA, 0xE3, 0xFF,
];
const CRTC_480: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF,
];
/// 132 columns of 8 dots, 400 lines; the card has no faster clock, so it takes longer.
const CRTC_TEXT_132: [u8; 25] = [
    0xA0, 0x83, 0x84, 0x83, 0x8C, 0x98, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x42, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
];
/// The same with 8-line characters.
const CRTC_TEXT_132_LOW: [u8; 25] =
    with(with(with(CRTC_TEXT_132, 0x09, 0x47), 0x0A, 0x06), 0x0B, 0x07);
/// 480 lines of 8-line characters, 80 columns.
const CRTC_TEXT_80_60: [u8; 25] = [
    0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0x0B, 0x3E, 0x00, 0x47, 0x06, 0x07, 0x00, 0x00, 0x00, 0x00,
    0xEA, 0x8C, 0xDF, 0x28, 0x1F, 0xE7, 0x04, 0xA3, 0xFF,
];
const CRTC_TEXT_132_60: [u8; 25] = [
    0xA0, 0x83, 0x84, 0x83, 0x8C, 0x98, 0x0B, 0x3E, 0x00, 0x47, 0x06, 0x07, 0x00, 0x00, 0x00, 0x00,
    0xEA, 0x8C, 0xDF, 0x42, 0x1F, 0xE7, 0x04, 0xA3, 0xFF,
];

/// `table` with one value changed.
const fn with<const N: usize>(mut table: [u8; N], index: usize, value: u8) -> [u8; N] {
    table[index] = value;
    table
}

const TEXT_80: VgaMode = VgaMode {
    number: 0x03,
    layout: Layout::Text,
    columns: 80,
    rows: 25,
    char_height: 16,
    width: 720,
    height: 400,
    color_bits: 4,
    segment: 0xB800,
    page_size: 0x1000,
    pages: 8,
    palette: Palette::Ega,
    misc: 0x67,
    seq: [0x00, 0x03, 0x00, 0x02],
    crtc: CRTC_TEXT_80,
    attr: ATTR_TEXT,
    gc: GC_TEXT,
};
const TEXT_40: VgaMode = VgaMode {
    number: 0x01,
    columns: 40,
    width: 360,
    page_size: 0x0800,
    seq: [0x08, 0x03, 0x00, 0x02],
    crtc: CRTC_TEXT_40,
    ..TEXT_80
};
const CGA_4: VgaMode = VgaMode {
    number: 0x04,
    layout: Layout::Cga4,
    columns: 40,
    rows: 25,
    char_height: 8,
    width: 320,
    height: 200,
    color_bits: 2,
    segment: 0xB800,
    page_size: 0x4000,
    pages: 1,
    palette: Palette::Cga,
    misc: 0x63,
    seq: [0x09, 0x03, 0x00, 0x02],
    crtc: with(with(CRTC_200_40, 0x09, 0xC1), 0x17, 0xA2),
    attr: ATTR_CGA4,
    gc: GC_CGA4,
};
const PLANAR_480: VgaMode = VgaMode {
    number: 0x12,
    layout: Layout::Planar,
    columns: 80,
    rows: 30,
    char_height: 16,
    width: 640,
    height: 480,
    color_bits: 4,
    segment: 0xA000,
    page_size: 0xA000,
    pages: 1,
    palette: Palette::Ega,
    misc: 0xE3,
    seq: [0x01, 0x0F, 0x00, 0x06],
    crtc: CRTC_480,
    attr: ATTR_16,
    gc: GC_PLANAR,
};
const TEXT_132: VgaMode = VgaMode {
    number: 0x109,
    columns: 132,
    width: 1056,
    page_size: 0x2000,
    pages: 4,
    seq: [0x01, 0x03, 0x00, 0x02],
    crtc: CRTC_TEXT_132,
    attr: ATTR_TEXT_8_DOTS,
    ..TEXT_80
};

/// The modes of INT 10h AH=00h, then the text modes of VBE (108h to 10Ch).
pub static VGA_MODES: [VgaMode; 20] = [
    VgaMode { number: 0x00, ..TEXT_40 },
    TEXT_40,
    VgaMode { number: 0x02, ..TEXT_80 },
    TEXT_80,
    CGA_4,
    VgaMode { number: 0x05, ..CGA_4 },
    VgaMode {
        number: 0x06,
        layout: Layout::Cga2,
        columns: 80,
        width: 640,
        color_bits: 1,
        seq: [0x01, 0x01, 0x00, 0x06],
        crtc: with(with(CRTC_200_80, 0x09, 0xC1), 0x17, 0xC2),
        attr: ATTR_CGA2,
        gc: GC_CGA2,
        ..CGA_4
    },
    VgaMode {
        number: 0x07,
        color_bits: 1,
        segment: 0xB000,
        palette: Palette::Mono,
        misc: 0x66,
        crtc: with(CRTC_TEXT_80, 0x14, 0x0F),
        attr: ATTR_TEXT_MONO,
        gc: GC_TEXT_MONO,
        ..TEXT_80
    },
    VgaMode {
        number: 0x0D,
        columns: 40,
        rows: 25,
        char_height: 8,
        width: 320,
        height: 200,
        page_size: 0x2000,
        pages: 8,
        palette: Palette::Cga,
        misc: 0x63,
        seq: [0x09, 0x0F, 0x00, 0x06],
        crtc: CRTC_200_40,
        attr: ATTR_EGA_200,
        ..PLANAR_480
    },
    VgaMode {
        number: 0x0E,
        rows: 25,
        char_height: 8,
        height: 200,
        page_size: 0x4000,
        pages: 4,
        palette: Palette::Cga,
        misc: 0x63,
        crtc: CRTC_200_80,
        attr: ATTR_EGA_200,
        ..PLANAR_480
    },
    VgaMode {
        number: 0x0F,
        rows: 25,
        char_height: 14,
        height: 350,
        color_bits: 1,
        page_size: 0x8000,
        pages: 2,
        palette: Palette::Mono,
        misc: 0xA2,
        crtc: CRTC_350,
        attr: ATTR_EGA_MONO,
        gc: GC_EGA_MONO,
        ..PLANAR_480
    },
    VgaMode {
        number: 0x10,
        rows: 25,
        char_height: 14,
        height: 350,
        page_size: 0x8000,
        pages: 2,
        misc: 0xA3,
        crtc: CRTC_350,
        ..PLANAR_480
    },
    VgaMode { number: 0x11, color_bits: 1, attr: ATTR_2, gc: GC_2, ..PLANAR_480 },
    PLANAR_480,
    VgaMode {
        number: 0x13,
        layout: Layout::Linear8,
        columns: 40,
        rows: 25,
        char_height: 8,
        width: 320,
        height: 200,
        color_bits: 8,
        page_size: 0x2000,
        palette: Palette::Vga,
        misc: 0x63,
        seq: [0x01, 0x0F, 0x00, 0x0E],
        crtc: with(with(with(CRTC_200_80, 0x09, 0x41), 0x14, 0x40), 0x17, 0xA3),
        attr: ATTR_256,
        gc: GC_256,
        ..PLANAR_480
    },
    VgaMode {
        number: 0x108,
        rows: 60,
        char_height: 8,
        width: 640,
        height: 480,
        page_size: 0x2800,
        pages: 3,
        misc: 0xE3,
        seq: [0x01, 0x03, 0x00, 0x02],
        crtc: CRTC_TEXT_80_60,
        attr: ATTR_TEXT_8_DOTS,
        ..TEXT_80
    },
    TEXT_132,
    VgaMode {
        number: 0x10A,
        rows: 43,
        char_height: 8,
        height: 344,
        page_size: 0x3000,
        pages: 2,
        misc: 0xA7,
        // 344 of the 350-line timing's lines.
        crtc: with(
            with(
                with(with(with(CRTC_TEXT_132_LOW, 0x10, 0x83), 0x11, 0x85), 0x12, 0x57),
                0x15,
                0x63,
            ),
            0x16,
            0xBA,
        ),
        ..TEXT_132
    },
    VgaMode {
        number: 0x10B,
        rows: 50,
        char_height: 8,
        page_size: 0x4000,
        pages: 2,
        crtc: CRTC_TEXT_132_LOW,
        ..TEXT_132
    },
    VgaMode {
        number: 0x10C,
        rows: 60,
        char_height: 8,
        height: 480,
        page_size: 0x4000,
        pages: 2,
        misc: 0xE7,
        crtc: CRTC_TEXT_132_60,
        ..TEXT_132
    },
];

/// The mode of a number, as INT 10h and VBE count them.
#[must_use]
pub fn vga_mode(number: u16) -> Option<&'static VgaMode> {
    VGA_MODES.iter().find(|mode| mode.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten bits from a register and the overflow register.
    fn tall(mode: &VgaMode, register: usize, bit8: u8, bit9: u8) -> u32 {
        let bit = |n: u8| u32::from(mode.crtc[7] >> n & 1);
        u32::from(mode.crtc[register]) | bit(bit8) << 8 | bit(bit9) << 9
    }

    #[test]
    fn the_tables_make_the_sizes_that_the_modes_claim() {
        for mode in &VGA_MODES {
            let clocks = u32::from(mode.crtc[1]) + 1;
            let lines = tall(mode, 0x12, 1, 6) + 1;
            let double = if mode.crtc[9] & 0x80 != 0 { 2 } else { 1 };
            let row = u32::from(mode.crtc[9] & 0x1F) + 1;
            let dots = if mode.seq[0] & 1 != 0 { 8 } else { 9 };
            let (width, height) = match mode.layout {
                Layout::Text => (clocks * dots, lines),
                Layout::Linear8 => (clocks * 4, lines / row),
                Layout::Planar => (clocks * 8, lines / double / row),
                Layout::Cga2 | Layout::Cga4 => (clocks * 8, lines / double),
            };
            assert_eq!(
                (width, height),
                (mode.width.into(), mode.height.into()),
                "{:x}",
                mode.number
            );
            if mode.layout == Layout::Text {
                assert_eq!((row, clocks), (mode.char_height.into(), mode.columns.into()));
                assert_eq!(lines, row * u32::from(mode.rows), "{:x}", mode.number);
                let cells = u32::from(mode.columns) * u32::from(mode.rows);
                assert!(cells * 2 <= mode.page_size.into());
                assert!(u32::from(mode.page_size) * u32::from(mode.pages) <= 0x8000);
            }
            assert_eq!(mode.gc[6] & 1, u8::from(mode.layout != Layout::Text));
            assert_eq!(mode.attr[0x10] & 1, mode.gc[6] & 1);
            let segment = [0xA000, 0xA000, 0xB000, 0xB800][usize::from(mode.gc[6] >> 2 & 3)];
            assert_eq!(segment, mode.segment);
            assert_eq!(mode.misc & 1 == 0, mode.palette == Palette::Mono);
        }
    }

    #[test]
    fn the_tables_make_frames_that_a_monitor_of_the_time_would_show() {
        for mode in VGA_MODES.iter().filter(|mode| mode.columns <= 80) {
            let clock = if mode.misc & 0xC == 4 { 28_322_000 } else { 25_175_000 };
            let dots = if mode.seq[0] & 1 != 0 { 8 } else { 9 };
            let dots = dots * if mode.seq[0] & 8 != 0 { 2 } else { 1 };
            let line = (u32::from(mode.crtc[0]) + 5) * dots;
            let total = tall(mode, 6, 0, 5) + 2;
            let hertz = clock / (line * total);
            let wanted = if mode.height == 480 { 59 } else { 70 };
            assert_eq!(hertz, wanted, "{:x}", mode.number);
            let retrace = tall(mode, 0x10, 2, 7);
            assert!(tall(mode, 0x12, 1, 6) < retrace && retrace < total);
        }
    }
}
