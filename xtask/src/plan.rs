//! What a run is to do, after command line, configurations and recipes were understood.

use crate::config::{self, Value};
use crate::guests::Media;
use crate::media::{self, Role};
use anyhow::{Context, Result, anyhow, bail};
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
    /// Wait until a text is seen on a guest's serial port or screen.
    Until(String),
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
    /// Its media.
    pub media: Media,
    /// Settings that are passed on as they are.
    pub settings: Vec<(String, Value)>,
}

impl Guest {
    /// A guest with media from a recipe or from the command line.
    pub fn new(name: &str, memory_mib: u64, vcpus: u32, media: Media) -> Self {
        Self { name: name.to_owned(), memory_mib, vcpus, media, settings: Vec::new() }
    }

    /// Reads a `--guest` file.
    pub fn from_file(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the configuration {} cannot be read", file.display()))?;
        let base = file.parent().unwrap_or(Path::new("."));
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let mut guest = Guest::new(&clean_name(&stem), 256, 1, Media::default());
        for setting in config::parse(file, &text)? {
            let place = format!("{}:{}", file.display(), setting.line);
            guest
                .take(&setting.key, setting.value, base)
                .map_err(|why| anyhow!("{place}: {why}"))?;
        }
        Ok(guest)
    }

    fn take(&mut self, key: &str, value: Value, base: &Path) -> Result<(), String> {
        match (key, value) {
            ("name", Value::Text(name)) => {
                if name.is_empty() || name.len() > 32 || clean_name(&name) != name {
                    return Err("name: up to 32 of A-Z a-z 0-9 _ . - are allowed".into());
                }
                self.name = name;
            }
            ("memory", Value::Number(n)) => self.memory_mib = n,
            ("vcpus", Value::Number(n)) => self.vcpus = n as u32,
            ("kernel", Value::Text(path)) => self.media.kernel = Some(base.join(path)),
            ("ramdisk", Value::Text(path)) => self.media.initrd = Some(base.join(path)),
            ("extra" | "cmdline", Value::Text(text)) => self.media.append = text,
            ("firmware", Value::Text(text)) => match text.as_str() {
                "xenolith" | "bios" => {}
                // Resolved by the caller, who knows the packages.
                "seabios" => self.media.firmware = Some(PathBuf::from("seabios")),
                path => self.media.firmware = Some(base.join(path)),
            },
            ("disk", Value::List(items)) => {
                for item in items {
                    let disk = config::parse_disk(&item, base)?;
                    match (disk.cdrom, disk.vdev.as_str()) {
                        (true, _) => self.media.iso = Some(disk.target),
                        (false, "fda" | "fdb") => self.media.floppy = Some(disk.target),
                        (false, _) => self.media.disks.push(disk.target),
                    }
                }
            }
            (key, value) => self.settings.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// Checks its media; at least one must boot.
    pub fn check(&self) -> Result<()> {
        let media = &self.media;
        let direct = media.kernel.is_some();
        let only = [media.iso.is_some(), !media.disks.is_empty(), media.floppy.is_some()];
        let single = !direct && only.iter().filter(|&&there| there).count() == 1;
        if !direct && !only.contains(&true) {
            bail!(
                "guest {}: nothing to boot: give it an ISO, a disk, a floppy or a kernel",
                self.name
            );
        }
        if let Some(path) = &media.iso {
            media::check(path, Role::Cd, single)?;
        }
        for path in &media.disks {
            media::check(path, Role::Disk, single && media.disks.len() == 1)?;
        }
        if let Some(path) = &media.floppy {
            media::check(path, Role::Floppy, single)?;
        }
        if let Some(path) = &media.kernel {
            media::check(path, Role::Kernel, true)?;
        }
        if let Some(path) = &media.initrd {
            if !direct {
                bail!("guest {}: an initrd needs a kernel", self.name);
            }
            media::check(path, Role::Initrd, false)?;
        }
        if let Some(path) = &media.firmware {
            media::check(path, Role::Firmware, false)?;
        }
        Ok(())
    }
}

fn clean_name(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    text.chars().map(keep).take(32).collect()
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
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The guests; the first has the focus.
    pub guests: Vec<Guest>,
    /// The machine.
    pub host: Host,
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
        assert_eq!(guest.media.iso.as_deref(), Some(dir.path().join("a.iso").as_path()));
        assert_eq!(guest.settings[0].0, "on_crash");
        let wrong = format!("{:#}", guest.check().unwrap_err());
        assert!(wrong.contains("a.iso cannot be opened"), "{wrong}");
    }

    #[test]
    fn a_guest_without_media_is_refused() {
        let guest = Guest::new("a", 64, 1, Media::default());
        assert!(guest.check().unwrap_err().to_string().contains("nothing to boot"));
    }
}
