//! What does a kernel find that may have twice the memory that it has? Untouched pages are zeros, pages of zeros cost
//! nothing, what it writes stays, and its balloon pays. With `overdraw` it writes more than it has, and is ended.

#![no_std]
#![no_main]

use support::xen::{self, SELF, call};
use support::{guest, mem, println, pvh};

guest!("xen-demand", main);

const PAGE: usize = 4096;
/// Begin and end of what is touched; from `LATER` on it is given back in the end.
const START: usize = 16 << 20;
const LATER: usize = 28 << 20;
const END: usize = 60 << 20;
/// Pages that it has, and that it may have.
const HAS: i64 = 8192;
const MAY: i64 = 16384;

/// `struct xen_memory_reservation`.
#[repr(C)]
struct Reservation {
    list: u64,
    count: u64,
    order: u32,
    flags: u32,
    domid: u16,
}

fn pages(operation: u64) -> i64 {
    xen::operate(call::MEMORY_OP, operation, &mut { SELF })
}

fn mark(page: usize) -> u64 {
    page as u64 ^ 0x5a5a_0000_0000_0001
}

fn zeros(from: usize, to: usize) {
    (from..to)
        .step_by(PAGE)
        .for_each(|page| assert_eq!(mem::read::<u64>(page + 8), 0, "{page:#x}"));
}

fn write(from: usize, to: usize) {
    (from..to).step_by(PAGE).for_each(|page| mem::write(page + 8, mark(page)));
}

fn check(from: usize, to: usize) {
    for page in (from..to).step_by(PAGE) {
        assert_eq!(mem::read::<u64>(page + 8), mark(page), "{page:#x}");
    }
}

/// Gives pages back, or asks for them; how many it was.
fn change(operation: u64, list: usize, from: usize, count: usize) -> i64 {
    for n in 0..count {
        mem::write(list + 8 * n, (from / PAGE + n) as u64);
    }
    let arg =
        Reservation { list: list as u64, count: count as u64, order: 0, flags: 0, domid: SELF };
    xen::operate(call::MEMORY_OP, operation, &mut { arg })
}

fn main() {
    let info = pvh::start_info().expect("a start by the PVH note");
    let overdraws = mem::read::<u8>(info.command_line as usize) == b'o';
    let list = mem::pages(16);
    println!("{} pages of {}", pages(3), pages(4));
    assert_eq!((pages(3), pages(4)), (HAS, MAY));
    // The hypervisor is the first that touches this page.
    let mut arg = [16u64, (END - PAGE) as u64];
    assert_eq!(xen::operate(call::MEMORY_OP, 9, &mut arg), 0);
    assert_ne!(mem::read::<u64>(END - PAGE + 8), 0, "the memory map's first size");
    (0..PAGE).step_by(8).for_each(|word| mem::write(END - PAGE + word, 0u64));
    zeros(START, END);
    println!("all is zeros");
    write(START, LATER);
    zeros(LATER, END);
    check(START, LATER);
    println!("what was written is kept");
    assert_eq!((pages(3), pages(4)), (HAS, MAY));
    if overdraws {
        println!("XENOLITH-TEST EXPECT stop xen-demand");
        write(LATER, END);
        panic!("it has more than it has");
    }
    let rest = (END - LATER) / PAGE;
    assert_eq!(change(1, list, LATER, rest), rest as i64);
    assert_eq!(pages(3), HAS);
    write(4 << 20, START);
    check(START, LATER);
    check(4 << 20, START);
    println!("the debt is paid");
    let more = change(6, list, LATER, 256);
    assert_eq!((more, pages(3)), (256, HAS + 256));
    zeros(LATER, LATER + 256 * PAGE);
    write(LATER, LATER + 256 * PAGE);
    check(START, LATER + 256 * PAGE);
    println!("more came from the machine");
}
