//! The entries that a walk passes: whoever keeps what it found at an address can tell later, by a few loads, whether
//! the same walk would still end there.

use super::{ADDRESS, Mode, P, PS, Paging};
use crate::addr::{GuestPhys, GuestVirt};
use crate::ram::GuestRam;

/// The entries that a walk passed, for who wants to know later whether it would end in the same place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Where it ended.
    pub gpa: u64,
    /// The entries from the top: address, and value.
    entries: [(u64, u64); 5],
    count: u8,
    /// Bytes of an entry: 4 or 8.
    pub width: u8,
}

impl Path {
    /// Address and value of each entry, from the top.
    #[must_use]
    pub fn entries(&self) -> &[(u64, u64)] {
        self.entries.get(..usize::from(self.count)).unwrap_or_default()
    }

    fn push(&mut self, at: u64, entry: u64) {
        if let Some(slot) = self.entries.get_mut(usize::from(self.count)) {
            *slot = (at, entry);
            self.count += 1;
        }
    }
}

impl Paging {
    /// The way to `at` through tables in RAM, rights aside. `None` where it leads nowhere.
    #[must_use]
    pub fn path(&self, ram: &GuestRam, at: GuestVirt) -> Option<Path> {
        let wide = self.mode != Mode::Bits32;
        let mut path = Path { width: if wide { 8 } else { 4 }, ..Path::default() };
        // Bits of the linear address that choose an entry of the top table, and of the others.
        let (linear, mut shift, top_bits, bits) = match self.mode {
            Mode::Off => {
                path.gpa = at.0 & 0xffff_ffff;
                return Some(path);
            }
            Mode::Bits32 => (at.0 & 0xffff_ffff, 22, 10, 10),
            Mode::Pae => (at.0 & 0xffff_ffff, 30, 2, 9),
            Mode::Levels4 => (at.0, 39, 9, 9),
            Mode::Levels5 => (at.0, 48, 9, 9),
        };
        let mut table = match self.mode {
            Mode::Bits32 => self.cr3 & 0xffff_f000,
            Mode::Pae => self.cr3 & 0xffff_ffe0,
            _ => self.cr3 & ADDRESS,
        };
        let mut index_bits = top_bits;
        loop {
            let index = linear >> shift & ((1 << index_bits) - 1);
            let slot = table + index * u64::from(path.width);
            let entry = match wide {
                true => ram.read_u64(GuestPhys(slot))?,
                false => ram.read_u32(GuestPhys(slot))?.into(),
            };
            if entry & P == 0 {
                return None;
            }
            path.push(slot, entry);
            // A page-directory-pointer entry of PAE maps no page.
            let large = entry & PS != 0 && ((wide && shift <= 30) || self.pse()) && index_bits != 2;
            if shift == 12 || large {
                let low = (1u64 << shift) - 1;
                let high =
                    if wide { 0 } else { (u64::from(shift == 22) * (entry & 0x1f_e000)) << 19 };
                path.gpa = entry & ADDRESS & !low | high | linear & low;
                return Some(path);
            }
            table = entry & ADDRESS;
            shift -= bits;
            index_bits = bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{U, W};
    use super::*;
    use crate::access::Access;
    use crate::control::{cr0, cr4, efer};
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    /// Tables full of entries that point at each other, so that every walk ends somewhere.
    fn ram(seed: u64) -> GuestRam {
        let mut state = seed;
        let cells: Vec<AtomicU64> = (0..0x8000 / 8)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let table = (state >> 33 & 7) << 12;
                let large = if state >> 40 & 3 == 0 { PS } else { 0 };
                AtomicU64::new((table | P | W | U | large) & !0x1f_0000)
            })
            .collect();
        GuestRam::new(Vec::leak(cells), &[])
    }

    #[test]
    fn a_path_ends_where_the_walk_ends_and_names_words_that_are_in_memory() {
        let modes = [
            (cr0::PE, 0, 0),
            (cr0::PE | cr0::PG, 0, 0),
            (cr0::PE | cr0::PG, cr4::PSE, 0),
            (cr0::PE | cr0::PG, cr4::PAE, 0),
            (cr0::PE | cr0::PG, cr4::PAE, efer::LMA | efer::LME),
            (cr0::PE | cr0::PG, cr4::PAE | cr4::LA57, efer::LMA | efer::LME),
        ];
        let mut compared = 0;
        for seed in 0..64 {
            let ram = ram(seed);
            for (cr0, cr4, efer) in modes {
                let paging = Paging::new(cr0, 0x1000, cr4, efer, 0, 40);
                for n in 0..32u64 {
                    let at = GuestVirt(n.wrapping_mul(0x0000_1357_9bdf_1357) & 0x7fff_ffff_ffff);
                    let (Ok(found), Some(path)) =
                        (paging.peek(&ram, at, Access::READ), paging.path(&ram, at))
                    else {
                        continue;
                    };
                    assert_eq!(GuestPhys(path.gpa), found.gpa, "{paging:?} {at:?}");
                    compared += 1;
                    for (slot, entry) in path.entries() {
                        let value = match path.width {
                            8 => ram.read_u64(GuestPhys(*slot)).unwrap(),
                            _ => ram.read_u32(GuestPhys(*slot)).unwrap().into(),
                        };
                        assert_eq!(value, *entry);
                    }
                }
            }
        }
        assert!(compared > 3000, "{compared}");
    }
}
