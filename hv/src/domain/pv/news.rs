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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use pvdrivers::Port;

    #[test]
    fn events_come_in_the_order_in_which_they_happened() {
        let mut news = News::default();
        let ports = (1..6).map(|port| Deliver::Backend { port: Port(port) });
        ports.clone().for_each(|deliver| news.push(deliver));
        assert_eq!(news.all().collect::<Vec<_>>(), ports.collect::<Vec<_>>());
    }
}
