//! Accesses to the board from outside its lock: ports and devices in memory.

use crate::Machine;
use crate::host::Host;
use crate::memmap::Mmio;
use arch::Nanos;

/// Xen's debug console, the one port that a PVH guest has, too.
const DEBUG_PORT: u16 = 0xe9;

impl Machine {
    /// Reads a port at the time `now`.
    #[inline(always)]
    pub(crate) fn port_in<H: Host>(&self, host: &H, port: u16, width: u8, now: Nanos) -> u32 {
        if self.is_pvh() && port != DEBUG_PORT {
            return crate::insn::alu::mask(width) as u32;
        }
        self.on_board(host, |board, fx| board.port_in(port, width, now, fx))
    }

    /// Writes a port at the time `now`.
    #[inline(always)]
    pub(crate) fn port_out<H: Host>(&self, host: &H, port: u16, width: u8, value: u32, now: Nanos) {
        if self.is_pvh() && (port != DEBUG_PORT || width != 1) {
            return;
        }
        self.on_board(host, |board, fx| board.port_out(self.vram, port, width, value, now, fx));
    }

    /// Reads a device in memory.
    pub(crate) fn mmio_read<H: Host>(&self, host: &H, device: Mmio, offset: u64, width: u8) -> u64 {
        let now = self.now(host);
        let value = self
            .on_board(host, |board, fx| board.mmio_read(self.vram, device, offset, width, now, fx));
        value & crate::insn::alu::mask(width)
    }

    /// Writes a device in memory.
    pub(crate) fn mmio_write<H: Host>(
        &self,
        host: &H,
        device: Mmio,
        offset: u64,
        width: u8,
        value: u64,
    ) {
        let now = self.now(host);
        self.on_board(host, |board, fx| {
            board.mmio_write(self.vram, device, offset, width, value, now, fx);
        });
    }
}
