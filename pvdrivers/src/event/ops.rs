//! What guests, and back ends as domain 0, ask for: `event_channel_op` but for send and unmask.
//!
//! `caller` is who asks; a domain argument may be `DOMID_SELF`. Acting on another domain takes
//! privilege.

use super::channel::ChannelState;
use super::fifo::Fifo;
use super::{Deliver, EventChannels, PORTS_PER_STEP, Progress};
use crate::abi::event_channel::{FIFO_CONTROL_SIZE, FIFO_QUEUES, Status};
use crate::abi::xen::{NR_VIRQS, Virq};
use crate::{DomId, Errno, Port};
use arch::SharedPage;

/// What a port is (`EVTCHNOP_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// What it is bound to.
    pub state: ChannelState,
    /// The vCPU that it notifies.
    pub vcpu: u16,
}

impl ChannelStatus {
    /// Fills an argument's results in.
    pub fn fill(&self, argument: &mut Status) {
        (argument.status, argument.detail, argument.remote_port) = match self.state {
            ChannelState::Free | ChannelState::Reserved => (0, 0, 0),
            ChannelState::Unbound { remote } => (1, remote.0.into(), 0),
            ChannelState::Interdomain { remote, port } => (2, remote.0.into(), port.0),
            ChannelState::Pirq(pirq) => (3, pirq, 0),
            ChannelState::Virq(virq) => (4, virq, 0),
            ChannelState::Ipi => (5, 0, 0),
        };
        argument.vcpu = self.vcpu.into();
    }
}

impl EventChannels {
    /// The domain that an argument names, if `caller` may act on it.
    fn target(&self, caller: DomId, dom: DomId) -> Result<DomId, Errno> {
        let dom = if dom == DomId::SELF { caller } else { dom };
        if !self.domains.contains_key(&dom) {
            return Err(Errno::ESRCH);
        }
        let privileged = self.domains.get(&caller).is_some_and(|caller| caller.privileged);
        if dom == caller || privileged { Ok(dom) } else { Err(Errno::EPERM) }
    }

    /// Makes a port in `dom` that `remote` may bind to. For `DOMID_SELF`, `remote` is the caller.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`, `ENOSPC`, `ENOMEM`; `EINVAL` for a domain that is going away.
    pub fn alloc_unbound(
        &mut self,
        caller: DomId,
        dom: DomId,
        remote: DomId,
    ) -> Result<Port, Errno> {
        let dom = self.target(caller, dom)?;
        let remote = if remote == DomId::SELF { caller } else { remote };
        self.domain(dom)?.allocate(ChannelState::Unbound { remote }, 0)
    }

    /// Connects a new port of the caller's to a port that waits for it. The caller's port is
    /// pending then, since the peer may have sent before.
    ///
    /// # Errors
    /// `ESRCH`; `EINVAL` where the port does not wait for the caller; `ENOSPC`, `ENOMEM`.
    pub fn bind_interdomain(
        &mut self,
        caller: DomId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<(Port, Deliver), Errno> {
        let remote = if remote == DomId::SELF { caller } else { remote };
        let peer = self.domain(remote)?;
        let waits = peer.ports.get(remote_port).map(|channel| channel.state);
        if waits != Some(ChannelState::Unbound { remote: caller }) {
            return Err(Errno::EINVAL);
        }
        let state = ChannelState::Interdomain { remote, port: remote_port };
        let port = self.domain(caller)?.allocate(state, 0)?;
        if let Some(channel) = self.domain(remote)?.ports.get_mut(remote_port) {
            channel.state = ChannelState::Interdomain { remote: caller, port };
        }
        let deliver = self.domain(caller)?.raise(caller, port);
        Ok((port, deliver))
    }

    /// Binds a virtual interrupt. One that belongs to the domain is bound on vCPU 0 and may move
    /// later.
    ///
    /// # Errors
    /// `EINVAL` for a number that there is not, or a domain's on another vCPU; `ENOENT` for the
    /// vCPU; `EEXIST`; `ENOSPC`, `ENOMEM`.
    pub fn bind_virq(&mut self, caller: DomId, virq: u32, vcpu: u32) -> Result<Port, Errno> {
        if virq as usize >= NR_VIRQS || (!Virq(virq).is_per_vcpu() && vcpu != 0) {
            return Err(Errno::EINVAL);
        }
        let domain = self.domain(caller)?;
        let vcpu = domain.vcpu(vcpu)?;
        if domain.virq_mut(vcpu, virq).is_none_or(|port| *port != Port(0)) {
            return Err(Errno::EEXIST);
        }
        let port = domain.allocate(ChannelState::Virq(virq), vcpu)?;
        if let Some(bound) = domain.virq_mut(vcpu, virq) {
            *bound = port;
        }
        Ok(port)
    }

    /// Makes a port by which the caller's vCPUs interrupt `vcpu`.
    ///
    /// # Errors
    /// `ENOENT` for the vCPU; `ENOSPC`, `ENOMEM`.
    pub fn bind_ipi(&mut self, caller: DomId, vcpu: u32) -> Result<Port, Errno> {
        let domain = self.domain(caller)?;
        let vcpu = domain.vcpu(vcpu)?;
        domain.allocate(ChannelState::Ipi, vcpu)
    }

    /// Binds a device's interrupt.
    ///
    /// # Errors
    /// `EINVAL` for a number that there is not; `EEXIST`; `ENOSPC`, `ENOMEM`.
    pub fn bind_pirq(&mut self, caller: DomId, pirq: u32) -> Result<Port, Errno> {
        let domain = self.domain(caller)?;
        if pirq >= domain.pirq_limit {
            return Err(Errno::EINVAL);
        }
        if domain.pirqs.contains_key(&pirq) {
            return Err(Errno::EEXIST);
        }
        let port = domain.allocate(ChannelState::Pirq(pirq), 0)?;
        domain.pirqs.insert(pirq, port);
        Ok(port)
    }

    /// Closes a port. Its peer waits for the caller again.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not bound.
    pub fn close(&mut self, caller: DomId, port: Port) -> Result<(), Errno> {
        let domain = self.domain(caller)?;
        let channel = domain.ports.get(port).ok_or(Errno::EINVAL)?;
        let (state, vcpu) = (channel.state, channel.vcpu);
        match state {
            ChannelState::Free | ChannelState::Reserved => return Err(Errno::EINVAL),
            ChannelState::Unbound { .. } | ChannelState::Ipi => {}
            ChannelState::Pirq(pirq) => {
                domain.pirqs.remove(&pirq);
            }
            ChannelState::Virq(virq) => {
                let vcpu = if Virq(virq).is_per_vcpu() { vcpu } else { 0 };
                if let Some(bound) = domain.virq_mut(vcpu, virq) {
                    *bound = Port(0);
                }
            }
            ChannelState::Interdomain { remote, port: remote_port } => {
                let peer = self.domains.get_mut(&remote);
                if let Some(channel) = peer.and_then(|peer| peer.ports.get_mut(remote_port)) {
                    channel.state = ChannelState::Unbound { remote: caller };
                }
            }
        }
        self.domain(caller)?.free(port);
        Ok(())
    }

    /// What a port of `dom` is.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`; `EINVAL` for a number that was never a port.
    pub fn status(&self, caller: DomId, dom: DomId, port: Port) -> Result<ChannelStatus, Errno> {
        let dom = self.target(caller, dom)?;
        let domain = self.domains.get(&dom).ok_or(Errno::ESRCH)?;
        let channel = domain.ports.get(port).ok_or(Errno::EINVAL)?;
        Ok(ChannelStatus { state: channel.state, vcpu: channel.vcpu })
    }

    /// Moves a port to another vCPU.
    ///
    /// # Errors
    /// `ENOENT` for the vCPU; `EINVAL` for a port that is not bound, or is one vCPU's own.
    pub fn bind_vcpu(&mut self, caller: DomId, port: Port, vcpu: u32) -> Result<(), Errno> {
        let domain = self.domain(caller)?;
        let vcpu = domain.vcpu(vcpu)?;
        let channel = domain.ports.get_mut(port).ok_or(Errno::EINVAL)?;
        match channel.state {
            ChannelState::Virq(virq) if Virq(virq).is_per_vcpu() => Err(Errno::EINVAL),
            ChannelState::Virq(_)
            | ChannelState::Pirq(_)
            | ChannelState::Unbound { .. }
            | ChannelState::Interdomain { .. } => {
                channel.vcpu = vcpu;
                Ok(())
            }
            ChannelState::Free | ChannelState::Reserved | ChannelState::Ipi => Err(Errno::EINVAL),
        }
    }

    /// Sets a port's priority for its next events.
    ///
    /// # Errors
    /// `EINVAL` for a number that was never a port, or a priority above 15; `ENOSYS` with the
    /// 2-level ABI; `EACCES` for a port that is not bound.
    pub fn set_priority(&mut self, caller: DomId, port: Port, priority: u32) -> Result<(), Errno> {
        let domain = self.domain(caller)?;
        let fifo = domain.fifo.is_some();
        let channel = domain.ports.get_mut(port).ok_or(Errno::EINVAL)?;
        if !fifo {
            return Err(Errno::ENOSYS);
        }
        if !channel.is_usable() {
            return Err(Errno::EACCES);
        }
        if priority as usize >= FIFO_QUEUES {
            return Err(Errno::EINVAL);
        }
        channel.priority = priority as u8;
        Ok(())
    }

    /// Gives a vCPU its control block, in `page` (none where the frame is no RAM). The first
    /// switches the domain to the FIFO ABI; what is pending then becomes so again when its page of
    /// words is added.
    ///
    /// # Errors
    /// `ENOENT` for the vCPU; `EINVAL` for an offset that is not aligned to 8 or leaves the page, a
    /// page that is not there, or a vCPU that has a control block; `ENOMEM`.
    pub fn init_control(
        &mut self,
        caller: DomId,
        vcpu: u32,
        page: Option<SharedPage>,
        offset: u32,
    ) -> Result<(), Errno> {
        let domain = self.domain(caller)?;
        let vcpu = domain.vcpu(vcpu)?;
        let offset = offset as usize;
        if offset > 4096 - FIFO_CONTROL_SIZE || !offset.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let page = page.ok_or(Errno::EINVAL)?;
        if let Some(fifo) = &mut domain.fifo {
            return fifo.set_control(vcpu, page, offset);
        }
        let mut fifo = Fifo::new(domain.vcpu_count())?;
        fifo.set_control(vcpu, page, offset)?;
        for port in 1..domain.ports.allocated().min(domain.port_bound()) {
            let pending = domain.is_pending(Port(port));
            if let Some(channel) = domain.ports.get_mut(Port(port)) {
                channel.pending = pending && channel.is_usable();
            }
        }
        domain.fifo = Some(fifo);
        Ok(())
    }

    /// Adds a page of event words (none where the frame is no RAM). Events that waited for it come
    /// now.
    ///
    /// # Errors
    /// `EOPNOTSUPP` with the 2-level ABI; `EINVAL`; `ENOSPC` for a 129th page; `ENOMEM`.
    pub fn expand_array(
        &mut self,
        caller: DomId,
        page: Option<SharedPage>,
    ) -> Result<Deliver, Errno> {
        let domain = self.domain(caller)?;
        let fifo = domain.fifo.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        let ports = fifo.add_page(page.ok_or(Errno::EINVAL)?)?;
        let mut all = Deliver::Nothing;
        for port in ports.map(Port) {
            let Some(channel) = domain.ports.get_mut(port) else { break };
            if core::mem::take(&mut channel.pending) {
                all = all.and(domain.raise(caller, port));
            }
        }
        Ok(all)
    }

    /// Closes all ports of a domain and goes back to the 2-level ABI, a bounded number of ports in
    /// each call. Calls of several vCPUs go on where the last one stopped.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`.
    pub fn reset(&mut self, caller: DomId, dom: DomId) -> Result<Progress, Errno> {
        let dom = self.target(caller, dom)?;
        if self.close_some(dom) == Progress::Again {
            return Ok(Progress::Again);
        }
        let domain = self.domain(dom)?;
        if domain.fifo.take().is_some() {
            domain.ports.forget_queues();
        }
        Ok(Progress::Done)
    }

    /// Closes the next ports of a domain.
    pub(super) fn close_some(&mut self, dom: DomId) -> Progress {
        let Some(domain) = self.domains.get(&dom) else { return Progress::Done };
        let first = domain.sweep;
        let last = domain.ports.allocated().min(first.saturating_add(PORTS_PER_STEP));
        for port in first..last {
            if self.domains.get(&dom).is_none_or(|domain| domain.ports.active() == 0) {
                break;
            }
            // Free ones refuse, which is as well.
            let _ = self.close(dom, Port(port));
        }
        let Some(domain) = self.domains.get_mut(&dom) else { return Progress::Done };
        if domain.ports.active() > 0 && last < domain.ports.allocated() {
            domain.sweep = last;
            return Progress::Again;
        }
        domain.sweep = 1;
        // Ports that another vCPU bound behind the sweep meanwhile.
        if domain.ports.active() > 0 { Progress::Again } else { Progress::Done }
    }
}
