//! The Intel 82540EM gigabit Ethernet controller, 8086:100E. `regs` (offsets and bits), `phy`, `tx`
//! (descriptors, checksums, segmentation), `rx` (filters, descriptors), `state` (save and load).
//!
//! Left out: flow control, wake-up, loopback, SerDes, the packet buffer's own registers, receive checksums (every
//! frame says that its sum is not checked). Intel 317453, "SDM" below.

mod phy;
mod regs;
mod rx;
mod state;
#[cfg(test)]
mod tests;
mod tx;

use crate::net::eeprom::{Eeprom, WORDS};
use arch::Nanos;
use phy::Phy;
use regs::{PLAIN, Register, RingField, Side, ctrl, eecd, stat, status};

pub use regs::cause;
pub use state::E1000State;
pub use tx::Transmit;

/// PCI vendor and device.
pub const ID: (u16, u16) = (0x8086, 0x100E);
/// Bytes of the register region, BAR 0.
pub const MEMORY_SIZE: u32 = 0x2_0000;
/// Bytes of the I/O region, BAR 1.
pub const IO_SIZE: u16 = 64;
/// Bytes of a descriptor.
const DESCRIPTOR: u32 = 16;
/// Nanoseconds of ITR's unit.
const ITR_UNIT_NS: u64 = 256;

/// What a register write asks of the board.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum E1000Effect {
    /// Nothing but perhaps a change of [`E1000::irq`] and [`E1000::due`].
    Nothing,
    /// There are descriptors to send: call [`E1000::transmit`].
    Transmit,
    /// There may be room now: offer frames that [`E1000::receive`] had no room for.
    Room,
}

/// A ring of descriptors in guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorRing {
    base: u64,
    length: u32,
    head: u32,
    tail: u32,
}

impl DescriptorRing {
    fn count(&self) -> u32 {
        self.length / DESCRIPTOR
    }

    /// How many descriptors are the card's. A head or tail outside the ring gives it none.
    fn pending(&self) -> u32 {
        let count = self.count();
        if self.head >= count || self.tail >= count {
            return 0;
        }
        if self.tail >= self.head { self.tail - self.head } else { count - self.head + self.tail }
    }

    /// Where the descriptor at the head is.
    fn address(&self) -> u64 {
        self.base.wrapping_add(u64::from(self.head) * u64::from(DESCRIPTOR))
    }

    fn advance(&mut self) {
        self.head = if self.head + 1 >= self.count() { 0 } else { self.head + 1 };
    }

    fn read(&self, field: RingField) -> u32 {
        match field {
            RingField::BaseLow => self.base as u32,
            RingField::BaseHigh => (self.base >> 32) as u32,
            RingField::Length => self.length,
            RingField::Head => self.head,
            RingField::Tail => self.tail,
        }
    }

    fn write(&mut self, field: RingField, value: u32) {
        match field {
            RingField::BaseLow => self.base = self.base >> 32 << 32 | u64::from(value & !15),
            RingField::BaseHigh => self.base = u64::from(value) << 32 | self.base & 0xFFFF_FFFF,
            RingField::Length => self.length = value & 0xF_FF80,
            RingField::Head => self.head = value & 0xFFFF,
            RingField::Tail => self.tail = value & 0xFFFF,
        }
    }
}

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct E1000 {
    // Fixed
    words: [u16; WORDS],
    // Guest-visible
    ctrl: u32,
    eecd: u32,
    eerd: u32,
    mdic: u32,
    icr: u32,
    ims: u32,
    itr: u32,
    rctl: u32,
    tctl: u32,
    io_address: u32,
    plain: [u32; PLAIN.len()],
    statistics: [u32; stat::COUNT],
    multicast: [u32; 128],
    addresses: [u32; 32],
    vlans: [u32; 128],
    receive: DescriptorRing,
    transmit: DescriptorRing,
    eeprom: Eeprom,
    phy: Phy,
    cable: bool,
    sending: Transmit,
    irq: bool,
    /// No interrupt before this time: ITR.
    quiet_until: Nanos,
}

impl E1000 {
    /// A card with this address after power-on, its cable plugged.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> E1000 {
        let mut card = E1000 {
            words: eeprom_of(mac),
            ctrl: ctrl::RESET,
            eecd: 0,
            eerd: 0,
            mdic: 0,
            icr: 0,
            ims: 0,
            itr: 0,
            rctl: 0,
            tctl: 0,
            io_address: 0,
            plain: [0; PLAIN.len()],
            statistics: [0; stat::COUNT],
            multicast: [0; 128],
            addresses: [0; 32],
            vlans: [0; 128],
            receive: DescriptorRing::default(),
            transmit: DescriptorRing::default(),
            eeprom: Eeprom::default(),
            phy: Phy::new(),
            cable: true,
            sending: Transmit::new(),
            irq: false,
            quiet_until: Nanos::ZERO,
        };
        card.load_address();
        card
    }

    /// The address in its EEPROM.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        core::array::from_fn(|n| self.words[n / 2].to_le_bytes()[n % 2])
    }

    /// Power-on reset. The cable stays as it is.
    pub fn reset(&mut self) {
        self.software_reset();
        self.phy = Phy::new();
        (self.multicast, self.vlans) = ([0; 128], [0; 128]);
        (self.io_address, self.quiet_until) = (0, Nanos::ZERO);
    }

    /// SDM "Software Reset": all but the PHY, the multicast and VLAN tables and the cable.
    fn software_reset(&mut self) {
        let E1000 {
            words: _,
            ctrl,
            eecd,
            eerd,
            mdic,
            icr,
            ims,
            itr,
            rctl,
            tctl,
            io_address: _,
            plain,
            statistics,
            multicast: _,
            addresses: _,
            vlans: _,
            receive,
            transmit,
            eeprom,
            phy: _,
            cable: _,
            sending,
            irq,
            quiet_until: _,
        } = self;
        *ctrl = ctrl::RESET;
        for register in [eecd, eerd, mdic, icr, ims, itr, rctl, tctl] {
            *register = 0;
        }
        *plain = [0; PLAIN.len()];
        *statistics = [0; stat::COUNT];
        (*receive, *transmit) = (DescriptorRing::default(), DescriptorRing::default());
        *eeprom = Eeprom::default();
        sending.reset();
        *irq = false;
        self.load_address();
    }

    /// The EEPROM's address goes to RAL0 and RAH0 (SDM "EEPROM Auto-Read").
    fn load_address(&mut self) {
        let [a, b, c, d, e, f] = self.mac();
        self.addresses = [0; 32];
        self.addresses[0] = u32::from_le_bytes([a, b, c, d]);
        self.addresses[1] = u32::from_le_bytes([e, f, 0, 0x80]);
    }

    /// The interrupt pin.
    #[must_use]
    pub fn irq(&self) -> bool {
        self.irq
    }

    /// When [`E1000::advance`] is next to be called.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        (!self.irq && self.icr & self.ims != 0).then_some(self.quiet_until)
    }

    /// Lets time reach `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.settle(now);
    }

    /// Sets the pin: SDM "Interrupt Throttling Register" keeps its rises apart.
    fn settle(&mut self, now: Nanos) {
        if self.icr & self.ims == 0 {
            self.irq = false;
        } else if !self.irq && now >= self.quiet_until {
            self.irq = true;
            self.quiet_until = now + u64::from(self.itr) * ITR_UNIT_NS;
        }
    }

    fn raise(&mut self, causes: u32, now: Nanos) {
        self.icr |= causes & cause::ALL;
        self.settle(now);
    }

    /// Plugs the cable, or pulls it.
    pub fn set_cable(&mut self, plugged: bool, now: Nanos) {
        if self.cable != plugged {
            self.cable = plugged;
            self.raise(cause::LSC, now);
        }
    }

    /// Whether frames pass: cable plugged, and the driver wants the link.
    #[must_use]
    pub fn link(&self) -> bool {
        self.cable && self.ctrl & ctrl::SLU != 0
    }

    /// Reads the 32 bits at `offset` of the register region.
    pub fn read(&mut self, offset: u32, now: Nanos) -> u32 {
        match Register::at(offset) {
            Register::Ctrl => self.ctrl,
            Register::Status if self.link() => status::GIGABIT,
            Register::Status => status::GIGABIT & !status::LU,
            Register::Eecd => self.read_eecd(),
            Register::Eerd => self.eerd,
            Register::Mdic => self.mdic,
            Register::Icr => {
                let causes = self.icr;
                self.icr = 0;
                self.settle(now);
                causes
            }
            Register::Ics | Register::Imc | Register::None => 0,
            Register::Itr => self.itr,
            Register::Ims => self.ims,
            Register::Rctl => self.rctl,
            Register::Tctl => self.tctl,
            Register::Ring(Side::Receive, field) => self.receive.read(field),
            Register::Ring(Side::Transmit, field) => self.transmit.read(field),
            Register::Plain(n) => self.plain.get(n).copied().unwrap_or(0),
            // Reading clears (SDM "Statistics Registers").
            Register::Statistic(n) => self.statistics.get_mut(n).map_or(0, core::mem::take),
            Register::Multicast(n) => self.multicast.get(n).copied().unwrap_or(0),
            Register::Address(n) => self.addresses.get(n).copied().unwrap_or(0),
            Register::Vlan(n) => self.vlans.get(n).copied().unwrap_or(0),
        }
    }

    /// Writes the 32 bits at `offset` of the register region.
    pub fn write(&mut self, offset: u32, value: u32, now: Nanos) -> E1000Effect {
        let put = |table: &mut [u32], n: usize| {
            if let Some(place) = table.get_mut(n) {
                *place = value;
            }
        };
        match Register::at(offset) {
            Register::Ctrl => self.write_ctrl(value, now),
            Register::Eecd => self.write_eecd(value),
            Register::Eerd => self.write_eerd(value),
            Register::Mdic => self.write_mdic(value, now),
            Register::Icr => self.icr &= !value,
            Register::Itr => self.itr = value & 0xFFFF,
            Register::Ics => self.icr |= value & cause::ALL,
            Register::Ims => self.ims |= value & cause::ALL,
            Register::Imc => self.ims &= !value,
            Register::Rctl => {
                self.rctl = value;
                return E1000Effect::Room;
            }
            Register::Tctl => {
                self.tctl = value;
                return self.transmit_effect();
            }
            Register::Ring(Side::Receive, field) => {
                self.receive.write(field, value);
                if field == RingField::Tail {
                    return E1000Effect::Room;
                }
            }
            Register::Ring(Side::Transmit, field) => {
                self.transmit.write(field, value);
                if field == RingField::Tail {
                    return self.transmit_effect();
                }
            }
            Register::Plain(n) => put(&mut self.plain, n),
            Register::Multicast(n) => put(&mut self.multicast, n),
            Register::Address(n) => put(&mut self.addresses, n),
            Register::Vlan(n) => put(&mut self.vlans, n),
            Register::Status | Register::Statistic(_) | Register::None => {}
        }
        self.settle(now);
        E1000Effect::Nothing
    }

    fn transmit_effect(&self) -> E1000Effect {
        if self.can_transmit() { E1000Effect::Transmit } else { E1000Effect::Nothing }
    }

    /// Reads the 32 bits at `offset` of the I/O region. SDM "I/O-Mapped Internal Register Access".
    pub fn io_read(&mut self, offset: u8, now: Nanos) -> u32 {
        match offset & 0x3C {
            0 => self.io_address,
            4 => self.read(self.io_address, now),
            _ => 0,
        }
    }

    /// Writes the 32 bits at `offset` of the I/O region.
    pub fn io_write(&mut self, offset: u8, value: u32, now: Nanos) -> E1000Effect {
        match offset & 0x3C {
            0 => self.io_address = value & (MEMORY_SIZE - 1),
            4 => return self.write(self.io_address, value, now),
            _ => {}
        }
        E1000Effect::Nothing
    }

    fn write_ctrl(&mut self, value: u32, now: Nanos) {
        if value & ctrl::RST != 0 {
            return self.software_reset();
        }
        if value & ctrl::PHY_RST != 0 {
            self.phy = Phy::new();
        }
        let link = self.link();
        self.ctrl = value & !(ctrl::RST | ctrl::PHY_RST);
        if self.link() != link {
            self.raise(cause::LSC, now);
        }
    }

    fn read_eecd(&self) -> u32 {
        let granted = if self.eecd & eecd::REQ != 0 { eecd::GNT } else { 0 };
        let data = if self.eeprom.output(&self.words) { eecd::DO } else { 0 };
        self.eecd | eecd::PRES | granted | data
    }

    fn write_eecd(&mut self, value: u32) {
        self.eecd = value & eecd::WRITABLE;
        let pin = |bit| value & bit != 0;
        self.eeprom.set_pins(pin(eecd::CS), pin(eecd::SK), pin(eecd::DI));
    }

    /// SDM "EEPROM Read Register": start in bit 0, done in bit 4, address from bit 8, data from 16.
    fn write_eerd(&mut self, value: u32) {
        let word = self.words.get((value >> 8 & 0xFF) as usize).copied().unwrap_or(0);
        self.eerd = value & 0xFF00;
        if value & 1 != 0 {
            self.eerd |= u32::from(word) << 16 | 1 << 4;
        }
    }

    /// SDM "MDI Control Register": data, register, PHY 1, operation; ready in bit 28.
    fn write_mdic(&mut self, value: u32, now: Nanos) {
        const READY: u32 = 1 << 28;
        const ERROR: u32 = 1 << 30;
        let register = (value >> 16 & 31) as u8;
        let (phy, operation) = (value >> 21 & 31, value >> 26 & 3);
        self.mdic = value & 0x2FFF_FFFF | READY;
        match (phy, operation) {
            (1, 1) => {
                if self.phy.write(register, value as u16) {
                    self.icr |= cause::LSC;
                }
            }
            (1, 2) => {
                let data = self.phy.read(register, self.cable);
                self.mdic = self.mdic & !0xFFFF | u32::from(data);
            }
            _ => self.mdic |= ERROR,
        }
        if value & 1 << 29 != 0 {
            self.raise(cause::MDAC, now);
        }
    }

    fn count(&mut self, n: usize, by: u32) {
        self.statistics[n] = self.statistics[n].saturating_add(by);
    }

    /// Counts octets in a pair of registers of 64 bits.
    fn count_octets(&mut self, n: usize, by: usize) {
        let sum = u64::from(self.statistics[n + 1]) << 32 | u64::from(self.statistics[n]);
        let sum = sum.wrapping_add(by as u64);
        (self.statistics[n], self.statistics[n + 1]) = (sum as u32, (sum >> 32) as u32);
    }
}

/// The EEPROM's words. SDM "EEPROM Address Map": address, then identity; the sum is BABAh.
fn eeprom_of(mac: [u8; 6]) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    for (n, pair) in mac.chunks_exact(2).enumerate() {
        words[n] = u16::from_le_bytes([pair[0], pair[1]]);
    }
    // Compatibility, OEM words, board number, init control 1, subsystem, vendor, device.
    let fixed = [0, 0, 0xFFFF, 0xFFFF, 0xFFFF, 0x3000, 0x1000, 0x6403, 0x001E, ID.0, ID.1, ID.0];
    words[3..15].copy_from_slice(&fixed);
    words[15] = 0x3040;
    words[33] = 0x0280;
    words[47] = 0x0602;
    let sum = words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word));
    words[63] = 0xBABAu16.wrapping_sub(sum);
    words
}
