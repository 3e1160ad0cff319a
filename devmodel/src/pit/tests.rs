use super::*;
use crate::testing::Rng;

fn at(tick: i64) -> Nanos {
    time(tick)
}

/// Control word, then the count low and high, at tick `when`.
fn program(pit: &mut Pit, control: u8, count: u16, when: i64) {
    pit.write(3, control, at(when));
    let [low, high] = count.to_le_bytes();
    pit.write(control >> 6, low, at(when));
    pit.write(control >> 6, high, at(when));
}

fn latched(pit: &mut Pit, channel: u8, when: i64) -> u16 {
    pit.write(3, channel << 6, at(when));
    u16::from_le_bytes([pit.read(channel, at(when)), pit.read(channel, at(when))])
}

/// OUT of a channel over ticks, as 0 and 1.
fn wave(pit: &Pit, channel: u8, ticks: core::ops::Range<i64>) -> std::string::String {
    ticks.map(|tick| if pit.out(channel, at(tick)) { '1' } else { '0' }).collect()
}

#[test]
fn ticks_convert_exactly_both_ways() {
    for ticks in [0, 1, 2, 65_535, 1_193_181, 1_193_182, 1_193_183, 1 << 40] {
        assert_eq!(time(ticks), Nanos::from_ticks(ticks as u64, PIT_HZ));
        assert_eq!(tick(time(ticks)), ticks);
        assert_eq!(tick(Nanos(u64::MAX)), Nanos(u64::MAX).to_ticks(PIT_HZ) as i64);
        if ticks > 0 {
            assert_eq!(tick(Nanos(time(ticks).0 - 1)), ticks - 1);
        }
    }
}

#[test]
fn mode_0_rises_once_n_plus_1_clocks_after_the_write() {
    let mut pit = Pit::new();
    program(&mut pit, 0x30, 4, 10);
    assert_eq!(wave(&pit, 0, 10..20), "0000011111");
    assert_eq!(latched(&mut pit, 0, 12), 3);
    assert_eq!(latched(&mut pit, 0, 16), 0xFFFF, "it counts on through zero");
    assert_eq!(pit.advance(at(200_000)), 1);
    assert_eq!(pit.due(), None);
}

#[test]
fn mode_0_first_byte_stops_the_count_and_lowers_out() {
    let mut pit = Pit::new();
    program(&mut pit, 0x30, 4, 0);
    pit.write(0, 9, at(20));
    assert_eq!(latched(&mut pit, 0, 30), latched(&mut pit, 0, 40));
    assert!(!pit.out(0, at(30)));
    pit.write(0, 0, at(50));
    assert_eq!(wave(&pit, 0, 58..62), "0011");
}

#[test]
fn mode_1_waits_for_the_gate_and_can_be_triggered_again() {
    let mut pit = Pit::new();
    program(&mut pit, 0xB2, 3, 0);
    assert_eq!(wave(&pit, 2, 0..9), "111111111");
    pit.write_port61(1, at(10));
    assert_eq!(wave(&pit, 2, 10..16), "100011");
    pit.write_port61(0, at(12));
    pit.write_port61(1, at(12));
    assert_eq!(wave(&pit, 2, 12..18), "000011");
}

#[test]
fn mode_2_is_low_for_the_last_clock_of_each_period() {
    let mut pit = Pit::new();
    program(&mut pit, 0x34, 4, 0);
    assert_eq!(wave(&pit, 0, 1..13), "111011101110");
    let counts: std::vec::Vec<u16> = (1..7).map(|tick| latched(&mut pit, 0, tick)).collect();
    assert_eq!(counts, [4, 3, 2, 1, 4, 3]);
    assert_eq!(pit.due(), Some(at(6)), "the latch commands have passed the edge at tick 5");
    assert_eq!(pit.advance(at(6)), 1);
    assert_eq!(pit.due(), Some(at(9)));
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut pit = Pit::new();
    program(&mut pit, 0x34, 4, 0);
    pit.write(0, 3, at(2));
    pit.write(0, 0, at(2));
    assert_eq!(wave(&pit, 0, 1..13), "111011011011");
    assert_eq!(pit.due(), Some(at(5)));
    assert_eq!(pit.advance(at(11)), 3);
    assert_eq!(pit.due(), Some(at(14)));
}

#[test]
fn mode_3_is_high_for_the_longer_half_and_counts_by_two() {
    let mut pit = Pit::new();
    program(&mut pit, 0x36, 5, 0);
    assert_eq!(wave(&pit, 0, 1..11), "1110011100");
    let counts: std::vec::Vec<u16> = (1..7).map(|tick| latched(&mut pit, 0, tick)).collect();
    assert_eq!(counts, [4, 2, 0, 4, 2, 4]);
}

#[test]
fn mode_3_takes_a_new_count_at_the_end_of_the_half() {
    let mut pit = Pit::new();
    program(&mut pit, 0x36, 8, 0);
    pit.write(0, 4, at(2));
    pit.write(0, 0, at(2));
    assert_eq!(wave(&pit, 0, 1..15), "11110011001100");
    assert_eq!(pit.due(), Some(at(7)));
    assert_eq!(pit.advance(at(14)), 2);
}

#[test]
fn mode_4_and_5_strobe_low_for_one_clock() {
    let mut pit = Pit::new();
    program(&mut pit, 0x38, 3, 0);
    assert_eq!(wave(&pit, 0, 0..8), "11110111");
    assert_eq!(pit.due(), Some(at(5)));
    program(&mut pit, 0xBA, 2, 0);
    pit.write_port61(1, at(4));
    assert_eq!(wave(&pit, 2, 4..10), "111011");
}

#[test]
fn a_low_gate_pauses_mode_0_and_restarts_mode_2() {
    let mut pit = Pit::new();
    pit.write_port61(1, at(0));
    program(&mut pit, 0xB0, 10, 0);
    pit.write_port61(0, at(5));
    assert_eq!(latched(&mut pit, 2, 100), 6);
    pit.write_port61(1, at(100));
    assert_eq!(wave(&pit, 2, 104..108), "0011");
    program(&mut pit, 0xB4, 10, 200);
    pit.write_port61(0, at(205));
    assert!(pit.out(2, at(210)));
    pit.write_port61(1, at(300));
    assert_eq!(latched(&mut pit, 2, 301), 10);
}

#[test]
fn bcd_counts_in_decimal_and_zero_is_ten_thousand() {
    let mut pit = Pit::new();
    program(&mut pit, 0x35, 0x0100, 0);
    assert_eq!(latched(&mut pit, 0, 2), 0x0099);
    program(&mut pit, 0x31, 0x0000, 10);
    assert_eq!(latched(&mut pit, 0, 12), 0x9999);
    assert_eq!(pit.due(), Some(at(10_011)));
}

#[test]
fn a_latched_count_holds_until_read_and_ignores_later_latches() {
    let mut pit = Pit::new();
    program(&mut pit, 0x34, 0x1234, 0);
    pit.write(3, 0x00, at(1));
    pit.write(3, 0x00, at(0x100));
    assert_eq!(pit.read(0, at(0x200)), 0x34);
    assert_eq!(pit.read(0, at(0x300)), 0x12);
    assert_ne!(pit.read(0, at(0x300)), 0x34);
}

#[test]
fn read_back_gives_status_first_then_the_count() {
    let mut pit = Pit::new();
    program(&mut pit, 0x34, 0x1234, 5);
    pit.write(3, 0xC2, at(5));
    assert_eq!(pit.read(0, at(5)), 0xF4, "OUT high, null count until the next clock");
    assert_eq!(pit.read(0, at(5)), 0x34);
    assert_eq!(pit.read(0, at(5)), 0x12);
    pit.write(3, 0xE2, at(6));
    assert_eq!(pit.read(0, at(6)), 0xB4);
    assert_eq!(pit.read(3, at(6)), 0xFF);
}

#[test]
fn single_byte_access_reads_and_writes_one_half() {
    let mut pit = Pit::new();
    pit.write(3, 0x10, at(0));
    pit.write(0, 0x80, at(0));
    assert_eq!(pit.read(0, at(1)), 0x80);
    assert_eq!(pit.read(0, at(1)), 0x80);
    pit.write(3, 0x20, at(10));
    pit.write(0, 0x80, at(10));
    assert_eq!(pit.read(0, at(11)), 0x80);
    assert_eq!(pit.due(), Some(at(11 + 0x8000)));
}

#[test]
fn port_61_shows_gate_refresh_and_out2() {
    let mut pit = Pit::new();
    pit.write_port61(0xFF, at(0));
    assert_eq!(pit.read_port61(at(0)) & 0xCF, 0x0F);
    assert_ne!(pit.read_port61(at(17)) & 0x10, pit.read_port61(at(18)) & 0x10);
    program(&mut pit, 0xB6, 1193, 0);
    assert_eq!(pit.tone_hz(), Some(1000));
    pit.write_port61(0x01, at(5));
    assert_eq!(pit.tone_hz(), None);
    pit.write_port61(0x00, at(6));
    assert_eq!(pit.read_port61(at(9)) & 0x2F, 0x20);
}

#[test]
fn linux_calibrates_its_tsc_on_channel_2() {
    // quick_pit_calibrate: mode 0, count FFFFh, the high byte must fall one by one.
    let mut pit = Pit::new();
    let value = pit.read_port61(at(0));
    pit.write_port61(value & !2 | 1, at(0));
    program(&mut pit, 0xB0, 0xFFFF, 0);
    for step in 1..20 {
        let now = at(2 + step * 256);
        pit.read(2, now);
        assert_eq!(pit.read(2, now), 0xFF - step as u8);
    }
    // pit_calibrate_tsc: 10 ms in mode 0, then port 61h bit 5.
    program(&mut pit, 0xB0, 11_932, 100_000);
    assert_eq!(pit.read_port61(at(111_932)) & 0x20, 0);
    assert_eq!(pit.read_port61(at(111_933)) & 0x20, 0x20);
}

#[test]
fn edges_are_neither_lost_nor_doubled_however_late_the_board_asks() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut pit = Pit::new();
        let mut often = Pit::new();
        let mut now = 0;
        let (mut rare_edges, mut often_edges, mut seen_edges) = (0, 0, 0);
        let mut level = true;
        for _ in 0..60 {
            let control = [0x30, 0x32, 0x34, 0x36, 0x38, 0x3A][rng.below(6) as usize];
            let count = rng.below(40) as u16 + 2;
            for it in [&mut pit, &mut often] {
                if seed % 3 == 0 {
                    it.write(3, control, at(now));
                }
                it.write(0, count as u8, at(now));
                it.write(0, 0, at(now));
            }
            for _ in 0..rng.below(100) {
                let new = often.out(0, at(now));
                seen_edges += u32::from(new && !level);
                level = new;
                now += 1;
                often_edges += often.advance(at(now));
            }
            if rng.one_in(3) {
                rare_edges += pit.advance(at(now));
            }
            let new = often.out(0, at(now));
            seen_edges += u32::from(new && !level);
            level = new;
        }
        rare_edges += pit.advance(at(now));
        assert_eq!(rare_edges, often_edges, "seed {seed}");
        if seed % 3 != 0 {
            assert_eq!(seen_edges, often_edges, "seed {seed}");
        }
        assert_eq!(pit, often);
    }
}

#[test]
fn writes_to_other_channels_leave_the_edges_of_out0_to_be_counted() {
    let mut pit = Pit::new();
    program(&mut pit, 0x34, 10, 0);
    let mut alone = pit.clone();
    for now in 0..95 {
        pit.write(1, 7, at(now));
        pit.write(2, 7, at(now));
    }
    assert_eq!(pit.advance(at(95)), alone.advance(at(95)));
}

#[test]
fn due_is_the_very_tick_of_the_next_edge() {
    for control in [0x30, 0x34, 0x36, 0x38] {
        let mut pit = Pit::new();
        program(&mut pit, control, 1000, 0);
        for _ in 0..5 {
            let Some(due) = pit.due() else { break };
            assert_eq!(pit.advance(Nanos(due.0 - 1)), 0);
            assert_eq!(pit.advance(due), 1);
        }
    }
}

#[test]
fn a_random_walk_never_panics_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut pit = Pit::new();
        let mut now = Nanos::ZERO;
        for _ in 0..3_000 {
            let most = if rng.one_in(50) { 1 << 40 } else { 5_000 };
            now = now + rng.below(most);
            match rng.below(7) {
                0 | 1 => pit.write(rng.byte(), rng.byte(), now),
                2 => pit.write(3, rng.byte(), now),
                3 => {
                    pit.read(rng.byte(), now);
                }
                4 => pit.write_port61(rng.byte(), now),
                5 => {
                    let _ = pit.read_port61(now);
                    let _ = pit.tone_hz();
                }
                _ => {
                    pit.advance(now);
                    assert!(pit.due().is_none_or(|due| due > now));
                }
            }
            let mut copy = Pit::new();
            assert_eq!(copy.load(&pit.save()), Ok(()));
            assert_eq!(copy, pit);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut pit = Pit::new();
    let good = pit.save();
    assert_eq!(pit.load(&PitState { version: 0, ..good }), Err(LoadError::Version));
    let mut bad = good;
    bad.channels[0].count = 0;
    assert_eq!(pit.load(&bad), Err(LoadError::Impossible("count")));
    bad = good;
    bad.port61 = 1;
    assert_eq!(pit.load(&bad), Err(LoadError::Impossible("gate")));
    bad = good;
    bad.channels[1].counting = Counting::Runs { start: i64::MAX };
    assert_eq!(pit.load(&bad), Err(LoadError::Impossible("counting")));
}
