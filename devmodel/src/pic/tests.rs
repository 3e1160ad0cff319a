use super::*;
use crate::testing::Rng;
use PicUnit::{Master, Slave};

/// The sequence of every PC BIOS and of Linux's `init_8259A`: vectors at `master` and `slave`.
fn initialize(pair: &mut PicPair, master: u8, slave: u8, icw4: u8) {
    for (unit, base, icw3) in [(Master, master, 4), (Slave, slave, 2)] {
        pair.write(unit, 0, 0x11);
        pair.write(unit, 1, base);
        pair.write(unit, 1, icw3);
        pair.write(unit, 1, icw4);
        pair.write(unit, 1, 0);
    }
}

fn pair() -> PicPair {
    let mut pair = PicPair::new();
    initialize(&mut pair, 0x08, 0x70, 1);
    pair
}

#[test]
fn the_lowest_line_is_served_first_and_eoi_lets_the_next_through() {
    let mut pic = pair();
    pic.set_irq(4, true);
    pic.set_irq(1, true);
    assert!(pic.intr());
    assert_eq!(pic.acknowledge(), 0x09);
    assert!(!pic.intr(), "IRQ4 waits behind IRQ1 in service");
    pic.write(Master, 0, 0x20);
    assert_eq!(pic.acknowledge(), 0x0C);
}

#[test]
fn a_higher_line_interrupts_a_lower_one_in_service() {
    let mut pic = pair();
    pic.set_irq(4, true);
    pic.acknowledge();
    pic.set_irq(0, true);
    assert!(pic.intr());
    assert_eq!(pic.acknowledge(), 0x08);
    pic.write(Master, 0, 0x0B);
    assert_eq!(pic.read(Master, 0), 0x11);
    pic.write(Master, 0, 0x20);
    assert_eq!(pic.read(Master, 0), 0x10, "the non-specific EOI ended the better one");
}

#[test]
fn an_edge_line_asks_once_and_only_while_it_stays_high() {
    let mut pic = pair();
    pic.set_irq(3, true);
    pic.acknowledge();
    pic.write(Master, 0, 0x63);
    assert!(!pic.intr(), "still high is no new edge");
    pic.set_irq(3, false);
    pic.set_irq(3, true);
    assert!(pic.intr());
    pic.set_irq(3, false);
    assert!(!pic.intr(), "the request fell with its line");
}

#[test]
fn a_level_line_asks_again_after_eoi_until_it_falls() {
    let mut pic = pair();
    pic.write_elcr(Slave, 0xFF);
    assert_eq!(pic.read_elcr(Slave), 0xDE, "IRQ8 and IRQ13 cannot be level");
    pic.set_irq(10, true);
    assert_eq!(pic.acknowledge(), 0x72);
    pic.write(Slave, 0, 0x20);
    pic.write(Master, 0, 0x20);
    assert_eq!(pic.acknowledge(), 0x72);
    pic.set_irq(10, false);
    pic.write(Slave, 0, 0x20);
    pic.write(Master, 0, 0x20);
    assert!(!pic.intr());
}

#[test]
fn without_a_request_line_7_answers_and_nothing_is_in_service() {
    let mut pic = pair();
    assert_eq!(pic.acknowledge(), 0x0F);
    pic.write(Master, 0, 0x0B);
    assert_eq!(pic.read(Master, 0), 0);
}

#[test]
fn a_slave_request_masked_between_its_cycles_is_a_spurious_15() {
    // Both INTA cycles are one call here; a slave that forgot its request is made by hand.
    let mut pic = pair();
    pic.set_irq(14, true);
    pic.slave.set_irq(6, false);
    assert_eq!(pic.acknowledge(), 0x77);
    pic.write(Master, 0, 0x0B);
    pic.write(Slave, 0, 0x0B);
    assert_eq!((pic.read(Master, 0), pic.read(Slave, 0)), (0x04, 0));
}

#[test]
fn a_masked_line_waits_and_the_mask_reads_back() {
    let mut pic = pair();
    pic.write(Master, 1, 0xEF);
    assert_eq!(pic.read(Master, 1), 0xEF);
    pic.set_irq(0, true);
    assert!(!pic.intr());
    pic.write(Master, 1, 0xEE);
    assert!(pic.intr());
    assert_eq!(pic.imr(), 0x00EE);
}

#[test]
fn special_mask_lets_lower_lines_through_a_masked_service() {
    let mut pic = pair();
    pic.set_irq(3, true);
    pic.acknowledge();
    pic.write(Master, 1, 0x08);
    pic.set_irq(5, true);
    assert!(!pic.intr());
    pic.write(Master, 0, 0x68);
    assert_eq!(pic.acknowledge(), 0x0D);
    pic.write(Master, 0, 0x20);
    pic.write(Master, 0, 0x20);
    pic.write(Master, 0, 0x0B);
    assert_eq!(pic.read(Master, 0), 0x08, "the masked one needs a specific EOI");
}

#[test]
fn special_fully_nested_lets_the_slave_interrupt_itself() {
    let mut pic = PicPair::new();
    initialize(&mut pic, 0x08, 0x70, 0x11);
    pic.set_irq(12, true);
    assert_eq!(pic.acknowledge(), 0x74);
    pic.set_irq(3, true);
    assert!(!pic.intr(), "a worse master line still waits");
    pic.set_irq(9, true);
    assert!(pic.intr());
    assert_eq!(pic.acknowledge(), 0x71);
}

#[test]
fn auto_eoi_leaves_nothing_in_service_and_rotates_when_told() {
    let mut pic = PicPair::new();
    initialize(&mut pic, 0x20, 0x28, 0x03);
    pic.write(Master, 0, 0x80);
    pic.set_irq(4, true);
    pic.set_irq(6, true);
    assert_eq!(pic.acknowledge(), 0x24);
    pic.set_irq(4, false);
    pic.set_irq(4, true);
    assert_eq!(pic.acknowledge(), 0x26, "line 4 went to the back");
    assert_eq!(pic.acknowledge(), 0x24);
}

#[test]
fn rotation_by_eoi_and_set_priority_move_the_order() {
    let mut pic = pair();
    pic.write(Master, 0, 0xC0 | 4);
    pic.set_irq(0, true);
    pic.set_irq(5, true);
    assert_eq!(pic.acknowledge(), 0x0D, "5 is highest when 4 is lowest");
    pic.write(Master, 0, 0xA0);
    pic.set_irq(6, true);
    pic.set_irq(5, false);
    pic.set_irq(5, true);
    assert_eq!(pic.acknowledge(), 0x0E);
    pic.write(Master, 0, 0xE0 | 6);
    assert_eq!(pic.acknowledge(), 0x08);
}

#[test]
fn the_poll_word_serves_a_request_and_is_read_once() {
    let mut pic = pair();
    pic.write(Master, 1, 0x00);
    pic.write(Master, 0, 0x0C);
    assert_eq!(pic.read(Master, 0), 0x00);
    pic.set_irq(6, true);
    pic.write(Master, 0, 0x0C);
    assert_eq!(pic.read(Master, 1), 0x86, "either port reads the poll word");
    assert_eq!(pic.read(Master, 1), 0x00, "and then the mask again");
    pic.write(Master, 0, 0x0B);
    assert_eq!(pic.read(Master, 0), 0x40);
}

#[test]
fn single_mode_skips_icw3_and_no_ic4_skips_icw4() {
    let mut pic = Pic::new(0, 0);
    pic.write(0, 0x12);
    pic.write(1, 0x40);
    pic.write(1, 0x55);
    assert_eq!(pic.read(1), 0x55, "the write after ICW2 was OCW1");
}

#[test]
fn linux_finds_a_working_pic_masks_it_and_takes_irq0_and_irq14() {
    // probe_8259A: the slave masked, a mask written to the master must read back.
    let mut pic = PicPair::new();
    pic.write(Slave, 1, 0xFF);
    pic.write(Master, 1, 0xFB);
    assert_eq!(pic.read(Master, 1), 0xFB);
    initialize(&mut pic, 0x30, 0x38, 0x01);
    pic.write(Master, 1, 0xFB);
    pic.write(Slave, 1, 0xFF);
    // Unmask IRQ0; mask_and_ack_8259A and a specific EOI for each.
    pic.write(Master, 1, 0xFA);
    pic.set_irq(0, true);
    assert_eq!(pic.acknowledge(), 0x30);
    pic.read(Master, 1);
    pic.write(Master, 1, 0xFB);
    pic.write(Master, 0, 0x60);
    // IRQ14 through the cascade.
    pic.write(Slave, 1, 0xBF);
    pic.set_irq(14, true);
    assert_eq!(pic.acknowledge(), 0x3E);
    pic.write(Slave, 1, 0xFF);
    pic.write(Slave, 0, 0x66);
    pic.write(Master, 0, 0x62);
    pic.write(Slave, 0, 0x0B);
    assert_eq!(pic.read(Slave, 0), 0);
    assert!(!pic.intr());
}

#[test]
fn an_edge_line_high_through_initialization_must_rise_again() {
    let mut pic = pair();
    pic.set_irq(1, true);
    initialize(&mut pic, 0x08, 0x70, 1);
    assert!(!pic.intr());
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..64 {
        let mut rng = Rng::new(seed);
        let mut pic = PicPair::new();
        for _ in 0..4_000 {
            let unit = if rng.one_in(2) { Master } else { Slave };
            match rng.below(8) {
                0..=2 => pic.set_irq(rng.below(20) as u8, rng.one_in(2)),
                3 => {
                    let asked = pic.intr();
                    let master = pic.master.isr;
                    pic.acknowledge();
                    assert!(asked || pic.master.isr == master, "spurious serves nothing");
                }
                4 => {
                    pic.read(unit, rng.byte());
                }
                5 if rng.one_in(8) => pic.write_elcr(unit, rng.byte()),
                6 if rng.one_in(4) => initialize(&mut pic, rng.byte(), rng.byte(), rng.byte()),
                _ => pic.write(unit, rng.byte(), rng.byte()),
            }
            assert_eq!(pic.master.lines & 4 != 0, pic.slave.intr());
            let mut copy = PicPair::new();
            assert_eq!(copy.load(&pic.save()), Ok(()));
            assert_eq!(copy, pic);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut pic = Pic::new(0xF8, 4);
    let good = pic.save();
    let refused = |pic: &mut Pic, state| pic.load(&state).unwrap_err();
    assert_eq!(refused(&mut pic, PicState { version: 9, ..good }), LoadError::Version);
    let bad = PicState { irr: 1, ..good };
    assert_eq!(refused(&mut pic, bad), LoadError::Impossible("irr"));
    let bad = PicState { elcr: 1, ..good };
    assert_eq!(refused(&mut pic, bad), LoadError::Impossible("elcr"));
    let bad = PicState { expects_icw: 1, ..good };
    assert_eq!(refused(&mut pic, bad), LoadError::Impossible("expects_icw"));
    let bad = PicState { highest: 8, ..good };
    assert_eq!(refused(&mut pic, bad), LoadError::Impossible("highest"));
}
