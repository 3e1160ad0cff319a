//! What CPU 0 does for all guests between turns, and what a guest says on its serial port.
//!
//! A byte of output costs a lock and a store: it waits in the guest's ring until 512 are there or a
//! few milliseconds have passed, and goes out in one piece. Who needs CPU 0 calls [`want`] or
//! [`want_by`].

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use alloc::collections::VecDeque;
use arch::Why;
use pvdrivers::abi::sched::ShutdownReason;

use super::backend::Backend;
use super::sched::World;
use super::{Action, Cookie, Domain, State, Stream, net, pv, rescue};
use crate::cpu::lock::IrqLock;
use crate::cpu::power::{self, Code};
use crate::cpu::{self, smp, timer, tsc};
use crate::drivers::control;
use crate::drivers::ring::Ring;
use crate::monitor;

/// Output bytes that are kept for whoever looks at the guest later; a power of two.
const KEPT: usize = 16 << 10;
/// Bytes that go out without waiting for more.
const BATCH: u64 = 512;
/// How long a byte waits for others.
const WAIT_NS: u64 = 5_000_000;
/// How soon input is offered again to a full port.
const RETRY_NS: u64 = 1_000_000;

/// A guest's serial port as people see it: the one that its configuration leads to the console.
pub struct Console {
    out: IrqLock<Out>,
    /// Bytes for the guest.
    pub input: Stream,
}

struct Out {
    ring: [u8; KEPT],
    /// Bytes ever written; the last [`KEPT`] are in the ring.
    written: u64,
    /// How many of them have gone out.
    sent: u64,
    /// How many of them were shown on COM1 or are older.
    shown: u64,
    /// TSC at which the rest has waited long enough.
    due: u64,
}

impl Console {
    /// A silent one.
    #[must_use]
    pub const fn new() -> Console {
        let out = Out { ring: [0; KEPT], written: 0, sent: 0, shown: 0, due: u64::MAX };
        Console { out: IrqLock::new(out), input: Stream::new(Ring::new()) }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Out {
    /// The bytes from number `from` on, in two pieces.
    fn since(&self, from: u64) -> [&[u8]; 2] {
        let from = from.max(self.written.saturating_sub(KEPT as u64));
        let (start, end) = (from as usize % KEPT, self.written as usize % KEPT);
        if from == self.written {
            [&[], &[]]
        } else if start < end {
            [&self.ring[start..end], &[]]
        } else {
            [&self.ring[start..], &self.ring[..end]]
        }
    }

    /// Sends what waits.
    fn flush(&mut self, id: usize, name: &str) {
        for piece in self.since(self.sent) {
            monitor::channel::serial(name, piece);
        }
        if monitor::terminal::shows_serial_of(id) {
            self.show();
        }
        self.sent = self.written;
        self.due = u64::MAX;
    }

    /// Writes to COM1 what was not yet written there.
    fn show(&mut self) {
        for piece in self.since(self.shown) {
            monitor::terminal::write_serial(piece);
        }
        self.shown = self.written;
    }
}

/// A byte of the serial port that leads here. On the exit path.
pub fn console_out<B: Backend>(domain: &Domain<B>, byte: u8) {
    let mut out = domain.console.out.lock();
    let waiting = out.written - out.sent;
    let place = out.written as usize % KEPT;
    out.ring[place] = byte;
    out.written += 1;
    if waiting == 0 {
        let due = tsc::now() + tsc::from_ns(WAIT_NS);
        out.due = due;
        drop(out);
        want_by(due);
    } else if waiting + 1 >= BATCH {
        out.flush(domain.id, &domain.name);
    }
}

/// Shows on COM1 what the guest has written since it was last shown, as far as that is kept.
pub fn replay<B: Backend>(domain: &Domain<B>) {
    let mut out = domain.console.out.lock();
    out.flush(domain.id, &domain.name);
    out.show();
}

/// Something waits for CPU 0.
static WANTED: AtomicBool = AtomicBool::new(true);
/// TSC at which something will.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);
/// Guests that have ended badly.
static CRASHES: AtomicUsize = AtomicUsize::new(0);

/// Completions of host disks, from interrupt context to CPU 0.
static COMPLETED: IrqLock<VecDeque<(u64, bool)>> = IrqLock::new(VecDeque::new());
/// Requests that one guest can have under way: one on each IDE channel, one of the floppy controller, eight of the
/// firmware, and those of the back ends of four disks.
const UNDER_WAY: usize = 16 + 4 * pv::UNDER_WAY as usize;

/// Makes room for completions of so many guests.
pub fn prepare(guests: usize) {
    COMPLETED.lock().reserve(guests * UNDER_WAY);
}

/// A host disk has finished a request. In interrupt context, where nothing is allocated.
pub fn completed(cookie: u64, good: bool) {
    let mut completed = COMPLETED.lock();
    // There is room for all that can be under way: a completion that is lost would hang its guest.
    if completed.len() < completed.capacity() {
        completed.push_back((cookie, good));
    } else {
        log::error!("too many completions of disks: request {cookie:#x} is lost");
    }
    drop(completed);
    want();
}

/// CPU 0 is to look.
pub fn want() {
    WANTED.store(true, Ordering::Release);
    if cpu::this().id != 0 {
        smp::kick(0);
    }
}

/// CPU 0 is to look at TSC value `when`, or sooner.
pub fn want_by(when: u64) {
    DUE.fetch_min(when, Ordering::AcqRel);
    let this = cpu::this();
    if this.id != 0 {
        smp::kick(0);
    } else if when < this.deadline.load(Ordering::Relaxed) {
        timer::arm(when);
    }
}

/// When CPU 0 has something to do besides guests.
#[inline]
pub fn due() -> u64 {
    DUE.load(Ordering::Relaxed)
}

/// Whether CPU 0 has something to do besides guests.
#[inline]
pub fn wanted() -> bool {
    WANTED.load(Ordering::Acquire) || tsc::now() >= due()
}

/// What CPU 0 does for all guests. Interrupts are closed.
pub fn housekeeping<B: Backend>(world: &'static World<B>) {
    if !wanted() {
        return;
    }
    WANTED.store(false, Ordering::Release);
    DUE.store(u64::MAX, Ordering::Release);
    loop {
        let Some((bits, good)) = COMPLETED.lock().pop_front() else { break };
        let cookie = Cookie::from_bits(bits);
        let Some(domain) = world.domains.get(cookie.domain.wrapping_sub(1)) else { continue };
        // Also of a guest that was given up: back ends and media go on without its machine.
        let done = rescue::catch(|| domain.disk_completed(cookie, good));
        if done.is_none() && !domain.broken.load(Ordering::Acquire) {
            domain.panicked();
        }
    }
    net::step(world);
    pv::control::step(world);
    pv::limits::warn(world);
    monitor::step(world);
    for domain in &world.domains {
        guarded(domain, || feed_console(domain));
        domain.tell_of_goal();
        let mut out = domain.console.out.lock();
        if out.due <= tsc::now() {
            out.flush(domain.id, &domain.name);
        }
        let due = out.due;
        drop(out);
        if due != u64::MAX {
            want_by(due);
        }
        if domain.state() == State::Stopping {
            end_of_guest(domain);
        }
    }
    let over = world.domains.iter().all(|domain| domain.state() == State::Dead);
    if over && !control::is_open() {
        log::info!("all guests have ended");
        let failed = CRASHES.load(Ordering::Relaxed) != 0;
        power::stop(if failed { Code::GuestFailed } else { Code::Clean });
    }
}

/// Works on a guest; a panic ends that guest. `None` then, and for a guest that had ended so
/// before.
pub fn guarded<B: Backend, R>(domain: &Domain<B>, work: impl FnOnce() -> R) -> Option<R> {
    if domain.broken.load(Ordering::Acquire) {
        return None;
    }
    let done = rescue::catch(work);
    if done.is_none() {
        domain.panicked();
    }
    done
}

/// Offers waiting input to the guest: to its serial port, or to Xen's console once it has written there and
/// does not listen at the port.
fn feed_console<B: Backend>(domain: &Domain<B>) {
    if domain.state() != State::Running {
        return;
    }
    loop {
        // Not locked while the machine works: it may send, or panic.
        let Some(byte) = domain.console.input.lock().peek() else { return };
        let port = domain.console_port;
        let listens = port.is_some_and(|port| domain.machine.listens(port));
        let taken = match (if listens { None } else { pv::console_input(domain, byte) }, port) {
            (Some(taken), _) => taken,
            (None, Some(port)) => domain.machine.receive(domain, port, byte),
            (None, None) => return,
        };
        if !taken {
            want_by(tsc::now() + tsc::from_ns(RETRY_NS));
            return;
        }
        domain.console.input.lock().pop();
    }
}

/// A guest runs for the first time.
pub fn started<B: Backend>(domain: &Domain<B>) {
    let own = domain.overhead.load(Ordering::Relaxed) >> 10;
    let (name, vcpus) = (&domain.name, domain.slots.len());
    log::info!("{name}: started, {vcpus} vCPUs, {own} KiB beyond RAM and video memory");
    control::send(format_args!("@guest {} started", domain.name));
}

/// A guest has stopped: what its configuration says happens.
fn end_of_guest<B: Backend>(domain: &'static Domain<B>) {
    // Wait until no CPU runs it; they were kicked.
    if domain.slots.iter().any(|slot| slot.running.load(Ordering::Acquire)) {
        want_by(tsc::now() + tsc::from_ns(RETRY_NS));
        return;
    }
    // Back ends let go of it; what the host's disks still have of it comes back first.
    let broken = domain.broken.load(Ordering::Acquire);
    if !pv::stop(domain) {
        log::error!("{}: its back ends cannot let go of it and keep what they have", domain.name);
    } else if !broken && pv::is_busy(domain) {
        want_by(tsc::now() + tsc::from_ns(RETRY_NS));
        return;
    }
    let why = if broken { Some(Why::Panic) } else { domain.machine.stop_request() };
    let why = why.unwrap_or(Why::Destroyed);
    let action = match why {
        Why::Panic | Why::Destroyed => Action::Destroy,
        Why::PowerOff => domain.actions.poweroff,
        Why::Reset => domain.actions.reboot,
        Why::Crashed(reason) if u32::from(reason) == ShutdownReason::WATCHDOG.0 => {
            domain.actions.watchdog
        }
        _ => domain.actions.crash,
    };
    log::info!("{}: {}, {action:?}", domain.name, monitor::text::why(why));
    domain.console.out.lock().flush(domain.id, &domain.name);
    let bad = !matches!(why, Why::PowerOff | Why::Reset | Why::Destroyed);
    if bad {
        monitor::channel::report(domain);
    }
    if action == Action::Restart {
        let started = guarded(domain, || domain.power_on());
        if started == Some(true) {
            domain.reboots.fetch_add(1, Ordering::Relaxed);
            domain.set_state(State::Running);
            control::send(format_args!("@guest {} rebooted", domain.name));
            return;
        }
        if started.is_none() {
            // It is broken now, and comes here once more.
            return;
        }
        log::error!("{}: not enough memory to start again", domain.name);
    }
    let end = if action == Action::Preserve { State::Paused } else { State::Dead };
    // Pages of other guests that it has mapped are theirs again, and its own are no longer with them.
    if end == State::Dead && !pv::leave(domain) {
        log::error!("{}: its event channels and grants stay as they are", domain.name);
    }
    domain.set_state(end);
    CRASHES.fetch_add(usize::from(bad), Ordering::Relaxed);
    monitor::channel::verdict(domain, why);
}
