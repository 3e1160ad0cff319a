use super::checksum;
use crate::testing::{Guest, Mock};
use std::vec::Vec;

fn guest() -> Guest {
    guest_with(|config| config.apic_ids = std::vec![0, 1, 2, 3])
}

fn guest_with(change: impl FnOnce(&mut crate::platform::BiosConfig)) -> Guest {
    let mut bus = Mock::new();
    change(&mut bus.config);
    let mut function = |devfn: u8, id: u32, class: u32, header: u8, pin: u8| {
        let mut space = [0; 256];
        space[..4].copy_from_slice(&id.to_le_bytes());
        space[8..12].copy_from_slice(&(class << 8).to_le_bytes());
        space[0x0e] = header;
        space[0x3d] = pin;
        bus.pci.insert(devfn, space);
    };
    function(0x00, 0x1237_8086, 0x06_0000, 0, 0);
    function(0x08, 0x7000_8086, 0x06_0100, 0x80, 0);
    function(0x09, 0x7010_8086, 0x01_0180, 0, 0);
    function(0x0b, 0x7113_8086, 0x06_8000, 0, 1);
    function(0x10, 0x1111_1234, 0x03_0000, 0, 0);
    function(0x18, 0x0001_5853, 0xff_8000, 0, 1);
    bus.bars.insert((0x09, 0x20), 0xffff_fff0);
    bus.bars.insert((0x10, 0x10), 0xff00_0000);
    bus.bars.insert((0x18, 0x10), 0xffff_ff00);
    bus.bars.insert((0x18, 0x14), 0xff00_0000);
    for (devfn, bits) in [(0x09u8, 1u8), (0x18, 1)] {
        let at = if devfn == 9 { 0x20 } else { 0x10 };
        bus.pci.get_mut(&devfn).unwrap()[at] = bits;
    }
    bus.pci.get_mut(&0x10).unwrap()[0x10] = 8;
    bus.pci.get_mut(&0x18).unwrap()[0x14] = 8;
    Guest::new(bus)
}

fn search(g: &Guest, anchor: &[u8]) -> Option<u64> {
    (0xf_0000..0x10_0000).step_by(16).find(|&at| g.bus.bytes(at, anchor.len()) == anchor)
}

/// Finds a structure in the F segment by its anchor, on paragraphs.
fn find(g: &Guest, anchor: &[u8]) -> u64 {
    search(g, anchor).unwrap_or_else(|| panic!("no {anchor:?}"))
}

#[test]
fn a_configuration_without_acpi_or_apics_leaves_their_tables_out() {
    let g = guest_with(|config| config.acpi = false);
    assert_eq!(search(&g, b"RSD PTR "), None);
    assert!(search(&g, b"_MP_").is_some() && search(&g, b"_SM_").is_some());

    let signatures = |g: &Guest| {
        let rsdt = u64::from(g.bus.u32(find(g, b"RSD PTR ") + 16));
        let count = (u64::from(g.bus.u32(rsdt + 4)) - 36) / 4;
        let table = |n| g.bus.bytes(u64::from(g.bus.u32(rsdt + 36 + 4 * n)), 4);
        (0..count).map(table).collect::<Vec<_>>()
    };
    let g = guest_with(|config| config.apic = false);
    assert_eq!(search(&g, b"_MP_"), None);
    assert_eq!(signatures(&g), [b"FACP", b"HPET"]);
    assert!(search(&g, b"$PIR").is_some());

    let g = guest_with(|config| (config.apic, config.apic_ids) = (false, std::vec![0, 1]));
    assert!(search(&g, b"_MP_").is_some(), "several processors cannot do without");
    assert_eq!(signatures(&g), [b"FACP", b"APIC", b"HPET"]);
}

fn sums_to_zero(g: &Guest, at: u64, len: usize) -> Vec<u8> {
    let bytes = g.bus.bytes(at, len);
    assert_eq!(checksum(&bytes), 0, "at {at:x}");
    bytes
}

#[test]
fn every_acpi_table_is_reached_and_sums_to_zero() {
    let g = guest();
    let rsdp = find(&g, b"RSD PTR ");
    sums_to_zero(&g, rsdp, 20);
    sums_to_zero(&g, rsdp, 36);
    let (rsdt, xsdt) = (g.bus.u32(rsdp + 16).into(), g.bus.u32(rsdp + 24).into());
    let table = |at: u64| sums_to_zero(&g, at, g.bus.u32(at + 4) as usize);
    let (rsdt, xsdt) = (table(rsdt), table(xsdt));
    assert_eq!((rsdt.len() - 36) / 4, (xsdt.len() - 36) / 8);
    let mut seen = Vec::new();
    for (short, long) in rsdt[36..].chunks(4).zip(xsdt[36..].chunks(8)) {
        assert_eq!((short, [0; 4].as_slice()), (&long[..4], &long[4..]));
        let at = u64::from(u32::from_le_bytes(short.try_into().unwrap()));
        let bytes = table(at);
        if &bytes[..4] == b"FACP" {
            assert_eq!(bytes.len(), 244);
            let facs = g.bus.u32(at + 36).into();
            assert_eq!(g.bus.bytes(facs, 8), b"FACS\x40\0\0\0");
            assert_eq!(facs % 64, 0);
            table(g.bus.u32(at + 40).into());
        }
        if &bytes[..4] == b"APIC" {
            assert_eq!(bytes[44..52], [0, 8, 0, 0, 1, 0, 0, 0]);
            let mut at = 44;
            while at < bytes.len() {
                at += usize::from(bytes[at + 1]);
            }
            assert_eq!(at, bytes.len());
        }
        seen.push(std::string::String::from_utf8(bytes[..4].to_vec()).unwrap());
    }
    assert_eq!(seen, ["FACP", "APIC", "HPET"]);
}

#[test]
fn mp_pir_bios32_and_smbios_are_found_and_sum_to_zero() {
    let g = guest();
    let mp = find(&g, b"_MP_");
    sums_to_zero(&g, mp, 16);
    let table = u64::from(g.bus.u32(mp + 4));
    sums_to_zero(&g, table, g.bus.u16(table + 4).into());
    let pir = find(&g, b"$PIR");
    sums_to_zero(&g, pir, g.bus.u16(pir + 6).into());
    sums_to_zero(&g, find(&g, b"_32_"), 16);
    let sm = find(&g, b"_SM_");
    sums_to_zero(&g, sm, 31);
    sums_to_zero(&g, sm + 16, 15);
    let (mut at, count) = (u64::from(g.bus.u32(sm + 24)), g.bus.u16(sm + 28));
    let mut kinds = Vec::new();
    for _ in 0..count {
        let head = g.bus.bytes(at, 2);
        kinds.push(head[0]);
        at += u64::from(head[1]);
        while g.bus.u16(at) != 0 {
            at += 1;
        }
        at += 2;
    }
    assert_eq!(kinds, [0, 1, 3, 4, 4, 4, 4, 16, 17, 19, 32, 127]);
    assert_eq!(at - u64::from(g.bus.u32(sm + 24)), g.bus.u16(sm + 22).into());
}

#[test]
fn bars_get_aligned_addresses_that_do_not_overlap() {
    let g = guest();
    let bar = |devfn: u8, at: usize| {
        u32::from_le_bytes(g.bus.pci[&devfn][at..at + 4].try_into().unwrap())
    };
    assert_eq!(bar(0x10, 0x10), 0xe000_0008);
    assert_eq!(bar(0x18, 0x14), 0xe100_0008);
    assert_eq!(bar(0x18, 0x10), 0xc001);
    assert_eq!(bar(0x09, 0x20), 0xc101);
    assert_eq!(g.bios.framebuffer, 0xe000_0000);
    assert_eq!(g.bus.pci[&0x18][0x3c], 11, "slot 3 pin A is PIRQ C");
    assert_eq!(g.bus.pci[&0x0b][0x40..0x42], [0x01, 0x06]);
    assert_eq!(g.bus.pci[&0x08][0x60..0x64], [10, 10, 11, 11]);
    assert_eq!(g.bus.pci[&0x00][0x59..0x5b], [0x10, 0x11]);
}

/// With XENOLITH_DUMP=<folder>, writes the tables for `iasl -d`.
#[test]
fn tables_can_be_written_out_for_a_disassembler() {
    let Some(folder) = std::env::var_os("XENOLITH_DUMP") else { return };
    let g = guest();
    let base = crate::e820::tables_base(&g.bus.config);
    for at in (base..base + 0xf000).step_by(16) {
        let name = g.bus.bytes(at, 4);
        if [b"DSDT", b"FACP", b"APIC", b"HPET"].iter().any(|known| name == *known) {
            let bytes = g.bus.bytes(at, g.bus.u32(at + 4) as usize);
            let name = std::string::String::from_utf8(name).unwrap();
            std::fs::write(std::path::Path::new(&folder).join(name + ".aml"), bytes).unwrap();
        }
    }
}

/// Does what a firmware does with [`Tables`]: places them, then patches; the RSDP and the tables.
fn placed(tables: &crate::Tables, base: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut rsdp, mut acpi) = (tables.rsdp.clone(), tables.acpi.clone());
    for pointer in &tables.pointers {
        let file = if pointer.in_rsdp { &mut rsdp } else { &mut acpi };
        let at = pointer.at as usize;
        let field = &mut file[at..at + usize::from(pointer.size)];
        let mut value = [0; 8];
        value[..field.len()].copy_from_slice(field);
        let value = u64::from_le_bytes(value);
        assert!(value < tables.acpi.len() as u64, "an offset into the tables");
        let length = field.len();
        field.copy_from_slice(&(base + value).to_le_bytes()[..length]);
    }
    for &(start, length) in &tables.checksums {
        let (start, end) = (start as usize, (start + length) as usize);
        acpi[start + 9] = checksum(&acpi[start..end]);
    }
    rsdp[8] = checksum(&rsdp[..20]);
    rsdp[32] = checksum(&rsdp);
    (rsdp, acpi)
}

#[test]
fn another_firmware_gets_the_same_tables_as_files_and_finds_all_by_their_addresses() {
    const BASE: u64 = 0x1f00_0000;
    let config = crate::BiosConfig { apic_ids: std::vec![0, 1], ..Default::default() };
    let (rsdp, acpi) = placed(&crate::Tables::new(&config, true), BASE);
    let number = |bytes: &[u8], at: usize, size: usize| {
        let mut value = [0; 8];
        value[..size].copy_from_slice(&bytes[at..at + size]);
        u64::from_le_bytes(value)
    };
    let table = |address: u64| {
        let at = (address - BASE) as usize;
        let length = number(&acpi, at + 4, 4) as usize;
        &acpi[at..at + length]
    };
    assert_eq!(checksum(&rsdp[..20]), 0);
    assert_eq!(checksum(&rsdp), 0);
    for (root, at, size) in [(&b"RSDT"[..], 16, 4), (b"XSDT", 24, 8)] {
        let list = table(number(&rsdp, at, size));
        assert_eq!((&list[..4], checksum(list)), (root, 0));
        let listed = list[36..].chunks(size).map(|entry| table(number(entry, 0, size)));
        let signatures: Vec<_> = listed.clone().map(|table| table[..4].to_vec()).collect();
        assert_eq!(signatures, [b"FACP", b"APIC", b"HPET"]);
        assert!(listed.clone().all(|table| checksum(table) == 0));
        let fadt = listed.into_iter().next().unwrap();
        for (at, size, signature) in
            [(36, 4, b"FACS"), (132, 8, b"FACS"), (40, 4, b"DSDT"), (140, 8, b"DSDT")]
        {
            let address = number(fadt, at, size);
            assert_eq!(&table(address)[..4], signature);
            assert!(signature != b"FACS" || address % 64 == 0);
        }
        assert_eq!(checksum(table(number(fadt, 40, 4))), 0);
    }
}

#[test]
fn without_acpi_another_firmware_gets_the_smbios_structures_only() {
    let config = crate::BiosConfig { acpi: false, ..Default::default() };
    let tables = crate::Tables::new(&config, false);
    assert!(tables.rsdp.is_empty() && tables.acpi.is_empty() && tables.pointers.is_empty());
    assert_eq!(tables.smbios_anchor[..4], *b"_SM_");
    assert_eq!(
        u16::from_le_bytes([tables.smbios_anchor[22], tables.smbios_anchor[23]]),
        tables.smbios.len() as u16
    );
}

#[test]
fn processors_that_are_not_there_at_power_on_can_come_later() {
    let table = |g: &Guest, wanted: &[u8; 4]| {
        let base = crate::e820::tables_base(&g.bus.config);
        let at = (base..base + 0xf000).step_by(16).find(|at| g.bus.bytes(*at, 4) == wanted);
        let at = at.unwrap();
        g.bus.bytes(at, g.bus.u32(at + 4) as usize)
    };
    let contains = |table: &[u8], name: &[u8]| table.windows(name.len()).any(|at| at == name);
    let g = guest_with(|config| (config.apic_ids, config.plugged) = (std::vec![0, 1, 2, 3], 3));
    let madt = table(&g, b"APIC");
    let flags: Vec<u8> = (0..4).map(|n| madt[44 + 8 * n + 4]).collect();
    assert_eq!(flags, [1, 1, 1, 0]);
    let dsdt = table(&g, b"DSDT");
    assert!(contains(&dsdt, b"_E02") && contains(&dsdt, b"PRSC"));
    // Name (F002, One), Name (F003, Zero): what the tables have seen at first.
    assert!(contains(&dsdt, b"\x08F002\x01") && contains(&dsdt, b"\x08F003\x00"));
    let mp = u64::from(g.bus.u32(find(&g, b"_MP_") + 4));
    let processors = (0..8).take_while(|n| g.bus.bytes(mp + 44 + 20 * n, 1) == [0]);
    assert_eq!(processors.count(), 3);
    // One that is alone stays so; as many as a guest can have find room.
    let dsdt = table(&guest_with(|config| config.apic_ids = std::vec![0]), b"DSDT");
    assert!(contains(&dsdt, b"C000") && !contains(&dsdt, b"PRSC"));
    let g = guest_with(|config| config.apic_ids = (0..64).collect());
    assert!(contains(&table(&g, b"DSDT"), b"C03F"));
}
