use super::*;
use crate::caps::{Caps, Features};
use arch::slat::PageSize;
use std::boxed::Box;

fn vmcb() -> Box<Vmcb> {
    let caps = Caps {
        asids: 16,
        features: Features::NP,
        nx: true,
        largest_page: PageSize::Huge,
        rdtscp: false,
    };
    let intercepts = crate::intercept::by_need(&caps);
    Box::new(Vmcb::new(intercepts, None, HostPhys(0x1000), HostPhys(0x4000), HostPhys(0x6000)))
}

#[test]
fn every_setter_drops_exactly_its_clean_bit() {
    type Set = fn(&mut Vmcb);
    let cases: [(Set, u32); 17] = [
        (|v| v.set_cr0(1), clean::CRX),
        (|v| v.set_cr3(1), clean::CRX),
        (|v| v.set_efer(1), clean::CRX),
        (|v| v.set_cr2(1), clean::CR2),
        (|v| v.set_dr7(1), clean::DRX),
        (|v| v.set_g_pat(1), clean::NP),
        (|v| v.set_n_cr3(HostPhys(0)), clean::NP),
        (|v| v.set_maps(HostPhys(0), HostPhys(0)), clean::IOPM),
        (|v| v.set_asid(9), clean::ASID),
        (|v| v.set_cr8(3), clean::TPR),
        (|v| v.deliver(0x31), clean::TPR),
        (|v| v.withdraw(), clean::TPR),
        (|v| v.set_interrupt_window(true), clean::TPR | clean::I),
        (|v| v.set_tsc_offset(3), clean::I),
        (|v| v.intercept_iret(true), clean::I),
        (|v| v.set_segment(SegReg::Cs, Segment::real_code(0)), clean::SEG),
        (|v| v.set_segment(SegReg::Idtr, Segment::default()), clean::DT),
    ];
    for (n, (set, dropped)) in cases.iter().enumerate() {
        let mut vmcb = vmcb();
        vmcb.left(CLEAN);
        set(&mut vmcb);
        assert_eq!(vmcb.clean, CLEAN & !dropped, "case {n}");
    }
    let mut vmcb = vmcb();
    vmcb.left(CLEAN);
    vmcb.set_rip(1);
    vmcb.set_lstar(1);
    vmcb.set_segment(SegReg::Fs, Segment::real_data(1));
    vmcb.intercept_iret(false);
    assert_eq!(vmcb.clean, CLEAN);
}

#[test]
fn segments_survive_and_ss_brings_the_privilege_level() {
    let mut vmcb = vmcb();
    let code = Segment::from_descriptor(0x33, 0x00af_fb00_0000_ffff);
    let data = Segment::from_descriptor(0x2b, 0x00cf_f300_0000_ffff);
    vmcb.set_segment(SegReg::Cs, code);
    vmcb.set_segment(SegReg::Ss, data);
    assert_eq!(vmcb.segment(SegReg::Cs), code);
    assert_eq!(vmcb.segment(SegReg::Ss), data);
    assert_eq!(vmcb.cpl, 3);
    let unusable = Segment { access: Segment::UNUSABLE, ..Segment::default() };
    vmcb.set_segment(SegReg::Es, unusable);
    assert_eq!(vmcb.segment(SegReg::Es).access & Segment::UNUSABLE, Segment::UNUSABLE);
}

#[test]
fn the_stack_segment_shows_the_real_privilege_level_and_tr_is_busy() {
    let mut vmcb = vmcb();
    vmcb.ss.attributes = 0xc93;
    vmcb.cpl = 3;
    assert_eq!(vmcb.segment(SegReg::Ss).dpl(), 3);
    vmcb.tr.attributes = 0x89;
    assert_eq!(vmcb.segment(SegReg::Tr).access, 0x8b);
    vmcb.cs.limit = 0xffff_ffff;
    vmcb.cs.attributes = 0x29b;
    assert_eq!(vmcb.segment(SegReg::Cs).access, 0xa09b);
}

#[test]
fn a_flush_of_all_is_not_narrowed() {
    let mut vmcb = vmcb();
    vmcb.flush(true);
    assert_eq!(vmcb.tlb_control, FLUSH_ASID);
    vmcb.flush(false);
    vmcb.flush(true);
    assert_eq!(vmcb.tlb_control, FLUSH_ALL);
    vmcb.flushed();
    assert_eq!(vmcb.tlb_control, 0);
}

#[test]
fn the_window_leaves_the_task_priority_alone() {
    let mut vmcb = vmcb();
    vmcb.set_cr8(0x1b);
    vmcb.set_interrupt_window(true);
    assert_eq!(vmcb.v_intr, 0x11f_010b);
    vmcb.set_cr8(2);
    assert_eq!((vmcb.cr8(), vmcb.is_interrupt_waiting()), (2, true));
    vmcb.set_interrupt_window(false);
    assert_eq!(vmcb.v_intr, 0x11f_0002, "only V_IRQ is heeded");
}
