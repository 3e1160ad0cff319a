//! A guest's connection: two streams of bytes in one page (`struct xenstore_domain_interface`, Xen docs
//! "xenstore-ring.txt"). What is in the page is the guest's: each byte is copied once, and of the four
//! indices only the guest's own two are read, the others are known here.

use super::client::ClientId;
use super::ops::Store;
use super::wire::{self, FEATURES, Header, PAYLOAD_MAX};
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
const SERVER_FEATURES: usize = 2064;
const CONNECTION: usize = 2068;
const ERROR: usize = 2072;
/// `XENSTORE_RECONNECT`.
const RECONNECT: u32 = 1;

/// Why a connection was given up. The guest finds the number in its page, and may reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ConnectionError {
    /// A producer more than a window ahead of its consumer.
    Indices = 2,
    /// A message longer than [`PAYLOAD_MAX`].
    MessageTooLong = 3,
}

/// What serving came to.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Tell the guest by its event channel.
    pub notify: bool,
    /// The budget was used up: serve again soon.
    pub more: bool,
    /// Messages read and written.
    pub messages: u32,
}

/// A guest's ring.
#[derive(Debug)]
pub struct Ring {
    page: SharedPage,
    client: ClientId,
    // Guest-visible: where this side is in the streams.
    req_cons: u32,
    rsp_prod: u32,
    // Derived.
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    error: Option<ConnectionError>,
}

impl Ring {
    /// A connection of `client` over an empty page.
    #[must_use]
    pub fn new(page: SharedPage, client: ClientId) -> Ring {
        let mut ring = Ring {
            page,
            client,
            req_cons: 0,
            rsp_prod: 0,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            error: None,
        };
        ring.clear();
        ring
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> SharedPage {
        self.page
    }

    /// Why nothing is served, if so.
    #[must_use]
    pub fn error(&self) -> Option<ConnectionError> {
        self.error
    }

    /// Ends watches, transactions and half messages, and empties the streams: the guest starts anew.
    pub fn reset(&mut self, store: &mut Store) {
        store.reset(self.client);
        self.clear();
    }

    /// An empty page that says what this server can.
    fn clear(&mut self) {
        (self.req_cons, self.rsp_prod, self.sent, self.error) = (0, 0, 0, None);
        self.input = Vec::new();
        self.output = Vec::new();
        for at in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, ERROR] {
            self.put(at, 0);
        }
        self.put(SERVER_FEATURES, FEATURES);
        fence(Ordering::SeqCst);
        self.put(CONNECTION, 0);
    }

    fn get(&self, at: usize) -> u32 {
        self.page.read_u32(at).unwrap_or(0)
    }

    fn put(&self, at: usize, value: u32) {
        let written = self.page.write(at, 4, u64::from(value));
        debug_assert!(written.is_ok(), "the interface is smaller than a page");
    }

    /// Answers requests and tells of events, `budget` messages at most.
    pub fn serve(&mut self, store: &mut Store, budget: u32) -> Served {
        let mut served = Served::default();
        if self.get(CONNECTION) == RECONNECT {
            self.reset(store);
            served.notify = true;
        }
        if self.error.is_some() {
            return served;
        }
        if let Err(error) = self.work(store, budget, &mut served) {
            store.reset(self.client);
            (self.input, self.output) = (Vec::new(), Vec::new());
            self.error = Some(error);
            self.put(ERROR, error as u32);
            served.notify = true;
            served.more = false;
        }
        served
    }

    fn work(
        &mut self,
        store: &mut Store,
        budget: u32,
        served: &mut Served,
    ) -> Result<(), ConnectionError> {
        loop {
            served.notify |= self.send()?;
            // A guest that takes no answers gets no more: its requests wait in its own page.
            if self.sent < self.output.len() {
                return Ok(());
            }
            self.output.clear();
            self.sent = 0;
            if served.messages >= budget {
                served.more = store.has_events(self.client) || self.get(REQ_PROD) != self.req_cons;
                return Ok(());
            }
            if let Some(event) = store.take_event(self.client) {
                wire::event(&event, &mut self.output);
            } else if let Some(header) = self.receive(&mut served.notify)? {
                let payload = self.input.get(Header::SIZE..).unwrap_or_default();
                wire::answer(store, self.client, &header, payload, &mut self.output);
                self.input.clear();
            } else {
                return Ok(());
            }
            served.messages += 1;
        }
    }

    /// Reads on; the header, once the message is whole.
    fn receive(&mut self, took: &mut bool) -> Result<Option<Header>, ConnectionError> {
        if !self.fill(Header::SIZE, took)? {
            return Ok(None);
        }
        let Some(bytes) = self.input.first_chunk() else { return Ok(None) };
        let header = Header::read(bytes);
        let len = header.len as usize;
        if len > PAYLOAD_MAX {
            return Err(ConnectionError::MessageTooLong);
        }
        Ok(self.fill(Header::SIZE + len, took)?.then_some(header))
    }

    /// Reads until `want` bytes of a message are here, if they are there.
    fn fill(&mut self, want: usize, took: &mut bool) -> Result<bool, ConnectionError> {
        while self.input.len() < want {
            let there = self.get(REQ_PROD).wrapping_sub(self.req_cons);
            if there > SIZE {
                return Err(ConnectionError::Indices);
            }
            fence(Ordering::Acquire);
            let at = self.req_cons % SIZE;
            let count = there.min(SIZE - at).min((want - self.input.len()) as u32);
            if count == 0 {
                return Ok(false);
            }
            let have = self.input.len();
            self.input.resize(have + count as usize, 0);
            if let Some(place) = self.input.get_mut(have..) {
                let read = self.page.read(REQUESTS + at as usize, place);
                debug_assert!(read.is_ok(), "the window is inside the page");
            }
            self.req_cons = self.req_cons.wrapping_add(count);
            fence(Ordering::SeqCst);
            self.put(REQ_CONS, self.req_cons);
            *took = true;
        }
        Ok(true)
    }

    /// Writes what has room. Whether that was anything.
    fn send(&mut self) -> Result<bool, ConnectionError> {
        let mut any = false;
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let waiting = self.rsp_prod.wrapping_sub(self.get(RSP_CONS));
            if waiting > SIZE {
                return Err(ConnectionError::Indices);
            }
            fence(Ordering::SeqCst);
            let at = self.rsp_prod % SIZE;
            let count = (SIZE - waiting).min(SIZE - at).min(rest.len() as u32);
            let Some(now) = rest.get(..count as usize).filter(|now| !now.is_empty()) else { break };
            let written = self.page.write_slice(ANSWERS + at as usize, now);
            debug_assert!(written.is_ok(), "the window is inside the page");
            self.sent += count as usize;
            self.rsp_prod = self.rsp_prod.wrapping_add(count);
            fence(Ordering::Release);
            self.put(RSP_PROD, self.rsp_prod);
            any = true;
        }
        Ok(any)
    }
}
