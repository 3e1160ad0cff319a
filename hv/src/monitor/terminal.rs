//! COM1: whose bytes are shown, and where typed ones go.

use crate::domain::{backend::Backend, sched::World};
use crate::drivers::serial::COM1;

/// Whether COM1 shows the serial port of guest `id`.
#[must_use]
pub fn shows_serial_of(id: usize) -> bool {
    id == 1
}

/// Bytes of a guest's serial port.
pub fn write_serial(bytes: &[u8]) {
    COM1.write_raw(bytes);
}

/// Takes what was typed.
pub fn step<B: Backend>(world: &'static World<B>) {
    while let Some(byte) = COM1.read() {
        if let Some(domain) = world.domains.first() {
            domain.console.input.lock().push(byte);
        }
    }
}
