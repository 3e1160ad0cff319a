//! String instructions, repeated within a budget.

use super::alu::{alu, mask};
use super::exec::{Progress, check_limit, linear};
use super::{Alu, Insn, Memory, Rep, Str, Trap};
use arch::control::rflags::{DF, ZF};
use arch::{Access, Gpr, SegReg, Vcpu};

/// Elements in one go, so that a long REP leaves room for interrupts.
const BUDGET: u32 = 1024;

/// Bytes of a run that goes to or from a device in one piece, at most.
pub const RUN: u64 = 512;

/// Bytes of such runs in one go.
const RUN_BUDGET: u64 = 16 << 10;

/// Executes a string instruction, up to a budget of elements.
///
/// # Errors
/// As [`super::exec::execute`].
pub fn execute<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    op: Str,
) -> Result<Progress, Trap> {
    let size = insn.address_size;
    if insn.rep == Rep::Once {
        element(vcpu, memory, insn, op)?;
        return Ok(Progress::Done);
    }
    let mut done = 0;
    for _ in 0..BUDGET {
        let count = vcpu.gprs().rcx() & mask(size);
        if count == 0 {
            return Ok(Progress::Done);
        }
        let many = run(vcpu, memory, insn, op, count)?;
        if many > 0 {
            vcpu.gprs_mut().set_width(Gpr::Rcx, size, count - many);
            done += many * u64::from(insn.width);
            if done >= RUN_BUDGET {
                break;
            }
            continue;
        }
        element(vcpu, memory, insn, op)?;
        vcpu.gprs_mut().set_width(Gpr::Rcx, size, count - 1);
        if matches!(op, Str::Cmps | Str::Scas) {
            let equal = vcpu.rflags() & ZF != 0;
            if equal != (insn.rep == Rep::WhileEqual) {
                return Ok(Progress::Done);
            }
        }
    }
    let left = vcpu.gprs().rcx() & mask(size);
    Ok(if left == 0 { Progress::Done } else { Progress::Partial })
}

/// As many elements of REP INS or OUTS as go in one piece; 0: none.
fn run<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    op: Str,
    count: u64,
) -> Result<u64, Trap> {
    let (gpr, segment) = match op {
        Str::Ins => (Gpr::Rdi, SegReg::Es),
        Str::Outs => (Gpr::Rsi, insn.segment),
        _ => return Ok(0),
    };
    let (size, width) = (mask(insn.address_size), u64::from(insn.width));
    let offset = vcpu.gprs().get(gpr) & size;
    // Neither beyond the end of the address size nor, a piece being less than a page, of the segment.
    let fits = ((size - offset) / width).min(count).min(RUN / width);
    let last = offset + fits.saturating_sub(1) * width;
    if vcpu.rflags() & DF != 0
        || fits < 2
        || check_limit(vcpu, segment, offset, insn.width).is_err()
        || check_limit(vcpu, segment, last, insn.width).is_err()
    {
        return Ok(0);
    }
    let (at, port) = (linear(vcpu, segment, offset), vcpu.gprs().rdx() as u16);
    let many = match op {
        Str::Ins => memory.ins(port, insn.width, at, fits)?,
        _ => memory.outs(port, insn.width, at, fits)?,
    };
    vcpu.gprs_mut().set_width(gpr, insn.address_size, offset + many * width);
    Ok(many)
}

/// One element: all accesses first, then the registers.
fn element<V: Vcpu, M: Memory>(
    vcpu: &mut V,
    memory: &mut M,
    insn: &Insn,
    op: Str,
) -> Result<(), Trap> {
    let width = insn.width;
    let port = vcpu.gprs().rdx() as u16;
    match op {
        Str::Movs => {
            let from = source(vcpu, insn)?;
            let to = destination(vcpu, insn)?;
            let value = memory.read(from, width, Access::READ)?;
            memory.write(to, width, value)?;
        }
        Str::Stos => {
            let to = destination(vcpu, insn)?;
            memory.write(to, width, vcpu.gprs().rax() & mask(width))?;
        }
        Str::Lods => {
            let from = source(vcpu, insn)?;
            let value = memory.read(from, width, Access::READ)?;
            vcpu.gprs_mut().set_width(Gpr::Rax, width, value);
        }
        Str::Cmps => {
            let a = memory.read(source(vcpu, insn)?, width, Access::READ)?;
            let b = memory.read(destination(vcpu, insn)?, width, Access::READ)?;
            let flags = alu(Alu::Cmp, a, b, width, vcpu.rflags()).1;
            vcpu.set_rflags(flags);
        }
        Str::Scas => {
            let b = memory.read(destination(vcpu, insn)?, width, Access::READ)?;
            let flags = alu(Alu::Cmp, vcpu.gprs().rax(), b, width, vcpu.rflags()).1;
            vcpu.set_rflags(flags);
        }
        Str::Ins => {
            let to = destination(vcpu, insn)?;
            // Faults before the port is read: a device's byte must not be lost.
            memory.read(to, width, Access::WRITE)?;
            let value = memory.port_in(port, width);
            memory.write(to, width, value)?;
        }
        Str::Outs => {
            let from = source(vcpu, insn)?;
            let value = memory.read(from, width, Access::READ)?;
            memory.port_out(port, width, value);
        }
    }
    let backwards = vcpu.rflags() & DF != 0;
    if matches!(op, Str::Movs | Str::Lods | Str::Cmps | Str::Outs) {
        step(vcpu, Gpr::Rsi, insn, backwards);
    }
    if matches!(op, Str::Movs | Str::Stos | Str::Cmps | Str::Scas | Str::Ins) {
        step(vcpu, Gpr::Rdi, insn, backwards);
    }
    Ok(())
}

fn step<V: Vcpu>(vcpu: &mut V, gpr: Gpr, insn: &Insn, backwards: bool) {
    let by = u64::from(insn.width);
    let old = vcpu.gprs().get(gpr);
    let new = if backwards { old.wrapping_sub(by) } else { old.wrapping_add(by) };
    vcpu.gprs_mut().set_width(gpr, insn.address_size, new);
}

fn source<V: Vcpu>(vcpu: &V, insn: &Insn) -> Result<u64, Trap> {
    let offset = vcpu.gprs().rsi() & mask(insn.address_size);
    check_limit(vcpu, insn.segment, offset, insn.width)?;
    Ok(linear(vcpu, insn.segment, offset))
}

fn destination<V: Vcpu>(vcpu: &V, insn: &Insn) -> Result<u64, Trap> {
    let offset = vcpu.gprs().rdi() & mask(insn.address_size);
    check_limit(vcpu, SegReg::Es, offset, insn.width)?;
    Ok(linear(vcpu, SegReg::Es, offset))
}
