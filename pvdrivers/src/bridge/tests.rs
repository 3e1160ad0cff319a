use super::queue::FrameQueue;
use super::rate::Bucket;
use super::table::{AGEING_NS, Age, Table};
use super::*;
use std::collections::VecDeque;
use std::vec::Vec;

const NOW: Nanos = Nanos(1_000_000_000);
const A: Mac = [2, 0, 0, 0, 0, 0xa];
const B: Mac = [2, 0, 0, 0, 0, 0xb];
const C: Mac = [2, 0, 0, 0, 0, 0xc];
const ALL: Mac = [0xff; 6];

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to[..], &from, &[0x08, 0x00], &[0; 46]].concat()
}

/// Ports 0 and 1 are guests A and B, port 2 is the way out.
fn bridge() -> (Bridge, [PortId; 3]) {
    let mut bridge = Bridge::new();
    let guest = |mac| PortConfig { mac: Some(mac), filter: true, rate: None };
    let ports = [guest(A), guest(B), PortConfig::default()];
    let ports = ports.map(|config| bridge.add(config, NOW).unwrap());
    (bridge, ports)
}

fn set(ports: &[PortId]) -> PortSet {
    PortSet(ports.iter().fold(0, |set, port| set | 1 << port.0))
}

#[test]
fn a_frame_to_a_known_station_goes_to_its_port_alone() {
    let (mut bridge, [a, b, _]) = bridge();
    assert_eq!(bridge.forward(a, &frame(B, A), NOW), Ok(set(&[b])));
    assert_eq!(bridge.forward(a, &frame(A, A), NOW), Ok(set(&[])), "to itself: nowhere");
}

#[test]
fn unknown_stations_and_groups_go_everywhere_but_back() {
    let (mut bridge, [a, b, out]) = bridge();
    assert_eq!(bridge.forward(a, &frame(C, A), NOW), Ok(set(&[b, out])));
    assert_eq!(bridge.forward(b, &frame(ALL, B), NOW), Ok(set(&[a, out])));
    assert_eq!(bridge.forward(out, &frame([1, 0, 0x5e, 0, 0, 1], C), NOW), Ok(set(&[a, b])));
}

#[test]
fn a_station_is_learned_moves_and_is_forgotten() {
    let (mut bridge, [a, _, out]) = bridge();
    let open = bridge.add(PortConfig::default(), NOW).unwrap();
    assert_eq!(bridge.forward(out, &frame(A, C), NOW), Ok(set(&[a])));
    assert_eq!(bridge.forward(a, &frame(C, A), NOW), Ok(set(&[out])));
    assert_eq!(bridge.forward(open, &frame(A, C), NOW), Ok(set(&[a])));
    assert_eq!(bridge.find(&C, NOW), Some(open), "it has moved");
    assert_eq!(bridge.find(&C, NOW + (AGEING_NS - 1)), Some(open));
    assert_eq!(bridge.find(&C, NOW + AGEING_NS), None);
    assert_eq!(bridge.learned(NOW), 1);
    bridge.remove(open);
    assert_eq!((bridge.find(&C, NOW), bridge.learned(NOW)), (None, 0));
    assert_eq!(bridge.forward(open, &frame(A, C), NOW), Err(Refusal::NoPort));
}

#[test]
fn a_filtered_port_sends_only_from_its_own_address() {
    let (mut bridge, [a, b, out]) = bridge();
    assert_eq!(bridge.forward(a, &frame(B, C), NOW), Err(Refusal::Source));
    assert_eq!(bridge.forward(a, &frame(ALL, B), NOW), Err(Refusal::Source));
    assert_eq!(bridge.find(&C, NOW), None, "nothing is learned of it");
    assert_eq!(bridge.counters(a).unwrap().spoofed, 2);
    // Nor can an open port take a guest's address over.
    assert_eq!(bridge.forward(out, &frame(ALL, A), NOW), Err(Refusal::Source));
    assert_eq!(bridge.forward(b, &frame(A, B), NOW), Ok(set(&[a])));
    assert_eq!(bridge.forward(out, &frame(A, ALL), NOW), Err(Refusal::Source), "a group");
}

#[test]
fn a_station_is_one_ports_only() {
    let (mut bridge, [_, _, out]) = bridge();
    let twin = PortConfig { mac: Some(A), ..PortConfig::default() };
    assert_eq!(bridge.add(twin, NOW), None);
    assert_eq!(bridge.add(PortConfig { mac: Some(ALL), ..twin }, NOW), None);
    // One that was learned elsewhere is the new port's from now on.
    assert!(bridge.forward(out, &frame(A, C), NOW).is_ok());
    let port = bridge.add(PortConfig { mac: Some(C), ..twin }, NOW).unwrap();
    assert_eq!((bridge.find(&C, NOW), bridge.learned(NOW)), (Some(port), 0));
}

#[test]
fn frames_of_no_length_and_to_reserved_addresses_stop_here() {
    let (mut bridge, [a, _, out]) = bridge();
    for len in [0, 6, 13] {
        assert_eq!(bridge.forward(a, &frame(B, A)[..len], NOW), Err(Refusal::Length));
    }
    let mut long = frame(B, A);
    long.resize(MAX_FRAME + 1, 0);
    assert_eq!(bridge.forward(a, &long, NOW), Err(Refusal::Length));
    let stp = [1, 0x80, 0xc2, 0, 0, 0];
    assert_eq!(bridge.forward(out, &frame(stp, C), NOW), Err(Refusal::Reserved));
    assert_eq!(bridge.counters(a).unwrap().bad, 4);
}

#[test]
fn a_port_over_its_rate_is_held_back_until_time_has_passed() {
    let (mut bridge, _) = bridge();
    let config = PortConfig { mac: Some(C), filter: true, rate: Some(600_000) };
    let port = bridge.add(config, NOW).unwrap();
    let burst = (0..10_000).filter(|_| bridge.forward(port, &frame(A, C), NOW).is_ok()).count();
    assert_eq!(burst, MAX_FRAME / 60, "one bucket");
    let second = NOW + 1_000_000_000;
    let sent: usize = (0..1000u64)
        .map(|ms| {
            let now = NOW + ms * 1_000_000;
            (0..100).filter(|_| bridge.forward(port, &frame(A, C), now).is_ok()).count()
        })
        .sum();
    assert!((9_980..=10_001).contains(&sent), "{sent} frames of 60 bytes in a second");
    assert!(bridge.forward(port, &frame(A, C), second).is_ok());
    assert_eq!(bridge.counters(port).unwrap().over_rate as usize, 110_000 - burst - sent);
}

#[test]
fn a_bucket_says_when_it_has_enough_and_a_clock_that_goes_back_gives_nothing() {
    let mut bucket = Bucket::new(1_000_000, NOW);
    assert!(bucket.take(100_000, NOW) && !bucket.take(1, NOW));
    assert_eq!(bucket.when(1_000), NOW + 1_000_000);
    assert_eq!(bucket.when(100_001), Nanos::NEVER);
    assert!(!bucket.take(1, Nanos::ZERO) && !bucket.take(1, NOW));
    assert!(bucket.take(1_000, NOW + 1_000_000));
    let mut slow = Bucket::new(0, NOW);
    assert!(slow.take(MAX_FRAME as u64, NOW) && !slow.take(1, NOW + 999_999_999));
    assert!(slow.take(1, NOW + 1_000_000_000));
    assert!(slow.take(MAX_FRAME as u64, Nanos::NEVER));
}

#[test]
fn a_flood_of_sources_costs_no_memory_and_no_guest_its_frames() {
    let (mut bridge, [a, _, out]) = bridge();
    for n in 0..100_000u32 {
        let [w, x, y, z] = n.to_be_bytes();
        let now = NOW + u64::from(n);
        assert_eq!(bridge.forward(out, &frame(A, [2, 9, w, x, y, z]), now), Ok(set(&[a])));
    }
    assert!(bridge.learned(NOW) <= 512);
}

#[test]
fn the_oldest_of_a_set_makes_room() {
    let mut table = Table::default();
    let port = PortId(3);
    let all = (0..=u16::MAX).map(|n| [2, 0, 0, 0, (n >> 8) as u8, n as u8]);
    let same_set: Vec<Mac> = all.filter(|mac| Table::set(mac) == Table::set(&A)).take(5).collect();
    for (n, mac) in same_set.iter().enumerate() {
        table.learn(mac, port, NOW + n as u64);
    }
    assert_eq!(table.count(Age::Any, NOW), 4);
    assert_eq!(table.find(&same_set[0], NOW), None);
    assert!(same_set[1..].iter().all(|mac| table.find(mac, NOW) == Some(port)));
}

#[test]
fn all_ports_can_be_taken_and_given_back() {
    let mut bridge = Bridge::default();
    let ports: Vec<PortId> =
        (0..MAX_PORTS).map(|_| bridge.add(PortConfig::default(), NOW).unwrap()).collect();
    assert_eq!(bridge.add(PortConfig::default(), NOW), None);
    let to = bridge.forward(ports[63], &frame(ALL, C), NOW).unwrap();
    assert_eq!(to.iter().count(), 63);
    assert!(!to.contains(ports[63]) && !to.is_empty());
    bridge.remove(ports[7]);
    assert_eq!(bridge.add(PortConfig::default(), NOW), Some(ports[7]));
    bridge.overrun(ports[7]);
    assert_eq!(bridge.counters(ports[7]).unwrap().overrun, 1);
}

#[test]
fn a_queue_gives_back_what_went_in_and_refuses_what_does_not_fit() {
    let mut queue = FrameQueue::new(1000);
    let mut twin: VecDeque<Vec<u8>> = VecDeque::new();
    let mut seed = 7u32;
    let mut buffer = [0; 400];
    for n in 0..20_000u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if seed >> 31 != 0 {
            let data = std::vec![n as u8; (seed >> 8) as usize % 400];
            let used: usize = twin.iter().map(|frame| frame.len() + 4).sum();
            assert_eq!(queue.push(&data), used + data.len() + 4 <= 1000);
            if used + data.len() + 4 <= 1000 {
                twin.push_back(data);
            }
        } else {
            assert_eq!(queue.front(&mut buffer), twin.front().map(Vec::as_slice));
            queue.pop();
            twin.pop_front();
        }
        assert_eq!(queue.len(), twin.len());
    }
    queue.clear();
    assert!(queue.is_empty() && queue.front(&mut buffer).is_none());
    queue.pop();
    assert!(!queue.push(&[0; 997]) && queue.push(&[5; 996]));
    assert_eq!(queue.front(&mut buffer).unwrap(), [5; 400], "cut to the buffer");
}
