//! x86 facts that both vendors share, and the contract with a CPU.
//!
//! Start at `vcpu` (the contract) and `exit` (why a guest stopped); then `ram`, `paging` (the
//! guest's own walk), `slat` (the second-level table).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod access;
pub mod addr;
pub mod apicpage;
pub mod control;
pub mod event;
pub mod exit;
pub mod gprs;
pub mod page;
pub mod paging;
pub mod posted;
pub mod ram;
pub mod segment;
pub mod slat;
pub mod time;
pub mod vcpu;

pub use access::{Access, Perm};
pub use addr::{GuestPhys, GuestVirt, HostPhys};
pub use apicpage::{ApicMode, ApicPage};
pub use event::{Event, EventKind, Fault};
pub use exit::Exit;
pub use gprs::{Gpr, Gprs};
pub use page::SharedPage;
pub use paging::{Paging, Translation};
pub use posted::Posted;
pub use ram::GuestRam;
pub use segment::{SegReg, Segment};
pub use slat::{FrameStore, MemType, PageSize, Slat};
pub use time::Nanos;
pub use vcpu::{Blocking, Resume, SysReg, Vcpu, Why};
