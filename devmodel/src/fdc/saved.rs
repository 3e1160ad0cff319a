//! The saved state of the floppy controller. The buffer is saved apart, as far as it matters.

use super::media::{Drive, DriveType, Floppy};
use super::{BUFFER, Fdc, Op, Phase, SIDE, Transfer};
use crate::blk::{DiskId, Geometry, SECTOR};
use crate::state::{LoadError, require};
use arch::Nanos;

/// The layout below.
const VERSION: u16 = 1;

/// The chip but for its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedFdc {
    /// Layout version.
    pub version: u16,
    /// The drives.
    pub drives: [SavedDrive; 2],
    /// DOR, TDR, data rate.
    pub registers: [u8; 3],
    /// Phase.
    pub phase: u8,
    /// Command bytes and how many came.
    pub command: ([u8; 9], u8),
    /// Result bytes, their count, the next.
    pub result: ([u8; 10], u8, u8),
    /// Present cylinder numbers.
    pub pcn: [u8; 4],
    /// SPECIFY.
    pub specify: [u8; 2],
    /// CONFIGURE.
    pub configure: [u8; 2],
    /// LOCK.
    pub lock: bool,
    /// PERPENDICULAR MODE.
    pub perpendicular: u8,
    /// Results due after a reset.
    pub reset_sense: u8,
    /// Seek results.
    pub seek: [Option<u8>; 4],
    /// Interrupt pending.
    pub interrupt: bool,
    /// Operation, unit, C, H, R, N, EOT, filler.
    pub transfer: [u8; 8],
    /// Multi-track, control mark, TC.
    pub flags: [bool; 3],
    /// Run, granted, position.
    pub counters: [u32; 3],
    /// READ ID's time, nanoseconds.
    pub found_at: u64,
    /// Last token.
    pub seq: u32,
}

/// One drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedDrive {
    /// CMOS type.
    pub kind: u8,
    /// Disk number.
    pub disk: u8,
    /// Cylinders, heads, sectors, write protection.
    pub floppy: Option<(u16, u8, u8, bool)>,
    /// Head position.
    pub track: u8,
    /// Change line.
    pub changed: bool,
}

impl Fdc {
    /// The state, to be kept with [`Fdc::saved_buffer`].
    #[must_use]
    pub fn save(&self) -> SavedFdc {
        let Fdc {
            drives,
            dor,
            tdr,
            rate,
            phase,
            command,
            command_len,
            result,
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
            found_at,
            seq,
            buffer: _,
        } = self;
        let Transfer {
            op,
            multi_track,
            mark,
            unit,
            cylinder,
            head,
            sector,
            size,
            last,
            filler,
            run,
            granted,
            pos,
            tc,
        } = *transfer;
        SavedFdc {
            version: VERSION,
            drives: [save_drive(&drives[0]), save_drive(&drives[1])],
            registers: [*dor, *tdr, *rate],
            phase: *phase as u8,
            command: (*command, *command_len),
            result: (*result, *result_len, *result_pos),
            pcn: *pcn,
            specify: *specify,
            configure: *configure,
            lock: *lock,
            perpendicular: *perpendicular,
            reset_sense: *reset_sense,
            seek: *seek,
            interrupt: *interrupt,
            transfer: [op as u8, unit, cylinder, head, sector, size, last, filler],
            flags: [multi_track, mark, tc],
            counters: [run, granted, pos],
            found_at: found_at.0,
            seq: *seq,
        }
    }

    /// The part of the buffer that belongs to the state; may be empty.
    #[must_use]
    pub fn saved_buffer(&self) -> &[u8] {
        let bytes = match self.phase {
            Phase::Host => self.asked() as usize * SECTOR,
            Phase::Move | Phase::PioIn | Phase::PioOut => self.transfer.granted as usize,
            Phase::Command | Phase::Dma | Phase::ReadId | Phase::Result => 0,
        };
        self.buffer.get(..bytes).unwrap_or_default()
    }

    /// Takes on a saved state, in place.
    ///
    /// # Errors
    /// [`LoadError`] for another version or a state no chip could be in; the chip is unchanged.
    pub fn load(&mut self, saved: &SavedFdc, buffer: &[u8]) -> Result<(), LoadError> {
        let SavedFdc {
            version,
            drives,
            registers: [dor, tdr, rate],
            phase,
            command: (command, command_len),
            result: (result, result_len, result_pos),
            pcn,
            specify,
            configure,
            lock,
            perpendicular,
            reset_sense,
            seek,
            interrupt,
            transfer: [op, unit, cylinder, head, sector, size, last, filler],
            flags: [multi_track, mark, tc],
            counters: [run, granted, pos],
            found_at,
            seq,
        } = saved;
        if *version != VERSION {
            return Err(LoadError::Version);
        }
        let phase = *PHASES.get(usize::from(*phase)).ok_or(LoadError::Impossible("fdc phase"))?;
        let op = *OPS.get(usize::from(*op)).ok_or(LoadError::Impossible("fdc operation"))?;
        require(*tdr <= 3 && *rate <= 3, "fdc registers")?;
        require(*command_len < 9 && *result_len <= 10, "fdc fifo")?;
        require(phase != Phase::Result || result_pos < result_len, "fdc result")?;
        require(*result_pos <= *result_len, "fdc result")?;
        require(phase == Phase::Command || *command_len == 0, "fdc command bytes")?;
        require(*reset_sense <= 4 && *unit <= 3, "fdc units")?;
        require(configure[0] & 0x80 == 0 && perpendicular & 0xC0 == 0, "fdc configuration")?;
        let moving = !matches!(phase, Phase::Command | Phase::Result | Phase::ReadId);
        if moving {
            require(*granted >= 1 && *granted <= BUFFER as u32, "fdc bytes")?;
            require(*run >= 1 && *run <= BUFFER as u32, "fdc bytes")?;
            require(op == Op::Format || granted <= run, "fdc bytes")?;
        }
        require(!matches!(phase, Phase::PioIn | Phase::PioOut) || pos < granted, "fdc position")?;
        let [first, second] = drives;
        let staged = Fdc {
            drives: [load_drive(first)?, load_drive(second)?],
            dor: *dor,
            tdr: *tdr,
            rate: *rate,
            phase,
            command: *command,
            command_len: *command_len,
            result: *result,
            result_len: *result_len,
            result_pos: *result_pos,
            pcn: *pcn,
            specify: *specify,
            configure: *configure,
            lock: *lock,
            perpendicular: *perpendicular,
            reset_sense: *reset_sense,
            seek: *seek,
            interrupt: *interrupt,
            transfer: Transfer {
                op,
                multi_track: *multi_track,
                mark: *mark,
                unit: *unit,
                cylinder: *cylinder,
                head: *head,
                sector: *sector,
                size: *size,
                last: *last,
                filler: *filler,
                run: *run,
                granted: *granted,
                pos: *pos,
                tc: *tc,
            },
            found_at: Nanos(*found_at),
            seq: *seq,
            buffer: [0; BUFFER],
        };
        require(staged.saved_buffer().len() == buffer.len(), "fdc buffer length")?;
        *self = staged;
        if let Some(own) = self.buffer.get_mut(..buffer.len()) {
            own.copy_from_slice(buffer);
        }
        Ok(())
    }
}

/// In the order of their discriminants.
const PHASES: [Phase; 8] = [
    Phase::Command,
    Phase::Host,
    Phase::Dma,
    Phase::Move,
    Phase::PioIn,
    Phase::PioOut,
    Phase::ReadId,
    Phase::Result,
];

/// In the order of their discriminants.
const OPS: [Op; 3] = [Op::Read, Op::Write, Op::Format];

fn save_drive(drive: &Drive) -> SavedDrive {
    let Drive { kind, disk, floppy, track, changed } = *drive;
    SavedDrive {
        kind: kind as u8,
        disk: disk.0,
        floppy: floppy
            .map(|Floppy { geometry: g, read_only }| (g.cylinders, g.heads, g.sectors, read_only)),
        track,
        changed,
    }
}

fn load_drive(saved: &SavedDrive) -> Result<Drive, LoadError> {
    let SavedDrive { kind, disk, floppy, track, changed } = *saved;
    let kind = DriveType::of_number(kind).ok_or(LoadError::Impossible("floppy drive type"))?;
    require(track <= 83, "floppy track")?;
    require(kind != DriveType::None || floppy.is_none(), "floppy without a drive")?;
    let floppy = match floppy {
        None => None,
        Some((cylinders @ 1..=84, heads @ 1..=2, sectors @ 1..=SIDE, read_only)) => {
            Some(Floppy { geometry: Geometry { cylinders, heads, sectors }, read_only })
        }
        Some(_) => return Err(LoadError::Impossible("floppy geometry")),
    };
    Ok(Drive { kind, disk: DiskId(disk), floppy, track, changed })
}
