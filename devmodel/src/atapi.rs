//! An ATAPI CD/DVD-ROM drive: what its packets mean, its medium, tray, lock and sense data.
//!
//! MMC-5 and SPC-3; SFF-8020i for the mode page. Pure: `command` fills a buffer or says which
//! blocks are read, `ide/packet.rs` moves them. Discs have one data track; no audio, no writing.
//! Next: `atapi/replies.rs` for the tables, `atapi/tests.rs`.

mod replies;
#[cfg(test)]
mod tests;

use crate::blk::{DiskId, Media};
use crate::ide::disk::{seal, set_text};
use crate::state::{LoadError, require};
pub use replies::expand_raw;

/// Bytes of a data block.
pub const BLOCK: usize = 2048;
/// Bytes of a block with sync, header and error correction.
pub const RAW_BLOCK: usize = 2352;
/// Blocks of the largest disc whose end a 32-bit MSF and LBA arithmetic can name.
const MAX_BLOCKS: u32 = 0x0FFF_FFFF;

/// Sense key and additional sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    const fn new(key: u8, asc: u8, ascq: u8) -> Sense {
        Sense { key, asc, ascq }
    }

    /// No sense.
    pub const NONE: Sense = Sense::new(0, 0, 0);
    /// Medium not present.
    pub const NO_MEDIUM: Sense = Sense::new(2, 0x3A, 0x00);
    /// Medium not present, tray open.
    pub const TRAY_OPEN: Sense = Sense::new(2, 0x3A, 0x02);
    /// Unrecovered read error.
    pub const UNREADABLE: Sense = Sense::new(3, 0x11, 0x00);
    /// Logical block address out of range.
    pub const OUT_OF_RANGE: Sense = Sense::new(5, 0x21, 0x00);
    /// Illegal mode for this track.
    pub const WRONG_TRACK: Sense = Sense::new(5, 0x64, 0x00);
    /// Invalid command operation code.
    pub const BAD_COMMAND: Sense = Sense::new(5, 0x20, 0x00);
    /// Invalid field in the packet.
    pub const BAD_FIELD: Sense = Sense::new(5, 0x24, 0x00);
    /// Invalid field in the parameter list.
    pub const BAD_PARAMETER: Sense = Sense::new(5, 0x26, 0x00);
    /// Saving parameters is not supported.
    pub const NO_SAVING: Sense = Sense::new(5, 0x39, 0x00);
    /// Medium removal prevented.
    pub const LOCKED: Sense = Sense::new(5, 0x53, 0x02);
    /// The medium may have changed.
    pub const CHANGED: Sense = Sense::new(6, 0x28, 0x00);
    /// Data phase error.
    pub const TRANSPORT: Sense = Sense::new(0x0B, 0x4B, 0x00);
}

/// What a packet leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Good status, no data.
    Done,
    /// CHECK CONDITION; the caller stores the sense.
    Check(Sense),
    /// Good status; the host shall open or close the tray.
    Tray {
        /// Open it.
        open: bool,
    },
    /// This many bytes of the buffer go to the guest.
    Data(u16),
    /// This many bytes of parameters are wanted; then `select`.
    Parameters(u16),
    /// Blocks of the medium go to the guest; all of them exist.
    Read {
        /// First block.
        block: u32,
        /// How many, 1 or more.
        blocks: u32,
        /// As 2,352 bytes each.
        raw: bool,
    },
}

/// Media events as GET EVENT STATUS NOTIFICATION codes them (MMC-5 "Media Event").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Event {
    /// No change.
    #[default]
    None = 0,
    /// Someone pressed the eject button.
    EjectRequest = 1,
    /// A medium came.
    NewMedia = 2,
    /// The medium went.
    Removal = 3,
}

/// One drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdrom {
    // Fixed
    /// The disk it reads.
    pub disk: DiskId,
    model: [u8; 40],
    serial: [u8; 20],
    // Guest-visible
    /// Blocks of the medium; `None` without one.
    blocks: Option<u32>,
    open: bool,
    locked: bool,
    /// What REQUEST SENSE tells.
    pub sense: Sense,
    /// A medium change that the guest was not told of.
    changed: bool,
    event: Event,
    mode: u8,
    /// Mode page 1, byte 2 (error recovery) and byte 3 (retries).
    recovery: [u8; 2],
}

/// A drive's saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedCdrom {
    /// As [`Cdrom::disk`].
    pub disk: u8,
    /// Model.
    pub model: [u8; 40],
    /// Serial number.
    pub serial: [u8; 20],
    /// Blocks of the medium.
    pub blocks: Option<u32>,
    /// Tray open.
    pub open: bool,
    /// Door locked.
    pub locked: bool,
    /// Key, code, qualifier.
    pub sense: [u8; 3],
    /// Unit attention pending.
    pub changed: bool,
    /// Media event code.
    pub event: u8,
    /// Transfer mode.
    pub mode: u8,
    /// Mode page 1.
    pub recovery: [u8; 2],
}

impl Cdrom {
    /// A closed, unlocked drive. `model` and `serial` come from `media` where there is one.
    #[must_use]
    pub fn new(disk: DiskId, media: Option<&Media>) -> Cdrom {
        let named = media.copied().unwrap_or_else(|| Media::cdrom(0));
        Cdrom {
            disk,
            model: named.model,
            serial: named.serial,
            blocks: media.map(blocks_of),
            open: false,
            locked: false,
            sense: Sense::NONE,
            changed: false,
            event: if media.is_some() { Event::NewMedia } else { Event::None },
            mode: DEFAULT_MODE,
            recovery: [0, 5],
        }
    }

    /// RESET- or DEVICE RESET: settings as at power-on; the medium and what is not told of it stay.
    pub fn reset(&mut self) {
        let Cdrom {
            disk: _,
            model: _,
            serial: _,
            blocks: _,
            open: _,
            locked,
            sense,
            changed: _,
            event: _,
            mode,
            recovery,
        } = self;
        *locked = false;
        *sense = Sense::NONE;
        *mode = DEFAULT_MODE;
        *recovery = [0, 5];
    }

    /// A medium is put in and the tray closes.
    pub fn insert(&mut self, media: &Media) {
        self.blocks = Some(blocks_of(media));
        self.open = false;
        self.changed = true;
        self.event = Event::NewMedia;
    }

    /// The eject button: takes the medium out, or where the door is locked tells the guest and
    /// returns false.
    pub fn eject(&mut self) -> bool {
        if self.locked {
            self.event = Event::EjectRequest;
            return false;
        }
        self.remove();
        true
    }

    /// Takes the medium out, locked or not.
    pub fn remove(&mut self) {
        if self.blocks.take().is_some() {
            self.event = Event::Removal;
        }
        self.open = true;
    }

    /// Whether a medium lies in the closed drive.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.blocks.is_some() && !self.open
    }

    /// Whether the guest has locked the door.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    pub(crate) fn set_mode(&mut self, mode: u8) -> bool {
        match mode {
            0x00 | 0x01 | 0x08..=0x0C => true,
            0x20..=0x22 | 0x40..=0x45 => {
                self.mode = mode;
                true
            }
            _ => false,
        }
    }

    /// Acts on one packet. Data for the guest is put at the start of `buffer`.
    pub fn command(&mut self, packet: &[u8; 12], buffer: &mut [u8]) -> Reply {
        let p = packet;
        // SPC-3 "Unit attention condition": these four are answered without reporting it.
        if self.changed && !matches!(p[0], 0x03 | 0x12 | 0x46 | 0x4A) {
            self.changed = false;
            return Reply::Check(Sense::CHANGED);
        }
        match self.execute(p, buffer) {
            Ok(reply) => {
                if p[0] != 0x03 {
                    self.sense = Sense::NONE;
                }
                reply
            }
            Err(sense) => Reply::Check(sense),
        }
    }

    fn execute(&mut self, p: &[u8; 12], buffer: &mut [u8]) -> Result<Reply, Sense> {
        let allocation10 = u16::from_be_bytes([p[7], p[8]]);
        let allocation12 = u16::from_be_bytes([p[8], p[9]]);
        let address = u32::from_be_bytes([p[2], p[3], p[4], p[5]]);
        match p[0] {
            // TEST UNIT READY, SEEK(10)
            0x00 => self.loaded().map(|_| Reply::Done),
            0x2B => self.in_range(address, 1).map(|()| Reply::Done),
            // REQUEST SENSE
            0x03 => Ok(self.request_sense(p[4], buffer)),
            // INQUIRY
            0x12 if p[1] & 3 != 0 => Err(Sense::BAD_FIELD),
            0x12 => Ok(reply(&self.inquiry(), u16::from_be_bytes([p[3], p[4]]), buffer)),
            // MODE SELECT(6), (10)
            0x15 => Ok(Reply::Parameters(u16::from(p[4]))),
            0x55 if allocation10 > 512 => Err(Sense::BAD_FIELD),
            0x55 => Ok(Reply::Parameters(allocation10)),
            // MODE SENSE(6), (10)
            0x1A => self.mode_sense(p, false, u16::from(p[4]), buffer),
            0x5A => self.mode_sense(p, true, allocation10, buffer),
            // START STOP UNIT
            0x1B => self.start_stop(p[4]),
            // PREVENT ALLOW MEDIUM REMOVAL
            0x1E => {
                self.locked = p[4] & 1 != 0;
                Ok(Reply::Done)
            }
            // READ CAPACITY
            0x25 => {
                let last = self.loaded()?.saturating_sub(1).to_be_bytes();
                let size = (BLOCK as u32).to_be_bytes();
                let mut data = [0; 8];
                data[..4].copy_from_slice(&last);
                data[4..].copy_from_slice(&size);
                Ok(reply(&data, 8, buffer))
            }
            // READ(10), READ(12)
            0x28 => self.read(address, u32::from(allocation10), false),
            0xA8 => {
                let blocks = u32::from_be_bytes([p[6], p[7], p[8], p[9]]);
                self.read(address, blocks, false)
            }
            // SYNCHRONIZE CACHE(10), SET CD SPEED: nothing to do
            0x35 | 0xBB => Ok(Reply::Done),
            // READ SUB-CHANNEL
            0x42 => self.sub_channel(p, allocation10, buffer),
            // READ TOC/PMA/ATIP
            0x43 => self.read_toc(p, allocation10, buffer),
            // GET CONFIGURATION
            0x46 => Ok(self.configuration(p, allocation10, buffer)),
            // GET EVENT STATUS NOTIFICATION
            0x4A => self.event_status(p, allocation10, buffer),
            // STOP PLAY/SCAN
            0x4E => self.loaded().map(|_| Reply::Done),
            // READ DISC INFORMATION
            0x51 => self.disc_information(p, allocation10, buffer),
            // READ TRACK INFORMATION
            0x52 => self.track_information(p, allocation10, buffer),
            // MECHANISM STATUS
            0xBD => {
                let state = if self.open { 0x10 } else { 0 };
                Ok(reply(&[0, state, 0, 0, 0, 1, 0, 0], allocation12, buffer))
            }
            // READ CD
            0xBE => self.read_cd(p, address),
            _ => Err(Sense::BAD_COMMAND),
        }
    }

    /// Blocks of the medium, if one is ready.
    fn loaded(&self) -> Result<u32, Sense> {
        match self.blocks {
            _ if self.open => Err(Sense::TRAY_OPEN),
            Some(blocks) => Ok(blocks),
            None => Err(Sense::NO_MEDIUM),
        }
    }

    fn in_range(&self, block: u32, blocks: u32) -> Result<(), Sense> {
        let end = block.checked_add(blocks).ok_or(Sense::OUT_OF_RANGE)?;
        if end <= self.loaded()? { Ok(()) } else { Err(Sense::OUT_OF_RANGE) }
    }

    fn read(&self, block: u32, blocks: u32, raw: bool) -> Result<Reply, Sense> {
        self.in_range(block, blocks)?;
        Ok(if blocks == 0 { Reply::Done } else { Reply::Read { block, blocks, raw } })
    }

    /// MMC-5 "READ CD". The one track is mode 1; whole blocks and user data are given.
    fn read_cd(&self, p: &[u8; 12], block: u32) -> Result<Reply, Sense> {
        let blocks = u32::from_be_bytes([0, p[6], p[7], p[8]]);
        if !matches!(p[1] >> 2 & 7, 0 | 2) {
            return Err(Sense::WRONG_TRACK);
        }
        if p[10] & 7 != 0 {
            return Err(Sense::BAD_FIELD);
        }
        match p[9] {
            0x00 => self.in_range(block, blocks).map(|()| Reply::Done),
            0x10 => self.read(block, blocks, false),
            0xF8 => self.read(block, blocks, true),
            _ => Err(Sense::BAD_FIELD),
        }
    }

    fn request_sense(&mut self, allocation: u8, buffer: &mut [u8]) -> Reply {
        let mut sense = core::mem::take(&mut self.sense);
        if sense == Sense::NONE && self.changed {
            self.changed = false;
            sense = Sense::CHANGED;
        }
        let mut data = [0; 18];
        data[0] = 0x70;
        data[2] = sense.key;
        data[7] = 10;
        (data[12], data[13]) = (sense.asc, sense.ascq);
        reply(&data, u16::from(allocation), buffer)
    }

    /// MMC-5 "START STOP UNIT".
    fn start_stop(&mut self, flags: u8) -> Result<Reply, Sense> {
        // Power conditions and bare start and stop have nothing to do.
        if flags & 0xF0 != 0 || flags & 2 == 0 {
            return Ok(Reply::Done);
        }
        let open = flags & 1 == 0;
        if open && self.locked {
            return Err(if self.blocks.is_some() { Sense::LOCKED } else { Sense::NO_MEDIUM });
        }
        if open == self.open {
            return Ok(Reply::Done);
        }
        self.open = open;
        if self.blocks.is_some() {
            self.event = if open { Event::Removal } else { Event::NewMedia };
            self.changed = !open;
        }
        Ok(Reply::Tray { open })
    }

    /// Takes a MODE SELECT parameter list.
    ///
    /// # Errors
    /// The sense of a list that is cut short or sets what cannot be set.
    pub fn select(&mut self, list: &[u8]) -> Result<(), Sense> {
        // MODE SELECT(6) and (10) differ in the header; the drive has no block descriptors, so the
        // page starts at 8 or at 4, whichever holds a page whose length fits.
        let page = match (list.get(8..), list.get(4..)) {
            (Some(page), _) if fits(page) => page,
            (_, Some(page)) if fits(page) => page,
            (None, _) => return Ok(()),
            _ => return Err(Sense::BAD_PARAMETER),
        };
        match page {
            [0x01, _, flags, retries, ..] => {
                self.recovery = [*flags, *retries];
                Ok(())
            }
            // Timeouts, audio control, capabilities: accepted, nothing in them is settable.
            [0x0D | 0x0E | 0x1A | 0x1D | 0x2A, ..] => Ok(()),
            _ => Err(Sense::BAD_PARAMETER),
        }
    }

    /// IDENTIFY PACKET DEVICE (ATA/ATAPI-7).
    pub(crate) fn identify(&self, unit: usize, out: &mut [u8; 512]) {
        out.fill(0);
        let chosen =
            |class: u8| if self.mode & 0xF8 == class { 0x100 << (self.mode & 7) } else { 0u16 };
        let words: [(usize, u16); 17] = [
            // Packet device, CD-ROM, removable, DRQ within 50 us, 12-byte packets.
            (0, 0x85C0),
            (49, 0x0F00),
            (50, 0x4000),
            (51, 0x0200),
            (53, 0x0006),
            (63, 0x0007 | chosen(0x20)),
            (64, 0x0003),
            (65, 120),
            (66, 120),
            (67, 120),
            (68, 120),
            (80, 0x00F0),
            (81, 0x0016),
            // NOP, DEVICE RESET, PACKET.
            (82, 0x4210),
            (83, 0x4000),
            (88, 0x003F | chosen(0x40)),
            (93, if unit == 0 { 0x600B } else { 0x6300 }),
        ];
        for (word, value) in words {
            out[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (word, value) in [(84, 0x4000u16), (85, 0x4210), (86, 0), (87, 0x4000)] {
            out[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
        }
        set_text(out, 10, &self.serial);
        set_text(out, 23, b"1.0     ");
        set_text(out, 27, &self.model);
        seal(out);
    }

    /// The state, to be kept.
    #[must_use]
    pub fn save(&self) -> SavedCdrom {
        let Cdrom {
            disk,
            model,
            serial,
            blocks,
            open,
            locked,
            sense,
            changed,
            event,
            mode,
            recovery,
        } = *self;
        SavedCdrom {
            disk: disk.0,
            model,
            serial,
            blocks,
            open,
            locked,
            sense: [sense.key, sense.asc, sense.ascq],
            changed,
            event: event as u8,
            mode,
            recovery,
        }
    }

    /// A drive in the saved state.
    ///
    /// # Errors
    /// [`LoadError::Impossible`] for a state that no drive could be in.
    pub fn load(saved: &SavedCdrom) -> Result<Cdrom, LoadError> {
        let SavedCdrom {
            disk,
            model,
            serial,
            blocks,
            open,
            locked,
            sense,
            changed,
            event,
            mode,
            recovery,
        } = *saved;
        require(blocks.is_none_or(|blocks| blocks <= MAX_BLOCKS), "cdrom blocks")?;
        require(sense[0] <= 0x0F, "cdrom sense key")?;
        require(matches!(mode, 0x20..=0x22 | 0x40..=0x45), "cdrom transfer mode")?;
        let event = match event {
            0 => Event::None,
            1 => Event::EjectRequest,
            2 => Event::NewMedia,
            3 => Event::Removal,
            _ => return Err(LoadError::Impossible("cdrom event")),
        };
        Ok(Cdrom {
            disk: DiskId(disk),
            model,
            serial,
            blocks,
            open,
            locked,
            sense: Sense::new(sense[0], sense[1], sense[2]),
            changed,
            event,
            mode,
            recovery,
        })
    }
}

/// Ultra DMA 5.
const DEFAULT_MODE: u8 = 0x45;

fn blocks_of(media: &Media) -> u32 {
    (media.sectors / 4).min(u64::from(MAX_BLOCKS)) as u32
}

fn fits(page: &[u8]) -> bool {
    page.len() >= 4 && page.len() == usize::from(page[1]) + 2
}

/// `data` cut to the allocation length, in the buffer.
fn reply(data: &[u8], allocation: u16, buffer: &mut [u8]) -> Reply {
    let len = data.len().min(usize::from(allocation)).min(buffer.len());
    buffer[..len].copy_from_slice(&data[..len]);
    Reply::Data(len as u16)
}
