//! Watches: which change is told to whom, with which path, and in what order.

use super::*;

#[test]
fn a_watch_fires_once_when_it_is_set_after_its_answer() {
    let mut xs = Xs::with(&[7]);
    let payload = b"data\0t\0";
    let header = Header { kind: Kind::Watch, req_id: 9, tx_id: 0, len: payload.len() as u32 };
    let bytes: Vec<u8> = header.bytes().iter().chain(payload).copied().collect();
    xs.send(7, &bytes);
    let front = xs.fronts.get_mut(&7).unwrap();
    assert_eq!(front.message().unwrap().0.kind, Kind::Watch);
    let (header, body) = front.message().unwrap();
    assert_eq!((header.kind, body), (Kind::WatchEvent, b"data\0t\0".to_vec()));
    assert!(front.message().is_none());
}

#[test]
fn it_hears_of_its_node_and_all_below_by_the_kind_of_path_that_was_given() {
    let mut xs = Xs::with(&[7]);
    for (path, token) in [("data", "rel"), ("/local/domain/7/data", "abs"), ("data/a", "below")] {
        xs.watch(7, path, token).unwrap();
    }
    xs.events(7);
    xs.write(7, "data/a/b", "1").unwrap();
    let mut events = xs.events(7);
    events.sort();
    let whole = "/local/domain/7/data/a/b";
    assert_eq!(events, pairs(&[(whole, "abs"), ("data/a/b", "below"), ("data/a/b", "rel")]));
    xs.write(7, "data", "1").unwrap();
    assert_eq!(xs.events(7).len(), 2, "the watch below does not hear of the node above");
    xs.write(7, "data/ab", "1").unwrap();
    assert_eq!(xs.events(7).len(), 2, "a name that begins alike is another");
}

#[test]
fn every_change_is_told_and_what_changes_nothing_is_not() {
    let mut xs = Xs::with(&[7]);
    xs.watch(7, "data/a", "t").unwrap();
    xs.events(7);
    for (kind, payload, told) in [
        (Kind::Mkdir, "data/a\0", true),
        (Kind::Mkdir, "data/a\0", false),
        (Kind::Write, "data/a\x001", true),
        (Kind::Read, "data/a\0", false),
        (Kind::Directory, "data/a\0", false),
        (Kind::SetPerms, "data/a\0r7\0", true),
        (Kind::Rm, "data/a\0", true),
        (Kind::Rm, "data/a\0", false),
    ] {
        xs.ask(7, kind, payload).unwrap();
        assert_eq!(xs.events(7), pairs(&[("data/a", "t")][..usize::from(told)]), "{kind:?}");
    }
}

#[test]
fn removing_a_node_tells_watches_below_with_their_own_paths() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/a/b/c", "1").unwrap();
    for (path, token) in [("data", "above"), ("data/a/b", "mid"), ("data/a/b/c", "low")] {
        xs.watch(7, path, token).unwrap();
    }
    xs.watch(7, "data/a/none", "none").unwrap();
    xs.events(7);
    xs.ask(7, Kind::Rm, "data/a\0").unwrap();
    let events = xs.events(7);
    assert_eq!(events, pairs(&[("data/a", "above"), ("data/a/b", "mid"), ("data/a/b/c", "low")]));
}

#[test]
fn depth_bounds_how_far_below_a_watch_hears() {
    let mut xs = Xs::with(&[7]);
    for depth in 0..3 {
        xs.ask(7, Kind::Watch, &format!("data\0d{depth}\0{depth}\0")).unwrap();
    }
    xs.events(7);
    let mut heard = |path: &str| {
        xs.write(7, path, "1").unwrap();
        xs.events(7).len()
    };
    assert_eq!(heard("data"), 3);
    assert_eq!(heard("data/a"), 2);
    assert_eq!(heard("data/a/b"), 1);
    assert_eq!(heard("data/a/b/c"), 0);
}

#[test]
fn watches_are_known_by_path_and_token() {
    let mut xs = Xs::with(&[7, 8]);
    assert!(xs.watch(7, "data", "t").is_ok());
    assert_eq!(xs.watch(7, "data", "t"), Err("EEXIST".into()));
    assert_eq!(xs.watch(7, "/local/domain/7/data", "t"), Err("EEXIST".into()));
    assert!(xs.watch(7, "data", "u").is_ok() && xs.watch(8, "/local/domain/7/data", "t").is_ok());
    assert_eq!(xs.ask(7, Kind::Unwatch, "data\0x\0"), Err("ENOENT".into()));
    assert_eq!(xs.ask(7, Kind::Unwatch, "data/a\0t\0"), Err("ENOENT".into()));
    assert_eq!(xs.ask(7, Kind::Unwatch, "data\0t\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::Unwatch, "data\0t\0"), Err("ENOENT".into()));
    xs.events(7);
    xs.write(7, "data/a", "1").unwrap();
    assert_eq!(xs.events(7), pairs(&[("data/a", "u")]));
}

#[test]
fn nobody_hears_of_what_may_not_be_read() {
    let mut xs = Xs::with(&[7, 8]);
    xs.watch(8, "/", "root").unwrap();
    xs.watch(8, "/local/domain/7/data/a", "t").unwrap();
    xs.events(8);
    xs.write(7, "data/a", "1").unwrap();
    assert_eq!(xs.events(8), []);
    xs.ask(7, Kind::SetPerms, "data/a\0n7\0r8\0").unwrap();
    assert_eq!(xs.events(8).len(), 2, "it may read it now");
    xs.write(7, "data/a", "2").unwrap();
    assert_eq!(xs.events(8).len(), 2);
    xs.ask(7, Kind::SetPerms, "data/a\0n7\0").unwrap();
    assert_eq!(xs.events(8).len(), 2, "it might before");
    xs.write(7, "data/a", "3").unwrap();
    assert_eq!(xs.events(8), []);
    xs.ask(7, Kind::SetPerms, "data/a\0r7\0").unwrap();
    assert_eq!(xs.events(8).len(), 2, "all may");
    xs.ask(7, Kind::Rm, "data/a\0").unwrap();
    assert_eq!(xs.events(8).len(), 2, "it might before it was gone");
}

#[test]
fn who_may_read_a_node_hears_of_what_comes_and_goes_in_it() {
    let mut xs = Xs::with(&[7]);
    let secret = Perms::new(Perm::none(DomId(0)), &[]);
    xs.watch(7, "new", "t").unwrap();
    xs.events(7);
    xs.local().create("/local/domain/7/new", "1", &secret).unwrap();
    assert_eq!(xs.events(7), pairs(&[("new", "t")]));
    xs.local().remove("/local/domain/7/new").unwrap();
    assert_eq!(xs.events(7), pairs(&[("new", "t")]));
}

#[test]
fn domains_that_come_and_go_are_told_to_who_may_hear_it() {
    let mut xs = Xs::with(&[7]);
    for name in ["@introduceDomain", "@releaseDomain"] {
        xs.watch(7, name, "t").unwrap();
        xs.local().watch(name, b"plain", None).unwrap();
        xs.local().watch(name, b"deep", Some(1)).unwrap();
    }
    xs.local().watch("@releaseDomain/9", b"nine", None).unwrap();
    assert_eq!(xs.events(7).len(), 2);
    let heard = |xs: &mut Xs| {
        let mut list = Vec::new();
        while let Some(event) = xs.local().take_event() {
            list.push(format!("{} {}", event.path(), text(&event.token)));
        }
        list.sort();
        list
    };
    heard(&mut xs);
    xs.add(9);
    assert_eq!(heard(&mut xs), ["@introduceDomain plain", "@introduceDomain/9 deep"]);
    xs.service.store.shut_down(DomId(9));
    let released = ["@releaseDomain plain", "@releaseDomain/9 deep", "@releaseDomain/9 nine"];
    assert_eq!(heard(&mut xs), released);
    xs.service.forget(DomId(9));
    assert_eq!(heard(&mut xs), released);
    assert_eq!(xs.events(7), []);
    let perms = Perms::new(Perm::none(DomId(0)), &[Perm::read(DomId(7))]);
    xs.local().set_perms("@introduceDomain", &perms).unwrap();
    xs.add(10);
    assert_eq!(xs.events(7), pairs(&[("@introduceDomain", "t")]));
    xs.fronts.remove(&9);
}

#[test]
fn events_keep_their_order_and_equal_ones_that_wait_are_one() {
    let mut xs = Xs::with(&[7]);
    xs.watch(7, "data", "t").unwrap();
    xs.events(7);
    for name in ["c", "a", "b", "a", "c"] {
        xs.local().write(&format!("/local/domain/7/data/{name}"), "1").unwrap();
    }
    assert_eq!(xs.events(7), pairs(&[("data/c", "t"), ("data/a", "t"), ("data/b", "t")]));
}

#[test]
fn an_event_that_does_not_fit_into_a_message_names_the_watch() {
    let mut xs = Xs::with(&[7]);
    let token = "t".repeat(3000);
    xs.watch(7, "data", &token).unwrap();
    xs.events(7);
    let long = format!("/local/domain/7/data/{}", "x".repeat(1500));
    xs.local().write(&long, "1").unwrap();
    assert_eq!(xs.events(7), pairs(&[("data", &token)]));
}

#[test]
fn a_busy_watch_does_not_hold_up_what_others_missed() {
    let mut store = Store::new(Quota { events: 4, ..Quota::GUEST });
    let client = store.connect(DomId(0));
    let mut local = store.local(client);
    local.watch("/busy", b"busy", None).unwrap();
    local.watch("/quiet", b"quiet", None).unwrap();
    while local.take_event().is_some() {}
    for n in 0..4 {
        local.write(&format!("/busy/{n}"), 1).unwrap();
    }
    local.write("/quiet", 1).unwrap();
    let mut taken = 0;
    for n in 0u32.. {
        // The queue is never empty.
        local.write(&format!("/busy/{n}"), 1).unwrap();
        taken += 1;
        if &*local.take_event().unwrap().token == b"quiet" {
            break;
        }
    }
    assert!(taken < 50, "{taken}");
}

#[test]
fn the_store_may_be_handed_from_cpu_to_cpu() {
    fn is_send<T: Send>() {}
    is_send::<Service>();
}
