//! Limits: each is tripped, with its word, and who floods floods nobody else.

use super::*;

fn over(word: &str) -> Answer {
    Err(word.to_string())
}

/// A guest with small limits, and one with the usual.
fn small(quota: Quota) -> Xs {
    let mut xs = Xs::with(&[7, 8]);
    xs.service.store.set_quota(DomId(7), quota);
    xs
}

#[test]
fn nodes_are_limited_and_given_back() {
    let mut xs = small(Quota { nodes: 10, ..Quota::GUEST });
    for n in 0..9 {
        assert!(xs.write(7, &format!("data/n{n}"), "1").is_ok());
    }
    assert_eq!(xs.write(7, "data/more", "1"), over("ENOSPC"));
    assert_eq!(xs.ask(7, Kind::Mkdir, "data/more\0"), over("ENOSPC"));
    assert!(xs.write(7, "data/n0", "2").is_ok(), "a node that is there can be written");
    assert!(xs.write(8, "data/n0", "1").is_ok(), "another domain has its own");
    xs.ask(7, Kind::Rm, "data/n0\0").unwrap();
    assert_eq!(xs.write(7, "data/a/b", "1"), over("ENOSPC"), "two at once are one too many");
    assert_eq!(xs.read(7, "data/a"), err("ENOENT"), "and none is made");
    assert!(xs.write(7, "data/a", "1").is_ok());
    let tx = xs.begin(7);
    assert_eq!(xs.ask_in(7, tx, Kind::Write, b"data/c\0"), over("ENOSPC"));
    xs.ask_in(7, tx, Kind::Rm, b"data/a\0").unwrap();
    assert!(xs.ask_in(7, tx, Kind::Write, b"data/c\0").is_ok());
    assert_eq!(xs.ask_in(7, tx, Kind::Write, b"data/d\0"), over("ENOSPC"));
    assert!(xs.end(7, tx, "T").is_ok());
    assert_eq!(xs.service.store.usage(DomId(7)).nodes, 10);
}

#[test]
fn a_transaction_cannot_be_committed_over_the_limit_that_was_reached_meanwhile() {
    let mut xs = small(Quota { nodes: 3, ..Quota::GUEST });
    let tx = xs.begin(7);
    assert!(xs.ask_in(7, tx, Kind::Write, b"data/a\0").is_ok());
    assert!(xs.ask_in(7, tx, Kind::Write, b"data/b\0").is_ok());
    let other = xs.begin(7);
    let own = Perms::new(Perm::none(DomId(7)), &[]);
    xs.local().create("/local/domain/7/other", "", &own).unwrap();
    assert_eq!(xs.end(7, tx, "T"), over("ENOSPC"));
    assert!(xs.end(7, other, "T").is_ok());
    assert_eq!(xs.service.store.usage(DomId(7)).nodes, 2);
}

#[test]
fn values_permissions_and_memory_are_limited() {
    let mut xs = small(Quota { memory: 8192, ..Quota::GUEST });
    let long = "x".repeat(2049);
    assert_eq!(xs.write(7, "data/a", &long), over("ENOSPC"));
    assert!(xs.write(7, "data/a", &long[1..]).is_ok());
    assert_eq!(xs.ask(7, Kind::SetPerms, "data/a\0n7\0r1\0r2\0r3\0r4\0r5\0"), over("ENOSPC"));
    assert!(xs.ask(7, Kind::SetPerms, "data/a\0n7\0r1\0r2\0r3\0r4\0").is_ok());
    assert!(xs.write(7, "data/b", &long[1..]).is_ok());
    assert!(xs.write(7, "data/c", &long[1..]).is_ok());
    assert_eq!(xs.write(7, "data/d", &long[1..]), over("ENOMEM"));
    assert_eq!(xs.watch(7, "data", &long[1..]), over("ENOMEM"));
    assert!(xs.write(7, "data/c", "").is_ok());
    assert!(xs.watch(7, "data", &long[1..]).is_ok());
}

#[test]
fn another_cannot_fill_a_node_beyond_its_owners_memory() {
    let mut xs = small(Quota { memory: 1500, ..Quota::GUEST });
    xs.write(7, "data/a", "").unwrap();
    xs.ask(7, Kind::SetPerms, "data/a\0b7\0").unwrap();
    assert_eq!(xs.write(8, "/local/domain/7/data/a", &"x".repeat(2000)), over("ENOMEM"));
    assert!(xs.write(8, "/local/domain/7/data/a", &"x".repeat(200)).is_ok());
}

#[test]
fn watches_and_transactions_are_limited() {
    let mut xs = small(Quota { watches: 3, transactions: 2, ..Quota::GUEST });
    for n in 0..3 {
        assert!(xs.watch(7, "data", &format!("{n}")).is_ok());
    }
    assert_eq!(xs.watch(7, "data", "3"), over("E2BIG"));
    xs.ask(7, Kind::Unwatch, "data\x000\0").unwrap();
    assert!(xs.watch(7, "data", "3").is_ok());
    let open = [xs.begin(7), xs.begin(7)];
    assert_eq!(xs.ask(7, Kind::TransactionStart, "\0"), over("ENOSPC"));
    xs.end(7, open[0], "F").unwrap();
    assert!(xs.ask(7, Kind::TransactionStart, "\0").is_ok());
    assert!(xs.ask(8, Kind::TransactionStart, "\0").is_ok());
}

#[test]
fn a_transaction_touches_so_many_nodes_at_most() {
    let mut xs = small(Quota { transaction_nodes: 5, ..Quota::GUEST });
    let tx = xs.begin(7);
    for n in 0..5 {
        assert_eq!(xs.ask_in(7, tx, Kind::Read, format!("data/{n}\0").as_bytes()), over("ENOENT"));
    }
    assert_eq!(xs.ask_in(7, tx, Kind::Read, b"data/5\0"), over("ENOSPC"));
    assert_eq!(xs.ask_in(7, tx, Kind::Write, b"data/5/6\0"), over("ENOSPC"));
    assert_eq!(xs.ask_in(7, tx, Kind::Read, b"data/4\0"), over("ENOENT"));
    assert!(xs.end(7, tx, "T").is_ok());
}

#[test]
fn a_change_that_memory_stops_half_way_is_never_committed() {
    let mut xs = Xs::with(&[7]);
    for n in 0..10 {
        xs.write(7, &format!("data/a/{n}"), "1").unwrap();
    }
    let memory = xs.service.store.usage(DomId(7)).memory + 1000;
    xs.service.store.set_quota(DomId(7), Quota { memory, ..Quota::GUEST });
    let tx = xs.begin(7);
    assert_eq!(xs.ask_in(7, tx, Kind::Rm, b"data/a\0"), over("ENOMEM"));
    assert_eq!(xs.end(7, tx, "T"), over("ENOMEM"));
    assert_eq!(xs.service.store.usage(DomId(7)).nodes, 12);
    assert_eq!(xs.service.store.usage(DomId(7)).transactions, 0);
    assert_eq!(xs.ask(7, Kind::Rm, "data/a\0"), Ok(b"OK\0".to_vec()), "outside it costs nothing");
}

#[test]
fn who_takes_no_events_misses_none_and_costs_no_more() {
    let mut xs = small(Quota { events: 4, ..Quota::GUEST });
    xs.watch(7, "data", "t").unwrap();
    xs.watch(7, "data/a", "u").unwrap();
    xs.events(7);
    for n in 0..10_000 {
        xs.local().write(&format!("/local/domain/7/data/n{}", n % 50), "1").unwrap();
    }
    xs.local().write("/local/domain/7/data/a", "1").unwrap();
    let events = xs.events(7);
    let first = ["data/n0", "data/n1", "data/n2", "data/n3"].map(|path| (path, "t"));
    assert_eq!(events[..4], pairs(&first));
    // What came on top is told by the watch's own path.
    assert_eq!(events[4..], pairs(&[("data", "t"), ("data/a", "u")]));
    xs.local().write("/local/domain/7/data/b", "1").unwrap();
    assert_eq!(xs.events(7), pairs(&[("data/b", "t")]));
}

#[test]
fn a_flood_of_everything_hurts_only_who_floods() {
    let mut xs = Xs::with(&[7, 8]);
    xs.watch(8, "data", "t").unwrap();
    xs.events(8);
    let mut rng = Rng::new(1);
    for n in 0..5000 {
        let path = format!("data/{}/{}", rng.below(2000), "y".repeat(rng.below(1500) as usize + 1));
        let answer = match rng.below(4) {
            0 => xs.write(7, &path, &"x".repeat(rng.below(2100) as usize)),
            1 => xs.watch(7, &path, &format!("{n}")),
            2 => xs.ask(7, Kind::TransactionStart, "\0"),
            _ => xs.ask_in(7, rng.below(12) as u32, Kind::Write, format!("{path}\0z").as_bytes()),
        };
        let _ = answer;
        let used = xs.service.store.usage(DomId(7));
        assert!(used.memory <= Quota::GUEST.memory && used.nodes <= Quota::GUEST.nodes);
        assert!(used.watches <= Quota::GUEST.watches);
        assert!(used.transactions <= Quota::GUEST.transactions);
        if n % 250 == 0 {
            assert_eq!(xs.service.store.check(), Ok(()));
        }
    }
    assert!(xs.write(8, "data/a", "1").is_ok());
    assert_eq!(xs.events(8), pairs(&[("data/a", "t")]));
    let used = xs.service.store.usage(DomId(8));
    assert_eq!((used.nodes, used.watches, used.transactions), (2, 1, 0));
    xs.service.forget(DomId(7));
    assert_eq!(xs.service.store.usage(DomId(7)), Usage::default());
}

#[test]
fn each_error_has_a_word_that_linux_knows() {
    // `xsd_errors` in public "io/xs_wire.h"; what else is sent Linux takes for EINVAL.
    let known = [
        "EINVAL",
        "EACCES",
        "EEXIST",
        "EISDIR",
        "ENOENT",
        "ENOMEM",
        "ENOSPC",
        "EIO",
        "ENOTEMPTY",
        "ENOSYS",
        "EROFS",
        "EBUSY",
        "EAGAIN",
        "EISCONN",
        "E2BIG",
    ];
    let limits = [
        Limit::Nodes,
        Limit::ValueBytes,
        Limit::Perms,
        Limit::Memory,
        Limit::Watches,
        Limit::Transactions,
        Limit::TransactionNodes,
    ];
    let others = [
        StoreError::NotThere,
        StoreError::NoAccess,
        StoreError::Malformed,
        StoreError::Exists,
        StoreError::Busy,
        StoreError::Conflict,
        StoreError::TooLong,
        StoreError::Unknown,
    ];
    for error in limits.map(StoreError::Over).into_iter().chain(others) {
        assert!(known.contains(&error.errno().name()), "{error:?}");
    }
    assert_eq!(StoreError::OwnerIsFixed.errno().name(), "EPERM");
}
