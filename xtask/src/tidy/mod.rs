//! `cargo xtask tidy`: the house's style as a test. Each rule is a function over one file's text,
//! so that it can be tested on a line; the arrows between crates come from cargo's metadata.

mod arrows;
mod rules;

use crate::exec::{output, say};
use crate::paths;
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Something that breaks a rule, or comes near to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, from the repository's root.
    pub file: String,
    /// Line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// What is wrong and what to do.
    pub words: String,
    /// A warning does not fail the run.
    pub fails: bool,
}

/// Checks the whole repository.
pub fn check() -> Result<()> {
    let mut findings = Vec::new();
    let files = files()?;
    for file in &files {
        let Ok(text) = fs::read_to_string(paths::root().join(file)) else { continue };
        let name = file.to_string_lossy();
        rules::check(&name, &text, &mut findings);
    }
    findings.extend(arrows::check()?);
    let failing = findings.iter().filter(|finding| finding.fails).count();
    for finding in &findings {
        let kind = if finding.fails { "error" } else { "warning" };
        eprintln!("{}:{}: {kind}: {}", finding.file, finding.line, finding.words);
    }
    if failing > 0 {
        bail!("tidy: {failing} of the house's rules are broken");
    }
    say(format!("tidy: {} files keep the house's rules", files.len()));
    Ok(())
}

/// The repository's text files, tracked or new, without what is ignored.
fn files() -> Result<Vec<PathBuf>> {
    let list = output(Command::new("git").current_dir(paths::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    const KINDS: &[&str] = &["rs", "md", "toml", "S", "ld", "sh", "cfg", "run"];
    let kind = |path: &PathBuf| {
        let ext = path.extension().map(|ext| ext.to_string_lossy().into_owned());
        ext.is_some_and(|ext| KINDS.contains(&ext.as_str())) || path.starts_with(".ci")
    };
    Ok(list.lines().map(PathBuf::from).filter(kind).collect())
}
