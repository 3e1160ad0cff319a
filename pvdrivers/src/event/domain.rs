//! One domain: its vCPUs, its ports, and which of the two ABIs its bits follow.

use super::channel::{ChannelState, Ports};
use super::fifo::Fifo;
use super::two_level::{self, Bits};
use super::{Deliver, MAX_VCPUS, Usage, VcpuSet};
use crate::abi::Width;
use crate::abi::event_channel::FIFO_PORTS;
use crate::abi::shared_info::{SharedInfo, VCPU_INFO_SIZE, VcpuInfo};
use crate::abi::xen::NR_VIRQS;
use crate::sorted::SortedMap;
use crate::{DomId, Errno, Port};
use alloc::vec::Vec;
use arch::SharedPage;

/// A guest that is to be added.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u16,
    /// The page that the guest can map as its shared info.
    pub shared_info: SharedPage,
    /// The highest port, 1 to 2^17 − 1 (`max_event_channels` in xl.cfg(5), there 1,023 if unset).
    pub max_port: u32,
    /// Device interrupts that can be bound, from 0 up to below this.
    pub pirqs: u32,
    /// Whether it may act on other domains' ports.
    pub privileged: bool,
}

/// One vCPU.
#[derive(Debug)]
struct Vcpu {
    /// Where its `vcpu_info` lies. None for one from 32 on that has not moved it.
    info: Option<(SharedPage, usize)>,
    /// It has moved its `vcpu_info`.
    moved: bool,
    /// The port of each virtual interrupt; 0 for none. Those of the domain are at vCPU 0.
    virqs: [Port; NR_VIRQS],
    /// What it polls: 0 for any port.
    poll: Port,
}

/// How an event was taken up in the guest's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raised {
    /// The vCPU is to be told.
    pub upcall: bool,
    /// It was not pending before.
    pub fresh: bool,
}

#[derive(Debug)]
pub(super) struct Domain {
    /// The hypervisor's back ends: no memory, no vCPUs.
    pub local: bool,
    pub privileged: bool,
    pub dying: bool,
    pub width: Width,
    pub ports: Ports,
    pub fifo: Option<Fifo>,
    /// Bound device interrupts.
    pub pirqs: SortedMap<u32, Port>,
    pub pirq_limit: u32,
    /// The port from which `reset` and removal go on.
    pub sweep: u32,
    shared_info: Option<SharedPage>,
    vcpus: Vec<Vcpu>,
    polling: VcpuSet,
}

impl Domain {
    /// The hypervisor's back ends.
    pub fn backend() -> Domain {
        let ports = Ports::new(FIFO_PORTS);
        // At the hypervisor's start there is memory for one bucket.
        Domain::new(ports.expect("memory for the first ports"), None, Vec::new(), true)
    }

    /// A guest.
    pub fn guest(settings: &Settings) -> Result<Domain, Errno> {
        let Settings { vcpus, shared_info, max_port, pirqs, privileged } = *settings;
        if !(1..=MAX_VCPUS).contains(&vcpus) || !(1..FIFO_PORTS).contains(&max_port) {
            return Err(Errno::EINVAL);
        }
        let vcpu = |n| Vcpu {
            info: SharedInfo::vcpu_info(n).map(|at| (shared_info, at)),
            moved: false,
            virqs: [Port(0); NR_VIRQS],
            poll: Port(0),
        };
        let vcpus = (0..vcpus).map(vcpu).collect();
        let domain = Domain::new(Ports::new(max_port + 1)?, Some(shared_info), vcpus, privileged);
        Ok(Domain { local: false, pirq_limit: pirqs, ..domain })
    }

    fn new(
        ports: Ports,
        shared_info: Option<SharedPage>,
        vcpus: Vec<Vcpu>,
        privileged: bool,
    ) -> Domain {
        Domain {
            local: true,
            privileged,
            dying: false,
            width: Width::Bits64,
            ports,
            fifo: None,
            pirqs: SortedMap::new(),
            pirq_limit: 0,
            sweep: 1,
            shared_info,
            vcpus,
            polling: VcpuSet::EMPTY,
        }
    }

    /// A vCPU that there is.
    pub fn vcpu(&self, vcpu: u32) -> Result<u16, Errno> {
        if (vcpu as usize) < self.vcpus.len() { Ok(vcpu as u16) } else { Err(Errno::ENOENT) }
    }

    pub fn vcpu_count(&self) -> usize {
        self.vcpus.len()
    }

    /// The port of a virtual interrupt; 0 for none.
    pub fn virq(&self, vcpu: u16, virq: u32) -> Option<Port> {
        self.vcpus.get(usize::from(vcpu))?.virqs.get(virq as usize).copied()
    }

    /// The same, to bind it.
    pub fn virq_mut(&mut self, vcpu: u16, virq: u32) -> Option<&mut Port> {
        self.vcpus.get_mut(usize::from(vcpu))?.virqs.get_mut(virq as usize)
    }

    /// Where a vCPU's `vcpu_info` lies.
    #[inline]
    pub fn vcpu_info(&self, vcpu: u16) -> Option<(SharedPage, usize)> {
        self.vcpus.get(usize::from(vcpu))?.info
    }

    /// Whether it has moved its `vcpu_info`.
    pub fn has_moved(&self, vcpu: u16) -> bool {
        self.vcpus.get(usize::from(vcpu)).is_some_and(|vcpu| vcpu.moved)
    }

    pub fn move_vcpu_info(
        &mut self,
        dom: DomId,
        vcpu: u16,
        page: SharedPage,
        offset: usize,
    ) -> Deliver {
        let mut bytes = [0; VCPU_INFO_SIZE];
        if let Some((old, at)) = self.vcpu_info(vcpu) {
            let _ = old.read(at, &mut bytes);
        }
        let _ = page.write_slice(offset, &bytes);
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(vcpu)) {
            vcpu.info = Some((page, offset));
            vcpu.moved = true;
        }
        let layout = VcpuInfo::of(self.width);
        let width = self.width.bytes() as u8;
        let _ = page.fetch_or(offset + layout.evtchn_pending_sel, width, u64::MAX);
        let upcall = two_level::mark_upcall(&page, offset);
        Deliver::guest(
            dom,
            if upcall { VcpuSet::one(vcpu) } else { VcpuSet::EMPTY },
            VcpuSet::EMPTY,
        )
    }

    /// Ports beyond this cannot be told by the ABI in use.
    pub fn port_bound(&self) -> u32 {
        if self.local || self.fifo.is_some() { FIFO_PORTS } else { self.width.bits().pow(2) }
    }

    /// Binds a free port.
    ///
    /// # Errors
    /// `EINVAL` for a domain that is going away, `ENOSPC`, `ENOMEM`.
    pub fn allocate(&mut self, state: ChannelState, vcpu: u16) -> Result<Port, Errno> {
        if self.dying {
            return Err(Errno::EINVAL);
        }
        let bound = self.port_bound();
        let fifo = self.fifo.as_ref();
        self.ports
            .allocate(state, vcpu, bound, |port| fifo.is_some_and(|fifo| fifo.is_linked(port)))
    }

    /// Frees a port and takes its pending bit away, so that who gets it next starts afresh.
    pub fn free(&mut self, port: Port) {
        match (&self.fifo, self.bits()) {
            (Some(fifo), _) => fifo.clear_pending(port),
            (None, Some(bits)) => bits.clear_pending(port),
            (None, None) => {}
        }
        self.ports.free(port);
    }

    /// The guest's bits by the 2-level ABI; a back end has none.
    #[inline]
    fn bits(&self) -> Option<Bits> {
        Some(Bits { page: self.shared_info?, width: self.width })
    }

    /// Makes an event pending.
    #[inline(never)]
    pub fn raise(&mut self, dom: DomId, port: Port) -> Deliver {
        let Some(channel) = self.ports.get(port) else { return Deliver::Nothing };
        if self.local {
            return Deliver::Backend { port };
        }
        self.raise_at(dom, port, channel.vcpu)
    }

    /// The same for a guest's port, whose vCPU is known.
    #[inline(always)]
    pub fn raise_at(&mut self, dom: DomId, port: Port, vcpu: u16) -> Deliver {
        let info = self.vcpu_info(vcpu);
        let raised = if self.fifo.is_some() {
            self.raise_in_queue(port, info)
        } else if let Some(bits) = self.bits() {
            bits.raise(port, info)
        } else {
            Raised::default()
        };
        self.deliver(dom, port, vcpu, raised)
    }

    #[inline(never)]
    fn raise_in_queue(&mut self, port: Port, info: Option<(SharedPage, usize)>) -> Raised {
        match (&mut self.fifo, self.ports.get_mut(port)) {
            (Some(fifo), Some(channel)) => fifo.raise(channel, port, info),
            _ => Raised::default(),
        }
    }

    /// Takes the mask away, and makes the event known if it is pending.
    pub fn unmask(&mut self, dom: DomId, port: Port) -> Deliver {
        let Some(channel) = self.ports.get(port) else { return Deliver::Nothing };
        if !channel.is_usable() {
            return Deliver::Nothing;
        }
        let vcpu = channel.vcpu;
        if let Some(fifo) = &self.fifo {
            return if fifo.unmask(port) { self.raise(dom, port) } else { Deliver::Nothing };
        }
        let info = self.vcpu_info(vcpu);
        let upcall = self.bits().is_some_and(|bits| bits.unmask(port, info));
        self.deliver(dom, port, vcpu, Raised { upcall, fresh: false })
    }

    #[inline(always)]
    fn deliver(&mut self, dom: DomId, port: Port, vcpu: u16, raised: Raised) -> Deliver {
        let upcalls = if raised.upcall { VcpuSet::one(vcpu) } else { VcpuSet::EMPTY };
        let none = !raised.fresh || self.polling.is_empty();
        let pollers = if none { VcpuSet::EMPTY } else { self.wake_pollers(port) };
        Deliver::guest(dom, upcalls, pollers)
    }

    #[cold]
    #[inline(never)]
    fn wake_pollers(&mut self, port: Port) -> VcpuSet {
        let mut woken = VcpuSet::EMPTY;
        for vcpu in self.polling.iter() {
            let polled = self.vcpus.get(usize::from(vcpu)).map_or(Port(0), |vcpu| vcpu.poll);
            if polled == Port(0) || polled == port {
                woken = woken.and(VcpuSet::one(vcpu));
            }
        }
        self.polling = self.polling.without(woken);
        woken
    }

    /// A vCPU polls `port`, or any for port 0.
    pub fn start_poll(&mut self, vcpu: u16, port: Port) {
        if let Some(state) = self.vcpus.get_mut(usize::from(vcpu)) {
            state.poll = port;
            self.polling = self.polling.and(VcpuSet::one(vcpu));
        }
    }

    pub fn end_poll(&mut self, vcpu: u16) {
        self.polling = self.polling.without(VcpuSet::one(vcpu));
    }

    pub fn is_polling(&self, vcpu: u16) -> bool {
        self.polling.contains(vcpu)
    }

    pub fn is_pending(&self, port: Port) -> bool {
        match &self.fifo {
            Some(fifo) => fifo.is_pending(port),
            None => self.bits().is_some_and(|bits| bits.is_pending(port)),
        }
    }

    pub fn is_masked(&self, port: Port) -> bool {
        match &self.fifo {
            Some(fifo) => fifo.is_masked(port),
            None => self.bits().is_none_or(|bits| bits.is_masked(port)),
        }
    }

    /// Pages of the guest's RAM that are held here.
    pub fn pages(&self) -> impl Iterator<Item = &SharedPage> {
        let moved = self.vcpus.iter().filter(|vcpu| vcpu.moved);
        let moved = moved.filter_map(|vcpu| Some(&vcpu.info.as_ref()?.0));
        moved.chain(self.fifo.iter().flat_map(Fifo::pages))
    }

    pub fn usage(&self) -> Usage {
        Usage {
            ports: self.ports.active(),
            limit: self.ports.limit() - 1,
            allocated: self.ports.allocated(),
            pages: self.pages().count() as u32,
        }
    }
}
