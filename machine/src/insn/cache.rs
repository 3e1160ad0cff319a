//! Decoded instructions by address and mode, with the words of guest memory that they depend on: the
//! page-table entries on the way to them, and their own bytes.
//!
//! An entry counts only while all those words are as they were, so changed code or tables miss.

use super::Insn;
use alloc::boxed::Box;
use arch::control::efer;
use arch::paging::Path;
use arch::{GuestPhys, GuestRam, SegReg, SysReg, Vcpu};
use core::sync::atomic::{AtomicU64, Ordering};

/// Entries; a power of two.
const SIZE: usize = 64;
/// Words of an entry: up to three of code, five of tables.
const WORDS: usize = 8;
/// Accessed and dirty: they come and go without changing where an entry leads.
const MARKS: u64 = 0x60;

/// Where an instruction is, and all registers that say what its bytes mean there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// RIP.
    pub rip: u64,
    /// CR3.
    pub cr3: u64,
    /// Base of CS.
    pub base: u64,
    /// CR0, CR4, EFER and 16, 32 or 64 bits, in one word.
    pub mode: u64,
}

impl Key {
    /// Of the instruction that the vCPU stands at, `bits` being the size of its code segment.
    #[inline]
    pub fn of<V: Vcpu>(vcpu: &V, bits: u32) -> Key {
        // CR0 has no bits 8 to 15, CR4 none from 26 on; of EFER only LMA, LME and NXE rule a walk.
        let mode = vcpu.reg(SysReg::Cr0)
            ^ vcpu.reg(SysReg::Cr4) << 32
            ^ (vcpu.reg(SysReg::Efer) & (efer::LMA | efer::LME | efer::NXE)) << 50
            ^ u64::from(bits) << 8;
        Key {
            rip: vcpu.rip(),
            cr3: vcpu.reg(SysReg::Cr3),
            base: vcpu.segment(SegReg::Cs).base,
            mode,
        }
    }
}

/// Eight bytes of guest memory, those under `mask` as they were.
#[derive(Clone, Copy)]
struct Word {
    now: &'static AtomicU64,
    mask: u64,
    value: u64,
}

/// What words that are not used compare: always the same.
static NOTHING: AtomicU64 = AtomicU64::new(0);

impl Word {
    const NONE: Word = Word { now: &NOTHING, mask: 0, value: 0 };

    #[inline]
    fn holds(&self) -> bool {
        (self.now.load(Ordering::Relaxed) ^ self.value) & self.mask == 0
    }
}

struct Entry {
    key: Key,
    words: [Word; WORDS],
    /// How many words there are, and how many of them, from the first, are code. 0: no entry.
    count: u8,
    code: u8,
    /// Its length is the same in every mode: it has neither memory operand nor immediate.
    plain: bool,
    insn: Insn,
}

impl Entry {
    /// The instruction, if this is the entry of `key` and its memory is unchanged.
    #[inline(always)]
    fn get(&self, key: &Key) -> Option<&Insn> {
        if self.key != *key || self.count == 0 {
            return None;
        }
        // Two thirds of all entries have at most five words; those beyond the last hold always.
        let (often, seldom) = self.words.split_at(WORDS - 3);
        let same =
            often.iter().all(Word::holds) && (self.count <= 5 || seldom.iter().all(Word::holds));
        same.then_some(&self.insn)
    }

    #[inline(always)]
    fn len(&self, rip: u64, cr3: u64, base: u64) -> Option<u8> {
        let key = &self.key;
        if key.rip != rip || key.cr3 != cr3 || key.base != base || !self.plain {
            return None;
        }
        let [first, second, third, ..] = &self.words;
        let same = first.holds() && (self.code == 1 || (second.holds() && third.holds()));
        same.then_some(self.insn.len)
    }
}

/// A cache of decoded instructions, one per vCPU. Each has two places. The newer is in the first of them, which costs
/// least to look at; an older one that wants it too is in the other. With one place, two instructions that take turns
/// and share it (a WRMSR that sends an interrupt, and the one that ends it) are decoded each time, for 1,400 each.
pub struct InsnCache {
    entries: Box<[Entry; SIZE]>,
}

impl Default for InsnCache {
    fn default() -> Self {
        let empty = || Entry {
            key: Key::default(),
            words: [Word::NONE; WORDS],
            count: 0,
            code: 0,
            plain: false,
            insn: Insn::OTHER,
        };
        let entries: Box<[Entry]> = (0..SIZE).map(|_| empty()).collect();
        match entries.try_into() {
            Ok(entries) => InsnCache { entries },
            Err(_) => unreachable!("as many as were made"),
        }
    }
}

#[inline]
fn slot(rip: u64) -> usize {
    (rip ^ rip >> 6) as usize & (SIZE - 1)
}

impl InsnCache {
    /// The decoded instruction at `key`, if the memory that it was made of is unchanged.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &Key) -> Option<&Insn> {
        let place = slot(key.rip);
        match self.entries[place].get(key) {
            None => self.get_second(place ^ 1, key),
            found => found,
        }
    }

    #[inline(never)]
    fn get_second(&self, place: usize, key: &Key) -> Option<&Insn> {
        self.entries[place].get(key)
    }

    /// The length of an instruction that exited by itself, such as CPUID: only its bytes are compared, as the
    /// CPU has said what it is.
    #[must_use]
    #[inline(always)]
    pub fn len(&self, rip: u64, cr3: u64, base: u64) -> Option<u8> {
        let place = slot(rip);
        match self.entries[place].len(rip, cr3, base) {
            None => self.len_second(place ^ 1, rip, cr3, base),
            found => found,
        }
    }

    #[inline(never)]
    fn len_second(&self, place: usize, rip: u64, cr3: u64, base: u64) -> Option<u8> {
        self.entries[place].len(rip, cr3, base)
    }

    /// Keeps an instruction that was decoded from the memory at the end of `path`.
    pub fn put(&mut self, key: Key, path: &Path, ram: &GuestRam, insn: Insn) {
        let mut words = [Word::NONE; WORDS];
        let mut count = 0;
        let mut add = |at: u64, mask: u64| -> Option<()> {
            let now = ram.word(GuestPhys(at))?;
            *words.get_mut(count)? = Word { now, mask, value: now.load(Ordering::Relaxed) };
            count += 1;
            Some(())
        };
        let (first, last) = (path.gpa, path.gpa + u64::from(insn.len) - 1);
        let mut code = 0;
        for at in (first & !7..=last).step_by(8) {
            let from = first.max(at) - at;
            let to = last.min(at + 7) - at;
            let mask = (u64::MAX >> (8 * (7 - to + from))) << (8 * from);
            if add(at, mask).is_none() {
                return;
            }
            code += 1;
        }
        for (at, _) in path.entries() {
            let mask = match path.width {
                8 => !MARKS,
                _ => (0xffff_ffff & !MARKS) << (8 * (at & 4)),
            };
            if add(at & !7, mask).is_none() {
                return;
            }
        }
        let place = slot(key.rip);
        if self.entries[place].count != 0 && self.entries[place].key != key {
            self.entries.swap(place, place ^ 1);
        }
        self.entries[place] =
            Entry { key, words, count: count as u8, code, plain: insn.plain, insn };
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;
    use arch::{GuestVirt, Paging};
    use core::sync::atomic::AtomicU64;

    const CODE: u64 = 0x5ffd;

    /// 4-level tables at 1000h to 4000h that map the page at 5000h to itself.
    fn ram(code: &[u8]) -> GuestRam {
        let cells: alloc::vec::Vec<AtomicU64> = (0..0x1000).map(|_| AtomicU64::new(0)).collect();
        let ram = GuestRam::new(cells.leak(), &[]);
        for (at, entry) in [
            (0x1000, 0x2027),
            (0x2000, 0x3027),
            (0x3000, 0x4027),
            (0x4028, 0x5027),
            (0x4030, 0x6027),
        ] {
            ram.write_u64(GuestPhys(at), entry).unwrap();
        }
        ram.write_slice(GuestPhys(CODE), code).unwrap();
        ram
    }

    fn path(ram: &GuestRam) -> Path {
        let paging = Paging::new(0x8000_0001, 0x1000, 0x20, 0x500, 0, 40);
        paging.path(ram, GuestVirt(CODE)).unwrap()
    }

    fn kept(code: &[u8]) -> (InsnCache, GuestRam, Key) {
        let ram = ram(code);
        let key = Key { rip: CODE, cr3: 0x1000, base: 0, mode: 64 };
        let mut cache = InsnCache::default();
        let mut bytes = [0; 15];
        bytes[..code.len()].copy_from_slice(code);
        cache.put(key, &path(&ram), &ram, decode(&bytes, CODE, 64).unwrap());
        (cache, ram, key)
    }

    fn len(cache: &InsnCache) -> Option<u8> {
        cache.len(CODE, 0x1000, 0)
    }

    #[test]
    fn changed_bytes_miss_and_bytes_beside_the_instruction_do_not_matter() {
        let (cache, ram, key) = kept(&[0x0f, 0xa2]);
        assert_eq!(cache.get(&key).map(|insn| insn.len), Some(2));
        assert_eq!(len(&cache), Some(2));
        ram.write_u8(GuestPhys(CODE - 1), 0xcc).unwrap();
        ram.write_u8(GuestPhys(CODE + 2), 0xcc).unwrap();
        assert!(cache.get(&key).is_some());
        for n in 0..2 {
            let old = ram.read_u8(GuestPhys(CODE + n)).unwrap();
            ram.write_u8(GuestPhys(CODE + n), old ^ 1).unwrap();
            assert!(cache.get(&key).is_none());
            assert_eq!(len(&cache), None);
            ram.write_u8(GuestPhys(CODE + n), old).unwrap();
            assert!(cache.get(&key).is_some());
        }
    }

    #[test]
    fn bytes_in_a_second_word_are_compared_too() {
        // mov dword [rax + 0xb0], 0: 10 bytes over the words at 5ff8h, 6000h.
        let (cache, ram, key) = kept(&[0xc7, 0x80, 0xb0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cache.get(&key).map(|insn| insn.len), Some(10));
        ram.write_u8(GuestPhys(CODE + 9), 1).unwrap();
        assert!(cache.get(&key).is_none());
    }

    #[test]
    fn a_changed_table_on_the_way_misses_and_an_accessed_bit_does_not() {
        for table in [0x1000u64, 0x2000, 0x3000, 0x4028] {
            let (cache, ram, key) = kept(&[0x0f, 0xa2]);
            let old = ram.read_u64(GuestPhys(table)).unwrap();
            ram.write_u64(GuestPhys(table), old ^ 0x60).unwrap();
            assert!(cache.get(&key).is_some(), "{table:#x}");
            ram.write_u64(GuestPhys(table), old ^ 0x1000).unwrap();
            assert!(cache.get(&key).is_none(), "{table:#x}");
        }
    }

    #[test]
    fn another_mode_address_space_or_code_segment_misses() {
        let (cache, _, key) = kept(&[0x0f, 0xa2]);
        assert!(cache.get(&Key { mode: 32, ..key }).is_none());
        assert!(cache.get(&Key { cr3: 0x2000, ..key }).is_none());
        assert!(cache.get(&Key { base: 16, ..key }).is_none());
        assert!(cache.get(&Key { rip: CODE + 64, ..key }).is_none());
        assert_eq!(cache.len(CODE, 0x2000, 0), None);
        assert_eq!(cache.len(CODE, 0x1000, 16), None);
        assert!(InsnCache::default().get(&Key::default()).is_none());
        assert_eq!(InsnCache::default().len(0, 0, 0), None);
    }

    #[test]
    fn two_instructions_that_want_the_same_place_are_both_kept_and_a_third_costs_the_oldest() {
        let (mut cache, ram, first) = kept(&[0x0f, 0xa2]);
        let alike = |rip: u64| (rip..).find(|other| slot(*other) == slot(CODE)).unwrap();
        let second = alike(CODE + 1);
        let third = alike(second + 1);
        let insn = decode(&[0x0f, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, 64).unwrap();
        for (rip, kept) in [(second, [true, true, false]), (third, [false, true, true])] {
            cache.put(Key { rip, ..first }, &path(&ram), &ram, insn);
            for (rip, kept) in [CODE, second, third].into_iter().zip(kept) {
                assert_eq!(cache.get(&Key { rip, ..first }).is_some(), kept, "{rip:#x}");
                assert_eq!(cache.len(rip, 0x1000, 0).is_some(), kept, "{rip:#x}");
            }
        }
    }

    #[test]
    fn what_has_a_memory_operand_is_as_long_as_its_mode_says() {
        // LMSW [disp]: 5 bytes in 16-bit code, 7 in 32-bit code.
        let (cache, _, _) = kept(&[0x0f, 0x01, 0x34, 0x25, 0, 0x10, 0, 0]);
        assert_eq!(len(&cache), None);
    }
}
