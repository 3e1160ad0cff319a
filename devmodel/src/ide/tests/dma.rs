//! Bus-master transfers: Linux's script, table lengths, directions, holes, stop and go.

use super::*;

/// Linux: `ata_bmdma_setup`, `exec_command`, `ata_bmdma_start`, `port_intr`, `ata_bmdma_stop`.
#[test]
fn linux_reads_and_writes_by_bus_master() {
    let mut rig = Rig::new().disk(0, 4000);
    rig.prds(0x1000, &[(0x10_0000, 0x1000), (0x10_2000, 0x1000)]);
    rig.bm(0, 0x08);
    rig.bm(2, 0x06);
    rig.command48(0x25, 8, 16);
    assert_eq!(rig.ide.read_control(P), 0x58, "the drive waits for the engine");
    assert!(!rig.ide.irq(P));
    rig.bm(0, 0x09);
    assert!(rig.ide.irq(P));
    assert_eq!(rig.ide.busmaster_read(2), 0x04, "interrupt, table used up");
    rig.bm(0, 0x08);
    assert_eq!(rig.ide.read_control(P), 0x50);
    assert_eq!(rig.status(), 0x50);
    rig.bm(2, 0x04);
    assert_eq!(rig.ide.busmaster_read(2), 0);
    assert_eq!(rig.ram[0x10_0000..0x10_1000], rig.disks[0][8 * 512..16 * 512]);
    assert_eq!(rig.ram[0x10_2000..0x10_3000], rig.disks[0][16 * 512..24 * 512]);
    rig.ram[0x10_0000..0x10_1000].fill(0xAB);
    rig.bm(0, 0x00);
    rig.command28(0xCA, 100, 16);
    rig.bm(0, 0x01);
    assert_eq!(rig.status(), 0x50);
    assert_eq!(rig.disks[0][100 * 512..108 * 512], [0xAB; 4096]);
    assert_eq!(rig.requests, 2, "one host request a command");
}

#[test]
fn the_engine_may_be_started_before_the_command() {
    let mut rig = Rig::new().disk(0, 100);
    rig.prds(0x1000, &[(0x2000, 512)]);
    rig.bm(0, 0x09);
    assert_eq!(rig.ide.busmaster_read(2), 0x01);
    rig.command28(0xC8, 3, 1);
    assert_eq!(rig.status(), 0x50);
    assert_eq!(rig.ram[0x2000..0x2200], rig.disks[0][3 * 512..4 * 512]);
}

#[test]
fn a_short_table_stops_the_engine_without_an_interrupt_and_a_fresh_one_goes_on() {
    let mut rig = Rig::new().disk(0, 100);
    rig.prds(0x1000, &[(0x2000, 512)]);
    rig.command28(0xC8, 0, 2);
    rig.bm(0, 0x09);
    assert_eq!(rig.ide.busmaster_read(2), 0, "neither active nor interrupt");
    assert_eq!(rig.status(), 0x58);
    rig.bm(0, 0x08);
    rig.bm(0, 0x09);
    assert_eq!(rig.status(), 0x50);
    assert_eq!(rig.ram[0x2000..0x2200], rig.disks[0][512..1024]);
}

#[test]
fn a_long_table_ends_with_interrupt_and_active_both_set() {
    let mut rig = Rig::new().disk(0, 100);
    rig.prds(0x1000, &[(0x2000, 0)]);
    rig.command28(0xC8, 0, 2);
    rig.bm(0, 0x09);
    assert_eq!(rig.ide.busmaster_read(2), 0x05);
}

#[test]
fn the_wrong_direction_and_a_table_in_a_hole_set_the_error_bit() {
    let mut rig = Rig::new().disk(0, 100);
    rig.prds(0x1000, &[(0x2000, 512)]);
    rig.command28(0xC8, 0, 1);
    rig.bm(0, 0x01);
    assert_eq!(rig.ide.busmaster_read(2), 0x02);
    rig.ide.write_control(P, 4);
    rig.ide.write_control(P, 0);
    rig.bm(0, 0);
    rig.bm(2, 0x06);
    rig.ide.set_prd_table(P, 0xF000_0000);
    rig.command28(0xC8, 0, 1);
    rig.bm(0, 0x09);
    assert_eq!(rig.ide.busmaster_read(2), 0x02);
    let mut rig = Rig::new().disk(0, 100);
    rig.prds(0x1000, &[(0xF000_0000, 512)]);
    rig.command28(0xC8, 0, 1);
    rig.bm(0, 0x09);
    assert_eq!((rig.ide.busmaster_read(2), rig.status()), (0x06, 0x51));
}

#[test]
fn stopping_the_engine_in_mid_transfer_leaves_the_drive_waiting() {
    let mut rig = Rig::new().disk(0, 4000);
    let entries: Vec<_> = (0..300).map(|i| (0x10_0000 + i * 0x800, 0x400)).collect();
    rig.prds(0x1000, &entries);
    rig.slow = true;
    rig.command48(0x25, 0, 600);
    rig.bm(0, 0x09);
    assert_eq!(rig.ide.read_control(P), 0xD0);
    let first = rig.waiting.unwrap();
    assert_eq!(first.sectors, 512, "as many as the list holds");
    rig.bm(0, 0x08);
    rig.finish();
    assert!(rig.waiting.is_none() && !rig.ide.irq(P));
    assert_eq!((rig.ide.read_control(P), rig.ide.busmaster_read(2)), (0x58, 0));
    // Again from the table's top: the drive goes on with its own sector 512.
    rig.bm(0, 0x09);
    let second = rig.waiting.unwrap();
    assert_eq!((second.lba, second.sectors), (512, 88));
    rig.finish();
    assert_eq!(rig.status(), 0x50);
}
