//! Guest media: what the suite boots and what `run` boots when nothing is given. A recipe is a
//! short text (`linux:cloud-amd64`), so that suite files and command lines can name one.

pub mod catalog;
pub mod debian;
pub mod ext4;
pub mod foreign;
pub mod initramfs;
pub mod iso;
pub mod kmod;
pub mod linux;
pub mod own;
pub mod packages;
pub mod selfcheck;
pub mod vmlinux;
pub mod xenstore;

pub use catalog::{RECIPES, prepare};

use crate::paths;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// The media of one guest: files on this machine.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Media {
    /// A CD.
    pub iso: Option<PathBuf>,
    /// Hard disks, in order.
    pub disks: Vec<PathBuf>,
    /// A floppy.
    pub floppy: Option<PathBuf>,
    /// A kernel that is started without a boot loader.
    pub kernel: Option<PathBuf>,
    /// The kernel starts by Xen's PVH protocol.
    pub pvh: bool,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub append: String,
    /// A firmware image instead of Xenolith's BIOS.
    pub firmware: Option<PathBuf>,
    /// Files that it finds by TFTP at 10.0.2.2; its firmware is told of [`BOOT_FILE`].
    pub tftp: Option<PathBuf>,
}

/// The file that a guest boots from the network.
pub const BOOT_FILE: &str = "boot.ipxe";

/// Where made media are kept.
pub fn media_dir() -> Result<PathBuf> {
    let dir = paths::guests().join("media");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Writes a file only when its content differs, so that what is made from it stays current.
pub fn write_if_changed(place: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(place).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(place, bytes)?;
    Ok(())
}

/// A file-name suffix that tells command lines apart.
fn tag(append: &str) -> String {
    let clean: String =
        append.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() { String::new() } else { format!("-{clean}") }
}

/// The firmware that is fetched by its name, if `name` is one: SeaBIOS' 128 KiB build, which fits below 1 MiB on every
/// board, or OVMF with its variables in the same image.
pub fn firmware(packages: &packages::Packages, name: &str) -> Result<Option<PathBuf>> {
    let (package, file) = match name {
        "seabios" => ("seabios", "usr/share/seabios/bios.bin"),
        "ovmf" => ("ovmf", "usr/share/ovmf/OVMF.fd"),
        _ => return Ok(None),
    };
    Ok(Some(packages.unpacked(package, packages::Arch::Amd64)?.join(file)))
}
