//! INT 10h: video. Dispatch, and the services that only look things up.

mod mode;
mod text;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

impl Bios {
    pub(crate) fn int10<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x00 => self.int10_00_set_mode(c),
            0x01 => text::int10_01_cursor_shape(c),
            0x02 => text::int10_02_set_cursor(c),
            0x03 => text::int10_03_get_cursor(c),
            0x05 => text::int10_05_page(c),
            0x06 => text::int10_06_scroll(c, false),
            0x07 => text::int10_06_scroll(c, true),
            0x08 => text::int10_08_read(c),
            0x09 => text::int10_09_write(c, true),
            0x0a => text::int10_09_write(c, false),
            0x0e => text::int10_0e_teletype(c),
            0x0f => int10_0f_get_mode(c),
            0x13 => text::int10_13_string(c),
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

fn int10_0f_get_mode<P: Platform>(c: &mut Call<'_, P>) {
    let (mode, control) = (c.bda8(bda::VIDEO_MODE), c.bda8(bda::VIDEO_CONTROL));
    c.set_al(mode | (control & 0x80));
    let columns = c.bda8(bda::COLUMNS);
    c.set_ah(columns);
    let page = c.bda8(bda::PAGE);
    c.set_bh(page);
}
