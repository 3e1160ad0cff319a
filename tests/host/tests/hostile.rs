//! A guest that tries everything hurts only itself: no panic, the machine goes on or stops with a
//! reason.

use arch::event::vector;
use arch::exit::NestedFault;
use arch::paging::error_code;
use arch::{Access, Event, Exit, GuestPhys, GuestVirt, SysReg, Vcpu, Why};
use devmodel::blk::Media;
use host_tests::{Guest, Mode, Rng, Setup};
use machine::{Drive, host::Output};

fn guest() -> Guest {
    let mut setup = Setup::default();
    setup.drives[0] = Some((Drive::Disk(Media::disk(64, "hd")), vec![1; 64 * 512]));
    setup.drives[2] = Some((Drive::Cdrom(None), Vec::new()));
    let mut guest = Guest::with(setup);
    guest.set_mode(0, Mode::Protected);
    guest.host.quiet.set(true);
    guest
}

/// After a stop the machine is powered on again, as the hypervisor would.
fn again(guest: &mut Guest, stop: Option<Why>) {
    if stop.is_some() {
        assert!(guest.machine.power_on(&guest.host));
        guest.machine.reset_vcpu(&mut guest.cpus[0], &mut guest.vcpus[0]);
        guest.set_mode(0, Mode::Protected);
    }
}

#[test]
fn every_port_takes_every_width_and_random_values() {
    for seed in 0..3 {
        let mut rng = Rng::new(seed);
        let mut guest = guest();
        for port in 0..=u16::MAX {
            let width = rng.pick(&[1, 1, 2, 4]);
            let stop = guest.outp(port, width, rng.next_u64() as u32);
            again(&mut guest, stop);
            let value = guest.inp(port, width);
            assert!(width == 4 || value >> (8 * width) == 0, "{port:x}");
            if port & 0xff == 0 {
                guest.pass(rng.below(10_000_000));
                let _ = guest.enter(0);
            }
        }
    }
}

#[test]
fn every_pci_register_takes_random_values() {
    for seed in 0..3 {
        let mut rng = Rng::new(seed);
        let mut guest = guest();
        for devfn in 0..256u32 {
            for register in 0..64u32 {
                let address = 0x8000_0000 | devfn << 8 | register << 2;
                assert_eq!(guest.outp(0xcf8, 4, address), None);
                let (offset, width) = rng.pick(&[(0, 4), (0, 2), (2, 2), (1, 1), (3, 1), (1, 2)]);
                let stop = guest.outp(0xcfc + offset, width, rng.next_u64() as u32);
                again(&mut guest, stop);
                let _ = guest.inp(0xcfc, 4);
            }
        }
        // Windows now lie anywhere; memory is still served.
        read_everywhere(&mut guest, &mut rng);
    }
}

#[test]
fn reading_and_writing_everywhere_in_physical_memory_is_served() {
    let mut rng = Rng::new(1);
    read_everywhere(&mut guest(), &mut rng);
}

fn read_everywhere(guest: &mut Guest, rng: &mut Rng) {
    let edges: [u64; 21] = [
        0,
        0x9_ffff,
        0xa_0000,
        0xb_ffff,
        0xc_0000,
        0xf_ffff,
        0x10_0000,
        0x3f_ffff,
        0x40_0000,
        0xdfff_ffff,
        0xe000_0000,
        0xfebf_ffff,
        0xfec0_0000,
        0xfec0_0fff,
        0xfed0_0000,
        0xfed0_03ff,
        0xfee0_0000,
        0xfee0_0fff,
        0xfffd_ffff,
        0xfffe_0000,
        0xffff_fff0,
    ];
    for n in 0..4000 {
        let gpa = match n % 3 {
            0 => rng.pick(&edges),
            1 => rng.pick(&edges).wrapping_add(rng.below(4096)).wrapping_sub(2048),
            _ => rng.next_u64(),
        } & 0xffff_ffff;
        // mov [ebx], al / ax / eax; mov al / ax / eax, [ebx]; the code lies where it cannot be hit.
        if (0x7ff0..0x8020).contains(&gpa) {
            continue;
        }
        let code: &[u8] = rng.pick(&[
            &[0x88, 0x03][..],
            &[0x66, 0x89, 0x03],
            &[0x89, 0x03],
            &[0x8a, 0x03],
            &[0x66, 0x8b, 0x03],
            &[0x8b, 0x03],
            &[0x87, 0x03],
        ]);
        guest.at(code);
        guest.vcpus[0].gprs.set_rbx(gpa);
        guest.vcpus[0].gprs.set_rax(rng.next_u64());
        let stop = guest.touch(gpa, if n % 2 == 0 { Access::READ } else { Access::WRITE });
        let rip = guest.vcpus[0].rip;
        assert!(stop.is_some() || rip != 0x8000 || guest.vcpus[0].pending.is_some() || is_ram(gpa));
        guest.vcpus[0].pending = None;
        again(guest, stop);
        let _ = guest.enter(0);
    }
}

/// Lazy memory is mapped and tried again.
fn is_ram(gpa: u64) -> bool {
    gpa < 0x40_0000
}

#[test]
fn a_hole_reads_as_ones_and_drops_writes() {
    let mut guest = guest();
    for gpa in [0x40_0000, 0xd000_0000, 0xfed4_0000] {
        guest.at(&[0x89, 0x03, 0x8b, 0x03]);
        guest.vcpus[0].gprs.set_rbx(gpa);
        guest.vcpus[0].gprs.set_rax(0);
        assert_eq!(guest.touch(gpa, Access::WRITE), None);
        assert_eq!(guest.touch(gpa, Access::READ), None);
        assert_eq!(guest.vcpus[0].gprs.rax(), 0xffff_ffff, "{gpa:x}");
    }
}

#[test]
fn a_jump_into_a_hole_or_a_device_stops_the_guest_with_the_address() {
    for gpa in [0x40_0000, 0xd000_0000, 0xfec0_0000, 0xa_0000] {
        let mut guest = guest();
        guest.vcpus[0].set_rip(gpa);
        let stop = guest.touch(gpa, Access::EXEC);
        assert_eq!(stop, Some(Why::Unhandled(gpa)));
    }
}

#[test]
fn page_tables_outside_ram_stop_the_guest() {
    let mut guest = guest();
    let stop = guest.touch(0xd000_0000, Access::READ | Access::WALK);
    assert_eq!(stop, Some(Why::Unhandled(0xd000_0000)));
}

#[test]
fn a_table_where_nothing_is_reads_as_all_ones_which_has_reserved_bits() {
    let mut guest = guest();
    guest.set_mode(0, Mode::Long);
    let top = guest.vcpus[0].reg(SysReg::Cr3);
    guest.store(top + 8, 8, 0xd000_0007);
    let gva = 0x80_1234_5678;
    let stop = guest.exit(Exit::NestedFault(NestedFault {
        gpa: GuestPhys(0xd000_0000),
        gva: Some(GuestVirt(gva)),
        access: Access::READ | Access::WALK,
        present: false,
    }));
    assert_eq!(stop, None);
    let fault = Event::exception(vector::PF, Some(error_code::P | error_code::RSVD));
    assert_eq!(guest.vcpus[0].pending, Some(fault));
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr2), gva);
}

#[test]
fn an_instruction_that_is_not_emulated_stops_the_guest_and_does_not_skip() {
    let mut guest = guest();
    // movups [ebx], xmm0 to the I/O APIC.
    guest.at(&[0x0f, 0x11, 0x03]);
    guest.vcpus[0].gprs.set_rbx(0xfec0_0000);
    let stop = guest.touch(0xfec0_0000, Access::WRITE);
    assert!(matches!(stop, Some(Why::Unhandled(_))), "{stop:?}");
    assert_eq!(guest.vcpus[0].rip, 0x8000);
}

#[test]
fn a_flood_of_the_serial_port_comes_out_whole() {
    let mut guest = guest();
    guest.host.quiet.set(false);
    for n in 0..10_000u32 {
        let _ = guest.outp(0x3f8, 1, n & 0x7f);
        if n % 16 == 0 {
            guest.pass(2_000_000);
        }
    }
    assert_eq!(guest.host.text(Output::Com1).len(), 10_000);
}

#[test]
fn a_fault_while_a_double_fault_is_delivered_is_a_triple_fault() {
    let mut guest = guest();
    guest.vcpus[0].pending = Some(Event::exception(8, Some(0)));
    guest.vcpus[0].gprs.set_rcx(0xdead_beef);
    assert_eq!(guest.exit(Exit::Rdmsr), Some(Why::TripleFault));
}

#[test]
fn one_mebibyte_of_memory_builds_and_runs() {
    let mut guest = Guest::with(Setup { low: 1 << 20, ..Setup::default() });
    guest.at(&[0xf4]);
    assert_eq!(guest.exit(Exit::Hlt), None);
    let _ = guest.inp(0x3f8, 1);
}

#[test]
fn two_guests_with_the_same_history_are_the_same() {
    let run = |seed| {
        let mut rng = Rng::new(seed);
        let mut guest = guest();
        let mut sum = 0u64;
        for _ in 0..5000 {
            let port = rng.below(0x500) as u16;
            let stop = guest.outp(port, 1, rng.next_u64() as u32);
            again(&mut guest, stop);
            guest.pass(rng.below(100_000));
            sum = sum.rotate_left(5) ^ u64::from(guest.inp(port, 1));
        }
        sum
    };
    assert_eq!(run(3), run(3));
}

#[test]
fn an_events_delivery_that_touches_a_device_is_not_taken_for_an_instruction() {
    // The stack of an interrupt lies in the I/O APIC: there is no instruction to emulate.
    let mut guest = guest();
    guest.at(&[0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(0xfec0_0000);
    guest.vcpus[0].pending = Some(Event::interrupt(0x20));
    let stop = guest.touch(0xfec0_0ffc, Access::WRITE);
    assert_eq!(stop, Some(Why::Unhandled(0xfec0_0ffc)));
    assert_eq!(guest.vcpus[0].rip, 0x8000);
}
