//! Pixels and characters in the graphics modes: CGA's two, the planar ones, and 13h.

use super::{current, indexed};
use crate::bda;
use crate::caller::Call;
use crate::platform::Platform;
use crate::vgamodes::{Layout, VgaMode};

/// Graphics controller registers of a planar write, and back.
fn planar_setup<P: Platform>(c: &mut Call<'_, P>, color: u8, xor: bool) {
    indexed(c, 0x3ce, 0, color);
    indexed(c, 0x3ce, 1, 0x0f);
    indexed(c, 0x3ce, 3, if xor { 0x18 } else { 0 });
}

fn planar_end<P: Platform>(c: &mut Call<'_, P>) {
    for (index, value) in [(0, 0), (1, 0), (3, 0), (8, 0xff)] {
        indexed(c, 0x3ce, index, value);
    }
}

/// Where a pixel is: byte, and bit position of its lowest bit.
fn place<P: Platform>(
    c: &mut Call<'_, P>,
    mode: &VgaMode,
    page: u8,
    x: u16,
    y: u16,
) -> Option<(u32, u8)> {
    if x >= mode.width || y >= mode.height {
        return None;
    }
    let (x, y) = (u32::from(x), u32::from(y));
    let base = u32::from(mode.segment) << 4;
    let pitch = u32::from(mode.width);
    let odd = (y & 1) * 0x2000;
    Some(match mode.layout {
        Layout::Text => return None,
        Layout::Cga4 => (base + odd + (y / 2) * 80 + x / 4, 6 - (x as u8 & 3) * 2),
        Layout::Cga2 => (base + odd + (y / 2) * 80 + x / 8, 7 - (x as u8 & 7)),
        Layout::Planar => {
            let page = u32::from(page) * u32::from(c.bda16(bda::PAGE_SIZE));
            (base + ((page + y * pitch / 8 + x / 8) & 0xffff), 7 - (x as u8 & 7))
        }
        Layout::Linear8 => (base + y * pitch + x, 0),
    })
}

/// 0Ch: AL is the colour; bit 7 set: XOR (not in 256 colours).
pub(super) fn int10_0c_write_pixel<P: Platform>(c: &mut Call<'_, P>) {
    let Some(mode) = current(c) else { return };
    let (page, x, y, color) = (c.bh(), c.cx(), c.dx(), c.al());
    let Some((at, shift)) = place(c, mode, page, x, y) else { return };
    let bits = match mode.layout {
        Layout::Planar => {
            planar_setup(c, color & 15, color & 0x80 != 0);
            indexed(c, 0x3ce, 8, 1 << shift);
            let _ = c.read8(at);
            c.write8(at, 0xff);
            return planar_end(c);
        }
        Layout::Linear8 => return c.write8(at, color),
        Layout::Cga4 => 3,
        _ => 1,
    };
    let old = c.read8(at);
    let value = (color & bits) << shift;
    c.write8(at, if color & 0x80 != 0 { old ^ value } else { (old & !(bits << shift)) | value });
}

/// 0Dh: colour of a pixel in AL.
pub(super) fn int10_0d_read_pixel<P: Platform>(c: &mut Call<'_, P>) {
    let Some(mode) = current(c) else { return };
    let (page, x, y) = (c.bh(), c.cx(), c.dx());
    let Some((at, shift)) = place(c, mode, page, x, y) else { return c.set_al(0) };
    let color = match mode.layout {
        Layout::Planar => planes(c, at).map(|plane| plane >> shift & 1),
        layout => {
            let mask = [1, 3, 0xff][match layout {
                Layout::Cga4 => 1,
                Layout::Linear8 => 2,
                _ => 0,
            }];
            let value = c.read8(at) >> shift & mask;
            return c.set_al(value);
        }
    };
    c.set_al(color[0] | color[1] << 1 | color[2] << 2 | color[3] << 3);
}

/// A byte from each of the four planes.
fn planes<P: Platform>(c: &mut Call<'_, P>, at: u32) -> [u8; 4] {
    let planes = [0, 1, 2, 3].map(|plane| {
        indexed(c, 0x3ce, 4, plane);
        c.read8(at)
    });
    indexed(c, 0x3ce, 4, 0);
    planes
}

/// A glyph of the graphics font. The CGA modes keep 80h to FFh behind INT 1Fh.
fn glyph<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode, code: u8, out: &mut [u8; 32]) -> u16 {
    let height = c.bda16(bda::CHAR_HEIGHT).clamp(1, 32);
    let cga = matches!(mode.layout, Layout::Cga2 | Layout::Cga4);
    let (vector, index) = if cga && code >= 0x80 { (0x1f, code - 0x80) } else { (0x43, code) };
    let pointer = c.read32(vector * 4);
    let at = (pointer >> 16 << 4) + (pointer & 0xffff) + u32::from(index) * u32::from(height);
    c.read(at, out.get_mut(..usize::from(height)).unwrap_or_default());
    height
}

/// Draws a character; `color` bit 7: XOR (not in 256 colours).
pub(super) fn draw<P: Platform>(
    c: &mut Call<'_, P>,
    mode: &VgaMode,
    page: u8,
    row: u16,
    column: u16,
    code: u8,
    color: u8,
) {
    let mut rows = [0; 32];
    let height = glyph(c, mode, code, &mut rows);
    let xor = color & 0x80 != 0 && mode.layout != Layout::Linear8;
    if mode.layout == Layout::Planar {
        planar_setup(c, color & 15, xor);
    }
    for (line, bits) in (0..height).zip(rows) {
        let Some(y) = row.checked_mul(height).and_then(|top| top.checked_add(line)) else { break };
        let Some((at, _)) = place(c, mode, page, column.saturating_mul(8), y) else { break };
        draw_line(c, mode, at, bits, color, xor);
    }
    if mode.layout == Layout::Planar {
        planar_end(c);
    }
}

/// Eight pixels of a character.
fn draw_line<P: Platform>(
    c: &mut Call<'_, P>,
    mode: &VgaMode,
    at: u32,
    bits: u8,
    color: u8,
    xor: bool,
) {
    match mode.layout {
        Layout::Text => {}
        Layout::Planar => {
            if !xor {
                // Background black: every plane 0 through set/reset.
                indexed(c, 0x3ce, 0, 0);
                indexed(c, 0x3ce, 8, 0xff);
                c.write8(at, 0);
                indexed(c, 0x3ce, 0, color & 15);
            }
            indexed(c, 0x3ce, 8, bits);
            let _ = c.read8(at);
            c.write8(at, 0xff);
        }
        Layout::Cga2 => {
            let value = if color & 1 != 0 { bits } else { 0 };
            let old = if xor { c.read8(at) } else { 0 };
            c.write8(at, old ^ value);
        }
        Layout::Cga4 => {
            let wide = (0..8).fold(0u16, |wide, n| wide | (u16::from(bits) >> n & 1) << (n * 2));
            let value = (wide * u16::from(color & 3)).to_be_bytes();
            let mut old = [0; 2];
            if xor {
                c.read(at, &mut old);
            }
            c.write(at, &[old[0] ^ value[0], old[1] ^ value[1]]);
        }
        Layout::Linear8 => {
            let pixels: [u8; 8] =
                core::array::from_fn(|n| if bits & 0x80 >> n != 0 { color } else { 0 });
            c.write(at, &pixels);
        }
    }
}

/// The character drawn at a place, by comparing with the font; 0 where it is none.
pub(super) fn recognize<P: Platform>(
    c: &mut Call<'_, P>,
    mode: &VgaMode,
    page: u8,
    row: u16,
    column: u16,
) -> u8 {
    let mut seen = [0; 32];
    let height = c.bda16(bda::CHAR_HEIGHT).clamp(1, 32);
    for (line, bits) in (0..height).zip(&mut seen) {
        let Some(y) = row.checked_mul(height).and_then(|top| top.checked_add(line)) else { break };
        let Some((at, _)) = place(c, mode, page, column.saturating_mul(8), y) else { break };
        *bits = match mode.layout {
            Layout::Text => 0,
            Layout::Planar => planes(c, at).into_iter().fold(0, |all, plane| all | plane),
            Layout::Cga2 => c.read8(at),
            Layout::Cga4 => {
                let mut pair = [0; 2];
                c.read(at, &mut pair);
                let wide = u16::from_be_bytes(pair);
                (0..8).fold(0, |all, n| all | u8::from(wide >> (n * 2) & 3 != 0) << n)
            }
            Layout::Linear8 => {
                let mut pixels = [0; 8];
                c.read(at, &mut pixels);
                pixels.iter().fold(0, |all, pixel| all << 1 | u8::from(*pixel != 0))
            }
        };
    }
    for code in 0..=255 {
        let mut font = [0; 32];
        glyph(c, mode, code, &mut font);
        if font == seen {
            return code;
        }
    }
    0
}

/// Bytes in a line of eight-pixel columns: how many bytes `columns` of them take, and the line's pitch.
fn line_bytes(mode: &VgaMode, columns: u16) -> u32 {
    u32::from(columns)
        * match mode.layout {
            Layout::Cga4 => 2,
            Layout::Linear8 => 8,
            _ => 1,
        }
}

/// Scrolls a window of characters; cleared lines take `color`.
pub(super) fn scroll<P: Platform>(
    c: &mut Call<'_, P>,
    mode: &VgaMode,
    page: u8,
    window: super::text::Window,
    lines: u16,
    color: u8,
    down: bool,
) {
    let height = c.bda16(bda::CHAR_HEIGHT).clamp(1, 32);
    let first = window.top.saturating_mul(height);
    let end = (window.bottom + 1).saturating_mul(height).min(mode.height);
    let rows = end.saturating_sub(first);
    let lines = lines.saturating_mul(height).min(rows);
    let bytes = line_bytes(mode, window.right - window.left + 1).min(640);
    let x = window.left.saturating_mul(8);
    let planar = mode.layout == Layout::Planar;
    if planar {
        // Write mode 1 copies four planes at once through the latches.
        indexed(c, 0x3ce, 5, 1);
    }
    for n in 0..rows - lines {
        let to = if down { end - 1 - n } else { first + n };
        let from = if down { to - lines } else { to + lines };
        let to = place(c, mode, page, x, to);
        let from = place(c, mode, page, x, from);
        let (Some((to, _)), Some((from, _))) = (to, from) else { break };
        if planar {
            for byte in 0..bytes {
                let _ = c.read8(from + byte);
                c.write8(to + byte, 0);
            }
        } else {
            let mut line = [0; 640];
            let line = line.get_mut(..bytes as usize).unwrap_or_default();
            c.read(from, line);
            c.write(to, line);
        }
    }
    if planar {
        indexed(c, 0x3ce, 5, 0);
        planar_setup(c, color & 15, false);
    }
    let value = match mode.layout {
        Layout::Cga4 => (color & 3) * 0x55,
        Layout::Cga2 => (color & 1) * 0xff,
        Layout::Linear8 => color,
        _ => 0xff,
    };
    for n in 0..lines {
        let y = if down { first + n } else { end - 1 - n };
        let Some((at, _)) = place(c, mode, page, x, y) else { break };
        let line = [value; 640];
        c.write(at, line.get(..bytes as usize).unwrap_or(&line));
    }
    if planar {
        planar_end(c);
    }
}
