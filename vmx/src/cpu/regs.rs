//! Registers and segments in the VMCS, and what follows from setting them.

use super::{Due, MOV_SS_SHADOW, SHADOW, STI_SHADOW, VmxVcpu};
use crate::controls::EntryControls;
use crate::exit::NMI_BLOCKING;
use crate::field::{self as f, SegmentFields};
use crate::hw::{self, LazyMsr};
use crate::segment::legal;
use arch::apicpage::offset;
use arch::control::{cr0, cr4, efer, rflags};
use arch::{Blocking, SegReg, Segment, SysReg};

/// All that have selector and access rights.
pub(super) const SEGMENTS: [SegReg; 8] = [
    SegReg::Es,
    SegReg::Cs,
    SegReg::Ss,
    SegReg::Ds,
    SegReg::Fs,
    SegReg::Gs,
    SegReg::Ldtr,
    SegReg::Tr,
];

/// Bits of CR0 that stay as VMX and the host want them: the guest sees a shadow. The caches stay
/// on: guest memory is as its second-level type and PAT say.
pub(super) const CR0_MASK: u64 = cr0::NE | cr0::CD | cr0::NW;

/// Bits of CR4 that the guest changes without an exit. Not MCE: machine checks are the host's. None that CPUID
/// does not offer and whose state is not switched, as PKE's PKRU.
const CR4_FREE: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP;

/// Bits of RFLAGS that are not reserved.
const RFLAGS: u64 = 0x3f_7fd5;
/// Pending debug exceptions: single step.
const PENDING_STEP: u64 = 1 << 14;
/// DEBUGCTL.BTF: single-step on branches.
const DEBUGCTL_BTF: u64 = 1 << 1;
/// Bits of DEBUGCTL that guests have: LBR and BTF. Branch traces would go to memory of the host's
/// choice.
const DEBUGCTL: u64 = 1 | DEBUGCTL_BTF;

impl VmxVcpu {
    pub(super) const fn cr4_mask(&self) -> u64 {
        !CR4_FREE
    }

    #[inline]
    pub(super) fn read_reg(&self, reg: SysReg) -> u64 {
        let vmcs = &self.vmcs;
        match reg {
            SysReg::Cr0 => vmcs.get(f::CR0) & !CR0_MASK | self.cr0_shadow & CR0_MASK,
            SysReg::Cr3 => vmcs.get(f::CR3),
            SysReg::Cr4 => vmcs.get(f::CR4) & CR4_FREE | self.cr4_shadow & !CR4_FREE,
            SysReg::Efer => vmcs.get(f::EFER),
            SysReg::Dr7 => vmcs.get(f::DR7),
            SysReg::SysenterCs => vmcs.get(f::SYSENTER_CS).into(),
            SysReg::SysenterEsp => vmcs.get(f::SYSENTER_ESP),
            SysReg::SysenterEip => vmcs.get(f::SYSENTER_EIP),
            SysReg::Pat => vmcs.get(f::PAT),
            SysReg::TscOffset => vmcs.get(f::TSC_OFFSET),
            SysReg::DebugCtl => vmcs.get(f::DEBUGCTL),
            SysReg::Cr8 if self.caps.tpr_shadow() => {
                u64::from(self.apic.read(offset::TPR) >> 4 & 15)
            }
            SysReg::Cr8 => self.cr8.into(),
            SysReg::Cr2 => self.cr2,
            SysReg::Dr6 if self.attached => hw::dr6(),
            SysReg::Dr6 => self.lazy.dr6,
            SysReg::Star => self.read_lazy(LazyMsr::Star),
            SysReg::Lstar => self.read_lazy(LazyMsr::Lstar),
            SysReg::Cstar => self.read_lazy(LazyMsr::Cstar),
            SysReg::Sfmask => self.read_lazy(LazyMsr::Sfmask),
            SysReg::KernelGsBase => self.read_lazy(LazyMsr::KernelGsBase),
        }
    }

    pub(super) fn write_reg(&mut self, reg: SysReg, value: u64) {
        let vmcs = &self.vmcs;
        match reg {
            SysReg::Dr7 => vmcs.set(f::DR7, value & 0xffff_ffff | 0x400),
            SysReg::SysenterCs => vmcs.set(f::SYSENTER_CS, value as u32),
            SysReg::SysenterEsp => vmcs.set(f::SYSENTER_ESP, value),
            SysReg::SysenterEip => vmcs.set(f::SYSENTER_EIP, value),
            SysReg::Pat => vmcs.set(f::PAT, value),
            SysReg::TscOffset => vmcs.set(f::TSC_OFFSET, value),
            SysReg::DebugCtl => vmcs.set(f::DEBUGCTL, value & DEBUGCTL),
            SysReg::Cr8 => self.write_cr8(value as u8 & 15),
            SysReg::Cr2 => self.cr2 = value,
            SysReg::Dr6 if self.attached => hw::set_dr6(value),
            SysReg::Dr6 => self.lazy.dr6 = value,
            SysReg::Star => self.write_lazy(LazyMsr::Star, value),
            SysReg::Lstar => self.write_lazy(LazyMsr::Lstar, value),
            SysReg::Cstar => self.write_lazy(LazyMsr::Cstar, value),
            SysReg::Sfmask => self.write_lazy(LazyMsr::Sfmask, value & 0xffff_ffff),
            SysReg::KernelGsBase => self.write_lazy(LazyMsr::KernelGsBase, value),
            // Entries with a VPID do not flush what these rule over.
            SysReg::Cr0 | SysReg::Cr3 | SysReg::Cr4 | SysReg::Efer => {
                self.write_paging(reg, value);
                self.due |= Due::LINEAR;
            }
        }
    }

    fn write_paging(&mut self, reg: SysReg, value: u64) {
        match reg {
            SysReg::Cr0 => {
                // Unrestricted guests may have PE and PG at will.
                let (must, may) = self.caps.cr0;
                let must = must & !(cr0::PE | cr0::PG);
                let real = value & !CR0_MASK & may | must | cr0::ET;
                self.vmcs.set(f::CR0, real);
                self.set_cr0_shadow(value);
            }
            SysReg::Cr3 => self.vmcs.set(f::CR3, value),
            SysReg::Cr4 => {
                let (must, may) = self.caps.cr4;
                let real = (value & CR4_FREE | cr4::VMXE | cr4::MCE) & may | must;
                self.vmcs.set(f::CR4, real);
                self.set_cr4_shadow(value);
            }
            _ => {
                self.vmcs.set(f::EFER, value);
                let mut entry = EntryControls::from_bits_retain(self.vmcs.get(f::ENTRY_CONTROLS));
                entry.set(EntryControls::LONG_MODE, value & efer::LMA != 0);
                self.vmcs.set(f::ENTRY_CONTROLS, entry.bits());
            }
        }
    }

    pub(super) fn set_cr0_shadow(&mut self, value: u64) {
        self.cr0_shadow = value;
        self.vmcs.set(f::CR0_SHADOW, value);
    }

    pub(super) fn set_cr4_shadow(&mut self, value: u64) {
        self.cr4_shadow = value;
        self.vmcs.set(f::CR4_SHADOW, value);
    }

    fn write_cr8(&mut self, cr8: u8) {
        if self.caps.tpr_shadow() {
            self.apic.write(offset::TPR, u32::from(cr8) << 4);
            if self.wanted.held_back != 0 {
                self.settle();
            }
        } else {
            self.cr8 = cr8;
        }
    }

    #[inline]
    fn read_lazy(&self, which: LazyMsr) -> u64 {
        if self.attached { hw::lazy_msr(which) } else { self.lazy.msrs[which as usize] }
    }

    fn write_lazy(&mut self, which: LazyMsr, value: u64) {
        if self.attached {
            hw::set_lazy_msr(which, value);
        } else {
            self.lazy.msrs[which as usize] = value;
        }
    }

    #[inline]
    pub(super) fn read_segment(&self, reg: SegReg) -> Segment {
        let vmcs = &self.vmcs;
        let (base, limit) = match reg {
            SegReg::Gdtr => (f::GDTR_BASE, f::GDTR_LIMIT),
            SegReg::Idtr => (f::IDTR_BASE, f::IDTR_LIMIT),
            _ => {
                let fields = SegmentFields::of(reg as u8);
                return Segment {
                    selector: vmcs.get(fields.selector),
                    base: vmcs.get(fields.base),
                    limit: vmcs.get(fields.limit),
                    access: vmcs.get(fields.access),
                };
            }
        };
        Segment { selector: 0, base: vmcs.get(base), limit: vmcs.get(limit), access: 0 }
    }

    pub(super) fn write_segment(&mut self, reg: SegReg, segment: Segment) {
        let vmcs = &self.vmcs;
        let segment = legal(reg, segment, vmcs.get(f::RFLAGS) & rflags::VM != 0);
        let (base, limit) = match reg {
            SegReg::Gdtr => (f::GDTR_BASE, f::GDTR_LIMIT),
            SegReg::Idtr => (f::IDTR_BASE, f::IDTR_LIMIT),
            _ => {
                let fields = SegmentFields::of(reg as u8);
                vmcs.set(fields.selector, segment.selector);
                vmcs.set(fields.access, segment.access);
                (fields.base, fields.limit)
            }
        };
        vmcs.set(base, segment.base);
        vmcs.set(limit, segment.limit);
    }

    pub(super) fn write_rflags(&mut self, value: u64) {
        self.vmcs.set(f::RFLAGS, value & RFLAGS | rflags::FIXED);
        let state = self.vmcs.get(f::INTERRUPTIBILITY);
        if state & SHADOW != 0 {
            self.write_shadow(state, true);
        }
    }

    pub(super) fn write_blocking(&mut self, blocking: Blocking) {
        let state = self.vmcs.get(f::INTERRUPTIBILITY) & !NMI_BLOCKING;
        let nmi = if blocking.nmi { NMI_BLOCKING } else { 0 };
        self.write_shadow(state | nmi, blocking.shadow);
    }

    /// Keeps the shadow in a form that entry accepts (SDM 3C "Checks on Guest Non-Register State"):
    /// that of STI goes with IF only; with a single step due, it must be pending.
    fn write_shadow(&mut self, state: u32, shadow: bool) {
        let flags = self.vmcs.get(f::RFLAGS);
        let kind = match (shadow, state & STI_SHADOW != 0 && flags & rflags::IF != 0) {
            (false, _) => 0,
            (true, true) => STI_SHADOW,
            (true, false) => MOV_SS_SHADOW,
        };
        self.vmcs.set(f::INTERRUPTIBILITY, state & !SHADOW | kind);
        let mut pending = self.vmcs.get(f::PENDING_DEBUG);
        let step =
            flags & rflags::TF != 0 && self.vmcs.get(f::DEBUGCTL) & DEBUGCTL_BTF == 0 && shadow;
        if shadow {
            pending = if step { pending | PENDING_STEP } else { pending & !PENDING_STEP };
            self.vmcs.set(f::PENDING_DEBUG, pending);
        }
    }

    /// A next RIP that crossed 4 GiB: outside 64-bit code the upper half is 0.
    #[cold]
    pub(super) fn wrap(&self, next: u64) -> u64 {
        let long_mode = self.vmcs.get(f::EFER) & efer::LMA != 0;
        if long_mode && self.vmcs.get(f::CS_ACCESS) & Segment::L != 0 {
            next
        } else {
            next & 0xffff_ffff
        }
    }
}
