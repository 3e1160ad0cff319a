//! Requests to a domain, and how Linux takes them.

use super::*;
use crate::store::{Path, StoreError, TxId};

const SHUTDOWN: &str = "/local/domain/13/control/shutdown";

struct Asked {
    store: Store,
    control: Control,
    guest: ClientId,
}

fn asked() -> Asked {
    let mut store = Store::new(Quota::default());
    let base = store.connect(DomId::BACKEND);
    let spec = DomainSpec { max_vcpus: 4, ..domain(DomainKind::Hvm) };
    create_domain(&mut store.local(base), &spec).unwrap();
    let control = Control::new(&mut store);
    let guest = store.connect(DomId(13));
    Asked { store, control, guest }
}

impl Asked {
    /// What the guest reads there, as itself.
    fn read(&mut self, path: &str) -> Option<String> {
        self.store.local(self.guest).read(path)
    }

    /// What the guest writes, as itself.
    fn write(&mut self, path: &str, value: &[u8]) {
        let path = Path::parse(path.as_bytes(), DomId(13)).unwrap();
        self.store.write(self.guest, TxId::NONE, &path, value).unwrap();
    }
}

#[test]
fn a_request_stands_in_the_store_until_the_guest_clears_it() {
    let mut t = asked();
    t.store.local(t.guest).watch("control/shutdown", b"w", None).unwrap();
    assert!(t.store.local(t.guest).take_event().is_some(), "each watch fires once at first");
    t.control.ask(&mut t.store, DomId(13), Request::PowerOff, 100).unwrap();
    assert!(t.store.local(t.guest).take_event().is_some());
    assert_eq!(t.read(SHUTDOWN).as_deref(), Some("poweroff"));
    assert_eq!(t.control.poll(&mut t.store), []);
    assert_eq!(t.control.next_due(), Some(100));
    // Linux clears it by an empty text.
    t.write("control/shutdown", b"");
    assert_eq!(t.control.poll(&mut t.store), [(DomId(13), Request::PowerOff)]);
    assert_eq!((t.control.next_due(), t.control.poll(&mut t.store)), (None, Vec::new()));
}

#[test]
fn a_second_request_replaces_the_first_and_is_told_once() {
    let mut t = asked();
    t.control.ask(&mut t.store, DomId(13), Request::PowerOff, 100).unwrap();
    t.control.ask(&mut t.store, DomId(13), Request::Reboot, 200).unwrap();
    assert_eq!(t.read(SHUTDOWN).as_deref(), Some("reboot"));
    t.write("control/shutdown", b"\0");
    assert_eq!(t.control.poll(&mut t.store), [(DomId(13), Request::Reboot)]);
}

#[test]
fn a_guest_that_does_not_answer_is_overdue_once() {
    let mut t = asked();
    t.control.ask(&mut t.store, DomId(13), Request::Reboot, 100).unwrap();
    assert_eq!(t.control.overdue(&mut t.store, 99), None);
    assert_eq!(t.control.overdue(&mut t.store, 100), Some((DomId(13), Request::Reboot)));
    assert_eq!(t.control.overdue(&mut t.store, 101), None);
    // It may be asked again.
    t.control.ask(&mut t.store, DomId(13), Request::PowerOff, 200).unwrap();
    t.control.forget(&mut t.store, DomId(13));
    assert_eq!(t.control.next_due(), None);
}

#[test]
fn what_the_guest_can_is_what_it_says() {
    let mut t = asked();
    assert!(!t.control.is_offered(&mut t.store, DomId(13), Request::PowerOff));
    t.write("control/feature-poweroff", b"1");
    assert!(t.control.is_offered(&mut t.store, DomId(13), Request::PowerOff));
    assert!(!t.control.is_offered(&mut t.store, DomId(13), Request::Reboot));
}

#[test]
fn who_is_not_there_cannot_be_asked() {
    let mut t = asked();
    let Asked { store, control, .. } = &mut t;
    let nobody = DomId(14);
    assert_eq!(control.ask(store, nobody, Request::PowerOff, 1), Err(StoreError::NotThere));
    assert_eq!(control.sysrq(store, nobody, 'h'), Err(StoreError::NotThere));
    assert_eq!(control.set_vcpus(store, nobody, 1), Err(StoreError::NotThere));
    assert_eq!(control.next_due(), None);
}

#[test]
fn a_sysrq_key_and_the_vcpus_reach_the_guest() {
    let mut t = asked();
    t.control.sysrq(&mut t.store, DomId(13), 'h').unwrap();
    assert_eq!(t.read("control/sysrq").as_deref(), Some("h"));
    t.store.local(t.guest).watch("cpu", b"cpu", None).unwrap();
    while t.store.local(t.guest).take_event().is_some() {}
    t.control.set_vcpus(&mut t.store, DomId(13), 3).unwrap();
    let state = |t: &mut Asked| {
        (0..4).map(|n| t.read(&format!("cpu/{n}/availability")).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(state(&mut t), ["online", "online", "online", "offline"]);
    let (home, mut changed) = ("/local/domain/13", Vec::new());
    while let Some(event) = t.store.local(t.guest).take_event() {
        changed.push(event.path().to_string());
    }
    assert_eq!(
        changed,
        [format!("{home}/cpu/1/availability"), format!("{home}/cpu/2/availability")]
    );
    t.control.set_vcpus(&mut t.store, DomId(13), 1).unwrap();
    assert_eq!(state(&mut t), ["online", "offline", "offline", "offline"]);
}
