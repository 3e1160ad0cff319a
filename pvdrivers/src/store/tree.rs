//! The nodes, by path. Each has value, permissions, the names of its children, and the generation of
//! its last change, from one counter for all.

use super::path::Path;
use super::perms::Perms;
use super::quota::{Ledger, OVERHEAD, Quota};
use super::view::View;
use super::{StoreError, perms::Perm};
use crate::seam::DomId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

/// The names of a node's children.
pub(super) type Names = Arc<BTreeSet<Arc<str>>>;

/// A node. Cheap to clone: parts are shared until changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub value: Arc<[u8]>,
    pub perms: Perms,
    pub children: Names,
    /// Of the last change of value, permissions or children. 1 or more.
    pub generation: u64,
}

impl Record {
    pub fn new(value: &[u8], perms: Perms) -> Record {
        Record { value: value.into(), perms, children: Names::default(), generation: 0 }
    }

    /// What it costs its owner.
    pub fn memory(&self, path: &Path) -> usize {
        node_memory(path, self.value.len(), self.perms.entries().len())
    }
}

/// What a node costs its owner, in bytes.
pub(super) fn node_memory(path: &Path, value: usize, perms: usize) -> usize {
    // The name stands in the path, and in the parent's list.
    path.as_str().len() + path.name().len() + value + 4 * perms + OVERHEAD
}

/// The nodes as all see them who are in no transaction.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Path, Record>,
    generation: u64,
    pub ledger: Ledger,
}

impl Tree {
    /// The root alone, domain 0's.
    pub fn new(quota: Quota) -> Tree {
        let mut tree = Tree { nodes: BTreeMap::new(), generation: 0, ledger: Ledger::new(quota) };
        tree.put(&Path::root(), Record::new(b"", Perms::new(Perm::none(DomId::BACKEND), &[])));
        tree
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Record)> {
        self.nodes.iter()
    }

    /// The generation of a change that happens now.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The last change of a node; 0 where there is none.
    pub fn generation_of(&self, path: &Path) -> u64 {
        self.nodes.get(path).map_or(0, |record| record.generation)
    }

    pub fn find(&self, path: &Path) -> Option<&Record> {
        self.nodes.get(path)
    }

    /// Stores a node as it is, and charges its owner.
    pub fn put(&mut self, path: &Path, mut record: Record) {
        record.generation = self.next_generation();
        let (owner, memory) = (record.perms.owner(), record.memory(path));
        if let Some(old) = self.nodes.insert(path.clone(), record) {
            self.discharge(path, &old);
        }
        self.ledger.change(owner, |used| used.add_node(memory));
    }

    /// Takes a node out. Its parent still names it.
    pub fn take(&mut self, path: &Path) {
        if let Some(old) = self.nodes.remove(path) {
            self.discharge(path, &old);
        }
    }

    fn discharge(&mut self, path: &Path, old: &Record) {
        let memory = old.memory(path);
        self.ledger.change(old.perms.owner(), |used| used.remove_node(memory));
    }

    /// Changes a parent's list in place.
    fn children(&mut self, parent: &Path, change: impl FnOnce(&mut BTreeSet<Arc<str>>)) {
        let generation = self.next_generation();
        if let Some(record) = self.nodes.get_mut(parent) {
            change(Arc::make_mut(&mut record.children));
            record.generation = generation;
        }
    }
}

impl View for Tree {
    fn look(&mut self, path: &Path) -> Result<Option<Record>, StoreError> {
        Ok(self.nodes.get(path).cloned())
    }

    fn peek(&self, path: &Path) -> Option<&Record> {
        self.nodes.get(path)
    }

    fn room(&self, owner: DomId, nodes: u32, memory: usize) -> Result<(), StoreError> {
        self.ledger.room(owner, i64::from(nodes), memory)
    }

    fn quota(&self, domid: DomId) -> &Quota {
        self.ledger.quota(domid)
    }

    fn reserve(&mut self, _nodes: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn set(&mut self, path: &Path, record: Record) -> Result<(), StoreError> {
        self.put(path, record);
        Ok(())
    }

    fn erase(&mut self, path: &Path) -> Result<(), StoreError> {
        self.take(path);
        Ok(())
    }

    fn link(&mut self, parent: &Path, name: &str) -> Result<(), StoreError> {
        self.children(parent, |names| {
            names.insert(name.into());
        });
        Ok(())
    }

    fn unlink(&mut self, parent: &Path, name: &str) -> Result<(), StoreError> {
        self.children(parent, |names| {
            names.remove(name);
        });
        Ok(())
    }
}
