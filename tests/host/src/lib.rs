//! Host stories: a whole machine with a scripted CPU. Deterministic, replayable by seed, no
//! emulator.
//!
//! [`Guest`] is the machine with its vCPUs and the world around it; [`MockCpu`] stands for VMCB or
//! VMCS,
//! [`MockHost`] for the hypervisor. [`fuzz`] has the entry points that `tests/fuzz` and the seeded
//! smoke runner share.
#![forbid(unsafe_code)]

pub mod compat;
mod cpu;
pub mod fuzz;
mod guest;
mod host;
pub mod peers;
mod rng;
pub mod xen;

pub use cpu::MockCpu;
pub use guest::{Guest, Mode, Setup, TABLES, host_cpuid};
pub use host::{Call, MockHost};
pub use rng::Rng;
