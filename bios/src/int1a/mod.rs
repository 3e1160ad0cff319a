//! INT 1Ah: ticks, clock, date, alarm, and the PCI BIOS.

pub(crate) mod pci;
#[cfg(test)]
mod pci_tests;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

/// MC146818 status B: set, alarm interrupt, binary.
const SET: u8 = 0x80;
const ALARM: u8 = 0x20;
const BINARY: u8 = 0x04;
/// CMOS: century.
const CENTURY: u8 = 0x32;

impl Bios {
    pub(crate) fn int1a<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x00 => {
                let ticks = c.bda32(bda::TICKS);
                c.set_cx((ticks >> 16) as u16);
                c.set_dx(ticks as u16);
                let days = c.bda8(bda::MIDNIGHT);
                c.set_al(days);
                c.set_bda8(bda::MIDNIGHT, 0);
            }
            0x01 => {
                c.set_bda32(bda::TICKS, u32::from(c.cx()) << 16 | u32::from(c.dx()));
                c.set_bda8(bda::MIDNIGHT, 0);
            }
            0x02 => {
                let [hours, minutes, seconds] = [4, 2, 0].map(|index| bcd(c, index));
                c.set_cx(u16::from_be_bytes([hours, minutes]));
                let daylight = c.cmos(0x0b) & 1;
                c.set_dx(u16::from_be_bytes([seconds, daylight]));
            }
            0x03 => {
                let daylight = c.dl() & 1;
                with_clock_stopped(c, |c| {
                    let values = [(4, c.ch()), (2, c.cl()), (0, c.dh())];
                    for (index, value) in values {
                        set_bcd(c, index, value);
                    }
                });
                let control = c.cmos(0x0b) & !1;
                c.set_cmos(0x0b, control | daylight);
            }
            0x04 => {
                let [century, year, month, day] = [CENTURY, 9, 8, 7].map(|index| bcd(c, index));
                c.set_cx(u16::from_be_bytes([century, year]));
                c.set_dx(u16::from_be_bytes([month, day]));
            }
            0x05 => with_clock_stopped(c, |c| {
                let values = [(CENTURY, c.ch()), (9, c.cl()), (8, c.dh()), (7, c.dl())];
                for (index, value) in values {
                    set_bcd(c, index, value);
                }
            }),
            0x06 => {
                let control = c.cmos(0x0b);
                if control & ALARM != 0 {
                    c.set_ax(0);
                    c.set_cf(true);
                    return Flow::Done;
                }
                let values = [(5, c.ch()), (3, c.cl()), (1, c.dh())];
                for (index, value) in values {
                    set_bcd(c, index, value);
                }
                c.set_cmos(0x0b, (control & !SET) | ALARM);
                open_nmi(c);
            }
            0x07 => {
                let control = c.cmos(0x0b);
                c.set_cmos(0x0b, control & !ALARM);
                open_nmi(c);
            }
            0xb1 => {
                self.pci_bios(c, false);
                return Flow::Done;
            }
            _ => {
                c.set_cf(true);
                return Flow::Done;
            }
        }
        if c.ah() >= 2 {
            open_nmi(c);
            c.set_ah(0);
        }
        c.set_cf(false);
        Flow::Done
    }
}

/// Bit 7 of the index port closes NMI; CMOS accesses leave it open behind them.
fn open_nmi<P: Platform>(c: &mut Call<'_, P>) {
    c.bus.port_out(0x70, 1, 0x0d);
}

/// A clock register in BCD, whichever form the clock keeps.
fn bcd<P: Platform>(c: &mut Call<'_, P>, index: u8) -> u8 {
    let value = c.cmos(index);
    if index != CENTURY && c.cmos(0x0b) & BINARY != 0 {
        return ((value / 10 % 10) << 4) | (value % 10);
    }
    value
}

fn set_bcd<P: Platform>(c: &mut Call<'_, P>, index: u8, value: u8) {
    let binary = index != CENTURY && c.cmos(0x0b) & BINARY != 0 && value < 0xc0;
    let value = if binary { (value >> 4) * 10 + (value & 15) } else { value };
    c.set_cmos(index, value);
}

fn with_clock_stopped<P: Platform>(c: &mut Call<'_, P>, work: impl FnOnce(&mut Call<'_, P>)) {
    let control = c.cmos(0x0b) & !SET;
    c.set_cmos(0x0b, control | SET);
    work(c);
    c.set_cmos(0x0b, control);
}

#[cfg(test)]
mod tests {
    use crate::rom::Service;
    use crate::testing::{Guest, Mock};

    fn call(g: &mut Guest, ax: u16, cx: u16, dx: u16) {
        let _ = g.set(ax, 0, cx, dx).int(Service::Int1A);
    }

    #[test]
    fn ticks_are_read_with_the_midnight_flag_once() {
        let mut g = Guest::new(Mock::new());
        g.bus.put(0x46c, &(crate::irq::DAY - 1).to_le_bytes());
        let _ = g.trap(Service::Tick);
        let _ = g.trap(Service::Tick);
        call(&mut g, 0x0000, 0, 0);
        assert_eq!((g.cx(), g.dx(), g.ax() & 0xff), (0, 1, 1));
        call(&mut g, 0x0000, 0, 0);
        assert_eq!(g.ax() & 0xff, 0);
    }

    #[test]
    fn time_and_date_are_bcd_whichever_form_the_clock_keeps() {
        let mut g = Guest::new(Mock::new());
        call(&mut g, 0x0500, 0x2026, 0x1122);
        call(&mut g, 0x0300, 0x2359, 0x5800);
        call(&mut g, 0x0400, 0, 0);
        assert_eq!((g.cx(), g.dx(), g.cf()), (0x2026, 0x1122, false));
        call(&mut g, 0x0200, 0, 0);
        assert_eq!((g.cx(), g.dx()), (0x2359, 0x5800));
        g.bus.cmos[0x0b] |= 4;
        call(&mut g, 0x0300, 0x2359, 0x5800);
        assert_eq!((g.bus.cmos[4], g.bus.cmos[2]), (23, 59));
        call(&mut g, 0x0200, 0, 0);
        assert_eq!(g.cx(), 0x2359);
    }

    #[test]
    fn an_alarm_can_be_set_once_and_reset() {
        let mut g = Guest::new(Mock::new());
        call(&mut g, 0x0600, 0x0102, 0x0300);
        assert!(!g.cf());
        call(&mut g, 0x0600, 0x0102, 0x0300);
        assert!(g.cf());
        call(&mut g, 0x0700, 0, 0);
        call(&mut g, 0x0600, 0x0102, 0x0300);
        assert!(!g.cf());
    }
}
