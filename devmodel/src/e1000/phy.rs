//! The PHY behind MDIC: a Marvell 88E1011, as far as drivers look. Negotiation ends at once, at 1000 Mb/s.
//! IEEE 802.3 "Management functions"; SDM "PHY Registers".

use crate::state::{LoadError, require};

const CONTROL: usize = 0;
const STATUS: usize = 1;
const SPECIFIC_STATUS: usize = 17;

/// Status: link up, and negotiation complete.
const LINK: u16 = 1 << 2 | 1 << 5;
/// Specific status: 1000 Mb/s, full duplex, resolved, link.
const SPECIFIC_LINK: u16 = 0xAC08;
/// Control: reset and restart of negotiation clear themselves.
const RESET: u16 = 1 << 15;
const RESTART: u16 = 1 << 9;

/// Registers after reset, and which bits are writable, by number.
const REGISTERS: [(u16, u16); 32] = {
    let mut all = [(0, 0); 32];
    all[CONTROL] = (0x1140, 0x3DFF);
    all[STATUS] = (0x7949, 0);
    all[2] = (0x0141, 0); // PHY ID: Marvell
    all[3] = (0x0C20, 0); // M88E1011_I
    all[4] = (0x0DE1, 0xFFFF);
    all[5] = (0xCDE1, 0); // the partner can do everything
    all[6] = (0x000F, 0);
    all[7] = (0x2001, 0xFFFF);
    all[9] = (0x0E00, 0xFFFF);
    all[10] = (0x3C00, 0); // and 1000BASE-T
    all[15] = (0x3000, 0);
    all[16] = (0x0068, 0xFFFF);
    all[18] = (0, 0xFFFF);
    all[20] = (0x0D60, 0xFFFF);
    all[24] = (0x4100, 0xFFFF);
    all[29] = (0, 0xFFFF);
    all[30] = (0, 0xFFFF);
    all
};

/// The PHY's registers that can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phy {
    // Guest-visible
    registers: [u16; 32],
}

impl Phy {
    /// After reset.
    pub(super) fn new() -> Phy {
        Phy { registers: REGISTERS.map(|(value, _)| value) }
    }

    /// Reads a register (0 to 31) while the cable is plugged, or not.
    pub(super) fn read(&self, register: u8, link: bool) -> u16 {
        let n = usize::from(register & 31);
        let value = self.registers[n];
        match n {
            STATUS if link => value | LINK,
            SPECIFIC_STATUS if link => SPECIFIC_LINK,
            _ => value,
        }
    }

    /// Writes a register; true where negotiation starts anew, and ends.
    pub(super) fn write(&mut self, register: u8, value: u16) -> bool {
        let n = usize::from(register & 31);
        if n == CONTROL && value & RESET != 0 {
            *self = Phy::new();
            return true;
        }
        let writable = REGISTERS[n].1;
        self.registers[n] = self.registers[n] & !writable | value & writable;
        n == CONTROL && value & RESTART != 0
    }

    /// Refuses bits that no write could set.
    ///
    /// # Errors
    /// `Impossible("phy")`.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let possible = self
            .registers
            .iter()
            .zip(REGISTERS)
            .all(|(value, (reset, writable))| (value ^ reset) & !writable == 0);
        require(possible, "phy")
    }
}
