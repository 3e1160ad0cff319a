//! The PCI bus as firmware and guests use it.

use std::vec::Vec;

use super::*;
use crate::state::LoadError;
use crate::testing::Rng;

const HOST: DevFn = DevFn::new(0, 0);
const ISA: DevFn = DevFn::new(1, 0);
const IDE: DevFn = DevFn::new(1, 1);
const PM: DevFn = DevFn::new(1, 3);
const VGA: DevFn = DevFn::new(2, 0);
const XEN: DevFn = XEN_PLATFORM;

fn bus() -> Bus {
    pc(16 << 20, 0)
}

/// The board with the Xen platform device.
fn pc(frame_buffer: u32, rom: u32) -> Bus {
    let mut bus = Bus::pc(frame_buffer, rom);
    bus.add(XEN_PLATFORM, Kind::XenPlatform).unwrap();
    bus
}

fn select(bus: &mut Bus, at: DevFn, register: u8) {
    bus.set_address(1 << 31 | u32::from(at.bits()) << 8 | u32::from(register & 0xFC));
}

fn get(bus: &mut Bus, at: DevFn, register: u8, width: u8) -> u32 {
    select(bus, at, register);
    bus.read_data(register & 3, width)
}

fn put(bus: &mut Bus, at: DevFn, register: u8, width: u8, value: u32) -> PciEffect {
    select(bus, at, register);
    bus.write_data(register & 3, width, value)
}

#[test]
fn each_function_has_its_identity_and_class() {
    let mut bus = bus();
    for (at, id, class) in [
        (HOST, 0x1237_8086, 0x0600_0002),
        (ISA, 0x7000_8086, 0x0601_0000),
        (IDE, 0x7010_8086, 0x0101_8000),
        (PM, 0x7113_8086, 0x0680_0003),
        (VGA, 0x1111_1234, 0x0300_0002),
        (XEN, 0x0001_5853, 0xFF80_0001),
    ] {
        assert_eq!(get(&mut bus, at, 0, 4), id);
        assert_eq!(get(&mut bus, at, 8, 4), class);
        assert_eq!(put(&mut bus, at, 0, 4, 0), PciEffect::Nothing);
        assert_eq!(get(&mut bus, at, 0, 4), id, "read-only");
    }
    assert_eq!(get(&mut bus, ISA, 0x0E, 1), 0x80, "several functions");
    assert_eq!(get(&mut bus, PM, 0x5B, 1), 0x02, "no SMM to set up");
}

#[test]
fn what_is_not_there_reads_as_all_ones() {
    let mut bus = bus();
    assert_eq!(get(&mut bus, DevFn::new(31, 7), 0, 4), !0);
    assert_eq!(get(&mut bus, DevFn::new(1, 2), 0, 2), 0xFFFF);
    assert_eq!(put(&mut bus, DevFn::new(9, 0), 4, 2, 7), PciEffect::Nothing);
    bus.set_address(0x8001_0000);
    assert_eq!(bus.read_data(0, 4), !0, "bus 1");
    bus.set_address(0x0000_0000);
    assert_eq!(bus.read_data(0, 1), 0xFF, "not enabled");
    bus.set_address(!0);
    assert_eq!(bus.address(), 0x80FF_FFFC);
}

#[test]
fn bytes_and_words_of_a_dword_are_reached_through_cfc_to_cff() {
    let mut bus = bus();
    assert_eq!(get(&mut bus, VGA, 2, 2), 0x1111);
    assert_eq!(get(&mut bus, VGA, 0x0B, 1), 0x03);
    let _ = put(&mut bus, VGA, 0x3C, 1, 0x0B);
    assert_eq!(get(&mut bus, VGA, 0x3C, 4) & 0xFF, 0x0B);
    let _ = put(&mut bus, VGA, 0x13, 1, 0xE0);
    assert_eq!(get(&mut bus, VGA, 0x10, 4), 0xE000_0008);
    assert_eq!(get(&mut bus, VGA, 3, 2), 0xFF11, "beyond CFFh there is nothing");
}

#[test]
fn a_base_address_tells_its_size_and_its_moves() {
    let mut bus = bus();
    assert_eq!(put(&mut bus, VGA, 0x10, 4, !0), PciEffect::Decode(VGA));
    assert_eq!(get(&mut bus, VGA, 0x10, 4), 0xFF00_0008);
    let _ = put(&mut bus, VGA, 0x18, 4, !0);
    assert_eq!(get(&mut bus, VGA, 0x18, 4), 0xFFFF_F000);
    assert_eq!((get(&mut bus, VGA, 0x14, 4), get(&mut bus, VGA, 0x30, 4)), (0, 0));
    let _ = put(&mut bus, VGA, 0x10, 4, 0xFD00_0000);
    assert_eq!(bus.function(VGA).unwrap().region(0), None, "memory decode is off");
    assert_eq!(put(&mut bus, VGA, 4, 2, 0x0107), PciEffect::Decode(VGA));
    assert_eq!(
        bus.function(VGA).unwrap().region(0),
        Some(Region::Memory { address: 0xFD00_0000, size: 16 << 20 })
    );
    assert_eq!(put(&mut bus, VGA, 0x10, 4, 0xFD00_0000), PciEffect::Nothing, "no move");

    let _ = put(&mut bus, XEN, 0x10, 4, !0);
    assert_eq!(get(&mut bus, XEN, 0x10, 4), 0xFFFF_FF01);
    let _ = put(&mut bus, XEN, 4, 2, 7);
    let xen = bus.function(XEN).unwrap();
    assert_eq!(xen.region(0), None, "still sizing");
    let _ = put(&mut bus, XEN, 0x10, 4, 0xC000);
    let xen = bus.function(XEN).unwrap();
    assert_eq!(xen.region(0), Some(Region::Io { port: 0xC000, size: 256 }));
    assert!(xen.is_master());
    assert_eq!((xen.region(5), xen.region(6), xen.region(255)), (None, None, None));
}

#[test]
fn an_expansion_rom_has_its_own_enable() {
    let mut bus = pc(32 << 20, 0x9000);
    let _ = put(&mut bus, VGA, 0x30, 4, 0xFFFF_FFFE);
    assert_eq!(get(&mut bus, VGA, 0x30, 4), 0xFFFF_0000);
    let _ = put(&mut bus, VGA, 4, 2, 2);
    let _ = put(&mut bus, VGA, 0x30, 4, 0xFEB0_0000);
    assert_eq!(bus.function(VGA).unwrap().rom_region(), None);
    let _ = put(&mut bus, VGA, 0x30, 4, 0xFEB0_0001);
    let rom = Region::Memory { address: 0xFEB0_0000, size: 0x1_0000 };
    assert_eq!(bus.function(VGA).unwrap().rom_region(), Some(rom));
}

#[test]
fn pam_says_what_each_segment_shows() {
    let mut bus = bus();
    let none = Shadow { read_ram: false, write_ram: false };
    for address in (0xC_0000..0x10_0000).step_by(0x4000) {
        assert_eq!(bus.shadow(address), Some(none));
    }
    assert_eq!((bus.shadow(0xB_FFFF), bus.shadow(0x10_0000)), (None, None));
    assert_eq!(put(&mut bus, HOST, 0x59, 1, 0x30), PciEffect::Memory);
    assert_eq!(bus.shadow(0xF_0000), Some(Shadow { read_ram: true, write_ram: true }));
    assert_eq!(bus.shadow(0xE_C000), Some(none));
    let _ = put(&mut bus, HOST, 0x5A, 1, 0x21);
    assert_eq!(bus.shadow(0xC_0000), Some(Shadow { read_ram: true, write_ram: false }));
    assert_eq!(bus.shadow(0xC_7FFF), Some(Shadow { read_ram: false, write_ram: true }));
    let _ = put(&mut bus, HOST, 0x5F, 1, 0x33);
    assert_eq!(bus.shadow(0xE_8000), Some(Shadow { read_ram: true, write_ram: true }));
    assert_eq!(bus.shadow(0xE_F000), Some(Shadow { read_ram: true, write_ram: true }));
}

#[test]
fn smram_opens_and_once_locked_stays_closed() {
    let mut bus = bus();
    assert_eq!(get(&mut bus, HOST, 0x72, 1), 0x02);
    assert_eq!(put(&mut bus, HOST, 0x72, 1, 0x4A), PciEffect::Memory);
    assert!(bus.smram_open());
    let _ = put(&mut bus, HOST, 0x72, 1, 0x5A);
    assert_eq!(get(&mut bus, HOST, 0x72, 1), 0x1A);
    let _ = put(&mut bus, HOST, 0x72, 1, 0x4A);
    assert_eq!(get(&mut bus, HOST, 0x72, 1), 0x1A);
    assert!(!bus.smram_open());
    bus.reset();
    assert_eq!(get(&mut bus, HOST, 0x72, 1), 0x02);
}

#[test]
fn pirqs_carry_pins_to_isa_interrupts() {
    let mut bus = bus();
    assert_eq!([pirq_of(1, 1), pirq_of(2, 1), pirq_of(3, 1), pirq_of(4, 4)], [0, 1, 2, 2]);
    bus.set_intx(XEN, true);
    assert!(bus.pirq(2));
    assert_eq!(bus.isa_irqs(), 0, "not routed after reset");
    assert_eq!(put(&mut bus, ISA, 0x62, 1, 11), PciEffect::Routing);
    assert_eq!((bus.isa_irqs(), bus.pirq_irq(2), bus.pirq_irq(0)), (1 << 11, Some(11), None));
    assert_eq!(get(&mut bus, XEN, 6, 2) & 8, 8, "interrupt status");
    let _ = put(&mut bus, XEN, 4, 2, 0x0400);
    assert_eq!(bus.isa_irqs(), 0, "INTx disabled");
    let _ = put(&mut bus, XEN, 4, 2, 0);
    let _ = put(&mut bus, ISA, 0x62, 1, 0x80);
    assert_eq!(bus.isa_irqs(), 0);
    let _ = put(&mut bus, ISA, 0x62, 1, 0x08);
    assert_eq!(bus.isa_irqs(), 0, "IRQ8 cannot be had");
    let _ = put(&mut bus, ISA, 0x62, 1, 5);
    assert_eq!(bus.isa_irqs(), 1 << 5);
    bus.set_intx(XEN, false);
    assert_eq!(bus.isa_irqs(), 0);
    bus.set_intx(VGA, true);
    assert!(!bus.pirq(1), "the display has no pin");
}

#[test]
fn two_functions_share_a_pirq_and_either_holds_it() {
    let mut bus = bus();
    let nic = Generic {
        vendor: 0x10EC,
        device: 0x8139,
        class: 0x02_0000,
        revision: 0x20,
        subsystem: (0x1AF4, 0x1100),
        interrupt_pin: 1,
        bars: [Bar::Io(256), Bar::Memory(256), Bar::None, Bar::None, Bar::None, Bar::None],
    };
    let at = DevFn::new(7, 0);
    assert_eq!(bus.add(at, Kind::Generic(nic)), Ok(()));
    assert_eq!(bus.add(at, Kind::Generic(nic)), Err(AddError::Taken));
    let _ = put(&mut bus, ISA, 0x60, 4, 0x0A0A_0B0B);
    bus.set_intx(at, true);
    bus.set_intx(XEN, true);
    assert_eq!(bus.isa_irqs(), 1 << 10);
    bus.set_intx(XEN, false);
    assert_eq!(bus.isa_irqs(), 1 << 10);
    bus.set_intx(at, false);
    assert_eq!(bus.isa_irqs(), 0);
    let _ = put(&mut bus, at, 0x14, 4, !0);
    assert_eq!(get(&mut bus, at, 0x14, 4), 0xFFFF_FF00);
    for device in 8..17 {
        assert_eq!(bus.add(DevFn::new(device, 0), Kind::Generic(nic)), Ok(()));
    }
    assert_eq!(bus.add(DevFn::new(30, 0), Kind::Generic(nic)), Err(AddError::Full));
}

#[test]
fn ide_and_power_management_say_where_they_decode() {
    let mut bus = bus();
    assert!(!bus.ide_decodes(0) && bus.pm_base().is_none() && bus.smbus_base().is_none());
    let _ = put(&mut bus, IDE, 4, 2, 5);
    assert_eq!(put(&mut bus, IDE, 0x40, 2, 0x8000), PciEffect::Device(IDE));
    assert!(bus.ide_decodes(0) && !bus.ide_decodes(1));
    assert_eq!(put(&mut bus, PM, 0x40, 4, 0xB001), PciEffect::Device(PM));
    assert_eq!(bus.pm_base(), None);
    let _ = put(&mut bus, PM, 0x80, 1, 1);
    assert_eq!(bus.pm_base(), Some(0xB000));
    let _ = put(&mut bus, PM, 0x90, 4, 0xB101);
    let _ = put(&mut bus, PM, 0xD2, 1, 9);
    assert_eq!(bus.smbus_base(), Some(0xB100));
}

/// SeaBIOS: make_bios_writable, pci_probe_devices, pci_bios_check_devices, device init.
#[test]
fn seabios_boot_script() {
    let mut bus = bus();
    assert_eq!(get(&mut bus, HOST, 0, 4), 0x1237_8086);
    for register in 0x5A..=0x5F {
        let _ = put(&mut bus, HOST, register, 1, 0x33);
    }
    let pam0 = get(&mut bus, HOST, 0x59, 1);
    let _ = put(&mut bus, HOST, 0x59, 1, pam0 | 0x30);
    let mut found = Vec::new();
    for device in 0..32 {
        let head = DevFn::new(device, 0);
        let several = get(&mut bus, head, 0x0E, 1) & 0x80 != 0;
        for function in 0..8 {
            let at = DevFn::new(device, function);
            let id = get(&mut bus, at, 0, 4);
            if id != !0 && id != 0 {
                found.push(at);
            }
            if get(&mut bus, head, 0, 2) == 0xFFFF || !several && function == 0 {
                break;
            }
        }
    }
    assert_eq!(found, [HOST, ISA, IDE, PM, VGA, XEN]);
    let (mut memory, mut io) = (0xFE00_0000_u32, 0xC000_u32);
    for &at in &found {
        for n in 0..6 {
            let register = 0x10 + 4 * n;
            let old = get(&mut bus, at, register, 4);
            let _ = put(&mut bus, at, register, 4, !0);
            let sized = get(&mut bus, at, register, 4);
            let _ = put(&mut bus, at, register, 4, old);
            assert_eq!(get(&mut bus, at, register, 4), old);
            if sized == 0 {
                continue;
            }
            let mask = if sized & 1 != 0 { !3 } else { !15 };
            let size = !(sized & mask) + 1;
            let base = if sized & 1 != 0 { &mut io } else { &mut memory };
            *base = if sized & 1 != 0 { *base } else { (*base - size) & !(size - 1) };
            let _ = bus.write(at, register, 4, *base);
            if sized & 1 != 0 {
                io += size;
            }
        }
        let _ = put(&mut bus, at, 4, 2, 0x0103);
    }
    // piix_isa_bridge_setup, piix_ide_setup, piix4_pm_setup
    for (n, irq) in [10, 10, 11, 11].into_iter().enumerate() {
        let _ = put(&mut bus, ISA, 0x60 + n as u8, 1, irq);
    }
    let _ = put(&mut bus, IDE, 0x40, 2, 0x8000);
    let _ = put(&mut bus, IDE, 0x42, 2, 0x8000);
    let _ = put(&mut bus, PM, 0x3C, 1, 9);
    let _ = put(&mut bus, PM, 0x40, 4, 0x601);
    let _ = put(&mut bus, PM, 0x80, 1, 1);
    assert_eq!(bus.pm_base(), Some(0x600));
    assert!(bus.ide_decodes(0) && bus.ide_decodes(1));
    let regions: Vec<_> = bus
        .functions()
        .flat_map(|(at, f)| (0..6).filter_map(move |n| f.region(n).map(|r| (at, n, r))))
        .collect();
    assert_eq!(
        regions,
        [
            (IDE, 4, Region::Io { port: 0xC000, size: 16 }),
            (VGA, 0, Region::Memory { address: 0xFD00_0000, size: 16 << 20 }),
            (VGA, 2, Region::Memory { address: 0xFCFF_F000, size: 4096 }),
            (XEN, 0, Region::Io { port: 0xC010 & 0xFF00, size: 256 }),
            (XEN, 1, Region::Memory { address: 0xFB00_0000, size: 16 << 20 }),
        ]
    );
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut bus = pc(16 << 20, 0x1_0000);
        for _ in 0..8_000 {
            let at = DevFn(rng.byte() & 0x1F);
            match rng.below(6) {
                0 => bus.set_address(rng.next() as u32),
                1 => bus.set_intx(at, rng.one_in(2)),
                2 | 3 => {
                    let value = rng.next() as u32;
                    let _ = put(&mut bus, at, rng.byte(), rng.byte() & 7, value);
                }
                4 => {
                    let _ = bus.write_data(rng.byte(), rng.byte(), rng.next() as u32);
                    let _ = bus.read_data(rng.byte(), rng.byte());
                }
                _ => {
                    let _ = (bus.shadow(rng.next() & 0x1F_FFFF), bus.smram_open());
                    for (_, function) in bus.functions() {
                        let _ = (0..8).filter_map(|n| function.region(n)).count();
                        let _ = function.rom_region();
                    }
                }
            }
            assert_eq!(bus.isa_irqs() & !0xDEF8, 0);
            if rng.one_in(4) {
                let mut copy = pc(16 << 20, 0x1_0000);
                copy.load(&bus.save()).unwrap();
                assert_eq!(copy, bus);
            }
        }
    }
}

#[test]
fn load_refuses_what_this_bus_could_not_hold() {
    let mut bus = bus();
    let good = bus.save();
    let spoilt = |spoil: fn(&mut BusState)| {
        let mut state = good.clone();
        spoil(&mut state);
        state
    };
    for bad in [
        spoilt(|s| s.address = 3),
        spoilt(|s| s.functions[2] = None),
        spoilt(|s| s.functions[0].as_mut().unwrap().bytes[0] = 0),
        spoilt(|s| s.functions[1].as_mut().unwrap().place = 9),
        spoilt(|s| s.functions[9] = s.functions[0]),
        spoilt(|s| s.intx = 1 << 5),
        spoilt(|s| s.intx = 1 << 15),
    ] {
        assert!(matches!(bus.load(&bad), Err(LoadError::Impossible(_))));
    }
    assert_eq!(bus.load(&spoilt(|s| s.version = 2)), Err(LoadError::Version));
    assert_eq!(bus.save(), good);
}
