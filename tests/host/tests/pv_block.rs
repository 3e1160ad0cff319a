//! A block front end against the block back end, over shared pages and XenStore's nodes.

use host_tests::Rng;
use host_tests::peers::{BlkPair, FakeDisk, GUEST, Pace, Shape};
use pvdrivers::blkback::abi::{Body, Layout, Request, Segment, op};
use pvdrivers::blkback::{BlkConfig, DiskError, DiskOp, Media, xvd};
use pvdrivers::front::blk::write_segments;
use pvdrivers::{DomId, Errno, GrantRef};

const OKAY: i16 = 0;
const ERROR: i16 = -1;
const UNSUPPORTED: i16 = -2;

fn pair(shape: Shape, pace: Pace) -> BlkPair {
    let config = BlkConfig { discard_granularity: Some(512), ..BlkConfig::disk(xvd(0)) };
    BlkPair::new(config, FakeDisk::new(4096, pace), shape)
}

fn whole(reference: GrantRef) -> Segment {
    Segment { reference, first: 0, last: 7 }
}

/// The one answer that is there: its status.
fn status(pair: &mut BlkPair) -> i16 {
    assert_eq!(pair.answers.len(), 1, "one answer: {:?}", pair.answers);
    pair.answers.pop().unwrap().1.status
}

fn shapes() -> impl Iterator<Item = Shape> {
    let layouts = [Layout::X86_64, Layout::X86_32];
    layouts.into_iter().flat_map(|layout| {
        [(1, 1, false), (1, 1, true), (4, 1, false), (1, 16, true), (2, 4, true)]
            .map(|(queues, pages, persistent)| Shape { layout, queues, pages, persistent })
    })
}

#[test]
fn what_is_written_is_read_back_at_depth_1_in_every_shape() {
    for shape in shapes() {
        let mut pair = pair(shape, Pace::Later(64));
        let (page, reference) = pair.buffer();
        for n in 0..40u64 {
            let queue = n as usize % shape.queues;
            page.write_slice(1024, &[n as u8 ^ 0x5a; 1024]).unwrap();
            let part = Segment { reference, first: 2, last: 3 };
            pair.fronts[queue].write(n, n * 2, &[part]).unwrap();
            pair.settle();
            assert_eq!(status(&mut pair), OKAY);
            page.write_slice(0, &[0; 4096]).unwrap();
            pair.fronts[queue].read(n, n * 2, &[part]).unwrap();
            pair.settle();
            assert_eq!(status(&mut pair), OKAY);
            let mut bytes = [0; 1024];
            page.read(1024, &mut bytes).unwrap();
            assert_eq!(bytes, [n as u8 ^ 0x5a; 1024], "{shape:?}");
            assert_eq!(page.read_u8(1023), Some(0), "bytes beside the segment are not touched");
            assert_eq!(page.read_u8(2048), Some(0));
        }
        let kept = usize::from(shape.persistent);
        assert_eq!(pair.back.pins(), shape.queues * shape.pages + kept);
        let counters = pair.back.counters();
        assert_eq!((counters.reads, counters.writes, counters.errors), (40, 40, 0));
        assert_eq!(counters.persistent_hits, if shape.persistent { 79 } else { 0 });
        pair.back.disconnect(&mut pair.grants);
        assert_eq!((pair.back.pins(), pair.grants.pinned()), (0, 0));
    }
}

#[test]
fn full_rings_are_answered_whole_in_whatever_order_the_disk_finishes() {
    for shape in shapes() {
        for room in [1, 3, 1000] {
            let mut rng = Rng::new(room);
            let mut pair = pair(shape, Pace::Later(room as usize));
            let (_, reference) = pair.buffer();
            let entries = pair.fronts[0].entries();
            for round in 0..2 {
                for front in &mut pair.fronts {
                    for n in 0..entries {
                        front.read(n.into(), n.into(), &[whole(reference)]).unwrap();
                    }
                    assert!(front.read(0, 0, &[]).is_err(), "the ring is full");
                }
                pair.run();
                while pair.finish(rng.below(64) as usize) {}
                let all = shape.queues as u32 * entries;
                assert_eq!(pair.answers.len(), all as usize, "{shape:?} {room} {round}");
                assert!(pair.answers.iter().all(|answer| answer.1.status == OKAY));
                let mut ids: Vec<_> = pair.answers.drain(..).map(|(q, a)| (q, a.id)).collect();
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), all as usize, "each id once");
            }
            assert_eq!(pair.back.in_flight(), 0);
        }
    }
}

#[test]
fn answers_at_depth_32_bring_few_notices() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    let (_, reference) = pair.buffer();
    for n in 0..32 {
        pair.fronts[0].read(n, n, &[whole(reference)]).unwrap();
    }
    pair.run();
    assert_eq!(pair.answers.len(), 32);
    assert!(pair.notices <= 5, "{} notices for 32 answers in turns of 7", pair.notices);
}

#[test]
fn an_indirect_request_moves_a_mebibyte_and_needs_its_list_once() {
    for persistent in [false, true] {
        for layout in [Layout::X86_64, Layout::X86_32] {
            let mut pair = pair(Shape { layout, persistent, ..Shape::PLAIN }, Pace::Later(4));
            let (list, list_reference) = pair.buffer();
            let buffers: Vec<_> = (0..256).map(|_| pair.buffer()).collect();
            let segments: Vec<_> = buffers.iter().map(|buffer| whole(buffer.1)).collect();
            assert_eq!(write_segments(&[list], &segments), Some(1));
            let lists = [list_reference];
            pair.fronts[0].indirect(op::READ, 5, 1024, 256, &lists).unwrap();
            pair.run();
            assert_eq!(pair.back.in_flight(), 1);
            assert_eq!(pair.grants.end(GUEST, list_reference), !persistent, "copied already");
            assert!(!pair.grants.end(GUEST, buffers[0].1), "in use");
            pair.settle();
            let answer = pair.answers.pop().unwrap().1;
            assert_eq!((answer.id, answer.operation, answer.status), (5, op::READ, OKAY));
            for (n, buffer) in buffers.iter().enumerate() {
                assert_eq!(buffer.0.read_u8(0), Some((1024 + n * 8) as u8));
                assert_eq!(buffer.0.read_u8(4095), Some((1024 + n * 8 + 7) as u8));
            }
        }
    }
}

#[test]
fn a_barrier_waits_for_all_before_it_and_all_behind_it_wait() {
    let mut pair = pair(Shape { queues: 2, ..Shape::PLAIN }, Pace::Later(64));
    let (_, reference) = pair.buffer();
    let data = [whole(reference)];
    pair.fronts[0].write(1, 0, &data).unwrap();
    pair.run();
    pair.fronts[1].write(2, 8, &data).unwrap();
    pair.run();
    pair.fronts[0].barrier(3, 16, &data).unwrap();
    pair.fronts[0].write(4, 24, &data).unwrap();
    pair.run();
    pair.fronts[1].write(5, 32, &data).unwrap();
    pair.run();
    assert_eq!(pair.disk.waiting(), 2, "the barrier is not begun");
    assert!(pair.finish(1));
    assert_eq!(pair.disk.waiting(), 1);
    pair.settle();
    let order: Vec<_> = pair.disk.log.iter().map(|done| (done.0, done.1)).collect();
    let write = |sector| (DiskOp::Write, sector);
    let flush = (DiskOp::Flush, 0);
    assert_eq!(order[..5], [write(8), write(0), flush, write(16), flush]);
    let mut rest = order[5..].to_vec();
    rest.sort_unstable_by_key(|done| done.1);
    assert_eq!(rest, [write(24), write(32)]);
    assert_eq!(pair.answers.len(), 5);
}

/// A flush that comes with data.
fn flushed_write(pair: &mut BlkPair) {
    let (_, reference) = pair.buffer();
    let mut segments = [Segment::default(); 11];
    segments[0] = whole(reference);
    let body = Body::Plain { count: 1, segments };
    let request = Request { operation: op::FLUSH_DISKCACHE, id: 1, sector: 0, body };
    pair.fronts[0].put(&request).unwrap();
}

#[test]
fn a_flush_with_data_goes_through_its_steps_and_is_answered_once() {
    for pace in [Pace::AtOnce, Pace::Later(1)] {
        let mut pair = pair(Shape::PLAIN, pace);
        flushed_write(&mut pair);
        pair.settle();
        let order: Vec<_> = pair.disk.log.iter().map(|done| done.0).collect();
        assert_eq!(order, [DiskOp::Flush, DiskOp::Write, DiskOp::Flush]);
        assert_eq!(status(&mut pair), OKAY);
        // A step that fails is the last.
        pair.disk.fail = Some(DiskError::Failed);
        flushed_write(&mut pair);
        pair.settle();
        assert_eq!((status(&mut pair), pair.disk.log.len()), (ERROR, 3));
    }
}

#[test]
fn a_flush_with_data_and_a_barrier_side_by_side_both_end() {
    // The barrier waits for the flush's later steps, which must not wait for the barrier.
    let mut pair = pair(Shape::PLAIN, Pace::Later(64));
    flushed_write(&mut pair);
    pair.fronts[0].barrier(2, 8, &[]).unwrap();
    pair.settle();
    let order: Vec<_> = pair.disk.log.iter().map(|done| done.0).collect();
    assert_eq!(order, [DiskOp::Flush, DiskOp::Write, DiskOp::Flush, DiskOp::Flush]);
    assert_eq!(pair.answers.len(), 2);
    assert!(pair.answers.iter().all(|answer| answer.1.status == OKAY));
}

#[test]
fn flush_discard_and_an_empty_barrier_need_no_pages() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    pair.fronts[0].flush(1).unwrap();
    pair.fronts[0].barrier(2, 0, &[]).unwrap();
    pair.fronts[0].discard(3, 8, 16).unwrap();
    pair.fronts[0].discard(4, 8, 0).unwrap();
    pair.run();
    assert!(pair.answers.iter().all(|answer| answer.1.status == OKAY));
    assert_eq!(pair.answers.len(), 4);
    let flush = (DiskOp::Flush, 0, 0);
    assert_eq!(pair.disk.log, [flush, flush, (DiskOp::Discard, 8, 16)]);
    assert!(pair.disk.data[8 * 512..24 * 512].iter().all(|byte| *byte == 0));
    assert_eq!((pair.back.counters().flushes, pair.back.counters().discards), (2, 1));
}

#[test]
fn what_a_disk_does_not_do_is_unsupported_and_never_an_error() {
    let config = BlkConfig::disk(xvd(0));
    let mut pair = BlkPair::new(config, FakeDisk::new(64, Pace::AtOnce), Shape::PLAIN);
    pair.fronts[0].discard(1, 0, 8).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), UNSUPPORTED);
    // 4 is reserved, 7 was write-same in proposals, 255 is nothing.
    for operation in [4, 7, 8, 255] {
        let request = Request { operation, id: 77, sector: 0, body: Body::Other };
        pair.fronts[0].put(&request).unwrap();
        pair.run();
        let answer = pair.answers.pop().unwrap().1;
        assert_eq!((answer.id, answer.operation), (77, operation));
        assert_eq!(answer.status, UNSUPPORTED);
    }
    pair.disk.fail = Some(DiskError::Unsupported);
    pair.fronts[0].flush(1).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), UNSUPPORTED);
    pair.disk.fail = Some(DiskError::Failed);
    pair.fronts[0].flush(1).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), ERROR);
}

#[test]
fn a_request_that_cannot_be_is_an_error_and_touches_nothing() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    let (page, good) = pair.buffer();
    let read_only = pair.grants.grant(GUEST, page, true);
    let half = pair.grants.grant_part(GUEST, page, false, (0, 2048));
    let foreign = pair.grants.grant(DomId(8), page, false);
    let segment = |reference, first, last| Segment { reference, first, last };
    let cases: &[(u64, &[Segment])] = &[
        (0, &[]),
        (0, &[segment(good, 4, 3)]),
        (0, &[segment(good, 0, 8)]),
        (0, &[segment(good, 255, 255)]),
        (4089, &[whole(good)]),
        (4096, &[segment(good, 0, 0)]),
        (u64::MAX, &[segment(good, 0, 0)]),
        (u64::MAX - 7, &[whole(good)]),
        (0, &[whole(GrantRef(u32::MAX))]),
        (0, &[whole(good), whole(GrantRef(0))]),
        (0, &[whole(read_only)]),
        (0, &[whole(half)]),
        (0, &[whole(foreign)]),
    ];
    for (sector, segments) in cases {
        pair.fronts[0].read(1, *sector, segments).unwrap();
        pair.run();
        assert_eq!(status(&mut pair), ERROR, "{sector} {segments:?}");
        assert_eq!(pair.grants.pinned(), 1, "only the ring is in use");
    }
    // Reading from memory needs less; a part of a page is enough where the rest is not used.
    pair.fronts[0].write(1, 0, &[whole(read_only)]).unwrap();
    pair.fronts[0].read(2, 0, &[segment(half, 0, 3)]).unwrap();
    pair.run();
    assert!(pair.answers.drain(..).all(|answer| answer.1.status == OKAY));
    let segments = [whole(good); 11];
    for count in [12, 255] {
        let body = Body::Plain { count, segments };
        let request = Request { operation: op::READ, id: 1, sector: 0, body };
        pair.fronts[0].put(&request).unwrap();
        pair.run();
        assert_eq!(status(&mut pair), ERROR);
    }
    assert_eq!(pair.back.counters().errors, cases.len() as u64 + 2);
}

#[test]
fn an_indirect_request_that_cannot_be_is_an_error_and_gives_all_pages_back() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    let (list, list_reference) = pair.buffer();
    let (_, good) = pair.buffer();
    let short = pair.grants.grant_part(GUEST, list, true, (0, 8));
    // More good segments than a request may have, and behind them none.
    let sector = Segment { reference: good, first: 1, last: 1 };
    let _ = write_segments(&[list], &[sector; 300]);
    let cases = [
        (op::READ, 0, list_reference),
        (op::READ, 257, list_reference),
        (op::READ, 0xffff, list_reference),
        (op::DISCARD, 1, list_reference),
        (op::WRITE_BARRIER, 1, list_reference),
        (op::INDIRECT, 1, list_reference),
        (op::READ, 301, list_reference),
        (op::READ, 2, short),
        (op::READ, 1, GrantRef(4)),
    ];
    for (operation, count, list) in cases {
        pair.fronts[0].indirect(operation, 1, 0, count, &[list]).unwrap();
        pair.run();
        assert_eq!(status(&mut pair), ERROR, "{operation} {count}");
        assert_eq!(pair.grants.pinned(), 1);
    }
    pair.fronts[0].indirect(op::WRITE, 1, 0, 1, &[short]).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), OKAY);
}

#[test]
fn large_sectors_a_read_only_medium_and_an_empty_drive_are_kept_to() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    let (_, reference) = pair.buffer();
    let part = Segment { reference, first: 0, last: 3 };
    let run = |pair: &mut BlkPair, sector, segment: Segment, write: bool| {
        let front = &mut pair.fronts[0];
        let put = if write {
            front.write(1, sector, &[segment])
        } else {
            front.read(1, sector, &[segment])
        };
        put.unwrap();
        pair.run();
        status(pair)
    };
    let large = Media { sector_size: 4096, physical_sector_size: 4096, ..Media::disk(4095) };
    pair.back.set_media(Some(large));
    assert_eq!(run(&mut pair, 8, whole(reference), false), OKAY);
    assert_eq!(run(&mut pair, 8, part, false), ERROR);
    assert_eq!(run(&mut pair, 4, whole(reference), false), ERROR);
    assert_eq!(run(&mut pair, 4088, whole(reference), false), ERROR, "no whole sector there");
    pair.fronts[0].read(1, 8, &[part, part]).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), ERROR, "half sectors that add up to a whole one");
    pair.back.set_media(Some(Media { read_only: true, ..Media::disk(4096) }));
    assert_eq!(run(&mut pair, 8, part, false), OKAY);
    assert_eq!(run(&mut pair, 8, part, true), ERROR);
    pair.fronts[0].discard(1, 0, 8).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), ERROR);
    pair.back.set_media(None);
    assert_eq!(run(&mut pair, 0, part, false), ERROR);
    pair.fronts[0].flush(1).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), ERROR);
    // A disk that grew is used to its new end.
    pair.back.set_media(Some(Media::disk(4000)));
    assert_eq!(run(&mut pair, 4000, part, false), ERROR);
    pair.back.set_media(Some(Media::disk(4096)));
    assert_eq!(run(&mut pair, 4000, part, false), OKAY);
}

#[test]
fn kept_grants_are_bounded_and_the_one_unused_longest_goes() {
    let config = BlkConfig { persistent: 4, ..BlkConfig::disk(xvd(0)) };
    let shape = Shape { persistent: true, ..Shape::PLAIN };
    let mut pair = BlkPair::new(config, FakeDisk::new(64, Pace::AtOnce), shape);
    let buffers: Vec<_> = (0..6).map(|_| pair.buffer().1).collect();
    let read = |pair: &mut BlkPair, n: usize| {
        pair.fronts[0].read(1, 0, &[whole(buffers[n])]).unwrap();
        pair.run();
        assert_eq!(status(pair), OKAY);
    };
    for n in [0, 1, 2, 3, 0, 4] {
        read(&mut pair, n);
    }
    assert_eq!(pair.grants.pinned(), 1 + 4);
    assert!(!pair.grants.end(GUEST, buffers[0]), "used lately, kept");
    assert!(pair.grants.end(GUEST, buffers[1]), "gave way to the fifth");
    let taken = pair.grants.taken;
    for n in [0, 2, 3, 4] {
        read(&mut pair, n);
    }
    assert_eq!(pair.grants.taken, taken, "no page was pinned again");
    // More at once than may be kept: the others are pinned for the request.
    pair.disk.pace = Pace::Later(8);
    let all: Vec<_> = [0, 2, 3, 4, 5].map(|n| whole(buffers[n])).into();
    pair.fronts[0].read(1, 0, &all).unwrap();
    pair.run();
    assert_eq!(pair.grants.pinned(), 1 + 5);
    pair.settle();
    assert_eq!(status(&mut pair), OKAY);
    assert_eq!(pair.grants.pinned(), 1 + 4);
}

#[test]
fn a_second_front_end_is_refused_while_one_is_connected_and_leaves_nothing_behind() {
    let mut pair = pair(Shape::PLAIN, Pace::AtOnce);
    let pinned = pair.grants.pinned();
    assert_eq!(pair.connect(Shape { queues: 2, pages: 4, ..Shape::PLAIN }), Err(Errno::EBUSY));
    assert_eq!(pair.grants.pinned(), pinned);
    let (_, reference) = pair.buffer();
    pair.fronts[0].read(1, 0, &[whole(reference)]).unwrap();
    pair.run();
    assert_eq!(status(&mut pair), OKAY, "the first one is still served");
    pair.back.disconnect(&mut pair.grants);
    // A front end whose later pages cannot be used takes none.
    for usable in 0..4 {
        let shape = Shape { queues: 2, pages: 2, ..Shape::PLAIN };
        pair.grants.allow = Some(usable);
        assert_eq!(pair.connect(shape), Err(Errno::ENOMEM), "{usable}");
        assert_eq!((pair.grants.pinned(), pair.back.pins()), (0, 0));
    }
    pair.grants.allow = None;
    assert_eq!(pair.connect(Shape { queues: 4, pages: 16, ..Shape::PLAIN }), Ok(()));
    assert_eq!(pair.back.ports().count(), 4);
}
