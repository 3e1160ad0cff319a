//! What Xen's interface keeps of one vCPU: its `struct vcpu_info`, its upcall vector, its timers, its run-state
//! area; and `HYPERVISOR_vcpu_op`. Xen public "vcpu.h".

use super::Xen;
use super::hypercall::{Call, Outcome};
use super::start::Start;
use crate::cpu::{Activity, Cpu};
use crate::host::Host;
use crate::{Machine, inbox, reset};
use arch::addr::PAGE_SIZE;
use arch::{GuestPhys, GuestRam, GuestVirt, Nanos, SharedPage, SysReg, Vcpu};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use pvdrivers::Errno;
use pvdrivers::abi::Layout;
use pvdrivers::abi::shared_info::{SharedInfo, VCPU_TIME_INFO_SIZE};
use pvdrivers::abi::vcpu::{
    RegisterVcpuInfo, RunstateInfo, SINGLESHOT_FUTURE, SetPeriodicTimer, SetSingleshotTimer, VcpuOp,
};
use spin::Mutex;

/// No place.
pub(super) const NONE: u64 = u64::MAX;
/// Shortest period of the periodic timer.
const SHORTEST_PERIOD: u64 = 1_000_000;

/// What other vCPUs may look at and change.
#[derive(Debug)]
pub struct XenVcpu {
    /// Guest-physical address of `struct vcpu_info`; [`NONE`]: in the shared info page.
    info: AtomicU64,
    /// The vector that its local APIC gets for events, 0 for none.
    pub(crate) upcall_vector: AtomicU8,
    /// It was started or made ready to, and has not got INIT since.
    initialised: AtomicBool,
    /// It was started, and has not switched itself off by HLT since (`VCPUOP_up` brings it back from there, too).
    up: AtomicBool,
    /// It took itself down, or was: it waits for `VCPUOP_up`, or for INIT and start-up.
    down: AtomicBool,
    /// What `VCPUOP_initialise` gave, until it starts.
    start: Mutex<Option<Start>>,
    /// Guest-physical address of a second `struct vcpu_time_info`.
    time: AtomicU64,
    /// Guest-physical address of `struct vcpu_runstate_info`.
    pub(super) runstate: AtomicU64,
    /// Guest-physical address of the page where it goes on, if it leaves its own; [`NONE`]: nowhere.
    pub(super) runstate_rest: AtomicU64,
    /// Nanoseconds in each `RUNSTATE_*` before the present one.
    pub(super) spent: [AtomicU64; 4],
    /// The present state.
    pub(super) state: AtomicU8,
    /// Since when.
    pub(super) since: AtomicU64,
}

impl Default for XenVcpu {
    fn default() -> Self {
        XenVcpu {
            info: AtomicU64::new(NONE),
            upcall_vector: AtomicU8::new(0),
            initialised: AtomicBool::new(false),
            up: AtomicBool::new(false),
            down: AtomicBool::new(false),
            start: Mutex::new(None),
            time: AtomicU64::new(NONE),
            runstate: AtomicU64::new(NONE),
            runstate_rest: AtomicU64::new(NONE),
            spent: [const { AtomicU64::new(0) }; 4],
            state: AtomicU8::new(0),
            since: AtomicU64::new(0),
        }
    }
}

impl XenVcpu {
    /// As after power-on; what it has spent stays.
    pub fn reset(&self) {
        for place in [&self.info, &self.runstate, &self.time] {
            place.store(NONE, Ordering::Relaxed);
        }
        self.upcall_vector.store(0, Ordering::Relaxed);
        *self.start.lock() = None;
        self.initialised.store(false, Ordering::Relaxed);
        self.up.store(false, Ordering::Relaxed);
        self.down.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    pub(super) fn time_area(&self) -> Option<GuestPhys> {
        let at = self.time.load(Ordering::Acquire);
        (at != NONE).then_some(GuestPhys(at))
    }
}

/// A vCPU's timers, its own alone. [`Nanos::NEVER`] stands for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XenTimer {
    /// Single-shot.
    once: Nanos,
    /// Periodic: next, and period.
    periodic: (Nanos, u64),
    /// A poll that ends then.
    pub poll: Nanos,
}

impl Default for XenTimer {
    fn default() -> XenTimer {
        XenTimer { once: Nanos::NEVER, periodic: (Nanos::NEVER, 0), poll: Nanos::NEVER }
    }
}

impl XenTimer {
    /// When it is to be looked at.
    #[inline]
    pub fn due(&self) -> Nanos {
        self.once.min(self.periodic.0).min(self.poll)
    }

    /// Takes what has expired; true if `VIRQ_TIMER` is to be raised.
    pub fn expire(&mut self, now: Nanos) -> bool {
        let mut fires = false;
        if self.once <= now {
            self.once = Nanos::NEVER;
            fires = true;
        }
        let (next, period) = self.periodic;
        if next <= now {
            // Missed periods are not made up for, as in Xen. No period is shorter than a millisecond.
            let ahead = (now.since(next) / period.max(1) + 1).saturating_mul(period);
            self.periodic = (Nanos(next.0.saturating_add(ahead)), period);
            fires = true;
        }
        fires
    }
}

impl Xen {
    /// A vCPU was started. The first one always is.
    pub(crate) fn set_up(&self, vcpu: usize) {
        if let Some(slot) = self.vcpus.get(vcpu) {
            slot.initialised.store(true, Ordering::Relaxed);
            slot.down.store(false, Ordering::Release);
            slot.up.store(true, Ordering::SeqCst);
        }
    }

    /// A vCPU got INIT: it is as if it had never been started.
    pub(crate) fn set_reset(&self, vcpu: usize) {
        if let Some(slot) = self.vcpus.get(vcpu) {
            *slot.start.lock() = None;
            slot.initialised.store(false, Ordering::Relaxed);
            slot.up.store(false, Ordering::SeqCst);
            slot.down.store(false, Ordering::Release);
        }
    }

    /// Whether it was taken down by `VCPUOP_down`.
    #[inline]
    pub(crate) fn is_down(&self, vcpu: usize) -> bool {
        self.vcpus.get(vcpu).is_some_and(XenVcpu::is_down)
    }

    fn is_up(&self, vcpu: usize) -> bool {
        let up = |slot: &XenVcpu| slot.up.load(Ordering::SeqCst) && !slot.is_down();
        self.vcpus.get(vcpu).is_some_and(up)
    }

    /// A vCPU has switched itself off. True: it was the last one.
    pub(crate) fn set_down(&self, vcpu: usize) -> bool {
        if let Some(slot) = self.vcpus.get(vcpu) {
            slot.up.store(false, Ordering::SeqCst);
        }
        // Of two that do so at once, one at least sees both.
        !(0..self.vcpus.len()).any(|vcpu| self.is_up(vcpu))
    }

    /// Whether it was started once or made ready, so that it has registers to go on with.
    pub(crate) fn is_initialised(&self, vcpu: usize) -> bool {
        let started = |slot: &XenVcpu| slot.initialised.load(Ordering::Relaxed);
        self.vcpus.get(vcpu).is_some_and(started)
    }

    /// Where a vCPU's `struct vcpu_info` is: page, and offset in it. `None` for a vCPU beyond the 32 of
    /// the shared info page that has not said where.
    #[inline]
    pub(crate) fn vcpu_info(&self, ram: &GuestRam, vcpu: usize) -> Option<(SharedPage, usize)> {
        match self.vcpus.get(vcpu)?.info.load(Ordering::Acquire) {
            NONE => Some((self.shared_info(), SharedInfo::vcpu_info(vcpu as u16)?)),
            at => Some((ram.page(GuestPhys(at))?, (at & 0xfff) as usize)),
        }
    }
}

impl Machine {
    /// `vcpu_op(cmd, vcpuid, extra)`.
    pub(crate) fn vcpu_op<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let (xen, which) = (call.xen, call.args[1] as u32 as usize);
        match VcpuOp(call.args[0] as u32) {
            VcpuOp::INITIALISE => self.initialise(vcpu, call, which).into(),
            VcpuOp::UP | VcpuOp::DOWN if which >= xen.vcpus.len() => Errno::ENOENT.into(),
            VcpuOp::UP if !xen.is_initialised(which) => Errno::EINVAL.into(),
            VcpuOp::UP => {
                self.set_down(xen, host, which, false);
                Outcome::Done(0)
            }
            VcpuOp::DOWN if !(0..xen.vcpus.len()).any(|n| n != which && xen.is_up(n)) => {
                // The last one: Xen takes that for a power-off.
                Outcome::PowerOff
            }
            VcpuOp::DOWN => {
                self.set_down(xen, host, which, true);
                cpu.attention = true;
                Outcome::Done(0)
            }
            _ => self.other_vcpu_op(cpu, vcpu, host, call).into(),
        }
    }

    /// Gives a vCPU that was never started the registers with which `VCPUOP_up` starts it.
    #[cold]
    #[inline(never)]
    fn initialise<V: Vcpu>(&self, vcpu: &V, call: &Call<'_>, which: usize) -> Result<u64, Errno> {
        let slot = call.xen.vcpus.get(which).ok_or(Errno::ENOENT)?;
        let start = self.read_start(vcpu, call.pointer(2))?;
        let mut place = slot.start.lock();
        if slot.initialised.swap(true, Ordering::SeqCst) {
            return Err(Errno::EEXIST);
        }
        *place = Some(start);
        slot.down.store(true, Ordering::Release);
        Ok(0)
    }

    /// `VCPUOP_up` has come for a vCPU: it starts, or goes on where it has switched itself off.
    #[cold]
    pub(crate) fn bring_up<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, xen: &Xen) {
        match cpu.activity {
            Activity::Halted => {}
            Activity::WaitForSipi => {
                let Some(slot) = xen.vcpus.get(cpu.id) else { return };
                let Some(start) = slot.start.lock().take() else { return };
                reset::init(vcpu);
                start.load(vcpu);
            }
            _ => return,
        }
        cpu.activity = Activity::Running;
        xen.set_up(cpu.id);
    }

    /// A vCPU stops, registers kept, or goes on.
    fn set_down<H: Host>(&self, xen: &Xen, host: &H, which: usize, down: bool) {
        if let (Some(slot), Some(inbox)) = (xen.vcpus.get(which), self.inboxes.get(which)) {
            slot.down.store(down, Ordering::Release);
            // It is up from now on: who took himself down next would else be the last one.
            let halted = !down && !slot.up.swap(true, Ordering::SeqCst);
            inbox.raise(if halted { inbox::UP } else { inbox::LOOK });
            host.kick(which);
        }
    }

    fn other_vcpu_op<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Result<u64, Errno> {
        let Call { xen, width, args: [command, which, ..], .. } = *call;
        let (which, at) = (which as u32 as usize, call.pointer(2));
        let slot = xen.vcpus.get(which).ok_or(Errno::ENOENT)?;
        let own = || if which == cpu.id { Ok(()) } else { Err(Errno::EINVAL) };
        match VcpuOp(command as u32) {
            VcpuOp::IS_UP => Ok(u64::from(xen.is_up(which))),
            VcpuOp::GET_RUNSTATE_INFO => {
                let info = slot.runstate_info(self.now(host));
                self.give(vcpu, at, width, &info)?;
                Ok(0)
            }
            VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA => {
                let at: GuestVirt = self.claim(vcpu, at, width)?;
                let area = self.area(vcpu, at)?;
                // Stock kernels do not care whether it leaves its page.
                let room = PAGE_SIZE - at.page_offset();
                let rest = match self.area(vcpu, GuestVirt(at.0.wrapping_add(room))) {
                    Ok(rest) => rest.0,
                    Err(errno) if room < RunstateInfo::size(width) as u64 => return Err(errno),
                    Err(_) => NONE,
                };
                slot.runstate.store(NONE, Ordering::Release);
                slot.runstate_rest.store(rest, Ordering::Release);
                slot.runstate.store(area.0, Ordering::Release);
                self.write_runstate(xen, which, self.now(host));
                Ok(0)
            }
            VcpuOp::REGISTER_VCPU_TIME_MEMORY_AREA => {
                let at: GuestVirt = self.claim(vcpu, at, width)?;
                if at.0 & 3 != 0 || at.page_offset() + VCPU_TIME_INFO_SIZE as u64 > PAGE_SIZE {
                    return Err(Errno::EINVAL);
                }
                slot.time.store(self.area(vcpu, at)?.0, Ordering::Release);
                self.write_time(xen, which, vcpu.reg(SysReg::TscOffset));
                Ok(0)
            }
            VcpuOp::REGISTER_VCPU_INFO => {
                let info: RegisterVcpuInfo = self.claim(vcpu, at, width)?;
                self.register_vcpu_info(xen, host, which, &info)?;
                self.write_time(xen, which, vcpu.reg(SysReg::TscOffset));
                Ok(0)
            }
            VcpuOp::SET_PERIODIC_TIMER => {
                own()?;
                let SetPeriodicTimer { period_ns } = self.claim(vcpu, at, width)?;
                if !(SHORTEST_PERIOD..1 << 62).contains(&period_ns) {
                    return Err(Errno::EINVAL);
                }
                cpu.xen.periodic = (Nanos(self.now(host).0.saturating_add(period_ns)), period_ns);
                cpu.attention = true;
                Ok(0)
            }
            VcpuOp::STOP_PERIODIC_TIMER => {
                own()?;
                cpu.xen.periodic = (Nanos::NEVER, 0);
                cpu.attention = true;
                Ok(0)
            }
            VcpuOp::SET_SINGLESHOT_TIMER => {
                own()?;
                let timer: SetSingleshotTimer = self.claim(vcpu, at, width)?;
                let until = Nanos(timer.timeout_abs_ns);
                if timer.flags & SINGLESHOT_FUTURE != 0 && until < self.now(host) {
                    return Err(Errno::ETIME);
                }
                self.set_xen_timer(cpu, Some(until));
                Ok(0)
            }
            VcpuOp::STOP_SINGLESHOT_TIMER => {
                own()?;
                self.set_xen_timer(cpu, None);
                Ok(0)
            }
            VcpuOp::GET_PHYSID => Err(Errno::EINVAL),
            VcpuOp::SEND_NMI if at.0 != 0 => Err(Errno::EINVAL),
            VcpuOp::SEND_NMI => {
                self.post_nmi(host, which);
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Sets or stops a vCPU's single-shot timer.
    pub(crate) fn set_xen_timer(&self, cpu: &mut Cpu, at: Option<Nanos>) {
        cpu.xen.once = at.unwrap_or(Nanos::NEVER);
        cpu.attention = true;
    }

    /// A vCPU says where its `struct vcpu_info` is to be, once.
    fn register_vcpu_info<H: Host>(
        &self,
        xen: &Xen,
        host: &H,
        which: usize,
        wanted: &RegisterVcpuInfo,
    ) -> Result<(), Errno> {
        let slot = xen.vcpus.get(which).ok_or(Errno::ENOENT)?;
        let page = self.frame(wanted.mfn);
        self.move_vcpu_info(xen, host, which as u32, page, wanted.offset)?;
        let at = wanted.mfn.checked_mul(4096).ok_or(Errno::EINVAL)?;
        slot.info.store(at | u64::from(wanted.offset), Ordering::Release);
        Ok(())
    }

    /// The guest-physical address of an area of the caller's, in its RAM.
    fn area<V: Vcpu>(&self, vcpu: &V, at: GuestVirt) -> Result<GuestPhys, Errno> {
        let at = self.linear_to_physical(vcpu, at)?;
        self.ram.page(at).ok_or(Errno::EFAULT)?;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_shot_fires_once_and_missed_periods_are_not_made_up_for() {
        let mut timer = XenTimer { once: Nanos(5), ..XenTimer::default() };
        assert_eq!(timer.due(), Nanos(5));
        assert!(!timer.expire(Nanos(4)) && timer.expire(Nanos(5)) && !timer.expire(Nanos(6)));
        timer.periodic = (Nanos(10), 10);
        assert!(timer.expire(Nanos(47)));
        assert_eq!(timer.due(), Nanos(50));
        timer.poll = Nanos(49);
        assert_eq!(timer.due(), Nanos(49));
    }
}
