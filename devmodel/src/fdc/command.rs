//! The 82077AA's commands: decoding, execution, results.
//!
//! 82077AA datasheet "Command Set/Descriptions" and "Result Phase Table".

use super::{Effect, Fdc, NRESET, Op, Phase, SIDE, Transfer};
use crate::blk::{BlkError, BlkOp, SECTOR};
use arch::Nanos;

/// ST0: abnormal termination.
const ABNORMAL: u8 = 0x40;
/// ST0: seek end.
const SEEK_END: u8 = 0x20;
/// ST0: equipment check.
const EQUIPMENT: u8 = 0x10;
/// ST1: end of cylinder.
const EN: u8 = 0x80;
/// ST1: data error.
const DE: u8 = 0x20;
/// ST1: overrun.
const OR: u8 = 0x10;
/// ST1: no data.
const ND: u8 = 0x04;
/// ST1: not writable.
const NW: u8 = 0x02;
/// ST1: missing address mark.
const MA: u8 = 0x01;
/// ST2: control mark.
const CM: u8 = 0x40;
/// ST2: wrong cylinder.
const WC: u8 = 0x10;

/// What a command byte asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Read { deleted: bool },
    Write,
    ReadTrack,
    Verify,
    Format,
    ReadId,
    Specify,
    SenseDrive,
    Recalibrate,
    SenseInterrupt,
    Seek,
    RelativeSeek { inward: bool },
    DumpRegisters,
    Version,
    Perpendicular,
    Configure,
    Lock(bool),
    PartId,
    Invalid,
}

fn decode(code: u8) -> Command {
    match (code, code & 0x1F) {
        (0x03, _) => Command::Specify,
        (0x04, _) => Command::SenseDrive,
        (0x07, _) => Command::Recalibrate,
        (0x08, _) => Command::SenseInterrupt,
        (0x0E, _) => Command::DumpRegisters,
        (0x0F, _) => Command::Seek,
        (0x8F, _) => Command::RelativeSeek { inward: false },
        (0xCF, _) => Command::RelativeSeek { inward: true },
        (0x10, _) => Command::Version,
        (0x12, _) => Command::Perpendicular,
        (0x13, _) => Command::Configure,
        (0x14, _) => Command::Lock(false),
        (0x94, _) => Command::Lock(true),
        (0x18, _) => Command::PartId,
        (_, 0x02) => Command::ReadTrack,
        (_, 0x05 | 0x09) => Command::Write,
        (_, 0x06) => Command::Read { deleted: false },
        (_, 0x0C) => Command::Read { deleted: true },
        (_, 0x16) => Command::Verify,
        (0x0D | 0x4D, _) => Command::Format,
        (0x0A | 0x4A, _) => Command::ReadId,
        _ => Command::Invalid,
    }
}

impl Command {
    /// Bytes of the whole command.
    fn len(self) -> u8 {
        match self {
            Command::Read { .. } | Command::Write | Command::ReadTrack | Command::Verify => 9,
            Command::Format => 6,
            Command::Configure => 4,
            Command::Specify | Command::Seek | Command::RelativeSeek { .. } => 3,
            Command::ReadId
            | Command::SenseDrive
            | Command::Recalibrate
            | Command::Perpendicular => 2,
            Command::SenseInterrupt
            | Command::DumpRegisters
            | Command::Version
            | Command::Lock(_)
            | Command::PartId
            | Command::Invalid => 1,
        }
    }
}

impl Fdc {
    pub(super) fn read_fifo(&mut self) -> (u8, Effect) {
        match self.phase {
            Phase::Result => {
                let value = self.result.get(usize::from(self.result_pos)).copied().unwrap_or(0);
                self.interrupt = false;
                self.result_pos += 1;
                if self.result_pos >= self.result_len {
                    self.phase = Phase::Command;
                    self.command_len = 0;
                }
                (value, Effect::None)
            }
            Phase::PioIn => {
                let t = &mut self.transfer;
                let value = self.buffer.get(t.pos as usize).copied().unwrap_or(0);
                t.pos += 1;
                let effect = if t.pos >= t.granted { self.next_run() } else { Effect::None };
                (value, effect)
            }
            _ => (0xFF, Effect::None),
        }
    }

    pub(super) fn write_fifo(&mut self, value: u8, now: Nanos) -> Effect {
        if self.dor & NRESET == 0 {
            return Effect::None;
        }
        match self.phase {
            Phase::Command => {}
            Phase::PioOut => {
                let t = &mut self.transfer;
                if let Some(byte) = self.buffer.get_mut(t.pos as usize) {
                    *byte = value;
                }
                t.pos += 1;
                return if t.pos >= t.granted { self.store() } else { Effect::None };
            }
            _ => return Effect::None,
        }
        if let Some(slot) = self.command.get_mut(usize::from(self.command_len)) {
            *slot = value;
            self.command_len += 1;
        }
        let command = decode(self.command[0]);
        if self.command_len < command.len() {
            return Effect::None;
        }
        self.command_len = 0;
        self.execute(command, now)
    }

    fn execute(&mut self, command: Command, now: Nanos) -> Effect {
        let c = self.command;
        let unit = c[1] & 3;
        match command {
            Command::Read { .. } | Command::Write | Command::ReadTrack => {
                return self.transfer(command);
            }
            Command::Verify => self.verify(),
            Command::Format => return self.format(),
            Command::ReadId => self.read_id(now),
            Command::Specify => self.specify = [c[1], c[2]],
            Command::SenseDrive => self.sense_drive(),
            Command::Recalibrate => self.recalibrate(unit),
            Command::SenseInterrupt => self.sense_interrupt(),
            Command::Seek => {
                let steps = i16::from(c[2]) - i16::from(self.pcn[usize::from(unit)]);
                self.seek(unit, steps, c[2]);
            }
            Command::RelativeSeek { inward } => {
                let steps = i16::from(c[2]);
                let pcn = self.pcn[usize::from(unit)];
                if inward {
                    self.seek(unit, steps, pcn.wrapping_add(c[2]));
                } else {
                    self.seek(unit, -steps, pcn.wrapping_sub(c[2]));
                }
            }
            Command::DumpRegisters => self.dump_registers(),
            Command::Version => self.results(&[0x90]),
            Command::PartId => self.results(&[0x41]),
            // OW says whether the drive bits are meant too.
            Command::Perpendicular if c[1] & 0x80 != 0 => self.perpendicular = c[1] & 0x3F,
            Command::Perpendicular => {
                self.perpendicular = (self.perpendicular & 0x3C) | (c[1] & 3);
            }
            Command::Configure => self.configure = [c[2] & 0x7F, c[3]],
            Command::Lock(lock) => {
                self.lock = lock;
                self.results(&[u8::from(lock) << 4]);
            }
            Command::Invalid => self.results(&[0x80]),
        }
        Effect::None
    }

    /// Result phase without an interrupt.
    fn results(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.result.len());
        self.result[..len].copy_from_slice(&bytes[..len]);
        self.result_len = len as u8;
        self.result_pos = 0;
        self.phase = Phase::Result;
    }

    /// Result phase of a data command at the side under way.
    fn finish(&mut self, st0: u8, st1: u8, st2: u8) {
        self.finish_on(self.transfer.head, st0, st1, st2);
    }

    /// Result phase of a data command that ended on side `side`, with its interrupt.
    fn finish_on(&mut self, side: u8, st0: u8, st1: u8, st2: u8) {
        let t = self.transfer;
        let st0 = st0 | (side & 1) << 2 | t.unit;
        self.results(&[st0, st1, st2, t.cylinder, t.head, t.sector, t.size]);
        self.raise();
    }

    fn fail(&mut self, st1: u8, st2: u8) -> Effect {
        self.finish(ABNORMAL, st1, st2);
        Effect::None
    }

    pub(super) fn host_failed(&mut self, error: BlkError) {
        let (st1, st2) = match error {
            BlkError::NoMedium => (MA, 0),
            BlkError::ReadOnly => (NW, 0),
            BlkError::Range => (ND, 0),
            // Data error in the data field.
            BlkError::Medium => (DE, 0x20),
            BlkError::Dma => (OR, 0),
        };
        self.finish(ABNORMAL, st1, st2);
    }

    /// Takes the C, H, R, N, EOT of a nine-byte command.
    fn take_address(&mut self, op: Op) {
        let [code, select, cylinder, head, sector, size, last, ..] = self.command;
        self.transfer = Transfer {
            op,
            multi_track: code & 0x80 != 0,
            unit: select & 3,
            cylinder,
            head,
            sector,
            size,
            last,
            ..Transfer::default()
        };
    }

    /// Whether the position can be found on the medium: ST1 and ST2 of the failure if not.
    fn locate(&mut self) -> Result<(), (u8, u8)> {
        let t = self.transfer;
        let (mfm, side) = (self.command[0] & 0x40 != 0, self.command[1] >> 2 & 1);
        let implied = self.configure[0] & 0x40 != 0;
        if implied && let Some(drive) = self.drives.get_mut(usize::from(t.unit)) {
            let steps = drive.steps_to(t.cylinder);
            drive.step(steps);
            self.pcn[usize::from(t.unit)] = t.cylinder;
        }
        let rate = self.rate;
        let (drive, floppy) = self.floppy(t.unit).ok_or((MA, 0))?;
        if !mfm || !drive.has_rate(&floppy, rate) || side >= floppy.geometry.heads {
            return Err((MA, 0));
        }
        let cylinder = drive.cylinder(&floppy).ok_or((MA, 0))?;
        if cylinder != t.cylinder {
            return Err((ND, WC));
        }
        let found =
            t.head == side && t.size == 2 && (1..=floppy.geometry.sectors).contains(&t.sector);
        if found { Ok(()) } else { Err((ND, 0)) }
    }

    /// READ DATA, READ DELETED DATA, READ A TRACK, WRITE DATA, WRITE DELETED DATA.
    fn transfer(&mut self, command: Command) -> Effect {
        let op = if command == Command::Write { Op::Write } else { Op::Read };
        self.take_address(op);
        if command == Command::ReadTrack {
            self.transfer.multi_track = false;
            self.transfer.sector = 1;
        }
        // Deleted data marks are not kept: all data is plain.
        self.transfer.mark = command == Command::Read { deleted: true };
        if let Err((st1, st2)) = self.locate() {
            return self.fail(st1, st2);
        }
        if op == Op::Write && self.floppy(self.transfer.unit).is_some_and(|(_, f)| f.read_only) {
            return self.fail(NW, 0);
        }
        self.begin_run()
    }

    /// Opens the next stretch of sectors that follow each other on the disk.
    fn begin_run(&mut self) -> Effect {
        let t = self.transfer;
        let Some((_, floppy)) = self.floppy(t.unit) else { return self.fail(MA, 0) };
        let track = floppy.geometry.sectors;
        if t.sector == 0 || t.sector > track || t.head >= floppy.geometry.heads {
            return self.fail(ND, 0);
        }
        let last = if t.last >= t.sector { t.last.min(track) } else { track };
        let mut sectors = last - t.sector + 1;
        if t.multi_track && t.head == 0 && floppy.geometry.heads == 2 && t.last == track {
            sectors = sectors.saturating_add(track);
        }
        let sectors = if t.mark { 1 } else { sectors.min(SIDE) };
        self.open(u32::from(sectors) * SECTOR as u32)
    }

    /// `run` bytes can move: by DMA, or by the FIFO.
    fn open(&mut self, run: u32) -> Effect {
        let dma = self.is_dma();
        let t = &mut self.transfer;
        (t.run, t.granted, t.pos) = (run, run, 0);
        match (dma, t.op) {
            (true, _) => self.phase = Phase::Dma,
            (false, Op::Read) => return self.request(BlkOp::Read, run / SECTOR as u32),
            (false, _) => self.phase = Phase::PioOut,
        }
        Effect::None
    }

    /// The guest's bytes are in the buffer: write them, or format with them.
    pub(super) fn store(&mut self) -> Effect {
        let t = self.transfer;
        if t.op == Op::Format {
            return self.format_ids();
        }
        let sectors = t.granted.div_ceil(SECTOR as u32);
        // "The remainder of the sector is filled with zeroes" when TC comes within it.
        let end = sectors as usize * SECTOR;
        if let Some(rest) = self.buffer.get_mut(t.granted as usize..end) {
            rest.fill(0);
        }
        self.request(BlkOp::Write, sectors)
    }

    /// The bytes that were granted have moved and are on the disk: end, or go on.
    pub(super) fn next_run(&mut self) -> Effect {
        if self.transfer.op == Op::Format {
            self.finish(0, 0, 0);
            return Effect::None;
        }
        let sectors = self.transfer.granted.div_ceil(SECTOR as u32);
        let mut more = true;
        let mut side = self.transfer.head;
        // At most one cylinder of the largest format.
        for _ in 0..sectors {
            side = self.transfer.head;
            more = self.next_sector();
        }
        match self.transfer {
            Transfer { mark: true, .. } => self.finish_on(side, 0, 0, CM),
            Transfer { tc: true, .. } => self.finish_on(side, 0, 0, 0),
            _ if more => return self.begin_run(),
            _ => self.finish_on(side, ABNORMAL, EN, 0),
        }
        Effect::None
    }

    /// "Result Phase Table": moves C, H, R on; false at the end of the cylinder.
    fn next_sector(&mut self) -> bool {
        let t = &mut self.transfer;
        if t.sector != t.last {
            t.sector = t.sector.wrapping_add(1);
            return true;
        }
        t.sector = 1;
        if !t.multi_track {
            t.cylinder = t.cylinder.wrapping_add(1);
            return false;
        }
        t.head ^= 1;
        if t.head & 1 == 1 {
            return true;
        }
        t.cylinder = t.cylinder.wrapping_add(1);
        false
    }

    /// VERIFY: success where all sectors named exist; nothing moves.
    fn verify(&mut self) {
        self.take_address(Op::Read);
        if let Err((st1, st2)) = self.locate() {
            self.finish(ABNORMAL, st1, st2);
            return;
        }
        let t = self.transfer;
        let Some((_, floppy)) = self.floppy(t.unit) else {
            return self.host_failed(BlkError::NoMedium);
        };
        let track = floppy.geometry.sectors;
        let (counted, count) = (self.command[1] & 0x80 != 0, self.command[8]);
        if t.last > track {
            self.finish(ABNORMAL, ND, 0);
            return;
        }
        // EC=1: DTL counts sectors, 0 means 256. Else all up to EOT, of both sides with MT.
        let wanted = if counted && count == 0 { 256 } else { u32::from(count) };
        let mut done = 0;
        let mut more = true;
        while more && !(counted && done == wanted) && done < 256 {
            more = self.next_sector();
            done += 1;
        }
        if counted && done < wanted {
            self.finish(ABNORMAL, ND, 0);
        } else {
            self.finish(0, 0, 0);
        }
    }

    /// FORMAT A TRACK: asks for four bytes of ID a sector.
    fn format(&mut self) -> Effect {
        let [_, select, size, count, _, filler, ..] = self.command;
        let (unit, head) = (select & 3, select >> 2 & 1);
        let cylinder = match self.floppy(unit) {
            Some((drive, floppy)) => drive.cylinder(&floppy),
            None => None,
        };
        self.transfer = Transfer {
            op: Op::Format,
            unit,
            cylinder: cylinder.unwrap_or(0),
            head,
            sector: 1,
            size,
            last: count,
            filler,
            ..Transfer::default()
        };
        if cylinder.is_none() {
            return self.fail(MA, 0);
        }
        // The image's format is fixed: only it can be laid down again.
        let implied = core::mem::take(&mut self.configure[0]);
        let found = self.locate();
        self.configure[0] = implied;
        if let Err((st1, st2)) = found {
            return self.fail(st1, st2);
        }
        let Some((_, floppy)) = self.floppy(unit) else { return self.fail(MA, 0) };
        if floppy.read_only {
            return self.fail(NW, 0);
        }
        if count == 0 || count > floppy.geometry.sectors {
            return self.fail(ND, 0);
        }
        self.open(u32::from(count) * 4)
    }

    /// FORMAT's IDs are in the buffer: fill the sectors that they name.
    fn format_ids(&mut self) -> Effect {
        let t = self.transfer;
        let Some((_, floppy)) = self.floppy(t.unit) else { return self.fail(MA, 0) };
        let ids = self.buffer.get(..t.granted as usize).unwrap_or_default();
        let (mut first, mut last) = (u8::MAX, 0);
        for id in ids.chunks_exact(4) {
            let &[_, _, sector, size] = id else { continue };
            if size != 2 || sector == 0 || sector > floppy.geometry.sectors {
                return self.fail(ND, 0);
            }
            first = first.min(sector);
            last = last.max(sector);
        }
        if last == 0 {
            return self.fail(OR, 0);
        }
        let sectors = u32::from(last - first) + 1;
        let bytes = sectors as usize * SECTOR;
        if let Some(data) = self.buffer.get_mut(..bytes) {
            data.fill(t.filler);
        }
        self.transfer.sector = first;
        self.transfer.run = bytes as u32;
        self.request(BlkOp::Write, sectors)
    }

    /// READ ID: the next sector that turns up under the head.
    fn read_id(&mut self, now: Nanos) {
        let [code, select, ..] = self.command;
        let (unit, side) = (select & 3, select >> 2 & 1);
        self.transfer = Transfer { unit, head: side, size: 2, ..Transfer::default() };
        let rate = self.rate;
        let Some((drive, floppy)) = self.floppy(unit) else {
            return self.host_failed(BlkError::NoMedium);
        };
        let readable = code & 0x40 != 0
            && drive.has_rate(&floppy, rate)
            && side < floppy.geometry.heads
            && drive.cylinder(&floppy).is_some();
        if !readable {
            return self.host_failed(BlkError::NoMedium);
        }
        let turn = drive.kind.turn_ns();
        let sector_ns = turn / u64::from(floppy.geometry.sectors.max(1));
        let next = now.0 % turn / sector_ns.max(1) + 1;
        let until = next * sector_ns - now.0 % turn;
        self.transfer.cylinder = drive.cylinder(&floppy).unwrap_or(0);
        self.transfer.sector = (next % u64::from(floppy.geometry.sectors.max(1))) as u8 + 1;
        self.found_at = now + until.max(1);
        self.phase = Phase::ReadId;
    }

    pub(super) fn read_id_found(&mut self) {
        self.finish(0, 0, 0);
    }

    fn seek(&mut self, unit: u8, steps: i16, cylinder: u8) {
        if let Some(drive) = self.drives.get_mut(usize::from(unit)) {
            drive.step(steps);
        }
        self.pcn[usize::from(unit & 3)] = cylinder;
        self.sought(unit, SEEK_END | (self.command[1] & 4));
    }

    /// "Recalibrate": 79 steps outwards at most, until TRK0.
    fn recalibrate(&mut self, unit: u8) {
        self.pcn[usize::from(unit & 3)] = 0;
        let mut st0 = SEEK_END | ABNORMAL | EQUIPMENT;
        if let Some(drive) = self.drives.get_mut(usize::from(unit))
            && drive.is_present()
        {
            drive.step(-i16::from(drive.track.min(79)));
            if drive.track == 0 {
                st0 = SEEK_END;
            }
        }
        self.sought(unit, st0);
    }

    fn sought(&mut self, unit: u8, st0: u8) {
        self.seek[usize::from(unit & 3)] = Some(st0 | unit);
        self.raise();
    }

    /// "Sense Interrupt Status"; without an interrupt it is an invalid command.
    fn sense_interrupt(&mut self) {
        if self.reset_sense > 0 {
            let unit = 4 - self.reset_sense;
            self.reset_sense -= 1;
            self.interrupt = false;
            return self.results(&[0xC0 | unit, self.pcn[usize::from(unit & 3)]]);
        }
        let Some(unit) = self.seek.iter().position(Option::is_some) else {
            return self.results(&[0x80]);
        };
        let st0 = self.seek[unit].take().unwrap_or(0x80);
        self.interrupt = self.seek.iter().any(Option::is_some);
        self.results(&[st0, self.pcn[unit]]);
    }

    /// ST3: RDY and two sides are always on in this chip.
    fn sense_drive(&mut self) {
        let select = self.command[1] & 7;
        let mut st3 = 0x28 | select;
        if let Some(drive) = self.drives.get(usize::from(select & 3))
            && drive.is_present()
        {
            st3 |= if drive.track == 0 { 0x10 } else { 0 };
            st3 |= if drive.floppy.is_some_and(|floppy| floppy.read_only) { 0x40 } else { 0 };
        }
        self.results(&[st3]);
    }

    fn dump_registers(&mut self) {
        let [p0, p1, p2, p3] = self.pcn;
        let [s0, s1] = self.specify;
        let [c0, c1] = self.configure;
        let lock = u8::from(self.lock) << 7 | self.perpendicular;
        let last = self.transfer.last;
        self.results(&[p0, p1, p2, p3, s0, s1, last, lock, c0, c1]);
    }
}
