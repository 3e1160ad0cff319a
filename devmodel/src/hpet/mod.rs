//! The HPET: "IA-PC HPET (High Precision Event Timers) Specification" 1.0a.
//!
//! A 64-bit counter at 100 MHz and up to eight comparators, all of which can be periodic. Left
//! out: FSB (message) interrupts, which the capability bits deny. Pins are I/O APIC inputs.

mod comparator;
mod state;
#[cfg(test)]
mod tests;

use arch::Nanos;

use comparator::Comparator;

pub use state::{ComparatorState, HpetState};

/// A tick of the counter, in nanoseconds.
const TICK_NS: u64 = 10;
/// A tick of the counter, in femtoseconds, as the capability register tells it.
const PERIOD_FS: u64 = 10_000_000;
/// The most comparators this model has.
pub const MAX_TIMERS: usize = 8;

/// General configuration: the counter runs and interrupts are given.
const ENABLE: u64 = 1;
/// General configuration: timers 0 and 1 take the places of the PIT and the RTC.
const LEGACY: u64 = 2;

/// What the board decides once about the HPET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpetConfig {
    /// How many comparators there are: 3 to 8.
    pub timers: u8,
    /// The I/O APIC pins that comparators can drive, one bit each.
    pub routes: u32,
}

impl Default for HpetConfig {
    /// Three comparators, which can drive pins 2, 8 and 16 to 23.
    fn default() -> Self {
        Self { timers: 3, routes: 0x00FF_0104 }
    }
}

/// An HPET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hpet {
    // Fixed
    config: HpetConfig,
    // Guest-visible
    general: u64,
    /// Level-triggered comparators that have matched and were not acknowledged.
    status: u64,
    /// The counter, as of `counted_at` while it runs.
    counter: u64,
    counted_at: Nanos,
    timers: [Comparator; MAX_TIMERS],
    /// I/O APIC pins that pulsed since [`Hpet::take_edges`].
    edges: u32,
}

/// A register, by its offset divided by 8.
enum Register {
    Capabilities,
    Configuration,
    Status,
    Counter,
    TimerConfiguration(usize),
    TimerComparator(usize),
    /// Reserved, and the FSB route that no comparator has.
    Nothing,
}

impl Hpet {
    /// An HPET after reset. More or fewer timers than the model has are cut to what it has.
    #[must_use]
    pub fn new(config: HpetConfig) -> Self {
        let config = HpetConfig { timers: config.timers.clamp(3, MAX_TIMERS as u8), ..config };
        Self {
            config,
            general: 0,
            status: 0,
            counter: 0,
            counted_at: Nanos::ZERO,
            timers: [Comparator::RESET; MAX_TIMERS],
            edges: 0,
        }
    }

    /// Reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.config);
    }

    /// The main counter.
    #[inline]
    #[must_use]
    pub fn counter(&self, now: Nanos) -> u64 {
        if self.general & ENABLE == 0 {
            return self.counter;
        }
        self.counter.wrapping_add(now.since(self.counted_at) / TICK_NS)
    }

    /// Reads 64 bits at `offset`, of which the low three bits are ignored.
    #[inline]
    pub fn read64(&mut self, offset: u16, now: Nanos) -> u64 {
        match self.register(offset) {
            Register::Capabilities => {
                let timers = u64::from(self.config.timers - 1);
                // Intel, legacy replacement, a 64-bit counter, revision 1.
                PERIOD_FS << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | timers << 8 | 1
            }
            Register::Configuration => self.general,
            Register::Status => {
                self.advance(now);
                self.status
            }
            Register::Counter => self.counter(now),
            Register::TimerConfiguration(n) => self.timers[n].configuration(self.config.routes),
            Register::TimerComparator(n) => {
                self.advance(now);
                self.timers[n].value
            }
            Register::Nothing => 0,
        }
    }

    /// Reads 32 bits at `offset`, of which the low two bits are ignored.
    #[inline]
    pub fn read32(&mut self, offset: u16, now: Nanos) -> u32 {
        let value = self.read64(offset, now);
        if offset & 4 == 0 { value as u32 } else { (value >> 32) as u32 }
    }

    /// Writes 64 bits at `offset`. `due` and the pins may change.
    pub fn write64(&mut self, offset: u16, value: u64, now: Nanos) {
        self.write(offset, value, u64::MAX, now);
    }

    /// Writes 32 bits at `offset`. `due` and the pins may change.
    pub fn write32(&mut self, offset: u16, value: u32, now: Nanos) {
        let value = u64::from(value);
        if offset & 4 == 0 {
            self.write(offset, value, 0xFFFF_FFFF, now);
        } else {
            self.write(offset, value << 32, !0 << 32, now);
        }
    }

    /// Whether timers 0 and 1 drive IRQ0 (I/O APIC pin 2) and IRQ8; the PIT and the RTC must then
    /// not. "LegacyReplacement Route".
    #[must_use]
    pub const fn legacy(&self) -> bool {
        self.general & (LEGACY | ENABLE) == LEGACY | ENABLE
    }

    /// The I/O APIC pins that level-triggered comparators assert, one bit each.
    #[must_use]
    pub fn levels(&self) -> u32 {
        if self.general & ENABLE == 0 {
            return 0;
        }
        let mut pins = 0;
        for (n, timer) in self.running() {
            if self.status >> n & 1 != 0 && timer.interrupts() {
                pins |= self.pin_of(n);
            }
        }
        pins
    }

    /// The I/O APIC pins that edge-triggered comparators have pulsed since this was last asked. In
    /// the legacy routing pin 2 is also the 8259A's IRQ0.
    pub fn take_edges(&mut self) -> u32 {
        core::mem::take(&mut self.edges)
    }

    /// When a comparator next matches so that something can be seen of it.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        if self.general & ENABLE == 0 {
            return None;
        }
        let soonest = self.running().filter_map(|(_, timer)| timer.due_at()).min()?;
        Some(self.time_of(soonest))
    }

    /// Lets time reach `now`: comparators that have matched set their status or pulse their pins.
    pub fn advance(&mut self, now: Nanos) {
        if self.general & ENABLE == 0 {
            return;
        }
        let elapsed = now.since(self.counted_at) / TICK_NS;
        for n in 0..usize::from(self.config.timers) {
            if !self.timers[n].advance(elapsed) {
                continue;
            }
            if self.timers[n].is_level() {
                self.status |= 1 << n;
            } else if self.timers[n].interrupts() {
                self.edges |= self.pin_of(n);
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Comparator)> {
        self.timers.iter().enumerate().take(usize::from(self.config.timers))
    }

    /// When `ticks` have passed since `counted_at`; never before the tick.
    fn time_of(&self, ticks: u64) -> Nanos {
        self.counted_at + ticks.saturating_mul(TICK_NS)
    }

    /// The pin of comparator `n`, as a bit; 0 when its route is not one it can take.
    fn pin_of(&self, n: usize) -> u32 {
        match n {
            0 if self.legacy() => 1 << 2,
            1 if self.legacy() => 1 << 8,
            _ => self.config.routes & 1 << self.timers[n].route(),
        }
    }

    fn register(&self, offset: u16) -> Register {
        let timer = usize::from(offset.wrapping_sub(0x100) >> 5);
        match offset & !7 {
            0x00 => Register::Capabilities,
            0x10 => Register::Configuration,
            0x20 => Register::Status,
            0xF0 => Register::Counter,
            aligned @ 0x100.. if timer < usize::from(self.config.timers) => match aligned & 0x18 {
                0x00 => Register::TimerConfiguration(timer),
                0x08 => Register::TimerComparator(timer),
                _ => Register::Nothing,
            },
            _ => Register::Nothing,
        }
    }

    fn write(&mut self, offset: u16, value: u64, mask: u64, now: Nanos) {
        self.advance(now);
        self.recount(now);
        let running = self.general & ENABLE != 0;
        match self.register(offset) {
            Register::Configuration => {
                self.general = (self.general & !mask | value & mask) & (ENABLE | LEGACY);
                if running != (self.general & ENABLE != 0) {
                    self.rearm();
                }
            }
            Register::Status => self.status &= !(value & mask),
            Register::Counter => {
                // The specification wants the counter halted; one that runs is set all the same.
                self.counter = self.counter & !mask | value & mask;
                self.rearm();
            }
            Register::TimerConfiguration(n) => {
                if self.timers[n].configure(value, mask) {
                    self.timers[n].arm(running, self.counter);
                }
                if !self.timers[n].is_level() {
                    self.status &= !(1 << n);
                }
            }
            Register::TimerComparator(n) => {
                if self.timers[n].set(value, mask) {
                    self.timers[n].arm(running, self.counter);
                }
            }
            Register::Capabilities | Register::Nothing => {}
        }
        self.advance(now);
    }

    /// Counts up to `now`, without losing the part of a tick that has begun.
    fn recount(&mut self, now: Nanos) {
        if self.general & ENABLE == 0 {
            self.counted_at = now;
            return;
        }
        let ticks = now.since(self.counted_at) / TICK_NS;
        self.counter = self.counter.wrapping_add(ticks);
        self.counted_at = self.counted_at + ticks * TICK_NS;
        for timer in &mut self.timers {
            timer.rebase(ticks);
        }
    }

    /// Works out anew when each comparator matches.
    fn rearm(&mut self) {
        let running = self.general & ENABLE != 0;
        for timer in self.timers.iter_mut().take(usize::from(self.config.timers)) {
            timer.arm(running, self.counter);
        }
    }
}
