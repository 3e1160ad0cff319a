//! The I/O APIC as guests use it.

use std::vec::Vec;

use super::*;
use crate::apicmsg::BROADCAST;
use crate::testing::Rng;

fn put(chip: &mut IoApic, register: u8, value: u32) -> Vec<u8> {
    assert_eq!(chip.write(0x00, u32::from(register)).count(), 0);
    chip.write(0x10, value).collect()
}

fn get(chip: &mut IoApic, register: u8) -> u32 {
    assert_eq!(chip.write(0x00, u32::from(register)).count(), 0);
    chip.read(0x10)
}

fn entry(chip: &mut IoApic, pin: u8, value: u64) -> Vec<u8> {
    let mut sent = put(chip, 0x11 + 2 * pin, (value >> 32) as u32);
    sent.extend(put(chip, 0x10 + 2 * pin, value as u32));
    sent
}

#[test]
fn after_reset_every_pin_is_masked() {
    let mut chip = IoApic::new(Version::V11);
    assert_eq!(get(&mut chip, 1), 0x0017_0011);
    assert_eq!(get(&mut IoApic::new(Version::V20), 1), 0x0017_0020);
    for pin in 0..PINS {
        assert_eq!(get(&mut chip, 0x10 + 2 * pin), 0x1_0000);
        assert_eq!(chip.set_pin(pin, true), None);
    }
    assert_eq!(get(&mut chip, 0x40), 0);
    assert_eq!(chip.set_pin(PINS, true), None);
}

#[test]
fn an_edge_sends_once_per_rise_and_is_lost_while_masked() {
    let mut chip = IoApic::new(Version::V11);
    entry(&mut chip, 4, 0x0200_0000_0000_0931);
    let message = chip.set_pin(4, true).unwrap();
    assert_eq!((message.dest, message.logical, message.vector), (2, true, 0x31));
    assert_eq!((message.mode, message.level), (DeliveryMode::LowestPriority, false));
    assert_eq!(chip.set_pin(4, true), None);
    assert_eq!(chip.set_pin(4, false), None);
    put(&mut chip, 0x18, 0x1_0931);
    assert_eq!(chip.pulse(4), None);
    assert!(put(&mut chip, 0x18, 0x0931).is_empty());
    assert!(chip.pulse(4).is_some());
    assert!(chip.pulse(4).is_some());
}

#[test]
fn a_level_is_sent_again_at_each_eoi_until_the_pin_falls() {
    let mut chip = IoApic::new(Version::V11);
    entry(&mut chip, 11, 0x8000 | 0x59);
    assert!(chip.set_pin(11, true).unwrap().level);
    assert_eq!(get(&mut chip, 0x26), 0xC059);
    assert_eq!(chip.set_pin(11, true), None);
    assert_eq!(chip.eoi(0x58).count(), 0, "another vector");
    assert_eq!(chip.eoi(0x59).collect::<Vec<_>>(), [11]);
    assert_eq!(chip.message(11).vector, 0x59);
    assert_eq!(chip.set_pin(11, false), None);
    assert_eq!(chip.eoi(0x59).count(), 0);
    assert_eq!(get(&mut chip, 0x26), 0x8059);
}

#[test]
fn unmasking_a_level_pin_that_is_asserted_sends() {
    let mut chip = IoApic::new(Version::V11);
    assert_eq!(chip.set_pin(9, true), None);
    assert_eq!(entry(&mut chip, 9, 0x0000_A030), [9]);
    assert!(put(&mut chip, 0x22, 0x1_A030).is_empty());
    assert!(put(&mut chip, 0x22, 0x0_A030).is_empty(), "not ended yet");
}

#[test]
fn two_pins_may_share_a_vector_and_end_together() {
    let mut chip = IoApic::new(Version::V11);
    for pin in [10, 11] {
        entry(&mut chip, pin, 0x8070);
        assert!(chip.set_pin(pin, true).is_some());
    }
    assert_eq!(chip.eoi(0x70).collect::<Vec<_>>(), [10, 11]);
}

#[test]
fn making_the_pin_an_edge_one_forgets_the_remote_irr() {
    let mut chip = IoApic::new(Version::V11);
    entry(&mut chip, 5, 0x8040);
    assert!(chip.set_pin(5, true).is_some());
    assert!(put(&mut chip, 0x1A, 0x1_0040).is_empty());
    assert_eq!(put(&mut chip, 0x1A, 0x8040), [5]);
}

#[test]
fn only_version_20h_has_an_eoi_register() {
    for (version, again) in [(Version::V11, 0), (Version::V20, 1)] {
        let mut chip = IoApic::new(version);
        entry(&mut chip, 5, 0x8040);
        assert!(chip.set_pin(5, true).is_some());
        assert_eq!(chip.write(0x40, 0x40).count(), again);
    }
}

#[test]
fn nmi_and_extint_are_edges_whatever_the_trigger_bit_says() {
    let mut chip = IoApic::new(Version::V11);
    entry(&mut chip, 0, 0xFF00_0000_0000_8700);
    assert!(chip.passes_extint(0) && chip.is_open(0));
    let message = chip.set_pin(0, true).unwrap();
    assert_eq!((message.mode, message.dest), (DeliveryMode::ExtInt, BROADCAST));
    assert!(!message.level);
    assert_eq!(get(&mut chip, 0x10), 0x8700, "no remote IRR");
    entry(&mut chip, 1, 0x8400);
    assert_eq!(chip.set_pin(1, true).unwrap().mode, DeliveryMode::Nmi);
}

/// Linux 6.1: clear_IO_APIC, the timer on pin 2 as an edge, a PCI interrupt on pin 11 as a low
/// level.
#[test]
fn linux_boot_script() {
    let mut chip = IoApic::new(Version::V11);
    put(&mut chip, 0, 0x0F00_0000);
    assert_eq!(get(&mut chip, 0), 0x0F00_0000);
    assert_eq!(get(&mut chip, 2), 0x0F00_0000);
    assert_eq!(get(&mut chip, 1) >> 16 & 0xFF, 23, "the last entry");
    for pin in 0..PINS {
        if get(&mut chip, 0x10 + 2 * pin) & 0x1_0000 == 0 {
            panic!("pin {pin} is open");
        }
        entry(&mut chip, pin, 0x1_0000);
    }
    entry(&mut chip, 2, 0x30);
    for _ in 0..4 {
        assert_eq!(chip.pulse(2).unwrap().vector, 0x30);
    }
    entry(&mut chip, 11, 0x0100_0000_0001_A822);
    put(&mut chip, 0x26, 0xA822);
    let message = chip.set_pin(11, true).unwrap();
    assert_eq!((message.dest, message.logical, message.vector), (1, true, 0x22));
    let _ = chip.set_pin(11, false);
    assert_eq!(chip.eoi(0x22).count(), 0);
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut chip = IoApic::new(if seed & 1 == 0 { Version::V11 } else { Version::V20 });
        for _ in 0..20_000 {
            let pin = rng.byte() % 26;
            match rng.below(6) {
                0 => {
                    let _ = chip.set_pin(pin, rng.one_in(2));
                }
                1 => assert!(chip.eoi(rng.byte() & 7).count() <= 24),
                2 => {
                    let value = rng.next() as u32;
                    let _ = chip.write(rng.byte().into(), value);
                }
                3 => {
                    let value = (rng.next() & 0x1_FF07) as u32;
                    put(&mut chip, 0x10 + pin * 2, value);
                }
                4 => {
                    let value = rng.next() as u32;
                    put(&mut chip, rng.byte(), value);
                }
                _ => {
                    let _ = chip.read(rng.byte().into());
                }
            }
            // A level pin that is asserted and open has been sent and waits for its EOI.
            for pin in 0..PINS {
                let entry = chip.entries[usize::from(pin)];
                let ready = chip.pins >> pin & 1 != 0 && entry & MASKED == 0 && is_level(entry);
                assert!(!ready || chip.remote_irr >> pin & 1 != 0);
            }
            let mut copy = IoApic::new(chip.version);
            copy.load(&chip.save()).unwrap();
            assert_eq!(copy, chip);
        }
    }
}

#[test]
fn load_refuses_what_no_io_apic_could_hold() {
    let mut chip = IoApic::new(Version::V11);
    let good = chip.save();
    for bad in [
        IoApicState { id: 16, ..good.clone() },
        IoApicState { pins: 1 << 24, ..good.clone() },
        IoApicState { remote_irr: 1, ..good.clone() },
        IoApicState { entries: [1 << 20; 24], ..good.clone() },
    ] {
        assert!(matches!(chip.load(&bad), Err(LoadError::Impossible(_))));
    }
    assert_eq!(chip.load(&IoApicState { version: 9, ..good }), Err(LoadError::Version));
}
