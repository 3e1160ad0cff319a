//! Xen's interface as a guest uses it: events, timers, waiting, vCPUs that come and go, and how a guest stops itself.

use arch::apicpage::{Vectors, offset};
use arch::{Event, Exit, Nanos, SysReg, Vcpu, Why};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::xen::{ARG, XenGuest};
use host_tests::{Call, Mode, TABLES};
use machine::Activity;
use pvdrivers::DomId;
use pvdrivers::abi::shared_info::{SharedInfo, VcpuInfo};
use pvdrivers::abi::{Hypercall, Width};
use pvdrivers::abi::{event_channel, hvm_op, hvm_params, sched, vcpu, xen};
use pvdrivers::{Errno, Port};

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

#[test]
fn an_event_comes_by_the_callback_vector_when_interrupts_are_open() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        xen.set_up_events(0xf3);
        let port = xen.bind_ipi(0);
        assert_eq!(xen.send(port), 0);
        assert_eq!(xen.announce(), [], "who sends to itself needs no telling");
        assert_eq!(xen.guest.enter(0), Some(None), "closed");
        assert!(xen.guest.vcpus[0].window.0, "a window is asked for");
        xen.guest.vcpus[0].rflags |= 0x200;
        assert_eq!(xen.guest.exit(Exit::InterruptWindow), None);
        assert_eq!(xen.guest.enter(0), Some(Some(Event::interrupt(0xf3))));
        let page = xen.guest.shared_info();
        let layout = SharedInfo::of(width);
        assert_eq!(page.read_u32(layout.evtchn_pending).map(|bits| bits >> port & 1), Some(1));
        assert_eq!(page.read_u8(0), Some(1), "evtchn_upcall_pending");
        // The handler clears the mark, and nothing comes again.
        page.write(0, 1, 0).unwrap();
        assert_eq!(xen.guest.exit(Exit::HostInterrupt), None);
        xen.guest.cpus[0].wake();
        assert_eq!(xen.guest.enter(0), Some(None));
    }
}

#[test]
fn a_vcpu_with_a_vector_of_its_own_gets_events_through_its_local_apic() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    xen.guest.enable_lapic(0);
    xen.guest.vcpus[0].rflags |= 0x200;
    // Moving the `vcpu_info` marks all events as pending, while nothing can tell of them.
    let info = xen.register_vcpu_info(0);
    let arg = hvm_op::UpcallVector { vcpu: 0, vector: 0x55 };
    let op = hvm_op::HvmOp::SET_EVTCHN_UPCALL_VECTOR.0.into();
    assert_eq!(xen.call_with(Hypercall::HVM_OP, &[op], arg).0, 0);
    xen.announce();
    assert_eq!(xen.guest.enter(0), Some(Some(Event::interrupt(0x55))), "what was pending is told");
    // The handler clears `evtchn_upcall_pending` and takes `evtchn_pending_sel`.
    xen.guest.store(info, 1, 0);
    xen.guest.store(info + VcpuInfo::of(Width::Bits64).evtchn_pending_sel as u64, 8, 0);
    xen.guest.end_of_interrupt(0);
    // Linux then sets a line, which must stay silent.
    assert_eq!(xen.set_param(hvm_params::HvmParam::CALLBACK_IRQ, 1), 0);
    let port = xen.bind_ipi(0);
    assert_eq!(xen.send(port), 0);
    assert_eq!(xen.announce(), [], "who sends to itself needs no telling");
    assert_eq!(xen.guest.enter(0), Some(Some(Event::interrupt(0x55))));
    let (result, _) =
        xen.call_with(Hypercall::HVM_OP, &[op], hvm_op::UpcallVector { vcpu: 0, vector: 15 });
    assert_eq!(result, Errno::EINVAL.code());
}

#[test]
fn an_event_to_oneself_reaches_a_local_apic_that_the_cpu_keeps() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        xen.set_up_events(0xf3);
        xen.guest.vcpus[0].keep_apic();
        xen.guest.enable_lapic(0);
        let arg = hvm_op::UpcallVector { vcpu: 0, vector: 0x55 };
        let op = hvm_op::HvmOp::SET_EVTCHN_UPCALL_VECTOR.0.into();
        assert_eq!(xen.call_with(Hypercall::HVM_OP, &[op], arg).0, 0);
        let port = xen.bind_ipi(0);
        xen.guest.vcpus[0].rflags |= 0x200;
        xen.guest.cpus[0].wake();
        assert_eq!(xen.guest.enter(0), Some(None));
        let page = |xen: &mut XenGuest| xen.guest.vcpus[0].apic.0.take().expect("the CPU keeps it");
        let requested = [0, 1 << (0x55 - 64), 0, 0];
        // The vector came with its setting, as in Xen. The CPU delivers it, and the guest ends it.
        let mut own = page(&mut xen);
        assert_eq!(own.vectors(offset::IRR), requested);
        let none = Vectors { words: [0; 4], top: 0 };
        own.put(&none, &none, &[0; 4]);
        xen.guest.vcpus[0].apic.0 = Some(own);
        assert_eq!(xen.send(port), 0);
        assert_eq!(xen.guest.enter(0), Some(None));
        assert_eq!(page(&mut xen).vectors(offset::IRR), requested, "{width:?}");
    }
}

#[test]
fn an_event_to_oneself_is_taken_behind_the_call_where_nothing_stands_in_its_way() {
    let send = |open: u64, before: &dyn Fn(&mut XenGuest)| {
        let mut xen = XenGuest::new(Width::Bits64, 1);
        xen.set_up_events(0xf3);
        let port = xen.bind_ipi(0);
        assert_eq!(xen.guest.enter(0), Some(None));
        xen.guest.vcpus[0].rflags |= open;
        before(&mut xen);
        assert_eq!(xen.send(port), 0);
        let entry = (xen.guest.enter(0), xen.guest.vcpus[0].window.0);
        // Once is enough: the handler has not taken it yet.
        xen.guest.vcpus[0].rflags &= !0x200;
        assert_eq!(xen.guest.enter(0), Some(None));
        entry
    };
    let (upcall, nothing) = (Some(Some(Event::interrupt(0xf3))), |_: &mut XenGuest| {});
    assert_eq!(send(0x200, &nothing), (upcall, false));
    assert_eq!(send(0, &nothing), (Some(None), true), "closed: at the window");
    let trap = Some(Some(Event::exception(1, None)));
    assert_eq!(send(0x300, &nothing), (trap, true), "a single step comes first");
    let wake = |xen: &mut XenGuest| xen.guest.cpus[0].wake();
    assert_eq!(send(0x200, &wake), (upcall, false), "by the look at all that waits");
    let other = |xen: &mut XenGuest| xen.guest.vcpus[0].inject(Some(Event::NMI));
    assert_eq!(send(0x200, &other), (Some(Some(Event::NMI)), true), "a delivery goes on first");
}

#[test]
fn an_event_for_another_vcpu_is_announced_to_that_one_alone() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    xen.set_up_events(0xf3);
    let port = xen.bind_ipi(1);
    assert_eq!(xen.send(port), 0);
    assert_eq!(xen.announce(), [(1, true)]);
    xen.guest.vcpus[0].rflags |= 0x200;
    assert_eq!(xen.guest.enter(0), Some(None));
}

#[test]
fn a_single_shot_timer_is_a_virtual_interrupt_at_its_time() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let arg = event_channel::BindVirq { virq: xen::Virq::TIMER.0, vcpu: 0, port: 0 };
    assert_eq!(xen.event(event_channel::EventOp::BIND_VIRQ, arg).0, 0);
    let timer = vcpu::SetSingleshotTimer { timeout_abs_ns: 70_000, flags: 1 };
    let op = vcpu::VcpuOp::SET_SINGLESHOT_TIMER.0.into();
    assert_eq!(xen.call_with(Hypercall::VCPU_OP, &[op, 0], timer).0, 0);
    assert_eq!(xen.guest.cpus[0].due(), Some(Nanos(70_000)));
    xen.guest.vcpus[0].rflags |= 0x200;
    xen.guest.pass(69_000);
    assert_eq!(xen.guest.enter(0), Some(None));
    xen.guest.pass(1_000);
    let _ = xen.guest.enter(0);
    assert_eq!(xen.announce(), [(0, true)]);
    assert_eq!(xen.guest.enter(0), Some(Some(Event::interrupt(0xf3))));
    assert_eq!(xen.guest.cpus[0].due(), None);
    // In the past, and asked to be in the future.
    xen.guest.pass(1);
    let (result, _) = xen.call_with(Hypercall::VCPU_OP, &[op, 0], timer);
    assert_eq!(result, Errno::ETIME.code());
}

#[test]
fn a_poll_sleeps_until_its_port_is_pending_though_masked() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let port = xen.bind_ipi(0);
    let page = xen.guest.shared_info();
    page.fetch_or(SharedInfo::of(Width::Bits64).evtchn_mask, 8, 1 << port).unwrap();
    let ports = ARG + 0x100;
    xen.guest.store(ports, 4, port.into());
    let poll = sched::Poll { ports: arch::GuestVirt(ports), nr_ports: 1, timeout: 0 };
    let rip = xen.guest.vcpus[0].rip;
    let op = sched::SchedOp::POLL.0.into();
    let _ = xen.guest.enter(0);
    assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], poll).0, 0);
    assert_eq!(xen.guest.vcpus[0].rip, rip + 3);
    for _ in 0..3 {
        assert_eq!(xen.guest.enter(0), None, "it sleeps");
    }
    let deliver = xen.guest.machine_events().lock().send(DomId(1), Port(port)).unwrap();
    machine::xen::deliver_to(&xen.guest.host, deliver);
    assert_eq!(xen.announce(), [(0, false)]);
    assert_eq!(xen.guest.enter(0), Some(None));
    // It is pending by now: there is nothing to wait for.
    assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], poll).0, 0);
    assert_eq!(xen.guest.enter(0), Some(None));
}

#[test]
fn a_poll_ends_at_its_time_or_by_an_interrupt_and_its_time_does_not_come_again() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let (masked, other) = (xen.bind_ipi(0), xen.bind_ipi(0));
    let page = xen.guest.shared_info();
    page.fetch_or(SharedInfo::of(Width::Bits64).evtchn_mask, 8, 1 << masked).unwrap();
    let ports = ARG + 0x100;
    xen.guest.store(ports, 4, masked.into());
    let poll = |timeout| sched::Poll { ports: arch::GuestVirt(ports), nr_ports: 1, timeout };
    let op = sched::SchedOp::POLL.0.into();
    let _ = xen.guest.enter(0);
    assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], poll(50_000)).0, 0);
    assert_eq!(xen.guest.cpus[0].due(), Some(Nanos(50_000)));
    xen.guest.pass(49_000);
    assert_eq!(xen.guest.enter(0), None);
    xen.guest.pass(1_000);
    assert_eq!(xen.guest.enter(0), Some(None));
    assert_eq!(xen.guest.cpus[0].due(), None);
    // A time that is over already.
    assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], poll(20_000)).0, 0);
    assert_eq!(xen.guest.enter(0), Some(None));
    // Another port's event is an interrupt of this vCPU, behind the call.
    xen.guest.vcpus[0].rflags |= 0x200;
    assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], poll(90_000)).0, 0);
    assert_eq!(xen.guest.enter(0), None);
    let deliver = xen.guest.machine_events().lock().send(DomId(1), Port(other)).unwrap();
    machine::xen::deliver_to(&xen.guest.host, deliver);
    assert_eq!(xen.announce(), [(0, true)]);
    assert_eq!(xen.guest.enter(0), Some(Some(Event::interrupt(0xf3))));
    assert_eq!(xen.guest.cpus[0].due(), None);
}

#[test]
fn a_guest_stops_by_hypercall_with_its_reason() {
    for (reason, why) in [
        (sched::ShutdownReason::POWEROFF, Why::PowerOff),
        (sched::ShutdownReason::REBOOT, Why::Reset),
        (sched::ShutdownReason::CRASH, Why::Crashed(3)),
        // Only eight bits count, and reasons that there are not stop it too.
        (sched::ShutdownReason(0x101), Why::Reset),
        (sched::ShutdownReason(77), Why::Crashed(77)),
    ] {
        let mut xen = XenGuest::new(Width::Bits64, 1);
        xen.guest.store(ARG, 4, reason.0.into());
        xen.begin(0, Hypercall::SCHED_OP, &[sched::SchedOp::SHUTDOWN.0.into(), ARG]);
        assert_eq!(xen.guest.exit(Exit::Hypercall), Some(why));
    }
    let mut xen = XenGuest::new(Width::Bits64, 1);
    assert_eq!(xen.call(Hypercall::SCHED_OP, &[0, 0]), 0);
    assert!(xen.guest.host.take_calls().contains(&Call::Yield));
    // The first reason that is told before counts.
    for reason in [1, 3] {
        let arg = sched::Shutdown { reason };
        let op = sched::SchedOp::SHUTDOWN_CODE.0.into();
        assert_eq!(xen.call_with(Hypercall::SCHED_OP, &[op], arg).0, 0);
    }
    xen.guest.store(ARG, 4, 0);
    xen.begin(0, Hypercall::SCHED_OP, &[sched::SchedOp::SHUTDOWN.0.into(), ARG]);
    assert_eq!(xen.guest.exit(Exit::Hypercall), Some(Why::Reset));
}

#[test]
fn a_vcpu_that_is_down_does_not_run_until_it_is_brought_up() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    let (up, down, is_up) = (vcpu::VcpuOp::UP.0, vcpu::VcpuOp::DOWN.0, vcpu::VcpuOp::IS_UP.0);
    let op =
        |xen: &mut XenGuest, op: u32, which: u64| xen.call(Hypercall::VCPU_OP, &[op.into(), which]);
    assert_eq!(op(&mut xen, up, 1), Errno::EINVAL.code(), "it was never started");
    assert_eq!((op(&mut xen, up, 2), op(&mut xen, down, 2)), {
        (Errno::ENOENT.code(), Errno::ENOENT.code())
    });
    let send = |xen: &mut XenGuest, mode| {
        let message = Message { dest: 1, logical: false, mode, vector: 8, level: false };
        xen.guest.machine.send(&xen.guest.host, &message);
        let _ = xen.guest.enter(1);
    };
    send(&mut xen, DeliveryMode::Init);
    send(&mut xen, DeliveryMode::StartUp);
    assert_eq!(op(&mut xen, is_up, 1), 1);
    xen.guest.vcpus[1].rip = 0x1234;
    assert_eq!(op(&mut xen, down, 1), 0);
    assert_eq!((op(&mut xen, is_up, 1), xen.guest.enter(1)), (0, None));
    xen.guest.machine.set_runstate(&xen.guest.host, 1, vcpu::Runstate::BLOCKED);
    let info = vcpu::RunstateInfo::default();
    let get = vcpu::VcpuOp::GET_RUNSTATE_INFO.0.into();
    let (_, info) = xen.call_with(Hypercall::VCPU_OP, &[get, 1], info);
    assert_eq!(info.state, vcpu::Runstate::OFFLINE.0);
    // Not even an interrupt wakes it.
    send(&mut xen, DeliveryMode::Nmi);
    assert_eq!(xen.guest.enter(1), None);
    assert_eq!(op(&mut xen, up, 1), 0);
    assert_eq!(xen.guest.enter(1), Some(Some(Event::NMI)));
    assert_eq!((op(&mut xen, is_up, 1), xen.guest.vcpus[1].rip), (1, 0x1234));
    // INIT and start-up bring it up as well.
    assert_eq!(op(&mut xen, down, 1), 0);
    send(&mut xen, DeliveryMode::Init);
    assert_eq!(op(&mut xen, up, 1), Errno::EINVAL.code(), "its registers are gone");
    send(&mut xen, DeliveryMode::StartUp);
    assert_eq!((op(&mut xen, is_up, 1), xen.guest.cpus[1].activity), (1, Activity::Running));
}

#[test]
fn the_last_vcpu_that_goes_down_switches_the_guest_off() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    xen.begin(0, Hypercall::VCPU_OP, &[vcpu::VcpuOp::DOWN.0.into(), 0]);
    assert_eq!(xen.guest.exit(Exit::Hypercall), Some(Why::PowerOff));
}

#[test]
fn a_watchdog_that_is_not_set_anew_stops_the_guest() {
    const SECOND: u64 = 1_000_000_000;
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        let op = sched::SchedOp::WATCHDOG.0.into();
        let set = |xen: &mut XenGuest, id, timeout| {
            xen.call_with(Hypercall::SCHED_OP, &[op], sched::Watchdog { id, timeout }).0
        };
        assert_eq!(set(&mut xen, 1, 5), Errno::EINVAL.code(), "not taken yet");
        assert_eq!((set(&mut xen, 0, 5), set(&mut xen, 0, 60)), (1, 2));
        assert_eq!(set(&mut xen, 0, 5), Errno::ENOSPC.code(), "there are two");
        assert_eq!(set(&mut xen, 3, 5), Errno::EINVAL.code());
        assert_eq!(set(&mut xen, u32::MAX, 5), Errno::EINVAL.code());
        xen.guest.pass(4 * SECOND);
        assert_eq!(set(&mut xen, 1, 5), 0, "it is poked");
        xen.guest.pass(4 * SECOND);
        assert_eq!(xen.guest.machine.stop_request(), None);
        assert_eq!((set(&mut xen, 1, 0), set(&mut xen, 1, 5)), (0, Errno::EINVAL.code()));
        assert_eq!(set(&mut xen, 0, 5), 1, "what was given back is free");
        assert_eq!(set(&mut xen, 1, 0), 0);
        xen.guest.pass(51 * SECOND);
        assert_eq!(xen.guest.machine.stop_request(), None);
        xen.guest.pass(2 * SECOND);
        assert_eq!(xen.guest.machine.stop_request(), Some(Why::Crashed(4)));
        // A guest that starts again has none.
        assert!(xen.guest.machine.power_on(&xen.guest.host));
        assert_eq!(set(&mut xen, 2, 1), Errno::EINVAL.code());
        xen.guest.pass(99 * SECOND);
        assert_eq!(xen.guest.machine.stop_request(), None);
    }
}

#[test]
fn an_event_announced_while_the_local_apic_is_off_comes_when_it_is_switched_on() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    xen.set_up_events(0xf3);
    // vCPU 0 prepares vCPU 1, which waits for its start-up.
    let arg = hvm_op::UpcallVector { vcpu: 1, vector: 0x55 };
    let op = hvm_op::HvmOp::SET_EVTCHN_UPCALL_VECTOR.0.into();
    assert_eq!(xen.call_with(Hypercall::HVM_OP, &[op], arg).0, 0);
    xen.register_vcpu_info(1);
    assert_eq!(xen.announce(), [(1, true)]);
    for mode in [DeliveryMode::Init, DeliveryMode::StartUp] {
        let message = Message { dest: 1, logical: false, mode, vector: 8, level: false };
        xen.guest.machine.send(&xen.guest.host, &message);
        let _ = xen.guest.enter(1);
    }
    xen.guest.set_mode(1, Mode::Long);
    xen.guest.vcpus[1].rflags |= 0x200;
    assert_eq!(xen.guest.enter(1), Some(None), "lost with INIT");
    // x2APIC on, then the APIC itself.
    for (msr, value) in [(0x1b, 0xfee0_0c00), (0x80f, 0x1ff)] {
        let vcpu = &mut xen.guest.vcpus[1];
        vcpu.gprs.set_rcx(msr);
        vcpu.gprs.set_rax(value);
        vcpu.gprs.set_rdx(0);
        vcpu.next_rip = Some(vcpu.rip + 2);
        assert_eq!(xen.guest.exit_of(1, Exit::Wrmsr), None);
    }
    assert_eq!(xen.guest.enter(1), Some(Some(Event::interrupt(0x55))));
}

#[test]
fn a_moved_tsc_takes_the_clock_along() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let at = xen.register_vcpu_info(0) + VcpuInfo::of(Width::Bits64).time as u64;
    xen.guest.host.tsc.set(1_000);
    let vcpu = &mut xen.guest.vcpus[0];
    vcpu.gprs.set_rcx(0x10);
    vcpu.gprs.set_rax(51_000);
    vcpu.gprs.set_rdx(0);
    vcpu.next_rip = Some(vcpu.rip + 2);
    assert_eq!(xen.guest.exit(Exit::Wrmsr), None);
    assert_eq!(xen.guest.load(at + 8, 8), 50_000, "the TSC at time 0");
}

#[test]
fn what_waits_for_a_vcpu_is_told() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let port = xen.bind_ipi(0);
    let _ = xen.guest.enter(0);
    let told =
        |xen: &XenGuest| xen.guest.machine.waiting(&xen.guest.cpus[0], Nanos(1_000)).to_string();
    assert_eq!(told(&xen), "apic irr 00 isr 00 ppr 00 inbox false upcall false timer none");
    let timer = vcpu::SetSingleshotTimer { timeout_abs_ns: 70_000, flags: 0 };
    let op = vcpu::VcpuOp::SET_SINGLESHOT_TIMER.0.into();
    assert_eq!(xen.call_with(Hypercall::VCPU_OP, &[op, 0], timer).0, 0);
    let deliver = xen.guest.machine_events().lock().send(DomId(1), Port(port)).unwrap();
    machine::xen::deliver_to(&xen.guest.host, deliver);
    assert_eq!(xen.announce(), [(0, true)]);
    assert_eq!(told(&xen), "apic irr 00 isr 00 ppr 00 inbox true upcall true timer in 69 us");
}

/// Where [`an_argument_is_where_the_page_tables_lead_now`] has its argument: the second GiB.
const FAR: u64 = 0x4000_9000;

/// Sends by an argument at [`FAR`]; what is pending, which is taken, or the error.
fn send_by_far(xen: &mut XenGuest) -> Result<u64, i64> {
    match xen.call(Hypercall::EVENT_CHANNEL_OP, &[event_channel::EventOp::SEND.0.into(), FAR]) {
        0 => {
            let (page, at) = (xen.guest.shared_info(), SharedInfo::of(xen.width).evtchn_pending);
            let pending = page.read_u64(at).unwrap();
            page.write(at, 8, 0).unwrap();
            Ok(pending)
        }
        error => Err(error),
    }
}

#[test]
fn an_argument_is_where_the_page_tables_lead_now() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let (first, second) = (xen.bind_ipi(0), xen.bind_ipi(0));
    xen.guest.store(0x20_9000, 4, first.into());
    xen.guest.store(0x9000, 4, second.into());
    // Entries of 2 MiB pages with all that makes a walk short: present, writable, accessed, dirty.
    let entry = |page: u64| page | 0xe3;
    for table in [TABLES, TABLES + 0x1000, TABLES + 0x1008] {
        let now = xen.guest.load(table, 8);
        xen.guest.store(table, 8, now | 0x20);
    }
    let place = TABLES + 0x3000;
    xen.guest.store(place, 8, entry(0x20_0000));
    for _ in 0..2 {
        assert_eq!(send_by_far(&mut xen), Ok(1 << first));
    }
    xen.guest.store(place, 8, entry(0));
    for _ in 0..2 {
        assert_eq!(send_by_far(&mut xen), Ok(1 << second), "the page is another");
    }
    xen.guest.store(place, 8, 0);
    assert_eq!(send_by_far(&mut xen), Err(Errno::EFAULT.code()), "the page is not there");
    xen.guest.store(place, 8, entry(0));
    assert_eq!(send_by_far(&mut xen), Ok(1 << second));
    // Other tables, with the first page in that place.
    for (table, value) in [(0, 0x31_1023), (0x1008, 0x31_2023), (0x2000, entry(0x20_0000))] {
        xen.guest.store(0x31_0000 + table, 8, value);
    }
    xen.guest.vcpus[0].set_reg(SysReg::Cr3, 0x31_0000);
    for _ in 0..2 {
        assert_eq!(send_by_far(&mut xen), Ok(1 << first), "the tables are others");
    }
    xen.guest.vcpus[0].set_reg(SysReg::Cr3, TABLES);
    assert_eq!(send_by_far(&mut xen), Ok(1 << second));
    // Of the user's pages the kernel must not read.
    xen.guest.store(place, 8, entry(0) | 4);
    for table in [TABLES, TABLES + 0x1008] {
        let now = xen.guest.load(table, 8);
        xen.guest.store(table, 8, now | 4);
    }
    for _ in 0..2 {
        assert_eq!(send_by_far(&mut xen), Ok(1 << second));
    }
    let cr4 = xen.guest.vcpus[0].reg(SysReg::Cr4);
    xen.guest.vcpus[0].set_reg(SysReg::Cr4, cr4 | arch::control::cr4::SMAP);
    assert_eq!(send_by_far(&mut xen), Err(Errno::EFAULT.code()), "SMAP");
}
