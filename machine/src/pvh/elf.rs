//! ELF executables that ask for PVH: their segments, and the note or field that says where they begin. TIS "Executable and
//! Linking Format"; Xen docs "misc/pvh", public "elfnote.h".
//!
//! Both widths, little-endian. A header is read field by field: nothing in the file is trusted.

use super::PvhError;
use pvdrivers::abi::start_info::{ELFNOTE_NAME, ELFNOTE_PHYS32_ENTRY};

/// Most entries of either header table that are looked at.
const MAX_HEADERS: u64 = 128;
/// Where 32-bit addresses end.
const FOUR_GIB: u64 = 1 << 32;

/// Where the ELF header's entry is, in both widths.
const ENTRY: usize = 24;

const PT_LOAD: u64 = 1;
const PT_NOTE: u64 = 4;
const SHT_NOTE: u64 = 7;

/// Where fields are in headers of one width: their offsets, and their bytes.
struct Fields {
    /// Bytes of an address or offset.
    word: usize,
    program_table: usize,
    program_size: usize,
    program_count: usize,
    section_table: usize,
    section_size: usize,
    section_count: usize,
    // In a program header.
    file_offset: usize,
    physical: usize,
    file_bytes: usize,
    memory_bytes: usize,
    // In a section header.
    section_offset: usize,
    section_bytes: usize,
}

const FIELDS_32: Fields = Fields {
    word: 4,
    program_table: 28,
    program_size: 42,
    program_count: 44,
    section_table: 32,
    section_size: 46,
    section_count: 48,
    file_offset: 4,
    physical: 12,
    file_bytes: 16,
    memory_bytes: 20,
    section_offset: 16,
    section_bytes: 20,
};

const FIELDS_64: Fields = Fields {
    word: 8,
    program_table: 32,
    program_size: 54,
    program_count: 56,
    section_table: 40,
    section_size: 58,
    section_count: 60,
    file_offset: 8,
    physical: 24,
    file_bytes: 32,
    memory_bytes: 40,
    section_offset: 24,
    section_bytes: 32,
};

/// A part of the file that belongs into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its physical address.
    pub at: u64,
    /// What the file has of it; no more than `size`.
    pub bytes: &'a [u8],
    /// Its bytes in memory; what the file does not have is zero. It ends below 4 GiB.
    pub size: u64,
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.at + self.size
    }
}

/// An executable that was looked through.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    file: File<'a>,
    /// Where it begins: inside of a segment.
    pub entry: u32,
    /// Its first byte in memory.
    pub start: u64,
    /// The first byte behind it.
    pub end: u64,
}

impl<'a> Elf<'a> {
    /// Looks a file through that begins where Xen's note says.
    ///
    /// # Errors
    /// [`PvhError`]: everything that keeps it from being started, but for the size of memory.
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, PvhError> {
        Elf::look_through(bytes, |file| file.note_entry()?.ok_or(PvhError::NoNote))
    }

    /// Looks a file through that begins where its header says.
    ///
    /// # Errors
    /// As [`Elf::parse`].
    pub fn parse_plain(bytes: &'a [u8]) -> Result<Elf<'a>, PvhError> {
        Elf::look_through(bytes, |file| file.number(ENTRY, file.fields().word))
    }

    fn look_through(
        bytes: &'a [u8],
        entry: fn(&File<'a>) -> Result<u64, PvhError>,
    ) -> Result<Elf<'a>, PvhError> {
        let file = File::open(bytes)?;
        let (mut start, mut end) = (u64::MAX, 0);
        for (n, segment) in file.segments().enumerate() {
            let segment = segment?;
            start = start.min(segment.at);
            end = end.max(segment.end());
            let overlaps = |other: Result<Segment<'_>, PvhError>| {
                other.is_ok_and(|other| other.at < segment.end() && segment.at < other.end())
            };
            if file.segments().take(n).any(overlaps) {
                return Err(PvhError::Overlap);
            }
        }
        if end == 0 {
            return Err(PvhError::NoSegments);
        }
        let entry = entry(&file)?;
        let inside = |segment: Result<Segment<'_>, PvhError>| {
            segment.is_ok_and(|segment| (segment.at..segment.end()).contains(&entry))
        };
        match u32::try_from(entry) {
            Ok(address) if file.segments().any(inside) => {
                Ok(Elf { file, entry: address, start, end })
            }
            _ => Err(PvhError::Entry(entry)),
        }
    }

    /// What belongs into memory.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        // `parse` has seen that all are good.
        self.file.segments().filter_map(Result::ok)
    }
}

/// A file with an ELF header of a known kind.
#[derive(Clone, Copy, Debug)]
struct File<'a> {
    bytes: &'a [u8],
    wide: bool,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<File<'a>, PvhError> {
        if bytes.get(0x202..0x206) == Some(b"HdrS") {
            return Err(PvhError::BzImage);
        }
        let wide = match bytes.get(..6) {
            Some([0x7f, b'E', b'L', b'F', 1, 1]) => false,
            Some([0x7f, b'E', b'L', b'F', 2, 1]) => true,
            _ => return Err(PvhError::NotElf),
        };
        let file = File { bytes, wide };
        // ELF "e_machine": EM_386, EM_X86_64.
        match file.number(18, 2)? {
            3 | 62 => Ok(file),
            _ => Err(PvhError::NotX86),
        }
    }

    fn fields(&self) -> &'static Fields {
        if self.wide { &FIELDS_64 } else { &FIELDS_32 }
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&self, at: usize, width: usize) -> Result<u64, PvhError> {
        let end = at.checked_add(width).ok_or(PvhError::Truncated)?;
        let bytes = self.bytes.get(at..end).ok_or(PvhError::Truncated)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A piece of the file.
    fn piece(&self, at: u64, len: u64) -> Result<&'a [u8], PvhError> {
        let end = at.checked_add(len).ok_or(PvhError::Truncated)?;
        let range = usize::try_from(at).ok().zip(usize::try_from(end).ok());
        let (at, end) = range.ok_or(PvhError::Truncated)?;
        self.bytes.get(at..end).ok_or(PvhError::Truncated)
    }

    /// Where the headers of a table are.
    fn table(
        &self,
        table: usize,
        size: usize,
        count: usize,
    ) -> Result<impl Iterator<Item = usize> + use<>, PvhError> {
        let base = self.number(table, self.fields().word)?;
        let (size, count) = (self.number(size, 2)?, self.number(count, 2)?);
        if count > MAX_HEADERS {
            return Err(PvhError::TooManyHeaders);
        }
        let all = size.checked_mul(count).ok_or(PvhError::Truncated)?;
        self.piece(base, all)?;
        // In the file, and so below usize::MAX.
        Ok((0..count).map(move |n| (base + n * size) as usize))
    }

    fn program_headers(&self) -> Result<impl Iterator<Item = usize> + use<>, PvhError> {
        let fields = self.fields();
        self.table(fields.program_table, fields.program_size, fields.program_count)
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment<'a>, PvhError>> + use<'a> {
        let file = *self;
        let headers = self.program_headers();
        let bad = headers.as_ref().err().copied();
        let parts = headers.ok().into_iter().flatten().filter_map(move |at| file.segment(at));
        bad.map(Err).into_iter().chain(parts)
    }

    /// The segment that the program header at `at` tells of; `None` for what needs no memory.
    fn segment(&self, at: usize) -> Option<Result<Segment<'a>, PvhError>> {
        let fields = self.fields();
        let read = || {
            let field = |offset: usize| self.number(at + offset, fields.word);
            if self.number(at, 4)? != PT_LOAD || field(fields.memory_bytes)? == 0 {
                return Ok(None);
            }
            let (address, size) = (field(fields.physical)?, field(fields.memory_bytes)?);
            let len = field(fields.file_bytes)?;
            if len > size {
                return Err(PvhError::Truncated);
            }
            if address.checked_add(size).is_none_or(|end| end > FOUR_GIB) {
                return Err(PvhError::TooHigh);
            }
            let bytes = self.piece(field(fields.file_offset)?, len)?;
            Ok(Some(Segment { at: address, bytes, size }))
        };
        read().transpose()
    }

    /// What the note says, from the note segments, or where there are none from the note sections.
    fn note_entry(&self) -> Result<Option<u64>, PvhError> {
        let fields = self.fields();
        let word = |at: usize| self.number(at, fields.word);
        for at in self.program_headers()? {
            if self.number(at, 4)? == PT_NOTE {
                let (offset, len) = (word(at + fields.file_offset)?, word(at + fields.file_bytes)?);
                if let Some(entry) = note(self.piece(offset, len)?) {
                    return Ok(Some(entry));
                }
            }
        }
        // A file without a section table may have anything in these fields.
        if word(fields.section_table)? == 0 {
            return Ok(None);
        }
        let sections =
            self.table(fields.section_table, fields.section_size, fields.section_count)?;
        for at in sections {
            if self.number(at + 4, 4)? == SHT_NOTE {
                let offset = word(at + fields.section_offset)?;
                let len = word(at + fields.section_bytes)?;
                if let Some(entry) = note(self.piece(offset, len)?) {
                    return Ok(Some(entry));
                }
            }
        }
        Ok(None)
    }
}

/// Looks for Xen's note in a run of notes: name and description each fill words of 4 bytes.
fn note(mut notes: &[u8]) -> Option<u64> {
    loop {
        let field = |n: usize| -> Option<usize> {
            let bytes = notes.get(4 * n..4 * n + 4)?;
            usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
        };
        let (name_len, len, kind) = (field(0)?, field(1)?, field(2)?);
        let rest = notes.get(12..)?;
        let name = rest.get(..name_len)?;
        let rest = rest.get(name_len.next_multiple_of(4)..)?;
        let description = rest.get(..len)?;
        if name == ELFNOTE_NAME && kind == ELFNOTE_PHYS32_ENTRY as usize && matches!(len, 4 | 8) {
            let low = description.iter().rev();
            return Some(low.fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        notes = rest.get(len.next_multiple_of(4)..)?;
    }
}
