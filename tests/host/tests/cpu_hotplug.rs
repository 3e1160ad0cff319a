//! vCPUs that come and go while the guest runs, as its ACPI tables see them.

use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Guest, Setup};
use machine::Activity;

const BITMAP: u16 = 0xaf00;
const GPE_STATUS: u16 = 0xafe0;
const GPE_ENABLE: u16 = 0xafe2;
/// The event of processors.
const CHANGED: u32 = 1 << 2;

fn guest() -> Guest {
    Guest::with(Setup { vcpus: 4, ..Setup::default() })
}

fn start(guest: &mut Guest, vcpu: usize) -> Activity {
    for mode in [DeliveryMode::Init, DeliveryMode::StartUp] {
        let message = Message { dest: vcpu as u32, logical: false, mode, vector: 8, level: false };
        guest.machine.send(&guest.host, &message);
        let _ = guest.enter(vcpu);
    }
    guest.cpus[vcpu].activity
}

#[test]
fn a_change_shows_in_the_bitmap_and_raises_event_2_until_the_guest_clears_it() {
    let mut guest = guest();
    assert_eq!((guest.inp(BITMAP, 1), guest.inp(BITMAP + 1, 1)), (0xf, 0));
    guest.machine.plug(&guest.host, 4);
    assert_eq!(guest.inp(GPE_STATUS, 2) & CHANGED, 0, "nothing changed");
    guest.machine.plug(&guest.host, 2);
    assert_eq!((guest.inp(BITMAP, 1), guest.machine.plugged()), (3, 2));
    assert_eq!(guest.inp(GPE_STATUS, 2) & CHANGED, CHANGED);
    let _ = guest.outp(GPE_STATUS, 2, CHANGED);
    assert_eq!(guest.inp(GPE_STATUS, 2), 0);
    // There is always one, and never more than were made.
    guest.machine.plug(&guest.host, 0);
    assert_eq!(guest.inp(BITMAP, 4), 1);
    guest.machine.plug(&guest.host, 99);
    assert_eq!(guest.inp(BITMAP, 4), 0xf);
    let _ = guest.outp(BITMAP, 1, 0);
    assert_eq!(guest.inp(BITMAP, 1), 0xf, "it cannot be written");
}

#[test]
fn the_sci_tells_of_a_change_once_the_guest_wants_the_event() {
    let mut guest = guest();
    let _ = guest.outp(0xb2, 1, 0xf1);
    // The 8259A's request register shows the level of IRQ 9.
    let sci = |guest: &mut Guest| {
        let _ = guest.outp(0xa0, 1, 0x0a);
        guest.inp(0xa0, 1) >> 1 & 1
    };
    guest.machine.plug(&guest.host, 3);
    assert_eq!(sci(&mut guest), 0);
    let _ = guest.outp(GPE_ENABLE, 2, CHANGED);
    assert_eq!(sci(&mut guest), 1);
}

#[test]
fn a_vcpu_that_is_not_plugged_in_cannot_be_started_and_comes_back_when_it_is() {
    let mut guest = guest();
    guest.machine.plug(&guest.host, 2);
    assert_eq!(start(&mut guest, 1), Activity::Running);
    assert_eq!(start(&mut guest, 3), Activity::WaitForSipi);
    guest.machine.plug(&guest.host, 4);
    assert_eq!(start(&mut guest, 3), Activity::Running);
    // One that runs is not torn out: its guest lets go of it.
    guest.machine.plug(&guest.host, 1);
    assert_eq!(guest.enter(3), Some(None));
    assert_eq!(guest.cpus[3].activity, Activity::Running);
    assert_eq!(start(&mut guest, 3), Activity::WaitForSipi);
}

#[test]
fn a_reset_begins_with_the_vcpus_of_power_on() {
    let mut guest = guest();
    guest.machine.plug(&guest.host, 1);
    assert!(guest.machine.power_on(&guest.host));
    assert_eq!((guest.inp(BITMAP, 1), guest.machine.plugged()), (0xf, 4));
}
