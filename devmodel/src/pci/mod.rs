//! PCI bus 0: configuration mechanism 1, the functions' configuration spaces, interrupt routing.
//!
//! Functions' own registers are other chips; the board asks here where they are. Left out: other
//! buses, MSI, capabilities. PCI Local Bus Specification 2.1, "Configuration Mechanism #1".

mod config;
mod kind;
mod routing;
mod state;
#[cfg(test)]
mod tests;

use config::{COMMAND, STATUS, STATUS_INTX};
use kind::{PIRQ_OFF, PIRQ_ROUTE, SMRAM, SMRAM_OPEN};

pub use config::{Function, Region, SPACE};
pub use kind::{Bar, Generic, Kind};
pub use routing::{Shadow, pirq_of};
pub use state::{BusState, FunctionState};

/// The most functions a bus has.
pub const MAX_FUNCTIONS: usize = 16;

/// Where a function is on bus 0: device number and function number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevFn(u8);

impl DevFn {
    /// Device 0 to 31, function 0 to 7; higher bits are cut off.
    #[must_use]
    pub const fn new(device: u8, function: u8) -> Self {
        Self(device << 3 | function & 7)
    }

    /// The device number.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// The function number.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 & 7
    }

    /// Both in one byte, as bits 15:8 of an address have them.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// What a configuration write asks of the board.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciEffect {
    /// Nothing.
    Nothing,
    /// Regions of this function moved, appeared or disappeared: look at [`Function::region`].
    Decode(DevFn),
    /// The PIRQs go to other interrupts: look at [`Bus::isa_irqs`].
    Routing,
    /// PAM or SMRAM changed: look at [`Bus::shadow`] and [`Bus::smram_open`].
    Memory,
    /// A register of the function's own changed: IDE timing, PM base, SMBus base.
    Device(DevFn),
}

/// Why a function cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// There is a function there already.
    Taken,
    /// There are [`MAX_FUNCTIONS`] already.
    Full,
}

/// Where the Xen platform device is, on boards that have it.
pub const XEN_PLATFORM: DevFn = DevFn::new(3, 0);

/// No function there.
const EMPTY: u8 = 0xFF;

/// Bus 0 and the mechanism that reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    // Fixed
    /// Index into `functions` by device and function number.
    slots: [u8; 256],
    /// Where each function is.
    places: [DevFn; MAX_FUNCTIONS],
    count: usize,
    // Guest-visible
    address: u32,
    functions: [Function; MAX_FUNCTIONS],
    /// Bit `n` set: function `n` asserts its interrupt pin.
    intx: u16,
    // Derived
    /// Bit `n` set: function `n` reaches PIRQ A to D.
    pirqs: [u16; 4],
    /// The ISA interrupts of PIRQ A to D, one bit or none each.
    routes: [u16; 4],
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// A bus with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        let none = Generic {
            vendor: 0xFFFF,
            device: 0xFFFF,
            class: 0,
            revision: 0,
            subsystem: (0, 0),
            interrupt_pin: 0,
            bars: [Bar::None; 6],
        };
        Self {
            slots: [EMPTY; 256],
            places: [DevFn(0); MAX_FUNCTIONS],
            count: 0,
            address: 0,
            functions: [const { None::<Function> }; MAX_FUNCTIONS]
                .map(|_| Function::new(Kind::Generic(none))),
            intx: 0,
            pirqs: [0; 4],
            routes: [0; 4],
        }
    }

    /// The functions of the board that every installer knows: host bridge at 0.0, PIIX3 at 1.0 with
    /// IDE at 1.1 and power management at 1.3, display at 2.0. The Xen platform device, if there is
    /// one, is added at 3.0 ([`XEN_PLATFORM`]).
    #[must_use]
    pub fn pc(frame_buffer: u32, rom: u32) -> Self {
        let mut bus = Self::new();
        for (device, function, kind) in [
            (0, 0, Kind::I440fx),
            (1, 0, Kind::Piix3Isa),
            (1, 1, Kind::Piix3Ide),
            (1, 3, Kind::Piix4Pm),
            (2, 0, Kind::Vga { frame_buffer, rom }),
        ] {
            // An empty bus has room for five functions in five places.
            let _ = bus.add(DevFn::new(device, function), kind);
        }
        bus
    }

    /// Adds a function.
    ///
    /// # Errors
    /// The place is taken, or the bus is full.
    pub fn add(&mut self, at: DevFn, kind: Kind) -> Result<(), AddError> {
        if self.slots[usize::from(at.0)] != EMPTY {
            return Err(AddError::Taken);
        }
        let n = self.count;
        let function = self.functions.get_mut(n).ok_or(AddError::Full)?;
        *function = Function::new(kind);
        self.places[n] = at;
        self.slots[usize::from(at.0)] = n as u8;
        self.count += 1;
        self.reroute();
        Ok(())
    }

    /// Reset: no region is decoded, no PIRQ routed. Interrupt pins are let go.
    pub fn reset(&mut self) {
        self.address = 0;
        self.intx = 0;
        for function in &mut self.functions {
            function.reset();
        }
        self.reroute();
    }

    /// The function at a place.
    #[must_use]
    pub fn function(&self, at: DevFn) -> Option<&Function> {
        self.functions.get(usize::from(self.slots[usize::from(at.0)]))
    }

    /// All functions and their places.
    pub fn functions(&self) -> impl Iterator<Item = (DevFn, &Function)> {
        self.places.iter().copied().zip(&self.functions).take(self.count)
    }

    /// The first function of a kind, such as [`Kind::Piix4Pm`].
    #[must_use]
    pub fn find(&self, kind: Kind) -> Option<(DevFn, &Function)> {
        self.functions().find(|(_, function)| function.kind() == kind)
    }

    /// Port CF8h, read as 32 bits. Narrower accesses to CF8h to CFBh are not configuration's.
    #[inline]
    #[must_use]
    pub const fn address(&self) -> u32 {
        self.address
    }

    /// Port CF8h, written as 32 bits.
    #[inline]
    pub fn set_address(&mut self, value: u32) {
        self.address = value & 0x80FF_FFFC;
    }

    /// Ports CFCh to CFFh (`port` is the lower two bits), read with `width` 1, 2 or 4. Bytes beyond
    /// CFFh and functions that are not there read as all-ones.
    #[inline]
    #[must_use]
    pub fn read_data(&self, port: u8, width: u8) -> u32 {
        if !self.is_configuration() {
            return all_ones(width);
        }
        self.read(DevFn((self.address >> 8) as u8), self.address as u8 | port & 3, width)
    }

    /// Ports CFCh to CFFh (`port` is the lower two bits), written with `width` 1, 2 or 4.
    pub fn write_data(&mut self, port: u8, width: u8, value: u32) -> PciEffect {
        if !self.is_configuration() {
            return PciEffect::Nothing;
        }
        let at = DevFn((self.address >> 8) as u8);
        self.write(at, self.address as u8 | port & 3, width, value)
    }

    /// Writes configuration space as the guest does, for firmware that has no guest code. The
    /// bytes stay within the dword of `offset`.
    pub fn write(&mut self, at: DevFn, offset: u8, width: u8, value: u32) -> PciEffect {
        let n = usize::from(self.slots[usize::from(at.0)]);
        let Some(function) = self.functions.get_mut(n) else { return PciEffect::Nothing };
        let before = function.dword(offset);
        let room = 4 - (offset & 3);
        for (byte, value) in (0..width.min(room)).zip(value.to_le_bytes()) {
            function.write_byte(offset + byte, value);
        }
        if function.dword(offset) == before {
            return PciEffect::Nothing;
        }
        self.effect_of(at, n, offset & 0xFC)
    }

    /// Reads `width` bytes of configuration space. Bytes beyond the dword of `offset` and functions
    /// that are not there read as all-ones.
    #[inline]
    #[must_use]
    pub fn read(&self, at: DevFn, offset: u8, width: u8) -> u32 {
        let slot = usize::from(self.slots[usize::from(at.0)]);
        let Some(function) = self.functions.get(slot) else { return all_ones(width) };
        let shift = u32::from(offset & 3) * 8;
        let beyond = !(u32::MAX >> shift);
        (function.dword(offset) >> shift | beyond) & all_ones(width)
    }

    /// Whether port CFCh reaches this bus: enabled, and bus 0.
    #[inline]
    const fn is_configuration(&self) -> bool {
        self.address & 0x80FF_0000 == 0x8000_0000
    }

    fn effect_of(&mut self, at: DevFn, n: usize, register: u8) -> PciEffect {
        match (register, self.functions[n].kind()) {
            (0x04, _) => {
                self.reroute();
                PciEffect::Decode(at)
            }
            (0x10..=0x24 | 0x30, _) => PciEffect::Decode(at),
            (0x58 | 0x5C | 0x70, Kind::I440fx) => PciEffect::Memory,
            (0x60, Kind::Piix3Isa) => {
                self.reroute();
                PciEffect::Routing
            }
            (0x40.., Kind::Piix3Ide | Kind::Piix4Pm) => PciEffect::Device(at),
            _ => PciEffect::Nothing,
        }
    }
}

#[inline]
fn all_ones(width: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(width.clamp(1, 4)))
}
