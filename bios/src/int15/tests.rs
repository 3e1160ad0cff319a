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
