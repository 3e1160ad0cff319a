//! Host disks behind one asynchronous interface: `submit` returns at once, the completion hook is
//! called in interrupt context with the cookie of the request. Nothing here allocates after boot.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::sync::atomic::{AtomicUsize, Ordering};

use heapless::Vec;

use super::ata::AtaDisk;
use super::virtio_blk::VirtioDisk;
use crate::cpu::lock::IrqLock;
use crate::cpu::{self, tsc};
use crate::mem::Phys;

/// Bytes of the unit in which positions are counted, whatever the medium's own sector is.
pub const SECTOR: u64 = 512;
/// Most pieces of memory in one request.
pub const MAX_SEGMENTS: usize = 32;
/// Most disks.
pub const MAX_DISKS: usize = 16;

/// Memory that a disk reads or writes: RAM, even address, even length, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte.
    pub start: Phys,
    /// Length.
    pub bytes: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// Make earlier completed writes durable. Takes no segments.
    Flush,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// First sector, in units of [`SECTOR`].
    pub sector: u64,
    /// Where the data is. Stays valid until completion.
    pub segments: Vec<Segment, MAX_SEGMENTS>,
    /// Returned with the completion. The top bit is reserved for [`transfer`].
    pub cookie: u64,
}

impl Request {
    /// Bytes that it moves.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.bytes)).sum()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done,
    /// The device reported an error.
    Failed,
}

/// Why a request was not taken. No completion follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Come back after a completion.
    Full,
    /// Out of range, odd, too long, or a write to a read-only disk.
    Bad,
}

/// What a disk is.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Size in units of [`SECTOR`]; 0 for a drive without a medium.
    pub sectors: u64,
    /// Bytes of the medium's own sector: positions and lengths are multiples of it.
    pub sector_bytes: u32,
    /// Most sectors (of 512 bytes) in a request.
    pub max_sectors: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// A CD or DVD drive.
    pub optical: bool,
    /// For people: driver and place, such as `virtio 00:04.0` or `ata 1f0h master`.
    pub place: &'static str,
}

/// One disk.
#[derive(Clone, Copy)]
pub enum Disk {
    /// virtio-blk.
    Virtio(&'static VirtioDisk),
    /// ATA or ATAPI.
    Ata(&'static AtaDisk),
}

/// Called in interrupt context: disk, cookie, status.
pub type Hook = fn(usize, u64, Status);

static DISKS: IrqLock<Vec<Disk, MAX_DISKS>> = IrqLock::new(Vec::new());
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Results of [`transfer`]: 0 waiting, 1 done, 2 failed.
static WAITING: AtomicUsize = AtomicUsize::new(0);
const OWN: u64 = 1 << 63;
/// A disk that says nothing for so long has failed.
const PATIENCE_NS: u64 = 20_000_000_000;

/// Adds a disk; its number. `None` when the table is full.
pub(super) fn add(disk: Disk) -> Option<usize> {
    let mut disks = DISKS.lock();
    disks.push(disk).ok()?;
    Some(disks.len() - 1)
}

/// Number of disks.
pub fn count() -> usize {
    DISKS.lock().len()
}

fn get(disk: usize) -> Option<Disk> {
    DISKS.lock().get(disk).copied()
}

/// What disk number `disk` is.
pub fn info(disk: usize) -> Option<Info> {
    get(disk).map(|disk| match disk {
        Disk::Virtio(d) => d.info(),
        Disk::Ata(d) => d.info(),
    })
}

/// Sets who hears of completions.
pub fn set_hook(hook: Hook) {
    HOOK.store(hook as *const () as usize, Ordering::Release);
}

/// Starts a request. The hook may be called before this returns.
///
/// # Errors
/// [`SubmitError`]; then nothing was started.
pub fn submit(disk: usize, request: &Request) -> Result<(), SubmitError> {
    let disk = get(disk).ok_or(SubmitError::Bad)?;
    let info = match disk {
        Disk::Virtio(d) => d.info(),
        Disk::Ata(d) => d.info(),
    };
    check(request, &info)?;
    match disk {
        Disk::Virtio(d) => d.submit(request),
        Disk::Ata(d) => d.submit(request),
    }
}

fn check(request: &Request, info: &Info) -> Result<(), SubmitError> {
    let bytes = request.bytes();
    let own = u64::from(info.sector_bytes);
    let end = request.sector.checked_add(bytes / SECTOR).ok_or(SubmitError::Bad)?;
    let odd =
        request.segments.iter().any(|s| s.bytes == 0 || (s.start.0 | u64::from(s.bytes)) & 1 != 0);
    // The sector is below the disk's end or the request is bad anyway, so nothing here overflows.
    let shape_is_bad = match request.op {
        Op::Flush => !request.segments.is_empty(),
        Op::Read | Op::Write => {
            request.segments.is_empty()
                || !bytes.is_multiple_of(own)
                || !request.sector.is_multiple_of(own / SECTOR)
        }
    };
    let bad = odd
        || shape_is_bad
        || end > info.sectors
        || bytes / SECTOR > u64::from(info.max_sectors)
        || (request.op == Op::Write && info.read_only);
    if bad { Err(SubmitError::Bad) } else { Ok(()) }
}

/// Drivers call this, in interrupt context and without holding a lock of theirs.
pub(super) fn complete(disk: usize, cookie: u64, status: Status) {
    if cookie & OWN != 0 {
        WAITING.store(if status == Status::Done { 1 } else { 2 }, Ordering::Release);
        return;
    }
    let address = HOOK.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: `set_hook` stored a `Hook` here.
        let hook = unsafe { core::mem::transmute::<usize, Hook>(address) };
        hook(disk, cookie, status);
    }
}

/// Moves data and waits, halted. For start-up only: one caller at a time, interrupts open, CPU 0.
///
/// # Errors
/// [`SubmitError::Bad`] also where the device reports an error or stays silent.
pub fn transfer(disk: usize, op: Op, sector: u64, segment: Segment) -> Result<(), SubmitError> {
    let mut segments = Vec::new();
    if op != Op::Flush {
        let _ = segments.push(segment);
    }
    WAITING.store(0, Ordering::Release);
    submit(disk, &Request { op, sector, segments, cookie: OWN })?;
    let end = tsc::now() + tsc::from_ns(PATIENCE_NS);
    while WAITING.load(Ordering::Acquire) == 0 {
        if tsc::now() > end {
            log::error!("disk {disk} does not answer");
            return Err(SubmitError::Bad);
        }
        cpu::timer::arm(tsc::now() + tsc::from_ns(100_000_000));
        cpu::idle(|| WAITING.load(Ordering::Acquire) == 0);
    }
    if WAITING.load(Ordering::Acquire) == 1 { Ok(()) } else { Err(SubmitError::Bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: Op, sector: u64, bytes: &[u32]) -> Request {
        let segments = bytes.iter().map(|&bytes| Segment { start: Phys(4096), bytes }).collect();
        Request { op, sector, segments, cookie: 0 }
    }

    #[test]
    fn requests_that_no_disk_could_serve_are_refused() {
        let disk = Info {
            sectors: 100,
            sector_bytes: 2048,
            max_sectors: 64,
            read_only: true,
            optical: true,
            place: "",
        };
        let test = |r: &Request| check(r, &disk);
        assert_eq!(test(&request(Op::Read, 96, &[2048])), Ok(()));
        assert_eq!(test(&request(Op::Read, 100, &[2048])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, u64::MAX, &[2048])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, 1, &[2048])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, 0, &[512])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, 0, &[1023, 1025])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, 0, &[65536])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Read, 0, &[])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Write, 0, &[2048])), Err(SubmitError::Bad));
        assert_eq!(test(&request(Op::Flush, 0, &[])), Ok(()));
    }
}
