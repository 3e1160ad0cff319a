//! INT 10h's services that work on the card's registers: cursor, pages, palettes, fonts, state, VBE.

use crate::caller::Outcome;
use crate::rom::Service;
use crate::testing::card::Card;
use crate::testing::{Guest, Mock};
use arch::Segment;
use std::vec;
use std::vec::Vec;

const BUFFER: u64 = 0x2000;

/// In mode 3, with a card, and ES at the buffer.
fn guest() -> Guest {
    let mut g = Guest::new(Mock::new().with_card());
    call(&mut g, 0x0003, 0, 0, 0);
    g.cpu.es = Segment::real_data(0x200);
    g.cpu.gprs.set_rdi(0);
    g
}

fn call(g: &mut Guest, ax: u16, bx: u16, cx: u16, dx: u16) {
    assert_eq!(g.set(ax, bx, cx, dx).int(Service::Int10), Outcome::Done);
}

fn card(g: &Guest) -> &Card {
    g.bus.card.as_ref().unwrap()
}

#[test]
fn the_cursors_shape_is_told_back_and_stretched_to_the_cell() {
    let mut g = guest();
    call(&mut g, 0x0100, 0, 0x0607, 0);
    assert_eq!((card(&g).get(0x3d4, 0x0a), card(&g).get(0x3d4, 0x0b)), (13, 14));
    call(&mut g, 0x0300, 0, 0, 0);
    assert_eq!((g.cx(), g.ax()), (0x0607, 0));
    call(&mut g, 0x0100, 0, 0x2000, 0);
    assert_eq!(card(&g).get(0x3d4, 0x0a) & 0x20, 0x20, "off");
}

#[test]
fn a_page_is_shown_with_its_own_cursor() {
    let mut g = guest();
    call(&mut g, 0x0200, 0x0200, 0, 0x0305);
    assert_eq!(card(&g).get(0x3d4, 0x0e), 0, "page 2 is not shown yet");
    call(&mut g, 0x0502, 0, 0, 0);
    assert_eq!((g.bus.u16(0x44e), card(&g).get(0x3d4, 0x0c)), (0x2000, 0x10));
    assert_eq!(card(&g).get(0x3d4, 0x0e) << 8 | card(&g).get(0x3d4, 0x0f), 0x1000 + 245);
    call(&mut g, 0x0f00, 0, 0, 0);
    assert_eq!((g.ax(), g.bx() >> 8), (80 << 8 | 3, 2));
    // 0Ah keeps the attribute, 09h sets it.
    call(&mut g, 0x0941, 0x021e, 2, 0);
    call(&mut g, 0x0a42, 0x0200, 1, 0);
    call(&mut g, 0x0800, 0x0200, 0, 0);
    assert_eq!(g.ax(), 0x1e42);
    call(&mut g, 0x0400, 0, 0, 0);
    assert_eq!(g.ax() >> 8, 0, "the light pen is not triggered");
}

#[test]
fn palette_registers_are_set_and_read_one_by_one_and_all_at_once() {
    let mut g = guest();
    call(&mut g, 0x1000, 0x2a05, 0, 0);
    call(&mut g, 0x1007, 0x0005, 0, 0);
    assert_eq!(g.bx() >> 8, 0x2a);
    call(&mut g, 0x1001, 0x1100, 0, 0);
    call(&mut g, 0x1008, 0, 0, 0);
    assert_eq!(g.bx() >> 8, 0x11);
    let all: Vec<u8> = (0x20..0x31).collect();
    g.bus.put(BUFFER, &all);
    call(&mut g, 0x1002, 0, 0, 0);
    assert_eq!((card(&g).get(0x3c0, 15), card(&g).get(0x3c0, 0x11)), (0x2f, 0x30));
    call(&mut g, 0x1009, 0, 0, 0x100);
    assert_eq!(g.bus.bytes(BUFFER + 0x100, 17), all);
    call(&mut g, 0x1003, 0, 0, 0);
    assert_eq!(card(&g).get(0x3c0, 0x10) & 8, 0, "bright backgrounds");
    call(&mut g, 0x1003, 1, 0, 0);
    assert_eq!(card(&g).get(0x3c0, 0x10) & 8, 8, "blinking");
}

#[test]
fn colours_of_the_dac_are_set_read_summed_and_paged() {
    let mut g = guest();
    call(&mut g, 0x1010, 200, 0x0b0c, 0x0a00);
    assert_eq!(card(&g).color(200), [0x0a, 0x0b, 0x0c]);
    call(&mut g, 0x1015, 200, 0, 0);
    assert_eq!((g.dx() >> 8, g.cx()), (0x0a, 0x0b0c));
    g.bus.put(BUFFER, &[1, 2, 3, 4, 5, 6]);
    call(&mut g, 0x1012, 254, 2, 0);
    assert_eq!((card(&g).color(254), card(&g).color(255)), ([1, 2, 3], [4, 5, 6]));
    call(&mut g, 0x1017, 254, 2, 0x20);
    assert_eq!(g.bus.bytes(BUFFER + 0x20, 6), [1, 2, 3, 4, 5, 6]);
    call(&mut g, 0x1010, 7, 0x3f3f, 0x3f00);
    call(&mut g, 0x101b, 7, 1, 0);
    assert_eq!(card(&g).color(7), [0x3f; 3]);
    call(&mut g, 0x101b, 254, 1, 0);
    assert_eq!(card(&g).color(254), [1; 3], "30, 59 and 11 percent");
    call(&mut g, 0x1018, 0x0f, 0, 0);
    call(&mut g, 0x1019, 0, 0, 0);
    assert_eq!(g.bx() & 0xff, 0x0f);
    call(&mut g, 0x1013, 0x0100, 0, 0);
    call(&mut g, 0x1013, 0x0501, 0, 0);
    call(&mut g, 0x101a, 0, 0, 0);
    assert_eq!(g.bx(), 0x0501, "page 5 of 16 colours");
}

#[test]
fn cga_palettes_and_borders_are_what_they_were_on_a_cga() {
    let mut g = guest();
    call(&mut g, 0x0b00, 0x0009, 0, 0);
    assert_eq!(card(&g).get(0x3c0, 0x11), 0x11, "a bright blue border");
    call(&mut g, 0x0004, 0, 0, 0);
    for (palette, colors) in [(0, [2, 4, 6]), (1, [3, 5, 7])] {
        call(&mut g, 0x0b00, 0, 0, 0);
        call(&mut g, 0x0b00, 0x0100 | palette, 0, 0);
        assert_eq!([1, 2, 3].map(|n| card(&g).get(0x3c0, n) & 7), colors);
    }
}

#[test]
fn a_smaller_font_gives_more_rows() {
    let mut g = guest();
    for (function, height, rows) in [(0x1112, 8, 50), (0x1111, 14, 28), (0x1114, 16, 25)] {
        call(&mut g, function, 0, 0, 0);
        call(&mut g, 0x1130, 0x0100, 0, 0);
        assert_eq!((g.cx(), g.dx() & 0xff), (height, rows - 1), "{function:#x}");
        assert_eq!(card(&g).get(0x3d4, 9) & 0x1f, height - 1);
    }
    // Loaded only: nothing else changes.
    call(&mut g, 0x1102, 0, 0, 0);
    assert_eq!(g.bus.u16(0x485), 16);
    call(&mut g, 0x1103, 0x0004, 0, 0);
    assert_eq!(card(&g).get(0x3c4, 3), 4, "which blocks are shown");
}

#[test]
fn a_programs_own_characters_reach_plane_2() {
    let mut g = guest();
    g.bus.put(BUFFER + 0x40, &[0x5a; 8]);
    g.cpu.gprs.set_rbp(0x40);
    call(&mut g, 0x1100, 0x0801, 1, 0x41);
    let at = 0xa_0000 + 0x4000 + 0x41 * 32;
    let glyph: Vec<u8> = (at..at + 9).map(|at| g.bus.mmio[&at]).collect();
    assert_eq!(glyph, [0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0]);
    call(&mut g, 0x1110, 0x0800, 1, 0x41);
    assert_eq!(g.bus.u16(0x485), 8);
}

#[test]
fn fonts_of_graphics_modes_are_vectors() {
    let mut g = guest();
    g.cpu.gprs.set_rbp(0x1234);
    call(&mut g, 0x1120, 0, 0, 0);
    assert_eq!(g.bus.u32(0x1f * 4), 0x0200_1234);
    call(&mut g, 0x1121, 0, 10, 40);
    assert_eq!((g.bus.u32(0x43 * 4), g.bus.u16(0x485)), (0x0200_1234, 10));
    assert_eq!(g.bus.bytes(0x484, 1), [39]);
    for (function, height, rows) in [(0x1122, 14, 25), (0x1123, 8, 25), (0x1124, 16, 25)] {
        call(&mut g, function, 2, 0, 0);
        assert_eq!((g.bus.u16(0x485), g.bus.bytes(0x484, 1)[0]), (height, rows - 1));
        assert_eq!(g.bus.u32(0x43 * 4) >> 16, 0xc000);
    }
}

#[test]
fn alternate_functions_say_that_they_exist_and_keep_their_bits() {
    let mut g = guest();
    call(&mut g, 0x1200, 0x0010, 0, 0);
    assert_eq!((g.bx(), g.cx() & 0xff), (0x0003, 9), "colour, 256 KiB, switches of a VGA");
    for (bl, at, mask, on) in [(0x31, 0x489, 8, 1), (0x33, 0x489, 2, 0), (0x34, 0x487, 1, 1)] {
        for value in [on, on ^ 1] {
            call(&mut g, 0x1200 | value, bl, 0, 0);
            assert_eq!(g.ax() & 0xff, 0x12, "12h/{bl:x}");
            assert_eq!(g.bus.bytes(at, 1)[0] & mask != 0, value == on, "12h/{bl:x}");
        }
    }
    call(&mut g, 0x1202, 0x30, 0, 0);
    assert_eq!((g.ax() & 0xff, g.bus.bytes(0x489, 1)[0] & 0x90), (0x12, 0x10));
    call(&mut g, 0x1201, 0x36, 0, 0);
    assert_eq!(card(&g).get(0x3c4, 1) & 0x20, 0x20, "the screen is off");
    call(&mut g, 0x1200, 0x36, 0, 0);
    assert_eq!(card(&g).get(0x3c4, 1) & 0x20, 0);
    for bl in [0x32, 0x35] {
        call(&mut g, 0x1200, bl, 0, 0);
        assert_eq!(g.ax() & 0xff, 0x12);
    }
    call(&mut g, 0x1200, 0x77, 0, 0);
    assert_eq!(g.ax(), 0x1200, "what is not there leaves AL");
}

#[test]
fn what_the_display_is_and_what_it_shows_is_told() {
    let mut g = guest();
    call(&mut g, 0x1a00, 0, 0, 0);
    assert_eq!((g.ax() & 0xff, g.bx()), (0x1a, 8));
    call(&mut g, 0x1a01, 7, 0, 0);
    call(&mut g, 0x1a00, 0, 0, 0);
    assert_eq!(g.bx(), 7);
    call(&mut g, 0x1b00, 0, 0, 0);
    assert_eq!(g.ax() & 0xff, 0x1b);
    assert_eq!(g.bus.bytes(BUFFER + 4, 1), [3], "the mode");
    assert_eq!((g.bus.u16(BUFFER + 5), g.bus.bytes(BUFFER + 0x22, 1)), (80, vec![25]));
    assert_eq!((g.bus.u16(BUFFER + 0x27), g.bus.bytes(BUFFER + 0x31, 1)), (16, vec![3]));
}

#[test]
fn a_saved_state_comes_back() {
    let mut g = guest();
    call(&mut g, 0x1c00, 0, 7, 0);
    assert_eq!((g.ax() & 0xff, g.bx()), (0x1c, 17), "blocks of 64 bytes");
    call(&mut g, 0x1c01, 0, 7, 0);
    let cursor = [0x0a, 0x0b].map(|n| card(&g).get(0x3d4, n));
    let (attribute, color) = (card(&g).get(0x3c0, 6), card(&g).color(6));
    call(&mut g, 0x0100, 0, 0x0007, 0);
    call(&mut g, 0x1000, 0x3f06, 0, 0);
    call(&mut g, 0x1010, 6, 0, 0x3f00);
    call(&mut g, 0x1c02, 0, 7, 0);
    assert_eq!([0x0a, 0x0b].map(|n| card(&g).get(0x3d4, n)), cursor);
    assert_eq!((card(&g).get(0x3c0, 6), card(&g).color(6)), (attribute, color));
    call(&mut g, 0x0300, 0, 0, 0);
    assert_eq!(g.cx(), 0x0607);
    // The same by VBE, with the display interface.
    call(&mut g, 0x4f04, 0, 15, 0);
    assert_eq!((g.ax(), g.bx()), (0x4f, 18));
    call(&mut g, 0x4f02, 0x4101, 0, 0);
    call(&mut g, 0x4f04, 0, 8, 1);
    call(&mut g, 0x0003, 0, 0, 0);
    assert_eq!(card(&g).get(0x1ce, 4) & 1, 0);
    call(&mut g, 0x4f04, 0, 8, 2);
    assert_eq!((g.ax(), card(&g).get(0x1ce, 1), card(&g).get(0x1ce, 4) & 1), (0x4f, 640, 1));
    call(&mut g, 0x4f04, 0, 8, 3);
    assert_eq!(g.ax(), 0x14f);
}

#[test]
fn vbe_moves_its_window_its_lines_and_its_start() {
    let mut g = guest();
    call(&mut g, 0x4f05, 0, 0, 1);
    assert_eq!(g.ax(), 0x34f, "not in a text mode");
    call(&mut g, 0x4f02, 0x0101, 0, 0);
    call(&mut g, 0x4f05, 0, 0, 3);
    assert_eq!((g.ax(), card(&g).get(0x1ce, 5)), (0x4f, 3));
    call(&mut g, 0x4f05, 0x0100, 0, 0);
    assert_eq!(g.dx(), 3);
    call(&mut g, 0x4f05, 0, 0, 0xffff);
    assert_eq!(g.ax(), 0x14f, "beyond the memory");
    call(&mut g, 0x4f05, 1, 0, 0);
    assert_eq!(g.ax(), 0x14f, "there is no window B");
    call(&mut g, 0x4f06, 0, 1024, 0);
    assert_eq!((g.ax(), g.bx(), g.cx()), (0x4f, 1024, 1024));
    call(&mut g, 0x4f06, 1, 0, 0);
    assert_eq!((g.bx(), g.cx(), g.dx()), (1024, 1024, 16384));
    call(&mut g, 0x4f06, 0, 100, 0);
    assert_eq!(g.ax(), 0x14f, "shorter than the screen");
    g.bus.card.as_mut().unwrap().registers.insert((0x1ce, 7), 16384);
    call(&mut g, 0x4f07, 0x80, 64, 480);
    assert_eq!((g.ax(), card(&g).get(0x1ce, 8), card(&g).get(0x1ce, 9)), (0x4f, 64, 480));
    call(&mut g, 0x4f07, 1, 0, 0);
    assert_eq!((g.cx(), g.dx()), (64, 480));
    call(&mut g, 0x4f07, 0, 0, 16384);
    assert_eq!(g.ax(), 0x14f, "below the memory");
    call(&mut g, 0x4f02, 0x4101, 0, 0);
    call(&mut g, 0x4f05, 0, 0, 0);
    assert_eq!(g.ax(), 0x34f, "no window with a linear frame buffer");
}

#[test]
fn vbe_sets_colours_of_six_and_of_eight_bits() {
    let mut g = guest();
    call(&mut g, 0x4f02, 0x4101, 0, 0);
    call(&mut g, 0x4f08, 0x0800, 0, 0);
    assert_eq!((g.ax(), g.bx() >> 8), (0x4f, 8));
    g.bus.put(BUFFER, &[1, 2, 3, 0, 4, 5, 255, 0]);
    call(&mut g, 0x4f09, 0, 2, 16);
    assert_eq!((g.ax(), card(&g).color(16), card(&g).color(17)), (0x4f, [3, 2, 1], [255, 5, 4]));
    g.cpu.gprs.set_rdi(0x40);
    call(&mut g, 0x4f09, 1, 1, 17);
    assert_eq!(g.bus.bytes(BUFFER + 0x40, 4), [4, 5, 255, 0]);
    call(&mut g, 0x4f09, 0, 2, 255);
    assert_eq!(g.ax(), 0x14f);
    call(&mut g, 0x4f08, 0x0600, 0, 0);
    call(&mut g, 0x4f08, 1, 0, 0);
    assert_eq!(g.bx() >> 8, 6);
    call(&mut g, 0x4f02, 0x4118, 0, 0);
    call(&mut g, 0x4f08, 0x0800, 0, 0);
    assert_eq!(g.ax(), 0x34f, "a true colour mode has none");
    for absent in [0x4f0a, 0x4f15] {
        call(&mut g, absent, 0, 0, 0);
        assert_eq!(g.ax(), 0x14f);
    }
}
