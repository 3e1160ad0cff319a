//! Spin locks that close interrupts while held, so that a handler never waits for its own CPU. Each CPU
//! lists what it holds ([`Held`]): a panic that costs one guest gives back what its work had locked.
//! In host tests they only spin.

// UNSAFETY: implements `lock_api::RawMutex`, whose contract is mutual exclusion, and gives back locks whose
// holder is gone.

use core::hint::spin_loop;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use lock_api::{GuardNoSend, RawMutex};

/// A mutex that closes interrupts on this CPU while held. Not recursive; not for NMI handlers.
pub type IrqLock<T> = lock_api::Mutex<RawIrqLock, T>;

/// The same, around the host's own memory: half changed it is no use to anybody, so a panic while it is held
/// ends the machine.
pub type HostLock<T> = lock_api::Mutex<RawHostLock, T>;

/// What [`IrqLock`] is made of.
pub type RawIrqLock = Raw<false>;

/// What [`HostLock`] is made of.
pub type RawHostLock = Raw<true>;

/// The lock word, and whether the holder had interrupts open. `HOST`: of the host's own memory.
#[derive(Debug)]
pub struct Raw<const HOST: bool> {
    locked: AtomicBool,
    reopen: AtomicBool,
}

/// Most locks that a CPU holds at once; Pv → device → bridge → card → memory are five.
const DEEPEST: usize = 16;

/// The locks that one CPU holds, in the order in which it took them. Changed with interrupts closed.
#[derive(Debug)]
pub struct Held {
    count: AtomicUsize,
    /// Of them, locks around the host's own memory.
    host: AtomicUsize,
    locks: [AtomicPtr<AtomicBool>; DEEPEST],
}

impl Held {
    /// None.
    #[must_use]
    pub const fn new() -> Held {
        Held {
            count: AtomicUsize::new(0),
            host: AtomicUsize::new(0),
            locks: [const { AtomicPtr::new(null_mut()) }; DEEPEST],
        }
    }

    /// How many there are, for [`give_back`](Held::give_back).
    #[must_use]
    pub fn mark(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn took(&self, word: &AtomicBool, host: bool) {
        let at = self.count.load(Ordering::Relaxed);
        assert!(at < DEEPEST, "so many locks are never held at once");
        self.locks[at].store(core::ptr::from_ref(word).cast_mut(), Ordering::Relaxed);
        self.count.store(at + 1, Ordering::Relaxed);
        self.host.store(self.host.load(Ordering::Relaxed) + usize::from(host), Ordering::Relaxed);
    }

    fn gives(&self, word: &AtomicBool, host: bool) {
        let mut moved = null_mut();
        let count = self.count.load(Ordering::Relaxed);
        // Nearly always the last one.
        for at in (0..count).rev() {
            moved = self.locks[at].swap(moved, Ordering::Relaxed);
            if core::ptr::eq(moved, word) {
                self.count.store(count - 1, Ordering::Relaxed);
                let left = self.host.load(Ordering::Relaxed) - usize::from(host);
                return self.host.store(left, Ordering::Relaxed);
            }
        }
        unreachable!("a lock is given back by the CPU that holds it");
    }

    /// Gives back what was taken since `mark`. False, and nothing is given back: a lock around the host's own
    /// memory is among them.
    ///
    /// # Safety
    /// This is this CPU's list, and whoever took them is never gone on with: neither its guards nor what it
    /// borrowed through them are used again.
    pub unsafe fn give_back(&self, mark: usize) -> bool {
        if self.host.load(Ordering::Relaxed) > 0 {
            return false;
        }
        while self.count.load(Ordering::Relaxed) > mark {
            let at = self.count.load(Ordering::Relaxed) - 1;
            self.count.store(at, Ordering::Relaxed);
            let word = self.locks[at].swap(null_mut(), Ordering::Relaxed);
            // SAFETY: entered by `took`, and its guard, which is leaked, borrowed the lock for ever.
            unsafe { (*word).store(false, Ordering::Release) };
        }
        true
    }
}

impl Default for Held {
    fn default() -> Held {
        Held::new()
    }
}

/// This CPU's list; none in host tests.
#[cfg(target_os = "none")]
fn held() -> Option<&'static Held> {
    Some(&super::percpu::this().held)
}

#[cfg(not(target_os = "none"))]
fn held() -> Option<&'static Held> {
    None
}

/// Closes interrupts; true if they were open.
pub fn close_interrupts() -> bool {
    #[cfg(target_os = "none")]
    {
        let open = interrupts_open();
        // SAFETY: closing interrupts is always sound in ring 0.
        unsafe { x86::irq::disable() };
        open
    }
    #[cfg(not(target_os = "none"))]
    false
}

/// True if this CPU takes interrupts.
#[must_use]
pub fn interrupts_open() -> bool {
    x86::bits64::rflags::read().contains(x86::bits64::rflags::RFlags::FLAGS_IF)
}

/// Opens interrupts if `open`.
pub fn restore_interrupts(open: bool) {
    if open {
        // SAFETY: they were open before, so the IDT and handlers are in place.
        unsafe { x86::irq::enable() }
    }
}

/// Lets the interrupts in that wait, and closes them again. STI holds them back until the instruction behind it is
/// done (SDM 2B "STI"): were that CLI, none would ever come, on CPUs if not in all emulators.
pub fn take_interrupts() {
    #[cfg(target_os = "none")]
    // SAFETY: the IDT and handlers are in place where guests run.
    unsafe {
        core::arch::asm!("sti", "nop", "cli");
    }
}

// SAFETY: `locked` goes from false to true for one caller at a time, by compare and exchange.
unsafe impl<const HOST: bool> RawMutex for Raw<HOST> {
    const INIT: Raw<HOST> = Raw { locked: AtomicBool::new(false), reopen: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        let open = close_interrupts();
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            restore_interrupts(open);
            while self.locked.load(Ordering::Relaxed) {
                spin_loop();
            }
            close_interrupts();
        }
        self.reopen.store(open, Ordering::Relaxed);
        if let Some(held) = held() {
            held.took(&self.locked, HOST);
        }
    }

    fn try_lock(&self) -> bool {
        let open = close_interrupts();
        let taken =
            self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.reopen.store(open, Ordering::Relaxed);
            if let Some(held) = held() {
                held.took(&self.locked, HOST);
            }
        } else {
            restore_interrupts(open);
        }
        taken
    }

    unsafe fn unlock(&self) {
        let open = self.reopen.load(Ordering::Relaxed);
        if let Some(held) = held() {
            held.gives(&self.locked, HOST);
        }
        self.locked.store(false, Ordering::Release);
        restore_interrupts(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_listed_in_any_order_of_giving_them_back() {
        let held = Held::new();
        let words = [const { AtomicBool::new(true) }; 3];
        words.iter().for_each(|word| held.took(word, false));
        held.gives(&words[1], false);
        assert_eq!(held.mark(), 2);
        held.gives(&words[2], false);
        held.gives(&words[0], false);
        assert_eq!(held.mark(), 0);
    }

    #[test]
    fn what_was_taken_since_the_mark_is_given_back_and_no_more() {
        let held = Held::new();
        let words = [const { AtomicBool::new(true) }; 3];
        held.took(&words[0], false);
        let mark = held.mark();
        held.took(&words[1], false);
        held.took(&words[2], false);
        // SAFETY: nobody holds these words by a guard.
        assert!(unsafe { held.give_back(mark) });
        let locked = words.each_ref().map(|word| word.load(Ordering::Relaxed));
        assert_eq!((locked, held.mark()), ([true, false, false], 1));
    }

    #[test]
    fn nothing_is_given_back_where_the_hosts_own_memory_is_half_changed() {
        let held = Held::new();
        let words = [const { AtomicBool::new(true) }; 2];
        held.took(&words[0], false);
        held.took(&words[1], true);
        // SAFETY: nobody holds these words by a guard.
        assert!(!unsafe { held.give_back(0) });
        assert_eq!(held.mark(), 2);
        held.gives(&words[1], true);
        // SAFETY: as above.
        assert!(unsafe { held.give_back(0) });
    }
}
