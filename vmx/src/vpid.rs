//! Virtual-processor identifiers: one pool per CPU, handed out upwards; who gets one flushes what
//! an earlier holder may have left under it (SDM 3C "Caching Translation Information").

/// A VPID that a vCPU holds on one CPU. Valid while the pool's generation is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vpid {
    /// Which CPU's pool it is of.
    pub cpu: u32,
    /// Generation of the pool that it was taken in.
    pub generation: u64,
    /// 1 or more.
    pub number: u16,
}

/// What a claim calls for before the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is the one that was held.
    Kept,
    /// The VPID is new to the vCPU: flush it, and the second-level translations that this CPU may
    /// hold from an earlier stay.
    New,
}

/// A CPU's VPIDs. 0 is the host's.
#[derive(Debug)]
pub struct VpidPool {
    cpu: u32,
    generation: u64,
    /// The next to give; 0 when the pool starts over.
    next: u16,
}

impl VpidPool {
    /// The pool of CPU number `cpu`.
    #[must_use]
    pub const fn new(cpu: u32) -> VpidPool {
        VpidPool { cpu, generation: 0, next: 0 }
    }

    /// Makes every VPID that was given void, so that the next claims are all new.
    pub const fn start_over(&mut self) {
        self.next = 0;
        self.generation += 1;
    }

    /// The VPID to use for a vCPU that last had `held`. One from another CPU is not taken up again:
    /// the vCPU may have changed its tables there without this CPU noticing.
    pub fn claim(&mut self, held: Option<Vpid>) -> (Vpid, Claim) {
        if let Some(held) = held
            && held.cpu == self.cpu
            && held.generation == self.generation
        {
            return (held, Claim::Kept);
        }
        if self.next == 0 {
            self.generation += 1;
            self.next = 1;
        }
        let vpid = Vpid { cpu: self.cpu, generation: self.generation, number: self.next };
        self.next = self.next.wrapping_add(1);
        (vpid, Claim::New)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vpid_is_kept_while_the_vcpu_stays() {
        let mut pool = VpidPool::new(3);
        let (first, claim) = pool.claim(None);
        assert_eq!((first.number, claim), (1, Claim::New));
        assert_eq!(pool.claim(Some(first)), (first, Claim::Kept));
        let (second, claim) = pool.claim(None);
        assert_eq!((second.number, claim), (2, Claim::New));
    }

    #[test]
    fn starting_over_voids_what_is_held() {
        let mut pool = VpidPool::new(0);
        let (held, _) = pool.claim(None);
        pool.start_over();
        assert_eq!(pool.claim(Some(held)).1, Claim::New);
    }

    #[test]
    fn a_vpid_from_another_cpu_is_replaced() {
        let mut pool = VpidPool::new(0);
        let elsewhere = Vpid { cpu: 1, generation: 1, number: 1 };
        assert_eq!(pool.claim(Some(elsewhere)).1, Claim::New);
        assert_eq!(pool.claim(Some(elsewhere)).0.number, 2);
    }

    #[test]
    fn a_dry_pool_starts_over_and_old_vpids_are_void() {
        let mut pool = VpidPool::new(0);
        let (first, _) = pool.claim(None);
        for _ in 1..u16::MAX {
            assert_eq!(pool.claim(None).1, Claim::New);
        }
        let (again, claim) = pool.claim(None);
        assert_eq!((again.number, claim), (1, Claim::New));
        assert_ne!(again, first);
        assert_eq!(pool.claim(Some(first)).1, Claim::New);
    }
}
