//! The 8259A pair at vectors 20h to 2Fh, and the 8254.

use crate::port::{in8, out8};
use core::sync::atomic::{AtomicU16, Ordering};

/// The first vector.
pub const BASE: u8 = 0x20;

static BIOS_MASKS: AtomicU16 = AtomicU16::new(0);
static MASKS: AtomicU16 = AtomicU16::new(0xffff);

fn program(master: u8, slave: u8, masks: u16) {
    for (port, value) in [(0x20, 0x11), (0xa0, 0x11), (0x21, master), (0xa1, slave)] {
        out8(port, value);
    }
    for (port, value) in [(0x21, 4), (0xa1, 2), (0x21, 1), (0xa1, 1)] {
        out8(port, value);
    }
    out8(0x21, masks as u8);
    out8(0xa1, (masks >> 8) as u8);
}

/// Takes the controllers from the BIOS, everything masked.
pub fn take_over() {
    BIOS_MASKS.store(u16::from(in8(0xa1)) << 8 | u16::from(in8(0x21)), Ordering::Relaxed);
    program(BASE, BASE + 8, 0xffff);
}

/// Gives them to the BIOS for a call.
pub fn give_back() {
    program(8, 0x70, BIOS_MASKS.load(Ordering::Relaxed));
}

/// Takes them back after the call.
pub fn take_over_again() {
    BIOS_MASKS.store(u16::from(in8(0xa1)) << 8 | u16::from(in8(0x21)), Ordering::Relaxed);
    program(BASE, BASE + 8, MASKS.load(Ordering::Relaxed));
}

/// Opens a line, and the cascade with it.
pub fn unmask(line: u8) {
    let open = 1 << line | if line > 7 { 4 } else { 0 };
    let masks = MASKS.load(Ordering::Relaxed) & !open;
    set_masks(masks);
}

/// Sets all masks.
pub fn set_masks(masks: u16) {
    MASKS.store(masks, Ordering::Relaxed);
    out8(0x21, masks as u8);
    out8(0xa1, (masks >> 8) as u8);
}

/// Ends an interrupt.
pub fn eoi(line: u8) {
    if line > 7 {
        out8(0xa0, 0x20);
    }
    out8(0x20, 0x20);
}

/// The 8254's clock in Hz.
pub const PIT_HZ: u64 = 1_193_182;

/// Programs a channel: mode 0 to 5, both bytes.
pub fn pit(channel: u8, mode: u8, count: u16) {
    out8(0x43, channel << 6 | 0x30 | mode << 1);
    out8(0x40 + u16::from(channel), count as u8);
    out8(0x40 + u16::from(channel), (count >> 8) as u8);
}

/// Latches and reads a channel.
pub fn pit_read(channel: u8) -> u16 {
    out8(0x43, channel << 6);
    let low = in8(0x40 + u16::from(channel));
    u16::from(in8(0x40 + u16::from(channel))) << 8 | u16::from(low)
}

/// Waits by channel 2, at most 50 ms at a time.
pub fn wait_us(us: u64) {
    let mut left = us;
    while left > 0 {
        let part = left.min(50_000);
        out8(0x61, in8(0x61) & !3 | 1);
        pit(2, 0, (part * PIT_HZ / 1_000_000).max(1) as u16);
        while in8(0x61) & 0x20 == 0 {}
        left -= part;
    }
}
