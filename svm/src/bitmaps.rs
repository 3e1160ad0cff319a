//! I/O and MSR permission maps (APM2 "I/O Permissions Map", "MSR Permissions Map"): a set bit
//! exits.
//!
//! Both start with everything intercepted. They hold nothing of a vCPU: one pair serves any number.

/// One bit a port, and three beyond for accesses that reach past FFFFh. 12 KiB of contiguous
/// frames.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Iopm([u8; 3 * 4096]);

impl Iopm {
    /// A map with every port intercepted.
    #[must_use]
    pub const fn all() -> Iopm {
        Iopm([0xff; 3 * 4096])
    }

    /// Makes every port exit.
    pub fn intercept_all(&mut self) {
        self.0.fill(0xff);
    }

    /// Whether an access that touches `port` exits.
    pub fn set(&mut self, port: u16, exits: bool) {
        let (byte, bit) = (usize::from(port >> 3), 1 << (port & 7));
        if exits { self.0[byte] |= bit } else { self.0[byte] &= !bit }
    }

    /// What [`set`](Iopm::set) said.
    #[must_use]
    pub fn exits(&self, port: u16) -> bool {
        self.0[usize::from(port >> 3)] & 1 << (port & 7) != 0
    }
}

/// MSRs that a guest may use without an exit. All are switched by VMLOAD and VMSAVE at each exit,
/// or (TSC_AUX) with the vCPU. Not EFER: SVME must stay. Not PAT: QEMU 7.2 does not switch it.
pub const PASSED_THROUGH: [u32; 11] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS_BASE
    0xc000_0101, // GS_BASE
    0xc000_0102, // KERNEL_GS_BASE
    TSC_AUX,
];

/// TSC_AUX: what RDTSCP gives in ECX.
pub(crate) const TSC_AUX: u32 = 0xc000_0103;

/// Two bits an MSR, reads and writes, in three ranges; other MSRs always exit. 8 KiB of contiguous
/// frames.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Msrpm([u8; 2 * 4096]);

/// An MSR outside the ranges that the map covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCovered;

impl Msrpm {
    /// A map with every MSR intercepted.
    #[must_use]
    pub const fn all() -> Msrpm {
        Msrpm([0xff; 2 * 4096])
    }

    /// Makes every MSR exit.
    pub fn intercept_all(&mut self) {
        self.0.fill(0xff);
    }

    /// Makes every MSR exit but those [`PASSED_THROUGH`].
    pub fn intercept_by_need(&mut self) {
        self.intercept_all();
        for msr in PASSED_THROUGH {
            let covered = self.set(msr, false, false);
            debug_assert_eq!(covered, Ok(()));
        }
    }

    /// Whether RDMSR (`read`) and WRMSR (`write`) of `msr` exit.
    ///
    /// # Errors
    /// [`NotCovered`]: both always exit.
    pub fn set(&mut self, msr: u32, read: bool, write: bool) -> Result<(), NotCovered> {
        let (byte, shift) = place(msr).ok_or(NotCovered)?;
        let bits = u8::from(read) | u8::from(write) << 1;
        self.0[byte] = self.0[byte] & !(3 << shift) | bits << shift;
        Ok(())
    }

    /// Whether reads and writes of `msr` exit.
    #[must_use]
    pub fn exits(&self, msr: u32) -> (bool, bool) {
        let Some((byte, shift)) = place(msr) else { return (true, true) };
        let bits = self.0[byte] >> shift;
        (bits & 1 != 0, bits & 2 != 0)
    }
}

/// Byte and shift of an MSR's two bits.
const fn place(msr: u32) -> Option<(usize, u32)> {
    let base = match msr & !0x1fff {
        0 => 0,
        0xc000_0000 => 0x800,
        0xc001_0000 => 0x1000,
        _ => return None,
    };
    let low = msr & 0x1fff;
    Some((base + (low / 4) as usize, low % 4 * 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn ports_have_a_bit_each_and_the_bits_beyond_the_last_port_stay_set() {
        let mut map = Box::new(Iopm([0; 12288]));
        map.intercept_all();
        map.set(0xffff, false);
        map.set(0x80, false);
        assert!(!map.exits(0x80) && map.exits(0x81) && map.exits(0x7f));
        assert_eq!((map.0[0x1fff], map.0[0x2000]), (0x7f, 0xff));
        map.set(0x80, true);
        assert!(map.exits(0x80));
    }

    #[test]
    fn msr_bits_lie_where_the_manual_puts_them() {
        for (msr, byte, shift) in [
            (0, 0, 0),
            (0x1fff, 0x7ff, 6),
            (0xc000_0000, 0x800, 0),
            (0xc000_0080, 0x820, 0),
            (0xc000_0101, 0x840, 2),
            (0xc001_0015, 0x1005, 2),
            (0xc001_1fff, 0x17ff, 6),
        ] {
            assert_eq!(place(msr), Some((byte, shift)), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xc000_2000, 0xc001_2000, u32::MAX] {
            assert_eq!(place(msr), None, "{msr:#x}");
        }
    }

    #[test]
    fn efer_and_pat_exit_and_the_syscall_msrs_do_not() {
        let mut map = Box::new(Msrpm([0; 8192]));
        map.intercept_by_need();
        assert_eq!(map.exits(0xc000_0080), (true, true));
        assert_eq!(map.exits(0x277), (true, true));
        assert_eq!(map.exits(0xc000_0082), (false, false));
        assert_eq!(map.exits(0x4000_0000), (true, true));
        assert_eq!(map.set(0x10, false, true), Ok(()));
        assert_eq!(map.exits(0x10), (false, true));
        assert_eq!(map.exits(0x11), (true, true));
        assert_eq!(map.set(0x4000_0000, false, false), Err(NotCovered));
    }
}
