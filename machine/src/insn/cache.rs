//! Decoded instructions by address, mode and bytes.
//!
//! An entry counts only while the bytes at RIP are the ones that were decoded, so code that changes
//! is decoded anew.

use super::Insn;

/// Entries; a power of two.
const SIZE: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    rip: u64,
    bits: u8,
    bytes: u128,
    mask: u128,
    insn: Insn,
}

/// A direct-mapped cache of decoded instructions, one per vCPU.
pub struct InsnCache {
    entries: [Option<Entry>; SIZE],
}

impl Default for InsnCache {
    fn default() -> Self {
        InsnCache { entries: [None; SIZE] }
    }
}

fn slot(rip: u64) -> usize {
    (rip ^ rip >> 6) as usize & (SIZE - 1)
}

impl InsnCache {
    /// The decoded instruction at `rip`, if it was decoded from these `bytes` (its first 16, little endian)
    /// in this mode.
    #[must_use]
    #[inline]
    pub fn get(&self, rip: u64, bits: u32, bytes: u128) -> Option<&Insn> {
        let entry = self.entries[slot(rip)].as_ref()?;
        let same = entry.rip == rip
            && u32::from(entry.bits) == bits
            && (entry.bytes ^ bytes) & entry.mask == 0;
        same.then_some(&entry.insn)
    }

    /// Keeps a decoded instruction.
    pub fn put(&mut self, rip: u64, bits: u32, bytes: u128, insn: Insn) {
        let len = u32::from(insn.len.min(15));
        let mask = (1 << (len * 8)) - 1;
        self.entries[slot(rip)] = Some(Entry { rip, bits: bits as u8, bytes, mask, insn });
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    #[test]
    fn changed_bytes_or_mode_miss_and_bytes_after_the_instruction_do_not_matter() {
        let mut cache = InsnCache::default();
        let insn = decode(&[0x0f, 0xa2], 0x100, 64).unwrap();
        cache.put(0x100, 64, 0x9090_a20f, insn);
        assert!(cache.get(0x100, 64, 0xcccc_a20f).is_some());
        assert!(cache.get(0x100, 64, 0x9090_a30f).is_none());
        assert!(cache.get(0x100, 32, 0x9090_a20f).is_none());
        assert!(cache.get(0x140, 64, 0x9090_a20f).is_none());
    }
}
