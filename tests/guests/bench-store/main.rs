//! What does a change of XenStore cost with one domain, and with a thousand? It runs the hypervisor's
//! own store (`pvdrivers::store`) in itself and times it by the TSC, as `bench` does. No guest's ring
//! and no hypercall is in it: `bench` has those.

#![no_std]
#![no_main]

extern crate alloc;

mod heap;

use alloc::format;
use pvdrivers::DomId;
use pvdrivers::store::{ClientId, Perm, Perms, Quota, Store};
use support::{cpu, guest, println};

guest!("bench-store", main);

/// How often each operation is timed.
const SAMPLES: usize = 64;

fn main() {
    for count in [1, 1000] {
        crowd(count);
    }
}

/// `count` domains, each with a home that it may read and `data` in it that is its own, with watches
/// as Linux has them and with some at the root.
fn crowd(count: u16) {
    let mut store = Store::new(Quota::GUEST);
    let root = store.connect(DomId(0));
    let mut first = None;
    for domid in (1..=count).map(DomId) {
        let home = format!("/local/domain/{}", domid.0);
        let fixed = Perms::new(Perm::none(DomId(0)), &[Perm::read(domid)]);
        let own = Perms::new(Perm::none(domid), &[]);
        assert!(store.local(root).create(&home, "", &fixed).is_ok(), "a home");
        assert!(store.local(root).create(&format!("{home}/data"), "", &own).is_ok(), "data");
        let client = store.connect(domid);
        for path in ["device", "control/shutdown", "memory/target", "data", "/", "/local/domain"] {
            assert!(store.local(client).watch(path, b"t", None).is_ok(), "a watch at {path}");
        }
        first.get_or_insert(client);
        forget_events(&mut store, client);
    }
    let client = first.expect("one domain at least");
    measure("store_read", count, &mut store, client, |store| {
        assert!(store.local(client).read("data").is_some(), "read");
    });
    measure("store_write", count, &mut store, client, |store| {
        assert!(store.local(client).write("data/state", "4").is_ok(), "write");
    });
    // What a write is heard by: its own domain's three watches, whoever else watches the root.
    assert_eq!(forget_events(&mut store, client), 0);
    assert!(store.local(client).write("data/state", "5").is_ok(), "write");
    assert_eq!(forget_events(&mut store, client), 3);
    println!("@bench-store {count} domains, {} watches", store.stats().watches);
}

/// Times an operation without what it tells its watchers to take.
fn measure(
    name: &str,
    count: u16,
    store: &mut Store,
    client: ClientId,
    mut work: impl FnMut(&mut Store),
) {
    let mut samples = [0u64; SAMPLES];
    for sample in &mut samples {
        let start = cpu::rdtsc();
        work(store);
        *sample = cpu::rdtsc() - start;
        forget_events(store, client);
    }
    samples.sort_unstable();
    println!("@bench-op {name}_{count} {} 0", samples[SAMPLES / 2]);
}

/// Takes all events of a client: how many.
fn forget_events(store: &mut Store, client: ClientId) -> usize {
    core::iter::from_fn(|| store.local(client).take_event()).count()
}
