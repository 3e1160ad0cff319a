//! Lives of a device: from offering to closing, reconnecting, and a front end that dies at each state.

use super::*;
use XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};

#[test]
fn a_disk_is_offered_connected_and_closed() {
    let mut host = Host::new();
    host.attach().unwrap();
    assert_eq!(host.read(&format!("{BACK}/feature-persistent")), Some("1".into()));
    assert_eq!(host.back_state(), InitWait);
    assert_eq!(host.poll(), []);
    assert_eq!(host.calls(), ["offer", "extra None"]);
    host.set("ring-ref", "8");
    assert_eq!(host.front(Initialised), (Connected, Vec::from(["connect Some(8)".into()])));
    assert_eq!(host.read(&format!("{BACK}/sectors")), Some("131072".into()));
    assert_eq!(host.front(Connected), (Connected, Vec::new()));
    assert_eq!(host.front(Closing), (Closing, Vec::from(["disconnect".into()])));
    assert_eq!(host.front(Closed), (Closed, Vec::new()));
    assert_eq!(host.bus.devices().count(), 1, "online: it stays");
}

#[test]
fn a_new_kernel_resets_what_the_old_one_left_and_connects_again() {
    // Linux's xenbus_reset_frontend: Closing, Closed, Initialising, each answered.
    let mut host = Host::with_disk();
    for _ in 0..3 {
        host.set("ring-ref", "8");
        assert_eq!(host.front(Initialised).0, Connected);
        assert_eq!(host.front(Closing).0, Closing);
        assert_eq!(host.front(Closed).0, Closed);
        assert_eq!(host.front(Initialising).0, InitWait);
    }
}

#[test]
fn a_front_end_that_begins_again_without_closing_has_crashed_and_is_offered_the_device() {
    let mut host = Host::with_disk();
    host.front(Initialised);
    host.calls();
    let calls = Vec::from(["disconnect".into(), "offer".into()]);
    assert_eq!(host.front(Initialising), (InitWait, calls));
    host.set("ring-ref", "9");
    assert_eq!(host.front(Initialised), (Connected, Vec::from(["connect Some(9)".into()])));
}

#[test]
fn a_back_end_that_fails_says_why_and_the_device_can_be_tried_again() {
    let mut host = Host::with_disk();
    host.log.refuse = Some(Errno::EINVAL);
    host.set("state", "3");
    let id = disk().id;
    assert_eq!(host.poll(), [Notice::Failed(id, Errno::EINVAL)]);
    assert_eq!(host.back_state(), Closing);
    let error = "/local/domain/0/error/backend/vbd/13/51728/error";
    assert_eq!(host.read(error), Some("22 EINVAL".into()));
    assert_eq!(host.calls(), ["connect None", "disconnect"]);
    host.log.refuse = None;
    assert_eq!(host.front(Closed).0, Closed);
    assert_eq!(host.front(Initialising).0, InitWait);
    assert_eq!(host.front(Initialised).0, Connected);
    host.bus.destroy_domain(&mut host.store, DomId(13), &mut host.log);
    assert_eq!(host.read(error), None);
}

/// Brings a front end to a state as drivers do.
fn bring(host: &mut Host, to: XenbusState) {
    let way: &[XenbusState] = match to {
        Initialising => &[],
        Initialised => &[Initialised],
        Connected => &[Initialised, Connected],
        Closing => &[Initialised, Connected, Closing],
        Closed => &[Initialised, Connected, Closing, Closed],
        other => &[other],
    };
    way.iter().for_each(|state| drop(host.front(*state)));
}

#[test]
fn a_front_end_may_die_at_each_state_and_nothing_is_left() {
    let mut host = Host::new();
    let before = host.store.stats();
    for state in XenbusState::ALL {
        // Its directory is removed; by the guest, which owns it.
        host.attach().unwrap();
        bring(&mut host, state);
        host.store.local(host.root).remove(BLOCK).unwrap();
        host.poll();
        assert_eq!((host.back_state(), host.log.held), (Closed, 0), "{state:?}");
        host.bus.destroy_domain(&mut host.store, DomId(13), &mut host.log);

        // The domain dies.
        host.attach().unwrap();
        bring(&mut host, state);
        let notices = host.bus.destroy_domain(&mut host.store, DomId(13), &mut host.log);
        assert_eq!(notices.last(), Some(&Notice::Removed(disk().id)), "{state:?}");
        assert_eq!((host.bus.devices().count(), host.log.held), (0, 0), "{state:?}");

        // Its kernel starts anew.
        host.attach().unwrap();
        bring(&mut host, state);
        host.set("ring-ref", "77");
        host.bus.restart_domain(&mut host.store, DomId(13), &mut host.log);
        assert_eq!(host.read(&format!("{BLOCK}/ring-ref")), None);
        assert_eq!((host.back_state(), host.log.held), (InitWait, 0), "{state:?}");
        host.poll();
        assert_eq!(host.front(Initialised).0, Connected, "{state:?}");
        host.bus.destroy_domain(&mut host.store, DomId(13), &mut host.log);
    }
    host.poll();
    let after = host.store.stats();
    // The directories of all disks stay: the domain's, and those of the back ends and of errors.
    host.store.local(host.root).remove("/local/domain/13/device/vbd").unwrap();
    host.store.local(host.root).remove("/local/domain/0/backend/vbd").unwrap();
    assert_eq!(host.store.stats().nodes, before.nodes, "{after:?}");
    assert_eq!((after.watches, after.clients), (before.watches, before.clients));
}

#[test]
fn unplugging_waits_for_a_front_end_that_uses_the_device() {
    let mut host = Host::with_disk();
    host.front(Initialised);
    let id = disk().id;
    assert_eq!(host.bus.detach(&mut host.store, id, &mut host.log), Ok(Vec::new()));
    assert_eq!((host.back_state(), host.log.held), (Closing, 1));
    assert_eq!(host.read(&format!("{BACK}/online")), Some("0".into()));
    assert_eq!(host.front(Closing).0, Closing);
    host.set("state", "6");
    assert_eq!(host.poll(), [Notice::Closed(id), Notice::Removed(id)]);
    assert_eq!((host.read(BACK), host.read(BLOCK), host.log.held), (None, None, 0));
    assert!(host.bus.detach(&mut host.store, id, &mut host.log).is_err());
}

#[test]
fn unplugging_an_unused_device_takes_it_at_once_and_a_stubborn_one_by_force() {
    let mut host = Host::with_disk();
    let id = disk().id;
    let notices = host.bus.detach(&mut host.store, id, &mut host.log).unwrap();
    assert_eq!(notices, [Notice::Closed(id), Notice::Removed(id)]);
    assert_eq!(host.read(BACK), None);
    host.attach().unwrap();
    host.front(Initialised);
    host.bus.detach(&mut host.store, id, &mut host.log).unwrap();
    let notices = host.bus.remove_device(&mut host.store, id, &mut host.log);
    assert_eq!(notices, [Notice::Closed(id), Notice::Removed(id)]);
    assert_eq!(host.log.held, 0);
}

#[test]
fn a_device_is_there_once() {
    let mut host = Host::with_disk();
    assert_eq!(host.attach(), Err(crate::store::StoreError::Exists));
    assert!(host.bus.backend(disk().id).is_some());
}

#[test]
fn back_ends_hear_of_the_nodes_that_they_watch() {
    let mut host = Host::with_disk();
    host.set("extra", "5");
    host.set("other", "6");
    host.set("extra/deeper", "7");
    host.poll();
    assert_eq!(host.calls(), ["extra Some(\"5\")"]);
}

#[test]
fn any_states_in_any_order_keep_calls_in_order() {
    // `Notes` asserts that it is connected and disconnected by turns.
    for seed in 0..200u64 {
        let mut host = Host::with_disk();
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..60 {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            let pick = (number >> 20) % 16;
            host.log.refuse = (number >> 40).is_multiple_of(5).then_some(Errno::EIO);
            match pick {
                0..=9 => drop(host.front(XenbusState::ALL[(pick as usize) % 9])),
                10 => host.set("state", "junk"),
                11 => host.store.local(host.root).remove(BLOCK).unwrap(),
                12 => drop(host.bus.restart_domain(&mut host.store, DomId(13), &mut host.log)),
                13 => host.set("extra", "1"),
                14 => drop(host.bus.detach(&mut host.store, disk().id, &mut host.log)),
                _ => drop(host.attach()),
            }
            if pick != 15 {
                host.poll();
            }
            let held = host.log.held == 1;
            let state = host.back_state();
            let uses = matches!(state, Connected) || (held && state == Closing);
            assert_eq!(held, uses, "seed {seed}: {state:?}");
            assert!(state != Unknown || host.bus.devices().count() == 0, "seed {seed}");
        }
        host.bus.destroy_domain(&mut host.store, DomId(13), &mut host.log);
        assert_eq!(host.log.held, 0);
    }
}

#[test]
fn a_disk_in_use_announces_its_new_size() {
    let mut host = Host::with_disk();
    host.front(Connected);
    let guest = host.store.connect(DomId(13));
    let state = crate::store::Path::parse(format!("{BACK}/state").as_bytes(), DomId(13)).unwrap();
    host.store.watch(guest, &state, b"blkfront", None, false).unwrap();
    while host.store.take_event(guest).is_some() {}
    let id = disk().id;
    host.bus.nodes(&mut host.store, id).unwrap().write("sectors", 262_144).unwrap();
    assert!(host.store.take_event(guest).is_none());
    host.bus.announce(&mut host.store, id);
    assert!(host.store.take_event(guest).is_some());
    assert_eq!(host.back_state(), Connected);
}
