//! The monitor's `eject` and `insert`: what is in a guest's CD and floppy drives.

use core::fmt::Write;

use alloc::format;
use machine::config::{Target, Vdev};
use machine::{ChangeError, Drive};

use super::command::{BROKEN, Refusal, USAGE, Words};
use crate::domain::backend::Backend;
use crate::domain::sched::World;
use crate::domain::{Domain, build, console, pv};

/// Names of the drives' places, by slot.
const PLACES: [&str; machine::SLOTS] = ["hda", "hdb", "hdc", "hdd", "fda", "fdb"];

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Refusal {
        Refusal::Because(match error {
            ChangeError::NoDrive => "the guest has no such drive; see info",
            ChangeError::Fixed => "that is a hard disk; only CD and floppy drives open",
            ChangeError::Locked => {
                "the guest has locked the drive; it was told, so try again, or add the word force"
            }
            ChangeError::Format => "the drive does not read floppies of this size",
        })
    }
}

/// `eject [GUEST] DEVICE [force]`.
pub(super) fn eject<B: Backend>(domain: &Domain<B>, words: &mut Words<'_>) -> Result<(), Refusal> {
    let slot = place(words)?;
    change(domain, slot, None, forced(words)?)
}

/// `insert [GUEST] DEVICE MEDIUM [force]`.
pub(super) fn insert<B: Backend>(
    world: &World<B>,
    domain: &Domain<B>,
    words: &mut Words<'_>,
) -> Result<(), Refusal> {
    let slot = place(words)?;
    let target = Target::parse(words.next().ok_or(USAGE)?).ok_or(USAGE)?;
    let force = forced(words)?;
    let writable = slot >= 4;
    let medium = build::open(&world.files, &target, writable, domain.snapshot);
    let medium = medium.map_err(|why| Refusal::Told(format!("{why}")))?.ok_or(USAGE)?;
    change(domain, slot, Some(medium), force)
}

/// The drive that the next word names.
fn place(words: &mut Words<'_>) -> Result<usize, Refusal> {
    let device = words.next().ok_or(USAGE)?;
    Vdev::parse(device).and_then(Vdev::slot).ok_or(ChangeError::NoDrive.into())
}

fn forced(words: &mut Words<'_>) -> Result<bool, Refusal> {
    match words.next() {
        None => Ok(false),
        Some("force") => Ok(true),
        Some(_) => Err(USAGE),
    }
}

fn change<B: Backend>(
    domain: &Domain<B>,
    slot: usize,
    mut medium: Option<crate::domain::disk::Medium>,
    force: bool,
) -> Result<(), Refusal> {
    let media = match (&medium, domain.machine.drives().get(slot).copied().flatten()) {
        (None, _) => None,
        (Some(medium), Some(drive)) => {
            let media = build::removable(&drive, medium.sectors());
            Some(media.map_err(|why| Refusal::Told(format!("{why}")))?)
        }
        (Some(_), None) => return Err(ChangeError::NoDrive.into()),
    };
    // The old medium is given back after the machine's locks are.
    let swap = || core::mem::swap(&mut *domain.disks[slot].lock(), &mut medium);
    let change = || {
        domain.machine.change_medium(slot, media.as_ref(), force, swap)?;
        pv::medium_changed(domain, slot);
        Ok::<(), ChangeError>(())
    };
    console::guarded(domain, change).ok_or(BROKEN)??;
    Ok(())
}

/// A line for each drive.
pub(super) fn drives<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> Result<(), Refusal> {
    for (drive, place) in domain.machine.drives().iter().zip(PLACES) {
        let (kind, media) = match drive {
            None => continue,
            Some(Drive::Disk(media)) => ("disk", Some(media)),
            Some(Drive::Cdrom(media)) => ("CD drive", media.as_ref()),
            Some(Drive::Floppy(_, media)) => ("floppy drive", media.as_ref()),
        };
        match media {
            Some(media) => writeln!(out, "{place}: {kind}, {} KiB", media.sectors / 2)?,
            None => writeln!(out, "{place}: {kind}, empty")?,
        }
    }
    Ok(())
}
