//! The one place where the vendors meet: what the core asks of `svm` and of `vmx`, chosen once by type.

// UNSAFETY: vouches for frames and for the host state that a back end saves.

use arch::slat::Format;
use arch::{HostPhys, Posted};

use crate::cpu::irq;
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

    /// Turns virtualization on, on this CPU, whose control registers and tables are final.
    ///
    /// # Errors
    /// What is missing, for a person.
    fn enable(cpu: usize) -> Result<Self::Cpu, &'static str>;

    /// The entry format for this machine.
    fn format(cpu: &Self::Cpu) -> Self::Format;

    /// A frame for a guest, to be mapped at FEE00000h, where the CPU catches accesses to the local APIC.
    /// `None` where it does not, and when memory is short.
    fn apic_frame(cpu: &Self::Cpu) -> Option<HostPhys> {
        let _ = cpu;
        None
    }

    /// Whether a CPU that runs a vCPU takes interrupts from its `Posted` by itself, where there is a frame for the
    /// local APIC.
    fn posts(cpu: &Self::Cpu) -> bool {
        let _ = cpu;
        false
    }

    /// A vCPU of a guest whose second-level table has its root at `root` and maps `apic`, if any; made on the
    /// CPU that runs this, to be attached to any. `posted` is the vCPU's own, on the heap for as long as it lives,
    /// where it [`posts`](Backend::posts). `None` when memory is short.
    fn new_vcpu(
        cpu: &Self::Cpu,
        root: HostPhys,
        apic: Option<HostPhys>,
        posted: Option<&Posted>,
    ) -> Option<Self::Vcpu>;

    /// Makes `cpu`, which runs this, the one that runs the vCPU; no other vCPU is attached to it.
    fn attach(vcpu: &mut Self::Vcpu, cpu: &mut Self::Cpu);

    /// Takes the vCPU off the CPU that runs this.
    fn detach(vcpu: &mut Self::Vcpu);

    /// Makes the attached vCPU exit once its guest has run for `ticks` of the TSC, also where no host
    /// interrupt ends its run. Nothing happens where the CPU has no means of its own for that.
    fn bound(vcpu: &mut Self::Vcpu, ticks: u64) {
        let _ = (vcpu, ticks);
    }
}

/// AMD SVM.
pub struct Svm;

/// Intel VT-x.
pub struct Vmx;

/// A zeroed frame as a value of type `T`, for ever.
fn leak<T>() -> Option<(HostPhys, &'static mut T)> {
    assert!(align_of::<T>() <= 4096, "frames are page-aligned");
    let bytes = (size_of::<T>() as u64).max(4096);
    let phys = frames::alloc_contiguous(bytes, 4096)?;
    mem::zero(phys, bytes);
    // SAFETY: the memory is ours for ever, aligned, large enough, and all zeros, which is a value of
    // every type that this is used for (byte arrays and plain registers).
    let value = unsafe { &mut *mem::phys_to_virt(phys).cast::<T>() };
    Some((phys, value))
}

fn svm_frame<T>() -> Option<svm::Frame<T>> {
    let (phys, value) = leak()?;
    // SAFETY: the direct map is write-back memory, contiguous as allocated.
    Some(unsafe { svm::Frame::new(phys, value) })
}

fn vmx_frame<T>() -> Option<vmx::Frame<T>> {
    let (phys, value) = leak()?;
    // SAFETY: the direct map is write-back memory, contiguous as allocated.
    Some(unsafe { vmx::Frame::new(phys, value) })
}

impl Backend for Svm {
    const NAME: &'static str = "svm";
    type Format = svm::Npt;
    type Cpu = svm::Cpu;
    type Vcpu = svm::SvmVcpu;

    fn enable(cpu: usize) -> Result<svm::Cpu, &'static str> {
        let (Some(save), Some(host)) = (svm_frame(), svm_frame()) else { return Err("no memory") };
        // SAFETY: called on each CPU once its descriptor tables and GS base are final, before any
        // vCPU exists; the value stays in that CPU's loop.
        unsafe { svm::Cpu::enable(cpu as u32, save, host) }
            .map_err(|_| "SVM cannot be enabled: the firmware disabled or locked it")
    }

    fn format(cpu: &svm::Cpu) -> svm::Npt {
        svm::Npt::new(cpu.caps())
    }

    fn new_vcpu(
        cpu: &svm::Cpu,
        root: HostPhys,
        _apic: Option<HostPhys>,
        _posted: Option<&Posted>,
    ) -> Option<svm::SvmVcpu> {
        let mut iopm = svm_frame::<svm::Iopm>()?;
        iopm.intercept_all();
        let mut msrpm = svm_frame::<svm::Msrpm>()?;
        msrpm.intercept_all();
        msrpm.intercept_by_need();
        // SAFETY: the frames are leaked, the root lives as long as the domain, and the maps let
        // through only what the vCPU carries with it.
        let tables = unsafe { svm::Tables::new(&iopm, &msrpm, root) };
        Some(svm::SvmVcpu::new(svm_frame()?, tables, *cpu.caps()))
    }

    fn attach(vcpu: &mut svm::SvmVcpu, cpu: &mut svm::Cpu) {
        // SAFETY: the scheduler attaches one vCPU at a time and detaches it on the same CPU.
        unsafe { vcpu.attach(cpu) };
    }

    fn detach(vcpu: &mut svm::SvmVcpu) {
        vcpu.detach();
    }
}

impl Backend for Vmx {
    const NAME: &'static str = "vmx";
    type Format = vmx::Ept;
    type Cpu = vmx::Cpu;
    type Vcpu = vmx::VmxVcpu;

    fn enable(cpu: usize) -> Result<vmx::Cpu, &'static str> {
        let vmxon = vmx_frame().ok_or("no memory")?;
        // SAFETY: called on each CPU once its tables and control registers are final, before any vCPU is
        // used on it; the value stays in that CPU's loop.
        unsafe { vmx::Cpu::enable(cpu as u32, vmxon) }.map_err(|why| {
            log::error!("CPU {cpu}: {why}");
            "VMX cannot be enabled"
        })
    }

    fn format(cpu: &vmx::Cpu) -> vmx::Ept {
        vmx::Ept::new(cpu.caps())
    }

    fn apic_frame(cpu: &vmx::Cpu) -> Option<HostPhys> {
        let wanted = cpu.caps().apic() && crate::config::get("apicv") != Some("0");
        let (phys, bytes) = if wanted { leak::<[u8; 4096]>()? } else { return None };
        // What a guest reads here in x2APIC mode, as where nothing is.
        bytes.fill(0xff);
        Some(phys)
    }

    fn posts(cpu: &vmx::Cpu) -> bool {
        cpu.caps().posting() && crate::config::get("posted") != Some("0")
    }

    fn new_vcpu(
        cpu: &vmx::Cpu,
        root: HostPhys,
        apic: Option<HostPhys>,
        posted: Option<&Posted>,
    ) -> Option<vmx::VmxVcpu> {
        let mut io = vmx_frame::<vmx::IoBitmaps>()?;
        io.intercept_all();
        let mut msr = vmx_frame::<vmx::MsrBitmap>()?;
        msr.intercept_all();
        msr.intercept_by_need();
        // SAFETY: the frames are leaked, the root lives as long as the domain, and the bitmaps let
        // through only what the vCPU carries with it.
        let mut tables = unsafe { vmx::Tables::new(&io, &msr, root) };
        if let Some(access) = apic {
            let mut msr = vmx_frame::<vmx::MsrBitmap>()?;
            msr.intercept_all();
            msr.intercept_by_need();
            msr.pass_x2apic();
            // SAFETY: as above; the caller maps the frame for this guest only.
            tables = unsafe { tables.with_apic(access, &msr) };
            if let Some(posted) = posted {
                let (vector, interrupt) = (irq::POSTED, irq::dispatch);
                let descriptor = HostPhys(mem::virt_to_phys(posted).0);
                // SAFETY: the heap is write-back memory, and the caller keeps it there for this vCPU; the
                // vector's handler does nothing.
                tables =
                    unsafe { tables.with_posting(vmx::Posting { descriptor, vector, interrupt }) };
            }
        }
        let frames = vmx::Frames { vmcs: vmx_frame()?, apic: vmx_frame()? };
        Some(vmx::VmxVcpu::new(frames, tables, cpu))
    }

    fn attach(vcpu: &mut vmx::VmxVcpu, cpu: &mut vmx::Cpu) {
        // SAFETY: the scheduler attaches one vCPU at a time and detaches it on the same CPU.
        unsafe { vcpu.attach(cpu) };
    }

    fn detach(vcpu: &mut vmx::VmxVcpu) {
        vcpu.detach();
    }

    fn bound(vcpu: &mut vmx::VmxVcpu, ticks: u64) {
        vcpu.bound(ticks);
    }
}
