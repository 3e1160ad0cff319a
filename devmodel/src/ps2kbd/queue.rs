//! A small byte queue for PS/2 devices.

/// Up to `N` bytes, `N` at most 128.
#[derive(Clone, Debug)]
pub(crate) struct Queue<const N: usize> {
    bytes: [u8; N],
    head: u8,
    len: u8,
}

/// Equal by contents: where in the ring they lie does not matter.
impl<const N: usize> PartialEq for Queue<N> {
    fn eq(&self, other: &Self) -> bool {
        self.contents() == other.contents()
    }
}

impl<const N: usize> Eq for Queue<N> {}

impl<const N: usize> Queue<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N > 0 && N <= 128) };
        Self { bytes: [0; N], head: 0, len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn room(&self) -> usize {
        N - usize::from(self.len)
    }

    /// Appends a byte; a full queue drops it.
    pub(crate) fn push(&mut self, byte: u8) {
        if self.room() > 0 {
            self.bytes[(usize::from(self.head) + usize::from(self.len)) % N] = byte;
            self.len += 1;
        }
    }

    pub(crate) fn front(&self) -> Option<u8> {
        (self.len > 0).then(|| self.bytes[usize::from(self.head) % N])
    }

    pub(crate) fn pop(&mut self) -> Option<u8> {
        let byte = self.front()?;
        self.head = ((usize::from(self.head) + 1) % N) as u8;
        self.len -= 1;
        Some(byte)
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The bytes oldest first, and how many.
    pub(crate) fn contents(&self) -> ([u8; N], u8) {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate().take(usize::from(self.len)) {
            *byte = self.bytes[(usize::from(self.head) + index) % N];
        }
        (bytes, self.len)
    }

    pub(crate) fn from_contents((bytes, len): ([u8; N], u8)) -> Option<Self> {
        (usize::from(len) <= N).then_some(Self { bytes, head: 0, len })
    }
}
