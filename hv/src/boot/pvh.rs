//! The PVH boot protocol's `hvm_start_info`, as QEMU's `-kernel` and Xen fill it.
//! Layout: Xen public headers, "arch-x86/hvm/start_info.h". Memory is reached through a closure,
//! so that the reader is tested on plain bytes.

use super::{AcpiRoot, Boot, BootError, Loader, RegionKind, cut};

/// `hvm_start_info`, versions 0 and 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StartInfo {
    /// `XEN_HVM_START_MAGIC_VALUE`.
    pub magic: u32,
    /// 0 or 1; the memory map is there from 1 on.
    pub version: u32,
    /// SIF_* flags.
    pub flags: u32,
    /// Number of modules.
    pub nr_modules: u32,
    /// Physical address of the module list.
    pub modlist_paddr: u64,
    /// Physical address of the command line, NUL-terminated.
    pub cmdline_paddr: u64,
    /// Physical address of the RSDP.
    pub rsdp_paddr: u64,
    /// Physical address of the memory map.
    pub memmap_paddr: u64,
    /// Entries in it.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);
const _: () = assert!(core::mem::offset_of!(StartInfo, cmdline_paddr) == 24);
const _: () = assert!(core::mem::offset_of!(StartInfo, memmap_paddr) == 40);

const MODULE_BYTES: u64 = 32;
const MEMMAP_BYTES: u64 = 24;

/// Reads physical memory: fills the buffer from the address.
pub trait ReadPhys {
    /// Copies `buffer.len()` bytes from physical address `from`.
    fn read(&self, from: u64, buffer: &mut [u8]);

    /// A little-endian 32-bit number.
    fn u32(&self, from: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(from, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// A little-endian 64-bit number.
    fn u64(&self, from: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(from, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A NUL-terminated text of at most `N` bytes; address 0 reads as empty.
    fn text<const N: usize>(&self, from: u64) -> heapless::String<N> {
        let mut bytes = [0u8; N];
        let mut len = 0;
        while from != 0 && len < N {
            self.read(from + len as u64, &mut bytes[len..=len]);
            if bytes[len] == 0 {
                break;
            }
            len += 1;
        }
        let end = match core::str::from_utf8(&bytes[..len]) {
            Ok(_) => len,
            Err(e) => e.valid_up_to(),
        };
        cut(core::str::from_utf8(&bytes[..end]).unwrap_or(""))
    }
}

/// Reads the structure at `info`.
///
/// # Errors
/// [`BootError`] where it is damaged or holds no memory map.
pub fn parse(memory: &impl ReadPhys, info: u64, magic: u32) -> Result<Boot, BootError> {
    if memory.u32(info) != magic {
        return Err(BootError::BadStructure);
    }
    let mut boot = Boot::new(Loader::Pvh);
    let version = memory.u32(info + 4);
    let nr_modules = memory.u32(info + 12);
    let modlist = memory.u64(info + 16);
    boot.command_line = memory.text(memory.u64(info + 24));
    let rsdp = memory.u64(info + 32);
    boot.acpi = if rsdp == 0 { AcpiRoot::Search } else { AcpiRoot::Rsdp(rsdp) };
    for i in 0..u64::from(nr_modules) {
        let at = modlist + i * MODULE_BYTES;
        let (start, size) = (memory.u64(at), memory.u64(at + 8));
        let line: heapless::String<256> = memory.text(memory.u64(at + 16));
        let end = start.checked_add(size).ok_or(BootError::BadStructure)?;
        boot.add_module(start, end, &line)?;
    }
    if version == 0 {
        return Err(BootError::NoMemoryMap);
    }
    let (map, entries) = (memory.u64(info + 40), memory.u32(info + 48));
    for i in 0..u64::from(entries) {
        let at = map + i * MEMMAP_BYTES;
        // The types are those of E820.
        let kind = match memory.u32(at + 16) {
            1 => RegionKind::Usable,
            3 | 4 => RegionKind::Acpi,
            _ => RegionKind::Reserved,
        };
        boot.add_region(memory.u64(at), memory.u64(at + 8), kind)?;
    }
    if boot.regions.is_empty() { Err(BootError::NoMemoryMap) } else { Ok(boot) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl ReadPhys for Bytes {
        fn read(&self, from: u64, buffer: &mut [u8]) {
            let from = from as usize;
            buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
        }
    }

    fn put(bytes: &mut [u8], at: usize, value: u64, len: usize) {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn sample() -> Bytes {
        let mut b = vec![0u8; 8192];
        put(&mut b, 0x100, 0x336e_c578, 4);
        put(&mut b, 0x104, 1, 4);
        put(&mut b, 0x10c, 1, 4);
        put(&mut b, 0x110, 0x200, 8);
        put(&mut b, 0x118, 0x300, 8);
        put(&mut b, 0x120, 0xf5a80, 8);
        put(&mut b, 0x128, 0x400, 8);
        put(&mut b, 0x130, 2, 4);
        put(&mut b, 0x200, 0x10_0000, 8);
        put(&mut b, 0x208, 0x1000, 8);
        b[0x300..0x308].copy_from_slice(b"exit=dbg");
        put(&mut b, 0x408, 0x9fc00, 8);
        put(&mut b, 0x410, 1, 4);
        put(&mut b, 0x418, 0x9fc00, 8);
        put(&mut b, 0x420, 0x400, 8);
        put(&mut b, 0x428, 2, 4);
        Bytes(b)
    }

    #[test]
    fn qemus_structure_reads_back() {
        let boot = parse(&sample(), 0x100, 0x336e_c578).unwrap();
        assert_eq!(boot.command_line.as_str(), "exit=dbg");
        assert_eq!(boot.regions[0].end, 0x9fc00);
        assert_eq!(boot.regions[1].kind, RegionKind::Reserved);
        assert_eq!(boot.modules[0].end, 0x10_1000);
        assert_eq!(boot.acpi, AcpiRoot::Rsdp(0xf5a80));
    }

    #[test]
    fn a_wrong_magic_and_a_missing_map_are_errors() {
        let mut bytes = sample();
        assert_eq!(parse(&bytes, 0x104, 0x336e_c578).unwrap_err(), BootError::BadStructure);
        put(&mut bytes.0, 0x104, 0, 4);
        assert_eq!(parse(&bytes, 0x100, 0x336e_c578).unwrap_err(), BootError::NoMemoryMap);
    }
}
