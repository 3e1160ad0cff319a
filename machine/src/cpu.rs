//! What belongs to one vCPU besides its registers: local APIC, MSRs, counters. No lock: its owner is
//! the CPU that runs it.

use crate::insn::cache::InsnCache;
use crate::memmap::LAPIC;
use crate::msrs::Msrs;
use crate::stats::Stats;
use crate::xen::XenTimer;
use arch::Nanos;
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
    /// An NMI waits.
    pub(crate) nmi: bool,
    /// Interrupts are to be looked at before the next entry.
    pub(crate) attention: bool,
    /// When the local APIC's timer is due.
    pub(crate) lapic_due: Option<Nanos>,
    /// Page number of the local APIC's registers; `u64::MAX` where they are not in memory.
    pub(crate) lapic_page: u64,
    /// The CPU has task priority, requests and vectors in service: see `apic`.
    pub(crate) apic_lent: bool,
    /// What the guest reads in the CPU's page besides is as the chip has it, and so is what the CPU does of it.
    pub(crate) apic_shown: bool,
    /// Timers of Xen's interface.
    pub(crate) xen: XenTimer,
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
            nmi: false,
            attention: true,
            lapic_due: None,
            lapic_page: LAPIC >> 12,
            apic_lent: false,
            apic_shown: false,
            xen: XenTimer::default(),
        }
    }

    /// When one of its timers (the local APIC's, or Xen's) wants [`Cpu::wake`].
    #[must_use]
    #[inline]
    pub fn due(&self) -> Option<Nanos> {
        match (self.lapic_due, self.xen.due()) {
            (Some(lapic), Some(xen)) => Some(lapic.min(xen)),
            (lapic, xen) => lapic.or(xen),
        }
    }

    /// Interrupts and timers are looked at before the next entry: after a host interrupt, or a pause.
    #[inline]
    pub fn wake(&mut self) {
        self.attention = true;
    }

    /// As after power-on, counters kept.
    pub fn reset(&mut self) {
        self.lapic.reset();
        self.activity = if self.id == 0 { Activity::Running } else { Activity::WaitForSipi };
        self.msrs = Msrs::default();
        self.nmi = false;
        self.attention = true;
        self.lapic_due = None;
        self.lapic_page = LAPIC >> 12;
        (self.apic_lent, self.apic_shown) = (false, false);
        self.xen = XenTimer::default();
    }
}
