//! PCI configuration by mechanism 1.

use crate::port::{in32, out32};

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its bus.
    pub bus: u8,
    /// Its device.
    pub device: u8,
    /// Its function.
    pub function: u8,
}

impl Function {
    fn select(self, register: u8) {
        let address = 1 << 31
            | u32::from(self.bus) << 16
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(register & 0xfc);
        out32(0xcf8, address);
    }

    /// Reads a register of four bytes.
    pub fn read(self, register: u8) -> u32 {
        self.select(register);
        in32(0xcfc)
    }

    /// Writes a register of four bytes.
    pub fn write(self, register: u8, value: u32) {
        self.select(register);
        out32(0xcfc, value);
    }
}

/// Every function of bus 0.
pub fn all() -> impl Iterator<Item = Function> {
    (0..=255u8)
        .map(|slot| Function { bus: 0, device: slot >> 3, function: slot & 7 })
        .filter(|it| it.read(0) != 0xffff_ffff)
}

/// Finds the first function of a class and subclass.
pub fn find(class: u16) -> Option<Function> {
    all().find(|it| it.read(8) >> 16 == class.into())
}
