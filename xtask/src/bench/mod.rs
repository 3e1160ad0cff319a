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
            let (mut all, mut failed) = (Vec::new(), None);
            for vendor in vendors {
                let (measured, why) = exits(vendor, &image, args.offline)?;
                all.extend(measured);
                failed = failed.or(why);
            }
            print(&all, args.json);
            if let Some(why) = failed {
                bail!(why);
            }
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
    println!("{:<7} {:<28} {:>12} {:>12} {:>8}", "vendor", "op", "root", "total", "aim");
    for row in all {
        let aim = aim(row);
        let missed = if aim.is_some_and(|aim| row.total > aim) { " missed" } else { "" };
        let aim = aim.map_or("-".into(), |aim| aim.to_string());
        println!(
            "{:<7} {:<28} {:>12} {:>12} {:>8}{missed}",
            row.vendor, row.op, row.root, row.total, aim
        );
    }
}

/// How many instructions an operation is to take at most; for SVM, where docs/benchmarks.md tells what a missed one costs.
fn aim(row: &Measured) -> Option<u64> {
    let aim = match row.op.as_str() {
        "cpuid" => 200,
        "pic_mask_read" | "pic_mask_write" | "pit_read" | "pit_write" => 350,
        "uart_lsr_read" | "uart_scratch_write" | "port80_read" | "port80_write" => 350,
        "inl_from_pmtimer" | "outl_to_pmtimer" => 350,
        "lapic_read_xapic" | "lapic_read_x2apic" | "lapic_tpr_write_xapic" => 600,
        "eoi_xapic" | "eoi_x2apic" => 600,
        "tscdeadline_immed" | "tscdeadline_immed_x2apic" => 1_500,
        "self_ipi" | "x2apic_self_ipi" => 2_000,
        "self_ipi_sti_nop" | "x2apic_self_ipi_sti_nop" => 2_000,
        "ide_dma_read_4k" => 15_000,
        _ => return None,
    };
    (row.vendor == "svm").then_some(aim)
}

/// Reset to the initramfs's first line, with and without hypervisor, with the kernel's messages on
/// the serial port and without.
fn boot(image: &Path, args: &BenchArgs) -> Result<()> {
    setup::ensure(&[Need::Packages, Need::Images, Need::Qemu], args.offline)?;
    let packages = Packages::open(args.offline)?;
    let mut results = Vec::new();
    for (name, recipe, aim) in
        [("serial log", "linux:cloud-amd64", 1.08), ("quiet", "linux:cloud-amd64:quiet", 1.03)]
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
            "ratio": a as f64 / (b.max(1)) as f64, "aim": aim, "exits": exits,
        }));
    }
    if args.json {
        println!("{}", json!(results));
        return Ok(());
    }
    println!(
        "{:<12} {:>16} {:>16} {:>8} {:>6} {:>10}",
        "boot", "instructions", "bare", "ratio", "aim", "exits"
    );
    for row in &results {
        println!(
            "{:<12} {:>16} {:>16} {:>8.3} {:>6} {:>10}",
            row["boot"].as_str().unwrap_or(""),
            row["instructions"],
            row["bare"],
            row["ratio"].as_f64().unwrap_or(0.0),
            row["aim"],
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

    #[test]
    fn aims_are_for_operations_that_the_bench_guest_measures_on_svm() {
        let on = |vendor: &str, op: &str| {
            aim(&Measured { vendor: vendor.into(), op: op.into(), root: 0, total: 0 })
        };
        assert_eq!((on("svm", "cpuid"), on("vmx", "cpuid")), (Some(200), None));
        let dir = crate::paths::root().join("tests/guests/bench");
        let files = ["main.rs", "interrupts.rs", "media.rs", "processors.rs"];
        let text = files.map(|file| fs::read_to_string(dir.join(file)).unwrap()).concat();
        let names: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        let aims = names.iter().filter(|name| on("svm", name).is_some());
        let mut aims: Vec<&&str> = aims.collect();
        aims.sort();
        aims.dedup();
        assert_eq!(aims.len(), 23, "{aims:?}");
    }
}
