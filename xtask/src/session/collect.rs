//! What is gathered before the machine goes.

use super::Session;
use super::streams::Event;
use crate::control::{self, Command, Report};
use crate::outcome::Verdict;
use std::time::{Duration, Instant};

impl Session<'_> {
    /// Gathers screens, exits and state before the machine goes.
    pub(super) fn collect(&mut self, verdict: &Verdict) {
        if self.machine.ended().is_some() {
            return;
        }
        self.count_instructions();
        self.ask_for_screens();
        if let (Some(qmp), Some(place)) = (self.machine.guest_qmp(self.plan.bare), &self.screenshot)
        {
            self.outcome.pictured = qmp.screenshot(place);
        }
        if self.control.is_some() {
            let names: Vec<String> = self.outcome.guests.keys().cloned().collect();
            for name in &names {
                self.command(&Command::Exits { name });
                if !matches!(verdict, Verdict::Passed(_)) {
                    self.command(&Command::Dump { name });
                }
                if self.screenshot.is_some() {
                    self.command(&Command::Screenshot { name });
                }
            }
            self.command(&Command::Quit);
            self.drain();
        } else if let Some(qmp) = &mut self.machine.qmp {
            let _ = qmp.ask("quit", serde_json::json!({}));
        }
        if let Some(place) = self.screenshot.clone()
            && let Some(picture) = &mut self.first_guest().picture
        {
            self.outcome.pictured = picture.write(&place);
        }
    }

    /// QEMU knows its instruction count also without recording, as of when the CPU last left its code; time
    /// in which the CPU halted is not in it.
    pub(super) fn instructions(&mut self) -> Option<u64> {
        let qmp = self.machine.qmp.as_mut().filter(|_| self.plan.host.icount)?;
        let answer = qmp.ask("query-replay", serde_json::json!({})).ok()?;
        answer["icount"].as_u64()
    }

    /// The same while the CPU may be busy: it stops for it.
    fn count_instructions(&mut self) {
        let none = || serde_json::json!({});
        if let Some(qmp) = self.machine.qmp.as_mut().filter(|_| self.plan.host.icount)
            && qmp.ask("stop", none()).is_ok()
        {
            self.outcome.instructions = self.instructions();
            if let Some(qmp) = &mut self.machine.qmp {
                let _ = qmp.ask("cont", none());
            }
        }
    }

    /// Reads answers until the hypervisor says good-bye, or goes quiet.
    fn drain(&mut self) {
        let limit = Instant::now() + Duration::from_secs(60);
        let mut quiet = Instant::now();
        while Instant::now() < limit && quiet.elapsed() < Duration::from_secs(3) {
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Control(line)) => {
                    quiet = Instant::now();
                    match control::parse(line.trim_end_matches('\r')) {
                        Some(Report::Bye) => return,
                        Some(report) => drop(self.report(report)),
                        None => {}
                    }
                }
                Ok(Event::Console(bytes)) => self.outcome.console.extend_from_slice(&bytes),
                Ok(_) => {}
                Err(_) if self.machine.ended().is_some() => return,
                Err(_) => {}
            }
        }
    }
}
