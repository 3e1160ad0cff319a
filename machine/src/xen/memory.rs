//! `HYPERVISOR_memory_op`: the hypervisor's pages in the guest's memory, and what the guest may ask about its
//! memory. Xen public "memory.h".

use super::hypercall::{Call, Outcome};
use super::{SHARED_INFO, Xen};
use crate::Machine;
use crate::host::{Backing, Host};
use crate::memmap::{LAPIC, Mmio, Region};
use arch::addr::PAGE_SIZE;
use arch::ram::HIGH_RAM;
use arch::{GuestPhys, GuestVirt, Perm, Vcpu};
use pvdrivers::Errno;
use pvdrivers::abi::Ulong;
use pvdrivers::abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, MEMOP_EXTENT_SHIFT, MapSpace, MemoryDomain, MemoryMap,
    MemoryMapEntry, MemoryOp, RemoveFromPhysmap,
};

/// Entries of a batch that are done before the guest may take an interrupt.
const BATCH: u32 = 64;

impl Machine {
    /// `memory_op(cmd, arg)`.
    #[cold]
    #[inline(never)]
    pub(crate) fn memory_op<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let Call { xen, width, .. } = *call;
        let at = call.pointer(1);
        let command = call.args[0] as u32 & ((1 << MEMOP_EXTENT_SHIFT) - 1);
        match MemoryOp(command) {
            // These never go on.
            MemoryOp::EXCHANGE
            | MemoryOp::REMOVE_FROM_PHYSMAP
            | MemoryOp::CURRENT_RESERVATION
            | MemoryOp::MAXIMUM_RESERVATION
            | MemoryOp::MAXIMUM_GPFN
            | MemoryOp::MAXIMUM_RAM_PAGE
                if call.args[0] >> MEMOP_EXTENT_SHIFT != 0 =>
            {
                Errno::EINVAL.into()
            }
            op @ (MemoryOp::DECREASE_RESERVATION | MemoryOp::POPULATE_PHYSMAP) => {
                self.change_reservation(vcpu, host, call, op)
            }
            // Memory without a place in the guest's map has no sense for a guest whose frames are not the
            // machine's.
            MemoryOp::INCREASE_RESERVATION => Outcome::Done(0),
            MemoryOp::EXCHANGE => self.exchange(vcpu, host, call),
            MemoryOp::ADD_TO_PHYSMAP => self.add_to_physmap(vcpu, host, call).into(),
            MemoryOp::ADD_TO_PHYSMAP_BATCH => self.add_to_physmap_batch(vcpu, host, call),
            MemoryOp::REMOVE_FROM_PHYSMAP => {
                let arg: Result<RemoveFromPhysmap, Errno> = self.claim(vcpu, at, width);
                arg.and_then(|arg| {
                    xen.own(arg.domid)?;
                    self.remove_from_physmap(xen, host, arg.gpfn.0)
                })
                .into()
            }
            MemoryOp::MEMORY_MAP => self.memory_map(vcpu, call).into(),
            op @ (MemoryOp::CURRENT_RESERVATION
            | MemoryOp::MAXIMUM_RESERVATION
            | MemoryOp::MAXIMUM_GPFN) => {
                let arg: Result<MemoryDomain, Errno> = self.claim(vcpu, at, width);
                let (maximum, current) = self.reservation();
                let pages = match op {
                    MemoryOp::MAXIMUM_RESERVATION => maximum,
                    MemoryOp::CURRENT_RESERVATION => current.saturating_sub(host.uncovered()),
                    _ => (HIGH_RAM + self.ram.high_size()) / PAGE_SIZE - 1,
                };
                arg.and_then(|arg| xen.own(arg.domid)).map(|()| pages).into()
            }
            MemoryOp::MAXIMUM_RAM_PAGE => {
                Outcome::Done(((self.ram.low_size() + self.ram.high_size()) / PAGE_SIZE) as i64)
            }
            MemoryOp::GET_VNUMAINFO => Errno::EOPNOTSUPP.into(),
            MemoryOp::SET_MEMORY_MAP
            | MemoryOp::SET_POD_TARGET
            | MemoryOp::GET_POD_TARGET
            | MemoryOp::CLAIM_PAGES
            | MemoryOp::ACQUIRE_RESOURCE => Errno::EPERM.into(),
            _ => Errno::ENOSYS.into(),
        }
    }

    fn add_to_physmap<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Result<u64, Errno> {
        let arg: AddToPhysmap = self.claim(vcpu, call.pointer(1), call.width)?;
        // Of others' pages only the batch knows.
        if MapSpace(arg.space) == MapSpace::GMFN_FOREIGN {
            return Err(Errno::ENOSYS);
        }
        call.xen.own(arg.domid)?;
        self.map_space(call, host, MapSpace(arg.space), arg.idx.0, arg.gpfn.0)
    }

    /// Several at once, each with its own result; the command's high bits say where a continued call goes on, the
    /// argument stays as it is.
    #[cold]
    #[inline(never)]
    fn add_to_physmap_batch<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let Call { xen, width, .. } = *call;
        let arg: AddToPhysmapBatch = match self.claim(vcpu, call.pointer(1), width) {
            Ok(arg) => arg,
            Err(errno) => return errno.into(),
        };
        let space = MapSpace(arg.space.into());
        if space == MapSpace::GMFN_RANGE {
            return Errno::EOPNOTSUPP.into();
        }
        if let Err(errno) = xen.own(arg.domid) {
            return errno.into();
        }
        let (size, begun) = (u32::from(arg.size), call.args[0] as u32 >> MEMOP_EXTENT_SHIFT);
        let end = size.min(begun.saturating_add(BATCH));
        for n in begun..end {
            let place = |list: GuestVirt, step: usize| {
                GuestVirt(list.0.wrapping_add(u64::from(n) * step as u64))
            };
            let one = |list| self.claim::<Ulong, V>(vcpu, place(list, width.bytes()), width);
            let (index, gfn) = match (one(arg.idxs), one(arg.gpfns)) {
                (Ok(index), Ok(gfn)) => (index, gfn),
                (Err(errno), _) | (_, Err(errno)) => return errno.into(),
            };
            let done = self.map_space(call, host, space, index.0, gfn.0);
            let error = done.map_or_else(|errno| errno.code() as i32, |_| 0);
            if let Err(errno) = self.give(vcpu, place(arg.errs, 4), width, &error) {
                return errno.into();
            }
        }
        if end >= size {
            return Outcome::Done(0);
        }
        let command = MemoryOp::ADD_TO_PHYSMAP_BATCH.0 | end << MEMOP_EXTENT_SHIFT;
        call.set_argument(vcpu, 0, command.into());
        Outcome::Again
    }

    /// Maps one thing at guest frame `gfn`.
    fn map_space<H: Host>(
        &self,
        call: &Call<'_>,
        host: &H,
        space: MapSpace,
        index: u64,
        gfn: u64,
    ) -> Result<u64, Errno> {
        let xen = call.xen;
        let page = match space {
            MapSpace::SHARED_INFO if index == 0 => {
                xen.set_width(call.width);
                SHARED_INFO
            }
            MapSpace::GRANT_TABLE => self.grant_page(xen, index)?,
            // Another domain's page: for the privileged.
            MapSpace::GMFN_FOREIGN => return Err(Errno::EPERM),
            _ => return Err(Errno::EINVAL),
        };
        self.map_page(xen, host, page, gfn)?;
        if page == SHARED_INFO {
            self.write_wall_clock(xen);
        }
        Ok(0)
    }

    /// Shows one of the hypervisor's pages at a guest frame, and nowhere else.
    #[cold]
    #[inline(never)]
    pub(crate) fn map_page<H: Host>(
        &self,
        xen: &Xen,
        host: &H,
        page: usize,
        gfn: u64,
    ) -> Result<(), Errno> {
        let at = gfn.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        if at >> self.cpuid.physical_bits() != 0 {
            return Err(Errno::EINVAL);
        }
        if !self.is_free(GuestPhys(at)) {
            return Err(Errno::EINVAL);
        }
        // What was mapped there goes.
        if let Some(other) = xen.mapped_at(gfn)
            && other != page
        {
            xen.note_mapped(other, u64::MAX);
        }
        let offset = (page * PAGE_SIZE as usize) as u64;
        if !host.map(GuestPhys(at), PAGE_SIZE, Backing::Xen(offset), Perm::RWX) {
            return Err(Errno::ENOMEM);
        }
        if let Some(old) = xen.note_mapped(page, gfn)
            && old != gfn
        {
            self.uncover(host, old);
        }
        Ok(())
    }

    /// Whether a page of someone else's may be mapped there: device registers and firmware stay where they
    /// are.
    #[inline]
    pub(crate) fn is_free(&self, at: GuestPhys) -> bool {
        let free = match self.memmap.lock().find(at) {
            Region::Ram | Region::Hole => true,
            Region::Mmio(device, _) => device == Mmio::XenPlatform,
            _ => false,
        };
        free && at.page() != GuestPhys(LAPIC)
    }

    fn remove_from_physmap<H: Host>(&self, xen: &Xen, host: &H, gfn: u64) -> Result<u64, Errno> {
        let Some(page) = xen.mapped_at(gfn) else { return self.remove_ram(xen, host, gfn) };
        xen.note_mapped(page, u64::MAX);
        self.uncover(host, gfn);
        Ok(0)
    }

    /// The hypervisor's page is gone from `gfn`: what lies under it is there again.
    pub(crate) fn uncover<H: Host>(&self, host: &H, gfn: u64) {
        let Some(at) = gfn.checked_mul(PAGE_SIZE).map(GuestPhys) else { return };
        let is_ram = self.memmap.lock().find(at) == Region::Ram;
        if is_ram && !self.holes.is_absent(at) {
            host.map(at, PAGE_SIZE, Backing::Ram, Perm::RWX);
        } else {
            host.unmap(at, PAGE_SIZE);
        }
    }

    /// The map of the guest's memory, as its firmware reports it.
    fn memory_map<V: Vcpu>(&self, vcpu: &mut V, call: &Call<'_>) -> Result<u64, Errno> {
        let Call { width, .. } = *call;
        let at = call.pointer(1);
        let arg: MemoryMap = self.claim(vcpu, at, width)?;
        let map = self.memmap.lock().e820();
        let fits = map.len().min(arg.nr_entries as usize);
        for (n, (addr, size, kind)) in map.into_iter().take(fits).enumerate() {
            let entry = MemoryMapEntry { addr, size, kind };
            let to = GuestVirt(arg.buffer.0.wrapping_add((n * MemoryMapEntry::SIZE) as u64));
            self.copy_to_guest(vcpu, to, &entry.bytes())?;
        }
        self.give(vcpu, at, width, &MemoryMap { nr_entries: fits as u32, ..arg })?;
        Ok(0)
    }
}
