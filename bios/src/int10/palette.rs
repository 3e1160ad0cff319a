//! INT 10h 0Bh and 10h: attribute controller and DAC.

use crate::bda;
use crate::caller::Call;
use crate::platform::Platform;
use crate::vgamodes::{VgaMode, dac_entry, dac_len};

fn status_port<P: Platform>(c: &mut Call<'_, P>) -> u16 {
    super::crtc_port(c) + 6
}

fn write_attribute<P: Platform>(c: &mut Call<'_, P>, index: u8, value: u8) {
    let status = status_port(c);
    let _ = c.bus.port_in(status, 1);
    c.bus.port_out(0x3c0, 1, (index & 0x1f).into());
    c.bus.port_out(0x3c0, 1, value.into());
    c.bus.port_out(0x3c0, 1, 0x20);
}

fn read_attribute<P: Platform>(c: &mut Call<'_, P>, index: u8) -> u8 {
    let status = status_port(c);
    let _ = c.bus.port_in(status, 1);
    c.bus.port_out(0x3c0, 1, (index & 0x1f).into());
    let value = c.bus.port_in(0x3c1, 1) as u8;
    let _ = c.bus.port_in(status, 1);
    c.bus.port_out(0x3c0, 1, 0x20);
    value
}

pub(super) fn write_dac<P: Platform>(c: &mut Call<'_, P>, index: u8, color: [u8; 3]) {
    c.bus.port_out(0x3c8, 1, index.into());
    for part in color {
        c.bus.port_out(0x3c9, 1, part.into());
    }
}

pub(super) fn read_dac<P: Platform>(c: &mut Call<'_, P>, index: u8) -> [u8; 3] {
    c.bus.port_out(0x3c7, 1, index.into());
    [0; 3].map(|_: u8| c.bus.port_in(0x3c9, 1) as u8)
}

/// The grey that is as bright: 30% red, 59% green, 11% blue.
fn grey([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let sum = u32::from(red) * 77 + u32::from(green) * 151 + u32::from(blue) * 28;
    [(sum >> 8).min(0x3f) as u8; 3]
}

/// The colours that a mode starts with.
pub(super) fn load<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode) {
    c.bus.port_out(0x3c6, 1, 0xff);
    let summing = c.bda8(bda::MODESET_CONTROL) & 2 != 0;
    for n in 0..dac_len(mode.palette) {
        let color = dac_entry(mode.palette, n as u8);
        write_dac(c, n as u8, if summing { grey(color) } else { color });
    }
}

/// 0Bh: BH = 0, border and background BL; BH = 1, CGA palette BL.
pub(super) fn int10_0b_cga<P: Platform>(c: &mut Call<'_, P>) {
    let value = c.bl();
    let old = c.bda8(bda::CGA_PALETTE);
    if c.bh() == 0 {
        let border = (value & 7) | (value & 8) << 1;
        write_attribute(c, 0x11, border);
        if !super::is_text(c) {
            write_attribute(c, 0, border);
        }
        c.set_bda8(bda::CGA_PALETTE, (old & 0xe0) | (value & 0x1f));
    } else {
        let bright = (old & 0x10) | 1;
        for n in 1..4u8 {
            // Palette 0: green, red, brown; palette 1: cyan, magenta, white.
            write_attribute(c, n, (bright & 0x10) | (n * 2) | (value & 1));
        }
        c.set_bda8(bda::CGA_PALETTE, (old & !0x20) | (value & 1) << 5);
    }
}

pub(super) fn int10_10_palette<P: Platform>(c: &mut Call<'_, P>) {
    match c.al() {
        0x00 => write_attribute(c, c.bl(), c.bh()),
        0x01 => write_attribute(c, 0x11, c.bh()),
        0x02 => {
            let mut all = [0; 17];
            let at = c.es(c.dx());
            c.read(at, &mut all);
            for (n, value) in (0u8..).zip(all) {
                write_attribute(c, if n == 16 { 0x11 } else { n }, value);
            }
        }
        0x03 => {
            let old = read_attribute(c, 0x10) & !8;
            write_attribute(c, 0x10, old | (c.bl() & 1) << 3);
        }
        0x07 => {
            let value = read_attribute(c, c.bl());
            c.set_bh(value);
        }
        0x08 => {
            let value = read_attribute(c, 0x11);
            c.set_bh(value);
        }
        0x09 => {
            let mut all = [0; 17];
            for (n, value) in (0u8..).zip(&mut all) {
                *value = read_attribute(c, if n == 16 { 0x11 } else { n });
            }
            let at = c.es(c.dx());
            c.write(at, &all);
        }
        0x10 => write_dac(c, c.bl(), [c.dh(), c.ch(), c.cl()]),
        0x12 => {
            let mut at = c.es(c.dx());
            for n in 0..c.cx().min(256) {
                let mut color = [0; 3];
                c.read(at, &mut color);
                write_dac(c, c.bx().wrapping_add(n) as u8, color);
                at = at.wrapping_add(3);
            }
        }
        0x13 => page(c),
        0x15 => {
            let [red, green, blue] = read_dac(c, c.bl());
            c.set_dh(red);
            c.set_ch(green);
            c.set_cl(blue);
        }
        0x17 => {
            let mut at = c.es(c.dx());
            for n in 0..c.cx().min(256) {
                let color = read_dac(c, c.bx().wrapping_add(n) as u8);
                c.write(at, &color);
                at = at.wrapping_add(3);
            }
        }
        0x18 => c.bus.port_out(0x3c6, 1, c.bl().into()),
        0x19 => {
            let mask = c.bus.port_in(0x3c6, 1) as u8;
            c.set_bl(mask);
        }
        0x1a => {
            let by_16 = read_attribute(c, 0x10) & 0x80 != 0;
            let select = read_attribute(c, 0x14);
            c.set_bl(by_16.into());
            c.set_bh(if by_16 { select & 15 } else { select >> 2 & 3 });
        }
        0x1b => {
            for n in 0..c.cx().min(256) {
                let index = c.bx().wrapping_add(n) as u8;
                let color = read_dac(c, index);
                write_dac(c, index, grey(color));
            }
        }
        _ => {}
    }
}

/// 1013h: BL = 0, pages of 64 or 16 colours; BL = 1, which page.
fn page<P: Platform>(c: &mut Call<'_, P>) {
    let control = read_attribute(c, 0x10);
    if c.bl() == 0 {
        write_attribute(c, 0x10, (control & 0x7f) | (c.bh() & 1) << 7);
    } else {
        let shift = if control & 0x80 != 0 { 0 } else { 2 };
        write_attribute(c, 0x14, c.bh() << shift & 15);
    }
}
