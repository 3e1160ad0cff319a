//! From a request to work for the disk: every check, and the pins of its pages.

use super::abi::{Body, Request, SECTOR, SEGMENTS, SEGMENTS_PER_PAGE, Segment, Status, op};
use super::connect::MAX_INDIRECT;
use super::disk::{DiskOp, Media, Piece};
use super::flight::Steps;
use super::keeper::{Held, Keeper, View};
use crate::seam::{GrantAccess, GrantRef, Grants};
use alloc::vec::Vec;

/// Sectors of a page.
const PAGE_SECTORS: u8 = 8;

/// Work for the disk, with its pages pinned.
#[derive(Debug)]
pub(super) struct Plan {
    pub steps: Steps,
    /// Nothing else may be in flight.
    pub alone: bool,
    pub sectors: u64,
    pub held: Vec<Held>,
    pub pieces: Vec<Piece>,
}

/// What plans are made with.
pub(super) struct Planner<'a, G> {
    pub media: Option<&'a Media>,
    pub discard: bool,
    pub keeper: &'a mut Keeper,
    pub grants: &'a mut G,
    /// For the segments of indirect requests; holds [`MAX_INDIRECT`].
    pub scratch: &'a mut Vec<Segment>,
    pub spare: &'a mut Spare,
}

/// Empty lists of short requests, so that these do not allocate.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<(Vec<Held>, Vec<Piece>)>);

impl Spare {
    /// Pairs that are kept.
    const PAIRS: usize = 32;

    fn take(&mut self) -> (Vec<Held>, Vec<Piece>) {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps the lists, if they are short.
    pub fn give(&mut self, mut held: Vec<Held>, mut pieces: Vec<Piece>) {
        let short = held.capacity().max(pieces.capacity()) <= SEGMENTS.next_power_of_two();
        debug_assert!(held.is_empty(), "all pages are given back");
        if self.0.len() < Spare::PAIRS && short && held.capacity() > 0 {
            held.clear();
            pieces.clear();
            self.0.push((held, pieces));
        }
    }
}

impl<G: Grants> Planner<'_, G> {
    /// Checks a request and pins its pages. `Ok(None)`: there is nothing to do.
    ///
    /// # Errors
    /// The status to answer with; nothing is pinned then.
    pub fn plan(&mut self, request: &Request) -> Result<Option<Plan>, Status> {
        match &request.body {
            Body::Plain { count, segments } => {
                let count = usize::from(*count);
                let Some(segments) = segments.get(..count) else { return Err(Status::Error) };
                self.plain(request, segments).map(Some)
            }
            Body::Indirect { operation, count, pages } => {
                let write = match *operation {
                    op::READ => false,
                    op::WRITE => true,
                    _ => return Err(Status::Error),
                };
                let mut segments = core::mem::take(self.scratch);
                segments.clear();
                let plan = self
                    .gather(usize::from(*count), pages, &mut segments)
                    .and_then(|()| self.transfer(request.sector, write, &segments));
                *self.scratch = segments;
                plan.map(Some)
            }
            Body::Discard { flag: _, sectors } => self.discard(request.sector, *sectors),
            Body::Other => Err(Status::Unsupported),
        }
    }

    fn plain(&mut self, request: &Request, segments: &[Segment]) -> Result<Plan, Status> {
        debug_assert!(segments.len() <= SEGMENTS);
        match request.operation {
            op::READ => self.transfer(request.sector, false, segments),
            op::WRITE => self.transfer(request.sector, true, segments),
            // A barrier and a flush may come with data, and without.
            operation => {
                let mut plan = if segments.is_empty() {
                    self.media.ok_or(Status::Error)?;
                    empty(DiskOp::Flush)
                } else {
                    let mut plan = self.transfer(request.sector, true, segments)?;
                    plan.steps = Steps::flushed_write();
                    plan
                };
                plan.alone = operation == op::WRITE_BARRIER;
                Ok(plan)
            }
        }
    }

    fn discard(&mut self, sector: u64, sectors: u64) -> Result<Option<Plan>, Status> {
        if !self.discard {
            return Err(Status::Unsupported);
        }
        let media = self.media.filter(|media| !media.read_only).ok_or(Status::Error)?;
        if !media.holds(sector, sectors) {
            return Err(Status::Error);
        }
        Ok((sectors > 0).then(|| Plan { sectors, ..empty(DiskOp::Discard) }))
    }

    /// Copies the segments of an indirect request out of their pages, once.
    fn gather(
        &mut self,
        count: usize,
        pages: &[GrantRef],
        segments: &mut Vec<Segment>,
    ) -> Result<(), Status> {
        if !(1..=MAX_INDIRECT).contains(&count) {
            return Err(Status::Error);
        }
        let mut left = count;
        for reference in pages {
            if left == 0 {
                return Ok(());
            }
            let (held, view) = self.hold(*reference, GrantAccess::Read)?;
            let now = left.min(SEGMENTS_PER_PAGE);
            left -= now;
            let granted = view.grants(0, (now * Segment::BYTES) as u16);
            for n in 0..now {
                let mut bytes = [0; Segment::BYTES];
                if granted && view.page.read(n * Segment::BYTES, &mut bytes).is_ok() {
                    segments.push(Segment::decode(bytes));
                }
            }
            self.keeper.release(self.grants, held);
            if !granted {
                return Err(Status::Error);
            }
        }
        if left == 0 { Ok(()) } else { Err(Status::Error) }
    }

    /// A read or write of `segments`, 1 or more.
    fn transfer(&mut self, sector: u64, write: bool, segments: &[Segment]) -> Result<Plan, Status> {
        let media = self.media.ok_or(Status::Error)?;
        if write && media.read_only {
            return Err(Status::Error);
        }
        let mut sectors = 0;
        for segment in segments {
            if segment.last < segment.first || segment.last >= PAGE_SECTORS {
                return Err(Status::Error);
            }
            let len = u64::from(segment.last - segment.first + 1);
            if !len.is_multiple_of(media.unit()) {
                return Err(Status::Error);
            }
            sectors += len;
        }
        if sectors == 0 || !media.holds(sector, sectors) {
            return Err(Status::Error);
        }
        let op = if write { DiskOp::Write } else { DiskOp::Read };
        let (held, pieces) = self.spare.take();
        let mut plan = Plan { sectors, held, pieces, ..empty(op) };
        plan.held.reserve_exact(segments.len());
        plan.pieces.reserve_exact(segments.len());
        // A disk that is written reads memory.
        let access = if write { GrantAccess::Read } else { GrantAccess::Write };
        for segment in segments {
            if let Err(status) = self.piece(&mut plan, segment, access) {
                for held in plan.held.drain(..) {
                    self.keeper.release(self.grants, held);
                }
                self.spare.give(plan.held, plan.pieces);
                return Err(status);
            }
        }
        Ok(plan)
    }

    fn piece(
        &mut self,
        plan: &mut Plan,
        segment: &Segment,
        access: GrantAccess,
    ) -> Result<(), Status> {
        let (held, view) = self.hold(segment.reference, access)?;
        plan.held.push(held);
        let offset = u16::from(segment.first) * SECTOR as u16;
        let end = (u16::from(segment.last) + 1) * SECTOR as u16;
        if !view.grants(offset, end) {
            return Err(Status::Error);
        }
        plan.pieces.push(Piece {
            page: view.page,
            owner: view.owner,
            frame: view.frame,
            offset,
            len: end - offset,
        });
        Ok(())
    }

    fn hold(&mut self, reference: GrantRef, access: GrantAccess) -> Result<(Held, View), Status> {
        self.keeper.hold(self.grants, reference, access).map_err(|_| Status::Error)
    }
}

fn empty(op: DiskOp) -> Plan {
    Plan { steps: Steps::one(op), alone: false, sectors: 0, held: Vec::new(), pieces: Vec::new() }
}
