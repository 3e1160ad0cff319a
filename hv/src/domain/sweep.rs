//! A guest that touches more than it has before its balloon is there: its pages of zeros are taken back.
//!
//! In this order: out of the window, out of the second-level table and all TLBs, and only then is a page looked at. Who
//! wants it meanwhile takes it back (`demand.rs`), so that nobody waits for a sweep.

use arch::slat::{Flush, Range};
use arch::{GuestPhys, Why};
use machine::host::Backed;
use pvdrivers::DomId;

use super::backend::Backend;
use super::demand::{Demand, Page, SWEEP};
use super::{Domain, pv, window};
use crate::mem::layout;

impl<B: Backend> Domain<B> {
    /// [`Host::back`](machine::Host::back).
    pub(super) fn back_page(&self, gpa: GuestPhys) -> Backed {
        let Some(demand) = self.frames.demand() else { return Backed::Yes };
        if !demand.is_at_hand(gpa.page().0) {
            match self.sweep(demand) {
                Some(0) => return Backed::Later,
                Some(_) => {}
                None => return Backed::Never,
            }
        }
        match demand.provide(gpa.0) {
            Some(_) => Backed::Yes,
            None => self.starve(),
        }
    }

    /// Before a turn: pays for what the hypervisor has touched for the guest beyond what it has. What ends it.
    pub fn pay(&self) -> Option<Why> {
        let demand = self.frames.demand().filter(|demand| demand.is_short())?;
        if demand.has_lost() {
            let _ = self.starve();
        } else if self.sweep(demand).is_some() {
            return None;
        }
        Some(Why::Unhandled(0))
    }

    /// Takes some pages of zeros back; how many. `None`: there are none, and that was said.
    #[cold]
    fn sweep(&self, demand: &Demand) -> Option<usize> {
        let dom = DomId(self.id as u16);
        let is_free = |page: u64| {
            let (hub, frame) = (pv::hub(), page / layout::PAGE);
            !hub.grants.lock().holds_frame(dom, frame) && !hub.memories.holds_frame(dom, frame)
        };
        if !self.balloon.is_quiet() {
            return Some(0);
        }
        let swept = self.balloon.alone(|| {
            let Some(found) = demand.candidates(is_free) else { return None };
            let taken = demand.take_out(&found);
            let quiet = self.hide(&taken) && self.balloon.is_quiet();
            // A grant of which the use began before is known now; who begins later takes the page back.
            let mut good = heapless::Vec::<u64, SWEEP>::new();
            good.extend(taken.iter().map(|(page, _)| *page).filter(|page| quiet && is_free(*page)));
            Some(demand.settle(&good))
        });
        match swept {
            Some(None) => {
                let _ = self.starve();
                None
            }
            Some(Some(count)) => Some(count),
            // Another CPU is at it.
            None => Some(0),
        }
    }

    /// Takes pages out of the second-level table and of all TLBs. False: somebody may still have one.
    fn hide(&self, pages: &[Page]) -> bool {
        let unmapped = self.with_slat(|slat, store| {
            pages.iter().try_fold(Flush::No, |flush, (page, frame)| {
                let from = GuestPhys(*page);
                // Another page of the hypervisor's may cover it.
                if slat.lookup(store, from).is_none_or(|there| there.to != *frame) {
                    return Ok(flush);
                }
                Ok(flush | slat.unmap(store, Range { from, bytes: layout::PAGE })?)
            })
        });
        self.wait_for_flush();
        unmapped.is_ok() && window::shootdown()
    }

    /// The guest has used what it has, and nothing can be taken back.
    #[cold]
    fn starve(&self) -> Backed {
        let mib = |pages: u64| pages >> 8;
        let (maximum, _) = self.machine.reservation();
        let budget = self.frames.demand().map_or(0, |demand| demand.budget_bytes() >> 20);
        if self.frames.demand().is_some_and(Demand::is_to_tell) {
            log::error!(
                "{}: it has used its {budget} MiB, and its balloon has not given back the other {}: it ends. Raise `memory`, lower `maxmem` ({} MiB), or give it a balloon driver that starts earlier",
                self.name,
                mib(maximum).saturating_sub(budget),
                mib(maximum)
            );
        }
        Backed::Never
    }

    /// [`Host::owe_all`](machine::Host::owe_all).
    pub(super) fn begin_anew(&self) -> Option<bool> {
        let demand = self.frames.demand()?;
        if demand.was_fresh() {
            return Some(true);
        }
        let hidden = self.frames.ram_ranges().all(|(from, bytes)| {
            let range = Range { from, bytes };
            self.with_slat(|slat, store| slat.unmap(store, range)).is_ok()
        });
        self.wait_for_flush();
        self.frames.clear();
        Some(hidden && demand.begin())
    }

    /// Pages of RAM that the guest may have, and that it has now.
    #[must_use]
    pub fn reservation(&self) -> (u64, u64) {
        let (maximum, kept) = self.machine.reservation();
        let uncovered = self.frames.demand().map_or(0, Demand::uncovered);
        (maximum, kept.saturating_sub(uncovered))
    }
}
