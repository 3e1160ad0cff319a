//! The hypervisor sends while a vCPU takes events, each in a thread of its own: nothing is lost.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const PORTS: u32 = 24;
const EVENTS: u32 = 60_000;

/// Sends to ports in turn, from the caller's thread, while `take` runs in another until it is done.
fn race(channels: &Arc<Mutex<EventChannels>>, mut take: impl FnMut(u32) + Send + 'static) {
    let sent = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&sent);
    let taker = thread::spawn(move || {
        let mut turn = 0;
        while !seen.load(Ordering::SeqCst) {
            take(turn);
            turn += 1;
        }
        take(turn);
    });
    let mut state = 0x2545_f491u32;
    for _ in 0..EVENTS {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let _ = channels.lock().unwrap().send(A, Port(1 + state % PORTS)).unwrap();
    }
    sent.store(true, Ordering::SeqCst);
    taker.join().unwrap();
    let channels = channels.lock().unwrap();
    for port in 1..=PORTS {
        assert!(!channels.is_pending(A, Port(port)), "port {port} was lost");
    }
}

#[test]
fn a_vcpu_that_takes_fifo_events_meanwhile_loses_none() {
    let mut channels = two_guests();
    let mut guest = FifoGuest::new(&mut channels, A, 2);
    let _ = guest.expand(&mut channels, false);
    for port in 0..PORTS {
        let port = channels.bind_ipi(A, port % 2).map(|port| (port, port.0 % 3)).unwrap();
        channels.set_priority(A, port.0, port.1).unwrap();
    }
    let channels = Arc::new(Mutex::new(channels));
    let theirs = Arc::clone(&channels);
    race(&channels, move |turn| {
        guest.consume(0);
        guest.consume(1);
        if !turn.is_multiple_of(16) {
            return;
        }
        // It masks and unmasks one after another, too.
        let port = 1 + turn / 16 % PORTS;
        guest.set(port, FIFO_MASKED);
        let _ = theirs.lock().unwrap().unmask(A, Port(port)).unwrap();
        guest.consume(0);
        guest.consume(1);
    });
}

#[test]
fn a_vcpu_that_takes_2_level_events_meanwhile_loses_none() {
    let mut channels = two_guests();
    for port in 0..PORTS {
        channels.bind_ipi(A, port % 2).unwrap();
    }
    // The taker needs the layout and the pages only, which are the same in a twin.
    let shared = channels.vcpu_info(A, 0).unwrap().0;
    let mut twin = EventChannels::new();
    twin.add_domain(A, &Settings { shared_info: shared, ..settings() }).unwrap();
    let channels = Arc::new(Mutex::new(channels));
    race(&channels, move |_| {
        for vcpu in 0..2 {
            consume_two_level(&twin, A, vcpu);
        }
    });
}
