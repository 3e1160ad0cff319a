//! Domains come and go: INTRODUCE, RELEASE, SET_TARGET, RESUME, and what the end of a domain leaves.

use super::client::ClientId;
use super::path::Path;
use super::perms::Perms;
use super::view::{self, View};
use super::watch::Audience;
use super::{Store, StoreError};
use crate::seam::DomId;
use alloc::format;
use alloc::vec::Vec;

const INTRODUCE: &str = "@introduceDomain";
const RELEASE: &str = "@releaseDomain";

impl Store {
    /// INTRODUCE: a domain talks to the store from now on.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] for domain 0 and what is no domain; [`StoreError::Exists`].
    pub fn introduce(&mut self, domid: DomId) -> Result<(), StoreError> {
        if domid == DomId::BACKEND || domid.0 >= DomId::FIRST_RESERVED {
            return Err(StoreError::Malformed);
        }
        if self.introduced.insert(domid, ()).is_some() {
            return Err(StoreError::Exists);
        }
        self.fire_special(INTRODUCE, domid);
        Ok(())
    }

    /// RELEASE: a domain talks to the store no more. Its nodes stay; its connections are the caller's.
    ///
    /// # Errors
    /// [`StoreError::NotThere`].
    pub fn release(&mut self, domid: DomId) -> Result<(), StoreError> {
        if self.introduced.remove(&domid).is_none() {
            return Err(StoreError::NotThere);
        }
        self.fire_special(RELEASE, domid);
        Ok(())
    }

    /// A domain has crashed or shut down, and is still there: `@releaseDomain`.
    pub fn shut_down(&mut self, domid: DomId) {
        self.fire_special(RELEASE, domid);
    }

    /// IS_DOMAIN_INTRODUCED.
    #[must_use]
    pub fn is_introduced(&self, domid: DomId) -> bool {
        domid == DomId::BACKEND || self.introduced.contains_key(&domid)
    }

    /// SET_TARGET: `domid` may from now on what `target` may.
    ///
    /// # Errors
    /// [`StoreError::NotThere`] unless both are introduced.
    pub fn set_target(&mut self, domid: DomId, target: DomId) -> Result<(), StoreError> {
        if !self.introduced.contains_key(&domid) || !self.introduced.contains_key(&target) {
            return Err(StoreError::NotThere);
        }
        self.targets.insert(domid, target);
        Ok(())
    }

    /// The domain is gone for good: its connections, the nodes that it owns, its home, and all
    /// permissions that name it, so that the next domain with this number inherits nothing.
    pub fn forget(&mut self, domid: DomId) {
        let clients = self.clients.iter().filter(|(_, client)| client.domid == domid);
        let clients: Vec<ClientId> = clients.map(|(id, _)| *id).collect();
        clients.into_iter().for_each(|client| self.disconnect(client));
        let owned: Vec<Path> = self
            .tree
            .iter()
            .filter(|(_, record)| record.perms.owner() == domid)
            .map(|(path, _)| path.clone())
            .collect();
        for path in owned.iter().chain(&[Path::home(domid)]) {
            self.remove_for_good(path);
        }
        let fewer = |(path, perms): (&Path, &Perms)| Some((path.clone(), perms.without(domid)?));
        let named: Vec<(Path, Perms)> = self
            .tree
            .iter()
            .map(|(path, record)| (path, &record.perms))
            .filter_map(fewer)
            .collect();
        for (path, perms) in named {
            if let Some(mut record) = self.tree.find(&path).cloned() {
                record.perms = perms;
                self.tree.put(&path, record);
            }
        }
        for perms in &mut self.special {
            if let Some(fewer) = perms.without(domid) {
                *perms = fewer;
            }
        }
        self.targets.retain(|stub, target| *stub != domid && *target != domid);
        self.tree.ledger.forget_quota(domid);
        // What is not introduced needs no event.
        let _ = self.release(domid);
    }

    fn remove_for_good(&mut self, path: &Path) {
        let who = super::perms::Who { domid: DomId::BACKEND, target: None };
        if self.tree.peek(path).is_none() {
            return;
        }
        // Domain 0 may remove all but the root, which it owns itself.
        let gone = view::remove(&mut self.tree, &who, path).unwrap_or_default();
        gone.iter().for_each(|change| self.fire(change));
    }

    /// The permissions of the two events, which say who hears of them.
    pub(super) fn special_perms(&self, path: &Path) -> Option<&Perms> {
        self.special.get(special_index(path.as_str())?)
    }

    pub(super) fn set_special_perms(
        &mut self,
        client: ClientId,
        path: &Path,
        perms: Perms,
    ) -> Result<(), StoreError> {
        if !self.who(client)?.is_privileged() {
            return Err(StoreError::NoAccess);
        }
        if let Some(place) = special_index(path.as_str()).and_then(|at| self.special.get_mut(at)) {
            *place = perms;
        }
        Ok(())
    }

    fn fire_special(&mut self, name: &str, domid: DomId) {
        let mut audience = Audience::new();
        if let Some(perms) = special_index(name).and_then(|at| self.special.get(at)) {
            audience.add(perms);
        }
        let path = format!("{name}/{}", domid.0);
        if let Ok(path) = Path::parse_watched(path.as_bytes(), DomId::BACKEND) {
            self.fire_to(&path, false, audience);
        }
    }
}

fn special_index(name: &str) -> Option<usize> {
    [INTRODUCE, RELEASE].iter().position(|special| *special == name)
}
