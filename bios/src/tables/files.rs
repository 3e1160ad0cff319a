//! The tables for a firmware that is not ours: as files that it places where it likes, with a list of what it must
//! then patch. Addresses in them are offsets into the file that they point to.

use super::{Fields, acpi, dsdt, smbios};
use crate::platform::BiosConfig;
use alloc::vec::Vec;

/// A field of 4 or 8 bytes that holds an offset into [`Tables::acpi`] and is to hold an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// It is in the RSDP, not in the tables.
    pub in_rsdp: bool,
    /// Its offset.
    pub at: u32,
    /// Its bytes.
    pub size: u8,
}

/// All that such a firmware gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The RSDP, without checksums. Empty where the configuration wants no ACPI.
    pub rsdp: Vec<u8>,
    /// FACS and the other tables. Those of `checksums` are without.
    pub acpi: Vec<u8>,
    /// What to patch in both.
    pub pointers: Vec<Pointer>,
    /// Tables that hold pointers: start and bytes of each. The checksum is their byte 9.
    pub checksums: Vec<(u32, u32)>,
    /// The SMBIOS entry point, without the structures' address.
    pub smbios_anchor: Vec<u8>,
    /// The SMBIOS structures.
    pub smbios: Vec<u8>,
}

impl Tables {
    /// For this computer, with or without a floppy drive.
    #[must_use]
    pub fn new(config: &BiosConfig, floppy: bool) -> Tables {
        let mut all = Tables::default();
        (all.smbios_anchor, all.smbios) = smbios::parts(config);
        if config.acpi {
            all.acpi_tables(config, floppy);
        }
        all
    }

    fn acpi_tables(&mut self, config: &BiosConfig, floppy: bool) {
        let facs = self.put(&acpi::facs());
        let dsdt = self.put(&acpi::table(b"DSDT", 2, &dsdt::body(config, floppy)));
        let mut listed = Vec::new();
        let fadt = self.put(&acpi::table(b"FACP", 3, &acpi::fadt(facs, dsdt)));
        // ACPI 2.0 "Fixed ACPI Description Table": FIRMWARE_CTRL, DSDT and their 64-bit forms.
        self.patched(fadt, &[(36, 4), (40, 4), (132, 8), (140, 8)]);
        listed.push(fadt);
        if config.tells_of_apics() {
            listed.push(self.put(&acpi::table(b"APIC", 2, &acpi::madt(config))));
        }
        if config.hpet {
            listed.push(self.put(&acpi::table(b"HPET", 1, &acpi::hpet())));
        }
        let (mut rsdt, mut xsdt) = (Vec::new(), Vec::new());
        for at in &listed {
            rsdt.w32(*at);
            xsdt.w64((*at).into());
        }
        let count = listed.len() as u32;
        let rsdt = self.put(&acpi::table(b"RSDT", 1, &rsdt));
        self.patched(rsdt, &(0..count).map(|n| (36 + 4 * n, 4)).collect::<Vec<_>>());
        let xsdt = self.put(&acpi::table(b"XSDT", 1, &xsdt));
        self.patched(xsdt, &(0..count).map(|n| (36 + 8 * n, 8)).collect::<Vec<_>>());
        self.rsdp = acpi::rsdp(rsdt, xsdt);
        for (at, size) in [(16, 4), (24, 8)] {
            self.pointers.push(Pointer { in_rsdp: true, at, size });
        }
        for checksum in [8, 32] {
            self.rsdp[checksum] = 0;
        }
    }

    /// Appends a table, on a multiple of 64 as the FACS wants it; its offset.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        self.acpi.resize(self.acpi.len().next_multiple_of(64), 0);
        let at = self.acpi.len() as u32;
        self.acpi.extend_from_slice(bytes);
        at
    }

    /// The table that was put last holds pointers, so that its checksum is for the firmware to make.
    fn patched(&mut self, table: u32, fields: &[(u32, u8)]) {
        for &(at, size) in fields {
            self.pointers.push(Pointer { in_rsdp: false, at: table + at, size });
        }
        self.acpi[table as usize + 9] = 0;
        self.checksums.push((table, self.acpi.len() as u32 - table));
    }
}
