//! INT 10h 1Ch and 4F04h: the video state to and from the caller's buffer, in blocks of 64 bytes.

use super::{crtc_port, indexed, palette, read_indexed};
use crate::caller::Call;
use crate::platform::Platform;

/// Parts of the state (CX of 1Ch and 4F04h).
const HARDWARE: u16 = 1;
const DATA: u16 = 2;
const DAC: u16 = 4;
const DISPI: u16 = 8;

/// Bytes of each part, multiples of 64.
const SIZES: [(u16, u16); 4] = [(HARDWARE, 128), (DATA, 128), (DAC, 832), (DISPI, 64)];

/// Data area ranges that belong to video.
const DATA_RANGES: [(u32, u32); 4] = [(0x449, 30), (0x484, 7), (0x4a8, 4), (0x10c, 4)];

/// 64-byte blocks that the parts take.
pub(super) fn blocks(parts: u16) -> u16 {
    SIZES.iter().filter(|(part, _)| parts & part != 0).map(|(_, size)| size / 64).sum()
}

pub(super) fn int10_1c_save_restore<P: Platform>(c: &mut Call<'_, P>) {
    let parts = c.cx() & (HARDWARE | DATA | DAC);
    if parts == 0 {
        return;
    }
    match c.al() {
        0 => c.set_bx(blocks(parts)),
        1 => save(c, parts),
        2 => restore(c, parts),
        _ => return,
    }
    c.set_al(0x1c);
}

/// The registers of the card in a fixed order: (port, first index, count).
const BANKS: [(u16, u8, u8); 3] = [(0x3c4, 0, 5), (0x3d4, 0, 25), (0x3ce, 0, 9)];

fn real_port(port: u16, crtc: u16) -> u16 {
    if port == 0x3d4 { crtc } else { port }
}

/// Saves the parts to ES:BX.
pub(super) fn save<P: Platform>(c: &mut Call<'_, P>, parts: u16) {
    let mut at = c.es(c.bx());
    for (part, size) in SIZES.iter().filter(|(part, _)| parts & part != 0) {
        let mut buffer = [0; 832];
        let crtc = crtc_port(c);
        let mut bytes = buffer.iter_mut();
        let mut put = |value: u8| {
            if let Some(byte) = bytes.next() {
                *byte = value;
            }
        };
        match *part {
            HARDWARE => {
                put(c.bus.port_in(0x3cc, 1) as u8);
                for (port, first, count) in BANKS {
                    for index in first..first + count {
                        put(read_indexed(c, real_port(port, crtc), index));
                    }
                }
                for index in 0..21 {
                    let _ = c.bus.port_in(crtc + 6, 1);
                    c.bus.port_out(0x3c0, 1, index);
                    put(c.bus.port_in(0x3c1, 1) as u8);
                }
                let _ = c.bus.port_in(crtc + 6, 1);
                c.bus.port_out(0x3c0, 1, 0x20);
            }
            DATA => {
                for (start, count) in DATA_RANGES {
                    for n in 0..count {
                        put(c.read8(start + n));
                    }
                }
            }
            DAC => {
                put(c.bus.port_in(0x3c6, 1) as u8);
                for n in 0..=255 {
                    palette::read_dac(c, n).into_iter().for_each(&mut put);
                }
            }
            _ => {
                for index in super::vbe::SAVED {
                    let value = super::vbe::read_dispi(c, index);
                    value.to_le_bytes().into_iter().for_each(&mut put);
                }
            }
        }
        let used = buffer.get(..usize::from(*size)).unwrap_or(&buffer);
        c.write(at, used);
        at = at.wrapping_add(u32::from(*size));
    }
}

/// Restores the parts from ES:BX.
pub(super) fn restore<P: Platform>(c: &mut Call<'_, P>, parts: u16) {
    let mut at = c.es(c.bx());
    for (part, size) in SIZES.iter().filter(|(part, _)| parts & part != 0) {
        let mut buffer = [0; 832];
        let used = buffer.get_mut(..usize::from(*size)).unwrap_or_default();
        c.read(at, used);
        at = at.wrapping_add(u32::from(*size));
        let mut bytes = buffer.iter().copied();
        let mut get = || bytes.next().unwrap_or(0);
        match *part {
            HARDWARE => {
                let misc = get();
                c.bus.port_out(0x3c2, 1, misc.into());
                let crtc = if misc & 1 == 0 { 0x3b4 } else { 0x3d4 };
                indexed(c, crtc, 0x11, 0);
                for (port, first, count) in BANKS {
                    for index in first..first + count {
                        indexed(c, real_port(port, crtc), index, get());
                    }
                }
                let _ = c.bus.port_in(crtc + 6, 1);
                for index in 0..21 {
                    c.bus.port_out(0x3c0, 1, index);
                    c.bus.port_out(0x3c0, 1, get().into());
                }
                c.bus.port_out(0x3c0, 1, 0x20);
            }
            DATA => {
                for (start, count) in DATA_RANGES {
                    for n in 0..count {
                        c.write8(start + n, get());
                    }
                }
            }
            DAC => {
                c.bus.port_out(0x3c6, 1, get().into());
                for n in 0..=255 {
                    palette::write_dac(c, n, [get(), get(), get()]);
                }
            }
            _ => {
                for index in super::vbe::SAVED {
                    let value = u16::from_le_bytes([get(), get()]);
                    super::vbe::dispi(c, index, value);
                }
            }
        }
    }
}
