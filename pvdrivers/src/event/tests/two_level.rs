//! The 2-level ABI as a guest sees it: bits in its pages, upcalls, masks, polling.

use super::*;
use crate::Errno;
use crate::abi::Width;
use crate::abi::shared_info::SharedInfo;

fn mask(channels: &EventChannels, dom: DomId, port: Port) {
    let (shared, _) = channels.vcpu_info(dom, 0).unwrap();
    let base = SharedInfo::of(channels.width(dom).unwrap()).evtchn_mask;
    shared.fetch_or(base + port.0 as usize / 32 * 4, 4, 1 << (port.0 % 32)).unwrap();
}

#[test]
fn an_event_sets_pending_selector_and_upcall_and_tells_once() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut channels = two_guests();
        channels.set_width(A, width).unwrap();
        for _ in 0..99 {
            channels.bind_ipi(A, 1).unwrap();
        }
        assert_eq!(channels.send(A, Port(70)), Ok(upcall(A, 1)));
        let (page, at) = channels.vcpu_info(A, 1).unwrap();
        assert_eq!(page.read_u8(at), Some(1));
        let word = 70 / width.bits();
        assert_eq!(page.read_u32(at + width.bytes()), Some(1 << word));
        assert_eq!(page.read_u8(2048 + 70 / 8), Some(1 << (70 % 8)));
        assert_eq!(channels.send(A, Port(70)), Ok(Deliver::Nothing), "pending already");
        assert_eq!(channels.send(A, Port(71)), Ok(Deliver::Nothing), "the upcall is under way");
        assert_eq!(consume_two_level(&channels, A, 1), BTreeSet::from([70, 71]));
        assert_eq!(channels.send(A, Port(70)), Ok(upcall(A, 1)));
    }
}

#[test]
fn a_masked_event_waits_for_the_mask_to_go() {
    let mut channels = two_guests();
    let ipi = channels.bind_ipi(A, 0).unwrap();
    mask(&channels, A, ipi);
    assert!(channels.is_masked(A, ipi));
    assert_eq!(channels.send(A, ipi), Ok(Deliver::Nothing));
    assert!(channels.is_pending(A, ipi));
    assert_eq!(channels.unmask(A, ipi), Ok(upcall(A, 0)));
    assert_eq!(channels.unmask(A, ipi), Ok(Deliver::Nothing), "it was not masked");
    let (info, at) = channels.vcpu_info(A, 0).unwrap();
    info.write_slice(at, &[0; 16]).unwrap();
    assert_eq!(channels.unmask(A, ipi), Ok(Deliver::Nothing), "the guest took it and looks");
    assert_eq!(channels.unmask(A, Port(1 << 20)), Err(Errno::EINVAL));
    assert_eq!(channels.unmask(A, Port(9)), Ok(Deliver::Nothing), "a free port");
}

#[test]
fn a_port_that_is_used_again_is_not_pending() {
    let mut channels = two_guests();
    let ipi = channels.bind_ipi(A, 0).unwrap();
    let _ = channels.send(A, ipi).unwrap();
    channels.close(A, ipi).unwrap();
    assert_eq!(channels.bind_ipi(A, 0), Ok(ipi));
    assert!(!channels.is_pending(A, ipi));
}

#[test]
fn a_moved_vcpu_info_keeps_its_contents_and_all_its_events_count_as_new() {
    let mut channels = two_guests();
    let ipi = channels.bind_ipi(A, 1).unwrap();
    let (old, old_at) = channels.vcpu_info(A, 1).unwrap();
    old.write(old_at + 32, 8, 0x1122_3344).unwrap();
    let place = page();
    let register = |channels: &mut EventChannels, vcpu, place, offset| {
        channels.register_vcpu_info(A, vcpu, place, offset)
    };
    assert_eq!(register(&mut channels, 1, None, 0), Err(Errno::EINVAL));
    assert_eq!(register(&mut channels, 1, Some(place), 4040), Err(Errno::ENXIO));
    assert_eq!(register(&mut channels, 1, Some(place), 4), Err(Errno::ENXIO));
    assert_eq!(register(&mut channels, 1, Some(place), u32::MAX), Err(Errno::ENXIO));
    assert_eq!(register(&mut channels, 2, Some(place), 0), Err(Errno::ENOENT));
    assert_eq!(register(&mut channels, 1, Some(place), 4032), Ok(upcall(A, 1)));
    assert_eq!(register(&mut channels, 1, Some(place), 0), Err(Errno::EINVAL), "once only");
    assert_eq!(place.read_u64(4032 + 32), Some(0x1122_3344));
    assert_eq!(place.read_u64(4032 + 8), Some(u64::MAX));
    consume_two_level(&channels, A, 1);
    assert_eq!(channels.send(A, ipi), Ok(upcall(A, 1)));
    assert_eq!((place.read_u8(4032), old.read_u8(old_at)), (Some(1), Some(0)));
    assert!(channels.holds_page(A, &place) && !channels.holds_page(B, &place));
    assert_eq!(channels.usage(A).unwrap().pages, 1);
}

#[test]
fn a_vcpu_beyond_32_has_no_upcalls_until_it_places_its_vcpu_info() {
    let mut channels = EventChannels::new();
    channels.add_domain(A, &Settings { vcpus: 40, ..settings() }).unwrap();
    let ipi = channels.bind_ipi(A, 35).unwrap();
    assert!(channels.vcpu_info(A, 35).is_none());
    assert_eq!(channels.send(A, ipi), Ok(Deliver::Nothing));
    assert_eq!(channels.register_vcpu_info(A, 35, Some(page()), 0), Ok(upcall(A, 35)));
    assert!(channels.is_pending(A, ipi), "and the event is still there");
}

#[test]
fn polling_ends_with_the_event_even_if_it_is_masked() {
    let mut channels = two_guests();
    let ports: Vec<_> = (0..3).map(|_| channels.bind_ipi(A, 0).unwrap()).collect();
    mask(&channels, A, ports[0]);
    assert_eq!(channels.poll(A, 1, &ports[..1]), Ok(false));
    assert!(channels.is_polling(A, 1));
    assert_eq!(channels.send(A, ports[1]), Ok(upcall(A, 0)), "another port's event");
    let woken = Deliver::Guest { dom: A, upcalls: VcpuSet::EMPTY, pollers: VcpuSet::one(1) };
    assert_eq!(channels.send(A, ports[0]), Ok(woken));
    assert!(!channels.is_polling(A, 1));
    assert_eq!(channels.poll(A, 1, &ports), Ok(true), "one is pending");
    assert!(!channels.is_polling(A, 1));
}

#[test]
fn polling_several_ports_ends_with_any_and_with_the_timeout() {
    let mut channels = two_guests();
    let ports: Vec<_> = (0..3).map(|_| channels.bind_ipi(A, 0).unwrap()).collect();
    assert_eq!(channels.poll(A, 1, &ports[..2]), Ok(false));
    let both = Deliver::Guest { dom: A, upcalls: VcpuSet::one(0), pollers: VcpuSet::one(1) };
    assert_eq!(channels.send(A, ports[2]), Ok(both));
    consume_two_level(&channels, A, 0);
    assert_eq!(channels.poll(A, 1, &[]), Ok(false), "a plain sleep");
    channels.end_poll(A, 1);
    assert_eq!(channels.send(A, ports[2]), Ok(upcall(A, 0)));
    assert_eq!(channels.poll(A, 1, &[Port(1 << 18)]), Err(Errno::EINVAL));
    assert_eq!(channels.poll(A, 2, &[]), Err(Errno::ENOENT));
    assert_eq!(channels.poll(A, 1, &[ports[0]; 129]), Err(Errno::EINVAL));
}
