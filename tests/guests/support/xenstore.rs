//! A client of XenStore over its ring, without a heap: one request at a time, and the last watch
//! event. Xen docs "xenstore-ring.txt", public "io/xs_wire.h".

use crate::{mem, xen};
use core::sync::atomic::{Ordering, fence};

/// Requests by number (`XS_*`).
#[allow(missing_docs, reason = "the headers' own names")]
pub mod kind {
    pub const DIRECTORY: u32 = 1;
    pub const READ: u32 = 2;
    pub const WATCH: u32 = 4;
    pub const UNWATCH: u32 = 5;
    pub const WRITE: u32 = 11;
    pub const RM: u32 = 13;
    pub const SET_PERMS: u32 = 14;
    pub const WATCH_EVENT: u32 = 15;
    pub const ERROR: u32 = 16;
}

/// Bytes of each stream's window: requests at 0, answers behind.
const SIZE: u32 = 1024;
const ANSWERS: usize = 1024;
const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

/// Most bytes of a message behind its header.
pub const PAYLOAD: usize = 4096;

/// A connection to the store.
pub struct Store {
    page: usize,
    port: u32,
    id: u32,
    payload: [u8; PAYLOAD],
    event: [u8; 256],
    event_len: usize,
}

impl Store {
    /// The store whose ring and port the parameters name.
    pub fn open() -> Store {
        let page = (xen::get_param(xen::param::STORE_PFN) << 12) as usize;
        let port = xen::get_param(xen::param::STORE_EVTCHN) as u32;
        assert!(page != 0 && port != 0, "no store");
        // It is polled: nobody wants an upcall for it.
        xen::mask(port);
        Store { page, port, id: 0, payload: [0; PAYLOAD], event: [0; 256], event_len: 0 }
    }

    /// One request and its answer: the payload in parts, one behind the other. `Err` has the
    /// store's word for the error.
    pub fn call(&mut self, kind: u32, parts: &[&[u8]]) -> Result<&str, &str> {
        self.id += 1;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        for word in [kind, self.id, 0, len as u32] {
            self.put(&word.to_le_bytes());
        }
        parts.iter().for_each(|part| self.put(part));
        xen::send(self.port);
        loop {
            let (answer, len) = self.message();
            if answer == kind::WATCH_EVENT {
                continue;
            }
            let text = core::str::from_utf8(&self.payload[..len]).expect("text");
            if answer == kind::ERROR {
                return Err(text.trim_end_matches('\0'));
            }
            assert_eq!(answer, kind, "the answer to another request");
            return Ok(text);
        }
    }

    /// Reads a node.
    pub fn read(&mut self, path: &str) -> Result<&str, &str> {
        self.call(kind::READ, &[path.as_bytes(), &[0]])
    }

    /// Writes a node.
    pub fn write(&mut self, path: &str, value: &str) -> Result<(), &str> {
        self.call(kind::WRITE, &[path.as_bytes(), &[0], value.as_bytes()]).map(drop)
    }

    /// The names below a node, each with a NUL behind it.
    pub fn list(&mut self, path: &str) -> Result<&str, &str> {
        self.call(kind::DIRECTORY, &[path.as_bytes(), &[0]])
    }

    /// Sets who may do what with a node: `n1` (owner 1, nobody else) first, then others such as `r2`.
    pub fn permit(&mut self, path: &str, owner: &str, other: &str) -> Result<(), &str> {
        let parts = [path.as_bytes(), &[0], owner.as_bytes(), &[0], other.as_bytes(), &[0]];
        self.call(kind::SET_PERMS, &parts).map(drop)
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, path: &str) -> Result<(), &str> {
        self.call(kind::RM, &[path.as_bytes(), &[0]]).map(drop)
    }

    /// Watches a node and all below it; the first event comes at once.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), &str> {
        self.call(kind::WATCH, &[path.as_bytes(), &[0], token.as_bytes(), &[0]]).map(drop)
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), &str> {
        self.call(kind::UNWATCH, &[path.as_bytes(), &[0], token.as_bytes(), &[0]]).map(drop)
    }

    /// The last watch event: path and token, each with a NUL behind it. Waits for one.
    pub fn event(&mut self) -> &str {
        while self.event_len == 0 {
            let (kind, _) = self.message();
            assert_eq!(kind, kind::WATCH_EVENT, "an answer without a request");
        }
        let len = core::mem::take(&mut self.event_len);
        core::str::from_utf8(&self.event[..len]).expect("text")
    }

    /// Whether an event has come that nobody has taken. Does not wait.
    pub fn has_event(&mut self) -> bool {
        while self.event_len == 0 && self.there() > 0 {
            let (kind, _) = self.message();
            assert_eq!(kind, kind::WATCH_EVENT, "an answer without a request");
        }
        self.event_len != 0
    }

    /// Takes one message: its kind, and the bytes of its payload. An event is kept.
    fn message(&mut self) -> (u32, usize) {
        let mut header = [0; 16];
        self.get(&mut header);
        let word = |n: usize| header[n..n + 4].iter().rev().fold(0, |w, b| w << 8 | u32::from(*b));
        let (kind, len) = (word(0), word(12) as usize);
        assert!(len <= PAYLOAD, "a message of {len} bytes");
        for n in 0..len {
            let mut byte = [0];
            self.get(&mut byte);
            self.payload[n] = byte[0];
        }
        if kind == kind::WATCH_EVENT {
            self.event_len = len.min(self.event.len());
            self.event[..self.event_len].copy_from_slice(&self.payload[..self.event_len]);
        } else {
            assert_eq!(word(4), self.id, "the answer's number");
        }
        (kind, len)
    }

    fn index(&self, at: usize) -> u32 {
        mem::read(self.page + at)
    }

    /// Bytes of answers and events that are there.
    fn there(&self) -> u32 {
        self.index(RSP_PROD).wrapping_sub(self.index(RSP_CONS))
    }

    /// Sleeps until the store rings. What it did before is still pending, so nothing is missed.
    fn wait(&self) {
        let until = xen::nanoseconds() + 2_000_000_000;
        assert_eq!(xen::poll(self.port, until), 0);
        assert!(xen::take(self.port) || xen::nanoseconds() < until, "the store does not answer");
    }

    fn put(&self, bytes: &[u8]) {
        for byte in bytes {
            let prod = self.index(REQ_PROD);
            while prod.wrapping_sub(self.index(REQ_CONS)) >= SIZE {
                xen::send(self.port);
                self.wait();
            }
            mem::write(self.page + (prod % SIZE) as usize, *byte);
            // The byte before the index.
            fence(Ordering::SeqCst);
            mem::write(self.page + REQ_PROD, prod.wrapping_add(1));
        }
    }

    fn get(&self, bytes: &mut [u8]) {
        for byte in bytes {
            while self.there() == 0 {
                // The store may wait for room.
                xen::send(self.port);
                self.wait();
            }
            let cons = self.index(RSP_CONS);
            fence(Ordering::SeqCst);
            *byte = mem::read(self.page + ANSWERS + (cons % SIZE) as usize);
            mem::write(self.page + RSP_CONS, cons.wrapping_add(1));
        }
    }
}
