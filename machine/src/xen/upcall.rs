//! Events on their way to a vCPU: by a vector of its local APIC, by the guest's callback vector, or by a
//! line of the board; and what else of Xen's interface a power-on, a timer and an unplug mean.

use super::{CONSOLE_RING, SPECIAL_GFN, STORE_RING, Xen};
use crate::cpu::Cpu;
use crate::effects::Effects;
use crate::host::Host;
use crate::{Machine, inbox};
use arch::addr::PAGE_SIZE;
use arch::{GuestPhys, Nanos};
use core::sync::atomic::Ordering;
use devmodel::ide::Unit;
use devmodel::xenplat::Unplug;
use pvdrivers::abi::hvm_params::{CallbackVia, HvmParam};
use pvdrivers::abi::shared_info::VcpuInfo;
use pvdrivers::abi::xen::Virq;
use pvdrivers::event::Progress;

impl Xen {
    /// Whether the guest has said how it hears of events: it has drivers that use the store.
    #[must_use]
    pub fn is_used(&self) -> bool {
        let own = self.vcpus.iter().any(|vcpu| vcpu.upcall_vector.load(Ordering::Relaxed) != 0);
        own || self.params.lock().callback() != CallbackVia::None
    }
}

impl Machine {
    /// The guest's vCPUs have stopped, and its back ends let go of it: pages of other guests go from its
    /// memory, its own from theirs, and all that the hypervisor showed it. False where a back end still
    /// holds some of its pages: then none of its memory may go to anyone else.
    pub fn let_go<H: Host>(&self, host: &H) -> bool {
        let Some(xen) = &self.xen else { return true };
        for gfn in xen.reset() {
            if let Some(at) = gfn.checked_mul(PAGE_SIZE) {
                host.unmap(GuestPhys(at), PAGE_SIZE);
            }
        }
        let unmap = |user, at: GuestPhys| match user == xen.domid {
            true => host.unmap(at, PAGE_SIZE),
            false => host.unmap_of(user, at),
        };
        xen.leave_grants(unmap).is_ok()
    }

    /// The interface after power-on: nothing is left of what the guest had set up, and its rings are
    /// where the parameters say. [`let_go`](Machine::let_go) came before. False where the host has no
    /// memory for the mapping.
    pub(crate) fn xen_power_on<H: Host>(&self, host: &H) -> bool {
        let Some(xen) = &self.xen else { return true };
        if xen.join().is_err() {
            return false;
        }
        let rings = [(HvmParam::STORE_PFN, STORE_RING), (HvmParam::CONSOLE_PFN, CONSOLE_RING)];
        for (n, (param, page)) in rings.into_iter().enumerate() {
            let gfn = SPECIAL_GFN + n as u64;
            xen.params.lock().set(param, gfn);
            if self.map_page(xen, host, page, gfn).is_err() {
                return false;
            }
        }
        self.write_wall_clock(xen);
        for vcpu in 0..self.vcpus() {
            self.write_time(xen, vcpu, self.clock.start_tsc().wrapping_neg());
        }
        true
    }

    /// The guest is gone for good: its ports and its grants, and others' mappings of its pages. Nothing else of the
    /// machine is touched. Back ends have let go of it; what one still holds stays until it does. The guest can be
    /// switched on again.
    pub fn leave_xen<H: Host>(&self, host: &H) {
        let Some(xen) = &self.xen else { return };
        // Ports by the thousand go in pieces, between which other guests have their turn.
        while xen.hub.events.lock().remove_domain(xen.domid) == Progress::Again {}
        // `EBUSY`: from now on nobody begins to use its grants, and a later start waits.
        let _ = xen.leave_grants(|user, at| host.unmap_of(user, at));
    }

    /// Events are pending for a vCPU: its `evtchn_upcall_pending` was just set (`upcall`). Or one that it
    /// polls has come. From any CPU.
    pub fn announce<H: Host>(&self, host: &H, vcpu: usize, upcall: bool) {
        let Some(xen) = &self.xen else { return };
        let (Some(slot), Some(inbox)) = (xen.vcpus.get(vcpu), self.inboxes.get(vcpu)) else {
            return;
        };
        match slot.upcall_vector.load(Ordering::Acquire) {
            vector @ 1.. if upcall => return host.notify(vcpu, inbox.post(vector)),
            _ => inbox.raise(inbox::LOOK),
        }
        host.kick(vcpu);
    }

    /// A local APIC may have been switched on: what was announced to it while it was off is lost, and
    /// is not announced again, since it is still pending. Xen does the same.
    pub(crate) fn reassert_upcall(&self, cpu: &mut Cpu) {
        let Some(xen) = &self.xen else { return };
        let Some(slot) = xen.vcpus.get(cpu.id) else { return };
        let vector = slot.upcall_vector.load(Ordering::Acquire);
        if vector != 0 && self.is_upcall_pending(xen, cpu.id) {
            if let Some(inbox) = self.inboxes.get(cpu.id) {
                inbox.post(vector);
            }
            cpu.attention = true;
        }
    }

    /// The vector that a vCPU takes for its pending events, past the local APIC.
    #[inline]
    pub(crate) fn pending_upcall(&self, cpu: &Cpu) -> Option<u8> {
        let xen = self.xen.as_ref()?;
        let vector = xen.callback_vector.load(Ordering::Acquire);
        if vector == 0 || !self.is_upcall_pending(xen, cpu.id) {
            return None;
        }
        let own = xen.vcpus.get(cpu.id)?.upcall_vector.load(Ordering::Relaxed);
        (own == 0).then_some(vector)
    }

    pub(crate) fn is_upcall_pending(&self, xen: &Xen, vcpu: usize) -> bool {
        let pending = |(page, offset): (arch::SharedPage, usize)| {
            page.read_u8(offset + VcpuInfo::of(xen.width()).evtchn_upcall_pending)
        };
        xen.vcpu_info(&self.ram, vcpu).and_then(pending).is_some_and(|byte| byte != 0)
    }

    /// Whether a line follows this vCPU's pending events: only vCPU 0 may have one.
    #[inline]
    pub(crate) fn has_callback_line(&self, cpu: &Cpu) -> bool {
        cpu.id == 0 && self.xen.as_ref().is_some_and(|xen| xen.by_line.load(Ordering::Relaxed))
    }

    /// Lets a callback by line follow vCPU 0's pending events. True: the line is asserted.
    pub(crate) fn settle_callback<H: Host>(&self, cpu: &Cpu, host: &H) -> bool {
        let Some(xen) = &self.xen else { return false };
        if !self.has_callback_line(cpu) {
            return false;
        }
        // A vector of its own comes before the line; Linux then sets a line that it does not listen to.
        let own = xen.vcpus.first().map_or(0, |slot| slot.upcall_vector.load(Ordering::Relaxed));
        if own != 0 {
            return false;
        }
        let callback = xen.params.lock().callback();
        let level = self.is_upcall_pending(xen, 0);
        let old = xen.line.swap(level, Ordering::AcqRel);
        if old != level {
            self.on_board(host, |board, fx| match callback {
                CallbackVia::Gsi(gsi) => board.set_gsi(gsi as u8, level, fx),
                CallbackVia::PciIntx { .. } => board.set_xen_intx(level, fx),
                _ => {}
            });
        }
        level
    }

    /// Lets a vCPU's timers expire.
    pub(crate) fn expire_xen_timers<H: Host>(&self, cpu: &mut Cpu, host: &H) {
        let due = cpu.xen.due();
        if due == Nanos::NEVER {
            return;
        }
        let now = self.now(host);
        if due > now {
            return;
        }
        if cpu.xen.poll <= now {
            self.end_poll(cpu);
        }
        if cpu.xen.expire(now)
            && let Some(xen) = &self.xen
        {
            self.raise_virq(xen, host, cpu.id, Virq::TIMER);
        }
    }

    /// The guest's drivers take emulated devices away until the next reset.
    pub(crate) fn unplug(&self, unplug: Unplug, fx: &mut Effects) {
        let drives = self.drives.lock().clone();
        let mut board = self.board.lock();
        if unplug.nics() {
            log::info!("the guest's drivers take the network cards away");
            board.unplug_nics(fx);
        }
        for (slot, unit) in Unit::ALL.into_iter().enumerate() {
            let wanted = unplug.ide_disks() || (unplug.auxiliary_ide_disks() && slot != 0);
            if wanted && drives.is_disk(slot) {
                log::info!("the guest's drivers take the IDE disk in place {slot} away");
                board.ide.detach(unit);
            }
        }
    }
}
