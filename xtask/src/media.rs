//! Early checks of what a guest is given, so that a wrong file or number gets a clear message
//! here instead of a black screen there.

use crate::guests::{linux, vmlinux};
use anyhow::{Context, Result, anyhow, bail};
use machine::pvh::elf::Elf;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What a file is to be used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A CD the guest boots from.
    Cd,
    /// A hard disk.
    Disk,
    /// A floppy.
    Floppy,
    /// A Linux kernel.
    Kernel,
    /// A kernel that starts by Xen's PVH protocol.
    PvhKernel,
    /// An initramfs.
    Initrd,
    /// A firmware image.
    Firmware,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Cd => "ISO image",
            Role::Disk => "disk image",
            Role::Floppy => "floppy image",
            Role::Kernel | Role::PvhKernel => "kernel",
            Role::Initrd => "initrd",
            Role::Firmware => "firmware image",
        }
    }
}

/// Sizes of whole floppies in bytes, as the board's drive knows them.
pub const FLOPPY_SIZES: &[u64] = &[
    163_840, 184_320, 327_680, 368_640, 655_360, 737_280, 819_200, 1_228_800, 1_474_560, 1_720_320,
    1_763_328, 1_966_080, 2_949_120,
];

/// What an image for a drive with removable media is: a floppy by its size, else a CD.
pub fn removable_role(path: &Path) -> Role {
    let size = fs::metadata(path).map_or(0, |about| about.len());
    if FLOPPY_SIZES.contains(&size) { Role::Floppy } else { Role::Cd }
}

/// Checks one file. `boots`: the guest has nothing else to boot from.
pub fn check(path: &Path, role: Role, boots: bool) -> Result<()> {
    let what = format!("the {} {}", role.name(), path.display());
    let about = fs::metadata(path).with_context(|| format!("{what} cannot be opened"))?;
    if about.is_dir() {
        bail!("{what} is a directory");
    }
    let size = about.len();
    if size == 0 && about.is_file() {
        bail!("{what} is empty");
    }
    let mut file = File::open(path).with_context(|| format!("{what} cannot be opened"))?;
    match role {
        Role::Cd => check_cd(&mut file, size, boots).with_context(|| format!("{what} is no good")),
        Role::Disk => {
            if size < 512 {
                bail!("{what} is truncated: {size} bytes are less than one sector");
            }
            let mut sector = [0; 512];
            file.read_exact(&mut sector)?;
            if sector.starts_with(b"QFI\xfb") {
                bail!("{what} is in qcow2 format: `qemu-img convert -O raw` makes it a raw image");
            }
            if boots && sector[510..] != [0x55, 0xaa] {
                bail!("{what} is not bootable: its first sector does not end with 55h AAh");
            }
            Ok(())
        }
        Role::Floppy => {
            if size > 2_949_120 {
                bail!("{what} is too large for a floppy ({size} bytes; 1.44 MB are 1474560)");
            }
            let mut sector = [0; 512];
            let whole = size.is_multiple_of(512) && file.read_exact(&mut sector).is_ok();
            // A game or a loader in its boot sector needs no more of the floppy.
            let boot_sectors = whole && sector[510..] == [0x55, 0xaa];
            if size < 163_840 && !boot_sectors {
                bail!("{what} is truncated: {size} bytes; 1.44 MB are 1474560");
            }
            Ok(())
        }
        Role::Kernel => match linux::is_kernel(path)? {
            true => Ok(()),
            false if Elf::parse(&fs::read(path)?).is_ok() => {
                bail!(
                    "{what} is an ELF file that starts as a PVH guest: say --pvh, or type = \"pvh\""
                )
            }
            false => bail!("{what} is no Linux kernel (no `HdrS` at offset 202h)"),
        },
        Role::PvhKernel => vmlinux::check(path).with_context(|| format!("{what} is no good")),
        Role::Firmware => match size {
            _ if is_elf(path) => {
                let checked = Elf::parse_plain(&fs::read(path)?).map(drop);
                checked.map_err(|why| anyhow!("{what} cannot be started: {why}"))
            }
            0x1_0000 | 0x2_0000 | 0x4_0000 | 0x8_0000 | 0x10_0000 | 0x20_0000 | 0x40_0000 => Ok(()),
            _ => bail!(
                "{what} has {size} bytes; a firmware has 64 KiB to 4 MiB, a power of two, or is an ELF file"
            ),
        },
        Role::Initrd => Ok(()),
    }
}

/// Whether a file begins as an ELF file does; false where it cannot be read.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

/// ECMA-119 "Volume Descriptors"; "El Torito" Bootable CD-ROM Format Specification, "Boot Record
/// Volume Descriptor".
fn check_cd(file: &mut File, size: u64, boots: bool) -> Result<()> {
    let mut sector = [0; 2048];
    let mut catalog = None;
    let mut volume_sectors = 0;
    if size < 17 * 2048 {
        bail!("it is truncated: {size} bytes, no ISO 9660 volume descriptor fits");
    }
    for lba in 16..48_u64 {
        file.seek(SeekFrom::Start(lba * 2048))?;
        if file.read_exact(&mut sector).is_err() {
            bail!("it is truncated within its volume descriptors");
        }
        if &sector[1..6] != b"CD001" {
            bail!("it has no ISO 9660 file system (no `CD001` in sector {lba})");
        }
        match sector[0] {
            0 if sector[7..].starts_with(b"EL TORITO SPECIFICATION") => {
                catalog = Some(word(&sector, 0x47));
            }
            1 => volume_sectors = u64::from(word(&sector, 80)),
            255 => break,
            _ => {}
        }
    }
    if size < volume_sectors * 2048 {
        bail!("it is truncated: it should have {volume_sectors} sectors, it has {}", size / 2048);
    }
    let Some(catalog) = catalog else {
        if boots {
            bail!("it is not bootable: no El Torito boot record");
        }
        return Ok(());
    };
    file.seek(SeekFrom::Start(u64::from(catalog) * 2048))?;
    if file.read_exact(&mut sector).is_err() || sector[0] != 1 || sector[30..32] != [0x55, 0xaa] {
        bail!("its El Torito boot catalog is broken");
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Least memory of a guest: real mode's first megabyte and one more.
pub const LEAST_MEMORY_MIB: u64 = 2;

/// Most vCPUs of a guest: what an 8-bit local APIC id and the tables of the board carry.
pub const MOST_VCPUS: u32 = 64;

/// Checks memory and vCPUs of all guests together. `host_mib`: what this machine has.
pub fn check_sizes(guests: &[(String, u64, u32)], host_mib: u64) -> Result<()> {
    for (name, memory, vcpus) in guests {
        if *memory < LEAST_MEMORY_MIB {
            bail!(
                "guest {name}: {memory} MiB of memory is too little: at least {LEAST_MEMORY_MIB}"
            );
        }
        if !(1..=MOST_VCPUS).contains(vcpus) {
            bail!("guest {name}: {vcpus} vCPUs; allowed is 1 to {MOST_VCPUS}");
        }
    }
    let all: u64 = guests.iter().map(|(_, memory, _)| memory).sum();
    if all + 128 > host_mib {
        bail!("the guests' {all} MiB of memory do not fit: this machine has {host_mib} MiB free");
    }
    Ok(())
}

/// Memory in MiB that this machine can give without swapping.
pub fn host_memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8], role: Role) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        format!("{:#}", check(&path, role, true).unwrap_err())
    }

    #[test]
    fn each_kind_of_bad_media_gets_its_own_words() {
        assert!(refused(b"", Role::Cd).contains("is empty"));
        assert!(refused(&[0; 100], Role::Cd).contains("truncated"));
        assert!(refused(&[0; 65536], Role::Cd).contains("no ISO 9660"));
        assert!(refused(&[0; 100], Role::Disk).contains("truncated"));
        assert!(refused(&[0; 1024], Role::Disk).contains("not bootable"));
        assert!(refused(&[0; 100], Role::Floppy).contains("truncated"));
        assert!(refused(&[0; 1024], Role::Kernel).contains("no Linux kernel"));
        assert!(refused(&[0; 1000], Role::Firmware).contains("1000 bytes"));
        let missing = check(Path::new("/nowhere/x.iso"), Role::Cd, true).unwrap_err();
        assert!(missing.to_string().contains("cannot be opened"));
    }

    #[test]
    fn a_boot_sector_alone_is_a_floppy_and_a_part_of_one_is_not() {
        let mut sectors = vec![0; 1024];
        assert!(refused(&sectors, Role::Floppy).contains("truncated"));
        sectors[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert!(refused(&sectors[..1000], Role::Floppy).contains("truncated"));
        let file = tempfile::NamedTempFile::new().unwrap();
        for size in [512, 1024] {
            fs::write(file.path(), &sectors[..size]).unwrap();
            check(file.path(), Role::Floppy, true).unwrap();
        }
    }

    #[test]
    fn a_truncated_and_an_unbootable_iso_are_told_apart() {
        let mut iso = vec![0; 20 * 2048];
        iso[16 * 2048] = 1;
        iso[16 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        iso[16 * 2048 + 80] = 20;
        iso[17 * 2048] = 255;
        iso[17 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        assert!(refused(&iso, Role::Cd).contains("not bootable"));
        iso[16 * 2048 + 80] = 21;
        assert!(refused(&iso, Role::Cd).contains("truncated: it should have 21 sectors"));
    }

    #[test]
    fn sizes_that_cannot_work_are_refused() {
        let guest = |memory, vcpus| [("a".to_owned(), memory, vcpus)];
        assert!(check_sizes(&guest(0, 1), 1000).is_err());
        assert!(check_sizes(&guest(1, 1), 1000).is_err());
        assert!(check_sizes(&guest(64, 0), 1000).is_err());
        assert!(check_sizes(&guest(64, 1000), 1000).is_err());
        assert!(check_sizes(&guest(2000, 1), 1000).is_err());
        assert!(check_sizes(&guest(512, 4), 1000).is_ok());
    }
}
