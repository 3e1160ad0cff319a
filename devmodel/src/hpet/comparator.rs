//! One comparator of the HPET: its configuration, its value, and how many ticks are left to the
//! next match. "Timer N Configuration and Capabilities Register", "Timer N Comparator Register".

const LEVEL: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
/// Capability: periodic mode exists. Capability: 64 bits wide.
const CAPABILITIES: u64 = 1 << 4 | 1 << 5;
const VALUE_SET: u64 = 1 << 6;
const NARROW: u64 = 1 << 8;
const ROUTE_SHIFT: u32 = 9;
pub(super) const WRITABLE: u64 =
    LEVEL | INTERRUPT | PERIODIC | VALUE_SET | NARROW | 31 << ROUTE_SHIFT;

/// No match ahead.
pub(super) const NEVER: u64 = u64::MAX;

/// Matches of a shorter period than this are gathered. No manual states it; a guest that programs
/// a period of a few ticks would otherwise never run an instruction between two of them.
const MIN_PERIOD: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparator {
    /// The writable configuration bits.
    pub configuration: u64,
    /// The comparator register; in periodic mode the value of the next match.
    pub value: u64,
    /// What is added to `value` at each match in periodic mode.
    pub period: u64,
    /// Ticks from the counter's base to the next match, or [`NEVER`].
    pub next: u64,
}

impl Comparator {
    pub const RESET: Self = Self { configuration: 0, value: u64::MAX, period: 0, next: NEVER };

    pub fn configuration(&self, routes: u32) -> u64 {
        u64::from(routes) << 32 | CAPABILITIES | self.configuration & !VALUE_SET
    }

    pub const fn is_level(&self) -> bool {
        self.configuration & LEVEL != 0
    }

    pub const fn interrupts(&self) -> bool {
        self.configuration & INTERRUPT != 0
    }

    pub const fn route(&self) -> u32 {
        (self.configuration >> ROUTE_SHIFT) as u32 & 31
    }

    /// The bits that are compared.
    pub const fn width_mask(&self) -> u64 {
        if self.configuration & NARROW != 0 { 0xFFFF_FFFF } else { u64::MAX }
    }

    const fn is_periodic(&self) -> bool {
        self.configuration & PERIODIC != 0 && self.period != 0
    }

    /// When a match is next worth a look, in ticks from the counter's base.
    pub fn due_at(&self) -> Option<u64> {
        if self.next == NEVER || !(self.interrupts() || self.is_level()) {
            return None;
        }
        let short = self.is_periodic() && self.period < MIN_PERIOD;
        Some(if short { self.next.saturating_add(MIN_PERIOD) } else { self.next })
    }

    /// Works out the next match; a comparator that equals the counter matches at once.
    pub fn arm(&mut self, running: bool, counter: u64) {
        let ahead = self.value.wrapping_sub(counter) & self.width_mask();
        self.next = if running { ahead } else { NEVER };
    }

    /// The counter's base has moved on by `ticks`, all of which were advanced over.
    pub fn rebase(&mut self, ticks: u64) {
        if self.next != NEVER {
            self.next = self.next.saturating_sub(ticks);
        }
    }

    /// Moves over all matches up to `elapsed` ticks from the base. True when there was one.
    pub fn advance(&mut self, elapsed: u64) -> bool {
        if self.next > elapsed || self.next == NEVER {
            return false;
        }
        let late = elapsed - self.next;
        if self.is_periodic() {
            let ahead = (late / self.period + 1).saturating_mul(self.period);
            self.value = self.value.wrapping_add(ahead) & self.width_mask();
            self.next = self.next.saturating_add(ahead);
        } else if self.configuration & NARROW != 0 {
            // "One-shot mode": 32 bits match again when they come round.
            self.next = self.next.saturating_add(((late >> 32) + 1) << 32);
        } else {
            self.next = NEVER;
        }
        true
    }

    /// Writes the configuration. True when the next match must be worked out anew.
    pub fn configure(&mut self, value: u64, mask: u64) -> bool {
        let old = self.configuration;
        self.configuration = (old & !mask | value & mask) & WRITABLE;
        self.value &= self.width_mask();
        self.period &= self.width_mask();
        (old ^ self.configuration) & (NARROW | PERIODIC) != 0
    }

    /// Writes the comparator. In periodic mode this is the period, and also the next match when
    /// the value-set bit was written before. True when the next match must be worked out anew.
    pub fn set(&mut self, value: u64, mask: u64) -> bool {
        let width = self.width_mask();
        let periodic = self.configuration & PERIODIC != 0;
        let direct = !periodic || self.configuration & VALUE_SET != 0;
        if direct {
            self.value = (self.value & !mask | value & mask) & width;
        }
        if periodic {
            self.period = (self.period & !mask | value & mask) & width;
        }
        self.configuration &= !VALUE_SET;
        direct
    }
}
