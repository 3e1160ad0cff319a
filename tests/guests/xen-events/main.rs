//! How do event channels behave? Ports to oneself: sent, masked, polled, refused; by the callback vector and by the
//! local APIC; then the same by the FIFO ABI.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use support::xen::{self, errno, evtchn};
use support::{apic, cpu, guest, idt, mem, println};

guest!("xen-events", main);

const VECTOR: u8 = 0xf3;
/// The one that the local APIC delivers.
const OWN_VECTOR: u8 = 0xf4;
/// Bits of a FIFO event word, and its link to the next.
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const PENDING: u32 = 1 << 31;
const LINK: u32 = (1 << 17) - 1;
/// The queue of ports that nobody gave another priority.
const PRIORITY: usize = 7;

static UPCALLS: AtomicU32 = AtomicU32::new(0);

fn upcall(_: &mut idt::Frame) {
    xen::take_upcall();
    UPCALLS.fetch_add(1, SeqCst);
}

/// Upcalls since the last time, with interrupts open for a moment.
fn upcalls() -> u32 {
    cpu::sti();
    for _ in 0..100 {
        core::hint::spin_loop();
    }
    cpu::cli();
    UPCALLS.swap(0, SeqCst)
}

fn two_level() {
    let port = xen::bind_ipi(0).expect("bind_ipi");
    println!("port {port} to vCPU 0");
    xen::send(port);
    assert_eq!(upcalls(), 1, "an upcall for an event");
    assert!(xen::take(port) && !xen::is_pending(port));

    xen::send(port);
    xen::send(port);
    assert_eq!(upcalls(), 1, "one upcall while it is pending");
    assert!(xen::take(port));

    xen::mask(port);
    xen::send(port);
    assert_eq!(upcalls(), 0, "none while it is masked");
    assert!(xen::is_pending(port));
    assert_eq!(xen::port_op(evtchn::UNMASK, port), 0);
    assert_eq!(upcalls(), 1, "one when the mask goes");
    assert!(xen::take(port));

    // Polling: at once where it is pending, masked or not; else until the time.
    xen::mask(port);
    xen::send(port);
    assert_eq!(xen::poll(port, 0), 0);
    assert!(xen::take(port));
    let until = xen::nanoseconds() + 5_000_000;
    assert_eq!(xen::poll(port, until), 0);
    assert!(xen::nanoseconds() >= until, "a poll ends at its time");
    assert_eq!(upcalls(), 0);
    assert_eq!(xen::port_op(evtchn::CLOSE, port), 0);
    assert_eq!(xen::port_op(evtchn::SEND, port), errno::EINVAL, "a port that is closed");
}

#[repr(C)]
struct Unbound(u16, u16, u32);

/// Two ports of ours, connected.
fn pair() -> [u32; 2] {
    let mut unbound = Unbound(xen::SELF, xen::SELF, 0);
    assert_eq!(xen::event_op(evtchn::ALLOC_UNBOUND, &mut unbound), 0);
    assert_eq!(xen::port_op(evtchn::SEND, unbound.2), 0, "nobody hears it");
    let mut bind = [u32::from(xen::SELF), unbound.2, 0];
    assert_eq!(xen::event_op(evtchn::BIND_INTERDOMAIN, &mut bind), 0);
    [unbound.2, bind[2]]
}

fn interdomain() {
    let [one, other] = pair();
    println!("ports {one} and {other} to each other");
    assert!(xen::take(other), "pending from the start: the peer may have sent before");
    upcalls();
    xen::send(one);
    assert!(!xen::take(one) && xen::take(other));
    xen::send(other);
    assert!(xen::take(one) && !xen::take(other));
    upcalls();
    assert_eq!(xen::port_op(evtchn::CLOSE, one), 0);
    assert_eq!(xen::port_op(evtchn::SEND, other), 0, "its peer waits again, and hears nothing");
    assert_eq!(xen::port_op(evtchn::CLOSE, other), 0);
}

fn refusals() {
    for port in [0, 900, 4095, 1 << 17, u32::MAX] {
        assert_eq!(xen::port_op(evtchn::SEND, port), errno::EINVAL, "send to {port}");
        assert_eq!(xen::port_op(evtchn::CLOSE, port), errno::EINVAL, "close {port}");
    }
    assert_eq!(xen::bind_ipi(99), Err(errno::ENOENT), "a vCPU that there is not");
    assert_eq!(xen::bind_virq(24), Err(errno::EINVAL), "a VIRQ that there is not");
    let mut bind = [9_999, 1, 0];
    assert_eq!(xen::event_op(evtchn::BIND_INTERDOMAIN, &mut bind), errno::ESRCH);
    let mut bind = [u32::from(xen::SELF), 900, 0];
    assert_eq!(xen::event_op(evtchn::BIND_INTERDOMAIN, &mut bind), errno::EINVAL);
    let mut unbound = Unbound(0, xen::SELF, 0);
    assert_eq!(xen::event_op(evtchn::ALLOC_UNBOUND, &mut unbound), errno::EPERM, "another's port");
    assert_eq!(xen::event_op(99, &mut [0u64; 4]), errno::ENOSYS);
}

/// `struct evtchn_init_control`.
#[repr(C)]
struct InitControl {
    gfn: u64,
    offset: u32,
    vcpu: u32,
    link_bits: u8,
    pad: [u8; 7],
}

/// A page of event words, and a control block: `ready` at 0, the queues' heads from 8 on.
struct Fifo {
    array: usize,
    control: usize,
}

impl Fifo {
    fn word(&self, port: u32) -> &'static AtomicU32 {
        // SAFETY: a page of ours that nobody has as Rust's, and aligned.
        unsafe { AtomicU32::from_ptr((self.array + port as usize * 4) as *mut u32) }
    }

    fn ready(&self) -> &'static AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.control as *mut u32) }
    }

    /// Takes the ports of the default queue in order: count, and the first two.
    fn consume(&self) -> (usize, [u32; 2]) {
        let (mut count, mut ports) = (0, [0; 2]);
        if self.ready().swap(0, SeqCst) & 1 << PRIORITY == 0 {
            return (0, ports);
        }
        let mut head: u32 = mem::read(self.control + 8 + PRIORITY * 4);
        while head != 0 {
            let word = self.word(head);
            // Out of the queue first: from here on it may be queued again.
            let next = word.fetch_and(!(LINKED | LINK), SeqCst) & LINK;
            if word.load(SeqCst) & MASKED == 0 && word.fetch_and(!PENDING, SeqCst) & PENDING != 0 {
                if count < 2 {
                    ports[count] = head;
                }
                count += 1;
            }
            head = next;
        }
        (count, ports)
    }
}

fn fifo() {
    let fifo = Fifo { array: mem::pages(1), control: mem::pages(1) };
    let gfn = (fifo.array >> 12) as u64;
    assert_eq!(xen::event_op(evtchn::EXPAND_ARRAY, &mut [gfn]), errno::EOPNOTSUPP, "too early");
    let control = (fifo.control >> 12) as u64;
    let mut arg = InitControl { gfn: control, offset: 4090, vcpu: 0, link_bits: 0, pad: [0; 7] };
    assert_eq!(xen::event_op(evtchn::INIT_CONTROL, &mut arg), errno::EINVAL, "over the page's end");
    arg.offset = 0;
    assert_eq!(xen::event_op(evtchn::INIT_CONTROL, &mut arg), 0);
    assert_eq!(arg.link_bits, 17);
    assert_eq!(xen::event_op(evtchn::EXPAND_ARRAY, &mut [gfn]), 0);

    let ports = [0; 2].map(|_| xen::bind_ipi(0).expect("bind_ipi"));
    println!("FIFO: ports {ports:?}");
    for port in ports {
        xen::send(port);
        assert_eq!(fifo.word(port).load(SeqCst) & (PENDING | LINKED), PENDING | LINKED);
    }
    assert_eq!(upcalls(), 1, "one upcall for a queue that was empty");
    assert_eq!(fifo.consume(), (2, ports), "first in, first out");
    xen::send(ports[1]);
    xen::send(ports[0]);
    assert_eq!(upcalls(), 1);
    assert_eq!(fifo.consume(), (2, [ports[1], ports[0]]));

    fifo.word(ports[0]).fetch_or(MASKED, SeqCst);
    xen::send(ports[0]);
    assert_eq!((upcalls(), fifo.consume().0), (0, 0), "masked: pending, in no queue");
    assert_eq!(fifo.word(ports[0]).load(SeqCst), PENDING | MASKED);
    assert_eq!(xen::port_op(evtchn::UNMASK, ports[0]), 0);
    assert_eq!((upcalls(), fifo.consume()), (1, (1, [ports[0], 0])));
}

/// Events to oneself by a vector of one's own, which the local APIC delivers; Linux has them so. With interrupts open
/// they are taken behind the call, and none is lost where the CPU keeps the local APIC.
fn by_the_local_apic() {
    idt::handle(OWN_VECTOR, |frame| {
        upcall(frame);
        apic::eoi();
    });
    apic::enable();
    let port = xen::bind_ipi(0).expect("bind_ipi");
    xen::upcall_by(0, OWN_VECTOR);
    assert_eq!(xen::port_op(evtchn::UNMASK, port), 0);
    upcalls();
    for open in [false, true, false, true] {
        if open {
            cpu::sti();
        }
        xen::send(port);
        assert_eq!(upcalls(), 1, "an upcall, interrupts open: {open}");
        assert!(xen::take(port));
    }
}

fn main() {
    xen::init();
    idt::handle(VECTOR, upcall);
    xen::shared_info();
    xen::callback_by(VECTOR);
    upcalls();
    two_level();
    interdomain();
    refusals();
    by_the_local_apic();
    fifo();
}
