//! Port decoding. Chips that take bytes see bytes: wider accesses are split, lowest port first, as the ISA
//! bridge splits them.

use super::Board;
use super::xen::REGION;
use crate::effects::Effects;
use crate::host::Output;
use arch::{Nanos, Why};
use devmodel::acpipm::PowerEffect;
use devmodel::dma::DmaUnit;
use devmodel::ide::{self, Bus};
use devmodel::pci::{DevFn, Kind, PciEffect, Region, XEN_PLATFORM};
use devmodel::pic::PicUnit;
use devmodel::ps2::Ps2Effect;
use devmodel::reset::Reset;
use devmodel::vga::Vram;

/// GPE0 block, where PIIX4 boards of this kind have it.
const GPE: u16 = 0xafe0;
/// IDE function of the PIIX3.
const IDE: DevFn = DevFn::new(1, 1);

/// Port ranges that PCI configuration moves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PciPorts {
    /// Power management: 64 ports. 0: not decoded.
    pm: u16,
    /// Bus-master IDE: 16 ports. 0: not decoded.
    bus_master: u16,
    /// Xen platform device: 256 ports. 0: not decoded.
    xen: u16,
}

fn ones(width: u8) -> u32 {
    match width {
        1 => 0xff,
        2 => 0xffff,
        _ => 0xffff_ffff,
    }
}

impl Board {
    /// Reads `width` (1, 2 or 4) bytes from `port`. What nothing claims reads as all ones.
    #[inline(always)]
    pub fn port_in(&mut self, port: u16, width: u8, now: Nanos, fx: &mut Effects) -> u32 {
        if width == 1 {
            return self.in_byte(port, now, fx).into();
        }
        self.in_wide(port, width, now, fx)
    }

    fn in_wide(&mut self, port: u16, width: u8, now: Nanos, fx: &mut Effects) -> u32 {
        let pm = self.pci_ports.pm;
        if pm != 0 && port & 0xffc0 == pm {
            return self.pm.read(port as u8 & 0x3f, width, now) & ones(width);
        }
        match port {
            0x10..=0x13 if self.xen_platform.is_some() => {
                return self.xen_in(port as u8 & 3, width);
            }
            0xcf8 if width == 4 => return self.pci.address(),
            0xcfc..=0xcff => return self.pci_read(port, width),
            0x1f0 | 0x170 => return self.ide_data_in(channel(port), width, fx),
            0x1ce..=0x1d0 if width == 2 => return self.vga.vbe_read(port).into(),
            0x514 | 0x518 if width == 4 => return self.fw_cfg.read_dma(port as u8 - 0x14),
            _ => {
                if let Some(value) = self.in_pci_ports(port, width, now, fx) {
                    return value;
                }
            }
        }
        let mut value = 0;
        for n in 0..u16::from(width) {
            let byte = self.in_byte(port.wrapping_add(n), now, fx);
            value |= u32::from(byte) << (8 * n);
        }
        value
    }

    /// Writes the low `width` (1, 2 or 4) bytes of `value` to `port`. What nothing claims is dropped.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "an access is an address, a value and a time")]
    pub fn port_out<V: Vram + ?Sized>(
        &mut self,
        vram: &V,
        port: u16,
        width: u8,
        value: u32,
        now: Nanos,
        fx: &mut Effects,
    ) {
        if width == 1 {
            return self.out_byte(port, value as u8, now, fx);
        }
        self.out_wide(vram, port, width, value, now, fx);
    }

    #[allow(clippy::too_many_arguments, reason = "an access is an address, a value and a time")]
    fn out_wide<V: Vram + ?Sized>(
        &mut self,
        vram: &V,
        port: u16,
        width: u8,
        value: u32,
        now: Nanos,
        fx: &mut Effects,
    ) {
        match port {
            0x10..=0x13 if self.xen_platform.is_some() => {
                return self.xen_out(port as u8 & 3, width, value, fx);
            }
            0xcf8 if width == 4 => return self.pci.set_address(value),
            0xcfc..=0xcff => return self.pci_write(port, width, value, fx),
            0x1f0 | 0x170 => return self.ide_data_out(channel(port), width, value, fx),
            0x1ce..=0x1d0 if width == 2 => {
                self.vga.vbe_write(vram, port, value as u16);
                return self.vga_moved(fx);
            }
            0x510 if width == 2 => return self.fw_cfg.select(value as u16),
            0x514 | 0x518 if width == 4 => {
                fx.fw_cfg = self.fw_cfg.write_dma(port as u8 - 0x14, value);
                return fx.touch();
            }
            _ => {
                if self.out_pci_ports(port, width, value, now, fx) {
                    return;
                }
            }
        }
        for n in 0..u16::from(width) {
            let byte = (value >> (8 * n)) as u8;
            self.out_byte(port.wrapping_add(n), byte, now, fx);
        }
    }

    #[inline(never)]
    fn in_byte(&mut self, port: u16, now: Nanos, fx: &mut Effects) -> u8 {
        let low = port as u8;
        match port {
            0x20 | 0x21 => {
                let value = self.pic.read(PicUnit::Master, low & 1);
                self.settle_intr(fx);
                value
            }
            0xa0 | 0xa1 => {
                let value = self.pic.read(PicUnit::Slave, low & 1);
                self.settle_intr(fx);
                value
            }
            0x40..=0x43 => self.pit.read(low & 3, now),
            0x3f8..=0x3ff => self.com_in(0, low & 7, now, fx),
            0x2f8..=0x2ff => self.com_in(1, low & 7, now, fx),
            0x60 | 0x64 => {
                let value = match low & 4 {
                    0 => self.ps2.read_data(now),
                    _ => self.ps2.read_status(now),
                };
                self.settle_ps2(fx);
                value
            }
            0x61 => self.pit.read_port61(now),
            0x70..=0x73 => {
                let value = self.rtc.read(low & 3, now);
                self.settle_rtc(fx);
                value
            }
            0x80 => self.debugcon.post_code(),
            0x10..=0x13 if self.xen_platform.is_some() => self.xen_in(low & 3, 1) as u8,
            0x00..=0x0f => self.dma.read(DmaUnit::Bytes, low),
            0xc0..=0xdf => self.dma.read(DmaUnit::Words, (low - 0xc0) >> 1),
            0x81..=0x8f => self.dma.read_page(low & 15),
            0x92 => self.port92.read(),
            0xe9 | 0x402 => self.debugcon.read(),
            0xb2 | 0xb3 => self.pm.read_apm(low),
            0x1f1..=0x1f7 | 0x171..=0x177 => self.ide_in(channel(port), low & 7, fx),
            0x1f0 | 0x170 => self.ide_data_in(channel(port), 1, fx) as u8,
            0x3f6 | 0x376 => self.ide.read_control(channel(port)),
            0x3f0..=0x3f5 | 0x3f7 => {
                let (value, effect) = self.fdc.read(low & 7);
                self.fdc_effect(effect, fx);
                value
            }
            0x3b0..=0x3df => self.vga.port_read(port, now),
            0x4d0 => self.pic.read_elcr(PicUnit::Master),
            0x4d1 => self.pic.read_elcr(PicUnit::Slave),
            0x511 => self.fw_cfg.read(),
            0xcf9 => self.reset.read(),
            0xaf00..=0xaf1f => self.cpus.read(low),
            0xcfc..=0xcff => self.pci_read(port, 1) as u8,
            0x1ce..=0x1d0 => self.vga.vbe_read(port) as u8,
            _ => self.in_pci_ports(port, 1, now, fx).unwrap_or(0xff) as u8,
        }
    }

    #[inline(never)]
    fn out_byte(&mut self, port: u16, value: u8, now: Nanos, fx: &mut Effects) {
        let low = port as u8;
        match port {
            0x20 | 0x21 => {
                self.pic.write(PicUnit::Master, low & 1, value);
                self.settle_intr(fx);
            }
            0xa0 | 0xa1 => {
                self.pic.write(PicUnit::Slave, low & 1, value);
                self.settle_intr(fx);
            }
            0x40..=0x43 => {
                self.pit.write(low & 3, value, now);
                // The other channels drive no interrupt line.
                if matches!(low & 3, 0 | 3) {
                    self.advance_pit(now, fx);
                }
            }
            0x3f8..=0x3ff => self.com_out(0, low & 7, value, now, fx),
            0x2f8..=0x2ff => self.com_out(1, low & 7, value, now, fx),
            0x60 | 0x64 => self.ps2_out(low & 4 != 0, value, now, fx),
            0x61 => self.pit.write_port61(value, now),
            0x70..=0x73 => {
                self.rtc.write(low & 3, value, now);
                self.settle_rtc(fx);
            }
            0x80 => self.debugcon.write_post_code(value),
            0x10..=0x13 if self.xen_platform.is_some() => {
                self.xen_out(low & 3, 1, value.into(), fx);
            }
            0x00..=0x0f => self.dma_out(DmaUnit::Bytes, low, value, fx),
            0xc0..=0xdf => self.dma_out(DmaUnit::Words, (low - 0xc0) >> 1, value, fx),
            0x81..=0x8f => self.dma.write_page(low & 15, value),
            0x92 => {
                fx.init |= self.port92.write(value).is_some();
                fx.a20 = true;
                fx.touch();
            }
            0xe9 | 0x402 => fx.print(Output::Debug, self.debugcon.write(value)),
            0xb2 | 0xb3 => {
                self.pm.write_apm(low, value);
                self.settle_pm(fx);
            }
            0x1f1..=0x1f7 | 0x171..=0x177 => {
                let effect = self.ide.write(channel(port), low & 7, value);
                self.ide_effect(effect, fx);
            }
            0x1f0 | 0x170 => self.ide_data_out(channel(port), 1, value.into(), fx),
            0x3f6 | 0x376 => {
                self.ide.write_control(channel(port), value);
                self.settle_ide(fx);
            }
            0x3f2..=0x3f5 | 0x3f7 => {
                let effect = self.fdc.write(low & 7, value, now);
                self.fdc_effect(effect, fx);
            }
            0x3b0..=0x3df => {
                self.vga.port_write(port, value, now);
                self.vga_moved(fx);
            }
            0x4d0 => self.write_elcr(PicUnit::Master, value, fx),
            0x4d1 => self.write_elcr(PicUnit::Slave, value, fx),
            0xcf9 => match self.reset.write(value) {
                Some(Reset::Soft) => {
                    fx.init = true;
                    fx.touch();
                }
                Some(_) => fx.stop(Why::Reset),
                None => {}
            },
            0xcfc..=0xcff => self.pci_write(port, 1, value.into(), fx),
            _ => {
                self.out_pci_ports(port, 1, value.into(), now, fx);
            }
        }
    }

    #[inline]
    fn com_in(&mut self, port: usize, offset: u8, now: Nanos, fx: &mut Effects) -> u8 {
        let value = self.com[port].read(offset, now);
        // Line status, modem control and scratch change no pin and no time.
        if !matches!(offset, 3..=5 | 7) {
            self.settle_com(port, fx);
        }
        value
    }

    fn com_out(&mut self, port: usize, offset: u8, value: u8, now: Nanos, fx: &mut Effects) {
        if let Some(byte) = self.com[port].write(offset, value, now) {
            fx.print([Output::Com1, Output::Com2][port & 1], byte);
        }
        if offset != 7 {
            self.settle_com(port, fx);
        }
    }

    fn ps2_out(&mut self, command: bool, value: u8, now: Nanos, fx: &mut Effects) {
        let a20 = self.ps2.a20();
        let effect = if command {
            self.ps2.write_command(value, now)
        } else {
            self.ps2.write_data(value, now)
        };
        if let Some(Ps2Effect::Init) = effect {
            fx.init = true;
            fx.touch();
        }
        if self.ps2.a20() != a20 {
            fx.a20 = true;
            fx.touch();
        }
        self.settle_ps2(fx);
    }

    fn dma_out(&mut self, unit: DmaUnit, offset: u8, value: u8, fx: &mut Effects) {
        self.dma.write(unit, offset, value);
        // The floppy controller may have waited for its channel.
        if self.fdc.dma_request().is_some() {
            self.fdc_effect(devmodel::fdc::Effect::None, fx);
        }
    }

    fn write_elcr(&mut self, unit: PicUnit, value: u8, fx: &mut Effects) {
        self.pic.write_elcr(unit, value);
        self.settle_intr(fx);
    }

    #[inline]
    fn ide_in(&mut self, bus: Bus, offset: u8, fx: &mut Effects) -> u8 {
        let value = self.ide.read(bus, offset);
        // Reading the status acknowledges the interrupt.
        if offset == 7 {
            self.settle_ide(fx);
        }
        value
    }

    fn ide_data_in(&mut self, bus: Bus, width: u8, fx: &mut Effects) -> u32 {
        let mut bytes = [0xff; 4];
        let width = usize::from(width.min(4));
        let mut done = 0;
        while done < width {
            let (count, effect) = self.ide.data_in(bus, &mut bytes[done..width]);
            self.ide_effect(effect, fx);
            if count == 0 {
                break;
            }
            done += count;
        }
        u32::from_le_bytes(bytes) & ones(width as u8)
    }

    fn ide_data_out(&mut self, bus: Bus, width: u8, value: u32, fx: &mut Effects) {
        let bytes = value.to_le_bytes();
        let (_, effect) = self.ide.data_out(bus, &bytes[..usize::from(width.min(4))]);
        self.ide_effect(effect, fx);
    }

    /// Reads as many bytes of the IDE data port as a block has left: REP INSW in one go. How many, in whole elements of
    /// `width` bytes; what an element lacks comes from the next block or reads all ones.
    pub fn ide_bulk_in(&mut self, port: u16, width: u8, out: &mut [u8], fx: &mut Effects) -> usize {
        let (mut done, effect) = self.ide.data_in(channel(port), out);
        self.ide_effect(effect, fx);
        let end = done.next_multiple_of(usize::from(width).max(1)).min(out.len());
        while let Some(rest) = out.get_mut(done..end)
            && !rest.is_empty()
        {
            rest.fill(0xff);
            let (count, effect) = self.ide.data_in(channel(port), rest);
            self.ide_effect(effect, fx);
            done = if count == 0 { end } else { done + count };
        }
        done
    }

    /// Writes as many bytes to the IDE data port as a block takes: REP OUTSW in one go. How many, in whole elements of
    /// `width` bytes; what the block does not take of the last one is lost.
    pub fn ide_bulk_out(&mut self, port: u16, width: u8, data: &[u8], fx: &mut Effects) -> usize {
        let (count, effect) = self.ide.data_out(channel(port), data);
        self.ide_effect(effect, fx);
        count.next_multiple_of(usize::from(width).max(1)).min(data.len())
    }

    fn ide_effect(&mut self, effect: ide::Effect, fx: &mut Effects) {
        self.settle_ide(fx);
        if effect != ide::Effect::None {
            fx.ide = Some(effect);
            fx.touch();
        }
    }

    fn fdc_effect(&mut self, effect: devmodel::fdc::Effect, fx: &mut Effects) {
        self.settle_fdc(fx);
        if effect != devmodel::fdc::Effect::None || self.fdc.dma_request().is_some() {
            fx.fdc = Some(effect);
            fx.touch();
        }
    }

    fn pci_read(&self, port: u16, width: u8) -> u32 {
        if self.names_gone_nic() {
            return ones(width);
        }
        self.pci.read_data(port as u8, width)
    }

    fn pci_write(&mut self, port: u16, width: u8, value: u32, fx: &mut Effects) {
        if self.names_gone_nic() {
            return;
        }
        let effect = self.pci.write_data(port as u8, width, value);
        self.pci_effect(effect, fx);
    }

    /// Lets the PIIX4 answer at `base` with its power-management registers, as the ACPI tables in fw_cfg say (PIIX4
    /// "PMBA" and "PMREGMISC"). OVMF keeps what it finds and else takes B000h.
    pub(crate) fn decode_pm(&mut self, base: u16, fx: &mut Effects) {
        let Some(at) = self.pci.find(Kind::Piix4Pm).map(|(at, _)| at) else { return };
        let _ = self.pci.write(at, 0x40, 4, u32::from(base) | 1);
        let effect = self.pci.write(at, 0x80, 1, 1);
        self.pci_effect(effect, fx);
    }

    /// Follows a configuration write.
    pub(crate) fn pci_effect(&mut self, effect: PciEffect, fx: &mut Effects) {
        match effect {
            PciEffect::Nothing => {}
            PciEffect::Decode(_) | PciEffect::Device(_) => {
                let ports = |at, n| match self.pci.function(at).and_then(|f| f.region(n)) {
                    Some(Region::Io { port, .. }) => port,
                    _ => 0,
                };
                self.pci_ports = PciPorts {
                    pm: self.pci.pm_base().unwrap_or(0),
                    bus_master: ports(IDE, 4),
                    xen: ports(XEN_PLATFORM, 0),
                };
                self.move_nics();
                // The command register may have let go of an interrupt pin.
                self.settle_pci(fx);
                fx.remap = true;
                fx.touch();
            }
            PciEffect::Routing => self.settle_pci(fx),
            PciEffect::Memory => {
                fx.remap = true;
                fx.touch();
            }
        }
    }

    fn in_pci_ports(&mut self, port: u16, width: u8, now: Nanos, fx: &mut Effects) -> Option<u32> {
        let PciPorts { pm, bus_master, xen } = self.pci_ports;
        if pm != 0 && port & 0xffc0 == pm {
            return Some(self.pm.read(port as u8 & 0x3f, width, now) & ones(width));
        }
        if bus_master != 0 && port & 0xfff0 == bus_master {
            let offset = port as u8 & 15;
            if width == 4 && offset & 7 == 4 {
                return Some(self.ide.prd_table(ide_bus(offset)));
            }
            let byte = |n: u8| u32::from(self.ide.busmaster_read(offset.wrapping_add(n) & 15));
            return Some((0..width).fold(0, |sum, n| sum | byte(n) << (8 * n)));
        }
        if port & 0xfffc == GPE {
            return Some(self.pm.read_gpe(port as u8 & 3, width));
        }
        if xen != 0 && port & !(REGION - 1) == xen {
            return Some(self.xen_region_in(port as u8, width));
        }
        self.nic_in(port, width, now, fx)
    }

    fn out_pci_ports(
        &mut self,
        port: u16,
        width: u8,
        value: u32,
        now: Nanos,
        fx: &mut Effects,
    ) -> bool {
        let PciPorts { pm, bus_master, xen } = self.pci_ports;
        if pm != 0 && port & 0xffc0 == pm {
            match self.pm.write(port as u8 & 0x3f, width, value, now) {
                PowerEffect::Nothing => {}
                PowerEffect::PowerOff => fx.stop(Why::PowerOff),
                // Suspend to RAM is refused: nothing wakes the guest yet, so it goes on.
                PowerEffect::Suspend => {
                    self.pm.wake(devmodel::acpipm::WakeCause::PowerButton);
                }
            }
            self.settle_pm(fx);
            return true;
        }
        if bus_master != 0 && port & 0xfff0 == bus_master {
            let offset = port as u8 & 15;
            if width == 4 && offset & 7 == 4 {
                self.ide.set_prd_table(ide_bus(offset), value);
                return true;
            }
            for n in 0..width {
                let byte = (value >> (8 * n)) as u8;
                let effect = self.ide.busmaster_write(offset.wrapping_add(n) & 15, byte);
                self.ide_effect(effect, fx);
            }
            return true;
        }
        if port & 0xfffc == GPE {
            self.pm.write_gpe(port as u8 & 3, width, value);
            self.settle_pm(fx);
            return true;
        }
        if xen != 0 && port & !(REGION - 1) == xen {
            self.xen_region_out(port as u8, width, value, fx);
            return true;
        }
        self.nic_out(port, width, value, now, fx)
    }

    /// The power button of the case.
    pub fn press_power_button(&mut self, fx: &mut Effects) {
        self.pm.press_power_button();
        self.settle_pm(fx);
    }
}

/// The IDE channel of a legacy port: the primary's have bit 7 set.
fn channel(port: u16) -> Bus {
    if port & 0x80 != 0 { Bus::Primary } else { Bus::Secondary }
}

fn ide_bus(offset: u8) -> Bus {
    if offset & 8 == 0 { Bus::Primary } else { Bus::Secondary }
}
