//! Do all clocks agree? Each is read around the same wait by the PIT, then each timer's interrupt
//! is timed by the TSC.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use support::apic::{self, reg};
use support::port::{in8, in32, out8};
use support::{acpi, cpu, guest, idt, mem, pic, println};

guest!("timers", main);

static COUNT: AtomicU32 = AtomicU32::new(0);
static AT: AtomicU64 = AtomicU64::new(0);

/// The wait in microseconds, and what a busy emulator may be off by.
const WAIT_US: u64 = 200_000;
const PERCENT: u64 = 5;

/// Measures until it fits: a busy host may take the CPU away in any one try, but not in all.
fn near(what: &str, expected: u64, mut measure: impl FnMut() -> u64) {
    for _ in 0..10 {
        COUNT.store(0, Relaxed);
        let found = measure();
        println!("{what}: {found}, expected {expected}");
        if found.abs_diff(expected) * 100 <= expected * PERCENT {
            return;
        }
    }
    panic!("{what} is off");
}

fn cmos(register: u8) -> u8 {
    out8(0x70, register);
    in8(0x71)
}

fn set_cmos(register: u8, value: u8) {
    out8(0x70, register);
    out8(0x71, value);
}

fn tick(_: &mut idt::Frame) {
    COUNT.fetch_add(1, Relaxed);
    AT.store(cpu::rdtsc(), Relaxed);
}

/// Waits for `count` interrupts; the ticks of the TSC until the last.
fn until(count: u32, start: u64) -> u64 {
    cpu::sti();
    for _ in 0..2_000_000_000u64 {
        if COUNT.load(Relaxed) >= count {
            break;
        }
        core::hint::spin_loop();
    }
    cpu::cli();
    assert!(COUNT.load(Relaxed) >= count, "only {} interrupts", COUNT.load(Relaxed));
    AT.load(Relaxed).wrapping_sub(start)
}

fn main() {
    apic::enable();
    apic::write(reg::DIVIDE, 0xb);
    apic::write(reg::LVT_TIMER, 0x1_0000);
    let hpet = acpi::hpet();
    if let Some(base) = hpet {
        mem::write(base + 0x10, mem::read::<u64>(base + 0x10) | 1);
    }
    let pm = acpi::pm_timer();
    // The RTC's periodic interrupt at 64 Hz.
    set_cmos(0xa, cmos(0xa) & 0xf0 | 10);
    // Ticks of the TSC and of the local APIC in the wait, from a try in which the rest was right.
    let (mut tsc, mut local) = (0, 0);
    let mut both = |count: &mut dyn FnMut() -> u64| {
        let first = cpu::rdtsc();
        apic::write(reg::INITIAL_COUNT, u32::MAX);
        let start = count();
        pic::wait_us(WAIT_US);
        let ticks = count().wrapping_sub(start);
        local = u64::from(u32::MAX - apic::read(reg::CURRENT_COUNT));
        tsc = cpu::rdtsc() - first;
        ticks
    };
    match hpet {
        Some(base) => {
            let femtoseconds = mem::read::<u64>(base) >> 32;
            assert!((1..=0x5f5_e100).contains(&femtoseconds), "HPET period {femtoseconds}");
            let expected = WAIT_US * 1_000_000_000 / femtoseconds;
            near("HPET", expected, || both(&mut || mem::read::<u64>(base + 0xf0)));
        }
        None => println!("no HPET"),
    }
    match pm {
        Some(port) => near("PM timer", 3_579_545 * WAIT_US / 1_000_000, || {
            both(&mut || in32(port).into()) & 0xff_ffff
        }),
        None => println!("no PM timer"),
    }
    apic::write(reg::INITIAL_COUNT, 0);
    println!("TSC {} kHz, local APIC {} kHz", tsc * 1000 / WAIT_US, local * 1000 / WAIT_US);
    // Interrupts: 1/20 s by each.
    let twentieth = tsc * 50_000 / WAIT_US;
    idt::handle(pic::BASE, |frame| {
        tick(frame);
        pic::eoi(0);
    });
    near("PIT, 5 periods", twentieth, || {
        let start = cpu::rdtsc();
        pic::pit(0, 2, (pic::PIT_HZ / 100) as u16);
        pic::unmask(0);
        let ticks = until(5, start);
        pic::set_masks(0xffff);
        ticks
    });
    rtc(twentieth);
    idt::handle(0x50, |frame| {
        tick(frame);
        apic::eoi();
    });
    let count = (local * 50_000 / WAIT_US) as u32;
    apic::write(reg::LVT_TIMER, 0x50);
    near("local APIC, one-shot", twentieth, || {
        let start = cpu::rdtsc();
        apic::write(reg::INITIAL_COUNT, count);
        until(1, start)
    });
    apic::write(reg::LVT_TIMER, 0x2_0050);
    near("local APIC, 5 periods", twentieth, || {
        let start = cpu::rdtsc();
        apic::write(reg::INITIAL_COUNT, count / 5);
        until(5, start)
    });
    apic::write(reg::LVT_TIMER, 0x1_0000);
    apic::write(reg::INITIAL_COUNT, 0);
    if apic::has_deadline() {
        apic::write(reg::LVT_TIMER, 0x4_0050);
        near("TSC deadline", twentieth, || {
            let start = cpu::rdtsc();
            cpu::wrmsr(apic::TSC_DEADLINE, start + twentieth);
            until(1, start)
        });
        assert_eq!(cpu::rdmsr(apic::TSC_DEADLINE), 0, "the deadline is 0 when it has passed");
        apic::write(reg::LVT_TIMER, 0x1_0000);
    } else {
        println!("no TSC deadline");
    }
    if let Some(base) = hpet {
        hpet_interrupt(base, twentieth);
    }
}

fn rtc(twentieth: u64) {
    idt::handle(pic::BASE + 8, |frame| {
        tick(frame);
        let _ = cmos(0xc);
        pic::eoi(8);
    });
    let _ = cmos(0xc);
    pic::unmask(8);
    set_cmos(0xb, cmos(0xb) | 0x40);
    near("RTC, 4 periods of 1/64 s", twentieth * 20 * 4 / 64, || {
        // The first may come at any time: the others are counted from it.
        until(1, 0);
        let start = AT.load(Relaxed);
        until(5, start)
    });
    set_cmos(0xb, cmos(0xb) & !0x40);
    let _ = cmos(0xc);
    pic::set_masks(0xffff);
}

/// Comparator 0, one-shot, by the legacy route to IRQ 0.
fn hpet_interrupt(base: usize, twentieth: u64) {
    let femtoseconds = mem::read::<u64>(base) >> 32;
    if mem::read::<u64>(base) & 0x8000 == 0 {
        return println!("the HPET has no legacy route");
    }
    mem::write(base + 0x100, 4u64);
    near("HPET, one-shot", twentieth, || {
        mem::write(base + 0x10, 0u64);
        let now: u64 = mem::read(base + 0xf0);
        let start = cpu::rdtsc();
        mem::write(base + 0x108, now + 50_000_000_000_000 / femtoseconds);
        mem::write(base + 0x10, 3u64);
        pic::unmask(0);
        let ticks = until(1, start);
        pic::set_masks(0xffff);
        ticks
    });
    mem::write(base + 0x10, 0u64);
    mem::write(base + 0x100, 0u64);
}
