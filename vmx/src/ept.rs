//! Extended-page-table entries (SDM 3C "EPT Translation Mechanism").

use crate::caps::{Caps, EptCaps};
use arch::slat::{Format, MemType, PageSize};
use arch::{HostPhys, Perm};

const R: u64 = 1;
const W: u64 = 1 << 1;
const X: u64 = 1 << 2;
/// Memory type, three bits from here.
const TYPE: u32 = 3;
/// The guest's PAT does not count. For [`MemType::WriteBack`], which is RAM and has no devices behind it: the host
/// maps it so, too, and two types for one page are undefined (SDM 3A "Programming the PAT").
const IGNORE_PAT: u64 = 1 << 6;
const UC: u64 = 0;
const WC: u64 = 1;
const WT: u64 = 4;
const WB: u64 = 6;
/// Maps a page, in a table of larger ones.
const PAGE: u64 = 1 << 7;
const A: u64 = 1 << 8;
const D: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// EPTP: accessed and dirty bits.
const EPTP_ACCESSED_DIRTY: u64 = 1 << 6;
/// EPTP: four levels, less one, at bit 3.
const EPTP_WALK_4: u64 = 3 << 3;

/// How extended-page-table entries are written on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ept(EptCaps);

impl Ept {
    /// The format for a CPU with these capabilities.
    #[must_use]
    pub const fn new(caps: &Caps) -> Ept {
        Ept(caps.ept)
    }

    /// EPT pointer for a top table (SDM 3C "Extended-Page-Table Pointer (EPTP)").
    #[must_use]
    pub const fn pointer(&self, root: HostPhys) -> u64 {
        let bits = if self.0.accessed_dirty { EPTP_ACCESSED_DIRTY } else { 0 };
        root.0 & ADDRESS | WB | EPTP_WALK_4 | bits
    }
}

impl Format for Ept {
    #[inline]
    fn table(&self, child: HostPhys) -> u64 {
        child.0 & ADDRESS | R | W | X
    }

    /// Pages that are writable must be readable, those that are executable must be unless the CPU
    /// allows otherwise: other rights give an empty entry.
    #[inline]
    fn leaf(&self, to: HostPhys, size: PageSize, perm: Perm, memory: MemType) -> u64 {
        if !perm.contains(Perm::R) && (perm != Perm::X || !self.0.execute_only) {
            return 0;
        }
        let memory = match memory {
            MemType::WriteBack => WB << TYPE | IGNORE_PAT,
            MemType::WriteThrough => WT << TYPE,
            MemType::WriteCombining => WC << TYPE,
            MemType::Uncacheable => UC << TYPE,
        };
        let page = if size == PageSize::Small { 0 } else { PAGE };
        to.0 & ADDRESS | u64::from(perm.bits()) | memory | page
    }

    #[inline]
    fn is_large(&self, entry: u64) -> bool {
        entry & PAGE != 0
    }

    #[inline]
    fn address(&self, entry: u64) -> HostPhys {
        HostPhys(entry & ADDRESS)
    }

    fn perm(&self, entry: u64) -> Perm {
        Perm::from_bits_truncate(entry as u8)
    }

    fn memory(&self, entry: u64) -> MemType {
        match entry >> TYPE & 7 {
            WB => MemType::WriteBack,
            WT => MemType::WriteThrough,
            WC => MemType::WriteCombining,
            _ => MemType::Uncacheable,
        }
    }

    fn accessed(&self) -> u64 {
        if self.0.accessed_dirty { A } else { 0 }
    }

    fn dirty(&self) -> u64 {
        if self.0.accessed_dirty { D } else { 0 }
    }

    fn largest(&self) -> PageSize {
        self.0.largest
    }
}

// Rights are where `Perm` has them.
const _: () =
    assert!(Perm::R.bits() as u64 == R && Perm::W.bits() as u64 == W && Perm::X.bits() as u64 == X);

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: EptCaps = EptCaps {
        largest: PageSize::Huge,
        accessed_dirty: true,
        execute_only: false,
        invept_single: true,
    };

    #[test]
    fn entries_have_the_manuals_bits() {
        let ept = Ept(CAPS);
        let at = HostPhys(0x1234_5000);
        let ram = ept.leaf(at, PageSize::Small, Perm::RWX, MemType::WriteBack);
        assert_eq!(ram, 0x1234_5077);
        let rom = ept.leaf(at, PageSize::Small, Perm::RX, MemType::Uncacheable);
        assert_eq!(rom, 0x1234_5005);
        let large =
            ept.leaf(HostPhys(0x20_0000), PageSize::Large, Perm::R, MemType::WriteCombining);
        assert_eq!(large, 0x20_0089);
        assert!(ept.is_large(large) && !ept.is_large(ept.table(at)));
        assert_eq!(ept.table(at), 0x1234_5007);
        assert_eq!(ept.pointer(at), 0x1234_505e);
    }

    #[test]
    fn entries_that_the_cpu_would_refuse_come_out_empty() {
        let (at, small) = (HostPhys(0x1000), PageSize::Small);
        assert_eq!(Ept(CAPS).leaf(at, small, Perm::W, MemType::WriteBack), 0);
        assert_eq!(Ept(CAPS).leaf(at, small, Perm::X, MemType::WriteBack), 0);
        let execute_only = Ept(EptCaps { execute_only: true, ..CAPS });
        assert_eq!(execute_only.leaf(at, small, Perm::X, MemType::WriteBack), 0x1074);
        assert_eq!(execute_only.leaf(at, small, Perm::W | Perm::X, MemType::WriteBack), 0);
        assert_eq!(execute_only.leaf(at, small, Perm::empty(), MemType::WriteBack), 0);
    }

    #[test]
    fn rights_and_types_survive_and_bits_follow_the_cpu() {
        let ept = Ept(CAPS);
        for memory in [
            MemType::WriteBack,
            MemType::WriteThrough,
            MemType::WriteCombining,
            MemType::Uncacheable,
        ] {
            for perm in [Perm::R, Perm::RX, Perm::RWX, Perm::R | Perm::W] {
                let entry = ept.leaf(HostPhys(0x4000_0000), PageSize::Huge, perm, memory);
                assert_eq!((ept.perm(entry), ept.memory(entry)), (perm, memory));
                assert_eq!(ept.address(entry), HostPhys(0x4000_0000));
            }
        }
        let old = Ept(EptCaps { accessed_dirty: false, ..CAPS });
        assert_eq!((old.accessed(), old.dirty(), old.pointer(HostPhys(0))), (0, 0, 0x1e));
    }
}
