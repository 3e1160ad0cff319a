//! The PACKET command on one channel: command, data and status phases by PIO and by DMA.
//!
//! ATA/ATAPI-7 "PACKET", "PACKET feature set". What the packets mean is in `crate::atapi`.

use super::Effect;
use super::channel::{Channel, Drive, Kind, Phase, Transfer};
use super::taskfile::{ABRT, ERR, READY};
use crate::atapi::{self, Reply, Sense};
use crate::blk::BlkError;

impl Channel {
    /// A0h written: ask for the 12 bytes.
    pub(super) fn packet_start(&mut self) -> Effect {
        let regs = &mut self.regs[self.selected];
        let features = regs.features.current;
        if features & 2 != 0 {
            // Overlap is not offered.
            return self.fail(0, ABRT);
        }
        // The byte count limit: 0 and odd limits are taken as the next even one below 64 KiB.
        let limit = match regs.packet_limit() & !1 {
            0 => 0xFFFE,
            limit => limit,
        };
        regs.error = 0;
        self.transfer = Transfer {
            kind: Kind::Packet,
            dma: features & 1 != 0,
            block: u32::from(limit),
            filled: 12,
            ..Transfer::default()
        };
        // The packet itself comes in one block, whatever the limit.
        self.transfer.block = self.transfer.block.max(12);
        self.open_block(Phase::DataOut);
        self.transfer.block = u32::from(limit);
        Effect::None
    }

    /// The packet is in the buffer.
    pub(super) fn packet(&mut self) -> Effect {
        let packet: [u8; 12] = self.buffer.first_chunk().copied().unwrap_or_default();
        let Drive::Cdrom(cdrom) = &mut self.drives[self.selected] else {
            return self.fail(0, ABRT);
        };
        let disk = cdrom.disk;
        let reply = cdrom.command(&packet, &mut self.buffer);
        match reply {
            Reply::Done => self.packet_done(),
            Reply::Check(sense) => self.check(sense),
            Reply::Tray { open } => {
                let _ = self.packet_done();
                Effect::Tray { disk, open }
            }
            Reply::Data(0) | Reply::Parameters(0) => self.packet_done(),
            Reply::Data(len) => {
                self.transfer.kind = Kind::PacketReply;
                self.transfer.left = 0;
                self.offer(u32::from(len))
            }
            Reply::Parameters(len) => {
                self.transfer.kind = Kind::PacketParameters;
                let t = &mut self.transfer;
                (t.pos, t.end, t.filled) = (0, 0, u32::from(len));
                if self.transfer.dma {
                    return self.dma_ready();
                }
                self.open_block(Phase::DataOut);
                self.raise();
                Effect::None
            }
            Reply::Read { block, blocks, raw } => self.packet_read(block, blocks, raw),
        }
    }

    fn packet_read(&mut self, block: u32, blocks: u32, raw: bool) -> Effect {
        let t = &mut self.transfer;
        t.kind = if raw { Kind::PacketRaw } else { Kind::PacketRead };
        t.lba = u64::from(block) * 4;
        t.left = blocks.saturating_mul(4);
        let size = if raw { atapi::RAW_BLOCK } else { atapi::BLOCK } as u32;
        // The device may move less than the limit at a time; whole blocks spare a short last one.
        if t.block >= size {
            t.block -= t.block % size;
        }
        if t.dma && !raw { self.dma_ready() } else { self.fetch() }
    }

    /// Blocks of 2,048 bytes are in the buffer and shall go out as 2,352 each.
    pub(super) fn raw_arrived(&mut self, blocks: u32) -> Effect {
        let first = (self.transfer.lba / 4).saturating_sub(u64::from(blocks)) as u32;
        let bytes = atapi::expand_raw(&mut self.buffer, first, blocks);
        self.offer(bytes)
    }

    /// A MODE SELECT parameter list is in the buffer.
    pub(super) fn packet_parameters(&mut self) -> Effect {
        let len = self.transfer.filled as usize;
        let Drive::Cdrom(cdrom) = &mut self.drives[self.selected] else {
            return self.fail(0, ABRT);
        };
        match cdrom.select(self.buffer.get(..len).unwrap_or_default()) {
            Ok(()) => self.packet_done(),
            Err(sense) => self.check(sense),
        }
    }

    /// Status phase, good.
    pub(super) fn packet_done(&mut self) -> Effect {
        self.regs[self.selected].count.current = 3;
        self.done()
    }

    /// Status phase, CHECK CONDITION.
    fn check(&mut self, sense: Sense) -> Effect {
        if let Drive::Cdrom(cdrom) = &mut self.drives[self.selected] {
            cdrom.sense = sense;
        }
        self.transfer.phase = Phase::Idle;
        let regs = &mut self.regs[self.selected];
        regs.count.current = 3;
        regs.status = READY | ERR;
        regs.error = sense.key << 4 | if sense.key == 5 { ABRT } else { 0 };
        self.raise();
        Effect::None
    }

    pub(super) fn packet_failed(&mut self, error: BlkError) -> Effect {
        let sense = match error {
            BlkError::NoMedium => Sense::NO_MEDIUM,
            BlkError::Range => Sense::OUT_OF_RANGE,
            BlkError::ReadOnly | BlkError::Medium => Sense::UNREADABLE,
            BlkError::Dma => Sense::TRANSPORT,
        };
        self.check(sense)
    }
}
