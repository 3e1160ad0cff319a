//! INT 10h 4Fh: VESA BIOS Extension 3.0 on the Bochs display interface. The protected-mode interface is
//! absent, as the standard allows.

use super::{mode, palette, state};
use crate::bda;
use crate::caller::Call;
use crate::dispatch::Bios;
use crate::platform::Platform;
use crate::post::video_rom;
use crate::rom::{VIDEO_BASE, stubs};
use crate::vgamodes::{VBE_MODES, VbeMode, VgaMode, vga_mode};

/// Display interface registers (Bochs "VBE Display Interface").
const XRES: u16 = 1;
const YRES: u16 = 2;
const BPP: u16 = 3;
pub(super) const ENABLE: u16 = 4;
const BANK: u16 = 5;
const VIRT_WIDTH: u16 = 6;
const VIRT_HEIGHT: u16 = 7;
const X_OFFSET: u16 = 8;
const Y_OFFSET: u16 = 9;
/// In the order in which they are restored.
pub(super) const SAVED: [u16; 8] = [XRES, YRES, BPP, ENABLE, VIRT_WIDTH, BANK, X_OFFSET, Y_OFFSET];

const ON: u16 = 0x01;
const EIGHT_BIT_DAC: u16 = 0x20;
const LINEAR: u16 = 0x40;
const NO_CLEAR: u16 = 0x80;

/// Window A: 64 KiB at A0000h.
const WINDOW_KB: u16 = 64;

pub(super) fn dispi<P: Platform>(c: &mut Call<'_, P>, index: u16, value: u16) {
    c.bus.port_out(0x1ce, 2, index.into());
    c.bus.port_out(0x1cf, 2, value.into());
}

pub(super) fn read_dispi<P: Platform>(c: &mut Call<'_, P>, index: u16) -> u16 {
    c.bus.port_out(0x1ce, 2, index.into());
    c.bus.port_in(0x1cf, 2) as u16
}

/// Status in AH with AL = 4Fh.
enum Status {
    Ok = 0,
    Failed = 1,
    WrongMode = 3,
}

fn graphics_mode<P: Platform>(c: &Call<'_, P>, number: u16) -> Option<&'static VbeMode> {
    let memory = c.bus.config().video_memory;
    VBE_MODES.iter().find(|mode| mode.number == number && mode.vram_bytes() <= memory)
}

fn text_mode(number: u16) -> Option<&'static VgaMode> {
    vga_mode(number).filter(|mode| mode.number >= 0x100)
}

impl Bios {
    pub(super) fn int10_4f_vbe<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        let status = match c.al() {
            0x00 => controller(c),
            0x01 => self.mode_info(c),
            0x02 => self.set_vbe_mode(c),
            0x03 => {
                let legacy = u16::from(c.bda8(bda::VIDEO_MODE));
                c.set_bx(if self.vbe_mode != 0 { self.vbe_mode } else { legacy });
                Status::Ok
            }
            0x04 => save_restore(c),
            0x05 => self.window(c),
            0x06 => self.scan_line(c),
            0x07 => self.display_start(c),
            0x08 => self.dac_format(c),
            0x09 => palette_data(c),
            _ => Status::Failed,
        };
        c.set_ax(0x4f | (status as u16) << 8);
    }

    /// The current graphics mode of VBE.
    fn vbe_current<P: Platform>(&self, c: &Call<'_, P>) -> Option<&'static VbeMode> {
        graphics_mode(c, self.vbe_mode & 0x1ff)
    }

    fn frame_buffer<P: Platform>(&self, c: &Call<'_, P>) -> u32 {
        if self.framebuffer != 0 { self.framebuffer } else { c.bus.config().framebuffer }
    }

    /// 4F01h: 256 bytes about mode CX at ES:DI.
    fn mode_info<P: Platform>(&self, c: &mut Call<'_, P>) -> Status {
        let number = c.cx() & 0x1ff;
        let mut out = [0; 256];
        if let Some(mode) = graphics_mode(c, number) {
            let memory = c.bus.config().video_memory;
            describe_graphics(&mut out, mode, memory, self.frame_buffer(c));
        } else if let Some(mode) = text_mode(number) {
            describe_text(&mut out, mode);
        } else {
            return Status::Failed;
        }
        let at = c.es(c.di());
        c.write(at, &out);
        Status::Ok
    }

    /// 4F02h: BX is the mode; bit 14 linear frame buffer, bit 15 keep memory.
    fn set_vbe_mode<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Status {
        let (number, keep) = (c.bx() & 0x1ff, c.bx() & 0x8000 != 0);
        if let Some(mode) = graphics_mode(c, number) {
            // The VGA behind it: planar or one byte a pixel, so that the window at A0000h works.
            if let Some(base) = vga_mode(if mode.bpp == 4 { 0x12 } else { 0x13 }) {
                dispi(c, ENABLE, 0);
                mode::registers(c, base);
                palette::load(c, base);
                super::font::set_vectors(c, base);
            }
            dispi(c, XRES, mode.width);
            dispi(c, YRES, mode.height);
            dispi(c, BPP, mode.bpp.into());
            let linear = if c.bx() & 0x4000 != 0 { LINEAR } else { 0 };
            dispi(c, ENABLE, ON | linear | if keep { NO_CLEAR } else { 0 });
            dispi(c, BANK, 0);
            c.set_bda8(bda::VIDEO_MODE, mode::VBE_GRAPHICS);
            c.set_bda16(bda::COLUMNS, mode.width / 8);
            c.set_bda8(bda::ROWS, (mode.height / 16).saturating_sub(1).min(255) as u8);
            c.set_bda16(bda::CHAR_HEIGHT, 16);
            let control = c.bda8(bda::VIDEO_CONTROL) & 0x7f;
            c.set_bda8(bda::VIDEO_CONTROL, control | if keep { 0x80 } else { 0 });
            self.vbe_mode = c.bx() & 0xc1ff;
            return Status::Ok;
        }
        let Some(mode) = text_mode(number).or_else(|| vga_mode(number & 0x17f)) else {
            return Status::Failed;
        };
        mode::set(c, mode, !keep);
        if mode.number >= 0x100 {
            // Text services find the mode by BDA 49h: 132 columns are mode 3 with other numbers.
            c.set_bda8(bda::VIDEO_MODE, 3);
        }
        self.vbe_mode = if mode.number >= 0x100 { mode.number } else { 0 };
        Status::Ok
    }

    /// 4F05h: BH = 0 sets, 1 tells the position DX of window BL.
    fn window<P: Platform>(&self, c: &mut Call<'_, P>) -> Status {
        if self.vbe_current(c).is_none() || self.vbe_mode & 0x4000 != 0 {
            return Status::WrongMode;
        }
        if c.bl() != 0 {
            return Status::Failed;
        }
        match c.bh() {
            0 => {
                let most = c.bus.config().video_memory >> 16;
                if u32::from(c.dx()) >= most {
                    return Status::Failed;
                }
                dispi(c, BANK, c.dx());
            }
            1 => {
                let bank = read_dispi(c, BANK) & 0x7fff;
                c.set_dx(bank);
            }
            _ => return Status::Failed,
        }
        Status::Ok
    }

    /// 4F06h: length of a scan line; BL 0 in pixels, 1 tell, 2 in bytes, 3 the most.
    fn scan_line<P: Platform>(&self, c: &mut Call<'_, P>) -> Status {
        let Some(mode) = self.vbe_current(c) else { return Status::WrongMode };
        let memory = c.bus.config().video_memory;
        // Bits of memory a pixel takes in the address of a line.
        let bits = if mode.bpp == 4 { 1 } else { u32::from(mode.bpp).next_multiple_of(8) };
        let planes = if mode.bpp == 4 { 4 } else { 1 };
        let most_pixels = (memory / planes / u32::from(mode.height)) * 8 / bits;
        match c.bl() {
            0 | 2 => {
                let pixels = if c.bl() == 0 {
                    u32::from(c.cx()).next_multiple_of(8)
                } else {
                    u32::from(c.cx()) * 8 / bits
                };
                if pixels < u32::from(mode.width) {
                    return Status::Failed;
                }
                if pixels > most_pixels {
                    return Status::Failed;
                }
                dispi(c, VIRT_WIDTH, pixels as u16);
            }
            1 | 3 => {}
            _ => return Status::Failed,
        }
        let pixels = match c.bl() {
            3 => most_pixels.min(0xfff8) & !7,
            _ => read_dispi(c, VIRT_WIDTH).into(),
        };
        let bytes = (pixels * bits / 8).max(1);
        c.set_bx(bytes.min(0xffff) as u16);
        c.set_cx(pixels as u16);
        c.set_dx((memory / planes / bytes).min(0xffff) as u16);
        Status::Ok
    }

    /// 4F07h: first pixel CX and line DX that are shown; BL 00h and 80h set, 01h tells.
    fn display_start<P: Platform>(&self, c: &mut Call<'_, P>) -> Status {
        if self.vbe_current(c).is_none() {
            return Status::WrongMode;
        }
        match c.bl() {
            0x00 | 0x80 => {
                let height = read_dispi(c, VIRT_HEIGHT);
                if c.dx() >= height {
                    return Status::Failed;
                }
                dispi(c, X_OFFSET, c.cx());
                dispi(c, Y_OFFSET, c.dx());
            }
            0x01 => {
                c.set_bh(0);
                let (x, y) = (read_dispi(c, X_OFFSET), read_dispi(c, Y_OFFSET));
                c.set_cx(x);
                c.set_dx(y);
            }
            _ => return Status::Failed,
        }
        Status::Ok
    }

    /// 4F08h: bits of a DAC colour; BL 0 sets BH (6 or 8), 1 tells.
    fn dac_format<P: Platform>(&self, c: &mut Call<'_, P>) -> Status {
        if self.vbe_current(c).is_some_and(|mode| mode.bpp > 8) {
            return Status::WrongMode;
        }
        let enable = read_dispi(c, ENABLE);
        match c.bl() {
            0 => {
                let wide = if c.bh() >= 8 { EIGHT_BIT_DAC } else { 0 };
                dispi(c, ENABLE, (enable & !EIGHT_BIT_DAC) | wide | NO_CLEAR);
            }
            1 => {}
            _ => return Status::Failed,
        }
        let wide = read_dispi(c, ENABLE) & EIGHT_BIT_DAC != 0;
        c.set_bh(if wide { 8 } else { 6 });
        Status::Ok
    }
}

/// 4F00h: information at ES:DI; 512 bytes for callers that write "VBE2" there first.
fn controller<P: Platform>(c: &mut Call<'_, P>) -> Status {
    let at = c.es(c.di());
    let mut asked = [0; 4];
    c.read(at, &mut asked);
    let far = |offset: u16| (VIDEO_BASE >> 4 << 16 | u32::from(offset)).to_le_bytes();
    let name = far(stubs::VIDEO_INT10 + 0x40);
    let mut out = [0; 512];
    out[..4].copy_from_slice(b"VESA");
    out[4..6].copy_from_slice(&0x0300u16.to_le_bytes());
    out[6..10].copy_from_slice(&name);
    // DAC switchable to 8 bits.
    out[10] = 1;
    out[14..18].copy_from_slice(&far(video_rom::VBE_LIST));
    let blocks = (c.bus.config().video_memory >> 16) as u16;
    out[18..20].copy_from_slice(&blocks.to_le_bytes());
    let long = &asked == b"VBE2";
    if long {
        out[20..22].copy_from_slice(&0x0100u16.to_le_bytes());
        for field in [22, 26, 30] {
            out[field..field + 4].copy_from_slice(&name);
        }
    }
    c.write(at, if long { &out } else { &out[..256] });
    Status::Ok
}

fn put16(out: &mut [u8; 256], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// VBE 3.0 "ModeInfoBlock".
fn describe_graphics(out: &mut [u8; 256], mode: &VbeMode, memory: u32, frame_buffer: u32) {
    // Supported, with information, colour, graphics, linear frame buffer (not planar).
    put16(out, 0, if mode.bpp == 4 { 0x1b } else { 0x9b });
    out[2] = 7;
    put16(out, 4, WINDOW_KB);
    put16(out, 6, WINDOW_KB);
    put16(out, 8, 0xa000);
    put16(out, 16, mode.pitch() as u16);
    put16(out, 18, mode.width);
    put16(out, 20, mode.height);
    out[22..24].copy_from_slice(&[8, 16]);
    out[24] = if mode.bpp == 4 { 4 } else { 1 };
    out[25] = mode.bpp;
    out[26] = 1;
    out[27] = match mode.bpp {
        4 => 3,
        8 => 4,
        _ => 6,
    };
    let images = (memory / mode.vram_bytes().max(1)).clamp(1, 256) - 1;
    out[29] = images as u8;
    out[30] = 1;
    for (n, (size, position)) in mode.masks().into_iter().enumerate() {
        out[31 + n * 2] = size;
        out[32 + n * 2] = position;
        out[54 + n * 2] = size;
        out[55 + n * 2] = position;
    }
    if mode.bpp != 4 {
        out[40..44].copy_from_slice(&frame_buffer.to_le_bytes());
    }
    // VBE 3.0: the same for the linear frame buffer.
    put16(out, 50, mode.pitch() as u16);
    out[52] = images as u8;
    out[53] = images as u8;
    out[62..66].copy_from_slice(&165_000_000u32.to_le_bytes());
}

fn describe_text(out: &mut [u8; 256], mode: &VgaMode) {
    put16(out, 0, 0x0f);
    out[2] = 7;
    put16(out, 4, 32);
    put16(out, 6, 32);
    put16(out, 8, mode.segment);
    put16(out, 16, mode.columns * 2);
    put16(out, 18, mode.columns);
    put16(out, 20, mode.rows);
    out[22..24].copy_from_slice(&[8, mode.char_height]);
    out[24..27].copy_from_slice(&[4, 4, 1]);
    out[29] = mode.pages.saturating_sub(1);
    out[30] = 1;
}

/// 4F04h: DL 0 size, 1 save, 2 restore the parts in CX.
fn save_restore<P: Platform>(c: &mut Call<'_, P>) -> Status {
    let parts = c.cx() & 15;
    match c.dl() {
        0 => c.set_bx(state::blocks(parts)),
        1 => state::save(c, parts),
        2 => state::restore(c, parts),
        _ => return Status::Failed,
    }
    Status::Ok
}

/// 4F09h: CX colours from DX on, blue green red and a filler each, at ES:DI.
fn palette_data<P: Platform>(c: &mut Call<'_, P>) -> Status {
    let (first, count) = (c.dx(), c.cx());
    if first > 255 || count > 256 - first {
        return Status::Failed;
    }
    let mut at = c.es(c.di());
    for n in first..first + count {
        let n = n as u8;
        match c.bl() {
            0x00 | 0x80 => {
                let mut color = [0; 4];
                c.read(at, &mut color);
                palette::write_dac(c, n, [color[2], color[1], color[0]]);
            }
            0x01 => {
                let [red, green, blue] = palette::read_dac(c, n);
                c.write(at, &[blue, green, red, 0]);
            }
            _ => return Status::Failed,
        }
        at = at.wrapping_add(4);
    }
    Status::Ok
}
