//! A disk with an empty ext4 file system for a guest to fill, and what must hold of it after the guest was
//! ended in the middle of its work: e2fsck finds nothing that the journal does not mend, and the files that
//! the guest had synced are whole.

use super::iso::hex;
use super::media_dir;
use crate::exec::{output, run};
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE_MIB: u64 = 128;
/// The file in which the guest lists what it has synced, as `sha256sum` prints it.
const SUMS: &str = "SUMS";

/// Makes the disk anew: what an earlier run left would prove nothing.
pub fn disk(offline: bool) -> Result<PathBuf> {
    crate::setup::ensure(&[crate::setup::Need::DiskImage], offline)?;
    let place = media_dir()?.join("ext4.img");
    if place.exists() {
        fs::remove_file(&place)?;
    }
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "filled"])
        .arg(&place)
        .arg(format!("{SIZE_MIB}M")))?;
    Ok(place)
}

/// Checks a disk as a machine would that starts with it after a power cut; what was found.
///
/// # Errors
/// What is wrong with it.
pub fn check(disk: &Path) -> Result<String> {
    // Status 1 says that something was mended: the journal was replayed.
    let preen = Command::new("e2fsck").arg("-p").arg(disk).output()?;
    let words = String::from_utf8_lossy(&preen.stdout).into_owned();
    ensure!(matches!(preen.status.code(), Some(0 | 1)), "e2fsck -p cannot mend it: {words}");
    ensure!(
        words.contains("recovering journal"),
        "the journal was clean, so it was at rest: {words}"
    );
    let full = Command::new("e2fsck").args(["-f", "-n"]).arg(disk).output()?;
    if full.status.code() != Some(0) {
        bail!("e2fsck finds errors: {}", String::from_utf8_lossy(&full.stdout));
    }
    let dir = tempfile::tempdir()?;
    let dump = format!("rdump / {}", dir.path().display());
    output(Command::new("debugfs").args(["-R", &dump]).arg(disk))?;
    let count = compare(dir.path())?;
    Ok(format!("{count} synced files are whole"))
}

/// Compares the files below a directory with the list there; how many they are.
fn compare(dir: &Path) -> Result<usize> {
    let list = fs::read_to_string(dir.join(SUMS)).context("the list of synced files is missing")?;
    for line in list.lines() {
        let (sum, name) = line.split_once("  ").context("the list of synced files is damaged")?;
        let data = fs::read(dir.join(name)).with_context(|| format!("{name} is missing"))?;
        ensure!(hex(&Sha256::digest(&data)) == sum, "{name} is not what was synced");
    }
    ensure!(!list.is_empty(), "no file was synced");
    Ok(list.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_was_synced_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(compare(dir.path()).is_err());
        fs::write(dir.path().join("a"), b"text").unwrap();
        let list = format!("{}  a\n", hex(&Sha256::digest(b"text")));
        fs::write(dir.path().join(SUMS), &list).unwrap();
        assert_eq!(compare(dir.path()).unwrap(), 1);
        fs::write(dir.path().join("a"), b"test").unwrap();
        assert!(compare(dir.path()).unwrap_err().to_string().contains("not what was synced"));
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(compare(dir.path()).unwrap_err().to_string().contains("missing"));
    }
}
