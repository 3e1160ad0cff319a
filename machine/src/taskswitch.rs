//! Hardware task switches, where the CPU leaves them to the hypervisor (VMX).
//!
//! SDM 3A "Task Management": 16- and 32-bit TSSs; CALL, JMP, IRET and task gates. `tss` has the
//! layout, `segments` loads selectors with the checks of table "Exception Conditions Checked During
//! a Task Switch". Faults before the commit point leave the old task as it was; later ones belong
//! to the new task. `loads` and `far` load single registers, where the descriptor table lies in ROM.

mod far;
mod loads;
mod segments;
mod tables;
mod tss;

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::alu::mask;
use arch::control::{cr0, cr4, efer, rflags};
use arch::event::vector;
use arch::exit::TaskSwitchSource;
use arch::{Access, EventKind, Exit, Fault, Gpr, Resume, SegReg, Segment, SysReg, Vcpu, Why};
use tables::Tables;
use tss::{Format, State};

/// What starts a switch, as the exit tells it.
#[derive(Clone, Copy)]
struct Switch {
    selector: u16,
    source: TaskSwitchSource,
    error_code: Option<u32>,
    /// Bit 0 of the faults' error codes: an event from outside the program is being delivered.
    ext: u32,
    /// EIP to save in the old task.
    rip: u64,
    /// EFLAGS to save in the old task.
    rflags: u64,
}

impl Switch {
    /// The old task stays busy and is linked from the new one.
    fn nests(&self) -> bool {
        matches!(self.source, TaskSwitchSource::Call | TaskSwitchSource::Gate)
    }

    fn fault(&self, vector: u8, selector: u16) -> Fault {
        Fault::with_code(vector, u32::from(selector & !3) | self.ext)
    }
}

/// The new task's TSS descriptor.
#[derive(Clone, Copy)]
struct NewTask {
    /// As TR will hold it: busy.
    tr: Segment,
    format: Format,
}

impl Machine {
    /// A task switch: all of it, so that RIP is the new task's when this returns `Again`.
    pub(crate) fn task_switch<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        exit: Exit,
    ) -> Resume {
        let Exit::TaskSwitch { selector, source, error_code } = exit else {
            return Resume::Stop(Why::Unhandled(9));
        };
        if vcpu.reg(SysReg::Efer) & efer::LMA != 0 || vcpu.reg(SysReg::Cr0) & cr0::PE == 0 {
            return Resume::Raise(Fault::GP0);
        }
        let event = vcpu.pending_event().filter(|_| source == TaskSwitchSource::Gate);
        let software = event.is_some_and(|event| {
            !matches!(event.kind, EventKind::Interrupt | EventKind::Nmi | EventKind::Exception)
        });
        let mut rip = vcpu.rip();
        if source != TaskSwitchSource::Gate || software {
            rip = match (vcpu.next_rip(), event) {
                (Some(next), _) => next,
                (None, Some(event)) => rip.wrapping_add(event.insn_len.into()),
                (None, None) => match self.fetch(cpu, vcpu).map(|insn| insn.len) {
                    Ok(len) => rip.wrapping_add(len.into()),
                    Err(resume) => return resume,
                },
            };
        }
        // In a TSS, too.
        let faulted = event.is_some_and(|event| event.sets_resume_flag());
        let switch = Switch {
            selector,
            source,
            error_code: error_code.filter(|_| source == TaskSwitchSource::Gate),
            ext: u32::from(source == TaskSwitchSource::Gate && !software),
            rip,
            rflags: vcpu.rflags() | if faulted { rflags::RF } else { 0 },
        };
        let mut tables = Tables::new(self, cpu, vcpu, host);
        match perform(vcpu, &mut tables, &switch) {
            Ok(()) => {
                let nmi = event.is_some_and(|event| event.kind == EventKind::Nmi);
                finish_event(vcpu, source, nmi);
                debug_trap(vcpu, &mut tables)
            }
            Err(fault) => Resume::Raise(fault),
        }
    }
}

/// The event is delivered; IRET has ended an NMI handler, an NMI's delivery has begun one.
fn finish_event<V: Vcpu>(vcpu: &mut V, source: TaskSwitchSource, nmi: bool) {
    if source == TaskSwitchSource::Gate {
        vcpu.inject(None);
    }
    let mut blocking = vcpu.blocking();
    blocking.shadow = false;
    blocking.nmi = nmi || (blocking.nmi && source != TaskSwitchSource::Iret);
    vcpu.set_blocking(blocking);
}

/// The T bit of the new task's TSS traps before its first instruction (SDM 3B "Task-Switch
/// Exception Condition").
fn debug_trap<V: Vcpu, H: Host>(vcpu: &mut V, tables: &mut Tables<'_, H>) -> Resume {
    /// DR6.BT.
    const BT: u64 = 1 << 15;
    let tr = vcpu.segment(SegReg::Tr);
    let trap = Format::of(&tr) == Some(Format::Bits32)
        && tables.read(tr.base + tss::TRAP, 1).is_ok_and(|byte| byte & 1 != 0);
    if !trap {
        return Resume::Again;
    }
    vcpu.set_reg(SysReg::Dr6, vcpu.reg(SysReg::Dr6) | BT);
    Resume::Raise(Fault { vector: vector::DB, error_code: None, cr2: None })
}

fn perform<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
) -> Result<(), Fault> {
    let new = find_task(vcpu, tables, switch)?;
    let old = vcpu.segment(SegReg::Tr);
    let ts_old = switch.fault(vector::TS, old.selector);
    let old_format = Format::of(&old).ok_or(ts_old)?;
    if u64::from(old.limit) < old_format.size() - 1 {
        return Err(ts_old);
    }
    // All that is touched must be mapped before anything changes (SDM 3A "Task Switching", step 5).
    tables.probe(old.base, old_format.size(), Access::WRITE)?;
    let access = if switch.nests() { Access::WRITE } else { Access::READ };
    tables.probe(new.tr.base, new.format.size(), access)?;
    let old_descriptor = tables.descriptor_address(vcpu, old.selector);
    let new_descriptor = tables.descriptor_address(vcpu, switch.selector);
    for at in [old_descriptor, new_descriptor].into_iter().flatten() {
        tables.probe(at, 8, Access::WRITE)?;
    }

    if !switch.nests()
        && let Some(at) = old_descriptor
    {
        tables.change_type(at, tss::BUSY, 0)?;
    }
    let mut saved = State::of(vcpu);
    saved.eip = switch.rip as u32;
    saved.eflags = switch.rflags as u32;
    if switch.source == TaskSwitchSource::Iret {
        saved.eflags &= !(rflags::NT as u32);
    }
    saved.write(tables, old.base, old_format)?;

    let mut state = State::read(tables, new.tr.base, new.format)?;
    if switch.nests() {
        tables.write(new.tr.base, 2, old.selector.into())?;
        state.eflags |= rflags::NT as u32;
    }
    if switch.source != TaskSwitchSource::Iret
        && let Some(at) = new_descriptor
    {
        tables.change_type(at, 0, tss::BUSY)?;
    }
    vcpu.set_segment(SegReg::Tr, new.tr);
    enter(vcpu, tables, switch, &state, new.format)
}

/// The new TSS descriptor and its checks. The CPU has done them before the exit; here they guard
/// against a table that another vCPU changes meanwhile.
fn find_task<V: Vcpu, H: Host>(
    vcpu: &V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
) -> Result<NewTask, Fault> {
    let iret = switch.source == TaskSwitchSource::Iret;
    let wrong_kind = if iret { vector::TS } else { vector::GP };
    let wrong = switch.fault(wrong_kind, switch.selector);
    if switch.selector & 4 != 0 || switch.selector & !3 == 0 {
        return Err(wrong);
    }
    let at = tables.descriptor_address(vcpu, switch.selector).ok_or(wrong)?;
    let mut tr = Segment::from_descriptor(switch.selector, tables.read(at, 8)?);
    let busy = tr.access & tss::BUSY != 0;
    tr.access |= tss::BUSY;
    let format = Format::of(&tr).ok_or(wrong)?;
    if busy != iret {
        return Err(wrong);
    }
    if tr.access & Segment::P == 0 {
        return Err(switch.fault(vector::NP, switch.selector));
    }
    if u64::from(tr.limit) < format.size() - 1 {
        return Err(switch.fault(vector::TS, switch.selector));
    }
    Ok(NewTask { tr, format })
}

/// Loads the new task's state. From here on faults belong to the new task.
fn enter<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    state: &State,
    format: Format,
) -> Result<(), Fault> {
    let old_cr0 = vcpu.reg(SysReg::Cr0);
    if format == Format::Bits32 && old_cr0 & cr0::PG != 0 {
        let pae = vcpu.reg(SysReg::Cr4) & cr4::PAE != 0;
        let pdptes = if pae { Some(tables.pdptes(state.cr3)?) } else { None };
        vcpu.set_reg(SysReg::Cr3, state.cr3.into());
        if let Some(entries) = pdptes {
            vcpu.set_pdptes(entries);
        }
    }
    vcpu.set_reg(SysReg::Cr0, old_cr0 | cr0::TS);
    // Local breakpoints and LE are a task's own (SDM 3B "Debug Control Register (DR7)").
    vcpu.set_reg(SysReg::Dr7, vcpu.reg(SysReg::Dr7) & !0x155);
    let defined = if format == Format::Bits32 { 0x003f_7fd5 } else { 0x7fd5 };
    vcpu.set_rflags(u64::from(state.eflags) & defined | rflags::FIXED);
    vcpu.set_rip(state.eip.into());
    for (gpr, value) in Gpr::ALL.into_iter().zip(state.gprs) {
        vcpu.gprs_mut().set(gpr, value.into());
    }
    tables.reload(vcpu);
    segments::load(vcpu, tables, switch, state)?;
    if let Some(code) = switch.error_code {
        push_error_code(vcpu, tables, switch, format, code)?;
    }
    Ok(())
}

/// Pushes the error code of the exception that came through the gate: two or four bytes, by the
/// TSS.
fn push_error_code<V: Vcpu, H: Host>(
    vcpu: &mut V,
    tables: &mut Tables<'_, H>,
    switch: &Switch,
    format: Format,
    code: u32,
) -> Result<(), Fault> {
    let width = if format == Format::Bits32 { 4 } else { 2 };
    let ss = vcpu.segment(SegReg::Ss);
    let size = if ss.access & Segment::DB != 0 { 4 } else { 2 };
    let sp = vcpu.gprs().rsp().wrapping_sub(width) & mask(size);
    let limit = crate::insn::exec::check_limit(vcpu, SegReg::Ss, sp, width as u8);
    limit.map_err(|_| switch.fault(vector::SS, 0))?;
    let at = ss.base.wrapping_add(sp) & 0xffff_ffff;
    tables.push(vcpu, at, width as u8, code.into())?;
    vcpu.gprs_mut().set_width(Gpr::Rsp, size, sp);
    Ok(())
}
