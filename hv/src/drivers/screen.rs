//! The host's screen: VGA text or a linear frame buffer, shown as cells of character and colour or
//! as rows of pixels. The log writes here until someone takes the screen for a guest.
//! It shows from the first line on: before there is memory, cells are drawn and not kept.

// UNSAFETY: writes to video memory.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::boot::{Boot, FrameBufferInfo, Screen as BootScreen};
use crate::cpu::lock::IrqLock;
use crate::mem::{Cache, Phys, map_mmio};

/// A character and its VGA attribute.
pub type Cell = (u8, u8);

const BLANK: Cell = (b' ', 7);
/// Attribute of text that tells why the machine stops: white on red.
const ALARM: u8 = 0x4f;
/// What the first page tables map (boot/entry.rs).
const MAPPED_EARLY: u64 = 1 << 32;
/// Newest bytes of the log that are shown when the screen comes up.
const REPLAY: usize = 4096;
const GLYPH_WIDTH: usize = 8;
const GLYPH_HEIGHT: usize = 16;
/// The sixteen VGA colours as RRGGBB.
pub const PALETTE: [u32; 16] = [
    0x00_0000, 0x00_00aa, 0x00_aa00, 0x00_aaaa, 0xaa_0000, 0xaa_00aa, 0xaa_5500, 0xaa_aaaa,
    0x55_5555, 0x55_55ff, 0x55_ff55, 0x55_ffff, 0xff_5555, 0xff_55ff, 0xff_ff55, 0xff_ffff,
];

/// What the screen can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Text columns.
    pub columns: usize,
    /// Text rows.
    pub rows: usize,
    /// Pixels across and down; `None` for a text screen.
    pub pixels: Option<(usize, usize)>,
}

enum Output {
    None,
    Text(usize),
    Pixels { base: usize, info: FrameBufferInfo },
}

struct Screen {
    output: Output,
    cells: Vec<Cell>,
    columns: usize,
    rows: usize,
    cursor: usize,
}

static SCREEN: IrqLock<Screen> = IrqLock::new(Screen {
    output: Output::None,
    cells: Vec::new(),
    columns: 0,
    rows: 0,
    cursor: 0,
});
static LOG_SHOWN: AtomicBool = AtomicBool::new(true);

/// Shows the log's first lines, if the screen is where the first page tables reach. Followed by
/// [`init`].
pub fn early(boot: BootScreen) {
    let mut screen = SCREEN.lock();
    match boot {
        BootScreen::Pixels(info)
            if info.address.saturating_add(info.bytes()) <= MAPPED_EARLY && info.is_usable() =>
        {
            screen.take_pixels(info.address as usize, info);
        }
        BootScreen::Pixels(_) => {}
        BootScreen::Unknown | BootScreen::Text(..) => screen.take_text(0xb8000),
    }
    screen.blank();
}

/// Finds the screen, now through the host's own page tables, and shows the log so far. Heap and
/// device mappings work.
pub fn init(boot: &Boot) {
    {
        let mut screen = SCREEN.lock();
        match boot.screen {
            BootScreen::Pixels(info) if info.is_usable() => {
                let base = map_mmio(Phys(info.address), info.bytes(), Cache::WriteCombining);
                screen.take_pixels(base.expose_provenance(), info);
            }
            BootScreen::Pixels(_) => return,
            BootScreen::Unknown | BootScreen::Text(..) => {
                let base = map_mmio(Phys(0xb8000), 0x8000, Cache::Uncached);
                screen.take_text(base.expose_provenance());
            }
        }
        screen.cells = vec![BLANK; screen.columns * screen.rows];
        screen.blank();
    }
    let mut tail = [0; REPLAY];
    let tail = crate::log::newest(&mut tail);
    write(core::str::from_utf8(tail).unwrap_or(""));
}

/// What the screen can show; `None` where there is none.
pub fn geometry() -> Option<Geometry> {
    let screen = SCREEN.lock();
    let pixels = match screen.output {
        Output::None => return None,
        Output::Text(_) => None,
        Output::Pixels { info, .. } => Some((info.width as usize, info.height as usize)),
    };
    Some(Geometry { columns: screen.columns, rows: screen.rows, pixels })
}

/// Whether log lines are drawn; off while a guest has the screen.
pub fn show_log(shown: bool) {
    LOG_SHOWN.store(shown, Ordering::Release);
}

/// Writes log text, scrolling.
pub fn write(text: &str) {
    if LOG_SHOWN.load(Ordering::Acquire) {
        SCREEN.lock().write(text, BLANK.1);
    }
}

/// Writes why the machine stops, whoever has the screen. Does nothing while its lock is held: it may be
/// our own.
pub fn alarm(text: fmt::Arguments<'_>) {
    struct Writer<'a>(&'a mut Screen);
    impl fmt::Write for Writer<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text, ALARM);
            Ok(())
        }
    }
    if let Some(mut screen) = SCREEN.try_lock() {
        if !LOG_SHOWN.swap(true, Ordering::AcqRel) {
            screen.blank();
            let mut tail = [0; 1024];
            let tail = crate::log::newest_if_free(&mut tail);
            screen.write(core::str::from_utf8(tail).unwrap_or(""), BLANK.1);
        }
        let _ = fmt::write(&mut Writer(&mut screen), text);
    }
}

/// Blanks everything.
pub fn clear() {
    SCREEN.lock().blank();
}

/// Puts a cell; outside of the screen it does nothing. Unchanged cells cost no video access.
pub fn put(column: usize, row: usize, cell: Cell) {
    let mut screen = SCREEN.lock();
    if column < screen.columns && row < screen.rows {
        let at = row * screen.columns + column;
        screen.put(at, cell);
    }
}

/// Draws pixels, 00RRGGBB each, from the left edge plus `x` of line `y`; cut at the edges.
/// Forget the cells below with [`clear`] before going back to text.
pub fn draw_row(x: usize, y: usize, pixels: &[u32]) {
    let screen = SCREEN.lock();
    if let Output::Pixels { base, info } = &screen.output
        && y < info.height as usize
        && x < info.width as usize
    {
        let room = info.width as usize - x;
        for (i, &colour) in pixels.iter().take(room).enumerate() {
            pixel(*base, info, x + i, y, colour);
        }
    }
}

impl Screen {
    fn take_pixels(&mut self, base: usize, info: FrameBufferInfo) {
        self.output = Output::Pixels { base, info };
        self.columns = info.width as usize / GLYPH_WIDTH;
        self.rows = info.height as usize / GLYPH_HEIGHT;
    }

    /// Takes the text screen that is mapped at `base`, if a VGA answers.
    fn take_text(&mut self, base: usize) {
        let probe = core::ptr::with_exposed_provenance_mut::<u16>(base);
        // SAFETY: video memory, or nothing at all, in which case the value does not come back.
        let there = unsafe {
            probe.write_volatile(0x0720);
            probe.read_volatile() == 0x0720
        };
        self.output = if there { Output::Text(base) } else { Output::None };
        (self.columns, self.rows) = if there { (80, 25) } else { (0, 0) };
    }

    fn blank(&mut self) {
        self.cursor = 0;
        self.cells.fill(BLANK);
        (0..self.columns * self.rows).for_each(|at| self.draw(at, BLANK));
    }

    fn write(&mut self, text: &str, attribute: u8) {
        let end = self.columns * self.rows;
        if end == 0 {
            return;
        }
        for c in text.chars() {
            if c == '\n' {
                self.cursor += self.columns - self.cursor % self.columns;
            } else if c == '\u{8}' {
                self.cursor = self.cursor.saturating_sub(1);
            } else {
                let byte = u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?');
                if self.cursor >= end {
                    self.scroll();
                }
                self.put(self.cursor, (byte, attribute));
                self.cursor += 1;
            }
            if self.cursor > end {
                self.scroll();
            }
        }
    }

    fn scroll(&mut self) {
        if self.cells.is_empty() {
            // Nothing is kept that could move up; the few early lines do not get here.
            self.cursor = 0;
            return;
        }
        for at in 0..self.cells.len() {
            let cell = self.cells.get(at + self.columns).copied().unwrap_or(BLANK);
            self.put(at, cell);
        }
        self.cursor -= self.columns;
    }

    fn put(&mut self, at: usize, cell: Cell) {
        match self.cells.get_mut(at) {
            Some(kept) if *kept == cell => return,
            Some(kept) => *kept = cell,
            None => {}
        }
        self.draw(at, cell);
    }

    /// Draws a cell below `columns * rows`.
    fn draw(&self, at: usize, (byte, attribute): Cell) {
        match &self.output {
            Output::None => {}
            Output::Text(base) => {
                let cell = core::ptr::with_exposed_provenance_mut::<u16>(base + at * 2);
                // SAFETY: below 80 by 25 cells of mapped video memory.
                unsafe { cell.write_volatile(u16::from(attribute) << 8 | u16::from(byte)) };
            }
            Output::Pixels { base, info } => {
                let (x, y) = (at % self.columns * GLYPH_WIDTH, at / self.columns * GLYPH_HEIGHT);
                let colours = [attribute >> 4, attribute & 15].map(|c| PALETTE[usize::from(c)]);
                for (line, &bits) in glyph(byte).iter().enumerate() {
                    for i in 0..GLYPH_WIDTH {
                        let colour = colours[usize::from(bits >> (7 - i) & 1)];
                        pixel(*base, info, x + i, y + line, colour);
                    }
                }
            }
        }
    }
}

/// Sets a pixel that lies on the screen.
fn pixel(base: usize, info: &FrameBufferInfo, x: usize, y: usize, colour: u32) {
    let value = encode(info, colour);
    let bytes = usize::from(info.bits_per_pixel.div_ceil(8));
    let at = base + y * info.pitch as usize + x * bytes;
    // SAFETY: all callers stay within width and height, so it is mapped video memory.
    unsafe {
        match bytes {
            4 => core::ptr::with_exposed_provenance_mut::<u32>(at).write_volatile(value),
            3 => {
                for (i, byte) in value.to_le_bytes().into_iter().take(3).enumerate() {
                    core::ptr::with_exposed_provenance_mut::<u8>(at + i).write_volatile(byte);
                }
            }
            _ => core::ptr::with_exposed_provenance_mut::<u16>(at).write_volatile(value as u16),
        }
    }
}

/// 00RRGGBB in the frame buffer's own format.
fn encode(info: &FrameBufferInfo, colour: u32) -> u32 {
    let channels = [colour >> 16 & 0xff, colour >> 8 & 0xff, colour & 0xff];
    let places = info.shifts.into_iter().zip(info.sizes);
    channels.into_iter().zip(places).fold(0, |value, (channel, (shift, size))| {
        value
            | channel
                .checked_shr(8u32.saturating_sub(size.into()))
                .unwrap_or(0)
                .checked_shl(shift.into())
                .unwrap_or(0)
    })
}

/// The lines of a character in the font of our BIOS; the leftmost pixel is the top bit.
fn glyph(byte: u8) -> &'static [u8] {
    let at = usize::from(byte) * GLYPH_HEIGHT;
    &bios::fonts::FONT_8X16[at..at + GLYPH_HEIGHT]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_the_frame_buffers_format() {
        let mut info = FrameBufferInfo {
            address: 0,
            pitch: 0,
            width: 0,
            height: 0,
            bits_per_pixel: 16,
            shifts: [11, 5, 0],
            sizes: [5, 6, 5],
        };
        assert_eq!(encode(&info, 0xff_ffff), 0xffff);
        assert_eq!(encode(&info, 0x80_0000), 0x8000);
        (info.shifts, info.sizes) = ([16, 8, 0], [8, 8, 8]);
        assert_eq!(encode(&info, 0x12_3456), 0x12_3456);
    }

    #[test]
    fn text_wraps_and_scrolls() {
        let mut screen =
            Screen { output: Output::None, cells: vec![BLANK; 6], columns: 3, rows: 2, cursor: 0 };
        let shown = |s: &Screen| s.cells.iter().map(|c| char::from(c.0)).collect::<String>();
        screen.write("abcd", 7);
        assert_eq!(shown(&screen), "abcd  ");
        screen.write("\nef\ng", 7);
        assert_eq!(shown(&screen), "ef g  ");
        screen.write("\n\n\n", 7);
        screen.write("é", 7);
        assert!(shown(&screen).contains('?'));
    }

    #[test]
    fn before_there_is_memory_text_wraps_to_the_top_and_nothing_is_kept() {
        let mut screen =
            Screen { output: Output::None, cells: Vec::new(), columns: 3, rows: 2, cursor: 0 };
        screen.write("one\ntwo\nthree\n", 7);
        assert!(screen.cells.is_empty() && screen.cursor <= 6);
    }

    #[test]
    fn a_frame_buffer_that_cannot_be_drawn_on_is_left_alone() {
        let mut info = FrameBufferInfo {
            address: 1 << 40,
            pitch: 4096,
            width: 1024,
            height: 768,
            bits_per_pixel: 32,
            shifts: [16, 8, 0],
            sizes: [8, 8, 8],
        };
        assert!(info.is_usable());
        info.pitch = 4095;
        assert!(!info.is_usable());
        (info.pitch, info.bits_per_pixel) = (4096, 8);
        assert!(!info.is_usable());
        (info.bits_per_pixel, info.address) = (32, 0);
        assert!(!info.is_usable());
    }
}
