//! What an access to the board asks of the world outside it. Collected under the board's lock, carried
//! out after it.

use crate::host::Output;
use arch::Why;
use devmodel::apicmsg::Message;
use devmodel::xenplat::Unplug;
use devmodel::{fdc, ide};
use heapless::Vec;

/// A list that is mostly empty, seldom of one, and costs nothing to make.
#[derive(Debug)]
struct Few<T, const N: usize> {
    first: Option<T>,
    more: Option<Vec<T, N>>,
}

impl<T, const N: usize> Default for Few<T, N> {
    #[inline]
    fn default() -> Few<T, N> {
        Few { first: None, more: None }
    }
}

impl<T, const N: usize> Few<T, N> {
    fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            // More than the owner has room for cannot come of one access.
            let _ = self.more.get_or_insert_with(Vec::new).push(item);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.more.iter().flatten())
    }
}

/// The effects of one access.
#[derive(Debug, Default)]
pub struct Effects {
    /// Interrupt messages: at most one for each pin of the I/O APIC and each comparator.
    messages: Few<Message, 31>,
    /// Bytes that one access can print: a 32-bit OUT to a serial port.
    output: Few<(Output, u8), 3>,
    /// The 8259A's pin changed.
    pub intr: bool,
    /// The guest stops.
    pub stop: Option<Why>,
    /// When the board is next due changed.
    pub due: bool,
    /// INIT for the bootstrap processor (fast reset).
    pub init: bool,
    /// The IDE controller wants something.
    pub ide: Option<ide::Effect>,
    /// The floppy controller wants something.
    pub fdc: Option<fdc::Effect>,
    /// Network cards have frames to send.
    pub nic: bool,
    /// Cards, a bit each, whose driver has given them buffers.
    pub nic_room: u8,
    /// A DMA request of the firmware configuration device: where its descriptor is.
    pub fw_cfg: Option<u64>,
    /// The memory map follows new PCI registers.
    pub remap: bool,
    /// The VGA window's direct mapping changed.
    pub vga: bool,
    /// Address line 20 changed.
    pub a20: bool,
    /// The guest's drivers take emulated devices away.
    pub unplug: Option<Unplug>,
    any: bool,
}

impl Effects {
    /// Nothing yet.
    #[must_use]
    #[inline]
    pub fn new() -> Effects {
        Effects::default()
    }

    /// Whether anything is to be done.
    #[must_use]
    #[inline]
    pub fn any(&self) -> bool {
        self.any
    }

    /// Notes that a field was set.
    #[inline]
    pub fn touch(&mut self) {
        self.any = true;
    }

    /// The guest stops for this reason; the first one counts.
    pub fn stop(&mut self, why: Why) {
        self.stop.get_or_insert(why);
        self.any = true;
    }

    /// Adds an interrupt message.
    pub fn send(&mut self, message: Message) {
        self.messages.push(message);
        self.any = true;
    }

    /// Adds a byte of output.
    pub fn print(&mut self, to: Output, byte: u8) {
        self.output.push((to, byte));
        self.any = true;
    }

    /// The messages.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// The output.
    pub fn output(&self) -> impl Iterator<Item = &(Output, u8)> {
        self.output.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_bytes_come_out_in_the_order_they_went_in() {
        let mut fx = Effects::new();
        assert!(!fx.any());
        assert_eq!(fx.messages().count() + fx.output().count(), 0);
        for byte in 0..4 {
            fx.print(Output::Com1, byte);
        }
        assert!(fx.any());
        assert!(fx.output().map(|(_, byte)| *byte).eq(0..4));
    }
}
