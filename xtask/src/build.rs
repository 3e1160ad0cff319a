//! Building the hypervisor for a machine without operating system (`x86_64-unknown-none`).
//! Rustup's toolchain is taken when it has the target; else Debian's compiler builds its own
//! core library.

use crate::exec::{find, output, say, show};
use crate::setup::{self, Need};
use crate::{exec, paths};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-none";

/// The image is to stay under this (issue 2, "Speed").
const IMAGE_AIM: u64 = 2 << 20;

/// Which compiler builds the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// The one that runs xtask: it has the target's core library.
    Rustup,
    /// Debian's, with `-Zbuild-std`.
    Debian,
}

/// Finds a toolchain for the bare machine, or gets one.
pub fn toolchain(offline: bool) -> Result<Toolchain> {
    if rustup_has_target() {
        return Ok(Toolchain::Rustup);
    }
    if debian_is_complete() {
        return Ok(Toolchain::Debian);
    }
    if !offline && find("rustup").is_some() {
        say(format!("asking rustup for the target {TARGET} (the hypervisor runs without an OS)"));
        let mut add = Command::new("timeout");
        if show(add.args(["120", "rustup", "target", "add", TARGET])).is_ok() && rustup_has_target()
        {
            return Ok(Toolchain::Rustup);
        }
        say("rustup cannot give it; Debian's compiler can build it");
    }
    setup::ensure(&[Need::BareMetal], offline)?;
    if !debian_is_complete() {
        bail!(
            "no compiler for {TARGET}: run `rustup target add {TARGET}`, or install Debian's \
             rustc-web, cargo-web, rust-web-src and lld"
        );
    }
    Ok(Toolchain::Debian)
}

fn rustup_has_target() -> bool {
    let Ok(dir) =
        output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))
    else {
        return false;
    };
    Path::new(dir.trim()).read_dir().is_ok_and(|mut files| files.next().is_some())
}

/// Debian's `rustc` package of the stable release is too old for this workspace; `rustc-web` is
/// not. Both are called /usr/bin/rustc, so the version decides.
fn debian_is_complete() -> bool {
    let Ok(version) = output(Command::new("/usr/bin/rustc").arg("--version")) else {
        return false;
    };
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let source = output(Command::new("/usr/bin/rustc").args(["--print", "sysroot"]))
        .map(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml"))
        .is_ok_and(|file| file.exists());
    minor >= Some(85) && source && Path::new("/usr/bin/cargo").exists() && find("ld.lld").is_some()
}

/// A cargo that builds for the bare machine: what to build is still to be added.
pub struct Bare {
    /// The command.
    pub cargo: Command,
    /// Where it leaves what it links.
    pub out: PathBuf,
}

/// Sets up a release build for the bare machine of the workspace in `dir`, linked by `script`; `name`
/// tells its target directory apart.
pub fn cargo_bare(dir: &Path, script: &Path, name: &str, offline: bool) -> Result<Bare> {
    let toolchain = toolchain(offline)?;
    let mut flags = vec![
        "-Crelocation-model=static".to_owned(),
        "-Ccode-model=kernel".to_owned(),
        format!("-Clink-arg=-T{}", script.display()),
        "-Clink-arg=--no-dynamic-linker".to_owned(),
        "-Clink-arg=-zmax-page-size=4096".to_owned(),
    ];
    let mut cargo = match toolchain {
        Toolchain::Rustup => Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into())),
        Toolchain::Debian => {
            flags.push("-Clinker=ld.lld".to_owned());
            let path = std::env::var("PATH").unwrap_or_default();
            let mut cargo = Command::new("/usr/bin/cargo");
            cargo
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env("PATH", format!("/usr/bin:{path}"))
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("RUSTC_WRAPPER")
                .env_remove("LD_LIBRARY_PATH");
            cargo
        }
    };
    // The compilers and the link scripts keep their own directories: in one they would rebuild each
    // other's.
    let target = match (toolchain, name) {
        (Toolchain::Rustup, "hypervisor") => paths::target(),
        (Toolchain::Debian, "hypervisor") => paths::target().join("bare"),
        (_, name) => paths::target().join(name),
    };
    cargo
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--release", "--target", TARGET]);
    if toolchain == Toolchain::Debian {
        cargo.args([
            "-Zbuild-std=core,alloc,compiler_builtins",
            "-Zbuild-std-features=compiler-builtins-mem",
        ]);
    }
    if offline {
        cargo.arg("--offline");
    }
    Ok(Bare { cargo, out: target.join(TARGET).join("release") })
}

/// Whether a file may be the hypervisor's image.
pub fn check(given: &Path) -> Result<()> {
    let start = std::fs::read(given)
        .with_context(|| format!("the hypervisor {} cannot be read", given.display()))?;
    if !start.starts_with(b"\x7fELF") {
        bail!("{} is no image of the hypervisor (not an ELF file)", given.display());
    }
    Ok(())
}

/// The hypervisor's ELF image: the one that is given, or what the sources build.
pub fn hypervisor(given: Option<&Path>, offline: bool) -> Result<PathBuf> {
    if let Some(given) = given {
        check(given)?;
        return Ok(std::path::absolute(given)?);
    }
    let script = paths::root().join("hv/link.ld");
    if !script.exists() {
        bail!("there is no hypervisor to build yet: {} is missing", paths::show(&script));
    }
    let mut bare = cargo_bare(&paths::root(), &script, "hypervisor", offline)?;
    bare.cargo.args(["--package", "hv", "--bin", "xenolith"]);
    say("building the hypervisor");
    exec::show(&mut bare.cargo).context("the hypervisor does not build")?;
    let image = bare.out.join("xenolith");
    let stripped = strip(&image)?;
    let size = std::fs::metadata(&stripped)?.len();
    say(format!("hypervisor: {} ({} KiB)", paths::show(&stripped), size.div_ceil(1024)));
    if size > IMAGE_AIM {
        say(format!("that is more than the {} MiB it should stay under", IMAGE_AIM >> 20));
    }
    Ok(stripped)
}

/// Writes a copy without debug information and symbols beside the image: it is what boots.
fn strip(image: &Path) -> Result<PathBuf> {
    let stripped = image.with_extension("boot");
    for program in ["objcopy", "llvm-objcopy", "llvm-objcopy-14"] {
        if find(program).is_some() {
            exec::run(Command::new(program).arg("--strip-all").arg(image).arg(&stripped))?;
            return Ok(stripped);
        }
    }
    std::fs::copy(image, &stripped)?;
    Ok(stripped)
}
