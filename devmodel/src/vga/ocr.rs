//! Reads text that a guest drew in a graphics mode, by comparing with a font 8 pixels wide.
//!
//! A cell is known by where its colour changes, sideways within each row and downwards along its
//! left edge: 8 bits a row, one `u128` for 16 rows, the same for any two colours and inverted.
//! Every place is looked at once to find the grid that most glyphs lie on, once more to read that
//! grid.

use super::render::Picture;
use super::text::Trimmed;
use core::fmt::{self, Write};

/// Pixels of a glyph's row.
const WIDTH: usize = 8;
/// Rows of the highest font.
const MAX_HEIGHT: usize = 16;
/// The first row has no row above it that belongs to the cell.
const FIRST_ROW_BIT: u32 = 7;
/// Stands for a cell that has ink and no known glyph.
const UNKNOWN: char = '\u{FFFD}';

/// A font made ready for comparing. `N` is the most glyphs it holds.
#[derive(Clone, Debug)]
pub struct OcrFont<const N: usize> {
    height: usize,
    count: usize,
    /// Sorted by key; no key twice.
    glyphs: [(u128, char); N],
    /// Bit `mix(key)` is set for every key, so that most other keys need no search.
    filter: [u64; 16],
}

/// The filter's bit for a key, from all over the key.
const fn mix(key: u128) -> usize {
    let folded = key as u64 ^ (key >> 64) as u64;
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize
}

/// The key with one more row: its sideways changes, and the leftmost pixel's downward change.
const fn push(key: u128, sideways: u8, downward: bool) -> u128 {
    key << 8 | (sideways & 0x7F) as u128 | (downward as u128) << FIRST_ROW_BIT
}

impl<const N: usize> OcrFont<N> {
    /// Makes ready glyphs of `height` rows (1 to 16), each with its character. Several fonts of one
    /// height can be given one after the other, the BIOS's and those that guests bring along. A
    /// glyph without ink is left out, and so is one that looks like an earlier one, and what
    /// exceeds `N`.
    #[must_use]
    pub fn new<'g>(height: usize, glyphs: impl IntoIterator<Item = (char, &'g [u8])>) -> Self {
        let height = height.clamp(1, MAX_HEIGHT);
        let mut font = Self { height, count: 0, glyphs: [(0, ' '); N], filter: [0; 16] };
        for (character, rows) in glyphs {
            let mut key = 0;
            let mut above = None;
            for row in rows.iter().take(height) {
                let downward = above.is_some_and(|above: u8| (above ^ row) & 0x80 != 0);
                // The change between pixel n and n + 1 of a row is bit 6 - n.
                key = push(key, (row ^ row << 1) >> 1, downward);
                above = Some(*row);
            }
            font.insert(key, character);
        }
        font
    }

    /// Makes ready a code page 437 font: 256 glyphs of `height` bytes. ASCII wins over look-alikes.
    #[must_use]
    pub fn cp437(height: usize, font: &[u8]) -> Self {
        let glyph = |code: usize| {
            let rows = font.get(code * height..(code + 1) * height).unwrap_or_default();
            (super::text::CP437[code], rows)
        };
        let ascii = 0x20..0x7F;
        Self::new(height, ascii.chain(0x7F..0x100).chain(0..0x20).map(glyph))
    }

    fn insert(&mut self, key: u128, character: char) {
        let Some(used) = self.glyphs.get(..self.count) else { return };
        if let (true, Err(at)) = (key != 0, used.binary_search_by_key(&key, |glyph| glyph.0))
            && let Some(tail) = self.glyphs.get_mut(at..=self.count)
        {
            tail.rotate_right(1);
            tail[0] = (key, character);
            self.count += 1;
            self.filter[mix(key) / 64] |= 1 << (mix(key) % 64);
        }
    }

    fn find(&self, key: u128) -> Option<char> {
        if self.filter[mix(key) / 64] >> (mix(key) % 64) & 1 == 0 {
            return None;
        }
        let used = self.glyphs.get(..self.count)?;
        let at = used.binary_search_by_key(&key, |glyph| glyph.0).ok()?;
        used.get(at).map(|glyph| glyph.1)
    }

    /// The last `height` rows of a key, without the bits that look above the cell.
    const fn cell(&self, key: u128) -> u128 {
        let bits = self.height as u32 * 8;
        let rows = if bits == 128 { key } else { key & ((1 << bits) - 1) };
        rows & !(1 << (bits - 8 + FIRST_ROW_BIT))
    }
}

/// A column of pixels that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub struct OcrColumn {
    key: u128,
    above: u32,
}

/// Memory for reading, lent by the caller: both as long as the frame is wide; what is shorter cuts.
#[derive(Debug)]
pub struct Ocr<'a> {
    /// One for each column.
    pub columns: &'a mut [OcrColumn],
    /// One line of pixels.
    pub line: &'a mut [u32],
}

/// Where the cells of a screen lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    x: usize,
    y: usize,
}

impl Ocr<'_> {
    /// Writes the text of a picture line by line, trailing blanks cut, U+FFFD for what is no glyph.
    /// Gives the number of glyphs known. Work: two passes over the pixels, a few steps for each.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn text_by_font<const N: usize>(
        &mut self,
        picture: &dyn Picture,
        font: &OcrFont<N>,
        out: &mut impl Write,
    ) -> Result<u32, fmt::Error> {
        let grid = self.find_grid(picture, font);
        let mut known = 0;
        let mut out = Trimmed::new(out);
        self.each_row(picture, |y, columns| {
            if y + 1 < font.height || (y + 1 - font.height) % font.height != grid.y {
                return Ok(());
            }
            for column in columns.iter().skip(grid.x).step_by(WIDTH) {
                match font.cell(column.key) {
                    0 => out.put(' ')?,
                    key => {
                        let found = font.find(key);
                        known += u32::from(found.is_some());
                        out.put(found.unwrap_or(UNKNOWN))?;
                    }
                }
            }
            out.end_line()
        })?;
        Ok(known)
    }

    /// The offsets on which most glyphs are found.
    fn find_grid<const N: usize>(&mut self, picture: &dyn Picture, font: &OcrFont<N>) -> Grid {
        let mut votes = [[0_u32; WIDTH]; MAX_HEIGHT];
        let counted = self.each_row(picture, |y, columns| {
            if y + 1 < font.height {
                return Ok(());
            }
            let votes = &mut votes[(y + 1 - font.height) % font.height % MAX_HEIGHT];
            for (x, column) in columns.iter().enumerate() {
                let key = font.cell(column.key);
                votes[x % WIDTH] += u32::from(key != 0 && font.find(key).is_some());
            }
            Ok(())
        });
        debug_assert!(counted.is_ok());
        let (mut best, mut grid) = (0, Grid { x: 0, y: 0 });
        for (y, row) in votes.iter().enumerate() {
            for (x, count) in row.iter().enumerate() {
                if *count > best {
                    (best, grid) = (*count, Grid { x, y });
                }
            }
        }
        grid
    }

    /// Calls `visit(y, columns)` for every line: the keys of the cells whose last row it is, by the
    /// cells' left edges.
    fn each_row(
        &mut self,
        picture: &dyn Picture,
        mut visit: impl FnMut(usize, &[OcrColumn]) -> fmt::Result,
    ) -> fmt::Result {
        let (_, height) = picture.size();
        self.columns.fill(OcrColumn::default());
        for y in 0..height {
            let width = picture.row(y, self.line).min(self.columns.len());
            let (Some(line), Some(columns)) =
                (self.line.get(..width), self.columns.get_mut(..width))
            else {
                return Ok(());
            };
            // From right to left, `changes` holds the changes of the seven pixels to the right.
            let mut changes = 0_u8;
            let mut right = line.last().copied().unwrap_or(0);
            for (column, pixel) in columns.iter_mut().zip(line).rev() {
                changes = changes >> 1 | u8::from(*pixel != right) << 6;
                right = *pixel;
                column.key = push(column.key, changes, *pixel != column.above);
                column.above = *pixel;
            }
            // Cells that reach beyond the right edge are none.
            let whole = width.saturating_sub(WIDTH - 1);
            visit(y as usize, columns.get(..whole).unwrap_or_default())?;
        }
        Ok(())
    }
}
