//! The picture, a line at a time into the caller's buffer: no allocation, no state of its own.
//!
//! Lines that the CRTC only repeats (double scanning, 200-line modes) are given once, so mode 13h
//! is 320x200. Left out: overscan, cursor skew, "count by two". Next: `regs.rs` for the address
//! maths.

use super::Vga;
use super::vram::Vram;
use arch::Nanos;

/// No line is wider, in pixels.
pub const MAX_WIDTH: usize = 2560;

/// What the registers amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is shown; the frame is black.
    Blank,
    /// Characters with attributes.
    Text {
        /// Characters in a row, 1 to 256.
        cols: u32,
        /// Rows, of which the last may be cut.
        rows: u32,
        /// Lines of a character, 1 to 32.
        char_height: u32,
    },
    /// Up to four planes of a bit per pixel: modes 06h, 0Dh to 12h, VBE with 4 bits.
    Planar16 {
        /// Pixels.
        width: u32,
        /// Lines.
        height: u32,
    },
    /// Two bits per pixel, as modes 04h and 05h.
    Cga {
        /// Pixels.
        width: u32,
        /// Lines.
        height: u32,
    },
    /// A byte per pixel by the VGA's own registers: mode 13h and mode X.
    Linear8 {
        /// Pixels.
        width: u32,
        /// Lines.
        height: u32,
    },
    /// A linear frame buffer.
    Vbe {
        /// Pixels.
        width: u32,
        /// Lines.
        height: u32,
        /// 8, 15, 16, 24 or 32.
        bpp: u32,
    },
}

/// How the registers paint, whether or not the screen is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Planar,
    VbePlanar,
    Cga,
    Linear8,
    Vbe,
}

/// A moment's picture: the registers with what the lines of one frame have in common.
#[derive(Debug)]
pub struct Frame<'a> {
    vga: &'a Vga,
    kind: Kind,
    blank: bool,
    width: u32,
    height: u32,
    /// Scan lines for each line given.
    fold: u32,
    /// The sixteen colours after attribute controller and DAC.
    colors: [u32; 16],
    cursor_on: bool,
    blink_on: bool,
}

/// Something to look at, line by line, whatever it is drawn by.
pub trait Picture {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Line `y` as 00RRGGBBh, as many pixels as there are and `line` holds; how many.
    fn row(&self, y: u32, line: &mut [u32]) -> usize;
}

/// What the card shows, with the video memory that it is in.
#[derive(Debug)]
pub struct Shown<'a, V: ?Sized> {
    /// The registers' part.
    pub frame: Frame<'a>,
    /// Video memory.
    pub vram: &'a V,
}

impl<V: Vram + ?Sized> Picture for Shown<'_, V> {
    fn size(&self) -> (u32, u32) {
        self.frame.size()
    }

    fn row(&self, y: u32, line: &mut [u32]) -> usize {
        self.frame.row(self.vram, y, line)
    }
}

/// Where a scan line comes from.
struct Source {
    /// Counter at the left, before translation.
    counter: u32,
    /// Line within the character row.
    row_scan: u32,
    /// Pixels cut off at the left.
    pan: u32,
}

/// The characters, at least 1 by 1, that a text mode shows.
pub(super) struct TextShape {
    pub cols: u32,
    pub rows: u32,
    pub char_height: u32,
}

impl Vga {
    /// What is shown.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let frame = self.frame(Nanos::ZERO);
        let (width, height) = frame.size();
        match frame.kind {
            _ if frame.blank => Mode::Blank,
            Kind::Text => {
                let TextShape { cols, rows, char_height } = self.text_shape();
                Mode::Text { cols, rows, char_height }
            }
            Kind::Planar | Kind::VbePlanar => Mode::Planar16 { width, height },
            Kind::Cga => Mode::Cga { width, height },
            Kind::Linear8 => Mode::Linear8 { width, height },
            Kind::Vbe => Mode::Vbe { width, height, bpp: u32::from(self.vbe.bpp) },
        }
    }

    /// Width and height of the frame in pixels, each at least 1; a blank screen keeps its size.
    #[must_use]
    pub fn frame_size(&self) -> (u32, u32) {
        self.frame(Nanos::ZERO).size()
    }

    /// The picture at `now`, which decides only what blinks.
    #[must_use]
    pub fn frame(&self, now: Nanos) -> Frame<'_> {
        let regs = &self.regs;
        let kind = match () {
            () if self.vbe.linear() => Kind::Vbe,
            () if self.vbe.enabled() => Kind::VbePlanar,
            () if !regs.graphics() => Kind::Text,
            () if regs.shift_256() => Kind::Linear8,
            () if regs.shift_interleave() => Kind::Cga,
            () => Kind::Planar,
        };
        let repeats_row = kind != Kind::Text && !regs.row_scan_banks();
        let fold = regs.double_scan() * if repeats_row { regs.char_height() } else { 1 };
        let clocks = regs.horizontal_display();
        let (width, height) = match kind {
            Kind::Vbe | Kind::VbePlanar => (u32::from(self.vbe.xres), u32::from(self.vbe.yres)),
            Kind::Text => (clocks * regs.char_dots(), regs.vertical_display().div_ceil(fold)),
            Kind::Linear8 => (clocks * 4, regs.vertical_display().div_ceil(fold)),
            Kind::Planar | Kind::Cga => (clocks * 8, regs.vertical_display().div_ceil(fold)),
        };
        let frames = self.timing.frames(now);
        Frame {
            vga: self,
            kind,
            blank: regs.blanked(),
            width,
            height,
            fold,
            colors: core::array::from_fn(|pixel| self.attribute_color(pixel as u8)),
            // IBM "Video Subsystems", "Attribute Controller": 16 frames on and off for characters,
            // 8 for the cursor.
            cursor_on: frames & 8 == 0,
            blink_on: frames & 16 == 0,
        }
    }

    /// Gives every line of the picture at `now` to `row(y, pixels)`, as 00RRGGBBh. Lines are cut to
    /// the length of `line`, which holds whatever comes if it is [`MAX_WIDTH`] long.
    pub fn render<V: Vram + ?Sized>(
        &self,
        vram: &V,
        now: Nanos,
        line: &mut [u32],
        mut row: impl FnMut(u32, &[u32]),
    ) {
        let frame = self.frame(now);
        for y in 0..frame.height {
            let width = frame.row(vram, y, line);
            row(y, line.get(..width).unwrap_or_default());
        }
    }

    pub(super) fn text_shape(&self) -> TextShape {
        let char_height = self.regs.char_height();
        let lines = self.regs.vertical_display().div_ceil(self.regs.double_scan());
        TextShape {
            cols: self.regs.horizontal_display(),
            rows: lines.div_ceil(char_height),
            char_height,
        }
    }

    /// The word (character, attribute, font byte) at a counter of a text mode.
    pub(super) fn text_word<V: Vram + ?Sized>(&self, vram: &V, counter: u32) -> u32 {
        vram.get32(self.regs.display_address(counter, 0) << 2)
    }

    /// A four-bit pixel through palette, plane enable and DAC ("Attribute Controller").
    fn attribute_color(&self, pixel: u8) -> u32 {
        let attr = &self.regs.attr;
        let color = attr[usize::from(pixel & attr[0x12] & 0xF)];
        let index = if attr[0x10] & 0x80 != 0 {
            color & 0x0F | attr[0x14] << 4
        } else {
            color & 0x3F | (attr[0x14] & 0x0C) << 4
        };
        self.dac.shown(index)
    }
}

impl Frame<'_> {
    /// Width and height in pixels.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Paints line `y` into `out` and gives the pixels painted: the width, or the length of `out`.
    pub fn row<V: Vram + ?Sized>(&self, vram: &V, y: u32, out: &mut [u32]) -> usize {
        let width = out.len().min(self.width as usize);
        let Some(out) = out.get_mut(..width) else { return 0 };
        if self.blank || y >= self.height {
            out.fill(0);
            return width;
        }
        match self.kind {
            Kind::Text => self.text_row(vram, y, out),
            Kind::Planar | Kind::Cga | Kind::Linear8 => self.graphics_row(vram, y, out),
            Kind::VbePlanar => self.vbe_planar_row(vram, y, out),
            Kind::Vbe => self.vbe_row(vram, y, out),
        }
        width
    }

    /// Finds a line by start address, line compare, preset row scan and panning.
    fn source(&self, y: u32) -> Source {
        let regs = &self.vga.regs;
        let scan = y * self.fold;
        let compare = regs.line_compare();
        let split = scan > compare;
        let (start, scan) = match split {
            true => (0, scan - compare - 1),
            false => {
                let preset = u32::from(regs.crtc[8] & 0x1F) * regs.double_scan();
                (regs.start_address() + u32::from(regs.crtc[8] >> 5 & 3), scan + preset)
            }
        };
        let line = scan / regs.double_scan();
        // Attribute mode control bit 5: the lower part of a split screen does not pan.
        let still = split && regs.attr[0x10] & 0x20 != 0;
        let pan = u32::from(regs.attr[0x13]);
        let pan = match self.kind {
            _ if still => 0,
            Kind::Linear8 => pan >> 1 & 3,
            Kind::Text if regs.char_dots() == 9 => {
                if pan >= 8 {
                    0
                } else {
                    pan + 1
                }
            }
            _ => pan & 7,
        };
        Source {
            counter: start + line / regs.char_height() * regs.row_pitch(),
            row_scan: line % regs.char_height(),
            pan,
        }
    }

    fn text_row<V: Vram + ?Sized>(&self, vram: &V, y: u32, out: &mut [u32]) {
        let regs = &self.vga.regs;
        let Source { counter, row_scan, pan } = self.source(y);
        let dots = regs.char_dots();
        let cursor = regs.cursor_address();
        // CRTC 0Ah and 0Bh: bit 5 turns the cursor off.
        let cursor_row = self.cursor_on
            && regs.crtc[0xA] & 0x20 == 0
            && row_scan >= u32::from(regs.crtc[0xA] & 0x1F)
            && row_scan <= u32::from(regs.crtc[0xB] & 0x1F);
        let underline_row = row_scan == u32::from(regs.crtc[0x14] & 0x1F);
        let [font_b, font_a] =
            [regs.seq[3] & 3 | regs.seq[3] >> 2 & 4, regs.seq[3] >> 2 & 3 | regs.seq[3] >> 3 & 4]
                .map(font_offset);
        let control = regs.attr[0x10];
        let mut cells = out.iter_mut();
        let mut skip = pan;
        for column in 0..=regs.horizontal_display() {
            let at = (counter + column) & 0xFFFF;
            let word = self.vga.text_word(vram, at);
            let (code, attribute) = (word & 0xFF, (word >> 8) as u8);
            let font = if attribute & 8 != 0 { font_a } else { font_b };
            let mut bits = u32::from(vram.get(((font + code * 32 + row_scan) << 2) + 2)) << 1;
            // Bit 2 of the mode control: line drawing characters reach into the ninth dot.
            if control & 4 != 0 && (0xC0..=0xDF).contains(&code) {
                bits |= bits >> 1 & 1;
            }
            if underline_row && attribute & 0x77 == 1 {
                bits = 0x1FF;
            }
            let mut background = attribute >> 4;
            if control & 8 != 0 {
                background &= 7;
                if attribute & 0x80 != 0 && !self.blink_on {
                    bits = 0;
                }
            }
            if cursor_row && at == cursor {
                bits = 0x1FF;
            }
            let pair =
                [self.colors[usize::from(background)], self.colors[usize::from(attribute & 0xF)]];
            for dot in skip..dots {
                let Some(pixel) = cells.next() else { return };
                *pixel = pair[(bits >> (8 - dot) & 1) as usize];
            }
            skip = 0;
        }
    }

    fn graphics_row<V: Vram + ?Sized>(&self, vram: &V, y: u32, out: &mut [u32]) {
        let regs = &self.vga.regs;
        let Source { counter, row_scan, pan } = self.source(y);
        let mut pixels = out.iter_mut();
        let mut skip = pan;
        for column in 0..=regs.horizontal_display() {
            let address = regs.display_address(counter + column, row_scan);
            let (painted, count) = self.pixels(vram.get32(address << 2));
            for color in painted.into_iter().take(count).skip(skip as usize) {
                let Some(pixel) = pixels.next() else { return };
                *pixel = color;
            }
            skip = 0;
        }
    }

    fn vbe_planar_row<V: Vram + ?Sized>(&self, vram: &V, y: u32, out: &mut [u32]) {
        let vbe = &self.vga.vbe;
        let start = (y + u32::from(vbe.y_offset)) * vbe.pitch() + u32::from(vbe.x_offset) / 2;
        for (clock, pixels) in out.chunks_mut(8).enumerate() {
            let (painted, _) = self.pixels(vram.get32(start + clock as u32 * 4));
            for (pixel, color) in pixels.iter_mut().zip(painted) {
                *pixel = color;
            }
        }
    }

    fn vbe_row<V: Vram + ?Sized>(&self, vram: &V, y: u32, out: &mut [u32]) {
        let vbe = &self.vga.vbe;
        let bytes = vbe.pixel_bytes();
        let mut at = (y + u32::from(vbe.y_offset)) * vbe.pitch() + u32::from(vbe.x_offset) * bytes;
        for pixel in out {
            *pixel = match vbe.bpp {
                8 => self.vga.dac.shown(vram.get(at)),
                15 => from_555(vram.get32(at) >> ((at & 2) * 8)),
                16 => from_565(vram.get32(at) >> ((at & 2) * 8)),
                24 => {
                    let [blue, green, red] = [0, 1, 2].map(|byte| u32::from(vram.get(at + byte)));
                    red << 16 | green << 8 | blue
                }
                _ => vram.get32(at) & 0x00FF_FFFF,
            };
            at += bytes;
        }
    }

    /// The pixels of one character clock from its four planes, and how many they are.
    fn pixels(&self, planes: u32) -> ([u32; 8], usize) {
        match self.kind {
            Kind::Linear8 => {
                let [a, b, c, d] = planes.to_le_bytes().map(|pixel| self.vga.dac.shown(pixel));
                ([a, b, c, d, 0, 0, 0, 0], 4)
            }
            Kind::Cga => {
                let pixel = |index: usize| {
                    let shift = 6 - index as u32 % 4 * 2;
                    let low = if index < 4 { 0 } else { 8 };
                    let pair = planes >> low >> shift & 3;
                    let high = planes >> (16 + low) >> shift & 3;
                    self.colors[(pair | high << 2) as usize]
                };
                (core::array::from_fn(pixel), 8)
            }
            _ => {
                let pixel = |index: usize| {
                    // One bit of each plane, gathered in bits 24 to 27 by the product.
                    let bits = planes >> (7 - index) & 0x0101_0101;
                    self.colors[(bits.wrapping_mul(0x0102_0408) >> 24 & 0xF) as usize]
                };
                (core::array::from_fn(pixel), 8)
            }
        }
    }
}

/// Offset in plane 2 of a character map, 0 to 7 ("Character Map Select Register").
const fn font_offset(map: u8) -> u32 {
    (map as u32 & 3) * 0x4000 + (map as u32 >> 2 & 1) * 0x2000
}

const fn from_555(value: u32) -> u32 {
    let (red, green, blue) = (value >> 10 & 0x1F, value >> 5 & 0x1F, value & 0x1F);
    (red << 3 | red >> 2) << 16 | (green << 3 | green >> 2) << 8 | (blue << 3 | blue >> 2)
}

const fn from_565(value: u32) -> u32 {
    let (red, green, blue) = (value >> 11 & 0x1F, value >> 5 & 0x3F, value & 0x1F);
    (red << 3 | red >> 2) << 16 | (green << 2 | green >> 4) << 8 | (blue << 3 | blue >> 2)
}
