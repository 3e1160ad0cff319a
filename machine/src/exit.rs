//! THE exit match: from why a guest stopped to the verb that serves it, one line an arm.

use crate::cpu::{Activity, Cpu};
use crate::host::{Backed, Host};
use crate::insn::exec::{cpl, linear};
use crate::memmap::Region;
use crate::{Machine, reset};
use arch::control::rflags;
use arch::event::vector;
use arch::exit::NestedFault;
use arch::paging::Paging;
use arch::{Access, Event, EventKind, Exit, Fault, Gpr, Perm, Resume, SegReg, SysReg, Vcpu, Why};

/// DR6: single step.
const DR6_BS: u64 = 1 << 14;

/// Counters by [`Exit::kind`], and those beside it for what a second-level fault or OUT was for.
mod kind {
    use arch::Exit;

    pub const CPUID: usize = Exit::Cpuid.kind();
    pub const IN: usize = Exit::In { port: 0, width: 0 }.kind();
    pub const OUT: usize = Exit::Out { port: 0, width: 0 }.kind();
    pub const HYPERCALL: usize = Exit::Hypercall.kind();
    pub const MMIO: usize = 38;
    pub const LAZY_RAM: usize = 39;
    pub const HOLE: usize = 40;
    pub const LAPIC_MMIO: usize = 41;
    pub const BIOS_CALL: usize = 42;
}

impl Machine {
    /// Serves an exit and prepares the registers for going on. `Some`: the guest stops.
    pub fn on_exit<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        exit: &Exit,
    ) -> Option<Why> {
        self.serve(cpu, vcpu, host, *exit, host.tsc());
        cpu.ended()
    }

    /// As [`Machine::on_exit`], at the host's TSC `start`. Where the guest stops, [`Cpu::is_calm`] says that there is
    /// something to look at, and [`Cpu::ended`] why.
    ///
    /// Those that come most are served here, so that they pay nothing for the others. In the loop around the guest,
    /// `exit` is what [`Vcpu::exit`] has just said: with nothing between, the compiler makes one jump of its match and
    /// this one.
    #[inline(always)]
    pub fn serve<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        exit: Exit,
        start: u64,
    ) {
        match exit {
            Exit::Cpuid => {
                cpu.stats.record(Exit::Cpuid, kind::CPUID, vcpu.rip(), start);
                self.cpuid(cpu, vcpu);
                self.pass(cpu, vcpu, Exit::Cpuid);
                cpu.stats.spent(kind::CPUID, host.tsc().wrapping_sub(start));
            }
            Exit::In { port, width } => {
                cpu.stats.record(Exit::In { port, width }, kind::IN, vcpu.rip(), start);
                let value = self.port_in(host, port, width, self.clock.nanos(start));
                vcpu.gprs_mut().set_width(Gpr::Rax, width, value.into());
                self.pass_io(cpu, vcpu, Exit::In { port, width });
                cpu.stats.spent(kind::IN, host.tsc().wrapping_sub(start));
            }
            Exit::Out { port, width } if port != bios::TRAP_PORT => {
                cpu.stats.record(Exit::Out { port, width }, kind::OUT, vcpu.rip(), start);
                let value = vcpu.gprs().rax() as u32;
                self.port_out(host, port, width, value, self.clock.nanos(start));
                self.pass_io(cpu, vcpu, Exit::Out { port, width });
                cpu.stats.spent(kind::OUT, host.tsc().wrapping_sub(start));
            }
            Exit::Hypercall => {
                cpu.stats.record(Exit::Hypercall, kind::HYPERCALL, vcpu.rip(), start);
                if self.tell_version_at_once(vcpu) || self.hypercall(cpu, vcpu, host) {
                    self.pass(cpu, vcpu, Exit::Hypercall);
                }
                cpu.stats.spent(kind::HYPERCALL, host.tsc().wrapping_sub(start));
            }
            Exit::NestedFault(ref fault) => self.on_fault(cpu, vcpu, host, fault, start),
            _ => self.on_other_exit(cpu, vcpu, host, &exit, start),
        }
    }

    /// Serves a second-level fault. `region` is `None` for the local APIC.
    #[inline(never)]
    fn on_fault<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        fault: &NestedFault,
        start: u64,
    ) {
        let region =
            (fault.gpa.0 >> 12 != cpu.lapic_page).then(|| self.memmap.lock().find(fault.gpa));
        let kind = match region {
            None => kind::LAPIC_MMIO,
            Some(Region::Mmio(..)) => kind::MMIO,
            Some(Region::Hole) => kind::HOLE,
            Some(_) => kind::LAZY_RAM,
        };
        cpu.stats.record(Exit::NestedFault(*fault), kind, vcpu.rip(), start);
        if region.is_none() {
            self.take_apic(cpu, vcpu);
        }
        let stop = if let Some(len) = self.plain_move(cpu, vcpu, host, fault, region) {
            self.skip(vcpu, len);
            self.stop_request()
        } else {
            let resume = match region {
                None => self.lapic_mmio(cpu, vcpu, host),
                Some(region) => self.nested_fault(cpu, vcpu, host, *fault, region),
            };
            self.finish(cpu, vcpu, resume)
        };
        cpu.stats.spent(kind, host.tsc().wrapping_sub(start));
        if let Some(why) = stop {
            cpu.end(why);
        }
    }

    #[inline(never)]
    fn on_other_exit<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        exit: &Exit,
        start: u64,
    ) {
        let kind = match exit {
            Exit::Out { .. } => kind::BIOS_CALL,
            _ => exit.kind(),
        };
        cpu.stats.record(*exit, kind, vcpu.rip(), start);
        let resume = self.dispatch(cpu, vcpu, host, *exit);
        self.conclude(cpu, vcpu, resume);
        cpu.stats.spent(kind, host.tsc().wrapping_sub(start));
    }

    /// Moves RIP as the handler said.
    #[inline]
    pub(crate) fn conclude<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, resume: Resume) {
        if let Some(why) = self.finish(cpu, vcpu, resume) {
            cpu.end(why);
        }
    }

    /// Moves RIP over an instruction of the kinds that come most.
    #[inline(always)]
    fn pass<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, exit: Exit) {
        if let Some(rip) = vcpu.next_rip_of(exit) {
            vcpu.set_rip(rip);
            return trap_single_step(vcpu);
        }
        if let Exit::Cpuid = exit {
            let base = vcpu.segment(SegReg::Cs).base;
            if let Some(len) = cpu.cache.len(vcpu.rip(), vcpu.reg(SysReg::Cr3), base) {
                return self.skip(vcpu, len);
            }
        }
        self.conclude(cpu, vcpu, Resume::Next);
    }

    /// As [`Machine::pass`], after a port access, which may have asked for a reset or power-off.
    #[inline(always)]
    fn pass_io<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, exit: Exit) {
        match self.stop_request() {
            None => self.pass(cpu, vcpu, exit),
            Some(why) => cpu.end(why),
        }
    }

    #[inline(always)]
    fn dispatch<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        exit: Exit,
    ) -> Resume {
        match exit {
            // `serve` has served them.
            Exit::Cpuid | Exit::In { .. } | Exit::NestedFault(_) | Exit::Hypercall => {
                Resume::Stop(Why::Unhandled(exit.kind() as u64))
            }
            Exit::Out { .. } => self.bios_call(cpu, vcpu, host),
            Exit::Rdmsr => self.rdmsr(cpu, vcpu, host),
            Exit::Wrmsr => self.wrmsr(cpu, vcpu, host),
            Exit::Hlt => self.halt(cpu, vcpu),
            Exit::InterruptWindow | Exit::NmiWindow | Exit::TprBelowThreshold => look_again(cpu),
            Exit::HostInterrupt | Exit::HostNmi | Exit::PreemptionTimer => look_again(cpu),
            Exit::StringIo(_) => self.emulate_io(cpu, vcpu, host),
            Exit::Cr(access) => self.cr_access(cpu, vcpu, host, access),
            Exit::Dr => self.dr_access(cpu, vcpu),
            Exit::Eoi(vector) => self.eoi_virtualized(cpu, host, vector),
            Exit::ApicAccess { .. } => self.lapic_mmio(cpu, vcpu, host),
            Exit::ApicWrite { offset } => self.apic_written(cpu, vcpu, host, offset),
            Exit::Pause | Exit::Wbinvd | Exit::Invd | Exit::Mwait | Exit::Monitor => Resume::Next,
            Exit::Xsetbv => self.xsetbv(vcpu, host),
            Exit::Rdtsc => self.rdtsc(vcpu, host),
            Exit::Rdpmc => Resume::Raise(Fault::GP0),
            Exit::Rdtscp | Exit::Invlpg => Resume::Raise(Fault::UD),
            Exit::Undefined => Resume::Raise(Fault::UD),
            Exit::Exception { vector, error_code, qualification } => {
                reflect(vector, error_code, qualification)
            }
            Exit::TaskSwitch { .. } => self.task_switch(cpu, vcpu, host, exit),
            Exit::TripleFault => Resume::Stop(Why::TripleFault),
            Exit::Init | Exit::MonitorTrap => Resume::Again,
            Exit::Other { code, .. } => Resume::Stop(Why::Unhandled(code)),
            Exit::BadState { code } => Resume::Stop(Why::BadState(code)),
        }
    }

    /// Moves RIP as the handler said.
    #[inline(never)]
    fn finish<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, resume: Resume) -> Option<Why> {
        match resume {
            Resume::Again => None,
            Resume::Next => self.next(cpu, vcpu),
            Resume::Skip(len) => {
                self.skip(vcpu, len);
                None
            }
            Resume::Raise(fault) => raise(vcpu, fault),
            Resume::Park => {
                let stop = self.next(cpu, vcpu);
                cpu.activity = Activity::Halted;
                cpu.attention = true;
                stop
            }
            Resume::Wait => {
                cpu.activity = Activity::WaitForDisk;
                cpu.attention = true;
                None
            }
            Resume::Stop(why) => Some(why),
        }
    }

    #[inline(always)]
    fn next<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) -> Option<Why> {
        if let Some(rip) = vcpu.next_rip() {
            vcpu.set_rip(rip);
            trap_single_step(vcpu);
            return None;
        }
        let base = vcpu.segment(SegReg::Cs).base;
        if let Some(len) = cpu.cache.len(vcpu.rip(), vcpu.reg(SysReg::Cr3), base) {
            self.skip(vcpu, len);
            return None;
        }
        self.next_unknown(cpu, vcpu)
    }

    /// As [`Machine::next`], over an instruction whose length is not known yet.
    #[cold]
    #[inline(never)]
    fn next_unknown<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) -> Option<Why> {
        // A fault would take the place of an event that the call has brought.
        cpu.attention = true;
        match self.fetch(cpu, vcpu) {
            Ok(insn) => {
                self.skip(vcpu, insn.len);
                None
            }
            Err(Resume::Raise(fault)) => raise(vcpu, fault),
            Err(_) => Some(Why::Unhandled(0xf)),
        }
    }

    /// Moves RIP behind an instruction of `len` bytes that was done on the CPU's behalf.
    #[inline]
    pub(crate) fn skip<V: Vcpu>(&self, vcpu: &mut V, len: u8) {
        let rip = vcpu.rip();
        let next = rip.wrapping_add(len.into());
        // Without a carry out of the low 16 bits RIP is in range still, however wide the code is.
        let carries = (next ^ rip) >> 16 != 0;
        vcpu.set_rip(if carries { wrap(vcpu, next) } else { next });
        trap_single_step(vcpu);
    }

    #[inline(always)]
    fn cpuid<V: Vcpu>(&self, cpu: &Cpu, vcpu: &mut V) {
        match self.cpuid.plain(vcpu.gprs().rax() as u32) {
            Some(regs) => set_cpuid(vcpu, regs),
            None => self.cpuid_of(cpu, vcpu),
        }
    }

    /// CPUID where ECX or the vCPU's state shows in it.
    #[inline(never)]
    fn cpuid_of<V: Vcpu>(&self, cpu: &Cpu, vcpu: &mut V) {
        let (leaf, subleaf) = (vcpu.gprs().rax() as u32, vcpu.gprs().rcx() as u32);
        let state = crate::cpuid::Dynamic {
            apic_id: cpu.id as u32,
            cr4: vcpu.reg(SysReg::Cr4),
            apic_enabled: cpu.lapic.base() & 1 << 11 != 0,
            apic_kept: vcpu.apic().is_some(),
        };
        set_cpuid(vcpu, &self.cpuid.get(leaf, subleaf, state));
    }

    /// HLT. A vCPU of a PVH guest that halts with interrupts closed switches itself off, and the last one the guest, as
    /// in Xen ("hvm_hlt"): Linux powers off that way, where there is no power management to ask.
    #[inline]
    fn halt<V: Vcpu>(&self, cpu: &Cpu, vcpu: &V) -> Resume {
        if self.is_pvh()
            && vcpu.rflags() & rflags::IF == 0
            && cpu.nmis == 0
            && self.xen.as_ref().is_some_and(|xen| xen.set_down(cpu.id))
        {
            return Resume::Stop(Why::PowerOff);
        }
        Resume::Park
    }

    fn rdmsr<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> Resume {
        let msr = vcpu.gprs().rcx() as u32;
        // Priorities, vectors in service and requests.
        if matches!(msr, 0x808 | 0x80a | 0x810..=0x827 | 0x4000_0072) {
            self.take_apic(cpu, vcpu);
            self.take_tpr(cpu, vcpu);
        }
        match self.read_msr(cpu, vcpu, host, msr) {
            Ok(value) => {
                vcpu.gprs_mut().set_rax(value & 0xffff_ffff);
                vcpu.gprs_mut().set_rdx(value >> 32);
                Resume::Next
            }
            Err(fault) => Resume::Raise(fault),
        }
    }

    fn wrmsr<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> Resume {
        let gprs = vcpu.gprs();
        let value = gprs.rax() & 0xffff_ffff | gprs.rdx() << 32;
        let msr = gprs.rcx() as u32;
        if matches!(msr, 0x1b | 0x800..=0x83f) {
            self.take_apic(cpu, vcpu);
        }
        match self.write_msr(cpu, vcpu, host, msr, value) {
            Ok(()) => {
                if msr == 0x808 {
                    self.sync_tpr(cpu, vcpu);
                }
                Resume::Next
            }
            Err(fault) => Resume::Raise(fault),
        }
    }

    fn rdtsc<V: Vcpu, H: Host>(&self, vcpu: &mut V, host: &H) -> Resume {
        let tsc = host.tsc().wrapping_add(vcpu.reg(SysReg::TscOffset));
        vcpu.gprs_mut().set_rax(tsc & 0xffff_ffff);
        vcpu.gprs_mut().set_rdx(tsc >> 32);
        Resume::Next
    }

    fn nested_fault<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        fault: NestedFault,
        region: Region,
    ) -> Resume {
        let gone = region == Region::Ram && self.holes.is_absent(fault.gpa);
        let region = if gone { Region::Hole } else { region };
        let backed = if region == Region::Ram { host.back(fault.gpa) } else { Backed::Yes };
        match region {
            Region::Ram if backed == Backed::Never => Resume::Stop(Why::Unhandled(fault.gpa.0)),
            Region::Ram if backed == Backed::Later => Resume::Again,
            Region::Ram if self.fill(host, fault.gpa, Perm::RWX) => Resume::Again,
            // Where second-level tables keep accessed bits, walking a guest's tables counts as
            // writing them (SDM 3C "Accessed and Dirty Flags for EPT", APM2 15.25.5).
            Region::Shadow
                if fault.access.contains(Access::WALK) && self.fill(host, fault.gpa, Perm::RWX) =>
            {
                Resume::Again
            }
            Region::Shadow
                if !fault.access.contains(Access::WRITE)
                    && self.fill(host, fault.gpa, Perm::RX) =>
            {
                Resume::Again
            }
            Region::Mmio(..) | Region::Hole if fault.access.contains(Access::EXEC) => {
                log::error!("vcpu {}: jumped to {}, where nothing is", cpu.id, fault.gpa);
                Resume::Stop(Why::Unhandled(fault.gpa.0))
            }
            _ if fault.access.contains(Access::WALK) => self.bad_tables(cpu, vcpu, region, fault),
            _ if vcpu.pending_event().is_some() => {
                // A stack or table in a device: what touched it is no instruction.
                log::error!("vcpu {}: an event's delivery touched {}", cpu.id, fault.gpa);
                Resume::Stop(Why::Unhandled(fault.gpa.0))
            }
            _ => self.emulate_io(cpu, vcpu, host),
        }
    }

    /// The guest's page tables lead out of RAM. Where nothing is, an entry reads as all-ones, which has
    /// reserved bits: a page fault, if the CPU tells for which address.
    #[cold]
    fn bad_tables<V: Vcpu>(
        &self,
        cpu: &Cpu,
        vcpu: &V,
        region: Region,
        fault: NestedFault,
    ) -> Resume {
        if let (Region::Hole | Region::Mmio(..), Some(at)) = (region, fault.gva) {
            let paging = Paging::of(vcpu, self.cpuid.physical_bits());
            let user = if cpl(vcpu) == 3 { Access::USER } else { Access::empty() };
            let fetch = at.0 == linear(vcpu, SegReg::Cs, vcpu.rip());
            let access = if fetch { Access::EXEC } else { Access::READ };
            if let Err(fault) = paging.peek(&self.ram, at, access | user) {
                return Resume::Raise(fault);
            }
        }
        log::error!("vcpu {}: page tables at {}, not in RAM", cpu.id, fault.gpa);
        Resume::Stop(Why::Unhandled(fault.gpa.0))
    }

    /// Executes an instruction that may ask for a reset or power-off.
    fn emulate_io<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> Resume {
        let resume = self.emulate(cpu, vcpu, host);
        match self.stop_request() {
            Some(why) => Resume::Stop(why),
            None => resume,
        }
    }

    /// Maps a page that was left out or taken away for a moment.
    fn fill<H: Host>(&self, host: &H, gpa: arch::GuestPhys, perm: Perm) -> bool {
        host.map(gpa.page(), 4096, crate::host::Backing::Ram, perm)
    }

    fn lapic_mmio<V: Vcpu, H: Host>(&self, cpu: &mut Cpu, vcpu: &mut V, host: &H) -> Resume {
        self.take_tpr(cpu, vcpu);
        let tpr = cpu.lapic.tpr();
        let resume = self.emulate(cpu, vcpu, host);
        if cpu.lapic.tpr() != tpr {
            self.sync_tpr(cpu, vcpu);
        }
        resume
    }

    fn eoi_virtualized<H: Host>(&self, cpu: &mut Cpu, host: &H, vector: u8) -> Resume {
        self.end_of_interrupt(host, vector);
        look_again(cpu)
    }

    /// The vCPU as at power-on. What was sent to it before, it never gets: an NMI from before a reset would reach a
    /// system that has no handler yet.
    pub fn reset_vcpu<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) {
        self.forget_messages(cpu.id);
        cpu.reset();
        self.publish_address(cpu);
        reset::power_on(vcpu);
        vcpu.set_reg(SysReg::TscOffset, self.clock.start_tsc().wrapping_neg());
        if self.own_firmware && cpu.id != 0 {
            let hole = self.bios_config.pci_hole.0;
            cpu.msrs.cache_as_firmware(hole, self.cpuid.physical_bits());
        }
        let Some(pvh) = &self.pvh else { return };
        cpu.msrs.cache_everything();
        // A kernel that does not fit is refused before anything runs.
        if cpu.id == 0
            && let Ok(places) = pvh.places(self.ram.low_size(), self.bios_config.acpi)
        {
            reset::pvh_start(vcpu, places.entry, places.info);
        }
    }
}

/// What CPUID gives: EAX to EDX.
#[inline(always)]
fn set_cpuid<V: Vcpu>(vcpu: &mut V, regs: &crate::cpuid::Regs) {
    let [a, b, c, d] = *regs;
    let gprs = vcpu.gprs_mut();
    gprs.set_rax(a.into());
    gprs.set_rbx(b.into());
    gprs.set_rcx(c.into());
    gprs.set_rdx(d.into());
}

/// RIP as the code segment's size leaves it.
#[cold]
#[inline(never)]
fn wrap<V: Vcpu>(vcpu: &V, rip: u64) -> u64 {
    match crate::insn::exec::code_bits(vcpu) {
        64 => rip,
        32 => rip & 0xffff_ffff,
        _ => rip & 0xffff,
    }
}

/// An instruction that was done on the CPU's behalf ends in the single-step trap if RFLAGS.TF asks for it
/// (SDM 3B "Single-Step Exception Condition").
#[inline]
pub(crate) fn trap_single_step<V: Vcpu>(vcpu: &mut V) {
    if vcpu.rflags() & rflags::TF != 0 && vcpu.pending_event().is_none() {
        let dr6 = vcpu.reg(SysReg::Dr6);
        vcpu.set_reg(SysReg::Dr6, dr6 | DR6_BS);
        vcpu.inject(Some(Event::exception(vector::DB, None)));
    }
}

#[inline]
fn look_again(cpu: &mut Cpu) -> Resume {
    cpu.attention = true;
    Resume::Again
}

/// An exception that was intercepted only to look at it goes on to the guest.
fn reflect(vector: u8, error_code: Option<u32>, qualification: u64) -> Resume {
    let cr2 = (vector == arch::event::vector::PF).then_some(qualification);
    Resume::Raise(Fault { vector, error_code, cr2 })
}

/// Queues a fault, combined with an event whose delivery it may have interrupted.
#[inline(never)]
fn raise<V: Vcpu>(vcpu: &mut V, fault: Fault) -> Option<Why> {
    let event = Event {
        kind: EventKind::Exception,
        vector: fault.vector,
        error_code: fault.error_code,
        insn_len: 0,
    };
    let event = match vcpu.pending_event() {
        None => event,
        Some(first) => match first.combine(event) {
            Some(event) => event,
            None => return Some(Why::TripleFault),
        },
    };
    if let Some(cr2) = fault.cr2 {
        vcpu.set_reg(SysReg::Cr2, cr2);
    }
    if event.sets_resume_flag() {
        vcpu.set_rflags(vcpu.rflags() | rflags::RF);
    }
    vcpu.inject(Some(event));
    None
}
