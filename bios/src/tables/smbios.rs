//! SMBIOS 2.8: BIOS, system, enclosure, processors, memory.

use super::{Arena, Fields, checksum};
use crate::caller::Call;
use crate::platform::{BiosConfig, Platform};
use alloc::vec::Vec;

/// Structures under construction.
#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

impl Structures {
    /// Appends a structure: `body` behind the 4-byte header, then its strings.
    fn add(&mut self, kind: u8, handle: u16, body: &[u8], strings: &[&str]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, 4 + body.len() as u8]);
        self.bytes.w16(handle);
        self.bytes.extend_from_slice(body);
        for string in strings {
            self.bytes.extend_from_slice(string.as_bytes());
            self.bytes.w8(0);
        }
        if strings.is_empty() {
            self.bytes.w8(0);
        }
        self.bytes.w8(0);
        self.count += 1;
        self.largest = self.largest.max((self.bytes.len() - start) as u16);
    }
}

pub(super) fn write<P: Platform>(c: &mut Call<'_, P>, arena: &mut Arena) -> Option<()> {
    let all = structures(c.bus.config());
    let at = arena.put(c, &all.bytes)?;
    arena.put(c, &entry_point(&all, at))?;
    Some(())
}

/// The entry point, which does not know yet where the structures go, and the structures, for firmware that
/// places them itself.
pub(super) fn parts(config: &BiosConfig) -> (Vec<u8>, Vec<u8>) {
    let all = structures(config);
    (entry_point(&all, 0), all.bytes)
}

fn structures(config: &BiosConfig) -> Structures {
    let mut all = Structures::default();
    firmware_and_system(&mut all, config);
    for n in 0..config.apic_ids.len().min(config.plugged) as u16 {
        processor(&mut all, n);
    }
    memory(&mut all, config);
    // 32: boot without errors. 127: the end.
    all.add(32, 0x2000, &[0; 7], &[]);
    all.add(127, 0x7f00, &[], &[]);
    all
}

/// SMBIOS 2.8 "SMBIOS 2.1 (32-bit) Entry Point", with the structures at `at`.
fn entry_point(all: &Structures, at: u32) -> Vec<u8> {
    let mut entry = Vec::from(*b"_SM_");
    entry.extend_from_slice(&[0, 31, 2, 8]);
    entry.w16(all.largest);
    entry.extend_from_slice(&[0; 6]);
    let mut dmi = Vec::from(*b"_DMI_");
    dmi.w8(0);
    dmi.w16(all.bytes.len() as u16);
    dmi.w32(at);
    dmi.w16(all.count);
    dmi.w8(0x28);
    dmi[5] = checksum(&dmi);
    entry.extend_from_slice(&dmi);
    entry[4] = checksum(&entry);
    entry
}

fn firmware_and_system(all: &mut Structures, config: &BiosConfig) {
    let mut body = Vec::new();
    // Vendor, version, start segment, date, size; ISA, PCI, El Torito, EDD, ACPI, virtual machine.
    body.extend_from_slice(&[1, 2]);
    body.w16(0xf000);
    body.extend_from_slice(&[3, 0]);
    body.w64(1 << 4 | 1 << 7 | 1 << 15 | 1 << 16 | 1 << 19);
    body.extend_from_slice(&[0x01, 0x10, 1, 0, 0xff, 0xff]);
    all.add(
        0,
        0,
        &body,
        &["Xenolith", concat!("xenolith-", env!("CARGO_PKG_VERSION")), "06/23/1999"],
    );

    let mut body = Vec::new();
    body.extend_from_slice(&[1, 2, 3, 0]);
    body.extend_from_slice(&config.uuid);
    body.extend_from_slice(&[6, 0, 0]); // power switch
    all.add(1, 0x100, &body, &["Xenolith", "Virtual PC", env!("CARGO_PKG_VERSION")]);

    // An enclosure of unknown kind, everything safe.
    let mut body = Vec::from([1, 1, 0, 0, 0, 3, 3, 3, 2]);
    body.w32(0);
    body.extend_from_slice(&[0, 0, 0, 0, 0]);
    all.add(3, 0x300, &body, &["Xenolith"]);
}

fn processor(all: &mut Structures, n: u16) {
    // Socket, central processor, family other, enabled, one core and one thread.
    let mut body = Vec::from([1, 3, 1, 2]);
    body.w64(0);
    body.extend_from_slice(&[0, 0]);
    body.w16(0);
    body.w16(0);
    body.w16(0);
    body.extend_from_slice(&[0x41, 1]);
    for _ in 0..3 {
        body.w16(0xffff);
    }
    body.extend_from_slice(&[0, 0, 0, 1, 1, 1]);
    body.w16(0x04); // 64-bit
    body.w16(1);
    all.add(4, 0x400 + n, &body, &["CPU", "Xenolith"]);
}

fn memory(all: &mut Structures, config: &BiosConfig) {
    let total = config.low_ram + config.high_ram;
    // 16: system memory on the board, multi-bit ECC, one device.
    let kib = u32::try_from(total >> 10).ok().filter(|kib| *kib < 0x8000_0000);
    let mut body = Vec::from([1, 3, 6]);
    body.w32(kib.unwrap_or(0x8000_0000));
    body.w16(0xfffe);
    body.w16(1);
    body.w64(if kib.is_some() { 0 } else { total });
    all.add(16, 0x1000, &body, &[]);

    // 17: one DIMM of all of it.
    let mib = (total >> 20).min(0x7fff_ffff) as u32;
    let mut body = Vec::new();
    body.w16(0x1000);
    body.w16(0xfffe);
    body.w16(0xffff);
    body.w16(0xffff);
    body.w16(if mib < 0x7fff { mib as u16 } else { 0x7fff });
    body.extend_from_slice(&[9, 0, 1, 0, 7]);
    body.w16(2);
    body.w16(0);
    body.extend_from_slice(&[2, 0, 0, 0, 0]);
    body.w32(if mib < 0x7fff { 0 } else { mib });
    body.extend_from_slice(&[0; 8]);
    all.add(17, 0x1100, &body, &["DIMM 0", "Xenolith"]);

    // 19: where it appears.
    for (n, (start, size)) in
        [(0, config.low_ram), (1 << 32, config.high_ram)].into_iter().enumerate()
    {
        if size == 0 {
            continue;
        }
        let (first, last): (u64, u64) = (start >> 10, ((start + size) >> 10) - 1);
        let small = u32::try_from(last).is_ok_and(|last| last != u32::MAX);
        let mut body = Vec::new();
        body.w32(if small { first as u32 } else { u32::MAX });
        body.w32(if small { last as u32 } else { u32::MAX });
        body.w16(0x1000);
        body.w8(1);
        body.w64(if small { 0 } else { start });
        body.w64(if small { 0 } else { start + size - 1 });
        all.add(19, 0x1300 + n as u16, &body, &[]);
    }
}
