//! Run states: how long a vCPU ran, wanted to, or waited, as its guest sees it. Xen public "vcpu.h".

use super::vcpu::NONE;
use super::{Xen, XenVcpu};
use crate::Machine;
use crate::host::Host;
use arch::addr::PAGE_SIZE;
use arch::{GuestPhys, Nanos};
use core::sync::atomic::{Ordering, fence};
use pvdrivers::abi::Layout;
use pvdrivers::abi::vcpu::{RUNSTATE_UPDATE, Runstate, RunstateInfo};

/// Bytes of `struct vcpu_runstate_info`, as a 64-bit guest has it.
const RUNSTATE_SIZE: usize = RunstateInfo::SHAPE.size64;

impl XenVcpu {
    /// The record as of `now`.
    pub(super) fn runstate_info(&self, now: Nanos) -> RunstateInfo {
        let state = self.state.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let mut time = [0; 4];
        for (n, (to, spent)) in time.iter_mut().zip(&self.spent).enumerate() {
            *to = spent.load(Ordering::Relaxed);
            if n == usize::from(state) {
                *to = to.saturating_add(now.0.saturating_sub(since));
            }
        }
        RunstateInfo { state: state.into(), state_entry_time: since, time }
    }
}

impl Machine {
    /// A vCPU's state changes. Called by whoever runs it.
    pub fn set_runstate<H: Host>(&self, host: &H, which: usize, state: Runstate) {
        let Some(xen) = &self.xen else { return };
        let Some(slot) = xen.vcpus.get(which) else { return };
        let old = slot.state.load(Ordering::Relaxed);
        let waits = state == Runstate::BLOCKED;
        let state = if waits && slot.is_down() { Runstate::OFFLINE } else { state };
        let state = state.0 as u8;
        if old == state {
            return;
        }
        let now = self.now(host);
        let since = slot.since.swap(now.0, Ordering::Relaxed);
        if let Some(spent) = slot.spent.get(usize::from(old)) {
            spent.fetch_add(now.0.saturating_sub(since), Ordering::Relaxed);
        }
        slot.state.store(state, Ordering::Relaxed);
        self.write_runstate(xen, which, now);
    }

    /// Writes the record to where the vCPU wants it.
    pub(super) fn write_runstate(&self, xen: &Xen, which: usize, now: Nanos) {
        let Some(slot) = xen.vcpus.get(which) else { return };
        let at = slot.runstate.load(Ordering::Acquire);
        if at == NONE {
            return;
        }
        let width = xen.width();
        let info = slot.runstate_info(now);
        let mut bytes = [0; RUNSTATE_SIZE];
        info.put(&mut bytes, 0, width);
        let bytes = &mut bytes[..RunstateInfo::size(width)];
        let rest = slot.runstate_rest.load(Ordering::Acquire);
        let write = |offset: usize, bytes: &[u8]| {
            let room =
                (PAGE_SIZE as usize - GuestPhys(at).page_offset() as usize).saturating_sub(offset);
            let (here, there) = bytes.split_at(room.min(bytes.len()));
            // The registered places are RAM: `area` looked.
            let _ = self.ram.write_slice(GuestPhys(at + offset as u64), here);
            if !there.is_empty() && rest != NONE {
                let begun = (offset + here.len()) as u64 + (at & (PAGE_SIZE - 1)) - PAGE_SIZE;
                let _ = self.ram.write_slice(GuestPhys(rest + begun), there);
            }
        };
        // Readers that asked for it (VMASST_TYPE_runstate_update_flag) wait while the highest bit of the time is set:
        // it is set before anything else changes, and cleared when all has.
        if !xen.runstate_flag.load(Ordering::Relaxed) {
            return write(0, bytes);
        }
        let top = width.pick(8, 4) + 7;
        let clear = bytes[top];
        bytes[top] |= (RUNSTATE_UPDATE >> 56) as u8;
        write(top, &[bytes[top]]);
        fence(Ordering::SeqCst);
        write(0, bytes);
        fence(Ordering::SeqCst);
        write(top, &[clear]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_state_grows_with_time() {
        let slot = XenVcpu::default();
        slot.state.store(2, Ordering::Relaxed);
        slot.since.store(100, Ordering::Relaxed);
        slot.spent[0].store(7, Ordering::Relaxed);
        let info = slot.runstate_info(Nanos(150));
        assert_eq!((info.state, info.state_entry_time), (2, 100));
        assert_eq!(info.time, [7, 0, 50, 0]);
    }
}
