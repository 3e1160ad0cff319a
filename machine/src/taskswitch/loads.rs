//! LTR and MOV to a segment register whose descriptor lies where writes go nowhere: a table in ROM.
//!
//! The CPU marks a TSS busy and a segment accessed in its descriptor. On a PC such a write to ROM has no
//! effect and the load goes on; here it is a fault on the second-level table. Firmware such as U-Boot's 64-bit
//! SPL does so, and goes on to 64-bit code by a RETF (`far`). POP, LDS and their kin are left out.

use super::segments::{ACCESSED, CODE, CONFORMING, S, WRITABLE};
use super::tables::Tables;
use super::tss::{BUSY, Format};
use crate::Machine;
use crate::cpu::Cpu;
use crate::guestmem::{GuestMemory, finish};
use crate::host::Host;
use crate::insn::exec::{cpl, operand_address};
use crate::insn::{Insn, Memory, Op, Place, Trap};
use arch::control::{cr0, efer, rflags};
use arch::event::vector;
use arch::{Access, Fault, Resume, SegReg, Segment, SysReg, Vcpu};

impl Machine {
    /// Carries out `insn` if it is such a load; `None` for all others.
    #[cold]
    #[inline(never)]
    pub(crate) fn load_segment<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        insn: &Insn,
    ) -> Option<Resume> {
        if vcpu.reg(SysReg::Cr0) & cr0::PE == 0 || vcpu.rflags() & rflags::VM != 0 {
            return None;
        }
        let reg = match (insn.op, insn.dst) {
            (Op::Ltr, _) => SegReg::Tr,
            (Op::Mov, Place::Seg(reg)) if reg != SegReg::Cs => reg,
            (Op::Retf | Op::JmpFar, _) => {
                return match self.transfer(cpu, vcpu, host, insn) {
                    Ok(resume) => Some(resume),
                    Err(Trap::Unsupported) => None,
                    Err(trap) => Some(finish(Err(trap), insn)),
                };
            }
            _ => return None,
        };
        let selector = match insn.src {
            Place::Reg(gpr) => vcpu.gprs().get(gpr) as u16,
            _ => {
                let at = operand_address(vcpu, insn);
                let mut memory = GuestMemory::new(self, cpu, vcpu, host);
                match memory.read(at, 2, Access::READ) {
                    Ok(value) => value as u16,
                    Err(trap) => return Some(finish(Err(trap), insn)),
                }
            }
        };
        let mut tables = Tables::new(self, cpu, vcpu, host);
        let found = match reg {
            SegReg::Tr => task(vcpu, &mut tables, selector),
            _ => segment(vcpu, &mut tables, reg, selector),
        };
        let loaded = match found {
            Ok(loaded) => loaded,
            Err(fault) => return Some(Resume::Raise(fault)),
        };
        vcpu.set_segment(reg, loaded);
        if reg != SegReg::Ss {
            return Some(Resume::Skip(insn.len));
        }
        // SDM 2B "MOV": no interrupt comes between it and the next instruction.
        self.skip(vcpu, insn.len);
        let mut blocking = vcpu.blocking();
        blocking.shadow = true;
        vcpu.set_blocking(blocking);
        Some(Resume::Again)
    }
}

// The CPU has made these checks before it wrote (SDM 2A "LTR", 2B "MOV"). They guard against a guest that
// changes code or tables meanwhile.

/// An exception that names a selector.
pub(super) fn fault(vector: u8, selector: u16) -> Fault {
    Fault::with_code(vector, u32::from(selector & !3))
}

fn task<V: Vcpu, H: Host>(
    vcpu: &V,
    tables: &mut Tables<'_, H>,
    selector: u16,
) -> Result<Segment, Fault> {
    if cpl(vcpu) != 0 {
        return Err(Fault::GP0);
    }
    let wrong = fault(vector::GP, selector);
    if selector & 4 != 0 {
        return Err(wrong);
    }
    let (mut tr, at) = tables.find(vcpu, selector, wrong)?;
    let busy = tr.access & BUSY != 0;
    tr.access |= BUSY;
    let long = vcpu.reg(SysReg::Efer) & efer::LMA != 0;
    let format = Format::of(&tr).ok_or(wrong)?;
    if busy || (long && format == Format::Bits16) {
        return Err(wrong);
    }
    if tr.access & Segment::P == 0 {
        return Err(fault(vector::NP, selector));
    }
    if long {
        // SDM 3A "TSS Descriptor in 64-bit mode": 16 bytes.
        tr.base |= tables.read(at.wrapping_add(8), 4)? << 32;
    }
    tables.change_type(at, 0, BUSY)?;
    Ok(tr)
}

fn segment<V: Vcpu, H: Host>(
    vcpu: &V,
    tables: &mut Tables<'_, H>,
    reg: SegReg,
    selector: u16,
) -> Result<Segment, Fault> {
    let wrong = fault(vector::GP, selector);
    let (mut segment, at) = tables.find(vcpu, selector, wrong)?;
    let (cpl, rpl) = (cpl(vcpu), (selector & 3) as u8);
    let kind = segment.access & (S | CODE | CONFORMING | WRITABLE);
    let allowed = if reg == SegReg::Ss {
        kind & (S | CODE | WRITABLE) == S | WRITABLE && segment.dpl() == cpl && rpl == cpl
    } else {
        let readable = kind & CODE == 0 || kind & WRITABLE != 0;
        let conforming = kind & (CODE | CONFORMING) == CODE | CONFORMING;
        kind & S != 0 && readable && (conforming || segment.dpl() >= cpl.max(rpl))
    };
    if !allowed {
        return Err(wrong);
    }
    if segment.access & Segment::P == 0 {
        let vector = if reg == SegReg::Ss { vector::SS } else { vector::NP };
        return Err(fault(vector, selector));
    }
    tables.change_type(at, 0, ACCESSED)?;
    segment.access |= ACCESSED;
    Ok(segment)
}
