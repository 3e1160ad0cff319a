//! INT 10h 00h: sets a mode from the register tables.

use super::{font, indexed, palette};
use crate::bda;
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::platform::Platform;
use crate::vgamodes::{Layout, VgaMode, vga_mode};
use arch::GuestPhys;

/// What BDA 49h says in a VBE graphics mode: no mode of INT 10h.
pub(super) const VBE_GRAPHICS: u8 = 0x7e;

impl Bios {
    pub(super) fn int10_00_set_mode<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        let number = c.al() & 0x7f;
        let Some(mode) = vga_mode(number.into()).filter(|mode| mode.number < 0x100) else { return };
        set(c, mode, c.al() & 0x80 == 0);
        self.vbe_mode = 0;
        c.set_al(match number {
            0..=5 | 7 => 0x30,
            6 => 0x3f,
            _ => 0x20,
        });
    }

    /// Mode 3 from POST.
    pub(crate) fn first_mode<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        c.set_bda8(bda::MODESET_CONTROL, 0x51);
        c.set_bda8(bda::DISPLAY_CODE, 0x08);
        c.set_bda8(bda::VIDEO_SWITCHES, 0xf9);
        if let Some(mode) = vga_mode(3) {
            set(c, mode, true);
        }
    }
}

/// Programs the card and the data area.
pub(super) fn set<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode, clear: bool) {
    super::vbe::dispi(c, super::vbe::ENABLE, 0);
    registers(c, mode);
    if c.bda8(bda::MODESET_CONTROL) & 8 == 0 {
        palette::load(c, mode);
    }
    if mode.layout == Layout::Text {
        font::load_rom(c, mode.char_height, 0);
    }
    if clear {
        clear_memory(c, mode);
    }
    data_area(c, mode, clear);
}

/// The registers alone.
pub(super) fn registers<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode) {
    let (crtc, status) = if mode.misc & 1 == 0 { (0x3b4, 0x3ba) } else { (0x3d4, 0x3da) };
    // Screen off while it changes.
    let _ = c.bus.port_in(status, 1);
    c.bus.port_out(0x3c0, 1, 0);
    indexed(c, 0x3c4, 0, 1);
    c.bus.port_out(0x3c2, 1, mode.misc.into());
    for (n, value) in (1u8..).zip(mode.seq) {
        indexed(c, 0x3c4, n, value);
    }
    indexed(c, 0x3c4, 0, 3);
    indexed(c, crtc, 0x11, mode.crtc[0x11] & 0x7f);
    for (n, value) in (0u8..).zip(mode.crtc).filter(|(n, _)| *n != 0x11) {
        indexed(c, crtc, n, value);
    }
    indexed(c, crtc, 0x11, mode.crtc[0x11]);
    for (n, value) in (0u8..).zip(mode.gc) {
        indexed(c, 0x3ce, n, value);
    }
    let _ = c.bus.port_in(status, 1);
    for (n, value) in (0u8..).zip(mode.attr) {
        c.bus.port_out(0x3c0, 1, n.into());
        c.bus.port_out(0x3c0, 1, value.into());
    }
    c.bus.port_out(0x3c0, 1, 0x20);
}

fn clear_memory<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode) {
    let start = u64::from(mode.segment) << 4;
    let (bytes, value) = match mode.layout {
        Layout::Text => (0x8000, 0x0720_0720),
        Layout::Cga4 | Layout::Cga2 => (0x8000, 0),
        Layout::Planar | Layout::Linear8 => (0x1_0000, 0),
    };
    for at in (start..start + bytes).step_by(4) {
        c.bus.mem_write(GuestPhys(at), 4, value);
    }
}

fn data_area<P: Platform>(c: &mut Call<'_, P>, mode: &VgaMode, clear: bool) {
    let number = mode.number as u8;
    c.set_bda8(bda::VIDEO_MODE, number);
    c.set_bda16(bda::COLUMNS, mode.columns);
    c.set_bda16(bda::PAGE_SIZE, mode.page_size);
    c.set_bda16(bda::PAGE_OFFSET, 0);
    c.write(0x400 + bda::CURSORS, &[0; 16]);
    c.set_bda16(bda::CURSOR_SHAPE, 0x0607);
    c.set_bda8(bda::PAGE, 0);
    let mono = mode.misc & 1 == 0;
    c.set_bda16(bda::CRTC, if mono { 0x3b4 } else { 0x3d4 });
    c.set_bda8(bda::ROWS, (mode.rows - 1) as u8);
    c.set_bda16(bda::CHAR_HEIGHT, mode.char_height.into());
    let control = c.bda8(bda::VIDEO_CONTROL) & 0x01;
    c.set_bda8(bda::VIDEO_CONTROL, control | 0x60 | if clear { 0 } else { 0x80 });
    // The CGA's mode and colour registers as old programs look them up.
    const CGA_MODES: [u8; 8] = [0x2c, 0x28, 0x2d, 0x29, 0x2a, 0x2e, 0x1e, 0x29];
    if let Some(&value) = CGA_MODES.get(usize::from(number)) {
        c.set_bda8(bda::CGA_MODE, value);
        c.set_bda8(bda::CGA_PALETTE, if number == 6 { 0x3f } else { 0x30 });
    }
    let equipment = c.bda16(bda::EQUIPMENT) & !0x30;
    let display = match number {
        _ if mono => 0x30,
        0 | 1 => 0x10,
        _ => 0x20,
    };
    c.set_bda16(bda::EQUIPMENT, equipment | display);
    font::set_vectors(c, mode);
}

#[cfg(test)]
mod tests {
    use crate::rom::Service;
    use crate::testing::{Guest, Mock};

    #[test]
    fn every_standard_mode_is_set_and_told_by_0fh() {
        let mut g = Guest::new(Mock::new());
        for (mode, columns, rows) in [
            (0u16, 40, 25),
            (3, 80, 25),
            (4, 40, 25),
            (6, 80, 25),
            (7, 80, 25),
            (0x0d, 40, 25),
            (0x10, 80, 25),
            (0x12, 80, 30),
            (0x13, 40, 25),
        ] {
            let _ = g.set(mode, 0, 0, 0).int(Service::Int10);
            let _ = g.set(0x0f00, 0, 0, 0).int(Service::Int10);
            assert_eq!(g.ax(), columns << 8 | mode);
            assert_eq!(g.bus.u16(0x484) & 0xff, rows - 1);
            let crtc = if mode == 7 { 0x3b4 } else { 0x3d4 };
            assert_eq!(g.bus.u16(0x463), crtc);
        }
        let _ = g.set(0x0077, 0, 0, 0).int(Service::Int10);
        let _ = g.set(0x0f00, 0, 0, 0).int(Service::Int10);
        assert_eq!(g.ax() & 0xff, 0x13, "an unknown mode changes nothing");
    }
}
