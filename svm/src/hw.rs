//! Enabling SVM on a CPU, frames with known physical addresses, and the world switch.
// UNSAFETY: MSRs, VMSAVE and VMRUN are instructions that the compiler cannot check; the memory that
// they use is named by physical address, which only the constructors' callers can vouch for.
#![allow(unsafe_code, reason = "the only module of this crate that may")]

use crate::asid::{AsidPool, Tlb};
use crate::bitmaps::{Iopm, Msrpm, TSC_AUX};
use crate::caps::{Caps, Unsupported, unlock};
use crate::cpu::SvmVcpu;
use crate::vmcb::Vmcb;
use arch::{Gprs, HostPhys};
use core::arch::{asm, x86_64::__cpuid};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use x86::msr::{rdmsr, wrmsr};

/// EFER (APM2 "Extended Feature Enable Register").
const EFER: u32 = 0xc000_0080;
const EFER_NXE: u64 = 1 << 11;
const EFER_SVME: u64 = 1 << 12;
/// VM_CR (APM2 "VM_CR MSR").
const VM_CR: u32 = 0xc001_0114;
/// VM_HSAVE_PA (APM2 "VM_HSAVE_PA MSR").
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// Memory of the hypervisor that the CPU is told of by physical address.
#[derive(Debug)]
pub struct Frame<T: 'static> {
    phys: HostPhys,
    value: &'static mut T,
}

impl<T> Frame<T> {
    /// Pairs memory with its physical address.
    ///
    /// # Safety
    /// `phys` is the physical address of `value`, which is physically contiguous and write-back
    /// memory.
    pub const unsafe fn new(phys: HostPhys, value: &'static mut T) -> Frame<T> {
        Frame { phys, value }
    }

    /// Physical address.
    #[must_use]
    #[inline]
    pub const fn phys(&self) -> HostPhys {
        self.phys
    }

    /// Gives the memory back. No CPU may be using it any more.
    #[must_use]
    pub const fn into_inner(self) -> (HostPhys, &'static mut T) {
        (self.phys, self.value)
    }
}

impl<T> Deref for Frame<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Frame<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

/// A page that only the CPU reads and writes.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Page([u8; 4096]);

/// The tables that a vCPU's VMCB names.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    iopm: HostPhys,
    msrpm: HostPhys,
    n_cr3: HostPhys,
}

impl Tables {
    /// Permission maps and the root of a nested page table (`arch::slat` over [`Npt`](crate::Npt)).
    ///
    /// # Safety
    /// All three outlive every vCPU made with them. The nested table maps only memory that the
    /// guest may have. The maps let no MSR through that changes the host.
    #[must_use]
    pub const unsafe fn new(iopm: &Frame<Iopm>, msrpm: &Frame<Msrpm>, n_cr3: HostPhys) -> Tables {
        Tables { iopm: iopm.phys(), msrpm: msrpm.phys(), n_cr3 }
    }

    pub(crate) const fn parts(&self) -> (HostPhys, HostPhys, HostPhys) {
        (self.iopm, self.msrpm, self.n_cr3)
    }
}

/// Physical address of what VMLOAD brings back after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostArea(HostPhys);

impl HostArea {
    /// On no CPU.
    pub(crate) const NONE: HostArea = HostArea(HostPhys(0));
    /// On a CPU that there is not.
    #[cfg(test)]
    pub(crate) const SCRIPTED: HostArea = HostArea(HostPhys(0x2000));
}

/// Registers that the host does not use, so that they are switched with the vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lazy {
    /// DR0 to DR3. DR6 and DR7 are in the VMCB.
    pub(crate) dr: [u64; 4],
    pub(crate) tsc_aux: u64,
}

/// What SVM offers on this CPU.
///
/// # Errors
/// What is missing.
pub fn detect() -> Result<Caps, Unsupported> {
    Caps::from_cpuid(|leaf| {
        let found = __cpuid(leaf);
        [found.eax, found.ebx, found.ecx, found.edx]
    })
}

/// A CPU with SVM enabled. It cannot leave its CPU.
#[derive(Debug)]
pub struct Cpu {
    caps: Caps,
    /// VM_HSAVE_PA: VMRUN keeps host state there.
    _save: Frame<Page>,
    /// FS, GS, TR, LDTR and the syscall MSRs of the host, for VMLOAD.
    host: Frame<Page>,
    asids: AsidPool,
    _here: PhantomData<*const ()>,
}

impl Cpu {
    /// Enables SVM on this CPU, number `id`.
    ///
    /// # Safety
    /// Runs at CPL 0 in long mode, with GDT, TR, FS and GS bases, KERNEL_GS_BASE and the syscall
    /// MSRs as the host will always want them after an exit; after a change call
    /// [`save_host`](Cpu::save_host). The value stays on this CPU, and lives as long as a vCPU is
    /// attached to it.
    ///
    /// # Errors
    /// [`Unsupported::DisabledByFirmware`], or what [`detect`] says.
    pub unsafe fn enable(
        id: u32,
        save: Frame<Page>,
        host: Frame<Page>,
    ) -> Result<Cpu, Unsupported> {
        let caps = detect()?;
        // SAFETY: VM_CR exists where CPUID reports SVM; CPL is 0 by this function's contract.
        let vm_cr = unsafe { rdmsr(VM_CR) };
        if let Some(unlocked) = unlock(vm_cr)? {
            // SAFETY: as above; the lock bit is clear.
            unsafe { wrmsr(VM_CR, unlocked) };
        }
        // SAFETY: EFER exists in long mode.
        let efer = unsafe { rdmsr(EFER) };
        let nxe = if caps.nx { EFER_NXE } else { 0 };
        // SAFETY: SVME may be set as SVMDIS is clear; NXE as CPUID reports it.
        unsafe { wrmsr(EFER, efer | EFER_SVME | nxe) };
        // SAFETY: the frame is a page of ours, used for nothing else.
        unsafe { wrmsr(VM_HSAVE_PA, save.phys().0) };
        let asids = AsidPool::new(id, caps.asids);
        let mut cpu = Cpu { caps, _save: save, host, asids, _here: PhantomData };
        cpu.save_host();
        Ok(cpu)
    }

    /// What this CPU offers.
    #[must_use]
    pub const fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Takes the present FS, GS, TR, LDTR and syscall MSRs as those that the host wants after an
    /// exit.
    pub fn save_host(&mut self) {
        // SAFETY: SVM is enabled; the frame is a page of ours that only VMSAVE and VMLOAD use.
        unsafe {
            asm!("vmsave rax", in("rax") self.host.phys().0, options(nostack, preserves_flags));
        }
    }
}

impl SvmVcpu {
    /// Makes this CPU the one that runs the vCPU: an ASID of its own, DR0 to DR3, TSC_AUX.
    ///
    /// # Safety
    /// Until [`detach`](SvmVcpu::detach), the vCPU runs on this CPU only, `cpu` lives, and no other
    /// vCPU is attached to it.
    pub unsafe fn attach(&mut self, cpu: &mut Cpu) {
        let (asid, tlb) = cpu.asids.claim(self.asid());
        self.arrive(asid, tlb == Tlb::FlushAll, HostArea(cpu.host.phys()));
        let lazy = *self.lazy();
        load_lazy(&lazy, cpu.caps.rdtscp);
    }

    /// Takes the vCPU off the CPU that it is attached to, and runs on now. The FPU is not its
    /// business.
    pub fn detach(&mut self) {
        if self.host() != HostArea::NONE {
            let rdtscp = self.caps().rdtscp;
            *self.lazy_mut() = save_lazy(rdtscp);
            self.depart();
        }
    }
}

fn load_lazy(lazy: &Lazy, rdtscp: bool) {
    let [dr0, dr1, dr2, dr3] = lazy.dr;
    // SAFETY: the host's DR7 enables no breakpoint, so that addresses in DR0 to DR3 do nothing to
    // it.
    unsafe {
        asm!(
            "mov dr0, {0}", "mov dr1, {1}", "mov dr2, {2}", "mov dr3, {3}",
            in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3,
            options(nomem, nostack, preserves_flags)
        );
    }
    if rdtscp {
        // SAFETY: the MSR exists with RDTSCP, and the host does not use it. The upper half is
        // reserved.
        unsafe { wrmsr(TSC_AUX, lazy.tsc_aux & 0xffff_ffff) };
    }
}

fn save_lazy(rdtscp: bool) -> Lazy {
    let (dr0, dr1, dr2, dr3): (u64, u64, u64, u64);
    // SAFETY: reading DR0 to DR3 at CPL 0 with DR7.GD clear, as the host keeps it.
    unsafe {
        asm!(
            "mov {0}, dr0", "mov {1}, dr1", "mov {2}, dr2", "mov {3}, dr3",
            out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3,
            options(nomem, nostack, preserves_flags)
        );
    }
    // SAFETY: the MSR exists with RDTSCP.
    let tsc_aux = if rdtscp { unsafe { rdmsr(TSC_AUX) } } else { 0 };
    Lazy { dr: [dr0, dr1, dr2, dr3], tsc_aux }
}

/// Runs the guest until it exits. RAX and RSP travel in the VMCB, the other registers in `gprs`.
///
/// GIF is off from CLGI to STGI, so that no interrupt or NMI finds the guest's TR, GS or FS in
/// place. IF is on at VMRUN: with V_INTR_MASKING it lets host interrupts end the guest's run (APM2
/// "Virtualizing APIC.TPR"). It is inlined, so that the loop around the guest saves only those of
/// its registers that it wants again; RBX and RBP cannot be named, and are kept here.
#[inline(always)]
pub(crate) fn world_switch(gprs: &mut Gprs, vmcb: &mut Frame<Vmcb>, host: HostArea) {
    let phys = vmcb.phys().0;
    let vmcb: *mut Vmcb = &raw mut **vmcb;
    // SAFETY: the VMCB's tables are sound by `Tables::new`; the host area is this CPU's by
    // `attach`; SVM is enabled as there is a `Cpu`; interrupts are disabled by the contract of
    // `Vcpu::enter`. The VMCB's pointer is only there to tell the compiler that it changes.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdi",
            "push rdx",
            "clgi",
            "sti",
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
            "vmload rax",
            "vmrun rax",
            "vmsave rax",
            "mov rax, [rsp + 8]",
            "mov [rax + 8], rcx",
            "mov [rax + 16], rdx",
            "mov [rax + 24], rbx",
            "mov [rax + 40], rbp",
            "mov [rax + 48], rsi",
            "mov [rax + 56], rdi",
            "mov [rax + 64], r8",
            "mov [rax + 72], r9",
            "mov [rax + 80], r10",
            "mov [rax + 88], r11",
            "mov [rax + 96], r12",
            "mov [rax + 104], r13",
            "mov [rax + 112], r14",
            "mov [rax + 120], r15",
            "pop rax",
            "vmload rax",
            "cli",
            "stgi",
            "pop rdi",
            "pop rbp",
            "pop rbx",
            inout("rax") phys => _,
            inout("rdi") gprs as *mut Gprs => _,
            inout("rdx") host.0.0 => _,
            lateout("rcx") _, lateout("rsi") _, lateout("r8") _, lateout("r9") _,
            lateout("r10") _, lateout("r11") _, lateout("r12") _, lateout("r13") _,
            lateout("r14") _, inout("r15") vmcb => _,
        );
    }
}

/// Runs the host's #MC handler for a machine check that ended the guest's run.
#[cold]
pub(crate) fn raise_machine_check() {
    // SAFETY: a CPL 0 host handles its vector 18, which pushes no error code either way.
    unsafe { asm!("int 18") };
}
