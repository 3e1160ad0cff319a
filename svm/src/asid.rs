//! Address-space identifiers: one pool per CPU, handed out upwards, all flushed when it runs dry
//! (APM2 "TLB Control").

/// An ASID that a vCPU holds on one CPU. Valid while the pool's generation is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asid {
    /// Which CPU's pool it is of.
    pub cpu: u32,
    /// Generation of the pool that it was taken in.
    pub generation: u64,
    /// 1 or more.
    pub number: u32,
}

/// What must be flushed on the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlb {
    /// Nothing.
    Keep,
    /// All ASIDs: the pool started over.
    FlushAll,
}

/// A CPU's ASIDs.
#[derive(Debug)]
pub struct AsidPool {
    cpu: u32,
    generation: u64,
    next: u32,
    /// Number of ASIDs, 0 included.
    count: u32,
}

impl AsidPool {
    /// The pool of CPU number `cpu` with `count` ASIDs (2 or more), 0 included. Its first ASID
    /// comes with a flush, as nobody knows what ran before.
    #[must_use]
    pub const fn new(cpu: u32, count: u32) -> AsidPool {
        AsidPool { cpu, generation: 0, next: count, count }
    }

    /// The ASID to use for a vCPU that last had `held`. An ASID from another CPU is not taken up
    /// again: the vCPU may have changed its tables there without this CPU's TLB noticing.
    pub fn claim(&mut self, held: Option<Asid>) -> (Asid, Tlb) {
        if let Some(held) = held
            && held.cpu == self.cpu
            && held.generation == self.generation
        {
            return (held, Tlb::Keep);
        }
        let mut tlb = Tlb::Keep;
        if self.next >= self.count {
            self.generation += 1;
            self.next = 1;
            tlb = Tlb::FlushAll;
        }
        let asid = Asid { cpu: self.cpu, generation: self.generation, number: self.next };
        self.next += 1;
        (asid, tlb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_asid_flushes_and_is_kept_while_the_generation_lasts() {
        let mut pool = AsidPool::new(0, 4);
        let (first, tlb) = pool.claim(None);
        assert_eq!((first.number, tlb), (1, Tlb::FlushAll));
        assert_eq!(pool.claim(Some(first)), (first, Tlb::Keep));
    }

    #[test]
    fn a_dry_pool_starts_over_and_old_holders_get_new_numbers() {
        let mut pool = AsidPool::new(0, 3);
        let (a, _) = pool.claim(None);
        let (b, tlb) = pool.claim(None);
        assert_eq!((a.number, b.number, tlb), (1, 2, Tlb::Keep));
        let (c, tlb) = pool.claim(None);
        assert_eq!((c.number, tlb), (1, Tlb::FlushAll));
        let (a2, tlb) = pool.claim(Some(a));
        assert_eq!((a2.number, tlb), (2, Tlb::Keep));
    }

    #[test]
    fn moving_to_another_cpu_and_back_takes_new_asids() {
        let (mut zero, mut one) = (AsidPool::new(0, 8), AsidPool::new(1, 8));
        let (first, _) = zero.claim(None);
        let (there, _) = one.claim(Some(first));
        let (back, _) = zero.claim(Some(there));
        assert_eq!(there.cpu, 1);
        assert_ne!(back.number, first.number);
    }

    #[test]
    fn no_two_holders_of_one_generation_share_a_number_and_none_is_zero() {
        let mut pool = AsidPool::new(0, 16);
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let (asid, _) = pool.claim(None);
            assert!(seen.insert((asid.generation, asid.number)));
            assert!((1..16).contains(&asid.number));
        }
    }
}
