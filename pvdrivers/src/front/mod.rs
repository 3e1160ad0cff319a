//! Front ends: for guest kernels of ours, and the peers of the back ends in host tests.
//!
//! They own no memory: who uses them gives pages, grants them, and notifies ports. Start at
//! `blk.rs`.

pub mod blk;
pub mod console;
pub mod net;
pub mod screen;
pub mod store;
