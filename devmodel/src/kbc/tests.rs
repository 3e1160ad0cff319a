use super::*;
use crate::testing::Rng;

fn command(kbc: &mut Kbc, value: u8) {
    assert_eq!(kbc.write_command(value), None);
}

/// A command's answer.
fn ask(kbc: &mut Kbc, value: u8) -> u8 {
    command(kbc, value);
    assert_eq!(kbc.read_status() & STATUS_OBF, STATUS_OBF);
    kbc.read_data()
}

#[test]
fn a_byte_from_each_port_raises_its_own_line_until_read() {
    let mut kbc = Kbc::new();
    kbc.receive(0x1C, Source::Keyboard);
    assert!(kbc.irq1() && !kbc.irq12());
    assert_eq!(kbc.read_status() & 0x21, 0x01);
    assert!(!kbc.accepts(Source::Mouse));
    assert_eq!(kbc.read_data(), 0x1E);
    assert!(!kbc.irq1());
    assert_eq!(kbc.read_data(), 0x1E, "the buffer shows its last byte");
    kbc.receive(0xFA, Source::Mouse);
    assert!(kbc.irq12() && !kbc.irq1());
    assert_eq!(kbc.read_status() & 0x21, 0x21);
}

#[test]
fn translation_swallows_f0_and_marks_the_release() {
    let mut kbc = Kbc::new();
    let mut seen = std::vec::Vec::new();
    for byte in [0xE0, 0x75, 0xE0, 0xF0, 0x75, 0xFA, 0x83] {
        kbc.receive(byte, Source::Keyboard);
        if kbc.read_status() & STATUS_OBF != 0 {
            seen.push(kbc.read_data());
        }
    }
    assert_eq!(seen, [0xE0, 0x48, 0xE0, 0xC8, 0xFA, 0x41]);
}

#[test]
fn a20_follows_the_output_port_and_its_short_commands() {
    let mut kbc = Kbc::new();
    command(&mut kbc, 0xDD);
    assert!(!kbc.a20());
    assert_eq!(ask(&mut kbc, 0xD0), 0xC1);
    command(&mut kbc, 0xD1);
    assert_eq!(kbc.write_data(0xDF), None);
    assert!(kbc.a20());
    command(&mut kbc, 0xDD);
    command(&mut kbc, 0xDF);
    assert_eq!(ask(&mut kbc, 0xD0), 0xC3);
}

#[test]
fn reset_comes_from_fe_and_from_output_port_bit_0() {
    let mut kbc = Kbc::new();
    assert_eq!(kbc.write_command(0xFE), Some(KbcEffect::Init));
    assert_eq!(kbc.write_command(0xFF), None);
    command(&mut kbc, 0xD1);
    assert_eq!(kbc.write_data(0x02), Some(KbcEffect::Init));
}

#[test]
fn disabled_ports_keep_their_bytes_and_a_write_enables_them() {
    let mut kbc = Kbc::new();
    command(&mut kbc, 0xAD);
    command(&mut kbc, 0xA7);
    assert!(!kbc.accepts(Source::Keyboard) && !kbc.accepts(Source::Mouse));
    assert_eq!(ask(&mut kbc, 0xE0), 0);
    assert_eq!(kbc.write_data(0xF4), Some(KbcEffect::ToKeyboard(0xF4)));
    command(&mut kbc, 0xD4);
    assert_eq!(kbc.write_data(0xF4), Some(KbcEffect::ToMouse(0xF4)));
    assert!(kbc.accepts(Source::Keyboard) && kbc.accepts(Source::Mouse));
}

#[test]
fn d2_and_d3_echo_a_byte_as_if_a_device_had_sent_it() {
    let mut kbc = Kbc::new();
    command(&mut kbc, 0xD2);
    assert_eq!(kbc.write_data(0x1C), None);
    assert!(kbc.irq1());
    assert_eq!(kbc.read_data(), 0x1C, "not translated");
    command(&mut kbc, 0xD3);
    assert_eq!(kbc.write_data(0x5A), None);
    assert_eq!(kbc.read_status() & 0x21, 0x21);
}

#[test]
fn an_answer_waits_behind_an_unread_byte() {
    let mut kbc = Kbc::new();
    kbc.receive(0x1C, Source::Keyboard);
    command(&mut kbc, 0x20);
    assert_eq!(kbc.read_data(), 0x1E);
    assert!(kbc.reply_waits() && !kbc.accepts(Source::Keyboard));
    kbc.load_reply();
    assert_eq!(kbc.read_data(), 0x43);
}

#[test]
fn linux_i8042_probes_controller_and_aux_port() {
    let mut kbc = Kbc::new();
    // i8042_controller_check, i8042_controller_selftest, i8042_controller_init.
    assert_eq!(kbc.read_status() & STATUS_OBF, 0);
    assert_eq!(ask(&mut kbc, 0xAA), 0x55);
    let ctr = ask(&mut kbc, 0x20);
    assert_eq!(kbc.read_status() & STATUS_NO_LOCK, STATUS_NO_LOCK);
    assert_eq!(ctr & CONFIG_TRANSLATE, CONFIG_TRANSLATE);
    command(&mut kbc, 0x60);
    let _ = kbc.write_data((ctr | CONFIG_NO_KEYBOARD) & !CONFIG_IRQ1);
    // i8042_check_aux: the loop command gives the byte back with the aux bit, not inverted.
    command(&mut kbc, 0xD3);
    let _ = kbc.write_data(0x5A);
    assert_eq!((kbc.read_status() & 0x21, kbc.read_data()), (0x21, 0x5A));
    // i8042_toggle_aux must show in the command byte.
    command(&mut kbc, 0xA7);
    assert_eq!(ask(&mut kbc, 0x20) & CONFIG_NO_MOUSE, CONFIG_NO_MOUSE);
    command(&mut kbc, 0xA8);
    assert_eq!(ask(&mut kbc, 0x20) & CONFIG_NO_MOUSE, 0);
    assert_eq!(ask(&mut kbc, 0xA9), 0);
    assert_eq!(ask(&mut kbc, 0xAB), 0);
    // The loop test of the interrupt: IRQ12 on, D3h, and the line must rise.
    command(&mut kbc, 0x60);
    let _ = kbc.write_data(ctr | CONFIG_IRQ12 | CONFIG_IRQ1);
    command(&mut kbc, 0xD3);
    let _ = kbc.write_data(0xA5);
    assert!(kbc.irq12());
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut kbc = Kbc::new();
        for _ in 0..3_000 {
            match rng.below(5) {
                0 => {
                    let _ = kbc.write_command(rng.byte());
                }
                1 => {
                    let _ = kbc.write_data(rng.byte());
                }
                2 => {
                    kbc.read_data();
                    kbc.load_reply();
                }
                3 if kbc.accepts(Source::Keyboard) => kbc.receive(rng.byte(), Source::Keyboard),
                _ if kbc.accepts(Source::Mouse) => kbc.receive(rng.byte(), Source::Mouse),
                _ => {}
            }
            assert!(!(kbc.irq1() && kbc.irq12()));
            let mut copy = Kbc::new();
            assert_eq!(copy.load(&kbc.save()), Ok(()));
            assert_eq!(copy, kbc);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut kbc = Kbc::new();
    let good = kbc.save();
    assert_eq!(kbc.load(&KbcState { version: 0, ..good }), Err(LoadError::Version));
    let bad = KbcState { config: 0x80, ..good };
    assert_eq!(kbc.load(&bad), Err(LoadError::Impossible("config")));
    let bad = KbcState { expects: Expects::Ram(0x20), ..good };
    assert_eq!(kbc.load(&bad), Err(LoadError::Impossible("expects")));
}
