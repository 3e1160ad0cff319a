//! The controller's saved state.

use super::{CONFIG, PLAIN, Rtl8139, TCR_WRITABLE, cause, command, rcr, tsd};
use crate::net::eeprom::{Eeprom, WORDS};
use crate::state::{LoadError, require};

const VERSION: u32 = 1;

/// The saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the card of the same names")]
pub struct Rtl8139State {
    pub version: u32,
    pub words: [u16; WORDS],
    pub address: [u8; 6],
    pub multicast: [u8; 8],
    pub send_status: [u32; 4],
    pub send_address: [u32; 4],
    pub next: u8,
    pub buffer: u32,
    pub command: u8,
    pub read_at: u16,
    pub write_at: u16,
    pub imr: u16,
    pub isr: u16,
    pub tcr: u32,
    pub rcr: u32,
    pub missed: u32,
    pub mode: u8,
    pub eeprom: Eeprom,
    pub config: [u8; 4],
    pub plain: [u16; 4],
    pub cable: bool,
}

impl Rtl8139 {
    /// The state.
    #[must_use]
    pub fn save(&self) -> Rtl8139State {
        let Rtl8139 {
            words,
            address,
            multicast,
            send_status,
            send_address,
            next,
            buffer,
            command,
            read_at,
            write_at,
            imr,
            isr,
            tcr,
            rcr,
            missed,
            mode,
            eeprom,
            config,
            plain,
            cable,
        } = *self;
        Rtl8139State {
            version: VERSION,
            words,
            address,
            multicast,
            send_status,
            send_address,
            next,
            buffer,
            command,
            read_at,
            write_at,
            imr,
            isr,
            tcr,
            rcr,
            missed,
            mode,
            eeprom,
            config,
            plain,
            cable,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or what no card could hold. The card is then unchanged.
    pub fn load(&mut self, state: &Rtl8139State) -> Result<(), LoadError> {
        let Rtl8139State {
            version,
            words,
            address,
            multicast,
            send_status,
            send_address,
            next,
            buffer,
            command,
            read_at,
            write_at,
            imr,
            isr,
            tcr,
            rcr,
            missed,
            mode,
            eeprom,
            config,
            plain,
            cable,
        } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        let bits = tsd::WRITABLE | tsd::OWN | tsd::TOK | tsd::TABT;
        require(send_status.iter().all(|status| status & !bits == 0), "send_status")?;
        require(next < 4, "next")?;
        require(command & !(command::TE | command::RE) == 0, "command")?;
        require((imr | isr) & !cause::ALL == 0, "interrupts")?;
        require(tcr & !TCR_WRITABLE == 0 && rcr & !rcr::WRITABLE == 0, "configuration")?;
        require(missed <= 0xFF_FFFF, "missed")?;
        require(mode & !0xCE == 0, "mode")?;
        eeprom.check()?;
        for (value, (_, writable, reset)) in config.iter().zip(CONFIG) {
            require((value ^ reset) & !writable == 0, "config")?;
        }
        for (value, (_, writable, reset)) in plain.iter().zip(PLAIN) {
            require((value ^ reset) & !writable == 0, "plain")?;
        }
        *self = Rtl8139 {
            words,
            address,
            multicast,
            send_status,
            send_address,
            next,
            buffer,
            command,
            read_at,
            write_at,
            imr,
            isr,
            tcr,
            rcr,
            missed,
            mode,
            eeprom,
            config,
            plain,
            cable,
        };
        Ok(())
    }
}
