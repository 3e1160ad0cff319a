//! The ring: wrapping streams, messages in pieces, reconnecting, and indices that run away.

use super::*;

const FEATURES: usize = 2064;
const CONNECTION: usize = 2068;
const ERROR: usize = 2072;

fn message(kind: Kind, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, req_id, tx_id: 0, len: payload.len() as u32 };
    header.bytes().iter().chain(payload).copied().collect()
}

fn ring(xs: &Xs) -> SharedPage {
    xs.fronts[&7].page
}

#[test]
fn a_new_ring_is_empty_and_says_what_the_server_can() {
    let xs = Xs::with(&[7]);
    let page = ring(&xs);
    for at in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, ERROR] {
        assert_eq!(page.read_u32(at), Some(0));
    }
    assert_eq!(page.read_u32(FEATURES), Some(7));
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let mut xs = Xs::with(&[7]);
    for byte in message(Kind::Read, 5, b"data\0") {
        assert!(xs.fronts.get_mut(&7).unwrap().message().is_none());
        xs.send(7, &[byte]);
    }
    let (header, body) = xs.fronts.get_mut(&7).unwrap().message().unwrap();
    assert_eq!((header.kind, header.req_id, &*body), (Kind::Read, 5, &b""[..]));
}

#[test]
fn indices_wrap_at_any_number() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/a", &"v".repeat(700)).unwrap();
    for _ in 0..40 {
        assert_eq!(xs.read(7, "data/a").unwrap().len(), 700);
    }
    assert!(ring(&xs).read_u32(RSP_PROD).unwrap() > 1024 * 20);
}

#[test]
fn the_longest_message_is_read_and_a_longer_one_ends_the_connection() {
    let mut xs = Xs::with(&[7]);
    let mut payload = b"data/a\0".to_vec();
    payload.resize(4096, b'x');
    assert_eq!(xs.ask_in(7, 0, Kind::Write, &payload), Err("ENOSPC".into()));
    xs.watch(7, "data", "t").unwrap();
    payload.push(b'x');
    xs.send(7, &message(Kind::Write, 9, &payload)[..500]);
    assert_eq!(ring(&xs).read_u32(ERROR), Some(3));
    let it = xs.service.ring(DomId(7)).unwrap();
    assert_eq!(it.error(), Some(ConnectionError::MessageTooLong));
    assert_eq!(xs.service.store.usage(DomId(7)).watches, 0, "what it had is gone");
    let again = xs.service.serve(DomId(7), 8);
    assert_eq!(again, Served::default(), "nothing more is served");
}

#[test]
fn a_producer_that_runs_away_ends_the_connection_and_nothing_else() {
    for ahead in [1025u32, 2048, 0x8000_0000, u32::MAX] {
        let mut xs = Xs::with(&[7, 8]);
        ring(&xs).write(REQ_PROD, 4, u64::from(ahead)).unwrap();
        let served = xs.service.serve(DomId(7), 8);
        assert!(served.notify && !served.more);
        assert_eq!(ring(&xs).read_u32(ERROR), Some(2), "{ahead:#x}");
        assert!(xs.write(8, "data/a", "1").is_ok());
    }
}

#[test]
fn a_consumer_that_runs_away_ends_the_connection() {
    for cons in [1u32, 0x8000_0000, u32::MAX - 1025] {
        let mut xs = Xs::with(&[7]);
        ring(&xs).write(RSP_CONS, 4, u64::from(cons)).unwrap();
        xs.fronts[&7].push(&message(Kind::Read, 1, b"data\0"));
        assert!(xs.service.serve(DomId(7), 8).notify);
        assert_eq!(ring(&xs).read_u32(ERROR), Some(2), "{cons:#x}");
    }
}

#[test]
fn what_a_guest_writes_over_the_servers_indices_is_not_believed() {
    let mut xs = Xs::with(&[7]);
    assert!(xs.read(7, "data").is_ok());
    let page = ring(&xs);
    let (cons, prod) = (page.read_u32(REQ_CONS).unwrap(), page.read_u32(RSP_PROD).unwrap());
    page.write(REQ_CONS, 4, 0xdead_beef).unwrap();
    page.write(RSP_PROD, 4, 0xdead_beef).unwrap();
    let bytes = message(Kind::Read, 2, b"data\0");
    for (at, byte) in bytes.iter().enumerate() {
        page.write((cons as usize + at) % 1024, 1, u64::from(*byte)).unwrap();
    }
    page.write(REQ_PROD, 4, u64::from(cons) + bytes.len() as u64).unwrap();
    assert_eq!(xs.service.serve(DomId(7), 8).messages, 1);
    assert_eq!(page.read_u32(REQ_CONS), Some(cons + bytes.len() as u32));
    assert_eq!(page.read_u32(RSP_PROD), Some(prod + 16));
}

#[test]
fn a_guest_reconnects_with_an_empty_ring_also_after_an_error() {
    let mut xs = Xs::with(&[7]);
    for broken in [false, true] {
        xs.watch(7, "data", "t").unwrap();
        let open = xs.begin(7);
        xs.send(7, &message(Kind::Read, 1, b"data\0")[..7]);
        if broken {
            ring(&xs).write(REQ_PROD, 4, 5000).unwrap();
            xs.turn(7);
            assert_eq!(ring(&xs).read_u32(ERROR), Some(2));
        }
        ring(&xs).write(CONNECTION, 4, 1).unwrap();
        assert!(xs.service.serve(DomId(7), 8).notify);
        xs.fronts.get_mut(&7).unwrap().stream.clear();
        for at in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, ERROR] {
            assert_eq!(ring(&xs).read_u32(at), Some(0));
        }
        assert_eq!(xs.read(7, "data"), Ok("".into()));
        assert_eq!(xs.end(7, open, "T"), Err("ENOENT".into()));
        assert_eq!(xs.service.store.usage(DomId(7)).watches, 0);
    }
}

#[test]
fn a_kernel_started_anew_in_the_same_domain_begins_with_an_empty_ring() {
    let mut xs = Xs::with(&[7]);
    xs.watch(7, "data", "t").unwrap();
    xs.events(7);
    xs.fronts[&7].push(b"half a");
    xs.service.restart(DomId(7));
    xs.fronts.get_mut(&7).unwrap().stream.clear();
    assert_eq!(xs.read(7, "data"), Ok("".into()));
    assert_eq!(xs.events(7), []);
}

#[test]
fn who_takes_no_answers_is_answered_no_more_and_its_requests_wait() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/a", &"v".repeat(900)).unwrap();
    let request = message(Kind::Read, 1, b"data/a\0");
    for _ in 0..20 {
        xs.fronts[&7].push(&request);
    }
    let mut messages = 0;
    for _ in 0..100 {
        let served = xs.service.serve(DomId(7), 8);
        assert!(!served.more, "it does not spin");
        messages += served.messages;
    }
    assert_eq!(messages, 2, "one in the ring, one half in it");
    xs.turn(7);
    let mut answers = 0;
    while xs.fronts.get_mut(&7).unwrap().message().is_some() {
        answers += 1;
    }
    assert_eq!(answers, 20);
}

#[test]
fn serving_keeps_its_budget_and_says_that_there_is_more() {
    let mut xs = Xs::with(&[7]);
    let request = message(Kind::Mkdir, 1, b"data\0");
    for _ in 0..10 {
        xs.fronts[&7].push(&request);
    }
    let served = xs.service.serve(DomId(7), 3);
    assert_eq!((served.messages, served.more, served.notify), (3, true, true));
    let served = xs.service.serve(DomId(7), 100);
    assert_eq!((served.messages, served.more), (7, false));
    assert_eq!(xs.service.serve(DomId(7), 100), Served::default(), "nothing: no notification");
}

#[test]
fn bytes_that_change_while_they_are_read_are_read_once() {
    // The length is changed once the header was taken: the first one counts.
    let mut xs = Xs::with(&[7]);
    let bytes = message(Kind::Read, 1, b"data\0");
    xs.send(7, &bytes[..16]);
    let page = ring(&xs);
    page.write(12, 4, 4_000_000).unwrap();
    xs.send(7, &bytes[16..]);
    let (header, _) = xs.fronts.get_mut(&7).unwrap().message().unwrap();
    assert_eq!((header.kind, page.read_u32(ERROR)), (Kind::Read, Some(0)));
}

#[test]
fn a_domain_without_a_ring_is_not_served() {
    let mut xs = Xs::with(&[7]);
    assert_eq!(xs.service.serve(DomId(99), 8), Served::default());
    xs.service.forget(DomId(7));
    assert_eq!(xs.service.serve(DomId(7), 8), Served::default());
    assert_eq!(xs.service.next_ready(), None);
}
