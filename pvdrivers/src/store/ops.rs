//! The store, and what its clients ask of it.

use super::StoreError;
use super::client::{Client, ClientId};
use super::path::Path;
use super::perms::{Access, Perm, Perms, Who};
use super::quota::{OVERHEAD, Quota, Usage};
use super::transaction::{Inside, Transaction};
use super::tree::{Record, Tree};
use super::view::{self, Change, View};
use super::watch::Watches;
use crate::seam::DomId;
use crate::sorted::SortedMap;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;

/// A client's transaction; its number is the client's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxId(pub u32);

impl TxId {
    /// Outside of any.
    pub const NONE: TxId = TxId(0);
}

/// Counts of what the store holds and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Nodes.
    pub nodes: usize,
    /// Watches.
    pub watches: usize,
    /// Clients.
    pub clients: usize,
    /// Open transactions.
    pub transactions: usize,
    /// Watches looked at for all changes so far.
    pub watches_visited: u64,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    pub(super) tree: Tree,
    pub(super) watches: Watches,
    pub(super) clients: SortedMap<ClientId, Client>,
    next_client: u32,
    pub(super) ready: VecDeque<ClientId>,
    pub(super) introduced: SortedMap<DomId, ()>,
    /// Domains that act for others: who, for whom.
    pub(super) targets: SortedMap<DomId, DomId>,
    /// Who hears of `@introduceDomain` and `@releaseDomain`.
    pub(super) special: [Perms; 2],
}

impl Store {
    /// An empty store. `quota` is every domain's but domain 0's, unless [`set_quota`](Store::set_quota)
    /// says otherwise.
    #[must_use]
    pub fn new(quota: Quota) -> Store {
        let own = Perms::new(Perm::none(DomId::BACKEND), &[]);
        Store {
            tree: Tree::new(quota),
            watches: Watches::default(),
            clients: SortedMap::new(),
            next_client: 0,
            ready: VecDeque::new(),
            introduced: SortedMap::new(),
            targets: SortedMap::new(),
            special: [own.clone(), own],
        }
    }

    /// A new connection of a domain. Domain 0's may do all.
    pub fn connect(&mut self, domid: DomId) -> ClientId {
        let id = ClientId(self.next_client);
        self.next_client += 1;
        self.clients.insert(id, Client::new(domid));
        id
    }

    /// Ends a connection, its watches and transactions.
    pub fn disconnect(&mut self, client: ClientId) {
        self.reset(client);
        self.clients.remove(&client);
        self.ready.retain(|other| *other != client);
    }

    /// Changes a domain's limits.
    pub fn set_quota(&mut self, domid: DomId, quota: Quota) {
        self.tree.ledger.set_quota(domid, quota);
    }

    /// A domain's limits. Domain 0 is counted by them, not held to them.
    #[must_use]
    pub fn quota(&self, domid: DomId) -> Quota {
        *self.tree.ledger.quota(domid)
    }

    /// What a domain has of the store.
    #[must_use]
    pub fn usage(&self, domid: DomId) -> Usage {
        self.tree.ledger.usage(domid)
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            nodes: self.tree.len(),
            watches: self.watches.len(),
            clients: self.clients.len(),
            transactions: self.clients.values().map(|client| client.transactions.len()).sum(),
            watches_visited: self.watches.visited,
        }
    }

    pub(super) fn domid(&self, client: ClientId) -> Result<DomId, StoreError> {
        self.clients.get(&client).map(|client| client.domid).ok_or(StoreError::NotThere)
    }

    pub(super) fn who(&self, client: ClientId) -> Result<Who, StoreError> {
        let domid = self.domid(client)?;
        Ok(Who { domid, target: self.targets.get(&domid).copied() })
    }

    /// Does something in the store or in a transaction.
    fn inside<R>(
        &mut self,
        client: ClientId,
        tx: TxId,
        act: impl FnOnce(&mut dyn View, &Who) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let who = self.who(client)?;
        if tx == TxId::NONE {
            return act(&mut self.tree, &who);
        }
        let client = self.clients.get_mut(&client).ok_or(StoreError::NotThere)?;
        let transaction = client.transactions.get_mut(&tx.0).ok_or(StoreError::NotThere)?;
        act(&mut Inside { tree: &mut self.tree, transaction, domid: who.domid }, &who)
    }

    /// Tells watches of changes, or a transaction that it is to tell them.
    fn changed(&mut self, client: ClientId, tx: TxId, changes: &[Change]) {
        if tx == TxId::NONE {
            changes.iter().for_each(|change| self.fire(change));
        } else if let Some(client) = self.clients.get_mut(&client)
            && let Some(transaction) = client.transactions.get_mut(&tx.0)
        {
            let mut inside = Inside { tree: &mut self.tree, transaction, domid: client.domid };
            changes.iter().for_each(|change| inside.tell(change));
        }
    }

    pub(super) fn record(
        &mut self,
        client: ClientId,
        tx: TxId,
        path: &Path,
    ) -> Result<Record, StoreError> {
        self.inside(client, tx, |view, who| view::reach(view, who, path, Access::READ))
    }

    /// READ.
    ///
    /// # Errors
    /// See [`StoreError`]; so for all that follow.
    pub fn read(
        &mut self,
        client: ClientId,
        tx: TxId,
        path: &Path,
    ) -> Result<Arc<[u8]>, StoreError> {
        self.record(client, tx, path).map(|record| record.value)
    }

    /// DIRECTORY: the names of a node's children, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn directory(
        &mut self,
        client: ClientId,
        tx: TxId,
        path: &Path,
    ) -> Result<Arc<BTreeSet<Arc<str>>>, StoreError> {
        self.record(client, tx, path).map(|record| record.children)
    }

    /// GET_PERMS.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn perms(&mut self, client: ClientId, tx: TxId, path: &Path) -> Result<Perms, StoreError> {
        match self.special_perms(path) {
            Some(perms) => Ok(perms.clone()),
            None => self.record(client, tx, path).map(|record| record.perms),
        }
    }

    /// WRITE: sets a value; makes the node, and those missing above it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn write(
        &mut self,
        client: ClientId,
        tx: TxId,
        path: &Path,
        value: &[u8],
    ) -> Result<(), StoreError> {
        let change = self.inside(client, tx, |view, who| view::write(view, who, path, value))?;
        self.changed(client, tx, &[change]);
        Ok(())
    }

    /// MKDIR: makes sure that a node exists.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn make(&mut self, client: ClientId, tx: TxId, path: &Path) -> Result<(), StoreError> {
        let change = self.inside(client, tx, |view, who| view::make(view, who, path))?;
        self.changed(client, tx, change.as_slice());
        Ok(())
    }

    /// RM: removes a node and all below it. A node that is not there is no error if its parent is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn remove(&mut self, client: ClientId, tx: TxId, path: &Path) -> Result<(), StoreError> {
        let gone = self.inside(client, tx, |view, who| view::remove(view, who, path))?;
        self.changed(client, tx, &gone);
        Ok(())
    }

    /// SET_PERMS. A guest may only with nodes that it owns, and not give them away.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn set_perms(
        &mut self,
        client: ClientId,
        tx: TxId,
        path: &Path,
        perms: Perms,
    ) -> Result<(), StoreError> {
        if self.special_perms(path).is_some() {
            return self.set_special_perms(client, path, perms);
        }
        let change =
            self.inside(client, tx, |view, who| view::set_perms(view, who, path, perms))?;
        self.changed(client, tx, &[change]);
        Ok(())
    }

    /// TRANSACTION_START.
    ///
    /// # Errors
    /// [`StoreError::Over`].
    pub fn begin(&mut self, client: ClientId) -> Result<TxId, StoreError> {
        let domid = self.domid(client)?;
        self.tree.ledger.room_for_transaction(domid)?;
        let client = self.clients.get_mut(&client).ok_or(StoreError::NotThere)?;
        let id = client.free_transaction();
        client.transactions.insert(id, Transaction::new());
        self.tree.ledger.change(domid, |used| {
            used.transactions += 1;
            used.memory += OVERHEAD;
        });
        Ok(TxId(id))
    }

    /// TRANSACTION_END. The transaction is over, whatever comes of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: others changed what it saw, do it again.
    pub fn end(&mut self, client: ClientId, tx: TxId, commit: bool) -> Result<(), StoreError> {
        let who = self.who(client)?;
        let transaction = self
            .clients
            .get_mut(&client)
            .and_then(|client| client.transactions.remove(&tx.0))
            .ok_or(StoreError::NotThere)?;
        self.tree.ledger.change(who.domid, |used| {
            used.transactions -= 1;
            used.give_back(transaction.memory);
        });
        if commit {
            let changes = transaction.commit(&mut self.tree, &who)?;
            changes.iter().for_each(|change| self.fire(change));
        }
        Ok(())
    }
}
