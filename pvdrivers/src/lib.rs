//! Xen's guest ABI: event channels, grants, XenStore, back and front ends.
//!
//! Facts come from Xen's public headers (`xen/include/public`), in types of our own. Start at `seam` (what
//! the parts need of each other and of the machine), then the part that you look for.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod abi;
pub mod blkback;
pub mod bridge;
pub mod bus;
pub mod conback;
pub mod errno;
pub mod event;
pub mod fbback;
pub mod front;
pub mod grant;
pub mod kbdback;
pub mod netback;
pub mod ring;
pub mod seam;
pub mod sorted;
pub mod store;

pub use errno::Errno;
pub use seam::{DomId, GrantAccess, GrantRef, Grants, Pinned, Port};
