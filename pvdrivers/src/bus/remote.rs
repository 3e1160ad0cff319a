//! Devices of one domain whose back ends are in another, a driver domain: the store has their nodes while both
//! domains are there, and all else is between the two.

use super::device::{DeviceId, DeviceSpec, back_directory};
use crate::seam::DomId;
use crate::store::{ClientId, Store, StoreError};
use alloc::vec::Vec;

/// All of them.
#[derive(Debug, Default)]
pub struct Remotes {
    devices: Vec<DeviceSpec>,
    /// Domains that are there.
    present: Vec<DomId>,
}

impl Remotes {
    /// None.
    #[must_use]
    pub const fn new() -> Remotes {
        Remotes { devices: Vec::new(), present: Vec::new() }
    }

    /// A domain is there, whose nodes are made; `devices` are its own. Makes the nodes of those devices whose other
    /// end is there too, and of those that it serves. The devices that have nodes now.
    ///
    /// # Errors
    /// See [`DeviceSpec::create`]; the domain counts as present, and devices before the bad one have their nodes.
    pub fn arrive(
        &mut self,
        store: &mut Store,
        client: ClientId,
        dom: DomId,
        devices: impl IntoIterator<Item = DeviceSpec>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        self.devices.retain(|device| device.id.domid != dom);
        self.devices.extend(devices);
        if !self.present.contains(&dom) {
            self.present.push(dom);
        }
        let mut made = Vec::new();
        for device in &self.devices {
            let (front, back) = (device.id.domid, device.back_domid);
            let concerned = front == dom || back == dom;
            if concerned && self.present.contains(&front) && self.present.contains(&back) {
                device.create(store, client)?;
                made.push(device.id);
            }
        }
        Ok(made)
    }

    /// A domain is gone, or starts anew: nodes go at both ends, upon which the end that stays lets go.
    pub fn depart(&mut self, store: &mut Store, client: ClientId, dom: DomId) {
        self.present.retain(|present| *present != dom);
        let mut local = store.local(client);
        for device in &self.devices {
            let DeviceId { kind, domid, .. } = device.id;
            // Domain 0 may remove all, and what is not there is no error.
            if domid == dom {
                let _ = local.remove(&back_directory(device.back_domid, kind, dom));
            } else if device.back_domid == dom {
                let _ = local.remove(&device.front_path());
                let _ = local.remove(&device.back_path());
            }
        }
        self.devices.retain(|device| device.id.domid != dom);
    }
}
