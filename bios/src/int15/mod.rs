//! INT 15h: system services. Dispatch, and what only looks things up.

mod apm;
mod memory;
mod mouse;
#[cfg(test)]
mod tests;
mod wait;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;
use crate::rom::stubs::CONFIG_TABLE;

impl Bios {
    pub(crate) fn int15<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x24 => memory::int15_24_a20(c),
            // 4Fh: the keyboard handler asks whether to go on with AL; carry says yes.
            0x4f => c.set_cf(true),
            // Media may be ejected; devices are opened and closed; SysReq; a device waits or is done.
            0x52 | 0x80..=0x82 | 0x85 | 0x90 | 0x91 => {
                c.set_ah(0);
                c.set_cf(false);
            }
            0x53 => return apm::int15_53_apm(c),
            0x83 => wait::int15_83_event(c),
            0x86 => return self.int15_86_wait(c),
            0x87 => memory::int15_87_move(c),
            0x88 => memory::int15_88_extended(c),
            0xc0 => {
                c.set_es(0xf000);
                c.set_bx(CONFIG_TABLE);
                c.set_ah(0);
                c.set_cf(false);
            }
            0xc1 => {
                let segment = c.bda16(bda::EBDA_SEGMENT);
                c.set_es(segment);
                c.set_cf(false);
            }
            0xc2 => mouse::int15_c2_mouse(c),
            0xe8 => match c.al() {
                0x01 => memory::int15_e801(c, false),
                0x81 => memory::int15_e801(c, true),
                0x20 => memory::int15_e820(c),
                _ => unsupported(c),
            },
            _ => unsupported(c),
        }
        Flow::Done
    }
}

pub(super) fn unsupported<P: Platform>(c: &mut Call<'_, P>) {
    c.set_ah(0x86);
    c.set_cf(true);
}
