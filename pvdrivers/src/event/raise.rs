//! What makes events happen: sending, virtual and device interrupts, back ends; and polling for
//! them.

use super::channel::ChannelState;
use super::{Deliver, EventChannels};
use crate::abi::sched::MAX_POLL_PORTS;
use crate::abi::xen::Virq;
use crate::{DomId, Errno, Port};

impl Deliver {
    /// Both, for the same guest. Of two different targets the later counts; callers have one.
    pub(super) fn and(self, other: Deliver) -> Deliver {
        match (self, other) {
            (
                Deliver::Guest { dom, upcalls, pollers },
                Deliver::Guest { upcalls: more, pollers: woken, .. },
            ) => Deliver::Guest { dom, upcalls: upcalls.and(more), pollers: pollers.and(woken) },
            (all, Deliver::Nothing) => all,
            (_, other) => other,
        }
    }
}

impl EventChannels {
    /// Sends through a port (`EVTCHNOP_send`). A port without a peer swallows it.
    ///
    /// # Errors
    /// `EINVAL` for a port that cannot send.
    #[inline(never)]
    pub fn send(&mut self, caller: DomId, port: Port) -> Result<Deliver, Errno> {
        let domain = self.domain(caller)?;
        let channel = domain.ports.get(port).ok_or(Errno::EINVAL)?;
        let (domain, dom, port, vcpu) = match channel.state {
            // Back ends have none: they have no vCPUs.
            ChannelState::Ipi => {
                let vcpu = channel.vcpu;
                (domain, caller, port, vcpu)
            }
            ChannelState::Interdomain { remote, port } => {
                let domain = self.domain(remote)?;
                let Some(peer) = domain.ports.get(port) else { return Ok(Deliver::Nothing) };
                if domain.local {
                    return Ok(Deliver::Backend { port });
                }
                let vcpu = peer.vcpu;
                (domain, remote, port, vcpu)
            }
            ChannelState::Unbound { .. } => return Ok(Deliver::Nothing),
            _ => return Err(Errno::EINVAL),
        };
        Ok(domain.raise_at(dom, port, vcpu))
    }

    /// A back end of the hypervisor sends through its port. A port whose guest is gone swallows it.
    pub fn notify(&mut self, port: Port) -> Deliver {
        self.send(DomId::BACKEND, port).unwrap_or_default()
    }

    /// Takes a port's mask away, and tells the guest if it is pending (`EVTCHNOP_unmask`).
    ///
    /// # Errors
    /// `EINVAL` for a number that was never a port.
    pub fn unmask(&mut self, caller: DomId, port: Port) -> Result<Deliver, Errno> {
        let domain = self.domain(caller)?;
        if port.0 >= domain.ports.allocated() {
            return Err(Errno::EINVAL);
        }
        Ok(domain.unmask(caller, port))
    }

    /// A virtual interrupt happens, at `vcpu` if each has its own. Nothing where it is not bound.
    pub fn raise_virq(&mut self, dom: DomId, vcpu: u16, virq: Virq) -> Deliver {
        let Ok(domain) = self.domain(dom) else { return Deliver::Nothing };
        let vcpu = if virq.is_per_vcpu() { vcpu } else { 0 };
        match domain.virq(vcpu, virq.0) {
            Some(port) if port != Port(0) => domain.raise(dom, port),
            _ => Deliver::Nothing,
        }
    }

    /// Whether a virtual interrupt is bound.
    #[must_use]
    pub fn virq_is_bound(&self, dom: DomId, vcpu: u16, virq: Virq) -> bool {
        let vcpu = if virq.is_per_vcpu() { vcpu } else { 0 };
        let bound = self.domains.get(&dom).and_then(|domain| domain.virq(vcpu, virq.0));
        bound.is_some_and(|port| port != Port(0))
    }

    /// A device's interrupt happens. Nothing where it is not bound.
    pub fn raise_pirq(&mut self, dom: DomId, pirq: u32) -> Deliver {
        let Ok(domain) = self.domain(dom) else { return Deliver::Nothing };
        match domain.pirqs.get(&pirq) {
            Some(&port) => domain.raise(dom, port),
            None => Deliver::Nothing,
        }
    }

    /// Whether a device's interrupt is bound, so that it goes by its port and not by its line.
    #[must_use]
    pub fn pirq_is_bound(&self, dom: DomId, pirq: u32) -> bool {
        self.domains.get(&dom).is_some_and(|domain| domain.pirqs.contains_key(&pirq))
    }

    /// Whether a port is pending. A back end's never is: its doorbell rang.
    #[must_use]
    pub fn is_pending(&self, dom: DomId, port: Port) -> bool {
        self.domains.get(&dom).is_some_and(|domain| domain.is_pending(port))
    }

    /// Whether a port is masked, or cannot be told to the guest yet.
    #[must_use]
    pub fn is_masked(&self, dom: DomId, port: Port) -> bool {
        self.domains.get(&dom).is_none_or(|domain| domain.is_masked(port))
    }

    /// A vCPU wants to sleep until one of `ports` is pending (`SCHEDOP_poll`). `true`: one is; it
    /// goes on. `false`: it sleeps until [`Deliver`] names it among the pollers, any upcall or its
    /// own timeout; then [`end_poll`](EventChannels::end_poll).
    ///
    /// # Errors
    /// `EINVAL` for a number that was never a port, or more than 128 ports; `ENOENT` for the vCPU.
    pub fn poll(&mut self, dom: DomId, vcpu: u16, ports: &[Port]) -> Result<bool, Errno> {
        let domain = self.domain(dom)?;
        let vcpu = domain.vcpu(vcpu.into())?;
        if ports.len() > MAX_POLL_PORTS as usize {
            return Err(Errno::EINVAL);
        }
        // Of several ports it is not remembered which: any event of the domain wakes, and is no
        // harm.
        let polled = if let [only] = ports { *only } else { Port(0) };
        for port in ports {
            if port.0 >= domain.ports.allocated() {
                return Err(Errno::EINVAL);
            }
            if domain.is_pending(*port) {
                return Ok(true);
            }
        }
        domain.start_poll(vcpu, polled);
        Ok(false)
    }

    /// A vCPU does not poll any more.
    pub fn end_poll(&mut self, dom: DomId, vcpu: u16) {
        if let Ok(domain) = self.domain(dom) {
            domain.end_poll(vcpu);
        }
    }

    /// Whether a vCPU polls and nothing has come yet.
    #[must_use]
    pub fn is_polling(&self, dom: DomId, vcpu: u16) -> bool {
        self.domains.get(&dom).is_some_and(|domain| domain.is_polling(vcpu))
    }
}
