//! A vCPU on VMX. The VMCS is the state; what it cannot hold (general registers, CR2, debug
//! addresses, syscall MSRs) is beside it. `regs` has registers and segments, `setup` the state
//! after reset, `own` the exits that the machine never sees and those that need more than decoding.

use crate::caps::Caps;
use crate::controls::{Controls, Secondary};
use crate::event::{self, Injection};
use crate::exit::{self, reason};
use crate::field as f;
use crate::host::HostState;
use crate::hw::{self, Frames, Lazy, Page, Tables};
use crate::vmcs::Vmcs;
use crate::vpid::{Claim, Vpid};
use arch::control::cr0;
use arch::{ApicMode, ApicPage, Blocking, Event, Exit, Gprs, SegReg, Segment, SysReg, Vcpu};
use bitflags::bitflags;

mod apic;
mod own;
mod regs;
mod setup;

/// Which windows are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    interrupt: bool,
    nmi: bool,
    held_back: u8,
}

bitflags! {
    /// What must be flushed before the next entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Due: u8 {
        /// The guest's own translations (INVVPID).
        const LINEAR = 1;
        /// Second-level ones (INVEPT), and all that came of them.
        const SECOND_LEVEL = 2;
    }
}

/// A virtual CPU.
#[derive(Debug)]
pub struct VmxVcpu {
    gprs: Gprs,
    vmcs: Vmcs,
    /// On a CPU: the registers of `lazy` are in theirs.
    attached: bool,
    /// The VMCS has been entered since it was cleared.
    launched: bool,
    /// HOST_RSP.
    host_rsp: u64,
    /// Guest RIP and RSP as the VMCS has them.
    rip: u64,
    rsp: u64,
    /// Basic exit reason; [`NO_REASON`] where the entry instruction failed.
    reason: u32,
    /// What the exit was, where its reason does not say it.
    given: Option<Exit>,
    /// For the next entry.
    pending: Injection,
    due: Due,
    wanted: Wanted,
    /// Primary controls as the VMCS has them.
    primary: u32,
    /// The host's bits of CR0 and CR4 as the guest sees them.
    cr0_shadow: u64,
    cr4_shadow: u64,
    /// CR8 where the CPU has no TPR shadow.
    cr8: u8,
    apic: ApicPage,
    /// What the VMCS says of the local APIC.
    apic_mode: ApicMode,
    posting: bool,
    /// The guest's CR2, which no VMCS keeps and a page fault of the host's changes.
    cr2: u64,
    eoi_exits: [u64; 4],
    tables: Tables,
    vpid: Option<Vpid>,
    ept_pointer: u64,
    lazy: Lazy,
    caps: Caps,
}

/// No exit has this reason.
const NO_REASON: u32 = u32::MAX;

/// Exits that `own` looks at first: the host's interrupts, exceptions and NMIs, windows, control registers.
/// Reasons beyond 63 go there too.
const OWN: u64 = 1 << reason::EXCEPTION_OR_NMI
    | 1 << reason::EXTERNAL_INTERRUPT
    | 1 << reason::INTERRUPT_WINDOW
    | 1 << reason::NMI_WINDOW
    | 1 << reason::CR_ACCESS
    | 1 << reason::TPR_BELOW_THRESHOLD;

impl VmxVcpu {
    /// The raw words of the last exit: basic reason and qualification.
    #[must_use]
    pub fn reason(&self) -> (u32, u64) {
        (self.reason, self.vmcs.get(f::EXIT_QUALIFICATION))
    }

    /// Capabilities that it was made for.
    #[must_use]
    pub const fn caps(&self) -> &Caps {
        &self.caps
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

    /// Makes the guest exit once it has run for `ticks` of the TSC from now on, however often it exits
    /// meanwhile, even where no host interrupt makes it. Does nothing on a CPU without preemption
    /// timer.
    pub fn bound(&mut self, ticks: u64) {
        if self.caps.preemption_timer() {
            // One more: it counts when a bit of the TSC changes, the first time perhaps at once.
            let count = (ticks >> self.caps.preemption_rate) + 1;
            self.vmcs.set(f::PREEMPTION_TIMER, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    pub(crate) const fn vpid(&self) -> Option<Vpid> {
        self.vpid
    }

    /// Is on a CPU now, with this VPID. The VMCS remembers the host's state of the CPU it was on.
    pub(crate) fn arrive(&mut self, (vpid, claim): (Vpid, Claim), host: &HostState) {
        assert!(!self.attached, "a vCPU is attached to one CPU at a time");
        self.vmcs.load();
        if claim == Claim::New {
            self.vpid = Some(vpid);
            if self.caps.vpid {
                self.vmcs.set_current(f::VPID, vpid.number);
            }
            self.due = Due::all();
            host.write(&self.vmcs);
        }
        if cfg!(not(test)) {
            hw::load_lazy(&self.lazy, self.caps.has(Secondary::RDTSCP));
        }
        self.attached = true;
    }

    /// Takes the vCPU off the CPU that it is attached to, and runs on now: it can go to any other.
    /// The FPU is not its business.
    pub fn detach(&mut self) {
        if self.attached {
            if cfg!(not(test)) {
                self.lazy = hw::save_lazy(self.caps.has(Secondary::RDTSCP));
            }
            self.vmcs.clear();
            self.launched = false;
            self.attached = false;
        }
    }

    /// Runs `f` with the VMCS current.
    fn visit(&mut self, f: impl FnOnce(&mut VmxVcpu)) {
        if self.vmcs.is_current() {
            return f(self);
        }
        let before = self.vmcs.arrive();
        f(self);
        self.vmcs.leave(before);
    }

    /// What comes before entry.
    #[inline]
    fn before_switch(&mut self) {
        if self.apic.take_changed() {
            self.settle_apic();
        }
        if !self.due.is_empty() {
            self.flush();
        }
        if self.pending.info != 0 {
            self.write_pending();
        }
        let rsp = self.gprs.rsp();
        if rsp != self.rsp {
            self.vmcs.set_current(f::RSP, rsp);
        }
        if cfg!(not(test)) && hw::cr2() != self.cr2 {
            hw::set_cr2(self.cr2);
        }
    }

    /// What comes between exit and decoding: keeps what every handler wants, and a delivery to
    /// repeat.
    #[inline]
    fn after_switch(&mut self) -> u32 {
        self.launched = true;
        if cfg!(not(test)) {
            self.cr2 = hw::cr2();
        }
        self.rip = self.vmcs.get_current(f::RIP);
        self.rsp = self.vmcs.get_current(f::RSP);
        self.gprs.set_rsp(self.rsp);
        self.reason = self.vmcs.get_current(f::EXIT_REASON);
        self.pending.info = 0;
        let idt_vectoring = self.vmcs.get_current(f::IDT_VECTORING);
        if idt_vectoring & event::VALID != 0 {
            self.keep_delivery(idt_vectoring);
        }
        self.reason
    }

    #[cold]
    fn flush(&mut self) {
        let due = core::mem::replace(&mut self.due, Due::empty());
        if due.contains(Due::SECOND_LEVEL) {
            hw::invept(self.caps.ept.invept_single.then_some(self.ept_pointer));
        }
        // Without VPIDs every entry flushes.
        if due.contains(Due::LINEAR)
            && self.caps.vpid
            && let Some(vpid) = self.vpid
        {
            hw::invvpid(vpid.number);
        }
    }

    #[cold]
    fn write_pending(&mut self) {
        let Injection { info, error_code, length } = self.pending;
        self.vmcs.set_current(f::ENTRY_INTERRUPTION, info);
        self.vmcs.set_current(f::ENTRY_ERROR_CODE, error_code);
        self.vmcs.set_current(f::ENTRY_INSTRUCTION_LENGTH, length);
    }

    /// An exit interrupted a delivery (SDM 3C "Information for VM Exits That Occur During Event
    /// Delivery").
    #[cold]
    fn keep_delivery(&mut self, idt_vectoring: u32) {
        let code = self.vmcs.get_current(f::IDT_VECTORING_ERROR_CODE);
        self.pending = if self.reason == reason::TASK_SWITCH {
            // The switch is the delivery: whoever does it wants to know of what.
            let length = self.vmcs.get_current(f::INSTRUCTION_LENGTH);
            event::interrupted(idt_vectoring, code, length)
        } else {
            event::again(idt_vectoring, code)
        };
        if event::is_nmi(idt_vectoring) {
            // Entry refuses an NMI while they are blocked, and blocks them itself.
            let state = self.vmcs.get_current(f::INTERRUPTIBILITY);
            self.vmcs.set_current(f::INTERRUPTIBILITY, state & !exit::NMI_BLOCKING);
        }
    }
}

const PDPTES: [f::Field<u64>; 4] = [f::PDPTE_0, f::PDPTE_1, f::PDPTE_2, f::PDPTE_3];

/// Interruptibility state: one-instruction shadows of STI and of MOV SS.
const STI_SHADOW: u32 = 1;
const MOV_SS_SHADOW: u32 = 1 << 1;
const SHADOW: u32 = STI_SHADOW | MOV_SS_SHADOW;

impl Vcpu for VmxVcpu {
    #[inline]
    fn enter(&mut self) {
        assert!(self.attached, "a vCPU runs only where it is attached");
        loop {
            self.before_switch();
            if hw::world_switch(&mut self.gprs, self.launched, &mut self.host_rsp).is_err() {
                self.reason = NO_REASON;
                self.given = Some(self.refused());
                return;
            }
            let reason = self.after_switch();
            if reason >= 64 || OWN >> reason & 1 != 0 {
                match self.own(reason) {
                    own::After::Decode => {}
                    own::After::Enter => continue,
                    own::After::Give(exit) => self.given = Some(exit),
                }
            }
            return;
        }
    }

    #[inline(always)]
    fn exit(&mut self) -> Exit {
        let (reason, string_info) = (self.reason, self.caps.string_io_info);
        exit::decode_or(&self.vmcs, reason, string_info, || match self.given.take() {
            Some(exit) => exit,
            None => exit::decode_rare(&self.vmcs, reason),
        })
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
        self.rip
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
        self.vmcs.set(f::RIP, rip);
        let state = self.vmcs.get(f::INTERRUPTIBILITY);
        if state & SHADOW != 0 {
            self.vmcs.set(f::INTERRUPTIBILITY, state & !SHADOW);
        }
    }

    #[inline]
    fn next_rip(&self) -> Option<u64> {
        let event = || match self.reason {
            reason::TASK_SWITCH => self.vmcs.get(f::IDT_VECTORING),
            _ => self.vmcs.get(f::EXIT_INTERRUPTION),
        };
        let gate = || self.vmcs.get(f::EXIT_QUALIFICATION) >> 30 & 3 == 3;
        if !exit::has_length(self.reason, event, gate) {
            return None;
        }
        let next = self.rip.wrapping_add(self.vmcs.get(f::INSTRUCTION_LENGTH).into());
        if (next ^ self.rip) >> 32 == 0 { Some(next) } else { Some(self.wrap(next)) }
    }

    #[inline(always)]
    fn next_rip_of(&self, _: Exit) -> Option<u64> {
        let next = self.rip.wrapping_add(self.vmcs.get(f::INSTRUCTION_LENGTH).into());
        if (next ^ self.rip) >> 32 == 0 { Some(next) } else { Some(self.wrap(next)) }
    }

    fn insn_bytes(&self) -> Option<([u8; 15], u8)> {
        None
    }

    #[inline]
    fn rflags(&self) -> u64 {
        self.vmcs.get(f::RFLAGS)
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.write_rflags(rflags);
    }

    #[inline]
    fn reg(&self, reg: SysReg) -> u64 {
        self.read_reg(reg)
    }

    fn set_reg(&mut self, reg: SysReg, value: u64) {
        self.write_reg(reg, value);
    }

    /// Under EPT a MOV to CR3 of the guest's loads them itself; entry loads them from here.
    fn set_pdptes(&mut self, entries: [u64; 4]) {
        for (field, entry) in PDPTES.into_iter().zip(entries) {
            self.vmcs.set(field, entry);
        }
    }

    #[inline]
    fn segment(&self, reg: SegReg) -> Segment {
        self.read_segment(reg)
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        self.write_segment(reg, segment);
    }

    #[inline]
    fn blocking(&self) -> Blocking {
        let state = self.vmcs.get(f::INTERRUPTIBILITY);
        Blocking { shadow: state & SHADOW != 0, nmi: state & exit::NMI_BLOCKING != 0 }
    }

    fn set_blocking(&mut self, blocking: Blocking) {
        self.write_blocking(blocking);
    }

    #[inline]
    fn pending_event(&self) -> Option<Event> {
        event::decode(self.pending)
    }

    #[inline]
    fn inject(&mut self, event: Option<Event>) {
        self.pending = match event {
            Some(event) => event::encode(event, self.vmcs.get(f::CR0) & cr0::PE == 0),
            None => Injection::default(),
        };
    }

    #[inline]
    fn request_window(&mut self, interrupt: bool, nmi: bool, held_back: u8) {
        let wanted = Wanted { interrupt, nmi, held_back };
        if self.wanted != wanted {
            self.want(wanted);
        }
    }

    #[inline]
    fn apic(&mut self) -> Option<&mut ApicPage> {
        if self.tables.apic().is_some() { Some(&mut self.apic) } else { None }
    }

    fn flush_tlb(&mut self) {
        self.due |= Due::SECOND_LEVEL;
    }
}

#[cfg(test)]
mod tests;
