//! The processor's own instructions, and the way to survive the faults of one.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Reads the time-stamp counter.
#[inline(always)]
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CPUID: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, sub: u32) -> [u32; 4] {
    let it = core::arch::x86_64::__cpuid_count(leaf, sub);
    [it.eax, it.ebx, it.ecx, it.edx]
}

/// Whether this is QEMU's own emulation, which differs from the manuals here and there.
pub fn is_tcg() -> bool {
    cpuid(1, 0)[2] & 1 << 31 != 0 && cpuid(0x4000_0000, 0)[1] == u32::from_le_bytes(*b"TCGT")
}

/// Closes interrupts.
pub fn cli() {
    // SAFETY: only delays interrupts.
    unsafe { asm!("cli") };
}

/// Opens interrupts.
pub fn sti() {
    // SAFETY: the IDT has a handler for every vector.
    unsafe { asm!("sti") };
}

/// Opens interrupts and waits for one.
pub fn sti_hlt() {
    // SAFETY: the IDT has a handler for every vector.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Waits for an interrupt; for ever if they are closed.
pub fn hlt() {
    // SAFETY: only waits.
    unsafe { asm!("hlt") };
}

/// Whether interrupts are open.
pub fn interrupts_open() -> bool {
    let flags: u64;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags & 0x200 != 0
}

macro_rules! control {
    ($read:ident, $write:ident, $name:literal) => {
        /// Reads the register.
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reads a register.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value) };
            value
        }

        /// Writes the register.
        pub fn $write(value: u64) {
            // SAFETY: the machine is the test's own; it keeps its code and stack mapped.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value) };
        }
    };
}

control!(cr0, set_cr0, "cr0");
control!(cr2, set_cr2, "cr2");
control!(cr3, set_cr3, "cr3");
control!(cr4, set_cr4, "cr4");
control!(cr8, set_cr8, "cr8");

/// Reads an MSR that exists.
pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller names an MSR that exists; else the fault is the verdict.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR that takes the value.
pub fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the machine is the test's own.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high) };
}

/// Where the next fault of the first CPU continues; 0 when none is expected.
#[unsafe(no_mangle)]
static CATCH_RIP: AtomicU64 = AtomicU64::new(0);
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// A fault that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub vector: u8,
    /// Its error code, 0 without one.
    pub error: u32,
}

/// Called by the interrupt entry: where to go on after an expected fault.
pub fn caught(vector: u8, error: u64) -> Option<u64> {
    let place = CATCH_RIP.swap(0, Ordering::Relaxed);
    if place == 0 {
        return None;
    }
    CAUGHT.store(1 << 63 | u64::from(vector) << 32 | error & 0xffff_ffff, Ordering::Relaxed);
    Some(place)
}

/// Ends an expected fault's scope.
#[doc(hidden)]
pub fn outcome() -> Result<(), Fault> {
    CATCH_RIP.store(0, Ordering::Relaxed);
    let word = CAUGHT.swap(0, Ordering::Relaxed);
    if word == 0 {
        return Ok(());
    }
    Err(Fault { vector: (word >> 32) as u8, error: word as u32 })
}

/// Runs instructions of which one may fault: `Err(Fault)` when it did. They must keep `r15`.
#[macro_export]
macro_rules! attempt {
    ($($code:literal),+ ; $($operands:tt)*) => {{
        // SAFETY: a fault continues behind the instructions; what they do is the test's business.
        unsafe {
            core::arch::asm!(
                "lea r15, [rip + 99f]",
                "mov [CATCH_RIP], r15",
                $($code,)+
                "99:",
                out("r15") _,
                $($operands)*
            )
        };
        $crate::cpu::outcome()
    }};
}

/// Reads an MSR that may not exist.
pub fn try_rdmsr(msr: u32) -> Result<u64, Fault> {
    let (mut low, mut high) = (0u32, 0u32);
    attempt!("rdmsr"; in("ecx") msr, inout("eax") low, inout("edx") high)?;
    Ok(u64::from(core::mem::take(&mut high)) << 32 | u64::from(core::mem::take(&mut low)))
}

/// Writes an MSR that may refuse.
pub fn try_wrmsr(msr: u32, value: u64) -> Result<(), Fault> {
    attempt!("wrmsr"; in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32)
}
