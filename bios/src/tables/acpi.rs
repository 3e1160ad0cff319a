//! ACPI: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET. The DSDT is in [`dsdt`](super::dsdt).
//!
//! The FADT is revision 3 (ACPI 2.0), which Windows 2000 and every Linux take alike.

use super::{Arena, Fields, checksum, dsdt};
use crate::caller::Call;
use crate::e820;
use crate::int13::count;
use crate::platform::{BiosConfig, DiskKind, Platform};
use crate::post::pci::PM_BASE;
use acpi_tables::sdt::Sdt;
use alloc::vec::Vec;
use arch::GuestPhys;

const OEM: [u8; 6] = *b"XENOLT";
const OEM_TABLE: [u8; 8] = *b"XENOLITH";
/// GPE0 block of this board's PIIX4.
const GPE0: u16 = 0xafe0;
/// The SCI.
const SCI: u16 = 9;
/// Where a table may at most end, from the base of the firmware's memory; the FACS stands there.
const FACS: u64 = 0xf000;

/// A table with its header, length and checksum.
pub(super) fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut sdt = Sdt::new(*signature, 36, revision, OEM, OEM_TABLE, 1);
    sdt.append_slice(body);
    sdt.update_checksum();
    Vec::from(sdt.as_slice())
}

/// Hands out the memory for tables.
struct Space {
    base: u64,
    next: u64,
}

impl Space {
    fn put<P: Platform>(&mut self, c: &Call<'_, P>, bytes: &[u8]) -> Option<u32> {
        let at = self.next.next_multiple_of(16);
        if at + bytes.len() as u64 > self.base + FACS {
            return None;
        }
        c.bus.ram().write_slice(GuestPhys(at), bytes).ok()?;
        self.next = at + bytes.len() as u64;
        Some(at as u32)
    }
}

pub(super) fn write<P: Platform>(c: &mut Call<'_, P>, arena: &mut Arena) -> Option<()> {
    let base = e820::tables_base(c.bus.config());
    let mut space = Space { base, next: base };
    c.bus.ram().fill(GuestPhys(base), e820::TABLES_SIZE, 0).ok()?;
    let floppy = count(c.bus, DiskKind::Floppy) > 0;
    let config = c.bus.config();
    let definition = table(b"DSDT", 2, &dsdt::body(config, floppy));
    let madt = config.tells_of_apics().then(|| table(b"APIC", 2, &madt(config)));
    let hpet = config.hpet.then(|| table(b"HPET", 1, &hpet()));

    let facs = base + FACS;
    c.bus.ram().write_slice(GuestPhys(facs), &self::facs()).ok()?;
    let dsdt = space.put(c, &definition)?;
    let mut tables = Vec::new();
    tables.push(space.put(c, &table(b"FACP", 3, &fadt(facs as u32, dsdt)))?);
    for table in madt.iter().chain(&hpet) {
        tables.push(space.put(c, table)?);
    }
    let (mut rsdt, mut xsdt) = (Vec::new(), Vec::new());
    for at in tables {
        rsdt.w32(at);
        xsdt.w64(at.into());
    }
    let rsdt = space.put(c, &table(b"RSDT", 1, &rsdt))?;
    let xsdt = space.put(c, &table(b"XSDT", 1, &xsdt))?;
    arena.put(c, &rsdp(rsdt, xsdt))?;
    Some(())
}

/// ACPI 2.0 "Root System Description Pointer": two checksums.
pub(super) fn rsdp(rsdt: u32, xsdt: u32) -> Vec<u8> {
    let mut out = Vec::from(*b"RSD PTR ");
    out.w8(0);
    out.extend_from_slice(&OEM);
    out.w8(2);
    out.w32(rsdt);
    out[8] = checksum(&out);
    out.w32(36);
    out.w64(xsdt.into());
    out.w32(0);
    out[32] = checksum(&out);
    out
}

/// ACPI 2.0 "Firmware ACPI Control Structure".
pub(super) fn facs() -> Vec<u8> {
    let mut out = Vec::from(*b"FACS");
    out.w32(64);
    out.resize(32, 0);
    out.w8(1);
    out.resize(64, 0);
    out
}

/// A register in I/O space (ACPI 2.0 "Generic Address Structure").
fn port(out: &mut Vec<u8>, port: u16, bits: u8) {
    out.extend_from_slice(&[1, bits, 0, 0]);
    out.w64(port.into());
}

/// ACPI 2.0 "Fixed ACPI Description Table", behind the header.
pub(super) fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    // WBINVD works, C1 everywhere, no fixed sleep button, PM timer of 32 bits, reset register.
    const FLAGS: u32 = 1 | 1 << 2 | 1 << 5 | 1 << 8 | 1 << 10;
    let mut out = Vec::new();
    out.w32(facs);
    out.w32(dsdt);
    out.extend_from_slice(&[1, 1]); // multiple-APIC model, desktop
    out.w16(SCI);
    out.w32(0xb2);
    out.extend_from_slice(&[0xf1, 0xf0, 0, 0]); // ACPI on and off, no S4BIOS, no P-states
    out.w32(PM_BASE.into());
    out.w32(0);
    out.w32(u32::from(PM_BASE) + 4);
    out.w32(0);
    out.w32(0);
    out.w32(u32::from(PM_BASE) + 8);
    out.w32(GPE0.into());
    out.w32(0);
    out.extend_from_slice(&[4, 2, 0, 4, 4, 0, 0, 0]);
    out.w16(0xfff); // no C2
    out.w16(0xfff); // no C3
    out.w16(0);
    out.w16(0);
    out.extend_from_slice(&[0, 0, 0, 0, 0x32]); // century at CMOS 32h
    out.w16(3); // legacy devices, 8042
    out.w8(0);
    out.w32(FLAGS);
    port(&mut out, 0xcf9, 8);
    out.w8(6);
    out.extend_from_slice(&[0; 3]);
    out.w64(facs.into());
    out.w64(dsdt.into());
    port(&mut out, PM_BASE, 32);
    out.extend_from_slice(&[0; 12]);
    port(&mut out, PM_BASE + 4, 16);
    out.extend_from_slice(&[0; 24]);
    port(&mut out, PM_BASE + 8, 32);
    port(&mut out, GPE0, 32);
    out.extend_from_slice(&[0; 12]);
    out
}

/// ACPI 2.0 "Multiple APIC Description Table", behind the header.
pub(super) fn madt(config: &BiosConfig) -> Vec<u8> {
    let mut out = Vec::new();
    out.w32(0xfee0_0000);
    out.w32(1); // 8259s too
    local_apics(&mut out, config);
    out.extend_from_slice(&[1, 12, config.ioapic_id, 0]);
    out.w32(0xfec0_0000);
    out.w32(0);
    // IRQ 0 arrives at pin 2; the SCI and the PCI lines are level, active high at the pin.
    for (irq, pin, flags) in
        [(0u8, 2u32, 0u16), (5, 5, 0xd), (9, 9, 0xd), (10, 10, 0xd), (11, 11, 0xd)]
    {
        out.extend_from_slice(&[2, 10, 0, irq]);
        out.w32(pin);
        out.w16(flags);
    }
    // NMI at LINT1 of every processor.
    out.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    out
}

/// ACPI 2.0 "Processor Local APIC", one for each vCPU.
pub(super) fn local_apics(out: &mut Vec<u8>, config: &BiosConfig) {
    for (n, &id) in (0..=u8::MAX).zip(&config.apic_ids) {
        out.extend_from_slice(&[0, 8, n, id]);
        out.w32(config.is_there(n.into()).into());
    }
}

/// IA-PC HPET 1.0a "The ACPI HPET Description Table", behind the header.
pub(super) fn hpet() -> Vec<u8> {
    let mut out = Vec::new();
    out.w32(0x8086_a201);
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.w64(0xfed0_0000);
    out.w8(0);
    out.w16(0);
    out.w8(0);
    out
}
