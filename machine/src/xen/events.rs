//! `HYPERVISOR_event_channel_op`, and where events go. Xen public "event_channel.h".

use super::Xen;
use super::hypercall::{Call, Outcome};
use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::exec::{code_bits, cpl};
use arch::control::rflags;
use arch::{Event, GuestVirt, SharedPage, Vcpu};
use core::sync::atomic::Ordering;
use pvdrivers::abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, EventOp, ExpandArray,
    FIFO_LINK_BITS, InitControl, PortArg, Reset, SetPriority, Status,
};
use pvdrivers::abi::xen::Virq;
use pvdrivers::event::{Deliver, Progress, VcpuSet};
use pvdrivers::{DomId, Errno, Port};

impl Machine {
    /// `event_channel_op(cmd, arg)`.
    #[inline(never)]
    pub(crate) fn event_channel_op<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let op = EventOp(call.args[0] as u32);
        if op == EventOp::RESET {
            return match self.reset_events_op(vcpu, call) {
                Ok(Progress::Done) => Outcome::Done(0),
                Ok(Progress::Again) => Outcome::Again,
                Err(errno) => errno.into(),
            };
        }
        let done = match op {
            EventOp::SEND | EventOp::UNMASK => self.send_or_unmask(cpu, vcpu, host, call, op),
            _ => self.event_op(vcpu, host, call, op),
        };
        done.map(|()| 0).into()
    }

    /// Serves `EVTCHNOP_send`, which guests call most, without what other calls need, where the caller has 64
    /// bits and may call, and the port can be read. True: RIP moves past the call; false: all is done.
    #[inline(never)]
    pub(super) fn send_at_once<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
    ) -> bool {
        let port = match code_bits(vcpu) {
            64 if cpl(vcpu) == 0 => self.u32_at(cpu, vcpu, GuestVirt(vcpu.gprs().rsi())),
            _ => None,
        };
        let (Some(xen), Some(port)) = (&self.xen, port) else {
            return self.any_hypercall(cpu, vcpu, host);
        };
        let sent = xen.hub.events.lock().send(xen.domid, Port(port));
        let result = match sent {
            Ok(Deliver::Nothing) => 0,
            Ok(deliver) => {
                if is_for_self(cpu, xen, deliver) {
                    self.hear_at_once(cpu, vcpu, xen);
                } else {
                    deliver_to(host, deliver);
                }
                0
            }
            Err(errno) => errno.code(),
        };
        vcpu.gprs_mut().set_rax(result as u64);
        true
    }

    /// What guests do often.
    #[inline]
    fn send_or_unmask<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
        op: EventOp,
    ) -> Result<(), Errno> {
        let PortArg { port } = self.claim(vcpu, call.pointer(1), call.width)?;
        let mut events = call.xen.hub.events.lock();
        let deliver = match op {
            EventOp::SEND => events.send(call.xen.domid, Port(port)),
            _ => events.unmask(call.xen.domid, Port(port)),
        }?;
        drop(events);
        if is_for_self(cpu, call.xen, deliver) {
            self.hear(cpu, vcpu, call.xen);
        } else {
            deliver_to(host, deliver);
        }
        Ok(())
    }

    /// An event of this vCPU's own: it looks at what it can take before its next entry.
    #[inline]
    fn hear<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, xen: &Xen) {
        let vector = own_vector(cpu, xen);
        if vector != 0 {
            self.take_apic(cpu, vcpu);
            cpu.lapic.accept(vector, false);
        }
        cpu.attention = true;
    }

    /// As [`hear`](Machine::hear), with the call as good as done. Where nothing else is to be looked at and the
    /// guest takes interrupts, the look would come to this.
    #[inline(always)]
    fn hear_at_once<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V, xen: &Xen) {
        let vector = xen.callback_vector.load(Ordering::Acquire);
        let takes = vcpu.rflags() & (rflags::IF | rflags::TF) == rflags::IF;
        let calm = !cpu.attention && !vcpu.blocking().shadow && vcpu.pending_event().is_none();
        if vector != 0 && takes && calm && own_vector(cpu, xen) == 0 {
            vcpu.inject(Some(Event::interrupt(vector)));
        } else {
            self.hear(cpu, vcpu, xen);
        }
    }

    /// What they do while they start and end.
    #[cold]
    #[inline(never)]
    fn event_op<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
        op: EventOp,
    ) -> Result<(), Errno> {
        let Call { xen, width, .. } = *call;
        let (at, own) = (call.pointer(1), xen.domid);
        let events = || xen.hub.events.lock();
        match op {
            EventOp::CLOSE => {
                let PortArg { port } = self.claim(vcpu, at, width)?;
                events().close(own, Port(port))?;
            }
            EventOp::ALLOC_UNBOUND => {
                let arg: AllocUnbound = self.claim(vcpu, at, width)?;
                let made = events().alloc_unbound(own, DomId(arg.dom), DomId(arg.remote_dom))?;
                self.give(vcpu, at, width, &AllocUnbound { port: made.0, ..arg })?;
            }
            EventOp::BIND_INTERDOMAIN => {
                let arg: BindInterdomain = self.claim(vcpu, at, width)?;
                let (remote, port) = (DomId(arg.remote_dom), Port(arg.remote_port));
                let (local, deliver) = events().bind_interdomain(own, remote, port)?;
                deliver_to(host, deliver);
                self.give(vcpu, at, width, &BindInterdomain { local_port: local.0, ..arg })?;
            }
            EventOp::BIND_VIRQ => {
                let arg: BindVirq = self.claim(vcpu, at, width)?;
                let port = events().bind_virq(own, arg.virq, arg.vcpu)?.0;
                self.give(vcpu, at, width, &BindVirq { port, ..arg })?;
            }
            EventOp::BIND_IPI => {
                let arg: BindIpi = self.claim(vcpu, at, width)?;
                let port = events().bind_ipi(own, arg.vcpu)?.0;
                self.give(vcpu, at, width, &BindIpi { port, ..arg })?;
            }
            EventOp::BIND_PIRQ => {
                let arg: BindPirq = self.claim(vcpu, at, width)?;
                let port = events().bind_pirq(own, arg.pirq)?.0;
                self.give(vcpu, at, width, &BindPirq { port, ..arg })?;
            }
            EventOp::STATUS => {
                let mut arg: Status = self.claim(vcpu, at, width)?;
                let status = events().status(own, DomId(arg.dom), Port(arg.port))?;
                status.fill(&mut arg);
                self.give(vcpu, at, width, &arg)?;
            }
            EventOp::BIND_VCPU => {
                let arg: BindVcpu = self.claim(vcpu, at, width)?;
                events().bind_vcpu(own, Port(arg.port), arg.vcpu)?;
            }
            EventOp::SET_PRIORITY => {
                let arg: SetPriority = self.claim(vcpu, at, width)?;
                events().set_priority(own, Port(arg.port), arg.priority)?;
            }
            EventOp::INIT_CONTROL => {
                let arg: InitControl = self.claim(vcpu, at, width)?;
                let page = self.frame(arg.control_gfn);
                events().init_control(own, arg.vcpu, page, arg.offset)?;
                self.give(vcpu, at, width, &InitControl { link_bits: FIFO_LINK_BITS, ..arg })?;
            }
            EventOp::EXPAND_ARRAY => {
                let arg: ExpandArray = self.claim(vcpu, at, width)?;
                let deliver = events().expand_array(own, self.frame(arg.array_gfn))?;
                deliver_to(host, deliver);
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn reset_events_op<V: Vcpu>(&self, vcpu: &V, call: &Call<'_>) -> Result<Progress, Errno> {
        let arg: Reset = self.claim(vcpu, call.pointer(1), call.width)?;
        call.xen.hub.events.lock().reset(call.xen.domid, DomId(arg.dom))
    }

    /// A virtual interrupt of this guest's.
    pub(crate) fn raise_virq<H: Host>(&self, xen: &Xen, host: &H, vcpu: usize, virq: Virq) {
        let deliver = xen.hub.events.lock().raise_virq(xen.domid, vcpu as u16, virq);
        deliver_to(host, deliver);
    }

    /// A vCPU's `struct vcpu_info` moves to where its guest wants it.
    pub(crate) fn move_vcpu_info<H: Host>(
        &self,
        xen: &Xen,
        host: &H,
        vcpu: u32,
        page: Option<SharedPage>,
        offset: u32,
    ) -> Result<(), Errno> {
        let mut events = xen.hub.events.lock();
        let deliver = events.register_vcpu_info(xen.domid, vcpu, page, offset)?;
        drop(events);
        deliver_to(host, deliver);
        Ok(())
    }
}

/// Whether an event is for the vCPU that sends it, and for no other. As an interrupt to oneself it needs neither
/// inbox nor kick, since the vCPU looks before its next entry.
#[inline]
fn is_for_self(cpu: &Cpu, xen: &Xen, deliver: Deliver) -> bool {
    let Deliver::Guest { dom, upcalls, pollers } = deliver else { return false };
    let own = VcpuSet::one(cpu.id as u16);
    dom == xen.domid && upcalls == own && pollers.without(own).is_empty()
}

/// The vector by which a vCPU's local APIC tells it of events; 0 for none.
#[inline]
fn own_vector(cpu: &Cpu, xen: &Xen) -> u8 {
    xen.vcpus.get(cpu.id).map_or(0, |own| own.upcall_vector.load(Ordering::Acquire))
}

/// Tells whom an event is for. No lock is held.
pub fn deliver_to<H: Host>(host: &H, deliver: Deliver) {
    match deliver {
        Deliver::Nothing => {}
        Deliver::Guest { dom, upcalls, pollers } => {
            upcalls.iter().for_each(|vcpu| host.announce(dom, vcpu.into(), true));
            pollers.without(upcalls).iter().for_each(|vcpu| {
                host.announce(dom, vcpu.into(), false);
            });
        }
        Deliver::Backend { port } => host.doorbell(port),
    }
}
