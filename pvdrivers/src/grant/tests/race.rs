//! A guest grants and takes back in one thread while its pages are mapped in another: what is
//! mapped is never taken back.

use super::*;
use crate::grant::Version;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use std::sync::Arc;
use std::thread;

/// Mappings of one race.
const TIMES: u32 = 3_000;

/// Grants entry 1 to B and takes it back, as Linux does for each version.
fn owner(table: SharedPage, status: Option<SharedPage>, mapped: &AtomicBool, done: &AtomicBool) {
    let size = if status.is_some() { 16 } else { 8 };
    let frame = if status.is_some() { (size + 8, 8) } else { (size + 4, 4) };
    let mut round = 0u32;
    while !done.load(SeqCst) {
        round += 1;
        table.write(frame.0, frame.1, 5).unwrap();
        fence(SeqCst);
        table.write(size, 4, u64::from(RW) | u64::from(B.0) << 16).unwrap();
        pause(round);
        loop {
            let ended = match &status {
                None => {
                    let flags = table.read_u16(size).unwrap();
                    flags & 0x18 == 0 && table.compare_exchange(size, 2, flags.into(), 0).unwrap()
                }
                Some(status) => {
                    table.write(size, 2, 0).unwrap();
                    fence(SeqCst);
                    status.read_u16(2).unwrap() & 0x18 == 0
                }
            };
            if ended {
                break;
            }
        }
        // Whoever took the entry for granted has time to map the page.
        pause(round / 4);
        assert!(!mapped.load(SeqCst), "taken back while it was mapped");
    }
}

fn pause(round: u32) {
    match round % 4 {
        0 => thread::yield_now(),
        _ => (0..round % 64).for_each(|_| core::hint::spin_loop()),
    }
}

fn race(version: Version) {
    let mut world = world();
    if version == Version::V2 {
        world.version2(A);
    }
    let (table, status) = (world.tables.frame(A, 0).unwrap(), world.tables.status_frame(A, 0));
    let (mapped, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (theirs, end) = (Arc::clone(&mapped), Arc::clone(&done));
    let granting = thread::spawn(move || owner(table, status, &theirs, &end));
    let mut times = 0;
    while times < TIMES && !granting.is_finished() {
        let Ok(map) = world.map(B, A, 1, true, 0x1000) else { continue };
        mapped.store(true, SeqCst);
        assert!(map.page.is(&world.memory.page(A, 5).unwrap()));
        times += 1;
        pause(times);
        mapped.store(false, SeqCst);
        world.unmap(B, map.handle, 0x1000).unwrap();
    }
    done.store(true, SeqCst);
    granting.join().unwrap();
    assert_eq!(world.in_use(A), 0);
}

#[test]
fn a_page_mapped_by_version_1_is_never_taken_back() {
    race(Version::V1);
}

#[test]
fn a_page_mapped_by_version_2_is_never_taken_back() {
    race(Version::V2);
}
