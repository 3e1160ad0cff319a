//! The receive FIFO: sixteen bytes, each with its break flag.

#[derive(Clone, Debug)]
pub(super) struct Fifo {
    bytes: [u8; 16],
    /// One bit a slot of `bytes`.
    breaks: u16,
    head: u8,
    len: u8,
    /// What RBR shows when the FIFO is empty: the last byte read.
    last: u8,
}

/// Equal as the guest can see it: where in the ring the bytes lie does not matter.
impl PartialEq for Fifo {
    fn eq(&self, other: &Self) -> bool {
        self.contents() == other.contents()
    }
}

impl Eq for Fifo {}

impl Fifo {
    pub(super) const DEPTH: u8 = 16;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; 16], breaks: 0, head: 0, len: 0, last: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> u8 {
        self.len
    }

    pub(super) fn has_break(&self) -> bool {
        self.breaks != 0
    }

    /// Appends a byte; does nothing when full.
    pub(super) fn push(&mut self, byte: u8, is_break: bool) {
        if self.len < Self::DEPTH {
            let slot = (self.head + self.len) & 15;
            self.bytes[usize::from(slot)] = byte;
            self.breaks |= u16::from(is_break) << slot;
            self.len += 1;
        }
    }

    /// The oldest byte; when empty, the byte read last once more.
    pub(super) fn pop(&mut self) -> u8 {
        if self.len > 0 {
            self.last = self.bytes[usize::from(self.head & 15)];
            self.breaks &= !(1 << (self.head & 15));
            self.head = (self.head + 1) & 15;
            self.len -= 1;
        }
        self.last
    }

    /// Whether the oldest byte is a break not yet told of; it is told now.
    pub(super) fn take_front_break(&mut self) -> bool {
        let bit = 1 << (self.head & 15);
        let is_break = self.len > 0 && self.breaks & bit != 0;
        self.breaks &= !bit;
        is_break
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.breaks = 0;
    }

    /// Bytes oldest first, their number, and their break flags. An empty FIFO gives its last byte
    /// in front.
    pub(super) fn contents(&self) -> ([u8; 16], u8, u16) {
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate().take(usize::from(self.len)) {
            *byte = self.bytes[(usize::from(self.head) + index) & 15];
        }
        if self.len == 0 {
            bytes[0] = self.last;
        }
        (bytes, self.len, self.breaks.rotate_right(u32::from(self.head)))
    }

    pub(super) fn from_contents(bytes: [u8; 16], len: u8, breaks: u16) -> Option<Self> {
        let possible = len <= Self::DEPTH && u32::from(breaks) >> len == 0;
        possible.then_some(Self { bytes, breaks, head: 0, len, last: bytes[0] })
    }
}
