//! Debian's XenStore tools for a guest: a second initramfs with the package's programs, the libraries
//! that they need, and a script that puts them to the test.

use super::packages::{Arch, Packages};
use super::{initramfs, kmod};
use crate::cpio::Archive;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Names under which the one program of the package is called.
const TOOLS: &[&str] = &["chmod", "exists", "list", "ls", "read", "rm", "watch", "write"];
const CHECK: &[u8] = include_bytes!("../assets/xenstore");

/// The script of a driver domain, and its drivers.
const DRIVER: &[u8] = include_bytes!("../assets/driver");
const BACK_ENDS: &[&str] = &["xen_blkback", "xen_netback", "bridge"];

/// Makes the archive and gives its place.
pub fn archive(packages: &Packages, arch: Arch) -> Result<PathBuf> {
    let mut archive = tools(packages, arch)?;
    archive.file("xenstore-check", 0o644, CHECK);
    finish(archive, &format!("xenstore-{}", arch.name()))
}

/// The same with what makes a driver domain of a guest with this kernel: back ends, and the script that serves.
pub fn driver_archive(packages: &Packages, arch: Arch, kernel_package: &Path) -> Result<PathBuf> {
    let mut archive = tools(packages, arch)?;
    archive.directory("modules");
    let mut list = String::new();
    for module in kmod::closure(kernel_package, BACK_ENDS)? {
        archive.file(&format!("modules/{}", module.file), 0o644, &module.data);
        list.push_str(&module.file);
        list.push('\n');
    }
    ensure!(
        ["xen-blkback", "xen-netback", "bridge"].iter().all(|module| list.contains(module)),
        "the kernel has no back ends for Xen, or no bridge"
    );
    archive.file("modules/driver-list", 0o644, list.as_bytes());
    archive.file("driver", 0o644, DRIVER);
    finish(archive, &format!("driver-{}", arch.name()))
}

fn finish(archive: Archive, name: &str) -> Result<PathBuf> {
    let place = super::media_dir()?.join(format!("{name}.gz"));
    super::write_if_changed(&place, &initramfs::compress(&archive.finish())?)?;
    Ok(place)
}

/// The programs and their libraries.
fn tools(packages: &Packages, arch: Arch) -> Result<Archive> {
    let (triplet, loader) = match arch {
        Arch::Amd64 => ("x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2"),
        Arch::I386 => ("i386-linux-gnu", "lib/ld-linux.so.2"),
    };
    let mut archive = Archive::new();
    for dir in ["bin", "lib", "lib64"] {
        archive.directory(dir);
    }
    let program = packages.unpacked("xenstore-utils", arch)?.join("usr/bin/xenstore");
    archive.file("bin/xenstore", 0o755, &read(&program)?);
    for tool in TOOLS {
        archive.link(&format!("bin/xenstore-{tool}"), "xenstore");
    }
    let libraries = [
        ("libxenstore4", "usr/lib", "libxenstore.so.4"),
        ("libxentoolcore1", "usr/lib", "libxentoolcore.so.1"),
        ("libc6", "lib", "libc.so.6"),
        // The C library ends a watching thread with it.
        ("libgcc-s1", "lib", "libgcc_s.so.1"),
    ];
    for (package, dir, file) in libraries {
        let place = packages.unpacked(package, arch)?.join(dir).join(triplet).join(file);
        archive.file(&format!("lib/{file}"), 0o755, &read(&place)?);
    }
    let place = packages.unpacked("libc6", arch)?.join(loader);
    archive.file(loader, 0o755, &read(&place)?);
    Ok(archive)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
