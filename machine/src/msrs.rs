//! Model-specific registers: those that the vCPU keeps, those of the board, and those that are only
//! stored. Unknown ones fault, as on a CPU that lacks them, and are logged once.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::viridian;
use crate::xen::SVR;
use crate::xen::cpuid::{HYPERCALL_MSR, HYPERCALL_MSR_VIRIDIAN};
use arch::control::{cr0, efer};
use arch::{Fault, SysReg, Vcpu};
use devmodel::lapic::LapicEffect;

/// IA32_TIME_STAMP_COUNTER.
const TSC: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const APIC_BASE: u32 = 0x1b;
const FEATURE_CONTROL: u32 = 0x3a;
const TSC_ADJUST: u32 = 0x3b;
const BIOS_UPDT_TRIG: u32 = 0x79;
const BIOS_SIGN_ID: u32 = 0x8b;
const PLATFORM_INFO: u32 = 0xce;
const MTRRCAP: u32 = 0xfe;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUGCTL: u32 = 0x1d9;
const MTRR_PHYS: u32 = 0x200;
const MTRR_FIX_64K: u32 = 0x250;
const MTRR_FIX_16K: u32 = 0x258;
const MTRR_FIX_4K: u32 = 0x268;
const PAT: u32 = 0x277;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
const SYSCFG: u32 = 0xc001_0010;
const HWCR: u32 = 0xc001_0015;
const VM_CR: u32 = 0xc001_0114;

/// Variable MTRR pairs that MTRRcap reports.
const MTRR_PAIRS: usize = 8;

/// Stored registers.
#[derive(Clone, Debug)]
pub(crate) struct Msrs {
    mtrr_phys: [u64; MTRR_PAIRS * 2],
    mtrr_fix: [u64; 11],
    mtrr_def_type: u64,
    misc_enable: u64,
    tsc_adjust: u64,
    tsc_aux: u64,
    hwcr: u64,
    /// Viridian's page of this vCPU, as the guest wrote it.
    pub(crate) vp_assist: u64,
    /// The first unknown MSRs, so that each is logged once.
    unknown: [u32; 16],
}

impl Default for Msrs {
    fn default() -> Self {
        Msrs {
            mtrr_phys: [0; MTRR_PAIRS * 2],
            mtrr_fix: [0; 11],
            mtrr_def_type: 0,
            // Fast strings.
            misc_enable: 1,
            tsc_adjust: 0,
            tsc_aux: 0,
            hwcr: 0,
            vp_assist: 0,
            unknown: [0; 16],
        }
    }
}

/// Whether every byte of a fixed-range MTRR or PAT is a memory type in `types` (bit per type).
fn types_are(value: u64, types: u8) -> bool {
    value.to_le_bytes().iter().all(|t| *t < 8 && types >> t & 1 != 0)
}

/// Types UC, WC, WT, WP, WB.
const MTRR_TYPES: u8 = 0b0111_0011;
/// And UC-.
const PAT_TYPES: u8 = 0b1111_0011;

impl Msrs {
    /// The cell of a stored MTRR.
    fn mtrr(&mut self, msr: u32) -> Option<&mut u64> {
        match msr {
            MTRR_PHYS..=0x20f => self.mtrr_phys.get_mut((msr - MTRR_PHYS) as usize),
            MTRR_FIX_64K => self.mtrr_fix.get_mut(0),
            MTRR_FIX_16K..=0x259 => self.mtrr_fix.get_mut((msr - MTRR_FIX_16K) as usize + 1),
            MTRR_FIX_4K..=0x26f => self.mtrr_fix.get_mut((msr - MTRR_FIX_4K) as usize + 3),
            MTRR_DEF_TYPE => Some(&mut self.mtrr_def_type),
            _ => None,
        }
    }

    /// MTRRs on, and all memory write-back: where no firmware sets them up.
    pub(crate) fn cache_everything(&mut self) {
        self.mtrr_def_type = 0x806;
    }

    /// What our firmware has done on a processor that it does not run on.
    pub(crate) fn cache_as_firmware(&mut self, hole: u32, physical_bits: u8) {
        for (msr, value) in bios::memory_types(hole, physical_bits) {
            if let Some(cell) = self.mtrr(msr) {
                *cell = value;
            }
        }
    }

    fn write_mtrr(&mut self, msr: u32, value: u64, physical_bits: u8) -> Result<(), Fault> {
        let address = (1u64 << physical_bits) - 1;
        // SDM 3A "Memory Type Range Registers (MTRRs)": reserved bits and types fault.
        let legal = match msr {
            MTRR_DEF_TYPE => value & !0xcff == 0 && types_are(value & 7, MTRR_TYPES),
            MTRR_FIX_64K..=0x26f => types_are(value, MTRR_TYPES),
            _ if msr & 1 == 0 => value & !address & !0xff == 0 && value & 0xf00 == 0,
            _ => value & !address == 0 && value & 0x7ff == 0,
        };
        let cell = self.mtrr(msr).ok_or(Fault::GP0)?;
        if !legal {
            return Err(Fault::GP0);
        }
        *cell = value;
        Ok(())
    }

    pub(crate) fn log_unknown(&mut self, vcpu: usize, msr: u32, write: Option<u64>) {
        if self.unknown.contains(&msr) {
            return;
        }
        if let Some(slot) = self.unknown.iter_mut().find(|slot| **slot == 0) {
            *slot = msr;
            match write {
                Some(value) => log::info!("vcpu {vcpu}: WRMSR {msr:#x} = {value:#x}: unknown, #GP"),
                None => log::info!("vcpu {vcpu}: RDMSR {msr:#x}: unknown, #GP"),
            }
        }
    }
}

impl Machine {
    /// RDMSR.
    pub(crate) fn read_msr<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &V,
        host: &H,
        msr: u32,
    ) -> Result<u64, Fault> {
        let reg = |reg| Ok(vcpu.reg(reg));
        match msr {
            EFER => reg(SysReg::Efer),
            APIC_BASE => Ok(cpu.lapic.base()),
            X2APIC_FIRST..=X2APIC_LAST => {
                cpu.lapic.read_msr(msr, self.now(host)).map_err(|_| Fault::GP0)
            }
            TSC_DEADLINE => Ok(cpu.lapic.tsc_deadline(self.now(host))),
            TSC => Ok(host.tsc().wrapping_add(vcpu.reg(SysReg::TscOffset))),
            TSC_ADJUST => Ok(cpu.msrs.tsc_adjust),
            STAR => reg(SysReg::Star),
            LSTAR => reg(SysReg::Lstar),
            CSTAR => reg(SysReg::Cstar),
            SFMASK => reg(SysReg::Sfmask),
            KERNEL_GS_BASE => reg(SysReg::KernelGsBase),
            FS_BASE => Ok(vcpu.segment(arch::SegReg::Fs).base),
            GS_BASE => Ok(vcpu.segment(arch::SegReg::Gs).base),
            SYSENTER_CS => reg(SysReg::SysenterCs),
            SYSENTER_ESP => reg(SysReg::SysenterEsp),
            SYSENTER_EIP => reg(SysReg::SysenterEip),
            PAT => reg(SysReg::Pat),
            DEBUGCTL => reg(SysReg::DebugCtl),
            TSC_AUX if self.cpuid.has_extended(27) => Ok(cpu.msrs.tsc_aux),
            // Eight variable ranges, fixed ranges, write-combining.
            MTRRCAP => Ok(0x500 | MTRR_PAIRS as u64),
            MTRR_PHYS..=0x20f
            | MTRR_FIX_64K
            | MTRR_FIX_16K..=0x259
            | MTRR_FIX_4K..=0x26f
            | MTRR_DEF_TYPE => cpu.msrs.mtrr(msr).map(|cell| *cell).ok_or(Fault::GP0),
            MISC_ENABLE => Ok(cpu.msrs.misc_enable),
            // Where the hypercall page is cannot be read.
            _ if self.is_hypercall_msr(msr) => Ok(0),
            // Locked, VMX off.
            FEATURE_CONTROL => Ok(1),
            PLATFORM_ID | MCG_CAP | MCG_STATUS | BIOS_UPDT_TRIG => Ok(0),
            // A revision newer than any erratum list asks for.
            BIOS_SIGN_ID => Ok(0x0100_0065_u64 << 32),
            PLATFORM_INFO => Ok(0),
            SYSCFG if self.cpuid.is_amd() => Ok(0),
            HWCR if self.cpuid.is_amd() => Ok(cpu.msrs.hwcr | 1 << 24),
            // SVM disabled and locked.
            VM_CR if self.cpuid.is_amd() => Ok(0x18),
            _ if self.is_quiet_amd_msr(msr) => Ok(0),
            _ => match &self.viridian {
                Some(known) if viridian::MSRS.contains(&msr) => {
                    self.read_viridian_msr(known, (cpu, vcpu), host, msr)
                }
                _ => {
                    cpu.msrs.log_unknown(cpu.id, msr, None);
                    Err(Fault::GP0)
                }
            },
        }
    }

    /// Whether it is the MSR of Xen's hypercall page.
    fn is_hypercall_msr(&self, msr: u32) -> bool {
        let own = if self.viridian.is_some() { HYPERCALL_MSR_VIRIDIAN } else { HYPERCALL_MSR };
        msr == own && self.xen.is_some()
    }

    /// AMD registers that systems touch without asking CPUID: read as 0, writes ignored. Linux
    /// reads them in `amd.c` and `k8` probing; Windows reads the performance counters.
    fn is_quiet_amd_msr(&self, msr: u32) -> bool {
        self.cpuid.is_amd()
            && matches!(msr,
                0xc001_0000..=0xc001_0007 // performance counters
                | 0xc001_001f // NB_CFG
                | 0xc001_0055 // interrupt pending message
                | 0xc001_0058 // MMIO configuration base
                | 0xc001_0112 | 0xc001_0113 // SMM address and mask
                | 0xc001_0140 | 0xc001_0141 // OSVW
                | 0xc001_1020..=0xc001_102d // LS, IC, DC, DE configuration
            )
    }

    /// WRMSR.
    pub(crate) fn write_msr<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        msr: u32,
        value: u64,
    ) -> Result<(), Fault> {
        let canonical = (value as i64) << 16 >> 16 == value as i64;
        match msr {
            TSC_DEADLINE => {
                let offset = vcpu.reg(SysReg::TscOffset);
                let at = self.clock.nanos(value.wrapping_sub(offset));
                let effect = cpu.lapic.write_tsc_deadline(value, at);
                self.lapic_effect(cpu, host, effect);
            }
            APIC_BASE => {
                let (mode, page) = (cpu.lapic.mode(), cpu.lapic_page);
                cpu.lapic.write_base(value).map_err(|_| Fault::GP0)?;
                cpu.lapic_page = cpu.lapic.page().map_or(u64::MAX, |page| page >> 12);
                cpu.apic_shown &= (cpu.lapic.mode(), cpu.lapic_page) == (mode, page);
                self.lapic_effect(cpu, host, LapicEffect::Address);
            }
            X2APIC_FIRST..=X2APIC_LAST => {
                let effect = cpu.lapic.write_msr(msr, value, self.now(host));
                self.lapic_effect(cpu, host, effect.map_err(|_| Fault::GP0)?);
                if msr == X2APIC_FIRST + u32::from(SVR) {
                    cpu.apic_shown = false;
                    self.reassert_upcall(cpu);
                }
            }
            EFER => return self.write_efer(vcpu, value),
            TSC => {
                let old = vcpu.reg(SysReg::TscOffset);
                let new = value.wrapping_sub(host.tsc());
                cpu.msrs.tsc_adjust = cpu.msrs.tsc_adjust.wrapping_add(new.wrapping_sub(old));
                self.move_tsc(cpu, vcpu, new);
            }
            TSC_ADJUST => {
                let delta = value.wrapping_sub(cpu.msrs.tsc_adjust);
                cpu.msrs.tsc_adjust = value;
                let old = vcpu.reg(SysReg::TscOffset);
                self.move_tsc(cpu, vcpu, old.wrapping_add(delta));
            }
            STAR => vcpu.set_reg(SysReg::Star, value),
            SFMASK => vcpu.set_reg(SysReg::Sfmask, value & 0xffff_ffff),
            SYSENTER_CS => vcpu.set_reg(SysReg::SysenterCs, value),
            LSTAR | CSTAR | KERNEL_GS_BASE | FS_BASE | GS_BASE | SYSENTER_ESP | SYSENTER_EIP
                if !canonical =>
            {
                return Err(Fault::GP0);
            }
            LSTAR => vcpu.set_reg(SysReg::Lstar, value),
            CSTAR => vcpu.set_reg(SysReg::Cstar, value),
            KERNEL_GS_BASE => vcpu.set_reg(SysReg::KernelGsBase, value),
            SYSENTER_ESP => vcpu.set_reg(SysReg::SysenterEsp, value),
            SYSENTER_EIP => vcpu.set_reg(SysReg::SysenterEip, value),
            FS_BASE | GS_BASE => {
                let reg = if msr == FS_BASE { arch::SegReg::Fs } else { arch::SegReg::Gs };
                let segment = vcpu.segment(reg);
                vcpu.set_segment(reg, arch::Segment { base: value, ..segment });
            }
            PAT if types_are(value, PAT_TYPES) => vcpu.set_reg(SysReg::Pat, value),
            PAT => return Err(Fault::GP0),
            // Branch tracing and LBR are not offered.
            DEBUGCTL if value & !0b11 == 0 => vcpu.set_reg(SysReg::DebugCtl, value & 2),
            TSC_AUX if self.cpuid.has_extended(27) && value >> 32 == 0 => {
                cpu.msrs.tsc_aux = value;
            }
            MTRR_PHYS..=0x20f
            | MTRR_FIX_64K
            | MTRR_FIX_16K..=0x259
            | MTRR_FIX_4K..=0x26f
            | MTRR_DEF_TYPE => {
                return cpu.msrs.write_mtrr(msr, value, self.cpuid.physical_bits());
            }
            MISC_ENABLE => cpu.msrs.misc_enable = value,
            BIOS_UPDT_TRIG | BIOS_SIGN_ID | MCG_STATUS => {}
            SYSCFG | VM_CR if self.cpuid.is_amd() => {}
            HWCR if self.cpuid.is_amd() => cpu.msrs.hwcr = value & !(1 << 24),
            _ if self.is_quiet_amd_msr(msr) => {}
            _ if self.is_hypercall_msr(msr) => return self.write_hypercall_page(value),
            _ => match &self.viridian {
                Some(known) if viridian::MSRS.contains(&msr) => {
                    return self.write_viridian_msr(known, (cpu, vcpu), host, (msr, value));
                }
                _ => {
                    cpu.msrs.log_unknown(cpu.id, msr, Some(value));
                    return Err(Fault::GP0);
                }
            },
        }
        Ok(())
    }

    /// A guest moves its TSC: what Xen's clock says of it moves along.
    fn move_tsc<V: Vcpu>(&self, cpu: &Cpu, vcpu: &mut V, offset: u64) {
        vcpu.set_reg(SysReg::TscOffset, offset);
        if let Some(xen) = &self.xen {
            self.write_time(xen, cpu.id, offset);
        }
    }

    /// EFER: only bits that CPUID reports; LME not while paging (SDM 3A "IA-32e Mode Operation").
    fn write_efer<V: Vcpu>(&self, vcpu: &mut V, value: u64) -> Result<(), Fault> {
        let old = vcpu.reg(SysReg::Efer);
        let paging = vcpu.reg(SysReg::Cr0) & cr0::PG != 0;
        if value & !self.efer_bits() != 0 || (paging && (old ^ value) & efer::LME != 0) {
            return Err(Fault::GP0);
        }
        // LMA is the CPU's own.
        vcpu.set_reg(SysReg::Efer, value & !efer::LMA | old & efer::LMA);
        Ok(())
    }

    /// Bits of EFER that CPUID reports, and LMA.
    pub(crate) fn efer_bits(&self) -> u64 {
        let mut allowed = efer::LMA | efer::SCE;
        if self.cpuid.has_extended(29) {
            allowed |= efer::LME;
        }
        if self.cpuid.has_extended(20) {
            allowed |= efer::NXE;
        }
        if self.cpuid.has_extended(25) {
            allowed |= efer::FFXSR;
        }
        allowed
    }

    /// Carries out what a local APIC asks for.
    pub(crate) fn lapic_effect<H: Host>(&self, cpu: &mut Cpu, host: &H, effect: LapicEffect) {
        match effect {
            // A request that waits may be taken now, or be held back by the new priority.
            LapicEffect::Nothing => cpu.attention |= cpu.lapic.has_requests(),
            LapicEffect::Timer => {
                cpu.lapic_due = cpu.lapic.due();
                cpu.attention = true;
            }
            LapicEffect::Address => {
                self.publish_address(cpu);
                cpu.attention = true;
            }
            LapicEffect::EndOfInterrupt(vector) => {
                cpu.attention = true;
                self.end_of_interrupt(host, vector);
            }
            LapicEffect::Send(ipi) => self.send_ipi(cpu, host, &ipi),
        }
    }
}
