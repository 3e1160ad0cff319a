//! Does each vCPU keep its own x87 and SSE registers while others use theirs?

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::{cpu, guest, port, println, smp};

guest!("fpu", main);

static WRONG: AtomicU32 = AtomicU32::new(0);
static ROUNDS: [AtomicU32; 16] = [const { AtomicU32::new(0) }; 16];

const TURNS: u32 = 2000;

#[repr(C, align(16))]
struct Area([u8; 512]);

/// Loads patterns, gives others time, compares.
fn work(number: usize) {
    let mut image = Area([0; 512]);
    // SAFETY: CR0 and CR4 allow it; the compiler uses none of these registers.
    unsafe { asm!("fninit", "fxsave64 [{}]", in(reg) &raw mut image) };
    for turn in 0..TURNS {
        let seed = number as u8 ^ (turn as u8).wrapping_mul(29);
        for (index, byte) in image.0[160..416].iter_mut().enumerate() {
            *byte = seed.wrapping_add(index as u8);
        }
        for register in 0..8 {
            // 64 bits of mantissa with the top bit set, and the exponent of 1.
            for index in 0..8 {
                image.0[32 + register * 16 + index] =
                    seed.wrapping_mul(3).wrapping_add(index as u8);
            }
            image.0[32 + register * 16 + 7] |= 0x80;
            image.0[32 + register * 16 + 8] = 0xff;
            image.0[32 + register * 16 + 9] = 0x3f;
        }
        image.0[4] = 0xff;
        let mut after = Area([0; 512]);
        // SAFETY: as above; the images are ours.
        unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const image) };
        for _ in 0..1 + turn % 40 {
            port::in8(0x80);
            core::hint::spin_loop();
        }
        // SAFETY: as above.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut after) };
        if image.0[32..416] != after.0[32..416] {
            WRONG.fetch_add(1, Relaxed);
        }
        ROUNDS[number].fetch_add(1, Relaxed);
    }
}

fn main() {
    assert!(cpu::cpuid(1, 0)[3] & 1 << 24 != 0, "no FXSAVE");
    let count = smp::start();
    println!("{count} CPUs");
    for number in 1..count {
        smp::run(number, work);
    }
    work(0);
    for number in 1..count {
        assert!(smp::wait(number, 60_000), "CPU {number} does not finish");
    }
    let wrong = WRONG.load(Relaxed);
    assert_eq!(wrong, 0, "times that registers have changed");
}
