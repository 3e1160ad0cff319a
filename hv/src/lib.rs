//! The bare-metal core: boot, memory, CPUs, timers, drivers; and what runs guests on top of it.
//! `start.rs` shows the order of things, `launch` what comes then. What is pure is tested on the host
//! with `cargo test -p hv`.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "what the assembly calls has no caller in host tests")
)]

// UNSAFETY: takes the addresses of the linker script's symbols.

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod boot;
pub mod config;
pub mod cpu;
#[cfg(target_os = "none")]
pub mod domain;
pub mod drivers;
#[cfg(target_os = "none")]
pub mod launch;
pub mod log;
pub mod mem;
pub mod monitor;
#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
pub mod selftest;

/// The image's parts, from the linker script; `None` in host tests.
#[must_use]
pub fn image() -> Option<mem::paging::Image> {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static __image_start: u8;
            static __text_start: u8;
            static __text_end: u8;
            static __rodata_end: u8;
            static __boot_stack_guard: u8;
            static __image_end: u8;
        }
        let address = |symbol: *const u8| symbol.expose_provenance() as u64;
        Some(mem::paging::Image {
            start: address(&raw const __image_start),
            text: address(&raw const __text_start),
            text_end: address(&raw const __text_end),
            rodata_end: address(&raw const __rodata_end),
            guard: address(&raw const __boot_stack_guard),
            end: address(&raw const __image_end),
        })
    }
    #[cfg(not(target_os = "none"))]
    None
}
