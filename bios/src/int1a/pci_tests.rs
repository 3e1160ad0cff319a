//! The PCI BIOS by INT 1Ah and by its 32-bit entry, which BIOS32 names.

use crate::rom::Service;
use crate::testing::{Guest, Mock};
use arch::Segment;

/// A host bridge, a PIIX3 with IDE, and two network cards.
fn guest() -> Guest {
    let mut bus = Mock::new();
    for (devfn, id, class) in [
        (0x00u8, 0x1237_8086u32, 0x06_0000u32),
        (0x08, 0x7000_8086, 0x06_0100),
        (0x09, 0x7010_8086, 0x01_0180),
        (0x20, 0x100e_8086, 0x02_0000),
        (0x28, 0x100e_8086, 0x02_0000),
    ] {
        let mut space = [0; 256];
        space[..4].copy_from_slice(&id.to_le_bytes());
        space[8..12].copy_from_slice(&(class << 8).to_le_bytes());
        space[0x0e] = if devfn == 8 { 0x80 } else { 0 };
        bus.pci.insert(devfn, space);
    }
    let mut g = Guest::new(bus);
    g.cpu.gprs.set_rdi(0);
    g
}

/// AH, and whether carry says the same.
fn call(g: &mut Guest, al: u16, bx: u16, cx: u16, dx: u16) -> u8 {
    let _ = g.set(0xb100 | al, bx, cx, dx).int(Service::Int1A);
    let ah = (g.ax() >> 8) as u8;
    assert_eq!(g.cf(), ah != 0, "{al:#x}");
    ah
}

#[test]
fn the_interface_tells_its_version_and_refuses_what_it_has_not() {
    let mut g = guest();
    assert_eq!(call(&mut g, 0x01, 0, 0, 0), 0);
    assert_eq!((g.ax() & 0xff, g.bx(), g.cx() & 0xff), (1, 0x0210, 0));
    assert_eq!(g.cpu.gprs.rdx() as u32, u32::from_le_bytes(*b"PCI "));
    assert_eq!(call(&mut g, 0x06, 0, 0, 0), 0x81, "special cycles");
    let _ = g.set(0x0a00, 0, 0, 0).int(Service::Int1A);
    assert!(g.cf(), "no such function of the clock");
}

#[test]
fn devices_and_classes_are_found_one_after_the_other() {
    let mut g = guest();
    for (si, answer) in [(0, (0, 0x20)), (1, (0, 0x28)), (2, (0x86, 0))] {
        g.cpu.gprs.set_rsi(si);
        assert_eq!((call(&mut g, 0x02, 0, 0x100e, 0x8086), g.bx()), answer);
    }
    g.cpu.gprs.set_rsi(0);
    assert_eq!(call(&mut g, 0x02, 0, 0, 0xffff), 0x83, "no vendor");
    let _ = g.set(0xb103, 0, 0, 0);
    g.cpu.gprs.set_rcx(0x01_0180);
    let _ = g.int(Service::Int1A);
    assert_eq!((g.ax() >> 8, g.bx(), g.cf()), (0, 9, false));
}

#[test]
fn registers_are_read_and_written_in_each_width() {
    let mut g = guest();
    g.cpu.gprs.set_rdi(0x40);
    for (width, value) in [(0u16, 0x5au32), (1, 0x1234), (2, 0x89ab_cdef)] {
        let _ = g.set(0xb10b + width, 0x20, 0, 0);
        g.cpu.gprs.set_rcx(value.into());
        let _ = g.int(Service::Int1A);
        assert_eq!((g.ax() >> 8, g.cf()), (0, false));
        assert_eq!(call(&mut g, 0x08 + width, 0x20, 0, 0), 0);
        assert_eq!(g.cpu.gprs.rcx() as u32, value);
    }
    g.cpu.gprs.set_rdi(0x41);
    assert_eq!(call(&mut g, 0x08, 0x20, 0, 0), 0);
    for al in [0x09, 0x0a, 0x0c, 0x0d] {
        assert_eq!(call(&mut g, al, 0x20, 0, 0), 0x87, "not aligned");
    }
    g.cpu.gprs.set_rdi(0x100);
    assert_eq!(call(&mut g, 0x08, 0x20, 0, 0), 0x87);
    g.cpu.gprs.set_rdi(0);
    assert_eq!((call(&mut g, 0x09, 0x30, 0, 0), g.cx()), (0, 0xffff), "nobody there");
}

#[test]
fn the_routing_table_says_how_much_room_it_needs_and_a_pin_is_routed() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x200);
    g.bus.put(0x2000, &[0, 0, 0x00, 0x30, 0, 0]);
    assert_eq!(call(&mut g, 0x0e, 0, 0, 0), 0x89);
    let size = g.bus.u16(0x2000);
    assert!(size > 0 && size.is_multiple_of(16));
    assert_eq!((call(&mut g, 0x0e, 0, 0, 0), g.bx()), (0, 0));
    assert_eq!(g.bus.bytes(0x3000, 2)[0], 0, "bus 0");
    // Slot 4's INTA is PIRQ D.
    assert_eq!(call(&mut g, 0x0f, 0x20, 0x050a, 0), 0);
    assert_eq!(g.bus.pci[&8][0x60..0x64], [10, 10, 11, 5]);
    assert_eq!(call(&mut g, 0x0f, 0x20, 0x020a, 0), 0x88, "the cascade");
    assert_eq!(call(&mut g, 0x0f, 0x20, 0x0b09, 0), 0x88, "no such pin");
}

#[test]
fn bios32_names_the_32_bit_entry_which_serves_the_same() {
    let mut g = guest();
    let directory = |g: &mut Guest, name: [u8; 4], bl: u64| {
        g.cpu.gprs.set_rax(u32::from_le_bytes(name).into());
        g.cpu.gprs.set_rbx(bl);
        let _ = g.trap(Service::Bios32);
        g.ax() & 0xff
    };
    assert_eq!(directory(&mut g, *b"$PCI", 0), 0);
    assert_eq!((g.cpu.gprs.rbx(), g.cpu.gprs.rcx()), (0xf_0000, 0x1_0000));
    assert_eq!(directory(&mut g, *b"$XYZ", 0), 0x80);
    assert_eq!(directory(&mut g, *b"$PCI", 1), 0x81);
    g.cpu.gprs.set_rsi(1);
    let _ = g.set(0xb102, 0, 0x100e, 0x8086).trap(Service::PciBios32);
    assert_eq!((g.ax() >> 8, g.bx()), (0, 0x28));
}
