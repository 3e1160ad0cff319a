//! What a firmware that is not ours finds in fw_cfg: RAM, CPUs, the memory map, ACPI and SMBIOS tables with the script
//! that places them, and files. SeaBIOS and OVMF read these; ours does not.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use bios::{BiosConfig, Tables};
use devmodel::fwcfg::{FwCfg, Items, LoaderScript, MemoryKind, MemoryRange, Zone};

use crate::memmap::MemMap;

const RSDP: &str = "etc/acpi/rsdp";
const ACPI: &str = "etc/acpi/tables";
/// The FACS stands on a multiple of this.
const ALIGN: u32 = 64;

pub(crate) fn device(
    map: &MemMap,
    config: &BiosConfig,
    floppy: bool,
    files: Vec<(&'static str, &'static [u8])>,
) -> FwCfg {
    let ranges: Vec<MemoryRange> = map
        .e820()
        .into_iter()
        .map(|(start, length, _)| MemoryRange { start, length, kind: MemoryKind::Ram })
        .collect();
    let most = config.apic_ids.len();
    let cpus = (config.plugged.min(most) as u16, most as u16);
    let mut items = Items::pc(map.low_ram() + map.high_ram(), cpus, &ranges);
    let tables = Tables::new(config, floppy);
    if !tables.rsdp.is_empty() {
        put(&mut items, "etc/table-loader", script(&tables));
        put(&mut items, RSDP, tables.rsdp);
        put(&mut items, ACPI, tables.acpi);
    }
    put(&mut items, "etc/smbios/smbios-anchor", tables.smbios_anchor);
    put(&mut items, "etc/smbios/smbios-tables", tables.smbios);
    for (name, bytes) in files {
        put(&mut items, name, bytes);
    }
    FwCfg::new(items)
}

fn put(items: &mut Items, name: &'static str, bytes: impl Into<Cow<'static, [u8]>>) {
    if let Err(error) = items.file(name, bytes) {
        log::warn!("{name} is kept from the firmware: {error:?}");
    }
}

/// Loads both files, then patches addresses, then checksums over them.
fn script(tables: &Tables) -> Vec<u8> {
    let mut script = LoaderScript::new();
    script.allocate(RSDP, 16, Zone::FSegment).allocate(ACPI, ALIGN, Zone::High);
    for pointer in &tables.pointers {
        let file = if pointer.in_rsdp { RSDP } else { ACPI };
        script.add_pointer(file, ACPI, pointer.at, pointer.size);
    }
    for &(start, length) in &tables.checksums {
        script.add_checksum(ACPI, start + 9, start, length);
    }
    // ACPI 2.0 "Root System Description Pointer": the first 20 bytes, then all.
    script.add_checksum(RSDP, 8, 0, 20).add_checksum(RSDP, 32, 0, 36);
    script.into_bytes()
}
