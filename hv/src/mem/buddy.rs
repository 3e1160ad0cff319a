//! Which frames are free: a buddy allocator whose whole state is bitmaps, two bits a frame.
//! Each order has a tree of bitmaps over its blocks (a bit above means "some bit below is set"),
//! so both the lowest and the highest free block are found in a few words. It touches no frame
//! and holds no pointer; `mem/frames.rs` gives it storage and a lock.

/// Largest order: 2^18 frames of 4 KiB are 1 GiB.
pub const MAX_ORDER: usize = 18;
const ORDERS: usize = MAX_ORDER + 1;
/// Runs of up to 2 MiB are short.
const SHORT_ORDER: usize = 9;
const LEVELS: usize = 5;
const BITS: usize = 64;
/// Most frames that it knows of: 4 TiB of 4 KiB each.
pub const MOST_FRAMES: usize = BITS.pow(LEVELS as u32);

/// Which free block an allocation prefers, among those of the smallest size that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The highest: keeps memory below 4 GiB for those who need it.
    High,
    /// The lowest, and the block must end at or below this frame number.
    Below(usize),
}

/// Frames below 1 MiB.
const LOW_FRAMES: usize = 256;

/// A buddy allocator over frames `0..frames`, all taken at first.
#[derive(Debug)]
pub struct Buddy<'a> {
    bits: &'a mut [u64],
    /// Where each level of each order starts in `bits`.
    starts: [[usize; LEVELS]; ORDERS],
    levels: [usize; ORDERS],
    frames: usize,
    free: usize,
}

/// `u64` words of storage that `frames` frames need.
#[must_use]
pub const fn storage_words(frames: usize) -> usize {
    let mut total = 0;
    let mut order = 0;
    while order < ORDERS {
        let mut words = (frames >> order).div_ceil(BITS);
        loop {
            total += if words == 0 { 1 } else { words };
            if words <= 1 {
                break;
            }
            words = words.div_ceil(BITS);
        }
        order += 1;
    }
    total
}

impl<'a> Buddy<'a> {
    /// An allocator with every frame taken. `bits` is [`storage_words`] long or longer.
    ///
    /// # Panics
    /// If the storage is too short or `frames` is beyond 4 TiB.
    #[must_use]
    pub fn new(bits: &'a mut [u64], frames: usize) -> Buddy<'a> {
        assert!(bits.len() >= storage_words(frames) && frames <= MOST_FRAMES);
        bits.fill(0);
        let (mut starts, mut levels) = ([[0; LEVELS]; ORDERS], [0; ORDERS]);
        let mut at = 0;
        for order in 0..ORDERS {
            let mut words = (frames >> order).div_ceil(BITS).max(1);
            loop {
                starts[order][levels[order]] = at;
                levels[order] += 1;
                at += words;
                if words == 1 {
                    break;
                }
                words = words.div_ceil(BITS);
            }
        }
        Buddy { bits, starts, levels, frames, free: 0 }
    }

    /// Free frames.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.free
    }

    /// True if `frame` is free.
    #[must_use]
    pub fn is_free(&self, frame: usize) -> bool {
        self.block_at(frame).is_some()
    }

    /// Takes a block of 2^`order` frames; its first frame.
    pub fn alloc(&mut self, order: usize, prefer: Prefer) -> Option<usize> {
        assert!(order <= MAX_ORDER);
        let search = |least: usize| {
            (order..ORDERS).find_map(|o| {
                let frame = self.find(o, prefer == Prefer::High)? << o;
                match prefer {
                    Prefer::Below(limit) if frame + (1 << order) > limit => None,
                    Prefer::High if frame < least => None,
                    _ => Some((o, frame)),
                }
            })
        };
        // A larger block is split before low memory is touched, which starting CPUs need.
        let (from, frame) = search(LOW_FRAMES).or_else(|| search(0))?;
        self.clear(from, frame >> from);
        let mut frame = frame;
        for o in (order..from).rev() {
            let upper = frame + (1 << o);
            if prefer == Prefer::High {
                self.set(o, frame >> o);
                frame = upper;
            } else {
                self.set(o, upper >> o);
            }
        }
        self.free -= 1 << order;
        Some(frame)
    }

    /// Gives a block back and joins it with free neighbours.
    ///
    /// # Panics
    /// If the block is not aligned, outside, or (partly) free already.
    pub fn free(&mut self, frame: usize, order: usize) {
        assert!(order <= MAX_ORDER && frame.is_multiple_of(1 << order));
        assert!(frame + (1 << order) <= self.frames, "frame {frame:#x} is outside of memory");
        assert!(self.block_at(frame).is_none(), "frame {frame:#x} is free already");
        self.free += 1 << order;
        let (mut frame, mut order) = (frame, order);
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            if buddy + (1 << order) > self.frames || !self.is_set(order, buddy >> order) {
                break;
            }
            self.clear(order, buddy >> order);
            frame &= !(1 << order);
            order += 1;
        }
        self.set(order, frame >> order);
    }

    /// Gives back the frames `start..end`.
    pub fn free_range(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let align = if at == 0 { MAX_ORDER } else { at.trailing_zeros() as usize };
            let order = align.min((end - at).ilog2() as usize).min(MAX_ORDER);
            self.free(at, order);
            at += 1 << order;
        }
    }

    /// Takes `count` frames in a row, the first a multiple of `align`: short ones out of a block that holds them, long
    /// ones, such as guests' memory, as high as there is such a run, so that they lie close together. Give them
    /// back with [`Buddy::free_range`].
    pub fn alloc_run(&mut self, count: usize, align: usize) -> Option<usize> {
        assert!(count > 0 && align.is_power_of_two());
        let order = count.max(align).next_power_of_two().trailing_zeros() as usize;
        // The search below passes what is taken run by run, which takes long below a guest of many gigabytes if the
        // run is short.
        if order <= SHORT_ORDER
            && let Some(frame) = self.alloc(order, Prefer::High)
        {
            self.free_range(frame + count, frame + (1 << order));
            return Some(frame);
        }
        let mut start = self.frames.checked_sub(count)? & !(align - 1);
        'candidate: loop {
            let mut at = start;
            while at < start + count {
                let Some((base, order)) = self.block_at(at) else {
                    start = at.checked_sub(count)? & !(align - 1);
                    continue 'candidate;
                };
                at = base + (1 << order);
            }
            self.take_range(start, start + count);
            return Some(start);
        }
    }

    /// Takes `start..end`, all of which is free.
    fn take_range(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let (base, order) = self.block_at(at).expect("the run was checked to be free");
            let block_end = base + (1 << order);
            self.clear(order, base >> order);
            self.free -= 1 << order;
            self.free_range(base, at);
            self.free_range(end.min(block_end), block_end);
            at = block_end;
        }
    }

    /// The free block that holds `frame`.
    fn block_at(&self, frame: usize) -> Option<(usize, usize)> {
        let order = (0..ORDERS).find(|&o| self.is_set(o, frame >> o))?;
        Some((frame & !((1 << order) - 1), order))
    }

    fn is_set(&self, order: usize, block: usize) -> bool {
        if block >= self.frames >> order {
            return false;
        }
        self.bits[self.starts[order][0] + block / BITS] >> (block % BITS) & 1 != 0
    }

    fn set(&mut self, order: usize, block: usize) {
        let mut index = block;
        for level in 0..self.levels[order] {
            self.bits[self.starts[order][level] + index / BITS] |= 1 << (index % BITS);
            index /= BITS;
        }
    }

    fn clear(&mut self, order: usize, block: usize) {
        let mut index = block;
        for level in 0..self.levels[order] {
            let word = &mut self.bits[self.starts[order][level] + index / BITS];
            *word &= !(1 << (index % BITS));
            if *word != 0 {
                break;
            }
            index /= BITS;
        }
    }

    /// The highest or lowest free block of `order`.
    fn find(&self, order: usize, highest: bool) -> Option<usize> {
        let mut index = 0;
        for level in (0..self.levels[order]).rev() {
            let word = self.bits[self.starts[order][level] + index];
            if word == 0 {
                return None;
            }
            let bit = if highest { word.ilog2() } else { word.trailing_zeros() };
            index = index * BITS + bit as usize;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(frames: usize) -> Vec<u64> {
        vec![u64::MAX; storage_words(frames)]
    }

    #[test]
    fn high_and_low_requests_come_from_opposite_ends() {
        let mut bits = storage(1024);
        let mut buddy = Buddy::new(&mut bits, 1024);
        buddy.free_range(0, 1000);
        assert_eq!(buddy.alloc(0, Prefer::High), Some(999));
        assert_eq!(buddy.alloc(0, Prefer::Below(256)), Some(0));
        assert_eq!(buddy.alloc(9, Prefer::Below(256)), None);
        assert_eq!(buddy.free_frames(), 998);
    }

    #[test]
    fn memories_of_guests_lie_so_that_as_many_as_possible_fit() {
        // Two of 256 MiB in 560 MiB.
        let (first, end) = (1000, 143_360);
        let mut bits = storage(end);
        let mut buddy = Buddy::new(&mut bits, end);
        buddy.free_range(first, end);
        assert_eq!(buddy.alloc_run(65_536, 512), Some(77_824));
        assert!(buddy.alloc_run(3, 1).is_some_and(|frame| frame >= first));
        assert!(buddy.alloc_run(65_536, 512).is_some_and(|frame| frame < 77_824));
    }

    #[test]
    fn single_pages_come_from_large_blocks_before_low_memory_is_touched() {
        let mut bits = storage(1024);
        let mut buddy = Buddy::new(&mut bits, 1024);
        buddy.free_range(1, 160);
        buddy.free_range(512, 1024);
        for _ in 0..512 {
            assert!(buddy.alloc(0, Prefer::High).is_some_and(|frame| frame >= 512));
        }
        assert!(buddy.alloc(0, Prefer::High).is_some_and(|frame| frame < 160), "or else that");
        assert!(buddy.alloc(0, Prefer::Below(256)).is_some());
    }

    #[test]
    fn freeing_both_halves_joins_them_up_to_the_largest_block() {
        let frames = 1 << 19;
        let mut bits = storage(frames);
        let mut buddy = Buddy::new(&mut bits, frames);
        buddy.free_range(0, frames);
        let one = buddy.alloc(0, Prefer::High).unwrap();
        assert!(buddy.alloc(MAX_ORDER, Prefer::High).is_some());
        assert!(buddy.alloc(MAX_ORDER, Prefer::High).is_none());
        buddy.free(one, 0);
        assert!(buddy.alloc(MAX_ORDER, Prefer::High).is_some());
    }

    #[test]
    fn a_run_longer_than_any_block_is_found_across_blocks() {
        let mut bits = storage(1000);
        let mut buddy = Buddy::new(&mut bits, 1000);
        buddy.free_range(100, 900);
        let start = buddy.alloc_run(700, 4).unwrap();
        assert_eq!(start, 200);
        assert_eq!(buddy.free_frames(), 100);
        assert!(buddy.alloc_run(101, 1).is_none());
        buddy.free_range(start, start + 700);
        assert_eq!(buddy.alloc_run(800, 1), Some(100));
    }

    #[test]
    #[should_panic(expected = "free already")]
    fn a_double_free_is_caught() {
        let mut bits = storage(64);
        let mut buddy = Buddy::new(&mut bits, 64);
        buddy.free_range(0, 64);
        buddy.free(3, 0);
    }

    #[test]
    fn a_random_walk_never_hands_out_a_frame_twice_and_loses_none() {
        const FRAMES: usize = 5000;
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut random = move |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as usize
        };
        let mut bits = storage(FRAMES);
        let mut buddy = Buddy::new(&mut bits, FRAMES);
        let mut owned = vec![true; FRAMES];
        buddy.free_range(7, 4900);
        owned[7..4900].fill(false);
        let mut live: Vec<(usize, usize)> = Vec::new();
        for _ in 0..20_000 {
            if random(2) == 0 || live.is_empty() {
                let (start, count) = match random(3) {
                    0 => {
                        let count = 1 + random(90);
                        (buddy.alloc_run(count, 1 << random(4)), count)
                    }
                    n => {
                        let order = random(7);
                        let prefer = if n == 1 { Prefer::High } else { Prefer::Below(3000) };
                        (buddy.alloc(order, prefer), 1 << order)
                    }
                };
                let Some(start) = start else { continue };
                assert!(owned[start..start + count].iter().all(|&o| !o));
                owned[start..start + count].fill(true);
                live.push((start, count));
            } else {
                let (start, count) = live.swap_remove(random(live.len()));
                owned[start..start + count].fill(false);
                buddy.free_range(start, start + count);
            }
            assert_eq!(buddy.free_frames(), owned.iter().filter(|&&o| !o).count());
        }
        for (start, count) in live {
            buddy.free_range(start, start + count);
        }
        assert_eq!(buddy.alloc_run(4893, 1), Some(7));
    }
}
