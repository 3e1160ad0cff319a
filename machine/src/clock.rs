//! From the host's TSC to guest time, without a division.

use arch::Nanos;

/// How a guest's time follows the host's time-stamp counter. All host CPUs' TSCs run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Host TSC at the board's power-on.
    start_tsc: u64,
    /// Nanoseconds a tick, times 2^32.
    ns_per_tick: u64,
    /// Ticks a nanosecond, times 2^32.
    ticks_per_ns: u64,
    tsc_khz: u64,
}

impl Clock {
    /// A clock that reads 0 when the host's TSC, running at `tsc_khz` (1 kHz or more), is `start_tsc`.
    #[must_use]
    pub fn new(start_tsc: u64, tsc_khz: u64) -> Clock {
        let khz = u128::from(tsc_khz.max(1));
        Clock {
            start_tsc,
            ns_per_tick: (1_000_000u128 << 32).div_ceil(khz) as u64,
            ticks_per_ns: (khz << 32).div_ceil(1_000_000) as u64,
            tsc_khz: khz as u64,
        }
    }

    /// Guest time at this host TSC; 0 before power-on.
    #[must_use]
    #[inline]
    pub fn nanos(&self, host_tsc: u64) -> Nanos {
        let ticks = host_tsc.saturating_sub(self.start_tsc);
        let ns = (u128::from(ticks) * u128::from(self.ns_per_tick)) >> 32;
        Nanos(if ns >> 64 == 0 { ns as u64 } else { u64::MAX })
    }

    /// The first host TSC value at which [`nanos`](Clock::nanos) is at least `time`, or a few ticks later.
    #[must_use]
    #[inline]
    pub fn tsc(&self, time: Nanos) -> u64 {
        let ticks = (u128::from(time.0) * u128::from(self.ticks_per_ns)) >> 32;
        let ticks = if ticks >> 64 == 0 { ticks as u64 } else { u64::MAX };
        // Both factors are rounded up, so that only the last digits can be missing.
        self.start_tsc.saturating_add(ticks).saturating_add(2)
    }

    /// Nanoseconds a tick, times 2^32.
    #[must_use]
    pub fn ns_per_tick(&self) -> u64 {
        self.ns_per_tick
    }

    /// Ticks of the TSC in a millisecond.
    #[must_use]
    pub fn tsc_khz(&self) -> u64 {
        self.tsc_khz
    }

    /// Host TSC at power-on: minus this is the offset of a guest TSC that starts at 0.
    #[must_use]
    pub fn start_tsc(&self) -> u64 {
        self.start_tsc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_ticks_is_never_before_the_time_and_hardly_after() {
        for khz in [1_000_000, 2_399_987, 100_000, 3_700_123] {
            let clock = Clock::new(5_000, khz);
            for ns in [0, 1, 999, 1_000_000, 3_600_000_000_000, 1 << 52] {
                let at = clock.nanos(clock.tsc(Nanos(ns)));
                assert!(at >= Nanos(ns), "{khz} {ns}: {at:?}");
                assert!(at.since(Nanos(ns)) <= 50 + (ns >> 28), "{khz} {ns}: {at:?}");
            }
        }
        assert_eq!(Clock::new(5_000, 1_000_000).nanos(4_000), Nanos::ZERO);
    }
}
