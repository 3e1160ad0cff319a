//! Who may read and write a node: its owner, those who are named, and all others. Xen wiki "XenBus",
//! "Permissions"; docs "xenstore.txt", GET_PERMS and SET_TARGET.

use super::StoreError;
use crate::seam::DomId;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt::Write;

bitflags! {
    /// What a domain may do with a node.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Read value, children and permissions.
        const READ = 1;
        /// Write, create below, remove.
        const WRITE = 2;
    }
}

impl Access {
    const fn letter(self) -> char {
        match (self.contains(Access::READ), self.contains(Access::WRITE)) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        }
    }
}

/// One entry: `r13`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm {
    /// Whose.
    pub domid: DomId,
    /// What.
    pub access: Access,
}

impl Perm {
    /// `n`: nothing (as the first entry: owned, and nothing for others).
    #[must_use]
    pub const fn none(domid: DomId) -> Perm {
        Perm { domid, access: Access::empty() }
    }

    /// `r`: reading.
    #[must_use]
    pub const fn read(domid: DomId) -> Perm {
        Perm { domid, access: Access::READ }
    }

    /// `b`: both.
    #[must_use]
    pub const fn both(domid: DomId) -> Perm {
        Perm { domid, access: Access::all() }
    }

    /// Reads `r13`.
    ///
    /// # Errors
    /// [`StoreError::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Perm, StoreError> {
        let (&letter, digits) = text.split_first().ok_or(StoreError::Malformed)?;
        let access = match letter {
            b'n' => Access::empty(),
            b'r' => Access::READ,
            b'w' => Access::WRITE,
            b'b' => Access::all(),
            _ => return Err(StoreError::Malformed),
        };
        let domid = super::number(digits).and_then(|number| u16::try_from(number).ok());
        Ok(Perm { domid: DomId(domid.ok_or(StoreError::Malformed)?), access })
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub domid: DomId,
    /// The domain in whose place it acts too (SET_TARGET).
    pub target: Option<DomId>,
}

impl Who {
    /// Domain 0 may do all.
    pub fn is_privileged(&self) -> bool {
        self.domid == DomId::BACKEND
    }

    /// Whether it is `domid`, or acts for it.
    pub fn acts_for(&self, domid: DomId) -> bool {
        self.domid == domid || self.target == Some(domid)
    }
}

/// A node's permissions. The first entry names the owner, and what all may who are not named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perms(Arc<[Perm]>);

impl Perms {
    /// Owner and others (`first`), and the named ones.
    #[must_use]
    pub fn new(first: Perm, named: &[Perm]) -> Perms {
        core::iter::once(first).chain(named.iter().copied()).collect::<Vec<_>>().into()
    }

    /// Reads the entries of SET_PERMS.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] if one cannot be, or there is none.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<Perms, StoreError> {
        let entries = texts.map(Perm::parse).collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() { Err(StoreError::Malformed) } else { Ok(entries.into()) }
    }

    /// Appends them as GET_PERMS answers, each with its NUL.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        let mut text = alloc::string::String::new();
        for perm in self.entries() {
            // Writing to a string does not fail.
            let _ = write!(text, "{}{}\0", perm.access.letter(), perm.domid.0);
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// All entries, the owner's first.
    #[must_use]
    pub fn entries(&self) -> &[Perm] {
        &self.0
    }

    /// The owner.
    #[must_use]
    pub fn owner(&self) -> DomId {
        self.0.first().map_or(DomId::BACKEND, |first| first.domid)
    }

    /// What those may who are not named.
    #[must_use]
    pub fn others(&self) -> Access {
        self.0.first().map_or(Access::empty(), |first| first.access)
    }

    pub(super) fn access(&self, who: &Who) -> Access {
        if who.is_privileged() || who.acts_for(self.owner()) {
            return Access::all();
        }
        let named = self.0.iter().skip(1).find(|perm| who.acts_for(perm.domid));
        named.map_or(self.others(), |perm| perm.access)
    }

    pub(super) fn allow(&self, who: &Who, need: Access) -> bool {
        self.access(who).contains(need)
    }

    /// What a node below gets that `who` creates: the same, but domains own what they create.
    pub(super) fn inherited_by(&self, who: &Who) -> Perms {
        if who.is_privileged() || who.domid == self.owner() {
            return self.clone();
        }
        let first = Perm { domid: who.domid, access: self.others() };
        Perms::new(first, self.0.get(1..).unwrap_or(&[]))
    }

    /// Without what names a domain that is gone. `None` if that changes nothing.
    pub(super) fn without(&self, gone: DomId) -> Option<Perms> {
        let stays = |perm: &&Perm| perm.domid != gone;
        let named: Vec<Perm> = self.0.iter().skip(1).filter(stays).copied().collect();
        (named.len() + 1 < self.0.len()).then(|| {
            let first = Perm { domid: self.owner(), access: self.others() };
            Perms::new(first, &named)
        })
    }
}

impl From<Vec<Perm>> for Perms {
    fn from(entries: Vec<Perm>) -> Perms {
        Perms(entries.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perms(texts: &[&str]) -> Perms {
        Perms::parse(texts.iter().map(|text| text.as_bytes())).unwrap()
    }

    fn access(perms: &Perms, domid: u16) -> char {
        perms.access(&Who { domid: DomId(domid), target: None }).letter()
    }

    #[test]
    fn each_letter_gives_what_it_says_to_whom_it_names() {
        let letters = ['n', 'r', 'w', 'b'];
        for others in letters {
            for named in letters {
                let perms = perms(&[&alloc::format!("{others}5"), &alloc::format!("{named}6")]);
                assert_eq!(access(&perms, 0), 'b', "domain 0 may do all");
                assert_eq!(access(&perms, 5), 'b', "the owner may do all");
                assert_eq!(access(&perms, 6), named);
                assert_eq!(access(&perms, 7), others);
                let for_named = Who { domid: DomId(7), target: Some(DomId(6)) };
                assert_eq!(perms.access(&for_named).letter(), named, "its target is named");
                let for_owner = Who { domid: DomId(7), target: Some(DomId(5)) };
                assert_eq!(perms.access(&for_owner).letter(), 'b', "its target owns it");
            }
        }
    }

    #[test]
    fn they_are_printed_as_they_were_read() {
        let mut out = Vec::new();
        perms(&["n0", "r13", "b65535", "w7"]).print(&mut out);
        assert_eq!(out, b"n0\0r13\0b65535\0w7\0");
    }

    #[test]
    fn what_is_no_permission_is_refused() {
        for bad in ["", "r", "x1", "r65536", "r-1", "r1 ", "1", "rr1", "r+1"] {
            assert_eq!(Perm::parse(bad.as_bytes()), Err(StoreError::Malformed), "{bad}");
        }
        assert_eq!(Perms::parse(core::iter::empty()), Err(StoreError::Malformed));
    }

    #[test]
    fn a_domain_owns_what_it_creates_and_domain_0_passes_ownership_on() {
        let above = perms(&["n5", "b6"]);
        let by = |domid| above.inherited_by(&Who { domid: DomId(domid), target: None });
        assert_eq!(by(6), perms(&["n6", "b6"]));
        assert_eq!(by(0), above);
        assert_eq!(by(5), above);
    }

    #[test]
    fn a_domain_that_is_gone_is_named_no_more() {
        assert_eq!(perms(&["n0", "r5", "b6"]).without(DomId(5)), Some(perms(&["n0", "b6"])));
        assert_eq!(perms(&["n5", "r6"]).without(DomId(5)), None);
    }
}
