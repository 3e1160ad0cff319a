//! `vcpu_op`, `sched_op` and `event_channel_op` of a 32-bit kernel, operation by operation, with arguments laid out by
//! hand after Xen's public headers ("vcpu.h", "sched.h", "event_channel.h"); and arguments over the end of 4 GiB.

use arch::{Event, Exit, GuestPhys, Nanos, Why};
use host_tests::Call;
use host_tests::compat::{ARG, Compat, HOLE, LIST, RAM, SELF, error, fields};
use machine::Activity;
use pvdrivers::Errno;
use pvdrivers::abi::Hypercall;
use pvdrivers::abi::vcpu::Runstate;

/// Where the shared info page is.
const SHARED: u32 = 0x21_0000;

/// A kernel whose structures have 32 bits.
fn narrow() -> Compat {
    let mut xen = Compat::new();
    xen.map_shared_info(SHARED >> 12);
    xen
}

fn vcpu(xen: &mut Compat, op: u32, which: u32, arg: &[u8]) -> (i32, Vec<u8>) {
    xen.with(Hypercall::VCPU_OP, &[op, which], arg)
}

/// A pointer that ends with the RAM: no more than its four bytes is read.
fn register(xen: &mut Compat, op: u32, area: u32) -> i32 {
    xen.words(RAM - 4, [area]);
    xen.call(Hypercall::VCPU_OP, &[op, 0, RAM - 4])
}

#[test]
fn vcpus_are_named_by_a_number_that_exists() {
    let mut xen = narrow();
    assert_eq!([0, 1].map(|which| xen.call(Hypercall::VCPU_OP, &[3, which, HOLE])), [1, 0]);
    for op in (0..14).chain([99]) {
        for which in [2, 1 << 31, u32::MAX] {
            let result = xen.call(Hypercall::VCPU_OP, &[op, which, ARG]);
            assert_eq!(result, error(Errno::ENOENT), "{op} {which:#x}");
        }
    }
    for (op, errno) in [(12, Errno::EINVAL), (14, Errno::ENOSYS), (15, Errno::ENOSYS)] {
        assert_eq!(xen.call(Hypercall::VCPU_OP, &[op, 0, ARG]), error(errno));
    }
    // An NMI has no argument.
    assert_eq!(xen.call(Hypercall::VCPU_OP, &[11, 0, ARG]), error(Errno::EINVAL));
    assert_eq!(xen.guest.enter(0), Some(None));
    assert_eq!(xen.call(Hypercall::VCPU_OP, &[11, 0, 0]), 0);
    assert_eq!(xen.guest.enter(0), Some(Some(Event::NMI)));
}

#[test]
fn run_states_are_44_bytes() {
    let mut xen = narrow();
    let record = |state, since, times: [u64; 4]| {
        fields(&[&[(4, state), (8, since)][..], &times.map(|time| (8, time))].concat())
    };
    xen.guest.host.tsc.set(0x1_0000_0000);
    xen.guest.machine.set_runstate(&xen.guest.host, 0, Runstate::BLOCKED);
    xen.guest.host.tsc.set(0x1_0000_0064);
    let now = record(2, 0x1_0000_0000, [0x1_0000_0000, 0, 100, 0]);
    assert_eq!(vcpu(&mut xen, 4, 0, &[0xee; 44]), (0, now.clone()));
    // An area: the last bytes of a page, at any byte of a page, over the end of one.
    for at in [LIST + 0x1000 - 44, LIST + 3, LIST + 0x1000 - 43, LIST + 0x1000 - 4] {
        xen.put(LIST, &[0xee; 0x2000]);
        assert_eq!(register(&mut xen, 5, at), 0, "{at:#x}");
        assert_eq!(xen.get(at, 44), now, "{at:#x}");
        assert_eq!((xen.load(at - 1, 1), xen.load(at + 44, 4)), (0xee, 0xeeee_eeee), "{at:#x}");
    }
    assert_eq!(register(&mut xen, 5, RAM - 43), error(Errno::EFAULT));
    assert_eq!(register(&mut xen, 5, RAM - 44), 0, "and no byte more is needed");
    xen.guest.machine.set_runstate(&xen.guest.host, 0, Runstate::RUNNING);
    assert_eq!(xen.get(RAM - 44, 12), fields(&[(4, 0), (8, 0x1_0000_0064)]));
}

#[test]
fn a_run_state_area_may_lie_in_two_pages_that_are_not_neighbours() {
    let mut xen = narrow();
    xen.paged(&[0x30_0000, 0x50_0000], 0x70_0000);
    xen.words(ARG, [0x80_1000 - 10]);
    assert_eq!(xen.call(Hypercall::VM_ASSIST, &[0, 5]), 0);
    assert_eq!(xen.call(Hypercall::VCPU_OP, &[5, 0, ARG]), 0);
    xen.guest.host.tsc.set(0x1122_3344_5566_7788);
    xen.guest.machine.set_runstate(&xen.guest.host, 0, Runstate::RUNNABLE);
    let record = [xen.get(0x30_0ff6, 10), xen.get(0x50_0000, 34)].concat();
    let times = [(8, 0x1122_3344_5566_7788), (8, 0), (8, 0), (8, 0)];
    let wanted = fields(&[&[(4, 1), (8, 0x1122_3344_5566_7788)], &times[..]].concat());
    assert_eq!(record, wanted, "the mark of an update is gone");
    assert_eq!((xen.load(0x30_1000, 8), xen.load(0x50_0022, 8)), (0, 0));
    // The second page is not there.
    xen.words(ARG, [0x80_2000 - 10]);
    assert_eq!(xen.call(Hypercall::VCPU_OP, &[5, 0, ARG]), error(Errno::EFAULT));
}

#[test]
fn timers_have_64_bits_of_time_and_flags_at_eight() {
    let mut xen = narrow();
    let due = |xen: &Compat| xen.guest.cpus[0].due();
    xen.guest.host.tsc.set(0x2_0000_0000);
    // 12 bytes, the last of the RAM.
    let single = |xen: &mut Compat, time, flags| {
        xen.put(RAM - 12, &fields(&[(8, time), (4, flags)]));
        xen.call(Hypercall::VCPU_OP, &[8, 0, RAM - 12])
    };
    assert_eq!(single(&mut xen, 0x1_0000_0000, 1), error(Errno::ETIME));
    assert_eq!((single(&mut xen, 0x3_0000_0000, 1), due(&xen)), (0, Some(Nanos(0x3_0000_0000))));
    assert_eq!((xen.call(Hypercall::VCPU_OP, &[9, 0, HOLE]), due(&xen)), (0, None));
    let period = |ns| fields(&[(8, ns)]);
    for ns in [0, 999_999, 1 << 62, u64::MAX] {
        assert_eq!(vcpu(&mut xen, 6, 0, &period(ns)).0, error(Errno::EINVAL), "{ns:#x}");
    }
    assert_eq!(vcpu(&mut xen, 6, 0, &period(0x1_0000_0000)).0, 0);
    assert_eq!(due(&xen), Some(Nanos(0x3_0000_0000)));
    assert_eq!((xen.call(Hypercall::VCPU_OP, &[7, 0, HOLE]), due(&xen)), (0, None));
    // Only a vCPU's own.
    for op in [6, 7, 8, 9] {
        assert_eq!(vcpu(&mut xen, op, 1, &[0; 12]).0, error(Errno::EINVAL), "{op}");
    }
}

#[test]
fn vcpu_info_and_the_second_time_record_lie_where_they_are_told() {
    let mut xen = narrow();
    let info = |frame, offset| fields(&[(8, frame), (4, offset), (4, 0)]);
    for (arg, errno) in [
        (info(0x220, 4033), Errno::ENXIO),
        (info(0x220, 2), Errno::ENXIO),
        (info(0x220, 0xffff_fffc), Errno::ENXIO),
        (info(0x900, 0), Errno::EINVAL),
        (info(1 << 52, 0), Errno::EINVAL),
        (info(u64::MAX, 0), Errno::EINVAL),
    ] {
        assert_eq!(vcpu(&mut xen, 10, 0, &arg), (error(errno), arg));
    }
    // A word of this kernel's has four bytes.
    assert_eq!(vcpu(&mut xen, 10, 0, &info(0x220, 0x104)).0, 0);
    assert_eq!(vcpu(&mut xen, 10, 0, &info(0x220, 0x204)).0, error(Errno::EINVAL), "once");
    assert_eq!(xen.load(LIST + 0x104, 8), 0xffff_ffff_0000_0001, "pending, and all words of it");
    assert_eq!(xen.load(LIST + 0x104 + 32 + 29, 1), 1, "its time is stable");
    for (at, result) in [(LIST + 0x1000 - 32, 0), (LIST + 0x1000 - 28, -22), (LIST + 2, -22)] {
        assert_eq!(register(&mut xen, 13, at), result, "{at:#x}");
    }
    assert_eq!(xen.load(LIST + 0x1000 - 3, 1), 1);
    assert_eq!(register(&mut xen, 13, HOLE), error(Errno::EFAULT));
}

#[test]
fn sched_op_polls_with_a_time_at_eight_and_stops_with_a_reason() {
    let mut xen = narrow();
    let poll = |ports: u32, count, time| fields(&[(4, ports.into()), (4, count), (8, time)]);
    let ask = |xen: &mut Compat, arg: &[u8]| xen.with(Hypercall::SCHED_OP, &[3], arg).0;
    let (_, ipi) = xen.with(Hypercall::EVENT_CHANNEL_OP, &[7], &fields(&[(4, 0), (4, 0xee)]));
    assert_eq!(ipi, fields(&[(4, 0), (4, 1)]));
    xen.words(LIST, [1]);
    for (arg, errno) in [
        (poll(LIST, 129, 0), Errno::EINVAL),
        (poll(LIST, u32::MAX.into(), 0), Errno::EINVAL),
        (poll(HOLE, 1, 0), Errno::EFAULT),
        (poll(RAM - 4, 2, 0), Errno::EFAULT),
    ] {
        assert_eq!(ask(&mut xen, &arg), error(errno));
        assert_eq!(xen.guest.cpus[0].activity, Activity::Running);
    }
    for (arg, until) in [
        (poll(LIST, 1, 0x1_0000_0000), Some(Nanos(0x1_0000_0000))),
        (poll(HOLE, 0, 0x1_8000_0000), Some(Nanos(0x1_8000_0000))),
    ] {
        assert_eq!(ask(&mut xen, &arg), 0);
        assert_eq!((xen.guest.cpus[0].activity, xen.guest.cpus[0].due()), {
            (Activity::Polling, until)
        });
        assert_eq!(xen.guest.enter(0), None);
        xen.guest.pass(0x1_0000_0000);
        assert_eq!(xen.guest.enter(0), Some(None));
    }
    // Watchdogs: two of them, each with a number.
    let watchdog = |id, seconds| fields(&[(4, id), (4, seconds)]);
    let mut set = |arg: &[u8]| xen.with(Hypercall::SCHED_OP, &[6], arg).0;
    assert_eq!([set(&watchdog(0, 60)), set(&watchdog(0, 60)), set(&watchdog(0, 60))], [1, 2, -28]);
    assert_eq!([set(&watchdog(3, 0)), set(&watchdog(1, 0)), set(&watchdog(2, 0))], [-22, 0, 0]);
    for (op, result) in [(0, 0), (4, -1), (7, -1), (8, -38), (u32::MAX, -38)] {
        assert_eq!(xen.call(Hypercall::SCHED_OP, &[op, ARG]), result, "{op}");
    }
    assert!(xen.guest.host.take_calls().contains(&Call::Yield));
    assert_eq!(xen.with(Hypercall::SCHED_OP, &[5], &fields(&[(4, 0x103)])).0, 0);
    xen.words(ARG, [0]);
    xen.begin(Hypercall::SCHED_OP, &[2, ARG]);
    assert_eq!(xen.guest.exit(Exit::Hypercall), Some(Why::Crashed(3)), "told before");
    let mut xen = narrow();
    assert_eq!(xen.call(Hypercall::SCHED_OP, &[1, HOLE]), 0);
    assert_eq!(xen.guest.cpus[0].activity, Activity::Halted);
}

#[test]
fn event_channels_are_made_told_of_and_closed() {
    let mut xen = narrow();
    let event =
        |xen: &mut Compat, op: u32, arg: &[u8]| xen.with(Hypercall::EVENT_CHANNEL_OP, &[op], arg);
    let unbound = |dom, remote, port| fields(&[(2, dom), (2, remote), (4, port)]);
    assert_eq!(event(&mut xen, 6, &unbound(SELF, SELF, 9)), (0, unbound(SELF, SELF, 1)));
    assert_eq!(event(&mut xen, 6, &unbound(0, SELF, 9)).0, error(Errno::EPERM));
    assert_eq!(event(&mut xen, 6, &unbound(9, SELF, 9)).0, error(Errno::ESRCH));
    let between = |dom, remote, local| fields(&[(2, dom), (2, 0), (4, remote), (4, local)]);
    assert_eq!(event(&mut xen, 0, &between(SELF, 1, 9)), (0, between(SELF, 1, 2)));
    assert_eq!(event(&mut xen, 0, &between(SELF, 2, 9)).0, error(Errno::EINVAL));
    let three = |a, b, c| fields(&[(4, a), (4, b), (4, c)]);
    assert_eq!(event(&mut xen, 1, &three(0, 1, 9)), (0, three(0, 1, 3)), "the timer's interrupt");
    assert_eq!(event(&mut xen, 1, &three(0, 1, 9)).0, error(Errno::EEXIST));
    assert_eq!(event(&mut xen, 1, &three(24, 0, 9)).0, error(Errno::EINVAL));
    assert_eq!(event(&mut xen, 1, &three(0, 2, 9)).0, error(Errno::ENOENT));
    assert_eq!(event(&mut xen, 2, &three(0, 0, 9)).0, error(Errno::EINVAL), "no device's");
    let two = |a, b| fields(&[(4, a), (4, b)]);
    assert_eq!(event(&mut xen, 7, &two(1, 9)), (0, two(1, 4)));
    assert_eq!(event(&mut xen, 7, &two(u32::MAX.into(), 9)).0, error(Errno::ENOENT));
    // status: 24 bytes, the domain of a peer in two of them.
    let status = |port, rest: [u64; 4]| {
        let rest = rest.map(|field| (4, field));
        fields(&[&[(2, SELF), (2, 0), (4, port)], &rest[..]].concat())
    };
    for (port, told) in [(1, [2, 0, 1, 2]), (3, [4, 1, 0, 0]), (4, [5, 1, 0, 0]), (5, [0, 0, 0, 0])]
    {
        assert_eq!(event(&mut xen, 5, &status(port, [0; 4])), (0, status(port, told)), "{port}");
    }
    assert_eq!(event(&mut xen, 5, &status(1 << 17, [0; 4])).0, error(Errno::EINVAL));
    assert_eq!(event(&mut xen, 8, &two(1, 1)).0, 0);
    assert_eq!(event(&mut xen, 5, &status(1, [0; 4])).1, status(1, [2, 1, 1, 2]));
    for arg in [two(4, 0), two(3, 0), two(0, 0), two(1 << 17, 0)] {
        assert_eq!(event(&mut xen, 8, &arg).0, error(Errno::EINVAL));
    }
    assert_eq!(event(&mut xen, 8, &two(1, 2)).0, error(Errno::ENOENT));
    assert_eq!(event(&mut xen, 13, &two(1, 3)).0, error(Errno::ENOSYS), "priorities are FIFO's");
    assert_eq!(event(&mut xen, 12, &fields(&[(8, 0x230)])).0, error(Errno::EOPNOTSUPP));
    // Words of 32 bits: 1,024 ports; a selector of four bytes.
    let info = xen.guest.shared_info();
    assert_eq!(event(&mut xen, 4, &fields(&[(4, 4)])).0, 0);
    assert_eq!(
        (info.read_u32(2048), info.read_u64(64)),
        (Some(1 << 4 | 1 << 2), Some(1 | 1 << 32))
    );
    info.write(2176, 4, 1 << 4).unwrap();
    assert_eq!(event(&mut xen, 9, &fields(&[(4, 4)])).0, 0);
    assert_eq!(info.read_u32(2176), Some(0));
    for op in [3, 4, 9] {
        for port in [1 << 17, u32::MAX] {
            let arg = fields(&[(4, port.into())]);
            assert_eq!(event(&mut xen, op, &arg).0, error(Errno::EINVAL), "{op} {port}");
        }
    }
    let ports = (0..2_000).take_while(|_| event(&mut xen, 7, &two(0, 9)).0 == 0).count();
    assert_eq!((ports, event(&mut xen, 7, &two(0, 9)).0), (1_019, error(Errno::ENOSPC)));
    assert_eq!(event(&mut xen, 4, &fields(&[(4, 1_023)])).0, 0);
    assert_eq!(info.read_u32(2048 + 31 * 4), Some(1 << 31));
    assert_eq!(event(&mut xen, 3, &fields(&[(4, 1_023)])).0, 0);
    assert_eq!(event(&mut xen, 10, &fields(&[(2, 0)])).0, error(Errno::EPERM));
    assert_eq!(event(&mut xen, 10, &fields(&[(2, SELF)])).0, 0);
    assert_eq!(event(&mut xen, 4, &fields(&[(4, 4)])).0, error(Errno::EINVAL), "all are closed");
    assert_eq!(event(&mut xen, 14, &[]).0, error(Errno::ENOSYS));
}

#[test]
fn a_32_bit_kernel_has_2_to_the_17_ports_by_the_fifo_abi() {
    let mut xen = narrow();
    let event =
        |xen: &mut Compat, op: u32, arg: &[u8]| xen.with(Hypercall::EVENT_CHANNEL_OP, &[op], arg);
    let control = |frame, offset, vcpu, bits| {
        fields(&[(8, frame), (4, offset), (4, vcpu), (1, bits), (7, 0)])
    };
    for (arg, errno) in [
        (control(0x220, 4, 0, 9), Errno::EINVAL),
        (control(0x220, 4032, 0, 9), Errno::EINVAL),
        (control(0x900, 0, 0, 9), Errno::EINVAL),
        (control(1 << 40, 0, 0, 9), Errno::EINVAL),
        (control(0x220, 0, 2, 9), Errno::ENOENT),
    ] {
        assert_eq!(event(&mut xen, 11, &arg), (error(errno), arg));
    }
    assert_eq!(event(&mut xen, 11, &control(0x220, 8, 0, 9)), (0, control(0x220, 8, 0, 17)));
    assert_eq!(event(&mut xen, 12, &fields(&[(8, 1 << 40)])).0, error(Errno::EINVAL));
    assert_eq!(event(&mut xen, 12, &fields(&[(8, 0x221)])).0, 0);
    for port in 1..=1_100 {
        let arg = fields(&[(4, 0), (4, port)]);
        // Beyond what the first page has they wait for the second.
        assert_eq!(event(&mut xen, 7, &fields(&[(4, 0), (4, 9)])), (0, arg));
    }
    for (port, priority, errno) in [(7, 16, Errno::EINVAL), (1_101, 3, Errno::EACCES)] {
        let arg = fields(&[(4, port), (4, priority)]);
        assert_eq!(event(&mut xen, 13, &arg).0, error(errno));
    }
    assert_eq!(event(&mut xen, 13, &fields(&[(4, 1_023), (4, 3)])).0, 0);
    assert_eq!(event(&mut xen, 4, &fields(&[(4, 1_023)])).0, 0);
    // Pending and linked; ready of its priority; the head of its queue.
    assert_eq!(xen.load(LIST + 0x1000 + 4 * 1_023, 4) >> 28, 0b1010);
    assert_eq!((xen.load(LIST + 8, 4), xen.load(LIST + 16 + 4 * 3, 4)), (1 << 3, 1_023));
    assert_eq!(event(&mut xen, 4, &fields(&[(4, 1_024)])).0, 0);
    assert_eq!(event(&mut xen, 12, &fields(&[(8, 0x222)])).0, 0);
    assert_eq!(xen.load(LIST + 0x2000, 4) >> 28, 0b1010, "it comes with its page");
}

#[test]
fn an_argument_over_the_end_of_4_gib_goes_on_at_its_beginning() {
    let mut xen = narrow();
    xen.paged(&[], 0x70_0000);
    // As the CPU does for this kernel's own accesses: 0xffff_fff8 and on is physical 0x70_0ff8 and on, then 0.
    let arg = fields(&[(2, SELF), (2, 0), (4, 0), (8, 0xee)]);
    xen.put(0x70_0ff8, &fields(&[(2, SELF), (2, 0), (4, 1)]));
    xen.put(0, &fields(&[(8, 0xee)]));
    assert_eq!(arg.len(), 16);
    assert_eq!(xen.call(Hypercall::HVM_OP, &[1, 0xffff_fff8]), 0);
    assert_eq!(xen.load(0, 8), 0xf_eff8, "the value");
    // A list of two whose second lies at 0.
    let ipi = xen.with(Hypercall::EVENT_CHANNEL_OP, &[7], &fields(&[(4, 0), (4, 0)]));
    assert_eq!(ipi.1, fields(&[(4, 0), (4, 1)]));
    let entry = |op: u64| fields(&[(4, op), (4, 0xee), (8, 0), (8, 0), (8, 0)]);
    xen.put(0x70_0fe0, &entry(17));
    xen.put(0, &entry(17));
    assert_eq!(xen.call(Hypercall::MULTICALL, &[0xffff_ffe0, 2]), 0);
    assert_eq!((xen.load(0x70_0fe4, 4), xen.load(4, 4)), (0x4_0011, 0x4_0011));
    // Forty, so that it goes on in the registers.
    (0..39).for_each(|n| xen.put(32 * n, &entry(17)));
    assert_eq!(xen.call(Hypercall::MULTICALL, &[0xffff_ffe0, 40]), 0);
    assert_eq!((xen.exits, xen.load(38 * 32 + 4, 4)), (2, 0x4_0011));
    let ram = xen.guest.machine.ram;
    assert_eq!(ram.read_u32(GuestPhys(39 * 32)), Some(0));
}
