//! Transactions: nothing is seen before the end, and the end is refused if what was seen has changed.

use super::*;

fn write_in(xs: &mut Xs, domid: u16, tx: u32, path: &str, value: &str) -> Answer {
    xs.ask_in(domid, tx, Kind::Write, format!("{path}\0{value}").as_bytes())
}

fn read_in(xs: &mut Xs, domid: u16, tx: u32, path: &str) -> Result<String, String> {
    xs.ask_in(domid, tx, Kind::Read, format!("{path}\0").as_bytes()).map(|value| text(&value))
}

fn again() -> Answer {
    Err("EAGAIN".to_string())
}

#[test]
fn changes_are_seen_inside_at_once_and_outside_after_the_end() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/gone/below", "x").unwrap();
    let tx = xs.begin(7);
    write_in(&mut xs, 7, tx, "data/a/b", "1").unwrap();
    xs.ask_in(7, tx, Kind::Rm, b"data/gone\0").unwrap();
    xs.ask_in(7, tx, Kind::SetPerms, b"data/a\0r7\0").unwrap();
    assert_eq!(read_in(&mut xs, 7, tx, "data/a/b"), Ok("1".into()));
    assert_eq!(read_in(&mut xs, 7, tx, "data/gone/below"), err("ENOENT"));
    assert_eq!(xs.ask_in(7, tx, Kind::Directory, b"data\0"), Ok(b"a\0".to_vec()));
    assert_eq!(xs.ask_in(7, tx, Kind::GetPerms, b"data/a\0"), Ok(b"r7\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::Directory, "data\0"), Ok(b"gone\0".to_vec()));
    assert_eq!(xs.read(7, "data/a/b"), err("ENOENT"));
    xs.end(7, tx, "T").unwrap();
    assert_eq!(xs.ask(7, Kind::Directory, "data\0"), Ok(b"a\0".to_vec()));
    assert_eq!(xs.read(7, "data/a/b"), Ok("1".into()));
    assert_eq!(xs.ask(7, Kind::GetPerms, "data/a\0"), Ok(b"r7\0".to_vec()));
    assert_eq!(xs.service.store.usage(DomId(7)).nodes, 3);
}

#[test]
fn an_end_with_f_leaves_nothing() {
    let mut xs = Xs::with(&[7]);
    let usage = xs.service.store.usage(DomId(7));
    let tx = xs.begin(7);
    write_in(&mut xs, 7, tx, "data/a", "1").unwrap();
    xs.end(7, tx, "F").unwrap();
    assert_eq!(xs.read(7, "data/a"), err("ENOENT"));
    assert_eq!(xs.service.store.usage(DomId(7)), usage);
}

/// What happens in a transaction, what outside meanwhile, and whether both can stand.
type Case = (&'static str, fn(&mut Xs, u32), fn(&mut Xs), bool);

const CASES: &[Case] = &[
    ("read, changed", |xs, tx| drop(read_in(xs, 7, tx, "data/a")), |xs| change(xs, "a"), false),
    (
        "read, other changed",
        |xs, tx| drop(read_in(xs, 7, tx, "data/a")),
        |xs| change(xs, "b"),
        true,
    ),
    (
        "read missing, made",
        |xs, tx| drop(read_in(xs, 7, tx, "data/c")),
        |xs| change(xs, "c"),
        false,
    ),
    (
        "write, changed",
        |xs, tx| drop(write_in(xs, 7, tx, "data/a", "9")),
        |xs| change(xs, "a"),
        false,
    ),
    (
        "write, other changed",
        |xs, tx| drop(write_in(xs, 7, tx, "data/a", "9")),
        |xs| change(xs, "b"),
        true,
    ),
    (
        "write, removed",
        |xs, tx| drop(write_in(xs, 7, tx, "data/a", "9")),
        |xs| remove(xs, "a"),
        false,
    ),
    (
        "make, same made",
        |xs, tx| drop(write_in(xs, 7, tx, "data/c", "9")),
        |xs| change(xs, "c"),
        false,
    ),
    (
        "make, parent removed",
        |xs, tx| drop(write_in(xs, 7, tx, "data/a/x", "9")),
        |xs| remove(xs, "a"),
        false,
    ),
    (
        "list, one made",
        |xs, tx| drop(xs.ask_in(7, tx, Kind::Directory, b"data\0")),
        |xs| change(xs, "c"),
        false,
    ),
    (
        "list, value below changed",
        |xs, tx| drop(xs.ask_in(7, tx, Kind::Directory, b"data\0")),
        |xs| change(xs, "a"),
        true,
    ),
    (
        "rm, changed",
        |xs, tx| drop(xs.ask_in(7, tx, Kind::Rm, b"data/a\0")),
        |xs| change(xs, "a"),
        false,
    ),
    (
        "rm, child made",
        |xs, tx| drop(xs.ask_in(7, tx, Kind::Rm, b"data/a\0")),
        |xs| change(xs, "a/x"),
        false,
    ),
    (
        "permissions, changed",
        |xs, tx| drop(xs.ask_in(7, tx, Kind::GetPerms, b"data/a\0")),
        |xs| {
            let perms = Perms::new(Perm::read(DomId(7)), &[]);
            xs.local().set_perms("/local/domain/7/data/a", &perms).unwrap();
        },
        false,
    ),
    ("nothing, changed", |_, _| {}, |xs| change(xs, "a"), true),
];

fn change(xs: &mut Xs, name: &str) {
    xs.local().write(&format!("/local/domain/7/data/{name}"), "other").unwrap();
}

fn remove(xs: &mut Xs, name: &str) {
    xs.local().remove(&format!("/local/domain/7/data/{name}")).unwrap();
}

#[test]
fn only_changes_of_what_a_transaction_touched_refuse_its_end() {
    for (what, inside, outside, stands) in CASES {
        let mut xs = Xs::with(&[7]);
        for name in ["a", "b"] {
            xs.write(7, &format!("data/{name}"), "1").unwrap();
        }
        let tx = xs.begin(7);
        inside(&mut xs, tx);
        outside(&mut xs);
        let nodes = xs.service.store.stats().nodes;
        let end = xs.end(7, tx, "T");
        assert_eq!(end, if *stands { Ok(b"OK\0".to_vec()) } else { again() }, "{what}");
        if !stands {
            assert_eq!(xs.service.store.stats().nodes, nodes, "{what}: nothing is changed");
            assert_ne!(xs.read(7, "data/a"), Ok("9".into()), "{what}");
        }
        assert_eq!(xs.end(7, tx, "T"), Err("ENOENT".into()), "{what}: over in any case");
        assert_eq!(xs.service.store.usage(DomId(7)).transactions, 0);
    }
}

#[test]
fn of_two_transactions_that_count_up_one_is_done_again() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/n", "0").unwrap();
    let mut again = 0;
    for _ in 0..20 {
        let open = [xs.begin(7), xs.begin(7)];
        for tx in open {
            let n: u32 = read_in(&mut xs, 7, tx, "data/n").unwrap().parse().unwrap();
            write_in(&mut xs, 7, tx, "data/n", &format!("{}", n + 1)).unwrap();
        }
        let ends = open.map(|tx| xs.end(7, tx, "T"));
        assert!(ends[0].is_ok());
        again += u32::from(ends[1].is_err());
    }
    assert_eq!((xs.read(7, "data/n"), again), (Ok("20".into()), 20));
}

#[test]
fn what_came_and_went_within_never_was() {
    let mut xs = Xs::with(&[7]);
    xs.watch(7, "data", "t").unwrap();
    xs.events(7);
    let before = xs.service.store.stats().nodes;
    let tx = xs.begin(7);
    write_in(&mut xs, 7, tx, "data/a/b", "1").unwrap();
    xs.ask_in(7, tx, Kind::Rm, b"data/a\0").unwrap();
    xs.end(7, tx, "T").unwrap();
    assert_eq!(xs.service.store.stats().nodes, before);
    assert_eq!(xs.events(7), []);
}

#[test]
fn watches_hear_at_the_end_in_order_and_once_for_each_node() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/old/below", "x").unwrap();
    for (path, token) in [("data", "t"), ("data/old/below", "b")] {
        xs.watch(7, path, token).unwrap();
    }
    xs.events(7);
    let tx = xs.begin(7);
    for path in ["data/z", "data/a", "data/z"] {
        write_in(&mut xs, 7, tx, path, "1").unwrap();
    }
    xs.ask_in(7, tx, Kind::Rm, b"data/old\0").unwrap();
    assert_eq!(xs.events(7), []);
    xs.end(7, tx, "T").unwrap();
    let mut events = xs.events(7);
    assert_eq!(events.pop(), Some(("data/old/below".into(), "b".into())));
    assert_eq!(events, pairs(&[("data/a", "t"), ("data/z", "t"), ("data/old", "t")]));
}

#[test]
fn numbers_of_transactions_that_are_not_open_are_refused() {
    let mut xs = Xs::with(&[7, 8]);
    let tx = xs.begin(7);
    for (kind, payload) in [
        (Kind::Read, "data\0"),
        (Kind::Write, "data\0"),
        (Kind::Mkdir, "data\0"),
        (Kind::Rm, "data\0"),
        (Kind::Directory, "data\0"),
        (Kind::DirectoryPart, "data\x000\0"),
        (Kind::GetPerms, "data\0"),
        (Kind::SetPerms, "data\0n8\0"),
        (Kind::TransactionEnd, "T\0"),
    ] {
        let answer = xs.ask_in(8, tx, kind, payload.as_bytes());
        assert_eq!(answer, Err("ENOENT".into()), "another's: {kind:?}");
        assert_eq!(xs.ask_in(7, 999, kind, payload.as_bytes()), Err("ENOENT".into()), "{kind:?}");
    }
    assert_eq!(xs.ask_in(7, tx, Kind::TransactionStart, b"\0"), Err("EBUSY".into()));
    assert_eq!(xs.ask_in(7, 0, Kind::TransactionEnd, b"T\0"), Err("ENOENT".into()));
    // Watches have nothing to do with transactions.
    assert_eq!(xs.ask_in(7, 999, Kind::Watch, b"data\0t\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.ask_in(7, 999, Kind::Unwatch, b"data\0t\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn transactions_of_domains_that_touch_different_nodes_do_not_meet() {
    let mut xs = Xs::with(&[7, 8]);
    let (a, b) = (xs.begin(7), xs.begin(8));
    for n in 0..10 {
        write_in(&mut xs, 7, a, &format!("data/n{n}"), "1").unwrap();
        write_in(&mut xs, 8, b, &format!("data/n{n}"), "1").unwrap();
    }
    assert!(xs.end(7, a, "T").is_ok() && xs.end(8, b, "T").is_ok());
}

#[test]
fn permissions_hold_inside_a_transaction() {
    let mut xs = Xs::with(&[7, 8]);
    let tx = xs.begin(8);
    assert_eq!(read_in(&mut xs, 8, tx, "/local/domain/7/data"), err("EACCES"));
    assert_eq!(write_in(&mut xs, 8, tx, "/local/domain/7/data/x", "1"), Err("EACCES".into()));
    assert_eq!(xs.ask_in(8, tx, Kind::Rm, b"/local/domain/7/data\0"), Err("EACCES".into()));
    assert_eq!(write_in(&mut xs, 8, tx, "name", "1"), Err("EACCES".into()));
    assert!(xs.end(8, tx, "T").is_ok());
}
