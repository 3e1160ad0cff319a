//! Spin locks that close interrupts while held, so that a handler never waits for its own CPU.
//! In host tests they only spin.

// UNSAFETY: implements `lock_api::RawMutex`, whose contract is mutual exclusion.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use lock_api::{GuardNoSend, RawMutex};

/// A mutex that closes interrupts on this CPU while held. Not recursive; not for NMI handlers.
pub type IrqLock<T> = lock_api::Mutex<RawIrqLock, T>;

/// The lock word, and whether the holder had interrupts open.
#[derive(Debug)]
pub struct RawIrqLock {
    locked: AtomicBool,
    reopen: AtomicBool,
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

// SAFETY: `locked` goes from false to true for one caller at a time, by compare and exchange.
unsafe impl RawMutex for RawIrqLock {
    const INIT: RawIrqLock =
        RawIrqLock { locked: AtomicBool::new(false), reopen: AtomicBool::new(false) };
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
    }

    fn try_lock(&self) -> bool {
        let open = close_interrupts();
        let taken =
            self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.reopen.store(open, Ordering::Relaxed);
        } else {
            restore_interrupts(open);
        }
        taken
    }

    unsafe fn unlock(&self) {
        let open = self.reopen.load(Ordering::Relaxed);
        self.locked.store(false, Ordering::Release);
        restore_interrupts(open);
    }
}
