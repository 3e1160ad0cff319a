//! The keys and what each may say.

use super::disk::{self, Target};
use super::error::{Problem, nearest};
use super::syntax::{self, Atom, Located, Value};
use super::{
    Action, BootFrom, Firmware, GuestConfig, GuestKind, MAX_MEMORY, MAX_VCPUS, MIN_MEMORY, Serial,
    cpus, vif,
};
use crate::viridian::Groups;
use crate::xen::grants::{MAPS_PER_FRAME, MAX_MAPS};
use crate::xen::{Limits, MAX_PORT};
use alloc::string::String;
use alloc::vec::Vec;

/// Most elements in a list.
const MAX_LIST: usize = 64;
/// Longest name of a guest.
const MAX_NAME: usize = 64;
/// Longest kernel command line, as Linux takes it.
const MAX_CMDLINE: usize = 2047;

/// What the file says before the keys are weighed against each other.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    maxmem: Option<(u32, u32)>,
    maxvcpus: Option<(u32, u8)>,
    cmdline: Option<(u32, String)>,
    root: Option<(u32, String)>,
    extra: Option<(u32, String)>,
    firmware: Option<u32>,
    ramdisk: u32,
    localtime: u32,
    xen: u32,
    viridian: u32,
}

/// A fault, with its line where that is another than the value's first.
struct At {
    line: Option<u32>,
    problem: Problem,
}

impl From<Problem> for At {
    fn from(problem: Problem) -> At {
        At { line: None, problem }
    }
}

type Setter = fn(&mut GuestConfig, &mut Draft, u32, &Value) -> Result<(), At>;

/// Keys of xl that are refused with a reason rather than as unknown.
const XL_ONLY: [(&[&str], &str); 5] = [
    (
        &[
            "vnc",
            "vnclisten",
            "vncdisplay",
            "vncunused",
            "vncpasswd",
            "sdl",
            "opengl",
            "spice",
            "spiceport",
            "keymap",
            "nographic",
            "gfx_passthru",
        ],
        "the guest's screen is the hypervisor's",
    ),
    (
        &[
            "device_model_version",
            "device_model_override",
            "device_model_stubdomain_override",
            "device_model_args",
            "device_model_user",
            "soundhw",
            "usb",
            "usbdevice",
            "usbversion",
            "usbctrl",
            "usbdev",
        ],
        "there is no device model process",
    ),
    (
        &["pci", "pci_permissive", "ioports", "irqs", "iomem", "dtdev"],
        "host devices are not passed through",
    ),
    (&["pool", "vnuma", "numa_placement", "cpus_soft", "cap"], "the scheduler has weights only"),
    (
        &["shadow_memory", "nestedhvm", "altp2m", "bootloader", "bootloader_args", "driver_domain"],
        "not offered",
    ),
];

/// Every key, in the order of the manual page.
const KEYS: &[(&str, Setter)] = &[
    ("name", |_, draft, _, value| {
        let name = string(value)?;
        let legal = |c: char| !c.is_control() && c != '/' && c != '"';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(legal) {
            let allowed = "1 to 64 characters without / and quotes";
            return Err(Problem::NotAllowed { value: name.into(), allowed, near: None }.into());
        }
        draft.name = Some(name.into());
        Ok(())
    }),
    ("type", |config, _, _, value| {
        let kinds = [("hvm", GuestKind::Hvm), ("pvh", GuestKind::Pvh)];
        set(&mut config.kind, choice(value, &kinds, "\"hvm\" or \"pvh\""))
    }),
    ("builder", |_, _, _, value| Ok(choice(value, &[("hvm", ())], "\"hvm\"")?)),
    ("uuid", |config, _, _, value| set(&mut config.uuid, uuid(value).map(Some))),
    ("memory", |config, _, _, value| {
        set(&mut config.memory_mib, number(value, MIN_MEMORY.into(), MAX_MEMORY.into(), " MiB"))
    }),
    ("maxmem", |_, draft, line, value| {
        let mib = number(value, MIN_MEMORY.into(), MAX_MEMORY.into(), " MiB")?;
        draft.maxmem = Some((line, mib));
        Ok(())
    }),
    ("vcpus", |config, _, _, value| set(&mut config.vcpus, number(value, 1, MAX_VCPUS.into(), ""))),
    ("maxvcpus", |_, draft, line, value| {
        draft.maxvcpus = Some((line, number(value, 1, MAX_VCPUS.into(), "")?));
        Ok(())
    }),
    ("cpus", |config, _, _, value| {
        set(&mut config.cpus, each(atoms(value), |atom| cpus::parse(&atom.text)))
    }),
    ("cpu_weight", |config, _, _, value| set(&mut config.cpu_weight, number(value, 1, 65535, ""))),
    ("disk", |config, _, _, value| {
        each(list(value)?, |atom| {
            let disk = disk::parse(atom.line, &atom.text, None)?;
            add_disk(config, disk)
        })
        .map(|_: Vec<()>| ())
    }),
    ("floppy", |config, _, _, value| {
        if atoms(value).len() > 2 {
            return Err(Problem::TooMany(2).into());
        }
        let mut next = 0;
        each(atoms(value), |atom| {
            let disk = disk::parse(atom.line, &atom.text, Some(disk::Vdev::Floppy(next)))?;
            next = 1;
            if !matches!(disk.vdev, disk::Vdev::Floppy(_)) {
                return Err(Problem::Conflict("a floppy drive must be fda or fdb"));
            }
            add_disk(config, disk)
        })
        .map(|_: Vec<()>| ())
    }),
    ("kernel", |config, _, _, value| set(&mut config.kernel, module(value).map(Some))),
    ("ramdisk", |config, draft, line, value| {
        draft.ramdisk = line;
        set(&mut config.ramdisk, module(value).map(Some))
    }),
    ("cmdline", |_, draft, line, value| keep(&mut draft.cmdline, line, value)),
    ("root", |_, draft, line, value| keep(&mut draft.root, line, value)),
    ("extra", |_, draft, line, value| keep(&mut draft.extra, line, value)),
    ("boot", |config, _, _, value| set(&mut config.boot, boot(value))),
    ("bootmenu", |config, _, _, value| {
        set(&mut config.boot_menu_ms, number(value, 0, 60_000, " milliseconds"))
    }),
    ("firmware", |config, draft, line, value| set_firmware(config, draft, line, value)),
    ("bios", |config, draft, line, value| set_firmware(config, draft, line, value)),
    ("firmware_override", |config, draft, line, value| {
        let name = module(value)?;
        if draft.firmware.replace(line).is_some() {
            return Err(FIRMWARE_TWICE.into());
        }
        config.firmware = Firmware::Module(name);
        Ok(())
    }),
    ("serial", |config, _, _, value| {
        let ports = [("pty", Serial::Console), ("none", Serial::None), ("null", Serial::None)];
        let atoms = atoms(value);
        if atoms.len() > 2 {
            return Err(Problem::TooMany(2).into());
        }
        config.serial = [Serial::None; 2];
        for (port, atom) in config.serial.iter_mut().zip(atoms) {
            *port = choice_of(&atom.text, &ports, "\"pty\" (the console) or \"none\"")?;
        }
        if config.serial == [Serial::Console; 2] {
            return Err(Problem::Conflict("only one port can lead to the console").into());
        }
        Ok(())
    }),
    ("vga", |_, _, _, value| {
        Ok(choice(value, &[("stdvga", ())], "\"stdvga\": it is part of the board")?)
    }),
    ("stdvga", |_, _, _, value| match yes_or_no(value)? {
        true => Ok(()),
        false => Err(Problem::Conflict("allowed is 1: there is no other display").into()),
    }),
    ("videoram", |config, _, _, value| {
        let mib: u32 = number(value, 1, 32, " MiB")?;
        if !mib.is_power_of_two() {
            let (value, allowed) = (string_of(value), "1, 2, 4, 8, 16 or 32 MiB");
            return Err(Problem::NotAllowed { value, allowed, near: None }.into());
        }
        config.video_mib = mib;
        Ok(())
    }),
    ("on_poweroff", |config, _, _, value| set(&mut config.on_poweroff, action(value))),
    ("on_reboot", |config, _, _, value| set(&mut config.on_reboot, action(value))),
    ("on_crash", |config, _, _, value| set(&mut config.on_crash, action(value))),
    ("on_watchdog", |config, _, _, value| set(&mut config.on_watchdog, action(value))),
    ("xen_platform_pci", |config, _, _, value| set(&mut config.xen_platform_pci, yes_or_no(value))),
    ("xen", |config, draft, line, value| {
        draft.xen = line;
        set(&mut config.xen, yes_or_no(value))
    }),
    ("viridian", |config, draft, line, value| {
        draft.viridian = line;
        config.viridian = match value {
            Value::Atom(_) => yes_or_no(value)?.then_some(Groups::DEFAULTS),
            Value::List(list) => viridian(list)?,
        };
        Ok(())
    }),
    ("max_event_channels", |config, _, _, value| {
        // More than the interface has is all that it has, as in xl.
        let ports: u32 = number(value, 1, i64::from(i32::MAX), "")?;
        config.limits.max_port = ports.min(MAX_PORT);
        Ok(())
    }),
    ("max_grant_frames", |config, _, _, value| {
        let most = i64::from(Limits::default().grant_frames);
        set(&mut config.limits.grant_frames, number(value, 1, most, ""))
    }),
    ("max_maptrack_frames", |config, _, _, value| {
        let frames: u32 = number(value, 1, i64::from(MAX_MAPS / MAPS_PER_FRAME), "")?;
        config.limits.maps = frames * MAPS_PER_FRAME;
        Ok(())
    }),
    ("max_grant_version", |config, _, _, value| {
        set(&mut config.limits.grants_v2, number(value, 1, 2, "").map(|n: u8| n == 2))
    }),
    ("hpet", |config, _, _, value| set(&mut config.hpet, yes_or_no(value))),
    ("acpi", |config, _, _, value| set(&mut config.acpi, yes_or_no(value))),
    ("apic", |config, _, _, value| set(&mut config.apic, yes_or_no(value))),
    ("pae", |config, _, _, value| set(&mut config.pae, yes_or_no(value))),
    ("nx", |config, _, _, value| set(&mut config.nx, yes_or_no(value))),
    ("hap", |_, _, _, value| match yes_or_no(value)? {
        true => Ok(()),
        false => Err(Problem::Conflict("allowed is 1: guests always run on EPT or NPT").into()),
    }),
    ("rtc_timeoffset", |config, _, _, value| {
        let limit = i64::from(i32::MAX);
        set(&mut config.rtc_offset_s, number(value, -limit, limit, " seconds"))
    }),
    ("localtime", |config, draft, line, value| {
        draft.localtime = line;
        set(&mut config.localtime, yes_or_no(value))
    }),
    ("vif", |config, _, _, value| {
        set(&mut config.vifs, each(list(value)?, |atom| vif::parse(&atom.text)))
    }),
    ("vfb", |config, _, _, value| set(&mut config.vfb, vfb(list(value)?))),
    ("vkb_device", |config, _, _, value| set(&mut config.vkb_device, yes_or_no(value))),
    ("snapshot", |config, _, _, value| set(&mut config.snapshot, yes_or_no(value))),
];

const FIRMWARE_TWICE: Problem =
    Problem::Conflict("give one of firmware, bios and firmware_override");

/// Names of all keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

/// Reads a whole file. An error carries its key.
pub(super) fn read(text: &str) -> Result<GuestConfig, (String, Located)> {
    let mut config = GuestConfig::new("");
    let mut draft = Draft::default();
    for entry in syntax::parse(text)? {
        let line = match &entry.value {
            // A fault in a list is told where its first element is.
            Value::List(list) => list.first().map_or(entry.line, |atom| atom.line),
            Value::Atom(atom) => atom.line,
        };
        let Some((_, setter)) = KEYS.iter().find(|(name, _)| *name == entry.key) else {
            match unknown(&entry.key) {
                Problem::OnlyInXl(_) if asks_for_nothing(&entry.value) => continue,
                problem => return Err((entry.key, (entry.line, problem))),
            }
        };
        let result = check_length(&entry.value)
            .and_then(|()| setter(&mut config, &mut draft, line, &entry.value));
        if let Err(At { line: element, problem }) = result {
            return Err((entry.key, (element.unwrap_or(line), problem)));
        }
    }
    weigh(&mut config, draft).map_err(|(key, located)| (key.into(), located))?;
    Ok(config)
}

fn unknown(key: &str) -> Problem {
    let only = XL_ONLY.iter().find(|(keys, _)| keys.contains(&key));
    match only {
        Some((_, why)) => Problem::OnlyInXl(why),
        None => Problem::UnknownKey(nearest(key, names())),
    }
}

/// 0, `""` or `[]`: what a key of xl's is for is switched off, as it is here anyway.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Atom(atom) => atom.text.is_empty() || atom.text == "0",
        Value::List(list) => list.is_empty(),
    }
}

fn check_length(value: &Value) -> Result<(), At> {
    match value {
        Value::List(list) if list.len() > MAX_LIST => Err(Problem::TooMany(MAX_LIST as u32).into()),
        _ => Ok(()),
    }
}

/// Keys against each other.
fn weigh(config: &mut GuestConfig, draft: Draft) -> Result<(), (&'static str, Located)> {
    let Draft { name, maxmem, maxvcpus, cmdline, root, extra, .. } = draft;
    let Draft { firmware, ramdisk, localtime, xen, viridian, .. } = draft;
    config.name = name.ok_or(("name", (0, Problem::Missing)))?;
    config.max_memory_mib = config.memory_mib;
    if let Some((line, mib)) = maxmem {
        if mib < config.memory_mib {
            return Err(("maxmem", (line, Problem::Conflict("less than memory"))));
        }
        config.max_memory_mib = mib;
    }
    config.max_vcpus = config.vcpus;
    if let Some((line, count)) = maxvcpus {
        if count < config.vcpus {
            return Err(("maxvcpus", (line, Problem::Conflict("less than vcpus"))));
        }
        config.max_vcpus = count;
    }
    let has_words = cmdline.is_some() || root.is_some() || extra.is_some();
    let words_line = [&cmdline, &root, &extra].into_iter().flatten().map(|(line, _)| *line).min();
    config.cmdline = match (cmdline, root, extra) {
        (Some((line, _)), root, extra) if root.is_some() || extra.is_some() => {
            let problem = Problem::Conflict("give either cmdline, or root and extra");
            return Err(("cmdline", (line, problem)));
        }
        (Some((_, words)), ..) => words,
        (None, Some((_, root)), extra) => {
            let extra = extra.map_or(String::new(), |(_, extra)| extra);
            [alloc::format!("root={root}"), extra].join(" ").trim_end().into()
        }
        (None, None, extra) => extra.map_or(String::new(), |(_, extra)| extra),
    };
    if config.cmdline.len() > MAX_CMDLINE {
        let problem = Problem::Conflict("longer than 2047 characters");
        return Err(("cmdline", (words_line.unwrap_or(0), problem)));
    }
    let needs_kernel = Problem::Conflict("needs kernel");
    if config.kernel.is_none() {
        if config.ramdisk.is_some() {
            return Err(("ramdisk", (ramdisk, needs_kernel)));
        }
        if has_words {
            return Err(("cmdline", (words_line.unwrap_or(0), needs_kernel)));
        }
        if config.kind == GuestKind::Pvh {
            return Err(("kernel", (0, Problem::Missing)));
        }
    }
    if config.kind == GuestKind::Pvh
        && let Some(line) = firmware
    {
        return Err(("firmware", (line, Problem::Conflict("not with type = \"pvh\""))));
    }
    if config.kind == GuestKind::Pvh && config.viridian.is_some() {
        return Err(("viridian", (viridian, Problem::Conflict("not with type = \"pvh\""))));
    }
    if config.kind == GuestKind::Pvh && !config.xen {
        return Err(("xen", (xen, Problem::Conflict("must be 1 with type = \"pvh\""))));
    }
    if config.backends().next().is_some() && !config.xen {
        return Err(("xen", (xen, Problem::Conflict("must be 1 with backend="))));
    }
    if config.localtime && config.rtc_offset_s != 0 {
        let problem = Problem::Conflict("give either localtime or rtc_timeoffset");
        return Err(("localtime", (localtime, problem)));
    }
    Ok(())
}

fn set<T, E: Into<At>>(field: &mut T, value: Result<T, E>) -> Result<(), At> {
    *field = value.map_err(Into::into)?;
    Ok(())
}

/// Reads every element; a fault is told with the element's line.
fn each<T>(
    atoms: &[Atom],
    mut read: impl FnMut(&Atom) -> Result<T, Problem>,
) -> Result<Vec<T>, At> {
    let located = |atom: &Atom, problem| At { line: Some(atom.line), problem };
    atoms.iter().map(|atom| read(atom).map_err(|problem| located(atom, problem))).collect()
}

fn keep(field: &mut Option<(u32, String)>, line: u32, value: &Value) -> Result<(), At> {
    *field = Some((line, string(value)?.into()));
    Ok(())
}

fn add_disk(config: &mut GuestConfig, disk: disk::DiskConfig) -> Result<(), Problem> {
    if config.disks.iter().any(|other| other.vdev == disk.vdev) {
        let place = match disk.vdev {
            disk::Vdev::Ide(n) => alloc::format!("hd{}", char::from(b'a' + n % 26)),
            disk::Vdev::Paravirtual(n) => alloc::format!("xvd{}", char::from(b'a' + n % 26)),
            disk::Vdev::Floppy(n) => alloc::format!("fd{}", char::from(b'a' + n % 26)),
        };
        return Err(Problem::PlaceTaken(place));
    }
    config.disks.push(disk);
    Ok(())
}

fn string(value: &Value) -> Result<&str, Problem> {
    match value {
        Value::Atom(atom) if atom.quoted => Ok(&atom.text),
        _ => Err(Problem::WrongType("a string in quotes")),
    }
}

fn string_of(value: &Value) -> String {
    match value {
        Value::Atom(atom) => atom.text.clone(),
        Value::List(_) => String::new(),
    }
}

fn list(value: &Value) -> Result<&[Atom], Problem> {
    match value {
        Value::List(list) => Ok(list),
        Value::Atom(_) => Err(Problem::WrongType("a list, as in [ \"…\" ]")),
    }
}

/// A list, or a single value as a list of one.
fn atoms(value: &Value) -> &[Atom] {
    match value {
        Value::List(list) => list,
        Value::Atom(atom) => core::slice::from_ref(atom),
    }
}

/// A number as C's strtol reads it: decimal, 0x hexadecimal, 0 octal. Quotes around it do not
/// matter.
fn number<T: TryFrom<i64>>(
    value: &Value,
    min: i64,
    max: i64,
    unit: &'static str,
) -> Result<T, Problem> {
    let Value::Atom(atom) = value else { return Err(Problem::WrongType("a number")) };
    let text = atom.text.as_str();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (radix, digits) = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hex), _) => (16, hex),
        (None, Some(octal)) if !octal.is_empty() => (8, octal),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Problem::WrongType("a number"));
    }
    let outside = Problem::OutOfRange { min, max, unit };
    let Ok(number) = i64::from_str_radix(digits, radix) else { return Err(outside) };
    let number = number * sign;
    match T::try_from(number) {
        Ok(value) if (min..=max).contains(&number) => Ok(value),
        _ => Err(outside),
    }
}

fn yes_or_no(value: &Value) -> Result<bool, Problem> {
    number::<u8>(value, 0, 1, "").map(|n| n != 0)
}

/// Groups by their names, or with `!` without them, in their order.
fn viridian(list: &[Atom]) -> Result<Option<Groups>, At> {
    let mut all = Groups::empty();
    for atom in list {
        let (name, wanted) = match atom.text.strip_prefix('!') {
            Some(name) => (name, false),
            None => (atom.text.as_str(), true),
        };
        let Some(groups) = Groups::named(name) else {
            let allowed = "base, freq, time_ref_count, reference_tsc, apic_assist, crash_ctl, defaults and all";
            let problem = Problem::NotAllowed { value: name.into(), allowed, near: None };
            return Err(At { line: Some(atom.line), problem });
        };
        all.set(groups, wanted);
    }
    match (all.is_empty(), all.contains(Groups::BASE)) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(all)),
        (false, false) => Err(Problem::Conflict("the other groups need \"base\"").into()),
    }
}

/// Whether there is a frame buffer. How xl would show it does not matter: the hypervisor shows it.
fn vfb(list: &[Atom]) -> Result<bool, Problem> {
    const KEYS: [&str; 10] = [
        "type",
        "vnc",
        "vnclisten",
        "vncdisplay",
        "vncunused",
        "vncpasswd",
        "sdl",
        "opengl",
        "keymap",
        "display",
    ];
    if list.len() > 1 {
        return Err(Problem::TooMany(1));
    }
    for part in list.iter().flat_map(|atom| atom.text.split(',')).map(str::trim) {
        let key = part.split('=').next().unwrap_or(part);
        if !part.is_empty() && !KEYS.contains(&key) {
            let allowed = "[ 'type=vnc' ], with xl's words for VNC and SDL";
            return Err(Problem::NotAllowed { value: part.into(), allowed, near: None });
        }
    }
    Ok(!list.is_empty())
}

fn choice<T: Copy>(
    value: &Value,
    words: &[(&'static str, T)],
    allowed: &'static str,
) -> Result<T, Problem> {
    choice_of(string(value)?, words, allowed)
}

fn choice_of<T: Copy>(
    word: &str,
    words: &[(&'static str, T)],
    allowed: &'static str,
) -> Result<T, Problem> {
    match words.iter().find(|(name, _)| *name == word) {
        Some((_, value)) => Ok(*value),
        None => {
            let near = nearest(word, words.iter().map(|(name, _)| *name));
            Err(Problem::NotAllowed { value: word.into(), allowed, near })
        }
    }
}

fn action(value: &Value) -> Result<Action, Problem> {
    let actions = [
        ("destroy", Action::Destroy),
        ("restart", Action::Restart),
        ("preserve", Action::Preserve),
        ("coredump-destroy", Action::CoredumpDestroy),
        ("coredump-restart", Action::CoredumpRestart),
    ];
    let allowed =
        "\"destroy\", \"restart\", \"preserve\", \"coredump-destroy\" or \"coredump-restart\"";
    choice(value, &actions, allowed)
}

/// Letters of xl's `boot`, first choice first.
fn boot(value: &Value) -> Result<Vec<BootFrom>, Problem> {
    let text = string(value)?;
    let refuse = || {
        let allowed = "letters of a (floppy), c (disk), d (CD-ROM) and n (network), each once";
        Problem::NotAllowed { value: text.into(), allowed, near: None }
    };
    let mut order = Vec::new();
    for letter in text.chars() {
        let from = match letter {
            'a' => BootFrom::Floppy,
            'c' => BootFrom::Disk,
            'd' => BootFrom::Cdrom,
            'n' => BootFrom::Network,
            _ => return Err(refuse()),
        };
        if order.contains(&from) {
            return Err(refuse());
        }
        order.push(from);
    }
    if order.is_empty() { Err(refuse()) } else { Ok(order) }
}

fn set_firmware(
    config: &mut GuestConfig,
    draft: &mut Draft,
    line: u32,
    value: &Value,
) -> Result<(), At> {
    const ALLOWED: &str = "\"xenolith\", \"seabios\", \"ovmf\" or a boot module's name";
    let word = string(value)?;
    if draft.firmware.replace(line).is_some() {
        return Err(FIRMWARE_TWICE.into());
    }
    config.firmware = match word {
        "xenolith" | "bios" => Firmware::Xenolith,
        "seabios" => Firmware::SeaBios,
        "ovmf" | "uefi" => Firmware::Ovmf,
        _ => {
            // A slip in one of the names above is hardly a module.
            let near = nearest(word, ["xenolith", "seabios", "ovmf", "rombios"].into_iter());
            if near.is_some() {
                let near = near.filter(|near| *near != "rombios");
                let value = word.into();
                return Err(Problem::NotAllowed { value, allowed: ALLOWED, near }.into());
            }
            Firmware::Module(module(value)?)
        }
    };
    Ok(())
}

/// The name of a boot module, `module:` before it or not.
fn module(value: &Value) -> Result<String, Problem> {
    match disk::parse_target(string(value)?)? {
        Target::Module(name) => Ok(name),
        _ => Err(Problem::NotAllowed {
            value: string_of(value),
            allowed: "the name of a boot module",
            near: None,
        }),
    }
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`; the hyphens may be left out.
fn uuid(value: &Value) -> Result<[u8; 16], Problem> {
    let text = string(value)?;
    let refuse = || {
        let allowed = "32 hex digits, as in 01234567-89ab-cdef-0123-456789abcdef";
        Problem::NotAllowed { value: text.into(), allowed, near: None }
    };
    let mut bytes = [0; 16];
    let mut digits = text.chars().filter(|c| *c != '-');
    for byte in &mut bytes {
        let mut digit = || digits.next().and_then(|c| c.to_digit(16)).ok_or_else(refuse);
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    if digits.next().is_some() { Err(refuse()) } else { Ok(bytes) }
}
