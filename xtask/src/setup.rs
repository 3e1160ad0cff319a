//! What the commands need on a Debian 12 machine, why, and how it gets there.
//! Nothing is installed silently: the list is printed first, and `--offline` only prints it.

use crate::exec::{find, say, show};
use anyhow::{Result, bail};
use std::process::Command;

/// What a command is about to do, and so which tools it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Compile the hypervisor where rustup cannot give the bare-metal target.
    BareMetal,
    /// Make ISO images and initramfs archives.
    Images,
    /// Fetch Debian packages.
    Packages,
    /// Run QEMU.
    Qemu,
    /// Show a window of QEMU.
    QemuWindow,
    /// Run Bochs.
    Bochs,
    /// Compile Bochs 3.
    BochsSource,
    /// Make the disk image with debootstrap.
    DiskImage,
    /// Write an ISO that UEFI machines boot, too.
    Uefi,
}

struct Tool {
    /// A program, or a file, that shows that the package is there.
    probe: &'static str,
    package: &'static str,
    needs: &'static [Need],
    why: &'static str,
}

const fn tool(
    probe: &'static str,
    package: &'static str,
    needs: &'static [Need],
    why: &'static str,
) -> Tool {
    Tool { probe, package, needs, why }
}

const TOOLS: &[Tool] = &[
    tool("/usr/bin/rustc", "rustc-web", &[Need::BareMetal], "compiles the hypervisor"),
    tool("/usr/bin/cargo", "cargo-web", &[Need::BareMetal], "builds the hypervisor's crates"),
    tool(
        "/usr/lib/rustlib/src/rust/library/core/Cargo.toml",
        "rust-web-src",
        &[Need::BareMetal],
        "the core library's source, built for a machine without operating system",
    ),
    tool("ld.lld", "lld", &[Need::BareMetal], "links the hypervisor"),
    tool("grub-mkrescue", "grub-common", &[Need::Images], "makes bootable ISO images"),
    tool(
        "/usr/lib/grub/i386-pc/kernel.img",
        "grub-pc-bin",
        &[Need::Images],
        "the boot loader on the guests' ISO images",
    ),
    tool("xorriso", "xorriso", &[Need::Images], "writes ISO 9660 file systems"),
    tool("mformat", "mtools", &[Need::Images, Need::Uefi], "writes FAT file systems in images"),
    tool("dpkg-deb", "dpkg", &[Need::Packages], "unpacks Debian packages"),
    tool("qemu-system-x86_64", "qemu-system-x86", &[Need::Qemu], "the machine with SVM"),
    tool("qemu-img", "qemu-utils", &[Need::DiskImage], "reads and converts disk images"),
    tool(
        "/usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so",
        "qemu-system-gui",
        &[Need::QemuWindow],
        "QEMU's window",
    ),
    tool("bochs-bin", "bochs", &[Need::Bochs], "the machine with VMX"),
    tool(
        "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so",
        "bochs-term",
        &[Need::Bochs],
        "lets Bochs run without a window",
    ),
    tool(
        "/usr/share/bochs/BIOS-bochs-latest",
        "bochsbios",
        &[Need::Bochs, Need::BochsSource],
        "the firmware of Bochs",
    ),
    tool(
        "/usr/share/vgabios/vgabios.bin",
        "vgabios",
        &[Need::Bochs, Need::BochsSource],
        "the video BIOS of Bochs",
    ),
    tool("g++", "g++", &[Need::BochsSource], "compiles Bochs 3"),
    tool("make", "make", &[Need::BochsSource], "builds Bochs 3"),
    tool("xz", "xz-utils", &[Need::BochsSource], "unpacks the source of Bochs 3"),
    tool("mmdebstrap", "mmdebstrap", &[Need::DiskImage], "installs Debian into a directory"),
    tool("mke2fs", "e2fsprogs", &[Need::DiskImage], "makes the file system of the disk image"),
    tool(
        "/usr/lib/grub/x86_64-efi/moddep.lst",
        "grub-efi-amd64-bin",
        &[Need::Uefi],
        "the boot loader for UEFI machines",
    ),
];

/// The tools that a list of needs asks for and that are not there.
fn missing(needs: &[Need]) -> Vec<&'static Tool> {
    let wanted = |tool: &&Tool| tool.needs.iter().any(|need| needs.contains(need));
    TOOLS.iter().filter(wanted).filter(|tool| find(tool.probe).is_none()).collect()
}

/// Installs what is missing for `needs`, after saying what and why.
pub fn ensure(needs: &[Need], offline: bool) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    say("this needs Debian packages that are not installed:");
    for tool in &missing {
        eprintln!("    {:<22} {}", tool.package, tool.why);
    }
    if offline {
        bail!(
            "--offline installs nothing. Install them yourself: apt-get install {}",
            packages.join(" ")
        );
    }
    if find("apt-get").is_none() {
        bail!("there is no apt-get here (this is written for Debian 12): install the tools above");
    }
    say(format!("installing them now: apt-get install {}", packages.join(" ")));
    if package_lists_are_missing(&packages) {
        // A repository that does not answer must not stop us: what is missing shows at once.
        if let Err(error) = show(as_root("apt-get").arg("update")) {
            say(format!("apt-get update had a problem, going on: {error}"));
        }
    }
    show(
        as_root("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&packages),
    )
}

/// Whether apt knows of no candidate for one of the packages yet.
fn package_lists_are_missing(packages: &[&str]) -> bool {
    packages.iter().any(|package| {
        let mut command = Command::new("apt-cache");
        let known = crate::exec::output(command.args(["policy", package])).unwrap_or_default();
        !known.contains("Candidate:") || known.contains("Candidate: (none)")
    })
}

/// A command run as root: as it is for root, by sudo for others.
fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
    command
}

/// `cargo xtask setup`: everything that `run` and `test` may need, at once.
pub fn all(offline: bool) -> Result<()> {
    crate::build::toolchain(offline)?;
    let needs = [
        Need::Images,
        Need::Packages,
        Need::Qemu,
        Need::Bochs,
        Need::BochsSource,
        Need::DiskImage,
        Need::Uefi,
    ];
    ensure(&needs, offline)?;
    say("all tools are there");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_why_and_has_a_need() {
        for tool in TOOLS {
            assert!(!tool.needs.is_empty() && tool.why.len() > 8, "{}", tool.package);
        }
    }

    #[test]
    fn what_is_there_is_not_asked_for() {
        assert!(missing(&[]).is_empty());
    }
}
