//! PCI BIOS 2.1: INT 1Ah AH=B1h, the same by a 32-bit far call, and the BIOS32 directory that names it.

use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;
use crate::post::pci::functions;
use crate::rom::{ROM_BASE, stubs};
use crate::tables::pir;

/// "PCI BIOS Function List", return codes.
mod code {
    pub const OK: u8 = 0x00;
    pub const UNSUPPORTED: u8 = 0x81;
    pub const BAD_VENDOR: u8 = 0x83;
    pub const NOT_FOUND: u8 = 0x86;
    pub const BAD_REGISTER: u8 = 0x87;
    pub const SET_FAILED: u8 = 0x88;
    pub const TOO_SMALL: u8 = 0x89;
}

impl Bios {
    /// The BIOS32 directory: EAX names a service, EBX, ECX and EDX answer base, length and entry.
    pub(crate) fn bios32<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        const PCI: u32 = u32::from_le_bytes(*b"$PCI");
        if c.ebx() & 0xff != 0 {
            c.set_al(0x81);
        } else if c.eax() == PCI {
            c.set_al(0);
            c.set_ebx(ROM_BASE);
            c.set_ecx(0x1_0000);
            c.set_edx(stubs::PCI_BIOS32.into());
        } else {
            c.set_al(0x80);
        }
        Flow::Done
    }

    /// The 32-bit entry.
    pub(crate) fn pci_bios32<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        self.pci_bios(c, true);
        Flow::Done
    }

    pub(crate) fn pci_bios<P: Platform>(&mut self, c: &mut Call<'_, P>, wide: bool) {
        let (bus, devfn, register) = (c.bh(), c.bl(), c.di());
        let code = match c.al() {
            0x01 => {
                // Mechanism 1, version 2.1, one bus.
                c.set_edx(u32::from_le_bytes(*b"PCI "));
                c.set_al(1);
                c.set_bx(0x0210);
                c.set_cl(0);
                code::OK
            }
            0x02 => {
                let wanted = u32::from(c.cx()) << 16 | u32::from(c.dx());
                if c.dx() == 0xffff { code::BAD_VENDOR } else { find(c, 0, u32::MAX, wanted) }
            }
            0x03 => {
                let wanted = c.ecx() << 8;
                find(c, 8, 0xffff_ff00, wanted)
            }
            0x08..=0x0a => {
                let width = 1u8 << (c.al() - 0x08);
                if register > 0xff || register & u16::from(width - 1) != 0 {
                    code::BAD_REGISTER
                } else {
                    let value = c.pci_read(bus, devfn, register as u8, width);
                    match width {
                        1 => c.set_cl(value as u8),
                        2 => c.set_cx(value as u16),
                        _ => c.set_ecx(value),
                    }
                    code::OK
                }
            }
            0x0b..=0x0d => {
                let width = 1u8 << (c.al() - 0x0b);
                if register > 0xff || register & u16::from(width - 1) != 0 {
                    code::BAD_REGISTER
                } else {
                    c.pci_write(bus, devfn, register as u8, width, c.ecx());
                    code::OK
                }
            }
            0x0e => routing(c, wide),
            0x0f => set_interrupt(c),
            _ => code::UNSUPPORTED,
        };
        c.set_ah(code);
        c.set_cf(code != code::OK);
    }
}

/// The SI-th function whose register has the wanted bits.
fn find<P: Platform>(c: &mut Call<'_, P>, register: u8, mask: u32, wanted: u32) -> u8 {
    let mut left = c.si();
    for devfn in functions(c) {
        if c.pci_read(0, devfn, register, 4) & mask != wanted & mask {
            continue;
        }
        if left == 0 {
            c.set_bx(devfn.into());
            return code::OK;
        }
        left -= 1;
    }
    code::NOT_FOUND
}

/// 0Eh: the routing table of `$PIR` to the buffer that ES:(E)DI describes: its size, and a far pointer.
fn routing<P: Platform>(c: &mut Call<'_, P>, wide: bool) -> u8 {
    let slots = pir::slots();
    let at = if wide { (c.cpu.es.base as u32).wrapping_add(c.edi()) } else { c.es(c.di()) };
    let room = c.read16(at);
    c.write16(at, slots.len() as u16);
    if usize::from(room) < slots.len() {
        return code::TOO_SMALL;
    }
    let to = if wide {
        // The selector's base is not known here; flat callers have 0.
        c.read32(at.wrapping_add(2))
    } else {
        let (offset, segment) = (c.read16(at.wrapping_add(2)), c.read16(at.wrapping_add(4)));
        (u32::from(segment) << 4) + u32::from(offset)
    };
    c.write(to, &slots);
    // No interrupt belongs to PCI alone.
    c.set_bx(0);
    code::OK
}

/// 0Fh: routes pin CL (0Ah to 0Dh) of BX to interrupt CH, at the PIIX3, as level.
fn set_interrupt<P: Platform>(c: &mut Call<'_, P>) -> u8 {
    let (pin, line) = (c.cl(), c.ch());
    if !(0x0a..=0x0d).contains(&pin) || line > 15 || pir::ROUTABLE >> line & 1 == 0 {
        return code::SET_FAILED;
    }
    let link = 0x60 + crate::post::pci::pirq(c.bl() >> 3, pin - 9);
    if c.pci_read(0, 0x08, 0, 4) != 0x7000_8086 {
        return code::SET_FAILED;
    }
    c.pci_write(0, 0x08, link, 1, line.into());
    let port = 0x4d0 + u16::from(line >> 3);
    let levels = c.bus.port_in(port, 1);
    c.bus.port_out(port, 1, levels | 1 << (line & 7));
    code::OK
}
