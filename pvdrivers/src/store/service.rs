//! The store together with the guests' rings: what the hypervisor keeps one of.

use super::StoreError;
use super::client::ClientId;
use super::ops::Store;
use super::quota::Quota;
use super::ring::{Ring, Served};
use crate::seam::DomId;
use crate::sorted::SortedMap;
use arch::SharedPage;

/// Who has events to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A guest: call [`Service::serve`].
    Guest(DomId),
    /// A part of the hypervisor: let it take its events.
    Local(ClientId),
}

/// Store and rings.
#[derive(Debug)]
pub struct Service {
    /// The store.
    pub store: Store,
    rings: SortedMap<DomId, Ring>,
}

impl Service {
    /// An empty store. See [`Store::new`].
    #[must_use]
    pub fn new(quota: Quota) -> Service {
        Service { store: Store::new(quota), rings: SortedMap::new() }
    }

    /// A domain that talks over `page`, which is emptied.
    ///
    /// # Errors
    /// As [`Store::introduce`].
    pub fn introduce(&mut self, domid: DomId, page: SharedPage) -> Result<(), StoreError> {
        self.store.introduce(domid)?;
        let client = self.store.connect(domid);
        self.rings.insert(domid, Ring::new(page, client));
        Ok(())
    }

    /// A domain's ring.
    #[must_use]
    pub fn ring(&self, domid: DomId) -> Option<&Ring> {
        self.rings.get(&domid)
    }

    /// The guest's kernel starts anew (a reset that keeps the domain): its ring is emptied, its watches
    /// and transactions end.
    pub fn restart(&mut self, domid: DomId) {
        if let Some(ring) = self.rings.get_mut(&domid) {
            ring.reset(&mut self.store);
        }
    }

    /// The domain is gone: its ring, watches, nodes, and permissions that name it. `@releaseDomain`.
    pub fn forget(&mut self, domid: DomId) {
        self.rings.remove(&domid);
        self.store.forget(domid);
    }

    /// Serves a guest's ring: it rang, it has events, or it was not finished.
    pub fn serve(&mut self, domid: DomId, budget: u32) -> Served {
        match self.rings.get_mut(&domid) {
            Some(ring) => ring.serve(&mut self.store, budget),
            None => Served::default(),
        }
    }

    /// The next with events, each named once for all that have come.
    pub fn next_ready(&mut self) -> Option<Ready> {
        while let Some(client) = self.store.next_ready() {
            let Ok(domid) = self.store.domid(client) else { continue };
            let ring = self.rings.get(&domid).filter(|ring| ring.client() == client);
            return Some(ring.map_or(Ready::Local(client), |_| Ready::Guest(domid)));
        }
        None
    }
}
