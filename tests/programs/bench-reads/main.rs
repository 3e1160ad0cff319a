//! What does a read of a paravirtual disk cost in Linux, from the system call to its return? Reads
//! /dev/xvda past the page cache (O_DIRECT), one at a time and 32 at a time (Linux' own asynchronous
//! I/O), and prints `@bench-op disk_SIZE_DEPTH TICKS 0` for one read: the median by the TSC.

#![no_std]
#![no_main]

mod linux;

use core::fmt::Write;
use linux::{Completion, Out, Request, sys};

/// Reads at one time at most.
const DEEPEST: usize = 32;
/// Sizes of a read in bytes, their names, and how often each is timed.
const SIZES: [(usize, &str, usize); 3] =
    [(4 << 10, "4k", 256), (64 << 10, "64k", 64), (1 << 20, "1m", 16)];
/// Bytes of the disk that are read, from its beginning.
const SPAN: usize = 32 << 20;

/// Everything; the exit status.
pub fn main() -> i32 {
    // O_RDONLY | O_DIRECT.
    let disk = sys::open(c"/dev/xvda", 0x4000);
    // The pages are there before the first read.
    let buffer = sys::map(SPAN);
    let mut context = 0;
    if disk < 0 || buffer < 0 || sys::io_setup(DEEPEST, &mut context) < 0 {
        let _ = writeln!(Out, "@bench-fail no disk, no memory or no asynchronous I/O: {disk}");
        return 1;
    }
    for (size, name, count) in SIZES {
        for depth in [1, DEEPEST] {
            let mut samples = [0u64; 256];
            // The first of all pays for what is made then.
            for at in 0..=count {
                let offset = at * depth * size % SPAN;
                let start = linux::ticks();
                let read = match depth {
                    1 => sys::pread(disk, buffer as usize, size, offset),
                    _ => all_at_once(context, disk, buffer as usize, size, offset),
                };
                samples[at.saturating_sub(1)] = (linux::ticks() - start) / depth as u64;
                if read != size as i64 {
                    let _ = writeln!(Out, "@bench-fail a read of {size} at {offset}: {read}");
                    return 1;
                }
            }
            let samples = &mut samples[..count];
            samples.sort_unstable();
            let _ = writeln!(Out, "@bench-op disk_{name}_{depth} {} 0", samples[count / 2]);
        }
    }
    let _ = writeln!(Out, "@bench-end");
    0
}

/// [`DEEPEST`] reads side by side: the bytes of each, or what the first that failed says.
fn all_at_once(context: u64, disk: i64, buffer: usize, size: usize, offset: usize) -> i64 {
    let mut requests = [const { Request::new() }; DEEPEST];
    for (at, request) in requests.iter_mut().enumerate() {
        request.read(disk, buffer + at * size, size, (offset + at * size) % SPAN);
    }
    let list: [*mut Request; DEEPEST] = requests.each_mut().map(core::ptr::from_mut);
    let sent = sys::io_submit(context, &list);
    if sent != DEEPEST as i64 {
        return sent;
    }
    let mut done = [const { Completion::new() }; DEEPEST];
    let came = sys::io_getevents(context, &mut done);
    let wrong = done.iter().map(|one| one.result).find(|result| *result != size as i64);
    if came == DEEPEST as i64 { wrong.unwrap_or(size as i64) } else { came }
}
