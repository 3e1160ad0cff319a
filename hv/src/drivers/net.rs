//! The host's network card: frames out at once, frames in by [`receive`] when the hook was called.
//! The first card that is found is used.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::e1000::E1000;
use super::virtio_net::VirtioNet;
use crate::cpu::lock::IrqLock;

/// Bytes of the longest frame: no jumbos, a VLAN tag.
pub const MAX_FRAME: usize = 1518;

/// A card.
#[derive(Clone, Copy)]
pub enum Card {
    /// virtio-net.
    Virtio(&'static VirtioNet),
    /// Intel 8254x.
    E1000(&'static E1000),
}

static CARD: IrqLock<Option<Card>> = IrqLock::new(None);
static HOOK: AtomicUsize = AtomicUsize::new(0);

/// Whether there is none yet.
pub(super) fn is_free() -> bool {
    CARD.lock().is_none()
}

/// Uses a card.
pub(super) fn add(card: Card) {
    CARD.lock().get_or_insert(card);
}

/// Its address; `None` where there is no card.
pub fn mac() -> Option<[u8; 6]> {
    let card = *CARD.lock();
    card.map(|card| match card {
        Card::Virtio(card) => card.mac(),
        Card::E1000(card) => card.mac(),
    })
}

/// Sends a frame, from any CPU. False where it was dropped: no card, too long, or no buffer free.
pub fn send(frame: &[u8]) -> bool {
    let card = *CARD.lock();
    frame.len() <= MAX_FRAME
        && match card {
            Some(Card::Virtio(card)) => card.send(frame),
            Some(Card::E1000(card)) => card.send(frame),
            None => false,
        }
}

/// Copies the next received frame to `to`; its length. `None` where none has come.
pub fn receive(to: &mut [u8]) -> Option<usize> {
    let card = *CARD.lock();
    match card? {
        Card::Virtio(card) => card.receive(to),
        Card::E1000(card) => card.receive(to),
    }
}

/// Sets who hears, in interrupt context, that frames may have come.
pub fn set_hook(hook: fn()) {
    HOOK.store(hook as *const () as usize, Ordering::Release);
}

/// Drivers call this, in interrupt context and without holding a lock of theirs.
pub(super) fn arrived() {
    let address = HOOK.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: `set_hook` stored a function of this type.
        let hook = unsafe { core::mem::transmute::<usize, fn()>(address) };
        hook();
    }
}
