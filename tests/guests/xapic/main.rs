//! Do the local APIC's registers behave as the manual says, by both doors?

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use support::apic::{self, reg};
use support::{cpu, guest, idt, mem, println};

guest!("xapic", main);

static ORDER: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn note(vector: u32) {
    let n = NEXT.fetch_add(1, Relaxed);
    ORDER[n & 7].store(vector, Relaxed);
}

fn bit(base: u32, vector: u32) -> bool {
    apic::read(base + (vector >> 5) * 16) >> (vector & 31) & 1 != 0
}

fn open() {
    cpu::sti();
    for _ in 0..100 {
        core::hint::spin_loop();
    }
    cpu::cli();
}

fn main() {
    apic::enable();
    registers();
    priorities();
    timer();
    switched_off();
    if apic::has_x2() {
        x2();
    } else {
        println!("no x2APIC");
    }
}

fn registers() {
    let version = apic::read(reg::VERSION);
    assert!((0x10..=0x1f).contains(&(version & 0xff)), "version {version:#x}");
    assert!(version >> 16 & 0xff >= 3, "LVT entries {version:#x}");
    assert_eq!(apic::id(), cpu::cpuid(1, 0)[1] >> 24, "identifier and CPUID");
    apic::write(reg::VERSION, 0);
    assert_eq!(apic::read(reg::VERSION), version, "the version can be written");
    apic::write(reg::TPR, 0x35);
    assert_eq!(apic::read(reg::TPR), 0x35, "TPR");
    assert_eq!(cpu::cr8(), 3, "CR8 shows TPR");
    assert_eq!(apic::read(reg::PPR) & 0xf0, 0x30, "PPR follows TPR");
    cpu::set_cr8(5);
    assert_eq!(apic::read(reg::TPR), 0x50, "TPR shows CR8");
    cpu::set_cr8(0);
    apic::write(reg::LDR, 0x0200_0000);
    assert_eq!(apic::read(reg::LDR) >> 24, 2, "LDR");
    apic::write(reg::DFR, 0x0fff_ffff);
    assert_eq!(apic::read(reg::DFR) >> 28, 0, "DFR cluster");
    apic::write(reg::DFR, 0xffff_ffff);
    apic::write(reg::ICR_HIGH, 0x5500_0000);
    assert_eq!(apic::read(reg::ICR_HIGH) >> 24, 0x55, "ICR high");
    println!("registers");
}

fn priorities() {
    for (vector, handler) in [
        (
            0x50,
            (|_| {
                note(0x50);
                apic::eoi();
            }) as idt::Handler,
        ),
        (0x85, |_| {
            note(0x85);
            assert!(bit(reg::ISR, 0x85), "ISR in the handler");
            assert_eq!(apic::read(reg::PPR) & 0xf0, 0x80, "PPR in the handler");
            // A lower one waits, a higher one does not.
            apic::write(reg::ICR, 0x4_0060);
            apic::write(reg::ICR, 0x4_00a0);
            open();
            note(1);
            apic::eoi();
        }),
        (0x60, |_| {
            note(0x60);
            apic::eoi();
        }),
        (0xa0, |_| {
            note(0xa0);
            apic::eoi();
        }),
    ] {
        idt::handle(vector, handler);
    }
    cpu::cli();
    apic::write(reg::TPR, 0);
    apic::write(reg::ICR, 0x4_0050);
    apic::write(reg::ICR, 0x4_0085);
    assert!(bit(reg::IRR, 0x50) && bit(reg::IRR, 0x85), "IRR with interrupts closed");
    apic::write(reg::TPR, 0x90);
    open();
    assert_eq!(NEXT.load(Relaxed), 0, "TPR lets lower ones through");
    cpu::sti();
    apic::write(reg::TPR, 0);
    open();
    let found: [u32; 5] = core::array::from_fn(|n| ORDER[n].load(Relaxed));
    assert_eq!(found, [0x85, 0xa0, 1, 0x60, 0x50], "the order");
    assert!(!bit(reg::IRR, 0x50) && !bit(reg::ISR, 0x85), "IRR and ISR when all is done");
    println!("priorities");
}

fn timer() {
    NEXT.store(0, Relaxed);
    apic::write(reg::DIVIDE, 0xb);
    apic::write(reg::LVT_TIMER, 0x1_0050);
    apic::write(reg::INITIAL_COUNT, 50_000);
    while apic::read(reg::CURRENT_COUNT) != 0 {}
    open();
    assert_eq!(NEXT.load(Relaxed), 0, "a masked timer interrupts");
    apic::write(reg::LVT_TIMER, 0x50);
    apic::write(reg::INITIAL_COUNT, 50_000);
    cpu::sti();
    for _ in 0..100_000_000 {
        if NEXT.load(Relaxed) != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    cpu::cli();
    assert_eq!(NEXT.load(Relaxed), 1, "one-shot");
    assert_eq!(apic::read(reg::CURRENT_COUNT), 0, "one-shot stops at 0");
    apic::write(reg::INITIAL_COUNT, 1_000_000_000);
    assert!(apic::read(reg::CURRENT_COUNT) > 500_000_000, "the count starts anew");
    apic::write(reg::INITIAL_COUNT, 0);
    assert_eq!(apic::read(reg::CURRENT_COUNT), 0, "0 stops the timer");
    apic::write(reg::LVT_TIMER, 0x1_0000);
    println!("timer");
}

/// Software-disabled: the LVT is masked and stays so until it is written after enabling.
fn switched_off() {
    if cpu::is_tcg() {
        return println!("QEMU does not mask the LVT");
    }
    apic::write(reg::LVT_TIMER, 0x50);
    apic::write(reg::SVR, 0xff);
    assert!(apic::read(reg::LVT_TIMER) & 0x1_0000 != 0, "a disabled APIC's LVT is not masked");
    apic::write(reg::SVR, 0x1ff);
    assert!(apic::read(reg::LVT_TIMER) & 0x1_0000 != 0, "enabling unmasks the LVT");
    println!("switched off and on");
}

fn x2() {
    let id = apic::id();
    let version = apic::read(reg::VERSION);
    apic::enter_x2();
    assert_eq!(apic::id(), id, "identifier by x2APIC");
    assert_eq!(apic::read(reg::VERSION), version, "version by x2APIC");
    let ldr = apic::read(reg::LDR);
    assert_eq!(ldr, id >> 4 << 16 | 1 << (id & 15), "LDR by x2APIC");
    for (msr, value) in
        [(0x802, 0), (0x803, 0), (0x80d, 1), (0x80b, 1), (0x808, 0x100), (0x83f, 0x100)]
    {
        let found = cpu::try_wrmsr(msr, value);
        assert!(found.is_err(), "MSR {msr:#x} takes {value:#x}");
    }
    for msr in [0x80bu32, 0x80e, 0x831, 0x83f] {
        assert!(cpu::try_rdmsr(msr).is_err(), "MSR {msr:#x} can be read");
    }
    NEXT.store(0, Relaxed);
    cpu::sti();
    apic::write(reg::SELF_IPI, 0x50);
    open();
    assert_eq!(NEXT.load(Relaxed), 1, "SELF IPI");
    cpu::sti();
    apic::command(id, 0x4050);
    open();
    assert_eq!(NEXT.load(Relaxed), 2, "ICR by x2APIC");
    // The page is no local APIC now; what it reads is nobody's business, but it must not end us.
    let _: u32 = mem::read(apic::BASE + 0x20);
    assert!(cpu::try_wrmsr(0x1b, cpu::rdmsr(0x1b) & !0x400).is_err(), "x2APIC to xAPIC at once");
    apic::leave_x2();
    assert_eq!(apic::id(), id, "identifier by xAPIC again");
    println!("x2APIC");
}
