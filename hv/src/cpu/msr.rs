//! Model-specific registers, also ones that may not exist: a #GP on the probing instruction is
//! caught and told apart from a value.

// UNSAFETY: RDMSR and WRMSR.

use super::idt::Frame;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .text
    // ecx: register; rax: value; edx: 1 if it exists.
    .global msr_probe_read
msr_probe_read:
    movl %edi, %ecx
    .global msr_probe_read_at
msr_probe_read_at:
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, (%rsi)
    movl $1, %eax
    ret
    // edi: register; rsi: value; eax: 1 if the write was taken.
    .global msr_probe_write
msr_probe_write:
    movl %edi, %ecx
    movq %rsi, %rax
    movq %rsi, %rdx
    shrq $32, %rdx
    .global msr_probe_write_at
msr_probe_write_at:
    wrmsr
    movl $1, %eax
    ret
    .global msr_probe_failed
msr_probe_failed:
    xorl %eax, %eax
    ret
    "#,
    options(att_syntax)
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    fn msr_probe_read(register: u32, value: &mut u64) -> u32;
    fn msr_probe_write(register: u32, value: u64) -> u32;
    static msr_probe_read_at: u8;
    static msr_probe_write_at: u8;
    static msr_probe_failed: u8;
}

/// The register's value, or `None` where it does not exist.
#[must_use]
pub fn read_or_none(register: u32) -> Option<u64> {
    #[cfg(target_os = "none")]
    {
        let mut value = 0;
        // SAFETY: a #GP is recovered from, and reading an MSR changes nothing.
        let found = unsafe { msr_probe_read(register, &mut value) };
        (found != 0).then_some(value)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = register;
        None
    }
}

/// Writes a register; false where it does not exist or refuses the value.
///
/// # Safety
/// The value must leave the host able to run.
pub unsafe fn try_write(register: u32, value: u64) -> bool {
    #[cfg(target_os = "none")]
    {
        // SAFETY: the caller's promise; a #GP is recovered from.
        unsafe { msr_probe_write(register, value) != 0 }
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (register, value);
        false
    }
}

/// Resumes behind a probing instruction that faulted; false where the fault was elsewhere.
pub(super) fn recover(frame: &mut Frame) -> bool {
    #[cfg(target_os = "none")]
    {
        let probes = [&raw const msr_probe_read_at, &raw const msr_probe_write_at];
        let ours = probes.iter().any(|at| at.expose_provenance() as u64 == frame.rip);
        if ours && frame.vector() == 13 {
            frame.rip = (&raw const msr_probe_failed).expose_provenance() as u64;
            return true;
        }
    }
    let _ = frame;
    false
}
