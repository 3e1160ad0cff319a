//! Sectors between a disk and the caller's buffer: straight into guest RAM where the buffer is RAM at an even
//! address, in pieces through a buffer that no guest sees where it is not (video memory, upper memory blocks).

use super::{Drive, chs, failed, status};
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::mem::Runs;
use crate::platform::{DiskKind, DiskRequest, DiskStatus, MemRun, Platform};
use arch::GuestPhys;

/// RAM under the video window: the guest reaches the display there, never this.
const STAGE: GuestPhys = GuestPhys(0xa_0000);
/// Bytes moved through it at once.
const STAGE_BYTES: u32 = 0x1_0000;

/// A transfer in pieces, between two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    pub(crate) disk: u8,
    pub(crate) write: bool,
    pub(crate) block: u64,
    pub(crate) linear: u32,
    pub(crate) bytes: u32,
    pub(crate) done: u32,
}

/// How far a transfer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Xfer {
    /// All of it.
    Done,
    /// The host is at it.
    Wait,
    /// It failed with this status (00h: it did not).
    Status(u8),
}

impl Bios {
    /// 02h read, 03h write, 04h verify (0Ah and 0Bh are 02h and 03h here).
    pub(super) fn int13_02_to_04_sectors<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        function: u8,
        drive: &Drive,
    ) -> Xfer {
        let count = c.al();
        let cylinder = u32::from(c.ch()) | u32::from(c.cl() & 0xc0) << 2;
        let (sector, head) = (u32::from(c.cl() & 0x3f), u32::from(c.dh()));
        if drive.kind == DiskKind::Cd || count == 0 {
            return Xfer::Status(status::BAD_COMMAND);
        }
        if !drive.info.present {
            c.set_al(0);
            return Xfer::Status(status::TIMEOUT);
        }
        if drive.kind == DiskKind::Floppy {
            let code = self.change_line(c, drive);
            if code != status::OK {
                c.set_al(0);
                return Xfer::Status(code);
            }
        }
        let Some(block) = chs::block(&drive.chs, cylinder, head, sector) else {
            c.set_al(0);
            return Xfer::Status(status::NOT_FOUND);
        };
        let linear = c.es(c.bx());
        let write = matches!(function, 0x03 | 0x0b);
        let done = if function == 0x04 {
            self.verify(drive, block, u64::from(count))
        } else {
            self.transfer(c, drive, write, block, u64::from(count), linear)
        };
        if matches!(done, Xfer::Status(_)) {
            c.set_al(0);
        }
        done
    }

    /// Whether sectors exist; nothing moves.
    pub(super) fn verify(&self, drive: &Drive, sector: u64, count: u64) -> Xfer {
        match in_bounds(drive, sector, count) {
            true => Xfer::Done,
            false => Xfer::Status(status::NOT_FOUND),
        }
    }

    /// Moves `count` sectors from `sector` on, sectors as `drive` counts them.
    pub(crate) fn transfer<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        drive: &Drive,
        write: bool,
        sector: u64,
        count: u64,
        linear: u32,
    ) -> Xfer {
        if !drive.info.present {
            return Xfer::Status(status::NO_MEDIA);
        }
        if write && (drive.info.read_only || drive.emulated || drive.kind == DiskKind::Cd) {
            return Xfer::Status(status::WRITE_PROTECTED);
        }
        if !in_bounds(drive, sector, count) {
            return Xfer::Status(status::NOT_FOUND);
        }
        let block = drive.base + sector * drive.sector_blocks();
        let Ok(bytes) = u32::try_from(count * u64::from(drive.sector)) else {
            return Xfer::Status(status::BOUNDARY);
        };
        let mut runs = Runs::new();
        let resolved = c.resolve(linear, bytes, !write, &mut runs);
        if c.fault.is_some() {
            return Xfer::Wait;
        }
        let ram = c.bus.ram();
        if resolved.is_some() && runs.plain(&ram) {
            let request = DiskRequest { disk: drive.disk, write, block, memory: runs.as_slice() };
            return match c.bus.disk_io(&request) {
                DiskStatus::Done => Xfer::Done,
                DiskStatus::Pending => Xfer::Wait,
                DiskStatus::Error(error) => Xfer::Status(failed(error, drive.kind)),
            };
        }
        self.staged_transfer(c, drive, write, block, linear, bytes)
    }

    fn staged_transfer<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        drive: &Drive,
        write: bool,
        block: u64,
        linear: u32,
        bytes: u32,
    ) -> Xfer {
        let fresh = Staged { disk: drive.disk, write, block, linear, bytes, done: 0 };
        let mut staged = match self.staged.take() {
            Some(old) if (Staged { done: 0, ..old }) == fresh => old,
            _ => fresh,
        };
        let ram = c.bus.ram();
        if !ram.contains(STAGE, STAGE_BYTES.into()) {
            return Xfer::Status(status::BOUNDARY);
        }
        let mut buffer = [0; 512];
        while staged.done < bytes {
            let take = (bytes - staged.done).min(STAGE_BYTES);
            let target = linear.wrapping_add(staged.done);
            let pieces = (0..take).step_by(512);
            if write {
                for at in pieces.clone() {
                    c.read(target.wrapping_add(at), &mut buffer);
                    let _ = ram.write_slice(GuestPhys(STAGE.0 + u64::from(at)), &buffer);
                }
            }
            let memory = [MemRun { at: STAGE, bytes: take }];
            let block = block + u64::from(staged.done / 512);
            match c.bus.disk_io(&DiskRequest { disk: drive.disk, write, block, memory: &memory }) {
                DiskStatus::Done => {}
                DiskStatus::Pending => {
                    self.staged = Some(staged);
                    return Xfer::Wait;
                }
                DiskStatus::Error(error) => return Xfer::Status(failed(error, drive.kind)),
            }
            if !write {
                for at in pieces {
                    let _ = ram.read(GuestPhys(STAGE.0 + u64::from(at)), &mut buffer);
                    c.write(target.wrapping_add(at), &buffer);
                }
            }
            staged.done += take;
        }
        Xfer::Done
    }
}

fn in_bounds(drive: &Drive, sector: u64, count: u64) -> bool {
    let blocks = drive.sector_blocks();
    sector
        .checked_add(count)
        .and_then(|end| end.checked_mul(blocks))
        .is_some_and(|end| end <= drive.blocks)
}
