//! The Realtek RTL8139C fast Ethernet controller, 10EC:8139: four transmit descriptors, a receive ring.
//! `state` has save and load.
//!
//! Left out: the C+ mode's descriptors, the timer, loopback, wake-up, early interrupts, writing the EEPROM. Realtek
//! "RTL8139C(L) Single-Chip Fast Ethernet Controller", "datasheet" below.

mod state;
#[cfg(test)]
mod tests;

use crate::net::eeprom::{Eeprom, WORDS};
use crate::net::{
    CHECK_SEQUENCE, HEADER, MIN_FRAME, Memory, Received, STANDARD_FRAME, destination, hash_of,
    is_group,
};

pub use state::Rtl8139State;

/// PCI vendor and device.
pub const ID: (u16, u16) = (0x10EC, 0x8139);
/// Bytes of both register regions, BARs 0 (ports) and 1 (memory).
pub const SIZE: u16 = 256;

/// Command register.
mod command {
    pub const BUFE: u8 = 1;
    pub const TE: u8 = 4;
    pub const RE: u8 = 8;
    pub const RST: u8 = 0x10;
}

/// Interrupt causes, ISR and IMR.
pub mod cause {
    /// A frame was received.
    pub const ROK: u16 = 1;
    /// A frame was sent.
    pub const TOK: u16 = 4;
    /// A frame could not be sent.
    pub const TER: u16 = 8;
    /// The link changed.
    pub const LINK: u16 = 0x20;
    /// All that there are.
    pub const ALL: u16 = 0xE07F;
}

/// Transmit status.
mod tsd {
    pub const SIZE: u32 = 0x1FFF;
    pub const OWN: u32 = 1 << 13;
    pub const TOK: u32 = 1 << 15;
    pub const TABT: u32 = 1 << 30;
    pub const WRITABLE: u32 = 0x003F_1FFF;
}

/// Receive configuration.
mod rcr {
    pub const AAP: u32 = 1;
    pub const APM: u32 = 2;
    pub const AM: u32 = 4;
    pub const AB: u32 = 8;
    pub const WRAP: u32 = 0x80;
    pub const WRITABLE: u32 = 0x0F03_FFFF;
}

/// Longest frame that a descriptor sends (datasheet "Transmit Status Registers": 1792 bytes).
const MOST_SENT: usize = 1792;
/// TCR's hardware version: an RTL8139C.
const VERSION: u32 = 0x7400_0000;
const TCR_WRITABLE: u32 = 0x0306_07F1;

/// Offsets with a meaning here.
mod reg {
    pub const MAR: usize = 0x08;
    pub const TSD: usize = 0x10;
    pub const TSAD: usize = 0x20;
    pub const RBSTART: usize = 0x30;
    pub const CR: usize = 0x37;
    pub const CAPR: usize = 0x38;
    pub const CBR: usize = 0x3A;
    pub const IMR: usize = 0x3C;
    pub const ISR: usize = 0x3E;
    pub const TCR: usize = 0x40;
    pub const RCR: usize = 0x44;
    pub const MPC: usize = 0x4C;
    pub const EE9346: usize = 0x50;
    pub const CONFIG0: usize = 0x51;
    pub const CONFIG1: usize = 0x52;
    pub const CONFIG3: usize = 0x59;
    pub const CONFIG4: usize = 0x5A;
    pub const MULINT: usize = 0x5C;
    pub const TSAD_ALL: usize = 0x60;
    pub const BMCR: usize = 0x62;
    pub const BMSR: usize = 0x64;
    pub const ANAR: usize = 0x66;
    pub const CSCR: usize = 0x74;
    pub const CONFIG5: usize = 0xD8;
}

/// What a register write asks of the board.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtl8139Effect {
    /// Nothing but perhaps a change of [`Rtl8139::irq`].
    Nothing,
    /// There is something to send: call [`Rtl8139::transmit`].
    Transmit,
    /// There may be room now: offer frames that [`Rtl8139::receive_frame`] had no room for.
    Room,
}

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtl8139 {
    // Fixed
    words: [u16; WORDS],
    // Guest-visible
    address: [u8; 6],
    multicast: [u8; 8],
    send_status: [u32; 4],
    send_address: [u32; 4],
    /// The descriptor that is sent next.
    next: u8,
    buffer: u32,
    command: u8,
    /// CAPR, CBR.
    read_at: u16,
    write_at: u16,
    imr: u16,
    isr: u16,
    tcr: u32,
    rcr: u32,
    missed: u32,
    /// 9346CR's mode.
    mode: u8,
    eeprom: Eeprom,
    /// CONFIG1, 3, 4, 5.
    config: [u8; 4],
    /// MULINT, BMCR, ANAR, CSCR.
    plain: [u16; 4],
    cable: bool,
}

/// Registers that only keep what is written: offset, writable bits, reset value.
const PLAIN: [(usize, u16, u16); 4] = [
    (reg::MULINT, 0x0FFF, 0),
    (reg::BMCR, 0x3100, 0x3100),
    (reg::ANAR, 0x2DE0, 0x01E0),
    (reg::CSCR, 0x8007, 0),
];
/// Configuration registers: offset, writable bits, reset value.
const CONFIG: [(usize, u8, u8); 4] = [
    (reg::CONFIG1, 0xF3, 0x0C),
    (reg::CONFIG3, 0x78, 0x01),
    (reg::CONFIG4, 0xF6, 0),
    (reg::CONFIG5, 0x7F, 0),
];

impl Rtl8139 {
    /// A card with this address after power-on, its cable plugged.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> Rtl8139 {
        Rtl8139 {
            words: eeprom_of(mac),
            address: mac,
            multicast: [0; 8],
            send_status: [tsd::OWN; 4],
            send_address: [0; 4],
            next: 0,
            buffer: 0,
            command: 0,
            read_at: 0xFFF0,
            write_at: 0,
            imr: 0,
            isr: 0,
            tcr: 0,
            rcr: 0,
            missed: 0,
            mode: 0,
            eeprom: Eeprom::default(),
            config: CONFIG.map(|(_, _, reset)| reset),
            plain: PLAIN.map(|(_, _, reset)| reset),
            cable: true,
        }
    }

    /// The address in its EEPROM.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        core::array::from_fn(|n| self.words[7 + n / 2].to_le_bytes()[n % 2])
    }

    /// Power-on reset. The cable stays as it is.
    pub fn reset(&mut self) {
        let cable = self.cable;
        *self = Rtl8139::new(self.mac());
        self.cable = cable;
    }

    /// Datasheet "Command Register", RST: all but the address, the EEPROM's pins and the configuration.
    fn software_reset(&mut self) {
        let Rtl8139 { address, multicast, mode, eeprom, config, plain, cable, .. } = *self;
        *self = Rtl8139 {
            address,
            multicast,
            mode,
            eeprom,
            config,
            plain,
            cable,
            ..Rtl8139::new(self.mac())
        };
    }

    /// The interrupt pin.
    #[must_use]
    pub fn irq(&self) -> bool {
        self.isr & self.imr != 0
    }

    /// Plugs the cable, or pulls it.
    pub fn set_cable(&mut self, plugged: bool) {
        if self.cable != plugged {
            self.cable = plugged;
            self.isr |= cause::LINK;
        }
    }

    /// Reads `width` (1, 2 or 4) bytes at `offset`.
    #[must_use]
    pub fn read(&self, offset: u8, width: u8) -> u32 {
        (0..width.min(4)).fold(0, |value, n| {
            let byte = offset.checked_add(n).map_or(0xFF, |at| self.byte(at.into()));
            value | u32::from(byte) << (8 * n)
        })
    }

    fn byte(&self, at: usize) -> u8 {
        let word = |value: u16, start: usize| (value >> (8 * (at - start))) as u8;
        let dword = |value: u32, start: usize| (value >> (8 * ((at - start) & 3))) as u8;
        match at {
            0..6 => self.address[at],
            reg::MAR..0x10 => self.multicast[at - reg::MAR],
            reg::TSD..0x20 => dword(self.send_status[(at - reg::TSD) / 4], reg::TSD),
            reg::TSAD..0x30 => dword(self.send_address[(at - reg::TSAD) / 4], reg::TSAD),
            reg::RBSTART..0x34 => dword(self.buffer, reg::RBSTART),
            reg::CR if self.unread() == 0 => self.command | command::BUFE,
            reg::CR => self.command,
            reg::CAPR..0x3A => word(self.read_at, reg::CAPR),
            reg::CBR..0x3C => word(self.write_at, reg::CBR),
            reg::IMR..0x3E => word(self.imr, reg::IMR),
            reg::ISR..0x40 => word(self.isr, reg::ISR),
            reg::TCR..0x44 => dword(self.tcr | VERSION, reg::TCR),
            reg::RCR..0x48 => dword(self.rcr, reg::RCR),
            reg::MPC..=0x4F => dword(self.missed, reg::MPC),
            reg::EE9346 => self.mode & 0xFE | u8::from(self.eeprom.output(&self.words)),
            reg::CONFIG0 => 0,
            // Media status: link is shown inverted; 100 Mb/s.
            0x58 => u8::from(!self.cable) << 2,
            // The chip's revision ID.
            0x5E => 0x10,
            reg::TSAD_ALL..0x62 => word(self.all_status(), reg::TSAD_ALL),
            reg::BMSR..0x66 => word(if self.cable { 0x782D } else { 0x7809 }, reg::BMSR),
            // The partner can do everything.
            0x68 => 0xE1,
            0x69 => {
                if self.cable {
                    0x45
                } else {
                    0
                }
            }
            _ => {
                if let Some(n) = CONFIG.iter().position(|(offset, ..)| *offset == at) {
                    return self.config[n];
                }
                let plain = PLAIN.iter().position(|(offset, ..)| at & !1 == *offset);
                plain.map_or(0, |n| word(self.plain[n], at & !1))
            }
        }
    }

    /// TSAD: OWN, abort and TOK of the four descriptors in one word.
    fn all_status(&self) -> u16 {
        let bit = |value: u32, which: u32, to: usize| u16::from(value & which != 0) << to;
        self.send_status.iter().enumerate().fold(0, |all, (n, status)| {
            let own = bit(*status, tsd::OWN, n) | bit(*status, tsd::TABT, 4 + n);
            all | own | bit(*status, tsd::TOK, 12 + n)
        })
    }

    /// Writes `width` (1, 2 or 4) bytes at `offset`.
    pub fn write(&mut self, offset: u8, width: u8, value: u32) -> Rtl8139Effect {
        let at = usize::from(offset);
        if (reg::TSD..reg::TSAD).contains(&at) {
            // The datasheet has these only as dwords: a byte of them must not start anything.
            if width == 4 && at & 3 == 0 {
                return self.write_status((at - reg::TSD) / 4, value);
            }
            return Rtl8139Effect::Nothing;
        }
        let (mut effect, was) = (Rtl8139Effect::Nothing, self.command);
        for n in 0..width.min(4) {
            if let Some(place) = offset.checked_add(n) {
                self.write_byte(place.into(), (value >> (8 * n)) as u8);
            }
            match at + usize::from(n) {
                0x39 | reg::RCR => effect = Rtl8139Effect::Room,
                reg::CR if self.can_transmit() => effect = Rtl8139Effect::Transmit,
                reg::CR if self.command & !was & command::RE != 0 => effect = Rtl8139Effect::Room,
                _ => {}
            }
        }
        effect
    }

    fn write_byte(&mut self, at: usize, value: u8) {
        let word = |old: u16, start: usize, writable: u16| {
            let shift = 8 * (at - start);
            let bits = writable & 0xFF << shift;
            old & !bits | u16::from(value) << shift & bits
        };
        let dword = |old: u32, start: usize, writable: u32| {
            let shift = 8 * ((at - start) & 3);
            let bits = writable & 0xFF << shift;
            old & !bits | u32::from(value) << shift & bits
        };
        let open = self.mode & 0xC0 == 0xC0;
        match at {
            0..6 if open => self.address[at] = value,
            reg::MAR..0x10 => self.multicast[at - reg::MAR] = value,
            reg::TSAD..0x30 => {
                let place = &mut self.send_address[(at - reg::TSAD) / 4];
                *place = dword(*place, reg::TSAD, u32::MAX);
            }
            reg::RBSTART..0x34 => {
                self.buffer = dword(self.buffer, reg::RBSTART, u32::MAX);
                self.write_at = 0;
            }
            reg::CR => self.write_command(value),
            reg::CAPR..0x3A => self.read_at = word(self.read_at, reg::CAPR, u16::MAX),
            reg::IMR..0x3E => self.imr = word(self.imr, reg::IMR, cause::ALL),
            reg::ISR..0x40 => self.isr &= !word(0, reg::ISR, u16::MAX),
            reg::TCR..0x44 => self.tcr = dword(self.tcr, reg::TCR, TCR_WRITABLE),
            reg::RCR..0x48 => self.rcr = dword(self.rcr, reg::RCR, rcr::WRITABLE),
            reg::MPC..=0x4F => self.missed = 0,
            reg::EE9346 => {
                self.mode = value & 0xCE;
                let programming = value & 0xC0 == 0x80;
                let pin = |bit| programming && value & bit != 0;
                self.eeprom.set_pins(pin(8), pin(4), pin(2));
                if value & 0xC0 == 0x40 {
                    // Datasheet "9346CR", auto-load: it ends at once.
                    (self.address, self.mode) = (self.mac(), 0);
                }
            }
            _ => {
                let config = CONFIG.iter().position(|(offset, ..)| *offset == at);
                if let (Some(n), true) = (config, open) {
                    let writable = CONFIG[n].1;
                    self.config[n] = self.config[n] & !writable | value & writable;
                }
                if let Some(n) = PLAIN.iter().position(|(offset, ..)| at & !1 == *offset) {
                    self.plain[n] = word(self.plain[n], at & !1, PLAIN[n].1);
                }
            }
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & command::RST != 0 {
            return self.software_reset();
        }
        let old = self.command;
        self.command = value & (command::TE | command::RE);
        if self.command & command::TE == 0 {
            self.next = 0;
        }
        if self.command & !old & command::RE != 0 {
            // The ring begins anew with the receiver.
            self.write_at = 0;
        }
    }

    fn write_status(&mut self, n: usize, value: u32) -> Rtl8139Effect {
        let Some(status) = self.send_status.get_mut(n) else { return Rtl8139Effect::Nothing };
        if *status & tsd::OWN == 0 {
            // It is the card's already.
            return Rtl8139Effect::Nothing;
        }
        *status = value & (tsd::WRITABLE | tsd::OWN);
        if self.can_transmit() { Rtl8139Effect::Transmit } else { Rtl8139Effect::Nothing }
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn can_transmit(&self) -> bool {
        let status = self.send_status[usize::from(self.next & 3)];
        self.command & command::TE != 0 && status & tsd::OWN == 0
    }

    /// Sends what the driver has given, in order: at most four frames.
    pub fn transmit<M: Memory>(&mut self, memory: &M, send: &mut dyn FnMut(&[u8])) {
        for _ in 0..4 {
            if !self.can_transmit() {
                return;
            }
            let n = usize::from(self.next & 3);
            let size = (self.send_status[n] & tsd::SIZE) as usize;
            let mut frame = [0; MOST_SENT];
            let good = frame.get_mut(..size).is_some_and(|frame| {
                size >= HEADER && memory.read(self.send_address[n].into(), frame)
            });
            self.send_status[n] |= tsd::OWN;
            if good {
                self.send_status[n] |= tsd::TOK;
                self.isr |= cause::TOK;
                if self.cable {
                    send(&frame[..size]);
                }
            } else {
                self.send_status[n] |= tsd::TABT;
                self.isr |= cause::TER;
            }
            self.next = (self.next + 1) & 3;
        }
    }

    /// Bytes of the receive ring.
    fn ring(&self) -> u32 {
        8192 << (self.rcr >> 11 & 3)
    }

    /// Bytes that the driver has not read. CAPR is 16 behind where it reads.
    fn unread(&self) -> u32 {
        let read = u32::from(self.read_at.wrapping_add(16)) % self.ring();
        (u32::from(self.write_at) + self.ring() - read) % self.ring()
    }

    /// A frame comes from the wire, without check sequence. In the ring its check sequence is zeros.
    pub fn receive_frame<M: Memory>(&mut self, memory: &M, frame: &[u8]) -> Received {
        let Some(to) = destination(frame) else { return Received::Unwanted };
        let kind = self.kind(&to);
        let tag = 4;
        if self.command & command::RE == 0
            || !self.cable
            || frame.len() < HEADER
            || frame.len() > STANDARD_FRAME + tag
        {
            return Received::Unwanted;
        }
        let Some(kind) = kind else { return Received::Unwanted };
        let size = frame.len().max(MIN_FRAME) + CHECK_SEQUENCE;
        let taken = (4 + size).next_multiple_of(4) as u32;
        // A ring that is quite full would look empty.
        if self.unread() + taken + 4 > self.ring() {
            return Received::NoRoom;
        }
        let status = (1 | kind).to_le_bytes();
        let length = (size as u16).to_le_bytes();
        let at = u32::from(self.write_at);
        self.put(memory, at, &[status[0], status[1], length[0], length[1]]);
        self.put(memory, at + 4, frame);
        let zeros = [0; MIN_FRAME + CHECK_SEQUENCE];
        let fill = size - frame.len();
        self.put(memory, at + 4 + frame.len() as u32, &zeros[..fill]);
        self.write_at = ((at + taken) % self.ring()) as u16;
        self.isr |= cause::ROK;
        Received::Taken
    }

    /// A frame that waited too long for room was dropped.
    pub fn missed(&mut self) {
        self.missed = self.missed.wrapping_add(1) & 0xFF_FFFF;
    }

    /// Writes into the ring. With WRAP set a frame goes on behind the ring's end (datasheet "Receive
    /// Configuration Register"). What is not RAM is lost.
    fn put<M: Memory>(&self, memory: &M, at: u32, bytes: &[u8]) {
        let ring = self.ring();
        let address = |at: u32| u64::from(self.buffer) + u64::from(at);
        if at >= ring && self.rcr & rcr::WRAP == 0 {
            memory.write(address(at - ring), bytes);
            return;
        }
        let room = if self.rcr & rcr::WRAP != 0 { usize::MAX } else { (ring - at) as usize };
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        memory.write(address(at), now);
        if !later.is_empty() {
            memory.write(address(0), later);
        }
    }

    /// The status bit by which a destination is received (own, broadcast, group), or `None`.
    fn kind(&self, to: &[u8; 6]) -> Option<u16> {
        const BAR: u16 = 1 << 13;
        const PAM: u16 = 1 << 14;
        const MAR: u16 = 1 << 15;
        let on = |bit| self.rcr & bit != 0;
        if *to == [0xFF; 6] {
            return (on(rcr::AB) || on(rcr::AAP)).then_some(BAR);
        }
        if is_group(to) {
            let hash = hash_of(to);
            let listed = self.multicast[usize::from(hash >> 3)] >> (hash & 7) & 1 != 0;
            return ((on(rcr::AM) && listed) || on(rcr::AAP)).then_some(MAR);
        }
        if *to == self.address {
            return (on(rcr::APM) || on(rcr::AAP)).then_some(PAM);
        }
        on(rcr::AAP).then_some(0)
    }
}

/// The EEPROM's words: signature, PCI IDs, and the address from word 7. Datasheet "EEPROM (93C46) Contents".
fn eeprom_of(mac: [u8; 6]) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    words[..5].copy_from_slice(&[0x8129, ID.0, ID.1, ID.0, ID.1]);
    for (n, pair) in mac.chunks_exact(2).enumerate() {
        words[7 + n] = u16::from_le_bytes([pair[0], pair[1]]);
    }
    words
}
