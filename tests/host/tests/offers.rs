//! A CPU that delivers one vector by itself when the guest takes interrupts: nothing exits for it, and the local APIC
//! learns of it when it is next looked at.

use arch::{Blocking, Event, Exit, SysReg, Vcpu};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::xen::XenGuest;
use host_tests::{Guest, Mode, Setup};
use pvdrivers::abi::shared_info::{SharedInfo, VcpuInfo};
use pvdrivers::abi::{Width, hvm_params};

/// A guest whose interrupts are closed, on a CPU that takes offers; its local APIC is on.
fn closed() -> Guest {
    let mut guest = Guest::with(Setup::default());
    guest.set_mode(0, Mode::Protected);
    guest.enable_lapic(0);
    guest.vcpus[0].takes_offers = true;
    guest.vcpus[0].rflags = 2;
    enter(&mut guest);
    guest
}

/// The vCPU enters, and its CPU delivers what it can.
fn enter(guest: &mut Guest) {
    assert!(guest.machine.before_entry(&mut guest.cpus[0], &mut guest.vcpus[0], &guest.host));
    guest.vcpus[0].enter();
}

fn send(guest: &Guest, mode: DeliveryMode, vector: u8) {
    let message = Message { dest: 0, logical: false, mode, vector, level: false };
    guest.machine.send(&guest.host, &message);
}

fn interrupts(guest: &Guest) -> Vec<u8> {
    guest.vcpus[0].delivered.iter().map(|event| event.vector).collect()
}

/// Vectors requested and in service, the highest of each, as the local APIC has them.
fn vectors(guest: &mut Guest) -> (u8, u8) {
    let _ = guest.machine.is_interrupted(&mut guest.cpus[0], &mut guest.vcpus[0]);
    guest.cpus[0].lapic.highest()
}

/// The handler ends the interrupt.
fn end(guest: &mut Guest) {
    vectors(guest);
    guest.end_of_interrupt(0);
    guest.cpus[0].wake();
}

#[test]
fn what_waits_alone_is_offered_and_no_window_is_asked_for() {
    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    assert_eq!(guest.vcpus[0].offered, Some((0x41, false)));
    assert_eq!(guest.vcpus[0].window, (false, false, 0));
    // Exits that are none of the local APIC's leave it as it is.
    guest.vcpus[0].next_rip = Some(2);
    assert_eq!(guest.exit(Exit::Cpuid), None);
    assert!(guest.cpus[0].is_calm(guest.machine.posted(0).unwrap()));
    assert_eq!(guest.vcpus[0].offered, Some((0x41, false)));
    guest.vcpus[0].rflags |= 0x200;
    enter(&mut guest);
    assert_eq!(interrupts(&guest), [0x41]);
    assert_eq!(vectors(&mut guest), (0, 0x41), "it is in service");
    end(&mut guest);
    assert_eq!(vectors(&mut guest), (0, 0));
    enter(&mut guest);
    assert_eq!(interrupts(&guest), [0x41], "and comes once");
}

#[test]
fn a_higher_vector_takes_the_place_of_an_offer() {
    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    send(&guest, DeliveryMode::Fixed, 0x52);
    enter(&mut guest);
    assert_eq!(guest.vcpus[0].offered, Some((0x52, false)));
    guest.vcpus[0].rflags |= 0x200;
    enter(&mut guest);
    // The lower one is offered again when the higher one has ended, whatever came in between.
    send(&guest, DeliveryMode::Fixed, 0x53);
    enter(&mut guest);
    assert_eq!(guest.vcpus[0].offered, None, "of the class in service");
    guest.vcpus[0].rflags &= !0x200;
    end(&mut guest);
    enter(&mut guest);
    assert_eq!(guest.vcpus[0].offered, Some((0x53, false)));
    for _ in 0..2 {
        guest.vcpus[0].rflags |= 0x200;
        enter(&mut guest);
        end(&mut guest);
        guest.vcpus[0].rflags &= !0x200;
        enter(&mut guest);
    }
    assert_eq!(interrupts(&guest), [0x52, 0x53, 0x41]);
    assert_eq!(vectors(&mut guest), (0, 0));
}

#[test]
fn what_does_not_wait_alone_makes_an_exit() {
    // An NMI that waits for the end of another's handler.
    let mut guest = closed();
    guest.vcpus[0].blocking = Blocking { shadow: false, nmi: true };
    send(&guest, DeliveryMode::Nmi, 0);
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (true, true, 0)));
    // An event whose delivery was interrupted.
    let mut guest = closed();
    guest.vcpus[0].pending = Some(Event::exception(6, None));
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (true, false, 0)));
    // A vector that an interrupted delivery would let look like an exception.
    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x1f);
    enter(&mut guest);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (true, false, 0)));
    // One that the task priority holds back.
    let mut guest = closed();
    guest.vcpus[0].set_reg(SysReg::Cr8, 5);
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (false, false, 4)));
}

#[test]
fn a_cr8_write_beside_an_offer_holds_it_back() {
    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    guest.vcpus[0].gprs.set_rax(6);
    guest.vcpus[0].next_rip = Some(4);
    let write = arch::exit::CrAccess::Write { cr: 8, gpr: arch::Gpr::Rax };
    assert_eq!(guest.exit(Exit::Cr(write)), None);
    guest.vcpus[0].rflags |= 0x200;
    enter(&mut guest);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr8), 6);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (false, false, 4)));
    assert_eq!(interrupts(&guest), []);
    assert_eq!(vectors(&mut guest), (0x41, 0));
}

#[test]
fn a_vcpu_that_halts_or_is_reset_takes_its_offer_back() {
    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    // STI; HLT: the shadow ends with HLT, before the CPU delivers.
    guest.vcpus[0].next_rip = Some(2);
    guest.vcpus[0].rflags |= 0x200;
    assert_eq!(guest.exit(Exit::Hlt), None);
    enter(&mut guest);
    assert_eq!((guest.vcpus[0].offered, interrupts(&guest)), (None, vec![0x41]));

    let mut guest = closed();
    send(&guest, DeliveryMode::Fixed, 0x41);
    enter(&mut guest);
    guest.machine.reset_vcpu(&mut guest.cpus[0], &mut guest.vcpus[0]);
    assert_eq!(guest.vcpus[0].offered, None);
    assert_eq!(vectors(&mut guest), (0, 0));
}

#[test]
fn the_upcall_of_an_event_is_offered_and_nobody_acknowledges_it() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    xen.guest.enable_lapic(0);
    xen.guest.vcpus[0].takes_offers = true;
    let port = xen.bind_ipi(0);
    assert_eq!(xen.send(port), 0);
    let guest = &mut xen.guest;
    enter(guest);
    assert_eq!(
        (guest.vcpus[0].offered, guest.vcpus[0].window),
        (Some((0xf3, false)), (false, false, 0))
    );
    // Beside another interrupt it is not alone.
    send(guest, DeliveryMode::Fixed, 0x41);
    enter(guest);
    assert_eq!((guest.vcpus[0].offered, guest.vcpus[0].window), (None, (true, false, 0)));
    guest.vcpus[0].rflags |= 0x200;
    assert_eq!(guest.exit(Exit::InterruptWindow), None);
    enter(guest);
    guest.vcpus[0].rflags &= !0x200;
    assert_eq!((interrupts(guest), vectors(guest)), (vec![0xf3], (0x41, 0)));
    // The handler clears the mark and returns: only the other is left.
    guest.shared_info().write(0, 1, 0).unwrap();
    guest.vcpus[0].rflags |= 0x200;
    assert_eq!(guest.exit(Exit::InterruptWindow), None);
    enter(guest);
    assert_eq!(vectors(guest), (0, 0x41));
    end(guest);
    guest.vcpus[0].rflags &= !0x200;
    // Of one that is delivered nothing is in service.
    let (shared, info) = (SharedInfo::of(Width::Bits64), VcpuInfo::of(Width::Bits64));
    for word in [shared.evtchn_pending, info.evtchn_pending_sel] {
        guest.shared_info().write(word, 8, 0).unwrap();
    }
    assert_eq!(xen.send(port), 0);
    let guest = &mut xen.guest;
    enter(guest);
    guest.vcpus[0].rflags |= 0x200;
    enter(guest);
    assert_eq!((interrupts(guest), vectors(guest)), (vec![0xf3, 0x41, 0xf3], (0, 0)));
}

#[test]
fn a_new_callback_vector_takes_the_place_of_the_old_ones_offer() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    xen.guest.vcpus[0].takes_offers = true;
    let port = xen.bind_ipi(0);
    assert_eq!(xen.send(port), 0);
    enter(&mut xen.guest);
    assert_eq!(xen.guest.vcpus[0].offered, Some((0xf3, false)));
    let by_vector = 2 << 56;
    assert_eq!(xen.set_param(hvm_params::HvmParam::CALLBACK_IRQ, by_vector | 0xf4), 0);
    enter(&mut xen.guest);
    assert_eq!(xen.guest.vcpus[0].offered, Some((0xf4, false)));
}
