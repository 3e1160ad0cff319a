//! The 8254 timer, with port 61h: channel 2's gate, the speaker and the refresh toggle.
//!
//! Nothing ticks: every channel remembers when its counter was loaded, and counter and OUT are
//! functions of the time (`channel.rs`). Rising edges of OUT0 are counted exactly, however late the
//! board asks. Clock pulses within one tick (838 ns) are not told apart.

use arch::Nanos;

use crate::state::{LoadError, require};

mod channel;
#[cfg(test)]
mod tests;

pub use channel::{Access, ChannelState, Counting, Mode, Reload};
use channel::{Channel, Tick};

/// The input clock, a twelfth of the PC's 14.31818 MHz.
pub const PIT_HZ: u64 = 1_193_182;
/// How many ticks channel 1 takes between two refresh cycles, each of which turns port 61h bit 4.
const REFRESH_TICKS: u64 = 18;

/// The 8254 and port 61h.
///
/// Offsets 0 to 2 are the channels (ports 40h to 42h), 3 is the control word (43h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pit {
    // Guest-visible
    channels: [Channel; 3],
    /// Port 61h bits 0 to 3: gate of channel 2, speaker data, SERR# and IOCHK# masks.
    port61: u8,
    // Derived
    /// The tick up to which rising edges of OUT0 are counted.
    seen: Tick,
    /// Edges counted and not yet handed out.
    rises: u32,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// The timer at power-on: no channel counts, channel 2's gate is low.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            port61: 0,
            seen: 0,
            rises: 0,
        }
    }

    /// Reads a channel (offset 0 to 2); the control word (3) is write only and reads all-ones.
    #[inline]
    pub fn read(&mut self, offset: u8, now: Nanos) -> u8 {
        let tick = tick(now);
        match self.channels.get_mut(usize::from(offset & 3)) {
            Some(channel) => channel.read(tick),
            None => 0xFF,
        }
    }

    /// Writes a count (offset 0 to 2) or the control word (3).
    pub fn write(&mut self, offset: u8, value: u8, now: Nanos) {
        // Only what may turn OUT0 needs its edges counted.
        if let 1 | 2 = offset & 3 {
            return self.channels[usize::from(offset & 3)].write(value, tick(now));
        }
        let tick = self.catch_up(now);
        let out0 = self.channels[0].out(tick);
        match offset & 3 {
            0 => self.channels[0].write(value, tick),
            _ => self.control(value, tick),
        }
        if !out0 && self.channels[0].out(tick) {
            self.rises = self.rises.saturating_add(1);
        }
    }

    /// OUT of channel 0 to 2 at `now`.
    #[inline]
    #[must_use]
    pub fn out(&self, channel: u8, now: Nanos) -> bool {
        self.channels.get(usize::from(channel)).is_some_and(|it| it.out(tick(now)))
    }

    /// How many times OUT0 has risen since the last call. Where that is not 0 the board pulses IRQ0
    /// low and high, and leaves it high: a board that comes after OUT0 has fallen again then loses
    /// no tick that a punctual one would have delivered.
    pub fn advance(&mut self, now: Nanos) -> u32 {
        self.catch_up(now);
        core::mem::take(&mut self.rises)
    }

    /// When [`Pit::advance`] next has an edge to report.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        if self.rises > 0 {
            return Some(time(self.seen));
        }
        self.channels[0].next_rise(self.seen).map(time)
    }

    /// Reads port 61h.
    #[inline]
    #[must_use]
    pub fn read_port61(&self, now: Nanos) -> u8 {
        let tick = tick(now);
        let refresh = (tick as u64 / REFRESH_TICKS) as u8 & 1;
        self.port61 | refresh << 4 | u8::from(self.channels[2].out(tick)) << 5
    }

    /// Writes port 61h; only bits 0 to 3 are writable.
    pub fn write_port61(&mut self, value: u8, now: Nanos) {
        self.port61 = value & 0x0F;
        self.channels[2].set_gate(value & 1 != 0, tick(now));
    }

    /// The tone on the speaker in Hz, while it sounds.
    #[must_use]
    pub fn tone_hz(&self) -> Option<u32> {
        if self.port61 & 3 != 3 {
            return None;
        }
        self.channels[2].period().map(|period| (PIT_HZ / u64::from(period)) as u32)
    }

    /// The control word (8254 datasheet, "Control Word Format" and "Read-Back Command").
    fn control(&mut self, value: u8, tick: Tick) {
        let select = usize::from(value >> 6);
        if let Some(channel) = self.channels.get_mut(select) {
            channel.control(value, tick);
            return;
        }
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if value & (2 << index) == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                channel.latch_count(tick);
            }
            if value & 0x10 == 0 {
                channel.latch_status(tick);
            }
        }
    }

    /// Counts the edges of OUT0 up to `now`, and returns `now` in ticks.
    fn catch_up(&mut self, now: Nanos) -> Tick {
        let tick = tick(now);
        if tick > self.seen {
            let rises = self.channels[0].advance(self.seen, tick);
            self.rises = self.rises.saturating_add(rises);
            self.seen = tick;
        }
        tick
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> PitState {
        let Self { channels, port61, seen, rises } = self;
        PitState {
            version: PitState::VERSION,
            channels: channels.each_ref().map(Channel::save),
            port61: *port61,
            seen: *seen,
            rises: *rises,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; the chip is then unchanged.
    pub fn load(&mut self, state: &PitState) -> Result<(), LoadError> {
        let PitState { version, channels, port61, seen, rises } = state;
        if *version != PitState::VERSION {
            return Err(LoadError::Version);
        }
        require(*port61 & 0xF0 == 0, "port61")?;
        require((0..channel::TICK_LIMIT).contains(seen), "seen")?;
        let [zero, one, two] = channels;
        require(zero.gate && one.gate && two.gate == (*port61 & 1 != 0), "gate")?;
        *self = Self {
            channels: [Channel::load(zero)?, Channel::load(one)?, Channel::load(two)?],
            port61: *port61,
            seen: *seen,
            rises: *rises,
        };
        Ok(())
    }
}

/// Whole ticks since power-on. The divisors are constants, so this is two multiplications.
#[inline]
const fn tick(now: Nanos) -> Tick {
    const NS: u64 = 1_000_000_000;
    let (seconds, ns) = (now.0 / NS, now.0 % NS);
    (seconds * PIT_HZ + ns * PIT_HZ / NS) as Tick
}

/// The first time at which `ticks` have passed.
#[inline]
const fn time(ticks: Tick) -> Nanos {
    const NS: u64 = 1_000_000_000;
    if ticks < 0 {
        return Nanos::ZERO;
    }
    let (seconds, rest) = (ticks as u64 / PIT_HZ, ticks as u64 % PIT_HZ);
    Nanos((seconds.saturating_mul(NS)).saturating_add((rest * NS).div_ceil(PIT_HZ)))
}

/// A saved [`Pit`]; `seen` is in ticks since power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct PitState {
    pub version: u16,
    pub channels: [ChannelState; 3],
    pub port61: u8,
    pub seen: i64,
    pub rises: u32,
}

impl PitState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
