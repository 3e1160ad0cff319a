//! `HYPERVISOR_sched_op`: yield, block, poll, shutdown, watchdogs. Xen public "sched.h".

use super::Xen;
use super::hypercall::{Call, Outcome};
use crate::Machine;
use crate::cpu::{Activity, Cpu};
use crate::host::Host;
use arch::{Nanos, Vcpu};
use core::sync::atomic::Ordering;
use pvdrivers::abi::sched::{MAX_POLL_PORTS, Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};
use pvdrivers::{Errno, Port};

impl Machine {
    /// `sched_op(cmd, arg)`.
    #[inline(never)]
    pub(crate) fn sched_op<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        match SchedOp(call.args[0] as u32) {
            SchedOp::YIELD => Outcome::Yield(0),
            SchedOp::BLOCK => Outcome::Block(0),
            SchedOp::SHUTDOWN => match self.claim::<Shutdown, V>(vcpu, call.pointer(1), call.width)
            {
                Ok(Shutdown { reason }) => call.xen.shutdown(ShutdownReason(reason)),
                Err(errno) => errno.into(),
            },
            SchedOp::SHUTDOWN_CODE => {
                match self.claim::<Shutdown, V>(vcpu, call.pointer(1), call.width) {
                    Ok(Shutdown { reason }) => {
                        let reason = reason & 0xff;
                        let code = &call.xen.shutdown_code;
                        // The first one counts.
                        let _ = code.compare_exchange(
                            u32::MAX,
                            reason,
                            Ordering::Relaxed,
                            Ordering::Relaxed,
                        );
                        Outcome::Done(0)
                    }
                    Err(errno) => errno.into(),
                }
            }
            SchedOp::POLL => match self.poll(cpu, vcpu, call) {
                Ok(()) => Outcome::Done(0),
                Err(errno) => errno.into(),
            },
            SchedOp::WATCHDOG => self.watchdog(vcpu, host, call).into(),
            SchedOp::REMOTE_SHUTDOWN | SchedOp::PIN_OVERRIDE => Errno::EPERM.into(),
            _ => Errno::ENOSYS.into(),
        }
    }

    /// Sets a watchdog.
    fn watchdog<V: Vcpu, H: Host>(
        &self,
        vcpu: &V,
        host: &H,
        call: &Call<'_>,
    ) -> Result<u64, Errno> {
        let asked: Watchdog = self.claim(vcpu, call.pointer(1), call.width)?;
        let now = self.now(host);
        self.on_board(host, |board, fx| board.set_watchdog(asked, now, fx))
    }

    /// Waits until one of some ports is pending, or until a time. The call has its result at once; the vCPU is not entered
    /// before something came for it. As in Xen an interrupt or another event ends the wait too, and the guest looks itself.
    fn poll<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V, call: &Call<'_>) -> Result<(), Errno> {
        let poll: Poll = self.claim(vcpu, call.pointer(1), call.width)?;
        if poll.nr_ports > MAX_POLL_PORTS {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; MAX_POLL_PORTS as usize * 4];
        let bytes = bytes.get_mut(..poll.nr_ports as usize * 4).ok_or(Errno::EINVAL)?;
        self.copy_from_guest(vcpu, poll.ports, bytes)?;
        let words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok());
        let mut ports = [Port(0); MAX_POLL_PORTS as usize];
        for (port, word) in ports.iter_mut().zip(words) {
            *port = Port(u32::from_le_bytes(word));
        }
        let ports = ports.get(..poll.nr_ports as usize).ok_or(Errno::EINVAL)?;
        let (dom, id) = (call.xen.domid, cpu.id as u16);
        let mut events = call.xen.hub.events.lock();
        if events.poll(dom, id, ports)? {
            return Ok(());
        }
        drop(events);
        cpu.xen.poll = if poll.timeout != 0 { Nanos(poll.timeout) } else { Nanos::NEVER };
        cpu.activity = Activity::Polling;
        cpu.attention = true;
        Ok(())
    }

    /// A wait of [`SchedOp::POLL`] is over.
    #[cold]
    pub(crate) fn end_poll(&self, cpu: &mut Cpu) {
        cpu.activity = Activity::Running;
        cpu.xen.poll = Nanos::NEVER;
        if let Some(xen) = &self.xen {
            xen.hub.events.lock().end_poll(xen.domid, cpu.id as u16);
        }
    }
}

impl Xen {
    /// The guest stops itself.
    fn shutdown(&self, reason: ShutdownReason) -> Outcome {
        let noted = self.shutdown_code.load(Ordering::Relaxed);
        let reason = if noted == u32::MAX { reason.0 & 0xff } else { noted };
        match ShutdownReason(reason) {
            ShutdownReason::POWEROFF => Outcome::PowerOff,
            ShutdownReason::REBOOT | ShutdownReason::SOFT_RESET => Outcome::Reset,
            // Nobody saves guests: it goes on at once, as after a suspend that was cancelled.
            ShutdownReason::SUSPEND => Outcome::Done(1),
            // Reasons that there are not among them: Xen stops such a guest, and its tools destroy it.
            _ => Outcome::Crashed(reason.into()),
        }
    }
}
