//! The control ring: the front end says by which hash its packets find their queues. Xen public
//! "io/netif.h", "Control ring" to "Control messages". Grant mappings (types 8 to 10) and the hash as extra
//! info of a received packet are left out.

use super::abi::control::{Request, Response, SLOT, Status, hash_type, kind};
use super::{NetBack, offload};
use crate::ring::{BackRing, PinnedPages, RingError};
use crate::seam::{DomId, GrantAccess, GrantRef, Grants, Port};

/// Bytes of the longest key, as long as the longest data and its last window need.
const MAX_KEY: usize = 40;
/// Entries of the longest mapping.
const MAX_MAPPING: usize = 128;
/// Requests that one call serves; more wait for the next.
const BUDGET: u32 = 32;

/// The ring, while a front end that has one is connected.
#[derive(Debug)]
pub(super) struct Control {
    pub ring: BackRing,
    pub pages: PinnedPages,
    pub port: Port,
}

/// What a call leaves to do.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controlled {
    /// The control port must be notified.
    pub notify: bool,
    /// Call [`NetBack::serve_control`] again soon.
    pub more: bool,
}

/// How packets for the front end find their queues.
#[derive(Debug)]
pub(super) struct Steering {
    toeplitz: bool,
    /// [`hash_type`]; 0 leaves the choice to the back end.
    flags: u32,
    key: [u8; MAX_KEY],
    /// Queues by hash, of which `entries` count; with 0 entries the hash modulo the queues.
    mapping: [u8; MAX_MAPPING],
    entries: usize,
}

impl Steering {
    /// No hash: the back end chooses.
    pub const NONE: Steering = Steering {
        toeplitz: false,
        flags: 0,
        key: [0; MAX_KEY],
        mapping: [0; MAX_MAPPING],
        entries: 0,
    };

    /// The queue for a packet, of `queues`, 1 or more.
    pub fn queue(&self, bytes: &[u8], queues: usize) -> usize {
        let hashed = if self.toeplitz { offload::hashed(bytes, self.flags) } else { None };
        let Some((data, len)) = hashed else { return offload::flow(bytes) as usize % queues };
        let hash = toeplitz(&self.key, &data[..len]) as usize;
        let mapped = match self.entries {
            0 => hash,
            entries => self.mapping[hash % entries].into(),
        };
        mapped % queues
    }

    /// Does what a request says: status and data of its answer.
    fn serve(
        &mut self,
        request: &Request,
        queues: usize,
        fetch: &mut impl FnMut(u32, &mut [u8]) -> Option<()>,
    ) -> (Status, u32) {
        let [first, second, third] = request.data;
        let status = match request.kind {
            kind::SET_HASH_ALGORITHM if first > 1 => Status::InvalidParameter,
            kind::SET_HASH_ALGORITHM => {
                self.toeplitz = first == 1;
                Status::Success
            }
            kind::GET_HASH_FLAGS if self.toeplitz => return (Status::Success, hash_type::ALL),
            kind::SET_HASH_FLAGS if !self.toeplitz || first & !hash_type::ALL != 0 => {
                Status::InvalidParameter
            }
            kind::SET_HASH_FLAGS => {
                self.flags = first;
                Status::Success
            }
            kind::SET_HASH_KEY => self.set_key(first, second as usize, fetch),
            kind::GET_HASH_MAPPING_SIZE => return (Status::Success, MAX_MAPPING as u32),
            kind::SET_HASH_MAPPING_SIZE if first as usize > MAX_MAPPING => Status::InvalidParameter,
            kind::SET_HASH_MAPPING_SIZE => {
                (self.mapping, self.entries) = ([0; MAX_MAPPING], first as usize);
                Status::Success
            }
            kind::SET_HASH_MAPPING => {
                self.set_mapping(first, (third as usize, second as usize), queues, fetch)
            }
            _ => Status::NotSupported,
        };
        (status, 0)
    }

    fn set_key(
        &mut self,
        reference: u32,
        len: usize,
        fetch: &mut impl FnMut(u32, &mut [u8]) -> Option<()>,
    ) -> Status {
        let mut key = [0; MAX_KEY];
        let Some(part) = key.get_mut(..len) else { return Status::BufferOverflow };
        // No key needs no page.
        if len > 0 && fetch(reference, part).is_none() {
            return Status::InvalidParameter;
        }
        self.key = key;
        Status::Success
    }

    /// Sets `len` entries from `at` on, all or none.
    fn set_mapping(
        &mut self,
        reference: u32,
        (at, len): (usize, usize),
        queues: usize,
        fetch: &mut impl FnMut(u32, &mut [u8]) -> Option<()>,
    ) -> Status {
        if len > MAX_MAPPING {
            return Status::BufferOverflow;
        }
        let end = at.saturating_add(len);
        let mut bytes = [0; MAX_MAPPING * 4];
        let bytes = &mut bytes[..len * 4];
        if end > self.entries || (len > 0 && fetch(reference, bytes).is_none()) {
            return Status::InvalidParameter;
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
        if numbers.clone().any(|queue| queue as usize >= queues) {
            return Status::InvalidParameter;
        }
        self.mapping[at..end].fill_with(|| numbers.next().unwrap_or(0) as u8);
        Status::Success
    }
}

/// The hash of that name: for each bit of the data the key's 32 bits from there on.
fn toeplitz(key: &[u8; MAX_KEY], data: &[u8]) -> u32 {
    let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let mut hash = 0;
    for (n, byte) in data.iter().enumerate() {
        let next = key.get(n + 4).copied().unwrap_or(0);
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

impl NetBack {
    /// The front end's port of the control ring, if it has one.
    #[must_use]
    pub fn control_port(&self) -> Option<Port> {
        Some(self.connection.as_ref()?.control.as_ref()?.port)
    }

    /// Answers requests of the control ring, if there is one.
    ///
    /// # Errors
    /// [`RingError::Runaway`]: the front end's index makes no sense. Disconnect it.
    pub fn serve_control(&mut self, grants: &mut impl Grants) -> Result<Controlled, RingError> {
        let mut done = Controlled::default();
        let NetBack { owner, user, connection, .. } = self;
        let Some(connection) = connection else { return Ok(done) };
        let Some(Control { ring, .. }) = &mut connection.control else { return Ok(done) };
        let queues = connection.queues.len();
        let mut fetch =
            |reference, bytes: &mut [u8]| fetch((*owner, *user), grants, reference, bytes);
        let mut left = BUDGET;
        loop {
            let mut slot = [0; SLOT];
            if left == 0 {
                done.more = ring.waiting()? > 0;
                break;
            }
            if ring.take(&mut slot)? {
                let request = Request::decode(&slot);
                let (status, data) = connection.steering.serve(&request, queues, &mut fetch);
                let Request { id, kind, .. } = request;
                ring.put(&Response { id, kind, status: status as u32, data }.encode())?;
                left -= 1;
            } else if !ring.final_check()? {
                break;
            }
        }
        done.notify = ring.push();
        Ok(done)
    }
}

/// Copies the first bytes of a granted page, once.
fn fetch(
    (owner, user): (DomId, DomId),
    grants: &mut impl Grants,
    reference: u32,
    bytes: &mut [u8],
) -> Option<()> {
    let pinned = grants.pin(owner, GrantRef(reference), user, GrantAccess::Read).ok()?;
    let inside = pinned.bytes.0 == 0 && bytes.len() <= usize::from(pinned.bytes.1);
    let read = inside && pinned.page.read(0, bytes).is_ok();
    grants.unpin(pinned);
    read.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_microsofts_verification_suite() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let data = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&key, &data[..8]), 0x323e_8fc2);
        assert_eq!(toeplitz(&key, &data), 0x51cc_c178);
        let mut data = [0; 36];
        for (at, word) in [(0, 0x3ffe), (2, 0x2501), (4, 0x200), (6, 0x1fff), (14, 7)] {
            data[at..at + 2].copy_from_slice(&u16::to_be_bytes(word));
        }
        for (at, word) in [(16, 0x3ffe), (18, 0x2501), (20, 0x200), (22, 3), (30, 1)] {
            data[at..at + 2].copy_from_slice(&u16::to_be_bytes(word));
        }
        data[32..].copy_from_slice(&[0x0a, 0xea, 0x06, 0xe6]);
        assert_eq!(toeplitz(&key, &data[..32]), 0x2cc1_8cd5);
        assert_eq!(toeplitz(&key, &data), 0x4020_7d3d);
        assert_eq!(toeplitz(&[0; MAX_KEY], &data), 0, "without a key");
    }
}
