//! The bridges that join guests' network cards with each other and with the host's card.
//!
//! A card hands its frames over under its board's lock, so they only go into the ring of the port
//! they are for; CPU 0 takes them from there to the guest. Locks: board → [`NET`] → the host card's.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use arch::Nanos;
use devmodel::net::Received;
use machine::config::VifConfig;
use pvdrivers::bridge::queue::FrameQueue;
use pvdrivers::bridge::{Bridge, Counters, MAX_PORTS, PortConfig, PortId};

use super::backend::Backend;
use super::sched::World;
use super::{Domain, State};
use super::{console, pv};
use crate::cpu::lock::IrqLock;
use crate::cpu::{self, YIELD, tsc};
use crate::drivers;

/// Bytes of frames that wait for a guest.
const RING: usize = 256 << 10;
/// Frames that one guest gets, or the host's card gives, before others have their turn.
const BATCH: usize = 64;
/// The bridge of interfaces that name none; the host's card is at it.
const DEFAULT: &str = "xenbr0";

/// What is at a port.
enum End {
    /// A guest's card.
    Guest {
        /// The guest's number, from 1.
        domain: usize,
        /// Its interface.
        nic: u8,
        /// Frames for it.
        ring: FrameQueue,
        /// It had no room; it tells when it has.
        full: bool,
    },
    /// The host's card.
    Host,
}

struct Hub {
    name: String,
    bridge: Bridge,
    ends: Vec<Option<End>>,
}

/// A port of one of the bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    hub: usize,
    port: PortId,
}

static NET: IrqLock<Vec<Hub>> = IrqLock::new(Vec::new());
/// Where a frame lies on its way from a ring to a guest. CPU 0's own.
static PASSING: IrqLock<Option<Box<[u8]>>> = IrqLock::new(None);
/// The host's card may have frames.
static ARRIVED: AtomicBool = AtomicBool::new(false);

fn now() -> Nanos {
    Nanos(tsc::to_ns(tsc::now()))
}

impl Hub {
    fn new(name: &str) -> Hub {
        let ends = (0..MAX_PORTS).map(|_| None).collect();
        let mut hub = Hub { name: name.into(), bridge: Bridge::new(), ends };
        if name == DEFAULT && drivers::net::mac().is_some() {
            hub.add(PortConfig::default(), End::Host);
        }
        hub
    }

    fn add(&mut self, config: PortConfig, end: End) -> Option<PortId> {
        let port = self.bridge.add(config, now())?;
        *self.ends.get_mut(port.index())? = Some(end);
        Some(port)
    }

    /// A frame that came in at a port goes on its way. True where a guest is to get it.
    fn pass(&mut self, from: PortId, frame: &[u8]) -> bool {
        let Ok(to) = self.bridge.forward(from, frame, now()) else { return false };
        let mut waits = false;
        for port in to.iter() {
            let taken = match self.ends.get_mut(port.index()) {
                Some(Some(End::Guest { ring, .. })) => {
                    waits = true;
                    ring.push(frame)
                }
                Some(Some(End::Host)) => drivers::net::send(frame),
                _ => true,
            };
            if !taken {
                self.bridge.overrun(port);
            }
        }
        waits
    }
}

/// An interface of a guest: an emulated card, a paravirtual device, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vif {
    /// Its port.
    pub place: Place,
    /// Its number in the configuration, from 0.
    pub number: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// The name of its bridge.
    pub bridge: String,
}

/// Connects a guest's interface. `None`: the bridge has no port left, or another guest has the address.
pub fn attach(domain: usize, nic: u8, vif: &VifConfig, mac: [u8; 6]) -> Option<(Place, String)> {
    PASSING.lock().get_or_insert_with(|| alloc::vec![0; RING].into_boxed_slice());
    let name = vif.bridge.as_deref().unwrap_or(DEFAULT);
    let mut net = NET.lock();
    let hub = match net.iter().position(|hub| hub.name == name) {
        Some(hub) => hub,
        None => {
            net.push(Hub::new(name));
            drivers::net::set_hook(arrived);
            net.len() - 1
        }
    };
    let config = PortConfig { mac: Some(mac), filter: true, rate: vif.rate };
    let end = End::Guest { domain, nic, ring: FrameQueue::new(RING), full: false };
    let port = net.get_mut(hub)?.add(config, end)?;
    Some((Place { hub, port }, name.into()))
}

/// Takes a card away, and what waits for it.
pub fn detach(place: Place) {
    let mut net = NET.lock();
    if let Some(hub) = net.get_mut(place.hub) {
        hub.bridge.remove(place.port);
        if let Some(end) = hub.ends.get_mut(place.port.index()) {
            *end = None;
        }
    }
}

/// A guest's card sends a frame. Its board is locked.
pub fn send(from: Place, frame: &[u8]) {
    let waits = NET.lock().get_mut(from.hub).is_some_and(|hub| hub.pass(from.port, frame));
    if waits {
        call();
    }
}

/// A guest's card has room again.
pub fn has_room(place: Place) {
    let mut net = NET.lock();
    let end = net.get_mut(place.hub).and_then(|hub| hub.ends.get_mut(place.port.index()));
    if let Some(Some(End::Guest { full, ring, .. })) = end
        && core::mem::take(full)
        && !ring.is_empty()
    {
        drop(net);
        call();
    }
}

/// CPU 0 is to look, also when this is CPU 0 in a guest's turn.
pub(super) fn call() {
    console::want();
    let this = cpu::this();
    if this.id == 0 {
        this.ask(YIELD);
    }
}

/// The host's card has interrupted.
fn arrived() {
    ARRIVED.store(true, Ordering::Release);
    console::want();
}

/// CPU 0 carries frames: from the host's card to the rings, from the rings to the guests.
pub fn step<B: Backend>(world: &World<B>) {
    pv::step(world);
    let Some(mut passing) = PASSING.lock().take() else { return };
    if ARRIVED.swap(false, Ordering::AcqRel) {
        from_host(&mut passing);
    }
    let mut place = (0, 0);
    while let Some(found) = next(place) {
        deliver(world, found, &mut passing);
        place = (found.0, found.1 + 1);
    }
    *PASSING.lock() = Some(passing);
}

fn from_host(passing: &mut [u8]) {
    for _ in 0..BATCH {
        let Some(len) = drivers::net::receive(passing) else { return };
        let mut net = NET.lock();
        for hub in net.iter_mut() {
            let host = hub.ends.iter().position(|end| matches!(end, Some(End::Host)));
            if let Some(port) = host.and_then(|n| hub.bridge.port(n)) {
                hub.pass(port, &passing[..len]);
            }
        }
    }
    arrived();
}

/// The first place from `from` on whose guest has frames waiting and may have room.
fn next(from: (usize, usize)) -> Option<(usize, usize)> {
    let net = NET.lock();
    let places = net.iter().enumerate().flat_map(|(n, hub)| {
        let waits = |end: &Option<End>| matches!(end, Some(End::Guest { ring, full: false, .. }) if !ring.is_empty());
        hub.ends.iter().enumerate().filter(move |(_, end)| waits(end)).map(move |(m, _)| (n, m))
    });
    places.into_iter().find(|place| *place >= from)
}

/// Gives one guest its frames until it has no room, or its turn is over.
fn deliver<B: Backend>(world: &World<B>, (hub, port): (usize, usize), passing: &mut [u8]) {
    for turn in 0..=BATCH {
        let (domain, nic, len) = {
            let mut net = NET.lock();
            let end = net.get_mut(hub).and_then(|hub| hub.ends.get_mut(port));
            let Some(Some(End::Guest { domain, nic, ring, full })) = end else { return };
            if turn == BATCH && !ring.is_empty() {
                drop(net);
                return console::want();
            }
            let Some(frame) = ring.front(passing) else { return };
            // Until it is taken: the guest may make room while it is offered.
            *full = true;
            (*domain, *nic, frame.len())
        };
        let Some(domain) = world.domains.get(domain.wrapping_sub(1)) else { return };
        let runs = domain.state() == State::Running;
        let frame = &passing[..len];
        // The guest has one of the two: its own driver, or the emulated card.
        let card = || domain.machine.receive_frame(domain.as_ref(), nic, frame);
        let offer = || pv::receive(domain, nic, frame).unwrap_or_else(card);
        // A guest that does not run gets nothing.
        let received = if runs { console::guarded(domain, offer) } else { None };
        let mut net = NET.lock();
        let end = net.get_mut(hub).and_then(|hub| hub.ends.get_mut(port));
        let Some(Some(End::Guest { ring, full, .. })) = end else { return };
        if received == Some(Received::NoRoom) {
            return;
        }
        *full = false;
        ring.pop();
    }
}

/// Says what is at each port, and what it has seen, for the monitor.
#[must_use]
pub fn report() -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _ = write_report(&mut text);
    text
}

fn write_report(out: &mut String) -> fmt::Result {
    let net = NET.lock();
    for hub in net.iter() {
        writeln!(out, "{}: {} addresses learned", hub.name, hub.bridge.learned(now()))?;
        for (n, end) in hub.ends.iter().enumerate() {
            let Some(end) = end else { continue };
            let counters = hub.bridge.port(n).and_then(|port| hub.bridge.counters(port));
            let Counters {
                frames_in,
                bytes_in,
                frames_out,
                bytes_out,
                spoofed,
                over_rate,
                bad,
                overrun,
            } = counters.unwrap_or_default();
            match end {
                End::Guest { domain, nic, .. } => write!(out, "  guest {domain} card {nic}:")?,
                End::Host => write!(out, "  host card:")?,
            }
            writeln!(
                out,
                " sent {frames_in} ({bytes_in} bytes), got {frames_out} ({bytes_out} bytes), \
                 dropped: {spoofed} spoofed, {over_rate} over rate, {bad} bad, {overrun} overrun"
            )?;
        }
    }
    Ok(())
}

impl<B: Backend> Domain<B> {
    /// The place of one of its interfaces.
    pub(super) fn place(&self, nic: u8) -> Option<Place> {
        self.vifs.get(usize::from(nic)).map(|vif| vif.place)
    }
}
