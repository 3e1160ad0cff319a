//! A CPU that keeps the guest's local APIC: requests, service and priority are its page's while the guest runs.
//! What the CPU would do with the page is done here by hand.

use arch::apicpage::{Vectors, offset};
use arch::{Access, ApicMode, ApicPage, Event, Exit, Vcpu};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Guest, Mode, Setup};

/// Protected mode, interrupts open, the local APIC of every vCPU on and lent.
fn lent(vcpus: usize) -> Guest {
    let mut guest = Guest::with(Setup { vcpus, ..Setup::default() });
    for n in 0..vcpus {
        guest.vcpus[n].keep_apic();
        guest.set_mode(n, Mode::Protected);
        guest.enable_lapic(n);
        guest.vcpus[n].set_rflags(0x202);
        guest.cpus[n].wake();
    }
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(page(&mut guest, 0).mode(), ApicMode::Memory);
    guest
}

fn page(guest: &mut Guest, n: usize) -> &mut ApicPage {
    guest.vcpus[n].apic.0.as_mut().expect("the CPU keeps it")
}

fn set(words: [u64; 4]) -> Vectors {
    let top = (0..=255).rev().find(|v| words[v >> 6] >> (v & 63) & 1 != 0);
    Vectors { words, top: top.unwrap_or(0) as u8 }
}

/// The CPU delivers the highest request.
fn deliver(guest: &mut Guest) -> u8 {
    let page = page(guest, 0);
    let mut irr = page.vectors(offset::IRR);
    let mut isr = page.vectors(offset::ISR);
    let vector = set(irr).top;
    irr[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    isr[usize::from(vector >> 6)] |= 1 << (vector & 63);
    let level = *page.level();
    page.put(&set(irr), &set(isr), &level);
    vector
}

/// The guest ends the highest interrupt in service; the CPU exits where it was told to.
fn eoi(guest: &mut Guest) -> Option<u8> {
    let page = page(guest, 0);
    let mut isr = page.vectors(offset::ISR);
    let vector = set(isr).top;
    isr[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    let (irr, level) = (page.vectors(offset::IRR), *page.level());
    page.put(&set(irr), &set(isr), &level);
    let exits = level[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0;
    if exits {
        assert_eq!(guest.exit(Exit::Eoi(vector)), None);
    }
    exits.then_some(vector)
}

fn fixed(vector: u8, level: bool) -> Message {
    Message { dest: 0, logical: false, mode: DeliveryMode::Fixed, vector, level }
}

/// MOV to a register in memory, which the CPU puts into the page and tells of.
fn put(guest: &mut Guest, at: u16, value: u32) {
    page(guest, 0).write(at, value);
    assert_eq!(guest.exit(Exit::ApicWrite { offset: at }), None);
    assert!(guest.enter(0).is_some());
}

#[test]
fn a_message_goes_into_the_page_and_is_delivered_and_ended_without_the_machine() {
    let mut guest = lent(1);
    guest.machine.send(&guest.host, &fixed(0x31, false));
    assert_eq!(guest.enter(0), Some(None), "nothing is injected");
    assert!(page(&mut guest, 0).take_changed());
    assert_eq!(page(&mut guest, 0).requesting(), 0x31);
    assert_eq!(guest.vcpus[0].window, (false, false, 0));
    assert_eq!(deliver(&mut guest), 0x31);
    // Another while it is in service: both are kept.
    guest.machine.send(&guest.host, &fixed(0x52, false));
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!((page(&mut guest, 0).requesting(), page(&mut guest, 0).servicing()), (0x52, 0x31));
    assert!(guest.machine.is_interrupted(&mut guest.cpus[0], &mut guest.vcpus[0]));
    assert_eq!(guest.enter(0), Some(None), "lent again");
    assert_eq!(deliver(&mut guest), 0x52);
    assert!(!guest.machine.is_interrupted(&mut guest.cpus[0], &mut guest.vcpus[0]));
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!((eoi(&mut guest), eoi(&mut guest)), (None, None));
}

#[test]
fn the_end_of_a_level_triggered_interrupt_reaches_the_io_apic() {
    let mut guest = lent(1);
    guest.outs(&[(0x21, 0xff), (0xa1, 0xff)]);
    // Pin 8 is the RTC's: vector 41h, level, open; its interrupt stays asserted until register C is read.
    for (register, value) in [(0x21, 0), (0x20, 0x8041)] {
        for (at, value) in [(0xfec0_0000, register), (0xfec0_0010, value)] {
            guest.at(&[0x89, 0x03]);
            guest.vcpus[0].gprs.set_rbx(at);
            guest.vcpus[0].gprs.set_rax(value);
            assert_eq!(guest.touch(at, Access::WRITE), None);
        }
    }
    guest.outs(&[(0x70, 0x0b), (0x71, 0x42), (0x70, 0x0a), (0x71, 0x26)]);
    guest.pass(2_000_000);
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(deliver(&mut guest), 0x41);
    assert_eq!(eoi(&mut guest), Some(0x41));
    // Still asserted: it comes again because the I/O APIC was told.
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(page(&mut guest, 0).requesting(), 0x41);
}

#[test]
fn a_halted_vcpu_wakes_for_what_its_page_lets_through() {
    let mut guest = lent(1);
    page(&mut guest, 0).write(offset::TPR, 0x50);
    guest.vcpus[0].set_reg(arch::SysReg::Cr8, 5);
    guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 1);
    assert_eq!(guest.exit(Exit::Hlt), None);
    assert_eq!(guest.enter(0), None, "it halts");
    guest.machine.send(&guest.host, &fixed(0x55, false));
    assert_eq!(guest.enter(0), None, "priority 5 holds it back");
    guest.machine.send(&guest.host, &fixed(0x61, false));
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(deliver(&mut guest), 0x61);
    assert_eq!(page(&mut guest, 0).read(offset::TPR), 0x50);
}

#[test]
fn registers_that_the_guest_writes_reach_the_chip_and_read_as_it_has_them() {
    let mut guest = lent(2);
    let version = page(&mut guest, 0).read(0x30);
    assert_eq!(version, 0x0005_0014);
    // The timer's entry has no such bits; one shot in 1,000 ns.
    put(&mut guest, 0x320, 0xffff_0040 & !(1 << 16) & !(3 << 17));
    assert_eq!(page(&mut guest, 0).read(0x320), 0x40);
    put(&mut guest, 0x3e0, 0xb);
    put(&mut guest, 0x380, 1000);
    let due = guest.cpus[0].due().expect("a deadline");
    guest.pass(due.0 - guest.host.tsc.get());
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(deliver(&mut guest), 0x40);
    // An interrupt to the other: its upper half made no exit.
    page(&mut guest, 0).write(offset::ICR_HIGH, 1 << 24);
    put(&mut guest, offset::ICR_LOW, 0x10fd);
    assert_eq!(page(&mut guest, 0).read(offset::ICR_LOW), 0xfd, "it is sent");
    assert_eq!(guest.host.kicked(), [1]);
}

#[test]
fn the_8259s_interrupts_are_injected_all_the_same() {
    let mut guest = lent(1);
    put(&mut guest, 0x350, 0x700);
    guest.outs(&[(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xfe)]);
    guest.machine.send(&guest.host, &fixed(0x31, false));
    guest.outs(&[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    assert_eq!(guest.enter(0), Some(None));
    let _ = page(&mut guest, 0).take_changed();
    guest.pass(2_000_000);
    assert_eq!(guest.enter(0), Some(Some(Event::interrupt(8))));
    assert_eq!(page(&mut guest, 0).requesting(), 0x31);
    assert!(!page(&mut guest, 0).take_changed(), "the page is none of the 8259A's");
}

#[test]
fn by_msrs_and_elsewhere_the_mode_follows_the_base() {
    let mut guest = lent(1);
    guest.machine.send(&guest.host, &fixed(0x31, false));
    for (base, mode) in [
        (0xfee0_0d00_u64, ApicMode::Msrs),
        (0xfee0_0100, ApicMode::Off),
        (0xfee0_0900, ApicMode::Memory),
        (0xfed0_0900, ApicMode::Off),
    ] {
        let vcpu = &mut guest.vcpus[0];
        vcpu.gprs.set_rcx(0x1b);
        vcpu.gprs.set_rax(base);
        vcpu.gprs.set_rdx(0);
        vcpu.next_rip = Some(vcpu.rip + 2);
        assert_eq!(guest.exit(Exit::Wrmsr), None);
        assert!(guest.enter(0).is_some());
        assert_eq!(page(&mut guest, 0).mode(), mode, "{base:#x}");
    }
}

/// What the CPU does when it is notified while it runs the guest (SDM 3C "Posted-Interrupt Processing").
fn process(guest: &mut Guest, n: usize) {
    let (marks, requests) = guest.machine.posted(n).expect("a vCPU").take();
    assert_eq!(marks, arch::posted::OUTSTANDING, "the CPU does not know others");
    let page = page(guest, n);
    let mut irr = page.vectors(offset::IRR);
    irr.iter_mut().zip(requests).for_each(|(word, new)| *word |= new);
    let (isr, level) = (set(page.vectors(offset::ISR)), *page.level());
    page.put(&set(irr), &isr, &level);
    let _ = page.take_changed();
}

#[test]
fn a_vector_for_a_vcpu_that_runs_gets_there_without_an_exit_and_is_kept_by_the_next() {
    let mut guest = lent(1);
    assert!(page(&mut guest, 0).posting());
    for vector in [0x31, 0x52] {
        guest.machine.send(&guest.host, &fixed(vector, false));
    }
    assert_eq!(*guest.host.notified.borrow(), [(0, true), (0, false)], "one notification");
    process(&mut guest, 0);
    let posted = guest.machine.posted(0).expect("vCPU 0");
    assert!(guest.cpus[0].is_calm(posted), "nothing is left to do");
    assert_eq!(deliver(&mut guest), 0x52);
    // While it is served another comes, and the vCPU exits for something else.
    guest.machine.send(&guest.host, &fixed(0x61, false));
    assert_eq!(guest.host.notified.borrow().last(), Some(&(0, true)), "a first one again");
    process(&mut guest, 0);
    assert!(guest.machine.is_interrupted(&mut guest.cpus[0], &mut guest.vcpus[0]));
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!((page(&mut guest, 0).requesting(), page(&mut guest, 0).servicing()), (0x61, 0x52));
    assert_eq!((deliver(&mut guest), eoi(&mut guest), deliver_after(&mut guest)), (0x61, None, 0));
}

/// The highest request after an end of interrupt, 0 for none that is higher than what is in service.
fn deliver_after(guest: &mut Guest) -> u8 {
    let page = page(guest, 0);
    let (irr, isr) = (set(page.vectors(offset::IRR)), set(page.vectors(offset::ISR)));
    if irr.top >> 4 > isr.top >> 4 { irr.top } else { 0 }
}

#[test]
fn a_vector_that_finds_its_vcpu_halting_wakes_it() {
    // Before the exit for HLT is looked at, the CPU has put it into the page, or it has not: the notification came late.
    for processed in [true, false] {
        let mut guest = lent(1);
        guest.machine.send(&guest.host, &fixed(0x61, false));
        if processed {
            process(&mut guest, 0);
        }
        guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 1);
        assert_eq!(guest.exit(Exit::Hlt), None);
        assert_eq!(guest.enter(0), Some(None), "it goes on: {processed}");
        assert_eq!(page(&mut guest, 0).requesting(), 0x61);
    }
}

#[test]
fn what_the_cpu_may_not_take_by_itself_is_not_posted() {
    let mut guest = lent(1);
    // Level-triggered: its end must exit. Illegal: the chip notes it. Neither is a request of the descriptor.
    guest.machine.send(&guest.host, &fixed(0x41, true));
    guest.machine.send(&guest.host, &fixed(0x0f, false));
    let nmi = Message { mode: DeliveryMode::Nmi, ..fixed(0, false) };
    guest.machine.send(&guest.host, &nmi);
    assert!(guest.host.notified.borrow().is_empty());
    assert_eq!(guest.host.kicked(), [0, 0, 0]);
    assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
    assert_eq!(page(&mut guest, 0).level()[1], 2);
    // A local APIC that is off by software takes none: the CPU must not put some into the page.
    put(&mut guest, 0xf0, 0xff);
    assert!(!page(&mut guest, 0).posting());
    guest.machine.send(&guest.host, &fixed(0x71, false));
    assert_eq!(guest.enter(0), Some(None));
    put(&mut guest, 0xf0, 0x1ff);
    assert!(page(&mut guest, 0).posting());
    assert_eq!(page(&mut guest, 0).vectors(offset::IRR)[1] & 1 << (0x71 - 0x40), 0);
    put(&mut guest, 0x280, 0);
    assert_ne!(page(&mut guest, 0).read(0x280) & 1 << 6, 0, "a vector below 16 was received");
}
