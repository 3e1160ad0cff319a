//! The store as guests see it: scripts in the protocol's own messages, over rings as Linux's
//! `xenbus_comms` and `xenbus_xs` use them.

mod hostile;
mod linux;
mod many;
mod permissions;
mod quotas;
mod requests;
mod rings;
mod transactions;
mod walk;
mod watches;

use super::*;
use crate::seam::DomId;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::SharedPage;
use arch::page::PAGE_CELLS;
use core::sync::atomic::AtomicU64;

const REQ_CONS: usize = 2048;
const REQ_PROD: usize = 2052;
const RSP_CONS: usize = 2056;
const RSP_PROD: usize = 2060;

fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; PAGE_CELLS])))
}

/// One guest's end of its ring.
struct Front {
    page: SharedPage,
    stream: Vec<u8>,
    events: Vec<(String, String)>,
    notified: u32,
}

impl Front {
    fn new(page: SharedPage) -> Front {
        Front { page, stream: Vec::new(), events: Vec::new(), notified: 0 }
    }

    /// Writes what fits, as `xb_write`. How many bytes that were.
    fn push(&self, bytes: &[u8]) -> usize {
        let (prod, cons) =
            (self.page.read_u32(REQ_PROD).unwrap(), self.page.read_u32(REQ_CONS).unwrap());
        let room = 1024 - prod.wrapping_sub(cons);
        let now = &bytes[..bytes.len().min(room as usize)];
        for (at, byte) in now.iter().enumerate() {
            let at = prod.wrapping_add(at as u32) % 1024;
            self.page.write(at as usize, 1, u64::from(*byte)).unwrap();
        }
        self.page.write(REQ_PROD, 4, u64::from(prod.wrapping_add(now.len() as u32))).unwrap();
        now.len()
    }

    /// Takes what is there, as `xb_read`.
    fn pull(&mut self) -> bool {
        let (prod, cons) =
            (self.page.read_u32(RSP_PROD).unwrap(), self.page.read_u32(RSP_CONS).unwrap());
        let mut at = cons;
        while at != prod {
            self.stream.push(self.page.read_u8(1024 + (at % 1024) as usize).unwrap());
            at = at.wrapping_add(1);
        }
        self.page.write(RSP_CONS, 4, u64::from(prod)).unwrap();
        prod != cons
    }

    /// The next whole message.
    fn message(&mut self) -> Option<(Header, Vec<u8>)> {
        let header = Header::read(self.stream.first_chunk()?);
        let end = Header::SIZE + header.len as usize;
        let body = self.stream.get(Header::SIZE..end)?.to_vec();
        self.stream.drain(..end);
        Some((header, body))
    }
}

/// A store with guests.
struct Xs {
    service: Service,
    fronts: BTreeMap<u16, Front>,
    root: ClientId,
    next_req: u32,
}

type Answer = Result<Vec<u8>, String>;

impl Xs {
    /// Guests with a home that they may read, and `data` in it that is theirs.
    fn with(domids: &[u16]) -> Xs {
        let mut service = Service::new(Quota::GUEST);
        let root = service.store.connect(DomId(0));
        let mut xs = Xs { service, fronts: BTreeMap::new(), root, next_req: 1 };
        domids.iter().for_each(|domid| xs.add(*domid));
        xs
    }

    fn add(&mut self, domid: u16) {
        let page = page();
        self.service.introduce(DomId(domid), page).unwrap();
        self.fronts.insert(domid, Front::new(page));
        let home = format!("/local/domain/{domid}");
        let fixed = Perms::new(Perm::none(DomId(0)), &[Perm::read(DomId(domid))]);
        let own = Perms::new(Perm::none(DomId(domid)), &[]);
        let mut local = self.local();
        local.create(&home, "", &fixed).unwrap();
        local.create(&format!("{home}/data"), "", &own).unwrap();
    }

    fn local(&mut self) -> Local<'_> {
        self.service.store.local(self.root)
    }

    /// Serves all who have something to be told.
    fn settle(&mut self) {
        while let Some(ready) = self.service.next_ready() {
            if let Ready::Guest(domid) = ready {
                self.turn(domid.0);
            }
        }
    }

    fn turn(&mut self, domid: u16) {
        loop {
            let served = self.service.serve(DomId(domid), 16);
            let front = self.fronts.get_mut(&domid).unwrap();
            front.notified += u32::from(served.notify);
            if !front.pull() && !served.more {
                break;
            }
        }
    }

    /// Sends bytes, however many turns that takes.
    fn send(&mut self, domid: u16, mut bytes: &[u8]) {
        for _ in 0..1000 {
            bytes = &bytes[self.fronts[&domid].push(bytes)..];
            self.turn(domid);
            if bytes.is_empty() {
                return;
            }
        }
        panic!("the ring is not served");
    }

    /// A request and its answer; events that come meanwhile are kept.
    fn ask_in(&mut self, domid: u16, tx: u32, kind: Kind, payload: &[u8]) -> Answer {
        let req_id = self.next_req;
        self.next_req += 1;
        let header = Header { kind, req_id, tx_id: tx, len: payload.len() as u32 };
        let bytes: Vec<u8> = header.bytes().iter().chain(payload).copied().collect();
        self.send(domid, &bytes);
        let answer = self.collect(domid).expect("each request is answered");
        assert_eq!((answer.0.req_id, answer.0.tx_id), (req_id, tx));
        match answer.0.kind {
            Kind::Error => Err(text(&answer.1)),
            answered => {
                assert_eq!(answered, kind);
                Ok(answer.1)
            }
        }
    }

    fn ask(&mut self, domid: u16, kind: Kind, payload: &str) -> Answer {
        self.ask_in(domid, 0, kind, payload.as_bytes())
    }

    /// Sorts events from the answer, if there is one.
    fn collect(&mut self, domid: u16) -> Option<(Header, Vec<u8>)> {
        let front = self.fronts.get_mut(&domid).unwrap();
        let mut answer = None;
        while let Some((header, body)) = front.message() {
            if header.kind == Kind::WatchEvent {
                assert_eq!((header.req_id, header.tx_id), (0, 0));
                let mut parts = body.split(|byte| *byte == 0).map(text);
                let event = (parts.next().unwrap(), parts.next().unwrap());
                front.events.push(event);
            } else {
                assert!(answer.replace((header, body)).is_none(), "one answer for one request");
            }
        }
        answer
    }

    /// The events that have come since the last call.
    fn events(&mut self, domid: u16) -> Vec<(String, String)> {
        self.settle();
        self.turn(domid);
        assert_eq!(self.collect(domid), None);
        core::mem::take(&mut self.fronts.get_mut(&domid).unwrap().events)
    }

    fn begin(&mut self, domid: u16) -> u32 {
        let id = self.ask(domid, Kind::TransactionStart, "\0").unwrap();
        text(&id).parse().unwrap()
    }

    fn end(&mut self, domid: u16, tx: u32, how: &str) -> Answer {
        self.ask_in(domid, tx, Kind::TransactionEnd, format!("{how}\0").as_bytes())
    }

    fn read(&mut self, domid: u16, path: &str) -> Result<String, String> {
        self.ask(domid, Kind::Read, &format!("{path}\0")).map(|value| text(&value))
    }

    fn write(&mut self, domid: u16, path: &str, value: &str) -> Answer {
        self.ask(domid, Kind::Write, &format!("{path}\0{value}"))
    }

    fn watch(&mut self, domid: u16, path: &str, token: &str) -> Answer {
        self.ask(domid, Kind::Watch, &format!("{path}\0{token}\0"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

fn err(word: &str) -> Result<String, String> {
    Err(word.to_string())
}

fn pairs(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(path, token)| (path.to_string(), token.to_string())).collect()
}

/// Numbers that look random and repeat by seed (xorshift64*).
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    }
}
