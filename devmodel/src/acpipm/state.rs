//! The saved state of the power-management registers.

use crate::state::{LoadError, require};

use super::{AcpiPm, CONTROL_BITS, ENABLE_BITS, STATUS_BITS};

const VERSION: u32 = 1;

/// What the power-management registers must remember. The PM timer follows from the time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct AcpiPmState {
    pub version: u32,
    pub status: u16,
    pub enable: u16,
    pub control: u16,
    pub gpe_status: u16,
    pub gpe_enable: u16,
    pub apm_command: u8,
    pub apm_status: u8,
    pub changes: u64,
}

impl AcpiPm {
    /// The state.
    #[must_use]
    pub const fn save(&self) -> AcpiPmState {
        let Self {
            config: _,
            status,
            enable,
            control,
            gpe_status,
            gpe_enable,
            apm_command,
            apm_status,
            changes,
        } = *self;
        AcpiPmState {
            version: VERSION,
            status,
            enable,
            control,
            gpe_status,
            gpe_enable,
            apm_command,
            apm_status,
            changes,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or bits that the registers do not have. The chip is then unchanged.
    pub fn load(&mut self, state: &AcpiPmState) -> Result<(), LoadError> {
        let AcpiPmState {
            version,
            status,
            enable,
            control,
            gpe_status,
            gpe_enable,
            apm_command,
            apm_status,
            changes,
        } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        require(status & !STATUS_BITS == 0, "status")?;
        require(enable & !ENABLE_BITS == 0, "enable")?;
        require(control & !CONTROL_BITS == 0, "control")?;
        // 2^64 ns are fewer than 2^56 ticks.
        require(changes < 1 << 40, "changes")?;
        *self = Self {
            config: self.config,
            status,
            enable,
            control,
            gpe_status,
            gpe_enable,
            apm_command,
            apm_status,
            changes,
        };
        Ok(())
    }
}
