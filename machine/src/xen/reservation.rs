//! RAM that a guest gives back to the host and asks for again: the balloon. Xen public "memory.h".
//!
//! A page is taken from the guest in this order: no grant of it is in use, and none can begin
//! (`Holes`); the host takes it out of all tables and TLBs; then it may be anybody's.

use super::Xen;
use super::hypercall::{Call, Outcome};
use crate::Machine;
use crate::host::Host;
use crate::memmap::Region;
use arch::addr::PAGE_SIZE;
use arch::{GuestPhys, GuestVirt, Vcpu};
use pvdrivers::Errno;
use pvdrivers::abi::memory::{MEMOP_EXTENT_SHIFT, MemoryOp, Reservation};
use pvdrivers::abi::{Layout, Ulong};

/// Pages that are worked on before the guest may take an interrupt.
pub const STEP: usize = 512;
/// The largest extent, as a power of two: as Xen has it for guests ("CONFIG_DOMU_MAX_ORDER").
pub(super) const MAX_ORDER: u32 = 9;

const _: () = assert!(STEP >= 1 << MAX_ORDER);

pub(super) type Pages = heapless::Vec<GuestPhys, STEP>;

impl Machine {
    /// `decrease_reservation` and `populate_physmap`: how many extents were done, perhaps not all. The
    /// command's high bits say where a continued call goes on.
    #[cold]
    #[inline(never)]
    pub(crate) fn change_reservation<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
        op: MemoryOp,
    ) -> Outcome {
        let begun = u64::from(call.args[0] as u32 >> MEMOP_EXTENT_SHIFT);
        // The result counts extents: whatever is wrong, no more of them are done.
        let arg: Result<Reservation, Errno> = self.claim(vcpu, call.pointer(1), call.width);
        let Some(arg) = arg.ok().filter(|arg| call.xen.own(arg.domid).is_ok()) else {
            return Outcome::Done(begun as i64);
        };
        let extents = arg.nr_extents.0;
        let too_many = extents > u64::from(u32::MAX >> MEMOP_EXTENT_SHIFT);
        if begun >= extents || too_many || arg.extent_order > MAX_ORDER {
            return Outcome::Done(begun as i64);
        }
        let count = (extents - begun).min(STEP as u64 >> arg.extent_order);
        let mut pages = Pages::new();
        let read = self.read_extents(vcpu, call, &arg, begun, count, &mut pages);
        let done = match op {
            MemoryOp::DECREASE_RESERVATION => self.give_back(call.xen, host, &pages, 0),
            _ => Some(self.populate(host, &pages)),
        };
        // The host cannot take them now: the guest asks again, and takes interrupts before.
        let Some(done) = done else { return Outcome::Again };
        let end = begun + (done as u64 >> arg.extent_order);
        if read < count || (done as u64) < count << arg.extent_order || end >= extents {
            return Outcome::Done(end as i64);
        }
        call.set_argument(vcpu, 0, u64::from(op.0) | end << MEMOP_EXTENT_SHIFT);
        Outcome::Again
    }

    /// The pages of up to `count` extents; of how many the numbers could be read.
    pub(super) fn read_extents<V: Vcpu>(
        &self,
        vcpu: &V,
        call: &Call<'_>,
        arg: &Reservation,
        begun: u64,
        count: u64,
        pages: &mut Pages,
    ) -> u64 {
        for n in 0..count {
            let offset = (begun + n) * Ulong::size(call.width) as u64;
            let at = GuestVirt(arg.extent_start.0.wrapping_add(offset));
            let Ok(first) = self.claim::<Ulong, V>(vcpu, at, call.width) else { return n };
            for page in 0..1u64 << arg.extent_order {
                // What is beyond all addresses is no RAM, and refused as that.
                let frame = first.0.checked_add(page).and_then(|gfn| gfn.checked_mul(PAGE_SIZE));
                let _ = pages.push(GuestPhys(frame.unwrap_or(u64::MAX)));
            }
        }
        count
    }

    /// Gives pages to the host, in chunks of two to the power of `order` pages that stay together. How many of them, in
    /// order, since the first one that is no RAM, was given back before, or is used by others. `None`: the
    /// host cannot take any now.
    pub(crate) fn give_back<H: Host>(
        &self,
        xen: &Xen,
        host: &H,
        pages: &[GuestPhys],
        order: u32,
    ) -> Option<usize> {
        let fits = |at: &GuestPhys| {
            if self.memmap.lock().find(*at) != Region::Ram || self.is_firmware(*at) {
                return false;
            }
            // Under these locks nobody begins to use it; who does after them finds no page.
            let grants = xen.hub.grants.lock();
            let frame = at.0 / PAGE_SIZE;
            let take = || self.holes.take(*at);
            !grants.holds_frame(xen.domid, frame)
                && xen.hub.memories.unless_held(xen.domid, frame, take)
        };
        let fit = pages.iter().take_while(|at| fits(at)).count();
        let count = fit >> order << order;
        pages.iter().take(fit).skip(count).for_each(|at| self.holes.put(*at));
        let pages = pages.get(..count).unwrap_or_default();
        if count == 0 || host.release(pages) {
            return Some(count);
        }
        pages.iter().for_each(|at| self.holes.put(*at));
        None
    }

    /// Gets zeroed pages from the host. How many of them, in order, since the first one that is no RAM or
    /// that the host has no memory for. Those that are there are left as they are.
    pub(crate) fn populate<H: Host>(&self, host: &H, pages: &[GuestPhys]) -> usize {
        let is_ram = |at: &&GuestPhys| self.ram.contains(**at, PAGE_SIZE);
        let count = pages.iter().take_while(is_ram).count();
        let pages = pages.get(..count).unwrap_or_default();
        let mut missing = Pages::new();
        for at in pages.iter().filter(|at| self.holes.is_absent(**at)) {
            let _ = missing.push(*at);
        }
        if missing.is_empty() {
            return count;
        }
        let got = host.populate(&missing);
        missing.iter().take(got).for_each(|at| self.holes.put(*at));
        let short = missing.get(got);
        short.map_or(count, |first| pages.iter().position(|at| at == first).unwrap_or(count))
    }

    /// Gets all back that the guest gave: a computer that is switched on has all its RAM. False where the
    /// host has no memory for it.
    pub(crate) fn refill<H: Host>(&self, host: &H) -> bool {
        if let Some(done) = host.owe_all() {
            self.holes.clear();
            return done;
        }
        while self.holes.absent() > 0 {
            let mut pages = Pages::new();
            for at in self.holes.iter().take(STEP) {
                let _ = pages.push(at);
            }
            if self.populate(host, &pages) < pages.len() {
                return false;
            }
        }
        true
    }

    /// Pages of RAM that the guest may have, and that it has not given back.
    #[must_use]
    pub fn reservation(&self) -> (u64, u64) {
        let pages = self.holes.pages();
        (pages, pages.saturating_sub(self.holes.absent()))
    }

    /// Pages below 1 MiB that firmware or video memory may cover.
    fn is_firmware(&self, at: GuestPhys) -> bool {
        (crate::memmap::VGA_WINDOW..crate::memmap::MEGABYTE).contains(&at.0)
    }

    /// `remove_from_physmap` of RAM: the page goes back to the host.
    pub(crate) fn remove_ram<H: Host>(&self, xen: &Xen, host: &H, gfn: u64) -> Result<u64, Errno> {
        let at = GuestPhys(gfn.checked_mul(PAGE_SIZE).ok_or(Errno::ENOENT)?);
        match self.give_back(xen, host, &[at], 0) {
            Some(1) => Ok(0),
            Some(_) if !self.ram.contains(at, PAGE_SIZE) || self.holes.is_absent(at) => {
                Err(Errno::ENOENT)
            }
            Some(_) => Err(Errno::EINVAL),
            None => Err(Errno::EBUSY),
        }
    }
}
