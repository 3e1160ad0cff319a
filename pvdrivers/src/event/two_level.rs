//! The 2-level ABI: pending and mask bits of all ports in the shared info page, and per vCPU a
//! selector of words to look at. 4,096 ports for a 64-bit guest, 1,024 for a 32-bit one. Xen public
//! "xen.h".

use super::domain::Raised;
use crate::Port;
use crate::abi::Width;
use crate::abi::shared_info::{SharedInfo, VcpuInfo};
use arch::SharedPage;

/// A domain's bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub page: SharedPage,
    pub width: Width,
}

/// Sets a vCPU's `evtchn_upcall_pending`. Whether it was 0, so that the vCPU is to be told.
#[inline]
pub(super) fn mark_upcall(page: &SharedPage, info: usize) -> bool {
    page.fetch_or(info, 1, 1).is_ok_and(|before| before == 0)
}

impl Bits {
    /// Offset of the 4-byte word and the bit in it of a port, in the bits that begin at `base`.
    /// `None` for a port that this width cannot tell.
    #[inline]
    fn place(&self, base: usize, port: Port) -> Option<(usize, u64)> {
        if port.0 >= self.width.bits().pow(2) {
            return None;
        }
        Some((base + port.0 as usize / 32 * 4, 1 << (port.0 % 32)))
    }

    /// Sets a bit; whether it was set.
    #[inline]
    fn set(&self, base: usize, port: Port) -> Option<bool> {
        let (at, bit) = self.place(base, port)?;
        self.page.fetch_or(at, 4, bit).ok().map(|before| before & bit != 0)
    }

    /// Clears a bit; whether it was set.
    #[inline]
    fn clear(&self, base: usize, port: Port) -> Option<bool> {
        let (at, bit) = self.place(base, port)?;
        self.page.fetch_clear(at, 4, bit).ok().map(|before| before & bit != 0)
    }

    #[inline]
    fn test(&self, base: usize, port: Port) -> Option<bool> {
        let (at, bit) = self.place(base, port)?;
        self.page.read_u32(at).map(|word| u64::from(word) & bit != 0)
    }

    /// Makes an event pending. The order of the steps is the ABI: pending, mask, selector, upcall.
    #[inline]
    pub fn raise(&self, port: Port, info: Option<(SharedPage, usize)>) -> Raised {
        let layout = SharedInfo::of(self.width);
        match self.set(layout.evtchn_pending, port) {
            Some(false) => {}
            Some(true) | None => return Raised::default(),
        }
        let masked = self.test(layout.evtchn_mask, port).unwrap_or(true);
        Raised { upcall: !masked && self.select(port, info), fresh: true }
    }

    /// Takes the mask away. Whether the vCPU is to be told.
    pub fn unmask(&self, port: Port, info: Option<(SharedPage, usize)>) -> bool {
        let layout = SharedInfo::of(self.width);
        self.clear(layout.evtchn_mask, port) == Some(true)
            && self.test(layout.evtchn_pending, port) == Some(true)
            && self.select(port, info)
    }

    /// Marks the port's word in the vCPU's selector. Whether the vCPU is to be told.
    #[inline]
    fn select(&self, port: Port, info: Option<(SharedPage, usize)>) -> bool {
        let Some((page, at)) = info else { return false };
        let word = port.0 / self.width.bits();
        let at_word = at + VcpuInfo::of(self.width).evtchn_pending_sel + word as usize / 32 * 4;
        let bit = 1 << (word % 32);
        let before = page.fetch_or(at_word, 4, bit).unwrap_or(bit);
        before & bit == 0 && mark_upcall(&page, at)
    }

    pub fn clear_pending(&self, port: Port) {
        let _ = self.clear(SharedInfo::of(self.width).evtchn_pending, port);
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.test(SharedInfo::of(self.width).evtchn_pending, port) == Some(true)
    }

    pub fn is_masked(&self, port: Port) -> bool {
        self.test(SharedInfo::of(self.width).evtchn_mask, port).unwrap_or(true)
    }
}
