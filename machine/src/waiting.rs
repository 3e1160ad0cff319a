//! What waits for a vCPU, for a person who looks at one that does not go on.

use crate::Machine;
use crate::cpu::Cpu;
use arch::Nanos;
use core::fmt;

/// What waits for one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The local APIC is with the CPU: what is said of it is from the time before.
    pub lent: bool,
    /// The highest vector that is requested, and the highest in service; 0 for none.
    pub vectors: (u8, u8),
    /// The processor priority.
    pub priority: u8,
    /// Something lies in its inbox.
    pub posted: bool,
    /// Its `evtchn_upcall_pending` is set.
    pub upcall: bool,
    /// Nanoseconds until its next timer; negative: since it was due.
    pub due: Option<i64>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Waiting { lent, vectors: (requested, in_service), priority, posted, upcall, due } =
            self;
        let lent = if *lent { " (lent)" } else { "" };
        write!(f, "apic{lent} irr {requested:02x} isr {in_service:02x} ppr {priority:02x} ")?;
        write!(f, "inbox {posted} upcall {upcall} timer ")?;
        match due {
            Some(due) => write!(f, "in {} us", due / 1000),
            None => f.write_str("none"),
        }
    }
}

impl Machine {
    /// What waits for a vCPU at `now`.
    #[must_use]
    pub fn waiting(&self, cpu: &Cpu, now: Nanos) -> Waiting {
        let due = cpu.due().map(|due| due.0.wrapping_sub(now.0) as i64);
        Waiting {
            lent: cpu.apic_lent,
            vectors: cpu.lapic.highest(),
            priority: cpu.lapic.ppr(),
            posted: self.posted(cpu.id).is_some_and(|posted| !posted.is_empty()),
            upcall: self.xen.as_ref().is_some_and(|xen| self.is_upcall_pending(xen, cpu.id)),
            due,
        }
    }
}
