//! Running other programs: progress on standard error, output kept for the error message.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Says what is going on, on standard error, so that standard output stays for results.
pub fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// Runs a command quietly; its output is shown only when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs a command quietly and gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().with_context(|| {
        format!("cannot start `{name}`: is it installed? (`cargo xtask setup`)")
    })?;
    if !done.status.success() {
        let mut words = String::from_utf8_lossy(&done.stderr).into_owned();
        words.push_str(&String::from_utf8_lossy(&done.stdout));
        let tail: Vec<&str> = words.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("`{}` failed ({}):\n{}", describe(command), done.status, tail.join("\n"));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a command whose output the person should see (a build, an installation).
pub fn show(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| {
        format!("cannot start `{name}`: is it installed? (`cargo xtask setup`)")
    })?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// A command line as a person would write it.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Finds a program on the search path, or in the two directories that only root's path has.
pub fn find(program: impl AsRef<OsStr>) -> Option<std::path::PathBuf> {
    let program = Path::new(program.as_ref());
    if program.is_absolute() {
        return program.exists().then(|| program.to_path_buf());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}
