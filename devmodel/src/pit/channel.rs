//! One channel of the 8254: counter and OUT as functions of the tick at which the count was loaded.
//!
//! Counts load one clock after they are written, as in the datasheet's "Mode Definitions".

use crate::state::{LoadError, require};

/// Ticks of the input clock since power-on. Signed: a square wave may have begun "before" that.
pub(super) type Tick = i64;
/// No time that a guest lives to see reaches this.
pub(super) const TICK_LIMIT: Tick = 1 << 60;

/// The six modes (8254 datasheet, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Mode 0.
    InterruptOnTerminalCount = 0,
    /// Mode 1.
    OneShot = 1,
    /// Mode 2.
    RateGenerator = 2,
    /// Mode 3.
    SquareWave = 3,
    /// Mode 4.
    SoftwareStrobe = 4,
    /// Mode 5.
    HardwareStrobe = 5,
}

impl Mode {
    fn decode(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            4 => Self::SoftwareStrobe,
            5 => Self::HardwareStrobe,
            even if even & 1 == 0 => Self::RateGenerator,
            _ => Self::SquareWave,
        }
    }

    /// OUT after the control word.
    fn initial_out(self) -> bool {
        self != Self::InterruptOnTerminalCount
    }

    fn periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// Whether a rising gate, and not the count itself, starts it.
    fn triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// The RW field of the control word: which bytes of the count are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// The least significant byte only.
    Low = 1,
    /// The most significant byte only.
    High = 2,
    /// First the least, then the most significant byte.
    LowThenHigh = 3,
}

/// What the counter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// For a count or a trigger; the counter shows `counter`.
    Waits {
        /// What the counter shows meanwhile.
        counter: u32,
    },
    /// Loaded at tick `start`, which may be one tick ahead.
    Runs {
        /// The tick of the load.
        start: i64,
    },
    /// Stopped by its gate, `elapsed` ticks after its load.
    Stopped {
        /// Ticks counted before the gate fell.
        elapsed: i64,
    },
}

/// A count written while a periodic mode runs: it takes over at the end of the (half) cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The tick at which it takes over.
    pub at: i64,
    /// The new square wave begins with its low half.
    pub low_half: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    // Guest-visible
    mode: Mode,
    access: Access,
    bcd: bool,
    gate: bool,
    /// The last count written, as ticks: 1 to 65,536.
    register: u32,
    /// A count was written since the control word.
    written: bool,
    /// The count in force, as ticks.
    count: u32,
    counting: Counting,
    reload: Option<Reload>,
    /// OUT before the load tick.
    level: bool,
    /// NULL COUNT of the status byte clears at this tick.
    null_until: Tick,
    low_byte: Option<u8>,
    read_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    pub(super) const fn new(gate: bool) -> Self {
        Self {
            mode: Mode::SquareWave,
            access: Access::LowThenHigh,
            bcd: false,
            gate,
            register: 0x1_0000,
            written: false,
            count: 0x1_0000,
            counting: Counting::Waits { counter: 0 },
            reload: None,
            level: true,
            null_until: Tick::MAX,
            low_byte: None,
            read_high: false,
            latched_count: None,
            latched_status: None,
        }
    }

    pub(super) fn out(&self, tick: Tick) -> bool {
        let (count, elapsed) = match self.counting {
            Counting::Waits { .. } => return self.level,
            Counting::Stopped { .. } if self.mode.periodic() => return true,
            Counting::Stopped { elapsed } => (i64::from(self.count), elapsed),
            Counting::Runs { start } => {
                let (count, start) = self.in_force(start, tick);
                (i64::from(count), tick - start)
            }
        };
        if elapsed < 0 {
            return self.level;
        }
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => elapsed >= count,
            Mode::RateGenerator => count == 1 || elapsed % count != count - 1,
            Mode::SquareWave => elapsed % count < (count + 1) / 2,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != count,
        }
    }

    /// The period in ticks while the channel makes a tone.
    pub(super) fn period(&self) -> Option<u32> {
        let runs = matches!(self.counting, Counting::Runs { .. });
        (runs && self.mode.periodic() && self.register > 1).then_some(self.register)
    }

    /// Takes over a pending count, and counts the rising edges of OUT after `from` up to `to`.
    pub(super) fn advance(&mut self, from: Tick, to: Tick) -> u32 {
        let Some(reload) = self.reload.filter(|reload| reload.at <= to) else {
            return self.rises(from, to);
        };
        let before = self.rises(from, reload.at);
        if let Counting::Runs { start } = self.counting {
            let (count, start) = self.in_force(start, to);
            self.count = count;
            self.counting = Counting::Runs { start };
        }
        self.reload = None;
        before.saturating_add(self.rises(from.max(reload.at), to))
    }

    /// The first tick after `after` at which OUT rises, if nothing is written until then.
    pub(super) fn next_rise(&self, after: Tick) -> Option<Tick> {
        let Counting::Runs { start } = self.counting else { return None };
        let (count, begin) = self.in_force(start, after);
        let count = i64::from(count);
        let rise = match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => begin + count,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => begin + count + 1,
            Mode::RateGenerator | Mode::SquareWave => match self.reload {
                Some(reload) if after < reload.at && !reload.low_half => reload.at,
                Some(reload) if after < reload.at => reload.at + i64::from(self.register / 2),
                _ if count == 1 => return None,
                _ => begin + ((after - begin).max(0) / count + 1) * count,
            },
        };
        (rise > after).then_some(rise)
    }

    pub(super) fn control(&mut self, value: u8, tick: Tick) {
        let access = match value >> 4 & 3 {
            0 => return self.latch_count(tick),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        self.counting = Counting::Waits { counter: self.counter(tick) };
        self.access = access;
        self.mode = Mode::decode(value);
        self.bcd = value & 1 != 0;
        self.written = false;
        self.reload = None;
        self.level = self.mode.initial_out();
        self.null_until = Tick::MAX;
        self.low_byte = None;
        self.read_high = false;
        self.latched_count = None;
        self.latched_status = None;
    }

    #[inline]
    pub(super) fn write(&mut self, value: u8, tick: Tick) {
        let raw = match (self.access, self.low_byte.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
            (Access::LowThenHigh, None) => {
                self.low_byte = Some(value);
                if self.mode == Mode::InterruptOnTerminalCount {
                    // "Writing the first byte disables counting. OUT is set low immediately."
                    self.counting = Counting::Waits { counter: self.counter(tick) };
                    self.level = false;
                }
                return;
            }
        };
        self.take_count(raw, tick);
    }

    pub(super) fn set_gate(&mut self, gate: bool, tick: Tick) {
        if gate == self.gate {
            return;
        }
        self.advance(tick, tick);
        self.gate = gate;
        match (self.mode, gate, self.counting) {
            (Mode::OneShot | Mode::HardwareStrobe, true, _) if self.written => {
                self.level = self.out(tick);
                self.start(tick);
            }
            (Mode::OneShot | Mode::HardwareStrobe, ..) => {}
            (mode, true, Counting::Stopped { .. }) if mode.periodic() => {
                self.level = true;
                self.start(tick);
            }
            (_, true, Counting::Stopped { elapsed }) => {
                self.counting = Counting::Runs { start: tick - elapsed };
            }
            (_, false, Counting::Runs { start }) => {
                self.counting = Counting::Stopped { elapsed: (tick - start).max(0) };
                self.reload = None;
            }
            _ => {}
        }
    }

    #[inline]
    pub(super) fn read(&mut self, tick: Tick) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = match self.latched_count {
            Some(latched) => latched,
            None => self.digits(tick),
        };
        let [low, high] = value.to_le_bytes();
        let (byte, last) = match (self.access, self.read_high) {
            (Access::Low, _) => (low, true),
            (Access::High, _) => (high, true),
            (Access::LowThenHigh, false) => (low, false),
            (Access::LowThenHigh, true) => (high, true),
        };
        self.read_high = !last;
        if last {
            self.latched_count = None;
        }
        byte
    }

    pub(super) fn latch_count(&mut self, tick: Tick) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.digits(tick));
        }
    }

    pub(super) fn latch_status(&mut self, tick: Tick) {
        if self.latched_status.is_none() {
            self.latched_status = Some(
                u8::from(self.out(tick)) << 7
                    | u8::from(tick < self.null_until) << 6
                    | (self.access as u8) << 4
                    | (self.mode as u8) << 1
                    | u8::from(self.bcd),
            );
        }
    }

    /// A whole count has been written.
    #[inline]
    fn take_count(&mut self, raw: u16, tick: Tick) {
        self.register = if self.bcd { from_bcd(raw) } else { u32::from(raw) };
        if self.register == 0 {
            self.register = self.modulus();
        }
        let first = !self.written;
        self.written = true;
        match (self.mode, self.counting) {
            (mode, _) if mode.triggered() => self.null_until = Tick::MAX,
            (mode, Counting::Runs { start }) if mode.periodic() && !first && tick >= start => {
                let reload = self.cycle_end(start, tick);
                self.null_until = reload.at;
                self.reload = Some(reload);
            }
            _ => {
                self.level = self.mode.initial_out();
                self.start(tick);
            }
        }
    }

    /// Loads the register into the counter at the next clock, or for when the gate opens.
    #[inline]
    fn start(&mut self, tick: Tick) {
        self.count = self.register;
        self.reload = None;
        self.null_until = tick + 1;
        self.counting = if self.gate || self.mode.triggered() {
            Counting::Runs { start: tick + 1 }
        } else {
            Counting::Stopped { elapsed: 0 }
        };
    }

    /// Where the (half) cycle that runs at `tick` ends.
    fn cycle_end(&self, start: Tick, tick: Tick) -> Reload {
        let (count, start) = self.in_force(start, tick);
        let count = i64::from(count);
        let position = (tick - start) % count;
        let high = (count + 1) / 2;
        let low_half = self.mode == Mode::SquareWave && position < high && count > 1;
        let end = if low_half { high } else { count };
        Reload { at: tick - position + end, low_half }
    }

    /// Count and start at `tick`, with a pending count that has taken over by then.
    #[inline]
    fn in_force(&self, start: Tick, tick: Tick) -> (u32, Tick) {
        match self.reload {
            Some(reload) if reload.at <= tick => {
                let high = if reload.low_half { i64::from(self.register.div_ceil(2)) } else { 0 };
                (self.register, reload.at - high)
            }
            _ => (self.count, start),
        }
    }

    /// Rising edges after `from` up to `to`, without a take-over between them.
    fn rises(&self, from: Tick, to: Tick) -> u32 {
        let Counting::Runs { start } = self.counting else { return 0 };
        let count = i64::from(self.count);
        let (from, to) = (from - start, to - start);
        let once = |at: i64| u32::from(from < at && at <= to);
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => once(count),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => once(count + 1),
            Mode::RateGenerator | Mode::SquareWave if count == 1 => 0,
            Mode::RateGenerator | Mode::SquareWave => {
                (to.max(0) / count - from.max(0) / count).clamp(0, i64::from(u32::MAX)) as u32
            }
        }
    }

    /// The counter, 0 to 65,535.
    #[inline]
    fn counter(&self, tick: Tick) -> u32 {
        let (count, elapsed) = match self.counting {
            Counting::Waits { counter } => return counter,
            Counting::Stopped { elapsed } => (self.count, elapsed),
            Counting::Runs { start } => {
                let (count, start) = self.in_force(start, tick);
                (count, (tick - start).max(0))
            }
        };
        let count = i64::from(count);
        let value = match self.mode {
            Mode::RateGenerator => count - elapsed % count,
            Mode::SquareWave => {
                // It counts by two, twice a period; an odd count is loaded one less.
                let position = elapsed % count;
                let high = (count + 1) / 2;
                let into_half = if position < high { position } else { position - high };
                (count & !1) - 2 * into_half
            }
            _ => count - elapsed,
        };
        // A binary counter's modulus is a power of two.
        if self.bcd { value.rem_euclid(10_000) as u32 } else { value as u32 & 0xffff }
    }

    /// The counter as the guest reads it.
    #[inline]
    fn digits(&self, tick: Tick) -> u16 {
        let counter = self.counter(tick);
        if self.bcd { to_bcd(counter) } else { counter as u16 }
    }

    #[inline]
    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    pub(super) fn save(&self) -> ChannelState {
        let Self {
            mode,
            access,
            bcd,
            gate,
            register,
            written,
            count,
            counting,
            reload,
            level,
            null_until,
            low_byte,
            read_high,
            latched_count,
            latched_status,
        } = *self;
        ChannelState {
            mode,
            access,
            bcd,
            gate,
            register,
            written,
            count,
            counting,
            reload,
            level,
            null_until,
            low_byte,
            read_high,
            latched_count,
            latched_status,
        }
    }

    pub(super) fn load(state: &ChannelState) -> Result<Self, LoadError> {
        let ChannelState {
            mode,
            access,
            bcd,
            gate,
            register,
            written,
            count,
            counting,
            reload,
            level,
            null_until,
            low_byte,
            read_high,
            latched_count,
            latched_status,
        } = *state;
        let sane = |tick: i64| (-TICK_LIMIT..TICK_LIMIT).contains(&tick);
        require((1..=0x1_0000).contains(&register), "register")?;
        require((1..=0x1_0000).contains(&count), "count")?;
        require(sane(null_until) || null_until == Tick::MAX, "null_until")?;
        require(
            match counting {
                Counting::Waits { counter } => counter <= 0xFFFF,
                Counting::Runs { start } => sane(start),
                Counting::Stopped { elapsed } => (0..TICK_LIMIT).contains(&elapsed),
            },
            "counting",
        )?;
        let runs = matches!(counting, Counting::Runs { .. });
        require(reload.is_none_or(|it| runs && mode.periodic() && sane(it.at)), "reload")?;
        Ok(Self {
            mode,
            access,
            bcd,
            gate,
            register,
            written,
            count,
            counting,
            reload,
            level,
            null_until,
            low_byte,
            read_high,
            latched_count,
            latched_status,
        })
    }
}

/// Four decimal digits; digits above 9 weigh what they are.
fn from_bcd(raw: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(raw >> (digit * 4) & 0xF))
}

fn to_bcd(value: u32) -> u16 {
    let digit = |unit: u32| (value / unit % 10) as u16;
    digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
}

/// A saved channel; ticks count from power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the channel's own of the same name")]
pub struct ChannelState {
    pub mode: Mode,
    pub access: Access,
    pub bcd: bool,
    pub gate: bool,
    pub register: u32,
    pub written: bool,
    pub count: u32,
    pub counting: Counting,
    pub reload: Option<Reload>,
    pub level: bool,
    pub null_until: i64,
    pub low_byte: Option<u8>,
    pub read_high: bool,
    pub latched_count: Option<u16>,
    pub latched_status: Option<u8>,
}
