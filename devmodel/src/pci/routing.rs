//! What the bridges decide for the board: interrupt routing and what the first megabyte shows.

use super::{Bus, COMMAND, DevFn, Kind, MAX_FUNCTIONS, PIRQ_OFF, PIRQ_ROUTE, SMRAM, SMRAM_OPEN};
use super::{STATUS, STATUS_INTX, config::INTERRUPT_PIN};

/// Where reads and writes of a segment between C0000h and FFFFFh go: PAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Reads come from RAM, not from ROM.
    pub read_ram: bool,
    /// Writes go to RAM; otherwise nowhere.
    pub write_ram: bool,
}

/// The interrupts that a PIRQ can be routed to. PIIX3 "PIRQRC[A:D]".
const ROUTABLE: u16 = 0xDEF8;

/// The PIRQ (0 is A) that pin `pin` (1 is INTA) of a device drives: each slot is turned by one,
/// device 1 not at all. The ACPI and MP tables must say the same.
#[must_use]
pub const fn pirq_of(device: u8, pin: u8) -> u8 {
    device.wrapping_sub(1).wrapping_add(pin.wrapping_sub(1)) & 3
}

impl Bus {
    /// Tells whether a function asserts its interrupt pin. A function without a pin has no effect.
    pub fn set_intx(&mut self, at: DevFn, asserted: bool) {
        let n = usize::from(self.slots[usize::from(at.0)]);
        let Some(function) = self.functions.get_mut(n) else { return };
        if function.bytes[INTERRUPT_PIN] == 0 {
            return;
        }
        let (bit, status) = (1 << n, &mut function.bytes[STATUS]);
        if asserted {
            self.intx |= bit;
            *status |= STATUS_INTX;
        } else {
            self.intx &= !bit;
            *status &= !STATUS_INTX;
        }
    }

    /// Whether PIRQ `n` (0 is A) is asserted.
    #[must_use]
    pub fn pirq(&self, n: usize) -> bool {
        self.pirqs.get(n).is_some_and(|reach| reach & self.intx != 0)
    }

    /// The ISA interrupts that PIRQs assert, one bit each; they go to the 8259A pair and to the
    /// I/O APIC's pins of the same numbers. They are levels.
    #[inline]
    #[must_use]
    pub fn isa_irqs(&self) -> u16 {
        if self.intx == 0 {
            return 0;
        }
        let mut irqs = 0;
        for n in 0..4 {
            if self.pirq(n) {
                irqs |= self.routes[n];
            }
        }
        irqs
    }

    /// The ISA interrupt of PIRQ `n` (0 is A), if it is routed.
    #[must_use]
    pub fn pirq_irq(&self, n: usize) -> Option<u8> {
        let irq = self.routes.get(n)?.trailing_zeros();
        (irq < 16).then_some(irq as u8)
    }

    /// What the segment that holds `address` shows, from C0000h to FFFFFh in pieces of 16 KiB and,
    /// from F0000h, of 64 KiB. Outside there is no shadow: `None`. PMC "PAM".
    #[must_use]
    pub fn shadow(&self, address: u64) -> Option<Shadow> {
        let (register, shift) = match address {
            0xC_0000..=0xE_FFFF => {
                let piece = ((address - 0xC_0000) >> 14) as u8;
                (0x5A + (piece >> 1), 4 * (piece & 1))
            }
            0xF_0000..=0xF_FFFF => (0x59, 4),
            _ => return None,
        };
        let (_, bridge) = self.find(Kind::I440fx)?;
        let bits = bridge.byte(register) >> shift;
        Some(Shadow { read_ram: bits & 1 != 0, write_ram: bits & 2 != 0 })
    }

    /// Whether A0000h to BFFFFh shows RAM instead of the display. PMC "SMRAM", D_OPEN.
    #[must_use]
    pub fn smram_open(&self) -> bool {
        // D_OPEN counts only with G_SMRAME.
        self.find(Kind::I440fx).is_some_and(|(_, bridge)| {
            bridge.byte(SMRAM as u8) & (SMRAM_OPEN | 8) == SMRAM_OPEN | 8
        })
    }

    /// Whether the IDE channel (0 or 1) decodes its ports: IDETIM bit 15 and the command register.
    #[must_use]
    pub fn ide_decodes(&self, channel: u8) -> bool {
        self.find(Kind::Piix3Ide).is_some_and(|(_, ide)| {
            let enabled = ide.byte(0x41 + 2 * (channel & 1)) & 0x80 != 0;
            enabled && ide.bytes[COMMAND] & 1 != 0
        })
    }

    /// The first port of the power-management registers, while they are decoded. PIIX4 "PMBA" and
    /// "PMREGMISC".
    #[must_use]
    pub fn pm_base(&self) -> Option<u16> {
        let (_, pm) = self.find(Kind::Piix4Pm)?;
        (pm.byte(0x80) & 1 != 0).then(|| pm.word(0x40) & 0xFFC0)
    }

    /// The first port of the SMBus registers, while they are decoded. PIIX4 "SMBBA", "SMBHSTCFG".
    #[must_use]
    pub fn smbus_base(&self) -> Option<u16> {
        let (_, pm) = self.find(Kind::Piix4Pm)?;
        (pm.byte(0xD2) & 1 != 0).then(|| pm.word(0x90) & 0xFFF0)
    }

    /// Works out which functions reach which PIRQ, and which interrupt each PIRQ reaches.
    pub(super) fn reroute(&mut self) {
        self.routes = match self.find(Kind::Piix3Isa) {
            None => [0; 4],
            Some((_, isa)) => [0, 1, 2, 3].map(|n| match isa.bytes[PIRQ_ROUTE + n] {
                route if route & PIRQ_OFF != 0 => 0,
                route => ROUTABLE & 1 << (route & 15),
            }),
        };
        let mut pirqs = [0; 4];
        for n in 0..self.count.min(MAX_FUNCTIONS) {
            let function = &self.functions[n];
            let pin = function.bytes[INTERRUPT_PIN];
            if pin != 0 && function.drives_intx() {
                pirqs[usize::from(pirq_of(self.places[n].device(), pin))] |= 1 << n;
            }
        }
        self.pirqs = pirqs;
    }
}
