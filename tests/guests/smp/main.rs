//! Do all CPUs start, and does every kind of interrupt command reach whom it should?

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use support::apic::{self, reg};
use support::{cpu, guest, idt, pic, println, smp};

guest!("smp", main);

static HITS: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
static STOP: AtomicBool = AtomicBool::new(false);
static LOGICAL: AtomicBool = AtomicBool::new(false);

fn hit() {
    HITS[(apic::id() & 63) as usize].fetch_add(1, Relaxed);
}

fn halt(_: usize) {
    while !STOP.load(Relaxed) {
        cpu::sti_hlt();
    }
}

fn spin(_: usize) {
    cpu::sti();
    while !STOP.load(Relaxed) {
        core::hint::spin_loop();
    }
}

fn set_logical(number: usize) {
    apic::write(reg::DFR, 0xffff_ffff);
    apic::write(reg::LDR, 1 << (24 + number % 8));
    LOGICAL.store(true, Relaxed);
}

/// Sends and expects so many hits more on each CPU, this one first.
fn check(what: &str, count: usize, send: impl FnOnce(), expected: &[u32]) {
    let id = |number: usize| (smp::apic_id(number) & 63) as usize;
    for hits in &HITS {
        hits.store(0, Relaxed);
    }
    cpu::sti();
    send();
    let all = || (0..count).all(|number| HITS[id(number)].load(Relaxed) >= expected[number]);
    for _ in 0..500 {
        if all() {
            break;
        }
        pic::wait_us(1000);
    }
    cpu::cli();
    for (number, expected) in expected[..count].iter().enumerate() {
        let found = HITS[id(number)].load(Relaxed);
        assert_eq!(found, *expected, "{what}: interrupts on CPU {number}");
    }
    println!("{what}");
}

fn main() {
    let count = smp::start().min(8);
    println!("{count} CPUs");
    assert!(count > 1, "this test wants two CPUs and more");
    idt::handle(0x50, |_| {
        hit();
        apic::eoi();
    });
    idt::handle(2, |_| hit());
    for number in 0..count {
        if number == 0 {
            set_logical(0);
        } else {
            smp::run(number, set_logical);
            assert!(smp::wait(number, 5000), "CPU {number} does no work");
        }
    }
    for (how, work) in [("running", spin as smp::Work), ("halted", halt)] {
        println!("{how}:");
        STOP.store(false, Relaxed);
        for number in 1..count {
            smp::run(number, work);
        }
        pic::wait_us(20_000);
        let none = [0; 8];
        for number in 1..count {
            let mut one = none;
            one[number] = 1;
            let id = smp::apic_id(number);
            check("fixed, physical", count, || apic::command(id, 0x4050), &one);
            check("NMI", count, || apic::command(id, 0x4400), &one);
            check("fixed, logical", count, || apic::command(1 << number, 0x4850), &one);
            check("lowest priority", count, || apic::command(1 << number, 0x4950), &one);
        }
        let mut own = none;
        own[0] = 1;
        check("self", count, || apic::command(0, 0x4_4050), &own);
        check("all", count, || apic::command(0, 0x8_4050), &[1; 8]);
        check("all, by address", count, || apic::command(0xff, 0x4050), &[1; 8]);
        check("all, logical", count, || apic::command(0xff, 0x4850), &[1; 8]);
        let mut others = [1; 8];
        others[0] = 0;
        check("all but self", count, || apic::command(0, 0xc_4050), &others);
        check("NMI to all but self", count, || apic::command(0, 0xc_4400), &others);
        STOP.store(true, Relaxed);
        apic::command(0, 0xc_4050);
        for number in 1..count {
            assert!(smp::wait(number, 5000), "CPU {number} does not come back");
        }
    }
}
