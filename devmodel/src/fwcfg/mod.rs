//! The firmware configuration device that SeaBIOS and OVMF ask: selector, data, and DMA.
//! QEMU's "QEMU Firmware Configuration (fw_cfg) Device" documents the interface.
//!
//! What it tells is given once (`items`); `loader` writes the script by which firmware places ACPI
//! tables. Left out: items that the guest writes.

mod items;
mod loader;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;

use crate::state::LoadError;

use items::Item;

pub use items::{Items, ItemsError, MemoryKind, MemoryRange, key};
pub use loader::{LoaderScript, Zone};

/// DMA control: the request failed.
pub const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;

/// What the DMA address register reads as: "QEMU CFG".
const DMA_SIGNATURE: u64 = 0x5145_4D55_2043_4647;

/// What a DMA request wants of the board, which afterwards stores `control` (big-endian, 32 bits)
/// over the first field of the descriptor.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dma {
    /// Store `length` bytes at guest-physical `address`: what [`FwCfg::take`] gives, then zeros.
    Read {
        /// Where to.
        address: u64,
        /// How many bytes.
        length: u32,
    },
    /// Nothing more to do: store 0.
    Done,
    /// The request cannot be served: store [`DMA_ERROR`].
    Failed,
}

/// The device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfg {
    // Fixed
    /// Sorted by key.
    items: Box<[Item]>,
    // Guest-visible
    selector: u16,
    offset: u32,
    /// The upper half of the DMA address, until the lower is written.
    dma_high: u32,
    // Derived
    /// Which item is selected; one past the last when there is no such item.
    selected: usize,
}

/// The saved state. What the items hold is configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct FwCfgState {
    pub version: u32,
    pub selector: u16,
    pub offset: u32,
    pub dma_high: u32,
}

const VERSION: u32 = 1;

impl FwCfg {
    /// A device that tells these items.
    #[must_use]
    pub fn new(items: Items) -> Self {
        let items = items.finish();
        let mut device = Self { items, selector: 0, offset: 0, dma_high: 0, selected: 0 };
        device.select(0);
        device
    }

    /// Reset.
    pub fn reset(&mut self) {
        self.dma_high = 0;
        self.select(0);
    }

    /// Port 510h, written as 16 bits: selects an item, from its beginning.
    pub fn select(&mut self, selector: u16) {
        // Bit 14 asks to write, which no item allows.
        self.selector = selector & !0x4000;
        self.offset = 0;
        self.selected = self.find(self.selector);
    }

    /// Port 511h: the next byte of the item, 0 beyond its end.
    #[inline]
    pub fn read(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.offset = self.offset.saturating_add(1);
        byte
    }

    /// Reads 32 bits of the DMA address register at 514h (0) or 518h (4), in port order.
    #[must_use]
    pub const fn read_dma(&self, offset: u8) -> u32 {
        let half = if offset & 4 == 0 { DMA_SIGNATURE >> 32 } else { DMA_SIGNATURE };
        (half as u32).swap_bytes()
    }

    /// Writes 32 bits of the DMA address register at 514h (0) or 518h (4), in port order. The
    /// second half returns the guest-physical address of the descriptor for [`Self::begin`].
    #[must_use]
    pub fn write_dma(&mut self, offset: u8, value: u32) -> Option<u64> {
        let value = value.swap_bytes();
        if offset & 4 == 0 {
            self.dma_high = value;
            return None;
        }
        let high = core::mem::take(&mut self.dma_high);
        Some(u64::from(high) << 32 | u64::from(value))
    }

    /// Begins the DMA request of this descriptor: control, length and address, big-endian.
    pub fn begin(&mut self, descriptor: [u8; 16]) -> Dma {
        let bits = u128::from_be_bytes(descriptor);
        let (control, length, address) = ((bits >> 96) as u32, (bits >> 64) as u32, bits as u64);
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        if control & DMA_READ != 0 {
            Dma::Read { address, length }
        } else if control & DMA_WRITE != 0 {
            Dma::Failed
        } else {
            if control & DMA_SKIP != 0 {
                self.offset = self.offset.saturating_add(length);
            }
            Dma::Done
        }
    }

    /// Moves on by `length` bytes and returns those of them that the item has; the rest are zeros.
    pub fn take(&mut self, length: u32) -> &[u8] {
        let from = self.offset;
        self.offset = from.saturating_add(length);
        let bytes: &[u8] = self.items.get(self.selected).map_or(&[], |item| &item.bytes);
        let end = bytes.len().min(self.offset as usize);
        bytes.get(from as usize..end).unwrap_or(&[])
    }

    /// The state.
    #[must_use]
    pub fn save(&self) -> FwCfgState {
        let Self { items: _, selector, offset, dma_high, selected: _ } = *self;
        FwCfgState { version: VERSION, selector, offset, dma_high }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or a selector that cannot be.
    pub fn load(&mut self, state: &FwCfgState) -> Result<(), LoadError> {
        let FwCfgState { version, selector, offset, dma_high } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        crate::state::require(selector & 0x4000 == 0, "selector")?;
        self.select(selector);
        (self.offset, self.dma_high) = (offset, dma_high);
        Ok(())
    }

    fn find(&self, key: u16) -> usize {
        self.items.binary_search_by_key(&key, |item| item.key).unwrap_or(self.items.len())
    }

    fn rest(&self) -> &[u8] {
        let bytes: &[u8] = self.items.get(self.selected).map_or(&[], |item| &item.bytes);
        bytes.get(self.offset as usize..).unwrap_or(&[])
    }
}
