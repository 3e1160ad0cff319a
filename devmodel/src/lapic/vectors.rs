//! A set of interrupt vectors that always knows its highest member: the IRR and the ISR.

/// Vectors 16 to 255. The highest is kept beside the set, so asking for it costs one load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vectors {
    words: [u64; 4],
    /// The highest member, or 0 when the set is empty.
    top: u8,
}

impl Vectors {
    /// The set with these bits. Vectors below 16 must be absent.
    pub fn from_words(words: [u64; 4]) -> Self {
        Self { words, top: highest(&words) }
    }

    pub const fn words(&self) -> [u64; 4] {
        self.words
    }

    /// The highest member, 0 when there is none.
    #[inline]
    pub const fn top(&self) -> u8 {
        self.top
    }

    #[inline]
    pub fn insert(&mut self, vector: u8) {
        set_bit(&mut self.words, vector, true);
        self.top = self.top.max(vector);
    }

    #[inline]
    pub fn contains(&self, vector: u8) -> bool {
        get_bit(&self.words, vector)
    }

    /// Removes the highest member; nothing happens when there is none.
    #[inline]
    pub fn remove_top(&mut self) {
        set_bit(&mut self.words, self.top, false);
        self.top = highest(&self.words);
    }

    /// Removes a vector, if it is there.
    pub fn remove(&mut self, vector: u8) {
        set_bit(&mut self.words, vector, false);
        self.top = highest(&self.words);
    }

    /// Adds the vectors of `bits`, which are without those below 16.
    pub fn merge(&mut self, bits: &[u64; 4]) {
        for (word, bits) in self.words.iter_mut().zip(bits) {
            *word |= bits;
        }
        self.top = highest(&self.words);
    }
}

/// The highest bit set, 0 when there is none. Written out, since every EOI comes through here.
#[inline]
fn highest(words: &[u64; 4]) -> u8 {
    let (base, word) = if words[3] != 0 {
        (0xC0, words[3])
    } else if words[2] != 0 {
        (0x80, words[2])
    } else if words[1] != 0 {
        (0x40, words[1])
    } else {
        // Vectors 0 to 15 are never members, so that bit 0 can stand for none.
        (0, words[0] | 1)
    };
    base | (63 - word.leading_zeros() as u8)
}

#[inline]
pub(super) fn set_bit(words: &mut [u64; 4], vector: u8, value: bool) {
    let bit = 1 << (vector & 63);
    let word = &mut words[usize::from(vector >> 6)];
    *word = if value { *word | bit } else { *word & !bit };
}

#[inline]
pub(super) fn get_bit(words: &[u64; 4], vector: u8) -> bool {
    words[usize::from(vector >> 6)] >> (vector & 63) & 1 != 0
}
