//! INT 10h 00h: sets a mode.

use crate::bda;
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::fonts;
use crate::platform::Platform;
use arch::GuestPhys;

const SEQ: [u8; 5] = [3, 0, 3, 0, 2];
const CRTC: [u8; 25] = [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0xd, 0xe, 0, 0, 0, 0, 0x9c, 0x8e,
    0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
];
const GC: [u8; 9] = [0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff];
const ATTR: [u8; 21] = [
    0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0, 0x0f, 8, 0,
];

impl Bios {
    pub(super) fn int10_00_set_mode<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        let clear = c.al() & 0x80 == 0;
        set_text(c, clear);
        c.set_al(0x30);
    }

    /// Mode 3 from POST.
    pub(crate) fn first_mode<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        set_text(c, true);
    }
}

fn set_text<P: Platform>(c: &mut Call<'_, P>, clear: bool) {
    let mut out = |port: u16, value: u8| c.bus.port_out(port, 1, value.into());
    out(0x3c2, 0x67);
    for (n, value) in (0u8..).zip(SEQ) {
        out(0x3c4, n);
        out(0x3c5, value);
    }
    out(0x3d4, 0x11);
    out(0x3d5, 0);
    for (n, value) in (0u8..).zip(CRTC) {
        out(0x3d4, n);
        out(0x3d5, value);
    }
    for (n, value) in (0u8..).zip(GC) {
        out(0x3ce, n);
        out(0x3cf, value);
    }
    let _ = c.bus.port_in(0x3da, 1);
    let mut out = |port: u16, value: u8| c.bus.port_out(port, 1, value.into());
    for (n, value) in (0u8..).zip(ATTR) {
        out(0x3c0, n);
        out(0x3c0, value);
    }
    out(0x3c0, 0x20);
    out(0x3c6, 0xff);
    out(0x3c8, 0);
    for n in 0u8..64 {
        for (high, low) in [(2, 5), (1, 4), (0, 3)] {
            out(0x3c9, (n >> high & 1) * 42 + (n >> low & 1) * 21);
        }
    }
    load_font(c);
    if clear {
        for at in (0xb_8000..0xb_c000u64).step_by(4) {
            c.bus.mem_write(GuestPhys(at), 4, 0x0720_0720);
        }
    }
    c.set_bda8(bda::VIDEO_MODE, 3);
    c.set_bda16(bda::COLUMNS, 80);
    c.set_bda16(bda::PAGE_SIZE, 0x1000);
    c.set_bda16(bda::PAGE_OFFSET, 0);
    for page in 0..8 {
        c.set_bda16(bda::CURSORS + page * 2, 0);
    }
    c.set_bda16(bda::CURSOR_SHAPE, 0x0607);
    c.set_bda8(bda::PAGE, 0);
    c.set_bda16(bda::CRTC, 0x3d4);
    c.set_bda8(bda::ROWS, 24);
    c.set_bda16(bda::CHAR_HEIGHT, 16);
}

fn load_font<P: Platform>(c: &mut Call<'_, P>) {
    let open = [(0x3c4, 2, 4), (0x3c4, 4, 7), (0x3ce, 4, 2), (0x3ce, 5, 0), (0x3ce, 6, 4)];
    let close = [(0x3c4, 2, 3), (0x3c4, 4, 3), (0x3ce, 4, 0), (0x3ce, 5, 0x10), (0x3ce, 6, 0xe)];
    for (port, index, value) in open {
        c.bus.port_out(port, 2, index | value << 8);
    }
    for (code, glyph) in (0u64..).zip(fonts::FONT_8X16.chunks_exact(16)) {
        c.phys_write(GuestPhys(0xa_0000 + code * 32), glyph);
    }
    for (port, index, value) in close {
        c.bus.port_out(port, 2, index | value << 8);
    }
}
