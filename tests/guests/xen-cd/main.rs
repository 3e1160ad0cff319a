//! How does a front end read a CD, and hear that it was changed? The volume's name through a block
//! ring; then the drive is emptied and filled by somebody else. Xen public "io/blkif.h".

#![no_std]
#![no_main]

use core::sync::atomic::{Ordering, fence};
use support::grant::Table;
use support::xen::{self, evtchn};
use support::xenstore::Store;
use support::{guest, mem, println};

guest!("xen-cd", main);

/// The secondary channel's master (Xen docs "xen-vbd-interface"), and its directory below ours.
const FRONT: &str = "device/vbd/5632";
/// Our grants: the ring, the data.
const RING: u32 = 8;
const DATA: u32 = 9;
/// Offsets in the ring's page, and a slot's bytes in the 64-bit layout.
const REQ_PROD: usize = 0;
const RSP_PROD: usize = 8;
const RSP_EVENT: usize = 12;
const SLOTS: usize = 64;
const SLOT: usize = 112;
/// States of XenBus.
const INITIALISED: &str = "3";
const CONNECTED: &str = "4";

/// A path in a buffer: `directory/name`.
struct Path([u8; 96], usize);

impl Path {
    fn new(directory: &str, name: &str) -> Path {
        let mut path = Path([0; 96], 0);
        for part in [directory, "/", name] {
            path.0[path.1..path.1 + part.len()].copy_from_slice(part.as_bytes());
            path.1 += part.len();
        }
        path
    }

    fn text(&self) -> &str {
        core::str::from_utf8(&self.0[..self.1]).expect("text")
    }
}

/// A number in decimal digits.
fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return core::str::from_utf8(&buffer[at..]).expect("digits");
        }
    }
}

struct Drive {
    store: Store,
    /// The back end's directory.
    back: Path,
    port: u32,
    ring: usize,
    data: usize,
    asked: u32,
}

impl Drive {
    /// Shows the back end a ring, and waits until it has taken it.
    fn connect() -> Drive {
        let mut store = Store::open();
        assert_eq!(store.read(Path::new(FRONT, "device-type").text()), Ok("cdrom"));
        let back = store.read(Path::new(FRONT, "backend").text()).expect("backend");
        let mut back = Path::new(back, "");
        // Without the stroke behind it.
        back.1 -= 1;
        let (ring, data, table) = (mem::pages(1), mem::pages(1), Table::open());
        table.grant(RING, 0, ring, 0);
        table.grant(DATA, 0, data, 0);
        // `struct evtchn_alloc_unbound`: ours, for domain 0.
        let mut unbound = (xen::SELF, 0u16, 0u32);
        assert_eq!(xen::event_op(evtchn::ALLOC_UNBOUND, &mut unbound), 0);
        let port = unbound.2;
        xen::mask(port);
        mem::write(ring + 4, 1u32);
        mem::write(ring + RSP_EVENT, 1u32);
        let mut digits = [0; 10];
        let mut put = |name, value: &str| {
            store.write(Path::new(FRONT, name).text(), value).expect("our own node");
        };
        put("ring-ref", decimal(RING, &mut digits));
        put("event-channel", decimal(port, &mut digits));
        put("protocol", "x86_64-abi");
        put("state", INITIALISED);
        let mut drive = Drive { store, back, port, ring, data, asked: 0 };
        drive.wait("state", CONNECTED);
        drive.store.write(Path::new(FRONT, "state").text(), CONNECTED).expect("our own node");
        drive
    }

    /// Waits until a node of the back end's has a value.
    fn wait(&mut self, name: &str, value: &str) {
        let path = Path::new(self.back.text(), name);
        self.store.watch(path.text(), "wait").expect("watch");
        while self.store.read(path.text()) != Ok(value) {
            while !self.store.has_event() {
                core::hint::spin_loop();
            }
            self.store.event();
        }
        self.store.unwatch(path.text(), "wait").expect("unwatch");
    }

    /// One sector of 512 bytes: the answer's status.
    fn read(&mut self, sector: u64) -> i16 {
        let slot = self.ring + SLOTS + self.asked as usize % 32 * SLOT;
        self.asked += 1;
        // BLKIF_OP_READ, one segment; the handle; an id; the sector; the grant, first and last sector.
        mem::write(slot, 1u16 << 8);
        mem::write(slot + 2, 5632u16);
        mem::write(slot + 8, u64::from(self.asked));
        mem::write(slot + 16, sector);
        mem::write(slot + 24, DATA);
        mem::write(slot + 28, 0u16);
        fence(Ordering::SeqCst);
        mem::write(self.ring + REQ_PROD, self.asked);
        xen::send(self.port);
        while mem::read::<u32>(self.ring + RSP_PROD) != self.asked {
            core::hint::spin_loop();
        }
        mem::write(self.ring + RSP_EVENT, self.asked + 1);
        assert_eq!(mem::read::<u64>(slot), u64::from(self.asked), "the id of another");
        mem::read(slot + 10)
    }

    /// The volume's name: byte 32,808 (ECMA-119 "Volume Identifier").
    fn name(&mut self) -> [u8; 32] {
        assert_eq!(self.read(64), 0, "a sector");
        core::array::from_fn(|n| mem::read(self.data + 40 + n))
    }

    /// Waits for a CD, and shows it.
    fn inserted(&mut self) -> [u8; 32] {
        assert_ne!(self.read(64), 0, "nothing is in it");
        println!("put one in");
        self.wait("media-present", "1");
        let name = self.name();
        println!("volume {}", core::str::from_utf8(&name).expect("a name").trim_ascii_end());
        self.show("params");
        assert_ne!(self.read(1 << 30), 0, "there is an end");
        name
    }

    fn show(&mut self, what: &str) {
        let path = Path::new(self.back.text(), what);
        println!("{what}: '{}'", self.store.read(path.text()).expect("a node of the back end's"));
    }
}

fn main() {
    xen::init();
    let mut drive = Drive::connect();
    let first = drive.inserted();
    println!("take it out");
    drive.wait("media-present", "0");
    assert_ne!(drive.read(64), 0, "nothing is in it");
    drive.show("params");
    drive.show("sectors");
    assert_ne!(drive.inserted(), first, "the same CD");
}
