//! The video DAC: 256 entries of 3 x 6 bits (3 x 8 when VBE says so), with its read and write
//! states.
//!
//! Source: IBM "Video Subsystems", section "Video Digital-to-Analog Converter".

/// Whether the last index written was for reading or for writing; 3C7h tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Write,
    Read,
}

/// Ports 3C6h to 3C9h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dac {
    // Guest-visible.
    pub pixel_mask: u8,
    pub read_index: u8,
    pub write_index: u8,
    /// 0 red, 1 green, 2 blue.
    pub component: u8,
    pub direction: Direction,
    /// Components being collected; the entry changes when blue arrives.
    pub pending: [u8; 3],
    pub entries: [[u8; 3]; 256],
    /// Components have 8 bits.
    pub wide: bool,
    // Derived: the entries as 00RRGGBBh.
    pub rgb: [u32; 256],
}

impl Dac {
    pub const fn new() -> Self {
        Self {
            pixel_mask: 0xFF,
            read_index: 0,
            write_index: 0,
            component: 0,
            direction: Direction::Write,
            pending: [0; 3],
            entries: [[0; 3]; 256],
            wide: false,
            rgb: [0; 256],
        }
    }

    /// 3C7h read: 3 while reading, 0 while writing.
    pub const fn state(&self) -> u8 {
        match self.direction {
            Direction::Read => 3,
            Direction::Write => 0,
        }
    }

    pub const fn start_read(&mut self, index: u8) {
        self.read_index = index;
        self.component = 0;
        self.direction = Direction::Read;
    }

    pub const fn start_write(&mut self, index: u8) {
        self.write_index = index;
        self.component = 0;
        self.direction = Direction::Write;
    }

    pub fn read_data(&mut self) -> u8 {
        let entry = self.entries[usize::from(self.read_index)];
        let value = entry[usize::from(self.component % 3)];
        if self.step() {
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    pub fn write_data(&mut self, value: u8) {
        let value = if self.wide { value } else { value & 0x3F };
        self.pending[usize::from(self.component % 3)] = value;
        if self.step() {
            let index = usize::from(self.write_index);
            self.entries[index] = self.pending;
            self.rgb[index] = self.color(self.pending);
            self.write_index = self.write_index.wrapping_add(1);
        }
    }

    /// VBE's 8-bit DAC switch. What is stored stays as it is and means more or less.
    pub fn set_wide(&mut self, wide: bool) {
        if self.wide != wide {
            self.wide = wide;
            self.refresh();
        }
    }

    /// Computes the colours anew.
    pub fn refresh(&mut self) {
        for index in 0..self.entries.len() {
            self.rgb[index] = self.color(self.entries[index]);
        }
    }

    /// The colour shown for a pixel value.
    pub const fn shown(&self, pixel: u8) -> u32 {
        self.rgb[(pixel & self.pixel_mask) as usize]
    }

    /// Goes to the next component; true when an entry is complete.
    const fn step(&mut self) -> bool {
        self.component = (self.component + 1) % 3;
        self.component == 0
    }

    fn color(&self, entry: [u8; 3]) -> u32 {
        let level = |value: u8| {
            if self.wide { u32::from(value) } else { u32::from(value << 2 | value >> 4 & 3) }
        };
        level(entry[0]) << 16 | level(entry[1]) << 8 | level(entry[2])
    }
}
