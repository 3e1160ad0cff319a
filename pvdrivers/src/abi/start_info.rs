//! What a PVH kernel finds at its start, and the ELF notes that ask for it. Xen public
//! "arch-x86/hvm/start_info.h", "elfnote.h".

use super::layout::layouts;

/// [`StartInfo::magic`].
pub const START_MAGIC: u32 = 0x336e_c578;
/// [`StartInfo::version`].
pub const START_VERSION: u32 = 1;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: where a PVH kernel begins, as a 4- or 8-byte physical address.
pub const ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// The name of Xen's ELF notes, with its zero.
pub const ELFNOTE_NAME: &[u8; 4] = b"Xen\0";

layouts! {
    /// At the address that EBX has at the kernel's start. Addresses are physical, 0 for none.
    StartInfo: 56 / 56 {
        /// [`START_MAGIC`].
        magic: u32 = 0 / 0,
        /// [`START_VERSION`].
        version: u32 = 4 / 4,
        /// `SIF_*`; 0 for a guest.
        flags: u32 = 8 / 8,
        /// How many modules.
        nr_modules: u32 = 12 / 12,
        /// An array of [`ModlistEntry`].
        modlist_paddr: u64 = 16 / 16,
        /// Text that ends in zero.
        cmdline_paddr: u64 = 24 / 24,
        /// ACPI's root pointer.
        rsdp_paddr: u64 = 32 / 32,
        /// An array of [`MemmapEntry`].
        memmap_paddr: u64 = 40 / 40,
        /// How many.
        memmap_entries: u32 = 48 / 48,
        /// Zero.
        reserved: u32 = 52 / 52,
    }
    /// A module, such as the initial RAM disk.
    ModlistEntry: 32 / 32 {
        /// Where.
        paddr: u64 = 0 / 0,
        /// Bytes.
        size: u64 = 8 / 8,
        /// Text that ends in zero.
        cmdline_paddr: u64 = 16 / 16,
        /// Zero.
        reserved: u64 = 24 / 24,
    }
    /// A piece of the memory map.
    MemmapEntry: 24 / 24 {
        /// First byte.
        addr: u64 = 0 / 0,
        /// Bytes.
        size: u64 = 8 / 8,
        /// 1 RAM, 2 reserved, 3 ACPI, 4 NVS, 5 unusable.
        kind: u32 = 16 / 16,
        /// Zero.
        reserved: u32 = 20 / 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Layout, Width};

    #[test]
    fn the_magic_number_says_xen3_with_a_bit_in_the_e() {
        let mut bytes = [0; 56];
        let info = StartInfo { magic: START_MAGIC, version: START_VERSION, ..StartInfo::default() };
        info.store(&mut bytes, Width::Bits32).unwrap();
        assert_eq!([bytes[0], bytes[1] & 0x7f, bytes[2], bytes[3]], *b"xEn3");
        assert_eq!(bytes[4], 1);
    }
}
