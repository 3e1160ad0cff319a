//! The power-management registers as guests use them.

use super::*;
use crate::state::LoadError;
use crate::testing::Rng;

fn at(ns: u64) -> Nanos {
    Nanos(ns)
}

fn pm() -> AcpiPm {
    AcpiPm::new(AcpiPmConfig::default())
}

#[test]
fn the_timer_is_exact_for_ever() {
    let mut rng = Rng::new(1);
    for _ in 0..100_000 {
        let now = Nanos(rng.next() >> rng.below(64));
        assert_eq!(ticks_at(now), now.to_ticks(TIMER_HZ));
    }
    assert_eq!(ticks_at(at(1_000_000_000)), TIMER_HZ);
    assert_eq!(ticks_at(at(u64::MAX)), at(u64::MAX).to_ticks(TIMER_HZ));
}

#[test]
fn the_timer_has_24_or_32_bits() {
    let now = at(100_000_000_000);
    let ticks = 100 * TIMER_HZ as u32;
    assert_eq!(pm().read(8, 4, now), ticks & 0xFF_FFFF);
    assert_eq!(AcpiPm::new(AcpiPmConfig { wide_timer: true }).read(8, 4, now), ticks);
    assert_eq!(pm().read(0x0A, 1, now), ticks >> 16 & 0xFF);
    assert_eq!(pm().read(0x30, 4, now), 0);
}

#[test]
fn tmr_sts_is_set_at_each_change_of_the_highest_bit_and_raises_the_sci() {
    let mut chip = pm();
    let _ = chip.write(2, 2, 1, at(0));
    assert_eq!(chip.due(), None, "not in ACPI mode");
    chip.write_apm(0, ACPI_ENABLE);
    let first = chip.due().unwrap();
    assert_eq!(first, Nanos::from_ticks(1 << 23, TIMER_HZ));
    chip.advance(Nanos(first.0 - 1));
    assert!(!chip.sci());
    chip.advance(first);
    assert!(chip.sci());
    assert_eq!(chip.due(), None, "until it is cleared");
    let _ = chip.write(0, 2, 1, first);
    assert!(!chip.sci());
    assert_eq!(chip.due(), Some(Nanos::from_ticks(2 << 23, TIMER_HZ)));
    assert_eq!(chip.read(0, 2, at(20_000_000_000)), 1, "worked out when read");
}

#[test]
fn the_power_button_raises_an_sci_only_in_acpi_mode() {
    let mut chip = pm();
    let _ = chip.write(2, 2, 0x0120, at(0));
    chip.press_power_button();
    assert!(!chip.sci() && !chip.is_acpi());
    chip.write_apm(0, ACPI_ENABLE);
    assert_eq!(chip.read(4, 2, at(0)), 1, "SCI_EN");
    assert!(chip.sci());
    let _ = chip.write(1, 1, 1, at(0));
    assert!(!chip.sci());
    chip.press_sleep_button();
    chip.rtc_alarm();
    assert!(!chip.sci(), "not enabled");
    assert_eq!(chip.read(0, 2, at(0)), 0x0600);
    chip.write_apm(0, ACPI_DISABLE);
    assert_eq!(chip.read(4, 2, at(0)), 0);
    chip.write_apm(1, 0x5A);
    assert_eq!((chip.read_apm(0), chip.read_apm(1)), (ACPI_DISABLE, 0x5A));
}

#[test]
fn sleep_enable_acts_by_type_and_reads_as_zero() {
    let mut chip = pm();
    let _ = chip.write(4, 2, 1, at(0));
    assert_eq!(chip.write(4, 2, 0x2001, at(0)), PowerEffect::PowerOff);
    assert_eq!(chip.read(4, 2, at(0)), 1);
    assert_eq!(chip.write(4, 2, 0x0401, at(0)), PowerEffect::Nothing, "type alone");
    assert_eq!(chip.write(5, 1, 0x24, at(0)), PowerEffect::Suspend);
    assert_eq!(chip.write(4, 4, 0x2801, at(0)), PowerEffect::PowerOff);
    assert_eq!(chip.write(4, 2, 0x3C01, at(0)), PowerEffect::Nothing, "an unknown type");
    chip.reset();
    chip.wake(WakeCause::PowerButton);
    assert_eq!(chip.read(0, 2, at(0)), 0x8100);
}

#[test]
fn general_purpose_events_have_status_and_enable() {
    let mut chip = pm();
    chip.write_apm(0, ACPI_ENABLE);
    chip.raise_gpe(2);
    assert_eq!(chip.read_gpe(0, 1), 4);
    assert!(!chip.sci());
    chip.write_gpe(2, 1, 4);
    assert!(chip.sci());
    assert_eq!(chip.read_gpe(0, 4), 0x0004_0004);
    chip.write_gpe(0, 1, 4);
    assert!(!chip.sci());
    assert_eq!(chip.read_gpe(7, 1), 0);
}

/// ACPICA under Linux: enable, clear, enable the power button, take one, then \_S5.
#[test]
fn linux_boot_script() {
    let mut chip = pm();
    assert_eq!(chip.read(4, 2, at(0)) & 1, 0);
    chip.write_apm(0, ACPI_ENABLE);
    assert_eq!(chip.read(4, 2, at(0)) & 1, 1, "acpi_hw_get_mode");
    let _ = chip.write(2, 2, 0, at(0));
    let _ = chip.write(0, 2, 0x8731, at(0));
    chip.write_gpe(2, 1, 0);
    chip.write_gpe(3, 1, 0);
    chip.write_gpe(0, 1, 0xFF);
    let _ = chip.write(2, 2, 0x0120, at(0));
    // acpi_pm_read_verified: three reads that do not run backwards
    let reads = [1_000, 2_000, 3_000].map(|ns| chip.read(8, 4, at(ns)));
    assert!(reads.is_sorted());
    chip.press_power_button();
    assert!(chip.sci());
    assert_eq!(chip.read(0, 2, at(4_000)) & chip.read(2, 2, at(4_000)), 0x0100);
    let _ = chip.write(0, 2, 0x0100, at(5_000));
    assert!(!chip.sci());
    // acpi_hw_legacy_sleep: type first, then type and SLP_EN
    let control = chip.read(4, 2, at(6_000)) & !0x3C00;
    assert_eq!(chip.write(4, 2, control, at(6_000)), PowerEffect::Nothing);
    assert_eq!(chip.write(4, 2, control | 0x2000, at(6_000)), PowerEffect::PowerOff);
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let mut chip = AcpiPm::new(AcpiPmConfig { wide_timer: seed & 1 == 0 });
        let mut now = Nanos::ZERO;
        for _ in 0..20_000 {
            let step = 1 << rng.below(34);
            now = now + rng.below(step);
            let value = rng.next() as u32;
            match rng.below(7) {
                0 | 1 => {
                    let _ = chip.write(rng.byte() & 15, rng.byte() & 7, value, now);
                }
                2 => {
                    let _ = chip.read(rng.byte(), rng.byte(), now);
                }
                3 => chip.write_gpe(rng.byte() & 7, rng.byte() & 7, value),
                4 => chip.write_apm(rng.byte(), if rng.one_in(2) { 0xF1 } else { rng.byte() }),
                5 => chip.press_power_button(),
                _ => {
                    chip.advance(now);
                    assert!(chip.due().is_none_or(|due| due > now));
                }
            }
            assert!(!chip.sci() || chip.is_acpi());
            let mut copy = AcpiPm::new(chip.config);
            copy.load(&chip.save()).unwrap();
            assert_eq!(copy, chip);
        }
    }
}

#[test]
fn load_refuses_what_the_registers_could_not_hold() {
    let mut chip = pm();
    let good = chip.save();
    for bad in [
        AcpiPmState { status: 2, ..good.clone() },
        AcpiPmState { enable: 0x8000, ..good.clone() },
        AcpiPmState { control: SLEEP_ENABLE, ..good.clone() },
        AcpiPmState { changes: u64::MAX, ..good.clone() },
    ] {
        assert!(matches!(chip.load(&bad), Err(LoadError::Impossible(_))));
    }
    assert_eq!(chip.load(&AcpiPmState { version: 0, ..good }), Err(LoadError::Version));
}
