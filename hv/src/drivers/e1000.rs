//! Intel's 8254x gigabit Ethernet as the host's card, in Bochs and old machines: legacy descriptors,
//! fixed buffers, INTx. It receives all frames, as the guests behind the bridge have addresses of
//! their own. Intel 317453 "Software Developer's Manual", "SDM" below.

// UNSAFETY: device registers, and descriptors and buffers that the device writes.

use alloc::boxed::Box;
use core::sync::atomic::{Ordering, fence};

use super::net::{self, Card, MAX_FRAME};
use super::pci::{self, Function};
use crate::cpu::lock::IrqLock;
use crate::cpu::{ioapic, tsc};
use crate::mem::layout::PAGE;
use crate::mem::{Cache, Phys, frames, map_mmio, phys_to_virt, zero};

/// 82540EM, 82545EM, 82543GC, 82541PI and their kind: those with a microwire EEPROM and this ring.
const DEVICES: [u16; 6] = [0x100e, 0x100f, 0x1004, 0x1010, 0x107c, 0x1019];
/// Descriptors of a ring; one page holds both rings.
const RING: u32 = 64;
const DESCRIPTOR: usize = 16;
/// Bytes of a buffer.
const BUFFER: usize = 2048;

// SDM "Register Summary".
const CTRL: usize = 0x0;
const EERD: usize = 0x14;
const ICR: usize = 0xc0;
const IMS: usize = 0xd0;
const IMC: usize = 0xd8;
const RCTL: usize = 0x100;
const TCTL: usize = 0x400;
const TIPG: usize = 0x410;
const RDBAL: usize = 0x2800;
const RDT: usize = 0x2818;
const TDBAL: usize = 0x3800;
const TDT: usize = 0x3818;
const MTA: usize = 0x5200;
const RAL: usize = 0x5400;
const REGISTERS: u64 = 0x2_0000;

/// A descriptor's status: done.
const DD: u8 = 1;
/// Receive status: the frame ends here.
const EOP: u8 = 2;

/// The registers.
#[derive(Clone, Copy)]
struct Registers(usize);

impl Registers {
    fn read(self, at: usize) -> u32 {
        let place = core::ptr::with_exposed_provenance::<u32>(self.0 + at);
        // SAFETY: a register of the region that `start` mapped for ever.
        unsafe { place.read_volatile() }
    }

    fn write(self, at: usize, value: u32) {
        let place = core::ptr::with_exposed_provenance_mut::<u32>(self.0 + at);
        // SAFETY: as for `read`.
        unsafe { place.write_volatile(value) }
    }
}

struct State {
    registers: Registers,
    /// Receive ring, then transmit ring.
    rings: Phys,
    /// Buffers for receiving, then as many for sending.
    buffers: Phys,
    /// The descriptor that is received into next.
    next: u32,
    /// The first descriptor that is being sent, and the first free one.
    oldest: u32,
    tail: u32,
}

/// The card.
pub struct E1000 {
    mac: [u8; 6],
    state: IrqLock<State>,
}

/// Brings up the card at `function`, if it is one and there is none yet.
pub fn probe(function: &Function) {
    if function.vendor != 0x8086 || !DEVICES.contains(&function.device) || !net::is_free() {
        return;
    }
    match start(function) {
        Ok(()) => log::debug!("e1000 at {}", function.at),
        Err(why) => log::warn!("e1000 at {} left out: {why}", function.at),
    }
}

fn start(function: &Function) -> Result<(), &'static str> {
    pci::enable(function.at);
    let base = pci::memory_bar(function.at, 0).ok_or("it has no registers in memory")?;
    let line = pci::interrupt_line(function.at).ok_or("it has no interrupt")?;
    let registers = Registers(map_mmio(Phys(base), REGISTERS, Cache::Uncached).expose_provenance());
    registers.write(IMC, u32::MAX);
    registers.write(CTRL, registers.read(CTRL) | 1 << 26);
    // SDM "Device Control Register": 1 µs until the reset has begun, and time for the EEPROM.
    tsc::delay_us(20_000);
    registers.write(IMC, u32::MAX);
    registers.read(ICR);
    let mac = address(registers).ok_or("it has no address")?;
    let rings = frames::alloc_contiguous(PAGE, PAGE).ok_or("no memory")?;
    zero(rings, PAGE);
    let bytes = (2 * RING as usize * BUFFER) as u64;
    let buffers = frames::alloc_contiguous(bytes, PAGE).ok_or("no memory")?;
    zero(buffers, bytes);
    let mut state = State { registers, rings, buffers, next: 0, oldest: 0, tail: 0 };
    state.set_up();
    let card = Box::leak(Box::new(E1000 { mac, state: IrqLock::new(state) }));
    let argument = core::ptr::from_ref(card).expose_provenance();
    ioapic::route_pci(line, interrupt, argument).map_err(|_| "its interrupt has no way in")?;
    net::add(Card::E1000(card));
    // Received, few descriptors, overrun, link.
    registers.write(IMS, 1 << 7 | 1 << 4 | 1 << 6 | 1 << 2);
    Ok(())
}

/// Its address: from the first receive address, else from the EEPROM.
fn address(registers: Registers) -> Option<[u8; 6]> {
    let (low, high) = (registers.read(RAL), registers.read(RAL + 4));
    if high >> 31 != 0 {
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f, ..] = high.to_le_bytes();
        return Some([a, b, c, d, e, f]);
    }
    let mut mac = [0; 6];
    for (word, pair) in (0u32..).zip(mac.chunks_exact_mut(2)) {
        registers.write(EERD, word << 8 | 1);
        let done = (0..1000).find_map(|_| {
            tsc::delay_us(10);
            let value = registers.read(EERD);
            (value & 1 << 4 != 0).then_some(value >> 16)
        })?;
        pair.copy_from_slice(&(done as u16).to_le_bytes());
    }
    Some(mac)
}

fn interrupt(argument: usize) {
    // SAFETY: the card that `start` leaked and registered.
    let card = unsafe { &*core::ptr::with_exposed_provenance::<E1000>(argument) };
    // Reading the causes clears them; none: another device on the line.
    if card.state.lock().registers.read(ICR) != 0 {
        net::arrived();
    }
}

impl State {
    /// Rings and receiver and transmitter. SDM "General Initialization and Reset Operation".
    fn set_up(&mut self) {
        let State { registers, rings, .. } = *self;
        let bytes = RING * DESCRIPTOR as u32;
        // The driver wants the link.
        registers.write(CTRL, registers.read(CTRL) | 1 << 6);
        for n in 0..128 {
            registers.write(MTA + 4 * n, 0);
        }
        for n in 0..RING {
            let address = self.buffer_address(n);
            self.put(n, address, 0);
        }
        let send = rings.0 + u64::from(bytes);
        for (at, base) in [(RDBAL, rings.0), (TDBAL, send)] {
            registers.write(at, base as u32);
            registers.write(at + 4, (base >> 32) as u32);
            registers.write(at + 8, bytes);
            registers.write(at + 0x10, 0);
            registers.write(at + 0x18, 0);
        }
        // Copper's gap (SDM "Transmit IPG Register").
        registers.write(TIPG, 10 | 8 << 10 | 6 << 20);
        registers.write(TCTL, 1 << 1 | 1 << 3 | 15 << 4 | 64 << 12);
        // All stations and groups, broadcast, no check sequence, buffers of 2 KiB.
        registers.write(RCTL, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15 | 1 << 26);
        registers.write(RDT, RING - 1);
    }

    /// Where descriptor `n` is: the receive ring's, then the transmit ring's.
    fn place(&self, n: u32) -> *mut u64 {
        phys_to_virt(self.rings).wrapping_add(n as usize * DESCRIPTOR).cast()
    }

    fn put(&self, n: u32, address: u64, word: u64) {
        let place = self.place(n);
        // SAFETY: a descriptor of the page that `start` took, aligned; the device reads it only
        // after the tail has passed it.
        unsafe { place.write_volatile(address) };
        // SAFETY: its second half.
        unsafe { place.add(1).write_volatile(word) };
    }

    /// The second half of a descriptor, with its status.
    fn word(&self, n: u32) -> u64 {
        // SAFETY: as in `put`.
        unsafe { self.place(n).add(1).read_volatile() }
    }

    fn buffer_address(&self, n: u32) -> u64 {
        self.buffers.0 + u64::from(n) * BUFFER as u64
    }

    fn buffer(&mut self, n: u32) -> &mut [u8] {
        let at = phys_to_virt(Phys(self.buffer_address(n)));
        // SAFETY: frames that `start` took for ever; the device has done with this buffer, as its
        // descriptor says.
        unsafe { core::slice::from_raw_parts_mut(at, BUFFER) }
    }
}

impl E1000 {
    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Sends a frame of up to [`MAX_FRAME`] bytes; false where no descriptor is free.
    pub fn send(&self, frame: &[u8]) -> bool {
        let mut state = self.state.lock();
        let done = |state: &State, n: u32| (state.word(RING + n) >> 32) as u8 & DD != 0;
        while state.oldest != state.tail && done(&state, state.oldest) {
            state.oldest = (state.oldest + 1) % RING;
        }
        let (n, next) = (state.tail, (state.tail + 1) % RING);
        if next == state.oldest {
            return false;
        }
        let len = frame.len().min(MAX_FRAME);
        state.buffer(RING + n)[..len].copy_from_slice(&frame[..len]);
        let address = state.buffer_address(RING + n);
        // End of packet, insert the check sequence, report.
        state.put(RING + n, address, len as u64 | 0x0b << 24);
        state.tail = next;
        fence(Ordering::Release);
        state.registers.write(TDT, next);
        true
    }

    /// Copies the next received frame to `to`. A frame in several buffers, or with an error, is passed over:
    /// its length is 0.
    pub fn receive(&self, to: &mut [u8]) -> Option<usize> {
        let mut state = self.state.lock();
        let n = state.next;
        let [low, high, _, _, status, errors, ..] = state.word(n).to_le_bytes();
        if status & DD == 0 {
            return None;
        }
        fence(Ordering::Acquire);
        let good = status & EOP != 0 && errors == 0;
        let len = usize::from(u16::from_le_bytes([low, high])).min(BUFFER).min(to.len());
        let len = if good { len } else { 0 };
        to[..len].copy_from_slice(&state.buffer(n)[..len]);
        let address = state.buffer_address(n);
        state.put(n, address, 0);
        fence(Ordering::Release);
        state.registers.write(RDT, n);
        state.next = (n + 1) % RING;
        Some(len)
    }
}
