use crate::caller::Outcome;
use crate::platform::{BootDevice, DiskKind};
use crate::rom::{ROM, Service};
use crate::testing::{Guest, Mock};
use arch::{Nanos, Segment};

/// A CD with a catalogue at sector 19 and an image at sector 30.
fn cd(media: u8, sectors: u16) -> Mock {
    let mut bus = Mock::new().with_disk(DiskKind::Cd, 12_000);
    let data = &mut bus.disks[0].data;
    data[17 * 2048..][..30].copy_from_slice(b"\0CD001\x01EL TORITO SPECIFICATION");
    data[17 * 2048 + 0x47..][..4].copy_from_slice(&19u32.to_le_bytes());
    let catalogue = &mut data[19 * 2048..][..2048];
    catalogue.fill(0);
    catalogue[0] = 1;
    catalogue[0x1c..0x20].copy_from_slice(&[0xaa, 0x55, 0x55, 0xaa]);
    catalogue[32..44].copy_from_slice(&[0x88, media, 0, 0, 0, 0, sectors as u8, 0, 30, 0, 0, 0]);
    data[30 * 2048..][..4].copy_from_slice(b"BOOT");
    bus
}

/// INT 19h up to its answer: BX:CX and DL, or `None`.
fn boot(g: &mut Guest) -> Option<(u16, u16, u16)> {
    loop {
        match g.trap(Service::Boot) {
            Outcome::Wait => {}
            Outcome::Done => {
                assert!(!g.cf());
                return (!g.zf()).then(|| (g.bx(), g.cx(), g.dx()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn media_are_tried_in_order_and_the_first_that_is_bootable_boots() {
    let mut bus = Mock::new().with_disk(DiskKind::Floppy, 2880).with_disk(DiskKind::Hard, 2048);
    bus.disks[1].data[510..512].copy_from_slice(&[0x55, 0xaa]);
    bus.delay = 3;
    let mut g = Guest::new(bus);
    assert_eq!(boot(&mut g), Some((0, 0x7c00, 0x80)));
    assert_eq!(g.bus.u16(0x7dfe), 0xaa55);
    g.bus.disks[0].data[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    assert_eq!(boot(&mut g), Some((0, 0x7c00, 0x00)));
    g.bus.config.boot_order = std::vec![BootDevice::Hard, BootDevice::Floppy];
    assert_eq!(boot(&mut g), Some((0, 0x7c00, 0x80)));
}

#[test]
fn what_booted_and_gives_up_leaves_it_to_the_next_medium() {
    let mut bus = cd(0, 4).with_disk(DiskKind::Hard, 2048);
    bus.disks[1].data[510..512].copy_from_slice(&[0x55, 0xaa]);
    bus.config.boot_order = std::vec![BootDevice::Hard, BootDevice::Cd];
    let mut g = Guest::new(bus);
    for _ in 0..2 {
        assert_eq!(boot(&mut g), Some((0, 0x7c00, 0x80)));
        let _ = g.trap(Service::Int18);
        assert!(!g.cf(), "on with INT 19h");
        assert_eq!(boot(&mut g), Some((0x7c0, 0, 0xe0)));
        let _ = g.trap(Service::Int18);
        assert_eq!(boot(&mut g), None);
        let _ = g.trap(Service::Int18);
        assert!(g.cf(), "a key is waited for");
        g.set(0x1c, 0, 0, 0);
        let _ = g.trap(Service::Key);
        let _ = g.trap(Service::Int18);
    }
}

#[test]
fn nothing_to_boot_is_said_on_the_screen_and_a_key_tries_again() {
    let mut g = Guest::new(Mock::new().with_disk(DiskKind::Floppy, 2880));
    g.bus.disks[0].info.present = false;
    assert_eq!(boot(&mut g), None);
    let _ = g.int(Service::Int18);
    assert!(g.cf());
    assert_eq!(g.bus.row(1), "No bootable medium found. Press a key to try again.");
    g.set(0x1c, 0, 0, 0);
    let _ = g.trap(Service::Key);
    let _ = g.int(Service::Int18);
    assert!(!g.cf());
}

#[test]
fn a_cd_without_emulation_loads_its_sectors_and_is_drive_e0() {
    let mut bus = cd(0, 4);
    bus.delay = 2;
    let mut g = Guest::new(bus);
    assert_eq!(boot(&mut g), Some((0x7c0, 0, 0xe0)));
    assert_eq!(g.bus.bytes(0x7c00, 4), b"BOOT");
    g.cpu.ds = Segment::real_data(0x100);
    g.cpu.gprs.set_rsi(0);
    let _ = g.set(0x4b01, 0, 0, 0xe0).int(Service::Int13);
    assert_eq!((g.cf(), g.bus.bytes(0x1000, 3)), (false, std::vec![19, 0, 0xe0]));
    assert_eq!((g.bus.u32(0x1004), g.bus.u16(0x100c), g.bus.u16(0x100e)), (30, 0x7c0, 4));
}

#[test]
fn an_emulated_floppy_is_drive_0_until_emulation_ends() {
    let mut bus = cd(2, 1).with_disk(DiskKind::Floppy, 2880);
    bus.config.boot_order = std::vec![BootDevice::Cd];
    let mut g = Guest::new(bus);
    assert_eq!(boot(&mut g), Some((0x7c0, 0, 0)));
    g.cpu.es = Segment::real_data(0x2000);
    let _ = g.set(0x0201, 0, 0x0003, 0).int(Service::Int13);
    assert_eq!((g.cf(), g.bus.u32(0x2_0000)), (false, 30 * 4 + 2));
    let _ = g.set(0x0301, 0, 0x0003, 0).int(Service::Int13);
    assert_eq!((g.cf(), g.ax() >> 8), (true, 3));
    let _ = g.set(0x0201, 0, 0x0003, 1).int(Service::Int13);
    assert_eq!(g.bus.u32(0x2_0000), 2, "the real floppy is drive 1");
    let _ = g.set(0x4b00, 0, 0, 0).int(Service::Int13);
    assert!(!g.cf());
    let _ = g.set(0x0201, 0, 0x0003, 0).int(Service::Int13);
    assert_eq!(g.bus.u32(0x2_0000), 2, "and is drive 0 again");
}

#[test]
fn an_emulated_hard_disk_takes_its_geometry_from_its_partition() {
    let mut bus = cd(4, 1).with_disk(DiskKind::Hard, 2048);
    let at = 30 * 2048 + 0x1be;
    bus.disks[0].data[at + 4..at + 8].copy_from_slice(&[6, 3, 17, 9]);
    bus.config.boot_order = std::vec![BootDevice::Cd];
    let mut g = Guest::new(bus);
    assert_eq!(boot(&mut g), Some((0x7c0, 0, 0x80)));
    let _ = g.set(0x0800, 0, 0, 0x80).int(Service::Int13);
    assert_eq!((g.cx(), g.dx()), (9 << 8 | 17, 0x0302));
}

#[test]
fn damaged_catalogues_boot_nothing() {
    for (at, value) in
        [(17 * 2048 + 7, b'X'), (19 * 2048, 2), (19 * 2048 + 0x1e, 0), (19 * 2048 + 32, 0)]
    {
        let mut bus = cd(0, 4);
        bus.disks[0].data[at] = value;
        let mut g = Guest::new(bus);
        assert_eq!(boot(&mut g), None, "{at}");
    }
    let mut bus = cd(0, 4);
    bus.disks[0].data[19 * 2048 + 40..][..4].copy_from_slice(&[0xff; 4]);
    assert_eq!(boot(&mut Guest::new(bus)), None);
}

#[test]
fn the_menu_waits_its_time_and_takes_a_digit() {
    let mut bus = Mock::new().with_disk(DiskKind::Floppy, 2880).with_disk(DiskKind::Hard, 2048);
    for disk in &mut bus.disks {
        disk.data[..2].copy_from_slice(&[0xeb, 0x3c]);
        disk.data[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    bus.config.boot_menu_ms = 2000;
    let mut g = Guest::new(bus);
    let _ = g.trap(Service::Menu);
    assert!(g.cf());
    assert_eq!(g.bus.row(0), "Boot from: 1 floppy 2 hard disk 3 CD  (Enter: in this order)");
    g.set(0x03, 0, 0, 0);
    let _ = g.trap(Service::Key);
    let _ = g.trap(Service::Menu);
    assert!(!g.cf());
    assert_eq!(boot(&mut g), Some((0, 0x7c00, 0x80)));
    let _ = g.trap(Service::Menu);
    assert!(g.cf());
    g.bus.time = Nanos(2_000_000_000);
    let _ = g.trap(Service::Menu);
    assert!(!g.cf());
}

#[test]
fn option_roms_with_a_right_sum_are_called_and_others_skipped() {
    let mut bus = Mock::new();
    for (at, size, right) in [(0xc_8000u64, 1u8, true), (0xd_0000, 2, false), (0xd_1000, 3, true)] {
        for n in 0..u64::from(size) * 512 {
            bus.mmio.insert(at + n, 0);
        }
        let sum = 0u8.wrapping_sub(0x55).wrapping_sub(0xaa).wrapping_sub(size);
        for (n, byte) in [0x55, 0xaa, size, if right { sum } else { 1 }].into_iter().enumerate() {
            bus.mmio.insert(at + n as u64, byte);
        }
    }
    let mut g = Guest::new(bus);
    for segment in [0xc800, 0xd100] {
        let _ = g.trap(Service::OptionRom);
        assert!(g.cf());
        assert_eq!(g.cpu.gprs.rsi() & 0xffff, segment);
    }
    let _ = g.trap(Service::OptionRom);
    assert!(!g.cf());
}

#[test]
fn a_trap_in_a_copy_of_the_rom_is_the_roms() {
    // As JEMM does: the last page, where INT 8's stub is, is a copy in extended memory.
    let mut g = Guest::new(Mock::new());
    let copy = 0x15_8000;
    g.bus.put(copy, &ROM[0xf000..]);
    let pages = (0..0x100u32).map(|page| (page, u64::from(page) << 12));
    g.bus.pages = Some(pages.chain([(0xff, copy)]).collect());
    let before = g.bus.u32(0x46c);
    let _ = g.trap(Service::Tick);
    assert_eq!(g.bus.u32(0x46c), before + 1);
    // Bytes that name no service are nobody's, and so is a copy that no real-mode program reaches.
    g.bus.put(copy + (g.cpu.rip & 0xfff) + 5, &[0xff]);
    assert_eq!(g.bios.call(&mut g.cpu, &mut g.bus), Outcome::NotRom);
    g.bus.pages = None;
    (g.cpu.cs.base, g.cpu.rip) = (0, 0x20_0000);
    g.bus.put(0x20_0000, &[0xe6, 0xb6, 0x0f, 0x1f, 0x40, Service::Tick as u8]);
    assert_eq!(g.bios.call(&mut g.cpu, &mut g.bus), Outcome::NotRom);
}

#[test]
fn a_trap_outside_the_rom_is_nobodys() {
    let mut g = Guest::new(Mock::new());
    g.cpu.cs = Segment::real_code(0x1000);
    g.cpu.rip = 0x50;
    let before = g.cpu;
    assert_eq!(g.bios.call(&mut g.cpu, &mut g.bus), Outcome::NotRom);
    assert_eq!(g.cpu, before);
}

#[test]
fn shutdown_codes_bring_a_program_back_to_real_mode_once() {
    let mut g = Guest::new(Mock::new());
    for (code, answer) in [(0u8, 0u16), (5, 1), (0x0a, 1), (9, 2), (0x0c, 3), (0x77, 0)] {
        g.bus.cmos[0x0f] = code;
        let _ = g.trap(Service::Reset);
        assert_eq!((g.ax(), g.bus.cmos[0x0f]), (answer, 0), "{code:x}");
    }
}
