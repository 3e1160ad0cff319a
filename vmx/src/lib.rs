//! Intel VT-x: a virtual CPU in a VMCS, behind the contract of `arch::vcpu`.
//!
//! `caps` (what the CPU offers) · `field` (VMCS fields) · `controls` (what makes it exit) · `exit`
//! (why it did) · `event` (injection) · `segment` (what entry accepts) · `ept` (second-level
//! entries) · `bitmaps` · `vpid` · `vmcs` · `host` (what exits load) · `cpu` (the vCPU) · `hw` (the
//! world switch, the only unsafe code). "SDM" is Intel's manual, by volume.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod bitmaps;
pub mod caps;
pub mod controls;
pub mod cpu;
pub mod ept;
pub mod event;
pub mod exit;
pub mod field;
pub mod host;
pub mod hw;
pub mod segment;
mod vmcs;
pub mod vpid;

pub use bitmaps::{IoBitmaps, MsrBitmap};
pub use caps::{Caps, Unsupported};
pub use cpu::VmxVcpu;
pub use ept::Ept;
pub use host::HostState;
pub use hw::{Cpu, Frame, Frames, Page, Posting, Tables, detect};
