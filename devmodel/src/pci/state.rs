//! The saved state of the PCI bus.

use crate::state::{LoadError, require};

use super::config::{INTERRUPT_PIN, SPACE};
use super::{Bus, DevFn, MAX_FUNCTIONS, STATUS, STATUS_INTX};

const VERSION: u32 = 1;

/// What a function must remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionState {
    /// Device number times 8 plus function number.
    pub place: u8,
    /// Its configuration space.
    pub bytes: [u8; SPACE],
}

/// What the bus must remember. Which functions there are is configuration, and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct BusState {
    pub version: u32,
    pub address: u32,
    pub functions: [Option<FunctionState>; MAX_FUNCTIONS],
    pub intx: u16,
}

impl Bus {
    /// The state.
    #[must_use]
    pub fn save(&self) -> BusState {
        let Self { slots: _, places, count, address, functions, intx, pirqs: _, routes: _ } = self;
        let mut saved = [None; MAX_FUNCTIONS];
        for (n, slot) in saved.iter_mut().enumerate().take(*count) {
            *slot = Some(FunctionState { place: places[n].bits(), bytes: functions[n].bytes });
        }
        BusState { version: VERSION, address: *address, functions: saved, intx: *intx }
    }

    /// Takes over a saved state. The board must then rebuild its decode.
    ///
    /// # Errors
    /// Another version, other functions, or bits that they could not hold. The bus is then
    /// unchanged.
    pub fn load(&mut self, state: &BusState) -> Result<(), LoadError> {
        let BusState { version, address, functions, intx } = state;
        if *version != VERSION {
            return Err(LoadError::Version);
        }
        require(address & !0x80FF_FFFC == 0, "address")?;
        for (n, saved) in functions.iter().enumerate() {
            let Some(saved) = saved else {
                require(n >= self.count && intx >> n & 1 == 0, "functions")?;
                continue;
            };
            require(n < self.count && DevFn(saved.place) == self.places[n], "functions")?;
            require(self.functions[n].could_hold(&saved.bytes), "configuration space")?;
            let asserted = intx >> n & 1 != 0;
            require((saved.bytes[STATUS] & STATUS_INTX != 0) == asserted, "intx")?;
            require(!asserted || saved.bytes[INTERRUPT_PIN] != 0, "intx without a pin")?;
        }
        (self.address, self.intx) = (*address, *intx);
        for (function, saved) in self.functions.iter_mut().zip(functions) {
            if let Some(saved) = saved {
                function.bytes = saved.bytes;
            }
        }
        self.reroute();
        Ok(())
    }
}
