//! The file `etc/table-loader`: how firmware is to place tables that it gets as files, and what to
//! patch in them. QEMU's linker/loader interface, entries of 128 bytes.

use alloc::vec::Vec;

use super::items::padded;

const ENTRY: usize = 128;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;

/// Where a file is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// High memory.
    High = 1,
    /// Between F0000h and FFFFFh, for the RSDP.
    FSegment = 2,
}

/// The script, while it is put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderScript {
    bytes: Vec<u8>,
}

impl LoaderScript {
    /// An empty script.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads `file` into memory at a multiple of `align`, a power of two.
    pub fn allocate(&mut self, file: &str, align: u32, zone: Zone) -> &mut Self {
        self.entry(ALLOCATE, &[&padded(file), &align.to_le_bytes(), &[zone as u8]])
    }

    /// Adds the address of `target` to the `size` bytes at `offset` in `file`.
    pub fn add_pointer(&mut self, file: &str, target: &str, offset: u32, size: u8) -> &mut Self {
        let fields: [&[u8]; 4] = [&padded(file), &padded(target), &offset.to_le_bytes(), &[size]];
        self.entry(ADD_POINTER, &fields)
    }

    /// Makes the `length` bytes from `start` in `file` sum to 0 by the byte at `offset`.
    pub fn add_checksum(&mut self, file: &str, offset: u32, start: u32, length: u32) -> &mut Self {
        let numbers = [offset, start, length].map(u32::to_le_bytes);
        self.entry(ADD_CHECKSUM, &[&padded(file), numbers.as_flattened()])
    }

    /// The file's content.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn entry(&mut self, command: u32, fields: &[&[u8]]) -> &mut Self {
        let end = self.bytes.len() + ENTRY;
        self.bytes.extend_from_slice(&command.to_le_bytes());
        for field in fields {
            self.bytes.extend_from_slice(field);
        }
        self.bytes.resize(end, 0);
        self
    }
}
