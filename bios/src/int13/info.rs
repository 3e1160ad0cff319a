//! INT 13h 05h, 08h, 15h to 18h, 45h, 46h, 49h: what a drive is, and whether its medium changed.

use super::{Drive, Xfer, chs, status};
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::{DiskKind, DiskRequest, DiskStatus, MemRun, Platform};
use crate::rom::stubs::DISKETTE_TABLE;
use arch::GuestPhys;

impl Bios {
    /// 05h: format a track. On a floppy image the track is filled as FORMAT expects to find it.
    pub(super) fn int13_05_format<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        drive: &Drive,
    ) -> Xfer {
        if drive.kind != DiskKind::Floppy {
            return Xfer::Status(status::BAD_COMMAND);
        }
        if !drive.info.present {
            return Xfer::Status(status::TIMEOUT);
        }
        if drive.info.read_only || drive.emulated {
            return Xfer::Status(status::WRITE_PROTECTED);
        }
        let track = chs::block(&drive.chs, c.ch().into(), c.dh().into(), 1);
        let Some(block) = track else { return Xfer::Status(status::NOT_FOUND) };
        let count = u64::from(drive.chs.sectors).min(drive.blocks.saturating_sub(block));
        let stage = GuestPhys(0xa_0000);
        let bytes = count * 512;
        if count == 0 || c.bus.ram().fill(stage, bytes, 0xf6).is_err() {
            return Xfer::Status(status::NOT_FOUND);
        }
        let memory = [MemRun { at: stage, bytes: bytes as u32 }];
        let request = DiskRequest { disk: drive.disk, write: true, block, memory: &memory };
        match c.bus.disk_io(&request) {
            DiskStatus::Done => Xfer::Done,
            DiskStatus::Pending => Xfer::Wait,
            DiskStatus::Error(error) => Xfer::Status(super::failed(error, drive.kind)),
        }
    }

    /// 08h: drive parameters.
    pub(super) fn int13_08_parameters<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        dl: u8,
        drive: &Drive,
    ) -> Xfer {
        if drive.kind == DiskKind::Cd {
            return Xfer::Status(status::BAD_COMMAND);
        }
        let last = drive.chs.cylinders.saturating_sub(1).min(1023);
        c.set_ax(0);
        c.set_bx(0);
        c.set_ch(last as u8);
        c.set_cl((drive.chs.sectors as u8 & 0x3f) | ((last >> 2) as u8 & 0xc0));
        c.set_dh(drive.chs.heads.saturating_sub(1) as u8);
        if dl < 0x80 {
            let kind = chs::floppy_type(drive.blocks);
            c.set_bl(kind);
            let floppies = self.floppies(c.bus);
            c.set_dl(floppies);
            c.set_es(0xf000);
            c.set_di(DISKETTE_TABLE);
        } else {
            let disks = self.hard_disks(c.bus);
            c.set_dl(disks);
        }
        Xfer::Done
    }

    /// 15h: AH is the kind: 1 floppy without and 2 with change line, 3 hard disk with CX:DX sectors.
    pub(super) fn int13_15_type<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        dl: u8,
        drive: &Drive,
    ) -> Flow {
        match drive.kind {
            DiskKind::Floppy => c.set_ah(if drive.emulated { 1 } else { 2 }),
            DiskKind::Hard => {
                let chs = drive.chs;
                let sectors = chs.cylinders * chs.heads * chs.sectors;
                c.set_cx((sectors >> 16) as u16);
                c.set_dx(sectors as u16);
                c.set_ah(3);
            }
            DiskKind::Cd => return super::finish(c, dl, status::BAD_COMMAND),
        }
        c.set_cf(false);
        Flow::Done
    }

    /// 16h and every access: has the medium been exchanged since it was last asked?
    pub(super) fn change_line<P: Platform>(&mut self, c: &mut Call<'_, P>, drive: &Drive) -> u8 {
        if drive.kind != DiskKind::Floppy || drive.emulated {
            return if drive.info.present { status::OK } else { status::NO_MEDIA };
        }
        if !drive.info.present {
            return if c.ah() == 0x16 { status::CHANGED } else { status::TIMEOUT };
        }
        let Some(seen) = self.floppy_media.get_mut(usize::from(drive.unit)) else {
            return status::OK;
        };
        if *seen == drive.info.media {
            return status::OK;
        }
        *seen = drive.info.media;
        status::CHANGED
    }

    /// 45h lock, 46h eject, 49h changed: for removable drives.
    pub(super) fn removable<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        function: u8,
        drive: &Drive,
    ) -> u8 {
        if drive.kind != DiskKind::Cd {
            // Hard disks: never changed, nothing to lock.
            return if function == 0x49 { status::OK } else { status::NOT_REMOVABLE };
        }
        match (function, c.al()) {
            (0x45, 0) => {
                if self.cd_locks == u8::MAX {
                    return status::LOCKS;
                }
                self.cd_locks += 1;
                c.set_al(1);
            }
            (0x45, 1) => {
                if self.cd_locks == 0 {
                    return status::NOT_LOCKED;
                }
                self.cd_locks -= 1;
                c.set_al(u8::from(self.cd_locks > 0));
            }
            (0x45, 2) => c.set_al(u8::from(self.cd_locks > 0)),
            (0x45, _) => return status::BAD_COMMAND,
            (0x46, _) if self.cd_locks > 0 => return status::LOCKED,
            (0x46, _) if !drive.info.present => return status::NO_MEDIA,
            (0x46, _) => c.bus.eject(drive.disk),
            (_, _) if self.cd_media != drive.info.media => {
                self.cd_media = drive.info.media;
                return status::CHANGED;
            }
            _ => {}
        }
        status::OK
    }
}

/// 17h and 18h: set the media type for formatting. 18h checks tracks and sectors against the medium.
pub(super) fn media_type<P: Platform>(c: &mut Call<'_, P>, function: u8, drive: &Drive) -> u8 {
    if drive.kind != DiskKind::Floppy {
        return status::BAD_COMMAND;
    }
    if !drive.info.present {
        return status::TIMEOUT;
    }
    if function == 0x18 {
        let last = u32::from(c.ch()) | u32::from(c.cl() & 0xc0) << 2;
        let sectors = u32::from(c.cl() & 0x3f);
        if last + 1 != drive.chs.cylinders || sectors != drive.chs.sectors {
            return status::MEDIA_TYPE;
        }
        c.set_es(0xf000);
        c.set_di(DISKETTE_TABLE);
    }
    status::OK
}
