//! The parts of `bench pv` in which stock Linux does the work: its disk, its boot, its network.
//! Where the machine may wait for the outside, QEMU's own count is taken: the TSC goes on while the
//! CPU halts, that count does not.

use super::super::{measured, plan};
use super::table::Row;
use crate::config::Value;
use crate::guests::{self, Media, initramfs, own, packages::Packages, selfcheck};
use crate::outcome::{Outcome, Verdict};
use crate::plan::{Guest, Plan, Step, Vendor};
use crate::setup::{self, Need};
use crate::{cpio, run, server};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

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
/// Bytes that a stream carries.
const STREAM: u64 = 64 << 20;
/// Pings beyond the first.
const PINGS: u64 = 200;

const PROMPT: &str = "xenolith-guest#";
const PACKETS: &str = "packets a million instructions";
const BYTES: &str = "bytes a million instructions";

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

/// A guest and what is outside of the machine.
pub fn outside(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    let port = server::start(None)?;
    let guest = Guest::new("net", 256, 1, kernel("address=10.0.2.15/24", offline)?).with_network();
    let mut script = Script::with_pings("10.0.2.2");
    script.count(&format!("wget -q -O /dev/null http://10.0.2.2:{port}/data"));
    // With -e the program writes to the connection itself: no copy by nc.
    let header = format!("POST / HTTP/1.0\\r\\nContent-Length: {STREAM}\\r\\n\\r\\n");
    let post = format!("printf '{header}'; cat /tmp/data; cat >/tmp/answer");
    script.run(&format!("head -c {STREAM} /dev/zero >/tmp/data"));
    script.run(&format!("echo \"{post}\" >/tmp/post"));
    script.count(&format!("nc 10.0.2.2 {port} -e sh /tmp/post"));
    let plan = plan(vendor, vec![guest], "", script.0);
    network(plan, image, offline, "outside", rows, &["TCP in, from outside", "TCP out, to outside"])
}

/// Two guests.
pub fn between(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    let first = Guest::new("net", 256, 1, kernel("address=10.0.2.15/24", offline)?).with_network();
    let media = kernel("address=10.0.2.16/24 xenolith=receive", offline)?;
    let second = Guest::new("peer", 256, 1, media).with_network();
    let mut script = Script::with_pings("10.0.2.16");
    script.run(&format!("head -c {STREAM} /dev/zero >/tmp/data"));
    script.count("nc 10.0.2.16 9001 -e cat /tmp/data");
    let plan = plan(vendor, vec![first, second], "", script.0);
    network(plan, image, offline, "another guest", rows, &["TCP to another guest"])
}

/// Commands at a guest's prompt. Each is followed by a text of its own, since what was seen on one
/// port may come once more by another; and the shell puts that text together, since it echoes.
struct Script(Vec<Step>);

impl Script {
    /// The way to a prompt and to a neighbour who answers; then one ping, and many.
    fn with_pings(address: &str) -> Script {
        let mut script = Script(vec![until(PROMPT)]);
        script.run(&format!("until ping -c 1 -W 2 {address}; do sleep 1; done"));
        script.count(&format!("ping -q -A -c 1 {address}"));
        script.count(&format!("ping -q -A -c {} {address}", PINGS + 1));
        script
    }

    /// A command, from prompt to prompt.
    fn run(&mut self, command: &str) {
        let number = self.0.len();
        self.0.push(Step::Send(format!("{command} && echo ended-$(({number} + 1)).\n")));
        self.0.push(until(&format!("ended-{}.", number + 1)));
    }

    /// A command between two counts.
    fn count(&mut self, command: &str) {
        self.0.push(Step::Count);
        self.run(command);
        self.0.push(Step::Count);
    }
}

/// What a run found of pings to `whom` and of streams.
fn network(
    mut plan: Plan,
    image: &Path,
    offline: bool,
    whom: &str,
    rows: &mut Vec<Row>,
    streams: &[&str],
) -> Result<()> {
    plan.stall = Some(Duration::from_secs(90));
    let outcome = run::execute(&plan, Some(image), offline, None)?;
    rows.extend(rows_of(plan.host.vendor.name(), whom, &outcome.counts, streams));
    passed(&outcome, "net")
}

/// The counts come in pairs: one ping, many pings, each of the streams. What is missing is no row.
fn rows_of(vendor: &'static str, whom: &str, counts: &[u64], streams: &[&str]) -> Vec<Row> {
    let spent: Vec<u64> =
        counts.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let million = |what: u64, spent: u64| what as f64 * 1e6 / spent.max(1) as f64;
    let mut rows = Vec::new();
    if let [one, many, ..] = spent[..] {
        let pings = many.saturating_sub(one);
        rows.push(Row::count(vendor, &format!("ping to {whom}, there and back"), pings / PINGS));
        let what = format!("ping packets to {whom} and back");
        rows.push(Row::figure(vendor, &what, million(2 * PINGS, pings), PACKETS));
    }
    for (what, &spent) in streams.iter().zip(spent.iter().skip(2)) {
        rows.push(Row::figure(vendor, what, million(STREAM, spent), BYTES));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_counts_become_rows_as_far_as_they_go() {
        // 10 million for one ping, 30 million for all of them, 64 million for a stream.
        let counts = [0, 10_000_000, 20_000_000, 50_000_000, 60_000_000, 124_000_000, 130_000_000];
        let rows = rows_of("svm", "outside", &counts, &["in", "out"]);
        let figures: Vec<f64> = rows.iter().filter_map(|row| row.figure).collect();
        assert_eq!(figures, [100_000.0, 20.0, (1 << 20) as f64]);
        assert_eq!(rows[2].op, "in");
        assert!(rows_of("svm", "outside", &counts[..3], &["in"]).is_empty());
    }
}
