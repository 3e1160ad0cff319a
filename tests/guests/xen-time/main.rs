//! What time is it? `gettimeofday` from the shared info page, monotonic and without an exit, and a
//! timer that comes as an event.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use support::port::{in8, out8};
use support::xen::{self, call, errno};
use support::{apic, cpu, guest, idt, println};

guest!("xen-time", main);

const VECTOR: u8 = 0xf3;
const OWN_VECTOR: u8 = 0xe3;
const READS: u64 = 100_000;
const CALLS: u64 = 1_000;
const TIMERS: usize = 5;
/// Nanoseconds until a timer, and by how much it may be late on a busy host.
const WAIT: u64 = 10_000_000;
const LATE: u64 = 5_000_000_000;
/// And what is not late.
const SOON: u64 = 3_000_000;
/// `VIRQ_TIMER`.
const VIRQ_TIMER: u32 = 0;

static PORT: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicU32 = AtomicU32::new(0);
static AT: AtomicU64 = AtomicU64::new(0);

fn upcall(_: &mut idt::Frame) {
    // The announcement first, then what was announced.
    xen::take_upcall();
    if xen::take(PORT.load(Relaxed)) {
        AT.store(xen::nanoseconds(), Relaxed);
        COUNT.fetch_add(1, Relaxed);
    }
}

/// Microseconds since 1970.
fn get_time_of_day() -> u64 {
    let (seconds, nanos) = xen::wall_at_zero();
    seconds * 1_000_000 + (u64::from(nanos) + xen::nanoseconds()) / 1000
}

/// The real-time clock's seconds since midnight.
fn rtc_seconds() -> u64 {
    let register = |n: u8| {
        out8(0x70, n);
        let value = u64::from(in8(0x71));
        (value >> 4) * 10 + (value & 15)
    };
    loop {
        let first = register(0);
        let time = register(4) * 3600 + register(2) * 60 + first;
        if register(0) == first {
            return time;
        }
    }
}

/// Is the clock monotonic, does it go with the TSC, and is it cheaper than any exit?
fn clock(tsc_khz: u64) {
    for _ in 0..10 {
        let (first, start) = (xen::nanoseconds(), cpu::rdtsc());
        let mut last = first;
        for _ in 0..READS {
            let now = xen::nanoseconds();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        let (ticks, begun) = (cpu::rdtsc() - start, cpu::rdtsc());
        for _ in 0..CALLS {
            xen::hypercall(call::XEN_VERSION, [0; 5]);
        }
        let exits = (cpu::rdtsc() - begun) / CALLS;
        let (read, expected) = (ticks / READS, ticks * 1_000_000 / tsc_khz);
        println!("{READS} reads: {} ns, {expected} by the TSC", last - first);
        println!("ticks: {read} for a read, {exits} for a hypercall");
        // A busy host may take the CPU away in any one try, but not in all.
        if (last - first).abs_diff(expected) * 100 <= expected && read * 2 < exits {
            return;
        }
    }
    panic!("the clock is off, or costs an exit");
}

/// `VCPUOP_set_singleshot_timer`, or `VCPUOP_stop_*`.
fn vcpu_op<T>(operation: u64, arg: &mut T) -> i64 {
    let args = [operation, 0, core::ptr::from_mut(arg) as u64, 0, 0];
    xen::hypercall(call::VCPU_OP, args)
}

/// Waits for the timer's event; by how many nanoseconds it was late.
fn until_event(at: u64) -> u64 {
    while COUNT.load(Relaxed) == 0 {
        assert!(xen::nanoseconds() < at + LATE, "no event");
        cpu::sti_hlt();
    }
    assert_eq!(COUNT.swap(0, Relaxed), 1, "one event for one timer");
    let event = AT.load(Relaxed);
    assert!(event >= at, "{} ns early", at - event);
    event - at
}

fn timers() {
    idt::handle(VECTOR, upcall);
    xen::callback_by(VECTOR);
    PORT.store(xen::bind_virq(VIRQ_TIMER).expect("VIRQ_TIMER"), Relaxed);
    assert_eq!(xen::bind_virq(VIRQ_TIMER), Err(errno::EEXIST), "it is bound once");
    for _ in 0..TIMERS {
        let at = xen::nanoseconds() + WAIT;
        // Not with flag 1, by which a time that is past is an error: a busy machine may be late.
        assert_eq!(vcpu_op(8, &mut [at, 0]), 0);
        println!("single shot: {} ns late", until_event(at));
        let at = xen::nanoseconds() + WAIT;
        xen::hypercall(call::SET_TIMER_OP, [at, 0, 0, 0, 0]);
        println!("set_timer_op: {} ns late", until_event(at));
    }
    assert_eq!(vcpu_op(8, &mut [1u64, 1]), errno::ETIME, "a time that is past");
    let at = xen::nanoseconds();
    assert_eq!(vcpu_op(8, &mut [1u64, 0]), 0, "or comes at once");
    println!("at once: {} ns", until_event(at));
    // Stopped: nothing comes.
    let at = xen::nanoseconds() + WAIT;
    assert_eq!(vcpu_op(8, &mut [at, 0]), 0);
    assert_eq!(vcpu_op(9, &mut [0u64]), 0);
    cpu::sti();
    while xen::nanoseconds() < at + WAIT {
        core::hint::spin_loop();
    }
    cpu::cli();
    assert_eq!(COUNT.load(Relaxed), 0, "a stopped timer");
}

/// Does a timer come to a vCPU that works and makes no exit? By the local APIC, as Linux has it.
fn while_busy() {
    idt::handle(OWN_VECTOR, |frame| {
        upcall(frame);
        apic::eoi();
    });
    apic::enable();
    xen::upcall_by(0, OWN_VECTOR);
    let mut least = u64::MAX;
    for _ in 0..TIMERS {
        let at = xen::nanoseconds() + WAIT;
        assert_eq!(vcpu_op(8, &mut [at, 0]), 0);
        cpu::sti();
        while COUNT.load(Relaxed) == 0 {
            assert!(xen::nanoseconds() < at + LATE, "no event");
        }
        cpu::cli();
        assert_eq!(COUNT.swap(0, Relaxed), 1, "one event for one timer");
        let late = AT.load(Relaxed).checked_sub(at).expect("not before its time");
        println!("while it works: {late} ns late");
        least = least.min(late);
    }
    // A busy host may take the CPU away in any one try, but not in all.
    assert!(least < SOON, "{least} ns late at best");
}

fn main() {
    let leaf = xen::init();
    // Leaf 3, subleaf 0: the TSC's rate.
    let tsc_khz = u64::from(cpu::cpuid(leaf + 3, 0)[2]);
    println!("TSC: {tsc_khz} kHz");
    let (now, rtc) = (get_time_of_day(), rtc_seconds());
    println!("{now} us since 1970, {rtc} s since midnight by the RTC");
    let apart = (now / 1_000_000 % 86_400).abs_diff(rtc);
    assert!(apart.min(86_400 - apart) <= 2, "{apart} s apart");
    assert!(get_time_of_day() >= now);
    clock(tsc_khz);
    timers();
    while_busy();
}
