//! What POST writes into CMOS, and what it takes from the clock (AT technical reference, "Real-Time Clock/CMOS
//! RAM"; the bytes above 33h as this board's operating systems know them).

use crate::bda;
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::e820;
use crate::int13::{floppy_type, nth};
use crate::platform::{DiskKind, Platform};

/// Sets the tick count from the clock.
pub(super) fn clock_to_ticks<P: Platform>(c: &mut Call<'_, P>) {
    let bcd = |byte: u8| u64::from(byte >> 4) * 10 + u64::from(byte & 15);
    let [hours, minutes, seconds] = [4, 2, 0].map(|index| bcd(c.cmos(index)));
    let seconds = hours.min(23) * 3600 + minutes.min(59) * 60 + seconds.min(59);
    let ticks = seconds * 1_193_182 / 65_536;
    c.set_bda32(bda::TICKS, ticks as u32);
}

/// Memory sizes, drive types, equipment, and the checksum over 10h to 2Dh.
pub(super) fn fill<P: Platform>(c: &mut Call<'_, P>) {
    let config = c.bus.config();
    let extended = e820::extended_kb(config, 64 << 20).min(0xffff) as u16;
    let low = e820::extended_kb(config, 1 << 32).saturating_sub(15 << 10);
    let above_16m = (low / 64).min(0xffff) as u16;
    let high = (config.high_ram >> 16).min(0xff_ffff) as u32;
    let mut types = 0;
    for n in 0..2 {
        let kind = nth(c.bus, DiskKind::Floppy, n).map_or(0, |(_, info)| floppy_type(info.blocks));
        types |= if n == 0 { kind << 4 } else { kind };
    }
    let disk = |c: &Call<'_, P>, n| nth(c.bus, DiskKind::Hard, n).is_some();
    let (first, second) = (disk(c, 0), disk(c, 1));
    let hard = if first { 0xf0 } else { 0 } | if second { 0x0f } else { 0 };
    let equipment = c.bda16(bda::EQUIPMENT) as u8;
    for (at, value) in [(0x15u8, 640u16), (0x17, extended), (0x30, extended), (0x34, above_16m)] {
        let [low, high] = value.to_le_bytes();
        c.set_cmos(at, low);
        c.set_cmos(at + 1, high);
    }
    for (at, value) in (0x5b..).zip(high.to_le_bytes()).take(3) {
        c.set_cmos(at, value);
    }
    for (at, value) in [
        (0x0e, 0),
        (0x10, types),
        (0x12, hard),
        (0x14, equipment),
        (0x19, if first { 47 } else { 0 }),
        (0x1a, if second { 47 } else { 0 }),
    ] {
        c.set_cmos(at, value);
    }
    let sum = (0x10..=0x2d).fold(0u16, |sum, at| sum.wrapping_add(c.cmos(at).into()));
    let [low, high] = sum.to_le_bytes();
    c.set_cmos(0x2e, high);
    c.set_cmos(0x2f, low);
    c.bus.port_out(0x70, 1, 0x0d);
}

/// The tables behind INT 41h and 46h (Phoenix EDD, "Enhanced Drive Parameter Table": signature A0h where the
/// logical geometry is a translation).
pub(super) fn hard_disk_tables<P: Platform>(bios: &Bios, c: &mut Call<'_, P>) {
    for (n, at) in (0x80u8..).zip(bda::EBDA_HARD) {
        let Some(drive) = bios.drive(c.bus, n) else { continue };
        let (shown, own) = (drive.chs, drive.info.physical);
        let translated = own.cylinders != 0 && own != shown;
        let mut table = [0; 16];
        table[..2].copy_from_slice(&(shown.cylinders as u16).to_le_bytes());
        table[2] = shown.heads as u8;
        table[5..7].copy_from_slice(&[0xff, 0xff]);
        table[8] = 0xc0 | if shown.heads > 8 { 8 } else { 0 };
        table[14] = shown.sectors as u8;
        if translated {
            table[3] = 0xa0;
            table[4] = own.sectors as u8;
            table[9..11].copy_from_slice(&(own.cylinders.min(0xffff) as u16).to_le_bytes());
            table[11] = own.heads as u8;
            table[15] = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        }
        c.write((u32::from(bda::EBDA) << 4) + at, &table);
    }
}
