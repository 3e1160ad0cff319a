//! The controller's saved state.

use super::regs::{PLAIN, cause, stat};
use super::tx::Context;
use super::{DescriptorRing, E1000, Phy, Transmit};
use crate::net::MAX_FRAME;
use crate::net::eeprom::{Eeprom, WORDS};
use crate::state::{LoadError, require};
use alloc::vec::Vec;
use arch::Nanos;

const VERSION: u32 = 1;

/// The saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the card of the same names")]
pub struct E1000State {
    pub version: u32,
    pub words: [u16; WORDS],
    /// CTRL, EECD, EERD, MDIC, ICR, IMS, ITR, RCTL, TCTL, IOADDR.
    pub registers: [u32; 10],
    pub plain: [u32; PLAIN.len()],
    pub statistics: [u32; stat::COUNT],
    pub multicast: [u32; 128],
    pub addresses: [u32; 32],
    pub vlans: [u32; 128],
    pub rings: [DescriptorRing; 2],
    pub eeprom: Eeprom,
    pub phy: Phy,
    pub cable: bool,
    pub sending: SavedTransmit,
    pub irq: bool,
    pub quiet_until: Nanos,
}

/// A packet that is being put together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the card of the same names")]
pub struct SavedTransmit {
    pub contexts: [Context; 2],
    pub packet: Vec<u8>,
    pub total: u32,
    pub segments: u16,
    /// Started, segmented, bad.
    pub flags: [bool; 3],
    pub sums: u8,
    pub legacy: Option<(u8, u8)>,
    pub tag: Option<[u8; 4]>,
}

impl Transmit {
    fn save(&self) -> SavedTransmit {
        let Transmit {
            contexts,
            packet,
            filled,
            total,
            segments,
            started,
            segmented,
            bad,
            sums,
            legacy,
            tag,
        } = self;
        SavedTransmit {
            contexts: *contexts,
            packet: packet[..usize::from(*filled)].to_vec(),
            total: *total,
            segments: *segments,
            flags: [*started, *segmented, *bad],
            sums: *sums,
            legacy: *legacy,
            tag: *tag,
        }
    }

    fn load(&mut self, state: &SavedTransmit) {
        let SavedTransmit { contexts, packet, total, segments, flags, sums, legacy, tag } = state;
        self.packet[..packet.len()].copy_from_slice(packet);
        (self.contexts, self.filled) = (*contexts, packet.len() as u16);
        (self.total, self.segments) = (*total, *segments);
        [self.started, self.segmented, self.bad] = *flags;
        (self.sums, self.legacy, self.tag) = (*sums, *legacy, *tag);
    }
}

impl SavedTransmit {
    fn check(&self) -> Result<(), LoadError> {
        let [started, segmented, bad] = self.flags;
        require(self.packet.len() <= MAX_FRAME - 4 && self.sums <= 3, "packet")?;
        require(started || (self.packet.is_empty() && !segmented && !bad), "packet")?;
        require(self.packet.len() <= self.total as usize, "packet")
    }
}

impl E1000 {
    /// The state.
    #[must_use]
    pub fn save(&self) -> E1000State {
        let E1000 {
            words,
            ctrl,
            eecd,
            eerd,
            mdic,
            icr,
            ims,
            itr,
            rctl,
            tctl,
            io_address,
            plain,
            statistics,
            multicast,
            addresses,
            vlans,
            receive,
            transmit,
            eeprom,
            phy,
            cable,
            sending,
            irq,
            quiet_until,
        } = self;
        E1000State {
            version: VERSION,
            words: *words,
            registers: [*ctrl, *eecd, *eerd, *mdic, *icr, *ims, *itr, *rctl, *tctl, *io_address],
            plain: *plain,
            statistics: *statistics,
            multicast: *multicast,
            addresses: *addresses,
            vlans: *vlans,
            rings: [*receive, *transmit],
            eeprom: *eeprom,
            phy: phy.clone(),
            cable: *cable,
            sending: sending.save(),
            irq: *irq,
            quiet_until: *quiet_until,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or what no card could hold. The card is then unchanged.
    pub fn load(&mut self, state: &E1000State) -> Result<(), LoadError> {
        if state.version != VERSION {
            return Err(LoadError::Version);
        }
        let [ctrl, eecd, eerd, mdic, icr, ims, itr, rctl, tctl, io_address] = state.registers;
        require((icr | ims) & !cause::ALL == 0, "interrupts")?;
        require(itr <= 0xFFFF, "itr")?;
        require(io_address < super::MEMORY_SIZE, "io_address")?;
        require(!state.irq || icr & ims != 0, "irq")?;
        for ring in &state.rings {
            let possible = ring.base & 15 == 0 && ring.length & !0xF_FF80 == 0;
            require(possible && ring.head <= 0xFFFF && ring.tail <= 0xFFFF, "ring")?;
        }
        state.eeprom.check()?;
        state.phy.check()?;
        state.sending.check()?;
        self.words = state.words;
        (self.ctrl, self.eecd, self.eerd, self.mdic) = (ctrl, eecd, eerd, mdic);
        (self.icr, self.ims, self.itr) = (icr, ims, itr);
        (self.rctl, self.tctl, self.io_address) = (rctl, tctl, io_address);
        (self.plain, self.statistics) = (state.plain, state.statistics);
        (self.multicast, self.addresses, self.vlans) =
            (state.multicast, state.addresses, state.vlans);
        [self.receive, self.transmit] = state.rings;
        (self.eeprom, self.phy, self.cable) = (state.eeprom, state.phy.clone(), state.cable);
        self.sending.load(&state.sending);
        (self.irq, self.quiet_until) = (state.irq, state.quiet_until);
        Ok(())
    }
}
