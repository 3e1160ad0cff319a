use super::*;
use crate::testing::Rng;
use DmaUnit::{Bytes, Words};

/// Linux's floppy driver: `set_dma_mode`, `set_dma_addr`, `set_dma_count`, `enable_dma` on channel 2.
fn program_floppy(dma: &mut Dma, address: u32, bytes: u32, mode: u8) {
    let [low, high, page, _] = address.to_le_bytes();
    let [count_low, count_high, ..] = (bytes - 1).to_le_bytes();
    dma.write(Bytes, 10, 4 | 2);
    dma.write(Bytes, 12, 0);
    dma.write(Bytes, 11, mode | 2);
    dma.write_page(1, page);
    dma.write(Bytes, 4, low);
    dma.write(Bytes, 4, high);
    dma.write(Bytes, 5, count_low);
    dma.write(Bytes, 5, count_high);
    dma.write(Bytes, 10, 2);
}

#[test]
fn a_linux_floppy_read_runs_to_terminal_count_and_masks_the_channel() {
    let mut dma = Dma::new();
    dma.write_page(1, 0xFF);
    program_floppy(&mut dma, 0x01_2000, 1024, 0x44);
    // Channel 2's page register is 81h, which program_floppy wrote.
    let first = dma.transfer(2).unwrap();
    assert_eq!((first.address, first.bytes, first.kind), (0x01_2000, 1024, TransferKind::Write));
    assert!(!dma.advance(2, 512));
    assert_eq!(dma.transfer(2).unwrap().address, 0x01_2200);
    assert_eq!(dma.read(Bytes, 8), 0);
    assert!(dma.advance(2, 512));
    assert_eq!(dma.transfer(2), None);
    assert_eq!(dma.read(Bytes, 8), 0x04);
    assert_eq!(dma.read(Bytes, 8), 0, "reading status clears terminal count");
    // get_dma_residue: the count has wrapped to FFFFh.
    dma.write(Bytes, 12, 0);
    assert_eq!((dma.read(Bytes, 5), dma.read(Bytes, 5)), (0xFF, 0xFF));
}

#[test]
fn auto_init_starts_over_and_keeps_the_channel_open() {
    let mut dma = Dma::new();
    program_floppy(&mut dma, 0x03_4000, 16, 0x58);
    assert!(dma.advance(2, 16));
    let again = dma.transfer(2).unwrap();
    assert_eq!((again.address, again.bytes, again.kind), (0x03_4000, 16, TransferKind::Read));
}

#[test]
fn addresses_wrap_inside_their_page() {
    let mut dma = Dma::new();
    program_floppy(&mut dma, 0x05_FFF0, 64, 0x44);
    assert_eq!(dma.transfer(2).unwrap().bytes, 16);
    assert!(!dma.advance(2, 1000), "no more than it allowed");
    let rest = dma.transfer(2).unwrap();
    assert_eq!((rest.address, rest.bytes), (0x05_0000, 48));
    assert!(dma.advance(2, 48));
}

#[test]
fn decrement_walks_downwards() {
    let mut dma = Dma::new();
    program_floppy(&mut dma, 0x02_0003, 8, 0x64);
    let first = dma.transfer(2).unwrap();
    assert_eq!((first.address, first.bytes, first.downwards), (0x02_0003, 4, true));
    dma.advance(2, 4);
    assert_eq!(dma.transfer(2).unwrap().address, 0x02_FFFF);
}

#[test]
fn word_channels_count_words_and_ignore_page_bit_0() {
    let mut dma = Dma::new();
    dma.write_page(11, 0x13);
    dma.write(Words, 12, 0);
    for (offset, value) in [(2, 0x00), (2, 0x80), (3, 0xFF), (3, 0x00), (11, 0x49), (10, 1)] {
        dma.write(Words, offset, value);
    }
    let transfer = dma.transfer(5).unwrap();
    assert_eq!((transfer.address, transfer.bytes), (0x13_0000, 512));
    assert!(!dma.advance(5, 511));
    assert_eq!(dma.transfer(5).unwrap().bytes, 2);
    assert!(dma.advance(5, 2));
}

#[test]
fn a_disabled_controller_a_cascade_and_verify_do_what_they_say() {
    let mut dma = Dma::new();
    program_floppy(&mut dma, 0x1000, 16, 0x40);
    assert_eq!(dma.transfer(2).unwrap().kind, TransferKind::Verify);
    dma.write(Bytes, 8, 4);
    assert_eq!(dma.transfer(2), None);
    dma.write(Bytes, 8, 0);
    program_floppy(&mut dma, 0x1000, 16, 0xC0);
    assert_eq!(dma.transfer(2), None);
    dma.write(Words, 11, 0xC0);
    dma.write(Words, 14, 0);
    assert_eq!(dma.transfer(4), None);
    assert_eq!(dma.transfer(200), None);
}

#[test]
fn master_clear_masks_all_and_resets_the_flip_flop() {
    let mut dma = Dma::new();
    program_floppy(&mut dma, 0x1000, 16, 0x44);
    dma.set_dreq(2, true);
    assert_eq!(dma.read(Bytes, 8), 0x40);
    dma.read(Bytes, 4);
    dma.write(Bytes, 13, 0);
    assert_eq!(dma.transfer(2), None);
    assert_eq!(dma.read(Bytes, 15), 0xFF);
    assert_eq!((dma.read(Bytes, 4), dma.read(Bytes, 4)), (0x00, 0x10));
}

#[test]
fn a_random_walk_keeps_the_invariants_and_survives_save_and_load() {
    for seed in 0..32 {
        let mut rng = Rng::new(seed);
        let mut dma = Dma::new();
        for _ in 0..3_000 {
            let unit = if rng.one_in(2) { Bytes } else { Words };
            let channel = rng.below(9) as u8;
            match rng.below(6) {
                0 | 1 => dma.write(unit, rng.byte(), rng.byte()),
                2 => {
                    dma.read(unit, rng.byte());
                }
                3 => dma.write_page(rng.byte(), rng.byte()),
                4 => dma.set_dreq(channel, rng.one_in(2)),
                _ => {
                    if let Some(it) = dma.transfer(channel) {
                        let last = if it.downwards { 0 } else { it.bytes };
                        assert!(it.bytes > 0 && it.bytes <= 0x2_0000);
                        assert!(it.address + last <= 0x100_0000);
                    }
                    dma.advance(channel, rng.next() as u32 & 0x3FFFF);
                }
            }
            let mut copy = Dma::new();
            assert_eq!(copy.load(&dma.save()), Ok(()));
            assert_eq!(copy, dma);
        }
    }
}

#[test]
fn load_refuses_what_no_chip_holds() {
    let mut dma = Dma::new();
    let mut bad = dma.save();
    bad.units[1].mask = 16;
    assert_eq!(dma.load(&bad), Err(LoadError::Impossible("mask")));
    bad = dma.save();
    bad.version = 3;
    assert_eq!(dma.load(&bad), Err(LoadError::Version));
}
