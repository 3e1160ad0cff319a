//! `VCPUOP_initialise`: the registers with which a vCPU starts. Xen public "vcpu.h", "hvm/hvm_vcpu.h".
//!
//! They are looked at when the guest gives them; `VCPUOP_up` has the vCPU take them.

use crate::Machine;
use crate::crs::CR4_ALLOWED;
use arch::control::{cr0, cr4, efer, rflags};
use arch::{Gpr, GuestVirt, SegReg, Segment, SysReg, Vcpu};
use pvdrivers::Errno;
use pvdrivers::abi::vcpu::{HvmContext, HvmX86_32, HvmX86_64};

/// Segments that a context has, in its order.
const SEGMENTS: [SegReg; 5] = [SegReg::Cs, SegReg::Ds, SegReg::Ss, SegReg::Es, SegReg::Tr];
/// What FS and GS are, which a context does not have.
const DATA: Segment = Segment { selector: 0, base: 0, limit: u32::MAX, access: 0xc093 };
/// A 64-bit code segment.
const CODE_64: Segment = Segment { selector: 0, base: 0, limit: u32::MAX, access: 0xa09b };
/// A busy task state.
const TASK: Segment = Segment { selector: 0, base: 0, limit: 0x67, access: 0x8b };
/// Flags that software can set, but for virtual-8086 mode.
const FLAGS: u64 = 0x3d_7fd5;
/// Bits of CR0 that mean something.
const CR0: u64 = 0xe005_003f;

/// Good registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI.
    gprs: [u64; 8],
    rip: u64,
    rflags: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    segments: [Segment; 5],
}

impl Start {
    /// Looks at what a guest gives. `efer_bits` of EFER and `physical_bits` of an address are allowed.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] for what Xen refuses, and for what a CPU cannot be entered with.
    fn of(bytes: &[u8], efer_bits: u64, physical_bits: u8) -> Result<Start, Errno> {
        let pad = bytes.get(4..8).is_some_and(|pad| pad == [0; 4]);
        let start = match HvmContext::parse(bytes)? {
            HvmContext::Bits32(regs) if pad => Start::of_32(&regs)?,
            HvmContext::Bits64(regs) if pad => Start::of_64(&regs)?,
            _ => return Err(Errno::EINVAL),
        };
        let paging = start.cr0 & cr0::PG != 0;
        let long = paging && start.efer & efer::LME != 0;
        let code = start.segments[0].access;
        let bad = start.cr4 & !CR4_ALLOWED != 0
            || start.efer & !efer_bits != 0
            || (paging && start.cr0 & cr0::PE == 0)
            || (start.cr0 & cr0::NW != 0 && start.cr0 & cr0::CD == 0)
            || (long && start.cr4 & cr4::PAE == 0)
            || (long && code & Segment::L != 0 && code & Segment::DB != 0)
            || (start.cr4 & cr4::PCIDE != 0 && !long)
            || start.cr3.checked_shr(physical_bits.into()).unwrap_or(0) != 0;
        if bad {
            return Err(Errno::EINVAL);
        }
        let lma = if long { efer::LMA } else { 0 };
        Ok(Start { efer: start.efer & !efer::LMA | lma, ..start })
    }

    fn of_32(regs: &HvmX86_32) -> Result<Start, Errno> {
        let mut segments = [DATA; 5];
        for (n, (to, which)) in segments.iter_mut().zip(SEGMENTS).enumerate() {
            *to = segment(which, regs.bases[n], regs.limits[n], regs.attributes[n])?;
        }
        let [cs, ds, ss, es, _] = &segments;
        let above = |data: &Segment| data.access & Segment::P != 0 && data.dpl() > cs.dpl();
        let bad = regs.pad1 != 0
            || regs.pad2 != [0; 3]
            || regs.eip > cs.limit
            || ss.dpl() != cs.dpl()
            || above(ds)
            || above(es)
            || (regs.efer & efer::LMA != 0 && regs.efer & efer::LME == 0);
        if bad {
            return Err(Errno::EINVAL);
        }
        Ok(Start {
            gprs: regs.gprs.map(u64::from),
            rip: regs.eip.into(),
            rflags: u64::from(regs.eflags) & FLAGS | rflags::FIXED,
            cr0: u64::from(regs.cr0) & CR0 | cr0::ET,
            cr3: regs.cr3.into(),
            cr4: regs.cr4.into(),
            efer: regs.efer,
            segments,
        })
    }

    fn of_64(regs: &HvmX86_64) -> Result<Start, Errno> {
        let bad = (regs.rip << 16) as i64 >> 16 != regs.rip as i64
            || regs.cr0 & cr0::PG == 0
            || regs.cr4 & cr4::PAE == 0
            || regs.efer & efer::LME == 0;
        if bad {
            return Err(Errno::EINVAL);
        }
        Ok(Start {
            gprs: regs.gprs,
            rip: regs.rip,
            rflags: regs.rflags & FLAGS | rflags::FIXED,
            cr0: regs.cr0 & CR0 | cr0::ET,
            cr3: regs.cr3,
            cr4: regs.cr4,
            efer: regs.efer,
            segments: [CODE_64, DATA, DATA, DATA, TASK],
        })
    }

    /// Gives the registers to a vCPU that has those of power-on or INIT.
    pub fn load<V: Vcpu>(&self, vcpu: &mut V) {
        for (gpr, value) in Gpr::ALL.into_iter().zip(self.gprs) {
            vcpu.gprs_mut().set(gpr, value);
        }
        for (reg, value) in [
            (SysReg::Cr4, self.cr4),
            (SysReg::Efer, self.efer),
            (SysReg::Cr3, self.cr3),
            (SysReg::Cr0, self.cr0),
        ] {
            vcpu.set_reg(reg, value);
        }
        for reg in [SegReg::Fs, SegReg::Gs] {
            vcpu.set_segment(reg, DATA);
        }
        for (reg, segment) in SEGMENTS.into_iter().zip(self.segments) {
            vcpu.set_segment(reg, segment);
        }
        vcpu.set_rflags(self.rflags);
        vcpu.set_rip(self.rip);
        vcpu.flush_tlb();
    }
}

/// A segment as a 32-bit context has it. Its attributes are packed as in a VMCB: a descriptor's bits 40 to 47, above
/// them 52 to 55.
///
/// # Errors
/// [`Errno::EINVAL`] for one that the register cannot hold.
fn segment(which: SegReg, base: u32, limit: u32, attributes: u16) -> Result<Segment, Errno> {
    let (code, readable) = (attributes & 8 != 0, attributes & 2 != 0);
    let (application, present) = (attributes & 0x10 != 0, attributes & 0x80 != 0);
    let busy_task = attributes & 0xf | 2 == 0xb;
    let good = attributes >> 12 == 0
        && match which {
            SegReg::Ds | SegReg::Es if attributes == 0 => true,
            SegReg::Ds | SegReg::Es => present && application && (!code || readable),
            SegReg::Cs => present && application && code,
            SegReg::Ss => present && application && !code && readable,
            _ => present && !application && busy_task,
        };
    let access = Segment::access_from_svm(attributes);
    let scaled = access & Segment::G != 0;
    if !good || (present && !scaled && limit >> 20 != 0) {
        return Err(Errno::EINVAL);
    }
    // Accessed, or busy, as loading it would have made it.
    let touched = match which {
        _ if !present => 0,
        SegReg::Tr => 2,
        _ => 1,
    };
    let limit = if scaled { limit | 0xfff } else { limit };
    Ok(Segment { selector: 0, base: base.into(), limit, access: access | touched })
}

impl Machine {
    /// Reads and checks the registers at the caller's `at`.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where they cannot be read, else as [`Start::of`].
    pub(super) fn read_start<V: Vcpu>(&self, vcpu: &V, at: GuestVirt) -> Result<Start, Errno> {
        let mut bytes = [0; HvmContext::SIZE];
        self.copy_from_guest(vcpu, at, &mut bytes)?;
        Start::of(&bytes, self.efer_bits(), self.cpuid.physical_bits())
    }
}
