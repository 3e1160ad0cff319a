//! Interrupts to oneself: self-IPI, TSC deadline, wake from HLT. The handlers keep their count in
//! R12 and the waiting loops theirs in R13, so that every guest instruction is known.

use crate::sample::{Bench, skip};
use core::arch::global_asm;
use support::apic::{self, reg};
use support::{cpu, idt};

const VECTOR: u8 = 0x50;

// R11 has the local APIC's address in the first one: 3 instructions; the second one has 6.
global_asm!(
    "bench_handler: mov dword ptr [r11 + 0xb0], 0",
    "inc r12d",
    "iretq",
    "bench_handler_x2: mov ecx, 0x80b",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "inc r12d",
    "iretq",
);

unsafe extern "C" {
    fn bench_handler();
    fn bench_handler_x2();
}

/// Times instructions that lead to an interrupt, until it was taken: ticks, and instructions of the
/// waiting loop.
macro_rules! until_interrupt {
    ($($code:literal),+ ; $($operands:tt)*) => {{
        let (ticks, rounds): (u32, u32);
        // SAFETY: the handlers clobber what is named here.
        unsafe {
            core::arch::asm!(
                "xor r12d, r12d",
                "xor r13d, r13d",
                "sti",
                "rdtsc",
                "mov r8d, eax",
                $($code,)+
                "22: inc r13d",
                "test r12d, r12d",
                "jz 22b",
                "rdtsc",
                "cli",
                "sub eax, r8d",
                out("eax") ticks, out("edx") _, out("ecx") _, out("r8") _,
                out("r12") _, out("r13") rounds, in("r11") apic::BASE,
                $($operands)*
            )
        };
        (ticks, rounds * 3)
    }};
}

/// Times an interrupt that was sent to oneself while interrupts were closed, until it was taken behind
/// STI: ticks.
macro_rules! sti_nop {
    ($($code:literal),+ ;) => {{
        let (ticks, taken): (u32, u32);
        // SAFETY: the handlers clobber what is named here.
        unsafe {
            core::arch::asm!(
                "xor r12d, r12d",
                "cli",
                "rdtsc",
                "mov r8d, eax",
                $($code,)+
                "sti",
                "nop",
                "rdtsc",
                "cli",
                "sub eax, r8d",
                out("eax") ticks, out("edx") _, out("ecx") _, out("r8") _,
                out("r12") taken, in("r11") apic::BASE,
            )
        };
        assert!(taken == 1, "the interrupt was not taken behind STI and NOP");
        ticks
    }};
}

/// Sets the gate to the short handler of the mode.
fn gate(x2: bool) {
    let handler = if x2 { bench_handler_x2 as *const () } else { bench_handler as *const () };
    idt::gate(VECTOR, handler as u64, 0x8e, 0);
}

/// All that xAPIC mode has.
pub fn all(bench: &mut Bench) {
    gate(false);
    bench.sample("self_ipi_sti_nop", 64, |_| {
        (sti_nop!("mov dword ptr [r11 + 0x300], 0x40050";), 1 + 2 + 3)
    });
    bench.sample("self_ipi", 64, |_| {
        let (ticks, rounds) = until_interrupt!("mov dword ptr [r11 + 0x300], 0x40050";);
        (ticks, 1 + 3 + rounds)
    });
    deadline(bench, "tscdeadline_immed", 3);
    hlt_wake(bench);
}

/// All that x2APIC mode has.
pub fn x2(bench: &mut Bench) {
    gate(true);
    bench.sample("x2apic_self_ipi_sti_nop", 64, |_| {
        let ticks = sti_nop!("mov ecx, 0x83f", "mov eax, 0x50", "xor edx, edx", "wrmsr";);
        (ticks, 4 + 2 + 6)
    });
    bench.sample("x2apic_self_ipi", 64, |_| {
        let (ticks, rounds) =
            until_interrupt!("mov ecx, 0x83f", "mov eax, 0x50", "xor edx, edx", "wrmsr";);
        (ticks, 4 + 6 + rounds)
    });
    deadline(bench, "tscdeadline_immed_x2apic", 6);
    gate(false);
}

/// A deadline that has passed when it is set.
fn deadline(bench: &mut Bench, name: &str, handler: u32) {
    if !apic::has_deadline() {
        return skip(name, "no TSC deadline");
    }
    apic::write(reg::LVT_TIMER, 0x4_0000 | u32::from(VECTOR));
    bench.sample(name, 64, |_| {
        // RDTSC has left the time in EDX:EAX.
        let (ticks, rounds) = until_interrupt!("mov ecx, 0x6e0", "wrmsr";);
        (ticks, 2 + handler + rounds)
    });
    apic::write(reg::LVT_TIMER, 0x1_0000);
}

/// Ticks of the TSC in a million counts of the local APIC's timer.
fn ticks_per_million() -> u64 {
    apic::write(reg::LVT_TIMER, 0x1_0000);
    apic::write(reg::DIVIDE, 0xb);
    apic::write(reg::INITIAL_COUNT, 0xffff_ffff);
    let (start, first) = (cpu::rdtsc(), apic::read(reg::CURRENT_COUNT));
    while first.wrapping_sub(apic::read(reg::CURRENT_COUNT)) < 2_000_000 {}
    let (end, last) = (cpu::rdtsc(), apic::read(reg::CURRENT_COUNT));
    apic::write(reg::INITIAL_COUNT, 0);
    (end - start) * 1_000_000 / u64::from(first.wrapping_sub(last)).max(1)
}

/// Arms the timer, halts, and is woken: what that takes beyond the time asked for.
fn hlt_wake(bench: &mut Bench) {
    const COUNT: u64 = 200_000;
    let asked = (ticks_per_million() * COUNT / 1_000_000) as u32;
    apic::write(reg::LVT_TIMER, VECTOR.into());
    bench.sample("hlt_wake", 32, |_| {
        let (ticks, rounds) = until_interrupt!(
            // Closed, or the interrupt could come before the HLT, which would then wait for ever.
            "cli",
            "mov dword ptr [r11 + 0x380], r9d",
            "sti",
            "hlt"; in("r9") COUNT);
        (ticks.saturating_sub(asked), 4 + 3 + rounds)
    });
    apic::write(reg::LVT_TIMER, 0x1_0000);
}
