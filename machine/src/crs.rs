//! Control and debug registers, where the vendor's back end intercepts them.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::exec::{cpl, register};
use crate::insn::{Insn, Op, Place};
use arch::control::{cr0, cr4, efer};
use arch::exit::CrAccess;
use arch::{Fault, Gpr, GuestPhys, Resume, SegReg, Segment, SysReg, Vcpu};

/// CR4 bits that the guest may set where CPUID offers them all; the vendor's CPU checks the rest.
pub(crate) const CR4_ALLOWED: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
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

impl Machine {
    /// An intercepted control-register access.
    pub(crate) fn cr_access<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        access: CrAccess,
    ) -> Resume {
        let done = match access {
            CrAccess::Read { cr, gpr } => self.read_cr(cpu, vcpu, cr, gpr),
            CrAccess::Write { cr, gpr } => {
                let value = narrow(vcpu, vcpu.gprs().get(gpr));
                self.write_cr(cpu, vcpu, cr, value)
            }
            CrAccess::Clts => set_cr0(vcpu, vcpu.reg(SysReg::Cr0) & !cr0::TS),
            CrAccess::Lmsw(value) => lmsw(vcpu, value),
            CrAccess::Undecoded { cr, write } => {
                return self.undecoded_cr(cpu, vcpu, host, cr, write);
            }
        };
        match done {
            Ok(()) => Resume::Next,
            Err(fault) => Resume::Raise(fault),
        }
    }

    /// SVM without decode assists: the instruction's bytes tell which register.
    fn undecoded_cr<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        cr: u8,
        write: bool,
    ) -> Resume {
        let insn = match self.fetch(cpu, vcpu) {
            Ok(insn) => insn,
            Err(resume) => return resume,
        };
        let done = match (insn.op, insn.dst, insn.src) {
            (Op::Mov, Place::Cr(number), Place::Reg(gpr)) if write => {
                let value = narrow(vcpu, vcpu.gprs().get(gpr));
                self.write_cr(cpu, vcpu, number, value)
            }
            (Op::Mov, Place::Reg(gpr), Place::Cr(number)) if !write => {
                self.read_cr(cpu, vcpu, number, gpr)
            }
            (Op::Clts, ..) => set_cr0(vcpu, vcpu.reg(SysReg::Cr0) & !cr0::TS),
            (Op::Lmsw, _, Place::Reg(gpr)) => lmsw(vcpu, vcpu.gprs().get(gpr) as u16),
            (Op::Lmsw | Op::Smsw, ..) => return self.system_word(cpu, vcpu, host, &insn),
            _ => return Resume::Stop(arch::Why::Unhandled(cr.into())),
        };
        match done {
            Ok(()) => Resume::Skip(insn.len),
            Err(fault) => Resume::Raise(fault),
        }
    }

    fn read_cr<V: Vcpu>(
        &self,
        _cpu: &mut Cpu,
        vcpu: &mut V,
        cr: u8,
        gpr: Gpr,
    ) -> Result<(), Fault> {
        let value = match cr {
            0 => vcpu.reg(SysReg::Cr0),
            2 => vcpu.reg(SysReg::Cr2),
            3 => vcpu.reg(SysReg::Cr3),
            4 => vcpu.reg(SysReg::Cr4),
            8 => vcpu.reg(SysReg::Cr8),
            _ => return Err(Fault::UD),
        };
        let value = narrow(vcpu, value);
        vcpu.gprs_mut().set(gpr, value);
        Ok(())
    }

    pub(crate) fn write_cr<V: Vcpu>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        cr: u8,
        value: u64,
    ) -> Result<(), Fault> {
        let pdptes = self.pdptes_after(vcpu, cr, value)?;
        match cr {
            0 => set_cr0(vcpu, value)?,
            2 => vcpu.set_reg(SysReg::Cr2, value),
            3 => vcpu.set_reg(SysReg::Cr3, value & !(1 << 63)),
            4 => set_cr4(vcpu, value)?,
            8 if value & !15 != 0 => return Err(Fault::GP0),
            8 => {
                vcpu.set_reg(SysReg::Cr8, value);
                cpu.lapic.set_tpr((value as u8) << 4);
                cpu.attention = true;
            }
            _ => return Err(Fault::UD),
        }
        if let Some(entries) = pdptes {
            vcpu.set_pdptes(entries);
        }
        Ok(())
    }

    /// The page-directory-pointer entries that this write of a control register loads, if PAE
    /// paging is on after it (SDM 3A "PDPTE Registers").
    fn pdptes_after<V: Vcpu>(
        &self,
        vcpu: &V,
        cr: u8,
        value: u64,
    ) -> Result<Option<[u64; 4]>, Fault> {
        let now = |number, reg| if cr == number { value } else { vcpu.reg(reg) };
        if !matches!(cr, 0 | 3 | 4)
            || vcpu.reg(SysReg::Efer) & efer::LME != 0
            || now(0, SysReg::Cr0) & cr0::PG == 0
            || now(4, SysReg::Cr4) & cr4::PAE == 0
        {
            return Ok(None);
        }
        self.pdptes(now(3, SysReg::Cr3)).map(Some)
    }

    /// Reads the page-directory-pointer entries that CR3 leads to.
    ///
    /// # Errors
    /// #GP(0) if one that is present has a reserved bit (SDM 3A "PDPTE Registers"). Bit 5 is let
    /// through and dropped: QEMU's emulation marks entries as accessed.
    pub(crate) fn pdptes(&self, cr3: u64) -> Result<[u64; 4], Fault> {
        const P: u64 = 1;
        const ACCESSED: u64 = 1 << 5;
        const RESERVED: u64 = 0x1c6;
        let beyond = u64::MAX.checked_shl(self.cpuid.physical_bits().into()).unwrap_or(0);
        let mut entries = [0; 4];
        for (n, entry) in (0..).zip(&mut entries) {
            let at = GuestPhys((cr3 & 0xffff_ffe0) + 8 * n);
            *entry = self.ram.read_u64(at).unwrap_or(u64::MAX) & !ACCESSED;
            if *entry & P != 0 && *entry & (RESERVED | beyond) != 0 {
                return Err(Fault::GP0);
            }
        }
        Ok(entries)
    }

    /// MOV to or from a debug register.
    pub(crate) fn dr_access<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) -> Resume {
        let insn = match self.fetch(cpu, vcpu) {
            Ok(insn) => insn,
            Err(resume) => return resume,
        };
        if cpl(vcpu) != 0 {
            return Resume::Raise(Fault::GP0);
        }
        let reg = |number| match number {
            4 | 6 => Some(SysReg::Dr6),
            5 | 7 => Some(SysReg::Dr7),
            // DR0 to DR3 are the CPU's own and not intercepted.
            _ => None,
        };
        match (insn.op, insn.dst, insn.src) {
            (Op::Mov, Place::Dr(number), source @ Place::Reg(_)) => {
                let Some(reg) = reg(number) else {
                    return Resume::Stop(arch::Why::Unhandled(u64::from(number)));
                };
                let value = register(vcpu.gprs(), source, 8).unwrap_or(0);
                if value >> 32 != 0 {
                    return Resume::Raise(Fault::GP0);
                }
                let fixed = if reg == SysReg::Dr6 { 0xffff_0ff0 } else { 0x400 };
                vcpu.set_reg(reg, value | fixed);
            }
            (Op::Mov, Place::Reg(gpr), Place::Dr(number)) => {
                let Some(reg) = reg(number) else {
                    return Resume::Stop(arch::Why::Unhandled(u64::from(number)));
                };
                let value = vcpu.reg(reg);
                vcpu.gprs_mut().set(gpr, value);
            }
            _ => return Resume::Stop(arch::Why::Unhandled(0xd0)),
        }
        Resume::Skip(insn.len)
    }

    /// XSETBV (SDM 2D "XSETBV").
    pub(crate) fn xsetbv<V: Vcpu, H: Host>(&self, vcpu: &mut V, host: &H) -> Resume {
        let gprs = vcpu.gprs();
        let value = gprs.rax() & 0xffff_ffff | gprs.rdx() << 32;
        let index = gprs.rcx() as u32;
        if vcpu.reg(SysReg::Cr4) & cr4::OSXSAVE == 0 {
            return Resume::Raise(Fault::UD);
        }
        let avx_without_sse = value & 0b110 == 0b100;
        if cpl(vcpu) != 0
            || index != 0
            || value & 1 == 0
            || avx_without_sse
            || value & !self.cpuid.xcr0_mask() != 0
        {
            return Resume::Raise(Fault::GP0);
        }
        host.set_xcr0(value);
        Resume::Next
    }
}

/// Outside 64-bit mode moves of control registers carry 32 bits.
fn narrow<V: Vcpu>(vcpu: &V, value: u64) -> u64 {
    let long = vcpu.reg(SysReg::Efer) & efer::LMA != 0
        && vcpu.segment(SegReg::Cs).access & Segment::L != 0;
    if long { value } else { value & 0xffff_ffff }
}

/// Sets CR0 with the checks of SDM 3A "Control Registers", and EFER.LMA with it.
pub(crate) fn set_cr0<V: Vcpu>(vcpu: &mut V, value: u64) -> Result<(), Fault> {
    let old = vcpu.reg(SysReg::Cr0);
    let value = value & 0xe005_003f | cr0::ET;
    let illegal = (value & cr0::PG != 0 && value & cr0::PE == 0)
        || (value & cr0::NW != 0 && value & cr0::CD == 0);
    if illegal {
        return Err(Fault::GP0);
    }
    let efer = vcpu.reg(SysReg::Efer);
    if (old ^ value) & cr0::PG != 0 && efer & efer::LME != 0 {
        if value & cr0::PG != 0 {
            let cs_is_64_bit = vcpu.segment(SegReg::Cs).access & Segment::L != 0;
            if vcpu.reg(SysReg::Cr4) & cr4::PAE == 0 || cs_is_64_bit {
                return Err(Fault::GP0);
            }
            vcpu.set_reg(SysReg::Efer, efer | efer::LMA);
        } else {
            vcpu.set_reg(SysReg::Efer, efer & !efer::LMA);
        }
    }
    vcpu.set_reg(SysReg::Cr0, value);
    Ok(())
}

fn set_cr4<V: Vcpu>(vcpu: &mut V, value: u64) -> Result<(), Fault> {
    let long = vcpu.reg(SysReg::Efer) & efer::LMA != 0;
    let paging_mode_lost = long && value & cr4::PAE == 0;
    let pcid_too_early = value & cr4::PCIDE != 0
        && vcpu.reg(SysReg::Cr4) & cr4::PCIDE == 0
        && (!long || vcpu.reg(SysReg::Cr3) & 0xfff != 0);
    if value & !CR4_ALLOWED != 0 || paging_mode_lost || pcid_too_early {
        return Err(Fault::GP0);
    }
    vcpu.set_reg(SysReg::Cr4, value);
    Ok(())
}

/// LMSW: the low four bits of CR0; PE is never cleared (SDM 2A "LMSW").
fn lmsw<V: Vcpu>(vcpu: &mut V, value: u16) -> Result<(), Fault> {
    let old = vcpu.reg(SysReg::Cr0);
    set_cr0(vcpu, old & !0xe | u64::from(value) & 0xf | old & cr0::PE)
}

impl Machine {
    /// LMSW and SMSW with a memory operand.
    fn system_word<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        insn: &Insn,
    ) -> Resume {
        let mut memory = crate::guestmem::GuestMemory::new(self, cpu, vcpu, host);
        let at = crate::insn::exec::operand_address(vcpu, insn);
        use crate::insn::Memory;
        let done = if insn.op == Op::Lmsw {
            match memory.read(at, 2, arch::Access::READ) {
                Ok(value) => lmsw(vcpu, value as u16).map_err(Into::into),
                Err(trap) => Err(trap),
            }
        } else {
            match insn.dst {
                Place::Reg(gpr) => {
                    let value = vcpu.reg(SysReg::Cr0);
                    vcpu.gprs_mut().set_width(gpr, insn.width, value);
                    Ok(())
                }
                _ => memory.write(at, 2, vcpu.reg(SysReg::Cr0)),
            }
        };
        crate::guestmem::finish(done, insn)
    }
}
