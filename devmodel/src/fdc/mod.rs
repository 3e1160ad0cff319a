//! The 82077AA floppy controller with two drives: registers, FIFO phases, DMA and interrupt pins.
//!
//! 82077AA datasheet; AT register mode. Data moves through a buffer of one cylinder, which the
//! board fills from host and 8237. Steps and transfers take no time; READ ID waits for its sector.
//! Left out: SCAN commands, FM, other sector sizes, tape. Next: `command.rs`, `media.rs`.

mod command;
mod media;
mod saved;
#[cfg(test)]
mod tests;

use crate::blk::{BlkError, BlkOp, BlkRequest, DiskId, Media, Place, SECTOR, Token};
use arch::Nanos;
use media::{Drive, Floppy};
pub use media::{DriveType, geometry_of_image};
pub use saved::{SavedDrive, SavedFdc};

/// Sectors of the longest track side.
const SIDE: u8 = 36;
/// Bytes of the buffer: both sides of a 1.44M cylinder, one of a 2.88M.
const BUFFER: usize = SIDE as usize * SECTOR;

/// DOR: not reset.
const NRESET: u8 = 1 << 2;
/// DOR: DMA and interrupt pins on.
const DMAGATE: u8 = 1 << 3;

/// Where the controller stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Takes command bytes.
    #[default]
    Command,
    /// The host works on the buffer.
    Host,
    /// DRQ is up, the 8237 has not answered.
    Dma,
    /// The board moves `granted` bytes between buffer and guest.
    Move,
    /// Non-DMA: the guest reads the buffer byte by byte.
    PioIn,
    /// Non-DMA: the guest writes the buffer byte by byte.
    PioOut,
    /// READ ID waits for the next sector.
    ReadId,
    /// The guest reads result bytes.
    Result,
}

/// What moves data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Op {
    #[default]
    Read,
    Write,
    Format,
}

/// The data command under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Transfer {
    op: Op,
    multi_track: bool,
    /// READ DELETED DATA met plain data: end after the first sector, with the control mark.
    mark: bool,
    unit: u8,
    /// C, H, R, N as the command gave them and as they advance. H is also the side.
    cylinder: u8,
    head: u8,
    sector: u8,
    size: u8,
    /// EOT; for FORMAT the count of sectors.
    last: u8,
    /// FORMAT's filler.
    filler: u8,
    /// Bytes that can move before the position must advance.
    run: u32,
    /// Bytes that do move: what the 8237 has, at most `run`.
    granted: u32,
    pos: u32,
    /// The 8237 said TC.
    tc: bool,
}

/// What must happen outside after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// Hand this to the host and call [`Fdc::complete`] when it is done.
    Request(BlkRequest),
    /// Move so many bytes between [`Fdc::dma_data`] and the guest memory that the 8237 points to,
    /// advance the 8237, then call [`Fdc::dma_moved`].
    Move {
        /// Bytes.
        bytes: u32,
        /// To the guest, else from it.
        to_guest: bool,
    },
}

/// DRQ is up: the controller could move so many bytes on channel 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaRequest {
    /// At most this many.
    pub bytes: u32,
    /// To the guest, else from it.
    pub to_guest: bool,
}

/// The chip, with an 18 KiB buffer.
#[derive(Clone, Debug)]
pub struct Fdc {
    // Guest-visible
    drives: [Drive; 2],
    dor: u8,
    tdr: u8,
    /// Data rate of DSR or CCR, whichever was written last.
    rate: u8,
    phase: Phase,
    command: [u8; 9],
    command_len: u8,
    result: [u8; 10],
    result_len: u8,
    result_pos: u8,
    /// Present cylinder numbers.
    pcn: [u8; 4],
    /// SPECIFY's two bytes.
    specify: [u8; 2],
    /// CONFIGURE's second and third byte.
    configure: [u8; 2],
    lock: bool,
    perpendicular: u8,
    /// SENSE INTERRUPT STATUS results still due after a reset.
    reset_sense: u8,
    /// ST0 of a finished seek that was not sensed.
    seek: [Option<u8>; 4],
    interrupt: bool,
    // Derived
    transfer: Transfer,
    /// When READ ID finds its sector.
    found_at: Nanos,
    seq: u32,
    buffer: [u8; BUFFER],
}

impl Default for Fdc {
    fn default() -> Fdc {
        Fdc::new()
    }
}

impl Fdc {
    /// A controller without drives, as RESET leaves it.
    #[must_use]
    pub const fn new() -> Fdc {
        Fdc {
            drives: [Drive::none(); 2],
            dor: 0,
            tdr: 0,
            rate: 2,
            phase: Phase::Command,
            command: [0; 9],
            command_len: 0,
            result: [0; 10],
            result_len: 0,
            result_pos: 0,
            pcn: [0; 4],
            specify: [0; 2],
            configure: CONFIGURE,
            lock: false,
            perpendicular: 0,
            reset_sense: 0,
            seek: [None; 4],
            interrupt: false,
            transfer: Transfer {
                op: Op::Read,
                multi_track: false,
                mark: false,
                unit: 0,
                cylinder: 0,
                head: 0,
                sector: 0,
                size: 0,
                last: 0,
                filler: 0,
                run: 0,
                granted: 0,
                pos: 0,
                tc: false,
            },
            found_at: Nanos::ZERO,
            seq: 0,
            buffer: [0; BUFFER],
        }
    }

    /// Builds in drive `unit` (0 or 1; others are ignored) without a medium.
    pub fn attach(&mut self, unit: usize, kind: DriveType, disk: DiskId) {
        if let Some(drive) = self.drives.get_mut(unit) {
            let changed = kind != DriveType::None;
            *drive = Drive { kind, disk, floppy: None, track: 0, changed };
        }
    }

    /// Puts a medium into drive `unit`; its geometry must be the format's. False without a drive.
    pub fn insert(&mut self, unit: usize, media: &Media) -> bool {
        match self.drives.get_mut(unit) {
            Some(drive) if drive.is_present() => {
                drive.insert(media);
                true
            }
            _ => false,
        }
    }

    /// Takes the medium out of drive `unit`.
    pub fn eject(&mut self, unit: usize) {
        if let Some(drive) = self.drives.get_mut(unit)
            && drive.is_present()
        {
            drive.floppy = None;
            drive.changed = true;
        }
    }

    /// The type of drive `unit`, as CMOS names it.
    #[must_use]
    pub fn drive_type(&self, unit: usize) -> DriveType {
        self.drives.get(unit).map_or(DriveType::None, |drive| drive.kind)
    }

    /// RESET pin: as at power-on, heads and media where they are. Requests in flight become stale.
    pub fn reset(&mut self) {
        let Fdc {
            drives: _,
            dor,
            tdr,
            rate,
            phase,
            command: _,
            command_len,
            result: _,
            result_len,
            result_pos,
            pcn,
            specify,
            configure,
            lock,
            perpendicular,
            reset_sense,
            seek,
            interrupt,
            transfer,
            found_at: _,
            seq: _,
            buffer: _,
        } = self;
        (*dor, *tdr, *rate) = (0, 0, 2);
        *phase = Phase::Command;
        (*command_len, *result_len, *result_pos) = (0, 0, 0);
        (*pcn, *specify, *configure) = ([0; 4], [0; 2], CONFIGURE);
        (*lock, *perpendicular) = (false, 0);
        (*reset_sense, *seek, *interrupt) = (0, [None; 4], false);
        *transfer = Transfer::default();
    }

    /// Reads register `offset` from 3F0h: 0 to 5, and 7 (bit 7 alone is the controller's).
    pub fn read(&mut self, offset: u8) -> (u8, Effect) {
        let value = match offset {
            0 => self.status_a(),
            // SRB: drive select, no write or read data, motors ("Status Register B").
            1 => 0xC0 | (self.dor & 1) << 5 | self.dor >> 4 & 3,
            2 => self.dor,
            3 => self.tdr,
            4 => self.main_status(),
            5 => return self.read_fifo(),
            7 => self.digital_input(),
            _ => 0xFF,
        };
        (value, Effect::None)
    }

    /// Writes register `offset` from 3F0h: 2 DOR, 3 TDR, 4 DSR, 5 FIFO, 7 CCR.
    pub fn write(&mut self, offset: u8, value: u8, now: Nanos) -> Effect {
        match offset {
            2 => self.write_dor(value),
            3 => self.tdr = value & 3,
            4 => {
                self.rate = value & 3;
                // DSR bit 7 resets and clears itself.
                if value & 0x80 != 0 && self.dor & NRESET != 0 {
                    self.soft_reset();
                    self.come_up();
                }
            }
            5 => return self.write_fifo(value, now),
            7 => self.rate = value & 3,
            _ => {}
        }
        Effect::None
    }

    /// The interrupt pin, IRQ 6.
    #[must_use]
    pub fn irq(&self) -> bool {
        let data = matches!(self.phase, Phase::PioIn | Phase::PioOut);
        self.dor & (NRESET | DMAGATE) == NRESET | DMAGATE && (self.interrupt || data)
    }

    /// The DRQ pin of channel 2, with what it is for.
    #[must_use]
    pub fn dma_request(&self) -> Option<DmaRequest> {
        if self.phase != Phase::Dma || self.dor & DMAGATE == 0 {
            return None;
        }
        let to_guest = self.transfer.op == Op::Read;
        Some(DmaRequest { bytes: self.transfer.run, to_guest })
    }

    /// The 8237 will move `bytes` now (its count, at most what [`Fdc::dma_request`] offers).
    pub fn dma_grant(&mut self, bytes: u32) -> Effect {
        if self.phase != Phase::Dma {
            return Effect::None;
        }
        let t = &mut self.transfer;
        t.granted = bytes.clamp(1, t.run);
        if t.op == Op::Read {
            let bytes = t.granted;
            return self.request(BlkOp::Read, bytes.div_ceil(SECTOR as u32));
        }
        self.phase = Phase::Move;
        Effect::Move { bytes: t.granted, to_guest: false }
    }

    /// The bytes that [`Effect::Move`] moves; empty when none is asked for.
    pub fn dma_data(&mut self) -> &mut [u8] {
        let len = if self.phase == Phase::Move { self.transfer.granted as usize } else { 0 };
        &mut self.buffer[..len]
    }

    /// The bytes were moved; `tc` says that the 8237's count has run out.
    pub fn dma_moved(&mut self, tc: bool) -> Effect {
        if self.phase != Phase::Move {
            return Effect::None;
        }
        self.transfer.tc = tc;
        match self.transfer.op {
            Op::Read => self.next_run(),
            Op::Write | Op::Format => self.store(),
        }
    }

    /// The part of the buffer that request `token` fills or takes; `None` when it is stale.
    pub fn buffer(&mut self, token: Token) -> Option<&mut [u8]> {
        if self.phase != Phase::Host || token.seq != self.seq {
            return None;
        }
        let bytes = self.asked() as usize * SECTOR;
        self.buffer.get_mut(..bytes)
    }

    /// The host is done with `token`. Stale tokens are ignored.
    pub fn complete(&mut self, token: Token, result: Result<(), BlkError>) -> Effect {
        if self.phase != Phase::Host || token.seq != self.seq {
            return Effect::None;
        }
        if let Err(error) = result {
            self.host_failed(error);
            return Effect::None;
        }
        if self.transfer.op != Op::Read {
            return self.next_run();
        }
        if self.is_dma() {
            self.phase = Phase::Move;
            return Effect::Move { bytes: self.transfer.granted, to_guest: true };
        }
        self.phase = Phase::PioIn;
        self.transfer.pos = 0;
        Effect::None
    }

    /// When [`Fdc::advance`] must next be called.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        (self.phase == Phase::ReadId).then_some(self.found_at)
    }

    /// Lets time pass.
    pub fn advance(&mut self, now: Nanos) {
        if self.phase == Phase::ReadId && now >= self.found_at {
            self.read_id_found();
        }
    }

    fn write_dor(&mut self, value: u8) {
        let had = self.dor & NRESET != 0;
        self.dor = value;
        match (had, value & NRESET != 0) {
            (true, false) => self.soft_reset(),
            (false, true) => self.come_up(),
            _ => {}
        }
    }

    /// "Reset", DOR and DSR: what a software reset clears.
    fn soft_reset(&mut self) {
        self.phase = Phase::Command;
        (self.command_len, self.result_len, self.result_pos) = (0, 0, 0);
        self.pcn = [0; 4];
        self.seek = [None; 4];
        self.reset_sense = 0;
        self.interrupt = false;
        self.transfer = Transfer::default();
        // GAP and WGATE go, the drive bits stay ("Perpendicular Mode Command").
        self.perpendicular &= 0xFC;
        if self.lock {
            // EIS and POLL are not locked ("Lock").
            self.configure[0] &= 0x2F;
        } else {
            self.configure = CONFIGURE;
        }
    }

    /// Reset ends: the drives are polled and each reports a change of its ready line.
    fn come_up(&mut self) {
        self.raise();
        self.reset_sense = 4;
    }

    /// A new interrupt; what was left to sense of a reset is forgotten.
    fn raise(&mut self) {
        self.reset_sense = 0;
        self.interrupt = true;
    }

    fn main_status(&self) -> u8 {
        if self.dor & NRESET == 0 {
            return 0;
        }
        let seeking = self
            .seek
            .iter()
            .enumerate()
            .fold(0, |bits, (i, seek)| if seek.is_some() { bits | 1 << i } else { bits });
        // RQM, DIO, NON-DMA, CB ("Main Status Register").
        let phase = match self.phase {
            Phase::Command if self.command_len == 0 => 0x80,
            Phase::Command => 0x90,
            Phase::Host if !self.is_dma() => 0x30,
            Phase::Host | Phase::Dma | Phase::Move | Phase::ReadId => 0x10,
            Phase::PioIn => 0xF0,
            Phase::PioOut => 0xB0,
            Phase::Result => 0xD0,
        };
        phase | seeking
    }

    fn status_a(&self) -> u8 {
        let drive = &self.drives[usize::from(self.dor & 1)];
        // INT, /DRV2, /TRK0, HDSEL, /INDX, /WP ("Status Register A").
        let second = if self.drives[1].is_present() { 0 } else { 0x40 };
        let track0 = if drive.is_present() && drive.track == 0 { 0 } else { 0x10 };
        let protect = if drive.floppy.is_some_and(|floppy| floppy.read_only) { 0 } else { 0x02 };
        let head = (self.transfer.head & 1) << 3;
        u8::from(self.irq()) << 7 | second | track0 | head | 0x04 | protect
    }

    /// DIR: the change line of the drive that DOR selects. Without a medium it never clears.
    fn digital_input(&self) -> u8 {
        match self.drives.get(usize::from(self.dor & 3)) {
            Some(drive) if drive.is_present() && (drive.changed || drive.floppy.is_none()) => 0x80,
            _ => 0,
        }
    }

    fn is_dma(&self) -> bool {
        self.specify[1] & 1 == 0
    }

    /// Sectors of the host request in flight.
    fn asked(&self) -> u32 {
        let t = &self.transfer;
        match t.op {
            Op::Format => t.run / SECTOR as u32,
            Op::Read | Op::Write => t.granted.div_ceil(SECTOR as u32),
        }
    }

    /// The medium under the heads of `unit`.
    fn floppy(&self, unit: u8) -> Option<(&Drive, Floppy)> {
        let drive = self.drives.get(usize::from(unit))?;
        Some((drive, drive.floppy?))
    }

    /// Asks the host for `sectors` at the current position.
    fn request(&mut self, op: BlkOp, sectors: u32) -> Effect {
        let t = self.transfer;
        let Some((drive, floppy)) = self.floppy(t.unit) else {
            self.host_failed(BlkError::NoMedium);
            return Effect::None;
        };
        let (heads, track) = (u64::from(floppy.geometry.heads), u64::from(floppy.geometry.sectors));
        let side = u64::from(t.cylinder) * heads + u64::from(t.head);
        let (disk, lba) = (drive.disk, side * track + u64::from(t.sector).saturating_sub(1));
        self.seq = self.seq.wrapping_add(1);
        self.phase = Phase::Host;
        Effect::Request(BlkRequest {
            token: Token { part: 0, seq: self.seq },
            disk,
            op,
            lba,
            sectors,
            place: Place::Buffer,
        })
    }
}

/// Default CONFIGURE: no implied seek, FIFO off, polling on, threshold 1, no precompensation track.
const CONFIGURE: [u8; 2] = [0x20, 0];
