//! Floppy drives and the formats that lie in them: geometry, data rates, double stepping.
//!
//! 82077AA datasheet "Data Rate Select"; drive type numbers are CMOS byte 10h's.

use crate::blk::{DiskId, Geometry, Media};

/// What kind of drive is built in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriveType {
    /// None.
    #[default]
    None = 0,
    /// 5.25 inch, 40 tracks.
    F360 = 1,
    /// 5.25 inch, 80 tracks, 360 turns a minute.
    F1200 = 2,
    /// 3.5 inch, double density.
    F720 = 3,
    /// 3.5 inch, high density.
    F1440 = 4,
    /// 3.5 inch, extra density.
    F2880 = 5,
}

impl DriveType {
    /// The drive that an image of this geometry wants.
    #[must_use]
    pub const fn of_geometry(geometry: Geometry) -> DriveType {
        match (geometry.cylinders, geometry.sectors) {
            (_, 25..) => DriveType::F2880,
            (..=43, ..=10) => DriveType::F360,
            (_, 15) => DriveType::F1200,
            _ => DriveType::F1440,
        }
    }

    /// Whether a drive of this kind reads media of this geometry.
    #[must_use]
    pub const fn takes(self, geometry: Geometry) -> bool {
        match (self, geometry.cylinders, geometry.sectors) {
            (DriveType::None, ..) => false,
            (DriveType::F2880, _, 25..) => true,
            (_, _, 25..) => false,
            (_, _, 15) => matches!(self, DriveType::F1200),
            (_, ..=43, _) => matches!(self, DriveType::F360 | DriveType::F1200),
            (DriveType::F720, _, ..=10) => true,
            _ => matches!(self, DriveType::F1440 | DriveType::F2880),
        }
    }

    /// The type of a saved number.
    pub(super) const fn of_number(number: u8) -> Option<DriveType> {
        Some(match number {
            0 => DriveType::None,
            1 => DriveType::F360,
            2 => DriveType::F1200,
            3 => DriveType::F720,
            4 => DriveType::F1440,
            5 => DriveType::F2880,
            _ => return None,
        })
    }

    /// Nanoseconds of one turn.
    pub(super) const fn turn_ns(self) -> u64 {
        match self {
            DriveType::F1200 => 1_000_000_000 * 60 / 360,
            _ => 1_000_000_000 * 60 / 300,
        }
    }

    /// The innermost track that the head reaches.
    pub(super) const fn last_track(self) -> u8 {
        match self {
            DriveType::F360 => 41,
            _ => 83,
        }
    }
}

/// The geometry of a raw image of `sectors` sectors of 512 bytes; `None` where no format has them.
#[must_use]
pub const fn geometry_of_image(sectors: u64) -> Option<Geometry> {
    let (cylinders, heads, track) = match sectors {
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
        _ => return None,
    };
    Some(Geometry { cylinders, heads, sectors: track })
}

/// A medium in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floppy {
    pub geometry: Geometry,
    pub read_only: bool,
}

/// One drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drive {
    // Fixed
    pub kind: DriveType,
    pub disk: DiskId,
    // Guest-visible
    pub floppy: Option<Floppy>,
    /// Where the head is.
    pub track: u8,
    /// The disk change line.
    pub changed: bool,
}

impl Drive {
    pub const fn none() -> Drive {
        Drive { kind: DriveType::None, disk: DiskId(0), floppy: None, track: 0, changed: false }
    }

    pub fn is_present(&self) -> bool {
        self.kind != DriveType::None
    }

    /// Puts a medium in. Geometry outside what a controller can address is cut.
    pub fn insert(&mut self, media: &Media) {
        let Geometry { cylinders, heads, sectors } = media.geometry;
        self.floppy = Some(Floppy {
            geometry: Geometry {
                cylinders: cylinders.clamp(1, 84),
                heads: heads.clamp(1, 2),
                sectors: sectors.clamp(1, super::SIDE),
            },
            read_only: media.read_only,
        });
        self.changed = true;
    }

    /// Moves the head by `steps`; each step with a medium in the drive clears the change line.
    pub fn step(&mut self, steps: i16) {
        let last = i16::from(self.kind.last_track());
        let to = i16::from(self.track).saturating_add(steps).clamp(0, last);
        self.track = to as u8;
        if steps != 0 && self.floppy.is_some() {
            self.changed = false;
        }
    }

    /// The cylinder number that stands in the IDs under the head.
    pub fn cylinder(&self, floppy: &Floppy) -> Option<u8> {
        let twice = self.kind == DriveType::F1200 && floppy.geometry.cylinders <= 43;
        let cylinder = if twice { self.track / 2 } else { self.track };
        (u16::from(cylinder) < floppy.geometry.cylinders).then_some(cylinder)
    }

    /// How many steps lie between two cylinders.
    pub fn steps_to(&self, cylinder: u8) -> i16 {
        let twice = self.kind == DriveType::F1200
            && self.floppy.is_some_and(|floppy| floppy.geometry.cylinders <= 43);
        let track = i16::from(cylinder) * if twice { 2 } else { 1 };
        track - i16::from(self.track)
    }

    /// Whether the medium can be read at data rate `rate` (CCR's code).
    pub fn has_rate(&self, floppy: &Floppy, rate: u8) -> bool {
        let wanted = match floppy.geometry.sectors {
            25.. => 3,
            12.. => 0,
            _ if self.kind == DriveType::F1200 => 1,
            _ => 2,
        };
        rate == wanted
    }
}
