//! One guest computer: memory map, board wiring, and the exit match.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod insn;
