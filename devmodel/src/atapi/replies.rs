//! The tables a CD drive answers with: inquiry, mode pages, contents, configuration, events.
//!
//! MMC-5 unless a line says otherwise. Each is built whole and cut to the allocation length.

use super::{BLOCK, Cdrom, Event, RAW_BLOCK, Reply, Sense, reply};

/// Blocks above which the medium is called a DVD: 99 minutes, more than any CD holds.
const CD_BLOCKS: u32 = 99 * 60 * 75;
/// Feature profile: CD-ROM.
const CD_ROM: u16 = 0x0008;
/// Feature profile: DVD-ROM.
const DVD_ROM: u16 = 0x0010;

/// A reply under construction; what does not fit is dropped, and no caller writes that much.
struct Table {
    bytes: [u8; 128],
    len: usize,
}

impl Table {
    fn new() -> Table {
        Table { bytes: [0; 128], len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            to.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Sets a big-endian length in the first two bytes, counting what follows them.
    fn sized(mut self) -> Table {
        let len = (self.len.saturating_sub(2) as u16).to_be_bytes();
        self.bytes[..2].copy_from_slice(&len);
        self
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Minute, second, frame of a block; block 0 lies at 00:02:00.
fn msf(block: u32) -> [u8; 3] {
    let frames = block + 150;
    // Beyond 255 minutes (a DVD) the minute saturates.
    [(frames / 4500).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

/// An address field in the form that the packet asks for.
fn address(block: u32, as_msf: bool) -> [u8; 4] {
    if as_msf {
        let [m, s, f] = msf(block);
        [0, m, s, f]
    } else {
        block.to_be_bytes()
    }
}

fn bcd(value: u8) -> u8 {
    ((value / 10 % 10) << 4) | (value % 10)
}

/// Turns `blocks` blocks of 2,048 bytes, of which the first is block `first`, into blocks of 2,352
/// in place; returns the bytes. Error correction is left zero, as a drive with it off gives it.
pub fn expand_raw(buffer: &mut [u8], first: u32, blocks: u32) -> u32 {
    let blocks = (blocks as usize).min(buffer.len() / RAW_BLOCK);
    for i in (0..blocks).rev() {
        let at = i * RAW_BLOCK;
        buffer.copy_within(i * BLOCK..(i + 1) * BLOCK, at + 16);
        let raw = &mut buffer[at..at + RAW_BLOCK];
        raw[..12].copy_from_slice(&[0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
        let [m, s, f] = msf(first.saturating_add(i as u32));
        raw[12..16].copy_from_slice(&[bcd(m), bcd(s), bcd(f), 1]);
        raw[16 + BLOCK..].fill(0);
    }
    (blocks * RAW_BLOCK) as u32
}

impl Cdrom {
    /// SPC-3 "INQUIRY": a removable CD device, ATAPI.
    pub(super) fn inquiry(&self) -> [u8; 36] {
        let mut data = [b' '; 36];
        data[..8].copy_from_slice(&[0x05, 0x80, 0x05, 0x32, 31, 0, 0, 0]);
        // The model's first word is the vendor, the rest the product.
        let split = self.model.iter().position(|&c| c == b' ').unwrap_or(8);
        let (vendor, product) = self.model.split_at(split.min(8));
        data[8..8 + vendor.len()].copy_from_slice(vendor);
        for (to, from) in data[16..32].iter_mut().zip(product.iter().skip(1)) {
            *to = *from;
        }
        data[32..].copy_from_slice(b"1.0 ");
        data
    }

    pub(super) fn mode_sense(
        &self,
        p: &[u8; 12],
        ten: bool,
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        let (control, page) = (p[2] >> 6, p[2] & 0x3F);
        if control == 3 {
            return Err(Sense::NO_SAVING);
        }
        // SFF-8020i "Medium type code": door open, no disc, 120 mm data.
        let medium = match (self.open, self.blocks) {
            (true, _) => 0x71,
            (_, None) => 0x70,
            _ => 0x01,
        };
        let mut table = Table::new();
        if ten {
            table.put(&[0, 0, medium, 0, 0, 0, 0, 0]);
        } else {
            table.put(&[0, medium, 0, 0]);
        }
        let header = table.len;
        // Control 1 asks which bits can be changed: only those of page 1.
        let fixed = |value: u8| if control == 1 { 0 } else { value };
        let wanted = |code: u8| page == code || page == 0x3F;
        if wanted(0x01) {
            let [flags, retries] = match control {
                0 => self.recovery,
                1 => [0xFF, 0xFF],
                _ => [0, 5],
            };
            table.put(&[0x01, 10, flags, retries, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        if wanted(0x0D) {
            table.put(&[0x0D, 6, 0, fixed(0x0D), 0, fixed(60), 0, fixed(75)]);
        }
        if wanted(0x0E) {
            table.put(&[0x0E, 14, fixed(4), 0, 0, 0, 0, fixed(75), 1, 255, 2, 255, 0, 0, 0, 0]);
        }
        if wanted(0x1A) {
            table.put(&[0x1A, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        if wanted(0x2A) {
            // Reads CD-R, CD-RW, method 2, DVD-ROM; multisession, mode 2; tray, eject, lock;
            // 4,234 KB/s (24x), 512 KiB buffer.
            let lock = 0x29 | u8::from(self.locked) << 1;
            let page = [
                0x3F, 0, 0x70, 0x60, lock, 0, 0x10, 0x8A, 0, 2, 2, 0, 0x10, 0x8A, 0, 0, 0, 0, 0, 0,
            ];
            table.put(&[0x2A, page.len() as u8]);
            table.put(&page.map(fixed));
        }
        if table.len == header {
            return Err(Sense::BAD_FIELD);
        }
        if !ten {
            table.bytes[0] = (table.len - 1) as u8;
            return Ok(reply(table.as_slice(), allocation, buffer));
        }
        Ok(reply(table.sized().as_slice(), allocation, buffer))
    }

    /// "READ TOC/PMA/ATIP": one session, one data track.
    pub(super) fn read_toc(
        &self,
        p: &[u8; 12],
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        let blocks = self.loaded()?;
        let as_msf = p[1] & 2 != 0;
        // SFF-8020i drivers put the format into the last byte's top bits.
        let format = if p[2] & 0x0F != 0 { p[2] & 0x0F } else { p[9] >> 6 };
        let mut table = Table::new();
        table.put(&[0, 0, 1, 1]);
        match format {
            0 => {
                if p[6] > 1 && p[6] != 0xAA {
                    return Err(Sense::BAD_FIELD);
                }
                if p[6] <= 1 {
                    table.put(&[0, 0x14, 1, 0]);
                    table.put(&address(0, as_msf));
                }
                table.put(&[0, 0x14, 0xAA, 0]);
                table.put(&address(blocks, as_msf));
            }
            1 => {
                table.put(&[0, 0x14, 1, 0]);
                table.put(&address(0, as_msf));
            }
            2 => {
                let points =
                    [(0xA0, [1, 0, 0]), (0xA1, [1, 0, 0]), (0xA2, msf(blocks)), (1, msf(0))];
                for (point, [m, s, f]) in points {
                    table.put(&[1, 0x14, 0, point, 0, 0, 0, 0, m, s, f]);
                }
            }
            _ => return Err(Sense::BAD_FIELD),
        }
        Ok(reply(table.sized().as_slice(), allocation, buffer))
    }

    /// "GET CONFIGURATION": what a read-only drive must list.
    pub(super) fn configuration(&self, p: &[u8; 12], allocation: u16, buffer: &mut [u8]) -> Reply {
        let dvd = self.blocks.is_some_and(|blocks| blocks > CD_BLOCKS);
        let profile = match self.loaded() {
            Err(_) => 0,
            Ok(_) if dvd => DVD_ROM,
            Ok(_) => CD_ROM,
        };
        let current = |profile_now: bool| u8::from(profile_now);
        let (kind, first) = (p[1] & 3, u16::from_be_bytes([p[2], p[3]]));
        let [p1, p0] = profile.to_be_bytes();
        let mut table = Table::new();
        table.put(&[0, 0, 0, 0, 0, 0, p1, p0]);
        let (is_dvd, is_cd) = (current(profile == DVD_ROM), current(profile == CD_ROM));
        let loaded = current(profile != 0);
        // Feature, version and flags (current, persistent), additional data.
        let features: [(u16, u8, &[u8]); 8] = [
            (0x0000, 0x03, &[0, 0x10, is_dvd, 0, 0, 0x08, is_cd, 0]),
            // Core: ATAPI, device-busy events.
            (0x0001, 0x0B, &[0, 0, 0, 2, 1, 0, 0, 0]),
            // Removable medium: tray, eject, lock.
            (0x0003, 0x03, &[0x29, 0, 0, 0]),
            (0x0010, loaded, &[0, 0, 8, 0, 0, 1, 0, 0]),
            (0x001E, 0x08 | is_cd, &[0, 0, 0, 0]),
            (0x001F, is_dvd, &[]),
            (0x0100, 0x03, &[]),
            (0x0105, 0x03, &[]),
        ];
        for (code, flags, data) in features {
            let wanted = match kind {
                0 => code >= first,
                1 => code >= first && flags & 1 != 0,
                _ => code == first,
            };
            if wanted {
                let [c1, c0] = code.to_be_bytes();
                table.put(&[c1, c0, flags, data.len() as u8]);
                table.put(data);
            }
        }
        let len = (table.len as u32 - 4).to_be_bytes();
        table.bytes[..4].copy_from_slice(&len);
        reply(table.as_slice(), allocation, buffer)
    }

    /// "GET EVENT STATUS NOTIFICATION": media events, polled only.
    pub(super) fn event_status(
        &mut self,
        p: &[u8; 12],
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        if p[1] & 1 == 0 {
            return Err(Sense::BAD_FIELD);
        }
        if p[4] & 0x10 == 0 {
            // No event class in common.
            return Ok(reply(&[0, 2, 0x80, 0x10], allocation, buffer));
        }
        // A host that cannot take the event keeps it ("header only" when the allocation is 4).
        let event = if allocation > 4 { core::mem::take(&mut self.event) } else { Event::None };
        let status = u8::from(self.open) | u8::from(self.blocks.is_some() && !self.open) << 1;
        Ok(reply(&[0, 6, 4, 0x10, event as u8, status, 0, 0], allocation, buffer))
    }

    /// "READ DISC INFORMATION": a finished disc of one session.
    pub(super) fn disc_information(
        &self,
        p: &[u8; 12],
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        self.loaded()?;
        if p[1] & 7 != 0 {
            return Err(Sense::BAD_FIELD);
        }
        let mut data = [0; 34];
        // Length, complete and last session complete, first track, sessions, first and last track
        // of the last session, unrestricted use.
        data[1] = 32;
        data[2..8].copy_from_slice(&[0x0E, 1, 1, 1, 1, 0x20]);
        data[16..24].fill(0xFF);
        Ok(reply(&data, allocation, buffer))
    }

    /// "READ TRACK INFORMATION": the one track.
    pub(super) fn track_information(
        &self,
        p: &[u8; 12],
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        let blocks = self.loaded()?;
        let number = u32::from_be_bytes([p[2], p[3], p[4], p[5]]);
        match p[1] & 3 {
            0 if number < blocks => {}
            1 if number == 1 => {}
            2 if number == 1 => {}
            _ => return Err(Sense::BAD_FIELD),
        }
        let mut data = [0; 36];
        data[1] = 34;
        // Track 1, session 1, data track recorded uninterrupted, mode 1.
        data[2..7].copy_from_slice(&[1, 1, 0, 4, 1]);
        data[24..28].copy_from_slice(&blocks.to_be_bytes());
        Ok(reply(&data, allocation, buffer))
    }

    /// "READ SUB-CHANNEL": no audio plays, no catalogue number is known.
    pub(super) fn sub_channel(
        &self,
        p: &[u8; 12],
        allocation: u16,
        buffer: &mut [u8],
    ) -> Result<Reply, Sense> {
        self.loaded()?;
        let mut table = Table::new();
        // Audio status 15h: no status to return.
        table.put(&[0, 0x15, 0, 0]);
        if p[2] & 0x40 != 0 {
            match p[3] {
                1 => {
                    table.put(&[1, 0x14, 1, 1]);
                    table.put(&address(0, p[1] & 2 != 0));
                    table.put(&address(0, p[1] & 2 != 0));
                }
                format @ (2 | 3) => {
                    table.put(&[
                        format,
                        if format == 3 { 0x14 } else { 0 },
                        u8::from(format == 3),
                        0,
                    ]);
                    table.put(&[0; 16]);
                }
                _ => return Err(Sense::BAD_FIELD),
            }
        }
        let len = (table.len as u16 - 4).to_be_bytes();
        table.bytes[2..4].copy_from_slice(&len);
        Ok(reply(table.as_slice(), allocation, buffer))
    }
}
