//! Which crate may depend on which: the picture in docs/architecture.md, read from cargo's metadata.

use super::Finding;
use crate::paths;
use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

/// Each crate of the workspace and the crates of the workspace it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("arch", &[]),
    ("devmodel", &["arch"]),
    ("bios", &["arch"]),
    ("pvdrivers", &["arch"]),
    ("vmx", &["arch"]),
    ("svm", &["arch"]),
    ("machine", &["arch", "devmodel", "bios", "pvdrivers"]),
    ("hv", &["arch", "devmodel", "bios", "pvdrivers", "machine", "vmx", "svm"]),
    ("xtask", &["machine"]),
    ("host", &["arch", "devmodel", "bios", "pvdrivers", "machine", "vmx", "svm"]),
];

/// Checks every dependency between crates of the workspace.
pub fn check() -> Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .current_dir(paths::root())
        .no_deps()
        .exec()
        .context("cargo metadata does not answer")?;
    let packages = metadata.workspace_packages();
    let names: Vec<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let mut findings = Vec::new();
    for package in &packages {
        let used = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        let used: Vec<&str> = used.filter(|name| names.iter().any(|known| known == name)).collect();
        findings.extend(judge(&package.name, &used));
    }
    Ok(findings)
}

fn judge(package: &str, used: &[&str]) -> Vec<Finding> {
    let finding = |words: String| Finding {
        file: format!("{package}/Cargo.toml"),
        line: 0,
        words,
        fails: true,
    };
    let allowed = ARROWS.iter().find(|(name, _)| *name == package).map(|(_, allowed)| *allowed);
    // A crate that only tests use everything from (tests/…) has no arrow pointing at it.
    let Some(allowed) = allowed else { return Vec::new() };
    used.iter()
        .filter(|name| !allowed.contains(name))
        .map(|name| finding(format!("{package} must not depend on {name} (docs/architecture.md)")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_run_one_way() {
        assert!(judge("machine", &["arch", "devmodel"]).is_empty());
        assert_eq!(judge("devmodel", &["bios"]).len(), 1);
        assert_eq!(judge("vmx", &["svm", "machine"]).len(), 2);
        assert_eq!(judge("arch", &["hv"]).len(), 1);
    }
}
