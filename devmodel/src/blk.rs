//! The words that storage chips, board and host share: media, requests, completions, segments.
//!
//! A chip never touches a disk. It returns a [`BlkRequest`]; the board hands it to the host and
//! calls the chip's `complete` with the request's [`Token`], at once or much later. A token whose
//! command was reset away is stale: the chip ignores it. Next: `ide/mod.rs`, `fdc/mod.rs`.

/// Which of the machine's disks; the board chooses the numbers and maps them to host media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub u8);

/// Bytes in the sector that every [`BlkRequest`] counts in, whatever the medium's own size.
pub const SECTOR: usize = 512;

/// What the host is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlkOp {
    /// From the medium.
    Read,
    /// To the medium.
    Write,
    /// Make earlier writes durable; no sectors, no data.
    Flush,
}

/// Where a request's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: a flush.
    None,
    /// The chip's own buffer, reached by `buffer(token)`: filled before `complete` of a read, taken
    /// at submission of a write.
    Buffer,
    /// Guest memory, in the segments that came with the request.
    Guest,
}

/// Names one request of one chip, so that a late answer to a dead command is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The chip's part that asked (an IDE channel; 0 for the floppy controller).
    pub part: u8,
    /// Counts the part's requests.
    pub seq: u32,
}

/// One piece of work for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct BlkRequest {
    /// Handed back to `complete`.
    pub token: Token,
    /// The disk.
    pub disk: DiskId,
    /// Read, write or flush.
    pub op: BlkOp,
    /// First sector, in units of 512 bytes.
    pub lba: u64,
    /// How many sectors of 512 bytes; 0 for a flush. Always a multiple of the medium's own sector.
    pub sectors: u32,
    /// Where the data lies.
    pub place: Place,
}

/// Why the host could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlkError {
    /// The medium is gone.
    NoMedium,
    /// The medium must not be written.
    ReadOnly,
    /// Beyond the medium's end.
    Range,
    /// The medium or the host's driver failed.
    Medium,
    /// A guest address of the transfer is not memory.
    Dma,
}

/// Cylinders, heads and sectors as a BIOS or a floppy controller sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders, 1 or more.
    pub cylinders: u16,
    /// Heads, 1 or more.
    pub heads: u8,
    /// Sectors a track, 1 or more.
    pub sectors: u8,
}

impl Geometry {
    /// What a drive of `sectors` reports by default: 16 heads, 63 sectors, at most 16,383
    /// cylinders (ATA-6 annex, "Default CHS translation").
    #[must_use]
    pub const fn of_disk(sectors: u64) -> Geometry {
        let cylinders = sectors / (16 * 63);
        let cylinders = if cylinders > 16_383 {
            16_383
        } else if cylinders == 0 {
            1
        } else {
            cylinders as u16
        };
        Geometry { cylinders, heads: 16, sectors: 63 }
    }
}

/// What lies in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Size in units of 512 bytes.
    pub sectors: u64,
    /// The medium's own sector: 512, or 2048 for a CD.
    pub sector_size: u16,
    /// Writes are refused.
    pub read_only: bool,
    /// It can be taken out while the machine runs.
    pub removable: bool,
    /// Default geometry; a CD's is not used.
    pub geometry: Geometry,
    /// Model, ASCII, padded with spaces.
    pub model: [u8; 40],
    /// Serial number, ASCII, padded with spaces.
    pub serial: [u8; 20],
}

impl Media {
    /// A fixed disk of `sectors` sectors of 512 bytes.
    #[must_use]
    pub fn disk(sectors: u64, serial: &str) -> Media {
        Media {
            sectors,
            sector_size: 512,
            read_only: false,
            removable: false,
            geometry: Geometry::of_disk(sectors),
            model: text("XENOLITH HARDDISK"),
            serial: text(serial),
        }
    }

    /// A CD or DVD of `blocks` blocks of 2,048 bytes.
    #[must_use]
    pub fn cdrom(blocks: u32) -> Media {
        Media {
            sectors: blocks as u64 * 4,
            sector_size: 2048,
            read_only: true,
            removable: true,
            geometry: Geometry { cylinders: 1, heads: 1, sectors: 1 },
            model: text("XENOLITH DVD-ROM"),
            serial: text(""),
        }
    }
}

/// `value` as a field of `N` characters: non-ASCII replaced, cut or padded with spaces.
#[must_use]
pub fn text<const N: usize>(value: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(value.bytes()) {
        *to = if (0x20..0x7F).contains(&from) { from } else { b'?' };
    }
    field
}

/// A run of guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes, 1 or more.
    pub len: u32,
}

/// A bounded scatter list. Cleared by forgetting its length, never by writing its 2 KiB.
#[derive(Clone, Debug)]
pub struct SegmentList {
    items: [Segment; SegmentList::MAX],
    len: usize,
}

impl SegmentList {
    /// Segments that fit. A 512-byte sector in the smallest pieces a PRD can name (2 bytes) fits.
    pub const MAX: usize = 256;

    /// An empty list.
    #[must_use]
    pub const fn new() -> SegmentList {
        SegmentList { items: [Segment { address: 0, len: 0 }; SegmentList::MAX], len: 0 }
    }

    /// The segments, in order of transfer.
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        &self.items[..self.len]
    }

    /// All bytes of the list.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.as_slice().iter().fold(0, |sum, s| sum.saturating_add(s.len))
    }

    /// Empties the list.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a run, joined to the last where it continues it. False when the list is full.
    pub fn push(&mut self, address: u32, len: u32) -> bool {
        if let Some(last) = self.items[..self.len].last_mut()
            && last.address + u64::from(last.len) == u64::from(address)
            && let Some(joined) = last.len.checked_add(len)
        {
            last.len = joined;
            return true;
        }
        let Some(slot) = self.items.get_mut(self.len) else { return false };
        *slot = Segment { address: address.into(), len };
        self.len += 1;
        true
    }

    /// The length and the last segment's bytes less `over`: what [`SegmentList::cut`] goes back to.
    pub(crate) fn mark(&self, over: u32) -> (usize, u32) {
        (self.len, self.as_slice().last().map_or(0, |s| s.len.saturating_sub(over)))
    }

    /// Drops all that was pushed since `mark`.
    pub(crate) fn cut(&mut self, mark: (usize, u32)) {
        self.len = mark.0.min(self.len);
        if let Some(last) = self.items[..self.len].last_mut() {
            last.len = mark.1.min(last.len);
        }
    }
}

impl Default for SegmentList {
    fn default() -> SegmentList {
        SegmentList::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_runs_join_and_a_full_list_says_so() {
        let mut list = SegmentList::new();
        assert!(list.push(0x1000, 0x1000) && list.push(0x2000, 0x800));
        assert_eq!(list.as_slice(), [Segment { address: 0x1000, len: 0x1800 }]);
        for i in 1..SegmentList::MAX as u32 {
            assert!(list.push(i << 16, 2));
        }
        assert!(!list.push(0x10, 2), "the list holds MAX runs");
        list.clear();
        assert_eq!(list.bytes(), 0);
    }

    #[test]
    fn a_run_that_ends_at_4_gib_joins_nothing_and_text_is_padded() {
        let mut list = SegmentList::new();
        assert!(list.push(0xFFFF_F000, 0x1000) && list.push(0, 2));
        assert_eq!(list.as_slice().len(), 2);
        assert_eq!(text::<4>("aé"), *b"a?? ");
    }

    #[test]
    fn default_geometry_stays_in_its_bounds() {
        assert_eq!(Geometry::of_disk(0).cylinders, 1);
        assert_eq!(Geometry::of_disk(1 << 40).cylinders, 16_383);
        assert_eq!(Geometry::of_disk(1008 * 20).cylinders, 20);
    }
}
