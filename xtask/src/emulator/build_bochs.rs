//! Bochs 3 from Debian 13's source package, under `target/tools`: Debian 12's 2.7 is three times
//! slower and has no network card. One mistake of its APIC virtualization is mended.

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
const VERSION: &str = "2: e1000, virtual interrupts wait for IF\n";

/// Where it is, if it was ever built.
pub fn place() -> Option<PathBuf> {
    let program = paths::tools().join("bochs3/bin/bochs");
    program.exists().then_some(program)
}

/// Whether what is there was built as it is today.
pub fn is_current() -> bool {
    place().is_some()
        && fs::read_to_string(paths::tools().join("bochs3/built")).is_ok_and(|is| is == VERSION)
}

/// A host interrupt delivers the guest's pending virtual interrupt, even where the guest has closed its
/// own: asked is whether one is pending, not whether it is pending and open.
fn mend(source: &Path) -> Result<()> {
    let file = source.join("cpu/event.cc");
    let text = fs::read_to_string(&file)?;
    let wrong = "if (is_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR))";
    let right = "if (is_unmasked_event_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR))";
    anyhow::ensure!(
        text.contains(wrong) || text.contains(right),
        "Bochs' cpu/event.cc is not as expected"
    );
    Ok(fs::write(&file, text.replace(wrong, right))?)
}

/// Fetches, builds and installs it, once.
pub fn build(offline: bool) -> Result<()> {
    let place = paths::tools().join("bochs3");
    if is_current() {
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
