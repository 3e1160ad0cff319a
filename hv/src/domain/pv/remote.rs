//! Devices of a guest that another guest serves, a driver domain: only their nodes are the hypervisor's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use machine::config::{DiskConfig, GuestConfig, Target, VifConfig};
use pvdrivers::bus::{DeviceId, DeviceKind, DeviceSpec, Parting, VbdSpec, VifSpec};
use pvdrivers::{DomId, blkback};

use super::Pv;
use super::net::MTU;
use crate::domain::Domain;
use crate::domain::backend::Backend;
use crate::domain::sched;

/// One of them.
#[derive(Clone, Debug)]
pub struct RemoteDevice {
    /// The name of the guest that serves it.
    pub backend: String,
    /// Its nodes, but for whose they are.
    pub nodes: RemoteNodes,
    /// Most bytes a second that the guest may send by it, for the back end to keep; `None` for no limit.
    pub rate: Option<u64>,
}

/// Over how many microseconds a rate is reckoned: xl's own 50 ms (xl-network-configuration "rate").
const RATE_INTERVAL_US: u64 = 50_000;

/// What kind.
#[derive(Clone, Debug)]
pub enum RemoteNodes {
    /// A disk.
    Disk(VbdSpec),
    /// A network interface.
    Network(VifSpec),
}

/// Those of a configuration.
pub fn remote_devices(config: &GuestConfig) -> Vec<RemoteDevice> {
    let disk = |disk: &DiskConfig| {
        let Target::Remote { guest, params } = &disk.target else { return None };
        let (devid, dev) = disk.vdev.xen_disk()?;
        let nodes = RemoteNodes::Disk(VbdSpec {
            devid,
            dev,
            params: params.clone(),
            cdrom: false,
            writable: disk.writable,
            removable: false,
            discard: true,
        });
        Some(RemoteDevice { backend: guest.clone(), nodes, rate: None })
    };
    let vif = |(number, vif): (usize, &VifConfig)| {
        let nodes = RemoteNodes::Network(VifSpec {
            devid: number as u32,
            mac: vif.address(&config.name, number),
            bridge: vif.bridge.clone().unwrap_or_default(),
            mtu: MTU,
        });
        Some(RemoteDevice { backend: vif.backend.clone()?, nodes, rate: vif.rate })
    };
    let disks = config.disks.iter().filter_map(disk);
    disks.chain(config.vifs.iter().enumerate().filter_map(vif)).collect()
}

/// A guest's, with the numbers of those who serve them.
pub(super) fn devices<B: Backend>(domain: &Domain<B>) -> Vec<DeviceSpec> {
    let front = DomId(domain.id as u16);
    let spec = |device: &RemoteDevice| {
        let Some(back) = sched::named::<B>(&device.backend) else {
            log::error!(
                "{}: the guest {}, which was to serve one of its devices, could not be built: it does without",
                domain.name,
                device.backend
            );
            return None;
        };
        let mut spec = match &device.nodes {
            RemoteNodes::Disk(disk) => disk.device(front),
            RemoteNodes::Network(card) => card.device(front),
        };
        if spec.id.kind == DeviceKind::Vif {
            // xen-netback refuses an interface without: it hands the name on to udev.
            spec.back.push(("script", String::from("/etc/xen/scripts/vif-bridge")));
        }
        if let Some(rate) = device.rate {
            let bytes = (rate / (1_000_000 / RATE_INTERVAL_US)).max(1);
            spec.back.push(("rate", format!("{bytes},{RATE_INTERVAL_US}")));
        }
        Some(DeviceSpec { back_domid: DomId(back.id as u16), ..spec })
    };
    domain.remotes.iter().filter_map(spec).collect()
}

impl Pv {
    /// A guest asks the store for the first time since it started: what other guests serve for it, and what it serves,
    /// gets its nodes. Not sooner: where it was there before, the other end must see them gone in between, and Linux
    /// looks at what is there only when it comes to it.
    pub(super) fn welcome(&mut self, dom: DomId) {
        let Some(devices) = self.newcomers.remove(&dom) else { return };
        for (id, made) in self.remotes.arrive(&mut self.service.store, dom, devices) {
            match made {
                Ok(()) => log::info!("xenbus: {} is another guest's to serve", Named(id)),
                Err(error) => log::error!("xenbus: {} has no nodes: {error:?}", Named(id)),
            }
        }
    }

    /// Front ends of domains that have gone close.
    pub(super) fn serve_remotes(&mut self) {
        let Pv { service, bus, remotes, context, .. } = self;
        let (client, hub) = (bus.client(), context.hub);
        let partings = remotes.poll(&mut service.store, |store, device| {
            let (dom, front) = (device.id.domid, device.front_path());
            let mut read = |name: &str| store.local(client).read(&format!("{front}/{name}"));
            // The requests of an interface are not waited for.
            device.id.kind != DeviceKind::Vbd
                || blkback::is_idle(&mut read, |grant| {
                    hub.grants.lock().look(dom, grant.0, &hub.memories)
                })
        });
        for parting in partings {
            match parting {
                Parting::Gone(id) => log::info!("xenbus: {} has gone with its back end", Named(id)),
                Parting::Stuck(id) => log::warn!(
                    "xenbus: {} has requests that nobody answers any more: it is of use again when its domain restarts",
                    Named(id)
                ),
            }
        }
    }
}

/// A device, for the log.
struct Named(DeviceId);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceId { kind, domid, devid } = self.0;
        write!(f, "{} {devid} of domain {}", kind.name(), domid.0)
    }
}
