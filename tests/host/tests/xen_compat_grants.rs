//! `grant_table_op` of a 32-bit kernel, operation by operation: arguments laid out by hand after Xen's public header
//! "grant_table.h", in both versions of the table.

use host_tests::Call;
use host_tests::compat::{ARG, Compat, HOLE, LIST, RAM, SELF, error, fields};
use machine::host::Backing;
use machine::xen::Hub;
use pvdrivers::Errno;
use pvdrivers::abi::Hypercall;

const SETUP: u32 = 2;
const COPY: u32 = 5;
const SET_VERSION: u32 = 8;

/// Frames and pages that the tests use.
const FRAME: u64 = 0x300;
const PAGE: u32 = 0x30_0000;

/// A domain that grants, and one that uses what it is granted; both have their table's first page.
fn two() -> (Compat, Compat) {
    let hub: &'static Hub = Box::leak(Box::new(Hub::new(|| 0)));
    let all = [1, 2].map(|dom| {
        let mut xen = Compat::among(dom, hub);
        let first = fields(&[(2, SELF), (2, 0), (4, 1), (4, 0), (4, 0x210)]);
        assert_eq!(xen.with(Hypercall::MEMORY_OP, &[7], &first).0, 0);
        xen
    });
    all.into()
}

/// The hypervisor's page of a table's first entries.
fn table(xen: &Compat) -> arch::SharedPage {
    let own = xen.guest.machine.xen().expect("it has Xen's interface");
    own.page(machine::xen::GRANT_PAGES).expect("the first one")
}

/// An entry of version 1: flags, for domain 2, frame.
fn grant(xen: &Compat, reference: usize, flags: u64, frame: u64) {
    table(xen).write(8 * reference, 8, flags | 2 << 16 | frame << 32).expect("in the page");
}

/// `struct gnttab_copy`: 24 bytes. A side is frame or reference, domain, offset.
fn copy(source: [u64; 3], dest: [u64; 3], len: u64, flags: u64, status: i16) -> Vec<u8> {
    let side = |[frame, dom, offset]: [u64; 3]| [(4, frame), (2, dom), (2, offset)];
    let end = [(2, len), (2, flags), (2, status as u64), (2, 0)];
    fields(&[&side(source)[..], &side(dest), &end].concat())
}

#[test]
fn a_count_is_one_or_never_negative() {
    let mut xen = Compat::new();
    let invalid = error(Errno::EINVAL);
    for op in [SETUP, 6, 9] {
        for count in [0, 2, u32::MAX] {
            assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, count]), invalid, "{op}");
        }
    }
    for op in [0, 1, 4, COPY, 7, SET_VERSION, 10, 11] {
        for count in [1 << 31, u32::MAX] {
            assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, count]), invalid, "{op}");
        }
    }
    for op in [0, 1, 4, COPY, 7, 11] {
        assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, HOLE, 0]), 0, "{op}");
    }
    for op in [3, 12, 13, 0x1005] {
        assert_eq!(
            xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, 1]),
            error(Errno::ENOSYS),
            "{op}"
        );
    }
}

#[test]
fn setup_table_lists_frames_of_four_bytes() {
    let mut xen = Compat::new();
    let setup = |dom, count, status: i16, list: u32| {
        fields(&[(2, dom), (2, 0), (4, count), (2, status as u64), (2, 0), (4, list.into())])
    };
    let before = |dom, count, list| setup(dom, count, 0x77, list);
    // A frame that is not mapped has no number of four bytes.
    let (result, bytes) = xen.grants(SETUP, &before(SELF, 2, LIST), 1);
    assert_eq!((result, bytes), (0, setup(SELF, 2, -11, LIST)));
    for index in [0, 1] {
        let add = fields(&[(2, SELF), (2, 0), (4, 1), (4, index), (4, 0x210 + index)]);
        assert_eq!(xen.with(Hypercall::MEMORY_OP, &[7], &add).0, 0);
    }
    xen.words(LIST, [0xee; 3]);
    let (result, bytes) = xen.grants(SETUP, &before(SELF, 2, LIST), 1);
    assert_eq!((result, bytes), (0, setup(SELF, 2, 0, LIST)));
    assert_eq!([0, 4, 8].map(|at| xen.load(LIST + at, 4)), [0x210, 0x211, 0xee]);
    for (dom, count, list, status) in [
        (SELF, 65, LIST, -1),
        (SELF, u64::from(u32::MAX), LIST, -1),
        (SELF, 2, HOLE, -5),
        (SELF, 2, RAM - 4, -5),
        (SELF, 0, HOLE, 0),
        (9, 1, LIST, -2),
    ] {
        let (result, bytes) = xen.grants(SETUP, &before(dom, count, list), 1);
        assert_eq!((result, bytes), (0, setup(dom, count, status, list)));
    }
    // query_size: 16 bytes.
    let size = |dom, now, most, status: i16| {
        fields(&[(2, dom), (2, 0), (4, now), (4, most), (2, status as u64), (2, 0)])
    };
    assert_eq!(xen.grants(6, &size(SELF, 9, 9, 9), 1), (0, size(SELF, 2, 64, 0)));
    assert_eq!(xen.grants(6, &size(9, 9, 9, 9), 1), (0, size(9, 9, 9, -2)));
}

#[test]
fn versions_are_told_and_set_whatever_the_count_says() {
    let mut xen = Compat::new();
    let get = |dom, version| fields(&[(2, dom), (2, 0), (4, version)]);
    for (version, errno) in [(0, Errno::EINVAL), (3, Errno::EINVAL), (u32::MAX, Errno::EINVAL)] {
        let arg = version.to_le_bytes();
        // The present version is told also where it stays.
        assert_eq!(xen.grants(SET_VERSION, &arg, 1), (error(errno), vec![1, 0, 0, 0]));
    }
    for count in [0, 1, 7] {
        for version in [2u8, 1] {
            let arg = [version, 0, 0, 0];
            assert_eq!(xen.grants(SET_VERSION, &arg, count), (0, arg.to_vec()));
            let known = (0, get(SELF, version.into()));
            assert_eq!(xen.grants(10, &get(SELF, 0xee), count), known);
        }
    }
    assert_eq!(xen.grants(10, &get(9, 0xee), 1).0, error(Errno::ESRCH));
    // Status frames: eight bytes each, also for this caller.
    let status = |count, dom, status: i16, list: u32| {
        fields(&[(4, count), (2, dom), (2, status as u64), (4, list.into())])
    };
    let ask = |xen: &mut Compat, count, list| {
        let (result, mut bytes) = xen.grants(9, &status(count, SELF, 0x77, list), 1);
        let told = i16::from_le_bytes([bytes[6], bytes[7]]);
        bytes[6..8].fill(0);
        assert_eq!((result, bytes), (0, status(count, SELF, 0, list)));
        told
    };
    assert_eq!(ask(&mut xen, 1, LIST), -1, "version 1 has none");
    assert_eq!(xen.grants(SET_VERSION, &[2, 0, 0, 0], 1).0, 0);
    let add = fields(&[(2, SELF), (2, 0), (4, 1), (4, 1 << 31), (4, 0x212)]);
    assert_eq!(xen.with(Hypercall::MEMORY_OP, &[7], &add).0, 0);
    xen.words(LIST, [0xee; 4]);
    assert_eq!(ask(&mut xen, 1, LIST), 0);
    assert_eq!((xen.load(LIST, 8), xen.load(LIST + 8, 4)), (0x212, 0xee));
    assert_eq!((ask(&mut xen, 2, LIST), ask(&mut xen, 1, HOLE)), (-1, -5));
    assert_eq!(xen.grants(9, &status(1, 9, 0x77, LIST), 1), (0, status(1, 9, -2, LIST)));
}

#[test]
fn a_page_is_mapped_by_32_bytes_and_unmapped_by_24() {
    let (giver, mut user) = two();
    grant(&giver, 8, 1, FRAME);
    grant(&giver, 9, 1 | 4, FRAME + 1);
    let map = |place: u64, flags, reference, dom, out: (i16, u64, u64)| {
        let known = [(8, place), (4, flags), (4, reference), (2, dom)];
        fields(&[&known[..], &[(2, out.0 as u64), (4, out.1), (8, out.2)]].concat())
    };
    let out = (0x77, 0xee, 0xee);
    let list = [
        map(0x21_1000, 2, 8, 1, out),
        map(0x21_2000, 2 | 4, 9, 1, out),
        map(0x21_3000, 2, 9, 1, out),
        map(0x21_4000, 2, 8, 9, out),
        map(0x21_4000, 0, 8, 1, out),
        map(0x21_4000, 2, 600, 1, out),
        map(0xfee0_0000, 2, 8, 1, out),
    ];
    user.guest.host.take_calls();
    let (result, bytes) = user.grants(0, &list.concat(), list.len() as u32);
    assert_eq!(result, 0);
    let wanted = [
        map(0x21_1000, 2, 8, 1, (0, 0, 0x21_1000)),
        map(0x21_2000, 2 | 4, 9, 1, (0, 1, 0x21_2000)),
        map(0x21_3000, 2, 9, 1, (-1, 0xee, 0xee)),
        map(0x21_4000, 2, 8, 9, (-2, 0xee, 0xee)),
        map(0x21_4000, 0, 8, 1, (-3, 0xee, 0xee)),
        map(0x21_4000, 2, 600, 1, (-3, 0xee, 0xee)),
        map(0xfee0_0000, 2, 8, 1, (-5, 0xee, 0xee)),
    ];
    for (n, wanted) in wanted.iter().enumerate() {
        assert_eq!(bytes[32 * n..][..32], *wanted, "{n}");
    }
    let backing = Backing::Foreign(pvdrivers::DomId(1), arch::GuestPhys(PAGE.into()));
    let mapped =
        |call: &Call| matches!(call, Call::Map(0x21_1000, 4096, what, _) if *what == backing);
    assert!(user.guest.host.take_calls().iter().any(mapped));
    assert_eq!(table(&giver).read_u16(64), Some(1 | 8 | 16), "in use for writing");
    let unmap = |place: u64, handle, status: i16| {
        fields(&[(8, place), (8, 0), (4, handle), (2, status as u64), (2, 0)])
    };
    let list = [
        unmap(0x21_1000, 7, 9),
        unmap(0x21_2000, 0, 9),
        unmap(0, 0, 9),
        unmap(0x21_1000, 0, 9),
        unmap(0x21_1000, 0, 9),
    ];
    let (result, bytes) = user.grants(1, &list.concat(), list.len() as u32);
    let statuses = [-4, -1, 0, 0, -4];
    for (n, status) in statuses.into_iter().enumerate() {
        assert_eq!(bytes[24 * n + 20..][..2], i16::to_le_bytes(status), "{n}");
        assert_eq!(bytes[24 * n..][..20], list[n][..20], "{n}");
    }
    assert_eq!((result, table(&giver).read_u16(64)), (0, Some(1)));
    assert!(user.guest.host.take_calls().contains(&Call::Unmap(0x21_1000, 4096)));
    // Another page in its place is for PV guests; without one it ends the mapping.
    let replace = |place: u64, other: u64, handle, status: i16| {
        fields(&[(8, place), (8, other), (4, handle), (2, status as u64), (2, 0)])
    };
    for (other, status) in [(0x21_5000, -1), (0, 0), (0, -4)] {
        let arg = replace(0x21_2000, other, 1, 9);
        assert_eq!(user.grants(7, &arg, 1), (0, replace(0x21_2000, other, 1, status)));
    }
}

#[test]
fn copies_have_sides_of_eight_bytes() {
    let (giver, mut user) = two();
    grant(&giver, 8, 1, FRAME);
    grant(&giver, 9, 1 | 4, FRAME + 1);
    giver.put(PAGE + 0x10, b"granted");
    user.put(PAGE + 0x2000, b"own");
    let (own, granted) = ([FRAME + 2, SELF, 0], [8, 1, 0x10]);
    let at = |side: [u64; 3], offset| [side[0], side[1], offset];
    let cases = [
        (granted, at(own, 0x40), 7, 1, 0),
        (own, at(granted, 0x80), 3, 2, 0),
        (granted, at(granted, 0x90), 2, 3, 0),
        (own, at(own, 0x100), 3, 0, 0),
        (own, [9, 1, 0], 3, 2, -1),
        (own, [10, 1, 0], 3, 2, -1),
        (own, [600, 1, 0], 3, 2, -3),
        (own, [8, 9, 0], 3, 2, -2),
        (own, [FRAME, 1, 0], 3, 0, -8),
        ([0xffff_ffff, SELF, 0], own, 3, 0, -9),
        (at(own, 4090), at(own, 0), 7, 0, -10),
        (own, own, 0, 0, 0),
    ];
    let list = |done: bool| -> Vec<u8> {
        let each = |case: &([u64; 3], [u64; 3], u64, u64, i16)| {
            copy(case.0, case.1, case.2, case.3, if done { case.4 } else { 0x77 })
        };
        cases.iter().flat_map(each).collect()
    };
    let (result, bytes) = user.grants(COPY, &list(false), cases.len() as u32);
    assert_eq!(result, 0);
    for (n, wanted) in list(true).chunks(24).enumerate() {
        assert_eq!(bytes[24 * n..][..24], *wanted, "{n}");
    }
    assert_eq!(user.get(PAGE + 0x2040, 7), b"granted");
    assert_eq!(
        (giver.get(PAGE + 0x80, 3), giver.get(PAGE + 0x90, 2)),
        (b"own".into(), b"gr".into())
    );
    assert_eq!(user.get(PAGE + 0x2100, 3), b"own");
}

#[test]
fn a_long_list_goes_on_and_ends_where_memory_does() {
    let mut xen = Compat::new();
    let one = |n: u64| copy([FRAME, SELF, 0], [FRAME + 1, SELF, 8 * n], 8, 0, 0x77);
    xen.put(PAGE, b"sentence");
    let list: Vec<u8> = (0..70).flat_map(one).collect();
    let (result, bytes) = xen.grants(COPY, &list, 70);
    assert_eq!((result, xen.exits), (0, 3));
    assert!(bytes.chunks(24).all(|copy| copy[20..22] == [0, 0]));
    assert_eq!(xen.get(PAGE + 0x1000 + 69 * 8, 9), b"sentence\0");
    // The registers say how far it is.
    let gprs = &xen.guest.vcpus[0].gprs;
    assert_eq!((gprs.rcx() as u32, gprs.rdx() as u32), (ARG + 64 * 24, 6));
    // Forty that fit into the RAM, and what does not.
    let start = RAM - 40 * 24;
    let list: Vec<u8> = (100..140).flat_map(one).collect();
    xen.put(start, &list);
    let call = [COPY, start, 1000];
    assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &call), error(Errno::EFAULT));
    assert_eq!(xen.get(PAGE + 0x1000 + 139 * 8, 9), b"sentence\0");
    assert_eq!(xen.load(RAM - 4, 2), 0);
}

#[test]
fn entries_are_swapped_by_12_bytes_and_pages_are_not_transferred() {
    let (giver, mut user) = two();
    let mut giver = giver;
    grant(&giver, 8, 1, FRAME);
    grant(&giver, 9, 1, FRAME + 1);
    let swap = |a, b, status: i16| fields(&[(4, a), (4, b), (2, status as u64), (2, 0)]);
    for (a, b, status) in [(8, 9, 0), (8, 8, 0), (8, 512, -3), (u64::from(u32::MAX), 8, -3)] {
        assert_eq!(giver.grants(11, &swap(a, b, 9), 1), (0, swap(a, b, status)));
    }
    let frames = [8, 9].map(|reference| table(&giver).read_u32(8 * reference + 4));
    assert_eq!(frames, [Some(0x301), Some(0x300)]);
    let map = fields(&[(8, 0x21_1000), (4, 2), (4, 8), (2, 1), (2, 9), (4, 9), (8, 9)]);
    assert_eq!(user.grants(0, &map, 1).1[18..20], [0, 0]);
    assert_eq!(giver.grants(11, &swap(8, 9, 9), 1), (0, swap(8, 9, -12)));
    let transfer =
        |status: i16| fields(&[(4, FRAME), (2, 2), (2, 0), (4, 8), (2, status as u64), (2, 0)]);
    assert_eq!(giver.grants(4, &transfer(9), 1), (0, transfer(-1)));
    assert_eq!(giver.load(PAGE, 4), 0, "the page is still its own");
}

#[test]
fn version_2_is_the_same_for_a_32_bit_kernel() {
    let (giver, mut user) = two();
    let mut giver = giver;
    assert_eq!(giver.grants(SET_VERSION, &[2, 0, 0, 0], 1).0, 0);
    let entry = |reference: usize, low: u64, high: u64| {
        table(&giver).write(16 * reference, 8, low).unwrap();
        table(&giver).write(16 * reference + 8, 8, high).unwrap();
    };
    // A whole page, and a part of one: offset 16, 8 bytes.
    entry(8, 1 | 2 << 16, FRAME);
    entry(9, 1 | 1 << 8 | 2 << 16 | 16 << 32 | 8 << 48, FRAME);
    giver.put(PAGE + 16, b"part");
    for (reference, offset, status) in [(8, 16, 0), (9, 16, 0), (9, 15, -1), (9, 22, -1)] {
        let arg = |status| copy([reference, 1, offset], [FRAME + 2, SELF, 0], 4, 1, status);
        user.put(PAGE + 0x2000, b"none");
        assert_eq!(user.grants(COPY, &arg(9), 1), (0, arg(status)), "{reference} {offset}");
        let wanted = if status == 0 { b"part" } else { b"none" };
        assert_eq!(user.get(PAGE + 0x2000, 4), wanted);
    }
    // A part is not mapped; a page is, and its status word says so.
    let map = |reference| {
        fields(&[(8, 0x21_1000), (4, 2), (4, reference), (2, 1), (2, 9), (4, 9), (8, 9)])
    };
    assert_eq!(user.grants(0, &map(9), 1).1[18..20], (-1i16).to_le_bytes());
    assert_eq!(user.grants(0, &map(8), 1).1[18..20], [0, 0]);
    let xen = giver.guest.machine.xen().unwrap();
    let words = xen.hub.grants.lock().status_frame(pvdrivers::DomId(1), 0).unwrap();
    assert_eq!(words.read_u16(2 * 8), Some(8 | 16));
    // What is in use keeps the version.
    assert_eq!(
        giver.grants(SET_VERSION, &[1, 0, 0, 0], 1),
        (error(Errno::EBUSY), vec![2, 0, 0, 0])
    );
}
