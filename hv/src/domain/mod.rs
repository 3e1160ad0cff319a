//! Guests: one [`Domain`] each, with its machine, memory and disks; and who runs their vCPUs.
//!
//! `backend` (the vendor), `balloon` (memory given back), `window` (RAM as the hypervisor sees it),
//! `build` (from a configuration), `memory` (frames and the second-level table), `disk`, `sched` (which vCPU runs where),
//! `fpu` (what is switched with a vCPU). `launch` builds them from the boot modules.

pub mod backend;
pub mod balloon;
pub mod build;
pub mod console;
pub mod demand;
pub mod disk;
pub mod doom;
pub mod fpu;
pub mod memory;
pub mod net;
pub mod pv;
pub mod rescue;
pub mod sched;
pub mod snapshot;
pub mod sweep;
pub mod window;

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use arch::slat::{Flush, MemType, Range, Slat, SlatError};
use arch::{GuestPhys, Perm, Why};
use devmodel::blk::BlkRequest;
use machine::host::{Backed, Backing, DiskAnswer, DiskData, Output};
use machine::{Host, Machine, SLOTS};
use pvdrivers::{DomId, Port};
use spin::Mutex;

use crate::cpu::lock::IrqLock;
use crate::cpu::{self, RETIME, YIELD, tsc, wake};
use crate::drivers::ring::Ring;
use backend::Backend;
use disk::Medium;
use memory::{Frames, Store};

/// Whether a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Its vCPUs may run.
    Running = 0,
    /// A person stopped it; it can go on.
    Paused = 1,
    /// It asked to stop, or failed; nobody has looked after it yet.
    Stopping = 2,
    /// It has ended.
    Dead = 3,
}

impl State {
    const ALL: [State; 4] = [State::Running, State::Paused, State::Stopping, State::Dead];
}

/// What happens when a guest stops for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its state is written and it is gone.
    Destroy,
    /// It starts anew.
    Restart,
    /// It stays as it is, to be looked at.
    Preserve,
}

/// What the configuration says of a guest's ends.
#[derive(Clone, Copy, Debug)]
pub struct Actions {
    /// On ACPI power-off.
    pub poweroff: Action,
    /// On reset.
    pub reboot: Action,
    /// On a triple fault or an error.
    pub crash: Action,
    /// When its watchdog fires.
    pub watchdog: Action,
}

/// A byte stream that waits for who reads it.
pub type Stream = IrqLock<Ring<16384>>;

/// A vCPU and what travels with it.
pub struct Task<B: Backend> {
    /// Registers and control block.
    pub vcpu: B::Vcpu,
    /// Local APIC, MSRs, counters.
    pub cpu: machine::Cpu,
    /// FPU and vector registers while it does not run.
    pub fpu: fpu::Area,
}

/// A vCPU's place: its state is locked by the CPU that runs it.
pub struct Slot<B: Backend> {
    /// The vCPU.
    pub task: Mutex<Task<B>>,
    /// The CPU that runs its turns.
    pub home: usize,
    /// That CPU takes posted interrupts by itself while it runs the vCPU.
    pub posts: bool,
    /// Something happened: its inbox, or its domain's state.
    pub woken: AtomicBool,
    /// Woken from outside since its last turn, not only waiting for the next one.
    pub called: AtomicBool,
    /// TSC at which its local APIC's timer is due, noted when it leaves its CPU; `u64::MAX` for never.
    pub due: AtomicU64,
    /// It is running a turn now.
    pub running: AtomicBool,
    /// Its translations are stale.
    pub flush: AtomicBool,
    /// A CPU enters the guest, or is in it, and has looked at `flush` since.
    pub inside: AtomicBool,
}

/// One guest.
pub struct Domain<B: Backend> {
    /// Its number, from 1.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// The computer.
    pub machine: Machine,
    /// Its memory.
    pub frames: Frames,
    /// What it does when it stops.
    pub actions: Actions,
    /// Its vCPUs.
    pub slots: Box<[Slot<B>]>,
    /// Its serial port as people see it.
    pub console: console::Console,
    /// Which port that is: 0 or 1; `None` for neither.
    pub console_port: Option<usize>,
    /// The hypervisor panicked while serving it: its machine's locks may be held for ever.
    pub broken: AtomicBool,
    /// The next turn of one of its vCPUs panics, as a test.
    pub doomed: doom::Fate,
    /// Its debug-console line so far.
    debug_line: IrqLock<Vec<u8>>,
    slat: IrqLock<(Slat<B::Format>, Store)>,
    /// What is in its drives, by slot.
    pub disks: [IrqLock<Option<Medium>>; SLOTS],
    /// Its network interfaces: those with emulated cards first, in the cards' order.
    pub vifs: Vec<net::Vif>,
    /// Its devices that other guests serve.
    pub remotes: Vec<pv::RemoteDevice>,
    /// Which of Xen's screen and keyboard it has.
    pub screen: pv::ScreenConfig,
    state: AtomicU8,
    /// The board's deadline moved: its CPU must look.
    pub retime: AtomicBool,
    /// Resets so far.
    pub reboots: AtomicUsize,
    /// Bytes of the host's memory that it took beyond its RAM and its video memory, when it was started.
    pub overhead: AtomicU64,
    /// Memory for its disks' writes ran out; that was said.
    starved: AtomicBool,
    /// TSC at which the power button, which was pressed, should have been noticed; `u64::MAX` for none.
    pub button_due: AtomicU64,
    /// What it writes to host disks is thrown away.
    pub snapshot: bool,
    /// What it gave back.
    pub balloon: balloon::Balloon,
    /// Its vCPUs' turns are so long, in 256ths of [`sched::TURN_NS`].
    pub weight: u16,
}

/// What a [`Domain`] is made of.
pub struct Parts<B: Backend> {
    /// Number from 1.
    pub id: usize,
    /// Name.
    pub name: String,
    /// The computer.
    pub machine: Machine,
    /// Its memory.
    pub frames: Frames,
    /// What it does when it stops.
    pub actions: Actions,
    /// Its second-level table.
    pub slat: Slat<B::Format>,
    /// Its vCPUs.
    pub slots: Vec<Slot<B>>,
    /// Its disks by slot.
    pub disks: [Option<Medium>; SLOTS],
    /// The serial port that leads to the console: 0 or 1.
    pub console: Option<usize>,
    /// What it writes to host disks is thrown away.
    pub snapshot: bool,
    /// Its network interfaces, those with emulated cards first.
    pub vifs: Vec<net::Vif>,
    /// Its devices that other guests serve.
    pub remotes: Vec<pv::RemoteDevice>,
    /// Which of Xen's screen and keyboard it has.
    pub screen: pv::ScreenConfig,
    /// How long its vCPUs' turns are, in 256ths of the usual.
    pub weight: u16,
}

impl<B: Backend> Domain<B> {
    /// A guest that has not been powered on.
    #[must_use]
    pub fn new(parts: Parts<B>) -> Domain<B> {
        let Parts {
            id,
            name,
            machine,
            frames,
            actions,
            slat,
            slots,
            disks,
            console,
            snapshot,
            vifs,
            remotes,
            screen,
            weight,
        } = parts;
        Domain {
            id,
            name,
            machine,
            frames,
            actions,
            slots: slots.into_boxed_slice(),
            console: console::Console::new(),
            console_port: console,
            broken: AtomicBool::new(false),
            doomed: doom::Fate::default(),
            debug_line: IrqLock::new(Vec::with_capacity(DEBUG_LINE)),
            slat: IrqLock::new((slat, Store::default())),
            disks: disks.map(IrqLock::new),
            vifs,
            remotes,
            screen,
            state: AtomicU8::new(State::Paused as u8),
            retime: AtomicBool::new(false),
            reboots: AtomicUsize::new(0),
            overhead: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            button_due: AtomicU64::new(u64::MAX),
            snapshot,
            balloon: balloon::Balloon::new(),
            weight,
        }
    }

    /// Whether it runs.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Acquire)) & 3]
    }

    /// Changes whether it runs, and wakes its vCPUs to see it.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
        self.wake_all();
        if state == State::Stopping {
            console::want();
        }
    }

    /// From one state to another, unless it is in neither; true if it was in the first.
    pub fn change_state(&self, from: State, to: State) -> bool {
        let (from, to) = (from as u8, to as u8);
        let done = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        self.wake_all();
        done.is_ok()
    }

    fn wake_all(&self) {
        for vcpu in 0..self.slots.len() {
            self.kick(vcpu);
        }
    }

    /// Its vCPUs leave, and whoever looks after domains sees why.
    pub fn stop(&self, why: Why) {
        self.machine.request_stop(why);
        self.set_state(State::Stopping);
    }

    /// Serving it has panicked: it stops for good, and nobody touches its machine again.
    pub fn panicked(&self) {
        self.broken.store(true, Ordering::Release);
        self.set_state(State::Stopping);
    }

    /// Puts the computer and all vCPUs into their power-on state. Nobody runs them now. False where
    /// memory is short.
    pub fn power_on(&self) -> bool {
        for slot in &self.slots {
            let mut task = slot.task.lock();
            let Task { vcpu, cpu, fpu } = &mut *task;
            self.machine.reset_vcpu(cpu, vcpu);
            fpu.reset();
            slot.flush.store(true, Ordering::Release);
            slot.due.store(u64::MAX, Ordering::Release);
        }
        let ready = pv::stop(self) && self.machine.power_on(self);
        if ready {
            pv::start(self);
        }
        ready
    }

    /// What is behind a drive, by name; an empty text for nothing.
    fn behind(&self, slot: usize) -> String {
        let medium = self.disks.get(slot).map(IrqLock::lock);
        medium.as_deref().and_then(Option::as_ref).map(Medium::name).unwrap_or_default()
    }

    /// A completion of a host disk, in the words of [`cookie`].
    pub fn disk_completed(&self, completed: Cookie, good: bool) {
        let Cookie { disk, token, .. } = completed;
        if let Some(Some(medium)) =
            self.disks.get(usize::from(disk.0)).map(IrqLock::lock).as_deref_mut()
        {
            medium.completed(completed.to_bits());
        }
        if token.part == pv::TOKEN_PART {
            pv::disk_completed(self, disk.0, token.seq, good);
            return;
        }
        self.balloon.end_request(&self.frames);
        if self.broken.load(Ordering::Acquire) {
            return;
        }
        let result = if good { Ok(()) } else { Err(devmodel::blk::BlkError::Medium) };
        self.machine.disk_done(self, disk, token, result, None);
    }

    /// Changes the second-level table and has stale translations flushed. Tables that earlier changes took out are
    /// given back first if no CPU can still walk them.
    fn with_slat(
        &self,
        change: impl FnOnce(&mut Slat<B::Format>, &mut Store) -> Result<Flush, SlatError>,
    ) -> Result<(), SlatError> {
        let mut guard = self.slat.lock();
        let (slat, store) = &mut *guard;
        let stale = |slot: &Slot<B>| {
            slot.running.load(Ordering::Acquire) && slot.flush.load(Ordering::Acquire)
        };
        if store.waits() && !self.slots.iter().any(stale) {
            store.flushed();
        }
        // Under the lock: who comes next must see that the flush is still to be done.
        change(slat, store).map(|flush| self.flush_all(flush))
    }

    /// Waits until no other CPU is in this guest with translations from before the last flush was asked
    /// for. They were kicked, so they leave it now; a CPU that is not in the guest flushes before it enters.
    fn wait_for_flush(&self) {
        for slot in &self.slots {
            while slot.inside.load(Ordering::SeqCst) && slot.flush.load(Ordering::SeqCst) {
                core::hint::spin_loop();
            }
        }
    }

    fn flush_all(&self, flush: Flush) {
        if flush == Flush::No {
            return;
        }
        for (vcpu, slot) in self.slots.iter().enumerate() {
            slot.flush.store(true, Ordering::SeqCst);
            // All others look before they enter. A kick would end this turn, and wake who sleeps.
            if slot.inside.load(Ordering::SeqCst) {
                self.kick(vcpu);
            }
        }
    }
}

/// Longest debug-console line that is kept together.
const DEBUG_LINE: usize = 160;

/// A request of a guest as a host disk carries it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The guest's number.
    pub domain: usize,
    /// Its disk.
    pub disk: devmodel::blk::DiskId,
    /// The chip's token.
    pub token: devmodel::blk::Token,
}

impl Cookie {
    /// Packs into the 63 bits that `drivers::block` passes through.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        let Cookie { domain, disk, token } = self;
        u64::from(token.seq)
            | u64::from(token.part) << 32
            | u64::from(disk.0) << 40
            | (domain as u64 & 0xff) << 48
    }

    /// Unpacks.
    #[must_use]
    pub fn from_bits(bits: u64) -> Cookie {
        Cookie {
            domain: (bits >> 48 & 0xff) as usize,
            disk: devmodel::blk::DiskId((bits >> 40) as u8),
            token: devmodel::blk::Token { part: (bits >> 32) as u8, seq: bits as u32 },
        }
    }
}

impl<B: Backend> Host for Domain<B> {
    #[inline]
    fn tsc(&self) -> u64 {
        tsc::now()
    }

    fn kick(&self, vcpu: usize) {
        let Some(slot) = self.slots.get(vcpu) else { return };
        slot.called.store(true, Ordering::Release);
        slot.woken.store(true, Ordering::Release);
        let this = cpu::this();
        if slot.home != this.id {
            cpu::smp::kick(slot.home);
        } else if !slot.running.load(Ordering::Relaxed) {
            // The turn that goes on here ends soon (`sched::enter_and_leave`).
            this.ask(YIELD);
        }
    }

    fn notify(&self, vcpu: usize, first: bool) {
        let Some(slot) = self.slots.get(vcpu) else { return };
        if !slot.posts || slot.home == cpu::this().id {
            return self.kick(vcpu);
        }
        if !first {
            return;
        }
        slot.called.store(true, Ordering::Release);
        if wake::call(&slot.woken, &slot.running, || ()) {
            cpu::smp::notify(slot.home);
        } else {
            cpu::smp::kick(slot.home);
        }
    }

    fn output(&self, to: Output, byte: u8) {
        match to {
            Output::Com1 | Output::Com2 => {
                if self.console_port == Some(usize::from(to == Output::Com2)) {
                    console::console_out(self, byte);
                }
            }
            Output::Debug => {
                let mut line = self.debug_line.lock();
                if byte == b'\n' || line.len() == DEBUG_LINE {
                    let text = core::str::from_utf8(&line).unwrap_or("(not text)");
                    log::debug!("{}: {text}", self.name);
                    line.clear();
                }
                if !matches!(byte, b'\n' | b'\r') {
                    line.push(byte);
                }
            }
        }
    }

    fn map(&self, gpa: GuestPhys, bytes: u64, backing: Backing, perm: Perm) -> bool {
        let done = if let Backing::Foreign(owner, at) = backing {
            let Some(other) = sched::domain::<B>(owner.0.into()) else { return false };
            // It may be owed; where it was given back nothing is mapped.
            let _ = other.frames.provide(at);
            let range = Range { from: gpa, bytes };
            match other.frames.locate(at, bytes) {
                Some((Some(to), run)) if run == bytes => self
                    .with_slat(|slat, store| slat.map(store, range, to, perm, MemType::WriteBack)),
                Some((None, run)) if run == bytes => return true,
                _ => Err(SlatError::OutOfRange),
            }
        } else {
            let frames = &self.frames;
            self.with_slat(|slat, store| frames.map(slat, store, gpa, bytes, backing, perm))
        };
        match done {
            Ok(()) => true,
            Err(error) => {
                log::warn!("{}: cannot map {bytes:#x} bytes at {gpa}: {error:?}", self.name);
                false
            }
        }
    }

    fn unmap(&self, gpa: GuestPhys, bytes: u64) {
        match self.with_slat(|slat, store| slat.unmap(store, Range { from: gpa, bytes })) {
            Ok(()) => self.wait_for_flush(),
            Err(error) => log::error!("{}: cannot unmap {gpa}: {error:?}", self.name),
        }
    }

    fn release(&self, pages: &[GuestPhys]) -> bool {
        self.release_pages(pages)
    }

    fn populate(&self, pages: &[GuestPhys]) -> usize {
        self.populate_pages(pages)
    }

    fn back(&self, gpa: GuestPhys) -> Backed {
        self.back_page(gpa)
    }

    fn uncovered(&self) -> u64 {
        self.frames.demand().map_or(0, demand::Demand::uncovered)
    }

    fn owe_all(&self) -> Option<bool> {
        self.begin_anew()
    }

    fn disk(&self, request: &BlkRequest, data: DiskData<'_>) -> DiskAnswer {
        const EMPTY: DiskAnswer = DiskAnswer::Done(Err(devmodel::blk::BlkError::NoMedium));
        let Some(slot) = self.disks.get(usize::from(request.disk.0)) else { return EMPTY };
        let mut slot = slot.lock();
        let Some(medium) = &mut *slot else { return EMPTY };
        let cookie = Cookie { domain: self.id, disk: request.disk, token: request.token };
        // Back ends hold what they use by grants.
        let counts = request.token.part != pv::TOKEN_PART;
        if counts {
            self.balloon.begin_request();
        }
        let answer = medium.submit(&self.frames, request, data, cookie.to_bits());
        if counts && answer != DiskAnswer::Pending {
            self.balloon.end_request(&self.frames);
        }
        let failed = matches!(answer, DiskAnswer::Done(Err(devmodel::blk::BlkError::Medium)));
        if failed && medium.is_in_memory() && !self.starved.swap(true, Ordering::Relaxed) {
            log::error!(
                "{}: no memory is left for what it writes: its disks fail. Give the machine more",
                self.name
            );
        }
        answer
    }

    fn tray(&self, disk: u8, open: bool) {
        log::info!("{}: tray of drive {disk} {}", self.name, if open { "open" } else { "closed" });
    }

    fn set_xcr0(&self, value: u64) {
        fpu::set_xcr0(value);
    }

    fn send_frame(&self, nic: u8, frame: &[u8]) {
        if let Some(place) = self.place(nic) {
            net::send(place, frame);
        }
    }

    fn nic_has_room(&self, nic: u8) {
        if let Some(place) = self.place(nic) {
            net::has_room(place);
        }
    }

    fn unmap_of(&self, domain: DomId, gpa: GuestPhys) {
        if let Some(other) = sched::domain::<B>(domain.0.into()) {
            other.unmap(gpa, 4096);
        }
    }

    fn yield_turn(&self) {
        cpu::this().ask(YIELD);
    }

    fn flush(&self) {
        self.flush_all(Flush::Yes);
    }

    fn announce(&self, domain: DomId, vcpu: usize, upcall: bool) {
        let to = match usize::from(domain.0) == self.id {
            true => Some(self),
            false => sched::domain::<B>(domain.0.into()),
        };
        if let Some(to) = to {
            to.machine.announce(to, vcpu, upcall);
        }
    }

    fn doorbell(&self, port: Port) {
        pv::doorbell(self, port);
    }

    fn board_due_changed(&self) {
        self.retime.store(true, Ordering::Release);
        let this = cpu::this();
        match self.slots.first() {
            Some(first) if first.home != this.id => cpu::smp::kick(first.home),
            _ => this.ask(RETIME),
        }
    }
}
