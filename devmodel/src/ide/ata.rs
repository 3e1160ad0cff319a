//! The commands of an ATA disk, and those that a packet device shares.
//!
//! ATA/ATAPI-7 "Command descriptions". A command is decoded once and matched exhaustively; what is
//! not known aborts. Left out: security, host protected area (SET MAX), READ LONG, formatting.

use super::Effect;
use super::channel::{Channel, Drive, Kind, Phase, SRST, Transfer};
use super::disk::{Disk, MAX_MULTIPLE};
use super::taskfile::{ABRT, BSY, DRQ, IDNF};
use crate::blk::SECTOR;

/// How a read or write moves its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// One sector a DRQ block.
    Sector,
    /// SET MULTIPLE's count of sectors a DRQ block.
    Multiple,
    /// The bus master.
    Dma,
}

/// What a command code asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Nop,
    DeviceReset,
    Read {
        by: By,
        ext: bool,
    },
    Write {
        by: By,
        ext: bool,
    },
    Verify {
        ext: bool,
    },
    Recalibrate,
    Seek,
    Diagnostic,
    InitializeParameters,
    Packet,
    IdentifyPacket,
    Identify,
    Smart,
    SetMultiple,
    Flush,
    SetFeatures,
    CheckPower,
    /// Standby or sleep (true), idle (false).
    Power {
        standby: bool,
    },
    NativeMax {
        ext: bool,
    },
    Other,
}

fn decode(code: u8) -> Command {
    let read = |by, ext| Command::Read { by, ext };
    let write = |by, ext| Command::Write { by, ext };
    match code {
        0x00 => Command::Nop,
        0x08 => Command::DeviceReset,
        0x10..=0x1F => Command::Recalibrate,
        0x20 | 0x21 => read(By::Sector, false),
        0x24 => read(By::Sector, true),
        0x25 => read(By::Dma, true),
        0x27 => Command::NativeMax { ext: true },
        0x29 => read(By::Multiple, true),
        0x30 | 0x31 => write(By::Sector, false),
        0x34 => write(By::Sector, true),
        0x35 | 0x3D => write(By::Dma, true),
        0x39 | 0xCE => write(By::Multiple, true),
        0x40 | 0x41 => Command::Verify { ext: false },
        0x42 => Command::Verify { ext: true },
        0x70..=0x7F => Command::Seek,
        0x90 => Command::Diagnostic,
        0x91 => Command::InitializeParameters,
        0xA0 => Command::Packet,
        0xA1 => Command::IdentifyPacket,
        0xB0 => Command::Smart,
        0xC4 => read(By::Multiple, false),
        0xC5 => write(By::Multiple, false),
        0xC6 => Command::SetMultiple,
        0xC8 | 0xC9 => read(By::Dma, false),
        0xCA | 0xCB => write(By::Dma, false),
        0xE7 | 0xEA => Command::Flush,
        0xE5 | 0x98 => Command::CheckPower,
        0xE0 | 0xE2 | 0xE6 | 0x94 | 0x96 | 0x99 => Command::Power { standby: true },
        0xE1 | 0xE3 | 0x95 | 0x97 => Command::Power { standby: false },
        0xEC => Command::Identify,
        0xEF => Command::SetFeatures,
        0xF8 => Command::NativeMax { ext: false },
        _ => Command::Other,
    }
}

impl Channel {
    /// The command register.
    pub fn command(&mut self, code: u8) -> Effect {
        let unit = self.selected;
        let command = decode(code);
        if self.control & SRST != 0 {
            return Effect::None;
        }
        if command == Command::Diagnostic && self.regs[unit].status & (BSY | DRQ) == 0 {
            // Both devices obey, whichever is selected ("EXECUTE DEVICE DIAGNOSTIC").
            self.soft_reset();
            self.raise();
            return Effect::None;
        }
        let busy = self.regs[unit].status & (BSY | DRQ) != 0;
        match self.drives[unit] {
            Drive::None => Effect::None,
            Drive::Cdrom(_) if command == Command::DeviceReset => self.device_reset(),
            _ if busy => Effect::None,
            Drive::Disk(disk) => {
                self.regs[unit].intrq = false;
                self.disk_command(command, disk)
            }
            Drive::Cdrom(_) => {
                self.regs[unit].intrq = false;
                self.cdrom_command(command)
            }
        }
    }

    fn device_reset(&mut self) -> Effect {
        let unit = self.selected;
        self.transfer = Transfer::default();
        if let Drive::Cdrom(cdrom) = &mut self.drives[unit] {
            cdrom.reset();
        }
        self.sign(unit);
        self.regs[unit].intrq = false;
        Effect::None
    }

    fn disk_command(&mut self, command: Command, disk: Disk) -> Effect {
        match command {
            Command::Read { by, ext } => self.read_sectors(by, ext, disk),
            Command::Write { by, ext } => self.write_sectors(by, ext, disk),
            Command::Verify { ext } => match self.address(ext, &disk) {
                Some(_) => self.done(),
                None => self.fail(0, IDNF),
            },
            Command::Recalibrate => {
                let regs = &mut self.regs[self.selected];
                (regs.mid.current, regs.high.current) = (0, 0);
                self.done()
            }
            Command::Seek => match self.start(false, &disk) {
                Some(lba) if lba < disk.sectors => self.done(),
                _ => self.fail(0, IDNF),
            },
            Command::InitializeParameters => self.initialize_parameters(),
            Command::Identify => {
                let unit = self.selected;
                if let Some(out) = self.buffer.first_chunk_mut() {
                    disk.identify(unit, out);
                }
                self.reply()
            }
            Command::Smart => self.smart(disk),
            Command::SetMultiple => self.set_multiple(),
            Command::Flush => self.flush(),
            Command::NativeMax { ext } => {
                let last = disk.sectors.saturating_sub(1);
                let regs = &mut self.regs[self.selected];
                if ext {
                    regs.set_lba48(last)
                } else {
                    regs.set_lba28(last.min(0x0FFF_FFFE))
                }
                self.done()
            }
            Command::SetFeatures | Command::CheckPower | Command::Power { .. } => {
                self.common(command)
            }
            Command::Nop
            | Command::DeviceReset
            | Command::Diagnostic
            | Command::Packet
            | Command::IdentifyPacket
            | Command::Other => self.fail(0, ABRT),
        }
    }

    fn cdrom_command(&mut self, command: Command) -> Effect {
        match command {
            Command::Packet => self.packet_start(),
            Command::IdentifyPacket => {
                if let (Drive::Cdrom(cdrom), Some(out)) =
                    (&self.drives[self.selected], self.buffer.first_chunk_mut())
                {
                    cdrom.identify(self.selected, out);
                }
                self.reply()
            }
            // "IDENTIFY DEVICE" and "READ SECTOR(S)": aborted, with the packet signature in place.
            Command::Identify | Command::Read { by: By::Sector, ext: false } => {
                self.regs[self.selected].sign(true);
                self.fail(0, ABRT)
            }
            Command::SetFeatures | Command::CheckPower | Command::Power { .. } => {
                self.common(command)
            }
            Command::Flush => self.done(),
            Command::Nop
            | Command::DeviceReset
            | Command::Diagnostic
            | Command::Read { .. }
            | Command::Write { .. }
            | Command::Verify { .. }
            | Command::Recalibrate
            | Command::Seek
            | Command::InitializeParameters
            | Command::Smart
            | Command::SetMultiple
            | Command::NativeMax { .. }
            | Command::Other => self.fail(0, ABRT),
        }
    }

    /// Commands that both kinds of device have.
    fn common(&mut self, command: Command) -> Effect {
        match command {
            Command::SetFeatures => self.set_features(),
            Command::CheckPower => {
                let standby =
                    matches!(&self.drives[self.selected], Drive::Disk(disk) if disk.standby);
                self.regs[self.selected].count.current = if standby { 0x00 } else { 0xFF };
                self.done()
            }
            Command::Power { standby } => {
                if let Drive::Disk(disk) = &mut self.drives[self.selected] {
                    disk.standby = standby;
                }
                self.done()
            }
            _ => self.fail(0, ABRT),
        }
    }

    /// One block of 512 bytes from the buffer, by PIO.
    fn reply(&mut self) -> Effect {
        self.transfer = Transfer { kind: Kind::Reply, block: SECTOR as u32, ..Transfer::default() };
        self.offer(SECTOR as u32)
    }

    /// First sector that the registers name; `None` for a CHS address outside the translation.
    fn start(&self, ext: bool, disk: &Disk) -> Option<u64> {
        let regs = &self.regs[self.selected];
        if ext {
            return Some(regs.lba48());
        }
        if regs.is_lba() {
            return Some(regs.lba28());
        }
        let (sector, head) = (regs.low.current, regs.device & 0x0F);
        if sector == 0 || sector > disk.track || head >= disk.heads {
            return None;
        }
        let cylinder = u64::from(u16::from_le_bytes([regs.mid.current, regs.high.current]));
        let track = cylinder * u64::from(disk.heads) + u64::from(head);
        Some(track * u64::from(disk.track) + u64::from(sector) - 1)
    }

    /// First sector and count, if all of them are on the disk.
    fn address(&self, ext: bool, disk: &Disk) -> Option<(u64, u32)> {
        let count = self.regs[self.selected].count;
        let count = match (ext, count.current, count.previous) {
            (false, 0, _) => 256,
            (false, n, _) => u32::from(n),
            (true, 0, 0) => 65_536,
            (true, low, high) => u32::from(u16::from_le_bytes([low, high])),
        };
        let lba = self.start(ext, disk)?;
        (lba.checked_add(u64::from(count))? <= disk.sectors).then_some((lba, count))
    }

    /// Sets up the transfer that a read or write command names; the error register if it cannot.
    fn set_up(&mut self, kind: Kind, by: By, ext: bool, disk: Disk) -> Result<(), u8> {
        let multiple = u32::from(disk.multiple);
        if by == By::Multiple && multiple == 0 {
            return Err(ABRT);
        }
        let (lba, left) = self.address(ext, &disk).ok_or(IDNF)?;
        let sectors = if by == By::Multiple { multiple } else { 1 };
        if let Drive::Disk(disk) = &mut self.drives[self.selected] {
            disk.standby = false;
        }
        self.transfer = Transfer {
            phase: Phase::Idle,
            kind,
            dma: by == By::Dma,
            ext,
            lba,
            left,
            asked: 0,
            block: sectors * SECTOR as u32,
            pos: 0,
            end: 0,
            filled: 0,
        };
        Ok(())
    }

    fn read_sectors(&mut self, by: By, ext: bool, disk: Disk) -> Effect {
        match self.set_up(Kind::Read, by, ext, disk) {
            Err(error) => self.fail(0, error),
            Ok(()) if by == By::Dma => self.dma_ready(),
            Ok(()) => self.fetch(),
        }
    }

    fn write_sectors(&mut self, by: By, ext: bool, disk: Disk) -> Effect {
        if disk.read_only {
            return self.fail(0, ABRT);
        }
        match self.set_up(Kind::Write, by, ext, disk) {
            Err(error) => self.fail(0, error),
            Ok(()) if by == By::Dma => self.dma_ready(),
            Ok(()) => {
                // The first block is asked for without an interrupt ("PIO data-out protocol").
                self.collect();
                Effect::None
            }
        }
    }

    fn initialize_parameters(&mut self) -> Effect {
        let regs = self.regs[self.selected];
        let track = regs.count.current;
        if track == 0 {
            return self.fail(0, ABRT);
        }
        if let Drive::Disk(disk) = &mut self.drives[self.selected] {
            disk.track = track;
            disk.heads = (regs.device & 0x0F) + 1;
        }
        self.done()
    }

    fn set_multiple(&mut self) -> Effect {
        let count = self.regs[self.selected].count.current;
        if count > MAX_MULTIPLE || !(count == 0 || count.is_power_of_two()) {
            return self.fail(0, ABRT);
        }
        if let Drive::Disk(disk) = &mut self.drives[self.selected] {
            disk.multiple = count;
        }
        self.done()
    }

    fn set_features(&mut self) -> Effect {
        let regs = self.regs[self.selected];
        let known = match (regs.features.current, &mut self.drives[self.selected]) {
            (0x03, Drive::Disk(disk)) => disk.set_mode(regs.count.current),
            (0x03, Drive::Cdrom(cdrom)) => cdrom.set_mode(regs.count.current),
            (code @ (0x02 | 0x82), Drive::Disk(disk)) => {
                disk.write_cache = code == 0x02;
                true
            }
            (code @ (0x55 | 0xAA), Drive::Disk(disk)) => {
                disk.look_ahead = code == 0xAA;
                true
            }
            // Keep or revert settings over a soft reset: they are kept here.
            (0x66 | 0xCC, _) => true,
            _ => false,
        };
        if !known {
            return self.fail(0, ABRT);
        }
        // Turning the cache off makes durable what it holds ("SET FEATURES", write cache).
        if regs.features.current == 0x82 { self.flush() } else { self.done() }
    }

    fn smart(&mut self, disk: Disk) -> Effect {
        let unit = self.selected;
        let regs = &mut self.regs[unit];
        let code = regs.features.current;
        if [regs.mid.current, regs.high.current] != [0x4F, 0xC2] || (!disk.smart && code != 0xD8) {
            return self.fail(0, ABRT);
        }
        match code {
            0xD0 | 0xD1 => {
                if let Some(out) = self.buffer.first_chunk_mut() {
                    disk.smart_data(out);
                }
                self.reply()
            }
            // Enable, disable.
            0xD8 | 0xD9 => {
                if let Drive::Disk(disk) = &mut self.drives[unit] {
                    disk.smart = code == 0xD8;
                }
                self.done()
            }
            // Return status: the registers keep 4Fh, C2h, which means no threshold is passed.
            // Autosave and offline collection have nothing to do.
            0xD2 | 0xD4 | 0xDA => self.done(),
            _ => self.fail(0, ABRT),
        }
    }
}
