//! Xen's interface: the clock, events to oneself and to another vCPU, XenStore, grants. Guest
//! instructions are not told apart here: they are those of a small driver.

use crate::sample::{Bench, skip};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::xen::{self, call, evtchn};
use support::xenstore::Store;
use support::{cpu, idt, mem, pic};

const VECTOR: u8 = 0xf3;
const NAMES: [&str; 9] = [
    "xen_clock_read",
    "xen_send_masked",
    "xen_event_to_self",
    "xen_store_read",
    "xen_store_write",
    "xen_store_write_watched",
    "xen_grant_map_unmap",
    "xen_grant_copy_4k",
    "copy_4k",
];
/// Where a grant is mapped: nothing is there.
const FRAME: u64 = 0x8000_0000;

static AT: AtomicU32 = AtomicU32::new(0);

fn upcall(_: &mut idt::Frame) {
    AT.store(cpu::rdtsc() as u32, Relaxed);
    xen::take_upcall();
}

/// Ticks of a piece of work.
fn ticks(work: impl FnOnce()) -> u32 {
    let start = cpu::rdtsc();
    work();
    (cpu::rdtsc() - start) as u32
}

/// Measures all, or says why not.
pub fn all(bench: &mut Bench) {
    if xen::leaf().is_none() {
        NAMES.iter().for_each(|name| skip(name, "no Xen"));
        return;
    }
    let leaf = xen::init();
    xen::shared_info();
    bench.sample(NAMES[0], 64, |_| (ticks(|| _ = core::hint::black_box(xen::nanoseconds())), 0));
    events(bench);
    store(bench);
    match xen::own_domid(leaf) {
        Some(own) => grants(bench, own),
        None => NAMES[6..].iter().for_each(|name| skip(name, "CPUID has no domain number")),
    }
}

fn events(bench: &mut Bench) {
    idt::handle(VECTOR, upcall);
    xen::callback_by(VECTOR);
    let port = xen::bind_ipi(0).expect("bind_ipi");
    xen::mask(port);
    bench.sample(NAMES[1], 64, |_| {
        xen::take(port);
        (ticks(|| xen::send(port)), 0)
    });
    xen::take(port);
    assert_eq!(xen::port_op(evtchn::UNMASK, port), 0);
    cpu::sti();
    // From the call until its handler runs.
    bench.sample(NAMES[2], 64, |_| {
        let start = cpu::rdtsc() as u32;
        xen::send(port);
        assert!(xen::take(port));
        (AT.load(Relaxed).wrapping_sub(start), 0)
    });
    cpu::cli();
}

fn store(bench: &mut Bench) {
    let mut store = Store::open();
    bench.sample(NAMES[3], 64, |_| (ticks(|| assert!(store.read("domid").is_ok())), 0));
    bench.sample(NAMES[4], 64, |_| (ticks(|| assert!(store.write("data/a", "1").is_ok())), 0));
    assert!(store.watch("data/a", "t").is_ok(), "a watch");
    store.event();
    // Until its own watch has told of it.
    bench.sample(NAMES[5], 64, |_| {
        let ticks = ticks(|| {
            assert!(store.write("data/a", "1").is_ok());
            store.event();
        });
        (ticks, 0)
    });
    assert!(store.unwatch("data/a", "t").is_ok(), "no watch");
}

fn remote_upcall(_: &mut idt::Frame) {
    AT.store(cpu::rdtsc() as u32, Relaxed);
    xen::take_upcall_of(1);
}

/// `evtchn_send` to vCPU 1, which halts, until its handler runs.
pub fn to_other(bench: &mut Bench) {
    let name = "xen_event_to_halted_vcpu";
    if xen::leaf().is_none() {
        return skip(name, "no Xen");
    }
    idt::handle(VECTOR, remote_upcall);
    let port = xen::bind_ipi(1).expect("bind_ipi");
    bench.sample(name, 8, |_| {
        pic::wait_us(200);
        let before = AT.load(Relaxed);
        let start = cpu::rdtsc() as u32;
        xen::send(port);
        while AT.load(Relaxed) == before {
            core::hint::spin_loop();
        }
        assert!(xen::take(port));
        (AT.load(Relaxed).wrapping_sub(start), 0)
    });
}

/// A grant operation with one argument.
fn operate<T>(operation: u64, arg: &mut T) {
    let args = [operation, core::ptr::from_mut(arg) as u64, 1, 0, 0];
    assert_eq!(xen::hypercall(call::GRANT_TABLE_OP, args), 0);
}

fn grants(bench: &mut Bench, own: u16) {
    let (table, page, dest) = (mem::pages(1), mem::pages(1), mem::pages(1));
    xen::show_page(1, 0, table);
    // Entry 8: frame, domain, then the flags: access.
    mem::write(table + 68, (page >> 12) as u32);
    mem::write(table + 66, own);
    mem::write(table + 64, 1u16);
    bench.sample(NAMES[6], 64, |_| {
        // Address; flags and reference; domain, status and handle; device's address.
        let mut map = [FRAME, 2 | 8 << 32, own.into(), 0];
        let mut status = 0;
        let ticks = ticks(|| {
            operate(0, &mut map);
            let mut unmap = [FRAME, 0, map[2] >> 32];
            operate(1, &mut unmap);
            status = (map[2] >> 16) as u16 | (unmap[2] >> 32) as u16;
        });
        assert_eq!(status, 0, "map and unmap");
        (ticks, 0)
    });
    bench.sample(NAMES[7], 64, |_| {
        let own = u64::from(xen::SELF);
        // Source: reference, domain; destination: frame, domain; length, flags and status.
        let mut copy = [8, own, (dest >> 12) as u64, own, 4096 | 1 << 16];
        let ticks = ticks(|| operate(5, &mut copy));
        assert_eq!((copy[4] >> 32) as u16, 0, "copy");
        (ticks, 0)
    });
    // What of it is the copy itself.
    bench.sample(NAMES[8], 64, |_| {
        let ticks = ticks(|| {
            // SAFETY: both are pages of this test's own.
            unsafe {
                core::arch::asm!("rep movsq", inout("rcx") 512 => _, inout("rsi") page => _,
                    inout("rdi") dest => _);
            }
        });
        (ticks, 0)
    });
}
