//! QEMU as the machine: the hypervisor by its PVH entry with the guests' archive as its module, or
//! a guest alone.

use super::qmp::Qmp;
use super::{Listener, Machine, Stream};
use crate::bootset::BootSet;
use crate::guests::BOOT_FILE;
use crate::plan::{Accel, Display, Guest, Plan};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Memory of the hypervisor itself, its heap and its guests' tables and copies, in MiB.
const OWN_MEMORY_MIB: u64 = 192;

/// Starts the hypervisor with its guests.
pub fn hypervisor(plan: &Plan, accel: Accel, image: &Path, set: &BootSet) -> Result<Machine> {
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("guests.cpio");
    fs::write(&archive, &set.archive)?;
    let guests: u64 = plan.guests.iter().map(Guest::most_memory_mib).sum();
    // Copies of modules' written pages come out of the same memory.
    let memory = OWN_MEMORY_MIB + guests + 2 * (set.archive.len() as u64).div_ceil(1 << 20);
    let mut qemu = base(plan, accel, memory.next_multiple_of(2));
    qemu.arg("-nodefaults").arg("-kernel").arg(image).arg("-initrd").arg(&archive);
    qemu.args(["-append", &super::hypervisor_line(plan, "debug")]);
    qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-no-reboot"]);
    for (index, disk) in set.disks.iter().enumerate() {
        let snapshot = if plan.snapshot { "on" } else { "off" };
        let path = comma(&disk.path);
        qemu.arg("-drive").arg(format!(
            "if=none,id=disk{index},format=raw,cache=writeback,snapshot={snapshot},file={path}"
        ));
        qemu.arg("-device").arg(format!(
            "virtio-blk-pci,drive=disk{index},serial={},disable-legacy=on",
            disk.name
        ));
    }
    if plan.guests.iter().any(Guest::has_network) {
        let tftp = plan.guests.iter().find_map(|guest| guest.media.tftp.as_deref());
        qemu.arg("-netdev").arg(network(tftp));
        let usual = "virtio-net-pci,disable-legacy=on";
        let card = plan.host.card.as_deref().unwrap_or(usual);
        qemu.arg("-device").arg(format!("{card},netdev=net0,romfile="));
    }
    start(qemu, dir, true, true)
}

/// QEMU's own network of one host, 10.0.2.2, which answers DHCP, DNS, pings and TFTP.
fn network(tftp: Option<&Path>) -> String {
    let mut words = "user,id=net0".to_owned();
    if let Some(dir) = tftp {
        words.push_str(&format!(",tftp={},bootfile={BOOT_FILE}", comma(dir)));
    }
    words
}

/// Starts a guest alone.
pub fn bare(plan: &Plan, accel: Accel, guest: &Guest) -> Result<Machine> {
    let mut qemu = base(plan, accel, guest.memory_mib);
    qemu.args(["-nodefaults", "-smp", &guest.vcpus.to_string()]);
    let media = &guest.media;
    for (index, path) in guest.disks().into_iter().enumerate() {
        let snapshot = if plan.snapshot { "on" } else { "off" };
        let path = comma(path);
        qemu.arg("-drive").arg(format!(
            "if=ide,index={index},media=disk,format=raw,snapshot={snapshot},file={path}"
        ));
    }
    if let Some(path) = guest.iso() {
        qemu.arg("-drive").arg(format!("if=ide,index=2,media=cdrom,file={}", comma(path)));
        if guest.disks().is_empty() {
            qemu.args(["-boot", "d"]);
        } else {
            qemu.args(["-boot", "order=dc"]);
        }
    }
    if let Some(path) = guest.floppy() {
        let path = comma(path);
        qemu.arg("-drive").arg(format!("if=floppy,format=raw,snapshot=on,file={path}"));
    }
    if let Some(path) = &media.kernel {
        qemu.arg("-kernel").arg(path).args(["-append", &media.append]);
    }
    if let Some(path) = &media.initrd {
        qemu.arg("-initrd").arg(path);
    }
    if let Some(path) = &media.firmware {
        qemu.arg("-bios").arg(path);
    }
    if guest.has_network() {
        qemu.arg("-netdev").arg(network(media.tftp.as_deref()));
        qemu.args(["-device", "e1000,netdev=net0"]);
    }
    start(qemu, tempfile::tempdir()?, false, true)
}

fn base(plan: &Plan, accel: Accel, memory_mib: u64) -> Command {
    // QEMU ends with us even when we are killed.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    let host = &plan.host;
    let cpu = match (&host.cpu_model, accel) {
        (Some(model), _) => model.as_str(),
        (None, Accel::Kvm) => "host",
        (None, _) => emulated_cpu(),
    };
    qemu.args(["-machine", "pc", "-cpu", cpu]);
    qemu.args(["-accel", if accel == Accel::Kvm { "kvm" } else { "tcg" }]);
    qemu.arg("-m").arg(memory_mib.to_string());
    if !plan.bare {
        qemu.args(["-smp", &host.cpus.to_string()]);
    }
    if host.icount {
        qemu.args(["-icount", "shift=0,sleep=on"]);
    }
    match host.display {
        Display::None if plan.bare => qemu.args(["-display", "none", "-vga", "std"]),
        Display::None => qemu.args(["-display", "none", "-vga", "none"]),
        Display::Gtk => qemu.args(["-display", "gtk", "-vga", "std"]),
        Display::Vnc => qemu.args(["-display", "vnc=127.0.0.1:0", "-vga", "std"]),
        Display::Curses => qemu.args(["-display", "curses", "-vga", "std"]),
    };
    qemu
}

/// The model that is emulated. QEMU before 8.0 gives CMPXCHG16B an operation of flags that is not stored yet, and what
/// comes out is rubbish: the next interrupt or exit has it as RFLAGS, which Linux from 6.5 on does not survive.
fn emulated_cpu() -> &'static str {
    let version = Command::new("qemu-system-x86_64").arg("--version").output();
    let words = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    match words.ok().as_deref().and_then(major) {
        Some(major) if major < 8 => "EPYC,-cx16",
        _ => "EPYC",
    }
}

/// The first number behind `version`.
fn major(words: &str) -> Option<u32> {
    words.split_once("version ")?.1.split('.').next()?.parse().ok()
}

/// Starts QEMU with sockets that we listen on already.
fn start(mut qemu: Command, dir: tempfile::TempDir, control: bool, qmp: bool) -> Result<Machine> {
    let log = dir.path().join("qemu.log");
    let socket = |name: &str| -> Result<(Listener, PathBuf)> {
        let path = dir.path().join(name);
        Ok((Listener::Unix(UnixListener::bind(&path)?), path))
    };
    let serial = |qemu: &mut Command, name: &str, path: &Path| {
        qemu.arg("-chardev").arg(format!("socket,id={name},path={}", path.display()));
        qemu.args(["-serial", &format!("chardev:{name}")]);
    };
    let (console, path) = socket("com1")?;
    serial(&mut qemu, "com1", &path);
    let control = match control {
        true => {
            let (listener, path) = socket("com2")?;
            serial(&mut qemu, "com2", &path);
            Some(listener)
        }
        false => None,
    };
    let monitor = match qmp {
        true => {
            let (listener, path) = socket("qmp")?;
            qemu.arg("-qmp").arg(format!("unix:{}", path.display()));
            Some(listener)
        }
        false => None,
    };
    let words = File::create(&log)?;
    let curses = qemu.get_args().any(|arg| arg == "curses");
    if !curses {
        qemu.stdin(Stdio::null()).stdout(words.try_clone()?);
    }
    qemu.stderr(words);
    let mut child = qemu.spawn().context("cannot start QEMU (`cargo xtask setup` installs it)")?;
    let connected = connect(&mut child, &console, control.as_ref(), monitor.as_ref());
    let (console, control, qmp) = match connected {
        Ok(streams) => streams,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            let words = fs::read_to_string(&log).unwrap_or_default();
            return Err(error.context(format!("QEMU says:\n{}", words.trim())));
        }
    };
    Ok(Machine {
        child,
        console: Some(console),
        control,
        qmp,
        log,
        _dir: dir,
        _terminal: None,
        says_how_it_ended: true,
    })
}

fn connect(
    child: &mut Child,
    console: &Listener,
    control: Option<&Listener>,
    monitor: Option<&Listener>,
) -> Result<(Stream, Option<Stream>, Option<Qmp>)> {
    let console = console.accept(child, "first serial port")?;
    let control = control.map(|it| it.accept(child, "second serial port")).transpose()?;
    let qmp = match monitor {
        Some(listener) => Some(Qmp::open(listener.accept(child, "monitor")?)?),
        None => None,
    };
    Ok((console, control, qmp))
}

/// QEMU's option parser takes `,,` for a comma in a file name.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_qemu_says() {
        let debian_12 = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b2)\nCopyright";
        assert_eq!(major(debian_12), Some(7));
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some(10));
        assert_eq!(major("no such program"), None);
    }
}
