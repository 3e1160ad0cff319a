//! Interrupts to another CPU that runs, and to one that halts: from the command to its handler's
//! mark in memory.

use crate::sample::{Bench, skip};
use crate::xen;
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};
use support::{apic, idt, pic, smp};

const VECTOR: u8 = 0x51;

// 6 instructions.
global_asm!(
    "bench_remote_handler: push rax",
    "mov eax, 0xfee00000",
    "mov dword ptr [rax + 0xb0], 0",
    "lock inc dword ptr [bench_marks]",
    "pop rax",
    "iretq",
    ".data",
    ".balign 64",
    "bench_marks: .long 0",
    ".text",
);

unsafe extern "C" {
    fn bench_remote_handler();
}

static ENOUGH: AtomicBool = AtomicBool::new(false);

fn spin(_: usize) {
    support::cpu::sti();
    while !ENOUGH.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}

fn halt(_: usize) {
    while !ENOUGH.load(Ordering::Relaxed) {
        support::cpu::sti_hlt();
    }
}

/// Both, where there is a second CPU.
pub fn all(bench: &mut Bench) {
    if smp::start() < 2 {
        skip("ipi", "one CPU");
        skip("ipi_halt", "one CPU");
        skip("xen_event_to_halted_vcpu", "one CPU");
        return;
    }
    idt::gate(VECTOR, bench_remote_handler as *const () as u64, 0x8e, 0);
    for (name, work) in [("ipi", spin as smp::Work), ("ipi_halt", halt)] {
        ENOUGH.store(false, Ordering::Relaxed);
        smp::run(1, work);
        apic::write(apic::reg::ICR_HIGH, smp::apic_id(1) << 24);
        bench.sample(name, 8, |_| {
            // Long enough for the other to be asleep again.
            pic::wait_us(200);
            send()
        });
        if name == "ipi_halt" {
            xen::to_other(bench);
        }
        ENOUGH.store(true, Ordering::Relaxed);
        let _ = send();
        assert!(smp::wait(1, 2000), "the other CPU does not come back");
    }
}

/// Sends and waits for the mark: ticks, and this CPU's instructions with the handler's.
fn send() -> (u32, u32) {
    let (ticks, rounds): (u32, u32);
    // SAFETY: the handler changes one word and ends its interrupt.
    unsafe {
        asm!(
            "xor r13d, r13d",
            "mov r10d, [bench_marks]",
            "rdtsc",
            "mov r8d, eax",
            "mov dword ptr [r11 + 0x300], 0x51",
            "22: inc r13d",
            "pause",
            "cmp r10d, [bench_marks]",
            "je 22b",
            "rdtsc",
            "sub eax, r8d",
            in("r11") apic::BASE, out("eax") ticks, out("edx") _, out("r8") _, out("r10") _,
            out("r13") rounds,
        )
    };
    (ticks, 1 + 4 * rounds + 6)
}
