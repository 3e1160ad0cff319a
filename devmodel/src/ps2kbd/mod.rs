//! The PS/2 keyboard: scan code sets 1 to 3, typematic, every command.
//!
//! Bytes wait here until the controller takes them ([`Ps2Keyboard::peek`], [`Ps2Keyboard::take`]). The
//! keyboard repeats held keys itself, so the host passes each press and release once. Left out: the
//! fake Shifts that real keyboards send around grey keys while Num Lock or Shift is on. Commands as
//! in the IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-Key)".

use arch::Nanos;

use crate::kbc::set1_of_set2;
use crate::state::{LoadError, require};

mod keys;
mod queue;
#[cfg(test)]
mod tests;

pub use keys::{Chord, Key, us_ascii_to_keys};
pub(crate) use queue::Queue;

const ACK: u8 = 0xFA;
const RESEND: u8 = 0xFE;
/// 500 ms, then 10.9 characters a second.
const DEFAULT_TYPEMATIC: u8 = 0x2B;
/// The longest sequence of one key: Pause.
const LONGEST: usize = 8;

/// What the next byte from the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// A command.
    Command,
    /// The LEDs (after EDh).
    Leds,
    /// The scan code set (after F0h).
    ScanSet,
    /// Rate and delay (after F3h).
    Typematic,
    /// Codes of set 3 whose keys change their type (after FBh to FDh).
    KeyType {
        /// They send a code when released.
        breaks: bool,
        /// They repeat while held.
        repeats: bool,
    },
}

/// The keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ps2Keyboard {
    // Guest-visible
    scan_set: u8,
    scanning: bool,
    leds: u8,
    typematic: u8,
    expects: Expects,
    /// Answers to commands go out before scan codes.
    answers: Queue<8>,
    codes: Queue<32>,
    last_sent: u8,
    /// One bit a [`Key`]: what is down.
    held: u128,
    /// The key that repeats, and when next.
    repeat: Option<(Key, Nanos)>,
    /// One bit a key: what set 3 sends no release code for, and what it does not repeat.
    no_break: u128,
    no_repeat: u128,
}

impl Default for Ps2Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Ps2Keyboard {
    /// The keyboard after its self test: set 2, scanning.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scan_set: 2,
            scanning: true,
            leds: 0,
            typematic: DEFAULT_TYPEMATIC,
            expects: Expects::Command,
            answers: Queue::new(),
            codes: Queue::new(),
            last_sent: 0,
            held: 0,
            repeat: None,
            no_break: 0,
            no_repeat: 0,
        }
    }

    /// A key goes down or up. False when its codes do not fit: nothing has changed then, offer it
    /// again later. A press of a key that is down, or a release of one that is up, does nothing.
    pub fn key(&mut self, key: Key, down: bool, now: Nanos) -> bool {
        let bit = 1_u128 << key as u8;
        if (self.held & bit != 0) == down {
            return true;
        }
        if self.scanning && !self.send(key, down) {
            return false;
        }
        if down {
            self.held |= bit;
            let silent = key == Key::Pause || self.scan_set == 3 && self.no_repeat & bit != 0;
            self.repeat = (!silent).then(|| (key, now + self.delay_ns()));
        } else {
            self.held &= !bit;
            if self.repeat.is_some_and(|(it, _)| it == key) {
                self.repeat = None;
            }
        }
        true
    }

    /// No scan code waits to be read: the next key of a typed text may come.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.codes.is_empty()
    }

    /// The LEDs: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.leds
    }

    /// A byte from the host.
    pub fn write(&mut self, byte: u8) {
        let expects = core::mem::replace(&mut self.expects, Expects::Command);
        match expects {
            // A command instead of an argument abandons the command that waited.
            Expects::Command => self.command(byte),
            _ if byte >= 0xED => self.command(byte),
            Expects::Leds => {
                self.leds = byte & 7;
                self.answer(ACK);
            }
            Expects::Typematic => {
                self.typematic = byte & 0x7F;
                self.answer(ACK);
            }
            Expects::ScanSet => match byte {
                0 => {
                    self.answer(ACK);
                    self.answer(self.scan_set);
                }
                1..=3 => {
                    self.answer(ACK);
                    self.scan_set = byte;
                    self.codes.clear();
                    self.repeat = None;
                }
                _ => self.answer(RESEND),
            },
            Expects::KeyType { breaks, repeats } => {
                if let Some(key) = Key::from_set3(byte) {
                    self.set_key_type(1 << key as u8, breaks, repeats);
                }
                self.expects = expects;
                self.answer(ACK);
            }
        }
    }

    /// The next byte for the controller, and whether it answers a command.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<(u8, bool)> {
        match self.answers.front() {
            Some(byte) => Some((byte, true)),
            None => self.codes.front().map(|byte| (byte, false)),
        }
    }

    /// The controller takes the byte that [`Ps2Keyboard::peek`] showed.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.answers.pop().or_else(|| self.codes.pop())?;
        if byte != RESEND {
            self.last_sent = byte;
        }
        Some(byte)
    }

    /// When the held key repeats. It does not while older codes are unread.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let (_, at) = self.repeat?;
        (self.scanning && self.codes.is_empty()).then_some(at)
    }

    /// Lets time pass up to `now`. At most one repetition comes of it, however late.
    pub fn advance(&mut self, now: Nanos) {
        if let Some((key, at)) = self.repeat
            && at <= now
            && self.scanning
            && self.codes.is_empty()
        {
            self.send(key, true);
            self.repeat = Some((key, now + self.period_ns()));
        }
    }

    fn command(&mut self, command: u8) {
        match command {
            0xED => self.expects = Expects::Leds,
            0xEE => return self.answer(0xEE),
            0xF0 => self.expects = Expects::ScanSet,
            0xF2 => {
                for byte in [ACK, 0xAB, 0x83] {
                    self.answer(byte);
                }
                return;
            }
            0xF3 => self.expects = Expects::Typematic,
            0xF4 => {
                self.codes.clear();
                self.scanning = true;
            }
            0xF5 => {
                self.defaults();
                self.scanning = false;
            }
            0xF6 => self.defaults(),
            0xF7 => self.set_key_type(u128::MAX, false, true),
            0xF8 => self.set_key_type(u128::MAX, true, false),
            0xF9 => self.set_key_type(u128::MAX, false, false),
            0xFA => self.set_key_type(u128::MAX, true, true),
            0xFB => self.expects = Expects::KeyType { breaks: false, repeats: true },
            0xFC => self.expects = Expects::KeyType { breaks: true, repeats: false },
            0xFD => self.expects = Expects::KeyType { breaks: false, repeats: false },
            0xFE => return self.answer(self.last_sent),
            0xFF => {
                self.defaults();
                self.answers.clear();
                self.leds = 0;
                self.scan_set = 2;
                self.scanning = true;
                self.answer(ACK);
                // The self test has passed.
                return self.answer(0xAA);
            }
            _ => return self.answer(RESEND),
        }
        self.answer(ACK);
    }

    fn defaults(&mut self) {
        self.codes.clear();
        self.typematic = DEFAULT_TYPEMATIC;
        self.repeat = None;
        self.no_break = 0;
        self.no_repeat = 0;
    }

    fn set_key_type(&mut self, keys: u128, breaks: bool, repeats: bool) {
        let set = |mask: &mut u128, on: bool| if on { *mask |= keys } else { *mask &= !keys };
        set(&mut self.no_break, !breaks);
        set(&mut self.no_repeat, !repeats);
    }

    fn answer(&mut self, byte: u8) {
        // A host that sends commands without reading loses the answers that do not fit.
        self.answers.push(byte);
    }

    /// Queues a key's codes. False when they do not fit. The host then waits, so no overrun code is
    /// needed.
    fn send(&mut self, key: Key, down: bool) -> bool {
        let mut sequence = Sequence::default();
        self.encode(key, down, &mut sequence);
        if sequence.len == 0 {
            return true;
        }
        if self.codes.room() < sequence.len {
            return false;
        }
        for &byte in &sequence.bytes[..sequence.len] {
            self.codes.push(byte);
        }
        true
    }

    fn encode(&self, key: Key, down: bool, out: &mut Sequence) {
        let down_now = |key: Key| self.held & (1 << key as u8) != 0;
        let alt = down_now(Key::LeftAlt) || down_now(Key::RightAlt);
        let ctrl = down_now(Key::LeftCtrl) || down_now(Key::RightCtrl);
        let shift = down_now(Key::LeftShift) || down_now(Key::RightShift);
        let codes = key.codes();
        let set = self.scan_set;
        match key {
            _ if set == 3 => {
                let silent = codes.set3 == 0 || !down && self.no_break & (1 << key as u8) != 0;
                if !silent {
                    out.push_code(3, codes.set3, false, down);
                }
            }
            // Pause sends everything when pressed (with Ctrl it is Break), nothing when released.
            Key::Pause if !down => {}
            Key::Pause if ctrl => {
                out.push_code(set, 0x7E, true, true);
                out.push_code(set, 0x7E, true, false);
            }
            Key::Pause => {
                for down in [true, false] {
                    out.push(0xE1);
                    out.push_code(set, 0x14, false, down);
                    out.push_code(set, 0x77, false, down);
                }
            }
            Key::PrintScreen if alt => out.push_code(set, 0x84, false, down),
            Key::PrintScreen if ctrl || shift => out.push_code(set, 0x7C, true, down),
            Key::PrintScreen => {
                let order = if down { [0x12, 0x7C] } else { [0x7C, 0x12] };
                for code in order {
                    out.push_code(set, code, true, down);
                }
            }
            _ => out.push_code(set, codes.set2, codes.extended, down),
        }
    }

    /// The delay before the first repetition (bits 5 and 6 of the typematic byte).
    fn delay_ns(&self) -> u64 {
        (u64::from(self.typematic >> 5 & 3) + 1) * 250_000_000
    }

    /// (8 + A) * 2^B / 240 s, A in bits 0 to 2 and B in bits 3 and 4.
    fn period_ns(&self) -> u64 {
        let units = (8 + u64::from(self.typematic & 7)) << (self.typematic >> 3 & 3);
        units * 1_000_000_000 / 240
    }

    /// The state, to be written down.
    #[must_use]
    pub fn save(&self) -> Ps2KeyboardState {
        let Self {
            scan_set,
            scanning,
            leds,
            typematic,
            expects,
            answers,
            codes,
            last_sent,
            held,
            repeat,
            no_break,
            no_repeat,
        } = self;
        Ps2KeyboardState {
            version: Ps2KeyboardState::VERSION,
            scan_set: *scan_set,
            scanning: *scanning,
            leds: *leds,
            typematic: *typematic,
            expects: *expects,
            answers: answers.contents(),
            codes: codes.contents(),
            last_sent: *last_sent,
            held: *held,
            repeat: *repeat,
            no_break: *no_break,
            no_repeat: *no_repeat,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or values that no keyboard holds; nothing changes then.
    pub fn load(&mut self, state: &Ps2KeyboardState) -> Result<(), LoadError> {
        let Ps2KeyboardState {
            version,
            scan_set,
            scanning,
            leds,
            typematic,
            expects,
            answers,
            codes,
            last_sent,
            held,
            repeat,
            no_break,
            no_repeat,
        } = *state;
        if version != Ps2KeyboardState::VERSION {
            return Err(LoadError::Version);
        }
        require((1..=3).contains(&scan_set), "scan_set")?;
        require(leds < 8, "leds")?;
        require(typematic < 0x80, "typematic")?;
        require(held >> Key::COUNT == 0, "held")?;
        require(repeat.is_none_or(|(key, _)| held & (1 << key as u8) != 0), "repeat")?;
        let answers = Queue::from_contents(answers).ok_or(LoadError::Impossible("answers"))?;
        let codes = Queue::from_contents(codes).ok_or(LoadError::Impossible("codes"))?;
        *self = Self {
            scan_set,
            scanning,
            leds,
            typematic,
            expects,
            answers,
            codes,
            last_sent,
            held,
            repeat,
            no_break,
            no_repeat,
        };
        Ok(())
    }
}

/// The bytes of one press or release.
#[derive(Default)]
struct Sequence {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Sequence {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// A code of set 2 (of set 3 in set 3) as press or release.
    fn push_code(&mut self, set: u8, code: u8, extended: bool, down: bool) {
        if extended {
            self.push(0xE0);
        }
        if set == 1 {
            self.push(set1_of_set2(code) | if down { 0 } else { 0x80 });
        } else {
            if !down {
                self.push(0xF0);
            }
            self.push(code);
        }
    }
}

/// A saved [`Ps2Keyboard`]; queues are oldest first, with their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the keyboard's own of the same name")]
pub struct Ps2KeyboardState {
    pub version: u16,
    pub scan_set: u8,
    pub scanning: bool,
    pub leds: u8,
    pub typematic: u8,
    pub expects: Expects,
    pub answers: ([u8; 8], u8),
    pub codes: ([u8; 32], u8),
    pub last_sent: u8,
    pub held: u128,
    pub repeat: Option<(Key, Nanos)>,
    pub no_break: u128,
    pub no_repeat: u128,
}

impl Ps2KeyboardState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
