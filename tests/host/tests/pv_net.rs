//! Network front ends and back ends over shared pages: packets both ways with their offloads, and
//! front ends that cheat, run away and die.

use arch::SharedPage;
use host_tests::Rng;
use host_tests::peers::{FakeGrants, GUEST, page};
use pvdrivers::bus::{BackEnd, Bus, DeviceNodes, VifSpec, XenbusState, create_base};
use pvdrivers::front::net::{self, NetFront, Piece};
use pvdrivers::netback::abi::{Extra, Gso, RxResponse, TxRequest, status, tx_flag};
use pvdrivers::netback::{
    Delivered, FrontEnd, FrontQueue, NetBack, Packet, Served, Sum, offload::fill_checksum,
};
use pvdrivers::ring::{Pages, RingError, RingMemory};
use pvdrivers::store::{Quota, Store};
use pvdrivers::{DomId, Errno, GrantRef, Port};
use std::sync::{Arc, Mutex};

type Sent = (Vec<u8>, Sum, Option<Gso>);

/// A connected interface.
struct Pair {
    grants: FakeGrants,
    back: NetBack,
    fronts: Vec<NetFront>,
    rings: Vec<[Pages; 2]>,
    /// Pages that were posted, by id.
    posted: Vec<SharedPage>,
}

fn features(queues: usize) -> FrontEnd {
    FrontEnd {
        queues: Vec::with_capacity(queues),
        control: None,
        scatter_gather: true,
        gso: [true; 2],
        checksum: [true; 2],
        multicast_control: false,
    }
}

impl Pair {
    fn new(queues: usize) -> Pair {
        Pair::with(queues, features(queues))
    }

    fn with(queues: usize, mut front: FrontEnd) -> Pair {
        let mut grants = FakeGrants::new();
        let (mut fronts, mut rings) = (Vec::new(), Vec::new());
        for n in 0..queues as u32 {
            let (tx_page, tx) = grants.page(GUEST);
            let (rx_page, rx) = grants.page(GUEST);
            let memory = [tx_page, rx_page].map(|page| Pages::new(vec![page]).unwrap());
            let [send, receive] = memory.clone();
            fronts.push(NetFront::new(send, receive).unwrap());
            rings.push(memory);
            let (tx_port, rx_port) = (Port(2 * n + 1), Port(2 * n + 2));
            front.queues.push(FrontQueue { tx, rx, tx_port, rx_port });
        }
        let mut back = NetBack::new(GUEST, DomId::BACKEND);
        back.connect(&mut grants, front).unwrap();
        Pair { grants, back, fronts, rings, posted: Vec::new() }
    }

    /// A granted page with these bytes at `offset`.
    fn data(&mut self, bytes: &[u8], offset: usize) -> GrantRef {
        let memory = page();
        memory.write_slice(offset, bytes).unwrap();
        self.grants.grant(GUEST, memory, true)
    }

    fn piece(&mut self, bytes: &[u8], offset: usize, id: u16) -> Piece {
        let reference = self.data(bytes, offset);
        Piece { reference, offset: offset as u16, size: bytes.len() as u16, id }
    }

    fn serve(&mut self) -> (Vec<Sent>, Served) {
        let mut sent = Vec::new();
        let served = self.back.serve(64, &mut self.grants, &mut |packet: Packet<'_>| {
            sent.push((packet.bytes.to_vec(), packet.sum, packet.gso));
        });
        (sent, served.unwrap())
    }

    fn post(&mut self, queue: usize, count: usize) {
        for _ in 0..count {
            let (memory, reference) = self.grants.page(GUEST);
            self.fronts[queue].post(self.posted.len() as u16, reference).unwrap();
            self.posted.push(memory);
        }
        let _ = self.fronts[queue].rx.push();
    }

    fn deliver(&mut self, packet: Packet<'_>) -> Delivered {
        self.back.deliver(&mut self.grants, packet).unwrap()
    }

    /// The next packet that the front end finds.
    fn receive(&mut self, queue: usize) -> Option<Sent> {
        let mut pieces = [RxResponse::default(); 20];
        let head = self.fronts[queue].receive(&mut pieces).unwrap()?;
        let mut bytes = Vec::new();
        for piece in &pieces[..head.pieces] {
            let len = usize::try_from(piece.status).expect("no error");
            let mut part = vec![0; len];
            self.posted[usize::from(piece.id)].read(piece.offset.into(), &mut part).unwrap();
            bytes.extend(part);
        }
        Some((bytes, head.sum, head.gso))
    }

    /// Puts any slot into the first transmit ring.
    fn raw(&mut self, request: &TxRequest) {
        self.fronts[0].tx.put(&request.encode()).unwrap();
    }

    /// What all requests were answered with.
    fn answers(&mut self) -> Vec<(u16, i16)> {
        let front = &mut self.fronts[0];
        std::iter::from_fn(|| front.sent().unwrap()).map(|r| (r.id, r.status)).collect()
    }
}

/// A TCP/IPv4 packet to 2:0:0:0:0:1.
fn tcp(payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 54 + payload];
    packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    packet[14] = 0x45;
    let length = ((packet.len() - 14) as u16).to_be_bytes();
    packet[16..18].copy_from_slice(&length);
    (packet[23], packet[46]) = (6, 0x50);
    packet[54..].iter_mut().enumerate().for_each(|(n, byte)| *byte = n as u8);
    packet
}

const GSO: Gso = Gso { size: 1000, ipv6: false };

#[test]
fn a_packet_goes_out_and_its_page_comes_back() {
    let mut pair = Pair::new(1);
    let piece = pair.piece(&tcp(40), 100, 7);
    pair.fronts[0].send(&[piece], Sum::Blank, None).unwrap();
    assert!(pair.fronts[0].tx.push(), "the back end asked to be notified");
    let (sent, served) = pair.serve();
    assert_eq!(sent, [(tcp(40), Sum::Blank, None)]);
    assert_eq!(served, Served { notify: 1, more: false });
    assert_eq!(pair.answers(), [(7, status::OKAY)]);
    assert_eq!((pair.grants.pinned(), pair.back.pins()), (2, 2), "only the rings");
    assert_eq!(pair.back.counters().sent_bytes, 94);
}

#[test]
fn a_large_packet_in_pieces_keeps_its_order_and_its_segmentation() {
    let mut pair = Pair::new(1);
    let bytes = tcp(9000);
    let pieces: Vec<Piece> =
        bytes.chunks(4000).enumerate().map(|(n, part)| pair.piece(part, 96, n as u16)).collect();
    pair.fronts[0].send(&pieces, Sum::Blank, Some(GSO)).unwrap();
    let _ = pair.fronts[0].tx.push();
    let (sent, _) = pair.serve();
    assert_eq!(sent, [(bytes, Sum::Blank, Some(GSO))]);
    assert_eq!(pair.answers(), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(pair.fronts[0].tx.free(), pair.fronts[0].tx.entries());
}

#[test]
fn what_one_guest_sends_another_receives() {
    let (mut from, mut to) = (Pair::new(1), Pair::new(1));
    to.post(0, 8);
    let bytes = tcp(6000);
    let pieces = [from.piece(&bytes[..3000], 0, 1), from.piece(&bytes[3000..], 0, 2)];
    from.fronts[0].send(&pieces, Sum::Blank, Some(GSO)).unwrap();
    let _ = from.fronts[0].tx.push();
    let mut delivered = None;
    let _ = from.back.serve(64, &mut from.grants, &mut |packet: Packet<'_>| {
        delivered = Some(to.back.deliver(&mut to.grants, packet).unwrap());
    });
    assert_eq!(delivered, Some(Delivered::Taken(1)));
    assert_eq!(to.receive(0), Some((bytes, Sum::Blank, Some(GSO))));
    assert_eq!((from.grants.pinned(), to.grants.pinned()), (2, 2));
}

#[test]
fn a_front_end_that_takes_no_large_packets_gets_segments_and_one_without_offload_gets_sums() {
    let mut pair = Pair::with(1, FrontEnd { gso: [false; 2], ..features(1) });
    pair.post(0, 8);
    let bytes = tcp(2500);
    let packet = Packet { bytes: &bytes, sum: Sum::Blank, gso: Some(GSO) };
    assert_eq!(pair.deliver(packet), Delivered::Taken(1));
    let lengths: Vec<usize> =
        std::iter::from_fn(|| pair.receive(0)).map(|(bytes, _, _)| bytes.len()).collect();
    assert_eq!(lengths, [1054, 1054, 554]);

    let mut pair = Pair::with(1, FrontEnd { checksum: [false; 2], ..features(1) });
    pair.post(0, 8);
    let bytes = tcp(10);
    let blank = Packet { bytes: &bytes, sum: Sum::Blank, gso: None };
    assert_eq!(pair.deliver(blank), Delivered::Taken(1));
    let mut expected = bytes;
    fill_checksum(&mut expected);
    assert_eq!(pair.receive(0), Some((expected, Sum::Right, None)));
}

#[test]
fn without_pages_a_packet_waits_and_the_next_post_is_noticed() {
    let mut pair = Pair::new(1);
    pair.post(0, 1);
    let bytes = tcp(5000);
    assert_eq!(pair.deliver(Packet::plain(&bytes)), Delivered::NoRoom);
    let (_, reference) = pair.grants.page(GUEST);
    pair.fronts[0].post(1, reference).unwrap();
    pair.posted.push(page());
    assert!(pair.fronts[0].rx.push(), "it must ring when there are two");
    assert!(matches!(pair.deliver(Packet::plain(&bytes)), Delivered::Taken(_)));
    let mut gone = NetBack::new(GUEST, DomId::BACKEND);
    let packet = Packet::plain(&bytes);
    assert_eq!(gone.deliver(&mut pair.grants, packet), Ok(Delivered::Unwanted));
    assert_eq!(pair.deliver(Packet::plain(&bytes[..13])), Delivered::Unwanted);
}

#[test]
fn a_front_end_without_scatter_gather_gets_nothing_that_is_larger_than_a_page() {
    let mut pair = Pair::with(1, FrontEnd { scatter_gather: false, ..features(1) });
    pair.post(0, 4);
    assert_eq!(pair.deliver(Packet::plain(&tcp(5000))), Delivered::Unwanted);
    assert!(matches!(pair.deliver(Packet::plain(&tcp(4042))), Delivered::Taken(_)));
}

#[test]
fn groups_are_received_only_where_they_are_wanted() {
    let mut pair = Pair::with(1, FrontEnd { multicast_control: true, ..features(1) });
    pair.post(0, 8);
    let group = [1, 0, 0x5e, 0, 0, 0xfb];
    let mut frame = tcp(10);
    frame[..6].copy_from_slice(&group);
    assert_eq!(pair.deliver(Packet::plain(&frame)), Delivered::Unwanted);
    for (join, wanted) in [(true, true), (false, false)] {
        let reference = pair.data(&tcp(0), 0).0;
        let flags = tx_flag::EXTRA_INFO;
        pair.raw(&TxRequest { reference, offset: 0, flags, id: 1, size: 54 });
        pair.fronts[0].tx.put(&Extra::Group(group, join).encode(false)).unwrap();
        let _ = pair.fronts[0].tx.push();
        assert_eq!(pair.serve().0.len(), 1);
        let taken = pair.deliver(Packet::plain(&frame)) != Delivered::Unwanted;
        assert_eq!(taken, wanted);
    }
    frame[..6].fill(0xff);
    assert!(matches!(pair.deliver(Packet::plain(&frame)), Delivered::Taken(_)), "all hear it");
}

#[test]
fn flows_are_spread_over_queues_and_each_stays_in_its_own() {
    let mut pair = Pair::new(4);
    for queue in 0..4 {
        pair.post(queue, 60);
    }
    let mut used = 0;
    for port in 0..40u8 {
        let mut bytes = tcp(10);
        bytes[35] = port;
        for _ in 0..2 {
            assert!(matches!(pair.deliver(Packet::plain(&bytes)), Delivered::Taken(_)));
        }
        let queues: Vec<usize> = (0..4).filter(|queue| pair.receive(*queue).is_some()).collect();
        assert_eq!(queues.len(), 1, "both in one queue");
        assert!(pair.receive(queues[0]).is_some());
        used |= 1 << queues[0];
    }
    assert_eq!(used, 0b1111);
}

/// Each is one packet of a front end that cheats.
fn cheats(pair: &mut Pair) -> Vec<Vec<TxRequest>> {
    let good = pair.data(&tcp(0), 0).0;
    let whole = TxRequest { reference: good, offset: 0, flags: 0, id: 0, size: 54 };
    let part = pair.grants.grant_part(GUEST, page(), true, (100, 200)).0;
    let more = TxRequest { flags: tx_flag::MORE_DATA, ..whole };
    vec![
        vec![TxRequest { reference: 9999, ..whole }],
        vec![TxRequest { size: 13, ..whole }],
        vec![TxRequest { size: 0, ..whole }],
        vec![TxRequest { offset: 4090, ..whole }],
        vec![TxRequest { offset: 0xffff, size: 0xffff, ..whole }],
        vec![TxRequest { size: 4097, ..whole }],
        // Pieces that are more than the whole.
        vec![more, TxRequest { size: 55, ..whole }],
        vec![TxRequest { size: 5000, ..more }, TxRequest { size: 100, ..whole }],
        vec![more, TxRequest { size: 10, offset: 4095, ..whole }],
        // A sub-page grant's other bytes.
        vec![TxRequest { reference: part, ..whole }],
        vec![TxRequest { reference: part, offset: 190, ..whole }],
        // The packet never ends.
        vec![more],
        vec![more; 18],
        vec![TxRequest { flags: tx_flag::EXTRA_INFO, ..whole }],
    ]
}

#[test]
fn packets_that_contradict_themselves_are_answered_with_an_error_and_nothing_is_sent() {
    let count = cheats(&mut Pair::new(1)).len();
    for n in 0..count {
        let mut pair = Pair::new(1);
        let slots = cheats(&mut pair).swap_remove(n);
        for slot in &slots {
            pair.raw(slot);
        }
        let _ = pair.fronts[0].tx.push();
        let (sent, _) = pair.serve();
        assert!(sent.is_empty(), "cheat {n}");
        let answers = pair.answers();
        assert_eq!(answers.len(), slots.len(), "cheat {n}: every slot is answered");
        assert!(answers.iter().all(|(_, status)| *status == status::ERROR), "cheat {n}");
        assert_eq!((pair.grants.pinned(), pair.back.counters().bad), (2, 1), "cheat {n}");
        // The next packet is served as if nothing had been.
        let piece = pair.piece(&tcp(1), 0, 3);
        pair.fronts[0].send(&[piece], Sum::Unknown, None).unwrap();
        let _ = pair.fronts[0].tx.push();
        assert_eq!(pair.serve().0.len(), 1, "cheat {n}");
    }
}

#[test]
fn unknown_extra_info_and_tiny_segments_are_refused() {
    let gso = |size| Extra::Gso(Gso { size, ipv6: false }).encode(false);
    let slots = [
        vec![[9, 0, 0, 0, 0, 0, 0, 0]],
        vec![[0; 8]],
        vec![gso(47)],
        vec![Extra::Gso(GSO).encode(true), gso(1000)],
        vec![Extra::Other(4).encode(true); 5],
    ];
    for extras in slots {
        let mut pair = Pair::new(1);
        let reference = pair.data(&tcp(0), 0).0;
        let flags = tx_flag::EXTRA_INFO;
        pair.raw(&TxRequest { reference, offset: 0, flags, id: 5, size: 54 });
        for extra in &extras {
            pair.fronts[0].tx.put(extra).unwrap();
        }
        let _ = pair.fronts[0].tx.push();
        assert!(pair.serve().0.is_empty(), "{extras:?}");
        assert_eq!(pair.answers(), [(5, status::ERROR)]);
        assert_eq!(pair.fronts[0].tx.free(), pair.fronts[0].tx.entries(), "{extras:?}");
    }
}

#[test]
fn pages_that_cannot_be_written_are_answered_with_an_error() {
    let mut pair = Pair::new(1);
    let read_only = pair.grants.grant(GUEST, page(), true);
    let part = pair.grants.grant_part(GUEST, page(), false, (0, 10));
    for (id, reference) in [(0, read_only), (1, GrantRef(9999)), (2, part)] {
        pair.fronts[0].post(id, reference).unwrap();
    }
    let _ = pair.fronts[0].rx.push();
    for id in 0..3 {
        assert!(matches!(pair.deliver(Packet::plain(&tcp(0))), Delivered::Taken(_)));
        let mut pieces = [RxResponse::default(); 2];
        assert_eq!(pair.fronts[0].receive(&mut pieces).unwrap().unwrap().pieces, 1);
        assert_eq!((pieces[0].id, pieces[0].status), (id, status::ERROR));
    }
    assert_eq!((pair.back.counters().bad_pages, pair.grants.pinned()), (3, 2));
}

#[test]
fn an_index_that_runs_away_ends_the_connection_and_leaves_nothing_pinned() {
    for ring in 0..2 {
        let mut pair = Pair::new(1);
        pair.rings[0][ring].write_index(0, 0x8000_0000);
        let refused = if ring == 0 {
            pair.back.serve(64, &mut pair.grants, &mut |_: Packet<'_>| {}).map(|_| ())
        } else {
            pair.back.deliver(&mut pair.grants, Packet::plain(&tcp(0))).map(|_| ())
        };
        assert_eq!(refused, Err(RingError::Runaway));
        pair.back.disconnect(&mut pair.grants);
        assert_eq!((pair.grants.pinned(), pair.back.pins()), (0, 0));
    }
}

#[test]
fn a_request_that_changes_after_it_was_taken_changes_nothing() {
    let mut pair = Pair::new(1);
    let first = pair.piece(&tcp(40), 0, 1);
    pair.fronts[0].send(&[first], Sum::Blank, None).unwrap();
    let _ = pair.fronts[0].tx.push();
    let (ring, other) = (pair.rings[0][0].clone(), pair.piece(&[0xee; 60], 0, 2));
    let noise =
        TxRequest { reference: other.reference.0, offset: 4000, flags: 0xffff, id: 99, size: 4096 };
    // While the packet is handed on, its slot is written again: the answer is still the first one's.
    let mut sent = Vec::new();
    let served = pair.back.serve(64, &mut pair.grants, &mut |packet: Packet<'_>| {
        ring.write(64, &noise.encode());
        sent.push(packet.bytes.to_vec());
    });
    assert!(served.is_ok() && sent == [tcp(40)]);
    assert_eq!(pair.answers(), [(1, status::OKAY)]);
    assert_eq!(pair.grants.pinned(), pair.back.pins());
}

#[test]
fn a_front_end_that_dies_at_any_moment_leaves_nothing_pinned() {
    for moment in 0..6 {
        let mut pair = Pair::new(2);
        let steps: [&dyn Fn(&mut Pair); 6] = [
            &|pair| pair.post(0, 4),
            &|pair| {
                let pieces = [pair.piece(&tcp(600), 0, 1), pair.piece(&[7; 100], 0, 2)];
                pair.fronts[0].send(&pieces, Sum::Blank, None).unwrap();
                let _ = pair.fronts[0].tx.push();
            },
            &|pair| drop(pair.serve()),
            &|pair| {
                let _ = pair.deliver(Packet::plain(&tcp(500)));
            },
            &|pair| {
                // The first piece of a packet whose rest never comes.
                let piece = pair.piece(&tcp(10), 0, 3);
                let flags = tx_flag::MORE_DATA;
                let Piece { reference, offset, size, id } = piece;
                pair.raw(&TxRequest { reference: reference.0, offset, flags, id, size });
                let _ = pair.fronts[0].tx.push();
            },
            &|pair| drop(pair.serve()),
        ];
        steps[..=moment].iter().for_each(|step| step(&mut pair));
        pair.back.disconnect(&mut pair.grants);
        assert_eq!((pair.grants.pinned(), pair.back.pins()), (0, 0), "moment {moment}");
        assert!(!pair.back.is_connected());
    }
}

#[test]
fn a_connection_that_fails_in_the_middle_pins_nothing() {
    let mut pair = Pair::new(2);
    let queue = |tx, rx| FrontQueue { tx, rx, tx_port: Port(1), rx_port: Port(2) };
    let (good, bad) = (pair.grants.page(GUEST).1, GrantRef(9999));
    assert_eq!(pair.back.connect(&mut pair.grants, features(1)), Err(Errno::EBUSY));
    pair.back.disconnect(&mut pair.grants);
    for queues in [
        vec![queue(good, bad)],
        vec![queue(bad, good)],
        vec![queue(good, good), queue(good, bad)],
        vec![],
        vec![queue(good, good); 9],
    ] {
        let front = FrontEnd { queues, ..features(0) };
        assert!(pair.back.connect(&mut pair.grants, front).is_err());
        assert_eq!((pair.grants.pinned(), pair.back.is_connected()), (0, false));
    }
}

#[test]
fn a_budget_is_kept_and_what_is_left_is_told() {
    let mut pair = Pair::new(2);
    for queue in 0..2 {
        for id in 0..10 {
            let piece = pair.piece(&tcp(0), 0, id);
            pair.fronts[queue].send(&[piece], Sum::Unknown, None).unwrap();
        }
        let _ = pair.fronts[queue].tx.push();
    }
    let mut sent = 0;
    let mut serve = |pair: &mut Pair, budget| {
        pair.back.serve(budget, &mut pair.grants, &mut |_: Packet<'_>| sent += 1).unwrap().more
    };
    assert!(serve(&mut pair, 5) && serve(&mut pair, 5));
    assert!(!serve(&mut pair, 50));
    assert_eq!(sent, 20);
}

#[test]
fn a_random_front_end_loses_no_slot_and_no_pin() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(1);
        let pages: Vec<u32> = (0..4).map(|_| pair.data(&tcp(2000), 0).0).collect();
        for _ in 0..400 {
            for _ in 0..rng.below(30) {
                let pick = |rng: &mut Rng, values: &[u64]| {
                    values[rng.below(values.len() as u64) as usize] as u16
                };
                let slot = TxRequest {
                    reference: pages[rng.below(4) as usize] ^ u32::from(rng.below(20) == 0),
                    offset: pick(&mut rng, &[0, 0, 100, 4000, 0xffff]),
                    flags: pick(&mut rng, &[0, 0, 0, 1, 4, 8, 12, 0xffff]),
                    id: rng.below(0x1_0000) as u16,
                    size: pick(&mut rng, &[0, 54, 54, 100, 1500, 4096, 9000, 0xffff]),
                };
                let _ = pair.fronts[0].tx.put(&slot.encode());
            }
            let _ = pair.fronts[0].tx.push();
            let _ = pair.serve();
            assert_eq!(pair.grants.pinned(), 2, "seed {seed}");
            pair.answers();
            assert_eq!(pair.fronts[0].tx.free(), pair.fronts[0].tx.entries(), "seed {seed}");
        }
        let counters = pair.back.counters();
        assert!(counters.sent > 100 && counters.bad > 100, "{counters:?}");
        pair.back.disconnect(&mut pair.grants);
        assert_eq!(pair.grants.pinned(), 0);
    }
}

/// The interface on the bus; its ports are nobody's.
struct Vif(Arc<Mutex<NetBack>>);

impl BackEnd<FakeGrants> for Vif {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut FakeGrants) -> Result<(), Errno> {
        self.0.lock().unwrap().offer(nodes, 4)
    }

    fn connect(
        &mut self,
        nodes: &mut DeviceNodes<'_>,
        grants: &mut FakeGrants,
    ) -> Result<(), Errno> {
        self.0.lock().unwrap().take_front(nodes, 4, grants)
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, grants: &mut FakeGrants) {
        self.0.lock().unwrap().disconnect(grants);
    }
}

#[test]
fn a_guest_finds_its_interface_on_the_bus_and_comes_back_after_a_reboot() {
    const FRONT: &str = "/local/domain/7/device/vif/0";
    const BACK: &str = "/local/domain/0/backend/vif/7/0";
    let mut store = Store::new(Quota::GUEST);
    let root = store.connect(DomId::BACKEND);
    create_base(&mut store.local(root)).unwrap();
    store.introduce(GUEST).unwrap();
    let guest = store.connect(GUEST);
    let mut bus = Bus::new(&mut store);
    let mut grants = FakeGrants::new();
    let back = Arc::new(Mutex::new(NetBack::new(GUEST, DomId::BACKEND)));
    let spec =
        VifSpec { devid: 0, mac: [0, 0x16, 0x3e, 0, 0, 3], bridge: "xenbr0".into(), mtu: 1500 };
    let vif = Box::new(Vif(back.clone()));
    bus.attach(&mut store, spec.device(GUEST), vif, &mut grants).unwrap();
    for round in 0..3 {
        let read = |store: &mut Store, path: String| store.local(guest).read(&path);
        assert_eq!(read(&mut store, format!("{BACK}/state")).as_deref(), Some("2"));
        assert_eq!(read(&mut store, format!("{BACK}/feature-gso-tcpv4")).as_deref(), Some("1"));
        let queues: Vec<FrontQueue> = (0..=round)
            .map(|n| FrontQueue {
                tx: grants.page(GUEST).1,
                rx: grants.page(GUEST).1,
                tx_port: Port(2 * n + 1),
                rx_port: Port(2 * n + 2),
            })
            .collect();
        for (name, value) in net::nodes(&queues) {
            store.local(guest).write(&format!("{FRONT}/{name}"), value).unwrap();
        }
        let mut state = |store: &mut Store, grants: &mut FakeGrants, state: XenbusState| {
            store.local(guest).write(&format!("{FRONT}/state"), state.number()).unwrap();
            while store.has_events(bus.client()) {
                let _ = bus.poll(store, grants, 2);
            }
        };
        state(&mut store, &mut grants, XenbusState::Connected);
        assert_eq!(read(&mut store, format!("{BACK}/state")).as_deref(), Some("4"));
        assert_eq!(back.lock().unwrap().ports().count(), queues.len());
        assert_eq!(grants.pinned(), 2 * queues.len());
        // A crash: the next kernel just begins again.
        state(&mut store, &mut grants, XenbusState::Initialising);
        assert_eq!(grants.pinned(), 0, "round {round}");
    }
}
