//! A network interface's control ring: what a front end asks of it, and where its packets go then.

use arch::SharedPage;
use host_tests::peers::{FakeGrants, GUEST, page};
use pvdrivers::front::net::NetFront;
use pvdrivers::netback::abi::RxResponse;
use pvdrivers::netback::abi::control::{Request, Response, SLOT, hash_type, kind};
use pvdrivers::netback::{Controlled, Delivered, FrontEnd, FrontQueue, NetBack, Packet};
use pvdrivers::ring::{FrontRing, Pages, RingError, RingMemory};
use pvdrivers::{DomId, Port};

const QUEUES: usize = 4;
const SUCCESS: u32 = 0;
const NOT_SUPPORTED: u32 = 1;
const INVALID: u32 = 2;
const OVERFLOW: u32 = 3;

/// An interface of four queues with a control ring.
struct Pair {
    grants: FakeGrants,
    back: NetBack,
    fronts: Vec<NetFront>,
    control: FrontRing<Pages>,
    memory: Pages,
    asked: u16,
}

impl Pair {
    fn new() -> Pair {
        let mut grants = FakeGrants::new();
        let (mut fronts, mut queues) = (Vec::new(), Vec::new());
        for _ in 0..QUEUES {
            let ((tx_page, tx), (rx_page, rx)) = (grants.page(GUEST), grants.page(GUEST));
            let [send, receive] = [tx_page, rx_page].map(|page| Pages::new(vec![page]).unwrap());
            let mut front = NetFront::new(send, receive).unwrap();
            for id in 0..16 {
                front.post(id, grants.page(GUEST).1).unwrap();
            }
            let _ = front.rx.push();
            fronts.push(front);
            queues.push(FrontQueue { tx, rx, tx_port: Port(1), rx_port: Port(1) });
        }
        let (ring, reference) = grants.page(GUEST);
        let memory = Pages::new(vec![ring]).unwrap();
        let control = FrontRing::new(memory.clone(), SLOT).unwrap();
        let front = FrontEnd {
            queues,
            control: Some((reference, Port(9))),
            scatter_gather: true,
            gso: [true; 2],
            checksum: [true; 2],
            multicast_control: false,
        };
        let mut back = NetBack::new(GUEST, DomId::BACKEND);
        back.connect(&mut grants, front).unwrap();
        assert_eq!(back.control_port(), Some(Port(9)));
        Pair { grants, back, fronts, control, memory, asked: 0 }
    }

    fn put(&mut self, kind: u16, data: [u32; 3]) {
        self.asked += 1;
        self.control.put(&Request { id: self.asked, kind, data }.encode()).unwrap();
    }

    fn answer(&mut self) -> Option<Response> {
        let mut slot = [0; 12];
        self.control.take(&mut slot).unwrap().then(|| Response::decode(&slot))
    }

    /// One request: status and data of its answer.
    fn ask(&mut self, kind: u16, data: [u32; 3]) -> (u32, u32) {
        self.put(kind, data);
        assert!(self.control.push(), "the back end asked for it");
        let served = self.back.serve_control(&mut self.grants).unwrap();
        assert_eq!(served, Controlled { notify: true, more: false });
        let answer = self.answer().expect("an answer");
        assert_eq!((answer.id, answer.kind), (self.asked, kind));
        assert_eq!(self.answer(), None);
        assert!(!self.control.final_check().unwrap());
        assert_eq!(self.grants.pinned(), 2 * QUEUES + 1, "only the rings");
        (answer.status, answer.data)
    }

    /// The same where nothing but the status is said.
    fn set(&mut self, kind: u16, data: [u32; 3]) -> u32 {
        let (status, data) = self.ask(kind, data);
        assert_eq!(data, 0);
        status
    }

    /// A read-only grant of these bytes.
    fn granted(&mut self, bytes: &[u8]) -> u32 {
        let memory: SharedPage = page();
        memory.write_slice(0, bytes).unwrap();
        self.grants.grant(GUEST, memory, true).0
    }

    /// The queue that gets a packet.
    fn queue(&mut self, bytes: &[u8]) -> usize {
        let given = self.back.deliver(&mut self.grants, Packet::plain(bytes)).unwrap();
        assert!(matches!(given, Delivered::Taken(_)), "{given:?}");
        let mut pieces = [RxResponse::default(); 20];
        let mut got = |front: &mut NetFront| front.receive(&mut pieces).unwrap().is_some();
        let got: Vec<usize> = (0..QUEUES).filter(|n| got(&mut self.fronts[*n])).collect();
        assert_eq!(got.len(), 1);
        got[0]
    }
}

/// The packet of Microsoft's verification suite whose hashes are 323E8FC2h and 51CCC178h (TCP).
fn packet(protocol: u8) -> Vec<u8> {
    let mut packet = vec![0; 54];
    packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    packet[14..34].copy_from_slice(&[
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 66, 9, 149, 187, 161, 142, 100, 80,
    ]);
    packet[34..38].copy_from_slice(&[0x0a, 0xea, 0x06, 0xe6]);
    packet[46] = 0x50;
    packet
}

const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

#[test]
fn unknown_requests_are_not_supported_and_flags_want_an_algorithm_first() {
    let mut pair = Pair::new();
    for kind in [0, 8, 9, 10, 11, 0xffff] {
        assert_eq!(pair.set(kind, [1, 2, 3]), NOT_SUPPORTED, "type {kind}");
    }
    assert_eq!(pair.set(kind::GET_HASH_FLAGS, [0; 3]), NOT_SUPPORTED);
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [1, 0, 0]), INVALID);
    assert_eq!(pair.set(kind::SET_HASH_ALGORITHM, [2, 0, 0]), INVALID);
    assert_eq!(pair.set(kind::SET_HASH_ALGORITHM, [1, 0, 0]), SUCCESS);
    assert_eq!(pair.ask(kind::GET_HASH_FLAGS, [0; 3]), (SUCCESS, hash_type::ALL));
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [16, 0, 0]), INVALID);
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [hash_type::ALL, 0, 0]), SUCCESS);
    assert_eq!(pair.ask(kind::GET_HASH_MAPPING_SIZE, [0; 3]), (SUCCESS, 128));
    pair.back.disconnect(&mut pair.grants);
    assert_eq!((pair.grants.pinned(), pair.back.control_port()), (0, None));
}

#[test]
fn packets_go_where_the_hash_and_the_mapping_say() {
    let mut pair = Pair::new();
    let key = pair.granted(&KEY);
    assert_eq!(pair.set(kind::SET_HASH_ALGORITHM, [1, 0, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [hash_type::ALL, 0, 0]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 0, "the hash without a key");
    assert_eq!(pair.set(kind::SET_HASH_KEY, [key, 40, 0]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 0x51cc_c178 % QUEUES);
    assert_eq!(pair.queue(&packet(17)), 0x323e_8fc2 % QUEUES, "UDP's ports do not count");
    // 128 entries: the hash's last 7 bits.
    assert_eq!(pair.set(kind::SET_HASH_MAPPING_SIZE, [128, 0, 0]), SUCCESS);
    assert_eq!(pair.queue(&packet(17)), 0, "a new mapping is zeros");
    let table: Vec<u8> = [3u32, 1].iter().flat_map(|queue| queue.to_le_bytes()).collect();
    let table = pair.granted(&table);
    assert_eq!(pair.set(kind::SET_HASH_MAPPING, [table, 2, 0x78]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 3);
    assert_eq!(pair.set(kind::SET_HASH_MAPPING, [table, 2, 0x77]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 1);
    // Only addresses, of TCP as well.
    assert_eq!(pair.set(kind::SET_HASH_MAPPING_SIZE, [0; 3]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [hash_type::IPV4, 0, 0]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 0x323e_8fc2 % QUEUES);
    assert_eq!(pair.set(kind::SET_HASH_KEY, [0; 3]), SUCCESS);
    assert_eq!(pair.queue(&packet(6)), 0, "an empty key again");
}

#[test]
fn what_is_too_large_beside_the_table_or_no_page_changes_nothing() {
    let mut pair = Pair::new();
    let key = pair.granted(&KEY);
    let wrong: Vec<u8> = [3u32, 4].iter().flat_map(|queue| queue.to_le_bytes()).collect();
    let (right, wrong) = (pair.granted(&3u32.to_le_bytes()), pair.granted(&wrong));
    assert_eq!(pair.set(kind::SET_HASH_ALGORITHM, [1, 0, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_FLAGS, [hash_type::IPV4_TCP, 0, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_KEY, [key, 40, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_MAPPING_SIZE, [1, 0, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_MAPPING, [right, 1, 0]), SUCCESS);
    for (kind, data, status) in [
        (kind::SET_HASH_KEY, [key, 41, 0], OVERFLOW),
        (kind::SET_HASH_KEY, [key, u32::MAX, 0], OVERFLOW),
        (kind::SET_HASH_KEY, [9999, 40, 0], INVALID),
        (kind::SET_HASH_MAPPING_SIZE, [129, 0, 0], INVALID),
        (kind::SET_HASH_MAPPING, [right, 129, 0], OVERFLOW),
        (kind::SET_HASH_MAPPING, [right, 1, 1], INVALID),
        (kind::SET_HASH_MAPPING, [right, 1, u32::MAX], INVALID),
        (kind::SET_HASH_MAPPING, [9999, 1, 0], INVALID),
        (kind::SET_HASH_MAPPING, [wrong, 2, 0], INVALID),
    ] {
        assert_eq!(pair.set(kind, data), status, "type {kind}, {data:?}");
        assert_eq!(pair.queue(&packet(6)), 3);
    }
    // A part of a page, the key behind its first byte.
    let part = pair.grants.grant_part(GUEST, page(), false, (1, 100)).0;
    assert_eq!(pair.set(kind::SET_HASH_KEY, [part, 40, 0]), INVALID);
    // A queue that is not there, in a table that has room for it.
    assert_eq!(pair.set(kind::SET_HASH_MAPPING_SIZE, [2, 0, 0]), SUCCESS);
    assert_eq!(pair.set(kind::SET_HASH_MAPPING, [wrong, 2, 0]), INVALID);
    assert_eq!(pair.queue(&packet(6)), 0, "not the first half, either");
}

#[test]
fn a_full_ring_is_answered_in_turns_and_an_index_that_runs_away_ends_it() {
    let mut pair = Pair::new();
    for _ in 0..pair.control.entries() {
        pair.put(kind::GET_HASH_MAPPING_SIZE, [0; 3]);
    }
    assert!(pair.control.push());
    let (mut turns, mut answers) = (0, 0);
    loop {
        let served = pair.back.serve_control(&mut pair.grants).unwrap();
        turns += 1;
        answers += std::iter::from_fn(|| pair.answer()).count();
        if !served.more {
            break;
        }
    }
    assert_eq!((turns, answers), (4, 128));
    pair.memory.write_index(0, 1000);
    assert_eq!(pair.back.serve_control(&mut pair.grants), Err(RingError::Runaway));
    pair.back.disconnect(&mut pair.grants);
    assert_eq!(pair.grants.pinned(), 0);
}
