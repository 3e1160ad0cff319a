//! Memory-mapped chips: I/O APIC, HPET, VGA; network cards are in `nic`.

use super::Board;
use crate::effects::Effects;
use crate::memmap::Mmio;
use arch::Nanos;
use devmodel::vga::Vram;

impl Board {
    /// Reads `width` (1 to 8) bytes at `offset` of a device.
    #[allow(clippy::too_many_arguments, reason = "an access is an address and a time")]
    pub fn mmio_read<V: Vram + ?Sized>(
        &mut self,
        vram: &V,
        device: Mmio,
        offset: u64,
        width: u8,
        now: Nanos,
        fx: &mut Effects,
    ) -> u64 {
        match device {
            Mmio::VgaWindow => self.vga.mem_read(vram, offset as u32, width),
            Mmio::VgaRegisters => self.vga.mmio_read(offset as u32, width, now).into(),
            Mmio::IoApic => {
                let value = u64::from(self.ioapic.read(offset as u16 & !3));
                value >> ((offset & 3) * 8)
            }
            Mmio::Hpet if width == 8 => self.hpet.read64(offset as u16, now),
            Mmio::Hpet => {
                let value = u64::from(self.hpet.read32(offset as u16 & !3, now));
                value >> ((offset & 3) * 8)
            }
            Mmio::XenPlatform => 0,
            Mmio::Nic(n) => self.nic_read(n, offset, width, now, fx),
        }
    }

    /// Writes `width` (1 to 8) bytes at `offset` of a device.
    #[allow(clippy::too_many_arguments, reason = "an access is an address, a value and a time")]
    pub fn mmio_write<V: Vram + ?Sized>(
        &mut self,
        vram: &V,
        device: Mmio,
        offset: u64,
        width: u8,
        value: u64,
        now: Nanos,
        fx: &mut Effects,
    ) {
        match device {
            Mmio::VgaWindow => self.vga.mem_write(vram, offset as u32, width, value),
            Mmio::VgaRegisters => {
                self.vga.mmio_write(vram, offset as u32, width, value as u32, now);
                self.vga_moved(fx);
            }
            Mmio::IoApic => {
                // Registers take the written dword whatever its width (82093AA "Address Map").
                let pins = self.ioapic.write(offset as u16 & !3, value as u32);
                for pin in pins {
                    fx.send(self.ioapic.message(pin));
                }
            }
            Mmio::Hpet if width == 8 => {
                self.hpet.write64(offset as u16, value, now);
                self.settle_hpet_write(now, fx);
            }
            Mmio::Hpet if width == 4 => {
                self.hpet.write32(offset as u16 & !3, value as u32, now);
                self.settle_hpet_write(now, fx);
            }
            Mmio::Nic(n) => self.nic_write(n, offset, (width, value), now, fx),
            Mmio::Hpet | Mmio::XenPlatform => {}
        }
    }

    fn settle_hpet_write(&mut self, now: Nanos, fx: &mut Effects) {
        self.settle_hpet(fx);
        // Legacy routing may have come or gone.
        self.advance_pit(now, fx);
        self.settle_rtc(fx);
    }

    /// The window's direct mapping may have changed.
    pub(super) fn vga_moved(&mut self, fx: &mut Effects) {
        let direct = self.vga.direct_map();
        if direct != self.vga_direct {
            self.vga_direct = direct;
            fx.vga = true;
            fx.touch();
        }
    }
}
