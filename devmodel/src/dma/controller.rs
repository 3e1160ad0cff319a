//! One 8237: four channels, counted in its own units (bytes or words).

use super::TransferKind;
use crate::state::{LoadError, require};

const COMMAND_DISABLE: u8 = 0x04;
const MODE_AUTO_INIT: u8 = 0x10;
const MODE_DECREMENT: u8 = 0x20;
const MODE_CASCADE: u8 = 0xC0;

/// What an open channel would move next.
pub(super) struct Request {
    pub(super) address: u16,
    /// Units less one.
    pub(super) count: u16,
    pub(super) kind: TransferKind,
    pub(super) downwards: bool,
}

/// A channel's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the datasheet's names")]
pub struct ChannelRegisters {
    pub base_address: u16,
    pub base_count: u16,
    pub address: u16,
    /// Units left, less one.
    pub count: u16,
    /// Bits 7 to 2 of the mode register.
    pub mode: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Controller {
    // Guest-visible
    channels: [ChannelRegisters; 4],
    command: u8,
    mask: u8,
    /// Bits 3 to 0 of status: terminal count reached since the last read.
    terminal_count: u8,
    dreq: u8,
    /// Software requests.
    request: u8,
    flip_flop: bool,
}

impl Controller {
    pub(super) const fn new() -> Self {
        const RESET: ChannelRegisters =
            ChannelRegisters { base_address: 0, base_count: 0, address: 0, count: 0, mode: 0 };
        Self {
            channels: [RESET; 4],
            command: 0,
            mask: 0x0F,
            terminal_count: 0,
            dreq: 0,
            request: 0,
            flip_flop: false,
        }
    }

    pub(super) fn read(&mut self, offset: u8) -> u8 {
        match offset {
            0..=7 => {
                let channel = self.channels[usize::from(offset / 2)];
                let value = if offset & 1 == 0 { channel.address } else { channel.count };
                value.to_le_bytes()[usize::from(self.flip())]
            }
            8 => {
                let status = (self.dreq | self.request) << 4 | self.terminal_count;
                self.terminal_count = 0;
                status
            }
            // The temporary register, only used by memory-to-memory transfers.
            13 => 0,
            // Not in the 8237; the later chip sets read the mask here.
            15 => self.mask | 0xF0,
            _ => 0xFF,
        }
    }

    pub(super) fn write(&mut self, offset: u8, value: u8) {
        let bit = 1 << (value & 3);
        match offset {
            0..=7 => self.write_channel(offset, value),
            8 => self.command = value,
            9 if value & 4 != 0 => self.request |= bit,
            9 => self.request &= !bit,
            10 if value & 4 != 0 => self.mask |= bit,
            10 => self.mask &= !bit,
            11 => self.channels[usize::from(value & 3)].mode = value & 0xFC,
            12 => self.flip_flop = false,
            13 => self.master_clear(),
            14 => self.mask = 0,
            _ => self.mask = value & 0x0F,
        }
    }

    pub(super) fn set_dreq(&mut self, channel: u8, level: bool) {
        let bit = 1 << (channel & 3);
        if level {
            self.dreq |= bit;
        } else {
            self.dreq &= !bit;
        }
    }

    pub(super) fn disabled(&self) -> bool {
        self.command & COMMAND_DISABLE != 0
    }

    pub(super) fn request(&self, channel: u8) -> Option<Request> {
        let registers = self.channels[usize::from(channel & 3)];
        let masked = self.mask & (1 << (channel & 3)) != 0;
        if self.disabled() || masked || registers.mode & MODE_CASCADE == MODE_CASCADE {
            return None;
        }
        // 8237A datasheet, "Mode Register".
        let kind = match registers.mode >> 2 & 3 {
            0 => TransferKind::Verify,
            1 => TransferKind::Write,
            2 => TransferKind::Read,
            _ => return None,
        };
        Some(Request {
            address: registers.address,
            count: registers.count,
            kind,
            downwards: registers.mode & MODE_DECREMENT != 0,
        })
    }

    /// `units` (at least 1, at most the count plus one) have been moved. True at terminal count.
    pub(super) fn advance(&mut self, channel: u8, units: u32) -> bool {
        let bit = 1 << (channel & 3);
        let registers = &mut self.channels[usize::from(channel & 3)];
        let moved = units as u16;
        registers.address = if registers.mode & MODE_DECREMENT != 0 {
            registers.address.wrapping_sub(moved)
        } else {
            registers.address.wrapping_add(moved)
        };
        let ended = units > u32::from(registers.count);
        registers.count = registers.count.wrapping_sub(moved);
        if ended {
            self.terminal_count |= bit;
            self.request &= !bit;
            if registers.mode & MODE_AUTO_INIT != 0 {
                registers.address = registers.base_address;
                registers.count = registers.base_count;
            } else {
                // "The mask bit is set ... by an EOP if the channel is not programmed for
                // Autoinitialize."
                self.mask |= bit;
            }
        }
        ended
    }

    fn write_channel(&mut self, offset: u8, value: u8) {
        let high = self.flip();
        let registers = &mut self.channels[usize::from(offset / 2)];
        let (base, current) = if offset & 1 == 0 {
            (&mut registers.base_address, &mut registers.address)
        } else {
            (&mut registers.base_count, &mut registers.count)
        };
        for register in [base, current] {
            let mut bytes = register.to_le_bytes();
            bytes[usize::from(high)] = value;
            *register = u16::from_le_bytes(bytes);
        }
    }

    /// The byte pointer flip-flop: false is the low byte; it turns with each use.
    fn flip(&mut self) -> bool {
        let high = self.flip_flop;
        self.flip_flop = !high;
        high
    }

    fn master_clear(&mut self) {
        self.command = 0;
        self.mask = 0x0F;
        self.terminal_count = 0;
        self.request = 0;
        self.flip_flop = false;
    }

    pub(super) fn save(&self) -> ControllerState {
        let Self { channels, command, mask, terminal_count, dreq, request, flip_flop } = *self;
        ControllerState { channels, command, mask, terminal_count, dreq, request, flip_flop }
    }

    pub(super) fn load(state: &ControllerState) -> Result<Self, LoadError> {
        let ControllerState { channels, command, mask, terminal_count, dreq, request, flip_flop } =
            *state;
        require(mask < 16, "mask")?;
        require(terminal_count < 16 && dreq < 16 && request < 16, "status")?;
        require(channels.iter().all(|channel| channel.mode & 3 == 0), "mode")?;
        Ok(Self { channels, command, mask, terminal_count, dreq, request, flip_flop })
    }
}

/// A saved controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct ControllerState {
    pub channels: [ChannelRegisters; 4],
    pub command: u8,
    pub mask: u8,
    pub terminal_count: u8,
    pub dreq: u8,
    pub request: u8,
    pub flip_flop: bool,
}
