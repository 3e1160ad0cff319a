//! Nested page-table entries: the format of long-mode pages (APM2 "Nested Paging").

use arch::slat::{Format, MemType, PageSize};
use arch::{HostPhys, Perm};

const P: u64 = 1;
const RW: u64 = 1 << 1;
/// Every nested walk counts as a user access.
const US: u64 = 1 << 2;
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// How nested page-table entries are written on this CPU.
///
/// Memory types go through the first four entries of the host's PAT, which must be as reset leaves
/// them: WB, WT, UC-, UC. UC- serves [`MemType::WriteCombining`]: the guest's own PAT then decides
/// (APM2 "Combining Memory Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Npt {
    nx: bool,
    largest: PageSize,
}

impl Npt {
    /// The format for a CPU with these capabilities. Where `nx` is on, EFER.NXE must be on in the
    /// host.
    #[must_use]
    pub const fn new(caps: &crate::Caps) -> Npt {
        Npt { nx: caps.nx, largest: caps.largest_page }
    }
}

impl Format for Npt {
    #[inline]
    fn table(&self, child: HostPhys) -> u64 {
        child.0 & ADDRESS | P | RW | US
    }

    /// Pages are readable or not there: rights without [`Perm::R`] give an empty entry.
    #[inline]
    fn leaf(&self, to: HostPhys, size: PageSize, perm: Perm, memory: MemType) -> u64 {
        if !perm.contains(Perm::R) {
            return 0;
        }
        let mut entry = to.0 & ADDRESS | P | US;
        if size != PageSize::Small {
            entry |= PS;
        }
        if perm.contains(Perm::W) {
            entry |= RW;
        }
        if !perm.contains(Perm::X) && self.nx {
            entry |= NX;
        }
        entry
            | match memory {
                MemType::WriteBack => 0,
                MemType::WriteThrough => PWT,
                MemType::WriteCombining => PCD,
                MemType::Uncacheable => PCD | PWT,
            }
    }

    #[inline]
    fn is_large(&self, entry: u64) -> bool {
        entry & PS != 0
    }

    #[inline]
    fn address(&self, entry: u64) -> HostPhys {
        HostPhys(entry & ADDRESS)
    }

    fn perm(&self, entry: u64) -> Perm {
        let mut perm = Perm::R;
        perm.set(Perm::W, entry & RW != 0);
        perm.set(Perm::X, entry & NX == 0);
        perm
    }

    fn memory(&self, entry: u64) -> MemType {
        match (entry & PCD != 0, entry & PWT != 0) {
            (false, false) => MemType::WriteBack,
            (false, true) => MemType::WriteThrough,
            (true, false) => MemType::WriteCombining,
            (true, true) => MemType::Uncacheable,
        }
    }

    fn accessed(&self) -> u64 {
        A
    }

    fn dirty(&self) -> u64 {
        D
    }

    fn largest(&self) -> PageSize {
        self.largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NPT: Npt = Npt { nx: true, largest: PageSize::Huge };

    #[test]
    fn rights_and_types_survive_the_entry() {
        for bits in 0..8 {
            let perm = Perm::from_bits_retain(bits);
            for memory in [
                MemType::WriteBack,
                MemType::WriteThrough,
                MemType::WriteCombining,
                MemType::Uncacheable,
            ] {
                for size in [PageSize::Small, PageSize::Large, PageSize::Huge] {
                    let entry = NPT.leaf(HostPhys(0x40_0000_0000), size, perm, memory);
                    if !perm.contains(Perm::R) {
                        assert_eq!(entry, 0);
                        continue;
                    }
                    assert_eq!(NPT.address(entry), HostPhys(0x40_0000_0000));
                    assert_eq!((NPT.perm(entry), NPT.memory(entry)), (perm, memory));
                    assert_eq!(NPT.is_large(entry), size != PageSize::Small);
                }
            }
        }
    }

    #[test]
    fn entries_are_what_the_manual_draws() {
        assert_eq!(NPT.table(HostPhys(0x1000)), 0x1007);
        let leaf = |perm, memory| NPT.leaf(HostPhys(0x20_0000), PageSize::Large, perm, memory);
        assert_eq!(leaf(Perm::RWX, MemType::WriteBack), 0x20_0087);
        assert_eq!(leaf(Perm::R, MemType::Uncacheable), 0x8000_0000_0020_009d);
        let old = Npt { nx: false, largest: PageSize::Large };
        assert_eq!(
            old.leaf(HostPhys(0x1000), PageSize::Small, Perm::R, MemType::WriteBack),
            0x1005
        );
    }
}
