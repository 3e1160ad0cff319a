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
    page.set_bit(info * 8) == Some(false)
}

impl Bits {
    /// The number in the page of a port's bit, in the bits that begin at byte `base`. `None` for a port that
    /// this width cannot tell.
    #[inline]
    fn place(&self, base: usize, port: Port) -> Option<usize> {
        (port.0 < self.width.bits().pow(2)).then_some(base * 8 + port.0 as usize)
    }

    /// Sets a bit; whether it was set.
    #[inline]
    fn set(&self, base: usize, port: Port) -> Option<bool> {
        self.page.set_bit(self.place(base, port)?)
    }

    /// Clears a bit; whether it was set.
    #[inline]
    fn clear(&self, base: usize, port: Port) -> Option<bool> {
        self.page.clear_bit(self.place(base, port)?)
    }

    #[inline]
    fn test(&self, base: usize, port: Port) -> Option<bool> {
        self.page.test_bit(self.place(base, port)?)
    }

    /// Makes an event pending. The order of the steps is the ABI: pending, mask, selector, upcall.
    #[inline(always)]
    pub fn raise(&self, port: Port, info: Option<(SharedPage, usize)>) -> Raised {
        let layout = SharedInfo::of(self.width);
        if self.set(layout.evtchn_pending, port) != Some(false) {
            return Raised::default();
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
    // Alone, so that the compiler sees BTS in it.
    #[inline(never)]
    fn select(&self, port: Port, info: Option<(SharedPage, usize)>) -> bool {
        let Some((page, at)) = info else { return false };
        let word = (port.0 / self.width.bits()) as usize;
        let selector = at + VcpuInfo::of(self.width).evtchn_pending_sel;
        page.set_bit(selector * 8 + word) == Some(false) && mark_upcall(&page, at)
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
