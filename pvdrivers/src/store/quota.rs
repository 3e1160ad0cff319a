//! What a domain may take of the store, and what it has taken. Domain 0 is counted, not limited.

use super::{Limit, StoreError};
use crate::seam::DomId;
use crate::sorted::SortedMap;

/// Limits of a domain. The defaults are those of Xen's C daemon, where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Nodes that it owns.
    pub nodes: u32,
    /// Bytes of one value that it writes.
    pub value_bytes: usize,
    /// Entries of the permissions that it sets.
    pub perms: usize,
    /// Bytes that the store keeps for it: nodes, watches, transactions.
    pub memory: usize,
    /// Watches.
    pub watches: u32,
    /// Events that wait to be taken. What comes on top is told later, as one event for each watch.
    pub events: usize,
    /// Open transactions.
    pub transactions: u32,
    /// Nodes that one transaction touches.
    pub transaction_nodes: usize,
}

impl Quota {
    /// What a guest gets.
    pub const GUEST: Quota = Quota {
        nodes: 1000,
        value_bytes: 2048,
        perms: 5,
        memory: 2 << 20,
        watches: 128,
        events: 256,
        transactions: 10,
        transaction_nodes: 1024,
    };
}

impl Default for Quota {
    fn default() -> Quota {
        Quota::GUEST
    }
}

/// What a domain has of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nodes that it owns.
    pub nodes: u32,
    /// Bytes that the store keeps for it.
    pub memory: usize,
    /// Watches.
    pub watches: u32,
    /// Open transactions.
    pub transactions: u32,
}

/// What one node, watch or transaction costs beside its texts, in bytes: maps, counts, pointers.
pub(super) const OVERHEAD: usize = 128;

/// Quotas and use of all domains.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    standard: Quota,
    special: SortedMap<DomId, Quota>,
    used: SortedMap<DomId, Usage>,
}

impl Ledger {
    pub fn new(standard: Quota) -> Ledger {
        Ledger { standard, ..Ledger::default() }
    }

    pub fn quota(&self, domid: DomId) -> &Quota {
        self.special.get(&domid).unwrap_or(&self.standard)
    }

    pub fn set_quota(&mut self, domid: DomId, quota: Quota) {
        self.special.insert(domid, quota);
    }

    pub fn forget_quota(&mut self, domid: DomId) {
        self.special.remove(&domid);
    }

    pub fn usage(&self, domid: DomId) -> Usage {
        self.used.get(&domid).copied().unwrap_or_default()
    }

    /// Whether `domid` may have so much more.
    pub fn room(&self, domid: DomId, nodes: i64, memory: usize) -> Result<(), StoreError> {
        if domid == DomId::BACKEND {
            return Ok(());
        }
        let (used, quota) = (self.usage(domid), self.quota(domid));
        if nodes > 0 && i64::from(used.nodes) + nodes > i64::from(quota.nodes) {
            return Err(StoreError::Over(Limit::Nodes));
        }
        if used.memory.saturating_add(memory) > quota.memory {
            return Err(StoreError::Over(Limit::Memory));
        }
        Ok(())
    }

    /// Whether `domid` may have one watch more, of `memory` bytes.
    pub fn room_for_watch(&self, domid: DomId, memory: usize) -> Result<(), StoreError> {
        if domid != DomId::BACKEND && self.usage(domid).watches >= self.quota(domid).watches {
            return Err(StoreError::Over(Limit::Watches));
        }
        self.room(domid, 0, memory)
    }

    /// Whether `domid` may open a transaction.
    pub fn room_for_transaction(&self, domid: DomId) -> Result<(), StoreError> {
        let most = self.quota(domid).transactions;
        if domid != DomId::BACKEND && self.usage(domid).transactions >= most {
            return Err(StoreError::Over(Limit::Transactions));
        }
        self.room(domid, 0, OVERHEAD)
    }

    /// Which domain, if any, does not use what `found` says.
    pub fn compare(&self, found: &SortedMap<DomId, Usage>) -> Result<(), DomId> {
        let domids = self.used.keys().chain(found.keys());
        let differs = |domid: &&DomId| self.used.get(*domid) != found.get(*domid);
        domids.copied().find(|domid| differs(&domid)).map_or(Ok(()), Err)
    }

    /// Counts. What is used up to nothing is forgotten.
    pub fn change(&mut self, domid: DomId, change: impl FnOnce(&mut Usage)) {
        let used = self.used.get_or_insert_with(domid, Usage::default);
        change(used);
        if *used == Usage::default() {
            self.used.remove(&domid);
        }
    }
}

impl Usage {
    /// `count` nodes more or fewer, and `memory` bytes.
    pub(super) fn add_node(&mut self, memory: usize) {
        self.nodes += 1;
        self.memory += memory;
    }

    pub(super) fn remove_node(&mut self, memory: usize) {
        assert!(self.nodes > 0, "a node is counted once");
        self.nodes -= 1;
        self.give_back(memory);
    }

    pub(super) fn give_back(&mut self, memory: usize) {
        assert!(self.memory >= memory, "memory is counted once");
        self.memory -= memory;
    }
}
