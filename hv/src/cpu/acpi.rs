//! What we need of the host's ACPI tables: CPUs, I/O APICs, interrupt overrides, PM timer, HPET,
//! reset and power-off. Read once at boot into plain values; no AML is run (the S5 values are
//! found by their name, as loaders do).

// UNSAFETY: the tables are raw memory at addresses that firmware gave.

use core::pin::Pin;
use core::ptr::NonNull;

use acpi::AcpiTable;
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiError, AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use heapless::Vec;
use spin::Once;

use super::percpu::MAX_CPUS;
use crate::boot::AcpiRoot;
use crate::mem::{Phys, map_phys};

/// One I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Its APIC ID.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u64,
    /// Global interrupt number of its first pin.
    pub gsi_base: u32,
}

/// How an ISA interrupt is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// ISA interrupt number.
    pub irq: u8,
    /// Global interrupt number.
    pub gsi: u32,
    /// Active low.
    pub low: bool,
    /// Level-triggered.
    pub level: bool,
}

/// A register in port or memory space, for reset and power-off.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A byte of memory.
    Memory(u64),
}

/// What the tables say.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// APIC IDs of enabled CPUs, in table order.
    pub cpus: Vec<u32, MAX_CPUS>,
    /// CPUs beyond those we keep.
    pub cpus_left_out: usize,
    /// I/O APICs.
    pub io_apics: Vec<IoApicInfo, 16>,
    /// ISA overrides.
    pub overrides: Vec<Override, 32>,
    /// Physical address of the local APIC.
    pub local_apic: u64,
    /// Port of the PM timer.
    pub pm_timer: Option<u16>,
    /// Physical address of the HPET.
    pub hpet: Option<u64>,
    /// Where and what to write for a reset.
    pub reset: Option<(Register, u8)>,
    /// PM1a and PM1b control ports.
    pub pm1_control: [Option<u16>; 2],
    /// SLP_TYPa and SLP_TYPb of S5.
    pub s5: Option<(u8, u8)>,
    /// The sleep control register of machines without PM1 (ACPI's "hardware-reduced" ones).
    pub sleep_control: Option<Register>,
}

static PLATFORM: Once<Platform> = Once::new();

/// The platform as read by [`init`]; empty before.
#[must_use]
pub fn platform() -> &'static Platform {
    static EMPTY: Platform = Platform {
        cpus: Vec::new(),
        cpus_left_out: 0,
        io_apics: Vec::new(),
        overrides: Vec::new(),
        local_apic: 0,
        pm_timer: None,
        hpet: None,
        reset: None,
        pm1_control: [None; 2],
        s5: None,
        sleep_control: None,
    };
    PLATFORM.get().unwrap_or(&EMPTY)
}

#[derive(Clone, Copy, Debug)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let pointer = map_phys(Phys(at as u64), size as u64).cast();
        let pointer = NonNull::new(pointer).expect("no mapping is at address 0");
        // SAFETY: the region is mapped for good.
        unsafe { PhysicalMapping::new(at, pointer, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables.
///
/// # Errors
/// The crate's error where there are none or they are damaged.
pub fn init(root: AcpiRoot) -> Result<&'static Platform, AcpiError> {
    // SAFETY: the addresses come from the loader or the search finds them; all are mapped on use.
    let tables = unsafe {
        match root {
            AcpiRoot::Search => AcpiTables::search_for_rsdp_bios(Mapper),
            AcpiRoot::Rsdp(at) => AcpiTables::from_rsdp(Mapper, at as usize),
            AcpiRoot::Rsdt(at) => AcpiTables::from_rsdt(Mapper, 0, at as usize),
            AcpiRoot::Xsdt(at) => AcpiTables::from_rsdt(Mapper, 2, at as usize),
        }
    }?;
    let mut platform = Platform::default();
    read_madt(&mut platform, tables.find_table::<Madt>()?.get());
    if let Ok(fadt) = tables.find_table::<Fadt>() {
        read_fadt(&mut platform, &fadt);
    }
    if let Ok(dsdt) = tables.dsdt() {
        let bytes = map_phys(Phys(dsdt.address as u64), dsdt.length.into());
        // SAFETY: the table lies there and is mapped for good.
        let aml = unsafe { core::slice::from_raw_parts(bytes, dsdt.length as usize) };
        platform.s5 = find_s5(aml);
    }
    platform.hpet = HpetInfo::new(&tables).ok().map(|hpet| hpet.base_address as u64);
    Ok(PLATFORM.call_once(|| platform))
}

/// ACPI 5.2.12 "Multiple APIC Description Table".
fn read_madt(platform: &mut Platform, madt: Pin<&Madt>) {
    platform.local_apic = madt.local_apic_address.into();
    for entry in madt.entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if { cpu.flags } & 1 != 0 => {
                add_cpu(platform, cpu.apic_id.into());
            }
            MadtEntry::LocalX2Apic(cpu) if { cpu.flags } & 1 != 0 => {
                add_cpu(platform, cpu.x2apic_id);
            }
            MadtEntry::IoApic(io) => {
                let info = IoApicInfo {
                    id: io.io_apic_id,
                    address: io.io_apic_address.into(),
                    gsi_base: io.global_system_interrupt_base,
                };
                // More than 16 I/O APICs: their devices stay silent, which the driver reports.
                let _ = platform.io_apics.push(info);
            }
            MadtEntry::InterruptSourceOverride(o) => {
                let _ = platform.overrides.push(Override {
                    irq: o.irq,
                    gsi: o.global_system_interrupt,
                    // 0 means "as the bus", and ISA is active high and edge.
                    low: { o.flags } & 3 == 3,
                    level: { o.flags } >> 2 & 3 == 3,
                });
            }
            MadtEntry::LocalApicAddressOverride(o) => platform.local_apic = o.local_apic_address,
            _ => {}
        }
    }
}

fn add_cpu(platform: &mut Platform, apic_id: u32) {
    if platform.cpus.contains(&apic_id) {
        return;
    }
    if platform.cpus.push(apic_id).is_err() {
        platform.cpus_left_out += 1;
    }
}

fn read_fadt(platform: &mut Platform, fadt: &Fadt) {
    let port = |r: &GenericAddress| {
        (r.address_space == AddressSpace::SystemIo && r.address != 0).then_some(r.address as u16)
    };
    platform.pm_timer = fadt.pm_timer_block().ok().flatten().and_then(|r| port(&r));
    platform.pm1_control[0] = fadt.pm1a_control_block().ok().and_then(|r| port(&r));
    platform.pm1_control[1] = fadt.pm1b_control_block().ok().flatten().and_then(|r| port(&r));
    let flags = { fadt.flags };
    if let Ok(r) = fadt.reset_register()
        && flags.supports_system_reset_via_fadt()
        && r.address != 0
    {
        platform.reset = register(&r).map(|register| (register, fadt.reset_value));
    }
    // From ACPI 5 on, which the length tells: 268 bytes, this register's the last but one.
    if { fadt.header().length } >= 268
        && platform.pm1_control[0].is_none()
        && let Ok(Some(r)) = fadt.sleep_control_register()
    {
        platform.sleep_control = register(&r).filter(|_| r.address != 0);
    }
}

fn register(at: &GenericAddress) -> Option<Register> {
    match at.address_space {
        AddressSpace::SystemIo => Some(Register::Port(at.address as u16)),
        AddressSpace::SystemMemory => Some(Register::Memory(at.address)),
        _ => None,
    }
}

/// Finds `Name (_S5_, Package () { a, b, ... })`. ACPI 20.2 "AML Grammar Definition".
fn find_s5(aml: &[u8]) -> Option<(u8, u8)> {
    const PACKAGE_OP: u8 = 0x12;
    let at = aml.windows(5).position(|w| w[..4] == *b"_S5_" && w[4] == PACKAGE_OP)?;
    let rest = aml.get(at + 5..)?;
    // PkgLength takes 1 byte and as many more as its top two bits say; then the element count.
    let skip = 1 + usize::from(rest.first()? >> 6) + 1;
    let (a, rest) = integer(rest.get(skip..)?)?;
    let (b, _) = integer(rest).unwrap_or((a, rest));
    Some((a, b))
}

fn integer(aml: &[u8]) -> Option<(u8, &[u8])> {
    match aml {
        [0x00, rest @ ..] => Some((0, rest)),
        [0x01, rest @ ..] => Some((1, rest)),
        [0x0a, value, rest @ ..] => Some((*value, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_is_found_in_the_forms_that_firmware_writes() {
        // QEMU: Name (_S5, Package (0x04) { Zero, Zero, Zero, Zero })
        let qemu = [0x08, b'_', b'S', b'5', b'_', 0x12, 0x06, 0x04, 0, 0, 0, 0];
        assert_eq!(find_s5(&qemu), Some((0, 0)));
        let real = [b'_', b'S', b'5', b'_', 0x12, 0x0a, 0x04, 0x0a, 7, 0x0a, 6, 0, 0];
        assert_eq!(find_s5(&real), Some((7, 6)));
        assert_eq!(find_s5(b"_S5_\x12"), None);
        assert_eq!(find_s5(b"nothing"), None);
    }
}
