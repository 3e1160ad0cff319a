//! What the interrupt stubs ask of Rust: timer tick, keys, clock, mouse.

mod key;
mod layout;
#[cfg(test)]
mod tests;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

/// Ticks in a day: 24 hours at 1,193,182 / 65,536 Hz.
pub(crate) const DAY: u32 = 0x18_00b0;

impl Bios {
    /// INT 08h: counts, and turns a floppy motor off that a program left to the BIOS.
    pub(crate) fn tick<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let ticks = c.bda32(bda::TICKS).wrapping_add(1);
        if ticks >= DAY {
            c.set_bda32(bda::TICKS, 0);
            let days = c.bda8(bda::MIDNIGHT).wrapping_add(1);
            c.set_bda8(bda::MIDNIGHT, days);
        } else {
            c.set_bda32(bda::TICKS, ticks);
        }
        let left = c.bda8(bda::FLOPPY_TIMEOUT);
        if left > 0 {
            c.set_bda8(bda::FLOPPY_TIMEOUT, left - 1);
            let motors = c.bda8(bda::FLOPPY_MOTOR);
            if left == 1 && motors & 0x0f != 0 {
                c.set_bda8(bda::FLOPPY_MOTOR, motors & 0xf0);
                c.bus.port_out(0x3f2, 1, 0x0c);
            }
        }
        Flow::Done
    }
}
