//! The host's wall clock, read once from its RTC at boot (MC146818 datasheet, "Time, Calendar and Alarm Locations").

// UNSAFETY: port I/O to the RTC.

/// A byte of the RTC's; all ones where there is none.
pub(super) fn cmos(index: u8) -> u8 {
    // SAFETY: selecting and reading a CMOS byte has no side effect; nobody else uses the RTC.
    unsafe {
        x86::io::outb(0x70, index);
        x86::io::inb(0x71)
    }
}

/// Seconds since 1970 by the host's RTC, taken as UTC.
#[must_use]
pub fn unix_seconds() -> u64 {
    for _ in 0..1_000_000 {
        if cmos(0x0a) & 0x80 == 0 {
            break;
        }
    }
    let (binary, hours_24) = (cmos(0x0b) & 4 != 0, cmos(0x0b) & 2 != 0);
    let decode =
        |value: u8| u64::from(if binary { value } else { (value >> 4) * 10 + (value & 15) });
    let (second, minute) = (decode(cmos(0)), decode(cmos(2)));
    let raw = cmos(4);
    let mut hour = decode(raw & 0x7f);
    if !hours_24 {
        hour = hour % 12 + if raw & 0x80 != 0 { 12 } else { 0 };
    }
    let (day, month, year) = (decode(cmos(7)), decode(cmos(8)), 2000 + decode(cmos(9)));
    // Days from the civil calendar, March first.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day;
    (days - 719_469) * 86_400 + hour * 3600 + minute * 60 + second
}
