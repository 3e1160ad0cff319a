//! Addresses are types: guest-linear, guest-physical and host-physical never mix.
//! Only a second-level table (`slat`) turns guest into host.

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, or `None` past the end of the address space.
            #[must_use]
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Start of the 4 KiB page that holds this address.
            #[must_use]
            #[inline]
            pub const fn page(self) -> Self {
                Self(self.0 & !0xfff)
            }

            /// Offset in the 4 KiB page, 0 to 4095.
            #[must_use]
            #[inline]
            pub const fn page_offset(self) -> u64 {
                self.0 & 0xfff
            }

            /// Whether the address is a multiple of `align`, a power of two.
            #[must_use]
            #[inline]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }
        }

        impl core::fmt::LowerHex for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// A linear address of the guest: after segmentation, before the guest's paging.
    GuestVirt
}
address! {
    /// A physical address as the guest sees it, before second-level translation.
    GuestPhys
}
address! {
    /// A physical address of the machine that runs the hypervisor.
    HostPhys
}

/// Bytes in a 4 KiB page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a 2 MiB page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Bytes in a 1 GiB page.
pub const HUGE_PAGE: u64 = 1 << 30;
