//! What a CD's boot catalogue makes of the drives ("El Torito" Bootable CD-ROM Format 1.0), and INT 13h
//! 4Ah to 4Dh.

use super::{Drive, nth, status};
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::platform::{Chs, DiskKind, Platform};

/// The catalogue's boot media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MediaType {
    /// No emulation.
    None = 0,
    /// 1.2 MB diskette.
    Floppy120 = 1,
    /// 1.44 MB diskette.
    Floppy144 = 2,
    /// 2.88 MB diskette.
    Floppy288 = 3,
    /// Hard disk with one partition.
    Hard = 4,
}

impl MediaType {
    /// From the low four bits of the catalogue's byte.
    pub fn from_bits(bits: u8) -> Option<MediaType> {
        Some(match bits & 15 {
            0 => MediaType::None,
            1 => MediaType::Floppy120,
            2 => MediaType::Floppy144,
            3 => MediaType::Floppy288,
            4 => MediaType::Hard,
            _ => return None,
        })
    }
}

/// A boot from CD: which, what of it, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    pub(crate) media: MediaType,
    /// Which CD drive, counted among CDs.
    pub(crate) cd: u8,
    /// INT 13h number.
    pub(crate) drive: u8,
    /// First 2048-byte sector of the image.
    pub(crate) image: u32,
    /// 512-byte sectors that were loaded.
    pub(crate) loaded: u16,
    /// Segment that they were loaded to.
    pub(crate) segment: u16,
    /// Geometry of the emulated disk.
    pub(crate) chs: Chs,
    /// Ended by 4B00h: no emulation, but the numbers stay.
    pub(crate) active: bool,
}

impl Emulation {
    /// The emulated drive, if `dl` is it.
    pub(super) fn drive<P: Platform>(&self, bus: &P, dl: u8) -> Option<Drive> {
        if !self.active || self.media == MediaType::None || dl != self.drive {
            return None;
        }
        let (disk, info) = nth(bus, DiskKind::Cd, self.cd)?;
        let base = u64::from(self.image) * 4;
        let chs = self.chs;
        let size = u64::from(chs.cylinders) * u64::from(chs.heads) * u64::from(chs.sectors);
        let blocks = size.min(info.blocks.saturating_sub(base));
        let kind = if dl < 0x80 { DiskKind::Floppy } else { DiskKind::Hard };
        Some(Drive {
            disk,
            unit: self.cd,
            info,
            kind,
            base,
            blocks,
            chs,
            sector: 512,
            emulated: true,
        })
    }

    /// By how many numbers the real drives of `dl`'s kind moved up.
    pub(super) fn shifts(&self, dl: u8) -> u8 {
        let same = (self.drive < 0x80) == (dl < 0x80) && dl < 0xe0;
        u8::from(self.active && self.media != MediaType::None && same)
    }
}

impl Bios {
    /// 4Bh: AL = 0 ends emulation and tells, 1 only tells. DS:SI gets the specification packet.
    pub(super) fn int13_4b_emulation_status<P: Platform>(&mut self, c: &mut Call<'_, P>) -> u8 {
        let Some(emulation) = &mut self.emulation else { return status::BAD_COMMAND };
        let dl = c.dl();
        if dl != 0x7f && dl != emulation.drive {
            return status::BAD_COMMAND;
        }
        let mut packet = [0; 19];
        packet[0] = 19;
        packet[1] = emulation.media as u8;
        packet[2] = emulation.drive;
        packet[3] = emulation.cd / 2;
        packet[4..8].copy_from_slice(&emulation.image.to_le_bytes());
        packet[8..10].copy_from_slice(&u16::from(emulation.cd % 2).to_le_bytes());
        packet[12..14].copy_from_slice(&emulation.segment.to_le_bytes());
        packet[14..16].copy_from_slice(&emulation.loaded.to_le_bytes());
        let chs = emulation.chs;
        if chs.cylinders > 0 {
            let last = chs.cylinders - 1;
            packet[16] = last as u8;
            packet[17] = (chs.sectors as u8 & 0x3f) | ((last >> 2) as u8 & 0xc0);
            packet[18] = (chs.heads - 1) as u8;
        }
        let at = c.ds(c.si());
        c.write(at, &packet);
        if c.al() == 0 && c.fault.is_none() {
            emulation.active = false;
        }
        status::OK
    }

    /// 4Ah, 4Ch (start emulation, boot it) and 4Dh (return the catalogue) are not offered: no known loader
    /// uses them, and callers take the error as "not there".
    pub(super) fn int13_4a_to_4d<P: Platform>(
        &mut self,
        _c: &mut Call<'_, P>,
        _function: u8,
    ) -> u8 {
        status::BAD_COMMAND
    }
}
