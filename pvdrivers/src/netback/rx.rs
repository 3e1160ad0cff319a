//! Packets to the front end: cut and summed as far as it cannot, and put into the pages that it
//! posted, as many slots as they need or none.

use super::abi::{Extra, RX_SLOT, RxRequest, RxResponse, rx_flag, status};
use super::{Connection, Counters, Delivered, NetBack, Packet, Queue, Sum, offload};
use crate::bridge::HEADER;
use crate::ring::RingError;
use crate::seam::{DomId, GrantAccess, GrantRef, Grants};

/// Bytes of a page.
const PAGE: usize = 4096;

impl NetBack {
    /// Gives the front end a packet.
    ///
    /// # Errors
    /// [`RingError::Runaway`]: the front end's index makes no sense. Disconnect it.
    pub fn deliver(
        &mut self,
        grants: &mut impl Grants,
        packet: Packet<'_>,
    ) -> Result<Delivered, RingError> {
        let NetBack { owner, user, connection, cut, counters, .. } = self;
        let Some(Connection { front, queues, groups, steering, .. }) = connection else {
            return Ok(Delivered::Unwanted);
        };
        let Some(to) = packet.bytes.first_chunk::<6>() else { return Ok(Delivered::Unwanted) };
        let group = to[0] & 1 != 0 && *to != [0xff; 6];
        if packet.bytes.len() < HEADER || (group && front.multicast_control && !groups.contains(to))
        {
            return Ok(Delivered::Unwanted);
        }
        let index = steering.queue(packet.bytes, queues.len().max(1));
        let Some(queue) = queues.get_mut(index) else { return Ok(Delivered::Unwanted) };
        let mut give = |packet: Packet<'_>| {
            queue.give((*owner, *user), grants, packet, front.scatter_gather, counters)
        };
        let ipv6 = offload::is_ipv6(packet.bytes);
        let takes_blank = front.checksum[usize::from(ipv6)];
        let taken = match packet.gso {
            Some(gso) if front.gso[usize::from(gso.ipv6)] && takes_blank => give(packet)?,
            Some(gso) => {
                let mut last = Given::Unwanted;
                let mut error = None;
                offload::segments(packet.bytes, gso, cut, &mut |bytes| {
                    let segment = Packet { bytes, sum: Sum::Right, gso: None };
                    match give(segment) {
                        // The rest of a packet that began is the sender's to send again.
                        Ok(Given::NoRoom) if last == Given::Taken => false,
                        Ok(given) => {
                            last = given;
                            given == Given::Taken
                        }
                        Err(runaway) => {
                            error = Some(runaway);
                            false
                        }
                    }
                });
                if let Some(error) = error {
                    return Err(error);
                }
                last
            }
            None if packet.sum == Sum::Blank && !takes_blank => {
                cut.clear();
                cut.extend_from_slice(packet.bytes);
                offload::fill_checksum(cut);
                give(Packet { bytes: cut, sum: Sum::Right, gso: None })?
            }
            None => give(packet)?,
        };
        Ok(match taken {
            Given::Taken => Delivered::Taken(if queue.rx.push() { 1 << index } else { 0 }),
            Given::NoRoom => Delivered::NoRoom,
            Given::Unwanted => Delivered::Unwanted,
        })
    }
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Taken,
    NoRoom,
    Unwanted,
}

impl Queue {
    fn give(
        &mut self,
        domains: (DomId, DomId),
        grants: &mut impl Grants,
        packet: Packet<'_>,
        scatter_gather: bool,
        counters: &mut Counters,
    ) -> Result<Given, RingError> {
        let pieces = packet.bytes.len().div_ceil(PAGE);
        let slots = (pieces + usize::from(packet.gso.is_some())) as u32;
        if (pieces > 1 && !scatter_gather) || slots > self.rx.entries() {
            return Ok(Given::Unwanted);
        }
        if self.rx.waiting()? < slots && !self.rx.final_check_for(slots)? {
            return Ok(Given::NoRoom);
        }
        let mut flags = match packet.sum {
            Sum::Unknown => 0,
            Sum::Right => rx_flag::DATA_VALIDATED,
            Sum::Blank => rx_flag::CSUM_BLANK | rx_flag::DATA_VALIDATED,
        };
        if packet.gso.is_some() {
            flags |= rx_flag::EXTRA_INFO;
        }
        for (n, piece) in packet.bytes.chunks(PAGE).enumerate() {
            let more = if n + 1 < pieces { rx_flag::MORE_DATA } else { 0 };
            let mut slot = [0; RX_SLOT];
            self.rx.take(&mut slot)?;
            let request = RxRequest::decode(&slot);
            let good = fill(domains, grants, GrantRef(request.reference), piece);
            counters.bad_pages += u64::from(!good);
            let status = if good { piece.len() as i16 } else { status::ERROR };
            let response = RxResponse { id: request.id, offset: 0, flags: flags | more, status };
            self.rx.put(&response.encode())?;
            if n == 0
                && let Some(gso) = packet.gso
            {
                // The extra info takes the place of a posted page, which the front end keeps.
                self.rx.take(&mut slot)?;
                self.rx.put(&Extra::Gso(gso).encode(false))?;
            }
            flags = 0;
        }
        counters.received += 1;
        counters.received_bytes += packet.bytes.len() as u64;
        Ok(Given::Taken)
    }
}

/// Writes a piece into a posted page. False where the page cannot be used.
fn fill(
    (owner, user): (DomId, DomId),
    grants: &mut impl Grants,
    reference: GrantRef,
    piece: &[u8],
) -> bool {
    let Ok(pinned) = grants.pin(owner, reference, user, GrantAccess::Write) else { return false };
    let inside = pinned.bytes.0 == 0 && piece.len() <= usize::from(pinned.bytes.1);
    let written = inside && pinned.page.write_slice(0, piece).is_ok();
    grants.unpin(pinned);
    written
}
