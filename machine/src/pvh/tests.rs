//! Kernels of every good and bad kind, and what memory holds when a good one starts.

use super::*;
use arch::addr::GuestPhys;
use core::sync::atomic::AtomicU64;
use elf::{Elf, Segment};
use pvdrivers::abi::start_info::{ELFNOTE_NAME, ELFNOTE_PHYS32_ENTRY};
use std::vec;

const MIB: u64 = 1 << 20;

/// An ELF file to be made.
struct Made {
    wide: bool,
    machine: u16,
    /// Physical address, bytes in the file, bytes in memory.
    loads: Vec<(u64, Vec<u8>, u64)>,
    /// Notes: name, type, description.
    notes: Vec<(&'static [u8], u32, Vec<u8>)>,
    /// The notes stand in a section that no segment shows.
    in_section: bool,
}

impl Made {
    fn new(wide: bool) -> Made {
        let entry = u64::to_le_bytes(MIB + 8).to_vec();
        let machine = if wide { 62 } else { 3 };
        let loads = vec![(MIB, vec![0x90; 16], 0x3000)];
        let notes = vec![
            (&b"GNU\0"[..], 3, vec![1, 2, 3, 4, 5]),
            (&ELFNOTE_NAME[..], ELFNOTE_PHYS32_ENTRY, entry),
        ];
        Made { wide, machine, loads, notes, in_section: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut notes = Vec::new();
        for (name, kind, description) in &self.notes {
            for field in [name.len() as u32, description.len() as u32, *kind] {
                notes.extend_from_slice(&field.to_le_bytes());
            }
            for part in [*name, &description[..]] {
                notes.extend_from_slice(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }
        let word = if self.wide { 8 } else { 4 };
        let (header, program, section) = if self.wide { (64, 56, 64) } else { (52, 32, 40) };
        let count = self.loads.len() + usize::from(!self.in_section);
        let sections = header + count * program;
        let mut data = sections + usize::from(self.in_section) * section;
        let mut file = vec![0; data];
        let mut put = |at: usize, value: u64, width: usize| {
            file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        };
        put(0, 0x464c_457f, 4);
        put(4, if self.wide { 2 } else { 1 }, 1);
        put(5, 1, 1);
        put(16, 2, 2);
        put(18, self.machine.into(), 2);
        let (table, tail) = if self.wide { (32, 54) } else { (28, 42) };
        put(table, header as u64, word);
        put(tail, program as u64, 2);
        put(tail + 2, count as u64, 2);
        let mut parts: Vec<(u64, u64, Vec<u8>, u64)> = Vec::new();
        parts.extend(self.loads.iter().map(|(at, bytes, size)| (1, *at, bytes.clone(), *size)));
        if self.in_section {
            put(table + word, sections as u64, word);
            put(tail + 4, section as u64, 2);
            put(tail + 6, 1, 2);
            let at = sections;
            put(at + 4, 7, 4);
            put(at + if self.wide { 24 } else { 16 }, data as u64, word);
            put(at + if self.wide { 32 } else { 20 }, notes.len() as u64, word);
            data += notes.len();
        } else {
            parts.push((4, 0, notes.clone(), 0));
        }
        for (n, (kind, address, bytes, size)) in parts.iter().enumerate() {
            let at = header + n * program;
            put(at, *kind, 4);
            let fields = if self.wide { [8, 24, 32, 40] } else { [4, 12, 16, 20] };
            for (field, value) in
                fields.iter().zip([data as u64, *address, bytes.len() as u64, *size])
            {
                put(at + field, value, word);
            }
            data += bytes.len();
        }
        if self.in_section {
            file.extend_from_slice(&notes);
        }
        for (_, _, bytes, _) in &parts {
            file.extend_from_slice(bytes);
        }
        file
    }

    fn error(&self) -> PvhError {
        Elf::parse(&self.bytes()).unwrap_err()
    }
}

fn kernel(made: &Made, initrd: usize) -> Pvh {
    let initrd = vec![0x49; initrd].leak();
    Pvh { image: made.bytes().leak(), initrd, command_line: "quiet \"x\"".into(), board: false }
}

fn ram(bytes: u64) -> GuestRam {
    let cells: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(u64::MAX)).collect();
    GuestRam::new(cells.leak(), &[])
}

#[test]
fn the_note_is_found_in_both_widths_and_in_sections_too() {
    for wide in [false, true] {
        for in_section in [false, true] {
            let made = Made { in_section, ..Made::new(wide) };
            let bytes = made.bytes();
            let elf = Elf::parse(&bytes).unwrap();
            assert_eq!((elf.entry, elf.start, elf.end), (0x10_0008, MIB, MIB + 0x3000));
            let segment = Segment { at: MIB, bytes: &[0x90; 16], size: 0x3000 };
            assert_eq!(elf.segments().collect::<Vec<_>>(), [segment]);
        }
    }
    let mut short = Made::new(true);
    short.notes[1].2.truncate(4);
    assert_eq!(Elf::parse(&short.bytes()).unwrap().entry, 0x10_0008);
}

#[test]
fn each_kind_of_bad_kernel_is_told_by_its_own_word() {
    let mut linux = vec![0; 1024];
    linux[0x202..0x206].copy_from_slice(b"HdrS");
    assert_eq!(Elf::parse(&linux).unwrap_err(), PvhError::BzImage);
    assert_eq!(Elf::parse(b"").unwrap_err(), PvhError::NotElf);
    assert_eq!(Elf::parse(b"\x7fELF\x02\x02\x01").unwrap_err(), PvhError::NotElf);
    assert_eq!(Made { machine: 183, ..Made::new(true) }.error(), PvhError::NotX86);
    assert_eq!(Made { notes: Vec::new(), ..Made::new(false) }.error(), PvhError::NoNote);
    assert_eq!(Made { loads: Vec::new(), ..Made::new(false) }.error(), PvhError::NoSegments);
    let load = |at, size| (at, vec![1; 4], size);
    let made = |loads| Made { loads, ..Made::new(true) };
    assert_eq!(made(vec![load(MIB, 64), load(MIB + 63, 64)]).error(), PvhError::Overlap);
    assert_eq!(made(vec![load((1 << 32) - 8, 64)]).error(), PvhError::TooHigh);
    assert_eq!(made(vec![load(u64::MAX, 64)]).error(), PvhError::TooHigh);
    assert_eq!(made(vec![load(MIB, 3)]).error(), PvhError::Truncated);
    assert_eq!(made(vec![load(2 * MIB, 64)]).error(), PvhError::Entry(0x10_0008));
    assert_eq!(made(vec![load(MIB, 64); 129]).error(), PvhError::TooManyHeaders);
    let mut far = Made::new(true);
    far.notes[1].2 = u64::MAX.to_le_bytes().to_vec();
    assert_eq!(far.error(), PvhError::Entry(u64::MAX));
}

#[test]
fn in_place_of_firmware_it_begins_where_its_header_says() {
    for wide in [false, true] {
        let mut bytes = Made { notes: Vec::new(), ..Made::new(wide) }.bytes();
        let mut begin = |at: u64| {
            let width = if wide { 8 } else { 4 };
            bytes[24..24 + width].copy_from_slice(&at.to_le_bytes()[..width]);
            Elf::parse_plain(&bytes).map(|elf| elf.entry)
        };
        assert_eq!(begin(MIB + 4), Ok(0x10_0004));
        assert_eq!(begin(MIB - 1), Err(PvhError::Entry(MIB - 1)));
    }
    let made = Made::new(true);
    let pvh = Pvh { board: true, ..kernel(&made, 0) };
    assert_eq!(pvh.places(4 * MIB, true), Err(PvhError::Entry(0)));
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    for in_section in [false, true] {
        let bytes = Made { in_section, ..Made::new(true) }.bytes();
        for len in 0..bytes.len() {
            assert!(Elf::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn kernel_initrd_and_record_lie_one_behind_the_other() {
    let ram = ram(4 * MIB);
    let pvh = kernel(&Made::new(true), 5000);
    let config = BiosConfig { low_ram: ram.low_size(), ..BiosConfig::default() };
    pvh.place(&ram, &config, &memory_map(ram.low_size(), 0, true)).unwrap();
    let places = pvh.places(ram.low_size(), true).unwrap();
    assert_eq!(places, Places { entry: 0x10_0008, initrd: MIB + 0x3000, info: MIB + 0x5000 });
    let read = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        ram.read(GuestPhys(at), &mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(MIB, 17), [&[0x90; 16][..], &[0]].concat(), "what the file lacks is zero");
    assert_eq!(read(MIB + 0x2fff, 1), [0]);
    let info = StartInfo::get(&read(places.info, 56), 0, Width::Bits64);
    assert_eq!((info.magic, info.version, info.nr_modules), (START_MAGIC, 1, 1));
    assert_eq!(read(info.cmdline_paddr, 10), b"quiet \"x\"\0");
    let module = ModlistEntry::get(&read(info.modlist_paddr, 32), 0, Width::Bits64);
    assert_eq!((module.paddr, module.size), (places.initrd, 5000));
    assert_eq!(read(module.paddr, 5000), vec![0x49; 5000]);
    assert_eq!(&read(info.rsdp_paddr, 8), b"RSD PTR ");
    assert_eq!(read(info.rsdp_paddr, 36), read(SEARCHED, 36));
    let map: Vec<(u64, u64, u32)> = (0..info.memmap_entries)
        .map(|n| read(info.memmap_paddr + 24 * u64::from(n), 24))
        .map(|bytes| MemmapEntry::get(&bytes, 0, Width::Bits64))
        .map(|entry| (entry.addr, entry.size, entry.kind))
        .collect();
    assert_eq!(
        map,
        [(0, 4 * MIB - 0x1_0000, 1), (4 * MIB - 0x1_0000, 0x1_0000, 3), (0xfeff_8000, 0x8000, 2)]
    );
    let bare = BiosConfig { acpi: false, ..config };
    kernel(&Made::new(false), 0).place(&ram, &bare, &[]).unwrap();
    let info = StartInfo::get(&read(MIB + 0x3000, 56), 0, Width::Bits64);
    assert_eq!((info.rsdp_paddr, info.nr_modules, info.modlist_paddr), (0, 0, 0));
}

#[test]
fn what_does_not_fit_is_refused_before_memory_changes() {
    let big = Made { loads: vec![(MIB, vec![1; 16], 3 * MIB)], ..Made::new(true) };
    let config = BiosConfig::default();
    let ram = ram(4 * MIB);
    let refused = |made: &Made, initrd| kernel(made, initrd).place(&ram, &config, &[]).unwrap_err();
    assert_eq!(refused(&big, 0), PvhError::Kernel(4 * MIB));
    assert_eq!(refused(&Made::new(true), 3 << 20), PvhError::Initrd(3 * MIB));
    let long = Pvh { command_line: "x".repeat(4096), ..kernel(&Made::new(true), 0) };
    assert_eq!(long.place(&ram, &config, &[]), Err(PvhError::CommandLine));
    assert_eq!(ram.read_u64(GuestPhys(MIB)), Some(u64::MAX));
    assert_eq!(ram.read_u64(GuestPhys(4 * MIB - 0x1_0000)), Some(u64::MAX));
}
