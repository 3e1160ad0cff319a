//! What the loader told us, in one owned structure, whichever loader it was.
//! `entry` is the assembly before Rust, `pvh` and `multiboot` read the two loaders' structures.
//! Everything is copied: after this, the loader's memory may be overwritten.

#[cfg(target_os = "none")]
pub mod entry;
pub mod multiboot;
pub mod pvh;

use heapless::{String, Vec};

/// Longest command line kept, in bytes; the rest is cut off and reported.
pub const MAX_COMMAND_LINE: usize = 4096;
/// Most memory regions kept.
pub const MAX_REGIONS: usize = 128;
/// Most boot modules kept.
pub const MAX_MODULES: usize = 32;

/// The loader that started us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// QEMU's `-kernel`, Xen, Cloud Hypervisor: the PVH boot protocol.
    Pvh,
    /// GRUB and others.
    Multiboot2,
}

/// What a memory region holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free RAM.
    Usable,
    /// ACPI tables; RAM, but not ours to use.
    Acpi,
    /// Anything else: firmware, holes, broken memory.
    Reserved,
}

/// One entry of the loader's memory map, in bytes. Not sorted, may overlap, as firmware made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What it holds.
    pub kind: RegionKind,
}

/// A file that the loader put into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Physical address of the first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// The module's own command line.
    pub command_line: String<256>,
}

/// A linear frame buffer with direct colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBufferInfo {
    /// Physical address.
    pub address: u64,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Bits per pixel: 15, 16, 24 or 32.
    pub bits_per_pixel: u8,
    /// Bit position of red, green and blue.
    pub shifts: [u8; 3],
    /// Bits of red, green and blue.
    pub sizes: [u8; 3],
}

/// The host's screen as the loader left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Nobody said; VGA text at B8000h if a VGA is there.
    Unknown,
    /// VGA text mode, columns by rows.
    Text(u32, u32),
    /// A linear frame buffer.
    Pixels(FrameBufferInfo),
}

/// Where the ACPI tables begin, as physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiRoot {
    /// Not told: look where a BIOS puts the RSDP.
    Search,
    /// The RSDP.
    Rsdp(u64),
    /// The table of 32-bit addresses.
    Rsdt(u64),
    /// The table of 64-bit addresses.
    Xsdt(u64),
}

/// Everything the loader told us.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Who loaded us.
    pub loader: Loader,
    /// The command line.
    pub command_line: String<MAX_COMMAND_LINE>,
    /// The memory map.
    pub regions: Vec<Region, MAX_REGIONS>,
    /// The modules, in the loader's order.
    pub modules: Vec<Module, MAX_MODULES>,
    /// Where the ACPI tables begin, as far as the loader said.
    pub acpi: AcpiRoot,
    /// The screen.
    pub screen: Screen,
}

/// Why the loader's structures cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// Neither PVH nor multiboot2: EAX held this.
    UnknownMagic(u32),
    /// The structure is damaged or of an unknown version.
    BadStructure,
    /// No memory map was given.
    NoMemoryMap,
    /// More memory regions or modules than we keep.
    TooMany,
}

impl Boot {
    /// An empty description for `loader`.
    #[must_use]
    pub fn new(loader: Loader) -> Boot {
        Boot {
            loader,
            command_line: String::new(),
            regions: Vec::new(),
            modules: Vec::new(),
            acpi: AcpiRoot::Search,
            screen: Screen::Unknown,
        }
    }

    /// Adds a region; empty ones and ones that wrap are dropped.
    ///
    /// # Errors
    /// [`BootError::TooMany`] when the table is full.
    pub fn add_region(&mut self, start: u64, size: u64, kind: RegionKind) -> Result<(), BootError> {
        let Some(end) = start.checked_add(size) else { return Ok(()) };
        if size == 0 {
            return Ok(());
        }
        self.regions.push(Region { start, end, kind }).map_err(|_| BootError::TooMany)
    }

    /// Adds a module.
    ///
    /// # Errors
    /// [`BootError::TooMany`] when the table is full.
    pub fn add_module(&mut self, start: u64, end: u64, line: &str) -> Result<(), BootError> {
        let module = Module { start, end, command_line: cut(line) };
        self.modules.push(module).map_err(|_| BootError::TooMany)
    }

    /// Bytes of usable RAM in the map.
    #[must_use]
    pub fn usable_bytes(&self) -> u64 {
        let usable = self.regions.iter().filter(|r| r.kind == RegionKind::Usable);
        usable.map(|r| r.end - r.start).sum()
    }
}

/// As much of `text` as fits, cut at a character boundary.
fn cut<const N: usize>(text: &str) -> String<N> {
    let mut kept = String::new();
    for c in text.chars() {
        if kept.push(c).is_err() {
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_wraps_or_is_empty_is_dropped() {
        let mut boot = Boot::new(Loader::Pvh);
        boot.add_region(u64::MAX, 2, RegionKind::Usable).unwrap();
        boot.add_region(4096, 0, RegionKind::Usable).unwrap();
        assert!(boot.regions.is_empty());
        boot.add_region(4096, 8192, RegionKind::Usable).unwrap();
        assert_eq!(boot.usable_bytes(), 8192);
    }

    #[test]
    fn a_long_command_line_is_cut_not_refused() {
        let line = "é".repeat(200);
        assert_eq!(cut::<256>(&line).len(), 256);
    }
}
