//! Systems other than Linux from Debian's packages: Xen with its dom0, U-Boot, GRUB as a PVH guest.

use super::packages::{Arch, Packages};
use super::{Media, iso, linux, media_dir, write_if_changed};
use crate::run::Usage;
use anyhow::{Context, Result, anyhow, bail};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where Xen and its dom0 speak. QEMU without KVM refuses IRET from ring 3 under SMAP, which a PV kernel does, so
/// Xen leaves SMAP off (QEMU mended it in 9.1).
const XEN: &str = "com1=115200,8n1 console=com1,vga dom0_mem=192M smap=0 noreboot";

/// A GRUB ISO with Xen, and Debian's kernel of a flavour as its dom0.
pub fn xen(packages: &Packages, flavour: &str) -> Result<Media> {
    let kernel = linux::kernel(packages, linux::flavour(flavour)?)?;
    let files = packages.unpacked("xen-hypervisor-4.17-amd64", Arch::Amd64)?;
    let packed = files.join("boot/xen-4.17-amd64.gz");
    let mut image = Vec::new();
    let file = File::open(&packed).with_context(|| format!("no {}", packed.display()))?;
    GzDecoder::new(file).read_to_end(&mut image)?;
    let xen = media_dir()?.join("xen-4.17-amd64");
    write_if_changed(&xen, &image)?;
    let config = format!(
        "serial --unit=0 --speed=115200\n\
         terminal_output console serial\n\
         multiboot2 /boot/xen placeholder {XEN}\n\
         module2 /boot/vmlinuz placeholder {}\n\
         module2 /boot/initrd.gz\n\
         boot\n",
        linux::PVH_CONSOLE
    );
    let files: [(&str, &Path); 3] = [
        ("boot/xen", &xen),
        ("boot/vmlinuz", &kernel.image),
        ("boot/initrd.gz", &kernel.initramfs),
    ];
    let place = media_dir()?.join(format!("xen-{flavour}.iso"));
    iso::grub(&place, &config, &files)?;
    Ok(Media { iso: Some(place), disks: vec![disk()?], ..Media::default() })
}

/// U-Boot in place of a firmware, and a disk with one partition.
pub fn u_boot(packages: &Packages, bits: &str) -> Result<Media> {
    let board = match bits {
        "32" => "qemu-x86",
        "64" => "qemu-x86_64",
        _ => bail!(Usage(anyhow!("u-boot is `u-boot:32` or `u-boot:64`, not `u-boot:{bits}`"))),
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
    // INT 18h: the BIOS goes on with the next device.
    bytes[..2].copy_from_slice(&[0xcd, 0x18]);
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
