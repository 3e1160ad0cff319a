//! The disk of the self-check. Its first sector tells the guest what it must find on itself and on
//! the CD, so that the guest needs no other source of truth.

use super::iso::sha256 as sum;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// Sector 0 is the header, 1 the phase; data starts here.
const DATA_START: usize = 8;
const DATA_SECTORS: usize = 8192;
const SCRATCH_SECTORS: usize = 2048;
/// Not a round number of anything, so that geometry mistakes show.
const TOTAL_SECTORS: usize = DATA_START + DATA_SECTORS + SCRATCH_SECTORS + 1007;

/// What each CPU sums up for its load: see `check_cpus` in the guest's script.
const LOAD_BYTES: usize = 256 * 65536;

/// Makes the disk at `place`, for a guest that has `cd` in its drive; empty for none.
pub fn disk(place: &Path, cd: &[u8]) -> Result<PathBuf> {
    ensure!(
        cd.len().is_multiple_of(2048),
        "the CD for {} is not made of whole sectors",
        place.display()
    );
    let mut disk = vec![0; TOTAL_SECTORS * SECTOR];
    fill(&mut disk[DATA_START * SECTOR..]);
    let data = &disk[DATA_START * SECTOR..][..DATA_SECTORS * SECTOR];
    let header = format!(
        "XENOLITH-SELFCHECK cd_sectors={} cd_sha256={} data_start={DATA_START} \
         data_sectors={DATA_SECTORS} data_sha256={} scratch_start={} \
         scratch_sectors={SCRATCH_SECTORS} total_sectors={TOTAL_SECTORS} zero_sha256={}\n",
        cd.len() / 2048,
        sum(cd),
        sum(data),
        DATA_START + DATA_SECTORS,
        sum(&vec![0; LOAD_BYTES]),
    );
    ensure!(header.len() <= SECTOR, "the header does not fit its sector");
    disk[..header.len()].copy_from_slice(header.as_bytes());
    // A run may have it open: it is the same every time.
    super::write_if_changed(place, &disk)?;
    Ok(place.to_owned())
}

/// Bytes without pattern, the same on every run (xorshift64).
pub fn fill(bytes: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_disk_says_truly_what_is_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = fs::read(disk(&dir.path().join("a.disk"), &[3; 4096]).unwrap()).unwrap();
        assert_eq!(disk.len(), TOTAL_SECTORS * SECTOR);
        let header = String::from_utf8_lossy(&disk[..SECTOR]).into_owned();
        let data = sum(&disk[DATA_START * SECTOR..][..DATA_SECTORS * SECTOR]);
        assert!(header.contains(&format!("data_sha256={data}")));
        assert!(header.contains("cd_sectors=2 "));
    }
}
