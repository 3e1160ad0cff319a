//! INT 10h 11h: fonts, in the card's plane 2 for text and by vector for graphics.

use super::{crtc_port, indexed, read_indexed};
use crate::bda;
use crate::caller::Call;
use crate::fonts;
use crate::platform::Platform;
use crate::post::video_rom;
use crate::rom::VIDEO_BASE;
use crate::vgamodes::{Layout, VgaMode};
use arch::GuestPhys;

const VIDEO_SEGMENT: u16 = (VIDEO_BASE >> 4) as u16;

/// The ROM's font of a height, and where it is in the video ROM.
fn rom_font(height: u8) -> (&'static [u8], u16) {
    match height {
        8 => (fonts::FONT_8X8, video_rom::FONT_8X8),
        14 => (fonts::FONT_8X14, video_rom::FONT_8X14),
        _ => (fonts::FONT_8X16, video_rom::FONT_8X16),
    }
}

/// Opens plane 2 at A0000h for the time of `work` (VGA, "Character Generator").
fn with_plane_2<P: Platform>(c: &mut Call<'_, P>, work: impl FnOnce(&mut Call<'_, P>)) {
    let old_gc = [4, 5, 6].map(|index| read_indexed(c, 0x3ce, index));
    let old_seq = [2, 4].map(|index| read_indexed(c, 0x3c4, index));
    indexed(c, 0x3c4, 2, 4);
    indexed(c, 0x3c4, 4, 7);
    indexed(c, 0x3ce, 4, 2);
    indexed(c, 0x3ce, 5, 0);
    indexed(c, 0x3ce, 6, 4);
    work(c);
    for (index, value) in [2, 4].into_iter().zip(old_seq) {
        indexed(c, 0x3c4, index, value);
    }
    for (index, value) in [4, 5, 6].into_iter().zip(old_gc) {
        indexed(c, 0x3ce, index, value);
    }
}

/// Offset of a font block in plane 2: 0 to 3 at 16 KiB steps, 4 to 7 between them.
const fn block_offset(block: u8) -> u64 {
    (((block & 3) as u64) << 14) + ((block as u64 & 4) << 11)
}

/// Loads a font of the ROM into a block.
pub(super) fn load_rom<P: Platform>(c: &mut Call<'_, P>, height: u8, block: u8) {
    let (font, _) = rom_font(height);
    with_plane_2(c, |c| {
        for (code, glyph) in (0u64..).zip(font.chunks_exact(height.into())) {
            let mut cell = [0; 32];
            cell[..glyph.len()].copy_from_slice(glyph);
            c.phys_write(GuestPhys(0xa_0000 + block_offset(block) + code * 32), &cell);
        }
    });
}

/// INT 43h and 1Fh for a mode: graphics characters come from there.
pub(super) fn set_vectors<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode) {
    let (_, offset) = rom_font(mode.char_height);
    if mode.layout != Layout::Text || mode.char_height == 16 {
        c.write32(0x43 * 4, u32::from(VIDEO_SEGMENT) << 16 | u32::from(offset));
    }
    let high = u32::from(VIDEO_SEGMENT) << 16 | u32::from(video_rom::FONT_8X8 + 1024);
    c.write32(0x1f * 4, high);
}

pub(super) fn int10_11_fonts<P: Platform>(c: &mut Call<'_, P>) {
    let function = c.al();
    match function {
        0x00 | 0x10 => {
            load_user(c);
            if function == 0x10 {
                set_height(c, c.bh());
            }
        }
        0x01 | 0x11 => load_and_set(c, 14, function >= 0x10),
        0x02 | 0x12 => load_and_set(c, 8, function >= 0x10),
        0x04 | 0x14 => load_and_set(c, 16, function >= 0x10),
        0x03 => indexed(c, 0x3c4, 3, c.bl()),
        0x20 => {
            let pointer = u32::from(c.cpu.es.selector) << 16 | u32::from(c.bp());
            c.write32(0x1f * 4, pointer);
        }
        0x21 => {
            let pointer = u32::from(c.cpu.es.selector) << 16 | u32::from(c.bp());
            graphics_font(c, pointer, c.cx());
        }
        0x22..=0x24 => {
            let height = [14, 8, 16][usize::from(function - 0x22)];
            let (_, offset) = rom_font(height);
            let pointer = u32::from(VIDEO_SEGMENT) << 16 | u32::from(offset);
            graphics_font(c, pointer, height.into());
        }
        0x30 => information(c),
        _ => {}
    }
}

fn load_user<P: Platform>(c: &mut Call<'_, P>) {
    let (height, block) = (c.bh().clamp(1, 32), c.bl());
    let (first, count) = (c.dx(), c.cx().min(256));
    let from = c.es(c.bp());
    with_plane_2(c, |c| {
        for n in 0..count {
            let Some(code) = first.checked_add(n).filter(|code| *code < 256) else { return };
            let mut cell = [0; 32];
            let glyph = cell.get_mut(..height.into()).unwrap_or_default();
            c.read(from.wrapping_add(u32::from(n) * u32::from(height)), glyph);
            let at = 0xa_0000 + block_offset(block) + u64::from(code) * 32;
            c.phys_write(GuestPhys(at), &cell);
        }
    });
}

fn load_and_set<P: Platform>(c: &mut Call<'_, P>, height: u8, reprogram: bool) {
    load_rom(c, height, c.bl());
    if reprogram {
        set_height(c, height);
    }
}

/// 111xh: a new character height changes the rows and the CRTC (VGA, "Maximum Scan Line").
fn set_height<P: Platform>(c: &mut Call<'_, P>, height: u8) {
    if !super::is_text(c) || !(1..=32).contains(&height) {
        return;
    }
    let port = crtc_port(c);
    let max = read_indexed(c, port, 9) & !0x1f;
    indexed(c, port, 9, max | (height - 1));
    let (start, end) = if height < 8 { (height - 1, height - 1) } else { (height - 2, height - 1) };
    indexed(c, port, 0x0a, start);
    indexed(c, port, 0x0b, end);
    let overflow = u16::from(read_indexed(c, port, 7));
    let low = u16::from(read_indexed(c, port, 0x12));
    let lines = (low | (overflow & 2) << 7 | (overflow & 0x40) << 3) + 1;
    let lines = if max & 0x80 != 0 { lines / 2 } else { lines };
    let rows = (lines / u16::from(height)).max(1);
    c.set_bda8(bda::ROWS, (rows - 1).min(255) as u8);
    c.set_bda16(bda::CHAR_HEIGHT, height.into());
    let columns = c.bda16(bda::COLUMNS);
    c.set_bda16(bda::PAGE_SIZE, rows.wrapping_mul(columns).wrapping_mul(2).wrapping_add(0x100));
}

/// 112xh: BL tells the rows: 1, 2, 3 for 14, 25, 43; 0 for DL of them.
fn graphics_font<P: Platform>(c: &mut Call<'_, P>, pointer: u32, height: u16) {
    c.write32(0x43 * 4, pointer);
    c.set_bda16(bda::CHAR_HEIGHT, height);
    let rows = match c.bl() {
        0 => c.dl(),
        1 => 14,
        3 => 43,
        _ => 25,
    };
    c.set_bda8(bda::ROWS, rows.saturating_sub(1));
}

/// 1130h: ES:BP to a font, CX its height, DL the last row.
fn information<P: Platform>(c: &mut Call<'_, P>) {
    let rom = |offset: u16| (VIDEO_SEGMENT, offset);
    let (segment, offset) = match c.bh() {
        vector @ (0 | 1) => {
            let pointer = c.read32(if vector == 0 { 0x1f * 4 } else { 0x43 * 4 });
            ((pointer >> 16) as u16, pointer as u16)
        }
        2 => rom(video_rom::FONT_8X14),
        3 => rom(video_rom::FONT_8X8),
        4 => rom(video_rom::FONT_8X8 + 1024),
        // 9-dot variants: this card widens the 8-dot ones; the tables of changes are empty.
        5 | 7 => rom(video_rom::NO_CHANGES),
        6 => rom(video_rom::FONT_8X16),
        _ => return,
    };
    c.set_es(segment);
    c.set_bp(offset);
    let height = c.bda16(bda::CHAR_HEIGHT);
    c.set_cx(height);
    let rows = c.bda8(bda::ROWS);
    c.set_dl(rows);
}
