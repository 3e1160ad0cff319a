//! Does the machine survive pseudo-random writes to every port but those that end it by right?

#![no_std]
#![no_main]

use support::{cpu, guest, serial, sweep};

guest!("allports", main);

fn main() {
    cpu::cli();
    sweep::every_port(2, false);
    serial::init();
}
