//! Small pictures, pixel by pixel, and the text read off screens.

use super::tests::{Card, MODE_03, MODE_12, MODE_13, NOW};
use super::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

const B8000: u32 = 0x1_8000;

/// The colour that `Card::mode` gives a DAC entry.
fn dac(index: u8) -> u32 {
    let wide = |value: u8| u32::from(value << 2 | value >> 4);
    wide(index & 0x3F) << 16 | wide(index >> 6) << 8
}

fn row(card: &Card, y: u32, now: Nanos) -> Vec<u32> {
    let mut line = vec![0xDEAD; MAX_WIDTH];
    let count = card.vga.frame(now).row(card.vram.as_slice(), y, &mut line);
    line.truncate(count);
    line
}

/// Where a line has another colour than its first pixel.
fn ink(line: &[u32]) -> Vec<usize> {
    (0..line.len()).filter(|x| line[*x] != line[0]).collect()
}

/// Puts a glyph's row into plane 2.
fn glyph(card: &Card, map_offset: u32, code: u32, row: u32, bits: u8) {
    Vram::set(card.vram.as_slice(), (map_offset + code * 32 + row) * 4 + 2, bits);
}

#[test]
fn text_has_nine_dots_attributes_and_line_drawing() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    card.set(0x3D4, 0xA, 0x20);
    assert_eq!(card.vga.mode(), Mode::Text { cols: 80, rows: 25, char_height: 16 });
    assert_eq!(card.vga.frame_size(), (720, 400));
    glyph(&card, 0, 0x41, 3, 0x81);
    glyph(&card, 0, 0xC4, 3, 0xFF);
    card.poke16(B8000 + 2, 0x1E41);
    card.poke16(B8000 + 4, 0x07C4);
    card.poke16(B8000 + 160, 0x0741);
    let line = row(&card, 3, NOW);
    // Attribute 1Eh: palette 0Eh is DAC 3Eh, palette 1 is DAC 1.
    assert_eq!(line[9..18], [0x3E, 1, 1, 1, 1, 1, 1, 0x3E, 1].map(dac));
    assert_eq!(line[18..28], [7, 7, 7, 7, 7, 7, 7, 7, 7, 0].map(dac));
    // The next character row: foreground 7 on 0.
    assert_eq!(row(&card, 19, NOW)[..10], [7, 0, 0, 0, 0, 0, 0, 7, 0, 0].map(dac));
}

#[test]
fn blink_cursor_and_underline_come_and_go() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    glyph(&card, 0, 0x41, 0, 0xFF);
    card.poke16(B8000, 0x8741);
    let [on, off] = [NOW, Nanos(17 * 14_270_000)];
    assert_eq!(row(&card, 0, on)[0], dac(7));
    assert_eq!(row(&card, 0, off)[0], dac(0));
    // With blinking off, bit 7 is background intensity.
    card.input(0x3DA);
    card.out(0x3C0, 0x30);
    card.out(0x3C0, 0x04);
    assert_eq!(row(&card, 1, off)[0], dac(0x38));
    // The cursor of rows 13 and 14 at cell 2, in the cell's foreground.
    card.set(0x3D4, 0xF, 2);
    card.poke16(B8000 + 4, 0x0420);
    for (y, now, color) in [(12, on, 0), (13, on, 4), (14, on, 4), (15, on, 0)] {
        assert_eq!(row(&card, y, now)[18], dac(color), "{y}");
    }
    assert_eq!(row(&card, 13, Nanos(8 * 14_300_000))[18], dac(0));
    card.set(0x3D4, 0x14, 0x0F);
    card.poke16(B8000 + 6, 0x0120);
    assert_eq!(row(&card, 15, on)[27..37], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0].map(dac));
}

#[test]
fn attribute_bit_3_chooses_between_two_maps_of_512_characters() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    card.set(0x3D4, 0xA, 0x20);
    card.set(0x3C4, 3, 0b0000_0100);
    glyph(&card, 0x0000, 0x41, 0, 0x80);
    glyph(&card, 0x4000, 0x41, 0, 0x01);
    card.poke16(B8000, 0x0741);
    card.poke16(B8000 + 2, 0x0F41);
    let line = row(&card, 0, NOW);
    assert_eq!(line[..9], [7, 0, 0, 0, 0, 0, 0, 0, 0].map(dac));
    assert_eq!(line[9..18], [0, 0, 0, 0, 0, 0, 0, 0x3F, 0].map(dac));
}

#[test]
fn planes_make_sixteen_colours_and_pan_scroll_and_split() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_12);
    assert_eq!(card.vga.mode(), Mode::Planar16 { width: 640, height: 480 });
    card.set(0x3CE, 5, 2);
    for pixel in 0..16_u32 {
        card.set(0x3CE, 8, 0x80 >> (pixel % 8));
        card.peek(pixel / 8);
        card.poke(pixel / 8, pixel as u8);
    }
    let palette = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F];
    assert_eq!(row(&card, 0, NOW)[..16], palette.map(dac));
    card.input(0x3DA);
    card.out(0x3C0, 0x33);
    card.out(0x3C0, 3);
    assert_eq!(row(&card, 0, NOW)[..4], [3, 4, 5, 0x14].map(dac));
    // Start a line down, split after line 99: line 100 shows address 0 without the pan.
    card.set(0x3D4, 0xD, 80);
    card.set(0x3D4, 0x18, 99);
    card.set(0x3D4, 7, 0x2E);
    card.set(0x3D4, 9, 0);
    card.out(0x3C0, 0x30);
    card.out(0x3C0, 0x21);
    assert_eq!(row(&card, 0, NOW)[..2], [0, 0].map(dac));
    assert_eq!(row(&card, 99, NOW)[..2], [0, 0].map(dac));
    assert_eq!(row(&card, 100, NOW)[..2], [0, 1].map(dac));
}

#[test]
fn mode_13h_and_mode_x_show_bytes_and_the_pixel_mask_holds() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_13);
    assert_eq!(card.vga.mode(), Mode::Linear8 { width: 320, height: 200 });
    card.vga.mem_write(card.vram.as_slice(), 320 + 2, 4, 0x4433_2211);
    assert_eq!(row(&card, 1, NOW)[1..7], [0, 0x11, 0x22, 0x33, 0x44, 0].map(dac));
    card.out(0x3C6, 0x0F);
    assert_eq!(row(&card, 1, NOW)[2..6], [1, 2, 3, 4].map(dac));
    card.out(0x3C6, 0xFF);
    // Abrash's 320x240: unchained, byte mode, 480 lines each twice.
    card.set(0x3C4, 4, 6);
    card.out(0x3C2, 0xE3);
    card.set(0x3D4, 0x11, 0);
    for (index, value) in [
        (6, 0x0D),
        (7, 0x3E),
        (9, 0x41),
        (0x10, 0xEA),
        (0x11, 0xAC),
        (0x12, 0xDF),
        (0x14, 0),
        (0x15, 0xE7),
        (0x16, 6),
        (0x17, 0xE3),
    ] {
        card.set(0x3D4, index, value);
    }
    assert_eq!(card.vga.mode(), Mode::Linear8 { width: 320, height: 240 });
    card.set(0x3C4, 2, 0b0100);
    card.poke(239 * 80 + 79, 0x99);
    assert_eq!(row(&card, 239, NOW)[317..], [0, 0x99, 0].map(dac));
}

#[test]
fn the_cga_modes_interleave_pixels_and_lines() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_13);
    card.set(0x3D4, 0x11, 0);
    for (index, value) in [(0, 0x2D), (1, 0x27), (9, 0xC1), (0x13, 0x14), (0x14, 0), (0x17, 0xA2)] {
        card.set(0x3D4, index, value);
    }
    card.set(0x3C4, 1, 9);
    card.set(0x3C4, 2, 3);
    card.set(0x3C4, 4, 2);
    card.set(0x3CE, 5, 0x30);
    card.set(0x3CE, 6, 0x0F);
    assert_eq!(card.vga.mode(), Mode::Cga { width: 320, height: 200 });
    // Two bits a pixel; odd lines 2000h further on.
    card.poke(B8000, 0b0001_1011);
    card.poke(B8000 + 1, 0b1110_0100);
    card.poke(B8000 + 0x2000 + 79, 0b0000_0011);
    assert_eq!(row(&card, 0, NOW)[..8], [0, 1, 2, 3, 3, 2, 1, 0].map(dac));
    assert_eq!(ink(&row(&card, 1, NOW)), [319]);
    card.poke(B8000 + 80, 0b0100_0000);
    assert_eq!(row(&card, 2, NOW)[0], dac(1));
}

#[test]
fn every_vbe_depth_shows_its_colours() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_13);
    for (bpp, bytes, color) in [
        (8, vec![0x05], dac(5)),
        (15, vec![0x00, 0x7C], 0xFF_0000),
        (16, vec![0xE0, 0x07], 0x00_FF00),
        (24, vec![0x33, 0x22, 0x11], 0x11_2233),
        (32, vec![0x33, 0x22, 0x11, 0xFF], 0x11_2233),
    ] {
        let vbe = [(4, 0), (1, 101), (2, 50), (3, bpp), (4, 0x41), (6, 120), (8, 3), (9, 2)];
        vbe.into_iter().for_each(|(reg, value)| card.dispi(reg, value));
        assert_eq!(card.vga.mode(), Mode::Vbe { width: 101, height: 50, bpp: u32::from(bpp) });
        // Line 4 of memory at pixel 8 is line 2 of the screen at pixel 5.
        let at = (4 * 120 + 8) * bytes.len() as u32;
        for (index, byte) in bytes.iter().enumerate() {
            Vram::set(card.vram.as_slice(), at + index as u32, *byte);
        }
        let line = row(&card, 2, NOW);
        assert_eq!((line.len(), line[4], line[5], line[6]), (101, dac(0), color, dac(0)), "{bpp}");
    }
    card.dispi(4, 0);
    [(1, 800), (2, 600), (3, 4), (4, 1)]
        .into_iter()
        .for_each(|(reg, value)| card.dispi(reg, value));
    assert_eq!(card.vga.mode(), Mode::Planar16 { width: 800, height: 600 });
    card.set(0x3C4, 4, 6);
    card.poke(599 * 100 + 99, 0x01);
    assert_eq!(ink(&row(&card, 599, NOW)), [799]);
    assert_eq!(row(&card, 599, NOW)[799], dac(15));
}

#[test]
fn the_eight_bit_dac_shows_all_bits() {
    let mut card = Card::new(0x10_0000);
    card.mode(&MODE_13);
    [(1, 64), (2, 8), (3, 8), (4, 0x61)]
        .into_iter()
        .for_each(|(reg, value)| card.dispi(reg, value));
    card.out(0x3C8, 0);
    [0x12, 0xFF, 0x81].into_iter().for_each(|part| card.out(0x3C9, part));
    assert_eq!(row(&card, 0, NOW)[0], 0x12_FF81);
    assert_eq!(card.dispi_read(4), 0x61);
}

#[test]
fn a_screen_turned_off_is_black_and_keeps_its_size() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_13);
    card.poke(0, 0x3F);
    card.set(0x3C4, 1, 0x21);
    assert_eq!((card.vga.mode(), card.vga.frame_size()), (Mode::Blank, (320, 200)));
    assert_eq!(row(&card, 0, NOW)[0], 0);
}

#[test]
fn drawing_changes_the_generation_and_looking_does_not() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    let before = card.vga.generation();
    card.peek(B8000);
    card.input(0x3DA);
    assert_eq!((card.vga.generation(), card.vga.writes_unseen()), (before, false));
    card.poke16(B8000, 0x0741);
    assert_ne!(card.vga.generation(), before);
    card.mode(&MODE_13);
    assert!(card.vga.writes_unseen());
}

#[test]
fn the_text_screen_reads_in_unicode_from_the_start_address() {
    let mut card = Card::new(0x4_0000);
    card.mode(&MODE_03);
    (0..2000).for_each(|cell| card.poke16(B8000 + cell * 2, 0x0720));
    for (column, code) in (0..).zip(*b"\xC9\xCD GNU \xF0 \x00") {
        card.poke16(B8000 + 160 + column * 2, 0x0700 | u16::from(code));
    }
    let mut text = String::new();
    assert_eq!(card.vga.screen_text(card.vram.as_slice(), &mut text), Ok(true));
    assert_eq!(text.lines().count(), 25);
    assert_eq!(text.lines().nth(1), Some("╔═ GNU ≡"));
    card.set(0x3D4, 0xD, 80);
    assert_eq!(card.vga.text_cell(card.vram.as_slice(), 0, 3), Some((b'G', 7)));
    assert_eq!(card.vga.text_cell(card.vram.as_slice(), 25, 0), None);
    card.mode(&MODE_13);
    assert_eq!(card.vga.screen_text(card.vram.as_slice(), &mut text), Ok(false));
}

/// A font in which every code's glyph differs in most rows.
fn test_font(height: usize) -> Vec<u8> {
    let mut rng = crate::testing::Rng::new(437);
    let mut font: Vec<u8> = (0..256 * height).map(|_| rng.byte()).collect();
    font[0x20 * height..0x21 * height].fill(0);
    font
}

/// Draws text in a frame buffer of 32-bit pixels.
fn draw(card: &Card, font: &[u8], height: usize, at: (usize, usize), colors: [u32; 2], text: &str) {
    for (column, code) in text.bytes().enumerate() {
        for y in 0..height {
            let bits = font[usize::from(code) * height + y];
            for x in 0..8 {
                let offset = ((at.1 + y) * 640 + at.0 + column * 8 + x) * 4;
                let color = colors[usize::from(bits >> (7 - x) & 1)];
                Vram::set32(card.vram.as_slice(), offset as u32, color);
            }
        }
    }
}

#[test]
fn text_drawn_anywhere_in_a_graphics_mode_is_read_by_its_font() {
    for (height, left, top) in [(16, 0, 0), (16, 10, 13), (14, 3, 5), (8, 0, 1)] {
        let mut card = Card::new(0x20_0000);
        card.mode(&MODE_13);
        [(1, 640), (2, 200), (3, 32), (4, 0x41)]
            .into_iter()
            .for_each(|(reg, value)| card.dispi(reg, value));
        let font = test_font(height);
        draw(&card, &font, height, (left, top), [0, 0xAA_AAAA], "GNU GRUB  version 2.06");
        let menu = (left + 16, top + 2 * height);
        draw(&card, &font, height, menu, [0xFF_FFFF, 0x80], "*Debian GNU/Linux");
        // A line that is no glyph.
        Vram::set32(card.vram.as_slice(), ((top + height + 2) * 640 * 4 + 400) as u32, 0xFF);
        let mut columns = vec![OcrColumn::default(); 640];
        let mut line = vec![0; 640];
        let mut ocr = Ocr { columns: &mut columns, line: &mut line };
        let mut text = String::new();
        let picture = Shown { frame: card.vga.frame(NOW), vram: card.vram.as_slice() };
        let known = ocr.text_by_font(&picture, &OcrFont::<256>::cp437(height, &font), &mut text);
        assert_eq!(known, Ok(34), "{height}");
        let lines: Vec<&str> = text.lines().map(|line| line.trim_start()).collect();
        assert!(lines.contains(&"GNU GRUB  version 2.06"), "{text}");
        assert!(lines.contains(&"*Debian GNU/Linux"), "{text}");
        assert!(text.contains('\u{FFFD}'));
    }
}
