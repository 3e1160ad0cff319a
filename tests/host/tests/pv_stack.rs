//! A disk as a guest meets it: XenStore's nodes, the bus, event channels, grants, rings, and the
//! disk behind them, all real but for the disk.

use arch::SharedPage;
use host_tests::peers::{FakeDisk, Pace, page};
use pvdrivers::blkback::abi::{Layout, Segment};
use pvdrivers::blkback::{BlkBack, BlkConfig, Media, xvd};
use pvdrivers::bus::{
    BackEnd, Bus, DeviceId, DeviceKind, DeviceNodes, DomainKind, DomainSpec, Notice, VbdSpec,
    XenbusState, create_base, create_domain,
};
use pvdrivers::event::{Deliver, EventChannels, Settings};
use pvdrivers::front::blk::{self, BlkFront};
use pvdrivers::grant::{self, GrantTables, LocalGrants, Removal};
use pvdrivers::ring::Pages;
use pvdrivers::store::{ClientId, Quota, Store};
use pvdrivers::{DomId, Errno, GrantRef, Port};
use std::sync::{Arc, Mutex};

const GUEST: DomId = DomId(13);
const FRONT: &str = "/local/domain/13/device/vbd/51712";
const BACK: &str = "/local/domain/0/backend/vbd/13/51712";

/// The guest's RAM, by frame.
struct Ram(Vec<SharedPage>);

impl grant::Frames for Ram {
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage> {
        self.0.get(frame as usize).copied().filter(|_| dom == GUEST)
    }
}

/// What back ends need beside the store.
struct World {
    tables: GrantTables,
    ram: Ram,
    events: EventChannels,
    disk: FakeDisk,
}

impl World {
    fn new() -> World {
        let mut tables = GrantTables::new();
        let settings =
            grant::Settings { max_frames: 4, max_maps: 8, version2: true, privileged: false };
        tables.add_domain(GUEST, &settings).unwrap();
        tables.grow(GUEST, 1, &mut || Some(page())).unwrap();
        let mut events = EventChannels::new();
        let settings =
            Settings { vcpus: 1, shared_info: page(), max_port: 1023, pirqs: 0, privileged: false };
        events.add_domain(GUEST, &settings).unwrap();
        let ram = Ram((0..9).map(|_| page()).collect());
        World { tables, ram, events, disk: FakeDisk::new(256, Pace::Later(32)) }
    }

    /// A new page of the guest's, which it grants: version 1, for domain 0, for writing.
    fn page(&mut self) -> (SharedPage, GrantRef) {
        let (page, number) = (page(), self.ram.0.len());
        self.ram.0.push(page);
        let table = self.tables.frame(GUEST, 0).unwrap();
        table.write(number * 8 + 4, 4, number as u64).unwrap();
        table.write(number * 8, 4, 1).unwrap();
        (page, GrantRef(number as u32))
    }

    /// The guest ends a grant, as its kernel does: only where nobody uses it.
    fn end(&self, reference: GrantRef) -> bool {
        let table = self.tables.frame(GUEST, 0).unwrap();
        table.compare_exchange(reference.0 as usize * 8, 2, 1, 0).unwrap()
    }

    fn pinned(&self) -> u32 {
        self.tables.usage(GUEST).unwrap().in_use
    }

    /// Grants and disk, side by side.
    fn parts(&mut self) -> (LocalGrants<'_, Ram>, &mut FakeDisk) {
        (LocalGrants { tables: &mut self.tables, frames: &self.ram }, &mut self.disk)
    }
}

/// The disk's back end on the bus: it adds the ports.
struct Vbd {
    back: Arc<Mutex<BlkBack>>,
    /// Its own ports, by queue.
    doors: Arc<Mutex<Vec<Port>>>,
}

impl BackEnd<World> for Vbd {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _world: &mut World) -> Result<(), Errno> {
        self.back.lock().unwrap().offer(nodes)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, world: &mut World) -> Result<(), Errno> {
        let mut back = self.back.lock().unwrap();
        back.take_front(nodes, Layout::X86_64, &mut world.parts().0)?;
        for port in back.ports() {
            let (door, _) = world.events.bind_interdomain(DomId::BACKEND, GUEST, port)?;
            self.doors.lock().unwrap().push(door);
        }
        Ok(())
    }

    fn disconnect(&mut self, _nodes: &mut DeviceNodes<'_>, world: &mut World) {
        self.back.lock().unwrap().disconnect(&mut world.parts().0);
        for door in self.doors.lock().unwrap().drain(..) {
            world.events.close(DomId::BACKEND, door).unwrap();
        }
    }
}

struct Machine {
    store: Store,
    guest: ClientId,
    bus: Bus<World>,
    world: World,
    back: Arc<Mutex<BlkBack>>,
    doors: Arc<Mutex<Vec<Port>>>,
}

impl Machine {
    fn new() -> Machine {
        Machine::with(BlkConfig::disk(xvd(0)), Some(Media::disk(128)))
    }

    fn with(config: BlkConfig, media: Option<Media>) -> Machine {
        let mut store = Store::new(Quota::GUEST);
        let root = store.connect(DomId::BACKEND);
        create_base(&mut store.local(root)).unwrap();
        store.introduce(GUEST).unwrap();
        let spec = DomainSpec {
            domid: GUEST,
            name: "guest".into(),
            uuid: "29a2ee29-6525-4bb6-b55d-f294a6199c85".into(),
            kind: DomainKind::Pvh,
            target_kib: 1 << 18,
            max_kib: 1 << 18,
            video_kib: 0,
            vcpus: 1,
            max_vcpus: 1,
            store_frame: 1,
            store_port: Port(1),
            start_time: 0,
        };
        create_domain(&mut store.local(root), &spec).unwrap();
        let guest = store.connect(GUEST);
        let bus = Bus::new(&mut store);
        let world = World::new();
        let mut back = BlkBack::new(config, GUEST, DomId::BACKEND);
        back.set_media(media);
        let (back, doors) = (Arc::new(Mutex::new(back)), Arc::default());
        let mut machine = Machine { store, guest, bus, world, back, doors };
        let vbd = Vbd { back: machine.back.clone(), doors: machine.doors.clone() };
        let disk = VbdSpec {
            devid: xvd(0),
            dev: "xvda".into(),
            params: "a disk".into(),
            cdrom: config.cdrom,
            writable: !config.cdrom,
            removable: config.removable,
            discard: false,
        };
        let Machine { store, bus, world, .. } = &mut machine;
        bus.attach(store, disk.device(GUEST), Box::new(vbd), world).unwrap();
        machine
    }

    fn poll(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        while self.store.has_events(self.bus.client()) {
            notices.extend(self.bus.poll(&mut self.store, &mut self.world, 2));
        }
        notices
    }

    /// What the guest reads.
    fn read(&mut self, path: &str) -> String {
        self.store.local(self.guest).read(path).unwrap_or_default()
    }

    fn state(&mut self, state: XenbusState) -> Vec<Notice> {
        let path = format!("{FRONT}/state");
        self.store.local(self.guest).write(&path, state.number()).unwrap();
        self.poll()
    }

    /// A guest's block driver starts: two queues, ports and nodes; up to Initialised.
    fn start(&mut self) -> (Vec<BlkFront>, Vec<Port>) {
        assert_eq!(self.read(&format!("{BACK}/state")), "2", "the back end waits");
        assert_eq!(self.read(&format!("{BACK}/multi-queue-max-queues")), "4");
        let (mut fronts, mut ports, mut references) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (ring, reference) = self.world.page();
            let pages = Pages::new(vec![ring]).unwrap();
            fronts.push(BlkFront::new(pages, Layout::X86_64, xvd(0)).unwrap());
            references.push([reference]);
            let port = self.world.events.alloc_unbound(GUEST, DomId::SELF, DomId::BACKEND);
            ports.push(port.unwrap());
        }
        let queues: Vec<(&[GrantRef], Port)> =
            references.iter().zip(&ports).map(|(refs, port)| (&refs[..], *port)).collect();
        for (name, value) in blk::nodes(Layout::X86_64, true, &queues) {
            self.store.local(self.guest).write(&format!("{FRONT}/{name}"), value).unwrap();
        }
        (fronts, ports)
    }

    /// The guest notifies a port; the back end behind it works, and notifies.
    fn ring(&mut self, port: Port) -> Vec<Deliver> {
        let deliver = self.world.events.send(GUEST, port).unwrap();
        let Deliver::Backend { port } = deliver else { panic!("{deliver:?}") };
        assert!(self.doors.lock().unwrap().contains(&port), "its own door rings");
        let mut back = self.back.lock().unwrap();
        let (mut grants, disk) = self.world.parts();
        let mut notify = back.serve(64, &mut grants, disk).unwrap().notify;
        while let Some((token, result)) = disk.finish(0) {
            notify |= back.complete(token, result, &mut grants).notify;
        }
        let doors = self.doors.lock().unwrap().clone();
        let asked = doors.iter().enumerate().filter(|(queue, _)| notify >> queue & 1 != 0);
        asked.map(|(_, door)| self.world.events.notify(*door)).collect()
    }
}

fn read_one(machine: &mut Machine, front: &mut BlkFront, port: Port) -> i16 {
    let (buffer, reference) = machine.world.page();
    front.read(9, 5, &[Segment { reference, first: 1, last: 1 }]).unwrap();
    assert!(front.push(), "the back end asked for it");
    let delivered = machine.ring(port);
    assert_eq!(delivered.len(), 1);
    assert!(machine.world.events.is_pending(GUEST, port));
    let answer = front.answer().unwrap().expect("an answer");
    assert_eq!((answer.id, buffer.read_u8(512)), (9, Some(5)));
    assert!(!machine.world.end(reference), "the back end keeps it for the next request");
    answer.status
}

#[test]
fn a_guest_finds_its_disk_uses_it_resizes_with_it_and_comes_back_after_a_reboot() {
    let mut machine = Machine::new();
    for round in 0..3 {
        let (mut fronts, ports) = machine.start();
        let notices = machine.state(XenbusState::Initialised);
        assert!(matches!(notices[..], [Notice::Connected(_)]), "round {round}: {notices:?}");
        assert_eq!(machine.read(&format!("{BACK}/state")), "4");
        assert_eq!(machine.read(&format!("{BACK}/sector-size")), "512");
        assert_eq!(machine.state(XenbusState::Connected), []);
        for (front, port) in fronts.iter_mut().zip(&ports) {
            assert_eq!(read_one(&mut machine, front, *port), 0);
        }
        match round {
            // Closed as a driver does that is unloaded; then one that just starts again, as after a
            // crash.
            0 => {
                machine.state(XenbusState::Closing);
                machine.state(XenbusState::Closed);
            }
            _ => assert_eq!(machine.back.lock().unwrap().pins(), 4),
        }
        machine.state(XenbusState::Initialising);
        assert_eq!(machine.world.pinned(), 0, "round {round}");
        assert!(machine.doors.lock().unwrap().is_empty());
        // The dead kernel's ports are the guest's to close.
        for port in ports {
            machine.world.events.close(GUEST, port).unwrap();
        }
    }
}

#[test]
fn a_disk_that_grows_tells_its_front_end_by_the_state_written_again() {
    let mut machine = Machine::new();
    let (mut fronts, ports) = machine.start();
    machine.state(XenbusState::Initialised);
    machine.state(XenbusState::Connected);
    assert_eq!(machine.read(&format!("{BACK}/sectors")), "128");
    let guest = machine.guest;
    let watch = format!("{BACK}/state");
    machine.store.local(guest).watch(&watch, b"state", None).unwrap();
    while machine.store.local(guest).take_event().is_some() {}
    // A request beyond the end, before and after.
    let (_, reference) = machine.world.page();
    for status in [-1, 0] {
        fronts[0].write(1, 200, &[Segment { reference, first: 0, last: 7 }]).unwrap();
        assert!(fronts[0].push());
        let _ = machine.ring(ports[0]);
        assert_eq!(fronts[0].answer().unwrap().unwrap().status, status);
        if status == 0 {
            break;
        }
        let id = DeviceId { kind: DeviceKind::Vbd, domid: GUEST, devid: xvd(0) };
        let mut nodes = machine.bus.nodes(&mut machine.store, id).unwrap();
        let media = Some(Media::disk(256));
        machine.back.lock().unwrap().change_media(&mut nodes, media).unwrap();
        assert_eq!(machine.read(&format!("{BACK}/sectors")), "256");
        let told = machine.store.local(guest).take_event().is_some();
        assert!(told, "the state was written again");
    }
}

#[test]
fn a_cd_drive_tells_its_front_end_of_each_disc_that_comes_and_goes() {
    let mut machine = Machine::with(BlkConfig::cdrom(xvd(0)), None);
    assert_eq!(machine.read(&format!("{FRONT}/device-type")), "cdrom");
    let (mut fronts, ports) = machine.start();
    machine.state(XenbusState::Initialised);
    machine.state(XenbusState::Connected);
    let guest = machine.guest;
    machine.store.local(guest).watch(&format!("{BACK}/state"), b"state", None).unwrap();
    let (_, reference) = machine.world.page();
    let read_only = |sectors| Some(Media { read_only: true, ..Media::disk(sectors) });
    // Size, and what a read of sector 60 and a write of sector 0 are answered.
    let inserted = [(None, -1), (read_only(128), 0), (None, -1), (read_only(64), -1)];
    for (media, status) in inserted {
        while machine.store.local(guest).take_event().is_some() {}
        let id = DeviceId { kind: DeviceKind::Vbd, domid: GUEST, devid: xvd(0) };
        let mut nodes = machine.bus.nodes(&mut machine.store, id).unwrap();
        machine.back.lock().unwrap().change_media(&mut nodes, media).unwrap();
        assert!(machine.store.local(guest).take_event().is_some(), "the state is written again");
        let sectors = media.map_or(0, |media| media.sectors);
        let shown = ["state", "media-present", "sectors", "info", "mode"]
            .map(|name| machine.read(&format!("{BACK}/{name}")));
        let present = u8::from(media.is_some()).to_string();
        assert_eq!(shown, ["4", &present, &sectors.to_string(), "7", "r"]);
        fronts[0].read(1, 60, &[Segment { reference, first: 0, last: 7 }]).unwrap();
        fronts[0].write(2, 0, &[Segment { reference, first: 0, last: 7 }]).unwrap();
        assert!(fronts[0].push());
        let _ = machine.ring(ports[0]);
        let answers = [(); 2].map(|()| fronts[0].answer().unwrap().unwrap());
        let mut answers = answers.map(|answer| (answer.id, answer.status));
        answers.sort_unstable();
        assert_eq!(answers, [(1, status), (2, -1)], "{media:?}");
        assert_eq!(fronts[0].answer().unwrap(), None);
    }
    // A drive that nobody uses takes its disc in silence.
    machine.state(XenbusState::Closing);
    machine.state(XenbusState::Closed);
    machine.back.lock().unwrap().set_media(read_only(128));
    assert_eq!(machine.world.pinned(), 0);
}

#[test]
fn a_guest_that_is_destroyed_in_the_middle_leaves_no_page_and_no_port() {
    let mut machine = Machine::new();
    let (mut fronts, ports) = machine.start();
    machine.state(XenbusState::Initialised);
    let (_, reference) = machine.world.page();
    fronts[1].read(1, 0, &[Segment { reference, first: 0, last: 7 }]).unwrap();
    assert!(fronts[1].push());
    let deliver = machine.world.events.send(GUEST, ports[1]).unwrap();
    assert!(matches!(deliver, Deliver::Backend { .. }));
    {
        let (mut grants, disk) = machine.world.parts();
        let _ = machine.back.lock().unwrap().serve(8, &mut grants, disk).unwrap();
    }
    let Machine { store, bus, world, .. } = &mut machine;
    let notices = bus.destroy_domain(store, GUEST, world);
    assert!(matches!(notices[..], [Notice::Closed(_), Notice::Removed(_)]));
    let removal = machine.world.tables.remove_domain(GUEST);
    assert_eq!(removal, Removal::Pinned { grants: 1 }, "the disk still writes there");
    let (token, result) = machine.world.disk.finish(0).unwrap();
    let mut back = machine.back.lock().unwrap();
    let served = back.complete(token, result, &mut machine.world.parts().0);
    assert_eq!((served.notify, machine.world.pinned()), (0, 0));
    assert_eq!(machine.world.tables.remove_domain(GUEST), Removal::Done);
    assert!(machine.doors.lock().unwrap().is_empty());
    let usage = machine.world.events.usage(GUEST).unwrap();
    assert_eq!(usage.ports, 2, "the guest's own ports, which go with the guest");
}
