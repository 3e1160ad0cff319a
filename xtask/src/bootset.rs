//! What the hypervisor gets at boot: one archive with the guests' configurations and their media,
//! and the disks of the machine that guests write to. docs/guests.md describes the archive.

use crate::config::{self, Source, Value};
use crate::cpio::Archive;
use crate::guests::vmlinux;
use crate::media;
use crate::plan::{Guest, Plan};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Media up to this size travel in the archive; larger disks become disks of the machine.
const LARGEST_MODULE: u64 = 192 << 20;

/// A disk of the machine under the hypervisor; a guest's configuration says `phy:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDisk {
    /// Serial number (virtio) or model (ATA), by which the hypervisor finds it.
    pub name: String,
    /// The image file here.
    pub path: PathBuf,
}

/// Archive and disks.
pub struct BootSet {
    /// The archive's bytes.
    pub archive: Vec<u8>,
    /// The machine's disks.
    pub disks: Vec<HostDisk>,
}

struct Module {
    name: String,
    path: PathBuf,
    floppy: bool,
}

struct Maker {
    modules: Vec<Module>,
    disks: Vec<HostDisk>,
    snapshot: bool,
}

/// Writes the configurations and collects the media of all guests.
pub fn make(plan: &Plan) -> Result<BootSet> {
    let mut maker = Maker { modules: Vec::new(), disks: Vec::new(), snapshot: plan.snapshot };
    let mut configs = Vec::new();
    for guest in &plan.guests {
        configs.push((format!("guests/{}.cfg", guest.name), maker.guest(guest)?));
    }
    for (name, text) in &plan.raw {
        configs.push((format!("guests/{name}.cfg"), text.clone()));
    }
    for medium in &plan.media {
        maker.module(medium, false);
    }
    let mut archive = Archive::new();
    for (name, text) in &configs {
        archive.aligned_file(name, text.as_bytes());
    }
    for module in &maker.modules {
        let path = &module.path;
        let mut data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if module.floppy {
            whole_floppy(&mut data);
        }
        archive.aligned_file(&module.name, &data);
    }
    Ok(BootSet { archive: archive.finish(), disks: maker.disks })
}

/// An image may end before its floppy does, as grub-rescue's does: what is not there is empty. Its BIOS parameter block
/// says which floppy, or else it is the usual one.
fn whole_floppy(image: &mut Vec<u8>) {
    let known = |size: &usize| media::FLOPPY_SIZES.contains(&(*size as u64));
    let length = image.len();
    if known(&length) {
        return;
    }
    let sectors =
        image.get(0x13..0x15).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let own = Some(sectors * 512).filter(known);
    let whole = [own, Some(1_474_560), Some(2_949_120)].into_iter().flatten();
    if let Some(size) = whole.into_iter().find(|size| *size > length) {
        image.resize(size, 0);
    }
}

impl Maker {
    fn guest(&mut self, guest: &Guest) -> Result<String> {
        let media = &guest.media;
        let mut settings = vec![
            ("name", Value::Text(guest.name.clone())),
            ("memory", Value::Number(guest.memory_mib)),
            ("vcpus", Value::Number(guest.vcpus.into())),
        ];
        let mut disks = Vec::new();
        for drive in &guest.drives {
            let kind = if drive.cdrom { ":cdrom" } else { "" };
            let access = if drive.writable { "w" } else { "r" };
            let target = match &drive.source {
                Source::File(path) if drive.cdrom || drive.is_floppy() => {
                    format!("module:{}", self.module(path, drive.is_floppy()))
                }
                Source::File(path) => self.disk(path)?,
                Source::Physical(words) => words.clone(),
                Source::Remote(back, params) => {
                    let place = &drive.place;
                    disks.push(format!(
                        "backend={back},vdev={place},access={access},target={params}"
                    ));
                    continue;
                }
                Source::Empty => String::new(),
            };
            disks.push(format!("{target},{}{kind},{access}", drive.place));
        }
        settings.push(("disk", Value::List(disks)));
        for (key, path) in
            [("kernel", &media.kernel), ("ramdisk", &media.initrd), ("firmware", &media.firmware)]
        {
            if let Some(path) = path {
                let unpacked = media.pvh && key == "kernel";
                let path = &if unpacked { vmlinux::of(path)? } else { path.clone() };
                settings.push((key, Value::Text(format!("module:{}", self.module(path, false)))));
            }
        }
        if !media.append.is_empty() {
            settings.push(("extra", Value::Text(media.append.clone())));
        }
        // A real firmware brings no video BIOS along: its package has one beside it.
        if let Some(path) = &media.firmware {
            let rom = path.with_file_name("vgabios-stdvga.bin");
            if rom.exists() {
                self.module(&rom, false);
            }
        }
        let others = guest.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        settings.extend(others);
        Ok(config::write(&settings))
    }

    /// The name of a file in the archive: two guests may share one, as each writes to its own copy.
    fn module(&mut self, path: &Path, floppy: bool) -> String {
        let same = |known: &&Module| known.path == path && known.floppy == floppy;
        if let Some(module) = self.modules.iter().find(same) {
            return module.name.clone();
        }
        let base = path.file_name().unwrap_or_default().to_string_lossy().replace([',', ' '], "_");
        let taken = |name: &str| self.modules.iter().any(|known| known.name == name);
        let mut name = base.clone();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{count}-{base}");
        }
        self.modules.push(Module { name: name.clone(), path: path.to_owned(), floppy });
        name
    }

    /// A disk whose writes are kept, or that is large, is a disk of the machine.
    fn disk(&mut self, path: &Path) -> Result<String> {
        let size = fs::metadata(path)?.len();
        if self.snapshot && size <= LARGEST_MODULE {
            return Ok(format!("module:{}", self.module(path, false)));
        }
        if let Some(known) = self.disks.iter().find(|disk| disk.path == path) {
            return Ok(format!("phy:{}", known.name));
        }
        // 20 characters are what a virtio disk's serial number has room for.
        let name = format!("xenolith-disk{}", self.disks.len());
        self.disks.push(HostDisk { name: name.clone(), path: path.to_owned() });
        Ok(format!("phy:{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio;
    use crate::guests::Media;

    fn plan(guests: Vec<Guest>, snapshot: bool) -> Plan {
        Plan { snapshot, ..Plan::for_tests(guests) }
    }

    #[test]
    fn configurations_come_first_and_name_media_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let (iso, disk) = (dir.path().join("a, b.iso"), dir.path().join("d.img"));
        fs::write(&iso, [1; 3000]).unwrap();
        fs::write(&disk, [2; 1024]).unwrap();
        let media = Media { iso: Some(iso), disks: vec![disk], ..Media::default() };
        let guests = vec![Guest::new("a", 64, 1, media.clone()), Guest::new("b", 64, 1, media)];
        let set = make(&plan(guests.clone(), true)).unwrap();
        let files = cpio::list(&set.archive);
        let names: Vec<&str> = files
            .iter()
            .map(|(name, _, _)| name.as_str())
            .filter(|name| *name != cpio::PADDING)
            .collect();
        assert_eq!(names, ["guests/a.cfg", "guests/b.cfg", "d.img", "a__b.iso"]);
        let first = files.iter().find(|(name, _, _)| name == "guests/a.cfg").unwrap();
        let text = std::str::from_utf8(&set.archive[first.2.clone()]).unwrap();
        assert!(text.contains("\"module:d.img,hda,w\", \"module:a__b.iso,hdc:cdrom,r\""), "{text}");

        let mut short = vec![1; 1_296_384];
        whole_floppy(&mut short);
        assert_eq!(short.len(), 1_474_560);
        let mut small = vec![0; 300_000];
        small[0x13..0x15].copy_from_slice(&1440u16.to_le_bytes());
        whole_floppy(&mut small);
        assert_eq!(small.len(), 737_280, "as its parameter block says");

        let later = dir.path().join("later.iso");
        fs::write(&later, [3; 2048]).unwrap();
        let set = make(&Plan { media: vec![later], ..plan(guests, false) }).unwrap();
        assert!(cpio::list(&set.archive).iter().any(|(name, _, _)| name == "later.iso"));
        assert_eq!(set.disks.len(), 1);
        assert_eq!(set.disks[0].name, "xenolith-disk0");
    }
}
