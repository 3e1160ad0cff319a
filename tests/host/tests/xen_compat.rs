//! Hypercalls of a 32-bit kernel, one by one: arguments laid out by hand after Xen's public headers ("xen.h",
//! "memory.h", "version.h", "hvm/hvm_op.h", "physdev.h"). Grants, vCPUs and events are in files of their own.

use host_tests::Call;
use host_tests::compat::{ARG, Compat, HOLE, LIST, RAM, SELF, error, fields};
use machine::host::{Backing, Output};
use pvdrivers::Errno;
use pvdrivers::abi::Hypercall;

/// `memory_op` with its argument.
fn memory(xen: &mut Compat, op: u32, arg: &[u8]) -> (i32, Vec<u8>) {
    xen.with(Hypercall::MEMORY_OP, &[op], arg)
}

/// `struct xen_memory_reservation`: 20 bytes.
fn reservation(list: u32, count: u32, order: u32, dom: u64) -> Vec<u8> {
    let (list, count, order) = (list.into(), count.into(), order.into());
    fields(&[(4, list), (4, count), (4, order), (4, 0), (2, dom), (2, 0)])
}

#[test]
fn the_number_and_the_arguments_are_32_bits_and_errors_have_a_sign() {
    let mut xen = Compat::new();
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0]), 0x4_0011);
    assert_eq!(xen.call(Hypercall(63), &[0]), -38);
    assert_eq!(xen.call(Hypercall(0x8000_0011), &[0]), -38);
    for number in [Hypercall::SYSCTL, Hypercall::DOMCTL, Hypercall::PLATFORM_OP] {
        assert_eq!(xen.call(number, &[ARG]), -1);
    }
    for number in [Hypercall::SCHED_OP_COMPAT, Hypercall::EVENT_CHANNEL_OP_COMPAT] {
        assert_eq!(xen.call(number, &[0, ARG]), -38);
    }
    // No device's interrupt comes as an event, and none of its features says so.
    for op in [5, 12, 13, 14, 23, 17, 28] {
        assert_eq!(xen.call(Hypercall::PHYSDEV_OP, &[op, ARG]), -38, "{op}");
    }
}

#[test]
fn bad_pointers_are_efault_in_every_call_that_has_one() {
    let mut xen = Compat::new();
    let fault = error(Errno::EFAULT);
    let calls: [(Hypercall, &[u32]); 6] = [
        (Hypercall::MEMORY_OP, &[3, 4, 7, 9, 11, 14, 15, 23]),
        (Hypercall::XEN_VERSION, &[1, 2, 3, 4, 5, 6, 8, 9]),
        (Hypercall::HVM_OP, &[0, 1, 10, 15, 23]),
        (Hypercall::SCHED_OP, &[2, 3, 5, 6]),
        (Hypercall::EVENT_CHANNEL_OP, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
        (Hypercall::GRANT_TABLE_OP, &[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]),
    ];
    // Nowhere, over the end of the RAM, and over the end of the addresses.
    for at in [HOLE, RAM - 1, u32::MAX] {
        for (number, ops) in calls {
            for op in ops {
                assert_eq!(xen.call(number, &[*op, at, 1]), fault, "{number:?} {op} {at:#x}");
            }
        }
        for op in [0, 4, 5, 6, 8, 10, 13] {
            assert_eq!(xen.call(Hypercall::VCPU_OP, &[op, 0, at]), fault, "{op} {at:#x}");
        }
        assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[0, 9, at]), fault);
        assert_eq!(xen.call(Hypercall::MULTICALL, &[at, 1]), fault);
        // These count what they have done.
        for op in [1, 6] {
            assert_eq!(xen.call(Hypercall::MEMORY_OP, &[op, at]), 0);
            assert_eq!(xen.call(Hypercall::MEMORY_OP, &[op | 5 << 6, at]), 5);
        }
    }
}

#[test]
fn xen_version_writes_as_many_bytes_as_each_has() {
    let mut xen = Compat::new();
    let ask = |xen: &mut Compat, op: u32, len: usize| {
        let (result, bytes) = xen.with(Hypercall::XEN_VERSION, &[op], &vec![0xee; len]);
        assert_eq!(result, 0, "{op}");
        bytes
    };
    assert_eq!(ask(&mut xen, 1, 16), *b".0-xenolith\0\0\0\0\0");
    assert_eq!(ask(&mut xen, 2, 144)[..6], *b"rustc\0");
    let capabilities = ask(&mut xen, 3, 1024);
    assert!(capabilities.starts_with(b"hvm-3.0-x86_32 ") && capabilities.ends_with(&[0]));
    assert_eq!(ask(&mut xen, 4, 64)[63], 0);
    assert_eq!(ask(&mut xen, 5, 4), [0; 4], "a long");
    assert_eq!(ask(&mut xen, 8, 16), *b"a guest's number");
    assert_eq!(ask(&mut xen, 9, 9), *b"<denied>\0");
    let features = |index| fields(&[(4, index), (4, 0xee)]);
    let (result, bytes) = xen.with(Hypercall::XEN_VERSION, &[6], &features(0));
    // Page tables, translated frames, callback vector, PV clock, NUMA, frames that are not the machine's.
    let wanted = 1 << 0 | 1 << 2 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 16;
    assert_eq!((result, bytes), (0, fields(&[(4, 0), (4, wanted)])));
    let (result, bytes) = xen.with(Hypercall::XEN_VERSION, &[6], &features(1));
    assert_eq!((result, bytes), (error(Errno::EINVAL), features(1)));
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[7, 0]), 4096);
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[7, ARG]), error(Errno::EINVAL));
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[10, ARG]), error(Errno::EPERM));
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[11, ARG]), error(Errno::ENOSYS));
}

#[test]
fn console_io_takes_a_length_that_is_never_negative() {
    let mut xen = Compat::new();
    xen.put(LIST, b"early\nlater");
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[0, 6, LIST]), 0);
    assert_eq!(xen.guest.host.text(Output::Debug), "early\n");
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[0, 0, HOLE]), 0);
    // As far as there is RAM; and no more than 64 KiB of what there is.
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[0, u32::MAX, RAM - 300]), error(Errno::EFAULT));
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[0, u32::MAX, LIST]), 0);
    assert!(xen.guest.host.printed.borrow().len() < 6 + 300 + 65_537);
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[1, 64, LIST]), 0);
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[1, 1 << 31, LIST]), error(Errno::E2BIG));
    assert_eq!(xen.call(Hypercall::CONSOLE_IO, &[2, 1, LIST]), error(Errno::ENOSYS));
}

#[test]
fn vm_assist_knows_one_type() {
    let mut xen = Compat::new();
    assert_eq!(xen.call(Hypercall::VM_ASSIST, &[0, 5]), 0);
    assert_eq!(xen.call(Hypercall::VM_ASSIST, &[1, 5]), 0);
    for kind in [0, 1, 2, 3, 4, 6, 31, 32, u32::MAX] {
        assert_eq!(xen.call(Hypercall::VM_ASSIST, &[0, kind]), error(Errno::EINVAL), "{kind}");
    }
    assert_eq!(xen.call(Hypercall::VM_ASSIST, &[2, 5]), error(Errno::ENOSYS));
}

#[test]
fn pages_of_the_hypervisor_are_mapped_and_taken_away() {
    let mut xen = Compat::new();
    xen.guest.host.take_calls();
    xen.map_shared_info(0x210);
    let mapped = |call: &Call| matches!(call, Call::Map(0x21_0000, 4096, Backing::Xen(0), _));
    assert!(xen.guest.host.take_calls().iter().any(mapped));
    let add = |dom: u64, space: u64, index: u64, frame: u64| {
        fields(&[(2, dom), (2, 0xffff), (4, space), (4, index), (4, frame)])
    };
    for (arg, errno) in [
        (add(SELF, 0, 1, 0x211), Errno::EINVAL),
        (add(SELF, 1, 64, 0x211), Errno::EINVAL),
        // A status frame of a table of version 1.
        (add(SELF, 1, 1 << 31, 0x211), Errno::EINVAL),
        (add(SELF, 4, 0, 0x211), Errno::ENOSYS),
        (add(SELF, 5, 0, 0x211), Errno::EINVAL),
        (add(SELF, 0, 0, 0xffff_ffff), Errno::EINVAL),
        (add(0, 0, 0, 0x211), Errno::EPERM),
        (add(9, 0, 0, 0x211), Errno::ESRCH),
    ] {
        assert_eq!(memory(&mut xen, 7, &arg), (error(errno), arg));
    }
    let remove = |dom, frame| fields(&[(2, dom), (2, 0), (4, frame)]);
    for (arg, result) in [
        (remove(SELF, 0x210), 0),
        (remove(SELF, 0x300), 0),
        (remove(SELF, 0x300), error(Errno::ENOENT)),
        (remove(SELF, 0x900), error(Errno::ENOENT)),
        (remove(SELF, 0xffff_ffff), error(Errno::ENOENT)),
        (remove(0, 0x301), error(Errno::EPERM)),
        (remove(9, 0x301), error(Errno::ESRCH)),
    ] {
        assert_eq!(memory(&mut xen, 15, &arg), (result, arg));
    }
    assert_eq!(memory(&mut xen, 15 | 1 << 6, &remove(SELF, 0x301)).0, error(Errno::EINVAL));
}

#[test]
fn a_batch_has_lists_of_four_bytes_and_stays_as_it_was_given() {
    let mut xen = Compat::new();
    let batch = |space: u64, size: u64, indices: u32| {
        let lists = [indices, LIST + 0x1000, LIST + 0x2000].map(|at| (4, at.into()));
        fields(&[&[(2, SELF), (2, space), (2, size), (2, 0)], &lists[..]].concat())
    };
    // Page 0 and 1 of the grant table, then what there is not.
    xen.words(LIST, (0..100).map(|n| if n < 64 { n } else { 64 }));
    xen.words(LIST + 0x1000, 0x300..0x364);
    xen.words(LIST + 0x2000, [0xeeee_eeee; 101]);
    let arg = batch(1, 100, LIST);
    assert_eq!(memory(&mut xen, 23, &arg), (0, arg));
    assert_eq!(xen.exits, 2);
    for n in 0..100u32 {
        let wanted = if n < 64 { 0 } else { error(Errno::EINVAL) };
        assert_eq!(xen.load(LIST + 0x2000 + 4 * n, 4) as i32, wanted, "{n}");
    }
    assert_eq!(xen.load(LIST + 0x2000 + 400, 4), 0xeeee_eeee);
    // None; a range, which is for the single call; another's page.
    let arg = batch(1, 0, HOLE);
    assert_eq!(memory(&mut xen, 23, &arg), (0, arg));
    assert_eq!(memory(&mut xen, 23, &batch(3, 1, LIST)).0, error(Errno::EOPNOTSUPP));
    assert_eq!(memory(&mut xen, 23, &batch(4, 1, LIST)).0, 0);
    assert_eq!(xen.load(LIST + 0x2000, 4) as i32, error(Errno::EPERM));
    // The list of indices ends with the RAM: two are done, and the third is not.
    xen.words(RAM - 8, [0, 1]);
    xen.words(LIST + 0x2000, [0xeeee_eeee; 3]);
    assert_eq!(memory(&mut xen, 23, &batch(1, 3, RAM - 8)).0, error(Errno::EFAULT));
    assert_eq!([0, 4, 8].map(|at| xen.load(LIST + 0x2000 + at, 4)), [0, 0, 0xeeee_eeee]);
}

#[test]
fn what_a_guest_asks_of_its_memory_is_told_in_four_bytes() {
    let mut xen = Compat::new();
    let pages = (RAM >> 12) as i32;
    let domain = |dom| fields(&[(2, dom)]);
    for (op, result) in [(3, pages), (4, pages), (14, 0xf_ffff)] {
        assert_eq!(memory(&mut xen, op, &domain(SELF)).0, result, "{op}");
        assert_eq!(memory(&mut xen, op, &domain(0)).0, error(Errno::EPERM), "{op}");
        assert_eq!(memory(&mut xen, op, &domain(9)).0, error(Errno::ESRCH), "{op}");
        let continued = memory(&mut xen, op | 1 << 6, &domain(SELF)).0;
        assert_eq!(continued, error(Errno::EINVAL), "{op}");
    }
    assert_eq!(xen.call(Hypercall::MEMORY_OP, &[2]), pages);
    // The map: a count and a pointer, entries of 20 bytes.
    let map = |count, at: u32| fields(&[(4, count), (4, at.into())]);
    xen.put(LIST, &[0xee; 4096]);
    let (result, bytes) = memory(&mut xen, 9, &map(0xffff_ffff, LIST));
    let count = u64::from(bytes[0]);
    assert_eq!((result, bytes), (0, map(count, LIST)));
    assert_eq!((xen.load(LIST, 8), xen.load(LIST + 16, 4)), (0, 1), "RAM from 0");
    let end = LIST + 20 * count as u32;
    assert!(xen.load(end - 4, 4) < 6 && xen.load(end, 8) == 0xeeee_eeee_eeee_eeee);
    xen.put(LIST, &[0xee; 4096]);
    assert_eq!(memory(&mut xen, 9, &map(1, LIST)), (0, map(1, LIST)));
    assert_eq!(xen.load(LIST + 20, 4), 0xeeee_eeee);
    assert_eq!(memory(&mut xen, 9, &map(1, HOLE)).0, error(Errno::EFAULT));
    // The toolstack's, NUMA nodes, and what there is not.
    for (op, errno) in [
        (13, Errno::EPERM),
        (16, Errno::EPERM),
        (17, Errno::EPERM),
        (24, Errno::EPERM),
        (28, Errno::EPERM),
        (26, Errno::EOPNOTSUPP),
        (5, Errno::ENOSYS),
        (8, Errno::ENOSYS),
        (10, Errno::ENOSYS),
        (12, Errno::ENOSYS),
        (63, Errno::ENOSYS),
    ] {
        assert_eq!(xen.call(Hypercall::MEMORY_OP, &[op, ARG]), error(errno), "{op}");
    }
}

#[test]
fn extents_are_given_and_taken_by_lists_of_four_byte_frames() {
    let mut xen = Compat::new();
    xen.words(LIST, 0x300..0x300 + 600);
    let arg = reservation(LIST, 600, 0, SELF);
    assert_eq!(memory(&mut xen, 1, &arg), (600, arg.clone()));
    assert_eq!(xen.exits, 2, "the command's high bits say how far it is");
    assert_eq!(xen.guest.host.pool.get(), 600);
    assert_eq!(memory(&mut xen, 6, &arg), (600, arg));
    assert_eq!(xen.load(LIST + 4, 4), 0x301, "frames are their own numbers");
    // One extent of 16 pages and one that is no RAM.
    xen.words(LIST, [0x300, 0xffff_fff8]);
    assert_eq!(memory(&mut xen, 1, &reservation(LIST, 2, 4, SELF)).0, 1);
    assert_eq!(memory(&mut xen, 6, &reservation(LIST, 2, 4, SELF)).0, 1);
    // The list ends with the RAM.
    xen.words(RAM - 8, [0x310, 0x311]);
    assert_eq!(memory(&mut xen, 1, &reservation(RAM - 8, 3, 0, SELF)).0, 2);
    // Absurd counts and sizes, others' memory, a list that would wrap: nothing is done.
    xen.words(LIST, 0x320..0x330);
    for arg in [
        reservation(LIST, u32::MAX, 0, SELF),
        reservation(LIST, 1 << 26, 0, SELF),
        reservation(LIST, 1, 10, SELF),
        reservation(LIST, 1, u32::MAX, SELF),
        reservation(LIST, 1, 0, 0),
        reservation(LIST, 1, 0, 9),
        reservation(LIST, 0, 0, SELF),
        reservation(u32::MAX - 3, 2, 0, SELF),
        reservation(HOLE, 1, 0, SELF),
    ] {
        assert_eq!(memory(&mut xen, 1, &arg), (0, arg));
    }
    assert_eq!(memory(&mut xen, 1 | 7 << 6, &reservation(LIST, 5, 0, SELF)).0, 7);
    assert_eq!(memory(&mut xen, 1 | 4 << 6, &reservation(LIST, 5, 0, SELF)).0, 5);
    assert_eq!(memory(&mut xen, 0, &reservation(LIST, 5, 0, SELF)).0, 0);
}

#[test]
fn an_exchange_is_44_bytes_and_only_its_last_four_are_written() {
    let mut xen = Compat::new();
    let exchange = |given: (u32, u32), wanted: (u32, u32), done: u64| {
        let sides = [
            reservation(LIST, given.0, given.1, SELF),
            reservation(LIST + 0x1000, wanted.0, wanted.1, SELF),
            fields(&[(4, done)]),
        ];
        sides.concat()
    };
    xen.words(LIST, 0x300..0x300 + 600);
    xen.words(LIST + 0x1000, 0x300..0x300 + 600);
    let arg = exchange((600, 0), (600, 0), 0);
    assert_eq!(arg.len(), 44);
    assert_eq!(memory(&mut xen, 11, &arg), (0, exchange((600, 0), (600, 0), 600)));
    assert_eq!(xen.exits, 2);
    // Sixteen pages for one extent; what is done of a chunk is whole.
    let arg = exchange((32, 0), (2, 4), 0);
    xen.words(LIST + 0x1000, [0x300, 0x310]);
    assert_eq!(memory(&mut xen, 11, &arg), (0, exchange((32, 0), (2, 4), 32)));
    for (arg, errno) in [
        (exchange((32, 0), (2, 4), 17), Errno::EINVAL),
        (exchange((32, 0), (2, 4), 33), Errno::EINVAL),
        (exchange((3, 0), (2, 0), 0), Errno::EINVAL),
        // Both sides are the same, but the caller's long does not hold the pages.
        (exchange((u32::MAX, 1), (u32::MAX, 1), 0), Errno::EINVAL),
        (exchange((1 << 31, 1), (1 << 31, 1), 0), Errno::EINVAL),
        (exchange((1, 10), (1, 10), 0), Errno::EPERM),
    ] {
        assert_eq!(memory(&mut xen, 11, &arg), (error(errno), arg));
    }
    assert_eq!(memory(&mut xen, 11 | 1 << 6, &arg).0, error(Errno::EINVAL));
    // The wanted list ends with the RAM: one is done.
    xen.words(LIST, [0x320, 0x321]);
    xen.words(RAM - 4, [0x320]);
    let arg = |done| {
        let sides =
            [reservation(LIST, 2, 0, SELF), reservation(RAM - 4, 2, 0, SELF), fields(&[(4, done)])];
        sides.concat()
    };
    assert_eq!(memory(&mut xen, 11, &arg(0)), (error(Errno::EFAULT), arg(1)));
}

/// `struct multicall_entry`: 32 bytes.
fn entry(op: u32, result: u32, args: [u32; 6]) -> Vec<u8> {
    [&[op, result], &args[..]].concat().into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn each_call_of_a_multicall_has_its_result_in_its_second_word() {
    let mut xen = Compat::new();
    let list = [
        entry(17, 0xee, [0, 1, 2, 3, 4, 5]),
        entry(13, 0xee, [ARG, 1, 0, 0, 0, 0]),
        entry(99, 0xee, [0; 6]),
        entry(17, 0xee, [6, HOLE, 0, 0, 0, 0]),
    ];
    let results = [0x4_0011, error(Errno::EINVAL), error(Errno::ENOSYS), error(Errno::EFAULT)];
    xen.put(ARG, &[list.concat(), vec![0xa5; 24]].concat());
    assert_eq!(xen.call(Hypercall::MULTICALL, &[ARG, 4]), 0);
    let bytes = xen.left(128);
    for (n, (result, before)) in results.into_iter().zip(&list).enumerate() {
        let after = &bytes[32 * n..][..32];
        assert_eq!(after[4..8], result.to_le_bytes(), "{n}");
        assert_eq!((&after[..4], &after[8..]), (&before[..4], &before[8..]), "{n}");
    }
    // The list ends with the RAM: the first is done.
    xen.put(RAM - 32, &entry(17, 0xee, [0; 6]));
    for count in [2, u32::MAX] {
        let result = xen.call(Hypercall::MULTICALL, &[RAM - 32, count]);
        assert_eq!((result, xen.load(RAM - 28, 4)), (error(Errno::EFAULT), 0x4_0011));
    }
    assert_eq!(xen.call(Hypercall::MULTICALL, &[HOLE, 0]), 0);
}

#[test]
fn a_call_in_a_multicall_goes_on_in_its_entry_until_it_is_done() {
    let mut xen = Compat::new();
    xen.words(LIST, 0x300..0x300 + 600);
    let arg = reservation(LIST, 600, 0, SELF);
    xen.put(LIST + 0x2000, &arg);
    // Forty copies of a page's first bytes.
    for n in 0..40u64 {
        let pages = [(4, 0x220), (2, SELF), (2, 0), (4, 0x223), (2, SELF), (2, 8 * n)];
        let copy = fields(&[&pages[..], &[(2, 8), (2, 0), (2, 0xee), (2, 0)]].concat());
        xen.put(LIST + 0x5000 + 24 * n as u32, &copy);
    }
    let list = [
        entry(17, 0, [0; 6]),
        entry(12, 0, [1, LIST + 0x2000, 0, 0, 0, 0]),
        entry(20, 0xee, [5, LIST + 0x5000, 40, 0, 0, 0]),
        entry(17, 0, [7, 0, 0, 0, 0, 0]),
    ];
    xen.put(ARG, &list.concat());
    assert_eq!(xen.call(Hypercall::MULTICALL, &[ARG, 4]), 0);
    let results = [0, 1, 2, 3].map(|n| xen.load(ARG + 32 * n + 4, 4));
    assert_eq!(results, [0x4_0011, 600, 0, 4096]);
    assert_eq!(xen.guest.host.pool.get(), 600);
    assert_eq!(xen.get(0x22_3000 + 39 * 8, 8), xen.get(0x22_0000, 8));
    // Where it is: the entry says what is left, the registers which entry.
    assert_eq!(xen.load(ARG + 32 + 8, 4), 1 | 512 << 6);
    assert_eq!(xen.load(ARG + 64 + 16, 4), 8);
    let gprs = &xen.guest.vcpus[0].gprs;
    assert_eq!((gprs.rbx() as u32, gprs.rcx() as u32), (ARG + 64, 2));
}

#[test]
fn a_timer_s_time_is_in_two_registers() {
    let mut xen = Compat::new();
    let due = |xen: &Compat| xen.guest.cpus[0].due().map(|due| due.0);
    xen.guest.host.tsc.set(1_000);
    assert_eq!(xen.call(Hypercall::SET_TIMER_OP, &[0x89ab_cdef, 0x12]), 0);
    assert_eq!(due(&xen), Some(0x12_89ab_cdef));
    assert_eq!(xen.call(Hypercall::SET_TIMER_OP, &[0, 0]), 0);
    assert_eq!(due(&xen), None);
    // A deadline that has wrapped, or is further away than 13 days, comes in 100 ms.
    for high in [u32::MAX, 1 << 31, 0x7fff_ffff, 1 << 19] {
        assert_eq!(xen.call(Hypercall::SET_TIMER_OP, &[5, high]), 0);
        assert_eq!(due(&xen), Some(100_001_000), "{high:#x}");
    }
    xen.guest.host.tsc.set(1 << 51);
    assert_eq!(xen.call(Hypercall::SET_TIMER_OP, &[5, 1 << 19]), 0);
    assert_eq!(due(&xen), Some((1 << 51) + 5));
}

#[test]
fn hvm_op_s_values_are_64_bits_at_eight() {
    let mut xen = Compat::new();
    let hvm = |xen: &mut Compat, op: u32, arg: &[u8]| xen.with(Hypercall::HVM_OP, &[op], arg);
    let param =
        |dom: u64, index: u64, value: u64| fields(&[(2, dom), (2, 0), (4, index), (8, value)]);
    let callback = 2 << 56 | 0xf3;
    let arg = param(SELF, 0, callback);
    assert_eq!(hvm(&mut xen, 0, &arg), (0, arg.clone()));
    assert_eq!(hvm(&mut xen, 1, &param(SELF, 0, 0xee)), (0, arg));
    assert_eq!(hvm(&mut xen, 1, &param(SELF, 1, 0xee)), (0, param(SELF, 1, 0xf_eff8)));
    // Ports of the rings and the place of the generation number are the guest's to change, as in Xen.
    for index in [2, 18, 34, 15] {
        let arg = param(SELF, index, 0x1_0000_0007);
        assert_eq!(hvm(&mut xen, 0, &arg).0, 0, "{index}");
        assert_eq!(hvm(&mut xen, 1, &param(SELF, index, 0)), (0, arg), "{index}");
    }
    assert_eq!(hvm(&mut xen, 0, &param(SELF, 36, 5)).0, error(Errno::EINVAL));
    for op in [0, 1] {
        for (arg, errno) in [
            (param(SELF, 39, 0), Errno::EINVAL),
            (param(SELF, u32::MAX.into(), 0), Errno::EINVAL),
            (param(SELF, 4, 0), Errno::EINVAL),
            (param(SELF, 24, 0), Errno::EINVAL),
            (param(SELF, 5, 0), Errno::EPERM),
            (param(0, 0, 0), Errno::EPERM),
            (param(9, 0, 0), Errno::ESRCH),
        ] {
            assert_eq!(hvm(&mut xen, op, &arg), (error(errno), arg));
        }
    }
    assert_eq!(hvm(&mut xen, 0, &param(SELF, 1, 5)).0, error(Errno::EPERM));
    let vector = |vcpu, vector| fields(&[(4, vcpu), (1, vector), (3, 0)]);
    assert_eq!(hvm(&mut xen, 23, &vector(1, 0x55)).0, 0);
    assert_eq!(hvm(&mut xen, 23, &vector(9, 15)).0, error(Errno::EINVAL));
    assert_eq!(hvm(&mut xen, 23, &vector(2, 16)).0, error(Errno::ENOENT));
    xen.guest.host.tsc.set(0x1_2345_6789);
    assert_eq!(hvm(&mut xen, 10, &[0; 8]), (0, fields(&[(8, 0x1_2345_6789)])));
    let kind = |dom, kind, frame| fields(&[(2, dom), (2, kind), (4, 0), (8, frame)]);
    for (frame, wanted) in [(0x300, 0), (0xf_ee00, 2), (1 << 52, 2), (u64::MAX, 2)] {
        assert_eq!(hvm(&mut xen, 15, &kind(SELF, 7, frame)), (0, kind(SELF, wanted, frame)));
    }
    assert_eq!(hvm(&mut xen, 15, &kind(9, 7, 0x300)).0, error(Errno::ESRCH));
    xen.guest.host.take_calls();
    assert_eq!(xen.call(Hypercall::HVM_OP, &[5, 0]), 0);
    assert!(xen.guest.host.take_calls().contains(&Call::Flush));
    assert_eq!(xen.call(Hypercall::HVM_OP, &[5, ARG]), error(Errno::EINVAL));
    assert_eq!(xen.call(Hypercall::HVM_OP, &[9, ARG]), error(Errno::EINVAL));
    for op in [2, 11, 24, 25, 99] {
        assert_eq!(xen.call(Hypercall::HVM_OP, &[op, 0]), error(Errno::ENOSYS), "{op}");
    }
}
