//! Devices that another domain serves: nodes while both are there.

use super::*;
use crate::store::{Path, StoreError, TxId};

const USER: DomId = DomId(13);
const DRIVER: DomId = DomId(7);
const FRONT: &str = "/local/domain/13/device/vbd/51728";
const BACK: &str = "/local/domain/7/backend/vbd/13/51728";

/// Those that all were made.
fn made(arrived: Vec<(DeviceId, Result<(), StoreError>)>) -> Vec<DeviceId> {
    arrived.into_iter().map(|(id, made)| made.map(|()| id).unwrap()).collect()
}

struct Both {
    store: Store,
    base: ClientId,
    remotes: Remotes,
}

fn both() -> Both {
    let mut store = Store::new(Quota::default());
    let base = store.connect(DomId::BACKEND);
    let remotes = Remotes::new(&mut store);
    Both { store, base, remotes }
}

impl Both {
    fn base_nodes(&mut self, dom: DomId) {
        let spec = DomainSpec {
            domid: dom,
            uuid: format!("29a2ee29-6525-4bb6-b55d-f294a619{:04x}", dom.0),
            ..domain(DomainKind::Hvm)
        };
        create_domain(&mut self.store.local(self.base), &spec).unwrap();
    }

    fn arrive(&mut self, dom: DomId) -> Vec<DeviceId> {
        self.base_nodes(dom);
        let own = (dom == USER).then(|| DeviceSpec { back_domid: DRIVER, ..disk() });
        made(self.remotes.arrive(&mut self.store, dom, own))
    }

    fn depart(&mut self, dom: DomId) {
        self.store.local(self.base).remove(&format!("/local/domain/{}", dom.0)).unwrap();
        self.store.forget(dom);
        self.remotes.depart(&mut self.store, dom);
    }

    /// The front end says in what state it is.
    fn front(&mut self, state: XenbusState) {
        let user = self.store.connect(USER);
        self.store.local(user).write(&format!("{FRONT}/state"), state.number()).unwrap();
        self.store.disconnect(user);
    }

    fn back_state(&mut self) -> Option<String> {
        let user = self.store.connect(USER);
        let state = self.store.local(user).read(&format!("{BACK}/state"));
        self.store.disconnect(user);
        state
    }

    fn poll(&mut self, idle: bool) -> Vec<Parting> {
        self.remotes.poll(&mut self.store, |_, device| {
            assert_eq!(device.id, disk().id);
            idle
        })
    }

    /// Whether a domain has any node.
    fn home(&mut self, dom: DomId) -> bool {
        self.store.local(self.base).exists(&format!("/local/domain/{}", dom.0))
    }

    fn there(&mut self) -> (bool, bool) {
        let mut base = self.store.local(self.base);
        (base.read(FRONT).is_some(), base.read(BACK).is_some())
    }
}

#[test]
fn nodes_are_made_when_the_second_of_both_arrives_in_either_order() {
    for [first, second] in [[USER, DRIVER], [DRIVER, USER]] {
        let mut t = both();
        assert_eq!(t.arrive(first), []);
        assert_eq!(t.there(), (false, false));
        assert_eq!(t.arrive(second), [disk().id]);
        assert_eq!(t.there(), (true, true));
    }
}

#[test]
fn each_end_may_write_its_own_directory_and_read_the_others() {
    let mut t = both();
    t.arrive(USER);
    t.arrive(DRIVER);
    let (user, driver) = (t.store.connect(USER), t.store.connect(DRIVER));
    assert_eq!(t.store.local(user).read(&format!("{FRONT}/backend")).as_deref(), Some(BACK));
    assert_eq!(t.store.local(user).read(&format!("{FRONT}/backend-id")).as_deref(), Some("7"));
    assert_eq!(t.store.local(driver).read(&format!("{BACK}/frontend")).as_deref(), Some(FRONT));
    assert_eq!(t.store.local(driver).read(&format!("{FRONT}/state")).as_deref(), Some("1"));
    // As Linux's `xenbus_probe_backend` and `xen-blkback` look for them and write them.
    let list = Path::parse(b"backend/vbd/13", DRIVER).unwrap();
    assert_eq!(t.store.directory(driver, TxId::NONE, &list).unwrap().len(), 1);
    for (who, path, may) in [
        (driver, format!("{BACK}/physical-device"), true),
        (driver, format!("{FRONT}/state"), false),
        (user, format!("{FRONT}/ring-ref"), true),
        (user, format!("{BACK}/state"), false),
    ] {
        let path = Path::parse(path.as_bytes(), DomId::BACKEND).unwrap();
        assert_eq!(t.store.write(who, TxId::NONE, &path, b"1").is_ok(), may, "{path:?}");
    }
}

#[test]
fn whoever_goes_takes_the_others_nodes_along_and_brings_them_back() {
    for leaver in [USER, DRIVER] {
        let mut t = both();
        t.arrive(USER);
        t.arrive(DRIVER);
        t.depart(leaver);
        assert_eq!(t.there(), (false, false), "{leaver:?}");
        assert_eq!(t.arrive(leaver), [disk().id]);
        assert_eq!(t.there(), (true, true));
        let state = format!("{FRONT}/state");
        assert_eq!(t.store.local(t.base).read(&state).as_deref(), Some("1"));
    }
}

#[test]
fn a_driver_domain_that_goes_takes_all_that_it_serves_and_nothing_of_another_one() {
    const OTHER: DomId = DomId(8);
    let mut t = both();
    for dom in [USER, DRIVER, OTHER] {
        t.base_nodes(dom);
    }
    let devices = [(DRIVER, 51728), (DRIVER, 51744), (OTHER, 51760)].map(|(back_domid, devid)| {
        let spec = disk();
        DeviceSpec { back_domid, id: DeviceId { devid, ..spec.id }, ..spec }
    });
    let there = |t: &mut Both| {
        devices.each_ref().map(|device| {
            let mut base = t.store.local(t.base);
            let both = [device.front_path(), device.back_path()];
            both.map(|path| base.read(&path).is_some())
        })
    };
    let ids = devices.each_ref().map(|device| device.id);
    let Both { store, remotes, .. } = &mut t;
    assert_eq!(made(remotes.arrive(store, USER, devices.clone())), []);
    assert_eq!(made(remotes.arrive(store, OTHER, [])), ids[2..]);
    assert_eq!(made(remotes.arrive(store, DRIVER, [])), ids[..2]);
    assert_eq!(there(&mut t), [[true; 2]; 3]);
    t.depart(DRIVER);
    assert_eq!(there(&mut t), [[false; 2], [false; 2], [true; 2]]);
    t.base_nodes(DRIVER);
    let Both { store, remotes, .. } = &mut t;
    assert_eq!(made(remotes.arrive(store, DRIVER, [])), ids[..2]);
    assert_eq!(there(&mut t), [[true; 2]; 3]);
    t.depart(USER);
    assert_eq!(there(&mut t), [[false; 2]; 3], "no directory of a guest that died stays behind");
}

#[test]
fn a_driver_domain_that_fills_the_directory_of_a_device_to_come_does_not_hinder_it() {
    let mut t = both();
    t.arrive(USER);
    t.arrive(DRIVER);
    t.depart(USER);
    let driver = t.store.connect(DRIVER);
    // What it owns beside counts as well.
    for own in ["attr", "control", "data", "device", "drivers", "error", "feature"] {
        t.store.local(t.base).remove(&format!("/local/domain/7/{own}")).unwrap();
    }
    let write = |n: u32| {
        let path = Path::parse(format!("{BACK}/{n}").as_bytes(), DRIVER).unwrap();
        t.store.write(driver, TxId::NONE, &path, b"")
    };
    assert!((0..Quota::GUEST.nodes).map(write).any(|written| written.is_err()), "to its quota");
    assert_eq!(t.arrive(USER), [disk().id]);
    assert_eq!(t.there(), (true, true));
    assert!(t.store.local(t.base).read(&format!("{BACK}/0")).is_none());
}

#[test]
fn a_device_that_cannot_be_made_does_not_keep_others_from_being_tried() {
    let mut t = both();
    for dom in [USER, DRIVER] {
        t.base_nodes(dom);
    }
    let spec = DeviceSpec { back_domid: DRIVER, ..disk() };
    let other = DeviceSpec { id: DeviceId { devid: 51744, ..spec.id }, ..spec.clone() };
    let ids = [spec.id, other.id];
    let Both { store, remotes, .. } = &mut t;
    assert_eq!(made(remotes.arrive(store, USER, [spec, other])), []);
    // Nothing of the store's own fails for domain 0; a client that is gone does.
    store.disconnect(remotes.client());
    assert_eq!(remotes.arrive(store, DRIVER, []), ids.map(|id| (id, Err(StoreError::NotThere))));
    // They count as not made.
    assert_eq!(remotes.arrive(store, DRIVER, []).len(), 2);
}

#[test]
fn a_front_end_in_use_sees_a_closed_back_end_before_its_device_goes() {
    for state in [XenbusState::Initialised, XenbusState::Connected] {
        let mut t = both();
        t.arrive(USER);
        t.arrive(DRIVER);
        t.front(state);
        t.depart(DRIVER);
        assert_eq!(t.back_state().as_deref(), Some("6"));
        assert_eq!(t.poll(true), [], "it has not closed yet");
        assert!(t.there().0);
        // A driver domain that is back sooner than that waits.
        assert_eq!(t.arrive(DRIVER), []);
        t.front(XenbusState::Closing);
        assert_eq!(t.poll(true), []);
        t.front(XenbusState::Closed);
        assert!(t.store.has_events(t.remotes.client()));
        assert_eq!(t.poll(true), [Parting::Gone(disk().id)]);
        assert_eq!(t.there(), (false, false));
        t.depart(DRIVER);
        assert!(!t.home(DRIVER));
        assert_eq!(t.arrive(DRIVER), [disk().id]);
        assert_eq!(t.there(), (true, true));
    }
}

#[test]
fn a_front_end_with_requests_under_way_keeps_its_device_until_its_domain_goes() {
    let mut t = both();
    t.arrive(USER);
    t.arrive(DRIVER);
    t.front(XenbusState::Connected);
    t.depart(DRIVER);
    t.front(XenbusState::Closed);
    assert_eq!(t.poll(false), [Parting::Stuck(disk().id)]);
    for _ in 0..2 {
        assert_eq!(t.poll(true), [], "it is said once");
        assert!(t.there().0);
        assert_eq!(t.back_state().as_deref(), Some("6"));
        // The driver domain starts anew, and ends.
        assert_eq!(t.arrive(DRIVER), []);
        t.depart(DRIVER);
    }
    t.depart(USER);
    assert!(!t.home(DRIVER) && !t.home(USER), "nothing stands in for anybody any more");
    assert_eq!(t.arrive(DRIVER), []);
    assert_eq!(t.arrive(USER), [disk().id]);
    assert_eq!(t.there(), (true, true));
}

#[test]
fn a_front_end_may_go_while_its_back_end_is_away_and_no_watch_stays() {
    let mut t = both();
    t.arrive(USER);
    t.arrive(DRIVER);
    t.front(XenbusState::Connected);
    t.depart(DRIVER);
    t.depart(USER);
    assert!(!t.home(DRIVER) && !t.home(USER));
    t.poll(true);
    t.arrive(USER);
    t.arrive(DRIVER);
    t.front(XenbusState::Connected);
    assert!(!t.store.has_events(t.remotes.client()));
}
