//! The FIFO ABI: a word for each port in pages that the guest gives, and for each vCPU sixteen
//! queues, linked through those words. Xen public "event_channel.h"; Xen's design paper "FIFO event
//! channel ABI".
//!
//! The guest can write anything into words and heads; only the tails, which are kept here, are
//! believed.

use super::channel::Channel;
use super::domain::Raised;
use super::two_level::mark_upcall;
use crate::abi::event_channel::{
    FIFO_BUSY, FIFO_CONTROL_HEADS, FIFO_CONTROL_SIZE, FIFO_LINK_MASK, FIFO_LINKED, FIFO_MASKED,
    FIFO_PENDING, FIFO_PORTS, FIFO_QUEUES,
};
use crate::{Errno, Port};
use alloc::vec::Vec;
use arch::SharedPage;

/// Words in a page.
const WORDS: u32 = 1024;
/// Pages of a whole event array.
const MAX_PAGES: usize = (FIFO_PORTS / WORDS) as usize;
/// Attempts to link: a guest that does only what it may (mask, unmask, clear pending, unlink) foils
/// no more.
const LINK_TRIES: u32 = 4;

/// One vCPU's queues.
#[derive(Clone, Copy, Debug)]
struct Queues {
    /// Page and offset of the control block.
    control: Option<(SharedPage, usize)>,
    /// The last port of each queue; 0 for an empty one.
    tails: [Port; FIFO_QUEUES],
}

/// A domain's event array and queues.
#[derive(Debug)]
pub(super) struct Fifo {
    array: Vec<SharedPage>,
    vcpus: Vec<Queues>,
}

impl Fifo {
    pub fn new(vcpus: usize) -> Result<Fifo, Errno> {
        let mut queues = Vec::new();
        queues.try_reserve_exact(vcpus).map_err(|_| Errno::ENOMEM)?;
        queues.resize(vcpus, Queues { control: None, tails: [Port(0); FIFO_QUEUES] });
        Ok(Fifo { array: Vec::new(), vcpus: queues })
    }

    /// Gives a vCPU its control block.
    ///
    /// # Errors
    /// `EINVAL` where it has one.
    pub fn set_control(&mut self, vcpu: u16, page: SharedPage, offset: usize) -> Result<(), Errno> {
        let queues = self.vcpus.get_mut(usize::from(vcpu)).ok_or(Errno::ENOENT)?;
        if queues.control.is_some() {
            return Err(Errno::EINVAL);
        }
        queues.control = Some((page, offset));
        Ok(())
    }

    /// Adds a page of words. The ports that have their words in it.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn add_page(&mut self, page: SharedPage) -> Result<core::ops::Range<u32>, Errno> {
        if self.array.len() >= MAX_PAGES {
            return Err(Errno::ENOSPC);
        }
        self.array.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let first = self.array.len() as u32 * WORDS;
        self.array.push(page);
        Ok(first..first + WORDS)
    }

    pub fn pages(&self) -> impl Iterator<Item = &SharedPage> {
        let controls = self.vcpus.iter().filter_map(|queues| Some(&queues.control.as_ref()?.0));
        self.array.iter().chain(controls)
    }

    /// Page and offset of a port's word.
    fn word(&self, port: Port) -> Option<(SharedPage, usize)> {
        let page = self.array.get((port.0 / WORDS) as usize)?;
        Some((*page, (port.0 % WORDS) as usize * 4))
    }

    fn test(&self, port: Port, bit: u32) -> Option<bool> {
        let (page, at) = self.word(port)?;
        page.read_u32(at).map(|word| word & bit != 0)
    }

    pub fn is_linked(&self, port: Port) -> bool {
        self.test(port, FIFO_LINKED) == Some(true)
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.test(port, FIFO_PENDING) == Some(true)
    }

    pub fn is_masked(&self, port: Port) -> bool {
        self.test(port, FIFO_MASKED).unwrap_or(true)
    }

    /// The guest unlinks words itself, and passes over those that are not pending.
    pub fn clear_pending(&self, port: Port) {
        if let Some((page, at)) = self.word(port) {
            let _ = page.fetch_clear(at, 4, FIFO_PENDING.into());
        }
    }

    /// Takes the mask away. Whether the event is pending and has to be raised again.
    pub fn unmask(&self, port: Port) -> bool {
        let Some((page, at)) = self.word(port) else { return false };
        let before = page.fetch_clear(at, 4, FIFO_MASKED.into()).unwrap_or(0);
        before & u64::from(FIFO_PENDING) != 0
    }

    /// Makes an event pending and puts it at the end of its queue, unless it is masked or in a
    /// queue.
    pub fn raise(
        &mut self,
        channel: &mut Channel,
        port: Port,
        info: Option<(SharedPage, usize)>,
    ) -> Raised {
        let Some((page, at)) = self.word(port) else {
            channel.pending = true;
            return Raised::default();
        };
        let queues = self.vcpus.get(usize::from(channel.vcpu));
        // A guest makes the control block before it lets events through.
        let Some((control, control_at)) = queues.and_then(|queues| queues.control) else {
            return Raised::default();
        };
        let before = page.fetch_or(at, 4, FIFO_PENDING.into()).unwrap_or(u64::MAX) as u32;
        let fresh = before & FIFO_PENDING == 0;
        let masked = before & FIFO_MASKED != 0;
        if masked
            || page.fetch_or(at, 4, FIFO_LINKED.into()).is_ok_and(|w| w as u32 & FIFO_LINKED != 0)
        {
            return Raised { upcall: false, fresh };
        }
        let queue = (channel.vcpu, channel.priority);
        if self.tail(channel.last) == port {
            // It was the last of its old queue, and is out of it: that queue is empty.
            self.set_tail(channel.last, Port(0));
        }
        channel.last = queue;
        let tail = self.tail(queue);
        let linked = tail != Port(0) && self.word(tail).is_some_and(|word| link(&word, port));
        self.set_tail(queue, port);
        if linked {
            return Raised { upcall: false, fresh };
        }
        let priority = usize::from(channel.priority);
        let _ = control.write(control_at + FIFO_CONTROL_HEADS + priority * 4, 4, port.0.into());
        let ready = 1u64 << priority;
        let was_ready = control.fetch_or(control_at, 4, ready).unwrap_or(ready) & ready != 0;
        let upcall = !was_ready && info.is_some_and(|(page, at)| mark_upcall(&page, at));
        Raised { upcall, fresh }
    }

    fn tail(&self, queue: (u16, u8)) -> Port {
        let tails = self.vcpus.get(usize::from(queue.0)).map(|queues| &queues.tails);
        tails.and_then(|tails| tails.get(usize::from(queue.1))).copied().unwrap_or(Port(0))
    }

    fn set_tail(&mut self, queue: (u16, u8), port: Port) {
        let tails = self.vcpus.get_mut(usize::from(queue.0)).map(|queues| &mut queues.tails);
        if let Some(tail) = tails.and_then(|tails| tails.get_mut(usize::from(queue.1))) {
            *tail = port;
        }
    }
}

/// A port's word, which the guest changes at any time. Tests put another under [`link`].
pub(super) trait Word {
    fn read(&self) -> u32;
    /// Puts `new` in the place of `old`, if that is what stands there.
    fn replace(&self, old: u32, new: u32) -> bool;
    fn set(&self, bits: u32);
    fn clear(&self, bits: u32);
}

impl Word for (SharedPage, usize) {
    fn read(&self) -> u32 {
        self.0.read_u32(self.1).unwrap_or(0)
    }

    fn replace(&self, old: u32, new: u32) -> bool {
        self.0.compare_exchange(self.1, 4, old.into(), new.into()).unwrap_or(false)
    }

    fn set(&self, bits: u32) {
        let _ = self.0.fetch_or(self.1, 4, bits.into());
    }

    fn clear(&self, bits: u32) {
        let _ = self.0.fetch_clear(self.1, 4, bits.into());
    }
}

/// Links the word to `next` if it still is in a queue. `false`: it is not, so the queue is empty.
pub(super) fn link(word: &impl Word, next: Port) -> bool {
    let attempt = || -> Option<bool> {
        let old = word.read();
        if old & FIFO_LINKED == 0 {
            return Some(false);
        }
        word.replace(old, old & !(FIFO_BUSY | FIFO_LINK_MASK) | next.0).then_some(true)
    };
    if let Some(linked) = attempt() {
        return linked;
    }
    // The guest changed the word meanwhile. While it is busy the guest does not unmask it.
    word.set(FIFO_BUSY);
    for _ in 0..LINK_TRIES {
        match attempt() {
            Some(true) => return true,
            Some(false) => break,
            None => {}
        }
    }
    word.clear(FIFO_BUSY);
    // A guest that breaks the rules loses the rest of this queue, and no one else's.
    word.read() & FIFO_LINKED != 0
}

const _: () = assert!(MAX_PAGES == 128 && FIFO_CONTROL_SIZE == 72);
