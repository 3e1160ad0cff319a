//! A guest's disks: boot modules, copied on write, and host disks, which `snapshot.rs` protects if wished.

// UNSAFETY: copies between module memory, guest frames and overlay frames, all by physical address.

use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{GuestPhys, HostPhys};
use devmodel::blk::{BlkError, BlkOp, BlkRequest, Segment};
use machine::host::{DiskAnswer, DiskData};

use super::memory::Frames;
use super::snapshot::{self, Snapshot};
use crate::drivers::block;
use crate::mem::frames::{self, Block};
use crate::mem::{self, layout};

/// Bytes of the unit that is copied on write.
const CHUNK: u64 = layout::PAGE;

/// What a disk's sectors are.
#[derive(Debug)]
pub enum Medium {
    /// A boot module; writes go to an overlay and are gone with the guest.
    Module(Module),
    /// A host disk; requests are answered by its interrupt.
    Host {
        /// Its number in `drivers::block`.
        number: usize,
        /// Refuse writes.
        read_only: bool,
        /// Size in sectors of 512 bytes.
        sectors: u64,
    },
    /// A host disk; writes stay in memory and are gone with the guest.
    Snapshot(Snapshot),
}

/// A boot module as a disk.
#[derive(Debug)]
pub struct Module {
    name: String,
    start: HostPhys,
    bytes: u64,
    read_only: bool,
    /// Frame number of each 4 KiB that was written; 0 for those that were not.
    overlay: Box<[AtomicU32]>,
}

impl Module {
    /// A disk over `bytes` of module memory at `start`; `name` is for people.
    #[must_use]
    pub fn new(name: String, start: HostPhys, bytes: u64, read_only: bool) -> Module {
        let chunks = if read_only { 0 } else { bytes.div_ceil(CHUNK) };
        let overlay: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
        Module { name, start, bytes, read_only, overlay: overlay.into_boxed_slice() }
    }

    /// Size in sectors of 512 bytes; a last partial one counts.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.bytes.div_ceil(512)
    }

    /// Where the bytes at `offset` are now, and how many follow in one piece.
    fn find(&self, offset: u64) -> (HostPhys, u64) {
        let left = CHUNK - offset % CHUNK;
        let frame = match self.overlay.get((offset / CHUNK) as usize) {
            Some(cell) => cell.load(Ordering::Acquire),
            // Without an overlay the rest is in one piece.
            None => return (HostPhys(self.start.0 + offset), self.bytes.saturating_sub(offset)),
        };
        if frame == 0 {
            return (HostPhys(self.start.0 + offset), left.min(self.bytes.saturating_sub(offset)));
        }
        (HostPhys(u64::from(frame) * CHUNK + offset % CHUNK), left)
    }

    /// The overlay frame of the chunk at `offset`, made if it is not there.
    fn own(&self, offset: u64) -> Option<HostPhys> {
        let cell = self.overlay.get((offset / CHUNK) as usize)?;
        let frame = cell.load(Ordering::Acquire);
        if frame != 0 {
            return Some(HostPhys(u64::from(frame) * CHUNK));
        }
        let fresh = snapshot::frame()?;
        let chunk = layout::down(offset, CHUNK);
        copy(fresh, HostPhys(self.start.0 + chunk), CHUNK.min(self.bytes - chunk));
        let number = (fresh.0 / CHUNK) as u32;
        match cell.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(fresh),
            Err(other) => {
                frames::free(fresh, Block::Page);
                Some(HostPhys(u64::from(other) * CHUNK))
            }
        }
    }

    fn read(&self, mut offset: u64, mut to: HostPhys, mut bytes: u64) {
        while bytes > 0 {
            let (from, run) = self.find(offset);
            if run == 0 {
                // The rest of a last partial sector.
                mem::zero(to, bytes);
                return;
            }
            let now = run.min(bytes);
            copy(to, from, now);
            offset += now;
            to = HostPhys(to.0 + now);
            bytes -= now;
        }
    }

    fn write(&self, mut offset: u64, mut from: HostPhys, mut bytes: u64) -> Result<(), BlkError> {
        while bytes > 0 {
            let now = (CHUNK - offset % CHUNK).min(bytes);
            let chunk = self.own(offset).ok_or(BlkError::Medium)?;
            copy(HostPhys(chunk.0 + offset % CHUNK), from, now);
            offset += now;
            from = HostPhys(from.0 + now);
            bytes -= now;
        }
        Ok(())
    }

    /// Serves a request at once.
    fn serve(
        &self,
        frames: &Frames,
        request: &BlkRequest,
        data: DiskData<'_>,
    ) -> Result<(), BlkError> {
        let end = request.lba.checked_add(request.sectors.into()).ok_or(BlkError::Range)?;
        if end > self.sectors() {
            return Err(BlkError::Range);
        }
        let write = match request.op {
            BlkOp::Flush => return Ok(()),
            BlkOp::Read => false,
            BlkOp::Write if self.read_only => return Err(BlkError::ReadOnly),
            BlkOp::Write => true,
        };
        let mut offset = request.lba * 512;
        let mut left = u64::from(request.sectors) * 512;
        let mut piece = |place: HostPhys, bytes: u64| {
            let bytes = bytes.min(left);
            if write {
                self.write(offset, place, bytes)?;
            } else {
                self.read(offset, place, bytes);
            }
            offset += bytes;
            left -= bytes;
            Ok(())
        };
        match data {
            DiskData::None => Ok(()),
            DiskData::Buffer(buffer) => {
                piece(mem::virt_to_phys(buffer.as_ptr()), buffer.len() as u64)
            }
            DiskData::Guest(segments) => {
                // Checked before the first byte moves.
                for segment in segments {
                    each(frames, segment, |_, _| Ok(()))?;
                }
                segments.iter().try_for_each(|segment| each(frames, segment, &mut piece))
            }
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        for cell in &self.overlay {
            let frame = cell.load(Ordering::Acquire);
            if frame != 0 {
                frames::free(HostPhys(u64::from(frame) * CHUNK), Block::Page);
            }
        }
    }
}

/// Copies RAM. Guests may write it meanwhile: then what they get is what they deserve.
pub(super) fn copy(to: HostPhys, from: HostPhys, bytes: u64) {
    let (to, from) = (mem::phys_to_virt(to), mem::phys_to_virt(from));
    // SAFETY: both are RAM that this domain owns or a module's, of at least `bytes` bytes, as callers
    // have checked. Assembly, as the compiler may not assume that nobody writes at the same time.
    unsafe {
        core::arch::asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) bytes & 7,
            inout("rcx") bytes >> 3 => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

impl Medium {
    /// What it is, as `insert` in the monitor takes it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Medium::Module(module) => module.name.clone(),
            Medium::Host { number, .. } => format!("host:{number}"),
            Medium::Snapshot(snapshot) => format!("host:{}", snapshot.number()),
        }
    }

    /// Size in sectors of 512 bytes.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        match self {
            Medium::Module(module) => module.sectors(),
            Medium::Host { sectors, .. } => *sectors,
            Medium::Snapshot(snapshot) => snapshot.sectors(),
        }
    }

    /// Starts a request. `cookie` comes back from host disks.
    pub fn submit(
        &mut self,
        frames: &Frames,
        request: &BlkRequest,
        data: DiskData<'_>,
        cookie: u64,
    ) -> DiskAnswer {
        match self {
            Medium::Module(module) => DiskAnswer::Done(module.serve(frames, request, data)),
            Medium::Snapshot(snapshot) => snapshot.submit(frames, request, data, cookie),
            Medium::Host { number, read_only, sectors: _ } => {
                if *read_only && request.op == BlkOp::Write {
                    return DiskAnswer::Done(Err(BlkError::ReadOnly));
                }
                match to_host(frames, request, data, cookie) {
                    Ok(host) => match block::submit(*number, &host) {
                        Ok(()) => DiskAnswer::Pending,
                        Err(_) => DiskAnswer::Done(Err(BlkError::Medium)),
                    },
                    Err(error) => DiskAnswer::Done(Err(error)),
                }
            }
        }
    }
}

impl Medium {
    /// A host disk has finished the request with this cookie: what is left to do here.
    pub fn completed(&mut self, cookie: u64) {
        if let Medium::Snapshot(snapshot) = self {
            snapshot.completed(cookie);
        }
    }

    /// Whether writes stay in memory, and so can want more than there is.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self, Medium::Module(_) | Medium::Snapshot(_))
    }
}

/// Hands the pieces of a segment on, in host addresses.
fn each(
    frames: &Frames,
    segment: &Segment,
    mut work: impl FnMut(HostPhys, u64) -> Result<(), BlkError>,
) -> Result<(), BlkError> {
    let at = GuestPhys(segment.address);
    frames.pieces(at, segment.len.into(), BlkError::Dma, |at, place, bytes| {
        // A page that nobody has touched so far gets its memory now.
        work(place.or_else(|| frames.provide(at)).ok_or(BlkError::Dma)?, bytes)
    })
}

/// The same request in host addresses.
pub(super) fn to_host(
    frames: &Frames,
    request: &BlkRequest,
    data: DiskData<'_>,
    cookie: u64,
) -> Result<block::Request, BlkError> {
    let op = match request.op {
        BlkOp::Read => block::Op::Read,
        BlkOp::Write => block::Op::Write,
        BlkOp::Flush => block::Op::Flush,
    };
    let mut host =
        block::Request { op, sector: request.lba, segments: heapless::Vec::new(), cookie };
    let mut push = |start: HostPhys, bytes: u32| {
        host.segments.push(block::Segment { start, bytes }).map_err(|_| BlkError::Dma)
    };
    match data {
        DiskData::None => {}
        // The chip's buffer is in the heap, which is in the direct map: the disk fills it itself.
        DiskData::Buffer(buffer) => push(mem::virt_to_phys(buffer.as_ptr()), buffer.len() as u32)?,
        DiskData::Guest(segments) => {
            for segment in segments {
                each(frames, segment, |start, bytes| push(start, bytes as u32))?;
            }
        }
    }
    Ok(host)
}
