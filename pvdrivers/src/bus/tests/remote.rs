//! Devices that another domain serves: nodes while both are there.

use super::*;
use crate::store::{Path, TxId};

const USER: DomId = DomId(13);
const DRIVER: DomId = DomId(7);
const FRONT: &str = "/local/domain/13/device/vbd/51728";
const BACK: &str = "/local/domain/7/backend/vbd/13/51728";

struct Both {
    store: Store,
    base: ClientId,
    remotes: Remotes,
}

fn both() -> Both {
    let mut store = Store::new(Quota::default());
    let base = store.connect(DomId::BACKEND);
    Both { store, base, remotes: Remotes::new() }
}

impl Both {
    fn arrive(&mut self, dom: DomId) -> Vec<DeviceId> {
        let spec = DomainSpec {
            domid: dom,
            uuid: format!("29a2ee29-6525-4bb6-b55d-f294a619{:04x}", dom.0),
            ..domain(DomainKind::Hvm)
        };
        create_domain(&mut self.store.local(self.base), &spec).unwrap();
        let own = (dom == USER).then(|| DeviceSpec { back_domid: DRIVER, ..disk() });
        self.remotes.arrive(&mut self.store, self.base, dom, own).unwrap()
    }

    fn depart(&mut self, dom: DomId) {
        self.remotes.depart(&mut self.store, self.base, dom);
        self.store.local(self.base).remove(&format!("/local/domain/{}", dom.0)).unwrap();
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
