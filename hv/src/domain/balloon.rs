//! Memory that a guest gives back and gets again, and what its balloon was asked to reach.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use alloc::vec::Vec;
use arch::slat::{Flush, Range};
use arch::{GuestPhys, HostPhys, Perm};
use machine::host::Backing;
use machine::xen::STEP;

use super::backend::Backend;
use super::memory::Frames;
use super::{Domain, console, pv, snapshot, window};
use crate::cpu::lock::IrqLock;
use crate::cpu::tsc;
use crate::mem::frames::{self, Block};

/// How soon CPU 0 looks whether a balloon has reached its goal.
const LOOK_NS: u64 = 5_000_000;

/// What a guest gives back, and who must let go of it before it is anybody's.
pub struct Balloon {
    /// Requests of its emulated disks under way, which write to its memory.
    in_flight: AtomicUsize,
    /// One CPU works on `quarantine`.
    busy: AtomicBool,
    /// Frames that it gave back while a request was under way that may still write there.
    quarantine: IrqLock<Vec<HostPhys>>,
    /// Pages that it is to have; 0 for no goal.
    goal: AtomicU64,
    /// Bytes of the machine that were free when it got the goal.
    free_before: AtomicU64,
}

impl Balloon {
    /// Nothing was given back.
    #[must_use]
    pub fn new() -> Balloon {
        Balloon {
            in_flight: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            quarantine: IrqLock::new(Vec::with_capacity(STEP)),
            goal: AtomicU64::new(0),
            free_before: AtomicU64::new(0),
        }
    }

    /// A request of an emulated disk begins to use the guest's memory.
    pub fn begin_request(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended.
    pub fn end_request(&self, frames: &Frames) {
        let old = self.in_flight.fetch_sub(1, Ordering::SeqCst);
        assert!(old > 0, "a request ends once");
        if old == 1 {
            self.alone(|| self.empty_quarantine(frames));
        }
    }

    /// Whether no request of an emulated disk may be writing to the guest's memory.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// Does `work` unless another CPU is at it.
    pub(super) fn alone<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if self.busy.swap(true, Ordering::SeqCst) {
            return None;
        }
        let result = work();
        self.busy.store(false, Ordering::SeqCst);
        Some(result)
    }

    /// Frees the frames that the guest gave back, unless a request may still write there. True if there
    /// are none.
    fn empty_quarantine(&self, frames: &Frames) -> bool {
        let mut kept = self.quarantine.lock();
        if self.in_flight.load(Ordering::SeqCst) == 0 {
            kept.drain(..).for_each(|frame| frames.free(frame));
        }
        kept.is_empty()
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Domain<B> {
    /// [`Host::release`](machine::Host::release).
    pub(super) fn release_pages(&self, pages: &[GuestPhys]) -> bool {
        let done = self.balloon.alone(|| {
            let empty = self.balloon.empty_quarantine(&self.frames);
            if empty {
                self.take_pages(pages);
            }
            empty
        });
        self.look_at_goal();
        done == Some(true)
    }

    /// Takes pages of RAM from the guest; their frames are free, or will be when requests under way have
    /// ended. Nobody else is at it, and nothing is in quarantine.
    fn take_pages(&self, pages: &[GuestPhys]) {
        let mut kept = self.balloon.quarantine.lock();
        let room = pages.iter().take(STEP);
        kept.extend(room.filter_map(|page| self.frames.take(*page)));
        drop(kept);
        let unmapped = self.with_slat(|slat, store| {
            let mut one = |from: GuestPhys| slat.unmap(store, Range { from, bytes: 4096 });
            pages.iter().try_fold(Flush::No, |flush, page| one(*page).map(|step| flush | step))
        });
        self.wait_for_flush();
        if unmapped.is_err() || !window::shootdown() {
            log::error!("{}: memory that it gave back is lost", self.name);
            self.balloon.quarantine.lock().clear();
        }
        self.balloon.empty_quarantine(&self.frames);
    }

    /// [`Host::populate`](machine::Host::populate).
    pub(super) fn populate_pages(&self, pages: &[GuestPhys]) -> usize {
        let mut done = 0;
        for page in pages {
            let Some(frame) = snapshot::frame() else { break };
            if !self.frames.put(*page, frame) {
                frames::free(frame, Block::Page);
                // Another vCPU may have put one there meanwhile, or there are no tables for it.
                if self.frames.is_absent(*page) {
                    break;
                }
            }
            done += 1;
        }
        let pages = pages.get(..done).unwrap_or_default();
        // What a CPU that does not answer writes for the guest is lost, as that CPU is.
        let _ = window::shootdown();
        let mapped = self.with_slat(|slat, store| {
            let mut one =
                |at: GuestPhys| self.frames.map(slat, store, at, 4096, Backing::Ram, Perm::RWX);
            pages.iter().try_fold(Flush::No, |flush, at| one(*at).map(|step| flush | step))
        });
        if mapped.is_err() {
            log::warn!("{}: memory for its tables is short", self.name);
        }
        self.look_at_goal();
        done
    }

    /// Asks the guest's balloon to leave it so much memory. False where it does not find Xen's interface.
    pub fn set_memory(&self, mib: u64) -> bool {
        self.balloon.free_before.store(frames::stats().free, Ordering::Relaxed);
        self.balloon.goal.store(mib << 8, Ordering::Release);
        let told = pv::set_memory_target(self, mib << 10);
        self.look_at_goal();
        told
    }

    /// Has CPU 0 look at the goal, if there is one.
    fn look_at_goal(&self) {
        if self.balloon.goal.load(Ordering::Relaxed) != 0 {
            console::want_by(tsc::now() + tsc::from_ns(LOOK_NS));
        }
    }

    /// Says when the balloon has reached its goal.
    pub fn tell_of_goal(&self) {
        let goal = self.balloon.goal.load(Ordering::Acquire);
        if goal == 0 || self.reservation().1 != goal {
            return;
        }
        self.balloon.goal.store(0, Ordering::Release);
        let (now, before) =
            (frames::stats().free, self.balloon.free_before.load(Ordering::Relaxed));
        let way = if now < before { "less" } else { "more" };
        let (mib, by) = (goal >> 8, now.abs_diff(before) >> 20);
        log::info!("{}: its balloon reached {mib} MiB; {by} MiB {way} are free", self.name);
    }
}
