//! One IDE channel: two devices' registers, device control, and the one transfer under way.
//!
//! ATA/ATAPI-7 volumes 1 and 2. Holds what ATA and packet commands share: register access, reset,
//! the data port, host requests. Commands: `ata.rs`, `packet.rs`; bus master: `dma.rs`.

use super::busmaster::{BusMaster, INTERRUPT};
use super::disk::Disk;
use super::taskfile::{ABRT, BSY, DF, DRQ, ERR, IDNF, READY, Taskfile, UNC};
use super::{Bus, Effect};
use crate::atapi::Cdrom;
use crate::blk::{BlkError, BlkOp, BlkRequest, DiskId, Place, SECTOR, Token};

/// Bytes of a channel's buffer.
pub const BUFFER: usize = 128 * SECTOR;

/// Device control: interrupts off.
const NIEN: u8 = 1 << 1;
/// Device control: software reset.
pub const SRST: u8 = 1 << 2;
/// Device control: read the previous register contents.
const HOB: u8 = 1 << 7;

/// What is plugged in at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    None,
    Disk(Disk),
    Cdrom(Cdrom),
}

/// How far the command under way has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No command.
    #[default]
    Idle,
    /// BSY: the host works on the buffer.
    Host,
    /// DRQ: the guest reads `pos..end` of the buffer.
    DataIn,
    /// DRQ: the guest writes `pos..end` of the buffer.
    DataOut,
    /// DRQ: a DMA command waits for the bus master.
    DmaReady,
    /// BSY: the board moves a batch of a DMA command.
    DmaHost,
}

/// What the command moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Sectors to the guest.
    #[default]
    Read,
    /// Sectors from the guest.
    Write,
    /// Nothing: a flush.
    Flush,
    /// A block from the buffer (IDENTIFY, SMART).
    Reply,
    /// The 12 bytes of a packet.
    Packet,
    /// A packet command's reply, from the buffer.
    PacketReply,
    /// A packet command's parameter list.
    PacketParameters,
    /// CD blocks of 2,048 bytes.
    PacketRead,
    /// CD blocks of 2,352 bytes, made in the buffer.
    PacketRaw,
}

/// The command under way. Where `phase` is `Idle` the rest means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    pub phase: Phase,
    pub kind: Kind,
    /// The command moves data by the bus master.
    pub dma: bool,
    /// The command uses 48-bit addresses.
    pub ext: bool,
    /// Next sector (512 bytes) to ask the host for.
    pub lba: u64,
    /// Sectors not yet done by the host.
    pub left: u32,
    /// Bytes in the host's hands.
    pub asked: u32,
    /// DRQ block, bytes, 2 or more.
    pub block: u32,
    pub pos: u32,
    pub end: u32,
    pub filled: u32,
}

/// One channel.
#[derive(Clone, Debug)]
pub struct Channel {
    // Fixed
    pub bus: Bus,
    pub drives: [Drive; 2],
    // Guest-visible
    pub regs: [Taskfile; 2],
    pub selected: usize,
    pub control: u8,
    pub bm: BusMaster,
    // Derived
    pub transfer: Transfer,
    pub seq: u32,
    /// Meaningful below `transfer.filled`.
    pub buffer: [u8; BUFFER],
}

impl Channel {
    pub const fn new(bus: Bus) -> Channel {
        Channel {
            bus,
            drives: [Drive::None; 2],
            regs: [Taskfile::new(); 2],
            selected: 0,
            control: 0,
            bm: BusMaster::new(),
            transfer: Transfer {
                phase: Phase::Idle,
                kind: Kind::Read,
                dma: false,
                ext: false,
                lba: 0,
                left: 0,
                asked: 0,
                block: 0,
                pos: 0,
                end: 0,
                filled: 0,
            },
            seq: 0,
            buffer: [0; BUFFER],
        }
    }

    /// RESET-: drives, registers and bus master as at power-on. Media stay.
    pub fn reset(&mut self) {
        let Channel {
            bus: _,
            drives,
            regs: _,
            selected: _,
            control,
            bm,
            transfer: _,
            seq: _,
            buffer: _,
        } = self;
        for drive in drives {
            match drive {
                Drive::None => {}
                Drive::Disk(disk) => disk.reset(),
                Drive::Cdrom(cdrom) => cdrom.reset(),
            }
        }
        *control = 0;
        *bm = BusMaster::new();
        self.soft_reset();
    }

    /// What SRST, RESET- and EXECUTE DEVICE DIAGNOSTIC leave: no command, signatures, device 0.
    pub fn soft_reset(&mut self) {
        self.transfer = Transfer::default();
        self.selected = 0;
        for unit in 0..2 {
            self.sign(unit);
            self.regs[unit].intrq = false;
            self.regs[unit].device = 0xA0;
        }
    }

    /// Registers of one device as its reset leaves them.
    pub fn sign(&mut self, unit: usize) {
        let packet = matches!(self.drives[unit], Drive::Cdrom(_));
        let regs = &mut self.regs[unit];
        regs.sign(packet);
        regs.error = 0x01;
        // A packet device is not ready until its first command ("DEVICE RESET", normal outputs).
        regs.status = if packet { 0 } else { READY };
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.drives, [Drive::None, Drive::None])
    }

    fn is_absent(&self) -> bool {
        matches!(self.drives[self.selected], Drive::None)
    }

    /// The INTRQ pin.
    pub fn irq(&self) -> bool {
        self.control & NIEN == 0 && self.regs[self.selected].intrq && !self.is_absent()
    }

    /// Command block register `offset` (1 to 7). A device that is not there reads as 0, on a channel without
    /// devices too: hosts pull DD7 down, so that BSY is 0 (ATA/ATAPI-6 "Driver types and required pull-ups"), and
    /// firmware that waits for BSY to clear (OVMF, U-Boot) would wait for half a minute at FFh.
    pub fn read(&mut self, offset: u8) -> u8 {
        if self.is_absent() {
            return 0;
        }
        let hob = self.control & HOB != 0;
        let regs = &mut self.regs[self.selected];
        match offset {
            1 => regs.error,
            2 => regs.count.get(hob),
            3 => regs.low.get(hob),
            4 => regs.mid.get(hob),
            5 => regs.high.get(hob),
            6 => regs.device,
            7 => {
                regs.intrq = false;
                regs.status
            }
            _ => 0xFF,
        }
    }

    /// Alternate status: no effect on INTRQ.
    pub fn alternate_status(&self) -> u8 {
        if self.is_absent() { 0 } else { self.regs[self.selected].status }
    }

    /// Writes command block register `offset` (1 to 7).
    pub fn write(&mut self, offset: u8, value: u8) -> Effect {
        if self.is_empty() {
            return Effect::None;
        }
        if offset == 7 {
            return self.command(value);
        }
        self.control &= !HOB;
        // "Writing to the Command Block registers while BSY or DRQ is set": the write is lost.
        if self.regs[self.selected].status & (BSY | DRQ) != 0 {
            return Effect::None;
        }
        for regs in &mut self.regs {
            match offset {
                1 => regs.features.push(value),
                2 => regs.count.push(value),
                3 => regs.low.push(value),
                4 => regs.mid.push(value),
                5 => regs.high.push(value),
                6 => regs.device = value | 0xA0,
                _ => {}
            }
        }
        if offset == 6 {
            let was = self.irq();
            self.selected = usize::from(value >> 4 & 1);
            self.latch(was);
        }
        Effect::None
    }

    /// Device control.
    pub fn write_control(&mut self, value: u8) {
        if self.is_empty() {
            return;
        }
        let was = self.irq();
        let (srst, had_srst) = (value & SRST != 0, self.control & SRST != 0);
        self.control = value & (NIEN | SRST | HOB);
        if srst && !had_srst {
            self.soft_reset();
            for regs in &mut self.regs {
                regs.status = BSY;
            }
        } else if !srst && had_srst {
            self.soft_reset();
        }
        self.latch(was);
    }

    /// A rising INTRQ sets the bus master's interrupt bit.
    fn latch(&mut self, was: bool) {
        if self.irq() && !was {
            self.bm.status |= INTERRUPT;
        }
    }

    /// Raises the selected device's INTRQ.
    pub fn raise(&mut self) {
        self.regs[self.selected].intrq = true;
        if self.control & NIEN == 0 {
            self.bm.status |= INTERRUPT;
        }
    }

    pub fn set_status(&mut self, status: u8) {
        self.regs[self.selected].status = status;
    }

    /// The command ended well.
    pub fn done(&mut self) -> Effect {
        self.transfer.phase = Phase::Idle;
        let regs = &mut self.regs[self.selected];
        (regs.status, regs.error) = (READY, 0);
        self.raise();
        Effect::None
    }

    /// The command ended with `error`; `status` adds to ERR.
    pub fn fail(&mut self, status: u8, error: u8) -> Effect {
        self.transfer.phase = Phase::Idle;
        let regs = &mut self.regs[self.selected];
        (regs.status, regs.error) = (READY | ERR | status, error);
        self.raise();
        Effect::None
    }

    /// The disk that commands of the selected device reach.
    fn disk_id(&self) -> DiskId {
        match &self.drives[self.selected] {
            Drive::None => DiskId::default(),
            Drive::Disk(disk) => disk.disk,
            Drive::Cdrom(cdrom) => cdrom.disk,
        }
    }

    /// Asks the host for `bytes` to or from the buffer, or for a flush.
    fn request(&mut self, op: BlkOp, bytes: u32) -> Effect {
        self.transfer.phase = Phase::Host;
        Effect::Request(self.issue(op, bytes, Place::Buffer))
    }

    pub(super) fn issue(&mut self, op: BlkOp, bytes: u32, place: Place) -> BlkRequest {
        self.seq = self.seq.wrapping_add(1);
        self.transfer.asked = bytes;
        self.set_status(BSY | READY);
        BlkRequest {
            token: Token { part: self.bus.index() as u8, seq: self.seq },
            disk: self.disk_id(),
            op,
            lba: self.transfer.lba,
            sectors: bytes / SECTOR as u32,
            place,
        }
    }

    /// Starts a flush.
    pub fn flush(&mut self) -> Effect {
        self.transfer = Transfer { phase: Phase::Host, kind: Kind::Flush, ..Transfer::default() };
        Effect::Request(self.issue(BlkOp::Flush, 0, Place::None))
    }

    /// Asks for the next buffer of a reading command.
    pub fn fetch(&mut self) -> Effect {
        let most = match self.transfer.kind {
            // Sixteen raw blocks grow to 37,632 bytes in the same buffer.
            Kind::PacketRaw => 64,
            _ => (BUFFER / SECTOR) as u32,
        };
        (self.transfer.pos, self.transfer.end, self.transfer.filled) = (0, 0, 0);
        self.request(BlkOp::Read, self.transfer.left.min(most) * SECTOR as u32)
    }

    /// The buffer holds `filled` bytes for the guest: by DMA, or the first block by PIO.
    pub fn offer(&mut self, filled: u32) -> Effect {
        (self.transfer.pos, self.transfer.end, self.transfer.filled) = (0, 0, filled);
        if self.transfer.dma { self.dma_ready() } else { self.block_in() }
    }

    /// The next DRQ block to the guest.
    fn block_in(&mut self) -> Effect {
        self.open_block(Phase::DataIn);
        self.raise();
        Effect::None
    }

    /// Sets DRQ over the next block of the buffer.
    pub fn open_block(&mut self, phase: Phase) {
        let t = &mut self.transfer;
        t.phase = phase;
        t.end = t.pos.saturating_add(t.block).min(t.filled);
        let (kind, bytes) = (t.kind, (t.end - t.pos).min(0xFFFE) as u16);
        let regs = &mut self.regs[self.selected];
        regs.status = READY | DRQ;
        // Interrupt reason ("PACKET", "Interrupt Reason register"): C/D and I/O.
        match kind {
            Kind::Packet => regs.count.current = 1,
            Kind::PacketParameters => regs.set_packet(0, bytes),
            Kind::PacketReply | Kind::PacketRead | Kind::PacketRaw => regs.set_packet(2, bytes),
            Kind::Read | Kind::Write | Kind::Flush | Kind::Reply => {}
        }
    }

    /// Prepares the buffer for the next sectors of a writing command.
    pub fn collect(&mut self) {
        self.transfer.pos = 0;
        self.transfer.filled = self.transfer.left.min((BUFFER / SECTOR) as u32) * SECTOR as u32;
        self.open_block(Phase::DataOut);
    }

    /// The data port, many bytes at once: how many were taken from the block and what follows.
    ///
    /// A block of an odd length gives one byte more, a zero, to a reader of words.
    #[inline]
    pub fn data_in(&mut self, out: &mut [u8]) -> (usize, Effect) {
        let t = &mut self.transfer;
        if t.phase != Phase::DataIn {
            return (0, Effect::None);
        }
        let (pos, end) = (t.pos as usize, t.end as usize);
        let mut n = out.len().min(end - pos);
        out[..n].copy_from_slice(&self.buffer[pos..pos + n]);
        t.pos += n as u32;
        if t.pos < t.end {
            return (n, Effect::None);
        }
        if n % 2 == 1
            && let Some(pad) = out.get_mut(n)
        {
            *pad = 0;
            n += 1;
        }
        (n, self.block_read())
    }

    /// The data port, written: how many bytes the block took and what follows.
    #[inline]
    pub fn data_out(&mut self, data: &[u8]) -> (usize, Effect) {
        let t = &mut self.transfer;
        if t.phase != Phase::DataOut {
            return (0, Effect::None);
        }
        let (pos, end) = (t.pos as usize, t.end as usize);
        let n = data.len().min(end - pos);
        self.buffer[pos..pos + n].copy_from_slice(&data[..n]);
        t.pos += n as u32;
        if t.pos < t.end {
            return (n, Effect::None);
        }
        // The pad byte of an odd block goes with it.
        let pad = usize::from(n % 2 == 1 && data.len() > n);
        (n + pad, self.block_written())
    }

    fn block_read(&mut self) -> Effect {
        let t = &self.transfer;
        if t.pos < t.filled {
            return self.block_in();
        }
        self.buffer_read()
    }

    /// The guest has the whole buffer.
    pub(super) fn buffer_read(&mut self) -> Effect {
        let t = self.transfer;
        match t.kind {
            Kind::Read | Kind::PacketRead | Kind::PacketRaw if t.left > 0 => self.fetch(),
            Kind::PacketReply | Kind::PacketRead | Kind::PacketRaw => self.packet_done(),
            // The last block of a PIO read ends without an interrupt ("PIO data-in protocol").
            _ => {
                self.transfer.phase = Phase::Idle;
                self.set_status(READY);
                Effect::None
            }
        }
    }

    fn block_written(&mut self) -> Effect {
        let t = self.transfer;
        if t.pos < t.filled {
            self.open_block(Phase::DataOut);
            self.raise();
            return Effect::None;
        }
        match t.kind {
            Kind::Packet => self.packet(),
            Kind::PacketParameters => self.packet_parameters(),
            _ => self.request(BlkOp::Write, t.filled),
        }
    }

    /// The part of the buffer that request `token` fills or takes; `None` when it is stale.
    pub fn request_buffer(&mut self, seq: u32) -> Option<&mut [u8]> {
        let t = &self.transfer;
        let from = match t.phase {
            Phase::Host => 0,
            Phase::DmaHost if !matches!(t.kind, Kind::Read | Kind::Write | Kind::PacketRead) => {
                t.pos
            }
            _ => return None,
        };
        let (from, len) = (from as usize, t.asked as usize);
        if seq == self.seq { self.buffer.get_mut(from..from + len) } else { None }
    }

    /// The host's answer.
    pub fn complete(&mut self, seq: u32, result: Result<(), BlkError>) -> Effect {
        let t = self.transfer;
        if seq != self.seq || !matches!(t.phase, Phase::Host | Phase::DmaHost) {
            return Effect::None;
        }
        if let Err(error) = result {
            return self.host_failed(error);
        }
        let sectors = t.asked / SECTOR as u32;
        if t.phase == Phase::DmaHost
            && !matches!(t.kind, Kind::Read | Kind::Write | Kind::PacketRead)
        {
            return self.copied(t.asked);
        }
        self.transfer.lba += u64::from(sectors);
        self.transfer.left -= sectors.min(t.left);
        let left = self.transfer.left;
        if matches!(t.kind, Kind::Read | Kind::Write) {
            self.report_address();
        }
        match (t.phase, t.kind) {
            (Phase::DmaHost, _) if left > 0 => self.dma_ready(),
            (Phase::DmaHost, kind) => {
                self.bm.drive_done();
                if kind == Kind::PacketRead { self.packet_done() } else { self.done() }
            }
            (_, Kind::Write) if left > 0 => {
                self.collect();
                self.raise();
                Effect::None
            }
            (_, Kind::Read | Kind::PacketRead) => self.offer(t.asked),
            (_, Kind::PacketRaw) => self.raw_arrived(sectors / 4),
            _ => self.done(),
        }
    }

    fn host_failed(&mut self, error: BlkError) -> Effect {
        if error == BlkError::Dma {
            self.bm.abort();
        }
        match (self.transfer.kind, error) {
            (Kind::PacketReply | Kind::PacketParameters, _) => self.packet_failed(error),
            (Kind::PacketRead | Kind::PacketRaw, _) => self.packet_failed(error),
            (_, BlkError::Range) => self.fail(0, IDNF),
            (Kind::Read, BlkError::Medium) => self.fail(0, UNC),
            (Kind::Write | Kind::Flush, BlkError::Medium) => self.fail(DF, ABRT),
            _ => self.fail(0, ABRT),
        }
    }

    /// Count and address as the command has come: sectors left, last sector done.
    fn report_address(&mut self) {
        let (lba, left, ext) =
            (self.transfer.lba.saturating_sub(1), self.transfer.left, self.transfer.ext);
        let Drive::Disk(disk) = &self.drives[self.selected] else { return };
        let regs = &mut self.regs[self.selected];
        regs.count.current = left as u8;
        if ext {
            regs.count.previous = (left >> 8) as u8;
            regs.set_lba48(lba);
        } else if regs.is_lba() {
            regs.set_lba28(lba);
        } else {
            let track = u64::from(disk.track.max(1));
            let heads = u64::from(disk.heads.max(1));
            let cylinder = ((lba / track / heads).min(0xFFFF) as u16).to_le_bytes();
            regs.low.current = (lba % track + 1) as u8;
            (regs.mid.current, regs.high.current) = (cylinder[0], cylinder[1]);
            regs.device = (regs.device & 0xF0) | (lba / track % heads) as u8;
        }
    }
}
