//! MultiProcessor Specification 1.4: for systems without ACPI that still want the I/O APIC.

use super::{Arena, Fields, checksum};
use crate::caller::Call;
use crate::platform::Platform;
use crate::post::pci::{PIRQ_LINES, pirq};
use alloc::vec::Vec;

const PCI: u8 = 0;
const ISA: u8 = 1;
/// ISA interrupts that are not PCI's: edge, active high as the bus says.
const ISA_LINES: [u8; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 9];

pub(super) fn write<P: Platform>(
    c: &mut Call<'_, P>,
    arena: &mut Arena,
    functions: &[u8],
) -> Option<()> {
    let mut entries = Vec::new();
    let mut count = 0u16;
    let config = c.bus.config();
    let ioapic = config.ioapic_id;
    let mut bootstrap = 2;
    for &id in config.apic_ids.iter().take(config.plugged) {
        // Enabled; the first is the bootstrap processor. Family 6, with APIC and FPU.
        entries.extend_from_slice(&[0, id, 0x14, 1 | bootstrap]);
        bootstrap = 0;
        entries.w32(0x600);
        entries.w32(0x201);
        entries.w64(0);
        count += 1;
    }
    for (id, kind) in [(PCI, b"PCI   "), (ISA, b"ISA   ")] {
        entries.extend_from_slice(&[1, id]);
        entries.extend_from_slice(kind);
        count += 1;
    }
    entries.extend_from_slice(&[2, ioapic, 0x11, 1]);
    entries.w32(0xfec0_0000);
    count += 1;
    let mut interrupt = |kind: u8, flags: u16, bus: u8, irq: u8, apic: u8, pin: u8, local: bool| {
        entries.extend_from_slice(&[if local { 4 } else { 3 }, kind]);
        entries.w16(flags);
        entries.extend_from_slice(&[bus, irq, apic, pin]);
        count += 1;
    };
    let mut seen = Vec::new();
    for &devfn in functions {
        let pin = c.pci_read(0, devfn, 0x3d, 1) as u8;
        let line = c.pci_read(0, devfn, 0x3c, 1) as u8;
        if !(1..=4).contains(&pin) {
            continue;
        }
        let source = (devfn >> 3) << 2 | (pin - 1);
        if seen.contains(&source) {
            continue;
        }
        seen.push(source);
        let routed = PIRQ_LINES[usize::from(pirq(devfn >> 3, pin))];
        let to = if line == 9 { 9 } else { routed };
        // Level, active high at the pin.
        interrupt(0, 0x0d, PCI, source, ioapic, to, false);
    }
    for irq in ISA_LINES {
        interrupt(0, 0, ISA, irq, ioapic, if irq == 0 { 2 } else { irq }, false);
    }
    interrupt(3, 0, ISA, 0, 0xff, 0, true);
    interrupt(1, 0, ISA, 0, 0xff, 1, true);

    let mut table = Vec::from(*b"PCMP");
    table.w16(44 + entries.len() as u16);
    table.extend_from_slice(&[4, 0]);
    table.extend_from_slice(b"XENOLITHVirtual PC  ");
    table.w32(0);
    table.w16(0);
    table.w16(count);
    table.w32(0xfee0_0000);
    table.w32(0);
    table.extend_from_slice(&entries);
    table[7] = checksum(&table);
    let at = arena.put(c, &table)?;

    let mut pointer = Vec::from(*b"_MP_");
    pointer.w32(at);
    pointer.extend_from_slice(&[1, 4, 0, 0, 0, 0, 0, 0]);
    pointer[10] = checksum(&pointer);
    arena.put(c, &pointer)?;
    Some(())
}
