//! INT 15h 83h and 86h, and the clock interrupt (INT 70h) that counts for 83h.

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

/// Microseconds between two periodic interrupts at the rate that POST sets, 1,024 Hz.
const PERIOD_US: u32 = 976;
/// The longest wait that stays awake: the timer wakes a halted one every 55 ms.
const SPIN_NS: u64 = 60_000_000;
/// MC146818 status B and C: periodic, alarm.
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;

impl Bios {
    /// 86h: waits CX:DX microseconds.
    pub(super) fn int15_86_wait<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let now = c.bus.now();
        let us = u64::from(c.cx()) << 16 | u64::from(c.dx());
        let until = *self.wait_until.get_or_insert(now + us * 1000);
        if now < until {
            return if until.since(now) > SPIN_NS { Flow::Again } else { Flow::Spin };
        }
        self.wait_until = None;
        c.set_ah(0);
        c.set_cf(false);
        Flow::Done
    }

    /// INT 70h: AL is free. Carry: the alarm went off, call INT 4Ah.
    pub(crate) fn rtc<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let control = c.cmos(0x0b);
        let cause = c.cmos(0x0c) & control;
        c.bus.port_out(0x70, 1, 0x0d);
        if cause & PERIODIC != 0 && c.bda8(bda::WAIT_ACTIVE) & 1 != 0 {
            let left = c.bda32(bda::WAIT_COUNT);
            if left > PERIOD_US {
                c.set_bda32(bda::WAIT_COUNT, left - PERIOD_US);
            } else {
                c.set_bda32(bda::WAIT_COUNT, 0);
                c.set_bda8(bda::WAIT_ACTIVE, 0);
                c.set_cmos(0x0b, control & !PERIODIC);
                c.bus.port_out(0x70, 1, 0x0d);
                let pointer = c.bda32(bda::WAIT_POINTER);
                let flag = (pointer >> 16 << 4) + (pointer & 0xffff);
                let old = c.read8(flag);
                c.write8(flag, old | 0x80);
            }
        }
        c.stub_flags(cause & ALARM != 0, false);
        Flow::Done
    }
}

/// 83h: AL = 0 sets bit 7 of ES:BX in CX:DX microseconds, AL = 1 takes that back.
pub(super) fn int15_83_event<P: Platform>(c: &mut Call<'_, P>) {
    let control = c.cmos(0x0b);
    let busy = c.bda8(bda::WAIT_ACTIVE) & 1 != 0;
    match c.al() {
        0 if busy => {
            c.set_ah(0);
            c.bus.port_out(0x70, 1, 0x0d);
            return c.set_cf(true);
        }
        0 => {
            let pointer = u32::from(c.cpu.es.selector) << 16 | u32::from(c.bx());
            c.set_bda32(bda::WAIT_POINTER, pointer);
            c.set_bda32(bda::WAIT_COUNT, u32::from(c.cx()) << 16 | u32::from(c.dx()));
            c.set_bda8(bda::WAIT_ACTIVE, 1);
            c.set_cmos(0x0b, control | PERIODIC);
        }
        1 => {
            c.set_bda8(bda::WAIT_ACTIVE, 0);
            c.set_cmos(0x0b, control & !PERIODIC);
        }
        _ => {
            c.bus.port_out(0x70, 1, 0x0d);
            return super::unsupported(c);
        }
    }
    c.bus.port_out(0x70, 1, 0x0d);
    c.set_ah(0);
    c.set_cf(false);
}
