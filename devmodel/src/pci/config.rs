//! The 256 bytes of configuration space of one function: what is in them, which bits a guest may
//! write, and the base addresses. PCI Local Bus Specification 2.1, "Configuration Space".

use super::kind::Kind;

/// Bytes in a configuration space.
pub const SPACE: usize = 256;

/// Offset of the command register.
pub(super) const COMMAND: usize = 0x04;
/// Offset of the status register.
pub(super) const STATUS: usize = 0x06;
/// Offset of the first base address register.
pub(super) const BAR0: usize = 0x10;
/// Offset of the expansion-ROM base address.
pub(super) const ROM: usize = 0x30;
/// Offset of the interrupt pin.
pub(super) const INTERRUPT_PIN: usize = 0x3D;

/// Command: I/O decode.
pub(super) const COMMAND_IO: u8 = 1;
/// Command: memory decode.
pub(super) const COMMAND_MEMORY: u8 = 2;
/// Command: bus master.
pub(super) const COMMAND_MASTER: u8 = 4;
/// Command, high byte: INTx is not driven.
pub(super) const COMMAND_NO_INTX: u8 = 4;
/// Status: INTx is asserted.
pub(super) const STATUS_INTX: u8 = 8;

/// Where a region of a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// I/O ports from here on.
    Io {
        /// The first port.
        port: u16,
        /// How many.
        size: u32,
    },
    /// Memory from here on.
    Memory {
        /// The first guest-physical address.
        address: u64,
        /// How many bytes.
        size: u32,
    },
}

/// One function's configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    // Fixed
    kind: Kind,
    /// The bits that a write replaces.
    writable: [u8; SPACE],
    /// The bits that writing a one clears.
    clearable: [u8; SPACE],
    // Guest-visible
    pub(super) bytes: [u8; SPACE],
}

impl Function {
    /// A function of this kind after reset.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let mut function =
            Self { kind, writable: [0; SPACE], clearable: [0; SPACE], bytes: [0; SPACE] };
        // Interrupt line: scratch for software. Status: the error bits.
        function.writable[0x3C] = 0xFF;
        function.clearable[STATUS + 1] = 0xF9;
        kind.fill(&mut function);
        function
    }

    /// Reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.kind);
    }

    /// What the function is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The dword that holds `offset`.
    #[inline]
    #[must_use]
    pub fn dword(&self, offset: u8) -> u32 {
        let at = usize::from(offset & 0xFC);
        let bytes = &self.bytes;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// The byte at `offset`.
    #[inline]
    #[must_use]
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// The word at `offset`, of which the lowest bit is ignored.
    #[must_use]
    pub fn word(&self, offset: u8) -> u16 {
        (self.dword(offset) >> (u32::from(offset & 2) * 8)) as u16
    }

    /// Writes one byte as the guest does.
    pub(super) fn write_byte(&mut self, offset: u8, value: u8) {
        let at = usize::from(offset);
        let writable = self.writable_at(at);
        let kept = self.bytes[at] & !writable & !(self.clearable[at] & value);
        self.bytes[at] = kept | value & writable;
        self.kind.after_write(self, at);
    }

    /// The region of base address register `n` (0 to 5), while the command register lets it be
    /// decoded. An address that software is still sizing may be anywhere, or absurd.
    #[must_use]
    pub fn region(&self, n: u8) -> Option<Region> {
        let offset = (BAR0 as u8).checked_add(n.checked_mul(4)?).filter(|_| n < 6)?;
        let (value, size) = (self.dword(offset), self.size_of(usize::from(offset)));
        let command = self.bytes[COMMAND];
        if size == 0 {
            None
        } else if value & 1 != 0 {
            // While software is sizing, the upper half is not 0.
            let port = u16::try_from(value & !3).ok().filter(|port| *port != 0)?;
            (command & COMMAND_IO != 0).then_some(Region::Io { port, size })
        } else {
            let address = u64::from(value & !0xF);
            let on = command & COMMAND_MEMORY != 0 && address != 0;
            on.then_some(Region::Memory { address, size })
        }
    }

    /// The region of the expansion ROM, while it is enabled.
    #[must_use]
    pub fn rom_region(&self) -> Option<Region> {
        let (value, size) = (self.dword(ROM as u8), self.size_of(ROM));
        let on = size != 0 && value & 1 != 0 && self.bytes[COMMAND] & COMMAND_MEMORY != 0;
        let address = u64::from(value & !0x7FF);
        (on && address != 0).then_some(Region::Memory { address, size })
    }

    /// Whether the function may read and write memory by itself.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_MASTER != 0
    }

    /// Whether the function has an interrupt pin that may be driven.
    pub(super) fn drives_intx(&self) -> bool {
        self.bytes[COMMAND + 1] & COMMAND_NO_INTX == 0
    }

    /// Whether `bytes` could be this function's: only bits that can change differ from reset.
    pub(super) fn could_hold(&self, bytes: &[u8; SPACE]) -> bool {
        let reset = Self::new(self.kind);
        (0..SPACE).all(|at| {
            let intx = if at == STATUS { STATUS_INTX } else { 0 };
            let changing =
                self.writable[at] | self.clearable[at] | intx | self.kind.locked_bits(at);
            (bytes[at] ^ reset.bytes[at]) & !changing == 0
        })
    }

    fn writable_at(&self, at: usize) -> u8 {
        if self.kind.is_locked(self, at) { 0 } else { self.writable[at] }
    }

    /// The size of a base address register, which its writable bits are the mask of.
    fn size_of(&self, offset: usize) -> u32 {
        let w = &self.writable;
        let mask = u32::from_le_bytes([w[offset], w[offset + 1], w[offset + 2], w[offset + 3]]);
        let mask = if offset == ROM { mask & !0x7FF } else { mask & !3 };
        if mask == 0 { 0 } else { 1 << mask.trailing_zeros() }
    }

    // What the kinds are made with.

    pub(super) fn identity(&mut self, vendor: u16, device: u16, class: u32, revision: u8) {
        self.put16(0x00, vendor);
        self.put16(0x02, device);
        self.bytes[0x08] = revision;
        for (at, byte) in (0x09..0x0C).zip(class.to_le_bytes()) {
            self.bytes[at] = byte;
        }
    }

    pub(super) fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at] = value as u8;
        self.bytes[at + 1] = (value >> 8) as u8;
    }

    /// Lets the guest write these bits of the bytes from `at` on.
    pub(super) fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    pub(super) fn io_bar(&mut self, n: usize, size: u32) {
        self.bytes[BAR0 + 4 * n] = 1;
        // Sixteen bits of address; the upper half must hold what is written, for sizing.
        self.allow(BAR0 + 4 * n, &(!(size - 1) & !3).to_le_bytes());
    }

    /// A memory region; `size` is a power of two of at least 16 bytes.
    pub(super) fn memory_bar(&mut self, n: usize, size: u32, prefetchable: bool) {
        self.bytes[BAR0 + 4 * n] = if prefetchable { 8 } else { 0 };
        self.allow(BAR0 + 4 * n, &(!(size - 1) & !0xF).to_le_bytes());
    }

    pub(super) fn rom_bar(&mut self, size: u32) {
        self.allow(ROM, &(!(size - 1) & !0x7FF | 1).to_le_bytes());
    }
}
