//! Which processors are plugged in, as a PC of QEMU's and Xen's kind tells its ACPI tables: a bitmap at I/O ports
//! AF00h to AF1Fh, a bit for each local APIC ID. Firmware of that kind (Xen's hvmloader, SeaBIOS) looks there, too.
//!
//! Left out: nothing is written there. A change is told by general-purpose event 2.

/// The general-purpose event that says that the bitmap changed.
pub const GPE: u8 = 2;
/// How many processors it has room for: what a guest can have.
pub const PROCESSORS: usize = 64;

/// The bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuBitmap {
    plugged: u64,
}

impl CpuBitmap {
    /// The first `count` processors are there, at most [`PROCESSORS`].
    #[must_use]
    pub const fn new(count: usize) -> CpuBitmap {
        let plugged = if count >= PROCESSORS { u64::MAX } else { (1 << count) - 1 };
        CpuBitmap { plugged }
    }

    /// Reads the byte at `offset` (0 to 31) from AF00h.
    #[must_use]
    pub const fn read(&self, offset: u8) -> u8 {
        if offset < 8 { (self.plugged >> (offset * 8)) as u8 } else { 0 }
    }

    /// Whether a processor is there.
    #[must_use]
    pub const fn is_plugged(&self, number: usize) -> bool {
        number < PROCESSORS && self.plugged >> number & 1 != 0
    }

    /// How many are there.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.plugged.count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_has_its_bit_and_the_rest_reads_zero() {
        let map = CpuBitmap::new(11);
        let bytes: [u8; 32] = core::array::from_fn(|n| map.read(n as u8));
        assert_eq!(bytes[..3], [0xff, 0x07, 0]);
        assert!(bytes[2..].iter().all(|byte| *byte == 0));
        assert!(map.is_plugged(10) && !map.is_plugged(11) && !map.is_plugged(usize::MAX));
        assert_eq!(map.count(), 11);
        assert_eq!(CpuBitmap::new(64).read(7), 0xff);
        assert_eq!((CpuBitmap::new(1000).count(), CpuBitmap::new(0).count()), (64, 0));
        assert_eq!(map.read(0xff), 0);
    }
}
