//! Does every interrupt from another CPU arrive, once, whatever this one does just then; and does one that it takes
//! while it runs cost it more than its handler? Where the hypervisor's CPU takes it for the guest, it does not.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use support::{apic, cpu, guest, idt, pic, println, smp};

guest!("ipi", main);

/// Eight vectors of four priority classes.
const VECTORS: [u8; 8] = [0x51, 0x58, 0x61, 0x68, 0x71, 0x78, 0x81, 0x88];
/// Interrupts of each part.
const COUNT: u32 = 200;
/// Ticks of a handler of ours, with the way to it and back, where a tick is an instruction, and as many again; an
/// exit costs several times that.
const HANDLER: u64 = 400;

static TAKEN: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
static ENOUGH: AtomicBool = AtomicBool::new(false);
/// What the receiver did beyond its loop, in ticks.
static BEYOND: AtomicU32 = AtomicU32::new(0);

fn taken(vector: u8) -> &'static AtomicU32 {
    let n = VECTORS.iter().position(|v| *v == vector).expect("a vector of ours");
    &TAKEN[n]
}

/// Rounds of the receiver's loop, and ticks. Each round is as long as any other.
fn rounds(enough: impl Fn() -> bool) -> (u64, u64) {
    let (start, mut rounds) = (cpu::rdtsc(), 0);
    while !enough() {
        rounds += 1;
    }
    (rounds, cpu::rdtsc() - start)
}

/// Runs with interrupts open; measures a while that nobody disturbs first.
fn spin(_: usize) {
    let until = cpu::rdtsc() + 100_000;
    let (quiet, ticks) = rounds(|| cpu::rdtsc() > until);
    cpu::sti();
    let (busy, all) = rounds(|| cpu::rdtsc() == 0 || ENOUGH.load(Relaxed));
    cpu::cli();
    let beyond = all.saturating_sub(busy * ticks / quiet.max(1));
    BEYOND.store(beyond as u32, Relaxed);
}

/// Halts whenever it has taken one.
fn halt(_: usize) {
    while !ENOUGH.load(Relaxed) {
        cpu::sti_hlt();
    }
}

/// Opens interrupts for a while and closes them for a while. One instruction is too short for QEMU, which looks
/// for interrupts between blocks of code.
fn closed(_: usize) {
    let a_while = || (0..32).for_each(|_| core::hint::spin_loop());
    while !ENOUGH.load(Relaxed) {
        cpu::sti();
        a_while();
        cpu::cli();
        a_while();
    }
}

/// Exits all the time.
fn exit(_: usize) {
    cpu::sti();
    while !ENOUGH.load(Relaxed) {
        let _ = cpu::cpuid(0, 0);
    }
    cpu::cli();
}

/// Waits until so many were taken of a vector; never more.
fn wait(vector: u8, expected: u32) {
    let late = cpu::rdtsc() + 20_000_000_000;
    while taken(vector).load(Relaxed) < expected {
        assert!(cpu::rdtsc() < late, "interrupt {vector:#x} number {expected} is lost");
        core::hint::spin_loop();
    }
    let found = taken(vector).load(Relaxed);
    assert_eq!(found, expected, "interrupts of vector {vector:#x}");
}

/// One at a time, then all vectors at once.
fn send(id: u32) {
    for count in 1..=COUNT {
        apic::command(id, 0x4000 | u32::from(VECTORS[0]));
        wait(VECTORS[0], count);
    }
    for count in 1..=COUNT / 8 {
        for vector in &VECTORS[1..] {
            apic::command(id, 0x4000 | u32::from(*vector));
        }
        for vector in &VECTORS[1..] {
            wait(*vector, count);
        }
    }
}

fn main() {
    assert!(smp::start() > 1, "this test wants two CPUs");
    for vector in VECTORS {
        idt::handle(vector, |frame| {
            taken(frame.vector()).fetch_add(1, Relaxed);
            apic::eoi();
        });
    }
    let id = smp::apic_id(1);
    for (what, work) in
        [("runs", spin as smp::Work), ("halts", halt), ("opens", closed), ("exits", exit)]
    {
        TAKEN.iter().for_each(|taken| taken.store(0, Relaxed));
        ENOUGH.store(false, Relaxed);
        smp::run(1, work);
        pic::wait_us(3000);
        send(id);
        ENOUGH.store(true, Relaxed);
        if what == "halts" {
            apic::command(id, 0x4000 | u32::from(VECTORS[0]));
        }
        assert!(smp::wait(1, 5000), "the other CPU does not come back");
        println!("while it {what}: all came, once");
    }
    let each = u64::from(BEYOND.load(Relaxed)) / u64::from(COUNT + COUNT / 8 * 7);
    println!("each cost the receiver {each} ticks");
    println!("interrupts {} exits", if each < HANDLER { "without" } else { "with" });
}
