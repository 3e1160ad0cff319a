//! ISO images: with GRUB for BIOS machines, with ISOLINUX, and the hybrid one of `image`.

use crate::exec::{find, run, say};
use crate::paths;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// GRUB's modules that our ISOs use; all others stay out and keep the image small.
const GRUB_MODULES: &str = "biosdisk iso9660 part_msdos part_gpt ext2 fat linux multiboot2 normal \
     configfile serial terminal echo ls cat hashsum gcry_sha256 sleep halt reboot test search \
     search_label search_fs_file minicmd vga_text all_video video gfxterm font";

/// Writes a GRUB ISO for BIOS machines. It is made again only when its parts have changed.
pub fn grub(place: &Path, config: &str, files: &[(&str, &Path)]) -> Result<()> {
    let stamp = stamp(config, files)?;
    if is_current(place, &stamp) {
        return Ok(());
    }
    say(format!("making {}", paths::show(place)));
    let tree = stage(place, files)?;
    fs::create_dir_all(tree.path().join("boot/grub"))?;
    fs::write(tree.path().join("boot/grub/grub.cfg"), config)?;
    run(Command::new("grub-mkrescue")
        .args(["--directory=/usr/lib/grub/i386-pc", "--fonts=", "--locales=", "--themes="])
        .arg(format!("--install-modules={}", GRUB_MODULES))
        .arg("-o")
        .arg(place)
        .arg(tree.path())
        .args(["--", "-volid", "XENOLITH"]))
    .context("cannot make an ISO with grub-mkrescue")?;
    finish(place, &stamp)
}

/// Writes an ISOLINUX ISO: `isolinux.bin` and the menu modules come from Debian's packages.
pub fn isolinux(place: &Path, files: &[(&str, &Path)], config: &str) -> Result<()> {
    let stamp = stamp(config, files)?;
    if is_current(place, &stamp) {
        return Ok(());
    }
    say(format!("making {}", paths::show(place)));
    let tree = stage(place, files)?;
    fs::write(tree.path().join("isolinux/isolinux.cfg"), config)?;
    run(Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-V", "XENOLITH", "-J", "-R"])
        .args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"])
        .arg(place)
        .arg(tree.path()))?;
    finish(place, &stamp)
}

/// Writes a hybrid ISO that BIOS and UEFI machines boot from CD and from a USB stick.
pub fn hybrid(place: &Path, config: &str, files: &[(&str, &Path)]) -> Result<()> {
    let tree = stage(place, files)?;
    fs::create_dir_all(tree.path().join("boot/grub"))?;
    fs::write(tree.path().join("boot/grub/grub.cfg"), config)?;
    let program = find("grub-mkrescue").context("grub-mkrescue is missing")?;
    run(Command::new(program)
        .args(["--locales=", "--themes=", "-o"])
        .arg(place)
        .arg(tree.path())
        .args(["--", "-volid", "XENOLITH"]))
    .context("cannot make a hybrid ISO with grub-mkrescue")
}

/// Lays the files out in a directory beside the image; hard links where possible.
fn stage(place: &Path, files: &[(&str, &Path)]) -> Result<tempfile::TempDir> {
    let parent = place.parent().context("an image needs a directory")?;
    fs::create_dir_all(parent)?;
    let tree = tempfile::tempdir_in(parent)?;
    for (name, source) in files {
        let target = tree.path().join(name);
        fs::create_dir_all(target.parent().context("a file needs a directory")?)?;
        if fs::hard_link(source, &target).is_err() {
            fs::copy(source, &target)
                .with_context(|| format!("cannot read {}", source.display()))?;
        }
    }
    Ok(tree)
}

/// A digest over everything that goes into an image.
fn stamp(config: &str, files: &[(&str, &Path)]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(config);
    hash.update(GRUB_MODULES);
    for (name, source) in files {
        hash.update(name);
        hash.update(fs::read(source).with_context(|| format!("cannot read {}", source.display()))?);
    }
    Ok(hex(&hash.finalize()))
}

fn stamp_file(place: &Path) -> std::path::PathBuf {
    place.with_extension("stamp")
}

fn is_current(place: &Path, stamp: &str) -> bool {
    place.exists() && fs::read_to_string(stamp_file(place)).is_ok_and(|old| old == stamp)
}

fn finish(place: &Path, stamp: &str) -> Result<()> {
    fs::write(stamp_file(place), stamp)?;
    Ok(())
}

/// A file of an ISO image by its name, without the directory: the first directory record of that name whose extent
/// lies in the image (ECMA-119 "Format of a Directory Record").
pub fn file<'a>(image: &'a [u8], name: &str) -> Option<&'a [u8]> {
    const NAME: usize = 33;
    let identifier = format!("{name};1").into_bytes();
    let word = |at: usize| Some(u32::from_le_bytes(*image.get(at..)?.first_chunk()?) as usize);
    image.windows(identifier.len()).enumerate().find_map(|(at, found)| {
        let record = at.checked_sub(NAME).filter(|_| found.eq_ignore_ascii_case(&identifier))?;
        let (start, len) = (word(record + 2)? * 2048, word(record + 10)?);
        let fits = usize::from(image[at - 1]) == identifier.len();
        image.get(start..)?.get(..len).filter(|_| fits)
    })
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
