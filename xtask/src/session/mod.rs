//! A run in progress: carries out the steps, watches the guests' serial ports and screens, and
//! comes to a verdict.

mod collect;
mod reports;
mod steps;
mod streams;
#[cfg(test)]
pub mod tests;
mod texts;
mod verdict;

use crate::control::{self, Command};
use crate::emulator::Machine;
use crate::outcome::{GuestLog, Outcome, Verdict};
use crate::plan::{Plan, Step};
use crate::terminal::{self, Raw};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use streams::{Event, read_bytes, read_lines};

/// A running machine with all that was heard from it.
pub struct Session<'a> {
    plan: &'a Plan,
    machine: Machine,
    console: Option<Box<dyn Write + Send>>,
    control: Option<Box<dyn Write + Send>>,
    events: Receiver<Event>,
    raw: Option<Raw>,
    steps: VecDeque<Step>,
    /// A text counts only when it came after the step before.
    searched_from: BTreeMap<String, usize>,
    wait_until: Option<Instant>,
    started: Instant,
    last_news: Instant,
    /// How long the emulator had waited for a CPU then.
    starved_at_news: Duration,
    last_poll: Instant,
    ready_since: Option<Instant>,
    escapes: u32,
    stopped: Arc<AtomicBool>,
    outcome: Outcome,
    panicking: bool,
    /// A person looks on: what one guest does ends nothing for the others.
    attended: bool,
    /// Something was heard since texts were looked for.
    heard: bool,
    /// The same since the limits were looked at.
    heard_something: bool,
    /// Where a picture without hypervisor is written.
    pub screenshot: Option<PathBuf>,
}

impl<'a> Session<'a> {
    /// Starts listening to a machine.
    pub fn new(plan: &'a Plan, mut machine: Machine, stopped: Arc<AtomicBool>) -> Self {
        let (sender, events) = channel();
        let console = machine.console.take().map(|stream| read_bytes(stream, sender.clone()));
        let control = machine.control.take().map(|stream| read_lines(stream, sender.clone()));
        let raw = plan.interactive.then(Raw::enter).flatten();
        if plan.interactive {
            terminal::read_keys(sender, Event::Key);
        }
        let now = Instant::now();
        let guests = plan.guests.iter().map(|guest| (guest.name.clone(), GuestLog::default()));
        let outcome = Outcome {
            verdict: Verdict::Interrupted,
            seconds: 0.0,
            console: Vec::new(),
            guests: guests.collect(),
            log: Vec::new(),
            answers: Vec::new(),
            pictured: Err(anyhow::anyhow!("there is no picture of a screen")),
            instructions: None,
            counts: Vec::new(),
        };
        Self {
            plan,
            machine,
            console,
            control,
            events,
            raw,
            steps: plan.steps.iter().cloned().collect(),
            searched_from: BTreeMap::new(),
            wait_until: None,
            started: now,
            last_news: now,
            starved_at_news: Duration::ZERO,
            last_poll: now,
            ready_since: None,
            escapes: 0,
            stopped,
            outcome,
            panicking: false,
            attended: plan.attended,
            heard: false,
            heard_something: false,
            screenshot: None,
        }
    }

    /// Runs to the verdict.
    pub fn run(mut self) -> Outcome {
        let verdict = loop {
            if let Some(verdict) = self.turn() {
                break verdict;
            }
        };
        self.collect(&verdict);
        self.machine.end(Duration::from_millis(200));
        drop(self.raw.take());
        self.outcome.seconds = self.started.elapsed().as_secs_f64();
        self.outcome.verdict = verdict;
        self.outcome
    }

    fn turn(&mut self) -> Option<Verdict> {
        match self.events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) => {
                if let Some(verdict) = self.take(event) {
                    return Some(verdict);
                }
                // Take what has gathered meanwhile before looking for texts.
                for _ in 0..64 {
                    let Ok(event) = self.events.try_recv() else { break };
                    if let Some(verdict) = self.take(event) {
                        return Some(verdict);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(20)),
        }
        if self.stopped.load(Ordering::Relaxed) {
            return Some(Verdict::Interrupted);
        }
        let heard = std::mem::take(&mut self.heard);
        if heard && let Some(text) = self.forbidden() {
            return Some(Verdict::Crashed(format!("{text:?} was seen")));
        }
        self.poll_screens();
        // A text is looked for only when something came that may hold it.
        let until = matches!(self.steps.front(), Some(Step::Until(_)));
        if (heard || !until || self.wait_until.is_some())
            && let Some(verdict) = self.step()
        {
            return Some(verdict);
        }
        self.ended().or_else(|| self.out_of_time())
    }

    fn take(&mut self, event: Event) -> Option<Verdict> {
        match event {
            Event::Console(bytes) => {
                self.news();
                self.ready_since.get_or_insert_with(Instant::now);
                if self.plan.interactive {
                    let mut out = std::io::stdout().lock();
                    let _ = out.write_all(&bytes).and_then(|()| out.flush());
                }
                self.outcome.console.extend_from_slice(&bytes);
                if self.plan.bare {
                    self.first_guest().serial.extend_from_slice(&bytes);
                }
            }
            Event::Control(line) => {
                if let Some(report) = control::parse(line.trim_end_matches('\r')) {
                    return self.report(report);
                }
            }
            Event::Key(keys) => {
                if terminal::wants_out(&mut self.escapes, &keys) {
                    return Some(Verdict::Interrupted);
                }
                if let Some(console) = &mut self.console {
                    let _ = console.write_all(&keys).and_then(|()| console.flush());
                }
            }
            Event::ConsoleClosed => self.console = None,
        }
        None
    }

    fn guest(&mut self, name: &str) -> &mut GuestLog {
        self.outcome.guests.entry(name.to_owned()).or_default()
    }

    fn first_name(&self) -> String {
        self.plan.guests.first().map(|guest| guest.name.clone()).unwrap_or_default()
    }

    fn first_guest(&mut self) -> &mut GuestLog {
        let name = self.first_name();
        self.guest(&name)
    }

    fn news(&mut self) {
        self.heard = true;
        self.heard_something = true;
        self.last_news = Instant::now();
    }

    fn command(&mut self, command: &Command<'_>) {
        if let Some(control) = &mut self.control {
            let _ = control.write_all(command.line().as_bytes()).and_then(|()| control.flush());
        }
    }
}
