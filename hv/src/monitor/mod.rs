//! What people and `xtask` ask for: the console with its escape, the monitor's commands, the control channel.

#[cfg(target_os = "none")]
pub mod channel;
#[cfg(target_os = "none")]
pub mod terminal;

#[cfg(target_os = "none")]
use crate::domain::{backend::Backend, sched::World};

/// Takes input and does what is due. Called on CPU 0 between turns.
#[cfg(target_os = "none")]
pub fn step<B: Backend>(world: &'static World<B>) {
    terminal::step(world);
}
