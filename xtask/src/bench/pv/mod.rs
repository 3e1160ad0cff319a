//! `cargo xtask bench pv`: what Xen's interface costs, in one table beside the aims. Each part is a
//! boot or two; a part that fails is a row that says so, and the others are measured all the same.

mod linux;
mod table;

use crate::cli::{BenchArgs, BenchWhat, PvPart};
use crate::guests::{Media, own};
use crate::outcome::Measured;
use crate::plan::{Guest, Vendor};
use crate::run::Usage;
use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde_json::json;
use std::path::Path;
use table::Row;

/// Operations of the bench guest (`tests/guests/bench`), what they are, and the most that they
/// should cost.
const CALLS: &[(&str, &str, Option<u64>)] = &[
    ("vmcall", "null hypercall (xen_version)", Some(150)),
    ("vmcall_is_up", "hypercall without argument in memory (VCPUOP_is_up)", None),
    ("xen_clock_read", "clock read from shared info", None),
    ("xen_send_masked", "evtchn_send, the port masked", None),
    ("xen_event_to_halted_vcpu", "evtchn_send to another vCPU, to its handler", Some(1500)),
    ("xen_event_to_self", "event to self, to its handler", Some(600)),
    ("xen_grant_map_unmap", "grant map and unmap (2 hypercalls)", Some(1500)),
    ("xen_grant_copy_4k", "grant copy of a page", None),
    ("xen_store_read", "XenStore read", Some(6000)),
    ("xen_store_write", "XenStore write", None),
    ("xen_store_write_watched", "XenStore write, to the end of its own watch", None),
];

/// The same of the guest that runs the store in itself (`tests/guests/bench-store`).
const STORE: &[(&str, &str, Option<u64>)] = &[
    ("store_read_1", "the store alone: read, 1 domain", None),
    ("store_read_1000", "the store alone: read, 1,000 domains", None),
    ("store_write_1", "watch fan-out: write, 3 hear, 1 domain", None),
    ("store_write_1000", "watch fan-out: write, 3 hear, 1,000 domains", None),
];

/// What a grant copy should cost without the copy.
const GRANT_COPY: u64 = 400;

/// Refuses options that mean nothing here.
pub fn check(args: &BenchArgs) -> Result<()> {
    if args.what != BenchWhat::Pv && !args.only.is_empty() {
        return Err(anyhow!(Usage(anyhow!("--only belongs to `bench pv`"))));
    }
    Ok(())
}

/// Carries out the command; gives the exit status: 1 if a row has failed.
pub fn command(vendors: &[Vendor], image: &Path, args: &BenchArgs) -> Result<u8> {
    let mut all = Vec::new();
    if !args.json {
        println!("{}", table::head());
    }
    for part in PvPart::value_variants() {
        if !args.only.is_empty() && !args.only.contains(part) {
            continue;
        }
        for &vendor in vendors {
            let rows = measure(*part, vendor, image, args.offline);
            if !args.json {
                rows.iter().for_each(|row| println!("{}", row.line()));
            }
            all.extend(rows);
        }
    }
    if args.json {
        println!("{}", json!(all));
    }
    Ok(u8::from(all.iter().any(|row| row.failed)))
}

/// The rows of one part; an error becomes the last one.
fn measure(part: PvPart, vendor: Vendor, image: &Path, offline: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let name = part.to_possible_value().map(|value| value.get_name().to_owned());
    let name = format!("part {}", name.unwrap_or_default());
    let done = match part {
        PvPart::Calls => calls(vendor, image, offline, &mut rows),
        PvPart::Store => store(vendor, image, offline, &mut rows),
        PvPart::Disk => linux::disk(vendor, image, offline, &mut rows),
        // Bochs does not tell how many instructions there were, and its TSC goes on while it waits.
        PvPart::Boot | PvPart::NetOutside | PvPart::NetGuests if vendor == Vendor::Vmx => {
            rows.push(Row::left_out(vendor.name(), &name, "counted in QEMU only"));
            Ok(())
        }
        PvPart::Boot => linux::boot(vendor, image, offline, &mut rows),
        PvPart::NetOutside => linux::outside(vendor, image, offline, &mut rows),
        PvPart::NetGuests => linux::between(vendor, image, offline, &mut rows),
    };
    if let Err(error) = done {
        rows.push(Row::failed(vendor.name(), &name, &format!("{error:#}")));
    }
    rows
}

/// Single operations, by the guest that `bench exits` boots.
fn calls(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    let (measured, why) = super::exits(vendor, image, offline)?;
    rows.extend(rows_of(vendor.name(), CALLS, &measured));
    why.map_or(Ok(()), |why| Err(anyhow!(why)))
}

/// The store's own work, by a guest kernel that has it in itself: no ring and no hypercall.
fn store(vendor: Vendor, image: &Path, offline: bool, rows: &mut Vec<Row>) -> Result<()> {
    let media = Media { disks: vec![own::image("bench-store", offline)?], ..Media::default() };
    let guest = Guest::new("bench-store", 64, 1, media);
    let (measured, why, _) = super::own_guest(vendor, image, offline, guest)?;
    rows.extend(rows_of(vendor.name(), STORE, &measured));
    why.map_or(Ok(()), |why| Err(anyhow!(why)))
}

fn rows_of(
    vendor: &'static str,
    wanted: &[(&str, &str, Option<u64>)],
    measured: &[Measured],
) -> Vec<Row> {
    let total = |name: &str| measured.iter().find(|one| one.op == name).map(|one| one.total);
    let copy = total("copy_4k");
    let row = |&(name, what, aim): &(&str, &str, Option<u64>)| match total(name) {
        Some(figure) if name == "xen_grant_copy_4k" => Row::count(vendor, what, figure)
            .aim(copy.map(|copy| GRANT_COPY + copy))
            .note("the aim is 400 and the copy"),
        Some(figure) => Row::count(vendor, what, figure).aim(aim),
        None => Row::failed(vendor, what, "the guest did not measure it"),
    };
    wanted.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parse(words: &[&str]) -> Result<BenchArgs, String> {
        let all = ["cargo xtask", "bench"].iter().chain(words);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Bench(args) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn parts_are_of_pv_only_and_have_names() {
        let args = parse(&["pv", "--only", "calls", "--vendor", "svm", "--json"]).unwrap();
        assert_eq!((args.only.as_slice(), args.json), ([PvPart::Calls].as_slice(), true));
        assert!(check(&args).is_ok());
        let wrong = check(&parse(&["exits", "--only", "calls"]).unwrap()).unwrap_err();
        assert!(wrong.is::<Usage>(), "{wrong}");
        assert!(parse(&["pv", "--only", "nothing"]).unwrap_err().contains("possible values"));
        assert!(parse(&["pv", "--vendor", "arm"]).is_err());
    }

    #[test]
    fn what_the_guest_did_not_measure_is_a_failed_row() {
        let one =
            |op: &str, total| Measured { vendor: "svm".into(), op: op.into(), root: 0, total };
        let measured = [one("vmcall", 270), one("xen_grant_copy_4k", 3147), one("copy_4k", 600)];
        let rows = rows_of("svm", CALLS, &measured);
        assert_eq!(rows.len(), CALLS.len());
        let find = |what: &str| rows.iter().find(|row| row.op.starts_with(what)).unwrap();
        assert_eq!((find("null").figure, find("null").aim), (Some(270.0), Some(150)));
        assert_eq!((find("grant copy").figure, find("grant copy").aim), (Some(3147.0), Some(1000)));
        assert!(find("XenStore read").figure.is_none() && find("XenStore read").failed);
    }
}
