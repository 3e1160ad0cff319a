//! A vCPU's state after power-on, INIT and start-up (SDM 3A "Processor State After Reset", APM2
//! "Processor Initialization State").

use arch::control::{cr0, rflags};
use arch::{Blocking, SegReg, Segment, SysReg, Vcpu};

/// Family, model and stepping in EDX after reset; what firmware sees before CPUID.
const SIGNATURE: u64 = 0x600;

/// Segments of PVH's start: flat, 32 bits, code that can be read and data that can be written.
const FLAT_CODE: Segment = Segment { selector: 8, base: 0, limit: u32::MAX, access: 0xc09b };
const FLAT_DATA: Segment = Segment { selector: 16, base: 0, limit: u32::MAX, access: 0xc093 };
/// A busy 32-bit task state.
const TASK: Segment = Segment { selector: 0, base: 0, limit: 0x67, access: 0x8b };

/// What the first vCPU of a PVH guest starts with (Xen docs "misc/pvh"): protected mode without paging, interrupts closed,
/// EBX at the start info record.
pub fn pvh_start<V: Vcpu>(vcpu: &mut V, entry: u32, info: u64) {
    vcpu.set_reg(SysReg::Cr0, cr0::ET | cr0::PE);
    vcpu.set_segment(SegReg::Cs, FLAT_CODE);
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        vcpu.set_segment(reg, FLAT_DATA);
    }
    vcpu.set_segment(SegReg::Tr, TASK);
    vcpu.gprs_mut().set_rdx(0);
    vcpu.gprs_mut().set_rbx(info);
    vcpu.set_rip(entry.into());
}

/// State after INIT: as after power-on, but CR0.CD and NW, FPU and MSRs stay.
pub fn init<V: Vcpu>(vcpu: &mut V) {
    for n in arch::Gpr::ALL {
        vcpu.gprs_mut().set(n, 0);
    }
    vcpu.gprs_mut().set_rdx(SIGNATURE);
    let kept = vcpu.reg(SysReg::Cr0) & (cr0::CD | cr0::NW);
    vcpu.set_reg(SysReg::Cr0, cr0::ET | kept);
    for reg in [SysReg::Cr2, SysReg::Cr3, SysReg::Cr4, SysReg::Cr8, SysReg::Efer] {
        vcpu.set_reg(reg, 0);
    }
    vcpu.set_reg(SysReg::Dr6, 0xffff_0ff0);
    vcpu.set_reg(SysReg::Dr7, 0x400);
    let code = Segment { selector: 0xf000, base: 0xffff_0000, ..Segment::real_code(0) };
    vcpu.set_segment(SegReg::Cs, code);
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        vcpu.set_segment(reg, Segment::real_data(0));
    }
    let table = Segment { selector: 0, base: 0, limit: 0xffff, access: 0 };
    vcpu.set_segment(SegReg::Gdtr, table);
    vcpu.set_segment(SegReg::Idtr, table);
    vcpu.set_segment(SegReg::Ldtr, Segment { access: 0x82, ..table });
    vcpu.set_segment(SegReg::Tr, Segment { access: 0x8b, ..table });
    vcpu.set_rflags(rflags::FIXED);
    vcpu.set_rip(0xfff0);
    vcpu.set_blocking(Blocking::default());
    vcpu.inject(None);
    vcpu.request_window(false, false, 0);
    vcpu.withdraw();
    vcpu.flush_tlb();
}

/// State after power-on.
pub fn power_on<V: Vcpu>(vcpu: &mut V) {
    vcpu.set_reg(SysReg::Cr0, cr0::ET | cr0::CD | cr0::NW);
    init(vcpu);
    for reg in [
        SysReg::Star,
        SysReg::Lstar,
        SysReg::Cstar,
        SysReg::Sfmask,
        SysReg::KernelGsBase,
        SysReg::SysenterCs,
        SysReg::SysenterEsp,
        SysReg::SysenterEip,
        SysReg::DebugCtl,
    ] {
        vcpu.set_reg(reg, 0);
    }
    // SDM 3A "IA32_PAT MSR": the entries after reset.
    vcpu.set_reg(SysReg::Pat, 0x0007_0406_0007_0406);
}

/// Start-up: real mode at page `page` (SDM 3A "MP Initialization Protocol Algorithm").
pub fn start_up<V: Vcpu>(vcpu: &mut V, page: u8) {
    let selector = u16::from(page) << 8;
    vcpu.set_segment(SegReg::Cs, Segment::real_code(selector));
    vcpu.set_rip(0);
}
