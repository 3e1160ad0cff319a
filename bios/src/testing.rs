//! A machine for the services' tests: plain RAM, a list of port accesses, disks in memory.

pub mod card;

use crate::caller::{Caller, Outcome};
use crate::dispatch::Bios;
use crate::platform::{
    BiosConfig, BiosDisk, DiskError, DiskInfo, DiskKind, DiskRequest, DiskStatus, Platform,
};
use crate::rom::{ROM, ROM_BASE, Service, service_at};
use arch::control::rflags;
use arch::{GuestPhys, GuestRam, Nanos, Segment};
use card::Card;
use core::sync::atomic::AtomicU64;
use std::collections::BTreeMap;
use std::vec::Vec;

/// A disk in memory.
pub struct Disk {
    pub info: DiskInfo,
    pub data: Vec<u8>,
}

/// The machine.
pub struct Mock {
    pub memory: GuestRam,
    pub config: BiosConfig,
    pub disks: Vec<Disk>,
    /// Every port write, in order.
    pub outs: Vec<(u16, u8, u32)>,
    /// What ports answer; others answer with ones.
    pub ins: BTreeMap<u16, u32>,
    pub cmos: [u8; 128],
    /// PCI configuration space of bus 0, by device and function.
    pub pci: BTreeMap<u8, [u8; 256]>,
    /// Writable bits of base address registers: (devfn, register) to mask.
    pub bars: BTreeMap<(u8, u8), u32>,
    pub time: Nanos,
    /// Answers `Pending` this often before each transfer.
    pub delay: u32,
    waited: u32,
    /// Maps a linear page to a physical one, when the test has paging.
    pub pages: Option<BTreeMap<u32, u64>>,
    index: u8,
    pci_address: u32,
    /// Memory outside RAM: video memory and devices.
    pub mmio: BTreeMap<u64, u8>,
    pub ejected: Vec<BiosDisk>,
    /// A display adapter that keeps what is written; without it ports are as `ins` says.
    pub card: Option<Card>,
}

impl Mock {
    pub fn new() -> Mock {
        let make =
            |bytes: usize| Vec::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        Mock {
            memory: GuestRam::new(make(4 << 20), make(0)),
            config: BiosConfig { low_ram: 4 << 20, ..BiosConfig::default() },
            disks: Vec::new(),
            outs: Vec::new(),
            ins: BTreeMap::from([(0x64, 0x1c), (0x92, 2), (0x3fa, 1), (0x2fa, 1)]),
            cmos: [0; 128],
            pci: BTreeMap::new(),
            bars: BTreeMap::new(),
            time: Nanos::ZERO,
            delay: 0,
            waited: 0,
            pages: None,
            index: 0,
            pci_address: 0,
            mmio: BTreeMap::new(),
            ejected: Vec::new(),
            card: None,
        }
    }

    /// With a disk whose every sector starts with its number.
    pub fn with_disk(mut self, kind: DiskKind, blocks: u64) -> Mock {
        let mut data = std::vec![0; blocks as usize * 512];
        for (n, sector) in data.chunks_mut(512).enumerate() {
            sector[..4].copy_from_slice(&(n as u32).to_le_bytes());
        }
        self.disks.push(Disk {
            info: DiskInfo {
                kind,
                present: true,
                read_only: kind == DiskKind::Cd,
                blocks,
                media: 1,
                physical: Default::default(),
                ata: None,
            },
            data,
        });
        self
    }

    /// With a display adapter's registers.
    pub fn with_card(mut self) -> Mock {
        self.card = Some(Card::default());
        self
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut out = std::vec![0; len];
        self.memory.read(GuestPhys(at), &mut out).unwrap();
        out
    }

    pub fn u16(&self, at: u64) -> u16 {
        self.memory.read_u16(GuestPhys(at)).unwrap()
    }

    pub fn u32(&self, at: u64) -> u32 {
        self.memory.read_u32(GuestPhys(at)).unwrap()
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(GuestPhys(at), bytes).unwrap();
    }

    /// What is on a row of the text screen.
    pub fn row(&self, row: u64) -> std::string::String {
        let at = 0xb_8000 + row * 160;
        let text: std::string::String = (0..80)
            .map(|n| char::from(self.mmio.get(&(at + n * 2)).copied().unwrap_or(0)))
            .collect();
        std::string::String::from(text.trim_end_matches([' ', '\0']))
    }
}

impl Platform for Mock {
    fn ram(&self) -> GuestRam {
        self.memory
    }

    fn translate(&mut self, linear: u32, _write: bool) -> Option<GuestPhys> {
        match &self.pages {
            None => Some(GuestPhys(linear.into())),
            Some(pages) => {
                pages.get(&(linear >> 12)).map(|page| GuestPhys(page + u64::from(linear & 0xfff)))
            }
        }
    }

    fn mem_read(&mut self, at: GuestPhys, width: u8) -> u32 {
        (0..u64::from(width)).fold(0, |value, n| {
            let at = at.0 + n;
            let shadow = (0xc_0000..0xc_8000).contains(&at) || (0xf_0000..0x10_0000).contains(&at);
            let byte = if shadow {
                self.memory.read_u8(GuestPhys(at)).unwrap()
            } else {
                self.mmio.get(&at).copied().unwrap_or(0xff)
            };
            value | u32::from(byte) << (8 * n)
        })
    }

    fn mem_write(&mut self, at: GuestPhys, width: u8, value: u32) {
        for n in 0..u64::from(width) {
            self.mmio.insert(at.0 + n, (value >> (8 * n)) as u8);
        }
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        if let Some(value) = self.card.as_mut().and_then(|card| card.port_in(port)) {
            return value;
        }
        match port {
            0x71 => self.cmos[usize::from(self.index & 0x7f)].into(),
            0xcfc..=0xcff => {
                let (devfn, at) = self.pci_place(port);
                let space = self.pci.get(&devfn).copied().unwrap_or([0xff; 256]);
                (0..usize::from(width))
                    .fold(0, |value, n| value | u32::from(space[(at + n) & 255]) << (8 * n))
            }
            _ => self.ins.get(&port).copied().unwrap_or(match width {
                1 => 0xff,
                2 => 0xffff,
                _ => u32::MAX,
            }),
        }
    }

    fn port_out(&mut self, port: u16, width: u8, value: u32) {
        self.outs.push((port, width, value));
        if let Some(card) = &mut self.card {
            card.port_out(port, width, value);
        }
        match port {
            0x70 => self.index = value as u8,
            0x71 => self.cmos[usize::from(self.index & 0x7f)] = value as u8,
            0xcf8 => self.pci_address = value,
            0xcfc..=0xcff => {
                let (devfn, at) = self.pci_place(port);
                let mask = self.bars.get(&(devfn, at as u8)).copied();
                let is_bar = (0x10..0x28).contains(&at) || at == 0x30;
                if let Some(space) = self.pci.get_mut(&devfn) {
                    let old = u32::from_le_bytes(space[at & 0xfc..][..4].try_into().unwrap());
                    let value = match (is_bar, mask) {
                        (true, None) => 0,
                        (true, Some(mask)) => (value & mask) | (old & 0xf & !mask),
                        _ => value,
                    };
                    for n in 0..usize::from(width) {
                        space[(at + n) & 255] = (value >> (8 * n)) as u8;
                    }
                }
            }
            _ => {}
        }
    }

    fn now(&self) -> Nanos {
        self.time
    }

    fn disk_count(&self) -> u8 {
        self.disks.len() as u8
    }

    fn disk(&self, disk: BiosDisk) -> Option<DiskInfo> {
        Some(self.disks.get(usize::from(disk))?.info)
    }

    fn disk_io(&mut self, request: &DiskRequest<'_>) -> DiskStatus {
        if self.waited < self.delay {
            self.waited += 1;
            return DiskStatus::Pending;
        }
        self.waited = 0;
        let disk = &mut self.disks[usize::from(request.disk)];
        let mut at = request.block as usize * 512;
        for run in request.memory {
            // As the host's disks, which move words.
            if (run.at.0 | u64::from(run.bytes)) & 1 != 0 {
                return DiskStatus::Error(DiskError::Medium);
            }
            let Some(data) = disk.data.get_mut(at..at + run.bytes as usize) else {
                return DiskStatus::Error(DiskError::OutOfRange);
            };
            if request.write {
                self.memory.read(run.at, data).unwrap();
            } else {
                self.memory.write_slice(run.at, data).unwrap();
            }
            at += run.bytes as usize;
        }
        DiskStatus::Done
    }

    fn eject(&mut self, disk: BiosDisk) {
        self.ejected.push(disk);
    }

    fn config(&self) -> &BiosConfig {
        &self.config
    }
}

impl Mock {
    fn pci_place(&self, port: u16) -> (u8, usize) {
        if self.pci_address >> 16 & 0xff != 0 {
            return (0xff, 0);
        }
        let at = (self.pci_address & 0xfc) + u32::from(port & 3);
        ((self.pci_address >> 8) as u8, at as usize)
    }
}

/// A program in real mode that calls services.
pub struct Guest {
    pub bios: Bios,
    pub bus: Mock,
    pub cpu: Caller,
}

impl Guest {
    /// After POST.
    pub fn new(bus: Mock) -> Guest {
        let mut guest = Guest { bios: Bios::new(), bus, cpu: Caller::default() };
        guest.cpu.ss = Segment::real_data(0);
        guest.cpu.gprs.set_rsp(0x7000);
        guest.cpu.rflags = 2;
        assert_eq!(guest.trap(Service::Post), Outcome::Done);
        guest.bus.outs.clear();
        guest
    }

    /// Traps from a service's stub.
    pub fn trap(&mut self, service: Service) -> Outcome {
        let (base, at) = [(u64::from(ROM_BASE), ROM.len()), (0xc_0000, 0x200)]
            .into_iter()
            .find_map(|(base, len)| {
                (0..len as u64)
                    .find(|at| service_at(base + at) == Some(service))
                    .map(|at| (base, at))
            })
            .unwrap();
        self.cpu.cs = Segment::real_code((base >> 4) as u16);
        self.cpu.rip = at;
        self.bios.call(&mut self.cpu, &mut self.bus)
    }

    /// Calls an interrupt service: a frame on the stack, the trap as often as the host wants, then IRET.
    pub fn int(&mut self, service: Service) -> Outcome {
        let sp = self.cpu.gprs.rsp() as u16 - 6;
        self.cpu.rflags = 2;
        self.bus.put(u64::from(sp), &[0x34, 0x12, 0, 0x10]);
        self.bus.put(u64::from(sp) + 4, &(self.cpu.rflags as u16).to_le_bytes());
        self.cpu.gprs.set_rsp(sp.into());
        let mut outcome = self.trap(service);
        while outcome == Outcome::Wait {
            outcome = self.trap(service);
        }
        if self.cpu.rflags & rflags::CF == 0 {
            self.cpu.rflags = self.bus.u16(u64::from(sp) + 4).into();
        }
        self.cpu.gprs.set_rsp(u64::from(sp) + 6);
        outcome
    }

    pub fn set(&mut self, ax: u16, bx: u16, cx: u16, dx: u16) -> &mut Self {
        for (n, value) in [ax, cx, dx, bx].into_iter().enumerate() {
            self.cpu.gprs.r[n] = value.into();
        }
        self
    }

    pub fn ax(&self) -> u16 {
        self.cpu.gprs.rax() as u16
    }

    pub fn bx(&self) -> u16 {
        self.cpu.gprs.rbx() as u16
    }

    pub fn cx(&self) -> u16 {
        self.cpu.gprs.rcx() as u16
    }

    pub fn dx(&self) -> u16 {
        self.cpu.gprs.rdx() as u16
    }

    pub fn cf(&self) -> bool {
        self.cpu.rflags & rflags::CF != 0
    }

    pub fn zf(&self) -> bool {
        self.cpu.rflags & rflags::ZF != 0
    }
}
