//! Why the store refuses, and the word for it on the wire (Xen docs "xenstore.txt", public
//! "io/xs_wire.h").

use crate::errno::Errno;

/// A limit of a domain. [`Quota`](super::Quota) has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nodes that it owns.
    Nodes,
    /// Bytes of one value.
    ValueBytes,
    /// Entries of one node's permissions.
    Perms,
    /// Bytes of all that the store keeps for it.
    Memory,
    /// Watches.
    Watches,
    /// Open transactions.
    Transactions,
    /// Nodes that one transaction touches.
    TransactionNodes,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No such node, watch, transaction or client.
    NotThere,
    /// The permissions forbid it, or it is for domain 0 only.
    NoAccess,
    /// A node's owner is changed by domain 0 only.
    OwnerIsFixed,
    /// A path, a number or a layout that cannot be.
    Malformed,
    /// The same watch exists already.
    Exists,
    /// A transaction in a transaction.
    Busy,
    /// Others changed what the transaction saw. Do it again.
    Conflict,
    /// The answer does not fit into one message.
    TooLong,
    /// No such request.
    Unknown,
    /// Over a limit of the domain.
    Over(Limit),
}

impl StoreError {
    /// The word for it on the wire.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            StoreError::NotThere => Errno::ENOENT,
            StoreError::NoAccess => Errno::EACCES,
            StoreError::OwnerIsFixed => Errno::EPERM,
            StoreError::Malformed => Errno::EINVAL,
            StoreError::Exists => Errno::EEXIST,
            StoreError::Busy => Errno::EBUSY,
            StoreError::Conflict => Errno::EAGAIN,
            StoreError::TooLong | StoreError::Over(Limit::Watches) => Errno::E2BIG,
            StoreError::Unknown => Errno::ENOSYS,
            StoreError::Over(Limit::Memory) => Errno::ENOMEM,
            StoreError::Over(_) => Errno::ENOSPC,
        }
    }
}

impl From<StoreError> for Errno {
    fn from(error: StoreError) -> Errno {
        error.errno()
    }
}
