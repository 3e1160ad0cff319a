//! INT 14h and 17h: serial ports by their 16550s, and printers that are not there.

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

/// 16550 registers.
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;

const READY: u8 = 0x01;
const EMPTY: u8 = 0x20;
const TIMEOUT: u8 = 0x80;

impl Bios {
    pub(crate) fn int14<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let n = c.dx();
        let base = if n < 4 { c.bda16(bda::COM + u32::from(n) * 2) } else { 0 };
        if base == 0 {
            return Flow::Done;
        }
        match c.ah() {
            0x00 => {
                // Bits 7 to 5 the speed from 110 to 9600, 4 to 0 as the line control register.
                const DIVISORS: [u16; 8] = [1047, 768, 384, 192, 96, 48, 24, 12];
                let al = c.al();
                set_line(c, base, DIVISORS[usize::from(al >> 5)], al & 0x1f);
                status(c, base);
            }
            0x01 => return self.send(c, base),
            0x02 => return self.receive(c, base),
            0x03 => status(c, base),
            0x04 => {
                const DIVISORS: [u16; 9] = [1047, 768, 384, 192, 96, 48, 24, 12, 6];
                let divisor = DIVISORS.get(usize::from(c.cl())).copied().unwrap_or(12);
                let parity = [0, 0x08, 0x18, 0x28, 0x38].get(usize::from(c.bh())).copied();
                let line = parity.unwrap_or(0) | (c.bl() & 1) << 2 | (c.ch() & 3);
                let line = line | if c.al() == 1 { 0x40 } else { 0 };
                set_line(c, base, divisor, line);
                status(c, base);
            }
            0x05 => {
                if c.al() == 1 {
                    c.bus.port_out(base + MCR, 1, (c.bl() & 0x1f).into());
                }
                let modem = c.bus.port_in(base + MCR, 1) as u8;
                c.set_bl(modem);
                status(c, base);
            }
            _ => {}
        }
        Flow::Done
    }

    /// Waits for a line status bit, as long as the port's timeout allows. `None`: keep waiting.
    fn line<P: Platform>(&mut self, c: &mut Call<'_, P>, base: u16, bit: u8) -> Option<u8> {
        let line = c.bus.port_in(base + LSR, 1) as u8;
        if line & bit != 0 {
            self.serial_until = None;
            return Some(line & !TIMEOUT);
        }
        let now = c.bus.now();
        let timeout = c.bda8(bda::COM_TIMEOUT + u32::from(c.dx() & 3)).max(1);
        let until = *self.serial_until.get_or_insert(now + u64::from(timeout) * 100_000_000);
        if now < until {
            return None;
        }
        self.serial_until = None;
        Some(line | TIMEOUT)
    }

    fn send<P: Platform>(&mut self, c: &mut Call<'_, P>, base: u16) -> Flow {
        c.bus.port_out(base + MCR, 1, 0x03);
        let Some(line) = self.line(c, base, EMPTY) else { return Flow::Spin };
        if line & TIMEOUT == 0 {
            c.bus.port_out(base, 1, c.al().into());
        }
        c.set_ah(line);
        Flow::Done
    }

    fn receive<P: Platform>(&mut self, c: &mut Call<'_, P>, base: u16) -> Flow {
        c.bus.port_out(base + MCR, 1, 0x01);
        let Some(line) = self.line(c, base, READY) else { return Flow::Spin };
        if line & TIMEOUT == 0 {
            let byte = c.bus.port_in(base, 1) as u8;
            c.set_al(byte);
        }
        c.set_ah(line & 0x9e);
        Flow::Done
    }

    /// INT 17h: no printer. AH = 30h would be "selected, out of paper"; a missing one times out.
    pub(crate) fn int17<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        if c.ah() <= 2 {
            c.set_ah(0x01);
        }
        Flow::Done
    }

    /// INT 05h: print screen fails, as without a printer; 50:0 says so.
    pub(crate) fn int05<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        c.write8(0x500, 0xff);
        Flow::Done
    }
}

fn set_line<P: Platform>(c: &mut Call<'_, P>, base: u16, divisor: u16, line: u8) {
    c.bus.port_out(base + LCR, 1, u32::from(line) | 0x80);
    c.bus.port_out(base, 1, (divisor & 0xff).into());
    c.bus.port_out(base + 1, 1, (divisor >> 8).into());
    c.bus.port_out(base + LCR, 1, line.into());
    c.bus.port_out(base + 1, 1, 0);
}

/// AH line status, AL modem status.
fn status<P: Platform>(c: &mut Call<'_, P>, base: u16) {
    let line = c.bus.port_in(base + LSR, 1) as u8;
    c.set_ah(line & !TIMEOUT);
    let modem = c.bus.port_in(base + MSR, 1) as u8;
    c.set_al(modem);
}

#[cfg(test)]
mod tests {
    use crate::rom::Service;
    use crate::testing::{Guest, Mock};
    use arch::Nanos;

    #[test]
    fn a_character_goes_out_when_the_port_is_empty_and_times_out_when_it_never_is() {
        let mut g = Guest::new(Mock::new());
        g.bus.ins.insert(0x3fd, 0x60);
        let _ = g.set(0x0141, 0, 0, 0).int(Service::Int14);
        assert_eq!((g.ax(), g.bus.outs.last()), (0x6041, Some(&(0x3f8, 1, 0x41))));
        g.bus.ins.insert(0x3fd, 0);
        let _ = g.set(0x0141, 0, 0, 0).int(Service::Int14);
        assert!(g.cf() && g.zf(), "the stub asks again without halting");
        g.bus.time = Nanos(2_000_000_000);
        let _ = g.set(0x0141, 0, 0, 0).int(Service::Int14);
        assert_eq!(g.ax(), 0x8041);
    }

    #[test]
    fn speed_and_format_reach_the_chip() {
        let mut g = Guest::new(Mock::new());
        let _ = g.set(0x00e3, 0, 0, 1).int(Service::Int14);
        assert_eq!(
            g.bus.outs,
            [(0x2fb, 1, 0x83), (0x2f8, 1, 12), (0x2f9, 1, 0), (0x2fb, 1, 3), (0x2f9, 1, 0)]
        );
    }

    #[test]
    fn a_character_that_came_is_received_and_the_lines_are_told() {
        let mut g = Guest::new(Mock::new());
        g.bus.ins.extend([(0x3fd, 0x61), (0x3f8, 0x5a), (0x3fe, 0xb0)]);
        let _ = g.set(0x0200, 0, 0, 0).int(Service::Int14);
        assert_eq!(g.ax(), 0x005a);
        let _ = g.set(0x0300, 0, 0, 0).int(Service::Int14);
        assert_eq!(g.ax(), 0x61b0);
        let _ = g.set(0x0300, 0, 0, 3).int(Service::Int14);
        assert_eq!(g.ax(), 0x0300, "there is no fourth port");
    }

    #[test]
    fn the_extended_calls_set_19200_baud_and_the_modem_lines() {
        let mut g = Guest::new(Mock::new());
        // Even parity, two stop bits, seven bits, 19,200 baud.
        let _ = g.set(0x0400, 0x0201, 0x0208, 0).int(Service::Int14);
        assert_eq!(
            g.bus.outs,
            [(0x3fb, 1, 0x9e), (0x3f8, 1, 6), (0x3f9, 1, 0), (0x3fb, 1, 0x1e), (0x3f9, 1, 0)]
        );
        g.bus.outs.clear();
        g.bus.ins.insert(0x3fc, 3);
        let _ = g.set(0x0501, 0x0003, 0, 0).int(Service::Int14);
        assert_eq!((g.bx() & 0xff, &g.bus.outs[..]), (3, &[(0x3fc, 1, 3)][..]));
        g.bus.outs.clear();
        let _ = g.set(0x0500, 0, 0, 0).int(Service::Int14);
        assert_eq!((g.bx() & 0xff, g.bus.outs.len()), (3, 0));
    }

    #[test]
    fn printers_are_not_there() {
        let mut g = Guest::new(Mock::new());
        for function in 0..3 {
            let _ = g.set(function << 8 | 0x41, 0, 0, 0).int(Service::Int17);
            assert_eq!(g.ax(), 0x0141, "a time-out");
        }
        let _ = g.set(0x0300, 0, 0, 0).int(Service::Int17);
        assert_eq!(g.ax(), 0x0300);
        let _ = g.int(Service::Int05);
        assert_eq!(g.bus.bytes(0x500, 1), [0xff], "the screen was not printed");
    }
}
