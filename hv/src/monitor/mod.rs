//! What people and `xtask` ask for: the console with its escape, the monitor's commands, the
//! control channel.
//!
//! `terminal` (COM1 and the host's keyboard), `command` (the monitor's commands), `channel` (COM2),
//! `inspect` (a vCPU from outside), `display` (screens), `lifecycle` (shutdown, vCPUs), `media` (drives), `typing` (keys on their way). All of it
//! runs on CPU 0 between turns, a bounded piece at a time.

pub mod keys;
pub mod text;

#[cfg(target_os = "none")]
pub mod channel;
#[cfg(target_os = "none")]
pub mod command;
#[cfg(target_os = "none")]
pub mod display;
#[cfg(target_os = "none")]
pub mod inspect;
#[cfg(target_os = "none")]
pub mod lifecycle;
#[cfg(target_os = "none")]
pub mod media;
#[cfg(target_os = "none")]
pub mod terminal;
#[cfg(target_os = "none")]
pub mod typing;

#[cfg(target_os = "none")]
use {
    crate::domain::{backend::Backend, console, sched::World},
    crate::drivers,
    core::sync::atomic::{AtomicBool, Ordering},
};

/// Takes input and does what is due. Called on CPU 0 between turns, interrupts closed.
#[cfg(target_os = "none")]
pub fn step<B: Backend>(world: &'static World<B>) {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if !STARTED.swap(true, Ordering::Relaxed) {
        drivers::set_input_hook(console::want);
        crate::log::set_sink(terminal::log_line);
        display::init();
    }
    channel::step(world);
    terminal::step(world);
    for domain in &world.domains {
        typing::step(domain);
    }
    display::step(world);
}
