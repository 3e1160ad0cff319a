//! INT 15h: system services. Dispatch; memory is in [`memory`].

mod memory;

use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

impl Bios {
    pub(crate) fn int15<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x24 => memory::int15_24_a20(c),
            // 4Fh: the keyboard handler asks whether to go on with AL; carry says yes.
            0x4f => c.set_cf(true),
            0x87 => memory::int15_87_move(c),
            0x88 => memory::int15_88_extended(c),
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
