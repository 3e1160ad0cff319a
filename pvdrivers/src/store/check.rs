//! Whether the store is whole: what CONTROL's `check` asks, and tests after every step. It goes through
//! all nodes, watches and transactions.

use super::events::watch_memory;
use super::ops::Store;
use super::path::Path;
use super::quota::Usage;
use super::view::View;
use crate::seam::DomId;
use crate::sorted::SortedMap;

/// What is wrong with a store. None of it can be by a guest's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A node whose parent is missing, or does not name it.
    Orphan(Path),
    /// A node that names a child which is not there.
    MissingChild(Path),
    /// A domain's counts are not what it has.
    Counts(DomId),
    /// A client and its watches do not know each other.
    Watch,
}

impl Store {
    /// Looks through all of it.
    ///
    /// # Errors
    /// The first [`Damage`] that is found.
    pub fn check(&self) -> Result<(), Damage> {
        let mut found: SortedMap<DomId, Usage> = SortedMap::new();
        for (path, record) in self.tree.iter() {
            if let Some(parent) = path.parent() {
                let listed = self.tree.peek(&parent);
                if !listed.is_some_and(|parent| parent.children.contains(path.name())) {
                    return Err(Damage::Orphan(path.clone()));
                }
            }
            let mut children = record.children.iter().map(|name| path.join(name));
            if let Some(missing) = children.find(|child| self.tree.peek(child).is_none()) {
                return Err(Damage::MissingChild(missing));
            }
            found
                .get_or_insert_with(record.perms.owner(), Usage::default)
                .add_node(record.memory(path));
        }
        let mut watches = 0;
        for (id, client) in self.clients.iter() {
            let used = found.get_or_insert_with(client.domid, Usage::default);
            for watch in &client.watches {
                let watch = self.watches.get(*watch).ok_or(Damage::Watch)?;
                if watch.client != *id || watch.domid != client.domid {
                    return Err(Damage::Watch);
                }
                used.watches += 1;
                used.memory += watch_memory(watch);
                watches += 1;
            }
            for transaction in client.transactions.values() {
                used.transactions += 1;
                used.memory += transaction.memory;
            }
        }
        if watches != self.watches.len() {
            return Err(Damage::Watch);
        }
        found.retain(|_, used| *used != Usage::default());
        self.tree.ledger.compare(&found).map_err(Damage::Counts)
    }
}
