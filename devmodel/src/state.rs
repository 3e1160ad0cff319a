//! Why a saved state is refused. Each chip has its own versioned state struct beside it.

/// Why a chip's `load` refused a saved state. The chip is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The state was written by another version of this model.
    Version,
    /// The state holds a value that no chip could hold; names the field.
    Impossible(&'static str),
}

/// Refuses with [`LoadError::Impossible`] unless `possible`.
///
/// # Errors
/// `Impossible(field)` when `possible` is false.
pub const fn require(possible: bool, field: &'static str) -> Result<(), LoadError> {
    if possible { Ok(()) } else { Err(LoadError::Impossible(field)) }
}
