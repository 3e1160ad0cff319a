//! The I/O APIC, 24 pins. Datasheet "82093AA I/O Advanced Programmable Interrupt Controller".
//!
//! Pins go in, messages for the local APICs come out. Messages count as accepted at once. The
//! polarity bits are stored but not obeyed: the board's wires say "asserted", whatever the voltage,
//! so that a guest's belief about polarity cannot invert a line.

use crate::apicmsg::{DeliveryMode, Message, widen_destination};
use crate::state::{LoadError, require};

/// How many pins there are.
pub const PINS: u8 = 24;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
/// Vector, delivery mode, destination mode, polarity, trigger, mask, destination.
const WRITABLE: u64 = 0xFF00_0000_0001_AFFF;

/// Which chip it is, as its version register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 11h: the 82093AA.
    V11,
    /// 20h: with an EOI register at offset 40h.
    V20,
}

/// An I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoApic {
    // Fixed
    version: Version,
    // Guest-visible
    id: u8,
    select: u8,
    /// The redirection table, without remote IRR.
    entries: [u64; PINS as usize],
    /// Bit set: the pin is asserted.
    pins: u32,
    /// Bit set: the pin's level interrupt was accepted and its EOI has not come.
    remote_irr: u32,
}

/// Pins whose messages are to be sent, lowest first.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins(u32);

impl Iterator for Pins {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let pin = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        Some(pin)
    }
}

/// What an access does, by its offset in the page.
enum Window {
    Select,
    Data(Register),
    Eoi,
    Nothing,
}

enum Register {
    Id,
    Version,
    Arbitration,
    /// Entry, and whether it is the high half.
    Entry(u8, bool),
    Nothing,
}

impl IoApic {
    /// An I/O APIC after reset: every pin masked.
    #[must_use]
    pub const fn new(version: Version) -> Self {
        Self { version, id: 0, select: 0, entries: [MASKED; PINS as usize], pins: 0, remote_irr: 0 }
    }

    /// Reset. The levels of the pins stay, since others drive them.
    pub fn reset(&mut self) {
        *self = Self { pins: self.pins, ..Self::new(self.version) };
    }

    /// Reads 32 bits at `offset` of the page. What does not exist reads 0.
    #[must_use]
    pub fn read(&self, offset: u16) -> u32 {
        match self.window(offset) {
            Window::Select => u32::from(self.select),
            Window::Data(Register::Id | Register::Arbitration) => u32::from(self.id) << 24,
            Window::Data(Register::Version) => match self.version {
                Version::V11 => 0x0017_0011,
                Version::V20 => 0x0017_0020,
            },
            Window::Data(Register::Entry(pin, high)) => {
                let entry = self.entry(pin);
                if high { (entry >> 32) as u32 } else { entry as u32 }
            }
            Window::Data(Register::Nothing) | Window::Eoi | Window::Nothing => 0,
        }
    }

    /// Writes 32 bits at `offset` of the page. Returns the pins whose [`Self::message`] is to be
    /// sent.
    pub fn write(&mut self, offset: u16, value: u32) -> Pins {
        match self.window(offset) {
            Window::Select => self.select = value as u8,
            Window::Data(Register::Id) => self.id = (value >> 24) as u8 & 15,
            Window::Data(Register::Entry(pin, high)) => return self.write_entry(pin, high, value),
            Window::Eoi => return self.eoi(value as u8),
            Window::Data(Register::Version | Register::Arbitration | Register::Nothing)
            | Window::Nothing => {}
        }
        Pins(0)
    }

    /// Tells whether `pin` is asserted. Returns the message that this causes.
    #[inline]
    pub fn set_pin(&mut self, pin: u8, asserted: bool) -> Option<Message> {
        let entry = *self.entries.get(usize::from(pin))?;
        let bit = 1 << pin;
        let rises = asserted && self.pins & bit == 0;
        if !asserted {
            self.pins &= !bit;
            return None;
        }
        self.pins |= bit;
        // "Interrupt Mask": an edge on a masked pin is lost, a level is seen when unmasked.
        if entry & MASKED != 0 {
            return None;
        }
        if is_level(entry) {
            self.raise_level(bit).then(|| decode(entry))
        } else {
            rises.then(|| decode(entry))
        }
    }

    /// A rising edge and the fall after it.
    #[inline]
    pub fn pulse(&mut self, pin: u8) -> Option<Message> {
        let message = self.set_pin(pin, true);
        let _ = self.set_pin(pin, false);
        message
    }

    /// The end of a level interrupt, as local APICs broadcast it. Returns the pins that are still
    /// asserted and whose [`Self::message`] is to be sent again.
    pub fn eoi(&mut self, vector: u8) -> Pins {
        let mut again = 0;
        for pin in Pins(self.remote_irr) {
            let entry = self.entries[usize::from(pin)];
            if entry as u8 == vector {
                self.remote_irr &= !(1 << pin);
                again |= self.sample(pin);
            }
        }
        Pins(again)
    }

    /// What `pin` sends. A pin that does not exist sends a reserved message.
    #[must_use]
    pub fn message(&self, pin: u8) -> Message {
        decode(self.entries.get(usize::from(pin)).copied().unwrap_or(0x300))
    }

    /// Whether `pin` hands the 8259A's interrupts on, and to whom: virtual-wire mode.
    #[must_use]
    pub fn passes_extint(&self, pin: u8) -> bool {
        self.entries.get(usize::from(pin)).is_some_and(|entry| entry & (MASKED | 0x700) == 0x700)
    }

    /// Whether `pin` is unmasked.
    #[must_use]
    pub fn is_open(&self, pin: u8) -> bool {
        self.entries.get(usize::from(pin)).is_some_and(|entry| entry & MASKED == 0)
    }

    fn window(&self, offset: u16) -> Window {
        match (offset, self.version) {
            (0x00, _) => Window::Select,
            (0x10, _) => Window::Data(match self.select {
                0 => Register::Id,
                1 => Register::Version,
                2 => Register::Arbitration,
                0x10..=0x3F => Register::Entry((self.select - 0x10) >> 1, self.select & 1 != 0),
                _ => Register::Nothing,
            }),
            (0x40, Version::V20) => Window::Eoi,
            _ => Window::Nothing,
        }
    }

    fn entry(&self, pin: u8) -> u64 {
        let remote_irr = u64::from(self.remote_irr >> (pin & 31) & 1) * REMOTE_IRR;
        self.entries[usize::from(pin % PINS)] | remote_irr
    }

    fn write_entry(&mut self, pin: u8, high: bool, value: u32) -> Pins {
        let entry = &mut self.entries[usize::from(pin % PINS)];
        let (shift, half) = if high { (32, !0 << 32) } else { (0, 0xFFFF_FFFF) };
        *entry = *entry & !half | (u64::from(value) << shift) & WRITABLE & half;
        // Linux ends interrupts on version 11h by making the pin an edge one for a moment
        // (__eoi_ioapic_pin); real chips forget the remote IRR then.
        if !is_level(*entry) {
            self.remote_irr &= !(1 << pin);
        }
        Pins(self.sample(pin))
    }

    /// The bit of `pin` if it is a level pin that is asserted, open and not yet accepted; it is
    /// accepted then.
    fn sample(&mut self, pin: u8) -> u32 {
        let (entry, bit) = (self.entries[usize::from(pin % PINS)], 1 << pin);
        let wanted = self.pins & bit != 0 && entry & MASKED == 0 && is_level(entry);
        if wanted && self.raise_level(bit) { bit } else { 0 }
    }

    fn raise_level(&mut self, bit: u32) -> bool {
        let new = self.remote_irr & bit == 0;
        self.remote_irr |= bit;
        new
    }
}

/// Whether the pin is level-triggered. Only interrupts that get an EOI can be; the datasheet wants
/// the other modes programmed as edges.
fn is_level(entry: u64) -> bool {
    entry & LEVEL != 0 && DeliveryMode::from_bits(entry as u32 >> 8).has_vector()
}

fn decode(entry: u64) -> Message {
    Message {
        dest: widen_destination((entry >> 56) as u8),
        logical: entry >> 11 & 1 != 0,
        mode: DeliveryMode::from_bits(entry as u32 >> 8),
        vector: entry as u8,
        level: is_level(entry),
    }
}

const STATE_VERSION: u32 = 1;

/// The saved state of an I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct IoApicState {
    pub version: u32,
    pub id: u8,
    pub select: u8,
    pub entries: [u64; PINS as usize],
    pub pins: u32,
    pub remote_irr: u32,
}

impl IoApic {
    /// The state.
    #[must_use]
    pub const fn save(&self) -> IoApicState {
        let Self { version: _, id, select, entries, pins, remote_irr } = *self;
        IoApicState { version: STATE_VERSION, id, select, entries, pins, remote_irr }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or a field that no I/O APIC could hold. The chip is then unchanged.
    pub fn load(&mut self, state: &IoApicState) -> Result<(), LoadError> {
        let IoApicState { version, id, select, entries, pins, remote_irr } = *state;
        if version != STATE_VERSION {
            return Err(LoadError::Version);
        }
        require(id < 16, "id")?;
        require((pins | remote_irr) >> PINS == 0, "pins")?;
        for (pin, entry) in entries.into_iter().enumerate() {
            require(entry & !WRITABLE == 0, "entries")?;
            require(remote_irr >> pin & 1 == 0 || is_level(entry), "remote_irr")?;
        }
        *self = Self { version: self.version, id, select, entries, pins, remote_irr };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
