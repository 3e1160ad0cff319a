//! `cargo xtask bench`: counts instructions, not seconds, so that figures repeat on any machine.
//! QEMU counts one TSC tick per instruction (`-icount shift=0`); Bochs always does.

mod pv;

use crate::cli::{BenchArgs, BenchWhat};
use crate::config::Value;
use crate::exec::say;
use crate::guests::{self, Media, packages::Packages};
use crate::outcome::{Measured, Outcome, Verdict};
use crate::plan::{Accel, Display, Emulator, Guest, Host, Plan, Step, Vendor};
use crate::setup::{self, Need};
use crate::{build, run};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Carries out the command; gives the exit status.
pub fn command(args: &BenchArgs) -> Result<u8> {
    pv::check(args)?;
    let image = build::hypervisor(args.hypervisor.as_deref(), args.offline)?;
    let vendors = match args.vendor {
        Vendor::Auto => vec![Vendor::Svm, Vendor::Vmx],
        vendor => vec![vendor],
    };
    match args.what {
        BenchWhat::Exits => {
            let mut all = Vec::new();
            for vendor in vendors {
                let (measured, why) = exits(vendor, &image, args.offline)?;
                if let Some(why) = why {
                    bail!(why);
                }
                all.extend(measured);
            }
            print(&all, args.json);
        }
        BenchWhat::Boot => boot(&image, args)?,
        BenchWhat::Pv => return pv::command(&vendors, &image, args),
    }
    Ok(0)
}

fn plan(vendor: Vendor, guests: Vec<Guest>, hv_append: &str, steps: Vec<Step>) -> Plan {
    Plan {
        guests,
        host: Host {
            vendor,
            emulator: Emulator::Auto,
            accel: Accel::Tcg,
            cpus: 1,
            display: Display::None,
            icount: vendor != Vendor::Vmx,
            cpu_model: None,
            card: None,
        },
        raw: Vec::new(),
        media: Vec::new(),
        snapshot: true,
        bare: false,
        hv_append: hv_append.to_owned(),
        steps,
        never: Vec::new(),
        timeout: Some(Duration::from_secs(1200)),
        stall: Some(Duration::from_secs(300)),
        interactive: false,
        attended: false,
    }
}

/// Boots the bench guest as a hard disk with a CD beside it. Two vCPUs on one CPU: the second is
/// started for the interrupts between them, at the end.
fn exits(vendor: Vendor, image: &Path, offline: bool) -> Result<(Vec<Measured>, Option<String>)> {
    let media = Media {
        disks: vec![guests::own::image("bench", offline)?],
        iso: Some(disc()?),
        ..Media::default()
    };
    let guest = Guest::new("bench", 64, 2, media);
    let (measured, why, memory) = own_guest(vendor, image, offline, guest)?;
    let image_kib = fs::metadata(image)?.len().div_ceil(1024);
    say(format!("image: {image_kib} KiB; the guest costs {memory}"));
    Ok((measured, why))
}

/// Boots a guest kernel of ours that measures, and reads what it says on its serial port. Gives what
/// was measured, why the guest did not come to its end if it did not, and what memory it costs.
fn own_guest(
    vendor: Vendor,
    image: &Path,
    offline: bool,
    mut guest: Guest,
) -> Result<(Vec<Measured>, Option<String>, String)> {
    let name = guest.name.clone();
    say(format!("measuring operations on {}, by {name}", vendor.name()));
    guest.settings.push(("boot".into(), Value::Text("cd".into())));
    let steps = vec![Step::Until(vec![format!("XENOLITH-TEST PASS {name}")])];
    let mut plan = plan(vendor, vec![guest], "", steps);
    plan.never.push("XENOLITH-TEST FAIL".into());
    let outcome = run::execute(&plan, Some(image), offline, None)?;
    let serial = outcome.guests.get(&name).map(|guest| guest.serial.as_slice());
    let said = String::from_utf8_lossy(serial.unwrap_or_default()).into_owned();
    let (measured, skipped) = measured(vendor.name(), &said);
    for line in skipped {
        say(format!("not measured on {}: {line}", vendor.name()));
    }
    let why = (!matches!(outcome.verdict, Verdict::Passed(_))).then(|| {
        let (word, why) = outcome.verdict.words();
        let last = said.lines().last().unwrap_or("nothing");
        format!("{name} on {} did not end ({word}: {why}); it last said: {last}", vendor.name())
    });
    let memory = outcome.log.iter().find_map(|line| line.split_once("vCPUs, "));
    let memory = memory.map_or("an unknown amount of memory", |(_, what)| what).to_owned();
    Ok((measured, why, memory))
}

/// A CD of a mebibyte with nothing on it: a drive without one has nothing to read.
fn disc() -> Result<PathBuf> {
    const SECTOR: usize = 2048;
    let mut disc = vec![0u8; 512 * SECTOR];
    // ECMA-119 "Volume Descriptors": a primary one, and the one that ends the set.
    for (sector, kind) in [(16, 1), (17, 255)] {
        disc[sector * SECTOR] = kind;
        disc[sector * SECTOR + 1..][..6].copy_from_slice(b"CD001\x01");
    }
    disc[16 * SECTOR + 80..][..4].copy_from_slice(&512u32.to_le_bytes());
    let place = guests::media_dir()?.join("bench.iso");
    guests::write_if_changed(&place, &disc)?;
    Ok(place)
}

/// What the bench guest's lines say (`tests/guests/bench`), and what it says it could not measure.
fn measured(vendor: &str, said: &str) -> (Vec<Measured>, Vec<String>) {
    let (mut all, mut skipped) = (Vec::new(), Vec::new());
    for line in said.lines().map(str::trim_end) {
        if let Some(rest) = line.strip_prefix("@bench-skip ") {
            skipped.push(rest.to_owned());
        }
        let Some(rest) = line.strip_prefix("@bench-op ") else { continue };
        let words: Vec<&str> = rest.split(' ').collect();
        if let [op, total, guest] = words[..]
            && let (Ok(total), Ok(guest)) = (total.parse::<u64>(), guest.parse::<u64>())
        {
            let root = total.saturating_sub(guest);
            all.push(Measured { vendor: vendor.into(), op: op.into(), root, total });
        }
    }
    (all, skipped)
}

fn print(all: &[Measured], as_json: bool) {
    if as_json {
        println!("{}", json!(all));
        return;
    }
    println!("{:<7} {:<28} {:>12} {:>12}", "vendor", "op", "root", "total");
    for row in all {
        println!("{:<7} {:<28} {:>12} {:>12}", row.vendor, row.op, row.root, row.total);
    }
}

/// Reset to the initramfs's first line, with and without hypervisor, with the kernel's messages on
/// the serial port and without.
fn boot(image: &Path, args: &BenchArgs) -> Result<()> {
    setup::ensure(&[Need::Packages, Need::Images, Need::Qemu], args.offline)?;
    let packages = Packages::open(args.offline)?;
    let mut results = Vec::new();
    for (name, recipe) in
        [("serial log", "linux:cloud-amd64"), ("quiet", "linux:cloud-amd64:quiet")]
    {
        let media = guests::prepare(&packages, recipe, args.offline)?;
        let guest = Guest::new("bench", 512, 1, media);
        let steps = vec![Step::Until(vec!["XENOLITH-GUEST-INIT".into()])];
        let mut plan = plan(Vendor::Svm, vec![guest], "", steps);
        let with = measure(&plan, Some(image), args.offline, name)?;
        plan.bare = true;
        let without = measure(&plan, None, args.offline, name)?;
        let (a, b) = (with.instructions.unwrap_or(0), without.instructions.unwrap_or(0));
        let guests = with.guests.values();
        let exits: u64 = guests.flat_map(|guest| guest.exits.iter().map(|exit| exit.count)).sum();
        results.push(json!({
            "boot": name, "vendor": "svm", "instructions": a, "bare": b,
            "ratio": a as f64 / (b.max(1)) as f64, "exits": exits,
        }));
    }
    if args.json {
        println!("{}", json!(results));
        return Ok(());
    }
    println!("{:<12} {:>16} {:>16} {:>8} {:>10}", "boot", "instructions", "bare", "ratio", "exits");
    for row in &results {
        println!(
            "{:<12} {:>16} {:>16} {:>8.3} {:>10}",
            row["boot"].as_str().unwrap_or(""),
            row["instructions"],
            row["bare"],
            row["ratio"].as_f64().unwrap_or(0.0),
            row["exits"]
        );
    }
    Ok(())
}

fn measure(plan: &Plan, image: Option<&Path>, offline: bool, name: &str) -> Result<Outcome> {
    let outcome = run::execute(plan, image, offline, None)?;
    let how = if plan.bare { "without hypervisor" } else { "with hypervisor" };
    if !matches!(outcome.verdict, Verdict::Passed(_)) {
        let (word, why) = outcome.verdict.words();
        bail!("the boot {how} ({name}) did not come to init: {word}: {why}");
    }
    outcome.instructions.context("QEMU counted no instructions")?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_guests_lines_become_figures_and_what_it_skips_is_told() {
        let said = "XENOLITH-TEST START bench\r\n@bench-empty 3\r\n@bench-op cpuid 204 4\r\n\
                    @bench-range cpuid 200 210 64\r\n@bench-op broken x 4\r\n\
                    @bench-skip ipi one CPU\r\n";
        let (all, skipped) = measured("svm", said);
        let cpuid = Measured { vendor: "svm".into(), op: "cpuid".into(), root: 200, total: 204 };
        assert_eq!(all, [cpuid]);
        assert_eq!(skipped, ["ipi one CPU"]);
    }
}
