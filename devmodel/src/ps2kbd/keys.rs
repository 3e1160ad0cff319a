//! The keys of a 105-key keyboard: their codes in sets 2 and 3, and how to type ASCII with them.

use crate::kbc::set1_of_set2;

/// A key by its place on a US keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[rustfmt::skip]
#[allow(missing_docs, reason = "the names are on the keys")]
pub enum Key {
    Escape, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12,
    PrintScreen, ScrollLock, Pause,
    Grave, Digit1, Digit2, Digit3, Digit4, Digit5, Digit6, Digit7, Digit8, Digit9, Digit0,
    Minus, Equal, Backspace,
    Tab, Q, W, E, R, T, Y, U, I, O, P, LeftBracket, RightBracket, Backslash,
    CapsLock, A, S, D, F, G, H, J, K, L, Semicolon, Apostrophe, Enter,
    LeftShift, Z, X, C, V, B, N, M, Comma, Period, Slash, RightShift,
    LeftCtrl, LeftWin, LeftAlt, Space, RightAlt, RightWin, Menu, RightCtrl,
    Insert, Home, PageUp, Delete, End, PageDown, Up, Left, Down, Right,
    NumLock, KeypadSlash, KeypadStar, KeypadMinus, KeypadPlus, KeypadEnter, KeypadPeriod,
    Keypad0, Keypad1, Keypad2, Keypad3, Keypad4, Keypad5, Keypad6, Keypad7, Keypad8, Keypad9,
    /// The key between left Shift and Z of ISO keyboards.
    Iso102,
    /// The key between slash and right Shift of Japanese and Brazilian keyboards.
    Ro,
    Yen,
    Power, Sleep, Wake,
}

/// A key's codes.
pub(super) struct Codes {
    /// Set 2's code; 0 for the keys that send a sequence of their own.
    pub(super) set2: u8,
    /// Sets 1 and 2 put E0h before it.
    pub(super) extended: bool,
    /// Set 3's code; 0 where it has none.
    pub(super) set3: u8,
}

impl Key {
    /// How many keys there are.
    pub const COUNT: u8 = Key::Wake as u8 + 1;

    /// Every key.
    #[rustfmt::skip]
    pub const ALL: [Key; Key::COUNT as usize] = {
        use Key::*;
        [
            Escape, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12,
            PrintScreen, ScrollLock, Pause,
            Grave, Digit1, Digit2, Digit3, Digit4, Digit5, Digit6, Digit7, Digit8, Digit9, Digit0,
            Minus, Equal, Backspace,
            Tab, Q, W, E, R, T, Y, U, I, O, P, LeftBracket, RightBracket, Backslash,
            CapsLock, A, S, D, F, G, H, J, K, L, Semicolon, Apostrophe, Enter,
            LeftShift, Z, X, C, V, B, N, M, Comma, Period, Slash, RightShift,
            LeftCtrl, LeftWin, LeftAlt, Space, RightAlt, RightWin, Menu, RightCtrl,
            Insert, Home, PageUp, Delete, End, PageDown, Up, Left, Down, Right,
            NumLock, KeypadSlash, KeypadStar, KeypadMinus, KeypadPlus, KeypadEnter, KeypadPeriod,
            Keypad0, Keypad1, Keypad2, Keypad3, Keypad4,
            Keypad5, Keypad6, Keypad7, Keypad8, Keypad9,
            Iso102, Ro, Yen, Power, Sleep, Wake,
        ]
    };

    /// The key that sends `code` in set 1 (without its release bit), after E0h if `extended`.
    /// Pause has no code of its own and is not found.
    #[must_use]
    pub fn from_set1(code: u8, extended: bool) -> Option<Key> {
        let sends = |key: &Key| {
            let codes = key.codes();
            codes.set2 != 0 && codes.extended == extended && set1_of_set2(codes.set2) == code
        };
        match (code, extended) {
            (0x37, true) | (0x54, false) => Some(Key::PrintScreen),
            _ => Key::ALL.into_iter().find(sends),
        }
    }

    /// The code that it sends in set 1, and whether E0h comes before it; `None` for keys that send
    /// a sequence of their own.
    #[must_use]
    pub fn set1(self) -> Option<(u8, bool)> {
        let codes = self.codes();
        (codes.set2 != 0).then(|| (set1_of_set2(codes.set2), codes.extended))
    }

    /// The key that sends `code` in set 2, after E0h if `extended`.
    #[must_use]
    pub fn from_set2(code: u8, extended: bool) -> Option<Key> {
        match (code, extended) {
            (0x7C, true) | (0x84, false) => Some(Key::PrintScreen),
            (0, _) => None,
            _ => Key::ALL.into_iter().find(|key| {
                let codes = key.codes();
                codes.set2 == code && codes.extended == extended
            }),
        }
    }

    pub(super) fn from_set3(code: u8) -> Option<Key> {
        Key::ALL.into_iter().find(|key| code != 0 && key.codes().set3 == code)
    }

    /// IBM PS/2 Hardware Interface Technical Reference, "Scan Code Set 2" and "Scan Code Set 3".
    #[rustfmt::skip]
    pub(super) const fn codes(self) -> Codes {
        let (set2, extended, set3) = match self {
            Key::Escape => (0x76, false, 0x08),
            Key::F1 => (0x05, false, 0x07),
            Key::F2 => (0x06, false, 0x0F),
            Key::F3 => (0x04, false, 0x17),
            Key::F4 => (0x0C, false, 0x1F),
            Key::F5 => (0x03, false, 0x27),
            Key::F6 => (0x0B, false, 0x2F),
            Key::F7 => (0x83, false, 0x37),
            Key::F8 => (0x0A, false, 0x3F),
            Key::F9 => (0x01, false, 0x47),
            Key::F10 => (0x09, false, 0x4F),
            Key::F11 => (0x78, false, 0x56),
            Key::F12 => (0x07, false, 0x5E),
            Key::PrintScreen => (0, false, 0x57),
            Key::ScrollLock => (0x7E, false, 0x5F),
            Key::Pause => (0, false, 0x62),
            Key::Grave => (0x0E, false, 0x0E),
            Key::Digit1 => (0x16, false, 0x16),
            Key::Digit2 => (0x1E, false, 0x1E),
            Key::Digit3 => (0x26, false, 0x26),
            Key::Digit4 => (0x25, false, 0x25),
            Key::Digit5 => (0x2E, false, 0x2E),
            Key::Digit6 => (0x36, false, 0x36),
            Key::Digit7 => (0x3D, false, 0x3D),
            Key::Digit8 => (0x3E, false, 0x3E),
            Key::Digit9 => (0x46, false, 0x46),
            Key::Digit0 => (0x45, false, 0x45),
            Key::Minus => (0x4E, false, 0x4E),
            Key::Equal => (0x55, false, 0x55),
            Key::Backspace => (0x66, false, 0x66),
            Key::Tab => (0x0D, false, 0x0D),
            Key::Q => (0x15, false, 0x15),
            Key::W => (0x1D, false, 0x1D),
            Key::E => (0x24, false, 0x24),
            Key::R => (0x2D, false, 0x2D),
            Key::T => (0x2C, false, 0x2C),
            Key::Y => (0x35, false, 0x35),
            Key::U => (0x3C, false, 0x3C),
            Key::I => (0x43, false, 0x43),
            Key::O => (0x44, false, 0x44),
            Key::P => (0x4D, false, 0x4D),
            Key::LeftBracket => (0x54, false, 0x54),
            Key::RightBracket => (0x5B, false, 0x5B),
            Key::Backslash => (0x5D, false, 0x5C),
            Key::CapsLock => (0x58, false, 0x14),
            Key::A => (0x1C, false, 0x1C),
            Key::S => (0x1B, false, 0x1B),
            Key::D => (0x23, false, 0x23),
            Key::F => (0x2B, false, 0x2B),
            Key::G => (0x34, false, 0x34),
            Key::H => (0x33, false, 0x33),
            Key::J => (0x3B, false, 0x3B),
            Key::K => (0x42, false, 0x42),
            Key::L => (0x4B, false, 0x4B),
            Key::Semicolon => (0x4C, false, 0x4C),
            Key::Apostrophe => (0x52, false, 0x52),
            Key::Enter => (0x5A, false, 0x5A),
            Key::LeftShift => (0x12, false, 0x12),
            Key::Z => (0x1A, false, 0x1A),
            Key::X => (0x22, false, 0x22),
            Key::C => (0x21, false, 0x21),
            Key::V => (0x2A, false, 0x2A),
            Key::B => (0x32, false, 0x32),
            Key::N => (0x31, false, 0x31),
            Key::M => (0x3A, false, 0x3A),
            Key::Comma => (0x41, false, 0x41),
            Key::Period => (0x49, false, 0x49),
            Key::Slash => (0x4A, false, 0x4A),
            Key::RightShift => (0x59, false, 0x59),
            Key::LeftCtrl => (0x14, false, 0x11),
            Key::LeftWin => (0x1F, true, 0x8B),
            Key::LeftAlt => (0x11, false, 0x19),
            Key::Space => (0x29, false, 0x29),
            Key::RightAlt => (0x11, true, 0x39),
            Key::RightWin => (0x27, true, 0x8C),
            Key::Menu => (0x2F, true, 0x8D),
            Key::RightCtrl => (0x14, true, 0x58),
            Key::Insert => (0x70, true, 0x67),
            Key::Home => (0x6C, true, 0x6E),
            Key::PageUp => (0x7D, true, 0x6F),
            Key::Delete => (0x71, true, 0x64),
            Key::End => (0x69, true, 0x65),
            Key::PageDown => (0x7A, true, 0x6D),
            Key::Up => (0x75, true, 0x63),
            Key::Left => (0x6B, true, 0x61),
            Key::Down => (0x72, true, 0x60),
            Key::Right => (0x74, true, 0x6A),
            Key::NumLock => (0x77, false, 0x76),
            Key::KeypadSlash => (0x4A, true, 0x77),
            Key::KeypadStar => (0x7C, false, 0x7E),
            Key::KeypadMinus => (0x7B, false, 0x84),
            Key::KeypadPlus => (0x79, false, 0x7C),
            Key::KeypadEnter => (0x5A, true, 0x79),
            Key::KeypadPeriod => (0x71, false, 0x71),
            Key::Keypad0 => (0x70, false, 0x70),
            Key::Keypad1 => (0x69, false, 0x69),
            Key::Keypad2 => (0x72, false, 0x72),
            Key::Keypad3 => (0x7A, false, 0x7A),
            Key::Keypad4 => (0x6B, false, 0x6B),
            Key::Keypad5 => (0x73, false, 0x73),
            Key::Keypad6 => (0x74, false, 0x74),
            Key::Keypad7 => (0x6C, false, 0x6C),
            Key::Keypad8 => (0x75, false, 0x75),
            Key::Keypad9 => (0x7D, false, 0x7D),
            Key::Iso102 => (0x61, false, 0x13),
            Key::Ro => (0x51, false, 0x51),
            Key::Yen => (0x6A, false, 0x5D),
            Key::Power => (0x37, true, 0),
            Key::Sleep => (0x3F, true, 0),
            Key::Wake => (0x5E, true, 0),
        };
        Codes { set2, extended, set3 }
    }
}

/// The keys to hold and the key to strike for one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    /// Held meanwhile.
    pub shift: bool,
    /// Held meanwhile.
    pub ctrl: bool,
    /// Struck.
    pub key: Key,
}

impl Chord {
    /// The strokes in order, true for down.
    pub fn strokes(self) -> impl Iterator<Item = (Key, bool)> {
        let held = |on: bool, key: Key, down: bool| on.then_some((key, down));
        [
            held(self.ctrl, Key::LeftCtrl, true),
            held(self.shift, Key::LeftShift, true),
            Some((self.key, true)),
            Some((self.key, false)),
            held(self.shift, Key::LeftShift, false),
            held(self.ctrl, Key::LeftCtrl, false),
        ]
        .into_iter()
        .flatten()
    }
}

/// How to type an ASCII character on a US keyboard without Caps Lock. Newline is Enter, 08h and
/// 7Fh are Backspace, other control characters are Ctrl and a letter. None for what is not ASCII.
#[must_use]
pub fn us_ascii_to_keys(character: char) -> Option<Chord> {
    let byte = u8::try_from(character).ok().filter(u8::is_ascii)?;
    let chord = |key, shift| Some(Chord { shift, ctrl: false, key });
    match byte {
        b'\n' | b'\r' => return chord(Key::Enter, false),
        b'\t' => return chord(Key::Tab, false),
        0x08 | 0x7F => return chord(Key::Backspace, false),
        0x1B => return chord(Key::Escape, false),
        b' ' => return chord(Key::Space, false),
        0x01..=0x1A => {
            let key = plain_key(byte | 0x60)?;
            return Some(Chord { shift: false, ctrl: true, key });
        }
        b'A'..=b'Z' => return chord(plain_key(byte | 0x20)?, true),
        _ => {}
    }
    if let Some(key) = plain_key(byte) {
        return chord(key, false);
    }
    const SHIFTED: &[u8; 21] = b"~!@#$%^&*()_+{}|:\"<>?";
    const UNSHIFTED: &[u8; 21] = b"`1234567890-=[]\\;',./";
    let index = SHIFTED.iter().position(|&it| it == byte)?;
    chord(plain_key(UNSHIFTED[index])?, true)
}

/// The key that types `byte` by itself.
fn plain_key(byte: u8) -> Option<Key> {
    const ROWS: [(&[u8], Key); 4] = [
        (b"`1234567890-=", Key::Grave),
        (b"qwertyuiop[]\\", Key::Q),
        (b"asdfghjkl;'", Key::A),
        (b"zxcvbnm,./", Key::Z),
    ];
    ROWS.into_iter().find_map(|(row, first)| {
        let offset = row.iter().position(|&it| it == byte)?;
        Key::ALL.get(first as usize + offset).copied()
    })
}
