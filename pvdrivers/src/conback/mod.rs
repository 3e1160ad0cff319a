//! The back end of a console: two byte rings in one page. Xen public "io/console.h".
//!
//! The primary console's page is agreed by HVM parameter; further consoles grant theirs. A front
//! end whose indices make no sense loses bytes, and nothing else happens.

pub mod abi;

use crate::errno::Errno;
use crate::ring::PinnedPages;
use crate::seam::{DomId, GrantRef, Grants, Port};
use abi::{CONNECTION, IN_BYTES, IN_CONS, IN_PROD, OUT, OUT_BYTES, OUT_CONS, OUT_PROD};
use alloc::string::String;
use arch::SharedPage;
use core::sync::atomic::{Ordering, fence};

/// What the front end of a further console wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// Its page.
    pub reference: GrantRef,
    /// Its port.
    pub port: Port,
}

impl FrontEnd {
    /// Reads the front end's directory: `read` gives the value of a path below it.
    ///
    /// # Errors
    /// `ENOENT` where a node is missing, `EINVAL` where one is no number.
    pub fn read(read: &mut impl FnMut(&str) -> Option<String>) -> Result<FrontEnd, Errno> {
        let mut number = |path| {
            let text: String = read(path).ok_or(Errno::ENOENT)?;
            crate::blkback::number(&text).ok_or(Errno::EINVAL)
        };
        let reference = GrantRef(number("ring-ref")?);
        let port = Port(number("port")?);
        if port.0 == 0 { Err(Errno::EINVAL) } else { Ok(FrontEnd { reference, port }) }
    }
}

/// What [`ConBack::output`] and [`ConBack::input`] did.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: usize,
    /// The front end's port must be notified.
    pub notify: bool,
    /// Output: there is more. Input: there was no room for all.
    pub more: bool,
}

/// A console with a front end.
#[derive(Debug)]
pub struct ConBack {
    page: SharedPage,
    pinned: PinnedPages,
    out_cons: u32,
    in_prod: u32,
    runaways: u64,
}

impl ConBack {
    /// The primary console, in a page that the guest's builder chose.
    #[must_use]
    pub fn primary(page: SharedPage) -> ConBack {
        ConBack::attach(page, PinnedPages::default())
    }

    /// A further console, in a page that its front end granted.
    ///
    /// # Errors
    /// Why the page cannot be used.
    pub fn connect(
        grants: &mut impl Grants,
        owner: DomId,
        user: DomId,
        reference: GrantRef,
    ) -> Result<ConBack, Errno> {
        let pinned = PinnedPages::pin(grants, owner, user, &[reference])?;
        let page = pinned.first().ok_or(Errno::EINVAL)?;
        Ok(ConBack::attach(page, pinned))
    }

    fn attach(page: SharedPage, pinned: PinnedPages) -> ConBack {
        let mut console = ConBack { page, pinned, out_cons: 0, in_prod: 0, runaways: 0 };
        // Bytes that were written before somebody listened are kept.
        console.out_cons = console.index(OUT_CONS);
        console.in_prod = console.index(IN_PROD);
        console.set(CONNECTION, 1, 0);
        console
    }

    /// Lets go of the front end and gives its page back.
    pub fn disconnect(mut self, grants: &mut impl Grants) {
        self.set(CONNECTION, 1, 1);
        self.pinned.release(grants);
    }

    /// How often an index made no sense.
    #[must_use]
    pub fn runaways(&self) -> u64 {
        self.runaways
    }

    fn index(&self, at: usize) -> u32 {
        self.page.read_u32(at).unwrap_or(0)
    }

    fn set(&self, at: usize, width: u8, value: u32) {
        let inside = self.page.write(at, width, value.into());
        debug_assert!(inside.is_ok());
    }

    /// Moves up to `budget` bytes that the front end wrote to `sink`, in one or two runs.
    pub fn output(&mut self, budget: usize, sink: &mut impl FnMut(&[u8])) -> Moved {
        let prod = self.index(OUT_PROD);
        fence(Ordering::Acquire);
        if prod.wrapping_sub(self.out_cons) > OUT_BYTES {
            // Begun anew, or nonsense: believe the page where it agrees with itself, else drop all.
            self.runaways += 1;
            let cons = self.index(OUT_CONS);
            self.out_cons = if prod.wrapping_sub(cons) > OUT_BYTES { prod } else { cons };
        }
        let there = prod.wrapping_sub(self.out_cons) as usize;
        let bytes = there.min(budget);
        let mut left = bytes;
        let mut buffer = [0; 256];
        while left > 0 {
            let at = (self.out_cons % OUT_BYTES) as usize;
            let now = left.min(OUT_BYTES as usize - at).min(buffer.len());
            let inside = self.page.read(OUT + at, &mut buffer[..now]);
            debug_assert!(inside.is_ok());
            sink(&buffer[..now]);
            self.out_cons = self.out_cons.wrapping_add(now as u32);
            left -= now;
        }
        if bytes > 0 || self.index(OUT_CONS) != self.out_cons {
            // The bytes are copied before their room is given back.
            fence(Ordering::SeqCst);
            self.set(OUT_CONS, 4, self.out_cons);
        }
        Moved { bytes, notify: bytes > 0, more: there > bytes }
    }

    /// Moves as many of `bytes` to the front end as there is room for.
    pub fn input(&mut self, bytes: &[u8]) -> Moved {
        let cons = self.index(IN_CONS);
        fence(Ordering::SeqCst);
        if self.in_prod.wrapping_sub(cons) > IN_BYTES {
            self.runaways += 1;
            self.in_prod = cons;
        }
        let room = (IN_BYTES - self.in_prod.wrapping_sub(cons)) as usize;
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        let mut rest = now;
        while !rest.is_empty() {
            let at = (self.in_prod % IN_BYTES) as usize;
            let (run, more) = rest.split_at(rest.len().min(IN_BYTES as usize - at));
            let inside = self.page.write_slice(at, run);
            debug_assert!(inside.is_ok());
            self.in_prod = self.in_prod.wrapping_add(run.len() as u32);
            rest = more;
        }
        if !now.is_empty() {
            fence(Ordering::Release);
            self.set(IN_PROD, 4, self.in_prod);
        }
        Moved { bytes: now.len(), notify: !now.is_empty(), more: !later.is_empty() }
    }
}

#[cfg(test)]
mod tests;
