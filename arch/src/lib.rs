//! x86 facts that both vendors share, and the contract with a CPU.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod time;

pub use time::Nanos;
