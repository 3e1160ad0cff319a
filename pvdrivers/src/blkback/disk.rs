//! What a block back end needs of a disk, and what it says of itself to a front end.

use crate::seam::DomId;
use arch::{GuestPhys, SharedPage};

/// What the disk is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// From the disk into the pieces.
    Read,
    /// From the pieces to the disk.
    Write,
    /// Make durable all writes that were answered before. No sectors, no pieces.
    Flush,
    /// Forget the contents of the sectors. No pieces.
    Discard,
}

/// A run of bytes in one guest page.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The memory.
    pub page: SharedPage,
    /// Whose page it is.
    pub owner: DomId,
    /// Where the page lies in its owner's guest-physical space.
    pub frame: GuestPhys,
    /// First byte, a multiple of 512.
    pub offset: u16,
    /// Bytes, a multiple of 512, 1 sector to a page.
    pub len: u16,
}

/// Names one request in flight, for [`BlkBack::complete`](super::BlkBack::complete).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

/// One piece of work for the disk. The pieces stay valid until the request is answered.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct DiskRequest<'a> {
    /// Given back with the answer.
    pub token: Token,
    /// What to do.
    pub op: DiskOp,
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// Sectors of 512 bytes; 0 for a flush.
    pub sectors: u64,
    /// Where the data lies, in order; together as long as the sectors.
    pub pieces: &'a [Piece],
}

/// Bytes that follow one another in a domain's guest-physical space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose space.
    pub owner: DomId,
    /// The first byte.
    pub at: GuestPhys,
    /// How many, a multiple of 512.
    pub bytes: u32,
}

impl<'a> DiskRequest<'a> {
    /// The pieces for a disk that transfers straight: those that follow one another are joined.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        let mut pieces = self.pieces.iter().map(Piece::run).peekable();
        core::iter::from_fn(move || {
            let mut run = pieces.next()?;
            let follows = |run: &Run, next: &Run| {
                next.owner == run.owner && run.at.checked_add(run.bytes.into()) == Some(next.at)
            };
            while let Some(next) = pieces.next_if(|next| follows(&run, next)) {
                run.bytes += next.bytes;
            }
            Some(run)
        })
    }
}

impl Piece {
    fn run(&self) -> Run {
        let at = GuestPhys(self.frame.page().0 | u64::from(self.offset) & 0xfff);
        Run { owner: self.owner, at, bytes: self.len.into() }
    }
}

/// Why the disk could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// It does no such thing.
    Unsupported,
    /// The medium is gone, ends earlier, must not be written, or failed.
    Failed,
}

/// What the disk says at once.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAnswer {
    /// It is finished.
    Done(Result<(), DiskError>),
    /// [`BlkBack::complete`](super::BlkBack::complete) will tell.
    Pending,
    /// No room now: the back end keeps the request, and asks again when it is served again.
    Busy,
}

/// A disk.
pub trait Disk {
    /// Starts a request. Must not call back into the back end.
    fn submit(&mut self, request: &DiskRequest<'_>) -> DiskAnswer;
}

/// What lies in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Size in units of 512 bytes; whole sectors of the medium's own size are used.
    pub sectors: u64,
    /// The medium's sector in bytes: 512 to 4096, a power of two.
    pub sector_size: u32,
    /// What the medium writes at once, a multiple of that.
    pub physical_sector_size: u32,
    /// Writes are refused.
    pub read_only: bool,
}

impl Media {
    /// A disk with sectors of 512 bytes.
    #[must_use]
    pub const fn disk(sectors: u64) -> Media {
        Media { sectors, sector_size: 512, physical_sector_size: 512, read_only: false }
    }

    /// Units of 512 bytes in a sector, 1 to 8.
    pub(super) const fn unit(&self) -> u64 {
        match self.sector_size {
            0..1024 => 1,
            1024..2048 => 2,
            2048..4096 => 4,
            _ => 8,
        }
    }

    /// Whether `sectors` from `first` are whole sectors of the medium, before its end.
    pub(super) fn holds(&self, first: u64, sectors: u64) -> bool {
        let Some(end) = first.checked_add(sectors) else { return false };
        let whole = self.sectors - self.sectors % self.unit();
        end <= whole && (first | sectors).is_multiple_of(self.unit())
    }
}

/// What a front end is told once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlkConfig {
    /// The disk's number for the guest (`virtual-device`).
    pub virtual_device: u32,
    /// A drive for CDs: removable, read-only, may be empty.
    pub cdrom: bool,
    /// A medium that can be taken out.
    pub removable: bool,
    /// The disk can discard, in runs of so many bytes.
    pub discard_granularity: Option<u32>,
    /// Most queues, 1 to [`MAX_QUEUES`](super::MAX_QUEUES).
    pub max_queues: u32,
    /// Grants to keep pinned for a front end that uses the same again; 0 for none.
    pub persistent: u32,
}

impl BlkConfig {
    /// A fixed disk.
    #[must_use]
    pub const fn disk(virtual_device: u32) -> BlkConfig {
        BlkConfig {
            virtual_device,
            cdrom: false,
            removable: false,
            discard_granularity: None,
            max_queues: 4,
            persistent: 1056,
        }
    }

    /// A drive for CDs.
    #[must_use]
    pub const fn cdrom(virtual_device: u32) -> BlkConfig {
        BlkConfig { cdrom: true, removable: true, ..BlkConfig::disk(virtual_device) }
    }
}

/// The number of `/dev/xvda` (0), `/dev/xvdb` (1) and so on. Xen "docs/man/xen-vbd-interface".
#[must_use]
pub const fn xvd(disk: u32) -> u32 {
    if disk < 16 { 202 << 8 | disk << 4 } else { 1 << 28 | (disk & 0xf_ffff) << 8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn disks_are_numbered_as_xen_does() {
        assert_eq!((xvd(0), xvd(1), xvd(15)), (51712, 51728, 51952));
        assert_eq!(xvd(16), 1 << 28 | 16 << 8);
    }

    #[test]
    fn pieces_that_follow_one_another_become_one_run() {
        let cells = Box::leak(Box::new([const { AtomicU64::new(0) }; 512]));
        let page = SharedPage::new(cells);
        let piece = |owner, frame: u64, offset, len| Piece {
            page,
            owner: DomId(owner),
            frame: GuestPhys(frame << 12),
            offset,
            len,
        };
        let pieces = [
            piece(1, 5, 512, 3584),
            piece(1, 6, 0, 4096),
            piece(1, 7, 0, 512),
            piece(1, 7, 1024, 512),
            piece(2, 7, 1536, 512),
            piece(1, 7, 2048, 512),
            piece(1, u64::MAX >> 12, 0, 4096),
            piece(1, 0, 0, 4096),
        ];
        let (token, op) = (Token(0), DiskOp::Read);
        let request = DiskRequest { token, op, sector: 0, sectors: 0, pieces: &pieces };
        let runs: Vec<_> = request.runs().map(|run| (run.owner.0, run.at.0, run.bytes)).collect();
        let top = !0xfff;
        assert_eq!(
            runs,
            [
                (1, 0x5200, 8192),
                (1, 0x7400, 512),
                (2, 0x7600, 512),
                (1, 0x7800, 512),
                (1, top, 4096),
                (1, 0, 4096),
            ]
        );
        assert_eq!(DiskRequest { pieces: &[], ..request }.runs().count(), 0);
    }

    #[test]
    fn only_whole_sectors_before_the_end_are_held() {
        let small = Media::disk(100);
        assert!(small.holds(0, 100) && small.holds(99, 1) && small.holds(100, 0));
        assert!(!small.holds(99, 2) && !small.holds(u64::MAX, 1) && !small.holds(101, 0));
        let large = Media { sector_size: 4096, ..Media::disk(100) };
        assert!(large.holds(8, 88) && !large.holds(8, 92) && !large.holds(4, 8));
        assert!(!large.holds(8, 4), "half a sector");
    }
}
