//! The end.

use crate::port::{in16, out8, out16};
use crate::{acpi, cpu, pvh, serial};

/// Switches off; halts for ever where that does nothing.
pub fn off() -> ! {
    cpu::cli();
    serial::drain();
    if pvh::start_info().is_some() {
        pvh::off();
    }
    if let Some((port, kind)) = acpi::switch_off() {
        out16(port, in16(port) & !0x1c00 | kind << 10 | 0x2000);
    }
    // QEMU's `pc`, then Bochs, where the tables said nothing.
    out16(0x604, 0x2000);
    out16(0xb004, 0x2000);
    for byte in *b"Shutdown" {
        out8(0x8900, byte);
    }
    loop {
        cpu::cli();
        cpu::hlt();
    }
}
