//! A world of guests for the tests of event channels, and what a guest kernel does with its pages.

mod fifo;
mod ops;
mod race;
mod two_level;
mod walk;

use super::{Deliver, EventChannels, Progress, Settings, VcpuSet};
use crate::abi::event_channel::{
    FIFO_CONTROL_HEADS, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED, FIFO_PENDING,
};
use crate::{DomId, Port};
use arch::SharedPage;
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

pub(super) const A: DomId = DomId(1);
pub(super) const B: DomId = DomId(2);
pub(super) const HV: DomId = DomId::BACKEND;

pub(super) fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])))
}

pub(super) fn settings() -> Settings {
    Settings { vcpus: 2, shared_info: page(), max_port: 131_071, pirqs: 4, privileged: false }
}

/// Two guests of two vCPUs each.
pub(super) fn two_guests() -> EventChannels {
    let mut channels = EventChannels::new();
    channels.add_domain(A, &settings()).unwrap();
    channels.add_domain(B, &settings()).unwrap();
    channels
}

/// A channel between A and B: A's port, B's port.
pub(super) fn connected(channels: &mut EventChannels) -> (Port, Port) {
    let a = channels.alloc_unbound(A, DomId::SELF, B).unwrap();
    let (b, _) = channels.bind_interdomain(B, A, a).unwrap();
    (a, b)
}

pub(super) fn upcall(dom: DomId, vcpu: u16) -> Deliver {
    Deliver::Guest { dom, upcalls: VcpuSet::one(vcpu), pollers: VcpuSet::EMPTY }
}

pub(super) fn remove(channels: &mut EventChannels, dom: DomId) {
    for _ in 0..1000 {
        if channels.remove_domain(dom) == Progress::Done {
            return;
        }
    }
    panic!("{dom:?} does not go");
}

/// The FIFO half of a guest kernel, as Linux's `events_fifo.c` works.
pub(super) struct FifoGuest {
    pub dom: DomId,
    pub array: Vec<SharedPage>,
    pub controls: Vec<SharedPage>,
    heads: Vec<[u32; 16]>,
}

impl FifoGuest {
    pub fn new(channels: &mut EventChannels, dom: DomId, vcpus: u32) -> FifoGuest {
        let controls: Vec<_> = (0..vcpus).map(|_| page()).collect();
        for (vcpu, control) in controls.iter().enumerate() {
            channels.init_control(dom, vcpu as u32, Some(*control), 0).unwrap();
        }
        FifoGuest { dom, array: Vec::new(), controls, heads: std::vec![[0; 16]; vcpus as usize] }
    }

    /// Adds a page of words, all masked.
    pub fn expand(&mut self, channels: &mut EventChannels, masked: bool) -> Deliver {
        let words = page();
        if masked {
            for at in (0..4096).step_by(4) {
                words.write(at, 4, FIFO_MASKED.into()).unwrap();
            }
        }
        self.array.push(words);
        channels.expand_array(self.dom, Some(words)).unwrap()
    }

    pub fn word(&self, port: u32) -> (SharedPage, usize) {
        (self.array[port as usize / 1024], port as usize % 1024 * 4)
    }

    pub fn set(&self, port: u32, bit: u32) {
        let (page, at) = self.word(port);
        page.fetch_or(at, 4, bit.into()).unwrap();
    }

    pub fn clear(&self, port: u32, bit: u32) -> bool {
        let (page, at) = self.word(port);
        page.fetch_clear(at, 4, bit.into()).unwrap() as u32 & bit != 0
    }

    /// Takes all events of a vCPU, in order.
    pub fn consume(&mut self, vcpu: usize) -> Vec<u32> {
        let mut events = Vec::new();
        let control = self.controls[vcpu];
        let mut ready = control.fetch_clear(0, 4, u64::from(u32::MAX)).unwrap() as u32;
        while ready != 0 {
            let priority = ready.trailing_zeros() as usize;
            let mut port = self.heads[vcpu][priority];
            if port == 0 {
                port = control.read_u32(FIFO_CONTROL_HEADS + priority * 4).unwrap();
            }
            let (page, at) = self.word(port);
            let unlinked = u64::from(FIFO_LINKED | FIFO_LINK_MASK);
            let old = page.fetch_clear(at, 4, unlinked).unwrap() as u32;
            let next = old & FIFO_LINK_MASK;
            if next == 0 {
                ready &= !(1 << priority);
            }
            if old & FIFO_PENDING != 0 && old & FIFO_MASKED == 0 {
                self.clear(port, FIFO_PENDING);
                events.push(port);
            }
            self.heads[vcpu][priority] = next;
            ready |= control.fetch_clear(0, 4, u64::from(u32::MAX)).unwrap() as u32;
            assert!(events.len() < 1 << 20, "a queue that never ends");
        }
        events
    }
}

/// The 2-level half of a guest kernel: takes all events of a vCPU.
pub(super) fn consume_two_level(channels: &EventChannels, dom: DomId, vcpu: u16) -> BTreeSet<u32> {
    use crate::abi::shared_info::{SharedInfo, VcpuInfo};
    let width = channels.width(dom).unwrap();
    let (info, at) = channels.vcpu_info(dom, vcpu).unwrap();
    let (shared, _) = channels.vcpu_info(dom, 0).unwrap();
    let layout = SharedInfo::of(width);
    info.write(at, 1, 0).unwrap();
    let select_at = at + VcpuInfo::of(width).evtchn_pending_sel;
    let mut events = BTreeSet::new();
    for word in 0..width.bits() {
        let select = select_at + word as usize / 32 * 4;
        if info.fetch_clear(select, 4, 1 << (word % 32)).unwrap() >> (word % 32) & 1 == 0 {
            continue;
        }
        for bit in 0..width.bits() {
            let port = word * width.bits() + bit;
            let place = port as usize / 32 * 4;
            let mask = shared.read_u32(layout.evtchn_mask + place).unwrap();
            let bit = 1u64 << (port % 32);
            if u64::from(mask) & bit != 0 {
                continue;
            }
            if shared.fetch_clear(layout.evtchn_pending + place, 4, bit).unwrap() & bit != 0 {
                events.insert(port);
            }
        }
    }
    events
}
