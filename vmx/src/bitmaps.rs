//! I/O and MSR bitmaps (SDM 3C "I/O-Bitmap Addresses", "MSR-Bitmap Address"): a set bit exits.
//!
//! Both start with everything intercepted. They hold nothing of a vCPU: one pair serves any number.

/// One bit a port: bitmap A for 0 to 7FFFh, then B. 8 KiB of contiguous frames.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct IoBitmaps([u8; 2 * 4096]);

impl IoBitmaps {
    /// Bitmaps with every port intercepted.
    #[must_use]
    pub const fn all() -> IoBitmaps {
        IoBitmaps([0xff; 2 * 4096])
    }

    /// Makes every port exit.
    pub fn intercept_all(&mut self) {
        self.0.fill(0xff);
    }

    /// Whether an access that touches `port` exits. Accesses that wrap past FFFFh always do.
    pub fn set(&mut self, port: u16, exits: bool) {
        let (byte, bit) = (usize::from(port >> 3), 1 << (port & 7));
        if exits { self.0[byte] |= bit } else { self.0[byte] &= !bit }
    }

    /// What [`set`](IoBitmaps::set) said.
    #[must_use]
    pub fn exits(&self, port: u16) -> bool {
        self.0[usize::from(port >> 3)] & 1 << (port & 7) != 0
    }
}

/// TSC_AUX: what RDTSCP gives in ECX.
pub(crate) const TSC_AUX: u32 = 0xc000_0103;

/// MSRs that a guest may read and write without an exit. Those of the VMCS are switched at each
/// exit, the others with the vCPU: the host does not use them.
pub const PASSED_THROUGH: [u32; 12] = [
    0x174,       // SYSENTER_CS, VMCS
    0x175,       // SYSENTER_ESP, VMCS
    0x176,       // SYSENTER_EIP, VMCS
    0x277,       // PAT, VMCS
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS_BASE, VMCS
    0xc000_0101, // GS_BASE, VMCS
    0xc000_0102, // KERNEL_GS_BASE
    TSC_AUX,
];

/// MSRs that a guest may read without an exit: EFER (VMCS), and the TSC, which comes with the
/// offset.
pub const READ_THROUGH: [u32; 2] = [0xc000_0080, 0x10];

/// An MSR outside the ranges that the bitmap covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCovered;

/// A bit each for reads and writes of the MSRs 0 to 1FFFh and C000_0000h to C000_1FFFh; other MSRs
/// always exit. One frame: low reads, high reads, low writes, high writes.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct MsrBitmap([u8; 4096]);

impl MsrBitmap {
    /// A bitmap with every MSR intercepted.
    #[must_use]
    pub const fn all() -> MsrBitmap {
        MsrBitmap([0xff; 4096])
    }

    /// Makes every MSR exit.
    pub fn intercept_all(&mut self) {
        self.0.fill(0xff);
    }

    /// Makes every MSR exit but those [`PASSED_THROUGH`] and, when read, [`READ_THROUGH`].
    pub fn intercept_by_need(&mut self) {
        self.intercept_all();
        for msr in PASSED_THROUGH {
            let covered = self.set(msr, false, false);
            debug_assert_eq!(covered, Ok(()));
        }
        for msr in READ_THROUGH {
            let covered = self.set(msr, false, true);
            debug_assert_eq!(covered, Ok(()));
        }
    }

    /// Lets the task priority be read and written, and ends of interrupts and interrupts to oneself be
    /// written. Only for x2APIC mode kept by the CPU: else these would be the host's (SDM 3C
    /// "Virtualizing MSR-Based APIC Accesses").
    pub fn pass_x2apic(&mut self) {
        for (msr, read) in [(0x808, false), (0x80b, true), (0x83f, true)] {
            let covered = self.set(msr, read, false);
            debug_assert_eq!(covered, Ok(()));
        }
    }

    /// Whether RDMSR (`read`) and WRMSR (`write`) of `msr` exit.
    ///
    /// # Errors
    /// [`NotCovered`]: both always exit.
    pub fn set(&mut self, msr: u32, read: bool, write: bool) -> Result<(), NotCovered> {
        let (byte, bit) = place(msr).ok_or(NotCovered)?;
        for (at, exits) in [(byte, read), (byte + WRITES, write)] {
            if exits { self.0[at] |= bit } else { self.0[at] &= !bit }
        }
        Ok(())
    }

    /// Whether reads and writes of `msr` exit.
    #[must_use]
    pub fn exits(&self, msr: u32) -> (bool, bool) {
        let Some((byte, bit)) = place(msr) else { return (true, true) };
        (self.0[byte] & bit != 0, self.0[byte + WRITES] & bit != 0)
    }
}

/// From a read bit to the write bit, in bytes.
const WRITES: usize = 2048;

/// Byte and bit for reads of an MSR.
const fn place(msr: u32) -> Option<(usize, u8)> {
    let base = match msr & !0x1fff {
        0 => 0,
        0xc000_0000 => 1024,
        _ => return None,
    };
    Some((base + (msr as usize & 0x1fff) / 8, 1 << (msr & 7)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn ports_have_a_bit_each_over_both_bitmaps() {
        let mut map = Box::new(IoBitmaps::all());
        map.set(0x80, false);
        map.set(0x8001, false);
        assert!(!map.exits(0x80) && map.exits(0x81) && map.exits(0x7f) && !map.exits(0x8001));
        assert_eq!((map.0[0x10], map.0[0x1000]), (0xfe, 0xfd));
        map.set(0x80, true);
        assert!(map.exits(0x80));
    }

    #[test]
    fn msr_bits_lie_where_the_manual_puts_them() {
        for (msr, byte, bit) in [
            (0, 0, 1),
            (0x1fff, 0x3ff, 0x80),
            (0xc000_0000, 0x400, 1),
            (0xc000_0081, 0x410, 2),
            (0xc000_1fff, 0x7ff, 0x80),
        ] {
            assert_eq!(place(msr), Some((byte, bit)), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xc000_2000, 0xc001_0000, u32::MAX] {
            assert_eq!(place(msr), None, "{msr:#x}");
        }
    }

    #[test]
    fn in_x2apic_mode_priority_eoi_and_self_ipi_pass() {
        let mut map = Box::new(MsrBitmap::all());
        map.intercept_by_need();
        assert_eq!(map.exits(0x808), (true, true));
        map.pass_x2apic();
        let passed: std::vec::Vec<u32> =
            (0x800..0x840).filter(|msr| map.exits(*msr) != (true, true)).collect();
        assert_eq!(passed, [0x808, 0x80b, 0x83f]);
        assert_eq!((map.exits(0x808), map.exits(0x80b)), ((false, false), (true, false)));
    }

    #[test]
    fn efer_exits_when_written_and_the_syscall_msrs_never() {
        let mut map = Box::new(MsrBitmap([0; 4096]));
        map.intercept_by_need();
        assert_eq!(map.exits(0xc000_0080), (false, true));
        assert_eq!(map.exits(0x10), (false, true));
        assert_eq!(map.exits(0x1b), (true, true));
        assert_eq!(map.exits(0xc000_0082), (false, false));
        assert_eq!(map.exits(0x4000_0000), (true, true));
        assert_eq!(map.set(0x4000_0000, false, false), Err(NotCovered));
    }
}
