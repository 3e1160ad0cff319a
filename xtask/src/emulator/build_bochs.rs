//! Bochs 3 from Debian 13's source package, under `target/tools`: Debian 12's 2.7 is three times
//! slower, and lacks posted interrupts and the monitor trap flag.

use crate::exec::{run, say, show};
use crate::paths;
use crate::setup::{self, Need};
use anyhow::{Context, Result};
use std::fs;
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
    "--disable-docbook",
    "--disable-debugger",
    "--disable-debugger-gui",
    "--disable-plugins",
];

/// Fetches, builds and installs it, once.
pub fn build(offline: bool) -> Result<()> {
    let place = paths::tools().join("bochs3");
    if place.join("bin/bochs").exists() {
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
    say("compiling Bochs 3 (about 4 minutes)");
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
    fs::copy(source.join("bochs"), place.join("bin/bochs"))?;
    show(Command::new(place.join("bin/bochs")).arg("--help").stdout(std::process::Stdio::null()))?;
    say(format!("Bochs 3: {}", paths::show(&place)));
    Ok(())
}
