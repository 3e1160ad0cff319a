use super::*;
use crate::field::Field;
use crate::hw::{Frame, Page};

fn vmcs() -> Vmcs {
    Vmcs::new(Frame::for_tests(0x1000, Page([0; 1024])), 1)
}

/// Decodes with a qualification and other 32-bit fields.
fn with(reason: u32, qualification: u64, fields: &[(Field<u32>, u32)]) -> Exit {
    let vmcs = vmcs();
    vmcs.set_current(f::EXIT_QUALIFICATION, qualification);
    vmcs.set_current(f::GUEST_PHYSICAL_ADDRESS, 0xfee0_0300);
    vmcs.set_current(f::GUEST_LINEAR_ADDRESS, 0xffff_8000_0000_0300);
    for &(field, value) in fields {
        vmcs.set_current(field, value);
    }
    decode(&vmcs, reason, true)
}

#[test]
fn plain_reasons_have_their_names() {
    for (reason, exit) in [
        (1, Exit::HostInterrupt),
        (2, Exit::TripleFault),
        (3, Exit::Init),
        (7, Exit::InterruptWindow),
        (8, Exit::NmiWindow),
        (10, Exit::Cpuid),
        (12, Exit::Hlt),
        (13, Exit::Invd),
        (14, Exit::Invlpg),
        (15, Exit::Rdpmc),
        (16, Exit::Rdtsc),
        (18, Exit::Hypercall),
        (29, Exit::Dr),
        (31, Exit::Rdmsr),
        (32, Exit::Wrmsr),
        (36, Exit::Mwait),
        (37, Exit::MonitorTrap),
        (39, Exit::Monitor),
        (40, Exit::Pause),
        (43, Exit::TprBelowThreshold),
        (51, Exit::Rdtscp),
        (52, Exit::PreemptionTimer),
        (54, Exit::Wbinvd),
        (55, Exit::Xsetbv),
    ] {
        assert_eq!(with(reason, 0, &[]), exit, "{reason}");
    }
    let undefined =
        [11, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 59, 60, 63, 64, 65, 67, 68]
            .into_iter()
            .chain([69, 70, 76, 77, 78, 79, 84, 85]);
    for reason in undefined {
        assert_eq!(with(reason, 0, &[]), Exit::Undefined, "{reason}");
    }
    for reason in [4, 5, 6, 33, 41, 46, 49, 62, 66, 71, 75, 80] {
        assert_eq!(with(reason, 9, &[]), Exit::Other { code: reason.into(), info: 9 });
    }
}

#[test]
fn port_accesses_have_port_width_and_direction() {
    assert_eq!(with(30, 0x3f8_0000, &[]), Exit::Out { port: 0x3f8, width: 1 });
    assert_eq!(with(30, 0x71_0008, &[]), Exit::In { port: 0x71, width: 1 });
    assert_eq!(with(30, 0xffff_0009, &[]), Exit::In { port: 0xffff, width: 2 });
    // DX or immediate (bit 6) makes no difference.
    assert_eq!(with(30, 0xcf8_0043, &[]), Exit::Out { port: 0xcf8, width: 4 });
}

#[test]
fn string_forms_have_address_size_and_segment() {
    let io = |qualification, info| match with(30, qualification, &[(f::INSTRUCTION_INFO, info)]) {
        Exit::StringIo(io) => io,
        other => panic!("{other:?}"),
    };
    let outs = io(0x3f8_0030, 1 << 7 | 4 << 15);
    assert_eq!((outs.port, outs.width, outs.write, outs.rep), (0x3f8, 1, true, true));
    let detail = StringIoDetail { address_size: 4, segment: SegReg::Fs };
    assert_eq!(outs.detail, Some(detail));
    let ins = io(0x1f0_0019, 2 << 7 | 3 << 15);
    assert_eq!((ins.port, ins.width, ins.write, ins.rep), (0x1f0, 2, false, false));
    assert_eq!(ins.detail, Some(StringIoDetail { address_size: 8, segment: SegReg::Es }));
    for (bits, segment) in [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs]
        .into_iter()
        .enumerate()
    {
        let detail = io(0x10, (bits as u32) << 15).detail;
        assert_eq!(detail, Some(StringIoDetail { address_size: 2, segment }));
    }
    assert_eq!(io(0x10, 7 << 15).detail, None);
    assert_eq!(io(0x10, 7 << 7).detail, None);
    let vmcs = vmcs();
    vmcs.set_current(f::EXIT_QUALIFICATION, 0x10);
    assert!(matches!(decode(&vmcs, 30, false), Exit::StringIo(StringIo { detail: None, .. })));
}

#[test]
fn control_register_accesses_have_register_and_kind() {
    let cr = |qualification| with(28, qualification, &[]);
    assert_eq!(cr(0x300), Exit::Cr(CrAccess::Write { cr: 0, gpr: Gpr::Rbx }));
    assert_eq!(cr(0xf14), Exit::Cr(CrAccess::Read { cr: 4, gpr: Gpr::R15 }));
    assert_eq!(cr(0x8), Exit::Cr(CrAccess::Write { cr: 8, gpr: Gpr::Rax }));
    assert_eq!(cr(0x20), Exit::Cr(CrAccess::Clts));
    assert_eq!(cr(0xfff1_0030), Exit::Cr(CrAccess::Lmsw(0xfff1)));
    assert_eq!(cr(0x0001_0070), Exit::Cr(CrAccess::Lmsw(1)));
}

#[test]
fn second_level_faults_tell_access_and_walk() {
    let fault = |qualification| match with(48, qualification, &[]) {
        Exit::NestedFault(fault) => fault,
        other => panic!("{other:?}"),
    };
    let read = fault(0x181);
    assert_eq!(read.gpa, GuestPhys(0xfee0_0300));
    assert_eq!(read.gva, Some(GuestVirt(0xffff_8000_0000_0300)));
    assert_eq!((read.access, read.present), (Access::READ, false));
    let write = fault(0x182 | 5 << 3);
    assert_eq!((write.access, write.present), (Access::WRITE, true));
    assert_eq!(fault(0x184).access, Access::EXEC);
    assert_eq!(fault(0x183).access, Access::WRITE);
    // A walk with accessed and dirty bits reads and writes.
    assert_eq!(fault(0x83).access, Access::WRITE | Access::WALK);
    assert_eq!(fault(0x81).access, Access::READ | Access::WALK);
    // Page-directory pointers have no linear address.
    let pdpte = fault(1);
    assert_eq!((pdpte.gva, pdpte.access), (None, Access::READ));
    // Bits that later CPUs add mean nothing here.
    assert_eq!(fault(0x182 | 0x0fff << 13), fault(0x182));
}

#[test]
fn a_fault_of_iret_keeps_nmis_blocked_but_not_during_a_delivery() {
    for (idt_vectoring, blocked) in [(0, true), (0x8000_0031, false), (0x31, true)] {
        let vmcs = vmcs();
        vmcs.set_current(f::EXIT_QUALIFICATION, 0x1181);
        vmcs.set_current(f::IDT_VECTORING, idt_vectoring);
        decode(&vmcs, 48, true);
        assert_eq!(vmcs.get_current(f::INTERRUPTIBILITY) & NMI_BLOCKING != 0, blocked);
    }
}

#[test]
fn task_switches_tell_their_source_and_the_error_code_of_a_gate() {
    let switch = |qualification, info| {
        with(9, qualification, &[(f::IDT_VECTORING, info), (f::IDT_VECTORING_ERROR_CODE, 0x1234)])
    };
    let exit = |source, error_code| Exit::TaskSwitch { selector: 0x28, source, error_code };
    assert_eq!(switch(0x28, 0), exit(TaskSwitchSource::Call, None));
    assert_eq!(switch(0x4000_0028, 0), exit(TaskSwitchSource::Iret, None));
    assert_eq!(switch(0x8000_0028, 0x8000_0b08), exit(TaskSwitchSource::Jmp, None));
    assert_eq!(switch(0xc000_0028, 0x8000_0020), exit(TaskSwitchSource::Gate, None));
    assert_eq!(switch(0xc000_0028, 0x8000_0b0d), exit(TaskSwitchSource::Gate, Some(0x1234)));
    assert_eq!(switch(0xc000_0028, 0x0000_0b0d), exit(TaskSwitchSource::Gate, None));
}

#[test]
fn apic_exits_have_offset_and_direction() {
    let access = |qualification| with(44, qualification, &[]);
    assert_eq!(access(0x0300), Exit::ApicAccess { offset: 0x300, write: false });
    assert_eq!(access(0x10b0), Exit::ApicAccess { offset: 0xb0, write: true });
    assert_eq!(access(0x2000), Exit::ApicAccess { offset: 0, write: false });
    assert_eq!(access(0x3010), Exit::ApicAccess { offset: 0x10, write: true });
    assert_eq!(with(45, 0x31, &[]), Exit::Eoi(0x31));
    assert_eq!(with(56, 0x300, &[]), Exit::ApicWrite { offset: 0x300 });
}

#[test]
fn exceptions_have_vector_code_and_qualification() {
    let exception =
        |info, code| with(0, 0x4000, &[(f::EXIT_INTERRUPTION, info), (f::EXIT_ERROR_CODE, code)]);
    let db = Exit::Exception { vector: 1, error_code: None, qualification: 0x4000 };
    assert_eq!(exception(0x8000_0301, 7), db);
    let ac = Exit::Exception { vector: 17, error_code: Some(0), qualification: 0x4000 };
    assert_eq!(exception(0x8000_0b11, 0), ac);
    assert_eq!(exception(0x8000_0202, 0), Exit::HostNmi);
}

#[test]
fn instruction_length_is_of_use_where_an_instruction_was_intercepted() {
    let length = |reason, event: u32, gate| has_length(reason, || event, || gate);
    for reason in (10..=32).chain([36, 39, 40, 46, 47, 50, 51, 53, 54, 55, 57, 58, 61, 63, 67]) {
        assert!(length(reason, 0, false), "{reason}");
    }
    for reason in [1, 2, 7, 8, 37, 43, 44, 45, 48, 49, 52, 56, 62, 0x8000_0021] {
        assert!(!length(reason, 0, false), "{reason}");
    }
    assert!(!length(0, 0x8000_0301, false) && length(0, 0x8000_0501, false));
    assert!(length(9, 0, false));
    assert!(!length(9, 0x8000_0020, true) && length(9, 0x8000_0430, true));
}
