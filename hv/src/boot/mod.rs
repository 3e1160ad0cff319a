//! What the loader told us, in one owned structure, whichever loader it was.
//! `entry` is the assembly before Rust, `pvh` and `multiboot` read the two loaders' structures.
//! Everything is copied: after this, the loader's memory may be overwritten.

#[cfg(target_os = "none")]
pub mod entry;
pub mod multiboot;
pub mod pvh;

use core::fmt;

use heapless::{String, Vec};

/// Longest command line kept, in bytes; the rest is cut off and reported.
pub const MAX_COMMAND_LINE: usize = 4096;
/// Most memory regions kept; UEFI machines have a hundred, most of which join their neighbours.
pub const MAX_REGIONS: usize = 256;
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

impl FrameBufferInfo {
    /// Bytes of all lines.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.pitch) * u64::from(self.height)
    }

    /// True if it is one that we can draw on: whole pixels of direct colour, lines that hold them.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let line = u64::from(self.width) * u64::from(self.bits_per_pixel.div_ceil(8));
        matches!(self.bits_per_pixel, 15 | 16 | 24 | 32)
            && self.address != 0
            && self.address.checked_add(self.bytes()).is_some_and(|end| end < 1 << 52)
            && self.width != 0
            && line <= u64::from(self.pitch)
    }
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
    /// More boot modules than we keep.
    TooManyModules,
    /// More reserved memory regions than we keep.
    TooManyRegions,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMagic(eax) => {
                write!(f, "it speaks neither multiboot2 nor PVH (EAX was {eax:#010x})")
            }
            Self::BadStructure => f.write_str("its information structure is damaged"),
            Self::NoMemoryMap => f.write_str("it gave no memory map"),
            Self::TooManyModules => write!(f, "it loaded more than {MAX_MODULES} modules"),
            Self::TooManyRegions => {
                write!(f, "its memory map has more than {MAX_REGIONS} reserved regions")
            }
        }
    }
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

    /// Adds a region; empty ones and ones that wrap are dropped, and one that continues the last joins
    /// it. With the table full, RAM is left out, the smallest first.
    ///
    /// # Errors
    /// [`BootError::TooManyRegions`] when the table is full of what must not be left out.
    pub fn add_region(&mut self, start: u64, size: u64, kind: RegionKind) -> Result<(), BootError> {
        let Some(end) = start.checked_add(size) else { return Ok(()) };
        if size == 0 {
            return Ok(());
        }
        if let Some(last) = self.regions.last_mut()
            && (last.end, last.kind) == (start, kind)
        {
            last.end = end;
            return Ok(());
        }
        let Err(new) = self.regions.push(Region { start, end, kind }) else { return Ok(()) };
        let usable = self.regions.iter_mut().filter(|r| r.kind == RegionKind::Usable);
        match usable.min_by_key(|r| r.end - r.start) {
            Some(least) if new.kind != RegionKind::Usable || least.end - least.start < size => {
                *least = new;
                Ok(())
            }
            _ if new.kind == RegionKind::Usable => Ok(()),
            _ => Err(BootError::TooManyRegions),
        }
    }

    /// Adds a module.
    ///
    /// # Errors
    /// [`BootError::TooManyModules`] when the table is full.
    pub fn add_module(&mut self, start: u64, end: u64, line: &str) -> Result<(), BootError> {
        let module = Module { start, end, command_line: cut(line) };
        self.modules.push(module).map_err(|_| BootError::TooManyModules)
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
    fn neighbours_of_one_kind_join() {
        let mut boot = Boot::new(Loader::Multiboot2);
        boot.add_region(0, 0x1000, RegionKind::Usable).unwrap();
        boot.add_region(0x1000, 0x1000, RegionKind::Usable).unwrap();
        boot.add_region(0x2000, 0x1000, RegionKind::Reserved).unwrap();
        assert_eq!(boot.regions.len(), 2);
        assert_eq!(boot.usable_bytes(), 0x2000);
    }

    #[test]
    fn a_crowded_map_loses_the_least_ram_and_nothing_reserved() {
        let mut boot = Boot::new(Loader::Multiboot2);
        for n in 0..MAX_REGIONS as u64 / 2 {
            boot.add_region(n << 20, 0x1000 * (n + 1), RegionKind::Usable).unwrap();
            boot.add_region((n << 20) + 0xf_0000, 0x1000, RegionKind::Reserved).unwrap();
        }
        let before = boot.usable_bytes();
        boot.add_region(1 << 40, 1 << 30, RegionKind::Usable).unwrap();
        assert_eq!(boot.usable_bytes(), before - 0x1000 + (1 << 30));
        boot.add_region(2 << 40, 0x1000, RegionKind::Reserved).unwrap();
        assert_eq!(boot.usable_bytes(), before - 0x3000 + (1 << 30));
        let all = (0..MAX_REGIONS as u64).try_for_each(|n| {
            boot.add_region((3 << 40) + n * 0x2000, 0x1000, RegionKind::Reserved)
        });
        assert_eq!(all, Err(BootError::TooManyRegions));
    }

    #[test]
    fn a_long_command_line_is_cut_not_refused() {
        let line = "é".repeat(200);
        assert_eq!(cut::<256>(&line).len(), 256);
    }
}
