//! Which vCPU runs where: each has a home CPU, and the vCPUs of a CPU take turns of 10 ms. A halted vCPU costs
//! nothing; a CPU without runnable vCPUs halts.

// UNSAFETY: one static pointer to the world, typed by the back end that made it.

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::{Exit, Nanos, Vcpu, Why};
use machine::Host;

use super::backend::Backend;
use super::{Action, Cookie, Domain, Slot, State, Task};
use crate::cpu::lock::IrqLock;
use crate::cpu::power::{self, Code};
use crate::cpu::{self, smp, timer, tsc};
use crate::drivers::{block, serial};

/// A turn, in nanoseconds.
const TURN_NS: u64 = 10_000_000;

/// All guests.
pub struct World<B: Backend> {
    /// The guests, by number less one.
    pub domains: Box<[Box<Domain<B>>]>,
}

static WORLD: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// Number of the guest whose serial port is on the host's.
static FOCUS: AtomicUsize = AtomicUsize::new(1);

/// Completions of host disks, from interrupt context to CPU 0.
static COMPLETED: IrqLock<heapless::Deque<(u64, bool), 256>> = IrqLock::new(heapless::Deque::new());

fn world<B: Backend>() -> &'static World<B> {
    // SAFETY: `run` stored a leaked `World<B>` before any CPU came here, with the same `B`.
    unsafe { &*WORLD.load(Ordering::Acquire).cast::<World<B>>() }
}

/// Runs the guests for ever, on all CPUs. Called on CPU 0.
pub fn run<B: Backend>(domains: Vec<Box<Domain<B>>>, cpu: B::Cpu) -> ! {
    let world = Box::leak(Box::new(World { domains: domains.into_boxed_slice() }));
    WORLD.store(core::ptr::from_mut(world).cast(), Ordering::Release);
    block::set_hook(|_, cookie, status| {
        let good = status == block::Status::Done;
        // As many as disks can have under way: no completion is lost.
        let _ = COMPLETED.lock().push_back((cookie, good));
        smp::kick(0);
    });
    for domain in &world.domains {
        if domain.power_on() {
            domain.set_state(State::Running);
            log::info!("{}: started, {} vCPUs", domain.name, domain.slots.len());
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
}

/// What one CPU does for ever.
fn cpu_main<B: Backend>(id: usize, mut backend: B::Cpu) -> ! {
    let mut locals = Vec::new();
    for domain in &world::<B>().domains {
        for (index, slot) in domain.slots.iter().enumerate() {
            if slot.home == id {
                locals.push(Local { domain, slot, first: index == 0 });
            }
        }
    }
    let mut turn = 0;
    loop {
        cpu::lock::close_interrupts();
        if id == 0 {
            housekeeping::<B>();
        }
        let mut ran = false;
        for n in 0..locals.len() {
            let local = &locals[(turn + n) % locals.len()];
            service(local);
            if may_run(local) && run_turn(local, &mut backend, locals.len() > 1) {
                turn = (turn + n + 1) % locals.len();
                ran = true;
                break;
            }
        }
        // Interrupts that came while a guest ran are taken here.
        cpu::lock::restore_interrupts(true);
        if !ran {
            wait(&locals);
        }
    }
}

fn may_run<B: Backend>(local: &Local<B>) -> bool {
    local.domain.state() == State::Running && local.slot.woken.load(Ordering::Acquire)
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
        machine.tick(domain);
        if let Some(why) = machine.stop_request() {
            domain.stop(why);
        }
    }
}

/// Halts until something is due.
fn wait<B: Backend>(locals: &[Local<B>]) {
    let mut soonest = u64::MAX;
    for local in locals {
        if local.domain.state() != State::Running {
            continue;
        }
        let clock = local.domain.machine.clock();
        let own = local.slot.task.try_lock().and_then(|task| task.cpu.due());
        let board = if local.first { local.domain.machine.board_due() } else { Nanos::NEVER };
        let due = own.unwrap_or(Nanos::NEVER).min(board);
        if due != Nanos::NEVER {
            soonest = soonest.min(clock.tsc(due));
        }
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
            && !(this.id == 0 && has_housekeeping())
    });
    for local in locals {
        if local.domain.state() == State::Running {
            local.slot.woken.store(true, Ordering::Release);
        }
    }
}

/// Runs one vCPU until its turn ends. False: it had nothing to run.
fn run_turn<B: Backend>(local: &Local<B>, backend: &mut B::Cpu, shared: bool) -> bool {
    let Local { domain, slot, first } = *local;
    let Some(mut guard) = slot.task.try_lock() else { return false };
    let task = &mut *guard;
    slot.woken.store(false, Ordering::Release);
    slot.running.store(true, Ordering::Release);
    let machine = &domain.machine;
    task.cpu.wake();
    if !machine.before_entry(&mut task.cpu, &mut task.vcpu, domain) {
        slot.running.store(false, Ordering::Release);
        return false;
    }
    B::attach(&mut task.vcpu, backend);
    task.fpu.load();
    let stop = enter_and_leave(domain, slot, task, first, shared);
    task.fpu.save();
    B::detach(&mut task.vcpu);
    slot.running.store(false, Ordering::Release);
    if let Some(why) = stop {
        domain.stop(why);
    }
    true
}

/// The loop around the guest. Ends when the turn is over, the vCPU waits, or the guest stops.
fn enter_and_leave<B: Backend>(
    domain: &'static Domain<B>,
    slot: &'static Slot<B>,
    task: &mut Task<B>,
    first: bool,
    shared: bool,
) -> Option<Why> {
    let machine = &domain.machine;
    let Task { vcpu, cpu, .. } = task;
    let this = cpu::this();
    let turn_end = if shared { tsc::now() + tsc::from_ns(TURN_NS) } else { u64::MAX };
    let mut armed = None;
    loop {
        if first && domain.retime.load(Ordering::Relaxed) {
            domain.retime.store(false, Ordering::Release);
            armed = None;
        }
        if armed != Some(cpu.due()) {
            armed = Some(cpu.due());
            arm(domain, cpu.due(), first, turn_end);
        }
        if slot.flush.load(Ordering::Relaxed) {
            slot.flush.store(false, Ordering::Release);
            vcpu.flush_tlb();
        }
        let exit = vcpu.run();
        if let Some(why) = machine.on_exit(cpu, vcpu, domain, exit) {
            return Some(why);
        }
        if matches!(exit, Exit::HostInterrupt | Exit::HostNmi | Exit::PreemptionTimer) {
            // The host's handler runs here.
            cpu::lock::restore_interrupts(true);
            cpu::lock::close_interrupts();
            armed = None;
            cpu.wake();
            this.kicked.store(false, Ordering::Relaxed);
            if first && machine.board_due() <= machine.now(domain) {
                machine.tick(domain);
            }
            if let Some(why) = machine.stop_request() {
                return Some(why);
            }
            if domain.state() != State::Running
                || tsc::now() >= turn_end
                || (this.id == 0 && has_housekeeping())
            {
                slot.woken.store(true, Ordering::Release);
                return None;
            }
        }
        if !machine.before_entry(cpu, vcpu, domain) {
            return machine.stop_request();
        }
    }
}

/// Arms the CPU's timer for whatever comes first.
fn arm<B: Backend>(domain: &Domain<B>, own: Option<Nanos>, first: bool, turn_end: u64) {
    let board = if first { domain.machine.board_due() } else { Nanos::NEVER };
    let due = own.unwrap_or(Nanos::NEVER).min(board);
    let due = if due == Nanos::NEVER { u64::MAX } else { domain.machine.clock().tsc(due) };
    let when = due.min(turn_end);
    if when == u64::MAX {
        timer::disarm();
    } else {
        timer::arm(when);
    }
}

fn has_housekeeping() -> bool {
    serial::COM1.has_input() || !COMPLETED.lock().is_empty()
}

/// What CPU 0 does for all guests.
fn housekeeping<B: Backend>() {
    let world = world::<B>();
    loop {
        let Some((bits, good)) = COMPLETED.lock().pop_front() else { break };
        let cookie = Cookie::from_bits(bits);
        if let Some(domain) = world.domains.get(cookie.domain.wrapping_sub(1)) {
            domain.disk_completed(cookie, good);
        }
    }
    while let Some(byte) = serial::COM1.read() {
        if let Some(domain) = world.domains.get(FOCUS.load(Ordering::Relaxed).wrapping_sub(1)) {
            domain.serial_in.lock().push(byte);
        }
    }
    for domain in &world.domains {
        feed_serial(domain);
        if domain.state() == State::Stopping {
            end_of_guest(domain);
        }
    }
    if world.domains.iter().all(|domain| domain.state() == State::Dead) {
        log::info!("all guests have ended");
        power::stop(Code::Clean);
    }
}

/// Offers waiting input to the guest's serial port.
fn feed_serial<B: Backend>(domain: &Domain<B>) {
    let mut waiting = domain.serial_in.lock();
    while let Some(byte) = waiting.peek() {
        if !domain.machine.receive(domain, 0, byte) {
            break;
        }
        waiting.pop();
    }
}

/// A guest has stopped: what its configuration says happens.
fn end_of_guest<B: Backend>(domain: &'static Domain<B>) {
    // Wait until no CPU runs it; they were kicked.
    if domain.slots.iter().any(|slot| slot.running.load(Ordering::Acquire)) {
        domain.slots.iter().enumerate().for_each(|(vcpu, _)| domain.kick(vcpu));
        return;
    }
    let why = domain.machine.stop_request().unwrap_or(Why::Destroyed);
    let action = match why {
        Why::PowerOff => domain.actions.poweroff,
        Why::Reset => domain.actions.reboot,
        Why::Destroyed => Action::Destroy,
        _ => domain.actions.crash,
    };
    log::info!("{}: {why:?}, {action:?}", domain.name);
    if !matches!(why, Why::PowerOff | Why::Reset | Why::Destroyed) {
        for slot in &domain.slots {
            describe(&slot.task.lock());
        }
    }
    match action {
        Action::Restart if domain.power_on() => {
            domain.reboots.fetch_add(1, Ordering::Relaxed);
            domain.set_state(State::Running);
        }
        Action::Preserve => domain.set_state(State::Paused),
        Action::Destroy | Action::Restart => domain.set_state(State::Dead),
    }
}

/// A vCPU's registers for the log.
fn describe<B: Backend>(task: &Task<B>) {
    use arch::{SegReg, SysReg};
    let (v, cpu) = (&task.vcpu, &task.cpu);
    let (cs, ss) = (v.segment(SegReg::Cs), v.segment(SegReg::Ss));
    log::info!(
        "vcpu {}: rip {:#x} cs {:#x}:{:#x} ss {:#x} rflags {:#x} {:?}",
        cpu.id,
        v.rip(),
        cs.selector,
        cs.base,
        ss.selector,
        v.rflags(),
        cpu.activity
    );
    log::info!("  gprs {:x?}", v.gprs().r);
    log::info!(
        "  cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
        v.reg(SysReg::Cr0),
        v.reg(SysReg::Cr2),
        v.reg(SysReg::Cr3),
        v.reg(SysReg::Cr4),
        v.reg(SysReg::Efer)
    );
    for record in cpu.stats.trace() {
        log::info!("  {:#x} {:?}", record.rip, record.exit);
    }
}

/// A byte of a guest's first serial port.
pub fn console_out<B: Backend>(domain: &Domain<B>, byte: u8) {
    if domain.id == FOCUS.load(Ordering::Relaxed) {
        serial::COM1.write(&[byte]);
    }
    domain.serial_out.lock().push(byte);
}
