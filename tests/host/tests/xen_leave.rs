//! Nothing stays of what a guest had of Xen's interface when it is reset, or gone.

use arch::{GuestPhys, SharedPage};
use host_tests::xen::{ARG, SHARED, XenGuest};
use host_tests::{Call, Guest, Mode, Setup};
use machine::host::Backing;
use machine::xen::Hub;
use pvdrivers::DomId;
use pvdrivers::Errno;
use pvdrivers::abi::grant_table;
use pvdrivers::abi::{Hypercall, Layout, Width};
use pvdrivers::event::Settings;
use std::sync::atomic::AtomicU64;

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
