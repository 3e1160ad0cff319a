//! Are interrupts and exceptions delivered when and how the CPU would? Shadows, NMI blocking,
//! single steps over what a hypervisor emulates, double faults, and stacks that nobody has touched.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use support::apic::{self, reg};
use support::cpu::Fault;
use support::{attempt, cpu, guest, idt, mem, println};

guest!("inject", main);

static COUNT: AtomicU32 = AtomicU32::new(0);
static DEPTH: AtomicU32 = AtomicU32::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static STEPS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

/// Makes vector 50h pending with interrupts closed.
fn pend() {
    apic::write(reg::ICR, 0x4_0050);
}

fn main() {
    apic::enable();
    idt::handle(0x50, |frame| {
        COUNT.fetch_add(1, Relaxed);
        RIP.store(frame.rip, Relaxed);
        apic::eoi();
    });
    shadow();
    waiting();
    nmi();
    exceptions();
    double_fault();
    stacks();
    steps();
    reserved_bits();
}

fn shadow() {
    cpu::cli();
    pend();
    for _ in 0..1000 {
        // SAFETY: nothing can interrupt between the two.
        unsafe { asm!("sti", "cli") };
    }
    assert_eq!(COUNT.load(Relaxed), 0, "an interrupt in the shadow of STI");
    let after: u64;
    // SAFETY: the handler keeps everything.
    unsafe {
        asm!("lea {after}, [rip + 22f]", "sti", "xor ecx, ecx", "22: nop", "cli",
            after = out(reg) after, out("ecx") _)
    };
    assert_eq!(COUNT.load(Relaxed), 1, "no interrupt behind the shadow of STI");
    assert_eq!(RIP.load(Relaxed), after, "the interrupt came elsewhere");
    // The shadow ends behind an instruction that a hypervisor emulates, too.
    pend();
    // SAFETY: as above.
    unsafe {
        asm!("lea {after}, [rip + 22f]", "sti", "in al, 0x80", "22: nop", "cli",
            after = out(reg) _, out("al") _)
    };
    assert_eq!(COUNT.load(Relaxed), 2, "no interrupt behind STI and IN");
    pend();
    // SAFETY: as above; the interrupt ends HLT at once.
    unsafe { asm!("sti", "hlt", "cli") };
    assert_eq!(COUNT.load(Relaxed), 3, "HLT in the shadow of STI loses an interrupt");
    // POPF has no shadow.
    pend();
    // SAFETY: as above.
    unsafe {
        asm!("lea {after}, [rip + 22f]", "push 0x202", "popfq", "22: nop", "cli",
            after = out(reg) _)
    };
    assert_eq!(COUNT.load(Relaxed), 4, "no interrupt behind POPF");
    println!("shadows");
}

/// What waits while interrupts are closed comes in the order of priority and once, whatever is done meanwhile: exits,
/// looks at the local APIC, and a task priority that goes up and down.
fn waiting() {
    static ORDER: AtomicU64 = AtomicU64::new(0);
    static IN_SERVICE: AtomicU64 = AtomicU64::new(0);
    fn taken(vector: u64) {
        ORDER.store(ORDER.load(Relaxed) << 8 | vector, Relaxed);
        support::port::in8(0x80);
        let word = apic::read(reg::ISR + 0x10 * (vector as u32 >> 5));
        let seen = u64::from(word >> (vector & 31) & 1);
        IN_SERVICE.store(IN_SERVICE.load(Relaxed) << 1 | seen, Relaxed);
        apic::eoi();
    }
    fn requested(vector: u32) -> bool {
        apic::read(reg::IRR + 0x10 * (vector >> 5)) >> (vector & 31) & 1 != 0
    }
    idt::handle(0x61, |_| taken(0x61));
    idt::handle(0x72, |_| taken(0x72));
    idt::handle(0x73, |_| taken(0x73));
    COUNT.store(0, Relaxed);
    for vector in [0x61, 0x73, 0x50, 0x72] {
        apic::write(reg::ICR, 0x4_0000 | vector);
        support::port::in8(0x80);
        assert!(requested(vector), "vector {vector:#x} is requested");
    }
    // A task priority that lets only 72h and 73h through.
    apic::write(reg::TPR, 0x60);
    cpu::sti();
    support::port::in8(0x80);
    cpu::cli();
    assert_eq!(ORDER.load(Relaxed), 0x7372, "above the task priority");
    assert!(requested(0x61) && requested(0x50), "below it");
    // As low as can be while interrupts are closed, and up again; then down for 61h, by CR8.
    cpu::set_cr8(0);
    support::port::in8(0x80);
    cpu::set_cr8(6);
    cpu::sti();
    support::port::in8(0x80);
    assert_eq!(ORDER.load(Relaxed), 0x7372, "CR8 holds it back");
    cpu::set_cr8(5);
    support::port::in8(0x80);
    assert_eq!(ORDER.load(Relaxed), 0x73_7261, "CR8 lets it through");
    cpu::cli();
    cpu::set_cr8(0);
    cpu::sti();
    support::port::in8(0x80);
    cpu::cli();
    assert_eq!((COUNT.load(Relaxed), ORDER.load(Relaxed)), (1, 0x73_7261), "each comes once");
    assert_eq!(IN_SERVICE.load(Relaxed), 0b111, "each is in service in its handler");
    println!("waiting");
}

/// Single steps: one #DB behind each instruction, emulated or not.
fn steps() {
    COUNT.store(0, Relaxed);
    idt::handle(1, |frame| {
        let n = COUNT.fetch_add(1, Relaxed) as usize;
        if let Some(step) = STEPS.get(n) {
            step.store(frame.rip, Relaxed);
        }
    });
    let mut labels = [0u64; 8];
    // SAFETY: the handler keeps everything.
    unsafe {
        asm!(
            "lea rax, [rip + 22f]", "mov [r9], rax",
            "lea rax, [rip + 23f]", "mov [r9 + 8], rax",
            "lea rax, [rip + 24f]", "mov [r9 + 16], rax",
            "lea rax, [rip + 25f]", "mov [r9 + 24], rax",
            "lea rax, [rip + 26f]", "mov [r9 + 32], rax",
            "lea rax, [rip + 27f]", "mov [r9 + 40], rax",
            "mov r8, rbx",
            "mov ecx, 0x1b",
            "push 0x102",
            "popfq",
            "nop",
            "22: in al, 0x80",
            "23: rdmsr",
            "24: mov eax, [r11 + 0x20]",
            "25: cpuid",
            "26: push 2",
            "27: popfq",
            "mov rbx, r8",
            in("r9") labels.as_mut_ptr(), in("r11") apic::BASE, out("rax") _, out("rcx") _,
            out("rdx") _, out("r8") _,
        )
    };
    idt::unhandle(1);
    for (n, label) in labels[..6].iter().enumerate() {
        let found = STEPS[n].load(Relaxed);
        assert_eq!(found, *label, "single step {n} of IN, RDMSR, MMIO, CPUID");
    }
    println!("single steps");
}

fn nmi() {
    COUNT.store(0, Relaxed);
    idt::handle(2, |_| {
        let depth = DEPTH.fetch_add(1, Relaxed) + 1;
        DEEPEST.fetch_max(depth, Relaxed);
        if COUNT.fetch_add(1, Relaxed) == 0 {
            apic::command(apic::id(), 0x4400);
            // Long enough for it to come if nothing blocks it, and an exit.
            for _ in 0..1000 {
                support::port::in8(0x80);
            }
        }
        DEPTH.fetch_sub(1, Relaxed);
    });
    apic::command(apic::id(), 0x4400);
    for _ in 0..10_000 {
        if COUNT.load(Relaxed) == 2 {
            break;
        }
        support::port::in8(0x80);
    }
    idt::unhandle(2);
    assert_eq!(COUNT.load(Relaxed), 2, "NMIs");
    assert_eq!(DEEPEST.load(Relaxed), 1, "an NMI in the handler of an NMI");
    println!("NMIs");
}

fn expect(what: &str, found: Result<(), Fault>, vector: u8, error: u32) {
    assert_eq!(found, Err(Fault { vector, error }), "{what}");
}

fn exceptions() {
    let bad = 0x8000_0000_0000_0000u64;
    expect(
        "DIV by 0",
        attempt!("xor ecx, ecx", "div ecx"; out("rax") _, out("rcx") _, out("rdx") _),
        0,
        0,
    );
    expect("INT3", attempt!("int3";), 3, 0);
    expect("UD2", attempt!("ud2";), 6, 0);
    expect("not canonical", attempt!("mov rax, [rcx]"; in("rcx") bad, out("rax") _), 13, 0);
    expect("bad selector", attempt!("mov ds, ecx"; in("ecx") 0xfff8), 13, 0xfff8);
    idt::gate(0xf0, 0, 0x0e, 0);
    // QEMU counts in gates of 16 bytes here; under a hypervisor on it, too.
    let found = attempt!("int 0xf0";).map_err(|fault| (fault.vector, fault.error & 7));
    assert_eq!(found, Err((11, 2)), "INT to a missing gate");
    idt::ungate(0xf0);
    println!("exceptions");
}

/// The gate of #GP is missing when one comes: #DF on its own stack.
fn double_fault() {
    idt::gate(13, 0, 0x0e, 0);
    idt::gate(11, 0, 0x0e, 0);
    let found = attempt!("mov ds, ecx"; in("ecx") 0xfff8);
    idt::ungate(13);
    idt::ungate(11);
    expect("#GP without a gate", found, 8, 0);
    println!("double fault");
}

/// Interrupts on stacks: one that the host may not have mapped yet, one that the guest has not.
fn stacks() {
    COUNT.store(0, Relaxed);
    for _ in 0..16 {
        let stack = mem::untouched(2, 4096) + 8192;
        cpu::cli();
        pend();
        // SAFETY: the stack is ours and mapped.
        unsafe {
            asm!("mov r14, rsp", "mov rsp, {stack}", "sti", "nop", "nop", "cli", "mov rsp, r14",
                stack = in(reg) stack, out("r14") _)
        };
    }
    assert_eq!(COUNT.load(Relaxed), 16, "interrupts on untouched stacks");
    let stack = mem::untouched(2, 4096);
    let table = mem::split(stack);
    let slot = table + (stack >> 12 & 511) * 8;
    let entry: u64 = mem::read(slot);
    mem::set_page(stack, 0);
    pend();
    // SAFETY: the double fault has a stack of its own; R14 brings ours back.
    unsafe {
        asm!(
            "lea r15, [rip + 22f]", "mov [CATCH_RIP], r15", "mov r14, rsp", "mov rsp, {stack}", "sti",
            "nop", "nop", "22: mov rsp, r14", "cli",
            stack = in(reg) stack + 4096, out("r14") _, out("r15") _
        )
    };
    let found = cpu::outcome();
    expect("an interrupt on a missing stack", found, 8, 0);
    mem::set_page(stack, entry);
    // It was not lost: it was never delivered, so it is in service nowhere or comes now.
    apic::eoi();
    cpu::sti();
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    cpu::cli();
    println!("stacks");
}

/// A CPU refuses reserved control bits. QEMU's own takes them, and its VMRUN then refuses the
/// guest.
fn reserved_bits() {
    if cpu::is_tcg() {
        return;
    }
    support::expect("stop-or-pass");
    let (cr0, cr4) = (cpu::cr0() | 1 << 63, cpu::cr4() | 1 << 63);
    expect("MOV to CR4", attempt!("mov cr4, rcx"; in("rcx") cr4), 13, 0);
    expect("MOV to CR0", attempt!("mov cr0, rcx"; in("rcx") cr0), 13, 0);
}
