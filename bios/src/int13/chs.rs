//! Geometries: what a floppy's size says, and how a large disk is shown with 1024 cylinders.

use crate::platform::{Chs, DiskInfo};

/// Geometry of a floppy by its size; odd sizes are taken as 18-sector, 2-head disks.
pub(super) fn floppy(blocks: u64) -> Chs {
    let (cylinders, heads, sectors) = match blocks {
        0 => (80, 2, 18),
        320 => (40, 1, 8),
        360 => (40, 1, 9),
        640 => (40, 2, 8),
        720 => (40, 2, 9),
        1280 => (80, 2, 8),
        1440 => (80, 2, 9),
        1600 => (80, 2, 10),
        2400 => (80, 2, 15),
        2880 => (80, 2, 18),
        3360 => (80, 2, 21),
        3444 => (82, 2, 21),
        3840 => (80, 2, 24),
        5760 => (80, 2, 36),
        other => ((other.div_ceil(36)).clamp(1, 255) as u32, 2, 18),
    };
    Chs { cylinders, heads, sectors }
}

/// Drive type as CMOS 10h and INT 13h 08h count them.
pub(crate) fn floppy_type(blocks: u64) -> u8 {
    match blocks {
        1..=720 => 1,
        1280 | 1440 | 1600 => 3,
        2400 => 2,
        5760 => 5,
        _ => 4,
    }
}

/// Logical geometry of a hard disk: its own while that fits in 1024 cylinders, else LBA-assisted
/// (Phoenix, "Enhanced Disk Drive Specification", "Translation").
pub(super) fn translated(info: &DiskInfo) -> Chs {
    let own = info.physical;
    let sane = own.heads >= 1 && own.heads <= 16 && own.sectors >= 1 && own.sectors <= 63;
    if sane && own.cylinders >= 1 && own.cylinders <= 1024 {
        return own;
    }
    let tracks = info.blocks / 63;
    let heads = [16u32, 32, 64, 128]
        .into_iter()
        .find(|&heads| tracks / u64::from(heads) <= 1024)
        .unwrap_or(255);
    let cylinders = (tracks / u64::from(heads)).clamp(1, 1024) as u32;
    Chs { cylinders, heads, sectors: 63 }
}

/// Block of a cylinder, head and sector, or `None` outside the geometry.
pub(super) fn block(chs: &Chs, cylinder: u32, head: u32, sector: u32) -> Option<u64> {
    if sector == 0 || sector > chs.sectors || head >= chs.heads || cylinder >= chs.cylinders {
        return None;
    }
    let track = u64::from(cylinder) * u64::from(chs.heads) + u64::from(head);
    Some(track * u64::from(chs.sectors) + u64::from(sector - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::DiskKind;

    fn disk(blocks: u64, physical: Chs) -> DiskInfo {
        DiskInfo {
            kind: DiskKind::Hard,
            present: true,
            read_only: false,
            blocks,
            media: 0,
            physical,
            ata: None,
        }
    }

    #[test]
    fn every_size_of_disk_gets_a_geometry_that_int_13h_can_name() {
        for shift in 0..50 {
            let chs = translated(&disk(1 << shift, Chs::default()));
            assert!((1..=1024).contains(&chs.cylinders) && (1..=255).contains(&chs.heads));
            assert_eq!(chs.sectors, 63);
        }
        let chs =
            translated(&disk(16_450_560 * 4, Chs { cylinders: 16383, heads: 16, sectors: 63 }));
        assert_eq!(chs, Chs { cylinders: 1024, heads: 255, sectors: 63 });
    }

    #[test]
    fn small_disks_keep_their_own_geometry() {
        let own = Chs { cylinders: 203, heads: 16, sectors: 63 };
        assert_eq!(translated(&disk(204_624, own)), own);
    }

    #[test]
    fn every_sector_of_a_floppy_has_a_place() {
        for blocks in [320, 360, 640, 720, 1280, 1440, 1600, 2400, 2880, 3360, 3444, 3840, 5760] {
            let chs = floppy(blocks);
            let held = u64::from(chs.cylinders) * u64::from(chs.heads) * u64::from(chs.sectors);
            assert_eq!(held, blocks);
        }
    }

    #[test]
    fn sector_zero_and_sectors_past_the_track_do_not_exist() {
        let chs = floppy(2880);
        assert_eq!(block(&chs, 0, 0, 0), None);
        assert_eq!(block(&chs, 0, 0, 19), None);
        assert_eq!(block(&chs, 0, 2, 1), None);
        assert_eq!(block(&chs, 80, 0, 1), None);
        assert_eq!(block(&chs, 79, 1, 18), Some(2879));
    }
}
