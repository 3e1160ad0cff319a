//! Debian's stock kernels as guests: kernel and initramfs, alone or on a GRUB ISO.

use super::packages::{Arch, Packages};
use super::{initramfs, iso};
use crate::run::Usage;
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of Debian's kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flavour {
    /// Name here and in the suite: `cloud-amd64`, `amd64`, `686`, `686-pae`.
    pub name: &'static str,
    arch: Arch,
}

/// All flavours that there are.
pub const FLAVOURS: &[Flavour] = &[
    Flavour { name: "cloud-amd64", arch: Arch::Amd64 },
    Flavour { name: "amd64", arch: Arch::Amd64 },
    Flavour { name: "686", arch: Arch::I386 },
    Flavour { name: "686-pae", arch: Arch::I386 },
];

/// Finds a flavour by name.
pub fn flavour(name: &str) -> Result<Flavour> {
    let Some(found) = FLAVOURS.iter().find(|flavour| flavour.name == name) else {
        let names: Vec<&str> = FLAVOURS.iter().map(|flavour| flavour.name).collect();
        let names = names.join(", ");
        bail!(Usage(anyhow!("there is no kernel flavour `{name}`; there are: {names}")));
    };
    Ok(*found)
}

/// A kernel and its initramfs.
pub struct Kernel {
    /// The kernel image as Debian ships it.
    pub image: PathBuf,
    /// Our initramfs for it.
    pub initramfs: PathBuf,
}

/// Fetches the kernel's package and makes its initramfs.
pub fn kernel(packages: &Packages, flavour: Flavour) -> Result<Kernel> {
    let meta = format!("linux-image-{}", flavour.name);
    let package = packages.kernel_behind(&meta, flavour.arch)?;
    let files = packages.unpacked(&package, flavour.arch)?;
    let image = files.join("boot").join(package.replacen("linux-image", "vmlinuz", 1));
    if !image.exists() {
        bail!("the package {package} has no {}", image.display());
    }
    let initramfs = super::media_dir()?.join(format!("initramfs-{}.gz", flavour.name));
    let bytes = initramfs::build(packages, flavour.arch, &files)
        .with_context(|| format!("cannot make the initramfs for {package}"))?;
    super::write_if_changed(&initramfs, &bytes)?;
    Ok(Kernel { image, initramfs })
}

/// Makes the GRUB ISO of a flavour; `append` ends the kernel's command line.
pub fn grub_iso(packages: &Packages, flavour: Flavour, append: &str) -> Result<PathBuf> {
    let place = format!("linux-{}{}.iso", flavour.name, super::tag(append));
    iso_with(packages, flavour, append, &place, None)
}

/// The same as a driver domain.
pub fn driver_iso(packages: &Packages, flavour: Flavour, append: &str) -> Result<PathBuf> {
    let package = packages.kernel_behind(&format!("linux-image-{}", flavour.name), flavour.arch)?;
    let files = packages.unpacked(&package, flavour.arch)?;
    let tools = super::xenstore::driver_archive(packages, flavour.arch, &files)?;
    let place = format!("driver-{}{}.iso", flavour.name, super::tag(append));
    iso_with(packages, flavour, append, &place, Some(&tools))
}

/// The same with Debian's XenStore tools in the initramfs.
pub fn xenstore_iso(packages: &Packages, flavour: Flavour, append: &str) -> Result<PathBuf> {
    let tools = super::xenstore::archive(packages, flavour.arch)?;
    let place = format!("xenstore-{}{}.iso", flavour.name, super::tag(append));
    iso_with(packages, flavour, append, &place, Some(&tools))
}

fn iso_with(
    packages: &Packages,
    flavour: Flavour,
    append: &str,
    name: &str,
    more: Option<&Path>,
) -> Result<PathBuf> {
    let kernel = kernel(packages, flavour)?;
    let initrds = if more.is_some() { "/boot/initrd.gz /boot/more.gz" } else { "/boot/initrd.gz" };
    let config = grub_config(flavour.name, append, initrds);
    let place = super::media_dir()?.join(name);
    let mut files = vec![
        ("boot/vmlinuz", kernel.image.as_path()),
        ("boot/initrd.gz", kernel.initramfs.as_path()),
    ];
    files.extend(more.map(|path| ("boot/more.gz", path)));
    iso::grub(&place, &config, &files)?;
    Ok(place)
}

/// As [`grub_iso`], for machines with UEFI too.
pub fn uefi_iso(packages: &Packages, flavour: Flavour, append: &str) -> Result<PathBuf> {
    let kernel = kernel(packages, flavour)?;
    let config = grub_config(flavour.name, append, "/boot/initrd.gz");
    let place =
        super::media_dir()?.join(format!("uefi-{}{}.iso", flavour.name, super::tag(append)));
    let files =
        [("boot/vmlinuz", kernel.image.as_path()), ("boot/initrd.gz", kernel.initramfs.as_path())];
    iso::hybrid(&place, &config, &files)?;
    Ok(place)
}

/// Makes a directory for a TFTP server: the kernel, and a script by which iPXE starts it.
pub fn tftp(packages: &Packages, flavour: Flavour, append: &str) -> Result<PathBuf> {
    let kernel = kernel(packages, flavour)?;
    let dir = super::media_dir()?.join(format!("tftp-{}{}", flavour.name, super::tag(append)));
    fs::create_dir_all(&dir)?;
    let script = format!(
        "#!ipxe\nkernel vmlinuz {CONSOLES} initrd=initrd.gz {append}\ninitrd initrd.gz\nboot\n"
    );
    super::write_if_changed(&dir.join("vmlinuz"), &fs::read(&kernel.image)?)?;
    super::write_if_changed(&dir.join("initrd.gz"), &fs::read(&kernel.initramfs)?)?;
    super::write_if_changed(&dir.join(super::BOOT_FILE), script.as_bytes())?;
    Ok(dir)
}

/// What every kernel gets: messages on the screen and on the first serial port, and a reboot
/// rather than an endless wait after a panic.
pub const CONSOLES: &str = "console=tty0 console=ttyS0,115200 panic=5";

/// What a PVH guest's kernel gets: its only console is Xen's.
pub const PVH_CONSOLE: &str = "console=hvc0 panic=5";

fn grub_config(name: &str, append: &str, initrds: &str) -> String {
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         set timeout=1\n\
         set timeout_style=menu\n\
         menuentry \"Debian {name} in Xenolith\" {{\n\
         \tlinux /boot/vmlinuz {CONSOLES} {append}\n\
         \tinitrd {initrds}\n\
         }}\n"
    )
}

/// Whether a file looks like a Linux kernel: the setup header's signature at 202h
/// (Linux, "The Linux/x86 Boot Protocol").
pub fn is_kernel(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut start = Vec::new();
    fs::File::open(path)?.take(0x210).read_to_end(&mut start)?;
    Ok(start.get(0x202..0x206) == Some(b"HdrS"))
}
