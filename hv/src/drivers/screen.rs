//! The host's screen: VGA text or a linear frame buffer, shown as cells of character and colour or
//! as rows of pixels. The log writes here until someone takes the screen for a guest.

// UNSAFETY: writes to video memory.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use font8x8::UnicodeFonts;

use crate::boot::{Boot, FrameBufferInfo, Screen as BootScreen};
use crate::cpu::lock::IrqLock;
use crate::mem::{Cache, Phys, map_mmio};

/// A character and its VGA attribute.
pub type Cell = (u8, u8);

/// Bytes of an 8 by 16 glyph, one per line, the leftmost pixel in the top bit.
pub type Glyph = [u8; 16];

const BLANK: Cell = (b' ', 7);
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
    glyph: fn(u8) -> Glyph,
}

static SCREEN: IrqLock<Screen> = IrqLock::new(Screen {
    output: Output::None,
    cells: Vec::new(),
    columns: 0,
    rows: 0,
    cursor: 0,
    glyph: built_in_glyph,
});
static LOG_SHOWN: AtomicBool = AtomicBool::new(true);

/// Finds the screen and clears it.
pub fn init(boot: &Boot) {
    let mut screen = SCREEN.lock();
    match boot.screen {
        BootScreen::Pixels(info) if matches!(info.bits_per_pixel, 15 | 16 | 24 | 32) => {
            let bytes = u64::from(info.pitch) * u64::from(info.height);
            let base = map_mmio(Phys(info.address), bytes, Cache::WriteCombining);
            screen.output = Output::Pixels { base: base.expose_provenance(), info };
            screen.columns = info.width as usize / GLYPH_WIDTH;
            screen.rows = info.height as usize / GLYPH_HEIGHT;
        }
        BootScreen::Pixels(_) => return,
        BootScreen::Unknown | BootScreen::Text(..) => {
            let base = map_mmio(Phys(0xb8000), 0x8000, Cache::Uncached);
            let probe = base.cast::<u16>();
            // SAFETY: video memory, or nothing at all, in which case the value does not come back.
            let there = unsafe {
                probe.write_volatile(0x0720);
                probe.read_volatile() == 0x0720
            };
            if !there {
                return;
            }
            screen.output = Output::Text(base.expose_provenance());
            (screen.columns, screen.rows) = (80, 25);
        }
    }
    screen.cells = vec![BLANK; screen.columns * screen.rows];
    (0..screen.cells.len()).for_each(|at| screen.draw(at));
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

/// Uses another font on a frame buffer, such as the guest BIOS's own.
pub fn set_font(glyph: fn(u8) -> Glyph) {
    SCREEN.lock().glyph = glyph;
}

/// Writes log text, scrolling.
pub fn write(text: &str) {
    if LOG_SHOWN.load(Ordering::Acquire) {
        SCREEN.lock().write(text);
    }
}

/// Blanks everything.
pub fn clear() {
    let mut screen = SCREEN.lock();
    screen.cursor = 0;
    screen.cells.fill(BLANK);
    (0..screen.cells.len()).for_each(|at| screen.draw(at));
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
    fn write(&mut self, text: &str) {
        if self.cells.is_empty() {
            return;
        }
        for c in text.chars() {
            if c == '\n' {
                self.cursor += self.columns - self.cursor % self.columns;
            } else if c == '\u{8}' {
                self.cursor = self.cursor.saturating_sub(1);
            } else {
                let byte = u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?');
                if self.cursor >= self.cells.len() {
                    self.scroll();
                }
                self.put(self.cursor, (byte, 7));
                self.cursor += 1;
            }
            if self.cursor > self.cells.len() {
                self.scroll();
            }
        }
    }

    fn scroll(&mut self) {
        for at in 0..self.cells.len() {
            let cell = self.cells.get(at + self.columns).copied().unwrap_or(BLANK);
            self.put(at, cell);
        }
        self.cursor -= self.columns;
    }

    fn put(&mut self, at: usize, cell: Cell) {
        if self.cells[at] != cell {
            self.cells[at] = cell;
            self.draw(at);
        }
    }

    fn draw(&self, at: usize) {
        let (byte, attribute) = self.cells[at];
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
                for (line, bits) in (self.glyph)(byte).into_iter().enumerate() {
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

/// The font of the `font8x8` crate, every line twice.
fn built_in_glyph(byte: u8) -> Glyph {
    let lines = font8x8::BASIC_FONTS.get(char::from(byte)).unwrap_or([0; 8]);
    core::array::from_fn(|i| lines[i / 2].reverse_bits())
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
        let mut screen = Screen {
            output: Output::None,
            cells: vec![BLANK; 6],
            columns: 3,
            rows: 2,
            cursor: 0,
            glyph: built_in_glyph,
        };
        let shown = |s: &Screen| s.cells.iter().map(|c| char::from(c.0)).collect::<String>();
        screen.write("abcd");
        assert_eq!(shown(&screen), "abcd  ");
        screen.write("\nef\ng");
        assert_eq!(shown(&screen), "ef g  ");
        screen.write("\n\n\n");
        screen.write("é");
        assert!(shown(&screen).contains('?'));
    }
}
