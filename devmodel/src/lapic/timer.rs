//! The local APIC timer: one-shot, periodic, and by deadline. SDM 3A "APIC Timer".
//!
//! It counts at [`BUS_HZ`] before the divider, so a tick is `1 << shift` nanoseconds and no
//! conversion divides. What is kept is the time at which the count reaches zero.

use arch::Nanos;

/// The clock that the divider divides. A tick is a nanosecond.
pub const BUS_HZ: u64 = 1_000_000_000;

/// A periodic timer comes at most this often. No manual states it; a guest that programs a period
/// of a few ticks would otherwise never run an instruction between two of them.
const MIN_PERIOD_NS: u64 = 10_000;

/// What the mode bits 18:17 of the timer's LVT entry select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
    Reserved,
}

impl TimerMode {
    pub const fn of(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    /// Whether the initial-count register drives the timer.
    pub const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    /// Initial-count register.
    pub initial: u32,
    /// Divide-configuration register, bits 3, 1 and 0.
    pub divide: u8,
    /// When it next expires; [`Nanos::NEVER`] when it is stopped.
    pub deadline: Nanos,
    /// IA32_TSC_DEADLINE as the guest wrote it; 0 when not armed.
    pub tsc: u64,
}

impl Timer {
    pub const STOPPED: Timer = Timer { initial: 0, divide: 0, deadline: Nanos::NEVER, tsc: 0 };

    /// log2 of the divider: codes 0 to 6 divide by 2 to 128, 7 by 1.
    const fn shift(&self) -> u32 {
        let code = (self.divide & 3 | self.divide >> 1 & 4) as u32;
        (code + 1) & 7
    }

    const fn period_ns(&self) -> u64 {
        (self.initial as u64) << self.shift()
    }

    pub fn stop(&mut self) {
        self.deadline = Nanos::NEVER;
        self.tsc = 0;
    }

    /// Starts counting down from `initial`; 0 stops.
    pub fn start(&mut self, initial: u32, now: Nanos) {
        self.initial = initial;
        self.deadline = if initial == 0 { Nanos::NEVER } else { now + self.period_ns() };
    }

    /// Changes the divider; what is left of the count goes on at the new rate.
    pub fn set_divide(&mut self, divide: u8, mode: TimerMode, now: Nanos) {
        let left = self.current(mode, now);
        self.divide = divide & 0xB;
        if mode.counts() && self.deadline != Nanos::NEVER {
            self.deadline = now + (u64::from(left) << self.shift());
        }
    }

    /// The current-count register.
    pub fn current(&self, mode: TimerMode, now: Nanos) -> u32 {
        if !mode.counts() || self.deadline == Nanos::NEVER {
            return 0;
        }
        let late = now.since(self.deadline);
        let left = if late == 0 {
            self.deadline.since(now)
        } else if mode == TimerMode::OneShot {
            0
        } else {
            let period = self.period_ns().max(1);
            period - late % period
        };
        let shift = self.shift();
        u32::try_from((left + (1 << shift) - 1) >> shift).unwrap_or(u32::MAX)
    }

    /// Moves past an expiry that `now` has reached: to the next period, or to a stop.
    pub fn expire(&mut self, mode: TimerMode, now: Nanos) {
        if mode != TimerMode::Periodic || self.initial == 0 {
            self.stop();
            return;
        }
        let period = self.period_ns();
        let late = now.since(self.deadline);
        // The division is for a timer that was not looked at for more than a whole period.
        let missed = if late < period { 0 } else { late / period };
        let next = self.deadline + (missed + 1).saturating_mul(period);
        self.deadline = if period < MIN_PERIOD_NS { next.max(now + MIN_PERIOD_NS) } else { next };
    }
}
