//! Programs the board's chips as every PC's firmware leaves them, and the interrupt handlers' side of them.

use crate::caller::Call;
use crate::platform::Platform;
use arch::GuestPhys;

/// 8259A pair at 08h and 70h, 8254 at 18.2 Hz, 8237s, 8042, MC146818.
pub(super) fn interrupts_and_timers<P: Platform>(c: &mut Call<'_, P>) {
    let writes: [(u16, u8); 34] = [
        // 8259A "Initialization Command Words"; timer, keyboard, floppy, clock, mouse and disks open.
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x08),
        (0xa1, 0x70),
        (0x21, 0x04),
        (0xa1, 0x02),
        (0x21, 0x01),
        (0xa1, 0x01),
        (0x21, 0xb8),
        (0xa1, 0x2e),
        // Level-triggered PCI interrupts 9, 10 and 11 (PIIX3 "ELCR").
        (0x4d0, 0x00),
        (0x4d1, 0x0e),
        // 8254: counter 0 rate generator over 65536, counter 1 refresh, counter 2 tone.
        (0x43, 0x34),
        (0x40, 0x00),
        (0x40, 0x00),
        (0x43, 0x54),
        (0x41, 0x12),
        (0x43, 0xb6),
        (0x42, 0x00),
        (0x42, 0x00),
        (0x61, 0x00),
        // 8237: reset both, cascade on channel 4.
        (0x0d, 0x00),
        (0xda, 0x00),
        (0xd6, 0xc0),
        (0xd4, 0x00),
        // 8042: self-test, keyboard test, open the keyboard.
        (0x64, 0xaa),
        (0x64, 0xab),
        (0x64, 0xae),
        // Command byte: interrupt 1, system flag, translation; mouse off.
        (0x64, 0x60),
        (0x60, 0x65),
        // MC146818: 32,768 Hz divider, 24-hour clock, no interrupts but those asked for.
        (0x70, 0x8a),
        (0x71, 0x26),
        (0x70, 0x8b),
        (0x71, 0x02),
    ];
    for (port, value) in writes {
        c.bus.port_out(port, 1, value.into());
        if (port, value) == (0x64, 0xaa) || (port, value) == (0x64, 0xab) {
            drain(c);
        }
    }
    let _ = c.cmos(0x0c);
    // The index register also closes NMI with bit 7: open it again.
    c.bus.port_out(0x70, 1, 0x0d);
    drain(c);
    // A20 on, as every later program expects.
    let a20 = c.bus.port_in(0x92, 1) & 0xfc;
    c.bus.port_out(0x92, 1, a20 | 2);
}

/// Virtual wire mode (MP 1.4, "Virtual Wire Mode"): the 8259s reach this processor through LINT0, NMI through
/// LINT1.
pub(super) fn local_apic<P: Platform>(c: &mut Call<'_, P>) {
    for (register, value) in [(0xf0, 0x1ff), (0x350, 0x700), (0x360, 0x400)] {
        c.bus.mem_write(GuestPhys(0xfee0_0000 + register), 4, value);
    }
}

/// Throws away what the 8042 has to say.
fn drain<P: Platform>(c: &mut Call<'_, P>) {
    for _ in 0..32 {
        if c.bus.port_in(0x64, 1) & 1 == 0 {
            return;
        }
        let _ = c.bus.port_in(0x60, 1);
    }
}
