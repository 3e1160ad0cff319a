//! Event channels of all domains: one bit of news between domains, vCPUs and the hypervisor's back
//! ends.
//!
//! One structure without locks; whoever holds it serializes calls. Guests' bits are in their pages
//! (`two_level`, `fifo`); everything that is trusted is here. Operations of guests are in `ops`,
//! what makes events happen in `raise`. Errors are those of Xen 4.17's `common/event_channel.c`.

mod channel;
mod domain;
mod fifo;
mod ops;
mod raise;
mod two_level;

#[cfg(test)]
mod tests;

pub use channel::ChannelState;
pub use domain::Settings;
pub use ops::ChannelStatus;

use crate::abi::Width;
use crate::abi::shared_info::VCPU_INFO_SIZE;
use crate::sorted::SortedMap;
use crate::{DomId, Errno, Port};
use arch::SharedPage;
use domain::Domain;

/// A domain has at most so many vCPUs.
pub const MAX_VCPUS: u16 = 64;
/// Ports that one call of [`EventChannels::reset`] or [`EventChannels::remove_domain`] closes.
pub const PORTS_PER_STEP: u32 = 512;

/// Some of a domain's vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuSet(u64);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: VcpuSet = VcpuSet(0);

    /// One vCPU; none where the number is [`MAX_VCPUS`] or more.
    #[must_use]
    #[inline]
    pub const fn one(vcpu: u16) -> VcpuSet {
        VcpuSet(if vcpu < MAX_VCPUS { 1 << vcpu } else { 0 })
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `vcpu` is one of them.
    #[must_use]
    pub const fn contains(self, vcpu: u16) -> bool {
        self.0 & VcpuSet::one(vcpu).0 != 0
    }

    /// These and the others.
    #[must_use]
    #[inline]
    pub const fn and(self, others: VcpuSet) -> VcpuSet {
        VcpuSet(self.0 | others.0)
    }

    /// These without the others.
    #[must_use]
    #[inline]
    pub const fn without(self, others: VcpuSet) -> VcpuSet {
        VcpuSet(self.0 & !others.0)
    }

    /// Their numbers, upwards.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = u16> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let vcpu = (left != 0).then(|| left.trailing_zeros() as u16)?;
            left &= left - 1;
            Some(vcpu)
        })
    }
}

/// What the caller has to do after an event.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// Nothing: the event is masked, or was pending already.
    #[default]
    Nothing,
    /// Tell a guest. Its pages are written already.
    Guest {
        /// Which.
        dom: DomId,
        /// vCPUs whose `evtchn_upcall_pending` has just become 1: interrupt and wake them.
        upcalls: VcpuSet,
        /// vCPUs whose `SCHEDOP_poll` has ended: wake them.
        pollers: VcpuSet,
    },
    /// Ring the doorbell of the back end that owns this port of domain 0.
    Backend {
        /// The back end's own port.
        port: Port,
    },
}

impl Deliver {
    /// A guest's, or nothing where no vCPU is meant.
    #[inline]
    fn guest(dom: DomId, upcalls: VcpuSet, pollers: VcpuSet) -> Deliver {
        if upcalls.is_empty() && pollers.is_empty() {
            Deliver::Nothing
        } else {
            Deliver::Guest { dom, upcalls, pollers }
        }
    }
}

/// How far a long operation came.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done.
    Done,
    /// Call again; let others go first.
    Again,
}

/// What a domain uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Ports that are not free.
    pub ports: u32,
    /// Ports that it can have.
    pub limit: u32,
    /// Ports that memory is held for.
    pub allocated: u32,
    /// Pages of the guest that are held: event array, control blocks, moved `vcpu_info`s.
    pub pages: u32,
}

impl Usage {
    /// Whether a person should be told: 80 percent of the limit.
    #[must_use]
    pub const fn is_high(&self) -> bool {
        self.ports as u64 * 5 >= self.limit as u64 * 4
    }
}

/// The event channels of all domains.
#[derive(Debug)]
pub struct EventChannels {
    domains: SortedMap<DomId, Domain>,
}

impl Default for EventChannels {
    fn default() -> Self {
        EventChannels::new()
    }
}

impl EventChannels {
    /// With the hypervisor's back ends as domain 0, and no guest.
    #[must_use]
    pub fn new() -> EventChannels {
        EventChannels { domains: [(DomId::BACKEND, Domain::backend())].into_iter().collect() }
    }

    /// Adds a guest. Its width is 64 bits until [`set_width`](EventChannels::set_width).
    ///
    /// # Errors
    /// `EEXIST`; `EINVAL` for a reserved number, or for settings out of range; `ENOMEM`.
    pub fn add_domain(&mut self, dom: DomId, settings: &Settings) -> Result<(), Errno> {
        if dom.0 >= DomId::FIRST_RESERVED {
            return Err(Errno::EINVAL);
        }
        if self.domains.contains_key(&dom) {
            return Err(Errno::EEXIST);
        }
        let domain = Domain::guest(settings)?;
        self.domains.insert(dom, domain);
        Ok(())
    }

    /// Takes a guest out: closes its ports, a bounded number in each call, and lets go of its
    /// pages. No port can be made from the first call on. A domain that is not there is done.
    /// Domain 0 stays.
    pub fn remove_domain(&mut self, dom: DomId) -> Progress {
        if dom == DomId::BACKEND {
            return Progress::Done;
        }
        let Some(domain) = self.domains.get_mut(&dom) else { return Progress::Done };
        domain.dying = true;
        if self.close_some(dom) == Progress::Again {
            return Progress::Again;
        }
        self.domains.remove(&dom);
        Progress::Done
    }

    /// The guest's words are so wide from now on (Xen latches this when the guest sets its
    /// callback). Bits that were set in the other layout are lost, as in Xen.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn set_width(&mut self, dom: DomId, width: Width) -> Result<(), Errno> {
        self.guest(dom)?.width = width;
        Ok(())
    }

    /// How wide the guest's words are.
    #[must_use]
    pub fn width(&self, dom: DomId) -> Option<Width> {
        self.domains.get(&dom).map(|domain| domain.width)
    }

    /// Where a vCPU's `vcpu_info` lies: page and offset. `None` for vCPUs from 32 on before they
    /// moved it.
    #[must_use]
    pub fn vcpu_info(&self, dom: DomId, vcpu: u16) -> Option<(SharedPage, usize)> {
        self.domains.get(&dom)?.vcpu_info(vcpu)
    }

    /// Moves a vCPU's `vcpu_info` (`VCPUOP_register_vcpu_info`), with what stands in it. All its
    /// events count as new afterwards, so that none is lost.
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU. `ENXIO`: the place leaves the page or is not aligned to a word.
    /// `EINVAL`: it moved before, or the place is no RAM (`page` is none).
    pub fn register_vcpu_info(
        &mut self,
        dom: DomId,
        vcpu: u32,
        page: Option<SharedPage>,
        offset: u32,
    ) -> Result<Deliver, Errno> {
        let domain = self.guest(dom)?;
        let vcpu = domain.vcpu(vcpu)?;
        let offset = offset as usize;
        if offset > 4096 - VCPU_INFO_SIZE || !offset.is_multiple_of(domain.width.bytes()) {
            return Err(Errno::ENXIO);
        }
        let page = page.filter(|_| !domain.has_moved(vcpu)).ok_or(Errno::EINVAL)?;
        Ok(domain.move_vcpu_info(dom, vcpu, page, offset))
    }

    /// Whether event channels hold this page of a guest. It must not go to anyone else then.
    #[must_use]
    pub fn holds_page(&self, dom: DomId, page: &SharedPage) -> bool {
        self.domains.get(&dom).is_some_and(|domain| domain.pages().any(|held| held.is(page)))
    }

    /// What a domain uses.
    #[must_use]
    pub fn usage(&self, dom: DomId) -> Option<Usage> {
        self.domains.get(&dom).map(Domain::usage)
    }

    /// All domains, domain 0 among them.
    pub fn domains(&self) -> impl Iterator<Item = DomId> {
        self.domains.keys().copied()
    }

    /// A domain that has memory and vCPUs.
    fn guest(&mut self, dom: DomId) -> Result<&mut Domain, Errno> {
        match self.domains.get_mut(&dom) {
            Some(domain) if !domain.local => Ok(domain),
            _ => Err(Errno::ESRCH),
        }
    }

    #[inline]
    fn domain(&mut self, dom: DomId) -> Result<&mut Domain, Errno> {
        // Numbers go up from 0 and mostly without gaps.
        self.domains.get_mut_near(dom.0.into(), &dom).ok_or(Errno::ESRCH)
    }
}
