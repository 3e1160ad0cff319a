//! Xen's guest ABI: event channels, grants, XenStore, back and front ends. Empty so far; the
//! place is kept so that the arrows between crates are settled (docs/architecture.md).
#![no_std]
#![forbid(unsafe_code)]
