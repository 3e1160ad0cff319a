//! The character generator's fonts: code page 437, one byte a row, bit 7 leftmost.
//!
//! Source: Unscii 8 and 16 (viznut, <http://viznut.fi/unscii>), which its author puts in the Public
//! Domain. Nine glyphs that it lacks or draws alike (male, female, sun, arrows, house, reversed
//! not, bullet, right angle) are drawn by us and likewise free. 8x14 is 8x16 without rows 0 and 14.

/// 8x8, for the 200-line graphics modes and 43- and 50-line text.
pub static FONT_8X8: &[u8; 256 * 8] = include_bytes!("8x8.bin");
/// 8x14, for the 350-line modes.
pub static FONT_8X14: &[u8; 256 * 14] = include_bytes!("8x14.bin");
/// 8x16, for the 400- and 480-line modes.
pub static FONT_8X16: &[u8; 256 * 16] = include_bytes!("8x16.bin");

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that are blank in every PC font.
    const BLANK: [usize; 3] = [0x00, 0x20, 0xFF];

    fn each_font(mut check: impl FnMut(usize, usize, &[u8])) {
        for (height, font) in
            [(8, FONT_8X8.as_slice()), (14, FONT_8X14.as_slice()), (16, FONT_8X16.as_slice())]
        {
            for (code, glyph) in font.chunks(height).enumerate() {
                check(height, code, glyph);
            }
        }
    }

    #[test]
    fn every_code_but_the_blanks_has_ink_in_every_font() {
        each_font(|height, code, glyph| {
            let inked = glyph.iter().any(|row| *row != 0);
            assert_eq!(inked, !BLANK.contains(&code), "{height} {code:02x}");
        });
    }

    #[test]
    fn box_drawing_joins_up_between_neighbouring_cells() {
        each_font(|height, code, glyph| match code {
            // Vertical line, double vertical line, cross, full block reach the first and last row.
            0xB3 | 0xBA | 0xC5 | 0xDB => {
                assert!(glyph[0] != 0 && glyph[height - 1] == glyph[0], "{height} {code:02x}");
            }
            // Horizontal lines reach both sides.
            0xC4 | 0xCD => assert!(glyph.contains(&0xFF), "{height} {code:02x}"),
            _ => {}
        });
    }

    #[test]
    fn no_two_inked_glyphs_of_a_font_look_alike() {
        for (height, font) in [(14, FONT_8X14.as_slice()), (16, FONT_8X16.as_slice())] {
            for code in 1..256 {
                for other in code + 1..256 {
                    let (one, two) = (code * height, other * height);
                    let alike = font[one..one + height] == font[two..two + height];
                    assert!(!alike || BLANK.contains(&code), "{height} {code:02x} {other:02x}");
                }
            }
        }
    }
}
