//! Grant tables of all domains: pages that one domain lets another use, and who uses them.
//!
//! One structure without locks. Its owner's side of a table is in shared pages (`shared`) and is
//! checked, marked and read once for each use (`acquire`); what is trusted is in `table`.
//! Operations of guests are in `map`, `copy`, `setup`; the hypervisor's back ends come by `local`.
//! Errors are those of Xen 4.17.

mod acquire;
mod copy;
mod local;
mod map;
mod removal;
mod setup;
mod shared;
mod slab;
mod table;

#[cfg(test)]
mod tests;

pub use local::LocalGrants;
pub use map::{Mapped, Unmapping};
pub use removal::Removal;
use shared::Granted;
pub use shared::Version;

use crate::abi::grant_table::GrantStatus;
use crate::sorted::SortedMap;
use crate::{DomId, Errno};
use arch::SharedPage;
use core::sync::atomic::AtomicU64;
use table::Table;

/// The guests' memory.
pub trait Frames {
    /// The page of RAM that `dom` has at a frame of its own. `None` for anything else: devices,
    /// holes, and pages of others that it has mapped.
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage>;

    /// Copies words from page to page, as many as both have.
    #[inline]
    fn copy(&self, to: &[AtomicU64], from: &[AtomicU64]) {
        arch::ram::copy_words(to, from);
    }
}

/// A guest that is to be added.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Frames that its table may have (`max_grant_frames` in xl.cfg(5), there 64 if unset).
    pub max_frames: u32,
    /// Mappings of others' pages that it may have (Xen: 512 for each of `max_maptrack_frames`).
    pub max_maps: u32,
    /// Whether it may use version 2.
    pub version2: bool,
    /// Whether it may look at other domains' tables.
    pub privileged: bool,
}

/// What a domain uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Frames of its table.
    pub frames: u32,
    /// Frames that it may have.
    pub max_frames: u32,
    /// Status frames.
    pub status_frames: u32,
    /// Mappings of others' pages.
    pub maps: u32,
    /// Mappings that it may have.
    pub max_maps: u32,
    /// Its grants that others use now.
    pub in_use: u32,
}

impl Usage {
    /// Whether a person should be told: 80 percent of a limit.
    #[must_use]
    pub const fn is_high(&self) -> bool {
        self.frames as u64 * 5 >= self.max_frames as u64 * 4
            || self.maps as u64 * 5 >= self.max_maps as u64 * 4
    }
}

/// The grant tables of all domains.
#[derive(Debug, Default)]
pub struct GrantTables {
    tables: SortedMap<DomId, Table>,
}

impl GrantTables {
    /// No guest. The hypervisor's back ends, domain 0, use grants and give none.
    #[must_use]
    pub fn new() -> GrantTables {
        GrantTables::default()
    }

    /// Adds a guest with a table of version 1 and no frame. Give it the first one by
    /// [`grow`](GrantTables::grow), since Xen's tables begin with one.
    ///
    /// # Errors
    /// `EEXIST`; `EINVAL` for domain 0, a reserved number or limits of 0; `ENOMEM`.
    pub fn add_domain(&mut self, dom: DomId, settings: &Settings) -> Result<(), Errno> {
        let reserved = dom == DomId::BACKEND || dom.0 >= DomId::FIRST_RESERVED;
        if reserved || settings.max_frames == 0 || settings.max_maps == 0 {
            return Err(Errno::EINVAL);
        }
        if self.tables.contains_key(&dom) {
            return Err(Errno::EEXIST);
        }
        self.tables.insert(dom, Table::new(settings)?);
        Ok(())
    }

    /// Makes a domain's table at least `frames` large, with pages from `allocate`, which are
    /// cleared here and stay with the table until [`remove_domain`](GrantTables::remove_domain) is
    /// done.
    ///
    /// # Errors
    /// `BAD_DOMAIN`; `GENERAL_ERROR` for more than its limit, or no page.
    pub fn grow(
        &mut self,
        dom: DomId,
        frames: u32,
        allocate: &mut dyn FnMut() -> Option<SharedPage>,
    ) -> Result<(), GrantStatus> {
        self.table(dom)?.grow(frames, allocate)
    }

    /// A frame of a domain's table.
    #[must_use]
    pub fn frame(&self, dom: DomId, index: u32) -> Option<SharedPage> {
        self.tables.get(&dom)?.shared.frames.get(index as usize).copied()
    }

    /// A status frame of a domain's table of version 2.
    #[must_use]
    pub fn status_frame(&self, dom: DomId, index: u32) -> Option<SharedPage> {
        let shared = &self.tables.get(&dom)?.shared;
        let status = (shared.version == Version::V2).then_some(&shared.status)?;
        status.get(index as usize).copied()
    }

    /// All pages that a domain's table holds, status frames among them, so that they can be freed
    /// after it.
    pub fn table_pages(&self, dom: DomId) -> impl Iterator<Item = SharedPage> {
        let shared = self.tables.get(&dom).map(|table| &table.shared);
        shared.into_iter().flat_map(|shared| shared.frames.iter().chain(&shared.status)).copied()
    }

    /// Whether others use this frame of a domain's now. It must not go to anyone else then.
    #[must_use]
    pub fn holds_frame(&self, dom: DomId, frame: u64) -> bool {
        self.tables.get(&dom).is_some_and(|table| table.holds_frame(frame))
    }

    /// What a domain uses.
    #[must_use]
    pub fn usage(&self, dom: DomId) -> Option<Usage> {
        let table = self.tables.get(&dom)?;
        Some(Usage {
            frames: table.shared.frames.len() as u32,
            max_frames: table.max_frames,
            status_frames: table.shared.status.len() as u32,
            maps: table.maps.used(),
            max_maps: table.maps.limit(),
            in_use: table.in_use(),
        })
    }

    /// The page that a domain grants to whomever, for who only looks at it: the grant is not marked as used.
    #[must_use]
    pub fn look(&self, dom: DomId, reference: u32, frames: &impl Frames) -> Option<SharedPage> {
        let shared = &self.tables.get(&dom)?.shared;
        match shared.granted(reference).filter(|_| shared.is_access(reference))? {
            Granted::Page(frame, ..) => frames.page(dom, frame),
            Granted::Onward(..) => None,
        }
    }

    /// All guests.
    pub fn domains(&self) -> impl Iterator<Item = DomId> {
        self.tables.keys().copied()
    }

    #[inline(always)]
    fn table(&mut self, dom: DomId) -> Result<&mut Table, GrantStatus> {
        self.tables.get_mut_near(dom.place(), &dom).ok_or(GrantStatus::BAD_DOMAIN)
    }

    /// The domain that an argument names, if `caller` may look at its table.
    fn target(&self, caller: DomId, dom: DomId) -> Result<DomId, GrantStatus> {
        let dom = if dom == DomId::SELF { caller } else { dom };
        if !self.tables.contains_key(&dom) {
            return Err(GrantStatus::BAD_DOMAIN);
        }
        let privileged = caller == DomId::BACKEND
            || self.tables.get(&caller).is_some_and(|table| table.privileged);
        if dom == caller || privileged { Ok(dom) } else { Err(GrantStatus::PERMISSION_DENIED) }
    }
}
