//! INT 15h C2h on the board's own 8042 and mouse, whose bytes take their time on the wire.

use arch::{Exit, Gpr, SegReg, Segment, Vcpu};
use bios::Service;
use devmodel::ps2kbd::Key;
use host_tests::Guest;

/// A call that is to succeed: AX and BH go in, BX comes out.
fn call(guest: &mut Guest, ax: u64, bh: u64) -> u64 {
    guest.at_trap(Service::Int15);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_segment(SegReg::Es, Segment::real_data(0x1000));
    vcpu.gprs.set(Gpr::Rax, ax);
    vcpu.gprs.set(Gpr::Rbx, bh << 8);
    assert_eq!(guest.exit(Exit::Out { port: bios::TRAP_PORT, width: 1 }), None);
    let ah = guest.vcpus[0].gprs.rax() >> 8 & 0xff;
    assert_eq!((ah, guest.load(0x7004, 2) & 1), (0, 0), "{ax:x}");
    guest.vcpus[0].gprs.rbx()
}

fn port_in(guest: &mut Guest, port: u16) -> u64 {
    guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 2);
    assert_eq!(guest.exit(Exit::In { port, width: 1 }), None);
    guest.vcpus[0].gprs.rax() & 0xff
}

fn press(guest: &Guest, key: Key) -> bool {
    let now = guest.machine.now(&guest.host);
    guest.machine.with_keyboard(&guest.host, |ps2| ps2.key(key, true, now))
}

/// As CuteMouse looks for a mouse.
fn find_mouse(guest: &mut Guest) {
    assert_eq!(call(guest, 0xc205, 3), 0x00aa, "reset, and packets of three bytes");
    let _ = call(guest, 0xc203, 3);
    assert_eq!(call(guest, 0xc204, 0) >> 8, 0, "a mouse without a wheel");
    let _ = call(guest, 0xc207, 1);
    let _ = call(guest, 0xc200, 1);
}

#[test]
fn a_mouse_is_found_however_fast_the_host_asks() {
    for pace in [100, 3_000, 40_000] {
        let mut guest = Guest::new();
        guest.host.pace.set(pace);
        find_mouse(&mut guest);
        assert_eq!(port_in(&mut guest, 0x64) & 1, 0, "nothing is left in the buffer");
    }
}

#[test]
fn a_key_in_the_buffer_does_not_lock_the_keyboard() {
    let mut guest = Guest::new();
    guest.host.pace.set(100);
    assert!(press(&guest, Key::A));
    guest.pass(2_000_000);
    find_mouse(&mut guest);
    assert!(press(&guest, Key::B));
    guest.pass(2_000_000);
    assert_eq!(port_in(&mut guest, 0x64) & 0x21, 1);
    assert_eq!(port_in(&mut guest, 0x60), 0x30);
}
