//! Populate on demand: RAM of a guest that may have more than it has (`maxmem` above `memory`).
//!
//! A page that nobody has touched is owed: there is nothing at its place in the window, and nothing in the
//! second-level table. The first touch takes a frame of the pool, which was filled when the guest was built: a
//! nested fault where the guest touches, and a page fault of the host's ([`recover`]) where the hypervisor does so
//! on its behalf. What the guest gives back pays its debt. Read next: `sweep.rs`.

// UNSAFETY: looks for zeros in frames, by physical address.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::HostPhys;
use arch::ram::HIGH_RAM;

use super::{snapshot, window};
use crate::cpu::lock::IrqLock;
use crate::cpu::{self, YIELD, trap};
use crate::mem::debt::Debt;
pub use crate::mem::debt::{Page, SWEEP};
use crate::mem::frames::{self, Block};
use crate::mem::{self, layout};

/// Pages below are the firmware's and other old things'; they are never owed.
pub const FIRST: u64 = 2 << 20;
/// Pages that one sweep walks over at the most.
const WALK: u64 = 8192;

/// What a guest owes and is owed.
#[derive(Debug)]
pub struct Demand {
    window: u64,
    low_bytes: u64,
    high_bytes: u64,
    /// What is in the window where a page was given back.
    sink: HostPhys,
    /// Pages that the guest is to have: `memory`.
    budget: usize,
    /// More was taken than the guest is to have: it pays before it goes on.
    short: AtomicBool,
    /// It is as it was built.
    fresh: AtomicBool,
    /// That the guest has nothing left was said.
    told: AtomicBool,
    /// The machine had no memory for a page that had to be touched.
    lost: AtomicBool,
    /// Where the next sweep begins: a page by number, low RAM first.
    cursor: AtomicU64,
    /// Pages that were walked over since a sweep found something.
    vain: AtomicU64,
    state: IrqLock<Debt>,
}

/// Guests whose windows may have nothing at a page.
static ALL: IrqLock<heapless::Vec<&'static Demand, 64>> = IrqLock::new(heapless::Vec::new());

/// A page fault of the host's. True: it was at a page of RAM that is owed, and there is memory now.
fn recover(address: u64) -> bool {
    let all = ALL.lock();
    let found = all.iter().find(|demand| demand.contains(address.wrapping_sub(demand.window)));
    let found = found.copied();
    drop(all);
    found.is_some_and(|demand| {
        let gpa = address - demand.window;
        demand.provide(gpa).is_some() || demand.lose(gpa)
    })
}

impl Demand {
    /// All RAM of the window is owed, and `memory` bytes are set aside. `None` where memory is short, or there are too
    /// many such guests.
    pub fn new(
        window: u64,
        (low_bytes, high_bytes): (u64, u64),
        memory: u64,
        sink: HostPhys,
    ) -> Option<&'static Demand> {
        let budget = (memory / layout::PAGE) as usize;
        let mut pool = Vec::new();
        pool.try_reserve_exact(budget).ok()?;
        let demand = Demand {
            window,
            low_bytes,
            high_bytes,
            sink,
            budget,
            fresh: AtomicBool::new(true),
            told: AtomicBool::new(false),
            short: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            cursor: AtomicU64::new(0),
            vain: AtomicU64::new(0),
            state: IrqLock::new(Debt::new(pool)),
        };
        if !demand.begin() {
            demand.give_back();
            return None;
        }
        let demand: &'static Demand = Box::leak(Box::new(demand));
        trap::on_page_fault(recover);
        if ALL.lock().push(demand).is_err() {
            demand.give_back();
            return None;
        }
        Some(demand)
    }

    /// The pool goes to the host.
    pub fn give_back(&self) {
        let mut state = self.state.lock();
        state.pool.drain(..).for_each(to_host);
    }

    /// Bytes that the guest is to have.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.budget as u64 * layout::PAGE
    }

    /// Pages of RAM.
    fn pages(&self) -> u64 {
        (self.low_bytes + self.high_bytes) / layout::PAGE
    }

    /// Whether there is RAM at a guest-physical address.
    fn contains(&self, gpa: u64) -> bool {
        gpa < self.low_bytes || (gpa >= HIGH_RAM && gpa - HIGH_RAM < self.high_bytes)
    }

    /// The guest-physical address of a page by its number.
    fn place(&self, number: u64) -> u64 {
        let at = number * layout::PAGE;
        if at < self.low_bytes { at } else { HIGH_RAM + (at - self.low_bytes) }
    }

    /// Pages that are owed and have no frame in the pool.
    #[must_use]
    pub fn uncovered(&self) -> u64 {
        let state = self.state.lock();
        (state.owed + state.over).saturating_sub(state.pool.len() as u64)
    }

    /// Whether nothing has changed since it was built; once.
    pub fn was_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::Relaxed)
    }

    /// Whether it must be said that the guest has nothing left; once.
    pub fn is_to_tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Whether the guest must pay before it goes on.
    #[must_use]
    #[inline]
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Whether a page would get a frame without a sweep, or has one.
    #[must_use]
    pub fn is_at_hand(&self, page: u64) -> bool {
        let state = self.state.lock();
        let there = || window::find(self.window + page).is_some();
        !state.pool.is_empty() || there() || state.transit.iter().any(|(at, _)| *at == page)
    }

    /// Sees to it that there is a frame behind the page of a guest-physical address: that of the address. Where the
    /// pool is empty the host lends one, for which the guest pays soon. `None`: there is no memory at all,
    /// or no RAM.
    pub fn provide(&self, gpa: u64) -> Option<HostPhys> {
        if !self.contains(gpa) {
            return None;
        }
        let (page, offset) = (gpa & !(layout::PAGE - 1), gpa & (layout::PAGE - 1));
        let virt = self.window + page;
        let mut state = self.state.lock();
        if let Some((there, _)) = window::find(virt) {
            return Some(HostPhys(there.0 + offset));
        }
        let frame = match state.recall(page) {
            Some(frame) => frame,
            None => {
                let frame = match state.pool.pop() {
                    Some(frame) => {
                        self.vain.store(0, Ordering::Relaxed);
                        frame
                    }
                    None => {
                        let frame = snapshot::frame()?;
                        state.over += 1;
                        self.short.store(true, Ordering::Relaxed);
                        // The turn ends, if it is the guest's, and before the next one it pays.
                        cpu::this().ask(YIELD);
                        frame
                    }
                };
                mem::zero(frame, layout::PAGE);
                state.owed = state.owed.saturating_sub(1);
                frame
            }
        };
        window::map(virt, layout::PAGE, frame).ok()?;
        Some(HostPhys(frame.0 + offset))
    }

    /// There is no memory for a page that the hypervisor must touch: what it writes there is lost, and the guest ends
    /// soon. False for want of tables.
    fn lose(&self, gpa: u64) -> bool {
        let mut state = self.state.lock();
        self.lost.store(true, Ordering::Relaxed);
        self.short.store(true, Ordering::Relaxed);
        state.owed = state.owed.saturating_sub(1);
        window::map(self.window + (gpa & !(layout::PAGE - 1)), layout::PAGE, self.sink).is_ok()
    }

    /// Whether something was lost since the guest began.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The guest gives a page back: the sink is in its place, and its frame is returned, if it had one.
    pub fn take(&self, page: u64) -> Option<HostPhys> {
        let (virt, sink) = (self.window + page, self.sink);
        let mut state = self.state.lock();
        if let Some(frame) = state.recall(page) {
            window::map(virt, layout::PAGE, sink).ok()?;
            return Some(frame);
        }
        if window::find(virt).is_some() {
            return window::replace(virt, sink, |old| old != sink);
        }
        if window::map(virt, layout::PAGE, sink).is_ok() {
            state.owed = state.owed.saturating_sub(1);
            if let Some(frame) = state.surplus() {
                to_host(frame);
            }
        }
        None
    }

    /// A frame that nobody uses any more.
    pub fn receive(&self, frame: HostPhys) {
        let mut state = self.state.lock();
        state.receive(frame).into_iter().for_each(to_host);
        self.short.store(state.over > 0 || self.has_lost(), Ordering::Relaxed);
    }

    /// Nothing is in the window: all pages are owed, the budget is in the pool, and the first pages get theirs. False:
    /// memory is short.
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock();
        state.owed = self.pages();
        state.over = 0;
        state.transit.clear();
        self.short.store(false, Ordering::Relaxed);
        self.lost.store(false, Ordering::Relaxed);
        self.told.store(false, Ordering::Relaxed);
        self.vain.store(0, Ordering::Relaxed);
        while state.pool.len() < self.budget {
            let Some(frame) = snapshot::frame() else { return false };
            state.pool.push(frame);
        }
        drop(state);
        (0..FIRST.min(self.low_bytes))
            .step_by(layout::PAGE as usize)
            .all(|at| self.provide(at).is_some())
    }

    /// Takes everything out of the window; nobody runs the guest, and no table shows a page.
    pub fn clear(&self) {
        let mut taken = heapless::Vec::<HostPhys, 256>::new();
        let end = self.pages();
        for number in 0..end {
            if let Some(frame) = window::take_out(self.window + self.place(number))
                && frame != self.sink
            {
                // There is room: it is emptied when it is full.
                let _ = taken.push(frame);
            }
            if taken.is_full() || number + 1 == end {
                // What a CPU that does not answer writes for the guest is lost, as that CPU is.
                let _ = window::shootdown();
                let mut state = self.state.lock();
                while let Some(frame) = taken.pop() {
                    if state.pool.len() < self.budget {
                        state.pool.push(frame);
                    } else {
                        to_host(frame);
                    }
                }
            }
        }
    }

    /// Pages of zeros, as it seems, that `free` says nobody else uses: some of them, from where the last search ended.
    /// `None`: all were looked at again and again, and none could be taken.
    pub fn candidates(&self, free: impl Fn(u64) -> bool) -> Option<heapless::Vec<Page, SWEEP>> {
        let mut found = heapless::Vec::new();
        let pages = self.pages();
        if self.vain.load(Ordering::Relaxed) > 2 * pages {
            return None;
        }
        let start = self.cursor.load(Ordering::Relaxed);
        let mut walked = 0;
        while walked < WALK.min(pages) && !found.is_full() {
            let at = self.place((start + walked) % pages);
            walked += 1;
            if at >= FIRST
                && let Some((frame, _)) = window::find(self.window + at)
                && frame != self.sink
                && is_zero(frame)
                && free(at)
            {
                let _ = found.push((at, frame));
            }
        }
        self.cursor.store((start + walked) % pages, Ordering::Relaxed);
        self.vain.fetch_add(walked, Ordering::Relaxed);
        Some(found)
    }

    /// Takes pages out of the window, to look at them when nobody can write to them; what else is there now is left.
    /// Those that were taken.
    pub fn take_out(&self, pages: &[Page]) -> heapless::Vec<Page, SWEEP> {
        let mut taken = heapless::Vec::new();
        let mut state = self.state.lock();
        for (page, frame) in pages {
            let virt = self.window + page;
            if window::find(virt).is_some_and(|(there, _)| there == *frame)
                && window::take_out(virt).is_some()
            {
                let _ = (state.transit.push((*page, *frame)), taken.push((*page, *frame)));
            }
        }
        taken
    }

    /// Ends what [`take_out`](Demand::take_out) began: pages that nobody took back, that `good` says nobody uses, and
    /// that are zeros, are owed from now on; the others are back. How many are owed.
    pub fn settle(&self, good: &[u64]) -> usize {
        let mut state = self.state.lock();
        let mut count = 0;
        while let Some((page, frame)) = state.transit.pop() {
            if good.contains(&page) && is_zero(frame) {
                state.owed += 1;
                state.receive(frame).into_iter().for_each(to_host);
                count += 1;
            } else if window::map(self.window + page, layout::PAGE, frame).is_err() {
                log::error!("a page of a guest is lost for want of memory for tables");
            }
        }
        if count > 0 {
            self.vain.store(0, Ordering::Relaxed);
        }
        self.short.store(state.over > 0 || self.has_lost(), Ordering::Relaxed);
        count
    }
}

fn to_host(frame: HostPhys) {
    frames::free(frame, Block::Page);
}

/// Whether a frame is all zeros.
fn is_zero(frame: HostPhys) -> bool {
    let words = mem::phys_to_virt(frame).cast::<AtomicU64>();
    (0..layout::PAGE as usize / 8).all(|n| {
        // SAFETY: a frame of the guest's, in the direct map; whoever else has it uses atomic integers, too.
        unsafe { &*words.add(n) }.load(Ordering::Relaxed) == 0
    })
}
