//! The parts of `bench pv` in which stock Linux does the work: its disk and its boot.

use super::super::{measured, plan};
use super::table::Row;
use crate::config::Value;
use crate::guests::{self, Media, initramfs, own, packages::Packages, selfcheck};
use crate::outcome::{Outcome, Verdict};
use crate::plan::{Guest, Step, Vendor};
use crate::setup::{self, Need};
use crate::{cpio, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// What `tests/programs/bench-reads` measures, in words, and the most that it should cost.
const READS: &[(&str, &str, Option<u64>)] = &[
    ("disk_4k_1", "Linux reads 4 KiB of its disk, depth 1", Some(20_000)),
    ("disk_4k_32", "Linux reads 4 KiB of its disk, depth 32", None),
    ("disk_64k_1", "Linux reads 64 KiB of its disk, depth 1", None),
    ("disk_64k_32", "Linux reads 64 KiB of its disk, depth 32", None),
    ("disk_1m_1", "Linux reads 1 MiB of its disk, depth 1", None),
    ("disk_1m_32", "Linux reads 1 MiB of its disk, depth 32", None),
];

/// Bytes of the disk: small enough that the hypervisor has it in memory.
const DISK: usize = 40 << 20;

const PROMPT: &str = "xenolith-guest#";

/// Debian's cloud kernel, started by the hypervisor: what its loader would cost is not asked here.
fn kernel(append: &str, offline: bool) -> Result<Media> {
    setup::ensure(&[Need::Packages, Need::Images], offline)?;
    let packages = Packages::open(offline)?;
    guests::prepare(&packages, &format!("kernel:cloud-amd64:quiet {append}"), offline)
}

/// An error if a run did not come to the end of its steps.
fn passed(outcome: &Outcome, guest: &str) -> Result<()> {
    if !matches!(outcome.verdict, Verdict::Passed(_)) {
        let (word, why) = outcome.verdict.words();
        let said = said(outcome, guest);
        let last = said.lines().last().unwrap_or("nothing");
        bail!("{word}: {why}; the guest last said: {last}");
    }
    Ok(())
}

/// What a guest wrote to its serial port.
fn said(outcome: &Outcome, guest: &str) -> String {
    let serial = outcome.guests.get(guest).map(|guest| guest.serial.as_slice());
    String::from_utf8_lossy(serial.unwrap_or_default()).into_owned()
}

fn until(text: &str) -> Step {
    Step::Until(vec![text.to_owned()])
}

/// Reads of a paravirtual disk whose back end has it in memory, so that nothing waits.
pub fn disk(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    let mut media = kernel("", offline)?;
    let initrd = media.initrd.take().context("Linux without an initramfs")?;
    let mut archive = cpio::Archive::new();
    archive.directory("bin");
    archive.file("bin/bench-reads", 0o755, &own::program("bench-reads", offline)?);
    // Linux unpacks one archive behind the other.
    let both = [fs::read(initrd)?, initramfs::compress(&archive.finish())?].concat();
    let place = guests::media_dir()?.join("bench-initramfs.gz");
    guests::write_if_changed(&place, &both)?;
    media.initrd = Some(place);
    let mut bytes = vec![0; DISK];
    selfcheck::fill(&mut bytes);
    let place = guests::media_dir()?.join("bench.disk");
    guests::write_if_changed(&place, &bytes)?;
    media.disks.push(place);
    let steps = vec![until(PROMPT), Step::Send("bench-reads\n".into()), until("@bench-end")];
    let mut plan = plan(vendor, vec![Guest::new("disk", 256, 1, media)], "", steps);
    plan.never.extend(["@bench-fail".into(), "Kernel panic".into()]);
    let outcome = run::execute(&plan, Some(image), offline, None)?;
    let (measured, _) = measured(vendor.name(), &said(&outcome, "disk"));
    rows.extend(super::rows_of(vendor.name(), READS, &measured));
    passed(&outcome, "disk")
}

/// From the machine's reset to the first line of Linux' initramfs.
pub fn boot(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    for (xen, what) in [(1, "boot to init with Xen's interface"), (0, "boot to init, xen = 0")] {
        let mut guest = Guest::new("boot", 256, 1, kernel("", offline)?);
        guest.settings.push(("xen".into(), Value::Number(xen)));
        let plan = plan(vendor, vec![guest], "", vec![until("XENOLITH-GUEST-INIT")]);
        let outcome = run::execute(&plan, Some(image), offline, None)?;
        passed(&outcome, "boot").context(what)?;
        let count = outcome.instructions.context("QEMU counted no instructions")?;
        rows.push(Row::count(vendor.name(), what, count));
    }
    Ok(())
}
