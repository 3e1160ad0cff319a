//! The debug ports: E9h (Bochs), 402h (SeaBIOS, OVMF) and the POST-code latch 80h.
//!
//! What is written to E9h or 402h is a character for the host's log; the board hands it on as it
//! is. Reading E9h or 402h gives E9h, by which firmware finds out that someone listens (Bochs
//! documentation, "port_e9_hack"; SeaBIOS `qemu_debug_preinit`).

use crate::state::LoadError;

/// What E9h and 402h read as.
pub const DEBUGCON_PRESENT: u8 = 0xE9;

/// The debug console and the POST code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debugcon {
    // Guest-visible
    post_code: u8,
}

impl Debugcon {
    /// Both ports at power-on.
    #[must_use]
    pub const fn new() -> Self {
        Self { post_code: 0 }
    }

    /// Reads E9h or 402h.
    #[must_use]
    pub const fn read(&self) -> u8 {
        DEBUGCON_PRESENT
    }

    /// Writes E9h or 402h: returns the character for the host's log.
    #[must_use]
    pub const fn write(&self, value: u8) -> u8 {
        value
    }

    /// Reads port 80h: the latch, where a PC has DMA page register 0 underneath.
    #[inline]
    #[must_use]
    pub const fn post_code(&self) -> u8 {
        self.post_code
    }

    /// Writes port 80h. Linux writes here as an I/O delay, so this does nothing else.
    #[inline]
    pub const fn write_post_code(&mut self, value: u8) {
        self.post_code = value;
    }

    /// The latch, to be written down.
    #[must_use]
    pub const fn save(&self) -> DebugconState {
        let Self { post_code } = *self;
        DebugconState { version: DebugconState::VERSION, post_code }
    }

    /// Takes over a saved latch.
    ///
    /// # Errors
    /// Another version.
    pub fn load(&mut self, state: &DebugconState) -> Result<(), LoadError> {
        let DebugconState { version, post_code } = *state;
        if version != DebugconState::VERSION {
            return Err(LoadError::Version);
        }
        *self = Self { post_code };
        Ok(())
    }
}

/// A saved [`Debugcon`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct DebugconState {
    pub version: u16,
    pub post_code: u8,
}

impl DebugconState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seabios_finds_the_console_and_prints() {
        let debugcon = Debugcon::new();
        assert_eq!(debugcon.read(), 0xE9);
        assert_eq!(debugcon.write(b'S'), b'S');
    }

    #[test]
    fn the_post_code_is_kept_and_saved() {
        let mut debugcon = Debugcon::new();
        for code in 0..=255 {
            debugcon.write_post_code(code);
            let mut copy = Debugcon::new();
            assert_eq!(copy.load(&debugcon.save()), Ok(()));
            assert_eq!(copy.post_code(), code);
        }
        let bad = DebugconState { version: 2, ..debugcon.save() };
        assert_eq!(debugcon.load(&bad), Err(LoadError::Version));
    }
}
