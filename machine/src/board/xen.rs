//! The Xen platform device on the board: ports 10h to 13h, and its I/O region.

use super::Board;
use crate::effects::Effects;
use crate::host::Output;
use devmodel::pci::XEN_PLATFORM;
use devmodel::xenplat::PlatformEffect;

/// Ports of the device's I/O region.
pub(super) const REGION: u16 = 0x100;

impl Board {
    /// Drives an I/O APIC pin (global system interrupt) with a level, and below 16 the ISA line of its number.
    pub(crate) fn set_gsi(&mut self, gsi: u8, level: bool, fx: &mut Effects) {
        if gsi < 16 {
            self.set_line(gsi, level, fx);
        } else if let Some(message) = self.ioapic.set_pin(gsi, level) {
            fx.send(message);
        }
    }

    /// Drives INTA of the platform device.
    pub(crate) fn set_xen_intx(&mut self, level: bool, fx: &mut Effects) {
        self.pci.set_intx(XEN_PLATFORM, level);
        self.settle_pci(fx);
    }

    pub(super) fn xen_in(&self, port: u8, width: u8) -> u32 {
        self.xen_platform.as_ref().map_or(u32::MAX, |device| device.read(port, width))
    }

    pub(super) fn xen_out(&mut self, port: u8, width: u8, value: u32, fx: &mut Effects) {
        if let Some(device) = &mut self.xen_platform {
            let effect = device.write(port, width, value);
            carry_out(effect, fx);
        }
    }

    pub(super) fn xen_region_in(&self, offset: u8, width: u8) -> u32 {
        let byte = |n: u8| {
            self.xen_platform.as_ref().map_or(0xff, |d| d.read_region(offset.wrapping_add(n)))
        };
        (0..width.min(4)).fold(0, |sum, n| sum | u32::from(byte(n)) << (8 * n))
    }

    pub(super) fn xen_region_out(&mut self, offset: u8, width: u8, value: u32, fx: &mut Effects) {
        let Some(device) = &mut self.xen_platform else { return };
        for n in 0..width.min(4) {
            let effect = device.write_region(offset.wrapping_add(n), (value >> (8 * n)) as u8);
            carry_out(effect, fx);
        }
    }
}

fn carry_out(effect: PlatformEffect, fx: &mut Effects) {
    match effect {
        PlatformEffect::Nothing => {}
        PlatformEffect::Log(byte) => fx.print(Output::Debug, byte),
        PlatformEffect::Unplug(unplug) => {
            fx.unplug = Some(unplug);
            fx.touch();
        }
    }
}
