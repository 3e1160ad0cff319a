//! Does a guest that floods its serial port, ready or not, slow only itself?

#![no_std]
#![no_main]

use support::port::{in8, out8};
use support::random::Random;
use support::{cpu, guest, println, serial};

guest!("uartflood", main);

const COM1: u16 = 0x3f8;

fn main() {
    cpu::cli();
    // A quarter of a mebibyte without one look at the line status.
    for n in 0..262_144u32 {
        out8(COM1, if n % 64 == 63 { b'\n' } else { b'A' + (n % 26) as u8 });
    }
    // Then in loopback, with the FIFO on, off and reset in between, and every divisor.
    let mut random = Random::new(16550);
    for _ in 0..20_000 {
        let value = random.next();
        let register = (value >> 8) as u16 & 7;
        out8(COM1 + 4, 0x10 | value as u8 & 0xf);
        out8(COM1 + register, (value >> 16) as u8 | if register == 4 { 0x10 } else { 0 });
        in8(COM1 + ((value >> 24) as u16 & 7));
    }
    serial::init();
    println!();
    println!("the flood is over");
}
