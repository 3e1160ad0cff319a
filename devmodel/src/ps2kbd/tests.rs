use super::*;
use crate::testing::Rng;
use std::vec;
use std::vec::Vec;

fn drain(keyboard: &mut Ps2Keyboard) -> Vec<u8> {
    core::iter::from_fn(|| keyboard.take()).collect()
}

fn answers(keyboard: &mut Ps2Keyboard, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for &byte in bytes {
        keyboard.write(byte);
        all.extend(drain(keyboard));
    }
    all
}

fn strike(keyboard: &mut Ps2Keyboard, key: Key) -> (Vec<u8>, Vec<u8>) {
    assert!(keyboard.key(key, true, Nanos(0)));
    let make = drain(keyboard);
    assert!(keyboard.key(key, false, Nanos(0)));
    (make, drain(keyboard))
}

#[test]
fn each_set_has_its_own_codes() {
    let mut keyboard = Ps2Keyboard::new();
    assert_eq!(strike(&mut keyboard, Key::A), (vec![0x1C], vec![0xF0, 0x1C]));
    assert_eq!(strike(&mut keyboard, Key::Up), (vec![0xE0, 0x75], vec![0xE0, 0xF0, 0x75]));
    assert_eq!(answers(&mut keyboard, &[0xF0, 1]), [ACK, ACK]);
    assert_eq!(strike(&mut keyboard, Key::A), (vec![0x1E], vec![0x9E]));
    assert_eq!(strike(&mut keyboard, Key::Up), (vec![0xE0, 0x48], vec![0xE0, 0xC8]));
    assert_eq!(answers(&mut keyboard, &[0xF0, 3]), [ACK, ACK]);
    assert_eq!(strike(&mut keyboard, Key::Up), (vec![0x63], vec![0xF0, 0x63]));
    assert_eq!(answers(&mut keyboard, &[0xF0, 0]), [ACK, ACK, 3]);
    assert_eq!(answers(&mut keyboard, &[0xF0, 9]), [ACK, RESEND]);
}

#[test]
fn pause_and_print_screen_send_their_long_sequences() {
    let mut keyboard = Ps2Keyboard::new();
    let pause = vec![0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77];
    assert_eq!(strike(&mut keyboard, Key::Pause), (pause, vec![]));
    let (make, release) = strike(&mut keyboard, Key::PrintScreen);
    assert_eq!(make, [0xE0, 0x12, 0xE0, 0x7C]);
    assert_eq!(release, [0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12]);
    keyboard.key(Key::LeftAlt, true, Nanos(0));
    drain(&mut keyboard);
    assert_eq!(strike(&mut keyboard, Key::PrintScreen), (vec![0x84], vec![0xF0, 0x84]));
    keyboard.key(Key::LeftCtrl, true, Nanos(0));
    drain(&mut keyboard);
    let ctrl_break = vec![0xE0, 0x7E, 0xE0, 0xF0, 0x7E];
    assert_eq!(strike(&mut keyboard, Key::Pause), (ctrl_break, vec![]));
}

#[test]
fn the_table_of_all_keys_is_in_order_and_no_two_share_a_code() {
    for (index, key) in Key::ALL.into_iter().enumerate() {
        assert_eq!(key as usize, index);
        let codes = key.codes();
        if codes.set2 != 0 {
            assert_eq!(Key::from_set2(codes.set2, codes.extended), Some(key));
            assert_eq!(Key::from_set1(set1_of_set2(codes.set2), codes.extended), Some(key));
            assert_eq!(key.set1(), Some((set1_of_set2(codes.set2), codes.extended)));
        }
        if codes.set3 != 0 {
            assert_eq!(Key::from_set3(codes.set3), Some(key));
        }
    }
    assert_eq!(Key::from_set1(0x37, true), Some(Key::PrintScreen));
    assert_eq!(Key::from_set1(0x7B, true), None);
}

#[test]
fn every_printable_character_can_be_typed() {
    for byte in b' '..=b'~' {
        assert!(us_ascii_to_keys(byte as char).is_some(), "{:?}", byte as char);
    }
    let typed = |character| us_ascii_to_keys(character).unwrap();
    assert_eq!(typed('a'), Chord { shift: false, ctrl: false, key: Key::A });
    assert_eq!(typed('?'), Chord { shift: true, ctrl: false, key: Key::Slash });
    assert_eq!(typed('\\').key, Key::Backslash);
    assert_eq!(typed('\n').key, Key::Enter);
    assert_eq!(typed('\x03'), Chord { shift: false, ctrl: true, key: Key::C });
    assert_eq!(us_ascii_to_keys('é'), None);
    let strokes: Vec<_> = typed('Q').strokes().collect();
    let shift = Key::LeftShift;
    assert_eq!(strokes, [(shift, true), (Key::Q, true), (Key::Q, false), (shift, false)]);
}

#[test]
fn a_held_key_repeats_after_its_delay_at_its_rate() {
    let mut keyboard = Ps2Keyboard::new();
    assert_eq!(answers(&mut keyboard, &[0xF3, 0x00]), [ACK, ACK]);
    keyboard.key(Key::X, true, Nanos(0));
    assert_eq!(keyboard.due(), None, "not before its code is read");
    drain(&mut keyboard);
    let first = Nanos(250_000_000);
    assert_eq!(keyboard.due(), Some(first));
    keyboard.advance(first);
    assert_eq!(drain(&mut keyboard), [0x22]);
    assert_eq!(keyboard.due(), Some(first + 33_333_333));
    keyboard.key(Key::X, false, first);
    assert_eq!(drain(&mut keyboard), [0xF0, 0x22]);
    assert_eq!(keyboard.due(), None);
}

#[test]
fn a_full_queue_keeps_keys_back_and_loses_no_release() {
    let mut keyboard = Ps2Keyboard::new();
    keyboard.key(Key::A, true, Nanos(0));
    let mut pressed = 1;
    for key in Key::ALL {
        if key != Key::A && keyboard.key(key, true, Nanos(0)) {
            pressed += 1;
        }
    }
    assert!(pressed <= 32);
    assert!(!keyboard.key(Key::A, false, Nanos(0)));
    drain(&mut keyboard);
    assert!(keyboard.key(Key::A, false, Nanos(0)));
    assert_eq!(drain(&mut keyboard), [0xF0, 0x1C]);
}

#[test]
fn set_3_keys_can_be_told_not_to_break_or_repeat() {
    let mut keyboard = Ps2Keyboard::new();
    answers(&mut keyboard, &[0xF0, 3]);
    assert_eq!(answers(&mut keyboard, &[0xFD, 0x1C, 0x1B]), [ACK, ACK, ACK]);
    answers(&mut keyboard, &[0xF4]);
    assert_eq!(strike(&mut keyboard, Key::A), (vec![0x1C], vec![]));
    assert_eq!(strike(&mut keyboard, Key::D), (vec![0x23], vec![0xF0, 0x23]));
    answers(&mut keyboard, &[0xFA]);
    assert_eq!(strike(&mut keyboard, Key::A), (vec![0x1C], vec![0xF0, 0x1C]));
}

#[test]
fn linux_atkbd_resets_identifies_and_sets_up_the_keyboard() {
    let mut keyboard = Ps2Keyboard::new();
    // atkbd_probe: GETID; atkbd_activate; LEDs; rate; then typing.
    assert_eq!(answers(&mut keyboard, &[0xFF]), [ACK, 0xAA]);
    assert_eq!(answers(&mut keyboard, &[0xF2]), [ACK, 0xAB, 0x83]);
    assert_eq!(answers(&mut keyboard, &[0xF5]), [ACK]);
    assert_eq!(strike(&mut keyboard, Key::B), (vec![], vec![]), "it does not scan");
    assert_eq!(answers(&mut keyboard, &[0xED, 0x02, 0xF3, 0x20]), [ACK; 4]);
    assert_eq!(keyboard.leds(), 2);
    assert_eq!(answers(&mut keyboard, &[0xF4]), [ACK]);
    assert_eq!(strike(&mut keyboard, Key::B).0, [0x32]);
    assert_eq!(answers(&mut keyboard, &[0xEE]), [0xEE]);
    assert_eq!(answers(&mut keyboard, &[0xFE]), [0xEE], "resend repeats the last byte");
    assert_eq!(answers(&mut keyboard, &[0x12]), [RESEND]);
    assert_eq!(answers(&mut keyboard, &[0xED, 0xF4]), [ACK, ACK], "F4 is no LED pattern");
}

#[test]
fn answers_go_before_scan_codes() {
    let mut keyboard = Ps2Keyboard::new();
    keyboard.key(Key::A, true, Nanos(0));
    keyboard.write(0xED);
    assert_eq!(keyboard.peek(), Some((ACK, true)));
    assert_eq!(drain(&mut keyboard), [ACK, 0x1C]);
}

#[test]
fn a_random_walk_never_panics_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut keyboard = Ps2Keyboard::new();
        let mut now = Nanos::ZERO;
        for _ in 0..3_000 {
            now = now + rng.below(100_000_000);
            match rng.below(5) {
                0 => keyboard.write(rng.byte()),
                1 => keyboard.write(0xED + rng.below(19) as u8),
                2 => {
                    let key = Key::ALL[rng.below(u64::from(Key::COUNT)) as usize];
                    keyboard.key(key, rng.one_in(2), now);
                }
                3 => {
                    assert_eq!(keyboard.peek().map(|(byte, _)| byte), keyboard.take());
                }
                _ => {
                    keyboard.advance(now);
                    assert!(keyboard.due().is_none_or(|due| due > now));
                }
            }
            let mut copy = Ps2Keyboard::new();
            assert_eq!(copy.load(&keyboard.save()), Ok(()));
            assert_eq!(copy, keyboard);
        }
    }
}

#[test]
fn load_refuses_what_no_keyboard_holds() {
    let mut keyboard = Ps2Keyboard::new();
    let good = keyboard.save();
    let mut refused = |state| keyboard.load(&state).unwrap_err();
    assert_eq!(refused(Ps2KeyboardState { version: 0, ..good }), LoadError::Version);
    let bad = Ps2KeyboardState { scan_set: 0, ..good };
    assert_eq!(refused(bad), LoadError::Impossible("scan_set"));
    let bad = Ps2KeyboardState { codes: ([0; 32], 33), ..good };
    assert_eq!(refused(bad), LoadError::Impossible("codes"));
    let bad = Ps2KeyboardState { held: u128::MAX, ..good };
    assert_eq!(refused(bad), LoadError::Impossible("held"));
    let bad = Ps2KeyboardState { repeat: Some((Key::A, Nanos(0))), ..good };
    assert_eq!(refused(bad), LoadError::Impossible("repeat"));
}
