//! A hostile kernel at Xen's interface, in both widths: seeded hypercalls with arguments that may be
//! right, wrong or absurd, noise in every page that is shared, and at the end nothing is left.

use arch::{Exit, GuestPhys, Vcpu, Why};
use host_tests::{Guest, Mode, Rng, Setup};
use pvdrivers::DomId;
use pvdrivers::abi::{Hypercall, Width};

/// Memory of the guest that arguments point into.
const ARENA: u64 = 0x20_0000;
const ARENA_BYTES: u64 = 0x10_0000;

/// A guest, and what it has seen.
struct Hostile {
    guest: Guest,
    width: Width,
    rng: Rng,
    /// Calls that returned 0 or more.
    good: u32,
    /// Calls that returned an error.
    refused: u32,
}

impl Hostile {
    fn new(width: Width, seed: u64) -> Hostile {
        let mut guest = Guest::with(Setup { xen: true, vcpus: 2, ..Setup::default() });
        let mode = if width == Width::Bits64 { Mode::Long } else { Mode::Protected };
        guest.set_mode(0, mode);
        Hostile { guest, width, rng: Rng::new(seed), good: 0, refused: 0 }
    }

    /// A number as fields have them: small, of this domain, of the arena, at limits.
    fn number(&mut self) -> u64 {
        let any = self.rng.next_u64();
        match self.rng.below(9) {
            0..=3 => any % 16,
            4 => DomId::SELF.0.into(),
            5 => (ARENA >> 12) + any % (ARENA_BYTES >> 12),
            6 => self.address(),
            7 => (1u64 << (any % 64)).wrapping_sub(any & 1),
            _ => any,
        }
    }

    fn address(&mut self) -> u64 {
        let any = self.rng.next_u64();
        match self.rng.below(8) {
            // The page's end, the memory's end, and anywhere.
            0 => ARENA + (any % 255 + 1) * 4096 - 1 - any % 24,
            1 => ARENA + ARENA_BYTES - any % 64,
            2 => any,
            _ => ARENA + any % (ARENA_BYTES - 256),
        }
    }

    fn fill(&mut self, at: u64) {
        let mut place = at;
        while place < at.saturating_add(72) {
            let (width, number) = (self.rng.pick(&[2u8, 4, 8]), self.number());
            // What lies outside the RAM stays unwritten.
            let _ = self.guest.machine.ram.write(GuestPhys(place), width, number);
            place += u64::from(width);
        }
    }

    fn hypercall(&mut self) -> Option<Why> {
        let known = [
            Hypercall::MEMORY_OP.0,
            Hypercall::GRANT_TABLE_OP.0,
            Hypercall::EVENT_CHANNEL_OP.0,
            Hypercall::HVM_OP.0,
            Hypercall::VCPU_OP.0,
            Hypercall::SCHED_OP.0,
            Hypercall::XEN_VERSION.0,
            13, // multicall
        ];
        let any = self.rng.below(64);
        let number = if self.rng.below(10) == 0 { any } else { self.rng.pick(&known) };
        let at = self.address();
        self.fill(at);
        let operation = if self.rng.below(20) == 0 { self.number() } else { self.rng.below(36) };
        let (second, count) = (self.number(), self.rng.below(70));
        let args = match number {
            13 => [at, count, second],
            // An index, and then the argument.
            24 => [operation, self.rng.below(4), at],
            _ => [operation, at, count],
        };
        let vcpu = &mut self.guest.vcpus[0];
        let (rip, start) = (vcpu.rip, number);
        vcpu.gprs.set_rax(start);
        match self.width {
            Width::Bits64 => {
                vcpu.gprs.set_rdi(args[0]);
                vcpu.gprs.set_rsi(args[1]);
            }
            Width::Bits32 => {
                vcpu.gprs.set_rbx(args[0]);
                vcpu.gprs.set_rcx(args[1]);
            }
        }
        vcpu.gprs.set_rdx(args[2]);
        // A call that goes on later is made again, as a CPU would.
        for _ in 0..100 {
            let vcpu = &mut self.guest.vcpus[0];
            vcpu.next_rip = Some(rip.wrapping_add(3));
            let why = self.guest.exit(Exit::Hypercall);
            if why.is_some() {
                return why;
            }
            if self.guest.vcpus[0].rip != rip {
                break;
            }
        }
        let rax = self.guest.vcpus[0].gprs.rax();
        let bad = match self.width {
            Width::Bits64 => (rax as i64) < 0,
            Width::Bits32 => (rax as u32 as i32) < 0,
        };
        if bad {
            self.refused += 1
        } else {
            self.good += 1
        }
        self.guest.vcpus[0].set_rip(rip);
        None
    }

    /// Noise in a page that the hypervisor reads: shared info, rings, grant table.
    fn disturb(&mut self) {
        let number = self.rng.below(6) as usize;
        let (offset, value) = (self.rng.below(1024) as usize * 4, self.number() as u32);
        let xen = self.guest.machine.xen().expect("built with Xen's interface");
        if let Some(page) = xen.page(number) {
            page.write(offset, 4, value.into()).expect("in the page");
        }
    }

    /// A life of so many calls, and its end. Whether it ended by its own will.
    fn live(&mut self, calls: u32) -> bool {
        for _ in 0..calls {
            if self.hypercall().is_some() {
                return true;
            }
            if self.rng.below(4) == 0 {
                self.disturb();
            }
            self.guest.host.take_calls();
        }
        false
    }
}

fn lives(width: Width) {
    let (mut good, mut refused, mut ended) = (0, 0, 0);
    for seed in 0..40 {
        let mut hostile = Hostile::new(width, seed);
        ended += u32::from(hostile.live(300));
        (good, refused) = (good + hostile.good, refused + hostile.refused);
        let guest = &hostile.guest;
        let hub = guest.machine.xen().expect("built with Xen's interface").hub;
        guest.machine.leave_xen(&guest.host);
        let (ports, grants) =
            (hub.events.lock().usage(DomId(1)), hub.grants.lock().usage(DomId(1)));
        assert!(ports.is_none() && grants.is_none(), "seed {seed}: {ports:?} {grants:?}");
        // Back ends, domain 0, have no port of its left.
        let backend = hub.events.lock().usage(DomId::BACKEND).expect("domain 0");
        assert_eq!(backend.ports, 0, "seed {seed}");
        assert!(guest.machine.power_on(&guest.host), "seed {seed}: it can be switched on again");
    }
    // The walk reaches both sides of the checks.
    assert!(good > 500 && refused > 1_000, "{good} calls were good, {refused} refused");
    assert!(ended > 0, "nobody was shut down");
}

#[test]
fn seeded_hypercalls_of_64_bit_kernels_end_well_and_leave_nothing() {
    lives(Width::Bits64);
}

#[test]
fn seeded_hypercalls_of_32_bit_kernels_end_well_and_leave_nothing() {
    lives(Width::Bits32);
}
