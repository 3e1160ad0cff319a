//! The monitor's `shutdown`, `reboot`, `sysrq` and `vcpu-set`: what a guest is asked to do itself.

use core::fmt::Write;

use pvdrivers::bus::Request;
use pvdrivers::store::StoreError;

use super::command::{BROKEN, ENDED, Refusal, USAGE, Words};
use crate::domain::backend::Backend;
use crate::domain::pv::control;
use crate::domain::{Domain, State, console};

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal::Told(alloc::format!("XenStore refuses: {error:?}"))
    }
}

const NO_DRIVERS: &str = "the guest has no Xen drivers";

/// Refuses guests that cannot answer now.
pub(super) fn alive<B: Backend>(domain: &Domain<B>) -> Result<(), Refusal> {
    match domain.state() {
        State::Dead => Err(ENDED),
        State::Paused => Err("the guest is paused; see resume".into()),
        State::Running | State::Stopping => Ok(()),
    }
}

/// `shutdown [GUEST]`, `reboot [GUEST]`: by XenStore, or else by the power button, as `xl shutdown -F`.
pub(super) fn ask<B: Backend>(
    domain: &Domain<B>,
    request: Request,
    out: &mut dyn Write,
) -> Result<(), Refusal> {
    alive(domain)?;
    let asked = console::guarded(domain, || control::ask(domain, request)).ok_or(BROKEN)??;
    if asked {
        let word = request.word();
        return Ok(writeln!(out, "{}: asked by XenStore to {word}", domain.name)?);
    }
    if request == Request::Reboot {
        return Err(Refusal::Told(alloc::format!(
            "{NO_DRIVERS}, and the power button does not restart it; see reset"
        )));
    }
    let acpi = console::guarded(domain, || control::press_power_button(domain)).ok_or(BROKEN)?;
    writeln!(out, "{}: {NO_DRIVERS}: the ACPI power button was pressed", domain.name)?;
    if !acpi {
        writeln!(out, "{}: its ACPI is off, so it may not notice", domain.name)?;
    }
    Ok(())
}

/// `sysrq [GUEST] KEY`.
pub(super) fn sysrq<B: Backend>(domain: &Domain<B>, words: &mut Words<'_>) -> Result<(), Refusal> {
    let word = words.next().ok_or(USAGE)?;
    let (&[key], None) = (word.as_bytes(), words.next()) else { return Err(USAGE) };
    if !key.is_ascii_alphanumeric() {
        return Err("a SysRq key is a letter or a digit".into());
    }
    alive(domain)?;
    let key = char::from(key);
    let pressed = console::guarded(domain, || control::sysrq(domain, key)).ok_or(BROKEN)??;
    if pressed { Ok(()) } else { Err(NO_DRIVERS.into()) }
}

/// `vcpu-set [GUEST] N`: by XenStore and by ACPI; a guest hears of one of them.
pub(super) fn set_vcpus<B: Backend>(
    domain: &Domain<B>,
    words: &mut Words<'_>,
    out: &mut dyn Write,
) -> Result<(), Refusal> {
    let count = words.next().and_then(|word| word.parse::<usize>().ok()).ok_or(USAGE)?;
    if words.next().is_some() {
        return Err(USAGE);
    }
    let most = domain.slots.len();
    if !(1..=most).contains(&count) {
        return Err(Refusal::Told(alloc::format!("allowed is 1 to {most}, its maxvcpus")));
    }
    alive(domain)?;
    console::guarded(domain, || control::set_vcpus(domain, count)).ok_or(BROKEN)??;
    Ok(writeln!(out, "{}: {count} of {most} vCPUs", domain.name)?)
}
