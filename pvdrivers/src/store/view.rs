//! Reading and changing nodes, the same for the store itself and inside a transaction. All that can
//! fail is found out before the first change, so that a request that fails changes nothing.

use super::path::Path;
use super::perms::{Access, Perms, Who};
use super::quota::Quota;
use super::tree::{Record, node_memory};
use super::{Limit, StoreError};
use crate::seam::DomId;
use alloc::vec::Vec;

/// The nodes as someone sees them.
pub(super) trait View {
    /// A node; a transaction notes that it depends on it.
    fn look(&mut self, path: &Path) -> Result<Option<Record>, StoreError>;

    /// A node, without dependence on it.
    fn peek(&self, path: &Path) -> Option<&Record>;

    /// Whether `owner` may own so many nodes more, with so many bytes.
    fn room(&self, owner: DomId, nodes: u32, memory: usize) -> Result<(), StoreError>;

    /// The limits of a domain.
    fn quota(&self, domid: DomId) -> &Quota;

    /// Whether so many nodes more may be touched.
    fn reserve(&mut self, nodes: usize) -> Result<(), StoreError>;

    /// Creates or replaces a node.
    fn set(&mut self, path: &Path, record: Record) -> Result<(), StoreError>;

    /// Removes a node alone.
    fn erase(&mut self, path: &Path) -> Result<(), StoreError>;

    /// Adds a name to a node's children.
    fn link(&mut self, parent: &Path, name: &str) -> Result<(), StoreError>;

    /// Takes one out.
    fn unlink(&mut self, parent: &Path, name: &str) -> Result<(), StoreError>;
}

/// A node that changed: who may hear of it is judged by the permissions before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub path: Path,
    /// Before, if it is gone or the permissions changed.
    pub before: Option<Perms>,
    /// It went with a node above: only watches on itself hear of it.
    pub below: bool,
}

impl Change {
    fn at(path: &Path) -> Change {
        Change { path: path.clone(), before: None, below: false }
    }
}

/// The node, if `who` may. Where there is none, only who may do the same with the nearest node above
/// learns that.
pub(super) fn reach(
    view: &mut dyn View,
    who: &Who,
    path: &Path,
    need: Access,
) -> Result<Record, StoreError> {
    if let Some(record) = view.look(path)? {
        return if record.perms.allow(who, need) { Ok(record) } else { Err(StoreError::NoAccess) };
    }
    let mut above = path.parent();
    while let Some(path) = above {
        if let Some(record) = view.peek(&path) {
            let may = record.perms.allow(who, need);
            return Err(if may { StoreError::NotThere } else { StoreError::NoAccess });
        }
        above = path.parent();
    }
    Err(StoreError::NotThere)
}

/// WRITE.
pub(super) fn write(
    view: &mut dyn View,
    who: &Who,
    path: &Path,
    value: &[u8],
) -> Result<Change, StoreError> {
    if !who.is_privileged() && value.len() > view.quota(who.domid).value_bytes {
        return Err(StoreError::Over(Limit::ValueBytes));
    }
    match reach(view, who, path, Access::WRITE) {
        Ok(mut record) => {
            if !who.is_privileged() {
                let more = value.len().saturating_sub(record.value.len());
                view.room(record.perms.owner(), 0, more)?;
            }
            record.value = value.into();
            view.set(path, record)?;
            Ok(Change::at(path))
        }
        Err(StoreError::NotThere) => create(view, who, path, value),
        Err(error) => Err(error),
    }
}

/// MKDIR. `None` if it exists already.
pub(super) fn make(
    view: &mut dyn View,
    who: &Who,
    path: &Path,
) -> Result<Option<Change>, StoreError> {
    match reach(view, who, path, Access::WRITE) {
        Ok(_) => Ok(None),
        Err(StoreError::NotThere) => create(view, who, path, b"").map(Some),
        Err(error) => Err(error),
    }
}

/// Makes the node and what is missing above it. The caller may write to what is there.
fn create(view: &mut dyn View, who: &Who, path: &Path, value: &[u8]) -> Result<Change, StoreError> {
    let mut missing: Vec<Path> = Vec::from([path.clone()]);
    let above = loop {
        let parent = missing.last().and_then(Path::parent).ok_or(StoreError::Malformed)?;
        match view.peek(&parent) {
            Some(record) => break record.perms.clone(),
            None => missing.push(parent),
        }
    };
    let perms = above.inherited_by(who);
    if !who.is_privileged() {
        let entries = perms.entries().len();
        let memory: usize = missing.iter().map(|path| node_memory(path, 0, entries)).sum();
        let count = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        view.room(perms.owner(), count, memory + value.len())?;
    }
    view.reserve(missing.len() + 1)?;
    for missed in missing.iter().rev() {
        let value = if missed == path { value } else { b"" };
        if let Some(parent) = missed.parent() {
            view.link(&parent, missed.name())?;
        }
        view.set(missed, Record::new(value, perms.clone()))?;
    }
    Ok(Change::at(path))
}

/// RM: the node and all below it, the uppermost first. Nothing, if it is not there but its parent is.
pub(super) fn remove(
    view: &mut dyn View,
    who: &Who,
    path: &Path,
) -> Result<Vec<Change>, StoreError> {
    let parent = path.parent().ok_or(StoreError::Malformed)?;
    match reach(view, who, path, Access::WRITE) {
        Ok(_) => {}
        Err(StoreError::NotThere) if view.peek(&parent).is_some() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut gone = Vec::from([Change::at(path)]);
    let mut next = 0;
    while let Some(change) = gone.get_mut(next) {
        let path = change.path.clone();
        if let Some(record) = view.peek(&path) {
            change.before = Some(record.perms.clone());
            let below = |name: &alloc::sync::Arc<str>| Change {
                path: path.join(name),
                before: None,
                below: true,
            };
            let children: Vec<Change> = record.children.iter().map(below).collect();
            gone.extend(children);
        }
        next += 1;
    }
    view.reserve(gone.len() + 1)?;
    view.unlink(&parent, path.name())?;
    for change in &gone {
        view.erase(&change.path)?;
    }
    Ok(gone)
}

/// SET_PERMS.
pub(super) fn set_perms(
    view: &mut dyn View,
    who: &Who,
    path: &Path,
    perms: Perms,
) -> Result<Change, StoreError> {
    let mut record = reach(view, who, path, Access::READ)?;
    if !who.is_privileged() {
        if !who.acts_for(record.perms.owner()) {
            return Err(StoreError::NoAccess);
        }
        if perms.owner() != record.perms.owner() {
            return Err(StoreError::OwnerIsFixed);
        }
        if perms.entries().len() > view.quota(who.domid).perms {
            return Err(StoreError::Over(Limit::Perms));
        }
        let more = perms.entries().len().saturating_sub(record.perms.entries().len());
        view.room(record.perms.owner(), 0, 4 * more)?;
    }
    let before = core::mem::replace(&mut record.perms, perms);
    view.set(path, record)?;
    Ok(Change { path: path.clone(), before: Some(before), below: false })
}
