//! Guest firmware: a ROM of small 16-bit stubs, and behind them INT services, POST and tables in Rust.
//!
//! A stub traps by an `OUT` to [`TRAP_PORT`]; the machine hands the vCPU's registers to [`Bios::call`] and
//! takes them back. Start reading at [`rom`], then `dispatch`, then any `int*`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bda;
mod boot;
mod caller;
mod dispatch;
pub mod e820;
pub mod fonts;
mod int10;
mod int13;
mod int14;
mod int15;
mod int16;
mod int1a;
mod irq;
mod mem;
pub mod platform;
mod post;
pub mod rom;
mod saved;
mod tables;
#[cfg(test)]
mod testing;
pub mod vgamodes;

pub use caller::{Caller, Outcome};
pub use dispatch::Bios;
pub use platform::{
    AtaPlace, BLOCK, BiosConfig, BiosDisk, BootDevice, Chs, DiskError, DiskInfo, DiskKind,
    DiskRequest, DiskStatus, MemRun, Platform,
};
pub use post::mtrr::memory_types;
pub use post::pci::PM_BASE;
pub use rom::{ROM, ROM_BASE, Service, TRAP_PORT, service_at};
pub use saved::BadState;
pub use tables::{Pointer, Tables, pvh_tables};
