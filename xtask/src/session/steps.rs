//! The steps: what is typed, sent and waited for.

use super::Session;
use super::verdict::ended_as;
use crate::control::{self, Command};
use crate::outcome::Verdict;
use crate::plan::Step;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

impl Session<'_> {
    /// Asks for the screens about once a second while a text is waited for.
    pub(super) fn poll_screens(&mut self) {
        let waiting = matches!(self.steps.front(), Some(Step::Until(_)));
        if !waiting || self.last_poll.elapsed() < Duration::from_millis(700) {
            return;
        }
        self.last_poll = Instant::now();
        self.ask_for_screens();
    }

    pub(super) fn ask_for_screens(&mut self) {
        if let Some(qmp) = self.machine.guest_qmp(self.plan.bare) {
            if let Ok(rows) = qmp.screen()
                && self.first_guest().screen.replace(rows)
            {
                self.news();
            }
            return;
        }
        let names: Vec<String> = self.outcome.guests.keys().cloned().collect();
        for name in names {
            self.command(&Command::Screen { name: &name });
        }
    }

    /// Carries out the next step; a verdict when the last one was an `until` that was seen.
    pub(super) fn step(&mut self) -> Option<Verdict> {
        if self.wait_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        self.wait_until = None;
        let step = self.steps.front()?.clone();
        // Before anything was heard there is nobody to type to.
        if !(self.plan.bare && self.machine.qmp.is_some()) {
            self.ready_since?;
        }
        match step {
            Step::Until(texts) => {
                let places: Option<Vec<String>> = texts.iter().map(|it| self.find(it)).collect();
                let places = places?;
                self.steps.pop_front();
                self.news();
                if self.steps.is_empty() {
                    let seen = |(text, place): (&String, String)| format!("{text:?} on {place}");
                    let seen: Vec<String> = texts.iter().zip(places).map(seen).collect();
                    return Some(Verdict::Passed(format!("seen: {}", seen.join(", "))));
                }
                // What was printed before does not count for the next text.
                self.mark();
                self.wait_until = Some(Instant::now() + Duration::from_millis(300));
            }
            Step::Log(text) => {
                let seen = self.outcome.log.iter().any(|line| line.contains(&text));
                if !seen {
                    return None;
                }
                self.steps.pop_front();
                self.news();
                if self.steps.is_empty() {
                    return Some(Verdict::Passed(format!("{text:?} was seen in the log")));
                }
            }
            Step::Ended(wanted) => {
                let (name, verdict) = self.hostile_verdict()?;
                if !ended_as(&verdict, wanted) {
                    let why = format!("guest {name} ended: {verdict:?}, expected {wanted:?}");
                    return Some(Verdict::Crashed(why));
                }
                self.steps.pop_front();
                self.mark();
                self.news();
                if self.steps.is_empty() {
                    return Some(Verdict::Passed(format!("guest {name} ended: {verdict:?}")));
                }
            }
            other => {
                self.steps.pop_front();
                if let Err(error) = self.act(&other) {
                    return Some(Verdict::HostFailed(format!("{error:#}")));
                }
                if self.steps.is_empty() && other == Step::Count {
                    return Some(Verdict::Passed("counted to the end".into()));
                }
            }
        }
        None
    }

    fn act(&mut self, step: &Step) -> Result<()> {
        let name = self.first_name();
        match step {
            Step::Type(text) => match self.machine.guest_qmp(self.plan.bare) {
                Some(qmp) => qmp.type_text(text)?,
                None => self.command(&Command::Type { name: &name, text }),
            },
            Step::Keys(chords) => match self.machine.guest_qmp(self.plan.bare) {
                Some(qmp) => {
                    for chord in chords {
                        qmp.chord(&control::keys_of(chord).unwrap_or_default())?;
                    }
                }
                None => self.command(&Command::Keys { name: &name, chords }),
            },
            Step::Send(text) => {
                if self.plan.bare || self.control.is_none() {
                    if let Some(console) = &mut self.console {
                        console.write_all(text.as_bytes())?;
                        console.flush()?;
                    }
                } else {
                    self.command(&Command::Serial { name: &name, bytes: text.as_bytes() });
                }
            }
            Step::Monitor(text) => self.command(&Command::Monitor(text)),
            Step::Count => {
                let count = self.instructions().context("instructions are counted in QEMU only")?;
                self.outcome.counts.push(count);
            }
            Step::Wait(time) => self.wait_until = Some(Instant::now() + *time),
            Step::Until(_) | Step::Log(_) | Step::Ended(_) => {}
        }
        Ok(())
    }
}
