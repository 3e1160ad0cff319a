//! A ring in shared pages, and the pins that keep them.

use super::{MAX_PAGES, RingError, RingMemory};
use crate::errno::Errno;
use crate::seam::{DomId, GrantAccess, GrantRef, Grants, Pinned};
use alloc::vec::Vec;
use arch::SharedPage;

const PAGE: usize = 4096;

/// Pages that follow one another in a ring, wherever they lie in memory. A slot may straddle two.
#[derive(Clone, Debug)]
pub struct Pages(Vec<SharedPage>);

impl Pages {
    /// A ring in `pages`.
    ///
    /// # Errors
    /// [`RingError::Shape`] for no page, and for more than [`MAX_PAGES`].
    pub fn new(pages: Vec<SharedPage>) -> Result<Pages, RingError> {
        if (1..=MAX_PAGES).contains(&pages.len()) {
            Ok(Pages(pages))
        } else {
            Err(RingError::Shape)
        }
    }

    fn page(&self, at: usize) -> Option<&SharedPage> {
        self.0.get(at / PAGE)
    }
}

impl RingMemory for Pages {
    fn bytes(&self) -> usize {
        self.0.len() * PAGE
    }

    fn read_index(&self, at: usize) -> u32 {
        self.page(at).and_then(|page| page.read_u32(at % PAGE)).unwrap_or(0)
    }

    fn write_index(&self, at: usize, value: u32) {
        if let Some(page) = self.page(at) {
            let inside = page.write(at % PAGE, 4, value.into());
            debug_assert!(inside.is_ok());
        }
    }

    fn read(&self, at: usize, buffer: &mut [u8]) {
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut((PAGE - at % PAGE).min(rest.len()));
            let inside = self.page(at).map(|page| page.read(at % PAGE, now));
            debug_assert!(inside == Some(Ok(())));
            at += now.len();
            rest = later;
        }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((PAGE - at % PAGE).min(rest.len()));
            let inside = self.page(at).map(|page| page.write_slice(at % PAGE, now));
            debug_assert!(inside == Some(Ok(())));
            at += now.len();
            rest = later;
        }
    }
}

/// Whole granted pages, pinned for writing, in the order of a ring. Give them back with
/// [`release`](PinnedPages::release): dropping them leaks the pins.
#[must_use]
#[derive(Debug, Default)]
pub struct PinnedPages(Vec<Pinned>);

impl PinnedPages {
    /// Pins all of `references`, or none.
    ///
    /// # Errors
    /// As [`Grants::pin`]; `EINVAL` for none, for more than [`MAX_PAGES`], and for a grant of a
    /// part of a page.
    pub fn pin(
        grants: &mut impl Grants,
        owner: DomId,
        user: DomId,
        references: &[GrantRef],
    ) -> Result<PinnedPages, Errno> {
        if !(1..=MAX_PAGES).contains(&references.len()) {
            return Err(Errno::EINVAL);
        }
        let mut pages = PinnedPages(Vec::with_capacity(references.len()));
        for reference in references {
            match grants.pin(owner, *reference, user, GrantAccess::Write) {
                Ok(pinned) => {
                    let whole = pinned.bytes == (0, PAGE as u16);
                    pages.0.push(pinned);
                    if !whole {
                        pages.release(grants);
                        return Err(Errno::EINVAL);
                    }
                }
                Err(error) => {
                    pages.release(grants);
                    return Err(error);
                }
            }
        }
        Ok(pages)
    }

    /// The memory, for a ring. Do not use it after [`release`](PinnedPages::release).
    ///
    /// # Errors
    /// [`RingError::Shape`] where no page is pinned.
    pub fn pages(&self) -> Result<Pages, RingError> {
        Pages::new(self.0.iter().map(|pinned| pinned.page).collect())
    }

    /// The first page, for devices with one page that is no ring. `None` where none is pinned.
    #[must_use]
    pub fn first(&self) -> Option<SharedPage> {
        self.0.first().map(|pinned| pinned.page)
    }

    /// How many pages are pinned.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Gives all pages back.
    pub fn release(&mut self, grants: &mut impl Grants) {
        for pinned in self.0.drain(..) {
            grants.unpin(pinned);
        }
    }
}
