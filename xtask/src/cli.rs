//! The command line: what a person can ask for.

use crate::plan::{Accel, Display, Emulator, Vendor};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Builds, runs, tests and measures Xenolith.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Install the tools that the other commands use (says which and why first).
    Setup {
        /// Compile Bochs 3 as well: VMX runs three times faster there than in Debian's 2.7.
        #[arg(long)]
        bochs3: bool,
        /// Install nothing; say what is missing.
        #[arg(long)]
        offline: bool,
    },
    /// Build the hypervisor.
    Build {
        /// Download and install nothing.
        #[arg(long)]
        offline: bool,
    },
    /// Boot the hypervisor and guests in it.
    Run(Box<RunArgs>),
    /// Run the host's tests, the style checks and the boot suite.
    Test(TestArgs),
    /// Write an ISO for CD and USB stick, BIOS and UEFI, with guests on it.
    Image(Box<ImageArgs>),
    /// Check the house's rules: sizes, unsafe code, arrows between crates, words.
    Tidy,
    /// Count instructions of exits, of a boot, or of Xen's interface.
    Bench(BenchArgs),
}

/// Options of `test`.
#[derive(Args, Debug, Clone)]
pub struct TestArgs {
    /// Boot only this guest; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Boot only on this vendor's virtualization.
    #[arg(long, value_enum, default_value_t = Vendor::Auto)]
    pub vendor: Vendor,
    /// Also what is too slow for every day.
    #[arg(long)]
    pub full: bool,
    /// Only the host's tests and style checks.
    #[arg(long)]
    pub host: bool,
    /// List the boot suite.
    #[arg(long)]
    pub list: bool,
    /// Boot this image of the hypervisor instead of building one.
    #[arg(long, value_name = "FILE")]
    pub hypervisor: Option<PathBuf>,
    /// Download and install nothing.
    #[arg(long)]
    pub offline: bool,
    /// Boot the guests without hypervisor: shows that the suite itself is sound.
    #[arg(long, hide = true)]
    pub bare: bool,
}

/// Options of `image`.
#[derive(Args, Debug, Clone)]
pub struct ImageArgs {
    /// Where to write it.
    #[arg(long, short, value_name = "FILE", default_value = "xenolith.iso")]
    pub output: PathBuf,
    /// What boots in it.
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum BenchWhat {
    /// Instructions of each operation that leaves the guest.
    Exits,
    /// Instructions from reset to the initramfs, beside the same without hypervisor.
    Boot,
    /// What Xen's interface costs: hypercalls, events, grants, XenStore.
    Pv,
}

/// The parts of `bench pv`: each is one boot, or a few.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum PvPart {
    /// Hypercalls, events, grants and XenStore, by a guest kernel of ours.
    Calls,
    /// The store itself with 1 and with 1,000 domains that watch it.
    Store,
    /// Reads of a disk by Linux.
    Disk,
    /// Linux' boot to its first process, with Xen's interface and without.
    Boot,
    /// Linux' ping and TCP to the outside.
    NetOutside,
    /// Linux' ping and TCP to another guest.
    NetGuests,
}

/// Options of `bench`.
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    pub what: BenchWhat,
    /// Of `pv`, only this part; may be given several times.
    #[arg(long, value_enum, value_name = "PART")]
    pub only: Vec<PvPart>,
    /// Only on this vendor's virtualization.
    #[arg(long, value_enum, default_value_t = Vendor::Auto)]
    pub vendor: Vendor,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Boot this image of the hypervisor instead of building one.
    #[arg(long, value_name = "FILE")]
    pub hypervisor: Option<PathBuf>,
    /// Download and install nothing.
    #[arg(long)]
    pub offline: bool,
}

/// What boots: options that `run` and `image` share.
#[derive(Args, Debug, Clone)]
pub struct GuestArgs {
    /// A CD image to boot from.
    #[arg(long, value_name = "FILE")]
    pub iso: Option<PathBuf>,
    /// A raw disk image; the guest's writes stay in it unless --snapshot is given.
    #[arg(long, value_name = "FILE")]
    pub disk: Vec<PathBuf>,
    /// A floppy image.
    #[arg(long, value_name = "FILE")]
    pub floppy: Option<PathBuf>,
    /// A Linux kernel to start without boot loader.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Start the kernel as a PVH guest (type = "pvh" in a configuration): a bzImage, or an ELF file with Xen's PVH note.
    #[arg(long, requires = "kernel")]
    pub pvh: bool,
    /// Its initramfs.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Its command line.
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// Media made here from Debian packages, as `selfcheck:cloud-amd64` (`--recipe list`).
    #[arg(long, value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// A guest's configuration in xl.cfg syntax; may be given several times.
    #[arg(long, value_name = "CONFIG")]
    pub guest: Vec<PathBuf>,
    /// Memory of the guest in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub memory: u64,
    /// vCPUs of the guest.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub vcpus: u32,
    /// A network card for the guest; with QEMU it reaches the outside, and 10.0.2.2 is this machine.
    #[arg(long)]
    pub network: bool,
    /// The guest's firmware: xenolith, seabios, ovmf (UEFI), or an image file.
    #[arg(long, value_name = "WHICH", default_value = "xenolith")]
    pub firmware: String,
    /// An image that goes along to be put into a drive later: the monitor's `insert hdc NAME`.
    #[arg(long, value_name = "FILE")]
    pub medium: Vec<PathBuf>,
    /// Throw away what guests write to disks.
    #[arg(long)]
    pub snapshot: bool,
    /// Words for the hypervisor's own command line (log=debug …).
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub hv_append: String,
    /// Boot this image of the hypervisor instead of building one.
    #[arg(long, value_name = "FILE")]
    pub hypervisor: Option<PathBuf>,
    /// Download and install nothing.
    #[arg(long)]
    pub offline: bool,
}

/// Options of `run`.
#[derive(Args, Debug, Clone)]
#[command(after_long_help = EXIT_STATUS, allow_negative_numbers = true)]
pub struct RunArgs {
    /// What boots.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// CPUs of the machine under the hypervisor.
    #[arg(long, value_name = "N")]
    pub host_cpus: Option<u32>,
    /// Which vendor's virtualization to use.
    #[arg(long, value_enum, default_value_t = Vendor::Auto)]
    pub vendor: Vendor,
    /// Which emulator is the machine.
    #[arg(long, value_enum, default_value_t = Emulator::Auto)]
    pub emulator: Emulator,
    /// How QEMU runs.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// CPU model of the emulator, where not the usual one.
    #[arg(long, value_name = "MODEL")]
    pub cpu_model: Option<String>,
    /// The machine's network card by QEMU's name, as `e1000`; virtio where not given.
    #[arg(long, value_name = "MODEL")]
    pub host_card: Option<String>,
    /// Where to show the machine's screen.
    #[arg(long, value_enum, default_value_t = Display::None)]
    pub display: Display,
    /// Wait until this is seen on a guest's serial port or screen; after the last one the run ends.
    /// What the hypervisor itself says does not count.
    /// Steps (--until, --type, --keys, --send, --monitor, --wait) are done in the order given.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub until: Vec<String>,
    /// Type on the emulated keyboard; `\n` is Enter.
    #[arg(long = "type", value_name = "TEXT", allow_hyphen_values = true)]
    pub type_text: Vec<String>,
    /// Press keys: ctrl-alt-del,f1,…
    #[arg(long, value_name = "CHORDS")]
    pub keys: Vec<String>,
    /// Send text to the guest's serial port; `\n` is Enter.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub send: Vec<String>,
    /// Give the hypervisor's monitor a command.
    #[arg(long, value_name = "TEXT")]
    pub monitor: Vec<String>,
    /// Let some seconds pass.
    #[arg(long, value_name = "SECONDS")]
    pub wait: Vec<f64>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// Write what the guest sends to its serial port to a file.
    #[arg(long, value_name = "FILE")]
    pub serial_log: Option<PathBuf>,
    /// Write a picture of the guest's screen at the end.
    #[arg(long, value_name = "FILE.png")]
    pub screenshot: Option<PathBuf>,
    /// Write the guest's text screen at the end.
    #[arg(long, value_name = "FILE")]
    pub screen_text: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// The same boot without hypervisor.
    #[arg(long, hide = true)]
    pub bare: bool,
    /// Count one TSC tick per instruction (QEMU TCG).
    #[arg(long, hide = true)]
    pub icount: bool,
}

/// What the exit status of `run` means.
pub const EXIT_STATUS: &str = "Exit status:
  0    the last --until was seen, or (without --until) every guest powered off
  1    xtask itself failed: a tool is missing, the build failed
  2    wrong usage, unusable media, or a wrong configuration
  3    a guest crashed
  4    --timeout passed
  5    the hypervisor or the emulator failed
  6    the guest ended before the text of --until was seen
  130  ended by Ctrl-C, or by Ctrl-] pressed three times";
