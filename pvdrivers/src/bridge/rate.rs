//! A limit on bytes a second: a token bucket that holds a tenth of a second, and at least one frame.

use super::MAX_FRAME;
use arch::Nanos;

/// A bucket of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: u64,
    size: u64,
    /// Bytes in it, in billionths: no rate is lost to rounding.
    level: u128,
    filled: Nanos,
}

const SCALE: u128 = 1_000_000_000;

impl Bucket {
    /// A full bucket for `rate` bytes a second; 0 counts as 1.
    #[must_use]
    pub const fn new(rate: u64, now: Nanos) -> Bucket {
        let rate = if rate == 0 { 1 } else { rate };
        let tenth = rate / 10;
        let size = if tenth < MAX_FRAME as u64 { MAX_FRAME as u64 } else { tenth };
        Bucket { rate, size, level: size as u128 * SCALE, filled: now }
    }

    /// Takes so many bytes if they are there.
    pub fn take(&mut self, bytes: u64, now: Nanos) -> bool {
        self.fill(now);
        let wanted = u128::from(bytes) * SCALE;
        let enough = self.level >= wanted;
        if enough {
            self.level -= wanted;
        }
        enough
    }

    /// When so many bytes will be there; they never are where they are more than the bucket holds.
    #[must_use]
    pub fn when(&self, bytes: u64) -> Nanos {
        if bytes > self.size {
            return Nanos::NEVER;
        }
        let missing = (u128::from(bytes) * SCALE).saturating_sub(self.level);
        let wait = missing.div_ceil(u128::from(self.rate));
        self.filled + u64::try_from(wait).unwrap_or(u64::MAX)
    }

    fn fill(&mut self, now: Nanos) {
        let passed = u128::from(now.since(self.filled));
        self.level =
            (self.level + passed * u128::from(self.rate)).min(u128::from(self.size) * SCALE);
        self.filled = self.filled.max(now);
    }
}
