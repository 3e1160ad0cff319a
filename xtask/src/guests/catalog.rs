//! Every recipe: its name, what it makes, and how.

use super::packages::{Arch, Packages};
use super::{Media, debian, ext4, foreign, iso, linux, media_dir, selfcheck};
use crate::paths;
use crate::run::Usage;
use crate::setup::{self, Need};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::PathBuf;

/// The recipes' names and what they make, for people.
pub const RECIPES: &[(&str, &str)] = &[
    ("linux:FLAVOUR[:APPEND]", "GRUB ISO with Debian's kernel (cloud-amd64, amd64, 686, 686-pae)"),
    ("kernel:FLAVOUR[:APPEND]", "the same kernel and initramfs without boot loader"),
    ("pvh:FLAVOUR[:APPEND]", "the same as a PVH guest, its console on Xen's"),
    ("pvh-selfcheck:FLAVOUR[:APPEND]", "the same with a disk; the guest checks its machine"),
    ("firmware-own:NAME", "a guest kernel of ours in place of a PC's firmware, as an ELF file"),
    ("pvh-own:NAME[:APPEND]", "a guest kernel of ours, started by its PVH note"),
    ("uefi:FLAVOUR[:APPEND]", "GRUB ISO for UEFI, with OVMF as the firmware"),
    ("selfcheck:FLAVOUR[:APPEND]", "GRUB ISO and a disk; the guest checks its machine"),
    ("xenstore:FLAVOUR[:APPEND]", "GRUB ISO; the guest has Debian's XenStore tools"),
    (
        "driver:FLAVOUR[:APPEND]",
        "GRUB ISO and a disk of 16 MiB; the guest serves disks and interfaces that name it by backend=",
    ),
    ("ext4:FLAVOUR[:APPEND]", "GRUB ISO, and a disk with an empty ext4 file system"),
    ("memtest:64|32", "Debian's memtest86+ ISO"),
    ("grub-rescue:cd|floppy|disk", "GRUB's rescue images"),
    ("ipxe", "iPXE's ISO"),
    ("xen:FLAVOUR", "Xen 4.17 with Debian's kernel as its dom0, and a disk with one partition"),
    ("u-boot:32|64", "U-Boot in place of the firmware, and a disk with one partition"),
    ("grub-pvh", "GRUB as a PVH guest, and the same disk"),
    ("netboot:FLAVOUR[:APPEND]", "iPXE's ISO and a TFTP server with Debian's kernel (QEMU only)"),
    ("isolinux", "ISOLINUX ISO with a graphical menu that starts the cloud kernel"),
    ("installer", "Debian's network installer: kernel and initrd, text mode"),
    ("debian-disk", "a disk with an installed Debian: systemd, GRUB; root's password is xenolith"),
    ("blank", "a disk and a floppy of zeros, from which nothing boots"),
    ("own:NAME", "a guest kernel of ours (tests/guests) as a floppy"),
    ("seabios:RECIPE", "another recipe with SeaBIOS as the firmware"),
];

/// What a kernel of ours finds as its module.
const MODULE: &[u8] = b"a module by Xenolith\n\0";

/// Makes the media that a recipe names.
pub fn prepare(packages: &Packages, recipe: &str, offline: bool) -> Result<Media> {
    let (head, rest) = recipe.split_once(':').unwrap_or((recipe, ""));
    let (first, append) = rest.split_once(':').unwrap_or((rest, ""));
    let mut media = Media::default();
    match head {
        "linux" => {
            media.iso = Some(linux::grub_iso(packages, linux::flavour(first)?, append)?);
        }
        "kernel" => {
            let kernel = linux::kernel(packages, linux::flavour(first)?)?;
            media.kernel = Some(kernel.image);
            media.initrd = Some(kernel.initramfs);
            media.append = format!("{} {append}", linux::CONSOLES).trim_end().to_owned();
        }
        "uefi" => {
            setup::ensure(&[Need::Uefi], offline)?;
            media.iso = Some(linux::uefi_iso(packages, linux::flavour(first)?, append)?);
            media.firmware = super::firmware(packages, "ovmf")?;
        }
        "pvh" | "pvh-selfcheck" => {
            let kernel = linux::kernel(packages, linux::flavour(first)?)?;
            media.kernel = Some(kernel.image);
            media.pvh = true;
            media.append = format!("{} {append}", linux::PVH_CONSOLE).trim_end().to_owned();
            if head == "pvh-selfcheck" {
                media.append = format!("{} xenolith=selfcheck", media.append);
                media.disks.push(selfcheck::disk(&media_dir()?.join("pvh-selfcheck.disk"), &[])?);
            }
            media.initrd = Some(kernel.initramfs);
        }
        "selfcheck" => {
            let append = format!("xenolith=selfcheck {append}");
            let iso = linux::grub_iso(packages, linux::flavour(first)?, append.trim_end())?;
            let cd = fs::read(&iso).with_context(|| paths::show(&iso))?;
            media.disks.push(selfcheck::disk(&iso.with_extension("disk"), &cd)?);
            media.iso = Some(iso);
        }
        "xenstore" => {
            media.iso = Some(linux::xenstore_iso(packages, linux::flavour(first)?, append)?);
        }
        "driver" => {
            media.iso = Some(linux::driver_iso(packages, linux::flavour(first)?, append)?);
            let disk = media_dir()?.join("driver.disk");
            super::write_if_changed(&disk, &vec![0; 16 << 20])?;
            media.disks.push(disk);
        }
        "ext4" => {
            media.iso = Some(linux::grub_iso(packages, linux::flavour(first)?, append)?);
            media.disks.push(ext4::disk(offline)?);
        }
        "memtest" => {
            let name = match rest {
                "64" => "memtest86+x64.iso",
                "32" => "memtest86+ia32.iso",
                _ => {
                    bail!(Usage(anyhow!("memtest is `memtest:64` or `memtest:32`, not `{recipe}`")))
                }
            };
            let files = packages.unpacked("memtest86+", Arch::Amd64)?;
            media.iso = Some(files.join("usr/lib/memtest86+").join(name));
        }
        "grub-rescue" => {
            let files =
                packages.unpacked("grub-rescue-pc", Arch::Amd64)?.join("usr/lib/grub-rescue");
            match rest {
                "cd" => media.iso = Some(files.join("grub-rescue-cdrom.iso")),
                "floppy" => media.floppy = Some(files.join("grub-rescue-floppy.img")),
                // A hybrid ISO: written to a disk or USB stick it boots from its MBR.
                "disk" => media.disks.push(files.join("grub-rescue-usb.img")),
                _ => bail!(Usage(anyhow!("grub-rescue is cd, floppy or disk, not `{rest}`"))),
            }
        }
        "ipxe" => {
            let files = packages.unpacked("ipxe", Arch::Amd64)?;
            media.iso = Some(files.join("usr/lib/ipxe/ipxe.iso"));
        }
        "xen" => media = foreign::xen(packages, rest)?,
        "u-boot" => media = foreign::u_boot(packages, rest)?,
        "grub-pvh" => media = foreign::grub_pvh(packages)?,
        "netboot" => {
            let files = packages.unpacked("ipxe", Arch::Amd64)?;
            media.iso = Some(files.join("usr/lib/ipxe/ipxe.iso"));
            media.tftp = Some(linux::tftp(packages, linux::flavour(first)?, append)?);
        }
        "isolinux" => media.iso = Some(graphical_menu(packages)?),
        "installer" => {
            let files = packages.unpacked("debian-installer-12-netboot-amd64", Arch::Amd64)?;
            let dir =
                files.join("usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64");
            media.kernel = Some(dir.join("linux"));
            media.initrd = Some(dir.join("initrd.gz"));
            media.append = "vga=normal fb=false nomodeset".to_owned();
        }
        "debian-disk" => media.disks.push(debian::disk(offline)?),
        "blank" => {
            let disk = media_dir()?.join("blank.img");
            super::write_if_changed(&disk, &vec![0; 1 << 20])?;
            let floppy = media_dir()?.join("blank.floppy");
            super::write_if_changed(&floppy, &vec![0; 1_474_560])?;
            media.disks.push(disk);
            media.floppy = Some(floppy);
        }
        "pvh-own" => {
            media.kernel = Some(super::own::kernel(first, offline)?);
            media.pvh = true;
            media.append = append.to_owned();
            let module = media_dir()?.join("module.txt");
            super::write_if_changed(&module, MODULE)?;
            media.initrd = Some(module);
        }
        "firmware-own" => media.firmware = Some(super::own::kernel(rest, offline)?),
        "own" => media.floppy = Some(super::own::image(rest, offline)?),
        "seabios" => {
            media = prepare(packages, rest, offline)?;
            media.firmware = super::firmware(packages, head)?;
        }
        _ => {
            let names: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
            let names = names.join("\n    ");
            bail!(Usage(anyhow!("there is no recipe `{recipe}`; there are:\n    {names}")));
        }
    }
    Ok(media)
}

/// An ISOLINUX ISO whose graphical menu (`vesamenu.c32`) offers the cloud kernel.
fn graphical_menu(packages: &Packages) -> Result<PathBuf> {
    let kernel = linux::kernel(packages, linux::flavour("cloud-amd64")?)?;
    let loader = packages.unpacked("isolinux", Arch::Amd64)?.join("usr/lib/ISOLINUX/isolinux.bin");
    let modules = packages.unpacked("syslinux-common", Arch::Amd64)?;
    let modules = modules.join("usr/lib/syslinux/modules/bios");
    let names = ["ldlinux.c32", "libcom32.c32", "libutil.c32", "vesamenu.c32"];
    let modules: Vec<(String, PathBuf)> =
        names.iter().map(|name| (format!("isolinux/{name}"), modules.join(name))).collect();
    let mut files = vec![
        ("isolinux/isolinux.bin", loader.as_path()),
        ("boot/vmlinuz", kernel.image.as_path()),
        ("boot/initrd.gz", kernel.initramfs.as_path()),
    ];
    files.extend(modules.iter().map(|(name, path)| (name.as_str(), path.as_path())));
    let config = format!(
        "serial 0 115200\nui vesamenu.c32\nprompt 0\ntimeout 600\nmenu title Xenolith\n\
         menu resolution 800 600\n\
         label linux\n  menu label Debian cloud kernel\n  linux /boot/vmlinuz\n  \
         initrd /boot/initrd.gz\n  append {}\n\
         label local\n  menu label Next boot device\n  localboot 0\n",
        linux::CONSOLES
    );
    let place = media_dir()?.join("isolinux.iso");
    iso::isolinux(&place, &files, &config)?;
    Ok(place)
}
