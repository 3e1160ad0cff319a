//! Which destinations a local APIC answers to. SDM 3A "Determining IPI Destination".

use crate::apicmsg::BROADCAST;

use super::Mode;

/// What a local APIC compares destinations with; small enough to publish in one atomic word, so
/// that other CPUs can route to an APIC which they do not own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicAddress {
    /// The mode by which `id` and `ldr` are read.
    pub mode: Mode,
    /// The APIC ID: 32 bits in x2APIC mode, 8 otherwise.
    pub id: u32,
    /// The 8-bit logical ID of xAPIC mode. In x2APIC mode it follows from `id`.
    pub ldr: u8,
    /// Whether xAPIC logical destinations use the flat model, not clusters.
    pub flat: bool,
}

impl ApicAddress {
    /// The logical ID of x2APIC mode. SDM 3A "Deriving Logical x2APIC ID from the Local x2APIC ID".
    #[must_use]
    pub const fn x2apic_ldr(id: u32) -> u32 {
        (id >> 4) << 16 | 1 << (id & 15)
    }

    /// Whether a message to `dest` is for this APIC. A disabled one gets nothing.
    #[must_use]
    pub const fn matches(&self, dest: u32, logical: bool) -> bool {
        match (self.mode, logical) {
            (Mode::Disabled, _) => false,
            _ if dest == BROADCAST => true,
            (_, false) => dest == self.id,
            (Mode::X2Apic, true) => {
                let own = Self::x2apic_ldr(self.id);
                own >> 16 == dest >> 16 && own & dest & 0xFFFF != 0
            }
            (Mode::XApic, true) => {
                let own = self.ldr as u32;
                if dest > 0xFF {
                    false
                } else if self.flat {
                    own & dest != 0
                } else {
                    (dest >> 4 == own >> 4 || dest >> 4 == 15) && own & dest & 15 != 0
                }
            }
        }
    }

    /// Packs into one word.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::XApic => 1,
            Mode::X2Apic => 2,
        };
        mode << 48 | (self.flat as u64) << 40 | (self.ldr as u64) << 32 | self.id as u64
    }

    /// Unpacks what [`Self::to_bits`] packed; an unknown mode is a disabled APIC.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let mode = match bits >> 48 {
            1 => Mode::XApic,
            2 => Mode::X2Apic,
            _ => Mode::Disabled,
        };
        let flat = bits >> 40 & 1 != 0;
        Self { mode, id: bits as u32, ldr: (bits >> 32) as u8, flat }
    }
}
