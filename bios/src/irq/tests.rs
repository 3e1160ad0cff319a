use crate::caller::Outcome;
use crate::rom::Service;
use crate::testing::{Guest, Mock};
use std::vec::Vec;

fn guest() -> Guest {
    Guest::new(Mock::new())
}

/// Presses keys by scan code; AH of the last trap.
fn press(g: &mut Guest, codes: &[u8]) -> u8 {
    for &code in codes {
        g.set(code.into(), 0, 0, 0);
        assert_eq!(g.trap(Service::Key), Outcome::Done, "{code:x}");
    }
    (g.ax() >> 8) as u8
}

fn keys(g: &mut Guest) -> Vec<u16> {
    let mut all = Vec::new();
    loop {
        let _ = g.set(0x1100, 0, 0, 0).int(Service::Int16);
        if g.zf() {
            return all;
        }
        let _ = g.set(0x1000, 0, 0, 0).int(Service::Int16);
        all.push(g.ax());
    }
}

#[test]
fn typing_fills_the_ring_and_a_full_ring_drops_keys() {
    let mut g = guest();
    assert_eq!(press(&mut g, &[0x1e]), 1);
    press(&mut g, &[0x9e, 0x2a, 0x30, 0xb0, 0xaa, 0x2e]);
    assert_eq!(keys(&mut g), [0x1e61, 0x3042, 0x2e63]);
    for _ in 0..15 {
        assert_eq!(press(&mut g, &[0x1e]), 1);
    }
    assert_eq!(press(&mut g, &[0x1e]), 0);
    assert_eq!(keys(&mut g).len(), 15);
}

#[test]
fn waiting_for_a_key_halts_the_stub_until_one_comes() {
    let mut g = guest();
    let _ = g.set(0x0000, 0, 0, 0).int(Service::Int16);
    assert!(g.cf() && !g.zf());
    assert_eq!(g.ax(), 0, "registers stay for the next try");
    press(&mut g, &[0x1c]);
    let _ = g.set(0x0000, 0, 0, 0).int(Service::Int16);
    assert_eq!((g.ax(), g.cf()), (0x1c0d, false));
}

#[test]
fn old_callers_get_grey_keys_folded_and_never_see_new_ones() {
    let mut g = guest();
    press(&mut g, &[0x57, 0xe0, 0x48]);
    let _ = g.set(0x0000, 0, 0, 0).int(Service::Int16);
    assert_eq!(g.ax(), 0x4800);
    press(&mut g, &[0xe0, 0x48]);
    assert_eq!(keys(&mut g), [0x48e0]);
}

#[test]
fn alt_and_keypad_digits_make_any_character() {
    let mut g = guest();
    press(&mut g, &[0x38, 0x4f, 0x50, 0x51]);
    assert_eq!(press(&mut g, &[0xb8]), 1);
    assert_eq!(keys(&mut g), [123]);
}

#[test]
fn special_keys_tell_the_stub_what_to_call() {
    let mut g = guest();
    assert_eq!(press(&mut g, &[0x1d, 0xe0, 0x46]), 2);
    assert_eq!(g.bus.bytes(0x471, 1), [0x80]);
    press(&mut g, &[0xe0, 0xc6, 0x9d]);
    assert_eq!(press(&mut g, &[0xe0, 0x2a, 0xe0, 0x37]), 3);
    assert_eq!(press(&mut g, &[0xe1, 0x1d, 0x45]), 4);
    let _ = g.trap(Service::Paused);
    assert!(g.cf());
    press(&mut g, &[0xe1, 0x9d, 0xc5, 0x1e]);
    let _ = g.trap(Service::Paused);
    assert!(!g.cf());
    assert_eq!(keys(&mut g), [0], "the key that ends a pause is not typed");
    assert_eq!(press(&mut g, &[0x54]), 5);
    assert_eq!(press(&mut g, &[0xd4]), 6);
    press(&mut g, &[0x1d, 0x38]);
    g.set(0x53, 0, 0, 0);
    assert_eq!(g.trap(Service::Key), Outcome::Reset);
    assert_eq!(g.bus.u16(0x472), 0x1234);
}

#[test]
fn lock_keys_toggle_once_and_light_up_after_the_acknowledgement() {
    let mut g = guest();
    press(&mut g, &[0x3a, 0x3a]);
    assert_eq!(g.bus.bytes(0x417, 1)[0] & 0x40, 0x40);
    assert_eq!(g.bus.outs, [(0x60, 1, 0xed)]);
    press(&mut g, &[0xfa]);
    assert_eq!(g.bus.outs, [(0x60, 1, 0xed), (0x60, 1, 4)]);
    press(&mut g, &[0xfa, 0xba]);
    assert_eq!(g.bus.outs.len(), 2);
}
