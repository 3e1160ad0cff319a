//! Dates, and how the clock's bytes write them: BCD or binary, 12 or 24 hours.

const DAY_SECONDS: u64 = 86_400;
/// Days in 400 Gregorian years.
const ERA_DAYS: u64 = 146_097;

/// A date and a time of day in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl WallClock {
    /// The time `seconds` after 1970-01-01 00:00:00.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        let epoch = Self { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        epoch.plus_seconds(seconds).0
    }

    /// Itself if it is a time at all.
    #[must_use]
    pub fn checked(self) -> Option<Self> {
        let Self { year, month, day, hour, minute, second } = self;
        let days = match month {
            2 if leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let good = year <= 9999 && (1..=days).contains(&day);
        (good && hour < 24 && minute < 60 && second < 60).then_some(self)
    }

    /// 1 for Sunday to 7 for Saturday.
    #[must_use]
    pub fn weekday(self) -> u8 {
        // Day 0 is a Wednesday, as 0000-03-01 is.
        ((self.days() + 3) % 7) as u8 + 1
    }

    /// Seconds since midnight.
    #[must_use]
    pub fn second_of_day(self) -> u32 {
        u32::from(self.hour) * 3600 + u32::from(self.minute) * 60 + u32::from(self.second)
    }

    /// This time plus `seconds`, and how many midnights lie between. Years wrap after 9999.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> (Self, u64) {
        let total = u64::from(self.second_of_day()).saturating_add(seconds);
        let (midnights, rest) = (total / DAY_SECONDS, (total % DAY_SECONDS) as u32);
        let (year, month, day) = match midnights {
            0 => (self.year, self.month, self.day),
            _ => date(self.days() + midnights),
        };
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let later =
            Self { year, month, day, hour: hour as u8, minute: minute as u8, second: second as u8 };
        (later, midnights)
    }

    /// Days since 1 March of the year -400, so that January and February can count to the year
    /// before. An era is 20,871 weeks: weekdays are those of the year 0.
    fn days(self) -> u64 {
        let year = u64::from(self.year) + 400 - u64::from(self.month <= 2);
        let month = (u64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + u64::from(self.day.max(1)) - 1;
        year * 365 + year / 4 - year / 100 + year / 400 + day_of_year
    }
}

/// The date `days` after 1 March of the year -400.
fn date(days: u64) -> (u16, u8, u8) {
    let era = days / ERA_DAYS;
    let day = days % ERA_DAYS;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let january_first = u64::from(month >= 10);
    let year = (era * 400 + year + january_first + 9_600) % 10_000;
    (year as u16, ((month + 2) % 12 + 1) as u8, day_of_month as u8)
}

fn leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Register B's DM and 24/12 bits.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

impl Format {
    /// A byte as a number; bytes that are no BCD give a number that is no time.
    pub(super) fn number(self, byte: u8) -> u8 {
        match (self.binary, byte >> 4, byte & 0x0F) {
            (true, ..) => byte,
            (false, tens @ 0..=9, ones @ 0..=9) => tens * 10 + ones,
            _ => 0xFF,
        }
    }

    /// A number below 100 as a byte.
    pub(super) fn byte(self, number: u8) -> u8 {
        if self.binary { number } else { ((number / 10 % 10) << 4) | (number % 10) }
    }

    /// An hour byte as 0 to 23.
    pub(super) fn hour(self, byte: u8) -> Option<u8> {
        if self.hours_24 {
            return Some(self.number(byte)).filter(|&hour| hour < 24);
        }
        let afternoon = if byte & 0x80 != 0 { 12 } else { 0 };
        match self.number(byte & 0x7F) {
            hour @ 1..=12 => Some(hour % 12 + afternoon),
            _ => None,
        }
    }

    /// 0 to 23 as an hour byte.
    pub(super) fn hour_byte(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.byte(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        afternoon | self.byte((hour + 11) % 12 + 1)
    }
}
