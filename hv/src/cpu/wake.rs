//! A vCPU is woken while its turn ends: either who wakes it sees that the turn is over, and kicks its CPU, or
//! the CPU sees that it was woken. Else it would halt with an interrupt posted and nobody coming. Each writes its
//! own word first and then reads the other's, in one order for all CPUs. `between`: what happens meanwhile, in tests.

use core::sync::atomic::{AtomicBool, Ordering};

/// Wakes a vCPU for which something was posted. True: it is within a turn, in which that is found, at the notification
/// if it runs and before it runs again if it does not. False: its CPU must be kicked.
pub fn call(woken: &AtomicBool, running: &AtomicBool, between: impl FnOnce()) -> bool {
    woken.store(true, Ordering::SeqCst);
    between();
    running.load(Ordering::SeqCst)
}

/// Ends a turn. Whether the vCPU was woken since it began.
pub fn leave(woken: &AtomicBool, running: &AtomicBool, between: impl FnOnce()) -> bool {
    running.store(false, Ordering::SeqCst);
    between();
    woken.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn turn() -> (AtomicBool, AtomicBool) {
        (AtomicBool::new(false), AtomicBool::new(true))
    }

    #[test]
    fn one_that_runs_is_notified_and_one_that_does_not_is_kicked() {
        let (woken, running) = turn();
        assert!(call(&woken, &running, || ()));
        assert!(leave(&woken, &running, || ()), "it looks again before it halts");
        assert!(!call(&woken, &running, || ()));
    }

    #[test]
    fn a_turn_that_ends_while_its_vcpu_is_woken_is_seen_by_one_of_the_two() {
        let (woken, running) = turn();
        let mut looks_again = false;
        let notified = call(&woken, &running, || looks_again = leave(&woken, &running, || ()));
        assert!(looks_again && !notified);
        let (woken, running) = turn();
        let mut notified = true;
        let looks_again = leave(&woken, &running, || notified = call(&woken, &running, || ()));
        assert!(looks_again && !notified);
    }

    #[test]
    fn on_two_cpus_at_once_it_is_never_seen_by_neither() {
        for _ in 0..200 {
            let (woken, running) = turn();
            let start = Barrier::new(2);
            let (notified, looks_again) = std::thread::scope(|scope| {
                let waker = scope.spawn(|| {
                    start.wait();
                    call(&woken, &running, || ())
                });
                start.wait();
                let looks_again = leave(&woken, &running, || ());
                (waker.join().unwrap(), looks_again)
            });
            assert!(!notified || looks_again, "it would halt");
        }
    }
}
