//! `$PIR` (Microsoft "PCI IRQ Routing Table Specification" 1.0) and the BIOS32 service directory.

use super::{Arena, Fields, checksum};
use crate::caller::Call;
use crate::platform::Platform;
use crate::post::pci::pirq;
use crate::rom::{ROM_BASE, stubs};
use alloc::vec::Vec;

/// Interrupts that a PIRQ of the PIIX3 can be routed to.
pub(crate) const ROUTABLE: u16 = 0xdef8;
/// Slots 1 to 10 are told.
const SLOTS: u8 = 10;

/// The slot entries: bus, device, link and interrupts of each pin, slot number.
pub(crate) fn slots() -> Vec<u8> {
    let mut out = Vec::new();
    for slot in 1..=SLOTS {
        out.extend_from_slice(&[0, slot << 3]);
        for pin in 1..=4 {
            out.w8(0x60 + pirq(slot, pin));
            out.w16(ROUTABLE);
        }
        // Slot number 0: on the board.
        out.extend_from_slice(&[slot.saturating_sub(2), 0]);
    }
    out
}

pub(super) fn write<P: Platform>(c: &mut Call<'_, P>, arena: &mut Arena) -> Option<()> {
    let slots = slots();
    let mut out = Vec::from(*b"$PIR");
    out.w16(0x0100);
    out.w16(32 + slots.len() as u16);
    // Router at 1.0, no interrupts for PCI alone; compatible with the PIIX.
    out.extend_from_slice(&[0, 0x08, 0, 0]);
    out.w16(0x8086);
    out.w16(0x122e);
    out.w32(0);
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&slots);
    out[31] = checksum(&out);
    arena.put(c, &out)?;
    Some(())
}

/// "Standard BIOS 32-bit Service Directory Proposal" 0.4.
pub(super) fn write_bios32<P: Platform>(c: &mut Call<'_, P>, arena: &mut Arena) -> Option<()> {
    let mut out = Vec::from(*b"_32_");
    out.w32(ROM_BASE + u32::from(stubs::BIOS32));
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    out[10] = checksum(&out);
    arena.put(c, &out)?;
    Some(())
}
