//! Memory types (SDM 3A "Memory Type Range Registers"): RAM write-back, video memory and everything from the PCI
//! hole to 4 GiB uncached, ROM write-protected. WRMSR itself is the stub's.

use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

const WRITE_BACK: u64 = 6;
/// Type bytes of a fixed-range register.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
const ALL_WRITE_PROTECTED: u64 = 0x0505_0505_0505_0505;
/// MTRRdefType: enabled, fixed ranges too.
const ENABLE: u64 = 3 << 10;
/// A variable range's mask register: valid.
const VALID: u64 = 1 << 11;

/// The memory-type registers and what this firmware leaves in them: a board's other processors have the same, which
/// POST on the first one does not reach. `hole`: where RAM below 4 GiB ends.
pub fn memory_types(hole: u32, physical_bits: u8) -> impl Iterator<Item = (u32, u64)> {
    (0..).map_while(move |n| register(n, hole, physical_bits.clamp(32, 52)))
}

/// The registers in order; the default type, which turns all of them on, last.
fn register(n: u8, hole: u32, physical_bits: u8) -> Option<(u32, u64)> {
    let hole_bytes = (1u64 << 32) - u64::from(hole);
    // The largest power of two that ends at 4 GiB and covers no RAM below the hole.
    let size = 1u64 << (63 - hole_bytes.leading_zeros());
    let width = (1u64 << physical_bits) - 1;
    Some(match n {
        0 => (0x250, ALL_WRITE_BACK),
        1 => (0x258, ALL_WRITE_BACK),
        2 => (0x259, 0),
        3..=10 => (0x268 + u32::from(n) - 3, ALL_WRITE_PROTECTED),
        11 => (0x200, (1 << 32) - size),
        12 => (0x201, (width & !(size - 1)) | VALID),
        13 => (0x2ff, ENABLE | WRITE_BACK),
        _ => return None,
    })
}

impl Bios {
    /// Carry: write EDX:EAX to the register in ECX and ask again.
    pub(crate) fn memory_type<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let hole = c.bus.config().pci_hole.0;
        let bits = self.physical_bits.clamp(32, 52);
        let next = register(self.types_set, hole, bits);
        if let Some((number, value)) = next {
            self.types_set += 1;
            c.set_ecx(number);
            c.set_eax(value as u32);
            c.set_edx((value >> 32) as u32);
        }
        c.stub_flags(next.is_some(), false);
        Flow::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hole_is_uncached_to_4_gib_and_ram_below_it_is_not() {
        let value = |n, hole| register(n, hole, 40).unwrap().1;
        assert_eq!((value(11, 0xe000_0000), value(12, 0xe000_0000)), (0xe000_0000, 0xff_e000_0800));
        assert_eq!((value(11, 0xd000_0000), value(12, 0xd000_0000)), (0xe000_0000, 0xff_e000_0800));
        assert_eq!(value(11, 0xf000_0000), 0xf000_0000);
        assert_eq!(register(13, 0, 36), Some((0x2ff, 0xc06)));
        assert_eq!(register(14, 0, 36), None);
    }
}
