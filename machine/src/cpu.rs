//! What belongs to one vCPU besides its registers: local APIC, MSRs, counters. No lock: its owner is
//! the CPU that runs it.

use crate::insn::cache::InsnCache;
use crate::memmap::LAPIC;
use crate::msrs::Msrs;
use crate::stats::Stats;
use crate::xen::{ArgPages, XenTimer};
use arch::{Nanos, Posted, Why};
use devmodel::lapic::{LapicConfig, LocalApic};

/// Whether a vCPU executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs.
    Running,
    /// HLT: until an interrupt, NMI or INIT.
    Halted,
    /// After INIT: until a start-up.
    WaitForSipi,
    /// A BIOS service or device waits for the host's disk.
    WaitForDisk,
    /// `SCHEDOP_poll`: until an event, or a time.
    Polling,
}

/// One vCPU's own state.
pub struct Cpu {
    /// Number, from 0; also its initial APIC ID.
    pub id: usize,
    /// Local APIC.
    pub lapic: LocalApic,
    /// Whether it executes.
    pub activity: Activity,
    /// Exit counters and trace.
    pub stats: Stats,
    pub(crate) msrs: Msrs,
    pub(crate) cache: InsnCache,
    /// NMIs that wait, 0 to 2.
    pub(crate) nmis: u8,
    /// Interrupts are to be looked at before the next entry.
    pub(crate) attention: bool,
    /// When the local APIC's timer is due.
    pub(crate) lapic_due: Option<Nanos>,
    /// Page number of the local APIC's registers; `u64::MAX` where they are not in memory.
    pub(crate) lapic_page: u64,
    /// The CPU has task priority, requests and vectors in service: see `apic`.
    pub(crate) apic_lent: bool,
    /// The vector of it that was offered, where that is all that the CPU has.
    pub(crate) offered: Option<u8>,
    /// What the guest reads in the CPU's page besides is as the chip has it, and so is what the CPU does of it.
    pub(crate) apic_shown: bool,
    /// Timers of Xen's interface.
    pub(crate) xen: XenTimer,
    /// Where arguments of hypercalls lay.
    pub(crate) arg_pages: ArgPages,
    /// Why the guest stops, as the last exit found; `attention` says that there is something.
    why: Option<Why>,
}

impl Cpu {
    /// A vCPU after power-on. All but number 0 wait for a start-up.
    #[must_use]
    pub fn new(id: usize, physical_bits: u8) -> Cpu {
        let config = LapicConfig {
            id: id as u32,
            bsp: id == 0,
            x2apic: true,
            tsc_deadline: true,
            suppress_eoi: false,
            physical_bits,
        };
        Cpu {
            id,
            lapic: LocalApic::new(config),
            activity: if id == 0 { Activity::Running } else { Activity::WaitForSipi },
            stats: Stats::default(),
            msrs: Msrs::default(),
            cache: InsnCache::default(),
            nmis: 0,
            attention: true,
            lapic_due: None,
            lapic_page: LAPIC >> 12,
            apic_lent: false,
            offered: None,
            apic_shown: false,
            xen: XenTimer::default(),
            arg_pages: ArgPages::default(),
            why: None,
        }
    }

    /// When one of its timers (the local APIC's, or Xen's) wants [`Cpu::wake`].
    #[must_use]
    #[inline]
    pub fn due(&self) -> Option<Nanos> {
        let due = self.soonest();
        (due != Nanos::NEVER).then_some(due)
    }

    /// The same; [`Nanos::NEVER`] for none.
    #[must_use]
    #[inline]
    pub fn soonest(&self) -> Nanos {
        self.lapic_due.unwrap_or(Nanos::NEVER).min(self.xen.due())
    }

    /// Interrupts and timers are looked at before the next entry: after a host interrupt, or a pause.
    #[inline]
    pub fn wake(&mut self) {
        self.attention = true;
    }

    /// Whether the vCPU can be entered as it is: it runs, nothing came for it (`posted` is [`Machine::posted`] of it), and
    /// [`Machine::before_entry`] has nothing to look at. [`Cpu::due`] has not changed then either.
    ///
    /// [`Machine::posted`]: crate::Machine::posted
    /// [`Machine::before_entry`]: crate::Machine::before_entry
    #[must_use]
    #[inline(always)]
    pub fn is_calm(&self, posted: &Posted) -> bool {
        !self.attention && posted.is_empty()
    }

    /// The guest stops by what this vCPU did.
    #[cold]
    pub(crate) fn end(&mut self, why: Why) {
        self.why = Some(why);
        self.attention = true;
    }

    /// Why the guest stops, if the last exit found that it does.
    #[inline]
    pub fn ended(&mut self) -> Option<Why> {
        if self.why.is_none() { None } else { self.why.take() }
    }

    /// As after power-on, counters kept.
    pub fn reset(&mut self) {
        self.lapic.reset();
        self.activity = if self.id == 0 { Activity::Running } else { Activity::WaitForSipi };
        self.msrs = Msrs::default();
        self.nmis = 0;
        self.attention = true;
        self.lapic_due = None;
        self.lapic_page = LAPIC >> 12;
        (self.apic_lent, self.apic_shown) = (false, false);
        self.xen = XenTimer::default();
        self.why = None;
    }
}
