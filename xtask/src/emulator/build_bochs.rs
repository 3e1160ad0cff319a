//! Bochs 3 from Debian 13's source package, under `target/tools`: Debian 12's 2.7 is three times
//! slower and has no network card. Two mistakes of its APIC virtualization are mended.

use crate::exec::{run, say, show};
use crate::paths;
use crate::setup::{self, Need};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OPTIONS: &[&str] = &[
    "--with-nogui",
    "--enable-smp",
    "--enable-vmx=2",
    "--enable-svm",
    "--enable-x86-64",
    "--enable-cpu-level=6",
    "--enable-all-optimizations",
    "--enable-handlers-chaining",
    "--enable-pci",
    "--enable-cdrom",
    "--enable-avx",
    "--enable-evex",
    "--enable-memtype",
    "--enable-e1000",
    "--disable-docbook",
    "--disable-debugger",
    "--disable-debugger-gui",
    "--disable-plugins",
];

/// How it is built here: grows with every change of that.
const VERSION: &str = "3: e1000, virtual interrupts wait for IF, notifications without requests\n";
/// As [`Mended::Delivery`] has it.
const WITH_DELIVERY: &str = "2: e1000, virtual interrupts wait for IF\n";

/// What is mended in the Bochs that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mended {
    /// Nothing: it is none of ours, or an early one.
    Nothing,
    /// Virtual-interrupt delivery.
    Delivery,
    /// That, and posted interrupts.
    All,
}

/// Where it is, if it was ever built.
pub fn place() -> Option<PathBuf> {
    let program = paths::tools().join("bochs3/bin/bochs");
    program.exists().then_some(program)
}

/// How far what is there is mended.
pub fn mended() -> Mended {
    let built = fs::read_to_string(paths::tools().join("bochs3/built")).unwrap_or_default();
    match built.as_str() {
        _ if place().is_none() => Mended::Nothing,
        VERSION => Mended::All,
        WITH_DELIVERY => Mended::Delivery,
        _ => Mended::Nothing,
    }
}

/// File, what is wrong there, what is right.
const MISTAKES: [(&str, &str, &str); 2] = [
    // A host interrupt delivers the guest's pending virtual interrupt, even where the guest has closed its
    // own: asked is whether one is pending, not whether it is pending and open.
    (
        "cpu/event.cc",
        "if (is_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR))",
        "if (is_unmasked_event_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR))",
    ),
    // A notification that finds neither a request posted nor one in the page is to do nothing. The highest of
    // none is -1, which becomes vector 255, and the guest gets that.
    (
        "cpu/vapic.cc",
        "  vector = BX_CPU_THIS_PTR lapic->highest_priority_int(virr);\n  \
         if (vector >= vm->rvi) vm->rvi = vector;",
        "  int highest = BX_CPU_THIS_PTR lapic->highest_priority_int(virr);\n  \
         if (highest >= (int) vm->rvi) vm->rvi = highest;",
    ),
];

fn mend(source: &Path) -> Result<()> {
    for (file, wrong, right) in MISTAKES {
        let place = source.join(file);
        let text = fs::read_to_string(&place)?;
        anyhow::ensure!(
            text.contains(wrong) || text.contains(right),
            "Bochs' {file} is not as expected"
        );
        fs::write(&place, text.replace(wrong, right))?;
    }
    Ok(())
}

/// Fetches, builds and installs it, once.
pub fn build(offline: bool) -> Result<()> {
    let place = paths::tools().join("bochs3");
    if mended() == Mended::All {
        say(format!("Bochs 3 is there: {}", paths::show(&place)));
        return Ok(());
    }
    setup::ensure(&[Need::BochsSource, Need::Packages], offline)?;
    anyhow::ensure!(!offline, "--offline downloads nothing, and Bochs' source is not here");
    fs::create_dir_all(paths::tools())?;
    let work = tempfile::tempdir_in(paths::tools())?;
    let apt = work.path().join("apt");
    for dir in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    fs::write(apt.join("status"), "")?;
    fs::write(apt.join("list"), "deb-src http://deb.debian.org/debian trixie main\n")?;
    let config = apt.join("apt.conf");
    let dir = apt.display();
    fs::write(
        &config,
        format!(
            "Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/status\";\n\
             Dir::Cache \"{dir}/cache\";\nDir::Etc::SourceList \"{dir}/list\";\n\
             Dir::Etc::SourceParts \"-\";\nAPT::Sandbox::User \"root\";\n"
        ),
    )?;
    say("downloading the source of Bochs 3 (Debian 13)");
    let apt_get = |words: &[&str]| {
        run(Command::new("apt-get").env("APT_CONFIG", &config).current_dir(work.path()).args(words))
    };
    apt_get(&["update"])?;
    // Some mirrors lack the .dsc. The archive is enough, and apt has checked its digest.
    let fetched = apt_get(&["source", "--download-only", "bochs"]);
    let archive = fs::read_dir(work.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().contains(".orig.tar"))
        .context("the source package has no .orig.tar");
    let archive = match (archive, fetched) {
        (Ok(archive), _) => archive,
        (Err(error), fetched) => return fetched.and(Err(error)),
    };
    let source = work.path().join("source");
    fs::create_dir_all(&source)?;
    run(Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .args(["--strip-components=1", "-C"])
        .arg(&source))?;
    mend(&source)?;
    say("compiling Bochs 3 (about 5 minutes)");
    let prefix = format!("--prefix={}", place.display());
    run(Command::new("sh")
        .current_dir(&source)
        .arg("./configure")
        .arg(prefix)
        .args(OPTIONS)
        .env("CXXFLAGS", "-O2"))?;
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    run(Command::new("make").current_dir(&source).arg(format!("-j{jobs}")))?;
    fs::create_dir_all(place.join("bin"))?;
    // A Bochs that runs keeps its file.
    let new = place.join("bin/new");
    fs::copy(source.join("bochs"), &new)?;
    fs::rename(&new, place.join("bin/bochs"))?;
    fs::write(place.join("built"), VERSION)?;
    show(Command::new(place.join("bin/bochs")).arg("--help").stdout(std::process::Stdio::null()))?;
    say(format!("Bochs 3: {}", paths::show(&place)));
    Ok(())
}
