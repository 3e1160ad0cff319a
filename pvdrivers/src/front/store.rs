//! A client of XenStore: requests into the page, answers and events out of it. Xen docs
//! "xenstore-ring.txt", public "io/xs_wire.h".
//!
//! A kernel gives a `wait` that notifies the store's port and sleeps until its own rings; one
//! request is under way at a time, and events that come meanwhile are kept for `event`.

use crate::store::{Header, Kind, PAYLOAD_MAX};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use arch::SharedPage;
use core::sync::atomic::{Ordering, fence};

/// Bytes of each stream's window.
const SIZE: u32 = 1024;
const REQUESTS: usize = 0;
const ANSWERS: usize = 1024;
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// The store says so, by the name of an error: `ENOENT`, `EACCES`, `EAGAIN`.
    Refused(String),
    /// The request is longer than a message.
    TooLong,
    /// The store answered what was not asked, or its indices make no sense.
    Broken,
}

/// A watch that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEvent {
    /// What changed.
    pub path: String,
    /// The watch's own word.
    pub token: String,
}

/// Names a transaction; [`StoreFront::NONE`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(u32);

/// A connection to the store.
#[derive(Debug)]
pub struct StoreFront {
    page: SharedPage,
    last: u32,
    input: Vec<u8>,
    events: VecDeque<StoreEvent>,
}

impl StoreFront {
    /// No transaction.
    pub const NONE: Transaction = Transaction(0);

    /// The store behind `page`, which the hypervisor's parameter names.
    #[must_use]
    pub fn new(page: SharedPage) -> StoreFront {
        StoreFront { page, last: 0, input: Vec::new(), events: VecDeque::new() }
    }

    /// A node's value.
    ///
    /// # Errors
    /// [`StoreFailure`], as for all that follow.
    pub fn read(
        &mut self,
        within: Transaction,
        path: &str,
        wait: &mut impl FnMut(),
    ) -> Result<String, StoreFailure> {
        let value = self.call(Kind::Read, within, &[path.as_bytes(), &[0]], wait)?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Writes a node; makes it and those above it, if need be.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn write(
        &mut self,
        within: Transaction,
        path: &str,
        value: &str,
        wait: &mut impl FnMut(),
    ) -> Result<(), StoreFailure> {
        let parts = [path.as_bytes(), &[0], value.as_bytes()];
        self.call(Kind::Write, within, &parts, wait).map(drop)
    }

    /// The names below a node.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn list(
        &mut self,
        within: Transaction,
        path: &str,
        wait: &mut impl FnMut(),
    ) -> Result<Vec<String>, StoreFailure> {
        let names = self.call(Kind::Directory, within, &[path.as_bytes(), &[0]], wait)?;
        Ok(strings(&names).collect())
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn remove(
        &mut self,
        within: Transaction,
        path: &str,
        wait: &mut impl FnMut(),
    ) -> Result<(), StoreFailure> {
        self.call(Kind::Rm, within, &[path.as_bytes(), &[0]], wait).map(drop)
    }

    /// Watches a node and all below it. The first event comes at once.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn watch(
        &mut self,
        path: &str,
        token: &str,
        wait: &mut impl FnMut(),
    ) -> Result<(), StoreFailure> {
        let parts = [path.as_bytes(), &[0], token.as_bytes(), &[0]];
        self.call(Kind::Watch, StoreFront::NONE, &parts, wait).map(drop)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn begin(&mut self, wait: &mut impl FnMut()) -> Result<Transaction, StoreFailure> {
        let number = self.call(Kind::TransactionStart, StoreFront::NONE, &[&[0]], wait)?;
        let number = strings(&number).next().and_then(|text| text.parse().ok());
        number.map(Transaction).ok_or(StoreFailure::Broken)
    }

    /// Ends a transaction. `Ok(false)`: another got in between; begin anew.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn end(
        &mut self,
        within: Transaction,
        commit: bool,
        wait: &mut impl FnMut(),
    ) -> Result<bool, StoreFailure> {
        let word: &[u8] = if commit { b"T\0" } else { b"F\0" };
        match self.call(Kind::TransactionEnd, within, &[word], wait) {
            Ok(_) => Ok(true),
            Err(StoreFailure::Refused(error)) if error == "EAGAIN" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The oldest event that has not been taken. Looks into the page, and does not wait.
    ///
    /// # Errors
    /// [`StoreFailure::Broken`] where the store sends what is no event.
    pub fn event(&mut self) -> Result<Option<StoreEvent>, StoreFailure> {
        while let Some((header, payload)) = self.message()? {
            self.keep(&header, &payload)?;
        }
        Ok(self.events.pop_front())
    }

    /// One request and its answer: the payload in parts, one behind the other.
    ///
    /// # Errors
    /// See [`read`](StoreFront::read).
    pub fn call(
        &mut self,
        kind: Kind,
        within: Transaction,
        parts: &[&[u8]],
        wait: &mut impl FnMut(),
    ) -> Result<Vec<u8>, StoreFailure> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > PAYLOAD_MAX {
            return Err(StoreFailure::TooLong);
        }
        self.last = self.last.wrapping_add(1);
        let header = Header { kind, req_id: self.last, tx_id: within.0, len: len as u32 };
        self.send(&header.bytes(), wait)?;
        for part in parts {
            self.send(part, wait)?;
        }
        loop {
            let Some((header, payload)) = self.message()? else {
                wait();
                continue;
            };
            match header.kind {
                Kind::WatchEvent => self.keep(&header, &payload)?,
                _ if header.req_id != self.last => return Err(StoreFailure::Broken),
                Kind::Error => {
                    let error = strings(&payload).next().unwrap_or_default();
                    return Err(StoreFailure::Refused(error));
                }
                answer if answer == kind => return Ok(payload),
                _ => return Err(StoreFailure::Broken),
            }
        }
    }

    fn keep(&mut self, header: &Header, payload: &[u8]) -> Result<(), StoreFailure> {
        let mut parts = strings(payload);
        match (header.kind, parts.next(), parts.next()) {
            (Kind::WatchEvent, Some(path), Some(token)) => {
                self.events.push_back(StoreEvent { path, token });
                Ok(())
            }
            _ => Err(StoreFailure::Broken),
        }
    }

    fn get(&self, at: usize) -> u32 {
        self.page.read_u32(at).unwrap_or(0)
    }

    fn put(&self, at: usize, value: u32) {
        let inside = self.page.write(at, 4, value.into());
        debug_assert!(inside.is_ok());
    }

    /// Writes all bytes, and waits where there is no room.
    fn send(&self, bytes: &[u8], wait: &mut impl FnMut()) -> Result<(), StoreFailure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let prod = self.get(REQ_PROD);
            let waiting = prod.wrapping_sub(self.get(REQ_CONS));
            fence(Ordering::SeqCst);
            let room = SIZE.checked_sub(waiting).ok_or(StoreFailure::Broken)?;
            if room == 0 {
                wait();
                continue;
            }
            let at = prod % SIZE;
            let (now, later) = rest.split_at(rest.len().min(room.min(SIZE - at) as usize));
            let inside = self.page.write_slice(REQUESTS + at as usize, now);
            debug_assert!(inside.is_ok());
            // Bytes before the index.
            fence(Ordering::Release);
            self.put(REQ_PROD, prod.wrapping_add(now.len() as u32));
            rest = later;
        }
        Ok(())
    }

    /// The next whole message, if it is there.
    fn message(&mut self) -> Result<Option<(Header, Vec<u8>)>, StoreFailure> {
        self.receive()?;
        let Some(header) = self.input.first_chunk().map(Header::read) else { return Ok(None) };
        let end = Header::SIZE + header.len as usize;
        if header.len as usize > PAYLOAD_MAX {
            return Err(StoreFailure::Broken);
        }
        let Some(payload) = self.input.get(Header::SIZE..end) else { return Ok(None) };
        let payload = payload.to_vec();
        self.input.drain(..end);
        Ok(Some((header, payload)))
    }

    /// Takes all bytes that are there.
    fn receive(&mut self) -> Result<(), StoreFailure> {
        loop {
            let cons = self.get(RSP_CONS);
            let there = self.get(RSP_PROD).wrapping_sub(cons);
            fence(Ordering::Acquire);
            if there > SIZE {
                return Err(StoreFailure::Broken);
            }
            let at = cons % SIZE;
            let count = there.min(SIZE - at) as usize;
            if count == 0 {
                return Ok(());
            }
            let have = self.input.len();
            self.input.resize(have + count, 0);
            let inside = self.page.read(ANSWERS + at as usize, &mut self.input[have..]);
            debug_assert!(inside.is_ok());
            // Bytes are copied before their room is given back.
            fence(Ordering::SeqCst);
            self.put(RSP_CONS, cons.wrapping_add(count as u32));
        }
    }
}

/// The strings that end with a NUL.
fn strings(payload: &[u8]) -> impl Iterator<Item = String> {
    let end = payload.iter().rposition(|byte| *byte == 0);
    let text = end.and_then(|end| payload.get(..end));
    text.into_iter()
        .flat_map(|text| text.split(|byte| *byte == 0))
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::DomId;
    use crate::store::{ClientId, Quota, Ring, Store};
    use alloc::boxed::Box;
    use alloc::format;
    use core::sync::atomic::AtomicU64;

    struct Server {
        store: Store,
        ring: Ring,
        root: ClientId,
    }

    fn ends() -> (Server, StoreFront) {
        let page = SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])));
        let mut store = Store::new(Quota::GUEST);
        let root = store.connect(DomId(0));
        // A domain's store is empty but for what it owns; the test's domain may do all.
        let client = store.connect(DomId(0));
        let ring = Ring::new(page, client);
        (Server { store, ring, root }, StoreFront::new(page))
    }

    impl Server {
        fn work(&mut self) {
            while self.ring.serve(&mut self.store, 3).more {}
        }
    }

    const NONE: Transaction = StoreFront::NONE;

    #[test]
    fn nodes_are_written_read_listed_and_removed() {
        let (mut server, mut front) = ends();
        let wait = &mut || server.work();
        for n in 0..200 {
            front.write(NONE, &format!("/tree/{n}"), &format!("value {n}"), wait).unwrap();
        }
        assert_eq!(front.read(NONE, "/tree/77", wait), Ok("value 77".into()));
        assert_eq!(front.list(NONE, "/tree", wait).map(|names| names.len()), Ok(200));
        front.remove(NONE, "/tree/77", wait).unwrap();
        let gone = Err(StoreFailure::Refused("ENOENT".into()));
        assert_eq!(front.read(NONE, "/tree/77", wait), gone);
        let long = "x".repeat(2000);
        front.write(NONE, "/long", &long, wait).unwrap();
        assert_eq!(front.read(NONE, "/long", wait), Ok(long));
        let too_long = "x".repeat(PAYLOAD_MAX);
        assert_eq!(front.write(NONE, "/long", &too_long, wait), Err(StoreFailure::TooLong));
    }

    #[test]
    fn transactions_end_or_are_told_to_begin_anew() {
        let (mut server, mut front) = ends();
        let root = server.root;
        let tx = front.begin(&mut || server.work()).unwrap();
        front.write(tx, "/a", "1", &mut || server.work()).unwrap();
        assert!(front.read(NONE, "/a", &mut || server.work()).is_err(), "not seen from outside");
        assert_eq!(front.end(tx, true, &mut || server.work()), Ok(true));
        let tx = front.begin(&mut || server.work()).unwrap();
        assert_eq!(front.read(tx, "/a", &mut || server.work()), Ok("1".into()));
        server.store.local(root).write("/a", 2).unwrap();
        front.write(tx, "/b", "1", &mut || server.work()).unwrap();
        assert_eq!(front.end(tx, true, &mut || server.work()), Ok(false), "another wrote");
        assert!(front.read(NONE, "/b", &mut || server.work()).is_err());
    }

    #[test]
    fn events_that_come_between_answers_are_kept_in_order() {
        let (mut server, mut front) = ends();
        let root = server.root;
        front.write(NONE, "/a", "0", &mut || server.work()).unwrap();
        front.watch("/a", "mine", &mut || server.work()).unwrap();
        let event = |path: &str| StoreEvent { path: path.into(), token: "mine".into() };
        for n in 0..3 {
            server.store.local(root).write("/a/below", n).unwrap();
            assert!(front.read(NONE, "/a", &mut || server.work()).is_ok());
        }
        server.work();
        assert_eq!(front.event(), Ok(Some(event("/a"))), "the first comes at once");
        for _ in 0..3 {
            assert_eq!(front.event(), Ok(Some(event("/a/below"))));
        }
        assert_eq!(front.event(), Ok(None));
    }

    #[test]
    fn a_store_that_makes_no_sense_is_not_believed() {
        let (_, mut front) = ends();
        front.put(RSP_PROD, SIZE + 1);
        assert_eq!(front.event(), Err(StoreFailure::Broken));
        let (_, mut front) = ends();
        let stray = Header { kind: Kind::Read, req_id: 9, tx_id: 0, len: 0 };
        front.page.write_slice(ANSWERS, &stray.bytes()).unwrap();
        front.put(RSP_PROD, 16);
        assert_eq!(front.event(), Err(StoreFailure::Broken));
        let (_, mut front) = ends();
        front.put(REQ_CONS, 5);
        assert_eq!(front.read(NONE, "/", &mut || {}), Err(StoreFailure::Broken));
    }
}
