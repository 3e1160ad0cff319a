//! Offsets and bits of the registers, and the decoding of an offset. Intel "PCI/PCI-X Family of Gigabit Ethernet
//! Controllers Software Developer's Manual", 317453 ("SDM" below), "Register Descriptions".

pub(super) mod ctrl {
    /// Link up: the driver wants the link.
    pub const SLU: u32 = 1 << 6;
    /// Software reset; clears itself.
    pub const RST: u32 = 1 << 26;
    /// VLAN mode: tags are taken off and put on.
    pub const VME: u32 = 1 << 30;
    /// PHY reset; clears itself.
    pub const PHY_RST: u32 = 1 << 31;
    /// After reset: full duplex, 1000 Mb/s, link up.
    pub const RESET: u32 = 1 | 1 << 9 | SLU;
}

pub(super) mod status {
    /// Full duplex at 1000 Mb/s.
    pub const GIGABIT: u32 = 0x283;
    /// The link is up; part of [`GIGABIT`].
    pub const LU: u32 = 2;
}

pub(super) mod eecd {
    /// Clock.
    pub const SK: u32 = 1;
    /// Chip select.
    pub const CS: u32 = 2;
    /// Data in.
    pub const DI: u32 = 4;
    /// Data out.
    pub const DO: u32 = 8;
    /// Software asks for the pins.
    pub const REQ: u32 = 1 << 6;
    /// They are given.
    pub const GNT: u32 = 1 << 7;
    /// There is an EEPROM.
    pub const PRES: u32 = 1 << 8;
    /// What a write keeps.
    pub const WRITABLE: u32 = SK | CS | DI | 0x30 | REQ;
}

/// Interrupt causes. SDM "Interrupt Cause Read Register".
pub mod cause {
    /// A descriptor that asked for it was written back.
    pub const TXDW: u32 = 1;
    /// The transmit ring is empty.
    pub const TXQE: u32 = 1 << 1;
    /// The link went up or down.
    pub const LSC: u32 = 1 << 2;
    /// Few receive descriptors are left.
    pub const RXDMT0: u32 = 1 << 4;
    /// A frame was received.
    pub const RXT0: u32 = 1 << 7;
    /// An MDIC access is finished.
    pub const MDAC: u32 = 1 << 9;
    /// All that there are.
    pub const ALL: u32 = 0x1_FFFF;
}

pub(super) mod rctl {
    pub const EN: u32 = 1 << 1;
    pub const UPE: u32 = 1 << 3;
    pub const MPE: u32 = 1 << 4;
    pub const LPE: u32 = 1 << 5;
    pub const BAM: u32 = 1 << 15;
    pub const VFE: u32 = 1 << 18;
    pub const BSEX: u32 = 1 << 25;
    pub const SECRC: u32 = 1 << 26;
}

pub(super) mod tctl {
    pub const EN: u32 = 1 << 1;
    pub const PSP: u32 = 1 << 3;
}

/// Statistics by their place in the block at 4000h, in dwords. SDM "Statistics Registers".
pub(super) mod stat {
    pub const MPC: usize = 0x10 / 4;
    pub const GPRC: usize = 0x74 / 4;
    pub const BPRC: usize = 0x78 / 4;
    pub const MPRC: usize = 0x7C / 4;
    pub const GPTC: usize = 0x80 / 4;
    pub const GORC: usize = 0x88 / 4;
    pub const GOTC: usize = 0x90 / 4;
    pub const TOR: usize = 0xC0 / 4;
    pub const TOT: usize = 0xC8 / 4;
    pub const TPR: usize = 0xD0 / 4;
    pub const TPT: usize = 0xD4 / 4;
    /// How many.
    pub const COUNT: usize = 64;
}

/// A field of a descriptor ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingField {
    BaseLow,
    BaseHigh,
    Length,
    Head,
    Tail,
}

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Receive,
    Transmit,
}

/// A register by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Ctrl,
    Status,
    Eecd,
    Eerd,
    Mdic,
    Icr,
    Itr,
    Ics,
    Ims,
    Imc,
    Rctl,
    Tctl,
    Ring(Side, RingField),
    /// Keeps what is written, by index, and does nothing.
    Plain(usize),
    Statistic(usize),
    Multicast(usize),
    /// Receive address, low and high halves in turn.
    Address(usize),
    Vlan(usize),
    None,
}

/// Registers that only keep what is written: flow control, timers that are not needed, LEDs,
/// wake-up. The first is VET.
pub(super) const PLAIN: [u32; 25] = [
    0x0038, 0x0018, 0x001C, 0x0028, 0x002C, 0x0030, 0x0170, 0x0178, 0x0410, 0x0458, 0x0E00, 0x1000,
    0x2160, 0x2168, 0x2820, 0x2828, 0x282C, 0x3000, 0x3820, 0x3828, 0x382C, 0x3830, 0x5000, 0x5800,
    0x5808,
];

impl Register {
    /// The register at `offset`, of which the lowest two bits are ignored.
    pub fn at(offset: u32) -> Register {
        let offset = offset & !3;
        let nth = |start: u32| ((offset - start) / 4) as usize;
        match offset {
            // 4 is CTRL again (SDM "Device Control Register").
            0x0000 | 0x0004 => Register::Ctrl,
            0x0008 => Register::Status,
            0x0010 => Register::Eecd,
            0x0014 => Register::Eerd,
            0x0020 => Register::Mdic,
            0x00C0 => Register::Icr,
            0x00C4 => Register::Itr,
            0x00C8 => Register::Ics,
            0x00D0 => Register::Ims,
            0x00D8 => Register::Imc,
            0x0100 => Register::Rctl,
            0x0400 => Register::Tctl,
            0x2800..0x281C => ring(Side::Receive, offset - 0x2800),
            0x3800..0x381C => ring(Side::Transmit, offset - 0x3800),
            0x4000..0x4100 => Register::Statistic(nth(0x4000)),
            0x5200..0x5400 => Register::Multicast(nth(0x5200)),
            0x5400..0x5480 => Register::Address(nth(0x5400)),
            0x5600..0x5800 => Register::Vlan(nth(0x5600)),
            _ => match PLAIN.iter().position(|plain| *plain == offset) {
                Some(index) => Register::Plain(index),
                None => Register::None,
            },
        }
    }
}

fn ring(side: Side, offset: u32) -> Register {
    let field = match offset {
        0x00 => RingField::BaseLow,
        0x04 => RingField::BaseHigh,
        0x08 => RingField::Length,
        0x10 => RingField::Head,
        0x18 => RingField::Tail,
        _ => return Register::None,
    };
    Register::Ring(side, field)
}
