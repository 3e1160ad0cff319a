//! Building a guest from its configuration: memory, computer, drives, vCPUs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU64};

use arch::slat::{MemType, Range, Slat};
use arch::{GuestPhys, Perm};
use bios::BiosConfig;
use devmodel::blk::Media;
use devmodel::fdc::{DriveType, geometry_of_image};
use devmodel::lapic::DEFAULT_BASE;
use devmodel::rtc::WallClock;
use machine::boot::{Kernel, KernelError};
use machine::config::{self, DiskConfig, Firmware, GuestConfig, Serial, Target, Vdev, VifConfig};
use machine::memmap::LOW_RAM_MAX;
use machine::pvh::{Pvh, PvhError};
use machine::xen::{self, Hub, XenConfig};
use machine::{Clock, Cpu, Drive, MAX_NICS, Machine, MachineConfig, Nic, SLOTS};
use pvdrivers::DomId;
use spin::Mutex;

use super::backend::Backend;
use super::disk::{Medium, Module};
use super::memory::{Frames, Store};
use super::net::{self, Vif};
use super::snapshot::Snapshot;
use super::{Action, Actions, Domain, Parts, Slot, Task, fpu, pv};
use crate::archive::Entry;
use crate::cpu::{percpu, tsc, wall};
use crate::drivers::block;
use crate::mem;
use crate::mem::frames;

/// Why a guest cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// No boot module of this name.
    NoModule(String),
    /// No host disk of this name or number.
    NoHostDisk(String),
    /// A floppy image whose size is no format's: bytes.
    FloppySize(u64),
    /// A medium without a byte.
    Empty(String),
    /// A firmware image that is not a multiple of 64 KiB, or larger than 16 MiB.
    FirmwareSize(String),
    /// Memory: MiB wanted and MiB free.
    Memory(u64, u64),
    /// The kernel cannot be started.
    Kernel(KernelError),
    /// The kernel cannot be started by the PVH protocol.
    Pvh(PvhError),
    /// A network card of this model.
    CardModel(String),
    /// Another guest's card has this address, or the bridge has no port left.
    CardAddress([u8; 6]),
    /// Something of the configuration that this version cannot do.
    NotYet(&'static str),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoModule(name) => {
                write!(
                    f,
                    "there is no boot module \"{name}\"; give it to the boot loader, or correct the name"
                )
            }
            BuildError::NoHostDisk(name) => write!(
                f,
                "there is no host disk {name}; `list` in the monitor and the log at boot name those that are there"
            ),
            BuildError::FloppySize(bytes) => write!(
                f,
                "a floppy image of {bytes} bytes is of no known format; 737,280 and 1,474,560 are the usual sizes"
            ),
            BuildError::Empty(name) => write!(f, "{name} is empty"),
            BuildError::FirmwareSize(name) => {
                write!(
                    f,
                    "{name} is no firmware image: its size must be a multiple of 64 KiB up to 16 MiB"
                )
            }
            BuildError::Memory(wanted, free) => write!(
                f,
                "it wants {wanted} MiB in two pieces (below and above 4 GiB), and the machine has {free} MiB free in all; lower `memory` or give the machine more"
            ),
            BuildError::Kernel(error) => write!(f, "{error}"),
            BuildError::Pvh(error) => write!(f, "{error}"),
            BuildError::CardModel(name) => write!(
                f,
                "there is no network card of model {name}; model=e1000 and model=rtl8139 are those that there are"
            ),
            BuildError::CardAddress([a, b, c, d, e, g]) => write!(
                f,
                "no bridge port for {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}: another card has the address, or the bridge is full"
            ),
            BuildError::NotYet(what) => write!(f, "{what} is not supported by this version"),
        }
    }
}

/// Makes guests one after the other; spreads their vCPUs over the CPUs.
pub struct Builder<'a, B: Backend> {
    cpu: &'a B::Cpu,
    files: &'a [Entry],
    next_home: usize,
    hub: &'static Hub,
    _backend: PhantomData<B>,
}

/// A kernel's bytes, and its initrd's.
type Payload = (&'static [u8], &'static [u8]);

/// A guest's drives and what is behind them, by slot.
type Disks = ([Option<Drive>; SLOTS], [Option<Medium>; SLOTS]);

impl<'a, B: Backend> Builder<'a, B> {
    /// A builder on the CPU that runs this, with the files of the boot modules.
    pub fn new(cpu: &'a B::Cpu, files: &'a [Entry]) -> Self {
        Builder { cpu, files, next_home: 0, hub: pv::hub(), _backend: PhantomData }
    }

    fn file(&self, name: &str) -> Result<&'a Entry, BuildError> {
        find(self.files, name)
    }

    /// Builds guest number `id`.
    ///
    /// # Errors
    /// [`BuildError`]; all memory is given back then.
    pub fn build(&mut self, id: usize, config: &GuestConfig) -> Result<Domain<B>, BuildError> {
        if config.localtime {
            return Err(BuildError::NotYet(
                "localtime, as the hypervisor knows no time zone (`cargo xtask` does; or give rtc_timeoffset),",
            ));
        }
        let (drives, disks) = self.disks(config)?;
        let firmware = self.firmware(config)?;
        let cards = cards(config)?;
        let pvh = self.pvh(config)?;
        let boardless = pvh.as_ref().is_some_and(|pvh| !pvh.board);
        let rom: &[u8] = if boardless { &[] } else { firmware.unwrap_or(&bios::ROM) };
        let ram = u64::from(config.max_memory_mib) << 20;
        let memory = u64::from(config.memory_mib) << 20;
        // A PVH guest reaches no video memory; the least is for the chip that stays idle.
        let vram = if boardless { 1 } else { u64::from(config.video_mib) } << 20;
        let short = || {
            let free = frames::stats().free >> 20;
            BuildError::Memory(u64::from(config.memory_mib), free)
        };
        let xen_bytes = if config.xen { (xen::PAGES * 4096) as u64 } else { 0 };
        let frames = Frames::new(ram, memory, vram, rom, xen_bytes).ok_or_else(short)?;
        let wall_clock = wall::unix_seconds().saturating_add_signed(config.rtc_offset_s.into());
        let mut machine = Machine::new(MachineConfig {
            ram: frames.ram(),
            vram: frames.vram(),
            firmware: firmware.map(|_| frames.rom()),
            vcpus: config.max_vcpus.into(),
            host_cpuid: |leaf, subleaf| {
                let found = raw_cpuid::cpuid!(leaf, subleaf);
                [found.eax, found.ebx, found.ecx, found.edx]
            },
            clock: Clock::new(tsc::now(), tsc::hz() / 1000),
            wall_clock: WallClock::from_unix(wall_clock),
            drives,
            nics: cards,
            bios: BiosConfig {
                boot_order: config.bios_boot_order(),
                boot_menu_ms: config.boot_menu_ms,
                uuid: config.uuid.unwrap_or_default(),
                hpet: config.hpet,
                acpi: config.acpi,
                apic: config.apic,
                plugged: config.vcpus.into(),
                ..BiosConfig::default()
            },
            kernel: if pvh.is_some() { None } else { self.kernel(config, ram)? },
            pvh,
            firmware_files: self.firmware_files(config),
            xen: config.xen.then(|| XenConfig {
                domid: DomId(id as u16),
                hub: self.hub,
                pages: frames.xen(),
                wall_seconds: wall_clock,
                uuid: config.uuid.unwrap_or_else(|| numbered(id)),
                platform_pci: config.xen_platform_pci,
                limits: config.limits,
            }),
            viridian: config.viridian,
        });
        machine.hide(!config.pae, !config.nx);
        let store = &mut Store::default();
        let mut slat = Slat::new(B::format(self.cpu), store).map_err(|_| short())?;
        let apic = B::apic_frame(self.cpu);
        if let Some(frame) = apic {
            let page = Range { from: GuestPhys(DEFAULT_BASE), bytes: 4096 };
            let perm = Perm::R | Perm::W;
            // Nobody has translations of a table that is new.
            let _ = slat.map(store, page, frame, perm, MemType::WriteBack).map_err(|_| short())?;
        }
        let posts = apic.is_some() && B::posts(self.cpu);
        let mut slots = Vec::new();
        for index in 0..usize::from(config.max_vcpus) {
            let posted = if posts { machine.posted(index) } else { None };
            let vcpu = B::new_vcpu(self.cpu, slat.root(), apic, posted).ok_or_else(short)?;
            let cpu = Cpu::new(index, machine.physical_bits());
            slots.push(Slot {
                task: Mutex::new(Task { vcpu, cpu, fpu: fpu::Area::default() }),
                home: self.home(config, index),
                posts,
                woken: AtomicBool::new(true),
                called: AtomicBool::new(false),
                due: AtomicU64::new(u64::MAX),
                running: AtomicBool::new(false),
                flush: AtomicBool::new(false),
                inside: AtomicBool::new(false),
            });
        }
        let vifs = connect(id, config)?;
        Ok(Domain::new(Parts {
            id,
            name: config.name.clone(),
            machine,
            frames,
            actions: actions(config),
            slat,
            slots,
            disks,
            snapshot: config.snapshot,
            weight: config.cpu_weight,
            console: config.serial.iter().position(|port| *port == Serial::Console),
            vifs,
            remotes: pv::remote_devices(config),
            screen: pv::ScreenConfig { frame_buffer: config.vfb, keyboard: config.vkb_device },
        }))
    }

    /// The CPU that runs a vCPU: the next one that its affinity allows.
    fn home(&mut self, config: &GuestConfig, vcpu: usize) -> usize {
        let cpus = percpu::count().max(1);
        let allowed = config.affinity(vcpu);
        let start = self.next_home;
        let found = (0..cpus).map(|n| (start + n) % cpus).find(|cpu| allowed.contains(*cpu as u32));
        let home = found.unwrap_or(start % cpus);
        self.next_home = home + 1;
        home
    }

    fn firmware(&self, config: &GuestConfig) -> Result<Option<&'static [u8]>, BuildError> {
        let name = match &config.firmware {
            Firmware::Xenolith => return Ok(None),
            Firmware::SeaBios => "seabios",
            Firmware::Ovmf => "ovmf",
            Firmware::Module(name) => name,
        };
        let bytes = self.file(name)?.bytes;
        if is_elf(bytes) {
            return Ok(None);
        }
        if bytes.is_empty() || !bytes.len().is_multiple_of(64 << 10) || bytes.len() > 16 << 20 {
            return Err(BuildError::FirmwareSize(name.into()));
        }
        Ok(Some(bytes))
    }

    /// What SeaBIOS finds in fw_cfg besides the machine's own items: its video BIOS.
    fn firmware_files(&self, config: &GuestConfig) -> Vec<(&'static str, &'static [u8])> {
        const VGA: &str = "vgabios-stdvga.bin";
        if config.firmware == Firmware::Xenolith {
            return Vec::new();
        }
        let found = self.files.iter().find(|file| file.name == VGA);
        found.map(|file| ("vgaroms/vgabios-stdvga.bin", file.bytes)).into_iter().collect()
    }

    /// The files of a kernel and its initrd, which may be empty.
    fn payload(&self, config: &GuestConfig) -> Result<Option<Payload>, BuildError> {
        let Some(name) = &config.kernel else { return Ok(None) };
        let initrd = match &config.ramdisk {
            Some(name) => self.file(name)?.bytes,
            None => &[],
        };
        Ok(Some((self.file(name)?.bytes, initrd)))
    }

    fn pvh(&self, config: &GuestConfig) -> Result<Option<Pvh>, BuildError> {
        let (image, initrd, board) = match &config.firmware {
            _ if config.kind == config::GuestKind::Pvh => {
                let payload = self.payload(config)?;
                let (image, initrd) = payload.ok_or(BuildError::Pvh(PvhError::NotElf))?;
                (image, initrd, false)
            }
            // As Xen starts its hvmloader: in flat protected mode, with the PC around it.
            Firmware::Module(name) if is_elf(self.file(name)?.bytes) => {
                (self.file(name)?.bytes, &[][..], true)
            }
            _ => return Ok(None),
        };
        let pvh = Pvh { image, initrd, command_line: config.cmdline.clone(), board };
        let low = (u64::from(config.max_memory_mib) << 20).min(LOW_RAM_MAX);
        pvh.places(low, config.acpi).map_err(BuildError::Pvh)?;
        Ok(Some(pvh))
    }

    fn kernel(&self, config: &GuestConfig, ram: u64) -> Result<Option<Kernel>, BuildError> {
        let Some((image, initrd)) = self.payload(config)? else { return Ok(None) };
        let kernel = Kernel { image, initrd, command_line: config.cmdline.clone() };
        kernel.check(ram.min(LOW_RAM_MAX)).map_err(BuildError::Kernel)?;
        Ok(Some(kernel))
    }

    fn disks(&self, config: &GuestConfig) -> Result<Disks, BuildError> {
        let mut drives = [None; SLOTS];
        let mut media = [const { None }; SLOTS];
        let local = |disk: &&DiskConfig| !matches!(disk.target, Target::Remote { .. });
        for disk in config.disks.iter().filter(local) {
            // Paravirtual places beyond the IDE ones are for drivers that this version does not serve.
            let Some(slot) = disk.vdev.slot() else {
                return Err(BuildError::NotYet("a disk at xvde or beyond"));
            };
            let removable = disk.cdrom || matches!(disk.vdev, Vdev::Floppy(_));
            if removable && config.kind == config::GuestKind::Pvh {
                return Err(BuildError::NotYet(
                    "a CD or floppy drive of a guest of type = \"pvh\"",
                ));
            }
            let medium = open(self.files, &disk.target, disk.writable, config.snapshot)?;
            let sectors = medium.as_ref().map(Medium::sectors);
            drives[slot] = Some(drive(disk, sectors)?);
            media[slot] = medium;
        }
        Ok((drives, media))
    }
}

/// What a configuration or a person puts into a drive; `None` for nothing. `files`: those of the boot modules.
///
/// # Errors
/// [`BuildError`].
pub fn open(
    files: &[Entry],
    target: &Target,
    writable: bool,
    snapshot: bool,
) -> Result<Option<Medium>, BuildError> {
    let number = match target {
        // What another guest serves is no medium of the hypervisor's.
        Target::Empty | Target::Remote { .. } => return Ok(None),
        Target::Module(name) => {
            let bytes = find(files, name)?.bytes;
            if bytes.is_empty() {
                return Err(BuildError::Empty(name.clone()));
            }
            let start = mem::virt_to_phys(bytes.as_ptr());
            let module = Module::new(name.clone(), start, bytes.len() as u64, !writable);
            return Ok(Some(Medium::Module(module)));
        }
        Target::HostDisk(number) => *number as usize,
        Target::HostDevice(name) => disk_number(target)
            .ok_or_else(|| BuildError::NoHostDisk(alloc::format!("/dev/{name}")))?,
    };
    let info =
        block::info(number).ok_or_else(|| BuildError::NoHostDisk(alloc::format!("{number}")))?;
    if snapshot && writable {
        return Ok(Some(Medium::Snapshot(Snapshot::new(number, info.sectors))));
    }
    let (read_only, sectors) = (!writable || info.read_only, info.sectors);
    Ok(Some(Medium::Host { number, read_only, sectors }))
}

/// Which disk of the machine a target means, if one.
pub fn disk_number(target: &Target) -> Option<usize> {
    match target {
        Target::HostDisk(number) => Some(*number as usize),
        Target::HostDevice(name) => host_disk(name),
        Target::Empty | Target::Module(_) | Target::Remote { .. } => None,
    }
}

/// Whether a firmware image is an ELF file.
fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

fn find<'a>(files: &'a [Entry], name: &str) -> Result<&'a Entry, BuildError> {
    let found = files.iter().find(|file| file.name == name);
    found.ok_or_else(|| BuildError::NoModule(name.into()))
}

/// A UUID for a guest whose configuration has none: its number, so that its nodes in XenStore are its own.
fn numbered(id: usize) -> [u8; 16] {
    (id as u128).to_be_bytes()
}

/// A host disk by the name that Linux would give it (vda and sda are the first that is no CD, sr0 the first CD), or
/// as `xtask` counts those that it attaches: xenolith-disk0.
fn host_disk(name: &str) -> Option<usize> {
    let (optical, index) = match (name.strip_prefix("sr"), name.strip_prefix("xenolith-disk")) {
        (Some(n), _) => (true, n.parse().ok()?),
        (None, Some(n)) => (false, n.parse().ok()?),
        (None, None) => {
            let letter =
                name.strip_prefix("vd").or(name.strip_prefix("sd")).or(name.strip_prefix("hd"))?;
            let &[letter @ b'a'..=b'z'] = letter.as_bytes() else { return None };
            (false, usize::from(letter - b'a'))
        }
    };
    let mut same =
        (0..block::count()).filter(|n| block::info(*n).is_some_and(|i| i.optical == optical));
    same.nth(index)
}

/// What the guest sees of a drive.
fn drive(disk: &DiskConfig, sectors: Option<u64>) -> Result<Drive, BuildError> {
    let with_rights = |media: Media| Media { read_only: !disk.writable, ..media };
    Ok(match disk.vdev {
        Vdev::Floppy(_) => match sectors {
            None => Drive::Floppy(DriveType::F1440, None),
            Some(sectors) => {
                let media = floppy(sectors)?;
                Drive::Floppy(DriveType::of_geometry(media.geometry), Some(with_rights(media)))
            }
        },
        _ if disk.cdrom => Drive::Cdrom(sectors.map(cd)),
        _ => {
            let sectors = sectors.ok_or_else(|| BuildError::Empty("a hard disk".into()))?;
            Drive::Disk(with_rights(Media::disk(sectors, "XENOLITH")))
        }
    })
}

fn cd(sectors: u64) -> Media {
    Media::cdrom(u32::try_from(sectors.div_ceil(4)).unwrap_or(u32::MAX))
}

fn floppy(sectors: u64) -> Result<Media, BuildError> {
    let geometry = geometry_of_image(sectors).ok_or(BuildError::FloppySize(sectors * 512))?;
    Ok(Media { geometry, removable: true, ..Media::disk(sectors, "") })
}

/// A medium of so many sectors as `drive` sees it; a hard disk's is not looked at, as it stays.
///
/// # Errors
/// [`BuildError::FloppySize`].
pub fn removable(drive: &Drive, sectors: u64) -> Result<Media, BuildError> {
    if let Drive::Floppy(..) = drive { floppy(sectors) } else { Ok(cd(sectors)) }
}

/// The emulated cards that a guest's interfaces want; a paravirtual one has none.
fn cards(config: &GuestConfig) -> Result<Vec<Nic>, BuildError> {
    let mut cards = Vec::new();
    if config.kind == config::GuestKind::Pvh {
        return Ok(cards);
    }
    let local = |(_, vif): &(usize, &VifConfig)| vif.backend.is_none();
    for (number, vif) in config.vifs.iter().enumerate().filter(local) {
        let model = vif.card().map_err(|name| BuildError::CardModel(name.into()))?;
        if let Some(model) = model {
            cards.push(Nic { mac: vif.address(&config.name, number), model });
        }
    }
    if cards.len() > MAX_NICS {
        return Err(BuildError::NotYet("a fifth network card"));
    }
    Ok(cards)
}

/// Connects the interfaces to their bridges: those with emulated cards first, in the cards' order.
fn connect(id: usize, config: &GuestConfig) -> Result<Vec<Vif>, BuildError> {
    let numbered = || config.vifs.iter().enumerate().filter(|(_, vif)| vif.backend.is_none());
    let pvh = config.kind == config::GuestKind::Pvh;
    let paravirtual = |vif: &VifConfig| vif.only_paravirtual || pvh;
    let emulated = numbered().filter(|(_, vif)| !paravirtual(vif));
    let others = numbered().filter(|(_, vif)| paravirtual(vif) && config.xen);
    let mut vifs: Vec<Vif> = Vec::new();
    for (nic, (number, vif)) in (0u8..=u8::MAX).zip(emulated.chain(others)) {
        let mac = vif.address(&config.name, number);
        let Some((place, bridge)) = net::attach(id, nic, vif, mac) else {
            vifs.iter().for_each(|vif| net::detach(vif.place));
            return Err(BuildError::CardAddress(mac));
        };
        vifs.push(Vif { place, number: number as u32, mac, bridge });
    }
    Ok(vifs)
}

fn actions(config: &GuestConfig) -> Actions {
    let action = |action| match action {
        config::Action::Destroy | config::Action::CoredumpDestroy => Action::Destroy,
        config::Action::Restart | config::Action::CoredumpRestart => Action::Restart,
        config::Action::Preserve => Action::Preserve,
    };
    Actions {
        poweroff: action(config.on_poweroff),
        reboot: action(config.on_reboot),
        crash: action(config.on_crash),
        watchdog: action(config.on_watchdog),
    }
}
