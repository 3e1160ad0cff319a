//! The host's devices: serial ports, keyboard, screen, PCI, disks.
//! Handlers run in interrupt context and only move bytes; who waits is woken by a hook.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::sync::atomic::{AtomicUsize, Ordering};

pub mod ring;
pub mod screen;
pub mod serial;

/// Brings up what the console needs, then PCI and disks.
pub fn init(_boot: &crate::boot::Boot) {
    for port in [&serial::COM1, &serial::COM2] {
        if let Err(error) = port.start_interrupts() {
            log::warn!("a serial port stays polled: {error:?}");
        }
    }
}

static INPUT_HOOK: AtomicUsize = AtomicUsize::new(0);

/// Calls `hook` in interrupt context when input has arrived on a serial port or the keyboard.
/// Read it elsewhere, with [`serial::Serial::read`] and its like.
pub fn set_input_hook(hook: fn()) {
    INPUT_HOOK.store(hook as *const () as usize, Ordering::Release);
}

fn input_arrived() {
    let address = INPUT_HOOK.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: `set_input_hook` stored a function of this type.
        let hook = unsafe { core::mem::transmute::<usize, fn()>(address) };
        hook();
    }
}
