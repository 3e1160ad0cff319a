//! The host's devices: serial ports, keyboard, screen, PCI, disks, the network card.
//! Handlers run in interrupt context and only move bytes; who waits is woken by a hook.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::sync::atomic::{AtomicUsize, Ordering};

pub mod ata;
pub mod block;
pub mod control;
pub mod e1000;
pub mod net;
pub mod overlay;
pub mod pci;
pub mod ps2;
pub mod ring;
pub mod screen;
pub mod serial;
pub mod virtio_blk;
pub mod virtio_net;

static INPUT_HOOK: AtomicUsize = AtomicUsize::new(0);

/// Brings up keyboard and serial interrupts, then PCI and the disks. Interrupts are open.
pub fn init() {
    for port in [&serial::COM1, &serial::COM2] {
        if let Err(error) = port.start_interrupts() {
            log::warn!("a serial port stays polled: {error:?}");
        }
    }
    ps2::init();
    let functions = pci::enumerate();
    for f in &functions {
        log::debug!("pci {} {:04x}:{:04x} class {:06x}", f.at, f.vendor, f.device, f.class);
    }
    functions.iter().for_each(virtio_blk::probe);
    functions.iter().for_each(virtio_net::probe);
    functions.iter().for_each(e1000::probe);
    ata::init(&functions);
    if let Some([a, b, c, d, e, f]) = net::mac() {
        log::info!("network card at {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    for (number, info) in (0..).map_while(|n| Some((n, block::info(n)?))) {
        let kind = if info.optical { "CD" } else { "disk" };
        log::info!("disk {number}: {kind} at {}, {} KiB", info.place, info.sectors / 2);
    }
}

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
