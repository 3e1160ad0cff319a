//! The words that interrupt sources and local APICs exchange: what an I/O APIC, an MSI or an
//! interprocessor interrupt says on the interrupt bus. The board carries them; see `lapic`.

/// A destination that every local APIC matches.
pub const BROADCAST: u32 = u32::MAX;

/// How a message is to be taken. SDM 3A "Interrupt Command Register (ICR)"; all 3-bit codes exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// 0: the vector, to every destination.
    Fixed,
    /// 1: the vector, to one of the destinations.
    LowestPriority,
    /// 2: a system-management interrupt; this machine has no SMM.
    Smi,
    /// 3: reserved.
    Reserved,
    /// 4: a non-maskable interrupt.
    Nmi,
    /// 5: INIT.
    Init,
    /// 6: start-up at page `vector`.
    StartUp,
    /// 7: the vector is the 8259A's to give.
    ExtInt,
}

impl DeliveryMode {
    /// Decodes the low three bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }

    /// Whether the vector field names an interrupt vector of the destination.
    #[must_use]
    pub const fn has_vector(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

/// One message to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// An APIC ID, or a logical destination; [`BROADCAST`] is everyone.
    pub dest: u32,
    /// Whether `dest` is a logical destination.
    pub logical: bool,
    /// How it is to be taken.
    pub mode: DeliveryMode,
    /// The vector, or the start-up page.
    pub vector: u8,
    /// Whether it is level-triggered, so that its end must be told to the I/O APIC.
    pub level: bool,
}

impl Message {
    /// Decodes a message-signalled interrupt, the store of `data` to `address`.
    ///
    /// `None` when `address` is outside FEE0_0000h to FEEF_FFFFh, which is then no interrupt.
    /// SDM 3A "Message Address Register Format".
    #[must_use]
    pub const fn from_msi(address: u64, data: u32) -> Option<Self> {
        if address >> 20 != 0xFEE {
            return None;
        }
        Some(Self {
            dest: widen_destination((address >> 12) as u8),
            logical: address & 4 != 0,
            mode: DeliveryMode::from_bits(data >> 8),
            vector: data as u8,
            level: data & 0x8000 != 0,
        })
    }
}

/// The 32-bit destination that an 8-bit one means: FFh is everyone.
#[must_use]
pub const fn widen_destination(dest: u8) -> u32 {
    if dest == 0xFF { BROADCAST } else { dest as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_msi_is_a_store_into_the_fee_megabyte() {
        let message = Message::from_msi(0xFEE0_3004, 0x0000_C141).unwrap();
        assert_eq!(message.dest, 3);
        assert!(message.logical && message.level);
        assert_eq!(message.mode, DeliveryMode::LowestPriority);
        assert_eq!(message.vector, 0x41);
        assert_eq!(Message::from_msi(0xFEC0_0000, 0), None);
        assert_eq!(Message::from_msi(0x1_FEE0_0000, 0), None);
        assert_eq!(Message::from_msi(0xFEEF_F000, 0).unwrap().dest, BROADCAST);
    }
}
