//! What an access to the board asks of the world outside it. Collected under the board's lock, carried
//! out after it.

use crate::host::Output;
use arch::Why;
use devmodel::apicmsg::Message;
use devmodel::{fdc, ide};
use heapless::Vec;

/// The effects of one access.
#[derive(Debug, Default)]
pub struct Effects {
    /// Interrupt messages: at most one for each pin of the I/O APIC and each comparator.
    messages: Vec<Message, 32>,
    /// Bytes that one access can print: a 32-bit OUT to a serial port.
    output: Vec<(Output, u8), 4>,
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
        // More messages than pins cannot come of one access.
        let _ = self.messages.push(message);
        self.any = true;
    }

    /// Adds a byte of output.
    pub fn print(&mut self, to: Output, byte: u8) {
        let _ = self.output.push((to, byte));
        self.any = true;
    }

    /// The messages.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The output.
    #[must_use]
    pub fn output(&self) -> &[(Output, u8)] {
        &self.output
    }
}
