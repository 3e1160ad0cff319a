//! What the tests of several chips share.

/// Marsaglia's xorshift64: small, seeded, the same on every host.
pub struct Rng(u64);

impl Rng {
    /// A generator; any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        (self.next() >> 24) as u8
    }

    /// True once in `n` on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Guest memory of a card's tests, from address 0.
pub struct TestMemory(pub core::cell::RefCell<std::vec::Vec<u8>>);

impl TestMemory {
    /// So many zeros.
    pub fn new(bytes: usize) -> Self {
        Self(core::cell::RefCell::new(std::vec![0; bytes]))
    }

    /// Bytes from `at` on.
    pub fn bytes(&self, at: u64, len: usize) -> std::vec::Vec<u8> {
        self.0.borrow()[at as usize..at as usize + len].to_vec()
    }
}

impl crate::net::Memory for TestMemory {
    fn read(&self, at: u64, to: &mut [u8]) -> bool {
        let bytes = self.0.borrow();
        let Some(end) = at.checked_add(to.len() as u64) else { return false };
        if end > bytes.len() as u64 {
            return false;
        }
        to.copy_from_slice(&bytes[at as usize..end as usize]);
        true
    }

    fn write(&self, at: u64, from: &[u8]) -> bool {
        let mut bytes = self.0.borrow_mut();
        let Some(end) = at.checked_add(from.len() as u64) else { return false };
        if end > bytes.len() as u64 {
            return false;
        }
        bytes[at as usize..end as usize].copy_from_slice(from);
        true
    }
}
