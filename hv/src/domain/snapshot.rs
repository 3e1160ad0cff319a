//! A host disk whose writes stay in memory: `snapshot = 1`. Reads of what was not written go to the host; one that
//! finds both kinds is read whole, and what was written is laid over it when it comes back.

// UNSAFETY: reads and writes frames by their physical addresses.

use alloc::vec::Vec;
use arch::HostPhys;
use devmodel::blk::{BlkError, BlkOp, BlkRequest};
use machine::host::{DiskAnswer, DiskData};

use super::disk::{copy, to_host};
use super::memory::Frames;
use crate::drivers::block;
use crate::drivers::overlay::{Overlay, SECTOR, Store};
use crate::mem;
use crate::mem::frames::{self, Block};

/// Memory that copies of what guests write leave to everything else.
const RESERVE: u64 = 16 << 20;
/// Reads under way that are laid over: as many as a guest's controllers and a back end can have.
const PATCHES: usize = 16 + super::pv::UNDER_WAY as usize;

/// A frame for what a guest writes, unless memory is short.
pub(super) fn frame() -> Option<HostPhys> {
    if frames::stats().free < RESERVE { None } else { frames::alloc_zeroed() }
}

/// Frames of the host.
#[derive(Debug)]
pub struct HostFrames;

impl Store for HostFrames {
    fn alloc(&mut self) -> Option<HostPhys> {
        frame()
    }

    fn free(&mut self, frame: HostPhys) {
        frames::free(frame, Block::Page);
    }

    fn load(&self, at: HostPhys) -> u64 {
        // SAFETY: a frame of the overlay, aligned to 8; nobody else has it.
        unsafe { mem::phys_to_virt(at).cast::<u64>().read() }
    }

    fn store(&mut self, at: HostPhys, value: u64) {
        // SAFETY: as above.
        unsafe { mem::phys_to_virt(at).cast::<u64>().write(value) }
    }
}

/// The disk.
#[derive(Debug)]
pub struct Snapshot {
    number: usize,
    sectors: u64,
    overlay: Overlay<HostFrames>,
    /// Reads that came to the host and miss what was written.
    patches: Vec<block::Request>,
}

impl Snapshot {
    /// Host disk `number`, of so many sectors of 512 bytes.
    #[must_use]
    pub fn new(number: usize, sectors: u64) -> Snapshot {
        let overlay = Overlay::new(sectors, HostFrames);
        Snapshot { number, sectors, overlay, patches: Vec::with_capacity(PATCHES) }
    }

    /// The host disk.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Size in sectors of 512 bytes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Starts a request.
    pub fn submit(
        &mut self,
        frames: &Frames,
        request: &BlkRequest,
        data: DiskData<'_>,
        cookie: u64,
    ) -> DiskAnswer {
        let sectors = u64::from(request.sectors);
        let end = request.lba.checked_add(sectors);
        if end.is_none_or(|end| end > self.sectors) {
            return DiskAnswer::Done(Err(BlkError::Range));
        }
        let host = match request.op {
            BlkOp::Flush => return DiskAnswer::Done(Ok(())),
            BlkOp::Read | BlkOp::Write => match to_host(frames, request, data, cookie) {
                Ok(host) => host,
                Err(error) => return DiskAnswer::Done(Err(error)),
            },
        };
        if request.op == BlkOp::Write {
            return DiskAnswer::Done(self.write(&host));
        }
        let (any, all) = self.overlay.covers(request.lba, sectors);
        if all {
            self.lay_over(&host);
            return DiskAnswer::Done(Ok(()));
        }
        if any {
            // There is room for all that can be under way, so that no exit allocates.
            if self.patches.len() == self.patches.capacity() {
                return DiskAnswer::Done(Err(BlkError::Medium));
            }
            self.patches.push(host.clone());
        }
        match block::submit(self.number, &host) {
            Ok(()) => DiskAnswer::Pending,
            Err(_) => {
                self.completed(cookie);
                DiskAnswer::Done(Err(BlkError::Medium))
            }
        }
    }

    /// The host has finished a read.
    pub fn completed(&mut self, cookie: u64) {
        if let Some(n) = self.patches.iter().position(|patch| patch.cookie == cookie) {
            let read = self.patches.swap_remove(n);
            self.lay_over(&read);
        }
    }

    fn write(&mut self, request: &block::Request) -> Result<(), BlkError> {
        let mut offset = request.sector * SECTOR;
        for segment in &request.segments {
            let (mut from, mut left) = (segment.start, u64::from(segment.bytes));
            while left > 0 {
                let (to, now) = self.overlay.place(offset, left).ok_or(BlkError::Medium)?;
                copy(to, from, now);
                offset += now;
                from = HostPhys(from.0 + now);
                left -= now;
            }
        }
        Ok(())
    }

    /// Copies what was written to where a read puts its data.
    fn lay_over(&self, request: &block::Request) {
        let mut offset = request.sector * SECTOR;
        for segment in &request.segments {
            let (mut to, mut left) = (segment.start, u64::from(segment.bytes));
            while left > 0 {
                // A segment may begin or end within a sector.
                let within = offset % SECTOR;
                let sectors = (within + left).div_ceil(SECTOR);
                let (from, run) = self.overlay.run(offset / SECTOR, sectors);
                let now = (run * SECTOR - within).min(left);
                if let Some(from) = from {
                    copy(to, HostPhys(from.0 + within), now);
                }
                offset += now;
                to = HostPhys(to.0 + now);
                left -= now;
            }
        }
    }
}
