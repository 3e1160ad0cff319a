//! The back end of a network interface: packets from a front end's transmit rings, packets into its
//! receive rings. Xen public "io/netif.h".
//!
//! A pure state machine: who runs it binds ports, writes the nodes of `connect.rs` to XenStore, calls
//! [`NetBack::serve`] when a transmit port rings and [`NetBack::deliver`] for what the bridge sends.
//! Next: `tx.rs`, `rx.rs`, `control.rs`, `offload.rs` (checksums and segments). Left out: XDP.

pub mod abi;
pub mod connect;
mod control;
mod nodes;
pub mod offload;
mod rx;
mod tx;

pub use connect::{FrontEnd, FrontQueue, MAX_QUEUES, features};

pub use control::Controlled;

use crate::errno::Errno;
use crate::ring::{BackRing, PinnedPages};
use crate::seam::{DomId, GrantRef, Grants, Port};
use abi::{Gso, MAX_PACKET, RX_SLOT, TX_SLOT};
use alloc::vec;
use alloc::vec::Vec;
use control::{Control, Steering};

/// Groups that a front end may name.
const MAX_GROUPS: usize = 64;

/// What is known of a packet's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sum {
    /// It is there, and nobody has looked at it.
    #[default]
    Unknown,
    /// It is right.
    Right,
    /// Only the pseudo-header's sum is there.
    Blank,
}

/// A packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The frame, without check sequence.
    pub bytes: &'a [u8],
    /// Its checksum.
    pub sum: Sum,
    /// It is larger than the wire takes, and to be cut.
    pub gso: Option<Gso>,
}

impl<'a> Packet<'a> {
    /// A frame as it comes from a wire.
    #[must_use]
    pub const fn plain(bytes: &'a [u8]) -> Packet<'a> {
        Packet { bytes, sum: Sum::Unknown, gso: None }
    }
}

/// What a call leaves to do.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Queues whose transmit port must be notified, by bit.
    pub notify: u32,
    /// Call [`NetBack::serve`] again soon: there are packets left.
    pub more: bool,
}

/// What became of a packet for the front end.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is in the guest's pages. Which queue's receive port must be notified, by bit.
    Taken(u32),
    /// The front end has posted too few pages; its receive port rings when it has.
    NoRoom,
    /// Nobody is connected, or the packet is not wanted or does not fit: dropped.
    Unwanted,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that the front end sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that it sent and that were wrong.
    pub bad: u64,
    /// Packets that it received, after cutting.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Pages that it gave and that could not be used.
    pub bad_pages: u64,
}

#[derive(Debug)]
struct Queue {
    tx: BackRing,
    rx: BackRing,
    pages: [PinnedPages; 2],
    ports: (Port, Port),
}

impl Queue {
    fn release(&mut self, grants: &mut impl Grants) {
        for pages in &mut self.pages {
            pages.release(grants);
        }
    }
}

/// What exists while a front end is connected.
#[derive(Debug)]
struct Connection {
    front: FrontEnd,
    queues: Vec<Queue>,
    control: Option<Control>,
    steering: Steering,
    groups: Vec<[u8; 6]>,
    /// Where the next turn begins.
    first: usize,
}

/// The back end of one interface.
#[derive(Debug)]
pub struct NetBack {
    owner: DomId,
    user: DomId,
    connection: Option<Connection>,
    /// Where a packet is put together.
    buffer: Vec<u8>,
    /// Where one is cut.
    cut: Vec<u8>,
    counters: Counters,
}

impl NetBack {
    /// An interface of `user` (the back end) for the front end in `owner`.
    #[must_use]
    pub fn new(owner: DomId, user: DomId) -> NetBack {
        NetBack {
            owner,
            user,
            connection: None,
            buffer: vec![0; MAX_PACKET],
            cut: Vec::with_capacity(MAX_PACKET),
            counters: Counters::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Guest pages pinned now: those of the rings. Others are only between two calls.
    #[must_use]
    pub fn pins(&self) -> usize {
        let queues = self.connection.iter().flat_map(|front| &front.queues);
        let control = self.connection.iter().flat_map(|front| &front.control);
        let control: usize = control.map(|control| control.pages.count()).sum();
        control + queues.flat_map(|queue| &queue.pages).map(PinnedPages::count).sum::<usize>()
    }

    /// Whether a front end is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The front end's ports for sending and receiving, by queue.
    pub fn ports(&self) -> impl Iterator<Item = (Port, Port)> + '_ {
        self.connection.iter().flat_map(|front| front.queues.iter().map(|queue| queue.ports))
    }

    /// Connects to the rings of a front end.
    ///
    /// # Errors
    /// `EBUSY` where one is connected already, `EINVAL` for no queue or too many, else why a page
    /// cannot be used. Nothing stays pinned then.
    pub fn connect(&mut self, grants: &mut impl Grants, front: FrontEnd) -> Result<(), Errno> {
        if self.connection.is_some() {
            return Err(Errno::EBUSY);
        }
        if !(1..=MAX_QUEUES as usize).contains(&front.queues.len()) {
            return Err(Errno::EINVAL);
        }
        let mut queues: Vec<Queue> = Vec::with_capacity(front.queues.len());
        for queue in &front.queues {
            match self.queue(grants, queue) {
                Ok(queue) => queues.push(queue),
                Err(error) => {
                    queues.iter_mut().for_each(|queue| queue.release(grants));
                    return Err(error);
                }
            }
        }
        let control = match front.control.map(|control| self.control(grants, control)) {
            None => None,
            Some(Ok(control)) => Some(control),
            Some(Err(error)) => {
                queues.iter_mut().for_each(|queue| queue.release(grants));
                return Err(error);
            }
        };
        let (steering, groups) = (Steering::NONE, Vec::new());
        self.connection = Some(Connection { front, queues, control, steering, groups, first: 0 });
        Ok(())
    }

    fn control(
        &self,
        grants: &mut impl Grants,
        (reference, port): (GrantRef, Port),
    ) -> Result<Control, Errno> {
        let mut pages = PinnedPages::pin(grants, self.owner, self.user, &[reference])?;
        match pages.pages().and_then(|memory| BackRing::new(memory, abi::control::SLOT)) {
            Ok(ring) => Ok(Control { ring, pages, port }),
            Err(_) => {
                pages.release(grants);
                Err(Errno::EINVAL)
            }
        }
    }

    fn queue(&self, grants: &mut impl Grants, queue: &FrontQueue) -> Result<Queue, Errno> {
        let mut tx = PinnedPages::pin(grants, self.owner, self.user, &[queue.tx])?;
        let mut rx = match PinnedPages::pin(grants, self.owner, self.user, &[queue.rx]) {
            Ok(rx) => rx,
            Err(error) => {
                tx.release(grants);
                return Err(error);
            }
        };
        let ring = |pages: &PinnedPages, slot| {
            pages.pages().and_then(|memory| BackRing::new(memory, slot))
        };
        match (ring(&tx, TX_SLOT), ring(&rx, RX_SLOT)) {
            (Ok(send), Ok(receive)) => Ok(Queue {
                tx: send,
                rx: receive,
                pages: [tx, rx],
                ports: (queue.tx_port, queue.rx_port),
            }),
            _ => {
                tx.release(grants);
                rx.release(grants);
                Err(Errno::EINVAL)
            }
        }
    }

    /// Lets go of the front end, at any time and in any state.
    pub fn disconnect(&mut self, grants: &mut impl Grants) {
        if let Some(front) = self.connection.take() {
            for mut queue in front.queues {
                queue.release(grants);
            }
            if let Some(mut control) = front.control {
                control.pages.release(grants);
            }
        }
    }
}
