//! The colours that a mode set puts into the DAC.
//!
//! Source: IBM "PS/2 Hardware Interface Technical Reference: Video Subsystems", and for mode 13h
//! the colours as every VGA shows them.

/// Which colours the DAC gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// [`mono_dac`].
    Mono,
    /// [`cga_dac`].
    Cga,
    /// [`ega_dac`].
    Ega,
    /// [`vga_dac`].
    Vga,
}

/// Entries that a palette sets; modes with 16 colours leave the rest of the DAC alone.
#[must_use]
pub const fn dac_len(palette: Palette) -> u16 {
    match palette {
        Palette::Mono | Palette::Cga | Palette::Ega => 64,
        Palette::Vga => 256,
    }
}

/// Red, green and blue, 0 to 3Fh each, of a DAC entry. Beyond [`dac_len`] black.
#[must_use]
pub const fn dac_entry(palette: Palette, index: u8) -> [u8; 3] {
    match palette {
        Palette::Vga => vga_dac(index),
        _ if index >= 64 => [0; 3],
        Palette::Mono => mono_dac(index),
        Palette::Cga => cga_dac(index),
        Palette::Ega => ega_dac(index),
    }
}

/// The 64 colours of the EGA: bits rgbRGB, a third from the small letters, two from the large.
#[must_use]
pub const fn ega_dac(index: u8) -> [u8; 3] {
    [
        (index >> 2 & 1) * 0x2A + (index >> 5 & 1) * 0x15,
        (index >> 1 & 1) * 0x2A + (index >> 4 & 1) * 0x15,
        (index & 1) * 0x2A + (index >> 3 & 1) * 0x15,
    ]
}

/// The 16 colours of the CGA, with brown: bits 0 to 2 colour, bit 4 intensity; bits 3 and 5
/// nothing.
#[must_use]
pub const fn cga_dac(index: u8) -> [u8; 3] {
    let bright = (index >> 4 & 1) * 0x15;
    let (red, green, blue) = (index >> 2 & 1, index >> 1 & 1, index & 1);
    if index & 0x17 == 6 {
        return [0x2A, 0x15, 0x00];
    }
    [red * 0x2A + bright, green * 0x2A + bright, blue * 0x2A + bright]
}

/// Black, grey and white by bits 3 and 4.
#[must_use]
pub const fn mono_dac(index: u8) -> [u8; 3] {
    match index & 0x18 {
        0x08 => [0x2A; 3],
        0x18 => [0x3F; 3],
        _ => [0x00; 3],
    }
}

const GREYS: [u8; 16] = [
    0x00, 0x05, 0x08, 0x0B, 0x0E, 0x11, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2D, 0x32, 0x38, 0x3F,
];

/// The five levels of each wheel of 24 hues: three brightnesses, three saturations of each.
const WHEELS: [[u8; 5]; 9] = [
    [0x00, 0x10, 0x1F, 0x2F, 0x3F],
    [0x1F, 0x27, 0x2F, 0x37, 0x3F],
    [0x2D, 0x31, 0x36, 0x3A, 0x3F],
    [0x00, 0x07, 0x0E, 0x15, 0x1C],
    [0x0E, 0x11, 0x15, 0x18, 0x1C],
    [0x14, 0x16, 0x18, 0x1A, 0x1C],
    [0x00, 0x04, 0x08, 0x0C, 0x10],
    [0x08, 0x0A, 0x0C, 0x0E, 0x10],
    [0x0B, 0x0C, 0x0D, 0x0F, 0x10],
];

/// The colours of mode 13h: CGA's 16, 16 greys, nine wheels of 24 hues, 8 blacks.
#[must_use]
pub const fn vga_dac(index: u8) -> [u8; 3] {
    match index {
        0..=15 => cga_dac(index & 7 | (index & 8) << 1),
        16..=31 => [GREYS[index as usize - 16]; 3],
        32..=247 => {
            let levels = WHEELS[(index as usize - 32) / 24];
            let hue = (index as usize - 32) % 24;
            [levels[wheel(hue + 16)], levels[wheel(hue + 8)], levels[wheel(hue)]]
        }
        248..=255 => [0; 3],
    }
}

/// Level 0 to 4 of blue along the wheel blue, magenta, red, yellow, green, cyan. Green has the same
/// levels a third of the wheel earlier, red two thirds.
const fn wheel(hue: usize) -> usize {
    match hue % 24 {
        step @ 5..=8 => 8 - step,
        9..=16 => 0,
        step @ 17..=20 => step - 16,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palettes_have_their_well_known_colours() {
        assert_eq!(ega_dac(0x14), [0x2A, 0x15, 0x00]);
        assert_eq!(ega_dac(0x3F), [0x3F; 3]);
        assert_eq!(ega_dac(0x39), [0x15, 0x15, 0x3F]);
        assert_eq!(
            [cga_dac(6), cga_dac(0x16), cga_dac(0x2F)],
            [[0x2A, 0x15, 0], [0x3F, 0x3F, 0x15], [0x2A; 3]]
        );
        assert_eq!([mono_dac(7), mono_dac(8), mono_dac(0x18)], [[0; 3], [0x2A; 3], [0x3F; 3]]);
        for (index, entry) in [
            (0x06, [0x2A, 0x15, 0x00]),
            (0x0F, [0x3F, 0x3F, 0x3F]),
            (0x1F, [0x3F, 0x3F, 0x3F]),
            (0x20, [0x00, 0x00, 0x3F]),
            (0x21, [0x10, 0x00, 0x3F]),
            (0x24, [0x3F, 0x00, 0x3F]),
            (0x25, [0x3F, 0x00, 0x2F]),
            (0x28, [0x3F, 0x00, 0x00]),
            (0x2C, [0x3F, 0x3F, 0x00]),
            (0x30, [0x00, 0x3F, 0x00]),
            (0x31, [0x00, 0x3F, 0x10]),
            (0x34, [0x00, 0x3F, 0x3F]),
            (0x37, [0x00, 0x10, 0x3F]),
            (0x38, [0x1F, 0x1F, 0x3F]),
            (0x68, [0x00, 0x00, 0x1C]),
            (0xF7, [0x0B, 0x0C, 0x10]),
            (0xF8, [0x00, 0x00, 0x00]),
        ] {
            assert_eq!(dac_entry(Palette::Vga, index), entry, "{index:x}");
        }
    }
}
