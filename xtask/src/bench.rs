//! `cargo xtask bench`: counts instructions, not seconds, so that figures repeat on any machine.
//! QEMU counts one TSC tick per instruction (`-icount shift=0`); Bochs always does.

use crate::cli::{BenchArgs, BenchWhat};
use crate::exec::say;
use crate::guests::{self, packages::Packages};
use crate::outcome::{Measured, Outcome, Verdict};
use crate::plan::{Accel, Display, Emulator, Guest, Host, Plan, Step, Vendor};
use crate::setup::{self, Need};
use crate::{build, run};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::time::Duration;

/// Carries out the command; gives the exit status.
pub fn command(args: &BenchArgs) -> Result<u8> {
    let image = build::hypervisor(args.hypervisor.as_deref(), args.offline)?;
    let vendors = match args.vendor {
        Vendor::Auto => vec![Vendor::Svm, Vendor::Vmx],
        vendor => vec![vendor],
    };
    match args.what {
        BenchWhat::Exits => {
            let mut all = Vec::new();
            for vendor in vendors {
                all.extend(exits(vendor, &image, args.offline)?);
            }
            print(&all, args.json);
        }
        BenchWhat::Boot => boot(&image, args)?,
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
        },
        snapshot: true,
        bare: false,
        hv_append: hv_append.to_owned(),
        steps,
        never: Vec::new(),
        timeout: Some(Duration::from_secs(1200)),
        stall: Some(Duration::from_secs(300)),
        interactive: false,
    }
}

/// The hypervisor carries its own bench guest and reports by `@bench` lines.
fn exits(vendor: Vendor, image: &std::path::Path, offline: bool) -> Result<Vec<Measured>> {
    say(format!("bench exits on {}", vendor.name()));
    let plan = plan(vendor, Vec::new(), "bench=exits", Vec::new());
    let outcome = run::execute(&plan, Some(image), offline, None)?;
    if outcome.bench.is_empty() {
        let (word, why) = outcome.verdict.words();
        bail!("the bench on {} measured nothing ({word}: {why})", vendor.name());
    }
    Ok(outcome.bench)
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
fn boot(image: &std::path::Path, args: &BenchArgs) -> Result<()> {
    setup::ensure(&[Need::Packages, Need::Images, Need::Qemu], args.offline)?;
    let packages = Packages::open(args.offline)?;
    let mut results = Vec::new();
    for (name, recipe) in
        [("serial log", "linux:cloud-amd64"), ("quiet", "linux:cloud-amd64:quiet")]
    {
        let media = guests::prepare(&packages, recipe, args.offline)?;
        let guest = Guest::new("bench", 512, 1, media);
        let steps = vec![Step::Until("XENOLITH-GUEST-INIT".into())];
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

fn measure(
    plan: &Plan,
    image: Option<&std::path::Path>,
    offline: bool,
    name: &str,
) -> Result<Outcome> {
    let outcome = run::execute(plan, image, offline, None)?;
    let how = if plan.bare { "without hypervisor" } else { "with hypervisor" };
    if !matches!(outcome.verdict, Verdict::Passed(_)) {
        let (word, why) = outcome.verdict.words();
        bail!("the boot {how} ({name}) did not come to init: {word}: {why}");
    }
    outcome.instructions.context("QEMU counted no instructions")?;
    Ok(outcome)
}
