//! The PC's two 8237 DMA controllers with their page registers.
//!
//! The controllers move no bytes themselves: a device asks with [`Dma::transfer`] where its next bytes
//! go, moves them through the board, and says how many with [`Dma::advance`]. Channels 0 to 3 count
//! bytes, 5 to 7 words. Left out: memory-to-memory transfers (no PC wires them; command bit 0 is
//! stored) and compressed timing.

use crate::state::LoadError;

mod controller;
#[cfg(test)]
mod tests;

use controller::Controller;
pub use controller::{ChannelRegisters, ControllerState};

/// Which of the two chips a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaUnit {
    /// Channels 0 to 3: ports 00h to 0Fh, register offset = port.
    Bytes,
    /// Channels 4 to 7: ports C0h to DEh, register offset = (port - C0h) / 2.
    Words,
}

/// What a device may move next, all within one piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The physical address of the next byte (or word, in bytes). Below 16 MiB.
    pub address: u32,
    /// Bytes to terminal count or to the end of the 64 KiB page (128 KiB for words), whichever
    /// comes first: 1 to 131,072.
    pub bytes: u32,
    /// Which way.
    pub kind: TransferKind,
    /// Addresses fall instead of rise: byte n belongs to `address - n` (words likewise).
    pub downwards: bool,
}

/// The direction, named as the 8237's mode register names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// From the device into memory.
    Write,
    /// From memory to the device.
    Read,
    /// Counts and addresses run, memory is left alone.
    Verify,
}

/// Both controllers and the page registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dma {
    // Guest-visible
    units: [Controller; 2],
    /// Ports 80h to 8Fh; those that belong to no channel are plain storage.
    pages: [u8; 16],
}

impl Default for Dma {
    fn default() -> Self {
        Self::new()
    }
}

/// The page register of each channel, as offset from 80h (82371SB datasheet, "DMA Memory Low Page
/// Registers").
const PAGE_OF_CHANNEL: [u8; 8] = [7, 3, 1, 2, 15, 11, 9, 10];

impl Dma {
    /// Both chips after reset: every channel masked.
    #[must_use]
    pub const fn new() -> Self {
        Self { units: [Controller::new(), Controller::new()], pages: [0; 16] }
    }

    /// Reads register `offset` (0 to 15) of one chip.
    pub fn read(&mut self, unit: DmaUnit, offset: u8) -> u8 {
        self.units[unit as usize].read(offset & 15)
    }

    /// Writes register `offset` (0 to 15) of one chip.
    pub fn write(&mut self, unit: DmaUnit, offset: u8, value: u8) {
        self.units[unit as usize].write(offset & 15, value);
    }

    /// Reads page register 80h + `offset`.
    #[must_use]
    pub fn read_page(&self, offset: u8) -> u8 {
        self.pages[usize::from(offset & 15)]
    }

    /// Writes page register 80h + `offset`.
    pub fn write_page(&mut self, offset: u8, value: u8) {
        self.pages[usize::from(offset & 15)] = value;
    }

    /// Drives the DREQ input of `channel` (0 to 7); the guest sees it in the status register.
    pub fn set_dreq(&mut self, channel: u8, level: bool) {
        if let Some(unit) = self.units.get_mut(usize::from(channel / 4)) {
            unit.set_dreq(channel & 3, level);
        }
    }

    /// Where the next bytes of `channel` go. None while the channel is masked or its controller is
    /// disabled, and for a channel in cascade mode: the device waits. That channel 4 must be open for
    /// channels 0 to 3 is not modelled: some firmware never programs it.
    #[must_use]
    pub fn transfer(&self, channel: u8) -> Option<Transfer> {
        let index = usize::from(channel);
        let word = u32::from(index >= 4);
        let request = self.units.get(index / 4)?.request(channel & 3)?;
        let page = u32::from(self.read_page(PAGE_OF_CHANNEL[index & 7]));
        // Words: the page's bit 0 is not used, A16 comes from the address register.
        let base = (page & !word) << 16;
        let in_page = if request.downwards {
            u32::from(request.address) + 1
        } else {
            0x1_0000 - u32::from(request.address)
        };
        let units = in_page.min(u32::from(request.count) + 1);
        Some(Transfer {
            address: base + (u32::from(request.address) << word),
            bytes: units << word,
            kind: request.kind,
            downwards: request.downwards,
        })
    }

    /// `bytes` of the last [`Dma::transfer`] have been moved (more than it allowed are ignored; an
    /// odd byte of a word channel too). True at terminal count, the TC pin of the device.
    pub fn advance(&mut self, channel: u8, bytes: u32) -> bool {
        let Some(transfer) = self.transfer(channel) else { return false };
        let units = bytes.min(transfer.bytes) >> u32::from(channel >= 4);
        match self.units.get_mut(usize::from(channel / 4)) {
            Some(unit) if units > 0 => unit.advance(channel & 3, units),
            _ => false,
        }
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> DmaState {
        let Self { units, pages } = self;
        DmaState {
            version: DmaState::VERSION,
            units: units.each_ref().map(Controller::save),
            pages: *pages,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; nothing changes then.
    pub fn load(&mut self, state: &DmaState) -> Result<(), LoadError> {
        let DmaState { version, units: [bytes, words], pages } = state;
        if *version != DmaState::VERSION {
            return Err(LoadError::Version);
        }
        *self = Self { units: [Controller::load(bytes)?, Controller::load(words)?], pages: *pages };
        Ok(())
    }
}

/// A saved [`Dma`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chips' own of the same name")]
pub struct DmaState {
    pub version: u16,
    pub units: [ControllerState; 2],
    pub pages: [u8; 16],
}

impl DmaState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
