//! The suite's list: `tests/suite/*.toml`, read and checked.

use crate::config::Value;
use crate::plan::{Ending, Step, Vendor};
use crate::{control, paths};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// One boot and what must be seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, also the first guest's.
    pub name: String,
    /// What it shows.
    pub what: String,
    /// Recipes of its guests.
    pub guests: Vec<String>,
    /// Recipes whose CDs and floppies go along, to be put into drives by the monitor's `insert`.
    #[serde(default)]
    pub media: Vec<String>,
    /// Its guests have an empty CD drive at hdc, for such a CD.
    #[serde(default)]
    pub empty_cd: bool,
    /// Further configurations, by name, that the hypervisor gets as they stand here, right or wrong.
    #[serde(default)]
    pub raw: BTreeMap<String, String>,
    /// Memory of each guest in MiB.
    #[serde(default = "default_memory")]
    pub memory: u64,
    /// vCPUs of each guest.
    #[serde(default = "default_one")]
    pub vcpus: u32,
    /// CPUs of the machine.
    #[serde(default = "default_one")]
    pub host_cpus: u32,
    /// The machine's CPU by the emulator's name; needs a single vendor.
    #[serde(default)]
    pub cpu_model: Option<String>,
    /// The machine's network card by QEMU's name, where not virtio.
    #[serde(default)]
    pub host_card: Option<String>,
    /// Vendors it runs on.
    #[serde(default = "default_vendors")]
    pub vendors: Vec<Vendor>,
    /// Vendors on which it runs only with `--full`, with the reason.
    #[serde(default)]
    pub full: BTreeMap<String, String>,
    /// Vendors on which it cannot run yet, with the reason.
    #[serde(default)]
    pub skip: BTreeMap<String, String>,
    /// Disks are copies in memory or the emulator's snapshots. Without it the machine's disks are the files
    /// themselves, and a case whose configuration has `snapshot = 1` fails if one of them has changed after it.
    #[serde(default = "default_true")]
    pub snapshot: bool,
    /// There is a web server for its guests (`xtask/src/server.rs`), whose port is `{port}` in the steps. A
    /// directory of media, whose files it serves too, or an empty text.
    #[serde(default)]
    pub server: Option<String>,
    /// What the first guest's first disk must be after it: `ext4`, as `xtask/src/guests/ext4.rs` says, or `same`.
    #[serde(default)]
    pub disk: Option<DiskCheck>,
    /// Words for the hypervisor's command line.
    #[serde(default)]
    pub hv_append: String,
    /// Further settings of the guests' configurations.
    #[serde(default)]
    pub config: BTreeMap<String, toml::Value>,
    /// Further settings of the second guest's alone.
    #[serde(default)]
    pub second: BTreeMap<String, toml::Value>,
    /// Seconds until it has failed; four times that in Bochs.
    #[serde(default = "default_seconds")]
    pub seconds: u64,
    /// Seconds without anything new until it has failed; four times that in Bochs.
    #[serde(default = "default_stall")]
    pub stall: u64,
    /// Texts that fail the test at once.
    #[serde(default)]
    pub never: Vec<String>,
    /// What to do and to wait for, in order.
    pub steps: Vec<BTreeMap<String, toml::Value>>,
}

/// What a disk must be after a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCheck {
    /// A sound file system with the files that the guest has synced.
    Ext4,
    /// As it was before, byte for byte: a copy that is a disk of the machine and that the guest may write.
    Same,
}

fn default_memory() -> u64 {
    256
}
fn default_true() -> bool {
    true
}
fn default_one() -> u32 {
    1
}
fn default_vendors() -> Vec<Vendor> {
    vec![Vendor::Svm, Vendor::Vmx]
}
fn default_seconds() -> u64 {
    480
}
fn default_stall() -> u64 {
    90
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

impl Case {
    /// Why it is not run here and now.
    pub fn skipped(&self, vendor: Vendor, full: bool) -> Option<String> {
        if let Some(why) = self.skip.get(vendor.name()) {
            return Some(why.clone());
        }
        let why = self.full.get(vendor.name())?;
        (!full).then(|| format!("only with --full: {why}"))
    }

    /// Its time limit in seconds.
    pub fn limit(&self, vendor: Vendor) -> u64 {
        if vendor == Vendor::Vmx { self.seconds * 4 } else { self.seconds }
    }

    /// Its steps; waits are longer in Bochs.
    pub fn steps(&self, bochs: bool) -> Result<Vec<Step>> {
        self.steps.iter().map(|step| read_step(step, bochs)).collect()
    }

    /// The same, for a server at this port.
    pub fn steps_with(&self, bochs: bool, port: u16) -> Result<Vec<Step>> {
        let mut steps = self.steps(bochs)?;
        for step in &mut steps {
            if let Step::Send(text) | Step::Type(text) = step {
                *text = text.replace("{port}", &port.to_string());
            }
        }
        Ok(steps)
    }

    /// Whether the disks' files must be after it as they were before.
    pub fn must_keep_disks(&self) -> bool {
        if self.disk == Some(DiskCheck::Same) {
            return true;
        }
        !self.snapshot && self.config.get("snapshot").and_then(toml::Value::as_integer) == Some(1)
    }

    /// Further settings.
    pub fn settings(&self, guest: usize) -> Result<Vec<(String, Value)>> {
        let read = |(key, value): (&String, &toml::Value)| {
            let value = match value {
                toml::Value::Integer(n) => Value::Number(u64::try_from(*n)?),
                toml::Value::String(text) => Value::Text(text.clone()),
                toml::Value::Array(list) => {
                    let text = |item: &toml::Value| item.as_str().map(str::to_owned);
                    let texts: Option<Vec<String>> = list.iter().map(text).collect();
                    Value::List(texts.with_context(|| format!("{key}: a list is of texts"))?)
                }
                other => bail!("{key}: a setting is a number, a text or a list, not {other}"),
            };
            Ok((key.clone(), value))
        };
        let own = self.second.iter().filter(|_| guest == 1);
        let all =
            self.config.iter().filter(|(key, _)| guest != 1 || !self.second.contains_key(*key));
        all.chain(own).map(read).collect()
    }
}

fn read_step(step: &BTreeMap<String, toml::Value>, bochs: bool) -> Result<Step> {
    let Some((key, value)) = step.iter().next().filter(|_| step.len() == 1) else {
        bail!(
            "a step is one of until, log, type, send, keys, monitor, wait, ended; found {step:?}"
        );
    };
    let text = || value.as_str().map(str::to_owned).with_context(|| format!("{key} takes a text"));
    Ok(match key.as_str() {
        "until" => Step::Until(texts(value).context("until takes a text, or a list of texts")?),
        "log" => Step::Log(text()?),
        "type" => Step::Type(text()?),
        "send" => Step::Send(text()?),
        "monitor" => Step::Monitor(text()?),
        "keys" => Step::Keys(control::chords(&text()?)?),
        "wait" => {
            let seconds = value.as_integer().context("wait takes seconds")?;
            let seconds = u64::try_from(seconds)? * if bochs { 4 } else { 1 };
            Step::Wait(Duration::from_secs(seconds))
        }
        "ended" => Step::Ended(match text()?.as_str() {
            "crash" => Ending::Crash,
            "poweroff" => Ending::PowerOff,
            "destroyed" => Ending::Destroyed,
            "any" => Ending::Any,
            other => bail!("ended is crash, poweroff, destroyed or any; not {other}"),
        }),
        other => {
            bail!("a step is until, log, type, send, keys, monitor, wait or ended; not {other}")
        }
    })
}

/// One text, or several.
fn texts(value: &toml::Value) -> Option<Vec<String>> {
    let text = |value: &toml::Value| value.as_str().map(str::to_owned);
    match value {
        toml::Value::Array(list) if !list.is_empty() => list.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

/// Reads all lists.
pub fn load() -> Result<Vec<Case>> {
    let dir = paths::root().join("tests/suite");
    let mut files: Vec<_> = fs::read_dir(&dir)
        .with_context(|| format!("the boot suite's list {} is missing", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let list: File = toml::from_str(&text).with_context(|| paths::show(&file))?;
        for case in list.case {
            if cases.iter().any(|other| other.name == case.name) {
                bail!("{}: two cases are called {}", paths::show(&file), case.name);
            }
            case.steps(false).with_context(|| format!("{}: {}", paths::show(&file), case.name))?;
            cases.push(case);
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_list_is_sound_and_every_skip_has_a_reason() {
        let cases = load().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            (0..2).for_each(|guest| drop(case.settings(guest).unwrap()));
            // The emulators have different models.
            assert!(case.cpu_model.is_none() || case.vendors.len() == 1, "{}", case.name);
            for why in case.skip.values().chain(case.full.values()) {
                assert!(why.len() > 10, "{}: {why:?}", case.name);
            }
        }
    }

    #[test]
    fn a_wrong_step_is_refused() {
        let step = |key: &str, value: toml::Value| BTreeMap::from([(key.to_owned(), value)]);
        assert!(read_step(&step("untill", "x".into()), false).is_err());
        assert!(read_step(&step("keys", "ctrl-nothing".into()), false).is_err());
        assert!(read_step(&step("until", toml::Value::Array(vec![])), false).is_err());
        let two = read_step(&step("until", vec!["x", "y"].into()), false).unwrap();
        assert_eq!(two, Step::Until(vec!["x".into(), "y".into()]));
        assert!(read_step(&step("wait", 2.into()), true).is_ok());
    }
}
