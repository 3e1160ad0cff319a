//! VMX operation, frames with known physical addresses, VMCS access, and the world switch.
// UNSAFETY: VMX instructions, MSRs and control registers cannot be checked by the compiler; the
// memory that they use is named by physical address, which only the constructors' callers can vouch
// for.
#![allow(unsafe_code, reason = "the only module of this crate that may")]

use crate::bitmaps::{IoBitmaps, MsrBitmap};
use crate::caps::{Caps, Unsupported, unlock};
use crate::cpu::VmxVcpu;
use crate::ept::Ept;
use crate::host::HostState;
use crate::vpid::VpidPool;
use arch::HostPhys;
use core::arch::{asm, x86_64::__cpuid};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicU32;
use x86::msr::{self, rdmsr, wrmsr};

mod state;
mod switch;

pub(crate) use state::{Lazy, LazyMsr, cr2, dr6, lazy_msr, load_lazy, save_lazy};
pub(crate) use state::{set_cr2, set_dr6, set_lazy_msr};
pub(crate) use switch::{
    call_machine_check_handler, call_nmi_handler, close_interrupts, world_switch,
};

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

#[cfg(test)]
impl<T> Frame<T> {
    /// A frame that no CPU looks at.
    pub(crate) fn for_tests(phys: u64, value: T) -> Frame<T> {
        let value = std::boxed::Box::leak(std::boxed::Box::new(value));
        Frame { phys: HostPhys(phys), value }
    }
}

/// A page for VMXON, a VMCS or a virtual APIC.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Page(pub(crate) [u32; 1024]);

impl Page {
    /// Words that the CPU reads and changes while a guest runs.
    pub(crate) const fn into_words(page: &'static mut Page) -> &'static [AtomicU32; 1024] {
        let words: *const [AtomicU32; 1024] = (&raw const page.0).cast();
        // SAFETY: atomics have the layout of their integers, and nobody has the page otherwise.
        unsafe { &*words }
    }
}

/// The memory that a vCPU owns.
#[derive(Debug)]
pub struct Frames {
    /// Its VMCS.
    pub vmcs: Frame<Page>,
    /// Its virtual-APIC page: the local APIC where the CPU keeps it, else CR8 where there is a TPR shadow.
    pub apic: Frame<Page>,
}

/// The tables that a vCPU's VMCS names.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    io: HostPhys,
    msr: HostPhys,
    ept_root: HostPhys,
    /// Where the guest's accesses to its local APIC are caught, and the MSR bitmap of its x2APIC mode.
    apic: Option<(HostPhys, HostPhys)>,
    posting: Option<Posting>,
}

/// How a vCPU's CPU takes interrupts that others left for it.
#[derive(Clone, Copy, Debug)]
pub struct Posting {
    /// Where the vCPU's `arch::Posted` is.
    pub descriptor: HostPhys,
    /// The host's vector that makes the CPU look there, if it runs the vCPU.
    pub vector: u8,
    /// Serves a host interrupt of the vector given, which the exit has acknowledged: all that the host does
    /// about it, the end of interrupt included. Called on the exit's CPU with interrupts closed; it touches
    /// no VMCS.
    pub interrupt: fn(u8),
}

impl Tables {
    /// Bitmaps and the top table of `arch::slat` over [`Ept`].
    ///
    /// # Safety
    /// All three outlive every vCPU made with them. The table maps only memory that the guest may
    /// have. The bitmaps let no port or MSR through that changes the host.
    #[must_use]
    pub const unsafe fn new(
        io: &Frame<IoBitmaps>,
        msr: &Frame<MsrBitmap>,
        ept_root: HostPhys,
    ) -> Tables {
        Tables { io: io.phys(), msr: msr.phys(), ept_root, apic: None, posting: None }
    }

    /// The same for a vCPU whose local APIC is the CPU's, where [`Caps::apic`](crate::Caps::apic).
    ///
    /// # Safety
    /// As [`new`](Tables::new). `access` is a frame of this guest's alone, which its table maps at
    /// FEE00000h; `msr` lets through what [`MsrBitmap::pass_x2apic`] does at the most.
    #[must_use]
    pub const unsafe fn with_apic(self, access: HostPhys, msr: &Frame<MsrBitmap>) -> Tables {
        Tables { apic: Some((access, msr.phys())), ..self }
    }

    /// The same for a vCPU whose CPU takes interrupts from where others leave them, where
    /// [`Caps::posting`](crate::Caps::posting), after [`with_apic`](Tables::with_apic).
    ///
    /// # Safety
    /// As [`new`](Tables::new). The descriptor is an `arch::Posted` of this vCPU alone, in write-back
    /// memory. The host's gate for the vector does no harm if it comes while no guest runs.
    #[must_use]
    pub const unsafe fn with_posting(self, posting: Posting) -> Tables {
        Tables { posting: Some(posting), ..self }
    }

    /// What [`with_posting`](Tables::with_posting) named.
    #[inline]
    pub(crate) const fn posting(&self) -> Option<&Posting> {
        self.posting.as_ref()
    }

    /// What [`with_apic`](Tables::with_apic) named.
    pub(crate) const fn apic(&self) -> Option<(HostPhys, HostPhys)> {
        self.apic
    }

    /// The MSR bitmap outside x2APIC mode.
    pub(crate) const fn msr(&self) -> HostPhys {
        self.msr
    }

    /// I/O bitmap, MSR bitmap, EPT pointer.
    pub(crate) const fn parts(&self, ept: &Ept) -> (HostPhys, HostPhys, u64) {
        (self.io, self.msr, ept.pointer(self.ept_root))
    }
}

/// What VMX offers on this CPU.
///
/// # Errors
/// What is missing.
pub fn detect() -> Result<Caps, Unsupported> {
    // SDM 3C "Discovering Support for VMX".
    if __cpuid(1).ecx & 1 << 5 == 0 {
        return Err(Unsupported::NoVmx);
    }
    // SAFETY: `Caps::read` asks only for MSRs that exist with VMX and the controls found before.
    Caps::read(|msr| unsafe { rdmsr(msr) })
}

/// CR4.VMXE.
const VMXE: u64 = 1 << 13;

/// A CPU in VMX root operation. It cannot leave its CPU.
#[derive(Debug)]
pub struct Cpu {
    caps: Caps,
    vmxon: Frame<Page>,
    host: HostState,
    vpids: VpidPool,
    _here: PhantomData<*const ()>,
}

impl Cpu {
    /// Puts this CPU, number `id`, into VMX operation.
    ///
    /// # Safety
    /// Runs at CPL 0 in long mode, with control registers, GDT, IDT, TR, FS and GS bases, SYSENTER
    /// MSRs, PAT and EFER as the host will always want them after an exit; after a change call
    /// [`save_host`](Cpu::save_host). The value stays on this CPU, and lives as long as a vCPU is
    /// attached to it or looked at from it.
    ///
    /// # Errors
    /// What is missing.
    pub unsafe fn enable(id: u32, mut vmxon: Frame<Page>) -> Result<Cpu, Unsupported> {
        let caps = detect()?;
        // SAFETY: IA32_FEATURE_CONTROL exists where CPUID reports VMX; CPL is 0 by this function's
        // contract.
        let feature_control = unsafe { rdmsr(msr::IA32_FEATURE_CONTROL) };
        if let Some(unlocked) = unlock(feature_control)? {
            // SAFETY: as above; the lock bit is clear.
            unsafe { wrmsr(msr::IA32_FEATURE_CONTROL, unlocked) };
        }
        // SDM 3D "VMX-Fixed Bits in CR0": NE is all that may be new to a host with paging.
        let cr0 = state::cr0() & caps.cr0.1 | caps.cr0.0;
        // SAFETY: the fixed bits leave a paging host as it is.
        unsafe { asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags)) };
        let cr4 = (state::cr4() | VMXE) & caps.cr4.1 | caps.cr4.0;
        // SAFETY: VMXE exists where CPUID reports VMX.
        unsafe { asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags)) };
        vmxon.0.fill(0);
        vmxon.0[0] = caps.revision;
        let failed: u8;
        // SAFETY: the page is ours and begins with the revision; control registers are as VMXON
        // wants them.
        unsafe {
            asm!("vmxon [{}]", "setbe {}", in(reg) &vmxon.phys().0, out(reg_byte) failed,
                options(nostack));
        }
        if failed != 0 {
            return Err(Unsupported::VmxonFailed);
        }
        let host = state::host();
        Ok(Cpu { caps, vmxon, host, vpids: VpidPool::new(id), _here: PhantomData })
    }

    /// Leaves VMX operation and gives the VMXON region back. No vCPU may be attached.
    #[must_use]
    pub fn disable(self) -> Frame<Page> {
        // SAFETY: a `Cpu` is in VMX operation.
        unsafe { asm!("vmxoff", options(nostack)) };
        let cr4 = state::cr4() & !VMXE;
        // SAFETY: VMXE may be cleared outside VMX operation.
        unsafe { asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags)) };
        self.vmxon
    }

    /// What this CPU offers.
    #[must_use]
    pub const fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Takes the present state as the one that the host wants after an exit. vCPUs that were here
    /// before must have been detached; they take it up when they are attached again.
    pub fn save_host(&mut self) {
        self.host = state::host();
        self.vpids.start_over();
    }
}

impl VmxVcpu {
    /// Makes this CPU the one that runs the vCPU.
    ///
    /// # Safety
    /// Until [`detach`](VmxVcpu::detach), the vCPU is used on this CPU only, `cpu` lives, and no
    /// other vCPU is attached to it.
    pub unsafe fn attach(&mut self, cpu: &mut Cpu) {
        self.arrive(cpu.vpids.claim(self.vpid()), &cpu.host);
    }
}

/// A VMCS pointer as VMPTRST gives it: all ones for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current(u64);

/// The current VMCS.
pub(crate) fn current() -> Current {
    let mut phys = u64::MAX;
    if cfg!(not(test)) {
        // SAFETY: this CPU is in VMX operation, as whoever has a VMCS got it from a `Cpu`.
        unsafe { asm!("vmptrst [{}]", in(reg) &mut phys, options(nostack)) };
    }
    Current(phys)
}

/// Makes a VMCS current that was so before.
pub(crate) fn set_current(current: Current) {
    if current.0 != u64::MAX {
        vmptrld(HostPhys(current.0));
    }
}

/// Makes a VMCS current.
pub(crate) fn vmptrld(phys: HostPhys) {
    if cfg!(not(test)) {
        // SAFETY: in VMX operation; the address is that of a page which is only a VMCS.
        unsafe { asm!("vmptrld [{}]", in(reg) &phys.0, options(nostack)) };
    }
}

/// Writes a VMCS back to memory; its next entry launches.
pub(crate) fn vmclear(phys: HostPhys) {
    if cfg!(not(test)) {
        // SAFETY: as above.
        unsafe { asm!("vmclear [{}]", in(reg) &phys.0, options(nostack)) };
    }
}

/// Reads a field of the current VMCS.
#[cfg(not(test))]
#[inline]
pub(crate) fn vmread(field: u32) -> u64 {
    let value;
    // SAFETY: there is a current VMCS; reading has no effect.
    unsafe {
        asm!("vmread {}, {}", out(reg) value, in(reg) u64::from(field), options(nomem, nostack));
    }
    value
}

/// Writes a field of the current VMCS.
#[cfg(not(test))]
#[inline]
pub(crate) fn vmwrite(field: u32, value: u64) {
    // SAFETY: there is a current VMCS; what is written decides what the guest may do, and `cpu`
    // answers for it.
    unsafe {
        asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nomem, nostack));
    }
}

/// Flushes second-level translations: of one EPT pointer, or (`None`) of all.
pub(crate) fn invept(pointer: Option<u64>) {
    let (kind, pointer) = pointer.map_or((2_u64, 0), |pointer| (1, pointer));
    let descriptor = [pointer, 0];
    if cfg!(not(test)) {
        // SAFETY: a flush changes no meaning; the type is one that the CPU has.
        unsafe { asm!("invept {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack)) };
    }
}

/// Flushes the translations of one VPID.
pub(crate) fn invvpid(vpid: u16) {
    let descriptor = [u64::from(vpid), 0];
    if cfg!(not(test)) {
        // SAFETY: as above; type 1 is a single context.
        unsafe { asm!("invvpid {}, [{}]", in(reg) 1_u64, in(reg) &descriptor, options(nostack)) };
    }
}
