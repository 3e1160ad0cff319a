//! The part of a grant table that lies in pages shared with its owner: entries, and status words
//! with version 2. Nothing in it is believed longer than one operation. Xen public "grant_table.h".

use crate::DomId;
use crate::abi::grant_table::{
    ENTRY_V1_SIZE, ENTRY_V2_SIZE, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE,
    GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING, GrantStatus, STATUS_SIZE,
};
use alloc::vec::Vec;
use arch::SharedPage;
use core::sync::atomic::{Ordering::SeqCst, fence};

/// The layout of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 8 bytes, frames of 32 bits, flags of both sides in one word.
    V1,
    /// 16 bytes, parts of pages, grants passed on; the hypervisor's flags in words of their own.
    V2,
}

/// A page.
const PAGE: usize = 4096;
/// Attempts to mark an entry: an owner that only changes what it may foils no more.
const MARK_TRIES: u32 = 5;

/// What an entry grants. The owner wrote it, and may have changed it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// Bytes of a page of the owner's: frame, first byte, one behind the last.
    Page(u64, u16, u16),
    /// What another domain granted to the owner.
    Onward(DomId, u32),
}

/// The shared pages of one table.
#[derive(Debug)]
pub(super) struct Shared {
    pub version: Version,
    pub frames: Vec<SharedPage>,
    /// Kept when the owner goes back to version 1.
    pub status: Vec<SharedPage>,
}

impl Shared {
    pub fn entry_size(&self) -> usize {
        match self.version {
            Version::V1 => ENTRY_V1_SIZE,
            Version::V2 => ENTRY_V2_SIZE,
        }
    }

    /// References are below this.
    pub fn entries(&self) -> u32 {
        (self.frames.len() * PAGE / self.entry_size()) as u32
    }

    /// Page and offset of an entry.
    pub fn place(&self, reference: u32) -> Option<(SharedPage, usize)> {
        let at = (reference as usize).checked_mul(self.entry_size())?;
        Some((*self.frames.get(at / PAGE)?, at % PAGE))
    }

    /// Page and offset of the word with the hypervisor's flags.
    pub fn status_place(&self, reference: u32) -> Option<(SharedPage, usize)> {
        match self.version {
            Version::V1 => self.place(reference),
            Version::V2 => {
                let at = reference as usize * STATUS_SIZE;
                Some((*self.status.get(at / PAGE)?, at % PAGE))
            }
        }
    }

    /// Flags and grantee of an entry, in one read.
    fn header(&self, reference: u32) -> Option<(u16, DomId)> {
        let (page, at) = self.place(reference)?;
        let word = page.read_u32(at)?;
        Some((word as u16, DomId((word >> 16) as u16)))
    }

    /// Whether an entry passes another domain's grant on.
    pub fn is_onward(&self, reference: u32) -> bool {
        self.version == Version::V2
            && self
                .header(reference)
                .is_some_and(|(flags, _)| flags & GTF_TYPE_MASK == GTF_TRANSITIVE)
    }

    /// Whether an entry grants a page.
    pub fn is_access(&self, reference: u32) -> bool {
        self.header(reference).is_some_and(|(flags, _)| flags & GTF_TYPE_MASK == GTF_PERMIT_ACCESS)
    }

    /// What an entry grants. Read after [`mark`](Shared::mark), before which it may change.
    pub fn granted(&self, reference: u32) -> Option<Granted> {
        let (page, at) = self.place(reference)?;
        let whole = |frame| Granted::Page(frame, 0, PAGE as u16);
        if self.version == Version::V1 {
            return Some(whole(page.read_u32(at + 4)?.into()));
        }
        let flags = page.read_u16(at)?;
        if flags & GTF_TYPE_MASK == GTF_TRANSITIVE {
            return Some(Granted::Onward(DomId(page.read_u16(at + 4)?), page.read_u32(at + 8)?));
        }
        let frame = page.read_u64(at + 8)?;
        if flags & GTF_SUB_PAGE == 0 {
            return Some(whole(frame));
        }
        let first = page.read_u16(at + 4)?.min(PAGE as u16);
        let length = page.read_u16(at + 6)?;
        Some(Granted::Page(frame, first, first.saturating_add(length).min(PAGE as u16)))
    }

    /// Marks an entry as in use, so that its owner does not take it back. An entry that `held` says
    /// is in use already is not asked again for whom it is. Whole pages only for a `mapping`.
    ///
    /// # Errors
    /// `GENERAL_ERROR`: not granted, not for `user`, not for writing, or changed too often
    /// meanwhile.
    pub fn mark(
        &self,
        reference: u32,
        user: DomId,
        write: bool,
        mapping: bool,
        held: bool,
    ) -> Result<(), GrantStatus> {
        let refused = GrantStatus::GENERAL_ERROR;
        let fits = |flags: u16, dom: DomId| {
            let mask = if mapping { GTF_TYPE_MASK | GTF_SUB_PAGE } else { GTF_TYPE_MASK };
            let onward = self.version == Version::V2 && !mapping;
            let kind = flags & mask == GTF_PERMIT_ACCESS
                || (onward && flags & GTF_TYPE_MASK == GTF_TRANSITIVE);
            (held || (kind && dom == user)) && !(write && flags & GTF_READONLY != 0)
        };
        let bits = if write { GTF_READING | GTF_WRITING } else { GTF_READING };
        let marked = match self.version {
            Version::V1 => self.mark_in_entry(reference, bits, fits),
            Version::V2 => self.mark_in_status(reference, bits, fits),
        };
        // What the entry grants is read only now.
        fence(SeqCst);
        if marked == Some(true) { Ok(()) } else { Err(refused) }
    }

    /// Version 1: flags and grantee change together, or not at all.
    fn mark_in_entry(
        &self,
        reference: u32,
        bits: u16,
        fits: impl Fn(u16, DomId) -> bool,
    ) -> Option<bool> {
        let (page, at) = self.place(reference)?;
        for _ in 0..MARK_TRIES {
            let word = page.read_u32(at)?;
            if !fits(word as u16, DomId((word >> 16) as u16)) {
                return Some(false);
            }
            let marked = word | u32::from(bits);
            if page.compare_exchange(at, 4, word.into(), marked.into()).ok()? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Version 2: mark, then look whether it still is so.
    fn mark_in_status(
        &self,
        reference: u32,
        bits: u16,
        fits: impl Fn(u16, DomId) -> bool,
    ) -> Option<bool> {
        let (flags, dom) = self.header(reference)?;
        if !fits(flags, dom) {
            return Some(false);
        }
        let (page, at) = self.status_place(reference)?;
        page.fetch_or(at, 2, bits.into()).ok()?;
        fence(SeqCst);
        let (flags, dom) = self.header(reference)?;
        Some(fits(flags, dom))
    }

    /// Takes marks away.
    pub fn unmark(&self, reference: u32, bits: u16) {
        if let Some((page, at)) = self.status_place(reference) {
            // The user's last accesses come before the owner may use the page for something else.
            fence(SeqCst);
            let _ = page.fetch_clear(at, 2, bits.into());
        }
    }
}

/// Fills a page with zeros.
pub(super) fn clear(page: &SharedPage) {
    for at in (0..PAGE).step_by(8) {
        let _ = page.write(at, 8, 0);
    }
}
