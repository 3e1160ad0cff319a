//! Devices of one domain whose back ends are in another, a driver domain: the store has their nodes while both
//! domains are there, and all else is between the two. When a driver domain goes, a front end that is in use first sees
//! its back end closed: stock blkfront hangs for ever in the removal of a device with requests that nobody answers.

use super::device::{DeviceId, DeviceSpec, back_directory, ensure_parents};
use super::states::XenbusState;
use crate::seam::DomId;
use crate::store::{ClientId, Path, Perm, Perms, Store, StoreError, TxId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How far one of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An end is not there, and the device has no nodes.
    Away,
    /// It has all its nodes.
    There,
    /// Its driver domain has gone; the front end sees a back end that is closed, and has not closed yet.
    Closing,
    /// Its front end has closed, with requests under way that nobody answers any more.
    Stuck,
}

/// What has become of a device whose driver domain went while its front end was in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its front end let go of it.
    Gone(DeviceId),
    /// Its front end waits for answers and keeps it until that domain starts anew.
    Stuck(DeviceId),
}

/// All of them. A client of the store of its own.
#[derive(Debug)]
pub struct Remotes {
    client: ClientId,
    devices: Vec<(DeviceSpec, Stage)>,
    /// Domains that are there.
    present: Vec<DomId>,
}

/// The token of its watches.
const TOKEN: &[u8] = b"remote";

impl Remotes {
    /// None.
    #[must_use]
    pub fn new(store: &mut Store) -> Remotes {
        let client = store.connect(DomId::BACKEND);
        Remotes { client, devices: Vec::new(), present: Vec::new() }
    }

    /// The store's name for it: when this client is ready, [`poll`](Remotes::poll) has work.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// A domain is there, whose nodes are made; `devices` are its own. Makes the nodes of those devices whose other
    /// end is there too, and of those that it serves. The devices whose nodes were to be made now, each with what came
    /// of it (see [`DeviceSpec::create`]): one that fails does not keep others.
    pub fn arrive(
        &mut self,
        store: &mut Store,
        dom: DomId,
        devices: impl IntoIterator<Item = DeviceSpec>,
    ) -> Vec<(DeviceId, Result<(), StoreError>)> {
        self.devices.retain(|(device, _)| device.id.domid != dom);
        self.devices.extend(devices.into_iter().map(|device| (device, Stage::Away)));
        if !self.present.contains(&dom) {
            self.present.push(dom);
        }
        let mut made = Vec::new();
        for (device, stage) in &mut self.devices {
            let (front, back) = (device.id.domid, device.back_domid);
            let concerned = (front == dom || back == dom) && *stage == Stage::Away;
            if concerned && self.present.contains(&front) && self.present.contains(&back) {
                let created = device.create(store, self.client);
                if created.is_ok() {
                    *stage = Stage::There;
                }
                made.push((device.id, created));
            }
        }
        made
    }

    /// A domain is gone, or starts anew; its own nodes were removed. Those of its devices go at the other end, too, upon
    /// which that lets go of them, or a closed back end stands in for it until its front end has closed.
    pub fn depart(&mut self, store: &mut Store, dom: DomId) {
        self.present.retain(|present| *present != dom);
        for (device, stage) in &mut self.devices {
            let DeviceId { kind, domid, .. } = device.id;
            if domid == dom {
                let directory = back_directory(device.back_domid, kind, dom);
                remove_up(store, self.client, &directory);
                unwatch(store, self.client, device, *stage);
            } else if device.back_domid == dom && *stage != Stage::Away {
                let before = *stage;
                *stage = part(store, self.client, device, before);
            }
        }
        self.devices.retain(|(device, _)| device.id.domid != dom);
    }

    /// Takes the store's events: who has closed since. `idle` says whether a device's front end has no request under
    /// way.
    pub fn poll(
        &mut self,
        store: &mut Store,
        mut idle: impl FnMut(&mut Store, &DeviceSpec) -> bool,
    ) -> Vec<Parting> {
        while store.take_event(self.client).is_some() {}
        let mut partings = Vec::new();
        for (device, stage) in &mut self.devices {
            if *stage != Stage::Closing || in_use(store, self.client, device) {
                continue;
            }
            unwatch(store, self.client, device, *stage);
            if idle(store, device) {
                forget(store, self.client, device);
                *stage = Stage::Away;
                partings.push(Parting::Gone(device.id));
            } else {
                *stage = Stage::Stuck;
                partings.push(Parting::Stuck(device.id));
            }
        }
        partings
    }
}

/// The driver domain of a device has gone, with its nodes.
fn part(store: &mut Store, client: ClientId, device: &DeviceSpec, before: Stage) -> Stage {
    let waits = match before {
        Stage::There => in_use(store, client, device),
        other => other != Stage::Away,
    };
    if !waits || stand_in(store, client, device).is_err() {
        unwatch(store, client, device, before);
        forget(store, client, device);
        return Stage::Away;
    }
    if before != Stage::There {
        return before;
    }
    // It is told at once what the state is.
    let _ = store.local(client).watch(&state_of(device), TOKEN, Some(0));
    Stage::Closing
}

/// A back end that has closed, for the front end to see.
fn stand_in(store: &mut Store, client: ClientId, device: &DeviceSpec) -> Result<(), StoreError> {
    let state = Path::parse(format!("{}/state", device.back_path()).as_bytes(), DomId::BACKEND)?;
    let perms = Perms::new(Perm::none(DomId::BACKEND), &[Perm::read(device.id.domid)]);
    ensure_parents(store, client, TxId::NONE, &state, &perms)?;
    store.local(client).create(
        &format!("{}/state", device.back_path()),
        XenbusState::Closed.number(),
        &perms,
    )
}

/// Whether a front end has begun with a device and has not closed it.
fn in_use(store: &mut Store, client: ClientId, device: &DeviceSpec) -> bool {
    let state = store.local(client).read(&state_of(device));
    matches!(
        XenbusState::from_text(state.as_deref()),
        XenbusState::Initialised | XenbusState::Connected | XenbusState::Closing
    )
}

fn state_of(device: &DeviceSpec) -> String {
    format!("{}/state", device.front_path())
}

fn unwatch(store: &mut Store, client: ClientId, device: &DeviceSpec, stage: Stage) {
    if stage == Stage::Closing {
        // The domain may be gone, and the watch stays until it is ended.
        let _ = store.local(client).unwatch(&state_of(device), TOKEN);
    }
}

/// Removes what there is of a device. Domain 0 may remove all, and what is not there is no error.
fn forget(store: &mut Store, client: ClientId, device: &DeviceSpec) {
    let _ = store.local(client).remove(&device.front_path());
    remove_up(store, client, &device.back_path());
}

/// Removes a directory below a domain's home, and those above it that have become empty.
fn remove_up(store: &mut Store, client: ClientId, directory: &str) {
    let mut local = store.local(client);
    let mut path = directory;
    let _ = local.remove(path);
    while let Some((above, _)) = path.rsplit_once('/') {
        if above == "/local/domain" || !local.list(above).is_empty() {
            return;
        }
        let _ = local.remove(above);
        path = above;
    }
}
