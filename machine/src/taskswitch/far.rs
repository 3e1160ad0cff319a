//! RETF and far JMP to a code segment whose descriptor lies in a table in ROM; see `loads`.
//!
//! Within one privilege level, as firmware goes from one mode to the next. Gates, returns to an outer level, far
//! CALL and IRET are left out.

use super::loads;
use super::segments::{ACCESSED, CODE, CONFORMING, S};
use super::tables::Tables;
use crate::Machine;
use crate::cpu::Cpu;
use crate::exit::trap_single_step;
use crate::guestmem::GuestMemory;
use crate::host::Host;
use crate::insn::alu::mask;
use crate::insn::exec::{cpl, linear, operand_address, stack_size};
use crate::insn::{Insn, Memory, Op, Place, Trap};
use arch::control::efer;
use arch::event::vector;
use arch::{Access, Fault, Gpr, Resume, SegReg, Segment, SysReg, Vcpu};

impl Machine {
    /// Carries out `insn` if it is such a transfer.
    pub(super) fn transfer<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        insn: &Insn,
    ) -> Result<Resume, Trap> {
        let mut memory = GuestMemory::new(self, cpu, vcpu, host);
        let width = u64::from(insn.width);
        let at = match (insn.op, insn.src) {
            (Op::Retf, _) => {
                Some(linear(vcpu, SegReg::Ss, vcpu.gprs().rsp() & mask(stack_size(vcpu))))
            }
            (_, Place::Mem) => Some(operand_address(vcpu, insn)),
            _ => None,
        };
        let (offset, selector) = match at {
            Some(at) => (
                memory.read(at, insn.width, Access::READ)?,
                memory.read(at.wrapping_add(width), 2, Access::READ)? as u16,
            ),
            None => (insn.imm & 0xffff_ffff, (insn.imm >> 32) as u16),
        };
        let mut tables = Tables::new(self, cpu, vcpu, host);
        let cs = code(vcpu, &mut tables, insn.op == Op::Retf, selector)?;
        let wide = cs.access & Segment::L != 0 && vcpu.reg(SysReg::Efer) & efer::LMA != 0;
        let canonical = (offset as i64) << 16 >> 16 == offset as i64;
        if if wide { !canonical } else { offset > cs.limit.into() } {
            return Err(Fault::GP0.into());
        }
        if insn.op == Op::Retf {
            let rsp = vcpu.gprs().rsp().wrapping_add(2 * width + insn.imm);
            let size = stack_size(vcpu);
            vcpu.gprs_mut().set_width(Gpr::Rsp, size, rsp);
        }
        vcpu.set_segment(SegReg::Cs, cs);
        vcpu.set_rip(offset);
        trap_single_step(vcpu);
        Ok(Resume::Again)
    }
}

/// The code segment, checked as by SDM 2A "JMP" and 2B "RET".
fn code<V: Vcpu, H: Host>(
    vcpu: &V,
    tables: &mut Tables<'_, H>,
    returns: bool,
    selector: u16,
) -> Result<Segment, Trap> {
    let wrong = loads::fault(vector::GP, selector);
    let (mut segment, at) = tables.find(vcpu, selector, wrong)?;
    let (cpl, rpl) = (cpl(vcpu), (selector & 3) as u8);
    if segment.access & S == 0 || (returns && rpl > cpl) {
        return Err(Trap::Unsupported);
    }
    let conforming = segment.access & CONFORMING != 0;
    let privileged = if conforming { segment.dpl() <= cpl } else { segment.dpl() == cpl };
    let long = vcpu.reg(SysReg::Efer) & efer::LMA != 0;
    let both = Segment::L | Segment::DB;
    if segment.access & CODE == 0
        || !privileged
        // A JMP to conforming code does not look at the selector's RPL.
        || (!conforming && rpl > cpl)
        || (returns && rpl != cpl)
        || (long && segment.access & both == both)
    {
        return Err(wrong.into());
    }
    if segment.access & Segment::P == 0 {
        return Err(loads::fault(vector::NP, selector).into());
    }
    tables.change_type(at, 0, ACCESSED)?;
    segment.access |= ACCESSED;
    segment.selector = selector & !3 | u16::from(cpl);
    Ok(segment)
}
