//! The registers and the window, as the manuals describe them and as drivers use them.

use super::*;
use crate::testing::Rng;
use core::sync::atomic::AtomicU32;
use std::vec::Vec;

pub(super) const NOW: Nanos = Nanos(0);
const A0000: u32 = 0;
const B8000: u32 = 0x1_8000;

/// Register values of a mode, in the order of IBM's parameter tables.
pub(super) struct ModeTable {
    pub misc: u8,
    pub seq: [u8; 4],
    pub crtc: [u8; 25],
    pub attr: [u8; 21],
    pub gc: [u8; 9],
}

pub(super) const MODE_03: ModeTable = ModeTable {
    misc: 0x67,
    seq: [0x00, 0x03, 0x00, 0x02],
    crtc: [
        0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0, 0, 0, 0, 0x9C,
        0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
    ],
    attr: [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
        0x3F, 0x0C, 0x00, 0x0F, 0x08, 0x00,
    ],
    gc: [0, 0, 0, 0, 0, 0x10, 0x0E, 0x00, 0xFF],
};

pub(super) const MODE_12: ModeTable = ModeTable {
    misc: 0xE3,
    seq: [0x01, 0x0F, 0x00, 0x06],
    crtc: [
        0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xEA, 0x8C,
        0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF,
    ],
    attr: [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E,
        0x3F, 0x01, 0x00, 0x0F, 0x00, 0x00,
    ],
    gc: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0F, 0xFF],
};

pub(super) const MODE_13: ModeTable = ModeTable {
    misc: 0x63,
    seq: [0x01, 0x0F, 0x00, 0x0E],
    crtc: [
        0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0x9C, 0x8E,
        0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF,
    ],
    attr: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0x00, 0x0F, 0x00, 0x00],
    gc: [0, 0, 0, 0, 0, 0x40, 0x05, 0x0F, 0xFF],
};

/// A card with its memory.
pub(super) struct Card {
    pub vga: Vga,
    pub vram: Vec<AtomicU32>,
}

impl Card {
    pub fn new(bytes: u32) -> Self {
        Self { vga: Vga::new(bytes), vram: (0..bytes / 4).map(|_| AtomicU32::new(0)).collect() }
    }

    pub fn out(&mut self, port: u16, value: u8) {
        self.vga.port_write(port, value, NOW);
    }

    pub fn input(&mut self, port: u16) -> u8 {
        self.vga.port_read(port, NOW)
    }

    /// A word OUT to an index port.
    pub fn set(&mut self, port: u16, index: u8, value: u8) {
        self.out(port, index);
        self.out(port + 1, value);
    }

    pub fn get(&mut self, port: u16, index: u8) -> u8 {
        self.out(port, index);
        self.input(port + 1)
    }

    pub fn poke(&mut self, offset: u32, value: u8) {
        self.vga.mem_write(self.vram.as_slice(), offset, 1, u64::from(value));
    }

    pub fn poke16(&mut self, offset: u32, value: u16) {
        self.vga.mem_write(self.vram.as_slice(), offset, 2, u64::from(value));
    }

    pub fn peek(&mut self, offset: u32) -> u8 {
        self.vga.mem_read(self.vram.as_slice(), offset, 1) as u8
    }

    pub fn planes(&self, address: u32) -> [u8; 4] {
        Vram::get32(self.vram.as_slice(), address * 4).to_le_bytes()
    }

    pub fn dispi(&mut self, index: u16, value: u16) {
        self.vga.vbe_write(self.vram.as_slice(), 0x1CE, index);
        self.vga.vbe_write(self.vram.as_slice(), 0x1CF, value);
    }

    pub fn dispi_read(&mut self, index: u16) -> u16 {
        self.vga.vbe_write(self.vram.as_slice(), 0x1CE, index);
        self.vga.vbe_read(0x1CF)
    }

    /// What a BIOS does: sequencer reset, tables, unlock, palette through the flip-flop, screen on,
    /// and a grey ramp in the DAC with the sixteen colours' entries recognizable.
    pub fn mode(&mut self, table: &ModeTable) {
        self.out(0x3C2, table.misc);
        self.set(0x3C4, 0, 1);
        for (index, value) in (1..).zip(table.seq) {
            self.set(0x3C4, index, value);
        }
        self.set(0x3C4, 0, 3);
        self.set(0x3D4, 0x11, 0);
        for (index, value) in (0..).zip(table.crtc) {
            self.set(0x3D4, index, value);
        }
        for (index, value) in (0..).zip(table.gc) {
            self.set(0x3CE, index, value);
        }
        self.input(0x3DA);
        for (index, value) in (0..).zip(table.attr) {
            self.out(0x3C0, index);
            self.out(0x3C0, value);
        }
        self.out(0x3C0, 0x20);
        self.out(0x3C6, 0xFF);
        self.out(0x3C8, 0);
        for index in 0..=255_u8 {
            [index & 0x3F, index >> 6, 0].into_iter().for_each(|part| self.out(0x3C9, part));
        }
    }
}

#[test]
fn index_and_data_ports_hold_the_bits_that_exist() {
    let mut card = Card::new(0x4_0000);
    card.out(0x3C2, 1);
    for (port, index, value, read) in [
        (0x3C4, 4, 0xFF, 0x0E),
        (0x3C4, 5, 0xFF, 0x00),
        (0x3CE, 5, 0xFF, 0x7B),
        (0x3CE, 9, 0xFF, 0x00),
        (0x3D4, 0x0E, 0xA5, 0xA5),
        (0x3D4, 0x3F, 0xA5, 0xFF),
    ] {
        card.set(port, index, value);
        assert_eq!(card.get(port, index), read, "{port:x} {index:x}");
    }
    assert_eq!(card.input(0x3CC), 1);
}

#[test]
fn crtc_and_status_answer_at_the_address_that_misc_output_selects() {
    let mut card = Card::new(0x4_0000);
    card.set(0x3B4, 0x0F, 0x12);
    assert_eq!((card.get(0x3B4, 0x0F), card.input(0x3D5), card.input(0x3DA)), (0x12, 0xFF, 0xFF));
    card.out(0x3C2, 1);
    assert_eq!((card.get(0x3D4, 0x0F), card.input(0x3B5), card.input(0x3BA)), (0x12, 0xFF, 0xFF));
}

#[test]
fn write_protect_spares_only_the_line_compare_bit() {
    let mut card = Card::new(0x4_0000);
    card.out(0x3C2, 1);
    card.set(0x3D4, 7, 0x0F);
    card.set(0x3D4, 0x11, 0x80);
    for index in 0..=7 {
        card.set(0x3D4, index, 0xF0);
    }
    assert_eq!((card.get(0x3D4, 0), card.get(0x3D4, 7)), (0, 0x1F));
    card.set(0x3D4, 8, 0x55);
    assert_eq!(card.get(0x3D4, 8), 0x55);
}

#[test]
fn reading_status_one_makes_the_next_attribute_write_an_index() {
    let mut card = Card::new(0x4_0000);
    card.out(0x3C2, 1);
    card.out(0x3C0, 0x31);
    assert_eq!(card.get(0x3D4, 0x24), 0x80);
    card.input(0x3DA);
    assert_eq!(card.get(0x3D4, 0x24), 0);
    card.out(0x3C0, 0x02);
    card.out(0x3C0, 0xFF);
    assert_eq!((card.input(0x3C0), card.input(0x3C1)), (0x02, 0x3F));
}

#[test]
fn the_dac_takes_red_green_blue_and_tells_its_state() {
    let mut card = Card::new(0x4_0000);
    card.out(0x3C8, 0xFF);
    for part in [1, 2, 0xFF, 4, 5, 6] {
        card.out(0x3C9, part);
    }
    assert_eq!((card.input(0x3C7), card.input(0x3C8)), (0, 1));
    card.out(0x3C7, 0xFF);
    assert_eq!(card.input(0x3C7), 3);
    assert_eq!([0; 6].map(|_: u8| card.input(0x3C9)), [1, 2, 0x3F, 4, 5, 6]);
    // An incomplete entry changes nothing.
    card.out(0x3C8, 0);
    card.out(0x3C9, 0x20);
    card.out(0x3C7, 0);
    assert_eq!(card.input(0x3C9), 4);
}

#[test]
fn a_wait_for_retrace_ends_and_the_frame_rate_is_that_of_the_mode() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    let (mut edges, mut shown, mut before) = (0, 0, 0);
    for micros in 0..1_000_000 {
        let status = card.vga.port_read(0x3DA, Nanos(micros * 1000));
        edges += u32::from(status & 8 != 0 && before & 8 == 0);
        shown += u32::from(status & 1 == 0);
        assert!(status & 8 == 0 || status & 1 != 0, "no display in retrace");
        before = status;
    }
    assert_eq!(edges, 70);
    // 720 of 900 dots in 400 of 449 lines.
    assert!((700_000..720_000).contains(&shown), "{shown}");
}

#[test]
fn the_retrace_interrupt_bit_sets_at_retrace_and_clears_by_crtc_11h() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    card.set(0x3D4, 0x11, 0x0E);
    card.set(0x3D4, 0x11, 0x1E);
    assert_eq!(card.vga.port_read(0x3C2, NOW) & 0x80, 0);
    let later = Nanos(20_000_000);
    assert_eq!(card.vga.port_read(0x3C2, later) & 0x80, 0x80);
    card.vga.port_write(0x3D5, 0x0E, later);
    card.vga.port_write(0x3D5, 0x1E, later);
    assert_eq!(card.vga.port_read(0x3C2, later) & 0x80, 0);
}

#[test]
fn text_cells_land_in_planes_0_and_1_of_even_addresses() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    card.poke16(B8000, 0x0741);
    card.poke(B8000 + 2, 0x42);
    card.poke(B8000 + 3, 0x1F);
    assert_eq!(card.planes(0), [0x41, 0x07, 0, 0]);
    assert_eq!(card.planes(2), [0x42, 0x1F, 0, 0]);
    let both = card.vga.mem_read(card.vram.as_slice(), B8000, 4);
    assert_eq!(both, 0x1F42_0741);
    // Neither A0000h nor B0000h answers.
    card.poke(A0000, 1);
    card.poke(0x1_0000, 1);
    assert_eq!((card.peek(A0000), card.peek(0x1_7FFF), card.peek(0x1_FFFF)), (0xFF, 0xFF, 0));
    assert_eq!(card.vga.direct_map(), None);
}

#[test]
fn wide_and_odd_text_stores_equal_their_bytes() {
    let mut wide = Card::new(0x4_0000);
    let mut narrow = Card::new(0x4_0000);
    wide.mode(&MODE_03);
    narrow.mode(&MODE_03);
    for (offset, width) in [(0, 8), (3, 4), (9, 2), (16, 2), (0x7FFE, 4), (20, 1)] {
        let value = 0x1122_3344_5566_7788 + u64::from(offset);
        wide.vga.mem_write(wide.vram.as_slice(), B8000 + offset, width, value);
        for byte in 0..u32::from(width) {
            narrow.poke(B8000 + offset + byte, (value >> (byte * 8)) as u8);
        }
    }
    assert!((0..0x1_0000).all(|address| wide.planes(address) == narrow.planes(address)));
}

#[test]
fn a_font_is_loaded_into_plane_2_as_vgacon_does() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    card.poke16(B8000, 0x0741);
    for (port, index, value) in [
        (0x3C4, 0, 1),
        (0x3C4, 2, 4),
        (0x3C4, 4, 7),
        (0x3C4, 0, 3),
        (0x3CE, 4, 2),
        (0x3CE, 5, 0),
        (0x3CE, 6, 0),
    ] {
        card.set(port, index, value);
    }
    (0..32).for_each(|row| card.poke(0x41 * 32 + row, 0x80 | row as u8));
    assert_eq!((card.planes(0x41 * 32 + 5)[2], card.peek(0x41 * 32 + 5)), (0x85, 0x85));
    for (port, index, value) in
        [(0x3C4, 2, 3), (0x3C4, 4, 3), (0x3CE, 4, 0), (0x3CE, 5, 0x10), (0x3CE, 6, 0xE)]
    {
        card.set(port, index, value);
    }
    assert_eq!((card.peek(B8000), card.peek(B8000 + 1)), (0x41, 0x07));
}

#[test]
fn write_mode_0_goes_by_rotate_set_reset_alu_mask_and_map() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_12);
    card.poke(10, 0xF0);
    assert_eq!(card.planes(10), [0xF0; 4]);
    card.set(0x3C4, 2, 0b0101);
    card.poke(10, 0x0F);
    assert_eq!(card.planes(10), [0x0F, 0xF0, 0x0F, 0xF0]);
    // Set/reset colour 2 in planes 1 and 0, XOR with the latches, upper half only, rotated by 4.
    card.set(0x3C4, 2, 0xF);
    card.set(0x3CE, 0, 0b0010);
    card.set(0x3CE, 1, 0b0011);
    card.set(0x3CE, 3, 0x18 | 4);
    card.set(0x3CE, 8, 0xF0);
    card.peek(10);
    card.poke(10, 0x05);
    assert_eq!(card.planes(10), [0x0F, 0x00, 0x5F, 0xA0]);
}

#[test]
fn write_mode_1_copies_latches_and_mode_2_and_3_paint_colours() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_12);
    for (plane, value) in [(1, 0x11), (2, 0x22), (4, 0x44), (8, 0x88)] {
        card.set(0x3C4, 2, plane);
        card.poke(0, value);
    }
    card.set(0x3C4, 2, 0xF);
    card.set(0x3CE, 5, 1);
    card.peek(0);
    card.poke(7, 0);
    assert_eq!(card.planes(7), [0x11, 0x22, 0x44, 0x88]);
    // Mode 2, colour 9 at pixel 0 alone.
    card.set(0x3CE, 5, 2);
    card.set(0x3CE, 8, 0x80);
    card.peek(7);
    card.poke(7, 9);
    assert_eq!(card.planes(7), [0x91, 0x22, 0x44, 0x88]);
    // Mode 3: the byte is the mask, set/reset the colour.
    card.set(0x3CE, 5, 3);
    card.set(0x3CE, 8, 0xFF);
    card.set(0x3CE, 0, 0b0110);
    card.peek(7);
    card.poke(7, 0x0F);
    assert_eq!(card.planes(7), [0x90, 0x2F, 0x4F, 0x80]);
    assert_eq!(card.get(0x3D4, 0x22), 0x91);
}

#[test]
fn read_mode_0_takes_a_plane_and_read_mode_1_compares_colours() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_12);
    Vram::set32(card.vram.as_slice(), 12, u32::from_le_bytes([0b1100, 0b1010, 0, 0xF0]));
    card.set(0x3CE, 4, 3);
    assert_eq!(card.peek(3), 0xF0);
    card.set(0x3CE, 5, 8);
    card.set(0x3CE, 2, 0b0011);
    assert_eq!(card.peek(3), 0b0000_1000);
    // Plane 1 does not matter; plane 3 must be 0.
    card.set(0x3CE, 7, 0b1101);
    assert_eq!(card.peek(3), 0b0000_1100);
    card.set(0x3CE, 7, 0);
    assert_eq!(card.peek(3), 0xFF);
}

#[test]
fn chain_4_is_linear_and_may_be_mapped_until_a_mask_stands_in_the_way() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_13);
    card.poke16(0x1235, 0xBEEF);
    assert_eq!(Vram::get(card.vram.as_slice(), 0x1235), 0xEF);
    assert_eq!((card.peek(0x1236), card.peek(0xFFFF), card.peek(B8000)), (0xBE, 0, 0xFF));
    let map = DirectMap { guest_base: 0xA_0000, len: 0x1_0000, vram_offset: 0 };
    assert_eq!(card.vga.direct_map(), Some(map));
    for (port, index, value, back) in
        [(0x3C4, 2, 7, 15), (0x3CE, 8, 0x7F, 0xFF), (0x3CE, 5, 0x41, 0x40), (0x3CE, 3, 8, 0)]
    {
        card.set(port, index, value);
        assert_eq!(card.vga.direct_map(), None, "{port:x} {index:x}");
        card.set(port, index, back);
        assert_eq!(card.vga.direct_map(), Some(map));
    }
    card.set(0x3C4, 2, 0b0010);
    card.vga.mem_write(card.vram.as_slice(), 0, 4, 0x4433_2211);
    assert_eq!(card.planes(0), [0, 0x22, 0, 0]);
    // Mode X: unchained, planes by the map mask.
    card.set(0x3C4, 4, 6);
    assert_eq!(card.vga.direct_map(), None);
    card.poke(5, 0x77);
    assert_eq!(card.planes(5), [0, 0x77, 0, 0]);
}

#[test]
fn dispi_sets_a_mode_clears_memory_and_reports_itself() {
    let mut card = Card::new(0x100_0000);
    assert_eq!((card.dispi_read(0), card.dispi_read(10)), (0xB0C5, 0x100));
    card.dispi(0, 0xB0C2);
    card.dispi(0, 0x1234);
    assert_eq!(card.dispi_read(0), 0xB0C2);
    card.dispi(4, 2);
    assert_eq!([1, 2, 3].map(|reg| card.dispi_read(reg)), [MAX_XRES, MAX_YRES, 32]);
    Vram::set32(card.vram.as_slice(), 0, 0xDEAD_BEEF);
    [(4, 0), (1, 1920), (2, 1200), (3, 32), (4, 0xC1)]
        .into_iter()
        .for_each(|(reg, value)| card.dispi(reg, value));
    assert_eq!(Vram::get32(card.vram.as_slice(), 0), 0xDEAD_BEEF);
    card.dispi(4, 0);
    card.dispi(4, 0x41);
    assert_eq!(Vram::get32(card.vram.as_slice(), 0), 0);
    assert_eq!([6, 7].map(|reg| card.dispi_read(reg)), [1920, 2184]);
    card.dispi(9, 2000);
    card.dispi(8, 5);
    assert_eq!([8, 9].map(|reg| card.dispi_read(reg)), [0, 984]);
    card.dispi(6, 0xFFFF);
    assert!(card.vga.writes_unseen());
    // 16 MiB / 1200 lines / 4 bytes, by 8.
    assert_eq!(card.dispi_read(6), 3488);
    card.dispi(5, 3);
    card.poke(0x10, 0x5A);
    assert_eq!(Vram::get(card.vram.as_slice(), 0x3_0010), 0x5A);
    let map = DirectMap { guest_base: 0xA_0000, len: 0x1_0000, vram_offset: 0x3_0000 };
    assert_eq!(card.vga.direct_map(), Some(map));
    card.dispi(5, 0x100);
    assert_eq!((card.vga.direct_map(), card.peek(0)), (None, 0xFF));
}

#[test]
fn bar_2_shows_ports_and_dispi_registers() {
    let mut card = Card::new(0x40_0000);
    let vram = card.vram.as_slice();
    let vga = &mut card.vga;
    vga.mmio_write(vram, 0x402, 1, 0x01, NOW);
    vga.mmio_write(vram, 0x414, 2, 0x5A0F, NOW);
    assert_eq!(vga.mmio_read(0x414, 2, NOW) as u16, 0x5A0F);
    for (offset, value) in [(0x502, 800), (0x504, 600), (0x506, 16), (0x508, 0x41)] {
        vga.mmio_write(vram, offset, 2, value, NOW);
    }
    assert_eq!(vga.mmio_read(0x502, 2, NOW) as u16, 800);
    assert_eq!(vga.mmio_read(0x50C, 2, NOW) as u16, 800);
    assert_eq!(vga.mmio_read(0x604, 4, NOW), 0x1E1E_1E1E);
    assert_eq!(vga.mmio_read(0x502, 4, NOW), 600 << 16 | 800);
    assert_eq!((vga.mmio_read(0x000, 4, NOW), vga.mmio_read(0xFFF, 2, NOW)), (u32::MAX, 0xFFFF));
    assert_eq!(vga.frame_size(), (800, 600));
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut vga = Vga::new(0x10_0000);
    let good = vga.save();
    assert_eq!(vga.load(&State { version: 99, ..good.clone() }), Err(LoadError::Version));
    let mut vbe = good.vbe;
    vbe[2] = 9000;
    vbe[5] = 1;
    for (bad, field) in [
        (State { gc: [0xFF; 9], ..good.clone() }, "gc"),
        (State { seq: [0xFF; 5], ..good.clone() }, "seq"),
        (State { attr: [0xFF; 21], ..good.clone() }, "attr"),
        (State { indexes: [8, 0, 0, 0], ..good.clone() }, "indexes"),
        (State { dac: [0, 0, 0, 3], ..good.clone() }, "dac"),
        (State { vbe, ..good.clone() }, "vbe"),
        (State { subsystem_enable: 2, ..good.clone() }, "subsystem_enable"),
        (State { feature: 0xFF, ..good.clone() }, "feature"),
    ] {
        assert_eq!(vga.load(&bad), Err(LoadError::Impossible(field)));
        assert_eq!(vga.save(), good);
    }
}

#[test]
fn a_random_guest_breaks_nothing_and_every_state_reloads() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut card = Card::new(0x4_0000 << (seed % 3));
        let bytes = card.vga.vram_len;
        let mut line = [0; MAX_WIDTH];
        let mut now = Nanos(0);
        for step in 0..20_000 {
            now = now + rng.below(1_000_000);
            let value = rng.next();
            let offset = rng.below(u64::from(WINDOW_LEN) + 64) as u32;
            let width = 1 << rng.below(4);
            match rng.below(8) {
                0 | 1 => card.vga.port_write(0x3B0 + rng.below(48) as u16, value as u8, now),
                2 => drop(card.vga.port_read(0x3B0 + rng.below(48) as u16, now)),
                3 => card.vga.mem_write(card.vram.as_slice(), offset, width, value),
                4 => drop(card.vga.mem_read(card.vram.as_slice(), offset, width)),
                5 => card
                    .dispi(rng.below(12) as u16, if rng.one_in(2) { 0x41 } else { value as u16 }),
                6 => card.vga.mmio_write(card.vram.as_slice(), offset, width, value as u32, now),
                _ => drop(card.vga.mmio_read(offset, width, now)),
            }
            if let Some(map) = card.vga.direct_map() {
                assert!(map.vram_offset + map.len <= bytes && map.len >= 0x1_0000);
                // Through the window and directly is the same byte.
                let at = rng.below(u64::from(map.len)) as u32;
                card.poke(map.guest_base - WINDOW_BASE + at, value as u8);
                assert_eq!(Vram::get(card.vram.as_slice(), map.vram_offset + at), value as u8);
            }
            if step % 64 == 0 {
                let frame = card.vga.frame(now);
                let (width, height) = frame.size();
                assert!((1..=MAX_WIDTH as u32).contains(&width) && (1..=1600).contains(&height));
                for y in [0, height / 2, height - 1] {
                    frame.row(card.vram.as_slice(), y, &mut line);
                }
                let saved = card.vga.save();
                let mut other = Vga::new(bytes);
                other.load(&saved).expect("a chip's own state");
                assert_eq!(other.save(), saved);
                assert_eq!(
                    (other.direct_map(), other.mode()),
                    (card.vga.direct_map(), card.vga.mode())
                );
                assert_eq!(other.timing, card.vga.timing);
                assert_eq!((&other.dac, other.window), (&card.vga.dac, card.vga.window));
            }
        }
        card.vga.reset();
        let fresh = Vga::new(bytes);
        assert_eq!((card.vga.save(), card.vga.window), (fresh.save(), fresh.window));
    }
}
