//! A guest's network interface as a paravirtual one: the back end's state machine at the guest's own
//! port of a bridge. Locks: `Pv` → device → grants → the bridges'.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use devmodel::net::Received;
use pvdrivers::bus::{BackEnd, DeviceId, DeviceKind, DeviceNodes, VifSpec};
use pvdrivers::grant::LocalGrants;
use pvdrivers::netback::{Delivered, NetBack, Packet, offload};
use pvdrivers::ring::RingError;
use pvdrivers::{DomId, Errno, Port};

use super::block::bind;
use super::{Context, Target};
use crate::cpu::lock::IrqLock;
use crate::domain::net::{self, Place, Vif};

/// Most queues of an interface; a front end takes no more than it has vCPUs.
const QUEUES: u32 = 4;
/// Bytes of a packet at most, without the Ethernet header.
pub const MTU: u16 = 1500;
/// Batches that one doorbell takes.
const ROUNDS: u32 = 4;

/// One interface with its back end.
pub struct NetDevice {
    back: NetBack,
    place: Place,
    owner: DomId,
    spec: VifSpec,
    /// Where frames are made of packets.
    scratch: Vec<u8>,
    /// Ports of domain 0 for sending and receiving, by queue; the same where events are not split.
    ports: Vec<(Port, Port)>,
    /// That of the control ring.
    control: Option<Port>,
    /// Packets may wait that no doorbell rings for.
    behind: bool,
}

impl NetDevice {
    /// The paravirtual side of an interface.
    pub fn new(owner: DomId, vif: &Vif) -> NetDevice {
        NetDevice {
            back: NetBack::new(owner, DomId::BACKEND),
            place: vif.place,
            owner,
            spec: VifSpec {
                devid: vif.number,
                mac: vif.mac,
                bridge: String::from(vif.bridge.as_str()),
                mtu: MTU,
            },
            scratch: Vec::new(),
            ports: Vec::new(),
            control: None,
            behind: false,
        }
    }

    /// What it is on the bus.
    pub fn id(&self) -> DeviceId {
        DeviceId { kind: DeviceKind::Vif, domid: self.owner, devid: self.spec.devid }
    }

    /// Its nodes.
    pub fn spec(&self) -> VifSpec {
        self.spec.clone()
    }

    /// Whether packets may wait that no doorbell rings for.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Takes packets from the rings to the bridge. True: some are left, and no doorbell rings for them.
    ///
    /// # Errors
    /// A ring's indices make no sense.
    pub fn serve(&mut self, budget: u32, context: &mut Context) -> Result<bool, RingError> {
        let NetDevice { back, place, scratch, ports, control, .. } = self;
        let mut more = true;
        for _ in 0..ROUNDS {
            let mut tables = context.hub.grants.lock();
            let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
            let controlled = back.serve_control(&mut grants)?;
            let served = back.serve(budget, &mut grants, &mut |packet| {
                offload::to_wire(packet, scratch, &mut |frame| net::send(*place, frame));
            })?;
            drop(tables);
            notify(ports.iter().map(|(send, _)| *send), served.notify, context);
            notify(control.iter().copied(), controlled.notify.into(), context);
            more = served.more || controlled.more;
            if !more {
                break;
            }
        }
        self.behind = more;
        // It rings with the same port when it has posted pages, unless its events are split.
        net::has_room(self.place);
        Ok(more)
    }

    /// Gives the front end a frame; `None` where none is connected.
    pub fn deliver(
        &mut self,
        frame: &[u8],
        context: &mut Context,
    ) -> Option<Result<Received, RingError>> {
        if !self.back.is_connected() {
            return None;
        }
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        let delivered = self.back.deliver(&mut grants, Packet::plain(frame));
        drop(tables);
        Some(delivered.map(|delivered| match delivered {
            Delivered::Taken(queues) => {
                notify(self.ports.iter().map(|(_, receive)| *receive), queues, context);
                Received::Taken
            }
            Delivered::NoRoom => Received::NoRoom,
            Delivered::Unwanted => Received::Unwanted,
        }))
    }
}

fn notify(ports: impl Iterator<Item = Port>, queues: u32, context: &mut Context) {
    for (queue, port) in ports.enumerate() {
        if queues >> queue & 1 != 0 {
            let deliver = context.hub.events.lock().notify(port);
            context.news.push(deliver);
        }
    }
}

/// The device on the bus. The same device is found by its ports and by the bridge.
pub struct NetPort(pub Arc<IrqLock<NetDevice>>);

impl NetPort {
    fn bind_all(&self, device: &mut NetDevice, context: &mut Context) -> Result<(), Errno> {
        let fronts: Vec<(Port, Port)> = device.back.ports().collect();
        let mut events = context.hub.events.lock();
        for (send, receive) in fronts {
            let first = bind(&mut events, device.owner, send)?;
            context.bound.push((first, Target::Net(self.0.clone())));
            device.ports.push((first, first));
            if receive != send {
                let second = bind(&mut events, device.owner, receive)?;
                context.bound.push((second, Target::Net(self.0.clone())));
                if let Some(last) = device.ports.last_mut() {
                    last.1 = second;
                }
            }
        }
        if let Some(front) = device.back.control_port() {
            let port = bind(&mut events, device.owner, front)?;
            context.bound.push((port, Target::Net(self.0.clone())));
            device.control = Some(port);
        }
        Ok(())
    }
}

impl BackEnd<Context> for NetPort {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut Context) -> Result<(), Errno> {
        self.0.lock().back.offer(nodes, QUEUES)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, context: &mut Context) -> Result<(), Errno> {
        let mut device = self.0.lock();
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        device.back.take_front(nodes, QUEUES, &mut grants)?;
        drop(tables);
        // `disconnect` follows an error, and lets go of what was bound.
        self.bind_all(&mut device, context)?;
        // What it sent before the ports were bound rang for nobody.
        device.behind = true;
        super::call();
        Ok(())
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, context: &mut Context) {
        let mut device = self.0.lock();
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        device.back.disconnect(&mut grants);
        drop(tables);
        let queues = core::mem::take(&mut device.ports).into_iter();
        let each = queues.flat_map(|(send, receive)| {
            core::iter::once(send).chain((receive != send).then_some(receive))
        });
        for port in each.chain(device.control.take()) {
            // It was bound: closing it cannot fail.
            let _ = context.hub.events.lock().close(DomId::BACKEND, port);
            context.closed.push(port);
        }
        device.behind = false;
        // What waits is the emulated card's now, or nobody's.
        net::has_room(device.place);
    }
}
