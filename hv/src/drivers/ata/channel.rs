//! One channel: two drives that share registers and an interrupt, so one command at a time.
//! Requests wait in a queue; the interrupt handler ends one and starts the next.

// UNSAFETY: port I/O, and data moved between ports and the submitter's memory.

use alloc::boxed::Box;

use heapless::Deque;

use super::command::{self, Drive, PRD_END, TaskFile};
use super::{AtaDisk, Irq, Wiring};
use crate::cpu::lock::IrqLock;
use crate::cpu::{ioapic, tsc};
use crate::drivers::block::{self, Disk, Info, Op, Request, SECTOR, Status, SubmitError};
use crate::mem::layout::PAGE;
use crate::mem::{Phys, frames, phys_to_virt};

const ERR: u8 = 1;
const DRQ: u8 = 8;
const DF: u8 = 0x20;
const DRDY: u8 = 0x40;
const BSY: u8 = 0x80;
const CD_SECTOR: u32 = 2048;
/// Requests that wait.
const WAITING: usize = 64;
/// What the drive may take for one step that is polled.
const STEP_NS: u64 = 50_000_000;
const PRDS: usize = (PAGE / 8) as usize;

struct Job {
    disk: &'static AtaDisk,
    request: Request,
}

struct Active {
    job: Job,
    dma: bool,
    /// Bytes that PIO has moved.
    moved: u64,
}

struct State {
    queue: Deque<Job, WAITING>,
    active: Option<Active>,
}

/// A channel.
pub(super) struct Channel {
    wiring: Wiring,
    prds: Phys,
    state: IrqLock<State>,
}

/// How a step of a request ended.
enum Step {
    Wait,
    End(Status),
}

/// Looks for drives and opens the channel for requests.
pub(super) fn start(wiring: Wiring) {
    // SAFETY: reading the status of a channel that is ours; FFh means nothing is there.
    if unsafe { x86::io::inb(wiring.ports + 7) } == 0xff {
        return;
    }
    let Some(prds) = frames::alloc_zeroed_low() else { return };
    let state = State { queue: Deque::new(), active: None };
    let channel: &'static Channel =
        Box::leak(Box::new(Channel { wiring, prds, state: IrqLock::new(state) }));
    // nIEN: no interrupts while we poll.
    channel.set_control(2);
    for unit in 0..2 {
        if let Some(drive) = channel.identify(unit) {
            channel.add(unit, drive);
        }
    }
    let argument = core::ptr::from_ref(channel).expose_provenance();
    let routed = match wiring.irq {
        Irq::Isa(line) => ioapic::route_isa(line, interrupt, argument),
        Irq::Pci(line) => ioapic::route_pci(line, interrupt, argument),
    };
    if let Err(error) = routed {
        log::error!("the ATA channel at {:#x} has no interrupt: {error:?}", wiring.ports);
    }
    channel.status();
    channel.set_control(0);
}

fn interrupt(argument: usize) {
    // SAFETY: the channel that `start` leaked and registered.
    let channel = unsafe { &*core::ptr::with_exposed_provenance::<Channel>(argument) };
    channel.on_interrupt();
}

impl Channel {
    fn add(&'static self, unit: u8, drive: Drive) {
        let sectors = if drive.packet { self.capacity(unit) } else { drive.sectors };
        let name = if unit == 0 { "master" } else { "slave" };
        let place = alloc::format!("ata {:x}h {name}", self.wiring.ports);
        let info = Info {
            sectors,
            sector_bytes: if drive.packet { CD_SECTOR } else { SECTOR as u32 },
            max_sectors: if drive.lba48 || drive.packet { 1 << 15 } else { 256 },
            read_only: drive.packet,
            optical: drive.packet,
            place: Box::leak(place.into_boxed_str()),
        };
        let number = block::count();
        let disk = Box::leak(Box::new(AtaDisk { channel: self, number, unit, drive, info }));
        if block::add(Disk::Ata(disk)).is_none() {
            log::warn!("{}: left out, there are too many disks", info.place);
        }
    }

    pub(super) fn submit(
        &self,
        disk: &'static AtaDisk,
        request: &Request,
    ) -> Result<(), SubmitError> {
        if request.op == Op::Flush && !disk.drive.flush {
            block::complete(disk.number, request.cookie, Status::Done);
            return Ok(());
        }
        let ended = {
            let mut state = self.state.lock();
            let job = Job { disk, request: request.clone() };
            state.queue.push_back(job).map_err(|_| SubmitError::Full)?;
            if state.active.is_some() { None } else { self.start_next(&mut state) }
        };
        self.report(ended);
        Ok(())
    }

    /// Completes without the lock, and goes on while requests fail at once.
    fn report(&self, mut ended: Option<(usize, u64, Status)>) {
        // Bounded: each turn takes one request off the queue.
        while let Some((disk, cookie, status)) = ended {
            block::complete(disk, cookie, status);
            let mut state = self.state.lock();
            ended = if state.active.is_some() { None } else { self.start_next(&mut state) };
        }
    }

    /// Starts the oldest request; what ended at once.
    fn start_next(&self, state: &mut State) -> Option<(usize, u64, Status)> {
        let job = state.queue.pop_front()?;
        let dma = job.request.op != Op::Flush && self.prepare_dma(&job);
        let mut active = Active { job, dma, moved: 0 };
        match self.begin(&mut active) {
            Step::Wait => {
                state.active = Some(active);
                None
            }
            Step::End(status) => Some((active.job.disk.number, active.job.request.cookie, status)),
        }
    }

    fn on_interrupt(&self) {
        let ended = {
            let mut state = self.state.lock();
            let Some(active) = state.active.as_mut() else {
                // Reading the status acknowledges an interrupt that nobody waits for.
                self.status();
                return;
            };
            if active.dma && self.bus_master_status() & 4 == 0 {
                return;
            }
            match self.step(active) {
                Step::Wait => return,
                Step::End(status) => {
                    let ended = (active.job.disk.number, active.job.request.cookie, status);
                    state.active = None;
                    // The next one starts before the hook runs: the drive does not wait for it.
                    let failed = self.start_next(&mut state);
                    (ended, failed)
                }
            }
        };
        block::complete(ended.0.0, ended.0.1, ended.0.2);
        self.report(ended.1);
    }

    /// Fills the descriptor table; false where the request must go by PIO.
    fn prepare_dma(&self, job: &Job) -> bool {
        if self.wiring.bus_master == 0 || !job.disk.drive.dma {
            return false;
        }
        let table = phys_to_virt(self.prds).cast::<u64>();
        let mut count = 0;
        let fits = job.request.segments.iter().all(|s| {
            command::describe(s.start.0, s.bytes, |prd| {
                if count == PRDS {
                    return false;
                }
                // SAFETY: our own page, below its end; the bus master is stopped.
                unsafe { table.add(count).write_volatile(prd.0) };
                count += 1;
                true
            })
        });
        if !fits || count == 0 {
            return false;
        }
        // SAFETY: as above; the entry was just written.
        unsafe {
            table.add(count - 1).write_volatile(table.add(count - 1).read_volatile() | PRD_END)
        };
        true
    }

    /// PIIX3 "Bus Master IDE": table, direction, and the status bits cleared by writing 1.
    fn program_dma(&self, op: Op) {
        let port = self.wiring.bus_master;
        let direction = if op == Op::Read { 8 } else { 0 };
        // SAFETY: the bus master's registers; the table was filled by `prepare_dma`.
        unsafe {
            x86::io::outb(port, 0);
            x86::io::outl(port + 4, self.prds.0 as u32);
            x86::io::outb(port + 2, x86::io::inb(port + 2) | 6);
            x86::io::outb(port, direction);
        }
    }

    fn run_dma(&self, op: Op) {
        let direction = if op == Op::Read { 8 } else { 0 };
        // SAFETY: as above.
        unsafe { x86::io::outb(self.wiring.bus_master, direction | 1) };
    }

    /// Sends the command of a new request.
    fn begin(&self, active: &mut Active) -> Step {
        let (disk, op, dma) = (active.job.disk, active.job.request.op, active.dma);
        if !self.select(disk.unit) {
            return Step::End(Status::Failed);
        }
        if dma {
            self.program_dma(op);
        }
        let sectors = (active.job.request.bytes() / SECTOR) as u32;
        if disk.drive.packet {
            let per = CD_SECTOR / SECTOR as u32;
            let first = (active.job.request.sector / u64::from(per)) as u32;
            if !self.send_packet(&command::read_packet(first, sectors / per), dma) {
                return Step::End(Status::Failed);
            }
        } else {
            let sector = if op == Op::Flush { 0 } else { active.job.request.sector };
            self.send(&command::task_file(&disk.drive, op, dma, sector, sectors), disk.unit);
        }
        if dma {
            self.run_dma(op);
        } else if op == Op::Write {
            // The first block of a PIO write is asked for without an interrupt.
            if !self.wait(DRQ) {
                return Step::End(Status::Failed);
            }
            self.move_block(active, SECTOR);
        }
        Step::Wait
    }

    /// What the drive's interrupt means for the request.
    fn step(&self, active: &mut Active) -> Step {
        if active.dma {
            let port = self.wiring.bus_master;
            // SAFETY: stops the bus master and clears its status, then the drive's.
            let bus = unsafe {
                let bus = x86::io::inb(port + 2);
                x86::io::outb(port, 0);
                x86::io::outb(port + 2, bus | 6);
                bus
            };
            let failed = self.status() & (ERR | DF | BSY) != 0 || bus & 2 != 0;
            return Step::End(if failed { Status::Failed } else { Status::Done });
        }
        let status = self.status();
        if status & BSY != 0 {
            return Step::Wait;
        }
        if status & (ERR | DF) != 0 {
            return Step::End(Status::Failed);
        }
        let (op, packet) = (active.job.request.op, active.job.disk.drive.packet);
        let total = active.job.request.bytes();
        if status & DRQ == 0 {
            return Step::End(if active.moved >= total { Status::Done } else { Status::Failed });
        }
        let bytes = if packet { u64::from(self.byte_count()) } else { SECTOR };
        self.move_block(active, bytes);
        // An ATA read ends with its last block; all else has a last interrupt without data.
        if op == Op::Read && !packet && active.moved >= total {
            return Step::End(Status::Done);
        }
        Step::Wait
    }

    /// Moves the next `bytes` between the data port and the request's memory; what is beyond the
    /// request is read away.
    fn move_block(&self, active: &mut Active, bytes: u64) {
        let port = self.wiring.ports;
        for _ in 0..bytes / 2 {
            let at = locate(&active.job.request, active.moved);
            let pointer = at.map(|at| phys_to_virt(at).cast::<u16>());
            // SAFETY: the data port of the active command; the memory is RAM that the submitter
            // keeps, even addresses and lengths were checked.
            unsafe {
                match (active.job.request.op, pointer) {
                    (Op::Write, Some(p)) => x86::io::outw(port, p.read_volatile()),
                    (Op::Write, None) => x86::io::outw(port, 0),
                    (_, Some(p)) => p.write_volatile(x86::io::inw(port)),
                    (_, None) => drop(x86::io::inw(port)),
                }
            }
            active.moved += 2;
        }
    }

    fn send(&self, task: &TaskFile, unit: u8) {
        let port = self.wiring.ports;
        let registers = |values: [u8; 4]| {
            for (i, value) in (2..).zip(values) {
                // SAFETY: count and address registers of a channel that is ours and idle.
                unsafe { x86::io::outb(port + i, value) };
            }
        };
        // SAFETY: as above: the device register, then the command.
        unsafe { x86::io::outb(port + 6, task.device | unit << 4) };
        if let Some(previous) = task.previous {
            registers(previous);
        }
        registers(task.current);
        // SAFETY: as above.
        unsafe { x86::io::outb(port + 7, task.command) };
    }

    /// PACKET and its 12 bytes. The drive is selected.
    fn send_packet(&self, packet: &[u8; 12], dma: bool) -> bool {
        let port = self.wiring.ports;
        // SAFETY: registers of a channel that is ours and idle: features, byte count, command.
        unsafe {
            x86::io::outb(port + 1, dma.into());
            x86::io::outb(port + 4, 0xfe);
            x86::io::outb(port + 5, 0xff);
            x86::io::outb(port + 7, 0xa0);
        }
        if !self.wait(DRQ) {
            return false;
        }
        for pair in packet.chunks_exact(2) {
            // SAFETY: the drive waits for the packet.
            unsafe { x86::io::outw(port, u16::from_le_bytes([pair[0], pair[1]])) };
        }
        true
    }

    fn byte_count(&self) -> u16 {
        // SAFETY: reading registers of our channel.
        unsafe {
            u16::from_le_bytes([
                x86::io::inb(self.wiring.ports + 4),
                x86::io::inb(self.wiring.ports + 5),
            ])
        }
    }

    /// Selects a drive and waits until it is idle; false where it is not there.
    fn select(&self, unit: u8) -> bool {
        // SAFETY: the device register of our channel.
        unsafe { x86::io::outb(self.wiring.ports + 6, 0xa0 | unit << 4) };
        // ATA/ATAPI-6: the status is valid 400 ns after selection, four reads.
        for _ in 0..4 {
            self.alternate_status();
        }
        self.wait(0)
    }

    /// Waits until the drive is not busy and `bits` are set; false after an error or too long.
    fn wait(&self, bits: u8) -> bool {
        let end = tsc::now() + tsc::from_ns(STEP_NS);
        loop {
            let status = self.alternate_status();
            if status & BSY == 0 {
                if status & bits == bits {
                    return true;
                }
                if status & ERR != 0 {
                    return false;
                }
            }
            if tsc::now() > end {
                return false;
            }
            core::hint::spin_loop();
        }
    }

    fn status(&self) -> u8 {
        // SAFETY: reading the status acknowledges the interrupt, which is meant.
        unsafe { x86::io::inb(self.wiring.ports + 7) }
    }

    fn alternate_status(&self) -> u8 {
        // SAFETY: no side effect.
        unsafe { x86::io::inb(self.wiring.control) }
    }

    fn bus_master_status(&self) -> u8 {
        // SAFETY: no side effect.
        unsafe { x86::io::inb(self.wiring.bus_master + 2) }
    }

    fn set_control(&self, value: u8) {
        // SAFETY: device control of our channel.
        unsafe { x86::io::outb(self.wiring.control, value) }
    }

    /// IDENTIFY, or IDENTIFY PACKET where the drive shows the packet signature. Polled.
    fn identify(&self, unit: u8) -> Option<Drive> {
        if !self.select(unit) {
            return None;
        }
        for (command, packet) in [(0xec, false), (0xa1, true)] {
            let identify = TaskFile { previous: None, current: [0; 4], device: 0xa0, command };
            self.send(&identify, unit);
            let status = self.alternate_status();
            if status == 0 || status == 0xff {
                return None;
            }
            if self.wait(DRQ) {
                let mut words = [0; 256];
                self.read_words(&mut words);
                self.wait(DRDY);
                return Some(command::identify(&words, packet));
            }
        }
        None
    }

    /// A CD's size in 512-byte sectors; 0 without a medium. Polled.
    fn capacity(&self, unit: u8) -> u64 {
        for _ in 0..5 {
            if !self.select(unit) {
                return 0;
            }
            if self.send_packet(&command::CAPACITY_PACKET, false) && self.wait(DRQ) {
                let mut answer = [0; 4];
                self.read_words(&mut answer);
                let word = |i: usize| u64::from(answer[i].swap_bytes());
                let (last, bytes) = (word(0) << 16 | word(1), word(2) << 16 | word(3));
                return (last + 1) * bytes / SECTOR;
            }
            // A unit attention after power-on; sense takes it away.
            if self.select(unit)
                && self.send_packet(&command::SENSE_PACKET, false)
                && self.wait(DRQ)
            {
                let words = usize::from(self.byte_count() / 2).min(32);
                self.read_words(&mut [0; 32][..words]);
            }
        }
        0
    }

    fn read_words(&self, words: &mut [u16]) {
        for word in words {
            // SAFETY: the drive offers data.
            *word = unsafe { x86::io::inw(self.wiring.ports) };
        }
    }
}

/// The memory at byte `offset` of a request.
fn locate(request: &Request, offset: u64) -> Option<Phys> {
    let mut left = offset;
    for segment in &request.segments {
        if left < u64::from(segment.bytes) {
            return segment.start.checked_add(left);
        }
        left -= u64::from(segment.bytes);
    }
    None
}
