//! What can a hostile kernel do by Xen's interface? Random hypercalls with random arguments, rings and tables full
//! of noise, then all of it with addresses anywhere. It may ruin itself, and nobody else.

#![no_std]
#![no_main]

use support::random::Random;
use support::xen::{self, call, evtchn, param};
use support::{cpu, expect, guest, mem, println};

guest!("xen-hostile", main);

/// Pages that arguments point into and that hypercalls may exchange.
const ARENA_PAGES: usize = 64;
/// Hypercalls of each phase.
const CALLS: u32 = 6_000;

/// `sched_op` that is left out: it would end, or never come back.
const ENDS: [u64; 6] = [0, 1, 2, 3, 5, 6];

struct Hostile {
    random: Random,
    arena: usize,
    /// Pages that the hypervisor reads: shared info, grant table, rings.
    shared: [usize; 4],
    /// Addresses and frames may be anything.
    wild: bool,
}

impl Hostile {
    /// A number as such fields have them: small ones, numbers of this domain and of the arena's frames, limits.
    fn number(&mut self) -> u64 {
        let any = self.random.next();
        match self.random.below(10) {
            0..=3 => any % 16,
            4 => xen::SELF.into(),
            5 => self.frame(),
            6 => self.address(),
            7 => 1 << (any % 64),
            8 => (1u64 << (any % 64)).wrapping_sub(1 + any % 3),
            _ => any,
        }
    }

    fn frame(&mut self) -> u64 {
        (self.arena >> 12) as u64 + self.random.below(ARENA_PAGES as u64)
    }

    /// An address: in the arena, over its pages' ends, or anywhere.
    fn address(&mut self) -> u64 {
        let any = self.random.next();
        match self.random.below(if self.wild { 4 } else { 3 }) {
            0 | 1 => self.arena as u64 + any % (ARENA_PAGES as u64 * 4096 - 4096),
            2 => self.arena as u64 + (any % (ARENA_PAGES as u64 - 1)) * 4096 + 4080 + any % 16,
            _ => any >> (any % 64),
        }
    }

    /// Fills an argument with numbers of 16, 32 or 64 bits.
    fn fill(&mut self, at: u64) {
        // Other addresses are nobody's, or the guest's own ruin.
        let arena = self.arena as u64..(self.arena + ARENA_PAGES * 4096 - 128) as u64;
        if !arena.contains(&at) {
            return;
        }
        let (mut place, end) = (at as usize, at as usize + 64);
        while place < end {
            let number = self.number();
            match self.random.below(3) {
                0 => mem::write(place, number as u16),
                1 => mem::write(place, number as u32),
                _ => mem::write(place, number),
            }
            place += [2, 4, 8][self.random.below(3) as usize];
        }
    }

    fn hypercall(&mut self) {
        let number = match self.random.below(11) {
            0 => call::MEMORY_OP,
            1 | 2 => call::GRANT_TABLE_OP,
            3 | 4 => call::EVENT_CHANNEL_OP,
            5 => call::HVM_OP,
            6 => call::VCPU_OP,
            7 => call::XEN_VERSION,
            8 => call::SCHED_OP,
            _ => self.random.below(64) as u32,
        };
        let operation = self.random.below(40);
        let at = self.address();
        self.fill(at);
        let mut args = [operation, at, self.random.below(40), self.number(), self.number()];
        match number {
            // The page's entry for IRET is an undefined instruction; the old `sched_op`, and lists of calls, may
            // sleep for ever.
            6 | 13 | 23 => return,
            call::SCHED_OP if ENDS.contains(&operation) => return,
            call::CONSOLE_IO => args = [at, self.random.below(8), at, 0, 0],
            // Pages of the arena are exchanged for others, unless all may go.
            call::MEMORY_OP if !self.wild => {
                args[0] = [7, 15][self.random.below(2) as usize];
                args[1] = at & !7;
                (1..4).for_each(|n| mem::write(args[1] as usize + n * 8, self.frame()));
            }
            call::GRANT_TABLE_OP | call::MEMORY_OP | call::EVENT_CHANNEL_OP | call::SCHED_OP => {}
            _ if self.wild => args[0] = self.number(),
            _ => {}
        }
        xen::hypercall(number, args);
    }

    /// Noise in a page that the hypervisor reads, and a bell for its back ends.
    fn disturb(&mut self) {
        let page = self.shared[self.random.below(4) as usize];
        for _ in 0..1 + self.random.below(16) {
            let number = self.number();
            // Indices of both rings among them: 800h to 810h and C00h to C10h.
            let offset = match self.random.below(3) {
                0 => [0x800, 0x804, 0x808, 0x80c, 0xc00, 0xc04, 0xc08, 0xc0c]
                    [self.random.below(8) as usize],
                _ => self.random.below(1023) as usize * 4,
            };
            mem::write(page + offset, number as u32);
        }
        let port = match self.random.below(3) {
            0 => xen::get_param(param::STORE_EVTCHN) as u32,
            1 => xen::get_param(param::CONSOLE_EVTCHN) as u32,
            _ => self.number() as u32,
        };
        xen::port_op(evtchn::SEND, port);
    }

    /// A whole message of the store with a path of noise.
    fn message(&mut self) {
        let page = self.shared[2];
        let at: u32 = mem::read(page + 2052);
        let len = self.random.below(200) as u32;
        let header = [self.random.below(24) as u32, 1, self.random.below(3) as u32, len];
        let mut place = at;
        let mut put = |byte: u8| {
            mem::write(page + (place as usize & 1023), byte);
            place = place.wrapping_add(1);
        };
        header.into_iter().flat_map(u32::to_le_bytes).for_each(&mut put);
        for n in 0..len {
            let any = self.random.next();
            put(if n % 7 == 0 {
                b'/'
            } else if any & 15 == 0 {
                any as u8 >> 4
            } else {
                b'a'
            });
        }
        // Answers are taken unread.
        mem::write(page + 2052, place);
        mem::write(page + 2056, mem::read::<u32>(page + 2060));
        xen::port_op(evtchn::SEND, xen::get_param(param::STORE_EVTCHN) as u32);
    }

    fn phase(&mut self) {
        for n in 0..CALLS {
            match n % 8 {
                0..=5 => self.hypercall(),
                6 => self.disturb(),
                _ => self.message(),
            }
        }
    }
}

fn main() {
    cpu::cli();
    xen::init();
    let grants = mem::pages(1);
    xen::show_page(1, 0, grants);
    let ring = |which| (xen::get_param(which) << 12) as usize;
    let shared = [xen::shared_info(), grants, ring(param::STORE_PFN), ring(param::CONSOLE_PFN)];
    let arena = mem::pages(ARENA_PAGES);
    let mut hostile = Hostile { random: Random::new(0x4e57), arena, shared, wild: false };
    hostile.phase();
    println!("xen-hostile: {CALLS} rounds with addresses of its own");
    expect("anything");
    hostile.wild = true;
    hostile.phase();
    println!("xen-hostile: {CALLS} rounds with addresses anywhere");
}
