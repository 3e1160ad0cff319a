//! INT 10h: video. Dispatch, and the services that only look things up.

#[cfg(test)]
mod card_tests;
mod font;
mod gfx;
mod info;
mod mode;
mod palette;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod vbe;

pub(crate) use info::write_rom_tables;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;
use crate::vgamodes::{Layout, VgaMode, vga_mode};

impl Bios {
    pub(crate) fn int10<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x00 => self.int10_00_set_mode(c),
            0x01 => text::int10_01_cursor_shape(c),
            0x02 => text::int10_02_set_cursor(c),
            0x03 => text::int10_03_get_cursor(c),
            // Light pen: not triggered.
            0x04 => c.set_ah(0),
            0x05 => text::int10_05_page(c),
            0x06 => text::int10_06_scroll(c, false),
            0x07 => text::int10_06_scroll(c, true),
            0x08 => text::int10_08_read(c),
            0x09 => text::int10_09_write(c, true),
            0x0a => text::int10_09_write(c, false),
            0x0b => palette::int10_0b_cga(c),
            0x0c => gfx::int10_0c_write_pixel(c),
            0x0d => gfx::int10_0d_read_pixel(c),
            0x0e => text::int10_0e_teletype(c),
            0x0f => info::int10_0f_get_mode(c),
            0x10 => palette::int10_10_palette(c),
            0x11 => font::int10_11_fonts(c),
            0x12 => info::int10_12_alternate(c),
            0x13 => text::int10_13_string(c),
            0x1a => info::int10_1a_display_code(c),
            0x1b => info::int10_1b_state(c),
            0x1c => state::int10_1c_save_restore(c),
            0x4f => self.int10_4f_vbe(c),
            _ => {}
        }
        Flow::Done
    }

    /// Writes text to the screen from inside the firmware.
    pub(crate) fn print<P: Platform>(&self, c: &mut Call<'_, P>, text: &str) {
        for byte in text.bytes() {
            self.print_char(c, byte);
        }
    }

    /// Writes a character to the screen from inside the firmware.
    pub(crate) fn print_char<P: Platform>(&self, c: &mut Call<'_, P>, byte: u8) {
        let page = c.bda8(bda::PAGE);
        text::teletype(c, byte, page, 7);
    }
}

/// The mode that the data area names. VBE's graphics modes have no entry: text services do nothing there.
pub(super) fn current<P: Platform>(c: &mut Call<'_, P>) -> Option<&'static VgaMode> {
    vga_mode(c.bda8(bda::VIDEO_MODE).into())
}

/// Whether characters are cells in memory. Unknown modes below 8 count as text.
pub(super) fn is_text<P: Platform>(c: &mut Call<'_, P>) -> bool {
    current(c).is_some_and(|mode| mode.layout == Layout::Text)
}

/// Writes an index and value pair: sequencer, graphics controller, CRTC.
pub(super) fn indexed<P: Platform>(c: &mut Call<'_, P>, port: u16, index: u8, value: u8) {
    c.bus.port_out(port, 1, index.into());
    c.bus.port_out(port + 1, 1, value.into());
}

/// Reads a register behind an index.
pub(super) fn read_indexed<P: Platform>(c: &mut Call<'_, P>, port: u16, index: u8) -> u8 {
    c.bus.port_out(port, 1, index.into());
    c.bus.port_in(port + 1, 1) as u8
}

/// The CRTC's index port: 3D4h, or 3B4h in monochrome modes.
pub(super) fn crtc_port<P: Platform>(c: &mut Call<'_, P>) -> u16 {
    if c.bda16(bda::CRTC) == 0x3b4 { 0x3b4 } else { 0x3d4 }
}
