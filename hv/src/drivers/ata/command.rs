//! What goes into an ATA drive's registers and what IDENTIFY says, as plain values.
//! ATA/ATAPI-6, "Command descriptions"; SFF-8020i for packets.

use crate::drivers::block::Op;

/// A drive as IDENTIFY (PACKET) DEVICE describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    /// 512-byte sectors; 0 for a packet device.
    pub sectors: u64,
    /// 48-bit addresses.
    pub lba48: bool,
    /// Takes DMA commands.
    pub dma: bool,
    /// FLUSH CACHE exists.
    pub flush: bool,
    /// A packet device (CD).
    pub packet: bool,
}

/// Register values of a command. `previous` goes into the registers first, for 48-bit addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFile {
    /// Count, LBA low, mid, high as first written (bits above).
    pub previous: Option<[u8; 4]>,
    /// Count, LBA low, mid, high.
    pub current: [u8; 4],
    /// Device register, with the drive bit clear.
    pub device: u8,
    /// The command.
    pub command: u8,
}

/// Reads the 256 words of IDENTIFY DEVICE or IDENTIFY PACKET DEVICE.
#[must_use]
pub fn identify(words: &[u16; 256], packet: bool) -> Drive {
    let lba48 = !packet && words[83] & 1 << 10 != 0 && words[83] >> 14 == 1;
    let wide = |at: usize, n: usize| (0..n).map(|i| u64::from(words[at + i]) << (16 * i)).sum();
    let sectors: u64 = match (packet, lba48) {
        (true, _) => 0,
        (_, true) => wide(100, 4),
        (_, false) => wide(60, 2),
    };
    let flush = !packet && words[83] & 1 << 12 != 0 && words[83] >> 14 == 1;
    Drive { sectors, lba48, dma: words[49] & 1 << 8 != 0, flush, packet }
}

/// The registers for `count` sectors (1 to 256, or 65536 with 48-bit addresses) at `sector`.
#[must_use]
pub fn task_file(drive: &Drive, op: Op, dma: bool, sector: u64, count: u32) -> TaskFile {
    let s = sector.to_le_bytes();
    let c = count.to_le_bytes();
    let (command, wide_command) = match (op, dma) {
        (Op::Read, true) => (0xc8, 0x25),
        (Op::Read, false) => (0x20, 0x24),
        (Op::Write, true) => (0xca, 0x35),
        (Op::Write, false) => (0x30, 0x34),
        (Op::Flush, _) => (0xe7, 0xea),
    };
    if drive.lba48 {
        return TaskFile {
            previous: Some([c[1], s[3], s[4], s[5]]),
            current: [c[0], s[0], s[1], s[2]],
            device: 0xe0,
            command: wide_command,
        };
    }
    let device = 0xe0 | s[3] & 0x0f;
    TaskFile { previous: None, current: [c[0], s[0], s[1], s[2]], device, command }
}

/// READ (12) for a CD, in sectors of 2048 bytes.
#[must_use]
pub fn read_packet(sector: u32, count: u32) -> [u8; 12] {
    let (s, c) = (sector.to_be_bytes(), count.to_be_bytes());
    [0xa8, 0, s[0], s[1], s[2], s[3], c[0], c[1], c[2], c[3], 0, 0]
}

/// READ CAPACITY (10).
pub const CAPACITY_PACKET: [u8; 12] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// REQUEST SENSE for 18 bytes; takes a unit attention away.
pub const SENSE_PACKET: [u8; 12] = [0x03, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0];

/// One piece of memory for the bus master: at most 64 KiB, not across a 64 KiB line.
/// PIIX3 datasheet, "Physical Region Descriptor".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prd(pub u64);

/// Appends the descriptors of `start..start + bytes` through `push`; false where memory is above
/// 4 GiB or `push` refuses.
pub fn describe(start: u64, bytes: u32, mut push: impl FnMut(Prd) -> bool) -> bool {
    let end = start + u64::from(bytes);
    if end > 1 << 32 {
        return false;
    }
    let mut at = start;
    while at < end {
        let stop = ((at | 0xffff) + 1).min(end);
        // A count of 0 means 64 KiB.
        let count = (stop - at) & 0xffff;
        if !push(Prd(at | count << 32)) {
            return false;
        }
        at = stop;
    }
    true
}

/// Marks the last descriptor.
pub const PRD_END: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identify_tells_size_and_features() {
        let mut words = [0; 256];
        (words[60], words[61]) = (0x3f00, 0x0010);
        words[49] = 1 << 8 | 1 << 9;
        let small = identify(&words, false);
        assert_eq!(small.sectors, 0x10_3f00);
        assert!(small.dma && !small.lba48 && !small.flush);
        words[83] = 0x4000 | 1 << 10 | 1 << 12;
        (words[100], words[102]) = (7, 1);
        let large = identify(&words, false);
        assert_eq!(large.sectors, (1 << 32) + 7);
        assert!(large.flush);
        assert_eq!(identify(&words, true).sectors, 0);
    }

    #[test]
    fn addresses_land_in_their_registers() {
        let narrow =
            Drive { sectors: 1 << 28, lba48: false, dma: true, flush: true, packet: false };
        let t = task_file(&narrow, Op::Read, true, 0x0abc_def1, 256);
        assert_eq!(t.current, [0, 0xf1, 0xde, 0xbc]);
        assert_eq!((t.device, t.command, t.previous), (0xea, 0xc8, None));
        let wide = Drive { lba48: true, ..narrow };
        let t = task_file(&wide, Op::Write, false, 0x1234_5678_9abc, 0x102);
        assert_eq!(t.previous, Some([1, 0x56, 0x34, 0x12]));
        assert_eq!(t.current, [2, 0xbc, 0x9a, 0x78]);
        assert_eq!(t.command, 0x34);
        assert_eq!(read_packet(0x0102_0304, 5)[2..10], [1, 2, 3, 4, 0, 0, 0, 5]);
    }

    #[test]
    fn regions_split_at_64_kib_lines() {
        let mut list = Vec::new();
        assert!(describe(0x1_f000, 0x2_1000, |p| {
            list.push(p.0);
            true
        }));
        assert_eq!(list, [0x1000_0001_f000, 0x2_0000, 0x3_0000]);
        assert!(!describe((1 << 32) - 512, 1024, |_| true));
        assert!(!describe(0, 512, |_| false));
    }
}
