//! virtio-net over PCI on the queues of `virtio-drivers`: fixed buffers both ways, one interrupt for
//! received frames (MSI-X, or INTx where that is all there is). VIRTIO 1.2, "Network Device".

// UNSAFETY: gives physical memory to a device; slices over memory that the device writes.

use alloc::boxed::Box;

use heapless::Vec;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::InterruptStatus;
use virtio_drivers::transport::pci::PciTransport;

use super::net::{self, Card, MAX_FRAME};
use super::pci::{self, Function};
use super::virtio_blk::{Memory, start_msix};
use crate::cpu::lock::IrqLock;
use crate::cpu::{ioapic, irq};
use crate::mem::layout::PAGE;
use crate::mem::{Phys, frames, phys_to_virt, zero};

/// Descriptors of a queue; one buffer each.
const QUEUE: usize = 64;
/// Bytes of a buffer: the header of 12 bytes and a frame.
const BUFFER: usize = 2048;

struct State {
    device: VirtIONetRaw<Memory, PciTransport, QUEUE>,
    /// Buffers for sending, then as many for receiving.
    buffers: Phys,
    /// Buffers for sending that are free.
    free: Vec<u8, QUEUE>,
    /// Buffer of each token in flight.
    sending: [u8; QUEUE],
    receiving: [u8; QUEUE],
}

/// The card.
pub struct VirtioNet {
    mac: [u8; 6],
    intx: bool,
    state: IrqLock<State>,
}

/// Brings up the card at `function`, if it is one and there is none yet.
pub fn probe(function: &Function) {
    if function.vendor != 0x1af4 || !matches!(function.device, 0x1000 | 0x1041) || !net::is_free() {
        return;
    }
    match start(function) {
        Ok(()) => log::debug!("virtio-net at {}", function.at),
        Err(why) => log::warn!("virtio-net at {} left out: {why}", function.at),
    }
}

fn start(function: &Function) -> Result<(), &'static str> {
    pci::enable(function.at);
    let transport = PciTransport::new::<Memory, _>(&mut pci::root(), function.at)
        .map_err(|_| "its PCI capabilities are not those of VIRTIO 1.0")?;
    let vector = irq::alloc_vector().ok_or("no interrupt vector is left")?;
    let device = VirtIONetRaw::new(transport).map_err(|_| "its queues are short")?;
    // Queue 0 receives; the other keeps no vector, so that sending interrupts nobody.
    let msix = start_msix(function, vector);
    let bytes = (2 * QUEUE * BUFFER) as u64;
    let buffers = frames::alloc_contiguous(bytes, PAGE).ok_or("no memory")?;
    zero(buffers, bytes);
    let mut state = State {
        device,
        buffers,
        free: (0..QUEUE as u8).collect(),
        sending: [0; QUEUE],
        receiving: [0; QUEUE],
    };
    for n in 0..QUEUE {
        state.give(n as u8);
    }
    let mac = state.device.mac_address();
    let card = Box::leak(Box::new(VirtioNet { mac, intx: !msix, state: IrqLock::new(state) }));
    let argument = core::ptr::from_ref(card).expose_provenance();
    if msix {
        irq::register(vector, interrupt, argument);
    } else {
        let line = pci::interrupt_line(function.at).ok_or("it has no interrupt")?;
        ioapic::route_pci(line, interrupt, argument).map_err(|_| "its interrupt has no way in")?;
    }
    net::add(Card::Virtio(card));
    Ok(())
}

fn interrupt(argument: usize) {
    // SAFETY: the card that `start` leaked and registered.
    let card = unsafe { &*core::ptr::with_exposed_provenance::<VirtioNet>(argument) };
    if card.intx && card.state.lock().device.ack_interrupt() == InterruptStatus::empty() {
        return;
    }
    net::arrived();
}

/// A buffer: number below twice [`QUEUE`].
fn buffer(start: Phys, n: usize) -> &'static mut [u8] {
    let at = phys_to_virt(Phys(start.0 + (n * BUFFER) as u64));
    // SAFETY: frames that `start` allocated for ever; a buffer is used by the device or by us, as the
    // free list and the queues say, under the card's lock.
    unsafe { core::slice::from_raw_parts_mut(at, BUFFER) }
}

impl State {
    /// Gives buffer `n` to the device to receive into.
    fn give(&mut self, n: u8) {
        let memory = buffer(self.buffers, QUEUE + usize::from(n));
        // SAFETY: nobody touches the buffer until its token is popped.
        match unsafe { self.device.receive_begin(memory) } {
            Ok(token) => self.receiving[usize::from(token) % QUEUE] = n,
            Err(error) => log::warn!("virtio-net keeps no buffer {n}: {error}"),
        }
    }

    /// Takes back the buffers that were sent.
    fn reclaim(&mut self) {
        for _ in 0..QUEUE {
            let Some(token) = self.device.poll_transmit() else { return };
            let n = self.sending[usize::from(token) % QUEUE];
            let (memory, len) = (buffer(self.buffers, n.into()), self.lens(n));
            // SAFETY: the same slice as was added with this token.
            let _ = unsafe { self.device.transmit_complete(token, &memory[..len]) };
            let _ = self.free.push(n);
        }
    }

    /// Bytes of the frame in buffer `n` with its header: kept in the buffer's last bytes.
    fn lens(&self, n: u8) -> usize {
        let memory = buffer(self.buffers, n.into());
        usize::from(u16::from_le_bytes([memory[BUFFER - 2], memory[BUFFER - 1]])).min(BUFFER - 2)
    }
}

impl VirtioNet {
    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sends a frame of up to [`MAX_FRAME`] bytes; false where no buffer is free.
    pub fn send(&self, frame: &[u8]) -> bool {
        let mut state = self.state.lock();
        state.reclaim();
        let Some(n) = state.free.pop() else { return false };
        let memory = buffer(state.buffers, n.into());
        let header = state.device.fill_buffer_header(memory).unwrap_or(0);
        let len = header + frame.len().min(MAX_FRAME);
        memory[header..len].copy_from_slice(&frame[..len - header]);
        memory[BUFFER - 2..].copy_from_slice(&(len as u16).to_le_bytes());
        // SAFETY: the buffer is not in the free list until its token is popped.
        match unsafe { state.device.transmit_begin(&memory[..len]) } {
            Ok(token) => state.sending[usize::from(token) % QUEUE] = n,
            Err(_) => {
                let _ = state.free.push(n);
                return false;
            }
        }
        true
    }

    /// Copies the next received frame to `to`.
    pub fn receive(&self, to: &mut [u8]) -> Option<usize> {
        let mut state = self.state.lock();
        let token = state.device.poll_receive()?;
        let n = state.receiving[usize::from(token) % QUEUE];
        let memory = buffer(state.buffers, QUEUE + usize::from(n));
        // SAFETY: the same buffer as was added with this token.
        let received = unsafe { state.device.receive_complete(token, memory) };
        let len = received.map_or(0, |(header, len)| {
            let len = len.min(to.len()).min(BUFFER - header);
            to[..len].copy_from_slice(&memory[header..header + len]);
            len
        });
        state.give(n);
        Some(len)
    }
}
