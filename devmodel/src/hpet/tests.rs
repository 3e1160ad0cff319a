//! The HPET as guests use it.

use super::*;
use crate::state::LoadError;
use crate::testing::Rng;

const CONFIGURATION: u16 = 0x10;
const STATUS: u16 = 0x20;
const COUNTER: u16 = 0xF0;
const T0: u16 = 0x100;
const T0_COMPARATOR: u16 = 0x108;
const T2: u16 = 0x140;
const T2_COMPARATOR: u16 = 0x148;

fn at(ns: u64) -> Nanos {
    Nanos(ns)
}

fn hpet() -> Hpet {
    Hpet::new(HpetConfig::default())
}

#[test]
fn the_capabilities_say_100_mhz_64_bits_and_three_timers() {
    let mut chip = hpet();
    assert_eq!(chip.read64(0, at(0)), 0x0098_9680_8086_A201);
    assert_eq!(chip.read32(4, at(0)), 0x0098_9680);
    assert_eq!(chip.read64(T0, at(0)), 0x00FF_0104_0000_0030);
    assert_eq!(chip.read64(T0_COMPARATOR, at(0)), u64::MAX);
    assert_eq!(chip.read64(0x160, at(0)), 0, "no fourth timer");
    assert_eq!(chip.read64(0x3FF, at(0)), 0);
}

#[test]
fn the_counter_runs_only_while_enabled_and_keeps_parts_of_a_tick() {
    let mut chip = hpet();
    assert_eq!(chip.counter(at(1_000)), 0);
    chip.write32(CONFIGURATION, 1, at(1_005));
    assert_eq!(chip.read64(COUNTER, at(1_014)), 0);
    assert_eq!(chip.read64(COUNTER, at(1_015)), 1);
    // A write to another register in mid-tick does not lose the half tick.
    chip.write32(STATUS, 0, at(1_024));
    assert_eq!(chip.counter(at(1_025)), 2);
    chip.write32(CONFIGURATION, 0, at(2_005));
    assert_eq!(chip.counter(at(9_999)), 100);
    chip.write64(COUNTER, 0xFFFF_FFFF, at(10_000));
    chip.write32(CONFIGURATION, 1, at(10_000));
    assert_eq!(chip.read32(COUNTER, at(10_010)), 0);
    assert_eq!(chip.read32(COUNTER + 4, at(10_010)), 1);
}

#[test]
fn a_one_shot_edge_pulses_its_pin_once() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 20 << 9 | 4, at(0));
    chip.write64(T2_COMPARATOR, 500, at(0));
    assert_eq!(chip.due(), Some(at(5_000)));
    chip.advance(at(4_999));
    assert_eq!(chip.take_edges(), 0);
    chip.advance(at(5_000));
    assert_eq!(chip.take_edges(), 1 << 20);
    assert_eq!((chip.take_edges(), chip.due()), (0, None));
    assert_eq!(chip.read32(STATUS, at(5_000)), 0);
}

#[test]
fn a_level_interrupt_stays_until_its_status_bit_is_written() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 21 << 9 | 6, at(0));
    chip.write32(T2_COMPARATOR, 10, at(0));
    chip.write32(T2_COMPARATOR + 4, 0, at(0));
    chip.advance(at(100));
    assert_eq!(chip.levels(), 1 << 21);
    assert_eq!(chip.read32(STATUS, at(100)), 4);
    chip.write32(STATUS, 3, at(100));
    assert_eq!(chip.levels(), 1 << 21);
    chip.write32(STATUS, 4, at(100));
    assert_eq!((chip.levels(), chip.read32(STATUS, at(100))), (0, 0));
}

#[test]
fn a_route_that_is_not_offered_drives_no_pin() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 5 << 9 | 4, at(0));
    chip.write64(T2_COMPARATOR, 1, at(0));
    chip.advance(at(100));
    assert_eq!(chip.take_edges(), 0);
}

#[test]
fn narrow_comparators_match_again_when_the_counter_comes_round() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 20 << 9 | 1 << 8 | 4, at(0));
    chip.write32(T2_COMPARATOR, 100, at(10_000));
    assert_eq!(chip.due(), Some(at(((1 << 32) + 100) * 10)), "the value has passed");
    chip.write32(T2_COMPARATOR, 1_100, at(10_000));
    chip.advance(at(11_000));
    assert_eq!(chip.take_edges(), 1 << 20);
    assert_eq!(chip.due(), Some(at(((1 << 32) + 1_100) * 10)));
}

#[test]
fn periodic_mode_takes_the_first_match_by_value_set_and_then_the_period() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 3, at(0));
    chip.write32(T0, 1 << 6 | 1 << 3 | 4, at(0));
    chip.write64(T0_COMPARATOR, 150_000, at(0));
    chip.write64(T0_COMPARATOR, 100_000, at(0));
    assert_eq!(chip.due(), Some(at(1_500_000)));
    chip.advance(at(1_500_000));
    assert_eq!(chip.take_edges(), 1 << 2);
    assert_eq!(chip.read64(T0_COMPARATOR, at(1_500_000)), 250_000);
    chip.advance(at(5_600_000));
    assert_eq!(chip.read64(T0_COMPARATOR, at(5_600_000)), 650_000);
    assert_eq!(chip.due(), Some(at(6_500_000)));
}

#[test]
fn an_absurd_period_cannot_make_it_due_all_the_time() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 1 << 6 | 20 << 9 | 1 << 3 | 4, at(0));
    chip.write64(T2_COMPARATOR, 1, at(0));
    chip.advance(at(1_000));
    assert!(chip.due().unwrap() >= at(11_000));
}

#[test]
fn the_legacy_route_replaces_irq0_and_irq8() {
    for (timer, pin) in [(0, 2), (1, 8)] {
        let mut chip = hpet();
        chip.write32(CONFIGURATION, 2, at(0));
        assert!(!chip.legacy(), "not while halted");
        chip.write32(CONFIGURATION, 3, at(0));
        assert!(chip.legacy());
        chip.write32(T0 + timer * 0x20, 17 << 9 | 4, at(0));
        chip.write64(T0_COMPARATOR + timer * 0x20, 50, at(0));
        chip.advance(at(500));
        assert_eq!(chip.take_edges(), 1 << pin);
    }
}

#[test]
fn halting_drops_the_level_pins_and_disarms() {
    let mut chip = hpet();
    chip.write32(CONFIGURATION, 1, at(0));
    chip.write32(T2, 21 << 9 | 6, at(0));
    chip.write64(T2_COMPARATOR, 10, at(0));
    chip.advance(at(100));
    chip.write32(CONFIGURATION, 0, at(100));
    assert_eq!((chip.levels(), chip.due()), (0, None));
}

/// Linux 6.1: hpet_enable, then the legacy clock event, periodic and later one-shot.
#[test]
fn linux_boot_script() {
    let mut chip = hpet();
    let id = chip.read32(0, at(0));
    assert_eq!((id >> 8 & 31, id & 0x8000), (2, 0x8000));
    assert_eq!(chip.read32(CONFIGURATION, at(0)), 0);
    for n in 0..3 {
        let value = chip.read32(T0 + n * 0x20, at(0));
        assert_eq!(value & 0x34, 0x30);
    }
    // hpet_restart_counter, hpet_enable_legacy_int
    chip.write32(CONFIGURATION, 0, at(100));
    chip.write32(COUNTER, 0, at(100));
    chip.write32(COUNTER + 4, 0, at(100));
    chip.write32(CONFIGURATION, 1, at(100));
    assert!(chip.read32(COUNTER, at(2_100)) > 0, "hpet_cfg_working");
    chip.write32(CONFIGURATION, 3, at(3_100));
    assert_eq!(chip.take_edges(), 0);
    // hpet_clkevt_set_state_periodic at HZ=250
    let now = at(10_100);
    let delta = 400_000;
    let value = chip.read32(T0, now) | 4 | 1 << 3 | 1 << 6 | 1 << 8;
    chip.write32(T0, value, now);
    let first = chip.read32(COUNTER, now) + delta;
    chip.write32(T0_COMPARATOR, first, now);
    chip.write32(T0_COMPARATOR, delta, at(11_100));
    for tick in 1..10 {
        let due = chip.due().unwrap();
        assert_eq!(due, at(10_100 + 4_000_000 * tick));
        chip.advance(due);
        assert_eq!(chip.take_edges(), 1 << 2);
    }
    // hpet_clkevt_set_state_oneshot, hpet_clkevt_set_next_event
    let now = at(50_000_000);
    let _ = (chip.advance(now), chip.take_edges());
    let value = chip.read32(T0, now) & !(1 << 3) | 4 | 1 << 8;
    chip.write32(T0, value, now);
    assert_eq!(chip.take_edges(), 0);
    let target = chip.read32(COUNTER, now) + 1_280;
    chip.write32(T0_COMPARATOR, target, now);
    assert_eq!(chip.due(), Some(at(50_012_800)));
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut chip = hpet();
        let mut now = Nanos::ZERO;
        for _ in 0..20_000 {
            let step = 1 << rng.below(30);
            now = now + rng.below(step);
            let offset = if rng.one_in(4) { rng.below(0x400) } else { rng.below(0x18) * 8 + 0xF0 };
            let value = rng.next() >> rng.below(64);
            match rng.below(6) {
                0 => chip.write64(offset as u16, value, now),
                1 => chip.write32(offset as u16, value as u32, now),
                2 => chip.write32(CONFIGURATION, value as u32, now),
                3 => {
                    let _ = chip.read64(offset as u16, now);
                }
                4 => chip.write64(COUNTER, value, now),
                _ => {
                    let before = chip.counter(now);
                    chip.advance(now);
                    assert_eq!(chip.counter(now), before);
                    assert!(chip.due().is_none_or(|due| due > now));
                }
            }
            let _ = chip.levels();
            if rng.one_in(3) {
                assert_eq!(chip.take_edges() & !0x00FF_0104, 0);
            }
            let mut copy = hpet();
            copy.load(&chip.save()).unwrap();
            assert_eq!(copy, chip);
        }
    }
}

#[test]
fn load_refuses_what_no_hpet_could_hold() {
    let mut chip = hpet();
    let good = chip.save();
    let mut narrow = good.clone();
    narrow.timers[0].configuration = 1 << 8;
    let mut absent = good.clone();
    absent.timers[5].configuration = 4;
    let mut halted = good.clone();
    halted.timers[0].next = 5;
    let odd = HpetState { general: 4, ..good.clone() };
    let status = HpetState { status: 8, ..good.clone() };
    for bad in [narrow, absent, halted, odd, status] {
        assert!(matches!(chip.load(&bad), Err(LoadError::Impossible(_))));
    }
    assert_eq!(chip.load(&HpetState { version: 0, ..good }), Err(LoadError::Version));
}
