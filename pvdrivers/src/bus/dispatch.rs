//! The back ends of the hypervisor, and how they hear of their front ends: one watch on each front end's
//! `state`. What a front end writes decides about its own device only.

use super::backend::{BackEnd, DeviceNodes};
use super::device::{DeviceId, DeviceKind, DeviceSpec, back_directory};
use super::states::{Step, XenbusState, step};
use crate::errno::Errno;
use crate::seam::DomId;
use crate::sorted::SortedMap;
use crate::store::{ClientId, Store, StoreError, TxId};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It is in use.
    Connected(DeviceId),
    /// It is not any more; it may come back.
    Closed(DeviceId),
    /// It and its nodes are gone.
    Removed(DeviceId),
    /// Its back end failed.
    Failed(DeviceId, Errno),
}

/// One device with its back end.
struct Slot<C: ?Sized> {
    spec: DeviceSpec,
    front: String,
    back: String,
    state: XenbusState,
    /// Whether `connect` was called, and `disconnect` not since.
    live: bool,
    online: bool,
    backend: Box<dyn BackEnd<C> + Send>,
}

/// All devices whose back ends are here.
pub struct Bus<C: ?Sized> {
    client: ClientId,
    slots: SortedMap<u64, Slot<C>>,
    by_id: SortedMap<DeviceId, u64>,
    next: u64,
}

impl<C: ?Sized> Bus<C> {
    /// A bus without devices. It is a client of the store.
    #[must_use]
    pub fn new(store: &mut Store) -> Bus<C> {
        let client = store.connect(DomId::BACKEND);
        Bus { client, slots: SortedMap::new(), by_id: SortedMap::new(), next: 0 }
    }

    /// The store's name for it: when this client is ready, [`poll`](Bus::poll) has work.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// All devices and the states of their back ends.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, XenbusState)> {
        self.slots.values().map(|slot| (slot.spec.id, slot.state))
    }

    /// A device's back end.
    #[must_use]
    pub fn backend(&mut self, id: DeviceId) -> Option<&mut (dyn BackEnd<C> + Send)> {
        let slot = self.slots.get_mut(self.by_id.get(&id)?)?;
        Some(&mut *slot.backend)
    }

    /// A device's nodes, to be changed while it is in use (another medium, another size). Then
    /// [`announce`](Bus::announce).
    #[must_use]
    pub fn nodes<'a>(&'a self, store: &'a mut Store, id: DeviceId) -> Option<DeviceNodes<'a>> {
        let slot = self.slots.get(self.by_id.get(&id)?)?;
        let client = self.client;
        Some(DeviceNodes { store, client, id, front: &slot.front, back: &slot.back })
    }

    /// Writes the back end's state again, upon which a front end that is connected reads anew what may
    /// change (blkfront: `sectors`).
    pub fn announce(&mut self, store: &mut Store, id: DeviceId) {
        let number = self.by_id.get(&id);
        if let Some(slot) = number.and_then(|number| self.slots.get_mut(number)) {
            slot.set_state(store, self.client, slot.state);
        }
    }

    /// Makes a device's nodes and offers its back end.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if it is there already; see [`StoreError`].
    pub fn attach(
        &mut self,
        store: &mut Store,
        spec: DeviceSpec,
        backend: Box<dyn BackEnd<C> + Send>,
        cx: &mut C,
    ) -> Result<(), StoreError> {
        if self.by_id.contains_key(&spec.id) {
            return Err(StoreError::Exists);
        }
        spec.create(store, self.client)?;
        let number = self.next;
        self.next += 1;
        let mut slot = Slot {
            front: spec.front_path(),
            back: spec.back_path(),
            spec,
            state: XenbusState::Initialising,
            live: false,
            online: true,
            backend,
        };
        self.by_id.insert(slot.spec.id, number);
        let mut notices = Vec::new();
        slot.take(Step::Offer, store, self.client, cx, &mut notices);
        for name in slot.watched() {
            let path = format!("{}/{name}", slot.front);
            store.local(self.client).watch(&path, token(number, name).as_bytes(), Some(0))?;
        }
        self.slots.insert(number, slot);
        Ok(())
    }

    /// Takes events and lets back ends follow their front ends. `budget` events at most; when the result is
    /// empty and [`Store::has_events`] is false, all is done.
    pub fn poll(&mut self, store: &mut Store, cx: &mut C, budget: u32) -> Vec<Notice> {
        let mut notices = Vec::new();
        for _ in 0..budget {
            let Some(event) = store.take_event(self.client) else { break };
            let Some((number, name)) = read_token(&event.token) else { continue };
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            if name == "state" {
                let step = slot.next_step(store, self.client);
                slot.take(step, store, self.client, cx, &mut notices);
                if !slot.online && slot.state == XenbusState::Closed {
                    self.remove(store, number, &mut notices);
                }
            } else {
                let Slot { backend, spec, front, back, .. } = slot;
                let client = self.client;
                let mut nodes = DeviceNodes { store, client, id: spec.id, front, back };
                backend.front_changed(name, &mut nodes, cx);
            }
        }
        notices
    }

    /// Asks a front end to let go of its device (hot unplug). The nodes go when it has, which
    /// [`poll`](Bus::poll) tells; at once, if it does not use it.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] if there is no such device.
    pub fn detach(
        &mut self,
        store: &mut Store,
        id: DeviceId,
        cx: &mut C,
    ) -> Result<Vec<Notice>, StoreError> {
        let number = *self.by_id.get(&id).ok_or(StoreError::NotThere)?;
        let slot = self.slots.get_mut(&number).ok_or(StoreError::NotThere)?;
        slot.online = false;
        let mut notices = Vec::new();
        store.local(self.client).write(&format!("{}/online", slot.back), 0)?;
        if slot.live {
            // The front end still has requests under way: it closes first.
            slot.set_state(store, self.client, XenbusState::Closing);
        } else {
            slot.take(Step::Closed, store, self.client, cx, &mut notices);
            self.remove(store, number, &mut notices);
        }
        Ok(notices)
    }

    /// Takes a device away without asking the front end.
    pub fn remove_device(&mut self, store: &mut Store, id: DeviceId, cx: &mut C) -> Vec<Notice> {
        let mut notices = Vec::new();
        let Some(number) = self.by_id.get(&id).copied() else { return notices };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.take(Step::Closed, store, self.client, cx, &mut notices);
        }
        self.remove(store, number, &mut notices);
        notices
    }

    /// A domain's kernel starts anew (a reset that keeps the domain): its devices are as on the first
    /// start.
    pub fn restart_domain(&mut self, store: &mut Store, domid: DomId, cx: &mut C) -> Vec<Notice> {
        let mut notices = Vec::new();
        for number in self.of_domain(domid) {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            if !slot.online {
                slot.take(Step::Closed, store, self.client, cx, &mut notices);
                self.remove(store, number, &mut notices);
                continue;
            }
            slot.let_go(store, self.client, cx);
            // Domain 0's writes are refused by nobody.
            let _ = slot.spec.create_front(store, self.client, TxId::NONE);
            slot.take(Step::Offer, store, self.client, cx, &mut notices);
        }
        notices
    }

    /// A domain is gone: its devices and their back ends go, without asking.
    pub fn destroy_domain(&mut self, store: &mut Store, domid: DomId, cx: &mut C) -> Vec<Notice> {
        let mut notices = Vec::new();
        let ids: Vec<DeviceId> =
            self.by_id.keys().filter(|id| id.domid == domid).copied().collect();
        for id in ids {
            notices.extend(self.remove_device(store, id, cx));
        }
        for kind in DeviceKind::ALL {
            let errors = format!("error/backend/{}/{}", kind.name(), domid.0);
            for directory in [back_directory(DomId::BACKEND, kind, domid), errors] {
                // A directory that is not there is no error, and domain 0 may remove all.
                let _ = store.local(self.client).remove(&directory);
            }
        }
        notices
    }

    fn of_domain(&self, domid: DomId) -> Vec<u64> {
        let of = |(id, number): (&DeviceId, &u64)| (id.domid == domid).then_some(*number);
        self.by_id.iter().filter_map(of).collect()
    }

    fn remove(&mut self, store: &mut Store, number: u64, notices: &mut Vec<Notice>) {
        let Some(slot) = self.slots.remove(&number) else { return };
        self.by_id.remove(&slot.spec.id);
        let mut local = store.local(self.client);
        for name in slot.watched() {
            let path = format!("{}/{name}", slot.front);
            // It is the bus's own watch, and the guest cannot end it.
            let _ = local.unwatch(&path, token(number, name).as_bytes());
        }
        for path in [&slot.front, &slot.back] {
            // Domain 0 may remove all; what is gone is no error.
            let _ = local.remove(path);
        }
        notices.push(Notice::Removed(slot.spec.id));
    }
}

impl<C: ?Sized> Slot<C> {
    fn watched(&self) -> impl Iterator<Item = &'static str> + use<C> {
        core::iter::once("state").chain(self.backend.watched().iter().copied())
    }

    fn next_step(&self, store: &mut Store, client: ClientId) -> Step {
        let text = store.local(client).read(&format!("{}/state", self.front));
        let front = XenbusState::from_text(text.as_deref());
        match step(self.state, front, self.online) {
            Step::Connect if !self.backend.connects_at(front) => Step::Stay,
            step => step,
        }
    }

    fn set_state(&mut self, store: &mut Store, client: ClientId, state: XenbusState) {
        self.state = state;
        // Domain 0's writes are refused by nobody.
        let _ = store.local(client).write(&format!("{}/state", self.back), state.number());
    }

    fn let_go(&mut self, store: &mut Store, client: ClientId, cx: &mut C) {
        if core::mem::take(&mut self.live) {
            let Slot { backend, spec, front, back, .. } = self;
            backend.disconnect(&mut DeviceNodes { store, client, id: spec.id, front, back }, cx);
        }
    }

    fn take(
        &mut self,
        step: Step,
        store: &mut Store,
        client: ClientId,
        cx: &mut C,
        notices: &mut Vec<Notice>,
    ) {
        let id = self.spec.id;
        match step {
            Step::Stay => {}
            Step::Offer => {
                self.let_go(store, client, cx);
                let Slot { backend, front, back, .. } = self;
                let offered =
                    backend.offer(&mut DeviceNodes { store, client, id, front, back }, cx);
                match offered {
                    Ok(()) => self.set_state(store, client, XenbusState::InitWait),
                    Err(error) => self.fail(error, store, client, cx, notices),
                }
            }
            Step::Connect => {
                self.live = true;
                let Slot { backend, front, back, .. } = self;
                let taken =
                    backend.connect(&mut DeviceNodes { store, client, id, front, back }, cx);
                match taken {
                    Ok(()) => {
                        self.set_state(store, client, XenbusState::Connected);
                        notices.push(Notice::Connected(id));
                    }
                    Err(error) => self.fail(error, store, client, cx, notices),
                }
            }
            Step::Closing => {
                self.let_go(store, client, cx);
                self.set_state(store, client, XenbusState::Closing);
            }
            Step::Closed => {
                self.let_go(store, client, cx);
                self.set_state(store, client, XenbusState::Closed);
                notices.push(Notice::Closed(id));
            }
        }
    }

    /// As Linux's `xenbus_dev_fatal`: an error node, and closing.
    fn fail(
        &mut self,
        error: Errno,
        store: &mut Store,
        client: ClientId,
        cx: &mut C,
        notices: &mut Vec<Notice>,
    ) {
        self.let_go(store, client, cx);
        let Slot { spec, front, back, .. } = self;
        DeviceNodes { store, client, id: spec.id, front, back }.write_error(error);
        self.set_state(store, client, XenbusState::Closing);
        notices.push(Notice::Failed(self.spec.id, error));
    }
}

/// Which device and which of its nodes a watch is for.
fn token(number: u64, name: &str) -> String {
    format!("{number} {name}")
}

fn read_token(token: &[u8]) -> Option<(u64, &str)> {
    let (number, name) = core::str::from_utf8(token).ok()?.split_once(' ')?;
    Some((number.parse().ok()?, name))
}
