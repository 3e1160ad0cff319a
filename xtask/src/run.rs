//! `cargo xtask run`: from options to a plan, from a plan to a running machine and its outcome.

use crate::cli::{GuestArgs, RunArgs};
use crate::control::GuestVerdict;
use crate::emulator::{Machine, bochs, probe, qemu};
use crate::exec::say;
use crate::guests::packages::Packages;
use crate::guests::{self, Media};
use crate::outcome::{Outcome, Verdict};
use crate::plan::{Accel, Display, Emulator, Guest, Host, Plan, Step, Vendor};
use crate::session::Session;
use crate::setup::{self, Need};
use crate::{bootset, build, control, media, paths};
use anyhow::{Context, Result, anyhow, bail};
use clap::ArgMatches;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A mistake of the person's: exit status 2.
#[derive(Debug)]
pub struct Usage(pub anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

fn usage(error: anyhow::Error) -> anyhow::Error {
    anyhow!(Usage(error))
}

/// Carries out the command; gives the exit status.
pub fn command(args: &RunArgs, matches: &ArgMatches) -> Result<u8> {
    if args.guest.recipe.as_deref() == Some("list") {
        for (name, what) in guests::RECIPES {
            println!("{name:<28} {what}");
        }
        return Ok(0);
    }
    let steps = steps(args, matches).map_err(usage)?;
    check_outputs(args).map_err(usage)?;
    if let Some(given) = &args.guest.hypervisor {
        build::check(given).map_err(usage)?;
    }
    if !args.bare {
        probe::check(&host(args)).map_err(usage)?;
    }
    let packages = Packages::open(args.guest.offline)?;
    let mut plan = plan_without_steps(&args.guest, &packages)?;
    for guest in &plan.guests {
        guest.check_no_physical().map_err(usage)?;
    }
    plan.attended = steps.is_empty() && !args.json;
    // With curses the terminal is the emulator's.
    plan.interactive = plan.attended && args.display != Display::Curses;
    plan.steps = steps;
    plan.host = host(args);
    plan.bare = args.bare;
    plan.timeout = timeout(args).map_err(usage)?;
    let shot = args.screenshot.clone().map(absolute);
    let image = match plan.bare {
        true => None,
        false => Some(build::hypervisor(args.guest.hypervisor.as_deref(), args.guest.offline)?),
    };
    let mut outcome = execute(&plan, image.as_deref(), args.guest.offline, shot)?;
    write_files(args, &plan, &mut outcome)?;
    report(args, &plan, &outcome);
    Ok(outcome.verdict.code())
}

/// Set by Ctrl-C and by a polite kill.
static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without the handler Ctrl-C still ends us, only less tidily.
        let _ = signal_hook::flag::register(signal, Arc::clone(&stopped));
    }
    stopped
});

/// Whether the person wants everything to end.
pub fn interrupted() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// What to boot: guests, checked, on the usual machine.
pub fn plan_without_steps(args: &GuestArgs, packages: &Packages) -> Result<Plan> {
    check_numbers(args).map_err(usage)?;
    let guests = match given_guests(args).map_err(usage)? {
        Some(guests) => guests,
        None => vec![recipe_guest(args, packages)?],
    };
    let mut guests = with_firmware(args, guests, packages)?;
    if args.network {
        guests = guests.into_iter().map(Guest::with_network).collect();
    }
    for guest in &guests {
        guest.check().map_err(usage)?;
    }
    check_sharing(&guests, args.snapshot).map_err(usage)?;
    for medium in &args.medium {
        media::check(medium, media::removable_role(medium), false).map_err(usage)?;
    }
    let sizes: Vec<(String, u64, u32)> =
        guests.iter().map(|guest| (guest.name.clone(), guest.memory_mib, guest.vcpus)).collect();
    media::check_sizes(&sizes, media::host_memory_mib()).map_err(usage)?;
    Ok(Plan {
        guests,
        host: Host {
            vendor: Vendor::Auto,
            emulator: Emulator::Auto,
            accel: Accel::Auto,
            cpus: 1,
            display: Display::None,
            icount: false,
            cpu_model: None,
            card: None,
        },
        raw: Vec::new(),
        media: args.medium.clone(),
        snapshot: args.snapshot,
        bare: false,
        hv_append: args.hv_append.clone(),
        steps: Vec::new(),
        never: Vec::new(),
        timeout: None,
        stall: None,
        interactive: false,
        attended: false,
    })
}

/// An image that one guest writes must be no other guest's, which would see its file system change.
fn check_sharing(guests: &[Guest], snapshot: bool) -> Result<()> {
    for (n, guest) in guests.iter().enumerate() {
        for other in guests.iter().take(n) {
            let writes = |path: &Path| {
                let by = |guest: &Guest| !snapshot && guest.writes(path);
                by(guest) || by(other)
            };
            let shared =
                guest.disks().into_iter().find(|path| other.disks().contains(path) && writes(path));
            if let Some(path) = shared {
                bail!(
                    "guests {} and {} have the disk {}, and one of them writes to it: give each a \
                     copy, or both mode r, or --snapshot",
                    other.name,
                    guest.name,
                    path.display()
                );
            }
        }
    }
    Ok(())
}

/// Boots what a plan says and follows it to the end. `image`: the hypervisor, unless bare.
pub fn execute(
    plan: &Plan,
    image: Option<&Path>,
    offline: bool,
    screenshot: Option<PathBuf>,
) -> Result<Outcome> {
    let stopped = Arc::clone(&STOPPED);
    let machine = launch(plan, image, offline)?;
    if plan.interactive {
        say("Ctrl-A h shows the hypervisor's keys; Ctrl-] pressed three times ends everything");
    }
    let mut session = Session::new(plan, machine, stopped);
    session.screenshot = screenshot;
    Ok(session.run())
}

fn launch(plan: &Plan, image: Option<&Path>, offline: bool) -> Result<Machine> {
    if plan.host.emulator != Emulator::Bochs {
        let mut needs = vec![Need::Qemu];
        if plan.host.display == Display::Gtk {
            needs.push(Need::QemuWindow);
        }
        setup::ensure(&needs, offline)?;
    }
    let choice = probe::choose(&plan.host).map_err(usage)?;
    let in_bochs = choice.emulator == Emulator::Bochs;
    if in_bochs {
        setup::ensure(&[Need::Bochs, Need::Images], offline)?;
    }
    let place = match (in_bochs, choice.accel) {
        (true, _) => "Bochs",
        (_, Accel::Kvm) => "QEMU with KVM",
        _ => "QEMU without KVM, so it takes a while",
    };
    if plan.bare {
        let guest = plan.guests.first().context("no guest")?;
        say(format!("booting guest {} without hypervisor in {place}", guest.name));
        return match in_bochs {
            true => bochs::bare(plan, guest),
            false => qemu::bare(plan, choice.accel, guest),
        };
    }
    let image = image.context("no hypervisor was built")?;
    let set = bootset::make(plan)?;
    let names: Vec<&str> = plan.guests.iter().map(|guest| guest.name.as_str()).collect();
    let vendor = choice.vendor.name();
    say(format!("booting the hypervisor ({vendor}) in {place}, with {}", names.join(", ")));
    match in_bochs {
        true => bochs::hypervisor(plan, image, &set.archive, &set.disks),
        false => qemu::hypervisor(plan, choice.accel, image, &set),
    }
}

fn host(args: &RunArgs) -> Host {
    Host {
        vendor: args.vendor,
        emulator: args.emulator,
        accel: args.accel,
        cpus: args.host_cpus.unwrap_or(1),
        display: args.display,
        icount: args.icount,
        cpu_model: args.cpu_model.clone(),
        card: args.host_card.clone(),
    }
}

fn check_numbers(args: &GuestArgs) -> Result<()> {
    if args.guest.is_empty() {
        media::check_sizes(&[("guest".into(), args.memory, args.vcpus)], media::host_memory_mib())?;
    }
    Ok(())
}

fn timeout(args: &RunArgs) -> Result<Option<Duration>> {
    if let Some(cpus) = args.host_cpus
        && !(1..=64).contains(&cpus)
    {
        bail!("--host-cpus {cpus}: allowed is 1 to 64");
    }
    if args.bare && args.guest.guest.len() > 1 {
        bail!("--bare runs one guest");
    }
    match args.timeout {
        Some(seconds) if !(seconds > 0.0 && seconds < 1e6) => {
            bail!("--timeout {seconds}: give a number of seconds above 0")
        }
        other => Ok(other.map(Duration::from_secs_f64)),
    }
}

/// Guests that the command line gives: by files, or by media.
fn given_guests(args: &GuestArgs) -> Result<Option<Vec<Guest>>> {
    let media = Media {
        iso: args.iso.clone().map(absolute),
        disks: args.disk.iter().cloned().map(absolute).collect(),
        floppy: args.floppy.clone().map(absolute),
        kernel: args.kernel.clone().map(absolute),
        pvh: args.pvh,
        initrd: args.initrd.clone().map(absolute),
        append: args.append.clone().unwrap_or_default(),
        firmware: None,
        tftp: None,
    };
    let has_media = media != Media::default();
    if args.disk.len() > 3 {
        bail!("at most three disks: the fourth place on the IDE cables is the CD drive's");
    }
    if !args.guest.is_empty() {
        if has_media || args.recipe.is_some() {
            bail!("--guest files name their own media: leave out --iso, --disk and the like");
        }
        let mut guests: Vec<Guest> = Vec::new();
        for file in &args.guest {
            let guest = Guest::from_file(file)?;
            if guests.iter().any(|other| other.name == guest.name) {
                bail!("two guests are called {}: give each its own name", guest.name);
            }
            guests.push(guest);
        }
        return Ok(Some(guests));
    }
    if has_media && args.recipe.is_some() {
        bail!("--recipe makes its own media: leave out --iso, --disk and the like");
    }
    Ok(has_media.then(|| vec![Guest::new("guest", args.memory, args.vcpus, media)]))
}

/// What boots when nothing is given: Debian's kernel on a GRUB ISO.
fn recipe_guest(args: &GuestArgs, packages: &Packages) -> Result<Guest> {
    setup::ensure(&[Need::Packages, Need::Images], args.offline)?;
    let recipe = args.recipe.as_deref().unwrap_or("linux:cloud-amd64");
    let media = guests::prepare(packages, recipe, args.offline)?;
    let name = recipe.split(':').next().unwrap_or("guest");
    Ok(Guest::new(name, args.memory, args.vcpus, media))
}

fn with_firmware(args: &GuestArgs, guests: Vec<Guest>, packages: &Packages) -> Result<Vec<Guest>> {
    let mut done = Vec::new();
    for mut guest in guests {
        if args.firmware != "xenolith" {
            guest.media.firmware = Some(PathBuf::from(&args.firmware));
        }
        if let Some(given) = guest.media.firmware.take() {
            let fetched = match given.to_str() {
                Some(name) => guests::firmware(packages, name)?,
                None => None,
            };
            guest.media.firmware = Some(fetched.unwrap_or_else(|| absolute(given)));
        }
        done.push(guest);
    }
    Ok(done)
}

/// The steps in the order in which they stand on the command line.
fn steps(args: &RunArgs, matches: &ArgMatches) -> Result<Vec<Step>> {
    let mut found: Vec<(usize, Step)> = Vec::new();
    let text = |text: &String| control::unescape(text);
    let mut add = |id: &str, steps: Vec<Step>| {
        let places: Vec<usize> = matches.indices_of(id).map(Iterator::collect).unwrap_or_default();
        found.extend(places.into_iter().zip(steps));
    };
    add("until", args.until.iter().map(|it| Step::Until(vec![text(it)])).collect());
    add("type_text", args.type_text.iter().map(|it| Step::Type(text(it))).collect());
    add("send", args.send.iter().map(|it| Step::Send(text(it))).collect());
    add("monitor", args.monitor.iter().map(|it| Step::Monitor(it.clone())).collect());
    let keys: Result<Vec<Step>> =
        args.keys.iter().map(|it| control::chords(it).map(Step::Keys)).collect();
    add("keys", keys?);
    let mut waits = Vec::new();
    for &seconds in &args.wait {
        if !(0.0..1e6).contains(&seconds) {
            bail!("--wait {seconds}: give a number of seconds");
        }
        waits.push(Step::Wait(Duration::from_secs_f64(seconds)));
    }
    add("wait", waits);
    if args.until.iter().any(String::is_empty) {
        bail!("--until needs a text");
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, step)| step).collect())
}

/// A file that cannot be written is better known before a long run than after it.
fn check_outputs(args: &RunArgs) -> Result<()> {
    let files = [
        ("--serial-log", &args.serial_log),
        ("--screen-text", &args.screen_text),
        ("--screenshot", &args.screenshot),
    ];
    for (option, place) in files {
        let Some(place) = place else { continue };
        let new = !place.exists();
        let opened = fs::OpenOptions::new().append(true).create(true).open(place);
        opened.map_err(|error| anyhow!("{option} {}: {error}", place.display()))?;
        if new {
            let _ = fs::remove_file(place);
        }
    }
    Ok(())
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn write_files(args: &RunArgs, plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let name = plan.guests.first().map(|guest| guest.name.clone()).unwrap_or_default();
    let Some(guest) = outcome.guests.get(&name) else { return Ok(()) };
    if let Some(place) = &args.serial_log {
        // A hypervisor without control channel has only the console.
        let bytes = if guest.serial.is_empty() { &outcome.console } else { &guest.serial };
        fs::write(place, bytes).with_context(|| format!("cannot write {}", place.display()))?;
    }
    if let Some(place) = &args.screen_text {
        let text = guest.screen.rows().join("\n") + "\n";
        fs::write(place, text).with_context(|| format!("cannot write {}", place.display()))?;
    }
    if let (Some(place), Err(error)) = (&args.screenshot, &outcome.pictured) {
        say(format!("{} was not written: {error:#}", paths::show(place)));
    }
    Ok(())
}

fn report(args: &RunArgs, plan: &Plan, outcome: &Outcome) {
    let (word, why) = outcome.verdict.words();
    if args.json {
        println!("{}", json(plan, outcome));
    }
    if plan.interactive {
        eprintln!();
    }
    say(format!("{word}: {why} ({:.1} s)", outcome.seconds));
    for line in outcome.answers.iter().filter(|_| !args.monitor.is_empty()) {
        eprintln!("{line}");
    }
    if let Verdict::HostFailed(_) = outcome.verdict {
        for line in outcome.log.iter().rev().take(20).rev() {
            eprintln!("    {line}");
        }
    }
}

/// The outcome for scripts.
pub fn json(plan: &Plan, outcome: &Outcome) -> serde_json::Value {
    let (word, why) = outcome.verdict.words();
    let guests: Vec<serde_json::Value> = plan
        .guests
        .iter()
        .map(|guest| {
            let log = outcome.guests.get(&guest.name);
            serde_json::json!({
                "name": guest.name,
                "verdict": log.and_then(|log| log.verdict.as_ref()).map(GuestVerdict::words),
                "reboots": log.map_or(0, |log| log.reboots),
                "exits": log.map(|log| &log.exits),
            })
        })
        .collect();
    serde_json::json!({
        "verdict": word,
        "why": why,
        "status": outcome.verdict.code(),
        "seconds": outcome.seconds,
        "instructions": outcome.instructions,
        "guests": guests,
    })
}
