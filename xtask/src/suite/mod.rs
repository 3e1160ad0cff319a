//! `cargo xtask test`: host tests, style, then the boot suite: every guest of `tests/suite` on SVM
//! and on VMX, two emulators at a time.

mod cases;
mod failure;
mod sums;
mod table;

use crate::cli::TestArgs;
use crate::config::{Drive, Source};
use crate::emulator::build_bochs::{self, Mended};
use crate::exec::{say, show};
use crate::guests::{self, packages::Packages};
use crate::outcome::{Outcome, Verdict};
use crate::plan::{Accel, Display, Emulator, Guest, Host, Plan, Vendor};
use crate::setup::{self, Need};
use crate::{build, paths, run, server, tidy};
use anyhow::{Context, Result, bail};
use cases::Case;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use table::{Row, State};

/// Emulators that run side by side: one for each core of the smallest machine.
const AT_ONCE: usize = 2;

/// Carries out the command; gives the exit status.
pub fn command(args: &TestArgs) -> Result<u8> {
    let mut rows = Vec::new();
    if args.only.is_empty() && args.vendor == Vendor::Auto && !args.bare {
        rows.extend(host_checks(args));
    }
    if !args.host {
        rows.extend(boot_suite(args)?);
    }
    if rows.is_empty() {
        bail!(
            "no test has the name {}; `cargo xtask test --list` lists them",
            args.only.join(", ")
        );
    }
    print!("{}", table::render(&rows));
    let failed = rows.iter().any(|row| row.state == State::Failed);
    Ok(u8::from(failed))
}

/// Prints what there is.
pub fn list() -> Result<()> {
    for case in cases::load()? {
        let vendors: Vec<&str> = case.vendors.iter().map(|vendor| vendor.name()).collect();
        println!("{:<22} {:<9} {}", case.name, vendors.join(","), case.what);
    }
    Ok(())
}

/// Tests and style of the host's side, each as a row.
fn host_checks(args: &TestArgs) -> Vec<Row> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let with = |words: &[&str]| {
        let mut command = Command::new(&cargo);
        command.current_dir(paths::root()).args(words);
        if args.offline {
            command.env("CARGO_NET_OFFLINE", "true");
        }
        show(&mut command)
    };
    let timed = |name: &str, check: &dyn Fn() -> Result<()>| {
        say(format!("host check: {name}"));
        let started = std::time::Instant::now();
        let result = check();
        Row::host(name, started.elapsed().as_secs_f64(), result)
    };
    vec![
        timed("unit tests", &|| with(&["test", "--quiet", "--no-fail-fast"])),
        timed("tidy", &tidy::check),
        timed("formatting", &|| with(&["fmt", "--all", "--check"])),
        timed("clippy", &|| {
            with(&["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"])
        }),
    ]
}

struct Job {
    case: Case,
    vendor: Vendor,
}

fn boot_suite(args: &TestArgs) -> Result<Vec<Row>> {
    let packages = Packages::open(args.offline)?;
    let mut rows = Vec::new();
    let mut jobs = VecDeque::new();
    let wanted: Vec<Case> = cases::load()?
        .into_iter()
        .filter(|case| args.only.is_empty() || args.only.contains(&case.name))
        .collect();
    for case in wanted {
        let vendors = if args.bare { vec![Vendor::Auto] } else { case.vendors.clone() };
        for vendor in vendors {
            if args.vendor != Vendor::Auto && vendor != args.vendor {
                continue;
            }
            if args.bare && case.guests.len() > 1 {
                let why = "several guests need the hypervisor";
                rows.push(Row::skipped(&case.name, "none", why));
                continue;
            }
            match case.skipped(vendor, args.full || !args.only.is_empty()) {
                Some(why) if !args.bare => {
                    rows.push(Row::skipped(&case.name, vendor.name(), &why));
                }
                _ => jobs.push_back(Job { case: case.clone(), vendor }),
            }
        }
    }
    if jobs.is_empty() {
        return Ok(rows);
    }
    setup::ensure(&[Need::Packages, Need::Images, Need::Qemu], args.offline)?;
    let image = match args.bare {
        true => None,
        false => match build::hypervisor(args.hypervisor.as_deref(), args.offline) {
            Ok(image) => Some(image),
            Err(error) => {
                rows.push(Row::host("hypervisor build", 0.0, Err(error)));
                return Ok(rows);
            }
        },
    };
    if !args.bare && jobs.iter().any(|job| job.vendor == Vendor::Vmx) {
        better_bochs(args.offline, jobs.iter().any(|job| job.case.cpu_model.is_some()));
    }
    say(format!("boot suite: {} boots, {AT_ONCE} at a time", jobs.len()));
    let jobs = Mutex::new(jobs);
    let done = Mutex::new(rows);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while !run::interrupted() {
                    let Some(job) = jobs.lock().expect("no worker panics").pop_front() else {
                        return;
                    };
                    let row = one(&job, args, &packages, image.as_deref());
                    eprintln!("{}", table::line(&row));
                    done.lock().expect("no worker panics").push(row);
                }
            });
        }
    });
    let mut rows = done.into_inner().expect("no worker panics");
    rows.sort_by(|a, b| {
        (!a.is_host(), &a.guest, &a.vendor).cmp(&(!b.is_host(), &b.guest, &b.vendor))
    });
    Ok(rows)
}

/// VMX without hardware is Bochs, and Bochs 3 repays its compilation within one suite. The usual model has no posted
/// interrupts: one in which they are not mended does for it.
fn better_bochs(offline: bool, models: bool) {
    if !models && build_bochs::mended() >= Mended::Delivery {
        return;
    }
    if let Err(error) = build_bochs::build(offline) {
        say(format!("going on with Debian's Bochs, which is slower: {error:#}"));
    }
}

fn one(job: &Job, args: &TestArgs, packages: &Packages, image: Option<&Path>) -> Row {
    let vendor = if args.bare { "none" } else { job.vendor.name() };
    let folder = paths::failures().join(format!("{}-{vendor}", job.case.name));
    let _ = std::fs::remove_dir_all(&folder);
    match boot(job, args, packages, image, &folder) {
        Ok((plan, mut outcome)) => {
            let row = Row::booted(&job.case.name, vendor, &outcome);
            if outcome.verdict.code() != 0
                && let Err(error) = failure::write(&folder, &plan, &mut outcome)
            {
                say(format!("cannot write {}: {error:#}", paths::show(&folder)));
            }
            row
        }
        Err(error) => Row::failed(&job.case.name, vendor, &format!("{error:#}")),
    }
}

fn boot(
    job: &Job,
    args: &TestArgs,
    packages: &Packages,
    image: Option<&Path>,
    folder: &Path,
) -> Result<(Plan, Outcome)> {
    let mut plan = plan(job, args, packages)?;
    std::fs::create_dir_all(folder)?;
    // Removed with all that is in it when the boot is over.
    let copies = tempfile::tempdir()?;
    if job.case.disk == Some(cases::DiskCheck::Same) {
        plan.snapshot = false;
        own_copies(&mut plan, copies.path())?;
    }
    let shot: PathBuf = folder.join("screen.png");
    let before = if job.case.must_keep_disks() { disks(&plan)? } else { Vec::new() };
    let mut outcome = run::execute(&plan, image, args.offline, Some(shot))?;
    if let (Some(cases::DiskCheck::Ext4), Verdict::Passed(_)) = (job.case.disk, &outcome.verdict) {
        let disk = plan.guests.first().and_then(|guest| guest.disks().first().copied());
        match guests::ext4::check(disk.context("the case's guest has no disk")?) {
            Ok(found) => say(format!("{}: {found}", job.case.name)),
            Err(error) => outcome.verdict = Verdict::HostFailed(format!("{error:#}")),
        }
    }
    if let Some(path) = changed(&before) {
        let why = format!("the guest has changed {}", paths::show(path));
        outcome.verdict = Verdict::HostFailed(why);
    }
    if matches!(outcome.verdict, Verdict::Passed(_)) {
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok((plan, outcome))
}

/// Gives the guests copies of their disks: two emulators must not write one file.
fn own_copies(plan: &mut Plan, dir: &Path) -> Result<()> {
    for guest in &mut plan.guests {
        for drive in &mut guest.drives {
            if let (false, Source::File(path)) = (drive.cdrom || drive.is_floppy(), &drive.source) {
                let copy = dir.join(format!("{}-{}", guest.name, drive.place));
                std::fs::copy(path, &copy).with_context(|| paths::show(path))?;
                drive.source = Source::File(copy);
            }
        }
    }
    Ok(())
}

/// Every guest's disk images with their bytes.
fn disks(plan: &Plan) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let paths = plan.guests.iter().flat_map(Guest::disks).map(Path::to_owned);
    paths.map(|path| Ok((path.clone(), std::fs::read(path)?))).collect()
}

/// A file that is not as it was.
fn changed(before: &[(PathBuf, Vec<u8>)]) -> Option<&Path> {
    let same =
        |(path, bytes): &&(PathBuf, Vec<u8>)| std::fs::read(path).is_ok_and(|now| now == *bytes);
    before.iter().find(|file| !same(file)).map(|(path, _)| path.as_path())
}

fn plan(job: &Job, args: &TestArgs, packages: &Packages) -> Result<Plan> {
    let case = &job.case;
    let (mut media, mut beside) = (Vec::new(), Vec::new());
    {
        // Two workers must not make the same image at the same time.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().expect("no worker panics");
        for recipe in &case.guests {
            let made = guests::prepare(packages, recipe, args.offline);
            media.push(made.with_context(|| format!("cannot make the guest {recipe}"))?);
        }
        for recipe in &case.media {
            let made = guests::prepare(packages, recipe, args.offline)?;
            beside.extend(made.iso.into_iter().chain(made.floppy));
        }
    }
    let mut list = Vec::new();
    for (index, media) in media.into_iter().enumerate() {
        let name =
            if index == 0 { case.name.clone() } else { format!("{}{}", case.name, index + 1) };
        let mut guest = Guest::new(&name, case.memory, case.vcpus, media);
        if case.empty_cd {
            guest.drives.push(Drive::empty_cd("hdc"));
        }
        guest.configure(case.settings(index)?)?;
        guest.check()?;
        list.push(guest);
    }
    let bochs = job.vendor == Vendor::Vmx;
    let port = match &case.server {
        None => 0,
        Some(dir) if dir.is_empty() => server::start(None)?,
        Some(dir) => server::start(Some(&guests::media_dir()?.join(dir)))?,
    };
    let mut steps = case.steps_with(bochs, port)?;
    sums::fill_in(&mut steps, &list)?;
    Ok(Plan {
        guests: list,
        host: Host {
            vendor: job.vendor,
            emulator: Emulator::Auto,
            accel: if args.bare { Accel::Tcg } else { Accel::Auto },
            cpus: case.host_cpus,
            display: Display::None,
            icount: false,
            cpu_model: case.cpu_model.clone(),
            card: case.host_card.clone(),
        },
        raw: case.raw.clone().into_iter().collect(),
        media: beside,
        snapshot: case.snapshot,
        bare: args.bare,
        hv_append: case.hv_append.clone(),
        steps,
        never: case.never.clone(),
        timeout: Some(Duration::from_secs(case.limit(job.vendor))),
        stall: Some(Duration::from_secs(if bochs { case.stall * 4 } else { case.stall })),
        interactive: false,
        attended: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_not_as_it_was_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, b"before").unwrap();
        let before = [(path.clone(), b"before".to_vec())];
        assert_eq!(changed(&before), None);
        std::fs::write(&path, b"beforf").unwrap();
        assert_eq!(changed(&before), Some(path.as_path()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(changed(&before), Some(path.as_path()));
    }

    #[test]
    fn a_case_writes_to_its_own_copies_of_disks() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, floppy) = (dir.path().join("disk"), dir.path().join("floppy"));
        std::fs::write(&disk, b"bytes").unwrap();
        std::fs::write(&floppy, b"more").unwrap();
        let mut plan = crate::session::tests::plan(&["a"], vec![]);
        let drive = |path: &Path, place: &str| Drive::file(path, place, false);
        plan.guests[0].drives.extend([drive(&disk, "hda"), drive(&floppy, "fda")]);
        let copies = tempfile::tempdir().unwrap();
        own_copies(&mut plan, copies.path()).unwrap();
        let copy = copies.path().join("a-hda");
        assert_eq!(plan.guests[0].disks(), [copy.as_path()]);
        assert_eq!(plan.guests[0].floppy(), Some(floppy.as_path()));
        assert_eq!(disks(&plan).unwrap(), [(copy, b"bytes".to_vec())]);
    }
}
