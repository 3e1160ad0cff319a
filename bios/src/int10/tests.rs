use crate::caller::Outcome;
use crate::rom::Service;
use crate::testing::{Guest, Mock};
use arch::Segment;

fn guest() -> Guest {
    Guest::new(Mock::new())
}

fn call(g: &mut Guest, ax: u16, bx: u16, cx: u16, dx: u16) {
    assert_eq!(g.set(ax, bx, cx, dx).int(Service::Int10), Outcome::Done);
}

fn teletype(g: &mut Guest, text: &str) {
    for byte in text.bytes() {
        call(g, 0x0e00 | u16::from(byte), 7, 0, 0);
    }
}

#[test]
fn teletype_writes_moves_and_scrolls_with_the_old_attribute() {
    let mut g = guest();
    teletype(&mut g, "one\r\ntwo\x08X");
    assert_eq!((g.bus.row(0), g.bus.row(1)), ("one".into(), "twX".into()));
    call(&mut g, 0x0200, 0, 0, 24 << 8);
    teletype(&mut g, "last\n");
    assert_eq!((g.bus.row(0), g.bus.row(23)), ("twX".into(), "last".into()));
    assert_eq!(g.bus.mmio[&(0xb_8000 + 24 * 160 + 1)], 7);
    call(&mut g, 0x0300, 0, 0, 0);
    assert_eq!(g.dx(), 24 << 8 | 4);
}

#[test]
fn a_window_scrolls_both_ways_and_leaves_the_rest() {
    let mut g = guest();
    teletype(&mut g, "abcd\r\nefgh\r\nijkl");
    call(&mut g, 0x0601, 0x1e00, 0x0001, 0x0202);
    assert_eq!([0, 1, 2].map(|row| g.bus.row(row)), ["afgd", "ejkh", "i  l"]);
    assert_eq!(g.bus.mmio[&(0xb_8000 + 2 * 160 + 3)], 0x1e);
    call(&mut g, 0x0702, 0x0700, 0x0000, 0x024f);
    assert_eq!([0, 1, 2].map(|row| g.bus.row(row)), ["", "", "afgd"]);
    call(&mut g, 0x0600, 0x0700, 0x0000, 0xffff);
    assert_eq!(g.bus.row(2), "");
}

#[test]
fn strings_take_their_attributes_and_move_the_cursor_when_asked() {
    let mut g = guest();
    g.bus.put(0x2000, b"H\x1fi\x2f");
    g.cpu.es = Segment::real_data(0x200);
    call(&mut g, 0x1303, 0, 2, 0x0305);
    assert_eq!(g.bus.row(3), "\0\0\0\0\0Hi".replace('\0', " "));
    assert_eq!(g.bus.mmio[&(0xb_8000 + 3 * 160 + 13)], 0x2f);
    call(&mut g, 0x0300, 0, 0, 0);
    assert_eq!(g.dx(), 0x0307);
    call(&mut g, 0x0200, 0, 0, 0x0306);
    call(&mut g, 0x0800, 0, 0, 0);
    assert_eq!(g.ax(), 0x2f69);
}

#[test]
fn pixels_in_mode_13_and_cga_land_where_the_modes_have_them() {
    let mut g = guest();
    call(&mut g, 0x0013, 0, 0, 0);
    call(&mut g, 0x0c2a, 0, 319, 199);
    assert_eq!(g.bus.mmio[&(0xa_0000 + 63_999)], 0x2a);
    call(&mut g, 0x0d00, 0, 319, 199);
    assert_eq!(g.ax() & 0xff, 0x2a);
    call(&mut g, 0x0c2a, 0, 320, 0);
    call(&mut g, 0x0004, 0, 0, 0);
    call(&mut g, 0x0c03, 0, 1, 1);
    assert_eq!(g.bus.mmio[&0xb_a000], 0x30);
    call(&mut g, 0x0c83, 0, 1, 1);
    assert_eq!(g.bus.mmio[&0xb_a000], 0);
}

#[test]
fn characters_drawn_in_graphics_are_read_back() {
    let mut g = guest();
    for mode in [0x04u16, 0x06, 0x13] {
        call(&mut g, mode, 0, 0, 0);
        call(&mut g, 0x0200, 0, 0, 0x0203);
        call(&mut g, 0x0900 | u16::from(b'Q'), 3, 1, 0);
        call(&mut g, 0x0800, 0, 0, 0);
        assert_eq!(g.ax() & 0xff, u16::from(b'Q'), "mode {mode:x}");
    }
}

#[test]
fn the_font_pointer_leads_to_the_rom_font() {
    let mut g = guest();
    call(&mut g, 0x1130, 0x0600, 0, 0);
    let at = g.cpu.es.base + (g.cpu.gprs.rbp() & 0xffff);
    assert_eq!(g.bus.bytes(at, 4096), crate::fonts::FONT_8X16.as_slice());
    assert_eq!((g.cx(), g.dx() & 0xff), (16, 24));
}

#[test]
fn vbe_tells_its_modes_and_sets_one_with_a_linear_frame_buffer() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x300);
    g.bus.put(0x3000, b"VBE2");
    call(&mut g, 0x4f00, 0, 0, 0);
    assert_eq!((g.ax(), g.bus.bytes(0x3000, 6)), (0x4f, b"VESA\0\x03".to_vec()));
    let list = g.bus.u32(0x300e);
    let mut at = u64::from((list >> 16 << 4) + (list & 0xffff));
    let mut sizes = std::vec::Vec::new();
    while g.bus.u16(at) != 0xffff {
        let mode = g.bus.u16(at);
        call(&mut g, 0x4f01, 0, mode, 0);
        assert_eq!((g.ax(), g.bus.u16(0x3000) & 1), (0x4f, 1));
        sizes.push((g.bus.u16(0x3012), g.bus.u16(0x3014), g.bus.bytes(0x3019, 1)[0]));
        at += 2;
    }
    // With its end it fits the smallest table that old programs copy it to, and has what systems look for.
    assert!(sizes.len() < 50, "{}", sizes.len());
    for (width, height) in [(640, 480), (800, 600), (1024, 768), (1280, 1024)] {
        for bits in [8, 15, 16, 24, 32] {
            assert!(sizes.contains(&(width, height, bits)), "{width}x{height}x{bits}");
        }
    }
    for (width, height) in [(1280, 720), (1280, 800), (1366, 768), (1600, 1200), (1920, 1200)] {
        assert!(sizes.contains(&(width, height, 32)), "{width}x{height}");
    }
    assert!(sizes.contains(&(320, 200, 8)));
    // What the list leaves out is there by its number.
    call(&mut g, 0x4f01, 0, 0x11d, 0);
    assert_eq!((g.ax(), g.bus.u16(0x3012), g.bus.u16(0x3000) & 1), (0x4f, 1600, 1));
    call(&mut g, 0x4f01, 0, 0x118, 0);
    assert_eq!((g.bus.u16(0x3012), g.bus.u16(0x3014), g.bus.u32(0x3028)), (1024, 768, 0xe000_0000));
    g.bus.outs.clear();
    call(&mut g, 0x4f02, 0x4118, 0, 0);
    assert_eq!(g.ax(), 0x4f);
    let dispi: std::vec::Vec<u32> =
        g.bus.outs.iter().filter(|out| out.0 == 0x1cf).map(|out| out.2).collect();
    assert_eq!(dispi, [0, 1024, 768, u32::from(g.bus.bytes(0x3019, 1)[0]), 0x41, 0]);
    call(&mut g, 0x4f03, 0, 0, 0);
    assert_eq!(g.bx(), 0x4118);
    call(&mut g, 0x4f02, 0x01ff, 0, 0);
    assert_eq!(g.ax(), 0x014f);
    call(&mut g, 0x0003, 0, 0, 0);
    call(&mut g, 0x4f03, 0, 0, 0);
    assert_eq!(g.bx(), 3);
}

#[test]
fn no_function_with_any_registers_brings_the_firmware_down() {
    let mut g = guest();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..400u64 {
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for n in [0, 1, 2, 3, 5, 6, 7] {
            g.cpu.gprs.r[n] = random();
        }
        // Mostly functions that exist, and small counts, to get deep.
        let function = if round % 4 == 0 { 0x4f } else { random() % 0x1d };
        g.cpu.gprs.r[0] = function << 8 | (random() & 0x1f);
        g.cpu.gprs.r[1] &= 0x1ff;
        g.cpu.es = Segment::real_data(0x3000);
        g.cpu.gprs.set_rsp(0x7000);
        let _ = g.int(Service::Int10);
        g.bus.outs.clear();
        if round % 16 == 0 {
            g.bus.put(0x449, &random().to_le_bytes());
            g.bus.put(0x484, &random().to_le_bytes()[..3]);
        }
    }
}
