//! Seeded random walks: counts equal the uses that are alive, marks say what is true, nothing is
//! left.

use super::*;
use crate::abi::Ulong;
use crate::abi::grant_table::{Copy, CopyPtr, GTF_READING, GTF_WRITING};
use crate::grant::{Removal, Version};

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % bound
    }

    fn dom(&mut self) -> DomId {
        DomId(1 + self.below(3) as u16)
    }
}

/// A use that is alive.
enum Live {
    Map { user: DomId, mapped: Mapped, reference: u32 },
    Unmapping { unmapping: Unmapping, reference: u32, write: bool },
    Pin(Pinned),
}

impl Live {
    /// Owner, reference, for writing.
    fn key(&self) -> (DomId, u32, bool) {
        match self {
            Live::Map { mapped, reference, .. } => (mapped.owner, *reference, mapped.write),
            Live::Unmapping { unmapping, reference, write } => {
                (unmapping.owner, *reference, *write)
            }
            Live::Pin(pinned) => {
                (pinned.owner, pinned.reference.0, pinned.access == GrantAccess::Write)
            }
        }
    }
}

/// The guest writes some entry, mostly one that makes sense.
fn write_entry(world: &World, rng: &mut Rng) {
    let (dom, reference) = (rng.dom(), rng.below(12));
    let flags = [RW, RW, RO, 0, 3, RW | 1 << 8][rng.below(6) as usize];
    let (to, frame) = (DomId(rng.below(4) as u16), rng.below(18));
    if world.tables.get_version(dom, dom) == Ok(Version::V2) {
        let at4 = if flags == 3 { rng.below(4) } else { rng.below(8192) | rng.below(8192) << 16 };
        world.grant2(dom, reference, (flags, to), at4, frame.into());
    } else if world.end_access(dom, reference) {
        world.grant(dom, reference, flags, to, frame);
    }
}

fn step(world: &mut World, rng: &mut Rng, live: &mut Vec<Live>) {
    let (user, owner, reference) = (rng.dom(), rng.dom(), rng.below(12));
    let write = rng.below(2) == 0;
    match rng.below(12) {
        0..=3 => write_entry(world, rng),
        4 | 5 => {
            let at = u64::from(rng.below(8)) << 12 | 1 << 20;
            match world.map(user, owner, reference, write, at) {
                Ok(mapped) if rng.below(8) == 0 => world.tables.abandon(user, mapped),
                Ok(mapped) => live.push(Live::Map { user, mapped, reference }),
                Err(_) => {}
            }
        }
        6 => {
            let access = if write { GrantAccess::Write } else { GrantAccess::Read };
            if let Ok(pinned) = world.pin(owner, reference, access) {
                live.push(Live::Pin(pinned));
            }
        }
        7..=9 if !live.is_empty() => {
            let n = rng.below(live.len() as u32) as usize;
            end(world, rng, live, n);
        }
        10 => {
            let mut side = || CopyPtr {
                frame: Ulong(rng.below(14).into()),
                domid: [1, 2, 3, DomId::SELF.0][rng.below(4) as usize],
                offset: rng.below(4100) as u16,
            };
            let (source, dest) = (side(), side());
            let (len, flags) = (rng.below(300) as u16, rng.below(4) as u16);
            let argument = Copy { source, dest, len, flags, status: 0 };
            let _ = world.tables.copy(user, &argument, &world.memory);
        }
        11 => match rng.below(3) {
            0 => drop(world.tables.swap(user, reference, rng.below(12))),
            1 => {
                let _ = world.tables.set_version(user, 1 + rng.below(2), &mut || Some(page()));
            }
            _ => drop(world.unmap(user, rng.below(20), 1 << 20)),
        },
        _ => {}
    }
    // A handle that was unmapped by its number above is not alive any more.
    live.retain(|use_| match use_ {
        Live::Map { user, mapped, .. } => {
            let probe = UnmapGrantRef { handle: mapped.handle, ..Default::default() };
            world.tables.unmap(*user, &probe).is_ok()
        }
        _ => true,
    });
}

fn end(world: &mut World, rng: &mut Rng, live: &mut Vec<Live>, n: usize) {
    match live.swap_remove(n) {
        Live::Map { user, mapped, reference } => {
            let unmapping = world.begin_unmap(user, mapped.handle, mapped.at.0).unwrap().unwrap();
            if rng.below(2) == 0 {
                let write = mapped.write;
                live.push(Live::Unmapping { unmapping, reference, write });
            } else {
                world.tables.unmapped(unmapping);
            }
        }
        Live::Unmapping { unmapping, .. } => world.tables.unmapped(unmapping),
        Live::Pin(pinned) => world.unpin(pinned),
    }
}

/// What the tables count and mark is what is alive.
fn check(world: &World, live: &[Live]) {
    for dom in [A, B, C] {
        let version = world.tables.get_version(dom, dom).unwrap();
        let mut in_use = 0;
        for reference in 0..12 {
            let uses =
                || live.iter().map(Live::key).filter(|key| (key.0, key.1) == (dom, reference));
            let mut expected = 0;
            if uses().next().is_some() {
                in_use += 1;
                expected |= GTF_READING;
            }
            if uses().any(|(_, _, write)| write) {
                expected |= GTF_WRITING;
            }
            let marks = match version {
                Version::V1 => world.flags(dom, reference),
                Version::V2 => world.status(dom, reference),
            };
            assert_eq!(marks & (GTF_READING | GTF_WRITING), expected, "{dom:?} {reference}");
        }
        assert_eq!(world.in_use(dom), in_use);
        let maps =
            live.iter().filter(|live| matches!(live, Live::Map { user, .. } if *user == dom));
        assert_eq!(world.tables.usage(dom).unwrap().maps as usize, maps.count());
    }
}

#[test]
fn counts_and_marks_equal_the_uses_that_are_alive_in_random_walks() {
    for seed in 1..60 {
        let mut rng = Rng(seed * 0x9e37_79b9);
        let mut world = world();
        let mut live = Vec::new();
        for _ in 0..400 {
            step(&mut world, &mut rng, &mut live);
            check(&world, &live);
        }
        while !live.is_empty() {
            end(&mut world, &mut rng, &mut live, 0);
        }
        check(&world, &live);
    }
}

#[test]
fn domains_that_die_in_the_middle_leave_nothing() {
    for seed in 1..60 {
        let mut rng = Rng(seed * 0x51_7cc1);
        let mut world = world();
        let mut live = Vec::new();
        for _ in 0..300 {
            step(&mut world, &mut rng, &mut live);
        }
        let dead = rng.dom();
        loop {
            match world.tables.remove_domain(dead) {
                Removal::Again => {}
                Removal::Revoke { user, handle, .. } => world.tables.revoked(dead, user, handle),
                Removal::Pinned { .. } => {
                    let held =
                        |live: &Live| !matches!(live, Live::Map { .. }) && live.key().0 == dead;
                    let n = live.iter().position(held).expect("a use that is alive");
                    end(&mut world, &mut rng, &mut live, n);
                }
                Removal::Done => break,
            }
        }
        live.retain(|live| !matches!(live, Live::Map { user, .. } if *user == dead));
        assert_eq!(world.tables.usage(dead), None);
        while !live.is_empty() {
            end(&mut world, &mut rng, &mut live, 0);
        }
        for dom in world.tables.domains().collect::<Vec<_>>() {
            let usage = world.tables.usage(dom).unwrap();
            assert_eq!((usage.in_use, usage.maps), (0, 0));
        }
    }
}
