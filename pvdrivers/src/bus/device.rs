//! A device's nodes: a directory for each end, each readable by the other, as libxl makes them.

use super::states::XenbusState;
use crate::seam::DomId;
use crate::store::{ClientId, Path, Perm, Perms, Store, StoreError, TxId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// A disk.
    Vbd,
    /// A network interface.
    Vif,
    /// Keyboard and pointer.
    Vkbd,
    /// A frame buffer.
    Vfb,
    /// A console.
    Console,
}

impl DeviceKind {
    /// All.
    pub const ALL: [DeviceKind; 5] =
        [DeviceKind::Vbd, DeviceKind::Vif, DeviceKind::Vkbd, DeviceKind::Vfb, DeviceKind::Console];

    /// The name in paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Vbd => "vbd",
            DeviceKind::Vif => "vif",
            DeviceKind::Vkbd => "vkbd",
            DeviceKind::Vfb => "vfb",
            DeviceKind::Console => "console",
        }
    }
}

/// Which device: its kind, whose, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Kind.
    pub kind: DeviceKind,
    /// The domain whose front end it is.
    pub domid: DomId,
    /// 51712 is xvda, 0 is eth0.
    pub devid: u32,
}

/// A device to be made: its nodes beside those that all have. `kinds` makes these for each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Which.
    pub id: DeviceId,
    /// Where its back end is; domain 0 is the hypervisor.
    pub back_domid: DomId,
    /// Nodes of the front end's directory, which the guest may write.
    pub front: Vec<(&'static str, String)>,
    /// Nodes there that it may only read.
    pub front_fixed: Vec<(&'static str, String)>,
    /// Nodes of the back end's directory.
    pub back: Vec<(&'static str, String)>,
}

impl DeviceSpec {
    /// The front end's directory. The primary console's is `console`, beside `device`.
    #[must_use]
    pub fn front_path(&self) -> String {
        let DeviceId { kind, domid, devid } = self.id;
        match (kind, devid) {
            (DeviceKind::Console, 0) => format!("/local/domain/{}/console", domid.0),
            _ => format!("/local/domain/{}/device/{}/{devid}", domid.0, kind.name()),
        }
    }

    /// The back end's directory.
    #[must_use]
    pub fn back_path(&self) -> String {
        let devid = self.id.devid;
        format!("{}/{devid}", back_directory(self.back_domid, self.id.kind, self.id.domid))
    }

    fn is_primary_console(&self) -> bool {
        self.id.kind == DeviceKind::Console && self.id.devid == 0
    }

    /// Makes both directories, at once for all who watch.
    ///
    /// # Errors
    /// See [`StoreError`]: a name that is none.
    pub fn create(&self, store: &mut Store, client: ClientId) -> Result<(), StoreError> {
        loop {
            let tx = store.begin(client)?;
            let mut made = self.create_back(store, client, tx);
            if made.is_ok() {
                made = self.create_front(store, client, tx);
            }
            match made.and(store.end(client, tx, made.is_ok())) {
                // Nobody comes between in one call; were it so, it would be done again.
                Err(StoreError::Conflict) => {}
                other => return other,
            }
        }
    }

    fn create_back(&self, store: &mut Store, client: ClientId, tx: TxId) -> Result<(), StoreError> {
        let (front, back) = (self.id.domid, self.back_domid);
        let directory = parse(&self.back_path())?;
        let perms = Perms::new(Perm::none(back), &[Perm::read(front)]);
        ensure_parents(store, client, tx, &directory, &Perms::new(Perm::none(back), &[]))?;
        remake(store, client, tx, &directory, &perms)?;
        let common = [
            ("frontend", self.front_path()),
            ("frontend-id", format!("{}", front.0)),
            ("online", "1".into()),
            ("state", format!("{}", XenbusState::Initialising.number())),
        ];
        for (name, value) in common.iter().chain(&self.back) {
            store.write(client, tx, &directory.join(name), value.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the front end's directory as for a guest that has not touched it yet.
    pub(super) fn create_front(
        &self,
        store: &mut Store,
        client: ClientId,
        tx: TxId,
    ) -> Result<(), StoreError> {
        let (front, back) = (self.id.domid, self.back_domid);
        let directory = parse(&self.front_path())?;
        let guests = Perms::new(Perm::none(front), &[Perm::read(back)]);
        let fixed = Perms::new(Perm::none(DomId::BACKEND), &[Perm::read(front)]);
        ensure_parents(store, client, tx, &directory, &fixed)?;
        if self.is_primary_console() {
            // Its directory and nodes are not the guest's: it has no state, rings come by parameters.
            remake(store, client, tx, &directory, &fixed)?;
        } else {
            remake(store, client, tx, &directory, &guests)?;
            let state = format!("{}", XenbusState::Initialising.number());
            store.write(client, tx, &directory.join("state"), state.as_bytes())?;
        }
        let backend = self.back_path();
        store.write(client, tx, &directory.join("backend"), backend.as_bytes())?;
        let backend_id = directory.join("backend-id");
        store.write(client, tx, &backend_id, format!("{}", back.0).as_bytes())?;
        store.set_perms(client, tx, &backend_id, guests)?;
        for (name, value) in &self.front {
            store.write(client, tx, &directory.join(name), value.as_bytes())?;
        }
        for (name, value) in &self.front_fixed {
            let path = directory.join(name);
            store.write(client, tx, &path, value.as_bytes())?;
            store.set_perms(client, tx, &path, fixed.clone())?;
        }
        Ok(())
    }
}

/// Where a domain's back ends of a kind serve another.
pub(super) fn back_directory(back: DomId, kind: DeviceKind, front: DomId) -> String {
    format!("/local/domain/{}/backend/{}/{}", back.0, kind.name(), front.0)
}

fn parse(path: &str) -> Result<Path, StoreError> {
    Path::parse(path.as_bytes(), DomId::BACKEND)
}

/// Makes an empty node with these permissions; one that is there goes first.
fn remake(
    store: &mut Store,
    client: ClientId,
    tx: TxId,
    path: &Path,
    perms: &Perms,
) -> Result<(), StoreError> {
    store.remove(client, tx, path)?;
    store.make(client, tx, path)?;
    store.set_perms(client, tx, path, perms.clone())
}

/// Makes what is missing above a node; what is made gets `perms`.
pub(super) fn ensure_parents(
    store: &mut Store,
    client: ClientId,
    tx: TxId,
    path: &Path,
    perms: &Perms,
) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut above = path.parent();
    while let Some(parent) = above {
        if store.read(client, tx, &parent).is_ok() {
            break;
        }
        above = parent.parent();
        missing.push(parent);
    }
    for path in missing.iter().rev() {
        store.make(client, tx, path)?;
        store.set_perms(client, tx, path, perms.clone())?;
    }
    Ok(())
}
