//! Does a triple fault end this guest, and nothing else?

#![no_std]
#![no_main]

use core::arch::asm;
use support::{expect, guest};

guest!("triplefault", main);

fn main() {
    expect("triple-fault");
    let nothing = [0u8; 10];
    // SAFETY: there is no way on from here: that is the question.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const nothing, options(noreturn)) };
}
