use super::*;
use crate::testing::Rng;
use std::vec;
use std::vec::Vec;

fn drain(mouse: &mut Ps2Mouse) -> Vec<u8> {
    core::iter::from_fn(|| mouse.take()).collect()
}

fn answers(mouse: &mut Ps2Mouse, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for &byte in bytes {
        mouse.write(byte);
        all.extend(drain(mouse));
    }
    all
}

fn report(mouse: &mut Ps2Mouse, now: u64) -> Vec<u8> {
    mouse.advance(Nanos(now));
    drain(mouse)
}

const LEFT: Buttons =
    Buttons { left: true, right: false, middle: false, side: false, extra: false };

#[test]
fn a_plain_mouse_reports_three_bytes_with_signs() {
    let mut mouse = Ps2Mouse::new();
    mouse.motion(5, 5, 0);
    assert_eq!(report(&mut mouse, 0), [], "not before F4");
    assert_eq!(answers(&mut mouse, &[0xF4]), [ACK]);
    mouse.motion(-3, 4, 0);
    assert_eq!(report(&mut mouse, 0), [0x38, 0xFD, 0xFC]);
    mouse.set_buttons(LEFT);
    assert_eq!(mouse.due(), Some(Nanos(10_000_000)), "a hundred samples a second");
    assert_eq!(report(&mut mouse, 9_999_999), []);
    assert_eq!(report(&mut mouse, 10_000_000), [0x09, 0, 0]);
    assert_eq!(mouse.due(), None);
}

#[test]
fn large_movements_take_several_reports() {
    let mut mouse = Ps2Mouse::new();
    answers(&mut mouse, &[0xF4]);
    mouse.motion(300, -600, 0);
    assert_eq!(report(&mut mouse, 0), [0x08, 255, 255]);
    assert_eq!(report(&mut mouse, 10_000_000), [0x08, 45, 255]);
    assert_eq!(report(&mut mouse, 20_000_000), [0x08, 0, 90]);
    assert_eq!(mouse.due(), None);
}

#[test]
fn linux_psmouse_finds_wheel_and_five_buttons() {
    let mut mouse = Ps2Mouse::new();
    // psmouse_probe, intellimouse_detect, im_explorer_detect.
    assert_eq!(answers(&mut mouse, &[0xF2]), [ACK, 0]);
    assert_eq!(answers(&mut mouse, &[0xFF]), [ACK, 0xAA, 0]);
    assert_eq!(answers(&mut mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80]), [ACK; 6]);
    assert_eq!(answers(&mut mouse, &[0xF2]), [ACK, 3]);
    assert_eq!(answers(&mut mouse, &[0xF3, 200, 0xF3, 200, 0xF3, 80]), [ACK; 6]);
    assert_eq!(answers(&mut mouse, &[0xF2]), [ACK, 4]);
    assert_eq!(answers(&mut mouse, &[0xF3, 100, 0xE8, 3, 0xE6, 0xF4]), [ACK; 6]);
    mouse.motion(1, 0, -1);
    mouse.set_buttons(Buttons { side: true, ..Buttons::default() });
    assert_eq!(report(&mut mouse, 0), [0x08, 1, 0, 0x1F]);
}

#[test]
fn the_wheel_of_id_3_is_a_signed_byte() {
    let mut mouse = Ps2Mouse::new();
    answers(&mut mouse, &[0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF4]);
    mouse.motion(0, 0, -1);
    assert_eq!(report(&mut mouse, 0), [0x08, 0, 0, 0xFF]);
    mouse.motion(0, 0, 9);
    assert_eq!(report(&mut mouse, 100_000_000), [0x08, 0, 0, 7]);
    assert_eq!(report(&mut mouse, 200_000_000), [0x08, 0, 0, 2]);
}

#[test]
fn remote_mode_reports_only_when_asked() {
    let mut mouse = Ps2Mouse::new();
    answers(&mut mouse, &[0xF4, 0xF0]);
    mouse.motion(7, 0, 0);
    assert_eq!(report(&mut mouse, 0), []);
    assert_eq!(answers(&mut mouse, &[0xEB]), [ACK, 0x08, 7, 0]);
    assert_eq!(answers(&mut mouse, &[0xE9]), [ACK, 0x60, 2, 100]);
    answers(&mut mouse, &[0xEA]);
    mouse.motion(1, 0, 0);
    assert_eq!(report(&mut mouse, 0), [0x08, 1, 0]);
}

#[test]
fn wrap_mode_echoes_all_but_its_end_and_reset() {
    let mut mouse = Ps2Mouse::new();
    assert_eq!(answers(&mut mouse, &[0xEE, 0xF2, 0x12, 0xEE]), [ACK, 0xF2, 0x12, 0xEE]);
    assert_eq!(answers(&mut mouse, &[0xEC, 0xF2]), [ACK, ACK, 0]);
    answers(&mut mouse, &[0xEE]);
    assert_eq!(answers(&mut mouse, &[0xFF]), [ACK, 0xAA, 0]);
}

#[test]
fn scaling_2_1_bends_stream_reports_but_not_read_data() {
    let mut mouse = Ps2Mouse::new();
    answers(&mut mouse, &[0xF4, 0xE7]);
    for (index, (step, scaled)) in
        [(1, 1), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12)].iter().enumerate()
    {
        mouse.motion(*step, 0, 0);
        assert_eq!(report(&mut mouse, index as u64 * 10_000_000), [0x08, *scaled, 0]);
    }
    mouse.motion(5, 0, 0);
    assert_eq!(answers(&mut mouse, &[0xEB]), [ACK, 0x08, 5, 0]);
}

#[test]
fn a_command_cuts_off_a_report_and_bad_arguments_are_refused() {
    let mut mouse = Ps2Mouse::new();
    answers(&mut mouse, &[0xF4]);
    mouse.set_buttons(LEFT);
    mouse.advance(Nanos(0));
    assert_eq!(mouse.take(), Some(0x09));
    assert_eq!(answers(&mut mouse, &[0xE8, 9]), vec![ACK, RESEND]);
    assert_eq!(report(&mut mouse, 10_000_000), [0x09, 0, 0], "the buttons are told again");
    assert_eq!(answers(&mut mouse, &[0xF3, 0]), [ACK, RESEND]);
    assert_eq!(answers(&mut mouse, &[0x00]), [RESEND]);
    assert_eq!(answers(&mut mouse, &[0xFE]), [ACK]);
}

#[test]
fn a_random_walk_never_panics_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut mouse = Ps2Mouse::new();
        let mut now = Nanos::ZERO;
        for _ in 0..3_000 {
            now = now + rng.below(10_000_000);
            match rng.below(6) {
                0 => mouse.write(rng.byte()),
                1 => mouse.write(0xE6 + rng.below(26) as u8),
                2 => mouse.motion(
                    rng.next() as i32 >> 20,
                    rng.next() as i32,
                    rng.byte() as i8 as i32,
                ),
                3 => mouse.set_buttons(Buttons { left: rng.one_in(2), ..Buttons::default() }),
                4 => assert_eq!(mouse.peek().map(|(byte, _)| byte), mouse.take()),
                _ => {
                    mouse.advance(now);
                    assert!(mouse.due().is_none_or(|due| due > now));
                }
            }
            let mut copy = Ps2Mouse::new();
            assert_eq!(copy.load(&mouse.save()), Ok(()));
            assert_eq!(copy, mouse);
        }
    }
}

#[test]
fn load_refuses_what_no_mouse_holds() {
    let mut mouse = Ps2Mouse::new();
    let good = mouse.save();
    let mut refused = |state| mouse.load(&state).unwrap_err();
    assert_eq!(refused(Ps2MouseState { version: 0, ..good }), LoadError::Version);
    assert_eq!(refused(Ps2MouseState { id: 1, ..good }), LoadError::Impossible("id"));
    let bad = Ps2MouseState { sample_rate: 0, ..good };
    assert_eq!(refused(bad), LoadError::Impossible("sample_rate"));
    let bad = Ps2MouseState { dx: i32::MIN, ..good };
    assert_eq!(refused(bad), LoadError::Impossible("motion"));
}
