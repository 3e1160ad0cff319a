//! The guest kernels of `tests/guests`: built like the hypervisor, written as floppy images that also
//! boot as hard disks.

use crate::exec::say;
use crate::run::Usage;
use crate::{build, exec, paths};
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::fs;
use std::path::PathBuf;

/// A 1.44M floppy.
const FLOPPY: usize = 2880 * 512;

/// Where the image's first byte is loaded.
const BASE: u64 = 0x7c00;

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Bin>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

/// The guests' names.
pub fn names() -> Result<Vec<String>> {
    let place = paths::root().join("tests/guests/Cargo.toml");
    let text = fs::read_to_string(&place).with_context(|| paths::show(&place))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| paths::show(&place))?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

/// Builds one guest and gives its floppy image.
pub fn image(name: &str, offline: bool) -> Result<PathBuf> {
    let floppy = floppy(&build(name, offline)?)?;
    write(&format!("{name}.img"), &floppy)
}

/// Builds one guest and gives the executable itself.
pub fn kernel(name: &str, offline: bool) -> Result<PathBuf> {
    write(&format!("{name}.elf"), &build(name, offline)?)
}

/// Builds a program for Linux guests (`tests/programs`): static, without libc.
pub fn program(name: &str, offline: bool) -> Result<Vec<u8>> {
    let dir = paths::root().join("tests/programs");
    let mut bare = build::cargo_bare(&dir, &dir.join("link.ld"), "programs", offline)?;
    say(format!("building the program {name} for Linux guests"));
    exec::show(bare.cargo.args(["--bin", name])).context("the program does not build")?;
    Ok(fs::read(bare.out.join(name))?)
}

/// Builds one guest; its executable.
fn build(name: &str, offline: bool) -> Result<Vec<u8>> {
    let names = names()?;
    if !names.iter().any(|known| known == name) {
        let names = names.join(", ");
        bail!(Usage(anyhow!("there is no guest `{name}` in tests/guests; there are: {names}")));
    }
    let dir = paths::root().join("tests/guests");
    let mut bare = build::cargo_bare(&dir, &dir.join("link.ld"), "guest-kernels", offline)?;
    say(format!("building the guest kernel {name}"));
    exec::show(bare.cargo.args(["--bin", name])).context("the guest kernel does not build")?;
    Ok(fs::read(bare.out.join(name))?)
}

fn write(name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let out = paths::guests().join("own");
    fs::create_dir_all(&out)?;
    let place = out.join(name);
    super::write_if_changed(&place, bytes)?;
    Ok(place)
}

/// Lays the loadable segments of an ELF64 file out as the boot sector and what follows it.
fn floppy(elf: &[u8]) -> Result<Vec<u8>> {
    let field = |at: usize, len: usize| -> Result<u64> {
        let part = elf.get(at..at + len).context("the ELF file ends early")?;
        Ok(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        bail!("not an ELF64 file");
    }
    let mut floppy = vec![0; FLOPPY];
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    for index in 0..count {
        let entry = usize::try_from(table + index * size)?;
        // PT_LOAD
        if field(entry, 4)? != 1 {
            continue;
        }
        let from = usize::try_from(field(entry + 8, 8)?)?;
        let address = field(entry + 24, 8)?;
        let len = usize::try_from(field(entry + 32, 8)?)?;
        let to = address.checked_sub(BASE).context("a segment lies below the boot sector")?;
        let to = usize::try_from(to)?;
        let part = elf.get(from..from + len).context("the ELF file ends early")?;
        let place = floppy.get_mut(to..to + len).context("it is larger than a floppy")?;
        place.copy_from_slice(part);
    }
    if floppy[510..512] != [0x55, 0xaa] {
        bail!("its boot sector has no signature");
    }
    Ok(floppy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_has_its_folder() {
        for name in names().unwrap() {
            let main = paths::root().join("tests/guests").join(&name).join("main.rs");
            assert!(main.exists(), "{}", main.display());
        }
    }

    #[test]
    fn what_is_no_elf_or_has_no_boot_sector_is_refused() {
        assert!(floppy(b"MZ").is_err());
        assert!(floppy(b"\x7fELF\x02\x01").is_err());
        let mut empty = b"\x7fELF\x02\x01".to_vec();
        empty.resize(64, 0);
        assert!(floppy(&empty).is_err());
    }
}
