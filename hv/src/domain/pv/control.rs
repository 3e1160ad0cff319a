//! Requests of people to guests by XenStore: shutdown, reboot, SysRq, vCPUs. Who does not answer is reported.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use pvdrivers::DomId;
use pvdrivers::bus::Request;
use pvdrivers::store::StoreError;

use super::super::backend::Backend;
use super::super::sched::{self, World};
use super::super::{Domain, State, console};
use super::{Pv, with_pv};
use crate::cpu::tsc;

/// How long a guest may take to clear `control/shutdown`; Linux's answer is a matter of milliseconds.
const ANSWER_NS: u64 = 10_000_000_000;

/// TSC at which a guest that was asked is overdue.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Asks a guest to shut down. False: it has no Xen drivers that would see it.
///
/// # Errors
/// What the store says.
pub fn ask<B: Backend>(domain: &Domain<B>, request: Request) -> Result<bool, StoreError> {
    let Some(xen) = domain.machine.xen() else { return Ok(false) };
    let due = tsc::now() + tsc::from_ns(ANSWER_NS);
    let asked = with_pv(domain, |pv| {
        let Pv { service, control, .. } = pv;
        if !xen.is_used() && !control.is_offered(&mut service.store, xen.domid, request) {
            return Ok(false);
        }
        control.ask(&mut service.store, xen.domid, request, due).map(|()| true)
    })?;
    if asked {
        want_by(due);
    }
    Ok(asked)
}

/// Presses a SysRq key. False as in [`ask`].
///
/// # Errors
/// What the store says.
pub fn sysrq<B: Backend>(domain: &Domain<B>, key: char) -> Result<bool, StoreError> {
    let Some(xen) = domain.machine.xen().filter(|xen| xen.is_used()) else { return Ok(false) };
    with_pv(domain, |pv| pv.control.sysrq(&mut pv.service.store, xen.domid, key).map(|()| true))
}

/// The first `count` vCPUs are plugged in from now on, and the guest is told: one with the board's devices by ACPI,
/// a PVH guest by XenStore.
///
/// # Errors
/// What the store says.
pub fn set_vcpus<B: Backend>(domain: &Domain<B>, count: usize) -> Result<(), StoreError> {
    // First plugged in, then told: what the guest starts at once must start.
    domain.machine.plug(domain, count);
    let Some(xen) = domain.machine.xen() else { return Ok(()) };
    with_pv(domain, |pv| pv.control.set_vcpus(&mut pv.service.store, xen.domid, count))
}

/// Presses a guest's power button, and looks later whether that was noticed. False: its ACPI is off.
pub fn press_power_button<B: Backend>(domain: &Domain<B>) -> bool {
    let due = tsc::now() + tsc::from_ns(ANSWER_NS);
    domain.button_due.store(due, Ordering::Relaxed);
    want_by(due);
    domain.machine.press_power_button(domain)
}

/// A guest whose power button is still down, as its chip says, has not noticed.
fn look_at_button<B: Backend>(domain: &Domain<B>) {
    let due = domain.button_due.load(Ordering::Relaxed);
    if due == u64::MAX {
        return;
    }
    if tsc::now() < due {
        want_by(due);
        return;
    }
    domain.button_due.store(u64::MAX, Ordering::Relaxed);
    let waits = console::guarded(domain, || domain.machine.power_button_waits());
    if domain.state() == State::Running && waits == Some(true) {
        log::warn!("{}: has not noticed the power button", domain.name);
    }
}

/// CPU 0 is to look at TSC value `due`.
fn want_by(due: u64) {
    DUE.fetch_min(due, Ordering::AcqRel);
    console::want_by(due);
}

/// Reports guests that have not answered. On CPU 0.
pub fn step<B: Backend>(world: &World<B>) {
    let due = DUE.load(Ordering::Acquire);
    if due == u64::MAX {
        return;
    }
    if tsc::now() < due {
        console::want_by(due);
        return;
    }
    DUE.store(u64::MAX, Ordering::Release);
    world.domains.iter().for_each(|domain| look_at_button(domain));
    let Some(any) = world.domains.first() else { return };
    let (late, next) = with_pv(any, |pv| {
        let Pv { service, control, .. } = pv;
        let late: Vec<_> =
            core::iter::from_fn(|| control.overdue(&mut service.store, tsc::now())).collect();
        (late, control.next_due())
    });
    for (dom, request) in late {
        if let Some(domain) = sched::domain::<B>(dom.0.into()) {
            let (name, word) = (&domain.name, request.word());
            log::warn!("{name}: does not answer the request to {word}");
        }
    }
    if let Some(due) = next {
        want_by(due);
    }
}

impl Pv {
    /// Guests have written where requests stand.
    pub(super) fn serve_control(&mut self) {
        for (dom, request) in self.control.poll(&mut self.service.store) {
            self.taken.push((dom, request));
        }
    }
}

/// A guest's nodes, a line each.
pub fn tree<B: Backend>(domain: &Domain<B>) -> String {
    let mut text = String::new();
    let Some(xen) = domain.machine.xen() else { return text };
    with_pv(domain, |pv| {
        let mut store = pv.service.store.local(pv.control.client());
        let mut waiting = Vec::from([format!("/local/domain/{}", xen.domid.0)]);
        while let Some(path) = waiting.pop() {
            let value = store.read(&path).unwrap_or_default();
            text.push_str(&format!("{path} = {value:?}\n"));
            let names = store.list(&path);
            waiting.extend(names.iter().rev().map(|name| format!("{path}/{name}")));
        }
    });
    text
}

/// Tells who has taken a request.
pub(super) fn report<B: Backend>(taken: Vec<(DomId, Request)>) {
    for (dom, request) in taken {
        if let Some(domain) = sched::domain::<B>(dom.0.into()) {
            log::info!("{}: takes the request to {}", domain.name, request.word());
        }
    }
}
