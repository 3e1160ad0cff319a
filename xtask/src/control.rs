//! The control channel: lines on the second serial port between hypervisor and xtask.
//! docs/control.md says what each line means; this is the host's reader and writer.

use anyhow::{Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

/// A line from the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The hypervisor is up: vendor, CPUs, memory in MiB.
    Hello { vendor: String, cpus: u32, memory_mib: u32 },
    /// A line of its log.
    Log(String),
    /// A guest's state changed: started, rebooted, paused, resumed.
    Guest { name: String, state: String },
    /// Bytes that a guest sent to its first serial port.
    Serial { name: String, bytes: Vec<u8> },
    /// One row of a guest's text screen.
    Screen { name: String, row: usize, text: String },
    /// All rows were sent.
    ScreenEnd { name: String, columns: usize, rows: usize },
    /// How often guests left for one reason, and what that cost.
    Exits(ExitCount),
    /// All counts were sent.
    ExitsEnd { name: String },
    /// A guest has ended.
    Verdict { name: String, verdict: GuestVerdict },
    /// One line of a guest's state: section `registers`, `code`, `stack`, `exits` …
    Dump { name: String, section: String, text: String },
    /// The state is complete.
    DumpEnd { name: String },
    /// A picture follows.
    Framebuffer { name: String, width: u32, height: u32 },
    /// One row of it: (count, red, green, blue) over and over.
    Pixels { name: String, row: u32, runs: Vec<u8> },
    /// The picture is complete.
    FramebufferEnd { name: String },
    /// A line of a monitor command's answer.
    Out(String),
    /// A command was carried out.
    Done(String),
    /// A command was refused.
    Refused(String),
    /// The hypervisor itself has failed.
    Panic(String),
    /// The hypervisor stops now.
    Bye,
    /// A line this version does not know: kept, not an error.
    Other(String),
}

/// A row of the exit table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExitCount {
    /// Which guest.
    pub guest: String,
    /// Why it left: `io`, `cpuid`, `nested-fault` …
    pub kind: String,
    /// How often.
    pub count: u64,
    /// Host TSC ticks spent on them.
    pub cycles: u64,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestVerdict {
    /// It switched itself off.
    PowerOff,
    /// It reset itself and its configuration says that this ends it.
    Reboot,
    /// It, or what served it, failed.
    Crash(String),
    /// A command ended it.
    Destroyed,
    /// The hypervisor does not build it.
    Refused(String),
}

impl GuestVerdict {
    /// As the control channel says it.
    pub fn words(&self) -> String {
        match self {
            GuestVerdict::PowerOff => "poweroff".into(),
            GuestVerdict::Reboot => "reboot".into(),
            GuestVerdict::Destroyed => "destroyed".into(),
            GuestVerdict::Crash(why) => format!("crash: {why}"),
            GuestVerdict::Refused(why) => format!("refused: {why}"),
        }
    }
}

/// Reads one line. `None`: it is no control line.
pub fn parse(line: &str) -> Option<Report> {
    let line = line.strip_prefix('@')?;
    let report = known(line).unwrap_or_else(|| Report::Other(line.to_owned()));
    Some(report)
}

fn known(line: &str) -> Option<Report> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let (second, third) = tail.split_once(' ').unwrap_or((tail, ""));
    let name = first.to_owned();
    Some(match word {
        "hello" => {
            // @hello xenolith VERSION VENDOR CPUS MEMORY_MIB
            let words: Vec<&str> = rest.split(' ').collect();
            Report::Hello {
                vendor: (*words.get(2)?).to_owned(),
                cpus: words.get(3)?.parse().ok()?,
                memory_mib: words.get(4)?.parse().ok()?,
            }
        }
        "log" => Report::Log(unescape(rest)),
        "guest" => Report::Guest { name, state: tail.to_owned() },
        "serial" => Report::Serial { name, bytes: BASE64.decode(tail).ok()? },
        "screen" if second == "end" => {
            let (columns, rows) = third.split_once(' ')?;
            Report::ScreenEnd { name, columns: columns.parse().ok()?, rows: rows.parse().ok()? }
        }
        "screen" => Report::Screen { name, row: second.parse().ok()?, text: unescape(third) },
        "exits" if second == "end" => Report::ExitsEnd { name },
        "exits" => {
            let (count, cycles) = third.split_once(' ')?;
            Report::Exits(ExitCount {
                guest: name,
                kind: second.to_owned(),
                count: count.parse().ok()?,
                cycles: cycles.parse().ok()?,
            })
        }
        "verdict" => Report::Verdict { name, verdict: verdict(tail)? },
        "dump" if second == "end" => Report::DumpEnd { name },
        "dump" => Report::Dump { name, section: second.to_owned(), text: unescape(third) },
        "framebuffer" if second == "end" => Report::FramebufferEnd { name },
        "framebuffer" => {
            Report::Framebuffer { name, width: second.parse().ok()?, height: third.parse().ok()? }
        }
        "pixels" => {
            Report::Pixels { name, row: second.parse().ok()?, runs: BASE64.decode(third).ok()? }
        }
        "out" => Report::Out(unescape(rest)),
        "ok" => Report::Done(rest.to_owned()),
        "error" => Report::Refused(unescape(rest)),
        "panic" => Report::Panic(unescape(rest)),
        "bye" => Report::Bye,
        _ => return None,
    })
}

fn verdict(text: &str) -> Option<GuestVerdict> {
    Some(match text {
        "poweroff" => GuestVerdict::PowerOff,
        "reboot" => GuestVerdict::Reboot,
        "destroyed" => GuestVerdict::Destroyed,
        _ => match text.split_once(':')? {
            ("crash", why) => GuestVerdict::Crash(unescape(why)),
            ("refused", why) => GuestVerdict::Refused(unescape(why)),
            _ => return None,
        },
    })
}

/// A command for the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Type text on a guest's keyboard.
    Type { name: &'a str, text: &'a str },
    /// Press key chords one after the other: `ctrl-alt-del`, `f1`.
    Keys { name: &'a str, chords: &'a [String] },
    /// Send bytes to a guest's first serial port.
    Serial { name: &'a str, bytes: &'a [u8] },
    /// Ask for the text screen.
    Screen { name: &'a str },
    /// Ask for the picture.
    Screenshot { name: &'a str },
    /// Ask for the exit table.
    Exits { name: &'a str },
    /// Ask for the guest's state.
    Dump { name: &'a str },
    /// Anything that the monitor understands.
    Monitor(&'a str),
    /// Stop the hypervisor and the machine.
    Quit,
}

impl Command<'_> {
    /// The line, with its line feed.
    pub fn line(&self) -> String {
        match self {
            Command::Type { name, text } => format!("type {name} {}\n", escape(text)),
            Command::Keys { name, chords } => format!("keys {name} {}\n", chords.join(",")),
            Command::Serial { name, bytes } => format!("serial {name} {}\n", BASE64.encode(bytes)),
            Command::Screen { name } => format!("screen {name}\n"),
            Command::Screenshot { name } => format!("screenshot {name}\n"),
            Command::Exits { name } => format!("exits {name}\n"),
            Command::Dump { name } => format!("dump {name}\n"),
            Command::Monitor(text) => format!("monitor {}\n", escape(text)),
            Command::Quit => "quit\n".to_owned(),
        }
    }
}

/// Writes what a line cannot hold as `\n`, `\r`, `\t`, `\\` and `\xNN`.
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                line.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => line.push(c),
        }
    }
    line
}

/// Undoes [`escape`]; an escape that is none stays as it is.
pub fn unescape(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('e') => text.push('\x1b'),
            Some('x') => {
                let digits: String = rest.clone().take(2).collect();
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if digits.len() == 2 => {
                        text.push(byte as char);
                        rest.nth(1);
                    }
                    _ => text.push_str("\\x"),
                }
            }
            Some('\\') | None => text.push('\\'),
            Some(other) => text.extend(['\\', other]),
        }
    }
    text
}

/// Checks key chords: modifiers and one key, joined by `-`.
pub fn chords(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for chord in text.split(',').map(str::trim) {
        let Some(keys) = keys_of(chord) else {
            bail!(
                "`{chord}` is no key chord: join ctrl, alt, shift, meta with one key by `-`, as in \
                 ctrl-alt-del, alt-f1, shift-a, enter, esc, up, pgdn, kp_5, minus"
            );
        };
        found.push(keys.join("-"));
    }
    Ok(found)
}

/// The keys of a chord by our names, modifiers first.
pub fn keys_of(chord: &str) -> Option<Vec<String>> {
    let keys: Vec<String> = chord.split('-').map(|key| key.to_ascii_lowercase()).collect();
    let (last, modifiers) = keys.split_last()?;
    let all_known = modifiers.iter().all(|key| MODIFIERS.contains(&key.as_str()))
        && (MODIFIERS.contains(&last.as_str()) || KEYS.contains(&last.as_str()) || is_plain(last));
    all_known.then_some(keys)
}

const MODIFIERS: &[&str] = &["ctrl", "alt", "shift", "meta", "altgr"];

const KEYS: &[&str] = &[
    "enter",
    "esc",
    "tab",
    "space",
    "backspace",
    "del",
    "ins",
    "home",
    "end",
    "pgup",
    "pgdn",
    "up",
    "down",
    "left",
    "right",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "f9",
    "f10",
    "f11",
    "f12",
    "minus",
    "equal",
    "comma",
    "dot",
    "slash",
    "semicolon",
    "apostrophe",
    "backslash",
    "grave",
    "bracket_left",
    "bracket_right",
    "caps_lock",
    "num_lock",
    "scroll_lock",
    "print",
    "pause",
    "menu",
    "kp_0",
    "kp_1",
    "kp_2",
    "kp_3",
    "kp_4",
    "kp_5",
    "kp_6",
    "kp_7",
    "kp_8",
    "kp_9",
    "kp_add",
    "kp_subtract",
    "kp_multiply",
    "kp_divide",
    "kp_enter",
    "kp_decimal",
];

fn is_plain(key: &str) -> bool {
    key.len() == 1 && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind_are_understood() {
        let parsed = |line| parse(line).unwrap();
        assert_eq!(
            parsed("@hello xenolith 1 svm 2 1024"),
            Report::Hello { vendor: "svm".into(), cpus: 2, memory_mib: 1024 }
        );
        assert_eq!(
            parsed("@serial a aGk="),
            Report::Serial { name: "a".into(), bytes: b"hi".to_vec() }
        );
        assert_eq!(
            parsed("@screen a 3   two  words"),
            Report::Screen { name: "a".into(), row: 3, text: "  two  words".into() }
        );
        assert_eq!(
            parsed("@screen a end 80 25"),
            Report::ScreenEnd { name: "a".into(), columns: 80, rows: 25 }
        );
        assert_eq!(
            parsed("@verdict a crash:triple fault"),
            Report::Verdict {
                name: "a".into(),
                verdict: GuestVerdict::Crash("triple fault".into())
            }
        );
        assert_eq!(
            parsed("@verdict a refused:a: no such disk"),
            Report::Verdict {
                name: "a".into(),
                verdict: GuestVerdict::Refused("a: no such disk".into())
            }
        );
        assert_eq!(
            parsed("@exits a io 12 3400"),
            Report::Exits(ExitCount {
                guest: "a".into(),
                kind: "io".into(),
                count: 12,
                cycles: 3400
            })
        );
    }

    #[test]
    fn broken_and_unknown_lines_are_kept_and_guest_text_is_not_a_line() {
        assert_eq!(parse("hello"), None);
        assert_eq!(parse("@serial a !!!"), Some(Report::Other("serial a !!!".into())));
        assert_eq!(parse("@new thing"), Some(Report::Other("new thing".into())));
    }

    #[test]
    fn escaped_text_comes_back() {
        for text in ["a\nb\\n\t\x1b[0m", "", "\\x", "ü \u{7f}"] {
            assert_eq!(unescape(&escape(text)), text);
            assert!(!escape(text).contains('\n'));
        }
    }

    #[test]
    fn a_dos_prompt_is_no_escape() {
        assert_eq!(unescape(r"A:\>dir\n"), "A:\\>dir\n");
    }

    #[test]
    fn chords_are_checked_before_they_are_sent() {
        assert_eq!(chords("Ctrl-Alt-Del, f1").unwrap(), ["ctrl-alt-del", "f1"]);
        assert!(chords("ctrl-alt-delete").is_err());
        assert!(chords("").is_err());
    }
}
