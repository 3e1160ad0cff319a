//! The hypervisor's side of Xen's interface: XenStore, and the back ends of consoles, disks and networks.
//!
//! One lock around it. A guest's event rings a doorbell: what it is for is served at once, in bounded
//! batches, on the CPU that the event came from. What guests are to be told is told when the lock is
//! free again.

mod block;
pub mod control;
pub mod limits;
mod net;
mod news;
mod remote;
mod screen;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use core::sync::atomic::{AtomicBool, Ordering};
use devmodel::blk::BlkRequest;
use devmodel::net::Received;
use devmodel::ps2kbd::Key;
use machine::Host;
use machine::host::{DiskAnswer, DiskData};
use machine::xen::{self, CONSOLE_RING, Hub, STORE_RING};
use pvdrivers::abi::hvm_params::HvmParam;
use pvdrivers::bus::{
    self, Bus, ConsoleSpec, Control, DeviceId, DeviceKind, DeviceSpec, DomainKind, DomainSpec,
    Remotes, Request, VbdSpec, VfbSpec,
};
use pvdrivers::conback::ConBack;
use pvdrivers::sorted::SortedMap;
use pvdrivers::store::{Quota, Ready, Service};
use pvdrivers::{DomId, Errno, Port};
use spin::Once;

use super::backend::Backend;
use super::sched::World;
use super::{Domain, console, rescue};
use crate::cpu::lock::IrqLock;
pub use block::UNDER_WAY;
use block::{BlkDevice, BlkPort};
use net::{NetDevice, NetPort};
use news::News;
pub use remote::{RemoteDevice, remote_devices};
pub use screen::ScreenConfig;
use screen::{Drawn, FbPort, KbdPort, Screen};

/// `Token::part` of disk requests of the back ends; chips count theirs from 0, the firmware from 80h.
pub const TOKEN_PART: u8 = 0x40;
/// Messages of XenStore that one doorbell has served.
const STORE_BUDGET: u32 = 64;
/// Events that the bus takes in one go.
const BUS_BUDGET: u32 = 64;
/// Bytes of console output that one doorbell has moved.
const CONSOLE_BUDGET: usize = 4096;
/// Requests that one doorbell has taken from a disk's rings.
const BLOCK_BUDGET: u32 = 64;
/// Packets that one doorbell has taken from an interface's rings.
const NET_BUDGET: u32 = 64;

/// What a back end needs beside the store.
pub struct Context {
    hub: &'static Hub,
    /// Ports of domain 0 that were bound, and what for.
    bound: Vec<(Port, Target)>,
    /// Ports that were closed.
    closed: Vec<Port>,
    /// What guests are to be told.
    news: News,
}

/// Hands a request of a back end to a guest's disk.
type Submit = fn(DomId, &BlkRequest, DiskData<'_>) -> DiskAnswer;

/// What a port of domain 0 is for.
#[derive(Clone)]
enum Target {
    Store(DomId),
    Console(DomId),
    Block(Arc<IrqLock<BlkDevice>>),
    Net(Arc<IrqLock<NetDevice>>),
    Screen(Arc<IrqLock<Screen>>),
}

/// A guest's primary console.
struct PvConsole {
    back: ConBack,
    /// Its port of domain 0.
    port: Port,
    /// The guest has written to it since it started.
    spoken: bool,
}

struct Pv {
    service: Service,
    bus: Bus<Context>,
    control: Control,
    /// Devices that other guests serve.
    remotes: Remotes,
    /// Guests that have not asked the store anything since they started, and those devices of theirs.
    newcomers: SortedMap<DomId, Vec<DeviceSpec>>,
    /// Requests that guests have taken, to be told of.
    taken: Vec<(DomId, Request)>,
    context: Context,
    targets: SortedMap<Port, Target>,
    consoles: SortedMap<DomId, PvConsole>,
    stores: SortedMap<DomId, Port>,
    disks: SortedMap<(DomId, u8), Arc<IrqLock<BlkDevice>>>,
    nets: SortedMap<(DomId, u8), Arc<IrqLock<NetDevice>>>,
    screens: SortedMap<DomId, Arc<IrqLock<Screen>>>,
}

static HUB: Once<&'static Hub> = Once::new();
static PV: Once<IrqLock<Pv>> = Once::new();
/// An interface has packets left to take: CPU 0 goes on.
static BEHIND: AtomicBool = AtomicBool::new(false);

/// What guests share.
pub fn hub() -> &'static Hub {
    HUB.call_once(|| {
        let hub = Hub::new(|| crate::cpu::this().id).copying_by(crate::mem::copy_words);
        Box::leak(Box::new(hub))
    })
}

fn pv() -> &'static IrqLock<Pv> {
    PV.call_once(|| {
        let mut service = Service::new(Quota::default());
        let bus = Bus::new(&mut service.store);
        let control = Control::new(&mut service.store);
        let remotes = Remotes::new(&mut service.store);
        // A new store takes them all.
        let _ = bus::create_base(&mut service.store.local(bus.client()));
        let context =
            Context { hub: hub(), bound: Vec::new(), closed: Vec::new(), news: News::default() };
        IrqLock::new(Pv {
            service,
            bus,
            control,
            remotes,
            newcomers: SortedMap::new(),
            taken: Vec::new(),
            context,
            targets: SortedMap::new(),
            consoles: SortedMap::new(),
            stores: SortedMap::new(),
            disks: SortedMap::new(),
            nets: SortedMap::new(),
            screens: SortedMap::new(),
        })
    })
}

/// Works on the back ends, lets the store's news take their way, and then tells guests.
fn with_pv<B: Backend, R>(domain: &Domain<B>, work: impl FnOnce(&mut Pv) -> R) -> R {
    let mut pv = pv().lock();
    let result = work(&mut pv);
    pv.settle();
    let news = core::mem::take(&mut pv.context.news);
    let taken = core::mem::take(&mut pv.taken);
    drop(pv);
    control::report::<B>(taken);
    for deliver in news.all() {
        xen::deliver_to(domain, deliver);
    }
    result
}

/// A guest that finds Xen's interface starts: its store, console and disks are there.
pub fn start<B: Backend>(domain: &Domain<B>) {
    let Some(xen) = domain.machine.xen() else { return };
    let made = with_pv(domain, |pv| pv.add(domain, xen, submit::<B>));
    if let Err(error) = made {
        log::error!("{}: no paravirtual devices: {error:?}", domain.name);
    }
}

/// A guest has stopped: its back ends let go of it. False: they cannot, since a panic that cost a guest left them
/// as they are; what they hold of it stays held.
pub fn stop<B: Backend>(domain: &Domain<B>) -> bool {
    let Some(xen) = domain.machine.xen() else { return true };
    let remove = |pv: &mut Pv| pv.remove(xen.domid, &uuid_text(&xen.uuid()));
    rescue::catch(|| with_pv(domain, remove)).is_some()
}

/// Tells a guest's balloon how much memory, in KiB, it is to leave the guest. False where the guest does not
/// find Xen's interface.
pub fn set_memory_target<B: Backend>(domain: &Domain<B>, kib: u64) -> bool {
    let Some(xen) = domain.machine.xen() else { return false };
    with_pv(domain, |pv| {
        let Pv { service, bus, .. } = pv;
        let node = format!("/local/domain/{}/memory/target", xen.domid.0);
        service.store.local(bus.client()).write(&node, kib).is_ok()
    })
}

/// Whether back ends still wait for the disk on a stopped guest's behalf.
pub fn is_busy<B: Backend>(domain: &Domain<B>) -> bool {
    let Some(pv) = PV.get() else { return false };
    let dom = DomId(domain.id as u16);
    let pv = pv.lock();
    let mut disks = pv.disks.range((dom, 0)..=(dom, u8::MAX));
    disks.any(|(_, disk)| disk.lock().in_flight() > 0)
}

/// A panic with the lock around it all held, for who tries whether guests survive one.
pub(super) fn panic_under_lock() {
    let _held = pv().lock();
    panic!("asked for in the monitor, with the store locked");
}

/// A guest that has stopped stays so for now: pages go back to whose they are, and its ports and grants go. Of a guest
/// that was given up only what others share with it is touched. False: a panic has left that as it is.
pub fn leave<B: Backend>(domain: &Domain<B>) -> bool {
    let leave = || {
        if !domain.broken.load(Ordering::Acquire) {
            // Grants that a back end still holds go when it lets go.
            domain.machine.let_go(domain);
        }
        domain.machine.leave_xen(domain);
    };
    rescue::catch(leave).is_some()
}

/// A guest's event for a back end, at this port of domain 0.
pub fn doorbell<B: Backend>(domain: &Domain<B>, port: Port) {
    with_pv(domain, |pv| match pv.targets.get(&port).cloned() {
        Some(Target::Store(dom)) => {
            pv.welcome(dom);
            pv.serve_store(dom);
        }
        Some(Target::Console(dom)) => pv.serve_console(dom, |byte| console_byte::<B>(dom, byte)),
        Some(Target::Block(disk)) => pv.serve_disk(&disk),
        Some(Target::Net(net)) => pv.serve_net(&net),
        Some(Target::Screen(screen)) => screen.lock().serve(),
        None => {}
    });
}

/// Offers a byte to the guest's primary console. `None`: the guest has not written there since it started,
/// and so does not use it. False: it has no room now.
pub fn console_input<B: Backend>(domain: &Domain<B>, byte: u8) -> Option<bool> {
    let xen = domain.machine.xen()?;
    with_pv(domain, |pv| pv.console_input(xen.domid, byte))
}

/// Another medium is in a guest's drive, or none any more: its paravirtual side shows what is there now.
pub fn medium_changed<B: Backend>(domain: &Domain<B>, slot: usize) {
    let Some(xen) = domain.machine.xen() else { return };
    let drive = domain.machine.drives().get(slot).copied().flatten();
    let (Some(drive), params) = (drive, domain.behind(slot)) else { return };
    let told = with_pv(domain, |pv| {
        let Pv { service, bus, disks, .. } = pv;
        let Some(disk) = disks.get(&(xen.domid, slot as u8)) else { return Ok(()) };
        let mut disk = disk.lock();
        let id = DeviceId { kind: DeviceKind::Vbd, domid: xen.domid, devid: disk.devid() };
        // A front end without sense has lost its device.
        let Some(mut nodes) = bus.nodes(&mut service.store, id) else { return Ok(()) };
        disk.change_media(&drive, &params, &mut nodes)
    });
    if let Err(error) = told {
        log::error!("{}: its store does not take the change: {error:?}", domain.name);
    }
}

/// A host disk has finished a request of a back end.
pub fn disk_completed<B: Backend>(domain: &Domain<B>, slot: u8, token: u32, good: bool) {
    with_pv(domain, |pv| {
        if let Some(disk) = pv.disks.get(&(DomId(domain.id as u16), slot)).cloned() {
            let more = disk.lock().completed(token, good, &mut pv.context);
            if more {
                pv.serve_disk(&disk);
            }
        }
    });
}

/// A frame for a guest's interface; `None` where no paravirtual driver is connected to it.
pub fn receive<B: Backend>(domain: &Domain<B>, nic: u8, frame: &[u8]) -> Option<Received> {
    domain.machine.xen()?;
    PV.get()?;
    with_pv(domain, |pv| {
        let net = pv.nets.get(&(DomId(domain.id as u16), nic))?.clone();
        let received = net.lock().deliver(frame, &mut pv.context)?;
        Some(received.unwrap_or_else(|_| {
            // Letting go locks it.
            let id = net.lock().id();
            pv.abandon(id);
            Received::Unwanted
        }))
    })
}

/// A guest's paravirtual screen, if it has one at all.
fn screen<B: Backend>(domain: &Domain<B>) -> Option<Arc<IrqLock<Screen>>> {
    domain.machine.xen()?;
    PV.get()?.lock().screens.get(&DomId(domain.id as u16)).cloned()
}

/// What a front end of the guest's has drawn so far, as a number; `None` where none draws.
pub fn picture_generation<B: Backend>(domain: &Domain<B>) -> Option<u64> {
    screen(domain)?.lock().generation()
}

/// What the guest shows by a paravirtual screen, while it does.
pub fn drawn<B: Backend>(domain: &Domain<B>) -> Option<Drawn> {
    screen(domain).filter(|screen| screen.lock().is_drawn()).map(Drawn)
}

/// A key for the guest's paravirtual keyboard; false where no front end listens.
pub fn key<B: Backend>(domain: &Domain<B>, key: Key, down: bool) -> bool {
    let listens = |screen: &Arc<IrqLock<Screen>>| screen.lock().listens();
    let Some(screen) = screen(domain).filter(listens) else { return false };
    with_pv(domain, |pv| screen.lock().key(key, down, &mut pv.context)).is_some()
}

/// The host's mouse moved by so many steps, to the right and up, and has these buttons down: left, right and middle.
/// False where no front end listens.
pub fn pointer<B: Backend>(domain: &Domain<B>, moved: (i32, i32), buttons: [bool; 3]) -> bool {
    let listens = |screen: &Arc<IrqLock<Screen>>| screen.lock().listens();
    let Some(screen) = screen(domain).filter(listens) else { return false };
    with_pv(domain, |pv| screen.lock().motion(moved, buttons, &mut pv.context)).is_some()
}

/// CPU 0 is to go on with interfaces that are behind.
fn call() {
    BEHIND.store(true, Ordering::Release);
    super::net::call();
}

/// CPU 0 goes on with devices that had more packets or requests than one doorbell takes.
pub fn step<B: Backend>(world: &World<B>) {
    if !BEHIND.swap(false, Ordering::AcqRel) {
        return;
    }
    for domain in &world.domains {
        let dom = DomId(domain.id as u16);
        let work = |pv: &mut Pv| {
            let nets: Vec<_> = pv.nets.range((dom, 0)..=(dom, u8::MAX)).collect();
            let behind: Vec<_> = nets.into_iter().map(|(_, net)| net.clone()).collect();
            behind.iter().filter(|net| net.lock().is_behind()).for_each(|net| pv.serve_net(net));
            let disks = pv.disks.range((dom, 0)..=(dom, u8::MAX));
            let disks: Vec<_> = disks.map(|(_, disk)| disk.clone()).collect();
            for disk in disks.iter().filter(|disk| disk.lock().is_behind()) {
                pv.serve_disk(disk);
            }
        };
        console::guarded(domain, || with_pv(domain, work));
    }
}

fn submit<B: Backend>(dom: DomId, request: &BlkRequest, data: DiskData<'_>) -> DiskAnswer {
    match super::sched::domain::<B>(dom.0.into()) {
        Some(domain) => domain.disk(request, data),
        None => DiskAnswer::Done(Err(devmodel::blk::BlkError::NoMedium)),
    }
}

fn console_byte<B: Backend>(dom: DomId, byte: u8) {
    if let Some(domain) = super::sched::domain::<B>(dom.0.into()) {
        console::console_out(domain, byte);
    }
}

impl Pv {
    /// Makes the nodes, ports and back ends of a guest.
    fn add<B: Backend>(
        &mut self,
        domain: &Domain<B>,
        xen: &xen::Xen,
        submit: Submit,
    ) -> Result<(), Errno> {
        let dom = xen.domid;
        let page = |number| xen.page(number).ok_or(Errno::ENOMEM);
        let (store_port, local) = self.channel(dom)?;
        self.targets.insert(local, Target::Store(dom));
        self.stores.insert(dom, local);
        xen.set_param(HvmParam::STORE_EVTCHN, store_port.0.into());
        let (console_port, local) = self.channel(dom)?;
        self.targets.insert(local, Target::Console(dom));
        let back = ConBack::primary(page(CONSOLE_RING)?);
        self.consoles.insert(dom, PvConsole { back, port: local, spoken: false });
        xen.set_param(HvmParam::CONSOLE_EVTCHN, console_port.0.into());
        self.service.introduce(dom, page(STORE_RING)?)?;
        let memory = (domain.machine.ram.low_size() + domain.machine.ram.high_size()) >> 10;
        let pvh = domain.machine.is_pvh();
        let client = self.bus.client();
        let spec = DomainSpec {
            domid: dom,
            name: domain.name.clone(),
            uuid: uuid_text(&xen.uuid()),
            kind: if pvh { DomainKind::Pvh } else { DomainKind::Hvm },
            target_kib: domain.frames.demand().map_or(memory, |demand| demand.budget_bytes() >> 10),
            max_kib: memory,
            video_kib: if pvh { 0 } else { domain.frames.vram().len() as u64 * 4 >> 10 },
            vcpus: domain.machine.plugged() as u32,
            max_vcpus: domain.slots.len() as u32,
            store_frame: xen::SPECIAL_GFN,
            store_port,
            start_time: crate::cpu::wall::unix_seconds(),
        };
        bus::create_domain(&mut self.service.store.local(client), &spec)?;
        let console = ConsoleSpec {
            devid: 0,
            ring: Some((xen::SPECIAL_GFN + 1, console_port)),
            tty: String::from("pty"),
        };
        console.device(dom).create(&mut self.service.store, client)?;
        for (slot, drive) in domain.machine.drives().iter().enumerate() {
            let Some(drive) = drive else { continue };
            let params = domain.behind(slot);
            if let Some(disk) = BlkDevice::new(dom, slot as u8, drive, params, submit) {
                self.add_disk(slot as u8, disk)?;
            }
        }
        for (nic, vif) in (0u8..).zip(&domain.vifs) {
            self.add_net(nic, NetDevice::new(dom, vif))?;
        }
        self.add_screen(dom, domain.screen)?;
        self.newcomers.insert(dom, remote::devices(domain));
        Ok(())
    }

    fn add_screen(&mut self, dom: DomId, wanted: ScreenConfig) -> Result<(), Errno> {
        let screen = Arc::new(IrqLock::new(Screen::new(dom)));
        self.screens.insert(dom, screen.clone());
        let Pv { service, bus, context, .. } = self;
        let store = &mut service.store;
        if wanted.frame_buffer {
            bus.attach(store, VfbSpec.device(dom), Box::new(FbPort(screen.clone())), context)?;
        }
        if wanted.keyboard {
            bus.attach(store, VfbSpec.keyboard(dom), Box::new(KbdPort(screen)), context)?;
        }
        Ok(())
    }

    fn add_disk(&mut self, slot: u8, disk: BlkDevice) -> Result<(), Errno> {
        let dom = disk.owner();
        let spec: VbdSpec = disk.spec();
        let disk = Arc::new(IrqLock::new(disk));
        self.disks.insert((dom, slot), disk.clone());
        let port = Box::new(BlkPort(disk));
        let Pv { service, bus, context, .. } = self;
        bus.attach(&mut service.store, spec.device(dom), port, context)?;
        Ok(())
    }

    fn add_net(&mut self, nic: u8, net: NetDevice) -> Result<(), Errno> {
        let (dom, spec) = (net.id().domid, net.spec());
        let net = Arc::new(IrqLock::new(net));
        self.nets.insert((dom, nic), net.clone());
        let Pv { service, bus, context, .. } = self;
        bus.attach(&mut service.store, spec.device(dom), Box::new(NetPort(net)), context)?;
        Ok(())
    }

    /// A port of a guest's, connected to one of domain 0.
    fn channel(&mut self, dom: DomId) -> Result<(Port, Port), Errno> {
        let mut events = self.context.hub.events.lock();
        let guest = events.alloc_unbound(dom, DomId::SELF, DomId::BACKEND)?;
        // The deliver is the back end's own port, which nothing waits at yet.
        let (local, _) = events.bind_interdomain(DomId::BACKEND, dom, guest)?;
        Ok((guest, local))
    }

    /// Lets go of a guest.
    fn remove(&mut self, dom: DomId, uuid: &str) {
        let Pv { service, bus, control, remotes, context, .. } = self;
        self.newcomers.remove(&dom);
        control.forget(&mut service.store, dom);
        bus.destroy_domain(&mut service.store, dom, context);
        // What is not there is no error, and domain 0 may remove all.
        let _ = bus::remove_domain(&mut service.store.local(bus.client()), dom, uuid);
        service.forget(dom);
        // What stands in for its back ends lies in its home, which is gone only now.
        remotes.depart(&mut service.store, dom);
        let stored = self.stores.remove(&dom);
        let console = self.consoles.remove(&dom).map(|console| console.port);
        for port in stored.into_iter().chain(console) {
            self.targets.remove(&port);
            // It was bound: closing it cannot fail.
            let _ = self.context.hub.events.lock().close(DomId::BACKEND, port);
        }
        self.settle();
        self.nets.retain(|(owner, _), _| *owner != dom);
        self.screens.remove(&dom);
        self.disks.retain(|(owner, _), disk| *owner != dom || disk.lock().in_flight() > 0);
    }

    fn serve_store(&mut self, dom: DomId) {
        // What is left is served when its turn comes: `settle` asks who is ready.
        let served = self.service.serve(dom, STORE_BUDGET);
        if served.notify {
            self.notify_store(dom);
        }
    }

    fn notify_store(&mut self, dom: DomId) {
        if let Some(port) = self.stores.get(&dom).copied() {
            self.notify(port);
        }
    }

    fn serve_console(&mut self, dom: DomId, mut sink: impl FnMut(u8)) {
        let Some(console) = self.consoles.get_mut(&dom) else { return };
        let moved = console.back.output(CONSOLE_BUDGET, &mut |bytes| {
            bytes.iter().for_each(|byte| sink(*byte));
        });
        console.spoken |= moved.bytes > 0;
        let port = console.port;
        if moved.notify {
            self.notify(port);
        }
    }

    /// A byte for a guest's primary console. `None`: the guest does not use it. False: it has no room now.
    fn console_input(&mut self, dom: DomId, byte: u8) -> Option<bool> {
        let console = self.consoles.get_mut(&dom).filter(|console| console.spoken)?;
        let moved = console.back.input(&[byte]);
        let port = console.port;
        if moved.notify {
            self.notify(port);
        }
        Some(moved.bytes > 0)
    }

    /// An event for whom a port of domain 0 is connected to.
    fn notify(&mut self, port: Port) {
        let deliver = self.context.hub.events.lock().notify(port);
        self.context.news.push(deliver);
    }

    fn serve_disk(&mut self, disk: &IrqLock<BlkDevice>) {
        let mut disk = disk.lock();
        let served = disk.serve(BLOCK_BUDGET, &mut self.context);
        let id = DeviceId { kind: DeviceKind::Vbd, domid: disk.owner(), devid: disk.devid() };
        drop(disk);
        match served {
            Some(false) => {}
            Some(true) => call(),
            None => self.abandon(id),
        }
    }

    fn serve_net(&mut self, net: &IrqLock<NetDevice>) {
        let mut net = net.lock();
        let served = net.serve(NET_BUDGET, &mut self.context);
        let id = net.id();
        drop(net);
        match served {
            Ok(false) => {}
            Ok(true) => call(),
            Err(_) => self.abandon(id),
        }
    }

    /// A device's rings make no sense: it stops serving this front end, which sees its device close.
    fn abandon(&mut self, id: DeviceId) {
        let Pv { service, bus, context, .. } = self;
        if let Some(mut nodes) = bus.nodes(&mut service.store, id) {
            let _ = nodes.write("state", bus::XenbusState::Closing.number());
        }
        let _ = bus.remove_device(&mut service.store, id, context);
    }

    /// Lets everyone who is ready work, until nobody is.
    fn settle(&mut self) {
        // Each round takes events that others left; front ends and the bus answer each other a few times.
        for _ in 0..256 {
            self.follow_ports();
            match self.service.next_ready() {
                Some(Ready::Guest(dom)) => self.serve_store(dom),
                Some(Ready::Local(client)) if client == self.bus.client() => {
                    let Pv { service, bus, context, .. } = self;
                    for notice in bus.poll(&mut service.store, context, BUS_BUDGET) {
                        log::info!("xenbus: {notice:?}");
                    }
                }
                Some(Ready::Local(client)) if client == self.control.client() => {
                    self.serve_control();
                }
                Some(Ready::Local(client)) if client == self.remotes.client() => {
                    self.serve_remotes();
                }
                Some(Ready::Local(_)) => {}
                None => return,
            }
        }
    }

    /// Ports that back ends bound and closed.
    fn follow_ports(&mut self) {
        for port in self.context.closed.drain(..) {
            self.targets.remove(&port);
        }
        for (port, target) in self.context.bound.drain(..) {
            self.targets.insert(port, target);
        }
    }
}

/// A UUID with its hyphens.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::new();
    for (n, byte) in uuid.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
