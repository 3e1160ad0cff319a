//! How a run ends: by its guests, its machine, or its limits.

use super::Session;
use crate::config::Value;
use crate::control::GuestVerdict;
use crate::outcome::{GuestLog, Verdict};
use crate::plan::{Ending, Step};
use std::time::Duration;

impl Session<'_> {
    /// The last guest's name and its end.
    pub(super) fn hostile_verdict(&self) -> Option<(String, GuestVerdict)> {
        let name = &self.plan.guests.last()?.name;
        let verdict = self.outcome.guests.get(name)?.verdict.clone()?;
        Some((name.clone(), verdict))
    }

    /// A guest of a raw configuration is there to be wrong.
    fn is_raw(&self, name: &str) -> bool {
        self.plan.raw.iter().any(|(raw, _)| raw == name)
    }

    /// Whether a guest's crash is what the plan expects.
    fn may_crash(&self, name: &str) -> bool {
        if self.is_raw(name) {
            return true;
        }
        let asked = |step: &Step| {
            matches!(step, Step::Monitor(line)
                if line.split_whitespace().take(2).eq(["panic", name]))
        };
        if self.plan.steps.iter().any(asked) {
            return true;
        }
        let hostile = self.plan.guests.last().is_some_and(|guest| guest.name == name);
        hostile && self.plan.steps.iter().any(|step| matches!(step, Step::Ended(_)))
    }

    /// A guest that has crashed or was not built, and was not there for that.
    fn failed_guest(&self) -> Option<Verdict> {
        self.outcome.guests.iter().find_map(|(name, guest)| match &guest.verdict {
            Some(GuestVerdict::Crash(why)) if !self.may_crash(name) => {
                Some(Verdict::Crashed(format!("guest {name}: {why}")))
            }
            Some(GuestVerdict::Refused(why)) if !self.is_raw(name) => {
                Some(Verdict::Refused(why.clone()))
            }
            _ => None,
        })
    }

    /// Whether the hypervisor keeps a guest, ended in this way, for a person to look at.
    fn is_kept(&self, name: &str, verdict: &GuestVerdict) -> bool {
        let key = match verdict {
            GuestVerdict::PowerOff => "on_poweroff",
            GuestVerdict::Reboot => "on_reboot",
            GuestVerdict::Crash(why) if why.contains("watchdog") => "on_watchdog",
            GuestVerdict::Crash(_) => "on_crash",
            GuestVerdict::Destroyed | GuestVerdict::Refused(_) => return false,
        };
        let keeps = |(set, value): &(String, Value)| {
            set == key && matches!(value, Value::Text(text) if text == "preserve")
        };
        let guest = self.plan.guests.iter().find(|guest| guest.name == name);
        guest.is_some_and(|guest| guest.settings.iter().any(keeps))
    }

    /// What a person at the console hears of a guest that failed while others go on.
    pub(super) fn tell(&self, name: &str, verdict: &GuestVerdict) {
        if let (true, GuestVerdict::Crash(why)) = (self.attended, verdict) {
            eprint!("\r\n[guest {name}: {why}; Ctrl-A c opens the monitor]\r\n");
        }
    }

    /// The end of all guests; for a person only when none is left to look at.
    fn all_ended(&self) -> Option<Verdict> {
        let over = |(name, guest): (&String, &GuestLog)| {
            let kept = |verdict| self.attended && self.is_kept(name, verdict);
            guest.verdict.as_ref().is_some_and(|verdict| !kept(verdict))
        };
        let guests = &self.outcome.guests;
        let all = !guests.is_empty() && guests.iter().all(over);
        all.then(|| self.failed_guest().unwrap_or_else(|| self.all_guests_ended()))
    }

    /// Whether all guests, the hypervisor or the emulator have ended.
    pub(super) fn ended(&mut self) -> Option<Verdict> {
        if !self.attended
            && let Some(failed) = self.failed_guest()
        {
            return Some(failed);
        }
        if let Some(verdict) = self.all_ended() {
            return Some(verdict);
        }
        let status = self.machine.ended()?;
        // What came last is still on its way through our own threads.
        while let Ok(event) = self.events.recv_timeout(Duration::from_millis(150)) {
            if let Some(verdict) = self.take(event) {
                return Some(verdict);
            }
        }
        if let Some(verdict) = self.step() {
            return Some(verdict);
        }
        if self.panicking {
            return Some(Verdict::HostFailed("the hypervisor panicked".into()));
        }
        if let Some(verdict) = self.failed_guest().or_else(|| self.all_ended()) {
            return Some(verdict);
        }
        // The hypervisor leaves by isa-debug-exit with twice its code plus 1; code 0 is good.
        // Bochs' status says nothing, its log does.
        let good = match self.machine.says_how_it_ended {
            true => matches!(status.code(), Some(0 | 1)),
            false => self.machine.switched_itself_off(),
        };
        // A hypervisor that ends without a word about any guest never came to run one.
        let unheard = self.outcome.guests.values().all(|guest| guest.verdict.is_none());
        if good && unheard && !self.plan.bare && !self.plan.guests.is_empty() {
            return Some(Verdict::HostFailed(self.complaint()));
        }
        match (good, status.code()) {
            (true, _) => Some(self.all_guests_ended()),
            // Codes of hv/src/cpu/power.rs, twice and 1.
            (_, Some(7)) => Some(Verdict::Crashed("a guest ended badly".into())),
            (_, Some(5)) => Some(Verdict::HostFailed(self.complaint())),
            (false, _) => Some(Verdict::HostFailed(format!(
                "the machine ended: {status}\n{}",
                self.machine.last_words()
            ))),
        }
    }

    fn all_guests_ended(&self) -> Verdict {
        let waiting = self.steps.iter().find_map(|step| match step {
            Step::Until(texts) => Some(self.unseen(texts)),
            _ => None,
        });
        match waiting {
            Some(texts) => {
                Verdict::EndedEarly(format!("the guest ended, and {texts} was not seen"))
            }
            None => Verdict::Passed("the guest powered off".into()),
        }
    }

    /// The hypervisor's own last lines: what it lacks on this machine.
    fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.outcome.console);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(6)..].join("\n    ");
        format!("the hypervisor cannot run here; it says:\n    {tail}")
    }

    pub(super) fn out_of_time(&mut self) -> Option<Verdict> {
        let waiting = match self.steps.front() {
            Some(Step::Until(texts)) => format!("waiting for {}", self.unseen(texts)),
            Some(Step::Log(text)) => format!("waiting for {text:?} in the hypervisor's log"),
            Some(Step::Ended(how)) => format!("waiting for the last guest's end ({how:?})"),
            _ => "waiting for the guest to power off".to_owned(),
        };
        // Only a busy machine's business; a person's `--timeout` means what the clock says.
        let starved =
            if self.plan.stall.is_some() { self.machine.starved() } else { Duration::ZERO };
        let running = self.started.elapsed().saturating_sub(starved);
        if self.plan.timeout.is_some_and(|limit| running > limit) {
            let why = format!("{waiting} for {} s{}", running.as_secs(), without_cpu(starved));
            return Some(Verdict::TimedOut(why));
        }
        if self.heard_something {
            self.heard_something = false;
            self.starved_at_news = starved;
        }
        let starved = starved.saturating_sub(self.starved_at_news);
        let quiet = self.last_news.elapsed().saturating_sub(starved);
        if self.plan.stall.is_some_and(|limit| quiet > limit) {
            let seconds = quiet.as_secs();
            let why = format!("{waiting}: nothing new for {seconds} s{}", without_cpu(starved));
            return Some(Verdict::TimedOut(why));
        }
        None
    }
}

/// How a limit says that the machine was busy with other things.
fn without_cpu(starved: Duration) -> String {
    match starved.as_secs() {
        0..10 => String::new(),
        seconds => format!(" (and {seconds} s without a CPU)"),
    }
}

/// Whether a guest ended as it was to.
pub(super) fn ended_as(verdict: &GuestVerdict, wanted: Ending) -> bool {
    match wanted {
        _ if matches!(verdict, GuestVerdict::Refused(_)) => false,
        Ending::Any => true,
        Ending::Crash => matches!(verdict, GuestVerdict::Crash(_)),
        Ending::PowerOff => *verdict == GuestVerdict::PowerOff,
        Ending::Destroyed => *verdict == GuestVerdict::Destroyed,
    }
}
