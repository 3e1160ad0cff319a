//! The 8259A programmable interrupt controller, and the PC's cascaded pair with PIIX3's ELCR.
//!
//! 8086 mode only: ICW1's LTIM and the MCS-80 bits are accepted and ignored, as PIIX3 does
//! (82371SB datasheet, "ICW1: Initialization Command Word 1"), because the ELCR decides edge or level.
//! An edge request lasts only while its line stays high (8259A datasheet, "Edge and Level
//! Triggered Modes"). `pair.rs` has the pair, `tests.rs` the scripts.

use crate::state::{LoadError, require};

mod pair;
#[cfg(test)]
mod tests;

pub use pair::{PicPair, PicPairState, PicUnit};

/// One 8259A. Its two ports are offset 0 (A0 = 0) and offset 1 (A0 = 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pic {
    // Fixed
    /// The lines that the ELCR may make level triggered.
    elcr_mask: u8,
    /// The line on which a slave hangs (one bit), 0 on the slave itself.
    cascade: u8,
    // Guest-visible
    lines: u8,
    irr: u8,
    isr: u8,
    imr: u8,
    elcr: u8,
    icw2: u8,
    icw3: u8,
    expects: Expects,
    icw1_ic4: bool,
    icw1_single: bool,
    /// The line with the highest priority, 0 to 7; moved by the rotating commands.
    highest: u8,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_fully_nested: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

/// What the next write to offset 1 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Ocw1,
    Icw2,
    Icw3,
    Icw4,
}

/// OCW2's upper three bits (8259A datasheet, "Operation Command Word 2").
enum Ocw2 {
    Eoi { line: Option<u8>, rotate: bool },
    RotateOnAutoEoi(bool),
    SetPriority(u8),
    Nothing,
}

impl Ocw2 {
    fn decode(value: u8) -> Self {
        let line = value & 7;
        match value >> 5 {
            0 => Self::RotateOnAutoEoi(false),
            1 => Self::Eoi { line: None, rotate: false },
            3 => Self::Eoi { line: Some(line), rotate: false },
            4 => Self::RotateOnAutoEoi(true),
            5 => Self::Eoi { line: None, rotate: true },
            6 => Self::SetPriority(line),
            7 => Self::Eoi { line: Some(line), rotate: true },
            _ => Self::Nothing,
        }
    }
}

impl Pic {
    /// A chip at power-on. `elcr_mask` are the lines that may be level triggered, `cascade` is the
    /// bit of the line on which a slave hangs (0 on a slave).
    #[must_use]
    pub const fn new(elcr_mask: u8, cascade: u8) -> Self {
        Self {
            elcr_mask,
            cascade,
            lines: 0,
            irr: 0,
            isr: 0,
            imr: 0,
            elcr: 0,
            icw2: 0,
            icw3: 0,
            expects: Expects::Ocw1,
            icw1_ic4: false,
            icw1_single: false,
            highest: 0,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            special_fully_nested: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }

    /// Drives an IR input, `line` 0 to 7 (higher numbers are taken modulo 8).
    pub fn set_irq(&mut self, line: u8, level: bool) {
        let bit = 1 << (line & 7);
        if level {
            if (self.elcr | !self.lines) & bit != 0 {
                self.irr |= bit;
            }
            self.lines |= bit;
        } else {
            self.lines &= !bit;
            self.irr &= !bit;
        }
    }

    /// The INT output.
    #[must_use]
    pub fn intr(&self) -> bool {
        self.request().is_some()
    }

    /// The line that would be served by an INTA now.
    #[must_use]
    pub fn request(&self) -> Option<u8> {
        let requests = self.irr & !self.imr;
        if requests == 0 {
            return None;
        }
        let line = self.first(requests);
        let inhibitors = if self.special_mask { self.isr & !self.imr } else { self.isr };
        if inhibitors == 0 {
            return Some(line);
        }
        // A slave may interrupt itself in the special fully nested mode (8259A datasheet, "The
        // Special Fully Nested Mode"): its line competes as an equal, everything else must be better.
        let served = self.first(inhibitors);
        let rank = |line: u8| line.wrapping_sub(self.highest) & 7;
        let nested = self.special_fully_nested && line == served && self.cascade & (1 << line) != 0;
        (rank(line) < rank(served) || nested).then_some(line)
    }

    /// Both INTA cycles: puts the request into service and returns its vector. Without a request
    /// it answers as line 7 and serves nothing (8259A datasheet, "default IR7").
    pub fn acknowledge(&mut self) -> u8 {
        match self.request() {
            Some(line) => {
                self.serve(line);
                self.icw2 | line
            }
            None => self.icw2 | 7,
        }
    }

    /// Reads offset 0 (IRR or ISR) or 1 (IMR); after a poll command either is the poll word.
    pub fn read(&mut self, offset: u8) -> u8 {
        if self.poll {
            return self.read_poll_word();
        }
        match (offset & 1, self.read_isr) {
            (1, _) => self.imr,
            (_, true) => self.isr,
            (_, false) => self.irr,
        }
    }

    /// Writes offset 0 (ICW1, OCW2, OCW3) or 1 (OCW1, ICW2 to ICW4).
    pub fn write(&mut self, offset: u8, value: u8) {
        match offset & 1 {
            0 if value & 0x10 != 0 => self.icw1(value),
            0 if value & 0x08 != 0 => self.ocw3(value),
            0 => self.ocw2(value),
            _ => match self.expects {
                Expects::Ocw1 => self.imr = value,
                Expects::Icw2 => {
                    self.icw2 = value & 0xF8;
                    self.expects = if self.icw1_single { self.after_icw3() } else { Expects::Icw3 };
                }
                Expects::Icw3 => {
                    self.icw3 = value;
                    self.expects = self.after_icw3();
                }
                Expects::Icw4 => {
                    self.special_fully_nested = value & 0x10 != 0;
                    self.auto_eoi = value & 0x02 != 0;
                    self.expects = Expects::Ocw1;
                }
            },
        }
    }

    /// The mask register, for whoever only looks.
    #[must_use]
    pub fn imr(&self) -> u8 {
        self.imr
    }

    /// The edge/level control register: a set bit makes that line level triggered.
    #[must_use]
    pub fn elcr(&self) -> u8 {
        self.elcr
    }

    /// Writes the edge/level control register; bits of lines that must be edge stay 0.
    pub fn write_elcr(&mut self, value: u8) {
        let old = self.elcr;
        self.elcr = value & self.elcr_mask;
        self.irr &= !(old & !self.elcr);
        self.irr |= self.lines & self.elcr;
    }

    fn icw1(&mut self, value: u8) {
        // 8259A datasheet, "Initialization Command Words": the edge sense circuit is reset, so an
        // edge line must fall and rise again.
        self.irr &= self.elcr;
        self.isr = 0;
        self.imr = 0;
        self.highest = 0;
        self.icw3 = 7;
        self.auto_eoi = false;
        self.rotate_on_auto_eoi = false;
        self.special_fully_nested = false;
        self.special_mask = false;
        self.read_isr = false;
        self.poll = false;
        self.icw1_ic4 = value & 0x01 != 0;
        self.icw1_single = value & 0x02 != 0;
        self.expects = Expects::Icw2;
    }

    fn after_icw3(&self) -> Expects {
        if self.icw1_ic4 { Expects::Icw4 } else { Expects::Ocw1 }
    }

    fn ocw2(&mut self, value: u8) {
        match Ocw2::decode(value) {
            Ocw2::Eoi { line, rotate } => self.end_of_interrupt(line, rotate),
            Ocw2::RotateOnAutoEoi(on) => self.rotate_on_auto_eoi = on,
            Ocw2::SetPriority(lowest) => self.highest = (lowest + 1) & 7,
            Ocw2::Nothing => {}
        }
    }

    fn end_of_interrupt(&mut self, line: Option<u8>, rotate: bool) {
        // Under the special mask a masked in-service bit is not the non-specific EOI's to clear
        // (8259A datasheet, "End of Interrupt (EOI)").
        let candidates = if self.special_mask { self.isr & !self.imr } else { self.isr };
        let line = match line {
            Some(line) => line,
            None if candidates == 0 => return,
            None => self.first(candidates),
        };
        self.isr &= !(1 << line);
        if rotate {
            self.highest = (line + 1) & 7;
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 0x04 != 0;
        if !self.poll && value & 0x02 != 0 {
            self.read_isr = value & 0x01 != 0;
        }
    }

    fn read_poll_word(&mut self) -> u8 {
        self.poll = false;
        match self.request() {
            Some(line) => {
                self.serve(line);
                0x80 | line
            }
            None => 0,
        }
    }

    fn serve(&mut self, line: u8) {
        let bit = 1 << line;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_on_auto_eoi {
            self.highest = (line + 1) & 7;
        }
    }

    /// The line with the best priority among `bits`, which are not all 0.
    fn first(&self, bits: u8) -> u8 {
        let rank = bits.rotate_right(u32::from(self.highest)).trailing_zeros() as u8;
        rank.wrapping_add(self.highest) & 7
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> PicState {
        let Self {
            elcr_mask: _,
            cascade: _,
            lines,
            irr,
            isr,
            imr,
            elcr,
            icw2,
            icw3,
            expects,
            icw1_ic4,
            icw1_single,
            highest,
            auto_eoi,
            rotate_on_auto_eoi,
            special_fully_nested,
            special_mask,
            read_isr,
            poll,
        } = *self;
        PicState {
            version: PicState::VERSION,
            lines,
            irr,
            isr,
            imr,
            elcr,
            icw2,
            icw3,
            expects_icw: match expects {
                Expects::Ocw1 => 0,
                Expects::Icw2 => 2,
                Expects::Icw3 => 3,
                Expects::Icw4 => 4,
            },
            icw1_ic4,
            icw1_single,
            highest,
            auto_eoi,
            rotate_on_auto_eoi,
            special_fully_nested,
            special_mask,
            read_isr,
            poll,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; the chip is then unchanged.
    pub fn load(&mut self, state: &PicState) -> Result<(), LoadError> {
        let PicState {
            version,
            lines,
            irr,
            isr,
            imr,
            elcr,
            icw2,
            icw3,
            expects_icw,
            icw1_ic4,
            icw1_single,
            highest,
            auto_eoi,
            rotate_on_auto_eoi,
            special_fully_nested,
            special_mask,
            read_isr,
            poll,
        } = *state;
        if version != PicState::VERSION {
            return Err(LoadError::Version);
        }
        require(irr & !lines == 0, "irr")?;
        require(elcr & !self.elcr_mask == 0, "elcr")?;
        require((irr ^ lines) & elcr == 0, "irr")?;
        require(icw2 & 7 == 0, "icw2")?;
        require(highest < 8, "highest")?;
        let expects = match expects_icw {
            0 => Expects::Ocw1,
            2 => Expects::Icw2,
            3 => Expects::Icw3,
            4 => Expects::Icw4,
            _ => return Err(LoadError::Impossible("expects_icw")),
        };
        *self = Self {
            elcr_mask: self.elcr_mask,
            cascade: self.cascade,
            lines,
            irr,
            isr,
            imr,
            elcr,
            icw2,
            icw3,
            expects,
            icw1_ic4,
            icw1_single,
            highest,
            auto_eoi,
            rotate_on_auto_eoi,
            special_fully_nested,
            special_mask,
            read_isr,
            poll,
        };
        Ok(())
    }
}

/// A saved [`Pic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct PicState {
    pub version: u16,
    pub lines: u8,
    pub irr: u8,
    pub isr: u8,
    pub imr: u8,
    pub elcr: u8,
    pub icw2: u8,
    pub icw3: u8,
    /// 0 outside initialization, else the number of the ICW that comes next.
    pub expects_icw: u8,
    pub icw1_ic4: bool,
    pub icw1_single: bool,
    pub highest: u8,
    pub auto_eoi: bool,
    pub rotate_on_auto_eoi: bool,
    pub special_fully_nested: bool,
    pub special_mask: bool,
    pub read_isr: bool,
    pub poll: bool,
}

impl PicState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
