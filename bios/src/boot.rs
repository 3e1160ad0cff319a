//! INT 18h and 19h, and the boot menu: which medium, its boot sector or its El Torito image.

use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::int13::{Emulation, MediaType, Xfer, count};
use crate::int16;
use crate::platform::{BootDevice, Chs, DiskKind, Platform};

/// Where boot sectors go, and where El Torito structures are read to while looking for one.
const BOOT: u32 = 0x7c00;

/// How far boot has come. Steps change only after their transfer is done, so that a step can be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BootState {
    /// What the person chose in the menu: place in the boot order plus one.
    chosen: u8,
    /// Place in the boot order that is being tried.
    place: u8,
    /// Place plus one of what has booted: where INT 18h goes on.
    booted: u8,
    /// Which CD drive is being tried.
    cd: u8,
    /// Step of a CD boot.
    step: CdStep,
    /// The message of INT 18h or the menu is on the screen.
    shown: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum CdStep {
    /// Reads the boot record volume descriptor.
    #[default]
    Record,
    /// Reads the catalogue in this sector.
    Catalogue(u32),
    /// Reads the image of this entry.
    Image(Entry),
}

/// A bootable entry of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    media: MediaType,
    segment: u16,
    sectors: u16,
    image: u32,
}

/// What came of one medium.
enum Try {
    Boots { segment: u16, offset: u16, drive: u8 },
    Wait,
    No,
}

impl Bios {
    /// The one-line menu, if it is configured.
    pub(crate) fn boot_menu<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let wait = c.bus.config().boot_menu_ms;
        if wait == 0 {
            c.stub_flags(false, false);
            return Flow::Done;
        }
        let order = c.bus.config().boot_order.clone();
        let now = c.bus.now();
        let Some(until) = self.wait_until else {
            self.wait_until = Some(now + u64::from(wait) * 1_000_000);
            self.print(c, "Boot from:");
            for (n, device) in order.iter().enumerate().take(9) {
                self.print_char(c, b' ');
                self.print_char(c, b'1' + n as u8);
                self.print(
                    c,
                    match device {
                        BootDevice::Floppy => " floppy",
                        BootDevice::Hard => " hard disk",
                        BootDevice::Cd => " CD",
                    },
                );
            }
            self.print(c, "  (Enter: in this order) ");
            return Flow::Again;
        };
        let key = int16::poll(c);
        let choice = key.map(|key| key as u8);
        match choice {
            Some(digit @ b'1'..=b'9') if usize::from(digit - b'1') < order.len() => {
                self.boot.chosen = digit - b'0';
            }
            Some(b'\r') => {}
            _ if now < until => return Flow::Again,
            _ => {}
        }
        self.wait_until = None;
        self.print(c, "\r\n");
        c.stub_flags(false, false);
        Flow::Done
    }

    /// INT 19h. Answers in the stub's flags: zero, nothing boots; else BX:CX and DL say what does.
    pub(crate) fn boot<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        loop {
            let order = &c.bus.config().boot_order;
            let place = match self.boot.chosen {
                0 => usize::from(self.boot.place),
                chosen => usize::from(chosen - 1),
            };
            let device = order.get(place).copied();
            let Some(device) = device else {
                self.boot = BootState::default();
                c.stub_flags(false, true);
                return Flow::Done;
            };
            let found = match device {
                BootDevice::Floppy => self.boot_sector(c, 0x00),
                BootDevice::Hard => self.boot_sector(c, 0x80),
                BootDevice::Cd => self.boot_cd(c),
            };
            match found {
                Try::Wait => return Flow::Wait,
                Try::Boots { segment, offset, drive } => {
                    let booted = (place as u8).saturating_add(1);
                    self.boot = BootState { booted, ..BootState::default() };
                    c.set_bx(segment);
                    c.set_cx(offset);
                    c.set_dx(drive.into());
                    c.stub_flags(false, false);
                    return Flow::Done;
                }
                Try::No if self.boot.chosen != 0 => {
                    self.boot = BootState { chosen: 0, place: 0, ..BootState::default() };
                }
                Try::No => self.boot.place = self.boot.place.saturating_add(1),
            }
        }
    }

    /// INT 18h: what has booted gives up, such as an MBR without an active partition, and the next medium is tried
    /// (Compaq, Phoenix and Intel, "BIOS Boot Specification", "INT 18h"). If there is none, a key tries again. The stub
    /// goes on with INT 19h.
    pub(crate) fn int18<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let next = core::mem::take(&mut self.boot.booted);
        if next != 0 {
            self.boot.place = next;
            self.emulation = None;
            return Flow::Done;
        }
        if !self.boot.shown {
            self.boot.shown = true;
            self.print(c, "\r\nNo bootable medium found. Press a key to try again.\r\n");
        }
        if int16::poll(c).is_none() {
            return Flow::Again;
        }
        self.boot = BootState::default();
        Flow::Done
    }

    fn boot_sector<P: Platform>(&mut self, c: &mut Call<'_, P>, dl: u8) -> Try {
        let Some(drive) = self.drive(c.bus, dl) else { return Try::No };
        if !drive.info.present {
            return Try::No;
        }
        match self.transfer(c, &drive, false, 0, 1, BOOT) {
            Xfer::Wait => return Try::Wait,
            Xfer::Status(_) => return Try::No,
            Xfer::Done => {}
        }
        let signed = c.read16(BOOT + 510) == 0xaa55;
        // Old boot floppies carry no signature; blank ones are all one byte.
        let head = c.read32(BOOT);
        let blank = head == head.rotate_left(8);
        if signed || (dl < 0x80 && !blank) {
            return Try::Boots { segment: 0, offset: BOOT as u16, drive: dl };
        }
        Try::No
    }

    /// Tries every CD drive ("El Torito" Bootable CD-ROM Format 1.0, "Boot Procedure").
    fn boot_cd<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Try {
        while self.boot.cd < count(c.bus, DiskKind::Cd) {
            match self.boot_one_cd(c) {
                Try::No => {
                    self.boot.cd += 1;
                    self.boot.step = CdStep::Record;
                }
                found => return found,
            }
        }
        Try::No
    }

    fn boot_one_cd<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Try {
        let dl = 0xe0 | self.boot.cd;
        let Some(drive) = self.drive(c.bus, dl) else { return Try::No };
        loop {
            let (sector, count, to) = match self.boot.step {
                CdStep::Record => (17, 1, BOOT),
                CdStep::Catalogue(at) => (at, 1, BOOT),
                CdStep::Image(entry) => {
                    let count = u32::from(entry.sectors).div_ceil(4);
                    (entry.image, count, u32::from(entry.segment) << 4)
                }
            };
            match self.transfer(c, &drive, false, sector.into(), count.into(), to) {
                Xfer::Wait => return Try::Wait,
                Xfer::Status(_) => return Try::No,
                Xfer::Done => {}
            }
            self.boot.step = match self.boot.step {
                CdStep::Record => match catalogue_sector(c) {
                    Some(at) => CdStep::Catalogue(at),
                    None => return Try::No,
                },
                CdStep::Catalogue(_) => match find_entry(c) {
                    Some(entry) => CdStep::Image(entry),
                    None => return Try::No,
                },
                CdStep::Image(entry) => return self.start_image(c, entry),
            };
        }
    }

    fn start_image<P: Platform>(&mut self, c: &mut Call<'_, P>, entry: Entry) -> Try {
        let drive = match entry.media {
            MediaType::None => 0xe0 | self.boot.cd,
            MediaType::Hard => 0x80,
            _ => 0x00,
        };
        let floppy = |sectors| Chs { cylinders: 80, heads: 2, sectors };
        let chs = match entry.media {
            MediaType::None => Chs::default(),
            MediaType::Floppy120 => floppy(15),
            MediaType::Floppy144 => floppy(18),
            MediaType::Floppy288 => floppy(36),
            MediaType::Hard => partition_end(c, u32::from(entry.segment) << 4),
        };
        self.emulation = Some(Emulation {
            media: entry.media,
            cd: self.boot.cd,
            drive,
            image: entry.image,
            loaded: entry.sectors,
            segment: entry.segment,
            chs,
            active: true,
        });
        let (disks, floppies) = (self.hard_disks(c.bus), self.floppies(c.bus));
        c.set_bda8(crate::bda::HARD_COUNT, disks);
        crate::post::set_floppy_equipment(c, floppies);
        Try::Boots { segment: entry.segment, offset: 0, drive }
    }
}

/// The catalogue's sector, from the boot record at [`BOOT`].
fn catalogue_sector<P: Platform>(c: &mut Call<'_, P>) -> Option<u32> {
    let mut head = [0; 0x4b];
    c.read(BOOT, &mut head);
    let right = head.starts_with(b"\0CD001\x01EL TORITO SPECIFICATION");
    right.then(|| u32::from_le_bytes([head[0x47], head[0x48], head[0x49], head[0x4a]]))
}

/// The first entry for a PC BIOS in the catalogue at [`BOOT`].
fn find_entry<P: Platform>(c: &mut Call<'_, P>) -> Option<Entry> {
    let mut slot = [0; 32];
    c.read(BOOT, &mut slot);
    let sum = slot
        .chunks_exact(2)
        .fold(0u16, |sum, pair| sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]])));
    if slot[0] != 1 || slot[0x1e..0x20] != [0x55, 0xaa] || sum != 0 {
        return None;
    }
    let mut x86 = slot[1] == 0;
    for n in 1..64 {
        c.read(BOOT + n * 32, &mut slot);
        match slot[0] {
            0x90 | 0x91 => x86 = slot[1] == 0,
            0x88 if x86 => {
                let media = MediaType::from_bits(slot[1])?;
                let segment = match u16::from_le_bytes([slot[2], slot[3]]) {
                    0 => 0x7c0,
                    other => other,
                };
                let room = 0x9_fc00u32.checked_sub(u32::from(segment) << 4)? / 2048 * 4;
                let sectors = match media {
                    MediaType::None => u16::from_le_bytes([slot[6], slot[7]]).max(1),
                    // Emulated disks load their boot sector.
                    _ => 1,
                };
                let image = u32::from_le_bytes([slot[8], slot[9], slot[10], slot[11]]);
                let sectors = sectors.min(room as u16);
                return (sectors > 0).then_some(Entry { media, segment, sectors, image });
            }
            _ => {}
        }
    }
    None
}

/// Geometry of an emulated hard disk: where its first partition ends.
fn partition_end<P: Platform>(c: &mut Call<'_, P>, mbr: u32) -> Chs {
    let mut end = [0; 3];
    c.read(mbr + 0x1be + 5, &mut end);
    let [head, sector, cylinder] = end.map(u32::from);
    Chs {
        cylinders: (cylinder | (sector & 0xc0) << 2) + 1,
        heads: head + 1,
        sectors: (sector & 0x3f).max(1),
    }
}

#[cfg(test)]
mod tests;
