//! Guest configurations in xl.cfg syntax: `--guest` files, read by the parser that the hypervisor itself
//! uses, and what the hypervisor gets. A disk names a file here; there it names a boot module or a
//! host disk.

use anyhow::{Context, Result, anyhow, bail};
use machine::config::{Atom, DiskConfig, Entry, Firmware, GuestConfig, Target, Vdev};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A value of the configuration language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A text; a number in quotes is a number too.
    Text(String),
    /// Texts.
    List(Vec<String>),
}

/// What is behind a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on this machine.
    File(PathBuf),
    /// A disk of the machine under the hypervisor, in the words of the configuration.
    Physical(String),
    /// A back end in the guest of this name, which makes a disk of these words.
    Remote(String, String),
    /// Nothing: a drive without a medium.
    Empty,
}

/// A drive of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// What is behind it.
    pub source: Source,
    /// Its place: `hda` to `hdd`, `fda`, `fdb`.
    pub place: String,
    /// Whether it is a CD drive.
    pub cdrom: bool,
    /// Whether the guest may write.
    pub writable: bool,
}

impl Drive {
    /// A drive with a file, in the usual way of its kind.
    pub fn file(path: &Path, place: &str, cdrom: bool) -> Self {
        let source = Source::File(path.to_owned());
        Drive { source, place: place.to_owned(), cdrom, writable: !cdrom }
    }

    /// A CD drive with nothing in it.
    pub fn empty_cd(place: &str) -> Self {
        Drive { source: Source::Empty, place: place.to_owned(), cdrom: true, writable: false }
    }

    /// The file behind it.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    /// Whether it is a floppy drive.
    pub fn is_floppy(&self) -> bool {
        self.place.starts_with("fd")
    }
}

/// A `--guest` file, understood.
pub struct Read {
    /// What it means.
    pub config: GuestConfig,
    /// Its drives, with files relative to it.
    pub drives: Vec<Drive>,
    /// The firmware: an image, or `seabios` or `ovmf` for that of the package.
    pub firmware: Option<PathBuf>,
    /// What the hypervisor is told as it stands there.
    pub rest: Vec<(String, Value)>,
}

/// Keys that `Read` has understood: the hypervisor is told them anew.
const TAKEN: &[&str] = &[
    "name",
    "memory",
    "vcpus",
    "disk",
    "floppy",
    "kernel",
    "ramdisk",
    "cmdline",
    "root",
    "extra",
    "firmware",
    "bios",
    "firmware_override",
    "localtime",
];

/// Reads a configuration and checks keys and values; errors say file, line and what is allowed.
pub fn read(file: &Path) -> Result<Read> {
    let mut text = fs::read_to_string(file)
        .with_context(|| format!("the configuration {} cannot be read", file.display()))?;
    let name = file.display().to_string();
    let entries = machine::config::entries(&name, &text).map_err(|error| anyhow!("{error}"))?;
    let line_of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|it| it.line);
    if line_of("name").is_none() {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(text, "\nname = \"{}\"", clean_name(&stem));
    }
    let config = GuestConfig::parse(&name, &text).map_err(|error| anyhow!("{error}"))?;
    if clean_name(&config.name) != config.name {
        let line = line_of("name").unwrap_or(0);
        bail!(
            "{name}:{line}: name: \"{}\" is not allowed; allowed are up to 64 of A-Z a-z 0-9 _ . -",
            config.name.escape_debug()
        );
    }
    let base = file.parent().unwrap_or(Path::new("."));
    let firmware = match &config.firmware {
        Firmware::Xenolith => None,
        Firmware::SeaBios => Some(PathBuf::from("seabios")),
        Firmware::Ovmf => Some(PathBuf::from("ovmf")),
        Firmware::Module(image) => Some(base.join(image)),
    };
    let drives = config.disks.iter().map(|disk| drive_of(disk, base)).collect();
    let rest = entries.iter().filter(|entry| !TAKEN.contains(&entry.key.as_str())).map(value_of);
    let mut rest: Vec<(String, Value)> = rest.collect();
    if config.localtime {
        // The hypervisor knows no time zone: it gets the difference that is in force now.
        rest.push(("rtc_timeoffset".into(), Value::Text(local_offset()?.to_string())));
    }
    Ok(Read { drives, firmware, rest, config })
}

fn drive_of(disk: &DiskConfig, base: &Path) -> Drive {
    let source = match &disk.target {
        Target::Empty => Source::Empty,
        Target::Module(path) => Source::File(base.join(path)),
        Target::HostDisk(number) => Source::Physical(format!("host:{number}")),
        Target::HostDevice(device) => Source::Physical(format!("phy:{device}")),
        Target::Remote { guest, params } => Source::Remote(guest.clone(), params.clone()),
    };
    let place = match disk.vdev {
        Vdev::Ide(n) => format!("hd{}", letter(n)),
        Vdev::Paravirtual(n) => format!("xvd{}", letter(n)),
        Vdev::Floppy(n) => format!("fd{}", letter(n)),
    };
    Drive { source, place, cdrom: disk.cdrom, writable: disk.writable }
}

/// Drives by their specifications, with files relative to this directory.
pub fn drives(specs: Vec<String>) -> Result<Vec<Drive>> {
    let text = write(&[("name", Value::Text("a".into())), ("disk", Value::List(specs))]);
    let config = GuestConfig::parse("disk", &text).map_err(|error| anyhow!("{error}"))?;
    Ok(config.disks.iter().map(|disk| drive_of(disk, Path::new("."))).collect())
}

/// Seconds that local time is ahead of UTC.
fn local_offset() -> Result<i64> {
    let made = Command::new("date").arg("+%z").output().context("localtime: cannot run date")?;
    let text = String::from_utf8_lossy(&made.stdout);
    offset(text.trim()).with_context(|| format!("localtime: date says {text:?}"))
}

/// Reads `+hhmm`.
fn offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

fn letter(n: u8) -> char {
    char::from(b'a' + n % 26)
}

fn value_of(entry: &Entry) -> (String, Value) {
    let text = |atom: &Atom| atom.text.clone();
    let value = match &entry.value {
        machine::config::Value::Atom(atom) => Value::Text(text(atom)),
        machine::config::Value::List(atoms) => Value::List(atoms.iter().map(text).collect()),
    };
    (entry.key.clone(), value)
}

/// A guest's name from any text: what a line of the control channel can hold.
pub fn clean_name(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    text.chars().map(keep).take(64).collect()
}

/// Writes settings as a configuration file.
pub fn write(settings: &[(&str, Value)]) -> String {
    let mut text = String::new();
    for (key, value) in settings {
        let value = match value {
            Value::Number(n) => n.to_string(),
            Value::Text(text) => quote(text),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| quote(item)).collect();
                format!("[ {} ]", items.join(", "))
            }
        };
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Read> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.cfg");
        fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn a_configuration_as_xl_takes_it_is_read() {
        let read = read_text(
            "# a guest\nname = 'a' # its name\nmemory = 0x100\nvcpus=2;\nhpet = 0\n\
             disk = [ \"file:a.iso,hdc:cdrom,r\",\n  'b.img,raw,hda,r', 'phy:/dev/sdb,hdb,w' ]\n",
        )
        .unwrap();
        assert_eq!((read.config.name.as_str(), read.config.memory_mib), ("a", 256));
        assert_eq!(read.rest, [("hpet".to_owned(), Value::Text("0".into()))]);
        let [cd, disk, physical] = &read.drives[..] else { panic!("{:?}", read.drives) };
        assert!(cd.cdrom && cd.path().is_some_and(|path| path.ends_with("a.iso")));
        assert_eq!((disk.place.as_str(), disk.writable), ("hda", false));
        assert_eq!(physical.source, Source::Physical("phy:sdb".into()));
    }

    #[test]
    fn local_time_becomes_an_offset_of_the_clock() {
        assert_eq!(
            (offset("+0000"), offset("-0330"), offset("+1245")),
            (Some(0), Some(-12600), Some(45900))
        );
        assert_eq!(
            (offset(""), offset("0100"), offset("+xx00"), offset("+é")),
            (None, None, None, None)
        );
        let read = read_text("localtime = 1").unwrap();
        let [(key, Value::Text(seconds))] = &read.rest[..] else { panic!("{:?}", read.rest) };
        assert_eq!(
            (key.as_str(), seconds),
            ("rtc_timeoffset", &local_offset().unwrap().to_string())
        );
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_is_allowed() {
        for (text, wanted) in [
            ("\nmemroy = 4", "a.cfg:2: memroy: unknown key; did you mean memory?"),
            ("vcpus = 0", "a.cfg:1: vcpus: allowed is 1 to 64"),
            ("\n\nname = \"a b\"", "a.cfg:3: name: \"a b\" is not allowed"),
            ("vcpus = 1\nvcpus = 2", "a.cfg:2: vcpus: given twice; first on line 1"),
            ("on_crash = \"explode\"", "allowed is \"destroy\""),
            ("disk = [ \"a,hdz,w\" ]", "a.cfg:1: disk:"),
            ("just words", "a.cfg:1: just: expected = after the key"),
        ] {
            let words = read_text(text).err().unwrap().to_string();
            assert!(words.contains(wanted), "{text:?}: {words}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_by_the_hypervisors_parser() {
        let disks = vec!["module:a,hda,w".into()];
        let text = write(&[
            ("name", Value::Text("x".into())),
            ("disk", Value::List(disks)),
            ("kernel", Value::Text("module:k".into())),
            ("extra", Value::Text(r#"a="b\c" $"#.into())),
        ]);
        let read = GuestConfig::parse("x", &text).unwrap();
        assert_eq!(read.disks[0].target, Target::Module("a".into()));
        assert_eq!(read.cmdline, r#"a="b\c" $"#);
    }
}
