//! Packets from the front end. A packet is a request, its extra info, and requests for its other
//! pieces; every slot is copied once, every piece is checked before a byte of the packet moves.

use super::abi::{
    Extra, MAX_EXTRAS, MAX_SLOTS, RX_SLOT, TX_SLOT, TxRequest, TxResponse, status, tx_flag,
};
use super::{Connection, MAX_GROUPS, NetBack, Packet, Queue, Served, Sum};
use crate::bridge::HEADER;
use crate::ring::RingError;
use crate::seam::{DomId, GrantAccess, GrantRef, Grants};

/// Smallest segment that anybody asks for in earnest; less would make thousands of one packet.
const LEAST_SEGMENT: u16 = 48;
/// Bytes of a page.
const PAGE: usize = 4096;

/// A packet's slots as they came.
struct Slots {
    requests: [TxRequest; MAX_SLOTS],
    count: usize,
    /// Slots of extra info, behind the first request.
    extras: usize,
    gso: Option<super::abi::Gso>,
    group: Option<([u8; 6], bool)>,
    /// Too many slots, an unknown one, or the ring ended in the middle.
    bad: bool,
}

/// Bytes that one call moves before others have their turn.
const MOST_BYTES: u64 = 1 << 20;

impl NetBack {
    /// Takes up to `budget` packets from the front end's rings and hands each to `out`.
    ///
    /// # Errors
    /// [`RingError::Runaway`]: the front end's index makes no sense. Disconnect it.
    pub fn serve(
        &mut self,
        budget: u32,
        grants: &mut impl Grants,
        out: &mut impl FnMut(Packet<'_>),
    ) -> Result<Served, RingError> {
        let mut served = Served::default();
        let NetBack { owner, user, connection, buffer, counters, .. } = self;
        let Some(Connection { queues, groups, first, .. }) = connection else {
            return Ok(served);
        };
        let count = queues.len();
        let (mut left, mut end) = (budget, counters.sent_bytes.saturating_add(MOST_BYTES));
        for n in 0..count {
            let index = (*first + n) % count;
            let queue = &mut queues[index];
            loop {
                if left == 0 || counters.sent_bytes >= end {
                    served.more |= queue.tx.waiting()? > 0;
                    break;
                }
                let Some(slots) = queue.packet()? else {
                    if queue.tx.final_check()? {
                        continue;
                    }
                    break;
                };
                left -= 1;
                match copy(&slots, (*owner, *user), grants, buffer) {
                    Some(len) => {
                        counters.sent += 1;
                        counters.sent_bytes += len as u64;
                        note_group(groups, slots.group);
                        out(slots.packet(&buffer[..len]));
                        queue.answer(&slots, status::OKAY)?;
                    }
                    None => {
                        counters.bad += 1;
                        // As good as nothing sent, but work all the same.
                        end = end.saturating_sub(PAGE as u64);
                        queue.answer(&slots, status::ERROR)?;
                    }
                }
            }
            if queue.tx.push() {
                served.notify |= 1 << index;
            }
        }
        *first = (*first + 1) % count.max(1);
        Ok(served)
    }
}

impl Queue {
    /// Takes the slots of the next packet; `None` where there is none.
    fn packet(&mut self) -> Result<Option<Slots>, RingError> {
        let mut slot = [0; TX_SLOT];
        if !self.tx.take(&mut slot)? {
            return Ok(None);
        }
        let mut slots = Slots {
            requests: [TxRequest::decode(&slot); MAX_SLOTS],
            count: 1,
            extras: 0,
            gso: None,
            group: None,
            bad: false,
        };
        let mut more = slots.requests[0].has(tx_flag::EXTRA_INFO);
        while more && slots.extras < MAX_EXTRAS {
            let mut slot = [0; RX_SLOT];
            if !self.tx.take(&mut slot)? {
                slots.bad = true;
                return Ok(Some(slots));
            }
            slots.extras += 1;
            more = slots.extra(&slot);
        }
        slots.bad |= more;
        let mut more = slots.requests[0].has(tx_flag::MORE_DATA);
        while more {
            if slots.count == MAX_SLOTS {
                // What follows is answered as packets of their own, which are wrong as well.
                slots.bad = true;
                break;
            }
            if !self.tx.take(&mut slot)? {
                slots.bad = true;
                break;
            }
            let request = TxRequest::decode(&slot);
            more = request.has(tx_flag::MORE_DATA);
            slots.requests[slots.count] = request;
            slots.count += 1;
        }
        Ok(Some(slots))
    }

    /// Answers all slots of a packet, in their order.
    fn answer(&mut self, slots: &Slots, status: i16) -> Result<(), RingError> {
        for (n, request) in slots.requests.iter().enumerate().take(slots.count) {
            self.tx.put(&TxResponse { id: request.id, status }.encode())?;
            for _ in 0..if n == 0 { slots.extras } else { 0 } {
                self.tx.put(&TxResponse { id: 0, status: status::NULL }.encode())?;
            }
        }
        Ok(())
    }
}

impl Slots {
    /// Notes an extra info; whether another one follows.
    fn extra(&mut self, slot: &[u8; RX_SLOT]) -> bool {
        let Some((extra, more)) = Extra::decode(slot) else {
            self.bad = true;
            return false;
        };
        match extra {
            Extra::Gso(gso) => {
                self.bad |= self.gso.is_some() || gso.size < LEAST_SEGMENT;
                self.gso = Some(gso);
            }
            Extra::Group(mac, join) => self.group = Some((mac, join)),
            Extra::Other(_) => {}
        }
        more
    }

    fn requests(&self) -> &[TxRequest] {
        &self.requests[..self.count]
    }

    fn packet<'a>(&self, bytes: &'a [u8]) -> Packet<'a> {
        let first = &self.requests[0];
        let sum = if first.has(tx_flag::CSUM_BLANK) {
            Sum::Blank
        } else if first.has(tx_flag::DATA_VALIDATED) {
            Sum::Right
        } else {
            Sum::Unknown
        };
        Packet { bytes, sum, gso: self.gso }
    }

    /// Bytes of the first piece: the first request's size is that of the whole packet. `None` where
    /// the sizes contradict each other, or a piece leaves its page.
    fn first_piece(&self) -> Option<usize> {
        let requests = self.requests();
        let total = usize::from(requests[0].size);
        let others: usize = requests[1..].iter().map(|request| usize::from(request.size)).sum();
        let first = total.checked_sub(others)?;
        let pieces = requests.iter().enumerate().map(|(n, request)| {
            let size = if n == 0 { first } else { usize::from(request.size) };
            usize::from(request.offset) + size <= PAGE
        });
        (total >= HEADER && pieces.into_iter().all(|inside| inside)).then_some(first)
    }
}

/// Copies a packet out of the guest's pages; its length. `None` where something is wrong with it.
fn copy(
    slots: &Slots,
    (owner, user): (DomId, DomId),
    grants: &mut impl Grants,
    buffer: &mut [u8],
) -> Option<usize> {
    if slots.bad {
        return None;
    }
    let first = slots.first_piece()?;
    let mut done = 0;
    for (n, request) in slots.requests().iter().enumerate() {
        let size = if n == 0 { first } else { usize::from(request.size) };
        let start = usize::from(request.offset);
        let to = buffer.get_mut(done..done + size)?;
        let pinned =
            grants.pin(owner, GrantRef(request.reference), user, GrantAccess::Read).ok()?;
        let (low, high) = (usize::from(pinned.bytes.0), usize::from(pinned.bytes.1));
        let inside = low <= start && start + size <= high;
        let copied = inside && pinned.page.read(start, to).is_ok();
        grants.unpin(pinned);
        if !copied {
            return None;
        }
        done += size;
    }
    Some(done)
}

/// Joins or leaves a group. Names beyond the table are forgotten: those groups are not received.
fn note_group(groups: &mut alloc::vec::Vec<[u8; 6]>, group: Option<([u8; 6], bool)>) {
    let Some((mac, join)) = group else { return };
    groups.retain(|known| *known != mac);
    if join && groups.len() < MAX_GROUPS {
        groups.push(mac);
    }
}
