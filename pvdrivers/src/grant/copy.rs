//! `GNTTABOP_copy`: bytes from one page to another, each the caller's own or granted to it.

use super::acquire::Use;
use super::{Frames, GrantTables};
use crate::DomId;
use crate::abi::grant_table::{COPY_DEST_GREF, COPY_SOURCE_GREF, Copy, CopyPtr, GrantStatus};
use arch::SharedPage;
use core::sync::atomic::AtomicU64;

/// One side of a copy.
struct Side {
    page: SharedPage,
    /// First byte that may be touched, and one behind the last.
    bytes: (u16, u16),
    hold: Hold,
}

/// What keeps a side where it is.
#[derive(Clone, Copy)]
enum Hold {
    /// It is the caller's own.
    Own,
    /// Marked in its owner's table.
    Marked(DomId, u32),
    /// Counted there, too; for writing.
    Counted(DomId, u32, bool),
}

impl GrantTables {
    /// Copies once. A list of copies is the caller's to go through, with a bound on how many at a
    /// time.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`: a frame of another domain. `BAD_DOMAIN`, `BAD_GNTREF`, `BAD_PAGE`.
    /// `BAD_COPY_ARG`: bytes beyond a page. `GENERAL_ERROR`: not granted for this, or bytes outside
    /// the part that is.
    #[inline(always)]
    pub fn copy(
        &mut self,
        caller: DomId,
        argument: &Copy,
        frames: &impl Frames,
    ) -> Result<(), GrantStatus> {
        if argument.len == 0 {
            return Ok(());
        }
        let source_is_grant = argument.flags & COPY_SOURCE_GREF != 0;
        let dest_is_grant = argument.flags & COPY_DEST_GREF != 0;
        let source_dom = self.side_domain(caller, &argument.source, source_is_grant)?;
        let dest_dom = self.side_domain(caller, &argument.dest, dest_is_grant)?;
        let grant = |is_grant: bool, write| is_grant.then_some(write);
        let source = self.claim(
            caller,
            source_dom,
            &argument.source,
            grant(source_is_grant, false),
            frames,
        )?;
        let dest = self.claim(caller, dest_dom, &argument.dest, grant(dest_is_grant, true), frames);
        let done = match &dest {
            Ok(dest) => move_bytes(argument, &source, dest, frames),
            Err(status) => Err(*status),
        };
        for side in dest.iter().chain([&source]) {
            match side.hold {
                Hold::Own => {}
                Hold::Marked(owner, reference) => {
                    if let Ok(table) = self.table(owner) {
                        table.settle(reference);
                    }
                }
                Hold::Counted(owner, reference, write) => self.release(owner, reference, write),
            }
        }
        done
    }

    /// Whose page a side is. Frames by number are the caller's own only.
    fn side_domain(
        &self,
        caller: DomId,
        pointer: &CopyPtr,
        is_grant: bool,
    ) -> Result<DomId, GrantStatus> {
        let dom = DomId(pointer.domid);
        if dom == DomId::SELF {
            return Ok(caller);
        }
        if !is_grant {
            return Err(GrantStatus::PERMISSION_DENIED);
        }
        let is_there = self.tables.get_near(dom.place(), &dom).is_some();
        if is_there { Ok(dom) } else { Err(GrantStatus::BAD_DOMAIN) }
    }

    /// Takes hold of a side; `grant` says that it is one, and whether it will be written.
    fn claim(
        &mut self,
        caller: DomId,
        owner: DomId,
        pointer: &CopyPtr,
        grant: Option<bool>,
        frames: &impl Frames,
    ) -> Result<Side, GrantStatus> {
        let Some(write) = grant else {
            let page = frames.page(owner, pointer.frame.0).ok_or(GrantStatus::BAD_PAGE)?;
            return Ok(Side { page, bytes: (0, 4096), hold: Hold::Own });
        };
        let reference = pointer.frame.0 as u32;
        let wanted = Use { owner, reference, user: caller, write, mapping: false, onward: true };
        let (held, hold) = match self.touch(&wanted, frames)? {
            Some(held) => (held, Hold::Marked(owner, reference)),
            None => (self.acquire_more(&wanted, frames)?, Hold::Counted(owner, reference, write)),
        };
        Ok(Side { page: held.page, bytes: held.bytes, hold })
    }
}

/// Checks the bounds and copies.
fn move_bytes(
    argument: &Copy,
    source: &Side,
    dest: &Side,
    frames: &impl Frames,
) -> Result<(), GrantStatus> {
    let sides = [(argument.source.offset, source.bytes), (argument.dest.offset, dest.bytes)];
    let ends = sides.map(|(offset, _)| usize::from(offset) + usize::from(argument.len));
    if ends.iter().any(|end| *end > 4096) {
        return Err(GrantStatus::BAD_COPY_ARG);
    }
    for ((offset, (first, end)), last) in sides.into_iter().zip(ends) {
        if offset < first || last > usize::from(end) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
    }
    let (to, from) = (argument.dest.offset.into(), argument.source.offset.into());
    let copy = |to: &[AtomicU64], from: &[AtomicU64]| frames.copy(to, from);
    let copied = dest.page.copy_from(to, &source.page, from, argument.len.into(), copy);
    copied.map_err(|_| GrantStatus::BAD_PAGE)
}
