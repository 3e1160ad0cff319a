//! The 16550A UART.
//!
//! A byte written is sent at once: the transmitter is always empty again before the guest looks, while the
//! THRE interrupt follows the datasheet (PC16550D, "Interrupt Identification Register"). The
//! character timeout runs in real character times. Parity and framing errors never occur, a break
//! can. Left out: DMA signalling (FCR bit 3).

use arch::Nanos;

use crate::state::{LoadError, require};

mod fifo;
#[cfg(test)]
mod tests;

use fifo::Fifo;

const IER_RDA: u8 = 1;
const IER_THRE: u8 = 2;
const IER_LINE: u8 = 4;
const IER_MODEM: u8 = 8;

const LCR_DLAB: u8 = 0x80;

const MCR_DTR: u8 = 0x01;
const MCR_RTS: u8 = 0x02;
const MCR_OUT1: u8 = 0x04;
const MCR_OUT2: u8 = 0x08;
const MCR_LOOP: u8 = 0x10;

const LSR_DATA_READY: u8 = 0x01;
const LSR_OVERRUN: u8 = 0x02;
const LSR_BREAK: u8 = 0x10;
const LSR_THRE: u8 = 0x20;
const LSR_TEMT: u8 = 0x40;
const LSR_FIFO_ERROR: u8 = 0x80;

const MSR_TERI: u8 = 0x04;
const MSR_CTS: u8 = 0x10;
const MSR_DSR: u8 = 0x20;
const MSR_RI: u8 = 0x40;
const MSR_DCD: u8 = 0x80;

/// The bit rate of divisor 1: 1.8432 MHz / 16.
const BASE_BAUD: u64 = 115_200;

/// IIR bits 3 to 0, best first (PC16550D, "Interrupt Control Functions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Interrupt {
    Line = 0x06,
    DataAvailable = 0x04,
    Timeout = 0x0C,
    TransmitterEmpty = 0x02,
    Modem = 0x00,
}

/// The modem's input pins, as the guest sees them in MSR bits 4 to 7 (true is asserted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the pins' own names")]
pub struct ModemInputs {
    pub cts: bool,
    pub dsr: bool,
    pub ring: bool,
    pub dcd: bool,
}

impl ModemInputs {
    /// A terminal on a null-modem cable, listening.
    pub const CONNECTED: Self = Self { cts: true, dsr: true, ring: false, dcd: true };

    const fn bits(self) -> u8 {
        (self.cts as u8) << 4
            | (self.dsr as u8) << 5
            | (self.ring as u8) << 6
            | (self.dcd as u8) << 7
    }
}

/// A 16550A. Its registers are offsets 0 to 7 (COM1: 3F8h to 3FFh).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uart {
    // Guest-visible
    ier: u8,
    lcr: u8,
    mcr: u8,
    /// Bits 0 to 3 are the deltas; bits 4 to 7 are the pins, or in loopback the MCR.
    msr: u8,
    scratch: u8,
    divisor: u16,
    fifo_enabled: bool,
    trigger: u8,
    fifo: Fifo,
    /// Overrun and break, until LSR is read.
    line_errors: u8,
    thre_pending: bool,
    timeout: bool,
    /// The last time a byte came or went; the character timeout counts from here.
    active: Nanos,
    /// The modem's pins outside loopback, as MSR bits 4 to 7.
    pins: u8,
    // Derived
    timeout_ns: u64,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// The chip after reset, with a terminal connected and a divisor of 12 (9600 Bd).
    #[must_use]
    pub const fn new() -> Self {
        let mut uart = Self {
            ier: 0,
            lcr: 0,
            mcr: 0,
            msr: ModemInputs::CONNECTED.bits(),
            scratch: 0,
            divisor: 12,
            fifo_enabled: false,
            trigger: 1,
            fifo: Fifo::new(),
            line_errors: 0,
            thre_pending: false,
            timeout: false,
            active: Nanos::ZERO,
            pins: ModemInputs::CONNECTED.bits(),
            timeout_ns: 0,
        };
        uart.timeout_ns = uart.four_characters();
        uart
    }

    /// Reads register `offset` (modulo 8).
    #[inline]
    pub fn read(&mut self, offset: u8, now: Nanos) -> u8 {
        match offset & 7 {
            0 if self.dlab() => self.divisor.to_le_bytes()[0],
            1 if self.dlab() => self.divisor.to_le_bytes()[1],
            0 => self.read_rbr(now),
            1 => self.ier,
            2 => self.read_iir(now),
            3 => self.lcr,
            4 => self.mcr,
            5 => self.read_lsr(),
            6 => {
                let msr = self.msr;
                self.msr &= 0xF0;
                msr
            }
            _ => self.scratch,
        }
    }

    /// Writes register `offset` (modulo 8). Returns the byte that goes out on the line, if one does.
    #[inline]
    pub fn write(&mut self, offset: u8, value: u8, now: Nanos) -> Option<u8> {
        match offset & 7 {
            0 if self.dlab() => self.set_divisor(self.divisor & 0xFF00 | u16::from(value)),
            1 if self.dlab() => self.set_divisor(self.divisor & 0xFF | u16::from(value) << 8),
            0 => return self.transmit(value, now),
            1 => self.write_ier(value, now),
            2 => self.write_fcr(value),
            3 => self.write_lcr(value, now),
            4 => {
                self.mcr = value & 0x1F;
                self.update_modem();
            }
            5 | 6 => {}
            _ => self.scratch = value,
        }
        None
    }

    /// A byte comes in from the line. False when there is no room (or the chip is in loopback):
    /// nothing is lost then, offer it again after the guest has read.
    pub fn receive(&mut self, byte: u8, now: Nanos) -> bool {
        let room = self.room() > 0;
        if room {
            self.push(byte, false, now);
        }
        room
    }

    /// Whether the guest waits for input by interrupt, as a driver does whose port is open.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.ier & IER_RDA != 0
    }

    /// A break condition comes in from the line. False as for [`Uart::receive`].
    pub fn receive_break(&mut self, now: Nanos) -> bool {
        let room = self.room() > 0;
        if room {
            self.push(0, true, now);
        }
        room
    }

    /// How many bytes [`Uart::receive`] will take now.
    #[must_use]
    pub fn room(&self) -> usize {
        let depth = if self.mcr & MCR_LOOP != 0 { 0 } else { self.depth() };
        usize::from(depth.saturating_sub(self.fifo.len()))
    }

    /// Drives the modem's input pins.
    pub fn set_modem(&mut self, inputs: ModemInputs) {
        self.pins = inputs.bits();
        self.update_modem();
    }

    /// The RTS output: the guest is ready to receive.
    #[must_use]
    pub fn rts(&self) -> bool {
        self.mcr & (MCR_RTS | MCR_LOOP) == MCR_RTS
    }

    /// The DTR output: the guest has opened the port.
    #[must_use]
    pub fn dtr(&self) -> bool {
        self.mcr & (MCR_DTR | MCR_LOOP) == MCR_DTR
    }

    /// The line to the interrupt controller. On a PC OUT2 is its gate, and loopback disconnects
    /// OUT2 (PC16550D, "Modem Control Register", bits 3 and 4).
    #[inline]
    #[must_use]
    pub fn irq(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.interrupt().is_some()
    }

    /// When the character timeout will raise the line.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Nanos> {
        let waits = self.fifo_enabled
            && self.ier & IER_RDA != 0
            && !self.timeout
            && self.fifo.len() > 0
            && self.fifo.len() < self.trigger;
        waits.then(|| self.active + self.timeout_ns)
    }

    /// Lets time pass up to `now`.
    #[inline]
    pub fn advance(&mut self, now: Nanos) {
        if self.due().is_some_and(|due| due <= now) {
            self.timeout = true;
        }
    }

    #[inline]
    fn dlab(&self) -> bool {
        self.lcr & LCR_DLAB != 0
    }

    /// How many received bytes the chip holds before one more is an overrun.
    fn depth(&self) -> u8 {
        if self.fifo_enabled { Fifo::DEPTH } else { 1 }
    }

    fn read_rbr(&mut self, now: Nanos) -> u8 {
        self.timeout = false;
        self.active = now;
        let byte = self.fifo.pop();
        self.reveal_break();
        byte
    }

    fn read_iir(&mut self, now: Nanos) -> u8 {
        self.advance(now);
        let fifo_bits = if self.fifo_enabled { 0xC0 } else { 0 };
        let interrupt = self.interrupt();
        if interrupt == Some(Interrupt::TransmitterEmpty) {
            self.thre_pending = false;
        }
        fifo_bits | interrupt.map_or(0x01, |it| it as u8)
    }

    fn read_lsr(&mut self) -> u8 {
        let mut lsr = LSR_THRE | LSR_TEMT | self.line_errors;
        if self.fifo.len() > 0 {
            lsr |= LSR_DATA_READY;
        }
        if self.fifo_enabled && self.fifo.has_break() {
            lsr |= LSR_FIFO_ERROR;
        }
        self.line_errors = 0;
        lsr
    }

    fn transmit(&mut self, byte: u8, now: Nanos) -> Option<u8> {
        // THR fills and is empty again at once: a fresh THRE interrupt.
        self.thre_pending = true;
        if self.mcr & MCR_LOOP == 0 {
            return Some(byte);
        }
        self.push(byte, false, now);
        None
    }

    fn write_ier(&mut self, value: u8, now: Nanos) {
        self.advance(now);
        // Enabling it on an idle transmitter raises it; Linux tests for that at start-up
        // (8250_port.c, "UARTs that do not reassert THRE").
        if value & !self.ier & IER_THRE != 0 {
            self.thre_pending = true;
        }
        if value & !self.ier & IER_RDA != 0 {
            // Time spent with the interrupt off counts as well.
            self.ier |= IER_RDA;
            self.advance(now);
        }
        self.ier = value & 0x0F;
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & 1 != 0;
        if enable != self.fifo_enabled || value & 2 != 0 {
            // "Changing from FIFO mode to 16450 mode and vice versa clears the FIFOs."
            self.fifo.clear();
            self.timeout = false;
        }
        self.fifo_enabled = enable;
        if enable {
            self.trigger = [1, 4, 8, 14][usize::from(value >> 6)];
        }
    }

    fn write_lcr(&mut self, value: u8, now: Nanos) {
        let set_break = value & !self.lcr & 0x40 != 0;
        self.lcr = value;
        self.timeout_ns = self.four_characters();
        if set_break && self.mcr & MCR_LOOP != 0 {
            self.push(0, true, now);
        }
    }

    fn set_divisor(&mut self, divisor: u16) {
        self.divisor = divisor;
        self.timeout_ns = self.four_characters();
    }

    /// Four character times in ns (PC16550D, "FIFO Interrupt Mode Operation"). A divisor of 0
    /// stops a real baud generator; here it counts as 65,536.
    const fn four_characters(&self) -> u64 {
        let divisor = if self.divisor == 0 { 0x1_0000 } else { self.divisor as u64 };
        let parity = (self.lcr >> 3 & 1) as u64;
        let stop = 1 + (self.lcr >> 2 & 1) as u64;
        let bits = 1 + 5 + (self.lcr & 3) as u64 + parity + stop;
        4 * bits * divisor * 1_000_000_000 / BASE_BAUD
    }

    fn push(&mut self, byte: u8, is_break: bool, now: Nanos) {
        if self.fifo.len() >= self.depth() {
            self.line_errors |= LSR_OVERRUN;
            if !self.fifo_enabled {
                // The 16450 overwrites; the FIFO keeps what it has and loses the new byte.
                self.fifo.clear();
                self.fifo.push(byte, is_break);
                self.reveal_break();
            }
            return;
        }
        self.active = now;
        // A byte restarts the timer but does not take back a timeout; only a read does.
        self.fifo.push(byte, is_break);
        if self.fifo.len() == 1 {
            self.reveal_break();
        }
    }

    /// A break shows in LSR when its byte is the next to be read.
    fn reveal_break(&mut self) {
        if self.fifo.take_front_break() {
            self.line_errors |= LSR_BREAK;
        }
    }

    fn update_modem(&mut self) {
        let looped = self.mcr & MCR_LOOP != 0;
        let loop_bit = |mcr_bit: u8, msr_bit: u8| if self.mcr & mcr_bit != 0 { msr_bit } else { 0 };
        let level = if looped {
            loop_bit(MCR_RTS, MSR_CTS)
                | loop_bit(MCR_DTR, MSR_DSR)
                | loop_bit(MCR_OUT1, MSR_RI)
                | loop_bit(MCR_OUT2, MSR_DCD)
        } else {
            self.pins
        };
        let changed = (self.msr ^ level) & 0xF0;
        let mut deltas = (changed & !MSR_RI) >> 4;
        if changed & MSR_RI != 0 && level & MSR_RI == 0 {
            deltas |= MSR_TERI;
        }
        self.msr = level | self.msr & 0x0F | deltas;
    }

    /// The best enabled interrupt that is pending.
    #[inline]
    fn interrupt(&self) -> Option<Interrupt> {
        let enabled = |bit: u8| self.ier & bit != 0;
        let trigger = if self.fifo_enabled { self.trigger } else { 1 };
        if enabled(IER_LINE) && self.line_errors != 0 {
            Some(Interrupt::Line)
        } else if enabled(IER_RDA) && self.fifo.len() >= trigger {
            Some(Interrupt::DataAvailable)
        } else if enabled(IER_RDA) && self.timeout {
            Some(Interrupt::Timeout)
        } else if enabled(IER_THRE) && self.thre_pending {
            Some(Interrupt::TransmitterEmpty)
        } else if enabled(IER_MODEM) && self.msr & 0x0F != 0 {
            Some(Interrupt::Modem)
        } else {
            None
        }
    }

    /// The registers, to be written down.
    #[must_use]
    pub fn save(&self) -> UartState {
        let Self {
            ier,
            lcr,
            mcr,
            msr,
            scratch,
            divisor,
            fifo_enabled,
            trigger,
            fifo,
            line_errors,
            thre_pending,
            timeout,
            active,
            pins,
            timeout_ns: _,
        } = self;
        let (received, received_len, breaks) = fifo.contents();
        UartState {
            version: UartState::VERSION,
            ier: *ier,
            lcr: *lcr,
            mcr: *mcr,
            msr: *msr,
            scratch: *scratch,
            divisor: *divisor,
            fifo_enabled: *fifo_enabled,
            trigger: *trigger,
            received,
            received_len,
            breaks,
            line_errors: *line_errors,
            thre_pending: *thre_pending,
            timeout: *timeout,
            active: *active,
            pins: *pins,
        }
    }

    /// Takes over saved registers.
    ///
    /// # Errors
    /// Another version, or values that no chip holds; the chip is then unchanged.
    pub fn load(&mut self, state: &UartState) -> Result<(), LoadError> {
        let UartState {
            version,
            ier,
            lcr,
            mcr,
            msr,
            scratch,
            divisor,
            fifo_enabled,
            trigger,
            received,
            received_len,
            breaks,
            line_errors,
            thre_pending,
            timeout,
            active,
            pins,
        } = *state;
        if version != UartState::VERSION {
            return Err(LoadError::Version);
        }
        require(ier & 0xF0 == 0, "ier")?;
        require(mcr & 0xE0 == 0, "mcr")?;
        require(pins & 0x0F == 0, "pins")?;
        require(matches!(trigger, 1 | 4 | 8 | 14), "trigger")?;
        require(line_errors & !(LSR_OVERRUN | LSR_BREAK) == 0, "line_errors")?;
        require(received_len <= if fifo_enabled { Fifo::DEPTH } else { 1 }, "received_len")?;
        require(!timeout || fifo_enabled && received_len > 0, "timeout")?;
        let fifo = Fifo::from_contents(received, received_len, breaks)
            .ok_or(LoadError::Impossible("breaks"))?;
        let mut new = Self {
            ier,
            lcr,
            mcr,
            msr,
            scratch,
            divisor,
            fifo_enabled,
            trigger,
            fifo,
            line_errors,
            thre_pending,
            timeout,
            active,
            pins,
            timeout_ns: 0,
        };
        new.timeout_ns = new.four_characters();
        new.update_modem();
        require(new.msr == msr, "msr")?;
        *self = new;
        Ok(())
    }
}

/// A saved [`Uart`]; `received` is oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the chip's own of the same name")]
pub struct UartState {
    pub version: u16,
    pub ier: u8,
    pub lcr: u8,
    pub mcr: u8,
    pub msr: u8,
    pub scratch: u8,
    pub divisor: u16,
    pub fifo_enabled: bool,
    pub trigger: u8,
    pub received: [u8; 16],
    pub received_len: u8,
    /// Bit n: byte n of `received` came with a break that LSR has not shown yet.
    pub breaks: u16,
    pub line_errors: u8,
    pub thre_pending: bool,
    pub timeout: bool,
    pub active: Nanos,
    pub pins: u8,
}

impl UartState {
    /// The version that this model writes and reads.
    pub const VERSION: u16 = 1;
}
