//! The MC146818 real-time clock with 256 bytes of CMOS RAM.
//!
//! Clock bytes are brought up to date whenever someone looks; nothing ticks. Updates happen at the
//! end of the UIP window (MC146818A datasheet, "Update Cycle"). Left out: daylight saving (DSE is
//! stored, and without effect) and the square-wave pin. `calendar.rs` knows dates.

use arch::Nanos;

use crate::state::{LoadError, require};

mod calendar;
#[cfg(test)]
mod tests;

use calendar::Format;
pub use calendar::WallClock;

const NS: u64 = 1_000_000_000;
/// The divider chain's crystal.
const CRYSTAL_HZ: u64 = 32_768;
/// UIP rises tBUC = 244 us before an update, which takes tUC = 1,984 us (datasheet, table 5).
const UIP_NS: u64 = 244_000 + 1_984_000;

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REG_A: u8 = 0x0A;
const REG_B: u8 = 0x0B;
const REG_C: u8 = 0x0C;
const REG_D: u8 = 0x0D;
/// Where ACPI's FADT says the century is.
const CENTURY: u8 = 0x32;

const A_UIP: u8 = 0x80;
const B_SET: u8 = 0x80;
const B_PIE: u8 = 0x40;
const B_AIE: u8 = 0x20;
const B_UIE: u8 = 0x10;
const B_DM: u8 = 0x04;
const B_24H: u8 = 0x02;
const C_IRQF: u8 = 0x80;
const C_PF: u8 = 0x40;
const C_AF: u8 = 0x20;
const C_UF: u8 = 0x10;
const D_VRT: u8 = 0x80;

/// The clock and its CMOS RAM.
///
/// Offsets: 0 is the index port 70h (bit 7 masks NMI), 1 its data 71h, 2 the index of the whole
/// 256 bytes (72h), 3 its data (73h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtc {
    // Guest-visible
    index: u8,
    extended_index: u8,
    nmi_masked: bool,
    /// All registers; A without UIP, C is `flags`, D is fixed.
    ram: [u8; 256],
    /// Register C's PF, AF and UF.
    flags: u8,
    /// Seconds begin at this many ns (below 10^9) into each second since power-on.
    phase: u64,
    /// The second, counted in phase, up to which the clock bytes and UF, AF are right.
    second: u64,
    /// The crystal tick up to which PF is right.
    tick: u64,
    // Derived
    /// The second whose update will match the alarm.
    alarm: Option<u64>,
}

impl Rtc {
    /// A clock that shows `wall` at power-on, in BCD and 24-hour mode with a periodic rate of
    /// 1,024 Hz set and no interrupt enabled; every other byte is 0.
    #[must_use]
    pub fn new(wall: WallClock) -> Self {
        let mut rtc = Self {
            index: 0,
            extended_index: 0,
            nmi_masked: false,
            ram: [0; 256],
            flags: 0,
            phase: 0,
            second: 1,
            tick: CRYSTAL_HZ,
            alarm: None,
        };
        rtc.ram[usize::from(REG_A)] = 0x26;
        rtc.ram[usize::from(REG_B)] = B_24H;
        rtc.ram[usize::from(REG_D)] = D_VRT;
        rtc.set_wall_clock(wall);
        rtc
    }

    /// Reads offset 0 to 3.
    pub fn read(&mut self, offset: u8, now: Nanos) -> u8 {
        match offset & 3 {
            // 70h is write only (82371SB datasheet, "RTCI: Real-Time Clock Index Register").
            0 => 0xFF,
            1 => self.read_register(self.index, now),
            2 => self.extended_index,
            _ => self.read_register(self.extended_index, now),
        }
    }

    /// Writes offset 0 to 3.
    pub fn write(&mut self, offset: u8, value: u8, now: Nanos) {
        match offset & 3 {
            0 => {
                self.nmi_masked = value & 0x80 != 0;
                self.index = value & 0x7F;
            }
            1 => self.write_register(self.index, value, now),
            2 => self.extended_index = value,
            _ => self.write_register(self.extended_index, value, now),
        }
    }

    /// Bit 7 of port 70h: the board holds NMI back.
    #[must_use]
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// A CMOS byte, for firmware and for whoever saves it; the clock bytes may be a moment old.
    #[must_use]
    pub fn cmos(&self, index: u8) -> u8 {
        self.ram[usize::from(index)]
    }

    /// Sets a CMOS byte as the factory does: memory sizes, disk types. The bytes of the clock and
    /// its registers (0 to 0Dh) are left alone.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        if index > REG_D {
            self.ram[usize::from(index)] = value;
        }
    }

    /// The interrupt line, IRQ8.
    #[inline]
    #[must_use]
    pub fn irq(&self) -> bool {
        self.flags & self.reg(REG_B) & (B_PIE | B_AIE | B_UIE) != 0
    }

    /// When the line will next rise. None while it is high, for then the guest has yet to read C.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let b = self.reg(REG_B);
        if b & (B_PIE | B_AIE | B_UIE) == 0 || self.irq() {
            return None;
        }
        let second = if !self.updates() {
            None
        } else if b & B_UIE != 0 {
            Some(self.second + 1)
        } else if b & B_AIE != 0 {
            self.alarm
        } else {
            None
        };
        let tick = match self.period() {
            Some(period) if b & B_PIE != 0 => Some((self.tick / period + 1) * period),
            _ => None,
        };
        let second = second.map(|it| self.start_of(it));
        let tick = tick.map(|it| self.start_of(it / CRYSTAL_HZ) + sub_tick_ns(it % CRYSTAL_HZ));
        second.into_iter().chain(tick).min()
    }

    /// Lets time pass up to `now`.
    #[inline]
    pub fn advance(&mut self, now: Nanos) {
        let (second, ns) = self.in_phase(now);
        self.advance_periodic(second * CRYSTAL_HZ + ns * CRYSTAL_HZ / NS);
        if second > self.second {
            self.advance_seconds(second);
        }
    }

    /// The time that the clock shows; None where a guest has written no time at all.
    #[must_use]
    pub fn wall_clock(&self) -> Option<WallClock> {
        let format = self.format();
        let number = |index| format.number(self.reg(index));
        WallClock {
            year: u16::from(format.number(self.reg(CENTURY))) * 100 + u16::from(number(YEAR)),
            month: number(MONTH),
            day: number(DAY),
            hour: format.hour(self.reg(HOURS))?,
            minute: number(MINUTES),
            second: number(SECONDS),
        }
        .checked()
    }

    fn set_wall_clock(&mut self, wall: WallClock) {
        let format = self.format();
        self.ram[usize::from(WEEKDAY)] = wall.weekday();
        self.show(wall, format);
        self.find_alarm();
    }

    /// Writes every clock byte but the weekday.
    fn show(&mut self, wall: WallClock, format: Format) {
        let bytes = [
            (SECONDS, format.byte(wall.second)),
            (MINUTES, format.byte(wall.minute)),
            (HOURS, format.hour_byte(wall.hour)),
            (DAY, format.byte(wall.day)),
            (MONTH, format.byte(wall.month)),
            (YEAR, format.byte((wall.year % 100) as u8)),
            (CENTURY, format.byte((wall.year / 100 % 100) as u8)),
        ];
        for (index, byte) in bytes {
            self.ram[usize::from(index)] = byte;
        }
    }

    fn read_register(&mut self, index: u8, now: Nanos) -> u8 {
        self.advance(now);
        match index {
            REG_A => self.reg(REG_A) | if self.update_in_progress(now) { A_UIP } else { 0 },
            REG_C => {
                let irqf = if self.irq() { C_IRQF } else { 0 };
                core::mem::take(&mut self.flags) | irqf
            }
            _ => self.reg(index),
        }
    }

    fn write_register(&mut self, index: u8, value: u8, now: Nanos) {
        self.advance(now);
        match index {
            REG_A => self.write_reg_a(value & !A_UIP, now),
            // SET clears UIE (datasheet, "Register B", SET).
            REG_B if value & B_SET != 0 => self.ram[usize::from(REG_B)] = value & !B_UIE,
            REG_B => self.ram[usize::from(REG_B)] = value,
            REG_C | REG_D => {}
            _ => self.ram[usize::from(index)] = value,
        }
        if index <= REG_B {
            self.find_alarm();
        }
    }

    fn write_reg_a(&mut self, value: u8, now: Nanos) {
        let ran = self.divider_runs();
        self.ram[usize::from(REG_A)] = value;
        if !ran && self.divider_runs() {
            // "The first update cycle begins one-half second later" (datasheet, "Divider Control").
            self.phase = (now.0 % NS + NS / 2) % NS;
            let (second, ns) = self.in_phase(now);
            self.second = second;
            self.tick = second * CRYSTAL_HZ + ns * CRYSTAL_HZ / NS;
        }
    }

    /// Sets PF where a period ended by crystal tick `tick`.
    #[inline]
    fn advance_periodic(&mut self, tick: u64) {
        if tick <= self.tick {
            return;
        }
        if self.period_shift().is_some_and(|shift| tick >> shift != self.tick >> shift) {
            self.flags |= C_PF;
        }
        self.tick = tick;
    }

    /// Brings the clock bytes from `self.second` to `second`, which is later.
    fn advance_seconds(&mut self, second: u64) {
        let elapsed = second - self.second;
        self.second = second;
        if !self.updates() {
            return;
        }
        self.flags |= C_UF;
        if self.alarm.is_some_and(|alarm| alarm <= second) {
            self.flags |= C_AF;
        }
        let format = self.format();
        // A time that is none (a guest left zeros, say) starts at the nearest that is one.
        let wall = self.wall_clock().unwrap_or_else(|| self.nearest_wall_clock(format));
        let (later, days) = wall.plus_seconds(elapsed);
        if days > 0 {
            let weekday = u64::from(self.reg(WEEKDAY).wrapping_sub(1) % 7);
            self.ram[usize::from(WEEKDAY)] = ((weekday + days % 7) % 7 + 1) as u8;
        }
        self.show(later, format);
        if self.alarm.is_none_or(|alarm| alarm <= second) {
            self.find_alarm();
        }
    }

    fn nearest_wall_clock(&self, format: Format) -> WallClock {
        let number = |index| format.number(self.reg(index));
        let century = match number(CENTURY) {
            century @ 16..=99 => u16::from(century),
            _ => 20,
        };
        WallClock {
            year: century * 100 + u16::from(number(YEAR) % 100),
            month: number(MONTH).clamp(1, 12),
            day: number(DAY).clamp(1, 28),
            hour: format.hour(self.reg(HOURS)).unwrap_or(0),
            minute: number(MINUTES).min(59),
            second: number(SECONDS).min(59),
        }
    }

    /// Finds the second of the next alarm: a search over hours, minutes and seconds in turn, at
    /// most 24 + 60 + 60 steps and a few for the carries.
    fn find_alarm(&mut self) {
        self.alarm = None;
        if !self.updates() {
            return;
        }
        let format = self.format();
        let any = |byte: u8| byte & 0xC0 == 0xC0;
        let hit = |byte: u8, value: Option<u8>, now: u32| {
            any(byte) || value.is_some_and(|value| u32::from(value) == now)
        };
        let (hours, minutes, seconds) =
            (self.reg(HOURS_ALARM), self.reg(MINUTES_ALARM), self.reg(SECONDS_ALARM));
        let start = self.nearest_wall_clock(format).second_of_day();
        let mut time = start + 1;
        for _ in 0..200 {
            let (hour, minute, second) = (time / 3600 % 24, time / 60 % 60, time % 60);
            if !hit(hours, format.hour(hours), hour) {
                time += 3600 - time % 3600;
            } else if !hit(minutes, Some(format.number(minutes)), minute) {
                time += 60 - time % 60;
            } else if !hit(seconds, Some(format.number(seconds)), second) {
                time += 1;
            } else {
                self.alarm = Some(self.second + u64::from(time - start));
                return;
            }
        }
    }

    fn update_in_progress(&self, now: Nanos) -> bool {
        self.updates() && self.in_phase(now).1 >= NS - UIP_NS
    }

    #[inline]
    fn reg(&self, index: u8) -> u8 {
        self.ram[usize::from(index)]
    }

    fn format(&self) -> Format {
        Format { binary: self.reg(REG_B) & B_DM != 0, hours_24: self.reg(REG_B) & B_24H != 0 }
    }

    /// DV2 to DV0 above 010 hold the divider in reset.
    fn divider_runs(&self) -> bool {
        self.reg(REG_A) & 0x70 <= 0x20
    }

    /// Whether the next second will change the clock bytes.
    fn updates(&self) -> bool {
        self.divider_runs() && self.reg(REG_B) & B_SET == 0
    }

    /// log2 of the periodic rate in crystal ticks (datasheet, table 4, "32.768 kHz time base").
    fn period_shift(&self) -> Option<u32> {
        match u32::from(self.reg(REG_A) & 0x0F) {
            _ if !self.divider_runs() => None,
            0 => None,
            1 => Some(7),
            2 => Some(8),
            rate => Some(rate - 1),
        }
    }

    fn period(&self) -> Option<u64> {
        self.period_shift().map(|shift| 1 << shift)
    }

    /// Seconds in phase since a second before power-on, and ns into the one that runs.
    #[inline]
    fn in_phase(&self, now: Nanos) -> (u64, u64) {
        let since = now.0.saturating_add(NS - self.phase);
        (since / NS, since % NS)
    }

    /// When second `second`, counted as `in_phase` does, begins.
    fn start_of(&self, second: u64) -> Nanos {
        Nanos(second.saturating_mul(NS).saturating_sub(NS - self.phase))
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> RtcState {
        let Self { index, extended_index, nmi_masked, ram, flags, phase, second, tick, alarm: _ } =
            *self;
        RtcState {
            version: RtcState::VERSION,
            index,
            extended_index,
            nmi_masked,
            ram,
            flags,
            phase,
            second,
            tick,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; the chip is then unchanged.
    pub fn load(&mut self, state: &RtcState) -> Result<(), LoadError> {
        let RtcState {
            version,
            index,
            extended_index,
            nmi_masked,
            ram,
            flags,
            phase,
            second,
            tick,
        } = *state;
        if version != RtcState::VERSION {
            return Err(LoadError::Version);
        }
        require(index < 0x80, "index")?;
        require(ram[usize::from(REG_A)] & A_UIP == 0, "register A")?;
        require(ram[usize::from(REG_B)] & (B_SET | B_UIE) != B_SET | B_UIE, "register B")?;
        require(ram[usize::from(REG_C)] == 0, "register C")?;
        require(ram[usize::from(REG_D)] == D_VRT, "register D")?;
        require(flags & !(C_PF | C_AF | C_UF) == 0, "flags")?;
        require(phase < NS, "phase")?;
        require(second <= u64::MAX / NS, "second")?;
        require(tick / CRYSTAL_HZ == second, "tick")?;
        *self = Self {
            index,
            extended_index,
            nmi_masked,
            ram,
            flags,
            phase,
            second,
            tick,
            alarm: None,
        };
        self.find_alarm();
        Ok(())
    }
}

/// Crystal ticks below one second in ns, rounded up so that the tick has passed by then.
const fn sub_tick_ns(ticks: u64) -> u64 {
    (ticks * NS).div_ceil(CRYSTAL_HZ)
}

/// A saved [`Rtc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct RtcState {
    pub version: u16,
    pub index: u8,
    pub extended_index: u8,
    pub nmi_masked: bool,
    pub ram: [u8; 256],
    pub flags: u8,
    pub phase: u64,
    pub second: u64,
    pub tick: u64,
}

impl RtcState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
