//! The front end of a block device: requests in, answers out. Xen public "io/blkif.h".
//!
//! A kernel grants its pages to the back end, names them in segments, and asks; the answer brings
//! its id back, in any order. Next: `crate::blkback::abi` for the bytes.

use crate::blkback::abi::{
    Body, INDIRECT_PAGES, Layout, Request, Response, SEGMENTS, SEGMENTS_PER_PAGE, Segment, op,
};
use crate::ring::{FrontRing, Pages, RingError, RingMemory};
use crate::seam::{GrantRef, Port};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::SharedPage;

/// One queue of a block device.
#[derive(Debug)]
pub struct BlkFront<M = Pages> {
    ring: FrontRing<M>,
    layout: Layout,
    handle: u16,
}

impl<M: RingMemory> BlkFront<M> {
    /// A queue in fresh memory, for the disk with the number `virtual_device`.
    ///
    /// # Errors
    /// [`RingError::Shape`] where no request fits.
    pub fn new(memory: M, layout: Layout, virtual_device: u32) -> Result<BlkFront<M>, RingError> {
        let ring = FrontRing::new(memory, layout.slot())?;
        Ok(BlkFront { ring, layout, handle: virtual_device as u16 })
    }

    /// Room for more requests.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.ring.free()
    }

    /// Requests the ring holds.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.ring.entries()
    }

    /// Puts any request.
    ///
    /// # Errors
    /// [`RingError::Full`] where no slot is free.
    pub fn put(&mut self, request: &Request) -> Result<(), RingError> {
        self.ring.put(&request.encode(self.layout, self.handle)[..self.layout.slot()])
    }

    fn plain(
        &mut self,
        operation: u8,
        id: u64,
        sector: u64,
        data: &[Segment],
    ) -> Result<(), RingError> {
        let mut segments = [Segment::default(); SEGMENTS];
        segments.get_mut(..data.len()).ok_or(RingError::Full)?.copy_from_slice(data);
        let body = Body::Plain { count: data.len() as u8, segments };
        self.put(&Request { operation, id, sector, body })
    }

    /// From the disk, at `sector` (in units of 512 bytes), into up to 11 segments.
    ///
    /// # Errors
    /// [`RingError::Full`] where no slot is free or there are more segments.
    pub fn read(&mut self, id: u64, sector: u64, into: &[Segment]) -> Result<(), RingError> {
        self.plain(op::READ, id, sector, into)
    }

    /// To the disk, from up to 11 segments.
    ///
    /// # Errors
    /// As [`read`](BlkFront::read).
    pub fn write(&mut self, id: u64, sector: u64, from: &[Segment]) -> Result<(), RingError> {
        self.plain(op::WRITE, id, sector, from)
    }

    /// As [`write`](BlkFront::write), after all that was written before, and before all that comes.
    /// Also without segments.
    ///
    /// # Errors
    /// As [`read`](BlkFront::read).
    pub fn barrier(&mut self, id: u64, sector: u64, from: &[Segment]) -> Result<(), RingError> {
        self.plain(op::WRITE_BARRIER, id, sector, from)
    }

    /// Makes durable what was written and answered.
    ///
    /// # Errors
    /// As [`read`](BlkFront::read).
    pub fn flush(&mut self, id: u64) -> Result<(), RingError> {
        self.plain(op::FLUSH_DISKCACHE, id, 0, &[])
    }

    /// Gives `sectors` sectors up.
    ///
    /// # Errors
    /// As [`read`](BlkFront::read).
    pub fn discard(&mut self, id: u64, sector: u64, sectors: u64) -> Result<(), RingError> {
        let body = Body::Discard { flag: 0, sectors };
        self.put(&Request { operation: op::DISCARD, id, sector, body })
    }

    /// A read ([`op::READ`]) or write with its `count` segments in granted pages, which
    /// [`write_segments`] has filled.
    ///
    /// # Errors
    /// As [`read`](BlkFront::read).
    pub fn indirect(
        &mut self,
        operation: u8,
        id: u64,
        sector: u64,
        count: u16,
        lists: &[GrantRef],
    ) -> Result<(), RingError> {
        let mut pages = [GrantRef(0); INDIRECT_PAGES];
        pages.get_mut(..lists.len()).ok_or(RingError::Full)?.copy_from_slice(lists);
        let body = Body::Indirect { operation, count, pages };
        self.put(&Request { operation: op::INDIRECT, id, sector, body })
    }

    /// Shows the back end all requests. Whether its port must be notified.
    #[must_use]
    pub fn push(&mut self) -> bool {
        self.ring.push()
    }

    /// The next answer. `None`: there is none now, and the port will be notified of the next.
    ///
    /// # Errors
    /// [`RingError::Runaway`] where the back end answers what was not asked.
    pub fn answer(&mut self) -> Result<Option<Response>, RingError> {
        if self.ring.waiting()? == 0 && !self.ring.final_check()? {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        self.ring.take(&mut bytes[..self.layout.response()])?;
        Ok(Some(Response::decode(&bytes)))
    }
}

/// Writes the list of an indirect request into pages, 512 segments each. How many pages were used;
/// `None` where they do not suffice.
#[must_use]
pub fn write_segments(pages: &[SharedPage], segments: &[Segment]) -> Option<usize> {
    for (n, segment) in segments.iter().enumerate() {
        let page = pages.get(n / SEGMENTS_PER_PAGE)?;
        page.write_slice(n % SEGMENTS_PER_PAGE * Segment::BYTES, &segment.encode()).ok()?;
    }
    Some(segments.len().div_ceil(SEGMENTS_PER_PAGE))
}

/// What the front end writes below its directory before it goes to state 3 (Initialised): for each
/// queue the grants of its ring's pages (all of the same number, a power of two) and its port.
#[must_use]
pub fn nodes(
    layout: Layout,
    persistent: bool,
    queues: &[(&[GrantRef], Port)],
) -> Vec<(String, String)> {
    let mut nodes = Vec::from([
        (String::from("protocol"), String::from(layout.name())),
        (String::from("feature-persistent"), u8::from(persistent).to_string()),
    ]);
    let pages = queues.first().map_or(1, |queue| queue.0.len());
    if pages > 1 {
        nodes.push((String::from("ring-page-order"), pages.ilog2().to_string()));
    }
    if queues.len() > 1 {
        nodes.push((String::from("multi-queue-num-queues"), queues.len().to_string()));
    }
    for (n, (references, port)) in queues.iter().enumerate() {
        let prefix = if queues.len() > 1 { format!("queue-{n}/") } else { String::new() };
        for (page, reference) in references.iter().enumerate() {
            let number = if pages > 1 { page.to_string() } else { String::new() };
            nodes.push((format!("{prefix}ring-ref{number}"), reference.0.to_string()));
        }
        nodes.push((format!("{prefix}event-channel"), port.0.to_string()));
    }
    nodes
}
