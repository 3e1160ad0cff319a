//! Where things are: the repository, what is built, what is downloaded, what failed.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Downloaded packages and the guest media made from them.
pub fn guests() -> PathBuf {
    target().join("guests")
}

/// What failing tests leave behind.
pub fn failures() -> PathBuf {
    target().join("failures")
}

/// Tools that are built here because Debian's version lacks something (Bochs 3).
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Shortens a path for people: relative to where the command was started, where possible.
pub fn show(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
