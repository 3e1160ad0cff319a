//! INT 15h 53h: as much of APM 1.2 as turns a machine off. Only the real-mode interface exists.

use crate::caller::{Call, Flow};
use crate::platform::Platform;

const NO_EVENT: u8 = 0x80;
const NOT_ENGAGED: u8 = 0x09;
const PROTECTED_16_ABSENT: u8 = 0x06;
const PROTECTED_32_ABSENT: u8 = 0x08;

fn fail<P: Platform>(c: &mut Call<'_, P>, code: u8) -> Flow {
    c.set_ah(code);
    c.set_cf(true);
    Flow::Done
}

pub(super) fn int15_53_apm<P: Platform>(c: &mut Call<'_, P>) -> Flow {
    let function = c.al();
    match function {
        0x00 => {
            // Version 1.2; no protected-mode interfaces, idle does not slow the clock.
            c.set_ax(0x0102);
            c.set_bx(0x504d);
            c.set_cx(0);
        }
        // Connect, disconnect, idle, busy, enable, engage, and the like: nothing to do.
        0x01 | 0x04 | 0x05 | 0x06 | 0x08 | 0x09 | 0x0d | 0x0f | 0x10 => {}
        0x02 => return fail(c, PROTECTED_16_ABSENT),
        0x03 => return fail(c, PROTECTED_32_ABSENT),
        0x07 => {
            // All devices (or the system) off.
            if c.cx() == 3 && matches!(c.bx(), 0x0001 | 0xffff) {
                return Flow::PowerOff;
            }
        }
        0x0a => {
            // On line, no battery.
            c.set_bx(0x01ff);
            c.set_cx(0x80ff);
            c.set_dx(0xffff);
        }
        0x0b => return fail(c, NO_EVENT),
        0x0c => c.set_cx(0),
        0x0e => c.set_ax(0x0102),
        _ => return fail(c, NOT_ENGAGED),
    }
    if !matches!(function, 0x00 | 0x0e) {
        c.set_ah(0);
    }
    c.set_cf(false);
    Flow::Done
}
