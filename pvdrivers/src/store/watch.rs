//! Watches, by path and domain. A change looks at its own path and those above it, and there only at
//! domains that may read what changed: its cost does not grow with the number of domains.

use super::client::ClientId;
use super::path::{Key, Path};
use super::perms::{Access, Perms};
use crate::seam::DomId;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A watch's number; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchId(u64);

/// A watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub client: ClientId,
    pub domid: DomId,
    pub path: Path,
    /// Bytes to cut from an event's path: the watch was given relative to the domain's home.
    pub cut: usize,
    pub token: Arc<[u8]>,
    /// How many levels below its path it hears of; `None`: all.
    pub depth: Option<u32>,
}

/// Who may hear of a change.
#[derive(Debug, Default)]
pub(super) struct Audience {
    everyone: bool,
    domids: Vec<DomId>,
}

impl Audience {
    /// Domain 0.
    pub fn new() -> Audience {
        Audience { everyone: false, domids: Vec::from([DomId::BACKEND]) }
    }

    /// And those who may read by these permissions.
    pub fn add(&mut self, perms: &Perms) {
        self.everyone |= perms.others().contains(Access::READ);
        self.add_domain(perms.owner());
        for perm in perms.entries().iter().skip(1) {
            if perm.access.contains(Access::READ) {
                self.add_domain(perm.domid);
            }
        }
    }

    pub fn add_domain(&mut self, domid: DomId) {
        if !self.domids.contains(&domid) {
            self.domids.push(domid);
        }
    }

    pub fn has(&self, domid: DomId) -> bool {
        self.domids.contains(&domid)
    }
}

type ByDomain = BTreeMap<DomId, Vec<WatchId>>;

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    all: BTreeMap<WatchId, Watch>,
    by_path: BTreeMap<Path, ByDomain>,
    next: u64,
    /// Watches looked at for all changes so far.
    pub visited: u64,
}

impl Watches {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(&id)
    }

    pub fn add(&mut self, watch: Watch) -> WatchId {
        let id = WatchId(self.next);
        self.next += 1;
        let by_domain = self.by_path.entry(watch.path.clone()).or_default();
        by_domain.entry(watch.domid).or_default().push(id);
        self.all.insert(id, watch);
        id
    }

    pub fn remove(&mut self, id: WatchId) -> Option<Watch> {
        let watch = self.all.remove(&id)?;
        if let Some(by_domain) = self.by_path.get_mut(&watch.path) {
            if let Some(ids) = by_domain.get_mut(&watch.domid) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    by_domain.remove(&watch.domid);
                }
            }
            if by_domain.is_empty() {
                self.by_path.remove(&watch.path);
            }
        }
        Some(watch)
    }

    /// The client's watch of this path with this token.
    pub fn find(
        &self,
        client: ClientId,
        domid: DomId,
        path: &Path,
        token: &[u8],
    ) -> Option<WatchId> {
        let same = |id: &&WatchId| {
            let watch = self.all.get(id);
            watch.is_some_and(|watch| watch.client == client && *watch.token == *token)
        };
        self.by_path.get(path)?.get(&domid)?.iter().find(same).copied()
    }

    /// Hands `tell` each watch that hears of a change, and the path that it is told of.
    pub fn matching(
        &mut self,
        changed: &Path,
        below: bool,
        audience: &Audience,
        mut tell: impl FnMut(WatchId, &Watch, &Path),
    ) {
        let deepest = changed.depth();
        for (level, prefix) in changed.prefixes().enumerate() {
            if below && level < deepest {
                continue;
            }
            let Some(by_domain) = self.by_path.get(&prefix as &dyn Key) else { continue };
            let mut look = |ids: &Vec<WatchId>| {
                self.visited += ids.len() as u64;
                for id in ids {
                    let Some(watch) = self.all.get(id) else { continue };
                    if let Some(path) = watch.hears(changed, deepest - level.min(deepest)) {
                        tell(*id, watch, path);
                    }
                }
            };
            if audience.everyone {
                by_domain.values().for_each(&mut look);
            } else {
                audience.domids.iter().filter_map(|domid| by_domain.get(domid)).for_each(look);
            }
        }
    }
}

impl Watch {
    /// The path that it is told of a change so many levels below it, if it hears of that.
    fn hears<'a>(&'a self, changed: &'a Path, levels: usize) -> Option<&'a Path> {
        let within = self.depth.is_none_or(|depth| levels <= depth as usize);
        // Who does not ask for the domain's number by a depth is told as ever.
        let plain = changed.is_special() && levels > 0 && self.depth.unwrap_or(0) == 0;
        // An event must fit into a message, as the watch itself did.
        let fits = changed.as_str().len() + self.token.len() + 2 <= super::PAYLOAD_MAX;
        match (within || plain, plain || !fits) {
            (false, _) => None,
            (true, true) => Some(&self.path),
            (true, false) => Some(changed),
        }
    }
}
