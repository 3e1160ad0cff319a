//! The local APIC as guests use it.

use super::*;
use crate::apicmsg::BROADCAST;
use crate::state::LoadError;
use crate::testing::Rng;

const ID: u8 = 0x02;
const TPR: u8 = 0x08;
const EOI: u8 = 0x0B;
const LDR: u8 = 0x0D;
const DFR: u8 = 0x0E;
const SVR: u8 = 0x0F;
const ESR: u8 = 0x28;
const ICR: u8 = 0x30;
const ICR_HIGH: u8 = 0x31;
const LVT_TIMER: u8 = 0x32;
const LVT_PERFORMANCE: u8 = 0x34;
const LVT_LINT0: u8 = 0x35;
const LVT_LINT1: u8 = 0x36;
const LVT_ERROR: u8 = 0x37;
const INITIAL: u8 = 0x38;
const CURRENT: u8 = 0x39;
const DIVIDE: u8 = 0x3E;

const CONFIG: LapicConfig = LapicConfig {
    id: 0,
    bsp: true,
    x2apic: true,
    tsc_deadline: true,
    suppress_eoi: true,
    physical_bits: 40,
};

fn at(ns: u64) -> Nanos {
    Nanos(ns)
}

fn put(apic: &mut LocalApic, number: u8, value: u32) {
    let _ = apic.write(number, value, at(0));
}

fn get(apic: &mut LocalApic, number: u8) -> u32 {
    apic.read(number, at(0))
}

pub(super) fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(CONFIG);
    put(&mut apic, SVR, 0x1FF);
    apic
}

fn x2apic() -> LocalApic {
    let mut apic = LocalApic::new(LapicConfig { id: 0x25, ..CONFIG });
    apic.write_base(DEFAULT_BASE | 0xC00).unwrap();
    let _ = apic.write_msr(0x80F, 0x1FF, at(0)).unwrap();
    apic
}

#[test]
fn after_reset_the_registers_read_as_the_manual_says() {
    let mut apic = LocalApic::new(LapicConfig { id: 3, bsp: false, ..CONFIG });
    assert_eq!(apic.base(), 0xFEE0_0800);
    assert_eq!(apic.page(), Some(0xFEE0_0000));
    assert_eq!(get(&mut apic, ID), 3 << 24);
    assert_eq!(get(&mut apic, 0x03), 0x0105_0014);
    assert_eq!(get(&mut apic, DFR), 0xFFFF_FFFF);
    assert_eq!(get(&mut apic, SVR), 0xFF);
    for lvt in LVT_TIMER..=LVT_ERROR {
        assert_eq!(get(&mut apic, lvt), 0x1_0000);
    }
    for zero in [TPR, 0x0A, LDR, ESR, ICR, ICR_HIGH, INITIAL, CURRENT, DIVIDE, 0x10, 0x18, 0x27] {
        assert_eq!(get(&mut apic, zero), 0, "register {zero:#x}");
    }
    assert_eq!(apic.due(), None);
}

#[test]
fn the_higher_class_is_served_first_and_eoi_returns_to_the_lower() {
    let mut apic = enabled();
    assert!(apic.accept(0x31, false));
    assert!(!apic.accept(0x31, false), "already in the IRR");
    assert_eq!(apic.acknowledge(), Some(0x31));
    assert!(apic.accept(0x3F, false));
    assert_eq!(apic.pending_vector(), None, "same class as the one in service");
    assert!(apic.accept(0x41, false));
    assert_eq!(apic.acknowledge(), Some(0x41));
    assert_eq!(get(&mut apic, 0x0A), 0x40);
    assert_eq!(apic.eoi(), None);
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(apic.eoi(), None);
    assert_eq!(apic.acknowledge(), Some(0x3F));
}

#[test]
fn the_task_priority_holds_back_its_own_class_and_below() {
    let mut apic = enabled();
    apic.accept(0x51, false);
    put(&mut apic, TPR, 0x50);
    assert_eq!(apic.pending_vector(), None);
    put(&mut apic, TPR, 0x4F);
    assert_eq!(apic.pending_vector(), Some(0x51));
    assert_eq!(get(&mut apic, 0x0A), 0x4F);
}

#[test]
fn the_end_of_a_level_interrupt_is_told_to_the_io_apics_unless_suppressed() {
    let mut apic = enabled();
    apic.accept(0x61, true);
    assert_eq!(get(&mut apic, 0x18 + 3), 1 << 1, "TMR");
    apic.acknowledge();
    assert_eq!(apic.write(EOI, 0, at(0)), LapicEffect::EndOfInterrupt(0x61));
    put(&mut apic, SVR, 0x11FF);
    apic.accept(0x61, true);
    apic.acknowledge();
    assert_eq!(apic.write(EOI, 0, at(0)), LapicEffect::Nothing);
    apic.accept(0x61, false);
    apic.acknowledge();
    assert_eq!(get(&mut apic, 0x18 + 3), 0, "an edge clears the TMR bit");
    assert_eq!(apic.eoi(), None);
}

#[test]
fn software_disable_masks_the_lvt_and_accepts_no_vector_but_keeps_what_is_pending() {
    let mut apic = enabled();
    put(&mut apic, LVT_LINT0, 0x700);
    apic.accept(0x40, false);
    put(&mut apic, SVR, 0xFF);
    assert_eq!(get(&mut apic, LVT_LINT0), 0x1_0700);
    put(&mut apic, LVT_LINT0, 0x700);
    assert_eq!(get(&mut apic, LVT_LINT0), 0x1_0700, "cannot be unmasked");
    assert!(!apic.accept(0x50, false));
    assert_eq!(apic.pending_vector(), Some(0x40));
    let nmi = Message { dest: 0, logical: false, mode: DeliveryMode::Nmi, vector: 0, level: false };
    assert_eq!(apic.deliver(&nmi), Delivery::Nmi);
}

#[test]
fn a_one_shot_timer_counts_down_through_the_divider_and_fires_once() {
    let mut apic = enabled();
    put(&mut apic, LVT_TIMER, 0xEC);
    put(&mut apic, DIVIDE, 0x3); // by 16
    assert_eq!(apic.write(INITIAL, 1_000, at(5_000)), LapicEffect::Timer);
    assert_eq!(apic.due(), Some(at(21_000)));
    assert_eq!(apic.read(CURRENT, at(5_000)), 1_000);
    assert_eq!(apic.read(CURRENT, at(5_016)), 999);
    assert!(!apic.advance(at(20_999)));
    assert!(apic.advance(at(21_000)));
    assert_eq!(apic.acknowledge(), Some(0xEC));
    assert_eq!(apic.read(CURRENT, at(30_000)), 0);
    assert_eq!(apic.due(), None);
}

#[test]
fn a_periodic_timer_keeps_its_phase_and_skips_what_was_missed() {
    let mut apic = enabled();
    put(&mut apic, DIVIDE, 0xB); // by 1
    put(&mut apic, LVT_TIMER, 0x2_0030);
    put(&mut apic, INITIAL, 100_000);
    assert!(apic.advance(at(100_500)));
    assert_eq!(apic.due(), Some(at(200_000)));
    assert!(apic.advance(at(950_000)));
    assert_eq!(apic.due(), Some(at(1_000_000)));
    assert_eq!(apic.read(CURRENT, at(950_000)), 50_000);
    // A count read before the expiry is noticed is that of the running period.
    assert_eq!(apic.read(CURRENT, at(1_030_000)), 70_000);
    put(&mut apic, INITIAL, 0);
    assert_eq!(apic.due(), None);
}

#[test]
fn an_absurd_period_cannot_make_the_timer_due_all_the_time() {
    let mut apic = enabled();
    put(&mut apic, DIVIDE, 0xB);
    put(&mut apic, LVT_TIMER, 0x2_0030);
    put(&mut apic, INITIAL, 1);
    assert!(apic.advance(at(50)));
    assert_eq!(apic.due(), Some(at(10_050)));
}

#[test]
fn a_masked_timer_runs_silently_and_does_not_fire_late_when_unmasked() {
    let mut apic = enabled();
    put(&mut apic, DIVIDE, 0xB);
    put(&mut apic, LVT_TIMER, 0x1_0030);
    put(&mut apic, INITIAL, 1_000);
    assert_eq!(apic.due(), None);
    assert_eq!(apic.read(CURRENT, at(400)), 600);
    let _ = apic.write(LVT_TIMER, 0x30, at(2_000));
    assert_eq!((apic.due(), apic.pending_vector()), (None, None));
}

#[test]
fn a_new_divider_applies_to_what_is_left_of_the_count() {
    let mut apic = enabled();
    put(&mut apic, DIVIDE, 0xB);
    put(&mut apic, LVT_TIMER, 0x30);
    put(&mut apic, INITIAL, 1_000);
    let _ = apic.write(DIVIDE, 0x0, at(500)); // by 2
    assert_eq!(apic.read(CURRENT, at(500)), 500);
    assert_eq!(apic.due(), Some(at(1_500)));
}

#[test]
fn a_tsc_deadline_arms_reads_back_fires_once_and_then_reads_zero() {
    let mut apic = enabled();
    assert_eq!(apic.write_tsc_deadline(77, at(1_000)), LapicEffect::Nothing, "wrong mode");
    put(&mut apic, LVT_TIMER, 0x4_00EF);
    put(&mut apic, INITIAL, 55);
    assert_eq!(get(&mut apic, INITIAL), 0, "the initial count is ignored in this mode");
    assert_eq!(apic.write_tsc_deadline(77, at(1_000)), LapicEffect::Timer);
    assert_eq!(apic.tsc_deadline(at(999)), 77);
    assert_eq!(apic.tsc_deadline(at(1_000)), 0);
    assert!(apic.advance(at(1_000)));
    assert_eq!(apic.acknowledge(), Some(0xEF));
    let _ = apic.write_tsc_deadline(99, at(2_000));
    let _ = apic.write_tsc_deadline(0, at(0));
    assert_eq!(apic.due(), None);
    let _ = apic.write_tsc_deadline(99, at(2_000));
    put(&mut apic, LVT_TIMER, 0xEF);
    assert_eq!(apic.due(), None, "leaving the mode disarms");
}

#[test]
fn a_vector_below_16_is_an_error_that_the_esr_shows_after_a_write() {
    let mut apic = enabled();
    put(&mut apic, LVT_ERROR, 0xFE);
    assert!(!apic.accept(0x0F, false));
    assert_eq!(get(&mut apic, ESR), 0);
    assert_eq!(apic.acknowledge(), Some(0xFE));
    put(&mut apic, ESR, 0);
    assert_eq!(get(&mut apic, ESR), 0x40);
    put(&mut apic, ESR, 0);
    assert_eq!(get(&mut apic, ESR), 0);
    put(&mut apic, ICR, 0x0004_0005);
    put(&mut apic, 0x3D, 1);
    put(&mut apic, ESR, 0);
    assert_eq!(get(&mut apic, ESR), 0xA0);
}

#[test]
fn the_icr_sends_every_kind_of_message() {
    let mut apic = enabled();
    let mut send = |high: u32, low: u32| {
        put(&mut apic, ICR_HIGH, high);
        apic.write(ICR, low, at(0))
    };
    let sent = |shorthand, dest, logical, mode, vector| {
        let message = Message { dest, logical, mode, vector, level: false };
        LapicEffect::Send(Ipi { shorthand, message })
    };
    use DeliveryMode::{Fixed, Init, LowestPriority, Nmi, StartUp};
    use Shorthand::{All, Destination, Others};
    assert_eq!(send(2 << 24, 0x40FD), sent(Destination, 2, false, Fixed, 0xFD));
    assert_eq!(send(0xF0 << 24, 0x49FD), sent(Destination, 0xF0, true, LowestPriority, 0xFD));
    assert_eq!(send(0xFF << 24, 0x0030), sent(Destination, BROADCAST, false, Fixed, 0x30));
    assert_eq!(send(1 << 24, 0xC500), sent(Destination, 1, false, Init, 0));
    assert_eq!(send(1 << 24, 0x8500), LapicEffect::Nothing, "INIT de-assert");
    assert_eq!(send(1 << 24, 0x0608), sent(Destination, 1, false, StartUp, 8));
    assert_eq!(send(0, 0xC_0400), sent(Others, 0, false, Nmi, 0));
    assert_eq!(send(0, 0x8_0031), sent(All, 0, false, Fixed, 0x31));
    assert_eq!(send(0, 0x0200), LapicEffect::Nothing, "SMI");
    assert_eq!(send(0, 0x4_0077), LapicEffect::Nothing, "to oneself: no message");
    assert_eq!(apic.pending_vector(), Some(0x77));
    assert_eq!(get(&mut apic, ICR) & 1 << 12, 0);
}

#[test]
fn destinations_match_by_id_by_flat_mask_and_by_cluster() {
    let mut apic = enabled();
    put(&mut apic, ID, 3 << 24);
    assert!(apic.matches(3, false) && !apic.matches(2, false) && apic.matches(BROADCAST, false));
    assert_eq!(apic.write(LDR, 0x0400_0000, at(0)), LapicEffect::Address);
    assert!(apic.matches(0x06, true) && !apic.matches(0x0B, true));
    put(&mut apic, DFR, 0x0FFF_FFFF);
    put(&mut apic, LDR, 0x2400_0000);
    assert!(apic.matches(0x24, true) && apic.matches(0x2F, true) && apic.matches(0xF4, true));
    assert!(!apic.matches(0x34, true) && !apic.matches(0x28, true) && !apic.matches(0x104, true));
    let address = apic.address();
    assert_eq!(ApicAddress::from_bits(address.to_bits()), address);

    let apic = x2apic();
    assert!(apic.matches(0x25, false));
    assert!(apic.matches(0x0002_0020, true));
    assert!(!apic.matches(0x0002_0010, true) && !apic.matches(0x0001_0020, true));
    assert_eq!(ApicAddress::from_bits(apic.address().to_bits()), apic.address());
}

#[test]
fn x2apic_registers_are_msrs_and_reserved_bits_are_refused() {
    let mut apic = x2apic();
    assert_eq!(apic.page(), None);
    assert_eq!(apic.read_msr(0x802, at(0)), Ok(0x25));
    assert_eq!(apic.read_msr(0x80D, at(0)), Ok(0x0002_0020));
    assert_eq!(
        apic.write_msr(0x830, 0x0000_0007_0000_40F2, at(0)),
        Ok(LapicEffect::Send(Ipi {
            shorthand: Shorthand::Destination,
            message: Message {
                dest: 7,
                logical: false,
                mode: DeliveryMode::Fixed,
                vector: 0xF2,
                level: false
            }
        }))
    );
    assert_eq!(apic.read_msr(0x830, at(0)), Ok(0x0000_0007_0000_40F2));
    assert_eq!(apic.write_msr(0x83F, 0x44, at(0)), Ok(LapicEffect::Nothing));
    assert_eq!(apic.acknowledge(), Some(0x44));
    assert_eq!(apic.write_msr(0x80B, 0, at(0)), Ok(LapicEffect::Nothing));
    for (msr, value) in [
        (0x802, 0),
        (0x803, 0),
        (0x808, 0x100),
        (0x80B, 1),
        (0x80D, 0),
        (0x80E, 0),
        (0x80F, 1 << 16),
        (0x828, 1),
        (0x82F, 0),
        (0x830, 1 << 20),
        (0x831, 0),
        (0x832, 1 << 20),
        (0x838, 1 << 32),
        (0x839, 0),
        (0x83E, 4),
        (0x83F, 0x100),
        (0x840, 0),
        (0x7FF, 0),
    ] {
        assert_eq!(apic.write_msr(msr, value, at(0)), Err(Refused), "MSR {msr:#x}");
    }
    for msr in [0x80B, 0x80E, 0x831, 0x83F, 0x800, 0x840] {
        assert_eq!(apic.read_msr(msr, at(0)), Err(Refused), "MSR {msr:#x}");
    }
    assert_eq!(enabled().read_msr(0x802, at(0)), Err(Refused), "not in xAPIC mode");
}

#[test]
fn apic_base_allows_only_the_transitions_that_exist() {
    let mut apic = enabled();
    for illegal in [0xFEE0_0400, 0xFEE0_0A00, 0xFEE0_0801, 1 << 40 | 0x800] {
        assert_eq!(apic.write_base(illegal), Err(Refused));
    }
    apic.write_base(0xFEE0_0C00).unwrap();
    assert_eq!(apic.base(), 0xFEE0_0D00, "the BSP stays the BSP");
    assert_eq!(apic.write_base(0xFEE0_0900), Err(Refused), "x2APIC to xAPIC");
    apic.write_base(0xFEE0_0100).unwrap();
    assert_eq!(apic.mode(), Mode::Disabled);
    assert!(apic.accepts_extint());
    assert!(!apic.accept(0x50, false) && !apic.matches(BROADCAST, false));
    assert_eq!(apic.write_base(0xFEE0_0D00), Err(Refused), "disabled to x2APIC");
    apic.write_base(0x1234_5900).unwrap();
    assert_eq!(apic.page(), Some(0x1234_5000));
    assert_eq!(get(&mut apic, SVR), 0xFF, "state was lost");
    let mut plain = LocalApic::new(LapicConfig { x2apic: false, ..CONFIG });
    assert_eq!(plain.write_base(0xFEE0_0D00), Err(Refused));
}

#[test]
fn lint_pins_carry_the_pic_and_the_nmi_in_virtual_wire_mode() {
    let mut apic = enabled();
    put(&mut apic, LVT_LINT0, 0x700);
    put(&mut apic, LVT_LINT1, 0x400);
    assert_eq!(apic.set_lint(0, true), Delivery::ExtInt);
    assert!(apic.extint_pending());
    let _ = apic.set_lint(0, false);
    assert!(!apic.extint_pending());
    assert_eq!(apic.set_lint(1, true), Delivery::Nmi);
    assert_eq!(apic.set_lint(1, true), Delivery::Ignored, "no new edge");
    put(&mut apic, LVT_LINT1, 0x1_0400);
    let _ = apic.set_lint(1, false);
    assert_eq!(apic.set_lint(1, true), Delivery::Ignored);
    assert_eq!(apic.set_lint(2, true), Delivery::Ignored);
}

#[test]
fn a_level_lint0_interrupts_again_while_it_stays_high() {
    let mut apic = enabled();
    put(&mut apic, LVT_LINT0, 0x8055);
    assert_eq!(apic.set_lint(0, true), Delivery::Accepted);
    assert_eq!(get(&mut apic, LVT_LINT0), 0xC055);
    assert_eq!(apic.acknowledge(), Some(0x55));
    assert_eq!(apic.pending_vector(), None);
    let _ = apic.eoi();
    assert_eq!(apic.acknowledge(), Some(0x55));
    let _ = apic.set_lint(0, false);
    let _ = apic.eoi();
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(get(&mut apic, LVT_LINT0), 0x8055);
}

#[test]
fn a_performance_interrupt_masks_its_entry() {
    let mut apic = enabled();
    put(&mut apic, LVT_PERFORMANCE, 0x400);
    assert_eq!(apic.fire(Lvt::Performance), Delivery::Nmi);
    assert_eq!(get(&mut apic, LVT_PERFORMANCE), 0x1_0400);
    assert_eq!(apic.fire(Lvt::Performance), Delivery::Ignored);
}

#[test]
fn an_inbox_is_accepted_in_one_go() {
    let mut apic = enabled();
    apic.accept_all(&[1 << 33, 0, 1, 0], &[1, 0, 0, 1 << 63]);
    assert_eq!(apic.acknowledge(), Some(0xFF));
    assert_eq!(apic.eoi(), Some(0xFF));
    assert_eq!(apic.acknowledge(), Some(0x80));
    assert_eq!(apic.eoi(), None);
    assert_eq!(apic.acknowledge(), Some(33));
    put(&mut apic, ESR, 0);
    assert_eq!(get(&mut apic, ESR), 0x40, "vector 0 was refused");
}

#[test]
fn init_keeps_the_id_and_the_base_and_resets_the_rest() {
    let mut apic = enabled();
    put(&mut apic, ID, 9 << 24);
    put(&mut apic, LVT_TIMER, 0x30);
    put(&mut apic, INITIAL, 1_000_000);
    apic.accept(0x80, false);
    apic.init();
    assert_eq!(get(&mut apic, ID), 9 << 24);
    assert_eq!((apic.pending_vector(), apic.due()), (None, None));
    assert_eq!(get(&mut apic, SVR), 0xFF);
    let mut apic = x2apic();
    apic.init();
    assert_eq!(apic.mode(), Mode::X2Apic);
}

/// What Linux 6.1 does on the boot CPU: clear_local_APIC, setup_local_APIC, calibration by the
/// periodic timer, then the error and timer entries.
#[test]
fn linux_boot_script() {
    let mut apic = LocalApic::new(CONFIG);
    assert_eq!(get(&mut apic, 0x03) >> 16 & 0xFF, 5, "lapic_get_maxlvt");
    for (register, value) in [
        (LVT_ERROR, 0x1_00FE),
        (LVT_TIMER, 0x1_0000),
        (LVT_LINT0, 0x1_0000),
        (LVT_LINT1, 0x1_0000),
        (LVT_PERFORMANCE, 0x1_0000),
        (ESR, 0),
        (DFR, 0xFFFF_FFFF),
        (LDR, 0x0100_0000),
        (TPR, 0x10),
        (SVR, 0x1FF),
        (LVT_LINT0, 0x700),
        (LVT_LINT1, 0x400),
        (LVT_ERROR, 0xFE),
        (ESR, 0),
    ] {
        put(&mut apic, register, value);
    }
    assert_eq!(get(&mut apic, ESR), 0);
    assert!(apic.accepts_extint());
    // calibrate_APIC_clock: periodic, divide by 16, the largest count; 100 ms by another clock.
    put(&mut apic, LVT_TIMER, 0x2_00EC);
    put(&mut apic, DIVIDE, 3);
    put(&mut apic, INITIAL, 0xFFFF_FFFF / 16);
    let (from, to) = (apic.read(CURRENT, at(0)), apic.read(CURRENT, at(100_000_000)));
    assert_eq!(u64::from(from - to) * 16 * 10, BUS_HZ);
    // Normal service: one tick, its EOI, and a reschedule IPI to CPU 1.
    put(&mut apic, LVT_TIMER, 0xEC);
    let _ = apic.write(INITIAL, 62_500, at(1_000_000_000));
    assert_eq!(apic.due(), Some(at(1_001_000_000)));
    assert!(apic.advance(at(1_001_000_000)));
    assert_eq!(apic.acknowledge(), Some(0xEC));
    assert_eq!(apic.write(EOI, 0, at(1_001_000_100)), LapicEffect::Nothing);
    put(&mut apic, ICR_HIGH, 2 << 24);
    assert!(matches!(apic.write(ICR, 0x08FD, at(0)), LapicEffect::Send(_)));
    assert_eq!(get(&mut apic, ICR) & 0x1000, 0, "delivery status is idle");
}

fn random_step(apic: &mut LocalApic, rng: &mut Rng, now: Nanos) {
    match rng.below(12) {
        0..=4 => {
            let value = (rng.next() as u32) >> rng.below(32);
            let number = if rng.one_in(2) { rng.byte() & 0x3F } else { 0x30 + rng.byte() % 9 };
            let _ = apic.write(number, value, now);
        }
        5 => {
            let value = rng.next() >> rng.below(64);
            let _ = apic.write_msr(0x800 + rng.below(0x40) as u32, value, now);
        }
        6 => {
            apic.accept(rng.byte(), rng.one_in(3));
        }
        7 => {
            let pending = apic.pending_vector();
            assert_eq!(apic.acknowledge(), pending);
        }
        8 => {
            let _ = apic.set_lint(rng.below(3) as usize, rng.one_in(2));
        }
        9 => {
            apic.advance(now);
            assert!(apic.due().is_none_or(|due| due > now));
        }
        10 => {
            let _ = apic.write_tsc_deadline(rng.next() >> rng.below(64), now + rng.below(1 << 20));
            apic.read(rng.byte(), now);
        }
        _ => {
            if rng.one_in(8) {
                let _ = apic.write_base(DEFAULT_BASE | rng.next() & 0xF00);
            } else if rng.one_in(3) {
                let _ = apic.write(SVR, 0x1FF, now);
            }
        }
    }
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..16 {
        let mut rng = Rng::new(seed);
        let mut apic = LocalApic::new(CONFIG);
        let mut now = Nanos::ZERO;
        for _ in 0..10_000 {
            let step = 1 << rng.below(24);
            now = now + rng.below(step);
            random_step(&mut apic, &mut rng, now);
            let isr_class = apic.isr.top() & 0xF0;
            assert!(apic.ppr() >= isr_class && apic.ppr() >= apic.tpr());
            if let Some(vector) = apic.pending_vector() {
                assert!(vector >= 16 && vector & 0xF0 > apic.ppr() & 0xF0);
            }
            let mut copy = LocalApic::new(CONFIG);
            copy.load(&apic.save()).unwrap();
            assert_eq!(copy, apic);
        }
    }
}

#[test]
fn load_refuses_what_no_local_apic_could_hold() {
    let mut apic = enabled();
    let good = apic.save();
    let refuses = |apic: &mut LocalApic, spoil: fn(&mut LapicState)| {
        let mut state = good.clone();
        spoil(&mut state);
        assert!(matches!(apic.load(&state), Err(LoadError::Impossible(_))), "{state:?}");
    };
    refuses(&mut apic, |s| s.base = 0xFEE0_0400);
    refuses(&mut apic, |s| s.base &= !0x100);
    refuses(&mut apic, |s| s.svr = 0x8000);
    refuses(&mut apic, |s| s.irr[0] = 1);
    refuses(&mut apic, |s| s.isr[0] = 0x8000);
    refuses(&mut apic, |s| s.lvt[5] = 0x700);
    refuses(&mut apic, |s| {
        s.svr = 0xFF;
        s.lvt[0] = 0x30;
    });
    refuses(&mut apic, |s| s.divide_config = 4);
    refuses(&mut apic, |s| s.tsc_deadline = 1);
    refuses(&mut apic, |s| s.icr = 1 << 12);
    let old = LapicState { version: 0, ..good.clone() };
    assert_eq!(apic.load(&old), Err(LoadError::Version));
    assert_eq!(apic.save(), good);
}
