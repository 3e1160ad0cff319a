//! Writes to every port, for the guests that do that.

use crate::acpi;
use crate::port::{in8, in16, in32, out8, out16, out32};
use crate::random::Random;

/// Ports that may end the machine by right, or take memory away: the 8042's command port, port 92h,
/// CF8h to CFFh, Bochs' shutdown port, and the power management block.
fn ends_the_machine(port: u16, control: u16) -> bool {
    matches!(port, 0x64 | 0x92 | 0xcf8..=0xcff | 0x8900 | 0x604 | 0xb004 | 0x80a4)
        || (control & 0xffc0..=control | 0x3f).contains(&port)
}

/// Reads and writes every port in every width, `rounds` times; `all` includes those that end the
/// machine by right.
pub fn every_port(rounds: u32, all: bool) {
    let mut random = Random::new(0x5eed);
    let (control, _) = acpi::switch_off().unwrap_or((0x604, 0));
    for _ in 0..rounds {
        for port in 0..=u16::MAX {
            let span = [port, port.wrapping_add(1), port.wrapping_add(2), port.wrapping_add(3)];
            if !all && span.into_iter().any(|port| ends_the_machine(port, control)) {
                continue;
            }
            let value = random.next();
            match value >> 61 {
                0 => {
                    in8(port);
                }
                1 => {
                    in16(port);
                }
                2 => {
                    in32(port);
                }
                3 | 4 => out8(port, value as u8),
                5 | 6 => out16(port, value as u16),
                _ => out32(port, value as u32),
            }
        }
    }
}
