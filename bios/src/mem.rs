//! Guest memory by linear address, page by page; RAM directly, everything else through the board.

use crate::caller::Call;
use crate::platform::{MemRun, Platform};
use arch::{GuestPhys, GuestRam};

/// The legacy window: video memory, option ROMs and shadow RAM go through the board.
const WINDOW: core::ops::Range<u64> = 0xa_0000..0x10_0000;

/// Whether all `bytes` are RAM outside the legacy window.
pub(crate) fn plain(ram: &GuestRam, at: GuestPhys, bytes: u64) -> bool {
    let outside = at.0 >= WINDOW.end || at.0.saturating_add(bytes) <= WINDOW.start;
    outside && ram.contains(at, bytes)
}

impl<P: Platform> Call<'_, P> {
    /// Reads bytes of guest-physical memory; what nobody answers reads FFh.
    pub fn phys_read(&mut self, at: GuestPhys, buffer: &mut [u8]) {
        let ram = self.bus.ram();
        if plain(&ram, at, buffer.len() as u64) && ram.read(at, buffer).is_ok() {
            return;
        }
        for (n, byte) in (0u64..).zip(buffer) {
            *byte = at.checked_add(n).map_or(0xff, |at| self.phys_read8(at));
        }
    }

    /// Writes bytes of guest-physical memory.
    pub fn phys_write(&mut self, at: GuestPhys, bytes: &[u8]) {
        let ram = self.bus.ram();
        if plain(&ram, at, bytes.len() as u64) && ram.write_slice(at, bytes).is_ok() {
            return;
        }
        for (n, &byte) in (0u64..).zip(bytes) {
            let Some(at) = at.checked_add(n) else { return };
            if !plain(&ram, at, 1) || ram.write_u8(at, byte).is_err() {
                self.bus.mem_write(at, 1, byte.into());
            }
        }
    }

    fn phys_read8(&mut self, at: GuestPhys) -> u8 {
        let ram = self.bus.ram();
        if plain(&ram, at, 1)
            && let Some(byte) = ram.read_u8(at)
        {
            return byte;
        }
        self.bus.mem_read(at, 1) as u8
    }

    /// Reads bytes from a linear address.
    pub fn read(&mut self, linear: u32, buffer: &mut [u8]) {
        let (mut linear, mut rest) = (linear, buffer);
        while !rest.is_empty() {
            let room = 4096 - (linear & 0xfff) as usize;
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            match self.translate(linear, false) {
                Some(at) => self.phys_read(at, now),
                None => now.fill(0xff),
            }
            linear = linear.wrapping_add(now.len() as u32);
            rest = later;
        }
    }

    /// Writes bytes to a linear address.
    pub fn write(&mut self, linear: u32, bytes: &[u8]) {
        let (mut linear, mut rest) = (linear, bytes);
        while !rest.is_empty() {
            let room = 4096 - (linear & 0xfff) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            if let Some(at) = self.translate(linear, true) {
                self.phys_write(at, now);
            }
            linear = linear.wrapping_add(now.len() as u32);
            rest = later;
        }
    }

    /// Reads a byte.
    pub fn read8(&mut self, linear: u32) -> u8 {
        let mut buffer = [0];
        self.read(linear, &mut buffer);
        buffer[0]
    }

    /// Reads a little-endian word.
    pub fn read16(&mut self, linear: u32) -> u16 {
        let mut buffer = [0; 2];
        self.read(linear, &mut buffer);
        u16::from_le_bytes(buffer)
    }

    /// Reads a little-endian doubleword.
    pub fn read32(&mut self, linear: u32) -> u32 {
        let mut buffer = [0; 4];
        self.read(linear, &mut buffer);
        u32::from_le_bytes(buffer)
    }

    /// Reads a little-endian quadword.
    pub fn read64(&mut self, linear: u32) -> u64 {
        let mut buffer = [0; 8];
        self.read(linear, &mut buffer);
        u64::from_le_bytes(buffer)
    }

    /// Writes a byte.
    pub fn write8(&mut self, linear: u32, value: u8) {
        self.write(linear, &[value]);
    }

    /// Writes a little-endian word.
    pub fn write16(&mut self, linear: u32, value: u16) {
        self.write(linear, &value.to_le_bytes());
    }

    /// Writes a little-endian doubleword.
    pub fn write32(&mut self, linear: u32, value: u32) {
        self.write(linear, &value.to_le_bytes());
    }

    /// Resolves `bytes` from `linear` into runs of guest-physical memory. `None`: not mapped (the fault is
    /// noted) or in more pieces than `runs` holds.
    pub fn resolve(&mut self, linear: u32, bytes: u32, write: bool, runs: &mut Runs) -> Option<()> {
        runs.clear();
        let (mut linear, mut left) = (linear, bytes);
        while left > 0 {
            let take = (4096 - (linear & 0xfff)).min(left);
            let at = self.translate(linear, write)?;
            runs.push(MemRun { at, bytes: take })?;
            linear = linear.wrapping_add(take);
            left -= take;
        }
        Some(())
    }
}

/// Runs of memory of one transfer; neighbours are joined.
pub(crate) struct Runs {
    runs: [MemRun; Runs::MOST],
    count: usize,
}

impl Runs {
    /// 256 KiB in aligned pages. What does not fit goes in pieces.
    const MOST: usize = 64;

    /// No runs.
    pub const fn new() -> Runs {
        Runs { runs: [MemRun { at: GuestPhys(0), bytes: 0 }; Runs::MOST], count: 0 }
    }

    fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds a run, or says that there is no room.
    pub fn push(&mut self, run: MemRun) -> Option<()> {
        if let Some(last) = self.count.checked_sub(1).and_then(|n| self.runs.get_mut(n))
            && last.at.checked_add(last.bytes.into()) == Some(run.at)
        {
            last.bytes += run.bytes;
            return Some(());
        }
        *self.runs.get_mut(self.count)? = run;
        self.count += 1;
        Some(())
    }

    /// The runs.
    pub fn as_slice(&self) -> &[MemRun] {
        self.runs.get(..self.count).unwrap_or(&[])
    }

    /// Whether all of it is RAM that the host may fill directly. Disks move words of two bytes.
    pub fn plain(&self, ram: &GuestRam) -> bool {
        let even = |run: &MemRun| (run.at.0 | u64::from(run.bytes)) & 1 == 0;
        self.as_slice().iter().all(|run| even(run) && plain(ram, run.at, run.bytes.into()))
    }
}
