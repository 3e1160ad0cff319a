//! INT 13h: disks. Which drive a number means, dispatch, and status; transfers are in [`xfer`], EDD in
//! [`edd`], the boot catalogue's emulations in [`cd`].

mod cd;
mod chs;
mod edd;
mod info;
mod xfer;

pub use cd::Emulation;
pub(crate) use cd::MediaType;
pub(crate) use chs::floppy_type;
pub use xfer::Staged;
pub(crate) use xfer::Xfer;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::{BiosDisk, Chs, DiskError, DiskInfo, DiskKind, Platform};

/// Status codes in AH (Phoenix, "Fixed Disk Services").
pub(crate) mod status {
    pub const OK: u8 = 0x00;
    pub const BAD_COMMAND: u8 = 0x01;
    pub const WRITE_PROTECTED: u8 = 0x03;
    pub const NOT_FOUND: u8 = 0x04;
    pub const CHANGED: u8 = 0x06;
    pub const BOUNDARY: u8 = 0x09;
    pub const MEDIA_TYPE: u8 = 0x0c;
    pub const CONTROLLER: u8 = 0x20;
    pub const NO_MEDIA: u8 = 0x31;
    pub const TIMEOUT: u8 = 0x80;
    pub const NOT_LOCKED: u8 = 0xb0;
    pub const LOCKED: u8 = 0xb1;
    pub const LOCKS: u8 = 0xb4;
    pub const NOT_REMOVABLE: u8 = 0xb2;
}

/// A drive as one INT 13h number shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive {
    /// The machine's drive.
    pub disk: BiosDisk,
    /// Its place among the machine's drives of its kind.
    pub unit: u8,
    /// What the machine says of it.
    pub info: DiskInfo,
    /// What it looks like here: an emulated floppy is a floppy.
    pub kind: DiskKind,
    /// First block of what is shown (an image on a CD), in 512-byte blocks.
    pub base: u64,
    /// Blocks shown.
    pub blocks: u64,
    /// Geometry for CHS calls.
    pub chs: Chs,
    /// Bytes in a sector as callers count them: 512, or 2048 on a CD.
    pub sector: u32,
    /// An image on a CD.
    pub emulated: bool,
}

impl Drive {
    /// 512-byte blocks in a sector.
    pub fn sector_blocks(&self) -> u64 {
        u64::from(self.sector / 512)
    }
}

/// A drive of the machine by kind and place.
pub(crate) fn nth<P: Platform>(bus: &P, kind: DiskKind, n: u8) -> Option<(BiosDisk, DiskInfo)> {
    (0..bus.disk_count())
        .filter_map(|disk| Some((disk, bus.disk(disk)?)))
        .filter(|(_, info)| info.kind == kind)
        .nth(n.into())
}

/// How many drives of a kind the machine has.
pub(crate) fn count<P: Platform>(bus: &P, kind: DiskKind) -> u8 {
    (0..=255).take_while(|&n| nth(bus, kind, n).is_some()).count() as u8
}

impl Bios {
    /// The drive that DL names.
    pub(crate) fn drive<P: Platform>(&self, bus: &P, dl: u8) -> Option<Drive> {
        if let Some(emulation) = self.emulation
            && let Some(drive) = emulation.drive(bus, dl)
        {
            return Some(drive);
        }
        let shift = self.emulation.map_or(0, |emulation| emulation.shifts(dl));
        let (kind, n) = match dl {
            0x00..=0x7f => (DiskKind::Floppy, dl.checked_sub(shift)?),
            0x80..=0xdf => (DiskKind::Hard, (dl - 0x80).checked_sub(shift)?),
            _ => (DiskKind::Cd, dl - 0xe0),
        };
        let (disk, info) = nth(bus, kind, n)?;
        let (chs, sector) = match kind {
            DiskKind::Floppy => (chs::floppy(info.blocks), 512),
            DiskKind::Hard => (chs::translated(&info), 512),
            DiskKind::Cd => (Chs::default(), 2048),
        };
        let blocks = info.blocks;
        Some(Drive { disk, unit: n, info, kind, base: 0, blocks, chs, sector, emulated: false })
    }

    pub(crate) fn int13<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let dl = c.dl();
        let function = c.ah();
        if function == 0x4b {
            let status = self.int13_4b_emulation_status(c);
            return finish(c, dl, status);
        }
        let Some(drive) = self.drive(c.bus, dl) else {
            return self.missing(c, function, dl);
        };
        let done = match function {
            0x00 | 0x0d | 0x10 | 0x11 | 0x14 | 0x0c | 0x09 | 0x47 => {
                self.simple(c, function, &drive)
            }
            0x01 => return last_status(c, dl),
            0x02..=0x04 | 0x0a | 0x0b => self.int13_02_to_04_sectors(c, function, &drive),
            0x05 => self.int13_05_format(c, &drive),
            0x08 => self.int13_08_parameters(c, dl, &drive),
            0x15 => return self.int13_15_type(c, dl, &drive),
            0x16 => Xfer::Status(self.change_line(c, &drive)),
            0x17 | 0x18 => Xfer::Status(info::media_type(c, function, &drive)),
            0x41 => return edd::int13_41_check(c, dl, &drive),
            0x42..=0x44 => self.int13_42_to_44_extended(c, function, &drive),
            0x45 | 0x46 | 0x49 => Xfer::Status(self.removable(c, function, &drive)),
            0x48 => Xfer::Status(edd::int13_48_parameters(c, &drive)),
            0x4e => Xfer::Status(edd::int13_4e_hardware(c)),
            0x4a | 0x4c | 0x4d => Xfer::Status(self.int13_4a_to_4d(c, function)),
            _ => Xfer::Status(status::BAD_COMMAND),
        };
        match done {
            Xfer::Done => finish(c, dl, status::OK),
            Xfer::Wait => Flow::Wait,
            Xfer::Status(code) => finish(c, dl, code),
        }
    }

    fn missing<P: Platform>(&mut self, c: &mut Call<'_, P>, function: u8, dl: u8) -> Flow {
        match function {
            0x01 => return last_status(c, dl),
            0x00 => {}
            0x08 if dl < 0x80 => {
                // No such floppy, but the number of those there are is still told.
                let floppies = self.floppies(c.bus);
                c.set_ax(0);
                c.set_bx(0);
                c.set_cx(0);
                c.set_di(0);
                c.set_dx(floppies.into());
                c.set_cf(false);
                return Flow::Done;
            }
            0x15 => {
                c.set_ax(0);
                c.set_cf(false);
                return Flow::Done;
            }
            _ => {}
        }
        let code =
            if dl < 0x80 && function != 0x01 { status::TIMEOUT } else { status::BAD_COMMAND };
        finish(c, dl, code)
    }

    /// Floppy drives that INT 13h shows.
    pub(crate) fn floppies<P: Platform>(&self, bus: &P) -> u8 {
        count(bus, DiskKind::Floppy) + self.emulation.map_or(0, |e| e.shifts(0))
    }

    /// Hard disks that INT 13h shows.
    pub(crate) fn hard_disks<P: Platform>(&self, bus: &P) -> u8 {
        count(bus, DiskKind::Hard) + self.emulation.map_or(0, |e| e.shifts(0x80))
    }

    fn simple<P: Platform>(&mut self, c: &mut Call<'_, P>, function: u8, drive: &Drive) -> Xfer {
        match function {
            // A reset forgets a transfer that was given up.
            0x00 | 0x0d => self.staged = None,
            // Seek: beyond the end fails.
            0x0c => {
                let cylinder = u32::from(c.ch()) | u32::from(c.cl() & 0xc0) << 2;
                if cylinder >= drive.chs.cylinders || u32::from(c.dh()) >= drive.chs.heads {
                    return Xfer::Status(status::NOT_FOUND);
                }
            }
            0x47 if !drive.info.present => return Xfer::Status(status::NO_MEDIA),
            _ => {}
        }
        Xfer::Done
    }
}

/// Ends the call: AH, carry, and the byte where function 01h finds it.
fn finish<P: Platform>(c: &mut Call<'_, P>, dl: u8, code: u8) -> Flow {
    c.set_ah(code);
    c.set_cf(code != status::OK);
    let field = if dl < 0x80 { bda::FLOPPY_STATUS } else { bda::HARD_STATUS };
    c.set_bda8(field, code);
    Flow::Done
}

fn last_status<P: Platform>(c: &mut Call<'_, P>, dl: u8) -> Flow {
    let field = if dl < 0x80 { bda::FLOPPY_STATUS } else { bda::HARD_STATUS };
    let code = c.bda8(field);
    c.set_ah(code);
    c.set_cf(code != status::OK);
    Flow::Done
}

/// The status for a failed transfer.
fn failed(error: DiskError, kind: DiskKind) -> u8 {
    match error {
        DiskError::NoMedia if kind == DiskKind::Floppy => status::TIMEOUT,
        DiskError::NoMedia => status::NO_MEDIA,
        DiskError::WriteProtected => status::WRITE_PROTECTED,
        DiskError::OutOfRange => status::NOT_FOUND,
        DiskError::Medium => status::CONTROLLER,
    }
}

#[cfg(test)]
mod call_tests;
#[cfg(test)]
mod tests;
