//! The saved state of an HPET.

use arch::Nanos;

use crate::state::{LoadError, require};

use super::comparator::{Comparator, NEVER, WRITABLE};
use super::{ENABLE, Hpet, LEGACY, MAX_TIMERS};

const VERSION: u32 = 1;

/// What a comparator must remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the comparator of the same names")]
pub struct ComparatorState {
    pub configuration: u64,
    pub value: u64,
    pub period: u64,
    pub next: u64,
}

/// What an HPET must remember. Times are guest time; the configuration is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct HpetState {
    pub version: u32,
    pub general: u64,
    pub status: u64,
    pub counter: u64,
    pub counted_at_ns: u64,
    pub timers: [ComparatorState; MAX_TIMERS],
    pub edges: u32,
}

impl Hpet {
    /// The state.
    #[must_use]
    pub fn save(&self) -> HpetState {
        let Self { config: _, general, status, counter, counted_at, timers, edges } = *self;
        let timers = timers.map(|Comparator { configuration, value, period, next }| {
            ComparatorState { configuration, value, period, next }
        });
        let counted_at_ns = counted_at.0;
        HpetState { version: VERSION, general, status, counter, counted_at_ns, timers, edges }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or a field that no HPET of this configuration could hold. The chip is then
    /// unchanged.
    pub fn load(&mut self, state: &HpetState) -> Result<(), LoadError> {
        let HpetState { version, general, status, counter, counted_at_ns, timers, edges } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        require(general & !(ENABLE | LEGACY) == 0, "general")?;
        require(status >> self.config.timers == 0, "status")?;
        let timers = timers.map(|ComparatorState { configuration, value, period, next }| {
            Comparator { configuration, value, period, next }
        });
        for (n, timer) in timers.iter().enumerate() {
            require(timer.configuration & !WRITABLE == 0, "configuration")?;
            require((timer.value | timer.period) & !timer.width_mask() == 0, "value")?;
            require(general & ENABLE != 0 || timer.next == NEVER, "next")?;
            let exists = n < usize::from(self.config.timers);
            require(exists || *timer == Comparator::RESET, "timer that is not there")?;
            require(timer.is_level() || status >> n & 1 == 0, "status of an edge")?;
        }
        let counted_at = Nanos(counted_at_ns);
        *self = Self { config: self.config, general, status, counter, counted_at, timers, edges };
        Ok(())
    }
}
