//! Does a guest under a storm of interrupts get any work done, and does the storm end when it says
//! so?

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::apic::{self, reg};
use support::port::{in8, out8};
use support::{cpu, guest, idt, pic, println};

guest!("irqstorm", main);

/// Ticks after which the PIT's handler masks it.
const STORM: u32 = 1000;

static TICKS: AtomicU32 = AtomicU32::new(0);
static CLOCK: AtomicU32 = AtomicU32::new(0);
static LOCAL: AtomicU32 = AtomicU32::new(0);
static SELF: AtomicU32 = AtomicU32::new(0);
static LEVEL: AtomicU32 = AtomicU32::new(0);

fn cmos(register: u8) -> u8 {
    out8(0x70, register);
    in8(0x71)
}

fn set_cmos(register: u8, value: u8) {
    out8(0x70, register);
    out8(0x71, value);
}

/// Works with interrupts open until `enough`; false when it never is.
fn work(enough: impl Fn() -> bool) -> bool {
    work_counted(enough).is_some()
}

/// The same; how much work was done.
fn work_counted(enough: impl Fn() -> bool) -> Option<u64> {
    cpu::sti();
    let mut rounds = 0u64;
    while !enough() && rounds < 2_000_000_000 {
        rounds += 1;
        core::hint::spin_loop();
    }
    cpu::cli();
    println!("rounds of work: {rounds}");
    enough().then_some(rounds)
}

/// A thousand ticks of the PIT, as fast as leaves the guest time for work: from 20 kHz down to 1 kHz, which any
/// machine bears. The handler ends the storm, so that one which leaves no time ends too.
fn pit_storm() {
    for counts in [60, 120, 240, 480, 1193] {
        TICKS.store(0, Relaxed);
        pic::pit(0, 2, counts);
        pic::unmask(0);
        let rounds = work_counted(|| TICKS.load(Relaxed) >= STORM);
        assert!(rounds.is_some(), "the PIT: {}", TICKS.load(Relaxed));
        println!("{counts} counts of the PIT from tick to tick: {rounds:?} rounds");
        if rounds > Some(1000) {
            return;
        }
    }
    panic!("a PIT at 1 kHz leaves no time for work");
}

fn main() {
    apic::enable();
    idt::handle(pic::BASE, |_| {
        if TICKS.fetch_add(1, Relaxed) + 1 >= STORM {
            pic::set_masks(0xffff);
        }
        pic::eoi(0);
    });
    idt::handle(pic::BASE + 8, |_| {
        CLOCK.fetch_add(1, Relaxed);
        let _ = cmos(0xc);
        pic::eoi(8);
    });
    idt::handle(0x50, |_| {
        LOCAL.fetch_add(1, Relaxed);
        apic::eoi();
    });
    idt::handle(0x60, |_| {
        if SELF.fetch_add(1, Relaxed) < 20_000 {
            apic::write(reg::ICR, 0x4_0060);
        }
        apic::eoi();
    });
    // Each alone: the PIT at up to 20 kHz, the RTC at 8192 Hz, the local APIC's timer every 50,000
    // counts, or what a slow machine can bear. Together, a fast one may rightly starve those of
    // lower priority.
    let bearable = (10 * cost()).max(50_000);
    pit_storm();
    pic::pit(0, 2, (pic::PIT_HZ / 200) as u16);
    rtc(3);
    pic::unmask(8);
    assert!(work(|| CLOCK.load(Relaxed) > 50), "the RTC: {}", CLOCK.load(Relaxed));
    apic::write(reg::DIVIDE, 0xb);
    apic::write(reg::LVT_TIMER, 0x2_0050);
    apic::write(reg::INITIAL_COUNT, bearable);
    assert!(work(|| LOCAL.load(Relaxed) > 1000), "the local APIC: {}", LOCAL.load(Relaxed));
    apic::write(reg::INITIAL_COUNT, bearable.max(5_000_000));
    rtc(8);
    for counter in [&TICKS, &CLOCK, &LOCAL] {
        counter.store(0, Relaxed);
    }
    pic::unmask(0);
    let all = || TICKS.load(Relaxed) > 20 && CLOCK.load(Relaxed) > 20 && LOCAL.load(Relaxed) > 20;
    let done = work(all);
    println!(
        "PIT {} RTC {} local {}",
        TICKS.load(Relaxed),
        CLOCK.load(Relaxed),
        LOCAL.load(Relaxed)
    );
    assert!(done, "some timer does not come through");
    pic::set_masks(0xffff);
    apic::write(reg::LVT_TIMER, 0x1_0000);
    set_cmos(0xb, cmos(0xb) & !0x40);
    // A self-IPI whose handler sends the next one.
    cpu::sti();
    apic::write(reg::ICR, 0x4_0060);
    assert!(work(|| SELF.load(Relaxed) >= 20_000), "self-IPIs stop at {}", SELF.load(Relaxed));
    level();
    // As fast as they go: a guest may starve itself by that, but nobody else.
    support::expect("starved-or-pass");
    TICKS.store(0, Relaxed);
    pic::pit(0, 2, 2);
    pic::unmask(0);
    assert!(work(|| TICKS.load(Relaxed) >= STORM), "the PIT: {}", TICKS.load(Relaxed));
    LOCAL.store(0, Relaxed);
    apic::write(reg::LVT_TIMER, 0x2_0050);
    apic::write(reg::INITIAL_COUNT, 100);
    assert!(work(|| LOCAL.load(Relaxed) > 1000), "the local APIC: {}", LOCAL.load(Relaxed));
    apic::write(reg::INITIAL_COUNT, 0);
}

/// What an interrupt takes, in counts of the local APIC's timer: taking it, and its end.
fn cost() -> u32 {
    apic::write(reg::DIVIDE, 0xb);
    apic::write(reg::LVT_TIMER, 0x1_0050);
    apic::write(reg::INITIAL_COUNT, u32::MAX);
    cpu::sti();
    for _ in 0..100 {
        apic::write(reg::ICR, 0x4_0050);
    }
    cpu::cli();
    let taken = u32::MAX - apic::read(reg::CURRENT_COUNT);
    apic::write(reg::INITIAL_COUNT, 0);
    LOCAL.store(0, Relaxed);
    println!("an interrupt takes {} counts", taken / 100);
    taken / 100
}

/// The periodic interrupt at a rate of the datasheet's table.
fn rtc(rate: u8) {
    set_cmos(0xa, cmos(0xa) & 0xf0 | rate);
    set_cmos(0xb, cmos(0xb) | 0x40);
    let _ = cmos(0xc);
}

/// The UART's "transmitter empty" by a level-triggered I/O APIC pin whose cause stays.
fn level() {
    idt::handle(0x61, |_| {
        if LEVEL.fetch_add(1, Relaxed) >= 2000 {
            out8(0x3f9, 0);
        }
        apic::eoi();
    });
    apic::io_route(4, 0x8061, apic::id());
    out8(0x3fc, 0x0b);
    out8(0x3f9, 2);
    let done = work(|| LEVEL.load(Relaxed) > 2000);
    let after = LEVEL.load(Relaxed);
    apic::io_route(4, 0x1_0000, 0);
    assert!(done, "a level that stays interrupts only {after} times");
    work(|| true);
}
