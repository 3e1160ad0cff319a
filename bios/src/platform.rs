//! What the services need from the machine around them. The board implements [`Platform`]; tests
//! implement it on plain RAM. Disk blocks are 512 bytes everywhere, CDs included: services cut requests
//! at any block, and the host cuts them to what its medium wants.

use alloc::vec::Vec;
use arch::{GuestPhys, GuestRam, Nanos};

/// Bytes in a block, for every kind of disk.
pub const BLOCK: u64 = 512;

/// A drive by its place in the machine's list, 0 to [`Platform::disk_count`] - 1. INT 13h numbers follow
/// from the order: the first floppy is 00h, the first hard disk 80h, the first CD E0h.
pub type BiosDisk = u8;

/// What kind of drive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// Diskette drive.
    Floppy,
    /// Fixed disk.
    Hard,
    /// CD-ROM drive.
    Cd,
}

/// Cylinders, heads and sectors per track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chs {
    /// Cylinders.
    pub cylinders: u32,
    /// Heads.
    pub heads: u32,
    /// Sectors per track.
    pub sectors: u32,
}

/// Where an ATA drive sits, for EDD and for the CD specification packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtaPlace {
    /// Command block base port.
    pub io_base: u16,
    /// Control block base port.
    pub ctrl_base: u16,
    /// Legacy interrupt line.
    pub irq: u8,
    /// Second drive of the channel.
    pub slave: bool,
    /// Channel 0 or 1.
    pub channel: u8,
    /// PCI device and function of the controller.
    pub devfn: u8,
}

/// A drive and the medium in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Kind of drive.
    pub kind: DiskKind,
    /// A medium is in it. Always true for hard disks.
    pub present: bool,
    /// The medium cannot be written.
    pub read_only: bool,
    /// Size of the medium in 512-byte blocks.
    pub blocks: u64,
    /// Changes when the medium is exchanged.
    pub media: u32,
    /// What the drive itself calls its geometry (hard disks; zero elsewhere).
    pub physical: Chs,
    /// Where it sits, if it is an ATA or ATAPI drive.
    pub ata: Option<AtaPlace>,
}

/// A run of guest-physical memory that is all RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemRun {
    /// First byte.
    pub at: GuestPhys,
    /// Bytes.
    pub bytes: u32,
}

/// A transfer between a disk and guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRequest<'a> {
    /// The drive.
    pub disk: BiosDisk,
    /// From memory to the disk.
    pub write: bool,
    /// First 512-byte block. The request ends inside the medium.
    pub block: u64,
    /// Memory, in order; the sum is a multiple of 512, and each begins and ends at an even address.
    pub memory: &'a [MemRun],
}

/// What became of a [`DiskRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskStatus {
    /// All of it is done.
    Done,
    /// It is under way. The same request is made again after the host's completion and then answers
    /// for the one under way; it does not start a second one. The platform keeps at most one under way for each vCPU.
    Pending,
    /// It failed.
    Error(DiskError),
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No medium in the drive.
    NoMedia,
    /// Write to a read-only medium.
    WriteProtected,
    /// Block beyond the end.
    OutOfRange,
    /// The host's medium failed.
    Medium,
}

/// A class of devices in the boot order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// First floppy.
    Floppy,
    /// First hard disk.
    Hard,
    /// First CD.
    Cd,
}

/// What the machine tells its firmware. Constant while the guest runs.
#[derive(Clone, Debug)]
pub struct BiosConfig {
    /// Bytes of RAM from 0 up (at most what fits under `pci_hole`).
    pub low_ram: u64,
    /// Bytes of RAM from 4 GiB up.
    pub high_ram: u64,
    /// Address space for PCI BARs: first byte and first byte after it, below 4 GiB.
    pub pci_hole: (u32, u32),
    /// More ranges the guest must keep off: (start, bytes). The E820 map lists them as reserved.
    pub reserved: Vec<(u64, u64)>,
    /// Local APIC ids in vCPU order; at least one.
    pub apic_ids: Vec<u8>,
    /// How many of these processors are there at power-on; the others may be plugged in later.
    pub plugged: usize,
    /// I/O APIC id.
    pub ioapic_id: u8,
    /// There is an HPET at FED00000h.
    pub hpet: bool,
    /// ACPI tables are made.
    pub acpi: bool,
    /// The tables (MP, MADT) tell a single processor's system of its APICs; with several they always do.
    pub apic: bool,
    /// Frame buffer of the Bochs VBE, used where no PCI display controller tells it.
    pub framebuffer: u32,
    /// Bytes of video memory.
    pub video_memory: u32,
    /// What to boot from, first choice first.
    pub boot_order: Vec<BootDevice>,
    /// How long the boot menu waits for a key, in milliseconds; 0: no menu.
    pub boot_menu_ms: u32,
    /// Say nothing on the screen unless something is wrong.
    pub quiet: bool,
    /// SMBIOS system UUID.
    pub uuid: [u8; 16],
}

impl Default for BiosConfig {
    fn default() -> Self {
        BiosConfig {
            low_ram: 64 << 20,
            high_ram: 0,
            pci_hole: (0xe000_0000, 0xfec0_0000),
            reserved: Vec::new(),
            apic_ids: alloc::vec![0],
            plugged: usize::MAX,
            ioapic_id: 0,
            hpet: true,
            acpi: true,
            apic: true,
            framebuffer: 0xe000_0000,
            video_memory: 16 << 20,
            boot_order: alloc::vec![BootDevice::Floppy, BootDevice::Hard, BootDevice::Cd],
            boot_menu_ms: 0,
            quiet: true,
            uuid: [0; 16],
        }
    }
}

impl BiosConfig {
    /// Whether a processor is there at power-on.
    pub(crate) fn is_there(&self, number: usize) -> bool {
        number < self.plugged
    }

    /// Whether tables tell of local and I/O APICs.
    pub(crate) fn tells_of_apics(&self) -> bool {
        self.apic || self.apic_ids.len() > 1
    }
}

/// The machine as the services see it.
pub trait Platform {
    /// The guest's RAM. The services write shadow RAM (C0000h-FFFFFh) through it whatever the PAM registers say.
    fn ram(&self) -> GuestRam;

    /// Guest-physical address of a linear one as the calling vCPU would reach it: identity without
    /// paging (with the A20 gate applied), the guest's page tables otherwise. `None`: not mapped, or `write` not allowed.
    fn translate(&mut self, linear: u32, write: bool) -> Option<GuestPhys>;

    /// Reads `width` bytes (1, 2 or 4, not crossing an aligned 4) that are not plain RAM: A0000h-FFFFFh and
    /// devices.
    fn mem_read(&mut self, at: GuestPhys, width: u8) -> u32;

    /// Writes what [`Platform::mem_read`] reads.
    fn mem_write(&mut self, at: GuestPhys, width: u8, value: u32);

    /// Moves `bytes` (a multiple of 4) within A0000h-BFFFFh, lowest address first unless `down`. A board
    /// may do it faster than by single accesses.
    fn vga_move(&mut self, to: u32, from: u32, bytes: u32, down: bool) {
        let step = |n: u32| if down { bytes - 4 - n } else { n };
        for n in (0..bytes & !3).step_by(4) {
            let value = self.mem_read(GuestPhys(u64::from(from + step(n))), 4);
            self.mem_write(GuestPhys(u64::from(to + step(n))), 4, value);
        }
    }

    /// Reads a port of the board: 1, 2 or 4 bytes.
    fn port_in(&mut self, port: u16, width: u8) -> u32;

    /// Writes a port of the board.
    fn port_out(&mut self, port: u16, width: u8, value: u32);

    /// Guest time.
    fn now(&self) -> Nanos;

    /// How many drives there are. Does not change while the guest runs.
    fn disk_count(&self) -> u8;

    /// A drive, or `None` past the last.
    fn disk(&self, disk: BiosDisk) -> Option<DiskInfo>;

    /// Starts a transfer, or answers for the one under way.
    fn disk_io(&mut self, request: &DiskRequest<'_>) -> DiskStatus;

    /// Opens a CD drive's tray.
    fn eject(&mut self, _disk: BiosDisk) {}

    /// The configuration.
    fn config(&self) -> &BiosConfig;
}

/// By reference: the services are compiled once, whoever's machine they run on.
impl<T: Platform + ?Sized> Platform for &mut T {
    #[inline]
    fn ram(&self) -> GuestRam {
        (**self).ram()
    }

    #[inline]
    fn translate(&mut self, linear: u32, write: bool) -> Option<GuestPhys> {
        (**self).translate(linear, write)
    }

    #[inline]
    fn mem_read(&mut self, at: GuestPhys, width: u8) -> u32 {
        (**self).mem_read(at, width)
    }

    #[inline]
    fn mem_write(&mut self, at: GuestPhys, width: u8, value: u32) {
        (**self).mem_write(at, width, value)
    }

    #[inline]
    fn vga_move(&mut self, to: u32, from: u32, bytes: u32, down: bool) {
        (**self).vga_move(to, from, bytes, down)
    }

    #[inline]
    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        (**self).port_in(port, width)
    }

    #[inline]
    fn port_out(&mut self, port: u16, width: u8, value: u32) {
        (**self).port_out(port, width, value)
    }

    #[inline]
    fn now(&self) -> Nanos {
        (**self).now()
    }

    #[inline]
    fn disk_count(&self) -> u8 {
        (**self).disk_count()
    }

    #[inline]
    fn disk(&self, disk: BiosDisk) -> Option<DiskInfo> {
        (**self).disk(disk)
    }

    #[inline]
    fn disk_io(&mut self, request: &DiskRequest<'_>) -> DiskStatus {
        (**self).disk_io(request)
    }

    #[inline]
    fn eject(&mut self, _disk: BiosDisk) {
        (**self).eject(_disk)
    }

    #[inline]
    fn config(&self) -> &BiosConfig {
        (**self).config()
    }
}
