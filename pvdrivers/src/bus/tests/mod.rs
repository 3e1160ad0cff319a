//! The bus: nodes as a guest of Xen 4.17 finds them, and back ends that follow their front ends through
//! each state and each way to die.

mod control;
mod lives;
mod reference;
mod remote;
mod table;

use super::*;
use crate::errno::Errno;
use crate::seam::{DomId, Port};
use crate::store::{ClientId, Quota, Store};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const BLOCK: &str = "/local/domain/13/device/vbd/51728";
const BACK: &str = "/local/domain/0/backend/vbd/13/51728";

fn domain(kind: DomainKind) -> DomainSpec {
    DomainSpec {
        domid: DomId(13),
        name: "idle".into(),
        uuid: "29a2ee29-6525-4bb6-b55d-f294a6199c85".into(),
        kind,
        target_kib: 262_144,
        max_kib: 262_144,
        video_kib: 0,
        vcpus: 1,
        max_vcpus: 1,
        store_frame: 1_044_476,
        store_port: Port(1),
        start_time: 1_795_337_192,
    }
}

fn disk() -> DeviceSpec {
    let disk = VbdSpec {
        devid: 51728,
        dev: "xvdb".into(),
        params: "/dev/loop0".into(),
        cdrom: false,
        writable: true,
        removable: false,
        discard: true,
    };
    disk.device(DomId(13))
}

/// What the back ends of a test have been asked to do.
#[derive(Debug, Default)]
struct Log {
    calls: Vec<String>,
    refuse: Option<Errno>,
    /// Connected less disconnected.
    held: i32,
}

/// A back end that notes its calls.
struct Notes;

impl BackEnd<Log> for Notes {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, log: &mut Log) -> Result<(), Errno> {
        log.calls.push("offer".into());
        nodes.write_all([("feature-persistent", 1), ("feature-flush-cache", 1)])?;
        Ok(())
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, log: &mut Log) -> Result<(), Errno> {
        log.held += 1;
        assert_eq!(log.held, 1, "never connected twice");
        let ring: Option<u32> = nodes.front_as("ring-ref");
        log.calls.push(format!("connect {ring:?}"));
        match log.refuse {
            Some(error) => Err(error),
            None => Ok(nodes.write("sectors", 131_072)?),
        }
    }

    fn disconnect(&mut self, _nodes: &mut DeviceNodes<'_>, log: &mut Log) {
        log.held -= 1;
        assert_eq!(log.held, 0, "disconnected once for each connection");
        log.calls.push("disconnect".into());
    }

    fn watched(&self) -> &'static [&'static str] {
        &["extra"]
    }

    fn front_changed(&mut self, name: &str, nodes: &mut DeviceNodes<'_>, log: &mut Log) {
        let value = nodes.front(name);
        log.calls.push(format!("{name} {value:?}"));
    }
}

struct Host {
    store: Store,
    root: ClientId,
    bus: Bus<Log>,
    log: Log,
}

impl Host {
    /// A domain 13, without devices.
    fn new() -> Host {
        let mut store = Store::new(Quota::GUEST);
        let root = store.connect(DomId(0));
        create_base(&mut store.local(root)).unwrap();
        store.introduce(DomId(13)).unwrap();
        create_domain(&mut store.local(root), &domain(DomainKind::Pvh)).unwrap();
        let bus = Bus::new(&mut store);
        Host { store, root, bus, log: Log::default() }
    }

    fn with_disk() -> Host {
        let mut host = Host::new();
        host.attach().unwrap();
        host.poll();
        host.calls();
        host
    }

    fn attach(&mut self) -> Result<(), crate::store::StoreError> {
        self.bus.attach(&mut self.store, disk(), Box::new(Notes), &mut self.log)
    }

    fn poll(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        while self.store.has_events(self.bus.client()) {
            notices.extend(self.bus.poll(&mut self.store, &mut self.log, 3));
        }
        notices
    }

    fn read(&mut self, path: &str) -> Option<String> {
        self.store.local(self.root).read(path)
    }

    fn back_state(&mut self) -> XenbusState {
        let text = self.read(&format!("{BACK}/state"));
        XenbusState::from_text(text.as_deref())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.store.local(self.root).write(&format!("{BLOCK}/{name}"), value).unwrap();
    }

    /// The front end goes to a state; what came of it.
    fn front(&mut self, state: XenbusState) -> (XenbusState, Vec<String>) {
        self.set("state", &state.number().to_string());
        self.poll();
        (self.back_state(), self.calls())
    }

    fn calls(&mut self) -> Vec<String> {
        core::mem::take(&mut self.log.calls)
    }
}
