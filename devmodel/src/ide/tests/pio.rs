//! Registers, PIO and the commands of an ATA disk; SeaBIOS's boot script; bad saved states.

use super::*;

#[test]
fn pio_read_gives_one_drq_block_a_sector_but_asks_the_host_once_for_all() {
    let mut rig = Rig::new().disk(0, 1000);
    rig.command28(0x20, 10, 100);
    for sector in 10..110 {
        assert!(rig.ide.irq(P), "sector {sector}");
        assert_eq!(rig.status(), 0x58);
        assert!(!rig.ide.irq(P), "reading the status acknowledges");
        assert_eq!(rig.read_data(512), rig.disks[0][sector * 512..sector * 512 + 512]);
    }
    assert_eq!(rig.status(), 0x50);
    assert!(!rig.ide.irq(P), "the last block ends without an interrupt");
    assert_eq!(rig.requests, 1);
    assert_eq!([rig.ide.read(P, 2), rig.ide.read(P, 3)], [0, 109], "count, last sector");
}

#[test]
fn a_read_of_256_sectors_by_count_zero_comes_in_two_host_requests() {
    let mut rig = Rig::new().disk(0, 1000);
    rig.command28(0x20, 0, 0);
    let mut all = Vec::new();
    while rig.status() & 8 != 0 {
        all.extend(rig.read_data(512));
    }
    assert_eq!(all, rig.disks[0][..256 * 512]);
    assert_eq!(rig.requests, 2);
}

#[test]
fn while_the_host_works_the_drive_is_busy_and_deaf_and_a_reset_makes_the_answer_stale() {
    let mut rig = Rig::new().disk(0, 1000);
    rig.slow = true;
    rig.command28(0x20, 5, 1);
    assert_eq!(rig.status(), 0xD0);
    rig.out(3, 0x77);
    rig.out(7, 0xEC);
    let old = rig.waiting.take().unwrap();
    rig.ide.write_control(P, 4);
    assert_eq!(rig.ide.read_control(P), 0x80, "SRST keeps both devices busy");
    rig.ide.write_control(P, 0);
    assert_eq!(rig.status(), 0x50);
    assert!(rig.ide.buffer(old.token).is_none());
    assert_eq!(rig.ide.complete(old.token, Ok(())), Effect::None);
    assert!(!rig.ide.irq(P));
    rig.command28(0x20, 5, 1);
    rig.finish();
    assert_eq!(rig.read_data(512), rig.disks[0][5 * 512..6 * 512]);
}

#[test]
fn pio_write_takes_the_first_block_unasked_and_interrupts_after_each() {
    let mut rig = Rig::new().disk(0, 1000);
    let data: Vec<u8> = (0..1024u32).map(|i| (i * 3) as u8).collect();
    rig.command28(0x30, 20, 2);
    assert!(!rig.ide.irq(P));
    assert_eq!(rig.status(), 0x58);
    assert_eq!(rig.write_data(&data[..512]), 512);
    assert!(rig.ide.irq(P));
    assert_eq!(rig.status(), 0x58);
    assert_eq!(rig.write_data(&data[512..]), 512);
    assert!(rig.ide.irq(P));
    assert_eq!(rig.status(), 0x50);
    assert_eq!(rig.disks[0][20 * 512..22 * 512], data);
}

#[test]
fn multiple_mode_moves_blocks_of_the_set_size_and_is_refused_before_it_is_set() {
    let mut rig = Rig::new().disk(0, 1000);
    rig.command28(0xC4, 0, 4);
    assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 0x04));
    for (count, ok) in [(3, false), (32, false), (16, true), (8, true)] {
        rig.out(2, count);
        rig.out(7, 0xC6);
        assert_eq!(rig.status() & 1 == 0, ok, "{count}");
    }
    rig.command28(0xC4, 100, 20);
    let sizes: Vec<usize> = (0..3).map(|_| rig.read_data(1 << 16).len()).collect();
    assert_eq!(sizes, [4096, 4096, 2048]);
    rig.command48(0x39, 30, 9);
    assert_eq!(rig.write_data(&[1; 8192]), 4096);
    assert_eq!(rig.write_data(&[2; 8192]), 512);
    assert_eq!(rig.disks[0][30 * 512 + 4095..30 * 512 + 4097], [1, 2]);
}

#[test]
fn identify_says_what_drivers_rely_on_and_its_checksum_is_right() {
    let mut rig = Rig::new();
    rig.ide.attach_disk(MASTER, DiskId(0), &Media::disk(0x1_2345, "X1"));
    rig.out(6, 0xA0);
    rig.out(7, 0xEC);
    let id = rig.read_data(512);
    assert_eq!(word(&id, 0), 0x0040);
    assert_eq!(id.iter().fold(0u8, |s, &b| s.wrapping_add(b)), 0);
    assert_eq!(word(&id, 49) & 0x0300, 0x0300, "LBA and DMA");
    assert_eq!(u32::from(word(&id, 60)) | u32::from(word(&id, 61)) << 16, 0x1_2345);
    assert_eq!(word(&id, 83) & 0xC400, 0x4400, "word valid, LBA48");
    assert_eq!(word(&id, 93) & 0xE000, 0x6000, "80 wires");
    assert_eq!(word(&id, 88), 0x203F, "Ultra DMA 5 chosen");
    assert_eq!(&id[20..24], b"1X  ", "characters swapped in each word");
    rig.out(1, 3);
    rig.out(2, 0x22);
    rig.out(7, 0xEF);
    rig.out(7, 0xEC);
    let id = rig.read_data(512);
    assert_eq!((word(&id, 63), word(&id, 88)), (0x0407, 0x003F));
}

#[test]
fn chs_follows_initialize_device_parameters_and_zero_sectors_do_not_exist() {
    let mut rig = Rig::new().disk(0, 10_000);
    for (offset, value) in [(6, 0xA3), (2, 17), (7, 0x91)] {
        rig.out(offset, value);
    }
    // Cylinder 2, head 1, sector 5 with 4 heads of 17 sectors.
    for (offset, value) in [(6, 0xA1), (2, 1), (3, 5), (4, 2), (5, 0), (7, 0x20)] {
        rig.out(offset, value);
    }
    let lba = (2 * 4 + 1) * 17 + 4;
    assert_eq!(rig.read_data(512), rig.disks[0][lba * 512..lba * 512 + 512]);
    rig.out(3, 0);
    rig.out(7, 0x20);
    assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 0x10));
}

#[test]
fn addresses_beyond_the_end_are_not_found_in_every_form() {
    let mut rig = Rig::new().disk(0, 100);
    for code in [0x20, 0x30, 0x40, 0xC8, 0xCA] {
        rig.command28(code, 99, 2);
        assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 0x10), "{code:x}");
    }
    for code in [0x24, 0x25, 0x34, 0x35, 0x42] {
        rig.command48(code, u64::MAX >> 16, 0);
        assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 0x10), "{code:x}");
    }
    assert_eq!(rig.requests, 0);
}

#[test]
fn hob_shows_the_previous_byte_until_the_next_write() {
    let mut rig = Rig::new();
    rig.ide.attach_disk(MASTER, DiskId(0), &Media::disk(0x12_3456, ""));
    rig.out(6, 0xE0);
    rig.out(7, 0x27);
    let low: Vec<u8> = (3..6).map(|r| rig.ide.read(P, r)).collect();
    rig.ide.write_control(P, 0x80);
    let high: Vec<u8> = (3..6).map(|r| rig.ide.read(P, r)).collect();
    assert_eq!((low, high), (vec![0x55, 0x34, 0x12], vec![0, 0, 0]));
    rig.ide.write_control(P, 0);
    rig.out(3, 1);
    rig.out(3, 2);
    rig.ide.write_control(P, 0x80);
    assert_eq!(rig.ide.read(P, 3), 1);
}

#[test]
fn host_errors_become_the_drives_errors() {
    let mut rig = Rig::new().disk(0, 100);
    rig.fail = Some(BlkError::Medium);
    rig.command28(0x20, 0, 1);
    assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 0x40));
    rig.command28(0x30, 0, 1);
    rig.write_data(&[0; 512]);
    assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x71, 0x04));
    rig.out(7, 0xE7);
    assert_eq!(rig.status(), 0x71);
}

#[test]
fn an_empty_channel_and_a_missing_slave_read_zero_which_is_not_busy() {
    let mut rig = Rig::new();
    assert_eq!((rig.status(), rig.ide.read_control(P)), (0, 0));
    rig.out(7, 0xEC);
    assert!(!rig.ide.irq(P));
    let mut rig = Rig::new().disk(0, 100);
    rig.out(6, 0xB0);
    rig.out(2, 0x55);
    rig.out(7, 0xEC);
    assert_eq!((rig.ide.read(P, 2), rig.status(), rig.ide.read_control(P)), (0, 0, 0));
    assert_eq!(rig.read_data(2), []);
}

#[test]
fn nien_hides_the_interrupt_and_each_device_has_its_own() {
    let mut rig = Rig::new().disk(0, 100).disk(1, 100);
    rig.ide.write_control(P, 2);
    rig.out(7, 0xE5);
    assert!(!rig.ide.irq(P));
    assert_eq!(rig.ide.busmaster_read(2) & 4, 0);
    rig.ide.write_control(P, 0);
    assert!(rig.ide.irq(P), "the pin follows nIEN");
    assert_eq!(rig.ide.busmaster_read(2) & 4, 4);
    rig.out(6, 0xB0);
    assert!(!rig.ide.irq(P), "device 1 has nothing to say");
    assert_eq!(rig.status(), 0x50);
    rig.out(6, 0xA0);
    assert!(rig.ide.irq(P));
}

/// SeaBIOS: `ata_detect`, `ata_reset`, `init_drive_ata`, `ata_pio_transfer`.
#[test]
fn seabios_finds_a_disk_and_a_cdrom_and_reads_a_sector() {
    let mut rig = Rig::new().disk(0, 5000).cdrom(1, 100);
    assert_eq!(rig.ide.read_control(P) & 0x80, 0);
    for (device, signature) in [(0xA0, [1, 1, 0, 0]), (0xB0, [1, 1, 0x14, 0xEB])] {
        rig.out(6, device);
        assert_eq!(rig.status() & 0x80, 0);
        rig.out(2, 0x55);
        rig.out(3, 0xAA);
        assert_eq!([rig.ide.read(P, 2), rig.ide.read(P, 3)], [0x55, 0xAA]);
        rig.ide.write_control(P, 2 | 4);
        rig.ide.write_control(P, 2);
        rig.out(6, device);
        let seen: Vec<u8> = (2..6).map(|r| rig.ide.read(P, r)).collect();
        assert_eq!(seen, signature);
    }
    assert_eq!(rig.status(), 0, "a packet device is not ready after a reset");
    rig.out(6, 0xB0);
    rig.out(7, 0xA1);
    assert_eq!(rig.status(), 0x58);
    assert_eq!(word(&rig.read_data(512), 0), 0x85C0);
    rig.out(7, 0xEC);
    assert_eq!((rig.status(), rig.ide.read(P, 4), rig.ide.read(P, 5)), (0x51, 0x14, 0xEB));
    rig.out(6, 0xA0);
    rig.out(7, 0xA1);
    assert_eq!(rig.status(), 0x51);
    rig.command28(0x20, 1, 1);
    assert_eq!(rig.read_data(512), rig.disks[0][512..1024]);
    assert!(!rig.ide.irq(P), "nIEN is still set");
}

#[test]
fn power_features_smart_and_diagnostic_answer_as_the_standard_says() {
    let mut rig = Rig::new().disk(0, 100).disk(1, 100);
    rig.out(7, 0xE0);
    rig.out(7, 0xE5);
    assert_eq!(rig.ide.read(P, 2), 0);
    rig.out(7, 0xE1);
    rig.out(7, 0xE5);
    assert_eq!(rig.ide.read(P, 2), 0xFF);
    for (offset, value) in [(1, 0xDA), (4, 0x4F), (5, 0xC2), (7, 0xB0)] {
        rig.out(offset, value);
    }
    assert_eq!((rig.status(), rig.ide.read(P, 4), rig.ide.read(P, 5)), (0x50, 0x4F, 0xC2));
    rig.out(6, 0xB0);
    rig.out(7, 0x90);
    assert!(rig.ide.irq(P));
    assert_eq!((rig.ide.read(P, 1), rig.status(), rig.ide.read(P, 6)), (1, 0x50, 0xA0));
    for code in [0x00, 0x08, 0xF9, 0x2F, 0xFF] {
        rig.out(7, code);
        assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 4), "{code:x}");
    }
    rig.out(1, 0x82);
    rig.out(7, 0xEF);
    assert_eq!((rig.status(), rig.requests), (0x50, 1), "the cache is flushed");
}

#[test]
fn a_write_protected_disk_refuses_writes() {
    let mut rig = Rig::new();
    let media = Media { read_only: true, ..Media::disk(100, "") };
    rig.ide.attach_disk(MASTER, DiskId(0), &media);
    rig.command28(0xCA, 0, 1);
    assert_eq!((rig.status(), rig.ide.read(P, 1)), (0x51, 4));
}

#[test]
fn load_refuses_versions_and_impossible_states() {
    let rig = Rig::new().disk(0, 100);
    let good = rig.ide.save();
    let mut other = Box::new(Ide::new());
    let mut bad = good.clone();
    bad.version = 9;
    assert_eq!(other.load(&bad, [&[], &[]]), Err(crate::LoadError::Version));
    let mut bad = good.clone();
    bad.channels[0].transfer = [2, 3];
    bad.channels[0].counters = [0, 0, 512, 9, 3, 512];
    assert!(other.load(&bad, [&[0; 512], &[]]).is_err());
    let mut bad = good.clone();
    bad.channels[1].transfer = [2, 0];
    bad.channels[1].counters = [0, 0, 512, 0, 512, 512];
    assert!(other.load(&bad, [&[], &[0; 512]]).is_err(), "a transfer needs its drive");
    assert!(other.load(&good, [&[1], &[]]).is_err());
    assert!(other.load(&good, [&[], &[]]).is_ok());
}
