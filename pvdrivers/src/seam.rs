//! What the parts share: names of domains, ports and grants, and how a back end reaches granted
//! pages. A back end sees traits only, so that it serves guests from the hypervisor, and in host tests.

use crate::errno::Errno;
use arch::{GuestPhys, SharedPage};

/// A domain's number (`domid_t`). Xen public "xen.h".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// The hypervisor's own back ends are domain 0's to guests, as with a dom0.
    pub const BACKEND: DomId = DomId(0);
    /// `DOMID_SELF`.
    pub const SELF: DomId = DomId(0x7ff0);
    /// Numbers below this are domains (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: u16 = 0x7ff0;

    /// Its place among all guests by number, if none of those before it is missing: numbers go up from 1.
    #[must_use]
    #[inline]
    pub const fn place(self) -> usize {
        (self.0 as usize).wrapping_sub(1)
    }
}

/// An event-channel port of one domain (`evtchn_port_t`). 0 is never a valid one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// A grant reference of one domain (`grant_ref_t`): an index into its grant table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantRef(pub u32);

/// What a granted page is pinned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantAccess {
    /// Reading only (`GNTMAP_readonly`).
    Read,
    /// Reading and writing.
    Write,
}

/// A granted page in use: its owner cannot end the access before [`Grants::unpin`].
#[must_use]
#[derive(Debug)]
pub struct Pinned {
    /// The memory.
    pub page: SharedPage,
    /// Who granted it.
    pub owner: DomId,
    /// Where the page lies in the owner's guest-physical space, for disks that transfer straight.
    pub frame: GuestPhys,
    /// By what.
    pub reference: GrantRef,
    /// For what.
    pub access: GrantAccess,
    /// The bytes of the page that are granted: first, and one behind the last. 0 and 4096 but for sub-page grants.
    pub bytes: (u16, u16),
}

/// Granted pages, for a back end.
pub trait Grants {
    /// Pins a page that `owner` granted to `user`.
    ///
    /// # Errors
    /// Why it may not be used, as Linux's `errno`.
    fn pin(
        &mut self,
        owner: DomId,
        reference: GrantRef,
        user: DomId,
        access: GrantAccess,
    ) -> Result<Pinned, Errno>;

    /// Gives a page back.
    fn unpin(&mut self, pinned: Pinned);
}
