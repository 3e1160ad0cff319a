//! The back end of a block device: serves a front end's rings from a [`Disk`]. Xen "io/blkif.h".
//!
//! A pure state machine: who runs it binds ports, writes the nodes of `connect.rs` to XenStore,
//! calls [`BlkBack::serve`] when a port rings and [`BlkBack::complete`] when the disk has finished,
//! and notifies the ports that both name.
//! Next: `serve.rs` (the work), `plan.rs` (all checks), `keeper.rs` (pins).

pub mod abi;
mod connect;
mod disk;
mod flight;
mod keeper;
mod nodes;
mod plan;
mod serve;

pub(crate) use connect::number;
pub use connect::{FrontEnd, FrontQueue, MAX_INDIRECT, MAX_QUEUES, Node, is_idle};
pub use disk::{
    BlkConfig, Disk, DiskAnswer, DiskError, DiskOp, DiskRequest, Media, Piece, Run, Token, xvd,
};
pub use flight::Counters;

use crate::errno::Errno;
use crate::ring::{BackRing, PinnedPages};
use crate::seam::{DomId, Grants, Port};
use abi::{Layout, Segment};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use flight::Flights;
use keeper::Keeper;
use plan::Spare;

/// What a call leaves to do.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Queues whose port must be notified, by bit.
    pub notify: u32,
    /// Call [`BlkBack::serve`] again soon: there are requests left.
    pub more: bool,
    /// The disk had no room: call [`BlkBack::serve`] again when it has.
    pub busy: bool,
}

#[derive(Debug)]
struct Queue {
    ring: BackRing,
    pages: PinnedPages,
    port: Port,
}

/// What exists while a front end is connected.
#[derive(Debug)]
struct Connection {
    layout: Layout,
    queues: Vec<Queue>,
    /// Where the next turn begins.
    first: usize,
}

/// The back end of one device.
#[derive(Debug)]
pub struct BlkBack {
    config: BlkConfig,
    owner: DomId,
    user: DomId,
    media: Option<Media>,
    connection: Option<Connection>,
    /// Counts connections, so that late answers do not reach the wrong one.
    epoch: u32,
    keeper: Keeper,
    flights: Flights,
    /// Flights that the disk must be asked for, in order.
    ready: VecDeque<Token>,
    /// The flight that waits until no other is there, or is alone.
    barrier: Option<Token>,
    /// Requests wait in the rings for a flight to end.
    stalled: bool,
    scratch: Vec<Segment>,
    spare: Spare,
    counters: Counters,
}

impl BlkBack {
    /// A device of `user` (the back end) for the front end in `owner`. No medium is in it.
    #[must_use]
    pub fn new(config: BlkConfig, owner: DomId, user: DomId) -> BlkBack {
        BlkBack {
            config,
            owner,
            user,
            media: None,
            connection: None,
            epoch: 0,
            keeper: Keeper::new(owner, user),
            flights: Flights::default(),
            ready: VecDeque::new(),
            barrier: None,
            stalled: false,
            scratch: Vec::with_capacity(MAX_INDIRECT),
            spare: Spare::default(),
            counters: Counters::default(),
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &BlkConfig {
        &self.config
    }

    /// The medium in it.
    #[must_use]
    pub fn media(&self) -> Option<&Media> {
        self.media.as_ref()
    }

    /// Puts in, takes out or resizes the medium. Requests in flight are not touched. A connected
    /// front end learns of it from [`BlkConfig::properties`], written again with state 4 after
    /// them.
    pub fn set_media(&mut self, media: Option<Media>) {
        self.media = media;
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { persistent_hits: self.keeper.hits, ..self.counters }
    }

    /// Guest pages pinned now: rings, requests in flight, kept grants.
    #[must_use]
    pub fn pins(&self) -> usize {
        let rings = self.connection.iter().flat_map(|front| &front.queues);
        self.keeper.count() + rings.map(|queue| queue.pages.count()).sum::<usize>()
    }

    /// Requests in flight, also of front ends that are gone.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.active()
    }

    /// Whether a front end is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The front end's ports, by queue.
    pub fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        self.connection.iter().flat_map(|front| front.queues.iter().map(|queue| queue.port))
    }

    /// Connects to the rings of a front end.
    ///
    /// # Errors
    /// `EBUSY` where one is connected already, `EINVAL` for no queue or too many, else why a page
    /// cannot be used. Nothing stays pinned then.
    pub fn connect(&mut self, grants: &mut impl Grants, front: &FrontEnd) -> Result<(), Errno> {
        if self.connection.is_some() {
            return Err(Errno::EBUSY);
        }
        if !(1..=MAX_QUEUES as usize).contains(&front.queues.len()) {
            return Err(Errno::EINVAL);
        }
        let mut queues = Vec::with_capacity(front.queues.len());
        for queue in &front.queues {
            match self.queue(grants, queue, front.layout) {
                Ok(queue) => queues.push(queue),
                Err(error) => {
                    for mut queue in queues {
                        Queue::release(&mut queue, grants);
                    }
                    return Err(error);
                }
            }
        }
        self.keeper.keep(if front.persistent { self.config.persistent } else { 0 });
        self.connection = Some(Connection { layout: front.layout, queues, first: 0 });
        Ok(())
    }

    fn queue(
        &self,
        grants: &mut impl Grants,
        queue: &FrontQueue,
        layout: Layout,
    ) -> Result<Queue, Errno> {
        let mut pages = PinnedPages::pin(grants, self.owner, self.user, &queue.references)?;
        match pages.pages().and_then(|memory| BackRing::new(memory, layout.slot())) {
            Ok(ring) => Ok(Queue { ring, pages, port: queue.port }),
            Err(_) => {
                pages.release(grants);
                Err(Errno::EINVAL)
            }
        }
    }

    /// Lets go of the front end, at any time and in any state. What the disk still has stays pinned
    /// until [`complete`](BlkBack::complete); all else is given back at once.
    pub fn disconnect(&mut self, grants: &mut impl Grants) {
        if let Some(front) = self.connection.take() {
            for mut queue in front.queues {
                queue.release(grants);
            }
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.ready.clear();
        self.barrier = None;
        self.stalled = false;
        for token in self.flights.tokens(|flight| !flight.submitted) {
            if let Some(flight) = self.flights.remove(token) {
                self.let_go(grants, flight);
            }
        }
        self.keeper.close(grants);
    }
}

impl Queue {
    fn release(&mut self, grants: &mut impl Grants) {
        self.pages.release(grants);
    }
}
