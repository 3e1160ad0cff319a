//! Does the machine survive pseudo-random accesses to every PCI register of every function?

#![no_std]
#![no_main]

use support::pci::{self, Function};
use support::port::{in8, in16, in32, out8, out16, out32};
use support::random::Random;
use support::{cpu, guest, println};

guest!("allpci", main);

fn main() {
    cpu::cli();
    let mut random = Random::new(0x9c1);
    let mut count = 0;
    for function in pci::all() {
        let before: [u32; 64] = core::array::from_fn(|index| function.read(index as u8 * 4));
        for register in (0..=252u8).step_by(4) {
            for value in [u32::MAX, 0, random.next() as u32, 0xaaaa_aaaa] {
                function.write(register, value);
                let _ = function.read(register);
                // Back at once: a moved window must not stay over something that we need.
                function.write(register, before[usize::from(register / 4)]);
            }
        }
        for _ in 0..200 {
            let register = random.next() as u8;
            narrow(function, register, random.next());
            function.write(register & 0xfc, before[usize::from(register / 4)]);
        }
        for (index, value) in before.iter().enumerate() {
            function.write(index as u8 * 4, *value);
        }
        assert_eq!(function.read(0), before[0], "the identifiers of {function:?} have changed");
        count += 1;
    }
    // Addresses of which most do not exist, in all widths, with and without the enable bit.
    for _ in 0..20_000 {
        let value = random.next();
        out32(0xcf8, (value >> 32) as u32 & 0xff00_ffff | 0x10_0000 * (value as u32 & 7) | 0xf800);
        match value >> 60 & 7 {
            0 => out8(0xcfc + (value as u16 & 3), 0),
            1 => out16(0xcfc + (value as u16 & 2), 0),
            2 => {
                in8(0xcf8 + (value as u16 & 7));
            }
            3 => {
                in16(0xcf8 + (value as u16 & 7));
            }
            _ => {
                in32(0xcfc);
            }
        }
    }
    println!("functions: {count}");
    assert!(count > 0, "there is no PCI");
    assert_eq!(pci::all().count(), count, "functions have gone or come");
}

/// One access of one or two bytes.
fn narrow(function: Function, register: u8, value: u64) {
    function.read(register);
    let port = 0xcfc + u16::from(register & 3);
    match value & 3 {
        0 => out8(port, (value >> 8) as u8),
        1 => out16(port & !1, (value >> 8) as u16),
        2 => {
            in8(port);
        }
        _ => {
            in16(port & !1);
        }
    }
}
