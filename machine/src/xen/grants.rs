//! `HYPERVISOR_grant_table_op`: arrays of arguments, and mappings in the caller's memory. Xen public
//! "grant_table.h".

use super::claim;
use super::hypercall::{Call, Outcome};
use super::{GRANT_FRAMES_MAX, GRANT_PAGES, PAGES, STATUS_FRAMES_MAX, Xen};
use crate::Machine;
use crate::cpu::Cpu;
use crate::host::{Backing, Host};
use arch::{GuestPhys, GuestVirt, Perm, SharedPage, Vcpu};
use pvdrivers::abi::grant_table::{
    Copy, GetStatusFrames, GetVersion, GrantOp, GrantStatus, MapGrantRef, QuerySize, SetVersion,
    SetupTable, SwapGrantRef, Transfer, UnmapAndReplace, UnmapGrantRef,
};
use pvdrivers::abi::{Layout, Ulong, Width};
use pvdrivers::grant::{Removal, Settings, Unmapping, Version};
use pvdrivers::{DomId, Errno};

/// Operations that are done before the guest may take an interrupt.
const BATCH: u64 = 32;
/// Pages of others that a guest may have mapped.
pub const MAX_MAPS: u32 = 32 * 1024;
/// Mappings that one frame of Xen's list has room for (xl.cfg(5) "max_maptrack_frames").
pub const MAPS_PER_FRAME: u32 = 512;

impl Machine {
    /// `grant_table_op(cmd, uop, count)`.
    pub(crate) fn grant_table_op<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        match GrantOp(call.args[0] as u32) {
            _ if (call.args[2] as i32) < 0 => Errno::EINVAL.into(),
            GrantOp::MAP_GRANT_REF => {
                self.each_at_once(cpu, vcpu, call, |arg| self.map_grant(host, call, arg))
            }
            GrantOp::UNMAP_GRANT_REF => {
                self.each_at_once(cpu, vcpu, call, |arg: &mut UnmapGrantRef| {
                    let begun = call.xen.hub.grants.lock().unmap(call.xen.domid, arg);
                    arg.status = self.end_grant(host, call.xen, begun).0;
                })
            }
            GrantOp::COPY => self.each_at_once(cpu, vcpu, call, |arg: &mut Copy| {
                let hub = call.xen.hub;
                let done = hub.grants.lock().copy(call.xen.domid, arg, &hub.memories);
                arg.status = status(done);
            }),
            _ => self.seldom_grant_op(vcpu, host, call),
        }
    }

    /// Those of [`Machine::grant_table_op`] that do not come often.
    #[cold]
    #[inline(never)]
    fn seldom_grant_op<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        // Their length does not count for the two that never had one.
        let once = || Call { args: [call.args[0], call.args[1], 1, 0, 0], ..*call };
        match GrantOp(call.args[0] as u32) {
            GrantOp::SETUP_TABLE | GrantOp::QUERY_SIZE | GrantOp::GET_STATUS_FRAMES
                if call.args[2] as u32 != 1 =>
            {
                Errno::EINVAL.into()
            }
            GrantOp::UNMAP_AND_REPLACE => self.each(vcpu, call, |_, arg: &mut UnmapAndReplace| {
                let begun = call.xen.hub.grants.lock().unmap_and_replace(call.xen.domid, arg);
                arg.status = self.end_grant(host, call.xen, begun).0;
                Ok(())
            }),
            GrantOp::SETUP_TABLE => {
                self.each(vcpu, call, |vcpu, arg| self.setup_table(vcpu, call, arg))
            }
            GrantOp::QUERY_SIZE => self.each(vcpu, call, |_, arg: &mut QuerySize| {
                arg.status = status(call.xen.hub.grants.lock().query_size(call.xen.domid, arg));
                Ok(())
            }),
            GrantOp::SET_VERSION => {
                let mut result = Ok(0);
                let told = self.each(vcpu, &once(), |_, arg: &mut SetVersion| {
                    let xen = call.xen;
                    let mut pages = xen.grant_pages();
                    let mut grants = xen.hub.grants.lock();
                    let set = grants.set_version(xen.domid, arg.version, &mut pages);
                    result = set.map(|()| 0);
                    // The present one, also where it stays.
                    arg.version = version(grants.get_version(xen.domid, xen.domid)?);
                    Ok(())
                });
                if told == Outcome::Done(0) { result.into() } else { told }
            }
            GrantOp::GET_VERSION => self.each(vcpu, &once(), |_, arg: &mut GetVersion| {
                let grants = call.xen.hub.grants.lock();
                arg.version = version(grants.get_version(call.xen.domid, DomId(arg.dom))?);
                Ok(())
            }),
            GrantOp::GET_STATUS_FRAMES => {
                self.each(vcpu, call, |vcpu, arg| self.get_status_frames(vcpu, call, arg))
            }
            GrantOp::SWAP_GRANT_REF => self.each(vcpu, call, |_, arg: &mut SwapGrantRef| {
                let mut grants = call.xen.hub.grants.lock();
                arg.status = status(grants.swap(call.xen.domid, arg.ref_a, arg.ref_b));
                Ok(())
            }),
            // A page changes hands between PV guests only.
            GrantOp::TRANSFER => self.each(vcpu, call, |_, arg: &mut Transfer| {
                arg.status = GrantStatus::GENERAL_ERROR.0;
                Ok(())
            }),
            _ => Errno::ENOSYS.into(),
        }
    }

    /// Does an operation for each argument of the array.
    fn each<T: Layout, V: Vcpu>(
        &self,
        vcpu: &mut V,
        call: &Call<'_>,
        mut work: impl FnMut(&mut V, &mut T) -> Result<(), Errno>,
    ) -> Outcome {
        in_turn(vcpu, call, T::size(call.width), |vcpu, at| {
            let mut arg: T = self.claim(vcpu, at, call.width)?;
            work(vcpu, &mut arg)?;
            self.give(vcpu, at, call.width, &arg)
        })
    }

    /// As [`each`](Machine::each), of operations that come often: an argument is looked for once, for reading and
    /// writing.
    #[inline(always)]
    fn each_at_once<T: Layout, V: Vcpu>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        call: &Call<'_>,
        mut work: impl FnMut(&mut T),
    ) -> Outcome {
        in_turn(vcpu, call, T::size(call.width), |vcpu, at| {
            let words = self.words_of(cpu, vcpu, at, T::size(call.width));
            let mut arg: T = match words {
                Some(words) => claim::parse_words(words, call.width),
                None => self.claim_apart(vcpu, at, call.width),
            }?;
            work(&mut arg);
            match words {
                Some(words) => claim::store_words(words, call.width, &arg),
                None => self.give_apart(vcpu, at, call.width, &arg),
            }
        })
    }

    fn map_grant<H: Host>(&self, host: &H, call: &Call<'_>, arg: &mut MapGrantRef) {
        let Call { xen, .. } = *call;
        let mapped = xen.hub.grants.lock().map(xen.domid, arg, &xen.hub.memories);
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(error) => {
                arg.status = error.0;
                return;
            }
        };
        let backing = Backing::Foreign(mapped.owner, GuestPhys(mapped.frame << 12));
        let perm = if mapped.write { Perm::RWX } else { Perm::RX };
        if self.is_free(mapped.at) && host.map(mapped.at, 4096, backing, perm) {
            arg.handle = mapped.handle;
            arg.dev_bus_addr = mapped.at.0;
            arg.status = GrantStatus::OKAY.0;
        } else {
            xen.hub.grants.lock().abandon(xen.domid, mapped);
            arg.status = GrantStatus::BAD_VIRT_ADDR.0;
        }
    }

    /// The second half of an unmapping: out of the caller's memory, then out of use.
    fn end_grant<H: Host>(
        &self,
        host: &H,
        xen: &Xen,
        begun: Result<Option<Unmapping>, GrantStatus>,
    ) -> GrantStatus {
        match begun {
            Ok(None) => GrantStatus::OKAY,
            Ok(Some(unmapping)) => {
                if let Some(at) = unmapping.at {
                    host.unmap(at, 4096);
                }
                xen.hub.grants.lock().unmapped(unmapping);
                GrantStatus::OKAY
            }
            Err(error) => error,
        }
    }

    fn setup_table<V: Vcpu>(
        &self,
        vcpu: &mut V,
        call: &Call<'_>,
        arg: &mut SetupTable,
    ) -> Result<(), Errno> {
        let Call { xen, width, .. } = *call;
        let mut pages = xen.grant_pages();
        let made = xen.hub.grants.lock().setup_table(xen.domid, arg, &mut pages);
        arg.status = status(made.map(|_| ()));
        if arg.status == GrantStatus::OKAY.0 {
            // Where each frame is mapped; those that are nowhere are told as none.
            for n in 0..arg.nr_frames.min(GRANT_FRAMES_MAX as u32) {
                let gfn = xen.gfn_of(xen.hub.grants.lock().frame(xen.domid, n));
                // As in Xen, a number that the caller's `long` does not hold ends the list.
                if width == Width::Bits32 && gfn >> 32 != 0 {
                    arg.status = GrantStatus::ADDRESS_TOO_BIG.0;
                    break;
                }
                let n = u64::from(n);
                let to = arg.frame_list.0.wrapping_add(n * Ulong::size(width) as u64);
                if self.give(vcpu, GuestVirt(to), width, &Ulong(gfn)).is_err() {
                    arg.status = GrantStatus::BAD_VIRT_ADDR.0;
                }
            }
        }
        Ok(())
    }

    fn get_status_frames<V: Vcpu>(
        &self,
        vcpu: &mut V,
        call: &Call<'_>,
        arg: &mut GetStatusFrames,
    ) -> Result<(), Errno> {
        let Call { xen, width, .. } = *call;
        let grants = xen.hub.grants.lock();
        let allowed = grants.get_status_frames(xen.domid, DomId(arg.dom), arg.nr_frames);
        drop(grants);
        arg.status = status(allowed.map(|_| ()));
        if arg.status == GrantStatus::OKAY.0 {
            for n in 0..arg.nr_frames.min(STATUS_FRAMES_MAX as u32) {
                let gfn = xen.gfn_of(xen.hub.grants.lock().status_frame(xen.domid, n));
                let to = GuestVirt(arg.frame_list.0.wrapping_add(u64::from(n) * 8));
                if self.give(vcpu, to, width, &gfn).is_err() {
                    arg.status = GrantStatus::BAD_VIRT_ADDR.0;
                }
            }
        }
        Ok(())
    }

    /// The page of the grant table that `XENMAPSPACE_grant_table` names; the table grows to have it.
    pub(crate) fn grant_page(&self, xen: &Xen, index: u64) -> Result<usize, Errno> {
        let mut pages = xen.grant_pages();
        let page = xen.hub.grants.lock().physmap_page(xen.domid, index, &mut pages)?;
        xen.number_of(&page).ok_or(Errno::EINVAL)
    }
}

impl Xen {
    /// Takes the domain's grant table out of what guests share. Back ends have let go of it; `unmap` takes
    /// pages of others out of this guest's memory, and its pages out of theirs.
    pub(super) fn leave_grants(
        &self,
        mut unmap: impl FnMut(DomId, GuestPhys),
    ) -> Result<(), Errno> {
        loop {
            let removal = self.hub.grants.lock().remove_domain(self.domid);
            match removal {
                Removal::Done => return Ok(()),
                Removal::Again => {}
                Removal::Revoke { user, handle, at } => {
                    unmap(user, at);
                    self.hub.grants.lock().revoked(self.domid, user, handle);
                }
                Removal::Pinned { .. } => return Err(Errno::EBUSY),
            }
        }
    }

    /// Enters an empty grant table of the domain's into what guests share; it has left before.
    pub(super) fn join_grants(&self) -> Result<(), Errno> {
        let settings = Settings {
            max_frames: self.limits.grant_frames,
            max_maps: self.limits.maps,
            version2: self.limits.grants_v2,
            privileged: false,
        };
        let mut grants = self.hub.grants.lock();
        grants.add_domain(self.domid, &settings)?;
        let mut pages = self.grant_pages();
        grants.grow(self.domid, 1, &mut pages).map_err(|_| Errno::ENOMEM)
    }

    /// The guest frame at which one of the hypervisor's pages is mapped; `u64::MAX` for none.
    fn gfn_of(&self, page: Option<SharedPage>) -> u64 {
        let number = page.and_then(|page| self.number_of(&page));
        number.map_or(u64::MAX, |number| self.mapped_gfn(number))
    }

    /// Gives pages that the grant table does not have yet: first those for its entries, in order.
    fn grant_pages(&self) -> impl FnMut() -> Option<SharedPage> + '_ {
        move || {
            use core::sync::atomic::Ordering;
            let next = self.grant_pages_given.fetch_add(1, Ordering::Relaxed);
            let number = GRANT_PAGES.checked_add(next).filter(|number| *number < PAGES)?;
            self.page(number)
        }
    }
}

/// Does `one` for each element, of `step` bytes, of a call's array; what does not fit in one go goes on later.
#[inline(always)]
fn in_turn<V: Vcpu>(
    vcpu: &mut V,
    call: &Call<'_>,
    step: usize,
    mut one: impl FnMut(&mut V, GuestVirt) -> Result<(), Errno>,
) -> Outcome {
    let [_, list, count, ..] = call.args;
    let (count, step) = (count & 0xffff_ffff, step as u64);
    for n in 0..count.min(BATCH) {
        if let Err(errno) = one(vcpu, GuestVirt(list.wrapping_add(n * step))) {
            return errno.into();
        }
    }
    if count <= BATCH {
        return Outcome::Done(0);
    }
    call.set_argument(vcpu, 1, list.wrapping_add(BATCH * step));
    call.set_argument(vcpu, 2, count - BATCH);
    Outcome::Again
}

fn status(done: Result<(), GrantStatus>) -> i16 {
    match done {
        Ok(()) => GrantStatus::OKAY.0,
        Err(error) => error.0,
    }
}

fn version(version: Version) -> u32 {
    match version {
        Version::V1 => 1,
        Version::V2 => 2,
    }
}
