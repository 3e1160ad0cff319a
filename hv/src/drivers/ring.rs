//! A byte queue of fixed size, for use under a lock.

/// A first-in first-out queue of `N` bytes.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    start: usize,
    len: usize,
}

impl<const N: usize> Ring<N> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Ring<N> {
        Ring { bytes: [0; N], start: 0, len: 0 }
    }

    /// Adds a byte; false when full.
    pub fn push(&mut self, byte: u8) -> bool {
        if self.len == N {
            return false;
        }
        self.bytes[(self.start + self.len) % N] = byte;
        self.len += 1;
        true
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        if self.len == 0 {
            return None;
        }
        let byte = self.bytes[self.start];
        self.start = (self.start + 1) % N;
        self.len -= 1;
        Some(byte)
    }

    /// The oldest byte, left where it is.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        if self.len == 0 { None } else { Some(self.bytes[self.start]) }
    }

    /// True when nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_a_full_queue_refuses() {
        let mut ring = Ring::<3>::new();
        assert!(ring.push(1) && ring.push(2) && ring.push(3) && !ring.push(4));
        assert_eq!(ring.pop(), Some(1));
        assert!(ring.push(5));
        assert_eq!(
            [ring.pop(), ring.pop(), ring.pop(), ring.pop()],
            [Some(2), Some(3), Some(5), None]
        );
    }
}
