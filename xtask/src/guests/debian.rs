//! A disk with an installed Debian: systemd, a login, GRUB in its boot sectors, and beside it a mirror of
//! some packages that apt in the guest installs. Made without mounting anything, so that root in a
//! container can make it: the file system is filled by `mke2fs -d`, and GRUB's two stages are written
//! where the BIOS and they themselves look.

use super::iso::hex;
use super::media_dir;
use crate::exec::{output, run, say, show};
use crate::paths;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECTOR: u64 = 512;
/// Where the partition starts; GRUB's core fits before it.
const PARTITION_START: u64 = 2048;
const FILE_SYSTEM_MIB: u64 = 896;

/// The password of root on the disk: `xenolith`.
const PASSWORD: &str = "xenolith";

const PACKAGES: &str = "systemd-sysv,udev,kmod,linux-image-cloud-amd64,initramfs-tools,login,\
                        passwd,procps,util-linux,e2fsprogs";

/// What the mirror has, with all that it needs and the system lacks. The system has procps already.
const MIRRORED: &str = "bc file sqlite3 procps";
/// The mirror's directory among the media.
const MIRROR: &str = "debian-mirror";
/// A package in the mirror that is none, so that a failing apt is seen to fail.
const BROKEN: (&str, &[u8]) = (
    "Package: xenolith-broken\nVersion: 1\nArchitecture: all\nMaintainer: nobody\n\
     Description: not a package\n",
    b"not an archive\n",
);

/// Any card, by its driver's own name or by Xen's; an address by DHCP.
const NETWORK: &str = "[Match]\nName=e*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n";

/// A serial port that udev has not found after 90 s has no login for good. In Bochs it takes longer.
const PATIENCE: &str = "[Manager]\nDefaultTimeoutStartSec=900s\n";

const GRUB_CONFIG: &str = "serial --unit=0 --speed=115200\n\
    terminal_input console serial\nterminal_output console serial\nset timeout=1\n\
    menuentry \"Debian 12 on its disk\" {\n\
    \tlinux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 panic=5\n\
    \tinitrd /initrd.img\n}\n";

/// Makes the disk, once.
pub fn disk(offline: bool) -> Result<PathBuf> {
    let place = media_dir()?.join("debian-disk.img");
    if place.exists() && media_dir()?.join(MIRROR).exists() {
        return Ok(place);
    }
    crate::setup::ensure(&[crate::setup::Need::DiskImage, crate::setup::Need::Images], offline)?;
    if offline {
        bail!("the Debian disk was not made yet, and --offline downloads nothing");
    }
    if !nix::unistd::geteuid().is_root() {
        say("installing Debian into a directory needs user namespaces or root");
    }
    say("installing Debian 12 into a disk image with mmdebstrap (about 3 minutes)");
    let work = tempfile::tempdir_in(media_dir()?)?;
    let tree = work.path().join("tree");
    let mirror = work.path().join("mirror");
    fs::create_dir_all(mirror.join("partial"))?;
    install(&tree, &mirror)?;
    index(&mirror)?;
    let file_system = work.path().join("root.ext4");
    // What the boot loader reads must not need features that it lacks.
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file", "-L", "root", "-d"])
        .arg(&tree)
        .arg(&file_system)
        .arg(format!("{FILE_SYSTEM_MIB}M")))?;
    let core = work.path().join("core.img");
    run(Command::new("grub-mkimage")
        .args(["-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o"])
        .arg(&core)
        .args(["biosdisk", "part_msdos", "ext2", "normal", "linux", "configfile", "serial"])
        .args(["terminal", "echo", "ls", "cat", "search", "minicmd", "test", "reboot"]))?;
    let image = work.path().join("disk.img");
    assemble(&image, &file_system, Path::new("/usr/lib/grub/i386-pc/boot.img"), &core)?;
    let mirrored = media_dir()?.join(MIRROR);
    if mirrored.exists() {
        fs::remove_dir_all(&mirrored)?;
    }
    fs::rename(&mirror, &mirrored)?;
    fs::rename(&image, &place)?;
    say(format!("made {}", paths::show(&place)));
    Ok(place)
}

fn install(tree: &Path, mirror: &Path) -> Result<()> {
    let hook = |text: &str| format!("--customize-hook={text}");
    show(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--architectures=amd64"])
            .arg(format!("--include={PACKAGES}"))
            // Documentation is most of what a minimal system holds.
            .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
            .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
            .arg(hook(&format!("echo root:{PASSWORD} | chroot \"$1\" chpasswd")))
            .arg(hook("echo xenolith-guest >\"$1/etc/hostname\""))
            .arg(hook("echo LABEL=root / ext4 defaults 0 1 >\"$1/etc/fstab\""))
            // Nothing waits for a network, which may not be there.
            .arg(hook("chroot \"$1\" systemctl enable systemd-networkd"))
            .arg(hook("chroot \"$1\" systemctl disable systemd-networkd-wait-online"))
            .arg(hook(&format!(
                "APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get --yes --download-only \
                 --no-install-recommends --reinstall -oDir::Cache::archives={} install {MIRRORED}",
                mirror.display()
            )))
            .arg(hook("rm -rf \"$1\"/var/cache/apt/* \"$1\"/var/lib/apt/lists/*"))
            .arg("bookworm")
            .arg(tree),
    )
    .context("mmdebstrap failed")?;
    fs::write(tree.join("etc/systemd/network/any.network"), NETWORK)?;
    let patience = tree.join("etc/systemd/system.conf.d");
    fs::create_dir_all(&patience)?;
    fs::write(patience.join("slow.conf"), PATIENCE)?;
    fs::create_dir_all(tree.join("boot/grub"))?;
    fs::write(tree.join("boot/grub/grub.cfg"), GRUB_CONFIG)?;
    Ok(())
}

/// Lists what is in the mirror's directory in a file `Packages`, as apt wants it. Debian Policy, "Binary
/// package control files"; Debian wiki, "DebianRepository/Format", "Packages Indices".
fn index(mirror: &Path) -> Result<()> {
    fs::write(mirror.join("broken.deb"), BROKEN.1)?;
    let mut text = entry(BROKEN.0, "broken.deb", BROKEN.1);
    for found in fs::read_dir(mirror)? {
        let path = found?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|kind| kind != "deb") || name == "broken.deb" {
            continue;
        }
        let control = output(Command::new("dpkg-deb").arg("--field").arg(&path))?;
        text += &entry(&control, &name, &fs::read(&path)?);
    }
    Ok(fs::write(mirror.join("Packages"), text)?)
}

/// A package's paragraph of `Packages`.
fn entry(control: &str, name: &str, bytes: &[u8]) -> String {
    let (control, size, sum) = (control.trim_end(), bytes.len(), hex(&Sha256::digest(bytes)));
    format!("{control}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n")
}

/// Boot sector, GRUB's core and the partition in one image. GRUB's boot.img loads sector 1, and
/// the core's own block list, as grub-mkimage writes it, goes on at sector 2.
fn assemble(image: &Path, file_system: &Path, boot: &Path, core: &Path) -> Result<()> {
    let mut sector = fs::read(boot).with_context(|| format!("cannot read {}", boot.display()))?;
    ensure!(sector.len() == SECTOR as usize, "{} is no boot sector", boot.display());
    let core = fs::read(core)?;
    ensure!((core.len() as u64) < (PARTITION_START - 1) * SECTOR, "GRUB's core is too large");
    let size = fs::metadata(file_system)?.len();
    let sectors = u32::try_from(size / SECTOR)?;
    let mut entry = [0; 16];
    entry[0] = 0x80; // bootable
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]); // CHS says: use LBA
    entry[4] = 0x83; // Linux
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&(PARTITION_START as u32).to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    sector[440..446].copy_from_slice(&[0x58, 0x45, 0x4e, 0x4f, 0, 0]);
    sector[446..462].copy_from_slice(&entry);
    sector[462..510].fill(0);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut out = File::create(image)?;
    out.write_all(&sector)?;
    out.write_all(&core)?;
    out.seek(SeekFrom::Start(PARTITION_START * SECTOR))?;
    std::io::copy(&mut File::open(file_system)?, &mut out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_holds_boot_sector_core_and_partition_where_they_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("boot"), [0x90; 512]).unwrap();
        fs::write(at("core"), [0xcc; 1000]).unwrap();
        fs::write(at("fs"), [0xee; 4096]).unwrap();
        assemble(&at("disk"), &at("fs"), &at("boot"), &at("core")).unwrap();
        let disk = fs::read(at("disk")).unwrap();
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!((disk[0], disk[512], disk[2048 * 512]), (0x90, 0xcc, 0xee));
        assert_eq!(disk[446 + 8..446 + 16], [0, 8, 0, 0, 8, 0, 0, 0]);
    }

    #[test]
    fn a_package_is_listed_with_its_place_its_size_and_its_sum() {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            entry("Package: x\nVersion: 1\n\n", "x_1.deb", b"abc"),
            format!("Package: x\nVersion: 1\nFilename: ./x_1.deb\nSize: 3\nSHA256: {sum}\n\n")
        );
    }
}
