use super::*;

fn decode(code: u64, info_1: u64, info_2: u64, assists: bool) -> Exit {
    Reason { code, info_1, info_2 }.decode(assists)
}

#[test]
fn every_width_and_direction_of_port_access() {
    for (size, width) in [(1 << 4, 1), (1 << 5, 2), (1 << 6, 4)] {
        for port in [0u16, 0x3f8, 0xffff] {
            let info = u64::from(port) << 16 | size;
            // With the address-size bits that real CPUs set for plain forms too.
            for noise in [0, 1 << 8, 1 << 9 | 3 << 10] {
                assert_eq!(decode(0x7b, info | noise, 0, true), Exit::Out { port, width });
                assert_eq!(decode(0x7b, info | noise | 1, 0, false), Exit::In { port, width });
            }
        }
    }
}

#[test]
fn string_forms_give_detail_only_where_the_cpu_does() {
    let io = |info: u64, assists| match decode(0x7b, info, 0, assists) {
        Exit::StringIo(io) => io,
        other => panic!("{other:?}"),
    };
    let outs = 0x1f0_0000 | 1 << 5 | 4;
    let bare = io(outs | 8, true);
    assert_eq!((bare.port, bare.width, bare.write, bare.rep), (0x1f0, 2, true, true));
    assert_eq!(bare.detail, None, "no address size: QEMU");
    for (bits, segment) in
        [SegReg::Es, SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs].iter().enumerate()
    {
        for (size_bit, address_size) in [(7, 2), (8, 4), (9, 8)] {
            let info = outs | (bits as u64) << 10 | 1 << size_bit;
            let detail = StringIoDetail { address_size, segment: *segment };
            assert_eq!(io(info, true).detail, Some(detail));
            assert_eq!(io(info, false).detail, None, "the segment needs decode assists");
            let ins = io(info | 1, false);
            let detail = StringIoDetail { address_size, segment: SegReg::Es };
            assert_eq!((ins.write, ins.rep, ins.detail), (false, false, Some(detail)));
        }
    }
    assert_eq!(io(outs | 7 << 10 | 1 << 8, true).detail, None);
}

#[test]
fn nested_faults_say_what_was_tried() {
    let fault = |info_1: u64| match decode(0x400, info_1, 0xfee0_00b0, false) {
        Exit::NestedFault(fault) => fault,
        other => panic!("{other:?}"),
    };
    let read = fault(1 << 32 | 4);
    assert_eq!(
        (read.gpa, read.access, read.present),
        (GuestPhys(0xfee0_00b0), Access::READ, false)
    );
    assert_eq!(fault(1 << 32 | 7).access, Access::WRITE);
    assert!(fault(1 << 32 | 7).present);
    assert_eq!(fault(1 << 32 | 0x14).access, Access::EXEC);
    assert_eq!(fault(1 << 33 | 6).access, Access::WRITE | Access::WALK);
    assert_eq!(fault(1 << 33 | 4).access, Access::READ | Access::WALK);
}

#[test]
fn control_registers_are_decoded_with_assists_and_named_without() {
    let assisted = 1 << 63 | 9;
    assert_eq!(decode(0x18, assisted, 0, true), Exit::Cr(CrAccess::Write { cr: 8, gpr: Gpr::R9 }));
    assert_eq!(decode(0x03, assisted, 0, true), Exit::Cr(CrAccess::Read { cr: 3, gpr: Gpr::R9 }));
    for (code, info, assists) in [(0x10, 0, true), (0x10, assisted, false), (0x65, 0, true)] {
        let exit = decode(code, info, 0, assists);
        assert_eq!(exit, Exit::Cr(CrAccess::Undecoded { cr: 0, write: true }));
    }
}

#[test]
fn exceptions_carry_their_error_code_and_page_faults_their_address() {
    assert_eq!(
        decode(0x4e, 7, 0x1234, false),
        Exit::Exception { vector: 14, error_code: Some(7), qualification: 0x1234 }
    );
    assert_eq!(
        decode(0x41, 7, 9, false),
        Exit::Exception { vector: 1, error_code: None, qualification: 0 }
    );
    assert_eq!(
        decode(0x51, 0, 9, false),
        Exit::Exception { vector: 17, error_code: Some(0), qualification: 0 }
    );
}

#[test]
fn msr_exits_tell_reads_from_writes() {
    assert_eq!(decode(0x7c, 0, 0, false), Exit::Rdmsr);
    assert_eq!(decode(0x7c, 1, 0, false), Exit::Wrmsr);
}

#[test]
fn plain_codes() {
    for (code, exit) in [
        (0x60, Exit::HostInterrupt),
        (0x61, Exit::HostNmi),
        (0x63, Exit::Init),
        (0x64, Exit::InterruptWindow),
        (0x6e, Exit::Rdtsc),
        (0x6f, Exit::Rdpmc),
        (0x72, Exit::Cpuid),
        (0x76, Exit::Invd),
        (0x77, Exit::Pause),
        (0x78, Exit::Hlt),
        (0x79, Exit::Invlpg),
        (0x7f, Exit::TripleFault),
        (0x81, Exit::Hypercall),
        (0x87, Exit::Rdtscp),
        (0x89, Exit::Wbinvd),
        (0x8a, Exit::Monitor),
        (0x8b, Exit::Mwait),
        (0x8c, Exit::Mwait),
        (0x8d, Exit::Xsetbv),
        (0x20, Exit::Dr),
        (0x37, Exit::Dr),
        (0x75, Exit::Other { code: 0x75, info: 5 }),
        (0x402, Exit::Other { code: 0x402, info: 5 }),
    ] {
        assert_eq!(decode(code, 5, 0, false), exit, "{code:#x}");
    }
    for code in [0x73, 0x7a, 0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8e, 0xa0, 0xa4] {
        assert_eq!(decode(code, 0, 0, false), Exit::Undefined, "{code:#x}");
    }
}

#[test]
fn both_forms_of_an_invalid_state_are_bad_state() {
    for code in [u64::MAX, 0xffff_ffff] {
        assert_eq!(decode(code, 0, 0, false), Exit::BadState { code });
    }
}

#[test]
fn task_switches_name_their_source() {
    let source = |info_2| match decode(0x7d, 0x28, info_2, false) {
        Exit::TaskSwitch { selector: 0x28, source, error_code } => (source, error_code),
        other => panic!("{other:?}"),
    };
    assert_eq!(source(1 << 36), (TaskSwitchSource::Iret, None));
    assert_eq!(source(1 << 38), (TaskSwitchSource::Jmp, None));
    assert_eq!(source(1 << 44 | 5), (TaskSwitchSource::Gate, Some(5)));
    assert_eq!(source(0), (TaskSwitchSource::Call, None));
}

#[test]
fn next_rip_counts_only_for_instructions() {
    for code in [0x72, 0x7b, 0x7c, 0x81, 0x18, 0x23, 0x8d] {
        assert!(is_instruction(code), "{code:#x}");
    }
    for code in [0x41, 0x4e, 0x60, 0x61, 0x64, 0x7f, 0x7d, 0x400, u64::MAX] {
        assert!(!is_instruction(code), "{code:#x}");
    }
}
