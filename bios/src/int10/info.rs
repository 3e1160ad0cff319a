//! INT 10h 0Fh, 12h, 1Ah and 1Bh: what the display is, and the tables in the video ROM.

use super::current;
use crate::bda;
use crate::caller::Call;
use crate::platform::Platform;
use crate::post::video_rom;
use crate::rom::{VIDEO_BASE, stubs};
use crate::vgamodes::VBE_MODES;
use arch::GuestPhys;

pub(super) fn int10_0f_get_mode<P: Platform>(c: &mut Call<'_, P>) {
    let (mode, control) = (c.bda8(bda::VIDEO_MODE), c.bda8(bda::VIDEO_CONTROL));
    c.set_al(mode | (control & 0x80));
    let columns = c.bda8(bda::COLUMNS);
    c.set_ah(columns);
    let page = c.bda8(bda::PAGE);
    c.set_bh(page);
}

fn bit<P: Platform>(c: &mut Call<'_, P>, field: u32, mask: u8, on: bool) {
    let old = c.bda8(field);
    c.set_bda8(field, if on { old | mask } else { old & !mask });
}

/// 12h: alternate functions by BL.
pub(super) fn int10_12_alternate<P: Platform>(c: &mut Call<'_, P>) {
    let al = c.al();
    match c.bl() {
        0x10 => {
            let mono = c.bda16(bda::CRTC) == 0x3b4;
            c.set_bh(mono.into());
            c.set_bl(3);
            let switches = c.bda8(bda::VIDEO_SWITCHES);
            c.set_ch(switches >> 4);
            c.set_cl(switches & 15);
            return;
        }
        // Print screen: the handler at INT 05h stays.
        0x20 => return,
        // Scan lines for the next text mode: noted (BDA 89h); this card shows 400.
        0x30 => {
            let old = c.bda8(bda::MODESET_CONTROL) & !0x90;
            let value = match al {
                0 => 0x80,
                1 => 0x00,
                2 => 0x10,
                _ => return,
            };
            c.set_bda8(bda::MODESET_CONTROL, old | value);
        }
        0x31 => bit(c, bda::MODESET_CONTROL, 8, al & 1 != 0),
        0x32 => {
            let old = c.bus.port_in(0x3cc, 1) & !2;
            c.bus.port_out(0x3c2, 1, old | u32::from(al & 1 == 0) << 1);
        }
        0x33 => bit(c, bda::MODESET_CONTROL, 2, al & 1 == 0),
        0x34 => bit(c, bda::VIDEO_CONTROL, 1, al & 1 != 0),
        0x35 => {}
        0x36 => {
            let old = super::read_indexed(c, 0x3c4, 1) & !0x20;
            super::indexed(c, 0x3c4, 1, old | (al & 1) << 5);
        }
        _ => return,
    }
    c.set_al(0x12);
}

pub(super) fn int10_1a_display_code<P: Platform>(c: &mut Call<'_, P>) {
    match c.al() {
        0 => {
            let code = c.bda8(bda::DISPLAY_CODE);
            c.set_bx(code.into());
        }
        1 => c.set_bda8(bda::DISPLAY_CODE, c.bl()),
        _ => return,
    }
    c.set_al(0x1a);
}

/// 1Bh: 64 bytes of state at ES:DI (PS/2 BIOS reference, "Return Functionality and State Information").
pub(super) fn int10_1b_state<P: Platform>(c: &mut Call<'_, P>) {
    let mut out = [0; 64];
    let table = VIDEO_BASE >> 4 << 16 | u32::from(video_rom::FUNCTIONALITY);
    out[..4].copy_from_slice(&table.to_le_bytes());
    c.read(0x400 + bda::VIDEO_MODE, &mut out[4..0x22]);
    out[0x22] = c.bda8(bda::ROWS).wrapping_add(1);
    let height = c.bda16(bda::CHAR_HEIGHT);
    out[0x23..0x25].copy_from_slice(&height.to_le_bytes());
    out[0x25] = c.bda8(bda::DISPLAY_CODE);
    if let Some(mode) = current(c) {
        let colors = if mode.color_bits == 8 { 256u16 } else { 1 << mode.color_bits };
        out[0x27..0x29].copy_from_slice(&colors.to_le_bytes());
        out[0x29] = mode.pages;
        out[0x2a] = match mode.height {
            200 => 0,
            350 => 1,
            480 => 3,
            _ => 2,
        };
    }
    // VGA active, cursor emulation as set, 256 KiB.
    out[0x2d] = 0x21;
    out[0x31] = 3;
    let at = c.es(c.di());
    c.write(at, &out);
    c.set_al(0x1b);
}

/// Fills the tables of the video ROM: functionality, save pointers, VBE mode numbers and names.
pub(crate) fn write_rom_tables<P: Platform>(c: &mut Call<'_, P>) {
    let ram = c.bus.ram();
    let at = |offset: u16| GuestPhys(u64::from(VIDEO_BASE) + u64::from(offset));
    // All standard modes; 200, 350, 400 lines; 8 fonts, 2 active; everything of the VGA.
    let functionality = [0xff, 0xe0, 0x0f, 0, 0, 0, 0, 0x07, 2, 8, 0xff, 0x0e, 0, 0, 0x3f, 0];
    let _ = ram.write_slice(at(video_rom::FUNCTIONALITY), &functionality);
    // Save pointers: only the secondary table, and in it only the display combination codes.
    let far = |offset: u16| (VIDEO_BASE >> 4 << 16 | u32::from(offset)).to_le_bytes();
    let _ = ram.write_slice(at(video_rom::SAVE_TABLE + 0x10), &far(video_rom::SAVE_TABLE + 0x20));
    let _ = ram.write_slice(at(video_rom::SAVE_TABLE + 0x20), &[0x1a, 0]);
    let _ = ram.write_slice(at(video_rom::SAVE_TABLE + 0x22), &far(video_rom::SAVE_TABLE + 0x40));
    let codes = [4, 1, 8, 0, 0, 0, 0, 7, 0, 8, 7, 8];
    let _ = ram.write_slice(at(video_rom::SAVE_TABLE + 0x40), &codes);
    let _ = ram.write_slice(at(stubs::VIDEO_INT10 + 0x40), b"Xenolith VBE\0");

    let memory = c.bus.config().video_memory;
    let mut to = video_rom::VBE_LIST;
    let numbers = VBE_MODES
        .iter()
        .filter(|mode| mode.is_listed() && mode.vram_bytes() <= memory)
        .map(|mode| mode.number)
        .chain(0x108..=0x10c);
    for number in numbers.chain([0xffff]) {
        let _ = ram.write_u16(at(to), number);
        to += 2;
    }
    c.set_bda32(bda::VIDEO_SAVE, VIDEO_BASE >> 4 << 16 | u32::from(video_rom::SAVE_TABLE));
}
