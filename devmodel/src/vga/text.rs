//! What a text mode's screen says, for the monitor, for logs and for tests.

use super::Vga;
use super::render::TextShape;
use super::vram::Vram;
use core::fmt::{self, Write};

/// Code page 437 in Unicode, with the glyphs of the control codes. 00h and FFh are blanks.
pub static CP437: [char; 256] = [
    ' ', '☺', '☻', '♥', '♦', '♣', '♠', '•', '◘', '○', '◙', '♂', '♀', '♪', '♫', '☼', //
    '►', '◄', '↕', '‼', '¶', '§', '▬', '↨', '↑', '↓', '→', '←', '∟', '↔', '▲', '▼', //
    ' ', '!', '"', '#', '$', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', //
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?', //
    '@', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', //
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', '[', '\\', ']', '^', '_', //
    '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', //
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '{', '|', '}', '~', '⌂', //
    'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', //
    'É', 'æ', 'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', //
    'á', 'í', 'ó', 'ú', 'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»', //
    '░', '▒', '▓', '│', '┤', '╡', '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐', //
    '└', '┴', '┬', '├', '─', '┼', '╞', '╟', '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', //
    '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘', '┌', '█', '▄', '▌', '▐', '▀', //
    'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ', '∞', 'φ', 'ε', '∩', //
    '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²', '■', ' ', //
];

/// Writes lines without their trailing blanks.
pub(super) struct Trimmed<'a, W: Write> {
    out: &'a mut W,
    blanks: u32,
}

impl<'a, W: Write> Trimmed<'a, W> {
    pub const fn new(out: &'a mut W) -> Self {
        Self { out, blanks: 0 }
    }

    pub fn put(&mut self, character: char) -> fmt::Result {
        if character == ' ' {
            self.blanks += 1;
            return Ok(());
        }
        for _ in 0..core::mem::take(&mut self.blanks) {
            self.out.write_char(' ')?;
        }
        self.out.write_char(character)
    }

    pub fn end_line(&mut self) -> fmt::Result {
        self.blanks = 0;
        self.out.write_char('\n')
    }
}

impl Vga {
    /// Character and attribute at a row and column of a text mode, by the start address. `None`
    /// in other modes and outside the screen.
    #[must_use]
    pub fn text_cell<V: Vram + ?Sized>(&self, vram: &V, row: u32, column: u32) -> Option<(u8, u8)> {
        let TextShape { cols, rows, .. } = self.text_shape();
        if self.vbe.enabled() || self.regs.graphics() || row >= rows || column >= cols {
            return None;
        }
        let counter = self.regs.start_address() + row * self.regs.row_pitch() + column;
        let word = self.text_word(vram, counter);
        Some((word as u8, (word >> 8) as u8))
    }

    /// Writes the text screen, a line for each row, trailing blanks cut, by code page 437. Tells
    /// whether this is a text mode; in others nothing is written. A screen turned off still reads.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn screen_text<V: Vram + ?Sized, W: Write>(
        &self,
        vram: &V,
        out: &mut W,
    ) -> Result<bool, fmt::Error> {
        if self.vbe.enabled() || self.regs.graphics() {
            return Ok(false);
        }
        let TextShape { cols, rows, .. } = self.text_shape();
        let mut out = Trimmed::new(out);
        for row in 0..rows {
            for column in 0..cols {
                let cell = self.text_cell(vram, row, column);
                out.put(cell.map_or(' ', |(code, _)| CP437[usize::from(code)]))?;
            }
            out.end_line()?;
        }
        Ok(true)
    }
}
