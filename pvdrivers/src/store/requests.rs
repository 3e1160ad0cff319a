//! What each kind of request says in its payload, and what its answer says. Xen docs "xenstore.txt".

use super::client::ClientId;
use super::ops::{Store, TxId};
use super::path::Path;
use super::perms::Perms;
use super::wire::{FEATURES, Header, Kind, PAYLOAD_MAX};
use super::{StoreError, number};
use crate::seam::DomId;
use alloc::vec::Vec;
use core::fmt::Write;

/// Does what a request asks; appends the answer's payload.
pub(super) fn respond(
    store: &mut Store,
    client: ClientId,
    header: &Header,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let domid = store.domid(client)?;
    let tx = TxId(header.tx_id);
    let path = |text: &[u8]| Path::parse(text, domid);
    match header.kind {
        Kind::Read => out.extend_from_slice(&store.read(client, tx, &path(one(payload)?)?)?),
        Kind::Directory => {
            let names = store.directory(client, tx, &path(one(payload)?)?)?;
            names.iter().for_each(|name| string(out, name));
        }
        Kind::DirectoryPart => {
            let [name, offset] = strings(payload)?;
            let offset = number(offset).ok_or(StoreError::Malformed)? as usize;
            directory_part(store, client, tx, &path(name)?, offset, out)?;
        }
        Kind::GetPerms => {
            let path = Path::parse_watched(one(payload)?, domid)?;
            store.perms(client, tx, &path)?.print(out);
        }
        Kind::Write => {
            let end = payload.iter().position(|byte| *byte == 0).ok_or(StoreError::Malformed)?;
            let (name, value) = payload.split_at(end);
            store.write(client, tx, &path(name)?, value.get(1..).unwrap_or_default())?;
        }
        Kind::Mkdir => store.make(client, tx, &path(one(payload)?)?)?,
        Kind::Rm => store.remove(client, tx, &path(one(payload)?)?)?,
        Kind::SetPerms => {
            let mut parts = pieces(payload);
            let path = Path::parse_watched(parts.next().ok_or(StoreError::Malformed)?, domid)?;
            store.set_perms(client, tx, &path, Perms::parse(parts)?)?;
        }
        Kind::TransactionEnd => {
            let commit = match one(payload)? {
                b"T" => true,
                b"F" => false,
                _ => return Err(StoreError::Malformed),
            };
            store.end(client, tx, commit)?;
        }
        Kind::TransactionStart if tx != TxId::NONE => return Err(StoreError::Busy),
        Kind::TransactionStart => {
            let id = store.begin(client)?.0;
            print(out, id);
        }
        _ => return without_transaction(store, client, header.kind, payload, out),
    }
    ok(header.kind, out);
    Ok(())
}

/// The requests that ignore the transaction.
fn without_transaction(
    store: &mut Store,
    client: ClientId,
    kind: Kind,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let who = store.who(client)?;
    match kind {
        Kind::Watch => watch(store, client, payload)?,
        Kind::Unwatch => {
            let [name, token] = strings(payload)?;
            store.unwatch(client, &Path::parse_watched(name, who.domid)?, token)?;
        }
        Kind::ResetWatches => store.reset(client),
        Kind::GetDomainPath => string(out, Path::home(domain(one(payload)?)?).as_str()),
        Kind::IsDomainIntroduced => {
            let introduced = store.is_introduced(domain(one(payload)?)?);
            string(out, if introduced { "T" } else { "F" });
        }
        Kind::GetFeature => {
            let other = payload.strip_suffix(&[0]).filter(|text| !text.is_empty());
            let asked = other.map_or(Ok(who.domid), domain)?;
            if !who.is_privileged() && asked != who.domid {
                return Err(StoreError::NoAccess);
            }
            print(out, FEATURES);
        }
        Kind::Control | Kind::Introduce | Kind::Release | Kind::Resume | Kind::SetTarget
            if !who.is_privileged() =>
        {
            return Err(StoreError::NoAccess);
        }
        Kind::Control => control(store, payload, out)?,
        Kind::Introduce => {
            let [domid, _frame, _port] = strings(payload)?;
            store.introduce(domain(domid)?)?;
        }
        Kind::Release => store.release(domain(one(payload)?)?)?,
        Kind::Resume => {
            // Every shutdown is told of: there is nothing to arm again.
            if !store.is_introduced(domain(one(payload)?)?) {
                return Err(StoreError::NotThere);
            }
        }
        Kind::SetTarget => {
            let [domid, target] = strings(payload)?;
            store.set_target(domain(domid)?, domain(target)?)?;
        }
        _ => return Err(StoreError::Unknown),
    }
    ok(kind, out);
    Ok(())
}

fn watch(store: &mut Store, client: ClientId, payload: &[u8]) -> Result<(), StoreError> {
    let mut parts = pieces(payload);
    let (Some(name), Some(token)) = (parts.next(), parts.next()) else {
        return Err(StoreError::Malformed);
    };
    let depth = parts.next().map(|text| number(text).ok_or(StoreError::Malformed)).transpose()?;
    if parts.next().is_some() {
        return Err(StoreError::Malformed);
    }
    let path = Path::parse_watched(name, store.domid(client)?)?;
    let relative = !name.starts_with(b"/") && !path.is_special();
    store.watch(client, &path, token, depth, relative)
}

/// As much of the list as fits, from a byte of it on; an empty name behind the last.
fn directory_part(
    store: &mut Store,
    client: ClientId,
    tx: TxId,
    path: &Path,
    offset: usize,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let record = store.record(client, tx, path)?;
    let start = out.len();
    print(out, record.generation);
    let mut at = 0;
    for name in record.children.iter() {
        let next = at + name.len() + 1;
        if at >= offset {
            if out.len() - start + name.len() + 2 > PAYLOAD_MAX {
                return Ok(());
            }
            string(out, name);
        } else if next > offset {
            // In the middle of a name: the rest of it.
            string(out, name.get(offset - at..).unwrap_or_default());
        }
        at = next;
    }
    out.push(0);
    Ok(())
}

/// Commands to the daemon. It has no log and no file, and says so.
fn control(store: &Store, payload: &[u8], out: &mut Vec<u8>) -> Result<(), StoreError> {
    match pieces(payload).next() {
        Some(b"help") => ["check", "help", "print"].iter().for_each(|name| string(out, name)),
        Some(b"check") => match store.check() {
            Ok(()) => string(out, "OK"),
            Err(damage) => string(out, &alloc::format!("{damage:?}")),
        },
        Some(b"print") => string(out, "OK"),
        _ => return Err(StoreError::Malformed),
    }
    Ok(())
}

/// The answer of a request that has no other.
fn ok(kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Write
        | Kind::Mkdir
        | Kind::Rm
        | Kind::SetPerms
        | Kind::Watch
        | Kind::Unwatch
        | Kind::ResetWatches
        | Kind::TransactionEnd
        | Kind::Introduce
        | Kind::Release
        | Kind::Resume
        | Kind::SetTarget => string(out, "OK"),
        _ => {}
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn print(out: &mut Vec<u8>, number: impl core::fmt::Display) {
    let mut text = alloc::string::String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{number}");
    string(out, &text);
}

/// The strings that end with a NUL; what follows the last is reserved, and ignored.
fn pieces(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = payload.iter().rposition(|byte| *byte == 0).unwrap_or(0);
    let some = (payload.get(end) == Some(&0)).then(|| payload.get(..end).unwrap_or_default());
    some.into_iter().flat_map(|strings| strings.split(|byte| *byte == 0))
}

/// Exactly so many strings.
fn strings<const COUNT: usize>(payload: &[u8]) -> Result<[&[u8]; COUNT], StoreError> {
    let mut found = [b"".as_slice(); COUNT];
    let mut parts = pieces(payload);
    for place in &mut found {
        *place = parts.next().ok_or(StoreError::Malformed)?;
    }
    if parts.next().is_some() { Err(StoreError::Malformed) } else { Ok(found) }
}

/// One string, and nothing behind it.
fn one(payload: &[u8]) -> Result<&[u8], StoreError> {
    let text = payload.strip_suffix(&[0]).ok_or(StoreError::Malformed)?;
    if text.contains(&0) { Err(StoreError::Malformed) } else { Ok(text) }
}

fn domain(text: &[u8]) -> Result<DomId, StoreError> {
    let domid = number(text).and_then(|number| u16::try_from(number).ok());
    domid.map(DomId).ok_or(StoreError::Malformed)
}
