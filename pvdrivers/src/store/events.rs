//! Watches of clients, and who is told of what.

use super::client::{ClientId, Event};
use super::ops::Store;
use super::path::Path;
use super::quota::OVERHEAD;
use super::view::Change;
use super::watch::{Audience, Watch, WatchId};
use super::{PAYLOAD_MAX, StoreError};
use alloc::sync::Arc;

impl Store {
    /// WATCH. `relative`: events name paths from the domain's home on. Fires at once.
    ///
    /// # Errors
    /// [`StoreError::Exists`] with the same path and token; [`StoreError::Over`].
    pub fn watch(
        &mut self,
        client: ClientId,
        path: &Path,
        token: &[u8],
        depth: Option<u32>,
        relative: bool,
    ) -> Result<(), StoreError> {
        let domid = self.domid(client)?;
        if self.watches.find(client, domid, path, token).is_some() {
            return Err(StoreError::Exists);
        }
        let cut = if relative { Path::home_len(domid) } else { 0 };
        if path.as_str().len().saturating_sub(cut) + token.len() + 2 > PAYLOAD_MAX {
            return Err(StoreError::TooLong);
        }
        let token = Arc::from(token);
        let watch = Watch { client, domid, path: path.clone(), cut, token, depth };
        let memory = watch_memory(&watch);
        self.tree.ledger.room_for_watch(domid, memory)?;
        self.tree.ledger.change(domid, |used| {
            used.watches += 1;
            used.memory += memory;
        });
        let id = self.watches.add(watch);
        if let Some(client) = self.clients.get_mut(&client) {
            client.watches.insert(id);
        }
        self.tell(client, id, path);
        Ok(())
    }

    /// UNWATCH. Events that wait are forgotten.
    ///
    /// # Errors
    /// [`StoreError::NotThere`].
    pub fn unwatch(
        &mut self,
        client: ClientId,
        path: &Path,
        token: &[u8],
    ) -> Result<(), StoreError> {
        let domid = self.domid(client)?;
        let id = self.watches.find(client, domid, path, token).ok_or(StoreError::NotThere)?;
        self.drop_watch(id);
        Ok(())
    }

    /// RESET_WATCHES: ends all watches and transactions of a client.
    pub fn reset(&mut self, client: ClientId) {
        let Some(it) = self.clients.get_mut(&client) else { return };
        let transactions = core::mem::take(&mut it.transactions);
        let (domid, watches) = (it.domid, it.watches.clone());
        for transaction in transactions.into_values() {
            self.tree.ledger.change(domid, |used| {
                used.transactions -= 1;
                used.give_back(transaction.memory);
            });
        }
        watches.into_iter().for_each(|id| self.drop_watch(id));
    }

    fn drop_watch(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(id) else { return };
        self.tree.ledger.change(watch.domid, |used| {
            used.watches -= 1;
            used.give_back(watch_memory(&watch));
        });
        if let Some(client) = self.clients.get_mut(&watch.client) {
            client.unwatch(id);
        }
    }

    /// The next event of a client.
    pub fn take_event(&mut self, client: ClientId) -> Option<Event> {
        self.clients.get_mut(&client)?.take(&self.watches)
    }

    /// Whether a client has events.
    #[must_use]
    pub fn has_events(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| client.waiting() > 0)
    }

    /// A client that got events since it was last named here: serve it.
    pub fn next_ready(&mut self) -> Option<ClientId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(client) = self.clients.get_mut(&id) {
                client.listed = false;
                if client.waiting() > 0 {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Tells all who watch and may read.
    pub(super) fn fire(&mut self, change: &Change) {
        let mut audience = Audience::new();
        if let Some(record) = self.tree.find(&change.path) {
            audience.add(&record.perms);
        }
        if let Some(before) = &change.before {
            audience.add(before);
        }
        if let Some(parent) = change.path.parent().and_then(|parent| self.tree.find(&parent)) {
            audience.add(&parent.perms);
        }
        self.fire_to(&change.path, change.below, audience);
    }

    pub(super) fn fire_to(&mut self, path: &Path, below: bool, mut audience: Audience) {
        for (stub, target) in self.targets.iter() {
            if audience.has(*target) {
                audience.add_domain(*stub);
            }
        }
        let (clients, ready, ledger) = (&mut self.clients, &mut self.ready, &self.tree.ledger);
        self.watches.matching(path, below, &audience, |id, watch, told| {
            if let Some(client) = clients.get_mut(&watch.client) {
                client.queue(id, told, ledger.quota(watch.domid).events);
                if !core::mem::replace(&mut client.listed, true) {
                    ready.push_back(watch.client);
                }
            }
        });
    }

    /// Tells one watch.
    fn tell(&mut self, client: ClientId, id: WatchId, path: &Path) {
        if let Some(it) = self.clients.get_mut(&client) {
            it.queue(id, path, self.tree.ledger.quota(it.domid).events);
            if !core::mem::replace(&mut it.listed, true) {
                self.ready.push_back(client);
            }
        }
    }
}

/// What a watch costs, in bytes.
pub(super) fn watch_memory(watch: &Watch) -> usize {
    watch.path.as_str().len() + watch.token.len() + OVERHEAD
}
