//! A thousand domains: what one does costs what it costs with one.

use super::*;
use std::time::Instant;

/// `count` domains with homes, a front end each and watches as Linux has them, hostile ones at the root.
fn crowd(count: u16) -> Xs {
    let mut xs = Xs::with(&[]);
    for domid in 1..=count {
        xs.add(domid);
        for path in ["device", "control/shutdown", "memory/target", "data", "/", "/local/domain"] {
            xs.watch(domid, path, "t").unwrap();
        }
        xs.local().watch(&format!("/local/domain/{domid}/data/state"), b"b", Some(0)).unwrap();
        xs.events(domid);
    }
    while xs.local().take_event().is_some() {}
    xs
}

fn visited(xs: &mut Xs, act: impl FnOnce(&mut Xs)) -> u64 {
    let before = xs.service.store.stats().watches_visited;
    act(xs);
    xs.service.store.stats().watches_visited - before
}

#[test]
fn a_write_looks_at_as_many_watches_with_a_thousand_domains_as_with_one() {
    let mut looked = Vec::new();
    for count in [1, 1000] {
        let mut xs = crowd(count);
        looked.push([
            visited(&mut xs, |xs| drop(xs.write(1, "data/state", "4").unwrap())),
            visited(&mut xs, |xs| xs.local().write("/local/domain/1/data/state", "5").unwrap()),
            visited(&mut xs, |xs| drop(xs.ask(1, Kind::Rm, "data/state\0").unwrap())),
            visited(&mut xs, |xs| xs.local().write("/local/domain/0/backend/x", "1").unwrap()),
        ]);
    }
    assert_eq!(looked[0], looked[1]);
    assert_eq!(looked[0], [4, 4, 4, 0]);
}

/// The shortest of many batches, in nanoseconds for one: others use the machine, too.
fn shortest(mut act: impl FnMut()) -> u128 {
    let batch = |act: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..50).for_each(|_| act());
        start.elapsed().as_nanos() / 50
    };
    (0..40).map(|_| batch(&mut act)).min().unwrap_or(0)
}

#[test]
fn times_of_one_and_of_a_thousand_domains_are_printed() {
    for count in [1, 1000] {
        let mut xs = crowd(count);
        let read = shortest(|| drop(xs.read(1, "data").unwrap()));
        let write = shortest(|| {
            xs.write(1, "data/state", "4").unwrap();
            xs.fronts.get_mut(&1).unwrap().events.clear();
        });
        let transaction = shortest(|| {
            let tx = xs.begin(1);
            xs.ask_in(1, tx, Kind::Write, b"data/tx\x001").unwrap();
            xs.end(1, tx, "T").unwrap();
            xs.fronts.get_mut(&1).unwrap().events.clear();
        });
        std::println!(
            "{count} domains: read {read} ns, write that three watches hear {write} ns, \
             transaction of one write {transaction} ns"
        );
    }
}

#[test]
fn a_thousand_domains_come_and_go_and_leave_nothing() {
    let mut xs = crowd(0);
    let before = xs.service.store.stats();
    for domid in 1..=1000 {
        xs.add(domid);
        xs.write(domid, "data/a/b", "1").unwrap();
        xs.watch(domid, "device", "t").unwrap();
        xs.begin(domid);
    }
    for domid in 1..=1000 {
        assert_eq!(xs.read(domid, "data/a/b"), Ok("1".into()));
    }
    assert_eq!(xs.service.store.check(), Ok(()));
    for domid in 1..=1000 {
        xs.service.forget(DomId(domid));
    }
    assert_eq!(xs.service.store.check(), Ok(()));
    // `/local` and `/local/domain` stay.
    let after = xs.service.store.stats();
    assert_eq!((after.nodes, after.clients), (before.nodes + 2, before.clients));
    assert_eq!((after.watches, after.transactions), (0, 0));
}
