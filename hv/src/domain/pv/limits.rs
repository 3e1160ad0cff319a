//! What guests may have of what they share, what they have of it, and a warning at 80 percent.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use pvdrivers::DomId;

use super::{PV, hub};
use crate::cpu::lock::IrqLock;
use crate::cpu::tsc;
use crate::domain::Domain;
use crate::domain::backend::Backend;
use crate::domain::sched::World;

/// Nanoseconds between two looks.
const PERIOD_NS: u64 = 500_000_000;

/// When to look next, as a TSC value.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// What was warned of, so that it is said once: a guest's number and the place of the limit.
static SAID: IrqLock<Vec<(usize, usize)>> = IrqLock::new(Vec::new());

/// One limit of a guest.
struct Share {
    what: &'static str,
    used: u64,
    limit: u64,
}

impl Share {
    /// 80 percent of it are used.
    fn is_high(&self) -> bool {
        self.used.saturating_mul(5) >= self.limit.saturating_mul(4)
    }

    /// Less than 60 percent are: a warning is due again when it rises.
    fn is_low(&self) -> bool {
        self.used.saturating_mul(5) < self.limit.saturating_mul(3)
    }
}

/// Event channels, grants and the store, in this order. What a guest has no part in is left out.
fn shares(dom: DomId) -> impl Iterator<Item = Share> {
    let share = |what, used: u64, limit: u64| Share { what, used, limit };
    let events = hub().events.lock().usage(dom);
    let grants = hub().grants.lock().usage(dom);
    let store = PV.get().map(|pv| {
        let pv = pv.lock();
        (pv.service.store.usage(dom), pv.service.store.quota(dom))
    });
    let ports = events.map(|usage| share("ports", usage.ports.into(), usage.limit.into()));
    let grants = grants.map(|usage| {
        [
            share("grant frames", usage.frames.into(), usage.max_frames.into()),
            share("mapped grants", usage.maps.into(), usage.max_maps.into()),
        ]
    });
    let store = store.map(|(usage, quota)| {
        [
            share("store nodes", usage.nodes.into(), quota.nodes.into()),
            share("store bytes", usage.memory as u64, quota.memory as u64),
            share("watches", usage.watches.into(), quota.watches.into()),
            share("transactions", usage.transactions.into(), quota.transactions.into()),
        ]
    });
    ports.into_iter().chain(grants.into_iter().flatten()).chain(store.into_iter().flatten())
}

/// What a guest has of its limits, for the monitor.
///
/// # Errors
/// `out`'s own.
pub fn report<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> fmt::Result {
    if domain.machine.xen().is_none() {
        return writeln!(out, "{}: no Xen interface", domain.name);
    }
    write!(out, "{}:", domain.name)?;
    for (n, Share { what, used, limit }) in shares(DomId(domain.id as u16)).enumerate() {
        write!(out, "{} {what} {used} of {limit}", if n == 0 { "" } else { "," })?;
    }
    writeln!(out)
}

/// Warns of limits that are nearly reached. CPU 0 looks when it looks after all guests anyway, twice a second at
/// most.
pub fn warn<B: Backend>(world: &World<B>) {
    let now = tsc::now();
    if now < NEXT.load(Ordering::Relaxed) {
        return;
    }
    NEXT.store(now + tsc::from_ns(PERIOD_NS), Ordering::Relaxed);
    for domain in world.domains.iter().filter(|domain| domain.machine.xen().is_some()) {
        for (place, share) in shares(DomId(domain.id as u16)).enumerate() {
            let mut said = SAID.lock();
            let known = said.iter().position(|known| *known == (domain.id, place));
            match known {
                Some(at) if share.is_low() => drop(said.swap_remove(at)),
                None if share.is_high() => {
                    said.push((domain.id, place));
                    drop(said);
                    let Share { what, used, limit } = share;
                    log::warn!("{}: {used} of {limit} {what} are used", domain.name);
                }
                _ => {}
            }
        }
    }
}
