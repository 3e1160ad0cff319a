//! The 8042 keyboard controller of a PS/2: two device ports, A20, the reset line, translation.
//!
//! A write that goes on to a device is returned as an effect; a device's byte comes in by
//! [`Kbc::receive`] when [`Kbc::accepts`] it. `ps2.rs` ties it to keyboard and mouse, with the time that a
//! byte takes on the wire. Commands as in the IBM PS/2 Hardware Interface Technical Reference,
//! "Keyboard and Auxiliary Device Controller".

use crate::state::{LoadError, require};

#[cfg(test)]
mod tests;
mod translation;

pub(crate) use translation::set1_of_set2;

const STATUS_OBF: u8 = 0x01;
const STATUS_SYS: u8 = 0x04;
const STATUS_A2: u8 = 0x08;
const STATUS_NO_LOCK: u8 = 0x10;
const STATUS_MOBF: u8 = 0x20;

const CONFIG_IRQ1: u8 = 0x01;
const CONFIG_IRQ12: u8 = 0x02;
const CONFIG_SYS: u8 = 0x04;
const CONFIG_NO_KEYBOARD: u8 = 0x10;
const CONFIG_NO_MOUSE: u8 = 0x20;
const CONFIG_TRANSLATE: u8 = 0x40;

/// Where a byte in the output buffer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The controller itself; shares IRQ1 with the keyboard.
    Controller,
    /// The first port.
    Keyboard,
    /// The auxiliary port.
    Mouse,
}

/// What a write asks of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum KbcEffect {
    /// A byte for the keyboard.
    ToKeyboard(u8),
    /// A byte for the mouse.
    ToMouse(u8),
    /// The reset line to the CPU was pulsed.
    Init,
}

/// What the next byte written to port 60h is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// A byte for the keyboard.
    ToKeyboard,
    /// Byte n of the controller's RAM; 0 is the command byte.
    Ram(u8),
    /// The output port (D1h).
    OutputPort,
    /// A byte to come back as if from the keyboard (D2h).
    KeyboardBuffer,
    /// A byte to come back as if from the mouse (D3h).
    MouseBuffer,
    /// A byte for the mouse (D4h).
    ToMouse,
}

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kbc {
    // Guest-visible
    /// The command byte, RAM byte 0.
    config: u8,
    ram: [u8; 32],
    /// The output buffer; after a read it still shows its last byte.
    data: u8,
    full: Option<Source>,
    /// The controller's answer, while a device's byte is still unread.
    reply: Option<u8>,
    /// Status bit 3: the last write went to port 64h.
    last_was_command: bool,
    expects: Expects,
    a20: bool,
    /// A translated F0h was swallowed: the next code is a release.
    release: bool,
}

impl Default for Kbc {
    fn default() -> Self {
        Self::new()
    }
}

impl Kbc {
    /// The controller as a BIOS finds it: both ports and interrupts on, translation on, A20 open.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            config: CONFIG_IRQ1 | CONFIG_IRQ12 | CONFIG_TRANSLATE,
            ram: [0; 32],
            data: 0,
            full: None,
            reply: None,
            last_was_command: false,
            expects: Expects::ToKeyboard,
            a20: true,
            release: false,
        }
    }

    /// Reads port 64h.
    #[inline]
    #[must_use]
    pub fn read_status(&self) -> u8 {
        let buffer = match self.full {
            None => 0,
            Some(Source::Mouse) => STATUS_OBF | STATUS_MOBF,
            Some(_) => STATUS_OBF,
        };
        let system = if self.config & CONFIG_SYS != 0 { STATUS_SYS } else { 0 };
        let command = if self.last_was_command { STATUS_A2 } else { 0 };
        buffer | system | command | STATUS_NO_LOCK
    }

    /// Reads port 60h and empties the output buffer.
    pub fn read_data(&mut self) -> u8 {
        self.full = None;
        self.data
    }

    /// Writes port 64h.
    pub fn write_command(&mut self, command: u8) -> Option<KbcEffect> {
        self.last_was_command = true;
        self.expects = Expects::ToKeyboard;
        match command {
            0x20 => self.reply(self.config),
            0x21..=0x3F => self.reply(self.ram[usize::from(command & 0x1F)]),
            0x60..=0x7F => self.expects = Expects::Ram(command & 0x1F),
            // Is a password installed? It is not.
            0xA4 => self.reply(0xF1),
            0xA7 => self.config |= CONFIG_NO_MOUSE,
            0xA8 => self.config &= !CONFIG_NO_MOUSE,
            // Both port tests find nothing wrong.
            0xA9 | 0xAB => self.reply(0x00),
            0xAA => {
                self.config |= CONFIG_SYS;
                self.reply(0x55);
            }
            0xAD => self.config |= CONFIG_NO_KEYBOARD,
            0xAE => self.config &= !CONFIG_NO_KEYBOARD,
            // The input port: keyboard not locked, colour display, no manufacturing jumper.
            0xC0 => self.reply(0xB0),
            0xD0 => self.reply(self.output_port()),
            0xD1 => self.expects = Expects::OutputPort,
            0xD2 => self.expects = Expects::KeyboardBuffer,
            0xD3 => self.expects = Expects::MouseBuffer,
            0xD4 => self.expects = Expects::ToMouse,
            0xDD => self.a20 = false,
            0xDF => self.a20 = true,
            0xE0 => self.reply(self.test_inputs()),
            // Bits 0 to 3 that are 0 pulse an output; bit 0 is the CPU's reset.
            0xF0..=0xFF if command & 1 == 0 => return Some(KbcEffect::Init),
            _ => {}
        }
        None
    }

    /// Writes port 60h.
    pub fn write_data(&mut self, value: u8) -> Option<KbcEffect> {
        self.last_was_command = false;
        match core::mem::replace(&mut self.expects, Expects::ToKeyboard) {
            Expects::ToKeyboard => {
                // Sending clocks the keyboard, and so enables it.
                self.config &= !CONFIG_NO_KEYBOARD;
                return Some(KbcEffect::ToKeyboard(value));
            }
            Expects::ToMouse => {
                self.config &= !CONFIG_NO_MOUSE;
                return Some(KbcEffect::ToMouse(value));
            }
            Expects::Ram(0) => {
                self.config = value & 0x7F;
                self.release &= value & CONFIG_TRANSLATE != 0;
            }
            Expects::Ram(index) => self.ram[usize::from(index & 0x1F)] = value,
            Expects::OutputPort => {
                self.a20 = value & 2 != 0;
                if value & 1 == 0 {
                    return Some(KbcEffect::Init);
                }
            }
            Expects::KeyboardBuffer => self.fill(value, Source::Keyboard),
            Expects::MouseBuffer => self.fill(value, Source::Mouse),
        }
        None
    }

    /// Whether a byte of `source` may come in now: its port is enabled and the buffer is free.
    #[inline]
    #[must_use]
    pub fn accepts(&self, source: Source) -> bool {
        let port_open = match source {
            Source::Controller => true,
            Source::Keyboard => self.config & CONFIG_NO_KEYBOARD == 0 && self.reply.is_none(),
            Source::Mouse => self.config & CONFIG_NO_MOUSE == 0 && self.reply.is_none(),
        };
        port_open && self.full.is_none()
    }

    /// A device's byte. Translation may swallow it (F0h): the buffer is then still empty.
    pub fn receive(&mut self, byte: u8, source: Source) {
        if source != Source::Keyboard || self.config & CONFIG_TRANSLATE == 0 {
            self.fill(byte, source);
        } else if byte == 0xF0 {
            self.release = true;
        } else {
            let release = if core::mem::take(&mut self.release) { 0x80 } else { 0 };
            self.fill(set1_of_set2(byte) | release, source);
        }
    }

    /// The controller's own answer waits for the buffer.
    #[must_use]
    pub fn reply_waits(&self) -> bool {
        self.reply.is_some()
    }

    /// Puts the waiting answer into the buffer if that is free.
    pub fn load_reply(&mut self) {
        if self.full.is_none()
            && let Some(byte) = self.reply.take()
        {
            self.fill(byte, Source::Controller);
        }
    }

    /// The keyboard's line, IRQ1.
    #[inline]
    #[must_use]
    pub fn irq1(&self) -> bool {
        self.config & CONFIG_IRQ1 != 0
            && matches!(self.full, Some(Source::Keyboard | Source::Controller))
    }

    /// The mouse's line, IRQ12.
    #[inline]
    #[must_use]
    pub fn irq12(&self) -> bool {
        self.config & CONFIG_IRQ12 != 0 && self.full == Some(Source::Mouse)
    }

    /// The A20 output of this chip.
    #[inline]
    #[must_use]
    pub fn a20(&self) -> bool {
        self.a20
    }

    fn reply(&mut self, byte: u8) {
        self.reply = Some(byte);
        self.load_reply();
    }

    fn fill(&mut self, byte: u8, source: Source) {
        self.data = byte;
        self.full = Some(source);
    }

    fn output_port(&self) -> u8 {
        0xC1 | u8::from(self.a20) << 1 | u8::from(self.irq1()) << 4 | u8::from(self.irq12()) << 5
    }

    /// T0 and T1, the clock lines: high unless the port is disabled.
    fn test_inputs(&self) -> u8 {
        u8::from(self.config & CONFIG_NO_KEYBOARD == 0)
            | u8::from(self.config & CONFIG_NO_MOUSE == 0) << 1
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> KbcState {
        let Self { config, ram, data, full, reply, last_was_command, expects, a20, release } =
            *self;
        KbcState {
            version: KbcState::VERSION,
            config,
            ram,
            data,
            full,
            reply,
            last_was_command,
            expects,
            a20,
            release,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; the chip is then unchanged.
    pub fn load(&mut self, state: &KbcState) -> Result<(), LoadError> {
        let KbcState {
            version,
            config,
            ram,
            data,
            full,
            reply,
            last_was_command,
            expects,
            a20,
            release,
        } = *state;
        if version != KbcState::VERSION {
            return Err(LoadError::Version);
        }
        require(config < 0x80, "config")?;
        require(!matches!(expects, Expects::Ram(0x20..)), "expects")?;
        require(!release || config & CONFIG_TRANSLATE != 0, "release")?;
        *self = Self { config, ram, data, full, reply, last_was_command, expects, a20, release };
        Ok(())
    }
}

/// A saved [`Kbc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct KbcState {
    pub version: u16,
    pub config: u8,
    pub ram: [u8; 32],
    pub data: u8,
    pub full: Option<Source>,
    pub reply: Option<u8>,
    pub last_was_command: bool,
    pub expects: Expects,
    pub a20: bool,
    pub release: bool,
}

impl KbcState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
