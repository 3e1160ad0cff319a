//! From a scan code (set 1) and the shift keys to what INT 16h returns: the US layout, with the codes of
//! IBM's "Personal System/2 BIOS Interface Technical Reference", "Keyboard".

/// Which shift keys are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shifts {
    pub shift: bool,
    pub ctrl: bool,
    pub alt: bool,
    pub caps: bool,
    pub num: bool,
    /// The code came behind E0h: a grey key.
    pub grey: bool,
}

/// Unshifted and shifted character by scan code.
const ASCII: [[u8; 2]; 0x3a] = [
    [0, 0],
    [0x1b, 0x1b],
    [b'1', b'!'],
    [b'2', b'@'],
    [b'3', b'#'],
    [b'4', b'$'],
    [b'5', b'%'],
    [b'6', b'^'],
    [b'7', b'&'],
    [b'8', b'*'],
    [b'9', b'('],
    [b'0', b')'],
    [b'-', b'_'],
    [b'=', b'+'],
    [0x08, 0x08],
    [0x09, 0],
    [b'q', b'Q'],
    [b'w', b'W'],
    [b'e', b'E'],
    [b'r', b'R'],
    [b't', b'T'],
    [b'y', b'Y'],
    [b'u', b'U'],
    [b'i', b'I'],
    [b'o', b'O'],
    [b'p', b'P'],
    [b'[', b'{'],
    [b']', b'}'],
    [0x0d, 0x0d],
    [0, 0],
    [b'a', b'A'],
    [b's', b'S'],
    [b'd', b'D'],
    [b'f', b'F'],
    [b'g', b'G'],
    [b'h', b'H'],
    [b'j', b'J'],
    [b'k', b'K'],
    [b'l', b'L'],
    [b';', b':'],
    [b'\'', b'"'],
    [b'`', b'~'],
    [0, 0],
    [b'\\', b'|'],
    [b'z', b'Z'],
    [b'x', b'X'],
    [b'c', b'C'],
    [b'v', b'V'],
    [b'b', b'B'],
    [b'n', b'N'],
    [b'm', b'M'],
    [b',', b'<'],
    [b'.', b'>'],
    [b'/', b'?'],
    [0, 0],
    [b'*', b'*'],
    [0, 0],
    [b' ', b' '],
];

/// Keypad digits by scan code from 47h.
const KEYPAD: &[u8; 13] = b"789-456+1230.";
/// The cursor keys with Ctrl, by scan code from 47h.
const CTRL_CURSOR: [u8; 13] =
    [0x77, 0x8d, 0x84, 0x8e, 0x73, 0x8f, 0x74, 0x90, 0x75, 0x91, 0x76, 0x92, 0x93];

const fn code(scan: u8, ascii: u8) -> u16 {
    u16::from_be_bytes([scan, ascii])
}

/// The key's code, or `None` where the combination has none.
pub(super) fn lookup(scan: u8, s: Shifts) -> Option<u16> {
    match scan {
        0x3b..=0x44 => {
            let add = if s.alt {
                0x2d
            } else if s.ctrl {
                0x23
            } else if s.shift {
                0x19
            } else {
                0
            };
            Some(code(scan + add, 0))
        }
        0x57 | 0x58 => {
            let add = if s.alt {
                6
            } else if s.ctrl {
                4
            } else if s.shift {
                2
            } else {
                0
            };
            Some(code(scan - 0x57 + 0x85 + add, 0))
        }
        0x47..=0x53 if s.grey => grey_cursor(scan, s),
        0x47..=0x53 => keypad(scan, s),
        0x1c if s.grey => Some(match (s.alt, s.ctrl) {
            (true, _) => 0xa600,
            (_, true) => 0xe00a,
            _ => 0xe00d,
        }),
        0x35 if s.grey => Some(match (s.alt, s.ctrl) {
            (true, _) => 0xa400,
            (_, true) => 0x9500,
            _ => 0xe02f,
        }),
        _ if s.grey => None,
        0x56 => Some(code(scan, if s.shift { b'|' } else { b'\\' })).filter(|_| !s.alt && !s.ctrl),
        _ => typing(scan, s),
    }
}

fn typing(scan: u8, s: Shifts) -> Option<u16> {
    let [plain, shifted] = *ASCII.get(usize::from(scan))?;
    if plain == 0 {
        return None;
    }
    let letter = plain.is_ascii_lowercase();
    if s.alt {
        return Some(match scan {
            0x39 => 0x3920,
            0x0f => 0xa500,
            0x02..=0x0d => code(scan + 0x76, 0),
            _ if letter => code(scan, 0),
            _ => code(scan, 0xf0),
        });
    }
    if s.ctrl {
        return Some(match scan {
            _ if letter => code(scan, plain & 0x1f),
            0x01 => 0x011b,
            0x03 => 0x0300,
            0x07 => 0x071e,
            0x0c => 0x0c1f,
            0x0e => 0x0e7f,
            0x0f => 0x9400,
            0x1a => 0x1a1b,
            0x1b => 0x1b1d,
            0x1c => 0x1c0a,
            0x2b => 0x2b1c,
            0x37 => 0x9600,
            0x39 => 0x3920,
            _ => return None,
        });
    }
    let upper = s.shift != (letter && s.caps);
    Some(code(scan, if upper { shifted } else { plain }))
}

fn keypad(scan: u8, s: Shifts) -> Option<u16> {
    let n = usize::from(scan - 0x47);
    let digit = *KEYPAD.get(n)?;
    if matches!(scan, 0x4a | 0x4e) {
        return Some(match (s.alt, s.ctrl) {
            (true, _) => code(scan, 0xf0),
            (_, true) => code(*CTRL_CURSOR.get(n)?, 0),
            _ => code(scan, digit),
        });
    }
    if s.alt {
        return None;
    }
    if s.ctrl {
        return Some(code(*CTRL_CURSOR.get(n)?, 0));
    }
    if s.num != s.shift {
        return Some(code(scan, digit));
    }
    Some(code(scan, if scan == 0x4c { 0xf0 } else { 0 }))
}

fn grey_cursor(scan: u8, s: Shifts) -> Option<u16> {
    if matches!(scan, 0x4a | 0x4c | 0x4e) {
        return None;
    }
    if s.alt {
        return Some(code(scan + 0x50, 0));
    }
    if s.ctrl {
        return Some(code(*CTRL_CURSOR.get(usize::from(scan - 0x47))?, 0xe0));
    }
    Some(code(scan, 0xe0))
}

/// The digit a keypad key stands for in Alt-number entry.
pub(super) fn keypad_digit(scan: u8) -> Option<u8> {
    let digit = *KEYPAD.get(usize::from(scan.checked_sub(0x47)?))?;
    digit.is_ascii_digit().then(|| digit - b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Shifts =
        Shifts { shift: false, ctrl: false, alt: false, caps: false, num: false, grey: false };

    #[test]
    fn letters_follow_shift_and_caps_lock() {
        assert_eq!(lookup(0x1e, NONE), Some(0x1e61));
        assert_eq!(lookup(0x1e, Shifts { shift: true, ..NONE }), Some(0x1e41));
        assert_eq!(lookup(0x1e, Shifts { shift: true, caps: true, ..NONE }), Some(0x1e61));
        assert_eq!(lookup(0x02, Shifts { caps: true, ..NONE }), Some(0x0231));
        assert_eq!(lookup(0x32, Shifts { ctrl: true, ..NONE }), Some(0x320d));
        assert_eq!(lookup(0x32, Shifts { alt: true, ..NONE }), Some(0x3200));
    }

    #[test]
    fn function_and_cursor_keys_have_the_codes_of_the_reference() {
        assert_eq!(lookup(0x3b, NONE), Some(0x3b00));
        assert_eq!(lookup(0x44, Shifts { alt: true, ..NONE }), Some(0x7100));
        assert_eq!(lookup(0x58, Shifts { ctrl: true, ..NONE }), Some(0x8a00));
        assert_eq!(lookup(0x48, Shifts { grey: true, ..NONE }), Some(0x48e0));
        assert_eq!(lookup(0x48, Shifts { grey: true, alt: true, ..NONE }), Some(0x9800));
        assert_eq!(lookup(0x48, Shifts { num: true, ..NONE }), Some(0x4838));
        assert_eq!(lookup(0x48, Shifts { num: true, shift: true, ..NONE }), Some(0x4800));
        assert_eq!(lookup(0x39, NONE), Some(0x3920));
        assert_eq!(lookup(0x35, Shifts { shift: true, ..NONE }), Some(0x353f));
    }

    #[test]
    fn no_scan_code_with_any_shift_keys_goes_wrong() {
        for scan in 0..=255 {
            for bits in 0..64 {
                let on = |bit: u8| bits >> bit & 1 != 0;
                let shifts = Shifts {
                    shift: on(0),
                    ctrl: on(1),
                    alt: on(2),
                    caps: on(3),
                    num: on(4),
                    grey: on(5),
                };
                let _ = lookup(scan, shifts);
            }
            let _ = keypad_digit(scan);
        }
    }
}
