//! Xen's interface as a guest uses it: discovery, hypercalls, shared info, time, events.

use arch::{Event, Exit, GuestPhys, Nanos, SharedPage, Vcpu, Why};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Call, Guest, Mode, Setup};
use machine::Activity;
use machine::host::Backing;
use machine::xen::{Hub, Limits};
use pvdrivers::DomId;
use pvdrivers::abi::shared_info::{SharedInfo, VcpuInfo};
use pvdrivers::abi::{Hypercall, Layout, Width};
use pvdrivers::abi::{
    event_channel, grant_table, hvm_op, hvm_params, memory, sched, vcpu, version, xen,
};
use pvdrivers::event::Settings;
use pvdrivers::{Errno, Port};
use std::sync::atomic::AtomicU64;

/// Where arguments of hypercalls are.
const ARG: u64 = 0x20_0000;
/// Where guests map their shared info page.
const SHARED: u64 = 0x21_0000;

struct XenGuest {
    guest: Guest,
    width: Width,
}

impl XenGuest {
    fn new(width: Width, vcpus: usize) -> XenGuest {
        let mut guest = Guest::with(Setup { xen: true, vcpus, ..Setup::default() });
        for n in 0..vcpus {
            let mode = if width == Width::Bits64 { Mode::Long } else { Mode::Protected };
            guest.set_mode(n, mode);
        }
        XenGuest { guest, width }
    }

    /// VMCALL of vCPU `n`. What it returns.
    fn call_of(&mut self, n: usize, number: Hypercall, args: &[u64]) -> i64 {
        self.begin(n, number, args);
        assert_eq!(self.guest.exit_of(n, Exit::Hypercall), None);
        self.result(n)
    }

    fn begin(&mut self, n: usize, number: Hypercall, args: &[u64]) {
        let vcpu = &mut self.guest.vcpus[n];
        vcpu.gprs.set_rax(number.0);
        for (place, arg) in args.iter().enumerate() {
            let gprs = &mut vcpu.gprs;
            match (self.width, place) {
                (Width::Bits64, 0) => gprs.set_rdi(*arg),
                (Width::Bits64, 1) => gprs.set_rsi(*arg),
                (Width::Bits64, 2) => gprs.set_rdx(*arg),
                (Width::Bits32, 0) => gprs.set_rbx(*arg),
                (Width::Bits32, 1) => gprs.set_rcx(*arg),
                (Width::Bits32, 2) => gprs.set_rdx(*arg),
                _ => panic!("more arguments than these tests use"),
            }
        }
        vcpu.next_rip = Some(vcpu.rip.wrapping_add(3));
    }

    fn result(&self, n: usize) -> i64 {
        let rax = self.guest.vcpus[n].gprs.rax();
        if self.width == Width::Bits64 { rax as i64 } else { i64::from(rax as u32 as i32) }
    }

    fn call(&mut self, number: Hypercall, args: &[u64]) -> i64 {
        self.call_of(0, number, args)
    }

    /// A call with a structure at its end; the structure as the call left it.
    fn call_with<T: Layout>(&mut self, number: Hypercall, args: &[u64], arg: T) -> (i64, T) {
        let mut bytes = [0; 128];
        let len = T::size(self.width);
        arg.store(&mut bytes, self.width).unwrap();
        self.guest.machine.ram.write_slice(GuestPhys(ARG), &bytes[..len]).unwrap();
        let mut all = args.to_vec();
        all.push(ARG);
        let result = self.call(number, &all);
        self.guest.machine.ram.read(GuestPhys(ARG), &mut bytes[..len]).unwrap();
        (result, T::parse(&bytes, self.width).unwrap())
    }

    fn event<T: Layout>(&mut self, op: event_channel::EventOp, arg: T) -> (i64, T) {
        self.call_with(Hypercall::EVENT_CHANNEL_OP, &[op.0.into()], arg)
    }

    fn set_param(&mut self, which: hvm_params::HvmParam, value: u64) -> i64 {
        let arg = hvm_op::HvmParamArg { domid: DomId::SELF.0, pad: 0, index: which.0, value };
        self.call_with(Hypercall::HVM_OP, &[hvm_op::HvmOp::SET_PARAM.0.into()], arg).0
    }

    /// Maps the shared info page, as Linux does, and says by which vector events come.
    fn set_up_events(&mut self, vector: u8) {
        let arg = memory::AddToPhysmap {
            domid: DomId::SELF.0,
            space: memory::MapSpace::SHARED_INFO.0,
            gpfn: pvdrivers::abi::Ulong(SHARED >> 12),
            ..Default::default()
        };
        let op = memory::MemoryOp::ADD_TO_PHYSMAP.0.into();
        assert_eq!(self.call_with(Hypercall::MEMORY_OP, &[op], arg).0, 0);
        let value = 2 << 56 | u64::from(vector);
        assert_eq!(self.set_param(hvm_params::HvmParam::CALLBACK_IRQ, value), 0);
    }

    /// Moves vCPU `n`'s `vcpu_info` into RAM; where it is.
    fn register_vcpu_info(&mut self, n: u64) -> u64 {
        let at = SHARED + 0x1000 + 64 * n;
        let arg = vcpu::RegisterVcpuInfo { mfn: at >> 12, offset: at as u32 & 0xfff, reserved: 0 };
        let op = vcpu::VcpuOp::REGISTER_VCPU_INFO.0.into();
        assert_eq!(self.call_with(Hypercall::VCPU_OP, &[op, n], arg).0, 0);
        at
    }

    /// What others said of this domain's events is carried out, as a hypervisor would.
    fn announce(&mut self) -> Vec<(usize, bool)> {
        let mut all = Vec::new();
        for call in self.guest.host.take_calls() {
            if let Call::Announce(dom, vcpu, upcall) = call {
                assert_eq!(dom, DomId(1));
                self.guest.machine.announce(&self.guest.host, vcpu, upcall);
                all.push((vcpu, upcall));
            }
        }
        self.guest.host.take_calls();
        all
    }

    fn bind_ipi(&mut self, vcpu: u32) -> u32 {
        let arg = event_channel::BindIpi { vcpu, port: 0 };
        let (result, arg) = self.event(event_channel::EventOp::BIND_IPI, arg);
        assert_eq!(result, 0);
        arg.port
    }

    fn send(&mut self, port: u32) -> i64 {
        self.event(event_channel::EventOp::SEND, event_channel::PortArg { port }).0
    }
}

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

#[test]
fn a_guest_without_xen_finds_no_xen() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Long);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(6, None)), "#UD");
    guest.vcpus[0].gprs.set_rax(0x4000_0000);
    guest.vcpus[0].next_rip = Some(2);
    assert_eq!(guest.exit(Exit::Cpuid), None);
    assert_ne!(guest.vcpus[0].gprs.rbx(), 0x566e_6558);
}

#[test]
fn the_hypercall_page_is_written_where_the_msr_says() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    let vcpu = &mut xen.guest.vcpus[0];
    vcpu.gprs.set_rcx(0x4000_0000);
    vcpu.gprs.set_rax(0x30_0000);
    vcpu.gprs.set_rdx(0);
    vcpu.next_rip = Some(2);
    assert_eq!(xen.guest.exit(Exit::Wrmsr), None);
    assert_eq!(xen.guest.load(0x30_0000 + 17 * 32, 8), 0xc101_0f00_0000_11b8, "VMCALL on Intel");
    // A second page there is not, nor a page outside RAM.
    for bad in [0x30_0001, 0x7000_0000] {
        xen.guest.vcpus[0].gprs.set_rax(bad);
        assert_eq!(xen.guest.exit(Exit::Wrmsr), None);
        assert_eq!(xen.guest.vcpus[0].pending.take(), Some(Event::exception(13, Some(0))));
    }
}

#[test]
fn xen_version_tells_4_17_and_its_features_in_both_widths() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        let rip = xen.guest.vcpus[0].rip;
        assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), 0x4_0011);
        assert_eq!(xen.guest.vcpus[0].rip, rip + 3);
        let op = version::VersionOp::GET_FEATURES.0.into();
        let arg = version::FeatureInfo { submap_idx: 0, submap: 0 };
        let (result, info) = xen.call_with(Hypercall::XEN_VERSION, &[op], arg);
        assert_eq!((result, info.submap & (1 << 8 | 1 << 9)), (0, 1 << 8 | 1 << 9));
        let hole = 0xd000_0000;
        assert_eq!(xen.call(Hypercall::XEN_VERSION, &[op, hole]), Errno::EFAULT.code());
        assert_eq!(xen.call(Hypercall(63), &[0]), Errno::ENOSYS.code());
        assert_eq!(xen.call(Hypercall(u64::MAX), &[0]), Errno::ENOSYS.code());
        assert_eq!(xen.call(Hypercall::DOMCTL, &[ARG]), Errno::EPERM.code());
    }
}

#[test]
fn programs_in_ring_3_and_real_mode_may_not_call() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    let stack = xen.guest.vcpus[0].segment(arch::SegReg::Ss);
    let user = arch::Segment { access: stack.access | 3 << 5, ..stack };
    xen.guest.vcpus[0].set_segment(arch::SegReg::Ss, user);
    let code = xen.guest.vcpus[0].segment(arch::SegReg::Cs);
    let user = arch::Segment { access: code.access | 3 << 5, selector: 3, ..code };
    xen.guest.vcpus[0].set_segment(arch::SegReg::Cs, user);
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), Errno::EPERM.code());
    xen.guest.set_mode(0, Mode::Real);
    xen.width = Width::Bits32;
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), Errno::EPERM.code());
}

#[test]
fn the_shared_info_page_is_mapped_and_has_the_wall_clock() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        xen.guest.host.take_calls();
        xen.set_up_events(0xf3);
        let mapped = xen
            .guest
            .host
            .take_calls()
            .into_iter()
            .any(|call| matches!(call, Call::Map(SHARED, 4096, Backing::Xen(0), _)));
        assert!(mapped);
        let page = xen.guest.shared_info();
        assert_eq!(page.read_u32(SharedInfo::of(width).wc_sec), Some(1_700_000_000));
    }
}

#[test]
fn a_moved_vcpu_info_tells_the_time_of_the_board() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.guest.host.tsc.set(5_000_000);
    xen.set_up_events(0xf3);
    let at = xen.register_vcpu_info(0) + VcpuInfo::of(Width::Bits64).time as u64;
    let (version, mul, shift) =
        (xen.guest.load(at, 4), xen.guest.load(at + 24, 4), xen.guest.load(at + 28, 1));
    assert_eq!(version % 2, 0);
    assert_eq!(xen.guest.load(at + 29, 1), 1, "stable");
    // The clock of these tests runs at 1 GHz: a tick is a nanosecond.
    assert_eq!(((1_000_000u64 << shift) * mul) >> 32, 1_000_000);
    assert_eq!((xen.guest.load(at + 8, 8), xen.guest.load(at + 16, 8)), (0, 0));
    // It moves once.
    let again = vcpu::RegisterVcpuInfo { mfn: SHARED >> 12, offset: 64, reserved: 0 };
    let op = vcpu::VcpuOp::REGISTER_VCPU_INFO.0.into();
    let (result, _) = xen.call_with(Hypercall::VCPU_OP, &[op, 0], again);
    assert_eq!(result, Errno::EINVAL.code());
    let (result, _) = xen.call_with(Hypercall::VCPU_OP, &[op, 9], again);
    assert_eq!(result, Errno::ENOENT.code());
}

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
fn the_smallest_argument_is_found_wherever_it_lies() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let port = xen.bind_ipi(0);
    // In one word of memory, across two of them, and across two pages.
    for at in [ARG, ARG + 4, ARG + 5, ARG + 0xffe] {
        xen.guest.store(at, 4, port.into());
        let op = event_channel::EventOp::SEND.0.into();
        assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, at]), 0, "{at:#x}");
        xen.guest.store(at, 4, 0);
        let error = Errno::EINVAL.code();
        assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, at]), error, "{at:#x}");
    }
    let op = event_channel::EventOp::SEND.0.into();
    let nowhere = 0x7000_0000_0000;
    assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, nowhere]), Errno::EFAULT.code());
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
    ] {
        let mut xen = XenGuest::new(Width::Bits64, 1);
        xen.guest.store(ARG, 4, reason.0.into());
        xen.begin(0, Hypercall::SCHED_OP, &[sched::SchedOp::SHUTDOWN.0.into(), ARG]);
        assert_eq!(xen.guest.exit(Exit::Hypercall), Some(why));
    }
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.guest.store(ARG, 4, 77);
    assert_eq!(xen.call(Hypercall::SCHED_OP, &[2, ARG]), Errno::EINVAL.code());
    assert_eq!(xen.call(Hypercall::SCHED_OP, &[0, 0]), 0);
    assert!(xen.guest.host.take_calls().contains(&Call::Yield));
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
fn a_multicall_of_many_goes_on_where_it_stopped() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        let size = xen::MulticallEntry::size(width) as u64;
        for n in 0..40 {
            let op = pvdrivers::abi::Ulong(Hypercall::XEN_VERSION.0);
            let entry = xen::MulticallEntry { op, ..Default::default() };
            let mut bytes = [0; 64];
            entry.store(&mut bytes, width).unwrap();
            let at = GuestPhys(ARG + n * size);
            xen.guest.machine.ram.write_slice(at, &bytes[..size as usize]).unwrap();
        }
        let rip = xen.guest.vcpus[0].rip;
        xen.begin(0, Hypercall::MULTICALL, &[ARG, 40]);
        assert_eq!(xen.guest.exit(Exit::Hypercall), None);
        assert_eq!(xen.guest.vcpus[0].rip, rip, "the rest is still to be done");
        assert_eq!(xen.guest.exit(Exit::Hypercall), None);
        assert_eq!((xen.guest.vcpus[0].rip, xen.result(0)), (rip + 3, 0));
        let word = width.bytes() as u64;
        for n in 0..40 {
            let result = xen.guest.load(ARG + n * size + word, width.bytes() as u8);
            assert_eq!(result, 0x4_0011, "{n}");
        }
    }
}

#[test]
fn a_reset_leaves_nothing_of_what_the_guest_set_up() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    xen.set_up_events(0xf3);
    xen.register_vcpu_info(1);
    let port = xen.bind_ipi(1);
    assert!(xen.guest.machine.power_on(&xen.guest.host));
    let calls = xen.guest.host.take_calls();
    let gone = calls.iter().position(|call| *call == Call::Unmap(SHARED, 4096)).unwrap();
    let back = |call: &Call| matches!(call, Call::Map(0x10_0000.., _, Backing::Ram, _));
    assert!(calls.iter().rposition(back).unwrap() > gone, "RAM is there again");
    assert_eq!(xen.send(port), Errno::EINVAL.code());
    assert_eq!(xen.guest.shared_info().read_u8(0), Some(0));
    xen.set_up_events(0xf3);
    xen.register_vcpu_info(1);
}

#[test]
fn a_guest_that_is_gone_leaves_no_port_and_no_grant_and_can_be_switched_on_again() {
    let mut xen = XenGuest::new(Width::Bits64, 2);
    xen.set_up_events(0xf3);
    xen.register_vcpu_info(1);
    xen.bind_ipi(1);
    let (hub, dom) = (xen.guest.machine.xen().expect("Xen").hub, DomId(1));
    // Another guest waits for it, a third one is connected to it.
    let settings = Settings {
        vcpus: 1,
        shared_info: SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512]))),
        max_port: 100,
        pirqs: 0,
        privileged: false,
    };
    let mut events = hub.events.lock();
    events.add_domain(DomId(2), &settings).expect("room");
    events.alloc_unbound(DomId(2), DomId::SELF, dom).expect("a port");
    let to = events.alloc_unbound(dom, DomId::SELF, DomId(2)).expect("a port");
    let _ = events.bind_interdomain(DomId(2), dom, to).expect("connected");
    drop(events);
    xen.guest.machine.leave_xen(&xen.guest.host);
    assert_eq!(hub.events.lock().usage(dom), None);
    assert_eq!(hub.grants.lock().usage(dom), None);
    assert_eq!(hub.events.lock().usage(DomId(2)).map(|usage| usage.ports), Some(2));
    assert_eq!(xen.send(to.0), Errno::ESRCH.code());
    assert!(xen.guest.machine.power_on(&xen.guest.host));
    assert!(hub.events.lock().usage(dom).is_some() && hub.grants.lock().usage(dom).is_some());
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

/// Domain 2, which has two pages of domain 1's mapped: in a hole, and over its own RAM.
fn guest_with_foreign_pages(hub: &'static Hub) -> (XenGuest, [u64; 2]) {
    let build = |domid| {
        let mut guest = Guest::with(Setup { domain: Some((domid, hub)), ..Setup::default() });
        guest.set_mode(0, Mode::Long);
        XenGuest { guest, width: Width::Bits64 }
    };
    let giver = build(DomId(1));
    let table = hub.grants.lock().frame(DomId(1), 0).unwrap();
    for reference in [8usize, 9] {
        table.write(reference * 8 + 4, 4, 0x100 + reference as u64).unwrap();
        table.write(reference * 8, 4, 2 << 16 | 1).unwrap();
    }
    drop(giver);
    let mut taker = build(DomId(2));
    let places = [0xe800_0000, 0x30_0000];
    for (reference, at) in [8, 9].into_iter().zip(places) {
        let arg = grant_table::MapGrantRef {
            host_addr: at,
            flags: grant_table::MAP_HOST,
            reference,
            dom: 1,
            ..Default::default()
        };
        taker.guest.machine.ram.write_slice(GuestPhys(ARG), &[0; 64]).unwrap();
        let mut bytes = [0; 64];
        let len = grant_table::MapGrantRef::size(taker.width);
        arg.store(&mut bytes, taker.width).unwrap();
        taker.guest.machine.ram.write_slice(GuestPhys(ARG), &bytes[..len]).unwrap();
        assert_eq!(taker.call(Hypercall::GRANT_TABLE_OP, &[0, ARG, 1]), 0);
        let frame = GuestPhys((0x100 + u64::from(reference)) << 12);
        let map = Call::Map(at, 4096, Backing::Foreign(DomId(1), frame), arch::Perm::RWX);
        assert!(taker.guest.host.take_calls().contains(&map));
    }
    assert!(hub.grants.lock().holds_frame(DomId(1), 0x108));
    (taker, places)
}

#[test]
fn a_reset_takes_other_guests_pages_out_of_the_memory_before_they_are_free() {
    let hub: &'static Hub = Box::leak(Box::new(Hub::new(|| 0)));
    let (taker, places) = guest_with_foreign_pages(hub);
    assert!(taker.guest.machine.power_on(&taker.guest.host));
    let calls = taker.guest.host.take_calls();
    for at in places {
        let gone = calls.iter().position(|call| *call == Call::Unmap(at, 4096));
        let ram = |call: &Call| matches!(call, Call::Map(0, _, Backing::Ram, _));
        let mapped = calls.iter().position(ram).unwrap();
        assert!(gone.is_some_and(|gone| gone < mapped), "{at:#x}: {calls:?}");
    }
    assert!(!hub.grants.lock().holds_frame(DomId(1), 0x108));
    assert_eq!(hub.grants.lock().usage(DomId(2)).unwrap().maps, 0);
}

#[test]
fn a_guest_that_ends_gives_up_other_guests_pages_and_its_own() {
    let hub: &'static Hub = Box::leak(Box::new(Hub::new(|| 0)));
    let (taker, places) = guest_with_foreign_pages(hub);
    assert!(taker.guest.machine.let_go(&taker.guest.host));
    let calls = taker.guest.host.take_calls();
    assert!(places.iter().all(|at| calls.contains(&Call::Unmap(*at, 4096))), "{calls:?}");
    assert!(!hub.grants.lock().holds_frame(DomId(1), 0x108));
    // Switched on again, it is among the others.
    assert!(taker.guest.machine.power_on(&taker.guest.host));
    assert!(hub.grants.lock().usage(DomId(2)).is_some());
}

#[test]
fn a_guest_has_no_more_of_the_interface_than_its_configuration_gives() {
    let limits = Limits { max_port: 4, grant_frames: 3, grants_v2: false, ..Limits::default() };
    let mut guest = Guest::with(Setup { xen: true, limits, ..Setup::default() });
    guest.set_mode(0, Mode::Long);
    let mut xen = XenGuest { guest, width: Width::Bits64 };
    // Also after a reset.
    for _ in 0..2 {
        assert_eq!([0; 4].map(|vcpu| xen.bind_ipi(vcpu)), [1, 2, 3, 4]);
        let arg = event_channel::BindIpi { vcpu: 0, port: 0 };
        let (result, _) = xen.event(event_channel::EventOp::BIND_IPI, arg);
        assert_eq!(result, Errno::ENOSPC.code());
        let op = grant_table::GrantOp::QUERY_SIZE.0.into();
        let size = grant_table::QuerySize { dom: DomId::SELF.0, ..Default::default() };
        xen.guest.machine.ram.write_slice(GuestPhys(ARG), &[0; 16]).unwrap();
        let mut bytes = [0; 16];
        size.store(&mut bytes, Width::Bits64).unwrap();
        xen.guest.machine.ram.write_slice(GuestPhys(ARG), &bytes).unwrap();
        assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, 1]), 0);
        assert_eq!(xen.guest.load(ARG + 8, 4), 3, "max_nr_frames");
        let op = grant_table::GrantOp::SET_VERSION.0.into();
        xen.guest.store(ARG, 4, 2);
        assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, 1]), Errno::ENOSYS.code());
        assert!(xen.guest.machine.power_on(&xen.guest.host));
    }
}

#[test]
fn a_grant_operation_s_argument_may_lie_anywhere_in_both_widths() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut xen = XenGuest::new(width, 1);
        let len = grant_table::Copy::size(width);
        // In whole words of a page, beside them, at the end of a page and over it.
        for at in [0, 4, 1, 0x1000 - len as u64, 0xff8, 0xffc].map(|offset| ARG + offset) {
            let own = |frame| grant_table::CopyPtr {
                frame: pvdrivers::abi::Ulong(frame),
                domid: DomId::SELF.0,
                offset: 8,
            };
            let (source, dest) = (own(0x300), own(0x301));
            let arg = grant_table::Copy { source, dest, len: 21, flags: 0, status: 1 };
            let mut bytes = [0xee; 48];
            arg.store(&mut bytes, width).unwrap();
            let ram = xen.guest.machine.ram;
            ram.write_slice(GuestPhys(at), &bytes).unwrap();
            ram.write_u64(GuestPhys(0x30_0010), at).unwrap();
            assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[5, at, 1]), 0);
            assert_eq!(ram.read_u64(GuestPhys(0x30_1010)), Some(at), "{width:?} {at:#x}");
            ram.read(GuestPhys(at), &mut bytes).unwrap();
            assert_eq!(
                grant_table::Copy::parse(&bytes, width),
                Ok(grant_table::Copy { status: 0, ..arg })
            );
            assert!(bytes[len..].iter().all(|byte| *byte == 0xee), "what lies behind it stays");
        }
    }
}
