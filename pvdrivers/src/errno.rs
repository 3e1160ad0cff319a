//! What a hypercall that fails gives, negated. Xen public "errno.h".

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// An error number, as Xen's headers name it. Positive; a hypercall returns it negated.
        #[allow(non_camel_case_types, reason = "the names are the header's own")]
        #[allow(clippy::upper_case_acronyms, reason = "the names are the header's own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Errno { $($(#[$doc])* $name = $value,)* }

        impl Errno {
            /// The header's name, which is also XenStore's word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name),)* }
            }
        }
    };
}

errno! {
    /// Not permitted.
    EPERM = 1,
    /// No such thing.
    ENOENT = 2,
    /// No such domain or vCPU.
    ESRCH = 3,
    /// Interrupted: try again.
    EINTR = 4,
    /// Input or output failed.
    EIO = 5,
    /// No such device.
    ENXIO = 6,
    /// Too many arguments.
    E2BIG = 7,
    /// No such handle.
    EBADF = 9,
    /// Try again.
    EAGAIN = 11,
    /// No memory.
    ENOMEM = 12,
    /// No access.
    EACCES = 13,
    /// An address that is not the caller's memory.
    EFAULT = 14,
    /// In use.
    EBUSY = 16,
    /// Exists already.
    EEXIST = 17,
    /// Another file system.
    EXDEV = 18,
    /// No such device.
    ENODEV = 19,
    /// Is a directory.
    EISDIR = 21,
    /// An argument that cannot be.
    EINVAL = 22,
    /// No room.
    ENOSPC = 28,
    /// Read-only.
    EROFS = 30,
    /// Result does not fit.
    ERANGE = 34,
    /// Would never end.
    EDEADLK = 35,
    /// No such call.
    ENOSYS = 38,
    /// Not empty.
    ENOTEMPTY = 39,
    /// No data.
    ENODATA = 61,
    /// The time is past.
    ETIME = 62,
    /// Not a number that fits.
    EOVERFLOW = 75,
    /// Restart the call.
    ERESTART = 85,
    /// Not a thing of this kind.
    EOPNOTSUPP = 95,
    /// No buffer space.
    ENOBUFS = 105,
    /// Connected already.
    EISCONN = 106,
    /// Not connected.
    ENOTCONN = 107,
    /// Timed out.
    ETIMEDOUT = 110,
    /// Over a quota.
    EDQUOT = 122,
}

impl Errno {
    /// What the hypercall returns.
    #[must_use]
    pub const fn code(self) -> i64 {
        -(self as i32 as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_negative_and_names_are_the_headers() {
        assert_eq!((Errno::EINVAL.code(), Errno::EINVAL.name()), (-22, "EINVAL"));
        assert_eq!(Errno::ENOTCONN.code(), -107);
    }
}
