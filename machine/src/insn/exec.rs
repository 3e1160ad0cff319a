//! Executes an [`Insn`] on a vCPU: registers and flags by the [`Vcpu`] trait, memory by [`Memory`].

use super::alu::{alu, condition, inc_dec, mask, multiply, shift, sign_extend};
use super::string;
use super::{Alu, BitOp, Insn, Memory, Op, Place, Trap};
use arch::control::{cr0, efer, rflags};
use arch::{Access, Fault, Gpr, Gprs, SegReg, Segment, SysReg, Vcpu};

/// How far an instruction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Done: RIP moves past it.
    Done,
    /// A string instruction used up its budget: registers stand at the next element, RIP stays.
    Partial,
}

/// Default operation size of the code segment in bits: 16, 32 or 64.
#[must_use]
pub fn code_bits<V: Vcpu>(vcpu: &V) -> u32 {
    let access = vcpu.segment(SegReg::Cs).access;
    if vcpu.reg(SysReg::Efer) & efer::LMA != 0 && access & Segment::L != 0 {
        64
    } else if access & Segment::DB != 0 && vcpu.reg(SysReg::Cr0) & cr0::PE != 0 {
        32
    } else {
        16
    }
}

/// Current privilege level: DPL of SS (APM2 "VMCB State Save Area", SDM 3C "Guest Register State").
#[must_use]
pub fn cpl<V: Vcpu>(vcpu: &V) -> u8 {
    vcpu.segment(SegReg::Ss).dpl()
}

/// Executes one instruction.
///
/// # Errors
/// [`Trap`]; the vCPU is then as before (a repeated string instruction stands at the element that
/// trapped, as on the CPU).
pub fn execute<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
) -> Result<Progress, Trap> {
    if let Op::Str(op) = insn.op {
        return string::execute(vcpu, memory, insn, op);
    }
    let width = insn.width;
    let flags = vcpu.rflags();
    match insn.op {
        Op::Mov => {
            let value = load(vcpu, memory, insn, insn.src, width)?;
            store(vcpu, memory, insn, insn.dst, width, value)?;
        }
        Op::Movzx(from) => {
            let value = load(vcpu, memory, insn, insn.src, from)?;
            store(vcpu, memory, insn, insn.dst, width, value)?;
        }
        Op::Movsx(from) => {
            let value = sign_extend(load(vcpu, memory, insn, insn.src, from)?, from);
            store(vcpu, memory, insn, insn.dst, width, value)?;
        }
        Op::Alu(op) => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let b = load(vcpu, memory, insn, insn.src, width)?;
            let (result, flags) = alu(op, a, b, width, flags);
            if !matches!(op, Alu::Cmp | Alu::Test) {
                store(vcpu, memory, insn, insn.dst, width, result)?;
            }
            vcpu.set_rflags(flags);
        }
        Op::Inc | Op::Dec => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let op = if insn.op == Op::Inc { Alu::Add } else { Alu::Sub };
            let (result, flags) = inc_dec(op, a, width, flags);
            store(vcpu, memory, insn, insn.dst, width, result)?;
            vcpu.set_rflags(flags);
        }
        Op::Not => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            store(vcpu, memory, insn, insn.dst, width, !a)?;
        }
        Op::Neg => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let (result, flags) = alu(Alu::Sub, 0, a, width, flags);
            store(vcpu, memory, insn, insn.dst, width, result)?;
            vcpu.set_rflags(flags);
        }
        Op::Shift(op) => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let count = load(vcpu, memory, insn, insn.src, 1)?;
            let (result, flags) = shift(op, a, count, width, flags);
            store(vcpu, memory, insn, insn.dst, width, result)?;
            vcpu.set_rflags(flags);
        }
        Op::Imul { immediate } => {
            let a = load(vcpu, memory, insn, insn.src, width)?;
            let b = load(vcpu, memory, insn, if immediate { Place::Imm } else { insn.dst }, width)?;
            let (product, flags) = multiply(a, b, width, flags);
            store(vcpu, memory, insn, insn.dst, width, product)?;
            vcpu.set_rflags(flags);
        }
        Op::Bsf | Op::Bsr => {
            let value = load(vcpu, memory, insn, insn.src, width)?;
            if value == 0 {
                // The destination stays (APM3 "BSF"; Intel's CPUs do so without saying).
                vcpu.set_rflags(flags | rflags::ZF);
                return Ok(Progress::Done);
            }
            let found = if insn.op == Op::Bsf { value.trailing_zeros() } else { value.ilog2() };
            store(vcpu, memory, insn, insn.dst, width, found.into())?;
            vcpu.set_rflags(flags & !rflags::ZF);
        }
        Op::Xchg => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let b = load(vcpu, memory, insn, insn.src, width)?;
            store_memory_first(vcpu, memory, insn, (insn.dst, b), (insn.src, a))?;
        }
        Op::Xadd => {
            let a = load(vcpu, memory, insn, insn.dst, width)?;
            let b = load(vcpu, memory, insn, insn.src, width)?;
            let (sum, flags) = alu(Alu::Add, a, b, width, flags);
            store(vcpu, memory, insn, insn.dst, width, sum)?;
            if insn.dst != insn.src {
                store(vcpu, memory, insn, insn.src, width, a)?;
            }
            vcpu.set_rflags(flags);
        }
        Op::Cmpxchg => compare_exchange(vcpu, memory, insn)?,
        Op::Bit(op) => bit(vcpu, memory, insn, op)?,
        Op::Setcc(cc) => {
            let value = condition(cc, flags).into();
            store(vcpu, memory, insn, insn.dst, 1, value)?;
        }
        Op::Cmov(cc) => {
            let value = load(vcpu, memory, insn, insn.src, width)?;
            let old = load(vcpu, memory, insn, insn.dst, width)?;
            let value = if condition(cc, flags) { value } else { old };
            store(vcpu, memory, insn, insn.dst, width, value)?;
        }
        Op::Push => push(vcpu, memory, insn)?,
        Op::Pop => pop(vcpu, memory, insn)?,
        Op::Str(_)
        | Op::Clts
        | Op::Lmsw
        | Op::Smsw
        | Op::Ltr
        | Op::Retf
        | Op::JmpFar
        | Op::Other => {
            return Err(Trap::Unsupported);
        }
    }
    Ok(Progress::Done)
}

/// Linear address of `offset` in a segment; wraps at 32 bits outside 64-bit mode.
#[must_use]
pub fn linear<V: Vcpu>(vcpu: &V, segment: SegReg, offset: u64) -> u64 {
    if vcpu.reg(SysReg::Efer) & efer::LMA != 0 && code_bits(vcpu) == 64 {
        return match segment {
            SegReg::Fs | SegReg::Gs => vcpu.segment(segment).base.wrapping_add(offset),
            _ => offset,
        };
    }
    vcpu.segment(segment).base.wrapping_add(offset) & 0xffff_ffff
}

/// Linear address of the memory operand.
#[must_use]
pub fn operand_address<V: Vcpu>(vcpu: &V, insn: &Insn) -> u64 {
    let gprs = vcpu.gprs();
    let mut offset = insn.displacement;
    if let Some(base) = insn.base {
        offset = offset.wrapping_add(gprs.get(base));
    }
    if let Some(index) = insn.index {
        offset = offset.wrapping_add(gprs.get(index).wrapping_mul(insn.scale.into()));
    }
    linear(vcpu, insn.segment, offset & mask(insn.address_size))
}

/// Reads a register operand, zero-extended from `width` bytes.
#[must_use]
pub fn register(gprs: &Gprs, place: Place, width: u8) -> Option<u64> {
    match place {
        Place::Reg(gpr) => Some(gprs.get(gpr) & mask(width)),
        Place::High(gpr) => Some(gprs.get(gpr) >> 8 & 0xff),
        _ => None,
    }
}

fn load<V: Vcpu, M: Memory>(
    vcpu: &V,
    memory: &mut M,
    insn: &Insn,
    place: Place,
    width: u8,
) -> Result<u64, Trap> {
    match place {
        Place::Reg(_) | Place::High(_) => {
            register(vcpu.gprs(), place, width).ok_or(Trap::Unsupported)
        }
        Place::Mem => {
            // A locked or read-modify-write operand is checked for writing at once.
            let writes = insn.dst == Place::Mem
                && place == insn.dst
                && !matches!(insn.op, Op::Alu(Alu::Cmp | Alu::Test) | Op::Bit(BitOp::Test));
            let access = if writes { Access::WRITE } else { Access::READ };
            memory.read(operand_address(vcpu, insn), width, access)
        }
        Place::Imm => Ok(insn.imm & mask(width)),
        Place::Seg(reg) => Ok(vcpu.segment(reg).selector.into()),
        Place::None | Place::Cr(_) | Place::Dr(_) => Err(Trap::Unsupported),
    }
}

fn store<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    place: Place,
    width: u8,
    value: u64,
) -> Result<(), Trap> {
    match place {
        Place::Reg(gpr) => vcpu.gprs_mut().set_width(gpr, width, value),
        Place::High(gpr) => {
            let old = vcpu.gprs().get(gpr);
            vcpu.gprs_mut().set(gpr, old & !0xff00 | (value & 0xff) << 8);
        }
        Place::Mem => {
            memory.write(operand_address(vcpu, insn), width, value & mask(width))?;
        }
        _ => return Err(Trap::Unsupported),
    }
    Ok(())
}

/// Stores twice, the memory operand first, so that a fault leaves the register as it was.
fn store_memory_first<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    one: (Place, u64),
    two: (Place, u64),
) -> Result<(), Trap> {
    let (first, second) = if one.0 == Place::Mem { (one, two) } else { (two, one) };
    store(vcpu, memory, insn, first.0, insn.width, first.1)?;
    store(vcpu, memory, insn, second.0, insn.width, second.1)
}

fn compare_exchange<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
) -> Result<(), Trap> {
    let width = insn.width;
    let current = load(vcpu, memory, insn, insn.dst, width)?;
    let accumulator = vcpu.gprs().rax() & mask(width);
    let (_, flags) = alu(Alu::Cmp, accumulator, current, width, vcpu.rflags());
    if flags & rflags::ZF != 0 {
        let new = load(vcpu, memory, insn, insn.src, width)?;
        store(vcpu, memory, insn, insn.dst, width, new)?;
    } else {
        // The CPU writes the old value back (SDM 2A "CMPXCHG").
        store(vcpu, memory, insn, insn.dst, width, current)?;
        vcpu.gprs_mut().set_width(Gpr::Rax, width, current);
    }
    vcpu.set_rflags(flags);
    Ok(())
}

fn bit<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    op: BitOp,
) -> Result<(), Trap> {
    let width = insn.width;
    let bits = u64::from(width) * 8;
    let index = load(vcpu, memory, insn, insn.src, width)?;
    // A register index reaches beyond the operand (SDM 2A "BT").
    let mut insn = *insn;
    if insn.dst == Place::Mem && insn.src != Place::Imm {
        let elements = (sign_extend(index, width) as i64).div_euclid(bits as i64);
        let bytes = elements.wrapping_mul(i64::from(width));
        insn.displacement = insn.displacement.wrapping_add(bytes as u64);
    }
    let old = load(vcpu, memory, &insn, insn.dst, width)?;
    let bit = 1u64 << (index % bits.max(1));
    let flags =
        if old & bit != 0 { vcpu.rflags() | rflags::CF } else { vcpu.rflags() & !rflags::CF };
    let new = match op {
        BitOp::Test => None,
        BitOp::Set => Some(old | bit),
        BitOp::Reset => Some(old & !bit),
        BitOp::Complement => Some(old ^ bit),
    };
    if let Some(new) = new {
        store(vcpu, memory, &insn, insn.dst, width, new)?;
    }
    vcpu.set_rflags(flags);
    Ok(())
}

/// Bytes of the stack pointer: 2, 4 or 8.
#[must_use]
pub fn stack_size<V: Vcpu>(vcpu: &V) -> u8 {
    if code_bits(vcpu) == 64 {
        8
    } else if vcpu.segment(SegReg::Ss).access & Segment::DB != 0 {
        4
    } else {
        2
    }
}

fn push<V: Vcpu, M: Memory>(vcpu: &mut V, memory: &mut M, insn: &Insn) -> Result<(), Trap> {
    let value = match insn.src {
        Place::Imm => insn.imm,
        place => load(vcpu, memory, insn, place, insn.width)?,
    };
    let size = stack_size(vcpu);
    let sp = vcpu.gprs().rsp().wrapping_sub(insn.width.into()) & mask(size);
    let at = linear(vcpu, SegReg::Ss, sp);
    memory.write(at, insn.width, value & mask(insn.width))?;
    vcpu.gprs_mut().set_width(Gpr::Rsp, size, sp);
    Ok(())
}

fn pop<V: Vcpu, M: Memory>(vcpu: &mut V, memory: &mut M, insn: &Insn) -> Result<(), Trap> {
    if matches!(insn.dst, Place::Seg(_)) {
        return Err(Trap::Unsupported);
    }
    let size = stack_size(vcpu);
    let old = vcpu.gprs().rsp();
    let at = linear(vcpu, SegReg::Ss, old & mask(size));
    let value = memory.read(at, insn.width, Access::READ)?;
    // The destination's address is computed with the new stack pointer (SDM 2B "POP").
    let sp = old.wrapping_add(insn.width.into());
    vcpu.gprs_mut().set_width(Gpr::Rsp, size, sp);
    store(vcpu, memory, insn, insn.dst, insn.width, value).inspect_err(|_| {
        vcpu.gprs_mut().set_rsp(old);
    })
}

/// #GP(0) or #SS(0) where `offset` to `offset + width` passes the segment's limit outside 64-bit mode.
///
/// # Errors
/// The fault.
pub fn check_limit<V: Vcpu>(vcpu: &V, reg: SegReg, offset: u64, width: u8) -> Result<(), Fault> {
    if code_bits(vcpu) == 64 {
        return Ok(());
    }
    let segment = vcpu.segment(reg);
    let last = offset.saturating_add(u64::from(width).saturating_sub(1));
    // Data segments that expand down: valid above the limit (SDM 3A "Limit Checking").
    let expand_down = segment.access & 0b1_1100 == 0b1_0100;
    let top = if segment.access & Segment::DB != 0 { 0xffff_ffff } else { 0xffff };
    let inside = if expand_down {
        offset > segment.limit.into() && last <= top
    } else {
        last <= segment.limit.into()
    };
    if inside {
        return Ok(());
    }
    Err(if reg == SegReg::Ss { Fault::SS0 } else { Fault::GP0 })
}
