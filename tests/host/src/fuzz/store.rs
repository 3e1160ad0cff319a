//! XenStore and XenBus under guests that send anything: bytes and words over the whole page of a ring,
//! requests that are nearly right, front ends in any state. At the end nothing of them is left.

use super::Input;
use arch::SharedPage;
use arch::page::PAGE_CELLS;
use pvdrivers::bus::{
    BackEnd, Bus, DeviceNodes, DomainKind, DomainSpec, VbdSpec, VfbSpec, create_base,
    create_domain, remove_domain,
};
use pvdrivers::store::{ClientId, Header, Kind, Perm, Perms, Quota, Service, Usage};
use pvdrivers::{DomId, Errno, Port};
use std::sync::atomic::AtomicU64;

/// Steps of one run.
const STEPS: u32 = 600;
const GUESTS: [DomId; 2] = [DomId(5), DomId(6)];
/// What payloads are made of.
const PARTS: &[&str] = &[
    "/",
    "\0",
    "data",
    "device",
    "device/vbd/51712",
    "state",
    "a",
    "b",
    "/local/domain/5/data",
    "/local/domain/6/data",
    "@releaseDomain",
    "n5",
    "r6",
    "b5",
    "T",
    "F",
    "0",
    "1",
    "4",
    "99999",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ".",
    "\u{e9}",
];

fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; PAGE_CELLS])))
}

thread_local! {
    /// The guests' pages, made once: runs are many.
    static PAGES: [SharedPage; 2] = [page(), page()];
}

fn empty_pages() -> [SharedPage; 2] {
    let pages = PAGES.with(|pages| *pages);
    for page in pages {
        page.write_slice(0, &[0; 4096]).expect("it is a page");
    }
    pages
}

/// Two guests that share a store.
struct World {
    service: Service,
    root: ClientId,
    pages: [SharedPage; 2],
}

impl World {
    fn new() -> World {
        let mut service = Service::new(Quota::GUEST);
        let root = service.store.connect(DomId(0));
        let pages = empty_pages();
        for name in ["/local/domain/0", "/vm"] {
            service.store.local(root).write(name, "").expect("domain 0 may write");
        }
        World { service, root, pages }
    }

    fn introduce(&mut self) {
        for (domid, page) in GUESTS.into_iter().zip(self.pages) {
            self.service.introduce(domid, page).expect("a new domain");
            let home = format!("/local/domain/{}", domid.0);
            let fixed = Perms::new(Perm::none(DomId(0)), &[Perm::read(domid)]);
            let own = Perms::new(Perm::none(domid), &[]);
            let mut local = self.service.store.local(self.root);
            local.create(&home, "", &fixed).expect("domain 0 may write");
            local.create(&format!("{home}/data"), "", &own).expect("domain 0 may write");
        }
    }

    /// Appends to a guest's requests, as far as its page says that there is room.
    fn push(&self, guest: usize, bytes: &[u8]) {
        let page = self.pages[guest];
        let word = |at| page.read_u32(at).unwrap_or(0);
        let (cons, prod) = (word(2048), word(2052));
        let room = 1024u32.saturating_sub(prod.wrapping_sub(cons)) as usize;
        let now = &bytes[..bytes.len().min(room)];
        for (at, byte) in now.iter().enumerate() {
            let at = prod.wrapping_add(at as u32) % 1024;
            let _ = page.write(at as usize, 1, u64::from(*byte));
        }
        let _ = page.write(2052, 4, u64::from(prod.wrapping_add(now.len() as u32)));
    }

    /// A step of some guest.
    fn step(&mut self, input: &mut Input<'_>) {
        let guest = usize::from(input.u8() & 1);
        let page = self.pages[guest];
        match input.u8() % 16 {
            0 => {
                let at = input.pick(&[2048, 2052, 2056, 2060, 2064, 2068, 2072, 0, 1024]);
                let _ = page.write(at, 4, u64::from(input.u32()));
            }
            1 => {
                let at = usize::from(input.u16()) % 4096;
                let _ = page.write(at, 1, u64::from(input.u8()));
            }
            2 => self.push(guest, input.take(24)),
            3 => {
                let _ = page.write(2068, 4, 1);
            }
            4 => self.service.restart(GUESTS[guest]),
            5 => self.service.store.shut_down(GUESTS[guest]),
            _ => {
                let request = request(input);
                self.push(guest, &request);
            }
        }
        let budget = u32::from(input.u8() % 8);
        let served = self.service.serve(GUESTS[guest], budget);
        assert!(served.messages <= budget);
        if input.u8() & 3 != 0 {
            let prod = page.read_u32(2060).unwrap_or(0);
            let _ = page.write(2056, 4, u64::from(prod));
        }
    }

    fn check(&self) {
        for domid in GUESTS {
            let (used, quota) = (self.service.store.usage(domid), Quota::GUEST);
            assert!(used.nodes <= quota.nodes && used.watches <= quota.watches);
            assert!(used.transactions <= quota.transactions && used.memory <= quota.memory);
        }
    }

    fn forget(&mut self) {
        for domid in GUESTS {
            self.service.forget(domid);
            assert_eq!(self.service.store.usage(domid), Usage::default());
        }
        while self.service.next_ready().is_some() {}
    }
}

/// A request, nearly right.
fn request(input: &mut Input<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..input.u8() % 8 {
        payload.extend_from_slice(input.pick(PARTS).as_bytes());
        if input.u8() & 1 == 0 {
            payload.push(0);
        }
    }
    let len = if input.u8() == 0 { input.u32() } else { payload.len() as u32 };
    let kind = Kind::from_code(u32::from(input.u8() % 26));
    let tx_id = u32::from(input.u8() % 4);
    let header = Header { kind, req_id: input.u32(), tx_id, len };
    header.bytes().into_iter().chain(payload).collect()
}

/// Fuzzes the store's rings and requests.
pub fn xenstore(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    let before = world.service.store.stats();
    world.introduce();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check();
        if input.u8().is_multiple_of(16) {
            assert_eq!(world.service.store.check(), Ok(()));
        }
    }
    world.forget();
    let after = world.service.store.stats();
    assert_eq!((after.nodes, after.watches), (before.nodes, before.watches));
    assert_eq!((after.clients, after.transactions), (before.clients, 0));
}

/// A back end that holds one thing while it is connected.
struct Holder;

impl BackEnd<i32> for Holder {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut i32) -> Result<(), Errno> {
        Ok(nodes.write("feature-persistent", 1)?)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, held: &mut i32) -> Result<(), Errno> {
        *held += 1;
        nodes.front_as::<u32>("ring-ref").map(|_| ()).ok_or(Errno::ENOENT)
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, held: &mut i32) {
        *held -= 1;
    }
}

/// Fuzzes the bus: a guest writes over its front ends' nodes.
pub fn xenbus(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    let mut bus: Bus<i32> = Bus::new(&mut world.service.store);
    let (root, domid) = (world.root, DomId(5));
    create_base(&mut world.service.store.local(root)).expect("a new store");
    let before = world.service.store.stats().nodes;
    world.service.introduce(domid, world.pages[0]).expect("a new domain");
    let spec = DomainSpec {
        domid,
        name: "fuzz".into(),
        uuid: "0-1-2".into(),
        kind: DomainKind::Hvm,
        target_kib: 1,
        max_kib: 1,
        video_kib: 1,
        vcpus: 1,
        max_vcpus: 2,
        store_frame: 1,
        store_port: Port(1),
        start_time: 0,
    };
    create_domain(&mut world.service.store.local(root), &spec).expect("a good name");
    let disk = VbdSpec {
        devid: 51712,
        dev: "xvda".into(),
        params: "disk".into(),
        cdrom: false,
        writable: true,
        removable: false,
        discard: false,
    };
    let mut held = 0;
    for device in [disk.device(domid), VfbSpec.device(domid)] {
        bus.attach(&mut world.service.store, device, Box::new(Holder), &mut held)
            .expect("a new device");
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let device = input.pick(&["device/vbd/51712", "device/vfb/0"]);
        let name = input.pick(&["/state", "/ring-ref", "", "/state/below", "/queue-0/ring-ref"]);
        let value = input.pick(&["0", "1", "2", "3", "4", "5", "6", "7", "x", "", "4294967296"]);
        let (kind, payload) = match input.u8() % 8 {
            0 => (Kind::Rm, format!("{device}{name}\0")),
            1 => (Kind::SetPerms, format!("{device}{name}\0n5\0")),
            2 => (Kind::Mkdir, format!("{device}{name}\0")),
            _ => (Kind::Write, format!("{device}{name}\0{value}")),
        };
        let header = Header { kind, req_id: 1, tx_id: 0, len: payload.len() as u32 };
        let bytes: Vec<u8> = header.bytes().into_iter().chain(payload.bytes()).collect();
        world.push(0, &bytes);
        let _ = world.service.serve(domid, 4);
        let prod = world.pages[0].read_u32(2060).unwrap_or(0);
        let _ = world.pages[0].write(2056, 4, u64::from(prod));
        if input.u8() & 1 == 0 {
            let _ = bus.poll(&mut world.service.store, &mut held, 4);
        }
        if input.u8() == 0 {
            let _ = bus.restart_domain(&mut world.service.store, domid, &mut held);
        }
        assert!((0..=2).contains(&held), "connected once each");
    }
    assert_eq!(world.service.store.check(), Ok(()));
    let _ = bus.destroy_domain(&mut world.service.store, domid, &mut held);
    assert_eq!(held, 0, "each connection was ended");
    remove_domain(&mut world.service.store.local(root), domid, &spec.uuid).expect("a good name");
    world.service.forget(domid);
    let mut local = world.service.store.local(root);
    for kind in ["vbd", "vfb"] {
        for top in ["backend", "error/backend"] {
            local.remove(&format!("/local/domain/0/{top}/{kind}")).expect("domain 0 may");
        }
    }
    for left in ["/local/domain/0/error/backend", "/local/domain/0/error"] {
        local.remove(left).expect("domain 0 may");
    }
    assert_eq!(world.service.store.stats().nodes, before);
}
