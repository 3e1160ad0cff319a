//! XenStore: a tree of names and values that all domains share, with permissions, watches and
//! transactions. Pure: who is connected is told, events are taken. Facts: Xen docs "xenstore.txt".
//!
//! `ops` and `events` have the requests as functions, `wire` and `requests` as messages, `ring` a guest's
//! page; `service` joins them. `local` is for the hypervisor's own back ends. docs/xenstore.md.

mod check;
mod client;
mod domain;
mod error;
mod events;
mod local;
mod ops;
mod path;
mod perms;
mod quota;
mod requests;
mod ring;
mod service;
mod transaction;
mod tree;
mod view;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use check::Damage;
pub use client::{ClientId, Event};
pub use error::{Limit, StoreError};
pub use local::Local;
pub use ops::{Stats, Store, TxId};
pub use path::Path;
pub use perms::{Access, Perm, Perms};
pub use quota::{Quota, Usage};
pub use ring::{ConnectionError, Ring, Served};
pub use service::{Ready, Service};
pub use wire::{Header, Kind, PAYLOAD_MAX, answer};

/// Reads a decimal number of digits only.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}
