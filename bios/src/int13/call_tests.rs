//! INT 13h's services beside reads and writes: each by what it answers for each kind of drive.

use crate::caller::Outcome;
use crate::platform::DiskKind;
use crate::rom::Service;
use crate::testing::{Guest, Mock};
use arch::Segment;

const FLOPPY: u16 = 0;
const HARD: u16 = 0x80;
const CD: u16 = 0xe0;

fn guest() -> Guest {
    let disks = Mock::new().with_disk(DiskKind::Floppy, 2880).with_disk(DiskKind::Hard, 65536);
    let mut g = Guest::new(disks.with_disk(DiskKind::Cd, 4000));
    g.cpu.es = Segment::real_data(0x1000);
    // The first access sees a new floppy.
    let _ = call(&mut g, 0x0401, 1, FLOPPY);
    g
}

fn call(g: &mut Guest, ax: u16, cx: u16, dx: u16) -> (u8, bool) {
    assert_eq!(g.set(ax, 0, cx, dx).int(Service::Int13), Outcome::Done);
    ((g.ax() >> 8) as u8, g.cf())
}

#[test]
fn resets_and_checks_succeed_on_each_drive_that_is_there() {
    let mut g = guest();
    for function in [0x0000, 0x0900, 0x0d00, 0x1000, 0x1100, 0x1400, 0x4700] {
        for drive in [FLOPPY, HARD, CD] {
            assert_eq!(call(&mut g, function, 0, drive), (0, false), "{function:#x} {drive:#x}");
        }
    }
    assert_eq!(call(&mut g, 0x1000, 0, 0x81), (1, true));
    assert_eq!(call(&mut g, 0x1000, 0, 1), (0x80, true));
    assert_eq!(call(&mut g, 0x7700, 0, HARD), (1, true), "no such function");
    assert_eq!(call(&mut g, 0x0100, 0, HARD), (1, true), "the last status");
}

#[test]
fn what_was_written_is_read_again_and_verified() {
    let mut g = guest();
    g.bus.put(0x1_0000, &[0xa5; 1024]);
    for (write, read) in [(0x0302, 0x0202), (0x0b02, 0x0a02)] {
        assert_eq!(call(&mut g, write, 0x0203, HARD), (0, false));
        assert_eq!(g.ax() & 0xff, 2);
        g.bus.put(0x1_0000, &[0; 1024]);
        assert_eq!(call(&mut g, read, 0x0203, HARD), (0, false));
        assert_eq!(g.bus.bytes(0x1_0000, 1024), [0xa5; 1024]);
    }
    assert_eq!(call(&mut g, 0x0412, 0x4f01, 0x0100), (0, false), "the floppy's last track");
    assert_eq!(call(&mut g, 0x0401, 0x5001, FLOPPY), (4, true), "behind it");
    assert!(call(&mut g, 0x0400, 1, FLOPPY).1, "no sectors");
    g.bus.disks[0].info.read_only = true;
    assert_eq!(call(&mut g, 0x0301, 1, FLOPPY), (3, true));
}

#[test]
fn a_seek_beyond_the_last_cylinder_fails() {
    let mut g = guest();
    // 65,536 sectors of 16 heads and 63 sectors: 65 cylinders.
    assert_eq!(call(&mut g, 0x0c00, 64 << 8 | 1, HARD), (0, false));
    assert_eq!(call(&mut g, 0x0c00, 65 << 8 | 1, HARD), (4, true));
    assert_eq!(call(&mut g, 0x0c00, 0x0041, HARD), (4, true), "cylinder 256");
}

#[test]
fn formatting_fills_a_floppys_track_and_nothing_else() {
    let mut g = guest();
    assert_eq!(call(&mut g, 0x1700, 0, FLOPPY), (0, false));
    assert_eq!(call(&mut g, 0x1800, 0x4f12, FLOPPY), (0, false));
    assert_eq!((g.cpu.es.selector, g.cpu.gprs.rdi()), (0xf000, 0xefc7), "the parameter table");
    assert_eq!(call(&mut g, 0x1800, 0x2709, FLOPPY), (0x0c, true), "not this medium");
    assert_eq!(call(&mut g, 0x0512, 0x0301, 0x0100), (0, false));
    let track = (3 * 2 + 1) * 18 * 512;
    let data = &g.bus.disks[0].data;
    assert!(data[track..track + 18 * 512].iter().all(|byte| *byte == 0xf6));
    assert_eq!((data[track - 512], data[track + 18 * 512]), (125, 144), "its neighbours");
    assert_eq!(call(&mut g, 0x0501, 1, HARD), (1, true));
    assert_eq!(call(&mut g, 0x1700, 0, HARD), (1, true));
    g.bus.disks[0].info.read_only = true;
    assert_eq!(call(&mut g, 0x0512, 0x0301, FLOPPY), (3, true));
}

#[test]
fn each_kind_of_drive_is_told() {
    let mut g = guest();
    assert_eq!(call(&mut g, 0x1500, 0, FLOPPY), (2, false), "with a change line");
    assert_eq!(call(&mut g, 0x1500, 0, HARD), (3, false));
    assert_eq!((g.cx(), g.dx()), (0, 65 * 16 * 63), "its sectors by cylinders");
    assert_eq!(call(&mut g, 0x1500, 0, CD), (1, true));
    assert_eq!(call(&mut g, 0x1500, 0, 0x81), (0, false), "none");
    assert_eq!(call(&mut g, 0x1600, 0, FLOPPY), (0, false));
    g.bus.disks[0].info.media += 1;
    assert_eq!(call(&mut g, 0x1600, 0, FLOPPY), (6, true));
    assert_eq!(call(&mut g, 0x1600, 0, FLOPPY), (0, false));
    g.bus.disks[0].info.present = false;
    assert_eq!(call(&mut g, 0x1600, 0, FLOPPY), (6, true));
    assert_eq!(call(&mut g, 0x1000, 0, FLOPPY), (0, false), "the drive is there without it");
}

#[test]
fn the_extensions_are_there_for_disks_and_cds() {
    let mut g = guest();
    for (drive, support) in [(HARD, 5), (CD, 7)] {
        let _ = g.set(0x4100, 0x55aa, 0, drive).int(Service::Int13);
        assert_eq!((g.ax() >> 8, g.bx(), g.cx(), g.cf()), (0x30, 0xaa55, support, false));
    }
    let _ = g.set(0x4100, 0x55aa, 0, FLOPPY).int(Service::Int13);
    assert!(g.cf());
    assert_eq!(call(&mut g, 0x4100, 0, HARD), (1, true), "without the magic number");
    for al in 0..7 {
        assert_eq!(call(&mut g, 0x4e00 | al, 0, HARD), (0, false));
    }
    assert_eq!(call(&mut g, 0x4e07, 0, HARD), (1, true));
    for function in [0x4a00, 0x4c00, 0x4d00, 0x4b01] {
        assert_eq!(call(&mut g, function, 0, CD), (1, true), "{function:#x}: no CD was booted");
    }
}

#[test]
fn packets_write_verify_and_reach_above_1_mib() {
    let mut g = guest();
    let packet = |g: &mut Guest, count: u16, flat: bool, lba: u64| {
        let size = if flat { 24 } else { 16 };
        let mut bytes = [0; 24];
        bytes[0] = size;
        bytes[2..4].copy_from_slice(&count.to_le_bytes());
        bytes[4..8].copy_from_slice(&if flat { [0xff; 4] } else { [0, 0, 0, 0x10] });
        bytes[8..16].copy_from_slice(&lba.to_le_bytes());
        bytes[16..24].copy_from_slice(&0x20_0000u64.to_le_bytes());
        g.bus.put(0x3000, &bytes);
        g.cpu.gprs.set_rsi(0x3000);
    };
    g.bus.put(0x20_0000, &[0x5a; 1024]);
    packet(&mut g, 2, true, 1000);
    assert_eq!(call(&mut g, 0x4300, 0, HARD), (0, false));
    assert_eq!(g.bus.disks[1].data[512_000..513_024], [0x5a; 1024]);
    assert_eq!(call(&mut g, 0x4400, 0, HARD), (0, false));
    packet(&mut g, 2, false, 1000);
    assert_eq!(call(&mut g, 0x4200, 0, HARD), (0, false));
    assert_eq!(g.bus.bytes(0x1_0000, 1024), [0x5a; 1024]);
    packet(&mut g, 2, false, 65535);
    assert_eq!(call(&mut g, 0x4400, 0, HARD), (4, true));
    assert_eq!(g.bus.u16(0x3002), 0, "none of them");
    packet(&mut g, 1, false, 0);
    assert_eq!(call(&mut g, 0x4200, 0, FLOPPY), (1, true));
    g.bus.put(0x3000, &[15]);
    assert_eq!(call(&mut g, 0x4200, 0, HARD), (1, true), "too short a packet");
}

#[test]
fn a_cd_is_locked_ejected_and_tells_of_a_new_medium() {
    let mut g = guest();
    assert_eq!((call(&mut g, 0x4500, 0, CD), g.ax() & 0xff), ((0, false), 1));
    assert_eq!((call(&mut g, 0x4502, 0, CD), g.ax() & 0xff), ((0, false), 1));
    assert_eq!(call(&mut g, 0x4600, 0, CD), (0xb1, true), "locked");
    assert!(g.bus.ejected.is_empty());
    assert_eq!((call(&mut g, 0x4501, 0, CD), g.ax() & 0xff), ((0, false), 0));
    assert_eq!(call(&mut g, 0x4501, 0, CD), (0xb0, true), "not locked");
    assert_eq!(call(&mut g, 0x4600, 0, CD), (0, false));
    assert_eq!(g.bus.ejected, [2]);
    let _ = call(&mut g, 0x4900, 0, CD);
    g.bus.disks[2].info.media += 1;
    assert_eq!(call(&mut g, 0x4900, 0, CD), (6, true));
    assert_eq!(call(&mut g, 0x4900, 0, CD), (0, false));
    assert_eq!(call(&mut g, 0x4900, 0, HARD), (0, false));
    assert_eq!(call(&mut g, 0x4500, 0, HARD), (0xb2, true), "not removable");
}
