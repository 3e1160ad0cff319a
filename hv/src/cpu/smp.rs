//! Starting the other CPUs (INIT, SIPI, a page of 16-bit code below 1 MiB) and talking to them.
//! A started CPU waits, halted, until [`release`] gives it something to run.

// UNSAFETY: assembly for a CPU without a stack; writes the page it starts on.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::apic::{self, Ipi};
use super::percpu::{self, PerCpu};
use super::{gdt, idt, irq, timer, tsc};
use crate::mem::frames::{self, Block};
use crate::mem::{Phys, paging, phys_to_virt};

/// Bytes of each CPU's stack.
pub const STACK_BYTES: u64 = 64 << 10;
/// Bytes of each interrupt stack.
const IST_BYTES: u64 = 16 << 10;

static ENTRY: AtomicUsize = AtomicUsize::new(0);
/// The boot CPU's.
static OFFSET: spin::Once<Option<tsc::Offset>> = spin::Once::new();

core::arch::global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .balign 16
    .code16
    .global trampoline_start
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    lgdtl trampoline_gdtr - trampoline_start
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *(trampoline_far32 - trampoline_start)
    .code32
trampoline_32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl (trampoline_cr4 - trampoline_start)(%ebx), %eax
    movl %eax, %cr4
    movl (trampoline_cr3 - trampoline_start)(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl (trampoline_efer - trampoline_start)(%ebx), %eax
    xorl %edx, %edx
    wrmsr
    movl (trampoline_cr0 - trampoline_start)(%ebx), %eax
    movl %eax, %cr0
    ljmpl *(trampoline_far64 - trampoline_start)(%ebx)
    .code64
trampoline_64:
    movl %ebx, %ebx
    movq (trampoline_stack - trampoline_start)(%rbx), %rsp
    movq (trampoline_argument - trampoline_start)(%rbx), %rdi
    movq (trampoline_entry - trampoline_start)(%rbx), %rax
    xorl %ebp, %ebp
    callq *%rax
    ud2

    // Filled in by prepare(), in this order: see Parameters.
    .balign 16
    .global trampoline_parameters
trampoline_parameters:
trampoline_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
trampoline_stack:
    .quad 0
trampoline_entry:
    .quad 0
trampoline_argument:
    .quad 0
trampoline_cr0:
    .long 0
trampoline_cr3:
    .long 0
trampoline_cr4:
    .long 0
trampoline_efer:
    .long 0
trampoline_far32:
    .long trampoline_32 - trampoline_start
    .word 0x08, 0
trampoline_far64:
    .long trampoline_64 - trampoline_start
    .word 0x18, 0
trampoline_gdtr:
    .word 31
    .long trampoline_gdt - trampoline_start
    .global trampoline_end
trampoline_end:
    .text
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_parameters: u8;
    static trampoline_end: u8;
}

/// The end of the trampoline, as laid out above.
#[repr(C, packed)]
struct Parameters {
    gdt: [u64; 4],
    stack: u64,
    entry: u64,
    argument: u64,
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    far32: u32,
    far32_selector: [u16; 2],
    far64: u32,
    far64_selector: [u16; 2],
    gdtr_limit: u16,
    gdtr_base: u32,
}

/// Copies the trampoline to a page below 1 MiB and fills in what is the same for every CPU.
fn prepare() -> Option<(Phys, *mut Parameters)> {
    let page = frames::alloc_below(Block::Page, 1 << 20)?;
    paging::map_trampoline(page);
    let (start, end) = (&raw const trampoline_start, (&raw const trampoline_end).addr());
    let target = phys_to_virt(page);
    // SAFETY: the code is shorter than the page, which is ours.
    unsafe { core::ptr::copy_nonoverlapping(start, target, end - start.addr()) };
    let offset = (&raw const trampoline_parameters).addr() - start.addr();
    let parameters = target.wrapping_add(offset).cast::<Parameters>();
    // SAFETY: the parameters lie in the page just written; packed, so any alignment will do.
    let p = unsafe { &mut *parameters };
    // SAFETY: reading control registers in ring 0 has no side effect.
    let (cr0, cr4, efer) = unsafe {
        let cr0 = x86::controlregs::cr0().bits();
        let cr4 = x86::controlregs::cr4().bits();
        (cr0, cr4, x86::msr::rdmsr(x86::msr::IA32_EFER))
    };
    // PCIDE and CET must not be set on the way into long mode; neither is used.
    (p.cr0, p.cr4, p.cr3) = (cr0 as u32, cr4 as u32, paging::root().0 as u32);
    // Less LMA, which is the CPU's to set, and SVME, which each CPU sets when it starts guests.
    p.efer = efer as u32 & !(1 << 10) & !(1 << 12);
    p.far32 += page.0 as u32;
    p.far64 += page.0 as u32;
    p.gdtr_base += page.0 as u32;
    p.entry = ap_main as *const () as u64;
    Some((page, parameters))
}

/// Starts every CPU in `apic_ids` but this one, at most `limit` in all. The number that is up.
pub fn start_all(apic_ids: &[u32], limit: usize) -> usize {
    let own = percpu::this().apic_id();
    let limit = limit.clamp(1, percpu::MAX_CPUS);
    let others = || apic_ids.iter().copied().filter(|&id| id != own && apic::reaches(id));
    OFFSET.call_once(tsc::offset);
    if others().next().is_none() || limit == 1 {
        return percpu::count();
    }
    let Some((page, parameters)) = prepare() else {
        log::error!("no free page below 1 MiB: the other CPUs stay asleep");
        return percpu::count();
    };
    for apic_id in others() {
        let id = percpu::count();
        if id >= limit {
            break;
        }
        if !start(apic_id, id, page, parameters) {
            log::error!("the CPU with APIC ID {apic_id} does not start; left out");
            // It might wake late and use the page and the stack: leave both and start no more.
            break;
        }
    }
    percpu::count()
}

/// SDM 3A "Typical BSP Initialization Sequence": INIT, 10 ms, SIPI, 200 us, SIPI.
fn start(apic_id: u32, id: usize, page: Phys, parameters: *mut Parameters) -> bool {
    let cpu: &'static PerCpu = Box::leak(Box::new(PerCpu::new(id)));
    // SAFETY: the CPU does not run yet; the stacks are its own for ever.
    unsafe { cpu.tables.set_stacks(interrupt_stacks()) };
    // SAFETY: no other CPU is in the trampoline: each is waited for before the next.
    let p = unsafe { &mut *parameters };
    p.stack = paging::alloc_stack(STACK_BYTES);
    p.argument = core::ptr::from_ref(cpu).expose_provenance() as u64;
    apic::send(apic_id, Ipi::Init);
    tsc::delay_us(10_000);
    let before = tsc::now();
    // Long, as a hypervisor with more CPUs than it has cores for may let this one wait its turn.
    for wait_us in [200, 2_000_000] {
        apic::send(apic_id, Ipi::Startup((page.0 >> 12) as u8));
        let end = tsc::now() + tsc::from_ns(wait_us * 1000);
        while tsc::now() < end {
            if percpu::get(id).is_some() {
                let started = cpu.started.load(Ordering::Relaxed);
                if let Some(ticks) = tsc::apart(before, started, tsc::now()) {
                    let side = if started < before { "behind" } else { "ahead of" };
                    log::warn!("CPU {id}: its TSC is {ticks} ticks {side} CPU 0's, or more");
                }
                return true;
            }
            core::hint::spin_loop();
        }
    }
    false
}

/// Tops of new stacks for double fault, NMI and machine check.
#[must_use]
pub fn interrupt_stacks() -> [u64; 3] {
    [(); 3].map(|()| paging::alloc_stack(IST_BYTES))
}

extern "C" fn ap_main(cpu: &'static PerCpu) -> ! {
    // First: locks are listed there.
    percpu::set_gs(cpu);
    // SAFETY: this CPU's own tables, filled before it started.
    unsafe { cpu.tables.load() };
    idt::load();
    // SAFETY: the tables in use are already these; this sets the PAT too.
    unsafe { paging::load() };
    super::enable_features();
    tsc::adjust_as(OFFSET.get().copied().flatten());
    apic::enable();
    timer::init_cpu();
    cpu.started.store(tsc::now(), Ordering::Relaxed);
    // From here on the others see this CPU, and `start` goes on to the next.
    percpu::publish(cpu);
    // SAFETY: IDT, APIC and stacks are in place.
    unsafe { x86::irq::enable() };
    wait_for_entry()
}

fn wait_for_entry() -> ! {
    loop {
        let address = ENTRY.load(Ordering::Acquire);
        if address != 0 {
            // SAFETY: `release` stored a function of this type.
            let entry = unsafe { core::mem::transmute::<usize, fn(usize) -> !>(address) };
            entry(percpu::this().id);
        }
        super::idle(|| ENTRY.load(Ordering::Acquire) == 0);
    }
}

/// Sends every waiting CPU to `entry`, with its number. The boot CPU calls it itself.
pub fn release(entry: fn(usize) -> !) {
    ENTRY.store(entry as *const () as usize, Ordering::Release);
    kick_others();
}

/// Makes CPU `id` leave its guest or its halt and look for work. No-op on unknown CPUs.
pub fn kick(id: usize) {
    if let Some(cpu) = percpu::get(id) {
        cpu.kicked.store(true, Ordering::Release);
        apic::send(cpu.apic_id(), Ipi::Vector(irq::KICK));
    }
}

/// Tells CPU `id` that something was posted for the vCPU that it runs. No-op on unknown CPUs.
pub fn notify(id: usize) {
    if let Some(cpu) = percpu::get(id) {
        apic::send(cpu.apic_id(), Ipi::Vector(irq::POSTED));
    }
}

/// Kicks all CPUs but this one.
pub fn kick_others() {
    let own = percpu::this().id;
    percpu::all().filter(|cpu| cpu.id != own).for_each(|cpu| kick(cpu.id));
}

/// Stops all other CPUs for good. For a panic.
pub fn stop_others() {
    super::trap::stop_on_nmi();
    let own = percpu::this().id;
    for cpu in percpu::all().filter(|cpu| cpu.id != own) {
        apic::send(cpu.apic_id(), Ipi::Nmi);
    }
}

/// Segment selectors and bases of this CPU, for VMX host state.
#[must_use]
pub fn bases() -> gdt::Bases {
    percpu::this().tables.bases()
}
