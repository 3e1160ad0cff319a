//! Power-on: chips by their ports, the vectors and data areas, shadow RAM, option ROMs.

mod chips;
mod cmos;
pub(crate) mod mtrr;
pub(crate) mod pci;

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::fonts;
use crate::int13::{count, nth};
use crate::platform::{DiskKind, Platform};
use crate::rom::stubs as s;
use crate::rom::{ROM, ROM_BASE, VIDEO_BASE, VIDEO_CODE, VIDEO_SIZE, far};
use alloc::format;
use arch::GuestPhys;

/// Where fonts are in the video ROM.
pub(crate) mod video_rom {
    /// INT 10h 1Bh's static table, 16 bytes.
    pub const FUNCTIONALITY: u16 = 0x200;
    /// A word of zeros: a table of 9-dot glyphs with no entry.
    pub const NO_CHANGES: u16 = 0x220;
    /// What 40:A8 points to, and behind it the secondary table and the display combinations.
    pub const SAVE_TABLE: u16 = 0x240;
    /// VBE mode numbers.
    pub const VBE_LIST: u16 = 0x300;
    pub const FONT_8X16: u16 = 0x1000;
    pub const FONT_8X14: u16 = 0x2000;
    pub const FONT_8X8: u16 = 0x3000;
}

impl Bios {
    /// The first trap after reset: CMOS 0Fh says whether a program only wants to be back in real mode (AT
    /// technical reference, "Shutdown"). AL answers.
    pub(crate) fn reset_entry<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let code = c.cmos(0x0f);
        c.set_cmos(0x0f, 0);
        let answer = match code {
            0x05 => {
                // Ends what interrupts were in service, then jumps.
                c.bus.port_out(0xa0, 1, 0x20);
                c.bus.port_out(0x20, 1, 0x20);
                1
            }
            0x0a => 1,
            0x09 | 0x0b => 2,
            0x0c => 3,
            _ => 0,
        };
        c.set_ax(answer);
        Flow::Done
    }

    /// Everything that Rust can do before 16-bit code must run again.
    pub(crate) fn post<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        let bits = if (32..=52).contains(&c.al()) { c.al() } else { 36 };
        *self = Bios { rom_segment: 0xc800, physical_bits: bits, ..Bios::new() };
        self.set_up_pci(c);
        shadow(c);
        chips::interrupts_and_timers(c);
        chips::local_apic(c);
        vectors(c);
        self.data_area(c);
        self.first_mode(c);
        crate::int10::write_rom_tables(c);
        seal_video_rom(c);
        crate::tables::write(c);
        pci::lock_shadow(c);
        self.greet(c);
        c.stub_flags(false, false);
        Flow::Done
    }

    /// Finds the next option ROM: carry and its segment in SI, or no carry behind the last (PnP BIOS 1.0A,
    /// "Option ROM"; every 2 KiB from C8000h to EFFFFh).
    pub(crate) fn option_rom<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        while self.rom_segment < 0xf000 {
            let at = u64::from(self.rom_segment) << 4;
            let mut head = [0; 3];
            c.phys_read(GuestPhys(at), &mut head);
            let size = u64::from(head[2]) * 512;
            if head[..2] != [0x55, 0xaa] || size == 0 || at + size > 0xf_0000 {
                self.rom_segment += 0x80;
                continue;
            }
            let mut sum = 0u8;
            let mut block = [0; 512];
            for offset in (0..size).step_by(512) {
                c.phys_read(GuestPhys(at + offset), &mut block);
                sum = block.iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
            }
            let segment = self.rom_segment;
            self.rom_segment += (size.div_ceil(2048) * 0x80) as u16;
            if sum == 0 {
                c.set_si(segment);
                c.stub_flags(true, false);
                return Flow::Done;
            }
        }
        c.stub_flags(false, false);
        Flow::Done
    }

    fn greet<P: Platform>(&self, c: &mut Call<'_, P>) {
        let config = c.bus.config();
        if config.quiet {
            return;
        }
        let mib = (config.low_ram + config.high_ram) >> 20;
        let text = format!(
            "Xenolith BIOS {}, {mib} MiB, {} CPU(s)\r\n\r\n",
            env!("CARGO_PKG_VERSION"),
            config.apic_ids.len()
        );
        self.print(c, &text);
    }

    fn data_area<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        let ebda = u32::from(bda::EBDA) << 4;
        c.write(0x400, &[0; 0x100]);
        c.write(ebda, &[0; 0x400]);
        c.write8(ebda, 1);
        let mut serial = 0;
        for port in [0x3f8u16, 0x2f8] {
            // An absent 16550 reads as ones.
            if c.bus.port_in(port + 2, 1) & 0xff != 0xff {
                c.set_bda16(bda::COM + serial * 2, port);
                serial += 1;
            }
        }
        c.set_bda16(bda::EBDA_SEGMENT, bda::EBDA);
        c.set_bda16(bda::MEMORY_KB, bda::CONVENTIONAL_KB);
        c.set_bda16(bda::KEY_HEAD, 0x1e);
        c.set_bda16(bda::KEY_TAIL, 0x1e);
        c.set_bda16(bda::KEY_START, 0x1e);
        c.set_bda16(bda::KEY_END, 0x3e);
        c.set_bda8(bda::SHIFT3, 0x10);
        c.set_bda32(bda::COM_TIMEOUT, 0x0a0a_0a0a);
        c.set_bda32(bda::LPT_TIMEOUT, 0x1414_1414);
        // Equipment: 80x25 colour, coprocessor, PS/2 mouse, serial ports; floppies follow.
        c.set_bda16(bda::EQUIPMENT, 0x0026 | (serial as u16) << 9);
        set_floppy_equipment(c, count(c.bus, DiskKind::Floppy));
        let disks = count(c.bus, DiskKind::Hard);
        c.set_bda8(bda::HARD_COUNT, disks);
        for n in 0..4 {
            if let Some((_, info)) = nth(c.bus, DiskKind::Floppy, n) {
                self.floppy_media[usize::from(n)] = info.media;
            }
        }
        self.cd_media = nth(c.bus, DiskKind::Cd, 0).map_or(0, |(_, info)| info.media);
        cmos::clock_to_ticks(c);
        cmos::fill(c);
        cmos::hard_disk_tables(self, c);
    }
}

/// Says in the equipment word how many floppy drives there are.
pub(crate) fn set_floppy_equipment<P: Platform>(c: &mut Call<'_, P>, floppies: u8) {
    let word = c.bda16(bda::EQUIPMENT) & !0xc1;
    let drives = match u16::from(floppies.min(4)) {
        0 => 0,
        n => 1 | (n - 1) << 6,
    };
    c.set_bda16(bda::EQUIPMENT, word | drives);
}

/// Copies the ROMs into the RAM behind them.
fn shadow<P: Platform>(c: &mut Call<'_, P>) {
    let ram = c.bus.ram();
    // The board has RAM up to 1 MiB; on one that has not, the ROM stays as it is.
    let _ = ram.write_slice(GuestPhys(ROM_BASE.into()), &ROM);
    let font = GuestPhys(u64::from(ROM_BASE) + u64::from(s::FONT_8X8));
    let _ = ram.write_slice(font, &fonts::FONT_8X8[..1024]);
    let video = |offset: u16| GuestPhys(u64::from(VIDEO_BASE) + u64::from(offset));
    let _ = ram.fill(video(0), VIDEO_SIZE.into(), 0);
    let _ = ram.write_slice(video(0), &VIDEO_CODE);
    let _ = ram.write_slice(video(video_rom::FONT_8X16), fonts::FONT_8X16);
    let _ = ram.write_slice(video(video_rom::FONT_8X14), fonts::FONT_8X14);
    let _ = ram.write_slice(video(video_rom::FONT_8X8), fonts::FONT_8X8);
}

/// Makes the video ROM's sum zero.
fn seal_video_rom<P: Platform>(c: &Call<'_, P>) {
    let ram = c.bus.ram();
    let mut sum = 0u8;
    for at in 0..VIDEO_SIZE - 1 {
        sum = sum.wrapping_add(ram.read_u8(GuestPhys(u64::from(VIDEO_BASE + at))).unwrap_or(0));
    }
    let last = GuestPhys(u64::from(VIDEO_BASE + VIDEO_SIZE - 1));
    let _ = ram.write_u8(last, sum.wrapping_neg());
}

/// The interrupt vectors (AT technical reference, "Interrupt Vector List").
fn vectors<P: Platform>(c: &mut Call<'_, P>) {
    let video = |offset: u16| (VIDEO_BASE >> 4) << 16 | u32::from(offset);
    for vector in 0..0x78u32 {
        let to = match vector {
            0x02 => far(s::INT02),
            0x05 => far(s::INT05),
            0x08 => far(s::INT08),
            0x09 => far(s::INT09),
            0x0a..=0x0d | 0x0f => far(s::IRQ_MASTER),
            0x0e => far(s::INT0E),
            0x10 => video(s::VIDEO_INT10),
            0x11 => far(s::INT11),
            0x12 => far(s::INT12),
            0x13 => far(s::INT13),
            0x14 => far(s::INT14),
            0x15 => far(s::INT15),
            0x16 => far(s::INT16),
            0x17 => far(s::INT17),
            0x18 => far(s::INT18),
            0x19 => far(s::INT19),
            0x1a => far(s::INT1A),
            0x1d => far(s::VIDEO_TABLE),
            0x1e => far(s::DISKETTE_TABLE),
            0x1f => video(video_rom::FONT_8X8 + 1024),
            0x40 => far(s::INT13),
            0x42 => far(s::INT10),
            0x43 => video(video_rom::FONT_8X16),
            0x41 => u32::from(bda::EBDA) << 16 | bda::EBDA_HARD[0],
            0x46 => u32::from(bda::EBDA) << 16 | bda::EBDA_HARD[1],
            0x60..=0x67 => 0,
            0x70 => far(s::INT70),
            0x71 => far(s::INT71),
            0x72 | 0x73 => far(s::IRQ_SLAVE),
            0x74 => far(s::INT74),
            0x75 => far(s::INT75),
            0x76 => far(s::INT76),
            0x77 => far(s::INT77),
            _ => far(s::DUMMY),
        };
        c.write32(vector * 4, to);
    }
    c.write(0x78 * 4, &[0; (0x100 - 0x78) * 4]);
}
