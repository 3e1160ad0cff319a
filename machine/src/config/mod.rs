//! A guest's configuration: a text file in the syntax of xl.cfg(5), Xen 4.17.
//!
//! What is unknown or wrong is refused, with the file, the line, the key, and what is allowed: a
//! configuration that is accepted means what it says. Read `keys` for the list of keys, `syntax`
//! for the grammar.

mod cpus;
mod disk;
mod error;
mod keys;
mod syntax;
#[cfg(test)]
mod tests;
mod vif;

pub use cpus::{CpuSet, MAX_CPU};
pub use disk::{DiskConfig, Target, Vdev};
pub use error::{ConfigError, Problem};
pub use syntax::{Atom, Entry, Value};
pub use vif::VifConfig;

use crate::viridian::Groups;
use crate::xen::Limits;
use alloc::string::String;
use alloc::vec::Vec;

/// Least memory in MiB.
pub const MIN_MEMORY: u32 = 1;
/// Most memory in MiB: 1 TiB.
pub const MAX_MEMORY: u32 = 1 << 20;
/// Most vCPUs.
pub const MAX_VCPUS: u8 = 64;

/// How a guest starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestKind {
    /// A whole PC with firmware.
    #[default]
    Hvm,
    /// A kernel started by Xen's PVH protocol, without PC devices.
    Pvh,
}

/// What the guest executes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// This project's own.
    #[default]
    Xenolith,
    /// SeaBIOS: the boot module of that name.
    SeaBios,
    /// OVMF: the boot module of that name.
    Ovmf,
    /// The image in this boot module.
    Module(String),
}

/// A class of devices in the boot order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFrom {
    /// `a`
    Floppy,
    /// `c`
    Disk,
    /// `d`
    Cdrom,
    /// `n`
    Network,
}

/// Where a serial port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// To the hypervisor's console.
    Console,
    /// Nowhere; the port is there.
    None,
}

/// What happens when a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its memory is freed.
    Destroy,
    /// It starts anew.
    Restart,
    /// It stays as it is, for looking at.
    Preserve,
    /// Its state is written out, then [`Action::Destroy`].
    CoredumpDestroy,
    /// Its state is written out, then [`Action::Restart`].
    CoredumpRestart,
}

/// One guest's configuration. Defaults are xl's, except where said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// `name`: required; the word by which people call it.
    pub name: String,
    /// `type`: `"hvm"` (default; xl's is pv) or `"pvh"`.
    pub kind: GuestKind,
    /// `uuid`; `None`: to be made up.
    pub uuid: Option<[u8; 16]>,
    /// `memory` in MiB, 1 to 1048576. Default 256, as xl's 32 boots hardly anything of today.
    pub memory_mib: u32,
    /// `maxmem` in MiB, at least `memory`; default `memory`.
    pub max_memory_mib: u32,
    /// `vcpus`: that it starts with, 1 to 64; default 1.
    pub vcpus: u8,
    /// `maxvcpus`: that it may have, at least `vcpus`; default `vcpus`.
    pub max_vcpus: u8,
    /// `cpus`: empty for all; one set for all vCPUs; or one for each, the last for the rest. See
    /// [`GuestConfig::affinity`].
    pub cpus: Vec<CpuSet>,
    /// `cpu_weight`, 1 to 65535; default 256.
    pub cpu_weight: u16,
    /// `disk` and `floppy`. No two at one place.
    pub disks: Vec<DiskConfig>,
    /// `kernel`: a boot module to start without a disk.
    pub kernel: Option<String>,
    /// `ramdisk`: a boot module.
    pub ramdisk: Option<String>,
    /// `cmdline`, or `root` and `extra` joined as xl joins them.
    pub cmdline: String,
    /// `boot`; default as xl's `"cda"`.
    pub boot: Vec<BootFrom>,
    /// `bootmenu`: how long the firmware's menu waits in milliseconds, 0 (default, none) to 60000.
    /// Not in xl.
    pub boot_menu_ms: u32,
    /// `firmware`, `bios`, or `firmware_override`.
    pub firmware: Firmware,
    /// `serial`: two ports, of which at most one leads to the console. Default: the first leads to the console (xl's default is none).
    pub serial: [Serial; 2],
    /// `videoram` in MiB: a power of two from 1 to 32; default 16.
    pub video_mib: u32,
    /// `on_poweroff`; default destroy.
    pub on_poweroff: Action,
    /// `on_reboot`; default restart.
    pub on_reboot: Action,
    /// `on_crash`; default destroy.
    pub on_crash: Action,
    /// `on_watchdog`; default destroy.
    pub on_watchdog: Action,
    /// `xen_platform_pci`: the PCI device that Xen's drivers look for; default yes.
    pub xen_platform_pci: bool,
    /// `xen`: whether Xen's CPUID leaves and hypercalls are there; default yes. Not in xl.
    pub xen: bool,
    /// `max_event_channels`, `max_grant_frames`, `max_maptrack_frames`, `max_grant_version`; default all that there is.
    pub limits: Limits,
    /// `viridian`: which parts of Hyper-V's interface are there; default none.
    pub viridian: Option<Groups>,
    /// `hpet`; default yes.
    pub hpet: bool,
    /// `acpi`; default yes.
    pub acpi: bool,
    /// `apic`; default yes.
    pub apic: bool,
    /// `pae`; default yes.
    pub pae: bool,
    /// `nx`; default yes.
    pub nx: bool,
    /// `rtc_timeoffset` in seconds; default 0.
    pub rtc_offset_s: i32,
    /// `localtime`: the real-time clock shows local time; default no. For a tool that knows the time zone.
    pub localtime: bool,
    /// `vif`: network interfaces.
    pub vifs: Vec<VifConfig>,
    /// `vfb`: a paravirtual frame buffer; default no.
    pub vfb: bool,
    /// `vkb_device`: a paravirtual keyboard and pointer; default yes.
    pub vkb_device: bool,
    /// `snapshot`: all writes are thrown away at the end; default no. Not in xl.
    pub snapshot: bool,
}

impl GuestConfig {
    /// A configuration with every default, named `name`.
    #[must_use]
    pub fn new(name: &str) -> GuestConfig {
        GuestConfig {
            name: name.into(),
            kind: GuestKind::Hvm,
            uuid: None,
            memory_mib: 256,
            max_memory_mib: 256,
            vcpus: 1,
            max_vcpus: 1,
            cpus: Vec::new(),
            cpu_weight: 256,
            disks: Vec::new(),
            kernel: None,
            ramdisk: None,
            cmdline: String::new(),
            boot: alloc::vec![BootFrom::Disk, BootFrom::Cdrom, BootFrom::Floppy],
            boot_menu_ms: 0,
            firmware: Firmware::Xenolith,
            serial: [Serial::Console, Serial::None],
            video_mib: 16,
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Destroy,
            on_watchdog: Action::Destroy,
            xen_platform_pci: true,
            xen: true,
            limits: Limits::default(),
            viridian: None,
            hpet: true,
            acpi: true,
            apic: true,
            pae: true,
            nx: true,
            rtc_offset_s: 0,
            localtime: false,
            vifs: Vec::new(),
            vfb: false,
            vkb_device: true,
            snapshot: false,
        }
    }

    /// Reads a configuration. `file` is its name for messages.
    ///
    /// # Errors
    /// The first fault that is found, ready to be shown: its [`Display`](core::fmt::Display) is one
    /// line.
    pub fn parse(file: &str, text: &str) -> Result<GuestConfig, ConfigError> {
        keys::read(text).map_err(|fault| located(file, fault))
    }

    /// Which host CPUs vCPU number `vcpu` may use.
    #[must_use]
    pub fn affinity(&self, vcpu: usize) -> CpuSet {
        self.cpus.get(vcpu).or(self.cpus.last()).copied().unwrap_or(CpuSet::ALL)
    }

    /// The boot order as this project's firmware takes it; network boot is not among it.
    #[must_use]
    pub fn bios_boot_order(&self) -> Vec<bios::BootDevice> {
        self.boot
            .iter()
            .filter_map(|from| match from {
                BootFrom::Floppy => Some(bios::BootDevice::Floppy),
                BootFrom::Disk => Some(bios::BootDevice::Hard),
                BootFrom::Cdrom => Some(bios::BootDevice::Cd),
                BootFrom::Network => None,
            })
            .collect()
    }

    /// Names of the guests whose back ends serve this one, each as often as it stands there, with the key's name.
    pub fn backends(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let disks = self.disks.iter().filter_map(|disk| match &disk.target {
            Target::Remote { guest, .. } => Some(("disk", guest.as_str())),
            _ => None,
        });
        disks.chain(self.vifs.iter().filter_map(|vif| Some(("vif", vif.backend.as_deref()?))))
    }

    /// A disk of the machine that one of two guests writes while the other has it, too. `number`: which disk a target
    /// means, if one.
    pub fn contends(
        &self,
        other: &GuestConfig,
        number: impl Fn(&Target) -> Option<usize>,
    ) -> Option<usize> {
        let writes = |config: &GuestConfig, disk: &DiskConfig| disk.writable && !config.snapshot;
        self.disks.iter().find_map(|own| {
            let wanted = number(&own.target)?;
            let same = |theirs: &&DiskConfig| number(&theirs.target) == Some(wanted);
            let mut others = other.disks.iter().filter(same);
            others.any(|theirs| writes(self, own) || writes(other, theirs)).then_some(wanted)
        })
    }

    /// Names of all boot modules that it mentions, each as often as it stands there. Firmware that
    /// is not a module by name is not among them.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        let disks = self.disks.iter().filter_map(|disk| match &disk.target {
            Target::Module(name) => Some(name.as_str()),
            _ => None,
        });
        let firmware = match &self.firmware {
            Firmware::Module(name) => Some(name.as_str()),
            _ => None,
        };
        disks.chain(firmware).chain(self.kernel.as_deref()).chain(self.ramdisk.as_deref())
    }
}

/// The settings of a configuration as they stand there, for a tool that rewrites some of them. Only
/// the grammar is checked.
///
/// # Errors
/// The first fault against the grammar.
pub fn entries(file: &str, text: &str) -> Result<Vec<Entry>, ConfigError> {
    syntax::parse(text).map_err(|fault| located(file, fault))
}

fn located(file: &str, (key, (line, problem)): (String, syntax::Located)) -> ConfigError {
    ConfigError { file: file.into(), line, key, problem }
}
