//! Bochs as the machine: VMX without hardware. Debian's 2.7 has its debugger compiled in and wants
//! a terminal; it gets a script that says "continue" and a pseudo-terminal. A Bochs 3 built by
//! `cargo xtask setup --bochs3` is taken instead where it is there: it is three times as fast.

use super::build_bochs::{self, Mended};
use super::probe;
use super::{Listener, Machine};
use crate::bootset::HostDisk;
use crate::guests::{BOOT_FILE, iso};
use crate::plan::{Display, Guest, Plan};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Memory of the hypervisor itself, as in `qemu.rs`.
const OWN_MEMORY_MIB: u64 = 192;

/// Largest memory that Bochs' firmware sets up below 4 GiB.
const MOST_MEMORY_MIB: u64 = 3072;

/// Emulated instructions per emulated second. Low, so that waits are short for us.
const IPS: u32 = 50_000_000;

/// What a `bochsrc` says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPUs.
    pub cpus: u32,
    /// CPU model by Bochs' name.
    pub cpu_model: String,
    /// Instructions per emulated second.
    pub ips: u32,
    /// The CD to boot from.
    pub iso: Option<PathBuf>,
    /// Hard disks; the name becomes the drive's model.
    pub disks: Vec<HostDisk>,
    /// The floppy.
    pub floppy: Option<PathBuf>,
    /// Throw writes away.
    pub snapshot: bool,
    /// An e1000 on a network of one host, 10.0.2.2.
    pub network: bool,
    /// What that host gives away by TFTP.
    pub tftp: Option<PathBuf>,
    /// Where that network's settings are.
    pub slirp: PathBuf,
    /// TCP ports on this machine that take the serial ports.
    pub serial: Vec<u16>,
    /// `term` for 2.7, `nogui` for our 3.0.
    pub display: &'static str,
    /// Where Bochs writes its own messages.
    pub log: PathBuf,
    /// The BIOS image.
    pub bios: PathBuf,
    /// A firmware other than Bochs' own starts here.
    pub whole_memory: bool,
}

/// Writes a `bochsrc`.
pub fn bochsrc(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line("config_interface: textconfig".into());
    line(format!("display_library: {}", config.display));
    // The port that ends Bochs ("Shutdown" to 8900h) belongs to this device.
    line("plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1".into());
    // Memory that is not touched is not taken from this machine.
    let host = if config.whole_memory { config.memory_mib } else { config.memory_mib.min(2048) };
    line(format!("memory: guest={}, host={host}", config.memory_mib));
    line(format!(
        "cpu: model={}, count={}, ips={}, reset_on_triple_fault=0, ignore_bad_msrs=1",
        config.cpu_model, config.cpus, config.ips
    ));
    line(format!("romimage: file=\"{}\"", config.bios.display()));
    line("vgaromimage: file=\"/usr/share/vgabios/vgabios.bin\"".into());
    line("vga: extension=vbe, update_freq=5".into());
    line("clock: sync=none, time0=utc".into());
    line("ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".into());
    line("ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15".into());
    let mode = if config.snapshot { "volatile" } else { "flat" };
    for (disk, place) in config.disks.iter().zip(["ata0-master", "ata0-slave", "ata1-slave"]) {
        line(format!(
            "{place}: type=disk, path=\"{}\", mode={mode}, model=\"{}\", translation=lba",
            disk.path.display(),
            disk.name
        ));
    }
    if let Some(iso) = &config.iso {
        line(format!("ata1-master: type=cdrom, path=\"{}\", status=inserted", iso.display()));
    }
    if let Some(floppy) = &config.floppy {
        line(format!("floppya: 1_44=\"{}\", status=inserted", floppy.display()));
    }
    if config.network {
        let root = config.tftp.as_ref().map(|dir| format!(", ethdev=\"{}\"", dir.display()));
        line(format!(
            "e1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=slirp{}, script=\"{}\"",
            root.unwrap_or_default(),
            config.slirp.display()
        ));
    }
    let order: Vec<&str> = [
        (config.iso.is_some() && config.disks.is_empty(), "cdrom"),
        (!config.disks.is_empty() && config.iso.is_none(), "disk"),
        (config.iso.is_some() && !config.disks.is_empty(), "cdrom, disk"),
        (config.floppy.is_some(), "floppy"),
    ]
    .into_iter()
    .filter_map(|(there, word)| there.then_some(word))
    .collect();
    line(format!("boot: {}", order.join(", ")));
    for (index, port) in config.serial.iter().enumerate() {
        line(format!("com{}: enabled=1, mode=socket-client, dev=127.0.0.1:{port}", index + 1));
    }
    line(format!("log: \"{}\"", config.log.display()));
    // The terminal cannot show every graphics mode, which must not end the machine.
    let terminal = if config.display == "term" { ", term=report" } else { "" };
    line(format!("panic: action=fatal{terminal}"));
    line("error: action=report".into());
    line("info: action=ignore".into());
    line("debug: action=ignore".into());
    text
}

/// The program to run, and whether it is our Bochs 3.
fn program() -> (PathBuf, bool) {
    build_bochs::place().map_or((PathBuf::from("bochs-bin"), false), |ours| (ours, true))
}

/// The usual CPU model: the newest whose VMX features 2.7 has without trouble.
const MODEL: &str = "corei7_haswell_4770";

/// Starts the hypervisor from a GRUB ISO that carries it and the guests' archive.
pub fn hypervisor(
    plan: &Plan,
    image: &Path,
    archive: &[u8],
    disks: &[HostDisk],
) -> Result<Machine> {
    let dir = tempfile::tempdir()?;
    let module = dir.path().join("guests.cpio");
    fs::write(&module, archive)?;
    let iso = dir.path().join("xenolith.iso");
    let mended = build_bochs::mended();
    // What `build_bochs` mends makes guests crash.
    let without = match mended {
        Mended::All => "",
        Mended::Delivery => " posted=0",
        Mended::Nothing => " apicv=0",
    };
    let config = format!(
        "set timeout=0\nset gfxpayload=text\nmenuentry Xenolith {{\n\tmultiboot2 /boot/xenolith \
         {}{without}\n\tmodule2 /boot/guests.cpio guests\n}}\n",
        super::hypervisor_line(plan, "bochs")
    );
    iso::grub(&iso, &config, &[("boot/xenolith", image), ("boot/guests.cpio", module.as_path())])?;
    let guests: u64 = plan.guests.iter().map(Guest::most_memory_mib).sum();
    let memory = OWN_MEMORY_MIB + guests + 2 * (archive.len() as u64).div_ceil(1 << 20);
    if memory > MOST_MEMORY_MIB {
        bail!("{memory} MiB are more than Bochs takes ({MOST_MEMORY_MIB}): give the guests less");
    }
    let config = Config {
        memory_mib: memory.next_multiple_of(16),
        cpus: plan.host.cpus,
        cpu_model: plan.host.cpu_model.clone().unwrap_or_else(|| MODEL.into()),
        iso: Some(iso),
        disks: disks.to_vec(),
        snapshot: plan.snapshot,
        network: plan.guests.iter().any(Guest::has_network) && mended > Mended::Nothing,
        tftp: plan.guests.iter().find_map(|guest| guest.media.tftp.clone()),
        ..Config::default()
    };
    start(config, dir, 2, plan.host.display)
}

/// Starts a guest alone.
pub fn bare(plan: &Plan, guest: &Guest) -> Result<Machine> {
    if guest.media.kernel.is_some() {
        bail!("Bochs starts no kernel without boot loader: use an ISO (--recipe linux:FLAVOUR)");
    }
    let disks = guest.disks().into_iter().enumerate();
    let disks = disks
        .map(|(index, path)| HostDisk { name: format!("disk{index}"), path: path.to_owned() })
        .collect();
    let config = Config {
        memory_mib: guest.memory_mib.next_multiple_of(2),
        cpus: guest.vcpus,
        cpu_model: plan.host.cpu_model.clone().unwrap_or_else(|| MODEL.into()),
        iso: guest.iso().map(Path::to_owned),
        disks,
        floppy: guest.floppy().map(Path::to_owned),
        snapshot: plan.snapshot,
        ..Config::default()
    };
    start(config, tempfile::tempdir()?, 1, plan.host.display)
}

fn start(
    mut config: Config,
    dir: tempfile::TempDir,
    ports: usize,
    display: Display,
) -> Result<Machine> {
    if display != Display::None {
        bail!(probe::NO_SCREEN);
    }
    let (program, ours) = program();
    let listeners: Vec<TcpListener> =
        (0..ports).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    config.serial = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<std::io::Result<_>>()?;
    config.ips = IPS;
    config.log = dir.path().join("bochs.log");
    config.bios = PathBuf::from("/usr/share/bochs/BIOS-bochs-latest");
    config.display = if ours { "nogui" } else { "term" };
    config.slirp = dir.path().join("slirp");
    fs::write(&config.slirp, format!("# slirp config\nbootfile = {BOOT_FILE}\n"))?;
    let rc = dir.path().join("bochsrc");
    fs::write(&rc, bochsrc(&config))?;
    let mut bochs = Command::new("setpriv");
    bochs.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("-q").arg("-f").arg(&rc);
    let words = dir.path().join("words");
    let mut terminal = None;
    if ours {
        bochs.stdin(Stdio::null()).stdout(File::create(&words)?);
    } else {
        let commands = dir.path().join("commands");
        fs::write(&commands, "c\n")?;
        bochs.arg("-rc").arg(&commands).env("TERM", "xterm");
        let size = nix::pty::Winsize { ws_row: 60, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None)?;
        bochs.stdin(pty.slave.try_clone()?).stdout(pty.slave);
        // Nobody reads what Bochs draws, but its buffer must not fill up.
        let mut screen = File::from(pty.master.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
        terminal = Some(pty.master);
    }
    bochs.stderr(File::create(dir.path().join("errors"))?);
    let mut child =
        bochs.spawn().context("cannot start Bochs (`cargo xtask setup` installs it)")?;
    let log = config.log;
    let streams = connect(&mut child, listeners).map_err(|error| {
        let _ = child.kill();
        let _ = child.wait();
        let words = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = words.lines().rev().take(8).collect();
        error.context(format!(
            "Bochs says:\n{}",
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        ))
    })?;
    let mut streams = streams.into_iter();
    let console = streams.next();
    let control = streams.next();
    Ok(Machine {
        child,
        console,
        control,
        qmp: None,
        log,
        _dir: dir,
        _terminal: terminal,
        says_how_it_ended: false,
    })
}

fn connect(child: &mut Child, listeners: Vec<TcpListener>) -> Result<Vec<super::Stream>> {
    listeners
        .into_iter()
        .map(|listener| Listener::Tcp(listener).accept(child, "serial port"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bochsrc_names_disks_ports_and_boot_order() {
        let disk = HostDisk { name: "xenolith-disk0".into(), path: "/d.img".into() };
        let text = bochsrc(&Config {
            memory_mib: 512,
            cpus: 2,
            cpu_model: "corei7_skylake_x".into(),
            iso: Some("/x.iso".into()),
            disks: vec![disk],
            snapshot: true,
            serial: vec![1000, 1001],
            display: "term",
            ..Config::default()
        });
        for line in [
            "memory: guest=512, host=512",
            "ata0-master: type=disk, path=\"/d.img\", mode=volatile, model=\"xenolith-disk0\", \
             translation=lba",
            "ata1-master: type=cdrom, path=\"/x.iso\", status=inserted",
            "boot: cdrom, disk",
            "com2: enabled=1, mode=socket-client, dev=127.0.0.1:1001",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
