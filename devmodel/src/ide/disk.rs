//! An ATA disk's own settings and what IDENTIFY DEVICE says of it.
//!
//! ATA/ATAPI-7 "IDENTIFY DEVICE". The drive offers PIO 4, multiword DMA 2, Ultra DMA 5 behind an
//! 80-wire cable, LBA48, 16-sector multiple mode, a write cache, and SMART that is always well.

use crate::blk::{DiskId, Geometry, Media};

/// Sectors a READ MULTIPLE block may have.
pub const MAX_MULTIPLE: u8 = 16;

/// Ultra DMA 5.
const DEFAULT_MODE: u8 = 0x45;

/// One disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    // Fixed
    pub disk: DiskId,
    pub sectors: u64,
    pub read_only: bool,
    pub geometry: Geometry,
    pub model: [u8; 40],
    pub serial: [u8; 20],
    // Guest-visible
    /// Translation of INITIALIZE DEVICE PARAMETERS: heads, sectors a track.
    pub heads: u8,
    pub track: u8,
    /// Sectors a block of READ and WRITE MULTIPLE; 0 when not set.
    pub multiple: u8,
    /// SET FEATURES transfer mode, as written: 08h+n PIO, 20h+n multiword, 40h+n Ultra DMA.
    pub mode: u8,
    pub write_cache: bool,
    pub look_ahead: bool,
    pub smart: bool,
    pub standby: bool,
}

impl Disk {
    pub fn new(disk: DiskId, media: &Media) -> Disk {
        let geometry = Geometry {
            cylinders: media.geometry.cylinders.max(1),
            heads: media.geometry.heads.clamp(1, 16),
            sectors: media.geometry.sectors.max(1),
        };
        Disk {
            disk,
            sectors: media.sectors.min(1 << 48),
            read_only: media.read_only,
            geometry,
            model: media.model,
            serial: media.serial,
            heads: geometry.heads,
            track: geometry.sectors,
            multiple: 0,
            mode: DEFAULT_MODE,
            write_cache: true,
            look_ahead: true,
            smart: true,
            standby: false,
        }
    }

    /// RESET-: all settings as at power-on.
    pub fn reset(&mut self) {
        let Disk {
            disk: _,
            sectors: _,
            read_only: _,
            geometry,
            model: _,
            serial: _,
            heads,
            track,
            multiple,
            mode,
            write_cache,
            look_ahead,
            smart,
            standby,
        } = self;
        (*heads, *track) = (geometry.heads, geometry.sectors);
        (*multiple, *mode) = (0, DEFAULT_MODE);
        (*write_cache, *look_ahead, *smart, *standby) = (true, true, true, false);
    }

    /// Accepts a SET FEATURES transfer mode; false for one this drive has not.
    pub fn set_mode(&mut self, mode: u8) -> bool {
        match mode {
            0x00 | 0x01 => true,
            0x08..=0x0C => true,
            0x20..=0x22 | 0x40..=0x45 => {
                self.mode = mode;
                true
            }
            _ => false,
        }
    }

    /// Fills in the 256 words; `unit` is 0 for device 0.
    pub fn identify(&self, unit: usize, out: &mut [u8; 512]) {
        out.fill(0);
        let mut set = |word: usize, value: u16| {
            out[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
        };
        let Geometry { cylinders, heads, sectors } = self.geometry;
        set(0, 0x0040);
        set(1, cylinders);
        set(3, heads.into());
        set(6, sectors.into());
        set(20, 3);
        set(21, 512);
        set(22, 4);
        set(47, 0x8000 | u16::from(MAX_MULTIPLE));
        set(48, 1);
        // LBA, DMA, IORDY and its disabling.
        set(49, 0x0F00);
        set(50, 0x4000);
        set(51, 0x0200);
        set(52, 0x0200);
        set(53, 7);
        let track = u32::from(self.heads.max(1)) * u32::from(self.track.max(1));
        let current = (self.sectors / u64::from(track)).min(65_535) as u16;
        set(54, current);
        set(55, self.heads.into());
        set(56, self.track.into());
        let chs = u32::from(current) * track;
        set(57, chs as u16);
        set(58, (chs >> 16) as u16);
        set(59, if self.multiple == 0 { 0 } else { 0x0100 | u16::from(self.multiple) });
        let lba28 = self.sectors.min(0x0FFF_FFFF);
        set(60, lba28 as u16);
        set(61, (lba28 >> 16) as u16);
        let chosen =
            |class: u8| if self.mode & 0xF8 == class { 0x100 << (self.mode & 7) } else { 0 };
        set(63, 0x0007 | chosen(0x20));
        set(64, 0x0003);
        for word in 65..=68 {
            set(word, 120);
        }
        set(80, 0x00F0);
        set(81, 0x0016);
        // NOP, look-ahead, write cache, power management, SMART.
        set(82, 0x4069);
        set(83, 0x7400);
        set(84, 0x4000);
        set(
            85,
            0x4008
                | u16::from(self.smart)
                | u16::from(self.write_cache) << 5
                | u16::from(self.look_ahead) << 6,
        );
        set(86, 0x3400);
        set(87, 0x4000);
        set(88, 0x003F | chosen(0x40));
        // CBLID- high (80 wires), device numbers by jumper, device 0 passed its diagnostics.
        set(93, if unit == 0 { 0x600B } else { 0x6300 });
        for (i, word) in (100..104).enumerate() {
            set(word, (self.sectors >> (16 * i)) as u16);
        }
        set_text(out, 10, &self.serial);
        set_text(out, 23, b"1.0     ");
        set_text(out, 27, &self.model);
        seal(out);
    }

    /// SMART READ DATA: an attribute table of a drive with nothing to report.
    pub fn smart_data(&self, out: &mut [u8; 512]) {
        out.fill(0);
        out[0] = 0x10;
        // Offline collection never started; self-test passed; no offline capability.
        out[368] = 0x03;
        checksum(out);
    }
}

/// Writes `value` at `word`: of each pair the first character in the high byte ("ASCII strings").
pub fn set_text(out: &mut [u8; 512], word: usize, value: &[u8]) {
    for (to, from) in out[word * 2..].chunks_exact_mut(2).zip(value.chunks_exact(2)) {
        to.copy_from_slice(&[from[1], from[0]]);
    }
}

/// Word 255: the signature A5h and a checksum that makes all bytes sum to zero.
pub fn seal(out: &mut [u8; 512]) {
    out[510] = 0xA5;
    checksum(out);
}

fn checksum(out: &mut [u8; 512]) {
    let sum = out[..511].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    out[511] = sum.wrapping_neg();
}
