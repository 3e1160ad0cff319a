//! The local APIC, xAPIC and x2APIC. SDM 3A "Advanced Programmable Interrupt Controller".
//!
//! Here: what it is, taking, acknowledging and ending interrupts. `registers` is what the guest
//! reads and writes, `base` is IA32_APIC_BASE, `timer` counts, `address` decides what is for it.
//! It belongs to the CPU that runs it; what others send is put in an inbox outside the chip.
//! Left out: CMCI, SMM, AMD's extended registers, bus arbitration (the board picks).

mod address;
mod base;
mod lend;
mod registers;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

use arch::Nanos;

use crate::apicmsg::{DeliveryMode, Message};
use timer::{Timer, TimerMode};
use vectors::{Vectors, get_bit, set_bit};

pub use address::ApicAddress;
pub use base::{DEFAULT_BASE, Mode};
pub use registers::Refused;
pub use state::LapicState;
pub use timer::BUS_HZ;

/// ESR: an interrupt below 16 was to be sent.
const ESR_SEND_ILLEGAL: u8 = 1 << 5;
/// ESR: an interrupt below 16 was received, or is in an LVT entry that fired.
const ESR_RECEIVE_ILLEGAL: u8 = 1 << 6;
/// ESR: a register that does not exist was read or written.
const ESR_ILLEGAL_REGISTER: u8 = 1 << 7;

/// LVT: nothing is delivered.
const LVT_MASKED: u32 = 1 << 16;
/// LVT: the level-triggered interrupt was taken and its EOI has not come.
const LVT_REMOTE_IRR: u32 = 1 << 14;
/// LVT: level-triggered.
const LVT_LEVEL: u32 = 1 << 15;

/// SVR: the APIC is enabled by software.
const SVR_ENABLED: u32 = 1 << 8;
/// SVR: EOIs are not broadcast.
const SVR_SUPPRESS_EOI: u32 = 1 << 12;

/// What the board decides once about a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LapicConfig {
    /// The APIC ID at reset, and the x2APIC ID.
    pub id: u32,
    /// Whether this is the bootstrap processor's.
    pub bsp: bool,
    /// Whether x2APIC mode exists.
    pub x2apic: bool,
    /// Whether the timer has its TSC-deadline mode.
    pub tsc_deadline: bool,
    /// Whether EOI broadcasts can be suppressed; needs an I/O APIC with an EOI register.
    pub suppress_eoi: bool,
    /// MAXPHYADDR, which limits IA32_APIC_BASE.
    pub physical_bits: u8,
}

/// The entries of the local vector table, in the order of their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lvt {
    /// The timer, 320h.
    Timer,
    /// The thermal sensor, 330h.
    Thermal,
    /// Performance-counter overflow, 340h.
    Performance,
    /// Pin LINT0, 350h: on a PC the 8259A's INTR.
    Lint0,
    /// Pin LINT1, 360h: on a PC the NMI.
    Lint1,
    /// An error, 370h.
    Error,
}

/// The entries, in register order.
const LVT_ENTRIES: [Lvt; 6] =
    [Lvt::Timer, Lvt::Thermal, Lvt::Performance, Lvt::Lint0, Lvt::Lint1, Lvt::Error];

/// To whom an interprocessor interrupt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// To those that match the message's destination.
    Destination,
    /// To the sender only.
    Oneself,
    /// To everyone.
    All,
    /// To everyone but the sender.
    Others,
}

/// An interprocessor interrupt that the board is to route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// To whom; the message's `dest` and `logical` count only for [`Shorthand::Destination`].
    pub shorthand: Shorthand,
    /// What is sent.
    pub message: Message,
}

/// What a register write asks of the outside.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LapicEffect {
    /// Nothing; `pending_vector` may have changed.
    Nothing,
    /// `due` may have changed.
    Timer,
    /// `address` may have changed.
    Address,
    /// The level-triggered interrupt of this vector has ended: tell the I/O APICs.
    EndOfInterrupt(u8),
    /// Send this.
    Send(Ipi),
}

/// What an arriving message, a local pin or a local event asks of the CPU.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing: masked, disabled, or a kind that this machine lacks.
    Ignored,
    /// A vector is in the IRR: look at `pending_vector`.
    Accepted,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: call [`LocalApic::init`] and wait for a start-up.
    Init,
    /// Start at this page number if waiting for it.
    StartUp(u8),
    /// The 8259A has an interrupt; its vector is the answer to an acknowledge cycle.
    ExtInt,
}

/// A local APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalApic {
    // Fixed
    config: LapicConfig,
    // Guest-visible
    base: u64,
    xapic_id: u8,
    tpr: u8,
    ldr: u8,
    flat: bool,
    svr: u32,
    irr: Vectors,
    isr: Vectors,
    /// Bit set: the vector was accepted level-triggered.
    tmr: [u64; 4],
    esr: u8,
    /// Errors since the last write to the ESR, which shows them.
    esr_log: u8,
    icr: u64,
    lvt: [u32; 6],
    timer: Timer,
    lint: [bool; 2],
    // Derived
    ppr: u8,
    mode: Mode,
    /// Enabled by IA32_APIC_BASE and by the SVR, so that vectors are accepted.
    accepting: bool,
}

impl LocalApic {
    /// A local APIC after power-on: xAPIC mode, software-disabled.
    #[must_use]
    pub fn new(config: LapicConfig) -> Self {
        let base = DEFAULT_BASE | base::ENABLE | if config.bsp { base::BSP } else { 0 };
        Self {
            config,
            base,
            xapic_id: config.id as u8,
            tpr: 0,
            ldr: 0,
            flat: true,
            svr: 0xFF,
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: [0; 4],
            esr: 0,
            esr_log: 0,
            icr: 0,
            lvt: [LVT_MASKED; 6],
            timer: Timer::STOPPED,
            lint: [false; 2],
            ppr: 0,
            mode: Mode::XApic,
            accepting: false,
        }
    }

    /// Power-on reset. The levels of the pins stay, since others drive them.
    pub fn reset(&mut self) {
        let lint = self.lint;
        *self = Self { lint, ..Self::new(self.config) };
    }

    /// What INIT does: as reset, but IA32_APIC_BASE and the APIC ID stay.
    /// SDM 3A "Local APIC State After It Receives an INIT-Deassert/INIT IPI".
    pub fn init(&mut self) {
        let Self { base, xapic_id, mode, .. } = *self;
        self.reset();
        (self.base, self.xapic_id, self.mode) = (base, xapic_id, mode);
    }

    /// Who this APIC is on the bus. Changes are announced by [`LapicEffect::Address`], by writes
    /// to IA32_APIC_BASE, and by reset and INIT.
    #[must_use]
    pub fn address(&self) -> ApicAddress {
        let id = if self.mode == Mode::X2Apic { self.config.id } else { u32::from(self.xapic_id) };
        ApicAddress { mode: self.mode, id, ldr: self.ldr, flat: self.flat }
    }

    /// Whether a message to `dest` is for this APIC.
    #[must_use]
    pub fn matches(&self, dest: u32, logical: bool) -> bool {
        self.address().matches(dest, logical)
    }

    /// Takes a message that the board routed here.
    pub fn deliver(&mut self, message: &Message) -> Delivery {
        self.take(message.mode, message.vector, message.level)
    }

    /// Whether it accepts fixed interrupts: it is on, and enabled by software.
    #[inline]
    #[must_use]
    pub const fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Accepts a fixed interrupt. True when it is new in the IRR; one that is refused or already
    /// there is false.
    #[inline]
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.accepting {
            return false;
        }
        if vector < 16 {
            self.log_error(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        let new = !self.irr.contains(vector);
        self.irr.insert(vector);
        set_bit(&mut self.tmr, vector, level);
        new
    }

    /// Accepts many at once, as an inbox gathers them: bit `v % 64` of word `v / 64`.
    pub fn accept_all(&mut self, edge: &[u64; 4], level: &[u64; 4]) {
        if !self.accepting {
            return;
        }
        if (edge[0] | level[0]) & 0xFFFF != 0 {
            self.log_error(ESR_RECEIVE_ILLEGAL);
        }
        for (bits, triggered) in [(edge, false), (level, true)] {
            let legal = [bits[0] & !0xFFFF, bits[1], bits[2], bits[3]];
            self.irr.merge(&legal);
            for (word, bits) in self.tmr.iter_mut().zip(legal) {
                *word = if triggered { *word | bits } else { *word & !bits };
            }
        }
    }

    /// The vector that the CPU is to take next, when its interrupts are open.
    #[inline]
    #[must_use]
    pub fn pending_vector(&self) -> Option<u8> {
        let top = self.irr.top();
        if top >> 4 > self.ppr >> 4 { Some(top) } else { None }
    }

    /// The highest vector that is requested, and the highest in service; 0 for none.
    #[must_use]
    pub const fn highest(&self) -> (u8, u8) {
        (self.irr.top(), self.isr.top())
    }

    /// Whether any vector waits, be it held back or not.
    #[inline]
    #[must_use]
    pub const fn has_requests(&self) -> bool {
        self.irr.top() != 0
    }

    /// The priority class of a vector that only the task priority holds back: it can be taken once
    /// CR8 falls below this.
    #[must_use]
    pub fn held_back_class(&self) -> Option<u8> {
        let (top, serving) = (self.irr.top() >> 4, self.isr.top() >> 4);
        (top > serving && top <= self.tpr >> 4).then_some(top)
    }

    /// Moves the pending vector into service and returns it.
    #[inline]
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending_vector()?;
        self.irr.remove_top();
        self.isr.insert(vector);
        self.refresh_priority();
        Some(vector)
    }

    /// Moves a requested vector into service: the CPU has delivered it by itself.
    pub fn acknowledge_vector(&mut self, vector: u8) {
        self.irr.remove(vector);
        self.isr.insert(vector);
        self.refresh_priority();
    }

    /// Ends the highest interrupt in service. Returns its vector when the I/O APICs are to hear it.
    #[inline]
    pub fn eoi(&mut self) -> Option<u8> {
        let vector = self.isr.top();
        if vector == 0 {
            return None;
        }
        self.isr.remove_top();
        self.refresh_priority();
        if !get_bit(&self.tmr, vector) {
            return None;
        }
        self.end_local_level(vector);
        (self.svr & SVR_SUPPRESS_EOI == 0).then_some(vector)
    }

    /// The task-priority register; CR8 is its bits 7:4.
    #[inline]
    #[must_use]
    pub const fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Sets the task priority.
    #[inline]
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
        self.refresh_priority();
    }

    /// The processor-priority register, by which lowest-priority arbitration may compare.
    #[must_use]
    pub const fn ppr(&self) -> u8 {
        self.ppr
    }

    /// Tells the level of pin LINT0 (0) or LINT1 (1).
    pub fn set_lint(&mut self, pin: usize, level: bool) -> Delivery {
        let (Some(held), Some(lvt)) = (self.lint.get_mut(pin), [Lvt::Lint0, Lvt::Lint1].get(pin))
        else {
            return Delivery::Ignored;
        };
        let rises = level && !*held;
        *held = level;
        if !rises {
            return Delivery::Ignored;
        }
        if self.mode == Mode::Disabled {
            // SDM 3A "Local APIC State": the pins are then the CPU's own INTR and NMI.
            return if *lvt == Lvt::Lint0 { Delivery::ExtInt } else { Delivery::Nmi };
        }
        self.fire(*lvt)
    }

    /// Whether the 8259A's INTR on LINT0 reaches this CPU: virtual-wire mode, or a disabled APIC.
    #[inline]
    #[must_use]
    pub fn accepts_extint(&self) -> bool {
        let lint0 = self.lvt[Lvt::Lint0 as usize];
        self.mode == Mode::Disabled || lint0 & (LVT_MASKED | 0x700) == 0x700
    }

    /// Whether LINT0 is high and reaches this CPU as the 8259A's interrupt.
    #[must_use]
    pub fn extint_pending(&self) -> bool {
        self.lint[0] && self.accepts_extint()
    }

    /// A local event: performance-counter overflow, thermal sensor.
    pub fn fire(&mut self, lvt: Lvt) -> Delivery {
        let entry = self.lvt[lvt as usize];
        if self.mode == Mode::Disabled || entry & LVT_MASKED != 0 {
            return Delivery::Ignored;
        }
        if lvt == Lvt::Performance {
            // SDM 3B "Generating an Interrupt on Overflow": the entry masks itself.
            self.lvt[lvt as usize] |= LVT_MASKED;
        }
        let mode = match lvt {
            Lvt::Timer | Lvt::Error => DeliveryMode::Fixed,
            _ => DeliveryMode::from_bits(entry >> 8),
        };
        // SDM 3A "Local Vector Table": LINT1 is always edge-triggered.
        let level = lvt == Lvt::Lint0 && entry & LVT_LEVEL != 0 && mode == DeliveryMode::Fixed;
        if level {
            if entry & LVT_REMOTE_IRR != 0 {
                return Delivery::Ignored;
            }
            self.lvt[lvt as usize] |= LVT_REMOTE_IRR;
        }
        match mode {
            // An LVT entry starts no CPU, and knows no lowest priority.
            DeliveryMode::LowestPriority | DeliveryMode::StartUp => Delivery::Ignored,
            _ => self.take(mode, entry as u8, level),
        }
    }

    /// When the timer next has something to say.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let stopped = self.timer.deadline == Nanos::NEVER || self.lvt[0] & LVT_MASKED != 0;
        if stopped { None } else { Some(self.timer.deadline) }
    }

    /// Lets the timer reach `now`. True when it expired.
    #[inline]
    pub fn advance(&mut self, now: Nanos) -> bool {
        if now < self.timer.deadline || self.timer.deadline == Nanos::NEVER {
            return false;
        }
        self.timer.expire(TimerMode::of(self.lvt[0]), now);
        if self.lvt[0] & LVT_MASKED == 0 {
            self.accept(self.lvt[0] as u8, false);
        }
        true
    }

    fn take(&mut self, mode: DeliveryMode, vector: u8, level: bool) -> Delivery {
        if self.mode == Mode::Disabled {
            return Delivery::Ignored;
        }
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                self.accept(vector, level);
                Delivery::Accepted
            }
            DeliveryMode::Nmi => Delivery::Nmi,
            DeliveryMode::Init => Delivery::Init,
            DeliveryMode::StartUp => Delivery::StartUp(vector),
            DeliveryMode::ExtInt => Delivery::ExtInt,
            DeliveryMode::Smi | DeliveryMode::Reserved => Delivery::Ignored,
        }
    }

    /// SDM 3A "Task and Processor Priorities": the higher of task and service, by class.
    #[inline]
    fn refresh_priority(&mut self) {
        self.ppr = self.tpr.max(self.isr.top() & 0xF0);
    }

    /// An EOI lets a level-triggered LINT0 that is still high interrupt again.
    fn end_local_level(&mut self, vector: u8) {
        let entry = &mut self.lvt[Lvt::Lint0 as usize];
        if *entry & LVT_REMOTE_IRR != 0 && *entry as u8 == vector {
            *entry &= !LVT_REMOTE_IRR;
            self.resample_lint0();
        }
    }

    /// Takes a level-triggered fixed LINT0 that is high, unmasked and not yet taken.
    fn resample_lint0(&mut self) {
        let wanted = self.lvt[Lvt::Lint0 as usize] & (LVT_LEVEL | 0x700) == LVT_LEVEL;
        if self.lint[0] && wanted {
            let _ = self.fire(Lvt::Lint0);
        }
    }

    /// Notes an error; the first of its kind since the ESR was written raises the error interrupt.
    fn log_error(&mut self, error: u8) {
        if self.esr_log & error != 0 {
            return;
        }
        self.esr_log |= error;
        let entry = self.lvt[Lvt::Error as usize];
        if self.accepting && entry & LVT_MASKED == 0 {
            // A vector below 16 here would be another error with nowhere to go but the log.
            if entry as u8 >= 16 {
                self.irr.insert(entry as u8);
                set_bit(&mut self.tmr, entry as u8, false);
            } else {
                self.esr_log |= ESR_RECEIVE_ILLEGAL;
            }
        }
    }

    /// Follows a change of IA32_APIC_BASE or of the SVR.
    fn refresh_enables(&mut self) {
        self.mode = Mode::of(self.base);
        self.accepting = self.mode != Mode::Disabled && self.svr & SVR_ENABLED != 0;
    }
}
