//! The PC's two 8259As: the slave's INT is the master's IR2; ELCR at 4D0h and 4D1h.

use super::{Pic, PicState};
use crate::state::LoadError;

/// The master's line on which the slave hangs.
const CASCADE_LINE: u8 = 2;
/// Lines 0, 1 and 2 are always edge (82371SB datasheet, "ELCR1: Edge/Level Control Register").
const MASTER_ELCR_MASK: u8 = 0xF8;
/// Lines 8 and 13 are always edge (82371SB datasheet, "ELCR2: Edge/Level Control Register").
const SLAVE_ELCR_MASK: u8 = 0xDE;

/// Which of the two chips a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicUnit {
    /// Ports 20h and 21h, ELCR 4D0h, IRQ 0 to 7.
    Master,
    /// Ports A0h and A1h, ELCR 4D1h, IRQ 8 to 15.
    Slave,
}

/// The cascaded pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicPair {
    pub(super) master: Pic,
    pub(super) slave: Pic,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// The pair at power-on: not initialized, every line low.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            master: Pic::new(MASTER_ELCR_MASK, 1 << CASCADE_LINE),
            slave: Pic::new(SLAVE_ELCR_MASK, 0),
        }
    }

    /// Drives IRQ `line`, 0 to 15. IRQ2 is the cascade and has no pin: driving it does nothing.
    #[inline]
    pub fn set_irq(&mut self, line: u8, level: bool) {
        match line {
            CASCADE_LINE => {}
            0..=7 => self.master.set_irq(line, level),
            8..=15 => {
                self.slave.set_irq(line - 8, level);
                self.cascade();
            }
            _ => {}
        }
    }

    /// The INTR pin to the CPU (and LINT0, and the I/O APIC's ExtINT input).
    #[inline]
    #[must_use]
    pub fn intr(&self) -> bool {
        self.master.intr()
    }

    /// The CPU's interrupt acknowledge: returns the vector and puts the line into service.
    pub fn acknowledge(&mut self) -> u8 {
        if self.master.request() != Some(CASCADE_LINE) {
            return self.master.acknowledge();
        }
        self.master.acknowledge();
        let vector = self.slave.acknowledge();
        // INT falls during INTA; what is still pending makes a new edge for the master.
        self.master.set_irq(CASCADE_LINE, false);
        self.cascade();
        vector
    }

    /// Reads offset 0 or 1 of one chip.
    #[inline]
    pub fn read(&mut self, unit: PicUnit, offset: u8) -> u8 {
        match unit {
            PicUnit::Master => self.master.read(offset),
            PicUnit::Slave => {
                let value = self.slave.read(offset);
                self.cascade();
                value
            }
        }
    }

    /// Writes offset 0 or 1 of one chip.
    #[inline]
    pub fn write(&mut self, unit: PicUnit, offset: u8, value: u8) {
        match unit {
            PicUnit::Master => self.master.write(offset, value),
            PicUnit::Slave => {
                self.slave.write(offset, value);
                self.cascade();
            }
        }
    }

    /// Reads ELCR1 (4D0h) or ELCR2 (4D1h).
    #[must_use]
    pub fn read_elcr(&self, unit: PicUnit) -> u8 {
        match unit {
            PicUnit::Master => self.master.elcr(),
            PicUnit::Slave => self.slave.elcr(),
        }
    }

    /// Writes ELCR1 (4D0h) or ELCR2 (4D1h).
    pub fn write_elcr(&mut self, unit: PicUnit, value: u8) {
        match unit {
            PicUnit::Master => self.master.write_elcr(value),
            PicUnit::Slave => {
                self.slave.write_elcr(value);
                self.cascade();
            }
        }
    }

    /// The mask of IRQ 0 to 15, a set bit for each masked line.
    #[must_use]
    pub fn imr(&self) -> u16 {
        u16::from_le_bytes([self.master.imr(), self.slave.imr()])
    }

    /// Carries the slave's INT to the master's IR2.
    #[inline]
    fn cascade(&mut self) {
        self.master.set_irq(CASCADE_LINE, self.slave.intr());
    }

    /// Both chips' registers.
    #[must_use]
    pub fn save(&self) -> PicPairState {
        let Self { master, slave } = self;
        PicPairState { master: master.save(), slave: slave.save() }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// As [`Pic::load`]; also when the master's IR2 is not the slave's INT. Nothing changes then.
    pub fn load(&mut self, state: &PicPairState) -> Result<(), LoadError> {
        let PicPairState { master, slave } = state;
        let mut new = self.clone();
        new.master.load(master)?;
        new.slave.load(slave)?;
        crate::state::require(
            (new.master.lines & (1 << CASCADE_LINE) != 0) == new.slave.intr(),
            "cascade",
        )?;
        *self = new;
        Ok(())
    }
}

/// A saved [`PicPair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "one state a chip")]
pub struct PicPairState {
    pub master: PicState,
    pub slave: PicState,
}
