//! Debian packages as data: downloaded and unpacked under `target/guests`, never installed.
//! An apt configuration of our own knows i386 too, so the system's architectures stay as they are.

use crate::exec::{output, run, say};
use crate::paths;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The architecture a package is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    /// 64-bit x86.
    Amd64,
    /// 32-bit x86.
    I386,
}

impl Arch {
    /// Debian's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::I386 => "i386",
        }
    }
}

/// Where packages come from, and where they are kept.
pub struct Packages {
    dir: PathBuf,
    offline: bool,
}

impl Packages {
    /// Opens the cache.
    pub fn open(offline: bool) -> Result<Self> {
        let dir = paths::guests().join("packages");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, offline })
    }

    /// Unpacks a package and gives its directory; downloads it first where it is not cached.
    pub fn unpacked(&self, package: &str, arch: Arch) -> Result<PathBuf> {
        let place = self.dir.join(format!("{package}_{}", arch.name()));
        if place.join(".complete").exists() {
            return Ok(place);
        }
        if self.offline {
            bail!(
                "the package {package} ({}) is not in {}, and --offline downloads nothing: \
                 run once without --offline",
                arch.name(),
                paths::show(&self.dir)
            );
        }
        self.configure()?;
        say(format!("downloading Debian package {package} ({})", arch.name()));
        let work = tempfile::tempdir_in(&self.dir)?;
        let full = format!("{package}:{}", arch.name());
        let fetched = run(self.apt("apt-get").current_dir(work.path()).args(["download", &full]));
        // `all` packages are the same under either name, and some apts insist on one.
        fetched
            .or_else(|_| {
                run(self.apt("apt-get").current_dir(work.path()).args(["download", package]))
            })
            .with_context(|| format!("cannot download {package} ({})", arch.name()))?;
        let deb = fs::read_dir(work.path())?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
            .with_context(|| format!("apt-get downloaded no {package}"))?;
        let files = work.path().join("files");
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&files))?;
        fs::write(files.join(".complete"), deb.file_name().unwrap_or_default().as_encoded_bytes())?;
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(&files, &place)?;
        Ok(place)
    }

    /// The real package behind a kernel's metapackage: `linux-image-amd64` depends on it.
    pub fn kernel_behind(&self, meta: &str, arch: Arch) -> Result<String> {
        let note = self.dir.join(format!("{meta}_{}.depends", arch.name()));
        if let Ok(name) = fs::read_to_string(&note) {
            return Ok(name);
        }
        if self.offline {
            bail!("which kernel {meta} stands for is not known yet: run once without --offline");
        }
        self.configure()?;
        let full = format!("{meta}:{}", arch.name());
        let text = output(self.apt("apt-cache").args(["depends", &full]))?;
        let name = parse_depends(&text)
            .with_context(|| format!("{meta} ({}) depends on no kernel:\n{text}", arch.name()))?;
        fs::write(&note, &name)?;
        Ok(name)
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("apt/apt.conf")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.config_file()).env("LC_ALL", "C");
        command
    }

    /// Writes the configuration and reads the package lists, once.
    fn configure(&self) -> Result<()> {
        let dir = self.dir.join("apt");
        let done = dir.join("updated");
        if done.exists() {
            return Ok(());
        }
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        fs::write(self.config_file(), config(&dir))?;
        say("reading Debian's package lists (amd64 and i386)");
        // One repository that is in the middle of an update must not stop the others.
        if let Err(error) = run(self.apt("apt-get").arg("update")) {
            let known = output(self.apt("apt-cache").args(["policy", "linux-image-amd64"]))?;
            if !known.contains("Candidate: 6") {
                return Err(error.context("cannot read Debian's package lists"));
            }
            say("some package lists could not be read; the others will do");
        }
        fs::write(done, "")?;
        Ok(())
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\nAPT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; \"i386\"; }};\nAPT::Sandbox::User \"root\";\n"
    )
}

fn parse_depends(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .find(|name| name.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_behind_a_metapackage_is_read_from_its_dependencies() {
        let text = "linux-image-686:i386\n  Depends: linux-image-6.1.0-50-686:i386\n";
        assert_eq!(parse_depends(text).as_deref(), Some("linux-image-6.1.0-50-686"));
        assert_eq!(parse_depends("linux-image-686\n"), None);
    }
}
