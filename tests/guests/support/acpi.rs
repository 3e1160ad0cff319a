//! ACPI's tables, as far as a test needs them.

use crate::mem::{self, bytes};
use crate::pvh;

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
}

fn word(table: &[u8], at: usize) -> u32 {
    let part = table.get(at..at + 4).unwrap_or(&[0; 4]);
    u32::from_le_bytes([part[0], part[1], part[2], part[3]])
}

/// Finds the RSDP: in the EBDA's first KiB, or in the BIOS's 128 KiB. A PVH guest is told.
pub fn rsdp() -> Option<usize> {
    if let Some(info) = pvh::start_info() {
        let told = info.rsdp as usize;
        return (told != 0 && sum(bytes(told, 20)) == 0).then_some(told);
    }
    let ebda = usize::from(mem::read::<u16>(0x40e)) << 4;
    let places = [(ebda, ebda + 1024), (0xe_0000, 0x10_0000)];
    places
        .into_iter()
        .filter(|(start, _)| *start >= 0x8_0000)
        .flat_map(|(start, end)| (start..end).step_by(16))
        .find(|place| bytes(*place, 8) == b"RSD PTR " && sum(bytes(*place, 20)) == 0)
}

/// Finds a table by its signature.
pub fn table(signature: &[u8; 4]) -> Option<&'static [u8]> {
    let rsdt = at(word(bytes(rsdp()?, 20), 16))?;
    (36..rsdt.len())
        .step_by(4)
        .filter_map(|offset| at(word(rsdt, offset)))
        .find(|table| table.starts_with(signature))
}

fn at(address: u32) -> Option<&'static [u8]> {
    let len = mem::read::<u32>(address as usize + 4) as usize;
    (address != 0 && (36..0x10_0000).contains(&len)).then(|| bytes(address as usize, len))
}

/// The FADT's port of PM1a control, and what S5 wants in SLP_TYP.
pub fn switch_off() -> Option<(u16, u16)> {
    let fadt = table(b"FACP")?;
    let dsdt = at(word(fadt, 40))?;
    // Name (_S5, Package () { ...: the first element is a byte constant, 0 or 1.
    let place = dsdt.windows(4).position(|part| part == b"_S5_")?;
    let value = match dsdt.get(place + 7..place + 9)? {
        [0x0a, value] => *value,
        [value @ (0 | 1), _] => *value,
        _ => 0,
    };
    Some((word(fadt, 64) as u16, value.into()))
}

/// The FADT's port of the PM timer.
pub fn pm_timer() -> Option<u16> {
    let port = word(table(b"FACP")?, 76) as u16;
    (port != 0).then_some(port)
}

/// The HPET's address.
pub fn hpet() -> Option<usize> {
    let address = word(table(b"HPET")?, 44) as usize;
    (address != 0).then_some(address)
}

/// The local APICs that the MADT calls usable, else those of the MP table, in order.
pub fn cpus(out: &mut [u32; 64]) -> usize {
    let mut count = 0;
    let mut add = |id: u8| {
        if count < out.len() {
            out[count] = id.into();
            count += 1;
        }
    };
    if let Some(madt) = table(b"APIC") {
        let mut rest = madt.get(44..).unwrap_or(&[]);
        while let [kind, len, ..] = *rest {
            if kind == 0 && rest.len() >= 8 && rest[4] & 1 != 0 {
                add(rest[3]);
            }
            rest = rest.get(usize::from(len).max(2)..).unwrap_or(&[]);
        }
        return count;
    }
    let Some(pointer) = (0xf_0000..0x10_0000).step_by(16).find(|at| bytes(*at, 4) == b"_MP_")
    else {
        return 0;
    };
    let place = mem::read::<u32>(pointer + 4) as usize;
    let mut entry = place + 44;
    for _ in 0..mem::read::<u16>(place + 34) {
        if mem::read::<u8>(entry) != 0 {
            break;
        }
        if mem::read::<u8>(entry + 3) & 1 != 0 {
            add(mem::read(entry + 1));
        }
        entry += 20;
    }
    count
}
