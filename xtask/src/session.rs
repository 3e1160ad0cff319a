//! A run in progress: carries out the steps, watches the guests' serial ports and screens, and
//! comes to a verdict.

use crate::control::{self, Command, GuestVerdict, Report};
use crate::emulator::{Machine, Stream};
use crate::outcome::{GuestLog, Outcome, Verdict};
use crate::plan::{Ending, Plan, Step};
use crate::screen::Picture;
use crate::terminal::{self, Raw};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

enum Event {
    Console(Vec<u8>),
    Control(String),
    Key(Vec<u8>),
    ConsoleClosed,
}

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
    /// Something was heard since texts were looked for.
    heard: bool,
    /// The same since the limits were looked at.
    heard_something: bool,
    /// Where a picture without hypervisor is written.
    pub screenshot: Option<PathBuf>,
}

/// The console's entry in `searched_from`; no guest can have this name.
const CONSOLE: &str = "/console";

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

    fn report(&mut self, report: Report) -> Option<Verdict> {
        match report {
            Report::Hello { .. } => self.ready_since = Some(Instant::now()),
            Report::Log(line) => {
                self.news();
                self.outcome.log.push(line);
            }
            Report::Guest { name, state } => {
                self.news();
                if state == "rebooted" {
                    self.guest(&name).reboots += 1;
                }
            }
            Report::Serial { name, bytes } => {
                self.news();
                self.guest(&name).serial.extend_from_slice(&bytes);
            }
            Report::Screen { name, row, text } => self.guest(&name).screen.row(row, text),
            Report::ScreenEnd { name, .. } => {
                if self.guest(&name).screen.end() {
                    self.news();
                }
            }
            Report::Exits(count) => {
                let exits = &mut self.guest(&count.guest.clone()).exits;
                exits.retain(|old| old.kind != count.kind);
                exits.push(count);
            }
            Report::Dump { name, section, text } => {
                self.guest(&name).dump.push((section, text));
            }
            Report::Framebuffer { name, width, height } => {
                self.guest(&name).picture = Picture::new(width, height);
            }
            Report::Pixels { name, row, runs } => {
                if let Some(picture) = &mut self.guest(&name).picture {
                    picture.row(row, &runs);
                }
            }
            Report::Verdict { name, verdict } => {
                self.news();
                self.guest(&name).verdict = Some(verdict);
            }
            Report::Panic(text) => {
                self.panicking = true;
                self.outcome.log.push(format!("panic: {text}"));
            }
            Report::Out(line) => {
                self.outcome.answers.push(line.clone());
                self.outcome.log.push(line);
            }
            Report::Refused(text) => {
                let line = format!("refused: {text}");
                self.outcome.answers.push(line.clone());
                self.outcome.log.push(line);
            }
            Report::ExitsEnd { .. }
            | Report::DumpEnd { .. }
            | Report::FramebufferEnd { .. }
            | Report::Done(_)
            | Report::Bye
            | Report::Other(_) => {}
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

    /// Asks for the screens about once a second while a text is waited for.
    fn poll_screens(&mut self) {
        let waiting = matches!(self.steps.front(), Some(Step::Until(_)));
        if !waiting || self.last_poll.elapsed() < Duration::from_millis(700) {
            return;
        }
        self.last_poll = Instant::now();
        self.ask_for_screens();
    }

    fn ask_for_screens(&mut self) {
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

    fn command(&mut self, command: &Command<'_>) {
        if let Some(control) = &mut self.control {
            let _ = control.write_all(command.line().as_bytes()).and_then(|()| control.flush());
        }
    }

    /// Carries out the next step; a verdict when the last one was an `until` that was seen.
    fn step(&mut self) -> Option<Verdict> {
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

    /// A line with one of the plan's `never` texts that was seen.
    fn forbidden(&self) -> Option<String> {
        let text = self.plan.never.iter().find(|text| self.find(text).is_some())?;
        let serial = self.outcome.guests.values().find_map(|guest| {
            let serial = String::from_utf8_lossy(&guest.serial);
            serial.lines().find(|line| line.contains(text.as_str())).map(str::to_owned)
        });
        Some(serial.unwrap_or_else(|| text.clone()))
    }

    fn find(&self, text: &str) -> Option<String> {
        let from = |name: &str| self.searched_from.get(name).copied().unwrap_or(0);
        let seen = |bytes: &[u8], name: &str| contains(&bytes[from(name).min(bytes.len())..], text);
        for (name, guest) in &self.outcome.guests {
            if seen(&guest.serial, name) {
                return Some(format!("{name}'s serial port"));
            }
            if guest.screen.contains(text) {
                return Some(format!("{name}'s screen"));
            }
        }
        seen(&self.outcome.console, CONSOLE).then(|| "the console".to_owned())
    }

    /// Those of the texts that were not seen, or not waited for yet, for a person.
    fn unseen(&self, texts: &[String]) -> String {
        let quoted = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" and ")
        };
        let left = quoted(&mut texts.iter().filter(|text| self.find(text).is_none()));
        if left.is_empty() { quoted(&mut texts.iter()) } else { left }
    }

    /// Texts count from here on. Keeps a few bytes that may be the beginning of the next text.
    fn mark(&mut self) {
        let marks: Vec<(String, usize)> = self
            .outcome
            .guests
            .iter()
            .map(|(name, guest)| (name.clone(), guest.serial.len()))
            .chain([(CONSOLE.to_owned(), self.outcome.console.len())])
            .collect();
        self.searched_from.extend(marks);
    }

    /// The last guest's name and its end.
    fn hostile_verdict(&self) -> Option<(String, GuestVerdict)> {
        let name = &self.plan.guests.last()?.name;
        let verdict = self.outcome.guests.get(name)?.verdict.clone()?;
        Some((name.clone(), verdict))
    }

    /// Whether a guest's crash is what the plan expects.
    fn may_crash(&self, name: &str) -> bool {
        // A guest of a raw configuration is there to be wrong.
        if self.plan.raw.iter().any(|(raw, _)| raw == name) {
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

    /// Whether all guests, the hypervisor or the emulator have ended.
    fn ended(&mut self) -> Option<Verdict> {
        let crash = self.outcome.guests.iter().find_map(|(name, guest)| match &guest.verdict {
            Some(GuestVerdict::Crash(why)) if !self.may_crash(name) => {
                Some(format!("guest {name}: {why}"))
            }
            _ => None,
        });
        if let Some(why) = crash {
            return Some(Verdict::Crashed(why));
        }
        let all = self.outcome.guests.values().all(|guest| guest.verdict.is_some());
        if all && !self.outcome.guests.is_empty() {
            return Some(self.all_guests_ended());
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
        let all = self.outcome.guests.values().all(|guest| guest.verdict.is_some());
        if all && !self.outcome.guests.is_empty() {
            return Some(self.all_guests_ended());
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

    fn out_of_time(&mut self) -> Option<Verdict> {
        let waiting = match self.steps.front() {
            Some(Step::Until(texts)) => format!("waiting for {}", self.unseen(texts)),
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

    /// Gathers screens, exits and state before the machine goes.
    fn collect(&mut self, verdict: &Verdict) {
        if self.machine.ended().is_some() {
            return;
        }
        self.count_instructions();
        self.ask_for_screens();
        if let (Some(qmp), Some(place)) = (self.machine.guest_qmp(self.plan.bare), &self.screenshot)
        {
            let _ = qmp.screenshot(place);
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
            let _ = picture.write(&place);
        }
    }

    /// QEMU knows its instruction count also without recording, as of when the CPU last left its code; time
    /// in which the CPU halted is not in it.
    fn instructions(&mut self) -> Option<u64> {
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

/// How a limit says that the machine was busy with other things.
fn without_cpu(starved: Duration) -> String {
    match starved.as_secs() {
        0..10 => String::new(),
        seconds => format!(" (and {seconds} s without a CPU)"),
    }
}

fn ended_as(verdict: &GuestVerdict, wanted: Ending) -> bool {
    match wanted {
        Ending::Any => true,
        Ending::Crash => matches!(verdict, GuestVerdict::Crash(_)),
        Ending::PowerOff => *verdict == GuestVerdict::PowerOff,
        Ending::Destroyed => *verdict == GuestVerdict::Destroyed,
    }
}

/// The standard library's search is compiled with optimization even where we are not.
fn contains(bytes: &[u8], needle: &str) -> bool {
    !needle.is_empty() && String::from_utf8_lossy(bytes).contains(needle)
}

fn read_bytes(mut stream: Stream, events: Sender<Event>) -> Box<dyn Write + Send> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.reader.read(&mut buffer) {
            if events.send(Event::Console(buffer[..count].to_vec())).is_err() {
                return;
            }
        }
        let _ = events.send(Event::ConsoleClosed);
    });
    stream.writer
}

fn read_lines(stream: Stream, events: Sender<Event>) -> Box<dyn Write + Send> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream.reader);
        loop {
            let mut line = Vec::new();
            // A line without end must not eat memory.
            match reader.by_ref().take(1 << 20).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                _ => return,
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if events.send(Event::Control(line)).is_err() {
                return;
            }
        }
    });
    stream.writer
}
