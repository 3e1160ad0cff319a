//! Memory that a guest gives back to the host and asks for again, by `memory_op`.

use arch::exit::NestedFault;
use arch::{Access, Exit, GuestPhys, Vcpu};
use host_tests::{Call, Guest, Mode, Setup};
use machine::host::{Backed, Backing};
use machine::xen::{Hub, STEP};
use pvdrivers::abi::memory::{Exchange, MemoryDomain, MemoryOp, RemoveFromPhysmap, Reservation};
use pvdrivers::abi::{Hypercall, Layout, Ulong, Width};
use pvdrivers::{DomId, Errno};

/// Where arguments are, and behind them the list of frames.
const ARG: u64 = 0x10_0000;
const LIST: u64 = ARG + 0x1000;
/// The first frame that these tests give back.
const FRAME: u64 = 0x180;
const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

fn guest(width: Width) -> Guest {
    let mut guest = Guest::with(Setup { xen: true, low: 8 << 20, ..Setup::default() });
    guest.set_mode(0, if width == Width::Bits64 { Mode::Long } else { Mode::Protected });
    guest
}

/// One VMCALL, and those that go on with it; how many there were, and the result.
fn call<T: Layout>(guest: &mut Guest, width: Width, op: MemoryOp, arg: T) -> (usize, i64) {
    let mut bytes = [0; 128];
    let len = T::size(width);
    arg.store(&mut bytes, width).unwrap();
    guest.machine.ram.write_slice(GuestPhys(ARG), &bytes[..len]).unwrap();
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rax(Hypercall::MEMORY_OP.0);
    let set = |gprs: &mut arch::Gprs| match width {
        Width::Bits64 => (gprs.set_rdi(op.0.into()), gprs.set_rsi(ARG)),
        Width::Bits32 => (gprs.set_rbx(op.0.into()), gprs.set_rcx(ARG)),
    };
    set(gprs);
    let rip = guest.vcpus[0].rip;
    guest.vcpus[0].next_rip = Some(rip + 3);
    let mut calls = 0;
    while guest.vcpus[0].rip == rip {
        assert_eq!(guest.exit(Exit::Hypercall), None);
        calls += 1;
        assert!(calls < 100, "it goes on for ever");
    }
    let rax = guest.vcpus[0].gprs.rax();
    (calls, if width == Width::Bits64 { rax as i64 } else { i64::from(rax as u32 as i32) })
}

/// Writes frame numbers into the list.
fn list(guest: &Guest, width: Width, frames: impl Iterator<Item = u64>) {
    let bytes = width.bytes() as u8;
    for (n, frame) in (0..).zip(frames) {
        guest.store(LIST + n * u64::from(bytes), bytes, frame);
    }
}

fn reservation(count: u64, order: u32) -> Reservation {
    Reservation {
        extent_start: arch::GuestVirt(LIST),
        nr_extents: Ulong(count),
        extent_order: order,
        domid: DomId::SELF.0,
        ..Default::default()
    }
}

fn pages(guest: &mut Guest, width: Width, op: MemoryOp) -> i64 {
    call(guest, width, op, MemoryDomain { domid: DomId::SELF.0 }).1
}

#[test]
fn pages_go_to_the_host_and_come_back_zeroed_in_bounded_steps() {
    for width in BOTH {
        let mut guest = guest(width);
        let count = STEP as u64 + 100;
        list(&guest, width, FRAME..FRAME + count);
        guest.store(FRAME << 12, 8, 0x5a5a);
        guest.host.take_calls();
        let (calls, done) =
            call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(count, 0));
        assert_eq!((calls, done), (2, count as i64));
        assert_eq!(guest.host.pool.get(), count as usize);
        assert_eq!(pages(&mut guest, width, MemoryOp::MAXIMUM_RESERVATION), 2048);
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2048 - count as i64);
        // Once more is refused: there is nothing to give.
        let again = call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(1, 0));
        assert_eq!(again.1, 0);
        let (calls, done) =
            call(&mut guest, width, MemoryOp::POPULATE_PHYSMAP, reservation(count, 0));
        assert_eq!((calls, done), (2, count as i64));
        assert_eq!(guest.load(FRAME << 12, 8), 0);
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2048);
        assert_eq!(guest.host.pool.get(), 0);
    }
}

#[test]
fn a_host_without_memory_gives_what_it_has() {
    let width = Width::Bits64;
    let mut guest = guest(width);
    list(&guest, width, FRAME..FRAME + 64);
    call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(64, 0));
    guest.host.pool.set(10);
    let (_, done) = call(&mut guest, width, MemoryOp::POPULATE_PHYSMAP, reservation(64, 0));
    assert_eq!(done, 10);
    assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2048 - 54);
    // Large extents are given whole or not at all, and what is there is left.
    list(&guest, width, [FRAME, FRAME + 32].into_iter());
    guest.host.pool.set(25);
    let (_, done) = call(&mut guest, width, MemoryOp::POPULATE_PHYSMAP, reservation(2, 5));
    assert_eq!(done, 1);
}

#[test]
fn a_busy_host_is_asked_again() {
    let mut guest = guest(Width::Bits64);
    list(&guest, Width::Bits64, FRAME..FRAME + 4);
    guest.host.busy.set(3);
    let arg = reservation(4, 0);
    assert_eq!(call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, arg), (4, 4));
}

#[test]
fn what_is_no_ram_or_firmware_s_or_in_use_by_others_is_not_given() {
    let width = Width::Bits64;
    let hub: &'static Hub = Box::leak(Box::new(Hub::new(|| 0)));
    let build = |domid| {
        let setup = Setup { domain: Some((domid, hub)), low: 8 << 20, ..Setup::default() };
        let mut guest = Guest::with(setup);
        guest.set_mode(0, Mode::Long);
        guest
    };
    let (mut giver, _taker) = (build(DomId(1)), build(DomId(2)));
    for frame in [0xa0, 0xc4, 0xf0, 0xfee00, 0x900, u64::MAX, u64::MAX >> 12] {
        list(&giver, width, [frame].into_iter());
        let arg = reservation(1, 0);
        let (_, done) = call(&mut giver, width, MemoryOp::DECREASE_RESERVATION, arg);
        assert_eq!(done, 0, "{frame:#x}");
    }
    // Domain 2 maps a page that domain 1 granted.
    let table = hub.grants.lock().frame(DomId(1), 0).unwrap();
    table.write(8 * 8 + 4, 4, FRAME).unwrap();
    table.write(8 * 8, 4, 2 << 16 | 1).unwrap();
    let map = pvdrivers::abi::grant_table::MapGrantRef {
        host_addr: 0xe800_0000,
        flags: pvdrivers::abi::grant_table::MAP_HOST,
        reference: 8,
        dom: 1,
        ..Default::default()
    };
    let mapped = hub.grants.lock().map(DomId(2), &map, &hub.memories).unwrap();
    list(&giver, width, [FRAME + 1, FRAME].into_iter());
    let arg = reservation(2, 0);
    assert_eq!(call(&mut giver, width, MemoryOp::DECREASE_RESERVATION, arg).1, 1);
    assert!(!giver.host.take_calls().contains(&Call::Release(vec![GuestPhys(FRAME << 12)])));
    hub.grants.lock().abandon(DomId(2), mapped);
    let arg = RemoveFromPhysmap { domid: DomId::SELF.0, gpfn: Ulong(FRAME) };
    assert_eq!(call(&mut giver, width, MemoryOp::REMOVE_FROM_PHYSMAP, arg).1, 0);
    // Nobody maps what is not there.
    let refused = hub.grants.lock().map(DomId(2), &map, &hub.memories);
    assert!(refused.is_err());
    let arg = RemoveFromPhysmap { domid: DomId::SELF.0, gpfn: Ulong(FRAME) };
    let twice = call(&mut giver, width, MemoryOp::REMOVE_FROM_PHYSMAP, arg).1;
    assert_eq!(twice, Errno::ENOENT.code());
}

#[test]
fn a_page_that_was_given_back_is_a_hole_until_it_comes_again() {
    let mut guest = guest(Width::Bits64);
    list(&guest, Width::Bits64, FRAME..FRAME + 1);
    call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, reservation(1, 0));
    guest.host.take_calls();
    // MOV EAX, [page]
    let code = [0x8b, 0x04, 0x25, 0, 0, 0x18, 0];
    guest.at(&code);
    let rip = guest.vcpus[0].rip;
    assert_eq!(guest.touch(FRAME << 12, Access::READ), None);
    assert_eq!(guest.vcpus[0].rip, rip + code.len() as u64, "it goes on");
    assert_eq!(guest.host.take_calls(), [], "and nothing is mapped");
    let fault = NestedFault {
        gpa: GuestPhys(FRAME << 12),
        gva: None,
        access: Access::EXEC,
        present: false,
    };
    assert!(guest.exit(Exit::NestedFault(fault)).is_some(), "code there is the guest's end");
}

#[test]
fn a_reset_gets_all_memory_back_or_fails() {
    let mut guest = guest(Width::Bits64);
    list(&guest, Width::Bits64, FRAME..FRAME + 600);
    call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, reservation(600, 0));
    guest.host.pool.set(599);
    assert!(!guest.machine.power_on(&guest.host));
    guest.host.pool.set(1);
    assert!(guest.machine.power_on(&guest.host));
    assert_eq!(guest.machine.reservation(), (2048, 2048));
    guest.vcpus[0].set_rip(0);
}

/// Exchanges extents of one order at `LIST` for those of another at `LIST + 0x2000`; calls, result, and what was done.
fn exchange(
    guest: &mut Guest,
    width: Width,
    (count, order): (u64, u32),
    (wanted, other): (u64, u32),
) -> (usize, i64, u64) {
    let output =
        Reservation { extent_start: arch::GuestVirt(LIST + 0x2000), ..reservation(wanted, other) };
    let arg = Exchange { input: reservation(count, order), output, nr_exchanged: Ulong(0) };
    let (calls, result) = call(guest, width, MemoryOp::EXCHANGE, arg);
    let mut bytes = [0; 72];
    guest.machine.ram.read(GuestPhys(ARG), &mut bytes).unwrap();
    let arg = Exchange::parse(&bytes, width).unwrap();
    (calls, result, arg.nr_exchanged.0)
}

fn wanted(guest: &Guest, width: Width, frames: impl Iterator<Item = u64>) {
    let bytes = width.bytes() as u8;
    for (n, frame) in (0..).zip(frames) {
        guest.store(LIST + 0x2000 + n * u64::from(bytes), bytes, frame);
    }
}

#[test]
fn pages_are_exchanged_for_others_in_bounded_steps() {
    for width in BOTH {
        let mut guest = guest(width);
        // 600 places without memory.
        list(&guest, width, FRAME + 700..FRAME + 1300);
        call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(600, 0));
        guest.host.pool.set(0);
        list(&guest, width, FRAME..FRAME + 600);
        wanted(&guest, width, FRAME + 700..FRAME + 1300);
        guest.store((FRAME + 700) << 12, 8, 0x5a5a);
        guest.host.take_calls();
        assert_eq!(exchange(&mut guest, width, (600, 0), (600, 0)), (2, 0, 600));
        assert_eq!(guest.load((FRAME + 700) << 12, 8), 0, "it is a new page");
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2048 - 600);
        assert_eq!(guest.host.pool.get(), 0);
        let gone = call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(1, 0));
        assert_eq!(gone.1, 0, "what was given is not there");
        let arg = Exchange { nr_exchanged: Ulong(600), ..Exchange::default() };
        let arg = Exchange { input: reservation(600, 0), output: reservation(600, 0), ..arg };
        assert_eq!(call(&mut guest, width, MemoryOp::EXCHANGE, arg), (1, 0), "all is done");
    }
}

#[test]
fn extents_of_other_sizes_are_exchanged_whole_or_not_at_all() {
    for width in BOTH {
        let mut guest = guest(width);
        // 16 pages for one extent of 16, at the same place, and back.
        list(&guest, width, FRAME..FRAME + 32);
        wanted(&guest, width, [FRAME, FRAME + 16].into_iter());
        assert_eq!(exchange(&mut guest, width, (32, 0), (2, 4)), (1, 0, 32));
        list(&guest, width, [FRAME, FRAME + 16].into_iter());
        wanted(&guest, width, FRAME..FRAME + 32);
        assert_eq!(exchange(&mut guest, width, (2, 4), (32, 0)), (1, 0, 2));
        // The second extent's last page is a hole: the first extent is exchanged, and the second is left.
        let hole = RemoveFromPhysmap { domid: DomId::SELF.0, gpfn: Ulong(FRAME + 31) };
        assert_eq!(call(&mut guest, width, MemoryOp::REMOVE_FROM_PHYSMAP, hole).1, 0);
        guest.store((FRAME + 16) << 12, 8, 0x5a5a);
        let refused = (2, Errno::EINVAL.code(), 1);
        assert_eq!(exchange(&mut guest, width, (2, 4), (32, 0)), refused);
        assert_eq!(guest.load((FRAME + 16) << 12, 8), 0x5a5a);
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2047);
    }
}

#[test]
fn an_exchange_that_makes_no_sense_is_refused_and_a_busy_host_asked_again() {
    let width = Width::Bits64;
    let mut guest = guest(width);
    list(&guest, width, FRAME..FRAME + 32);
    wanted(&guest, width, FRAME..FRAME + 32);
    let (inval, perm) = (Errno::EINVAL.code(), Errno::EPERM.code());
    for (sides, errno) in [
        (((2, 0), (3, 0)), inval),
        (((2, 1), (2, 0)), inval),
        (((u64::MAX, 1), (u64::MAX, 1)), inval),
        (((1, 10), (1, 10)), perm),
        (((1, 0), (1, 99)), perm),
    ] {
        assert_eq!(exchange(&mut guest, width, sides.0, sides.1), (1, errno, 0));
    }
    let other = Reservation { domid: 7, ..reservation(1, 0) };
    for (input, output, done, errno) in [
        (other, other, 0, Errno::ESRCH.code()),
        (Reservation { domid: 0, ..other }, Reservation { domid: 0, ..other }, 0, perm),
        (reservation(1, 0), other, 0, inval),
        (reservation(1, 0), reservation(1, 0), 2, inval),
    ] {
        let arg = Exchange { input, output, nr_exchanged: Ulong(done) };
        assert_eq!(call(&mut guest, width, MemoryOp::EXCHANGE, arg).1, errno);
    }
    // No RAM on either side; a list that cannot be read.
    wanted(&guest, width, [0x900].into_iter());
    assert_eq!(exchange(&mut guest, width, (1, 0), (1, 0)), (1, inval, 0));
    list(&guest, width, [0xf_ee00].into_iter());
    wanted(&guest, width, [FRAME].into_iter());
    assert_eq!(exchange(&mut guest, width, (1, 0), (1, 0)), (1, inval, 0));
    let nowhere = Reservation { extent_start: arch::GuestVirt(8 << 20), ..reservation(1, 0) };
    let arg = Exchange { input: nowhere, output: reservation(1, 0), ..Exchange::default() };
    let fault = Errno::EFAULT.code();
    assert_eq!(call(&mut guest, width, MemoryOp::EXCHANGE, arg).1, fault);
    assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 2048);
    // Nothing was given but what follows.
    list(&guest, width, FRAME..FRAME + 2);
    wanted(&guest, width, FRAME..FRAME + 2);
    guest.host.busy.set(3);
    assert_eq!(exchange(&mut guest, width, (2, 0), (2, 0)), (4, 0, 2));
}

#[test]
fn a_page_that_was_never_touched_gets_its_memory_then_or_the_guest_waits_or_ends() {
    let mut guest = guest(Width::Bits64);
    guest.host.owed.set(Some(1000));
    let page = GuestPhys(FRAME << 12);
    let fault = || {
        Exit::NestedFault(NestedFault {
            gpa: page,
            gva: None,
            access: Access::WRITE,
            present: false,
        })
    };
    guest.host.take_calls();
    let rip = guest.vcpus[0].rip;
    assert_eq!(guest.exit(fault()), None);
    let map = Call::Map(page.0, 0x1000, Backing::Ram, arch::Perm::RWX);
    assert_eq!(guest.host.take_calls(), [Call::Back(page), map]);
    guest.host.backed.set(Backed::Later);
    assert_eq!(guest.exit(fault()), None);
    assert_eq!(guest.host.take_calls(), [Call::Back(page)], "nothing is mapped");
    assert_eq!(guest.vcpus[0].rip, rip, "it tries again");
    guest.host.backed.set(Backed::Never);
    assert_eq!(guest.exit(fault()), Some(arch::Why::Unhandled(page.0)));
    // What was given back is a hole, as ever, and nobody is asked for memory.
    guest.host.backed.set(Backed::Yes);
    list(&guest, Width::Bits64, FRAME..FRAME + 1);
    call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, reservation(1, 0));
    guest.host.take_calls();
    guest.at(&[0x8b, 0x04, 0x25, 0, 0, 0x18, 0]);
    assert_eq!(guest.touch(page.0, Access::READ), None);
    assert_eq!(guest.host.take_calls(), []);
}

#[test]
fn a_guest_has_what_is_covered_and_begins_anew_with_all_of_it_owed() {
    for width in BOTH {
        let mut guest = guest(width);
        guest.host.owed.set(Some(1000));
        assert_eq!(pages(&mut guest, width, MemoryOp::MAXIMUM_RESERVATION), 2048);
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 1048);
        list(&guest, width, FRAME..FRAME + 600);
        call(&mut guest, width, MemoryOp::DECREASE_RESERVATION, reservation(600, 0));
        guest.host.owed.set(Some(400));
        assert_eq!(pages(&mut guest, width, MemoryOp::CURRENT_RESERVATION), 1048);
        guest.host.pool.set(0);
        guest.host.take_calls();
        assert!(guest.machine.power_on(&guest.host), "no page is asked for");
        assert!(guest.host.take_calls().contains(&Call::OweAll));
        assert_eq!(guest.machine.reservation(), (2048, 2048), "nothing is given back any more");
        guest.host.backed.set(Backed::Never);
        assert!(!guest.machine.power_on(&guest.host), "memory is short");
    }
}

#[test]
fn increase_says_that_it_does_nothing_and_what_is_too_large_is_not_done() {
    let mut guest = guest(Width::Bits64);
    let arg = reservation(4, 0);
    assert_eq!(call(&mut guest, Width::Bits64, MemoryOp::INCREASE_RESERVATION, arg).1, 0);
    // Extents larger than Xen allows, and more of them than a call can count.
    for arg in [reservation(4, 10), reservation(1 << 30, 0)] {
        assert_eq!(call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, arg).1, 0);
    }
    let other = Reservation { domid: 7, ..reservation(1, 0) };
    let done = call(&mut guest, Width::Bits64, MemoryOp::DECREASE_RESERVATION, other).1;
    assert_eq!(done, 0, "another domain's memory: the result counts what was done");
}
