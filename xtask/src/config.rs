//! Guest configurations in xl.cfg syntax: read from `--guest` files, written for the hypervisor.
//! A disk names a file here; in what the hypervisor gets it names a boot module or a host disk.

use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A value of the configuration language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `4` or `0x10`.
    Number(u64),
    /// `"text"` or `'text'`.
    Text(String),
    /// `[ "a", "b" ]`.
    List(Vec<String>),
}

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Line of the file, from 1.
    pub line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Number(u64, u64),
    Text,
    OneOf(&'static [&'static str]),
    List,
}

/// The keys, what they take, and what they mean.
const KEYS: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("memory", Kind::Number(2, 1 << 20)),
    ("vcpus", Kind::Number(1, 64)),
    ("disk", Kind::List),
    ("kernel", Kind::Text),
    ("ramdisk", Kind::Text),
    ("extra", Kind::Text),
    ("cmdline", Kind::Text),
    ("boot", Kind::Text),
    ("serial", Kind::OneOf(&["pty", "none"])),
    ("vga", Kind::OneOf(&["stdvga", "none"])),
    ("firmware", Kind::Text),
    ("type", Kind::OneOf(&["hvm", "pvh"])),
    ("builder", Kind::OneOf(&["hvm"])),
    ("on_poweroff", Kind::OneOf(ENDS)),
    ("on_reboot", Kind::OneOf(ENDS)),
    ("on_crash", Kind::OneOf(ENDS)),
    ("acpi", Kind::Number(0, 1)),
    ("apic", Kind::Number(0, 1)),
    ("hpet", Kind::Number(0, 1)),
    ("pae", Kind::Number(0, 1)),
    ("localtime", Kind::Number(0, 1)),
    ("rtc_timeoffset", Kind::Number(0, u32::MAX as u64)),
    ("xen_platform_pci", Kind::Number(0, 1)),
    ("uuid", Kind::Text),
    ("cpus", Kind::Text),
];

const ENDS: &[&str] = &["destroy", "restart", "preserve"];

/// Reads a configuration and checks keys and values; errors say file and line.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, raw)) = lines.next() {
        let line = index + 1;
        let place = format!("{}:{line}", file.display());
        let mut text = strip_comment(raw).trim().to_owned();
        if text.is_empty() {
            continue;
        }
        // A list may go on over several lines.
        while text.contains('[') && !text.contains(']') {
            let Some((_, more)) = lines.next() else { bail!("{place}: the list has no `]`") };
            text.push(' ');
            text.push_str(strip_comment(more).trim());
        }
        let Some((key, value)) = text.split_once('=') else {
            bail!("{place}: expected `key = value`, found `{text}`");
        };
        let key = key.trim().to_owned();
        let value = value.trim().trim_end_matches(';').trim_end();
        let Some((_, kind)) = KEYS.iter().find(|(name, _)| *name == key) else {
            let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
            bail!("{place}: unknown key `{key}`; allowed are: {}", names.join(", "));
        };
        if let Some(before) = settings.iter().find(|setting| setting.key == key) {
            bail!("{place}: `{key}` was already set in line {}", before.line);
        }
        let value = read_value(value).map_err(|why| anyhow::anyhow!("{place}: {key}: {why}"))?;
        check(*kind, &value).map_err(|why| anyhow::anyhow!("{place}: {key}: {why}"))?;
        settings.push(Setting { key, value, line });
    }
    Ok(settings)
}

fn strip_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    line
}

fn read_value(text: &str) -> Result<Value, String> {
    if let Some(inner) = text.strip_prefix('[') {
        let Some(inner) = inner.trim_end().strip_suffix(']') else {
            return Err("expected `]` at the end of the list".into());
        };
        let mut items = Vec::new();
        let mut rest = inner.trim();
        while !rest.is_empty() {
            let (item, after) = quoted(rest)?;
            items.push(item);
            rest = after.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(format!("expected `,` or `]` before `{rest}`")),
            };
        }
        return Ok(Value::List(items));
    }
    if text.starts_with(['"', '\'']) {
        let (inner, after) = quoted(text)?;
        if !after.trim().is_empty() {
            return Err(format!("unexpected `{}` after the text", after.trim()));
        }
        return Ok(Value::Text(inner));
    }
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .map(Value::Number)
        .map_err(|_| format!("`{text}` is neither a number, nor a \"text\", nor a [ \"list\" ]"))
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let Some(quote @ ('"' | '\'')) = text.chars().next() else {
        return Err(format!("expected a text in quotes, found `{text}`"));
    };
    match text[1..].find(quote) {
        Some(end) => Ok((text[1..=end].to_owned(), &text[end + 2..])),
        None => Err(format!("the text has no closing {quote}")),
    }
}

fn check(kind: Kind, value: &Value) -> Result<(), String> {
    match (kind, value) {
        (Kind::Number(low, high), Value::Number(n)) if (low..=high).contains(n) => Ok(()),
        (Kind::Number(low, high), Value::Number(n)) => {
            Err(format!("{n} is out of range: allowed is {low} to {high}"))
        }
        (Kind::Number(low, high), _) => Err(format!("expected a number from {low} to {high}")),
        (Kind::Text, Value::Text(_)) | (Kind::List, Value::List(_)) => Ok(()),
        (Kind::Text, _) => Err("expected a \"text\" in quotes".into()),
        (Kind::OneOf(words), Value::Text(word)) if words.contains(&word.as_str()) => Ok(()),
        (Kind::OneOf(words), _) => Err(format!("allowed is one of: {}", words.join(", "))),
        (Kind::List, _) => Err("expected a list: [ \"…\", \"…\" ]".into()),
    }
}

/// A disk of a configuration: `TARGET,VDEV[:cdrom],ACCESS` in any of xl's orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file on this machine.
    pub target: PathBuf,
    /// `hda` to `hdd`, `fda`, `fdb`.
    pub vdev: String,
    /// Whether it is a CD.
    pub cdrom: bool,
    /// Whether the guest may write.
    pub writable: bool,
}

/// Reads a disk's text; relative paths are relative to `base`.
pub fn parse_disk(text: &str, base: &Path) -> Result<Disk, String> {
    let mut parts = text.split(',').map(str::trim);
    let target = parts.next().unwrap_or("");
    let target = ["file:", "raw:", "phy:"]
        .iter()
        .find_map(|prefix| target.strip_prefix(prefix))
        .unwrap_or(target);
    if target.is_empty() {
        return Err(format!(
            "`{text}` names no file: write \"FILE,hda,w\" or \"FILE,hdc:cdrom,r\""
        ));
    }
    let mut disk =
        Disk { target: base.join(target), vdev: "hda".into(), cdrom: false, writable: true };
    for part in parts {
        let (device, cdrom) = match part.strip_suffix(":cdrom") {
            Some(device) => (device, true),
            None => (part, false),
        };
        match device {
            "" | "raw" => {}
            "hda" | "hdb" | "hdc" | "hdd" | "fda" | "fdb" => {
                disk.vdev = device.to_owned();
                disk.cdrom |= cdrom;
            }
            "cdrom" | "devtype=cdrom" => disk.cdrom = true,
            "r" | "ro" => disk.writable = false,
            "w" | "rw" => disk.writable = true,
            _ => {
                return Err(format!(
                    "`{part}` in `{text}` is not understood; allowed are raw, hda to hdd, fda, \
                     fdb, hdX:cdrom, cdrom, r, w"
                ));
            }
        }
    }
    disk.writable &= !disk.cdrom;
    Ok(disk)
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
    if text.contains('"') { format!("'{text}'") } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Setting>> {
        parse(Path::new("a.cfg"), text)
    }

    #[test]
    fn a_configuration_as_xl_takes_it_is_read() {
        let text = "# a guest\nname = 'a' # its name\nmemory = 0x100\nvcpus=2;\n\
                    disk = [ \"file:a.iso,hdc:cdrom,r\",\n  'b.img,hda,w', ]\n";
        let settings = read(text).unwrap();
        assert_eq!(settings[0].value, Value::Text("a".into()));
        assert_eq!(settings[1].value, Value::Number(256));
        let disks = vec!["file:a.iso,hdc:cdrom,r".to_owned(), "b.img,hda,w".to_owned()];
        assert_eq!(settings[3].value, Value::List(disks));
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_is_allowed() {
        let words = |text: &str| read(text).unwrap_err().to_string();
        assert!(
            words("\nmemroy = 4").starts_with("a.cfg:2: unknown key `memroy`; allowed are: name")
        );
        assert!(
            words("vcpus = 0").contains("a.cfg:1: vcpus: 0 is out of range: allowed is 1 to 64")
        );
        assert!(words("vcpus = \"2\"").contains("expected a number"));
        assert!(
            words("vcpus = 1\nvcpus = 2").contains("a.cfg:2: `vcpus` was already set in line 1")
        );
        assert!(words("on_crash = \"explode\"").contains("destroy, restart, preserve"));
        assert!(words("disk = [ \"a\"").contains("no `]`"));
        assert!(words("just words").contains("expected `key = value`"));
        assert!(words("name = \"a").contains("no closing"));
        assert!(words("disk = [ \"a\" \"b\" ]").contains("expected `,`"));
    }

    #[test]
    fn disks_are_read_in_xls_words() {
        let base = Path::new("/m");
        let disk = parse_disk("file:a.iso,hdc:cdrom,r", base).unwrap();
        assert_eq!(disk.target, Path::new("/m/a.iso"));
        assert!(disk.cdrom && !disk.writable && disk.vdev == "hdc");
        assert!(parse_disk("/x.img,raw,hda,rw", base).unwrap().writable);
        assert!(parse_disk("/x.img,xvdz", base).is_err());
        assert!(parse_disk("", base).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let list = Value::List(vec!["module:a,hda,w".into()]);
        let text = write(&[("name", Value::Text("x".into())), ("disk", list.clone())]);
        assert_eq!(read(&text).unwrap()[1].value, list);
    }
}
