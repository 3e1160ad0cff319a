//! COM1 (console) and COM2 (control channel): 16550s, polled at first, by interrupt later.
//! Output goes through a ring that the transmitter interrupt empties; a writer that finds it full
//! polls. Input waits in a ring until someone reads it. 16550D datasheet, "Registers".

// UNSAFETY: port I/O.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::ring::Ring;
use crate::cpu::ioapic;
use crate::cpu::lock::IrqLock;

/// The console.
pub static COM1: Serial = Serial::new(0x3f8, 4, &COM1_STATE);
/// The control channel.
pub static COM2: Serial = Serial::new(0x2f8, 3, &COM2_STATE);

// Apart from the ports, whose addresses are not 0: zeros alone take no room in the image.
static COM1_STATE: IrqLock<State> = IrqLock::new(State::new());
static COM2_STATE: IrqLock<State> = IrqLock::new(State::new());

const IER_RECEIVE: u8 = 1;
const IER_TRANSMIT: u8 = 2;
const LSR_DATA: u8 = 1;
const LSR_ROOM: u8 = 0x20;
const LSR_IDLE: u8 = 0x40;
const FIFO: usize = 16;
/// Reads of LSR before a stuck transmitter is given up.
const PATIENCE: u32 = 200_000;

struct State {
    input: Ring<32768>,
    output: Ring<32768>,
    /// The transmitter's interrupt is on.
    transmitting: bool,
    dropped: u32,
}

/// One port.
pub struct Serial {
    port: u16,
    irq: u8,
    present: AtomicBool,
    buffered: AtomicBool,
    state: &'static IrqLock<State>,
}

impl State {
    const fn new() -> State {
        State { input: Ring::new(), output: Ring::new(), transmitting: false, dropped: 0 }
    }
}

impl Serial {
    const fn new(port: u16, irq: u8, state: &'static IrqLock<State>) -> Serial {
        Serial {
            port,
            irq,
            present: AtomicBool::new(false),
            buffered: AtomicBool::new(false),
            state,
        }
    }

    /// Sets 115200 8N1 with FIFOs; false where no chip answers.
    pub fn init(&self) -> bool {
        self.write_register(7, 0x5a);
        if self.read_register(7) != 0x5a {
            return false;
        }
        let writes = [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b)];
        writes.into_iter().for_each(|(register, value)| self.write_register(register, value));
        self.present.store(true, Ordering::Release);
        true
    }

    /// True if [`Serial::init`] found a chip.
    pub fn is_present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// From polling to interrupts. The I/O APICs are up.
    ///
    /// # Errors
    /// Where the line cannot be routed; the port then stays polled, and gives no input.
    pub fn start_interrupts(&'static self) -> Result<(), ioapic::RouteError> {
        if !self.is_present() {
            return Ok(());
        }
        let number = usize::from(self.port);
        ioapic::route_isa(self.irq, interrupt, number)?;
        self.buffered.store(true, Ordering::Release);
        self.write_register(1, IER_RECEIVE);
        Ok(())
    }

    /// Writes text: each `\n` goes out as `\r\n`.
    pub fn write(&self, text: &[u8]) {
        for line in text.split_inclusive(|&b| b == b'\n') {
            match line {
                [body @ .., b'\n'] => {
                    self.write_raw(body);
                    self.write_raw(b"\r\n");
                }
                body => self.write_raw(body),
            }
        }
    }

    /// Writes bytes as they are.
    pub fn write_raw(&self, bytes: &[u8]) {
        if !self.is_present() {
            return;
        }
        if !self.buffered.load(Ordering::Acquire) {
            return bytes.iter().for_each(|&byte| self.send_polled(byte));
        }
        let mut state = self.state.lock();
        for &byte in bytes {
            while !state.output.push(byte) {
                let Some(oldest) = state.output.pop() else { break };
                self.send_polled(oldest);
            }
        }
        self.transmit(&mut state);
    }

    /// Gives the chip what it takes at once, and asks for an interrupt if more waits. An emulated chip
    /// often takes everything, and then there is none.
    fn transmit(&self, state: &mut State) {
        while !state.output.is_empty() && self.read_register(5) & LSR_ROOM != 0 {
            for _ in 0..FIFO {
                let Some(byte) = state.output.pop() else { break };
                self.write_register(0, byte);
            }
        }
        let more = !state.output.is_empty();
        if more != state.transmitting {
            state.transmitting = more;
            let enable = if more { IER_RECEIVE | IER_TRANSMIT } else { IER_RECEIVE };
            self.write_register(1, enable);
        }
    }

    /// The oldest byte that came in.
    pub fn read(&self) -> Option<u8> {
        self.state.lock().input.pop()
    }

    /// True if input waits.
    pub fn has_input(&self) -> bool {
        !self.state.lock().input.is_empty()
    }

    /// Bytes lost because nobody read them in time, since the last call.
    pub fn take_dropped(&self) -> u32 {
        core::mem::take(&mut self.state.lock().dropped)
    }

    /// Sends what is buffered and waits until the last bit is out. Does nothing to a port whose
    /// lock is held: it may be our own, in a panic.
    pub fn flush(&self) {
        if !self.is_present() {
            return;
        }
        if let Some(mut state) = self.state.try_lock() {
            while let Some(byte) = state.output.pop() {
                self.send_polled(byte);
            }
        }
        self.wait(LSR_IDLE);
    }

    /// Writes bytes as they are, past buffer and lock. For a machine that ends.
    pub fn write_polled(&self, bytes: &[u8]) {
        if self.is_present() {
            bytes.iter().for_each(|&byte| self.send_polled(byte));
        }
    }

    fn on_interrupt(&self) {
        let mut state = self.state.lock();
        // Bounded: a chip that floods gets its next interrupt at once anyway.
        for _ in 0..64 {
            if self.read_register(2) & 1 != 0 {
                break;
            }
            while self.read_register(5) & LSR_DATA != 0 {
                let byte = self.read_register(0);
                if !state.input.push(byte) {
                    state.dropped = state.dropped.saturating_add(1);
                    break;
                }
            }
            self.transmit(&mut state);
        }
    }

    fn send_polled(&self, byte: u8) {
        self.wait(LSR_ROOM);
        self.write_register(0, byte);
    }

    fn wait(&self, bit: u8) {
        for _ in 0..PATIENCE {
            if self.read_register(5) & bit != 0 {
                break;
            }
            core::hint::spin_loop();
        }
    }

    fn read_register(&self, register: u16) -> u8 {
        // SAFETY: the port belongs to this driver alone.
        unsafe { x86::io::inb(self.port + register) }
    }

    fn write_register(&self, register: u16, value: u8) {
        // SAFETY: as for reading.
        unsafe { x86::io::outb(self.port + register, value) }
    }
}

fn interrupt(port: usize) {
    let serial = if port == usize::from(COM1.port) { &COM1 } else { &COM2 };
    serial.on_interrupt();
    if serial.has_input() {
        super::input_arrived();
    }
}

/// Empties both ports' buffers.
pub fn flush_all() {
    COM1.flush();
    COM2.flush();
}

/// COM1 without buffer and lock, and the screen: for faults and panics.
#[derive(Clone, Copy, Debug)]
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(body) => {
                    COM1.write_polled(body.as_bytes());
                    COM1.write_polled(b"\r\n");
                }
                None => COM1.write_polled(line.as_bytes()),
            }
        }
        super::screen::alarm(format_args!("{text}"));
        Ok(())
    }
}
