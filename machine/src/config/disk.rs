//! Disk specifications, as xl-disk-configuration(5) has them: positional, by key, or mixed.

use super::error::{Problem, nearest};
use alloc::string::String;

/// What is in a drive, or boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing: an empty CD or floppy drive.
    Empty,
    /// A boot module by its name: `module:NAME`, or any other word. Writes stay in memory.
    Module(String),
    /// A disk of the host by its number: `host:N`.
    HostDisk(u32),
    /// A disk of the host by its name: `/dev/vda`. The name is all that stands after `/dev/`.
    HostDevice(String),
    /// What the back end of another guest makes of these words (`backend=GUEST`): its drivers serve it.
    Remote {
        /// The other guest's name.
        guest: String,
        /// What stands in `params` of the back end's nodes, such as a device there.
        params: String,
    },
}

/// Where a drive is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vdev {
    /// IDE drive 0 to 3: hda to hdd, xvda to xvdd, sda to sdd.
    Ide(u8),
    /// A paravirtual disk beyond the IDE places: xvde is 4.
    Paravirtual(u8),
    /// Floppy drive 0 or 1: fda, fdb.
    Floppy(u8),
}

impl Target {
    /// Reads what a drive holds, as a configuration names it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Target> {
        parse_target(word).ok()
    }
}

impl Vdev {
    /// Reads a place, such as `hdc`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Vdev> {
        vdev(word)
    }

    /// Its number and name for Xen's drivers as a disk that has no emulated drive: 51712 is `xvda` (Xen docs
    /// "xen-vbd-interface", "Concrete encoding in the VBD interface"). `None` for a floppy drive.
    #[must_use]
    pub fn xen_disk(self) -> Option<(u32, String)> {
        let (Vdev::Ide(n) | Vdev::Paravirtual(n)) = self else { return None };
        let wide = u32::from(n);
        let number = if n < 16 { 202 << 8 | wide << 4 } else { 1 << 28 | wide << 8 };
        Some((number, alloc::format!("xvd{}", char::from(b'a' + n % 26))))
    }

    /// The machine's drive slot ([`MachineConfig::drives`](crate::MachineConfig::drives)); `None`
    /// for what only paravirtual drivers see.
    #[must_use]
    pub fn slot(self) -> Option<usize> {
        match self {
            Vdev::Ide(n) => Some(usize::from(n & 3)),
            Vdev::Floppy(n) => Some(4 + usize::from(n & 1)),
            Vdev::Paravirtual(_) => None,
        }
    }
}

/// A drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Line of the specification, for messages about its target.
    pub line: u32,
    /// What is in it. The only format is raw.
    pub target: Target,
    /// Where it is built in.
    pub vdev: Vdev,
    /// A CD-ROM drive.
    pub cdrom: bool,
    /// The guest may write. Never for CDs.
    pub writable: bool,
}

const FORMATS: &str = "raw (other image formats are converted with qemu-img convert)";
const VDEVS: &str = "hda to hdd, xvda to xvdz, sda to sdd, fda or fdb";
const ACCESSES: &str = "r, ro, w or rw";
const KEYS: &str = "target=, format=, vdev=, access=, devtype=, cdrom, and those of \
                    xl-disk-configuration(5) for backends";

/// What a specification has said so far.
#[derive(Default)]
struct Parts<'a> {
    target: Option<&'a str>,
    format: Option<&'a str>,
    vdev: Option<&'a str>,
    access: Option<&'a str>,
    backend: Option<&'a str>,
    cdrom: bool,
}

/// Reads a specification. `default` is its place where it names none, as for floppies.
pub(super) fn parse(line: u32, spec: &str, default: Option<Vdev>) -> Result<DiskConfig, Problem> {
    let parts = split(spec)?;
    let mut target = parts.target.unwrap_or("").trim();
    // xl's deprecated prefixes. `phy:` names a device of the host, with or without `/dev/`.
    for prefix in ["file:", "raw:"] {
        target = target.strip_prefix(prefix).unwrap_or(target);
    }
    let physical = target.strip_prefix("phy:");
    match parts.format.unwrap_or("") {
        "" | "raw" | "empty" => {}
        other => return Err(not_allowed(other, FORMATS, &["raw"])),
    }
    let (vdev, cdrom) = match (parts.vdev, default) {
        (None | Some(""), Some(vdev)) => (vdev, parts.cdrom),
        (None | Some(""), None) => {
            return Err(Problem::Syntax("vdev=, the place of the drive, such as hda"));
        }
        (Some(word), _) => {
            let (place, kind) = word.split_once(':').unwrap_or((word, ""));
            let vdev = vdev(place).ok_or_else(|| not_allowed(word, VDEVS, &[]))?;
            match kind {
                "" | "disk" => (vdev, parts.cdrom),
                "cdrom" => (vdev, true),
                other => return Err(not_allowed(other, "cdrom or disk", &["cdrom", "disk"])),
            }
        }
    };
    let writable = match parts.access.unwrap_or("") {
        "" | "w" | "rw" => true,
        "r" | "ro" => false,
        other => return Err(not_allowed(other, ACCESSES, &[])),
    };
    let floppy = matches!(vdev, Vdev::Floppy(_));
    if cdrom && !matches!(vdev, Vdev::Ide(_)) {
        return Err(Problem::Conflict("a CD-ROM drive must be one of hda to hdd"));
    }
    if let Some(guest) = parts.backend {
        return remote(line, guest, physical.unwrap_or(target), (vdev, cdrom, writable));
    }
    let target = match physical {
        _ if parts.format == Some("empty") => Target::Empty,
        Some(name) => Target::HostDevice(name.strip_prefix("/dev/").unwrap_or(name).into()),
        None => parse_target(target)?,
    };
    if target == Target::Empty && !cdrom && !floppy {
        return Err(Problem::Syntax("target=; only CD-ROM and floppy drives may be empty"));
    }
    Ok(DiskConfig { line, target, vdev, cdrom, writable: writable && !cdrom })
}

/// A disk that another guest serves.
fn remote(
    line: u32,
    guest: &str,
    params: &str,
    (vdev, cdrom, writable): (Vdev, bool, bool),
) -> Result<DiskConfig, Problem> {
    if cdrom || matches!(vdev, Vdev::Floppy(_)) {
        return Err(Problem::Conflict("only hard disks can be on another guest's back end"));
    }
    if params.is_empty() || params.chars().any(char::is_control) {
        return Err(Problem::Syntax("target=, what the other guest serves, such as /dev/xvdb"));
    }
    let target = Target::Remote { guest: guest.into(), params: params.into() };
    Ok(DiskConfig { line, target, vdev, cdrom, writable })
}

fn split(spec: &str) -> Result<Parts<'_>, Problem> {
    let mut parts = Parts::default();
    let mut rest = spec;
    // 0 target, 1 format, 2 vdev, 3 access.
    let mut position = 0;
    loop {
        let (part, after) = match rest.split_once(',') {
            Some((part, after)) => (part, Some(after)),
            None => (rest, None),
        };
        let part = part.trim();
        match part.split_once('=') {
            // The target by key is last and takes commas (xl-disk-configuration(5) "target=").
            Some(("target", _)) => {
                let (_, target) = rest.split_once('=').unwrap_or(("", ""));
                set(&mut parts.target, target)?;
                return Ok(parts);
            }
            Some(("format", value)) => set(&mut parts.format, value)?,
            Some(("vdev", value)) => set(&mut parts.vdev, value)?,
            Some(("access", value)) => set(&mut parts.access, value)?,
            Some(("devtype", "cdrom")) => parts.cdrom = true,
            Some(("devtype", "disk")) => {}
            Some(("devtype", other)) => {
                return Err(not_allowed(other, "cdrom or disk", &["cdrom", "disk"]));
            }
            Some(("backendtype", "phy" | "qdisk" | "standalone")) => {}
            Some(("backend", "")) => {
                return Err(Problem::Syntax("backend=, the name of another guest"));
            }
            Some(("backend", "0" | "Domain-0")) => {}
            Some(("backend", guest)) => set(&mut parts.backend, guest)?,
            Some(("backendtype", other)) => {
                return Err(not_allowed(other, "phy, qdisk or standalone", &["phy", "qdisk"]));
            }
            Some(("script", _)) => {
                return Err(not_allowed(
                    "script",
                    "no script: there is no domain 0 to run it",
                    &[],
                ));
            }
            _ if matches!(part, "cdrom") => parts.cdrom = true,
            _ if matches!(part, "direct-io-safe" | "discard" | "no-discard") => {}
            Some((key, _)) if position > 0 || !key.contains(['/', ':', '.']) => {
                let keys = &["target", "format", "vdev", "access", "devtype"];
                return Err(not_allowed(key, KEYS, keys));
            }
            _ => positional(&mut parts, &mut position, part)?,
        }
        match after {
            Some(after) => rest = after,
            None => return Ok(parts),
        }
    }
}

/// A part without a key. Format and place may be left out altogether, as old configurations do.
fn positional<'a>(parts: &mut Parts<'a>, position: &mut u8, part: &'a str) -> Result<(), Problem> {
    let place = part.split(':').next().unwrap_or("");
    if *position == 1 && vdev(place).is_some() {
        *position = 2;
    }
    if matches!(*position, 1 | 2) && matches!(part, "r" | "ro" | "w" | "rw") {
        *position = 3;
    }
    let field = match *position {
        0 => &mut parts.target,
        1 => &mut parts.format,
        2 => &mut parts.vdev,
        3 => &mut parts.access,
        _ => return Err(Problem::Syntax("the end after target, format, vdev and access")),
    };
    *position += 1;
    if part.is_empty() { Ok(()) } else { set(field, part) }
}

fn set<'a>(field: &mut Option<&'a str>, value: &'a str) -> Result<(), Problem> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::Syntax("each of target, format, vdev, access and backend once")),
    }
}

/// Reads what a drive holds.
pub(super) fn parse_target(word: &str) -> Result<Target, Problem> {
    const ALLOWED: &str = "module:NAME, host:N, /dev/NAME or a module's name";
    if word.is_empty() {
        return Ok(Target::Empty);
    }
    if let Some(number) = word.strip_prefix("host:") {
        let number = number.parse().map_err(|_| not_allowed(word, ALLOWED, &[]))?;
        return Ok(Target::HostDisk(number));
    }
    let (device, name) = match (word.strip_prefix("/dev/"), word.strip_prefix("module:")) {
        (Some(name), _) => (true, name),
        (None, Some(name)) => (false, name),
        (None, None) => (false, word),
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(not_allowed(word, ALLOWED, &[]));
    }
    Ok(if device { Target::HostDevice(name.into()) } else { Target::Module(name.into()) })
}

/// Reads a place: whole disks only.
fn vdev(word: &str) -> Option<Vdev> {
    let letter = |prefix| match word.strip_prefix(prefix).map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Some(letter - b'a'),
        _ => None,
    };
    if let Some(n @ 0..=3) = letter("hd").or(letter("sd")) {
        return Some(Vdev::Ide(n));
    }
    if let Some(n @ 0..=1) = letter("fd") {
        return Some(Vdev::Floppy(n));
    }
    letter("xvd").map(|n| if n < 4 { Vdev::Ide(n) } else { Vdev::Paravirtual(n) })
}

fn not_allowed(value: &str, allowed: &'static str, words: &[&'static str]) -> Problem {
    let near = nearest(value, words.iter().copied());
    Problem::NotAllowed { value: value.into(), allowed, near }
}
