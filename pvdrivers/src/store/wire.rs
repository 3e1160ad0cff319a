//! Requests as messages: a header of four words, then strings with NULs. Xen public "io/xs_wire.h", docs
//! "xenstore.txt". Whatever is sent gets one answer; what cannot be is answered with an error.

use super::StoreError;
use super::client::{ClientId, Event};
use super::ops::Store;
use super::requests::respond;
use alloc::vec::Vec;

/// Bytes of a message behind its header at most (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;

/// Features of this server, in a ring's page: reconnection, error indicator, depth of watches.
pub(super) const FEATURES: u32 = 1 | 2 | 4;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// What a message is (`xsd_sockmsg_type`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
            /// None of these.
            Other {
                /// The number.
                code: u32,
            },
        }

        impl Kind {
            /// By number.
            #[must_use]
            pub const fn from_code(code: u32) -> Kind {
                match code { $($value => Kind::$name,)* code => Kind::Other { code } }
            }

            /// The number.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $(Kind::$name => $value,)* Kind::Other { code } => code }
            }
        }
    };
}

kinds! {
    /// `XS_CONTROL`.
    Control = 0,
    /// `XS_DIRECTORY`.
    Directory = 1,
    /// `XS_READ`.
    Read = 2,
    /// `XS_GET_PERMS`.
    GetPerms = 3,
    /// `XS_WATCH`.
    Watch = 4,
    /// `XS_UNWATCH`.
    Unwatch = 5,
    /// `XS_TRANSACTION_START`.
    TransactionStart = 6,
    /// `XS_TRANSACTION_END`.
    TransactionEnd = 7,
    /// `XS_INTRODUCE`.
    Introduce = 8,
    /// `XS_RELEASE`.
    Release = 9,
    /// `XS_GET_DOMAIN_PATH`.
    GetDomainPath = 10,
    /// `XS_WRITE`.
    Write = 11,
    /// `XS_MKDIR`.
    Mkdir = 12,
    /// `XS_RM`.
    Rm = 13,
    /// `XS_SET_PERMS`.
    SetPerms = 14,
    /// `XS_WATCH_EVENT`: only to a client.
    WatchEvent = 15,
    /// `XS_ERROR`: only to a client.
    Error = 16,
    /// `XS_IS_DOMAIN_INTRODUCED`.
    IsDomainIntroduced = 17,
    /// `XS_RESUME`.
    Resume = 18,
    /// `XS_SET_TARGET`.
    SetTarget = 19,
    /// `XS_RESET_WATCHES`.
    ResetWatches = 21,
    /// `XS_DIRECTORY_PART`.
    DirectoryPart = 22,
    /// `XS_GET_FEATURE`.
    GetFeature = 23,
}

/// A message's header (`struct xsd_sockmsg`): four little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The client's number for it, which the answer has too.
    pub req_id: u32,
    /// In which transaction.
    pub tx_id: u32,
    /// Bytes that follow.
    pub len: u32,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 16;

    /// From its bytes.
    #[must_use]
    pub fn read(bytes: &[u8; Header::SIZE]) -> Header {
        let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|byte| bytes[at + byte]));
        Header { kind: Kind::from_code(word(0)), req_id: word(4), tx_id: word(8), len: word(12) }
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; Header::SIZE] {
        let words = [self.kind.code(), self.req_id, self.tx_id, self.len];
        core::array::from_fn(|at| words[at / 4].to_le_bytes()[at % 4])
    }
}

/// Does what a message asks and appends the answer to `out`, header and all.
pub fn answer(
    store: &mut Store,
    client: ClientId,
    header: &Header,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; Header::SIZE]);
    let body = start + Header::SIZE;
    let mut kind = header.kind;
    let mut done = respond(store, client, header, payload, out);
    if done.is_ok() && out.len() - body > PAYLOAD_MAX {
        done = Err(StoreError::TooLong);
    }
    if let Err(error) = done {
        out.truncate(body);
        out.extend_from_slice(error.errno().name().as_bytes());
        out.push(0);
        kind = Kind::Error;
    }
    finish(out, start, Header { kind, len: 0, ..*header });
}

/// Appends an event as a message.
pub(super) fn event(event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; Header::SIZE]);
    out.extend_from_slice(event.path().as_bytes());
    out.push(0);
    out.extend_from_slice(&event.token);
    out.push(0);
    finish(out, start, Header { kind: Kind::WatchEvent, req_id: 0, tx_id: 0, len: 0 });
}

/// Puts the header before what stands from `start` on.
fn finish(out: &mut [u8], start: usize, header: Header) {
    let len = (out.len() - start - Header::SIZE) as u32;
    if let Some(place) = out.get_mut(start..start + Header::SIZE) {
        place.copy_from_slice(&Header { len, ..header }.bytes());
    }
}
