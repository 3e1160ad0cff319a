//! Seeded random walks: no event is lost, none comes to the wrong vCPU's queue twice, counts stay
//! right.

use super::*;
use crate::abi::xen::Virq;
use crate::event::ChannelState;
use std::collections::BTreeMap;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % bound
    }
}

/// What a guest should see.
#[derive(Default)]
struct Model {
    /// Ports that can be sent to, and whether they are pending and masked.
    ports: BTreeMap<u32, (bool, bool)>,
}

/// One guest that sends to itself, with one ABI.
fn walk(seed: u64, fifo: bool) {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut channels = two_guests();
    let mut guest = fifo.then(|| {
        let mut guest = FifoGuest::new(&mut channels, A, 2);
        let _ = guest.expand(&mut channels, false);
        guest
    });
    let mut model = Model::default();
    let shared = channels.vcpu_info(A, 0).unwrap().0;
    let set_mask = |guest: &Option<FifoGuest>, port: u32| match guest {
        Some(guest) => guest.set(port, FIFO_MASKED),
        None => {
            let _ = shared.fetch_or(2560 + port as usize / 32 * 4, 4, 1 << (port % 32)).unwrap();
        }
    };
    for _ in 0..600 {
        let nth = rng.below(model.ports.len().max(1) as u32) as usize;
        let some = model.ports.keys().copied().nth(nth);
        match (rng.below(9), some) {
            (0 | 1, _) if model.ports.len() < 40 => {
                // Two ends of one channel, so that ports can move between vCPUs.
                let own = channels.alloc_unbound(A, A, A).unwrap();
                let (peer, _) = channels.bind_interdomain(A, A, own).unwrap();
                for port in [own.0, peer.0] {
                    model.ports.insert(port, (port == peer.0, false));
                    let _ = channels.unmask(A, Port(port)).unwrap();
                }
            }
            (2..=4, Some(port)) => {
                if let ChannelState::Interdomain { port: peer, .. } =
                    channels.status(A, A, Port(port)).unwrap().state
                {
                    let _ = channels.send(A, Port(port)).unwrap();
                    model.ports.get_mut(&peer.0).unwrap().0 = true;
                }
            }
            (5, Some(port)) => {
                let masked = &mut model.ports.get_mut(&port).unwrap().1;
                if *masked {
                    let _ = channels.unmask(A, Port(port)).unwrap();
                } else {
                    set_mask(&guest, port);
                }
                *masked = !*masked;
            }
            (6, Some(port)) => channels.bind_vcpu(A, Port(port), rng.below(2)).unwrap(),
            (7, Some(port)) => {
                if fifo && rng.below(2) == 0 {
                    channels.set_priority(A, Port(port), rng.below(16)).unwrap();
                } else if rng.below(3) == 0 {
                    // Unmasked first: a closed port's mask stays, as in Xen.
                    let _ = channels.unmask(A, Port(port)).unwrap();
                    channels.close(A, Port(port)).unwrap();
                    model.ports.remove(&port);
                }
            }
            (8, _) => take_all(&mut channels, &mut guest, &mut model),
            _ => {}
        }
        assert_eq!(channels.usage(A).unwrap().ports as usize, model.ports.len());
        for (port, (pending, masked)) in &model.ports {
            assert_eq!(channels.is_pending(A, Port(*port)), *pending, "port {port}");
            assert_eq!(channels.is_masked(A, Port(*port)), *masked, "port {port}");
        }
    }
    take_all(&mut channels, &mut guest, &mut model);
    remove(&mut channels, A);
    assert_eq!(channels.domains().count(), 2);
}

/// The guest takes all its events: exactly those that are pending and not masked.
fn take_all(channels: &mut EventChannels, guest: &mut Option<FifoGuest>, model: &mut Model) {
    let mut seen = BTreeSet::new();
    for vcpu in 0..2 {
        match guest {
            Some(guest) => {
                for event in guest.consume(vcpu) {
                    assert!(seen.insert(event), "port {event} twice");
                }
                let (info, at) = channels.vcpu_info(A, vcpu as u16).unwrap();
                info.write(at, 1, 0).unwrap();
            }
            None => seen.append(&mut consume_two_level(channels, A, vcpu as u16)),
        }
    }
    for (port, (pending, masked)) in &mut model.ports {
        assert_eq!(seen.remove(port), *pending && !*masked, "port {port}");
        *pending &= *masked;
    }
    assert!(seen.is_empty(), "events of ports that are not bound: {seen:?}");
}

#[test]
fn no_event_is_lost_in_random_walks_with_the_2_level_abi() {
    for seed in 0..60 {
        walk(seed, false);
    }
}

#[test]
fn no_event_is_lost_in_random_walks_with_the_fifo_abi() {
    for seed in 0..60 {
        walk(seed, true);
    }
}

#[test]
fn three_domains_that_come_and_go_leave_no_ports_in_each_other() {
    for seed in 1..40 {
        let mut rng = Rng(seed * 7919);
        let mut channels = EventChannels::new();
        for _ in 0..500 {
            let dom = DomId(1 + rng.below(3) as u16);
            let other = DomId(rng.below(4) as u16);
            let port = Port(rng.below(20));
            match rng.below(10) {
                0 => {
                    let _ = channels.add_domain(dom, &Settings { max_port: 15, ..settings() });
                }
                1 => remove(&mut channels, dom),
                2 | 3 => drop(channels.alloc_unbound(dom, DomId::SELF, other)),
                4 | 5 => drop(channels.bind_interdomain(dom, other, port)),
                6 => drop(channels.close(dom, port)),
                7 => drop(channels.bind_virq(dom, rng.below(14), rng.below(3))),
                8 => drop(channels.send(dom, port)),
                _ => {
                    let _ = channels.raise_virq(dom, 0, Virq(rng.below(30)));
                }
            }
            both_ends_agree(&channels);
        }
        for dom in 1..4 {
            remove(&mut channels, DomId(dom));
        }
        assert_eq!(channels.domains().collect::<Vec<_>>(), [HV]);
    }
}

fn both_ends_agree(channels: &EventChannels) {
    for dom in channels.domains() {
        let mut active = 0;
        for port in (1..128).map(Port) {
            let Ok(status) = channels.status(HV, dom, port) else { continue };
            active += u32::from(status.state != ChannelState::Free);
            if let ChannelState::Interdomain { remote, port: peer } = status.state {
                let theirs = channels.status(HV, remote, peer).unwrap().state;
                assert_eq!(theirs, ChannelState::Interdomain { remote: dom, port });
            }
        }
        assert_eq!(channels.usage(dom).unwrap().ports, active);
    }
}
