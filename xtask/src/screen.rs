//! What a guest shows: its text screen, and its picture as it comes over the control channel.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// A text screen that is being received.
#[derive(Clone, Default, Debug)]
pub struct TextScreen {
    rows: Vec<String>,
    partial: Vec<String>,
}

impl TextScreen {
    /// Takes a row.
    pub fn row(&mut self, row: usize, text: String) {
        // A screen has at most some hundred rows: a mad number must not eat memory.
        if row < 512 {
            if self.partial.len() <= row {
                self.partial.resize(row + 1, String::new());
            }
            self.partial[row] = text;
        }
    }

    /// The screen is complete; `true` when it differs from the one before.
    pub fn end(&mut self) -> bool {
        let new = std::mem::take(&mut self.partial);
        let changed = new != self.rows;
        self.rows = new;
        changed
    }

    /// Takes a whole screen; `true` when it differs from the one before.
    pub fn replace(&mut self, rows: Vec<String>) -> bool {
        self.partial = rows;
        self.end()
    }

    /// The last complete screen.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// Whether a text stands on one of its rows.
    pub fn contains(&self, text: &str) -> bool {
        self.rows.iter().any(|row| row.contains(text))
    }
}

/// A picture that is being received.
#[derive(Clone, Debug)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    next_row: usize,
}

impl Picture {
    /// An empty picture; `None` when the size is none that a screen has.
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let (width, height) = (width as usize, height as usize);
        if !(1..=4096).contains(&width) || !(1..=4096).contains(&height) {
            return None;
        }
        Some(Self { width, height, rgb: vec![0; width * height * 3], next_row: 0 })
    }

    /// Takes a row of (count, red, green, blue) runs; rows left out equal the one above.
    pub fn row(&mut self, row: u32, runs: &[u8]) {
        let row = row as usize;
        if row >= self.height {
            return;
        }
        self.repeat_until(row);
        let start = row * self.width * 3;
        let mut at = start;
        for run in runs.chunks_exact(4) {
            for _ in 0..run[0] {
                if at + 3 > start + self.width * 3 {
                    break;
                }
                self.rgb[at..at + 3].copy_from_slice(&run[1..4]);
                at += 3;
            }
        }
        self.next_row = row + 1;
    }

    fn repeat_until(&mut self, row: usize) {
        let line = self.width * 3;
        while self.next_row < row {
            if self.next_row > 0 {
                let above = (self.next_row - 1) * line;
                self.rgb.copy_within(above..above + line, above + line);
            }
            self.next_row += 1;
        }
    }

    /// Writes it as a PNG.
    pub fn write(&mut self, place: &Path) -> Result<()> {
        self.repeat_until(self.height);
        let file = File::create(place)
            .with_context(|| format!("cannot write the picture {}", place.display()))?;
        let mut encoder =
            png::Encoder::new(BufWriter::new(file), self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_fill_a_row_and_missing_rows_repeat_the_one_above() {
        let mut picture = Picture::new(4, 3).unwrap();
        picture.row(0, &[2, 1, 2, 3, 9, 4, 5, 6]);
        picture.row(2, &[4, 7, 7, 7]);
        assert_eq!(picture.rgb[..12], [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(picture.rgb[12..24], picture.rgb[..12].to_vec());
        assert_eq!(picture.rgb[24..], [7; 12]);
        assert!(Picture::new(0, 10).is_none() && Picture::new(100_000, 1).is_none());
    }

    #[test]
    fn a_screen_is_new_only_when_complete() {
        let mut screen = TextScreen::default();
        screen.row(1, "boot:".into());
        screen.row(1_000_000, "no".into());
        assert!(!screen.contains("boot"));
        assert!(screen.end());
        assert!(screen.contains("boot") && screen.rows().len() == 2);
    }
}
