//! Guest time. Every chip is told the time; none keeps a clock.

use core::ops::Add;

/// Nanoseconds of guest time since the board's power-on. Never goes back; wraps after 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Power-on.
    pub const ZERO: Nanos = Nanos(0);
    /// A time that never comes.
    pub const NEVER: Nanos = Nanos(u64::MAX);

    /// Nanoseconds from `earlier` to `self`; 0 where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How many whole periods of a clock of `hz` fit into this time, without drift.
    #[must_use]
    pub const fn to_ticks(self, hz: u64) -> u64 {
        ((self.0 as u128 * hz as u128) / 1_000_000_000) as u64
    }

    /// The first time at which `ticks` whole periods of a clock of `hz` have passed since power-on.
    ///
    /// `hz` is 1 or more. Saturates at [`Nanos::NEVER`].
    #[must_use]
    pub const fn from_ticks(ticks: u64, hz: u64) -> Nanos {
        let ns = (ticks as u128 * 1_000_000_000).div_ceil(hz as u128);
        if ns > u64::MAX as u128 { Nanos::NEVER } else { Nanos(ns as u64) }
    }
}

/// Adds nanoseconds; saturates at [`Nanos::NEVER`].
impl Add<u64> for Nanos {
    type Output = Nanos;

    fn add(self, ns: u64) -> Nanos {
        Nanos(self.0.saturating_add(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_back_never_lands_before_the_tick() {
        for hz in [32_768, 1_193_182, 3_579_545, 100_000_000] {
            for ticks in [0, 1, 2, 65_535, 1 << 40] {
                assert_eq!(Nanos::from_ticks(ticks, hz).to_ticks(hz), ticks);
            }
        }
    }
}
