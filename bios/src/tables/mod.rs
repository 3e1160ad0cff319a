//! What operating systems read about the machine: ACPI, MP, SMBIOS, `$PIR` and BIOS32. Built once in
//! POST. The small entry points stand at the start of F000h, where all of them are searched for.

mod acpi;
mod dsdt;
mod files;
mod mp;
pub(crate) mod pir;
mod processors;
mod pvh;
mod smbios;
#[cfg(test)]
mod tests;

pub use files::{Pointer, Tables};
pub use pvh::pvh_tables;

use crate::caller::Call;
use crate::platform::Platform;
use alloc::vec::Vec;
use arch::GuestPhys;

/// Where the F-segment tables may stand: below the stubs.
const ARENA: core::ops::Range<u64> = 0xf_0000..0xf_e000;

/// Hands out paragraphs of the F segment.
struct Arena {
    next: u64,
}

impl Arena {
    /// Writes bytes into shadow RAM at the next paragraph; their address, or `None` when it is full.
    fn put<P: Platform>(&mut self, c: &Call<'_, P>, bytes: &[u8]) -> Option<u32> {
        let at = self.next.next_multiple_of(16);
        let end = at + bytes.len() as u64;
        if end > ARENA.end {
            return None;
        }
        c.bus.ram().write_slice(GuestPhys(at), bytes).ok()?;
        self.next = end;
        Some(at as u32)
    }
}

/// Writes all tables. What has no room is left out; nothing points to it then.
pub(crate) fn write<P: Platform>(c: &mut Call<'_, P>) {
    let mut arena = Arena { next: ARENA.start };
    let pci = crate::post::pci::functions(c);
    let (acpi, apics) = (c.bus.config().acpi, c.bus.config().tells_of_apics());
    if acpi {
        let _ = acpi::write(c, &mut arena);
    }
    if apics {
        let _ = mp::write(c, &mut arena, &pci);
    }
    let _ = pir::write(c, &mut arena);
    let _ = pir::write_bios32(c, &mut arena);
    let _ = smbios::write(c, &mut arena);
}

/// The byte that makes the sum of all zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// Appends little-endian fields.
trait Fields {
    fn w8(&mut self, value: u8);
    fn w16(&mut self, value: u16);
    fn w32(&mut self, value: u32);
    fn w64(&mut self, value: u64);
}

impl Fields for Vec<u8> {
    fn w8(&mut self, value: u8) {
        self.push(value);
    }
    fn w16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn w32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn w64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
}
