//! Transactions. One keeps for each node that it touched the generation that it saw, and what it made
//! of it; the end is refused if any of them has changed. So a transaction costs what it touches, not
//! what the store holds, and domains that touch different nodes never meet.

use super::path::Path;
use super::perms::{Perms, Who};
use super::quota::{OVERHEAD, Quota};
use super::tree::{Record, Tree};
use super::view::{Change, View};
use super::{Limit, StoreError};
use crate::seam::DomId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A node that the transaction touched.
#[derive(Clone, Debug)]
struct Touched {
    /// Its generation then; 0 if it was not there.
    seen: u64,
    /// As the transaction has it now; `None` if it is not there.
    now: Option<Record>,
    /// Whether that differs from what was seen.
    changed: bool,
    /// The place among the changes that watches hear of, and whether only its own do.
    told: Option<(u64, bool)>,
    /// The permissions before the first change.
    before: Option<Perms>,
}

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    touched: BTreeMap<Path, Touched>,
    told: u64,
    /// Nodes of the client's domain that it made, less those that it removed.
    nodes: i64,
    /// Bytes that it holds, which the domain is charged.
    pub memory: usize,
    /// A limit stopped a change half way: it cannot be committed.
    broken: Option<StoreError>,
}

/// The store inside a transaction.
pub(super) struct Inside<'a> {
    pub tree: &'a mut Tree,
    pub transaction: &'a mut Transaction,
    pub domid: DomId,
}

impl Inside<'_> {
    fn charge(&mut self, memory: usize) -> Result<(), StoreError> {
        self.tree.ledger.room(self.domid, 0, memory)?;
        self.transaction.memory += memory;
        self.tree.ledger.change(self.domid, |used| used.memory += memory);
        Ok(())
    }

    fn touch(&mut self, path: &Path) -> Result<&mut Touched, StoreError> {
        if !self.transaction.touched.contains_key(path) {
            self.reserve(1)?;
            self.charge(path.as_str().len() + OVERHEAD)?;
            let now = self.tree.find(path).cloned();
            let seen = now.as_ref().map_or(0, |record| record.generation);
            let before = now.as_ref().map(|record| record.perms.clone());
            let touched = Touched { seen, now, changed: false, told: None, before };
            self.transaction.touched.insert(path.clone(), touched);
        }
        self.transaction.touched.get_mut(path).ok_or(StoreError::NotThere)
    }

    fn or_break(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = result {
            self.transaction.broken = Some(error);
        }
        result
    }

    fn change(&mut self, path: &Path, now: Option<Record>) -> Result<(), StoreError> {
        // Values that it writes twice are charged twice: what it has written is bounded, not only
        // what it holds.
        let charged = self.charge(now.as_ref().map_or(0, |record| record.value.len()));
        self.or_break(charged)?;
        let generation = self.tree.next_generation();
        let domid = self.domid;
        let touched = self.touch(path).map(|_| ());
        self.or_break(touched)?;
        let touched = self.touch(path)?;
        let owned = |record: &Option<Record>| {
            i64::from(record.as_ref().is_some_and(|record| record.perms.owner() == domid))
        };
        let more = owned(&now) - owned(&touched.now);
        touched.now = now.map(|record| Record { generation, ..record });
        touched.changed = true;
        self.transaction.nodes += more;
        Ok(())
    }

    fn names(
        &mut self,
        parent: &Path,
        change: impl FnOnce(&mut BTreeSet<Arc<str>>),
    ) -> Result<(), StoreError> {
        let touched = self.touch(parent).map(|_| ());
        self.or_break(touched)?;
        let Some(mut record) = self.touch(parent)?.now.clone() else { return Ok(()) };
        change(Arc::make_mut(&mut record.children));
        let generation = self.tree.next_generation();
        let touched = self.touch(parent)?;
        touched.now = Some(Record { generation, ..record });
        touched.changed = true;
        Ok(())
    }

    /// Notes that watches are to hear of a change.
    pub fn tell(&mut self, change: &Change) {
        let told = self.transaction.told;
        if let Some(touched) = self.transaction.touched.get_mut(&change.path) {
            touched.told = Some((told, change.below));
            self.transaction.told += 1;
        }
    }
}

impl View for Inside<'_> {
    fn look(&mut self, path: &Path) -> Result<Option<Record>, StoreError> {
        Ok(self.touch(path)?.now.clone())
    }

    fn peek(&self, path: &Path) -> Option<&Record> {
        match self.transaction.touched.get(path) {
            Some(touched) => touched.now.as_ref(),
            None => self.tree.find(path),
        }
    }

    fn room(&self, owner: DomId, nodes: u32, memory: usize) -> Result<(), StoreError> {
        let mine = if owner == self.domid { self.transaction.nodes } else { 0 };
        let nodes = if nodes == 0 { 0 } else { mine + i64::from(nodes) };
        self.tree.ledger.room(owner, nodes, memory)
    }

    fn quota(&self, domid: DomId) -> &Quota {
        self.tree.quota(domid)
    }

    fn reserve(&mut self, nodes: usize) -> Result<(), StoreError> {
        let most = self.tree.quota(self.domid).transaction_nodes;
        if self.domid != DomId::BACKEND && self.transaction.touched.len() + nodes > most {
            return Err(StoreError::Over(Limit::TransactionNodes));
        }
        Ok(())
    }

    fn set(&mut self, path: &Path, record: Record) -> Result<(), StoreError> {
        self.change(path, Some(record))
    }

    fn erase(&mut self, path: &Path) -> Result<(), StoreError> {
        self.change(path, None)
    }

    fn link(&mut self, parent: &Path, name: &str) -> Result<(), StoreError> {
        self.names(parent, |names| {
            names.insert(name.into());
        })
    }

    fn unlink(&mut self, parent: &Path, name: &str) -> Result<(), StoreError> {
        self.names(parent, |names| {
            names.remove(name);
        })
    }
}

impl Transaction {
    /// One that has touched nothing. It holds [`OVERHEAD`], which the caller charges.
    pub fn new() -> Transaction {
        Transaction { memory: OVERHEAD, ..Transaction::default() }
    }

    /// Makes its changes the store's. What watches are to hear of, in the order of the changes.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a node that it touched was changed since; over a limit. Nothing is
    /// changed then.
    pub fn commit(self, tree: &mut Tree, who: &Who) -> Result<Vec<Change>, StoreError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let conflict =
            |(path, touched): (&Path, &Touched)| tree.generation_of(path) != touched.seen;
        if self.touched.iter().any(conflict) {
            return Err(StoreError::Conflict);
        }
        let grown: usize =
            self.touched.iter().map(|(path, touched)| touched.growth(tree, path)).sum();
        if !who.is_privileged() {
            tree.ledger.room(who.domid, self.nodes, grown)?;
        }
        let mut told: Vec<(u64, Change)> = Vec::new();
        for (path, touched) in self.touched {
            let gone = touched.now.is_none();
            // What came and went within the transaction never was.
            if !touched.changed || (gone && touched.seen == 0) {
                continue;
            }
            match touched.now {
                Some(record) => tree.put(&path, record),
                None => tree.take(&path),
            }
            if let Some((place, below)) = touched.told {
                told.push((place, Change { path, before: touched.before, below: below && gone }));
            }
        }
        told.sort_unstable_by_key(|(place, _)| *place);
        Ok(told.into_iter().map(|(_, change)| change).collect())
    }
}

impl Touched {
    /// Bytes that it adds to the store.
    fn growth(&self, tree: &Tree, path: &Path) -> usize {
        let memory = |record: &Record| record.memory(path);
        let now = self.now.as_ref().map_or(0, memory);
        if self.changed { now.saturating_sub(tree.find(path).map_or(0, memory)) } else { 0 }
    }
}
