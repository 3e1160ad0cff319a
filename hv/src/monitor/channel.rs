//! The control channel: what docs/control.md says.

use arch::Why;

use crate::domain::{Domain, backend::Backend};

/// Bytes of a guest's serial port.
pub fn serial(_: &str, _: &[u8]) {}

/// What is known of a guest that has failed.
pub fn report<B: Backend>(_: &Domain<B>) {}

/// A guest has ended.
pub fn verdict<B: Backend>(_: &Domain<B>, _: Why) {}
