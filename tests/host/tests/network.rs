//! Network cards as drivers see them: found on PCI, set up, frames out and in, interrupts.

use arch::{Access, GuestPhys};
use devmodel::net::Received;
use host_tests::{Call, Guest, Mode, Setup};
use machine::{Nic, NicModel};

const MAC: [u8; 6] = [0x00, 0x16, 0x3e, 1, 2, 3];
/// Device 4.
const CARD: u32 = 0x8000_2000;
const PORTS: u16 = 0xc040;
const REGISTERS: u64 = 0xe100_0000;
const RX_RING: u64 = 0x10_0000;
const TX_RING: u64 = 0x10_1000;
const BUFFERS: u64 = 0x10_2000;

fn guest(count: u8) -> Guest {
    let nic = |n| Nic { mac: [0, 0x16, 0x3e, 1, 2, 3 + n], model: NicModel::E1000 };
    Guest::with(Setup { nics: (0..count).map(nic).collect(), ..Setup::default() })
}

fn configure(guest: &mut Guest, at: u32, value: u32) {
    assert_eq!(guest.outp(0xcf8, 4, at), None);
    assert_eq!(guest.outp(0xcfc, 4, value), None);
}

fn configured(guest: &mut Guest, at: u32) -> u32 {
    assert_eq!(guest.outp(0xcf8, 4, at), None);
    guest.inp(0xcfc, 4)
}

/// A register by the I/O ports.
fn write(guest: &mut Guest, register: u32, value: u32) {
    assert_eq!(guest.outp(PORTS, 4, register), None);
    assert_eq!(guest.outp(PORTS + 4, 4, value), None);
}

fn read(guest: &mut Guest, register: u32) -> u32 {
    assert_eq!(guest.outp(PORTS, 4, register), None);
    guest.inp(PORTS + 4, 4)
}

/// The card as a driver leaves it: PIRQ D on IRQ 11, regions, rings of eight.
fn set_up(guest: &mut Guest) {
    configure(guest, 0x8000_0860, 0x0b0b_0a0a);
    configure(guest, CARD | 0x10, REGISTERS as u32);
    configure(guest, CARD | 0x14, PORTS.into());
    configure(guest, CARD | 0x04, 7);
    for n in 0..8 {
        guest.store(RX_RING + n * 16, 8, BUFFERS + 0x1000 + n * 2048);
    }
    for (register, value) in [
        (0x2800, RX_RING as u32),
        (0x2808, 128),
        (0x2818, 7),
        (0x3800, TX_RING as u32),
        (0x3808, 128),
        (0x100, 0x0400_8002),
        (0x400, 2),
        (0xd0, 0x80),
    ] {
        write(guest, register, value);
    }
}

fn queue(guest: &mut Guest, n: u64, len: u64) {
    guest.store(TX_RING + n * 16, 8, BUFFERS);
    guest.store(TX_RING + n * 16 + 8, 8, len | 9 << 24);
}

/// The word that unplugs, at the platform device's ports.
fn unplug(guest: &mut Guest, what: u32) {
    assert_eq!(guest.outp(0x10, 2, what), None);
}

#[test]
fn a_card_that_the_drivers_take_away_is_off_the_bus_until_the_next_reset() {
    let nic = Nic { mac: MAC, model: NicModel::E1000 };
    let mut guest = Guest::with(Setup { nics: vec![nic], xen: true, ..Setup::default() });
    set_up(&mut guest);
    unplug(&mut guest, 1);
    assert_eq!(configured(&mut guest, CARD), 0x100e_8086, "disks only");
    queue(&mut guest, 0, 60);
    unplug(&mut guest, 2);
    assert_eq!(configured(&mut guest, CARD), u32::MAX);
    configure(&mut guest, CARD | 0x04, 7);
    assert_eq!(read(&mut guest, 8), u32::MAX, "no ports");
    write(&mut guest, 0x3818, 1);
    assert!(guest.host.frames.borrow().is_empty());
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &[0xff; 60]), Received::Unwanted);
    assert_eq!(configured(&mut guest, 0x8000_1800) & 0xffff, 0x5853, "others stay");
    guest.machine.power_on(&guest.host);
    assert_eq!(configured(&mut guest, CARD), 0x100e_8086);
    set_up(&mut guest);
    assert_ne!(read(&mut guest, 8), u32::MAX);
}

#[test]
fn a_card_is_on_pci_only_where_the_configuration_has_one() {
    let mut none = guest(0);
    assert_eq!(configured(&mut none, CARD), u32::MAX);
    let mut two = guest(2);
    assert_eq!(configured(&mut two, CARD), 0x100e_8086);
    assert_eq!(configured(&mut two, CARD + 0x800), 0x100e_8086);
    assert_eq!(configured(&mut two, CARD + 0x1000), u32::MAX);
    assert_eq!(configured(&mut two, CARD | 8) >> 8, 0x02_0000);
    configure(&mut two, CARD | 0x10, u32::MAX);
    assert_eq!(configured(&mut two, CARD | 0x10), 0xfffe_0000);
    let many = guest(9);
    drop(many);
}

#[test]
fn a_queued_frame_reaches_the_host() {
    let mut guest = guest(1);
    set_up(&mut guest);
    guest.machine.ram.write_slice(GuestPhys(BUFFERS), &[0x33; 100]).unwrap();
    queue(&mut guest, 0, 100);
    write(&mut guest, 0x3818, 1);
    assert_eq!(*guest.host.frames.borrow(), [(0, vec![0x33; 100])]);
    assert_eq!(guest.load(TX_RING + 12, 1), 1, "written back");
}

#[test]
fn more_frames_than_one_turn_sends_follow_by_themselves() {
    let mut guest = guest(1);
    set_up(&mut guest);
    write(&mut guest, 0x3808, 256 * 16);
    for n in 0..200 {
        queue(&mut guest, n, 60);
    }
    write(&mut guest, 0x3818, 200);
    assert_eq!(guest.host.frames.borrow().len(), 64);
    guest.pass(0);
    assert_eq!(guest.host.frames.borrow().len(), 200);
}

#[test]
fn a_card_that_is_no_bus_master_moves_nothing() {
    let mut guest = guest(1);
    set_up(&mut guest);
    configure(&mut guest, CARD | 4, 3);
    queue(&mut guest, 0, 60);
    write(&mut guest, 0x3818, 1);
    assert!(guest.host.frames.borrow().is_empty());
    let frame = [0xff; 60];
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::Unwanted);
    guest.pass(1_000_000);
}

#[test]
fn a_received_frame_interrupts_on_irq_11_and_reading_the_cause_ends_it() {
    let mut guest = guest(1);
    // The 8259A pair: vectors 20h and 28h, all open; ELCR: 11 is a level.
    guest.outs(&[(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)]);
    guest.outs(&[(0xa0, 0x11), (0xa1, 0x28), (0xa1, 2), (0xa1, 1), (0xa1, 0), (0x4d1, 8)]);
    set_up(&mut guest);
    let mut frame = [0x44; 80];
    frame[..6].copy_from_slice(&MAC);
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::Taken);
    assert_eq!(guest.load(BUFFERS + 0x1000, 8), 0x4444_0302_013e_1600);
    guest.outs(&[(0xa0, 0x0a)]);
    assert_eq!(guest.inp(0xa0, 1), 8, "IRQ 11 is asked for");
    assert_eq!(configured(&mut guest, CARD | 4) >> 19 & 1, 1, "PCI status says so");
    assert_eq!(read(&mut guest, 0xc0) & 0x80, 0x80);
    assert_eq!(guest.inp(0xa0, 1), 0);
}

#[test]
fn registers_in_memory_are_the_same_as_by_ports() {
    let mut guest = guest(1);
    set_up(&mut guest);
    guest.set_mode(0, Mode::Protected);
    // MOV EAX, [EBX]; then MOV [EBX], EAX.
    guest.at(&[0x8b, 0x03]);
    guest.vcpus[0].gprs.set_rbx(REGISTERS + 8);
    assert_eq!(guest.touch(REGISTERS + 8, Access::READ), None);
    assert_eq!(guest.vcpus[0].gprs.rax(), 0x283);
    guest.at(&[0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(REGISTERS + 0x5200);
    assert_eq!(guest.touch(REGISTERS + 0x5200, Access::WRITE), None);
    assert_eq!(read(&mut guest, 0x5200), 0x283);
}

#[test]
fn a_card_without_buffers_tells_when_it_has_room() {
    let mut guest = guest(2);
    set_up(&mut guest);
    write(&mut guest, 0x2818, 0);
    let frame = [0xff; 60];
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::NoRoom);
    guest.host.take_calls();
    write(&mut guest, 0x2818, 7);
    assert!(guest.host.take_calls().contains(&Call::NicHasRoom(0)));
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::Taken);
    assert_eq!(guest.machine.receive_frame(&guest.host, 9, &frame), Received::Unwanted);
}

#[test]
fn an_rtl8139_sends_and_receives_too() {
    let nics = vec![Nic { mac: MAC, model: NicModel::Rtl8139 }];
    let mut guest = Guest::with(Setup { nics, ..Setup::default() });
    assert_eq!(configured(&mut guest, CARD), 0x8139_10ec);
    configure(&mut guest, CARD | 0x10, 0xc100);
    configure(&mut guest, CARD | 0x14, REGISTERS as u32);
    configure(&mut guest, CARD | 0x04, 7);
    let ring = BUFFERS + 0x1000;
    for (port, width, value) in
        [(0xc137, 1, 0x10), (0xc130, 4, ring as u32), (0xc137, 1, 0x0c), (0xc144, 4, 0x0a)]
    {
        assert_eq!(guest.outp(port, width, value), None);
    }
    guest.machine.ram.write_slice(GuestPhys(BUFFERS), &[0x33; 64]).unwrap();
    assert_eq!(guest.outp(0xc120, 4, BUFFERS as u32), None);
    assert_eq!(guest.outp(0xc110, 4, 64), None);
    assert_eq!(*guest.host.frames.borrow(), [(0, vec![0x33; 64])]);
    let frame = [0xff; 60];
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::Taken);
    assert_eq!(guest.load(ring, 4), 64 << 16 | 0x2001);
    assert_eq!(guest.inp(0xc13e, 2), 5, "sent and received");
    // MOV EAX, [EBX] from the same registers in memory.
    guest.set_mode(0, Mode::Protected);
    guest.at(&[0x8b, 0x03]);
    guest.vcpus[0].gprs.set_rbx(REGISTERS + 0x3c);
    assert_eq!(guest.touch(REGISTERS + 0x3c, Access::READ), None);
    assert_eq!(guest.vcpus[0].gprs.rax(), 5 << 16);
}

#[test]
fn power_on_takes_the_card_back() {
    let mut guest = guest(1);
    set_up(&mut guest);
    assert!(guest.machine.power_on(&guest.host));
    assert_eq!(guest.inp(PORTS, 4), u32::MAX);
    let frame = [0xff; 60];
    assert_eq!(guest.machine.receive_frame(&guest.host, 0, &frame), Received::Unwanted);
}
