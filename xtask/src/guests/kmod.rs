//! The kernel modules an initramfs needs, with what they depend on, in loading order.
//! Debian's packages have no `modules.dep` (depmod makes it at installation), so each module's own
//! `.modinfo` is asked.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module: its name and its file's content.
pub struct Module {
    /// File name without directory, for example `ata_piix.ko`.
    pub file: String,
    /// The object file.
    pub data: Vec<u8>,
}

/// Finds `wanted` and all they depend on under a package's `lib/modules`; dependencies first.
/// Names that the kernel has built in are not there and are left out.
pub fn closure(package: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&package.join("lib/modules"), &mut files)?;
    let mut done = Vec::new();
    let mut order = Vec::new();
    for name in wanted {
        add(name, &files, &mut done, &mut order)?;
    }
    Ok(order)
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            index(&path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "ko") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_");
            files.insert(stem, path);
        }
    }
    Ok(())
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    done: &mut Vec<String>,
    order: &mut Vec<Module>,
) -> Result<()> {
    let name = name.replace('-', "_");
    if done.contains(&name) {
        return Ok(());
    }
    done.push(name.clone());
    let Some(path) = files.get(&name) else { return Ok(()) };
    let data = fs::read(path)?;
    for dependency in dependencies(&data) {
        add(&dependency, files, done, order)?;
    }
    // Modules are found by file name, which keeps its dashes.
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    order.push(Module { file, data });
    Ok(())
}

/// What the `depends=` and `softdep=pre:` strings of `.modinfo` name.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for text in strings_after(module, b"\0depends=") {
        names.extend(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
    }
    for text in strings_after(module, b"\0softdep=pre: ") {
        let before = text.split("post:").next().unwrap_or("");
        names.extend(before.split_whitespace().map(str::to_owned));
    }
    names
}

fn strings_after(bytes: &[u8], key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..bytes.len().saturating_sub(key.len()) {
        if bytes[at] == 0 && bytes[at..].starts_with(key) {
            let text = &bytes[at + key.len()..];
            let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
            found.push(String::from_utf8_lossy(&text[..end]).into_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_the_modules_own_text() {
        let text = b"license=GPL\0depends=libata,scsi_mod\0softdep=pre: crc32c post: x\0name=a\0";
        assert_eq!(dependencies(text), ["libata", "scsi_mod", "crc32c"]);
        assert!(dependencies(b"x\0depends=\0name=b\0").is_empty());
    }
}
