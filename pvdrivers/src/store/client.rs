//! Connections to the store, and the events that wait for each. A queue is bounded: what comes on top
//! is noted by watch, and told later as one event on the watch's own path.

use super::path::Path;
use super::transaction::Transaction;
use super::watch::{Watch, WatchId, Watches};
use crate::seam::DomId;
use crate::sorted::SortedMap;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;

/// A connection: a guest's ring, or a part of the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub(super) u32);

/// Something changed where a client watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    path: Path,
    cut: usize,
    /// What the client gave with the watch.
    pub token: Arc<[u8]>,
}

impl Event {
    /// What changed; relative to the client's home if the watch was.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str().get(self.cut..).unwrap_or_default()
    }

    /// What changed, absolute.
    #[must_use]
    pub fn absolute(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub domid: DomId,
    pub watches: BTreeSet<WatchId>,
    pub transactions: SortedMap<u32, Transaction>,
    pub last_transaction: u32,
    /// Whether it is among those who are ready.
    pub listed: bool,
    events: VecDeque<(WatchId, Path)>,
    missed: BTreeSet<WatchId>,
    /// Events taken since a missed one was.
    since_missed: u32,
}

/// So many events are taken before one that was missed, so that a busy watch cannot hold up others.
const BEFORE_MISSED: u32 = 32;

impl Client {
    pub fn new(domid: DomId) -> Client {
        Client {
            domid,
            watches: BTreeSet::new(),
            transactions: SortedMap::new(),
            last_transaction: 0,
            listed: false,
            events: VecDeque::new(),
            missed: BTreeSet::new(),
            since_missed: 0,
        }
    }

    /// Puts an event into the queue, unless the same one waits there.
    pub fn queue(&mut self, watch: WatchId, path: &Path, most: usize) {
        if self.missed.contains(&watch) {
            return;
        }
        if self.events.iter().any(|(other, at)| *other == watch && at == path) {
            return;
        }
        if self.events.len() < most {
            self.events.push_back((watch, path.clone()));
        } else {
            self.missed.insert(watch);
        }
    }

    pub fn waiting(&self) -> usize {
        self.events.len() + self.missed.len()
    }

    pub fn take(&mut self, watches: &Watches) -> Option<Event> {
        let shown =
            |watch: &Watch, path: Path| Event { path, cut: watch.cut, token: watch.token.clone() };
        let mut turn = self.since_missed >= BEFORE_MISSED;
        loop {
            let (id, path) = match self.events.pop_front() {
                Some(event) if !turn || self.missed.is_empty() => {
                    self.since_missed = self.since_missed.saturating_add(1);
                    (event.0, Some(event.1))
                }
                waits => {
                    if let Some(event) = waits {
                        self.events.push_front(event);
                    }
                    (turn, self.since_missed) = (false, 0);
                    (self.missed.pop_first()?, None)
                }
            };
            if let Some(watch) = watches.get(id) {
                return Some(shown(watch, path.unwrap_or_else(|| watch.path.clone())));
            }
        }
    }

    /// Forgets what a watch has to tell.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(&id);
        self.missed.remove(&id);
        self.events.retain(|(other, _)| *other != id);
    }

    /// A number for a transaction: never 0, never an open one's.
    pub fn free_transaction(&mut self) -> u32 {
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            let id = self.last_transaction;
            if id != 0 && !self.transactions.contains_key(&id) {
                return id;
            }
        }
    }
}
