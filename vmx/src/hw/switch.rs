//! The world switch.

use arch::Gprs;
use core::arch::{asm, naked_asm};

/// The entry instruction itself failed; VM-instruction error says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// Runs the guest until it exits. RSP travels in the VMCS, the other registers in `gprs`.
/// `host_rsp` is what HOST_RSP holds.
#[inline]
pub(crate) fn world_switch(
    gprs: &mut Gprs,
    launched: bool,
    host_rsp: &mut u64,
) -> Result<(), Failed> {
    // SAFETY: the vCPU is attached, so that its VMCS is current with this CPU's host state; its
    // tables are sound by `Tables::new`; interrupts are disabled by the contract of `Vcpu::run`.
    if unsafe { enter(gprs, launched, host_rsp) } == 0 { Ok(()) } else { Err(Failed) }
}

/// Address for HOST_RIP.
pub(crate) fn exit_address() -> u64 {
    (exited as *const ()).expose_provenance() as u64
}

/// Loads the guest's registers and enters it. `gprs` in RDI, `launched` in SIL, `host_rsp` in RDX.
/// Goes on in [`exited`] with the same stack, or falls through if the entry fails.
///
/// # Safety
/// As [`world_switch`] says.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(gprs: *mut Gprs, launched: bool, host_rsp: *mut u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp rsp, [rdx]",
        "je 2f",
        "mov [rdx], rsp",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        "2:",
        "test sil, sil",
        // MOV keeps the flags.
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "jz 3f",
        "vmresume",
        "jmp 4f",
        "3:",
        "vmlaunch",
        "4:",
        "pop rdi",
        "mov eax, 1",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_rsp = const x86::vmx::vmcs::host::RSP,
    )
}

/// Where exits arrive, on the stack of [`enter`]: stores the guest's registers and returns 0 to the
/// caller of `enter`.
///
/// # Safety
/// Only for HOST_RIP.
#[unsafe(naked)]
unsafe extern "sysv64" fn exited() {
    naked_asm!(
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "pop qword ptr [rdi + 56]",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop rdi",
        "xor eax, eax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Delivers the NMI that ended the guest's run to the host's handler, whose IRET unblocks NMIs.
#[cold]
pub(crate) fn call_nmi_handler() {
    if cfg!(not(test)) {
        // SAFETY: the host's IDT has a handler for NMIs, which it may take at any time.
        unsafe { asm!("int 2") };
    }
}

/// Closes interrupts, as an exit has done: Bochs takes some all the same until they are closed once more.
#[cold]
pub(crate) fn close_interrupts() {
    if cfg!(not(test)) {
        // SAFETY: `Vcpu::run` is called with interrupts closed, and returns so.
        unsafe { asm!("cli", options(nomem, nostack)) };
    }
}

/// Delivers the machine check that ended the guest's run to the host's handler.
#[cold]
pub(crate) fn call_machine_check_handler() {
    if cfg!(not(test)) {
        // SAFETY: as above.
        unsafe { asm!("int 18") };
    }
}
