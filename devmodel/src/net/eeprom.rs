//! The 93C46 serial EEPROM of the cards: 64 words of 16 bits behind four pins. Microchip 93C46B,
//! "Functional Description". It can only be read: writes are taken for commands that do nothing.

use crate::state::{LoadError, require};

/// Words in it.
pub const WORDS: usize = 64;

/// What it is doing while its chip-select pin is high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waits for the start bit.
    #[default]
    Start,
    /// Takes operation and address: so many bits so far.
    Command {
        /// The bits.
        bits: u8,
        /// How many, 0 to 7.
        count: u8,
    },
    /// Gives words: the next bit's number from the start of the memory; 0 bits given yet is the
    /// dummy bit.
    Reading {
        /// The bit on the output pin, 1 to 1,024; 0 for the dummy bit.
        position: u16,
        /// The first word.
        word: u8,
    },
    /// Took another command, and says ready.
    Done,
}

/// The chip's pins and where it is. Its words belong to the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eeprom {
    // Guest-visible
    select: bool,
    clock: bool,
    phase: Phase,
}

impl Eeprom {
    /// Sets the input pins: chip select, clock, data.
    pub fn set_pins(&mut self, select: bool, clock: bool, data: bool) {
        let rising = select && clock && !self.clock;
        if !select {
            self.phase = Phase::Start;
        }
        (self.select, self.clock) = (select, clock);
        if rising {
            self.phase = self.clocked(data);
        }
    }

    fn clocked(&self, data: bool) -> Phase {
        match self.phase {
            Phase::Start if data => Phase::Command { bits: 0, count: 0 },
            Phase::Start => Phase::Start,
            Phase::Command { bits, count } => {
                let bits = bits << 1 | u8::from(data);
                match (count, bits >> 6) {
                    (0..7, _) => Phase::Command { bits, count: count + 1 },
                    (_, 0b10) => Phase::Reading { position: 0, word: bits & 0x3F },
                    _ => Phase::Done,
                }
            }
            // The memory is read around and around.
            Phase::Reading { position, word } => {
                Phase::Reading { position: position % (16 * WORDS as u16) + 1, word }
            }
            Phase::Done => Phase::Done,
        }
    }

    /// The output pin. It floats high while nothing is read.
    #[must_use]
    pub fn output(&self, words: &[u16; WORDS]) -> bool {
        match self.phase {
            Phase::Reading { position: 0, .. } => false,
            Phase::Reading { position, word } => {
                let bit = position - 1;
                let word = words[(usize::from(word) + usize::from(bit / 16)) % WORDS];
                word >> (15 - bit % 16) & 1 != 0
            }
            _ => true,
        }
    }

    /// Refuses what [`Eeprom::set_pins`] could not lead to.
    ///
    /// # Errors
    /// `Impossible("eeprom")`.
    pub fn check(&self) -> Result<(), LoadError> {
        let possible = match self.phase {
            Phase::Command { bits, count } => count < 8 && u32::from(bits) < 1 << count,
            Phase::Reading { position, word } => position <= 16 * 64 && word < 64,
            Phase::Start | Phase::Done => true,
        };
        require(possible && (self.select || self.phase == Phase::Start), "eeprom")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Reads a word as Linux's e1000 and 8139too do: leading zeros, start, 10b, six bits.
    fn read(chip: &mut Eeprom, words: &[u16; WORDS], at: u8) -> u16 {
        chip.set_pins(true, false, false);
        for bit in (0..11).rev() {
            let data = (0b110 << 6 | u16::from(at)) >> bit & 1 != 0;
            chip.set_pins(true, false, data);
            chip.set_pins(true, true, data);
        }
        let word = (0..16).fold(0, |word, _| {
            chip.set_pins(true, false, false);
            chip.set_pins(true, true, false);
            word << 1 | u16::from(chip.output(words))
        });
        chip.set_pins(false, false, false);
        word
    }

    #[test]
    fn words_are_read_bit_by_bit_from_the_top() {
        let words = core::array::from_fn(|n| (n as u16).wrapping_mul(0x3579) ^ 0xA5F0);
        let mut chip = Eeprom::default();
        for at in [0, 1, 5, 63, 0] {
            assert_eq!(read(&mut chip, &words, at), words[usize::from(at)]);
        }
    }

    #[test]
    fn a_read_goes_on_with_the_next_word_and_other_commands_do_nothing() {
        let mut words = [0; WORDS];
        (words[63], words[0]) = (0x8001, 0x7FFE);
        let mut chip = Eeprom::default();
        chip.set_pins(true, false, false);
        let mut clock = |data| {
            chip.set_pins(true, false, data);
            chip.set_pins(true, true, data);
            chip.output(&words)
        };
        for data in [true, true, false, true, true, true, true, true] {
            assert!(clock(data));
        }
        assert!(!clock(true), "the dummy bit");
        let bits = (0..32).fold(0, |sum, _| sum << 1 | u32::from(clock(false)));
        assert_eq!(bits, 0x8001_7FFE);
        chip.set_pins(false, false, false);
        chip.set_pins(true, false, true);
        for _ in 0..30 {
            chip.set_pins(true, true, true);
            chip.set_pins(true, false, true);
        }
        assert!(chip.output(&words), "ready");
    }

    #[test]
    fn random_pins_never_lead_where_no_chip_could_be() {
        let (mut rng, mut chip) = (Rng::new(93), Eeprom::default());
        for _ in 0..20_000 {
            chip.set_pins(!rng.one_in(200), rng.one_in(2), rng.one_in(2));
            let _ = chip.output(&[0; WORDS]);
            chip.check().unwrap();
        }
        let broken = Eeprom { phase: Phase::Reading { position: 1025, word: 0 }, ..chip };
        assert_eq!(broken.check(), Err(LoadError::Impossible("eeprom")));
    }
}
