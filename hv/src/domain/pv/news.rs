//! What guests are to be told once the back ends' lock is open. Most doorbells have one answer: it takes no memory.

use alloc::vec::Vec;
use pvdrivers::event::Deliver;

/// Events in the order in which they happened. A list on the heap cost 600 instructions of each doorbell.
#[derive(Default)]
pub(super) struct News {
    few: heapless::Vec<Deliver, 2>,
    more: Vec<Deliver>,
}

impl News {
    /// One more.
    pub fn push(&mut self, deliver: Deliver) {
        if self.more.is_empty() && self.few.push(deliver).is_ok() {
            return;
        }
        self.more.push(deliver);
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = Deliver> {
        self.few.into_iter().chain(self.more)
    }
}
