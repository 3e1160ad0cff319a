use super::*;
use crate::testing::Rng;

const START: WallClock =
    WallClock { year: 2024, month: 2, day: 28, hour: 23, minute: 59, second: 57 };

fn rtc() -> Rtc {
    Rtc::new(START)
}

fn get(rtc: &mut Rtc, index: u8, now: Nanos) -> u8 {
    rtc.write(0, index, now);
    rtc.read(1, now)
}

fn set(rtc: &mut Rtc, index: u8, value: u8, now: Nanos) {
    rtc.write(0, index, now);
    rtc.write(1, value, now);
}

fn seconds(count: u64) -> Nanos {
    Nanos(count * NS)
}

/// Century, year, month, day, weekday, hour, minute, second.
fn time(rtc: &mut Rtc, now: Nanos) -> [u8; 8] {
    [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(|index| get(rtc, index, now))
}

#[test]
fn the_clock_starts_at_the_wall_time_and_knows_leap_years() {
    let mut rtc = rtc();
    assert_eq!(time(&mut rtc, Nanos(5)), [0x20, 0x24, 2, 0x28, 4, 0x23, 0x59, 0x57]);
    assert_eq!(time(&mut rtc, seconds(2)), [0x20, 0x24, 2, 0x28, 4, 0x23, 0x59, 0x59]);
    assert_eq!(time(&mut rtc, seconds(3)), [0x20, 0x24, 2, 0x29, 5, 0, 0, 0]);
    assert_eq!(time(&mut rtc, seconds(3 + 86_400)), [0x20, 0x24, 3, 1, 6, 0, 0, 0]);
}

#[test]
fn the_century_turns_with_the_year() {
    let eve = WallClock { year: 1999, month: 12, day: 31, ..START };
    let mut rtc = Rtc::new(eve);
    assert_eq!(time(&mut rtc, seconds(3)), [0x20, 0, 1, 1, 7, 0, 0, 0]);
}

#[test]
fn unix_times_and_weekdays_come_out_right() {
    let known = WallClock { year: 2023, month: 11, day: 14, hour: 22, minute: 13, second: 20 };
    assert_eq!(WallClock::from_unix(1_700_000_000), known);
    assert_eq!(known.weekday(), 3);
    assert_eq!(WallClock::from_unix(0).weekday(), 5);
    let new_year = WallClock { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    assert_eq!(new_year.weekday(), 7);
    let mut days = new_year;
    for _ in 0..800 {
        let next = days.plus_seconds(86_400).0;
        assert!(next.checked().is_some());
        assert_eq!(next.weekday(), days.weekday() % 7 + 1);
        days = next;
    }
}

#[test]
fn binary_and_twelve_hours_change_how_bytes_read() {
    let mut rtc = rtc();
    set(&mut rtc, REG_B, B_SET | B_DM, Nanos(0));
    set(&mut rtc, HOURS, 0x80 | 11, Nanos(0));
    set(&mut rtc, MINUTES, 59, Nanos(0));
    set(&mut rtc, SECONDS, 59, Nanos(0));
    for (index, value) in [(DAY, 30), (MONTH, 12), (YEAR, 24), (CENTURY, 20)] {
        set(&mut rtc, index, value, Nanos(0));
    }
    set(&mut rtc, REG_B, B_DM, Nanos(0));
    assert_eq!(time(&mut rtc, seconds(1))[2..], [12, 31, 5, 12, 0, 0], "midnight is 12 AM");
    assert_eq!(get(&mut rtc, HOURS, seconds(1 + 12 * 3600)), 0x8C, "noon is 12 PM");
    assert_eq!(get(&mut rtc, HOURS, seconds(1 + 13 * 3600)), 0x81);
}

#[test]
fn uip_stands_before_each_update_and_set_stops_both() {
    let mut rtc = rtc();
    assert_eq!(get(&mut rtc, REG_A, Nanos(0)), 0x26);
    assert_eq!(get(&mut rtc, REG_A, Nanos(NS - UIP_NS - 1)), 0x26);
    assert_eq!(get(&mut rtc, REG_A, Nanos(NS - UIP_NS)), 0xA6);
    assert_eq!(get(&mut rtc, SECONDS, Nanos(NS - 1)), 0x57);
    assert_eq!(get(&mut rtc, REG_A, seconds(1)), 0x26);
    assert_eq!(get(&mut rtc, SECONDS, seconds(1)), 0x58);
    set(&mut rtc, REG_B, B_SET | B_24H, seconds(1));
    assert_eq!(get(&mut rtc, REG_A, Nanos(2 * NS - 1)), 0x26);
    assert_eq!(get(&mut rtc, SECONDS, seconds(9)), 0x58);
    set(&mut rtc, REG_B, B_24H, seconds(9));
    assert_eq!(get(&mut rtc, SECONDS, seconds(10)), 0x59);
}

#[test]
fn leaving_divider_reset_updates_half_a_second_later() {
    let mut rtc = rtc();
    set(&mut rtc, REG_A, 0x76, Nanos(100));
    assert_eq!(get(&mut rtc, SECONDS, seconds(5)), 0x57);
    let restart = Nanos(5 * NS + 123_456_789);
    set(&mut rtc, REG_A, 0x26, restart);
    assert_eq!(get(&mut rtc, SECONDS, restart + (NS / 2 - 1)), 0x57);
    assert_eq!(get(&mut rtc, SECONDS, restart + NS / 2), 0x58);
}

#[test]
fn every_periodic_rate_raises_irq8_at_its_period_and_c_clears_it() {
    for rate in 1..16_u8 {
        let mut rtc = rtc();
        set(&mut rtc, REG_A, 0x20 | rate, Nanos(0));
        set(&mut rtc, REG_B, B_PIE | B_24H, Nanos(0));
        let ticks: u64 = if rate < 3 { 64 << rate } else { 1 << (rate - 1) };
        for turn in 1..20 {
            let due = rtc.due().unwrap();
            assert_eq!(due, Nanos((turn * ticks * NS).div_ceil(CRYSTAL_HZ)), "rate {rate}");
            rtc.advance(Nanos(due.0 - 1));
            assert!(!rtc.irq());
            rtc.advance(due);
            assert!(rtc.irq());
            assert_eq!(rtc.due(), None);
            assert_eq!(get(&mut rtc, REG_C, due) & 0xC0, 0xC0);
            assert!(!rtc.irq());
        }
    }
}

#[test]
fn the_update_ended_interrupt_comes_once_a_second() {
    let mut rtc = rtc();
    set(&mut rtc, REG_B, B_UIE | B_24H, Nanos(10));
    assert_eq!(rtc.due(), Some(seconds(1)));
    rtc.advance(seconds(1));
    assert!(rtc.irq());
    assert_eq!(get(&mut rtc, REG_C, seconds(1)), C_IRQF | C_UF | C_PF);
    assert_eq!(rtc.due(), Some(seconds(2)));
    set(&mut rtc, REG_B, B_SET | B_UIE | B_24H, seconds(1));
    assert_eq!(get(&mut rtc, REG_B, seconds(1)), B_SET | B_24H, "SET clears UIE");
}

#[test]
fn the_alarm_matches_its_bytes_and_c0_matches_all() {
    let mut rtc = rtc();
    for (index, value) in [(HOURS_ALARM, 0x01), (MINUTES_ALARM, 0x02), (SECONDS_ALARM, 0x03)] {
        set(&mut rtc, index, value, Nanos(0));
    }
    set(&mut rtc, REG_B, B_AIE | B_24H, Nanos(0));
    let first = 3 + 3600 + 2 * 60 + 3;
    assert_eq!(rtc.due(), Some(seconds(first)));
    rtc.advance(seconds(first));
    assert_eq!(get(&mut rtc, REG_C, seconds(first)) & 0xB0, C_IRQF | C_AF | C_UF);
    assert_eq!(rtc.due(), Some(seconds(first + 86_400)));
    set(&mut rtc, HOURS_ALARM, 0xFF, seconds(first));
    assert_eq!(rtc.due(), Some(seconds(first + 3600)));
    set(&mut rtc, MINUTES_ALARM, 0xC0, seconds(first));
    assert_eq!(rtc.due(), Some(seconds(first + 60)));
    set(&mut rtc, SECONDS_ALARM, 0xFE, seconds(first));
    assert_eq!(rtc.due(), Some(seconds(first + 1)));
    set(&mut rtc, SECONDS_ALARM, 0x77, seconds(first));
    assert_eq!(rtc.due(), None, "77 is never");
}

#[test]
fn an_alarm_that_passed_unseen_still_sets_its_flag() {
    let mut rtc = rtc();
    for index in [HOURS_ALARM, MINUTES_ALARM, SECONDS_ALARM] {
        set(&mut rtc, index, 0x00, Nanos(0));
    }
    assert_eq!(get(&mut rtc, REG_C, seconds(2)) & C_AF, 0);
    assert_eq!(get(&mut rtc, REG_C, seconds(500)), C_AF | C_UF | C_PF);
}

#[test]
fn both_index_ports_reach_their_bytes_and_bit_7_masks_nmi() {
    let mut rtc = rtc();
    rtc.set_cmos(0x15, 0x80);
    rtc.set_cmos(REG_D, 0);
    rtc.write(0, 0x95, Nanos(0));
    assert!(rtc.nmi_masked());
    assert_eq!(rtc.read(1, Nanos(0)), 0x80);
    rtc.write(2, 0xF0, Nanos(0));
    rtc.write(3, 0x5A, Nanos(0));
    assert_eq!((rtc.read(2, Nanos(0)), rtc.read(3, Nanos(0))), (0xF0, 0x5A));
    assert_eq!(rtc.cmos(0xF0), 0x5A);
    assert_eq!(rtc.read(0, Nanos(0)), 0xFF);
    set(&mut rtc, REG_D, 0, Nanos(0));
    assert_eq!(get(&mut rtc, REG_D, Nanos(0)), 0x80);
    assert!(!rtc.nmi_masked());
}

#[test]
fn linux_checks_the_clock_reads_it_and_sets_it() {
    let mut rtc = rtc();
    // cmos_do_probe: VRT set, 24 hours, interrupts off, C read.
    assert_eq!(get(&mut rtc, REG_D, Nanos(0)) & D_VRT, D_VRT);
    let b = get(&mut rtc, REG_B, Nanos(0));
    assert_eq!(b & (B_24H | B_DM), B_24H);
    set(&mut rtc, REG_B, b & !(B_PIE | B_AIE | B_UIE), Nanos(0));
    get(&mut rtc, REG_C, Nanos(0));
    // mc146818_avoid_UIP: the seconds before and after must agree, UIP clear at both ends.
    let now = Nanos(300_000_000);
    let before = get(&mut rtc, SECONDS, now);
    assert_eq!(get(&mut rtc, REG_A, now) & A_UIP, 0);
    assert_eq!(get(&mut rtc, SECONDS, now), before);
    // mc146818_set_time: SET, divider reset, write, release.
    set(&mut rtc, REG_B, b | B_SET, now);
    set(&mut rtc, REG_A, 0x76, now);
    for (index, value) in [(YEAR, 0x30), (MONTH, 7), (DAY, 4), (HOURS, 0x12), (SECONDS, 0)] {
        set(&mut rtc, index, value, now);
    }
    set(&mut rtc, REG_B, b, now);
    set(&mut rtc, REG_A, 0x26, now);
    assert_eq!(get(&mut rtc, SECONDS, now + 1_500_000_000), 2);
    let shown = rtc.wall_clock().unwrap();
    assert_eq!((shown.year, shown.month, shown.hour), (2030, 7, 12));
}

#[test]
fn a_time_that_is_none_becomes_one_at_the_next_update() {
    let mut rtc = rtc();
    for index in [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY] {
        set(&mut rtc, index, 0xEE, Nanos(0));
    }
    rtc.advance(seconds(1));
    assert!(rtc.wall_clock().is_some());
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut rtc = rtc();
        let mut now = Nanos::ZERO;
        for _ in 0..2_000 {
            let most = if rng.one_in(100) { 1 << 50 } else { 2 * NS };
            now = now + rng.below(most);
            let index = if rng.one_in(3) { rng.byte() } else { rng.below(14) as u8 };
            match rng.below(4) {
                0 => set(&mut rtc, index, rng.byte(), now),
                1 => {
                    get(&mut rtc, index, now);
                }
                2 => rtc.write(rng.byte(), rng.byte(), now),
                _ => {
                    rtc.advance(now);
                    let due = rtc.due();
                    assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
                    if let Some(due) = due {
                        now = due;
                        rtc.advance(now);
                        assert!(rtc.irq(), "due means the line rises");
                    }
                }
            }
            let mut copy = self::rtc();
            assert_eq!(copy.load(&rtc.save()), Ok(()));
            assert_eq!(copy, rtc);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut rtc = rtc();
    let good = rtc.save();
    let mut refused = |state| rtc.load(&state).unwrap_err();
    assert_eq!(refused(RtcState { version: 7, ..good }), LoadError::Version);
    assert_eq!(refused(RtcState { index: 0x80, ..good }), LoadError::Impossible("index"));
    assert_eq!(refused(RtcState { phase: NS, ..good }), LoadError::Impossible("phase"));
    assert_eq!(refused(RtcState { flags: 0x80, ..good }), LoadError::Impossible("flags"));
    let mut bad = good;
    bad.ram[0x0D] = 0;
    assert_eq!(refused(bad), LoadError::Impossible("register D"));
}
