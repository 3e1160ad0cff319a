//! The host's state as this CPU has it, and registers that are switched with the vCPU.

use super::switch::exit_address;
use crate::bitmaps::TSC_AUX;
use crate::host::{HostState, tss_base};
use core::arch::asm;
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::msr::{self, rdmsr, wrmsr};

/// STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE: in this order in [`Lazy::msrs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum LazyMsr {
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
}

const LAZY_MSRS: [u32; 5] =
    [msr::IA32_STAR, msr::IA32_LSTAR, msr::IA32_CSTAR, msr::IA32_FMASK, msr::IA32_KERNEL_GSBASE];

/// Registers that the host does not use, so that they are switched with the vCPU, not with the
/// exit. The host has no breakpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lazy {
    /// DR0 to DR3. DR7 is in the VMCS.
    pub(crate) dr: [u64; 4],
    pub(crate) dr6: u64,
    /// By [`LazyMsr`].
    pub(crate) msrs: [u64; 5],
    pub(crate) tsc_aux: u64,
}

pub(crate) fn load_lazy(lazy: &Lazy, rdtscp: bool) {
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
    set_dr6(lazy.dr6);
    for (number, value) in LAZY_MSRS.into_iter().zip(lazy.msrs) {
        // SAFETY: the MSRs exist with long mode, the host does not use them, and `machine` gives
        // legal values.
        unsafe { wrmsr(number, value) };
    }
    if rdtscp {
        // SAFETY: the MSR exists with RDTSCP, and the host does not use it. The upper half is
        // reserved.
        unsafe { wrmsr(TSC_AUX, lazy.tsc_aux & 0xffff_ffff) };
    }
}

pub(crate) fn save_lazy(rdtscp: bool) -> Lazy {
    let (dr0, dr1, dr2, dr3): (u64, u64, u64, u64);
    // SAFETY: reading DR0 to DR3 at CPL 0 with DR7.GD clear, as exits leave it.
    unsafe {
        asm!(
            "mov {0}, dr0", "mov {1}, dr1", "mov {2}, dr2", "mov {3}, dr3",
            out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3,
            options(nomem, nostack, preserves_flags)
        );
    }
    // SAFETY: the MSRs exist with long mode.
    let msrs = LAZY_MSRS.map(|number| unsafe { rdmsr(number) });
    // SAFETY: the MSR exists with RDTSCP.
    let tsc_aux = if rdtscp { unsafe { rdmsr(TSC_AUX) } } else { 0 };
    Lazy { dr: [dr0, dr1, dr2, dr3], dr6: dr6(), msrs, tsc_aux }
}

pub(crate) fn lazy_msr(which: LazyMsr) -> u64 {
    // SAFETY: the MSRs exist with long mode.
    unsafe { rdmsr(LAZY_MSRS[which as usize]) }
}

pub(crate) fn set_lazy_msr(which: LazyMsr, value: u64) {
    // SAFETY: as above; the host does not use them, and `machine` gives legal values.
    unsafe { wrmsr(LAZY_MSRS[which as usize], value) }
}

macro_rules! register {
    ($($get:ident = $name:literal;)*) => { $(
        #[inline]
        pub(crate) fn $get() -> u64 {
            let value;
            // SAFETY: reading the register at CPL 0 has no effect.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }
    )* };
}
register! { cr0 = "cr0"; cr2 = "cr2"; cr3 = "cr3"; cr4 = "cr4"; dr6 = "dr6"; }

pub(crate) fn set_cr2(value: u64) {
    // SAFETY: CR2 means nothing to a host without page faults.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

pub(crate) fn set_dr6(value: u64) {
    // SAFETY: DR6 means nothing to a host without breakpoints. Its upper half must be 0.
    unsafe {
        asm!("mov dr6, {}", in(reg) value & 0xffff_ffff, options(nomem, nostack, preserves_flags));
    }
}

/// What exits must bring back, as this CPU has it now.
pub(super) fn host() -> HostState {
    let mut gdtr = DescriptorTablePointer::<u64>::default();
    let mut idtr = DescriptorTablePointer::<u64>::default();
    // SAFETY: stores ten bytes.
    unsafe { sgdt(&mut gdtr) };
    // SAFETY: as above.
    unsafe { sidt(&mut idtr) };
    let tr: u16;
    // SAFETY: reading a selector has no effect.
    unsafe { asm!("str {:x}", out(reg) tr, options(nomem, nostack, preserves_flags)) };
    let descriptor: *const u64 =
        core::ptr::with_exposed_provenance((gdtr.base as usize) + usize::from(tr & !7));
    // SAFETY: TR is loaded, so its descriptor is in the GDT, which is mapped.
    let low = unsafe { descriptor.read() };
    // SAFETY: in long mode the descriptor has a second half.
    let high = unsafe { descriptor.add(1).read() };
    // SAFETY: architectural MSRs of every 64-bit CPU with VMX.
    let read = |number| unsafe { rdmsr(number) };
    HostState {
        cr0: cr0(),
        cr3: cr3(),
        cr4: cr4(),
        es: x86::segmentation::es().bits(),
        cs: x86::segmentation::cs().bits(),
        ss: x86::segmentation::ss().bits(),
        ds: x86::segmentation::ds().bits(),
        fs: x86::segmentation::fs().bits(),
        gs: x86::segmentation::gs().bits(),
        tr,
        fs_base: read(msr::IA32_FS_BASE),
        gs_base: read(msr::IA32_GS_BASE),
        tr_base: tss_base(low, high),
        gdtr_base: gdtr.base as u64,
        idtr_base: idtr.base as u64,
        sysenter_cs: read(msr::IA32_SYSENTER_CS) as u32,
        sysenter_esp: read(msr::IA32_SYSENTER_ESP),
        sysenter_eip: read(msr::IA32_SYSENTER_EIP),
        pat: read(msr::IA32_PAT),
        efer: read(msr::IA32_EFER),
        rip: exit_address(),
    }
}
