//! A seeded random walk over all registers, with slow and fast hosts.

use super::*;
use crate::testing::Rng;

#[test]
fn a_random_walk_never_panics_and_saves_what_it_loads() {
    for seed in 1..=8 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new().disk(0, 300).cdrom(1, 40).disk(3, 3000);
        rig.slow = seed % 3 == 0;
        let entries: Vec<_> =
            (0..40).map(|_| (rng.next() as u32 & 0x1F_FFFF, rng.next() as u16 & 0x1FFF)).collect();
        let mut copy = Box::new(Ide::new());
        for step in 0..3000 {
            walk_step(&mut rig, &mut rng, &entries);
            if step % 4 == 0 {
                check(&rig, &mut copy);
            }
        }
    }
}

const CODES: [u8; 22] = [
    0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0xA0, 0xA0, 0xA0, 0xA0, 0xA1, 0xC4, 0xC5, 0xC6,
    0xC8, 0xCA, 0xE7, 0xEC, 0xEF, 0x08,
];
const PACKETS: [u8; 16] = [
    0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x28, 0x43, 0x46, 0x4A, 0x55, 0x5A, 0xA8, 0xBE,
];

fn walk_step(rig: &mut Rig, rng: &mut Rng, entries: &[(u32, u16)]) {
    let bus = if rng.one_in(4) { Bus::Secondary } else { P };
    let effect = match rng.below(20) {
        0..=5 => {
            let offset = 1 + rng.below(6) as u8;
            let value = if rng.one_in(2) { rng.below(4) as u8 } else { rng.byte() };
            rig.ide.write(bus, offset, if offset == 6 { value & 0x1F | 0xE0 } else { value })
        }
        6..=8 => rig.ide.write(bus, 7, CODES[rng.below(22) as usize]),
        9 if rng.one_in(20) => rig.ide.write(bus, 7, rng.byte()),
        9 => {
            let _ = rig.ide.read(bus, rng.below(8) as u8);
            Effect::None
        }
        10..=12 => {
            let mut out = vec![0; 2 << rng.below(14)];
            let (n, effect) = rig.ide.data_in(bus, &mut out);
            assert!(n <= out.len());
            effect
        }
        13..=14 => {
            let mut packet = [0; 4096];
            packet[0] = PACKETS[rng.below(16) as usize];
            for byte in &mut packet[1..12] {
                *byte = if rng.one_in(2) { rng.below(3) as u8 } else { 0 };
            }
            let len = if rng.one_in(2) { 12 } else { 2 << rng.below(11) };
            rig.ide.data_out(bus, &packet[..len as usize]).1
        }
        15 => {
            rig.prds(0x1000, entries);
            rig.ide.busmaster_write(rng.below(16) as u8 & 8, rng.byte())
        }
        16 => rig.ide.busmaster_write(rng.below(4) as u8, rng.byte()),
        17 if rng.one_in(10) => {
            rig.ide.write_control(bus, rng.byte());
            Effect::None
        }
        17 => {
            rig.ide.write_control(bus, 0);
            Effect::None
        }
        18 => match rig.waiting.take() {
            Some(request) => rig.serve(request),
            None => Effect::None,
        },
        _ => {
            if let Some(cdrom) = rig.ide.cdrom(Unit::ALL[1]) {
                match rng.below(40) {
                    0 => cdrom.remove(),
                    1..=3 => cdrom.insert(&Media::cdrom(40)),
                    _ => {}
                }
            }
            Effect::None
        }
    };
    rig.run(effect);
}

fn check(rig: &Rig, copy: &mut Ide) {
    let saved = rig.ide.save();
    let buffers = [P, Bus::Secondary].map(|bus| rig.ide.saved_buffer(bus));
    copy.load(&saved, buffers).expect("a state that the chip is in can be loaded");
    assert_eq!(copy.save(), saved);
    for bus in [P, Bus::Secondary] {
        assert_eq!(copy.irq(bus), rig.ide.irq(bus));
        assert_eq!(copy.saved_buffer(bus), rig.ide.saved_buffer(bus));
    }
}
