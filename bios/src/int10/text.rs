//! INT 10h 01h to 0Eh and 13h in the text modes: cursor, pages, scrolling, characters.

use super::{current, gfx, is_text};
use crate::bda;
use crate::caller::Call;
use crate::platform::Platform;
use crate::vgamodes::Layout;

/// The text screen as the data area describes it.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    pub columns: u16,
    pub rows: u16,
    /// Linear address of page 0.
    pub base: u32,
    pub page_size: u32,
}

/// What the data area says, nonsense replaced.
pub(super) fn screen<P: Platform>(c: &mut Call<'_, P>) -> Screen {
    let columns = c.bda16(bda::COLUMNS).clamp(1, 256);
    let rows = u16::from(c.bda8(bda::ROWS)).max(1) + 1;
    let base = if c.bda8(bda::VIDEO_MODE) == 7 { 0xb_0000 } else { 0xb_8000 };
    let page_size = c.bda16(bda::PAGE_SIZE).into();
    Screen { columns, rows, base, page_size }
}

impl Screen {
    fn cell(&self, page: u8, row: u16, column: u16) -> u32 {
        let cell = u32::from(row) * u32::from(self.columns) + u32::from(column);
        // Inside the 32 KiB window, whatever the caller's page and the data area say.
        self.base + ((u32::from(page) * self.page_size + cell * 2) & 0x7fff)
    }
}

fn crtc<P: Platform>(c: &mut Call<'_, P>, index: u8, value: u8) {
    let port = if c.bda16(bda::CRTC) == 0x3b4 { 0x3b4 } else { 0x3d4 };
    c.bus.port_out(port, 2, u32::from(index) | u32::from(value) << 8);
}

/// Cursor of a page: (row, column).
pub(super) fn cursor<P: Platform>(c: &mut Call<'_, P>, page: u8) -> (u16, u16) {
    let at = c.bda16(bda::CURSORS + u32::from(page & 7) * 2);
    (at >> 8, at & 0xff)
}

pub(super) fn set_cursor<P: Platform>(c: &mut Call<'_, P>, page: u8, row: u16, column: u16) {
    c.set_bda16(bda::CURSORS + u32::from(page & 7) * 2, row << 8 | (column & 0xff));
    if page == c.bda8(bda::PAGE) {
        show_cursor(c, row, column);
    }
}

fn show_cursor<P: Platform>(c: &mut Call<'_, P>, row: u16, column: u16) {
    let start = c.bda16(bda::PAGE_OFFSET) / 2;
    let columns = c.bda16(bda::COLUMNS);
    let at = start.wrapping_add(row.wrapping_mul(columns)).wrapping_add(column);
    crtc(c, 0x0e, (at >> 8) as u8);
    crtc(c, 0x0f, at as u8);
}

/// 01h: CH and CL are first and last scan line in an 8-line cell; stretched to the real cell as the VGA
/// does while cursor emulation is on (BDA 87h bit 0 clear).
pub(super) fn int10_01_cursor_shape<P: Platform>(c: &mut Call<'_, P>) {
    let shape = c.cx();
    c.set_bda16(bda::CURSOR_SHAPE, shape);
    let height = c.bda8(bda::CHAR_HEIGHT);
    let emulate = c.bda8(bda::VIDEO_CONTROL) & 1 == 0;
    let (start, end) = (c.ch() & 0x3f, c.cl() & 0x1f);
    let (start, end) = if emulate { stretch(start, end, height) } else { (start, end) };
    crtc(c, 0x0a, start);
    crtc(c, 0x0b, end);
}

/// Lines of an 8-line cell to lines of the real one: what touches the bottom stays two lines above it, a
/// block stays a block.
fn stretch(start: u8, end: u8, height: u8) -> (u8, u8) {
    if height <= 8 || start >= 8 || end >= 8 || end < start {
        return (start, end);
    }
    let scale = |line: u8| (u16::from(line) * u16::from(height) / 8) as u8;
    if end - start >= 3 || start < 4 {
        return (scale(start), scale(end + 1) - 1);
    }
    let below = (7 - end) + 2;
    let last = height.saturating_sub(below);
    (last.saturating_sub(end - start), last)
}

pub(super) fn int10_02_set_cursor<P: Platform>(c: &mut Call<'_, P>) {
    set_cursor(c, c.bh(), c.dh().into(), c.dl().into());
}

pub(super) fn int10_03_get_cursor<P: Platform>(c: &mut Call<'_, P>) {
    let (row, column) = cursor(c, c.bh());
    c.set_dx(row << 8 | column);
    let shape = c.bda16(bda::CURSOR_SHAPE);
    c.set_cx(shape);
    c.set_ax(0);
}

/// 05h: shows page AL.
pub(super) fn int10_05_page<P: Platform>(c: &mut Call<'_, P>) {
    let page = c.al() & 7;
    let offset = c.bda16(bda::PAGE_SIZE).wrapping_mul(page.into());
    let start = if is_text(c) { offset / 2 } else { offset };
    c.set_bda8(bda::PAGE, page);
    c.set_bda16(bda::PAGE_OFFSET, offset);
    crtc(c, 0x0c, (start >> 8) as u8);
    crtc(c, 0x0d, start as u8);
    let (row, column) = cursor(c, page);
    show_cursor(c, row, column);
}

/// A rectangle of cells, both ends inside.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub top: u16,
    pub left: u16,
    pub bottom: u16,
    pub right: u16,
}

/// 06h and 07h: scrolls the window CX to DX by AL lines (0: clears it) with attribute BH.
pub(super) fn int10_06_scroll<P: Platform>(c: &mut Call<'_, P>, down: bool) {
    let window = Window {
        top: c.ch().into(),
        left: c.cl().into(),
        bottom: c.dh().into(),
        right: c.dl().into(),
    };
    let page = c.bda8(bda::PAGE);
    scroll(c, page, window, c.al().into(), c.bh(), down);
}

pub(super) fn scroll<P: Platform>(
    c: &mut Call<'_, P>,
    page: u8,
    window: Window,
    lines: u16,
    attribute: u8,
    down: bool,
) {
    let s = screen(c);
    let mode = current(c);
    let window = Window {
        bottom: window.bottom.min(s.rows - 1),
        right: window.right.min(s.columns - 1),
        ..window
    };
    if window.top > window.bottom || window.left > window.right {
        return;
    }
    let height = window.bottom - window.top + 1;
    let width = window.right - window.left + 1;
    let lines = if lines == 0 || lines > height { height } else { lines };
    let kept = height - lines;
    let Some(mode) = mode else { return };
    if mode.layout != Layout::Text {
        return gfx::scroll(c, mode, page, window, lines, attribute, down);
    }
    let row_bytes = u32::from(width) * 2;
    let whole = width == s.columns && !c.v86() && row_bytes & 3 == 0;
    if whole && kept > 0 {
        let (to, from) =
            if down { (window.top + lines, window.top) } else { (window.top, window.top + lines) };
        let (to, from) = (s.cell(page, to, 0), s.cell(page, from, 0));
        c.bus.vga_move(to, from, row_bytes * u32::from(kept), down);
    } else {
        let mut row = [0; 512];
        let row = row.get_mut(..row_bytes as usize).unwrap_or_default();
        for n in 0..kept {
            let (to, from) = if down {
                (window.bottom - n, window.bottom - n - lines)
            } else {
                (window.top + n, window.top + n + lines)
            };
            c.read(s.cell(page, from, window.left), row);
            c.write(s.cell(page, to, window.left), row);
        }
    }
    let first = if down { window.top } else { window.bottom + 1 - lines };
    for n in 0..lines {
        fill(c, s.cell(page, first + n, window.left), width, 0x20, attribute);
    }
}

fn fill<P: Platform>(c: &mut Call<'_, P>, at: u32, cells: u16, byte: u8, attribute: u8) {
    let row = [[byte, attribute]; 256];
    let row = row.get(..usize::from(cells)).unwrap_or(&row);
    c.write(at, row.as_flattened());
}

pub(super) fn int10_08_read<P: Platform>(c: &mut Call<'_, P>) {
    let s = screen(c);
    let (row, column) = cursor(c, c.bh());
    if let Some(mode) = current(c).filter(|mode| mode.layout != Layout::Text) {
        let code = gfx::recognize(c, mode, c.bh(), row, column);
        return c.set_ax(code.into());
    }
    let cell = c.read16(s.cell(c.bh(), row, column));
    c.set_ax(cell);
}

/// 09h and 0Ah: AL at the cursor, CX times, with attribute BL or the one that is there.
pub(super) fn int10_09_write<P: Platform>(c: &mut Call<'_, P>, with_attribute: bool) {
    let s = screen(c);
    let (page, byte, attribute) = (c.bh(), c.al(), c.bl());
    let (row, column) = cursor(c, page);
    let Some(mode) = current(c) else { return };
    if mode.layout != Layout::Text {
        let cells = (s.columns.saturating_sub(column)).min(c.cx());
        for n in 0..cells {
            gfx::draw(c, mode, page, row, column + n, byte, attribute);
        }
        return;
    }
    let start = s.cell(page, row, column);
    let room = (s.base + 0x8000 - start) / 2;
    let count = u32::from(c.cx()).min(room);
    for n in 0..count {
        if with_attribute {
            c.write16(start + n * 2, u16::from_le_bytes([byte, attribute]));
        } else {
            c.write8(start + n * 2, byte);
        }
    }
}

pub(super) fn int10_0e_teletype<P: Platform>(c: &mut Call<'_, P>) {
    let page = c.bda8(bda::PAGE);
    teletype(c, c.al(), page, c.bl());
}

/// Writes a character and moves the cursor; BEL, BS, LF and CR act. `color` counts in graphics modes.
pub(super) fn teletype<P: Platform>(c: &mut Call<'_, P>, byte: u8, page: u8, color: u8) {
    put(c, byte, page, None, color);
}

fn put<P: Platform>(c: &mut Call<'_, P>, byte: u8, page: u8, attribute: Option<u8>, color: u8) {
    let s = screen(c);
    let Some(mode) = current(c) else { return };
    let graphics = mode.layout != Layout::Text;
    let (mut row, mut column) = cursor(c, page);
    match byte {
        0x07 => return,
        0x08 => column = column.saturating_sub(1),
        0x0a => row += 1,
        0x0d => column = 0,
        _ => {
            let at = s.cell(page, row, column);
            match attribute {
                _ if graphics => gfx::draw(c, mode, page, row, column, byte, color),
                Some(attribute) => c.write16(at, u16::from_le_bytes([byte, attribute])),
                None => c.write8(at, byte),
            }
            column += 1;
            if column >= s.columns {
                column = 0;
                row += 1;
            }
        }
    }
    if row >= s.rows {
        row = s.rows - 1;
        let last = s.cell(page, row, column) + 1;
        let attribute = match attribute {
            _ if graphics => 0,
            Some(attribute) => attribute,
            None => c.read8(last),
        };
        let window = Window { top: 0, left: 0, bottom: row, right: s.columns - 1 };
        scroll(c, page, window, 1, attribute, false);
    }
    set_cursor(c, page, row, column);
}

/// 13h: string at ES:BP; AL bit 0 moves the cursor, bit 1: attributes in the string.
pub(super) fn int10_13_string<P: Platform>(c: &mut Call<'_, P>) {
    let (page, mode, mut at) = (c.bh(), c.al(), c.bp());
    let before = cursor(c, page);
    set_cursor(c, page, c.dh().into(), c.dl().into());
    for _ in 0..c.cx() {
        let byte = c.read8(c.es(at));
        at = at.wrapping_add(1);
        let mut attribute = c.bl();
        if mode & 2 != 0 {
            attribute = c.read8(c.es(at));
            at = at.wrapping_add(1);
        }
        put(c, byte, page, Some(attribute), attribute);
    }
    if mode & 1 == 0 {
        set_cursor(c, page, before.0, before.1);
    }
}
