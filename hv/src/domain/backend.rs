//! The one place where the vendors meet: what the core asks of `svm` and of `vmx`, chosen once by type.

// UNSAFETY: vouches for frames and for the host state that a back end saves.

use arch::HostPhys;
use arch::slat::Format;

use crate::mem::{self, frames};

/// A vendor's back end.
pub trait Backend: Sized + 'static {
    /// The vendor's name in logs and on the control channel.
    const NAME: &'static str;
    /// Entries of the second-level table.
    type Format: Format + Send + Sync;
    /// A CPU with virtualization on. Never leaves its CPU.
    type Cpu;
    /// A virtual CPU.
    type Vcpu: arch::Vcpu;

    /// Turns virtualization on, on this CPU.
    ///
    /// # Errors
    /// What is missing, for a person.
    fn enable(cpu: usize) -> Result<Self::Cpu, &'static str>;

    /// The entry format for this machine.
    ///
    /// # Errors
    /// What is missing, for a person.
    fn format() -> Result<Self::Format, &'static str>;

    /// A vCPU of a guest whose second-level table has its root at `root`. `None` when memory is short.
    fn new_vcpu(root: HostPhys) -> Option<Self::Vcpu>;

    /// Makes `cpu`, which runs this, the one that runs the vCPU; no other vCPU is attached to it.
    fn attach(vcpu: &mut Self::Vcpu, cpu: &mut Self::Cpu);

    /// Takes the vCPU off the CPU that runs this.
    fn detach(vcpu: &mut Self::Vcpu);
}

/// AMD SVM.
pub struct Svm;

/// A zeroed frame as a value of type `T`, for ever.
fn leak<T>() -> Option<svm::Frame<T>> {
    assert!(align_of::<T>() <= 4096, "frames are page-aligned");
    let bytes = (size_of::<T>() as u64).max(4096);
    let phys = frames::alloc_contiguous(bytes, 4096)?;
    mem::zero(phys, bytes);
    // SAFETY: the memory is ours for ever, aligned, large enough, and all zeros, which is a value of
    // every type that this is used for (byte arrays and plain registers).
    let value = unsafe { &mut *mem::phys_to_virt(phys).cast::<T>() };
    // SAFETY: the direct map is write-back memory, contiguous as allocated.
    Some(unsafe { svm::Frame::new(phys, value) })
}

impl Backend for Svm {
    const NAME: &'static str = "svm";
    type Format = svm::Npt;
    type Cpu = svm::Cpu;
    type Vcpu = svm::SvmVcpu;

    fn enable(cpu: usize) -> Result<svm::Cpu, &'static str> {
        let (Some(save), Some(host)) = (leak(), leak()) else { return Err("no memory") };
        // SAFETY: called on each CPU once its descriptor tables and GS base are final, before any
        // vCPU exists; the value stays in that CPU's loop.
        unsafe { svm::Cpu::enable(cpu as u32, save, host) }
            .map_err(|_| "SVM cannot be enabled: the firmware disabled or locked it")
    }

    fn format() -> Result<svm::Npt, &'static str> {
        svm::detect().map(|caps| svm::Npt::new(&caps)).map_err(|_| "no nested paging")
    }

    fn new_vcpu(root: HostPhys) -> Option<svm::SvmVcpu> {
        let caps = svm::detect().ok()?;
        let mut iopm = leak::<svm::Iopm>()?;
        iopm.intercept_all();
        let mut msrpm = leak::<svm::Msrpm>()?;
        msrpm.intercept_all();
        msrpm.intercept_by_need();
        // SAFETY: the frames are leaked, the root lives as long as the domain, and the maps let
        // through only what the vCPU carries with it.
        let tables = unsafe { svm::Tables::new(&iopm, &msrpm, root) };
        Some(svm::SvmVcpu::new(leak()?, tables, caps))
    }

    fn attach(vcpu: &mut svm::SvmVcpu, cpu: &mut svm::Cpu) {
        // SAFETY: the scheduler attaches one vCPU at a time and detaches it on the same CPU.
        unsafe { vcpu.attach(cpu) };
    }

    fn detach(vcpu: &mut svm::SvmVcpu) {
        vcpu.detach();
    }
}
