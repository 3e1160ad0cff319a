//! Systems other than Linux from Debian's packages: U-Boot, and GRUB as a PVH guest.

use super::packages::{Arch, Packages};
use super::{Media, media_dir, write_if_changed};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// U-Boot in place of a firmware, and a disk with one partition.
pub fn u_boot(packages: &Packages, bits: &str) -> Result<Media> {
    let board = match bits {
        "32" => "qemu-x86",
        "64" => "qemu-x86_64",
        _ => bail!("u-boot is `u-boot:32` or `u-boot:64`, not `u-boot:{bits}`"),
    };
    let files = packages.unpacked("u-boot-qemu", Arch::Amd64)?;
    let rom = files.join("usr/lib/u-boot").join(board).join("u-boot.rom");
    Ok(Media { firmware: Some(rom), disks: vec![disk()?], ..Media::default() })
}

/// GRUB as a PVH guest, and the same disk.
pub fn grub_pvh(packages: &Packages) -> Result<Media> {
    let files = packages.unpacked("grub-xen-host", Arch::Amd64)?;
    let kernel = files.join("usr/lib/grub-xen/grub-i386-xen_pvh.bin");
    Ok(Media { kernel: Some(kernel), pvh: true, disks: vec![disk()?], ..Media::default() })
}

/// A disk of 1 MiB whose one partition is all but the first 64 sectors.
fn disk() -> Result<PathBuf> {
    let mut bytes = vec![0; 1 << 20];
    let (start, count) = (64u32, 2048 - 64u32);
    let mut entry = [0; 16];
    entry[0] = 0x80;
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..].copy_from_slice(&count.to_le_bytes());
    bytes[446..462].copy_from_slice(&entry);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let place = media_dir()?.join("one-partition.disk");
    write_if_changed(&place, &bytes)?;
    Ok(place)
}
