//! The memory window at A0000h to BFFFFh: which bytes it shows, and the path of data through
//! latches, ALU and masks (IBM "Video Subsystems", section "Graphics Controller").
//!
//! `Window` is derived from the registers when they change, so an access decides little.

use super::regs::Regs;
use super::vbe::Vbe;
use super::vram::Vram;
use super::{DirectMap, Vga, WINDOW_BASE, WINDOW_LEN};

/// How an address in the window becomes plane and plane address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// VBE with 8 bits and more: bytes of the frame buffer.
    Linear,
    /// Plane is address bits 0 and 1.
    Chain4,
    /// Plane bit 0 is address bit 0: text and CGA.
    OddEven,
    /// The address is the plane address; masks choose planes.
    Planar,
}

/// What the registers make of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// First address that answers, from A0000h on.
    start: u32,
    /// Addresses that answer; 0 when memory is off.
    len: u32,
    read: Access,
    write: Access,
    /// Frame buffer byte (`Linear`) or plane address (`Planar`) of the window's first byte.
    bank: u32,
    /// The data path changes nothing: what is written is what is stored.
    plain: bool,
    /// Planes that a write may change, a byte of ones each.
    planes: u32,
    set_reset: u32,
    enable_set_reset: u32,
    bit_mask: u32,
}

/// A byte of ones for each of the four low bits.
const fn spread(planes: u8) -> u32 {
    let bits = planes as u32;
    ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) * 0xFF
}

/// The byte in all four lanes.
const fn replicate(value: u8) -> u32 {
    value as u32 * 0x0101_0101
}

const EVEN_PLANES: u32 = 0x00FF_00FF;

impl Window {
    pub fn new(regs: &Regs, vbe: &Vbe) -> Self {
        let (start, len) = match (regs.misc & 2, regs.gc[6] >> 2 & 3) {
            _ if vbe.linear() => (0, 0x1_0000),
            (0, _) => (0, 0),
            (_, 0) => (0, 0x2_0000),
            (_, 1) => (0, 0x1_0000),
            (_, 2) => (0x1_0000, 0x8000),
            (_, _) => (0x1_8000, 0x8000),
        };
        let chain4 = regs.seq[4] & 8 != 0;
        let access = |odd_even: bool| match () {
            () if vbe.linear() => Access::Linear,
            () if chain4 => Access::Chain4,
            () if odd_even => Access::OddEven,
            () => Access::Planar,
        };
        let bank = if vbe.enabled() { u32::from(vbe.bank) << 16 } else { 0 };
        Self {
            start,
            len,
            read: access(regs.gc[5] & 0x10 != 0),
            write: access(regs.seq[4] & 4 == 0),
            bank,
            plain: regs.gc[5] & 3 == 0 && regs.gc[3] == 0 && regs.gc[8] == 0xFF && regs.gc[1] == 0,
            planes: spread(regs.seq[2]),
            set_reset: spread(regs.gc[0]),
            enable_set_reset: spread(regs.gc[1]),
            bit_mask: replicate(regs.gc[8]),
        }
    }

    /// Byte offset in video memory of a plane address. Without VBE the counter has 16 bits.
    const fn plane_offset(&self, address: u32) -> u32 {
        ((address & 0xFFFF) + (self.bank & 0x00FF_FFFF)) << 2
    }

    /// See [`Vga::direct_map`].
    pub fn direct_map(&self, regs: &Regs, vram_len: u32) -> Option<DirectMap> {
        let linear = match self.write {
            Access::Linear => true,
            Access::Chain4 => self.plain && self.planes == u32::MAX && regs.gc[5] & 8 == 0,
            Access::OddEven | Access::Planar => false,
        };
        let map = DirectMap {
            guest_base: WINDOW_BASE + self.start,
            len: self.len,
            vram_offset: if self.write == Access::Linear { self.bank } else { 0 },
        };
        let fits = map.vram_offset.checked_add(map.len).is_some_and(|end| end <= vram_len);
        (linear && self.read == self.write && self.len != 0 && fits).then_some(map)
    }
}

impl Vga {
    /// Reads `width` (1, 2, 4 or 8) bytes at `offset` bytes from A0000h; the first byte is the
    /// lowest, bytes beyond the width are 0. Where nothing answers a byte is FFh.
    pub fn mem_read<V: Vram + ?Sized>(&mut self, vram: &V, offset: u32, width: u8) -> u64 {
        let (offset, width) = (offset % WINDOW_LEN, u32::from(width.min(8)));
        let mut value = 0;
        for index in 0..width {
            value |= u64::from(self.read_byte(vram, offset + index)) << (index * 8);
        }
        value
    }

    /// Writes the low `width` (1, 2, 4 or 8) bytes of `value` from `offset` bytes after A0000h on.
    pub fn mem_write<V: Vram + ?Sized>(&mut self, vram: &V, offset: u32, width: u8, value: u64) {
        self.generation = self.generation.wrapping_add(1);
        let (mut offset, mut left, mut value) = (offset % WINDOW_LEN, width.min(8), value);
        // A text cell, character and attribute, is one word of the four planes.
        while left >= 2
            && offset & 1 == 0
            && self.window.write == Access::OddEven
            && self.window.plain
        {
            let address = offset.wrapping_sub(self.window.start);
            if address < self.window.len {
                let word = self.window.plane_offset(address);
                let cell = u32::from(value as u16) * 0x0001_0001;
                merge(vram, word, cell, self.window.planes);
            }
            (offset, left, value) = (offset + 2, left - 2, value >> 16);
        }
        for _ in 0..left {
            self.write_byte(vram, offset, value as u8);
            (offset, value) = (offset + 1, value >> 8);
        }
    }

    fn read_byte<V: Vram + ?Sized>(&mut self, vram: &V, offset: u32) -> u8 {
        let window = &self.window;
        let address = offset.wrapping_sub(window.start);
        if address >= window.len {
            return 0xFF;
        }
        let read_map = u32::from(self.regs.gc[4]);
        let plane = match window.read {
            Access::Linear => return vram.get(window.bank.saturating_add(address)),
            Access::Chain4 => {
                self.latch = vram.get32(address);
                address & 3
            }
            Access::OddEven => {
                self.latch = vram.get32(window.plane_offset(address & !1));
                read_map & 2 | address & 1
            }
            Access::Planar => {
                self.latch = vram.get32(window.plane_offset(address));
                read_map
            }
        };
        if self.regs.gc[5] & 8 == 0 {
            return (self.latch >> (plane * 8)) as u8;
        }
        // Read mode 1: a bit is set where every plane that matters has the compared colour.
        let compared = (self.latch ^ spread(self.regs.gc[2])) & spread(self.regs.gc[7]);
        let differs = compared | compared >> 16;
        !((differs | differs >> 8) as u8)
    }

    fn write_byte<V: Vram + ?Sized>(&mut self, vram: &V, offset: u32, value: u8) {
        let window = &self.window;
        let address = offset.wrapping_sub(window.start);
        if address >= window.len {
            return;
        }
        let (word, lanes) = match window.write {
            Access::Linear => return vram.set(window.bank.saturating_add(address), value),
            Access::Chain4 => {
                let lane = 0xFF << ((address & 3) * 8);
                if window.plain {
                    if window.planes & lane != 0 {
                        vram.set(address, value);
                    }
                    return;
                }
                (address & !3, lane)
            }
            Access::OddEven => {
                let lanes = if address & 1 == 0 { EVEN_PLANES } else { !EVEN_PLANES };
                (window.plane_offset(address & !1), lanes)
            }
            Access::Planar => (window.plane_offset(address), u32::MAX),
        };
        let data = if window.plain { replicate(value) } else { self.data_path(value) };
        merge(vram, word, data, self.window.planes & lanes);
    }

    /// What the four planes are offered for a byte from the CPU, by write mode.
    fn data_path(&self, value: u8) -> u32 {
        let window = &self.window;
        let rotated = value.rotate_right(u32::from(self.regs.gc[3] & 7));
        let (data, mask) = match self.regs.gc[5] & 3 {
            0 => {
                let set = window.enable_set_reset;
                (replicate(rotated) & !set | window.set_reset & set, window.bit_mask)
            }
            1 => return self.latch,
            2 => (spread(value & 0xF), window.bit_mask),
            _ => (window.set_reset, window.bit_mask & replicate(rotated)),
        };
        let result = match self.regs.gc[3] >> 3 & 3 {
            0 => data,
            1 => data & self.latch,
            2 => data | self.latch,
            _ => data ^ self.latch,
        };
        result & mask | self.latch & !mask
    }
}

/// Stores `data` in the lanes of `mask`, of the word at `word`.
fn merge<V: Vram + ?Sized>(vram: &V, word: u32, data: u32, mask: u32) {
    match mask {
        0 => {}
        u32::MAX => vram.set32(word, data),
        _ => vram.set32(word, vram.get32(word) & !mask | data & mask),
    }
}
