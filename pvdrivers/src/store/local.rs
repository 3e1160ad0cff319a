//! The store as the hypervisor's own parts use it: with texts and numbers, outside of transactions.

use super::StoreError;
use super::client::{ClientId, Event};
use super::ops::{Store, TxId};
use super::path::Path;
use super::perms::Perms;
use crate::seam::DomId;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::str::FromStr;

/// A connection of the hypervisor's. Relative paths begin at the home of its domain.
#[derive(Debug)]
pub struct Local<'a> {
    store: &'a mut Store,
    client: ClientId,
    domid: DomId,
}

impl Store {
    /// The store for one client. `client` is a connection that is open.
    pub fn local(&mut self, client: ClientId) -> Local<'_> {
        let domid = self.domid(client).unwrap_or(DomId::BACKEND);
        Local { store: self, client, domid }
    }
}

impl Local<'_> {
    /// The store behind it.
    pub fn store(&mut self) -> &mut Store {
        self.store
    }

    fn path(&self, path: &str) -> Result<Path, StoreError> {
        Path::parse(path.as_bytes(), self.domid)
    }

    /// A value as text; bytes that are no text are replaced. `None` if it cannot be read.
    #[must_use]
    pub fn read(&mut self, path: &str) -> Option<String> {
        let path = self.path(path).ok()?;
        let value = self.store.read(self.client, TxId::NONE, &path).ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// A value as a number or the like. `None` if it is not there or is none.
    #[must_use]
    pub fn read_as<T: FromStr>(&mut self, path: &str) -> Option<T> {
        self.read(path)?.trim_end_matches('\0').trim().parse().ok()
    }

    /// Sets a value.
    ///
    /// # Errors
    /// See [`StoreError`]; so for all that follow.
    pub fn write(&mut self, path: &str, value: impl Display) -> Result<(), StoreError> {
        let path = self.path(path)?;
        self.store.write(self.client, TxId::NONE, &path, alloc::format!("{value}").as_bytes())
    }

    /// Sets a value and who may do what with it. Watches hear of it once the permissions stand.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn create(
        &mut self,
        path: &str,
        value: impl Display,
        perms: &Perms,
    ) -> Result<(), StoreError> {
        let path = self.path(path)?;
        let value = alloc::format!("{value}");
        let tx = self.store.begin(self.client)?;
        let made = self
            .store
            .write(self.client, tx, &path, value.as_bytes())
            .and_then(|()| self.store.set_perms(self.client, tx, &path, perms.clone()));
        let ended = self.store.end(self.client, tx, made.is_ok());
        made.and(ended)
    }

    /// Removes a node and all below it. It need not be there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        let path = self.path(path)?;
        match self.store.remove(self.client, TxId::NONE, &path) {
            Err(StoreError::NotThere) => Ok(()),
            other => other,
        }
    }

    /// The names of the children; none if there is no such node.
    #[must_use]
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let Ok(path) = self.path(path) else { return Vec::new() };
        let names = self.store.directory(self.client, TxId::NONE, &path).unwrap_or_default();
        names.iter().map(|name| String::from(&**name)).collect()
    }

    /// Whether a node is there.
    #[must_use]
    pub fn exists(&mut self, path: &str) -> bool {
        self.path(path).is_ok_and(|path| self.store.read(self.client, TxId::NONE, &path).is_ok())
    }

    /// Who may do what with a node.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn perms(&mut self, path: &str) -> Result<Perms, StoreError> {
        let path = Path::parse_watched(path.as_bytes(), self.domid)?;
        self.store.perms(self.client, TxId::NONE, &path)
    }

    /// Changes that.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn set_perms(&mut self, path: &str, perms: &Perms) -> Result<(), StoreError> {
        let path = Path::parse_watched(path.as_bytes(), self.domid)?;
        self.store.set_perms(self.client, TxId::NONE, &path, perms.clone())
    }

    /// Watches a node, the levels of `depth` below it, or all.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn watch(
        &mut self,
        path: &str,
        token: &[u8],
        depth: Option<u32>,
    ) -> Result<(), StoreError> {
        let path = Path::parse_watched(path.as_bytes(), self.domid)?;
        self.store.watch(self.client, &path, token, depth, false)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn unwatch(&mut self, path: &str, token: &[u8]) -> Result<(), StoreError> {
        let path = Path::parse_watched(path.as_bytes(), self.domid)?;
        self.store.unwatch(self.client, &path, token)
    }

    /// The next event.
    pub fn take_event(&mut self) -> Option<Event> {
        self.store.take_event(self.client)
    }
}
