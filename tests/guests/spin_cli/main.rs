//! Can a guest that spins with interrupts closed be stopped, and does it leave the others their
//! time?

#![no_std]
#![no_main]

use support::{cpu, expect, guest};

guest!("spin_cli", main);

fn main() {
    expect("spin");
    cpu::cli();
    loop {
        core::hint::spin_loop();
    }
}
