//! The Xen platform device: ports 10h to 13h by which a guest's drivers unplug the emulated disks
//! and NICs, and the device's I/O region. Xen "hvm-emulated-unplug.markdown".
//!
//! The memory region holds nothing: guests map grant frames over it.

use crate::state::{LoadError, require};

/// What port 10h reads as: unplugging works.
const MAGIC: u16 = 0x49D2;
/// What port 12h reads as: the protocol with product and build numbers.
const PROTOCOL: u8 = 1;
/// Flags, at offset 0 of the I/O region: the option ROMs' memory cannot be written.
const FLAG_ROM_LOCK: u8 = 1;
/// Unplug mask: what exists.
const UNPLUGGABLE: u16 = 0x0F;

/// A set of emulated devices to take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplug(u16);

impl Unplug {
    /// All IDE disks; CD-ROM drives stay.
    #[must_use]
    pub const fn ide_disks(self) -> bool {
        self.0 & 1 != 0
    }

    /// All NICs.
    #[must_use]
    pub const fn nics(self) -> bool {
        self.0 & 2 != 0
    }

    /// All IDE disks but the first master.
    #[must_use]
    pub const fn auxiliary_ide_disks(self) -> bool {
        self.0 & 4 != 0
    }

    /// All NVMe disks.
    #[must_use]
    pub const fn nvme_disks(self) -> bool {
        self.0 & 8 != 0
    }
}

/// What a write asks of the outside.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformEffect {
    /// Nothing.
    Nothing,
    /// Take these away until the next reset.
    Unplug(Unplug),
    /// The guest logs a character.
    Log(u8),
}

/// The device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XenPlatform {
    // Guest-visible
    product: u16,
    build: u32,
    flags: u8,
    unplugged: u16,
}

/// The saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the device of the same names")]
pub struct XenPlatformState {
    pub version: u32,
    pub product: u16,
    pub build: u32,
    pub flags: u8,
    pub unplugged: u16,
}

const VERSION: u32 = 1;

impl XenPlatform {
    /// The device after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { product: 0, build: 0, flags: 0, unplugged: 0 }
    }

    /// Reset: what was unplugged is back.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Reads ports 10h to 13h (0 to 3) with `width` 1, 2 or 4.
    #[must_use]
    pub const fn read(&self, port: u8, width: u8) -> u32 {
        match (port, width) {
            (0, 2) => MAGIC as u32,
            (2, 1) => PROTOCOL as u32,
            _ => {
                u32::MAX
                    >> (32
                        - 8 * if width == 1 {
                            1
                        } else if width == 2 {
                            2
                        } else {
                            4
                        })
            }
        }
    }

    /// Writes ports 10h to 13h (0 to 3) with `width` 1, 2 or 4.
    pub fn write(&mut self, port: u8, width: u8, value: u32) -> PlatformEffect {
        match (port, width) {
            (0, 2) => {
                let mask = value as u16 & UNPLUGGABLE;
                self.unplugged |= mask;
                return PlatformEffect::Unplug(Unplug(mask));
            }
            (0, 4) => self.build = value,
            (2, 2) => self.product = value as u16,
            (2, 1) => return PlatformEffect::Log(value as u8),
            _ => {}
        }
        PlatformEffect::Nothing
    }

    /// Reads a byte of the I/O region.
    #[must_use]
    pub const fn read_region(&self, offset: u8) -> u8 {
        if offset == 0 { self.flags } else { 0xFF }
    }

    /// Writes a byte of the I/O region.
    pub fn write_region(&mut self, offset: u8, value: u8) -> PlatformEffect {
        match offset {
            0 => self.flags = value & FLAG_ROM_LOCK,
            8 => return PlatformEffect::Log(value),
            _ => {}
        }
        PlatformEffect::Nothing
    }

    /// Whether the guest has locked the option ROMs' memory.
    #[must_use]
    pub const fn roms_are_locked(&self) -> bool {
        self.flags & FLAG_ROM_LOCK != 0
    }

    /// What has been unplugged since reset.
    #[must_use]
    pub const fn unplugged(&self) -> Unplug {
        Unplug(self.unplugged)
    }

    /// The numbers of the guest's drivers: product (3 is Linux) and build; 0 before they tell.
    #[must_use]
    pub const fn drivers(&self) -> (u16, u32) {
        (self.product, self.build)
    }

    /// The state.
    #[must_use]
    pub const fn save(&self) -> XenPlatformState {
        let Self { product, build, flags, unplugged } = *self;
        XenPlatformState { version: VERSION, product, build, flags, unplugged }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or bits that do not exist.
    pub fn load(&mut self, state: &XenPlatformState) -> Result<(), LoadError> {
        let XenPlatformState { version, product, build, flags, unplugged } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        require(flags & !FLAG_ROM_LOCK == 0, "flags")?;
        require(unplugged & !UNPLUGGABLE == 0, "unplugged")?;
        *self = Self { product, build, flags, unplugged };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Linux 6.1, check_platform_magic and xen_unplug_emulated_devices.
    #[test]
    fn linux_unplug_script() {
        let mut device = XenPlatform::new();
        assert_eq!(device.read(0, 2), 0x49D2);
        assert_eq!(device.read(2, 1), 1);
        assert_eq!(device.write(2, 2, 3), PlatformEffect::Nothing);
        assert_eq!(device.write(0, 4, 0x1234), PlatformEffect::Nothing);
        assert_eq!(device.read(0, 2), 0x49D2, "not refused");
        let PlatformEffect::Unplug(unplug) = device.write(0, 2, 0x0003) else { panic!() };
        assert!(unplug.ide_disks() && unplug.nics());
        assert!(!unplug.auxiliary_ide_disks() && !unplug.nvme_disks());
        assert_eq!((device.unplugged(), device.drivers()), (unplug, (3, 0x1234)));
        device.reset();
        assert!(!device.unplugged().ide_disks());
    }

    #[test]
    fn other_widths_and_ports_read_as_all_ones_and_do_nothing() {
        let mut device = XenPlatform::new();
        assert_eq!((device.read(0, 1), device.read(0, 4), device.read(3, 2)), (0xFF, !0, 0xFFFF));
        assert_eq!(device.write(0, 1, 3), PlatformEffect::Nothing);
        assert_eq!(device.write(2, 1, 65), PlatformEffect::Log(65));
        assert!(!device.unplugged().ide_disks());
    }

    #[test]
    fn the_region_has_flags_and_a_log() {
        let mut device = XenPlatform::new();
        assert_eq!(device.write_region(0, 0xFF), PlatformEffect::Nothing);
        assert!(device.roms_are_locked());
        assert_eq!((device.read_region(0), device.read_region(1)), (1, 0xFF));
        assert_eq!(device.write_region(8, b'x'), PlatformEffect::Log(b'x'));
    }

    #[test]
    fn a_random_walk_survives_save_and_load() {
        let (mut rng, mut device) = (Rng::new(5), XenPlatform::new());
        for _ in 0..5_000 {
            let _ = device.write(rng.byte() & 3, 1 << rng.below(3), rng.next() as u32);
            let _ = device.write_region(rng.byte() & 15, rng.byte());
            let _ = device.read(rng.byte(), rng.byte());
            let mut copy = XenPlatform::new();
            copy.load(&device.save()).unwrap();
            assert_eq!(copy, device);
        }
        let bad = XenPlatformState { flags: 2, ..device.save() };
        assert_eq!(device.load(&bad), Err(LoadError::Impossible("flags")));
        let bad = XenPlatformState { unplugged: 16, ..device.save() };
        assert_eq!(device.load(&bad), Err(LoadError::Impossible("unplugged")));
        let old = XenPlatformState { version: 0, ..device.save() };
        assert_eq!(device.load(&old), Err(LoadError::Version));
    }
}
