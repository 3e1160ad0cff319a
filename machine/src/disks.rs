//! Drives: what is built in, and the way of their requests to the host and back.
//!
//! The board stays locked while a request is handed to the host, which must therefore not call back from
//! [`Host::disk`]: it answers at once, or later through [`Machine::disk_done`].

use crate::Machine;
use crate::board::Board;
use crate::effects::Effects;
use crate::host::{DiskAnswer, DiskData, Host};
use crate::memmap::{MEGABYTE, MemMap};
use arch::{GuestPhys, GuestRam};
use bios::{AtaPlace, BootDevice, Chs, DiskInfo, DiskKind};
use devmodel::blk::{BlkError, DiskId, Media, Token};
use devmodel::fdc::{self, DriveType};
use devmodel::ide::{self, DmaStep, Unit};

/// Places for drives: hda to hdd, fda, fdb.
pub const SLOTS: usize = 6;
/// First floppy slot.
pub(crate) const FLOPPY: usize = 4;
/// [`Token::part`] of the firmware's own requests; chips number theirs from 0.
pub(crate) const BIOS_PART: u8 = 0x80;

/// A drive as the configuration gives it.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    /// A hard disk.
    Disk(Media),
    /// A CD-ROM drive, perhaps empty.
    Cdrom(Option<Media>),
    /// A floppy drive, perhaps empty.
    Floppy(DriveType, Option<Media>),
}

/// All drives and the order in which the firmware counts them.
#[derive(Clone, Debug)]
pub(crate) struct Drives {
    slots: [Option<Drive>; SLOTS],
    /// How often the medium of each was exchanged.
    changes: [u32; SLOTS],
    /// Slots in the firmware's order: floppies, hard disks, CDs.
    order: [u8; SLOTS],
    count: u8,
}

impl Drives {
    pub fn new(slots: [Option<Drive>; SLOTS]) -> Drives {
        let rank = |drive: &Drive| match drive {
            Drive::Floppy(..) => 0,
            Drive::Disk(_) => 1,
            Drive::Cdrom(_) => 2,
        };
        let mut order = [0; SLOTS];
        let mut count = 0;
        for wanted in 0..3 {
            for (slot, drive) in slots.iter().enumerate() {
                if drive.as_ref().is_some_and(|drive| rank(drive) == wanted) {
                    order[count] = slot as u8;
                    count += 1;
                }
            }
        }
        Drives { slots, changes: [0; SLOTS], order, count: count as u8 }
    }

    /// Builds the drives into their chips.
    pub fn attach(&self, board: &mut Board) {
        for (slot, drive) in self.slots.iter().enumerate() {
            let id = DiskId(slot as u8);
            match (drive, Unit::ALL.get(slot)) {
                (Some(Drive::Disk(media)), Some(unit)) => {
                    board.ide.attach_disk(*unit, id, media);
                }
                (Some(Drive::Cdrom(media)), Some(unit)) => {
                    board.ide.attach_cdrom(*unit, id, media.as_ref());
                }
                (Some(Drive::Floppy(kind, media)), None) => {
                    board.fdc.attach(slot - FLOPPY, *kind, id);
                    if let Some(media) = media {
                        board.fdc.insert(slot - FLOPPY, media);
                    }
                }
                _ => {}
            }
        }
    }

    /// The drive in `slot`.
    pub fn get(&self, slot: usize) -> Option<&Drive> {
        self.slots.get(slot)?.as_ref()
    }

    /// All drives by slot.
    pub fn all(&self) -> [Option<Drive>; SLOTS] {
        self.slots
    }

    /// Another medium, or none, is in the CD or floppy drive in `slot`.
    pub fn put(&mut self, slot: usize, new: Option<Media>) {
        match self.slots.get_mut(slot) {
            Some(Some(Drive::Cdrom(media) | Drive::Floppy(_, media))) => *media = new,
            _ => return,
        }
        if let Some(changes) = self.changes.get_mut(slot) {
            *changes = changes.wrapping_add(1);
        }
    }

    /// Builds the hard disks in again, after a guest's drivers took them away.
    pub fn attach_disks(&self, board: &mut Board) {
        for (slot, unit) in Unit::ALL.into_iter().enumerate() {
            if let Some(Some(Drive::Disk(media))) = self.slots.get(slot) {
                board.ide.attach_disk(unit, DiskId(slot as u8), media);
            }
        }
    }

    /// Whether there is a hard disk in a slot.
    pub fn is_disk(&self, slot: usize) -> bool {
        matches!(self.slots.get(slot), Some(Some(Drive::Disk(_))))
    }

    pub fn count(&self) -> u8 {
        self.count
    }

    /// The slot of the firmware's drive `n`.
    pub fn slot(&self, n: u8) -> Option<u8> {
        if n < self.count { self.order.get(usize::from(n)).copied() } else { None }
    }

    /// The firmware's drive `n` as it wants to know it.
    pub fn info(&self, n: u8) -> Option<DiskInfo> {
        let slot = self.slot(n)?;
        let (kind, media) = match self.slots.get(usize::from(slot))?.as_ref()? {
            Drive::Floppy(_, media) => (DiskKind::Floppy, media.as_ref()),
            Drive::Disk(media) => (DiskKind::Hard, Some(media)),
            Drive::Cdrom(media) => (DiskKind::Cd, media.as_ref()),
        };
        let physical = match (kind, media) {
            (DiskKind::Hard, Some(media)) => Chs {
                cylinders: media.geometry.cylinders.into(),
                heads: media.geometry.heads.into(),
                sectors: media.geometry.sectors.into(),
            },
            _ => Chs::default(),
        };
        let secondary = slot >= 2;
        let ata = (kind != DiskKind::Floppy).then_some(AtaPlace {
            io_base: if secondary { 0x170 } else { 0x1f0 },
            ctrl_base: if secondary { 0x374 } else { 0x3f4 },
            irq: if secondary { 15 } else { 14 },
            slave: slot & 1 != 0,
            channel: u8::from(secondary),
            devfn: 1 << 3 | 1,
        });
        Some(DiskInfo {
            kind,
            present: media.is_some(),
            read_only: media.is_some_and(|media| media.read_only),
            blocks: media.map_or(0, |media| media.sectors),
            media: self.changes.get(usize::from(slot)).map_or(1, |n| n.wrapping_add(1)),
            physical,
            ata,
        })
    }

    /// Whether there is a floppy drive.
    pub fn has_floppy(&self) -> bool {
        self.slots.iter().flatten().any(|drive| matches!(drive, Drive::Floppy(..)))
    }

    fn floppy_type(&self, n: usize) -> DriveType {
        match self.slots.get(FLOPPY + n) {
            Some(Some(Drive::Floppy(kind, _))) => *kind,
            _ => DriveType::None,
        }
    }
}

/// Writes into CMOS what firmware reads there: memory sizes, floppy types, equipment.
pub(crate) fn fill_cmos(board: &mut Board, map: &MemMap, drives: &Drives, order: &[BootDevice]) {
    let mut set = |index: u8, value: u64| board.rtc.set_cmos(index, value as u8);
    let set16 = |set: &mut dyn FnMut(u8, u64), low: u8, value: u64| {
        set(low, value & 0xff);
        set(low + 1, value >> 8 & 0xff);
    };
    let low = map.low_ram();
    set16(&mut set, 0x15, (low.min(0xa_0000)) >> 10);
    let extended = (low.saturating_sub(MEGABYTE) >> 10).min(0xffff);
    set16(&mut set, 0x17, extended);
    set16(&mut set, 0x30, extended);
    set16(&mut set, 0x34, (low.saturating_sub(16 << 20) >> 16).min(0xffff));
    let high = map.high_ram() >> 16;
    set(0x5b, high);
    set(0x5c, high >> 8);
    set(0x5d, high >> 16);
    let floppies = [drives.floppy_type(0), drives.floppy_type(1)].map(|kind| kind as u64 & 15);
    set(0x10, floppies[0] << 4 | floppies[1]);
    let count = floppies.iter().filter(|kind| **kind != 0).count() as u64;
    let equipment = if count > 0 { 1 | (count - 1) << 6 } else { 0 };
    // FPU, PS/2 mouse; the display is VGA.
    set(0x14, equipment | 0b110);
    // Boot order for SeaBIOS, a nibble each; bit 0 of 38h: no signature check for floppies.
    let nibble = |n: usize| match order.get(n) {
        Some(BootDevice::Floppy) => 1,
        Some(BootDevice::Hard) => 2,
        Some(BootDevice::Cd) => 3,
        None => 0,
    };
    set(0x3d, nibble(0) | nibble(1) << 4);
    set(0x38, nibble(2) << 4 | 1);
}

/// What names a transfer of the firmware when its call is made again: drive, direction, first block, first
/// address, blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BiosKey {
    pub disk: u8,
    pub write: bool,
    pub block: u64,
    pub first: u64,
    pub bytes: u64,
}

/// One transfer of the firmware.
#[derive(Clone, Copy, Debug)]
struct BiosTransfer {
    key: BiosKey,
    seq: u32,
    result: Option<Result<(), BlkError>>,
}

/// The firmware's transfers that are under way or whose answer waits. A call that was parked is made again and finds
/// its own; an interrupt handler or another vCPU may call the firmware meanwhile.
#[derive(Debug, Default)]
pub(crate) struct BiosIo {
    seq: u32,
    transfers: heapless::Vec<BiosTransfer, 8>,
}

/// What [`BiosIo::find`] knows of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BiosAnswer {
    /// It was not started.
    New,
    /// The host still works on it.
    Pending,
    /// It has ended; this is told once.
    Ended(Result<(), BlkError>),
}

impl BiosIo {
    /// After a reset nothing is waited for.
    pub fn forget(&mut self) {
        self.seq = self.seq.wrapping_add(1);
        self.transfers.clear();
    }

    /// Looks for a transfer and takes its answer.
    pub fn find(&mut self, key: &BiosKey) -> BiosAnswer {
        let Some(n) = self.transfers.iter().position(|t| t.key == *key) else {
            // With all places taken the caller waits for one of the others.
            return if self.transfers.is_full() { BiosAnswer::Pending } else { BiosAnswer::New };
        };
        match self.transfers.get(n).and_then(|t| t.result) {
            None => BiosAnswer::Pending,
            Some(result) => {
                self.transfers.swap_remove(n);
                BiosAnswer::Ended(result)
            }
        }
    }

    /// Whether the host still works on any.
    pub fn is_pending(&self) -> bool {
        self.transfers.iter().any(|t| t.result.is_none())
    }

    /// A new transfer's token.
    pub fn token(&mut self) -> Token {
        self.seq = self.seq.wrapping_add(1);
        Token { part: BIOS_PART, seq: self.seq }
    }

    /// The host will answer for `token` later.
    pub fn wait(&mut self, key: BiosKey, token: Token) {
        // `find` saw that there is room.
        let _ = self.transfers.push(BiosTransfer { key, seq: token.seq, result: None });
    }

    fn finish(&mut self, token: Token, result: Result<(), BlkError>) {
        if let Some(transfer) = self.transfers.iter_mut().find(|t| t.seq == token.seq) {
            transfer.result = Some(result);
        }
    }
}

impl Machine {
    /// Drives the IDE controller until it has nothing more to ask.
    pub(crate) fn run_ide<H: Host>(&self, host: &H, first: ide::Effect, fx: &mut Effects) {
        let mut guard = self.board.lock();
        let board = &mut *guard;
        let mut effect = first;
        loop {
            let (token, answer) = match effect {
                ide::Effect::None => break,
                ide::Effect::Tray { disk, open } => {
                    host.tray(disk.0, open);
                    break;
                }
                ide::Effect::Request(request) => {
                    let data = match board.ide.buffer(request.token) {
                        Some(buffer) => DiskData::Buffer(buffer),
                        None => DiskData::None,
                    };
                    (request.token, host.disk(&request, data))
                }
                ide::Effect::Dma(bus) => {
                    let read = |at: u32| {
                        let mut prd = [0; 8];
                        self.ram.read(GuestPhys(at.into()), &mut prd).ok().map(|()| prd)
                    };
                    match board.ide.dma_next(bus, &mut board.list, read) {
                        DmaStep::Wait => break,
                        DmaStep::Disk(request) => {
                            let data = DiskData::Guest(board.list.as_slice());
                            (request.token, host.disk(&request, data))
                        }
                        DmaStep::Copy { token, to_guest } => {
                            let result = copy_ide(&self.ram, board, token, to_guest);
                            (token, DiskAnswer::Done(result))
                        }
                    }
                }
            };
            match answer {
                DiskAnswer::Pending => break,
                DiskAnswer::Done(result) => effect = board.ide.complete(token, result),
            }
        }
        board.settle_ide(fx);
    }

    /// Drives the floppy controller and its DMA channel until nothing more is to do.
    pub(crate) fn run_fdc<H: Host>(&self, host: &H, first: fdc::Effect, fx: &mut Effects) {
        let mut guard = self.board.lock();
        let board = &mut *guard;
        let mut effect = first;
        // A track of single sectors is the longest chain.
        for _ in 0..1024 {
            effect = match effect {
                fdc::Effect::None => match (board.fdc.dma_request(), board.dma.transfer(2)) {
                    (Some(want), Some(have)) => board.fdc.dma_grant(want.bytes.min(have.bytes)),
                    _ => break,
                },
                fdc::Effect::Request(request) => {
                    let data = match board.fdc.buffer(request.token) {
                        Some(buffer) => DiskData::Buffer(buffer),
                        None => DiskData::None,
                    };
                    match host.disk(&request, data) {
                        DiskAnswer::Pending => break,
                        DiskAnswer::Done(result) => board.fdc.complete(request.token, result),
                    }
                }
                fdc::Effect::Move { bytes, to_guest } => {
                    let Some(have) = board.dma.transfer(2) else { break };
                    move_floppy(&self.ram, board, &have, to_guest);
                    let tc = board.dma.advance(2, bytes);
                    board.fdc.dma_moved(tc)
                }
            };
        }
        board.settle_fdc(fx);
    }

    /// Opens the tray of the CD drive in `slot` unless the guest has locked it.
    pub fn eject<H: Host>(&self, host: &H, slot: u8) -> bool {
        let mut board = self.board.lock();
        let Some(unit) = Unit::ALL.get(usize::from(slot)) else { return false };
        let opened = board.ide.cdrom(*unit).is_some_and(devmodel::atapi::Cdrom::eject);
        if opened {
            self.drives.lock().put(slot.into(), None);
            host.tray(slot, true);
        }
        opened
    }

    /// The host has finished a request that it had answered with [`DiskAnswer::Pending`]. `data` is what was read, for
    /// a request whose data was [`DiskData::Buffer`].
    pub fn disk_done<H: Host>(
        &self,
        host: &H,
        disk: DiskId,
        token: Token,
        result: Result<(), BlkError>,
        data: Option<&[u8]>,
    ) {
        if token.part == BIOS_PART {
            self.bios_io.lock().finish(token, result);
            self.wake_all(host);
            return;
        }
        let mut fx = Effects::new();
        {
            let mut board = self.board.lock();
            if usize::from(disk.0) >= FLOPPY {
                if let (Some(data), Some(buffer)) = (data, board.fdc.buffer(token)) {
                    copy(buffer, data);
                }
                fx.fdc = Some(board.fdc.complete(token, result));
                board.settle_fdc(&mut fx);
            } else {
                if let (Some(data), Some(buffer)) = (data, board.ide.buffer(token)) {
                    copy(buffer, data);
                }
                fx.ide = Some(board.ide.complete(token, result));
                board.settle_ide(&mut fx);
            }
        }
        self.apply(host, &mut fx);
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    to[..len].copy_from_slice(&from[..len]);
}

/// Moves a packet's reply or parameters between the chip's buffer and the PRD table's segments.
fn copy_ide(
    ram: &GuestRam,
    board: &mut Board,
    token: Token,
    to_guest: bool,
) -> Result<(), BlkError> {
    let segments = &board.list;
    let mut rest = board.ide.buffer(token).unwrap_or(&mut []);
    for segment in segments.as_slice() {
        let (now, later) = rest.split_at_mut(rest.len().min(segment.len as usize));
        let at = GuestPhys(segment.address);
        let moved = if to_guest { ram.write_slice(at, now) } else { ram.read(at, now) };
        moved.map_err(|_| BlkError::Dma)?;
        rest = later;
    }
    Ok(())
}

/// Moves floppy data; what is not RAM reads as ones and drops writes, as on the bus.
fn move_floppy(ram: &GuestRam, board: &mut Board, have: &devmodel::dma::Transfer, to_guest: bool) {
    let data = board.fdc.dma_data();
    if have.downwards {
        for (n, byte) in data.iter_mut().enumerate() {
            let at = GuestPhys(u64::from(have.address).wrapping_sub(n as u64));
            if to_guest {
                let _ = ram.write_u8(at, *byte);
            } else {
                *byte = ram.read_u8(at).unwrap_or(0xff);
            }
        }
        return;
    }
    let at = GuestPhys(have.address.into());
    if to_guest {
        let _ = ram.write_slice(at, data);
    } else if ram.read(at, data).is_err() {
        data.fill(0xff);
    }
}
