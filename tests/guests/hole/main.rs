//! What is where nothing is? Reads give all-ones, writes are lost, and code that runs there stops
//! this guest or raises #UD (FFh FFh is no instruction), and nothing else.

#![no_std]
#![no_main]

use support::{attempt, expect, guest, mem, println};

guest!("hole", main);

const HOLE: usize = 0xd000_0000;

fn main() {
    for place in [HOLE, HOLE + 0x123_4567, 0xf123_0000, 0xffef_fff8] {
        let wide: u64 = mem::read(place);
        mem::write(place, 0x1234_5678_9abc_def0u64);
        mem::write(place + 1, 0x55u8);
        let again: u64 = mem::read(place);
        assert_eq!(wide, again, "{place:#x} keeps what is written");
        println!("{place:#x} reads {wide:#x}");
    }
    expect("stop-or-pass");
    // Zeros, which some emulators have there, are `add [rax], al`.
    let result = attempt!("call {place}"; place = in(reg) HOLE, inout("rax") mem::FREE => _);
    println!("running there: {result:?}");
    assert!(result.is_err(), "a hole has code in it");
}
