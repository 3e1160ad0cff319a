//! ACPI tables of a guest that starts by Xen's PVH protocol: processors and their local APICs, and nothing else. No
//! firmware runs there, so they are made as bytes for a given address.
//!
//! The FADT says what Xen's own (tools/libacpi, revision 5) says: fixed registers that nothing answers behind, no
//! VGA, no CMOS clock, no 8042, no I/O APIC. Linux knows a PVH guest by that.

use super::acpi::{facs, local_apics, rsdp, table};
use super::{Fields, processors};
use crate::e820::TABLES_SIZE;
use crate::platform::BiosConfig;
use alloc::vec::Vec;

/// Bytes of the root pointer, which comes first.
const RSDP_BYTES: usize = 36;
/// ACPI's fixed registers as Xen has them, whether or not they are there.
const PM1A_EVENT: u16 = 0xb000;
const PM1A_CONTROL: u16 = 0xb004;
const GPE0: u16 = 0xafe0;

/// The tables, root pointer first, for memory at `base` (a multiple of 64). At most [`TABLES_SIZE`] bytes.
#[must_use]
pub fn pvh_tables(base: u64, config: &BiosConfig) -> Vec<u8> {
    let mut out = alloc::vec![0; RSDP_BYTES];
    let mut put = |bytes: &[u8]| {
        let at = out.len().next_multiple_of(64);
        out.resize(at, 0);
        out.extend_from_slice(bytes);
        base + at as u64
    };
    let facs = put(&facs());
    let dsdt = put(&table(b"DSDT", 2, &processors::fixed(config)));
    let mut all = alloc::vec![put(&table(b"FACP", 5, &fadt(facs, dsdt)))];
    if config.tells_of_apics() {
        all.push(put(&table(b"APIC", 3, &madt(config))));
    }
    let (mut rsdt, mut xsdt) = (Vec::new(), Vec::new());
    for at in all {
        rsdt.w32(at as u32);
        xsdt.w64(at);
    }
    let rsdt = put(&table(b"RSDT", 1, &rsdt));
    let xsdt = put(&table(b"XSDT", 1, &xsdt));
    for (to, from) in out.iter_mut().zip(rsdp(rsdt as u32, xsdt as u32)) {
        *to = from;
    }
    debug_assert!(out.len() as u64 <= TABLES_SIZE);
    out
}

/// A register in I/O space (ACPI 5.0 "Generic Address Structure").
fn port(out: &mut Vec<u8>, port: u16, bits: u8) {
    out.extend_from_slice(&[1, bits, 0, 0]);
    out.w64(port.into());
}

/// ACPI 5.0 "Fixed ACPI Description Table", behind the header.
fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    // WBINVD works, C1 everywhere, no fixed buttons, no fixed RTC wake-up, a wide timer, platform clock.
    const FLAGS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 15;
    // No VGA, no CMOS clock; neither legacy devices nor an 8042.
    const BOOT: u16 = 1 << 2 | 1 << 5;
    const LENGTH: usize = 268 - 36;
    let mut out = Vec::new();
    out.w32(facs as u32);
    out.w32(dsdt as u32);
    out.extend_from_slice(&[0, 0]);
    out.w16(9); // SCI
    out.extend_from_slice(&[0; 8]); // no way to switch ACPI on: it is
    out.w32(PM1A_EVENT.into());
    out.w32(0);
    out.w32(PM1A_CONTROL.into());
    out.w32(0);
    out.w32(0);
    out.w32(0); // no PM timer
    out.w32(GPE0.into());
    out.w32(0);
    out.extend_from_slice(&[4, 2, 0, 0, 4, 0, 0, 0]);
    out.w16(0xfff); // no C2
    out.w16(0xfff); // no C3
    out.extend_from_slice(&[0; 9]);
    out.w16(BOOT);
    out.w8(0);
    out.w32(FLAGS);
    out.extend_from_slice(&[0; 16]); // no reset register
    out.w64(facs);
    out.w64(dsdt);
    port(&mut out, PM1A_EVENT, 32);
    out.extend_from_slice(&[0; 12]);
    port(&mut out, PM1A_CONTROL, 16);
    out.extend_from_slice(&[0; 36]);
    port(&mut out, GPE0, 32);
    out.resize(LENGTH, 0);
    out
}

/// ACPI 5.0 "Multiple APIC Description Table", behind the header.
fn madt(config: &BiosConfig) -> Vec<u8> {
    let mut out = Vec::new();
    out.w32(0xfee0_0000);
    out.w32(0); // no 8259s
    local_apics(&mut out, config);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::checksum;

    const BASE: u64 = 0xff_0000;

    /// The table at a guest address.
    fn at(blob: &[u8], address: u64) -> &[u8] {
        let bytes = &blob[(address - BASE) as usize..];
        let len = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        &bytes[..len]
    }

    fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
        bytes[at..at + width].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    #[test]
    fn tables_lead_to_processors_and_name_no_device() {
        let config = BiosConfig { apic_ids: alloc::vec![0, 1, 2], ..BiosConfig::default() };
        let blob = pvh_tables(BASE, &config);
        assert_eq!(&blob[..8], b"RSD PTR ");
        assert_eq!((checksum(&blob[..20]), checksum(&blob[..36])), (0, 0));
        let xsdt = at(&blob, number(&blob, 24, 8));
        assert_eq!((&xsdt[..4], xsdt.len(), checksum(xsdt)), (&b"XSDT"[..], 36 + 16, 0));
        let fadt = at(&blob, number(xsdt, 36, 8));
        assert_eq!((&fadt[..4], fadt.len(), fadt[8], checksum(fadt)), (&b"FACP"[..], 268, 5, 0));
        // IA-PC boot flags; PM timer and reset register are not there.
        assert_eq!(
            (number(fadt, 109, 2), number(fadt, 76, 4), number(fadt, 116, 12)),
            (0x24, 0, 0)
        );
        assert_eq!((number(fadt, 56, 4), number(fadt, 148 + 4, 8)), (0xb000, 0xb000));
        assert_eq!((number(fadt, 64, 4), number(fadt, 172 + 4, 8)), (0xb004, 0xb004));
        assert_eq!((number(fadt, 80, 4), number(fadt, 220 + 4, 8)), (0xafe0, 0xafe0));
        let dsdt = at(&blob, number(fadt, 140, 8));
        assert_eq!((&dsdt[..4], checksum(dsdt)), (&b"DSDT"[..], 0));
        assert_eq!(dsdt.windows(4).filter(|name| name.starts_with(b"C00")).count(), 3);
        let facs = at(&blob, number(fadt, 132, 8));
        assert_eq!((&facs[..4], number(fadt, 132, 8) % 64), (&b"FACS"[..], 0));
        let madt = at(&blob, number(xsdt, 44, 8));
        assert_eq!((&madt[..4], madt.len(), checksum(madt)), (&b"APIC"[..], 44 + 3 * 8, 0));
        assert!(madt[44..].chunks(8).all(|entry| entry[0] == 0 && entry[4] == 1));
        let one = BiosConfig { apic: false, ..BiosConfig::default() };
        assert!(!pvh_tables(BASE, &one).windows(4).any(|name| name == b"APIC"));
    }

    #[test]
    fn the_largest_guest_s_tables_fit() {
        let config = BiosConfig { apic_ids: (0..255).collect(), ..BiosConfig::default() };
        assert!((pvh_tables(BASE, &config).len() as u64) < TABLES_SIZE - 64);
    }
}
