//! Which vCPU runs where: each has a home CPU, and the vCPUs of a CPU take turns of 10 ms by weight. A halted vCPU costs
//! nothing; a CPU without runnable vCPUs halts.

// UNSAFETY: one static pointer to the world, typed by the back end that made it.

use core::sync::atomic::{AtomicPtr, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::{Exit, Nanos, Vcpu, Why};

use pvdrivers::abi::vcpu::Runstate;

use super::backend::Backend;
use super::{Domain, Slot, State, Task, console, rescue};
use crate::archive::Entry;
use crate::cpu::power::{self, Code};
use crate::cpu::{self, YIELD, smp, timer, tsc, wake};
use crate::drivers::block;

/// A turn of a vCPU with the usual weight of 256, in nanoseconds. Others' are longer or shorter in proportion, so
/// that those who always want to run share a CPU by their weights.
pub const TURN_NS: u64 = 10_000_000;
/// The shortest turn, and the longest.
const TURNS_NS: (u64, u64) = (1_000_000, 100_000_000);
/// How long a vCPU runs, in nanoseconds, within the turn of another one of its CPU that called it: enough to take an
/// interrupt and to answer.
const ANSWER_NS: u64 = 25_000;
/// The same in TSC ticks at the least: in Bochs a tick is an instruction, and 25 us are 1,250, switches included.
const ANSWER_TICKS: u64 = 5_000;

/// How long a guest runs at the most, if its CPU can bound that: a second divided by 2 to the power of
/// this, which is 8 ms. Bochs keeps host interrupts from a guest that was entered with its own closed,
/// until it opens them.
const BOUND_SHIFT: u32 = 7;
/// The same of what the bound leaves the timer's interrupt, which is exact, to come first: 61 us.
const SLACK_SHIFT: u32 = 14;

/// All guests.
pub struct World<B: Backend> {
    /// The guests, by number less one.
    pub domains: Box<[Box<Domain<B>>]>,
    /// The files of the boot modules: media for drives.
    pub files: Vec<Entry>,
}

static WORLD: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// All guests, for who looks after them.
#[must_use]
pub fn world<B: Backend>() -> &'static World<B> {
    // SAFETY: `run` stored a leaked `World<B>` before any CPU came here, with the same `B`.
    unsafe { &*WORLD.load(Ordering::Acquire).cast::<World<B>>() }
}

/// A guest by its number, from 1. `None` before they run.
#[must_use]
pub fn domain<B: Backend>(id: usize) -> Option<&'static Domain<B>> {
    if WORLD.load(Ordering::Acquire).is_null() {
        return None;
    }
    world::<B>().domains.get(id.wrapping_sub(1)).map(|domain| &**domain)
}

/// A guest by its name. `None` before they run, too.
#[must_use]
pub fn named<B: Backend>(name: &str) -> Option<&'static Domain<B>> {
    if WORLD.load(Ordering::Acquire).is_null() {
        return None;
    }
    world::<B>().domains.iter().map(|domain| &**domain).find(|domain| domain.name == name)
}

/// Runs the guests for ever, on all CPUs. Called on CPU 0.
pub fn run<B: Backend>(domains: Vec<Box<Domain<B>>>, files: Vec<Entry>, cpu: B::Cpu) -> ! {
    let domains = domains.into_boxed_slice();
    let world = Box::leak(Box::new(World { domains, files }));
    WORLD.store(core::ptr::from_mut(world).cast(), Ordering::Release);
    console::prepare(world.domains.len());
    block::set_hook(|_, cookie, status| {
        console::completed(cookie, status == block::Status::Done);
    });
    for domain in &world.domains {
        let before = crate::mem::in_use();
        if domain.power_on() {
            let tables = crate::mem::in_use().saturating_sub(before);
            domain.overhead.fetch_add(tables, Ordering::Relaxed);
            domain.set_state(State::Running);
            console::started(domain);
        } else {
            log::error!("{}: not enough memory to map it", domain.name);
            domain.set_state(State::Dead);
        }
    }
    smp::release(other_cpu::<B>);
    cpu_main::<B>(0, cpu)
}

/// Where the other CPUs begin.
fn other_cpu<B: Backend>(id: usize) -> ! {
    super::fpu::init_cpu();
    match B::enable(id) {
        Ok(backend) => cpu_main::<B>(id, backend),
        Err(why) => {
            log::error!("CPU {id}: {why}");
            power::stop(Code::Unusable)
        }
    }
}

/// One vCPU's place in the list of its home CPU.
struct Local<B: Backend> {
    domain: &'static Domain<B>,
    slot: &'static Slot<B>,
    first: bool,
    /// How long its turns are, in TSC ticks.
    turn: u64,
}

/// A turn whose vCPU has called others of its CPU. It perhaps spins until they have answered, so that they run in
/// between, in its time: a guest that calls has no more of the CPU than one that does not.
#[derive(Clone, Copy)]
struct Lent {
    /// Whose turn it is.
    by: usize,
    /// When it ends, as a TSC value.
    end: u64,
}

/// What one CPU does for ever.
fn cpu_main<B: Backend>(id: usize, mut backend: B::Cpu) -> ! {
    let mut locals = Vec::new();
    for domain in &world::<B>().domains {
        for (index, slot) in domain.slots.iter().enumerate() {
            if slot.home == id {
                let turn = TURN_NS * u64::from(domain.weight) / 256;
                let turn = tsc::from_ns(turn.clamp(TURNS_NS.0, TURNS_NS.1));
                locals.push(Local { domain, slot, first: index == 0, turn });
            }
        }
    }
    let answer = tsc::from_ns(ANSWER_NS).max(ANSWER_TICKS);
    let (mut turn, mut lent): (usize, Option<Lent>) = (0, None);
    loop {
        cpu::lock::close_interrupts();
        if id == 0 {
            console::housekeeping(world::<B>());
        }
        for local in &locals {
            service(local);
            // The local APIC's timer of a halted vCPU, while others keep this CPU busy.
            if due(local) <= tsc::now() {
                local.slot.woken.store(true, Ordering::Release);
            }
        }
        let now = tsc::now();
        let mut ran = match &lent {
            Some(lent) if now < lent.end && may_run(&locals[lent.by]) => {
                run_lent(&locals, lent, now + answer, &mut backend)
            }
            _ => false,
        };
        for n in 0..locals.len() {
            if ran {
                break;
            }
            let at = (turn + n) % locals.len();
            let end = turn_end(&locals, &locals[at], now);
            ran = may_run(&locals[at]) && run_turn(&locals[at], &mut backend, end);
            if ran {
                turn = (at + 1) % locals.len();
                lent = answers(&locals, at).next().map(|_| Lent { by: at, end });
            }
        }
        // Interrupts that came while a guest ran are taken here.
        cpu::lock::restore_interrupts(true);
        if !ran {
            wait(&locals);
        }
    }
}

/// Runs one of those who are to run in a turn that is lent: those who were called, each until `answered` at the latest,
/// then its owner. False: none of them had anything to run.
fn run_lent<B: Backend>(
    locals: &[Local<B>],
    lent: &Lent,
    answered: u64,
    backend: &mut B::Cpu,
) -> bool {
    let now = tsc::now();
    let mut run = |at: usize, end: u64| {
        let end = turn_end(locals, &locals[at], now).min(end);
        run_turn(&locals[at], backend, end)
    };
    answers(locals, lent.by).any(|at| run(at, lent.end.min(answered)))
        || (may_run(&locals[lent.by]) && run(lent.by, lent.end))
}

/// The vCPUs that were called since they ran, other than the one that runs.
fn answers<B: Backend>(locals: &[Local<B>], running: usize) -> impl Iterator<Item = usize> {
    (0..locals.len()).filter(move |&at| {
        at != running && locals[at].slot.called.load(Ordering::Acquire) && may_run(&locals[at])
    })
}

fn may_run<B: Backend>(local: &Local<B>) -> bool {
    local.domain.state() == State::Running && local.slot.woken.load(Ordering::Acquire)
}

/// When a vCPU's turn ends at the latest, as a TSC value: after [`TURN_NS`], or when another vCPU of this CPU has something
/// due. `u64::MAX` where it has the CPU for itself.
fn turn_end<B: Backend>(locals: &[Local<B>], running: &Local<B>, now: u64) -> u64 {
    let others = locals.iter().filter(|local| !core::ptr::eq(local.slot, running.slot));
    let turn = now + running.turn;
    others.map(|local| turn.min(due(local))).min().unwrap_or(u64::MAX)
}

/// When a vCPU that does not run wants to, as a TSC value.
fn due<B: Backend>(local: &Local<B>) -> u64 {
    let domain = local.domain;
    let machine = &domain.machine;
    if domain.state() != State::Running {
        return u64::MAX;
    }
    // Not from the task: the monitor may have it locked, and the timer must not be forgotten meanwhile.
    let own = local.slot.due.load(Ordering::Acquire);
    let board = if local.first { machine.board_due() } else { Nanos::NEVER };
    own.min(deadline(domain, board))
}

/// A time of a guest as a TSC value; `u64::MAX` for never.
fn deadline<B: Backend>(domain: &Domain<B>, due: Nanos) -> u64 {
    if due == Nanos::NEVER { u64::MAX } else { domain.machine.clock().tsc(due) }
}

/// What the board of a domain needs from time to time, on its first vCPU's CPU.
fn service<B: Backend>(local: &Local<B>) {
    let Local { domain, first, .. } = *local;
    if !first || domain.state() != State::Running {
        return;
    }
    domain.retime.store(false, Ordering::Release);
    let machine = &domain.machine;
    if machine.board_due() <= machine.now(domain) {
        let why = console::guarded(domain, || {
            machine.tick(domain);
            machine.stop_request()
        });
        if let Some(Some(why)) = why {
            domain.stop(why);
        }
    }
}

/// Halts until something is due.
fn wait<B: Backend>(locals: &[Local<B>]) {
    // Closed until `idle` halts: a timer that fires between arming and halting must still end the halt.
    cpu::lock::close_interrupts();
    let mut soonest = locals.iter().map(due).min().unwrap_or(u64::MAX);
    if cpu::this().id == 0 {
        if console::wanted() {
            return;
        }
        soonest = soonest.min(console::due());
    }
    if soonest <= tsc::now() {
        // A timer of a halted vCPU: let it look.
        for local in locals {
            local.slot.woken.store(true, Ordering::Release);
        }
        return;
    }
    if soonest == u64::MAX {
        timer::disarm();
    } else {
        timer::arm(soonest);
    }
    let this = cpu::this();
    cpu::idle(|| {
        !this.kicked.swap(false, Ordering::AcqRel)
            && !locals.iter().any(|local| may_run(local))
            && !(this.id == 0 && console::wanted())
    });
    for local in locals {
        if local.domain.state() == State::Running {
            local.slot.woken.store(true, Ordering::Release);
        }
    }
}

/// Runs one vCPU until its turn ends. False: it had nothing to run.
fn run_turn<B: Backend>(local: &Local<B>, backend: &mut B::Cpu, turn_end: u64) -> bool {
    let Local { domain, slot, first, .. } = *local;
    let Some(mut guard) = slot.task.try_lock() else { return false };
    let task = &mut *guard;
    slot.called.store(false, Ordering::Release);
    slot.woken.store(false, Ordering::Release);
    slot.running.store(true, Ordering::Release);
    let machine = &domain.machine;
    let id = task.cpu.id;
    machine.set_runstate(domain, id, Runstate::RUNNING);
    task.cpu.wake();
    let ran = rescue::catch(|| {
        if let Some(why) = domain.pay() {
            return Some(Some(why));
        }
        if !machine.before_entry(&mut task.cpu, &mut task.vcpu, domain) {
            return None;
        }
        B::attach(&mut task.vcpu, backend);
        task.fpu.load();
        domain.doomed.meet();
        let stop = enter_and_leave(domain, slot, task, first, turn_end);
        task.fpu.save();
        B::detach(&mut task.vcpu);
        Some(stop)
    });
    if ran.is_none() {
        B::detach(&mut task.vcpu);
        domain.panicked();
    }
    slot.due.store(deadline(domain, task.cpu.soonest()), Ordering::Release);
    let ready = wake::leave(&slot.woken, &slot.running, || ());
    if machine.is_interrupted(&mut task.cpu, &mut task.vcpu) {
        // Its interrupts are closed: whoever called it still waits.
        slot.called.store(true, Ordering::Release);
    }
    machine.set_runstate(domain, id, if ready { Runstate::RUNNABLE } else { Runstate::BLOCKED });
    match ran {
        Some(None) => return false,
        Some(Some(Some(why))) => domain.stop(why),
        Some(Some(None)) | None => {}
    }
    true
}

/// The loop around the guest. Ends when the turn is over, the vCPU waits, or the guest stops.
fn enter_and_leave<B: Backend>(
    domain: &'static Domain<B>,
    slot: &'static Slot<B>,
    task: &mut Task<B>,
    first: bool,
    turn_end: u64,
) -> Option<Why> {
    let machine = &domain.machine;
    let Task { vcpu, cpu, .. } = task;
    let this = cpu::this();
    this.asked.store(0, Ordering::Relaxed);
    let posted = machine.posted(cpu.id)?;
    let (mut armed, mut armed_for, mut timer_at) = (false, Nanos::NEVER, 0);
    loop {
        if domain.retime.load(Ordering::Relaxed) {
            if first {
                domain.retime.store(false, Ordering::Release);
                armed = false;
            } else if domain.slots.first().is_some_and(|slot| slot.home == this.id) {
                // The end of this turn was reckoned from the board's old deadline.
                slot.woken.store(true, Ordering::Release);
                return None;
            }
        }
        // The timer may have fired between an exit and here: Bochs takes interrupts then, closed as they
        // are, until they are closed once more.
        let fired = this.deadline.load(Ordering::Relaxed) != timer_at;
        if !armed || armed_for != cpu.soonest() || fired {
            (armed, armed_for) = (true, cpu.soonest());
            let ticks = arm(domain, armed_for, first, turn_end);
            B::bound(vcpu, ticks);
            timer_at = this.deadline.load(Ordering::Relaxed);
        }
        // Most exits change nothing of all that is looked at outside this loop.
        let interrupted = loop {
            // First the mark, then the look: whoever took a page away waits for marked CPUs that have not
            // looked since (`Domain::wait_for_flush`).
            slot.inside.store(true, Ordering::SeqCst);
            if slot.flush.load(Ordering::SeqCst) {
                slot.flush.store(false, Ordering::SeqCst);
                vcpu.flush_tlb();
            }
            vcpu.enter();
            slot.inside.store(false, Ordering::Release);
            let start = tsc::now();
            let exit = vcpu.exit();
            let interrupted =
                matches!(exit, Exit::HostInterrupt | Exit::HostNmi | Exit::PreemptionTimer);
            machine.serve(cpu, vcpu, domain, exit, start);
            if !cpu.is_calm(posted) || this.asked.load(Ordering::Relaxed) != 0 {
                break interrupted;
            }
        };
        if let Some(why) = cpu.ended() {
            return Some(why);
        }
        if interrupted {
            // The host's handler runs here.
            cpu::lock::take_interrupts();
            armed = false;
            cpu.wake();
            let kicked = this.kicked.swap(false, Ordering::Relaxed);
            if first && machine.board_due() <= machine.now(domain) {
                machine.tick(domain);
            }
            if let Some(why) = machine.stop_request() {
                return Some(why);
            }
            if domain.state() != State::Running
                || tsc::now() >= turn_end
                || (kicked && called(domain, slot))
                || (this.id == 0 && console::wanted())
            {
                slot.woken.store(true, Ordering::Release);
                return None;
            }
        }
        let asked = this.asked.load(Ordering::Relaxed);
        if asked != 0 {
            if asked & YIELD != 0 {
                // It woke another vCPU of this CPU, and perhaps spins until that has answered.
                slot.woken.store(true, Ordering::Release);
                return None;
            }
            this.asked.store(0, Ordering::Relaxed);
        }
        if !machine.before_entry(cpu, vcpu, domain) {
            return machine.stop_request();
        }
    }
}

/// Whether another vCPU of this guest and this CPU was woken: the one that woke it may spin until it answers, so it
/// does not wait for the end of the turn. A guest can hurt only its own turns by that.
fn called<B: Backend>(domain: &Domain<B>, running: &Slot<B>) -> bool {
    let waits = |slot: &Slot<B>| slot.home == running.home && slot.called.load(Ordering::Acquire);
    domain.slots.iter().any(|slot| !core::ptr::eq(slot, running) && waits(slot))
}

/// Arms the CPU's timer for whatever comes first. How long the guest may run if that goes unheard, in
/// TSC ticks.
fn arm<B: Backend>(domain: &Domain<B>, own: Nanos, first: bool, turn_end: u64) -> u64 {
    let board = if first { domain.machine.board_due() } else { Nanos::NEVER };
    let due = deadline(domain, own.min(board));
    let mut when = due.min(turn_end);
    if cpu::this().id == 0 {
        when = when.min(console::due());
    }
    if when == u64::MAX {
        timer::disarm();
    } else {
        timer::arm(when);
    }
    let left = when.saturating_sub(tsc::now()).saturating_add(tsc::hz() >> SLACK_SHIFT);
    left.min(tsc::hz() >> BOUND_SHIFT)
}
