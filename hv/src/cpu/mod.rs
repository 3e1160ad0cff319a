//! The host's CPUs: descriptor tables, traps, interrupts, timers, starting and stopping.
//! The way round: `percpu` (what each CPU has), `idt` and `trap` (how it is interrupted), `irq`
//! (who handles what), `tsc` and `timer` (time), `smp` (the others), `virt` (can it run guests).

// UNSAFETY: control registers and HLT.

pub mod acpi;
pub mod apic;
pub mod gdt;
pub mod idt;
pub mod ioapic;
pub mod irq;
pub mod lock;
pub mod msr;
pub mod percpu;
pub mod power;
#[cfg(target_os = "none")]
pub mod smp;
pub mod timer;
pub mod trap;
pub mod tsc;
pub mod virt;
pub mod wake;
pub mod wall;

pub use percpu::{RETIME, YIELD, this};
pub use trap::{backtrace, dump};

use core::sync::atomic::Ordering;
use x86::controlregs::Cr4;

/// What the page tables may use.
#[derive(Clone, Copy, Debug)]
pub struct PagingFeatures {
    /// 1 GiB pages.
    pub huge_pages: bool,
    /// No-execute.
    pub nx: bool,
}

/// Asks CPUID for what the page tables may use.
#[must_use]
pub fn paging_features() -> PagingFeatures {
    let info = raw_cpuid::CpuId::new().get_extended_processor_and_feature_identifiers();
    PagingFeatures {
        huge_pages: info.as_ref().is_some_and(|i| i.has_1gib_pages()),
        nx: info.as_ref().is_some_and(|i| i.has_execute_disable()),
    }
}

/// Whether saving and loading FPU state leaves the x87's error pointers alone unless an exception waits.
#[must_use]
pub fn x87_leaks() -> bool {
    leaks(|leaf| {
        let found = raw_cpuid::cpuid!(leaf);
        [found.eax, found.ebx, found.ecx, found.edx]
    })
}

/// APM3 "CPUID Fn8000_0008_EBX", RstrFpErrPtrs. `cpuid` gives EAX, EBX, ECX, EDX of a leaf.
fn leaks(cpuid: impl Fn(u32) -> [u32; 4]) -> bool {
    let vendor = cpuid(0)[1].to_le_bytes();
    let amd = &vendor == b"Auth" || &vendor == b"Hygo";
    amd && (cpuid(0x8000_0000)[0] < 0x8000_0008 || cpuid(0x8000_0008)[1] & 1 << 2 == 0)
}

/// Control-register bits that every CPU of the host runs with, beside those the entry code sets:
/// global pages and machine checks. The FPU is left as it is: guests' state lives in it.
pub fn enable_features() {
    let features = raw_cpuid::CpuId::new().get_feature_info();
    let has = |f: fn(&raw_cpuid::FeatureInfo) -> bool| features.as_ref().is_some_and(f);
    // SAFETY: reading in ring 0.
    let mut cr4 = unsafe { x86::controlregs::cr4() };
    cr4.set(Cr4::CR4_ENABLE_GLOBAL_PAGES, has(|f| f.has_pge()));
    cr4.set(Cr4::CR4_ENABLE_MACHINE_CHECK, has(|f| f.has_mce()));
    // SAFETY: only bits that CPUID reports are set.
    unsafe { x86::controlregs::cr4_write(cr4) };
    let capabilities = msr::read_or_none(x86::msr::IA32_MCG_CAP).unwrap_or(0);
    if has(|f| f.has_mca()) && capabilities & 1 << 8 != 0 {
        // SAFETY: MCG_CTL exists, all ones enables all reporting.
        unsafe { msr::try_write(x86::msr::IA32_MCG_CTL, u64::MAX) };
    }
    for bank in 0..(capabilities & 0xff).min(64) as u32 {
        // SAFETY: MCi_CTL of an existing bank, all ones enables all reporting.
        unsafe { msr::try_write(x86::msr::IA32_MC0_STATUS - 1 + bank * 4, u64::MAX) };
    }
}

/// Halts until an interrupt, unless `wanted` says no; it is asked with interrupts closed, so that
/// a wakeup between asking and halting is not lost. Interrupts are open after it.
pub fn idle(wanted: impl FnOnce() -> bool) {
    lock::close_interrupts();
    if wanted() {
        let from = tsc::now();
        // SAFETY: STI opens after the next instruction, so no interrupt comes before HLT.
        unsafe { core::arch::asm!("sti", "hlt", options(nomem, nostack)) };
        this().halted.fetch_add(tsc::now().wrapping_sub(from), Ordering::Relaxed);
    } else {
        // SAFETY: handlers are in place on every CPU that idles.
        unsafe { x86::irq::enable() };
    }
}

/// The end of this CPU.
pub fn halt_for_ever() -> ! {
    loop {
        lock::close_interrupts();
        // SAFETY: nothing follows.
        unsafe { x86::halt() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_pointers_leak_on_amds_cpus_that_do_not_say_otherwise() {
        let cpu = |vendor: &'static [u8; 4], ebx| {
            move |leaf| match leaf {
                0 => [0xd, u32::from_le_bytes(*vendor), 0, 0],
                0x8000_0000 => [0x8000_001e, 0, 0, 0],
                _ => [0, ebx, 0, 0],
            }
        };
        assert!(leaks(cpu(b"Auth", 0)) && leaks(cpu(b"Hygo", !4)));
        assert!(!leaks(cpu(b"Auth", 4)) && !leaks(cpu(b"Genu", 0)));
    }
}
