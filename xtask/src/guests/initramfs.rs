//! The initramfs of the Linux guests: busybox from its package, an `/init` of ours, and the
//! kernel's own disk drivers.

use super::kmod;
use super::packages::{Arch, Packages};
use crate::cpio::Archive;
use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use std::fs;
use std::io::Write;
use std::path::Path;

/// Drivers of the board's disks and network cards, file systems, Xen's watchdog, the power button.
const MODULES: &[&str] = &[
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "isofs",
    "ext4",
    "crc32c_generic",
    "xen_blkfront",
    "xen_netfront",
    "xen_wdt",
    "button",
    "e1000",
    "8139too",
];

const INIT: &[u8] = include_bytes!("../assets/init");
/// The font of our BIOS, for `loadfont`: in it the hypervisor reads what a guest draws.
const FONT: &[u8] = include_bytes!("../../../bios/src/fonts/8x16.bin");
const SELFCHECK: &[u8] = include_bytes!("../assets/selfcheck");

/// Makes the compressed archive for the kernel in `kernel_package`.
pub fn build(packages: &Packages, arch: Arch, kernel_package: &Path) -> Result<Vec<u8>> {
    let busybox = packages.unpacked("busybox-static", arch)?.join("bin/busybox");
    let busybox = fs::read(&busybox).context("the package busybox-static has no bin/busybox")?;
    let mut archive = Archive::new();
    for dir in ["bin", "dev", "etc", "modules", "proc", "root", "sys", "tmp"] {
        archive.directory(dir);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    archive.file("bin/busybox", 0o755, &busybox);
    archive.link("bin/sh", "busybox");
    archive.file("init", 0o755, INIT);
    archive.file("selfcheck", 0o644, SELFCHECK);
    // PSF version 1: its magic, 256 glyphs, 16 bytes each.
    archive.file("font", 0o644, &[&[0x36, 0x04, 0, 16], FONT].concat());
    let mut list = String::new();
    for module in kmod::closure(kernel_package, MODULES)? {
        archive.file(&format!("modules/{}", module.file), 0o644, &module.data);
        list.push_str(&module.file);
        list.push('\n');
    }
    archive.file("modules/list", 0o644, list.as_bytes());
    compress(&archive.finish())
}

/// Gzip without a time stamp: the same input makes the same file.
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::new(6));
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}
