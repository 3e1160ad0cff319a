//! The VGA's saved state. Video memory is saved by the board, which owns it.

use super::dac::{Dac, Direction};
use super::regs::{ATTR_MASK, GC_MASK, Regs, SEQ_MASK};
use super::vbe::{EIGHT_BIT_DAC, Vbe};
use super::{LoadError, Vga};
use crate::state::require;

/// This model's version of [`State`].
const VERSION: u32 = 1;

/// Registers as the manual numbers them, indexes as last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Version of this struct.
    pub version: u32,
    /// Miscellaneous output.
    pub misc: u8,
    /// Feature control.
    pub feature: u8,
    /// Port 3C3h.
    pub subsystem_enable: u8,
    /// Indexes of sequencer, CRTC, graphics and attribute controller.
    pub indexes: [u8; 4],
    /// The next write to 3C0h is data.
    pub attr_data_next: bool,
    /// Sequencer.
    pub seq: [u8; 5],
    /// CRT controller.
    pub crtc: [u8; 25],
    /// Graphics controller.
    pub gc: [u8; 9],
    /// Attribute controller.
    pub attr: [u8; 21],
    /// The planes' latches, plane 0 lowest.
    pub latch: u32,
    /// Retraces up to the last clearing of the retrace interrupt.
    pub retraces_cleared: u64,
    /// DAC: pixel mask, read index, write index, component.
    pub dac: [u8; 4],
    /// DAC: the last index written was for reading.
    pub dac_reading: bool,
    /// DAC: components collected.
    pub dac_pending: [u8; 3],
    /// DAC: red, green, blue of each entry.
    pub dac_entries: [[u8; 3]; 256],
    /// VBE: index, then registers 0 to 6, 8 and 9.
    pub vbe: [u16; 10],
}

impl Vga {
    /// The registers, to be loaded later.
    #[must_use]
    pub fn save(&self) -> State {
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
        let Regs {
            misc,
            feature,
            subsystem_enable,
            seq_index,
            seq,
            crtc_index,
            crtc,
            gc_index,
            gc,
            attr_index,
            attr_data_next,
            attr,
        } = regs;
        let Dac {
            pixel_mask,
            read_index,
            write_index,
            component,
            direction,
            pending,
            entries,
            wide: _,
            rgb: _,
        } = dac;
        let Vbe { index, id, xres, yres, bpp, enable, bank, virt_width, x_offset, y_offset } = vbe;
        State {
            version: VERSION,
            misc: *misc,
            feature: *feature,
            subsystem_enable: *subsystem_enable,
            indexes: [*seq_index, *crtc_index, *gc_index, *attr_index],
            attr_data_next: *attr_data_next,
            seq: *seq,
            crtc: *crtc,
            gc: *gc,
            attr: *attr,
            latch: *latch,
            retraces_cleared: *retraces_cleared,
            dac: [*pixel_mask, *read_index, *write_index, *component],
            dac_reading: *direction == Direction::Read,
            dac_pending: *pending,
            dac_entries: *entries,
            vbe: [
                *index,
                *id,
                *xres,
                *yres,
                *bpp,
                *enable,
                *bank,
                *virt_width,
                *x_offset,
                *y_offset,
            ],
        }
    }

    /// Takes over a saved state. The chip must have as much memory as the one that saved.
    ///
    /// # Errors
    /// [`LoadError`] for another version or for values that no chip holds; the chip is unchanged.
    pub fn load(&mut self, state: &State) -> Result<(), LoadError> {
        let State {
            version,
            misc,
            feature,
            subsystem_enable,
            indexes: [seq_index, crtc_index, gc_index, attr_index],
            attr_data_next,
            seq,
            crtc,
            gc,
            attr,
            latch,
            retraces_cleared,
            dac: [pixel_mask, read_index, write_index, component],
            dac_reading,
            dac_pending,
            dac_entries,
            vbe: [index, id, xres, yres, bpp, enable, bank, virt_width, x_offset, y_offset],
        } = state;
        if *version != VERSION {
            return Err(LoadError::Version);
        }
        let vbe = Vbe {
            index: *index,
            id: *id,
            xres: *xres,
            yres: *yres,
            bpp: *bpp,
            enable: *enable,
            bank: *bank,
            virt_width: *virt_width,
            x_offset: *x_offset,
            y_offset: *y_offset,
        };
        let within = |values: &[u8], masks: &[u8]| {
            values.iter().zip(masks).all(|(value, mask)| value & !mask == 0)
        };
        let wide = enable & EIGHT_BIT_DAC != 0;
        require(feature & !0x0B == 0, "feature")?;
        require(*subsystem_enable <= 1, "subsystem_enable")?;
        require(
            within(&[*seq_index, *crtc_index, *gc_index, *attr_index], &[7, 0x3F, 0xF, 0x3F]),
            "indexes",
        )?;
        require(within(seq, &SEQ_MASK), "seq")?;
        require(within(gc, &GC_MASK), "gc")?;
        require(within(attr, &ATTR_MASK), "attr")?;
        require(*component <= 2, "dac")?;
        require(vbe.is_possible(self.vram_len), "vbe")?;
        self.regs = Regs {
            misc: *misc,
            feature: *feature,
            subsystem_enable: *subsystem_enable,
            seq_index: *seq_index,
            seq: *seq,
            crtc_index: *crtc_index,
            crtc: *crtc,
            gc_index: *gc_index,
            gc: *gc,
            attr_index: *attr_index,
            attr_data_next: *attr_data_next,
            attr: *attr,
        };
        self.dac = Dac {
            pixel_mask: *pixel_mask,
            read_index: *read_index,
            write_index: *write_index,
            component: *component,
            direction: if *dac_reading { Direction::Read } else { Direction::Write },
            pending: *dac_pending,
            entries: *dac_entries,
            wide,
            rgb: [0; 256],
        };
        self.vbe = vbe;
        self.latch = *latch;
        self.retraces_cleared = *retraces_cleared;
        self.refresh();
        Ok(())
    }
}
