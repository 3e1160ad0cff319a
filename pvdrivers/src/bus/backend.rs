//! What a back end is to the bus, and what of the store a back end sees: its device's two directories.

use super::device::DeviceId;
use super::states::XenbusState;
use crate::errno::Errno;
use crate::store::{ClientId, Store, StoreError};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::str::FromStr;

/// A back end of one device. `C` is what it needs beside the store: grants, event channels, disks.
///
/// The bus calls these in this order: `offer`, then `connect`, then `disconnect`, and from the beginning
/// again when the front end does. `disconnect` is called after each `connect`, also one that failed.
pub trait BackEnd<C: ?Sized> {
    /// Writes the nodes that a front end reads before it gives its details (`feature-…`).
    ///
    /// # Errors
    /// Why it cannot serve.
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, cx: &mut C) -> Result<(), Errno>;

    /// Reads the front end's details (`ring-ref`, `event-channel`), which a guest wrote, takes its rings,
    /// and writes what belongs to being connected (`sectors`).
    ///
    /// # Errors
    /// Why it cannot serve. The number is written to the `error` node; the device closes.
    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, cx: &mut C) -> Result<(), Errno>;

    /// Lets go of all that it has of the front end: grants, ports, work under way.
    fn disconnect(&mut self, nodes: &mut DeviceNodes<'_>, cx: &mut C);

    /// Whether a front end in this state has given its details. Netfront gives them with
    /// [`Connected`](XenbusState::Connected), all others with [`Initialised`](XenbusState::Initialised)
    /// at the latest.
    fn connects_at(&self, front: XenbusState) -> bool {
        matches!(front, XenbusState::Initialised | XenbusState::Connected)
    }

    /// The front end's nodes, beside `state`, of whose changes [`front_changed`](BackEnd::front_changed)
    /// tells.
    fn watched(&self) -> &'static [&'static str] {
        &[]
    }

    /// One of them changed (or is told of again: look at its value).
    fn front_changed(&mut self, name: &str, nodes: &mut DeviceNodes<'_>, cx: &mut C) {
        let _ = (name, nodes, cx);
    }
}

/// A device's nodes, for its back end. Names are relative to one of the two directories:
/// `feature-persistent`, `queue-0/ring-ref`.
#[derive(Debug)]
pub struct DeviceNodes<'a> {
    pub(super) store: &'a mut Store,
    pub(super) client: ClientId,
    pub(super) id: DeviceId,
    pub(super) front: &'a str,
    pub(super) back: &'a str,
}

impl DeviceNodes<'_> {
    /// Which device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// The front end's directory.
    #[must_use]
    pub fn front_path(&self) -> &str {
        self.front
    }

    /// The back end's directory.
    #[must_use]
    pub fn back_path(&self) -> &str {
        self.back
    }

    /// A text that the guest wrote.
    #[must_use]
    pub fn front(&mut self, name: &str) -> Option<String> {
        let path = format!("{}/{name}", self.front);
        self.store.local(self.client).read(&path)
    }

    /// A number that the guest wrote; `None` if it is missing or none.
    #[must_use]
    pub fn front_as<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let path = format!("{}/{name}", self.front);
        self.store.local(self.client).read_as(&path)
    }

    /// Whether the front end set a feature (`1`; a missing node is 0).
    #[must_use]
    pub fn front_flag(&mut self, name: &str) -> bool {
        self.front_as::<u32>(name).is_some_and(|number| number != 0)
    }

    /// The names below one of the front end's nodes (`""`: of its directory).
    #[must_use]
    pub fn front_list(&mut self, name: &str) -> Vec<String> {
        let path = match name {
            "" => self.front.into(),
            name => format!("{}/{name}", self.front),
        };
        self.store.local(self.client).list(&path)
    }

    /// The state that the front end shows.
    #[must_use]
    pub fn front_state(&mut self) -> XenbusState {
        XenbusState::from_text(self.front("state").as_deref())
    }

    /// A node of the back end's own.
    #[must_use]
    pub fn back(&mut self, name: &str) -> Option<String> {
        let path = format!("{}/{name}", self.back);
        self.store.local(self.client).read(&path)
    }

    /// Writes a node of the back end's own.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] if the name is none.
    pub fn write(&mut self, name: &str, value: impl Display) -> Result<(), StoreError> {
        let path = format!("{}/{name}", self.back);
        self.store.local(self.client).write(&path, value)
    }

    /// Writes several.
    ///
    /// # Errors
    /// See [`write`](DeviceNodes::write).
    pub fn write_all<'n, V: Display>(
        &mut self,
        nodes: impl IntoIterator<Item = (&'n str, V)>,
    ) -> Result<(), StoreError> {
        nodes.into_iter().try_for_each(|(name, value)| self.write(name, value))
    }

    /// Removes a node of the back end's own.
    ///
    /// # Errors
    /// See [`write`](DeviceNodes::write).
    pub fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        let path = format!("{}/{name}", self.back);
        self.store.local(self.client).remove(&path)
    }

    /// Notes an error where tools look for it (`error/…/error` below the back end's domain).
    pub(super) fn write_error(&mut self, error: Errno) {
        let DeviceId { kind, domid, devid } = self.id;
        let path = format!("error/backend/{}/{}/{devid}/error", kind.name(), domid.0);
        let text = format!("{} {}", error as i32, error.name());
        // It informs, and decides nothing.
        let _ = self.store.local(self.client).write(&path, text);
    }
}
