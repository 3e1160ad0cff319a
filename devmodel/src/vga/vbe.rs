//! The Bochs VBE ("dispi") registers: an index and a data port, or words in BAR 2.
//!
//! Source: Bochs "VBE Display Interface" (vbe_display_api.txt) and QEMU docs/specs/standard-vga.
//! Modes are any size up to the maxima that fits into memory; only 4 bpp needs multiples of 8.

/// The widest mode, in pixels.
pub const MAX_XRES: u16 = 2560;
/// The highest mode, in lines.
pub const MAX_YRES: u16 = 1600;

/// The newest interface that this model speaks.
pub(super) const ID_LATEST: u16 = 0xB0C5;
pub(super) const ENABLED: u16 = 0x01;
const GETCAPS: u16 = 0x02;
pub(super) const EIGHT_BIT_DAC: u16 = 0x20;
const LFB_ENABLED: u16 = 0x40;
const NO_CLEAR: u16 = 0x80;
/// Bits of the enable register that hold.
pub(super) const ENABLE_MASK: u16 = ENABLED | GETCAPS | EIGHT_BIT_DAC | LFB_ENABLED | NO_CLEAR;

/// A dispi register by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    Id,
    Xres,
    Yres,
    Bpp,
    Enable,
    Bank,
    VirtWidth,
    VirtHeight,
    XOffset,
    YOffset,
    Memory64K,
    Other,
}

impl Reg {
    const fn from_index(index: u16) -> Self {
        match index {
            0 => Self::Id,
            1 => Self::Xres,
            2 => Self::Yres,
            3 => Self::Bpp,
            4 => Self::Enable,
            5 => Self::Bank,
            6 => Self::VirtWidth,
            7 => Self::VirtHeight,
            8 => Self::XOffset,
            9 => Self::YOffset,
            10 => Self::Memory64K,
            _ => Self::Other,
        }
    }
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vbe {
    // Guest-visible.
    pub index: u16,
    pub id: u16,
    pub xres: u16,
    pub yres: u16,
    pub bpp: u16,
    pub enable: u16,
    pub bank: u16,
    pub virt_width: u16,
    pub x_offset: u16,
    pub y_offset: u16,
}

impl Vbe {
    pub const fn new() -> Self {
        Self {
            index: 0,
            id: ID_LATEST,
            xres: 0,
            yres: 0,
            bpp: 0,
            enable: 0,
            bank: 0,
            virt_width: 0,
            x_offset: 0,
            y_offset: 0,
        }
    }

    pub const fn enabled(&self) -> bool {
        self.enable & ENABLED != 0
    }

    /// Enabled with pixels in a row, as opposed to planes.
    pub const fn linear(&self) -> bool {
        self.enabled() && self.bpp != 4
    }

    /// Bytes of a pixel in memory; 4 bpp counts as half a byte and gives 0.
    pub const fn pixel_bytes(&self) -> u32 {
        match self.bpp {
            8 => 1,
            15 | 16 => 2,
            24 => 3,
            32 => 4,
            _ => 0,
        }
    }

    /// Bytes of video memory from one line to the next.
    pub const fn pitch(&self) -> u32 {
        match self.pixel_bytes() {
            0 => self.virt_width as u32 / 2,
            bytes => self.virt_width as u32 * bytes,
        }
    }

    /// Lines that memory holds.
    fn virt_height(&self, vram_len: u32) -> u16 {
        match self.pitch() {
            0 => 0,
            pitch => (vram_len / pitch).min(0xFFFF) as u16,
        }
    }

    /// Makes a mode of whatever was written: sizes, pitch and offsets that memory holds.
    /// Doing it twice is doing it once. `vram_len` is at least 256 KiB.
    pub fn normalize(&mut self, vram_len: u32) {
        if !matches!(self.bpp, 4 | 8 | 15 | 16 | 24 | 32) {
            self.bpp = 8;
        }
        self.xres = self.xres.clamp(8, MAX_XRES);
        if self.bpp == 4 {
            self.xres &= !7;
            self.virt_width &= !7;
            self.x_offset &= !7;
        }
        // Twice the bytes of a pixel, so that half a byte is a whole number. At least 256 KiB of
        // memory hold one line of the widest mode, so no divisor and no limit here is 0.
        let twice = (self.pixel_bytes() * 2).max(1);
        let fits_y = vram_len / (u32::from(self.xres) * twice).div_ceil(2);
        self.yres = u32::from(self.yres).clamp(1, fits_y.min(u32::from(MAX_YRES))) as u16;
        let fits_x = (vram_len / u32::from(self.yres) * 2 / twice).min(0xFFF8) & !7;
        let fits_x = fits_x.max(u32::from(self.xres));
        self.virt_width = u32::from(self.virt_width).clamp(u32::from(self.xres), fits_x) as u16;
        self.x_offset = self.x_offset.min(self.virt_width - self.xres);
        let height = self.virt_height(vram_len).max(self.yres);
        self.y_offset = self.y_offset.min(height - self.yres);
    }

    /// Whether these registers could be those of a chip with this much memory.
    pub fn is_possible(&self, vram_len: u32) -> bool {
        let mut normal = self.clone();
        if self.enabled() {
            normal.normalize(vram_len);
        }
        normal == *self
            && (0xB0C0..=ID_LATEST).contains(&self.id)
            && self.enable & !ENABLE_MASK == 0
    }

    /// Reads the register that the index selects.
    pub fn read(&self, index: u16, vram_len: u32) -> u16 {
        let caps = self.enable & GETCAPS != 0;
        match Reg::from_index(index) {
            Reg::Id => self.id,
            Reg::Xres if caps => MAX_XRES,
            Reg::Yres if caps => MAX_YRES,
            Reg::Bpp if caps => 32,
            Reg::Xres => self.xres,
            Reg::Yres => self.yres,
            Reg::Bpp => self.bpp,
            Reg::Enable => self.enable,
            Reg::Bank => self.bank,
            Reg::VirtWidth => self.virt_width,
            Reg::VirtHeight => self.virt_height(vram_len),
            Reg::XOffset => self.x_offset,
            Reg::YOffset => self.y_offset,
            Reg::Memory64K => (vram_len >> 16) as u16,
            Reg::Other => 0,
        }
    }

    /// Writes a register. Gives the bytes of video memory to clear, from 0.
    pub fn write(&mut self, index: u16, value: u16, vram_len: u32) -> u32 {
        let mut clear = 0;
        match Reg::from_index(index) {
            Reg::Id => {
                if (0xB0C0..=ID_LATEST).contains(&value) {
                    self.id = value;
                }
            }
            Reg::Xres => self.xres = value,
            Reg::Yres => self.yres = value,
            Reg::Bpp => self.bpp = value,
            Reg::Bank => self.bank = value,
            Reg::VirtWidth => self.virt_width = value,
            Reg::XOffset => self.x_offset = value,
            Reg::YOffset => self.y_offset = value,
            Reg::Enable => clear = self.write_enable(value & ENABLE_MASK, vram_len),
            Reg::VirtHeight | Reg::Memory64K | Reg::Other => {}
        }
        if self.enabled() {
            self.normalize(vram_len);
        }
        clear
    }

    fn write_enable(&mut self, value: u16, vram_len: u32) -> u32 {
        let was_enabled = self.enabled();
        self.enable = value;
        if !self.enabled() {
            self.bank = 0;
            return 0;
        }
        if was_enabled {
            return 0;
        }
        self.virt_width = self.xres;
        self.x_offset = 0;
        self.y_offset = 0;
        self.bank = 0;
        self.normalize(vram_len);
        if value & NO_CLEAR != 0 { 0 } else { self.pitch() * u32::from(self.yres) }
    }
}
