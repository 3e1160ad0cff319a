//! Two CPUs work on one board at once. What one does in the middle of the other's access is played by a host that
//! calls back. And messages that are under way when the computer is reset.

use arch::{Exit, GuestPhys, Perm, SegReg, Vcpu};
use devmodel::apicmsg::{DeliveryMode, Message};
use devmodel::blk::{BlkError, BlkRequest};
use host_tests::{Guest, Mode, Setup};
use machine::host::{Backing, DiskAnswer, DiskData, Output};
use machine::{Host, Machine};
use pvdrivers::{DomId, Port};
use std::cell::Cell;

/// A host without disks. When the guest prints, "another CPU" offers a byte to its second serial port.
struct Interrupting<'a> {
    machine: &'a Machine,
    done: Cell<bool>,
}

impl Host for Interrupting<'_> {
    fn tsc(&self) -> u64 {
        1_000
    }
    fn kick(&self, _: usize) {}
    fn output(&self, _: Output, _: u8) {
        if !self.done.replace(true) {
            assert!(self.machine.receive(self, 1, b'x'));
        }
    }
    fn map(&self, _: GuestPhys, _: u64, _: Backing, _: Perm) -> bool {
        true
    }
    fn unmap(&self, _: GuestPhys, _: u64) {}
    fn release(&self, _: &[GuestPhys]) -> bool {
        false
    }
    fn populate(&self, _: &[GuestPhys]) -> usize {
        0
    }
    fn disk(&self, _: &BlkRequest, _: DiskData<'_>) -> DiskAnswer {
        DiskAnswer::Done(Err(BlkError::NoMedium))
    }
    fn tray(&self, _: u8, _: bool) {}
    fn set_xcr0(&self, _: u64) {}
    fn yield_turn(&self) {}
    fn flush(&self) {}
    fn unmap_of(&self, _: DomId, _: GuestPhys) {}
    fn announce(&self, _: DomId, _: usize, _: bool) {}
    fn doorbell(&self, _: Port) {}
    fn board_due_changed(&self) {}
}

#[test]
fn an_interrupt_that_rises_while_another_cpu_lowers_the_8259s_pin_is_not_lost() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    // 8259A: vectors from 8, the two serial lines open. COM1 asks for THRE interrupts, COM2 for data.
    guest.outs(&[(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xe7)]);
    guest.outs(&[(0x3fc, 8), (0x2fc, 8), (0x2f9, 1), (0x3f9, 2)]);
    assert!(guest.machine.is_settled());
    // One OUT prints a byte and closes COM1's interrupts; in its middle COM2's line rises.
    let Guest { machine, cpus, vcpus, .. } = &mut guest;
    let host = Interrupting { machine, done: Cell::new(false) };
    let (cpu, vcpu) = (&mut cpus[0], &mut vcpus[0]);
    vcpu.gprs.set_rax(u64::from(b'a'));
    vcpu.next_rip = Some(vcpu.rip());
    assert_eq!(machine.on_exit(cpu, vcpu, &host, &Exit::Out { port: 0x3f8, width: 2 }), None);
    assert!(host.done.get() && machine.is_settled(), "the pin as it was before counts");
}

#[test]
fn what_was_sent_to_a_vcpu_before_a_reset_does_not_reach_it_after() {
    let mut guest = Guest::with(Setup { vcpus: 2, ..Setup::default() });
    let send = |guest: &Guest, mode, vector| {
        let message = Message { dest: 1, logical: false, mode, vector, level: false };
        guest.machine.send(&guest.host, &message);
    };
    send(&guest, DeliveryMode::Nmi, 0);
    send(&guest, DeliveryMode::Fixed, 0x41);
    send(&guest, DeliveryMode::StartUp, 0x9a);
    assert!(guest.machine.power_on(&guest.host));
    for n in 0..2 {
        guest.machine.reset_vcpu(&mut guest.cpus[n], &mut guest.vcpus[n]);
    }
    assert_eq!(guest.enter(1), None, "the start-up was for the system before");
    send(&guest, DeliveryMode::StartUp, 0x10);
    assert_eq!(guest.enter(1), Some(None), "and so was the NMI");
    assert_eq!(guest.vcpus[1].segment(SegReg::Cs).base, 0x1_0000);
}
