//! Frames that wait for a port: a ring of bytes of fixed size, each frame behind its length.

use alloc::boxed::Box;
use alloc::vec;

/// Bytes of a frame's length in the ring.
const LENGTH: usize = 4;

/// The ring. It allocates when it is made, and never again.
#[derive(Debug)]
pub struct FrameQueue {
    bytes: Box<[u8]>,
    /// Where the first frame is.
    start: usize,
    /// Bytes in use.
    used: usize,
    frames: usize,
}

impl FrameQueue {
    /// A ring of so many bytes, at least 64.
    #[must_use]
    pub fn new(bytes: usize) -> FrameQueue {
        FrameQueue {
            bytes: vec![0; bytes.max(64)].into_boxed_slice(),
            start: 0,
            used: 0,
            frames: 0,
        }
    }

    /// How many frames wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Adds a frame; false where there is no room for it.
    pub fn push(&mut self, frame: &[u8]) -> bool {
        let Ok(length) = u32::try_from(frame.len()) else { return false };
        if frame.len().saturating_add(LENGTH) > self.bytes.len() - self.used {
            return false;
        }
        self.put(&length.to_le_bytes());
        self.put(frame);
        self.frames += 1;
        true
    }

    fn put(&mut self, data: &[u8]) {
        let at = (self.start + self.used) % self.bytes.len();
        let first = data.len().min(self.bytes.len() - at);
        self.bytes[at..at + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
        self.used += data.len();
    }

    fn get(&self, skip: usize, to: &mut [u8]) {
        let at = (self.start + skip) % self.bytes.len();
        let first = to.len().min(self.bytes.len() - at);
        let (head, tail) = to.split_at_mut(first);
        head.copy_from_slice(&self.bytes[at..at + first]);
        tail.copy_from_slice(&self.bytes[..tail.len()]);
    }

    fn front_len(&self) -> usize {
        let mut length = [0; LENGTH];
        self.get(0, &mut length);
        u32::from_le_bytes(length) as usize
    }

    /// Copies the first frame to `to` and leaves it there: its bytes, cut to what `to` holds. `None` where none waits.
    pub fn front<'a>(&self, to: &'a mut [u8]) -> Option<&'a [u8]> {
        if self.is_empty() {
            return None;
        }
        let len = self.front_len().min(to.len());
        let to = &mut to[..len];
        self.get(LENGTH, to);
        Some(to)
    }

    /// Takes the first frame away.
    pub fn pop(&mut self) {
        if self.is_empty() {
            return;
        }
        let len = self.front_len() + LENGTH;
        self.start = (self.start + len) % self.bytes.len();
        self.used -= len;
        self.frames -= 1;
    }

    /// Takes all frames away.
    pub fn clear(&mut self) {
        (self.start, self.used, self.frames) = (0, 0, 0);
    }
}
