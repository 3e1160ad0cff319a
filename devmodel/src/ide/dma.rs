//! DMA commands of one channel: the drive's side, in batches that the board moves.
//!
//! PIIX3 datasheet "Bus Master IDE Status Register": how transfer and table end, together or not.
//! Disk data goes between host and guest memory; replies of packet commands come from the buffer.

use super::busmaster::{ACTIVE, TO_MEMORY, Walk};
use super::channel::{Channel, Kind, Phase};
use super::taskfile::{BSY, DRQ, READY};
use super::{DmaStep, Effect};
use crate::blk::{BlkOp, Place, SECTOR, SegmentList, Token};

/// Bytes that one batch moves at most.
const MAX_BATCH: u32 = 1 << 20;

impl Channel {
    /// A DMA command waits for the bus master, or goes on if that runs.
    pub fn dma_ready(&mut self) -> Effect {
        self.transfer.phase = Phase::DmaReady;
        let kind = self.transfer.kind;
        let regs = &mut self.regs[self.selected];
        regs.status = READY | DRQ;
        // The interrupt reason leaves the command phase, for those who poll.
        match kind {
            Kind::PacketParameters => regs.count.current = 0,
            Kind::PacketReply | Kind::PacketRead | Kind::PacketRaw => regs.count.current = 2,
            Kind::Read | Kind::Write | Kind::Flush | Kind::Reply | Kind::Packet => {}
        }
        if self.bm.runs() { Effect::Dma(self.bus) } else { Effect::None }
    }

    /// The next batch of the DMA command under way.
    pub fn dma_next(
        &mut self,
        list: &mut SegmentList,
        read_prd: impl FnMut(u32) -> Option<[u8; 8]>,
    ) -> DmaStep {
        list.clear();
        if self.transfer.phase != Phase::DmaReady || !self.bm.runs() {
            return DmaStep::Wait;
        }
        let t = self.transfer;
        let to_guest = !matches!(t.kind, Kind::Write | Kind::PacketParameters);
        if (self.bm.command & TO_MEMORY != 0) != to_guest {
            self.bm.abort();
            return DmaStep::Wait;
        }
        let (want, unit) = match t.kind {
            Kind::Read | Kind::Write => (t.left.saturating_mul(SECTOR as u32), SECTOR as u32),
            Kind::PacketRead => (t.left.saturating_mul(SECTOR as u32), 2048),
            _ => (t.filled - t.pos, 1),
        };
        match self.bm.walk(want.min(MAX_BATCH), unit, list, read_prd) {
            Walk::Bytes(bytes) => {
                self.transfer.phase = Phase::DmaHost;
                if unit == 1 {
                    self.seq = self.seq.wrapping_add(1);
                    self.transfer.asked = bytes;
                    self.set_status(BSY | READY);
                    let token = Token { part: self.bus.index() as u8, seq: self.seq };
                    return DmaStep::Copy { token, to_guest };
                }
                let op = if t.kind == Kind::Write { BlkOp::Write } else { BlkOp::Read };
                DmaStep::Disk(self.issue(op, bytes, Place::Guest))
            }
            // The device keeps DRQ and waits; only a new table or a reset helps.
            Walk::Short => {
                self.bm.status &= !ACTIVE;
                DmaStep::Wait
            }
            Walk::Abort => {
                self.bm.abort();
                DmaStep::Wait
            }
        }
    }

    /// The board has copied `bytes` between buffer and guest.
    pub(super) fn copied(&mut self, bytes: u32) -> Effect {
        self.transfer.pos += bytes;
        let t = self.transfer;
        if t.pos < t.filled {
            return self.dma_ready();
        }
        if t.left == 0 {
            self.bm.drive_done();
        }
        match t.kind {
            Kind::PacketParameters => self.packet_parameters(),
            _ => self.buffer_read(),
        }
    }
}
