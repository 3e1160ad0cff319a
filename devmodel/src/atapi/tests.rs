//! The CD drive's packets alone: tables, errors, unit attention.

extern crate std;
use super::*;
use std::vec;
use std::vec::Vec;

fn run(cdrom: &mut Cdrom, packet: &[u8]) -> Result<Vec<u8>, Sense> {
    let mut bytes = [0; 12];
    bytes[..packet.len()].copy_from_slice(packet);
    let mut buffer = vec![0; 65_536];
    match cdrom.command(&bytes, &mut buffer) {
        Reply::Data(len) => Ok(buffer[..usize::from(len)].to_vec()),
        Reply::Check(sense) => Err(sense),
        _ => Ok(Vec::new()),
    }
}

fn cd(blocks: u32) -> Cdrom {
    Cdrom::new(DiskId(2), Some(&Media::cdrom(blocks)))
}

#[test]
fn the_contents_come_in_three_formats_as_lba_and_as_msf() {
    let cdrom = &mut cd(1000);
    let toc = run(cdrom, &[0x43, 0, 0, 0, 0, 0, 0, 0, 200]).unwrap();
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 3, 0xE8]);
    // 1000 + 150 frames are 15 s 25 f.
    let toc = run(cdrom, &[0x43, 2, 0, 0, 0, 0, 0xAA, 0, 200]).unwrap();
    assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 15, 25]);
    let session = run(cdrom, &[0x43, 0, 1, 0, 0, 0, 0, 0, 12]).unwrap();
    assert_eq!(session, [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(run(cdrom, &[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]).unwrap(), session, "SFF-8020i");
    let full = run(cdrom, &[0x43, 2, 2, 0, 0, 0, 0, 0, 200]).unwrap();
    assert_eq!((full.len(), full[1]), (48, 46));
    assert_eq!(full[4 + 22..4 + 33], [1, 0x14, 0, 0xA2, 0, 0, 0, 0, 0, 15, 25]);
    assert_eq!(run(cdrom, &[0x43, 0, 0, 0, 0, 0, 2, 0, 12]), Err(Sense::BAD_FIELD));
}

#[test]
fn capacity_range_and_read_agree() {
    let cdrom = &mut cd(1000);
    assert_eq!(run(cdrom, &[0x25]).unwrap(), [0, 0, 3, 0xE7, 0, 0, 8, 0]);
    let mut read = [0; 12];
    read[0] = 0x28;
    (read[4], read[5], read[8]) = (3, 0xE7, 1);
    assert_eq!(cdrom.command(&read, &mut []), Reply::Read { block: 999, blocks: 1, raw: false });
    read[8] = 2;
    assert_eq!(cdrom.command(&read, &mut []), Reply::Check(Sense::OUT_OF_RANGE));
    read[2..6].fill(0xFF);
    assert_eq!(cdrom.command(&read, &mut []), Reply::Check(Sense::OUT_OF_RANGE));
    read[8] = 0;
    read[2..6].fill(0);
    assert_eq!(cdrom.command(&read, &mut []), Reply::Done);
}

#[test]
fn allocation_lengths_cut_replies_and_sense_is_told_once() {
    let cdrom = &mut cd(10);
    assert_eq!(run(cdrom, &[0x12, 0, 0, 0, 7]).unwrap().len(), 7);
    assert_eq!(run(cdrom, &[0xFF]), Err(Sense::BAD_COMMAND));
    cdrom.sense = Sense::BAD_COMMAND;
    let sense = run(cdrom, &[3, 0, 0, 0, 255]).unwrap();
    assert_eq!((sense.len(), sense[2], sense[12]), (18, 5, 0x20));
    assert_eq!(run(cdrom, &[3, 0, 0, 0, 255]).unwrap()[2], 0);
}

#[test]
fn a_change_is_reported_to_the_first_command_that_asks_for_it() {
    let cdrom = &mut cd(10);
    cdrom.remove();
    assert_eq!(run(cdrom, &[0]), Err(Sense::TRAY_OPEN));
    cdrom.insert(&Media::cdrom(20));
    assert!(run(cdrom, &[0x12, 0, 0, 0, 36]).is_ok(), "INQUIRY is exempt");
    assert_eq!(run(cdrom, &[0]), Err(Sense::CHANGED));
    assert_eq!(run(cdrom, &[0]), Ok(vec![]));
    assert_eq!(run(cdrom, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]).unwrap()[4..6], [2, 2]);
    assert_eq!(run(cdrom, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8]).unwrap()[4], 0);
    assert_eq!(run(cdrom, &[0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8]), Err(Sense::BAD_FIELD));
}

#[test]
fn profiles_follow_the_medium_and_lengths_are_right() {
    for (cdrom, profile) in [
        (&mut cd(1000), 0x08),
        (&mut cd(2_000_000), 0x10),
        (&mut Cdrom::new(DiskId(0), None), 0x00),
    ] {
        let all = run(cdrom, &[0x46, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!(all[7], profile);
        assert_eq!(u32::from_be_bytes([all[0], all[1], all[2], all[3]]) as usize, all.len() - 4);
        let mut at = 8;
        while at < all.len() {
            at += 4 + usize::from(all[at + 3]);
        }
        assert_eq!(at, all.len());
        let one = run(cdrom, &[0x46, 2, 0, 3, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!(one[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    }
}

#[test]
fn mode_pages_have_right_lengths_and_show_the_lock() {
    let cdrom = &mut cd(10);
    let all = run(cdrom, &[0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 255]).unwrap();
    assert_eq!(usize::from(all[1]), all.len() - 2);
    let mut at = 8;
    while at < all.len() {
        at += 2 + usize::from(all[at + 1]);
    }
    assert_eq!(at, all.len());
    run(cdrom, &[0x1E, 0, 0, 0, 1]).unwrap();
    let page = run(cdrom, &[0x1A, 0, 0x2A, 0, 64]).unwrap();
    assert_eq!((page[0] as usize + 1, page[4], page[10]), (page.len(), 0x2A, 0x2B));
    assert_eq!(run(cdrom, &[0x5A, 0, 0x07, 0, 0, 0, 0, 0, 255]), Err(Sense::BAD_FIELD));
    assert_eq!(run(cdrom, &[0x5A, 0, 0xEA, 0, 0, 0, 0, 0, 255]), Err(Sense::NO_SAVING));
    assert_eq!(cdrom.select(&[0; 9]), Err(Sense::BAD_PARAMETER));
}

#[test]
fn the_small_replies_have_their_fixed_forms() {
    let cdrom = &mut cd(10);
    assert_eq!(run(cdrom, &[0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8]).unwrap().len(), 8);
    let disc = run(cdrom, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34]).unwrap();
    assert_eq!(disc[..8], [0, 32, 0x0E, 1, 1, 1, 1, 0x20]);
    let sub = run(cdrom, &[0x42, 2, 0x40, 1, 0, 0, 0, 0, 16]).unwrap();
    assert_eq!((sub.len(), sub[1], sub[3], sub[4]), (16, 0x15, 12, 1));
    assert_eq!(run(cdrom, &[0x42, 0, 0x40, 3, 0, 0, 0, 0, 64]).unwrap().len(), 24);
    assert!(run(cdrom, &[0x52, 1, 0, 0, 0, 1, 0, 0, 36]).is_ok());
    assert_eq!(run(cdrom, &[0x2B, 0, 0, 0, 0, 10]), Err(Sense::OUT_OF_RANGE));
    for packet in [[0x35, 0], [0xBB, 0], [0x4E, 0]] {
        assert_eq!(run(cdrom, &packet), Ok(vec![]));
    }
}
