//! Each operation of `event_channel_op`, and each way that it fails.

use super::*;
use crate::Errno;
use crate::abi::event_channel::Status;
use crate::abi::xen::Virq;
use crate::event::{ChannelState, MAX_VCPUS};

#[test]
fn a_port_that_waits_connects_to_the_one_domain_that_it_waits_for() {
    let mut channels = two_guests();
    channels.add_domain(DomId(3), &settings()).unwrap();
    let a = channels.alloc_unbound(A, DomId::SELF, B).unwrap();
    assert_eq!(a, Port(1), "the lowest free port");
    let state =
        |channels: &EventChannels, dom, port| channels.status(dom, dom, port).unwrap().state;
    assert_eq!(state(&channels, A, a), ChannelState::Unbound { remote: B });
    assert_eq!(channels.bind_interdomain(DomId(3), A, a), Err(Errno::EINVAL));
    assert_eq!(channels.bind_interdomain(B, A, Port(2)), Err(Errno::EINVAL));
    assert_eq!(channels.bind_interdomain(B, A, Port(1 << 30)), Err(Errno::EINVAL));
    assert_eq!(channels.bind_interdomain(B, DomId(9), a), Err(Errno::ESRCH));
    let (b, deliver) = channels.bind_interdomain(B, A, a).unwrap();
    assert_eq!(
        deliver,
        upcall(B, 0),
        "the new end is pending, since the other may have sent before"
    );
    assert_eq!(state(&channels, A, a), ChannelState::Interdomain { remote: B, port: b });
    assert_eq!(state(&channels, B, b), ChannelState::Interdomain { remote: A, port: a });
    assert_eq!(channels.bind_interdomain(B, A, a), Err(Errno::EINVAL), "it is taken");
    assert_eq!(channels.usage(B).unwrap().ports, 1, "what failed left no port");
}

#[test]
fn a_domain_may_connect_to_itself() {
    let mut channels = two_guests();
    let first = channels.alloc_unbound(A, DomId::SELF, DomId::SELF).unwrap();
    let (second, _) = channels.bind_interdomain(A, DomId::SELF, first).unwrap();
    consume_two_level(&channels, A, 0);
    assert_eq!(channels.send(A, first), Ok(upcall(A, 0)));
    assert!(channels.is_pending(A, second) && !channels.is_pending(A, first));
    channels.close(A, first).unwrap();
    let status = channels.status(A, A, second).unwrap();
    assert_eq!(status.state, ChannelState::Unbound { remote: A });
}

#[test]
fn only_the_privileged_make_ports_for_others() {
    let mut channels = two_guests();
    assert_eq!(channels.alloc_unbound(A, B, HV), Err(Errno::EPERM));
    assert_eq!(channels.alloc_unbound(A, DomId(7), HV), Err(Errno::ESRCH));
    assert_eq!(channels.alloc_unbound(A, DomId(0x7ff5), HV), Err(Errno::ESRCH));
    assert!(channels.alloc_unbound(HV, B, HV).is_ok());
    assert_eq!(channels.status(A, B, Port(1)), Err(Errno::EPERM));
    assert_eq!(channels.reset(A, B), Err(Errno::EPERM));
    let tools = Settings { privileged: true, ..settings() };
    channels.add_domain(DomId(3), &tools).unwrap();
    assert!(channels.alloc_unbound(DomId(3), A, B).is_ok());
}

#[test]
fn a_back_end_of_the_hypervisor_is_rung_and_rings_back() {
    let mut channels = two_guests();
    let guest = channels.alloc_unbound(HV, A, HV).unwrap();
    assert_eq!(channels.send(A, guest), Ok(Deliver::Nothing), "nobody is there yet");
    let (own, deliver) = channels.bind_interdomain(HV, A, guest).unwrap();
    assert_eq!(deliver, Deliver::Backend { port: own }, "it looks whether there is work already");
    assert_eq!(channels.send(A, guest), Ok(Deliver::Backend { port: own }));
    assert_eq!(channels.notify(own), upcall(A, 0));
    assert_eq!(channels.notify(own), Deliver::Nothing, "it is pending already");
    channels.close(A, guest).unwrap();
    assert_eq!(channels.notify(own), Deliver::Nothing);
    channels.close(HV, own).unwrap();
    assert_eq!(channels.notify(own), Deliver::Nothing);
    assert_eq!(channels.usage(HV).unwrap().ports, 0);
}

#[test]
fn a_guest_may_be_another_s_back_end() {
    let mut channels = two_guests();
    let (a, b) = connected(&mut channels);
    consume_two_level(&channels, B, 0);
    assert_eq!(channels.send(A, a), Ok(upcall(B, 0)));
    assert_eq!(channels.send(B, b), Ok(upcall(A, 0)));
}

#[test]
fn virtual_interrupts_are_bound_once_where_they_belong() {
    let mut channels = two_guests();
    assert_eq!(channels.bind_virq(A, 24, 0), Err(Errno::EINVAL));
    assert_eq!(channels.bind_virq(A, u32::MAX, 0), Err(Errno::EINVAL));
    assert_eq!(channels.bind_virq(A, Virq::TIMER.0, 2), Err(Errno::ENOENT));
    assert_eq!(channels.bind_virq(A, Virq::CONSOLE.0, 1), Err(Errno::EINVAL));
    let timer0 = channels.bind_virq(A, Virq::TIMER.0, 0).unwrap();
    let timer1 = channels.bind_virq(A, Virq::TIMER.0, 1).unwrap();
    let console = channels.bind_virq(A, Virq::CONSOLE.0, 0).unwrap();
    assert_eq!(channels.bind_virq(A, Virq::TIMER.0, 1), Err(Errno::EEXIST));
    assert_eq!(channels.bind_virq(A, Virq::CONSOLE.0, 0), Err(Errno::EEXIST));
    assert_eq!(channels.raise_virq(A, 1, Virq::TIMER), upcall(A, 1));
    assert!(channels.is_pending(A, timer1) && !channels.is_pending(A, timer0));
    assert_eq!(channels.raise_virq(A, 1, Virq::CONSOLE), upcall(A, 0));
    assert!(channels.is_pending(A, console));
    assert_eq!(channels.raise_virq(A, 0, Virq::DEBUG), Deliver::Nothing);
    assert_eq!(channels.raise_virq(A, 9, Virq::TIMER), Deliver::Nothing);
    assert_eq!(channels.raise_virq(A, 0, Virq(99)), Deliver::Nothing);
    assert_eq!(channels.send(A, timer0), Err(Errno::EINVAL), "a guest cannot send one");
    channels.close(A, timer1).unwrap();
    assert!(
        !channels.virq_is_bound(A, 1, Virq::TIMER) && channels.virq_is_bound(A, 0, Virq::TIMER)
    );
    assert!(channels.bind_virq(A, Virq::TIMER.0, 1).is_ok());
}

#[test]
fn a_domain_s_virtual_interrupt_that_moved_is_freed_all_the_same() {
    let mut channels = two_guests();
    let console = channels.bind_virq(A, Virq::CONSOLE.0, 0).unwrap();
    channels.bind_vcpu(A, console, 1).unwrap();
    assert_eq!(channels.raise_virq(A, 0, Virq::CONSOLE), upcall(A, 1));
    channels.close(A, console).unwrap();
    assert!(channels.bind_virq(A, Virq::CONSOLE.0, 0).is_ok());
}

#[test]
fn an_ipi_goes_to_its_vcpu_and_stays_there() {
    let mut channels = two_guests();
    assert_eq!(channels.bind_ipi(A, 2), Err(Errno::ENOENT));
    assert_eq!(channels.bind_ipi(A, u32::MAX), Err(Errno::ENOENT));
    let ipi = channels.bind_ipi(A, 1).unwrap();
    assert_eq!(channels.send(A, ipi), Ok(upcall(A, 1)));
    assert_eq!(channels.bind_vcpu(A, ipi, 0), Err(Errno::EINVAL));
}

#[test]
fn device_interrupts_are_bound_once() {
    let mut channels = two_guests();
    assert_eq!(channels.bind_pirq(A, 4), Err(Errno::EINVAL));
    let port = channels.bind_pirq(A, 3).unwrap();
    assert_eq!(channels.bind_pirq(A, 3), Err(Errno::EEXIST));
    assert_eq!(channels.raise_pirq(A, 3), upcall(A, 0));
    assert_eq!(channels.raise_pirq(A, 2), Deliver::Nothing);
    assert_eq!(channels.raise_pirq(DomId(77), 2), Deliver::Nothing);
    channels.close(A, port).unwrap();
    assert!(!channels.pirq_is_bound(A, 3));
    assert!(channels.bind_pirq(A, 3).is_ok());
}

#[test]
fn ports_move_between_vcpus_unless_they_are_one_vcpu_s_own() {
    let mut channels = two_guests();
    let (a, b) = connected(&mut channels);
    consume_two_level(&channels, B, 0);
    channels.bind_vcpu(B, b, 1).unwrap();
    assert_eq!(channels.send(A, a), Ok(upcall(B, 1)));
    assert_eq!(channels.status(B, B, b).unwrap().vcpu, 1);
    assert_eq!(channels.bind_vcpu(B, b, 2), Err(Errno::ENOENT));
    assert_eq!(channels.bind_vcpu(B, Port(99), 0), Err(Errno::EINVAL), "a free port");
    assert_eq!(channels.bind_vcpu(B, Port(0), 0), Err(Errno::EINVAL));
    assert_eq!(channels.bind_vcpu(B, Port(1 << 20), 0), Err(Errno::EINVAL));
    let timer = channels.bind_virq(B, Virq::TIMER.0, 0).unwrap();
    assert_eq!(channels.bind_vcpu(B, timer, 1), Err(Errno::EINVAL));
    channels.close(B, b).unwrap();
    assert_eq!(channels.bind_ipi(B, 0), Ok(b));
    assert_eq!(
        channels.status(B, B, b).unwrap().vcpu,
        0,
        "a port that is used again begins at vCPU 0"
    );
}

#[test]
fn closing_a_port_leaves_the_peer_waiting() {
    let mut channels = two_guests();
    let (a, b) = connected(&mut channels);
    channels.close(B, b).unwrap();
    assert_eq!(channels.close(B, b), Err(Errno::EINVAL));
    assert_eq!(channels.status(A, A, a).unwrap().state, ChannelState::Unbound { remote: B });
    assert_eq!(channels.send(A, a), Ok(Deliver::Nothing));
    assert!(channels.bind_interdomain(B, A, a).is_ok(), "and it can be bound again");
    assert_eq!(channels.close(A, Port(0)), Err(Errno::EINVAL));
    assert_eq!(channels.close(A, Port(u32::MAX)), Err(Errno::EINVAL));
    assert_eq!(channels.send(A, Port(0)), Err(Errno::EINVAL));
    assert_eq!(channels.send(A, Port(u32::MAX)), Err(Errno::EINVAL));
    assert_eq!(channels.send(DomId(8), Port(1)), Err(Errno::ESRCH));
}

#[test]
fn the_status_argument_tells_state_and_peer() {
    let mut channels = two_guests();
    let (a, b) = connected(&mut channels);
    let virq = channels.bind_virq(A, Virq::DEBUG.0, 1).unwrap();
    let waits = channels.alloc_unbound(A, DomId::SELF, HV).unwrap();
    let ipi = channels.bind_ipi(A, 1).unwrap();
    let pirq = channels.bind_pirq(A, 2).unwrap();
    let tell = |port| {
        let mut argument = Status { port, ..Status::default() };
        channels.status(A, DomId::SELF, Port(port)).unwrap().fill(&mut argument);
        (argument.status, argument.vcpu, argument.detail, argument.remote_port)
    };
    assert_eq!(tell(0), (0, 0, 0, 0));
    assert_eq!(tell(a.0), (2, 0, 2, b.0));
    assert_eq!(tell(virq.0), (4, 1, 1, 0));
    assert_eq!(tell(waits.0), (1, 0, 0, 0));
    assert_eq!(tell(ipi.0), (5, 1, 0, 0));
    assert_eq!(tell(pirq.0), (3, 0, 2, 0));
    assert_eq!(channels.status(A, A, Port(5000)), Err(Errno::EINVAL));
}

#[test]
fn a_domain_has_no_more_ports_than_its_limit_and_the_monitor_hears_before() {
    let mut channels = EventChannels::new();
    channels.add_domain(A, &Settings { max_port: 10, ..settings() }).unwrap();
    for n in 0..10 {
        assert_eq!(channels.usage(A).unwrap().is_high(), n >= 8);
        channels.bind_ipi(A, 0).unwrap();
    }
    assert_eq!(channels.bind_ipi(A, 0), Err(Errno::ENOSPC));
    assert_eq!(channels.alloc_unbound(A, A, B), Err(Errno::ENOSPC));
    channels.close(A, Port(4)).unwrap();
    assert_eq!(channels.bind_ipi(A, 0), Ok(Port(4)));
    assert_eq!(channels.usage(A).unwrap().ports, 10);
}

#[test]
fn a_port_that_was_closed_is_the_next_to_be_given_out() {
    let mut channels = two_guests();
    for _ in 0..300 {
        channels.bind_ipi(A, 0).unwrap();
    }
    channels.close(A, Port(200)).unwrap();
    channels.close(A, Port(4)).unwrap();
    assert_eq!([4, 200, 301].map(|_| channels.bind_ipi(A, 0).unwrap().0), [4, 200, 301]);
}

#[test]
fn the_2_level_abi_has_4096_ports_and_1024_for_32_bit_guests() {
    for (width, ports) in [(crate::abi::Width::Bits64, 4096), (crate::abi::Width::Bits32, 1024)] {
        let mut channels = two_guests();
        channels.set_width(A, width).unwrap();
        for port in 1..ports {
            assert_eq!(channels.bind_ipi(A, 0), Ok(Port(port)));
        }
        assert_eq!(channels.bind_ipi(A, 0), Err(Errno::ENOSPC));
        let _ = channels.send(A, Port(ports - 1)).unwrap();
        assert!(channels.is_pending(A, Port(ports - 1)));
    }
}

#[test]
fn a_set_of_vcpus_tells_its_numbers_upwards() {
    let all = [63, 0, 17].map(VcpuSet::one).into_iter().fold(VcpuSet::EMPTY, VcpuSet::and);
    assert_eq!(all.iter().collect::<Vec<_>>(), [0, 17, 63]);
    assert_eq!(VcpuSet::EMPTY.iter().next(), None);
    assert_eq!(VcpuSet::one(MAX_VCPUS), VcpuSet::EMPTY);
    assert_eq!(all.without(VcpuSet::one(17)).iter().count(), 2);
}

#[test]
fn domains_out_of_range_are_refused() {
    let mut channels = two_guests();
    let add =
        |channels: &mut EventChannels, dom, settings: &Settings| channels.add_domain(dom, settings);
    assert_eq!(add(&mut channels, A, &settings()), Err(Errno::EEXIST));
    assert_eq!(add(&mut channels, HV, &settings()), Err(Errno::EEXIST));
    assert_eq!(add(&mut channels, DomId::SELF, &settings()), Err(Errno::EINVAL));
    for wrong in [
        Settings { vcpus: 0, ..settings() },
        Settings { vcpus: MAX_VCPUS + 1, ..settings() },
        Settings { max_port: 0, ..settings() },
        Settings { max_port: 1 << 17, ..settings() },
    ] {
        assert_eq!(add(&mut channels, DomId(5), &wrong), Err(Errno::EINVAL));
    }
    assert_eq!(channels.set_width(HV, crate::abi::Width::Bits32), Err(Errno::ESRCH));
}

#[test]
fn a_domain_goes_in_bounded_steps_and_leaves_nothing() {
    let mut channels = two_guests();
    let (a, _) = connected(&mut channels);
    for _ in 0..2000 {
        channels.bind_ipi(B, 0).unwrap();
    }
    assert_eq!(channels.remove_domain(B), Progress::Again);
    assert_eq!(channels.bind_ipi(B, 0), Err(Errno::EINVAL), "a dying domain gets no ports");
    remove(&mut channels, B);
    assert_eq!(channels.usage(B), None);
    assert_eq!(channels.status(A, A, a).unwrap().state, ChannelState::Unbound { remote: B });
    assert_eq!(channels.send(A, a), Ok(Deliver::Nothing));
    assert_eq!(channels.remove_domain(B), Progress::Done, "twice is no harm");
    assert_eq!(channels.remove_domain(HV), Progress::Done, "domain 0 stays");
    assert_eq!(channels.domains().collect::<Vec<_>>(), [HV, A]);
    channels.add_domain(B, &settings()).unwrap();
    assert_eq!(channels.usage(B).unwrap().ports, 0);
}

#[test]
fn a_reset_closes_all_ports_in_bounded_steps() {
    let mut channels = two_guests();
    let (a, b) = connected(&mut channels);
    for _ in 0..1200 {
        channels.bind_ipi(A, 1).unwrap();
    }
    let mut calls = 0;
    while channels.reset(A, DomId::SELF).unwrap() == Progress::Again {
        calls += 1;
        assert!(calls < 10);
    }
    assert!(calls >= 2);
    assert_eq!(channels.usage(A).unwrap().ports, 0);
    assert_eq!(channels.status(B, B, b).unwrap().state, ChannelState::Unbound { remote: A });
    assert_eq!(channels.send(A, a), Err(Errno::EINVAL));
    assert_eq!(channels.reset(A, DomId(9)), Err(Errno::ESRCH));
}
