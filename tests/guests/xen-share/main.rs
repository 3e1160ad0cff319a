//! How do two guests share memory? Both run this kernel at once. The first grants the second a page and tells it by
//! XenStore where; the second maps it; both write into it, and ring each other by an event channel.

#![no_std]
#![no_main]

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use support::grant::{self, Table};
use support::xen::{self, evtchn};
use support::xenstore::Store;
use support::{guest, mem, println};

guest!("xen-share", main);

/// Domain that gives; the next one takes.
const GIVER: u16 = 1;
const TAKER: u16 = 2;
/// The entry of the grant table.
const REFERENCE: u32 = 8;
/// Where the taker shows the page: above its memory and below the devices.
const FRAME: usize = 0x8000_0000;
/// Where the giver says how to reach it.
const NODE: &str = "/local/domain/1/data/share";
/// How often each rings the other.
const TURNS: u64 = 50;
/// What the taker finds in the page.
const TEXT: &[u8] = b"a page of the first guest";

/// The page's counter: odd when it is the giver's turn.
fn counter(page: usize) -> &'static AtomicU64 {
    // SAFETY: the page stays mapped while it is used, and the word is aligned.
    unsafe { AtomicU64::from_ptr((page + 256) as *mut u64) }
}

/// Sleeps until the other has rung, or the counter says that it had.
fn wait(port: u32, page: usize, value: u64) {
    let end = xen::nanoseconds() + 60_000_000_000;
    let mut polls = 0;
    while counter(page).load(SeqCst) != value {
        assert!(xen::nanoseconds() < end, "the other guest does not answer");
        polls += 1;
        assert!(polls < 100, "it polls instead of sleeping");
        assert_eq!(xen::poll(port, xen::nanoseconds() + 1_000_000_000), 0);
        xen::take(port);
    }
}

/// Takes turns; `first` is the value with which our first turn begins.
fn play(port: u32, page: usize, first: u64) {
    for turn in 0..TURNS {
        wait(port, page, first + 2 * turn);
        counter(page).fetch_add(1, SeqCst);
        xen::send(port);
    }
}

/// A text in a buffer.
struct Text([u8; 64], usize);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let to = self.0.get_mut(self.1..self.1 + text.len()).ok_or(core::fmt::Error)?;
        to.copy_from_slice(text.as_bytes());
        self.1 += text.len();
        Ok(())
    }
}

fn give(store: &mut Store) {
    let table = Table::open();
    let page = mem::pages(1);
    for (n, byte) in TEXT.iter().enumerate() {
        mem::write(page + n, *byte);
    }
    table.grant(REFERENCE, TAKER, page, 0);
    // EVTCHNOP_alloc_unbound: for whom, from whom, the port.
    let mut unbound = [u32::from(xen::SELF) | u32::from(TAKER) << 16, 0];
    assert_eq!(xen::event_op(evtchn::ALLOC_UNBOUND, &mut unbound), 0);
    let port = unbound[1];
    xen::mask(port);
    let mut text = Text([0; 64], 0);
    write!(text, "{REFERENCE} {port}").expect("room");
    let told = core::str::from_utf8(&text.0[..text.1]).expect("text");
    store.write(NODE, told).expect("data is ours");
    store.permit(NODE, "n1", "r2").expect("the node is ours");
    println!("giver: the page is granted, told as {told}");
    wait(port, page, 1);
    play(port, page, 1);
    // The taker lets go; then the grant can be taken back.
    let end = xen::nanoseconds() + 60_000_000_000;
    while !table.revoke(REFERENCE) {
        assert!(xen::nanoseconds() < end, "the page is not given back");
        xen::poll(port, xen::nanoseconds() + 10_000_000);
        xen::take(port);
    }
    println!("giver: {} turns, the page is taken back", counter(page).load(SeqCst));
}

/// What the giver told: reference and port.
fn told(store: &mut Store) -> (u32, u32) {
    let end = xen::nanoseconds() + 60_000_000_000;
    // The timer's port is never sent to: it only lets us sleep.
    let idle = xen::bind_ipi(0).expect("a port");
    loop {
        if let Ok(text) = store.read(NODE) {
            let mut numbers = text.split(' ').map(|number| number.parse().expect("a number"));
            return (numbers.next().expect("a reference"), numbers.next().expect("a port"));
        }
        assert!(xen::nanoseconds() < end, "there is no first guest that gives");
        xen::poll(idle, xen::nanoseconds() + 50_000_000);
    }
}

fn take(store: &mut Store) {
    let (reference, remote) = told(store);
    let handle = grant::map(FRAME, reference, GIVER, 0).expect("the page is granted");
    assert_eq!(mem::bytes(FRAME, TEXT.len()), TEXT);
    // EVTCHNOP_bind_interdomain: whose, which of its ports, our port.
    let mut bind = [u32::from(GIVER), remote, 0];
    assert_eq!(xen::event_op(evtchn::BIND_INTERDOMAIN, &mut bind), 0);
    let port = bind[2];
    xen::mask(port);
    println!("taker: mapped, and it says: {}", core::str::from_utf8(TEXT).expect("text"));
    play(port, FRAME, 0);
    wait(port, FRAME, 2 * TURNS);
    println!("taker: {} turns", counter(FRAME).load(SeqCst));
    assert_eq!(grant::unmap(FRAME, handle), 0);
    xen::send(port);
}

fn main() {
    let leaf = xen::init();
    let own = xen::own_domid(leaf).expect("CPUID has the number");
    let mut store = Store::open();
    match own {
        GIVER => give(&mut store),
        TAKER => take(&mut store),
        _ => panic!("this is domain {own}: run two guests"),
    }
}
