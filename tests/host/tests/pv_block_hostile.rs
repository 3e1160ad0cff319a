//! Block front ends that cheat, and that die at any moment. Nothing may be lost on the host's side.

use host_tests::Rng;
use host_tests::peers::{BlkPair, FakeDisk, GUEST, Pace, Shape, page};
use pvdrivers::blkback::abi::{Layout, Segment, op};
use pvdrivers::blkback::{BlkConfig, FrontEnd, FrontQueue, Token, xvd};
use pvdrivers::front::blk::write_segments;
use pvdrivers::ring::{RingError, RingMemory};
use pvdrivers::{Errno, GrantRef, Port};

const SECTORS: u64 = 1024;

fn pair(shape: Shape) -> BlkPair {
    let config = BlkConfig { discard_granularity: Some(512), ..BlkConfig::disk(xvd(0)) };
    BlkPair::new(config, FakeDisk::new(SECTORS, Pace::Later(6)), shape)
}

fn whole(reference: GrantRef) -> Segment {
    Segment { reference, first: 0, last: 7 }
}

/// A front end that does one thing at a time, and can be stopped after each.
fn step(pair: &mut BlkPair, n: u32, buffers: &[GrantRef]) {
    let buffer = buffers[n as usize % buffers.len()];
    let queue = n as usize % pair.fronts.len();
    let front = &mut pair.fronts[queue];
    let sector = u64::from(n) * 8;
    let _ = match n % 7 {
        0 => front.read(n.into(), sector, &[whole(buffer); 3]),
        1 => front.write(n.into(), sector, &[whole(buffer)]),
        2 => front.barrier(n.into(), sector, &[whole(buffer)]),
        3 => front.discard(n.into(), sector, 8),
        4 => front.flush(n.into()),
        5 => front.indirect(op::READ, n.into(), sector, 20, &[buffers[0]]),
        _ => front.read(n.into(), u64::MAX, &[whole(buffer)]),
    };
    let _ = front.push();
    // One request a turn, so that the end may come between any two.
    let served = pair.back.serve(1, &mut pair.grants, &mut pair.disk).unwrap();
    pair.notified(served);
    if n % 3 == 2 {
        pair.finish(n as usize % 5);
    }
}

#[test]
fn a_front_end_that_dies_at_any_moment_leaves_nothing_pinned_once_the_disk_has_finished() {
    for persistent in [false, true] {
        for moment in 0..60 {
            let mut pair = pair(Shape { persistent, queues: 2, ..Shape::PLAIN });
            let buffers: Vec<_> = (0..4).map(|_| pair.buffer()).collect();
            let references: Vec<_> = buffers.iter().map(|buffer| buffer.1).collect();
            let _ = write_segments(&[buffers[0].0], &[whole(references[1]); 20]);
            for n in 0..moment {
                step(&mut pair, n, &references);
            }
            pair.back.disconnect(&mut pair.grants);
            assert_eq!(pair.back.in_flight(), pair.disk.waiting(), "only what the disk has");
            assert_eq!(pair.back.pins(), pair.grants.pinned());
            // Its successor is served while the disk still works for the dead one, and gets its own
            // answers only.
            pair.connect(Shape::PLAIN).unwrap();
            pair.answers.clear();
            pair.disk.pace = Pace::Later(100);
            pair.fronts[0].read(777, 0, &[whole(references[2])]).unwrap();
            pair.settle();
            let ids: Vec<_> = pair.answers.iter().map(|answer| answer.1.id).collect();
            assert_eq!(ids, [777], "moment {moment}");
            pair.back.disconnect(&mut pair.grants);
            assert_eq!((pair.back.pins(), pair.grants.pinned()), (0, 0), "moment {moment}");
            assert_eq!(pair.back.in_flight(), 0);
        }
    }
}

#[test]
fn indices_that_run_away_end_the_device_and_cost_no_page() {
    for (persistent, index) in
        [33, 0x8000_0000, u32::MAX, 0].into_iter().flat_map(|n| [(false, n), (true, n)])
    {
        let mut pair = pair(Shape { persistent, queues: 2, ..Shape::PLAIN });
        let (_, buffer) = pair.buffer();
        for n in 0..3 {
            pair.fronts[1].read(n, 0, &[whole(buffer)]).unwrap();
        }
        pair.run();
        assert_eq!(pair.disk.waiting(), 3);
        // Requests 0 to 2 were taken: 0 is behind them.
        pair.rings[1].write_index(0, if index == 0 { 0 } else { index.wrapping_add(3) });
        let served = pair.back.serve(100, &mut pair.grants, &mut pair.disk);
        assert_eq!(served, Err(RingError::Runaway), "{index:#x}");
        let again = pair.back.serve(100, &mut pair.grants, &mut pair.disk);
        assert_eq!(again, Err(RingError::Runaway), "it stays so");
        let (token, result) = pair.disk.finish(0).unwrap();
        let served = pair.back.complete(token, result, &mut pair.grants);
        assert_eq!(served.notify, 0);
        pair.back.disconnect(&mut pair.grants);
        while let Some((token, result)) = pair.disk.finish(0) {
            let _ = pair.back.complete(token, result, &mut pair.grants);
        }
        assert_eq!((pair.back.pins(), pair.grants.pinned()), (0, 0));
        assert_eq!(pair.connect(Shape::PLAIN), Ok(()), "the next one may be better");
    }
}

#[test]
fn what_changes_in_ring_and_list_after_the_request_was_taken_changes_nothing() {
    for layout in [Layout::X86_64, Layout::X86_32] {
        let mut pair = pair(Shape { layout, ..Shape::PLAIN });
        let (list, list_reference) = pair.buffer();
        let (good, good_reference) = pair.buffer();
        let (other, other_reference) = pair.buffer();
        let _ = write_segments(&[list], &[whole(good_reference)]);
        pair.fronts[0].indirect(op::READ, 1, 8, 1, &[list_reference]).unwrap();
        pair.fronts[0].read(2, 8, &[whole(good_reference)]).unwrap();
        pair.run();
        let _ = write_segments(&[list], &[whole(other_reference)]);
        pair.rings[0].write(64, &[0xff; 32 * 108]);
        pair.settle();
        let mut ids: Vec<_> = pair.answers.iter().map(|answer| answer.1.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        assert!(pair.answers.iter().all(|answer| answer.1.status == 0));
        assert_eq!((good.read_u8(0), other.read_u8(0)), (Some(8), Some(0)));
    }
}

#[test]
fn a_page_is_in_use_until_its_answer_and_no_longer() {
    let mut pair = pair(Shape::PLAIN);
    let (_, reference) = pair.buffer();
    pair.fronts[0].read(1, 8, &[whole(reference)]).unwrap();
    pair.run();
    assert!(!pair.grants.end(GUEST, reference));
    pair.settle();
    assert_eq!(pair.answers.len(), 1);
    assert!(pair.grants.end(GUEST, reference));
    // Ended before the request is taken: an error, and the next request is served.
    pair.fronts[0].read(2, 8, &[whole(reference)]).unwrap();
    pair.fronts[0].flush(3).unwrap();
    pair.settle();
    let answers: Vec<_> = pair.answers.iter().map(|(_, a)| (a.id, a.status)).collect();
    assert_eq!(answers, [(1, 0), (2, -1), (3, 0)]);
}

#[test]
fn answers_of_the_disk_that_nobody_asked_for_are_ignored() {
    let mut pair = pair(Shape::PLAIN);
    let (_, reference) = pair.buffer();
    pair.fronts[0].read(1, 8, &[whole(reference)]).unwrap();
    pair.run();
    let (token, result) = pair.disk.finish(0).unwrap();
    for wrong in [Token(token.0 ^ 1), Token(token.0 + 1024), Token(u32::MAX)] {
        let served = pair.back.complete(wrong, Ok(()), &mut pair.grants);
        assert_eq!(served, Default::default());
    }
    let served = pair.back.complete(token, result, &mut pair.grants);
    pair.notified(served);
    assert_eq!(pair.answers.len(), 1);
    assert_eq!(pair.back.complete(token, Ok(()), &mut pair.grants), Default::default());
    assert_eq!(pair.back.counters().reads, 1);
}

#[test]
fn a_request_that_the_disk_had_no_room_for_is_not_finished_by_its_name() {
    let mut pair = pair(Shape::PLAIN);
    pair.disk.pace = Pace::Later(0);
    let (buffer, reference) = pair.buffer();
    pair.fronts[0].read(1, 9, &[whole(reference)]).unwrap();
    assert!(pair.fronts[0].push());
    let served = pair.back.serve(8, &mut pair.grants, &mut pair.disk).unwrap();
    assert!(served.busy && !served.more);
    let token = pair.disk.refused.unwrap();
    assert_eq!(pair.back.complete(token, Ok(()), &mut pair.grants), Default::default());
    assert_eq!(pair.back.in_flight(), 1);
    pair.disk.pace = Pace::Later(1);
    pair.serve();
    pair.settle();
    assert_eq!((pair.answers.len(), buffer.read_u8(0)), (1, Some(9)));
}

#[test]
fn a_successor_never_works_with_the_pins_of_the_dead() {
    let persistent = Shape { persistent: true, ..Shape::PLAIN };
    let mut pair = pair(persistent);
    let (_, reference) = pair.buffer();
    pair.fronts[0].read(1, 9, &[whole(reference)]).unwrap();
    pair.run();
    pair.back.disconnect(&mut pair.grants);
    assert_eq!(pair.grants.pinned(), 1, "the disk writes there");
    pair.connect(persistent).unwrap();
    let taken = pair.grants.taken;
    pair.fronts[0].read(2, 9, &[whole(reference)]).unwrap();
    pair.run();
    assert_eq!(pair.grants.taken, taken + 1, "the page is pinned anew");
    pair.settle();
    assert_eq!((pair.answers.len(), pair.grants.pinned()), (1, 2), "ring and kept page");
}

#[test]
fn a_ring_in_a_part_of_a_page_is_refused() {
    let mut pair = pair(Shape::PLAIN);
    pair.back.disconnect(&mut pair.grants);
    let part = pair.grants.grant_part(GUEST, page(), false, (0, 2048));
    let references = vec![part];
    let queues = vec![FrontQueue { references, port: Port(1) }];
    let front = FrontEnd { layout: Layout::X86_64, persistent: false, queues };
    assert_eq!(pair.back.connect(&mut pair.grants, &front), Err(Errno::EINVAL));
    assert_eq!(pair.grants.pinned(), 0);
    let none = FrontEnd { queues: Vec::new(), ..front };
    assert_eq!(pair.back.connect(&mut pair.grants, &none), Err(Errno::EINVAL));
}

#[test]
fn a_flood_of_long_requests_is_taken_only_so_far_and_answered_whole() {
    let shape = Shape { queues: 2, pages: 2, ..Shape::PLAIN };
    let mut pair = pair(shape);
    pair.disk.pace = Pace::Later(5000);
    let (list, list_reference) = pair.buffer();
    let (_, reference) = pair.buffer();
    let sector = Segment { reference, first: 0, last: 0 };
    let _ = write_segments(&[list], &[sector; 256]);
    for front in &mut pair.fronts {
        for n in 0..64 {
            front.indirect(op::READ, n, 0, 256, &[list_reference]).unwrap();
        }
    }
    pair.run();
    let pins = pair.back.pins();
    assert!((16_384..16_384 + 256 + 4).contains(&pins), "{pins} pages are in use");
    while pair.finish(0) {}
    assert_eq!(pair.answers.len(), 2 * 64);
    assert_eq!(pair.back.in_flight(), 0);
}

/// One request of the random walk that is under way.
struct Sent {
    write: Option<u8>,
    region: u64,
    buffer: usize,
}

#[test]
fn in_seeded_walks_every_answer_is_right_and_the_disk_holds_what_was_written() {
    for seed in 0..60u64 {
        let mut rng = Rng::new(seed);
        let shape = Shape {
            layout: rng.pick(&[Layout::X86_64, Layout::X86_32]),
            queues: 1 + rng.below(3) as usize,
            pages: rng.pick(&[1, 2]),
            persistent: rng.below(2) == 0,
        };
        let mut pair = pair(shape);
        pair.disk.pace = Pace::Later(1 + rng.below(20) as usize);
        let buffers: Vec<_> = (0..16).map(|_| pair.buffer()).collect();
        let mut sent: Vec<Option<Sent>> = (0..16).map(|_| None).collect();
        let mut disk: Vec<u8> = (0..SECTORS).map(|n| n as u8).collect();
        for _ in 0..600 {
            let slot = rng.below(16) as usize;
            if sent[slot].is_none() && rng.below(3) > 0 {
                let region = rng.below(SECTORS / 8 / 16) * 16 + slot as u64;
                let write = (rng.below(2) == 0).then(|| rng.next_u64() as u8);
                buffers[slot].0.write_slice(0, &[write.unwrap_or(0); 4096]).unwrap();
                let front = &mut pair.fronts[rng.below(shape.queues as u64) as usize];
                let data = [whole(buffers[slot].1)];
                let put = match (write, rng.below(5)) {
                    (None, _) => front.read(slot as u64, region * 8, &data),
                    (Some(_), 0) => front.barrier(slot as u64, region * 8, &data),
                    (Some(_), _) => front.write(slot as u64, region * 8, &data),
                };
                if put.is_ok() {
                    sent[slot] = Some(Sent { write, region, buffer: slot });
                }
            }
            match rng.below(4) {
                0 => pair.run(),
                1 => {
                    pair.run();
                    pair.finish(rng.below(8) as usize);
                }
                _ => {}
            }
            for (_, answer) in core::mem::take(&mut pair.answers) {
                let sent = sent[answer.id as usize].take().expect("an answer to a request");
                assert_eq!(answer.status, 0, "seed {seed}");
                let at = sent.region as usize * 8;
                match sent.write {
                    Some(byte) => disk[at..at + 8].fill(byte),
                    None => {
                        for (n, byte) in disk[at..at + 8].iter().enumerate() {
                            let read = buffers[sent.buffer].0.read_u8(n * 512);
                            assert_eq!(read, Some(*byte), "seed {seed}");
                        }
                    }
                }
            }
        }
        pair.settle();
        for (_, answer) in &pair.answers {
            let sent = sent[answer.id as usize].take().expect("an answer to a request");
            if let Some(byte) = sent.write {
                disk[sent.region as usize * 8..][..8].fill(byte);
            }
        }
        assert!(sent.iter().all(Option::is_none), "seed {seed}: all are answered");
        for (n, byte) in disk.iter().enumerate() {
            assert!(pair.disk.data[n * 512..][..512].iter().all(|there| there == byte));
        }
        pair.back.disconnect(&mut pair.grants);
        assert_eq!((pair.back.pins(), pair.grants.pinned()), (0, 0));
        assert_eq!(pair.connect(shape).map_err(|error| error as i32), Ok(()));
        assert_eq!(pair.connect(shape), Err(Errno::EBUSY));
    }
}
