//! The grant table of one domain: what it granted and others use, and what it mapped of others.

use super::Settings;
use super::shared::{Shared, Version, clear};
use super::slab::Slab;
use crate::abi::grant_table::{GTF_READING, GTF_WRITING, GrantStatus};
use crate::{DomId, Errno};
use alloc::vec::Vec;
use arch::{GuestPhys, SharedPage};

/// Entries of version 1 in a frame: no table has more.
pub(super) const ENTRIES_PER_FRAME: usize = 512;
/// Counters of frames in use.
const BUSY_COUNTERS: usize = 1024;

/// A grant in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub reference: u32,
    /// By whom; one user at a time.
    pub user: DomId,
    pub readers: u32,
    pub writers: u32,
    pub page: SharedPage,
    /// The frame in the owner's map; of grants passed on, in the first owner's.
    pub frame: u64,
    /// First byte, and one behind the last.
    pub bytes: (u16, u16),
    /// Not to be mapped.
    pub part: bool,
    /// The grant that is passed on.
    pub onward: Option<(DomId, u32)>,
}

/// A mapping of another domain's page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    pub owner: DomId,
    pub reference: u32,
    pub at: GuestPhys,
    pub write: bool,
    /// The owner died, and the page was taken away.
    pub revoked: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub shared: Shared,
    pub maps: Slab<Map>,
    pub max_frames: u32,
    pub version2: bool,
    pub privileged: bool,
    pub dying: bool,
    /// Where the search for mappings of a dying domain's pages goes on.
    pub sweep: (DomId, u32),
    active: Slab<Active>,
    /// For each reference the place in `active`, plus 1.
    index: Vec<u32>,
    /// How many grants in use have a frame, by the frame's low bits.
    busy: Vec<u32>,
}

impl Table {
    pub fn new(settings: &Settings) -> Result<Table, Errno> {
        let mut busy = Vec::new();
        busy.try_reserve_exact(BUSY_COUNTERS).map_err(|_| Errno::ENOMEM)?;
        busy.resize(BUSY_COUNTERS, 0);
        let entries = settings.max_frames.saturating_mul(ENTRIES_PER_FRAME as u32);
        Ok(Table {
            shared: Shared { version: Version::V1, frames: Vec::new(), status: Vec::new() },
            maps: Slab::new(settings.max_maps),
            max_frames: settings.max_frames,
            version2: settings.version2,
            privileged: settings.privileged,
            dying: false,
            sweep: (DomId(0), 0),
            active: Slab::new(entries),
            index: Vec::new(),
            busy,
        })
    }

    /// Makes the table at least `frames` large.
    ///
    /// # Errors
    /// `GENERAL_ERROR`: more than its limit, or no memory. What was added stays.
    pub fn grow(
        &mut self,
        frames: u32,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<(), GrantStatus> {
        if frames > self.max_frames {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        while self.shared.frames.len() < frames as usize {
            let more = self.shared.frames.len() + 1;
            let entries = more * ENTRIES_PER_FRAME;
            let missing = entries.saturating_sub(self.index.len());
            if self.index.try_reserve(missing).is_err() {
                return Err(GrantStatus::GENERAL_ERROR);
            }
            if self.shared.version == Version::V2 {
                self.grow_status(more, allocate)?;
            }
            push_page(&mut self.shared.frames, allocate)?;
            self.index.resize(entries, 0);
        }
        Ok(())
    }

    /// Makes status words for a table of `frames`: eight frames' entries have theirs in one page.
    pub fn grow_status(
        &mut self,
        frames: usize,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<(), GrantStatus> {
        while self.shared.status.len() < frames.div_ceil(8) {
            push_page(&mut self.shared.status, allocate)?;
        }
        Ok(())
    }

    #[inline]
    pub fn active(&self, reference: u32) -> Option<&Active> {
        let place = self.index.get(reference as usize)?.checked_sub(1)?;
        self.active.get(place)
    }

    pub fn active_mut(&mut self, reference: u32) -> Option<&mut Active> {
        let place = self.index.get(reference as usize)?.checked_sub(1)?;
        self.active.get_mut(place)
    }

    /// Notes a grant as in use. `None` where no memory is left.
    #[inline(always)]
    pub fn activate(&mut self, active: Active) -> Option<()> {
        let slot = self.index.get_mut(active.reference as usize)?;
        *slot = self.active.insert(active)? + 1;
        if active.onward.is_none()
            && let Some(counter) = self.busy.get_mut(active.frame as usize % BUSY_COUNTERS)
        {
            *counter += 1;
        }
        Some(())
    }

    /// One user fewer. Where it was the last, what to release of the grant that was passed on.
    #[inline]
    pub fn release(&mut self, reference: u32, write: bool) -> Option<(DomId, u32)> {
        let active = self.active_mut(reference)?;
        let count = if write { &mut active.writers } else { &mut active.readers };
        *count = count.saturating_sub(1);
        let Active { onward, readers, writers, .. } = *active;
        self.settle_as(reference, readers, writers);
        onward
    }

    /// Lets a grant's marks say what is true: after an attempt that failed, and behind a use that was not counted.
    #[inline(never)]
    pub fn settle(&mut self, reference: u32) {
        let (readers, writers) =
            self.active(reference).map_or((0, 0), |active| (active.readers, active.writers));
        self.settle_as(reference, readers, writers);
    }

    /// Lets a grant's marks say that it has so many users; without any it is not in use any more.
    #[inline]
    fn settle_as(&mut self, reference: u32, readers: u32, writers: u32) {
        if writers > 0 {
            return;
        }
        let bits = if readers == 0 { GTF_READING | GTF_WRITING } else { GTF_WRITING };
        self.shared.unmark(reference, bits);
        if readers > 0 {
            return;
        }
        let Some(slot) = self.index.get_mut(reference as usize) else { return };
        let Some(place) = core::mem::take(slot).checked_sub(1) else { return };
        let Some(active) = self.active.remove(place) else { return };
        if active.onward.is_none()
            && let Some(counter) = self.busy.get_mut(active.frame as usize % BUSY_COUNTERS)
        {
            *counter = counter.saturating_sub(1);
        }
    }

    /// Grants in use.
    pub fn in_use(&self) -> u32 {
        self.active.used()
    }

    /// All grants in use.
    pub fn actives(&self) -> impl Iterator<Item = &Active> {
        self.active.iter()
    }

    /// Whether a frame of the domain's is in use by others.
    pub fn holds_frame(&self, frame: u64) -> bool {
        self.busy.get(frame as usize % BUSY_COUNTERS).is_some_and(|&count| count > 0)
            && self.actives().any(|active| active.onward.is_none() && active.frame == frame)
    }
}

fn push_page(
    pages: &mut Vec<SharedPage>,
    allocate: &mut dyn FnMut() -> Option<SharedPage>,
) -> Result<(), GrantStatus> {
    pages.try_reserve(1).map_err(|_| GrantStatus::GENERAL_ERROR)?;
    let page = allocate().ok_or(GrantStatus::GENERAL_ERROR)?;
    clear(&page);
    pages.push(page);
    Ok(())
}
