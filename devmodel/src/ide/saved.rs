//! The saved state of the IDE chip. Buffers are saved apart, as far as they mean something.
//!
//! A request in the host's hands is saved as such: whoever saves waits for it, or reissues it.

use super::busmaster::{ACTIVE, BusMaster, CAPABLE, Cursor, ERROR, INTERRUPT, START, TO_MEMORY};
use super::channel::{BUFFER, Channel, Drive, Kind, Phase, Transfer};
use super::disk::{Disk, MAX_MULTIPLE};
use super::taskfile::{BSY, DRQ, Taskfile};
use super::{Bus, Ide};
use crate::atapi::{Cdrom, SavedCdrom};
use crate::blk::{DiskId, Geometry};
use crate::state::{LoadError, require};

/// The layout below.
const VERSION: u16 = 1;

/// The chip but for its buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedIde {
    /// Layout version.
    pub version: u16,
    /// Primary, secondary.
    pub channels: [SavedChannel; 2],
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedChannel {
    /// Device 0, device 1.
    pub drives: [SavedDrive; 2],
    /// Their command blocks: feature, count, low, mid, high (current, previous), device, status,
    /// error, INTRQ.
    pub regs: [[u8; 14]; 2],
    /// Device 1 is selected.
    pub slave: bool,
    /// Device control.
    pub control: u8,
    /// Bus-master command and status.
    pub busmaster: [u8; 2],
    /// PRD table.
    pub table: u32,
    /// PRD cursor: next descriptor, address, bytes left, last.
    pub cursor: (u16, u32, u32, bool),
    /// Phase and kind of the transfer.
    pub transfer: [u8; 2],
    /// By DMA; with 48-bit addresses.
    pub flags: [bool; 2],
    /// Next sector.
    pub lba: u64,
    /// Sectors left, bytes asked, block, position, end, filled.
    pub counters: [u32; 6],
    /// Last token.
    pub seq: u32,
}

/// What is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SavedDrive {
    /// Nothing.
    None,
    /// A disk.
    Disk {
        /// Disk number.
        disk: u8,
        /// Size in sectors.
        sectors: u64,
        /// Write protection.
        read_only: bool,
        /// Default cylinders, heads, sectors.
        geometry: (u16, u8, u8),
        /// Model.
        model: [u8; 40],
        /// Serial number.
        serial: [u8; 20],
        /// Heads, sectors a track, multiple count, transfer mode.
        settings: [u8; 4],
        /// Write cache, look-ahead, SMART, standby.
        switches: [bool; 4],
    },
    /// A CD drive.
    Cdrom(SavedCdrom),
}

impl Ide {
    /// The state, to be kept with both [`Ide::saved_buffer`]s.
    #[must_use]
    pub fn save(&self) -> SavedIde {
        let Ide { channels } = self;
        let [primary, secondary] = channels;
        SavedIde { version: VERSION, channels: [save_channel(primary), save_channel(secondary)] }
    }

    /// The part of a channel's buffer that belongs to the state; may be empty.
    #[must_use]
    pub fn saved_buffer(&self, bus: Bus) -> &[u8] {
        let channel = &self.channels[bus.index()];
        &channel.buffer[..channel.transfer.filled as usize]
    }

    /// Takes on a saved state, in place.
    ///
    /// # Errors
    /// [`LoadError`] for another version or a state no chip could be in; the chip is unchanged.
    pub fn load(&mut self, saved: &SavedIde, buffers: [&[u8]; 2]) -> Result<(), LoadError> {
        let SavedIde { version, channels } = saved;
        if *version != VERSION {
            return Err(LoadError::Version);
        }
        let parts = [load_channel(&channels[0])?, load_channel(&channels[1])?];
        for (part, buffer) in parts.iter().zip(buffers) {
            require(buffer.len() == part.transfer.filled as usize, "ide buffer length")?;
        }
        for ((to, part), bytes) in self.channels.iter_mut().zip(parts).zip(buffers) {
            let Channel { bus: _, drives, regs, selected, control, bm, transfer, seq, buffer } = to;
            (*drives, *regs, *selected, *control) =
                (part.drives, part.regs, part.selected, part.control);
            (*bm, *transfer, *seq) = (part.bm, part.transfer, part.seq);
            buffer[..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// A channel without its buffer.
struct Part {
    drives: [Drive; 2],
    regs: [Taskfile; 2],
    selected: usize,
    control: u8,
    bm: BusMaster,
    transfer: Transfer,
    seq: u32,
}

fn save_channel(channel: &Channel) -> SavedChannel {
    let Channel { bus: _, drives, regs, selected, control, bm, transfer, seq, buffer: _ } = channel;
    let BusMaster { command, status, table, cursor } = *bm;
    let Cursor { next, address, left: prd_left, last } = cursor;
    let Transfer { phase, kind, dma, ext, lba, left, asked, block, pos, end, filled } = *transfer;
    SavedChannel {
        drives: [save_drive(&drives[0]), save_drive(&drives[1])],
        regs: regs.map(Taskfile::to_bytes),
        slave: *selected != 0,
        control: *control,
        busmaster: [command, status],
        table,
        cursor: (next, address, prd_left, last),
        transfer: [phase as u8, kind as u8],
        flags: [dma, ext],
        lba,
        counters: [left, asked, block, pos, end, filled],
        seq: *seq,
    }
}

fn load_channel(saved: &SavedChannel) -> Result<Part, LoadError> {
    let SavedChannel {
        drives,
        regs,
        slave,
        control,
        busmaster: [command, status],
        table,
        cursor: (next, address, prd_left, last),
        transfer: [phase, kind],
        flags: [dma, ext],
        lba,
        counters: [left, asked, block, pos, end, filled],
        seq,
    } = saved;
    let bad = LoadError::Impossible;
    require(*control & !0x86 == 0, "ide device control")?;
    require(command & !(START | TO_MEMORY) == 0, "bus-master command")?;
    require(status & !(ACTIVE | ERROR | INTERRUPT | CAPABLE) == 0, "bus-master status")?;
    require(table & 3 == 0 && *prd_left <= 0x1_0000 && next % 8 == 0, "bus-master table")?;
    let phase = *PHASES.get(usize::from(*phase)).ok_or(bad("ide phase"))?;
    let kind = *KINDS.get(usize::from(*kind)).ok_or(bad("ide transfer kind"))?;
    let in_block = matches!(phase, Phase::DataIn | Phase::DataOut);
    require(pos <= filled && end <= filled && *filled as usize <= BUFFER, "ide buffer position")?;
    require(!in_block || pos < end, "ide empty block")?;
    // In these phases `end` is not used and `pos` counts up to `filled`.
    let at = if matches!(phase, Phase::DmaHost | Phase::DmaReady) { pos } else { &0 };
    let in_buffer = !matches!(kind, Kind::Read | Kind::Write | Kind::PacketRead);
    if phase == Phase::Host || (phase == Phase::DmaHost && in_buffer) {
        require(at.saturating_add(*asked) as usize <= BUFFER, "ide request")?;
    }
    require(*left <= 1 << 30 && *lba < 1 << 49, "ide sectors")?;
    let part = Part {
        drives: [load_drive(&drives[0])?, load_drive(&drives[1])?],
        regs: [
            Taskfile::from_bytes(regs[0]).ok_or(bad("ide registers"))?,
            Taskfile::from_bytes(regs[1]).ok_or(bad("ide registers"))?,
        ],
        selected: usize::from(*slave),
        control: *control,
        bm: BusMaster {
            command: *command,
            status: *status,
            table: *table,
            cursor: Cursor { next: *next, address: *address, left: *prd_left, last: *last },
        },
        transfer: Transfer {
            phase,
            kind,
            dma: *dma,
            ext: *ext,
            lba: *lba,
            left: *left,
            asked: *asked,
            block: *block,
            pos: *pos,
            end: *end,
            filled: *filled,
        },
        seq: *seq,
    };
    let fits = match (phase, kind, &part.drives[part.selected]) {
        (Phase::Idle, ..) => true,
        (_, Kind::Read | Kind::Write | Kind::Flush, Drive::Disk(_)) => true,
        (_, Kind::Reply, Drive::Disk(_) | Drive::Cdrom(_)) => true,
        (_, Kind::Read | Kind::Write | Kind::Flush | Kind::Reply, _) => false,
        (.., drive) => matches!(drive, Drive::Cdrom(_)),
    };
    require(fits, "ide transfer without its drive")?;
    let busy = part.regs[part.selected].status & (BSY | DRQ) != 0;
    require(phase == Phase::Idle || (busy && *block >= 2) || kind == Kind::Flush, "ide status")?;
    Ok(part)
}

/// In the order of their discriminants.
const PHASES: [Phase; 6] =
    [Phase::Idle, Phase::Host, Phase::DataIn, Phase::DataOut, Phase::DmaReady, Phase::DmaHost];

/// In the order of their discriminants.
const KINDS: [Kind; 9] = [
    Kind::Read,
    Kind::Write,
    Kind::Flush,
    Kind::Reply,
    Kind::Packet,
    Kind::PacketReply,
    Kind::PacketParameters,
    Kind::PacketRead,
    Kind::PacketRaw,
];

fn save_drive(drive: &Drive) -> SavedDrive {
    match drive {
        Drive::None => SavedDrive::None,
        Drive::Cdrom(cdrom) => SavedDrive::Cdrom(cdrom.save()),
        Drive::Disk(disk) => {
            let Disk {
                disk,
                sectors,
                read_only,
                geometry,
                model,
                serial,
                heads,
                track,
                multiple,
                mode,
                write_cache,
                look_ahead,
                smart,
                standby,
            } = *disk;
            SavedDrive::Disk {
                disk: disk.0,
                sectors,
                read_only,
                geometry: (geometry.cylinders, geometry.heads, geometry.sectors),
                model,
                serial,
                settings: [heads, track, multiple, mode],
                switches: [write_cache, look_ahead, smart, standby],
            }
        }
    }
}

fn load_drive(saved: &SavedDrive) -> Result<Drive, LoadError> {
    let SavedDrive::Disk { disk, sectors, read_only, geometry, model, serial, settings, switches } =
        saved
    else {
        return match saved {
            SavedDrive::Cdrom(cdrom) => Ok(Drive::Cdrom(Cdrom::load(cdrom)?)),
            _ => Ok(Drive::None),
        };
    };
    let ([heads, track, multiple, mode], (cylinders, g_heads, g_sectors)) = (*settings, *geometry);
    let [write_cache, look_ahead, smart, standby] = *switches;
    require(*sectors <= 1 << 48, "disk sectors")?;
    require(matches!((heads, track), (1..=16, 1..)), "disk translation")?;
    require(matches!((cylinders, g_heads, g_sectors), (1.., 1..=16, 1..)), "disk geometry")?;
    let power = multiple == 0 || multiple.is_power_of_two();
    require(multiple <= MAX_MULTIPLE && power, "disk multiple count")?;
    require(matches!(mode, 0x20..=0x22 | 0x40..=0x45), "disk transfer mode")?;
    Ok(Drive::Disk(Disk {
        disk: DiskId(*disk),
        sectors: *sectors,
        read_only: *read_only,
        geometry: Geometry { cylinders, heads: g_heads, sectors: g_sectors },
        model: *model,
        serial: *serial,
        heads,
        track,
        multiple,
        mode,
        write_cache,
        look_ahead,
        smart,
        standby,
    }))
}
