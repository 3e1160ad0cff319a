//! The BIOS data area at 0040:0000 (linear 400h), as IBM's technical references lay it out. Reads and
//! writes go through the caller's page tables: each V86 machine has its own copy.
#![allow(dead_code, reason = "the layout is complete; not every field is used by a service")]

use crate::caller::Call;
use crate::platform::Platform;

pub const COM: u32 = 0x00;
pub const LPT: u32 = 0x08;
pub const EBDA_SEGMENT: u32 = 0x0e;
pub const EQUIPMENT: u32 = 0x10;
pub const MEMORY_KB: u32 = 0x13;
pub const SHIFT: u32 = 0x17;
pub const SHIFT2: u32 = 0x18;
pub const ALT_DIGITS: u32 = 0x19;
pub const KEY_HEAD: u32 = 0x1a;
pub const KEY_TAIL: u32 = 0x1c;
pub const KEY_BUFFER: u32 = 0x1e;
pub const FLOPPY_RECALIBRATE: u32 = 0x3e;
pub const FLOPPY_MOTOR: u32 = 0x3f;
pub const FLOPPY_TIMEOUT: u32 = 0x40;
pub const FLOPPY_STATUS: u32 = 0x41;
pub const VIDEO_MODE: u32 = 0x49;
pub const COLUMNS: u32 = 0x4a;
pub const PAGE_SIZE: u32 = 0x4c;
pub const PAGE_OFFSET: u32 = 0x4e;
pub const CURSORS: u32 = 0x50;
pub const CURSOR_SHAPE: u32 = 0x60;
pub const PAGE: u32 = 0x62;
pub const CRTC: u32 = 0x63;
pub const CGA_MODE: u32 = 0x65;
pub const CGA_PALETTE: u32 = 0x66;
pub const RESET_ENTRY: u32 = 0x67;
pub const TICKS: u32 = 0x6c;
pub const MIDNIGHT: u32 = 0x70;
pub const BREAK: u32 = 0x71;
pub const WARM_BOOT: u32 = 0x72;
pub const HARD_STATUS: u32 = 0x74;
pub const HARD_COUNT: u32 = 0x75;
pub const LPT_TIMEOUT: u32 = 0x78;
pub const COM_TIMEOUT: u32 = 0x7c;
pub const KEY_START: u32 = 0x80;
pub const KEY_END: u32 = 0x82;
pub const ROWS: u32 = 0x84;
pub const CHAR_HEIGHT: u32 = 0x85;
pub const VIDEO_CONTROL: u32 = 0x87;
pub const VIDEO_SWITCHES: u32 = 0x88;
pub const MODESET_CONTROL: u32 = 0x89;
pub const DISPLAY_CODE: u32 = 0x8a;
pub const FLOPPY_RATE: u32 = 0x8b;
pub const HARD_INTERRUPT: u32 = 0x8e;
pub const FLOPPY_INFO: u32 = 0x8f;
pub const FLOPPY_MEDIA: u32 = 0x90;
pub const FLOPPY_CYLINDER: u32 = 0x94;
pub const SHIFT3: u32 = 0x96;
pub const LEDS: u32 = 0x97;
pub const WAIT_POINTER: u32 = 0x98;
pub const WAIT_COUNT: u32 = 0x9c;
pub const WAIT_ACTIVE: u32 = 0xa0;
pub const VIDEO_SAVE: u32 = 0xa8;

/// Segment of the extended BIOS data area: the last KiB below 640 KiB.
pub const EBDA: u16 = 0x9fc0;
/// Conventional memory that is left, in KiB.
pub const CONVENTIONAL_KB: u16 = 639;

/// EBDA: fixed-disk parameter tables of drives 80h and 81h.
pub const EBDA_HARD: [u32; 2] = [0x3d, 0x4d];
/// EBDA: 8 bytes of save pointers for the video services' table.
pub const EBDA_VIDEO_SAVE: u32 = 0x60;

impl<P: Platform> Call<'_, P> {
    /// Reads a byte of the data area.
    pub fn bda8(&mut self, field: u32) -> u8 {
        self.read8(0x400 + field)
    }

    /// Reads a word of the data area.
    pub fn bda16(&mut self, field: u32) -> u16 {
        self.read16(0x400 + field)
    }

    /// Reads a doubleword of the data area.
    pub fn bda32(&mut self, field: u32) -> u32 {
        self.read32(0x400 + field)
    }

    /// Writes a byte of the data area.
    pub fn set_bda8(&mut self, field: u32, value: u8) {
        self.write8(0x400 + field, value);
    }

    /// Writes a word of the data area.
    pub fn set_bda16(&mut self, field: u32, value: u16) {
        self.write16(0x400 + field, value);
    }

    /// Writes a doubleword of the data area.
    pub fn set_bda32(&mut self, field: u32, value: u32) {
        self.write32(0x400 + field, value);
    }

    /// Reads a byte of the guest's CMOS.
    pub fn cmos(&mut self, index: u8) -> u8 {
        self.bus.port_out(0x70, 1, u32::from(index) | 0x80);
        self.bus.port_in(0x71, 1) as u8
    }

    /// Writes a byte of the guest's CMOS.
    pub fn set_cmos(&mut self, index: u8, value: u8) {
        self.bus.port_out(0x70, 1, u32::from(index) | 0x80);
        self.bus.port_out(0x71, 1, value.into());
    }
}
