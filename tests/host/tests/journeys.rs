//! The journeys of docs/architecture.md, from exit to effect.

use arch::{Access, Blocking, Event, Exit, Resume, SegReg, Segment, SysReg, Vcpu, Why};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Call, Guest, Mode, Setup};
use machine::Activity;
use machine::host::Output;

/// Programs the 8259A pair as a BIOS does: vectors 08h and 70h, all lines but IRQ0 masked.
const PIC_SET_UP: [(u16, u8); 10] = [
    (0x20, 0x11),
    (0x21, 0x08),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xa0, 0x11),
    (0xa1, 0x70),
    (0xa1, 0x02),
    (0xa1, 0x01),
    (0x21, 0xfe),
    (0xa1, 0xff),
];

/// A guest whose local APIC passes the 8259A's interrupts on, as firmware leaves it (MP
/// specification, "Virtual Wire Mode").
fn virtual_wire() -> Guest {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    mmio(&mut guest, 0xfee0_0350, 0x700);
    guest
}

#[test]
fn a_byte_out_to_3f8h_reaches_the_console_and_rip_moves_on() {
    let mut guest = Guest::new();
    guest.at(&[0xee]);
    guest.vcpus[0].gprs.set_rax(u64::from(b'X'));
    guest.vcpus[0].gprs.set_rdx(0x3f8);
    let rip = guest.vcpus[0].rip;
    // The CPU does not say how long the instruction is: it is decoded.
    assert_eq!(guest.exit(Exit::Out { port: 0x3f8, width: 1 }), None);
    assert_eq!(guest.vcpus[0].rip, rip + 1);
    assert_eq!(guest.host.text(Output::Com1), "X");
    assert_eq!(guest.host.text(Output::Com2), "");
    assert_eq!(guest.enter(0), Some(None));
}

#[test]
fn a_wide_out_to_the_serial_port_is_split_and_a_wide_in_reads_neighbours() {
    let mut guest = Guest::new();
    guest.outs(&[(0x2ff, 0x5a), (0xe9, b'd'), (0x402, b'e')]);
    assert_eq!(guest.inp(0x2fe, 2) >> 8, 0x5a, "scratch register in the high byte");
    assert_eq!(guest.host.text(Output::Debug), "de");
    assert_eq!(guest.inp(0x3e8, 4), 0xffff_ffff, "no third port");
    assert_eq!(guest.inp(0xffff, 2) & 0xff, 0xff, "the last port's neighbour is the first");
}

#[test]
fn a_pit_tick_goes_through_the_8259_to_a_guest_that_takes_interrupts() {
    let mut guest = virtual_wire();
    guest.outs(&PIC_SET_UP);
    // Channel 0, mode 2, 1,193 counts: a millisecond.
    guest.outs(&[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    guest.vcpus[0].set_rflags(2);
    guest.pass(2_000_000);
    assert_eq!(guest.enter(0), Some(None), "interrupts are off");
    assert!(guest.vcpus[0].window.0, "an exit is asked for when they are on");
    guest.vcpus[0].set_rflags(0x202);
    assert_eq!(guest.exit(Exit::InterruptWindow), None);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(8))));
    assert_eq!(guest.enter(0), Some(None), "in service");
    guest.outs(&[(0x20, 0x20)]);
    guest.pass(1_000_000);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(8))));
}

#[test]
fn an_interrupt_waits_for_the_shadow_of_sti_and_for_an_event_that_goes_first() {
    let mut guest = virtual_wire();
    guest.outs(&PIC_SET_UP);
    guest.outs(&[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    guest.vcpus[0].set_rflags(0x202);
    guest.pass(2_000_000);
    guest.vcpus[0].blocking.shadow = true;
    assert_eq!(guest.enter(0), Some(None));
    guest.vcpus[0].blocking.shadow = false;
    guest.cpus[0].wake();
    guest.vcpus[0].pending = Some(Event::exception(13, Some(0)));
    assert_eq!(guest.enter(0), Some(Some(Event::exception(13, Some(0)))));
    guest.cpus[0].wake();
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(8))));
}

#[test]
fn hlt_parks_a_vcpu_and_an_interrupt_wakes_it() {
    let mut guest = virtual_wire();
    guest.outs(&PIC_SET_UP);
    guest.outs(&[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    guest.vcpus[0].set_rflags(0x202);
    // The tick that programming made is taken first.
    guest.pass(2_000_000);
    let _ = guest.enter(0);
    guest.outs(&[(0x20, 0x20)]);
    guest.at(&[0xf4, 0x90]);
    let rip = guest.vcpus[0].rip;
    assert_eq!(guest.exit(Exit::Hlt), None);
    assert_eq!((guest.vcpus[0].rip, guest.cpus[0].activity), (rip + 1, Activity::Halted));
    assert_eq!(guest.enter(0), None);
    guest.host.take_calls();
    guest.pass(1_100_000);
    assert_eq!(guest.host.kicked(), [0]);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(8))));
    assert_eq!(guest.cpus[0].activity, Activity::Running);
}

#[test]
fn of_nmis_that_come_together_one_is_taken_and_one_remembered() {
    let send = |guest: &Guest, count: usize| {
        let mode = DeliveryMode::Nmi;
        let message = Message { dest: 0, logical: false, mode, vector: 0, level: false };
        (0..count).for_each(|_| guest.machine.send(&guest.host, &message));
    };
    // Before the first is taken, and while it is in service: how many come in all.
    for (before, while_served, all) in
        [(1, 0, 1), (2, 0, 2), (3, 0, 2), (1, 1, 2), (1, 3, 2), (2, 2, 2)]
    {
        let mut guest = Guest::with(Setup::default());
        send(&guest, before);
        assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
        guest.vcpus[0].set_blocking(Blocking { shadow: false, nmi: true });
        send(&guest, while_served);
        assert_eq!(guest.enter(0), Some(None), "one is in service");
        assert_eq!(guest.vcpus[0].window.1, all > 1, "a window is asked for");
        let mut taken = 1;
        for _ in 0..3 {
            // IRET.
            guest.vcpus[0].set_blocking(Blocking { shadow: false, nmi: false });
            assert_eq!(guest.exit(Exit::NmiWindow), None);
            taken += u32::from(guest.enter(0) == Some(Some(Event::NMI)));
        }
        assert_eq!(taken, all, "{before} before, {while_served} while one was served");
    }
}

#[test]
fn hlt_without_interrupts_sleeps_until_an_nmi() {
    let mut guest = Guest::with(Setup { vcpus: 2, ..Setup::default() });
    guest.vcpus[0].set_rflags(2);
    guest.at(&[0xf4]);
    assert_eq!(guest.exit(Exit::Hlt), None);
    guest.pass(10_000_000_000);
    assert_eq!(guest.enter(0), None);
    let message = devmodel::apicmsg::Message {
        dest: 0,
        logical: false,
        mode: devmodel::apicmsg::DeliveryMode::Nmi,
        vector: 0,
        level: false,
    };
    guest.machine.send(&guest.host, &message);
    assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
}

#[test]
fn a_store_to_the_io_apic_is_decoded_from_the_bytes_at_rip() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    // mov dword [0xfec00000], 1; then mov eax, [0xfec00010]
    guest.at(&[0xc7, 0x05, 0, 0, 0xc0, 0xfe, 1, 0, 0, 0, 0xa1, 0x10, 0, 0xc0, 0xfe]);
    assert_eq!(guest.touch(0xfec0_0000, Access::WRITE), None);
    assert_eq!(guest.vcpus[0].rip, 0x800a);
    assert_eq!(guest.touch(0xfec0_0010, Access::READ), None);
    assert_eq!(guest.vcpus[0].rip, 0x800f);
    assert_eq!(guest.vcpus[0].gprs.rax() & 0xff, 0x11, "version register");
}

#[test]
fn a_line_routed_by_the_io_apic_arrives_with_its_vector_at_the_local_apic() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    guest.outs(&[(0x21, 0xff), (0xa1, 0xff)]);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    // Pin 2 is the PIT's: vector 31h, edge, open.
    mmio(&mut guest, 0xfec0_0000, 0x14);
    mmio(&mut guest, 0xfec0_0010, 0x31);
    guest.outs(&[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    guest.vcpus[0].set_rflags(0x202);
    guest.pass(2_000_000);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x31))));
    // End of interrupt.
    mmio(&mut guest, 0xfee0_00b0, 0);
    guest.pass(1_000_000);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x31))));
}

/// MOV to a register in memory.
fn mmio(guest: &mut Guest, gpa: u64, value: u32) {
    guest.at(&[0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(gpa);
    guest.vcpus[0].gprs.set_rax(value.into());
    assert_eq!(guest.touch(gpa, Access::WRITE), None);
}

#[test]
fn the_task_priority_is_one_by_mmio_and_by_cr8_and_keeps_its_sub_class() {
    let mut guest = virtual_wire();
    let read = |guest: &mut Guest| {
        guest.at(&[0x8b, 0x03]);
        guest.vcpus[0].gprs.set_rbx(0xfee0_0080);
        assert_eq!(guest.touch(0xfee0_0080, Access::READ), None);
        guest.vcpus[0].gprs.rax()
    };
    mmio(&mut guest, 0xfee0_0080, 0x35);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr8), 3);
    let _ = guest.enter(0);
    assert_eq!(read(&mut guest), 0x35);
    // MOV to CR8 makes no exit.
    guest.vcpus[0].set_reg(SysReg::Cr8, 5);
    assert_eq!(read(&mut guest), 0x50);
}

/// WRMSR.
fn wrmsr(guest: &mut Guest, n: usize, msr: u32, value: u64) {
    let vcpu = &mut guest.vcpus[n];
    vcpu.gprs.set_rcx(msr.into());
    vcpu.gprs.set_rax(value & 0xffff_ffff);
    vcpu.gprs.set_rdx(value >> 32);
    vcpu.next_rip = Some(vcpu.rip.wrapping_add(2));
    assert_eq!(guest.exit_of(n, Exit::Wrmsr), None);
    assert_eq!(guest.vcpus[n].pending, None, "WRMSR {msr:#x} faulted");
}

#[test]
fn the_local_apics_timer_fires_once_periodically_and_at_a_tsc_deadline() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    guest.vcpus[0].set_rflags(0x202);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    mmio(&mut guest, 0xfee0_03e0, 0xb);
    // One shot.
    mmio(&mut guest, 0xfee0_0320, 0x40);
    mmio(&mut guest, 0xfee0_0380, 1000);
    let due = guest.cpus[0].due().expect("a deadline");
    assert_eq!(guest.enter(0), Some(None));
    guest.pass(due.0 - guest.host.tsc.get());
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x40))));
    mmio(&mut guest, 0xfee0_00b0, 0);
    assert_eq!(guest.cpus[0].due(), None);
    // Periodic.
    mmio(&mut guest, 0xfee0_0320, 0x2_0041);
    mmio(&mut guest, 0xfee0_0380, 1000);
    for _ in 0..3 {
        let due = guest.cpus[0].due().expect("a deadline");
        guest.pass(due.0 - guest.host.tsc.get());
        assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x41))));
        mmio(&mut guest, 0xfee0_00b0, 0);
    }
    // TSC deadline: the guest's TSC began at 0 with the clock.
    mmio(&mut guest, 0xfee0_0320, 0x4_0042);
    let deadline = guest.host.tsc.get() + 5000;
    wrmsr(&mut guest, 0, 0x6e0, deadline);
    guest.pass(4000);
    assert_eq!(guest.enter(0), Some(None));
    guest.pass(1100);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x42))));
}

#[test]
fn a_second_vcpu_starts_by_init_and_sipi_and_takes_an_ipi() {
    let mut guest = Guest::with(Setup { vcpus: 2, ..Setup::default() });
    guest.set_mode(0, Mode::Protected);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    assert_eq!(guest.enter(1), None, "waits for its start");
    // INIT, then a start-up at 9000h, to all but itself.
    mmio(&mut guest, 0xfee0_0300, 0x000c_4500);
    assert_eq!(guest.host.kicked(), [1]);
    assert_eq!(guest.enter(1), None);
    mmio(&mut guest, 0xfee0_0300, 0x000c_4609);
    assert_eq!(guest.enter(1), Some(None));
    let cs = guest.vcpus[1].segment(SegReg::Cs);
    assert_eq!((cs.selector, cs.base, guest.vcpus[1].rip), (0x900, 0x9000, 0));
    assert_eq!(guest.vcpus[1].reg(SysReg::Cr0) & 1, 0);
    // A second start-up is ignored.
    guest.vcpus[1].set_rip(0x77);
    mmio(&mut guest, 0xfee0_0300, 0x000c_4609);
    let _ = guest.enter(1);
    assert_eq!(guest.vcpus[1].rip, 0x77);
    // A fixed interrupt to APIC 1, which enables its APIC by x2APIC MSRs first.
    wrmsr(&mut guest, 1, 0x1b, 0xfee0_0c00);
    wrmsr(&mut guest, 1, 0x80f, 0x1ff);
    guest.vcpus[1].set_rflags(0x202);
    guest.host.take_calls();
    mmio(&mut guest, 0xfee0_0310, 1 << 24);
    mmio(&mut guest, 0xfee0_0300, 0x51);
    assert_eq!(guest.host.kicked(), [1]);
    assert_eq!(guest.enter(1), Some(Some(Event::interrupt(0x51))));
    assert_eq!(guest.enter(0), Some(None));
    // And back, by x2APIC's self-IPI on 1 and an NMI to 0.
    wrmsr(&mut guest, 1, 0x80b, 0);
    wrmsr(&mut guest, 1, 0x83f, 0x52);
    assert_eq!(guest.enter(1), Some(Some(Event::interrupt(0x52))));
    wrmsr(&mut guest, 1, 0x830, 0x400);
    assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
}

#[test]
fn a_task_priority_holds_lower_interrupts_back_until_it_falls() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    guest.vcpus[0].set_rflags(0x202);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    mmio(&mut guest, 0xfee0_0080, 0x60);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr8), 6, "CR8 follows");
    mmio(&mut guest, 0xfee0_0300, 0x4_4055);
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(guest.vcpus[0].window.2, 5, "asked to be told when CR8 falls below 5");
    guest.vcpus[0].set_reg(SysReg::Cr8, 0);
    assert_eq!(guest.exit(Exit::TprBelowThreshold), None);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x55))));
}

#[test]
fn every_way_to_reset_stops_the_guest_for_a_reset() {
    for list in [&[(0x64, 0xfe)][..], &[(0xcf9, 0x02), (0xcf9, 0x06)], &[(0x92, 0x01)]] {
        let mut guest = Guest::with(Setup { vcpus: 2, ..Setup::default() });
        guest.set_mode(0, Mode::Protected);
        let mut stop = None;
        for (port, value) in list {
            stop = guest.outp(*port, 1, *value);
        }
        // A fast reset is an INIT of the bootstrap processor; a hard one stops the guest.
        if stop.is_none() {
            assert_eq!(guest.enter(0), Some(None), "{list:x?}");
            assert_eq!(guest.vcpus[0].reg(SysReg::Cr0) & 1, 0, "{list:x?}");
            let cs = guest.vcpus[0].segment(SegReg::Cs);
            assert_eq!((cs.base, guest.vcpus[0].rip), (0xffff_0000, 0xfff0), "{list:x?}");
        } else {
            assert_eq!(stop, Some(Why::Reset), "{list:x?}");
        }
    }
    let mut guest = Guest::new();
    assert_eq!(guest.exit(Exit::TripleFault), Some(Why::TripleFault));
}

#[test]
fn s5_by_the_power_management_block_powers_off() {
    let mut guest = Guest::new();
    // PIIX4's power management at B000h, decoded (82371AB "PMBA", "PMREGMISC").
    let at = |register: u32| 0x8000_0000 | 1 << 11 | 3 << 8 | register;
    for (register, value) in [(0x40, 0xb001), (0x80, 1)] {
        assert_eq!(guest.outp(0xcf8, 4, at(register)), None);
        assert_eq!(guest.outp(0xcfc, 4, value), None);
    }
    let stops: Vec<_> =
        (0..8).filter(|kind| power_off(&mut guest, *kind) == Some(Why::PowerOff)).collect();
    use devmodel::acpipm::{SLEEP_TYPE_S4, SLEEP_TYPE_S5};
    assert_eq!(stops, [SLEEP_TYPE_S5.into(), SLEEP_TYPE_S4.into()]);
}

fn power_off(guest: &mut Guest, kind: u32) -> Option<Why> {
    guest.machine.power_on(&guest.host);
    let at = |register: u32| 0x8000_0000 | 1 << 11 | 3 << 8 | register;
    for (register, value) in [(0x40, 0xb001), (0x80, 1)] {
        let _ = guest.outp(0xcf8, 4, at(register));
        let _ = guest.outp(0xcfc, 4, value);
    }
    guest.outp(0xb004, 2, 1 << 13 | kind << 10)
}

#[test]
fn masking_address_line_20_shows_the_first_64_kib_again_at_1_mib() {
    let mut guest = Guest::new();
    // The 8042 and port 92h both hold the line; a BIOS leaves it open.
    guest.outs(&[(0x92, 0x02)]);
    guest.host.take_calls();
    guest.outs(&[(0x92, 0x00), (0x64, 0xd1), (0x60, 0xdd)]);
    guest.pass(10_000_000);
    let closed = guest.host.take_calls();
    let hma = |call: &&Call| matches!(call, Call::Map(0x10_0000, 0x1_0000, ..));
    assert!(closed.iter().any(|call| hma(&call)), "{closed:?}");
    guest.outs(&[(0x92, 0x02)]);
    assert!(guest.host.take_calls().iter().any(|call| hma(&call)));
}

#[test]
fn an_unknown_exit_stops_the_guest_and_says_which() {
    let mut guest = Guest::new();
    assert_eq!(guest.exit(Exit::Other { code: 77, info: 0 }), Some(Why::Unhandled(77)));
    assert_eq!(guest.exit(Exit::BadState { code: 5 }), Some(Why::BadState(5)));
    // The stub `Resume` has no default: this only names it.
    assert_eq!(Resume::Stop(Why::Panic), Resume::Stop(Why::Panic));
}

#[test]
fn rip_wraps_with_the_code_segment() {
    let mut guest = Guest::new();
    guest.vcpus[0].set_segment(SegReg::Cs, Segment::real_code(0x800));
    guest.vcpus[0].set_rip(0xffff);
    guest.store(0x8000 + 0xffff, 1, 0xee);
    guest.vcpus[0].next_rip = None;
    assert_eq!(guest.exit(Exit::Out { port: 0x80, width: 1 }), None);
    assert_eq!(guest.vcpus[0].rip, 0);
}

fn fixed(vector: u8) -> Message {
    Message { dest: 0, logical: false, mode: DeliveryMode::Fixed, vector, level: false }
}

/// A guest of Linux' way to wait: STI, and an exit in front of the HLT behind it.
fn between_sti_and_hlt(mode: Mode) -> Guest {
    let mut guest = Guest::new();
    guest.set_mode(0, mode);
    guest.enable_lapic(0);
    guest.at(&[0xf4, 0x90]);
    guest.vcpus[0].set_rflags(0x202);
    guest.vcpus[0].set_blocking(Blocking { shadow: true, nmi: false });
    guest.cpus[0].wake();
    guest
}

#[test]
fn an_exit_between_sti_and_hlt_finds_the_guest_halted() {
    for mode in [Mode::Real, Mode::Protected, Mode::Long] {
        let mut guest = between_sti_and_hlt(mode);
        let rip = guest.vcpus[0].rip;
        assert_eq!(guest.enter(0), None);
        assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].blocking().shadow), (rip + 1, false));
        guest.machine.send(&guest.host, &fixed(0x41));
        assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x41))));
        assert_eq!(guest.vcpus[0].rip, rip + 1, "the handler returns behind the HLT");
        // One that waits already ends the HLT as it begins.
        let mut guest = between_sti_and_hlt(mode);
        guest.machine.send(&guest.host, &fixed(0x41));
        assert_eq!(guest.enter(0), Some(Some(Event::interrupt(0x41))));
        assert_eq!(guest.vcpus[0].rip, rip + 1);
        // So does an NMI.
        let mut guest = between_sti_and_hlt(mode);
        guest.machine.send(&guest.host, &Message { mode: DeliveryMode::Nmi, ..fixed(0) });
        assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
        assert_eq!(guest.vcpus[0].rip, rip + 1);
    }
}

#[test]
fn what_is_no_hlt_behind_sti_is_left_to_the_cpu() {
    let stays = |change: fn(&mut Guest), shadow: bool| {
        let mut guest = between_sti_and_hlt(Mode::Protected);
        change(&mut guest);
        guest.vcpus[0].set_blocking(Blocking { shadow, nmi: false });
        guest.machine.send(&guest.host, &fixed(0x41));
        let rip = guest.vcpus[0].rip;
        assert!(guest.enter(0).is_some());
        assert_eq!(guest.vcpus[0].rip, rip);
    };
    stays(|guest| guest.at(&[0x90, 0xf4]), true);
    // An interrupt may come between others.
    stays(|_| (), false);
    // MOV SS with interrupts closed: the HLT waits for an NMI.
    stays(|guest| guest.vcpus[0].set_rflags(2), true);
    // A step is trapped behind the HLT.
    stays(|guest| guest.vcpus[0].set_rflags(0x302), true);
    // A program may not halt.
    stays(
        |guest| {
            let stack = guest.vcpus[0].segment(SegReg::Ss);
            let user = Segment { access: stack.access | 0x60, ..stack };
            guest.vcpus[0].set_segment(SegReg::Ss, user);
        },
        true,
    );
    // An event goes first whose delivery was interrupted.
    stays(|guest| guest.vcpus[0].inject(Some(Event::interrupt(0x60))), true);
    // Where there is no memory, there is no HLT.
    stays(|guest| guest.vcpus[0].set_rip(0x4000_0000), true);
}
