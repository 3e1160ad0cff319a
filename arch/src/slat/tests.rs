use super::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::vec::Vec;

const P: u64 = 1;
const W: u64 = 2;
const LARGE: u64 = 1 << 7;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const X: u64 = 1 << 8;
const UC: u64 = 1 << 9;
const TABLE: u64 = 1 << 10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

#[derive(Clone, Copy, Debug)]
struct Plain {
    largest: PageSize,
}

impl Format for Plain {
    fn table(&self, child: HostPhys) -> u64 {
        child.0 | P | TABLE
    }
    fn leaf(&self, to: HostPhys, size: PageSize, perm: Perm, memory: MemType) -> u64 {
        assert!(to.is_aligned(size.bytes()), "a page starts at a multiple of its size");
        if !perm.contains(Perm::R) {
            return 0;
        }
        to.0 | P
            | if size == PageSize::Small { 0 } else { LARGE }
            | if perm.contains(Perm::W) { W } else { 0 }
            | if perm.contains(Perm::X) { X } else { 0 }
            | if memory == MemType::Uncacheable { UC } else { 0 }
    }
    fn is_large(&self, entry: u64) -> bool {
        entry & LARGE != 0
    }
    fn address(&self, entry: u64) -> HostPhys {
        HostPhys(entry & ADDRESS)
    }
    fn perm(&self, entry: u64) -> Perm {
        let mut perm = Perm::R;
        perm.set(Perm::W, entry & W != 0);
        perm.set(Perm::X, entry & X != 0);
        perm
    }
    fn memory(&self, entry: u64) -> MemType {
        if entry & UC != 0 { MemType::Uncacheable } else { MemType::WriteBack }
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

type View = Option<(u64, Perm)>;

/// A store that walks the table after every write, as another CPU might, and compares each probe
/// with what it may be: the old mapping, or the new one.
#[derive(Default)]
struct Watched {
    frames: HashMap<u64, Vec<u64>>,
    next: u64,
    root: u64,
    /// Address, and what another CPU may see there.
    probes: Vec<(u64, Vec<View>)>,
    writes: usize,
    frames_left: Option<usize>,
    /// Sets accessed and dirty bits of the entry before the next compare-exchange, as a CPU might.
    interfere: RefCell<Option<u64>>,
}

impl Watched {
    fn walk(&self, at: u64) -> View {
        let mut table = self.root;
        for level in (1..=4).rev() {
            let frame = self.frames.get(&table).expect("a linked table is alive");
            let entry = frame[(at >> (3 + 9 * level)) as usize & 511];
            if entry & P == 0 {
                assert_eq!(entry, 0);
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                assert!(level < 4 && entry & TABLE == 0);
                let mask = (1u64 << (3 + 9 * level)) - 1;
                assert_eq!(entry & ADDRESS & mask, 0, "reserved bits of a large page");
                let mut perm = Perm::R;
                perm.set(Perm::W, entry & W != 0);
                perm.set(Perm::X, entry & X != 0);
                return Some((entry & ADDRESS | (at & mask), perm));
            }
            assert!(entry & TABLE != 0, "only a table above the leaf");
            table = entry & ADDRESS;
        }
        unreachable!()
    }

    fn check(&mut self) {
        self.writes += 1;
        if self.root == 0 {
            return;
        }
        for (at, allowed) in &self.probes {
            let seen = self.walk(*at);
            assert!(allowed.contains(&seen), "write {}: {at:#x} is {seen:?}", self.writes);
        }
    }

    /// Expects every probe to keep its mapping, except those in `from..to`, which may also become
    /// `after`.
    fn watch(&mut self, at: &[u64], after: impl Fn(u64) -> Option<View>) {
        self.probes = at
            .iter()
            .map(|&at| {
                let mut allowed = std::vec![self.walk(at)];
                allowed.extend(after(at));
                (at, allowed)
            })
            .collect();
    }
}

impl FrameStore for Watched {
    fn alloc(&mut self) -> Option<HostPhys> {
        if let Some(left) = &mut self.frames_left {
            *left = left.checked_sub(1)?;
        }
        self.next += 0x1000;
        self.frames.insert(self.next, std::vec![0; ENTRIES]);
        Some(HostPhys(self.next))
    }
    fn free(&mut self, table: HostPhys) {
        self.frames.remove(&table.0).expect("freed once");
        self.check();
    }
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        self.frames[&table.0][index]
    }
    fn write(&mut self, table: HostPhys, index: usize, entry: u64) {
        self.frames.get_mut(&table.0).unwrap()[index] = entry;
        self.check();
    }
    fn compare_exchange(
        &mut self,
        table: HostPhys,
        index: usize,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        let slot = &mut self.frames.get_mut(&table.0).unwrap()[index];
        if let Some(bits) = self.interfere.take() {
            *slot |= bits;
        }
        if *slot != current {
            return Err(*slot);
        }
        *slot = new;
        self.check();
        Ok(())
    }
}

fn new(largest: PageSize) -> (Slat<Plain>, Watched) {
    let mut store = Watched::default();
    let slat = Slat::new(Plain { largest }, &mut store).unwrap();
    store.root = slat.root().0;
    (slat, store)
}

fn range(from: u64, bytes: u64) -> Range {
    Range { from: GuestPhys(from), bytes }
}

fn size(slat: &Slat<Plain>, store: &Watched, at: u64) -> Option<PageSize> {
    slat.lookup(store, GuestPhys(at)).map(|mapping| mapping.size)
}

const WB: MemType = MemType::WriteBack;
const TWO_M: u64 = LARGE_PAGE;
const ONE_G: u64 = HUGE_PAGE;

#[test]
fn a_range_is_mapped_in_the_largest_pages_that_alignment_allows() {
    let (mut slat, mut store) = new(PageSize::Huge);
    let from = ONE_G - TWO_M - 0x1000;
    let bytes = 0x1000 + TWO_M + ONE_G + 3 * TWO_M + 0x2000;
    let to = HostPhys(8 * ONE_G + from);
    let flush = slat.map(&mut store, range(from, bytes), to, Perm::RWX, WB);
    assert_eq!(flush, Ok(Flush::No), "nothing was there before");
    for (at, want) in [
        (from - 1, None),
        (from, Some(PageSize::Small)),
        (ONE_G - TWO_M, Some(PageSize::Large)),
        (ONE_G, Some(PageSize::Huge)),
        (2 * ONE_G - 1, Some(PageSize::Huge)),
        (2 * ONE_G + TWO_M, Some(PageSize::Large)),
        (2 * ONE_G + 3 * TWO_M + 0x1fff, Some(PageSize::Small)),
        (2 * ONE_G + 3 * TWO_M + 0x2000, None),
    ] {
        assert_eq!(size(&slat, &store, at), want, "{at:#x}");
        if want.is_some() {
            let found = slat.lookup(&store, GuestPhys(at)).unwrap();
            assert_eq!((found.to, found.perm), (HostPhys(8 * ONE_G + at), Perm::RWX));
        }
    }
}

#[test]
fn pages_are_no_larger_than_the_cpu_and_the_host_address_allow() {
    let (mut slat, mut store) = new(PageSize::Large);
    let _ = slat.map(&mut store, range(0, ONE_G), HostPhys(0), Perm::RWX, WB).unwrap();
    assert_eq!(size(&slat, &store, 0), Some(PageSize::Large));
    let (mut slat, mut store) = new(PageSize::Huge);
    let _ = slat.map(&mut store, range(0, ONE_G), HostPhys(TWO_M), Perm::RWX, WB).unwrap();
    assert_eq!(size(&slat, &store, 0), Some(PageSize::Large));
    let _ = slat.map(&mut store, range(ONE_G, ONE_G), HostPhys(0x1000), Perm::RWX, WB).unwrap();
    assert_eq!(size(&slat, &store, ONE_G), Some(PageSize::Small));
}

#[test]
fn a_hole_in_a_huge_page_splits_it_and_every_step_on_the_way_is_valid() {
    let (mut slat, mut store) = new(PageSize::Huge);
    let _ = slat.map(&mut store, range(0, ONE_G), HostPhys(4 * ONE_G), Perm::RWX, WB).unwrap();
    let hole = TWO_M + 0x5000;
    let probes = [0, 0x5000, TWO_M, hole - 1, hole, hole + 0x1000, 2 * TWO_M, ONE_G - 1];
    store.watch(&probes, |at| (at == hole).then_some(None));
    assert_eq!(slat.unmap(&mut store, range(hole, 0x1000)), Ok(Flush::Yes));
    assert_eq!(slat.lookup(&store, GuestPhys(hole)), None);
    assert_eq!(size(&slat, &store, hole - 1), Some(PageSize::Small));
    assert_eq!(size(&slat, &store, 2 * TWO_M), Some(PageSize::Large));
    assert!(store.writes > 1024, "the checks ran");
}

#[test]
fn a_large_page_over_a_table_replaces_it_at_once_and_then_gives_it_back() {
    let (mut slat, mut store) = new(PageSize::Huge);
    for page in 0..4 {
        let at = TWO_M + page * 0x1000;
        let _ = slat.map(&mut store, range(at, 0x1000), HostPhys(at), Perm::R, WB).unwrap();
    }
    let frames = store.frames.len();
    let to = 4 * ONE_G;
    store.watch(&[TWO_M, TWO_M + 0x3000, TWO_M + 0x4000], |at| {
        Some(Some((to + (at - TWO_M), Perm::RWX)))
    });
    let flush = slat.map(&mut store, range(TWO_M, TWO_M), HostPhys(to), Perm::RWX, WB);
    assert_eq!(flush, Ok(Flush::Yes));
    assert_eq!(store.frames.len(), frames - 1);
    assert_eq!(size(&slat, &store, TWO_M), Some(PageSize::Large));
}

#[test]
fn protect_keeps_holes_addresses_and_accessed_bits() {
    let (mut slat, mut store) = new(PageSize::Huge);
    let _ = slat.map(&mut store, range(0, TWO_M), HostPhys(ONE_G), Perm::RWX, WB).unwrap();
    let uc = MemType::Uncacheable;
    let _ = slat.map(&mut store, range(0x3000, 0x1000), HostPhys(0x9000), Perm::RWX, uc).unwrap();
    let _ = slat.unmap(&mut store, range(0x4000, 0x1000)).unwrap();
    store.watch(&[0, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000], |at| match at {
        0x2000 | 0x5000 => Some(Some((ONE_G + at, Perm::R))),
        0x3000 => Some(Some((0x9000, Perm::R))),
        _ => None,
    });
    *store.interfere.borrow_mut() = Some(A | D);
    assert_eq!(slat.protect(&mut store, range(0x2000, 0x4000), Perm::R), Ok(Flush::Yes));
    assert_eq!(slat.protect(&mut store, range(0x3000, 0x1000), Perm::R), Ok(Flush::No));
    let first = slat.lookup(&store, GuestPhys(0x2000)).unwrap();
    assert!(first.accessed && first.dirty, "what the CPU set meanwhile stays");
    let third = slat.lookup(&store, GuestPhys(0x3008)).unwrap();
    assert_eq!((third.to, third.memory), (HostPhys(0x9008), uc));
    assert_eq!(slat.lookup(&store, GuestPhys(0x4000)), None);
    store.watch(&[0, 0x1000, 0x2000, 0x3000], |at| (at == 0x2000).then_some(None));
    assert_eq!(slat.protect(&mut store, range(0x2000, 0x1000), Perm::empty()), Ok(Flush::Yes));
    assert_eq!(slat.lookup(&store, GuestPhys(0x2000)), None);
}

#[test]
fn a_split_takes_over_bits_that_the_cpu_sets_while_it_is_prepared() {
    let (mut slat, mut store) = new(PageSize::Huge);
    let _ = slat.map(&mut store, range(0, TWO_M), HostPhys(ONE_G), Perm::RWX, WB).unwrap();
    *store.interfere.borrow_mut() = Some(A | D);
    let _ = slat.protect(&mut store, range(0x1000, 0x1000), Perm::RX).unwrap();
    assert!(slat.lookup(&store, GuestPhys(0x7000)).unwrap().dirty);
    let _ = slat.clear_dirty(&mut store, range(0x7000, 0x1000)).unwrap();
    let page = slat.lookup(&store, GuestPhys(0x7000)).unwrap();
    assert!(page.accessed && !page.dirty);
    assert!(slat.lookup(&store, GuestPhys(0x8000)).unwrap().dirty);
}

#[test]
fn unmapping_whole_tables_gives_their_frames_back() {
    let (mut slat, mut store) = new(PageSize::Large);
    let _ = slat.map(&mut store, range(0x1000, ONE_G), HostPhys(0), Perm::RWX, WB).unwrap();
    assert!(store.frames.len() > 512);
    store.watch(&[0x1000, TWO_M, ONE_G], |_| Some(None));
    assert_eq!(slat.unmap(&mut store, range(0, 2 * ONE_G)), Ok(Flush::Yes));
    assert_eq!(store.frames.len(), 2, "the top two levels stay");
    store.root = 0;
    slat.destroy(&mut store);
    assert!(store.frames.is_empty());
}

#[test]
fn bad_ranges_and_a_lack_of_memory_are_errors() {
    let (mut slat, mut store) = new(PageSize::Huge);
    let mut map =
        |from, bytes, to| slat.map(&mut store, range(from, bytes), HostPhys(to), Perm::RWX, WB);
    assert_eq!(map(1, 0x1000, 0), Err(SlatError::Misaligned));
    assert_eq!(map(0, 0x800, 0), Err(SlatError::Misaligned));
    assert_eq!(map(0, 0x1000, 8), Err(SlatError::Misaligned));
    assert_eq!(map(LIMIT, 0x1000, 0), Err(SlatError::OutOfRange));
    assert_eq!(map(!0xfff, 0x1000, 0), Err(SlatError::OutOfRange));
    store.frames_left = Some(2);
    let flush = slat.map(&mut store, range(0, 0x1000), HostPhys(0), Perm::RWX, WB);
    assert_eq!(flush, Err(SlatError::NoMemory));
    store.frames_left = None;
    assert!(slat.map(&mut store, range(0, 0x1000), HostPhys(0), Perm::RWX, WB).is_ok());
    assert_eq!(slat.lookup(&store, GuestPhys(LIMIT)), None);
}

/// A seeded random walk against a flat model.
#[test]
fn random_operations_agree_with_a_flat_model_at_every_step() {
    let (mut slat, mut store) = new(PageSize::Large);
    const PAGES: u64 = 1536;
    let mut model: Vec<View> = std::vec![None; PAGES as usize];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..200 {
        let mut from = random(PAGES);
        let mut count = 1 + random(PAGES - from);
        if random(2) == 0 {
            (from, count) = (from & !511, 512);
        }
        let to = if random(2) == 0 { 0x4000_0000 } else { 0x4000_3000 };
        let what = random(3);
        let perm = if random(2) == 0 { Perm::RWX } else { Perm::RX };
        let inside = |at: u64| (from..from + count).contains(&(at >> 12));
        let old = model.clone();
        let after = |at: u64| match what {
            0 => Some((to + at, perm)),
            1 => None,
            _ => old[(at >> 12) as usize].map(|(to, _)| (to, perm)),
        };
        let probes: Vec<u64> = (0..8).map(|_| random(PAGES) << 12).collect();
        store.watch(&probes, |at| inside(at).then(|| after(at)));
        let run = range(from << 12, count << 12);
        let _ = match what {
            0 => slat.map(&mut store, run, HostPhys(to + (from << 12)), perm, WB),
            1 => slat.unmap(&mut store, run),
            _ => slat.protect(&mut store, run, perm),
        }
        .unwrap();
        for page in from..from + count {
            model[page as usize] = after(page << 12);
        }
        for (page, want) in model.iter().enumerate() {
            let found = slat.lookup(&store, GuestPhys((page as u64) << 12));
            assert_eq!(found.map(|found| (found.to.0, found.perm)), *want, "page {page}");
        }
    }
}
