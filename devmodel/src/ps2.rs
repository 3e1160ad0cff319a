//! Controller, keyboard and mouse on their two wires: ports 60h and 64h as the board sees them.
//!
//! A byte takes its time on a wire, and guests rely on that: a chained INT 9 handler reads port 60h
//! a second time and expects the same code, and an edge-triggered IRQ1 must fall between two bytes.
//! Answers to commands come sooner than a real device's, because guests poll for them.

use arch::Nanos;

use crate::kbc::{Kbc, KbcEffect, KbcState, Source};
use crate::ps2kbd::{Key, Ps2Keyboard, Ps2KeyboardState};
use crate::ps2mouse::{Buttons, Ps2Mouse, Ps2MouseState};
use crate::state::LoadError;

/// From the last read of port 60h to the next scan code or mouse report byte: 11 bits at about 11 kHz.
const STREAM_NS: u64 = 1_000_000;
/// From the last access to the next byte of an answer.
const ANSWER_NS: u64 = 150_000;
/// From the last read to an answer of the controller itself, if it had to wait for the buffer.
const REPLY_NS: u64 = 20_000;

/// What a write asks of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ps2Effect {
    /// INIT to the CPU: a reset that leaves RAM and chips alone.
    Init,
}

/// The 8042 with a keyboard and a mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ps2 {
    // Guest-visible
    kbc: Kbc,
    keyboard: Ps2Keyboard,
    mouse: Ps2Mouse,
    /// The guest's last read of port 60h or write to a device.
    quiet_since: Nanos,
}

impl Ps2 {
    /// All three at power-on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            kbc: Kbc::new(),
            keyboard: Ps2Keyboard::new(),
            mouse: Ps2Mouse::new(),
            quiet_since: Nanos::ZERO,
        }
    }

    /// Reads port 60h.
    pub fn read_data(&mut self, now: Nanos) -> u8 {
        self.advance(now);
        if self.kbc.read_status() & 1 != 0 {
            self.quiet_since = now;
        }
        self.kbc.read_data()
    }

    /// Reads port 64h.
    #[inline]
    pub fn read_status(&mut self, now: Nanos) -> u8 {
        self.advance(now);
        self.kbc.read_status()
    }

    /// Writes port 60h.
    pub fn write_data(&mut self, value: u8, now: Nanos) -> Option<Ps2Effect> {
        self.advance(now);
        let effect = self.kbc.write_data(value);
        self.route(effect, now)
    }

    /// Writes port 64h.
    pub fn write_command(&mut self, value: u8, now: Nanos) -> Option<Ps2Effect> {
        self.advance(now);
        let effect = self.kbc.write_command(value);
        self.route(effect, now)
    }

    /// A key goes down or up. False when the keyboard has no room: offer it again later.
    pub fn key(&mut self, key: Key, down: bool, now: Nanos) -> bool {
        let taken = self.keyboard.key(key, down, now);
        self.advance(now);
        taken
    }

    /// The guest has read every key so far: the next one of a typed text may come.
    #[must_use]
    pub fn keyboard_idle(&self) -> bool {
        self.keyboard.idle()
    }

    /// The keyboard's LEDs: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock.
    #[must_use]
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    /// The mouse moved: right, down, wheel towards the user.
    pub fn mouse_motion(&mut self, dx: i32, dy: i32, dz: i32, now: Nanos) {
        self.mouse.motion(dx, dy, dz);
        self.advance(now);
    }

    /// The mouse's buttons are now as `buttons` says.
    pub fn mouse_buttons(&mut self, buttons: Buttons, now: Nanos) {
        self.mouse.set_buttons(buttons);
        self.advance(now);
    }

    /// The guest has a mouse driver that listens.
    #[must_use]
    pub fn mouse_reporting(&self) -> bool {
        self.mouse.reporting()
    }

    /// IRQ1.
    #[inline]
    #[must_use]
    pub fn irq1(&self) -> bool {
        self.kbc.irq1()
    }

    /// IRQ12.
    #[inline]
    #[must_use]
    pub fn irq12(&self) -> bool {
        self.kbc.irq12()
    }

    /// The controller's A20 output.
    #[inline]
    #[must_use]
    pub fn a20(&self) -> bool {
        self.kbc.a20()
    }

    /// When the next byte arrives in the output buffer, or a device next has one.
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let arrival = self.arrival().map(|(at, _)| at);
        [arrival, self.keyboard.due(), self.mouse.due()].into_iter().flatten().min()
    }

    /// Lets time pass up to `now`.
    #[inline]
    pub fn advance(&mut self, now: Nanos) {
        self.keyboard.advance(now);
        self.mouse.advance(now);
        // Translation swallows F0h: then the byte behind it comes too. The queue is finite.
        while let Some((at, source)) = self.arrival() {
            if at > now {
                return;
            }
            match source {
                Source::Controller => self.kbc.load_reply(),
                Source::Keyboard => {
                    if let Some(byte) = self.keyboard.take() {
                        self.kbc.receive(byte, source);
                    }
                }
                Source::Mouse => {
                    if let Some(byte) = self.mouse.take() {
                        self.kbc.receive(byte, source);
                    }
                }
            }
        }
    }

    /// The next byte's time of arrival and source, if the buffer is free and a byte is on its way.
    #[inline]
    fn arrival(&self) -> Option<(Nanos, Source)> {
        if !self.kbc.accepts(Source::Controller) {
            return None;
        }
        if self.kbc.reply_waits() {
            return Some((self.quiet_since + REPLY_NS, Source::Controller));
        }
        let delay = |answer: bool| if answer { ANSWER_NS } else { STREAM_NS };
        let wire = |source: Source, byte: Option<(u8, bool)>| match byte {
            Some((_, answer)) if self.kbc.accepts(source) => {
                Some((self.quiet_since + delay(answer), source))
            }
            _ => None,
        };
        let keyboard = wire(Source::Keyboard, self.keyboard.peek());
        let mouse = wire(Source::Mouse, self.mouse.peek());
        match (keyboard, mouse) {
            (Some(keyboard), Some(mouse)) => {
                Some(if mouse.0 < keyboard.0 { mouse } else { keyboard })
            }
            (keyboard, mouse) => keyboard.or(mouse),
        }
    }

    fn route(&mut self, effect: Option<KbcEffect>, now: Nanos) -> Option<Ps2Effect> {
        match effect? {
            KbcEffect::ToKeyboard(byte) => self.keyboard.write(byte),
            KbcEffect::ToMouse(byte) => self.mouse.write(byte),
            KbcEffect::Init => return Some(Ps2Effect::Init),
        }
        self.quiet_since = now;
        None
    }

    /// All three, to be written down.
    #[must_use]
    pub fn save(&self) -> Ps2State {
        let Self { kbc, keyboard, mouse, quiet_since } = self;
        Ps2State {
            kbc: kbc.save(),
            keyboard: keyboard.save(),
            mouse: mouse.save(),
            quiet_since: *quiet_since,
        }
    }

    /// Takes over saved states.
    ///
    /// # Errors
    /// As the three parts'; nothing changes then.
    pub fn load(&mut self, state: &Ps2State) -> Result<(), LoadError> {
        let Ps2State { kbc, keyboard, mouse, quiet_since } = state;
        let mut new = Self::new();
        new.kbc.load(kbc)?;
        new.keyboard.load(keyboard)?;
        new.mouse.load(mouse)?;
        new.quiet_since = *quiet_since;
        *self = new;
        Ok(())
    }
}

/// A saved [`Ps2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "one state a part")]
pub struct Ps2State {
    pub kbc: KbcState,
    pub keyboard: Ps2KeyboardState,
    pub mouse: Ps2MouseState,
    pub quiet_since: Nanos,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ps2kbd::us_ascii_to_keys;
    use crate::testing::Rng;
    use std::vec::Vec;

    const MS: u64 = 1_000_000;

    /// Waits for a byte as a polling driver does.
    fn poll(ps2: &mut Ps2, now: &mut Nanos) -> u8 {
        for _ in 0..1000 {
            if ps2.read_status(*now) & 1 != 0 {
                return ps2.read_data(*now);
            }
            *now = *now + 10_000;
        }
        panic!("nothing came");
    }

    #[test]
    fn a_second_read_in_the_handler_sees_the_same_code() {
        let mut ps2 = Ps2::new();
        let now = Nanos(5 * MS);
        ps2.key(Key::A, true, now);
        ps2.key(Key::A, false, now);
        assert!(ps2.irq1());
        assert_eq!(ps2.read_data(now), 0x1E);
        assert!(!ps2.irq1(), "the line falls between two bytes");
        assert_eq!(ps2.read_data(now + MS / 2), 0x1E);
        assert_eq!(ps2.due(), Some(now + MS));
        ps2.advance(now + MS);
        assert!(ps2.irq1());
        assert_eq!(ps2.read_data(now + MS), 0x9E);
    }

    #[test]
    fn typed_text_arrives_in_order() {
        let mut ps2 = Ps2::new();
        let mut now = Nanos(5 * MS);
        let mut codes = Vec::new();
        for character in "Hi!\n".chars() {
            for (key, down) in us_ascii_to_keys(character).unwrap().strokes() {
                while !ps2.key(key, down, now) {
                    codes.push(poll(&mut ps2, &mut now));
                }
            }
        }
        while ps2.irq1() || ps2.due().is_some() {
            codes.push(poll(&mut ps2, &mut now));
        }
        let shift_h = [0x2A, 0x23, 0xA3, 0xAA];
        let rest = [0x17, 0x97, 0x2A, 0x02, 0x82, 0xAA, 0x1C, 0x9C];
        assert_eq!(codes, [&shift_h[..], &rest[..]].concat());
    }

    #[test]
    fn seabios_sets_up_the_keyboard() {
        // SeaBIOS ps2port.c, ps2_keyboard_setup.
        let mut ps2 = Ps2::new();
        let mut now = Nanos(MS);
        assert_eq!(ps2.write_command(0xAA, now), None);
        assert_eq!(poll(&mut ps2, &mut now), 0x55);
        let _ = ps2.write_command(0xAB, now);
        assert_eq!(poll(&mut ps2, &mut now), 0x00);
        let start = now;
        for (bytes, expected) in [
            (&[0xFF][..], &[0xFA, 0xAA][..]),
            (&[0xF5], &[0xFA]),
            (&[0xF0], &[0xFA]),
            (&[0x02], &[0xFA]),
        ] {
            for &byte in bytes {
                let _ = ps2.write_data(byte, now);
            }
            for &byte in expected {
                assert_eq!(poll(&mut ps2, &mut now), byte);
            }
        }
        let _ = ps2.write_command(0x60, now);
        let _ = ps2.write_data(0x61, now);
        let _ = ps2.write_data(0xF4, now);
        assert_eq!(poll(&mut ps2, &mut now), 0xFA);
        assert!(now.since(start) < 2 * MS, "the whole set-up is short");
        ps2.mouse_motion(1, 1, 0, now);
        assert!(!ps2.irq12());
    }

    #[test]
    fn the_mouse_reports_through_irq12() {
        let mut ps2 = Ps2::new();
        let mut now = Nanos(MS);
        let _ = ps2.write_command(0xD4, now);
        let _ = ps2.write_data(0xF4, now);
        assert_eq!(poll(&mut ps2, &mut now), 0xFA);
        assert!(ps2.mouse_reporting());
        ps2.mouse_motion(2, 0, 0, now);
        let mut report = Vec::new();
        while let Some(due) = ps2.due() {
            now = due.max(now);
            ps2.advance(now);
            assert!(ps2.irq12());
            report.push(ps2.read_data(now));
        }
        assert_eq!(report, [0x08, 2, 0]);
    }

    #[test]
    fn reset_and_a20_reach_the_board() {
        let mut ps2 = Ps2::new();
        assert_eq!(ps2.write_command(0xFE, Nanos(0)), Some(Ps2Effect::Init));
        let _ = ps2.write_command(0xDD, Nanos(0));
        assert!(!ps2.a20());
    }

    #[test]
    fn a_random_walk_never_panics_and_survives_save_and_load() {
        for seed in 0..48 {
            let mut rng = Rng::new(seed);
            let mut ps2 = Ps2::new();
            let mut now = Nanos::ZERO;
            for _ in 0..2_000 {
                now = now + rng.below(2 * MS);
                match rng.below(7) {
                    0 => {
                        let _ = ps2.write_command(rng.byte(), now);
                    }
                    1 => {
                        let _ = ps2.write_data(rng.byte(), now);
                    }
                    2 => {
                        let index = rng.below(u64::from(Key::COUNT)) as usize;
                        ps2.key(Key::ALL[index], rng.one_in(2), now);
                    }
                    3 => ps2.mouse_motion(rng.next() as i32, rng.byte().into(), 0, now),
                    4 => {
                        ps2.read_status(now);
                    }
                    5 => {
                        ps2.read_data(now);
                    }
                    _ => {
                        ps2.advance(now);
                        assert!(ps2.due().is_none_or(|due| due > now));
                    }
                }
                let mut copy = Ps2::new();
                assert_eq!(copy.load(&ps2.save()), Ok(()));
                assert_eq!(copy, ps2);
            }
        }
    }
}
