//! The part of a grant table that lies in pages shared with its owner: entries, and status words
//! with version 2. Nothing in it is believed longer than one operation. Xen public "grant_table.h".

use crate::DomId;
use crate::abi::grant_table::{
    ENTRY_V1_SIZE, ENTRY_V2_SIZE, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE,
    GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING, GrantStatus, STATUS_SIZE,
};
use alloc::vec::Vec;
use arch::SharedPage;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU64, fence};

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

/// What an entry's flags and grantee must be for a use of it: one comparison.
#[derive(Clone, Copy)]
struct Terms {
    mask: u32,
    value: u32,
}

impl Terms {
    /// For a page; see [`Shared::mark`].
    #[inline(always)]
    fn new(user: DomId, write: bool, mapping: bool, held: bool) -> Terms {
        let readonly = if write { GTF_READONLY } else { 0 };
        if held {
            return Terms { mask: readonly.into(), value: 0 };
        }
        let kind = if mapping { GTF_TYPE_MASK | GTF_SUB_PAGE } else { GTF_TYPE_MASK };
        Terms {
            mask: u32::from(u16::MAX) << 16 | u32::from(kind | readonly),
            value: u32::from(user.0) << 16 | u32::from(GTF_PERMIT_ACCESS),
        }
    }

    /// The same for a grant that is passed on.
    fn onward(self) -> Terms {
        let value = self.value ^ u32::from(GTF_PERMIT_ACCESS ^ GTF_TRANSITIVE);
        if self.mask & u32::from(GTF_TYPE_MASK) == 0 { self } else { Terms { value, ..self } }
    }

    #[inline(always)]
    fn fit(self, header: u32) -> bool {
        header & self.mask == self.value
    }
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

    /// An entry of version 1: one word.
    #[inline]
    fn entry_v1(&self, reference: u32) -> Option<&'static AtomicU64> {
        let at = reference as usize * ENTRY_V1_SIZE;
        self.frames.get(at / PAGE)?.words(at % PAGE, ENTRY_V1_SIZE)?.first()
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

    /// Flags and, from bit 16 on, the grantee of an entry, in one read.
    fn header(&self, reference: u32) -> Option<u32> {
        let (page, at) = self.place(reference)?;
        page.read_u32(at)
    }

    /// The kind of an entry.
    fn kind(&self, reference: u32) -> Option<u16> {
        Some(self.header(reference)? as u16 & GTF_TYPE_MASK)
    }

    /// Whether an entry passes another domain's grant on.
    pub fn is_onward(&self, reference: u32) -> bool {
        self.version == Version::V2 && self.kind(reference) == Some(GTF_TRANSITIVE)
    }

    /// Whether an entry grants a page.
    pub fn is_access(&self, reference: u32) -> bool {
        self.kind(reference) == Some(GTF_PERMIT_ACCESS)
    }

    /// What an entry grants. Until it is marked it may change.
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

    /// Marks an entry as in use, so that its owner does not take it back, and says what it granted then. An entry that
    /// `held` says is in use already is not asked again for whom it is. Whole pages only for a `mapping`.
    ///
    /// # Errors
    /// `GENERAL_ERROR`: not granted, not for `user`, not for writing, or changed too often
    /// meanwhile.
    #[inline(always)]
    pub fn mark(
        &self,
        reference: u32,
        user: DomId,
        write: bool,
        mapping: bool,
        held: bool,
    ) -> Result<Granted, GrantStatus> {
        let terms = Terms::new(user, write, mapping, held);
        let bits = if write { GTF_READING | GTF_WRITING } else { GTF_READING };
        let granted = match self.version {
            Version::V1 => self.mark_in_entry(reference, bits, terms),
            Version::V2 => self.mark_in_status(reference, bits, terms, mapping),
        };
        granted.ok_or(GrantStatus::GENERAL_ERROR)
    }

    /// Version 1: an entry is one word. Flags, grantee and frame change together, or not at all.
    #[inline(always)]
    fn mark_in_entry(&self, reference: u32, bits: u16, terms: Terms) -> Option<Granted> {
        let entry = self.entry_v1(reference)?;
        for _ in 0..MARK_TRIES {
            let word = entry.load(Relaxed);
            if !terms.fit(word as u32) {
                return None;
            }
            let marked = word | u64::from(bits);
            if entry.compare_exchange(word, marked, SeqCst, Relaxed).is_ok() {
                return Some(Granted::Page(word >> 32, 0, PAGE as u16));
            }
        }
        None
    }

    /// Version 2: mark, then look whether it still is so. Not for a `mapping`, a grant that is passed on will do.
    #[inline(never)]
    fn mark_in_status(
        &self,
        reference: u32,
        bits: u16,
        terms: Terms,
        mapping: bool,
    ) -> Option<Granted> {
        let fits = |header| terms.fit(header) || (!mapping && terms.onward().fit(header));
        if !fits(self.header(reference)?) {
            return None;
        }
        let (page, at) = self.status_place(reference)?;
        page.fetch_or(at, 2, bits.into()).ok()?;
        fence(SeqCst);
        let header = self.header(reference)?;
        // What the entry grants is read only now.
        fence(SeqCst);
        fits(header).then(|| self.granted(reference))?
    }

    /// Takes marks away.
    #[inline]
    pub fn unmark(&self, reference: u32, bits: u16) {
        // The user's last accesses come before the owner may use the page for something else.
        fence(SeqCst);
        match self.version {
            Version::V1 => {
                if let Some(entry) = self.entry_v1(reference) {
                    entry.fetch_and(!u64::from(bits), SeqCst);
                }
            }
            Version::V2 => self.unmark_status(reference, bits),
        }
    }

    #[inline(never)]
    fn unmark_status(&self, reference: u32, bits: u16) {
        if let Some((page, at)) = self.status_place(reference) {
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
