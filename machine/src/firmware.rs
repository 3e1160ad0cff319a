//! This project's own firmware: the machine as the `bios` crate sees it, and the trap that calls it.

use crate::Machine;
use crate::cpu::Cpu;
use crate::disks::{BiosAnswer, BiosIo, BiosKey};
use crate::host::{DiskAnswer, DiskData, Host};
use arch::control::rflags::VM;
use arch::paging::Paging;
use arch::{Access, Fault, GuestPhys, GuestRam, GuestVirt, Nanos, Resume, SegReg, Vcpu, Why};
use bios::{
    BiosConfig, BiosDisk, Caller, DiskError, DiskInfo, DiskRequest, DiskStatus, Outcome, Platform,
};
use devmodel::blk::{BlkError, BlkOp, BlkRequest, DiskId, Place, Segment};

/// Runs of memory that one transfer may have; the firmware cuts longer ones.
const SEGMENTS: usize = 64;

/// The machine for one call.
struct Bus<'a, H: Host> {
    machine: &'a Machine,
    cpu: &'a mut Cpu,
    host: &'a H,
    paging: Paging,
}

impl<H: Host> Platform for Bus<'_, H> {
    fn ram(&self) -> GuestRam {
        self.machine.ram
    }

    fn translate(&mut self, linear: u32, write: bool) -> Option<GuestPhys> {
        // The firmware is the computer's, not the program's: it acts with supervisor rights.
        let access = if write { Access::WRITE } else { Access::READ };
        let found =
            self.paging.translate(&self.machine.ram, GuestVirt(linear.into()), access).ok()?;
        Some(self.machine.memmap.lock().wrap(found.gpa))
    }

    fn mem_read(&mut self, at: GuestPhys, width: u8) -> u32 {
        self.machine.read_phys(self.cpu, self.host, at, width) as u32
    }

    fn mem_write(&mut self, at: GuestPhys, width: u8, value: u32) {
        self.machine.write_phys(self.cpu, self.host, at, width, value.into());
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        self.machine.port_in(self.host, port, width, self.machine.now(self.host))
    }

    fn port_out(&mut self, port: u16, width: u8, value: u32) {
        self.machine.port_out(self.host, port, width, value, self.machine.now(self.host));
    }

    fn now(&self) -> Nanos {
        self.machine.now(self.host)
    }

    fn disk_count(&self) -> u8 {
        self.machine.drives.lock().count()
    }

    fn disk(&self, disk: BiosDisk) -> Option<DiskInfo> {
        self.machine.drives.lock().info(disk)
    }

    fn disk_io(&mut self, request: &DiskRequest<'_>) -> DiskStatus {
        let slot = self.machine.drives.lock().slot(request.disk);
        let Some(slot) = slot else {
            return DiskStatus::Error(DiskError::NoMedia);
        };
        let key = BiosKey {
            disk: slot,
            write: request.write,
            block: request.block,
            first: request.memory.first().map_or(0, |run| run.at.0),
            bytes: request.memory.iter().map(|run| u64::from(run.bytes)).sum(),
        };
        let mut io = self.machine.bios_io.lock();
        match io.find(&key) {
            BiosAnswer::Pending => DiskStatus::Pending,
            BiosAnswer::Ended(result) => status(result),
            BiosAnswer::New => start(&mut io, self.host, key, request),
        }
    }

    fn eject(&mut self, disk: BiosDisk) {
        let slot = self.machine.drives.lock().slot(disk);
        if let Some(slot) = slot {
            self.machine.eject(self.host, slot);
        }
    }

    fn config(&self) -> &BiosConfig {
        &self.machine.bios_config
    }
}

fn start<H: Host>(
    io: &mut BiosIo,
    host: &H,
    key: BiosKey,
    request: &DiskRequest<'_>,
) -> DiskStatus {
    let mut segments = [Segment::default(); SEGMENTS];
    let Some(used) = segments.get_mut(..request.memory.len()) else {
        return DiskStatus::Error(DiskError::Medium);
    };
    for (segment, run) in used.iter_mut().zip(request.memory) {
        *segment = Segment { address: run.at.0, len: run.bytes };
    }
    let token = io.token();
    let blk = BlkRequest {
        token,
        disk: DiskId(key.disk),
        op: if request.write { BlkOp::Write } else { BlkOp::Read },
        lba: request.block,
        sectors: (key.bytes / bios::BLOCK) as u32,
        place: Place::Guest,
    };
    match host.disk(&blk, DiskData::Guest(used)) {
        DiskAnswer::Done(result) => status(result),
        DiskAnswer::Pending => {
            io.wait(key, token);
            DiskStatus::Pending
        }
    }
}

fn status(result: Result<(), BlkError>) -> DiskStatus {
    match result {
        Ok(()) => DiskStatus::Done,
        Err(BlkError::NoMedium) => DiskStatus::Error(DiskError::NoMedia),
        Err(BlkError::ReadOnly) => DiskStatus::Error(DiskError::WriteProtected),
        Err(BlkError::Range) => DiskStatus::Error(DiskError::OutOfRange),
        Err(BlkError::Medium | BlkError::Dma) => DiskStatus::Error(DiskError::Medium),
    }
}

impl Machine {
    /// An OUT to the firmware's trap port.
    pub(crate) fn bios_call<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
    ) -> Resume {
        if !self.own_firmware {
            return Resume::Next;
        }
        let mut caller = Caller {
            gprs: *vcpu.gprs(),
            rip: vcpu.rip(),
            rflags: vcpu.rflags(),
            cs: vcpu.segment(SegReg::Cs),
            ss: vcpu.segment(SegReg::Ss),
            ds: vcpu.segment(SegReg::Ds),
            es: vcpu.segment(SegReg::Es),
        };
        let es = caller.es;
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let mut bus = Bus { machine: self, cpu, host, paging };
        let outcome = self.bios.lock().call(&mut caller, &mut bus);
        match outcome {
            Outcome::Done => {
                *vcpu.gprs_mut() = caller.gprs;
                vcpu.set_rflags(caller.rflags);
                if caller.es != es {
                    vcpu.set_segment(SegReg::Es, caller.es);
                }
                match self.stop_request() {
                    None => Resume::Next,
                    Some(why) => Resume::Stop(why),
                }
            }
            Outcome::Wait => {
                vcpu.set_rflags(caller.rflags);
                Resume::Wait
            }
            Outcome::PageFault { linear, write } => {
                // SDM 3A "Page-Fault Exceptions": W/R, and U/S for a program in V86 mode.
                let user = if caller.rflags & VM != 0 { 4 } else { 0 };
                let code = if write { 2 } else { 0 } | user;
                Resume::Raise(Fault::page(linear.into(), code))
            }
            Outcome::PowerOff => Resume::Stop(Why::PowerOff),
            Outcome::Reset => Resume::Stop(Why::Reset),
            Outcome::NotRom => Resume::Next,
        }
    }

    /// Whether the firmware's transfer has ended, so that a vCPU that waits for it may go on.
    pub(crate) fn disk_ready(&self) -> bool {
        !self.bios_io.lock().is_pending()
    }
}
