//! INT 09h: a scan code becomes shift state, a key in the ring, or something that the stub must call.

use super::layout::{self, Shifts};
use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::int16;
use crate::platform::Platform;

/// What the stub does behind the EOI; AH at the end of the trap.
mod then {
    pub const NOTHING: u8 = 0;
    pub const POSTED: u8 = 1;
    pub const BREAK: u8 = 2;
    pub const PRINT: u8 = 3;
    pub const PAUSE: u8 = 4;
    pub const SYSREQ_DOWN: u8 = 5;
    pub const SYSREQ_UP: u8 = 6;
}

/// BDA 17h.
mod shift {
    pub const RIGHT: u8 = 0x01;
    pub const LEFT: u8 = 0x02;
    pub const CTRL: u8 = 0x04;
    pub const ALT: u8 = 0x08;
    pub const SCROLL: u8 = 0x10;
    pub const NUM: u8 = 0x20;
    pub const CAPS: u8 = 0x40;
    pub const INSERT: u8 = 0x80;
}

/// BDA 18h.
const PAUSED: u8 = 0x08;
const SYSREQ: u8 = 0x04;
/// BDA 96h: E0h and E1h came, right Alt and right Ctrl are down.
const E1: u8 = 0x01;
const E0: u8 = 0x02;
/// BDA 97h: an LED command is on its way.
const LED_PENDING: u8 = 0x40;

impl Bios {
    /// The trap of INT 09h: AL is the scan code, as INT 15h 4Fh left it.
    pub(crate) fn key<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let scan = c.al();
        let then = match translate(c, scan) {
            Some(then) => then,
            None => return Flow::Reset,
        };
        leds(c);
        c.set_ah(then);
        Flow::Done
    }

    /// Pause holds everything until a key comes: carry while it does.
    pub(crate) fn paused<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let on = c.bda8(bda::SHIFT2) & PAUSED != 0;
        c.stub_flags(on, false);
        Flow::Done
    }
}

/// `None`: Ctrl-Alt-Del.
fn translate<P: Platform>(c: &mut Call<'_, P>, scan: u8) -> Option<u8> {
    let prefixes = c.bda8(bda::SHIFT3);
    match scan {
        0xe0 | 0xe1 => {
            let bit = if scan == 0xe0 { E0 } else { E1 };
            c.set_bda8(bda::SHIFT3, prefixes | bit);
            return Some(then::NOTHING);
        }
        // Answers to commands, overruns and self-test results are no keys.
        0x00 | 0xaa | 0xee | 0xfc..=0xff => {
            if scan == 0xaa && prefixes & (E0 | E1) == 0 {
                // Break of the left shift key, which looks like the self-test's answer.
                let flags = c.bda8(bda::SHIFT);
                c.set_bda8(bda::SHIFT, flags & !shift::LEFT);
            }
            c.set_bda8(bda::SHIFT3, prefixes & !(E0 | E1));
            return Some(then::NOTHING);
        }
        0xfa => {
            acknowledged(c);
            return Some(then::NOTHING);
        }
        _ => {}
    }
    let (e0, e1) = (prefixes & E0 != 0, prefixes & E1 != 0);
    if e1 && scan & 0x7f == 0x1d {
        // First half of Pause: the second half still belongs to E1h.
        return Some(then::NOTHING);
    }
    c.set_bda8(bda::SHIFT3, prefixes & !(E0 | E1));
    if e1 {
        if scan == 0x45 {
            return Some(pause(c));
        }
        return Some(then::NOTHING);
    }
    if scan & 0x80 != 0 {
        return Some(released(c, scan & 0x7f, e0));
    }
    pressed(c, scan, e0)
}

fn change<P: Platform>(c: &mut Call<'_, P>, field: u32, bit: u8, on: bool) {
    let old = c.bda8(field);
    c.set_bda8(field, if on { old | bit } else { old & !bit });
}

/// Ctrl and Alt exist twice; the common bit stands while either is down.
fn twin<P: Platform>(c: &mut Call<'_, P>, right: bool, alt: bool, on: bool) {
    let (left_bit, right_bit, both) =
        if alt { (0x02, 0x08, shift::ALT) } else { (0x01, 0x04, shift::CTRL) };
    if right {
        change(c, bda::SHIFT3, right_bit, on);
    } else {
        change(c, bda::SHIFT2, left_bit, on);
    }
    let held = c.bda8(bda::SHIFT2) & left_bit != 0 || c.bda8(bda::SHIFT3) & right_bit != 0;
    change(c, bda::SHIFT, both, held);
}

fn released<P: Platform>(c: &mut Call<'_, P>, scan: u8, e0: bool) -> u8 {
    match scan {
        0x2a if !e0 => change(c, bda::SHIFT, shift::LEFT, false),
        0x36 if !e0 => change(c, bda::SHIFT, shift::RIGHT, false),
        0x1d => twin(c, e0, false, false),
        0x38 => {
            twin(c, e0, true, false);
            // The number typed on the keypad while Alt was down.
            let number = c.bda8(bda::ALT_DIGITS);
            if number != 0 && c.bda8(bda::SHIFT) & shift::ALT == 0 {
                c.set_bda8(bda::ALT_DIGITS, 0);
                int16::store(c, number.into());
                return then::POSTED;
            }
        }
        0x3a => change(c, bda::SHIFT2, shift::CAPS, false),
        0x45 => change(c, bda::SHIFT2, shift::NUM, false),
        0x46 => change(c, bda::SHIFT2, shift::SCROLL, false),
        0x52 => change(c, bda::SHIFT2, shift::INSERT, false),
        0x54 => {
            change(c, bda::SHIFT2, SYSREQ, false);
            return then::SYSREQ_UP;
        }
        _ => {}
    }
    then::NOTHING
}

/// A lock key: toggles on the first press, not on repeats.
fn lock<P: Platform>(c: &mut Call<'_, P>, bit: u8) -> u8 {
    if c.bda8(bda::SHIFT2) & bit == 0 {
        change(c, bda::SHIFT2, bit, true);
        let toggled = c.bda8(bda::SHIFT) ^ bit;
        c.set_bda8(bda::SHIFT, toggled);
    }
    then::NOTHING
}

fn pause<P: Platform>(c: &mut Call<'_, P>) -> u8 {
    if c.bda8(bda::SHIFT2) & PAUSED != 0 {
        return then::NOTHING;
    }
    change(c, bda::SHIFT2, PAUSED, true);
    then::PAUSE
}

fn pressed<P: Platform>(c: &mut Call<'_, P>, scan: u8, e0: bool) -> Option<u8> {
    let flags = c.bda8(bda::SHIFT);
    let (ctrl, alt) = (flags & shift::CTRL != 0, flags & shift::ALT != 0);
    match scan {
        // E0 2A and E0 36 are shift keys that the keyboard makes up around grey keys.
        0x2a | 0x36 if e0 => return Some(then::NOTHING),
        0x2a => change(c, bda::SHIFT, shift::LEFT, true),
        0x36 => change(c, bda::SHIFT, shift::RIGHT, true),
        0x1d => twin(c, e0, false, true),
        0x38 => twin(c, e0, true, true),
        0x3a => return Some(lock(c, shift::CAPS)),
        0x45 if ctrl && !e0 => return Some(pause(c)),
        0x45 => return Some(lock(c, shift::NUM)),
        0x46 if ctrl || e0 => return Some(break_key(c)),
        0x46 => return Some(lock(c, shift::SCROLL)),
        0x53 if ctrl && alt => {
            c.set_bda16(bda::WARM_BOOT, 0x1234);
            return None;
        }
        0x37 if e0 && ctrl => return Some(stored(c, 0x7200)),
        0x37 if e0 || flags & (shift::LEFT | shift::RIGHT) != 0 && !ctrl && !alt => {
            return Some(then::PRINT);
        }
        0x54 => {
            change(c, bda::SHIFT2, SYSREQ, true);
            return Some(then::SYSREQ_DOWN);
        }
        _ => return Some(typed(c, scan, e0, flags)),
    }
    Some(then::NOTHING)
}

fn break_key<P: Platform>(c: &mut Call<'_, P>) -> u8 {
    c.set_bda8(bda::BREAK, 0x80);
    let start = c.bda16(bda::KEY_START);
    c.set_bda16(bda::KEY_HEAD, start);
    c.set_bda16(bda::KEY_TAIL, start);
    int16::store(c, 0);
    then::BREAK
}

fn typed<P: Platform>(c: &mut Call<'_, P>, scan: u8, e0: bool, flags: u8) -> u8 {
    if c.bda8(bda::SHIFT2) & PAUSED != 0 {
        change(c, bda::SHIFT2, PAUSED, false);
        return then::NOTHING;
    }
    let alt = flags & shift::ALT != 0;
    if alt
        && !e0
        && let Some(digit) = layout::keypad_digit(scan)
    {
        let number = c.bda8(bda::ALT_DIGITS).wrapping_mul(10).wrapping_add(digit);
        c.set_bda8(bda::ALT_DIGITS, number);
        return then::NOTHING;
    }
    if scan == 0x52 && !alt && flags & shift::CTRL == 0 {
        let toggled = c.bda8(bda::SHIFT) ^ shift::INSERT;
        if c.bda8(bda::SHIFT2) & shift::INSERT == 0 {
            c.set_bda8(bda::SHIFT, toggled);
            change(c, bda::SHIFT2, shift::INSERT, true);
        }
    }
    let shifts = Shifts {
        shift: flags & (shift::LEFT | shift::RIGHT) != 0,
        ctrl: flags & shift::CTRL != 0,
        alt,
        caps: flags & shift::CAPS != 0,
        num: flags & shift::NUM != 0,
        grey: e0,
    };
    match layout::lookup(scan, shifts) {
        Some(key) => stored(c, key),
        None => then::NOTHING,
    }
}

fn stored<P: Platform>(c: &mut Call<'_, P>, key: u16) -> u8 {
    if int16::store(c, key) { then::POSTED } else { then::NOTHING }
}

/// Starts an LED command when the locks no longer agree with the lights.
fn leds<P: Platform>(c: &mut Call<'_, P>) {
    let want = c.bda8(bda::SHIFT) >> 4 & 7;
    let state = c.bda8(bda::LEDS);
    if state & 7 != want && state & LED_PENDING == 0 {
        c.set_bda8(bda::LEDS, state | LED_PENDING);
        c.bus.port_out(0x60, 1, 0xed);
    }
}

/// FAh: the keyboard took a command byte. The lights follow the command.
fn acknowledged<P: Platform>(c: &mut Call<'_, P>) {
    let state = c.bda8(bda::LEDS);
    if state & LED_PENDING != 0 {
        let lights = c.bda8(bda::SHIFT) >> 4 & 7;
        c.set_bda8(bda::LEDS, (state & !(LED_PENDING | 7)) | lights);
        c.bus.port_out(0x60, 1, lights.into());
    }
}
