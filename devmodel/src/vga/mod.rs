//! The VGA with Bochs VBE: ports 3B0h to 3DFh, 1CEh to 1D0h, BAR 2, and the window at A0000h.
//!
//! Pure: time is an argument, and video memory belongs to the board (`vram.rs`), which also maps it
//! to the guest as BAR 0. Not modelled: the retrace interrupt's pin, light pen, overscan border,
//! cursor skew, external clocks. Next: `mem.rs` (writes), `render.rs` (the picture), `vbe.rs`.

mod dac;
mod mem;
mod ocr;
mod regs;
mod render;
mod save;
mod text;
mod timing;
mod vbe;
mod vram;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_render;

use crate::LoadError;
use arch::Nanos;
use dac::Dac;
use mem::Window;
use regs::{ATTR_MASK, GC_MASK, Regs, SEQ_MASK};
use timing::Timing;
use vbe::Vbe;

pub use ocr::{Ocr, OcrColumn, OcrFont};
pub use render::{Frame, MAX_WIDTH, Mode, Picture, Shown};
pub use save::State;
pub use text::CP437;
pub use vbe::{MAX_XRES, MAX_YRES};
pub use vram::Vram;

/// Guest-physical address of the memory window.
pub const WINDOW_BASE: u32 = 0xA_0000;
/// Bytes of the memory window.
pub const WINDOW_LEN: u32 = 0x2_0000;
/// Bytes of BAR 2.
pub const MMIO_LEN: u32 = 0x1000;

/// A part of the window that is plain video memory: the guest may have it mapped, reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectMap {
    /// Guest-physical address, a multiple of 64 KiB.
    pub guest_base: u32,
    /// Bytes, a multiple of 64 KiB.
    pub len: u32,
    /// Where in video memory it starts, a multiple of 64 KiB.
    pub vram_offset: u32,
}

/// The display adapter.
#[derive(Clone, Debug)]
pub struct Vga {
    // Fixed
    vram_len: u32,

    // Guest-visible
    regs: Regs,
    dac: Dac,
    vbe: Vbe,
    /// The four planes' bytes of the last read through the window.
    latch: u32,
    /// Retraces seen when the retrace interrupt was last cleared.
    retraces_cleared: u64,

    // Derived
    window: Window,
    direct: Option<DirectMap>,
    timing: Timing,
    generation: u64,
}

/// A register port, after 3Bxh or 3Dxh has been found to be the one that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    CrtcIndex,
    CrtcData,
    Attr,
    AttrData,
    MiscWriteStatus0,
    SubsystemEnable,
    SeqIndex,
    SeqData,
    PixelMask,
    DacReadIndexState,
    DacWriteIndex,
    DacData,
    FeatureRead,
    MiscRead,
    GcIndex,
    GcData,
    FeatureWriteStatus1,
    Absent,
}

impl Vga {
    /// A card with `vram_len` bytes of memory, in reset: text on, nothing shown, no window.
    ///
    /// # Panics
    /// Unless `vram_len` is a multiple of 64 KiB from 256 KiB to 1 GiB.
    #[must_use]
    pub fn new(vram_len: u32) -> Self {
        assert!(vram_len.is_multiple_of(0x1_0000), "VRAM is a multiple of 64 KiB");
        assert!((0x4_0000..=0x4000_0000).contains(&vram_len), "VRAM is 256 KiB to 1 GiB");
        let (regs, vbe) = (Regs::new(), Vbe::new());
        let window = Window::new(&regs, &vbe);
        let timing = Timing::new(&regs, false);
        Self {
            vram_len,
            regs,
            dac: Dac::new(),
            vbe,
            latch: 0,
            retraces_cleared: 0,
            window,
            direct: None,
            timing,
            generation: 0,
        }
    }

    /// Reset by the bus. Video memory stays as it is.
    pub fn reset(&mut self) {
        let Self {
            vram_len: _,
            regs,
            dac,
            vbe,
            latch,
            retraces_cleared,
            window: _,
            direct: _,
            timing: _,
            generation: _,
        } = self;
        *regs = Regs::new();
        *dac = Dac::new();
        *vbe = Vbe::new();
        *latch = 0;
        *retraces_cleared = 0;
        self.refresh();
    }

    /// Changes whenever something happened through the chip that may change the picture. Writes
    /// through a direct map or the linear frame buffer do not count: see [`Vga::writes_unseen`].
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The guest may be drawing without the chip's knowledge: redraw on a clock.
    #[must_use]
    pub const fn writes_unseen(&self) -> bool {
        self.direct.is_some() || self.vbe.linear()
    }

    /// The part of the window that is plain memory now. Compare after every port, BAR 2 or VBE
    /// write, and before the next entry unmap what no longer holds. Kept up to date, so reading it
    /// is free.
    #[must_use]
    pub const fn direct_map(&self) -> Option<DirectMap> {
        self.direct
    }

    /// Reads a byte from a port, 3B0h to 3DFh. The board splits wider accesses into bytes.
    pub fn port_read(&mut self, port: u16, now: Nanos) -> u8 {
        match self.decode(port) {
            Port::CrtcIndex => self.regs.crtc_index,
            Port::CrtcData => self.crtc_read(),
            Port::Attr => self.regs.attr_index,
            Port::AttrData => {
                let index = usize::from(self.regs.attr_index & 0x1F);
                self.regs.attr.get(index).copied().unwrap_or(0)
            }
            Port::MiscWriteStatus0 => self.input_status_0(now),
            Port::SubsystemEnable => self.regs.subsystem_enable,
            Port::SeqIndex => self.regs.seq_index,
            Port::SeqData => {
                self.regs.seq.get(usize::from(self.regs.seq_index)).copied().unwrap_or(0)
            }
            Port::PixelMask => self.dac.pixel_mask,
            Port::DacReadIndexState => self.dac.state(),
            Port::DacWriteIndex => self.dac.write_index,
            Port::DacData => self.dac.read_data(),
            Port::FeatureRead => self.regs.feature,
            Port::MiscRead => self.regs.misc,
            Port::GcIndex => self.regs.gc_index,
            Port::GcData => self.regs.gc.get(usize::from(self.regs.gc_index)).copied().unwrap_or(0),
            Port::FeatureWriteStatus1 => {
                self.regs.attr_data_next = false;
                self.timing.input_status_1(now)
            }
            Port::Absent => 0xFF,
        }
    }

    /// Writes a byte to a port, 3B0h to 3DFh.
    pub fn port_write(&mut self, port: u16, value: u8, now: Nanos) {
        match self.decode(port) {
            Port::CrtcIndex => self.regs.crtc_index = value & 0x3F,
            Port::CrtcData => self.crtc_write(value, now),
            Port::Attr => self.attr_write(value),
            Port::MiscWriteStatus0 => {
                self.regs.misc = value;
                self.refresh();
            }
            // Kept, not obeyed: on a card in a slot nothing decodes it.
            Port::SubsystemEnable => self.regs.subsystem_enable = value & 1,
            Port::SeqIndex => self.regs.seq_index = value & 7,
            Port::SeqData => self.seq_write(value),
            Port::PixelMask => {
                self.dac.pixel_mask = value;
                self.touch();
            }
            Port::DacReadIndexState => self.dac.start_read(value),
            Port::DacWriteIndex => self.dac.start_write(value),
            Port::DacData => {
                self.dac.write_data(value);
                self.touch();
            }
            Port::GcIndex => self.regs.gc_index = value & 0xF,
            Port::GcData => self.gc_write(value),
            Port::FeatureWriteStatus1 => self.regs.feature = value & 0x0B,
            Port::AttrData | Port::FeatureRead | Port::MiscRead | Port::Absent => {}
        }
    }

    /// Reads 16 bits from 1CEh (index), 1CFh or 1D0h (data).
    #[must_use]
    pub fn vbe_read(&self, port: u16) -> u16 {
        match port {
            0x1CE => self.vbe.index,
            0x1CF | 0x1D0 => self.vbe.read(self.vbe.index, self.vram_len),
            _ => 0xFFFF,
        }
    }

    /// Writes 16 bits to 1CEh (index), 1CFh or 1D0h (data). May clear the frame buffer.
    pub fn vbe_write<V: Vram + ?Sized>(&mut self, vram: &V, port: u16, value: u16) {
        match port {
            0x1CE => self.vbe.index = value,
            0x1CF | 0x1D0 => self.vbe_register_write(vram, self.vbe.index, value),
            _ => {}
        }
    }

    /// Reads `width` (1, 2 or 4) bytes of BAR 2: VGA ports at 400h, VBE at 500h, byte order at
    /// 604h. Bytes beyond the width are 0.
    pub fn mmio_read(&mut self, offset: u32, width: u8, now: Nanos) -> u32 {
        let mut value = 0;
        for index in 0..u32::from(width.min(4)) {
            let byte = self.mmio_read_byte((offset % MMIO_LEN).wrapping_add(index), now);
            value |= u32::from(byte) << (index * 8);
        }
        value
    }

    fn mmio_read_byte(&mut self, offset: u32, now: Nanos) -> u8 {
        match offset {
            0x400..0x420 => self.port_read(0x3C0 + (offset - 0x400) as u16, now),
            0x500..0x516 => {
                let value = self.vbe.read(((offset - 0x500) / 2) as u16, self.vram_len);
                value.to_le_bytes()[(offset & 1) as usize]
            }
            // The size of this block, then the byte order: little-endian for ever.
            0x600..0x604 => 8_u32.to_le_bytes()[(offset & 3) as usize],
            0x604..0x608 => 0x1E,
            _ => 0xFF,
        }
    }

    /// Writes `width` (1, 2 or 4) bytes of BAR 2. VBE registers take 16 bits.
    pub fn mmio_write<V: Vram + ?Sized>(
        &mut self,
        vram: &V,
        offset: u32,
        width: u8,
        value: u32,
        now: Nanos,
    ) {
        match offset & (MMIO_LEN - 1) {
            offset @ 0x400..0x420 => {
                for index in 0..u32::from(width.min(4)) {
                    let port = 0x3C0 + (offset - 0x400 + index) as u16;
                    self.port_write(port, (value >> (index * 8)) as u8, now);
                }
            }
            offset @ 0x500..0x516 if offset & 1 == 0 => {
                for half in 0..u32::from(width.min(4)) / 2 {
                    let index = ((offset - 0x500) / 2 + half) as u16;
                    self.vbe_register_write(vram, index, (value >> (half * 16)) as u16);
                }
            }
            _ => {}
        }
    }

    const fn decode(&self, port: u16) -> Port {
        let answers = match port {
            0x3B0..=0x3BF => !self.regs.color_ports(),
            0x3D0..=0x3DF => self.regs.color_ports(),
            _ => true,
        };
        match port {
            _ if !answers => Port::Absent,
            // The CRTC decodes three address bits only by half: 0, 2, 4 and 6 are its index.
            0x3B0 | 0x3B2 | 0x3B4 | 0x3B6 | 0x3D0 | 0x3D2 | 0x3D4 | 0x3D6 => Port::CrtcIndex,
            0x3B1 | 0x3B3 | 0x3B5 | 0x3B7 | 0x3D1 | 0x3D3 | 0x3D5 | 0x3D7 => Port::CrtcData,
            0x3C0 => Port::Attr,
            0x3C1 => Port::AttrData,
            0x3C2 => Port::MiscWriteStatus0,
            0x3C3 => Port::SubsystemEnable,
            0x3C4 => Port::SeqIndex,
            0x3C5 => Port::SeqData,
            0x3C6 => Port::PixelMask,
            0x3C7 => Port::DacReadIndexState,
            0x3C8 => Port::DacWriteIndex,
            0x3C9 => Port::DacData,
            0x3CA => Port::FeatureRead,
            0x3CC => Port::MiscRead,
            0x3CE => Port::GcIndex,
            0x3CF => Port::GcData,
            0x3BA | 0x3DA => Port::FeatureWriteStatus1,
            _ => Port::Absent,
        }
    }

    fn crtc_read(&self) -> u8 {
        match self.regs.crtc_index {
            // Undocumented, on every VGA: the latch of the plane to read, the attribute flip-flop.
            0x22 => (self.latch >> (u32::from(self.regs.gc[4] & 3) * 8)) as u8,
            0x24 => u8::from(self.regs.attr_data_next) << 7,
            0x26 => self.regs.attr_index,
            index => self.regs.crtc.get(usize::from(index)).copied().unwrap_or(0xFF),
        }
    }

    fn crtc_write(&mut self, value: u8, now: Nanos) {
        let index = usize::from(self.regs.crtc_index);
        let protected = self.regs.crtc[0x11] & 0x80 != 0;
        let Some(register) = self.regs.crtc.get_mut(index) else { return };
        match index {
            // Of the protected eight, only the line compare bit can be written.
            7 if protected => *register = *register & !0x10 | value & 0x10,
            0..=7 if protected => return,
            _ => *register = value,
        }
        match index {
            0..=7 | 0x10..=0x12 => self.timing = Timing::new(&self.regs, self.vbe.enabled()),
            _ => {}
        }
        // Bit 4 low clears the retrace interrupt and holds it clear.
        if index == 0x11 && value & 0x10 == 0 {
            self.retraces_cleared = self.timing.retraces(now);
        }
        self.touch();
    }

    fn seq_write(&mut self, value: u8) {
        let index = usize::from(self.regs.seq_index);
        if let (Some(register), Some(mask)) = (self.regs.seq.get_mut(index), SEQ_MASK.get(index)) {
            *register = value & mask;
            if index == 1 {
                self.timing = Timing::new(&self.regs, self.vbe.enabled());
            }
            self.refresh_window();
        }
    }

    fn gc_write(&mut self, value: u8) {
        let index = usize::from(self.regs.gc_index);
        if let (Some(register), Some(mask)) = (self.regs.gc.get_mut(index), GC_MASK.get(index)) {
            *register = value & mask;
            self.refresh_window();
        }
    }

    fn attr_write(&mut self, value: u8) {
        if self.regs.attr_data_next {
            let index = usize::from(self.regs.attr_index & 0x1F);
            if let (Some(register), Some(mask)) =
                (self.regs.attr.get_mut(index), ATTR_MASK.get(index))
            {
                *register = value & mask;
            }
        } else {
            self.regs.attr_index = value & 0x3F;
        }
        self.regs.attr_data_next = !self.regs.attr_data_next;
        self.touch();
    }

    /// Bit 4: a monitor answers on the sense line. Bit 7: the retrace interrupt waits.
    fn input_status_0(&self, now: Nanos) -> u8 {
        let armed = self.regs.crtc[0x11] & 0x30 == 0x10;
        let pending = armed && self.timing.retraces(now) > self.retraces_cleared;
        0x10 | u8::from(pending) << 7
    }

    fn vbe_register_write<V: Vram + ?Sized>(&mut self, vram: &V, index: u16, value: u16) {
        let clear = self.vbe.write(index, value, self.vram_len);
        vram.fill(0, clear, 0);
        self.dac.set_wide(self.vbe.enable & vbe::EIGHT_BIT_DAC != 0);
        self.timing = Timing::new(&self.regs, self.vbe.enabled());
        self.refresh_window();
    }

    /// The picture may have changed.
    const fn touch(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn refresh_window(&mut self) {
        self.window = Window::new(&self.regs, &self.vbe);
        self.direct = self.window.direct_map(&self.regs, self.vram_len);
        self.touch();
    }

    /// Everything derived, anew.
    fn refresh(&mut self) {
        self.timing = Timing::new(&self.regs, self.vbe.enabled());
        self.dac.refresh();
        self.refresh_window();
    }
}
