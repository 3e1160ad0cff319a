//! Pseudo-random writes to every port, those that reset and switch off included: whatever becomes
//! of this guest, nobody else notices.

#![no_std]
#![no_main]

use support::{cpu, expect, guest, sweep};

guest!("allports_fatal", main);

fn main() {
    expect("anything");
    cpu::cli();
    sweep::every_port(64, true);
    loop {
        cpu::hlt();
    }
}
