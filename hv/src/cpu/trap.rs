//! Every interrupt and exception of the host arrives here. Interrupts go to `irq.rs`; a fault that
//! nobody expected is written out in full and ends in a panic.

// UNSAFETY: reads the interrupted stack and code for the dump, after asking the page tables.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use super::idt::Frame;
use super::{irq, msr, percpu};
use crate::drivers::serial::Emergency;
use crate::mem::paging::translate;

const NMI: u8 = 2;
const MACHINE_CHECK: u8 = 18;
const PAGE_FAULT: u8 = 14;
/// RFLAGS.IF.
const INTERRUPTS_OPEN: u64 = 1 << 9;

static STOPPING: AtomicBool = AtomicBool::new(false);

/// From here on an NMI stops the CPU that takes it. Sent by a panic.
pub fn stop_on_nmi() {
    STOPPING.store(true, Ordering::SeqCst);
}

#[cfg_attr(target_os = "none", unsafe(no_mangle))]
extern "C" fn rust_trap(frame: &mut Frame) {
    match frame.vector() {
        NMI => nmi(frame),
        MACHINE_CHECK => machine_check(frame),
        PAGE_FAULT if frame.error & 1 == 0 && page_fault() => {}
        0..32 if msr::recover(frame) => {}
        0..32 => fault(frame),
        // Bochs takes interrupts between an exit and the next time they are closed. What this one tells may have been
        // looked for already; interrupts are closed now, and it comes again when the guest runs.
        irq::POSTED if frame.rflags & INTERRUPTS_OPEN == 0 => irq::again(irq::POSTED),
        vector => irq::dispatch(vector),
    }
}

/// Who may have memory for an address at which there is none: gets it, and says whether there is some now.
type PageFault = fn(u64) -> bool;

static ON_PAGE_FAULT: spin::Once<PageFault> = spin::Once::new();

/// Calls `hook` at page faults, with interrupts closed and whatever locks are held.
pub fn on_page_fault(hook: PageFault) {
    ON_PAGE_FAULT.call_once(|| hook);
}

fn page_fault() -> bool {
    // SAFETY: reading CR2 has no side effect.
    let address = unsafe { x86::controlregs::cr2() } as u64;
    ON_PAGE_FAULT.get().is_some_and(|hook| hook(address))
}

/// APM2 8.2.3 "NMI": SERR and IOCHK show in port 61h.
fn nmi(frame: &Frame) {
    if STOPPING.load(Ordering::SeqCst) {
        super::halt_for_ever();
    }
    percpu::this().nmis.fetch_add(1, Ordering::Relaxed);
    // SAFETY: reading port 61h has no side effect.
    let status = unsafe { x86::io::inb(0x61) };
    if status & 0xc0 != 0 {
        let mut out = Emergency;
        let _ = writeln!(out, "NMI: port 61h = {status:#04x} (80h SERR, 40h IOCHK)");
        dump(&mut out, frame);
        panic!("the hardware reported a fatal error by NMI");
    }
}

/// SDM 3B "Machine-Check Architecture".
fn machine_check(frame: &Frame) {
    let mut out = Emergency;
    let _ = writeln!(out, "machine check on CPU {}", percpu::this().id);
    let banks = msr::read_or_none(x86::msr::IA32_MCG_CAP).unwrap_or(0) & 0xff;
    for bank in 0..banks.min(64) as u32 {
        let status = msr::read_or_none(x86::msr::IA32_MC0_STATUS + bank * 4).unwrap_or(0);
        if status >> 63 == 1 {
            let address = msr::read_or_none(x86::msr::IA32_MC0_STATUS + bank * 4 + 1);
            let _ = writeln!(out, "  bank {bank}: status {status:#018x}, address {address:x?}");
        }
    }
    dump(&mut out, frame);
    panic!("machine check");
}

fn fault(frame: &Frame) -> ! {
    let mut out = Emergency;
    let vector = frame.vector();
    let _ = writeln!(
        out,
        "\nfault on CPU {}: {} (vector {vector}), error {:#x}",
        percpu::this().id,
        name(vector),
        frame.error
    );
    if vector == 14 {
        let access = if frame.error & 2 != 0 { "write" } else { "read" };
        let access = if frame.error & 16 != 0 { "fetch" } else { access };
        let present = if frame.error & 1 != 0 { "a mapped page" } else { "no page" };
        // SAFETY: reading CR2 has no side effect.
        let cr2 = unsafe { x86::controlregs::cr2() };
        let _ = writeln!(out, "  {access} at {cr2:#018x}, where there is {present}");
    }
    dump(&mut out, frame);
    panic!("{} at {:#x}", name(vector), frame.rip);
}

/// Registers, code bytes and stack; words that look like code are return addresses for addr2line.
pub fn dump(out: &mut dyn Write, f: &Frame) {
    let regs = [
        ("rax", f.rax),
        ("rbx", f.rbx),
        ("rcx", f.rcx),
        ("rdx", f.rdx),
        ("rsi", f.rsi),
        ("rdi", f.rdi),
        ("rbp", f.rbp),
        ("rsp", f.rsp),
        ("r8", f.r8),
        ("r9", f.r9),
        ("r10", f.r10),
        ("r11", f.r11),
        ("r12", f.r12),
        ("r13", f.r13),
        ("r14", f.r14),
        ("r15", f.r15),
        ("rip", f.rip),
        ("flags", f.rflags),
        ("cs", f.cs),
        ("ss", f.ss),
    ];
    for row in regs.chunks(4) {
        for (name, value) in row {
            let _ = write!(out, "  {name:>5} {value:016x}");
        }
        let _ = writeln!(out);
    }
    // SAFETY: reading control registers in ring 0 has no side effect.
    let (cr0, cr3, cr4) =
        unsafe { (x86::controlregs::cr0(), x86::controlregs::cr3(), x86::controlregs::cr4()) };
    let _ = writeln!(out, "    cr0 {:08x}  cr3 {cr3:08x}  cr4 {:08x}", cr0.bits(), cr4.bits());
    let _ = write!(out, "  code");
    for at in f.rip.saturating_sub(8)..f.rip.saturating_add(16) {
        let mark = if at == f.rip { "<" } else { "" };
        match peek::<u8>(at) {
            Some(byte) => drop(write!(out, " {mark}{byte:02x}")),
            None => drop(write!(out, " {mark}??")),
        }
    }
    let _ = writeln!(out, "\n  stack");
    for row in 0..4 {
        for column in 0..4 {
            let at = f.rsp.saturating_add((row * 4 + column) * 8);
            match peek::<u64>(at) {
                Some(word) => drop(write!(out, " {word:016x}")),
                None => drop(write!(out, " ????????????????")),
            }
        }
        let _ = writeln!(out);
    }
    backtrace(out, f.rsp);
}

/// Words on the stack above `rsp` that point into our code. A stack that ran into its guard page is read from
/// the end of that, and further: its frames are large.
pub fn backtrace(out: &mut dyn Write, rsp: u64) {
    let overflown = peek::<u64>(rsp).is_none();
    let (rsp, depth) =
        if overflown { ((rsp | 0xfff).saturating_add(1), 16 << 10) } else { (rsp, 1024) };
    let text = crate::image().map_or(0..0, |i| i.text..i.text_end);
    let _ = write!(out, "  return addresses (addr2line -e xenolith)");
    let words = (0..depth).map_while(|i| peek::<u64>(rsp.saturating_add(i * 8) & !7));
    for word in words.filter(|word| text.contains(word)).take(24) {
        let _ = write!(out, " {word:x}");
    }
    let _ = writeln!(out);
}

/// Reads memory if it is mapped.
fn peek<T: Copy>(at: u64) -> Option<T> {
    let end = at.checked_add(size_of::<T>() as u64 - 1)?;
    translate(at)?;
    translate(end)?;
    let pointer: *const T = core::ptr::with_exposed_provenance(at as usize);
    // SAFETY: both ends are mapped, and `T` is plain integers; nothing is assumed of the value.
    Some(unsafe { pointer.read_unaligned() })
}

fn name(vector: u8) -> &'static str {
    const NAMES: [&str; 22] = [
        "#DE divide error",
        "#DB debug",
        "NMI",
        "#BP breakpoint",
        "#OF overflow",
        "#BR bound",
        "#UD invalid opcode",
        "#NM no FPU",
        "#DF double fault",
        "coprocessor overrun",
        "#TS invalid TSS",
        "#NP segment not present",
        "#SS stack fault",
        "#GP general protection",
        "#PF page fault",
        "reserved",
        "#MF x87",
        "#AC alignment",
        "#MC machine check",
        "#XM SIMD",
        "#VE virtualization",
        "#CP control protection",
    ];
    NAMES.get(usize::from(vector)).copied().unwrap_or("reserved")
}
