//! Hardware task switches, which VMX leaves to the hypervisor.

use arch::control::{cr0, cr4, rflags};
use arch::event::vector;
use arch::exit::TaskSwitchSource::{self, Call, Gate, Iret, Jmp};
use arch::{Event, EventKind, Exit, Gpr, SegReg, Segment, SysReg, Vcpu};
use host_tests::{Guest, Mode};

const GDT: u64 = 0x1000;
const OLD_TSS: u64 = 0x2000;
const NEW_TSS: u64 = 0x2100;
const TSS_16: u64 = 0x2200;
/// Selectors: flat code and data, their ring-3 twins, LDT, old task, new task, 16-bit task.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const CODE_3: u16 = 0x1b;
const DATA_3: u16 = 0x23;
const LDT: u16 = 0x28;
const OLD: u16 = 0x30;
const NEW: u16 = 0x38;
const TASK_16: u16 = 0x40;

const AVAILABLE_32: u64 = 0x89;
const BUSY_32: u64 = 0x8b;
const AVAILABLE_16: u64 = 0x81;

fn descriptor(base: u64, limit: u64, kind: u64, flags: u64) -> u64 {
    let base = (base & 0xff_ffff) << 16 | (base >> 24) << 56;
    limit & 0xffff | (limit >> 16 & 15) << 48 | base | kind << 40 | flags << 52
}

fn set(guest: &Guest, selector: u16, descriptor: u64) {
    guest.store(GDT + u64::from(selector & !7), 8, descriptor);
}

/// The type byte of a descriptor.
fn kind(guest: &Guest, selector: u16) -> u64 {
    guest.load(GDT + u64::from(selector & !7) + 5, 1)
}

/// A guest at 8000h in its old task, with a 32-bit and a 16-bit task to switch to.
fn guest() -> Guest {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    set(&guest, CODE, descriptor(0, 0xf_ffff, 0x9a, 0xc));
    set(&guest, DATA, descriptor(0, 0xf_ffff, 0x92, 0xc));
    set(&guest, CODE_3, descriptor(0, 0xf_ffff, 0xfa, 0xc));
    set(&guest, DATA_3, descriptor(0, 0xf_ffff, 0xf2, 0xc));
    set(&guest, LDT, descriptor(0x1800, 0x3f, 0x82, 0));
    set(&guest, OLD, descriptor(OLD_TSS, 0x67, BUSY_32, 0));
    set(&guest, NEW, descriptor(NEW_TSS, 0x67, AVAILABLE_32, 0));
    set(&guest, TASK_16, descriptor(TSS_16, 0x2b, AVAILABLE_16, 0));
    let vcpu = &mut guest.vcpus[0];
    let table = |base, limit| Segment { selector: 0, base, limit, access: 0 };
    vcpu.set_segment(SegReg::Gdtr, table(GDT, 0x47));
    let tr = Segment { selector: OLD, base: OLD_TSS, limit: 0x67, access: 0x8b };
    vcpu.set_segment(SegReg::Tr, tr);
    let ldt = Segment { selector: 0, base: 0, limit: 0, access: 0x82 | Segment::UNUSABLE };
    vcpu.set_segment(SegReg::Ldtr, ldt);
    let flat = |selector, access| Segment { selector, base: 0, limit: u32::MAX, access };
    vcpu.set_segment(SegReg::Cs, flat(CODE, 0xc09b));
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        vcpu.set_segment(reg, flat(DATA, 0xc093));
    }
    vcpu.set_rflags(0x246);
    vcpu.next_rip = Some(0x8007);
    for (n, gpr) in Gpr::ALL.into_iter().take(8).enumerate() {
        vcpu.gprs.set(gpr, 0x1010_0000 + n as u64);
    }
    // The new task: ring 3, stack at 6000h, LDT; registers 2020_0000h and up.
    let tss = |offset, width, value: u64| guest.store(NEW_TSS + offset, width, value);
    tss(28, 4, 0xabc_d000);
    tss(32, 4, 0x9000);
    tss(36, 4, 0x202);
    for n in 0..8 {
        tss(40 + 4 * n, 4, 0x2020_0000 + n);
    }
    tss(56, 4, 0x6000);
    for (n, selector) in [DATA_3, CODE_3, DATA_3, DATA_3, 0, DATA_3].into_iter().enumerate() {
        tss(72 + 4 * n as u64, 4, selector.into());
    }
    tss(96, 4, LDT.into());
    tss(100, 2, 0);
    // The 16-bit task: ring 0.
    let tss = |offset, value: u64| guest.store(TSS_16 + offset, 2, value);
    tss(14, 0x9100);
    tss(16, 0x202);
    for n in 0..8 {
        tss(18 + 2 * n, 0x3000 + n);
    }
    for (n, selector) in [DATA, CODE, DATA, DATA].into_iter().enumerate() {
        tss(34 + 2 * n as u64, selector.into());
    }
    guest
}

fn switch(guest: &mut Guest, selector: u16, source: TaskSwitchSource) {
    let exit = Exit::TaskSwitch { selector, source, error_code: None };
    assert_eq!(guest.exit(exit), None);
}

#[test]
fn a_jump_saves_the_old_task_loads_the_new_one_and_hands_over_busy() {
    let mut guest = guest();
    switch(&mut guest, NEW, Jmp);
    assert_eq!(guest.vcpus[0].pending, None);
    // Saved: the instruction after the jump, flags, registers, selectors.
    let old = |offset, width| guest.load(OLD_TSS + offset, width);
    assert_eq!((old(32, 4), old(36, 4)), (0x8007, 0x246));
    assert_eq!((old(40, 4), old(68, 4)), (0x1010_0000, 0x1010_0007));
    assert_eq!((old(72, 2), old(76, 2), old(92, 2)), (DATA.into(), CODE.into(), DATA.into()));
    assert_eq!((kind(&guest, OLD), kind(&guest, NEW)), (AVAILABLE_32, BUSY_32));
    assert_eq!(guest.load(NEW_TSS, 2), 0, "no link");
    // Loaded.
    let vcpu = &guest.vcpus[0];
    assert_eq!((vcpu.rip, vcpu.rflags), (0x9000, 0x202));
    assert_eq!((vcpu.gprs.rax(), vcpu.gprs.rsp()), (0x2020_0000, 0x6000));
    let cs = vcpu.segment(SegReg::Cs);
    assert_eq!((cs.selector, cs.limit, cs.access), (CODE_3, u32::MAX, 0xc0fb));
    assert_eq!(vcpu.segment(SegReg::Ss).dpl(), 3);
    assert_ne!(vcpu.segment(SegReg::Fs).access & Segment::UNUSABLE, 0, "null");
    let ldt = vcpu.segment(SegReg::Ldtr);
    assert_eq!((ldt.selector, ldt.base, ldt.limit, ldt.access), (LDT, 0x1800, 0x3f, 0x82));
    let tr = vcpu.segment(SegReg::Tr);
    assert_eq!((tr.selector, tr.base, tr.access), (NEW, NEW_TSS, 0x8b));
    assert_ne!(vcpu.reg(SysReg::Cr0) & cr0::TS, 0);
    assert_eq!(vcpu.reg(SysReg::Cr3), 0x1_0000, "no paging, no CR3");
    assert_eq!(kind(&guest, CODE_3), 0xfb, "accessed");
}

#[test]
fn under_pae_the_new_tables_are_handed_over_and_judged() {
    const OLD_PDPT: u64 = 0xc000;
    const NEW_PDPT: u64 = 0xc020;
    const DIRECTORY: u64 = 0xd000;
    let pae_guest = |entry: u64| {
        let mut guest = guest();
        guest.store(DIRECTORY, 8, 0xe3);
        guest.store(OLD_PDPT, 8, DIRECTORY | 1);
        guest.store(NEW_PDPT, 8, entry);
        guest.store(NEW_TSS + 28, 4, NEW_PDPT);
        // Ring 0, so that the pages need no user bit.
        for (offset, selector) in [(72, DATA), (76, CODE), (80, DATA), (84, DATA), (92, DATA)] {
            guest.store(NEW_TSS + offset, 4, selector.into());
        }
        let vcpu = &mut guest.vcpus[0];
        vcpu.set_reg(SysReg::Cr3, OLD_PDPT);
        vcpu.set_reg(SysReg::Cr4, cr4::PAE);
        vcpu.set_reg(SysReg::Cr0, vcpu.reg(SysReg::Cr0) | cr0::PG);
        switch(&mut guest, NEW, Jmp);
        guest
    };
    // Bit 5 is an emulator's mark.
    let guest = pae_guest(DIRECTORY | 0x21);
    assert_eq!(guest.vcpus[0].pending, None);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr3), NEW_PDPT);
    assert_eq!(guest.vcpus[0].pdptes, Some([DIRECTORY | 1, 0, 0, 0]));
    // Bit 1 is reserved.
    let guest = pae_guest(DIRECTORY | 3);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(vector::GP, Some(0))));
    assert_eq!(guest.vcpus[0].pdptes, None);
}

#[test]
fn a_call_nests_and_iret_comes_back() {
    let mut guest = guest();
    switch(&mut guest, NEW, Call);
    assert_eq!((kind(&guest, OLD), kind(&guest, NEW)), (BUSY_32, BUSY_32));
    assert_eq!(guest.load(NEW_TSS, 2), OLD.into());
    assert_ne!(guest.vcpus[0].rflags & rflags::NT, 0);
    guest.vcpus[0].next_rip = Some(0x9001);
    guest.vcpus[0].blocking.nmi = true;
    switch(&mut guest, OLD, Iret);
    let vcpu = &guest.vcpus[0];
    assert_eq!((vcpu.rip, vcpu.rflags, vcpu.gprs.rax()), (0x8007, 0x246, 0x1010_0000));
    assert!(!vcpu.blocking.nmi, "IRET ends an NMI handler");
    assert_eq!((kind(&guest, OLD), kind(&guest, NEW)), (BUSY_32, AVAILABLE_32));
    assert_eq!(guest.load(NEW_TSS + 36, 4) & rflags::NT, 0, "NT is cleared in the saved image");
    assert_eq!(guest.load(NEW_TSS + 32, 4), 0x9001);
}

#[test]
fn a_task_gate_takes_an_exceptions_error_code_to_the_new_stack() {
    let mut guest = guest();
    let fault = Event::exception(vector::GP, Some(0x1234));
    guest.vcpus[0].pending = Some(fault);
    guest.vcpus[0].next_rip = None;
    let exit = Exit::TaskSwitch { selector: NEW, source: Gate, error_code: Some(0x1234) };
    assert_eq!(guest.exit(exit), None);
    let vcpu = &guest.vcpus[0];
    assert_eq!((vcpu.pending, vcpu.rip), (None, 0x9000), "the event is delivered");
    assert_eq!((vcpu.gprs.rsp(), guest.load(0x5ffc, 4)), (0x5ffc, 0x1234));
    assert_eq!(guest.load(OLD_TSS + 32, 4), 0x8000, "the faulting instruction");
    assert_ne!(guest.load(OLD_TSS + 36, 4) & rflags::RF, 0);
}

#[test]
fn a_double_faults_task_gate_saves_the_resume_flag_as_it_is() {
    let mut guest = guest();
    guest.vcpus[0].pending = Some(Event::exception(vector::DF, Some(0)));
    guest.vcpus[0].next_rip = None;
    let exit = Exit::TaskSwitch { selector: NEW, source: Gate, error_code: Some(0) };
    assert_eq!(guest.exit(exit), None);
    assert_eq!(guest.vcpus[0].rip, 0x9000, "the event is delivered");
    assert_eq!(guest.load(OLD_TSS + 36, 4) & rflags::RF, 0, "an abort");
}

#[test]
fn interrupts_through_a_gate_save_rip_and_an_int_saves_the_next_instruction() {
    for (event, rip) in [
        (Event::interrupt(0x20), 0x8000),
        (Event::NMI, 0x8000),
        (
            Event {
                kind: EventKind::SoftwareInterrupt,
                vector: 0x30,
                error_code: None,
                insn_len: 2,
            },
            0x8002,
        ),
    ] {
        let mut guest = guest();
        guest.vcpus[0].next_rip = None;
        guest.vcpus[0].pending = Some(event);
        switch(&mut guest, NEW, Gate);
        assert_eq!(guest.load(OLD_TSS + 32, 4), rip, "{event:?}");
        assert_eq!(guest.vcpus[0].pending, None);
        assert_eq!(guest.vcpus[0].blocking.nmi, event == Event::NMI);
    }
}

#[test]
fn a_16_bit_task_has_16_bit_registers_and_no_fs_gs_or_cr3() {
    let mut guest = guest();
    switch(&mut guest, TASK_16, Call);
    let vcpu = &guest.vcpus[0];
    assert_eq!((vcpu.rip, vcpu.gprs.rax(), vcpu.gprs.rdi()), (0x9100, 0x3000, 0x3007));
    assert_eq!(vcpu.segment(SegReg::Cs).selector, CODE);
    for reg in [SegReg::Fs, SegReg::Gs] {
        assert_ne!(vcpu.segment(reg).access & Segment::UNUSABLE, 0);
    }
    assert_eq!(vcpu.segment(SegReg::Tr).access, 0x83);
    // Back again: the 16-bit image is what is saved.
    guest.vcpus[0].next_rip = Some(0x9105);
    guest.vcpus[0].gprs.set_rax(0xdead_beef);
    switch(&mut guest, OLD, Iret);
    assert_eq!(guest.load(TSS_16 + 14, 2), 0x9105);
    assert_eq!((guest.load(TSS_16 + 18, 2), guest.load(TSS_16 + 20, 2)), (0xbeef, 0x3001));
    assert_eq!(guest.vcpus[0].gprs.rax(), 0x1010_0000);
}

#[test]
fn a_virtual_8086_task_gets_real_mode_segments_at_ring_3() {
    let mut guest = guest();
    guest.store(NEW_TSS + 36, 4, rflags::VM | 0x3202);
    guest.store(NEW_TSS + 76, 4, 0x1234);
    switch(&mut guest, NEW, Jmp);
    let cs = guest.vcpus[0].segment(SegReg::Cs);
    assert_eq!((cs.selector, cs.base, cs.limit, cs.access), (0x1234, 0x1_2340, 0xffff, 0xf3));
    assert_eq!(guest.vcpus[0].rflags, rflags::VM | 0x3202);
}

#[test]
fn the_t_bit_traps_before_the_new_tasks_first_instruction() {
    let mut guest = guest();
    guest.store(NEW_TSS + 100, 2, 1);
    guest.vcpus[0].set_reg(SysReg::Dr7, 0x4ff);
    switch(&mut guest, NEW, Jmp);
    let vcpu = &guest.vcpus[0];
    assert_eq!(vcpu.pending, Some(Event::exception(vector::DB, None)));
    assert_ne!(vcpu.reg(SysReg::Dr6) & 1 << 15, 0);
    assert_eq!(vcpu.reg(SysReg::Dr7), 0x4aa, "local breakpoints are the old task's");
}

/// What must be wrong for each fault of SDM 3A "Exception Conditions Checked During a Task Switch".
#[test]
fn each_check_raises_its_fault_with_the_selector_as_error_code() {
    type Break = fn(&Guest);
    let cases: &[(&str, TaskSwitchSource, u16, Break, u8, u16)] = &[
        ("beyond the GDT", Jmp, 0x48, |_| {}, vector::GP, 0x48),
        ("in the LDT", Jmp, NEW | 4, |_| {}, vector::GP, NEW | 4),
        ("not a TSS", Jmp, DATA, |_| {}, vector::GP, DATA),
        ("busy", Call, OLD, |_| {}, vector::GP, OLD),
        ("not busy for IRET", Iret, NEW, |_| {}, vector::TS, NEW),
        ("not present", Jmp, NEW, |g| set_kind(g, NEW, 0x09), vector::NP, NEW),
        ("too short", Jmp, NEW, |g| g.store(GDT + 0x38, 2, 0x66), vector::TS, NEW),
        ("LDT is none", Jmp, NEW, |g| g.store(NEW_TSS + 96, 2, DATA.into()), vector::TS, DATA),
        ("LDT not present", Jmp, NEW, |g| set_kind(g, LDT, 0x02), vector::TS, LDT),
        ("CS null", Jmp, NEW, |g| g.store(NEW_TSS + 76, 2, 0), vector::TS, 0),
        ("CS data", Jmp, NEW, |g| g.store(NEW_TSS + 76, 2, DATA_3.into()), vector::TS, DATA_3 & !3),
        ("CS of ring 0", Jmp, NEW, |g| g.store(NEW_TSS + 76, 2, 0xb), vector::TS, CODE),
        ("CS not present", Jmp, NEW, |g| set_kind(g, CODE_3, 0x7a), vector::NP, CODE_3 & !3),
        ("SS null", Jmp, NEW, |g| g.store(NEW_TSS + 80, 2, 0), vector::TS, 0),
        ("SS of ring 0", Jmp, NEW, |g| g.store(NEW_TSS + 80, 2, 0x13), vector::TS, DATA),
        ("SS read-only", Jmp, NEW, |g| set_kind(g, DATA_3, 0xf0), vector::TS, DATA_3 & !3),
        ("SS not present", Jmp, NEW, |g| set_kind(g, DATA_3, 0x72), vector::SS, DATA_3 & !3),
        ("DS of ring 0", Jmp, NEW, |g| g.store(NEW_TSS + 84, 2, DATA.into()), vector::TS, DATA),
        ("GS beyond", Jmp, NEW, |g| g.store(NEW_TSS + 92, 2, 0x50), vector::TS, 0x50),
    ];
    for (name, source, selector, break_it, fault, code) in cases {
        let mut guest = guest();
        break_it(&guest);
        switch(&mut guest, *selector, *source);
        let wanted = Event::exception(*fault, Some(u32::from(*code)));
        assert_eq!(guest.vcpus[0].pending, Some(wanted), "{name}");
    }
}

fn set_kind(guest: &Guest, selector: u16, kind: u64) {
    guest.store(GDT + u64::from(selector & !7) + 5, 1, kind);
}

#[test]
fn a_fault_before_the_switch_leaves_the_old_task_untouched() {
    let mut guest = guest();
    set_kind(&guest, NEW, 0x09);
    let before = guest.vcpus[0].clone();
    switch(&mut guest, NEW, Call);
    let vcpu = &guest.vcpus[0];
    let with_resume_flag = before.rflags | rflags::RF;
    assert_eq!((vcpu.rip, vcpu.gprs, vcpu.rflags), (before.rip, before.gprs, with_resume_flag));
    assert_eq!(vcpu.segment(SegReg::Tr), before.segment(SegReg::Tr));
    assert_eq!(guest.load(OLD_TSS + 32, 4), 0);
}

#[test]
fn a_fault_in_a_fault_handlers_task_becomes_a_double_fault_with_ext() {
    let mut guest = guest();
    guest.store(NEW_TSS + 76, 2, 0);
    guest.vcpus[0].pending = Some(Event::interrupt(0x20));
    guest.vcpus[0].next_rip = None;
    switch(&mut guest, NEW, Gate);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(vector::TS, Some(1))), "EXT");
    let mut guest = self::guest();
    guest.store(NEW_TSS + 76, 2, 0);
    guest.vcpus[0].pending = Some(Event::exception(vector::GP, Some(0)));
    switch(&mut guest, NEW, Gate);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(vector::DF, Some(0))));
}

#[test]
fn an_unmapped_tss_is_a_page_fault_before_anything_changes() {
    let mut guest = guest();
    // 32-bit paging: the first 64 pages map to themselves but the new TSS's.
    guest.store(0x2_0000, 4, 0x2_1007);
    for n in 0..64u64 {
        guest.store(0x2_1000 + n * 4, 4, if n == 5 { 0 } else { n << 12 | 7 });
    }
    set(&guest, NEW, descriptor(0x4fd0, 0x67, AVAILABLE_32, 0));
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_reg(SysReg::Cr3, 0x2_0000);
    vcpu.set_reg(SysReg::Cr0, vcpu.reg(SysReg::Cr0) | cr0::PG);
    switch(&mut guest, NEW, Jmp);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(vector::PF, Some(0))));
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr2), 0x5000);
    assert_eq!(kind(&guest, OLD), BUSY_32);
}

#[test]
fn with_paging_the_new_tasks_cr3_is_loaded() {
    let mut guest = guest();
    for directory in [0x2_0000, 0x2_4000] {
        guest.store(directory, 4, 0x2_1007);
    }
    for n in 0..64u64 {
        guest.store(0x2_1000 + n * 4, 4, n << 12 | 7);
    }
    guest.store(NEW_TSS + 28, 4, 0x2_4000);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_reg(SysReg::Cr3, 0x2_0000);
    vcpu.set_reg(SysReg::Cr0, vcpu.reg(SysReg::Cr0) | cr0::PG);
    switch(&mut guest, NEW, Jmp);
    assert_eq!((guest.vcpus[0].pending, guest.vcpus[0].rip), (None, 0x9000));
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr3), 0x2_4000);
}
