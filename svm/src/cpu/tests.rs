// UNSAFETY: makes frames whose physical addresses no CPU will ever see.

use super::*;
use crate::bitmaps::{Iopm, Msrpm};
use arch::control::rflags;
use arch::event::vector;
use arch::slat::PageSize;
use arch::{Fault, HostPhys};
use std::boxed::Box;

/// Memory for tests: no CPU ever sees these addresses.
#[allow(unsafe_code, reason = "frames without a CPU behind them")]
mod memory {
    use super::*;

    pub fn frame<T>(value: T) -> Frame<T> {
        // SAFETY: nothing executes VMRUN in these tests, so that the address is never used.
        unsafe { Frame::new(HostPhys(0x1000), Box::leak(Box::new(value))) }
    }

    pub fn tables() -> Tables {
        // SAFETY: as above.
        unsafe { Tables::new(&super::iopm(), &super::msrpm(), HostPhys(0x9000)) }
    }
}

fn iopm() -> Frame<Iopm> {
    memory::frame(Iopm::all())
}

fn msrpm() -> Frame<Msrpm> {
    memory::frame(Msrpm::all())
}

fn vcpu(features: Features) -> SvmVcpu {
    let caps = Caps {
        asids: 16,
        features: features | Features::NP,
        nx: true,
        largest_page: PageSize::Huge,
        rdtscp: false,
    };
    let none = HostPhys(0);
    let vmcb = Vmcb::new(intercept::by_need(&caps), None, none, none, none);
    let mut vcpu = SvmVcpu::new(memory::frame(vmcb), memory::tables(), caps);
    vcpu.arrive(Asid { cpu: 7, generation: 1, number: 1 }, false, HostArea::SCRIPTED);
    vcpu
}

/// One entry and exit, with a scripted CPU in between.
fn switch(vcpu: &mut SvmVcpu, cpu: impl FnOnce(&mut Vmcb)) -> Option<Exit> {
    vcpu.before_switch();
    vcpu.vmcb.script_exit(0, 0, 0, 0);
    cpu(&mut vcpu.vmcb);
    vcpu.after_switch().then(|| vcpu.exit())
}

fn exits_with(code: u64) -> impl FnOnce(&mut Vmcb) {
    move |vmcb| vmcb.script_exit(code, 0, 0, 0)
}

#[test]
fn reset_is_the_manuals_table() {
    let mut vcpu = vcpu(Features::empty());
    assert_eq!(vcpu.reg(SysReg::Cr0), 0x6000_0010);
    assert_eq!((vcpu.rip(), vcpu.rflags(), vcpu.reg(SysReg::Efer)), (0xfff0, 2, 0));
    let cs = vcpu.segment(SegReg::Cs);
    assert_eq!((cs.selector, cs.base, cs.limit, cs.access), (0xf000, 0xffff_0000, 0xffff, 0x9b));
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs, SegReg::Ss] {
        let data = vcpu.segment(reg);
        assert_eq!((data.base, data.limit, data.access), (0, 0xffff, 0x93), "{reg:?}");
    }
    assert_eq!((vcpu.reg(SysReg::Dr6), vcpu.reg(SysReg::Dr7)), (0xffff_0ff0, 0x400));
    assert_eq!(vcpu.reg(SysReg::Pat), 0x0007_0406_0007_0406);
    assert_eq!(vcpu.vmcb.efer(), efer::SVME, "VMRUN wants it, the guest does not see it");

    vcpu.set_reg(SysReg::Cr0, cr0::PE | cr0::ET | cr0::PG);
    vcpu.set_reg(SysReg::Lstar, 7);
    vcpu.set_reg(SysReg::Pat, 6);
    vcpu.init();
    assert_eq!(vcpu.reg(SysReg::Cr0), cr0::ET, "INIT keeps caching on");
    assert_eq!((vcpu.reg(SysReg::Lstar), vcpu.reg(SysReg::Pat)), (7, 6));
    vcpu.reset();
    assert_eq!((vcpu.reg(SysReg::Lstar), vcpu.reg(SysReg::Cr0)), (0, 0x6000_0010));
}

#[test]
fn an_interrupted_delivery_is_pending_again_and_stale_bits_are_not() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_reg(SysReg::Cr0, cr0::PE);
    let gp = Event::exception(vector::GP, Some(0x18));
    vcpu.inject(Some(gp));
    assert_eq!(vcpu.pending_event(), Some(gp));
    let exit = switch(&mut vcpu, |vmcb| {
        let injected = vmcb.event_inj();
        vmcb.script_exit(code::NPF, 1 << 32, 0x5000, injected);
    });
    assert!(matches!(exit, Some(Exit::NestedFault(_))));
    assert_eq!(vcpu.pending_event(), Some(gp));
    // Delivered this time; the CPU leaves the field as it was but for the valid bit.
    switch(&mut vcpu, |vmcb| vmcb.script_exit(code::CPUID, 0, 0, 0x18_0000_0b0d));
    assert_eq!(vcpu.pending_event(), None);
    switch(&mut vcpu, |vmcb| {
        assert_eq!(vmcb.event_inj(), 0);
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
}

#[test]
fn exceptions_in_real_mode_push_no_error_code() {
    let mut vcpu = vcpu(Features::empty());
    let Fault { vector, error_code, .. } = Fault::GP0;
    vcpu.inject(Some(Event::exception(vector, error_code)));
    assert_eq!(vcpu.pending_event(), Some(Event::exception(vector::GP, None)));
}

#[test]
fn the_interrupt_window_exits_once_and_cr8_writes_exit_while_it_is_asked_for() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.request_window(true, false, 0);
    assert!(vcpu.vmcb.is_interrupt_waiting());
    assert_eq!(vcpu.vmcb.intercept_cr(), intercept::CR8_WRITE);
    assert_eq!(switch(&mut vcpu, exits_with(code::CPUID)), Some(Exit::Cpuid));
    assert!(vcpu.vmcb.is_interrupt_waiting(), "another exit leaves it");
    assert!(vcpu.vmcb.intercepts_vintr());
    assert_eq!(switch(&mut vcpu, exits_with(code::VINTR)), Some(Exit::InterruptWindow));
    assert!(!vcpu.vmcb.is_interrupt_waiting() && !vcpu.windows.busy());
    assert_eq!(vcpu.vmcb.intercept_cr(), 0);
    assert!(!vcpu.vmcb.intercepts_vintr());
    vcpu.request_window(true, false, 0);
    vcpu.request_window(false, false, 0);
    assert!(!vcpu.vmcb.is_interrupt_waiting() && !vcpu.windows.busy());
    vcpu.request_window(false, false, 5);
    assert!(!vcpu.vmcb.is_interrupt_waiting() && !vcpu.windows.busy());
    assert_eq!(vcpu.vmcb.intercept_cr(), intercept::CR8_WRITE, "the task priority holds one back");
    vcpu.request_window(false, false, 0);
    assert_eq!(vcpu.vmcb.intercept_cr(), 0);
}

#[test]
fn an_interrupt_is_delivered_as_a_virtual_one_and_stays_pending_until_it_is() {
    let mut vcpu = vcpu(Features::VMCB_CLEAN);
    switch(&mut vcpu, exits_with(code::CPUID));
    vcpu.set_rflags(rflags::IF);
    vcpu.inject(Some(Event::interrupt(0x31)));
    // A host interrupt comes first; then, as QEMU tells of it, a fault in the middle of the delivery.
    for (exit, tells) in [(code::INTR, 0), (code::NPF, 0x8000_0331), (code::NPF, 0x8000_0b0e)] {
        switch(&mut vcpu, |vmcb| {
            assert_eq!((vmcb.event_inj(), vmcb.waiting_vector()), (0, Some(0x31)));
            assert!(!vmcb.intercepts_vintr());
            assert_eq!(vmcb.clean() & 1 << 3, 0, "the CPU reads it");
            vmcb.script_exit(exit, 0, 0, tells);
        });
        assert_eq!(vcpu.pending_event(), Some(Event::interrupt(0x31)));
        assert_eq!(vcpu.vmcb.waiting_vector(), None);
    }
    // As CPUs tell of a fault in the middle: it is to be repeated, and V_IRQ is no more.
    switch(&mut vcpu, |vmcb| {
        vmcb.script_delivery();
        vmcb.script_exit(code::NPF, 0, 0, 0x8000_0031);
    });
    assert_eq!(vcpu.pending_event(), Some(Event::interrupt(0x31)));
    switch(&mut vcpu, |vmcb| {
        vmcb.script_delivery();
        vmcb.script_exit(code::CPUID, 0, 0, 0x31);
    });
    assert_eq!(vcpu.pending_event(), None);
    switch(&mut vcpu, |vmcb| assert_eq!(vmcb.waiting_vector(), None));
}

#[test]
fn a_flush_and_an_interrupt_are_done_by_one_entry() {
    let mut vcpu = vcpu(Features::FLUSH_BY_ASID);
    vcpu.set_rflags(rflags::IF);
    switch(&mut vcpu, exits_with(code::CPUID));
    assert!(!vcpu.unrest);
    for (flush, interrupt) in [(true, false), (true, true), (false, true)] {
        if flush {
            vcpu.flush_tlb();
        }
        if interrupt {
            vcpu.inject(Some(Event::interrupt(0x31)));
        }
        assert!(vcpu.unrest && !vcpu.strange);
        switch(&mut vcpu, |vmcb| {
            assert_eq!(vmcb.tlb_control(), if flush { 3 } else { 0 });
            assert_eq!(vmcb.waiting_vector(), interrupt.then_some(0x31));
            vmcb.script_delivery();
            vmcb.script_exit(code::CPUID, 0, 0, 0);
        });
        assert!(!vcpu.unrest, "{flush} {interrupt}");
        assert_eq!((vcpu.pending_event(), vcpu.vmcb.tlb_control()), (None, 0));
    }
    // What is more than these takes the long way, and comes back from it.
    vcpu.inject(Some(Event::exception(vector::UD, None)));
    assert!(vcpu.strange);
    switch(&mut vcpu, |vmcb| assert_eq!(vmcb.event_inj(), 0x8000_0306));
    assert!(!vcpu.unrest && !vcpu.strange);
    vcpu.inject(Some(Event::NMI));
    vcpu.inject(Some(Event::interrupt(0x31)));
    switch(&mut vcpu, |vmcb| {
        assert_eq!((vmcb.event_inj(), vmcb.waiting_vector()), (0, Some(0x31)));
        vmcb.script_delivery();
    });
    assert!(!vcpu.unrest && !vcpu.blocking().nmi);
}

#[test]
fn an_interrupt_beside_a_window_goes_by_eventinj() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_rflags(rflags::IF);
    vcpu.request_window(true, false, 0);
    vcpu.inject(Some(Event::interrupt(0x31)));
    switch(&mut vcpu, |vmcb| {
        assert_eq!((vmcb.event_inj(), vmcb.intercepts_vintr()), (0x8000_0031, true));
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
    assert_eq!(vcpu.pending_event(), None);
    assert!(vcpu.vmcb.is_interrupt_waiting(), "the window is still asked for");
}

#[test]
fn an_offer_stands_until_it_is_taken_or_withdrawn() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.request_window(false, false, 4);
    assert!(vcpu.offer(0x41));
    for _ in 0..2 {
        switch(&mut vcpu, |vmcb| {
            assert_eq!((vmcb.event_inj(), vmcb.waiting_vector()), (0, Some(0x41)));
            assert!(!vmcb.intercepts_vintr());
            assert_eq!(vmcb.intercept_cr(), intercept::CR8_WRITE);
            vmcb.script_exit(code::CPUID, 0, 0, 0);
        });
    }
    // A fault of the guest's own goes its way beside it.
    switch(&mut vcpu, |vmcb| vmcb.script_exit(code::NPF, 0, 0, 0x8000_0306));
    assert_eq!(vcpu.pending_event(), Some(Event::exception(vector::UD, None)));
    switch(&mut vcpu, |vmcb| {
        assert_eq!((vmcb.event_inj(), vmcb.waiting_vector()), (0x8000_0306, Some(0x41)));
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
    assert!(!vcpu.withdraw());
    assert_eq!((vcpu.vmcb.waiting_vector(), vcpu.vmcb.intercept_cr()), (None, 0));
    assert!(!vcpu.windows.busy());

    assert!(vcpu.offer(0x42));
    switch(&mut vcpu, |vmcb| {
        vmcb.script_delivery();
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
    assert_eq!(vcpu.vmcb.intercept_cr(), 0);
    // The next one may already be on its way.
    vcpu.inject(Some(Event::interrupt(0x31)));
    switch(&mut vcpu, |vmcb| {
        assert_eq!(vmcb.waiting_vector(), Some(0x31));
        vmcb.script_delivery();
    });
    assert!(vcpu.withdraw());
    assert!(!vcpu.withdraw(), "told once");
}

#[test]
fn an_nmi_blocks_the_next_until_the_handlers_iret_has_executed() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_rip(0x1000);
    vcpu.inject(Some(Event::NMI));
    assert!(!vcpu.blocking().nmi);
    switch(&mut vcpu, exits_with(code::CPUID));
    assert!(vcpu.blocking().nmi && vcpu.vmcb.intercepts_iret());
    // A second NMI waits.
    vcpu.request_window(false, true, 0);
    switch(&mut vcpu, |vmcb| {
        assert_eq!(vmcb.rflags() & rflags::TF, 0, "nothing to step in the handler");
        vmcb.set_rip(0x2000);
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
    assert!(vcpu.blocking().nmi);
    let again = switch(&mut vcpu, |vmcb| {
        vmcb.set_rip(0x2010);
        vmcb.script_exit(code::IRET, 0, 0, 0);
    });
    assert_eq!(again, None, "entered again without telling anyone");
    assert!(vcpu.blocking().nmi && !vcpu.vmcb.intercepts_iret());
    // A host interrupt before the IRET executes: still blocked, and the step is not seen.
    let exit = switch(&mut vcpu, |vmcb| {
        assert_ne!(vmcb.rflags() & rflags::TF, 0);
        vmcb.script_exit(code::INTR, 0, 0, 0);
    });
    assert_eq!(exit, Some(Exit::HostInterrupt));
    assert!(vcpu.blocking().nmi);
    assert_eq!(vcpu.rflags(), 2);
    // IRET takes flags from the stack, and then the trap comes.
    let exit = switch(&mut vcpu, |vmcb| {
        vmcb.set_rip(0x1002);
        vmcb.set_rflags(0x202);
        vmcb.set_dr6(0xffff_4ff0);
        vmcb.script_exit(code::EXCEPTION_DB, 0, 0, 0);
    });
    assert_eq!(exit, Some(Exit::NmiWindow));
    assert_eq!(vcpu.blocking(), Blocking::default());
    assert_eq!((vcpu.vmcb.rflags(), vcpu.reg(SysReg::Dr6)), (0x202, 0xffff_0ff0));
    assert!(!vcpu.windows.busy());
}

#[test]
fn without_an_nmi_waiting_the_iret_is_not_stepped_and_opens_by_itself() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.inject(Some(Event::NMI));
    switch(&mut vcpu, exits_with(code::CPUID));
    assert_eq!(switch(&mut vcpu, exits_with(code::IRET)), None);
    let exit = switch(&mut vcpu, |vmcb| {
        assert_eq!(vmcb.rflags() & rflags::TF, 0);
        vmcb.set_rip(0x7777);
        vmcb.script_exit(code::HLT, 0, 0, 0);
    });
    assert_eq!(exit, Some(Exit::Hlt));
    assert!(!vcpu.blocking().nmi && !vcpu.windows.busy());
}

#[test]
fn an_nmi_in_an_interrupt_shadow_waits_one_instruction() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_blocking(Blocking { shadow: true, nmi: false });
    vcpu.request_window(false, true, 0);
    let exit = switch(&mut vcpu, |vmcb| {
        assert_ne!(vmcb.rflags() & rflags::TF, 0);
        vmcb.set_shadow(false);
        vmcb.script_exit(code::EXCEPTION_DB, 0, 0, 0);
    });
    assert_eq!(exit, Some(Exit::NmiWindow));
}

#[test]
fn a_guest_that_steps_itself_gets_its_trap() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_rflags(rflags::TF);
    vcpu.request_window(false, true, 0);
    let exit = switch(&mut vcpu, |vmcb| {
        vmcb.set_dr6(0xffff_4ff0);
        vmcb.script_exit(code::EXCEPTION_DB, 0, 0, 0);
    });
    assert!(matches!(exit, Some(Exit::Exception { vector: vector::DB, .. })));
    assert_eq!(vcpu.reg(SysReg::Dr6), 0xffff_4ff0);
    assert_ne!(vcpu.rflags() & rflags::TF, 0);
}

#[test]
fn an_injection_while_stepping_does_not_push_our_trap_flag() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_blocking(Blocking { shadow: true, nmi: false });
    vcpu.request_window(false, true, 0);
    switch(&mut vcpu, exits_with(code::INTR));
    assert_ne!(vcpu.vmcb.rflags() & rflags::TF, 0);
    vcpu.inject(Some(Event::interrupt(0x40)));
    switch(&mut vcpu, |vmcb| {
        assert_eq!(vmcb.rflags() & rflags::TF, 0);
        vmcb.script_exit(code::CPUID, 0, 0, 0);
    });
    switch(&mut vcpu, |vmcb| assert_ne!(vmcb.rflags() & rflags::TF, 0, "and goes on after it"));
}

#[test]
fn flags_set_while_we_step_are_the_guests() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.request_window(false, true, 0);
    switch(&mut vcpu, exits_with(code::CPUID));
    vcpu.set_rflags(rflags::IF);
    assert_eq!(vcpu.rflags(), rflags::IF | rflags::FIXED);
    vcpu.request_window(false, false, 0);
    assert_eq!(vcpu.vmcb.rflags(), rflags::IF | rflags::FIXED);
}

#[test]
fn moving_rip_ends_the_interrupt_shadow() {
    let mut vcpu = vcpu(Features::empty());
    vcpu.set_blocking(Blocking { shadow: true, nmi: false });
    assert!(vcpu.blocking().shadow);
    vcpu.set_rip(5);
    assert!(!vcpu.blocking().shadow);
}

#[test]
fn next_rip_comes_from_ioio_always_and_from_nrip_where_it_exists() {
    let mut old = vcpu(Features::empty());
    let mut new = vcpu(Features::NRIPS);
    for vcpu in [&mut old, &mut new] {
        switch(vcpu, |vmcb| vmcb.script_exit(code::IOIO, 0x3f8_0010, 0x7c05, 0));
        assert_eq!(vcpu.next_rip(), Some(0x7c05));
        vcpu.vmcb.script_n_rip(0x7c07);
        switch(vcpu, exits_with(code::CPUID));
    }
    assert_eq!((old.next_rip(), new.next_rip()), (None, Some(0x7c07)));
    switch(&mut new, exits_with(code::NPF));
    assert_eq!(new.next_rip(), None);
}

#[test]
fn vmmcall_is_three_bytes_long_where_no_one_says_so() {
    let mut vcpu = vcpu(Features::empty());
    for (rip, next) in [(0xc009, Some(0xc00c)), (0xffff_fffd, None), (0xfffe, None)] {
        vcpu.set_rip(rip);
        switch(&mut vcpu, exits_with(code::VMMCALL));
        assert_eq!(vcpu.next_rip(), next, "{rip:#x}");
    }
}

#[test]
fn registers_that_rule_translations_flush_and_the_others_do_not() {
    for (features, control) in [(Features::empty(), 1), (Features::FLUSH_BY_ASID, 3)] {
        let mut vcpu = vcpu(features | Features::VMCB_CLEAN);
        switch(&mut vcpu, exits_with(code::CPUID));
        assert_eq!((vcpu.vmcb.tlb_control(), vcpu.vmcb.clean()), (0, CLEAN));
        vcpu.set_reg(SysReg::Cr2, 1);
        vcpu.set_reg(SysReg::Cr8, 1);
        assert_eq!(vcpu.vmcb.tlb_control(), 0);
        vcpu.set_reg(SysReg::Cr3, 0x1000);
        assert_eq!(vcpu.vmcb.tlb_control(), control);
    }
}

#[test]
fn system_registers_and_segments_survive() {
    let mut vcpu = vcpu(Features::empty());
    use SysReg::*;
    for (n, reg) in [
        Cr0,
        Cr2,
        Cr3,
        Cr4,
        Efer,
        Dr6,
        Dr7,
        Star,
        Lstar,
        Cstar,
        Sfmask,
        KernelGsBase,
        SysenterCs,
        SysenterEsp,
        SysenterEip,
        Pat,
        Cr8,
        TscOffset,
        DebugCtl,
    ]
    .into_iter()
    .enumerate()
    {
        vcpu.set_reg(reg, n as u64 % 16);
        assert_eq!(vcpu.reg(reg), n as u64 % 16, "{reg:?}");
    }
    for reg in [SegReg::Gdtr, SegReg::Idtr] {
        let table = Segment { selector: 0, base: 0x1234_5678, limit: 0x7f, access: 0 };
        vcpu.set_segment(reg, table);
        assert_eq!(vcpu.segment(reg), table);
    }
}

#[test]
fn on_another_cpu_nothing_is_clean_and_the_asid_is_new() {
    let mut vcpu = vcpu(Features::VMCB_CLEAN);
    let asid = |cpu, number| Asid { cpu, generation: 1, number };
    vcpu.arrive(asid(0, 1), true, HostArea::NONE);
    assert_eq!(vcpu.vmcb.tlb_control(), 1);
    switch(&mut vcpu, exits_with(code::CPUID));
    vcpu.arrive(asid(0, 1), false, HostArea::NONE);
    assert_eq!(vcpu.vmcb.clean(), CLEAN, "back on the same CPU with the same ASID");
    vcpu.arrive(asid(1, 1), false, HostArea::NONE);
    assert_eq!((vcpu.vmcb.clean(), vcpu.vmcb.tlb_control()), (0, 0));
}
