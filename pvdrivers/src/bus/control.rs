//! What a person asks of a running domain through its store: to power off or to restart, a SysRq key, how many
//! vCPUs to use. Xen docs "xenstore-paths"; Linux `drivers/xen/manage.c` and `cpu_hotplug.c` are the other
//! side: the domain says what it can in `control/feature-*`, and clears `control/shutdown` when it takes it.

use crate::seam::DomId;
use crate::sorted::SortedMap;
use crate::store::{ClientId, Store, StoreError};
use alloc::format;
use alloc::vec::Vec;

/// What a domain is asked to do with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `poweroff`.
    PowerOff,
    /// `reboot`.
    Reboot,
}

impl Request {
    /// What stands in `control/shutdown`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Request::PowerOff => "poweroff",
            Request::Reboot => "reboot",
        }
    }
}

/// The requests under way. A client of the store of its own.
#[derive(Debug)]
pub struct Control {
    client: ClientId,
    /// What was asked, and when that is too long ago, in the caller's time.
    asked: SortedMap<DomId, (Request, u64)>,
}

/// The token of its watches: the path says which domain.
const TOKEN: &[u8] = b"control";

impl Control {
    /// Nobody was asked anything.
    #[must_use]
    pub fn new(store: &mut Store) -> Control {
        Control { client: store.connect(DomId::BACKEND), asked: SortedMap::new() }
    }

    /// The store's name for it: when this client is ready, [`poll`](Control::poll) has work.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Whether a domain has said that it takes such a request. Linux does since 4.17; older ones take it
    /// all the same.
    #[must_use]
    pub fn is_offered(&self, store: &mut Store, domid: DomId, request: Request) -> bool {
        let path = format!("{}/feature-{}", directory(domid), request.word());
        store.local(self.client).read_as(&path) == Some(1u8)
    }

    /// Asks a domain. An earlier request that it has not taken is replaced. It counts as overdue at `due`.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] for a domain that is not there.
    pub fn ask(
        &mut self,
        store: &mut Store,
        domid: DomId,
        request: Request,
        due: u64,
    ) -> Result<(), StoreError> {
        let path = format!("{}/shutdown", directory(domid));
        let mut store = store.local(self.client);
        if !store.exists(&path) {
            return Err(StoreError::NotThere);
        }
        if self.asked.get(&domid).is_none() {
            store.watch(&path, TOKEN, Some(0))?;
        }
        self.asked.insert(domid, (request, due));
        store.write(&path, request.word())
    }

    /// Presses a SysRq key.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] for a domain that is not there.
    pub fn sysrq(&self, store: &mut Store, domid: DomId, key: char) -> Result<(), StoreError> {
        let path = format!("{}/sysrq", directory(domid));
        let mut store = store.local(self.client);
        if !store.exists(&path) {
            return Err(StoreError::NotThere);
        }
        store.write(&path, key)
    }

    /// Tells a domain to use its first `online` vCPUs. Nodes that say so already are not touched.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] for a domain that is not there.
    pub fn set_vcpus(
        &self,
        store: &mut Store,
        domid: DomId,
        online: usize,
    ) -> Result<(), StoreError> {
        let mut store = store.local(self.client);
        let cpus = format!("/local/domain/{}/cpu", domid.0);
        if !store.exists(&cpus) {
            return Err(StoreError::NotThere);
        }
        for number in store.list(&cpus).iter().filter_map(|name| name.parse::<usize>().ok()) {
            let path = format!("{cpus}/{number}/availability");
            let word = if number < online { "online" } else { "offline" };
            if store.read(&path).as_deref() != Some(word) {
                store.write(&path, word)?;
            }
        }
        Ok(())
    }

    /// Takes the store's events: who has taken what since.
    pub fn poll(&mut self, store: &mut Store) -> Vec<(DomId, Request)> {
        let mut taken = Vec::new();
        let mut store = store.local(self.client);
        while store.take_event().is_some() {}
        for (domid, (request, _)) in self.asked.iter() {
            // Gone with the domain is taken, too.
            let word = store.read(&format!("{}/shutdown", directory(*domid)));
            if word.is_none_or(|word| word.trim_end_matches('\0').is_empty()) {
                taken.push((*domid, *request));
            }
        }
        for (domid, _) in &taken {
            let _ = store.unwatch(&format!("{}/shutdown", directory(*domid)), TOKEN);
            self.asked.remove(domid);
        }
        taken
    }

    /// A request that was not taken until `now`. It stays in the store, but is not waited for any longer.
    pub fn overdue(&mut self, store: &mut Store, now: u64) -> Option<(DomId, Request)> {
        let late = self.asked.iter().find(|(_, (_, due))| *due <= now);
        let (domid, request) = late.map(|(domid, (request, _))| (*domid, *request))?;
        self.forget(store, domid);
        Some((domid, request))
    }

    /// When [`overdue`](Control::overdue) is next to be asked.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.asked.iter().map(|(_, (_, due))| *due).min()
    }

    /// A domain ends, or nobody waits for it any longer.
    pub fn forget(&mut self, store: &mut Store, domid: DomId) {
        if self.asked.remove(&domid).is_some() {
            let path = format!("{}/shutdown", directory(domid));
            let _ = store.local(self.client).unwatch(&path, TOKEN);
        }
    }
}

fn directory(domid: DomId) -> alloc::string::String {
    format!("/local/domain/{}/control", domid.0)
}
