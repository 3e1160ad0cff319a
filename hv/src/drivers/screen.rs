//! The host's screen.

/// Writes log text.
pub fn write(_text: &str) {}
