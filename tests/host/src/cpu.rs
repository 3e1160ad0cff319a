//! A virtual CPU of plain fields, which exits as its script says.

use arch::control::rflags;
use arch::{ApicPage, Blocking, Event, Exit, Gprs, SegReg, Segment, SysReg, Vcpu};
use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;

/// A scripted vCPU. [`Vcpu::run`] takes the next exit of the script; an event that waited for
/// injection moves to `delivered` then, as on a CPU whose entry delivers it.
#[derive(Clone, Debug, Default)]
pub struct MockCpu {
    /// General registers.
    pub gprs: Gprs,
    /// Instruction pointer.
    pub rip: u64,
    /// What the CPU says about the instruction's end; `None`: it does not say.
    pub next_rip: Option<u64>,
    /// Flags.
    pub rflags: u64,
    regs: [u64; 19],
    segments: [Segment; 10],
    /// Interrupt shadow and NMI blocking.
    pub blocking: Blocking,
    /// What the next entry injects.
    pub pending: Option<Event>,
    /// What entries have injected, in order.
    pub delivered: Vec<Event>,
    /// The last [`Vcpu::request_window`].
    pub window: (bool, bool, u8),
    /// Exits to come. When they run out, a host interrupt.
    pub script: VecDeque<Exit>,
    /// The page-directory-pointer entries that were handed over.
    pub pdptes: Option<[u64; 4]>,
    /// How often the TLB was flushed.
    pub flushes: u32,
    /// Whether it delivers what is offered.
    pub takes_offers: bool,
    /// The vector that is offered, and whether it was delivered.
    pub offered: Option<(u8, bool)>,
    /// The page of a CPU that keeps the local APIC.
    pub apic: Kept,
}

/// The page of a local APIC that a CPU keeps, if it does. A copy of the vCPU keeps none.
#[derive(Debug, Default)]
pub struct Kept(pub Option<ApicPage>);

impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept(None)
    }
}

impl MockCpu {
    /// Keeps the local APIC from now on.
    pub fn keep_apic(&mut self) {
        let words = Box::leak(Box::new([const { AtomicU32::new(0) }; 1024]));
        self.apic = Kept(Some(ApicPage::new(words)));
    }
}

impl Vcpu for MockCpu {
    fn enter(&mut self) {
        self.delivered.extend(self.pending.take());
        if let Some((vector, taken @ false)) = &mut self.offered
            && self.rflags & rflags::IF != 0
            && !self.blocking.shadow
        {
            self.delivered.push(Event::interrupt(*vector));
            *taken = true;
        }
    }

    fn exit(&mut self) -> Exit {
        self.script.pop_front().unwrap_or(Exit::HostInterrupt)
    }

    fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
        self.blocking.shadow = false;
    }

    fn next_rip(&self) -> Option<u64> {
        self.next_rip
    }

    fn insn_bytes(&self) -> Option<([u8; 15], u8)> {
        None
    }

    fn rflags(&self) -> u64 {
        self.rflags
    }

    fn set_rflags(&mut self, rflags: u64) {
        self.rflags = rflags;
    }

    fn reg(&self, reg: SysReg) -> u64 {
        self.regs[reg as usize]
    }

    fn set_reg(&mut self, reg: SysReg, value: u64) {
        self.regs[reg as usize] = value;
    }

    fn segment(&self, reg: SegReg) -> Segment {
        self.segments[reg as usize]
    }

    fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        self.segments[reg as usize] = segment;
    }

    fn blocking(&self) -> Blocking {
        self.blocking
    }

    fn set_blocking(&mut self, blocking: Blocking) {
        self.blocking = blocking;
    }

    fn pending_event(&self) -> Option<Event> {
        self.pending
    }

    fn inject(&mut self, event: Option<Event>) {
        self.pending = event;
    }

    fn request_window(&mut self, interrupt: bool, nmi: bool, held_back: u8) {
        self.window = (interrupt, nmi, held_back);
    }

    fn offer(&mut self, vector: u8) -> bool {
        if self.takes_offers {
            assert_eq!((self.pending, self.offered), (None, None));
            self.window = (false, false, 0);
            self.offered = Some((vector, false));
        }
        self.takes_offers
    }

    fn withdraw(&mut self) -> bool {
        self.offered.take().is_some_and(|(_, taken)| taken)
    }

    fn set_pdptes(&mut self, entries: [u64; 4]) {
        self.pdptes = Some(entries);
    }

    fn apic(&mut self) -> Option<&mut ApicPage> {
        self.apic.0.as_mut()
    }

    fn flush_tlb(&mut self) {
        self.flushes += 1;
    }
}
