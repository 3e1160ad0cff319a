//! The front end of a network interface: pages out, pages in. Xen public "io/netif.h".
//!
//! A kernel grants pages with packets to the back end and sends them; it posts pages to receive into.
//! Ids come back in any order for what is sent, in order for what is received. Next:
//! `crate::netback::abi` for the bytes.

use crate::netback::FrontQueue;
use crate::netback::Sum;
use crate::netback::abi::{
    Extra, Gso, RX_SLOT, RxRequest, RxResponse, TX_SLOT, TxRequest, TxResponse, extra, rx_flag,
    status, tx_flag,
};
use crate::ring::{FrontRing, Pages, RingError, RingMemory};
use crate::seam::GrantRef;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a front end writes into its directory before it says that it is connected: all offloads, and
/// its queues, each with its own ports.
#[must_use]
pub fn nodes(queues: &[FrontQueue]) -> Vec<(String, String)> {
    let mut nodes = Vec::new();
    for name in [
        "request-rx-copy",
        "feature-rx-notify",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-gso-tcpv6",
        "feature-ipv6-csum-offload",
    ] {
        nodes.push((name.into(), "1".into()));
    }
    nodes.push(("multi-queue-num-queues".into(), queues.len().to_string()));
    for (n, queue) in queues.iter().enumerate() {
        let prefix = if queues.len() == 1 { String::new() } else { format!("queue-{n}/") };
        for (name, value) in [
            ("tx-ring-ref", queue.tx.0),
            ("rx-ring-ref", queue.rx.0),
            ("event-channel-tx", queue.tx_port.0),
            ("event-channel-rx", queue.rx_port.0),
        ] {
            nodes.push((format!("{prefix}{name}"), value.to_string()));
        }
    }
    nodes
}

/// A piece of a packet, in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The page.
    pub reference: GrantRef,
    /// Where it begins there.
    pub offset: u16,
    /// Its bytes.
    pub size: u16,
    /// Comes back when it is sent.
    pub id: u16,
}

/// What the back end said of a received packet before its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The checksum.
    pub sum: Sum,
    /// It is several segments in one.
    pub gso: Option<Gso>,
    /// Pieces of it, in the answers that were written.
    pub pieces: usize,
}

/// One queue of an interface.
#[derive(Debug)]
pub struct NetFront<M = Pages> {
    /// The ring of what is sent.
    pub tx: FrontRing<M>,
    /// The ring of what is received.
    pub rx: FrontRing<M>,
}

impl<M: RingMemory> NetFront<M> {
    /// A queue in fresh memory.
    ///
    /// # Errors
    /// [`RingError::Shape`] where no slot fits.
    pub fn new(tx: M, rx: M) -> Result<NetFront<M>, RingError> {
        Ok(NetFront { tx: FrontRing::new(tx, TX_SLOT)?, rx: FrontRing::new(rx, RX_SLOT)? })
    }

    /// Sends a packet of at least one piece. Push the ring afterwards.
    ///
    /// # Errors
    /// [`RingError::Full`] where there are not enough slots, or no piece; nothing is put then.
    pub fn send(&mut self, pieces: &[Piece], sum: Sum, gso: Option<Gso>) -> Result<(), RingError> {
        let slots = pieces.len() + usize::from(gso.is_some());
        if pieces.is_empty() || (self.tx.free() as usize) < slots {
            return Err(RingError::Full);
        }
        let total = pieces.iter().fold(0u16, |sum, piece| sum.wrapping_add(piece.size));
        for (n, piece) in pieces.iter().enumerate() {
            let mut flags = if n + 1 < pieces.len() { tx_flag::MORE_DATA } else { 0 };
            if n == 0 {
                flags |= match sum {
                    Sum::Unknown => 0,
                    Sum::Right => tx_flag::DATA_VALIDATED,
                    Sum::Blank => tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED,
                };
                flags |= if gso.is_some() { tx_flag::EXTRA_INFO } else { 0 };
            }
            let Piece { reference, offset, size, id } = *piece;
            let size = if n == 0 { total } else { size };
            let request = TxRequest { reference: reference.0, offset, flags, id, size };
            self.tx.put(&request.encode())?;
            if n == 0
                && let Some(gso) = gso
            {
                self.tx.put(&Extra::Gso(gso).encode(false))?;
            }
        }
        Ok(())
    }

    /// The next piece that was sent, or not. `None` where there is none now.
    ///
    /// # Errors
    /// [`RingError::Runaway`].
    pub fn sent(&mut self) -> Result<Option<TxResponse>, RingError> {
        let mut slot = [0; 4];
        while self.tx.take(&mut slot)? {
            let response = TxResponse::decode(&slot);
            // Those answer extra info.
            if response.status != status::NULL {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Posts a page to receive into. Push the ring afterwards.
    ///
    /// # Errors
    /// [`RingError::Full`].
    pub fn post(&mut self, id: u16, reference: GrantRef) -> Result<(), RingError> {
        self.rx.put(&RxRequest { id, reference: reference.0 }.encode())
    }

    /// Takes the next packet: its answers go to `pieces`, in order. Ids of pages that extra info took
    /// the place of are not among them. `None` where there is none now.
    ///
    /// # Errors
    /// [`RingError::Runaway`]; [`RingError::Full`] where a packet is in more pieces than `pieces` holds.
    pub fn receive(&mut self, pieces: &mut [RxResponse]) -> Result<Option<Head>, RingError> {
        let mut slot = [0; RX_SLOT];
        let mut head: Option<Head> = None;
        loop {
            if !self.rx.take(&mut slot)? {
                return Ok(None);
            }
            let response = RxResponse::decode(&slot);
            let flags = response.flags;
            let head = head.get_or_insert_with(|| {
                let blank = flags & rx_flag::CSUM_BLANK != 0;
                let right = flags & rx_flag::DATA_VALIDATED != 0;
                let sum = match (blank, right) {
                    (true, _) => Sum::Blank,
                    (_, true) => Sum::Right,
                    _ => Sum::Unknown,
                };
                Head { sum, gso: None, pieces: 0 }
            });
            *pieces.get_mut(head.pieces).ok_or(RingError::Full)? = response;
            head.pieces += 1;
            let mut more = flags & rx_flag::EXTRA_INFO != 0;
            while more {
                if !self.rx.take(&mut slot)? {
                    return Ok(None);
                }
                if let Some((Extra::Gso(gso), _)) = Extra::decode(&slot) {
                    head.gso = Some(gso);
                }
                more = slot[1] & extra::MORE != 0;
            }
            if flags & rx_flag::MORE_DATA == 0 {
                return Ok(Some(*head));
            }
        }
    }
}
