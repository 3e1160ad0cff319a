//! `cargo xtask image`: one ISO with the hypervisor and guests of the person's choice. It boots from
//! CD and from a USB stick, by BIOS and by UEFI.

use crate::cli::ImageArgs;
use crate::exec::say;
use crate::guests::{iso, packages::Packages};
use crate::setup::{self, Need};
use crate::{bootset, build, paths, run};
use anyhow::{Result, anyhow, bail};
use std::fs;

/// Carries out the command.
pub fn command(args: &ImageArgs) -> Result<()> {
    let packages = Packages::open(args.guest.offline)?;
    let mut plan = run::plan_without_steps(&args.guest, &packages)?;
    // A stick or a CD is not written to: guests' disks travel in the archive.
    plan.snapshot = true;
    setup::ensure(&[Need::Images, Need::Uefi], args.guest.offline)?;
    let image = build::hypervisor(args.guest.hypervisor.as_deref(), args.guest.offline)?;
    let set = bootset::make(&plan)?;
    if let Some(disk) = set.disks.first() {
        bail!(run::Usage(anyhow!(
            "{} is too large to travel in the image; give a disk of at most 192 MiB",
            disk.path.display()
        )));
    }
    let work = tempfile::tempdir()?;
    let archive = work.path().join("guests.cpio");
    fs::write(&archive, &set.archive)?;
    let files = [("boot/xenolith", image.as_path()), ("boot/guests.cpio", archive.as_path())];
    iso::hybrid(&args.output, &config(&args.guest.hv_append), &files)?;
    let size = fs::metadata(&args.output)?.len();
    say(format!("{} ({} MiB)", paths::show(&args.output), size.div_ceil(1 << 20)));
    say("to a USB stick (everything on it is lost): dd if=… of=/dev/sdX bs=4M conv=fsync");
    Ok(())
}

/// GRUB's menu. GRUB itself says what is missing where the hypervisor could not: a processor without
/// long mode runs its first instructions only, with the screen in a graphics mode.
fn config(append: &str) -> String {
    format!(
        "insmod all_video\ninsmod cpuid\nset timeout=3\n\
         if cpuid -l; then true; else\n\
         \techo \"Xenolith needs a 64-bit processor; this one has no long mode.\"\n\
         \tset timeout=-1\n\tsleep --interruptible 60\nfi\n\
         menuentry \"Xenolith\" {{\n\
         \tmultiboot2 /boot/xenolith {append}\n\
         \tmodule2 /boot/guests.cpio guests\n}}\n\
         menuentry \"Xenolith, more messages\" {{\n\
         \tmultiboot2 /boot/xenolith loglevel=debug {append}\n\
         \tmodule2 /boot/guests.cpio guests\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_hands_the_persons_words_to_the_hypervisor() {
        let text = config("cpus=2");
        assert!(text.contains("multiboot2 /boot/xenolith cpus=2\n"));
        assert_eq!(text.matches("module2 /boot/guests.cpio guests\n").count(), 2);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
