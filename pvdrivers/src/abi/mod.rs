//! Xen's public headers as types of our own: numbers of calls, and their arguments in both widths.
//!
//! One module per header of `xen/include/public`. An argument is copied from the guest once, as
//! bytes, read by [`Layout::parse`], and written back whole by [`Layout::store`]. Nothing here
//! acts.

pub mod cpuid;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm_op;
pub mod hvm_params;
pub mod layout;
pub mod memory;
pub mod physdev;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use layout::{Layout, Ulong, Width};
pub use xen::Hypercall;
