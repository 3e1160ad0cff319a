//! The firmware configuration device as firmware uses it.

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::testing::Rng;

fn device() -> FwCfg {
    let map = [
        MemoryRange { start: 0, length: 0xA_0000, kind: MemoryKind::Ram },
        MemoryRange { start: 0xFEFF_C000, length: 0x4000, kind: MemoryKind::Reserved },
    ];
    let mut items = Items::pc(256 << 20, (3, 4), &map);
    items.file("bootorder", &b"/pci@i0cf8/ide@1,1/drive@0/disk@0\0"[..]).unwrap();
    items.file("etc/acpi/tables", std::vec![7_u8; 1000]).unwrap();
    FwCfg::new(items)
}

fn bytes(device: &mut FwCfg, count: usize) -> Vec<u8> {
    (0..count).map(|_| device.read()).collect()
}

fn item(device: &mut FwCfg, key: u16, count: usize) -> Vec<u8> {
    device.select(key);
    bytes(device, count)
}

fn descriptor(control: u32, length: u32, address: u64) -> [u8; 16] {
    (u128::from(control) << 96 | u128::from(length) << 64 | u128::from(address)).to_be_bytes()
}

#[test]
fn the_fixed_items_tell_signature_interfaces_memory_and_cpus() {
    let mut device = device();
    assert_eq!(bytes(&mut device, 5), b"QEMU\0", "selected at reset, zeros beyond");
    assert_eq!(item(&mut device, key::ID, 4), [3, 0, 0, 0]);
    assert_eq!(item(&mut device, key::RAM_SIZE, 8), (256_u64 << 20).to_le_bytes());
    assert_eq!(item(&mut device, key::CPUS, 2), [3, 0]);
    assert_eq!(item(&mut device, key::MAX_CPUS, 2), [4, 0]);
    assert_eq!(item(&mut device, key::IRQ0_OVERRIDE, 4), [1, 0, 0, 0]);
    assert_eq!(item(&mut device, 0x3FFF, 4), [0; 4], "no such item");
    assert_eq!(item(&mut device, 0x4000, 4), *b"QEMU", "the write bit is ignored");
}

#[test]
fn dma_reads_skips_and_selects() {
    let mut device = device();
    let signature = [device.read_dma(0), device.read_dma(4)].map(u32::to_le_bytes);
    assert_eq!(signature.as_flattened(), b"QEMU CFG");
    assert_eq!(device.write_dma(0, 0x0100_0000), None);
    assert_eq!(device.write_dma(4, 0x0010_0000), Some(0x1_0000_1000));
    assert_eq!(device.write_dma(4, 0x0010_0000), Some(0x1000), "the upper half is used once");
    let read = Dma::Read { address: 0x5000, length: 6 };
    assert_eq!(device.begin(descriptor(0x0000_000A, 6, 0x5000)), read);
    assert_eq!(device.take(6), b"QEMU");
    assert_eq!(device.take(6), b"");
    device.select(0);
    assert_eq!(device.begin(descriptor(4, 2, 0)), Dma::Done);
    assert_eq!(device.take(1), b"M");
    assert_eq!(device.take(u32::MAX), b"U");
    assert_eq!(device.begin(descriptor(4, u32::MAX, 0)), Dma::Done);
    assert_eq!(device.read(), 0);
    assert_eq!(device.begin(descriptor(0x10, 4, 0)), Dma::Failed, "nothing can be written");
    assert_eq!(device.begin(descriptor(0x0005_0008, 0, 0)), Dma::Done);
    assert_eq!(device.read(), 3);
}

#[test]
fn items_are_refused_where_firmware_could_not_find_them() {
    let mut items = Items::new();
    assert_eq!(items.file("", &[][..]), Err(ItemsError::Name));
    assert_eq!(items.file("x".repeat(56), &[][..]), Err(ItemsError::Name));
    assert_eq!(items.file("x".repeat(55), &[][..]), Ok(()));
    assert_eq!(items.file("x".repeat(55), &[][..]), Err(ItemsError::Twice));
    for n in 1..64 {
        assert_eq!(items.file(n.to_string(), &[][..]), Ok(()));
    }
    assert_eq!(items.file("one more", &[][..]), Err(ItemsError::TooMany));
    for key in [key::SIGNATURE, key::DIRECTORY, 0x20, 0x5F] {
        assert_eq!(items.item(key, &[][..]), Err(ItemsError::Twice));
    }
    assert_eq!(items.item(key::UUID, &[9; 16][..]), Ok(()));
    assert_eq!(items.set(key::UUID, &[8; 16][..]), Ok(()));
    assert_eq!(item(&mut FwCfg::new(items), key::UUID, 1), [8]);
}

#[test]
fn the_loader_script_has_entries_of_128_bytes() {
    let mut script = LoaderScript::new();
    script
        .allocate("etc/acpi/rsdp", 16, Zone::FSegment)
        .add_pointer("etc/acpi/rsdp", "etc/acpi/tables", 16, 4)
        .add_checksum("etc/acpi/rsdp", 8, 0, 20);
    let bytes = script.into_bytes();
    assert_eq!(bytes.len(), 3 * 128);
    assert_eq!(bytes[..17], *b"\x01\0\0\0etc/acpi/rsdp");
    assert_eq!(bytes[60..65], [16, 0, 0, 0, 2]);
    assert_eq!(bytes[128 + 60..128 + 75], *b"etc/acpi/tables");
    assert_eq!(bytes[128 + 116..128 + 121], [16, 0, 0, 0, 4]);
    assert_eq!(bytes[256 + 60..256 + 72], [8, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0]);
}

/// SeaBIOS: qemu_cfg_init, qemu_early_e820, then every file by name. OVMF does the same.
#[test]
fn seabios_boot_script() {
    let mut device = device();
    assert_eq!(item(&mut device, key::SIGNATURE, 4), b"QEMU");
    device.select(key::DIRECTORY);
    let count = u32::from_be_bytes(bytes(&mut device, 4).try_into().unwrap());
    let mut files = Vec::new();
    for _ in 0..count {
        let entry = bytes(&mut device, 64);
        let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
        let select = u16::from_be_bytes(entry[4..6].try_into().unwrap());
        let name: Vec<u8> = entry[8..].iter().copied().take_while(|b| *b != 0).collect();
        files.push((String::from_utf8(name).unwrap(), select, size as usize));
    }
    let names: Vec<_> = files.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["etc/e820", "bootorder", "etc/acpi/tables"]);
    let (_, select, size) = files[0];
    let e820 = item(&mut device, select, size);
    assert_eq!(e820.len(), 40);
    assert_eq!(e820[8..20], [0, 0, 0xA, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let (_, select, size) = files[1];
    assert!(item(&mut device, select, size).starts_with(b"/pci@i0cf8/"));
    let (_, select, size) = files[2];
    let dma = device.begin(descriptor(u32::from(select) << 16 | 0xA, size as u32, 0x1000));
    assert_eq!(dma, Dma::Read { address: 0x1000, length: 1000 });
    assert_eq!(device.take(600).len(), 600);
    assert_eq!(device.take(600).len(), 400);
}

#[test]
fn a_random_walk_survives_save_and_load() {
    let (mut rng, mut chip) = (Rng::new(3), device());
    for _ in 0..20_000 {
        match rng.below(6) {
            0 => chip.select(rng.next() as u16 >> rng.below(16)),
            1 => {
                let _ = chip.read();
            }
            2 => {
                let _ = chip.write_dma(rng.byte(), rng.next() as u32);
            }
            3 => {
                let length = rng.next() as u32 >> rng.below(32);
                let control = rng.next() as u32 & 0x003F_001F;
                let _ = chip.begin(descriptor(control, length, rng.next()));
            }
            4 => {
                let length = rng.next() as u32 >> rng.below(32);
                assert!(chip.take(length).len() <= length as usize);
            }
            _ if rng.one_in(20) => chip.reset(),
            _ => {}
        }
        let mut copy = device();
        copy.load(&chip.save()).unwrap();
        assert_eq!(copy, chip);
    }
    let bad = FwCfgState { selector: 0x4000, ..chip.save() };
    assert_eq!(chip.load(&bad), Err(LoadError::Impossible("selector")));
    let old = FwCfgState { version: 0, ..chip.save() };
    assert_eq!(chip.load(&old), Err(LoadError::Version));
}
