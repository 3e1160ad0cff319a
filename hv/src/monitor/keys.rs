//! Keys by name, by scan code, and as characters. Pure; `typing` and `terminal` use it.

use alloc::vec::Vec;
use devmodel::ps2kbd::{Key, us_ascii_to_keys};

/// Names of keys in chords, as `xtask` and the monitor write them.
#[rustfmt::skip]
const NAMES: [(&str, Key); 66] = {
    use Key::*;
    [
        ("ctrl", LeftCtrl), ("alt", LeftAlt), ("shift", LeftShift), ("meta", LeftWin),
        ("altgr", RightAlt), ("enter", Enter), ("esc", Escape), ("tab", Tab), ("space", Space),
        ("backspace", Backspace), ("del", Delete), ("ins", Insert), ("home", Home),
        ("end", End), ("pgup", PageUp), ("pgdn", PageDown), ("up", Up), ("down", Down),
        ("left", Left), ("right", Right), ("f1", F1), ("f2", F2), ("f3", F3), ("f4", F4),
        ("f5", F5), ("f6", F6), ("f7", F7), ("f8", F8), ("f9", F9), ("f10", F10), ("f11", F11),
        ("f12", F12), ("minus", Minus), ("equal", Equal), ("comma", Comma), ("dot", Period),
        ("slash", Slash), ("semicolon", Semicolon), ("apostrophe", Apostrophe),
        ("backslash", Backslash), ("grave", Grave), ("bracket_left", LeftBracket),
        ("bracket_right", RightBracket), ("caps_lock", CapsLock), ("num_lock", NumLock),
        ("scroll_lock", ScrollLock), ("print", PrintScreen), ("pause", Pause), ("menu", Menu),
        ("kp_0", Keypad0), ("kp_1", Keypad1), ("kp_2", Keypad2), ("kp_3", Keypad3),
        ("kp_4", Keypad4), ("kp_5", Keypad5), ("kp_6", Keypad6), ("kp_7", Keypad7),
        ("kp_8", Keypad8), ("kp_9", Keypad9), ("kp_add", KeypadPlus),
        ("kp_subtract", KeypadMinus), ("kp_multiply", KeypadStar), ("kp_divide", KeypadSlash),
        ("kp_enter", KeypadEnter), ("kp_decimal", KeypadPeriod), ("sleep", Sleep),
    ]
};

/// The keys of a chord like `ctrl-alt-del`, in the order in which they go down.
#[must_use]
pub fn chord(text: &str) -> Option<Vec<Key>> {
    text.split('-').map(named).collect()
}

fn named(name: &str) -> Option<Key> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, key)) = NAMES.iter().find(|(known, _)| *known == lower) {
        return Some(*key);
    }
    let mut characters = lower.chars();
    let one = characters.next().filter(char::is_ascii_alphanumeric)?;
    if characters.next().is_some() { None } else { Some(us_ascii_to_keys(one)?.key) }
}

/// The character that a key types on a US keyboard.
#[must_use]
pub fn character(key: Key, shift: bool) -> Option<u8> {
    match key {
        Key::Enter | Key::KeypadEnter => return Some(b'\r'),
        Key::Backspace => return Some(8),
        Key::Tab => return Some(b'\t'),
        _ => {}
    }
    (b' '..0x7f).find(|&byte| {
        us_ascii_to_keys(byte.into()).is_some_and(|it| it.key == key && it.shift == shift)
    })
}

/// Turns bytes of scan code set 1 into keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Set1 {
    extended: bool,
    /// Bytes of Pause's own sequence that are still to come.
    pause: u8,
}

impl Set1 {
    /// Between two keys.
    #[must_use]
    pub const fn new() -> Set1 {
        Set1 { extended: false, pause: 0 }
    }

    /// The key that `byte` completes, and whether it goes down.
    pub fn push(&mut self, byte: u8) -> Option<(Key, bool)> {
        if self.pause != 0 {
            self.pause -= 1;
            // E1 1D 45 goes down, E1 9D C5 follows at once.
            return (self.pause == 0).then_some((Key::Pause, byte & 0x80 == 0));
        }
        match byte {
            0xe0 => self.extended = true,
            0xe1 => self.pause = 2,
            _ => {
                let key = Key::from_set1(byte & 0x7f, core::mem::take(&mut self.extended))?;
                return Some((key, byte & 0x80 == 0));
            }
        }
        None
    }
}

/// A movement of the mouse, to the right and down, and its left, right and middle button.
pub type Movement = (i32, i32, [bool; 3]);

/// Turns bytes of a PS/2 mouse into movements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mouse {
    packet: [u8; 3],
    len: usize,
}

impl Mouse {
    /// Between two packets.
    #[must_use]
    pub const fn new() -> Mouse {
        Mouse { packet: [0; 3], len: 0 }
    }

    /// The movement that `byte` completes.
    pub fn push(&mut self, byte: u8) -> Option<Movement> {
        // The first byte has bit 3 set: what does not is out of step.
        if self.len == 0 && byte & 8 == 0 {
            return None;
        }
        self.packet[self.len] = byte;
        self.len = (self.len + 1) % 3;
        if self.len != 0 {
            return None;
        }
        let [flags, x, y] = self.packet;
        let signed = |low: u8, sign: u8| i32::from(low) - i32::from(flags & sign != 0) * 256;
        let buttons = [1, 2, 4].map(|bit| flags & bit != 0);
        Some((signed(x, 0x10), -signed(y, 0x20), buttons))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_are_keys_in_order_and_unknown_names_are_refused() {
        let keys = [Key::LeftCtrl, Key::LeftAlt, Key::Delete];
        assert_eq!(chord("ctrl-alt-del").as_deref(), Some(&keys[..]));
        assert_eq!(chord("Shift-a").as_deref(), Some(&[Key::LeftShift, Key::A][..]));
        assert_eq!(chord("7").as_deref(), Some(&[Key::Digit7][..]));
        assert_eq!(chord("ctrl-nothing"), None);
        assert_eq!(chord(""), None);
    }

    #[test]
    fn every_printable_character_has_a_key_that_types_it() {
        for byte in b' '..0x7f {
            let typed = us_ascii_to_keys(byte.into()).unwrap();
            assert_eq!(character(typed.key, typed.shift), Some(byte));
        }
    }

    #[test]
    fn set_1_gives_plain_and_extended_keys_and_pause() {
        let mut set = Set1::default();
        let bytes = [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x48];
        let keys: Vec<_> = bytes.into_iter().filter_map(|byte| set.push(byte)).collect();
        let wanted = [
            (Key::A, true),
            (Key::A, false),
            (Key::Up, true),
            (Key::Up, false),
            (Key::Pause, true),
            (Key::Pause, false),
            (Key::Keypad8, true),
        ];
        assert_eq!(keys, wanted);
    }

    #[test]
    fn a_mouse_packet_out_of_step_is_skipped() {
        let mut mouse = Mouse::default();
        let bytes = [0x00, 0x29, 0x05, 0xfe, 0x18, 0xff, 0x00];
        let moves: Vec<_> = bytes.into_iter().filter_map(|byte| mouse.push(byte)).collect();
        assert_eq!(moves, [(5, 2, [true, false, false]), (-1, 0, [false; 3])]);
    }
}
