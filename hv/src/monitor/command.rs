//! The monitor's commands. Each writes its answer to a `fmt::Write`; one entry in `COMMANDS` and
//! one arm in `run` make a command.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use alloc::string::String;
use arch::Why;
use devmodel::apicmsg::{DeliveryMode, Message};
use pvdrivers::bus::Request;

use super::inspect::{self, View, with_task};
use super::{display, lifecycle, media, text, typing};
use crate::cpu::power::{self, Code};
use crate::cpu::{percpu, tsc};
use crate::domain::backend::Backend;
use crate::domain::doom::Doom;
use crate::domain::sched::World;
use crate::domain::{Domain, State, console};
use crate::mem::frames;

const COMMANDS: [(&str, &str); 34] = [
    ("help", "this list"),
    ("list", "guests, their states and vCPUs"),
    ("info [GUEST]", "the host, or a guest's memory, time and screen"),
    ("exits [GUEST]", "exits by kind: count and TSC cycles, for each vCPU and in all"),
    ("trace [GUEST:VCPU] [N]", "the last N exits (up to 64)"),
    ("regs [GUEST:VCPU]", "registers"),
    ("stack [GUEST:VCPU] [N]", "N words at SS:RSP"),
    ("mem [GUEST:VCPU] ADDRESS [N]", "N bytes at a linear address, in hexadecimal"),
    ("phys [GUEST] ADDRESS [N]", "N bytes at a physical address"),
    ("disas [GUEST:VCPU] [ADDRESS] [N]", "N instructions at CS:ADDRESS, else at RIP"),
    ("screen [GUEST]", "the screen as text, read by fonts in graphics modes"),
    ("pause [GUEST]", "its vCPUs stop"),
    ("resume [GUEST]", "they go on"),
    ("reset [GUEST]", "it starts anew, from power-on; also one that has ended"),
    ("destroy [GUEST]", "it ends"),
    ("shutdown [GUEST]", "asked by XenStore to power off; without Xen drivers the ACPI button"),
    ("reboot [GUEST]", "asked by XenStore to restart"),
    ("sysrq [GUEST] KEY", "a SysRq key, by XenStore"),
    ("vcpu-set [GUEST] N", "it has N vCPUs now, up to maxvcpus"),
    ("xenstore-ls [GUEST]", "its nodes in XenStore"),
    ("poweroff [GUEST]", "the ACPI power button"),
    ("eject [GUEST] DEVICE [force]", "opens hda to hdd or fda, fdb (also cd-eject)"),
    ("insert [GUEST] DEVICE MEDIUM", "puts in a boot module, host:N or /dev/sr0 (also cd-insert)"),
    ("mem-set [GUEST] MIB", "asks its balloon to leave it so much memory"),
    ("nmi [GUEST:VCPU]", "a non-maskable interrupt"),
    ("keys [GUEST] CHORD,CHORD...", "press ctrl-alt-del, f1, enter ..."),
    ("type [GUEST:] TEXT", "type on the keyboard; \\n is Enter"),
    ("net", "bridges, their ports and what passed"),
    ("limits [GUEST]", "its ports, grants and part of XenStore, and how much it may have"),
    ("log [N]", "the last N KiB of the hypervisor's log"),
    ("focus GUEST", "whose serial port, screen and keyboard the console has"),
    ("panic [GUEST] [LOCK]", "a panic while serving it, with store, events or grants locked"),
    ("quit", "ends all guests and the machine"),
    ("GUEST", "is a name or `NUMBER:`; without it the guest in focus, and vCPU 0"),
];

/// Commands that take nothing but a guest: what else follows is meant as one, and the guest in focus must not
/// stand in for it.
const ALONE: [&str; 15] = [
    "info",
    "exits",
    "regs",
    "screen",
    "pause",
    "resume",
    "reset",
    "destroy",
    "shutdown",
    "reboot",
    "poweroff",
    "xenstore-ls",
    "nmi",
    "limits",
    "quit",
];

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// In a person's words.
    Because(&'static str),
    /// The same, with a name or number in it.
    Told(alloc::string::String),
    /// The answer could not be written.
    Output,
}

impl From<fmt::Error> for Refusal {
    fn from(_: fmt::Error) -> Refusal {
        Refusal::Output
    }
}

impl From<&'static str> for Refusal {
    fn from(why: &'static str) -> Refusal {
        Refusal::Because(why)
    }
}

pub(super) const USAGE: Refusal = Refusal::Because("the arguments are wrong; see help");
const GONE: Refusal = Refusal::Because("no such vCPU, or its CPU does not answer");
const NO_GUEST: Refusal = Refusal::Because("no such guest; see list");
pub(super) const ENDED: Refusal = Refusal::Because("the guest has ended");
pub(super) const BROKEN: Refusal =
    Refusal::Because("the hypervisor panicked while serving this guest; its devices are lost");

/// Arguments of a command, taken from the left.
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.rest.split_whitespace().next()
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        let at = self.rest.find(word)? + word.len();
        self.rest = self.rest[at..].trim_start();
        Some(word)
    }

    fn number(&mut self, default: u64, hexadecimal: bool) -> Result<u64, Refusal> {
        self.next().map_or(Ok(default), |word| text::number(word, hexadecimal).ok_or(USAGE))
    }
}

/// Finds a guest by its name, or by its number.
pub fn find<'w, B: Backend>(world: &'w World<B>, name: &str) -> Option<&'w Domain<B>> {
    let by_name = world.domains.iter().find(|domain| domain.name == name);
    let by_number = || {
        let number = name.parse::<usize>().ok()?;
        world.domains.get(number.checked_sub(1)?)
    };
    by_name.or_else(by_number).map(|domain| &**domain)
}

/// The guest and vCPU that the next word names, else those in focus.
fn target<'w, B: Backend>(
    world: &'w World<B>,
    focus: usize,
    words: &mut Words<'_>,
) -> Result<(&'w Domain<B>, usize), Refusal> {
    let focused =
        || world.domains.get(focus.wrapping_sub(1)).map(|domain| &**domain).ok_or(NO_GUEST);
    let Some(word) = words.peek() else { return Ok((focused()?, 0)) };
    if let Some((name, vcpu)) = word.split_once(':') {
        words.next();
        let domain =
            if name.is_empty() { focused()? } else { find(world, name).ok_or(NO_GUEST)? };
        let vcpu = if vcpu.is_empty() { Some(0) } else { vcpu.parse().ok() };
        return Ok((domain, vcpu.ok_or(USAGE)?));
    }
    match world.domains.iter().find(|domain| domain.name == word) {
        Some(domain) => {
            words.next();
            Ok((domain, 0))
        }
        None => Ok((focused()?, 0)),
    }
}

/// Carries out one line.
///
/// # Errors
/// Why not.
pub fn run<B: Backend>(
    world: &'static World<B>,
    line: &str,
    focus: usize,
    out: &mut dyn Write,
) -> Result<(), Refusal> {
    let mut words = Words { rest: line.trim() };
    let Some(command) = words.next() else { return Ok(()) };
    match command {
        "help" | "?" => {
            for (usage, what) in COMMANDS {
                writeln!(out, "{usage:<34} {what}")?;
            }
            return Ok(());
        }
        "list" => return list(world, focus, out),
        "net" => return Ok(out.write_str(&crate::domain::net::report())?),
        "log" => return log(out, words.number(2, false)?),
        "quit" if words.peek().is_none() => power::stop(Code::Clean),
        "info" if words.peek().is_none() => return host(world, out),
        "focus" => {
            let word = words.next().ok_or(USAGE)?;
            let domain = find(world, word.trim_end_matches(':')).ok_or(NO_GUEST)?;
            super::terminal::focus(domain.id);
            return Ok(());
        }
        _ => {}
    }
    let (domain, vcpu) = target(world, focus, &mut words)?;
    if let (true, Some(word)) = (ALONE.contains(&command), words.peek()) {
        return Err(Refusal::Told(alloc::format!("there is no guest {word:?}; see list")));
    }
    // A panic in here, too, ends that guest only.
    let looks = matches!(command, "regs" | "stack" | "mem" | "disas" | "trace");
    if looks {
        return look(domain, vcpu, command, &mut words, out);
    }
    match command {
        "info" => guest(domain, out),
        "exits" => exits(domain, out),
        "limits" => Ok(crate::domain::pv::limits::report(domain, out)?),
        "phys" => {
            let at = words.number(0, true)?;
            let bytes = words.number(64, false)?.min(4096);
            Ok(inspect::memory(out, &View::physical(domain), at, bytes)?)
        }
        "screen" => display::text(domain, out),
        "type" => {
            let mut buffer = [0; 1024];
            let plain = crate::drivers::control::unescape(words.rest, &mut buffer).ok_or(USAGE)?;
            let plain = core::str::from_utf8(plain).map_err(|_| USAGE)?;
            Ok(typing::text(domain.id, plain)?)
        }
        "mem-set" => memory_set(domain, words.number(0, false)?, out),
        "eject" | "cd-eject" => media::eject(domain, &mut words),
        "insert" | "cd-insert" => media::insert(world, domain, &mut words),
        "shutdown" => lifecycle::ask(domain, Request::PowerOff, out),
        "reboot" => lifecycle::ask(domain, Request::Reboot, out),
        "vcpu-set" => lifecycle::set_vcpus(domain, &mut words, out),
        "sysrq" => lifecycle::sysrq(domain, &mut words),
        "xenstore-ls" => Ok(out.write_str(&crate::domain::pv::control::tree(domain))?),
        "keys" => Ok(typing::chords(domain.id, words.next().ok_or(USAGE)?)?),
        "panic" => doom(domain, words.next().unwrap_or("")),
        _ => change(domain, vcpu, command),
    }
}

/// Commands that read a vCPU's state.
fn look<B: Backend>(
    domain: &Domain<B>,
    vcpu: usize,
    command: &str,
    words: &mut Words<'_>,
    out: &mut dyn Write,
) -> Result<(), Refusal> {
    let mut number = |default, hexadecimal| words.number(default, hexadecimal);
    let (first, second) = match command {
        "mem" => (number(0, true)?, number(64, false)?.min(4096)),
        "disas" => (number(u64::MAX, true)?, number(12, false)?.min(256)),
        "trace" => (number(32, false)?, 0),
        _ => (number(16, false)?.min(512), 0),
    };
    let done = with_task(domain, vcpu, |task| {
        let view = View::linear(domain, &task.vcpu);
        match command {
            "regs" => inspect::registers(out, domain, task),
            "stack" => inspect::stack(out, &view, task, first),
            "mem" => inspect::memory(out, &view, first, second),
            "trace" => inspect::trace(out, &task.cpu.stats, first as usize),
            _ => {
                let rip = arch::Vcpu::rip(&task.vcpu);
                let at = if first == u64::MAX { rip } else { first };
                inspect::code(out, &view, task, at, second)
            }
        }
    });
    Ok(done.ok_or(GONE)??)
}

/// Commands that change what a guest does.
fn change<B: Backend>(domain: &Domain<B>, vcpu: usize, command: &str) -> Result<(), Refusal> {
    let broken = domain.broken.load(Ordering::Acquire);
    let dead = domain.state() == State::Dead;
    let tell = |state: &str| {
        crate::drivers::control::send(format_args!("@guest {} {state}", domain.name));
    };
    match command {
        "pause" => {
            if !domain.change_state(State::Running, State::Paused) {
                return Err("it does not run".into());
            }
            tell("paused");
        }
        "resume" => {
            if broken || !domain.change_state(State::Paused, State::Running) {
                return Err("it is not paused".into());
            }
            tell("resumed");
        }
        "destroy" if dead => return Err(ENDED),
        "destroy" => domain.stop(Why::Destroyed),
        "reset" | "poweroff" | "nmi" if broken => return Err(BROKEN),
        "reset" => {
            reset(domain)?;
            tell("rebooted");
        }
        "poweroff" | "nmi" if dead => return Err(ENDED),
        "poweroff" => {
            let press = || crate::domain::pv::control::press_power_button(domain);
            console::guarded(domain, press).ok_or(BROKEN)?;
        }
        "nmi" => nmi(domain, vcpu)?,
        _ => return Err("no such command; see help".into()),
    }
    Ok(())
}

/// Sets what the guest's balloon is to reach. How far it got is in `list`.
fn memory_set<B: Backend>(
    domain: &Domain<B>,
    mib: u64,
    out: &mut dyn Write,
) -> Result<(), Refusal> {
    if domain.state() == State::Dead {
        return Err(ENDED);
    }
    let (maximum, current) = reservation_mib(domain);
    if mib == 0 || mib > maximum {
        return Err(Refusal::Told(alloc::format!("MIB must be from 1 to {maximum}")));
    }
    let told = console::guarded(domain, || domain.set_memory(mib));
    if !told.ok_or(BROKEN)? {
        return Err("it does not find Xen's interface, and so has no balloon".into());
    }
    Ok(writeln!(out, "{}: {current} of {maximum} MiB now, to be {mib}", domain.name)?)
}

/// Memory that a guest may have, and that it has now, in MiB.
fn reservation_mib<B: Backend>(domain: &Domain<B>) -> (u64, u64) {
    let (maximum, current) = domain.reservation();
    (maximum >> 8, current >> 8)
}

/// The guest's next turn panics.
fn doom<B: Backend>(domain: &Domain<B>, lock: &str) -> Result<(), Refusal> {
    if domain.broken.load(Ordering::Acquire) {
        return Err(BROKEN);
    }
    if domain.state() == State::Dead {
        return Err(ENDED);
    }
    domain.doomed.set(Doom::named(lock).ok_or(USAGE)?);
    (0..domain.slots.len()).for_each(|vcpu| machine::Host::kick(domain, vcpu));
    Ok(())
}

fn nmi<B: Backend>(domain: &Domain<B>, vcpu: usize) -> Result<(), Refusal> {
    if vcpu >= domain.slots.len() {
        return Err(GONE);
    }
    let message = Message {
        dest: vcpu as u32,
        logical: false,
        mode: DeliveryMode::Nmi,
        vector: 0,
        level: false,
    };
    console::guarded(domain, || domain.machine.send(domain, &message)).ok_or(BROKEN)
}

/// All vCPUs leave, then the computer is switched on again.
fn reset<B: Backend>(domain: &Domain<B>) -> Result<(), Refusal> {
    domain.set_state(State::Paused);
    let end = tsc::now() + tsc::from_ns(100_000_000);
    while domain.slots.iter().any(|slot| slot.running.load(Ordering::Acquire)) {
        if tsc::now() > end {
            domain.set_state(State::Running);
            return Err(GONE);
        }
        core::hint::spin_loop();
    }
    if console::guarded(domain, || domain.power_on()).ok_or(BROKEN)? {
        domain.reboots.fetch_add(1, Ordering::Relaxed);
        domain.set_state(State::Running);
        Ok(())
    } else {
        domain.set_state(State::Dead);
        Err("there is not enough memory to start it".into())
    }
}

fn state_name<B: Backend>(domain: &Domain<B>) -> &'static str {
    match domain.state() {
        _ if domain.broken.load(Ordering::Acquire) => "panicked",
        State::Running => "running",
        State::Paused => "paused",
        State::Stopping => "stopping",
        State::Dead => "ended",
    }
}

fn list<B: Backend>(world: &World<B>, focus: usize, out: &mut dyn Write) -> Result<(), Refusal> {
    for domain in &world.domains {
        let mark = if domain.id == focus { '*' } else { ' ' };
        let (id, name, state) = (domain.id, &domain.name, state_name(domain));
        let why = domain.machine.stop_request();
        let (maximum, current) = reservation_mib(domain);
        writeln!(
            out,
            "{mark}{id} {name:<20} {state:<9} {}/{} vCPUs {current:>6} of {maximum} MiB {} reboots{}",
            domain.machine.plugged(),
            domain.slots.len(),
            domain.reboots.load(Ordering::Relaxed),
            why.map_or_else(String::new, |why| alloc::format!(" ({})", text::why(why)))
        )?;
    }
    Ok(())
}

fn host<B: Backend>(world: &World<B>, out: &mut dyn Write) -> Result<(), Refusal> {
    let stats = frames::stats();
    writeln!(
        out,
        "Xenolith {} ({}), up {} s, {} guests",
        env!("CARGO_PKG_VERSION"),
        B::NAME,
        tsc::uptime_ns() / 1_000_000_000,
        world.domains.len()
    )?;
    writeln!(out, "memory: {} MiB, {} MiB free", stats.total >> 20, stats.free >> 20)?;
    for cpu in percpu::all() {
        let (interrupts, nmis, halted) = (&cpu.interrupts, &cpu.nmis, &cpu.halted);
        writeln!(
            out,
            "CPU {} (APIC {:#x}): {} interrupts, {} NMIs, halted for {} of {} ticks",
            cpu.id,
            cpu.apic_id(),
            interrupts.load(Ordering::Relaxed),
            nmis.load(Ordering::Relaxed),
            halted.load(Ordering::Relaxed),
            tsc::ticks()
        )?;
    }
    Ok(writeln!(out, "command line: {}", crate::config::line())?)
}

fn guest<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> Result<(), Refusal> {
    let machine = &domain.machine;
    let now = machine.now(domain).0;
    writeln!(
        out,
        "{}: {}, up {}.{:03} s",
        domain.name,
        state_name(domain),
        now / 1_000_000_000,
        now / 1_000_000 % 1000
    )?;
    let (low, high) = (machine.ram.low_size() >> 10, machine.ram.high_size() >> 10);
    writeln!(out, "memory: {low} KiB below 4 GiB, {high} KiB above")?;
    let (maximum, current) = domain.reservation();
    writeln!(out, "balloon: it has {} of {} KiB", current << 2, maximum << 2)?;
    let own = domain.overhead.load(Ordering::Relaxed) >> 10;
    writeln!(out, "the hypervisor's for it: {own} KiB beyond RAM and video memory")?;
    writeln!(out, "ends: {:?}", domain.actions)?;
    if let Some(why) = machine.stop_request() {
        writeln!(out, "stopped: {}", text::why(why))?;
    }
    if let Some(vga) = display::snapshot(domain) {
        let mode = vga.mode();
        writeln!(out, "screen: {mode:?}")?;
    }
    media::drives(domain, out)?;
    for vcpu in 0..domain.slots.len() {
        let home = domain.slots[vcpu].home;
        let line = with_task(domain, vcpu, |task| {
            let (activity, total) = (task.cpu.activity, task.cpu.stats.total());
            let away = if vcpu < machine.plugged() { "" } else { " (not plugged in)" };
            writeln!(out, "vcpu {vcpu}: CPU {home}, {activity:?}{away}, {total} exits")
        });
        line.ok_or(GONE)??;
    }
    Ok(())
}

fn log(out: &mut dyn Write, kib: u64) -> Result<(), Refusal> {
    let mut buffer = alloc::vec![0; (kib.min(64) as usize) << 10];
    let newest = crate::log::newest(&mut buffer);
    // The first line is cut anywhere.
    let start = newest.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    Ok(out.write_str(&alloc::string::String::from_utf8_lossy(&newest[start..]))?)
}

/// Count and cycles of each kind of exit of a vCPU.
pub type Kinds = alloc::vec::Vec<(&'static str, u64, u64)>;

/// Exits of one vCPU by kind.
pub fn kinds<B: Backend>(domain: &Domain<B>, vcpu: usize) -> Option<Kinds> {
    with_task(domain, vcpu, |task| task.cpu.stats.by_kind().collect())
}

/// Exits of all vCPUs by kind.
pub fn all_kinds<B: Backend>(domain: &Domain<B>) -> Kinds {
    let mut sum = Kinds::new();
    for (name, count, cycles) in
        (0..domain.slots.len()).filter_map(|vcpu| kinds(domain, vcpu)).flatten()
    {
        match sum.iter_mut().find(|(known, ..)| *known == name) {
            Some(row) => *row = (name, row.1 + count, row.2 + cycles),
            None => sum.push((name, count, cycles)),
        }
    }
    sum
}

fn exits<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> Result<(), Refusal> {
    let table = |out: &mut dyn Write, rows: &Kinds| -> fmt::Result {
        for (name, count, cycles) in rows {
            writeln!(
                out,
                "  {name:<20} {count:>12} {cycles:>16} {:>10}",
                cycles / (*count).max(1)
            )?;
        }
        let (count, cycles) = rows.iter().fold((0, 0), |(n, c), row| (n + row.1, c + row.2));
        writeln!(out, "  {:<20} {count:>12} {cycles:>16} {:>10}", "total", cycles / count.max(1))
    };
    writeln!(out, "{:<22} {:>12} {:>16} {:>10}", "kind", "count", "cycles", "each")?;
    for vcpu in 0..domain.slots.len() {
        writeln!(out, "vcpu {vcpu}")?;
        table(out, &kinds(domain, vcpu).ok_or(GONE)?)?;
    }
    if domain.slots.len() > 1 {
        writeln!(out, "all")?;
        table(out, &all_kinds(domain))?;
    }
    Ok(())
}
