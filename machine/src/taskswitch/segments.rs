//! Loads a new task's LDT and segment registers, with the checks of SDM 3A table "Exception
//! Conditions Checked During a Task Switch".

use super::Switch;
use super::tables::Tables;
use super::tss::{ORDER, State};
use crate::host::Host;
use arch::control::rflags;
use arch::event::vector;
use arch::{Access, Fault, SegReg, Segment, Vcpu};

/// Accessed bit of a code or data descriptor's type.
pub(super) const ACCESSED: u32 = 1;
/// Writable (data) or readable (code).
pub(super) const WRITABLE: u32 = 2;
/// Conforming, for code.
pub(super) const CONFORMING: u32 = 4;
/// Code, not data.
pub(super) const CODE: u32 = 8;
/// Code or data, not a system descriptor.
pub(super) const S: u32 = 16;

/// Loads LDTR and all segment registers.
pub(super) fn load<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    state: &State,
) -> Result<(), Fault> {
    // Selectors first: a handler of a fault below finds all of them in the new task's registers.
    for (reg, selector) in ORDER.into_iter().zip(state.segments) {
        let old = vcpu.segment(reg);
        let access = match reg {
            SegReg::Cs | SegReg::Ss => old.access,
            _ => old.access | Segment::UNUSABLE,
        };
        vcpu.set_segment(reg, Segment { selector, access, ..old });
    }
    load_ldt(vcpu, tables, switch, state.ldt)?;
    if u64::from(state.eflags) & rflags::VM != 0 {
        for (reg, selector) in ORDER.into_iter().zip(state.segments) {
            // SDM 3C "Checks on Guest Segment Registers": the one form that virtual-8086 mode has.
            let access = 0xf3;
            vcpu.set_segment(reg, Segment { access, ..Segment::real_data(selector) });
        }
        return Ok(());
    }
    let selector = |reg| {
        let place = ORDER.into_iter().position(|other| other == reg);
        place.and_then(|n| state.segments.get(n)).copied().unwrap_or(0)
    };
    let cpl = load_code(vcpu, tables, switch, selector(SegReg::Cs))?;
    load_stack(vcpu, tables, switch, selector(SegReg::Ss), cpl)?;
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
        load_data(vcpu, tables, switch, reg, selector(reg), cpl)?;
    }
    Ok(())
}

fn load_ldt<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    selector: u16,
) -> Result<(), Fault> {
    const LDT: u32 = 2;
    let none = Segment { selector, base: 0, limit: 0, access: LDT | Segment::UNUSABLE };
    vcpu.set_segment(SegReg::Ldtr, none);
    if selector & !3 == 0 {
        return Ok(());
    }
    let wrong = switch.fault(vector::TS, selector);
    if selector & 4 != 0 {
        return Err(wrong);
    }
    let (ldt, _) = tables.find(vcpu, selector, wrong)?;
    if ldt.access & 0x1f != LDT || ldt.access & Segment::P == 0 {
        return Err(wrong);
    }
    vcpu.set_segment(SegReg::Ldtr, ldt);
    Ok(())
}

/// A code or data descriptor and where it is; #TS where there is none.
fn find<V: Vcpu, H: Host>(
    vcpu: &V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    selector: u16,
) -> Result<(Segment, u64), Fault> {
    let wrong = switch.fault(vector::TS, selector);
    let (segment, at) = tables.find(vcpu, selector, wrong)?;
    if segment.access & S == 0 { Err(wrong) } else { Ok((segment, at)) }
}

/// Marks the descriptor accessed and loads the register.
fn commit<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    reg: SegReg,
    mut segment: Segment,
    at: u64,
) -> Result<(), Fault> {
    if segment.access & ACCESSED == 0 {
        tables.probe(at, 8, Access::WRITE)?;
        tables.change_type(at, 0, ACCESSED)?;
        segment.access |= ACCESSED;
    }
    vcpu.set_segment(reg, segment);
    Ok(())
}

/// Loads CS and tells the new CPL.
fn load_code<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    selector: u16,
) -> Result<u8, Fault> {
    let (segment, at) = find(vcpu, tables, switch, selector)?;
    let wrong = switch.fault(vector::TS, selector);
    let rpl = (selector & 3) as u8;
    let conforming = segment.access & CONFORMING != 0;
    let privileged = if conforming { segment.dpl() <= rpl } else { segment.dpl() == rpl };
    if segment.access & CODE == 0 || !privileged {
        return Err(wrong);
    }
    if segment.access & Segment::P == 0 {
        return Err(switch.fault(vector::NP, selector));
    }
    commit(vcpu, tables, SegReg::Cs, segment, at)?;
    Ok(rpl)
}

fn load_stack<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    selector: u16,
    cpl: u8,
) -> Result<(), Fault> {
    let (segment, at) = find(vcpu, tables, switch, selector)?;
    let writable_data = segment.access & (CODE | WRITABLE) == WRITABLE;
    if !writable_data || segment.dpl() != cpl || (selector & 3) as u8 != cpl {
        return Err(switch.fault(vector::TS, selector));
    }
    if segment.access & Segment::P == 0 {
        return Err(switch.fault(vector::SS, selector));
    }
    commit(vcpu, tables, SegReg::Ss, segment, at)
}

fn load_data<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    reg: SegReg,
    selector: u16,
    cpl: u8,
) -> Result<(), Fault> {
    if selector & !3 == 0 {
        let access = S | ACCESSED | WRITABLE | Segment::UNUSABLE;
        vcpu.set_segment(reg, Segment { selector, base: 0, limit: 0, access });
        return Ok(());
    }
    let (segment, at) = find(vcpu, tables, switch, selector)?;
    let readable = segment.access & CODE == 0 || segment.access & WRITABLE != 0;
    let conforming = segment.access & (CODE | CONFORMING) == CODE | CONFORMING;
    let privileged = conforming || segment.dpl() >= cpl.max((selector & 3) as u8);
    if !readable || !privileged {
        return Err(switch.fault(vector::TS, selector));
    }
    if segment.access & Segment::P == 0 {
        return Err(switch.fault(vector::NP, selector));
    }
    commit(vcpu, tables, reg, segment, at)
}
