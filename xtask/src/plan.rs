//! What a run is to do, after command line, configurations and recipes were understood.

use crate::config::{self, Drive, Source, Value};
use crate::guests::Media;
use crate::media::{self, Role};
use anyhow::{Context, Result, bail};
use machine::config::GuestKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which CPU vendor's virtualization the hypervisor is to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// What the emulator offers.
    Auto,
    /// AMD's.
    Svm,
    /// Intel's.
    Vmx,
}

impl Vendor {
    /// Its name in tables and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Auto => "auto",
            Vendor::Svm => "svm",
            Vendor::Vmx => "vmx",
        }
    }
}

/// Which emulator is the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Emulator {
    /// QEMU for SVM and with KVM, Bochs for VMX.
    Auto,
    /// QEMU.
    Qemu,
    /// Bochs.
    Bochs,
}

/// How QEMU runs the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Accel {
    /// KVM where it works nested, TCG elsewhere.
    Auto,
    /// KVM.
    Kvm,
    /// TCG, QEMU's own translator.
    Tcg,
}

/// Where the machine's screen is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Display {
    /// Nowhere; the terminal shows the serial port.
    None,
    /// In a window.
    Gtk,
    /// By VNC on port 5900.
    Vnc,
    /// As text in this terminal.
    Curses,
}

/// One thing to do or to wait for.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Wait until these texts, one or more, have been seen on guests' serial ports or screens, in any
    /// order.
    Until(Vec<String>),
    /// Type on the emulated keyboard.
    Type(String),
    /// Press key chords.
    Keys(Vec<String>),
    /// Send text to the serial port.
    Send(String),
    /// Give a monitor command.
    Monitor(String),
    /// Let some time pass.
    Wait(Duration),
    /// Note how many instructions were executed so far (QEMU that counts them).
    Count,
    /// Wait until a text is seen in the hypervisor's log.
    Log(String),
    /// Wait until the last guest, which may be a hostile one, has ended in this way.
    Ended(Ending),
}

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It, or what served it, failed.
    Crash,
    /// It switched itself off.
    PowerOff,
    /// A command ended it.
    Destroyed,
    /// In one way or the other.
    Any,
}

/// One guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// Its drives.
    pub drives: Vec<Drive>,
    /// Kernel and firmware; the drives among it are in `drives` already.
    pub media: Media,
    /// Settings that are passed on as they are.
    pub settings: Vec<(String, Value)>,
}

impl Guest {
    /// A guest with media from a recipe or from the command line.
    pub fn new(name: &str, memory_mib: u64, vcpus: u32, media: Media) -> Self {
        let mut drives: Vec<Drive> = media
            .disks
            .iter()
            .zip(["hda", "hdb", "hdd"])
            .map(|(path, place)| Drive::file(path, place, false))
            .collect();
        drives.extend(media.iso.iter().map(|path| Drive::file(path, "hdc", true)));
        drives.extend(media.floppy.iter().map(|path| Drive::file(path, "fda", false)));
        let network = media.tftp.is_some();
        let name = name.to_owned();
        let kind = media.pvh.then(|| ("type".to_owned(), Value::Text("pvh".to_owned())));
        let settings = kind.into_iter().collect();
        let guest = Self { name, memory_mib, vcpus, drives, media, settings };
        if network { guest.with_network() } else { guest }
    }

    /// Memory that it may have at the most, in MiB: `maxmem`, or what it has.
    pub fn most_memory_mib(&self) -> u64 {
        let most = self.settings.iter().filter_map(|(key, value)| match value {
            Value::Number(mib) if key == "maxmem" => Some(*mib),
            _ => None,
        });
        most.fold(self.memory_mib, u64::max)
    }

    /// The same with a network card.
    pub fn with_network(mut self) -> Self {
        if !self.has_network() {
            self.settings.push(("vif".to_owned(), Value::List(vec![String::new()])));
        }
        self
    }

    /// Adds settings; those of `disk` are drives beside those of its media.
    pub fn configure(&mut self, settings: Vec<(String, Value)>) -> Result<()> {
        for (key, value) in settings {
            match value {
                Value::List(specs) if key == "disk" => self.drives.extend(config::drives(specs)?),
                value => self.settings.push((key, value)),
            }
        }
        Ok(())
    }

    /// Reads a `--guest` file.
    pub fn from_file(file: &Path) -> Result<Self> {
        let read = config::read(file)?;
        let base = file.parent().unwrap_or(Path::new("."));
        let config = read.config;
        let media = Media {
            kernel: config.kernel.map(|path| base.join(path)),
            initrd: config.ramdisk.map(|path| base.join(path)),
            append: config.cmdline,
            pvh: config.kind == GuestKind::Pvh,
            firmware: read.firmware,
            ..Media::default()
        };
        Ok(Self {
            name: config.name,
            memory_mib: config.memory_mib.into(),
            vcpus: config.vcpus.into(),
            drives: read.drives,
            media,
            settings: read.rest,
        })
    }

    /// The files behind its drives of one kind.
    fn files(&self, wanted: impl Fn(&Drive) -> bool) -> Vec<&Path> {
        self.drives.iter().filter(|drive| wanted(drive)).filter_map(Drive::path).collect()
    }

    /// The files behind its hard disks.
    pub fn disks(&self) -> Vec<&Path> {
        self.files(|drive| !drive.cdrom && !drive.is_floppy())
    }

    /// Whether what it writes to a disk stays in this file.
    pub fn writes(&self, file: &Path) -> bool {
        let thrown = |(key, value): &(String, Value)| {
            let no = ["0", ""];
            key == "snapshot"
                && match value {
                    Value::Number(n) => *n != 0,
                    Value::Text(text) => !no.contains(&text.as_str()),
                    Value::List(_) => false,
                }
        };
        !self.settings.iter().any(thrown)
            && self.drives.iter().any(|drive| drive.writable && drive.path() == Some(file))
    }

    /// The file in its CD drive.
    pub fn iso(&self) -> Option<&Path> {
        self.files(|drive| drive.cdrom).first().copied()
    }

    /// The file in its floppy drive.
    pub fn floppy(&self) -> Option<&Path> {
        self.files(Drive::is_floppy).first().copied()
    }

    /// Whether it has a network interface.
    pub fn has_network(&self) -> bool {
        let some = |value: &Value| !matches!(value, Value::List(list) if list.is_empty());
        self.settings.iter().any(|(key, value)| key == "vif" && some(value))
    }

    /// Checks its media; at least one must boot.
    pub fn check(&self) -> Result<()> {
        let media = &self.media;
        // What another firmware starts, if not itself, is its own affair.
        let direct = media.kernel.is_some() || media.firmware.is_some();
        // The firmware boots from nothing that another guest serves.
        let boots = |drive: &&Drive| !matches!(drive.source, Source::Empty | Source::Remote(..));
        let full = self.drives.iter().filter(boots).count();
        let single = !direct && full == 1;
        if !direct && full == 0 {
            bail!(
                "guest {}: nothing to boot: give it an ISO, a disk, a floppy or a kernel",
                self.name
            );
        }
        for drive in &self.drives {
            let role = match (drive.cdrom, drive.is_floppy()) {
                (true, _) => Role::Cd,
                (_, true) => Role::Floppy,
                _ => Role::Disk,
            };
            if let Some(path) = drive.path() {
                media::check(path, role, single)?;
            }
        }
        if let Some(path) = &media.kernel {
            let role = if media.pvh { Role::PvhKernel } else { Role::Kernel };
            media::check(path, role, true)?;
        }
        self.check_pvh().with_context(|| format!("guest {}", self.name))?;
        if let Some(path) = &media.initrd {
            if media.kernel.is_none() {
                bail!("guest {}: an initrd needs a kernel", self.name);
            }
            media::check(path, Role::Initrd, false)?;
        }
        if let Some(path) = &media.firmware {
            media::check(path, Role::Firmware, false)?;
        }
        Ok(())
    }

    /// What a PVH guest cannot have.
    fn check_pvh(&self) -> Result<()> {
        if !self.media.pvh {
            return Ok(());
        }
        if self.media.kernel.is_none() {
            bail!("a PVH guest boots a kernel: give it one");
        }
        if self.media.firmware.is_some() {
            bail!("a PVH guest has no firmware");
        }
        if let Some(drive) = self.drives.iter().find(|drive| drive.cdrom || drive.is_floppy()) {
            bail!("a PVH guest has no CD and floppy drives: leave out {}", drive.place);
        }
        Ok(())
    }

    /// `run` attaches files only; a disk of the machine itself is for what `image` writes.
    pub fn check_no_physical(&self) -> Result<()> {
        for drive in &self.drives {
            if let Source::Physical(words) = &drive.source {
                bail!(
                    "guest {}: {words} is a disk of the machine under the hypervisor, and an \
                     emulator has none: name an image file",
                    self.name
                );
            }
        }
        Ok(())
    }
}

/// The machine under the hypervisor.
#[derive(Clone, Debug)]
pub struct Host {
    /// Vendor of its virtualization.
    pub vendor: Vendor,
    /// Emulator.
    pub emulator: Emulator,
    /// How QEMU runs.
    pub accel: Accel,
    /// Physical CPUs.
    pub cpus: u32,
    /// Where the screen is.
    pub display: Display,
    /// Count one TSC tick per instruction (QEMU only).
    pub icount: bool,
    /// Model of the CPU, where not the usual.
    pub cpu_model: Option<String>,
    /// Model of the network card, where not virtio (QEMU only).
    pub card: Option<String>,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The guests; the first has the focus.
    pub guests: Vec<Guest>,
    /// The machine.
    pub host: Host,
    /// Further guests' configurations, by file name, that the hypervisor gets as they are.
    pub raw: Vec<(String, String)>,
    /// Images that go along to be put into drives later.
    pub media: Vec<PathBuf>,
    /// Throw the guests' writes away.
    pub snapshot: bool,
    /// No hypervisor: the first guest alone on the emulator.
    pub bare: bool,
    /// Words for the hypervisor's command line.
    pub hv_append: String,
    /// What to do and to wait for.
    pub steps: Vec<Step>,
    /// Texts that mean failure wherever they are seen.
    pub never: Vec<String>,
    /// When to give up.
    pub timeout: Option<Duration>,
    /// When to give up although time is left: nothing new was seen for this long.
    pub stall: Option<Duration>,
    /// The person's terminal is the console.
    pub interactive: bool,
    /// A person looks on, here or at the machine's own screen.
    pub attended: bool,
}

#[cfg(test)]
impl Plan {
    /// A plan for tests: SVM in QEMU without KVM, nothing to do, no limits; guests write to the disks' files.
    pub fn for_tests(guests: Vec<Guest>) -> Plan {
        let host = Host {
            vendor: Vendor::Svm,
            emulator: Emulator::Qemu,
            accel: Accel::Tcg,
            cpus: 1,
            display: Display::None,
            icount: false,
            cpu_model: None,
            card: None,
        };
        Plan {
            guests,
            host,
            raw: Vec::new(),
            media: Vec::new(),
            snapshot: false,
            bare: false,
            hv_append: String::new(),
            steps: Vec::new(),
            never: Vec::new(),
            timeout: None,
            stall: None,
            interactive: false,
            attended: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_file_becomes_a_guest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("two words.cfg");
        let text = "memory = 64\nvcpus = 2\ndisk = [ 'a.iso,hdc:cdrom,r', 'b,hda,w' ]\n\
                    on_crash = 'preserve'\n";
        std::fs::write(&file, text).unwrap();
        let guest = Guest::from_file(&file).unwrap();
        assert_eq!((guest.name.as_str(), guest.memory_mib, guest.vcpus), ("two-words", 64, 2));
        assert_eq!(guest.iso(), Some(dir.path().join("a.iso").as_path()));
        assert_eq!(guest.settings[0].0, "on_crash");
        let wrong = format!("{:#}", guest.check().unwrap_err());
        assert!(wrong.contains("a.iso cannot be opened"), "{wrong}");
    }

    #[test]
    fn a_guest_without_media_is_refused() {
        let guest = Guest::new("a", 64, 1, Media::default());
        assert!(guest.check().unwrap_err().to_string().contains("nothing to boot"));
    }

    #[test]
    fn another_firmware_needs_no_media_and_no_boot_sector() {
        let dir = tempfile::tempdir().unwrap();
        let (firmware, disk) = (dir.path().join("u-boot.rom"), dir.path().join("disk"));
        std::fs::write(&firmware, vec![0xf4; 128 << 10]).unwrap();
        std::fs::write(&disk, [0; 1024]).unwrap();
        let media = Media { firmware: Some(firmware), ..Media::default() };
        Guest::new("a", 64, 1, media.clone()).check().unwrap();
        let disks = vec![disk];
        Guest::new("a", 64, 1, Media { disks: disks.clone(), ..media }).check().unwrap();
        let ours = Guest::new("a", 64, 1, Media { disks, ..Media::default() });
        assert!(format!("{:#}", ours.check().unwrap_err()).contains("not bootable"));
    }
}
