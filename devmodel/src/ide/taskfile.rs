//! One device's command block: the registers, their previous contents, status, error, INTRQ.
//!
//! ATA/ATAPI-7 "Register delivered command": count and LBA registers are two deep, and HOB in the
//! device control register chooses which byte is read.

/// Status: busy.
pub const BSY: u8 = 0x80;
/// Status: ready.
pub const DRDY: u8 = 0x40;
/// Status: write fault.
pub const DF: u8 = 0x20;
/// Status: seek complete.
pub const DSC: u8 = 0x10;
/// Status: data request.
pub const DRQ: u8 = 0x08;
/// Status: error, or CHECK CONDITION of a packet device.
pub const ERR: u8 = 0x01;
/// Status of a device with nothing to do.
pub const READY: u8 = DRDY | DSC;

/// Error: command aborted.
pub const ABRT: u8 = 0x04;
/// Error: address not found.
pub const IDNF: u8 = 0x10;
/// Error: uncorrectable data.
pub const UNC: u8 = 0x40;

/// A register that is two bytes deep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    pub current: u8,
    pub previous: u8,
}

impl Pair {
    pub fn push(&mut self, value: u8) {
        *self = Pair { current: value, previous: self.current };
    }

    pub fn get(self, hob: bool) -> u8 {
        if hob { self.previous } else { self.current }
    }
}

/// The registers of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taskfile {
    // Guest-visible
    pub features: Pair,
    pub count: Pair,
    pub low: Pair,
    pub mid: Pair,
    pub high: Pair,
    pub device: u8,
    pub status: u8,
    pub error: u8,
    pub intrq: bool,
}

impl Taskfile {
    pub const fn new() -> Taskfile {
        const ZERO: Pair = Pair { current: 0, previous: 0 };
        Taskfile {
            features: ZERO,
            count: ZERO,
            low: ZERO,
            mid: ZERO,
            high: ZERO,
            device: 0xA0,
            status: 0,
            error: 0,
            intrq: false,
        }
    }

    /// The signature after a reset: "Signature and persistence".
    pub fn sign(&mut self, packet: bool) {
        let (mid, high) = if packet { (0x14, 0xEB) } else { (0, 0) };
        self.count = Pair { current: 1, previous: 0 };
        self.low = Pair { current: 1, previous: 0 };
        self.mid = Pair { current: mid, previous: 0 };
        self.high = Pair { current: high, previous: 0 };
    }

    pub fn lba48(&self) -> u64 {
        u64::from_le_bytes([
            self.low.current,
            self.mid.current,
            self.high.current,
            self.low.previous,
            self.mid.previous,
            self.high.previous,
            0,
            0,
        ])
    }

    pub fn lba28(&self) -> u64 {
        u32::from_le_bytes([
            self.low.current,
            self.mid.current,
            self.high.current,
            self.device & 0x0F,
        ])
        .into()
    }

    /// Whether the device register asks for LBA addressing.
    pub fn is_lba(&self) -> bool {
        self.device & 0x40 != 0
    }

    pub fn set_lba48(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        self.low = Pair { current: b[0], previous: b[3] };
        self.mid = Pair { current: b[1], previous: b[4] };
        self.high = Pair { current: b[2], previous: b[5] };
    }

    pub fn set_lba28(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        (self.low.current, self.mid.current, self.high.current) = (b[0], b[1], b[2]);
        self.device = (self.device & 0xF0) | (b[3] & 0x0F);
    }

    /// A packet device's byte count and interrupt reason.
    pub fn set_packet(&mut self, reason: u8, bytes: u16) {
        self.count.current = reason;
        [self.mid.current, self.high.current] = bytes.to_le_bytes();
    }

    pub fn packet_limit(&self) -> u16 {
        u16::from_le_bytes([self.mid.current, self.high.current])
    }

    /// The registers in saved order.
    pub fn to_bytes(self) -> [u8; 14] {
        let Taskfile {
            features: f,
            count: c,
            low: l,
            mid: m,
            high: h,
            device,
            status,
            error,
            intrq,
        } = self;
        [
            f.current,
            f.previous,
            c.current,
            c.previous,
            l.current,
            l.previous,
            m.current,
            m.previous,
            h.current,
            h.previous,
            device,
            status,
            error,
            intrq.into(),
        ]
    }

    /// The inverse of [`Taskfile::to_bytes`]; `None` for what no device holds.
    pub fn from_bytes(bytes: [u8; 14]) -> Option<Taskfile> {
        let [f0, f1, c0, c1, l0, l1, m0, m1, h0, h1, device, status, error, intrq] = bytes;
        let pair = |current, previous| Pair { current, previous };
        (intrq <= 1 && device & 0xA0 == 0xA0).then(|| Taskfile {
            features: pair(f0, f1),
            count: pair(c0, c1),
            low: pair(l0, l1),
            mid: pair(m0, m1),
            high: pair(h0, h1),
            device,
            status,
            error,
            intrq: intrq != 0,
        })
    }
}
