//! Port 92h, "system control port A": the fast A20 gate and the fast reset.
//!
//! The board ORs this A20 with the keyboard controller's, as PIIX3 does (82371SB datasheet, "PORT 92:
//! Port 92 Register").

use crate::state::{LoadError, require};

const FAST_INIT: u8 = 0x01;
const ALT_A20: u8 = 0x02;
const WRITABLE: u8 = FAST_INIT | ALT_A20;

/// Port 92h.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port92 {
    // Guest-visible
    value: u8,
}

/// What a write asks of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port92Effect {
    /// INIT to the CPU: a reset that leaves RAM and chips alone.
    Init,
}

impl Port92 {
    /// After reset: A20 masked.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: 0 }
    }

    /// Reads the port.
    #[must_use]
    pub fn read(&self) -> u8 {
        self.value
    }

    /// Writes the port. INIT follows bit 0 going from 0 to 1.
    #[must_use]
    pub fn write(&mut self, value: u8) -> Option<Port92Effect> {
        let rises = value & !self.value & FAST_INIT != 0;
        self.value = value & WRITABLE;
        rises.then_some(Port92Effect::Init)
    }

    /// The A20 output of this port.
    #[must_use]
    pub fn a20(&self) -> bool {
        self.value & ALT_A20 != 0
    }

    /// The register, to be written down.
    #[must_use]
    pub fn save(&self) -> Port92State {
        let Self { value } = *self;
        Port92State { version: Port92State::VERSION, value }
    }

    /// Takes over a saved register.
    ///
    /// # Errors
    /// Another version, or bits that the port does not have.
    pub fn load(&mut self, state: &Port92State) -> Result<(), LoadError> {
        let Port92State { version, value } = *state;
        if version != Port92State::VERSION {
            return Err(LoadError::Version);
        }
        require(value & !WRITABLE == 0, "value")?;
        *self = Self { value };
        Ok(())
    }
}

/// A saved [`Port92`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct Port92State {
    pub version: u16,
    pub value: u8,
}

impl Port92State {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn bit_1_is_a20_and_reads_back() {
        let mut port = Port92::new();
        assert!(!port.a20());
        assert_eq!(port.write(0xFE), None);
        assert!(port.a20());
        assert_eq!(port.read(), 0x02);
    }

    #[test]
    fn only_a_rising_bit_0_resets() {
        let mut port = Port92::new();
        assert_eq!(port.write(0x03), Some(Port92Effect::Init));
        assert_eq!(port.write(0x03), None);
        assert_eq!(port.write(0x02), None);
        assert_eq!(port.write(0x03), Some(Port92Effect::Init));
    }

    #[test]
    fn grub_opens_a20_without_a_reset() {
        // grub_gate_a20: read, set bit 1, clear bit 0, write.
        let mut port = Port92::new();
        let value = (port.read() & 0xFC) | 0x02;
        assert_eq!(port.write(value), None);
        assert!(port.a20());
    }

    #[test]
    fn a_random_walk_survives_save_and_load() {
        let mut rng = Rng::new(1);
        let mut port = Port92::new();
        for _ in 0..1_000 {
            let _ = port.write(rng.byte());
            let mut copy = Port92::new();
            assert_eq!(copy.load(&port.save()), Ok(()));
            assert_eq!(copy, port);
        }
        let bad = Port92State { value: 4, ..port.save() };
        assert_eq!(port.load(&bad), Err(LoadError::Impossible("value")));
        let bad = Port92State { version: 0, ..port.save() };
        assert_eq!(port.load(&bad), Err(LoadError::Version));
    }
}
