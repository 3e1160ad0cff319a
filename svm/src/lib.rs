//! AMD SVM: a virtual CPU in a VMCB, behind the contract of `arch::vcpu`.
//!
//! `caps` (what the CPU offers) · `vmcb` (layout) · `intercept` (what makes it exit) · `exit` (why
//! it did) · `inject` (events) · `npt` (second-level entries) · `bitmaps` · `asid` · `cpu` (the
//! vCPU) · `hw` (the world switch, the only unsafe code). "APM2" is AMD's manual, volume 2.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod asid;
pub mod bitmaps;
pub mod caps;
pub mod cpu;
pub mod exit;
pub mod hw;
pub mod inject;
pub mod intercept;
pub mod npt;
pub mod vmcb;

pub use bitmaps::{Iopm, Msrpm};
pub use caps::{Caps, Unsupported};
pub use cpu::SvmVcpu;
pub use hw::{Cpu, Frame, Page, Tables, detect};
pub use npt::Npt;
pub use vmcb::Vmcb;
