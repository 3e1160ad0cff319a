//! Guests that start by Xen's PVH protocol: a kernel in memory, told where it is by a start info record, and no
//! PC around it. Xen docs "misc/pvh", public "arch-x86/hvm/start_info.h".
//!
//! `elf` reads the kernel; [`Pvh::place`] puts everything into memory; the first vCPU's registers are in
//! `reset`. What the guest finds besides is in `memmap` (no devices) and `bios` (its ACPI tables).

pub mod elf;
#[cfg(test)]
mod tests;

use crate::xen::SPECIAL_GFN;
use alloc::string::String;
use alloc::vec::Vec;
use arch::addr::PAGE_SIZE;
use arch::ram::HIGH_RAM;
use arch::{GuestPhys, GuestRam};
use bios::BiosConfig;
use bios::e820::TABLES_SIZE;
use core::fmt;
use elf::Elf;
use pvdrivers::abi::start_info::{
    MemmapEntry, ModlistEntry, START_MAGIC, START_VERSION, StartInfo,
};
use pvdrivers::abi::{Layout, Width};

/// Most characters of a command line.
const MAX_COMMAND_LINE: usize = 4095;
/// Where the modules' list stands behind the start info record.
const MODULES: u64 = 64;
/// Where the memory map stands.
const MEMORY: u64 = 128;
/// Where the command line stands: a page of its own.
const COMMAND_LINE: u64 = PAGE_SIZE;
/// Bytes of all that.
const INFO_BYTES: u64 = 2 * PAGE_SIZE;
/// Pages that Xen's tools set aside below 4 GiB for rings.
const SPECIAL_PAGES: u64 = 8;
/// Where kernels without a use for `rsdp_paddr` (Linux 4.11 to 4.20) search for ACPI's root pointer: Xen's tools put it
/// into the last 64 bytes below 1 MiB for them.
const SEARCHED: u64 = 0x10_0000 - 64;
/// Bytes of ACPI's root pointer.
const RSDP_BYTES: usize = 36;

/// A kernel to start, as given.
#[derive(Clone, Debug)]
pub struct Pvh {
    /// The executable.
    pub image: &'static [u8],
    /// The module for it, such as an initial RAM disk; perhaps empty.
    pub initrd: &'static [u8],
    /// The command line.
    pub command_line: String,
    /// Whether the PC is around it all the same, and no ACPI: it is what a guest has in place of firmware, as Xen starts its
    /// hvmloader, at the ELF header's entry.
    pub board: bool,
}

/// Why a kernel cannot be started by the PVH protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvhError {
    /// A Linux kernel as boot loaders take it.
    BzImage,
    /// No ELF file.
    NotElf,
    /// Not for x86.
    NotX86,
    /// The file ends before its headers say, or they contradict each other.
    Truncated,
    /// More than 128 headers in a table.
    TooManyHeaders,
    /// Nothing to load.
    NoSegments,
    /// Two segments at one address.
    Overlap,
    /// A segment above 4 GiB.
    TooHigh,
    /// It has no note that says where it begins.
    NoNote,
    /// The note names an address outside of the kernel.
    Entry(u64),
    /// The kernel ends at this address, behind the guest's memory.
    Kernel(u64),
    /// The initrd, of so many bytes, does not fit behind the kernel.
    Initrd(u64),
    /// The command line is longer than 4,095 bytes.
    CommandLine,
}

impl fmt::Display for PvhError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PvhError::BzImage => {
                "the kernel is a bzImage: a PVH guest starts the vmlinux in it, which `cargo xtask` takes out"
            }
            PvhError::NotElf => "the kernel is no ELF executable",
            PvhError::NotX86 => "the kernel is not for x86",
            PvhError::Truncated => "the kernel is cut short, or its ELF headers are wrong",
            PvhError::TooManyHeaders => "the kernel has more than 128 ELF headers in a table",
            PvhError::NoSegments => "the kernel has nothing to load (no PT_LOAD header)",
            PvhError::Overlap => "two segments of the kernel overlap in memory",
            PvhError::TooHigh => "a segment of the kernel lies above 4 GiB",
            PvhError::NoNote => {
                "the kernel has no ELF note XEN_ELFNOTE_PHYS32_ENTRY (18): it cannot start as a PVH guest"
            }
            PvhError::Entry(at) => {
                return write!(f, "the kernel's entry {at:#x} lies outside of the kernel");
            }
            PvhError::Kernel(end) => {
                return write!(
                    f,
                    "the kernel reaches to {end:#x}, beyond the guest's memory; raise `memory`"
                );
            }
            PvhError::Initrd(bytes) => {
                return write!(
                    f,
                    "a ramdisk of {bytes} bytes does not fit behind the kernel; raise `memory`"
                );
            }
            PvhError::CommandLine => "the command line is longer than 4,095 characters",
        })
    }
}

/// Where things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The first instruction.
    pub entry: u32,
    /// The initrd, behind the kernel as Xen's tools put it.
    pub initrd: u64,
    /// The start info record, behind it.
    pub info: u64,
}

/// Where the ACPI tables begin: at the top of `low_ram` bytes, as with our firmware; `None` without ACPI.
fn tables(low_ram: u64, acpi: bool) -> Option<u64> {
    acpi.then(|| low_ram.saturating_sub(TABLES_SIZE))
}

/// The guest's memory map: (start, bytes, E820 type).
#[must_use]
pub fn memory_map(low_ram: u64, high_ram: u64, acpi: bool) -> Vec<(u64, u64, u32)> {
    let end = tables(low_ram, acpi).unwrap_or(low_ram);
    let rings = (SPECIAL_GFN * PAGE_SIZE, SPECIAL_PAGES * PAGE_SIZE, 2);
    let all = [(0, end, 1), (end, low_ram - end, 3), rings, (HIGH_RAM, high_ram, 1)];
    all.into_iter().filter(|(_, bytes, _)| *bytes > 0).collect()
}

impl Pvh {
    /// Where things go in `low_ram` bytes of memory below 4 GiB.
    ///
    /// # Errors
    /// [`PvhError`].
    pub fn places(&self, low_ram: u64, acpi: bool) -> Result<Places, PvhError> {
        let elf = self.elf()?;
        let acpi = acpi && !self.board;
        if self.command_line.len() > MAX_COMMAND_LINE {
            return Err(PvhError::CommandLine);
        }
        let ceiling = tables(low_ram, acpi).unwrap_or(low_ram);
        // Everything is below 4 GiB, so that nothing overflows.
        let initrd = elf.end.next_multiple_of(PAGE_SIZE);
        if initrd + INFO_BYTES > ceiling {
            return Err(PvhError::Kernel(elf.end));
        }
        let bytes = self.initrd.len() as u64;
        let info = (initrd + bytes).next_multiple_of(PAGE_SIZE);
        if info + INFO_BYTES > ceiling {
            return Err(PvhError::Initrd(bytes));
        }
        Ok(Places { entry: elf.entry, initrd, info })
    }

    /// Puts kernel, initrd, ACPI tables and start info into memory. `map`: what the record says of memory.
    ///
    /// # Errors
    /// [`PvhError`]; memory is then unchanged.
    pub(crate) fn place(
        &self,
        ram: &GuestRam,
        config: &BiosConfig,
        map: &[(u64, u64, u32)],
    ) -> Result<(), PvhError> {
        let low = ram.low_size();
        let acpi = config.acpi && !self.board;
        let places = self.places(low, acpi)?;
        let elf = self.elf()?;
        let put = |at: u64, bytes: &[u8]| {
            ram.write_slice(GuestPhys(at), bytes).map_err(|_| PvhError::Kernel(elf.end))
        };
        let rsdp = tables(low, acpi);
        if let Some(at) = rsdp {
            let tables = bios::pvh_tables(at, config);
            put(at, &tables)?;
            // A kernel that is loaded there has no use for it.
            put(SEARCHED, tables.get(..RSDP_BYTES).unwrap_or(&[]))?;
        }
        for segment in elf.segments() {
            put(segment.at, segment.bytes)?;
            let (done, zeros) = (segment.bytes.len() as u64, GuestPhys(segment.at));
            let zeros = GuestPhys(zeros.0 + done);
            ram.fill(zeros, segment.size - done, 0).map_err(|_| PvhError::Kernel(elf.end))?;
        }
        put(places.initrd, self.initrd)?;
        put(places.info, &self.start_info(&places, rsdp, map))
    }

    fn elf(&self) -> Result<Elf<'static>, PvhError> {
        if self.board { Elf::parse_plain(self.image) } else { Elf::parse(self.image) }
    }

    /// The record and what it points to, as bytes from [`Places::info`] on.
    fn start_info(&self, places: &Places, rsdp: Option<u64>, map: &[(u64, u64, u32)]) -> Vec<u8> {
        let Places { initrd, info: at, .. } = *places;
        let modules = u32::from(!self.initrd.is_empty());
        let info = StartInfo {
            magic: START_MAGIC,
            version: START_VERSION,
            flags: 0,
            nr_modules: modules,
            modlist_paddr: if modules == 0 { 0 } else { at + MODULES },
            cmdline_paddr: at + COMMAND_LINE,
            rsdp_paddr: rsdp.unwrap_or(0),
            memmap_paddr: at + MEMORY,
            memmap_entries: map.len() as u32,
            reserved: 0,
        };
        let mut bytes = alloc::vec![0; INFO_BYTES as usize];
        info.put(&mut bytes, 0, Width::Bits64);
        let size = self.initrd.len() as u64;
        let module = ModlistEntry { paddr: initrd, size, ..ModlistEntry::default() };
        if modules != 0 {
            module.put(&mut bytes, MODULES as usize, Width::Bits64);
        }
        let step = MemmapEntry::size(Width::Bits64);
        for (n, &(addr, size, kind)) in map.iter().enumerate() {
            let entry = MemmapEntry { addr, size, kind, reserved: 0 };
            entry.put(&mut bytes, MEMORY as usize + n * step, Width::Bits64);
        }
        for (to, from) in
            bytes.iter_mut().skip(COMMAND_LINE as usize).zip(self.command_line.as_bytes())
        {
            *to = *from;
        }
        bytes
    }
}
