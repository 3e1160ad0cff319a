//! From scan codes to the key numbers of a keyboard's events, which are Linux's (`KEY_*`).

/// The left, right and middle button of a mouse, which are keys too (`BTN_LEFT` and so on).
pub const BUTTONS: [u32; 3] = [0x110, 0x111, 0x112];

/// The key of a scan code of set 1, without its release bit; `extended` codes come after E0h.
#[must_use]
pub fn from_set_1(code: u8, extended: bool) -> Option<u32> {
    if !extended {
        // Linux numbered its keys after this set.
        return (1..=0x58).contains(&code).then_some(code.into());
    }
    Some(match code {
        0x1c => 96,  // keypad enter
        0x1d => 97,  // right control
        0x20 => 113, // mute
        0x2e => 114, // quieter
        0x30 => 115, // louder
        0x35 => 98,  // keypad slash
        0x37 => 99,  // print screen
        0x38 => 100, // right alt
        0x46 => 119, // pause, as control with break
        0x47 => 102, // home
        0x48 => 103, // up
        0x49 => 104, // page up
        0x4b => 105, // left
        0x4d => 106, // right
        0x4f => 107, // end
        0x50 => 108, // down
        0x51 => 109, // page down
        0x52 => 110, // insert
        0x53 => 111, // delete
        0x5b => 125, // left window
        0x5c => 126, // right window
        0x5d => 127, // menu
        0x5e => 116, // power
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_linux_keys() {
        assert_eq!(from_set_1(0x01, false), Some(1), "escape");
        assert_eq!(from_set_1(0x1c, false), Some(28), "enter");
        assert_eq!(from_set_1(0x58, false), Some(88), "F12");
        assert_eq!(from_set_1(0x48, true), Some(103), "up");
        assert_eq!((from_set_1(0, false), from_set_1(0x7f, false)), (None, None));
        assert_eq!(from_set_1(0x2a, true), None, "a shift that is none");
    }
}
