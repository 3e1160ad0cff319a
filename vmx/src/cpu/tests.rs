//! The vCPU on tables that no CPU looks at.
// UNSAFETY: `Tables::new` vouches for memory that only a CPU would read.

use super::*;
use crate::caps::tests::{sandy_bridge, skylake_x, skylake_x_3};
use crate::controls::{EntryControls, ExitControls, Pin, Primary};
use crate::{Frame, IoBitmaps, MsrBitmap, Posting};
use arch::apicpage::{Vectors, offset};
use arch::control::{cr4, efer, rflags};
use arch::exit::CrAccess;
use arch::{EventKind, Gpr, HostPhys};

fn page(phys: u64) -> Frame<Page> {
    Frame::for_tests(phys, Page([7; 1024]))
}

#[allow(unsafe_code, reason = "no CPU looks at these tables")]
fn vcpu_with(caps: Caps) -> VmxVcpu {
    let io = Frame::for_tests(0x4000, IoBitmaps::all());
    let msr = Frame::for_tests(0x6000, MsrBitmap::all());
    // SAFETY: nothing runs.
    let tables = unsafe { Tables::new(&io, &msr, HostPhys(0x9000)) };
    VmxVcpu::with_caps(Frames { vmcs: page(0x1000), apic: page(0x2000) }, tables, caps)
}

fn vcpu() -> VmxVcpu {
    vcpu_with(skylake_x())
}

/// As after an exit, without registers of this machine being touched.
fn exited(vcpu: &mut VmxVcpu, reason: u32, fields: &[(f::Field<u32>, u32)]) -> u32 {
    vcpu.vmcs.load();
    vcpu.vmcs.set_current(f::EXIT_REASON, reason);
    for &(field, value) in fields {
        vcpu.vmcs.set_current(field, value);
    }
    vcpu.after_switch()
}

#[test]
fn after_reset_the_guest_sees_the_manuals_values_and_the_cpu_what_vmx_wants() {
    let vcpu = vcpu();
    assert_eq!(vcpu.reg(SysReg::Cr0), 0x6000_0010);
    assert_eq!(vcpu.vmcs.get(f::CR0), 0x30);
    assert_eq!((vcpu.reg(SysReg::Cr4), vcpu.vmcs.get(f::CR4)), (0, 0x2040));
    assert_eq!((vcpu.rip(), vcpu.rflags()), (0xfff0, 2));
    assert_eq!(vcpu.segment(SegReg::Cs).base, 0xffff_0000);
    assert_eq!(vcpu.segment(SegReg::Tr).access, 0x8b);
    assert_eq!(vcpu.reg(SysReg::Pat), 0x0007_0406_0007_0406);
    assert_eq!(vcpu.reg(SysReg::Cr8), 0);
    assert_eq!(vcpu.vmcs.get(f::EPT_POINTER), 0x905e);
    assert_eq!(vcpu.vmcs.get(f::IO_BITMAP_B), 0x5000);
    assert_eq!(vcpu.blocking(), Blocking::default());
    assert_eq!(vcpu_with(sandy_bridge()).vmcs.get(f::EPT_POINTER), 0x901e);
}

#[test]
fn long_mode_follows_efer_into_the_entry_controls() {
    let mut vcpu = vcpu();
    let long = |vcpu: &VmxVcpu| vcpu.vmcs.get(f::ENTRY_CONTROLS) & EntryControls::LONG_MODE.bits();
    vcpu.set_reg(SysReg::Efer, efer::LME);
    assert_eq!(long(&vcpu), 0);
    vcpu.set_reg(SysReg::Efer, efer::LME | efer::LMA);
    assert_ne!(long(&vcpu), 0);
    vcpu.set_reg(SysReg::Efer, 0);
    assert_eq!(long(&vcpu), 0);
}

#[test]
fn changes_of_paging_are_flushed_and_lost_rights_more_so() {
    let mut vcpu = vcpu();
    for reg in [SysReg::Cr0, SysReg::Cr3, SysReg::Cr4, SysReg::Efer] {
        vcpu.due = Due::empty();
        vcpu.set_reg(reg, 0);
        assert_eq!(vcpu.due, Due::LINEAR, "{reg:?}");
    }
    vcpu.due = Due::empty();
    vcpu.flush_tlb();
    assert_eq!(vcpu.due, Due::SECOND_LEVEL);
}

#[test]
fn a_stay_on_a_new_cpu_flushes_and_a_return_does_not() {
    let mut vcpu = vcpu();
    let host = HostState { cs: 8, tr: 0x28, rip: 0x1000, ..HostState::default() };
    let vpid = Vpid { cpu: 0, generation: 1, number: 5 };
    vcpu.due = Due::empty();
    vcpu.arrive((vpid, Claim::New), &host);
    assert_eq!((vcpu.due, vcpu.vmcs.get(f::VPID)), (Due::all(), 5));
    assert_eq!((vcpu.vmcs.get(f::HOST_CS), vcpu.vmcs.get(f::HOST_RIP)), (8, 0x1000));
    vcpu.due = Due::empty();
    vcpu.launched = true;
    vcpu.detach();
    assert!(!vcpu.launched && !vcpu.vmcs.is_current());
    vcpu.arrive((vpid, Claim::Kept), &host);
    assert_eq!(vcpu.due, Due::empty());
}

#[test]
fn an_interrupted_delivery_is_pending_again() {
    let mut vcpu = vcpu();
    exited(&mut vcpu, 48, &[(f::IDT_VECTORING, 0x8000_0031)]);
    assert_eq!(vcpu.pending_event(), Some(Event::interrupt(0x31)));
    let fault = [(f::IDT_VECTORING, 0x8000_0b0e), (f::IDT_VECTORING_ERROR_CODE, 2)];
    exited(&mut vcpu, 48, &fault);
    assert_eq!(vcpu.pending_event(), Some(Event::exception(14, Some(2))));
    vcpu.before_switch();
    assert_eq!(vcpu.vmcs.get(f::ENTRY_INTERRUPTION), 0x8000_0b0e);
    assert_eq!(vcpu.vmcs.get(f::ENTRY_ERROR_CODE), 2);
    exited(&mut vcpu, 10, &[(f::IDT_VECTORING, 0)]);
    assert_eq!(vcpu.pending_event(), None);
}

#[test]
fn an_interrupted_nmi_is_not_blocked_until_it_is_injected_again() {
    let mut vcpu = vcpu();
    let fields = [(f::IDT_VECTORING, 0x8000_0202), (f::INTERRUPTIBILITY, exit::NMI_BLOCKING)];
    exited(&mut vcpu, 48, &fields);
    assert_eq!(vcpu.pending_event(), Some(Event::NMI));
    assert!(!vcpu.blocking().nmi);
}

#[test]
fn a_task_gate_tells_of_software_interrupts_too() {
    let mut vcpu = vcpu();
    let fields = [(f::IDT_VECTORING, 0x8000_0430), (f::INSTRUCTION_LENGTH, 2)];
    exited(&mut vcpu, reason::TASK_SWITCH, &fields);
    let kind = EventKind::SoftwareInterrupt;
    let event = Event { kind, vector: 0x30, error_code: None, insn_len: 2 };
    assert_eq!(vcpu.pending_event(), Some(event));
    exited(&mut vcpu, 48, &fields);
    assert_eq!(vcpu.pending_event(), None);
}

#[test]
fn real_mode_takes_no_error_codes() {
    let mut vcpu = vcpu();
    vcpu.inject(Some(Event::exception(13, Some(0))));
    assert_eq!(vcpu.pending.info, 0x8000_030d);
    vcpu.set_reg(SysReg::Cr0, cr0::PE | cr0::ET);
    vcpu.inject(Some(Event::exception(13, Some(0))));
    assert_eq!(vcpu.pending.info, 0x8000_0b0d);
}

#[test]
fn windows_arm_their_controls_and_close_with_their_exits() {
    let mut vcpu = vcpu();
    let armed = |vcpu: &VmxVcpu| {
        let primary = Primary::from_bits_retain(vcpu.vmcs.get(f::PRIMARY_CONTROLS));
        (primary.contains(Primary::INTERRUPT_WINDOW), primary.contains(Primary::NMI_WINDOW))
    };
    vcpu.request_window(true, true, 0);
    assert_eq!(armed(&vcpu), (true, true));
    exited(&mut vcpu, reason::INTERRUPT_WINDOW, &[]);
    assert_eq!(vcpu.own(reason::INTERRUPT_WINDOW), own::After::Decode);
    assert_eq!(armed(&vcpu), (false, true));
    vcpu.own(reason::NMI_WINDOW);
    assert_eq!(armed(&vcpu), (false, false));
}

#[test]
fn the_threshold_never_exceeds_the_priority() {
    let mut vcpu = vcpu();
    vcpu.set_reg(SysReg::Cr8, 5);
    assert_eq!(vcpu.apic.read(0x80), 0x50);
    vcpu.request_window(false, false, 4);
    assert_eq!(vcpu.vmcs.get(f::TPR_THRESHOLD), 4);
    // Lowered by the machine: what was held back can go in as soon as the guest is open.
    vcpu.set_reg(SysReg::Cr8, 3);
    assert_eq!(vcpu.vmcs.get(f::TPR_THRESHOLD), 0);
    assert_ne!(vcpu.primary & Primary::INTERRUPT_WINDOW.bits(), 0);
    vcpu.set_reg(SysReg::Cr8, 4);
    assert_eq!(vcpu.vmcs.get(f::TPR_THRESHOLD), 4);
    exited(&mut vcpu, reason::TPR_BELOW_THRESHOLD, &[]);
    vcpu.own(reason::TPR_BELOW_THRESHOLD);
    assert_eq!(vcpu.vmcs.get(f::TPR_THRESHOLD), 0);
    assert_eq!(vcpu.reg(SysReg::Cr8), 4);
}

fn write_of(vcpu: &mut VmxVcpu, cr: u8, value: u64) -> own::After {
    vcpu.vmcs.load();
    vcpu.vmcs.set_current(f::EXIT_QUALIFICATION, u64::from(cr) | 3 << 8);
    vcpu.gprs_mut().set_rbx(value);
    vcpu.own(reason::CR_ACCESS)
}

#[test]
fn writes_that_change_only_shadowed_bits_execute_again_with_a_new_shadow() {
    let mut vcpu = vcpu();
    let value = cr0::PG | cr0::PE | cr0::NE | cr0::ET;
    assert_eq!(write_of(&mut vcpu, 0, value), own::After::Enter);
    assert_eq!(vcpu.vmcs.get(f::CR0_SHADOW), value);
    // Until the CPU has executed it, the rest is as it was.
    assert_eq!(vcpu.reg(SysReg::Cr0), cr0::NE | cr0::ET);
    assert_eq!(write_of(&mut vcpu, 0, cr0::NW), own::After::Decode);
    assert_eq!(write_of(&mut vcpu, 4, cr4::MCE | cr4::PAE), own::After::Enter);
    assert_eq!(vcpu.vmcs.get(f::CR4_SHADOW), cr4::MCE | cr4::PAE);
    assert_eq!(write_of(&mut vcpu, 4, cr4::VMXE), own::After::Decode);
    for bit in [cr4::LA57, cr4::PKE, 1 << 23, 1 << 24, 1 << 25] {
        assert_eq!(write_of(&mut vcpu, 4, bit), own::After::Decode, "{bit:#x}");
    }
    assert_eq!(write_of(&mut vcpu, 8, 0), own::After::Decode);
    let exit = exit::decode(&vcpu.vmcs, reason::CR_ACCESS, true);
    assert_eq!(exit, Exit::Cr(CrAccess::Write { cr: 8, gpr: Gpr::Rbx }));
}

#[test]
fn a_debug_exception_updates_dr6_and_clears_gd() {
    let mut vcpu = vcpu();
    vcpu.set_reg(SysReg::Dr7, 0x2401);
    let fields = [(f::EXIT_INTERRUPTION, 0x8000_0301)];
    exited(&mut vcpu, reason::EXCEPTION_OR_NMI, &fields);
    vcpu.vmcs.set_current(f::EXIT_QUALIFICATION, 0x4002);
    assert_eq!(vcpu.own(reason::EXCEPTION_OR_NMI), own::After::Decode);
    assert_eq!((vcpu.reg(SysReg::Dr6), vcpu.reg(SysReg::Dr7)), (0xffff_4ff2, 0x401));
}

#[test]
fn int1_is_delivered_behind_the_instruction_and_has_no_cause_in_dr6() {
    let mut vcpu = vcpu();
    vcpu.set_rflags(rflags::IF | rflags::TF);
    vcpu.set_blocking(Blocking { shadow: true, nmi: false });
    let dr6 = vcpu.reg(SysReg::Dr6);
    let fields = [(f::EXIT_INTERRUPTION, 0x8000_0501), (f::INSTRUCTION_LENGTH, 1)];
    exited(&mut vcpu, reason::EXCEPTION_OR_NMI, &fields);
    assert_eq!(vcpu.own(reason::EXCEPTION_OR_NMI), own::After::Enter);
    let kind = EventKind::PrivilegedSoftwareException;
    let int1 = Event { kind, vector: 1, error_code: None, insn_len: 1 };
    assert_eq!(vcpu.pending_event(), Some(int1));
    assert_eq!((vcpu.reg(SysReg::Dr6), vcpu.blocking().shadow), (dr6, false));
    assert_eq!(vcpu.vmcs.get(f::PENDING_DEBUG), 0);
}

#[test]
fn host_events_are_handled_and_reported() {
    let mut vcpu = vcpu();
    exited(&mut vcpu, 0, &[(f::EXIT_INTERRUPTION, 0x8000_0202)]);
    assert_eq!(vcpu.own(0), own::After::Give(Exit::HostNmi));
    exited(&mut vcpu, 0, &[(f::EXIT_INTERRUPTION, 0x8000_0312)]);
    assert_eq!(vcpu.own(0), own::After::Give(Exit::HostNmi));
}

#[test]
fn refused_entries_give_their_code() {
    let mut vcpu = vcpu();
    let reason = exited(&mut vcpu, 0x8000_0021, &[]);
    let bad = Exit::BadState { code: 0x8000_0021 };
    assert_eq!(vcpu.own(reason), own::After::Give(bad));
    vcpu.vmcs.set_current(f::INSTRUCTION_ERROR, 7);
    assert_eq!(vcpu.refused(), Exit::BadState { code: 7 });
}

#[test]
fn moving_rip_ends_the_shadow_but_not_nmi_blocking() {
    let mut vcpu = vcpu();
    vcpu.set_blocking(Blocking { shadow: true, nmi: true });
    vcpu.set_rip(0x1234);
    assert_eq!(vcpu.blocking(), Blocking { shadow: false, nmi: true });
    assert_eq!((vcpu.rip(), vcpu.vmcs.get(f::RIP)), (0x1234, 0x1234));
}

#[test]
fn shadows_are_kept_in_forms_that_entry_accepts() {
    let mut vcpu = vcpu();
    // STI's shadow needs IF; with IF off it becomes that of MOV SS.
    vcpu.set_rflags(rflags::IF);
    vcpu.vmcs.set(f::INTERRUPTIBILITY, STI_SHADOW);
    vcpu.set_rflags(rflags::IF | rflags::CF);
    assert_eq!(vcpu.vmcs.get(f::INTERRUPTIBILITY), STI_SHADOW);
    vcpu.set_rflags(0);
    assert_eq!(vcpu.vmcs.get(f::INTERRUPTIBILITY), MOV_SS_SHADOW);
    // A step that is due in a shadow must be pending.
    vcpu.set_rflags(rflags::TF);
    assert_eq!(vcpu.vmcs.get(f::PENDING_DEBUG), 1 << 14);
    vcpu.set_rflags(0);
    assert_eq!(vcpu.vmcs.get(f::PENDING_DEBUG), 0);
}

#[test]
fn reserved_flags_stay_as_they_must() {
    let mut vcpu = vcpu();
    vcpu.set_rflags(u64::MAX);
    assert_eq!(vcpu.rflags(), 0x3f_7fd7);
}

#[test]
fn next_rip_is_there_for_instructions_and_wraps_at_4_gib_outside_64_bit_code() {
    let mut vcpu = vcpu();
    vcpu.vmcs.load();
    vcpu.vmcs.set_current(f::RIP, 0xffff_ffff);
    exited(&mut vcpu, reason::CPUID, &[(f::INSTRUCTION_LENGTH, 2)]);
    assert_eq!(vcpu.next_rip(), Some(1));
    vcpu.set_reg(SysReg::Efer, efer::LMA | efer::LME);
    let code = Segment { selector: 8, base: 0, limit: u32::MAX, access: 0xa09b };
    vcpu.set_segment(SegReg::Cs, code);
    assert_eq!(vcpu.next_rip(), Some(0x1_0000_0001));
    exited(&mut vcpu, reason::EPT_VIOLATION, &[]);
    assert_eq!(vcpu.next_rip(), None);
}

#[test]
fn without_a_tpr_shadow_cr8_is_kept_beside_the_vmcs() {
    let mut caps = skylake_x();
    caps.allowed.primary.may &= !Primary::TPR_SHADOW.bits();
    let mut vcpu = vcpu_with(caps);
    vcpu.set_reg(SysReg::Cr8, 9);
    vcpu.request_window(false, false, 4);
    assert_eq!((vcpu.reg(SysReg::Cr8), vcpu.apic.read(offset::TPR)), (9, 0));
}

std::thread_local! {
    static SERVED: core::cell::Cell<Option<u8>> = const { core::cell::Cell::new(None) };
}

fn vcpu_with_apic() -> VmxVcpu {
    vcpu_with_posting(None, skylake_x())
}

#[allow(unsafe_code, reason = "no CPU looks at these tables")]
fn vcpu_with_posting(posting: Option<Posting>, caps: Caps) -> VmxVcpu {
    let io = Frame::for_tests(0x4000, IoBitmaps::all());
    let msr = Frame::for_tests(0x6000, MsrBitmap::all());
    let x2apic = Frame::for_tests(0x7000, MsrBitmap::all());
    // SAFETY: nothing runs.
    let tables = unsafe { Tables::new(&io, &msr, HostPhys(0x9000)) };
    // SAFETY: nothing runs.
    let mut tables = unsafe { tables.with_apic(HostPhys(0x8000), &x2apic) };
    if let Some(posting) = posting {
        // SAFETY: nothing runs.
        tables = unsafe { tables.with_posting(posting) };
    }
    VmxVcpu::with_caps(Frames { vmcs: page(0x1000), apic: page(0x2000) }, tables, caps)
}

fn posting_vcpu() -> VmxVcpu {
    let interrupt = |vector| SERVED.set(Some(vector));
    let posting = Posting { descriptor: HostPhys(0xa040), vector: 0xf2, interrupt };
    vcpu_with_posting(Some(posting), skylake_x_3())
}

#[test]
fn a_vcpu_posts_while_its_page_says_so_and_no_longer() {
    let mut vcpu = posting_vcpu();
    vcpu.vmcs.load();
    let posts = |vcpu: &VmxVcpu| {
        Pin::from_bits_retain(vcpu.vmcs.get(f::PIN_CONTROLS)).contains(Pin::POSTED_INTERRUPTS)
    };
    assert_eq!(vcpu.vmcs.get(f::POSTED_DESCRIPTOR), 0xa040);
    assert_eq!(vcpu.vmcs.get(f::POSTED_VECTOR), 0xf2);
    assert_ne!(vcpu.vmcs.get(f::EXIT_CONTROLS) & ExitControls::ACKNOWLEDGE.bits(), 0);
    assert!(!posts(&vcpu), "its local APIC is off");
    for (mode, posting) in [
        (ApicMode::Memory, true),
        (ApicMode::Memory, false),
        (ApicMode::Msrs, true),
        (ApicMode::Off, false),
    ] {
        let page = vcpu.apic().unwrap();
        page.set_mode(mode, posting);
        vcpu.before_switch();
        assert_eq!(posts(&vcpu), posting, "{mode:?}");
    }
}

#[test]
fn without_a_descriptor_interrupts_stay_pending_and_nothing_is_posted() {
    let mut vcpu = vcpu_with_posting(None, skylake_x_3());
    vcpu.vmcs.load();
    assert_eq!(vcpu.vmcs.get(f::EXIT_CONTROLS) & ExitControls::ACKNOWLEDGE.bits(), 0);
    let page = vcpu.apic().unwrap();
    page.set_mode(ApicMode::Memory, true);
    vcpu.settle_apic();
    assert_eq!(vcpu.vmcs.get(f::PIN_CONTROLS) & Pin::POSTED_INTERRUPTS.bits(), 0);
    exited(&mut vcpu, reason::EXTERNAL_INTERRUPT, &[(f::EXIT_INTERRUPTION, 0x8000_00f1)]);
    SERVED.set(None);
    assert_eq!(vcpu.own(reason::EXTERNAL_INTERRUPT), own::After::Decode);
    assert_eq!(SERVED.get(), None);
}

#[test]
fn an_interrupt_that_its_exit_acknowledged_is_served_at_once() {
    let mut vcpu = posting_vcpu();
    exited(&mut vcpu, reason::EXTERNAL_INTERRUPT, &[(f::EXIT_INTERRUPTION, 0x8000_00f1)]);
    SERVED.set(None);
    assert_ne!(OWN >> reason::EXTERNAL_INTERRUPT & 1, 0, "`run` asks `own`");
    assert_eq!(vcpu.own(reason::EXTERNAL_INTERRUPT), own::After::Decode);
    assert_eq!(SERVED.get(), Some(0xf1));
    // One that is still pending comes by the IDT.
    exited(&mut vcpu, reason::EXTERNAL_INTERRUPT, &[(f::EXIT_INTERRUPTION, 0xf1)]);
    SERVED.set(None);
    assert_eq!(vcpu.own(reason::EXTERNAL_INTERRUPT), own::After::Decode);
    assert_eq!(SERVED.get(), None);
}

#[test]
fn the_local_apics_mode_chooses_controls_and_msr_bitmap() {
    let mut vcpu = vcpu_with_apic();
    let apic_controls = |vcpu: &VmxVcpu| {
        let all = Secondary::from_bits_retain(vcpu.vmcs.get(f::SECONDARY_CONTROLS));
        (all & Secondary::from_bits_retain(0x311), vcpu.vmcs.get(f::MSR_BITMAP))
    };
    let delivery = Secondary::VIRTUAL_INTERRUPT_DELIVERY;
    assert_eq!(apic_controls(&vcpu), (Secondary::APIC_ACCESSES, 0x6000));
    vcpu.vmcs.load();
    for (mode, controls, bitmap) in [
        (ApicMode::Memory, Secondary::APIC_ACCESSES | Secondary::APIC_REGISTERS | delivery, 0x6000),
        (ApicMode::Msrs, Secondary::X2APIC | delivery, 0x7000),
        (ApicMode::Off, Secondary::APIC_ACCESSES, 0x6000),
    ] {
        vcpu.due = Due::empty();
        vcpu.apic().unwrap().set_mode(mode, false);
        assert!(vcpu.apic.take_changed());
        vcpu.settle_apic();
        assert_eq!((apic_controls(&vcpu), vcpu.due), ((controls, bitmap), Due::all()));
    }
}

#[test]
fn the_cpu_learns_the_highest_vectors_and_whose_end_must_exit() {
    let mut vcpu = vcpu_with_apic();
    vcpu.vmcs.load();
    let page = vcpu.apic().unwrap();
    page.set_mode(ApicMode::Memory, false);
    let requests = Vectors { words: [1 << 0x31, 0, 1 << 5, 0], top: 0x85 };
    let service = Vectors { words: [1 << 0x22, 0, 0, 0], top: 0x22 };
    page.put(&requests, &service, &[1 << 0x31, 0, 0, 1]);
    vcpu.settle_apic();
    assert_eq!(vcpu.vmcs.get(f::INTERRUPT_STATUS), 0x2285);
    assert_eq!(vcpu.vmcs.get(f::EOI_EXIT_0), 1 << 0x31);
    assert_eq!(vcpu.vmcs.get(f::EOI_EXIT_3), 1);
}

#[test]
fn running_time_is_bounded_in_the_timers_own_ticks() {
    let mut vcpu = vcpu();
    assert_eq!(vcpu.vmcs.get(f::PREEMPTION_TIMER), u32::MAX);
    vcpu.bound(3200);
    assert_eq!(vcpu.vmcs.get(f::PREEMPTION_TIMER), 101);
    vcpu.bound(u64::MAX);
    assert_eq!(vcpu.vmcs.get(f::PREEMPTION_TIMER), u32::MAX);
    let mut caps = skylake_x();
    caps.allowed.pin.may &= !Pin::PREEMPTION_TIMER.bits();
    let mut without = vcpu_with(caps);
    without.bound(3200);
    assert_eq!(without.vmcs.get(f::PREEMPTION_TIMER), 0);
}

#[test]
fn registers_of_a_detached_vcpu_are_its_own() {
    let mut vcpu = vcpu();
    for (reg, value) in [
        (SysReg::Cr2, 0x1000),
        (SysReg::Star, 0x23_0008_0000_0000),
        (SysReg::Lstar, 0xffff_8000_0000_0000),
        (SysReg::Sfmask, 0x4_7700),
        (SysReg::KernelGsBase, 0x5000),
        (SysReg::SysenterCs, 8),
        (SysReg::TscOffset, u64::MAX),
        (SysReg::Dr7, 0x455),
    ] {
        vcpu.set_reg(reg, value);
        assert_eq!(vcpu.reg(reg), value, "{reg:?}");
    }
    vcpu.init();
    assert_eq!((vcpu.reg(SysReg::Lstar), vcpu.reg(SysReg::Cr2)), (0xffff_8000_0000_0000, 0));
    vcpu.reset();
    assert_eq!((vcpu.reg(SysReg::Lstar), vcpu.reg(SysReg::TscOffset)), (0, u64::MAX));
}
