//! ACPI fixed hardware as the PIIX4 has it: PM1a, the PM timer, one GPE block, the APM ports.
//! ACPI Specification "ACPI Hardware Specification"; datasheet "82371AB (PIIX4)", "Power
//! Management".
//!
//! Left out: SMIs, so the APM port switches SCI_EN itself; throttling, bus-master and GBL wiring.

mod state;
#[cfg(test)]
mod tests;

use arch::Nanos;

pub use state::AcpiPmState;

/// The PM timer's clock.
pub const TIMER_HZ: u64 = 3_579_545;
/// What firmware writes to the command port to turn ACPI mode on. It belongs into the FADT.
pub const ACPI_ENABLE: u8 = 0xF1;
/// What firmware writes to the command port to turn ACPI mode off.
pub const ACPI_DISABLE: u8 = 0xF0;
/// SLP_TYP of S5 (and S0 is not entered by it): the DSDT's \_S5 must say so.
pub const SLEEP_TYPE_S5: u8 = 0;
/// SLP_TYP of S3.
pub const SLEEP_TYPE_S3: u8 = 1;
/// SLP_TYP of S4, which is a power-off once the guest has saved itself.
pub const SLEEP_TYPE_S4: u8 = 2;

/// PM1 status and enable: the timer's highest bit changed.
const TIMER: u16 = 1 << 0;
/// PM1 status and enable: the firmware wants attention.
const GLOBAL: u16 = 1 << 5;
/// PM1 status and enable: the power button.
const POWER_BUTTON: u16 = 1 << 8;
/// PM1 status and enable: the sleep button.
const SLEEP_BUTTON: u16 = 1 << 9;
/// PM1 status and enable: the RTC's alarm.
const RTC: u16 = 1 << 10;
/// PM1 status: the machine woke.
const WAKE: u16 = 1 << 15;
const STATUS_BITS: u16 = TIMER | 1 << 4 | GLOBAL | POWER_BUTTON | SLEEP_BUTTON | RTC | WAKE;
const ENABLE_BITS: u16 = TIMER | GLOBAL | POWER_BUTTON | SLEEP_BUTTON | RTC;

/// PM1 control: power-management events raise SCIs.
const SCI_ENABLE: u16 = 1;
/// PM1 control: SLP_EN, which always reads 0.
const SLEEP_ENABLE: u16 = 1 << 13;
/// PM1 control: what can be written. SCI_EN is among it, as on the PIIX4.
const CONTROL_BITS: u16 = SCI_ENABLE | 1 << 1 | 7 << 10;

/// What the board decides once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcpiPmConfig {
    /// Whether the PM timer has 32 bits; 24 otherwise. The FADT must say the same.
    pub wide_timer: bool,
}

/// What a write asks of the outside.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEffect {
    /// Nothing; the SCI may have changed, and `due`.
    Nothing,
    /// Turn the machine off: S5 or S4.
    PowerOff,
    /// Suspend to RAM: S3.
    Suspend,
}

/// Why the machine wakes from S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeCause {
    /// The power button.
    PowerButton,
    /// The RTC's alarm.
    Rtc,
    /// Anything else, such as a key or a request of the host.
    Other,
}

/// The power-management registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiPm {
    // Fixed
    config: AcpiPmConfig,
    // Guest-visible
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: u16,
    gpe_enable: u16,
    apm_command: u8,
    apm_status: u8,
    /// How often the timer's highest bit had changed when TMR_STS was last worked out.
    changes: u64,
}

impl AcpiPm {
    /// The registers after reset, in APM mode.
    #[must_use]
    pub const fn new(config: AcpiPmConfig) -> Self {
        Self {
            config,
            status: 0,
            enable: 0,
            control: 0,
            gpe_status: 0,
            gpe_enable: 0,
            apm_command: 0,
            apm_status: 0,
            changes: 0,
        }
    }

    /// Reset. The PM timer goes on counting.
    pub fn reset(&mut self) {
        *self = Self { changes: self.changes, ..Self::new(self.config) };
    }

    /// The PM timer: exact for ever, with two divisions by constants.
    #[inline]
    #[must_use]
    pub fn timer(&self, now: Nanos) -> u32 {
        let ticks = ticks_at(now) as u32;
        if self.config.wide_timer { ticks } else { ticks & 0x00FF_FFFF }
    }

    /// Reads `width` (1, 2 or 4) bytes at `offset` from the PM base. PIIX4 has 64 ports there;
    /// those without a register read 0.
    #[inline]
    pub fn read(&mut self, offset: u8, width: u8, now: Nanos) -> u32 {
        let dword = match offset & 0xFC {
            0x08 => self.timer(now),
            0x00 => {
                self.advance(now);
                u32::from(self.enable) << 16 | u32::from(self.status)
            }
            0x04 => u32::from(self.control),
            _ => 0,
        };
        cut(dword, offset, width)
    }

    /// Writes `width` (1, 2 or 4) bytes at `offset` from the PM base.
    pub fn write(&mut self, offset: u8, width: u8, value: u32, now: Nanos) -> PowerEffect {
        self.advance(now);
        let mut effect = PowerEffect::Nothing;
        for (at, byte) in (offset..64).zip(value.to_le_bytes()).take(usize::from(width)) {
            match at {
                0x00 | 0x01 => self.status &= !(place(byte, at) & STATUS_BITS),
                0x02 | 0x03 => self.enable = replace(self.enable, byte, at) & ENABLE_BITS,
                0x04 => self.control = replace(self.control, byte, at) & CONTROL_BITS,
                0x05 => {
                    self.control = replace(self.control, byte, at) & CONTROL_BITS;
                    if place(byte, at) & SLEEP_ENABLE != 0 {
                        effect = self.sleep();
                    }
                }
                _ => {}
            }
        }
        effect
    }

    /// Reads `width` bytes at `offset` from the GPE0 base: two bytes of status, two of enable.
    #[must_use]
    pub fn read_gpe(&self, offset: u8, width: u8) -> u32 {
        if offset > 3 {
            return 0;
        }
        cut(u32::from(self.gpe_enable) << 16 | u32::from(self.gpe_status), offset, width)
    }

    /// Writes `width` bytes at `offset` from the GPE0 base.
    pub fn write_gpe(&mut self, offset: u8, width: u8, value: u32) {
        for (at, byte) in (offset..4).zip(value.to_le_bytes()).take(usize::from(width)) {
            match at {
                0 | 1 => self.gpe_status &= !place(byte, at),
                _ => self.gpe_enable = replace(self.gpe_enable, byte, at),
            }
        }
    }

    /// Reads port B2h (0) or B3h (1).
    #[must_use]
    pub const fn read_apm(&self, port: u8) -> u8 {
        if port & 1 == 0 { self.apm_command } else { self.apm_status }
    }

    /// Writes port B2h (0) or B3h (1). Commands would raise an SMI whose handler switches to or
    /// from ACPI mode; the chip does that itself. The SCI may change.
    pub fn write_apm(&mut self, port: u8, value: u8) {
        if port & 1 != 0 {
            self.apm_status = value;
            return;
        }
        self.apm_command = value;
        match value {
            ACPI_ENABLE => self.control |= SCI_ENABLE,
            ACPI_DISABLE => self.control &= !SCI_ENABLE,
            _ => {}
        }
    }

    /// Whether the SCI (IRQ 9, a level) is asserted.
    #[inline]
    #[must_use]
    pub const fn sci(&self) -> bool {
        let events = self.status & self.enable | self.gpe_status & self.gpe_enable;
        events != 0 && self.control & SCI_ENABLE != 0
    }

    /// Whether the guest is in ACPI mode, so that pressing the power button will reach it.
    #[must_use]
    pub const fn is_acpi(&self) -> bool {
        self.control & SCI_ENABLE != 0
    }

    /// Someone presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// Whether the guest has yet to clear the power button's status.
    #[must_use]
    pub const fn power_button_waits(&self) -> bool {
        self.status & POWER_BUTTON != 0
    }

    /// Someone presses the sleep button.
    pub fn press_sleep_button(&mut self) {
        self.status |= SLEEP_BUTTON;
    }

    /// The RTC's alarm.
    pub fn rtc_alarm(&mut self) {
        self.status |= RTC;
    }

    /// Raises general-purpose event `n` (0 to 15).
    pub fn raise_gpe(&mut self, n: u8) {
        self.gpe_status |= 1 << (n & 15);
    }

    /// The machine wakes from S3: WAK_STS, and the cause. Call it after the reset that waking is.
    pub fn wake(&mut self, cause: WakeCause) {
        self.status |= WAKE
            | match cause {
                WakeCause::PowerButton => POWER_BUTTON,
                WakeCause::Rtc => RTC,
                WakeCause::Other => 0,
            };
    }

    /// When the timer's highest bit next changes, if the guest wants an SCI of it and has none yet.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let wanted = self.enable & TIMER != 0 && self.status & TIMER == 0;
        if !wanted || self.control & SCI_ENABLE == 0 {
            return None;
        }
        let tick = (self.changes + 1).checked_mul(1 << self.high_bit())?;
        Some(Nanos::from_ticks(tick, TIMER_HZ))
    }

    /// Lets time reach `now`: TMR_STS is set when the timer's highest bit has changed.
    #[inline]
    pub fn advance(&mut self, now: Nanos) {
        let changes = ticks_at(now) >> self.high_bit();
        if changes > self.changes {
            self.changes = changes;
            self.status |= TIMER;
        }
    }

    const fn high_bit(&self) -> u32 {
        if self.config.wide_timer { 31 } else { 23 }
    }

    fn sleep(&mut self) -> PowerEffect {
        match (self.control >> 10 & 7) as u8 {
            SLEEP_TYPE_S5 | SLEEP_TYPE_S4 => PowerEffect::PowerOff,
            SLEEP_TYPE_S3 => PowerEffect::Suspend,
            _ => PowerEffect::Nothing,
        }
    }
}

/// Whole ticks of the PM timer since power-on. 3,579,545 Hz is 715,909 ticks in 200 ms, so the two
/// products stay in 64 bits.
#[inline]
const fn ticks_at(now: Nanos) -> u64 {
    let (whole, part) = (now.0 / 200_000_000, now.0 % 200_000_000);
    whole * 715_909 + part * 715_909 / 200_000_000
}

/// The bytes of `dword` that an access of `width` at `offset` sees.
#[inline]
fn cut(dword: u32, offset: u8, width: u8) -> u32 {
    let value = dword >> (u32::from(offset & 3) * 8);
    value & u32::MAX >> (32 - 8 * u32::from(width.clamp(1, 4)))
}

/// `byte` in the half of a word that its port is.
const fn place(byte: u8, at: u8) -> u16 {
    (byte as u16) << ((at & 1) * 8)
}

/// `word` with the half that is port `at` replaced.
const fn replace(word: u16, byte: u8, at: u8) -> u16 {
    word & !place(0xFF, at) | place(byte, at)
}
