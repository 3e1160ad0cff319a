//! INT 13h extensions (T13 "BIOS Enhanced Disk Drive Services", EDD 3.0): 41h to 48h and 4Eh.

use super::{Drive, Xfer, status};
use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::{DiskKind, Platform};

/// 41h: are the extensions there? BX = 55AAh comes back swapped.
pub(super) fn int13_41_check<P: Platform>(c: &mut Call<'_, P>, dl: u8, drive: &Drive) -> Flow {
    if c.bx() != 0x55aa || drive.kind == DiskKind::Floppy {
        return super::finish(c, dl, status::BAD_COMMAND);
    }
    c.set_bx(0xaa55);
    // Version 3.0; packet access, locking and ejecting for removable drives, and EDD information.
    c.set_ah(0x30);
    c.set_cx(if drive.kind == DiskKind::Cd { 0x7 } else { 0x5 });
    c.set_cf(false);
    Flow::Done
}

/// Where a 42h to 44h packet points.
struct Packet {
    count: u16,
    lba: u64,
    linear: u32,
}

fn packet<P: Platform>(c: &mut Call<'_, P>) -> Option<(u32, Packet)> {
    let at = c.ds(c.si());
    let mut bytes = [0; 16];
    c.read(at, &mut bytes);
    let word = |n: usize| u16::from_le_bytes([bytes[n], bytes[n + 1]]);
    if bytes[0] < 16 {
        return None;
    }
    let (offset, segment) = (word(4), word(6));
    let linear = if bytes[0] >= 24 && (offset, segment) == (0xffff, 0xffff) {
        // EDD 3.0: a flat 64-bit address follows; this machine's INT 13h reaches 4 GiB.
        u32::try_from(c.read64(at.wrapping_add(16))).ok()?
    } else {
        (u32::from(segment) << 4) + u32::from(offset)
    };
    let lba = u64::from_le_bytes([
        bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ]);
    Some((at, Packet { count: word(2), lba, linear }))
}

impl Bios {
    /// 42h read, 43h write, 44h verify: the packet at DS:SI. On failure its count becomes 0.
    pub(super) fn int13_42_to_44_extended<P: Platform>(
        &mut self,
        c: &mut Call<'_, P>,
        function: u8,
        drive: &Drive,
    ) -> Xfer {
        let Some((at, packet)) = packet(c) else { return Xfer::Status(status::BAD_COMMAND) };
        if drive.kind == DiskKind::Floppy {
            return Xfer::Status(status::BAD_COMMAND);
        }
        // EDD allows 127 sectors a call; what fits in 256 KiB works.
        let most = if drive.sector == 2048 { 128 } else { 512 };
        let done = if packet.count > most {
            Xfer::Status(status::BAD_COMMAND)
        } else if function == 0x44 {
            self.verify(drive, packet.lba, packet.count.into())
        } else {
            let write = function == 0x43;
            let (lba, count) = (packet.lba, packet.count.into());
            self.transfer(c, drive, write, lba, count, packet.linear)
        };
        if matches!(done, Xfer::Status(_)) {
            c.write16(at.wrapping_add(2), 0);
        }
        done
    }
}

/// 48h: drive parameters, as many bytes as the caller's buffer holds: 26, 30 or 66.
pub(super) fn int13_48_parameters<P: Platform>(c: &mut Call<'_, P>, drive: &Drive) -> u8 {
    let at = c.ds(c.si());
    let room = c.read16(at);
    if room < 26 || drive.kind == DiskKind::Floppy {
        return status::BAD_COMMAND;
    }
    let mut out = [0; 66];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = out.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    let cd = drive.kind == DiskKind::Cd;
    let sectors = drive.blocks / drive.sector_blocks();
    if cd {
        // Removable, lockable, with change line; no geometry.
        put(2, &0x74u16.to_le_bytes());
        for field in [4, 8, 12] {
            put(field, &u32::MAX.to_le_bytes());
        }
        put(16, &u64::MAX.to_le_bytes());
    } else {
        let own = drive.info.physical;
        let own = if own.cylinders == 0 || drive.emulated { drive.chs } else { own };
        // DMA boundaries are handled; geometry is valid while it can name every sector.
        let named = drive.blocks <= 16383 * 16 * 63;
        put(2, &(if named { 3u16 } else { 1 }).to_le_bytes());
        put(4, &own.cylinders.to_le_bytes());
        put(8, &own.heads.to_le_bytes());
        put(12, &own.sectors.to_le_bytes());
        put(16, &sectors.to_le_bytes());
    }
    put(24, &(drive.sector as u16).to_le_bytes());
    let mut length = 26u16;
    if room >= 30 {
        length = 30;
        put(26, &u32::MAX.to_le_bytes());
        if let Some(ata) = drive.info.ata {
            let table = device_table(c, drive, &ata);
            put(26, &table.to_le_bytes());
            if room >= 66 {
                length = 66;
                put(30, &0xbeddu16.to_le_bytes());
                put(32, &[36]);
                put(36, b"PCI ATA     ");
                put(40, b"ATA     ");
                put(48, &[0, ata.devfn >> 3, ata.devfn & 7, ata.channel, 0, 0, 0, 0]);
                put(56, &[u8::from(ata.slave), 0, 0, 0, 0, 0, 0, 0]);
            }
        }
    }
    put(0, &length.to_le_bytes());
    let sum = out[30..65].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if length == 66 {
        out[65] = sum.wrapping_neg();
    }
    c.write(at, out.get(..length.into()).unwrap_or(&out));
    status::OK
}

/// The device parameter table extension, kept in the EBDA; returns its far pointer.
fn device_table<P: Platform>(
    c: &mut Call<'_, P>,
    drive: &Drive,
    ata: &crate::platform::AtaPlace,
) -> u32 {
    const OFFSET: u32 = 0x70;
    let mut table = [0; 16];
    table[0..2].copy_from_slice(&ata.io_base.to_le_bytes());
    table[2..4].copy_from_slice(&ata.ctrl_base.to_le_bytes());
    table[4] = 0xe0 | u8::from(ata.slave) << 4;
    table[6] = ata.irq;
    table[7] = 1;
    // CHS translated by LBA assist, LBA addressing, 32-bit transfers; ATAPI and removable for CDs.
    let options: u16 = if drive.kind == DiskKind::Cd { 0x70 } else { 0x98 };
    table[10..12].copy_from_slice(&options.to_le_bytes());
    table[14] = 0x11;
    table[15] = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
    c.write((u32::from(bda::EBDA) << 4) + OFFSET, &table);
    u32::from(bda::EBDA) << 16 | OFFSET
}

/// 4Eh: hardware configuration. DMA and prefetch are the machine's business: nothing changes.
pub(super) fn int13_4e_hardware<P: Platform>(c: &mut Call<'_, P>) -> u8 {
    match c.al() {
        0..=6 => {
            c.set_al(0);
            status::OK
        }
        _ => status::BAD_COMMAND,
    }
}
