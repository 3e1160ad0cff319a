//! A vCPU on SVM. The VMCB is the state; what it cannot hold (general registers, a delivery to
//! repeat, NMI blocking, a single step of ours) is beside it. `windows` has the slow part.

use crate::asid::Asid;
use crate::caps::{Caps, Features};
use crate::exit::{Reason, code, is_instruction};
use crate::hw::{Frame, HostArea, Lazy, Tables, raise_machine_check, world_switch};
use crate::inject;
use crate::intercept;
use crate::vmcb::{CLEAN, Vmcb};
use arch::control::{cr0, efer};
use arch::{Blocking, Event, EventKind, Exit, Gprs, SegReg, Segment, SysReg, Vcpu};

mod windows;

use windows::{After, Wanted, Windows};

/// A virtual CPU.
#[derive(Debug)]
pub struct SvmVcpu {
    gprs: Gprs,
    vmcb: Frame<Vmcb>,
    host: HostArea,
    /// Entry and exit have more to do than to switch: something below is not at rest, a flush is
    /// due, or the vCPU is on no CPU. Whatever changes any of that calls [`SvmVcpu::settle`].
    unrest: bool,
    /// Of that, a flush and an interrupt are not all. False where nothing is.
    strange: bool,
    /// EVENTINJ for the next entry.
    pending: u64,
    /// What the last exit was, where its code does not say it.
    given: Option<Exit>,
    /// Clean bits that hold after an exit; 0 where the CPU has none.
    clean: u32,
    /// Decode assists.
    assists: bool,
    windows: Windows,
    asid: Option<Asid>,
    lazy: Lazy,
    caps: Caps,
}

impl SvmVcpu {
    /// A vCPU in the state after reset.
    #[must_use]
    pub fn new(mut vmcb: Frame<Vmcb>, tables: Tables, caps: Caps) -> SvmVcpu {
        let pause = caps.has(Features::PAUSE_FILTER).then_some((
            intercept::PAUSE_COUNT,
            if caps.has(Features::PAUSE_FILTER_THRESHOLD) { intercept::PAUSE_THRESHOLD } else { 0 },
        ));
        let (iopm, msrpm, n_cr3) = tables.parts();
        *vmcb = Vmcb::new(intercept::by_need(&caps), pause, iopm, msrpm, n_cr3);
        let mut vcpu = SvmVcpu {
            gprs: Gprs::default(),
            vmcb,
            host: HostArea::NONE,
            unrest: true,
            strange: true,
            pending: 0,
            given: None,
            clean: if caps.has(Features::VMCB_CLEAN) { CLEAN } else { 0 },
            assists: caps.has(Features::DECODE_ASSISTS),
            windows: Windows::default(),
            asid: None,
            lazy: Lazy::default(),
            caps,
        };
        vcpu.reset();
        vcpu
    }

    /// The state after reset (APM2 "Processor Initialization State"). RDX is left 0: the machine
    /// puts CPUID's signature there. The TSC offset stays.
    pub fn reset(&mut self) {
        self.vmcb.set_cr0(cr0::CD | cr0::NW);
        self.vmcb.set_g_pat(0x0007_0406_0007_0406);
        for (reg, value) in RESET_MSRS {
            self.set_reg(reg, value);
        }
        self.lazy = Lazy::default();
        self.init();
    }

    /// The state after INIT: as after reset, but caching, PAT, and the syscall MSRs stay. A
    /// start-up message then sets CS and RIP.
    pub fn init(&mut self) {
        self.gprs = Gprs::default();
        self.pending = 0;
        self.windows.clear(&mut self.vmcb);
        self.lazy.dr = [0; 4];
        let caching = self.vmcb.cr0() & (cr0::CD | cr0::NW);
        for (reg, value) in [
            (SysReg::Cr0, caching | cr0::ET),
            (SysReg::Cr2, 0),
            (SysReg::Cr3, 0),
            (SysReg::Cr4, 0),
            (SysReg::Efer, 0),
            (SysReg::Dr6, 0xffff_0ff0),
            (SysReg::Dr7, 0x400),
            (SysReg::Cr8, 0),
        ] {
            self.set_reg(reg, value);
        }
        let code = Segment { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, access: 0x9b };
        self.set_segment(SegReg::Cs, code);
        for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            self.set_segment(reg, Segment::real_data(0));
        }
        let table = Segment { selector: 0, base: 0, limit: 0xffff, access: 0 };
        self.set_segment(SegReg::Gdtr, table);
        self.set_segment(SegReg::Idtr, table);
        self.set_segment(SegReg::Ldtr, Segment { access: 0x82, ..table });
        self.set_segment(SegReg::Tr, Segment { access: 0x8b, ..table });
        self.set_rflags(2);
        self.set_rip(0xfff0);
        self.flush_tlb();
    }

    /// DR0 to DR3, of a vCPU that is not attached.
    #[must_use]
    pub const fn debug_addresses(&self) -> [u64; 4] {
        self.lazy.dr
    }

    /// Sets DR0 to DR3 of a vCPU that is not attached.
    pub const fn set_debug_addresses(&mut self, dr: [u64; 4]) {
        self.lazy.dr = dr;
    }

    /// What the last exit's three words were.
    #[must_use]
    #[inline]
    pub fn reason(&self) -> Reason {
        Reason {
            code: self.vmcb.exit_code(),
            info_1: self.vmcb.exit_info_1(),
            info_2: self.vmcb.exit_info_2(),
        }
    }

    /// Capabilities that it was made for.
    #[must_use]
    pub const fn caps(&self) -> &Caps {
        &self.caps
    }

    pub(crate) const fn asid(&self) -> Option<Asid> {
        self.asid
    }

    pub(crate) const fn host(&self) -> HostArea {
        self.host
    }

    pub(crate) const fn lazy(&self) -> &Lazy {
        &self.lazy
    }

    pub(crate) const fn lazy_mut(&mut self) -> &mut Lazy {
        &mut self.lazy
    }

    /// Is on a CPU now, with this ASID.
    pub(crate) fn arrive(&mut self, asid: Asid, flush_all: bool, host: HostArea) {
        // Another CPU's cached VMCB state is not this one's; what was due on the old CPU's ASID is
        // void.
        if self.asid != Some(asid) {
            self.vmcb.forget_cached();
            self.vmcb.flushed();
            self.vmcb.set_asid(asid.number);
            self.asid = Some(asid);
        }
        if flush_all {
            self.vmcb.flush(false);
        }
        self.host = host;
        self.settle();
    }

    /// Is on no CPU.
    pub(crate) fn depart(&mut self) {
        self.host = HostArea::NONE;
        self.settle();
    }

    /// Notes what the next entry and exit have to do.
    #[inline]
    fn settle(&mut self) {
        let other = self.pending != 0 && !inject::is_interrupt(self.pending);
        self.strange = other || self.windows.busy() || self.host == HostArea::NONE;
        self.unrest = self.strange || self.pending != 0 || self.vmcb.is_flush_due();
    }

    /// What comes between exit and decoding: saves what the VMCB will not keep. False: it was ours
    /// alone.
    #[inline]
    fn after_switch(&mut self) -> bool {
        let vmcb = &mut *self.vmcb;
        vmcb.left(self.clean);
        self.gprs.set_rax(vmcb.rax());
        self.gprs.set_rsp(vmcb.rsp());
        let delivery = vmcb.exit_int_info();
        if self.unrest || inject::is_valid(delivery) { self.finish_entry(delivery) } else { true }
    }

    /// What comes before entry. An interrupt goes as a virtual one, which the CPU delivers at once, since the guest takes
    /// interrupts where one is injected. With EVENTINJ, QEMU (7.2, 10.0) may deliver it a second time, whatever
    /// RFLAGS.IF is: it does not clear what it keeps of it.
    #[inline]
    fn before_switch(&mut self) {
        if self.unrest {
            self.prepare_entry();
        }
        let vmcb = &mut *self.vmcb;
        vmcb.set_rax(self.gprs.rax());
        vmcb.set_rsp(self.gprs.rsp());
    }

    #[inline]
    fn prepare_entry(&mut self) {
        if self.strange {
            self.prepare_strange_entry();
        } else if self.pending != 0 {
            self.vmcb.deliver(self.pending as u8);
        }
    }

    #[inline(never)]
    fn prepare_strange_entry(&mut self) {
        let attached = self.host != HostArea::NONE;
        assert!(cfg!(test) || attached, "a vCPU runs only where it is attached");
        let vmcb = &mut *self.vmcb;
        let busy = self.windows.busy();
        if inject::is_interrupt(self.pending) && !busy {
            return vmcb.deliver(self.pending as u8);
        }
        if busy || inject::is_nmi(self.pending) {
            self.windows.before_entry(self.pending, vmcb);
        }
        vmcb.set_event_inj(self.pending);
    }

    /// `delivery`: EXITINTINFO. False: the exit was ours alone.
    #[inline]
    fn finish_entry(&mut self, delivery: u64) -> bool {
        if self.strange || inject::is_valid(delivery) || self.vmcb.is_interrupt_waiting() {
            return self.finish_strange_entry(delivery);
        }
        self.vmcb.flushed();
        (self.pending, self.unrest) = (0, false);
        true
    }

    /// As [`SvmVcpu::finish_entry`], of all other entries, and where a delivery is to be repeated.
    #[inline(never)]
    fn finish_strange_entry(&mut self, delivery: u64) -> bool {
        let vmcb = &mut *self.vmcb;
        vmcb.flushed();
        vmcb.set_event_inj(0);
        let mut after = After::Decode;
        if !self.windows.busy() && vmcb.is_interrupt_waiting() {
            // Not delivered, and so the guest has executed nothing: what EXITINTINFO tells of is this, or came of it.
            vmcb.withdraw();
        } else {
            self.pending = inject::again(delivery);
            if self.windows.busy() {
                after = self.windows.after_exit(vmcb.exit_code(), vmcb);
            }
        }
        self.settle();
        if let After::Give(exit) = after {
            self.given = Some(exit);
        }
        after != After::Enter
    }
}

impl SvmVcpu {
    /// Where VMMCALL ends. It has no operand, and nobody puts a prefix before it: who did would go on
    /// within it, and hurt nobody else. A carry is left to who knows the code segment's size.
    #[inline]
    fn end_of_vmmcall(&self) -> Option<u64> {
        let next = self.vmcb.rip().wrapping_add(VMMCALL_LEN);
        ((next ^ self.vmcb.rip()) >> 16 == 0).then_some(next)
    }

    /// A machine check is the host's: its handler runs now, as if the guest had not been there.
    #[cold]
    #[inline(never)]
    fn rare_exit(&mut self) -> Exit {
        let reason = self.reason();
        if let Some(exit) = self.given.take() {
            return exit;
        }
        if reason.code == code::EXCEPTION_MC {
            raise_machine_check();
            return Exit::HostNmi;
        }
        reason.decode(self.assists)
    }
}

/// Bytes of VMMCALL: 0F 01 D9.
const VMMCALL_LEN: u64 = 3;

/// MSRs that reset clears and INIT does not.
const RESET_MSRS: [(SysReg, u64); 9] = [
    (SysReg::Star, 0),
    (SysReg::Lstar, 0),
    (SysReg::Cstar, 0),
    (SysReg::Sfmask, 0),
    (SysReg::KernelGsBase, 0),
    (SysReg::SysenterCs, 0),
    (SysReg::SysenterEsp, 0),
    (SysReg::SysenterEip, 0),
    (SysReg::DebugCtl, 0),
];

impl Vcpu for SvmVcpu {
    #[inline]
    fn enter(&mut self) {
        loop {
            self.before_switch();
            world_switch(&mut self.gprs, &mut self.vmcb, self.host);
            if self.after_switch() {
                return;
            }
        }
    }

    #[inline(always)]
    fn exit(&mut self) -> Exit {
        let (reason, assists) = (self.reason(), self.assists);
        reason.decode_or(assists, || self.rare_exit())
    }

    #[inline]
    fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    #[inline]
    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcb.rip()
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.vmcb.set_rip(rip);
        self.vmcb.set_shadow(false);
    }

    #[inline]
    fn next_rip(&self) -> Option<u64> {
        let code = self.vmcb.exit_code();
        if code == code::IOIO {
            // APM2 "IOIO Intercept Information": EXITINFO2, with or without nRIP save.
            return Some(self.vmcb.exit_info_2());
        }
        if !self.caps.has(Features::NRIPS) {
            return if code == code::VMMCALL { self.end_of_vmmcall() } else { None };
        }
        if !is_instruction(code) {
            return None;
        }
        let next = self.vmcb.n_rip();
        (next != 0).then_some(next)
    }

    #[inline(always)]
    fn next_rip_of(&self, exit: Exit) -> Option<u64> {
        match exit {
            Exit::In { .. } | Exit::Out { .. } => Some(self.vmcb.exit_info_2()),
            _ if self.caps.has(Features::NRIPS) && self.vmcb.n_rip() != 0 => {
                Some(self.vmcb.n_rip())
            }
            Exit::Hypercall => self.end_of_vmmcall(),
            _ => None,
        }
    }

    fn insn_bytes(&self) -> Option<([u8; 15], u8)> {
        const PAGE_FAULT: u64 = code::EXCEPTION + arch::event::vector::PF as u64;
        // APM2 "Guest Instruction Bytes": after nested and data page faults only.
        if !self.assists || !matches!(self.vmcb.exit_code(), code::NPF | PAGE_FAULT) {
            return None;
        }
        let insn = self.vmcb.insn();
        (insn.1 != 0).then_some(insn)
    }

    #[inline]
    fn rflags(&self) -> u64 {
        self.windows.rflags(&self.vmcb)
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.windows.set_rflags(rflags, &mut self.vmcb);
    }

    #[inline]
    fn reg(&self, reg: SysReg) -> u64 {
        let vmcb = &*self.vmcb;
        match reg {
            SysReg::Cr0 => vmcb.cr0(),
            SysReg::Cr2 => vmcb.cr2(),
            SysReg::Cr3 => vmcb.cr3(),
            SysReg::Cr4 => vmcb.cr4(),
            SysReg::Efer => vmcb.efer() & !efer::SVME,
            SysReg::Dr6 => vmcb.dr6(),
            SysReg::Dr7 => vmcb.dr7(),
            SysReg::Star => vmcb.star(),
            SysReg::Lstar => vmcb.lstar(),
            SysReg::Cstar => vmcb.cstar(),
            SysReg::Sfmask => vmcb.sfmask(),
            SysReg::KernelGsBase => vmcb.kernel_gs_base(),
            SysReg::SysenterCs => vmcb.sysenter_cs(),
            SysReg::SysenterEsp => vmcb.sysenter_esp(),
            SysReg::SysenterEip => vmcb.sysenter_eip(),
            SysReg::Pat => vmcb.g_pat(),
            SysReg::Cr8 => vmcb.cr8(),
            SysReg::TscOffset => vmcb.tsc_offset(),
            SysReg::DebugCtl => vmcb.dbgctl(),
        }
    }

    fn set_reg(&mut self, reg: SysReg, value: u64) {
        let vmcb = &mut *self.vmcb;
        match reg {
            SysReg::Cr2 => vmcb.set_cr2(value),
            SysReg::Dr6 => vmcb.set_dr6(value),
            SysReg::Dr7 => vmcb.set_dr7(value),
            SysReg::Star => vmcb.set_star(value),
            SysReg::Lstar => vmcb.set_lstar(value),
            SysReg::Cstar => vmcb.set_cstar(value),
            SysReg::Sfmask => vmcb.set_sfmask(value),
            SysReg::KernelGsBase => vmcb.set_kernel_gs_base(value),
            SysReg::SysenterCs => vmcb.set_sysenter_cs(value),
            SysReg::SysenterEsp => vmcb.set_sysenter_esp(value),
            SysReg::SysenterEip => vmcb.set_sysenter_eip(value),
            SysReg::Cr8 => vmcb.set_cr8(value),
            SysReg::TscOffset => vmcb.set_tsc_offset(value),
            SysReg::DebugCtl => vmcb.set_dbgctl(value),
            // VMRUN does not flush what these rule over.
            SysReg::Cr0 | SysReg::Cr3 | SysReg::Cr4 | SysReg::Efer | SysReg::Pat => {
                match reg {
                    SysReg::Cr0 => vmcb.set_cr0(value),
                    SysReg::Cr3 => vmcb.set_cr3(value),
                    SysReg::Cr4 => vmcb.set_cr4(value),
                    SysReg::Pat => vmcb.set_g_pat(value),
                    // VMRUN refuses a guest without SVME.
                    _ => vmcb.set_efer(value | efer::SVME),
                }
                self.flush_tlb();
            }
        }
    }

    #[inline]
    fn segment(&self, reg: SegReg) -> Segment {
        self.vmcb.segment(reg)
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        self.vmcb.set_segment(reg, segment);
    }

    #[inline]
    fn blocking(&self) -> Blocking {
        Blocking { shadow: self.vmcb.shadow(), nmi: self.windows.nmi_blocked() }
    }

    fn set_blocking(&mut self, blocking: Blocking) {
        self.vmcb.set_shadow(blocking.shadow);
        self.windows.set_nmi_blocked(blocking.nmi, &mut self.vmcb);
        self.settle();
    }

    #[inline]
    fn pending_event(&self) -> Option<Event> {
        inject::decode(self.pending)
    }

    #[inline]
    fn inject(&mut self, event: Option<Event>) {
        self.pending = match event {
            Some(event) => inject::encode(event, self.vmcb.cr0() & cr0::PE == 0),
            None => 0,
        };
        // What rests again is seen at the next exit.
        let interrupt = event.is_some_and(|event| event.kind == EventKind::Interrupt);
        self.strange |= !interrupt;
        self.unrest = true;
    }

    #[inline]
    fn request_window(&mut self, interrupt: bool, nmi: bool, held_back: u8) {
        let wanted = Wanted { interrupt, nmi, tpr: held_back != 0 };
        if self.windows.wanted() != wanted {
            self.windows.want(wanted, &mut self.vmcb);
            self.settle();
        }
    }

    fn offer(&mut self, vector: u8) -> bool {
        self.windows.offer(vector, &mut self.vmcb);
        self.settle();
        true
    }

    fn withdraw(&mut self) -> bool {
        let taken = self.windows.withdraw(&mut self.vmcb);
        self.settle();
        taken
    }

    fn flush_tlb(&mut self) {
        self.vmcb.flush(self.caps.has(Features::FLUSH_BY_ASID));
        self.unrest = true;
    }
}

#[cfg(test)]
mod tests;
