//! `xen_version`: which Xen, and what it can do. Xen public "version.h".

use super::layout::{Ulong, layouts, numbers};

numbers! {
    /// `XENVER_*`.
    VersionOp: u32 {
        /// No argument; returns [`VERSION`].
        VERSION = 0,
        /// 16 bytes of text.
        EXTRAVERSION = 1,
        /// [`CompileInfo`].
        COMPILE_INFO = 2,
        /// 1,024 bytes of text.
        CAPABILITIES = 3,
        /// 64 bytes of text.
        CHANGESET = 4,
        /// [`PlatformParameters`].
        PLATFORM_PARAMETERS = 5,
        /// [`FeatureInfo`].
        GET_FEATURES = 6,
        /// No argument; returns the page size.
        PAGESIZE = 7,
        /// 16 bytes: the domain's UUID.
        GUEST_HANDLE = 8,
        /// 1,024 bytes of text; for the privileged.
        COMMANDLINE = 9,
        /// [`VarBuf`]: bytes.
        BUILD_ID = 10,
        /// [`VarBuf`]: text.
        EXTRAVERSION2 = 11,
        /// [`VarBuf`]: text.
        CAPABILITIES2 = 12,
        /// [`VarBuf`]: text.
        CHANGESET2 = 13,
        /// [`VarBuf`]: text.
        COMMANDLINE2 = 14,
    }
}

/// Xen 4.17, whose ABI this is: major number above minor number.
pub const VERSION: u32 = 4 << 16 | 17;

/// Bytes of [`VersionOp::EXTRAVERSION`].
pub const EXTRAVERSION_LEN: usize = 16;
/// Bytes of [`VersionOp::COMPILE_INFO`].
pub const COMPILE_INFO_LEN: usize = 64 + 16 + 32 + 32;
/// Bytes of [`VersionOp::CAPABILITIES`].
pub const CAPABILITIES_LEN: usize = 1024;
/// Bytes of [`VersionOp::CHANGESET`].
pub const CHANGESET_LEN: usize = 64;
/// Bytes of [`VersionOp::GUEST_HANDLE`].
pub const GUEST_HANDLE_LEN: usize = 16;
/// Bytes of [`VersionOp::COMMANDLINE`].
pub const COMMANDLINE_LEN: usize = 1024;

/// Who compiled it, as text that ends in zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileInfo<'a> {
    /// At most 63 bytes.
    pub compiler: &'a str,
    /// At most 15 bytes.
    pub by: &'a str,
    /// At most 31 bytes.
    pub domain: &'a str,
    /// At most 31 bytes.
    pub date: &'a str,
}

impl CompileInfo<'_> {
    /// The answer. What is too long is cut.
    #[must_use]
    pub fn bytes(&self) -> [u8; COMPILE_INFO_LEN] {
        let mut bytes = [0; COMPILE_INFO_LEN];
        for (at, len, text) in
            [(0, 64, self.compiler), (64, 16, self.by), (80, 32, self.domain), (112, 32, self.date)]
        {
            let fits = text.len().min(len - 1);
            bytes[at..at + fits].copy_from_slice(&text.as_bytes()[..fits]);
        }
        bytes
    }
}

layouts! {
    /// Where the hypervisor's part of a PV guest's addresses begins; 0 for others.
    PlatformParameters: 8 / 4 {
        /// Out.
        virt_start: Ulong = 0 / 0,
    }
    /// 32 feature bits: `super::features`.
    FeatureInfo: 8 / 8 {
        /// In: which 32; only 0 has any.
        submap_idx: u32 = 0 / 0,
        /// Out.
        submap: u32 = 4 / 4,
    }
    /// Before a buffer of any length.
    VarBuf: 4 / 4 {
        /// In: bytes that fit behind this.
        len: u32 = 0 / 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_too_long_for_its_field_is_cut_and_ends_in_zero() {
        let info =
            CompileInfo { compiler: "rustc", by: "0123456789abcdefgh", domain: "", date: "d" };
        let bytes = info.bytes();
        assert_eq!(&bytes[..6], b"rustc\0");
        assert_eq!(&bytes[64..80], b"0123456789abcde\0");
        assert_eq!((bytes[80], bytes[112], bytes.len()), (0, b'd', 144));
        assert_eq!(VERSION, 0x4_0011);
    }
}
