//! The reset-control register, port CF9h. Datasheet "82371SB (PIIX3)", "Reset Control Register".

use crate::state::{LoadError, require};

/// SRST: what kind of reset bit 2 starts.
const HARD: u8 = 1 << 1;
/// RCPU: a rise from 0 to 1 starts it.
const START: u8 = 1 << 2;
/// What is kept. Bit 3 (a full reset, with power taken away) is for later chips' drivers.
const WRITABLE: u8 = 0x0E;

/// The reset that a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The CPUs only: INIT.
    Soft,
    /// The whole machine.
    Hard,
}

/// The reset-control register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetControl {
    // Guest-visible
    value: u8,
}

/// The saved state of the register.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the field is the register")]
pub struct ResetControlState {
    pub version: u32,
    pub value: u8,
}

const VERSION: u32 = 1;

impl ResetControl {
    /// The register after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: 0 }
    }

    /// Reset.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Reads port CF9h.
    #[must_use]
    pub const fn read(&self) -> u8 {
        self.value
    }

    /// Writes port CF9h.
    #[must_use]
    pub fn write(&mut self, value: u8) -> Option<Reset> {
        let starts = value & START != 0 && self.value & START == 0;
        self.value = value & WRITABLE;
        starts.then_some(if value & HARD != 0 { Reset::Hard } else { Reset::Soft })
    }

    /// The state.
    #[must_use]
    pub const fn save(&self) -> ResetControlState {
        let Self { value } = *self;
        ResetControlState { version: VERSION, value }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or bits that the register does not have.
    pub fn load(&mut self, state: &ResetControlState) -> Result<(), LoadError> {
        let ResetControlState { version, value } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        require(value & !WRITABLE == 0, "value")?;
        *self = Self { value };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn only_a_rise_of_bit_2_resets_and_bit_1_says_how() {
        let mut port = ResetControl::new();
        assert_eq!(port.write(0x02), None);
        assert_eq!(port.write(0x06), Some(Reset::Hard));
        assert_eq!(port.write(0x06), None, "no rise");
        assert_eq!(port.write(0x00), None);
        assert_eq!(port.write(0xF5), Some(Reset::Soft));
        assert_eq!(port.read(), 0x04);
        port.reset();
        assert_eq!(port.read(), 0);
    }

    /// Linux 6.1, native_machine_emergency_restart by BOOT_CF9_FORCE.
    #[test]
    fn linux_reboot_script() {
        let mut port = ResetControl::new();
        let cf9 = port.read() & !0x0E;
        assert_eq!(port.write(cf9 | 0x02), None);
        assert_eq!(port.write(cf9 | 0x0E), Some(Reset::Hard));
    }

    #[test]
    fn a_random_walk_survives_save_and_load() {
        let (mut rng, mut port) = (Rng::new(7), ResetControl::new());
        for _ in 0..1_000 {
            let was = port.read();
            let value = rng.byte();
            assert_eq!(port.write(value).is_some(), value & !was & START != 0);
            let mut copy = ResetControl::new();
            copy.load(&port.save()).unwrap();
            assert_eq!(copy, port);
        }
        let bad = ResetControlState { version: VERSION, value: 1 };
        assert_eq!(port.load(&bad), Err(LoadError::Impossible("value")));
        let old = ResetControlState { version: 0, value: 0 };
        assert_eq!(port.load(&old), Err(LoadError::Version));
    }
}
