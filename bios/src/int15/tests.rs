use crate::caller::Outcome;
use crate::e820;
use crate::rom::Service;
use crate::testing::{Guest, Mock};
use arch::{Nanos, Segment};

fn guest() -> Guest {
    Guest::new(Mock::new())
}

fn call(g: &mut Guest, ax: u16, bx: u16, cx: u16, dx: u16) -> Outcome {
    g.set(ax, bx, cx, dx).int(Service::Int15)
}

#[test]
fn e820_tells_every_range_and_ends_with_zero() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x200);
    let mut n = 0;
    g.cpu.gprs.set_rbx(0);
    loop {
        g.cpu.gprs.set_rax(0xe820);
        g.cpu.gprs.set_rcx(20);
        g.cpu.gprs.set_rdx(0x534d_4150);
        let _ = g.int(Service::Int15);
        assert!(!g.cf());
        assert_eq!((g.cpu.gprs.rax(), g.cpu.gprs.rcx()), (0x534d_4150, 20));
        let range = e820::range(&g.bus.config, n).unwrap();
        assert_eq!(u64::from(g.bus.u32(0x2000)), range.start & 0xffff_ffff);
        assert_eq!(g.bus.u32(0x2010), range.kind as u32);
        n += 1;
        if g.cpu.gprs.rbx() == 0 {
            break;
        }
    }
    assert_eq!(e820::range(&g.bus.config, n), None);
    g.cpu.gprs.set_rax(0xe820);
    g.cpu.gprs.set_rdx(0);
    let _ = g.int(Service::Int15);
    assert!(g.cf());
}

#[test]
fn older_memory_calls_agree_with_the_map() {
    let mut g = guest();
    let _ = call(&mut g, 0x8800, 0, 0, 0);
    assert_eq!(g.ax(), 3 * 1024 - 64);
    let _ = call(&mut g, 0xe801, 0, 0, 0);
    assert_eq!((g.ax(), g.bx(), g.cx(), g.dx()), (3008, 0, 3008, 0));
}

#[test]
fn a_block_moves_between_any_two_addresses() {
    let mut g = guest();
    g.bus.put(0x12_3456, b"moved words!");
    let mut table = [0; 0x30];
    for (at, address) in [(0x10, 0x12_3456u32), (0x18, 0x2_0001)] {
        table[at + 2..at + 5].copy_from_slice(&address.to_le_bytes()[..3]);
    }
    g.bus.put(0x3000, &table);
    g.cpu.es = Segment::real_data(0x300);
    g.cpu.gprs.set_rsi(0);
    let _ = call(&mut g, 0x8700, 0, 6, 0);
    assert_eq!((g.cf(), g.ax() >> 8), (false, 0));
    assert_eq!(g.bus.bytes(0x2_0001, 12), b"moved words!");
}

#[test]
fn a_wait_ends_when_guest_time_has_passed() {
    let mut g = guest();
    g.bus.time = Nanos(5);
    let _ = call(&mut g, 0x8600, 0, 1, 0);
    assert!(g.cf() && !g.zf(), "long waits halt");
    g.bus.time = Nanos(60_000_000);
    let _ = call(&mut g, 0x8600, 0, 1, 0);
    assert!(g.cf() && g.zf(), "short ones do not");
    g.bus.time = Nanos(66_000_000);
    let _ = call(&mut g, 0x8600, 0, 1, 0);
    assert!(!g.cf());
}

#[test]
fn an_event_wait_sets_the_callers_flag_after_enough_clock_interrupts() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x200);
    let _ = call(&mut g, 0x8300, 7, 0, 2000);
    assert!(!g.cf() && g.bus.cmos[0x0b] & 0x40 != 0);
    g.bus.cmos[0x0c] = 0x40;
    for _ in 0..2 {
        let _ = g.trap(Service::Rtc);
        assert_eq!(g.bus.bytes(0x2007, 1), [0]);
    }
    let _ = g.trap(Service::Rtc);
    assert_eq!(g.bus.bytes(0x2007, 1), [0x80]);
    assert_eq!(g.bus.cmos[0x0b] & 0x40, 0);
}

#[test]
fn apm_turns_the_machine_off() {
    let mut g = guest();
    let _ = call(&mut g, 0x5300, 0, 0, 0);
    assert_eq!((g.ax(), g.bx(), g.cf()), (0x0102, 0x504d, false));
    assert_eq!(call(&mut g, 0x5307, 1, 3, 0), Outcome::PowerOff);
}

#[test]
fn mouse_packets_reach_the_handler_when_complete() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x1234);
    let _ = call(&mut g, 0xc207, 0x5678, 0, 0);
    assert!(!g.cf());
    g.bus.put(0x9_fc27, &[0x82]);
    for (byte, complete) in
        [(0x01u16, false), (0x09, false), (5, false), (0xfb, true), (0x08, false)]
    {
        g.set(byte, 0, 0, 0);
        let _ = g.trap(Service::Mouse);
        assert_eq!(g.cf(), complete, "{byte:x}");
        if complete {
            assert_eq!((g.ax(), g.bx(), g.cx(), g.dx()), (0x09, 5, 0xfb, 0));
            assert_eq!((g.cpu.gprs.rsi(), g.cpu.gprs.rdi()), (0x1234, 0x5678));
        }
    }
}

#[test]
fn no_function_with_any_registers_brings_the_firmware_down() {
    let mut g = guest();
    let mut seed = 0x0123_4567_89ab_cdefu64;
    for round in 0..800u64 {
        for n in [0, 1, 2, 3, 5, 6, 7] {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            g.cpu.gprs.r[n] = seed;
        }
        let service = [
            Service::Int15,
            Service::Int1A,
            Service::Int14,
            Service::Int16,
            Service::Int17,
            Service::Bios32,
            Service::PciBios32,
            Service::Key,
        ][(round % 8) as usize];
        g.cpu.gprs.r[1] &= 0xff;
        g.cpu.es = Segment::real_data(0x3000);
        g.cpu.gprs.set_rsp(0x7000);
        let _ = g.int(service);
        g.bus.outs.clear();
    }
}

#[test]
fn a20_is_switched_by_port_92() {
    let mut g = guest();
    for (ax, value) in [(0x2401, 2), (0x2400, 0)] {
        g.bus.outs.clear();
        let _ = call(&mut g, ax, 0, 0, 0);
        assert_eq!((g.bus.outs.last(), g.cf()), (Some(&(0x92, 1, value)), false));
    }
    let _ = call(&mut g, 0x2402, 0, 0, 0);
    assert_eq!((g.ax(), g.cf()), (1, false), "it is on");
    let _ = call(&mut g, 0x2403, 0, 0, 0);
    assert_eq!((g.ax(), g.bx(), g.cf()), (3, 3, false));
    let _ = call(&mut g, 0x2404, 0, 0, 0);
    assert_eq!((g.ax() >> 8, g.cf()), (0x86, true));
}

#[test]
fn hooks_of_operating_systems_have_their_defaults() {
    let mut g = guest();
    let _ = call(&mut g, 0x4f1e, 0, 0, 0);
    assert_eq!((g.ax() & 0xff, g.cf()), (0x1e, true), "the key goes on");
    for ah in [0x52, 0x80, 0x81, 0x82, 0x85, 0x90, 0x91] {
        let _ = call(&mut g, ah << 8, 0, 0, 0);
        assert_eq!((g.ax() >> 8, g.cf()), (0, false), "{ah:#x}");
    }
    for ax in [0x8900, 0xe802, 0x0000, 0xd800] {
        let _ = call(&mut g, ax, 0, 0, 0);
        assert_eq!((g.ax() >> 8, g.cf()), (0x86, true), "{ax:#x}");
    }
}

#[test]
fn the_configuration_table_and_the_extended_data_area_are_where_they_are_said_to_be() {
    let mut g = guest();
    let _ = call(&mut g, 0xc000, 0, 0, 0);
    assert_eq!((g.ax() >> 8, g.cf(), g.cpu.es.selector), (0, false, 0xf000));
    let table = 0xf_0000 + u64::from(g.bx());
    assert!(g.bus.u16(table) >= 8);
    assert_eq!(g.bus.bytes(table + 2, 1), [0xfc], "an AT");
    assert_eq!(
        g.bus.bytes(table + 5, 1)[0] & 0x74,
        0x74,
        "two 8259, a clock, INT 15h/4Fh, an EBDA"
    );
    let _ = call(&mut g, 0xc100, 0, 0, 0);
    assert_eq!((g.cpu.es.selector, g.cf()), (g.bus.u16(0x40e), false));
    let kib = u16::from(g.bus.bytes(u64::from(g.cpu.es.selector) << 4, 1)[0]);
    assert_eq!(g.bus.u16(0x413) + kib, 640);
}

#[test]
fn sizes_of_memory_are_told_in_wide_registers_too() {
    let mut g = guest();
    g.bus.config.low_ram = 3 << 30;
    let _ = call(&mut g, 0xe801, 0, 0, 0);
    assert_eq!((g.ax(), g.bx(), g.cf()), (0x3c00, g.dx(), false));
    let _ = call(&mut g, 0xe881, 0, 0, 0);
    let gprs = &g.cpu.gprs;
    assert_eq!((gprs.rax(), gprs.rcx()), (0x3c00, 0x3c00));
    assert!((gprs.rbx(), gprs.rbx()) == (gprs.rdx(), (gprs.rbx() & 0xffff)));
    assert!((0xbe00..0xbf00).contains(&gprs.rbx()), "16 MiB to the tables below 3 GiB");
}

#[test]
fn apms_other_functions_answer_for_a_machine_on_its_mains() {
    let mut g = guest();
    for al in [0x01, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0d, 0x0f, 0x10] {
        let _ = call(&mut g, 0x5300 | al, 0, 0, 0);
        assert_eq!((g.ax() >> 8, g.cf()), (0, false), "{al:#x}");
    }
    for (al, code) in [(0x02, 6), (0x03, 8), (0x0b, 0x80), (0x77, 9)] {
        let _ = call(&mut g, 0x5300 | al, 0, 0, 0);
        assert_eq!((g.ax() >> 8, g.cf()), (code, true), "{al:#x}");
    }
    let _ = call(&mut g, 0x530e, 0, 0x0102, 0);
    assert_eq!((g.ax(), g.cf()), (0x0102, false));
    let _ = call(&mut g, 0x530a, 1, 0, 0);
    assert_eq!((g.bx(), g.cx(), g.dx()), (0x01ff, 0x80ff, 0xffff), "on line, no battery");
    assert_eq!(call(&mut g, 0x5307, 1, 1, 0), Outcome::Done, "standby is not off");
    assert_eq!(call(&mut g, 0x5307, 0x0100, 3, 0), Outcome::Done, "a single device");
}

#[test]
fn mouse_calls_that_cannot_be_say_why() {
    let mut g = guest();
    for (ax, bx, code) in [
        (0xc200, 0x0100, 5),
        (0xc200, 0x0200, 2),
        (0xc202, 0x0700, 2),
        (0xc203, 0x0400, 2),
        (0xc205, 0x0000, 2),
        (0xc205, 0x0900, 2),
        (0xc206, 0x0300, 2),
        (0xc208, 0x0000, 1),
        (0xc204, 0x0000, 3),
    ] {
        let _ = call(&mut g, ax, bx, 0, 0);
        assert_eq!((g.ax() >> 8, g.cf()), (code, true), "{ax:#x} {bx:#x}");
    }
}
