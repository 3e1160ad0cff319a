//! DMA of the firmware configuration device (QEMU "fw_cfg DMA interface"): the descriptor and the data are
//! in guest memory, which the chip does not reach.

use crate::Machine;
use arch::GuestPhys;
use devmodel::fwcfg::{DMA_ERROR, Dma};

/// Most bytes of zeros that are stored behind an item's end in one request.
const MOST_ZEROS: u32 = 1 << 20;

impl Machine {
    /// Carries out the request whose descriptor is at `at`. What is not RAM makes it fail.
    pub(crate) fn fw_cfg_dma(&self, at: u64) {
        let at = GuestPhys(at);
        let mut descriptor = [0; 16];
        if self.ram.read(at, &mut descriptor).is_err() {
            return;
        }
        let mut board = self.board.lock();
        let control = match board.fw_cfg.begin(descriptor) {
            Dma::Done => 0,
            Dma::Failed => DMA_ERROR,
            Dma::Read { address, length } => {
                let to = GuestPhys(address);
                let bytes = board.fw_cfg.take(length);
                let zeros = length - bytes.len() as u32;
                let stored = self.ram.contains(to, length.into())
                    && zeros <= MOST_ZEROS
                    && self.ram.write_slice(to, bytes).is_ok()
                    && self
                        .ram
                        .fill(GuestPhys(address + bytes.len() as u64), zeros.into(), 0)
                        .is_ok();
                if stored { 0 } else { DMA_ERROR }
            }
        };
        drop(board);
        // Big-endian, over the descriptor's first field.
        let _ = self.ram.write_u32(at, control.swap_bytes());
    }
}
