//! COM1, polled: 115200 bits a second, 8N1. The only way a guest speaks; a PVH guest, which has none, speaks on Xen's
//! console instead.

use crate::port::{in8, out8};
use crate::pvh;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

const COM1: u16 = 0x3f8;

/// Sets the port up.
pub fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b)] {
        out8(COM1 + register, value);
    }
}

/// Sends one byte.
pub fn send(byte: u8) {
    if pvh::start_info().is_some() {
        return pvh::send(byte);
    }
    // A UART that a test has broken must not hang the verdict.
    for _ in 0..1_000_000 {
        if in8(COM1 + 5) & 0x20 != 0 {
            break;
        }
    }
    out8(COM1, byte);
}

/// Waits until the last byte is on the wire.
pub fn drain() {
    if pvh::start_info().is_some() {
        return pvh::drain();
    }
    for _ in 0..1_000_000 {
        if in8(COM1 + 5) & 0x40 != 0 {
            break;
        }
    }
}

struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

static BUSY: AtomicBool = AtomicBool::new(false);

#[doc(hidden)]
pub fn print(args: fmt::Arguments<'_>) {
    // A CPU that stopped in the middle of a line must not silence the others.
    for _ in 0..10_000_000 {
        if !BUSY.swap(true, Ordering::Acquire) {
            break;
        }
        core::hint::spin_loop();
    }
    let _ = Port.write_fmt(args);
    BUSY.store(false, Ordering::Release);
}

/// Prints to COM1.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::serial::print(format_args!($($arg)*)) };
}

/// Prints a line to COM1.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
