//! Interrupt and NMI windows, and NMI blocking.
//!
//! The interrupt window is a virtual interrupt (V_IRQ) whose delivery is intercepted. One that is offered to the guest
//! is a virtual interrupt, too, and the CPU delivers it without an exit. SVM does not
//! tell when an NMI handler ends: IRET is intercepted while NMIs are blocked, and if an NMI waits,
//! the IRET is stepped over with RFLAGS.TF, which stays hidden from the machine.

use crate::exit::code;
use crate::inject;
use crate::vmcb::Vmcb;
use arch::Exit;
use arch::control::rflags;

/// DR6.BS: single step.
const DR6_BS: u64 = 1 << 14;
/// DR6.B0 to B3: breakpoints.
const DR6_B: u64 = 0xf;

/// Whether the guest can take an NMI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Nmi {
    #[default]
    Open,
    /// In an NMI handler; IRET is intercepted.
    Blocked,
    /// The handler's IRET at `rip` is about to execute.
    Returning { rip: u64 },
}

/// A step of ours: what it covers up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    own_tf: bool,
    dr6: u64,
}

/// What to do about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is the guest's: decode it.
    Decode,
    /// It was ours alone: enter again.
    Enter,
    /// It was ours, and means this.
    Give(Exit),
}

/// Which windows are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Interrupts.
    pub interrupt: bool,
    /// NMIs.
    pub nmi: bool,
    /// CR8 changed: its writes are intercepted.
    pub tpr: bool,
}

/// An interrupt that the CPU delivers when the guest takes interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offer {
    #[default]
    None,
    /// It waits.
    Out,
    /// It was delivered.
    Taken,
}

/// What is wanted, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Anything below is not at rest: entries and exits have more to do.
    busy: bool,
    wanted: Wanted,
    state: Nmi,
    step: Option<Step>,
    offer: Offer,
}

impl Windows {
    /// Whether [`before_entry`](Windows::before_entry) and [`after_exit`](Windows::after_exit) have
    /// anything to do.
    #[inline]
    pub const fn busy(&self) -> bool {
        self.busy
    }

    /// What is asked for.
    #[inline]
    pub const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// An NMI handler has not yet executed IRET.
    #[inline]
    pub fn nmi_blocked(&self) -> bool {
        self.state != Nmi::Open
    }

    #[cold]
    pub fn want(&mut self, wanted: Wanted, vmcb: &mut Vmcb) {
        self.wanted = wanted;
        vmcb.set_interrupt_window(wanted.interrupt);
        self.settle(vmcb);
    }

    /// Asks for no window and offers this vector.
    pub fn offer(&mut self, vector: u8, vmcb: &mut Vmcb) {
        if self.wanted != Wanted::default() {
            self.want(Wanted::default(), vmcb);
        }
        self.offer = Offer::Out;
        vmcb.deliver(vector);
        self.settle(vmcb);
    }

    /// Takes the offer back. True: it was delivered.
    pub fn withdraw(&mut self, vmcb: &mut Vmcb) -> bool {
        let offer = core::mem::take(&mut self.offer);
        if offer == Offer::Out {
            vmcb.withdraw();
            self.settle(vmcb);
        }
        offer == Offer::Taken
    }

    pub fn set_nmi_blocked(&mut self, blocked: bool, vmcb: &mut Vmcb) {
        self.state = if blocked { Nmi::Blocked } else { Nmi::Open };
        self.settle(vmcb);
    }

    /// As a vCPU starts.
    pub fn clear(&mut self, vmcb: &mut Vmcb) {
        self.end_step(vmcb);
        *self = Windows::default();
        vmcb.set_interrupt_window(false);
        vmcb.set_shadow(false);
        self.settle(vmcb);
    }

    /// Brings intercepts in line with what is wanted.
    fn settle(&mut self, vmcb: &mut Vmcb) {
        if !self.wanted.nmi {
            self.end_step(vmcb);
        }
        vmcb.intercept_iret(self.state == Nmi::Blocked);
        // QEMU 10 aborts where a guest writes CR8 while V_IRQ can be delivered.
        let waits = self.wanted.interrupt || self.offer == Offer::Out;
        vmcb.intercept_cr8(waits || self.wanted.tpr);
        self.busy = waits || self.wanted.nmi || self.state != Nmi::Open || self.step.is_some();
    }

    /// `pending`: EVENTINJ.
    #[cold]
    pub fn before_entry(&mut self, pending: u64, vmcb: &mut Vmcb) {
        if pending != 0 {
            // The delivery would push our TF on the guest's stack; stepping goes on after it.
            self.end_step(vmcb);
            if inject::is_nmi(pending) {
                self.state = Nmi::Blocked;
                self.settle(vmcb);
            }
        } else if self.wanted.nmi && self.state != Nmi::Blocked && self.step.is_none() {
            // NMIs are not blocked, or will not be after the IRET: one instruction, then look
            // again.
            self.step = Some(Step { own_tf: vmcb.rflags() & rflags::TF != 0, dr6: vmcb.dr6() });
            vmcb.set_rflags(vmcb.rflags() | rflags::TF);
        }
    }

    #[cold]
    pub fn after_exit(&mut self, exit_code: u64, vmcb: &mut Vmcb) -> After {
        if let Nmi::Returning { rip } = self.state
            && vmcb.rip() != rip
        {
            self.state = Nmi::Open;
        }
        if self.offer == Offer::Out && !vmcb.is_interrupt_waiting() {
            self.offer = Offer::Taken;
        }
        let after = match exit_code {
            code::VINTR => {
                self.wanted.interrupt = false;
                vmcb.set_interrupt_window(false);
                After::Decode
            }
            code::IRET => {
                self.state = Nmi::Returning { rip: vmcb.rip() };
                After::Enter
            }
            code::EXCEPTION_DB => match self.step {
                Some(step) => self.stepped(step, vmcb),
                None => After::Decode,
            },
            _ => After::Decode,
        };
        self.settle(vmcb);
        after
    }

    /// A #DB while we step: ours, the guest's, or both.
    fn stepped(&mut self, step: Step, vmcb: &mut Vmcb) -> After {
        self.end_step(vmcb);
        // The handler's IRET has executed, be it to itself.
        if self.state != Nmi::Blocked {
            self.state = Nmi::Open;
        }
        if step.own_tf {
            return After::Decode;
        }
        let dr6 = vmcb.dr6();
        vmcb.set_dr6(dr6 & !DR6_BS | step.dr6 & DR6_BS);
        if dr6 & DR6_B & !step.dr6 != 0 {
            return After::Decode;
        }
        self.wanted.nmi = false;
        After::Give(Exit::NmiWindow)
    }

    fn end_step(&mut self, vmcb: &mut Vmcb) {
        if let Some(step) = self.step.take()
            && !step.own_tf
        {
            vmcb.set_rflags(vmcb.rflags() & !rflags::TF);
        }
    }

    /// The guest's flags without our TF.
    #[inline]
    pub const fn rflags(&self, vmcb: &Vmcb) -> u64 {
        let flags = vmcb.rflags();
        // A step of ours sets the flag.
        if flags & rflags::TF != 0 { self.without_ours(flags) } else { flags }
    }

    #[cold]
    #[inline(never)]
    const fn without_ours(&self, flags: u64) -> u64 {
        match self.step {
            Some(Step { own_tf: false, .. }) => flags & !rflags::TF,
            _ => flags,
        }
    }

    pub fn set_rflags(&mut self, value: u64, vmcb: &mut Vmcb) {
        let mut value = value | rflags::FIXED;
        if let Some(step) = &mut self.step {
            step.own_tf = value & rflags::TF != 0;
            value |= rflags::TF;
        }
        vmcb.set_rflags(value);
    }
}
