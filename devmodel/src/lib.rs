//! The PC's chips as pure state machines: registers in, pins out, time as an argument.
//!
//! A chip owns no lock, clock, bus address, neighbour or allocator; `machine` wires them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpipm;
pub mod apicmsg;
pub mod atapi;
pub mod blk;
pub mod cpuhp;
pub mod debugcon;
pub mod dma;
pub mod e1000;
pub mod fdc;
pub mod fwcfg;
pub mod hpet;
pub mod ide;
pub mod ioapic;
pub mod kbc;
pub mod lapic;
pub mod net;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod port92;
pub mod ps2;
pub mod ps2kbd;
pub mod ps2mouse;
pub mod reset;
pub mod rtc;
pub mod rtl8139;
pub mod state;
#[cfg(test)]
mod testing;
pub mod uart;
pub mod vga;
pub mod xenplat;

pub use state::LoadError;
