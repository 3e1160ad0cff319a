use super::*;
use crate::state::LoadError;
use crate::testing::{Rng, TestMemory};
use std::vec::Vec;

const MAC: [u8; 6] = [0x00, 0x16, 0x3E, 0x12, 0x34, 0x56];
const RING: u64 = 0x1_0000;

/// A card whose driver has started it: a ring of 8 KiB, own and broadcast frames.
fn started() -> (Rtl8139, TestMemory) {
    let mut card = Rtl8139::new(MAC);
    for (at, width, value) in [
        (0x37, 1, 0x10),
        (0x30, 4, RING as u32),
        (0x37, 1, 0x0C),
        (0x44, 4, 0x0A),
        (0x3C, 2, 0xE07F),
    ] {
        let _ = card.write(at, width, value);
    }
    (card, TestMemory::new(1 << 18))
}

fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = std::vec![0x5A; len];
    frame[..6].copy_from_slice(&to);
    frame
}

fn send(card: &mut Rtl8139, memory: &TestMemory) -> Vec<Vec<u8>> {
    let mut wire = Vec::new();
    card.transmit(memory, &mut |frame| wire.push(frame.to_vec()));
    wire
}

#[test]
fn a_descriptor_that_is_given_away_is_sent_and_comes_back() {
    let (mut card, memory) = started();
    assert!(memory.write(0x2000, &[7; 64]));
    let _ = card.write(0x20, 4, 0x2000);
    assert_eq!(card.write(0x10, 4, 64 | 0x20 << 16), Rtl8139Effect::Transmit);
    assert_eq!(send(&mut card, &memory), [std::vec![7; 64]]);
    assert_eq!(card.read(0x10, 4), 64 | 0x20 << 16 | 0xA000);
    assert_eq!(card.read(0x60, 2), 0x100F, "of all four");
    assert_eq!((card.irq(), card.read(0x3E, 2)), (true, 4));
    let _ = card.write(0x3E, 2, 4);
    assert!(!card.irq());
}

#[test]
fn the_four_go_in_turn_and_each_only_after_the_one_before() {
    let (mut card, memory) = started();
    for n in [1u8, 2, 3] {
        assert_eq!(card.write(0x10 + 4 * n, 4, 60), Rtl8139Effect::Nothing);
    }
    assert!(send(&mut card, &memory).is_empty());
    assert_eq!(card.write(0x10, 4, 60), Rtl8139Effect::Transmit);
    assert_eq!(send(&mut card, &memory).len(), 4);
    assert_eq!(card.write(0x11, 1, 0), Rtl8139Effect::Nothing, "only dwords start");
    assert!(!card.can_transmit());
}

#[test]
fn what_cannot_be_sent_is_aborted_and_the_next_goes_on() {
    let (mut card, memory) = started();
    for (n, size) in [(0u8, 13), (1, 1793), (2, 60), (3, 60)] {
        let _ = card.write(0x10 + 4 * n, 4, size);
    }
    let _ = card.write(0x28, 4, 0xFFFF_FF00);
    assert_eq!(send(&mut card, &memory).len(), 1);
    for n in 0..3u8 {
        assert_eq!(card.read(0x10 + 4 * n, 4) >> 30, 1, "aborted");
    }
    assert_eq!(card.read(0x3E, 2), 4 | 8);
    card.set_cable(false);
    let _ = card.write(0x10, 4, 60);
    assert!(send(&mut card, &memory).is_empty(), "no cable");
}

#[test]
fn a_frame_lies_in_the_ring_behind_its_header_and_reading_it_makes_room() {
    let (mut card, memory) = started();
    assert_eq!(card.read(0x37, 1), 0x0D, "empty");
    assert_eq!(card.receive_frame(&memory, &frame(MAC, 61)), Received::Taken);
    assert_eq!(memory.bytes(RING, 4), [1, 0x40, 65, 0], "good, for us, with check sequence");
    assert_eq!(memory.bytes(RING + 4 + 60, 2), [0x5A, 0]);
    assert_eq!((card.read(0x37, 1), card.read(0x3A, 2)), (0x0C, 72));
    assert!(card.irq());
    assert_eq!(card.write(0x38, 2, 72 - 16), Rtl8139Effect::Room);
    assert_eq!(card.read(0x37, 1), 0x0D);
    assert_eq!(card.receive_frame(&memory, &frame([0xFF; 6], 20)), Received::Taken);
    assert_eq!(memory.bytes(RING + 72, 4), [1, 0x20, 64, 0], "padded, broadcast");
}

#[test]
fn a_frame_at_the_rings_end_wraps_or_goes_on_behind_it() {
    for wrap in [false, true] {
        let (mut card, memory) = started();
        let _ = card.write(0x44, 4, if wrap { 0x8A } else { 0x0A });
        for _ in 0..7 {
            assert_eq!(card.receive_frame(&memory, &frame(MAC, 1112)), Received::Taken);
            let at = card.read(0x3A, 2);
            let _ = card.write(0x38, 2, at.wrapping_sub(16));
        }
        // 7 times 1120 of 8192 bytes: 352 are left.
        assert_eq!(card.receive_frame(&memory, &frame(MAC, 1000)), Received::Taken);
        assert_eq!(card.read(0x3A, 2), (7 * 1120 + 1008) % 8192);
        let end = RING + 8192;
        assert_eq!(memory.bytes(end, 1) == [0x5A], wrap);
    }
}

#[test]
fn a_full_ring_takes_no_more_and_loses_nothing() {
    let (mut card, memory) = started();
    let taken = (0..100)
        .take_while(|_| card.receive_frame(&memory, &frame(MAC, 1000)) == Received::Taken)
        .count();
    assert_eq!(taken, 8, "of 1008 bytes");
    assert_eq!(card.read(0x37, 1), 0x0C, "a full ring does not look empty");
    assert_eq!(card.receive_frame(&memory, &frame(MAC, 1000)), Received::NoRoom);
    card.missed();
    assert_eq!(card.read(0x4C, 4) & 0xFF_FFFF, 1);
    let _ = card.write(0x4C, 4, 0);
    assert_eq!(card.read(0x4C, 4) & 0xFF_FFFF, 0);
}

#[test]
fn frames_for_others_pass_by_unless_asked_for() {
    let (mut card, memory) = started();
    let (other, group) = ([2, 0, 0, 0, 0, 1], [1, 0, 0x5E, 0, 0, 1]);
    let get = |card: &mut Rtl8139, to| card.receive_frame(&memory, &frame(to, 60));
    assert_eq!(get(&mut card, other), Received::Unwanted);
    let _ = card.write(0x44, 4, 0x0E);
    assert_eq!(get(&mut card, group), Received::Unwanted);
    let hash = hash_of(&group);
    let _ = card.write(8 + (hash >> 3), 1, 1 << (hash & 7));
    assert_eq!(get(&mut card, group), Received::Taken);
    let _ = card.write(0x44, 4, 1);
    assert_eq!(get(&mut card, other), Received::Taken);
    let _ = card.write(0x44, 4, 0);
    assert_eq!(get(&mut card, MAC), Received::Unwanted);
    let _ = card.write(0x44, 4, 0x0F);
    assert_eq!(card.receive_frame(&memory, &frame(MAC, 1519)), Received::Unwanted);
    let _ = card.write(0x37, 1, 4);
    assert_eq!(get(&mut card, MAC), Received::Unwanted, "the receiver is off");
}

/// Linux 6.1, 8139too.c: reset, EEPROM by its pins with 8 and 6 address bits, chip version, configuration.
#[test]
fn linux_boot_script() {
    let mut card = Rtl8139::new(MAC);
    let _ = card.write(0x37, 1, 0x10);
    assert_eq!(card.read(0x37, 1) & 0x10, 0, "reset is over at once");
    assert_eq!(card.read(0x40, 4) & 0x7CC0_0000, 0x7400_0000, "an RTL8139C");
    assert_ne!(read_eeprom(&mut card, 0, 8), 0x8129);
    assert_eq!(read_eeprom(&mut card, 0, 6), 0x8129);
    let mac: Vec<u8> = (7..10).flat_map(|n| read_eeprom(&mut card, n, 6).to_le_bytes()).collect();
    assert_eq!(mac, MAC);
    let _ = card.write(0x52, 1, 0xF3);
    assert_eq!(card.read(0x52, 1), 0x0C, "locked");
    let _ = card.write(0x50, 1, 0xC0);
    let _ = card.write(0x52, 1, 0xF3);
    let _ = card.write(0, 4, 0x1234_5602);
    assert_eq!((card.read(0x52, 1), card.read(0, 4)), (0xFF, 0x1234_5602));
    let _ = card.write(0x50, 1, 0x40);
    assert_eq!(card.read(0, 4), 0x123E_1600, "auto-load brings the address back");
    assert_eq!(card.read(0x64, 2) & 0x24, 0x24, "link, negotiated");
    assert_eq!(card.read(0x58, 1), 0);
    let _ = card.write(0x3C, 2, 0xFFFF);
    card.set_cable(false);
    assert!(card.irq() && card.read(0x58, 1) == 4 && card.read(0x64, 2) & 4 == 0);
}

fn read_eeprom(card: &mut Rtl8139, word: u32, bits: u32) -> u16 {
    let mut pins = |value: u32| {
        let _ = card.write(0x50, 1, value);
        card.read(0x50, 1) & 1
    };
    pins(0x80);
    pins(0x88);
    let command = 0b110 << bits | word;
    for bit in (0..=4 + bits).rev() {
        let data = (command >> bit & 1) << 1;
        pins(0x88 | data);
        pins(0x8C | data);
    }
    pins(0x88);
    let value = (0..16).fold(0, |value, _| {
        let bit = pins(0x8C);
        pins(0x88);
        value << 1 | bit
    });
    pins(0x80);
    value as u16
}

#[test]
fn reset_keeps_the_address_and_the_cable() {
    let (mut card, _) = started();
    card.set_cable(false);
    let _ = card.write(8, 4, 5);
    let _ = card.write(0x37, 1, 0x10);
    assert_eq!((card.read(8, 4), card.read(0x3C, 2)), (5, 0));
    card.reset();
    let mut fresh = Rtl8139::new(MAC);
    fresh.cable = false;
    assert_eq!(card, fresh);
}

#[test]
fn a_random_walk_survives_save_and_load() {
    let mut rng = Rng::new(8139);
    let (mut card, memory) = started();
    for _ in 0..50_000 {
        match rng.below(6) {
            0 => drop(card.read(rng.byte(), 1 << rng.below(3))),
            1 => {
                let to = if rng.one_in(2) { MAC } else { [0xFF; 6] };
                let _ = card.receive_frame(&memory, &frame(to, 14 + rng.below(1500) as usize));
            }
            2 if rng.one_in(50) => card.set_cable(rng.one_in(2)),
            3 => drop(card.write(0x10 + 4 * (rng.byte() & 3), 4, rng.next() as u32 & 0x7FF)),
            _ => drop(card.write(rng.byte(), 1 << rng.below(3), rng.next() as u32)),
        }
        card.transmit(&memory, &mut |frame| assert!(frame.len() >= 14));
        assert!(card.unread() < card.ring());
        let mut copy = Rtl8139::new([0; 6]);
        copy.load(&card.save()).unwrap();
        assert_eq!(copy, card);
    }
}

#[test]
fn states_that_no_card_could_have_are_refused() {
    let (mut card, _) = started();
    let good = card.save();
    assert_eq!(card.load(&Rtl8139State { version: 9, ..good.clone() }), Err(LoadError::Version));
    let mut refused = |change: fn(&mut Rtl8139State), field| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(card.load(&bad), Err(LoadError::Impossible(field)));
    };
    refused(|s| s.send_status[0] = 1 << 28, "send_status");
    refused(|s| s.next = 4, "next");
    refused(|s| s.command = 1, "command");
    refused(|s| s.isr = 0x100, "interrupts");
    refused(|s| s.rcr = 1 << 31, "configuration");
    refused(|s| s.missed = 1 << 24, "missed");
    refused(|s| s.mode = 1, "mode");
    refused(|s| s.config[0] = 0, "config");
    refused(|s| s.plain[0] = 0x8000, "plain");
}
